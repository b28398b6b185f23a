/* Fuzz target: any bytes as a safetensors file, as the index of a folder and as a config.json. What
 * opens is covered by its tensors, each byte once; what a configuration gives is within bounds. */
#include "model/convert.h"
#include "model/safetensors.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int ok) {
	if (!ok)
		abort();
}

static void as_file(const uint8_t *data, size_t size) {
	rv_safetensors *st;
	if (rv_safetensors_open_memory(&st, data, size, "fuzz.safetensors") != RV_OK)
		return;
	uint64_t length, sum = 0;
	volatile uint8_t all = 0;
	memcpy(&length, data, sizeof length);
	for (size_t i = 0; i < rv_safetensors_n_tensors(st); i++) {
		const rv_safetensor *t = rv_safetensors_at(st, i);
		check(rv_safetensors_find(st, t->name) == t);
		check(t->data >= data + 8 + length);
		for (size_t k = 0; k < t->n_bytes; k++)
			all = all ^ t->data[k]; /* reads every byte */
		sum += t->n_bytes;
	}
	check(sum == size - 8 - length && sum == rv_safetensors_bytes(st));
	rv_safetensors_close(st);
}

static void as_index(const uint8_t *data, size_t size) {
	json_t *map, *shard;
	const char *tensor;
	if (rv_safetensors_index((const char *)data, size, "fuzz.json", &map) != RV_OK)
		return;
	json_object_foreach(map, tensor, shard) {
		check(json_is_string(shard) && !strchr(json_string_value(shard), '/'));
	}
	json_decref(map);
}

static void as_config(const uint8_t *data, size_t size) {
	rv_convert_config c;
	float freqs[512];
	if (rv_convert_config_parse((const char *)data, size, "fuzz.json", NULL, &c) != RV_OK)
		return;
	check(c.hp.n_heads % c.hp.n_kv_heads == 0 && c.hp.n_rot % 2 == 0 && c.hp.n_rot <= 1024);
	check(c.hp.rms_eps > 0 && c.hp.rope_theta >= 1);
	if (!c.rope.on)
		return;
	rv_convert_rope_freqs(&c, freqs);
	for (int64_t i = 0; i < c.hp.n_rot / 2; i++)
		check(freqs[i] > 0 && freqs[i] <= 2e9f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	as_file(data, size);
	as_index(data, size);
	as_config(data, size);
	return 0;
}
