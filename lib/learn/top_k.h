/* The k highest of many numbers. */
#ifndef RV_LEARN_TOP_K_H
#define RV_LEARN_TOP_K_H

#include <stdint.h>

/* Ids and values of the k highest of n >= k values, falling; of equals the lower id is higher. NaN
 * counts as minus infinity. scratch: rv_top_k_scratch(n) floats. About the time of reading x once: only
 * blocks whose maximum is among the k highest maxima are looked into. */
int64_t rv_top_k_scratch(int64_t n);
void rv_top_k(const float *x, int64_t n, int64_t k, int32_t *ids, float *values, float *scratch);

#endif
