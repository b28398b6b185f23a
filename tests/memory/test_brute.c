/* Exact search: three ways, one answer; recall on cases whose answer is known. */
#include "memory/brute.h"

#include "base/mem.h"
#include "base/rng.h"
#include "tests/support/test.h"

#include <math.h>
#include <string.h>

enum { N = 700, DIM = 37, QUERIES = 70, K = 10 };

static float rows[N * DIM], queries[QUERIES * DIM];

static int make(void **state) {
	(void)state;
	rv_rng rng;
	rv_rng_seed(&rng, 5);
	for (int i = 0; i < N * DIM; i++)
		rows[i] = (float)rv_rng_normal(&rng);
	for (int i = 0; i < QUERIES * DIM; i++)
		queries[i] = (float)rv_rng_normal(&rng);
	for (int d = 0; d < DIM; d++) /* two equal rows, each nearest to query 0 */
		rows[500 * DIM + d] = rows[20 * DIM + d] = queries[d];
	return 0;
}

/* In double, by definition. */
static double plain(rv_metric metric, const float *x, const float *y) {
	double xy = 0, xx = 0, yy = 0;
	for (int d = 0; d < DIM; d++) {
		xy += (double)x[d] * y[d];
		xx += (double)x[d] * x[d];
		yy += (double)y[d] * y[d];
	}
	return metric == RV_METRIC_COSINE  ? 1 - xy / sqrt(xx * yy)
	       : metric == RV_METRIC_INNER ? -xy
	                                   : xx + yy - 2 * xy;
}

static void check_query(rv_metric metric, int q, const int32_t *found, const float *distances) {
	double edge = -INFINITY;
	int seen[N] = {0};
	for (int i = 0; i < K; i++) {
		assert_in_range(found[i], 0, N - 1);
		assert_false(seen[found[i]]++);
		const double d = plain(metric, queries + q * DIM, rows + found[i] * DIM);
		assert_true(fabs(d - (double)distances[i]) < 1e-4);
		assert_true((double)distances[i] >= edge);
		edge = (double)distances[i];
	}
	for (int row = 0; row < N; row++)
		if (!seen[row])
			assert_true(plain(metric, queries + q * DIM, rows + row * DIM) > edge - 1e-4);
}

static void all_ways(void **state) {
	(void)state;
	static int32_t found[QUERIES * K];
	static float distances[QUERIES * K];
	rv_threads *threads;
	const rv_threads_options two = {.n_threads = 2};
	assert_ok(rv_threads_create(&threads, &two));
	for (rv_brute_kind kind = 0; kind < RV_BRUTE_COUNT; kind++)
		for (rv_metric metric = 0; metric < RV_METRIC_COUNT; metric++)
			for (int n_threads = 1; n_threads <= 2; n_threads++) {
				rv_brute *b;
				assert_ok(rv_brute_create(&b, kind, metric, rows, N, DIM));
				assert_ok(rv_brute_search(b, queries, QUERIES, K, found, distances,
				                          n_threads == 1 ? NULL : threads));
				for (int q = 0; q < QUERIES; q++)
					check_query(metric, q, found + q * K, distances + q * K);
				if (metric != RV_METRIC_INNER) {
					assert_int_equal(found[0], 20);
					assert_int_equal(found[1], 500);
				}
				rv_brute_destroy(b);
			}
	rv_threads_destroy(threads);
}

static void few_rows(void **state) {
	(void)state;
	for (rv_brute_kind kind = 0; kind < RV_BRUTE_COUNT; kind++) {
		int32_t found[5];
		float distances[5];
		rv_brute *b;
		assert_ok(rv_brute_create(&b, kind, RV_METRIC_L2, rows, 3, DIM));
		assert_ok(rv_brute_search(b, queries, 1, 5, found, distances, NULL));
		for (int i = 0; i < 5; i++) {
			assert_int_equal(found[i] < 0, i >= 3);
			assert_int_equal(isinf(distances[i]) != 0, i >= 3);
		}
		assert_int_equal(rv_brute_search(b, queries, 1, 0, found, NULL, NULL), RV_ERR_INVALID);
		rv_brute_destroy(b);
	}
}

