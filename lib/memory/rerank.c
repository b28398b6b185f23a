#include "memory/rerank.h"

#include "base/mem.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

enum { BATCH = 32 };

typedef struct ranked {
	float distance;
	int64_t row;
} ranked;

static int nearer(const void *a, const void *b) {
	const ranked *x = a, *y = b;
	if (x->distance != y->distance)
		return x->distance < y->distance ? -1 : 1;
	return (x->row > y->row) - (x->row < y->row);
}

/* 1 - cos from the length of both, each to be taken once: the query's is given. */
static float cosine_distance(const rv_kernels *k, float product, float query_square, const float *row,
                             int dim) {
	float sums[3] = {product, query_square, 0};
	k->dot_f32(sums + 2, row, row, dim);
	return 1 - rv_cosine_similarity(sums);
}

static void exact(const rv_kernels *k, rv_metric metric, const rv_originals *from, const float *query,
                  float query_square, const int64_t *candidates, float *distances, int64_t n) {
	const float *rows[BATCH];
	for (int64_t i = 0; i < n; i++)
		rows[i] = from->rows + (size_t)candidates[i] * (size_t)from->dim;
	if (metric == RV_METRIC_L2) {
		k->l2_rows_f32(distances, query, rows, n, from->dim);
		return;
	}
	k->dot_rows_f32(distances, query, rows, n, from->dim);
	for (int64_t i = 0; i < n; i++)
		distances[i] =
		        metric == RV_METRIC_INNER
		                ? -distances[i]
		                : cosine_distance(k, distances[i], query_square, rows[i], from->dim);
}

rv_status rv_rerank(const rv_kernels *kernels, rv_metric metric, const rv_originals *originals,
                    const float *query, int64_t *candidates, float *distances, int64_t n, int64_t k,
                    int64_t *kept) {
	ranked *order;
	float square;
	*kept = 0;
	if (n <= 0 || k <= 0)
		return RV_OK;
	kernels->dot_f32(&square, query, query, originals->dim);
	if (!isfinite(square) || (metric == RV_METRIC_COSINE && square < FLT_MIN))
		return rv_fail(RV_ERR_NUMERIC, "rerank: the query is not finite, or has no length");
	for (int64_t i = 0; i < n; i++) {
		if (candidates[i] < 0 || candidates[i] >= originals->n)
			return rv_fail(RV_ERR_INVALID, "rerank: row %lld of %lld",
			               (long long)candidates[i], (long long)originals->n);
	}
	RV_TRY(RV_ALLOC(&order, n, "candidates"));
	for (int64_t i = 0; i < n; i += BATCH)
		exact(kernels, metric, originals, query, square, candidates + i, distances + i,
		      n - i < BATCH ? n - i : BATCH);
	for (int64_t i = 0; i < n; i++) {
		if (isnan(distances[i])) {
			rv_free(order);
			return rv_fail(RV_ERR_NUMERIC, "rerank: row %lld has no distance",
			               (long long)candidates[i]);
		}
		order[i] = (ranked){distances[i], candidates[i]};
	}
	qsort(order, (size_t)n, sizeof *order, nearer);
	*kept = k < n ? k : n;
	for (int64_t i = 0; i < *kept; i++) {
		candidates[i] = order[i].row;
		distances[i] = order[i].distance;
	}
	rv_free(order);
	return RV_OK;
}
