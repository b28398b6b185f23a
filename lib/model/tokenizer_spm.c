/* SentencePiece-style BPE: symbols are characters (spaces written U+2581), the pair whose text is the
 * token of the highest score merges first, what is no token falls back to <0xXX>. */
#include "base/mem.h"
#include "model/tokenizer_internal.h"

#include <math.h>
#include <stdlib.h>

int rv_tok_parse_byte(rv_str s) {
	int value = 0;
	if (s.len != 6 || memcmp(s.data, "<0x", 3) != 0 || s.data[5] != '>')
		return -1;
	for (int i = 3; i < 5; i++) {
		char c = s.data[i];
		int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
		if (digit < 0)
			return -1;
		value = value * 16 + digit;
	}
	return value;
}

/* ---- symbols ---- */

/* The symbol of one character: a token, an inner character, or one without id. */
static int32_t symbol_of_char(const rv_tokenizer *t, const char *p, size_t len, int32_t cp) {
	if (cp < 0)
		return rv_tok_symbol_of(-1, (uint8_t)*p);
	int32_t id = rv_tok_map_find(&t->map, &t->entries, p, len);
	if (id < 0 || (id < t->n_vocab && !rv_tok_is_mergeable(t, id)))
		return rv_tok_symbol_of(cp, 0);
	return id;
}

static int has_merges(const rv_tokenizer *t, int32_t id, rv_str *text) {
	*text = rv_tok_text(&t->entries, (size_t)id);
	return rv_tok_is_mergeable(t, id) && text->len > 1 && text->len <= RV_TOK_SPM_MAX;
}

static int by_code_point(const void *a, const void *b) {
	int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
	return (x > y) - (x < y);
}

/* Characters that no token stands for, but that occur inside tokens: sorted, each once. */
static rv_status inner_chars(const rv_tokenizer *t, int32_t **out, size_t *n_out) {
	int32_t *cps = NULL;
	size_t n = 0, cap = 0;
	rv_str s;
	for (int32_t id = 0; id < t->n_vocab; id++) {
		if (!has_merges(t, id, &s))
			continue;
		for (size_t i = 0, len; i < s.len; i += len) {
			int32_t cp;
			len = rv_utf8_next(s.data + i, s.data + s.len, &cp);
			if (cp < 0 || rv_tok_map_find(&t->map, &t->entries, s.data + i, len) >= 0)
				continue;
			rv_status status = RV_TOK_RESERVE(&cps, &cap, n, 1, "characters");
			if (status != RV_OK) {
				rv_free(cps);
				return status;
			}
			cps[n++] = cp;
		}
	}
	if (n)
		qsort(cps, n, sizeof *cps, by_code_point);
	size_t kept = 0;
	for (size_t i = 0; i < n; i++)
		if (!kept || cps[kept - 1] != cps[i])
			cps[kept++] = cps[i];
	*out = cps;
	*n_out = kept;
	return RV_OK;
}

static rv_status append_entries(rv_tokenizer *t, const int32_t *cps, size_t n) {
	size_t n_vocab = (size_t)t->n_vocab;
	rv_str *parts;
	char(*text)[4] = NULL;
	RV_TRY(RV_ALLOC(&parts, n_vocab + n, "vocabulary"));
	rv_status status = RV_ALLOC(&text, n, "vocabulary");
	if (status == RV_OK) {
		for (size_t i = 0; i < n_vocab; i++)
			parts[i] = rv_tok_text(&t->entries, i);
		for (size_t i = 0; i < n; i++)
			parts[n_vocab + i] = (rv_str){text[i], rv_utf8_put(cps[i], text[i])};
		status = rv_tok_strings_copy(&t->entries, parts, n_vocab + n, "vocabulary");
	}
	rv_free(parts);
	rv_free(text);
	if (status != RV_OK)
		return status;
	return rv_tok_map_build(&t->map, &t->entries, NULL);
}

static rv_status add_inner_chars(rv_tokenizer *t) {
	int32_t *cps;
	size_t n;
	RV_TRY(inner_chars(t, &cps, &n));
	rv_status status = n ? append_entries(t, cps, n) : RV_OK;
	rv_free(cps);
	return status;
}

/* ---- pairs ---- */

typedef struct scored {
	float score;
	int32_t id;
} scored;

static int by_score(const void *a, const void *b) {
	const scored *x = a, *y = b;
	if (x->score != y->score)
		return x->score < y->score ? 1 : -1;
	return (x->id > y->id) - (x->id < y->id);
}

