/* Fuzz target: any bytes as text for small vocabularies of both kinds and all pre-tokenizers. They come
 * back exactly, and streaming gives the same bytes. */
#include "base/mem.h"
#include "model/tokenizer.h"
#include "tests/model/tokenizer_samples.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define KINDS 5
static rv_tokenizer *tokenizers[KINDS];

static void load(void) {
	static const char *const pres[] = {"default", "gpt-2", "qwen2", "llama-bpe"};
	for (int i = 0; i < KINDS; i++) {
		vocab v = i < 4 ? sample_bpe() : sample_spm();
		if (i < 4)
			v.pre = pres[i];
		if (load_vocab(&tokenizers[i], &v, NULL) != RV_OK)
			abort();
	}
}

static void check_stream(const rv_tokenizer *t, const int32_t *ids, size_t n) {
	char *text, buf[256];
	size_t len, at = 0, got;
	rv_decoder d = {0};
	if (rv_tokenizer_decode(t, ids, n, 0, 1, &text, &len) != RV_OK)
		abort();
	for (size_t i = 0; i <= n; i++) {
		if (i == n)
			rv_decoder_flush(&d, buf, sizeof buf, &got);
		else if (rv_decoder_push(&d, t, ids[i], buf, sizeof buf, &got) != RV_OK)
			abort();
		if (got > len - at || memcmp(text + at, buf, got) != 0)
			abort();
		at += got;
	}
	if (at != len)
		abort();
	rv_free(text);
}

static void check(const rv_tokenizer *t, const char *data, size_t size, int special, int exact) {
	rv_encode_options o = {.add_bos = 0, .parse_special = special};
	int32_t *ids;
	size_t n, len;
	char *text;
	if (rv_tokenizer_encode(t, data, size, &o, &ids, &n) != RV_OK ||
	    rv_tokenizer_decode(t, ids, n, 1, 1, &text, &len) != RV_OK)
		abort();
	if (exact && (len != size || memcmp(text, data, size) != 0))
		abort();
	check_stream(t, ids, n);
	rv_free(text);
	rv_free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	const char *text = (const char *)data;
	if (!tokenizers[0])
		load();
	for (int i = 0; i < KINDS; i++)
		for (int special = 0; special < 2; special++) {
			/* SentencePiece turns U+2581 into a space and puts one after a special token.
			 */
			int exact = i < 4 || (!special && !memmem(text, size, "\xe2\x96\x81", 3));
			check(tokenizers[i], text, size, special, exact);
		}
	return 0;
}
