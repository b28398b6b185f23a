/* Choosing the next token from logits. */
#ifndef RV_ENGINE_SAMPLER_H
#define RV_ENGINE_SAMPLER_H

#include "base/rng.h"
#include "base/status.h"

#include <stdint.h>

typedef struct rv_sampler_options {
	double temperature;    /* 0: greedy; ties go to the lowest id. [0, 1e3] */
	int64_t top_k;         /* 0: off; larger than the vocabulary: all */
	double top_p;          /* (0, 1]; 1: off. At least one token always stays */
	double min_p;          /* [0, 1]; 0: off. Relative to the most probable token */
	double repeat_penalty; /* 1: off; > 0. Divides positive and multiplies negative logits of the
	                        * last `repeat_last` tokens */
	int64_t repeat_last;   /* default 64 */
	uint64_t seed;
} rv_sampler_options;

rv_sampler_options rv_sampler_defaults(void);

typedef struct rv_sampler rv_sampler;

/* Scratch for n_vocab is allocated here; sampling allocates nothing. Options out of bounds:
 * RV_ERR_INVALID naming the option. */
rv_status rv_sampler_create(rv_sampler **out, const rv_sampler_options *options, int64_t n_vocab);
void rv_sampler_destroy(rv_sampler *s); /* accepts NULL */

/* Order of steps: penalty, top-k, top-p, min-p (both on the probabilities at temperature 1 of the
 * remaining tokens), temperature, draw. logits: [n_vocab], unchanged. *logprob (may be NULL):
 * log-probability of the chosen token under the unmodified logits. NaN or no finite logit:
 * RV_ERR_NUMERIC; +inf wins. */
rv_status rv_sampler_next(rv_sampler *s, const float *logits, int32_t *id, double *logprob);
/* Tells the sampler about a token of the context (prompt or chosen), for the repetition penalty. */
void rv_sampler_accept(rv_sampler *s, int32_t id);
void rv_sampler_reset(rv_sampler *s);

/* The distribution rv_sampler_next draws from: p [n_vocab], zero for tokens left out; at temperature 0
 * all of it is at one. Changes nothing; errors as rv_sampler_next. */
rv_status rv_sampler_probabilities(rv_sampler *s, const float *logits, float *p);
const rv_sampler_options *rv_sampler_get_options(const rv_sampler *s);

/* One sampler for many sequences: chooses as rv_sampler_next of a sampler with `options` would that has
 * accepted past[0..n_past) and whose generator stands at *rng, which goes on. The sampler's own
 * options, tokens and generator play no part and stay as they are. Options must have passed the check.
 */
rv_status rv_sampler_next_for(rv_sampler *s, const rv_sampler_options *options, rv_rng *rng,
                              const int32_t *past, int64_t n_past, const float *logits, int32_t *id,
                              double *logprob);
/* RV_ERR_INVALID naming the option that is out of bounds. */
rv_status rv_sampler_check(const rv_sampler_options *options);

/* Index of the largest of n values, lowest index on ties; -1 when one is NaN. */
int64_t rv_argmax(const float *x, int64_t n);
/* log softmax(x)[id], computed in double. */
double rv_logprob(const float *x, int64_t n, int64_t id);

#endif
