/* Statistics: known cases, and a coverage simulation that a biased interval must not pass. */
#include "base/rng.h"
#include "lab/stats.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* cmocka compares floats only in single precision. */
static void assert_near(double a, double b, double epsilon) {
	if (!(fabs(a - b) <= epsilon))
		fail_msg("%.17g is not %.17g", a, b);
}

static void known_summary(void **state) {
	(void)state;
	const double x[] = {9, 2, 4, 4, 5, 4, 7, 5};
	rv_summary s;
	assert_int_equal(rv_summarize(x, 8, 0, &s), RV_OK);
	assert_int_equal(s.n, 8);
	assert_near(s.median, 4.5, 1e-15);
	assert_near(s.mean, 5, 1e-15);
	assert_near(s.sd, sqrt(32.0 / 7), 1e-12);
	assert_true(s.lo95 >= 2 && s.lo95 <= s.median && s.hi95 >= s.median && s.hi95 <= 9);
	const double sorted[] = {1, 2, 3, 4};
	assert_near(rv_quantile(sorted, 4, 0.5), 2.5, 1e-15);
	assert_near(rv_quantile(sorted, 4, 0), 1, 1e-15);
	assert_near(rv_quantile(sorted, 4, 1), 4, 1e-15);
	assert_near(rv_quantile(sorted, 4, 0.25), 1.75, 1e-15);
}

static void few_samples(void **state) {
	(void)state;
	const double x[] = {3, 5, 4};
	rv_summary s;
	assert_int_equal(rv_summarize(NULL, 0, 0, &s), RV_OK);
	assert_true(s.n == 0 && isnan(s.median) && isnan(s.mean) && isnan(s.sd) && isnan(s.lo95));
	assert_int_equal(rv_summarize(x, 1, 0, &s), RV_OK);
	assert_true(s.n == 1 && s.median == 3 && isnan(s.sd) && isnan(s.lo95));
	assert_int_equal(rv_summarize(x, 2, 0, &s), RV_OK);
	assert_true(s.median == 4 && s.sd > 0 && isnan(s.hi95));
	assert_int_equal(rv_summarize(x, 3, 0, &s), RV_OK);
	assert_true(s.lo95 == 3 && s.hi95 == 5);
}

static void bad_samples(void **state) {
	(void)state;
	const double x[] = {1, NAN, 3}, y[] = {1, 2, INFINITY};
	rv_summary s = {.n = -1};
	assert_int_equal(rv_summarize(x, 3, 0, &s), RV_ERR_NUMERIC);
	assert_int_equal(rv_summarize(y, 3, 0, &s), RV_ERR_NUMERIC);
	assert_int_equal(s.n, -1);
}

static void order_and_seed(void **state) {
	(void)state;
	const double x[] = {1, 2, 3, 5, 8, 13, 21}, y[] = {21, 1, 8, 2, 13, 5, 3};
	rv_summary a, b;
	assert_int_equal(rv_summarize(x, 7, 5, &a), RV_OK);
	assert_int_equal(rv_summarize(y, 7, 5, &b), RV_OK);
	assert_memory_equal(&a, &b, sizeof a);
}

/* The bootstrap distribution of the median of 3 values is known: the middle one has 13/27, the others
 * 7/27 each, so the ends of a 40 % interval are the middle, of an 80 % interval the outer values. */
static void known_bootstrap(void **state) {
	(void)state;
	const double x[] = {1, 2, 4};
	double lo, hi;
	assert_int_equal(rv_bootstrap_median(x, 3, 0.4, 20000, 1, &lo, &hi), RV_OK);
	assert_true(lo == 2 && hi == 2);
	assert_int_equal(rv_bootstrap_median(x, 3, 0.8, 20000, 1, &lo, &hi), RV_OK);
	assert_true(lo == 1 && hi == 4);
	assert_int_equal(rv_bootstrap_median(x, 0, 0.8, 100, 1, &lo, &hi), RV_ERR_INVALID);
	assert_int_equal(rv_bootstrap_median(x, 3, 1.0, 100, 1, &lo, &hi), RV_ERR_INVALID);
}

