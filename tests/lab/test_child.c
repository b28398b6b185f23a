/* Fixtures in child processes: crashes, exits, hangs, interruptions, two programs at once, overhead. */
#include "base/sysinfo.h"
#include "tests/lab/program.h"

#include <errno.h>
#include <sys/stat.h>

static char path[256];

static int make_path(void **state) {
	(void)state;
	const char *tmp = getenv("TMPDIR");
	snprintf(path, sizeof path, "%s/rv_child_XXXXXX", tmp != NULL ? tmp : "/tmp");
	int fd = mkstemp(path);
	return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state) {
	(void)state;
	return unlink(path);
}

static int fresh(void **state) {
	(void)state;
	toy = (toy_faults){.fail_setup_of = -1, .fail_run_of = -1, .end_build = -1};
	return truncate(path, 0);
}

static void assert_no_children(void) {
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

/* ---- fixtures that end ---- */

static void measure(toy_session *s, const rv_experiment *exp) {
	assert_int_equal(toy_open(s, exp, path, NULL), RV_OK);
	assert_int_equal(toy_measure(s, exp, rv_now_ns()), RV_OK);
	assert_int_equal(s->status, RV_OK);
	assert_no_children();
}

/* Points 0..2 are the first fixture's. */
static void check_failed(const toy_session *s, const char *why, int n_kept, int n_failures) {
	for (int p = 0; p < 3; p++) {
		const rv_point_result *r = &s->results.results[p];
		assert_int_equal(r->status, RV_POINT_FAILED);
		assert_string_equal(r->reason, why);
		assert_int_equal(r->n_failures, n_failures);
		assert_int_equal(r->n_done, n_kept);
		assert_int_equal(r->metrics[TOY_SPEED].n, n_kept);
	}
	for (int p = 3; p < 6; p++)
		assert_true(s->results.results[p].status == RV_POINT_OK &&
		            s->results.results[p].n_done == 5);
}

/* The first fixture ends in its fourth round, which leaves every point at least the three repetitions
 * that are enough: they are kept, and the points failed nonetheless. */
static void ends_while_running(toy_end end, const char *why) {
	rv_experiment exp = toy_experiment;
	exp.limit_s[RV_PROFILE_QUICK] = 1;
	toy.end_build = 0;
	toy.run_end = end;
	toy.end_repetition = 3;
	toy_session s;
	measure(&s, &exp);
	check_failed(&s, why, 3, 1);
	assert_int_equal(toy.n_setups, 2);
	toy_close(&s);
	/* resumed: tried once more, then left alone */
	measure(&s, &exp);
	check_failed(&s, why, 3, 2);
	assert_int_equal(toy.n_setups, 3);
	toy_close(&s);
	measure(&s, &exp);
	check_failed(&s, why, 3, 2);
	assert_int_equal(toy.n_setups, 3);
	toy_close(&s);
	for (int r = 0; r < 3; r++)
		assert_int_equal(toy.runs_of[0][r], 1);
}

static void crash(void **state) {
	(void)state;
	ends_while_running(TOY_CRASHES, "fixture killed by SIGSEGV");
}

static void exit_status(void **state) {
	(void)state;
	ends_while_running(TOY_EXITS, "fixture exited with status 3");
}

static void hang(void **state) {
	(void)state;
	int64_t before = rv_now_ns();
	ends_while_running(TOY_HANGS, "no progress for 1 s");
	assert_true((double)(rv_now_ns() - before) * 1e-9 < 10);
}

static void mended(void **state) {
	(void)state;
	toy.end_build = 0;
	toy.run_end = TOY_CRASHES;
	toy.end_repetition = 2;
	toy_session s;
	measure(&s, &toy_experiment);
	check_failed(&s, "fixture killed by SIGSEGV", 2, 1);
	toy_close(&s);
	toy.run_end = TOY_LIVES;
	measure(&s, &toy_experiment);
	for (int p = 0; p < 6; p++)
		assert_true(s.results.results[p].status == RV_POINT_OK &&
		            s.results.results[p].n_done == 5);
	toy_close(&s);
	for (int r = 0; r < 5; r++)
		assert_int_equal(toy.runs_of[0][r], 1); /* none lost, none repeated */
}

static void set_up_ends(void **state) {
	static const struct {
		toy_end end;
		const char *why;
	} cases[] = {{TOY_CRASHES, "fixture killed by SIGSEGV"},
	             {TOY_EXITS, "fixture exited with status 3"},
	             {TOY_HANGS, "no progress for 1 s"}};
	rv_experiment exp = toy_experiment;
	exp.limit_s[RV_PROFILE_QUICK] = 1;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		fresh(state);
		toy.end_build = 0;
		toy.setup_end = cases[i].end;
		toy_session s;
		measure(&s, &exp);
		check_failed(&s, cases[i].why, 0, 1);
		toy_close(&s);
	}
}

