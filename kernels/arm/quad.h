/* What matmul_tiles.h calls a vector in the integer products: one register of four lanes. Included by
 * dot_<level>.h, which adds LEVEL_NAME and the dot products of bytes. */
#ifndef RV_KERNELS_ARM_QUAD_H
#define RV_KERNELS_ARM_QUAD_H

#include "kernels/arm/simd_neon.h"

typedef float32x4_t vec;
enum { VEC_REGISTERS = 32 };

INLINE vec vec_zero(void) {
	return vdupq_n_f32(0);
}
/* Neighbours, then the two pairs. */
INLINE float vec_sum(vec v) {
	return vaddvq_f32(v);
}

#endif
