#include "learn/train_layout.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define ALIGN_ELEMENTS 16 /* 64 bytes of f32 */

/* The words of lora_targets. */
static const struct {
	const char *word;
	rv_role role;
} targets[] = {
        {"q", RV_ATTN_Q},      {"k", RV_ATTN_K},  {"v", RV_ATTN_V},      {"o", RV_ATTN_OUT},
        {"gate", RV_FFN_GATE}, {"up", RV_FFN_UP}, {"down", RV_FFN_DOWN},
};
enum { N_TARGETS = sizeof targets / sizeof targets[0] };

/* What is asked for: roles, and layers ([n_layers] flags, owned). */
typedef struct wanted {
	const rv_train_lora *lora;
	int roles[RV_ROLE_COUNT];
	char *layers;
} wanted;

static rv_status parse_targets(const char *text, int roles[RV_ROLE_COUNT]) {
	for (int i = 0; !text && i < N_TARGETS; i++)
		roles[targets[i].role] = 1;
	while (text) {
		size_t len = strcspn(text, ",");
		int i = 0;
		while (i < N_TARGETS &&
		       (strlen(targets[i].word) != len || memcmp(targets[i].word, text, len) != 0))
			i++;
		if (i == N_TARGETS)
			return rv_fail(RV_ERR_INVALID,
			               "lora targets: '%.*s' is none of q, k, v, o, gate, up, down",
			               (int)(len < 64 ? len : 64), text);
		roles[targets[i].role] = 1;
		text = text[len] ? text + len + 1 : NULL;
	}
	return RV_OK;
}

static rv_status parse_layers(const char *text, char *layers, int64_t n_layers) {
	if (!text)
		memset(layers, 1, (size_t)n_layers);
	while (text) {
		const size_t len = strcspn(text, ",");
		int64_t layer = len > 0 && len < 8 ? 0 : -1;
		for (size_t i = 0; i < len && layer >= 0; i++)
			layer = text[i] >= '0' && text[i] <= '9' ? 10 * layer + (text[i] - '0') : -1;
		if (layer < 0 || layer >= n_layers)
			return rv_fail(RV_ERR_INVALID, "lora layers: '%.*s' is no layer from 0 to %lld",
			               (int)(len < 64 ? len : 64), text, (long long)n_layers - 1);
		layers[layer] = 1;
		text = text[len] ? text + len + 1 : NULL;
	}
	return RV_OK;
}

/* Rank of the adapter of a projection, 0: none; and its scale. */
static int64_t adapter_rank(const wanted *w, rv_role role, int64_t layer, double *scale) {
	const rv_train_lora *lora = w->lora;
	if (!lora || layer < 0 || !w->roles[role])
		return 0;
	if (lora->start) {
		const rv_adapter_part *part = rv_adapter_find(lora->start, role, layer);
		*scale = part ? (double)part->scale : 0;
		return part ? part->a.rows : 0;
	}
	*scale = lora->alpha / (double)lora->rank;
	return w->layers[layer] ? lora->rank : 0;
}

/* What the backward pass knows. */
static rv_status check_arch(const rv_arch *arch) {
	int known = arch->rope_neox;
	for (int i = 0; i < arch->n_tensors; i++) {
		rv_role role = arch->tensors[i].role;
		known &= role != RV_ROPE_FREQS && role != RV_ATTN_Q_NORM && role != RV_ATTN_K_NORM;
	}
	if (!known)
		return rv_fail(RV_ERR_UNSUPPORTED,
		               "architecture '%s' cannot be trained: only qwen2 is differentiated",
		               arch->name);
	return RV_OK;
}

static size_t find_slot(rv_role role, int64_t layer, rv_part part) {
	return (size_t)(((layer + 1) * RV_ROLE_COUNT + (int64_t)role) * RV_PART_COUNT + (int64_t)part);
}

/* rank, scale: of an adapter's factor. */
static void append(rv_train_layout *l, const rv_tensor_def *def, int64_t layer, rv_part part,
                   int64_t rank, double scale) {
	static const char *const suffix[] = {"", ".lora_a", ".lora_b"};
	rv_param *p = &l->params[l->n_params];
	char name[65];
	rv_arch_tensor_name(def, layer, name);
	snprintf(p->name, sizeof p->name, "%s%s", name, suffix[part]);
	p->role = def->role;
	p->part = part;
	p->layer = layer;
	p->rows = part == RV_PART_LORA_A ? rank : rv_dim_size(def->rows, &l->hp);
	p->cols = part == RV_PART_LORA_B ? rank : rv_dim_size(def->cols, &l->hp);
	p->offset = l->n_elements;
	p->decay = !(def->flags & RV_TENSOR_VECTOR);
	p->scale = scale;
	l->find[find_slot(def->role, layer, part)] = (int32_t)l->n_params++;
	l->n_elements += (p->rows * p->cols + ALIGN_ELEMENTS - 1) / ALIGN_ELEMENTS * ALIGN_ELEMENTS;
}

