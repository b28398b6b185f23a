/* The only source of randomness: a seeded, portable generator (xoshiro256**, seeded by splitmix64;
 * Blackman and Vigna 2018). Same seed, same sequence on every machine. */
#ifndef RV_BASE_RNG_H
#define RV_BASE_RNG_H

#include <stdint.h>

typedef struct rv_rng {
	uint64_t s[4];
} rv_rng;

void rv_rng_seed(rv_rng *rng, uint64_t seed);
/* An independent stream of the same seed, e.g. one a thread, tensor or repetition. */
void rv_rng_stream(rv_rng *rng, uint64_t seed, uint64_t stream);
uint64_t rv_rng_u64(rv_rng *rng);
uint64_t rv_rng_below(rv_rng *rng, uint64_t n); /* uniform in [0, n), unbiased; n >= 1 */
double rv_rng_double(rv_rng *rng);              /* uniform in [0, 1), 53 bits */
float rv_rng_float(rv_rng *rng);                /* uniform in [0, 1), 24 bits */
double rv_rng_normal(rv_rng *rng);              /* standard normal */

#endif
