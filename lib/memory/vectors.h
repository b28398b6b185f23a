/* Files of vectors in the form of the TEXMEX corpus (Jegou et al. 2011), told apart by their names:
 * .fvecs (f32), .ivecs (i32, mostly neighbours), .bvecs (u8). A row is its dimension as a 32-bit number
 * and its components, little-endian; every row of a file has the same dimension.
 *
 * Errors: RV_ERR_FORMAT names the file, the row and its byte: a dimension that is not in
 * 1..RV_VECTORS_MAX_DIM or differs from the first row's, a last row that is cut off, no rows at all.
 * Components may be anything: who uses them refuses what is not finite. */
#ifndef RV_MEMORY_VECTORS_H
#define RV_MEMORY_VECTORS_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#define RV_VECTORS_MAX_DIM 65536

/* X(enumerator, ending, C type of a component) */
#define RV_VECTORS_TABLE(X)                                                                            \
	X(F32, ".fvecs", float)                                                                        \
	X(I32, ".ivecs", int32_t)                                                                      \
	X(U8, ".bvecs", uint8_t)

typedef enum rv_vectors_kind {
#define RV_VECTORS_ENUM(name, ending, type) RV_VECTORS_##name,
	RV_VECTORS_TABLE(RV_VECTORS_ENUM)
#undef RV_VECTORS_ENUM
	        RV_VECTORS_COUNT
} rv_vectors_kind;

/* RV_VECTORS_COUNT when the name ends otherwise. */
rv_vectors_kind rv_vectors_kind_of(const char *path);

typedef struct rv_vectors {
	int64_t n;
	int dim;
	void *data; /* [n, dim] of the kind's component type */
} rv_vectors;

void rv_vectors_free(rv_vectors *v); /* accepts a zeroed one; zeroes it */

/* The first max_rows rows (0: all) of a file; the whole file is checked. */
rv_status rv_vectors_read(rv_vectors *out, const char *path, rv_vectors_kind kind, int64_t max_rows);
/* The same of bytes in memory; `place` stands in messages as the file. */
rv_status rv_vectors_parse(rv_vectors *out, const uint8_t *data, size_t size, const char *place,
                           rv_vectors_kind kind, int64_t max_rows);
/* .fvecs, or .bvecs widened, by the name's ending, as f32. RV_ERR_UNSUPPORTED for another ending. */
rv_status rv_vectors_read_f32(rv_vectors *out, const char *path, int64_t max_rows);

/* Replaces the file whole. data: [n, dim], n >= 1. */
rv_status rv_vectors_write(const char *path, rv_vectors_kind kind, const void *data, int64_t n,
                           int dim);

#endif
