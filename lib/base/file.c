#include "base/file.h"

#include "base/file_io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define READ_CHUNK ((size_t)256 << 10)

int rv_fd_above_stdio(int fd) {
	if (fd < 0 || fd > STDERR_FILENO)
		return fd;
	int moved = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	int saved = errno;
	close(fd);
	errno = saved;
	return moved;
}

int rv_fd_open(const char *path, int flags, mode_t mode) {
	int fd;
	do
		fd = open(path, flags | O_CLOEXEC, mode);
	while (fd < 0 && errno == EINTR);
	return rv_fd_above_stdio(fd);
}

rv_status rv_fd_fail(const char *path, const char *doing) {
	rv_status status = errno == ENOENT || errno == ENOTDIR ? RV_ERR_NOT_FOUND : RV_ERR_IO;
	return rv_fail_errno(status, "%s: cannot %s", path, doing);
}

static const char *kind_of(mode_t mode) {
	return S_ISDIR(mode)    ? "a directory"
	       : S_ISFIFO(mode) ? "a FIFO"
	       : S_ISSOCK(mode) ? "a socket"
	                        : "a device";
}

static int64_t mtime_of(const struct stat *st) {
	return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

/* Opens a regular file for reading; O_NONBLOCK, so that a FIFO is refused instead of waited for. */
static rv_status open_regular(const char *path, int *out, struct stat *st) {
	int fd = rv_fd_open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	if (fd < 0)
		return rv_fd_fail(path, "open");
	rv_status status = RV_OK;
	if (fstat(fd, st) != 0)
		status = rv_fd_fail(path, "stat");
	else if (!S_ISREG(st->st_mode))
		status = rv_fail(RV_ERR_INVALID, "%s: is %s, not a regular file", path,
		                 kind_of(st->st_mode));
	if (status != RV_OK) {
		close(fd);
		return status;
	}
	*out = fd;
	return RV_OK;
}

rv_status rv_map_open(rv_map *out, const char *path) {
	struct stat st;
	rv_map map = {0};
	*out = map;
	RV_TRY(open_regular(path, &map.fd, &st));
	rv_status status = rv_strdup(&map.path, path);
	if (status == RV_OK && st.st_size > 0) {
		map.size = (size_t)st.st_size;
		void *data = mmap(NULL, map.size, PROT_READ, MAP_SHARED, map.fd, 0);
		if (data == MAP_FAILED)
			status = errno == ENOMEM ? rv_fail(RV_ERR_NO_MEMORY, "%s: cannot map %zu bytes",
			                                   path, map.size)
			                         : rv_fd_fail(path, "map");
		else
			map.data = data;
	}
	if (status != RV_OK) {
		rv_free(map.path);
		close(map.fd);
		return status;
	}
	map.mtime_ns = mtime_of(&st);
	*out = map;
	return RV_OK;
}

void rv_map_close(rv_map *map) {
	if (!map->path) /* a zeroed map: its fd 0 is not ours */
		return;
	if (map->data)
		munmap((void *)(uintptr_t)map->data, map->size);
	close(map->fd);
	rv_free(map->path);
	*map = (rv_map){0};
}

rv_status rv_map_check(const rv_map *map) {
	struct stat st;
	if (!map->path)
		return rv_fail(RV_ERR_INVALID, "map: not open");
	if (fstat(map->fd, &st) != 0)
		return rv_fd_fail(map->path, "stat");
	if (st.st_size < 0 || (size_t)st.st_size != map->size)
		return rv_fail(RV_ERR_IO, "%s: was %zu bytes when opened, is %lld now", map->path,
		               map->size, (long long)st.st_size);
	if (mtime_of(&st) != map->mtime_ns)
		return rv_fail(RV_ERR_IO, "%s: was changed while in use", map->path);
	return RV_OK;
}

/* One read that retries EINTR; 0 at the end, -1 and errno on failure. */
static ssize_t read_some(int fd, void *data, size_t size) {
	ssize_t got;
	do
		got = read(fd, data, size);
	while (got < 0 && errno == EINTR);
	return got;
}

static rv_status read_all(int fd, const char *name, size_t expected, size_t max_bytes, char **data,
                          size_t *size) {
	char *buffer = NULL;
	size_t capacity = 0, used = 0, want = expected < READ_CHUNK ? READ_CHUNK : expected + 1;
	rv_status status = RV_OK;
	for (;;) {
		if (used + 1 >= capacity) { /* the last byte is kept for the NUL */
			status = rv_grow((void **)&buffer, capacity, want + 1, 1, name);
			if (status != RV_OK)
				break;
			capacity = want + 1;
			want = capacity > SIZE_MAX / 4 ? capacity : capacity * 2;
		}
		ssize_t got = read_some(fd, buffer + used, capacity - used - 1);
		if (got < 0)
			status = rv_fd_fail(name, "read");
		else if ((used += (size_t)got) > max_bytes)
			status = rv_fail(RV_ERR_LIMIT, "%s: more than %zu bytes", name, max_bytes);
		if (got <= 0 || status != RV_OK)
			break;
	}
	if (status != RV_OK) {
		rv_free(buffer);
		return status;
	}
	buffer[used] = '\0';
	*data = buffer;
	*size = used;
	return RV_OK;
}

rv_status rv_file_read(const char *path, size_t max_bytes, char **data, size_t *size) {
	*data = NULL;
	*size = 0;
	if (!strcmp(path, "-"))
		return read_all(STDIN_FILENO, "standard input", 0, max_bytes, data, size);
	int fd = rv_fd_open(path, O_RDONLY | O_NOCTTY, 0);
	if (fd < 0)
		return rv_fd_fail(path, "open");
	struct stat st;
	size_t expected = 0;
	rv_status status = RV_OK;
	if (fstat(fd, &st) != 0)
		status = rv_fd_fail(path, "stat");
	else if (S_ISDIR(st.st_mode))
		status = rv_fail(RV_ERR_INVALID, "%s: is a directory", path);
	else if (S_ISREG(st.st_mode) && st.st_size > 0 && (size_t)st.st_size > max_bytes)
		status = rv_fail(RV_ERR_LIMIT, "%s: %lld bytes, more than %zu", path,
		                 (long long)st.st_size, max_bytes);
	else if (S_ISREG(st.st_mode) && st.st_size > 0)
		expected = (size_t)st.st_size;
	if (status == RV_OK)
		status = read_all(fd, path, expected, max_bytes, data, size);
	close(fd);
	return status;
}

int rv_file_same(const char *a, const char *b) {
	struct stat sa, sb;
	return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
	       sa.st_ino == sb.st_ino;
}

rv_status rv_mkdirs(const char *path) {
	char *prefix;
	struct stat st;
	if (!*path)
		return rv_fail(RV_ERR_INVALID, "directory: the path is empty");
	RV_TRY(rv_strdup(&prefix, path));
	rv_status status = RV_OK;
	for (char *p = prefix + 1; status == RV_OK; p++) {
		if (*p != '/' && *p != '\0')
			continue;
		char end = *p;
		*p = '\0';
		/* Existing parents may refuse mkdir with EROFS or EACCES: what counts is that they are
		 * there. */
		if (mkdir(prefix, 0777) != 0) {
			int error = errno;
			if (stat(prefix, &st) != 0) {
				errno = error;
				status =
				        rv_fail_errno(RV_ERR_IO, "%s: cannot create directory", prefix);
			} else if (!S_ISDIR(st.st_mode)) {
				status = rv_fail(RV_ERR_IO, "%s: is not a directory", prefix);
			}
		}
		*p = end;
		if (!end)
			break;
	}
	rv_free(prefix);
	return status;
}

static void to_hex(const unsigned char *bytes, char hex[65]) {
	for (int i = 0; i < 32; i++)
		snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
}

void rv_sha256_hex(const void *data, size_t size, char hex[65]) {
	unsigned char digest[32];
	crypto_hash_sha256(digest, size ? data : (const void *)"", size);
	to_hex(digest, hex);
}

rv_status rv_file_sha256(const char *path, char hex[65]) {
	struct stat st;
	int fd;
	char *chunk;
	RV_TRY(open_regular(path, &fd, &st));
	rv_status status = rv_alloc_uninit((void **)&chunk, READ_CHUNK, 1, "read buffer");
	if (status == RV_OK) {
		crypto_hash_sha256_state state;
		unsigned char digest[32];
		ssize_t got;
		crypto_hash_sha256_init(&state);
		while ((got = read_some(fd, chunk, READ_CHUNK)) > 0)
			crypto_hash_sha256_update(&state, (unsigned char *)chunk, (size_t)got);
		crypto_hash_sha256_final(&state, digest);
		if (got < 0)
			status = rv_fd_fail(path, "read");
		else
			to_hex(digest, hex);
		rv_free(chunk);
	}
	close(fd);
	return status;
}

uint32_t rv_crc32(uint32_t crc, const void *data, size_t size) {
	/* zlib answers its start value for a NULL buffer, which would drop `crc`. */
	return size ? (uint32_t)crc32_z(crc, data, size) : crc;
}
