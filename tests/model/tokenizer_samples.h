/* Small vocabularies made in memory, right or wrong in any part, for the tests of the tokenizers. */
#ifndef RV_TESTS_MODEL_TOKENIZER_SAMPLES_H
#define RV_TESTS_MODEL_TOKENIZER_SAMPLES_H

#include "base/mem.h"
#include "model/tokenizer.h"
#include "tests/model/gguf_builder.h"
#include "tests/support/reference.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <string.h>

enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER, TYPE_UNUSED, TYPE_BYTE };

#define SAMPLE_TOKENS 400

/* What a file is made from; NULL or -1 leaves a key out. */
typedef struct vocab {
	const char *model, *pre;
	char text[SAMPLE_TOKENS][24];
	size_t len[SAMPLE_TOKENS];
	int32_t type[SAMPLE_TOKENS];
	float score[SAMPLE_TOKENS];
	size_t n, n_types, n_scores;
	const char *merges[64]; /* ends with NULL */
	int64_t bos, eos, unk;
	int add_bos, add_space_prefix; /* -1: no key */
} vocab;

static inline int32_t add_token(vocab *v, const char *text, int32_t type, float score) {
	size_t i = v->n++;
	v->len[i] = strlen(text);
	memcpy(v->text[i], text, v->len[i]);
	v->type[i] = type;
	v->score[i] = score;
	v->n_types = v->n_scores = v->n;
	return (int32_t)i;
}

/* The letter of a byte, counted as published: printable Latin-1 is itself, the others follow in order.
 */
static inline size_t byte_letter(int byte, char out[4]) {
	int cp = 0, next = 256;
	for (int b = 0; b <= byte; b++) {
		int printable = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
		cp = printable ? b : next++;
	}
	if (cp < 128) {
		out[0] = (char)cp;
		return 1;
	}
	out[0] = (char)(0xc0 | cp >> 6);
	out[1] = (char)(0x80 | (cp & 0x3f));
	return 2;
}

/* 256 bytes, then words up to "hello" and " hello", then special tokens. Ids: "he" is 256. */
static inline vocab sample_bpe(void) {
	static const char *const merges[] = {"h e", "l l",   "he ll", "hell o", "\xc4\xa0 hello",
	                                     "a a", "aa aa", NULL};
	vocab v = {.model = "gpt2",
	           .pre = "qwen2",
	           .bos = -1,
	           .eos = -1,
	           .unk = -1,
	           .add_bos = -1,
	           .add_space_prefix = -1};
	for (int b = 0; b < 256; b++) {
		char letter[5] = {0};
		byte_letter(b, letter);
		add_token(&v, letter, TYPE_NORMAL, 0);
	}
	static const char *const words[] = {"he", "ll", "hell", "hello", "\xc4\xa0hello", "aa", "aaaa"};
	for (size_t i = 0; i < 7; i++)
		add_token(&v, words[i], TYPE_NORMAL, 0);
	v.eos = add_token(&v, "<|endoftext|>", TYPE_CONTROL, 0);
	add_token(&v, "<|im_start|>", TYPE_CONTROL, 0);
	add_token(&v, "<|im_end|>", TYPE_CONTROL, 0);
	add_token(&v, "<tool>", TYPE_USER, 0);
	add_token(&v, "<tool>s", TYPE_USER, 0);
	memcpy(v.merges, merges, sizeof merges);
	return v;
}

/* <unk> <s> </s>, 256 bytes, some letters and words. */
static inline vocab sample_spm(void) {
	vocab v = {.model = "llama",
	           .pre = "default",
	           .bos = -1,
	           .eos = -1,
	           .unk = -1,
	           .add_bos = -1,
	           .add_space_prefix = -1};
	add_token(&v, "<unk>", TYPE_UNKNOWN, 0);
	add_token(&v, "<s>", TYPE_CONTROL, 0);
	add_token(&v, "</s>", TYPE_CONTROL, 0);
	for (int b = 0; b < 256; b++) {
		char text[8];
		snprintf(text, sizeof text, "<0x%02X>", b);
		add_token(&v, text, TYPE_BYTE, 0);
	}
	static const char *const words[] = {"\xe2\x96\x81",  "h",  "e",  "l",    "o",
	                                    "\xe2\x96\x81h", "ll", "he", "ello", "\xe2\x96\x81hello",
	                                    "llo",           "zz", "<s", ">"};
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		add_token(&v, words[i], TYPE_NORMAL, -(float)i);
	return v;
}

static inline void put_array(builder *b, const char *key, uint32_t elem, uint64_t n) {
	put_key(b, key, K_ARRAY);
	put_u32(b, elem);
	put_u64(b, n);
}

static inline void put_special(builder *b, const char *key, int64_t id, uint64_t *n_kv) {
	if (id == -1)
		return;
	put_key(b, key, K_I64);
	put_u64(b, (uint64_t)id);
	++*n_kv;
}

static inline void put_flag(builder *b, const char *key, int flag, uint64_t *n_kv) {
	if (flag < 0)
		return;
	put_key(b, key, K_BOOL);
	put_int(b, (uint64_t)flag, 1);
	++*n_kv;
}

