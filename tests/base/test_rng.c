/* The generator: known answers, and that its distributions are what they say. */
#include "base_test.h"

#include "base/rng.h"

#include <math.h>

static void known_answers(void **state) {
	(void)state;
	/* Of the authors' reference code, from the state {1, 2, 3, 4}. */
	static const uint64_t xoshiro[] = {11520,
	                                   0,
	                                   1509978240,
	                                   1215971899390074240,
	                                   1216172134540287360,
	                                   607988272756665600,
	                                   16172922978634559625u,
	                                   8476171486693032832,
	                                   10595114339597558777u,
	                                   2904607092377533576};
	/* splitmix64 from 1234567. */
	static const uint64_t splitmix[] = {6457827717110365317u, 3203168211198807973u,
	                                    9817491932198370423u, 4593380528125082431u};
	rv_rng rng = {{1, 2, 3, 4}};
	for (size_t i = 0; i < sizeof xoshiro / sizeof *xoshiro; i++)
		assert_true(rv_rng_u64(&rng) == xoshiro[i]);
	rv_rng_seed(&rng, 1234567);
	for (size_t i = 0; i < 4; i++)
		assert_true(rng.s[i] == splitmix[i]);
}

/* These are ours: a change of any of them changes every seeded experiment and synthetic model. */
static void sequences_stay(void **state) {
	(void)state;
	rv_rng a, b;
	rv_rng_seed(&a, 0);
	rv_rng_stream(&b, 0, 0);
	assert_true(rv_rng_u64(&a) == 0x99ec5f36cb75f2b4u);
	assert_true(rv_rng_below(&a, 1000000007) == 747774097u);
	assert_true(rv_rng_double(&a) == 0x1.a5f849d4933ep-4);
	assert_true(rv_rng_float(&a) == 0x1.aa965p-2f);
	assert_true(rv_rng_normal(&a) == 0x1.3e69e9a325da3p-1);
	assert_true(rv_rng_u64(&b) == 0x1edd193855273babu);
}

static void streams_differ(void **state) {
	(void)state;
	enum { SEEDS = 8, STREAMS = 64 };
	uint64_t first[SEEDS * STREAMS + 1];
	int n = 0;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		for (uint64_t stream = 0; stream < STREAMS; stream++) {
			rv_rng rng, again;
			rv_rng_stream(&rng, seed, stream);
			rv_rng_stream(&again, seed, stream);
			first[n] = rv_rng_u64(&rng);
			assert_true(first[n] == rv_rng_u64(&again));
			for (int i = 0; i < n; i++)
				assert_true(first[i] != first[n]);
			n++;
		}
	}
}

/* Chi-square of counts against equal expectations, as a deviation in standard units. */
static double uniform_deviation(const int *counts, int bins, double expected) {
	double chi = 0;
	for (int i = 0; i < bins; i++)
		chi += (counts[i] - expected) * (counts[i] - expected) / expected;
	return (chi - (bins - 1)) / sqrt(2.0 * (bins - 1));
}

static uint64_t biased(rv_rng *rng, uint64_t n) {
	return (rv_rng_u64(rng) & 1023) %
	       n; /* 1024 is no multiple of n: the low values come more often */
}

static double deviation_of(uint64_t (*below)(rv_rng *, uint64_t), int bins) {
	int counts[1000] = {0};
	rv_rng rng;
	rv_rng_seed(&rng, 42);
	for (int i = 0; i < 200 * bins; i++)
		counts[below(&rng, (uint64_t)bins)]++;
	return uniform_deviation(counts, bins, 200);
}

