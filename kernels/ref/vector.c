/* Kernels over one vector: residual sum, norms, rotation, gate, softmax. Sums run in double. */
#include "kernels/kernels_internal.h"

#include <math.h>

void rv_add_ref(float *y, const float *x, int64_t n) {
	for (int64_t i = 0; i < n; i++) {
		y[i] += x[i];
	}
}

void rv_rms_norm_ref(float *y, const float *x, const float *w, int64_t n, float eps) {
	double sum = 0;
	for (int64_t i = 0; i < n; i++) {
		sum += (double)x[i] * (double)x[i];
	}
	float scale = (float)(1 / sqrt(sum / (double)n + (double)eps));
	for (int64_t i = 0; i < n; i++) {
		y[i] = x[i] * scale * w[i];
	}
}

void rv_add_rms_norm_ref(float *y, float *x, const float *r, const float *w, int64_t n, float eps) {
	rv_add_ref(x, r, n);
	rv_rms_norm_ref(y, x, w, n, eps);
}

static void rotate(float *x0, float *x1, const float *cs) {
	float a = *x0, b = *x1;
	*x0 = a * cs[0] - b * cs[1];
	*x1 = a * cs[1] + b * cs[0];
}

void rv_rope_ref(float *x, const float *cs, int64_t n_heads, int64_t head_dim, int64_t n_rot,
                 int neox) {
	int64_t half = n_rot / 2;
	for (int64_t h = 0; h < n_heads; h++) {
		float *head = x + h * head_dim;
		for (int64_t i = 0; i < half; i++) {
			if (neox) {
				rotate(head + i, head + i + half, cs + 2 * i);
			} else {
				rotate(head + 2 * i, head + 2 * i + 1, cs + 2 * i);
			}
		}
	}
}

void rv_swiglu_ref(float *y, const float *gate, const float *up, int64_t n) {
	for (int64_t i = 0; i < n; i++) {
		float silu = (float)((double)gate[i] / (1 + exp(-(double)gate[i])));
		y[i] = silu * up[i];
	}
}

void rv_softmax_ref(float *x, int64_t n) {
	float max = -INFINITY;
	for (int64_t i = 0; i < n; i++) {
		max = isnan(x[i]) || x[i] > max ? x[i] : max;
	}
	double sum = 0;
	for (int64_t i = 0; i < n; i++) {
		x[i] = x[i] == -INFINITY ? 0 : (float)exp((double)(x[i] - max));
		sum += (double)x[i];
	}
	for (int64_t i = 0; i < n && sum != 0; i++) {
		x[i] = (float)((double)x[i] / sum);
	}
}
