/* The best product of two thin matrices for a full one (Eckart and Young 1936), by randomised subspace
 * iteration (Halko, Martinsson and Tropp 2011, arXiv:0909.4061). For products of thin factors there is
 * learn/low_rank.h.
 *
 * Pure; any number of callers. The same call gives the same bits. */
#ifndef RV_LEARN_TRUNCATE_H
#define RV_LEARN_TRUNCATE_H

#include "base/status.h"

#include <stdint.h>

/* x: [rows, cols], finite. b: [rows, rank], a: [rank, cols], with b a the closest of that rank in the
 * Frobenius norm: b = U sqrt(S), a = sqrt(S) V^T, by falling singular values. From rank min(rows, cols)
 * on it is x itself, with zeros where there is more room. *error: Frobenius norm of x - b a, within
 * 0.1 % of the least there is even where the spectrum is flat. */
rv_status rv_truncate(const float *x, int64_t rows, int64_t cols, int64_t rank, uint64_t seed, float *b,
                      float *a, double *error);

#endif
