/* The vocabulary: entries, their types, what they decode to, and everything derived from them. */
#include "base/mem.h"
#include "model/tokenizer_internal.h"

/* ---- texts ---- */

rv_status rv_tok_strings_copy(rv_tok_strings *out, const rv_str *parts, size_t n, const char *what) {
	size_t total = 0;
	for (size_t i = 0; i < n; i++)
		if (!rv_add_ok(total, parts[i].len, &total) || total >= UINT32_MAX)
			return rv_fail(RV_ERR_LIMIT, "%s: texts of 4 GiB and more are too long", what);
	rv_tok_strings made = {NULL, NULL, n};
	rv_status status = rv_alloc_uninit((void **)&made.blob, total + 1, 1, what);
	if (status == RV_OK)
		status = RV_ALLOC(&made.start, n + 1, what);
	if (status != RV_OK) {
		rv_free(made.blob);
		return status;
	}
	uint32_t at = 0;
	for (size_t i = 0; i < n; i++) {
		made.start[i] = at;
		if (parts[i].len)
			memcpy(made.blob + at, parts[i].data, parts[i].len);
		at += (uint32_t)parts[i].len;
	}
	made.start[n] = at;
	rv_tok_strings_free(out);
	*out = made;
	return RV_OK;
}

void rv_tok_strings_free(rv_tok_strings *s) {
	rv_free(s->blob);
	rv_free(s->start);
	memset(s, 0, sizeof *s);
}

rv_status rv_tok_new(rv_tokenizer **out, const char *name) {
	rv_tokenizer *t;
	*out = NULL;
	RV_TRY(RV_ALLOC(&t, 1, "tokenizer"));
	rv_status status = rv_strdup(&t->name, name);
	if (status != RV_OK) {
		rv_free(t);
		return status;
	}
#define NO_SPECIAL(field, key) t->field = -1;
	RV_TOK_SPECIALS(NO_SPECIAL)
#undef NO_SPECIAL
	*out = t;
	return RV_OK;
}

void rv_tokenizer_destroy(rv_tokenizer *t) {
	if (!t)
		return;
	rv_free(t->name);
	rv_tok_strings_free(&t->entries);
	rv_tok_strings_free(&t->bytes);
	rv_free(t->type);
	rv_free(t->flags);
	rv_free(t->scores);
	rv_free(t->merges);
	rv_free(t->map.slots);
	rv_free(t->pairs.slots);
	rv_free(t->words.slots);
	for (int i = 0; i < 4; i++)
		rv_tok_finder_free(&t->finders[i / 2][i % 2]);
	rv_free(t);
}

rv_status rv_tok_set_entries(rv_tokenizer *t, const rv_str *entries, size_t n, const rv_log *log) {
	size_t duplicates;
	if (!n)
		return rv_fail(RV_ERR_FORMAT, "%s: the vocabulary is empty", t->name);
	if (n >= INT32_MAX / 2)
		return rv_fail(RV_ERR_LIMIT, "%s: %zu tokens are too many", t->name, n);
	t->n_vocab = (int32_t)n;
	RV_TRY(rv_tok_strings_copy(&t->entries, entries, n, "vocabulary"));
	RV_TRY(RV_ALLOC(&t->type, n, "token types"));
	memset(t->type, RV_TOK_NORMAL, n);
	RV_TRY(RV_ALLOC(&t->flags, n, "token flags"));
	RV_TRY(rv_tok_map_build(&t->map, &t->entries, &duplicates));
	if (duplicates)
		rv_logf(log, RV_LOG_WARN, "%s: %zu tokens repeat the text of an earlier one", t->name,
		        duplicates);
	return RV_OK;
}

/* ---- tokens with a meaning ---- */

/* Texts that are control tokens whatever the file says of them: a user's text must not become one
 * unasked. END: they end a generation. */
