/* Kills a program at its n-th write, or refuses it: the calls that change files are defined here, so
 * that those of every library come by. For one source file of a test program. */
#ifndef RV_TESTS_SUPPORT_WRITE_SHIM_H
#define RV_TESTS_SUPPORT_WRITE_SHIM_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef enum shim_mode {
	SHIM_COUNT,
	SHIM_KILL,      /* before call number `at` */
	SHIM_TEAR,      /* likewise, when half of what it writes is written */
	SHIM_FULL,      /* that call writes half, and nothing can be written or synced from then on */
	SHIM_READ_ONLY, /* no change at all from that call on */
} shim_mode;

typedef struct shim {
	shim_mode mode;
	pid_t pid; /* the process concerned */
	long at;
	int no_sync; /* count syncs, make none: what a kill leaves does not depend on them */
	_Atomic long n;
} shim;

/* Set by the test, counted by the program it starts: shared. */
static shim *the_shim;

/* What becomes of a call: -1 it fails (errno is set), 0 it is made, 1 it writes half. */
static int meet(int is_write, int is_sync) {
	shim *s = the_shim;
	if (s == NULL || s->pid != getpid())
		return 0;
	long n = ++s->n;
	if (s->mode == SHIM_COUNT || n < s->at)
		return 0;
	if (s->mode == SHIM_KILL || (s->mode == SHIM_TEAR && !is_write))
		kill(getpid(), SIGKILL);
	if (s->mode == SHIM_TEAR)
		return 1;
	if (s->mode == SHIM_READ_ONLY) {
		errno = EROFS;
		return -1;
	}
	if (is_write && n == s->at)
		return 1;
	errno = ENOSPC;
	return is_write || is_sync ? -1 : 0;
}

static int is_watched(int fd) {
	struct stat st;
	return the_shim != NULL && fd > 2 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

static ssize_t meet_write(int fd, const void *data, size_t size, off_t at) {
	int half = is_watched(fd) ? meet(1, 0) : 0;
	if (half < 0)
		return -1;
	size_t n = half ? size / 2 : size;
	long done = at < 0 ? syscall(SYS_write, fd, data, n) : syscall(SYS_pwrite64, fd, data, n, at);
	if (half && the_shim->mode == SHIM_TEAR)
		kill(getpid(), SIGKILL);
	if (half && n == 0) {
		errno = ENOSPC;
		return -1;
	}
	return done;
}

ssize_t write(int fd, const void *data, size_t size) {
	return meet_write(fd, data, size, -1);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
	return meet_write(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
	return pwrite(fd, data, size, at);
}

int ftruncate(int fd, off_t size) {
	return is_watched(fd) && meet(0, 0) < 0 ? -1 : (int)syscall(SYS_ftruncate, fd, size);
}

int ftruncate64(int fd, off64_t size) {
	return ftruncate(fd, size);
}

int fsync(int fd) {
	if (is_watched(fd) && meet(0, 1) < 0)
		return -1;
	return the_shim != NULL && the_shim->no_sync ? 0 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
	if (is_watched(fd) && meet(0, 1) < 0)
		return -1;
	return the_shim != NULL && the_shim->no_sync ? 0 : (int)syscall(SYS_fdatasync, fd);
}

int rename(const char *from, const char *to) {
	return meet(0, 0) < 0 ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlink(const char *path) {
	return meet(0, 0) < 0 ? -1 : (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

static int meet_open(const char *path, int flags, va_list args) {
	int creates = (flags & (O_CREAT | O_WRONLY | O_RDWR | O_TRUNC)) != 0;
	mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
	if (creates && strncmp(path, "/dev/", 5) != 0 && strncmp(path, "/proc/", 6) != 0 &&
	    meet(0, 0) < 0)
		return -1;
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...) {
	va_list args;
	va_start(args, flags);
	int fd = meet_open(path, flags, args);
	va_end(args);
	return fd;
}

int open64(const char *path, int flags, ...) {
	va_list args;
	va_start(args, flags);
	int fd = meet_open(path, flags, args);
	va_end(args);
	return fd;
}

/* In the process concerned. */
static void arm(void) {
	the_shim->pid = getpid();
}

/* The shim, shared with the programs that are started from here. 0: no memory. */
static int shim_make(void) {
	the_shim =
	        mmap(NULL, sizeof *the_shim, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return the_shim != MAP_FAILED;
}

static void shim_set(shim_mode mode, long at) {
	the_shim->pid = 0;
	the_shim->mode = mode;
	the_shim->at = at;
	atomic_store(&the_shim->n, 0);
}

#endif
