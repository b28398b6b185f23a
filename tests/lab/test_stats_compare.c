/* Comparison of two series: published examples, every arrangement counted one by one, and simulations
 * that a wrong p or a wrong pairing must not pass. */
#include "base/rng.h"
#include "lab/stats.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* cmocka compares floats only in single precision. */
static void assert_near(double a, double b, double epsilon) {
	if (!(fabs(a - b) <= epsilon))
		fail_msg("%.17g is not %.17g", a, b);
}

/* ---- paired ratios ---- */

static void known_ratios(void **state) {
	(void)state;
	const double a[] = {3, 8, 10, 9, 20}, b[] = {2, 4, 4, 9, 5};
	rv_summary s;
	assert_int_equal(rv_paired_ratios(a, b, 5, 1, &s), RV_OK);
	assert_int_equal(s.n, 5);
	assert_near(s.median, 2, 1e-15); /* of 1, 1.5, 2, 2.5, 4 */
	assert_near(s.mean, 2.2, 1e-15);
	assert_true(s.lo95 == 1 && s.hi95 == 4);
	assert_int_equal(rv_paired_ratios(NULL, NULL, 0, 1, &s), RV_OK);
	assert_true(s.n == 0 && isnan(s.median));
}

static void refused_ratios(void **state) {
	(void)state;
	const double good[] = {1, 2, 3};
	const double bad[][3] = {{1, 0, 3}, {1, 2, -3}, {NAN, 2, 3}, {1, INFINITY, 3}};
	rv_summary s = {.n = -1};
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(rv_paired_ratios(good, bad[i], 3, 0, &s), RV_ERR_NUMERIC);
		assert_int_equal(rv_paired_ratios(bad[i], good, 3, 0, &s), RV_ERR_NUMERIC);
	}
	assert_int_equal(s.n, -1);
}

/* Two programs, the first 1.1 times as long, on a machine whose speed drifts by a factor of three:
 * width of the interval when b is paired with the a that is `shift` repetitions away. */
static double ratio_width(int shift, int *holds) {
	enum { N = 40 };
	rv_rng rng;
	rv_rng_seed(&rng, 3);
	double a[N], b[N];
	for (int i = 0; i < N; i++) {
		double slow = 2 + sin(0.7 * i);
		a[i] = 1.1 * slow * exp(0.01 * rv_rng_normal(&rng));
		b[(i + shift) % N] = slow * exp(0.01 * rv_rng_normal(&rng));
	}
	rv_summary s;
	assert_int_equal(rv_paired_ratios(a, b, N, 5, &s), RV_OK);
	*holds = s.lo95 <= 1.1 && 1.1 <= s.hi95;
	return s.hi95 - s.lo95;
}

static void pairing_cancels_drift(void **state) {
	(void)state;
	int holds;
	assert_true(ratio_width(0, &holds) < 0.02);
	assert_true(holds);
	assert_true(ratio_width(3, &holds) > 0.2);
}

/* ---- Mann-Whitney ---- */

/* Permeability of chorioamnion at term and at 12 to 26 weeks (Hollander and Wolfe 1973, p. 69): W = 35,
 * one-sided p 0.1272, that is 382 of the 3003 arrangements. */
static void published_without_ties(void **state) {
	(void)state;
	const double x[] = {0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46};
	const double y[] = {1.15, 0.88, 0.90, 0.74, 1.21};
	rv_mann_whitney r;
	assert_int_equal(rv_mann_whitney_test(x, 10, y, 5, &r), RV_OK);
	assert_true(r.exact);
	assert_near(r.u, 35, 0);
	assert_near(r.p, 2 * 382.0 / 3003, 1e-14);
	assert_int_equal(rv_mann_whitney_test(y, 5, x, 10, &r), RV_OK);
	assert_near(r.u, 15, 0);
	assert_near(r.p, 2 * 382.0 / 3003, 1e-14);
}

/* Daily ozone in New York, May and August 1973 (Chambers and others 1983), a set that ships with R: W =
 * 127.5, p = 0.0001208 with ties and continuity correction. */
static void published_with_ties(void **state) {
	(void)state;
	const double may[] = {41, 36, 12, 18, 28, 23, 19, 8, 7,  16, 11, 14,  18,
	                      14, 34, 6,  30, 11, 1,  11, 4, 32, 23, 45, 115, 37};
	const double august[] = {39, 9,  16, 78, 35, 66, 122, 89,  110, 44, 28,  65, 22,
	                         59, 23, 31, 44, 21, 9,  45,  168, 73,  76, 118, 84, 85};
	rv_mann_whitney r;
	assert_int_equal(rv_mann_whitney_test(may, 26, august, 26, &r), RV_OK);
	assert_false(r.exact);
	assert_near(r.u, 127.5, 0);
	assert_near(r.p, 0.0001208, 5e-8);
}

/* U by its definition: no ranks. */
static double direct_u(const double *a, size_t n_a, const double *b, size_t n_b) {
	double u = 0;
	for (size_t i = 0; i < n_a; i++)
		for (size_t j = 0; j < n_b; j++)
			u += a[i] > b[j] ? 1 : a[i] == b[j] ? 0.5 : 0;
	return u;
}

typedef struct permutations {
	double below, above, mean, variance; /* shares of U at most, at least the one seen */
} permutations;

