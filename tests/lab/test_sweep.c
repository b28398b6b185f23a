/* The sweep engine: points, selections, resume, failures, budget. */
#include "base/file.h"
#include "base/sysinfo.h"
#include "tests/lab/toy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static char path[256];

static int make_path(void **state) {
	(void)state;
	const char *tmp = getenv("TMPDIR");
	snprintf(path, sizeof path, "%s/rv_sweep_XXXXXX", tmp != NULL ? tmp : "/tmp");
	int fd = mkstemp(path);
	return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state) {
	(void)state;
	return unlink(path);
}

static int fresh(void **state) {
	(void)state;
	toy = (toy_faults){.fail_setup_of = -1, .fail_run_of = -1};
	return truncate(path, 0);
}

static void points(void **state) {
	(void)state;
	rv_point *p = NULL;
	int n = 0;
	const rv_selection all = {0};
	assert_int_equal(rv_sweep_points(&toy_experiment, RV_PROFILE_QUICK, &all, &p, &n), RV_OK);
	assert_int_equal(n, 6);
	/* BUILD varies slowest, whatever the order of declaration */
	assert_string_equal(p[0].label, "hue=red;m=4");
	assert_string_equal(p[1].label, "hue=green;m=4");
	assert_string_equal(p[3].label, "hue=red;m=8");
	rv_free(p);
	assert_int_equal(rv_sweep_points(&toy_experiment, RV_PROFILE_SMOKE, &all, &p, &n), RV_OK);
	assert_int_equal(n, 2);
	rv_free(p);
	const char *const items[] = {"hue=blue", "m=8", "hue=red"};
	assert_int_equal(
	        rv_sweep_points(&toy_experiment, RV_PROFILE_QUICK, &(rv_selection){items, 3}, &p, &n),
	        RV_OK);
	assert_int_equal(n, 2);
	assert_string_equal(p[0].label, "hue=red;m=8");
	assert_int_equal(p[0].index, 3); /* as without the selection */
	rv_free(p);
}

/* Green exists with m=4 only; blue cannot be measured. */
static int toy_has_point(const rv_experiment *exp, const rv_point *p) {
	return strcmp(rv_point_value(exp, p, 0)->text, "green") != 0 || p->values[1] == 0;
}

static const char *toy_not_run(const rv_experiment *exp, const rv_run_config *config,
                               const rv_point *p) {
	(void)config;
	return strcmp(rv_point_value(exp, p, 0)->text, "blue") == 0 ? "no blue here" : NULL;
}

static void combinations(void **state) {
	(void)state;
	rv_experiment exp = toy_experiment;
	exp.has_point = toy_has_point;
	exp.not_run = toy_not_run;
	rv_point *p = NULL;
	int n = 0;
	const char *const items[] = {"hue=green", "m=8"};
	assert_int_equal(rv_sweep_points(&exp, RV_PROFILE_QUICK, &(rv_selection){items, 2}, &p, &n),
	                 RV_ERR_INVALID);
	assert_non_null(strstr(rv_error_message(), "together"));
	toy_session s;
	assert_int_equal(toy_open(&s, &exp, path, NULL), RV_OK);
	assert_int_equal(s.n_points, 5);
	assert_string_equal(s.points[3].label, "hue=red;m=8");
	assert_int_equal(s.points[3].index, 3);
	assert_int_equal(toy_measure(&s, &exp, rv_now_ns()), RV_OK);
	assert_int_equal(s.status, RV_OK);
	for (int i = 0; i < s.n_points; i++) {
		const rv_point_result *r = &s.results.results[i];
		int blue = strstr(s.points[i].label, "blue") != NULL;
		assert_int_equal(r->n_done, blue ? 0 : 5);
		assert_int_equal(r->status, blue ? RV_POINT_NOT_RUN : RV_POINT_OK);
		assert_string_equal(r->reason, blue ? "no blue here" : "");
	}
	assert_string_equal(rv_results_measured(&s.results, 2, TOY_SPEED).not_run, "no blue here");
	toy_close(&s);
}

