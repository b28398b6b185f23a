#include "model/adapter_fold.h"

#include "base/mem.h"
#include "model/gguf_set.h"

#include <math.h>
#include <string.h>

typedef struct folding {
	const char *path;
	const rv_model *model;
	rv_adapter *const *adapters;
	int n;
	const rv_fold_options *o;
	const rv_kernels *kernels;
	rv_gguf_writer *w;
	float *row, *sum, *factor; /* [widest]: a row of W, of what it becomes; a row of A or B */
	char *stored;
	rv_fold_report report;
} folding;

static const rv_adapter_part *part_of(const folding *f, int i, const rv_gguf_tensor *t) {
	int64_t layer;
	const rv_tensor_def *def = rv_arch_find_tensor(rv_model_arch(f->model), t->name, &layer);
	return def && (def->role == RV_OUTPUT || layer >= 0)
	               ? rv_adapter_find(f->adapters[i], def->role, layer)
	               : NULL;
}

static int is_adapted(const folding *f, const rv_gguf_tensor *t) {
	for (int i = 0; i < f->n; i++)
		if (part_of(f, i, t))
			return 1;
	return 0;
}

static const rv_type_info *type_of(const folding *f, const rv_gguf_tensor *t) {
	return f->o->type && is_adapted(f, t) ? f->o->type : rv_type_get((int)t->type);
}

static rv_status check(const folding *f) {
	const rv_gguf *g = rv_model_gguf(f->model);
	for (int i = 0; i < f->n; i++) {
		const char *path = rv_adapter_path(f->adapters[i]);
		if (!rv_adapter_fits(f->adapters[i], f->model))
			return rv_fail(RV_ERR_MISMATCH, "%s: made for models of another shape than %s",
			               path, rv_model_path(f->model));
		if (rv_model_hparams(f->model)->tied && rv_adapter_find(f->adapters[i], RV_OUTPUT, -1))
			return rv_fail(RV_ERR_MISMATCH,
			               "%s: adapts the output, which in %s is the embedding too", path,
			               rv_model_path(f->model));
	}
	for (size_t i = 0; i < rv_gguf_n_tensors(g); i++) {
		const rv_gguf_tensor *t = rv_gguf_tensor_at(g, i);
		const rv_type_info *type = type_of(f, t);
		if (is_adapted(f, t) &&
		    (!f->kernels->type[type->type].quantize || t->dims[0] % type->block_elems != 0))
			return rv_fail(RV_ERR_UNSUPPORTED,
			               "%s: tensor '%s' cannot be written as %s; another type can be "
			               "asked for",
			               rv_model_path(f->model), t->name, type->name);
	}
	return RV_OK;
}

static void decode_row(const folding *f, const rv_weight *w, int64_t r, float *to) {
	f->kernels->type[w->type].dequantize(to, (const char *)w->data + (size_t)r * w->row_bytes,
	                                     w->cols);
}

/* Row r of what the adapters add, added to sum. */
static void add_changes(const folding *f, const rv_gguf_tensor *t, int64_t r) {
	for (int i = 0; i < f->n; i++) {
		const rv_adapter_part *p = part_of(f, i, t);
		const double scale = f->o->factors ? f->o->factors[i] : 1;
		for (int64_t k = 0; p && k < p->a.rows; k++) {
			const float b = p->b_columns[k * p->b.rows + r];
			const float c = (float)(scale * (double)p->scale * (double)b);
			decode_row(f, &p->a, k, f->factor);
			for (int64_t j = 0; j < p->a.cols; j++)
				f->sum[j] += c * f->factor[j];
		}
	}
}

