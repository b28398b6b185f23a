/* Points beside their baseline, and outliers: from records written by hand. */
#include "tests/lab/toy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

typedef struct hand {
	rv_experiment exp;
	rv_point *points;
	int n_points;
	rv_results results;
} hand;

static void open_hand(hand *h, const char *baseline) {
	const rv_selection all = {0};
	h->exp = toy_experiment;
	h->exp.baseline = baseline;
	assert_int_equal(rv_sweep_points(&h->exp, RV_PROFILE_QUICK, &all, &h->points, &h->n_points),
	                 RV_OK);
	rv_sweep_keys(&h->exp, "by hand", h->points, h->n_points);
	assert_int_equal(rv_results_init(&h->results, &h->exp, NULL, h->points, h->n_points), RV_OK);
}

static void close_hand(hand *h) {
	rv_results_free(&h->results);
	rv_free(h->points);
}

static void add(hand *h, int point, int run, int repetition, double speed) {
	rv_record record;
	char *text = NULL;
	rv_record_clear(&record);
	record.values[TOY_SPEED] = speed;
	assert_int_equal(
	        rv_results_encode(&h->exp, &h->points[point], run, repetition, 0.1, &record, &text),
	        RV_OK);
	assert_int_equal(rv_results_add(&h->results, text, strlen(text)), RV_OK);
	rv_free(text);
}

static void points_by_label(void **state) {
	(void)state;
	hand h;
	open_hand(&h, NULL);
	static const struct {
		const char *label;
		int point;
	} cases[] = {{"hue=green;m=8", 4}, {"m=8;hue=green", 4},       {"hue=pink", -1},
	             {"hue=gree;m=8", -1}, {"m=8", RV_SEVERAL_POINTS}, {"hue=red", RV_SEVERAL_POINTS}};
	for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++)
		assert_int_equal(rv_points_find(h.points, h.n_points, cases[c].label), cases[c].point);
	close_hand(&h);
}

static void baselines(void **state) {
	(void)state;
	hand h;
	/* points: red, green, blue at m=4, then at m=8 */
	static const struct {
		const char *baseline;
		int of[6];
	} cases[] = {{NULL, {-1, -1, -1, -1, -1, -1}},       {"hue=red", {-1, 0, 0, -1, 3, 3}},
	             {"m=8", {3, 4, 5, -1, -1, -1}},         {"hue=green;m=4", {1, -1, 1, 1, 1, 1}},
	             {"hue=pink", {-1, -1, -1, -1, -1, -1}}, {"hue=re", {-1, -1, -1, -1, -1, -1}}};
	for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
		open_hand(&h, cases[c].baseline);
		for (int p = 0; p < 6; p++)
			assert_int_equal(rv_results_baseline(&h.results, p), cases[c].of[p]);
		close_hand(&h);
	}
}

/* Both drift by a factor of ten: only pairs show that one is always twice the other. */
static void pairs(void **state) {
	(void)state;
	hand h;
	rv_comparison c;
	open_hand(&h, "hue=red");
	static const double drift[] = {1, 10, 2, 7, 4};
	for (int i = 0; i < 5; i++) {
		add(&h, 0, 0, i, 100 * drift[i]);
		add(&h, 1, 0, i, 200 * drift[i]);
	}
	add(&h, 0, 0, 5, 1);
	add(&h, 1, 1, 5, 900); /* taken by another run: no pair */
	add(&h, 0, 1, 6, 0);   /* no ratio to it */
	add(&h, 1, 1, 6, 900);
	add(&h, 0, 1, 7, 1); /* alone */
	assert_int_equal(rv_results_finish(&h.results, 1, "budget"), RV_OK);
	assert_int_equal(rv_results_compare(&h.results, 1, 0, TOY_SPEED, &c), RV_OK);
	assert_int_equal(c.ratio.n, 5);
	assert_true(c.ratio.median == 2 && c.ratio.lo95 == 2 && c.ratio.hi95 == 2);
	assert_true(c.test.p > 0.05 &&
	            c.test.p < 1); /* apart, but no more than chance would part them */
	/* exact, and never measured */
	assert_int_equal(rv_results_compare(&h.results, 1, 0, TOY_SIZE, &c), RV_OK);
	assert_int_equal(c.ratio.n, 0);
	assert_int_equal(rv_results_compare(&h.results, 4, 3, TOY_SPEED, &c), RV_OK);
	assert_int_equal(c.ratio.n, 0);
	close_hand(&h);
}

static void outliers(void **state) {
	(void)state;
	for (int planted = 0; planted < 2; planted++) {
		hand h;
		open_hand(&h, NULL);
		for (int i = 0; i < 9; i++)
			add(&h, 0, 0, i, 100 + i);
		add(&h, 0, 0, 9, planted ? 200 : 109);
		assert_int_equal(rv_results_finish(&h.results, 1, "budget"), RV_OK);
		const rv_metric_result *m = &h.results.results[0].metrics[TOY_SPEED];
		assert_int_equal(m->n_outliers, planted);
		assert_int_equal(m->summary.n, 10); /* marked, not left out */
		close_hand(&h);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(points_by_label),
	        cmocka_unit_test(baselines),
	        cmocka_unit_test(pairs),
	        cmocka_unit_test(outliers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