static const struct {
	const char *text;
	uint8_t flags;
} known_controls[] = {
        {"<|eot_id|>", RV_TOK_END},
        {"<|eom_id|>", RV_TOK_END},
        {"<|im_end|>", RV_TOK_END},
        {"<|end|>", RV_TOK_END},
        {"<end_of_turn>", RV_TOK_END},
        {"<|endoftext|>", RV_TOK_END},
        {"<EOT>", RV_TOK_END},
        {"<\xef\xbd\x9c"
         "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>",
         RV_TOK_END},
        {"<|fim_prefix|>", 0},
        {"<|fim_suffix|>", 0},
        {"<|fim_middle|>", 0},
        {"<|fim_pad|>", RV_TOK_END},
        {"<|fim_repo|>", RV_TOK_END},
        {"<|repo_name|>", RV_TOK_END},
        {"<|file_sep|>", RV_TOK_END},
        {"<fim-prefix>", 0},
        {"<fim-suffix>", 0},
        {"<fim-middle>", 0},
        {"<fim-pad>", RV_TOK_END},
        {"<fim-repo>", RV_TOK_END},
};

static void mark_controls(rv_tokenizer *t, const rv_log *log) {
	for (size_t i = 0; i < sizeof known_controls / sizeof *known_controls; i++) {
		const char *text = known_controls[i].text;
		int32_t id = rv_tokenizer_find(t, text, strlen(text));
		if (id < 0)
			continue;
		t->flags[id] |= known_controls[i].flags;
		if (t->type[id] == RV_TOK_CONTROL)
			continue;
		rv_logf(log, RV_LOG_INFO, "%s: token %d '%s' is taken as a control token", t->name, id,
		        text);
		t->type[id] = RV_TOK_CONTROL;
	}
	const int32_t ends[] = {t->eos, t->eot, t->eom};
	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
		if (ends[i] >= 0)
			t->flags[ends[i]] |= RV_TOK_END;
}

static int is_looked_for(const rv_tokenizer *t, int32_t id, int parse_special) {
	uint8_t type = t->type[id];
	return type == RV_TOK_USER ||
	       (parse_special && (type == RV_TOK_CONTROL || type == RV_TOK_UNKNOWN));
}

static rv_status build_finders(rv_tokenizer *t, const rv_log *log) {
	int32_t *ids;
	size_t too_long = 0;
	RV_TRY(RV_ALLOC(&ids, t->n_vocab, "special tokens"));
	rv_status status = RV_OK;
	for (int k = 0; k < 4 && status == RV_OK; k++) {
		int parse_special = k / 2, late = k % 2;
		size_t n = 0;
		for (int32_t id = 0; id < t->n_vocab; id++) {
			size_t len = rv_tok_text(&t->entries, (size_t)id).len;
			if (!len || !is_looked_for(t, id, parse_special) ||
			    !(t->flags[id] & RV_TOK_LATE) != !late)
				continue;
			if (len > RV_TOK_MATCH_MAX)
				too_long += (size_t)parse_special;
			else
				ids[n++] = id;
		}
		status = rv_tok_finder_build(&t->finders[parse_special][late], &t->entries, ids, n);
	}
	rv_free(ids);
	if (too_long)
		rv_logf(log, RV_LOG_WARN,
		        "%s: %zu special tokens are longer than %d bytes and are not looked for in "
		        "texts",
		        t->name, too_long, RV_TOK_MATCH_MAX);
	return status;
}

/* ---- what tokens decode to ---- */

/* The bytes of one token, at most as many as its entry has. */
static size_t decoded(const rv_tokenizer *t, int32_t id, char *out) {
	rv_str s = rv_tok_text(&t->entries, (size_t)id);
	uint8_t type = t->type[id];
	int literal = type == RV_TOK_CONTROL || type == RV_TOK_UNKNOWN || type == RV_TOK_USER;
	if (literal) {
		memcpy(out, s.data, s.len);
		return s.len;
	}
	if (t->kind == RV_TOKENIZER_BPE)
		return rv_tok_letters_to_bytes(s, out, NULL);
	if (type == RV_TOK_BYTE) {
		*out = (char)rv_tok_parse_byte(s);
		return 1;
	}
	size_t n = 0;
	for (size_t i = 0; i < s.len;) {
		if (s.len - i >= RV_TOK_SPACE_LEN &&
		    memcmp(s.data + i, RV_TOK_SPACE, RV_TOK_SPACE_LEN) == 0) {
			out[n++] = ' ';
			i += RV_TOK_SPACE_LEN;
		} else {
			out[n++] = s.data[i++];
		}
	}
	return n;
}

