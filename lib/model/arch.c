#include "model/arch.h"

#include "model/gguf_set.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- tensors ---- */

#define LAYER RV_TENSOR_LAYER
#define VEC RV_TENSOR_VECTOR
#define OPT RV_TENSOR_OPTIONAL

/* The rows every architecture here shares, in the order of a layer's computation. */
#define EMBED_ROW                                                                                      \
	{ RV_TOKEN_EMBD, "token_embd.weight", RV_DIM_VOCAB, RV_DIM_EMBD, 0 }
#define QKV_ROWS                                                                                       \
	{RV_ATTN_NORM, "blk.%d.attn_norm.weight", RV_DIM_1, RV_DIM_EMBD, LAYER | VEC},                 \
	        {RV_ATTN_Q, "blk.%d.attn_q.weight", RV_DIM_Q, RV_DIM_EMBD, LAYER},                     \
	        {RV_ATTN_K, "blk.%d.attn_k.weight", RV_DIM_KV, RV_DIM_EMBD, LAYER}, {                  \
		RV_ATTN_V, "blk.%d.attn_v.weight", RV_DIM_KV, RV_DIM_EMBD, LAYER                       \
	}
#define REST_ROWS                                                                                      \
	{RV_ATTN_OUT, "blk.%d.attn_output.weight", RV_DIM_EMBD, RV_DIM_Q, LAYER},                      \
	        {RV_FFN_NORM, "blk.%d.ffn_norm.weight", RV_DIM_1, RV_DIM_EMBD, LAYER | VEC},           \
	        {RV_FFN_GATE, "blk.%d.ffn_gate.weight", RV_DIM_FF, RV_DIM_EMBD, LAYER},                \
	        {RV_FFN_UP, "blk.%d.ffn_up.weight", RV_DIM_FF, RV_DIM_EMBD, LAYER},                    \
	        {RV_FFN_DOWN, "blk.%d.ffn_down.weight", RV_DIM_EMBD, RV_DIM_FF, LAYER},                \
	        {RV_OUTPUT_NORM, "output_norm.weight", RV_DIM_1, RV_DIM_EMBD, VEC}, {                  \
		RV_OUTPUT, "output.weight", RV_DIM_VOCAB, RV_DIM_EMBD, OPT                             \
	}

static const rv_tensor_def qwen2_tensors[] = {
        EMBED_ROW,
        QKV_ROWS,
        {RV_ATTN_Q_BIAS, "blk.%d.attn_q.bias", RV_DIM_1, RV_DIM_Q, LAYER | VEC},
        {RV_ATTN_K_BIAS, "blk.%d.attn_k.bias", RV_DIM_1, RV_DIM_KV, LAYER | VEC},
        {RV_ATTN_V_BIAS, "blk.%d.attn_v.bias", RV_DIM_1, RV_DIM_KV, LAYER | VEC},
        REST_ROWS,
};
static const rv_tensor_def qwen3_tensors[] = {
        EMBED_ROW,
        QKV_ROWS,
        {RV_ATTN_Q_NORM, "blk.%d.attn_q_norm.weight", RV_DIM_1, RV_DIM_HEAD, LAYER | VEC},
        {RV_ATTN_K_NORM, "blk.%d.attn_k_norm.weight", RV_DIM_1, RV_DIM_HEAD, LAYER | VEC},
        REST_ROWS,
};
static const rv_tensor_def llama_tensors[] = {
        EMBED_ROW,
        {RV_ROPE_FREQS, "rope_freqs.weight", RV_DIM_1, RV_DIM_ROPE, VEC | OPT},
        QKV_ROWS,
        REST_ROWS,
};

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))
static const rv_arch archs[] = {
        {"qwen2", 1, qwen2_tensors, COUNT(qwen2_tensors)},
        {"qwen3", 1, qwen3_tensors, COUNT(qwen3_tensors)},
        {"llama", 0, llama_tensors, COUNT(llama_tensors)},
};

const rv_arch *rv_arch_by_name(const char *name, size_t len) {
	for (int i = 0; i < COUNT(archs); i++)
		if (strlen(archs[i].name) == len && memcmp(archs[i].name, name, len) == 0)
			return &archs[i];
	return NULL;
}