typedef struct pair_list {
	rv_tok_pair *rows;
	size_t n, cap;
} pair_list;

/* A part of a token is a symbol when it is a single character or a token that merging can give. */
static int32_t part_id(const rv_tokenizer *t, const char *p, size_t len) {
	int32_t id = rv_tok_map_find(&t->map, &t->entries, p, len);
	return id >= 0 && (id >= t->n_vocab || rv_tok_is_mergeable(t, id)) ? id : -1;
}

/* Every cut of a token's text into two symbols. */
static rv_status add_cuts(const rv_tokenizer *t, pair_list *list, int32_t id, uint32_t rank) {
	rv_str s;
	if (!has_merges(t, id, &s) || part_id(t, s.data, s.len) != id)
		return RV_OK;
	int32_t cp;
	for (size_t i = rv_utf8_next(s.data, s.data + s.len, &cp); i < s.len;
	     i += rv_utf8_next(s.data + i, s.data + s.len, &cp)) {
		int32_t left = part_id(t, s.data, i);
		int32_t right = left < 0 ? -1 : part_id(t, s.data + i, s.len - i);
		if (right < 0)
			continue;
		RV_TRY(RV_TOK_RESERVE(&list->rows, &list->cap, list->n, 1, "token pairs"));
		list->rows[list->n++] =
		        (rv_tok_pair){(uint64_t)(uint32_t)left << 32 | (uint32_t)right, rank, id};
	}
	return RV_OK;
}

static rv_status pairs_from_scores(const rv_tokenizer *t, pair_list *list) {
	scored *order;
	size_t n = (size_t)t->n_vocab;
	RV_TRY(RV_ALLOC(&order, n, "scores"));
	for (size_t i = 0; i < n; i++)
		order[i] = (scored){t->scores[i], (int32_t)i};
	qsort(order, n, sizeof *order, by_score);
	rv_status status = RV_OK;
	uint32_t rank = 0;
	for (size_t i = 0; i < n && status == RV_OK; i++) {
		rank += i && order[i].score < order[i - 1].score;
		status = add_cuts(t, list, order[i].id, rank);
	}
	rv_free(order);
	return status;
}

/* A tokenizer.json has merges only. Scores that give the same order: minus the rank of the first merge
 * that makes a token; below all of them for a token no merge makes. */
static rv_status scores_from_merges(rv_tokenizer *t) {
	RV_TRY(RV_ALLOC(&t->scores, t->n_vocab, "scores"));
	for (int32_t id = 0; id < t->n_vocab; id++)
		t->scores[id] = rv_tok_is_mergeable(t, id) ? -(float)(t->n_merges + 1) : 0.0f;
	for (size_t i = t->n_merges; i-- > 0;)
		t->scores[t->merges[i].id] = -(float)i;
	return RV_OK;
}

/* Whether some merge puts a space behind something that is none. */
static int space_inside(const rv_tokenizer *t, const rv_tok_pair *pair) {
	rv_str left = rv_tok_text(&t->entries, pair->key >> 32);
	rv_str right = rv_tok_text(&t->entries, (uint32_t)pair->key);
	return right.len >= RV_TOK_SPACE_LEN &&
	       memcmp(right.data, RV_TOK_SPACE, RV_TOK_SPACE_LEN) == 0 &&
	       (left.len < RV_TOK_SPACE_LEN ||
	        memcmp(left.data + left.len - RV_TOK_SPACE_LEN, RV_TOK_SPACE, RV_TOK_SPACE_LEN) != 0);
}

static rv_status build_pairs(rv_tokenizer *t) {
	pair_list list = {NULL, 0, 0};
	const rv_tok_pair *rows;
	size_t n;
	rv_status status;
	if (t->merges) {
		rv_tok_drop_control_merges(t);
		rows = t->merges;
		n = t->n_merges;
		status = scores_from_merges(t);
	} else {
		status = pairs_from_scores(t, &list);
		rows = list.rows;
		n = list.n;
	}
	if (status == RV_OK)
		status = rv_tok_pairs_build(&t->pairs, rows, n, NULL);
	t->cut_at_space = 1;
	for (size_t i = 0; i < n && status == RV_OK; i++)
		t->cut_at_space &= !space_inside(t, &rows[i]);
	rv_free(list.rows);
	return status;
}

