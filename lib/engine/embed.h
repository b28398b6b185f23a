/* Embeddings of texts: the mean of a model's last hidden states (after the final norm) over the tokens
 * of a text, as a vector of length 1.
 *
 * Native vectors have the model's n_embd numbers. Vectors of another dimension are a linear map of the
 * mean, made length 1 after it: the map that the model's file brings along for that dimension (keys
 * RV_EMBED_KEY_*; written by contrastive training), or else a fixed random one. The fixed map to more
 * dimensions has orthonormal columns, so all cosines stay as they are; the one to fewer is Gaussian and
 * keeps them up to about 1/sqrt(dim) (Johnson and Lindenstrauss 1984).
 *
 * A text's vector depends on the model, its feature level and the text alone: it has the same bits by
 * itself and in any batch, whatever the threads (the invariance contract of engine/context.h). After
 * creation nothing is allocated, except where a text longer than those before it grows the tokenizer's
 * working memory.
 *
 * One caller at a time.
 */
#ifndef RV_ENGINE_EMBED_H
#define RV_ENGINE_EMBED_H

#include "base/log.h"
#include "base/status.h"
#include "kernels/kernels.h"
#include "model/model.h"

#include <stdint.h>

#define RV_EMBED_DIM 768 /* of what the stores keep */

/* A map that a model's file brings along: [dim, n_embd], rows one after the other, f32. */
#define RV_EMBED_KEY_DIM "ruvltra.embed.dim"
#define RV_EMBED_KEY_MAP "ruvltra.embed.projection"

typedef struct rv_embedder rv_embedder;

typedef struct rv_embedder_options {
	int64_t dim;        /* of the vectors; default RV_EMBED_DIM; 0: native, no map */
	int64_t max_tokens; /* of a text; the rest of a longer one is left out; default 512 */
	int64_t n_batch;    /* tokens evaluated at once; default 512 */
	uint64_t seed;      /* of the fixed map; vectors of different seeds do not compare. Default 0 */
	rv_level level;     /* default: rv_level_default */
	int n_threads;      /* 0: rv_threads_default_count() */
	int pin;            /* default 1 */
	struct rv_threads *threads; /* as in rv_context_options; NULL: its own */
	rv_log log;
} rv_embedder_options;

rv_embedder_options rv_embedder_defaults(void);

/* Retains the model. options: NULL for defaults. RV_ERR_FORMAT or RV_ERR_NUMERIC: keys of a map that do
 * not fit the model. */
rv_status rv_embedder_create(rv_embedder **out, rv_model *model, const rv_embedder_options *options);
void rv_embedder_destroy(rv_embedder *e); /* accepts NULL */

rv_model *rv_embedder_model(const rv_embedder *e);
int64_t rv_embedder_dim(const rv_embedder *e);    /* numbers of a vector */
int64_t rv_embedder_native(const rv_embedder *e); /* the model's n_embd */
/* 1 when the vectors go through the file's own map, 0 when through the fixed one or none. */
int rv_embedder_learned(const rv_embedder *e);
/* Tokens that the last call evaluated. */
int64_t rv_embedder_n_tokens(const rv_embedder *e);

typedef struct rv_embed_input {
	const char *text; /* any bytes; special-token text is ordinary text */
	size_t len;
} rv_embed_input;

/* out: [n, dim]. RV_ERR_MISMATCH: a model without a tokenizer; RV_ERR_INVALID names a text without
 * tokens by its number; RV_ERR_NUMERIC one whose mean is zero or not finite. After a failure `out` may
 * hold some of the vectors. */
rv_status rv_embed_batch(rv_embedder *e, const rv_embed_input *texts, int64_t n, float *out);
rv_status rv_embed_text(rv_embedder *e, const char *text, size_t len, float *out);
/* Of token ids: no tokenizer is needed and nothing is ever allocated. */
rv_status rv_embed_tokens(rv_embedder *e, const int32_t *ids, int64_t n, float *out);

/* The fixed map of a seed: [dim, native], rows `stride` apart. */
rv_status rv_embed_fixed_map(float *map, int64_t dim, int64_t native, int64_t stride, uint64_t seed);

#endif
