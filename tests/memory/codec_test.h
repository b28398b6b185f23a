/* Vectors and codecs for the tests of codes. */
#ifndef RV_TESTS_MEMORY_CODEC_TEST_H
#define RV_TESTS_MEMORY_CODEC_TEST_H

#include "tests/support/test.h"

#include "base/mem.h"
#include "base/rng.h"
#include "memory/codec.h"

#include <math.h>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"

enum { DIM = 96, CLUSTERS = 40, LATENT = 24 };

static float *zeros(int64_t n) {
	float *x;
	assert_ok(RV_ALLOC(&x, n, "test data"));
	return x;
}

static float *gaussian(int64_t n, uint64_t seed) {
	float *x = zeros(n);
	rv_rng rng;
	rv_rng_seed(&rng, seed);
	for (int64_t i = 0; i < n; i++)
		x[i] = (float)rv_rng_normal(&rng);
	return x;
}

/* Clusters in few directions, noise in all, an offset in some: [n, DIM]. */
static float *clustered(int64_t n, uint64_t seed) {
	float *map = gaussian(LATENT * DIM, 1), *centres = gaussian(CLUSTERS * LATENT, 2);
	float *x = zeros(n * DIM);
	rv_rng rng;
	rv_rng_seed(&rng, seed);
	for (int64_t i = 0; i < n; i++) {
		const float *centre = centres + rv_rng_below(&rng, CLUSTERS) * LATENT;
		for (int l = 0; l < LATENT; l++) {
			const float v = centre[l] + 0.5f * (float)rv_rng_normal(&rng);
			for (int d = 0; d < DIM; d++)
				x[i * DIM + d] += v * map[l * DIM + d] / sqrtf(LATENT);
		}
		for (int d = 0; d < DIM; d++)
			x[i * DIM + d] += 0.05f * (float)rv_rng_normal(&rng) + (d % 7 == 0);
	}
	rv_free(map);
	rv_free(centres);
	return x;
}

static rv_codec *codec_of(rv_code_kind kind, rv_metric metric, int dim) {
	rv_codec_options o = rv_codec_defaults();
	rv_codec *c;
	o.kind = kind;
	o.metric = metric;
	o.dim = dim;
	o.seed = 3;
	assert_ok(rv_codec_create(&c, &o));
	return c;
}

static rv_codec *trained(rv_code_kind kind, rv_metric metric, const float *x, int64_t n) {
	rv_codec *c = codec_of(kind, metric, DIM);
	assert_ok(rv_codec_train(c, x, n, NULL));
	return c;
}

static uint8_t *encoded(const rv_codec *c, const float *x, int64_t n) {
	uint8_t *codes;
	assert_ok(RV_ALLOC(&codes, rv_codec_code_bytes(c) * (size_t)n, "codes"));
	assert_ok(rv_codec_encode_batch(c, x, n, codes, NULL));
	return codes;
}

static void *query_of(const rv_codec *c, const float *x) {
	void *q;
	assert_ok(rv_alloc(&q, 1, rv_codec_query_bytes(c), "query"));
	assert_ok(rv_codec_prepare(c, x, q));
	return q;
}

#pragma GCC diagnostic pop

#endif
