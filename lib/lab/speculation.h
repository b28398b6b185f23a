/* Speculative decoding in experiments: what formulas expect of it, and how well a model answers with
 * it.
 *
 * a, alpha: probability that a drafted token is accepted, given those before it were; k: tokens drafted
 * a round; costs in steps of the target: c of one step of the draft, v of verifying k + 1 tokens. */
#ifndef RV_LAB_SPECULATION_H
#define RV_LAB_SPECULATION_H

#include "engine/speculate.h"
#include "lab/experiment.h"
#include "lab/item_stats.h"

/* Tokens a round as the documents have it: 1 + a k. */
double rv_spec_tokens_documented(double a, double k);
/* Leviathan, Kalman, Matias 2023, equation 1: (1 - alpha^(k + 1)) / (1 - alpha). */
double rv_spec_tokens_geometric(double alpha, double k);
/* tokens / (k c + v). */
double rv_spec_speedup(double tokens, double k, double c, double v);
/* The least alpha in [0, 1] at which speculation is no slower than plain decoding; NaN: there is none.
 */
double rv_spec_break_even(double k, double c, double v);

/* Answers to the first n questions of datasets/mini-gsm8k at temperature 0, right (1) or wrong (0), by
 * sequence 0 of a context, through the speculator (NULL: plainly). *values is rv_free'd by the caller.
 */
rv_status rv_spec_answers(const rv_run_config *config, rv_context *ctx, rv_speculator *speculator,
                          int64_t n, double **values, int64_t *n_values);

#endif