const char *rv_arch_names(void) {
	return "qwen2, qwen3, llama";
}

int64_t rv_dim_size(rv_dim dim, const rv_hparams *hp) {
	const int64_t sizes[] = {
	        [RV_DIM_1] = 1,
	        [RV_DIM_EMBD] = hp->n_embd,
	        [RV_DIM_Q] = hp->n_heads * hp->head_dim,
	        [RV_DIM_KV] = hp->n_kv_heads * hp->head_dim,
	        [RV_DIM_HEAD] = hp->head_dim,
	        [RV_DIM_FF] = hp->n_ff,
	        [RV_DIM_VOCAB] = hp->n_vocab,
	        [RV_DIM_ROPE] = hp->n_rot / 2,
	};
	return sizes[dim];
}

int rv_hparams_same_shape(const rv_hparams *hp, const rv_hparams *o) {
	return hp->n_layers == o->n_layers && hp->n_embd == o->n_embd && hp->n_heads == o->n_heads &&
	       hp->n_kv_heads == o->n_kv_heads && hp->head_dim == o->head_dim && hp->n_ff == o->n_ff &&
	       hp->n_vocab == o->n_vocab;
}

const rv_tensor_def *rv_arch_find_tensor(const rv_arch *arch, const char *name, int64_t *layer) {
	const char *rest = name;
	int64_t number = -1;
	if (strncmp(name, "blk.", 4) == 0 && name[4] >= '0' && name[4] <= '9') {
		char *end;
		number = strtol(name + 4, &end, 10);
		/* "blk.007" must not name the same tensor as "blk.7" */
		char canonical[32];
		snprintf(canonical, sizeof canonical, "blk.%lld.", (long long)number);
		if (strncmp(name, canonical, strlen(canonical)) != 0)
			return NULL;
		rest = end;
	}
	for (int i = 0; i < arch->n_tensors; i++) {
		const rv_tensor_def *def = &arch->tensors[i];
		int in_layer = (def->flags & RV_TENSOR_LAYER) != 0;
		const char *tail = in_layer ? def->name + strlen("blk.%d") : def->name;
		if (in_layer == (number >= 0) && strcmp(tail, rest) == 0) {
			*layer = number;
			return def;
		}
	}
	return NULL;
}

void rv_arch_tensor_name(const rv_tensor_def *def, int64_t layer, char buf[65]) {
	if (def->flags & RV_TENSOR_LAYER)
		snprintf(buf, 65, "blk.%lld%s", (long long)layer, def->name + strlen("blk.%d"));
	else
		snprintf(buf, 65, "%s", def->name);
}

int64_t rv_arch_n_params(const rv_arch *arch, const rv_hparams *hp) {
	int64_t total = 0;
	for (int i = 0; i < arch->n_tensors; i++) {
		const rv_tensor_def *def = &arch->tensors[i];
		if (def->role == RV_ROPE_FREQS || (def->role == RV_OUTPUT && hp->tied))
			continue;
		int64_t n = rv_dim_size(def->rows, hp) * rv_dim_size(def->cols, hp);
		total += def->flags & RV_TENSOR_LAYER ? n * hp->n_layers : n;
	}
	return total;
}

/* ---- metadata ---- */

#define KEY_MAX 128
static void make_key(char key[KEY_MAX], const rv_arch *arch, const char *suffix) {
	snprintf(key, KEY_MAX, "%s.%s", arch->name, suffix);
}

/* Keys that change the mathematics and are not implemented. `neutral`: the value under which the key
 * changes nothing; as a string it is compared with text, as a number with any numeric kind. */
typedef struct refused_key {
	const char *suffix;
	double neutral;
	const char *neutral_text; /* for string values; NULL: a string is never neutral */
} refused_key;