static void bad_selections(void **state) {
	(void)state;
	static const struct {
		const char *item, *says;
	} cases[] = {{"hue", "parameters: hue m"},
	             {"tint=red", "parameters: hue m"},
	             {"hue=pink", "red green blue"},
	             {"m=", "one of: 4 8"},
	             {"=", "parameters: hue m"}};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		rv_point *p = NULL;
		int n = 0;
		const rv_selection only = {&cases[i].item, 1};
		assert_int_equal(rv_sweep_points(&toy_experiment, RV_PROFILE_QUICK, &only, &p, &n),
		                 RV_ERR_INVALID);
		assert_null(p);
		if (strstr(rv_error_message(), cases[i].says) == NULL)
			fail_msg("'%s' does not say '%s'", rv_error_message(), cases[i].says);
	}
}

static void keys(void **state) {
	(void)state;
	rv_point *p = NULL;
	int n = 0;
	const rv_selection all = {0};
	assert_int_equal(rv_sweep_points(&toy_experiment, RV_PROFILE_QUICK, &all, &p, &n), RV_OK);
	rv_sweep_keys(&toy_experiment, "one", p, n);
	char first[17];
	memcpy(first, p[0].key, sizeof first);
	assert_int_equal(strlen(first), 16);
	for (int i = 1; i < n; i++)
		assert_string_not_equal(p[i].key, first);
	rv_sweep_keys(&toy_experiment, "two", p, n);
	assert_string_not_equal(p[0].key, first);
	rv_free(p);
}

static void check_complete(const toy_session *s) {
	assert_int_equal(s->status, RV_OK);
	for (int p = 0; p < s->n_points; p++) {
		const rv_point_result *r = &s->results.results[p];
		const rv_metric_result *speed = &r->metrics[TOY_SPEED], *size = &r->metrics[TOY_SIZE];
		assert_true(r->status == RV_POINT_OK && r->n_done == 5 && speed->n == 5 &&
		            size->n == 1);
		for (int i = 0; i < 5; i++) {
			assert_int_equal(speed->samples[i].repetition, i);
			assert_true(speed->samples[i].value == toy_speed(&s->points[p], i));
		}
		assert_true(size->summary.median == 10 + s->points[p].index &&
		            isnan(size->summary.lo95));
		assert_true(speed->summary.n == 5 && speed->summary.lo95 <= speed->summary.median);
		assert_string_equal(r->metrics[TOY_QUALITY].na, "toys have none");
	}
}

static void whole_sweep(void **state) {
	(void)state;
	toy_session s;
	assert_int_equal(toy_open(&s, &toy_experiment, path, NULL), RV_OK);
	assert_int_equal(toy_measure(&s, &toy_experiment, rv_now_ns()), RV_OK);
	check_complete(&s);
	assert_true(toy.n_runs == 30 && toy.n_setups == 2 && toy.n_open == 0);
	toy_close(&s);
}

/* Ended after 1, 2, ... repetitions and resumed: nothing is measured twice, nothing is missing. */
static void resume_anywhere(void **state) {
	(void)state;
	for (int stop = 1; stop < 30; stop++) {
		fresh(NULL);
		toy.cancel_after = stop;
		toy_session s;
		assert_int_equal(toy_open(&s, &toy_experiment, path, NULL), RV_OK);
		assert_int_equal(toy_measure(&s, &toy_experiment, rv_now_ns()), RV_OK);
		assert_int_equal(s.status, RV_ERR_CANCELLED);
		assert_int_equal(toy.n_runs, stop);
		toy_close(&s);
		toy.cancel_after = 0;
		assert_int_equal(toy_open(&s, &toy_experiment, path, NULL), RV_OK);
		assert_int_equal(toy_measure(&s, &toy_experiment, rv_now_ns()), RV_OK);
		check_complete(&s);
		assert_int_equal(toy.n_runs, 30);
		assert_int_equal(json_array_size(s.results.runs), 2);
		assert_int_equal(toy.n_open, 0);
		toy_close(&s);
	}
}

