/* Least-squares searches for the scale (and minimum) of a small block.
 *
 * Sums run in RV_LANES lanes on every machine: element i adds to lane i mod RV_LANES, and the lanes
 * meet in a fixed tree, so that no bit depends on the vectors at hand. Codes stay whole numbers in
 * floats until they are packed. Errors are weighted by w (importance, or ones). */
#ifndef RV_KERNELS_QUANT_FIT_H
#define RV_KERNELS_QUANT_FIT_H

#include "kernels/kernels_internal.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum { RV_LANES = 8 };

/* Half of the lanes; every target has vectors of 16 bytes, and a compiler without lowers them. */
typedef float rv_quad __attribute__((vector_size(16)));

typedef struct rv_sum {
	rv_quad half[2];
} rv_sum;

static inline rv_quad rv_load(const float *p) {
	rv_quad v;
	memcpy(&v, p, sizeof v);
	return v;
}

static inline rv_quad rv_splat(float x) {
	return (rv_quad){x, x, x, x};
}

static inline float rv_reduce(rv_sum sum) {
	rv_quad s = sum.half[0] + sum.half[1];
	return (s[0] + s[2]) + (s[1] + s[3]);
}

/* x > low ? x : low, then x < high ? x : high. */
static inline rv_quad rv_clamp4(rv_quad x, rv_quad low, rv_quad high) {
#ifdef __SSE2__
	return _mm_min_ps(_mm_max_ps(x, low), high);
#else
	typedef int32_t mask __attribute__((vector_size(16)));
	mask above = x > low;
	x = (rv_quad)(((mask)x & above) | ((mask)low & ~above));
	mask below = x < high;
	return (rv_quad)(((mask)x & below) | ((mask)high & ~below));
#endif
}

/* The code of a scaled element: clamped (NaN becomes low), then rounded to the nearest whole number,
 * ties to even: the large sum has no bits left for a fraction. */
static inline rv_quad rv_code4(rv_quad x, rv_quad low, rv_quad high) {
	rv_quad big = rv_splat(0x1.8p23f);
	return (rv_clamp4(x, low, high) + big) - big;
}

static inline float rv_code(float x, float low, float high) {
	return rv_code4(rv_splat(x), rv_splat(low), rv_splat(high))[0];
}

/* A scale as it will be read back. */
static inline float rv_as_f16(float x) {
	return rv_f16_to_f32(rv_f32_to_f16(x));
}

static inline float rv_inverse(float x) {
	return x != 0 ? 1 / x : 0;
}

/* The code of element 0.. of x for x = scale q - min, into q; returns the weighted squared error. */
static inline __attribute__((always_inline)) float rv_encode(float *restrict q, const float *restrict x,
                                                             const float *restrict w, int n,
                                                             float scale, float min, float low,
                                                             float high) {
	rv_quad inverse = rv_splat(rv_inverse(scale)), s = rv_splat(scale), m = rv_splat(min);
	rv_quad bottom = rv_splat(low), top = rv_splat(high);
	rv_sum error = {0};
	for (int i = 0; i < n; i += 4) {
		rv_quad xi = rv_load(x + i);
		rv_quad code = rv_code4((xi + m) * inverse, bottom, top);
		rv_quad e = s * code - m - xi;
		error.half[i / 4 % 2] += rv_load(w + i) * e * e;
		memcpy(q + i, &code, sizeof code);
	}
	return rv_reduce(error);
}

/* Signed x of the largest magnitude. */
static inline float rv_extreme(const float *x, int n) {
	float min = x[0], max = x[0];
	for (int i = 1; i < n; i++) {
		min = x[i] < min ? x[i] : min;
		max = x[i] > max ? x[i] : max;
	}
	return -min > max ? min : max;
}

/* Scale s of x = s q, q in low..high with low = -high - 1, of least error among n_try guesses. Each
 * guess sends the extreme element to a code between first and first + (n_try - 1) step; the scale that
 * fits its codes best is sum(w x q) / sum(w q q), and takes sum(w x q)^2 / sum(w q q) off the error. */
