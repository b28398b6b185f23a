/* Conversion: a published model comes back as the file it was made from; what does not fit is refused
 * by name and leaves nothing. Logits: tests/engine/test_convert_logits.c. */
#include "model/model.h"
#include "tests/model/published.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* ---- helpers ---- */

static int same_kv(const rv_gguf *a, const rv_gguf *b, const rv_gguf_kv *x) {
	char key[128];
	snprintf(key, sizeof key, "%.*s", (int)x->key.len, x->key.data);
	const rv_gguf_kv *y = rv_gguf_find(b, key);
	(void)a;
	return y && y->kind == x->kind && y->count == x->count && y->n_bytes == x->n_bytes &&
	       memcmp(x->bytes, y->bytes, x->n_bytes) == 0;
}

/* Every tensor bit for bit, and every key of the architecture and the tokenizer. */
static int same_model(const char *pa, const char *pb) {
	rv_gguf *a, *b;
	int same = 1;
	assert_ok(rv_gguf_open(&a, pa, RV_GGUF_DEFAULT));
	assert_ok(rv_gguf_open(&b, pb, RV_GGUF_DEFAULT));
	for (size_t i = 0; i < rv_gguf_n_kv(a); i++) {
		const rv_gguf_kv *kv = rv_gguf_kv_at(a, i);
		int compared = kv->key.len > 8 && memcmp(kv->key.data, "general.", 8) != 0 &&
		               memcmp(kv->key.data, "ruvltra.", 8) != 0;
		if (!compared || same_kv(a, b, kv))
			continue;
		print_message("# key %.*s differs\n", (int)kv->key.len, kv->key.data);
		same = 0;
	}
	same &= rv_gguf_n_tensors(a) == rv_gguf_n_tensors(b);
	for (size_t i = 0; same && i < rv_gguf_n_tensors(a); i++) {
		const rv_gguf_tensor *x = rv_gguf_tensor_at(a, i);
		const rv_gguf_tensor *y = rv_gguf_find_tensor(b, x->name);
		same = y && y->type == x->type && y->n_dims == x->n_dims &&
		       memcmp(y->dims, x->dims, sizeof x->dims) == 0 &&
		       memcmp(y->data, x->data, x->n_bytes) == 0;
		if (!same)
			print_message("# tensor %s differs\n", x->name);
	}
	rv_gguf_close(a);
	rv_gguf_close(b);
	return same;
}

/* ---- there and back ---- */

static void comes_back_the_same(void **state) {
	(void)state;
	static const char *const archs[] = {"qwen2", "qwen3", "llama"};
	for (size_t i = 0; i < 3; i++)
		for (int shards = 1; shards <= 3; shards++) {
			char path[1024], dir[1024], out[1024];
			published_options o = plain_options(archs[i], RV_F16);
			rv_convert_report r;
			o.n_shards = shards;
			make_published(path, dir, archs[i], shards == 2, &o);
			assert_ok(rv_convert_dir(dir, temp_path(out, "back.gguf"), NULL, &r));
			assert_true(same_model(path, out));
			assert_string_equal(r.arch->name, archs[i]);
			assert_string_equal(r.type_name, "F16");
			assert_int_equal(r.n_files, shards);
			assert_int_equal(r.n_padded, 0);
			assert_int_equal(r.hp.tied, shards == 2);
			assert_int_equal(r.n_params, rv_arch_n_params(r.arch, &r.hp));
			remove_published(dir);
		}
}

static void comparison_catches(void **state) {
	(void)state;
	char path[1024], dir[1024], out[1024];
	published_options o = plain_options("llama", RV_F16);
	o.llama_rows = 0; /* rows that were never half-split */
	make_published(path, dir, "llama", 0, &o);
	assert_ok(rv_convert_dir(dir, temp_path(out, "back.gguf"), NULL, NULL));
	assert_false(same_model(path, out));
	remove_published(dir);
	o = plain_options("qwen2", RV_F16);
	o.poke = "model.layers.1.mlp.down_proj.weight";
	o.poke_value = 7;
	make_published(path, dir, "qwen2", 0, &o);
	assert_ok(rv_convert_dir(dir, out, NULL, NULL));
	assert_false(same_model(path, out));
	remove_published(dir);
}

static void threads_change_nothing(void **state) {
	(void)state;
	char path[1024], dir[1024], one[1024], many[1024];
	published_options o = plain_options("llama", RV_F32);
	make_published(path, dir, "llama", 0, &o);
	rv_convert_options c = {.type = rv_type_by_name("BF16")};
	assert_ok(rv_convert_dir(dir, temp_path(one, "one.gguf"), &c, NULL));
	c.threads = start_threads(3);
	assert_ok(rv_convert_dir(dir, temp_path(many, "many.gguf"), &c, NULL));
	rv_threads_destroy(c.threads);
	assert_true(same_bytes(one, many));
	remove_published(dir);
}