static void refused(void **state) {
	(void)state;
	float bad[3][2] = {{1, 2}, {0, 0}, {3, 4}}, query[2] = {NAN, 1};
	int32_t found[1];
	rv_brute *b;
	assert_int_equal(rv_brute_create(&b, RV_BRUTE_SIMD, RV_METRIC_COSINE, bad[0], 3, 2),
	                 RV_ERR_NUMERIC);
	assert_non_null(strstr(rv_error_message(), "row 1"));
	bad[2][1] = INFINITY;
	assert_int_equal(rv_brute_create(&b, RV_BRUTE_SIMD, RV_METRIC_L2, bad[0], 3, 2),
	                 RV_ERR_NUMERIC);
	assert_non_null(strstr(rv_error_message(), "row 2"));
	assert_int_equal(rv_brute_create(&b, RV_BRUTE_SIMD, RV_METRIC_L2, bad[0], 0, 2),
	                 RV_ERR_INVALID);
	for (rv_brute_kind kind = 0; kind < RV_BRUTE_COUNT; kind++) {
		assert_ok(rv_brute_create(&b, kind, RV_METRIC_L2, bad[0], 2, 2));
		assert_int_equal(rv_brute_search(b, query, 1, 1, found, NULL, NULL), RV_ERR_NUMERIC);
		assert_non_null(strstr(rv_error_message(), "query 0"));
		rv_brute_destroy(b);
	}
}

/* On a line: row i is at i, the query at 0. Rows 3 and 4 are equally near. */
static void recall(void **state) {
	(void)state;
	const float line[7] = {1, 2, 3, 4, 4, 4.0005f, 9}, query[1] = {0}, truth[4] = {1, 4, 9, 16};
	static const struct {
		int32_t found[4];
		double epsilon, expected;
	} cases[] = {
	        {{0, 1, 2, 3}, RV_RECALL_EPSILON, 1},
	        {{3, 2, 1, 0}, RV_RECALL_EPSILON, 1},    /* in any order */
	        {{0, 1, 2, 4}, 0, 1},                    /* a tie counts */
	        {{0, 1, 2, 5}, RV_RECALL_EPSILON, 1},    /* nearly */
	        {{0, 1, 2, 5}, 0, 0.75},                 /* but not without epsilon */
	        {{0, 1, 2, 6}, RV_RECALL_EPSILON, 0.75}, /* a wrong one */
	        {{0, 1, 2, -1}, RV_RECALL_EPSILON, 0.75},
	        {{0, 0, 0, 0}, RV_RECALL_EPSILON, 0.25}, /* one of them */
	        {{6, 6, -1, -1}, RV_RECALL_EPSILON, 0},
	};
	rv_brute *b;
	double mean, share;
	assert_ok(rv_brute_create(&b, RV_BRUTE_SIMD, RV_METRIC_L2, line, 7, 1));
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_ok(rv_brute_recall(b, query, 1, 4, cases[i].found, 4, truth, 4, cases[i].epsilon,
		                          &mean, &share));
		if (mean != cases[i].expected || share != mean)
			fail_msg("case %zu: %g, expected %g", i, mean, cases[i].expected);
	}
	const int32_t none[1] = {7};
	assert_int_equal(rv_brute_recall(b, query, 1, 1, none, 1, truth, 4, 0, &mean, NULL),
	                 RV_ERR_INVALID);
	assert_int_equal(rv_brute_recall(b, query, 1, 5, none, 5, truth, 4, 0, &mean, NULL),
	                 RV_ERR_INVALID);
	rv_brute_destroy(b);
}

/* Rows drawn blindly: recall must be what chance gives. */
static void recall_of_chance(void **state) {
	(void)state;
	static int32_t found[QUERIES * K], blind[QUERIES * K];
	static float truth[QUERIES * K];
	rv_brute *b;
	rv_rng rng;
	double mean;
	rv_rng_seed(&rng, 9);
	for (int i = 0; i < QUERIES * K; i++)
		blind[i] = (int32_t)rv_rng_below(&rng, N);
	assert_ok(rv_brute_create(&b, RV_BRUTE_SIMD, RV_METRIC_COSINE, rows, N, DIM));
	assert_ok(rv_brute_search(b, queries, QUERIES, K, found, truth, NULL));
	assert_ok(rv_brute_recall(b, queries, QUERIES, K, found, K, truth, K, 0, &mean, NULL));
	assert_true(mean == 1);
	assert_ok(rv_brute_recall(b, queries, QUERIES, K, blind, K, truth, K, RV_RECALL_EPSILON, &mean,
	                          NULL));
	assert_true(mean < 0.06);
	rv_brute_destroy(b);
}

int main(void) {
	const struct CMUnitTest tests[] = {cmocka_unit_test(all_ways), cmocka_unit_test(few_rows),
	                                   cmocka_unit_test(refused), cmocka_unit_test(recall),
	                                   cmocka_unit_test(recall_of_chance)};
	return cmocka_run_group_tests(tests, make, NULL);
}
