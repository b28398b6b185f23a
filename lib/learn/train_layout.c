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

static rv_status parse_targets(const char *text, int wanted[RV_ROLE_COUNT]) {
	memset(wanted, 0, RV_ROLE_COUNT * sizeof wanted[0]);
	for (int i = 0; !text && i < N_TARGETS; i++)
		wanted[targets[i].role] = 1;
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
		wanted[targets[i].role] = 1;
		text = text[len] ? text + len + 1 : NULL;
	}
	return RV_OK;
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

static void append(rv_train_layout *l, const rv_tensor_def *def, int64_t layer, rv_part part) {
	static const char *const suffix[] = {"", ".lora_a", ".lora_b"};
	rv_param *p = &l->params[l->n_params];
	char name[65];
	rv_arch_tensor_name(def, layer, name);
	snprintf(p->name, sizeof p->name, "%s%s", name, suffix[part]);
	p->role = def->role;
	p->part = part;
	p->layer = layer;
	p->rows = part == RV_PART_LORA_A ? l->lora_rank : rv_dim_size(def->rows, &l->hp);
	p->cols = part == RV_PART_LORA_B ? l->lora_rank : rv_dim_size(def->cols, &l->hp);
	p->offset = l->n_elements;
	p->decay = !(def->flags & RV_TENSOR_VECTOR);
	l->find[find_slot(def->role, layer, part)] = (int32_t)l->n_params++;
	l->n_elements += (p->rows * p->cols + ALIGN_ELEMENTS - 1) / ALIGN_ELEMENTS * ALIGN_ELEMENTS;
}

/* Every tensor of one kind: the model's own, or the adapters. Layer by layer, so that what a layer
 * needs lies together. */
static void append_all(rv_train_layout *l, int adapters, const int wanted[RV_ROLE_COUNT]) {
	for (int64_t layer = -1; layer < l->hp.n_layers; layer++) {
		for (int i = 0; i < l->arch->n_tensors; i++) {
			const rv_tensor_def *def = &l->arch->tensors[i];
			if (((def->flags & RV_TENSOR_LAYER) != 0) != (layer >= 0) ||
			    (def->role == RV_OUTPUT && l->hp.tied))
				continue;
			if (!adapters)
				append(l, def, layer, RV_PART_WEIGHT);
			else if (wanted[def->role]) {
				append(l, def, layer, RV_PART_LORA_A);
				append(l, def, layer, RV_PART_LORA_B);
			}
		}
	}
}

rv_status rv_train_layout_init(rv_train_layout *out, const rv_arch *arch, const rv_hparams *hp,
                               int64_t lora_rank, double lora_alpha, const char *lora_targets) {
	rv_train_layout l = {.arch = arch, .hp = *hp, .lora_rank = lora_rank};
	int wanted[RV_ROLE_COUNT];
	RV_TRY(check_arch(arch));
	if (hp->rope.kind > RV_ROPE_NONE)
		return rv_fail(RV_ERR_UNSUPPORTED, "training: rope scaling %s",
		               rv_rope_kind_name(hp->rope.kind));
	RV_TRY(parse_targets(lora_targets, wanted));
	size_t layers = (size_t)hp->n_layers + 1;
	rv_status st = RV_ALLOC(&l.params, layers * (size_t)arch->n_tensors * RV_PART_COUNT,
	                        "parameter table");
	if (st == RV_OK)
		st = RV_ALLOC(&l.find, layers * RV_ROLE_COUNT * RV_PART_COUNT, "parameter index");
	if (st != RV_OK) {
		rv_train_layout_deinit(&l);
		return st;
	}
	for (size_t i = 0; i < layers * RV_ROLE_COUNT * RV_PART_COUNT; i++)
		l.find[i] = -1;
	append_all(&l, 0, wanted);
	if (lora_rank > 0) {
		l.train_begin = l.n_elements;
		l.lora_scale = lora_alpha / (double)lora_rank;
		append_all(&l, 1, wanted);
	}
	l.train_end = l.n_elements;
	*out = l;
	return RV_OK;
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
