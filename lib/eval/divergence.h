/* How far a model's predictions are from a base model's, on sequences sampled from the base.
 *
 * The sequences begin with BOS (or a random token where the vocabulary has none) and are drawn from the
 * base at temperature 1 under a seed; end tokens are ordinary. Every position is scored. With both
 * models of the same weights and cache type every divergence is exactly 0. */
#ifndef RV_EVAL_DIVERGENCE_H
#define RV_EVAL_DIVERGENCE_H

#include "base/status.h"
#include "engine/context.h"

#include <stdint.h>

typedef struct rv_divergence_options {
	int n_seqs, n_tokens; /* positions scored: n_seqs * n_tokens */
	uint64_t seed;
	int n_threads;                /* as rv_context_options */
	int (*cancelled)(void *user); /* NULL: never */
	void *user;
} rv_divergence_options;

typedef struct rv_divergence {
	int64_t n;                                /* positions */
	double base_cross_entropy, cross_entropy; /* nats: mean -log p(next sampled token) */
	double kl;       /* nats: mean over positions of sum p_base log(p_base / p), in double */
	double kl_se;    /* standard error of kl, sequences as samples; NaN for one sequence */
	double kl_max;   /* largest of a position */
	double same_top; /* share of positions with the same most probable token (lowest id on ties) */
} rv_divergence;

/* The base's sequences and logits: n_seqs * n_tokens * n_vocab floats. */
typedef struct rv_divergence_base rv_divergence_base;

rv_status rv_divergence_base_create(rv_divergence_base **out, rv_model *base,
                                    const rv_divergence_options *options);
void rv_divergence_base_destroy(rv_divergence_base *base); /* accepts NULL */
/* Sequence s: n_tokens + 1 ids, borrowed. */
const int32_t *rv_divergence_sequence(const rv_divergence_base *base, int s);

/* Evaluates the sequences in sequence 0 of `ctx` (its contents are lost), whose model must have the
 * base's vocabulary size (RV_ERR_MISMATCH) and whose context must hold n_tokens. */
rv_status rv_divergence_measure(const rv_divergence_base *base, rv_context *ctx, rv_divergence *out);

/* sum p log(p / q) of the distributions that two rows of n logits stand for, in double. */
double rv_kl_of_logits(const float *p, const float *q, int64_t n);

#endif
