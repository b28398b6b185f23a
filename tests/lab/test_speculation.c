/* The formulas of speculative decoding, against values worked out by hand. */
#include "lab/speculation.h"
#include "tests/support/test.h"

#include <math.h>

static void near(double a, double b) {
	if (!(fabs(a - b) < 1e-6))
		fail_msg("%.9g is not %.9g", a, b);
}

static void tokens_a_round(void **state) {
	(void)state;
	near(rv_spec_tokens_documented(0.7, 4), 3.8); /* the documents' worked example */
	near(rv_spec_tokens_geometric(0.8, 4), 3.3616);
	near(rv_spec_tokens_geometric(0.6, 4), 2.3056);
	near(rv_spec_tokens_geometric(0.8, 8), 4.32891136);
	near(rv_spec_tokens_geometric(0, 4), 1);
	near(rv_spec_tokens_geometric(1, 4), 5);
	/* both agree where nothing or everything is accepted, and only there */
	assert_true(rv_spec_tokens_documented(0.7, 4) > rv_spec_tokens_geometric(0.7, 4) + 0.5);
}

static void speed(void **state) {
	(void)state;
	near(rv_spec_speedup(rv_spec_tokens_geometric(0.6, 3), 3, 0.1, 1), 2.176 / 1.3);
	near(rv_spec_speedup(rv_spec_tokens_geometric(0.8, 6), 6, 0.1, 1), 3.951424 / 1.6);
	near(rv_spec_speedup(1, 0, 0, 1), 1);
}

static void break_even(void **state) {
	(void)state;
	static const double costs[][3] = {
	        {4, 0.26, 1.4}, {1, 0.5, 1}, {8, 0.05, 2}, {4, 0, 1.0001}, {2.5, 0.2, 1.2}};
	for (size_t i = 0; i < sizeof costs / sizeof *costs; i++) {
		double k = costs[i][0], c = costs[i][1], v = costs[i][2];
		double alpha = rv_spec_break_even(k, c, v);
		near(rv_spec_speedup(rv_spec_tokens_geometric(alpha, k), k, c, v), 1);
		assert_true(rv_spec_speedup(rv_spec_tokens_geometric(alpha + 0.01, k), k, c, v) > 1);
	}
	near(rv_spec_break_even(1, 0.5, 1), 0.5); /* 1 + alpha = 1.5 */
	near(rv_spec_break_even(4, 0, 1), 0);
	assert_true(isnan(rv_spec_break_even(4, 1, 1.5))); /* a draft as slow as the target */
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(tokens_a_round),
	        cmocka_unit_test(speed),
	        cmocka_unit_test(break_even),
	};
	return cmocka_run_group_tests_name("speculation", tests, NULL, NULL);
}
