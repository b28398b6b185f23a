/* The vocabulary of a folder: tokenizer.json, made as long as the embedding has rows. */
#include "base/mem.h"
#include "model/convert_internal.h"
#include "model/safetensors.h"
#include "model/tokenizer_internal.h"

#include <stdio.h>
#include <sys/stat.h>

#define TEXT_BYTES_MAX ((size_t)16 << 20)
#define PAD_BYTES 24        /* "[PAD2147483647]" */
#define PAD_SCORE -10000.0f /* below every piece: nothing merges into it */

struct rv_convert_vocab {
	rv_tokenizer *tok;
	rv_tokenizer padded; /* what is written: tok, but for entries, types, scores and special ids */
	char *chat_template; /* NULL: none */
	int64_t n_padded;
};

rv_status rv_convert_join(char **out, const char *dir, const char *name) {
	size_t bytes = strlen(dir) + strlen(name) + 2;
	RV_TRY(rv_alloc((void **)out, bytes, 1, "path"));
	snprintf(*out, bytes, "%s/%s", dir, name);
	return RV_OK;
}

/* ---- the chat template ---- */

/* A text, or a list of named ones: then the one named default. */
static const char *find_template(const json_t *config) {
	const json_t *v = json_object_get(config, "chat_template"), *item;
	size_t i;
	json_array_foreach(v, i, item) {
		const char *name = json_string_value(json_object_get(item, "name"));
		if (name && strcmp(name, "default") == 0)
			return json_string_value(json_object_get(item, "template"));
	}
	return json_string_value(v);
}

static rv_status template_from_config(const char *path, char **out) {
	json_t *config;
	RV_TRY(rv_safetensors_json(path, TEXT_BYTES_MAX, &config));
	const char *text = find_template(config);
	rv_status status = text ? rv_strdup(out, text) : RV_OK;
	json_decref(config);
	return status;
}

static rv_status template_from_file(const char *path, char **out) {
	rv_map map;
	RV_TRY(rv_map_open(&map, path));
	rv_status status = map.size > TEXT_BYTES_MAX
	                           ? rv_fail(RV_ERR_LIMIT, "%s: %zu bytes, more than %zu", path,
	                                     map.size, TEXT_BYTES_MAX)
	                           : rv_strndup(out, map.size ? (const char *)map.data : "", map.size);
	rv_map_close(&map);
	return status;
}

/* A file of its own goes before tokenizer_config.json's. */
static rv_status read_template(const char *dir, char **out) {
	static const struct {
		const char *name;
		rv_status (*read)(const char *path, char **out);
	} places[] = {{"chat_template.jinja", template_from_file},
	              {"tokenizer_config.json", template_from_config}};
	for (size_t i = 0; i < 2 && !*out; i++) {
		char *path;
		struct stat st;
		RV_TRY(rv_convert_join(&path, dir, places[i].name));
		rv_status status = lstat(path, &st) == 0 ? places[i].read(path, out) : RV_OK;
		rv_free(path);
		RV_TRY(status);
	}
	return RV_OK;
}

/* ---- padding ---- */

static int is_hole(const rv_tokenizer *t, int64_t id) {
	return id >= t->n_vocab || !rv_tok_text(&t->entries, (size_t)id).len;
}

/* Entries of `n` tokens: ids that nothing uses are named by their number. */
static rv_status pad_entries(rv_convert_vocab *v, size_t n) {
	rv_str *parts = NULL;
	char(*pads)[PAD_BYTES] = NULL;
	rv_status status = RV_ALLOC(&parts, n, "vocabulary");
	if (status == RV_OK)
		status = RV_ALLOC(&pads, n, "vocabulary");
	for (size_t i = 0; i < n && status == RV_OK; i++) {
		if (!is_hole(v->tok, (int64_t)i)) {
			parts[i] = rv_tok_text(&v->tok->entries, i);
			continue;
		}
		int len = snprintf(pads[i], PAD_BYTES, "[PAD%zu]", i);
		parts[i] = (rv_str){pads[i], (size_t)len};
		v->n_padded++;
	}
	if (status == RV_OK)
		status = rv_tok_strings_copy(&v->padded.entries, parts, n, "vocabulary");
	rv_free(pads);
	rv_free(parts);
	return status;
}

