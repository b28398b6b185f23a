/* config.json: from its keys to an architecture and its hyper-parameters. */
#include "base/json.h"
#include "model/convert.h"
#include "model/convert_internal.h"

#include <math.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Class name, model_type, GGUF architecture, and what the class takes when a key is absent. */
static const struct family {
	const char *class_name, *model_type, *arch;
	int64_t head_dim; /* 0: hidden_size / num_attention_heads */
} families[] = {
        {"Qwen2ForCausalLM", "qwen2", "qwen2", 0},     {"Qwen3ForCausalLM", "qwen3", "qwen3", 128},
        {"LlamaForCausalLM", "llama", "llama", 0},     {"LLaMAForCausalLM", "llama", "llama", 0},
        {"MistralForCausalLM", "mistral", "llama", 0},
};

/* ---- small questions to JSON: null is as good as absent ---- */

static const json_t *given(const json_t *config, const char *key) {
	const json_t *v = json_object_get(config, key);
	return json_is_null(v) ? NULL : v;
}

static rv_status get_int(const json_t *config, const char *name, const char *key, int64_t min,
                         int64_t max, int64_t *out) {
	return given(config, key) ? rv_json_int(config, name, key, min, max, out) : RV_OK;
}

static rv_status get_real(const json_t *config, const char *name, const char *key, double *out) {
	return given(config, key) ? rv_json_double(config, name, key, out) : RV_OK;
}

static rv_status get_text(const json_t *config, const char *name, const char *key, const char **out) {
	return given(config, key) ? rv_json_string(config, name, key, out) : RV_OK;
}

static rv_status fail_key(const char *name, const char *key) {
	return rv_fail(
	        RV_ERR_UNSUPPORTED,
	        "%s: key '%s': this value changes the model's mathematics and is not implemented", name,
	        key);
}

/* ---- the architecture ---- */

static const struct family *family_by_class(const char *class_name) {
	for (size_t i = 0; i < COUNT(families); i++)
		if (strcmp(families[i].class_name, class_name) == 0)
			return &families[i];
	return NULL;
}

static const struct family *family_by_type(const char *model_type) {
	for (size_t i = 0; i < COUNT(families); i++)
		if (strcmp(families[i].model_type, model_type) == 0)
			return &families[i];
	return NULL;
}

static rv_status read_family(const json_t *config, const char *name, const struct family **out) {
	const json_t *classes = given(config, "architectures");
	const char *type = NULL;
	RV_TRY(get_text(config, name, "model_type", &type));
	if (classes) {
		const char *class_name = json_string_value(json_array_get(classes, 0));
		if (json_array_size(classes) != 1 || !class_name)
			return rv_fail(RV_ERR_FORMAT, "%s: key 'architectures' is no list of one name",
			               name);
		*out = family_by_class(class_name);
		if (!*out)
			return rv_fail(RV_ERR_UNSUPPORTED, "%s: architecture '%.64s' (known: %s)", name,
			               class_name, RV_CONVERT_CLASSES);
		if (type && strcmp(type, (*out)->model_type) != 0)
			return rv_fail(RV_ERR_MISMATCH, "%s: model_type '%.64s' is not that of %s",
			               name, type, class_name);
		return RV_OK;
	}
	if (!type)
		return rv_fail(RV_ERR_FORMAT, "%s: keys 'architectures' and 'model_type' are missing",
		               name);
	*out = family_by_type(type);
	return *out ? RV_OK
	            : rv_fail(RV_ERR_UNSUPPORTED, "%s: model_type '%.64s' (known: %s)", name, type,
	                      RV_CONVERT_CLASSES);
}

/* ---- keys that are not implemented ---- */

/* `neutral`: the number (or false, true) under which the key changes nothing; null and an empty list
 * never do. `text`: the same for keys whose values are strings. */