rv_status rv_tok_finish_spm(rv_tokenizer *t, const rv_log *log) {
	size_t too_long = 0;
	for (int i = 0; i < 256; i++)
		t->byte_id[i] = -1;
	for (int32_t id = 0; id < t->n_vocab; id++) {
		rv_str s = rv_tok_text(&t->entries, (size_t)id);
		if (t->type[id] == RV_TOK_BYTE && t->byte_id[rv_tok_parse_byte(s)] < 0)
			t->byte_id[rv_tok_parse_byte(s)] = id;
		if (t->scores && isnan(t->scores[id]))
			return rv_fail(RV_ERR_NUMERIC, "%s: the score of token %d is not a number",
			               t->name, id);
		too_long += rv_tok_is_mergeable(t, id) && s.len > RV_TOK_SPM_MAX;
	}
	if (too_long)
		rv_logf(log, RV_LOG_WARN, "%s: %zu tokens are longer than %d bytes and are never made",
		        t->name, too_long, RV_TOK_SPM_MAX);
	RV_TRY(add_inner_chars(t));
	for (int c = 0; c < 128; c++) {
		char ch = (char)c;
		t->ascii_id[c] = symbol_of_char(t, &ch, 1, c);
	}
	return build_pairs(t);
}

/* ---- encoding ---- */

rv_status rv_tok_piece_spm(rv_tok_work *w, const char *p, size_t len) {
	const rv_tokenizer *t = w->t;
	int32_t few[64], *symbols = few;
	if (len > sizeof few / sizeof *few) {
		RV_TRY(RV_TOK_RESERVE(&w->symbols, &w->symbols_cap, 0, len, "symbols"));
		symbols = w->symbols;
	}
	size_t n = 0;
	for (size_t i = 0; i < len;) {
		int32_t cp;
		size_t bytes = rv_utf8_next(p + i, p + len, &cp);
		symbols[n++] =
		        cp >= 0 && cp < 128 ? t->ascii_id[cp] : symbol_of_char(t, p + i, bytes, cp);
		i += bytes;
	}
	return rv_tok_merge(w, symbols, n);
}

static int space_at(const char *p, const char *end) {
	return end - p >= RV_TOK_SPACE_LEN && memcmp(p, RV_TOK_SPACE, RV_TOK_SPACE_LEN) == 0;
}

/* Up to the next place where a space follows something else. */
static size_t word_bytes(const char *p, const char *end) {
	const char *q = p;
	while (space_at(q, end))
		q += RV_TOK_SPACE_LEN;
	while (q < end && !space_at(q, end))
		q++;
	return (size_t)(q - p);
}

/* Spaces as U+2581, one more in front if asked. */
static rv_status escape(rv_tok_work *w, const char *text, size_t len, int prefix, size_t *out_len) {
	size_t extra = prefix ? RV_TOK_SPACE_LEN : 0, n = 0;
	for (size_t i = 0; i < len; i++)
		extra += text[i] == ' ' ? RV_TOK_SPACE_LEN - 1 : 0;
	RV_TRY(RV_TOK_RESERVE(&w->escaped, &w->escaped_cap, 0, len + extra, "escaped text"));
	if (prefix) {
		memcpy(w->escaped, RV_TOK_SPACE, RV_TOK_SPACE_LEN);
		n = RV_TOK_SPACE_LEN;
	}
	for (size_t i = 0; i < len; i++) {
		if (text[i] == ' ') {
			memcpy(w->escaped + n, RV_TOK_SPACE, RV_TOK_SPACE_LEN);
			n += RV_TOK_SPACE_LEN;
		} else {
			w->escaped[n++] = text[i];
		}
	}
	*out_len = n;
	return RV_OK;
}

rv_status rv_tok_encode_spm(rv_tok_work *w, const char *text, size_t len, int prefix) {
	const rv_tokenizer *t = w->t;
	size_t total, n;
	RV_TRY(escape(w, text, len, prefix, &total));
	const char *end = w->escaped + total;
	for (const char *p = w->escaped; p < end; p += n) {
		int32_t id = -1;
		n = t->cut_at_space ? word_bytes(p, end) : (size_t)(end - p);
		if (n <= RV_TOK_SHORT) {
			uint64_t lo, hi;
			rv_tok_word_key(p, n, end - p >= 16, &lo, &hi);
			id = rv_tok_words_find(&t->words, lo, hi);
		}
		if (id < 0) {
			RV_TRY(rv_tok_piece_spm(w, p, n));
			continue;
		}
		RV_TRY(RV_TOK_RESERVE(&w->ids, &w->cap, w->n, 1, "token ids"));
		w->ids[w->n++] = id;
	}
	return RV_OK;
}
