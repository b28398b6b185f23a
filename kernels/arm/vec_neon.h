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
