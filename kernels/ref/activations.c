/* Rounding of activation rows; the exact rules are in kernels_internal.h. */
#include "kernels/kernels_internal.h"

#include <math.h>
#include <string.h>

void rv_quantize_act_f32_ref(void *y, const float *x, int64_t k) {
	if (k > 0) {
		memcpy(y, x, (size_t)k * sizeof(float));
	}
}

/* Codes of n elements and their scale. */
static float round_block(int8_t *q, const float *x, int n) {
	float max = 0;
	int finite = 1;
	for (int i = 0; i < n; i++) {
		float a = fabsf(x[i]);
		finite &= isfinite(a);
		max = a > max ? a : max;
	}
	if (!finite || max < RV_ACT_TINY) {
		memset(q, 0, (size_t)n);
		return finite ? 0 : NAN;
	}
	float inverse = 127 / max;
	for (int i = 0; i < n; i++) {
		q[i] = (int8_t)rintf(x[i] * inverse);
	}
	return max / 127;
}

static int sum_codes(const int8_t *q, int n) {
	int sum = 0;
	for (int i = 0; i < n; i++) {
		sum += q[i];
	}
	return sum;
}

/* The scale as an f16 holds it, where it is a normal one: what the codes are multiplied with is then
 * the same number that a stored Q8_0 block would hold. */
static float half_scale(float d) {
	return d >= RV_F16_MIN_NORMAL && d <= RV_F16_MAX ? rv_f16_to_f32(rv_f32_to_f16(d)) : d;
}

void rv_quantize_act_q8_ref(void *y, const float *x, int64_t k) {
	int8_t *q = y;
	float *d = (float *)((char *)y + rv_act_scale_offset(k));
	float *s = d + k / RV_QK;
	for (int64_t i = 0; i < k / RV_QK; i++) {
		d[i] = half_scale(round_block(q + i * RV_QK, x + i * RV_QK, RV_QK));
		s[i] = d[i] * (float)sum_codes(q + i * RV_QK, RV_QK);
	}
}

void rv_quantize_act_q8k_ref(void *y, const float *x, int64_t k) {
	int8_t *q = y;
	float *d = (float *)((char *)y + rv_act_scale_offset(k));
	int16_t *bsum = (int16_t *)(d + k / RV_QKK);
	for (int64_t i = 0; i < k / RV_QKK; i++) {
		d[i] = round_block(q + i * RV_QKK, x + i * RV_QKK, RV_QKK);
	}
	for (int64_t i = 0; i < k / 16; i++) {
		bsum[i] = (int16_t)sum_codes(q + i * 16, 16);
	}
}
