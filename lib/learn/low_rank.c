#include "learn/low_rank.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>

/* ---- QR ---- */

/* y[i, j] -= beta v[i] sum_i v[i] y[i, j] for columns [first, n) of the rows that v has: v[i] is
 * at[i * step]. */
static void reflect(double *y, int64_t rows, int64_t n, int64_t first, const double *at, int64_t step,
                    double v0, double beta, double *sums) {
	for (int64_t j = first; j < n; j++)
		sums[j] = 0;
	for (int64_t i = 0; i < rows; i++) {
		const double v = i ? at[i * step] : v0;
		for (int64_t j = first; j < n; j++)
			sums[j] += v * y[i * n + j];
	}
	for (int64_t i = 0; i < rows; i++) {
		const double v = beta * (i ? at[i * step] : v0);
		for (int64_t j = first; j < n; j++)
			y[i * n + j] -= v * sums[j];
	}
}

void rv_qr(double *x, int64_t m, int64_t n, double *q, double *r, double *work) {
	const int64_t k = m < n ? m : n;
	double *v0 = work, *beta = work + k, *sums = work + 2 * k;
	memset(r, 0, (size_t)(k * n) * sizeof *r);
	for (int64_t c = 0; c < k; c++) { /* reflector c: v0[c], then column c of x below row c */
		double *at = x + c * n + c, squares = 0;
		for (int64_t i = 1; i < m - c; i++)
			squares += at[i * n] * at[i * n];
		const double norm = sqrt(squares + at[0] * at[0]), alpha = at[0] > 0 ? -norm : norm;
		v0[c] = at[0] - alpha;
		beta[c] = norm > 0 ? 2 / (squares + v0[c] * v0[c]) : 0;
		reflect(x + c * n, m - c, n, c + 1, at, n, v0[c], beta[c], sums);
		memcpy(r + c * n + c, at, (size_t)(n - c) * sizeof *r);
		r[c * n + c] = alpha;
	}
	memset(q, 0, (size_t)(m * k) * sizeof *q);
	for (int64_t c = k; c-- > 0;) {
		q[c * k + c] = 1;
		reflect(q + c * k, m - c, k, c, x + c * n + c, n, v0[c], beta[c], sums);
	}
}

/* ---- SVD of a small matrix ---- */

/* The rotation that makes columns a and b of x orthogonal, applied to the columns of y. */
static void rotate(double *y, int64_t rows, int64_t n, int64_t a, int64_t b, double c, double s) {
	for (int64_t i = 0; i < rows; i++) {
		const double p = y[i * n + a], q = y[i * n + b];
		y[i * n + a] = c * p - s * q;
		y[i * n + b] = s * p + c * q;
	}
}

/* 1 when columns a and b were not orthogonal yet. */
static int rotate_pair(double *x, int64_t m, int64_t n, double *v, int64_t a, int64_t b) {
	double aa = 0, bb = 0, ab = 0;
	for (int64_t i = 0; i < m; i++) {
		aa += x[i * n + a] * x[i * n + a];
		bb += x[i * n + b] * x[i * n + b];
		ab += x[i * n + a] * x[i * n + b];
	}
	if (ab == 0 || fabs(ab) <= 1e-15 * sqrt(aa) * sqrt(bb))
		return 0;
	const double zeta = (bb - aa) / (2 * ab);
	const double t = (zeta < 0 ? -1 : 1) / (fabs(zeta) + sqrt(1 + zeta * zeta));
	const double c = 1 / sqrt(1 + t * t);
	rotate(x, m, n, a, b, c, c * t);
	rotate(v, n, n, a, b, c, c * t);
	return 1;
}

static void swap_columns(double *y, int64_t rows, int64_t n, int64_t a, int64_t b) {
	for (int64_t i = 0; i < rows; i++) {
		const double t = y[i * n + a];
		y[i * n + a] = y[i * n + b];
		y[i * n + b] = t;
	}
}

/* Orthogonal columns become unit ones, largest first. */
static void sort_columns(double *x, int64_t m, int64_t n, double *s, double *v) {
	for (int64_t j = 0; j < n; j++) {
		double squares = 0;
		for (int64_t i = 0; i < m; i++)
			squares += x[i * n + j] * x[i * n + j];
		s[j] = sqrt(squares);
		for (int64_t i = 0; i < m && s[j] > 0; i++)
			x[i * n + j] /= s[j];
	}
	for (int64_t j = 0; j < n; j++) {
		int64_t best = j;
		for (int64_t l = j + 1; l < n; l++)
			best = s[l] > s[best] ? l : best;
		if (best == j)
			continue;
		swap_columns(s, 1, n, j, best);
		swap_columns(x, m, n, j, best);
		swap_columns(v, n, n, j, best);
	}
}