/* ---- types ---- */

static void check_type(const rv_gguf *g, rv_type type, int64_t file_type) {
	int64_t n;
	assert_ok(rv_gguf_int(g, "general.file_type", 0, 100, &n));
	assert_int_equal(n, file_type);
	for (size_t i = 0; i < rv_gguf_n_tensors(g); i++) {
		const rv_gguf_tensor *t = rv_gguf_tensor_at(g, i);
		assert_int_equal(t->type, t->n_dims == 1 ? RV_F32 : type);
	}
}

/* Every element is the original's, rounded to what it was stored as and then to what was asked for. */
static void check_values(const rv_gguf *in, const rv_gguf *out, rv_type stored, rv_type type) {
	for (size_t i = 0; i < rv_gguf_n_tensors(in); i++) {
		const rv_gguf_tensor *t = rv_gguf_tensor_at(in, i);
		const rv_gguf_tensor *u = rv_gguf_find_tensor(out, t->name);
		float *x = decode(t), *y = decode(u);
		for (int64_t j = 0; j < n_elements(t); j++) {
			const rv_type steps[] = {stored, t->n_dims == 1 ? RV_F32 : type};
			float v = x[j];
			for (int k = 0; k < 2; k++)
				v = steps[k] == RV_F16    ? rv_f16_to_f32(rv_f32_to_f16(v))
				    : steps[k] == RV_BF16 ? rv_bf16_to_f32(rv_f32_to_bf16(v))
				                          : v;
			if (v != y[j])
				fail_msg("%s element %lld: %g, not %g", t->name, (long long)j,
				         (double)y[j], (double)v);
		}
		rv_free(x);
		rv_free(y);
	}
}

static void types(void **state) {
	(void)state;
	static const rv_type all[] = {RV_F32, RV_F16, RV_BF16};
	static const int64_t numbers[] = {0, 1, 32};
	for (int stored = 0; stored < 3; stored++)
		for (int asked = -1; asked < 3; asked++) {
			char path[1024], dir[1024], out[1024];
			published_options o = plain_options("qwen2", all[stored]);
			o.wide_vectors = 0;
			int to = asked < 0 ? stored : asked;
			rv_convert_options c = {.type = asked < 0 ? NULL
			                                          : rv_type_get((int)all[asked])};
			rv_gguf *a, *b;
			make_published(path, dir, "qwen2", 0, &o);
			assert_ok(rv_convert_dir(dir, temp_path(out, "typed.gguf"), &c, NULL));
			assert_ok(rv_gguf_open(&a, path, RV_GGUF_DEFAULT));
			assert_ok(rv_gguf_open(&b, out, RV_GGUF_DEFAULT));
			check_type(b, all[to], numbers[to]);
			check_values(a, b, all[stored], all[to]);
			rv_gguf_close(a);
			rv_gguf_close(b);
			remove_published(dir);
		}
}

/* ---- rotation ---- */

static void rotary_rows(void **state) {
	(void)state;
	static const int64_t wanted[] = {0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15};
	for (int64_t i = 0; i < 16; i++)
		assert_int_equal(rv_convert_rotary_row(i, 8), wanted[i]);
}

/* Base 500000, 128 wide: the published shape of Llama 3.1, computed apart in double precision. */
static void rope_freqs(void **state) {
	(void)state;
	static const struct {
		int at;
		double value;
	} wanted[] = {{0, 1},           {1, 1},           {28, 1}, {29, 1.20748387}, {30, 1.55341463},
	              {32, 2.69452969}, {34, 5.25732659}, {35, 8}, {36, 8},          {63, 8}};
	static const char config[] =
	        "{\"architectures\":[\"LlamaForCausalLM\"],\"num_hidden_layers\":1,\"hidden_size\":"
	        "4096,"
	        "\"intermediate_size\":64,\"num_attention_heads\":32,\"num_key_value_heads\":8,"
	        "\"max_position_embeddings\":131072,\"vocab_size\":100,\"rms_norm_eps\":1e-5,"
	        "\"rope_theta\":500000.0,\"rope_scaling\":{\"factor\":8.0,\"low_freq_factor\":1.0,"
	        "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":8192,\"rope_type\":"
	        "\"llama3\"}}";
	rv_convert_config c;
	float out[64];
	assert_ok(rv_convert_config_parse(config, sizeof config - 1, "config.json", NULL, &c));
	assert_true(c.rope.on);
	assert_int_equal(c.hp.n_rot, 128);
	rv_convert_rope_freqs(&c, out);
	for (size_t i = 0; i < COUNT(wanted); i++)
		assert_true(fabs((double)out[wanted[i].at] / wanted[i].value - 1) < 2e-5);
}