/* A few repetitions now, more later, never more than the experiment wants. */
static void in_parts(void **state) {
	(void)state;
	static const int parts[][2] = {{2, 12}, {2, 12}, {4, 24}, {99, 30}};
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		toy_session s;
		assert_int_equal(toy_open(&s, &toy_experiment, path, NULL), RV_OK);
		s.max_n = parts[i][0];
		assert_int_equal(toy_measure(&s, &toy_experiment, rv_now_ns()), RV_OK);
		assert_int_equal(s.status, RV_OK);
		assert_int_equal(toy.n_runs, parts[i][1]);
		if (parts[i][1] == 30)
			check_complete(&s);
		toy_close(&s);
	}
}

static void selections_share_a_journal(void **state) {
	(void)state;
	const char *const items[] = {"hue=green"};
	toy_session s;
	assert_int_equal(toy_open(&s, &toy_experiment, path, &(rv_selection){items, 1}), RV_OK);
	assert_int_equal(toy_measure(&s, &toy_experiment, rv_now_ns()), RV_OK);
	check_complete(&s);
	assert_int_equal(toy.n_runs, 10);
	toy_close(&s);
	assert_int_equal(toy_open(&s, &toy_experiment, path, NULL), RV_OK);
	assert_int_equal(toy_measure(&s, &toy_experiment, rv_now_ns()), RV_OK);
	check_complete(&s);
	assert_int_equal(toy.n_runs, 30);
	toy_close(&s);
}

static void failing_point(void **state) {
	(void)state;
	toy.fail_run_of = 2;
	toy_session s;
	assert_int_equal(toy_open(&s, &toy_experiment, path, NULL), RV_OK);
	assert_int_equal(toy_measure(&s, &toy_experiment, rv_now_ns()), RV_OK);
	assert_true(s.status == RV_OK && toy.n_runs == 25 && toy.n_open == 0);
	const rv_point_result *r = &s.results.results[2];
	assert_true(r->status == RV_POINT_FAILED && r->n_failures == 1);
	assert_string_equal(r->reason, "toy run failed");
	rv_measured m = rv_results_measured(&s.results, 2, TOY_SPEED);
	assert_string_equal(m.not_run, "toy run failed");
	toy_close(&s);
	/* mended, it is measured by the next run */
	toy.fail_run_of = -1;
	assert_int_equal(toy_open(&s, &toy_experiment, path, NULL), RV_OK);
	assert_int_equal(toy_measure(&s, &toy_experiment, rv_now_ns()), RV_OK);
	check_complete(&s);
	toy_close(&s);
}

static void failing_setup(void **state) {
	(void)state;
	toy.fail_setup_of = 0;
	toy_session s;
	for (int run = 0; run < 5; run++) {
		assert_int_equal(toy_open(&s, &toy_experiment, path, NULL), RV_OK);
		assert_int_equal(toy_measure(&s, &toy_experiment, rv_now_ns()), RV_OK);
		for (int p = 0; p < 3; p++)
			assert_int_equal(s.results.results[p].status, RV_POINT_FAILED);
		for (int p = 3; p < 6; p++)
			assert_int_equal(s.results.results[p].status, RV_POINT_OK);
		toy_close(&s);
		assert_int_equal(toy.n_open, 0); /* what a failed set-up began is torn down */
	}
	assert_int_equal(toy.n_setups, RV_MAX_FAILURES + 1); /* then it is left alone */
}

/* 30 ms a repetition and 0.4 s: the minimum of all six points would take 0.54 s. The last points give
 * way, those measured have the minimum. */
