/* Fuzz target: any bytes as a tokenizer.json. What loads encodes its own file and decodes it again. */
#include "base/mem.h"
#include "model/tokenizer.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	rv_tokenizer *t;
	if (rv_tokenizer_from_json_memory(&t, (const char *)data, size, "fuzz.json", NULL) != RV_OK)
		return 0;
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
	rv_tokenizer_destroy(t);
	return 0;
}
