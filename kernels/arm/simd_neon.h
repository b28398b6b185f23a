/* Small pieces the sources of NEON and above share: partial loads, f16 scales, exp. */
#ifndef RV_KERNELS_ARM_SIMD_NEON_H
#define RV_KERNELS_ARM_SIMD_NEON_H

#include "kernels/kernels_internal.h"

#include <arm_neon.h>
#include <math.h>
#include <string.h>

/* Loops over the accumulators of a register tile must disappear, or the tile lives in memory. */
#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

INLINE uint32_t load_u32(const void *p) {
	uint32_t v;
	memcpy(&v, p, sizeof v);
	return v;
}
/* One f16, of any alignment, in all lanes, as f32. */
INLINE float32x4_t splat_f16(const void *p) {
	rv_f16 h;
	memcpy(&h, p, sizeof h);
	return vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h)));
}
INLINE float32x4_t widen_f16(uint16x4_t h) {
	return vcvt_f32_f16(vreinterpret_f16_u16(h));
}
INLINE float32x4_t widen_bf16(uint16x4_t h) {
	return vreinterpretq_f32_u32(vshll_n_u16(h, 16));
}

/* The first n values, and zeros; any n, and nothing beyond is touched. */
INLINE float32x4_t load_part(const float *p, int64_t n) {
	float32x4_t v = vdupq_n_f32(0);
	if (n >= 4)
		return vld1q_f32(p);
	if (n >= 2)
		v = vcombine_f32(vld1_f32(p), vdup_n_f32(0));
	if (n == 3)
		v = vld1q_lane_f32(p + 2, v, 2);
	if (n == 1)
		v = vld1q_lane_f32(p, v, 0);
	return v;
}
INLINE void store_part(float *p, int64_t n, float32x4_t v) {
	if (n >= 4) {
		vst1q_f32(p, v);
		return;
	}
	if (n >= 2)
		vst1_f32(p, vget_low_f32(v));
	if (n == 3)
		vst1q_lane_f32(p + 2, v, 2);
	if (n == 1)
		vst1q_lane_f32(p, v, 0);
}

/* e^x, error below 2 ulp. Underflow is gradual, -inf gives exactly 0, overflow gives infinity, NaN
 * stays NaN, e^0 is exactly 1. x = n ln 2 + r with |r| <= ln 2 / 2; e^r by its Taylor polynomial
 * of degree 7 (truncation 6e-9); 2^n in two factors, since n leaves the exponent range on both sides.
 */
INLINE float32x4_t exp_4(float32x4_t x) {
	x = vmaxq_f32(vdupq_n_f32(-105.0f), vminq_f32(vdupq_n_f32(90.0f), x));
	const float32x4_t n = vrndnq_f32(vmulq_n_f32(x, 0x1.715476p+0f));
	float32x4_t r = vfmsq_f32(x, n, vdupq_n_f32(0x1.62e400p-1f));
	r = vfmsq_f32(r, n, vdupq_n_f32(0x1.7f7d1cp-20f));
	float32x4_t p = vdupq_n_f32(1.0f / 5040);
	p = vfmaq_f32(vdupq_n_f32(1.0f / 720), p, r);
	p = vfmaq_f32(vdupq_n_f32(1.0f / 120), p, r);
	p = vfmaq_f32(vdupq_n_f32(1.0f / 24), p, r);
	p = vfmaq_f32(vdupq_n_f32(1.0f / 6), p, r);
	p = vfmaq_f32(vdupq_n_f32(0.5f), p, r);
	p = vfmaq_f32(vdupq_n_f32(1.0f), p, r);
	p = vfmaq_f32(vdupq_n_f32(1.0f), p, r);
	const int32x4_t e = vcvtq_s32_f32(n), half = vshrq_n_s32(e, 1), bias = vdupq_n_s32(127);
	const int32x4_t lo = vshlq_n_s32(vaddq_s32(half, bias), 23);
	const int32x4_t hi = vshlq_n_s32(vaddq_s32(vsubq_s32(e, half), bias), 23);
	return vmulq_f32(vmulq_f32(p, vreinterpretq_f32_s32(lo)), vreinterpretq_f32_s32(hi));
}

#endif
