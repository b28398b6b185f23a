#include "base/rng.h"

#include <math.h>
#include <string.h>

static uint64_t splitmix64(uint64_t *state) {
	uint64_t z = (*state += 0x9E3779B97F4A7C15u);
	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
	return z ^ (z >> 31);
}

static uint64_t rotl(uint64_t x, int k) {
	return (x << k) | (x >> (64 - k));
}

void rv_rng_seed(rv_rng *rng, uint64_t seed) {
	for (int i = 0; i < 4; i++)
		rng->s[i] = splitmix64(&seed);
}

void rv_rng_stream(rv_rng *rng, uint64_t seed, uint64_t stream) {
	/* Both are mixed before they meet, so that (seed, stream + 1) and (seed + 1, stream) share
	 * nothing. */
	uint64_t mixed = splitmix64(&seed);
	uint64_t other = ~stream;
	rv_rng_seed(rng, mixed ^ rotl(splitmix64(&other), 32));
}

uint64_t rv_rng_u64(rv_rng *rng) {
	uint64_t *s = rng->s;
	uint64_t result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return result;
}

/* Lemire 2019, "Fast random integer generation in an interval". */
uint64_t rv_rng_below(rv_rng *rng, uint64_t n) {
	unsigned __int128 m = (unsigned __int128)rv_rng_u64(rng) * n;
	if ((uint64_t)m < n) {
		uint64_t reject = -n % n;
		while ((uint64_t)m < reject)
			m = (unsigned __int128)rv_rng_u64(rng) * n;
	}
	return (uint64_t)(m >> 64);
}

double rv_rng_double(rv_rng *rng) {
	return (double)(rv_rng_u64(rng) >> 11) * 0x1p-53;
}

float rv_rng_float(rv_rng *rng) {
	return (float)(rv_rng_u64(rng) >> 40) * 0x1p-24f;
}

/* Natural logarithm for normal x > 0 from + - * / alone: libm's differs in the last bit between
 * machines, and the same seed must give the same numbers everywhere. */
static double portable_log(double x) {
	uint64_t bits;
	memcpy(&bits, &x, sizeof bits);
	int exponent = (int)(bits >> 52) - 1023;
	bits = (bits & 0xFFFFFFFFFFFFFu) | 0x3FF0000000000000u;
	double m;
	memcpy(&m, &bits, sizeof m);
	if (m > 1.4142135623730951) {
		m *= 0.5;
		exponent++;
	}
	/* 2 atanh(s), |s| < 0.172: thirteen terms reach the last bit. */
	double s = (m - 1) / (m + 1), s2 = s * s, sum = 0;
	for (int k = 25; k >= 1; k -= 2)
		sum = sum * s2 + 1.0 / k;
	return exponent * 0.69314718055994531 + 2 * s * sum;
}

static double horner(const double c[8], double x) {
	double sum = c[7];
	for (int i = 6; i >= 0; i--)
		sum = sum * x + c[i];
	return sum;
}

/* The normal quantile, relative error about 1e-16 (Wichura 1988, algorithm AS 241, PPND16). */
static const double centre_num[8] = {3.3871328727963666080e0, 1.3314166789178437745e2,
                                     1.9715909503065514427e3, 1.3731693765509461125e4,
                                     4.5921953931549871457e4, 6.7265770927008700853e4,
                                     3.3430575583588128105e4, 2.5090809287301226727e3};
static const double centre_den[8] = {1.0,
                                     4.2313330701600911252e1,
                                     6.8718700749205790830e2,
                                     5.3941960214247511077e3,
                                     2.1213794301586595867e4,
                                     3.9307895800092710610e4,
                                     2.8729085735721942674e4,
                                     5.2264952788528545610e3};
static const double near_num[8] = {1.42343711074968357734e0,  4.63033784615654529590e0,
                                   5.76949722146069140550e0,  3.64784832476320460504e0,
                                   1.27045825245236838258e0,  2.41780725177450611770e-1,
                                   2.27238449892691845833e-2, 7.74545014278341407640e-4};
static const double near_den[8] = {1.0,
                                   2.05319162663775882187e0,
                                   1.67638483018380384940e0,
                                   6.89767334985100004550e-1,
                                   1.48103976427480074590e-1,
                                   1.51986665636164571966e-2,
                                   5.47593808499534494600e-4,
                                   1.05075007164441684324e-9};
static const double far_num[8] = {6.65790464350110377720e0,  5.46378491116411436990e0,
                                  1.78482653991729133580e0,  2.96560571828504891230e-1,
                                  2.65321895265761230930e-2, 1.24266094738807843860e-3,
                                  2.71155556874348757815e-5, 2.01033439929228813265e-7};
static const double far_den[8] = {1.0,
                                  5.99832206555887937690e-1,
                                  1.36929880922735805310e-1,
                                  1.48753612908506148525e-2,
                                  7.86869131145613259100e-4,
                                  1.84631831751005468180e-5,
                                  1.42151175831644588870e-7,
                                  2.04426310338993978564e-15};

double rv_rng_normal(rv_rng *rng) {
	/* 52 bits and a half: never 0 or 1, symmetric about 1/2, exact. */
	double p = ((double)(rv_rng_u64(rng) >> 12) + 0.5) * 0x1p-52, q = p - 0.5;
	if (fabs(q) <= 0.425) {
		double r = 0.180625 - q * q;
		return q * horner(centre_num, r) / horner(centre_den, r);
	}
	double r = sqrt(-portable_log(q < 0 ? p : 1 - p)), z;
	if (r <= 5)
		z = horner(near_num, r - 1.6) / horner(near_den, r - 1.6);
	else
		z = horner(far_num, r - 5) / horner(far_den, r - 5);
	return q < 0 ? -z : z;
}
