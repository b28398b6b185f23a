/* Sums over vector codes. */
#include "kernels/arm/dot_neon.h"

INLINE int32x4_t add_dot_16(int32x4_t acc, int8x16_t x, int8x16_t y) {
	return vpadalq_s16(acc, pairs_16(x, y));
}
#include "kernels/arm/codes_quad.h"

INLINE codes differing(codes x, codes y) {
	return veorq_s8(x, y);
}
INLINE sums add_ones(sums acc, codes y) {
	const uint8x16_t ones = vcntq_u8(vreinterpretq_u8_s8(y));
	return vreinterpretq_s32_u32(vpadalq_u16(vreinterpretq_u32_s32(acc), vpaddlq_u8(ones)));
}

#include "kernels/common/codes_plain_body.h"
