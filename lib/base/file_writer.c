#include "base/file.h"

#include "base/file_io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER_BYTES ((size_t)256 << 10)
#define NAME_TRIES 100

struct rv_writer {
	int fd;
	int error;    /* errno of the first failed write: nothing is written after it */
	char *path;   /* as given, for messages */
	char *target; /* with links followed: what is replaced. NULL: written straight to */
	char *temp;   /* beside target; NULL: none */
	char *buffer;
	size_t fill;
	uint64_t tell;
};

static void writer_free(rv_writer *w) {
	if (w->fd >= 0)
		close(w->fd);
	if (w->temp)
		unlink(w->temp);
	rv_free(w->path);
	rv_free(w->target);
	rv_free(w->temp);
	rv_free(w->buffer);
	rv_free(w);
}

/* The descriptor a name like /dev/stdout or /dev/fd/3 stands for; -1: none. Behind such a name may be
 * a regular file, but replacing that by a rename would cut it off from whoever else writes to it. */
static int standard_fd(const char *path) {
	static const char *const prefixes[] = {"/dev/fd/", "/proc/self/fd/"};
	if (!strcmp(path, "/dev/stdout"))
		return STDOUT_FILENO;
	if (!strcmp(path, "/dev/stderr"))
		return STDERR_FILENO;
	for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
		size_t n = strlen(prefixes[i]);
		if (!strncmp(path, prefixes[i], n) && path[n] >= '0' && path[n] <= '9') {
			char *end;
			long fd = strtol(path + n, &end, 10);
			return *end || fd > 1 << 20 ? -1 : (int)fd;
		}
	}
	return -1;
}

/* ".<name>.<random>.tmp" in target's directory, created anew with the umask's rights. */
static rv_status temp_open(rv_writer *w) {
	const char *slash = strrchr(w->target, '/');
	int dir = slash ? (int)(slash - w->target) + 1 : 0;
	size_t bytes = strlen(w->target) + 32;
	RV_TRY(rv_alloc((void **)&w->temp, bytes, 1, "path"));
	for (int i = 0; i < NAME_TRIES; i++) {
		uint64_t unique = 0;
		if (getrandom(&unique, sizeof unique, GRND_NONBLOCK) != sizeof unique)
			unique = (uint64_t)getpid() << 32 | (uint32_t)i;
		/* 200: a name may have 255 bytes. */
		snprintf(w->temp, bytes, "%.*s.%.200s.%016llx.tmp", dir, w->target, w->target + dir,
		         (unsigned long long)unique);
		w->fd = rv_fd_open(w->temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0666);
		if (w->fd >= 0)
			return RV_OK;
		if (errno != EEXIST)
			break;
	}
	rv_free(w->temp); /* not ours to unlink */
	w->temp = NULL;
	return rv_fd_fail(w->path, "create");
}

static rv_status open_direct(rv_writer *w, int flags) {
	w->fd = rv_fd_open(w->path, O_WRONLY | O_NOCTTY | flags, 0666);
	return w->fd < 0 ? rv_fd_fail(w->path, "open for writing") : RV_OK;
}

/* An existing file is replaced where it really is, keeping its rights. */
static rv_status open_replacing(rv_writer *w, const struct stat *st) {
	if (access(w->path, W_OK) != 0)
		return rv_fd_fail(w->path, "write");
	char *real = realpath(w->path, NULL);
	if (!real)
		return rv_fd_fail(w->path, "resolve");
	rv_status status = rv_strdup(&w->target, real);
	free(real);
	RV_TRY(status);
	RV_TRY(temp_open(w));
	if (fchmod(w->fd, st->st_mode & 0777) != 0)
		return rv_fd_fail(w->path, "set the rights of its new version");
	return RV_OK;
}

