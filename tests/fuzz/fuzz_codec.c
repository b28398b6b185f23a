/* Fuzz target: any bytes as a vector codec. What loads encodes, decodes and measures; the bytes after
 * it are taken as a code. */
#include "base/mem.h"
#include "memory/codec.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Distances of finite vectors under learned numbers that may be large: no crash, whatever they are. */
static void use(const rv_codec *c, const uint8_t *rest, size_t left) {
	const int dim = rv_codec_get_options(c)->dim;
	const size_t bytes = rv_codec_code_bytes(c);
	float *x;
	uint8_t *codes;
	void *query;
	if (RV_ALLOC(&x, dim, "x") != RV_OK || RV_ALLOC(&codes, 2 * bytes, "codes") != RV_OK ||
	    rv_alloc(&query, 1, rv_codec_query_bytes(c), "query") != RV_OK)
		abort();
	for (int i = 0; i < dim; i++)
		x[i] = (float)(i % 5) - 1.5f;
	if (rv_codec_encode(c, x, codes) != RV_OK || rv_codec_prepare(c, x, query) != RV_OK)
		abort();
	memcpy(codes + bytes, codes, bytes);
	if (left >= bytes) {
		memcpy(codes + bytes, rest, bytes);
		if (rv_codec_check_code(c, codes + bytes) != RV_OK)
			memcpy(codes + bytes, codes, bytes);
	}
	volatile float sum = rv_codec_distance(c, query, codes + bytes);
	sum += rv_codec_code_distance(c, codes, codes + bytes);
	rv_codec_decode(c, codes + bytes, x);
	(void)sum;
	rv_free(x);
	rv_free(codes);
	rv_free(query);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	rv_codec *c = NULL;
	size_t used = 0;
	if (rv_codec_load(&c, data, size, &used, rv_kernels_for(RV_LEVEL_REF), "input") != RV_OK) {
		if (c || !*rv_error_message())
			abort();
		return 0;
	}
	if (used > size || !rv_codec_is_trained(c))
		abort();
	use(c, data + used, size - used);
	rv_codec_destroy(c);
	return 0;
}
