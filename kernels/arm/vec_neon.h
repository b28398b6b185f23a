/* What the float kernels and the bodies shared with x86 (matmul_tiles.h, gemm_body.h) call a vector:
 * eight lanes in two registers, so that every sum has two chains in flight. */
#ifndef RV_KERNELS_ARM_VEC_NEON_H
#define RV_KERNELS_ARM_VEC_NEON_H

#include "kernels/arm/simd_neon.h"

typedef struct vec {
	float32x4_t lo, hi;
} vec;
typedef int64_t vec_mask; /* how many lanes, from the first, are on */
enum { VEC_LANES = 8, VEC_REGISTERS = 16 };
#define LEVEL_NAME(name) name##_neon

/* vec_<name>: the operation on both halves. */
#define EACH_HALF(name, op)                                                                            \
	INLINE vec vec_##name(vec a, vec b) {                                                          \
		return (vec){op(a.lo, b.lo), op(a.hi, b.hi)};                                          \
	}
EACH_HALF(add, vaddq_f32)
EACH_HALF(sub, vsubq_f32)
EACH_HALF(mul, vmulq_f32)
EACH_HALF(div, vdivq_f32)
EACH_HALF(max, vmaxq_f32) /* NaN if either is */

INLINE vec vec_abs(vec v) {
	return (vec){vabsq_f32(v.lo), vabsq_f32(v.hi)};
}
INLINE vec vec_set(float x) {
	return (vec){vdupq_n_f32(x), vdupq_n_f32(x)};
}
INLINE vec vec_zero(void) {
	return vec_set(0);
}
/* gcc's scheduler moves nothing across a volatile asm: of gemm's splats one at a time is in a register.
 */
INLINE vec vec_splat(const float *p) {
	__asm__ volatile("");
	return vec_set(*p);
}
/* a b + c */
INLINE vec vec_fma(vec a, vec b, vec c) {
	return (vec){vfmaq_f32(c.lo, a.lo, b.lo), vfmaq_f32(c.hi, a.hi, b.hi)};
}
INLINE vec vec_exp(vec x) {
	return (vec){exp_4(x.lo), exp_4(x.hi)};
}
/* The fixed tree over 8 lanes: (l + l4), then neighbours, then the two pairs. */
INLINE float vec_sum(vec v) {
	return vaddvq_f32(vaddq_f32(v.lo, v.hi));
}
INLINE float vec_max_lane(vec v) {
	return vmaxvq_f32(vmaxq_f32(v.lo, v.hi));
}
INLINE vec vec_load(const float *p) {
	return (vec){vld1q_f32(p), vld1q_f32(p + 4)};
}
INLINE void vec_store(float *p, vec v) {
	vst1q_f32(p, v.lo);
	vst1q_f32(p + 4, v.hi);
}
/* Sixteen values, of as many rows. */
typedef struct half16 {
	uint16x8_t part[2];
} half16;
INLINE vec vec_widen(half16 h, int part) {
	return (vec){widen_f16(vget_low_u16(h.part[part])), widen_f16(vget_high_u16(h.part[part]))};
}
INLINE uint16x8_t load_halves(const rv_f16 *p) {
	return vreinterpretq_u16_u8(vld1q_u8((const uint8_t *)p));
}
INLINE vec vec_load_f16(const rv_f16 *p) {
	const uint16x8_t h = load_halves(p);
	return (vec){widen_f16(vget_low_u16(h)), widen_f16(vget_high_u16(h))};
}
/* out[i] = element d + i of each row: two squares of eight by eight. */
INLINE void half_columns(const rv_f16 *const *rows, int64_t d, half16 out[8]) {
	UNROLL
	for (int p = 0; p < 2; p++) {
		uint16x8_t a[8];
		uint32x4_t b[8];
		UNROLL
		for (int j = 0; j < 8; j += 2) { /* elements in turns: even ones, odd ones */
			const uint16x8_t r = load_halves(rows[8 * p + j] + d);
			const uint16x8_t s = load_halves(rows[8 * p + j + 1] + d);
			a[j] = vtrn1q_u16(r, s);
			a[j + 1] = vtrn2q_u16(r, s);
		}
		UNROLL
		for (int j = 0; j < 8;
		     j++) { /* j: rows 4 (j / 4) on, element j % 4 and the 4th after */
			const uint32x4_t r = vreinterpretq_u32_u16(a[j / 4 * 4 + j % 2]);
			const uint32x4_t s = vreinterpretq_u32_u16(a[j / 4 * 4 + 2 + j % 2]);
			b[j] = j % 4 < 2 ? vtrn1q_u32(r, s) : vtrn2q_u32(r, s);
		}
		UNROLL
		for (int i = 0; i < 8; i++) {
			const uint64x2_t r = vreinterpretq_u64_u32(b[i % 4]);
			const uint64x2_t s = vreinterpretq_u64_u32(b[4 + i % 4]);
			out[i].part[p] =
			        vreinterpretq_u16_u64(i < 4 ? vtrn1q_u64(r, s) : vtrn2q_u64(r, s));
		}
	}
}
INLINE vec_mask vec_first(int64_t n) {
	return n;
}
/* Lanes off are zero, and their memory is not touched. */
INLINE vec vec_load_part(const float *p, vec_mask n) {
	if (n <= 4)
		return (vec){load_part(p, n), vdupq_n_f32(0)};
	return (vec){vld1q_f32(p), load_part(p + 4, n - 4)};
}
INLINE void vec_store_part(float *p, vec_mask n, vec v) {
	if (n <= 4) {
		store_part(p, n, v.lo);
		return;
	}
	vst1q_f32(p, v.lo);
	store_part(p + 4, n - 4, v.hi);
}
/* Lanes from n on replaced by -inf: in no maximum and, as exponents, in no sum. */
INLINE vec vec_or_minus_inf(vec v, vec_mask n) {
	const uint32x4_t lane = {0, 1, 2, 3}, on = vdupq_n_u32((uint32_t)n);
	const float32x4_t off = vdupq_n_f32(-INFINITY);
	return (vec){vbslq_f32(vcltq_u32(lane, on), v.lo, off),
	             vbslq_f32(vcltq_u32(vaddq_u32(lane, vdupq_n_u32(4)), on), v.hi, off)};
}

#endif