/* The tensor is in the file, and the file opens. */
static void rope_freqs_are_written(void **state) {
	(void)state;
	char path[1024], dir[1024], out[1024];
	published_options o = plain_options("llama", RV_F16);
	rv_model *m;
	make_published(path, dir, "llama", 0, &o);
	edit_json(dir, "config.json", "rope_scaling",
	          "{\"type\":\"llama3\",\"factor\":4,\"low_freq_factor\":1,\"high_freq_factor\":4,"
	          "\"original_max_position_embeddings\":64}");
	assert_ok(rv_convert_dir(dir, temp_path(out, "freqs.gguf"), NULL, NULL));
	assert_ok(rv_model_open(&m, out, NULL));
	const rv_weight *w = rv_model_weight(m, RV_ROPE_FREQS, 0);
	assert_non_null(w);
	assert_int_equal(w->cols, 32);
	assert_true(((const float *)w->data)[0] == 1);
	assert_true(((const float *)w->data)[31] == 4);
	rv_model_release(m);
	remove_published(dir);
}

/* ---- vocabulary ---- */

static void pads_the_vocabulary(void **state) {
	(void)state;
	char path[1024], dir[1024], out[1024];
	published_options o = plain_options("qwen2", RV_F16);
	rv_convert_report r;
	rv_gguf *g;
	rv_str *tokens;
	int32_t *kinds;
	size_t n;
	o.n_tokens = 300;
	make_published(path, dir, "qwen2", 0, &o);
	assert_ok(rv_convert_dir(dir, temp_path(out, "padded.gguf"), NULL, &r));
	assert_int_equal(r.n_padded, 20);
	assert_ok(rv_gguf_open(&g, out, RV_GGUF_DEFAULT));
	assert_ok(rv_gguf_strings(g, "tokenizer.ggml.tokens", &tokens, &n));
	assert_int_equal(n, 320);
	assert_int_equal(tokens[300].len, 8);
	assert_memory_equal(tokens[300].data, "[PAD300]", 8);
	assert_memory_equal(tokens[319].data, "[PAD319]", 8);
	rv_free(tokens);
	assert_ok(rv_gguf_i32s(g, "tokenizer.ggml.token_type", &kinds, &n));
	assert_int_equal(kinds[299], 1);
	assert_int_equal(kinds[300], 5); /* unused */
	rv_free(kinds);
	rv_gguf_close(g);
	rv_model *m;
	assert_ok(rv_model_open(&m, out, NULL));
	assert_int_equal(rv_tokenizer_n_vocab(rv_model_tokenizer(m)), 320);
	rv_model_release(m);
	remove_published(dir);
}

/* SentencePiece-style: fillers have a score below every piece. */
static void pads_spm(void **state) {
	(void)state;
	char path[1024], dir[1024], out[1024], name[1200];
	published_options o = plain_options("llama", RV_F16);
	char *text;
	size_t size, n;
	rv_model *m;
	float *scores;
	make_published(path, dir, "llama", 0, &o);
	assert_ok(rv_file_read("tests/fuzz/corpus/tokenizer_json/spm", 1 << 20, &text, &size));
	snprintf(name, sizeof name, "%s/tokenizer.json", dir);
	assert_ok(rv_file_write(name, text, size));
	rv_free(text);
	snprintf(name, sizeof name, "%s/tokenizer_config.json", dir);
	assert_int_equal(unlink(name), 0);
	assert_ok(rv_convert_dir(dir, temp_path(out, "spm.gguf"), NULL, NULL));
	assert_ok(rv_model_open(&m, out, NULL));
	assert_int_equal(rv_tokenizer_get_kind(rv_model_tokenizer(m)), RV_TOKENIZER_SPM);
	assert_int_equal(rv_tokenizer_find(rv_model_tokenizer(m), "[PAD7]", 6), 7);
	assert_ok(rv_gguf_floats(rv_model_gguf(m), "tokenizer.ggml.scores", &scores, &n));
	assert_int_equal(n, 320);
	assert_true(scores[6] > -10000);
	assert_true(scores[7] <= -10000 && scores[319] <= -10000);
	rv_free(scores);
	rv_model_release(m);
	remove_published(dir);
}

