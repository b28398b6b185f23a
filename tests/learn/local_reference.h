/* The local objective written out in doubles, straight from its definition. */
#ifndef RV_TESTS_LEARN_LOCAL_REFERENCE_H
#define RV_TESTS_LEARN_LOCAL_REFERENCE_H

#include "learn/local_objective.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>

typedef struct local_reference {
	const rv_model *model;
	const int32_t *ids;
	const float *saved; /* NULL: lens */
	const float *at;    /* state the saved logits belong to */
	int64_t n_top, chosen;
} local_reference;

static inline void reference_logits(const local_reference *r, const double *h, double *z) {
	const rv_hparams *hp = rv_model_hparams(r->model);
	const rv_weight *w = rv_model_weight(r->model, RV_OUTPUT, 0);
	const float *norm = rv_model_weight(r->model, RV_OUTPUT_NORM, 0)->data;
	float *row = (float *)malloc((size_t)hp->n_embd * sizeof *row);
	double squares = 0;
	for (int64_t k = 0; k < hp->n_embd; k++)
		squares += h[k] * h[k];
	const double scale = 1 / sqrt(squares / (double)hp->n_embd + hp->rms_eps);
	for (int64_t i = 0; i < r->n_top; i++) {
		rv_kernels_for(RV_LEVEL_REF)
		        ->type[w->type]
		        .dequantize(row, (const char *)w->data + (size_t)r->ids[i] * w->row_bytes,
		                    hp->n_embd);
		z[i] = 0;
		for (int64_t k = 0; k < hp->n_embd; k++)
			z[i] += (double)row[k] * h[k] * scale * (double)norm[k];
	}
	free(row);
}

static inline double reference_loss(const local_reference *r, const double *h) {
	double z[RV_LOCAL_MAX_TOP], z0[RV_LOCAL_MAX_TOP], most = -INFINITY, sum = 0;
	const int64_t n = rv_model_hparams(r->model)->n_embd;
	reference_logits(r, h, z);
	if (r->saved) {
		double *at = (double *)malloc((size_t)n * sizeof *at);
		for (int64_t k = 0; k < n; k++)
			at[k] = (double)r->at[k];
		reference_logits(r, at, z0);
		for (int64_t i = 0; i < r->n_top; i++)
			z[i] += (double)r->saved[i] - z0[i];
		free(at);
	}
	for (int64_t i = 0; i < r->n_top; i++)
		most = z[i] > most ? z[i] : most;
	for (int64_t i = 0; i < r->n_top; i++)
		sum += exp(z[i] - most);
	return most + log(sum) - z[r->chosen];
}

#endif
