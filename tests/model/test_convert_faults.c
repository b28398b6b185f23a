/* What the converter refuses, each by name, leaving nothing behind. */
#include "tests/model/published.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* ---- config.json ---- */

typedef struct config_case {
	const char *arch, *key, *value; /* value NULL: the key is removed */
	rv_status status;
	const char *word;
} config_case;

#define F RV_ERR_FORMAT
#define U RV_ERR_UNSUPPORTED

static const config_case bad_configs[] = {
        /* which model */
        {"qwen2", "architectures", "[\"GPT2LMHeadModel\"]", U, "'GPT2LMHeadModel'"},
        {"qwen2", "architectures", "[\"Qwen2ForSequenceClassification\"]", U, "SequenceClass"},
        {"qwen2", "architectures", "[\"Qwen2ForCausalLM\",\"X\"]", F, "'architectures'"},
        {"qwen2", "architectures", "\"Qwen2ForCausalLM\"", F, "'architectures'"},
        {"qwen2", "architectures", "[7]", F, "'architectures'"},
        {"qwen2", "architectures", "[]", F, "'architectures'"},
        {"qwen2", "model_type", "\"llama\"", RV_ERR_MISMATCH, "model_type 'llama'"},
        {"qwen2", "model_type", "7", F, "'model_type'"},
        /* shapes */
        {"qwen2", "hidden_size", NULL, F, "'hidden_size' is missing"},
        {"qwen2", "hidden_size", "null", F, "'hidden_size'"},
        {"qwen2", "hidden_size", "256.0", F, "'hidden_size'"},
        {"qwen2", "hidden_size", "\"256\"", F, "'hidden_size'"},
        {"qwen2", "hidden_size", "0", F, "'hidden_size'"},
        {"qwen2", "hidden_size", "-256", F, "'hidden_size'"},
        {"qwen2", "hidden_size", "4294967552", F, "'hidden_size'"},
        {"qwen2", "num_hidden_layers", "0", F, "'num_hidden_layers'"},
        {"qwen2", "num_hidden_layers", "4294967295", F, "'num_hidden_layers'"},
        {"qwen2", "num_hidden_layers", NULL, F, "'num_hidden_layers' is missing"},
        {"qwen2", "intermediate_size", NULL, F, "'intermediate_size' is missing"},
        {"qwen2", "num_attention_heads", "0", F, "'num_attention_heads'"},
        {"qwen2", "num_attention_heads", NULL, F, "'num_attention_heads' is missing"},
        {"qwen2", "num_key_value_heads", "3", F, "'num_key_value_heads'"},
        {"qwen2", "num_key_value_heads", "8", F, "'num_key_value_heads'"},
        {"qwen2", "num_key_value_heads", "0", F, "'num_key_value_heads'"},
        {"qwen2", "head_dim", "63", F, "'head_dim'"},
        {"qwen2", "head_dim", "2048", F, "'head_dim'"},
        {"qwen2", "vocab_size", "-1", F, "'vocab_size'"},
        {"qwen2", "vocab_size", NULL, F, "'vocab_size' is missing"},
        {"qwen2", "max_position_embeddings", "0", F, "'max_position_embeddings'"},
        {"qwen2", "max_position_embeddings", "4294967295", F, "'max_position_embeddings'"},
        {"qwen2", "rms_norm_eps", NULL, F, "'rms_norm_eps' is missing"},
        {"qwen2", "rms_norm_eps", "0", F, "'rms_norm_eps'"},
        {"qwen2", "rms_norm_eps", "-1e-6", F, "'rms_norm_eps'"},
        {"qwen2", "rms_norm_eps", "1", F, "'rms_norm_eps'"},
        {"qwen2", "rms_norm_eps", "\"1e-6\"", F, "'rms_norm_eps'"},
        {"qwen2", "rope_theta", "0", F, "'rope_theta'"},
        {"qwen2", "rope_theta", "-1", F, "'rope_theta'"},
        {"qwen2", "rope_theta", "1e300", F, "'rope_theta'"},
        {"qwen2", "tie_word_embeddings", "1", F, "'tie_word_embeddings'"},
        /* rotation */
        {"qwen2", "rope_scaling", "7", F, "'rope_scaling' is no object"},
        {"qwen2", "rope_scaling", "{\"type\":\"yarn\",\"factor\":4}", U, "'yarn'"},
        {"qwen2", "rope_scaling", "{\"rope_type\":\"llama3\",\"factor\":8}", U, "'llama3'"},
        {"llama", "rope_scaling", "{\"type\":\"linear\",\"factor\":2}", U, "'linear'"},
        {"llama", "rope_scaling", "{\"type\":\"dynamic\",\"factor\":2}", U, "'dynamic'"},
        {"llama", "rope_scaling", "{\"rope_type\":\"longrope\"}", U, "'longrope'"},
        {"llama", "rope_scaling", "{\"factor\":2}", F, "no type"},
        {"llama", "rope_scaling", "{\"rope_type\":7}", F, "'rope_type'"},
        {"llama", "rope_scaling", "{\"rope_type\":\"llama3\",\"factor\":0}", F, "rope_scaling"},
        {"llama", "rope_scaling", "{\"rope_type\":\"llama3\",\"factor\":\"8\"}", F, "'factor'"},
        {"llama", "rope_scaling",
         "{\"rope_type\":\"llama3\",\"low_freq_factor\":4,\"high_freq_factor\":4}", F,
         "low_freq_factor"},
        {"qwen3", "rope_parameters", "{\"rope_type\":\"yarn\",\"rope_theta\":1e6}", U, "'yarn'"},
        {"qwen3", "rope_parameters", "{\"rope_type\":\"default\",\"rope_theta\":0}", F, "'rope_theta'"},
        {"llama", "rope_parameters", "{\"rope_type\":\"default\",\"partial_rotary_factor\":0.5}", U,
         "'partial_rotary_factor'"},
        {"llama", "partial_rotary_factor", "0.5", U, "'partial_rotary_factor'"},
        /* windows */
        {"mistral", "sliding_window", "256", U, "'sliding_window'"},
        {"llama", "sliding_window", "256", U, "'sliding_window'"},
        {"mistral", "sliding_window", "-1", F, "'sliding_window'"},
        {"qwen2", "use_sliding_window", "true", U, "'sliding_window'"},
        {"qwen2", "use_sliding_window", "1", F, "'use_sliding_window'"},
        {"qwen3", "layer_types", "[\"full_attention\",\"sliding_attention\"]", U, "'layer_types'"},
        {"qwen3", "layer_types", "7", F, "'layer_types'"},
        /* the rest of the mathematics */
        {"llama", "attention_bias", "true", U, "'attention_bias'"},
        {"qwen3", "attention_bias", "true", U, "'attention_bias'"},
        {"llama", "mlp_bias", "true", U, "'mlp_bias'"},
        {"llama", "num_local_experts", "8", U, "'num_local_experts'"},
        {"qwen3", "num_experts", "128", U, "'num_experts'"},
        {"qwen2", "attn_logit_softcapping", "50.0", U, "'attn_logit_softcapping'"},
        {"qwen2", "final_logit_softcapping", "30.0", U, "'final_logit_softcapping'"},
        {"llama", "hidden_act", "\"gelu\"", U, "'hidden_act'"},
        {"qwen2", "hidden_act", "\"relu\"", U, "'hidden_act'"},
        {"qwen2", "hidden_act", "0", U, "'hidden_act'"},
        {"llama", "logits_scaling", "8.0", U, "'logits_scaling'"},
        {"llama", "embedding_multiplier", "12.0", U, "'embedding_multiplier'"},
        {"llama", "residual_multiplier", "0.22", U, "'residual_multiplier'"},
        {"llama", "query_pre_attn_scalar", "224", U, "'query_pre_attn_scalar'"},
        {"llama", "is_causal", "false", U, "'is_causal'"},
        {"llama", "quantization_config", "{\"bits\":4}", U, "'quantization_config'"},
        {"llama", "no_rope_layers", "[1,1,0]", U, "'no_rope_layers'"},
};

