#include "learn/truncate.h"

#include "base/mem.h"
#include "base/rng.h"
#include "engine/context.h"
#include "learn/low_rank.h"

#include <math.h>
#include <string.h>

enum { OVERSAMPLE = 12, ITERATIONS_MAX = 40 };
#define ENERGY_STEP 1e-6 /* of all: an iteration that brings less was the last */

typedef struct problem {
	const rv_kernels *kernels;
	const float *x;
	float *xt;    /* [cols, rows] */
	float *q, *y; /* [rows, k]: orthonormal columns; [cols, k]: x^T q */
	double *left, *right, *u, *v, *s, *work;
	int64_t rows, cols, k;
} problem;

static void widen(double *to, const float *from, int64_t n) {
	for (int64_t i = 0; i < n; i++)
		to[i] = (double)from[i];
}

/* Columns of m [n, k] to orthonormal ones of the same space. */
static void orthonormalise(problem *p, float *m, int64_t n) {
	widen(p->left, m, n * p->k);
	rv_qr(p->left, n, p->k, p->u, p->right, p->work);
	for (int64_t i = 0; i < n * p->k; i++)
		m[i] = (float)p->u[i];
}

static double energy(const float *x, int64_t n) {
	double sum = 0;
	for (int64_t i = 0; i < n; i++)
		sum += (double)x[i] * (double)x[i];
	return sum;
}

/* q: the space of the largest singular vectors. */
static void find_space(problem *p, uint64_t seed) {
	const int64_t n = p->k * p->cols;
	const double total = energy(p->x, p->rows * p->cols);
	rv_rng rng;
	double before = 0;
	rv_rng_seed(&rng, seed);
	for (int64_t i = 0; i < n; i++)
		p->y[i] = (float)rv_rng_normal(&rng);
	for (int i = 0; i < ITERATIONS_MAX; i++) {
		orthonormalise(p, p->y, p->cols);
		p->kernels->gemm(p->q, p->k, p->x, p->cols, p->y, p->k, p->rows, p->k, p->cols);
		orthonormalise(p, p->q, p->rows);
		p->kernels->gemm(p->y, p->k, p->xt, p->rows, p->q, p->k, p->cols, p->k, p->rows);
		const double now = energy(p->y, n);
		if (now - before < ENERGY_STEP * total)
			return;
		before = now;
	}
}

static double distance(const problem *p, const float *b, const float *a, int64_t rank, float *row) {
	double sum = 0;
	for (int64_t i = 0; i < p->rows; i++) {
		p->kernels->gemm(row, p->cols, b + i * rank, rank, a, p->cols, 1, p->cols, rank);
		for (int64_t j = 0; j < p->cols; j++) {
			const double d = (double)p->x[i * p->cols + j] - (double)row[j];
			sum += d * d;
		}
	}
	return sqrt(sum);
}

static rv_status alloc(problem *p) {
	const int64_t most = p->rows > p->cols ? p->rows : p->cols;
	RV_TRY(RV_ALLOC(&p->xt, p->rows * p->cols, "transpose"));
	RV_TRY(RV_ALLOC(&p->q, p->rows * p->k, "subspace"));
	RV_TRY(RV_ALLOC(&p->y, p->cols * p->k, "subspace"));
	RV_TRY(RV_ALLOC(&p->left, most * p->k, "subspace"));
	RV_TRY(RV_ALLOC(&p->right, most * p->k, "subspace"));
	RV_TRY(RV_ALLOC(&p->u, most * p->k, "subspace"));
	RV_TRY(RV_ALLOC(&p->v, most * p->k, "subspace"));
	RV_TRY(RV_ALLOC(&p->s, p->k, "subspace"));
	return RV_ALLOC(&p->work, 3 * p->k + most, "subspace");
}

static rv_status solve(problem *p, int64_t rank, uint64_t seed, float *b, float *a, double *error) {
	RV_TRY(alloc(p));
	for (int64_t i = 0; i < p->rows; i++)
		for (int64_t j = 0; j < p->cols; j++)
			p->xt[j * p->rows + i] = p->x[i * p->cols + j];
	find_space(p, seed);
	widen(p->left, p->q, p->rows * p->k);
	widen(p->right, p->y, p->cols * p->k);
	RV_TRY(rv_low_rank_svd(p->left, p->right, p->rows, p->cols, p->k, p->u, p->s, p->v));
	for (int64_t r = 0; r < rank; r++) {
		const double root = sqrt(p->s[r]);
		for (int64_t i = 0; i < p->rows; i++)
			b[i * rank + r] = (float)(root * p->u[i * p->k + r]);
		for (int64_t j = 0; j < p->cols; j++)
			a[r * p->cols + j] = (float)(root * p->v[j * p->k + r]);
	}
	*error = distance(p, b, a, rank, p->xt);
	return RV_OK;
}

/* x = x I or I x. */
static void take_all(const float *x, int64_t rows, int64_t cols, int64_t rank, float *b, float *a) {
	memset(b, 0, (size_t)(rows * rank) * sizeof *b);
	memset(a, 0, (size_t)(rank * cols) * sizeof *a);
	for (int64_t i = 0; i < rows; i++)
		for (int64_t j = 0; j < cols; j++)
			*(rows < cols ? &a[i * cols + j] : &b[i * rank + j]) = x[i * cols + j];
	for (int64_t i = 0; i < (rows < cols ? rows : cols); i++)
		*(rows < cols ? &b[i * rank + i] : &a[i * cols + i]) = 1;
}

rv_status rv_truncate(const float *x, int64_t rows, int64_t cols, int64_t rank, uint64_t seed, float *b,
                      float *a, double *error) {
	const int64_t least = rows < cols ? rows : cols;
	rv_level level;
	*error = 0;
	if (rank >= least) {
		take_all(x, rows, cols, rank, b, a);
		return RV_OK;
	}
	RV_TRY(rv_level_default(&level));
	problem p = {.kernels = rv_kernels_for(level),
	             .x = x,
	             .rows = rows,
	             .cols = cols,
	             .k = rank + OVERSAMPLE < least ? rank + OVERSAMPLE : least};
	rv_status st = solve(&p, rank, seed, b, a, error);
	void *all[] = {p.xt, p.q, p.y, p.left, p.right, p.u, p.v, p.s, p.work};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		rv_free(all[i]);
	return st;
}
