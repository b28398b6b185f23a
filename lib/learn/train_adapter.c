/* Adapters in and out of a trainer's memory. */
#include "base/mem.h"
#include "learn/trainer_internal.h"

#include <string.h>

void rv_train_take_adapter(rv_train_layout *l, float *weights, const rv_adapter *adapter) {
	const rv_kernels *k = rv_kernels_for(RV_LEVEL_REF);
	for (int64_t i = rv_train_first_adapter(l); i < l->n_params; i++) {
		rv_param *p = &l->params[i];
		const rv_adapter_part *part = rv_adapter_find(adapter, p->role, p->layer);
		const rv_weight *w = p->part == RV_PART_LORA_A ? &part->a : &part->b;
		p->scale = (double)part->scale;
		for (int64_t r = 0; r < p->rows; r++)
			k->type[w->type].dequantize(weights + p->offset + r * p->cols,
			                            (const char *)w->data + (size_t)r * w->row_bytes,
			                            p->cols);
	}
	l->lora_scale = l->params[rv_train_first_adapter(l)].scale;
}

static rv_status no_adapter(void) {
	return rv_fail(RV_ERR_INVALID, "training: all weights are trained, there is no adapter");
}

rv_status rv_train_matrices(const rv_trainer *t, rv_adapter_matrix **parts, int *n) {
	const rv_train_layout *l = &t->layout;
	const int64_t first = rv_train_first_adapter(l), count = (l->n_params - first) / 2;
	if (count == 0)
		return no_adapter();
	RV_TRY(RV_ALLOC(parts, count, "adapter"));
	for (int64_t i = 0; i < count; i++) {
		const rv_param *a = &l->params[first + 2 * i], *b = a + 1;
		(*parts)[i] = (rv_adapter_matrix){.role = a->role,
		                                  .layer = a->layer,
		                                  .rank = a->rows,
		                                  .a = t->weights + a->offset,
		                                  .b = t->weights + b->offset,
		                                  .scale = (float)a->scale};
	}
	*n = (int)count;
	return RV_OK;
}

rv_status rv_trainer_adapter(rv_adapter **out, const rv_trainer *t, const rv_model *model,
                             const char *name) {
	rv_adapter_matrix *parts;
	int n;
	*out = NULL;
	RV_TRY(rv_train_matrices(t, &parts, &n));
	rv_status st = rv_adapter_create(out, model, name, parts, n);
	rv_free(parts);
	return st;
}

/* Has the adapter the matrices of the layout, and no others? */
static rv_status check_start(const rv_train_layout *l, const rv_adapter *start) {
	int64_t n_params = 0;
	for (int64_t i = rv_train_first_adapter(l); i < l->n_params; i++) {
		const rv_param *p = &l->params[i];
		const rv_adapter_part *part = rv_adapter_find(start, p->role, p->layer);
		const rv_weight *w = !part ? NULL : p->part == RV_PART_LORA_A ? &part->a : &part->b;
		if (!w || w->rows != p->rows || w->cols != p->cols)
			return rv_fail(RV_ERR_MISMATCH,
			               "%s: the trainer's '%s' is missing or of another shape",
			               rv_adapter_path(start), p->name);
		n_params += p->rows * p->cols;
	}
	if (n_params != rv_adapter_n_params(start))
		return rv_fail(RV_ERR_MISMATCH, "%s: has matrices that the trainer has not",
		               rv_adapter_path(start));
	return RV_OK;
}

rv_status rv_trainer_restart(rv_trainer *t, const rv_adapter *start, int64_t seed,
                             const rv_schedule *schedule) {
	const size_t bytes = (size_t)rv_trainer_n_active(t) * sizeof(float);
	rv_trainer_options o = t->options;
	o.seed = seed;
	o.schedule = schedule ? *schedule : o.schedule;
	if (t->layout.lora_rank == 0)
		return no_adapter();
	RV_TRY(rv_train_check_options(&o));
	if (start)
		RV_TRY(check_start(&t->layout, start));
	t->options = o;
	if (start)
		rv_train_take_adapter(&t->layout, t->weights, start);
	else
		rv_train_random(&t->layout, t->weights, &o, rv_train_first_adapter(&t->layout));
	memset(t->moment1, 0, bytes);
	memset(t->moment2, 0, bytes);
	t->step = t->n_tokens = 0;
	t->step_seconds = 0;
	rv_train_drop_pending(t);
	return RV_OK;
}
