/* Speed of a model in experiments: what is timed, how often, and the roof it is held against. */
#ifndef RV_LAB_SPEED_H
#define RV_LAB_SPEED_H

#include "engine/context.h"
#include "lab/experiment.h"

#include <stdint.h>

typedef rv_status rv_timed_fn(const void *user);

/* Wall-clock of `repeats` runs of work(user) in a row. */
rv_status rv_time_work(rv_timed_fn *work, const void *user, int repeats, double *seconds);
/* How many runs together last at least sample_s. The first run warms caches and is not counted. */
rv_status rv_repeats_for(rv_timed_fn *work, const void *user, double sample_s, int *repeats);

/* ---- work on sequence 0 of a context, from an empty cache ---- */

typedef struct rv_token_run {
	rv_context *ctx;
	const int32_t *tokens; /* [n] */
	int n;
} rv_token_run;

rv_timed_fn rv_decode_run;  /* user: rv_token_run; one token after the other, logits of each */
rv_timed_fn rv_prefill_run; /* all tokens in one call, logits of the last */

/* Uniform ids under the seed. */
void rv_random_tokens(int32_t *tokens, int n, uint64_t seed, int64_t n_vocab);

/* Tokens a second that memory allows rv_decode_run of n tokens: every weight (of an untied embedding
 * one row), every adapter and, on average, half of the cache is read a token. A model that fits in the
 * caches is held against their bandwidth, measured here, not the memory's. */
rv_status rv_decode_bound(const rv_run_config *config, const rv_context *ctx, int n, double *tok_s);

#endif
