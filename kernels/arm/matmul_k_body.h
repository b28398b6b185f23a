/* Products of the K types with Q8K activations, the body of a level's file: include after its
 * dot_<level>.h. A super-block of 256 elements is summed in integers, exactly; then each of the four
 * lanes takes one f32 update:
 *
 *   acc[l] = fma(da, x[l], acc[l])       da: the activation scale of the super-block
 *
 * where x is, for Q4_K, Q5_K and Q2_K, fnma(dmin, mins[l], d * dot[l]) and, for Q6_K and Q3_K, d *
 * dot[l]. dot is the sum of the sub-blocks' dot_16 or dot_32 times their scales; lane l of mins holds
 * the sub-blocks whose number is l modulo 4. */
#include "kernels/common/matmul_tiles.h"

/* Between sub-blocks: gcc's scheduler would rather unpack the whole super-block first, and spill it. It
 * moves nothing across a volatile asm. */
#define IN_THIS_ORDER __asm__ volatile("")

INLINE void clear_dots(int32x4_t *dot, int n) {
	UNROLL
	for (int t = 0; t < n; t++)
		dot[t] = vdupq_n_s32(0);
}

/* acc += da (d dot - dmin mins); mins is NULL for the types without. */
INLINE void add_super_block(vec *acc, const void *d_ptr, const void *dmin_ptr, const int32x4_t *dot,
                            const int32x4_t *mins, const act_row *a, int64_t i, int n) {
	const float32x4_t d = splat_f16(d_ptr);
	UNROLL
	for (int t = 0; t < n; t++) {
		float32x4_t x = vmulq_f32(d, vcvtq_f32_s32(dot[t]));
		if (mins)
			x = vfmsq_f32(x, splat_f16(dmin_ptr), vcvtq_f32_s32(mins[t]));
		acc[t] = vfmaq_n_f32(acc[t], x, a[t].d[i]);
	}
}

/* ---- Q4_K, Q5_K: sub-blocks of 32 ---- */

typedef struct scales_mins {
	int32x4_t scale[2];
	int16x8_t min;
} scales_mins;

/* The first eight of 12 bytes hold the low 6 bits of scales 0..3 and mins 0..3, and above them the high
 * two bits of numbers 4..7, whose low nibbles are in the last four bytes. */
INLINE scales_mins unpack_scales_mins(const uint8_t *packed) {
	uint64_t sm;
	memcpy(&sm, packed, sizeof sm);
	const uint64_t low = load_u32(packed + 8), nibbles = low | low >> 4 << 32;
	const uint64_t first = sm & 0x3f3f3f3f3f3f3f3f;
	const uint64_t last = (nibbles & 0x0f0f0f0f0f0f0f0f) | (sm >> 2 & 0x3030303030303030);
	const uint64_t scales = (first & 0xffffffff) | last << 32;
	const uint64_t mins = first >> 32 | (last & 0xffffffff00000000);
	const int16x8_t s = vreinterpretq_s16_u16(vmovl_u8(vcreate_u8(scales)));
	return (scales_mins){{vmovl_s16(vget_low_s16(s)), vmovl_high_s16(s)},
	                     vreinterpretq_s16_u16(vmovl_u8(vcreate_u8(mins)))};
}

/* dot += scale times sub-block j of 32. */
INLINE void add_32(int32x4_t *dot, uint8x16_t c0, uint8x16_t c1, int32_t scale, int j, const act_row *a,
                   int64_t i, int n) {
	const int8x16_t w0 = vreinterpretq_s8_u8(c0), w1 = vreinterpretq_s8_u8(c1);
	UNROLL
	for (int t = 0; t < n; t++)
		dot[t] = vmlaq_n_s32(dot[t], dot_32(w0, w1, a[t].q + 256 * i + 32 * j), scale);
	IN_THIS_ORDER;
}

/* The fifth bits of sub-block j, in place above the nibbles. */
INLINE uint8x16_t with_fifth(uint8x16_t nibbles, uint8x16_t high, int j) {
	const uint8x16_t moved = vshlq_u8(high, vdupq_n_s8((int8_t)(4 - j)));
	return vorrq_u8(nibbles, vandq_u8(moved, vdupq_n_u8(16)));
}

