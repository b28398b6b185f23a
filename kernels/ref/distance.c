/* Distances between vectors. Sums of floats run in double. */
#include "kernels/kernels_internal.h"

#include <math.h>

void rv_dot_f32_ref(float *out, const float *x, const float *y, int64_t n) {
	double sum = 0;
	for (int64_t i = 0; i < n; i++) {
		sum += (double)x[i] * (double)y[i];
	}
	*out = (float)sum;
}

void rv_l2_f32_ref(float *out, const float *x, const float *y, int64_t n) {
	double sum = 0;
	for (int64_t i = 0; i < n; i++) {
		double d = (double)x[i] - (double)y[i];
		sum += d * d;
	}
	*out = (float)sum;
}

void rv_l1_f32_ref(float *out, const float *x, const float *y, int64_t n) {
	double sum = 0;
	for (int64_t i = 0; i < n; i++) {
		sum += fabs((double)x[i] - (double)y[i]);
	}
	*out = (float)sum;
}

void rv_cosine_f32_ref(float *out, const float *x, const float *y, int64_t n) {
	double xy = 0, xx = 0, yy = 0;
	for (int64_t i = 0; i < n; i++) {
		double a = (double)x[i], b = (double)y[i];
		xy += a * b;
		xx += a * a;
		yy += b * b;
	}
	out[0] = (float)xy;
	out[1] = (float)xx;
	out[2] = (float)yy;
}

void rv_dot_rows_f32_ref(float *out, const float *x, const float *const *rows, int64_t n_rows,
                         int64_t n) {
	for (int64_t r = 0; r < n_rows; r++) {
		rv_dot_f32_ref(out + r, x, rows[r], n);
	}
}

void rv_l2_rows_f32_ref(float *out, const float *x, const float *const *rows, int64_t n_rows,
                        int64_t n) {
	for (int64_t r = 0; r < n_rows; r++) {
		rv_l2_f32_ref(out + r, x, rows[r], n);
	}
}
