/* The record of a training run: what is added survives, a resumed run repeats nothing, another run's
 * journal is refused. */
#include "base/file.h"
#include "base/journal.h"
#include "base/mem.h"
#include "lab/results.h"
#include "lab/train_log.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[256], path[512], journal[600];
static const rv_experiment_metric metrics[] = {
        {"step", "", "step", "", RV_HIGHER, 0, 0, NULL, "%.0f"},
        {"loss", "nats", "loss", "", RV_LOWER, 0, 0, NULL, "%.4f"},
        {"valid", "nats", "held out", "", RV_LOWER, 0, 0, NULL, "%.4f"},
};

static int set_up(void **state) {
	(void)state;
	const char *tmp = getenv("TMPDIR");
	snprintf(folder, sizeof folder, "%s/rv-log-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof path, "%s/run.h5", folder);
	snprintf(journal, sizeof journal, "%s.journal", path);
	return 0;
}

static int tear_down(void **state) {
	(void)state;
	static const char *const ends[] = {"", ".journal", ".journal.old", ".journal.lock"};
	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
		char name[700];
		snprintf(name, sizeof name, "%s%s", path, ends[i]);
		unlink(name);
	}
	return rmdir(folder);
}

static rv_status open_log(rv_train_log **log, const char *identity, int fresh, int n_metrics) {
	static char *words[] = {"train", "--lr", "1"};
	static const rv_run_config config = {.profile = RV_PROFILE_FULL, .n_threads = 1};
	const rv_train_log_options o = {.path = path,
	                                .title = "toy",
	                                .identity = identity,
	                                .metrics = metrics,
	                                .n_metrics = n_metrics,
	                                .fresh = fresh,
	                                .config = &config,
	                                .argc = 3,
	                                .argv = words};
	return rv_train_log_open(log, &o);
}

static void add_steps(rv_train_log *log, int from, int to) {
	for (int i = from; i <= to; i++) {
		const double row[] = {i, 1.0 / i, i % 2 ? (double)NAN : (double)i};
		assert_ok(rv_train_log_add(log, row, 0.5));
	}
}

typedef struct count {
	int runs, steps;
	double last;
} count;

static rv_status count_record(void *user, const char *payload, size_t size) {
	count *c = user;
	json_t *o;
	assert_ok(rv_json_parse(payload, size, "record", &o));
	c->runs += strcmp(json_string_value(json_object_get(o, "type")), "run") == 0;
	const json_t *step = json_object_get(json_object_get(o, "values"), "step");
	if (step) {
		c->steps++;
		assert_true(json_number_value(step) > c->last);
		c->last = json_number_value(step);
	}
	json_decref(o);
	return RV_OK;
}

static count counted(const char *file) {
	count c = {0, 0, 0};
	char *identity;
	assert_ok(rv_journal_read(file, &identity, count_record, &c, NULL));
	rv_free(identity);
	return c;
}

static void resumed_runs_repeat_nothing(void **state) {
	(void)state;
	rv_train_log *log, *second;
	assert_ok(open_log(&log, "rate=1", 1, 3));
	add_steps(log, 1, 10);
	assert_int_equal(open_log(&second, "rate=1", 0, 3), RV_ERR_LIMIT); /* one writer */
	rv_train_log_close(log);                                           /* killed: no HDF5 file */
	assert_int_equal(access(path, F_OK), -1);
	assert_ok(open_log(&log, "rate=1", 0, 3));
	add_steps(log, 6, 15); /* from the checkpoint after step 5 */
	assert_ok(rv_train_log_write(log));
	rv_train_log_close(log);
	count c = counted(journal);
	assert_int_equal(c.runs, 2);
	assert_int_equal(c.steps, 15);
	char *data;
	size_t size;
	assert_ok(rv_file_read(path, 1 << 24, &data, &size));
	assert_memory_equal(data, "\x89HDF\r\n\x1a\n", 8);
	rv_free(data);
}

static void another_run_is_refused(void **state) {
	(void)state;
	rv_train_log *log;
	assert_int_equal(open_log(&log, "rate=2", 0, 3), RV_ERR_MISMATCH);
	assert_null(log);
	assert_int_equal(open_log(&log, "rate=2", 0, 0), RV_ERR_LIMIT);
	assert_int_equal(counted(journal).steps, 15);
	assert_ok(open_log(&log, "rate=2", 1, 3)); /* anew: the old one is kept */
	add_steps(log, 1, 2);
	rv_train_log_close(log);
	char old[700];
	snprintf(old, sizeof old, "%s.old", journal);
	assert_int_equal(counted(old).steps, 15);
	assert_int_equal(counted(journal).steps, 2);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(resumed_runs_repeat_nothing),
	        cmocka_unit_test(another_run_is_refused),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