static void log_line(void *user, rv_log_level level, const char *line) {
	if (level == RV_LOG_WARN)
		snprintf(user, 256, "%s", line);
}

/* Everything is measured by then: it is worth a warning. */
static void teardown_ends(void **state) {
	(void)state;
	char line[256] = "";
	toy.end_build = 0;
	toy.teardown_end = TOY_CRASHES;
	toy_session s;
	assert_int_equal(toy_open(&s, &toy_experiment, path, NULL), RV_OK);
	s.config.log = (rv_log){log_line, line};
	assert_int_equal(toy_measure(&s, &toy_experiment, rv_now_ns()), RV_OK);
	assert_int_equal(s.status, RV_OK);
	for (int p = 0; p < 6; p++)
		assert_int_equal(s.results.results[p].status, RV_POINT_OK);
	assert_string_equal(line, "teardown: fixture killed by SIGSEGV");
	assert_no_children();
	toy_close(&s);
}

static rv_status babble(void *fixture, const rv_point *p, int repetition, rv_record *record) {
	(void)fixture;
	(void)repetition;
	memset(record->facts[0], 0xc3, RV_REASON_BYTES); /* no UTF-8, and no end */
	return p->index == 0 ? rv_fail(RV_ERR_IO, "\xff is not \xc3\xa4") : RV_OK;
}

/* Whatever a fixture says, the journal takes it. */
static void babbling(void **state) {
	(void)state;
	rv_experiment exp = toy_experiment;
	exp.run = babble;
	toy_session s;
	measure(&s, &exp);
	assert_string_equal(s.results.results[0].reason, "? is not \xc3\xa4");
	assert_int_equal(s.results.results[1].status, RV_POINT_OK);
	assert_int_equal(strspn(s.results.results[1].facts[0], "?"), RV_REASON_BYTES - 1);
	toy_close(&s);
}

/* ---- interruptions ---- */

/* Waits until the third repetition of a point is run by a program that will stay there. */
static pid_t start_stuck(const char *dir, toy_end end) {
	toy.end_build = 0;
	toy.run_end = end;
	toy.end_repetition = 2;
	pid_t pid = start_program(&toy_experiment, dir, NULL);
	for (int i = 0; i < 1000 && toy.n_runs < 4; i++)
		usleep(10000);
	assert_int_equal(toy.n_runs, 4);
	usleep(20000);
	return pid;
}

/* The process id of a child of `parent`; 0: none. */
static pid_t child_of(pid_t parent) {
	char file[64], text[64] = "";
	snprintf(file, sizeof file, "/proc/%d/task/%d/children", (int)parent, (int)parent);
	FILE *f = fopen(file, "re");
	if (f == NULL)
		return 0;
	size_t n = fread(text, 1, sizeof text - 1, f);
	fclose(f);
	text[n] = 0;
	return (pid_t)atol(text);
}

static int is_gone(pid_t pid) {
	for (int i = 0; i < 200; i++) {
		if (kill(pid, 0) != 0 && errno == ESRCH)
			return 1;
		usleep(10000);
	}
	return 0;
}

/* Resumed with nothing in the way, everything is there and no acknowledged repetition is run again. */
static void resumes(const char *dir) {
	toy.run_end = TOY_LIVES;
	assert_int_equal(end_of(start_program(&toy_experiment, dir, NULL)), 0);
	static const int points[] = {0, 1, 3, 4};
	for (size_t p = 0; p < 4; p++)
		for (int r = 0; r < 5; r++)
			assert_int_equal(toy.runs_of[points[p]][r], 1);
}

static void signals(void **state) {
	static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
	static const toy_end ends[] = {TOY_HANGS, TOY_HOLDS};
	double slowest = 0;
	for (size_t i = 0; i < 6; i++) {
		char dir[256];
		make_folder(dir);
		fresh(state);
		pid_t pid = start_stuck(dir, ends[i % 2]), child = child_of(pid);
		int64_t before = rv_now_ns();
		assert_int_equal(kill(pid, numbers[i / 2]), 0);
		assert_int_equal(end_of(pid), 128 + numbers[i / 2]);
		slowest = fmax(slowest, (double)(rv_now_ns() - before) * 1e-9);
		assert_true(child == 0 || is_gone(child));
		assert_int_equal(lines_with(dir, "interrupted; run again to resume"), 1);
		resumes(dir);
		remove_folder(dir);
	}
	printf("ended %.2f s after a signal at the latest\n", slowest);
	assert_true(slowest < 5);
}

/* Killed, it takes its fixture with it and leaves no lock. */
static void killed(void **state) {
	(void)state;
	char dir[256];
	make_folder(dir);
	pid_t pid = start_stuck(dir, TOY_HANGS), child = child_of(pid);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(end_of(pid), 1000 + SIGKILL);
	resumes(dir);
	assert_true(child == 0 || is_gone(child));
	remove_folder(dir);
}

