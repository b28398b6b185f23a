/* Perplexity of a text, alone or beside a base model's, as llama-perplexity defines them.
 *
 * The text is cut into chunks of n_ctx tokens that do not overlap; what is left over is not used. The
 * first token of a chunk is replaced by BOS, for the base too, when the model's vocabulary adds it.
 * With first = n_ctx / 2, the tokens at first + 1 .. n_ctx - 1 of a chunk are scored, each given all
 * before it in the chunk. Everything is computed in double from the models' logits as they are: nothing
 * is clipped. */
#ifndef RV_EVAL_PERPLEXITY_H
#define RV_EVAL_PERPLEXITY_H

#include "base/status.h"
#include "engine/context.h"
#include "eval/uncertainty.h"

#include <stddef.h>
#include <stdint.h>

/* Percentiles of KL divergences and of differences of probabilities: X(percent, label, key) */
#define RV_PERPLEXITY_POINTS(X)                                                                        \
	X(100, "Maximum", "max")                                                                       \
	X(99.9, "99.9%", "p99.9")                                                                      \
	X(99, "99.0%", "p99")                                                                          \
	X(95, "95.0%", "p95")                                                                          \
	X(90, "90.0%", "p90")                                                                          \
	X(75, "75.0%", "p75")                                                                          \
	X(50, "Median", "median")                                                                      \
	X(25, "25.0%", "p25")                                                                          \
	X(10, "10.0%", "p10")                                                                          \
	X(5, "5.0%", "p5")                                                                             \
	X(1, "1.0%", "p1")                                                                             \
	X(0.1, "0.1%", "p0.1")                                                                         \
	X(0, "Minimum", "min")
#define RV_PERPLEXITY_POINT_ONE(percent, label, key) +1
enum { RV_PERPLEXITY_N_POINTS = 0 RV_PERPLEXITY_POINTS(RV_PERPLEXITY_POINT_ONE) };

/* Values of a position and their percentiles, in the order of the table. */
typedef struct rv_spread {
	rv_estimate mean;
	double at[RV_PERPLEXITY_N_POINTS]; /* NaN in results of a part of the text */
} rv_spread;

/* "se" is a standard error over positions, first order where a mean is transformed. */
typedef struct rv_perplexity {
	int64_t n;            /* positions */
	int64_t n_impossible; /* of them: tokens of probability 0; then perplexity is infinite */
	rv_estimate nll;      /* nats: mean -log p(token) */
	rv_estimate ppl;      /* exp of it */

	/* The rest only with a base. */
	int64_t n_base_impossible;
	rv_estimate base_nll, base_ppl;
	double correlation;    /* of the two models' -log p */
	rv_estimate log_ratio; /* log(ppl / base_ppl) */
	rv_estimate ratio, difference;
	rv_spread kl;         /* nats: sum p_base log(p_base / p) */
	rv_spread delta;      /* p(token) - p_base(token) */
	rv_estimate rms;      /* square root of the mean squared delta */
	rv_estimate same_top; /* share of positions with one most probable token (lowest id on ties) */
} rv_perplexity;

/* ---- statistics of rows of logits ---- */

typedef struct rv_perplexity_sums rv_perplexity_sums;
rv_status rv_perplexity_sums_create(rv_perplexity_sums **out, int64_t max_positions);
void rv_perplexity_sums_destroy(rv_perplexity_sums *sums); /* accepts NULL */
/* One position: logits [n_vocab] of the model and of the base (NULL: none; the same for all positions),
 * and the token that follows. RV_ERR_NUMERIC when a row has NaN, +infinity, or nothing finite;
 * RV_ERR_LIMIT beyond max_positions. -infinity is a probability of 0. */
rv_status rv_perplexity_add(rv_perplexity_sums *sums, const float *logits, const float *base,
                            int64_t n_vocab, int32_t next);
/* So far, without percentiles. */
rv_perplexity rv_perplexity_running(const rv_perplexity_sums *sums);
/* With percentiles (at least one position; reorders the kept values, not the results). */
rv_perplexity rv_perplexity_final(rv_perplexity_sums *sums);

/* ---- models ---- */

/* The tokens of a text as they are scored: BOS by the vocabulary's policy, no end token, text of
 * special tokens as ordinary text. RV_ERR_NOT_FOUND when the model has no tokenizer. *ids is rv_free'd
 * by the caller. */
rv_status rv_perplexity_tokenize(const rv_model *model, const char *text, size_t len, int32_t **ids,
                                 size_t *n);
/* RV_ERR_MISMATCH when the models differ in vocabulary size or in an entry, naming the first;
 * RV_ERR_NOT_FOUND when one has no tokenizer. */
rv_status rv_perplexity_comparable(const rv_model *model, const rv_model *base);

/* RV_ERR_INVALID with the counts when n tokens are fewer than 2 n_ctx, or n_ctx < 3. */
rv_status rv_perplexity_check_length(size_t n, int64_t n_ctx);

/* Perplexity by how many tokens of the chunk stand before the scored one: [0, 64), [64, 128),
 * [128, 256), ..., the last up to the end of the chunk. */
#define RV_PERPLEXITY_MAX_BUCKETS 32
typedef struct rv_perplexity_bucket {
	int64_t from, to;
	rv_moments moments; /* of -log p, nats; .n positions */
	rv_estimate ppl;    /* of these positions */
} rv_perplexity_bucket;
typedef struct rv_perplexity_positions {
	int n;
	rv_perplexity_bucket buckets[RV_PERPLEXITY_MAX_BUCKETS];
} rv_perplexity_positions;

typedef struct rv_perplexity_options {
	int64_t max_chunks; /* 0: all */
	/* Filled when not NULL; then all tokens of a chunk but its first are scored, not only those of
	 * its second half. */
	rv_perplexity_positions *positions;
	/* After each chunk; i counts from 1. May be NULL. */
	void (*progress)(void *user, int64_t i, int64_t n_chunks, const rv_perplexity *so_far);
	void *user;
} rv_perplexity_options;

/* Scores the text in sequence 0 of `ctx` and `base` (their contents are lost; base NULL: none; they
 * must be two contexts of one n_ctx >= 3, models as rv_perplexity_comparable wants). RV_ERR_INVALID
 * with the counts when there are fewer than 2 n_ctx tokens. Memory: 16 bytes a position with a base. */
rv_status rv_perplexity_measure(rv_context *ctx, rv_context *base, const int32_t *tokens, size_t n,
                                const rv_perplexity_options *options, rv_perplexity *out);

#endif