static inline builder vocab_file(const vocab *v) {
	builder b = {0};
	uint64_t n_kv = 2;
	put_header(&b, 3, 0, 0);
	put_key(&b, "tokenizer.ggml.model", K_STRING);
	put_str(&b, v->model);
	put_array(&b, "tokenizer.ggml.tokens", K_STRING, v->n);
	for (size_t i = 0; i < v->n; i++)
		put_text(&b, v->text[i], v->len[i]);
	if (v->pre) {
		put_key(&b, "tokenizer.ggml.pre", K_STRING);
		put_str(&b, v->pre);
		n_kv++;
	}
	if (v->n_types) {
		put_array(&b, "tokenizer.ggml.token_type", K_I32, v->n_types);
		for (size_t i = 0; i < v->n_types; i++)
			put_u32(&b, (uint32_t)v->type[i]);
		n_kv++;
	}
	if (v->n_scores) {
		put_array(&b, "tokenizer.ggml.scores", K_F32, v->n_scores);
		put(&b, v->score, v->n_scores * sizeof *v->score);
		n_kv++;
	}
	size_t n_merges = 0;
	while (v->merges[n_merges])
		n_merges++;
	if (n_merges) {
		put_array(&b, "tokenizer.ggml.merges", K_STRING, n_merges);
		for (size_t i = 0; i < n_merges; i++)
			put_str(&b, v->merges[i]);
		n_kv++;
	}
	put_special(&b, "tokenizer.ggml.bos_token_id", v->bos, &n_kv);
	put_special(&b, "tokenizer.ggml.eos_token_id", v->eos, &n_kv);
	put_special(&b, "tokenizer.ggml.unknown_token_id", v->unk, &n_kv);
	put_flag(&b, "tokenizer.ggml.add_bos_token", v->add_bos, &n_kv);
	put_flag(&b, "tokenizer.ggml.add_space_prefix", v->add_space_prefix, &n_kv);
	memcpy(b.data + 16, &n_kv, 8);
	put_pad(&b, 32);
	return b;
}

/* Warnings counted and kept. */
typedef struct warnings {
	int n;
	char said[1024];
} warnings;

static inline void count_warning(void *user, rv_log_level level, const char *line) {
	warnings *w = user;
	size_t at = strlen(w->said);
	if (level != RV_LOG_WARN)
		return;
	w->n++;
	snprintf(w->said + at, sizeof w->said - at, "%s\n", line);
}

static inline rv_status load_bytes(rv_tokenizer **out, const void *data, size_t n, warnings *w) {
	rv_gguf *gguf;
	rv_log log = {w ? count_warning : NULL, w};
	*out = NULL;
	rv_status status = rv_gguf_open_memory(&gguf, data, n, "sample.gguf", RV_GGUF_VOCAB_ONLY_OK);
	if (status != RV_OK)
		return status;
	status = rv_tokenizer_from_gguf(out, gguf, &log);
	rv_gguf_close(gguf);
	return status;
}

static inline rv_status load_vocab(rv_tokenizer **out, const vocab *v, warnings *w) {
	builder b = vocab_file(v);
	rv_status status = load_bytes(out, b.data, b.n, w);
	builder_free(&b);
	return status;
}

static inline rv_tokenizer *open_reference(const char *file) {
	char path[1024];
	rv_tokenizer *t = NULL;
	if (!reference_path(path, file))
		skip();
	assert_ok(rv_tokenizer_open(&t, path, NULL));
	return t;
}

#define QWEN_JSON "tokenizers/qwen2.5/tokenizer.json"
#define GPT2_GGUF "tokenizers/gpt-2/ggml-vocab-gpt-2.gguf"
#define LLAMA_GGUF "tokenizers/llama-spm/ggml-vocab-llama-spm.gguf"
#define TINY_GGUF "models/tiny-qwen2/tiny-qwen2.q8_0.gguf"

/* Whether text encodes to exactly these ids (ends with -1), without BOS. */
static inline void assert_ids(const rv_tokenizer *t, const char *text, size_t len, int parse_special,
                              const int32_t *wanted) {
	rv_encode_options o = {.add_bos = 0, .parse_special = parse_special};
	int32_t *ids;
	size_t n;
	assert_ok(rv_tokenizer_encode(t, text, len, &o, &ids, &n));
	for (size_t i = 0; i < n; i++)
		if (wanted[i] != ids[i])
			fail_msg("'%s': token %zu is %d, not %d", text, i, ids[i], wanted[i]);
	assert_int_equal(wanted[n], -1);
	rv_free(ids);
}

static inline int round_trips(const rv_tokenizer *t, const char *text, size_t len) {
	rv_encode_options o = {.add_bos = 0};
	int32_t *ids;
	char *back;
	size_t n, back_len;
	assert_ok(rv_tokenizer_encode(t, text, len, &o, &ids, &n));
	assert_ok(rv_tokenizer_decode(t, ids, n, 1, 1, &back, &back_len));
	int same = back_len == len && memcmp(back, text, len) == 0;
	rv_free(ids);
	rv_free(back);
	return same;
}

#endif
