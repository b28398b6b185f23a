/* Distributions given by rows of logits, compared in double. Pure functions; thread-safe. */
#ifndef RV_EVAL_LOGITS_H
#define RV_EVAL_LOGITS_H

#include <stdint.h>

/* log of the sum of exp(x): x[i] minus it is the log-probability of token i. NaN when a value is NaN or
 * +infinity, or none is finite. */
double rv_log_sum_exp(const float *x, int64_t n);

/* sum p log(p / q), the norms being rv_log_sum_exp of the rows. Rounding may leave about -1e-15 where
 * it is 0; of equal rows it is exactly 0. Infinite where q rules out what p does not. */
double rv_kl_given_norms(const float *p, double p_norm, const float *q, double q_norm, int64_t n);

#endif
