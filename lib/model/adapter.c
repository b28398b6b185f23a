#include "model/adapter.h"

#include "base/mem.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

struct rv_adapter {
	atomic_int refs;
	rv_gguf *gguf;
	const rv_arch *arch;
	rv_hparams hp;
	rv_adapter_part *parts; /* [n_layers + 1][RV_ROLE_COUNT]; the last row is for no layer */
	double alpha;
	int64_t n_params, max_rank;
};

static rv_adapter_part *part_at(const rv_adapter *ad, rv_role role, int64_t layer) {
	return &ad->parts[layer * RV_ROLE_COUNT + role];
}

/* What x W^T is computed for; the token embedding is looked up, not multiplied. */
static int is_projection(const rv_tensor_def *def) {
	return !(def->flags & RV_TENSOR_VECTOR) && def->role != RV_TOKEN_EMBD;
}

static rv_status check_keys(rv_adapter *ad, const char *path) {
	rv_str type, arch;
	if (rv_gguf_string(ad->gguf, "general.type", &type) != RV_OK || type.len != 7 ||
	    memcmp(type.data, "adapter", 7) != 0)
		return rv_fail(RV_ERR_FORMAT, "%s: no adapter (key 'general.type')", path);
	RV_TRY(rv_gguf_string(ad->gguf, "adapter.type", &type));
	if (type.len != 4 || memcmp(type.data, "lora", 4) != 0)
		return rv_fail(RV_ERR_UNSUPPORTED, "%s: adapter type '%.*s'; lora is known", path,
		               (int)(type.len < 64 ? type.len : 64), type.data);
	RV_TRY(rv_gguf_string(ad->gguf, "general.architecture", &arch));
	if (rv_arch_by_name(arch.data, arch.len) != ad->arch)
		return rv_fail(RV_ERR_MISMATCH, "%s: made for architecture '%.*s', the model is %s",
		               path, (int)(arch.len < 64 ? arch.len : 64), arch.data, ad->arch->name);
	RV_TRY(rv_gguf_double(ad->gguf, "adapter.lora.alpha", &ad->alpha));
	return isfinite(ad->alpha) && fabs(ad->alpha) <= 1e6
	               ? RV_OK
	               : rv_fail(RV_ERR_FORMAT, "%s: adapter.lora.alpha is %g", path, ad->alpha);
}

static rv_status check_finite(const char *path, const rv_weight *w) {
	const rv_kernels *k = rv_kernels_for(RV_LEVEL_REF);
	float *row;
	rv_status status = RV_OK;
	RV_TRY(RV_ALLOC(&row, w->cols, "row"));
	for (int64_t r = 0; r < w->rows && status == RV_OK; r++) {
		k->type[w->type].dequantize(row, (const char *)w->data + (size_t)r * w->row_bytes,
		                            w->cols);
		for (int64_t i = 0; i < w->cols && status == RV_OK; i++)
			if (!isfinite(row[i]))
				status = rv_fail(RV_ERR_NUMERIC,
				                 "%s: tensor '%s' holds a NaN or infinity", path,
				                 w->name);
	}
	rv_free(row);
	return status;
}

/* A [rank, cols of the projection], B [its rows, rank]. */
static rv_status bind_tensor(rv_adapter *ad, const rv_gguf_tensor *t) {
	static const char a_end[] = ".lora_a", b_end[] = ".lora_b";
	const char *path = rv_gguf_path(ad->gguf);
	const size_t len = strlen(t->name), end = sizeof a_end - 1;
	const int is_a = len > end && strcmp(t->name + len - end, a_end) == 0;
	const int is_b = len > end && strcmp(t->name + len - end, b_end) == 0;
	char name[sizeof t->name];
	int64_t layer = -1;
	if (!is_a && !is_b)
		return rv_fail(RV_ERR_FORMAT, "%s: tensor '%s' is neither .lora_a nor .lora_b", path,
		               t->name);
	memcpy(name, t->name, len - end);
	name[len - end] = '\0';
	const rv_tensor_def *def = rv_arch_find_tensor(ad->arch, name, &layer);
	if (!def || layer >= ad->hp.n_layers || !is_projection(def))
		return rv_fail(RV_ERR_MISMATCH, "%s: tensor '%s': the model has no projection '%s'",
		               path, t->name, name);
	const int64_t outer = rv_dim_size(is_a ? def->cols : def->rows, &ad->hp);
	const int64_t rank = is_a ? t->dims[1] : t->dims[0];
	if ((is_a ? t->dims[0] : t->dims[1]) != outer || t->dims[2] != 1 || t->dims[3] != 1)
		return rv_fail(RV_ERR_MISMATCH,
		               "%s: tensor '%s' has shape [%lld, %lld], expected %s %lld", path,
		               t->name, (long long)t->dims[0], (long long)t->dims[1],
		               is_a ? "rows of" : "this many rows:", (long long)outer);
	if (rank > RV_ADAPTER_MAX_RANK)
		return rv_fail(RV_ERR_LIMIT, "%s: tensor '%s' has rank %lld, at most %d is read", path,
		               t->name, (long long)rank, RV_ADAPTER_MAX_RANK);
	rv_adapter_part *part =
	        part_at(ad, def->role, (def->flags & RV_TENSOR_LAYER) ? layer : ad->hp.n_layers);
	rv_weight *w = is_a ? &part->a : &part->b;
	*w = (rv_weight){.name = t->name,
	                 .type = t->type,
	                 .layout = RV_LAYOUT_GGML,
	                 .rows = t->dims[1],
	                 .cols = t->dims[0],
	                 .row_bytes = rv_type_row_bytes(rv_type_get((int)t->type), t->dims[0]),
	                 .data = t->data};
	ad->n_params += w->rows * w->cols;
	return check_finite(path, w);
}

