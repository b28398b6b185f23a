/* Files: read-only maps, whole-file reads, atomic writes, checksums. */
#ifndef RV_BASE_FILE_H
#define RV_BASE_FILE_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

/* A read-only map of a regular file. Directories, FIFOs and devices are refused by fstat without
 * being read. A file truncated by someone else while mapped would raise SIGBUS on access:
 * rv_map_check says whether it still has the mapped size and time stamp. */
typedef struct rv_map {
	const uint8_t *data;
	size_t size;
	char *path;
	int64_t mtime_ns;
	int fd;
} rv_map;

rv_status rv_map_open(rv_map *out, const char *path);
void rv_map_close(rv_map *map); /* accepts a zeroed map; may be called twice */
rv_status rv_map_check(const rv_map *map);

/* The whole file as bytes plus a terminating NUL (not counted in *size). RV_ERR_LIMIT above
 * max_bytes. rv_free'd by the caller. "-" reads standard input. */
rv_status rv_file_read(const char *path, size_t max_bytes, char **data, size_t *size);

/* Writing: bytes go to a temporary file beside `path`; commit syncs, renames over `path` and syncs
 * the directory; abort (or a failed commit) removes the temporary file and leaves `path` as it was.
 * Links are followed, the rights of a replaced file kept. Devices, FIFOs and descriptors (/dev/stdout,
 * /dev/fd/3) are written straight to. Short writes and EINTR are handled; after a failed write every
 * further call fails with the same reason. Buffered; not thread-safe. */
typedef struct rv_writer rv_writer;
rv_status rv_writer_open(rv_writer **out, const char *path);
rv_status rv_writer_write(rv_writer *w, const void *data, size_t size);
rv_status rv_writer_pad(rv_writer *w, size_t alignment); /* zero bytes up to a multiple */
uint64_t rv_writer_tell(const rv_writer *w);
rv_status rv_writer_commit(rv_writer *w); /* frees w, also on failure */
void rv_writer_abort(rv_writer *w);       /* frees w; accepts NULL */

/* One call of the above. */
rv_status rv_file_write(const char *path, const void *data, size_t size);

/* True when both paths name the same existing file. */
int rv_file_same(const char *a, const char *b);

/* Creates a directory and its parents (mkdir -p). */
rv_status rv_mkdirs(const char *path);

/* SHA-256 of a buffer or file as 64 hex digits and NUL. */
void rv_sha256_hex(const void *data, size_t size, char hex[65]);
rv_status rv_file_sha256(const char *path, char hex[65]);

uint32_t rv_crc32(uint32_t crc, const void *data, size_t size); /* zlib's; start with 0 */

#endif
