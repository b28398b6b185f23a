#include "learn/top_k.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 64 };

/* Four lanes: what every x86 and ARM has. */
typedef float quad __attribute__((vector_size(16), aligned(4)));
typedef int32_t quad_mask __attribute__((vector_size(16), aligned(4)));

static quad larger(quad a, quad b) { /* b where either is NaN */
	const quad_mask m = a > b;
	return (quad)(((quad_mask)a & m) | ((quad_mask)b & ~m));
}

static float block_max(const float *x, int64_t n) {
	float most = -INFINITY;
	int64_t i = 0;
	quad m[2] = {{-INFINITY, -INFINITY, -INFINITY, -INFINITY},
	             {-INFINITY, -INFINITY, -INFINITY, -INFINITY}};
	for (; i + 8 <= n; i += 8) {
		quad v[2];
		memcpy(v, x + i, sizeof v);
		m[0] = larger(v[0], m[0]);
		m[1] = larger(v[1], m[1]);
	}
	m[0] = larger(m[1], m[0]);
	for (int j = 0; j < 4; j++)
		most = m[0][j] > most ? m[0][j] : most;
	for (; i < n; i++)
		most = x[i] > most ? x[i] : most;
	return most;
}

/* ---- a heap whose root is the lowest that is kept ---- */

static int lower(const float *v, const int32_t *id, int64_t a, int64_t b) {
	return v[a] < v[b] || (v[a] <= v[b] && id[a] > id[b]);
}

static void swap(float *v, int32_t *id, int64_t a, int64_t b) {
	const float t = v[a];
	const int32_t i = id[a];
	v[a] = v[b];
	id[a] = id[b];
	v[b] = t;
	id[b] = i;
}

static void sift_down(float *v, int32_t *id, int64_t n, int64_t at) {
	for (;;) {
		int64_t least = at;
		for (int64_t child = 2 * at + 1; child <= 2 * at + 2 && child < n; child++)
			if (lower(v, id, child, least))
				least = child;
		if (least == at)
			return;
		swap(v, id, at, least);
		at = least;
	}
}

/* Offers x[from, to), in ascending order, to the heap of at most k. */
static int64_t offer(const float *x, int64_t from, int64_t to, int64_t n, int64_t k, float *v,
                     int32_t *id) {
	for (int64_t i = from; i < to; i++) {
		if (n == k && !(x[i] > v[0]))
			continue;
		const float value = isnan(x[i]) ? -INFINITY : x[i];
		if (n < k) {
			int64_t at = n++;
			v[at] = value;
			id[at] = (int32_t)i;
			for (; at > 0 && lower(v, id, at, (at - 1) / 2); at = (at - 1) / 2)
				swap(v, id, at, (at - 1) / 2);
		} else {
			v[0] = value;
			id[0] = (int32_t)i;
			sift_down(v, id, n, 0);
		}
	}
	return n;
}

int64_t rv_top_k_scratch(int64_t n) {
	return (n + BLOCK - 1) / BLOCK;
}

void rv_top_k(const float *x, int64_t n, int64_t k, int32_t *ids, float *values, float *scratch) {
	const int64_t n_blocks = rv_top_k_scratch(n);
	float least = -INFINITY;
	for (int64_t b = 0; b < n_blocks; b++)
		scratch[b] = block_max(x + b * BLOCK, n - b * BLOCK < BLOCK ? n - b * BLOCK : BLOCK);
	/* At least k values reach the k-th highest maximum: none below it is among the k highest. */
	if (n_blocks >= k) {
		offer(scratch, 0, n_blocks, 0, k, values, ids);
		least = values[0];
	}
	int64_t kept = 0;
	for (int64_t b = 0; b < n_blocks; b++)
		if (scratch[b] >= least)
			kept = offer(x, b * BLOCK, b * BLOCK + BLOCK < n ? b * BLOCK + BLOCK : n, kept,
			             k, values, ids);
	while (kept > 1) { /* lowest to the end */
		swap(values, ids, 0, --kept);
		sift_down(values, ids, kept, 0);
	}
}
