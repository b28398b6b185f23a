/* What the tests of lib/base share: cmocka's includes, a temporary folder, counters of leaks. */
#ifndef RV_TESTS_BASE_TEST_H
#define RV_TESTS_BASE_TEST_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/status.h"

/* ThreadSanitizer and AddressSanitizer slow things down; sizes and time limits follow. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define assert_ok(expr)                                                                                \
	do {                                                                                           \
		rv_status assert_ok_status_ = (expr);                                                  \
		if (assert_ok_status_ != RV_OK)                                                        \
			fail_msg("%s: %s: %s", #expr, rv_status_text(assert_ok_status_),               \
			         rv_error_message());                                                  \
	} while (0)

/* Fails with `want` and a message that holds `part`. */
#define assert_fails(expr, want, part)                                                                 \
	do {                                                                                           \
		assert_int_equal(expr, want);                                                          \
		if (!strstr(rv_error_message(), part))                                                 \
			fail_msg("%s: '%s' is not in the message '%s'", #expr, part,                   \
			         rv_error_message());                                                  \
	} while (0)

typedef struct temp_dir {
	char path[256];
	char full[4][512];
	int next;
} temp_dir;

static inline void temp_dir_make(temp_dir *dir) {
	const char *base = getenv("TMPDIR");
	memset(dir, 0, sizeof *dir);
	snprintf(dir->path, sizeof dir->path, "%s/rv-base-XXXXXX", base && *base ? base : "/tmp");
	assert_non_null(mkdtemp(dir->path));
}

/* A path in the folder; good until the fourth call after this one. */
static inline const char *temp_path(temp_dir *dir, const char *name) {
	char *full = dir->full[dir->next++ % 4];
	size_t n = strlen(dir->path), m = strlen(name);
	assert_true(n + m + 2 <= sizeof dir->full[0]);
	memcpy(full, dir->path, n);
	full[n] = '/';
	memcpy(full + n + 1, name, m + 1);
	return full;
}

static inline int entries(const char *path) {
	int n = 0;
	DIR *d = opendir(path);
	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));)
		n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
	closedir(d);
	return n;
}

static inline void remove_tree(const char *path) {
	DIR *d = opendir(path);
	if (!d) {
		unlink(path);
		return;
	}
	for (struct dirent *e; (e = readdir(d));) {
		char full[1024];
		struct stat st;
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if ((size_t)snprintf(full, sizeof full, "%s/%s", path, e->d_name) >= sizeof full)
			continue;
		if (lstat(full, &st) == 0 && S_ISDIR(st.st_mode))
			remove_tree(full);
		else
			unlink(full);
	}
	closedir(d);
	rmdir(path);
}

static inline void spit(const char *path, const char *text) {
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

/* The file's text in a static-free buffer of the caller. */
static inline const char *slurp(const char *path, char *buffer, size_t cap) {
	FILE *f = fopen(path, "r");
	if (!f)
		return "(no file)";
	size_t n = fread(buffer, 1, cap - 1, f);
	buffer[n] = '\0';
	fclose(f);
	return buffer;
}

static inline int open_fds(void) {
	return entries("/proc/self/fd");
}

#endif