static void below_is_uniform(void **state) {
	(void)state;
	static const int bins[] = {2, 3, 7, 100, 256, 1000};
	for (size_t i = 0; i < sizeof bins / sizeof *bins; i++)
		assert_true(fabs(deviation_of(rv_rng_below, bins[i])) < 5);
	assert_true(deviation_of(biased, 1000) > 5); /* negative control */
	rv_rng rng;
	rv_rng_seed(&rng, 1);
	for (int i = 0; i < 100; i++)
		assert_true(rv_rng_below(&rng, 1) == 0);
	/* A range over half of 2^64 rejects often and must still end evenly: thirds of it. */
	int thirds[3] = {0};
	const uint64_t n = 3u * (1ull << 62);
	for (int i = 0; i < 30000; i++)
		thirds[rv_rng_below(&rng, n) >> 62]++;
	assert_true(fabs(uniform_deviation(thirds, 3, 10000)) < 5);
}

static void floats_are_in_range(void **state) {
	(void)state;
	int counts[100] = {0}, single[100] = {0};
	rv_rng rng;
	rv_rng_seed(&rng, 7);
	for (int i = 0; i < 100000; i++) {
		double d = rv_rng_double(&rng);
		float f = rv_rng_float(&rng);
		assert_true(d >= 0 && d < 1 && f >= 0 && f < 1);
		counts[(int)(d * 100)]++;
		single[(int)(f * 100)]++;
	}
	assert_true(fabs(uniform_deviation(counts, 100, 1000)) < 5);
	assert_true(fabs(uniform_deviation(single, 100, 1000)) < 5);
}

/* A state whose next output is `wanted`: xoshiro256** scrambles one word by odd factors and a rotation.
 */
static rv_rng about_to_yield(uint64_t wanted) {
	uint64_t x = wanted * 0x8E38E38E38E38E39u; /* 1/9 mod 2^64 */
	x = x >> 7 | x << 57;
	rv_rng rng = {{1, x * 0xCCCCCCCCCCCCCCCDu, 2, 3}}; /* 1/5 */
	rv_rng probe = rng;
	assert_true(rv_rng_u64(&probe) == wanted);
	return rng;
}

static void normal_is_the_quantile(void **state) {
	(void)state;
	rv_rng rng;
	rv_rng_seed(&rng, 3);
	for (int i = 0; i < 20000; i++) {
		/* Small probabilities too: down to 2^-53. */
		uint64_t bits = rv_rng_u64(&rng) >> (i % 52);
		rv_rng at = about_to_yield(bits), mirrored = about_to_yield(~bits);
		double p = ((double)(bits >> 12) + 0.5) * 0x1p-52, z = rv_rng_normal(&at);
		double back = 0.5 * erfc(-z / sqrt(2.0));
		/* d log p / dz grows like z in the tail. */
		assert_true(fabs(back - p) <= 1e-14 * p * (1 + z * z));
		assert_true(rv_rng_normal(&mirrored) == -z);
	}
	rv_rng least = about_to_yield(0), most = about_to_yield(UINT64_MAX);
	double z = rv_rng_normal(&least);
	assert_true(isfinite(z) && z < -8 && z > -9);
	assert_true(rv_rng_normal(&most) == -z);
}

static double normal_deviation(double shift) {
	enum { N = 20000 };
	static double sample[N];
	int counts[200] = {0};
	rv_rng rng;
	rv_rng_seed(&rng, 11);
	for (int i = 0; i < N; i++) {
		sample[i] = 0.5 * erfc(-(rv_rng_normal(&rng) + shift) / sqrt(2.0));
		counts[(int)(sample[i] * 199.999999)]++;
	}
	return uniform_deviation(counts, 200, N / 200.0);
}

static void normal_is_standard(void **state) {
	(void)state;
	assert_true(fabs(normal_deviation(0)) < 5);
	assert_true(normal_deviation(0.1) > 5); /* negative control */
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(known_answers),       cmocka_unit_test(sequences_stay),
	        cmocka_unit_test(streams_differ),      cmocka_unit_test(below_is_uniform),
	        cmocka_unit_test(floats_are_in_range), cmocka_unit_test(normal_is_the_quantile),
	        cmocka_unit_test(normal_is_standard),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
