/* The k highest against sorting: random values, ties, infinities, NaN, all sizes. */
#include "base/mem.h"
#include "base/rng.h"
#include "learn/top_k.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct item {
	float value;
	int32_t id;
} item;

static int falling(const void *a, const void *b) {
	const item *x = (const item *)a, *y = (const item *)b;
	if (x->value > y->value || x->value < y->value)
		return x->value > y->value ? -1 : 1;
	return (x->id > y->id) - (x->id < y->id);
}
static int by_id(const void *a, const void *b) {
	const item *x = (const item *)a, *y = (const item *)b;
	return (x->id > y->id) - (x->id < y->id);
}

/* Whether ids and values are those of the k highest. */
static int is_right(const float *x, int64_t n, int64_t k, const int32_t *ids, const float *values) {
	item *all = (item *)malloc((size_t)n * sizeof *all),
	     *got = (item *)malloc((size_t)k * sizeof *got);
	int right = 1;
	for (int64_t i = 0; i < n; i++)
		all[i] = (item){isnan(x[i]) ? -INFINITY : x[i], (int32_t)i};
	qsort(all, (size_t)n, sizeof *all, falling);
	qsort(all, (size_t)k, sizeof *all, by_id);
	for (int64_t i = 0; i < k; i++)
		got[i] = (item){values[i], ids[i]};
	qsort(got, (size_t)k, sizeof *got, by_id);
	for (int64_t i = 0; i < k; i++)
		right &= got[i].id == all[i].id && !(got[i].value > all[i].value) &&
		         !(got[i].value < all[i].value) && !isnan(got[i].value);
	free(all);
	free(got);
	return right;
}

static int holds(const float *x, int64_t n, int64_t k) {
	int32_t *ids = (int32_t *)malloc((size_t)k * sizeof *ids),
	        *scratch = (int32_t *)malloc((size_t)rv_top_k_scratch(n) * sizeof *scratch);
	float *values = (float *)malloc((size_t)k * sizeof *values);
	rv_top_k(x, n, k, ids, values, scratch);
	int right = is_right(x, n, k, ids, values);
	if (right && n > k) { /* control: another value in place of one of them is noticed */
		const int64_t at = n / 2 % k;
		int32_t other = 0;
		for (int64_t i = 0; i < k; i++)
			if (ids[i] == other) {
				other++;
				i = -1;
			}
		ids[at] = other;
		values[at] = x[other];
		right = !is_right(x, n, k, ids, values);
	}
	free(ids);
	free(values);
	free(scratch);
	return right;
}

static void as_sorting(void **state) {
	static const int64_t sizes[] = {2, 3, 64, 65, 127, 512, 1000, 3072, 8191, 8200, 70001};
	static const int64_t counts[] = {1, 2, 64, 256, 700};
	rv_rng rng;
	(void)state;
	rv_rng_seed(&rng, 1);
	for (int s = 0; s < 11; s++)
		for (int c = 0; c < 5; c++)
			for (int kind = 0; kind < 5; kind++) {
				const int64_t n = sizes[s], k = counts[c];
				float *x = (float *)malloc((size_t)n * sizeof *x);
				for (int64_t i = 0; i < n; i++) {
					const float v = (float)rv_rng_normal(&rng);
					const uint64_t die = rv_rng_below(&rng, 4);
					x[i] = kind == 1   ? roundf(v)
					       : kind == 2 ? 1
					       : kind == 3 ? (die == 0   ? NAN
					                      : die == 1 ? INFINITY
					                                 : -v)
					       : kind == 4 ? (die        ? -INFINITY
					                      : die == 1 ? -0.0f
					                                 : v)
					                   : v;
				}
				if (k <= n)
					assert_true(holds(x, n, k));
				free(x);
			}
}

int main(void) {
	const struct CMUnitTest tests[] = {cmocka_unit_test(as_sorting)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