static void special_ids(void **state) {
	(void)state;
	char path[1024], dir[1024], out[1024], name[1200];
	published_options o = plain_options("qwen2", RV_F16);
	rv_gguf *g;
	int64_t id;
	make_published(path, dir, "qwen2", 0, &o);
	edit_json(dir, "tokenizer_config.json", "eos_token", NULL);
	edit_json(dir, "tokenizer_config.json", "bos_token", NULL);
	edit_json(dir, "tokenizer_config.json", "pad_token", NULL);
	edit_json(dir, "config.json", "eos_token_id", "5");
	edit_json(dir, "config.json", "bos_token_id", "6");
	edit_json(dir, "config.json", "pad_token_id", "100000"); /* no token: left out */
	snprintf(name, sizeof name, "%s/generation_config.json", dir);
	static const char generation[] = "{\"eos_token_id\":[319,317],\"temperature\":0.7}";
	assert_ok(rv_file_write(name, generation, sizeof generation - 1));
	assert_ok(rv_convert_dir(dir, temp_path(out, "ids.gguf"), NULL, NULL));
	assert_ok(rv_gguf_open(&g, out, RV_GGUF_DEFAULT));
	assert_ok(rv_gguf_int(g, "tokenizer.ggml.eos_token_id", 0, 1000, &id));
	assert_int_equal(id, 319);
	assert_ok(rv_gguf_int(g, "tokenizer.ggml.bos_token_id", 0, 1000, &id));
	assert_int_equal(id, 6);
	assert_null(rv_gguf_find(g, "tokenizer.ggml.padding_token_id"));
	rv_gguf_close(g);
	remove_published(dir);
}

static void chat_templates(void **state) {
	(void)state;
	static const struct {
		const char *value, *file, *wanted;
	} cases[] = {
	        {"\"{{ x }}\"", NULL, "{{ x }}"},
	        {"[{\"name\":\"tool_use\",\"template\":\"T\"},{\"name\":\"default\",\"template\":\"D\"}"
	         "]",
	         NULL, "D"},
	        {"\"{{ x }}\"", "{{ file }}", "{{ file }}"},
	        {NULL, NULL, NULL},
	};
	char path[1024], dir[1024], out[1024], name[1200];
	published_options o = plain_options("qwen2", RV_F16);
	make_published(path, dir, "qwen2", 0, &o);
	snprintf(name, sizeof name, "%s/chat_template.jinja", dir);
	for (size_t i = 0; i < COUNT(cases); i++) {
		rv_gguf *g;
		rv_str text;
		edit_json(dir, "tokenizer_config.json", "chat_template", cases[i].value);
		unlink(name);
		if (cases[i].file)
			assert_ok(rv_file_write(name, cases[i].file, strlen(cases[i].file)));
		assert_ok(rv_convert_dir(dir, temp_path(out, "chat.gguf"), NULL, NULL));
		assert_ok(rv_gguf_open(&g, out, RV_GGUF_DEFAULT));
		if (cases[i].wanted) {
			assert_ok(rv_gguf_string(g, "tokenizer.chat_template", &text));
			assert_int_equal(text.len, strlen(cases[i].wanted));
			assert_memory_equal(text.data, cases[i].wanted, text.len);
		} else {
			assert_null(rv_gguf_find(g, "tokenizer.chat_template"));
		}
		rv_gguf_close(g);
	}
	remove_published(dir);
}

/* ---- tensors that are accepted beside the table's ---- */

static void accepts_spare_tensors(void **state) {
	(void)state;
	char path[1024], dir[1024], out[1024];
	published_options o = plain_options("llama", RV_F16);
	o.extra = "model.layers.0.self_attn.rotary_emb.inv_freq";
	o.copy_head = 1; /* a tied model's head, equal to its embedding */
	make_published(path, dir, "llama", 1, &o);
	assert_ok(rv_convert_dir(dir, temp_path(out, "spare.gguf"), NULL, NULL));
	assert_true(same_model(path, out));
	remove_published(dir);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(comes_back_the_same),
	        cmocka_unit_test(comparison_catches),
	        cmocka_unit_test(threads_change_nothing),
	        cmocka_unit_test(types),
	        cmocka_unit_test(rotary_rows),
	        cmocka_unit_test(rope_freqs),
	        cmocka_unit_test(rope_freqs_are_written),
	        cmocka_unit_test(pads_the_vocabulary),
	        cmocka_unit_test(pads_spm),
	        cmocka_unit_test(special_ids),
	        cmocka_unit_test(chat_templates),
	        cmocka_unit_test(accepts_spare_tensors),
	};
	return cmocka_run_group_tests_name("convert", tests, make_test_dir, remove_test_dir);
}
