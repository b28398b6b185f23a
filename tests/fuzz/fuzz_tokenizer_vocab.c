/* Fuzz target: vocabularies. The first byte is the kind and options; then lines "<type digit><text>",
 * an empty line, and merges (BPE) by the line; the whole input is also the text to encode. */
#include "base/mem.h"
#include "model/tokenizer.h"
#include "tests/model/gguf_builder.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct lines {
	const uint8_t *at[4096];
	size_t len[4096], n;
} lines;

/* Lines from *p up to an empty one or the end. */
static void read_lines(const uint8_t **p, const uint8_t *end, lines *out) {
	out->n = 0;
	while (*p < end && out->n < 4096) {
		const uint8_t *newline = memchr(*p, '\n', (size_t)(end - *p));
		const uint8_t *stop = newline ? newline : end;
		size_t len = (size_t)(stop - *p);
		out->at[out->n] = *p;
		out->len[out->n] = len;
		*p = newline ? newline + 1 : end;
		if (!len)
			return;
		out->n++;
	}
}

static void put_list(builder *b, const char *key, uint32_t elem, size_t n) {
	put_key(b, key, K_ARRAY);
	put_u32(b, elem);
	put_u64(b, n);
}

static builder make_file(uint8_t options, const lines *tokens, const lines *merges) {
	static const char *const pres[] = {"default", "gpt-2", "qwen2", "llama-bpe"};
	int spm = options & 1;
	builder b = {0};
	put_header(&b, 3, 0, 6);
	put_key(&b, "tokenizer.ggml.model", K_STRING);
	put_str(&b, spm ? "llama" : "gpt2");
	put_key(&b, "tokenizer.ggml.pre", K_STRING);
	put_str(&b, pres[options >> 1 & 3]);
	put_key(&b, "tokenizer.ggml.bos_token_id", K_U32);
	put_u32(&b, options >> 4);
	put_list(&b, "tokenizer.ggml.tokens", K_STRING, tokens->n);
	for (size_t i = 0; i < tokens->n; i++)
		put_text(&b, (const char *)tokens->at[i] + 1, tokens->len[i] - 1);
	put_list(&b, "tokenizer.ggml.token_type", K_I32, tokens->n);
	for (size_t i = 0; i < tokens->n; i++)
		put_u32(&b, (uint32_t)(tokens->at[i][0] - '0'));
	if (spm) {
		put_list(&b, "tokenizer.ggml.scores", K_F32, tokens->n);
		for (size_t i = 0; i < tokens->n; i++) {
			float score = (float)tokens->at[i][tokens->len[i] / 2];
			put(&b, &score, 4);
		}
	} else {
		put_list(&b, "tokenizer.ggml.merges", K_STRING, merges->n);
		for (size_t i = 0; i < merges->n; i++)
			put_text(&b, (const char *)merges->at[i], merges->len[i]);
	}
	put_pad(&b, 32);
	return b;
}

static void use(const rv_tokenizer *t, const uint8_t *data, size_t size) {
	for (int special = 0; special < 2; special++) {
		rv_encode_options o = {.add_bos = -1, .add_eos = -1, .parse_special = special};
		int32_t *ids;
		size_t n, len;
		char *text;
		if (rv_tokenizer_encode(t, (const char *)data, size, &o, &ids, &n) != RV_OK)
			continue; /* a byte without a token */
		for (size_t i = 0; i < n; i++)
			if (ids[i] < 0 || ids[i] >= rv_tokenizer_n_vocab(t))
				abort();
		if (rv_tokenizer_decode(t, ids, n, 1, 0, &text, &len) != RV_OK)
			abort();
		rv_free(text);
		rv_free(ids);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	static lines tokens, merges;
	if (!size)
		return 0;
	const uint8_t *p = data + 1;
	read_lines(&p, data + size, &tokens);
	read_lines(&p, data + size, &merges);
	builder b = make_file(data[0], &tokens, &merges);
	rv_gguf *gguf;
	rv_tokenizer *t;
	if (rv_gguf_open_memory(&gguf, b.data, b.n, "fuzz.gguf", RV_GGUF_VOCAB_ONLY_OK) != RV_OK)
		abort();
	if (rv_tokenizer_from_gguf(&t, gguf, NULL) == RV_OK) {
		use(t, data, size);
		rv_tokenizer_destroy(t);
	}
	rv_gguf_close(gguf);
	builder_free(&b);
	return 0;
}
