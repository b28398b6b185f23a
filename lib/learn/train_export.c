/* What was trained as GGUF: a model, or LoRA adapters (model/adapter_write.h). */
#include "base/mem.h"
#include "engine/context.h"
#include "engine/embed.h"
#include "learn/trainer_internal.h"
#include "model/adapter_write.h"

#include <math.h>
#include <stdio.h>

typedef struct exporting {
	const rv_trainer *t;
	const rv_train_export *o;
	const rv_type_info *type; /* of matrices */
	rv_gguf_writer *w;
	const rv_kernels *kernels;
	char *row;
} exporting;

static rv_status write_keys(const exporting *e) {
	const rv_trainer *t = e->t;
	RV_TRY(rv_gguf_write_string(e->w, "general.type", "model"));
	if (e->o->name)
		RV_TRY(rv_gguf_write_string(e->w, "general.name", e->o->name));
	RV_TRY(rv_gguf_write_u32(e->w, "general.file_type", e->type->type == RV_F16 ? 1 : 0));
	RV_TRY(rv_gguf_write_u32(e->w, "general.quantization_version", 2));
	RV_TRY(rv_arch_write(e->w, t->layout.arch, &t->layout.hp));
	if (e->o->embed_map) {
		RV_TRY(rv_gguf_write_u32(e->w, RV_EMBED_KEY_DIM, (uint32_t)e->o->embed_dim));
		RV_TRY(rv_gguf_write_f32s(e->w, RV_EMBED_KEY_MAP, e->o->embed_map,
		                          (size_t)(e->o->embed_dim * t->layout.hp.n_embd)));
	}
	if (e->o->tokenizer)
		RV_TRY(rv_tokenizer_write_gguf(e->o->tokenizer, e->w));
	return e->o->chat_template
	               ? rv_gguf_write_string(e->w, "tokenizer.chat_template", e->o->chat_template)
	               : RV_OK;
}

static rv_type type_of(const exporting *e, const rv_param *p) {
	return p->decay ? e->type->type : RV_F32;
}

static rv_status declare_all(const exporting *e) {
	const rv_train_layout *l = &e->t->layout;
	for (int64_t i = 0; i < l->n_params; i++) {
		const rv_param *p = &l->params[i];
		int64_t dims[2] = {p->cols, p->rows};
		RV_TRY(rv_gguf_declare(e->w, p->name, type_of(e, p), p->decay ? 2 : 1, dims));
	}
	return RV_OK;
}

static rv_status write_tensor(const exporting *e, const rv_param *p) {
	const rv_type type = type_of(e, p);
	const float most = type == RV_F16 ? 65504.0f : 3.4e38f;
	const size_t bytes = rv_type_row_bytes(rv_type_get((int)type), p->cols);
	for (int64_t r = 0; r < p->rows; r++) {
		const float *x = e->t->weights + p->offset + r * p->cols;
		for (int64_t i = 0; i < p->cols; i++)
			if (!(fabsf(x[i]) <= most))
				return rv_fail(RV_ERR_NUMERIC,
				               "tensor '%s': element %lld, %g, has no %s", p->name,
				               (long long)(r * p->cols + i), (double)x[i],
				               rv_type_get((int)type)->name);
		e->kernels->type[type].quantize(e->row, x, NULL, p->cols);
		RV_TRY(rv_gguf_write_data(e->w, e->row, bytes));
	}
	return RV_OK;
}

static rv_status write_all(exporting *e) {
	const rv_train_layout *l = &e->t->layout;
	int64_t widest = 0;
	for (int64_t i = 0; i < l->n_params; i++)
		widest = l->params[i].cols > widest ? l->params[i].cols : widest;
	RV_TRY(rv_alloc((void **)&e->row, (size_t)widest, sizeof(float), "row"));
	RV_TRY(write_keys(e));
	RV_TRY(declare_all(e));
	for (int64_t i = 0; i < l->n_params; i++)
		RV_TRY(write_tensor(e, &l->params[i]));
	return RV_OK;
}

static rv_status export_adapter(const exporting *e, const char *path) {
	const rv_adapter_write_options o = {
	        .type = e->type, .name = e->o->name, .alpha = e->t->options.lora_alpha};
	rv_adapter_matrix *parts;
	int n;
	RV_TRY(rv_train_matrices(e->t, &parts, &n));
	rv_status st =
	        rv_adapter_write_matrices(path, e->t->layout.arch, &e->t->layout.hp, parts, n, &o);
	rv_free(parts);
	return st;
}

rv_status rv_trainer_export(const rv_trainer *t, const char *path, const rv_train_export *options) {
	static const rv_train_export none = {0};
	exporting e = {.t = t, .o = options ? options : &none};
	rv_level level;
	RV_TRY(rv_level_default(&level));
	e.kernels = rv_kernels_for(level);
	e.type = e.o->type ? e.o->type : rv_type_get(RV_F16);
	if (e.type->type != RV_F16 && e.type->type != RV_F32)
		return rv_fail(RV_ERR_INVALID, "%s: a trained model is written as F32 or F16, not %s",
		               path, e.type->name);
	if (e.o->tokenizer && rv_tokenizer_n_vocab(e.o->tokenizer) != t->layout.hp.n_vocab)
		return rv_fail(RV_ERR_MISMATCH, "%s: the tokenizer has %d tokens, the model %lld", path,
		               rv_tokenizer_n_vocab(e.o->tokenizer), (long long)t->layout.hp.n_vocab);
	if (t->layout.lora_rank > 0)
		return export_adapter(&e, path);
	RV_TRY(rv_gguf_writer_open(&e.w, path));
	rv_status st = write_all(&e);
	rv_free(e.row);
	if (st == RV_OK)
		return rv_gguf_writer_commit(e.w);
	rv_gguf_writer_abort(e.w);
	return rv_fail_in(st, path);
}
