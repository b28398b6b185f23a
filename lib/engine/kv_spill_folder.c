#include "engine/kv_spill_folder.h"

#include "base/file.h"
#include "base/mem.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define PATTERN "kv-XXXXXX"

/* An open folder, locked; -1: it is no folder, or somebody else's. */
static int lock_folder(int at, const char *name, int wait) {
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && flock(fd, wait ? LOCK_EX : LOCK_EX | LOCK_NB) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static int is_spill_file(const char *name) {
	size_t digits = strspn(name, "0123456789");
	return digits > 0 && strcmp(name + digits, ".kv") == 0;
}

/* fd is closed. */
static void empty_folder(int fd) {
	DIR *d = fdopendir(fd);
	if (!d) {
		close(fd);
		return;
	}
	for (struct dirent *e; (e = readdir(d));)
		if (is_spill_file(e->d_name))
			unlinkat(fd, e->d_name, 0);
	closedir(d);
}

/* The parent is locked: nobody is between making a folder and locking it. */
static void remove_stale(int parent) {
	int again = dup(parent);
	DIR *d = again >= 0 ? fdopendir(again) : NULL;
	if (!d) {
		if (again >= 0)
			close(again);
		return;
	}
	for (struct dirent *e; (e = readdir(d));) {
		if (strncmp(e->d_name, PATTERN, 3) != 0 || strlen(e->d_name) != strlen(PATTERN))
			continue;
		int fd = lock_folder(parent, e->d_name, 0);
		if (fd < 0)
			continue;
		empty_folder(fd);
		unlinkat(parent, e->d_name, AT_REMOVEDIR); /* fails if anything else is in it */
	}
	closedir(d);
}

rv_status rv_kv_spill_folder_open(rv_kv_spill_folder *f, const char *parent) {
	size_t size = strlen(parent) + sizeof "/" PATTERN;
	*f = (rv_kv_spill_folder){.lock = -1};
	if (size > 4000)
		return rv_fail(RV_ERR_INVALID, "%.200s...: path too long", parent);
	RV_TRY(rv_mkdirs(parent));
	RV_TRY(rv_alloc((void **)&f->path, size, 1, "path"));
	snprintf(f->path, size, "%s/" PATTERN, parent);
	int fd = lock_folder(AT_FDCWD, parent, 1); /* where there are no locks, nothing is cleaned up */
	if (fd >= 0)
		remove_stale(fd);
	rv_status status = RV_OK;
	if (mkdtemp(f->path)) {
		f->lock = lock_folder(AT_FDCWD, f->path, 0);
	} else {
		status = rv_fail_errno(RV_ERR_IO, "%s: cannot create a folder in it", parent);
		rv_free(f->path);
		f->path = NULL;
	}
	if (fd >= 0)
		close(fd);
	return status;
}

void rv_kv_spill_folder_close(rv_kv_spill_folder *f) {
	if (!f->path)
		return;
	rmdir(f->path);
	if (f->lock >= 0)
		close(f->lock);
	rv_free(f->path);
	*f = (rv_kv_spill_folder){0};
}

void rv_kv_spill_file(const rv_kv_spill_folder *f, int32_t seq, char path[4096]) {
	snprintf(path, 4096, "%s/%d.kv", f->path, seq);
}