static const refused_key refused_keys[] = {
        {"expert_count", 0, NULL},
        {"expert_used_count", 0, NULL},
        {"expert_shared_count", 0, NULL},
        {"expert_feed_forward_length", 0, NULL},
        {"attention.sliding_window", 0, NULL},
        {"attn_logit_softcapping", 0, NULL},
        {"final_logit_softcapping", 0, NULL},
        {"attention.clamp_kqv", 0, NULL},
        {"attention.max_alibi_bias", 0, NULL},
        {"attention.causal", 1, NULL},
        {"attention.scale", 0, NULL},
        {"attention.q_lora_rank", 0, NULL},
        {"attention.kv_lora_rank", 0, NULL},
        {"logit_scale", 1, NULL},
        {"residual_scale", 1, NULL},
        {"embedding_scale", 1, NULL},
        {"use_parallel_residual", 0, NULL},
        {"nextn_predict_layers", 0, NULL},
        {"rope.scale_linear", 1, NULL},
        {"rope.dimension_sections", 0, NULL},
};

static rv_status check_refused(const rv_gguf *gguf, const rv_arch *arch) {
	for (int i = 0; i < COUNT(refused_keys); i++) {
		const refused_key *r = &refused_keys[i];
		char key[KEY_MAX];
		make_key(key, arch, r->suffix);
		const rv_gguf_kv *kv = rv_gguf_find(gguf, key);
		if (!kv)
			continue;
		double v = 0;
		int flag = 0;
		rv_str s;
		int neutral = 0;
		if (kv->kind == RV_GGUF_STRING)
			neutral = r->neutral_text && rv_gguf_string(gguf, key, &s) == RV_OK &&
			          s.len == strlen(r->neutral_text) &&
			          memcmp(s.data, r->neutral_text, s.len) == 0;
		else if (kv->kind == RV_GGUF_BOOL)
			neutral = rv_gguf_bool(gguf, key, &flag) == RV_OK && flag == (r->neutral > 0);
		else if (kv->kind == RV_GGUF_F32 || kv->kind == RV_GGUF_F64)
			neutral = rv_gguf_double(gguf, key, &v) == RV_OK && fabs(v - r->neutral) < 1e-9;
		else if (kv->kind != RV_GGUF_ARRAY) {
			int64_t n = 0;
			neutral = rv_gguf_int(gguf, key, INT64_MIN, INT64_MAX, &n) == RV_OK &&
			          n == (int64_t)r->neutral;
		}
		if (!neutral)
			return rv_fail(RV_ERR_UNSUPPORTED,
			               "%s: key '%s': this value changes the model's "
			               "mathematics and is not implemented",
			               rv_gguf_path(gguf), key);
	}
	return RV_OK;
}

/* Integer hyper-parameters: key, field, bounds, and whether the key must be there. */
typedef struct int_key {
	const char *suffix;
	size_t offset;
	int64_t min, max;
	int required;
} int_key;

#define HP(field) offsetof(rv_hparams, field)
static const int_key int_keys[] = {
        {"block_count", HP(n_layers), 1, 4096, 1},
        {"embedding_length", HP(n_embd), 2, 1 << 20, 1},
        {"feed_forward_length", HP(n_ff), 1, 1 << 24, 1},
        {"attention.head_count", HP(n_heads), 1, 1 << 16, 1},
        {"attention.head_count_kv", HP(n_kv_heads), 1, 1 << 16, 0},
        {"attention.key_length", HP(head_dim), 2, 1024, 0},
        {"rope.dimension_count", HP(n_rot), 2, 1024, 0},
        {"context_length", HP(n_ctx_train), 1, 1 << 24, 1},
};

static rv_status read_ints(const rv_gguf *gguf, const rv_arch *arch, rv_hparams *hp) {
	for (int i = 0; i < COUNT(int_keys); i++) {
		const int_key *k = &int_keys[i];
		char key[KEY_MAX];
		make_key(key, arch, k->suffix);
		int64_t *field = (int64_t *)((char *)hp + k->offset);
		rv_status st = rv_gguf_int(gguf, key, k->min, k->max, field);
		if (st == RV_ERR_NOT_FOUND && !k->required)
			continue;
		RV_TRY(st);
	}
	return RV_OK;
}

