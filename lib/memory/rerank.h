/* Exact order for the best candidates of an approximate search: distances of the original vectors, kept
 * in memory or in a mapped file. */
#ifndef RV_MEMORY_RERANK_H
#define RV_MEMORY_RERANK_H

#include "base/status.h"
#include "kernels/kernels.h"
#include "memory/metric.h"

#include <stdint.h>

/* Rows of f32 as they were given (cosine: of any length but 0). Not owned; must not change meanwhile.
 */
typedef struct rv_originals {
	const float *rows; /* [n, dim], row-major */
	int64_t n;
	int dim;
} rv_originals;

/* Orders n candidate rows (each in [0, originals.n)) by their exact distance to query ([dim]) and keeps
 * the first k: candidates[0..*kept) and distances[0..*kept), nearest first, equally near ones in
 * ascending row; *kept is min(n, k). candidates: [n] in and out; distances: [n], of which the rest is
 * scratch. RV_ERR_INVALID for a row that is not there, RV_ERR_NUMERIC for a query or a row that has no
 * distance.
 */
rv_status rv_rerank(const rv_kernels *kernels, rv_metric metric, const rv_originals *originals,
                    const float *query, int64_t *candidates, float *distances, int64_t n, int64_t k,
                    int64_t *kept);

#endif