static rv_status check_pairs(rv_adapter *ad) {
	const char *path = rv_gguf_path(ad->gguf);
	for (int64_t i = 0; i < (ad->hp.n_layers + 1) * RV_ROLE_COUNT; i++) {
		rv_adapter_part *p = &ad->parts[i];
		if (!p->a.data != !p->b.data)
			return rv_fail(RV_ERR_FORMAT, "%s: tensor '%s' has no counterpart", path,
			               p->a.data ? p->a.name : p->b.name);
		if (!p->a.data)
			continue;
		if (p->a.rows != p->b.cols)
			return rv_fail(RV_ERR_MISMATCH, "%s: '%s' has rank %lld, '%s' %lld", path,
			               p->a.name, (long long)p->a.rows, p->b.name,
			               (long long)p->b.cols);
		p->scale = (float)(ad->alpha / (double)p->a.rows);
		ad->max_rank = p->a.rows > ad->max_rank ? p->a.rows : ad->max_rank;
	}
	return ad->max_rank > 0 ? RV_OK : rv_fail(RV_ERR_FORMAT, "%s: adapts nothing", path);
}

static rv_status open_into(rv_adapter *ad, const char *path) {
	RV_TRY(rv_gguf_open(&ad->gguf, path, RV_GGUF_DEFAULT));
	RV_TRY(check_keys(ad, path));
	RV_TRY(RV_ALLOC(&ad->parts, (ad->hp.n_layers + 1) * RV_ROLE_COUNT, "adapter"));
	for (size_t i = 0; i < rv_gguf_n_tensors(ad->gguf); i++)
		RV_TRY(bind_tensor(ad, rv_gguf_tensor_at(ad->gguf, i)));
	return check_pairs(ad);
}

rv_status rv_adapter_open(rv_adapter **out, const char *path, const rv_model *model) {
	rv_adapter *ad;
	*out = NULL;
	RV_TRY(RV_ALLOC(&ad, 1, "adapter"));
	atomic_init(&ad->refs, 1);
	ad->arch = rv_model_arch(model);
	ad->hp = *rv_model_hparams(model);
	rv_status status = open_into(ad, path);
	if (status != RV_OK) {
		rv_adapter_release(ad);
		return status;
	}
	*out = ad;
	return RV_OK;
}

rv_adapter *rv_adapter_retain(rv_adapter *ad) {
	atomic_fetch_add(&ad->refs, 1);
	return ad;
}

void rv_adapter_release(rv_adapter *ad) {
	if (!ad || atomic_fetch_sub(&ad->refs, 1) != 1)
		return;
	rv_gguf_close(ad->gguf);
	rv_free(ad->parts);
	rv_free(ad);
}

const char *rv_adapter_path(const rv_adapter *ad) {
	return rv_gguf_path(ad->gguf);
}
const rv_gguf *rv_adapter_gguf(const rv_adapter *ad) {
	return ad->gguf;
}
int64_t rv_adapter_n_params(const rv_adapter *ad) {
	return ad->n_params;
}
int64_t rv_adapter_max_rank(const rv_adapter *ad) {
	return ad->max_rank;
}

int rv_adapter_fits(const rv_adapter *ad, const rv_model *model) {
	const rv_hparams *hp = rv_model_hparams(model);
	return rv_model_arch(model) == ad->arch && hp->n_layers == ad->hp.n_layers &&
	       hp->n_embd == ad->hp.n_embd && hp->n_heads == ad->hp.n_heads &&
	       hp->n_kv_heads == ad->hp.n_kv_heads && hp->head_dim == ad->hp.head_dim &&
	       hp->n_ff == ad->hp.n_ff && hp->n_vocab == ad->hp.n_vocab;
}

const rv_adapter_part *rv_adapter_find(const rv_adapter *ad, rv_role role, int64_t layer) {
	const rv_adapter_part *p = part_at(ad, role, role == RV_OUTPUT ? ad->hp.n_layers : layer);
	return p->a.data ? p : NULL;
}