/* What the integers must satisfy among themselves; fills the defaults of those absent (0). */
static rv_status check_shape(const rv_gguf *gguf, const rv_arch *arch, rv_hparams *hp) {
	const char *path = rv_gguf_path(gguf);
	if (hp->n_kv_heads == 0)
		hp->n_kv_heads = hp->n_heads;
	if (hp->n_kv_heads > hp->n_heads || hp->n_heads % hp->n_kv_heads != 0)
		return rv_fail(RV_ERR_FORMAT,
		               "%s: key '%s.attention.head_count_kv': %lld heads are not a "
		               "multiple of %lld key-value heads",
		               path, arch->name, (long long)hp->n_heads, (long long)hp->n_kv_heads);
	if (hp->head_dim == 0) {
		if (hp->n_embd % hp->n_heads != 0)
			return rv_fail(RV_ERR_FORMAT,
			               "%s: key '%s.attention.head_count': %lld heads do not "
			               "divide embedding length %lld",
			               path, arch->name, (long long)hp->n_heads, (long long)hp->n_embd);
		hp->head_dim = hp->n_embd / hp->n_heads;
	}
	if (hp->head_dim % 2 != 0 || hp->head_dim > 1024)
		return rv_fail(RV_ERR_FORMAT, "%s: head dimension %lld must be even and at most 1024",
		               path, (long long)hp->head_dim);
	char key[KEY_MAX];
	make_key(key, arch, "attention.value_length");
	int64_t value_length = hp->head_dim;
	rv_status st = rv_gguf_int(gguf, key, 1, 1024, &value_length);
	if (st != RV_OK && st != RV_ERR_NOT_FOUND)
		return st;
	if (value_length != hp->head_dim)
		return rv_fail(RV_ERR_UNSUPPORTED,
		               "%s: key '%s': value length %lld differs from key length "
		               "%lld",
		               path, key, (long long)value_length, (long long)hp->head_dim);
	if (hp->n_rot == 0)
		hp->n_rot = hp->head_dim;
	if (hp->n_rot % 2 != 0 || hp->n_rot > hp->head_dim)
		return rv_fail(RV_ERR_FORMAT,
		               "%s: key '%s.rope.dimension_count': %lld must be even and at "
		               "most the head dimension %lld",
		               path, arch->name, (long long)hp->n_rot, (long long)hp->head_dim);
	return RV_OK;
}

static rv_status read_reals(const rv_gguf *gguf, const rv_arch *arch, rv_hparams *hp) {
	char key[KEY_MAX];
	make_key(key, arch, "attention.layer_norm_rms_epsilon");
	RV_TRY(rv_gguf_double(gguf, key, &hp->rms_eps));
	if (!(hp->rms_eps > 0 && hp->rms_eps <= 0.1))
		return rv_fail(RV_ERR_FORMAT, "%s: key '%s': %g is not in (0, 0.1]", rv_gguf_path(gguf),
		               key, hp->rms_eps);
	hp->rope_theta = 10000.0;
	make_key(key, arch, "rope.freq_base");
	rv_status st = rv_gguf_double(gguf, key, &hp->rope_theta);
	if (st != RV_OK && st != RV_ERR_NOT_FOUND)
		return st;
	if (!(hp->rope_theta >= 1 && hp->rope_theta <= 1e12))
		return rv_fail(RV_ERR_FORMAT, "%s: key '%s': %g is not in [1, 1e12]",
		               rv_gguf_path(gguf), key, hp->rope_theta);
	return RV_OK;
}

/* What the file is: a whole model in one piece. */
static rv_status check_container(const rv_gguf *gguf) {
	rv_str type;
	int64_t n_split = 1;
	if (rv_gguf_find(gguf, "general.type")) {
		RV_TRY(rv_gguf_string(gguf, "general.type", &type));
		if (type.len != 5 || memcmp(type.data, "model", 5) != 0)
			return rv_fail(RV_ERR_UNSUPPORTED, "%s: key 'general.type': '%.*s' is no model",
			               rv_gguf_path(gguf), (int)(type.len < 64 ? type.len : 64),
			               type.data);
	}
	if (rv_gguf_find(gguf, "split.count"))
		RV_TRY(rv_gguf_int(gguf, "split.count", 0, 65535, &n_split));
	if (n_split > 1 && rv_gguf_n_pieces(gguf) != (size_t)n_split)
		return rv_fail(RV_ERR_MISMATCH,
		               "%s: key 'split.count': one of %lld pieces, opened without the others",
		               rv_gguf_path(gguf), (long long)n_split);
	return RV_OK;
}

