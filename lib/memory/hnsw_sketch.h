/* Bounds of distances without the vectors.
 *
 * A vector's sketch is its part in a few leading directions of the data (an orthonormal basis V, found
 * by subspace iteration on a sample), in 8 bits each, and the lengths of what that leaves out:
 *
 *   x = V^T (scale codes + delta) + rest,   error >= |delta|, beyond >= |rest|, norm = |x|
 *
 * So x y is  scale_x scale_y codes_x codes_y  up to  error_x norm_y + norm_x error_y + error_x error_y
 * + beyond_x beyond_y  (Cauchy and Schwarz, term by term). What the bound of a distance alone shows to
 * be too far is never computed, and everything else is: results keep their bits. `error` includes a
 * margin for the rounding of f32 on both ways to the distance. Where the data have no leading
 * directions there is no sketch. */
#ifndef RV_MEMORY_HNSW_SKETCH_H
#define RV_MEMORY_HNSW_SKETCH_H

#include "base/threads.h"
#include "kernels/kernels.h"
#include "memory/metric.h"

#define RV_SKETCH_ROW_MAX 128

/* The end of a row; codes before it. One or two cache lines in all. */
typedef struct rv_sketch_tail {
	float scale, norm;
	rv_bf16 error, beyond; /* rounded up */
} rv_sketch_tail;
_Static_assert(sizeof(rv_sketch_tail) == 12, "layout of sketches");

typedef struct rv_sketch {
	int dims; /* row_bytes - 12 */
	int64_t row_bytes;
	int64_t dim, stride; /* of vectors, in floats */
	int64_t n_trained;   /* vectors there were when it was made */
	float *basis;        /* [dims, stride] */
	uint8_t *rows;       /* [capacity, row_bytes] */
	int64_t capacity;
	const rv_kernels *kernels;
} rv_sketch;

/* Learns from vectors: [n, stride], finite, zeros from dim on. *out is NULL when a sketch would
 * not pay. seed: of the first guess. */
rv_status rv_sketch_create(rv_sketch **out, const float *vectors, int64_t n, int64_t dim,
                           int64_t stride, int64_t capacity, uint64_t seed, const rv_kernels *kernels);
void rv_sketch_destroy(rv_sketch *sketch); /* accepts NULL */

/* row: at a multiple of 4. */
void rv_sketch_encode(const rv_sketch *sketch, const float *x, uint8_t *row);

typedef struct rv_sketch_bounds {
	float *lower, *upper; /* [n] of the distance; upper may be NULL */
	int32_t *sums;        /* [n], scratch */
	const int8_t **codes; /* [n], scratch */
} rv_sketch_bounds;
/* Between the vector of `row` and those of n slots. */
void rv_sketch_bound(const rv_sketch *sketch, rv_metric metric, const uint8_t *row,
                     const uint32_t *slots, int64_t n, const rv_sketch_bounds *out);

static inline uint8_t *rv_sketch_row(const rv_sketch *sketch, uint32_t slot) {
	return sketch->rows + (int64_t)slot * sketch->row_bytes;
}

#endif
