/* Rounding of activation rows, to the bit as kernels_internal.h says. */
#include "kernels/arm/simd_neon.h"

void rv_quantize_act_f32_neon(void *y, const float *x, int64_t k) {
	if (k > 0)
		memcpy(y, x, (size_t)k * sizeof *x);
}

/* max|x| of n elements, a multiple of 16; NaN or infinity when there is one. As integers, magnitudes
 * order like the numbers and NaN comes out on top. */
INLINE float max_magnitude(const float *x, int n) {
	uint32x4_t max[4] = {vdupq_n_u32(0), vdupq_n_u32(0), vdupq_n_u32(0), vdupq_n_u32(0)};
	for (int i = 0; i < n; i += 16) {
		UNROLL
		for (int j = 0; j < 4; j++) {
			const float32x4_t magnitude = vabsq_f32(vld1q_f32(x + i + 4 * j));
			max[j] = vmaxq_u32(max[j], vreinterpretq_u32_f32(magnitude));
		}
	}
	const uint32_t bits =
	        vmaxvq_u32(vmaxq_u32(vmaxq_u32(max[0], max[1]), vmaxq_u32(max[2], max[3])));
	float top;
	memcpy(&top, &bits, sizeof top);
	return top;
}

/* Scale of a block and its inverse; the inverse is 0 where the codes are to be 0. */
INLINE float block_scale(float max, float *inverse) {
	const int finite = max < INFINITY;
	*inverse = finite && max >= RV_ACT_TINY ? 127 / max : 0;
	if (!finite)
		return NAN;
	return *inverse > 0 ? max / 127 : 0;
}

/* The scale as an f16 holds it, where it is a normal one. */
INLINE float half_scale(float d) {
	if (!(d >= RV_F16_MIN_NORMAL && d <= RV_F16_MAX))
		return d;
	return vgetq_lane_f32(vcvt_f32_f16(vcvt_f16_f32(vdupq_n_f32(d))), 0);
}

/* Rounds 16 elements and returns the sum of their codes. */
INLINE int16_t round_16(int8_t *q, const float *x, float inverse) {
	int16x4_t c[4];
	if (!(inverse > 0)) { /* 0 * NaN would not do */
		vst1q_s8(q, vdupq_n_s8(0));
		return 0;
	}
	UNROLL
	for (int j = 0; j < 4; j++)
		c[j] = vmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4 * j), inverse)));
	const int8x16_t codes =
	        vcombine_s8(vmovn_s16(vcombine_s16(c[0], c[1])), vmovn_s16(vcombine_s16(c[2], c[3])));
	vst1q_s8(q, codes);
	return vaddlvq_s8(codes);
}

void rv_quantize_act_q8_neon(void *y, const float *x, int64_t k) {
	int8_t *q = y;
	float *d = (float *)(void *)(q + rv_act_scale_offset(k));
	float *s = d + k / RV_QK;
	for (int64_t i = 0; i < k / RV_QK; i++) {
		float inverse;
		d[i] = half_scale(block_scale(max_magnitude(x + RV_QK * i, RV_QK), &inverse));
		const int sum = round_16(q + RV_QK * i, x + RV_QK * i, inverse) +
		                round_16(q + RV_QK * i + 16, x + RV_QK * i + 16, inverse);
		s[i] = d[i] * (float)sum;
	}
}

void rv_quantize_act_q8k_neon(void *y, const float *x, int64_t k) {
	int8_t *q = y;
	float *d = (float *)(void *)(q + rv_act_scale_offset(k));
	int16_t *b = (int16_t *)(void *)(d + k / RV_QKK);
	for (int64_t i = 0; i < k / RV_QKK; i++) {
		float inverse;
		d[i] = block_scale(max_magnitude(x + RV_QKK * i, RV_QKK), &inverse);
		for (int64_t e = RV_QKK * i; e < RV_QKK * (i + 1); e += 16)
			b[e / 16] = round_16(q + e, x + e, inverse);
	}
}