static const struct refused_key {
	const char *key;
	double neutral;
	const char *text;
	const char *skip_arch; /* where the class does not look at the key */
} refused_keys[] = {
        {"attention_bias", 0, NULL, "qwen2"},
        {"mlp_bias", 0, NULL, NULL},
        {"use_bias", 0, NULL, NULL},
        {"attention_out_bias", 0, NULL, NULL},
        {"use_qk_norm", 0, NULL, "qwen3"},
        {"qk_layernorm", 0, NULL, NULL},
        {"num_experts", 0, NULL, NULL},
        {"num_local_experts", 0, NULL, NULL},
        {"num_experts_per_tok", 0, NULL, NULL},
        {"n_routed_experts", 0, NULL, NULL},
        {"n_shared_experts", 0, NULL, NULL},
        {"num_shared_experts", 0, NULL, NULL},
        {"moe_intermediate_size", 0, NULL, NULL},
        {"shared_expert_intermediate_size", 0, NULL, NULL},
        {"attn_logit_softcapping", 0, NULL, NULL},
        {"final_logit_softcapping", 0, NULL, NULL},
        {"logits_soft_cap", 0, NULL, NULL},
        {"query_pre_attn_scalar", 0, NULL, NULL},
        {"attention_multiplier", 0, NULL, NULL},
        {"logits_scaling", 1, NULL, NULL},
        {"logit_scale", 1, NULL, NULL},
        {"residual_multiplier", 1, NULL, NULL},
        {"embedding_multiplier", 1, NULL, NULL},
        {"scale_emb", 1, NULL, NULL},
        {"scale_depth", 0, NULL, NULL},
        {"partial_rotary_factor", 1, NULL, NULL},
        {"rotary_pct", 1, NULL, NULL},
        {"rope_interleaved", 0, NULL, NULL},
        {"no_rope_layers", 0, NULL, NULL},
        {"no_rope_layer_interval", 0, NULL, NULL},
        {"clip_qkv", 0, NULL, NULL},
        {"alibi", 0, NULL, NULL},
        {"use_alibi", 0, NULL, NULL},
        {"parallel_residual", 0, NULL, NULL},
        {"use_parallel_residual", 0, NULL, NULL},
        {"q_lora_rank", 0, NULL, NULL},
        {"kv_lora_rank", 0, NULL, NULL},
        {"num_nextn_predict_layers", 0, NULL, NULL},
        {"attn_temperature_tuning", 0, NULL, NULL},
        {"is_encoder_decoder", 0, NULL, NULL},
        {"add_cross_attention", 0, NULL, NULL},
        {"cross_attention_layers", 0, NULL, NULL},
        {"is_causal", 1, NULL, NULL},
        {"quantization_config", 0, NULL, NULL},
        {"compression_config", 0, NULL, NULL},
        {"vision_config", 0, NULL, NULL},
        {"hidden_act", 0, "silu", NULL},
        {"hidden_activation", 0, "silu", NULL},
};

static int is_neutral(const struct refused_key *r, const json_t *v) {
	const char *s = json_string_value(v);
	if (r->text || s) /* swish is silu's other name */
		return r->text && s && (strcmp(s, r->text) == 0 || strcmp(s, "swish") == 0);
	if (json_is_boolean(v))
		return json_is_true(v) == (r->neutral > 0);
	if (json_is_number(v))
		return fabs(json_number_value(v) - r->neutral) < 1e-9;
	return json_is_array(v) && json_array_size(v) == 0;
}

static rv_status check_refused(const json_t *config, const char *name, const struct family *family) {
	for (size_t i = 0; i < COUNT(refused_keys); i++) {
		const struct refused_key *r = &refused_keys[i];
		const json_t *v = given(config, r->key);
		if (!v || (r->skip_arch && strcmp(r->skip_arch, family->arch) == 0))
			continue;
		if (!is_neutral(r, v))
			return fail_key(name, r->key);
	}
	return RV_OK;
}

/* A window is in use when it is switched on (qwen2, qwen3: by a key of its own) and shorter than what
 * the model was made for. */
static rv_status check_window(const json_t *config, const char *name, const struct family *family,
                              int64_t n_ctx) {
	const json_t *layers = given(config, "layer_types"), *layer;
	int64_t window = INT64_MAX;
	int on = strcmp(family->arch, "llama") == 0;
	size_t i;
	if (layers && !json_is_array(layers))
		return rv_fail(RV_ERR_FORMAT, "%s: key 'layer_types' is no list", name);
	json_array_foreach(layers, i, layer) {
		const char *type = json_string_value(layer);
		if (!type || strcmp(type, "full_attention") != 0)
			return fail_key(name, "layer_types");
	}
	if (!on && given(config, "use_sliding_window"))
		RV_TRY(rv_json_bool(config, name, "use_sliding_window", &on));
	RV_TRY(get_int(config, name, "sliding_window", 0, INT64_MAX, &window));
	return on && window < n_ctx ? fail_key(name, "sliding_window") : RV_OK;
}

