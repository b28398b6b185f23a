/* Vector codes: vectors in few bytes, and distances from a query or a code to codes.
 *
 *   kind     bytes of 768 dimensions   a component becomes
 *   sq8      776                       8 bits, one scale a vector
 *   int4     392                       4 bits, one scale a vector (that of least squared error)
 *   binary   104                       its sign, after a rotation; one length a vector
 *   pq       96                        product quantization: sub-vectors of 8 components become the
 *                                      number of the nearest of 256 centroids (Jegou et al. 2011)
 *
 * All but pq code the difference from the mean of the training vectors and keep, beside the code, what
 * makes distances linear in one integer sum: a query costs dim multiplications of 8-bit integers, fewer
 * bytes, no table. The query itself is rounded to 8 bits in all of them but pq, which looks up exact
 * partial distances.
 *
 * Distances are metric.h's and approximate: cosine is taken of vectors scaled to length 1 when they are
 * encoded. rv_rerank (rerank.h) orders the best of them by the original vectors.
 *
 * A codec is written to by train alone; everything else may run on many threads. The same options,
 * vectors and seed give the same codec and codes on any number of threads; distances have the same bits
 * whether asked one at a time or many.
 *
 * Errors: a component that is not finite, RV_ERR_NUMERIC; a cosine vector of length 0 or beyond f32,
 * RV_ERR_NUMERIC; a codec that was not trained, RV_ERR_INVALID; fewer training vectors than centroids
 * (pq), RV_ERR_INVALID. The message names the row where there are rows. */
#ifndef RV_MEMORY_CODEC_H
#define RV_MEMORY_CODEC_H

#include "base/file.h"
#include "base/status.h"
#include "base/threads.h"
#include "kernels/kernels.h"
#include "memory/metric.h"

#include <stddef.h>
#include <stdint.h>

/* X(enumerator, name) */
#define RV_CODE_TABLE(X)                                                                               \
	X(SQ8, "sq8")                                                                                  \
	X(INT4, "int4")                                                                                \
	X(BINARY, "binary")                                                                            \
	X(PQ, "pq")

typedef enum rv_code_kind {
#define RV_CODE_ENUM(name, text) RV_CODE_##name,
	RV_CODE_TABLE(RV_CODE_ENUM)
#undef RV_CODE_ENUM
	        RV_CODE_COUNT
} rv_code_kind;

const char *rv_code_name(rv_code_kind kind); /* "sq8" */
/* RV_CODE_COUNT when unknown. */
rv_code_kind rv_code_by_name(const char *name);

typedef struct rv_codec rv_codec;

#define RV_CODEC_MAX_DIM 16384 /* calls take 12 bytes of stack a dimension */
#define RV_PQ_CENTROIDS 256

typedef struct rv_codec_options {
	rv_code_kind kind;
	rv_metric metric;
	int dim;       /* 1..RV_CODEC_MAX_DIM */
	int pq_m;      /* pq: sub-spaces, a divisor of dim; 0: of 8 components each if dim allows */
	uint64_t seed; /* of pq's centroids and binary's rotation */
	const rv_kernels *kernels; /* NULL: of the strongest level */
} rv_codec_options;

/* sq8, cosine; dim is the caller's to set. */
rv_codec_options rv_codec_defaults(void);

rv_status rv_codec_create(rv_codec **out, const rv_codec_options *options);
void rv_codec_destroy(rv_codec *codec); /* accepts NULL */
const rv_codec_options *rv_codec_get_options(const rv_codec *codec);

/* x: [n, dim] row-major, n >= 1 (pq: >= 256; some thousands do). threads: NULL is the caller alone. On
 * failure the codec is as it was. Training again makes codes of before invalid. */
rv_status rv_codec_train(rv_codec *codec, const float *x, int64_t n, rv_threads *threads);
int rv_codec_is_trained(const rv_codec *codec);

/* ---- codes: rv_codec_code_bytes each, at addresses that are a multiple of 4 ---- */

size_t rv_codec_code_bytes(const rv_codec *codec); /* a multiple of 4 */
/* x: [dim]. Every byte of the code is written. */
rv_status rv_codec_encode(const rv_codec *codec, const float *x, uint8_t *code);
/* codes: [n, code_bytes]. All rows are checked first. */
rv_status rv_codec_encode_batch(const rv_codec *codec, const float *x, int64_t n, uint8_t *codes,
                                rv_threads *threads);
/* The vector a code stands for: [dim], with cosine about of length 1. */
void rv_codec_decode(const rv_codec *codec, const uint8_t *code, float *x);
/* RV_ERR_FORMAT for bytes that no encode wrote (a scale that is not finite or negative): for codes
 * read from files. */
rv_status rv_codec_check_code(const rv_codec *codec, const uint8_t *code);

/* ---- distances ---- */

/* Bytes of a prepared query, to lie at a multiple of 64. */
size_t rv_codec_query_bytes(const rv_codec *codec);
rv_status rv_codec_prepare(const rv_codec *codec, const float *query, void *prepared);
/* The same for the vector a code stands for, without its decoding where that saves time: for building
 * graphs. Distances then differ from rv_codec_code_distance by rounding alone. */
rv_status rv_codec_prepare_code(const rv_codec *codec, const uint8_t *code, void *prepared);

float rv_codec_distance(const rv_codec *codec, const void *prepared, const uint8_t *code);
/* out[i] = distance to codes[i], which may lie anywhere; one is fetched while those before it are
 * computed. */
void rv_codec_distances(const rv_codec *codec, const void *prepared, const uint8_t *const *codes,
                        int64_t n, float *out);
/* Symmetric. */
float rv_codec_code_distance(const rv_codec *codec, const uint8_t *a, const uint8_t *b);

/* ---- files ---- */

/* Options and what was learned, little-endian, with a checksum; the writer must stand at a multiple of
 * 4. */
rv_status rv_codec_save(const rv_codec *codec, rv_writer *writer);
/* From `size` bytes (of any alignment; nothing is kept of them), of which *used are the codec's. place
 * is for messages. RV_ERR_FORMAT for anything save does not write. kernels: NULL is the strongest. */
rv_status rv_codec_load(rv_codec **out, const uint8_t *data, size_t size, size_t *used,
                        const rv_kernels *kernels, const char *place);

#endif
