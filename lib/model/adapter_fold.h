/* Folding adapters into a model file: W + sum of factor * scale * B A in place of W. */
#ifndef RV_MODEL_ADAPTER_FOLD_H
#define RV_MODEL_ADAPTER_FOLD_H

#include "model/adapter.h"

typedef struct rv_fold_options {
	const rv_type_info *type;     /* of the matrices that change; NULL: as they are stored */
	const double *factors;        /* [n]; NULL: 1 each */
	int (*cancelled)(void *user); /* NULL: never */
	void *user;
} rv_fold_options;

typedef struct rv_fold_report {
	int64_t n_matrices;
	double change;   /* Frobenius norm of what was added, of all matrices together */
	double rounding; /* of what is stored minus what should be */
} rv_fold_report;

/* Writes `model` with the n adapters folded in as one file; all else is copied. Atomic. options: NULL
 * for defaults. report may be NULL. RV_ERR_MISMATCH: an adapter for another shape, or for the head of a
 * model whose head is its embedding; RV_ERR_UNSUPPORTED: a matrix of a type that is read only, by name;
 * RV_ERR_NUMERIC: a value that is not finite or that the type cannot hold. */
rv_status rv_adapter_fold(const char *path, const rv_model *model, rv_adapter *const *adapters, int n,
                          const rv_fold_options *options, rv_fold_report *report);

#endif
