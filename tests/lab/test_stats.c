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

/* Ranks of 8 values: sum of squares 42. Products of neighbours, by hand: 1..8 gives 26.25, so r is
 * (8 * 0.625 + 1) / 5 = 1.2, held at 0.9; the last gives 15.75, so r is 0.8. */
static void known_widening(void **state) {
	(void)state;
	static const struct {
		double x[8], widening;
	} cases[] = {
	        {{1, 2, 3, 4, 5, 6, 7, 8}, 4.358898943540674},
	        {{1, 8, 2, 7, 3, 6, 4, 5}, 1},
	        {{7, 7, 7, 7, 7, 7, 7, 7}, 1},
	        {{4, 1, 2, 3, 8, 5, 7, 6}, 3},
	};
	double w;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		assert_int_equal(rv_dependence_widening(cases[i].x, 8, &w), RV_OK);
		assert_near(w, cases[i].widening, 1e-12);
	}
	assert_int_equal(rv_dependence_widening(cases[0].x, 7, &w), RV_OK);
	assert_near(w, 1, 0);
}

static void order_counts(void **state) {
	(void)state;
	const double up[] = {1, 2, 3, 5, 8, 13, 21, 34}, mixed[] = {21, 1, 8, 2, 13, 5, 34, 3};
	rv_summary a, b, c;
	assert_int_equal(rv_summarize(up, 8, 5, &a), RV_OK);
	assert_int_equal(rv_summarize(mixed, 8, 5, &b), RV_OK);
	assert_int_equal(rv_summarize(mixed, 8, 5, &c), RV_OK);
	assert_memory_equal(&b, &c, sizeof b);
	assert_true(a.median == b.median && a.widening > 4 && b.widening == 1);
	assert_true(a.lo95 > 0 && a.lo95 < b.lo95 && a.hi95 > b.hi95);
	assert_near(log(a.hi95 / a.median), a.widening * log(b.hi95 / b.median), 1e-12);
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

/* A series of n samples with median 1: each resembles the one before by `phi` (AR(1)), and the machine
 * changes speed every 4 samples by `jump` times their spread. */
static void draw_series(double *x, size_t n, double phi, double jump, rv_rng *rng) {
	double drift = rv_rng_normal(rng), level = 0;
	for (size_t i = 0; i < n; i++) {
		if (i % 4 == 0)
			level = jump * rv_rng_normal(rng);
		x[i] = exp(0.1 * (drift + level));
		drift = phi * drift + sqrt(1 - phi * phi) * rv_rng_normal(rng);
	}
}

typedef struct calibration {
	double coverage;  /* share of 95 % intervals that hold the true median */
	double agreement; /* share of pairs of series whose intervals overlap */
} calibration;

/* Of summaries, each interval shifted by `bias` times its width and multiplied by `stretch`; without
 * dependence: the bare bootstrap. */
static calibration calibrate(size_t n, double phi, double jump, int dependence, double bias,
                             double stretch) {
	enum { TRIALS = 400 };
	rv_rng rng;
	rv_rng_seed(&rng, 42);
	int inside = 0, agree = 0;
	for (int t = 0; t < TRIALS; t++) {
		double lo[2], hi[2];
		for (int k = 0; k < 2; k++) {
			double x[64];
			rv_summary s;
			draw_series(x, n, phi, jump, &rng);
			if (!dependence)
				qsort(x, n, sizeof x[0], ascending);
			if (dependence)
				assert_int_equal(rv_summarize(x, n, (uint64_t)t, &s), RV_OK);
			else
				assert_int_equal(rv_bootstrap_median(x, n, 0.95, 500, (uint64_t)t,
				                                     &s.lo95, &s.hi95),
				                 RV_OK);
			double middle = 0.5 * (s.lo95 + s.hi95) + bias * (s.hi95 - s.lo95);
			double half = 0.5 * stretch * (s.hi95 - s.lo95);
			lo[k] = middle - half, hi[k] = middle + half;
			inside += lo[k] <= 1 && 1 <= hi[k];
		}
		agree += lo[0] <= hi[1] && lo[1] <= hi[0];
	}
	return (calibration){inside / (2.0 * TRIALS), (double)agree / TRIALS};
}

static int is_calibrated(double share) {
	return share >= 0.915 && share <= 0.985;
}

static void interval_coverage(void **state) {
	(void)state;
	assert_true(is_calibrated(calibrate(10, 0, 0, 1, 0, 1).coverage));
	assert_true(is_calibrated(calibrate(20, 0, 0, 1, 0, 1).coverage));
	/* the check must catch a shifted, a narrow and a far too wide interval */
	assert_false(is_calibrated(calibrate(20, 0, 0, 1, 0.25, 1).coverage));
	assert_false(is_calibrated(calibrate(20, 0, 0, 1, 0, 0.6).coverage));
	assert_false(is_calibrated(calibrate(20, 0, 0, 1, 0, 2).coverage));
}

/* Where samples depend on each other two runs must still agree; the bare bootstrap does not. */
static void agreement_under_drift(void **state) {
	(void)state;
	static const struct { double phi, jump; } machines[] = {{0.5, 0}, {0, 1}, {0, 2}, {0, 4}};
	for (size_t i = 0; i < sizeof machines / sizeof machines[0]; i++) {
		double phi = machines[i].phi, jump = machines[i].jump;
		calibration wide = calibrate(20, phi, jump, 1, 0, 1);
		calibration bare = calibrate(20, phi, jump, 0, 0, 1);
		assert_true(wide.agreement >= 0.95 && wide.coverage > 0.85);
		assert_true(bare.agreement < 0.95 && bare.coverage < 0.85);
	}
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
	        cmocka_unit_test(bad_samples),     cmocka_unit_test(order_counts),
	        cmocka_unit_test(known_bootstrap), cmocka_unit_test(interval_coverage),
	        cmocka_unit_test(known_widening),  cmocka_unit_test(agreement_under_drift),
	        cmocka_unit_test(known_outlier),   cmocka_unit_test(outliers_of_equal_values),
	        cmocka_unit_test(outlier_rate),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