static int ascending(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* Share of 95 % intervals of n skewed samples (median 1) that hold the median, when each interval is
 * shifted by `bias` times its width and its width multiplied by `stretch`. */
static double coverage(size_t n, double bias, double stretch) {
	enum { TRIALS = 800 };
	rv_rng rng;
	rv_rng_seed(&rng, 42);
	int inside = 0;
	for (int t = 0; t < TRIALS; t++) {
		double x[64], lo, hi;
		for (size_t i = 0; i < n; i++)
			x[i] = exp(0.3 * rv_rng_normal(&rng));
		qsort(x, n, sizeof x[0], ascending);
		assert_int_equal(rv_bootstrap_median(x, n, 0.95, 500, (uint64_t)t, &lo, &hi), RV_OK);
		double middle = 0.5 * (lo + hi) + bias * (hi - lo), half = 0.5 * stretch * (hi - lo);
		inside += middle - half <= 1 && 1 <= middle + half;
	}
	return (double)inside / TRIALS;
}

static int is_calibrated(double share) {
	return share >= 0.915 && share <= 0.985;
}

static void interval_coverage(void **state) {
	(void)state;
	assert_true(is_calibrated(coverage(10, 0, 1)));
	assert_true(is_calibrated(coverage(20, 0, 1)));
	/* the check must catch a shifted, a narrow and a far too wide interval */
	assert_false(is_calibrated(coverage(20, 0.25, 1)));
	assert_false(is_calibrated(coverage(20, 0, 0.6)));
	assert_false(is_calibrated(coverage(20, 0, 2)));
}

/* ---- outliers ---- */

/* Uranium measurements of Tietjen and Moore (1972), with one outlier by their test too. */
static const double uranium[] = {199.31, 199.53, 200.19, 200.82, 201.92, 201.95, 202.18, 245.57};

static void known_outlier(void **state) {
	(void)state;
	uint8_t marks[8];
	size_t n = 99;
	assert_int_equal(rv_mark_outliers(uranium, 8, marks, &n), RV_OK);
	assert_int_equal(n, 1);
	for (int i = 0; i < 8; i++)
		assert_int_equal(marks[i], i == 7);
	/* median 201.37, MAD 0.995 worked out by hand: the limit is 3.5 * 1.4826022 * 0.995 = 5.16317
	 * away */
	double x[8];
	for (int below = 0; below < 2; below++) {
		memcpy(x, uranium, sizeof x);
		x[7] = 201.37 + (below ? 5.1630 : 5.1633);
		assert_int_equal(rv_mark_outliers(x, 8, marks, &n), RV_OK);
		assert_int_equal(marks[7], !below);
	}
}

static void outliers_of_equal_values(void **state) {
	(void)state;
	uint8_t marks[20];
	size_t n;
	double x[20];
	for (int i = 0; i < 20; i++)
		x[i] = 7;
	assert_int_equal(rv_mark_outliers(x, 20, marks, &n), RV_OK);
	assert_int_equal(n, 0);
	/* MAD 0; mean deviation 1 / 20: the score of the odd one is 1 / (1.2533 / 20) = 15.96 */
	x[4] = 8;
	assert_int_equal(rv_mark_outliers(x, 20, marks, &n), RV_OK);
	assert_true(n == 1 && marks[4] == 1);
	/* of five values, one of 1.2533 / 5 = 3.99; of four no single one reaches 3.5 */
	x[0] = x[1] = 7, x[2] = x[3] = 7, x[4] = 9;
	assert_int_equal(rv_mark_outliers(x, 5, marks, &n), RV_OK);
	assert_int_equal(n, 1);
	assert_int_equal(rv_mark_outliers(x + 1, 4, marks, &n), RV_OK);
	assert_int_equal(n, 0);
	assert_int_equal(rv_mark_outliers(x + 3, 2, marks, NULL), RV_OK);
	assert_true(marks[0] == 0 && marks[1] == 0);
	x[1] = NAN;
	assert_int_equal(rv_mark_outliers(x, 5, marks, &n), RV_ERR_NUMERIC);
}

/* Of normal samples few are marked; the control shifts one in ten by `shift` standard deviations. */
static double marked_share(double shift) {
	enum { N = 50, TRIALS = 2000 };
	rv_rng rng;
	rv_rng_seed(&rng, 9);
	size_t total = 0, n;
	for (int t = 0; t < TRIALS; t++) {
		double x[N];
		uint8_t marks[N];
		for (int i = 0; i < N; i++)
			x[i] = 100 + rv_rng_normal(&rng) + (i % 10 == 0 ? shift : 0);
		assert_int_equal(rv_mark_outliers(x, N, marks, &n), RV_OK);
		total += n;
	}
	return (double)total / (N * TRIALS);
}

static void outlier_rate(void **state) {
	(void)state;
	/* 3.5 sd: 0.0005 with the true spread, 0.0021 with that of 50 samples (simulated apart) */
	assert_true(marked_share(0) > 0.0015 && marked_share(0) < 0.0027);
	assert_true(marked_share(8) > 0.09 && marked_share(8) < 0.11);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(known_summary),   cmocka_unit_test(few_samples),
	        cmocka_unit_test(bad_samples),     cmocka_unit_test(order_and_seed),
	        cmocka_unit_test(known_bootstrap), cmocka_unit_test(interval_coverage),
	        cmocka_unit_test(known_outlier),   cmocka_unit_test(outliers_of_equal_values),
	        cmocka_unit_test(outlier_rate),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