/* Both types; high: 32 bytes of fifth bits (bit j for sub-block j), or NULL. */
INLINE void q45_k_step(vec *acc, const void *d, const void *dmin, const uint8_t *packed,
                       const uint8_t *low, const uint8_t *high, const act_row *a, int64_t i, int n) {
	const scales_mins s = unpack_scales_mins(packed);
	const uint8x16_t h0 = vld1q_u8(high ? high : low), h1 = vld1q_u8(high ? high + 16 : low);
	int32x4_t dot[TILE_TOKENS], mins[TILE_TOKENS];
	clear_dots(dot, n);
	UNROLL
	for (int j = 0; j < 8; j++) {
		const uint8x16_t l0 = vld1q_u8(low + j / 2 * 32), l1 = vld1q_u8(low + j / 2 * 32 + 16);
		uint8x16_t c0 = j % 2 ? vshrq_n_u8(l0, 4) : vandq_u8(l0, vdupq_n_u8(15));
		uint8x16_t c1 = j % 2 ? vshrq_n_u8(l1, 4) : vandq_u8(l1, vdupq_n_u8(15));
		if (high) {
			c0 = with_fifth(c0, h0, j);
			c1 = with_fifth(c1, h1, j);
		}
		add_32(dot, c0, c1, s.scale[j / 4][j % 4], j, a, i, n);
	}
	UNROLL
	for (int t = 0; t < n; t++) {
		const int16_t *b = a[t].b + 16 * i;
		const int16x8_t sums = vpaddq_s16(vld1q_s16(b), vld1q_s16(b + 8));
		mins[t] =
		        vmlal_high_s16(vmull_s16(vget_low_s16(sums), vget_low_s16(s.min)), sums, s.min);
	}
	add_super_block(acc, d, dmin, dot, mins, a, i, n);
}

INLINE void q4_k_step(vec *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	const rv_q4_k *w = (const void *)block;
	q45_k_step(acc, &w->d, &w->dmin, w->scales, w->qs, NULL, a, i, n);
}
INLINE void q5_k_step(vec *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	const rv_q5_k *w = (const void *)block;
	q45_k_step(acc, &w->d, &w->dmin, w->scales, w->qs, w->qh, a, i, n);
}

/* ---- Q6_K, Q3_K, Q2_K: sub-blocks of 16 ---- */

/* 16 scales, four a vector. */
typedef struct scales16 {
	int32x4_t four[4];
} scales16;

INLINE scales16 widen_scales(int8x16_t s) {
	const int16x8_t lo = vmovl_s8(vget_low_s8(s)), hi = vmovl_high_s8(s);
	return (scales16){{vmovl_s16(vget_low_s16(lo)), vmovl_high_s16(lo), vmovl_s16(vget_low_s16(hi)),
	                   vmovl_high_s16(hi)}};
}

/* dot += its scale times sub-block j of 16. */
INLINE void add_16(int32x4_t *dot, int8x16_t codes, const scales16 *s, int j, const act_row *a,
                   int64_t i, int n) {
	const int32_t scale = s->four[j / 4][j % 4];
	UNROLL
	for (int t = 0; t < n; t++)
		dot[t] = vmlaq_n_s32(dot[t], dot_16(codes, a[t].q + 256 * i + 16 * j), scale);
	IN_THIS_ORDER;
}

/* Two bits a code: field c of four, of 16 bytes. */
INLINE uint8x16_t two_bits(uint8x16_t q, int c) {
	return vandq_u8(vshlq_u8(q, vdupq_n_s8((int8_t)(-2 * c))), vdupq_n_u8(3));
}

INLINE void q6_k_step(vec *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	const rv_q6_k *w = (const void *)block;
	const scales16 s = widen_scales(vld1q_s8(w->scales));
	int32x4_t dot[TILE_TOKENS];
	clear_dots(dot, n);
	/* a half of the super-block is four chunks of 32; each piece has 16 elements of every chunk */
	UNROLL
	for (int piece = 0; piece < 4; piece++) {
		const int h = piece / 2, p = piece % 2;
		const uint8x16_t l[2] = {vld1q_u8(w->ql + 64 * h + 16 * p),
		                         vld1q_u8(w->ql + 64 * h + 32 + 16 * p)};
		const uint8x16_t qh = vld1q_u8(w->qh + 32 * h + 16 * p);
		UNROLL
		for (int c = 0; c < 4; c++) {
			const uint8x16_t low =
			        c < 2 ? vandq_u8(l[c % 2], vdupq_n_u8(15)) : vshrq_n_u8(l[c % 2], 4);
			const uint8x16_t code = vorrq_u8(low, vshlq_n_u8(two_bits(qh, c), 4));
			add_16(dot, vsubq_s8(vreinterpretq_s8_u8(code), vdupq_n_s8(32)), &s,
			       8 * h + 2 * c + p, a, i, n);
		}
	}
	add_super_block(acc, &w->d, NULL, dot, NULL, a, i, n);
}