static const config_case good_configs[] = {
        {"qwen2", "architectures", NULL, RV_OK, "qwen2"},
        {"qwen2", "model_type", NULL, RV_OK, "qwen2"},
        {"mistral", "architectures", NULL, RV_OK, "llama"},
        {"mistral", "sliding_window", "null", RV_OK, "llama"},
        {"mistral", "sliding_window", "512", RV_OK, "llama"}, /* the whole context */
        {"qwen2", "use_sliding_window", "false", RV_OK, "qwen2"},
        {"qwen2", "attention_bias", "true", RV_OK, "qwen2"}, /* the class has its biases anyway */
        {"qwen2", "head_dim", NULL, RV_OK, "qwen2"},
        {"qwen2", "head_dim", "null", RV_OK, "qwen2"},
        {"qwen2", "rope_scaling", "null", RV_OK, "qwen2"},
        {"qwen2", "rope_scaling", "{\"rope_type\":\"default\"}", RV_OK, "qwen2"},
        {"qwen3", "rope_parameters", "{\"rope_type\":\"default\",\"rope_theta\":1e6}", RV_OK, "qwen3"},
        {"qwen3", "layer_types", "[\"full_attention\",\"full_attention\"]", RV_OK, "qwen3"},
        {"llama", "rope_scaling", "{\"rope_type\":\"llama3\"}", RV_OK, "llama"},
        {"llama", "attention_bias", "false", RV_OK, "llama"},
        {"llama", "hidden_act", "\"swish\"", RV_OK, "llama"},
        {"llama", "logits_scaling", "1.0", RV_OK, "llama"},
        {"llama", "is_causal", "true", RV_OK, "llama"},
        {"llama", "a_key_nobody_knows", "7", RV_OK, "llama"},
};

