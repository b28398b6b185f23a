/* Dot products of signed bytes without the dot product instruction. Two products of a code and an
 * activation fit 16 bits: 2 * 128 * 127 < 2^15. Lane l of dot_16 holds elements 2l, 2l + 1, 2l + 8 and
 * 2l + 9. */
#ifndef RV_KERNELS_ARM_DOT_NEON_H
#define RV_KERNELS_ARM_DOT_NEON_H

#include "kernels/arm/quad.h"

#define LEVEL_NAME(name) name##_neon

INLINE int16x8_t pairs_16(int8x16_t w, int8x16_t q) {
	return vmlal_high_s8(vmull_s8(vget_low_s8(w), vget_low_s8(q)), w, q);
}
INLINE int32x4_t dot_16(int8x16_t w, const int8_t *q) {
	return vpaddlq_s16(pairs_16(w, vld1q_s8(q)));
}
/* The sum of two dot_16. */
INLINE int32x4_t dot_32(int8x16_t w0, int8x16_t w1, const int8_t *q) {
	return vpadalq_s16(dot_16(w0, q), pairs_16(w1, vld1q_s8(q + 16)));
}

#endif