static rv_status build_bytes(rv_tokenizer *t) {
	size_t n = (size_t)t->n_vocab;
	t->bytes.n = n;
	RV_TRY(rv_alloc_uninit((void **)&t->bytes.blob, t->entries.start[n] + (size_t)1, 1,
	                       "vocabulary"));
	RV_TRY(RV_ALLOC(&t->bytes.start, n + 1, "vocabulary"));
	for (size_t i = 0; i < n; i++) {
		uint32_t at = t->bytes.start[i];
		size_t len = decoded(t, (int32_t)i, t->bytes.blob + at);
		t->bytes.start[i + 1] = at + (uint32_t)len;
		if (len > t->max_bytes)
			t->max_bytes = len;
	}
	return RV_OK;
}

/* <0x41>-like entries of type BYTE that name no byte become ordinary ones. */
static void check_bytes(rv_tokenizer *t, const rv_log *log) {
	size_t bad = 0;
	for (int32_t id = 0; id < t->n_vocab; id++) {
		if (t->type[id] != RV_TOK_BYTE)
			continue;
		if (t->kind == RV_TOKENIZER_BPE) {
			t->type[id] = RV_TOK_NORMAL;
		} else if (rv_tok_parse_byte(rv_tok_text(&t->entries, (size_t)id)) < 0) {
			t->type[id] = RV_TOK_NORMAL;
			bad++;
		}
	}
	if (bad)
		rv_logf(log, RV_LOG_WARN,
		        "%s: %zu byte tokens are not of the form <0xXX>: taken as text", t->name, bad);
}

/* ---- pieces that are one token ---- */

/* One that merging alone would give too, so that looking it up first changes nothing. */
static rv_status is_reachable(rv_tok_work *w, rv_str piece, int32_t id, int *out) {
	const rv_tokenizer *t = w->t;
	w->n = 0;
	if (t->kind == RV_TOKENIZER_BPE)
		RV_TRY(rv_tok_piece_bpe(w, piece.data, piece.len));
	else
		RV_TRY(rv_tok_piece_spm(w, piece.data, piece.len));
	*out = w->n == 1 && w->ids[0] == id;
	return RV_OK;
}

static rv_status collect_words(rv_tok_work *w, rv_tok_word *words, size_t *n) {
	const rv_tokenizer *t = w->t;
	for (int32_t id = 0; id < t->n_vocab; id++) {
		int bpe = t->kind == RV_TOKENIZER_BPE, ok = bpe && t->ignore_merges;
		rv_str piece = rv_tok_text(bpe ? &t->bytes : &t->entries, (size_t)id);
		if (!piece.len || piece.len > RV_TOK_SHORT || !rv_tok_is_mergeable(t, id))
			continue;
		if (ok) {
			char bytes[4 * RV_TOK_SHORT];
			rv_str entry = rv_tok_text(&t->entries, (size_t)id);
			size_t foreign = 0;
			if (entry.len <= sizeof bytes)
				rv_tok_letters_to_bytes(entry, bytes, &foreign);
			ok = entry.len <= sizeof bytes && !foreign;
		} else {
			/* A byte without any token is an error of the text, not of this entry. */
			rv_status status = is_reachable(w, piece, id, &ok);
			if (status == RV_ERR_MISMATCH)
				ok = 0;
			else if (status != RV_OK)
				return status;
		}
		if (!ok)
			continue;
		rv_tok_word_key(piece.data, piece.len, 0, &words[*n].lo, &words[*n].hi);
		words[(*n)++].id = id;
	}
	return RV_OK;
}

rv_status rv_tok_build_words(rv_tokenizer *t) {
	rv_tok_word *words;
	size_t n = 0;
	rv_tok_work w = {.t = t};
	RV_TRY(RV_ALLOC(&words, t->n_vocab, "whole tokens"));
	rv_status status = collect_words(&w, words, &n);
	if (status == RV_OK)
		status = rv_tok_words_build(&t->words, words, n);
	rv_free(w.ids);
	rv_tok_work_free(&w);
	rv_free(words);
	return status;
}

rv_status rv_tok_finish(rv_tokenizer *t, const rv_log *log) {
	mark_controls(t, log);
	check_bytes(t, log);
	RV_TRY(build_bytes(t));
	RV_TRY(build_finders(t, log));
	if (t->kind == RV_TOKENIZER_BPE)
		RV_TRY(rv_tok_finish_bpe(t, log));
	else
		RV_TRY(rv_tok_finish_spm(t, log));
	if (t->bos < 0)
		t->add_bos = 0;
	if (t->eos < 0)
		t->add_eos = 0;
	return rv_tok_build_words(t);
}
