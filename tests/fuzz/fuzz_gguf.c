/* Fuzz target: any bytes as a GGUF file. What opens is read through every accessor. */
#include "base/mem.h"
#include "model/gguf.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned read_key(const rv_gguf *g, const rv_gguf_kv *kv) {
	unsigned sum = 0;
	char key[128];
	int64_t i = 0;
	double d = 0;
	int b = 0;
	rv_str s = {"", 0}, *strings = NULL;
	float *floats = NULL;
	int32_t *ints = NULL;
	size_t n = 0;
	for (size_t k = 0; k < kv->n_bytes; k++)
		sum += kv->bytes[k];
	if (kv->key.len >= sizeof key)
		return sum;
	memcpy(key, kv->key.data, kv->key.len);
	key[kv->key.len] = 0;
	if (rv_gguf_find(g, key) != kv) /* keys are unique and hold no NUL */
		abort();
	sum += (unsigned)rv_gguf_int(g, key, -1000, 1 << 20, &i);
	sum += (unsigned)rv_gguf_double(g, key, &d);
	sum += (unsigned)rv_gguf_bool(g, key, &b);
	if (rv_gguf_string(g, key, &s) == RV_OK && s.len)
		sum += (unsigned)s.data[s.len - 1];
	if (rv_gguf_strings(g, key, &strings, &n) == RV_OK)
		for (size_t k = 0; k < n; k++)
			sum += strings[k].len ? (unsigned)strings[k].data[strings[k].len - 1] : 0;
	if (rv_gguf_floats(g, key, &floats, &n) == RV_OK && n)
		sum += floats[n - 1] > 0;
	if (rv_gguf_i32s(g, key, &ints, &n) == RV_OK && n)
		sum += (unsigned)ints[n - 1];
	rv_free(strings);
	rv_free(floats);
	rv_free(ints);
	return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	rv_gguf *g = NULL;
	volatile unsigned sum = 0;
	if (rv_gguf_open_memory(&g, data, size, "input", RV_GGUF_VOCAB_ONLY_OK) != RV_OK) {
		if (g || !*rv_error_message())
			abort();
		return 0;
	}
	for (size_t i = 0; i < rv_gguf_n_kv(g); i++)
		sum += read_key(g, rv_gguf_kv_at(g, i));
	for (size_t i = 0; i < rv_gguf_n_tensors(g); i++) {
		const rv_gguf_tensor *t = rv_gguf_tensor_at(g, i);
		if (rv_gguf_find_tensor(g, t->name) != t || !rv_type_get((int)t->type))
			abort();
		for (size_t k = 0; k < t->n_bytes; k++)
			sum += t->data[k];
	}
	(void)sum;
	rv_gguf_close(g);
	return 0;
}