static char *config_text(const config_case *c) {
	rv_hparams hp = small_shape();
	published_options o = plain_options(c->arch, RV_F32);
	if (strcmp(c->arch, "mistral") == 0)
		o.class_name = "MistralForCausalLM";
	json_t *root = published_config(&hp, &o), *value;
	if (strcmp(c->arch, "qwen2") == 0)
		json_object_set_new(root, "sliding_window", json_integer(128)); /* switched off */
	if (c->value) {
		assert_ok(rv_json_parse(c->value, strlen(c->value), "value", &value));
		json_object_set_new(root, c->key, value);
	} else {
		json_object_del(root, c->key);
	}
	char *text = json_dumps(root, 0);
	json_decref(root);
	assert_non_null(text);
	return text;
}

static void refuses_configs(void **state) {
	(void)state;
	rv_convert_config out;
	for (size_t i = 0; i < COUNT(bad_configs); i++) {
		const config_case *c = &bad_configs[i];
		char *text = config_text(c);
		rv_status got = rv_convert_config_parse(text, strlen(text), "config.json", NULL, &out);
		if (got != c->status || !strstr(rv_error_message(), c->word) ||
		    !strstr(rv_error_message(), "config.json"))
			fail_msg("%s %s=%s: %s: %s", c->arch, c->key, c->value ? c->value : "-",
			         rv_status_text(got), got ? rv_error_message() : "");
		free(text);
	}
	print_message("# %zu configurations\n", COUNT(bad_configs));
	static const char *const texts[] = {"",       "[]",           "7", "{\"a\":1,\"a\":2}", "{} {",
	                                    "{\"a\"", "{\"\xff\":1}", "{}"};
	for (size_t i = 0; i < COUNT(texts); i++)
		assert_int_equal(
		        rv_convert_config_parse(texts[i], strlen(texts[i]), "config.json", NULL, &out),
		        RV_ERR_FORMAT);
}

static void count_line(void *user, rv_log_level level, const char *line) {
	*(int *)user += level == RV_LOG_WARN && strstr(line, "a_key_nobody_knows");
}

static void accepts_configs(void **state) {
	(void)state;
	int warned = 0;
	rv_log log = {count_line, &warned};
	for (size_t i = 0; i < COUNT(good_configs); i++) {
		const config_case *c = &good_configs[i];
		rv_convert_config out;
		char *text = config_text(c);
		if (rv_convert_config_parse(text, strlen(text), "config.json", &log, &out) != RV_OK)
			fail_msg("%s %s=%s: %s", c->arch, c->key, c->value, rv_error_message());
		assert_string_equal(out.arch->name, c->word);
		assert_int_equal(out.hp.head_dim, 64);
		assert_int_equal(out.hp.n_rot, 64);
		assert_int_equal(out.hp.n_kv_heads, 2);
		assert_true(out.hp.rope_theta == 1e6);
		free(text);
	}
	assert_int_equal(warned, 1);
}

/* ---- folders ---- */

/* Refused for `word`, and nothing is left. */
static void refused(const char *dir, const char *out, const rv_convert_options *c, rv_status status,
                    const char *word) {
	rv_convert_report r;
	int before = count_files();
	rv_status got = rv_convert_dir(dir, out, c, &r);
	if (got != status || !strstr(rv_error_message(), word))
		fail_msg("%s, not %s with '%s': %s", rv_status_text(got), rv_status_text(status), word,
		         got ? rv_error_message() : "");
	assert_int_equal(count_files(), before);
}

