/* The vocabulary as tokenizer.ggml.* keys of a GGUF file. */
#include "base/mem.h"
#include "model/tokenizer_internal.h"

#define KEY(name) "tokenizer.ggml." name

/* ---- reading ---- */

/* An optional value: absent is no failure. */
static rv_status optional(rv_status status) {
	return status == RV_ERR_NOT_FOUND ? RV_OK : status;
}

static rv_status fail_count(const rv_tokenizer *t, const char *key, size_t n) {
	return rv_fail(RV_ERR_FORMAT, "%s: key '%s' has %zu elements for %d tokens", t->name, key, n,
	               t->n_vocab);
}

static rv_status read_types(rv_tokenizer *t, const rv_gguf *gguf, const rv_log *log) {
	int32_t *types = NULL;
	size_t n = 0, odd = 0;
	rv_status status = rv_gguf_i32s(gguf, KEY("token_type"), &types, &n);
	if (status != RV_OK)
		return optional(status);
	if (n != (size_t)t->n_vocab) {
		rv_free(types);
		return fail_count(t, KEY("token_type"), n);
	}
	for (size_t i = 0; i < n; i++) {
		int known = types[i] >= RV_TOK_NORMAL && types[i] <= RV_TOK_BYTE;
		t->type[i] = known ? (uint8_t)types[i] : (uint8_t)RV_TOK_NORMAL;
		odd += !known;
	}
	rv_free(types);
	if (odd)
		rv_logf(log, RV_LOG_WARN, "%s: %zu tokens of unknown type are taken as text", t->name,
		        odd);
	return RV_OK;
}

static rv_status read_scores(rv_tokenizer *t, const rv_gguf *gguf) {
	size_t n;
	RV_TRY(rv_gguf_floats(gguf, KEY("scores"), &t->scores, &n));
	return n == (size_t)t->n_vocab ? RV_OK : fail_count(t, KEY("scores"), n);
}

/* "left right": the first character is never the separator. */
static rv_status add_merges(rv_tokenizer *t, const rv_str *lines, size_t n, size_t *skipped) {
	for (size_t i = 0; i < n; i++) {
		const char *space =
		        lines[i].len < 2 ? NULL : memchr(lines[i].data + 1, ' ', lines[i].len - 1);
		int added = 0;
		if (space) {
			size_t left = (size_t)(space - lines[i].data);
			RV_TRY(rv_tok_add_merge(t, n, (rv_str){lines[i].data, left},
			                        (rv_str){space + 1, lines[i].len - left - 1}, &added));
		}
		*skipped += !added;
	}
	return RV_OK;
}

static rv_status read_merges(rv_tokenizer *t, const rv_gguf *gguf, const rv_log *log) {
	rv_str *lines = NULL;
	size_t n = 0, skipped = 0;
	RV_TRY(rv_gguf_strings(gguf, KEY("merges"), &lines, &n));
	rv_status status = add_merges(t, lines, n, &skipped);
	rv_free(lines);
	if (status == RV_OK && skipped)
		rv_logf(log, RV_LOG_WARN,
		        "%s: %zu of %zu merges do not join two tokens into a third: skipped", t->name,
		        skipped, n);
	return status;
}

static rv_status read_special(const rv_tokenizer *t, const rv_gguf *gguf, const rv_log *log,
                              const char *key, int32_t *id) {
	int64_t v;
	rv_status status = rv_gguf_int(gguf, key, INT64_MIN, INT64_MAX, &v);
	if (status != RV_OK)
		return optional(status);
	if (v < 0 || v >= t->n_vocab)
		rv_logf(log, RV_LOG_WARN, "%s: key '%s' = %lld is not a token of %d: ignored", t->name,
		        key, (long long)v, t->n_vocab);
	else
		*id = (int32_t)v;
	return RV_OK;
}

/* The ids SentencePiece has by convention, where the tokens at them are of the kind. */
static void default_specials(rv_tokenizer *t) {
	if (t->kind != RV_TOKENIZER_SPM || t->n_vocab < 3)
		return;
	t->unk = t->type[0] == RV_TOK_UNKNOWN ? 0 : -1;
	t->bos = t->type[1] == RV_TOK_CONTROL ? 1 : -1;
	t->eos = t->type[2] == RV_TOK_CONTROL ? 2 : -1;
}