static rv_status open_any(rv_writer *w) {
	struct stat st;
	int standard = standard_fd(w->path);
	if (!*w->path)
		return rv_fail(RV_ERR_INVALID, "output: the path is empty");
	if (standard >= 0) {
		w->fd = fcntl(standard, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
		return w->fd < 0 ? rv_fd_fail(w->path, "open for writing") : RV_OK;
	}
	if (stat(w->path, &st) == 0) {
		if (S_ISREG(st.st_mode))
			return open_replacing(w, &st);
		if (S_ISDIR(st.st_mode))
			return rv_fail(RV_ERR_INVALID, "%s: is a directory", w->path);
		return open_direct(w, 0);
	}
	if (errno != ENOENT)
		return rv_fd_fail(w->path, "open for writing");
	RV_TRY(rv_strdup(&w->target, w->path));
	return temp_open(w);
}

rv_status rv_writer_open(rv_writer **out, const char *path) {
	rv_writer *w;
	*out = NULL;
	RV_TRY(RV_ALLOC(&w, 1, "writer"));
	w->fd = -1;
	rv_status status = rv_strdup(&w->path, path);
	if (status == RV_OK)
		status = rv_alloc_uninit((void **)&w->buffer, BUFFER_BYTES, 1, "write buffer");
	if (status == RV_OK)
		status = open_any(w);
	if (status != RV_OK) {
		writer_free(w);
		return status;
	}
	*out = w;
	return RV_OK;
}

static rv_status cannot_write(const rv_writer *w) {
	errno = w->error;
	return rv_fail_errno(RV_ERR_IO, "%s: cannot write", w->path);
}

static rv_status write_all(rv_writer *w, const char *data, size_t size) {
	while (size) {
		ssize_t put = write(w->fd, data, size);
		if (put > 0) {
			data += put;
			size -= (size_t)put;
		} else if (put == 0 || errno != EINTR) {
			w->error = put == 0 ? EIO : errno;
			return cannot_write(w);
		}
	}
	return RV_OK;
}

static rv_status flush(rv_writer *w) {
	RV_TRY(write_all(w, w->buffer, w->fill));
	w->fill = 0;
	return RV_OK;
}

rv_status rv_writer_write(rv_writer *w, const void *data, size_t size) {
	if (w->error)
		return cannot_write(w);
	if (size > BUFFER_BYTES - w->fill)
		RV_TRY(flush(w));
	if (size >= BUFFER_BYTES) {
		RV_TRY(write_all(w, data, size));
	} else if (size) {
		memcpy(w->buffer + w->fill, data, size);
		w->fill += size;
	}
	w->tell += size;
	return RV_OK;
}

rv_status rv_writer_pad(rv_writer *w, size_t alignment) {
	static const char zeros[512];
	size_t left = alignment > 1 ? (size_t)(w->tell % alignment) : 0;
	for (left = left ? alignment - left : 0; left;) {
		size_t n = left < sizeof zeros ? left : sizeof zeros;
		RV_TRY(rv_writer_write(w, zeros, n));
		left -= n;
	}
	return RV_OK;
}

uint64_t rv_writer_tell(const rv_writer *w) {
	return w->tell;
}

/* A descriptor of the directory that holds `path`. */
static int open_parent(const char *path) {
	char parent[4096];
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) + (slash == path) : 1;
	if (n >= sizeof parent) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(parent, slash ? path : ".", n);
	parent[n] = '\0';
	return rv_fd_open(parent, O_RDONLY | O_DIRECTORY, 0);
}

static rv_status sync_fd(int fd, const char *path, const char *what) {
	int result;
	do
		result = fsync(fd);
	while (result != 0 && errno == EINTR);
	/* EINVAL: this file system has nothing to sync here. */
	return result == 0 || errno == EINVAL
	               ? RV_OK
	               : rv_fail_errno(RV_ERR_IO, "%s: cannot sync %s", path, what);
}

static rv_status commit(rv_writer *w) {
	if (w->error)
		return cannot_write(w);
	RV_TRY(flush(w));
	if (w->temp)
		RV_TRY(sync_fd(w->fd, w->path, "the file"));
	int fd = w->fd;
	w->fd = -1;
	if (close(fd) != 0 && errno != EINTR) /* EINTR: Linux has closed it */
		return rv_fd_fail(w->path, "close");
	if (!w->temp)
		return RV_OK;
	int dir = open_parent(w->target);
	if (dir < 0)
		return rv_fd_fail(w->path, "open the directory of");
	rv_status status = RV_OK;
	if (rename(w->temp, w->target) != 0) {
		status = rv_fd_fail(w->path, "rename the new version to");
	} else {
		rv_free(w->temp);
		w->temp = NULL;
		status = sync_fd(dir, w->path, "its directory, though the file is written");
	}
	close(dir);
	return status;
}

rv_status rv_writer_commit(rv_writer *w) {
	rv_status status = commit(w);
	writer_free(w);
	return status;
}

void rv_writer_abort(rv_writer *w) {
	if (w)
		writer_free(w);
}

rv_status rv_file_write(const char *path, const void *data, size_t size) {
	rv_writer *w;
	RV_TRY(rv_writer_open(&w, path));
	rv_status status = rv_writer_write(w, data, size);
	if (status != RV_OK) {
		rv_writer_abort(w);
		return status;
	}
	return rv_writer_commit(w);
}
