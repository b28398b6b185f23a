/* Consolidation against matrices written out in full and their eigenvalues. */
#include "base/mem.h"
#include "base/rng.h"
#include "learn/consolidate.h"
#include "learn/low_rank.h"
#include "model/adapter_write.h"
#include "tests/learn/train_fixture.h"
#include "tests/support/made_adapter.h"

#include <math.h>

enum { WIDEST = 64 * 64 };

static rv_model *model;

static int open_model(void **state) {
	(void)state;
	model = fix_model(0);
	return 0;
}
static int close_model(void **state) {
	(void)state;
	rv_model_release(model);
	return 0;
}

/* to += weight * scale B A of one matrix; its rows and columns. */
static void add_full(double to[WIDEST], const rv_adapter *ad, rv_role role, int64_t layer,
                     double weight, int64_t *m, int64_t *n) {
	const rv_adapter_part *p = rv_adapter_find(ad, role, layer);
	if (!p)
		return;
	const float *a = p->a.data, *b = p->b.data;
	*m = p->b.rows;
	*n = p->a.cols;
	for (int64_t i = 0; i < *m; i++)
		for (int64_t j = 0; j < *n; j++)
			for (int64_t k = 0; k < p->a.rows; k++)
				to[i * *n + j] += weight * (double)p->scale *
				                  (double)b[i * p->a.rows + k] * (double)a[k * *n + j];
}

static double norm_of(const double *x, int64_t n) {
	double sum = 0;
	for (int64_t i = 0; i < n; i++)
		sum += x[i] * x[i];
	return sqrt(sum);
}

/* The symmetric g [n, n] becomes diagonal (Jacobi's rotations, 1846): nothing of low_rank.c. */
static void diagonalize(double *g, int64_t n) {
	for (int sweep = 0; sweep < 30; sweep++)
		for (int64_t a = 0; a < n; a++)
			for (int64_t b = a + 1; b < n; b++) {
				const double angle =
				        0.5 * atan2(2 * g[a * n + b], g[b * n + b] - g[a * n + a]);
				const double c = cos(angle), s = sin(angle);
				for (int64_t i = 0; i < n; i++) {
					const double p = g[i * n + a], q = g[i * n + b];
					g[i * n + a] = c * p - s * q;
					g[i * n + b] = s * p + c * q;
				}
				for (int64_t i = 0; i < n; i++) {
					const double p = g[a * n + i], q = g[b * n + i];
					g[a * n + i] = c * p - s * q;
					g[b * n + i] = s * p + c * q;
				}
			}
}

static int descending(const void *a, const void *b) {
	const double x = *(const double *)a, y = *(const double *)b;
	return x < y ? 1 : x > y ? -1 : 0;
}

/* Norm of what is left of x [m, n] without its `rank` largest singular values: the squares are the
 * eigenvalues of x^T x. */
static double best_error(const double *x, int64_t m, int64_t n, int64_t rank) {
	static double g[WIDEST];
	double values[64], sum = 0;
	for (int64_t a = 0; a < n; a++)
		for (int64_t b = 0; b < n; b++) {
			g[a * n + b] = 0;
			for (int64_t i = 0; i < m; i++)
				g[a * n + b] += x[i * n + a] * x[i * n + b];
		}
	diagonalize(g, n);
	for (int64_t i = 0; i < n; i++)
		values[i] = g[i * n + i];
	qsort(values, (size_t)n, sizeof *values, descending);
	for (int64_t i = rank; i < n; i++)
		sum += values[i] > 0 ? values[i] : 0;
	return sqrt(sum);
}

/* Errors over all matrices: of the result, of the best there is; norm of the sums. */
typedef struct judged {
	double error, best, norm;
	int64_t n;
} judged;

static judged judge(const rv_adapter *result, rv_adapter *const *from, const double *weights, int n,
                    int64_t rank) {
	static double sum[WIDEST], got[WIDEST];
	judged j = {0};
	for (int64_t layer = 0; layer < 2; layer++)
		for (int role = 0; role < RV_ROLE_COUNT; role++) {
			int64_t m = 0, cols = 0;
			memset(sum, 0, sizeof sum);
			memset(got, 0, sizeof got);
			for (int i = 0; i < n; i++)
				add_full(sum, from[i], (rv_role)role, layer, weights[i], &m, &cols);
			assert_int_equal(m > 0, rv_adapter_find(result, (rv_role)role, layer) != NULL);
			if (m == 0)
				continue;
			add_full(got, result, (rv_role)role, layer, 1, &m, &cols);
			double best = best_error(sum, m, cols, rank);
			j.norm = hypot(j.norm, norm_of(sum, m * cols));
			j.best = hypot(j.best, best);
			for (int64_t i = 0; i < m * cols; i++)
				got[i] -= sum[i];
			j.error = hypot(j.error, norm_of(got, m * cols));
			j.n++;
		}
	return j;
}