/* Deals the n_a + n_b values out in every possible way. */
static permutations all_permutations(const double *values, size_t n_a, size_t n_b, double seen) {
	permutations p = {0, 0, 0, 0};
	double all = 0, squares = 0;
	for (unsigned mask = 0; mask < 1u << (n_a + n_b); mask++) {
		double a[16], b[16];
		size_t i = 0, j = 0;
		if ((size_t)__builtin_popcount(mask) != n_a)
			continue;
		for (size_t k = 0; k < n_a + n_b; k++)
			*(mask >> k & 1 ? &a[i++] : &b[j++]) = values[k];
		double u = direct_u(a, n_a, b, n_b);
		all++;
		p.below += u <= seen;
		p.above += u >= seen;
		p.mean += u;
		squares += u * u;
	}
	p.below /= all;
	p.above /= all;
	p.mean /= all;
	p.variance = squares / all - p.mean * p.mean;
	return p;
}

/* What the test has to say of `values`, the first n_a of which are one series, by the enumeration. */
static double enumerated_p(const double *values, size_t n_a, size_t n_b, int ties) {
	double u = direct_u(values, n_a, values + n_a, n_b);
	permutations p = all_permutations(values, n_a, n_b, u);
	if (!ties)
		return fmin(1, 2 * fmin(p.below, p.above));
	double distance = fmax(0, fabs(u - p.mean) - 0.5);
	return p.variance > 0 ? erfc(distance / sqrt(2 * p.variance)) : 1;
}

static void as_enumerated(void **state) {
	(void)state;
	rv_rng rng;
	rv_rng_seed(&rng, 11);
	int n_ties = 0;
	for (int t = 0; t < 150; t++) {
		size_t n_a = 1 + (size_t)rv_rng_below(&rng, 5), n_b = 1 + (size_t)rv_rng_below(&rng, 5);
		double x[10];
		int ties = 0;
		for (size_t i = 0; i < n_a + n_b; i++) {
			x[i] = t % 2 ? (double)rv_rng_below(&rng, 6) : rv_rng_normal(&rng);
			for (size_t k = 0; k < i; k++)
				ties |= x[i] == x[k];
		}
		n_ties += ties;
		rv_mann_whitney r;
		assert_int_equal(rv_mann_whitney_test(x, n_a, x + n_a, n_b, &r), RV_OK);
		assert_int_equal(r.exact, !ties);
		assert_near(r.u, direct_u(x, n_a, x + n_a, n_b), 1e-12);
		assert_near(r.p, enumerated_p(x, n_a, n_b, ties), 1e-9);
	}
	assert_true(n_ties > 50 && n_ties < 100);
	/* the comparison must notice a tie that is not corrected for */
	const double tied[] = {1, 1, 1, 1, 2, 1, 2, 2, 2, 2};
	assert_true(fabs(enumerated_p(tied, 5, 5, 1) - erfc(7 / sqrt(2 * 25.0 * 11 / 12))) > 0.01);
}

static void edges(void **state) {
	(void)state;
	rv_mann_whitney r = {.u = -1};
	const double same[] = {3, 3, 3, 3}, bad[] = {1, NAN};
	assert_int_equal(rv_mann_whitney_test(same, 4, same, 0, &r), RV_ERR_INVALID);
	assert_int_equal(rv_mann_whitney_test(bad, 2, same, 4, &r), RV_ERR_NUMERIC);
	assert_near(r.u, -1, 0);
	assert_int_equal(rv_mann_whitney_test(same, 2, same, 4, &r), RV_OK);
	assert_true(r.u == 4 && r.p == 1 && !r.exact);
	/* the longest exact case: completely apart, one arrangement of C(50, 25) on either side */
	double x[52];
	for (int i = 0; i < 52; i++)
		x[i] = i;
	assert_int_equal(rv_mann_whitney_test(x, 25, x + 25, 25, &r), RV_OK);
	assert_true(r.exact && r.u == 0);
	assert_near(r.p * 126410606437752.0, 2, 1e-9);
	assert_int_equal(rv_mann_whitney_test(x, 26, x + 26, 26, &r), RV_OK);
	assert_false(r.exact);
}

/* Share of p below 0.05, the second series `shift` standard deviations up, p multiplied by `factor`. */
static double rejected(size_t n, double shift, double factor) {
	enum { TRIALS = 2000 };
	rv_rng rng;
	rv_rng_seed(&rng, 17);
	int count = 0;
	for (int t = 0; t < TRIALS; t++) {
		double a[40], b[40];
		rv_mann_whitney r;
		for (size_t i = 0; i < n; i++) {
			a[i] = rv_rng_normal(&rng);
			b[i] = rv_rng_normal(&rng) + shift;
		}
		assert_int_equal(rv_mann_whitney_test(a, n, b, n, &r), RV_OK);
		count += r.p * factor < 0.05;
	}
	return (double)count / TRIALS;
}

static int is_level(double share) {
	return share > 0.03 && share < 0.065;
}

static void error_rate(void **state) {
	(void)state;
	assert_true(is_level(rejected(10, 0, 1)));
	assert_true(is_level(rejected(40, 0, 1)));
	assert_true(rejected(10, 2, 1) > 0.9);
	/* a one-sided p given as two-sided, and the reverse */
	assert_false(is_level(rejected(10, 0, 0.5)));
	assert_false(is_level(rejected(40, 0, 2)));
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(known_ratios),
	        cmocka_unit_test(refused_ratios),
	        cmocka_unit_test(pairing_cancels_drift),
	        cmocka_unit_test(published_without_ties),
	        cmocka_unit_test(published_with_ties),
	        cmocka_unit_test(as_enumerated),
	        cmocka_unit_test(edges),
	        cmocka_unit_test(error_rate),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