static rv_status read_options(rv_tokenizer *t, const rv_gguf *gguf, const rv_log *log) {
	int space_prefix = t->kind == RV_TOKENIZER_SPM, squeeze = 0;
	default_specials(t);
#define READ_SPECIAL(field, key) RV_TRY(read_special(t, gguf, log, KEY(key), &t->field));
	RV_TOK_SPECIALS(READ_SPECIAL)
#undef READ_SPECIAL
	t->add_bos = t->kind == RV_TOKENIZER_SPM || t->pre == RV_PRETOK_LLAMA3;
	t->ignore_merges = t->kind == RV_TOKENIZER_BPE && t->pre == RV_PRETOK_LLAMA3;
	RV_TRY(optional(rv_gguf_bool(gguf, KEY("add_bos_token"), &t->add_bos)));
	RV_TRY(optional(rv_gguf_bool(gguf, KEY("add_eos_token"), &t->add_eos)));
	RV_TRY(optional(rv_gguf_bool(gguf, KEY("add_space_prefix"), &space_prefix)));
	RV_TRY(optional(rv_gguf_bool(gguf, KEY("remove_extra_whitespaces"), &squeeze)));
	if (squeeze && t->kind == RV_TOKENIZER_SPM)
		return rv_fail(RV_ERR_UNSUPPORTED, "%s: '%s' is not implemented", t->name,
		               KEY("remove_extra_whitespaces"));
	if (space_prefix && t->kind == RV_TOKENIZER_BPE) {
		rv_logf(log, RV_LOG_WARN, "%s: '%s' has no meaning for byte-level BPE: ignored",
		        t->name, KEY("add_space_prefix"));
		space_prefix = 0;
	}
	t->prefix = space_prefix ? RV_TOK_PREFIX_ALWAYS : RV_TOK_PREFIX_NEVER;
	return RV_OK;
}

