/* Byte-level BPE: every byte is written as one printable letter (Radford et al. 2019), merges are pairs
 * of entries by rank. */
#include "base/mem.h"
#include "model/tokenizer_internal.h"

/* ---- letters of bytes: printable Latin-1 stands for itself, the others follow from U+0100 on ---- */

static int is_plain(int byte) {
	return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

/* 0..0x20 and 0x7f..0xa0 and 0xad take U+0100..U+0143 in this order. */
static int32_t letter_of_byte(int byte) {
	if (is_plain(byte))
		return byte;
	if (byte <= 0x20)
		return 0x100 + byte;
	return byte == 0xad ? 0x143 : 0x100 + 0x21 + (byte - 0x7f);
}

static int byte_of_letter(int32_t cp) {
	if (cp < 0x100)
		return cp >= 0 && is_plain(cp) ? cp : -1;
	if (cp > 0x143)
		return -1;
	int i = cp - 0x100;
	return i <= 0x20 ? i : i == 0x43 ? 0xad : 0x7f + (i - 0x21);
}

size_t rv_tok_letters_to_bytes(rv_str text, char *out, size_t *foreign) {
	size_t n = 0;
	for (size_t i = 0; i < text.len;) {
		int32_t cp;
		size_t len = rv_utf8_next(text.data + i, text.data + text.len, &cp);
		int byte = byte_of_letter(cp);
		if (byte >= 0) {
			out[n++] = (char)byte;
		} else {
			memcpy(out + n, text.data + i, len);
			n += len;
			if (foreign)
				++*foreign;
		}
		i += len;
	}
	return n;
}

size_t rv_tok_bytes_to_letters(const char *bytes, size_t len, char *out) {
	size_t n = 0;
	for (size_t i = 0; i < len; i++)
		n += rv_utf8_put(letter_of_byte((uint8_t)bytes[i]), out + n);
	return n;
}

/* ---- building ---- */

rv_status rv_tok_add_merge(rv_tokenizer *t, size_t capacity, rv_str left, rv_str right, int *added) {
	*added = 0;
	if (!t->merges)
		RV_TRY(RV_ALLOC(&t->merges, capacity, "merges"));
	int32_t l = rv_tokenizer_find(t, left.data, left.len);
	int32_t r = rv_tokenizer_find(t, right.data, right.len);
	size_t len;
	if (l < 0 || r < 0 || !rv_add_ok(left.len, right.len, &len))
		return RV_OK;
	char small[256], *text = small;
	if (len > sizeof small)
		RV_TRY(rv_alloc_uninit((void **)&text, len, 1, "merge"));
	memcpy(text, left.data, left.len);
	memcpy(text + left.len, right.data, right.len);
	int32_t id = rv_tokenizer_find(t, text, len);
	if (text != small)
		rv_free(text);
	if (id < 0)
		return RV_OK;
	t->merges[t->n_merges] =
	        (rv_tok_pair){(uint64_t)(uint32_t)l << 32 | (uint32_t)r, (uint32_t)t->n_merges, id};
	t->n_merges++;
	*added = 1;
	return RV_OK;
}

void rv_tok_drop_control_merges(rv_tokenizer *t) {
	size_t n = 0;
	for (size_t i = 0; i < t->n_merges; i++)
		if (rv_tok_is_mergeable(t, t->merges[i].id))
			t->merges[n++] = t->merges[i];
	t->n_merges = n;
}

rv_status rv_tok_finish_bpe(rv_tokenizer *t, const rv_log *log) {
	size_t duplicates, missing = 0;
	for (int byte = 0; byte < 256; byte++) {
		char letter[4];
		size_t len = rv_utf8_put(letter_of_byte(byte), letter);
		int32_t id = rv_tokenizer_find(t, letter, len);
		t->byte_id[byte] = id >= 0 && rv_tok_is_mergeable(t, id) ? id : -1;
		missing += t->byte_id[byte] < 0;
	}
	if (missing)
		rv_logf(log, RV_LOG_WARN, "%s: %zu of 256 bytes have no token", t->name, missing);
	rv_tok_drop_control_merges(t);
	RV_TRY(rv_tok_pairs_build(&t->pairs, t->merges, t->n_merges, &duplicates));
	if (duplicates)
		rv_logf(log, RV_LOG_WARN, "%s: %zu merges repeat an earlier one", t->name, duplicates);
	return RV_OK;
}

/* ---- encoding ---- */

/* Long pieces go through heap memory, short ones never. */
rv_status rv_tok_piece_bpe(rv_tok_work *w, const char *p, size_t len) {
	const int32_t *byte_id = w->t->byte_id;
	int32_t few[64], *symbols = few;
	if (len > sizeof few / sizeof *few) {
		RV_TRY(RV_TOK_RESERVE(&w->symbols, &w->symbols_cap, 0, len, "symbols"));
		symbols = w->symbols;
	}
	for (size_t i = 0; i < len; i++) {
		uint8_t byte = (uint8_t)p[i];
		symbols[i] = byte_id[byte] >= 0 ? byte_id[byte] : rv_tok_symbol_of(-1, byte);
	}
	return rv_tok_merge(w, symbols, len);
}

/* ignore_merges: a piece that is an entry is that entry, however it would merge. */
static int32_t whole_entry(const rv_tokenizer *t, const char *p, size_t len) {
	char letters[2 * 256];
	if (len > sizeof letters / 2)
		return -1;
	int32_t id = rv_tokenizer_find(t, letters, rv_tok_bytes_to_letters(p, len, letters));
	return id >= 0 && rv_tok_is_mergeable(t, id) ? id : -1;
}

rv_status rv_tok_encode_bpe(rv_tok_work *w, const char *text, size_t len) {
	const rv_tokenizer *t = w->t;
	rv_pretok_fn *scan = rv_pretok_scanner(t->pre);
	const char *end = text + len;
	size_t n;
	for (const char *p = text; p < end; p += n) {
		int32_t id = -1;
		n = scan(p, end);
		if (n <= RV_TOK_SHORT) {
			uint64_t lo, hi;
			rv_tok_word_key(p, n, end - p >= 16, &lo, &hi);
			id = rv_tok_words_find(&t->words, lo, hi);
		} else if (t->ignore_merges) {
			id = whole_entry(t, p, n);
		}
		if (id < 0) {
			RV_TRY(rv_tok_piece_bpe(w, p, n));
			continue;
		}
		RV_TRY(RV_TOK_RESERVE(&w->ids, &w->cap, w->n, 1, "token ids"));
		w->ids[w->n++] = id;
	}
	return RV_OK;
}
