/* A model as it is published: safetensors, config.json and tokenizer.json, written from a GGUF file.
 *
 * The opposite of the converter, and apart from it: names, shapes and the order of rotary rows are
 * written out here once more. */
#ifndef RV_TESTS_MODEL_PUBLISHED_H
#define RV_TESTS_MODEL_PUBLISHED_H

#include "base/json.h"
#include "model/arch.h"
#include "model/convert.h"
#include "model/pretokenize.h"
#include "model/tokenizer.h"
#include "tests/model/files.h"

#define MAX_TENSORS 256

typedef struct published_options {
	const char *class_name; /* "Qwen2ForCausalLM" */
	const char *model_type; /* "qwen2" */
	rv_type type;           /* of the matrices; vectors too, unless wide_vectors */
	int wide_vectors;       /* vectors F32 */
	int n_shards;           /* 1: model.safetensors */
	int llama_rows;         /* the GGUF file has interleaved rotary rows: put them back */
	int zero_biases;        /* adds q, k and v biases of 0 */
	int64_t n_tokens;       /* of the vocabulary; 0: all */
	const char *skip;       /* a published name that is left out, or NULL */
	const char *extra;      /* a published name that is added ([4], F32), or NULL */
	int copy_head;          /* a tied model's head is stored too */
	const char *poke;       /* a published name whose element 5 becomes poke_value, or NULL */
	float poke_value;
} published_options;

/* ---- one safetensors file ---- */

typedef struct st_entry {
	char name[128];
	const char *dtype;
	int64_t shape[2];
	int n_dims;
	uint8_t *bytes; /* malloc'd */
	size_t n_bytes;
} st_entry;

static inline void write_safetensors(const char *path, const st_entry *entries, size_t n) {
	json_t *header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
	size_t at = 0;
	for (size_t i = 0; i < n; i++) {
		const st_entry *e = &entries[i];
		json_t *shape = json_array();
		for (int d = 0; d < e->n_dims; d++)
			json_array_append_new(shape, json_integer(e->shape[d]));
		json_object_set_new(header, e->name,
		                    json_pack("{s:s, s:o, s:[I, I]}", "dtype", e->dtype, "shape", shape,
		                              "data_offsets", (json_int_t)at,
		                              (json_int_t)(at + e->n_bytes)));
		at += e->n_bytes;
	}
	char *text = json_dumps(header, JSON_COMPACT);
	assert_non_null(text);
	uint64_t length = strlen(text);
	FILE *f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(&length, sizeof length, 1, f), 1);
	assert_int_equal(fwrite(text, 1, length, f), length);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(fwrite(entries[i].bytes, 1, entries[i].n_bytes, f),
		                 entries[i].n_bytes);
	assert_int_equal(fclose(f), 0);
	free(text);
	json_decref(header);
}

/* ---- names ---- */

static const struct {
	const char *gguf, *published;
} published_parts[] = {
        {"token_embd.weight", "model.embed_tokens.weight"},
        {"output_norm.weight", "model.norm.weight"},
        {"output.weight", "lm_head.weight"},
        {"attn_norm.weight", "input_layernorm.weight"},
        {"attn_q.weight", "self_attn.q_proj.weight"},
        {"attn_k.weight", "self_attn.k_proj.weight"},
        {"attn_v.weight", "self_attn.v_proj.weight"},
        {"attn_q.bias", "self_attn.q_proj.bias"},
        {"attn_k.bias", "self_attn.k_proj.bias"},
        {"attn_v.bias", "self_attn.v_proj.bias"},
        {"attn_q_norm.weight", "self_attn.q_norm.weight"},
        {"attn_k_norm.weight", "self_attn.k_norm.weight"},
        {"attn_output.weight", "self_attn.o_proj.weight"},
        {"ffn_norm.weight", "post_attention_layernorm.weight"},
        {"ffn_gate.weight", "mlp.gate_proj.weight"},
        {"ffn_up.weight", "mlp.up_proj.weight"},
        {"ffn_down.weight", "mlp.down_proj.weight"},
};

static inline void publish_name(char out[128], const char *gguf) {
	int layer = 0, at = 0;
	int in_layer = sscanf(gguf, "blk.%d.%n", &layer, &at) == 1 && at > 0;
	for (size_t i = 0; i < sizeof published_parts / sizeof published_parts[0]; i++) {
		if (strcmp(published_parts[i].gguf, gguf + (in_layer ? at : 0)) != 0)
			continue;
		if (in_layer)
			snprintf(out, 128, "model.layers.%d.%s", layer, published_parts[i].published);
		else
			snprintf(out, 128, "%s", published_parts[i].published);
		return;
	}
	fail_msg("tensor %s has no published name", gguf);
}

