/* Kernels over one vector. A tail of fewer than 8 goes through the same operations with its other lanes
 * off, so an element's value never depends on where in a vector it stands. */
#include "kernels/arm/vec_neon.h"

void rv_add_neon(float *y, const float *x, int64_t n) {
	int64_t i = 0;
	for (; i + 8 <= n; i += 8)
		vec_store(y + i, vec_add(vec_load(y + i), vec_load(x + i)));
	const vec sum = vec_add(vec_load_part(y + i, n - i), vec_load_part(x + i, n - i));
	vec_store_part(y + i, n - i, sum);
}

/* ---- norms ---- */

/* Sum of squares. Element i goes to lane i % 32: accumulator i / 8 % 4; then (a0 + a1) + (a2 + a3),
 * then the lane tree. */
static float sum_of_squares(const float *x, int64_t n) {
	vec acc[4] = {vec_zero(), vec_zero(), vec_zero(), vec_zero()};
	int64_t i = 0;
	for (; i + 32 <= n; i += 32) {
		UNROLL
		for (int j = 0; j < 4; j++) {
			const vec v = vec_load(x + i + 8 * j);
			acc[j] = vec_fma(v, v, acc[j]);
		}
	}
	UNROLL
	for (int j = 0; j < 4; j++) {
		const int64_t from = i + 8 * j < n ? i + 8 * j : n;
		const vec v = vec_load_part(x + from, n - from < 8 ? n - from : 8);
		acc[j] = vec_fma(v, v, acc[j]);
	}
	return vec_sum(vec_add(vec_add(acc[0], acc[1]), vec_add(acc[2], acc[3])));
}

void rv_rms_norm_neon(float *y, const float *x, const float *w, int64_t n, float eps) {
	const vec scale = vec_set(1.0f / sqrtf(sum_of_squares(x, n) / (float)n + eps));
	int64_t i = 0;
	for (; i + 8 <= n; i += 8)
		vec_store(y + i, vec_mul(vec_mul(vec_load(x + i), scale), vec_load(w + i)));
	const vec v = vec_mul(vec_load_part(x + i, n - i), scale);
	vec_store_part(y + i, n - i, vec_mul(v, vec_load_part(w + i, n - i)));
}

/* The second pass over x finds it in L1. */
void rv_add_rms_norm_neon(float *y, float *x, const float *r, const float *w, int64_t n, float eps) {
	rv_add_neon(x, r, n);
	rv_rms_norm_neon(y, x, w, n, eps);
}

/* ---- rotation ---- */

/* (a, b) := (a cos - b sin, b cos + a sin), the first product of each fused. */
INLINE void rotate_one(float *a, float *b, const float *cs) {
	const float x = *a, y = *b;
	*a = __builtin_fmaf(x, cs[0], -(y * cs[1]));
	*b = __builtin_fmaf(y, cs[0], x * cs[1]);
}
INLINE void rotate_four(float32x4_t *a, float32x4_t *b, const float *cs) {
	const float32x4x2_t pair = vld2q_f32(cs);
	const float32x4_t x = *a, y = *b, c = pair.val[0], s = pair.val[1];
	*a = vfmaq_f32(vnegq_f32(vmulq_f32(y, s)), x, c);
	*b = vfmaq_f32(vmulq_f32(x, s), y, c);
}

static void rotate_halves(float *x, const float *cs, int64_t half) {
	int64_t i = 0;
	for (; i + 4 <= half; i += 4) {
		float32x4_t a = vld1q_f32(x + i), b = vld1q_f32(x + half + i);
		rotate_four(&a, &b, cs + 2 * i);
		vst1q_f32(x + i, a);
		vst1q_f32(x + half + i, b);
	}
	for (; i < half; i++)
		rotate_one(x + i, x + half + i, cs + 2 * i);
}