static int is_text(rv_str s, const char *text) {
	return s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

static rv_status read_kind(rv_tokenizer *t, const rv_gguf *gguf, const rv_log *log) {
	rv_str model, pre;
	RV_TRY(rv_gguf_string(gguf, KEY("model"), &model));
	if (is_text(model, "llama")) {
		t->kind = RV_TOKENIZER_SPM;
		return RV_OK;
	}
	if (!is_text(model, "gpt2"))
		return rv_fail(RV_ERR_UNSUPPORTED,
		               "%s: tokenizer model '%.*s': known are gpt2 and llama", t->name,
		               (int)(model.len < 64 ? model.len : 64), model.data);
	t->kind = RV_TOKENIZER_BPE;
	rv_status status = rv_gguf_string(gguf, KEY("pre"), &pre);
	if (status == RV_ERR_NOT_FOUND) {
		rv_logf(log, RV_LOG_WARN, "%s: no pre-tokenizer is named: taking 'default'", t->name);
		t->pre = RV_PRETOK_DEFAULT;
		return RV_OK;
	}
	RV_TRY(status);
	if (!rv_pretok_by_name(pre.data, pre.len, &t->pre))
		return rv_fail(
		        RV_ERR_UNSUPPORTED,
		        "%s: pre-tokenizer '%.*s': known are default, gpt-2, qwen2 and llama-bpe",
		        t->name, (int)(pre.len < 64 ? pre.len : 64), pre.data);
	return RV_OK;
}

static rv_status read_all(rv_tokenizer *t, const rv_gguf *gguf, const rv_log *log) {
	rv_str *entries = NULL;
	size_t n = 0;
	RV_TRY(read_kind(t, gguf, log));
	rv_status status = rv_gguf_strings(gguf, KEY("tokens"), &entries, &n);
	if (status == RV_ERR_NOT_FOUND)
		return rv_fail(RV_ERR_FORMAT, "%s: key '%s' is missing", t->name, KEY("tokens"));
	RV_TRY(status);
	status = rv_tok_set_entries(t, entries, n, log);
	rv_free(entries);
	RV_TRY(status);
	RV_TRY(read_types(t, gguf, log));
	RV_TRY(read_options(t, gguf, log));
	status = t->kind == RV_TOKENIZER_BPE ? read_merges(t, gguf, log) : read_scores(t, gguf);
	if (status == RV_ERR_NOT_FOUND)
		return rv_fail(RV_ERR_FORMAT, "%s: key '%s' is missing", t->name,
		               t->kind == RV_TOKENIZER_BPE ? KEY("merges") : KEY("scores"));
	RV_TRY(status);
	return rv_tok_finish(t, log);
}

rv_status rv_tokenizer_from_gguf(rv_tokenizer **out, const rv_gguf *gguf, const rv_log *log) {
	rv_tokenizer *t;
	*out = NULL;
	RV_TRY(rv_tok_new(&t, rv_gguf_path(gguf)));
	rv_status status = read_all(t, gguf, log);
	if (status != RV_OK) {
		rv_tokenizer_destroy(t);
		return status;
	}
	*out = t;
	return RV_OK;
}

/* ---- writing ---- */

static rv_status write_types(const rv_tokenizer *t, rv_gguf_writer *w) {
	int32_t *types;
	RV_TRY(RV_ALLOC(&types, t->n_vocab, "token types"));
	for (int32_t i = 0; i < t->n_vocab; i++)
		types[i] = t->type[i];
	rv_status status = rv_gguf_write_i32s(w, KEY("token_type"), types, (size_t)t->n_vocab);
	rv_free(types);
	return status;
}

/* "left right" of every merge in one blob. */
static rv_status write_merges(const rv_tokenizer *t, rv_gguf_writer *w) {
	rv_str *lines = NULL;
	char *blob = NULL;
	size_t total = 0, n = t->n_merges, at = 0;
	for (size_t i = 0; i < n; i++)
		total += rv_tok_text(&t->entries, (size_t)t->merges[i].id).len + 1;
	rv_status status = RV_ALLOC(&lines, n, "merges");
	if (status == RV_OK)
		status = rv_alloc_uninit((void **)&blob, total, 1, "merges");
	for (size_t i = 0; i < n && status == RV_OK; i++) {
		rv_str left = rv_tok_text(&t->entries, t->merges[i].key >> 32);
		rv_str right = rv_tok_text(&t->entries, (uint32_t)t->merges[i].key);
		lines[i] = (rv_str){blob + at, left.len + 1 + right.len};
		memcpy(blob + at, left.data, left.len);
		blob[at + left.len] = ' ';
		memcpy(blob + at + left.len + 1, right.data, right.len);
		at += lines[i].len;
	}
	if (status == RV_OK)
		status = rv_gguf_write_strings(w, KEY("merges"), lines, n);
	rv_free(lines);
	rv_free(blob);
	return status;
}

static rv_status write_tokens(const rv_tokenizer *t, rv_gguf_writer *w) {
	rv_str *entries;
	size_t n = (size_t)t->n_vocab;
	RV_TRY(RV_ALLOC(&entries, n, "vocabulary"));
	for (size_t i = 0; i < n; i++)
		entries[i] = rv_tok_text(&t->entries, i);
	rv_status status = rv_gguf_write_strings(w, KEY("tokens"), entries, n);
	rv_free(entries);
	return status;
}

rv_status rv_tokenizer_write_gguf(const rv_tokenizer *t, rv_gguf_writer *w) {
	int spm = t->kind == RV_TOKENIZER_SPM;
	RV_TRY(rv_gguf_write_string(w, KEY("model"), spm ? "llama" : "gpt2"));
	RV_TRY(rv_gguf_write_string(w, KEY("pre"), spm ? "default" : rv_pretok_name(t->pre)));
	RV_TRY(write_tokens(t, w));
	RV_TRY(write_types(t, w));
	if (spm)
		RV_TRY(rv_gguf_write_f32s(w, KEY("scores"), t->scores, (size_t)t->n_vocab));
	else
		RV_TRY(write_merges(t, w));
#define WRITE_SPECIAL(field, key)                                                                      \
	if (t->field >= 0)                                                                             \
		RV_TRY(rv_gguf_write_u32(w, KEY(key), (uint32_t)t->field));
	RV_TOK_SPECIALS(WRITE_SPECIAL)
#undef WRITE_SPECIAL
	RV_TRY(rv_gguf_write_bool(w, KEY("add_bos_token"), t->add_bos));
	RV_TRY(rv_gguf_write_bool(w, KEY("add_eos_token"), t->add_eos));
	if (spm)
		RV_TRY(rv_gguf_write_bool(w, KEY("add_space_prefix"),
		                          t->prefix != RV_TOK_PREFIX_NEVER));
	return RV_OK;
}