/* ---- rotation ---- */

static int has_rope_freqs(const rv_arch *arch) {
	for (int i = 0; i < arch->n_tensors; i++)
		if (arch->tensors[i].role == RV_ROPE_FREQS)
			return 1;
	return 0;
}

static rv_status read_llama3(const json_t *scaling, const char *name, rv_rope_llama3 *rope) {
	*rope = (rv_rope_llama3){1, 8, 1, 4, 8192};
	RV_TRY(get_real(scaling, name, "factor", &rope->factor));
	RV_TRY(get_real(scaling, name, "low_freq_factor", &rope->low_freq));
	RV_TRY(get_real(scaling, name, "high_freq_factor", &rope->high_freq));
	RV_TRY(get_real(scaling, name, "original_max_position_embeddings", &rope->n_ctx_original));
	const double v[] = {rope->factor, rope->low_freq, rope->high_freq, rope->n_ctx_original};
	for (size_t i = 0; i < COUNT(v); i++)
		if (!(v[i] >= 1e-3 && v[i] <= 1e9))
			return rv_fail(RV_ERR_FORMAT, "%s: rope_scaling: %g is not within 1e-3..1e9",
			               name, v[i]);
	if (!(rope->high_freq - rope->low_freq >= 1e-3))
		return rv_fail(RV_ERR_FORMAT,
		               "%s: rope_scaling: low_freq_factor %g is not below high_freq_factor %g",
		               name, rope->low_freq, rope->high_freq);
	return RV_OK;
}

/* "rope_scaling", or the newer "rope_parameters", which also holds the base. */
static rv_status read_rope(const json_t *config, const char *name, rv_convert_config *out) {
	static const char *const keys[] = {"rope_scaling", "rope_parameters"};
	out->hp.rope_theta = 10000.0;
	RV_TRY(get_real(config, name, "rope_theta", &out->hp.rope_theta));
	for (size_t i = 0; i < COUNT(keys); i++) {
		const json_t *scaling = given(config, keys[i]);
		const char *type = "default";
		if (!scaling)
			continue;
		if (!json_is_object(scaling))
			return rv_fail(RV_ERR_FORMAT, "%s: key '%s' is no object", name, keys[i]);
		RV_TRY(get_text(scaling, name, "type", &type));
		RV_TRY(get_text(scaling, name, "rope_type", &type));
		RV_TRY(get_real(scaling, name, "rope_theta", &out->hp.rope_theta));
		if (given(scaling, "partial_rotary_factor") &&
		    fabs(json_number_value(given(scaling, "partial_rotary_factor")) - 1) > 1e-9)
			return fail_key(name, "partial_rotary_factor");
		if (strcmp(type, "llama3") == 0 && has_rope_freqs(out->arch))
			RV_TRY(read_llama3(scaling, name, &out->rope));
		else if (strcmp(type, "default") != 0 && strcmp(type, "none") != 0)
			return rv_fail(RV_ERR_UNSUPPORTED,
			               "%s: key '%s': type '%.64s' is not implemented for %s", name,
			               keys[i], type, out->arch->name);
		else if (!given(scaling, "type") && !given(scaling, "rope_type") &&
		         given(scaling, "factor"))
			return rv_fail(RV_ERR_FORMAT, "%s: key '%s' has a factor but no type", name,
			               keys[i]);
	}
	if (!(out->hp.rope_theta >= 1 && out->hp.rope_theta <= 1e12))
		return rv_fail(RV_ERR_FORMAT, "%s: key 'rope_theta': %g is not in [1, 1e12]", name,
		               out->hp.rope_theta);
	return RV_OK;
}