/* 12 bytes to 16 scales less 32: low nibbles in bytes 0..7 (numbers 0..7 low, 8..15 high), two high
 * bits of number j in byte 8 + j % 4 at bit 2 (j / 4). */
INLINE scales16 unpack_q3_scales(const uint8_t *packed) {
	const uint32_t l0 = load_u32(packed), l1 = load_u32(packed + 4), h = load_u32(packed + 8);
	const uint32x4_t low = {l0, l1, l0 >> 4, l1 >> 4}, high = {h << 4, h << 2, h, h >> 2};
	const uint8x16_t s = vorrq_u8(vandq_u8(vreinterpretq_u8_u32(low), vdupq_n_u8(15)),
	                              vandq_u8(vreinterpretq_u8_u32(high), vdupq_n_u8(0x30)));
	return widen_scales(vsubq_s8(vreinterpretq_s8_u8(s), vdupq_n_s8(32)));
}

INLINE void q3_k_step(vec *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	const rv_q3_k *w = (const void *)block;
	const scales16 s = unpack_q3_scales(w->scales);
	int32x4_t dot[TILE_TOKENS];
	clear_dots(dot, n);
	UNROLL
	for (int piece = 0; piece < 4; piece++) {
		const int h = piece / 2, p = piece % 2;
		const uint8x16_t q = vld1q_u8(w->qs + 32 * h + 16 * p);
		const uint8x16_t mask = vld1q_u8(w->hmask + 16 * p);
		UNROLL
		for (int c = 0; c < 4; c++) {
			const uint8x16_t third =
			        vtstq_u8(mask, vdupq_n_u8((uint8_t)(1 << (4 * h + c))));
			const uint8x16_t off = vbicq_u8(vdupq_n_u8(4), third);
			add_16(dot, vreinterpretq_s8_u8(vsubq_u8(two_bits(q, c), off)), &s,
			       8 * h + 2 * c + p, a, i, n);
		}
	}
	add_super_block(acc, &w->d, NULL, dot, NULL, a, i, n);
}

INLINE void q2_k_step(vec *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	const rv_q2_k *w = (const void *)block;
	const uint8x16_t both = vld1q_u8(w->scales), min = vshrq_n_u8(both, 4);
	const scales16 s = widen_scales(vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15))));
	const int16x8_t m0 = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(min)));
	const int16x8_t m1 = vreinterpretq_s16_u16(vmovl_high_u8(min));
	int32x4_t dot[TILE_TOKENS], mins[TILE_TOKENS];
	clear_dots(dot, n);
	UNROLL
	for (int piece = 0; piece < 4; piece++) {
		const int h = piece / 2, p = piece % 2;
		const uint8x16_t q = vld1q_u8(w->qs + 32 * h + 16 * p);
		UNROLL
		for (int c = 0; c < 4; c++)
			add_16(dot, vreinterpretq_s8_u8(two_bits(q, c)), &s, 8 * h + 2 * c + p, a, i,
			       n);
	}
	UNROLL
	for (int t = 0; t < n; t++) {
		const int16x8_t b0 = vld1q_s16(a[t].b + 16 * i), b1 = vld1q_s16(a[t].b + 16 * i + 8);
		int32x4_t x = vmull_s16(vget_low_s16(b0), vget_low_s16(m0));
		x = vmlal_high_s16(x, b0, m0);
		x = vmlal_s16(x, vget_low_s16(b1), vget_low_s16(m1));
		mins[t] = vmlal_high_s16(x, b1, m1);
	}
	add_super_block(acc, &w->d, &w->dmin, dot, mins, a, i, n);
}

RV_DEFINE_MATMUL(rv_matmul_q4_k, {q4_k_step, sizeof(rv_q4_k), RV_QKK, RV_QKK, NULL})
RV_DEFINE_MATMUL(rv_matmul_q5_k, {q5_k_step, sizeof(rv_q5_k), RV_QKK, RV_QKK, NULL})
RV_DEFINE_MATMUL(rv_matmul_q6_k, {q6_k_step, sizeof(rv_q6_k), RV_QKK, RV_QKK, NULL})
RV_DEFINE_MATMUL(rv_matmul_q3_k, {q3_k_step, sizeof(rv_q3_k), RV_QKK, RV_QKK, NULL})
RV_DEFINE_MATMUL(rv_matmul_q2_k, {q2_k_step, sizeof(rv_q2_k), RV_QKK, RV_QKK, NULL})
