/* Least-squares searches for the scale (and minimum) of a small block.
 *
 * Loops run over fixed counts of N elements in LANES lanes, so that a compiler vectorises them without
 * changing a bit: element i adds to lane i mod LANES, and lanes meet in a fixed tree. Codes stay whole
 * numbers in floats until they are packed. Errors are weighted by w (importance, or ones). */
#ifndef RV_KERNELS_QUANT_FIT_H
#define RV_KERNELS_QUANT_FIT_H

#include "kernels/kernels_internal.h"

enum { RV_LANES = 8 };

static inline float rv_reduce(const float a[RV_LANES]) {
	return ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]));
}

/* To the nearest whole number, ties to even, for |x| < 2^22: the sum has no bits left for a fraction.
 */
static inline float rv_round(float x) {
	return (x + 0x1.8p23f) - 0x1.8p23f;
}

/* NaN becomes low. The clamp comes first, so that rounding stays in its range. */
static inline float rv_code(float x, float low, float high) {
	x = x > low ? x : low;
	x = x < high ? x : high;
	return rv_round(x);
}

/* A scale as it will be read back. */
static inline float rv_as_f16(float x) {
	return rv_f16_to_f32(rv_f32_to_f16(x));
}

static inline float rv_inverse(float x) {
	return x != 0 ? 1 / x : 0;
}

/* The code of element 0.. of x for x = scale q - min, into q; returns the weighted squared error. */
static inline float rv_encode(float *restrict q, const float *restrict x, const float *restrict w,
                              int n, float scale, float min, float low, float high) {
	float inverse = rv_inverse(scale);
	float error[RV_LANES] = {0};
	for (int i = 0; i < n; i += RV_LANES) {
		for (int l = 0; l < RV_LANES; l++) {
			float code = rv_code((x[i + l] + min) * inverse, low, high);
			float e = scale * code - min - x[i + l];
			error[l] += w[i + l] * e * e;
			q[i + l] = code;
		}
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
static inline float rv_fit_scale(const float *restrict x, const float *restrict w, int n, float low,
                                 float high, float first, float step, int n_try) {
	float extreme = rv_extreme(x, n);
	float unit = rv_inverse(extreme);
	float best = 0, scale = 0;
	for (int t = 0; t < n_try; t++) {
		float inverse = (first + (float)t * step) * unit;
		float xq[RV_LANES] = {0}, qq[RV_LANES] = {0};
		for (int i = 0; i < n; i += RV_LANES) {
			for (int l = 0; l < RV_LANES; l++) {
				float code = rv_code(x[i + l] * inverse, low, high);
				float wq = w[i + l] * code;
				xq[l] += wq * x[i + l];
				qq[l] += wq * code;
			}
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
static inline rv_line rv_fit_line(const float *restrict x, const float *restrict w, int n, float high,
                                  float first, float step, int n_try, int min_positive) {
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
	float sw[RV_LANES] = {0}, sx[RV_LANES] = {0};
	for (int i = 0; i < n; i += RV_LANES) {
		for (int l = 0; l < RV_LANES; l++) {
			sw[l] += w[i + l];
			sx[l] += w[i + l] * x[i + l];
		}
	}
	float sum_w = rv_reduce(sw), sum_x = rv_reduce(sx);
	float best = 0;
	int found = 0;
	for (int t = 0; t < n_try && unit != 0; t++) {
		float inverse = (first + (float)t * step) * unit;
		float sq[RV_LANES] = {0}, xq[RV_LANES] = {0}, qq[RV_LANES] = {0};
		for (int i = 0; i < n; i += RV_LANES) {
			for (int l = 0; l < RV_LANES; l++) {
				float code = rv_code((x[i + l] - low) * inverse, 0, high);
				float wq = w[i + l] * code;
				sq[l] += wq;
				xq[l] += wq * x[i + l];
				qq[l] += wq * code;
			}
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
