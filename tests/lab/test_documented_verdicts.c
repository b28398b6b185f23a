/* Documented rows beside finished results: which reason a row gives, and what a row of the whole table
 * is compared with. */
#include "lab/results.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { N_POINTS = 3 };

static const rv_experiment_metric metrics[] = {
        {"speed", "op/s", "speed", "operations a second", RV_HIGHER, 0, 0, "speed_pct", "%.1f"},
        {"speed_pct", "%", "of roof", "share of the roof", RV_HIGHER, 0, 0, NULL, "%.1f"},
};
static const rv_experiment exp_toy = {
        .id = "T0", .name = "t", .title = "Toy", .about = "", .metrics = metrics, .n_metrics = 2};
static const rv_point points[N_POINTS] = {{0, {0}, "0000000000000000", "m=4"},
                                          {1, {0}, "1111111111111111", "m=8"},
                                          {2, {0}, "2222222222222222", "m=16"}};

/* The row of the table that a documented row of lo..hi becomes, with the speeds given (NaN: not run).
 */
static json_t *judged(const double speeds[N_POINTS], const char *point, const char *metric, double lo,
                      double hi, const char *why) {
	char text[8][64];
	const char *from[] = {"T0", point, metric, "op/s", "claimed", "M3 Max", "S0", why};
	for (int i = 0; i < 8; i++) {
		assert_true(strlen(from[i]) < sizeof text[i]);
		strcpy(text[i], from[i]);
	}
	rv_documented_row row = {text[0], text[1], text[2], text[3], text[4],
	                         text[5], text[6], text[7], lo,      hi};
	static rv_point_result measured[N_POINTS];
	memset(measured, 0, sizeof measured);
	for (int i = 0; i < N_POINTS; i++) {
		rv_metric_result *m = &measured[i].metrics[0];
		m->n = isnan(speeds[i]) ? 0 : 10;
		m->summary = (rv_summary){(int64_t)m->n, speeds[i],     speeds[i], 0.5,
		                          speeds[i] - 1, speeds[i] + 1, 1};
		measured[i].status = m->n > 0 ? RV_POINT_OK : RV_POINT_NOT_RUN;
		strcpy(measured[i].reason, m->n > 0 ? "" : "budget");
	}
	json_t *runs = json_pack("[{s:f}]", "read_gb_s", 20.0), *table = NULL;
	rv_results r = {.exp = &exp_toy,
	                .points = points,
	                .n_points = N_POINTS,
	                .results = measured,
	                .runs = runs};
	const rv_documented documented = {&row, 1};
	assert_int_equal(rv_results_json(&r, &documented, "datasets/documented/hardware.csv", &table),
	                 RV_OK);
	json_t *out = json_incref(json_array_get(json_object_get(table, "documented"), 0));
	json_decref(table);
	json_decref(runs);
	return out;
}

static void expect(json_t *row, const char *verdict, const char *reason, const char *key) {
	const char *at = json_string_value(json_object_get(row, "point_key"));
	assert_string_equal(json_string_value(json_object_get(row, "verdict")), verdict);
	assert_string_equal(json_string_value(json_object_get(row, "reason")), reason);
	assert_string_equal(at != NULL ? at : "none", key);
}

static double number(json_t *row, const char *name) {
	return json_is_number(json_object_get(row, name))
	               ? json_number_value(json_object_get(row, name))
	               : NAN;
}

static const double all[] = {20, 10, 30}, some[] = {20, NAN, 30};

static void order_of_reasons(void **state) {
	(void)state;
	static const struct {
		const char *point, *metric, *why, *verdict, *reason, *key;
	} cases[] = {
	        {"m=4", "speed", "", "met", "", "0000000000000000"},
	        {"m=4", "speed", "other machine", "not comparable", "other machine",
	         "0000000000000000"},
	        {"m=9", "speed", "", "not run", "point not part of this run", "none"},
	        {"m=9", "speed", "other machine", "not comparable", "other machine", "none"},
	        {"m=4", "watts", "", "not run", "no such metric", "none"},
	        {"m=4", "watts", "Apple only", "not comparable", "Apple only", "none"},
	        {"", "watts", "Apple only", "not comparable", "Apple only", "none"},
	        {"m=8", "speed", "", "not run", "budget", "1111111111111111"},
	        {"m=8", "speed", "other machine", "not comparable", "other machine",
	         "1111111111111111"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		json_t *row = judged(some, cases[i].point, cases[i].metric, 15, 15, cases[i].why);
		expect(row, cases[i].verdict, cases[i].reason, cases[i].key);
		json_decref(row);
	}
}

static void whole_table(void **state) {
	(void)state;
	/* ten is the slowest: 9 to 11 */
	json_t *row = judged(all, "", "speed", 8, 40, "");
	expect(row, "met", "", "1111111111111111");
	assert_true(number(row, "ratio") == 10.0 / 8);
	json_decref(row);
	row = judged(all, "", "speed", 16, 40, "");
	expect(row, "not met", "", "1111111111111111");
	json_decref(row);
	row = judged(some, "", "speed", 16, 40, "");
	expect(row, "not run", "budget", "1111111111111111");
	json_decref(row);
	row = judged(some, "", "speed", 26, 40, "");
	expect(row, "not met", "", "0000000000000000");
	json_decref(row);
}

/* A speed of other hardware, in proportion to the bandwidths, measured or
 * not. */
static void expectation(void **state) {
	(void)state;
	double gb_s = 0;
	assert_int_equal(rv_documented_bandwidth("datasets/documented/hardware.csv", "M3 Max", &gb_s),
	                 RV_OK);
	json_t *row = judged(some, "", "speed", 100, 100, "other machine");
	expect(row, "not comparable", "other machine", "0000000000000000");
	assert_true(fabs(number(row, "expected_here") - 100 * 20 / gb_s) < 1e-9);
	json_decref(row);
	row = judged(some, "m=9", "speed", 100, 100, "other machine");
	assert_true(fabs(number(row, "expected_here") - 100 * 20 / gb_s) < 1e-9);
	json_decref(row);
	row = judged(some, "m=4", "speed", 100, 100, "");
	assert_true(isnan(number(row, "expected_here")));
	json_decref(row);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(order_of_reasons),
	        cmocka_unit_test(whole_table),
	        cmocka_unit_test(expectation),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
