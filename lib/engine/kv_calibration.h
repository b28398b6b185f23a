/* What KVQuant and SQuat know of a model in advance: codebooks and the queries' main directions, taken
 * from the keys, values and queries of a text. Deterministic. */
#ifndef RV_ENGINE_KV_CALIBRATION_H
#define RV_ENGINE_KV_CALIBRATION_H

#include "engine/context.h"

typedef struct rv_kv_calibration {
	int64_t n_layers, n_kv_heads, head_dim;
	float *books;    /* [n_layers][RV_KV_BOOKS], as rv_kv_code_block wants them */
	float *feedback; /* [n_layers * n_kv_heads][head_dim][head_dim], likewise */
	/* [n_layers * n_kv_heads][head_dim][head_dim]: second moment of the queries that see the head,
	 * after RoPE: at the positions of the text and as they would be turned up to 4096 further on */
	double *queries;
} rv_kv_calibration;

/* Evaluates the first n (a multiple of 64) tokens in a context of its own. RV_ERR_INVALID: n is 0 or no
 * multiple; RV_ERR_UNSUPPORTED: heads of no multiple of 8 elements. */
rv_status rv_kv_calibrate(rv_kv_calibration **out, rv_model *model, const int32_t *tokens, int64_t n);
/* The same from n tokens that the model itself produces at temperature 1 under the seed. */
rv_status rv_kv_calibrate_self(rv_kv_calibration **out, rv_model *model, int64_t n, uint64_t seed);
void rv_kv_calibration_destroy(rv_kv_calibration *c); /* accepts NULL */

#endif