/* ---- tensors ---- */

/* Rows of the interleaved order (pairs 2i, 2i + 1) to the half-split one (i, i + half). */
static inline void rows_to_half_split(float *x, int64_t rows, int64_t cols, int64_t head_dim) {
	float *y = malloc((size_t)(rows * cols) * sizeof *y);
	assert_non_null(y);
	for (int64_t head = 0; head < rows / head_dim; head++)
		for (int64_t half = 0; half < 2; half++)
			for (int64_t i = 0; i < head_dim / 2; i++)
				memcpy(y + (head * head_dim + half * head_dim / 2 + i) * cols,
				       x + (head * head_dim + 2 * i + half) * cols,
				       (size_t)cols * sizeof *y);
	memcpy(x, y, (size_t)(rows * cols) * sizeof *y);
	free(y);
}

static inline void fill_entry(st_entry *e, const float *x, rv_type type) {
	const rv_type_info *info = rv_type_get((int)type);
	int64_t n = e->shape[0] * (e->n_dims == 2 ? e->shape[1] : 1);
	e->dtype = info->name;
	e->n_bytes = rv_type_row_bytes(info, n);
	e->bytes = malloc(e->n_bytes);
	assert_non_null(e->bytes);
	if (type == RV_F32)
		memcpy(e->bytes, x, e->n_bytes);
	else
		rv_kernels_for(RV_LEVEL_REF)->type[type].quantize(e->bytes, x, NULL, n);
}

static inline st_entry make_entry(const rv_gguf_tensor *t, const published_options *o,
                                  int64_t head_dim) {
	st_entry e = {.n_dims = t->n_dims, .shape = {t->dims[0], 1}};
	if (t->n_dims == 2) {
		e.shape[0] = t->dims[1];
		e.shape[1] = t->dims[0];
	}
	publish_name(e.name, t->name);
	float *x = decode(t);
	if (o->llama_rows && (strstr(t->name, "attn_q.w") || strstr(t->name, "attn_k.w")))
		rows_to_half_split(x, t->dims[1], t->dims[0], head_dim);
	if (o->poke && strcmp(o->poke, e.name) == 0)
		x[5] = o->poke_value;
	fill_entry(&e, x, t->n_dims == 1 && o->wide_vectors ? RV_F32 : o->type);
	rv_free(x);
	return e;
}

static inline size_t add_zero_biases(st_entry *entries, size_t n, size_t cap, const rv_hparams *hp) {
	static const char *const parts[] = {"q", "k", "v"};
	for (int64_t layer = 0; layer < hp->n_layers; layer++)
		for (int i = 0; i < 3; i++) {
			assert_true(n < cap);
			int64_t rows = (i ? hp->n_kv_heads : hp->n_heads) * hp->head_dim;
			float *x = calloc((size_t)rows, sizeof *x);
			st_entry *e = &entries[n++];
			*e = (st_entry){.n_dims = 1, .shape = {rows, 1}};
			snprintf(e->name, sizeof e->name, "model.layers.%d.self_attn.%s_proj.bias",
			         (int)layer, parts[i]);
			fill_entry(e, x, RV_F32);
			free(x);
		}
	return n;
}

static inline void write_shards(const char *dir, const st_entry *entries, size_t n, int n_shards) {
	char path[2048];
	json_t *map = json_object();
	for (int s = 0; s < n_shards; s++) {
		char name[64];
		size_t first = n * (size_t)s / (size_t)n_shards,
		       last = n * (size_t)(s + 1) / (size_t)n_shards;
		snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", s + 1, n_shards);
		snprintf(path, sizeof path, "%s/%s", dir, n_shards == 1 ? "model.safetensors" : name);
		write_safetensors(path, entries + first, last - first);
		for (size_t i = first; i < last; i++)
			json_object_set_new(map, entries[i].name, json_string(name));
	}
	json_t *index = json_pack("{s:{s:i}, s:o}", "metadata", "total_size", 0, "weight_map", map);
	snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir);
	if (n_shards > 1)
		assert_ok(rv_json_write(path, index));
	json_decref(index);
}

/* ---- the JSON files ---- */