#define QKO (RV_ROLE_BIT(RV_ATTN_Q) | RV_ROLE_BIT(RV_ATTN_K) | RV_ROLE_BIT(RV_ATTN_OUT))

/* Different ranks, roles and layers. */
static void open_three(rv_adapter *three[3]) {
	three[0] = made_adapter(model, "one", QKO | RV_ROLE_BIT(RV_FFN_DOWN), 0, 2, 1);
	three[1] = made_adapter(model, "two", QKO, 0, 3, 2);
	three[2] = made_adapter(model, "three", QKO, 1, 1, 3);
}
static void close_three(rv_adapter *three[3]) {
	for (int i = 0; i < 3; i++)
		rv_adapter_release(three[i]);
}

static void svd(void **state) {
	(void)state;
	const double weights[3] = {1, -0.7, 2.5};
	rv_adapter *three[3], *out, *again;
	open_three(three);
	for (int64_t rank = 1; rank <= 8; rank++) {
		rv_consolidate_report r;
		char sha[65], sha_again[65];
		assert_ok(rv_consolidate(&out, RV_CONSOLIDATE_SVD, model, "base", three, weights, 3,
		                         rank, &r));
		const judged j = judge(out, three, weights, 3, rank);
		assert_int_equal(r.n_matrices, j.n);
		assert_int_equal(j.n, 8);
		assert_int_equal(r.rank, rank < 6 ? rank : 6); /* 2 + 3 + 1 columns are there */
		assert_int_equal(rv_adapter_max_rank(out), r.rank);
		assert_true(fabs(r.norm - j.norm) < 1e-9 * j.norm);
		/* the best there is, and what the report says */
		if (!(fabs(j.error - j.best) < 1e-6 * j.norm &&
		      fabs(r.error - j.error) < 1e-9 * j.norm))
			fail_msg("rank %d: error %g, reported %g, best %g", (int)rank, j.error, r.error,
			         j.best);
		assert_true(r.error <= r.bound && r.bound < j.best * (1 + 1e-9) + 1e-6 * j.norm);
		assert_true(rank < 6 ? j.best > 0.01 * j.norm && r.worst_share > 0.01
		                     : j.error < 2e-7 * j.norm && r.worst_share < 1e-6);
		assert_ok(rv_consolidate(&again, RV_CONSOLIDATE_SVD, model, "base", three, weights, 3,
		                         rank, NULL));
		rv_adapter_sha256(out, sha);
		rv_adapter_sha256(again, sha_again);
		assert_string_equal(sha, sha_again);
		/* control: another weight is another sum */
		const double other[3] = {1, -0.7, -2.5};
		const judged o = judge(out, three, other, 3, rank);
		assert_true(o.error > o.best + 1e-3 * o.norm);
		rv_adapter_release(out);
		rv_adapter_release(again);
	}
	close_three(three);
}

/* A result with one direction dropped, or a number changed, is farther than the best. */
static void worse_is_seen(void **state) {
	(void)state;
	const double weights[3] = {1, 1, 1};
	rv_adapter *three[3], *out, *bad;
	open_three(three);
	assert_ok(rv_consolidate(&out, RV_CONSOLIDATE_SVD, model, "base", three, weights, 3, 3, NULL));
	const judged good = judge(out, three, weights, 3, 3);
	for (int how = 0; how < 2; how++) {
		rv_adapter_matrices m;
		assert_ok(rv_adapter_matrices_init(&m, out, model));
		float *b = (float *)(uintptr_t)m.parts[0].b;
		if (how == 0)
			for (int64_t i = 0; i < 32; i++) /* q is [32, 32] */
				b[i * m.parts[0].rank] = 0;
		else
			b[0] += 0.1f;
		assert_ok(rv_adapter_create(&bad, model, "bad", m.parts, m.n));
		assert_true(judge(bad, three, weights, 3, 3).error > good.best + 1e-5 * good.norm);
		rv_adapter_release(bad);
		rv_adapter_matrices_deinit(&m);
	}
	rv_adapter_release(out);
	close_three(three);
}

