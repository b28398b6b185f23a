/* Fuzz target: any bytes as an index's file, as they are and with what guards them made right (magic,
 * version, digest, length). What loads is whole: it is searched, added to, repaired and saved again. */
#include "base/mem.h"
#include "memory/hnsw_file.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define START_BYTES 48
#define DIM_MAX 64 /* of an index that is gone on with */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int ok) {
	if (!ok)
		abort();
}

static void use(rv_hnsw *h) {
	const rv_hnsw_options *o = rv_hnsw_get_options(h);
	float x[DIM_MAX];
	uint64_t ids[4];
	int64_t n;
	if (o->dim > DIM_MAX || o->capacity > 4096)
		return;
	for (int d = 0; d < o->dim; d++)
		x[d] = (float)(d + 1);
	check(rv_hnsw_search(h, x, 4, 8, NULL, ids, NULL, &n) == RV_OK);
	const rv_status status = rv_hnsw_add(h, 77, x);
	check(status == RV_OK || status == RV_ERR_INVALID || status == RV_ERR_LIMIT);
	check(rv_hnsw_repair(h, NULL) == RV_OK);
	check(rv_hnsw_verify(h) == RV_OK);
}

static void as_file(const void *data, size_t size) {
	rv_hnsw *h;
	rv_codec *codec = NULL;
	const rv_hnsw_load_options options = {.codec = &codec};
	const rv_status status = rv_hnsw_load_memory(&h, data, size, "fuzz.hnsw", &options);
	check((status == RV_OK) == (h != NULL));
	if (h)
		use(h);
	rv_hnsw_destroy(h);
	rv_codec_destroy(codec);
}

static void as_mended_file(const uint8_t *data, size_t size) {
	const uint32_t version = RV_HNSW_FILE_VERSION;
	const uint64_t n = size;
	if (size < START_BYTES + sizeof n)
		return;
	uint8_t *file = malloc(size);
	check(file != NULL);
	memcpy(file, data, size);
	memcpy(file, "RVHNSW\r\n", 8);
	memcpy(file + 8, &version, sizeof version);
	memcpy(file + START_BYTES, &n, sizeof n);
	check(sodium_init() >= 0);
	crypto_generichash(file + 16, 32, file + START_BYTES, size - START_BYTES, NULL, 0);
	as_file(file, size);
	free(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	as_file(data, size);
	as_mended_file(data, size);
	return 0;
}
