/* Plans: the types, sizes and totals a target gives, for a file or a bare shape. */
#include "base/mem.h"
#include "model/gguf_set.h"
#include "model/quant_rules.h"

static rv_status plan_add(rv_quant_plan *plan, size_t at, const rv_quant_tensor_plan *row) {
	rv_quant_tensor_plan *t = &plan->tensors[at];
	*t = *row;
	size_t n_elems;
	const rv_type_info *from = rv_type_get((int)t->from), *to = rv_type_get((int)t->to);
	if (!rv_mul_ok((size_t)t->rows, (size_t)t->cols, &n_elems) || n_elems > (size_t)1 << 48)
		return rv_fail(RV_ERR_LIMIT, "quantize: tensor '%s' is too large", t->name);
	t->from_bytes = rv_type_row_bytes(from, t->cols) * (size_t)t->rows;
	t->to_bytes = rv_type_row_bytes(to, t->cols) * (size_t)t->rows;
	plan->n_tensors = at + 1;
	plan->from_bytes += t->from_bytes;
	plan->to_bytes += t->to_bytes;
	plan->n_params += (int64_t)n_elems;
	plan->n_fallbacks += t->fallback;
	return RV_OK;
}

static void plan_finish(rv_quant_plan *plan) {
	plan->bits_per_weight =
	        plan->n_params ? 8.0 * (double)plan->to_bytes / (double)plan->n_params : 0.0;
}

void rv_quant_plan_free(rv_quant_plan *plan) {
	if (!plan)
		return;
	rv_free(plan->tensors);
	*plan = (rv_quant_plan){0};
}

/* The row of a definition's tensor, its source type given. */
static rv_quant_tensor_plan plan_row(const rv_quant_options *o, const rv_arch *arch,
                                     const rv_hparams *hp, const rv_tensor_def *def, int64_t layer,
                                     rv_type from) {
	rv_quant_tensor_plan row = {
	        .from = from,
	        .to = RV_F32,
	        .rows = rv_dim_size(def->rows, hp),
	        .cols = rv_dim_size(def->cols, hp),
	};
	rv_arch_tensor_name(def, layer, row.name);
	rv_quant_site site = {
	        .arch = arch, .hp = hp, .role = def->role, .layer = layer, .cols = row.cols};
	if (!(def->flags & RV_TENSOR_VECTOR))
		row.to = rv_quant_pick(o, &site, row.name, &row.fallback);
	return row;
}

static int in_layer(const rv_tensor_def *def) {
	return (def->flags & RV_TENSOR_LAYER) != 0;
}

/* A bare shape has no optional tensor but the head. */
static int shape_has(const rv_tensor_def *def, const rv_hparams *hp) {
	return def->role == RV_OUTPUT ? !hp->tied : !(def->flags & RV_TENSOR_OPTIONAL);
}

/* Table rows [first, end), for one layer or for none. */
static rv_status plan_defs(rv_quant_plan *plan, const rv_quant_options *o, const rv_arch *arch,
                           const rv_hparams *hp, int first, int end, int64_t layer) {
	for (int i = first; i < end; i++) {
		const rv_tensor_def *def = &arch->tensors[i];
		if (!shape_has(def, hp))
			continue;
		rv_type from = def->flags & RV_TENSOR_VECTOR ? RV_F32 : RV_F16;
		rv_quant_tensor_plan row = plan_row(o, arch, hp, def, layer, from);
		RV_TRY(plan_add(plan, plan->n_tensors, &row));
	}
	return RV_OK;
}

static rv_status fill_shape(rv_quant_plan *plan, const rv_arch *arch, const rv_hparams *hp,
                            const rv_quant_options *o) {
	size_t cap;
	if (hp->n_layers < 0 || !rv_mul_ok((size_t)hp->n_layers + 1, (size_t)arch->n_tensors, &cap))
		return rv_fail(RV_ERR_INVALID, "quantize: %lld layers", (long long)hp->n_layers);
	RV_TRY(RV_ALLOC(&plan->tensors, cap, "quantization plan"));
	/* Every run of layer rows in the table is repeated for each layer. */
	for (int i = 0, end; i < arch->n_tensors; i = end) {
		int layered = in_layer(&arch->tensors[i]);
		for (end = i + 1; end < arch->n_tensors && in_layer(&arch->tensors[end]) == layered;)
			end++;
		for (int64_t l = 0; l < (layered ? hp->n_layers : 1); l++)
			RV_TRY(plan_defs(plan, o, arch, hp, i, end, layered ? l : -1));
	}
	return RV_OK;
}