static void two_at_once(void **state) {
	(void)state;
	char dir[256], says[64];
	make_folder(dir);
	pid_t first = start_stuck(dir, TOY_HOLDS);
	assert_int_equal(end_of(start_program(&toy_experiment, dir, NULL)), 1);
	snprintf(says, sizeof says, "in use by process %d", (int)first);
	assert_int_equal(lines_with(dir, ""), 1);
	assert_int_equal(lines_with(dir, says), 1);
	assert_int_equal(toy.n_runs, 4); /* the first one's */
	assert_int_equal(kill(first, SIGTERM), 0);
	assert_int_equal(end_of(first), 128 + SIGTERM);
	resumes(dir);
	remove_folder(dir);
}

/* ---- overhead ---- */

enum { N_OPS = 200 };
#define OP_NS 1e6
static int64_t op_turns; /* of the operation, which then takes about a millisecond */

static double operation(int64_t turns) {
	uint64_t x = 1;
	int64_t before = rv_now_ns();
	for (int64_t i = 0; i < turns; i++) {
		x = x * 6364136223846793005u + 1;
		__asm__ volatile("" : "+r"(x));
	}
	return (double)(rv_now_ns() - before);
}

static rv_status timed_run(void *fixture, const rv_point *p, int repetition, rv_record *record) {
	(void)fixture;
	(void)p;
	(void)repetition;
	record->values[TOY_SPEED] = operation(op_turns);
	return RV_OK;
}

static int by_value(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double quantile(double *x, size_t n, double q) {
	qsort(x, n, sizeof *x, by_value);
	return x[(size_t)((double)n * q)];
}

/* The same operation in a plain loop and as a repetition of a sweep, by the fastest tenth of each:
 * others use this machine too, hence also the generous bound. The journal costs time between
 * repetitions. */
static void overhead(void **state) {
	(void)state;
	static const char *const only[] = {"hue=red", "m=4"};
	static double plain[N_OPS], lab[N_OPS];
	rv_experiment exp = toy_experiment;
	exp.run = timed_run;
	exp.max_n[RV_PROFILE_QUICK] = N_OPS;
	double best = INFINITY;
	double fastest = INFINITY;
	for (int i = 0; i < 20; i++)
		fastest = fmin(fastest, operation(1000000));
	op_turns = (int64_t)(1e6 * OP_NS / fastest);
	for (int attempt = 0; attempt < 5 && !(best < 1); attempt++) {
		toy_session s;
		fresh(NULL);
		for (int i = 0; i < N_OPS / 2; i++)
			plain[i] = operation(op_turns);
		assert_int_equal(toy_open(&s, &exp, path, &(rv_selection){only, 2}), RV_OK);
		int64_t before = rv_now_ns();
		assert_int_equal(toy_measure(&s, &exp, before), RV_OK);
		double each = (double)(rv_now_ns() - before) / N_OPS;
		for (int i = N_OPS / 2; i < N_OPS; i++)
			plain[i] = operation(op_turns);
		const rv_metric_result *m = &s.results.results[0].metrics[TOY_SPEED];
		assert_int_equal(m->n, N_OPS);
		for (int i = 0; i < N_OPS; i++)
			lab[i] = m->samples[i].value;
		toy_close(&s);
		double bare = quantile(plain, N_OPS, 0.1), within = quantile(lab, N_OPS, 0.1);
		double bare_median = quantile(plain, N_OPS, 0.5), median = quantile(lab, N_OPS, 0.5);
		best = fmin(best, 100 * (within / bare - 1));
		printf("%.4f ms alone, %.4f ms in the lab: %+.2f %% (medians %.4f, %.4f); %.2f ms "
		       "between "
		       "repetitions\n",
		       bare * 1e-6, within * 1e-6, 100 * (within / bare - 1), bare_median * 1e-6,
		       median * 1e-6, (each - median) * 1e-6);
	}
	assert_true(best < 5);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup(crash, fresh),
	        cmocka_unit_test_setup(exit_status, fresh),
	        cmocka_unit_test_setup(hang, fresh),
	        cmocka_unit_test_setup(mended, fresh),
	        cmocka_unit_test_setup(set_up_ends, fresh),
	        cmocka_unit_test_setup(teardown_ends, fresh),
	        cmocka_unit_test_setup(babbling, fresh),
	        cmocka_unit_test_setup(signals, fresh),
	        cmocka_unit_test_setup(killed, fresh),
	        cmocka_unit_test_setup(two_at_once, fresh),
	        cmocka_unit_test_setup(overhead, fresh),
	};
	return cmocka_run_group_tests(tests, make_path, remove_path);
}
