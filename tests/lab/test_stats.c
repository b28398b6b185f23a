/* Statistics: known cases, and a coverage simulation that a biased interval must not pass. */
#include "base/rng.h"
#include "lab/stats.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

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

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(known_summary),   cmocka_unit_test(few_samples),
	        cmocka_unit_test(bad_samples),     cmocka_unit_test(order_and_seed),
	        cmocka_unit_test(known_bootstrap), cmocka_unit_test(interval_coverage),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
