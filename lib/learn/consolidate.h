/* Consolidation: several adapters of one model become one of bounded rank (MicroLoRA into BaseLoRA).
 *
 *   svd  the weighted sum of products sum_i w_i s_i B_i A_i of each matrix, truncated to `rank`: the
 *        best approximation there is in the Frobenius norm (Eckart and Young 1936). The full matrix is
 *        never formed: QR of the stacked factors, SVD of the small product of the triangles, all in
 *        float64. Result: B = U sqrt(S), A = sqrt(S) V^T, scale 1. A matrix keeps fewer than `rank`
 *        columns when the sum has fewer; a sum that is 0 (every B is) keeps A of the first adapter
 *        that has the matrix, with B = 0.
 *   ema  the factors are averaged, A = sum_i w_i A_i and B = sum_i w_i (s_i / s) B_i with the scale s
 *        of the first adapter that has the matrix (documented: w 0.99 of the base, 0.01 of the new one:
 *        RV_EMA_BASE, RV_EMA_NEW). Factors of lower rank are filled up with zeros; an adapter without
 *        the matrix counts as zero. The product of averages is not the average of products: its
 *        distance from what svd approximates is in the report.
 *
 * Pure functions; deterministic. */
#ifndef RV_LEARN_CONSOLIDATE_H
#define RV_LEARN_CONSOLIDATE_H

#include "model/adapter.h"

typedef enum rv_consolidation {
	RV_CONSOLIDATE_SVD,
	RV_CONSOLIDATE_EMA,
	RV_CONSOLIDATE_COUNT
} rv_consolidation;
extern const char *const rv_consolidation_names[]; /* "svd", "ema", NULL */

#define RV_CONSOLIDATE_RANK 8
#define RV_EMA_BASE 0.99
#define RV_EMA_NEW 0.01

typedef struct rv_consolidate_report {
	int64_t n_matrices;
	int64_t rank;       /* largest of a result */
	double norm;        /* Frobenius, of the weighted sums of products of all matrices together */
	double error;       /* Frobenius, of sum minus result, of all matrices together */
	double bound;       /* svd: from the singular values that were cut off and the rounding of the
	                     * factors to f32; error is at most this. ema: the error, none is known */
	double worst_share; /* largest error / norm of one matrix, */
	rv_role worst_role; /* and which */
	int64_t worst_layer;
} rv_consolidate_report;

/* adapters: n, all of the model's shape, in any mixture of layers, roles and ranks; weights: n. rank:
 * largest of the result, 1..RV_ADAPTER_MAX_RANK; ema refuses factors of a higher one. *out: one
 * reference. report may be NULL. RV_ERR_MISMATCH: another shape; RV_ERR_INVALID: n < 1, rank, a weight
 * that is not finite; RV_ERR_NUMERIC: the result is not finite (the matrix is named). */
rv_status rv_consolidate(rv_adapter **out, rv_consolidation method, const rv_model *model,
                         const char *name, rv_adapter *const *adapters, const double *weights, int n,
                         int64_t rank, rv_consolidate_report *report);

#endif
