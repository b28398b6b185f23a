/* A random rotation that costs dim log dim: rounds of random signs and Walsh-Hadamard transforms. One
 * transform takes a power of two; the first and the last that many components, in turns, mix all. */
#include "memory/codec_internal.h"

#include <math.h>
#include <string.h>

typedef float four __attribute__((vector_size(16)));

/* The first two steps of a transform, on four neighbours at once. */
static void first_steps(float *x, int n, float scale) {
	const four odd = {scale, -scale, scale, -scale}, even = {scale, scale, scale, scale};
	const four high = {1, 1, -1, -1};
	for (int i = 0; i < n; i += 4) {
		four v;
		memcpy(&v, x + i, sizeof v);
		v = __builtin_shufflevector(v, v, 0, 0, 2, 2) * even +
		    __builtin_shufflevector(v, v, 1, 1, 3, 3) * odd;
		v = __builtin_shufflevector(v, v, 0, 1, 0, 1) +
		    __builtin_shufflevector(v, v, 2, 3, 2, 3) * high;
		memcpy(x + i, &v, sizeof v);
	}
}

/* x: [n], n a power of two. Orthonormal, its own inverse. */
static void hadamard(float *x, int n) {
	const float scale = 1 / sqrtf((float)n);
	if (n >= 4)
		first_steps(x, n, scale);
	for (int half = n >= 4 ? 4 : 1; half < n; half *= 2) {
		for (int i = 0; i < n; i += 2 * half) {
			float *a = x + i, *b = x + i + half;
			for (int j = 0; j < half; j++) {
				const float sum = a[j] + b[j], difference = a[j] - b[j];
				a[j] = sum;
				b[j] = difference;
			}
		}
	}
	for (int i = 0; n < 4 && i < n; i++)
		x[i] *= scale;
}

static int power_of_two(int dim) {
	int n = 1;
	while (n <= dim / 2)
		n *= 2;
	return n;
}

static void flip(const float *signs, int dim, float *x) {
	for (int i = 0; i < dim; i++)
		x[i] *= signs[i];
}

void rv_rotate(const float *signs, int dim, float *x) {
	const int n = power_of_two(dim);
	for (int round = 0; round < RV_ROTATION_ROUNDS; round++) {
		flip(signs + (size_t)round * (size_t)dim, dim, x);
		hadamard(x, n);
		if (n < dim)
			hadamard(x + (dim - n), n);
	}
}

void rv_rotate_back(const float *signs, int dim, float *x) {
	const int n = power_of_two(dim);
	for (int round = RV_ROTATION_ROUNDS - 1; round >= 0; round--) {
		if (n < dim)
			hadamard(x + (dim - n), n);
		hadamard(x, n);
		flip(signs + (size_t)round * (size_t)dim, dim, x);
	}
}
