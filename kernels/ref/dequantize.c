/* Decoding of weight rows. Every product below is exact in f32 (11-bit scales times short integers), so
 * a fused form gives the same bits. */
#include "kernels/kernels_internal.h"
#include "kernels/ref/unpack.h"

#include <string.h>

void rv_dequantize_f32_ref(float *y, const void *x, int64_t n) {
	if (n > 0) {
		memcpy(y, x, (size_t)n * sizeof(float));
	}
}

static uint16_t load_u16(const void *x, int64_t i) {
	uint16_t h;
	memcpy(&h, (const char *)x + i * (int64_t)sizeof h, sizeof h);
	return h;
}

void rv_dequantize_f16_ref(float *y, const void *x, int64_t n) {
	for (int64_t i = 0; i < n; i++) {
		y[i] = rv_f16_to_f32(load_u16(x, i));
	}
}

void rv_dequantize_bf16_ref(float *y, const void *x, int64_t n) {
	for (int64_t i = 0; i < n; i++) {
		y[i] = rv_bf16_to_f32(load_u16(x, i));
	}
}

/* No sum without a minimum: adding 0 would turn -0 into 0. */
static void decode32(float *y, const rv_block32 *b, int has_min) {
	for (int i = 0; i < RV_QK; i++) {
		float dq = (float)b->q[i] * b->d;
		y[i] = has_min ? dq + b->m : dq;
	}
}

static void decode256(float *y, const rv_block256 *b) {
	for (int i = 0; i < RV_QKK; i++) {
		float d = b->d * (float)b->scale[i / 16];
		float m = b->dmin * (float)b->min[i / 16];
		y[i] = d * (float)b->q[i] - m;
	}
}

#define DEQUANTIZE32(type, has_min)                                                                    \
	void rv_dequantize_##type##_ref(float *y, const void *x, int64_t n) {                          \
		rv_block32 b;                                                                          \
		for (int64_t i = 0; i < n / RV_QK; i++) {                                              \
			rv_unpack_##type(&b, (const rv_##type *)x + i);                                \
			decode32(y + i * RV_QK, &b, has_min);                                          \
		}                                                                                      \
	}
RV_EACH_BLOCK32_TYPE(DEQUANTIZE32)

#define DEQUANTIZE256(type)                                                                            \
	void rv_dequantize_##type##_ref(float *y, const void *x, int64_t n) {                          \
		rv_block256 b;                                                                         \
		for (int64_t i = 0; i < n / RV_QKK; i++) {                                             \
			rv_unpack_##type(&b, (const rv_##type *)x + i);                                \
			decode256(y + i * RV_QKK, &b);                                                 \
		}                                                                                      \
	}
RV_EACH_BLOCK256_TYPE(DEQUANTIZE256)
