/* HNSW indexes in files, and what an index holds, as something to compare.
 *
 * File, little-endian: a header (magic, version, digest, options, counts), a table of sections, and the
 * sections: the arrays of hnsw_internal.h as they lie in memory, from a multiple of 64 bytes on, of
 * 4096 where they are that long. The digest (BLAKE2b, 256 bits) covers every byte behind it but those
 * of the codec that ends an index of codes, which has a checksum of its own.
 *
 * Loading believes nothing: the digest first, then each option, count and section against the bytes
 * that are there, then every link, level, degree, tree edge, id and vector. What is wrong is named with
 * the file and the place: RV_ERR_FORMAT for a file that is foreign, cut off, changed or inconsistent,
 * RV_ERR_UNSUPPORTED for a newer version, RV_ERR_MISMATCH where the caller expected something else. */
#ifndef RV_MEMORY_HNSW_FILE_H
#define RV_MEMORY_HNSW_FILE_H

#include "memory/hnsw.h"

#define RV_HNSW_FILE_VERSION 1

/* Replaces the file whole (temporary file, sync, rename). Searches go on meanwhile; writers wait. */
rv_status rv_hnsw_save(rv_hnsw *index, const char *path);

typedef struct rv_hnsw_load_options {
	int64_t capacity; /* at least; the file's when it is larger */
	int map; /* share the file's pages until they are written to, which leaves the file as it is;
	          * the file must then not be cut short while the index lives. 0: read into memory,
	          * which lies in huge pages and is searched faster. */
	/* Receives the codec of an index that has codes, the caller's to destroy after the index. NULL:
	 * such an index is refused. */
	rv_codec **codec;
	rv_threads *threads;       /* that sketches, which are not kept, are made anew with; or NULL */
	const rv_kernels *kernels; /* NULL: of the strongest level */
} rv_hnsw_load_options;

/* options: NULL for none. */
rv_status rv_hnsw_load(rv_hnsw **out, const char *path, const rv_hnsw_load_options *options);
/* The same of bytes in memory, which are copied; `place` stands in messages as the file. */
rv_status rv_hnsw_load_memory(rv_hnsw **out, const void *data, size_t size, const char *place,
                              const rv_hnsw_load_options *options);

/* ---- what is in an index ---- */

/* Of a set of (id, vector): how many, and sums over all of hashes of the ids and of ids with vectors.
 * Two sets in any order are equal when these are, but for chance (2^-64) or intent. */
typedef struct rv_hnsw_identity {
	uint64_t n, ids, vectors;
} rv_hnsw_identity;

/* Of the live vectors. Searches go on meanwhile; writers wait. */
rv_hnsw_identity rv_hnsw_identify(rv_hnsw *index);
/* Adds one as the index would keep it (cosine: scaled). Begin with a zeroed identity. Errors: those of
 * rv_hnsw_add for a vector. */
rv_status rv_hnsw_identity_add(rv_hnsw_identity *identity, rv_hnsw *index, uint64_t id,
                               const float *vector);
static inline int rv_hnsw_identity_equal(const rv_hnsw_identity *a, const rv_hnsw_identity *b) {
	return a->n == b->n && a->ids == b->ids && a->vectors == b->vectors;
}

#endif
