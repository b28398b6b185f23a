/* Merges of full matrices, element by element. */
#include "base/rng.h"
#include "learn/adapter_merge.h"

#include <math.h>
#include <string.h>

/* The k-th largest of n numbers (k from 1), which are reordered: Hoare's selection. */
static float kth_largest(float *x, int64_t n, int64_t k) {
	int64_t low = 0, high = n - 1, want = k - 1;
	while (low < high) {
		const float pivot = x[low + (high - low) / 2];
		int64_t i = low, j = high;
		while (i <= j) {
			while (x[i] > pivot)
				i++;
			while (x[j] < pivot)
				j--;
			if (i <= j) {
				const float t = x[i];
				x[i++] = x[j];
				x[j--] = t;
			}
		}
		if (want <= j)
			high = j;
		else if (want >= i)
			low = i;
		else
			break;
	}
	return x[want];
}

/* The share of largest magnitude stays (with all that equal the smallest of them). */
static void trim(float *x, int64_t n, double density, float *work) {
	const int64_t k = (int64_t)ceil(density * (double)n);
	if (k >= n)
		return;
	for (int64_t i = 0; i < n; i++)
		work[i] = fabsf(x[i]);
	const float limit = kth_largest(work, n, k < 1 ? 1 : k);
	for (int64_t i = 0; i < n; i++)
		if (fabsf(x[i]) < limit)
			x[i] = 0;
}

static void drop(float *x, int64_t n, double density, uint64_t seed, uint64_t stream) {
	rv_rng rng;
	rv_rng_stream(&rng, seed, stream);
	for (int64_t i = 0; i < n; i++)
		x[i] = rv_rng_double(&rng) < density ? (float)((double)x[i] / density) : 0;
}

static void elect_and_average(float *const *changes, const double *weights, int n, int64_t size,
                              double scale, float *out, int64_t *conflicts, int64_t *kept_twice) {
	for (int64_t e = 0; e < size; e++) {
		double sum = 0, agreed = 0, weight = 0;
		int up = 0, down = 0;
		for (int i = 0; i < n; i++) {
			sum += weights[i] * (double)changes[i][e];
			up += changes[i][e] > 0;
			down += changes[i][e] < 0;
		}
		for (int i = 0; i < n; i++)
			if ((double)changes[i][e] * sum > 0) {
				agreed += weights[i] * (double)changes[i][e];
				weight += weights[i];
			}
		out[e] = weight > 0 ? (float)(scale * agreed / weight) : 0;
		*conflicts += up && down;
		*kept_twice += up + down > 1;
	}
}

static void add_up(float *const *changes, const double *weights, int n, int64_t size, double scale,
                   float *out) {
	for (int64_t e = 0; e < size; e++) {
		double sum = 0;
		for (int i = 0; i < n; i++)
			sum += weights[i] * (double)changes[i][e];
		out[e] = (float)(scale * sum);
	}
}

void rv_merge_dense(const rv_merge_options *o, float *const *changes, const double *weights, int n,
                    int64_t size, uint64_t stream, float *out, int64_t *conflicts,
                    int64_t *kept_twice) {
	const int ties = o->method == RV_MERGE_TIES;
	const double density = o->density > 0 ? o->density : ties ? 0.2 : 0.5;
	for (int i = 0; i < n; i++)
		if (ties)
			trim(changes[i], size, density, out);
		else
			drop(changes[i], size, density, o->seed, stream * RV_MERGE_MAX + (uint64_t)i);
	if (o->method == RV_MERGE_DARE)
		add_up(changes, weights, n, size, o->scale, out);
	else
		elect_and_average(changes, weights, n, size, o->scale, out, conflicts, kept_twice);
}
