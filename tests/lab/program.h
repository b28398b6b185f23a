/* The toy experiment as a program: whole runs of rv_experiment_main in processes of their own, with
 * their messages in a file. Tests that include this link with --wrap=rv_calibrate, which saves half a
 * second a run. */
#ifndef RV_TESTS_LAB_PROGRAM_H
#define RV_TESTS_LAB_PROGRAM_H

#include "base/file.h"
#include "tests/lab/toy.h"

#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <cmocka.h>

rv_status __wrap_rv_calibrate(rv_calibration *out, rv_threads *threads);
rv_status __wrap_rv_calibrate(rv_calibration *out, rv_threads *threads) {
	(void)threads;
	*out = (rv_calibration){.read_gb_s = 10, .f32_gflop_s = 100, .n_threads = 1};
	return RV_OK;
}

/* A folder for results; removed with all in it by remove_folder. */
static void make_folder(char dir[256]) {
	const char *tmp = getenv("TMPDIR");
	snprintf(dir, 256, "%s/rv_lab_XXXXXX", tmp != NULL ? tmp : "/tmp");
	assert_non_null(mkdtemp(dir));
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *where) {
	(void)st;
	(void)kind;
	(void)where;
	return remove(path);
}

static void remove_folder(const char *dir) {
	nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* Four points of two fixtures, each measured exp->max_n times. `before` (may be NULL) runs in the new
 * process. */
static pid_t start_program(const rv_experiment *exp, const char *dir, void (*before)(void)) {
	char out[320], err[320];
	snprintf(out, sizeof out, "%s/toy.h5", dir);
	snprintf(err, sizeof err, "%s/stderr", dir);
	char *argv[] = {"toy", "--profile", "quick",   "--threads", "1",         "--out",
	                out,   "--only",    "hue=red", "--only",    "hue=green", NULL};
	fflush(stdout);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid > 0)
		return pid;
	int null = open("/dev/null", O_WRONLY), log = open(err, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (null < 0 || log < 0 || dup2(null, 1) < 0 || dup2(log, 2) < 0)
		_exit(99);
	if (before != NULL)
		before();
	exit(rv_experiment_main((int)(sizeof argv / sizeof argv[0]) - 1, argv, exp));
}

/* Exit status of a process, 1000 + signal when one killed it. */
static int end_of(pid_t pid) {
	int how = 0;
	assert_int_equal(waitpid(pid, &how, 0), pid);
	return WIFSIGNALED(how) ? 1000 + WTERMSIG(how) : WEXITSTATUS(how);
}

/* What the program said; released by rv_free. */
static char *said(const char *dir) {
	char err[320], *text = NULL;
	size_t size = 0;
	snprintf(err, sizeof err, "%s/stderr", dir);
	assert_int_equal(rv_file_read(err, 1 << 20, &text, &size), RV_OK);
	return text;
}

/* Number of its lines that hold `what`. */
static int lines_with(const char *dir, const char *what) {
	char *text = said(dir), *save = NULL;
	int n = 0;
	for (char *line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save))
		n += strstr(line, what) != NULL;
	rv_free(text);
	return n;
}

#endif