static rv_status pad(rv_convert_vocab *v, int64_t n) {
	const rv_tokenizer *t = v->tok;
	v->padded = *t;
	v->padded.entries = (rv_tok_strings){0};
	v->padded.type = NULL;
	v->padded.scores = NULL;
	v->padded.n_vocab = (int32_t)n;
	RV_TRY(pad_entries(v, (size_t)n));
	RV_TRY(RV_ALLOC(&v->padded.type, n, "token types"));
	if (t->scores)
		RV_TRY(RV_ALLOC(&v->padded.scores, n, "token scores"));
	for (int64_t i = 0; i < n; i++) {
		v->padded.type[i] = is_hole(t, i) ? (uint8_t)RV_TOK_UNUSED : t->type[i];
		if (t->scores)
			v->padded.scores[i] = is_hole(t, i) ? PAD_SCORE : t->scores[i];
	}
	return RV_OK;
}

/* ---- special ids that only the model's configuration names ---- */

static void take_id(const rv_tokenizer *t, const char *what, int64_t id, int32_t *out,
                    const rv_log *log) {
	if (*out >= 0 || id == -1)
		return;
	if (id < 0 || is_hole(t, id))
		rv_logf(log, RV_LOG_WARN, "%s: %s = %lld of the configuration is not a token: ignored",
		        t->name, what, (long long)id);
	else
		*out = (int32_t)id;
}

static rv_status open_into(rv_convert_vocab *v, const char *dir, const rv_convert_config *config,
                           const rv_log *log) {
	char *path;
	int64_t rows = config->hp.n_vocab;
	RV_TRY(rv_convert_join(&path, dir, "tokenizer.json"));
	rv_status status = rv_tokenizer_from_json(&v->tok, path, log);
	rv_free(path);
	RV_TRY(status);
	if (v->tok->n_vocab > rows)
		return rv_fail(RV_ERR_MISMATCH, "%s: %d tokens, but the embedding has %lld rows",
		               v->tok->name, v->tok->n_vocab, (long long)rows);
	RV_TRY(pad(v, rows));
	take_id(v->tok, "bos_token_id", config->bos, &v->padded.bos, log);
	take_id(v->tok, "eos_token_id", config->eos, &v->padded.eos, log);
	take_id(v->tok, "pad_token_id", config->pad, &v->padded.pad, log);
	return read_template(dir, &v->chat_template);
}

rv_status rv_convert_vocab_open(rv_convert_vocab **out, const char *dir,
                                const rv_convert_config *config, const rv_log *log) {
	rv_convert_vocab *v;
	*out = NULL;
	RV_TRY(RV_ALLOC(&v, 1, "vocabulary"));
	rv_status status = open_into(v, dir, config, log);
	if (status != RV_OK)
		rv_convert_vocab_close(v);
	else
		*out = v;
	return status;
}

void rv_convert_vocab_close(rv_convert_vocab *v) {
	if (!v)
		return;
	if (v->padded.n_vocab) {
		rv_tok_strings_free(&v->padded.entries);
		rv_free(v->padded.type);
		rv_free(v->padded.scores);
	}
	rv_tokenizer_destroy(v->tok);
	rv_free(v->chat_template);
	rv_free(v);
}

int64_t rv_convert_vocab_padded(const rv_convert_vocab *v) {
	return v->n_padded;
}

rv_status rv_convert_vocab_write(const rv_convert_vocab *v, rv_gguf_writer *w) {
	RV_TRY(rv_tokenizer_write_gguf(&v->padded, w));
	if (v->chat_template)
		RV_TRY(rv_gguf_write_string(w, "tokenizer.chat_template", v->chat_template));
	return RV_OK;
}