static inline json_t *published_config(const rv_hparams *hp, const published_options *o) {
	return json_pack("{s:[s], s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:b, s:s}",
	                 "architectures", o->class_name, "model_type", o->model_type,
	                 "num_hidden_layers", (json_int_t)hp->n_layers, "hidden_size",
	                 (json_int_t)hp->n_embd, "intermediate_size", (json_int_t)hp->n_ff,
	                 "num_attention_heads", (json_int_t)hp->n_heads, "num_key_value_heads",
	                 (json_int_t)hp->n_kv_heads, "head_dim", (json_int_t)hp->head_dim,
	                 "max_position_embeddings", (json_int_t)hp->n_ctx_train, "vocab_size",
	                 (json_int_t)hp->n_vocab, "rms_norm_eps", hp->rms_eps, "rope_theta",
	                 hp->rope_theta, "tie_word_embeddings", hp->tied, "hidden_act", "silu");
}

static inline json_t *published_tokens(const rv_tokenizer *t, int64_t n, json_t *added) {
	json_t *vocab = json_object();
	for (int32_t id = 0; id < n; id++) {
		rv_str s = rv_tokenizer_entry(t, id);
		if (rv_tokenizer_is_special(t, id))
			json_array_append_new(added, json_pack("{s:i, s:s#, s:b, s:b, s:b, s:b, s:b}",
			                                       "id", id, "content", s.data, (int)s.len,
			                                       "single_word", 0, "lstrip", 0, "rstrip",
			                                       0, "normalized", 0, "special", 1));
		else
			json_object_setn_new(vocab, s.data, s.len, json_integer(id));
	}
	return vocab;
}

static inline json_t *published_tokenizer(const rv_gguf *g, const rv_tokenizer *t, int64_t n) {
	rv_pretok pre;
	rv_str *lines;
	size_t n_lines;
	const char *name = rv_tokenizer_pre(t);
	assert_true(rv_pretok_by_name(name, strlen(name), &pre));
	assert_ok(rv_gguf_strings(g, "tokenizer.ggml.merges", &lines, &n_lines));
	json_t *merges = json_array(), *added = json_array();
	json_t *vocab = published_tokens(t, n ? n : rv_tokenizer_n_vocab(t), added);
	for (size_t i = 0; i < n_lines; i++)
		json_array_append_new(merges, json_stringn(lines[i].data, lines[i].len));
	rv_free(lines);
	return json_pack("{s:s, s:o, s:n, s:{s:s, s:[{s:s, s:{s:s}, s:s, s:b}, {s:s, s:b, s:b, s:b}]},"
	                 " s:n, s:{s:s}, s:{s:s, s:b, s:o, s:o}}",
	                 "version", "1.0", "added_tokens", added, "normalizer", "pre_tokenizer", "type",
	                 "Sequence", "pretokenizers", "type", "Split", "pattern", "Regex",
	                 rv_pretok_pattern(pre), "behavior", "Isolated", "invert", 0, "type",
	                 "ByteLevel", "add_prefix_space", 0, "trim_offsets", 0, "use_regex", 0,
	                 "post_processor", "decoder", "type", "ByteLevel", "model", "type", "BPE",
	                 "ignore_merges", pre == RV_PRETOK_LLAMA3, "vocab", vocab, "merges", merges);
}

static inline void name_token(json_t *config, const char *key, const rv_tokenizer *t, int64_t id,
                              int64_t n) {
	if (id < 0 || (n && id >= n))
		return;
	rv_str s = rv_tokenizer_entry(t, (int32_t)id);
	json_object_set_new(config, key, json_stringn(s.data, s.len));
}

static inline void write_json(const char *dir, const char *name, json_t *value) {
	char path[2048];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	assert_non_null(value);
	assert_ok(rv_json_write(path, value));
	json_decref(value);
}

static inline void write_vocabulary(const char *dir, const rv_gguf *g, int64_t n) {
	rv_tokenizer *t;
	int64_t pad = -1;
	rv_str text;
	assert_ok(rv_tokenizer_from_gguf(&t, g, NULL));
	write_json(dir, "tokenizer.json", published_tokenizer(g, t, n));
	json_t *config = json_pack("{s:b}", "add_bos_token", rv_tokenizer_add_bos(t));
	name_token(config, "bos_token", t, rv_tokenizer_bos(t), n);
	name_token(config, "eos_token", t, rv_tokenizer_eos(t), n);
	if (rv_gguf_find(g, "tokenizer.ggml.padding_token_id"))
		assert_ok(rv_gguf_int(g, "tokenizer.ggml.padding_token_id", 0, INT32_MAX, &pad));
	name_token(config, "pad_token", t, pad, n);
	if (rv_gguf_find(g, "tokenizer.chat_template")) {
		assert_ok(rv_gguf_string(g, "tokenizer.chat_template", &text));
		json_object_set_new(config, "chat_template", json_stringn(text.data, text.len));
	}
	write_json(dir, "tokenizer_config.json", config);
	rv_tokenizer_destroy(t);
}

