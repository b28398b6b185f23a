/* Exact nearest neighbours: every row is looked at. What an index is held against, in speed and truth.
 *
 *   scalar  plain C, one row after the other
 *   simd    the strongest kernels, one row after the other
 *   blas    blocks of queries times blocks of rows by SGEMM; what comes near is computed again by the
 *           kernels of simd, so that its distances have no cancellation in them
 *
 * Distances are metric.h's. Of equally near rows the lower number is nearer. */
#ifndef RV_MEMORY_BRUTE_H
#define RV_MEMORY_BRUTE_H

#include "base/status.h"
#include "base/threads.h"
#include "memory/metric.h"

#include <stdint.h>

/* X(enumerator, name) */
#define RV_BRUTE_TABLE(X)                                                                              \
	X(SCALAR, "scalar")                                                                            \
	X(SIMD, "simd")                                                                                \
	X(BLAS, "blas")

typedef enum rv_brute_kind {
#define RV_BRUTE_ENUM(name, text) RV_BRUTE_##name,
	RV_BRUTE_TABLE(RV_BRUTE_ENUM)
#undef RV_BRUTE_ENUM
	        RV_BRUTE_COUNT
} rv_brute_kind;

const char *rv_brute_name(rv_brute_kind kind);

typedef struct rv_brute rv_brute;

/* rows: [n, dim] row-major, borrowed and not to change; n >= 1. RV_ERR_NUMERIC names a row that is not
 * finite or, for cosine, has length 0; RV_ERR_UNSUPPORTED: blas where OpenBLAS is not installed. */
rv_status rv_brute_create(rv_brute **out, rv_brute_kind kind, rv_metric metric, const float *rows,
                          int64_t n, int dim);
void rv_brute_destroy(rv_brute *brute); /* accepts NULL */

/* The min(k, n) nearest rows of each query, nearest first: rows and distances are [n_queries, k],
 * filled up with -1 and infinity; distances may be NULL. threads: NULL is the caller alone. Any number
 * of threads may search one rv_brute. */
rv_status rv_brute_search(const rv_brute *brute, const float *queries, int64_t n_queries, int64_t k,
                          int32_t *rows, float *distances, rv_threads *threads);

/* How much of the truth was found, as ann-benchmarks counts it: of the first k found, those whose exact
 * distance is at most the k-th true one + epsilon, as a share of k, so that any of equally near ones
 * counts. A row found twice counts once.
 *   found: [n_queries, stride_found], -1 where nothing was found; rows of `brute`
 *   truth: [n_queries, stride_truth] true distances, ascending
 * epsilon: RV_RECALL_EPSILON. Distances are computed anew. share: [n_queries], may be NULL.
 * ann-benchmarks measures cosine as this does and l2 unsquared: so does this, for the comparison. */
#define RV_RECALL_EPSILON 1e-3
rv_status rv_brute_recall(const rv_brute *brute, const float *queries, int64_t n_queries, int64_t k,
                          const int32_t *found, int64_t stride_found, const float *truth,
                          int64_t stride_truth, double epsilon, double *mean, double *share);

#endif