/* More columns than the matrix has rows: k is [16, 32]. And sums that cancel. */
static void wide_and_zero(void **state) {
	(void)state;
	const uint32_t k = RV_ROLE_BIT(RV_ATTN_K);
	const double ones[2] = {1, 1}, cancel[2] = {1, -1};
	rv_consolidate_report r;
	rv_adapter *two[2] = {made_adapter(model, "x", k, 0, 20, 4),
	                      made_adapter(model, "y", k, 0, 20, 5)},
	           *out;
	for (int64_t rank = 10; rank <= 20; rank += 10) {
		assert_ok(rv_consolidate(&out, RV_CONSOLIDATE_SVD, model, "w", two, ones, 2, rank, &r));
		const judged j = judge(out, two, ones, 2, rank < 16 ? rank : 16);
		assert_true(fabs(j.error - j.best) < 1e-6 * j.norm && r.error <= r.bound);
		assert_int_equal(r.rank, rank < 16 ? rank : 16);
		rv_adapter_release(out);
	}
	rv_adapter *same[2] = {two[0], two[0]};
	assert_ok(rv_consolidate(&out, RV_CONSOLIDATE_SVD, model, "z", same, cancel, 2, 8, &r));
	assert_true(r.norm < 1e-12 && r.error < 1e-12);
	rv_adapter_release(out);
	const double nothing[2] = {0, 0}; /* exactly 0: A is kept, B is 0 */
	assert_ok(rv_consolidate(&out, RV_CONSOLIDATE_SVD, model, "z", two, nothing, 2, 8, &r));
	const rv_adapter_part *p = rv_adapter_find(out, RV_ATTN_K, 1),
	                      *q = rv_adapter_find(two[0], RV_ATTN_K, 1);
	assert_true(p->a.rows == 8 && r.norm == 0 && r.error == 0);
	assert_memory_equal(p->a.data, q->a.data, 8 * 32 * sizeof(float));
	for (int64_t i = 0; i < 16 * 8; i++)
		assert_true(((const float *)p->b.data)[i] == 0);
	rv_adapter_release(out);
	rv_adapter_release(two[0]);
	rv_adapter_release(two[1]);
}

static void ema(void **state) {
	(void)state;
	const uint32_t q = RV_ROLE_BIT(RV_ATTN_Q);
	const double weights[2] = {RV_EMA_BASE, RV_EMA_NEW};
	rv_consolidate_report r;
	rv_adapter *two[2] = {made_adapter(model, "base", q, 0, 3, 6),
	                      made_adapter(model, "new", q, 1, 2, 7)},
	           *out;
	assert_ok(rv_consolidate(&out, RV_CONSOLIDATE_EMA, model, "e", two, weights, 2, 8, &r));
	assert_int_equal(r.n_matrices, 2);
	for (int64_t layer = 0; layer < 2; layer++) {
		const rv_adapter_part *p = rv_adapter_find(out, RV_ATTN_Q, layer),
		                      *x = rv_adapter_find(two[0], RV_ATTN_Q, layer),
		                      *y = rv_adapter_find(two[1], RV_ATTN_Q, layer);
		const float *a = p->a.data, *b = p->b.data;
		assert_int_equal(p->a.rows, 3);
		for (int k = 0; k < 3; k++)
			for (int i = 0; i < 32; i++) {
				float wa = 0.99f * ((const float *)x->a.data)[k * 32 + i],
				      wb = 0.99f * ((const float *)x->b.data)[i * 3 + k];
				if (y && k < 2) {
					wa += 0.01f * ((const float *)y->a.data)[k * 32 + i];
					wb += 0.01f * ((const float *)y->b.data)[i * 2 + k];
				}
				assert_true(fabsf(a[k * 32 + i] - wa) < 1e-6f &&
				            fabsf(b[i * 3 + k] - wb) < 1e-6f);
			}
	}
	/* its distance from the sum of products, and that svd is nearer */
	const judged j = judge(out, two, weights, 2, 3);
	assert_true(fabs(r.error - j.error) < 1e-6 * j.norm && r.error == r.bound &&
	            j.error > 2 * j.best + 1e-3 * j.norm);
	rv_adapter_release(out);
	assert_int_equal(rv_consolidate(&out, RV_CONSOLIDATE_EMA, model, "e", two, weights, 2, 2, NULL),
	                 RV_ERR_INVALID);
	assert_null(out);
	rv_adapter_release(two[0]);
	rv_adapter_release(two[1]);
}

