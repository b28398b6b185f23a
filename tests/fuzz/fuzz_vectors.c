/* Fuzz target: any bytes as each kind of file of vectors. What is accepted accounts for every byte. */
#include "base/mem.h"
#include "memory/vectors.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	static const size_t bytes[RV_VECTORS_COUNT] = {4, 4, 1};
	for (rv_vectors_kind kind = 0; kind < RV_VECTORS_COUNT; kind++) {
		rv_vectors v;
		if (rv_vectors_parse(&v, data, size, "fuzz", kind, 0) != RV_OK) {
			if (v.data)
				abort();
			continue;
		}
		const size_t row = (size_t)v.dim * bytes[kind];
		if ((size_t)v.n * (row + 4) != size ||
		    memcmp((uint8_t *)v.data + (size_t)(v.n - 1) * row, data + size - row, row) != 0)
			abort();
		rv_vectors_free(&v);
	}
	return 0;
}