static void budget(void **state) {
	(void)state;
	rv_experiment exp = toy_experiment;
	exp.budget_s[RV_PROFILE_QUICK] = 0.4;
	toy.sleep_us = 30000;
	toy_session s;
	assert_int_equal(toy_open(&s, &exp, path, NULL), RV_OK);
	assert_int_equal(toy_measure(&s, &exp, rv_now_ns()), RV_OK);
	assert_int_equal(s.status, RV_OK);
	int n_ok = 0, n_short = 0;
	for (int p = 0; p < s.n_points; p++) {
		const rv_point_result *r = &s.results.results[p];
		n_ok += r->status == RV_POINT_OK;
		n_short += r->status == RV_POINT_NOT_RUN;
		assert_true((r->status == RV_POINT_OK) == (r->n_done >= 3));
		if (r->status == RV_POINT_NOT_RUN)
			assert_non_null(strstr(r->reason, "budget"));
	}
	assert_true(n_ok >= 1 && n_short >= 1 && n_ok + n_short == 6);
	toy_close(&s);
	/* spent before it began: nothing is set up */
	fresh(NULL);
	assert_int_equal(toy_open(&s, &exp, path, NULL), RV_OK);
	assert_int_equal(toy_measure(&s, &exp, rv_now_ns() - 1000000000), RV_OK);
	assert_true(toy.n_setups == 0 && s.results.results[0].status == RV_POINT_NOT_RUN);
	toy_close(&s);
}

/* By their first repetitions (0.6 s) the three points of a fixture would take 7.2 s more to their
 * minimum of 5, and there are 6 s; by the others it is little. */
static void dear_beginning(void **state) {
	(void)state;
	rv_experiment exp = toy_experiment;
	exp.budget_s[RV_PROFILE_QUICK] = 8;
	exp.min_n = exp.max_n[RV_PROFILE_QUICK] = 5;
	toy.first_us = 600000;
	toy_session s;
	assert_int_equal(toy_open(&s, &exp, path, NULL), RV_OK);
	assert_int_equal(toy_measure(&s, &exp, rv_now_ns()), RV_OK);
	for (int p = 0; p < s.n_points; p++)
		assert_int_equal(s.results.results[p].n_done, 5);
	toy_close(&s);
}

/* Later fixtures get their minimum before earlier ones get more than theirs. */
static void first_come(void **state) {
	(void)state;
	rv_experiment exp = toy_experiment;
	exp.budget_s[RV_PROFILE_QUICK] = 3;
	exp.min_n = 2;
	exp.max_n[RV_PROFILE_QUICK] = 8;
	toy.sleep_us = 150000;
	toy_session s;
	assert_int_equal(toy_open(&s, &exp, path, NULL), RV_OK);
	assert_int_equal(toy_measure(&s, &exp, rv_now_ns()), RV_OK);
	for (int p = 0; p < s.n_points; p++)
		assert_true(s.results.results[p].n_done >= 2);
	toy_close(&s);
}

/* A journal in which a repetition stands twice is refused. */
static void repeated_repetition(void **state) {
	(void)state;
	toy_session s;
	rv_record record;
	char *text = NULL;
	assert_int_equal(toy_open(&s, &toy_experiment, path, NULL), RV_OK);
	rv_record_clear(&record);
	assert_int_equal(rv_results_encode(&toy_experiment, &s.points[0], 0, 0, 0.1, &record, &text),
	                 RV_OK);
	assert_int_equal(rv_results_add(&s.results, text, strlen(text)), RV_OK);
	assert_int_equal(rv_results_add(&s.results, text, strlen(text)), RV_ERR_FORMAT);
	assert_int_equal(rv_results_add(&s.results, "{\"type\":1}", 10), RV_ERR_FORMAT);
	assert_int_equal(rv_results_add(&s.results, "{", 1), RV_ERR_FORMAT);
	rv_free(text);
	toy_close(&s);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(points),
	        cmocka_unit_test_setup(combinations, fresh),
	        cmocka_unit_test(bad_selections),
	        cmocka_unit_test(keys),
	        cmocka_unit_test_setup(whole_sweep, fresh),
	        cmocka_unit_test_setup(resume_anywhere, fresh),
	        cmocka_unit_test_setup(in_parts, fresh),
	        cmocka_unit_test_setup(selections_share_a_journal, fresh),
	        cmocka_unit_test_setup(failing_point, fresh),
	        cmocka_unit_test_setup(failing_setup, fresh),
	        cmocka_unit_test_setup(budget, fresh),
	        cmocka_unit_test_setup(dear_beginning, fresh),
	        cmocka_unit_test_setup(first_come, fresh),
	        cmocka_unit_test_setup(repeated_repetition, fresh),
	};
	return cmocka_run_group_tests(tests, make_path, remove_path);
}
