/* Means, standard errors, covariances and percentiles on cases computed by hand. */
#include "eval/uncertainty.h"

#include "tests/support/test.h"

#include <math.h>

/* cmocka compares floats only in single precision. */
static void near(double a, double b, double epsilon) {
	if (!(fabs(a - b) <= epsilon))
		fail_msg("%.17g is not %.17g", a, b);
}

static void near_estimate(rv_estimate e, double value, double se, double epsilon) {
	near(e.value, value, epsilon);
	near(e.se, se, epsilon);
}

static rv_moments moments_of(const double *x, int n) {
	rv_moments m = {0};
	for (int i = 0; i < n; i++)
		rv_moments_add(&m, x[i]);
	return m;
}

static void known_means(void **state) {
	(void)state;
	/* E[x^2] - E[x]^2 = 7 - 49/9 = 14/9, over n - 1 = 2: 7/9 */
	const double x[] = {1, 2, 4};
	rv_moments m = moments_of(x, 3);
	near_estimate(rv_moments_mean(&m), 7.0 / 3, sqrt(7) / 3, 1e-15);
	/* far from zero E[x^2] - E[x]^2 would have lost every digit */
	const double far[] = {1e12 + 1, 1e12 + 2, 1e12 + 4};
	m = moments_of(far, 3);
	near(rv_moments_mean(&m).se, sqrt(7) / 3, 1e-4);
	m = moments_of(x, 1);
	assert_true(rv_moments_mean(&m).value == 1 && isnan(rv_moments_mean(&m).se));
	m = moments_of(x, 0);
	assert_true(isnan(rv_moments_mean(&m).value));
	near_estimate(rv_share(3, 4), 0.75, 0.25, 1e-15);
	near_estimate(rv_share(4, 4), 1, 0, 0);
	assert_true(isnan(rv_share(1, 1).se));
}

static void infinite_means(void **state) {
	(void)state;
	const double up[] = {1, INFINITY, 3}, both[] = {INFINITY, -INFINITY}, nan[] = {1, NAN};
	rv_moments m = moments_of(up, 3);
	assert_true(isinf(rv_moments_mean(&m).value) && isnan(rv_moments_mean(&m).se));
	m = moments_of(both, 2);
	assert_true(isnan(rv_moments_mean(&m).value));
	m = moments_of(nan, 2);
	assert_true(isnan(rv_moments_mean(&m).value));
	rv_co_moments c = {0};
	rv_co_moments_add(&c, 1, 1);
	rv_co_moments_add(&c, INFINITY, 2);
	rv_co_moments_add(&c, 2, 4);
	rv_estimate d = rv_co_moments_difference(&c);
	assert_true(isinf(d.value) && isnan(d.se) && isnan(rv_co_moments_correlation(&c)));
}

static void known_pairs(void **state) {
	(void)state;
	/* E[ab] - E[a] E[b] = 16/3 - 14/3, over 2: 1/3; b's variance of the mean is 1/3 */
	const double a[] = {1, 2, 4}, b[] = {2, 1, 3};
	rv_co_moments m = {0}, same = {0}, opposite = {0};
	for (int i = 0; i < 3; i++) {
		rv_co_moments_add(&m, a[i], b[i]);
		rv_co_moments_add(&same, a[i] / 7, a[i] / 7);
		rv_co_moments_add(&opposite, a[i], -a[i]);
	}
	near(rv_co_moments_covariance(&m), 1.0 / 3, 1e-15);
	near(rv_co_moments_correlation(&m), sqrt(3.0 / 7), 1e-15);
	near_estimate(rv_co_moments_difference(&m), 1.0 / 3, 2.0 / 3, 1e-15);
	assert_true(rv_co_moments_correlation(&same) == 1);
	rv_estimate d = rv_co_moments_difference(&same);
	assert_true(d.value == 0 && d.se == 0);
	near(rv_co_moments_correlation(&opposite), -1, 1e-15);
}

static void known_percentiles(void **state) {
	(void)state;
	const double x[] = {1, 2, 4, 8}, top[] = {1, 2, INFINITY};
	near(rv_percentile(x, 4, 0), 1, 0);
	near(rv_percentile(x, 4, 1), 8, 0);
	near(rv_percentile(x, 4, 0.5), 3, 1e-15);
	near(rv_percentile(x, 4, 0.25), 1.75, 1e-15);
	near(rv_percentile(x, 4, 0.9), 4 * 0.3 + 8 * 0.7, 1e-14);
	near(rv_percentile(x, 1, 0.3), 1, 0);
	assert_true(rv_percentile(top, 3, 0.5) == 2 && isinf(rv_percentile(top, 3, 0.6)));
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(known_means),
	        cmocka_unit_test(infinite_means),
	        cmocka_unit_test(known_pairs),
	        cmocka_unit_test(known_percentiles),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
