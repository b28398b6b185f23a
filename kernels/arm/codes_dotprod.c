/* Sums over vector codes by the dot product instruction. */
#include "kernels/arm/dot_dotprod.h"

INLINE int32x4_t add_dot_16(int32x4_t acc, int8x16_t x, int8x16_t y) {
	return vdotq_s32(acc, x, y);
}
#include "kernels/arm/codes_quad.h"