/* ---- the folder ---- */

/* Writes the GGUF file `path` as a folder into `dir`, which is there. */
static inline void publish(const char *dir, const char *path, const published_options *o) {
	rv_gguf *g;
	const rv_arch *arch;
	rv_hparams hp;
	static st_entry entries[MAX_TENSORS];
	size_t n = 0;
	assert_ok(rv_gguf_open(&g, path, RV_GGUF_DEFAULT));
	assert_ok(rv_arch_read(g, &arch, &hp));
	assert_true(rv_gguf_n_tensors(g) + 2 <= MAX_TENSORS);
	for (size_t i = 0; i < rv_gguf_n_tensors(g); i++) {
		const rv_gguf_tensor *t = rv_gguf_tensor_at(g, i);
		char name[128];
		publish_name(name, t->name);
		if (!o->skip || strcmp(o->skip, name) != 0)
			entries[n++] = make_entry(t, o, hp.head_dim);
	}
	if (o->extra) {
		const float zeros[4] = {0};
		entries[n] = (st_entry){.n_dims = 1, .shape = {4, 1}};
		snprintf(entries[n].name, sizeof entries[n].name, "%s", o->extra);
		fill_entry(&entries[n++], zeros, RV_F32);
	}
	if (o->copy_head) {
		const rv_gguf_tensor *embd = rv_gguf_find_tensor(g, "token_embd.weight");
		entries[n] = make_entry(embd, o, hp.head_dim);
		snprintf(entries[n++].name, sizeof entries[0].name, "lm_head.weight");
	}
	if (o->zero_biases)
		n = add_zero_biases(entries, n, MAX_TENSORS, &hp);
	write_shards(dir, entries, n, o->n_shards);
	for (size_t i = 0; i < n; i++)
		free(entries[i].bytes);
	write_json(dir, "config.json", published_config(&hp, o));
	write_vocabulary(dir, g, o->n_tokens);
	rv_gguf_close(g);
}

/* Sets a key of a JSON file to the value that `text` is; NULL removes it. */
static inline void edit_json(const char *dir, const char *name, const char *key, const char *text) {
	char path[2048];
	json_t *root, *value = NULL;
	snprintf(path, sizeof path, "%s/%s", dir, name);
	assert_ok(rv_json_read(path, 1 << 24, &root));
	if (text)
		assert_ok(rv_json_parse(text, strlen(text), "value", &value));
	if (value)
		json_object_set_new(root, key, value);
	else
		json_object_del(root, key);
	write_json(dir, name, root);
}

/* A folder of its own below test_dir. */
static inline const char *published_dir(char buf[1024], const char *name) {
	assert_int_equal(mkdir(temp_path(buf, name), 0777), 0);
	return buf;
}

static inline void remove_published(const char *dir) {
	DIR *d = opendir(dir);
	for (struct dirent *e; d && (e = readdir(d));) {
		char path[2048];
		snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
		unlink(path);
	}
	if (d)
		closedir(d);
	rmdir(dir);
}

/* ---- small models ---- */

/* A synthetic model of two layers and 320 tokens, F16. */
static inline void synthesize(const char *path, const char *arch, int tied) {
	rv_hparams hp = small_shape();
	hp.tied = tied;
	rv_synth_options s = synth_options(arch, hp, "F16");
	assert_ok(rv_synth_file(path, &s));
}

/* As such models are published: vectors F32, one file. */
static inline published_options plain_options(const char *arch, rv_type type) {
	int llama = strcmp(arch, "llama") == 0, qwen3 = strcmp(arch, "qwen3") == 0;
	return (published_options){.class_name = llama   ? "LlamaForCausalLM"
	                                         : qwen3 ? "Qwen3ForCausalLM"
	                                                 : "Qwen2ForCausalLM",
	                           .model_type = arch,
	                           .type = type,
	                           .wide_vectors = 1,
	                           .n_shards = 1,
	                           .llama_rows = llama};
}

/* A published model in `dir`, made from the synthetic one in `path`. */
static inline void make_published(char path[1024], char dir[1024], const char *arch, int tied,
                                  const published_options *o) {
	synthesize(temp_path(path, "synth.gguf"), arch, tied);
	publish(published_dir(dir, "published"), path, o);
}

#endif