static inline __attribute__((always_inline)) float rv_fit_scale(const float *restrict x,
                                                                const float *restrict w, int n,
                                                                float low, float high, float first,
                                                                float step, int n_try) {
	float extreme = rv_extreme(x, n);
	float unit = rv_inverse(extreme);
	rv_quad bottom = rv_splat(low), top = rv_splat(high);
	float best = 0, scale = 0;
	for (int t = 0; t < n_try; t++) {
		rv_quad inverse = rv_splat((first + (float)t * step) * unit);
		rv_sum xq = {0}, qq = {0};
		for (int i = 0; i < n; i += 4) {
			int h = i / 4 % 2;
			rv_quad xi = rv_load(x + i);
			rv_quad code = rv_code4(xi * inverse, bottom, top);
			rv_quad wq = rv_load(w + i) * code;
			xq.half[h] += wq * xi;
			qq.half[h] += wq * code;
		}
		float sum_xq = rv_reduce(xq), sum_qq = rv_reduce(qq);
		if (sum_qq > 0 && sum_xq * sum_xq > best * sum_qq) {
			scale = sum_xq / sum_qq;
			best = sum_xq * scale;
		}
	}
	return scale;
}

typedef struct rv_line {
	float scale, min; /* x = scale q - min */
} rv_line;

/* As rv_fit_scale for x = scale q - min, q in 0..high. Guesses spread the range of x over first to
 * first + (n_try - 1) step codes. min_positive: 0 <= min, as the K types store it. */
static inline __attribute__((always_inline)) rv_line rv_fit_line(const float *restrict x,
                                                                 const float *restrict w, int n,
                                                                 float high, float first, float step,
                                                                 int n_try, int min_positive) {
	float low = x[0], top = x[0];
	for (int i = 1; i < n; i++) {
		low = x[i] < low ? x[i] : low;
		top = x[i] > top ? x[i] : top;
	}
	if (min_positive && low > 0) {
		low = 0;
	}
	rv_line best_line = {0, -low};
	float unit = rv_inverse(top - low);
	rv_quad bottom = rv_splat(low), zero = rv_splat(0), last = rv_splat(high);
	rv_sum sw = {0}, sx = {0};
	for (int i = 0; i < n; i += 4) {
		sw.half[i / 4 % 2] += rv_load(w + i);
		sx.half[i / 4 % 2] += rv_load(w + i) * rv_load(x + i);
	}
	float sum_w = rv_reduce(sw), sum_x = rv_reduce(sx);
	float best = 0;
	int found = 0;
	for (int t = 0; t < n_try && unit != 0; t++) {
		rv_quad inverse = rv_splat((first + (float)t * step) * unit);
		rv_sum sq = {0}, xq = {0}, qq = {0};
		for (int i = 0; i < n; i += 4) {
			int h = i / 4 % 2;
			rv_quad xi = rv_load(x + i);
			rv_quad code = rv_code4((xi - bottom) * inverse, zero, last);
			rv_quad wq = rv_load(w + i) * code;
			sq.half[h] += wq;
			xq.half[h] += wq * xi;
			qq.half[h] += wq * code;
		}
		float sum_q = rv_reduce(sq), sum_xq = rv_reduce(xq), sum_qq = rv_reduce(qq);
		float det = sum_w * sum_qq - sum_q * sum_q;
		if (!(det > 0)) {
			continue;
		}
		float scale = (sum_w * sum_xq - sum_q * sum_x) / det;
		float min = (sum_q * sum_xq - sum_qq * sum_x) / det;
		if (min_positive && min < 0) {
			min = 0;
			scale = sum_xq / sum_qq;
		}
		/* what this line takes off sum(w x x) */
		float gain = scale * sum_xq - min * sum_x;
		if (!found || gain > best) {
			found = 1;
			best = gain;
			best_line.scale = scale;
			best_line.min = min;
		}
	}
	return best_line;
}

/* The weights of a block: importance, or ones where there is none (or nothing but zeros). */
static inline const float *rv_weights(const float *importance, const float *ones, int n) {
	float sum = 0;
	for (int i = 0; importance && i < n; i++) {
		sum += importance[i];
	}
	return sum > 0 ? importance : ones;
}

extern const float rv_quant_ones[RV_QKK];

#endif
