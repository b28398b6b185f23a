/* Products of the 32-element types with Q8 activations, the body of a level's file: include after its
 * dot_<level>.h. The block's dot product is summed in integers, exactly, in the four lanes of dot_32.
 * Then, for one block:
 *
 *   Q8_0, Q4_0, Q5_0   acc[l] = fma(d * da, dot[l], acc[l])
 *   Q4_1, Q5_1         acc[l] = acc[l] + fma(d * da, dot[l], ms[l])
 *
 * where ms is m times the activation sum in lane 0 and zero in the others. */
#include "kernels/common/matmul_tiles.h"

/* The codes of a block, elements 0..15 and 16..31. */
typedef struct codes32 {
	int8x16_t lo, hi;
} codes32;

INLINE void add_block(vec *acc, codes32 c, const void *d_ptr, const act_row *a, int64_t i, int n) {
	const float32x4_t d = splat_f16(d_ptr);
	UNROLL
	for (int t = 0; t < n; t++) {
		const float32x4_t dot = vcvtq_f32_s32(dot_32(c.lo, c.hi, a[t].q + 32 * i));
		acc[t] = vfmaq_f32(acc[t], vmulq_n_f32(d, a[t].d[i]), dot);
	}
}

INLINE void add_block_min(vec *acc, codes32 c, const void *d_ptr, const void *m_ptr, const act_row *a,
                          int64_t i, int n) {
	const float32x4_t d = splat_f16(d_ptr);
	const float32x4_t m = vsetq_lane_f32(vgetq_lane_f32(splat_f16(m_ptr), 0), vdupq_n_f32(0), 0);
	UNROLL
	for (int t = 0; t < n; t++) {
		const float32x4_t dot = vcvtq_f32_s32(dot_32(c.lo, c.hi, a[t].q + 32 * i));
		const float32x4_t ms = vmulq_n_f32(m, a[t].s[i]);
		acc[t] = vaddq_f32(acc[t], vfmaq_f32(ms, vmulq_n_f32(d, a[t].d[i]), dot));
	}
}

/* 16 bytes to 32 codes less a centre: low nibbles, then high nibbles. */
INLINE codes32 unpack_nibbles(const uint8_t *p, int8_t centre) {
	const uint8x16_t q = vld1q_u8(p);
	const int8x16_t c = vdupq_n_s8(centre);
	return (codes32){vsubq_s8(vreinterpretq_s8_u8(vandq_u8(q, vdupq_n_u8(15))), c),
	                 vsubq_s8(vreinterpretq_s8_u8(vshrq_n_u8(q, 4)), c)};
}
/* 16 bits to 16 bytes of 0 or 16. */
INLINE int8x16_t fifth_bits(const uint8_t *p) {
	const uint8x16_t bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201u));
	const uint8x16_t spread = vcombine_u8(vdup_n_u8(p[0]), vdup_n_u8(p[1]));
	return vreinterpretq_s8_u8(vandq_u8(vtstq_u8(spread, bit), vdupq_n_u8(16)));
}
INLINE codes32 unpack_five_bits(const uint8_t *qs, const uint8_t *qh, int8_t centre) {
	const codes32 c = unpack_nibbles(qs, centre);
	return (codes32){vaddq_s8(c.lo, fifth_bits(qh)), vaddq_s8(c.hi, fifth_bits(qh + 2))};
}

INLINE void q8_0_step(vec *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	const rv_q8_0 *w = (const void *)block;
	const codes32 c = {vld1q_s8(w->qs), vld1q_s8(w->qs + 16)};
	add_block(acc, c, &w->d, a, i, n);
}
INLINE void q4_0_step(vec *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	const rv_q4_0 *w = (const void *)block;
	add_block(acc, unpack_nibbles(w->qs, 8), &w->d, a, i, n);
}
INLINE void q5_0_step(vec *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	const rv_q5_0 *w = (const void *)block;
	add_block(acc, unpack_five_bits(w->qs, w->qh, 16), &w->d, a, i, n);
}
INLINE void q4_1_step(vec *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	const rv_q4_1 *w = (const void *)block;
	add_block_min(acc, unpack_nibbles(w->qs, 0), &w->d, &w->m, a, i, n);
}
INLINE void q5_1_step(vec *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	const rv_q5_1 *w = (const void *)block;
	add_block_min(acc, unpack_five_bits(w->qs, w->qh, 0), &w->d, &w->m, a, i, n);
}

RV_DEFINE_MATMUL(rv_matmul_q4_0, {q4_0_step, sizeof(rv_q4_0), RV_QK, RV_QK, NULL})
RV_DEFINE_MATMUL(rv_matmul_q4_1, {q4_1_step, sizeof(rv_q4_1), RV_QK, RV_QK, NULL})
RV_DEFINE_MATMUL(rv_matmul_q5_0, {q5_0_step, sizeof(rv_q5_0), RV_QK, RV_QK, NULL})
RV_DEFINE_MATMUL(rv_matmul_q5_1, {q5_1_step, sizeof(rv_q5_1), RV_QK, RV_QK, NULL})
RV_DEFINE_MATMUL(rv_matmul_q8_0, {q8_0_step, sizeof(rv_q8_0), RV_QK, RV_QK, NULL})
