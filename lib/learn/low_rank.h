/* Matrices given as products of thin factors, M = left right^T with left [m, r] and right [n, r]:
 * singular values and norms without ever forming M. QR of both factors (Householder), then what is
 * asked of the small product of the triangles; all in float64, row-major. O((m + n) r^2 + r^3)
 * operations; r beyond m or n is allowed. Deterministic. Internal to lib/learn. */
#ifndef RV_LEARN_LOW_RANK_H
#define RV_LEARN_LOW_RANK_H

#include "base/status.h"

#include <stdint.h>

/* x [m, n] = q r with k = min(m, n): q [m, k] has orthonormal columns, also where x has dependent ones;
 * r [k, n] is upper triangular. x is overwritten. work: [2 k + n]. */
void rv_qr(double *x, int64_t m, int64_t n, double *q, double *r, double *work);

/* x [m, n], m >= n: = u diag(s) v^T, s descending; u overwrites x, v [n, n]. Columns of u whose s is 0
 * are 0. One-sided Jacobi (Hestenes 1958; Demmel and Veselic 1992: small s are accurate too).
 * RV_ERR_NUMERIC: not finite, or no convergence. */
rv_status rv_svd(double *x, int64_t m, int64_t n, double *s, double *v);

/* Singular value decomposition of left right^T: u [m, k], s [k] descending, v [n, k], with k =
 * rv_low_rank_k(m, n, r). Factors are overwritten. RV_ERR_NO_MEMORY, RV_ERR_NUMERIC. */
static inline int64_t rv_low_rank_k(int64_t m, int64_t n, int64_t r) {
	int64_t k = m < n ? m : n;
	return r < k ? r : k;
}
rv_status rv_low_rank_svd(double *left, double *right, int64_t m, int64_t n, int64_t r, double *u,
                          double *s, double *v);
/* Frobenius norm of left right^T; factors are overwritten. */
rv_status rv_low_rank_norm(double *left, double *right, int64_t m, int64_t n, int64_t r, double *norm);

#endif
