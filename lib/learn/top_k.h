/* The k highest of many numbers. */
#ifndef RV_LEARN_TOP_K_H
#define RV_LEARN_TOP_K_H

#include <stdint.h>

/* Ids and values of the k highest of n >= k values, in no particular order; of equals the lower ids.
 * NaN counts as minus infinity. scratch: rv_top_k_scratch(n) numbers of 32 bits. About the time of
 * reading x twice, without branches that depend on the values: it runs once a token, cold. */
int64_t rv_top_k_scratch(int64_t n);
void rv_top_k(const float *x, int64_t n, int64_t k, int32_t *ids, float *values, int32_t *scratch);

#endif