/* Single precision step by step, as the converter does whose files are the reference. */
void rv_convert_rope_freqs(const rv_convert_config *config, float *out) {
	const rv_rope_llama3 *r = &config->rope;
	float base = (float)config->hp.rope_theta, dim = (float)config->hp.n_rot;
	float factor = (float)r->factor, low = (float)r->low_freq;
	float longest = (float)(r->n_ctx_original / r->low_freq);
	float shortest = (float)(r->n_ctx_original / r->high_freq);
	float span = (float)(r->high_freq - r->low_freq);
	for (int64_t i = 0; i < config->hp.n_rot / 2; i++) {
		float frequency = 1.0f / powf(base, (float)(2 * i) / dim);
		float wave = 1.0f / frequency * (float)(2 * M_PI);
		float smooth = (1.0f / wave * (float)r->n_ctx_original - low) / span;
		smooth = fminf(fmaxf(smooth, 0.0f), 1.0f); /* at the ends rounding may pass them */
		if (wave < shortest)
			out[i] = 1.0f;
		else if (wave > longest)
			out[i] = factor;
		else
			out[i] = 1.0f / ((1.0f - smooth) / factor + smooth);
	}
}

/* ---- hyper-parameters ---- */

#define HP(field) offsetof(rv_hparams, field)
static const struct int_key {
	const char *key;
	size_t offset;
	int64_t min, max;
	int required;
} int_keys[] = {
        {"num_hidden_layers", HP(n_layers), 1, 4096, 1},
        {"hidden_size", HP(n_embd), 2, 1 << 20, 1},
        {"intermediate_size", HP(n_ff), 1, 1 << 24, 1},
        {"num_attention_heads", HP(n_heads), 1, 1 << 16, 1},
        {"num_key_value_heads", HP(n_kv_heads), 1, 1 << 16, 0},
        {"head_dim", HP(head_dim), 2, 1024, 0},
        {"max_position_embeddings", HP(n_ctx_train), 1, 1 << 24, 1},
        {"vocab_size", HP(n_vocab), 1, INT32_MAX / 2 - 1, 1},
};
#undef HP

static rv_status read_ints(const json_t *config, const char *name, rv_hparams *hp) {
	for (size_t i = 0; i < COUNT(int_keys); i++) {
		const struct int_key *k = &int_keys[i];
		int64_t *field = (int64_t *)((char *)hp + k->offset);
		if (!k->required && !given(config, k->key))
			continue;
		rv_status st = rv_json_int(config, name, k->key, k->min, k->max, field);
		if (st == RV_ERR_NOT_FOUND)
			return rv_fail(RV_ERR_FORMAT, "%s: key '%s' is missing", name, k->key);
		RV_TRY(st);
	}
	return RV_OK;
}

static rv_status check_shape(const char *name, rv_hparams *hp, int64_t head_dim) {
	if (!hp->n_kv_heads)
		hp->n_kv_heads = hp->n_heads;
	if (hp->n_kv_heads > hp->n_heads || hp->n_heads % hp->n_kv_heads != 0)
		return rv_fail(RV_ERR_FORMAT,
		               "%s: key 'num_key_value_heads': %lld heads are not a multiple of %lld",
		               name, (long long)hp->n_heads, (long long)hp->n_kv_heads);
	if (!hp->head_dim)
		hp->head_dim = head_dim;
	if (!hp->head_dim && hp->n_embd % hp->n_heads != 0)
		return rv_fail(
		        RV_ERR_FORMAT,
		        "%s: key 'num_attention_heads': %lld heads do not divide hidden_size %lld",
		        name, (long long)hp->n_heads, (long long)hp->n_embd);
	if (!hp->head_dim)
		hp->head_dim = hp->n_embd / hp->n_heads;
	if (hp->head_dim % 2 != 0 || hp->head_dim > 1024)
		return rv_fail(RV_ERR_FORMAT,
		               "%s: key 'head_dim': %lld is not an even number of at most 1024", name,
		               (long long)hp->head_dim);
	hp->n_rot = hp->head_dim;
	return RV_OK;
}

