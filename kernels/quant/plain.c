/* Writing of the types without blocks. */
#include "kernels/kernels_internal.h"

#include <string.h>

void rv_quantize_f32_ref(void *y, const float *x, const float *importance, int64_t n) {
	(void)importance;
	if (n > 0) {
		memcpy(y, x, (size_t)n * sizeof(float));
	}
}

#define PLAIN_U16(type, convert)                                                                       \
	void rv_quantize_##type##_ref(void *y, const float *x, const float *importance, int64_t n) {   \
		(void)importance;                                                                      \
		for (int64_t i = 0; i < n; i++) {                                                      \
			uint16_t h = convert(x[i]);                                                    \
			memcpy((char *)y + i * (int64_t)sizeof h, &h, sizeof h);                       \
		}                                                                                      \
	}
PLAIN_U16(f16, rv_f32_to_f16)
PLAIN_U16(bf16, rv_f32_to_bf16)