static void append_adapter(rv_train_layout *l, const wanted *w, const rv_tensor_def *def,
                           int64_t layer) {
	double scale = 0;
	const int64_t rank = adapter_rank(w, def->role, layer, &scale);
	if (rank == 0)
		return;
	if (l->lora_rank == 0)
		l->lora_scale = scale;
	l->lora_rank = rank > l->lora_rank ? rank : l->lora_rank;
	append(l, def, layer, RV_PART_LORA_A, rank, scale);
	append(l, def, layer, RV_PART_LORA_B, rank, scale);
}

/* Every tensor of one kind: the model's own, or the adapters. Layer by layer, so that what a layer
 * needs lies together. */
static void append_all(rv_train_layout *l, int adapters, const wanted *w) {
	for (int64_t layer = -1; layer < l->hp.n_layers; layer++) {
		for (int i = 0; i < l->arch->n_tensors; i++) {
			const rv_tensor_def *def = &l->arch->tensors[i];
			if (((def->flags & RV_TENSOR_LAYER) != 0) != (layer >= 0) ||
			    (def->role == RV_OUTPUT && l->hp.tied))
				continue;
			if (adapters)
				append_adapter(l, w, def, layer);
			else
				append(l, def, layer, RV_PART_WEIGHT, 0, 0);
		}
	}
}

/* Parameters are in the order of layers and, in them, of the table. */
static void find_end(rv_train_layout *l) {
	l->last_role = RV_TOKEN_EMBD;
	if (l->train_begin == 0)
		return;
	l->last_layer = l->hp.n_layers;
	for (int64_t i = l->n_params; i-- > 0;) {
		const rv_param *p = &l->params[i];
		if (!rv_train_layout_trained(l, p))
			continue;
		l->last_role =
		        p->layer < l->last_layer || p->role < l->last_role ? p->role : l->last_role;
		l->last_layer = p->layer;
	}
}

static rv_status build(rv_train_layout *l, wanted *w) {
	const size_t layers = (size_t)l->hp.n_layers + 1;
	RV_TRY(RV_ALLOC(&w->layers, layers, "layers"));
	if (w->lora)
		RV_TRY(parse_layers(w->lora->start ? NULL : w->lora->layers, w->layers,
		                    l->hp.n_layers));
	RV_TRY(RV_ALLOC(&l->params, layers * (size_t)l->arch->n_tensors * RV_PART_COUNT,
	                "parameter table"));
	RV_TRY(RV_ALLOC(&l->find, layers * RV_ROLE_COUNT * RV_PART_COUNT, "parameter index"));
	for (size_t i = 0; i < layers * RV_ROLE_COUNT * RV_PART_COUNT; i++)
		l->find[i] = -1;
	append_all(l, 0, w);
	if (w->lora) {
		l->train_begin = l->n_elements;
		append_all(l, 1, w);
	}
	l->train_end = l->n_elements;
	find_end(l);
	return RV_OK;
}

rv_status rv_train_layout_init(rv_train_layout *out, const rv_arch *arch, const rv_hparams *hp,
                               const rv_train_lora *lora) {
	rv_train_layout l = {.arch = arch, .hp = *hp};
	wanted w = {.lora = lora};
	RV_TRY(check_arch(arch));
	if (hp->rope.kind > RV_ROPE_NONE)
		return rv_fail(RV_ERR_UNSUPPORTED, "training: rope scaling %s",
		               rv_rope_kind_name(hp->rope.kind));
	if (lora && lora->start && rv_adapter_find(lora->start, RV_OUTPUT, 0))
		return rv_fail(RV_ERR_UNSUPPORTED,
		               "%s: adapts output.weight; adapters of layers are trained",
		               rv_adapter_path(lora->start));
	RV_TRY(parse_targets(lora && !lora->start ? lora->targets : NULL, w.roles));
	rv_status st = build(&l, &w);
	rv_free(w.layers);
	if (st != RV_OK)
		rv_train_layout_deinit(&l);
	else
		*out = l;
	return st;
}

void rv_train_layout_deinit(rv_train_layout *layout) {
	rv_free(layout->params);
	rv_free(layout->find);
	*layout = (rv_train_layout){0};
}

int64_t rv_train_layout_find(const rv_train_layout *layout, rv_role role, int64_t layer, rv_part part) {
	if (role == RV_OUTPUT && layout->hp.tied)
		role = RV_TOKEN_EMBD;
	return layout->find[find_slot(role, layer, part)];
}