rv_status rv_arch_read(const rv_gguf *gguf, const rv_arch **arch_out, rv_hparams *out) {
	const char *path = rv_gguf_path(gguf);
	rv_str name;
	RV_TRY(check_container(gguf));
	RV_TRY(rv_gguf_string(gguf, "general.architecture", &name));
	const rv_arch *arch = rv_arch_by_name(name.data, name.len);
	if (!arch)
		return rv_fail(RV_ERR_UNSUPPORTED, "%s: architecture '%.*s' (known: %s)", path,
		               (int)(name.len < 64 ? name.len : 64), name.data, rv_arch_names());
	rv_hparams hp = {0};
	RV_TRY(check_refused(gguf, arch));
	RV_TRY(read_ints(gguf, arch, &hp));
	RV_TRY(check_shape(gguf, arch, &hp));
	RV_TRY(read_reals(gguf, arch, &hp));
	RV_TRY(rv_rope_read(gguf, arch->name, &hp.rope));
	const rv_gguf_tensor *embd = rv_gguf_find_tensor(gguf, "token_embd.weight");
	if (!embd)
		return rv_fail(RV_ERR_NOT_FOUND, "%s: tensor 'token_embd.weight' is missing", path);
	if (embd->dims[1] > INT32_MAX)
		return rv_fail(RV_ERR_FORMAT, "%s: tensor 'token_embd.weight' has %lld rows", path,
		               (long long)embd->dims[1]);
	hp.n_vocab = embd->dims[1];
	hp.tied = rv_gguf_find_tensor(gguf, "output.weight") == NULL;
	*arch_out = arch;
	*out = hp;
	return RV_OK;
}

rv_status rv_arch_write(rv_gguf_writer *w, const rv_arch *arch, const rv_hparams *hp) {
	RV_TRY(rv_gguf_write_string(w, "general.architecture", arch->name));
	char key[KEY_MAX];
	for (int i = 0; i < COUNT(int_keys); i++) {
		make_key(key, arch, int_keys[i].suffix);
		int64_t v = *(const int64_t *)((const char *)hp + int_keys[i].offset);
		RV_TRY(rv_gguf_write_u32(w, key, (uint32_t)v));
	}
	make_key(key, arch, "attention.value_length");
	RV_TRY(rv_gguf_write_u32(w, key, (uint32_t)hp->head_dim));
	make_key(key, arch, "attention.layer_norm_rms_epsilon");
	RV_TRY(rv_gguf_write_f32(w, key, (float)hp->rms_eps));
	make_key(key, arch, "rope.freq_base");
	RV_TRY(rv_gguf_write_f32(w, key, (float)hp->rope_theta));
	RV_TRY(rv_rope_write(w, arch->name, &hp->rope));
	make_key(key, arch, "vocab_size");
	return rv_gguf_write_u32(w, key, (uint32_t)hp->n_vocab);
}

/* ---- presets (SPEC 1) ---- */

static const rv_preset presets[] = {
        /* name, arch, {layers, embd, heads, kv, head_dim, ff, vocab, ctx, rot, theta, eps, tied, rope}
         */
        {"medium", "qwen2", {32, 2048, 16, 2, 128, 11008, 151936, 32768, 128, 1e6, 1e-6, 1, {0}}},
        {"small", "qwen2", {24, 896, 14, 2, 64, 4864, 151936, 32768, 64, 1e6, 1e-6, 1, {0}}},
        {"7b", "llama", {32, 4096, 32, 8, 128, 14336, 32768, 32768, 128, 1e6, 1e-5, 0, {0}}},
        {"nano", "qwen2", {8, 256, 4, 2, 64, 512, 3072, 4096, 64, 1e6, 1e-6, 1, {0}}},
        {"pico", "qwen2", {2, 128, 2, 1, 64, 256, 3072, 4096, 64, 1e6, 1e-6, 1, {0}}},
};

const rv_preset *rv_preset_by_name(const char *name) {
	for (int i = 0; i < COUNT(presets); i++)
		if (strcmp(presets[i].name, name) == 0)
			return &presets[i];
	return NULL;
}

const char *rv_preset_names(void) {
	return "medium, small, 7b, nano, pico";
}
