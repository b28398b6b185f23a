/* What tests of the graph share: clustered vectors, brute force, recall. */
#ifndef RV_TESTS_MEMORY_HNSW_TEST_H
#define RV_TESTS_MEMORY_HNSW_TEST_H

#include "tests/support/test.h"

#include "base/mem.h"
#include "base/rng.h"
#include "memory/hnsw.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct set {
	int64_t n;
	int dim;
	float *x; /* [n + SET_QUERIES, dim]: the vectors, then queries of the same kind */
	uint64_t *ids;
} set;

#define SET_QUERIES 40

/* Sixteen clusters in a quarter as many latent dimensions, and a little noise. */
static set *set_make(int64_t n, int dim, uint64_t seed) {
	enum { CLUSTERS = 16, MAX_LATENT = 64 };
	const int latent = dim / 4 < MAX_LATENT ? dim / 4 : MAX_LATENT;
	set *s;
	float *basis, *centres;
	assert_ok(RV_ALLOC(&s, 1, "set"));
	assert_ok(RV_ALLOC(&s->x, (n + SET_QUERIES) * dim, "set"));
	assert_ok(RV_ALLOC(&s->ids, n, "set"));
	assert_ok(RV_ALLOC(&basis, latent * dim, "set"));
	assert_ok(RV_ALLOC(&centres, CLUSTERS * latent, "set"));
	rv_rng rng;
	rv_rng_seed(&rng, seed);
	for (int i = 0; i < latent * dim; i++)
		basis[i] = (float)rv_rng_normal(&rng);
	for (int i = 0; i < CLUSTERS * latent; i++)
		centres[i] = (float)rv_rng_normal(&rng);
	for (int64_t i = 0; i < n + SET_QUERIES; i++) {
		float z[MAX_LATENT];
		const float *centre = centres + (int64_t)rv_rng_below(&rng, CLUSTERS) * latent;
		for (int l = 0; l < latent; l++)
			z[l] = centre[l] + 0.5f * (float)rv_rng_normal(&rng);
		for (int d = 0; d < dim; d++) {
			float sum = 0.05f * (float)rv_rng_normal(&rng);
			for (int l = 0; l < latent; l++)
				sum += z[l] * basis[l * dim + d];
			s->x[i * dim + d] = sum;
		}
	}
	for (int64_t i = 0; i < n; i++)
		s->ids[i] = (uint64_t)i * 7919 + 13;
	s->n = n;
	s->dim = dim;
	rv_free(basis);
	rv_free(centres);
	return s;
}

static void set_free(set *s) {
	rv_free(s->x);
	rv_free(s->ids);
	rv_free(s);
}

static const float *set_row(const set *s, int64_t i) {
	return s->x + i * s->dim;
}

static rv_hnsw *index_of(const set *s, rv_metric metric, int64_t capacity) {
	rv_hnsw_options options = rv_hnsw_defaults();
	options.metric = metric;
	options.dim = s->dim;
	options.capacity = capacity;
	rv_hnsw *index;
	assert_ok(rv_hnsw_create(&index, &options));
	return index;
}

static double true_distance(rv_metric metric, const float *a, const float *b, int dim) {
	double ab = 0, aa = 0, bb = 0, l2 = 0;
	for (int d = 0; d < dim; d++) {
		const double x = (double)a[d], y = (double)b[d];
		ab += x * y;
		aa += x * x;
		bb += y * y;
		l2 += (x - y) * (x - y);
	}
	return metric == RV_METRIC_L2 ? l2 : metric == RV_METRIC_INNER ? -ab : 1 - ab / sqrt(aa * bb);
}

__attribute__((unused)) static int compare_double(const void *a, const void *b) {
	const double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* Mean part of the k nearest of set s that searches find; `among` (or NULL for all) says which of the
 * set's rows count. Ties count by distance. */
__attribute__((unused)) static double recall(rv_hnsw *index, const set *s, int64_t k, int ef,
                                             const uint8_t *among) {
	const rv_metric metric = rv_hnsw_get_options(index)->metric;
	double *all;
	uint64_t *ids;
	float *distances;
	assert_ok(RV_ALLOC(&all, s->n, "distances"));
	assert_ok(RV_ALLOC(&ids, k, "ids"));
	assert_ok(RV_ALLOC(&distances, k, "distances"));
	int64_t hits = 0, wanted = 0;
	for (int q = 0; q < SET_QUERIES; q++) {
		const float *query = set_row(s, s->n + q);
		int64_t n_all = 0, n;
		for (int64_t i = 0; i < s->n; i++)
			if (!among || among[i])
				all[n_all++] = true_distance(metric, query, set_row(s, i), s->dim);
		qsort(all, (size_t)n_all, sizeof *all, compare_double);
		assert_ok(rv_hnsw_search(index, query, k, ef, NULL, ids, distances, &n));
		const int64_t due = k < n_all ? k : n_all;
		for (int64_t i = 0; i < n; i++) {
			const int64_t row = (int64_t)((ids[i] - 13) / 7919);
			const double d = true_distance(metric, query, set_row(s, row), s->dim);
			assert_true(fabs(d - (double)distances[i]) < 1e-4 * (1 + fabs(d)));
			assert_true(!among || among[row]);
			assert_true(i == 0 || distances[i] >= distances[i - 1]);
			hits += d <= all[due - 1] + 1e-6 * (1 + fabs(d));
		}
		wanted += due;
	}
	rv_free(all);
	rv_free(ids);
	rv_free(distances);
	return wanted ? (double)hits / (double)wanted : 1;
}

#endif
