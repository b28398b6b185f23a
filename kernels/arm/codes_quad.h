/* Sums over vector codes in registers of 16 bytes. Included after dot_<level>.h, with
 * add_dot_16(acc, x, y): acc plus the products of signed bytes. */
typedef int8x16_t codes;
typedef int32x4_t sums;
typedef uint8x16_t bits;
typedef int8x16_t signed_query;
enum { CODE_LANES = 16 };

INLINE codes load_codes(const void *p) {
	return vld1q_s8(p);
}
INLINE codes load_codes_part(const void *p, int64_t n) {
	int8_t part[16] = {0};
	memcpy(part, p, (size_t)n);
	return vld1q_s8(part);
}
INLINE sums zero_sums(void) {
	return vdupq_n_s32(0);
}
INLINE sums add_sums(sums a, sums b) {
	return vaddq_s32(a, b);
}
INLINE int32_t sum_all(sums v) {
	return vaddvq_s32(v);
}
INLINE signed_query query_i8(codes x) {
	return x;
}
INLINE sums add_i8(sums acc, signed_query q, codes y) {
	return add_dot_16(acc, q, y);
}
INLINE codes low_codes(codes both) {
	return vandq_s8(both, vdupq_n_s8(15));
}
INLINE codes high_codes(codes both) {
	return vreinterpretq_s8_u8(vshrq_n_u8(vreinterpretq_u8_s8(both), 4));
}
INLINE sums add_i4(sums acc, codes y, codes x) {
	return add_dot_16(acc, y, x);
}

/* Bit i as all bits of byte i. */
INLINE bits spread(uint8_t low, uint8_t high) {
	const uint8x16_t one_each = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
	return vtstq_u8(vcombine_u8(vdup_n_u8(low), vdup_n_u8(high)), one_each);
}
INLINE bits load_bits(const uint8_t *p) {
	return spread(p[0], p[1]);
}
INLINE bits load_bits_part(const uint8_t *p, int64_t n_bytes) {
	return spread(p[0], n_bytes > 1 ? p[1] : 0);
}
INLINE sums add_bits(sums acc, bits b, codes x) {
	return add_dot_16(acc, vdupq_n_s8(1), vandq_s8(x, vreinterpretq_s8_u8(b)));
}

#include "kernels/common/codes_body.h"
