#include "learn/train_teacher.h"

#include "base/mem.h"
#include "engine/blas.h"
#include "learn/trainer_internal.h"

static rv_status check(const rv_param *p, const rv_adapter_part *part, const rv_adapter *adapter) {
	if (part->a.cols == p->cols && part->b.rows == p->rows)
		return RV_OK;
	return rv_fail(RV_ERR_MISMATCH, "%s: '%s' is of another shape than the teacher's",
	               rv_adapter_path(adapter), p->name);
}

/* A in f32: [rank, cols]. */
static rv_status decode_a(const rv_adapter_part *part, float **out) {
	const rv_kernels *k = rv_kernels_for(RV_LEVEL_REF);
	const rv_weight *a = &part->a;
	RV_TRY(RV_ALLOC(out, a->rows * a->cols, "factor of an adapter"));
	for (int64_t r = 0; r < a->rows; r++)
		k->type[a->type].dequantize(*out + r * a->cols,
		                            (const char *)a->data + (size_t)r * a->row_bytes, a->cols);
	return RV_OK;
}

/* The part of a parameter that the adapter changes, or NULL. */
static const rv_adapter_part *part_of(const rv_param *p, const rv_adapter *adapter) {
	const int is_projection = p->layer >= 0 || p->role == RV_OUTPUT;
	return p->part == RV_PART_WEIGHT && is_projection ? rv_adapter_find(adapter, p->role, p->layer)
	                                                  : NULL;
}

rv_status rv_trainer_adapt_teacher(rv_trainer *t, const rv_adapter *adapter, double scale) {
	rv_train_teacher *teacher = t->teacher;
	if (!teacher)
		return rv_fail(RV_ERR_INVALID, "training: no teacher to adapt");
	const rv_train_layout *l = &teacher->layout;
	for (int64_t i = 0; i < l->n_params; i++) {
		const rv_adapter_part *part = part_of(&l->params[i], adapter);
		if (part)
			RV_TRY(check(&l->params[i], part, adapter));
	}
	for (int64_t i = 0; i < l->n_params; i++) {
		const rv_param *p = &l->params[i];
		const rv_adapter_part *part = part_of(p, adapter);
		float *a;
		if (!part)
			continue;
		RV_TRY(decode_a(part, &a));
		/* b_columns is B^T: [rank, rows] */
		rv_blas_sgemm(1, 0, p->rows, p->cols, part->a.rows, (float)scale * part->scale,
		              part->b_columns, p->rows, a, p->cols, 1, teacher->weights + p->offset,
		              p->cols);
		rv_free(a);
	}
	return RV_OK;
}
