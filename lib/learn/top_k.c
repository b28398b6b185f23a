/* Numbers are compared by keys, integers in the order of the numbers, so that thresholds are found by
 * halving an interval of integers: infinities and all equals need no thought. */
#include "learn/top_k.h"

#include <math.h>
#include <string.h>

/* Sixteen lanes in vectors of four: what every x86 and ARM has. */
typedef float quad __attribute__((vector_size(16), aligned(4)));
typedef int32_t quad_i32 __attribute__((vector_size(16), aligned(4)));
enum { QUADS = 4, LANES = 4 * QUADS };

enum { CANDIDATES = 1024 }; /* more than that are left by ties alone */

static quad larger(quad a, quad b) { /* b where either is NaN */
	const quad_i32 m = a > b;
	return (quad)(((quad_i32)a & m) | ((quad_i32)b & ~m));
}

static int32_t key_of(float x) {
	const float y = x + 0.0f; /* -0 is 0 */
	int32_t i;
	memcpy(&i, &y, sizeof i);
	return isnan(x) ? INT32_MIN : i ^ ((i >> 31) & INT32_MAX);
}

/* A stretch of LANES * steps(n) values is LANES blocks, one a lane: so a maximum of each is had without
 * looking across lanes. What is left at the end is in no block. */
static int64_t steps(int64_t n) {
	return n >= 1 << 16 ? 64 : n >= 1 << 13 ? 16 : 8;
}
static int64_t n_blocks_of(int64_t n) {
	return LANES * (n / (LANES * steps(n)));
}

int64_t rv_top_k_scratch(int64_t n) {
	return n_blocks_of(n) + 2 * (CANDIDATES + LANES);
}

static void stretch_maxima(const float *x, int64_t n_steps, float *maxima) {
	quad m[QUADS], v[QUADS];
	for (int i = 0; i < QUADS; i++)
		m[i] = (quad){-INFINITY, -INFINITY, -INFINITY, -INFINITY};
	for (int64_t i = 0; i < n_steps; i++) {
		memcpy(v, x + LANES * i, sizeof v);
		m[0] = larger(v[0], m[0]);
		m[1] = larger(v[1], m[1]);
		m[2] = larger(v[2], m[2]);
		m[3] = larger(v[3], m[3]);
	}
	memcpy(maxima, m, sizeof m);
}

/* How many of n keys, a multiple of four, reach `least`. */
static int64_t n_reaching(const int32_t *keys, int64_t n, int32_t least) {
	const quad_i32 floor = {least, least, least, least};
	quad_i32 sum = {0, 0, 0, 0}, v;
	for (int64_t i = 0; i < n; i += 4) {
		memcpy(&v, keys + i, sizeof v);
		sum -= v >= floor;
	}
	return (int64_t)sum[0] + sum[1] + sum[2] + sum[3];
}

/* The highest key that k of n keys reach, or a lower one that at most `enough` reach. */
static int32_t threshold(const int32_t *keys, int64_t n, int64_t k, int64_t enough) {
	int64_t low = INT32_MIN, high = (int64_t)INT32_MAX + 1; /* k reach low, fewer reach high */
	while (high - low > 1) {
		const int64_t middle = low + (high - low) / 2;
		const int64_t reach = n_reaching(keys, n, (int32_t)middle);
		if (reach < k)
			high = middle;
		else
			low = middle;
		if (reach >= k && reach <= enough)
			break;
	}
	return (int32_t)low;
}

/* Ids of the values that reach `least`, ascending; -1: more than CANDIDATES. */
static int64_t collect(const float *x, int64_t n, float least, int32_t *ids) {
	const quad floor = {least, least, least, least};
	int64_t count = 0, i = 0;
	for (; i + LANES <= n && count <= CANDIDATES; i += LANES) {
		quad v[QUADS];
		memcpy(v, x + i, sizeof v);
		const quad_i32 hit =
		        (v[0] >= floor) | (v[1] >= floor) | (v[2] >= floor) | (v[3] >= floor);
		if (!(hit[0] | hit[1] | hit[2] | hit[3]))
			continue;
		for (int64_t j = i; j < i + LANES; j++) {
			ids[count] = (int32_t)j;
			count += x[j] >= least;
		}
	}
	for (; i < n && count <= CANDIDATES; i++) {
		ids[count] = (int32_t)i;
		count += x[i] >= least;
	}
	return count <= CANDIDATES ? count : -1;
}

/* Of n_from ids, ascending (NULL: all there are), those whose key reaches `least`, of equals as many as
 * are needed for k. */
static void take(const float *x, const int32_t *from, int64_t n_from, int64_t k, int32_t least,
                 int64_t n_above, int32_t *ids, float *values) {
	int64_t ties = k - n_above;
	for (int64_t i = 0, n = 0; i < n_from && n < k; i++) {
		const int32_t id = from ? from[i] : (int32_t)i, key = key_of(x[id]);
		const int tied = key == least && ties > 0;
		ids[n] = id;
		values[n] = key == INT32_MIN ? -INFINITY : x[id];
		ties -= tied;
		n += key > least || tied;
	}
}

/* Without candidates: the same, over all values. */
static void take_of_all(const float *x, int64_t n, int64_t k, int32_t *ids, float *values) {
	int64_t low = INT32_MIN, high = (int64_t)INT32_MAX + 1, n_above = 0;
	while (high - low > 1) {
		const int64_t middle = low + (high - low) / 2;
		int64_t reach = 0;
		for (int64_t i = 0; i < n; i++)
			reach += key_of(x[i]) >= middle;
		if (reach < k) {
			high = middle;
			n_above = reach;
		} else {
			low = middle;
		}
	}
	take(x, NULL, n, k, (int32_t)low, n_above, ids, values);
}

void rv_top_k(const float *x, int64_t n, int64_t k, int32_t *ids, float *values, int32_t *scratch) {
	const int64_t n_steps = steps(n), n_blocks = n_blocks_of(n);
	int32_t *maxima = scratch, *found = maxima + n_blocks, *keys = found + CANDIDATES + LANES;
	if (n_blocks < k || k > CANDIDATES / 2) {
		take_of_all(x, n, k, ids, values);
		return;
	}
	for (int64_t b = 0; b < n_blocks; b += LANES) {
		float m[LANES];
		stretch_maxima(x + b * n_steps, n_steps, m);
		for (int i = 0; i < LANES; i++)
			maxima[b + i] = key_of(m[i]);
	}
	/* At least k values reach what k maxima reach. */
	int32_t least = threshold(maxima, n_blocks, k, k + k / 8);
	float floor;
	const int32_t bits = least ^ ((least >> 31) & INT32_MAX);
	memcpy(&floor, &bits, sizeof floor);
	const int64_t count = isnan(floor) ? -1 : collect(x, n, floor, found);
	if (count < k) {
		take_of_all(x, n, k, ids, values);
		return;
	}
	for (int64_t i = 0; i < count; i++)
		keys[i] = key_of(x[found[i]]);
	for (int i = 0; i < 3; i++)
		keys[count + i] = INT32_MIN; /* up to a multiple of four */
	const int64_t padded = (count + 3) / 4 * 4;
	least = threshold(keys, padded, k, k);
	const int64_t n_above = least == INT32_MAX ? 0 : n_reaching(keys, padded, least + 1);
	take(x, found, count, k, least, n_above, ids, values);
}