static void refuses_tensors(void **state) {
	(void)state;
	static const struct {
		const char *arch;
		published_options o; /* class, type and rows are filled in */
		int tied, as_f16;
		rv_status status;
		const char *word;
	} cases[] = {
	        {"qwen2",
	         {.skip = "lm_head.weight"},
	         0,
	         0,
	         RV_ERR_NOT_FOUND,
	         "'lm_head.weight' is missing"},
	        {"qwen2",
	         {.skip = "model.layers.1.self_attn.k_proj.bias"},
	         0,
	         0,
	         RV_ERR_NOT_FOUND,
	         "'model.layers.1.self_attn.k_proj.bias' is missing"},
	        {"qwen3",
	         {.skip = "model.layers.0.self_attn.q_norm.weight"},
	         0,
	         0,
	         RV_ERR_NOT_FOUND,
	         "q_norm.weight' is missing"},
	        {"llama", {.skip = "model.norm.weight"}, 0, 0, RV_ERR_NOT_FOUND, "'model.norm.weight'"},
	        {"llama", {.zero_biases = 1}, 0, 0, RV_ERR_UNSUPPORTED, "self_attn.k_proj.bias"},
	        {"qwen2",
	         {.extra = "model.layers.2.mlp.up_proj.weight"},
	         0,
	         0,
	         RV_ERR_UNSUPPORTED,
	         "'model.layers.2.mlp.up_proj.weight' is not part"},
	        {"qwen2", {.extra = "score.weight"}, 0, 0, RV_ERR_UNSUPPORTED, "'score.weight'"},
	        {"qwen2", {.copy_head = 1, .skip = "lm_head.weight"}, 0, 0, RV_OK, ""}, /* control */
	        {"qwen2",
	         {.copy_head = 1, .poke = "model.norm.weight", .poke_value = 3},
	         1,
	         0,
	         RV_OK,
	         ""},
	        {"qwen2",
	         {.poke = "model.norm.weight", .poke_value = NAN},
	         0,
	         0,
	         RV_ERR_NUMERIC,
	         "'model.norm.weight' row 0 element 5 is not finite"},
	        {"qwen2",
	         {.poke = "model.embed_tokens.weight", .poke_value = INFINITY},
	         0,
	         0,
	         RV_ERR_NUMERIC,
	         "'model.embed_tokens.weight' row 0 element 5 is not finite"},
	        {"llama",
	         {.poke = "lm_head.weight", .poke_value = 65520},
	         0,
	         1,
	         RV_ERR_NUMERIC,
	         "too large for F16"},
	        {"llama", {.poke = "lm_head.weight", .poke_value = 65519}, 0, 1, RV_OK, ""},
	        {"llama", {.poke = "lm_head.weight", .poke_value = 65520}, 0, 0, RV_OK, ""},
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		char path[1024], dir[1024], out[1024];
		published_options o = plain_options(cases[i].arch, RV_F32), more = cases[i].o;
		o.skip = more.skip;
		o.extra = more.extra;
		o.copy_head = more.copy_head;
		o.zero_biases = more.zero_biases;
		o.poke = more.poke;
		o.poke_value = more.poke_value;
		rv_convert_options c = {.type = cases[i].as_f16 ? rv_type_by_name("F16") : NULL};
		make_published(path, dir, cases[i].arch, cases[i].tied, &o);
		temp_path(out, "refused.gguf");
		if (cases[i].status == RV_OK)
			assert_ok(rv_convert_dir(dir, out, &c, NULL));
		else
			refused(dir, out, &c, cases[i].status, cases[i].word);
		unlink(out);
		remove_published(dir);
	}
}

static int say_cancel(void *user) {
	return ++*(int *)user > 3;
}