static void rotate_neighbours(float *x, const float *cs, int64_t half) {
	int64_t i = 0;
	for (; i + 4 <= half; i += 4) {
		float32x4x2_t v = vld2q_f32(x + 2 * i);
		rotate_four(&v.val[0], &v.val[1], cs + 2 * i);
		vst2q_f32(x + 2 * i, v);
	}
	for (; i < half; i++)
		rotate_one(x + 2 * i, x + 2 * i + 1, cs + 2 * i);
}

void rv_rope_neon(float *x, const float *cs, int64_t n_heads, int64_t head_dim, int64_t n_rot,
                  int neox) {
	for (int64_t h = 0; h < n_heads; h++) {
		if (neox)
			rotate_halves(x + h * head_dim, cs, n_rot / 2);
		else
			rotate_neighbours(x + h * head_dim, cs, n_rot / 2);
	}
}

/* ---- gate ---- */

INLINE vec gated(vec gate, vec up) {
	const vec e = vec_exp(vec_sub(vec_zero(), gate));
	return vec_mul(vec_div(gate, vec_add(e, vec_set(1))), up);
}

void rv_swiglu_neon(float *y, const float *gate, const float *up, int64_t n) {
	int64_t i = 0;
	for (; i + 8 <= n; i += 8)
		vec_store(y + i, gated(vec_load(gate + i), vec_load(up + i)));
	const vec g = vec_load_part(gate + i, n - i), u = vec_load_part(up + i, n - i);
	vec_store_part(y + i, n - i, gated(g, u));
}

/* ---- softmax ---- */

/* Sums in double: a vocabulary of equal terms would drift in f32. */
typedef struct wide_sum {
	float64x2_t lanes[4];
} wide_sum;

INLINE void add_wide(wide_sum *sum, vec v) {
	sum->lanes[0] = vaddq_f64(sum->lanes[0], vcvt_f64_f32(vget_low_f32(v.lo)));
	sum->lanes[1] = vaddq_f64(sum->lanes[1], vcvt_high_f64_f32(v.lo));
	sum->lanes[2] = vaddq_f64(sum->lanes[2], vcvt_f64_f32(vget_low_f32(v.hi)));
	sum->lanes[3] = vaddq_f64(sum->lanes[3], vcvt_high_f64_f32(v.hi));
}
/* (l + l4), then (+2), then (+1). */
INLINE double wide_total(const wide_sum *sum) {
	const float64x2_t a = vaddq_f64(sum->lanes[0], sum->lanes[2]);
	return vaddvq_f64(vaddq_f64(a, vaddq_f64(sum->lanes[1], sum->lanes[3])));
}

/* The n < 8 last elements, and -inf. */
INLINE vec load_last(const float *x, int64_t n) {
	return vec_or_minus_inf(vec_load_part(x, n), n);
}

/* Element i of the sum goes to lane i % 8. A NaN becomes the maximum, and so every result. */
void rv_softmax_neon(float *x, int64_t n) {
	const int64_t whole = n / 8 * 8, rest = n - whole;
	vec max = load_last(x + whole, rest);
	for (int64_t i = 0; i < whole; i += 8)
		max = vec_max(max, vec_load(x + i));
	const float top = vec_max_lane(max);
	/* With nothing but -inf any finite base gives the zeros that are due. */
	const vec base = vec_set(top == -INFINITY ? 0.0f : top);
	wide_sum sum = {{vdupq_n_f64(0), vdupq_n_f64(0), vdupq_n_f64(0), vdupq_n_f64(0)}};
	for (int64_t i = 0; i < whole; i += 8) {
		const vec e = vec_exp(vec_sub(vec_load(x + i), base));
		vec_store(x + i, e);
		add_wide(&sum, e);
	}
	const vec e = vec_exp(vec_sub(load_last(x + whole, rest), base));
	add_wide(&sum, e);
	const float total = (float)wide_total(&sum);
	if (total == 0) {
		vec_store_part(x + whole, rest, e);
		return;
	}
	const vec t = vec_set(total);
	for (int64_t i = 0; i < whole; i += 8)
		vec_store(x + i, vec_div(vec_load(x + i), t));
	vec_store_part(x + whole, rest, vec_div(e, t));
}