static rv_status read_shape(const json_t *config, const char *name, const struct family *family,
                            rv_convert_config *out) {
	rv_hparams *hp = &out->hp;
	RV_TRY(read_ints(config, name, hp));
	RV_TRY(check_shape(name, hp, family->head_dim));
	if (!given(config, "rms_norm_eps"))
		return rv_fail(RV_ERR_FORMAT, "%s: key 'rms_norm_eps' is missing", name);
	RV_TRY(rv_json_double(config, name, "rms_norm_eps", &hp->rms_eps));
	if (!(hp->rms_eps > 0 && hp->rms_eps <= 0.1))
		return rv_fail(RV_ERR_FORMAT, "%s: key 'rms_norm_eps': %g is not in (0, 0.1]", name,
		               hp->rms_eps);
	if (given(config, "tie_word_embeddings"))
		RV_TRY(rv_json_bool(config, name, "tie_word_embeddings", &hp->tied));
	return RV_OK;
}

/* ---- keys without a meaning here ---- */

static const char *const harmless_keys[] = {
        "architectures",
        "model_type",
        "rope_theta",
        "rope_scaling",
        "rope_parameters",
        "rms_norm_eps",
        "tie_word_embeddings",
        "use_sliding_window",
        "sliding_window",
        "max_window_layers",
        "layer_types",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "unk_token_id",
        "torch_dtype",
        "dtype",
        "transformers_version",
        "use_cache",
        "_name_or_path",
        "initializer_range",
        "attention_dropout",
        "hidden_dropout",
        "dropout",
        "pretraining_tp",
        "original_max_position_embeddings",
        "return_dict",
        "output_attentions",
        "output_hidden_states",
        "_attn_implementation",
        "_attn_implementation_autoset",
        "use_flash_attn",
        "unsloth_version",
        "unsloth_fixed",
        "_from_model_config",
};

static int is_known(const char *key) {
	for (size_t i = 0; i < COUNT(harmless_keys); i++)
		if (strcmp(key, harmless_keys[i]) == 0)
			return 1;
	for (size_t i = 0; i < COUNT(refused_keys); i++)
		if (strcmp(key, refused_keys[i].key) == 0)
			return 1;
	for (size_t i = 0; i < COUNT(int_keys); i++)
		if (strcmp(key, int_keys[i].key) == 0)
			return 1;
	return 0;
}

static void warn_unknown(const json_t *config, const char *name, const rv_log *log) {
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)config, key, value) {
		if (!is_known(key))
			rv_logf(log, RV_LOG_WARN, "%s: key '%.64s' is not known: ignored", name, key);
	}
}

/* ---- the whole ---- */

/* An id, or a list whose first it is. */
static int64_t token_id(const json_t *config, const char *key, int64_t otherwise) {
	const json_t *v = given(config, key);
	if (json_is_array(v))
		v = json_array_get(v, 0);
	return json_is_integer(v) ? json_integer_value(v) : otherwise;
}

void rv_convert_read_ids(const json_t *config, rv_convert_config *out) {
	out->bos = token_id(config, "bos_token_id", out->bos);
	out->eos = token_id(config, "eos_token_id", out->eos);
	out->pad = token_id(config, "pad_token_id", out->pad);
}

rv_status rv_convert_config_read(const json_t *config, const char *name, const rv_log *log,
                                 rv_convert_config *out) {
	const struct family *family = NULL;
	rv_convert_config c = {.bos = -1, .eos = -1, .pad = -1};
	if (!json_is_object(config))
		return rv_fail(RV_ERR_FORMAT, "%s: is no JSON object", name);
	RV_TRY(read_family(config, name, &family));
	c.arch = rv_arch_by_name(family->arch, strlen(family->arch));
	RV_TRY(check_refused(config, name, family));
	RV_TRY(read_shape(config, name, family, &c));
	RV_TRY(check_window(config, name, family, c.hp.n_ctx_train));
	RV_TRY(read_rope(config, name, &c));
	rv_convert_read_ids(config, &c);
	warn_unknown(config, name, log);
	*out = c;
	return RV_OK;
}

rv_status rv_convert_config_parse(const char *text, size_t size, const char *name, const rv_log *log,
                                  rv_convert_config *out) {
	json_t *config;
	RV_TRY(rv_json_parse(text, size, name, &config));
	rv_status status = rv_convert_config_read(config, name, log, out);
	json_decref(config);
	return status;
}