static rv_status fold_row(folding *f, const rv_gguf_tensor *t, const rv_type_info *type, int64_t r) {
	const int64_t n = t->dims[0];
	const size_t from = rv_type_row_bytes(rv_type_get((int)t->type), n);
	const rv_type_ops *k = &f->kernels->type[type->type];
	f->kernels->type[t->type].dequantize(f->row, t->data + (size_t)r * from, n);
	memset(f->sum, 0, (size_t)n * sizeof *f->sum);
	add_changes(f, t, r);
	for (int64_t j = 0; j < n; j++) {
		f->report.change += (double)f->sum[j] * (double)f->sum[j];
		f->sum[j] += f->row[j];
	}
	k->quantize(f->stored, f->sum, NULL, n);
	k->dequantize(f->row, f->stored, n);
	for (int64_t j = 0; j < n; j++) {
		const double d = (double)f->row[j] - (double)f->sum[j];
		if (!isfinite(d))
			return rv_fail(RV_ERR_NUMERIC, "%s: tensor '%s': row %lld, %g has no %s",
			               f->path, t->name, (long long)r, (double)f->sum[j], type->name);
		f->report.rounding += d * d;
	}
	return rv_gguf_write_data(f->w, f->stored, rv_type_row_bytes(type, n));
}

static rv_status write_header(const folding *f) {
	const rv_gguf *g = rv_model_gguf(f->model);
	for (size_t i = 0; i < rv_gguf_n_kv(g); i++) {
		const rv_gguf_kv *kv = rv_gguf_kv_at(g, i);
		if (kv->key.len < 6 || memcmp(kv->key.data, "split.", 6) != 0)
			RV_TRY(rv_gguf_write_kv(f->w, kv));
	}
	for (size_t i = 0; i < rv_gguf_n_tensors(g); i++) {
		const rv_gguf_tensor *t = rv_gguf_tensor_at(g, i);
		RV_TRY(rv_gguf_declare(f->w, t->name, type_of(f, t)->type, t->n_dims, t->dims));
	}
	return RV_OK;
}

static rv_status write_all(folding *f) {
	const rv_gguf *g = rv_model_gguf(f->model);
	int64_t widest = 1;
	for (size_t i = 0; i < rv_gguf_n_tensors(g); i++)
		if (rv_gguf_tensor_at(g, i)->dims[0] > widest)
			widest = rv_gguf_tensor_at(g, i)->dims[0];
	RV_TRY(RV_ALLOC(&f->row, widest, "row"));
	RV_TRY(RV_ALLOC(&f->sum, widest, "row"));
	RV_TRY(RV_ALLOC(&f->factor, widest, "row"));
	RV_TRY(rv_alloc((void **)&f->stored, (size_t)widest, sizeof(float), "row"));
	RV_TRY(write_header(f));
	for (size_t i = 0; i < rv_gguf_n_tensors(g); i++) {
		const rv_gguf_tensor *t = rv_gguf_tensor_at(g, i);
		if (f->o->cancelled && f->o->cancelled(f->o->user))
			return rv_fail(RV_ERR_CANCELLED, "%s: cancelled", f->path);
		if (!is_adapted(f, t)) {
			RV_TRY(rv_gguf_write_data(f->w, t->data, t->n_bytes));
			continue;
		}
		f->report.n_matrices++;
		for (int64_t r = 0; r < t->dims[1]; r++)
			RV_TRY(fold_row(f, t, type_of(f, t), r));
	}
	return RV_OK;
}

rv_status rv_adapter_fold(const char *path, const rv_model *model, rv_adapter *const *adapters, int n,
                          const rv_fold_options *options, rv_fold_report *report) {
	static const rv_fold_options none;
	folding f = {.path = path,
	             .model = model,
	             .adapters = adapters,
	             .n = n,
	             .o = options ? options : &none,
	             .kernels = rv_kernels_for(RV_LEVEL_REF)};
	RV_TRY(check(&f));
	RV_TRY(rv_gguf_writer_open(&f.w, path));
	rv_status st = write_all(&f);
	rv_free(f.row);
	rv_free(f.sum);
	rv_free(f.factor);
	rv_free(f.stored);
	if (st != RV_OK) {
		rv_gguf_writer_abort(f.w);
		return st;
	}
	f.report.change = sqrt(f.report.change);
	f.report.rounding = sqrt(f.report.rounding);
	if (report)
		*report = f.report;
	return rv_gguf_writer_commit(f.w);
}
