/* Small files of learnt numbers: a magic word, a version, the size and the CRC-32 of what follows, then
 * sections, each its size and its bytes. Little-endian, as the machines this runs on.
 *
 * Reading believes nothing: magic, version, size and sum first, then each section against the bytes
 * left. */
#ifndef RV_LEARN_SEALED_H
#define RV_LEARN_SEALED_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#define RV_SEALED_MAGIC 8 /* bytes */

typedef struct rv_sealed_out {
	char *data;
	size_t size, cap;
	rv_status status; /* the first failure; later calls do nothing */
} rv_sealed_out;

void rv_sealed_put(rv_sealed_out *out, const void *data, size_t size); /* one section */
/* Writes the file (atomically) and frees `out`; the first failure of a put, or of writing. */
rv_status rv_sealed_write(rv_sealed_out *out, const char *path, const char magic[RV_SEALED_MAGIC],
                          uint32_t version);

typedef struct rv_sealed_in {
	char *data; /* the whole file, owned */
	size_t size, at;
	const char *name; /* of the file, borrowed: stands in messages */
} rv_sealed_in;

/* Bytes: copied. Path: read. RV_ERR_FORMAT (foreign, cut off, changed), RV_ERR_UNSUPPORTED (version).
 */
rv_status rv_sealed_open(rv_sealed_in *in, const char *path, const char magic[RV_SEALED_MAGIC],
                         uint32_t version);
rv_status rv_sealed_open_memory(rv_sealed_in *in, const void *data, size_t size, const char *name,
                                const char magic[RV_SEALED_MAGIC], uint32_t version);
void rv_sealed_close(rv_sealed_in *in); /* accepts a zeroed one */
/* The next section, borrowed from the file; `what` names it in messages. */
rv_status rv_sealed_next(rv_sealed_in *in, const char *what, const char **data, size_t *size);
/* The next section, which must have this size, copied to `out`. */
rv_status rv_sealed_get(rv_sealed_in *in, const char *what, void *out, size_t size);
/* No section is left. */
rv_status rv_sealed_end(const rv_sealed_in *in);

#endif
