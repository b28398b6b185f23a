/* Writing of the types with blocks of 32. */
#include "kernels/quant/fit.h"

#include <string.h>

const float rv_quant_ones[RV_QKK] = {[0 ... RV_QKK - 1] = 1};

/* Writes one block from x and its weights. */
typedef void encode_block_fn(void *y, const float *x, const float *w);

static void each_block(void *y, size_t bytes, const float *x, const float *importance, int64_t n,
                       encode_block_fn *encode) {
	for (int64_t i = 0; i < n / RV_QK; i++) {
		const float *given = importance ? importance + i * RV_QK : NULL;
		encode((char *)y + (size_t)i * bytes, x + i * RV_QK,
		       rv_weights(given, rv_quant_ones, RV_QK));
	}
}

static void pack_nibbles(uint8_t qs[16], const float q[RV_QK], int offset) {
	for (int j = 0; j < 16; j++) {
		int low = (int)q[j] + offset, high = (int)q[j + 16] + offset;
		qs[j] = (uint8_t)((low & 15) | (high & 15) << 4);
	}
}

static void pack_fifth_bits(uint8_t qh[4], const float q[RV_QK], int offset) {
	for (int j = 0; j < 4; j++) {
		int bits = 0;
		for (int i = 0; i < 8; i++) {
			bits |= (((int)q[8 * j + i] + offset) >> 4 & 1) << i;
		}
		qh[j] = (uint8_t)bits;
	}
}

static void encode_q8_0(void *y, const float *x, const float *w) {
	rv_q8_0 b;
	float q[RV_QK];
	float extreme = rv_extreme(x, RV_QK);
	b.d = rv_f32_to_f16((extreme < 0 ? -extreme : extreme) / 127);
	rv_encode(q, x, w, RV_QK, rv_f16_to_f32(b.d), 0, -127, 127);
	for (int j = 0; j < RV_QK; j++) {
		b.qs[j] = (int8_t)q[j];
	}
	memcpy(y, &b, sizeof b);
}

static void encode_q4_0(void *y, const float *x, const float *w) {
	rv_q4_0 b;
	float q[RV_QK];
	b.d = rv_f32_to_f16(rv_fit_scale(x, w, RV_QK, -8, 7, -7.0f, -0.4f, 8));
	rv_encode(q, x, w, RV_QK, rv_f16_to_f32(b.d), 0, -8, 7);
	pack_nibbles(b.qs, q, 8);
	memcpy(y, &b, sizeof b);
}

static void encode_q5_0(void *y, const float *x, const float *w) {
	rv_q5_0 b;
	float q[RV_QK];
	b.d = rv_f32_to_f16(rv_fit_scale(x, w, RV_QK, -16, 15, -15.0f, -0.4f, 8));
	rv_encode(q, x, w, RV_QK, rv_f16_to_f32(b.d), 0, -16, 15);
	pack_nibbles(b.qs, q, 16);
	pack_fifth_bits(b.qh, q, 16);
	memcpy(y, &b, sizeof b);
}

static void encode_q5_1(void *y, const float *x, const float *w) {
	rv_q5_1 b;
	float q[RV_QK];
	rv_line line = rv_fit_line(x, w, RV_QK, 31, 29.5f, 0.5f, 8, 0);
	b.d = rv_f32_to_f16(line.scale);
	b.m = rv_f32_to_f16(-line.min);
	rv_encode(q, x, w, RV_QK, rv_f16_to_f32(b.d), -rv_f16_to_f32(b.m), 0, 31);
	pack_nibbles(b.qs, q, 0);
	pack_fifth_bits(b.qh, q, 0);
	memcpy(y, &b, sizeof b);
}

#define QUANTIZE(type)                                                                                 \
	void rv_quantize_##type##_ref(void *y, const float *x, const float *importance, int64_t n) {   \
		each_block(y, sizeof(rv_##type), x, importance, n, encode_##type);                     \
	}
QUANTIZE(q8_0)
QUANTIZE(q4_0)
QUANTIZE(q5_0)
QUANTIZE(q5_1)