rv_status rv_svd(double *x, int64_t m, int64_t n, double *s, double *v) {
	double total = 0;
	for (int64_t i = 0; i < m * n; i++)
		total += x[i] * x[i];
	if (!isfinite(total))
		return rv_fail(RV_ERR_NUMERIC, "singular values: the matrix is not finite");
	memset(v, 0, (size_t)(n * n) * sizeof *v);
	for (int64_t j = 0; j < n; j++)
		v[j * n + j] = 1;
	int turned = 1;
	for (int sweep = 0; turned && sweep < 60; sweep++) {
		turned = 0;
		for (int64_t a = 0; a < n; a++)
			for (int64_t b = a + 1; b < n; b++)
				turned |= rotate_pair(x, m, n, v, a, b);
	}
	if (turned)
		return rv_fail(RV_ERR_NUMERIC, "singular values: no convergence in 60 sweeps");
	sort_columns(x, m, n, s, v);
	return RV_OK;
}

/* ---- products of thin factors ---- */

/* c [m, n] = a [m, k] b^T with b [n, k] */
static void product_nt(double *c, const double *a, const double *b, int64_t m, int64_t n, int64_t k) {
	for (int64_t i = 0; i < m; i++)
		for (int64_t j = 0; j < n; j++) {
			double sum = 0;
			for (int64_t l = 0; l < k; l++)
				sum += a[i * k + l] * b[j * k + l];
			c[i * n + j] = sum;
		}
}

/* out [m, n] = first n columns of a [m, k] b with b [k, ld] */
static void product_nn(double *out, const double *a, const double *b, int64_t m, int64_t n, int64_t k,
                       int64_t ld) {
	for (int64_t i = 0; i < m; i++)
		for (int64_t j = 0; j < n; j++) {
			double sum = 0;
			for (int64_t l = 0; l < k; l++)
				sum += a[i * k + l] * b[l * ld + j];
			out[i * n + j] = sum;
		}
}

/* left = q1 r1, right = q2 r2, core = r1 r2^T [k1, k2]. */
typedef struct thin {
	int64_t k1, k2;
	double *q1, *q2, *core;
	double *memory;
} thin;

static int64_t least(int64_t a, int64_t b) {
	return a < b ? a : b;
}

static rv_status reduce(thin *t, double *left, double *right, int64_t m, int64_t n, int64_t r) {
	const int64_t k1 = least(m, r), k2 = least(n, r);
	RV_TRY(RV_ALLOC(&t->memory, m * k1 + n * k2 + k1 * k2 + k1 * r + k2 * r + 3 * r,
	                "thin factors"));
	t->k1 = k1;
	t->k2 = k2;
	t->q1 = t->memory;
	t->q2 = t->q1 + m * k1;
	t->core = t->q2 + n * k2;
	double *r1 = t->core + k1 * k2, *r2 = r1 + k1 * r, *work = r2 + k2 * r;
	rv_qr(left, m, r, t->q1, r1, work);
	rv_qr(right, n, r, t->q2, r2, work);
	product_nt(t->core, r1, r2, k1, k2, r);
	return RV_OK;
}

rv_status rv_low_rank_norm(double *left, double *right, int64_t m, int64_t n, int64_t r, double *norm) {
	thin t;
	double squares = 0;
	RV_TRY(reduce(&t, left, right, m, n, r));
	for (int64_t i = 0; i < t.k1 * t.k2; i++)
		squares += t.core[i] * t.core[i];
	rv_free(t.memory);
	*norm = sqrt(squares);
	return RV_OK;
}

/* core [k1, k2], k1 >= k2, = x diag(s) y^T; u = q1 x, v = q2 y. */
static rv_status expand(double *core, int64_t k1, int64_t k2, const double *q1, const double *q2,
                        int64_t m, int64_t n, double *u, double *s, double *v) {
	double *y;
	RV_TRY(RV_ALLOC(&y, k2 * k2, "singular vectors"));
	const rv_status st = rv_svd(core, k1, k2, s, y);
	if (st == RV_OK) {
		product_nn(u, q1, core, m, k2, k1, k2);
		product_nn(v, q2, y, n, k2, k2, k2);
	}
	rv_free(y);
	return st;
}

rv_status rv_low_rank_svd(double *left, double *right, int64_t m, int64_t n, int64_t r, double *u,
                          double *s, double *v) {
	thin t;
	if (m < n && m < r) /* the taller way round */
		return rv_low_rank_svd(right, left, n, m, r, v, s, u);
	RV_TRY(reduce(&t, left, right, m, n, r));
	const rv_status st = expand(t.core, t.k1, t.k2, t.q1, t.q2, m, n, u, s, v);
	rv_free(t.memory);
	return st;
}
