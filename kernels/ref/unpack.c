#include "kernels/ref/unpack.h"
#include "kernels/kernels.h"

#include <string.h>

/* ---- blocks of 32 ---- */

void rv_unpack_q4_0(rv_block32 *out, const void *block) {
	rv_q4_0 b;
	memcpy(&b, block, sizeof b);
	out->d = rv_f16_to_f32(b.d);
	out->m = 0;
	for (int j = 0; j < 16; j++) {
		out->q[j] = (int8_t)((b.qs[j] & 15) - 8);
		out->q[j + 16] = (int8_t)((b.qs[j] >> 4) - 8);
	}
}

void rv_unpack_q4_1(rv_block32 *out, const void *block) {
	rv_q4_1 b;
	memcpy(&b, block, sizeof b);
	out->d = rv_f16_to_f32(b.d);
	out->m = rv_f16_to_f32(b.m);
	for (int j = 0; j < 16; j++) {
		out->q[j] = (int8_t)(b.qs[j] & 15);
		out->q[j + 16] = (int8_t)(b.qs[j] >> 4);
	}
}

static void unpack_5_bits(int8_t q[RV_QK], const uint8_t qh[4], const uint8_t qs[16], int offset) {
	for (int j = 0; j < 16; j++) {
		int high_a = qh[j / 8] >> j % 8 & 1;
		int high_b = qh[2 + j / 8] >> j % 8 & 1;
		q[j] = (int8_t)((qs[j] & 15) + 16 * high_a - offset);
		q[j + 16] = (int8_t)((qs[j] >> 4) + 16 * high_b - offset);
	}
}

void rv_unpack_q5_0(rv_block32 *out, const void *block) {
	rv_q5_0 b;
	memcpy(&b, block, sizeof b);
	out->d = rv_f16_to_f32(b.d);
	out->m = 0;
	unpack_5_bits(out->q, b.qh, b.qs, 16);
}

void rv_unpack_q5_1(rv_block32 *out, const void *block) {
	rv_q5_1 b;
	memcpy(&b, block, sizeof b);
	out->d = rv_f16_to_f32(b.d);
	out->m = rv_f16_to_f32(b.m);
	unpack_5_bits(out->q, b.qh, b.qs, 0);
}

void rv_unpack_q8_0(rv_block32 *out, const void *block) {
	rv_q8_0 b;
	memcpy(&b, block, sizeof b);
	out->d = rv_f16_to_f32(b.d);
	out->m = 0;
	memcpy(out->q, b.qs, sizeof b.qs);
}

/* ---- super-blocks of 256 ---- */

/* Two bits a code: byte l of a half (32 bytes) holds elements l, l + 32, l + 64, l + 96 of it. */
static int two_bits(const uint8_t qs[64], int i) {
	return qs[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
}

/* Four bits a code: 32 bytes hold 32 elements in their low and the next 32 in their high nibbles. */
static int four_bits(const uint8_t qs[128], int i) {
	return qs[i / 64 * 32 + i % 32] >> i % 64 / 32 * 4 & 15;
}

/* Six-bit scale and minimum of sub-block j of 8: the first four have a byte each, whose top two bits
 * complete the nibbles of the last four. */
static void unpack_scales_k4(rv_block256 *out, const uint8_t s[12]) {
	for (int j = 0; j < 8; j++) {
		int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
		int min = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | s[j] >> 6 << 4;
		out->scale[2 * j] = out->scale[2 * j + 1] = (int16_t)scale;
		out->min[2 * j] = out->min[2 * j + 1] = (int16_t)min;
	}
}

void rv_unpack_q2_k(rv_block256 *out, const void *block) {
	rv_q2_k b;
	memcpy(&b, block, sizeof b);
	out->d = rv_f16_to_f32(b.d);
	out->dmin = rv_f16_to_f32(b.dmin);
	for (int j = 0; j < 16; j++) {
		out->scale[j] = b.scales[j] & 15;
		out->min[j] = b.scales[j] >> 4;
	}
	for (int i = 0; i < RV_QKK; i++) {
		out->q[i] = (int8_t)two_bits(b.qs, i);
	}
}

void rv_unpack_q3_k(rv_block256 *out, const void *block) {
	rv_q3_k b;
	memcpy(&b, block, sizeof b);
	out->d = rv_f16_to_f32(b.d);
	out->dmin = 0;
	for (int j = 0; j < 16; j++) {
		int low = b.scales[j % 8] >> j / 8 * 4 & 15;
		int high = b.scales[8 + j % 4] >> j / 4 * 2 & 3;
		out->scale[j] = (int16_t)((low | high << 4) - 32);
		out->min[j] = 0;
	}
	for (int i = 0; i < RV_QKK; i++) {
		int third_bit = b.hmask[i % 32] >> i / 32 & 1;
		out->q[i] = (int8_t)(two_bits(b.qs, i) - (third_bit ? 0 : 4));
	}
}

void rv_unpack_q4_k(rv_block256 *out, const void *block) {
	rv_q4_k b;
	memcpy(&b, block, sizeof b);
	out->d = rv_f16_to_f32(b.d);
	out->dmin = rv_f16_to_f32(b.dmin);
	unpack_scales_k4(out, b.scales);
	for (int i = 0; i < RV_QKK; i++) {
		out->q[i] = (int8_t)four_bits(b.qs, i);
	}
}

void rv_unpack_q5_k(rv_block256 *out, const void *block) {
	rv_q5_k b;
	memcpy(&b, block, sizeof b);
	out->d = rv_f16_to_f32(b.d);
	out->dmin = rv_f16_to_f32(b.dmin);
	unpack_scales_k4(out, b.scales);
	for (int i = 0; i < RV_QKK; i++) {
		int fifth_bit = b.qh[i % 32] >> i / 32 & 1;
		out->q[i] = (int8_t)(four_bits(b.qs, i) + 16 * fifth_bit);
	}
}

void rv_unpack_q6_k(rv_block256 *out, const void *block) {
	rv_q6_k b;
	memcpy(&b, block, sizeof b);
	out->d = rv_f16_to_f32(b.d);
	out->dmin = 0;
	for (int j = 0; j < 16; j++) {
		out->scale[j] = b.scales[j];
		out->min[j] = 0;
	}
	for (int i = 0; i < RV_QKK; i++) {
		/* a half: 64 low bytes hold elements 0..63 low and 64..127 high */
		int low = b.ql[i / 128 * 64 + i % 64] >> i % 128 / 64 * 4 & 15;
		int high = two_bits(b.qh, i);
		out->q[i] = (int8_t)((low | high << 4) - 32);
	}
}