static void refused(void **state) {
	(void)state;
	const double good[1] = {1}, bad[1] = {NAN};
	rv_adapter *one[1] = {made_adapter(model, "one", QKO, 0, 2, 1)}, *out;
	const struct {
		int method, n;
		const double *weights;
		int64_t rank;
	} calls[] = {
	        {0, 0, good, 8}, {0, 1, bad, 8}, {0, 1, good, 0}, {0, 1, good, 5000}, {2, 1, good, 8}};
	for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
		assert_int_equal(rv_consolidate(&out, (rv_consolidation)calls[i].method, model, "x",
		                                one, calls[i].weights, calls[i].n, calls[i].rank, NULL),
		                 RV_ERR_INVALID);
		assert_null(out);
	}
	const double huge[1] = {1e308}; /* beyond float */
	assert_int_equal(rv_consolidate(&out, RV_CONSOLIDATE_SVD, model, "x", one, huge, 1, 8, NULL),
	                 RV_ERR_NUMERIC);
	assert_null(out);
	rv_adapter_release(one[0]);
}

/* ---- the numerics underneath ---- */

/* Factors of matrices with dependent and zero columns, tall and wide. */
static void qr(void **state) {
	(void)state;
	static const struct { int64_t m, n; } shapes[] = {{1, 1}, {7, 3}, {5, 5}, {3, 7}, {40, 12}};
	rv_rng rng;
	rv_rng_seed(&rng, 8);
	for (int pass = 0; pass < 3; pass++)
		for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
			const int64_t m = shapes[s].m, n = shapes[s].n, k = m < n ? m : n;
			double x[480], was[480], q[480], r[480], work[64];
			for (int64_t i = 0; i < m * n; i++)
				x[i] = pass == 2 || (pass == 1 && i % n == 1) ? 0 : rv_rng_normal(&rng);
			for (int64_t i = 0; pass == 1 && n > 2 && i < m; i++)
				x[i * n + 2] = 3 * x[i * n];
			memcpy(was, x, sizeof x);
			rv_qr(x, m, n, q, r, work);
			for (int64_t a = 0; a < k; a++)
				for (int64_t b = 0; b < k; b++) {
					double dot = 0;
					for (int64_t i = 0; i < m; i++)
						dot += q[i * k + a] * q[i * k + b];
					assert_true(fabs(dot - (a == b)) < 1e-13);
					assert_true(b >= a || r[a * n + b] == 0);
				}
			for (int64_t i = 0; i < m; i++)
				for (int64_t j = 0; j < n; j++) {
					double sum = 0;
					for (int64_t l = 0; l < k; l++)
						sum += q[i * k + l] * r[l * n + j];
					assert_true(fabs(sum - was[i * n + j]) < 1e-12);
				}
		}
}

/* Singular values from 1 to 1e-12 come back, each to its own precision. */
static void graded(void **state) {
	(void)state;
	enum { M = 30, N = 25, K = 5 };
	double left[M * K], right[N * K], q[M * K], r[K * K], work[64], left2[M * K], right2[N * K];
	double u[M * K], s[K], v[N * K];
	rv_rng rng;
	rv_rng_seed(&rng, 9);
	for (int i = 0; i < M * K; i++)
		left[i] = rv_rng_normal(&rng);
	for (int i = 0; i < N * K; i++)
		right[i] = rv_rng_normal(&rng);
	rv_qr(left, M, K, q, r, work);
	for (int i = 0; i < M * K; i++) /* orthonormal columns times 1, 1e-3, ... */
		left2[i] = q[i] * pow(10, -3 * (i % K));
	rv_qr(right, N, K, q, r, work);
	memcpy(right2, q, sizeof right2);
	assert_ok(rv_low_rank_svd(left2, right2, M, N, K, u, s, v));
	for (int i = 0; i < K; i++)
		assert_true(fabs(s[i] / pow(10, -3 * i) - 1) < 1e-10);
	left2[0] = NAN;
	assert_int_equal(rv_low_rank_svd(left2, right2, M, N, K, u, s, v), RV_ERR_NUMERIC);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(svd),    cmocka_unit_test(worse_is_seen),
	        cmocka_unit_test(ema),    cmocka_unit_test(wide_and_zero),
	        cmocka_unit_test(qr),     cmocka_unit_test(refused),
	        cmocka_unit_test(graded),
	};
	return cmocka_run_group_tests(tests, open_model, close_model);
}