static void refuses_folders(void **state) {
	(void)state;
	static const struct {
		const char *file, *key, *value; /* value NULL: the key is removed; key NULL: the file */
		rv_status status;
		const char *word;
	} cases[] = {
	        {"config.json", NULL, NULL, RV_ERR_NOT_FOUND, "config.json"},
	        {"tokenizer.json", NULL, NULL, RV_ERR_NOT_FOUND, "tokenizer.json"},
	        {"model.safetensors", NULL, NULL, RV_ERR_NOT_FOUND, "model.safetensors"},
	        {"config.json", "intermediate_size", "768", RV_ERR_MISMATCH,
	         "mlp.gate_proj.weight' has shape [512, 256], expected [768, 256]"},
	        {"config.json", "vocab_size", "321", RV_ERR_MISMATCH,
	         "embed_tokens.weight' has shape [320, 256]"},
	        {"config.json", "num_hidden_layers", "3", RV_ERR_NOT_FOUND, "model.layers.2."},
	        {"config.json", "num_hidden_layers", "1", RV_ERR_UNSUPPORTED, "model.layers.1."},
	        {"config.json", "num_hidden_layers", "4096", RV_ERR_MISMATCH, "4096 layers"},
	        {"config.json", "num_key_value_heads", "4", RV_ERR_MISMATCH,
	         "k_proj.weight' has shape"},
	        {"config.json", "head_dim", "32", RV_ERR_MISMATCH, "q_proj.weight' has shape"},
	        {"config.json", "tie_word_embeddings", "true", RV_ERR_MISMATCH,
	         "'lm_head.weight' differs"},
	        {"config.json", "model_type", "\"mistral\"", RV_ERR_MISMATCH, "model_type"},
	        {"tokenizer.json", "model", "7", RV_ERR_FORMAT, "tokenizer.json"},
	        {"tokenizer.json", "normalizer", "{\"type\":\"Lowercase\"}", RV_ERR_UNSUPPORTED,
	         "Lowercase"},
	};
	char path[1024], out[1024];
	temp_path(out, "refused.gguf");
	for (size_t i = 0; i < COUNT(cases); i++) {
		char dir[1024], file[2048];
		published_options o = plain_options("qwen2", RV_F16);
		make_published(path, dir, "qwen2", 0, &o);
		snprintf(file, sizeof file, "%s/%s", dir, cases[i].file);
		if (cases[i].key)
			edit_json(dir, cases[i].file, cases[i].key, cases[i].value);
		else
			unlink(file);
		refused(dir, out, NULL, cases[i].status, cases[i].word);
		remove_published(dir);
	}
}

static void refuses_outputs(void **state) {
	(void)state;
	char path[1024], dir[1024], out[1024], name[2048];
	published_options o = plain_options("qwen2", RV_F16);
	int calls = 0;
	o.n_shards = 2;
	make_published(path, dir, "qwen2", 0, &o);
	temp_path(out, "refused.gguf");
	static const char *const inputs[] = {"config.json", "tokenizer.json", "tokenizer_config.json",
	                                     "model.safetensors.index.json",
	                                     "model-00002-of-00002.safetensors"};
	for (size_t i = 0; i < COUNT(inputs); i++) {
		char before[65], after[65];
		snprintf(name, sizeof name, "%s/%s", dir, inputs[i]);
		assert_ok(rv_file_sha256(name, before));
		refused(dir, name, NULL, RV_ERR_INVALID, "both input and output");
		assert_ok(rv_file_sha256(name, after));
		assert_string_equal(before, after);
	}
	rv_convert_options c = {.type = rv_type_by_name("Q8_0")};
	refused(dir, out, &c, RV_ERR_INVALID, "Q8_0");
	c = (rv_convert_options){.cancelled = say_cancel, .user = &calls};
	refused(dir, out, &c, RV_ERR_CANCELLED, "cancelled");
	assert_int_equal(calls, 4);
	snprintf(name, sizeof name, "%s/none/out.gguf", dir);
	refused(dir, name, NULL, RV_ERR_NOT_FOUND, "none");
	/* an older file stays as it is */
	assert_ok(rv_file_write(out, "old", 3));
	refused(dir, out, &c, RV_ERR_CANCELLED, "cancelled");
	char *text;
	size_t size;
	assert_ok(rv_file_read(out, 100, &text, &size));
	assert_string_equal(text, "old");
	rv_free(text);
	/* a vocabulary larger than the embedding */
	synthesize(path, "qwen2", 0);
	rv_hparams hp = small_shape();
	hp.n_vocab = 400;
	rv_synth_options s = synth_options("qwen2", hp, "F16");
	rv_gguf *g;
	assert_ok(rv_synth_file(path, &s));
	assert_ok(rv_gguf_open(&g, path, RV_GGUF_DEFAULT));
	write_vocabulary(dir, g, 0);
	rv_gguf_close(g);
	refused(dir, out, NULL, RV_ERR_MISMATCH, "400 tokens, but the embedding has 320 rows");
	remove_published(dir);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(refuses_configs), cmocka_unit_test(accepts_configs),
	        cmocka_unit_test(refuses_tensors), cmocka_unit_test(refuses_folders),
	        cmocka_unit_test(refuses_outputs),
	};
	return cmocka_run_group_tests_name("convert faults", tests, make_test_dir, remove_test_dir);
}
