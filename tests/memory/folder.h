/* A folder of its own for each test, gone with all that is in it. */
#ifndef RV_TESTS_MEMORY_FOLDER_H
#define RV_TESTS_MEMORY_FOLDER_H

#include "tests/support/test.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"

static void folder_make(char dir[256]) {
	const char *tmp = getenv("TMPDIR");
	snprintf(dir, 256, "%s/rv_memory_XXXXXX", tmp != NULL ? tmp : "/tmp");
	assert_non_null(mkdtemp(dir));
}

static int folder_drop(const char *path, const struct stat *st, int kind, struct FTW *at) {
	(void)st;
	(void)kind;
	(void)at;
	return remove(path);
}

static void folder_remove(const char *dir) {
	nftw(dir, folder_drop, 16, FTW_DEPTH | FTW_PHYS);
}

#pragma GCC diagnostic pop

#endif
