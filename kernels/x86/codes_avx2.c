/* Sums over vector codes. */
#include "kernels/x86/vec_avx2.h"

typedef __m256i codes;
typedef __m256i sums;
typedef __m256i bits;
typedef struct signed_query {
	__m256i magnitude, x;
} signed_query;
enum { CODE_LANES = 32 };

INLINE codes load_codes(const void *p) {
	return load_256(p);
}
INLINE codes load_codes_part(const void *p, int64_t n) {
	uint8_t part[32] = {0};
	memcpy(part, p, (size_t)n);
	return load_256(part);
}
INLINE sums zero_sums(void) {
	return _mm256_setzero_si256();
}
INLINE sums add_sums(sums a, sums b) {
	return _mm256_add_epi32(a, b);
}
INLINE int32_t sum_all(sums v) {
	__m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
	s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
	return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

/* Two products of magnitudes up to 127 fit 16 bits. */
INLINE sums add_pairs(sums acc, __m256i is_unsigned, __m256i is_signed) {
	const __m256i pairs = _mm256_maddubs_epi16(is_unsigned, is_signed);
	return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
INLINE signed_query query_i8(codes x) {
	return (signed_query){_mm256_abs_epi8(x), x};
}
INLINE sums add_i8(sums acc, signed_query q, codes y) {
	return add_pairs(acc, q.magnitude, _mm256_sign_epi8(y, q.x));
}
INLINE codes low_codes(codes both) {
	return _mm256_and_si256(both, _mm256_set1_epi8(15));
}
INLINE codes high_codes(codes both) {
	return low_codes(_mm256_srli_epi16(both, 4));
}
INLINE sums add_i4(sums acc, codes y, codes x) {
	return add_pairs(acc, y, x);
}

/* Bit i as all bits of byte i. */
INLINE bits spread(uint32_t b) {
	const __m256i pick = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2,
	                                      2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
	const __m256i one_each = _mm256_set1_epi64x((long long)0x8040201008040201u);
	const __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32((int)b), pick);
	return _mm256_cmpeq_epi8(_mm256_and_si256(bytes, one_each), one_each);
}
INLINE bits load_bits(const uint8_t *p) {
	return spread(load_u32(p));
}
INLINE bits load_bits_part(const uint8_t *p, int64_t n_bytes) {
	uint32_t b = 0;
	memcpy(&b, p, (size_t)n_bytes);
	return spread(b);
}
INLINE sums add_bits(sums acc, bits b, codes x) {
	return add_pairs(acc, _mm256_set1_epi8(1), _mm256_and_si256(b, x));
}

INLINE codes differing(codes x, codes y) {
	return _mm256_xor_si256(x, y);
}
INLINE sums add_ones(sums acc, codes y) {
	const __m256i ones = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1,
	                                      2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
	const __m256i in_bytes = _mm256_add_epi8(_mm256_shuffle_epi8(ones, low_codes(y)),
	                                         _mm256_shuffle_epi8(ones, high_codes(y)));
	return _mm256_add_epi32(acc, _mm256_sad_epu8(in_bytes, _mm256_setzero_si256()));
}

#include "kernels/common/codes_body.h"

#include "kernels/common/codes_plain_body.h"
