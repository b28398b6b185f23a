/* Sums over vector codes with 64-byte registers; with RV_VNNI, products by its instructions. */
#include "kernels/x86/vec_avx512.h"

typedef __m512i codes;
typedef __m512i sums;
typedef __mmask64 bits;
typedef struct signed_query {
	__m512i magnitude;
	__mmask64 negative;
} signed_query;
enum { CODE_LANES = 64 };

INLINE codes load_codes(const void *p) {
	return load_512(p);
}
INLINE codes load_codes_part(const void *p, int64_t n) {
	return _mm512_maskz_loadu_epi8(n < 64 ? ((__mmask64)1 << n) - 1 : ~(__mmask64)0, p);
}
INLINE sums zero_sums(void) {
	return _mm512_setzero_si512();
}
INLINE sums add_sums(sums a, sums b) {
	return _mm512_add_epi32(a, b);
}
INLINE int32_t sum_all(sums v) {
	const __m256i half =
	        _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
	__m128i s = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
	s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
	return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

INLINE signed_query query_i8(codes x) {
	return (signed_query){_mm512_abs_epi8(x), _mm512_movepi8_mask(x)};
}
INLINE sums add_i8(sums acc, signed_query q, codes y) {
	return add_dot(acc, q.magnitude,
	               _mm512_mask_sub_epi8(y, q.negative, _mm512_setzero_si512(), y));
}
INLINE codes low_codes(codes both) {
	return _mm512_and_si512(both, _mm512_set1_epi8(15));
}
INLINE codes high_codes(codes both) {
	return low_codes(_mm512_srli_epi16(both, 4));
}
INLINE sums add_i4(sums acc, codes y, codes x) {
	return add_dot(acc, y, x);
}

INLINE bits load_bits(const uint8_t *p) {
	uint64_t b;
	memcpy(&b, p, sizeof b);
	return b;
}
INLINE bits load_bits_part(const uint8_t *p, int64_t n_bytes) {
	uint64_t b = 0;
	memcpy(&b, p, (size_t)n_bytes);
	return b;
}
INLINE sums add_bits(sums acc, bits b, codes x) {
	return add_dot(acc, _mm512_maskz_set1_epi8(b, 1), x);
}

#include "kernels/common/codes_body.h"
