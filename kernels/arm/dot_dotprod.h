/* Dot products of signed bytes. Lane l of dot_16 holds elements 4l .. 4l + 3. */
#ifndef RV_KERNELS_ARM_DOT_DOTPROD_H
#define RV_KERNELS_ARM_DOT_DOTPROD_H

#include "kernels/arm/quad.h"

#define LEVEL_NAME(name) name##_dotprod

INLINE int32x4_t dot_16(int8x16_t w, const int8_t *q) {
	return vdotq_s32(vdupq_n_s32(0), w, vld1q_s8(q));
}
/* The sum of two dot_16. */
INLINE int32x4_t dot_32(int8x16_t w0, int8x16_t w1, const int8_t *q) {
	return vdotq_s32(dot_16(w0, q), w1, vld1q_s8(q + 16));
}

#endif
