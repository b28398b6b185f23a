/* Merging adapters of one model into one. What is merged are the changes D_i = scale_i B_i A_i of each
 * projection, not the factors (a product of merged factors is no merge of products); an adapter that
 * leaves a projection alone changes it by 0. With weights w_i and scale l:
 *
 *   linear     sum w_i D_i / sum w_i (Wortsman et al. 2022, arXiv:2203.05482)
 *   task       l sum w_i D_i: task arithmetic (Ilharco et al. 2023, arXiv:2212.04089)
 *   slerp      of two: along the arc between D_0 and D_1, seen as vectors, at t = w_1 / (w_0 + w_1)
 *              (Shoemake 1985); on the line where they are nearly parallel or one is 0
 *   ties       of each D_i the largest elements stay (a share `density`), the others become 0; the sign
 *              of an element is that of sum w_i D_i, and those of that sign are averaged with their
 *              weights, times l (Yadav et al. 2023, arXiv:2306.01708)
 *   dare       each element of each D_i stays with probability `density`, divided by it, then task (Yu
 *              et al. 2024, arXiv:2311.03099)
 *   dare-ties  the same dropping, then signs and averages as in ties
 *
 * The first three stay in the space of the factors: exact at the sum of their ranks. A lower rank, and
 * the others, whose result has full rank, are truncated (learn/truncate.h); the report says what that
 * loses.
 *
 * Pure; deterministic for a seed, at any number of threads. */
#ifndef RV_LEARN_ADAPTER_MERGE_H
#define RV_LEARN_ADAPTER_MERGE_H

#include "base/threads.h"
#include "model/adapter.h"

typedef enum rv_merge {
	RV_MERGE_LINEAR,
	RV_MERGE_TASK,
	RV_MERGE_SLERP,
	RV_MERGE_TIES,
	RV_MERGE_DARE,
	RV_MERGE_DARE_TIES,
	RV_MERGE_COUNT
} rv_merge;
extern const char *const rv_merge_names[RV_MERGE_COUNT + 1]; /* ends with NULL */

#define RV_MERGE_MAX 16 /* adapters */

typedef struct rv_merge_options {
	rv_merge method;
	const double *weights; /* [n], finite, not below 0 and not all 0 but for task and dare; NULL: 1
	                          each */
	double scale;          /* of task, ties, dare and dare-ties; default 1 */
	double density;        /* share of elements kept, in (0, 1]; 0: 0.2 for ties, else 0.5 */
	int64_t rank;          /* largest of the result (a sum of products has no higher one than they
	                          have together); 0: the sum of the adapters' */
	uint64_t seed;         /* of what dare drops */
	rv_threads *threads;   /* NULL: the caller alone */
} rv_merge_options;
rv_merge_options rv_merge_defaults(void);

typedef struct rv_merge_report {
	int64_t n_matrices;
	int64_t rank;     /* largest of a result */
	double norm;      /* Frobenius, of the merged changes of all matrices together */
	double lost;      /* Frobenius norm of what truncation left out, likewise */
	double conflicts; /* ties, dare-ties: share of the elements kept by several adapters on whose
	                     sign they disagree; else NaN */
} rv_merge_report;

/* adapters: n in 2..RV_MERGE_MAX (of slerp 2), all of the model's shape. *out: one reference, scale 1.
 * report may be NULL. RV_ERR_INVALID: options; RV_ERR_MISMATCH: an adapter of another shape;
 * RV_ERR_NUMERIC: the result is not finite. */
rv_status rv_adapter_merge(rv_adapter **out, const rv_model *model, const char *name,
                           rv_adapter *const *adapters, int n, const rv_merge_options *options,
                           rv_merge_report *report);

/* What is merged of one matrix, for tests and tables: changes [n][size] become the merged one in out
 * [size]; changes may be overwritten. stream: picks what dare drops. *conflicts, *kept_twice: elements,
 * added to. */
void rv_merge_dense(const rv_merge_options *options, float *const *changes, const double *weights,
                    int n, int64_t size, uint64_t stream, float *out, int64_t *conflicts,
                    int64_t *kept_twice);

#endif