rv_status rv_quant_plan_shape(rv_quant_plan *out, const rv_arch *arch, const rv_hparams *hp,
                              const rv_quant_options *options) {
	RV_TRY(rv_quant_options_check(options));
	rv_quant_plan plan = {0};
	rv_status st = fill_shape(&plan, arch, hp, options);
	if (st != RV_OK) {
		rv_quant_plan_free(&plan);
		return st;
	}
	plan_finish(&plan);
	*out = plan;
	return RV_OK;
}

static rv_status check_tensor(const rv_gguf *in, const rv_gguf_tensor *t, const rv_tensor_def *def,
                              const rv_arch *arch, const rv_hparams *hp) {
	const char *path = rv_gguf_tensor_path(in, t);
	if (!def)
		return rv_fail(RV_ERR_UNSUPPORTED, "%s: tensor '%s' is not part of architecture %s",
		               path, t->name, arch->name);
	int64_t rows = rv_dim_size(def->rows, hp), cols = rv_dim_size(def->cols, hp);
	if (t->dims[0] != cols || t->dims[1] != rows || t->dims[2] != 1 || t->dims[3] != 1)
		return rv_fail(
		        RV_ERR_MISMATCH,
		        "%s: tensor '%s' has shape [%lld, %lld, %lld, %lld], expected [%lld, %lld]",
		        path, t->name, (long long)t->dims[0], (long long)t->dims[1],
		        (long long)t->dims[2], (long long)t->dims[3], (long long)cols, (long long)rows);
	const rv_type_info *info = rv_type_get((int)t->type);
	if ((def->flags & RV_TENSOR_VECTOR) && info->block_elems > 1)
		return rv_fail(RV_ERR_UNSUPPORTED, "%s: tensor '%s' is %s; a vector is never quantized",
		               path, t->name, info->name);
	return RV_OK;
}

/* A missing tensor would make a file nobody can load. Shape, names and duplicates are checked apart. */
static rv_status check_complete(const rv_gguf *in, const rv_arch *arch, const rv_hparams *hp) {
	for (int i = 0; i < arch->n_tensors; i++) {
		const rv_tensor_def *def = &arch->tensors[i];
		if (def->flags & RV_TENSOR_OPTIONAL)
			continue;
		for (int64_t l = 0; l < (in_layer(def) ? hp->n_layers : 1); l++) {
			char name[65];
			rv_arch_tensor_name(def, l, name);
			if (!rv_gguf_find_tensor(in, name))
				return rv_fail(RV_ERR_NOT_FOUND, "%s: tensor '%s' is missing",
				               rv_gguf_path(in), name);
		}
	}
	return RV_OK;
}

static rv_status fill_file(rv_quant_plan *plan, const rv_gguf *in, const rv_quant_options *o) {
	const rv_arch *arch;
	rv_hparams hp;
	RV_TRY(rv_arch_read(in, &arch, &hp));
	RV_TRY(check_complete(in, arch, &hp));
	size_t n = rv_gguf_n_tensors(in);
	RV_TRY(RV_ALLOC(&plan->tensors, n, "quantization plan"));
	for (size_t i = 0; i < n; i++) {
		const rv_gguf_tensor *t = rv_gguf_tensor_at(in, i);
		int64_t layer = -1;
		const rv_tensor_def *def = rv_arch_find_tensor(arch, t->name, &layer);
		if (layer >= hp.n_layers)
			def = NULL;
		RV_TRY(check_tensor(in, t, def, arch, &hp));
		rv_quant_tensor_plan row = plan_row(o, arch, &hp, def, layer, t->type);
		RV_TRY(plan_add(plan, i, &row));
	}
	return RV_OK;
}

rv_status rv_quant_plan_file(rv_quant_plan *out, const rv_gguf *in, const rv_quant_options *options) {
	RV_TRY(rv_quant_options_check(options));
	rv_quant_plan plan = {0};
	rv_status st = fill_file(&plan, in, options);
	if (st != RV_OK) {
		rv_quant_plan_free(&plan);
		return st;
	}
	plan_finish(&plan);
	*out = plan;
	return RV_OK;
}
