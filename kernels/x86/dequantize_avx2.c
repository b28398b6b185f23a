/* Decoding of weight rows. Codes become f32 eight at a time; scale and minimum follow in the order of
 * the formats' definition, (d * scale) * q - (dmin * min), each step rounded, so that every level and
 * ggml give the same bits. */
#include "kernels/x86/simd_avx2.h"

void rv_dequantize_f32_avx2(float *y, const void *x, int64_t n) {
	if (n > 0)
		memcpy(y, x, (size_t)n * sizeof *y);
}

void rv_dequantize_f16_avx2(float *y, const void *x, int64_t n) {
	const rv_f16 *h = x;
	int64_t i = 0;
	for (; i + 8 <= n; i += 8)
		_mm256_storeu_ps(y + i, _mm256_cvtph_ps(load_128(h + i)));
	if (i < n)
		_mm256_maskstore_ps(y + i, lane_mask(n - i), load_f16_tail(h + i, n - i));
}

void rv_dequantize_bf16_avx2(float *y, const void *x, int64_t n) {
	const rv_bf16 *h = x;
	int64_t i = 0;
	for (; i + 8 <= n; i += 8)
		_mm256_storeu_ps(y + i, widen_bf16(load_128(h + i)));
	for (; i < n; i++) {
		rv_bf16 one;
		memcpy(&one, h + i, sizeof one);
		y[i] = rv_bf16_to_f32(one);
	}
}

/* 8 signed bytes as f32. */
INLINE __m256 widen_eight(__m128i bytes) {
	return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
}

/* y[0..16) = d q, plus (add) or minus (sub) m: three forms, since x + 0 would turn -0 into 0. */
INLINE void store_scaled(float *y, __m128i q, __m256 d) {
	_mm256_storeu_ps(y, _mm256_mul_ps(d, widen_eight(q)));
	_mm256_storeu_ps(y + 8, _mm256_mul_ps(d, widen_eight(_mm_srli_si128(q, 8))));
}
INLINE void store_plus(float *y, __m128i q, __m256 d, __m256 m) {
	_mm256_storeu_ps(y, _mm256_add_ps(_mm256_mul_ps(d, widen_eight(q)), m));
	_mm256_storeu_ps(y + 8, _mm256_add_ps(_mm256_mul_ps(d, widen_eight(_mm_srli_si128(q, 8))), m));
}
INLINE void store_minus(float *y, __m128i q, __m256 d, __m256 m) {
	_mm256_storeu_ps(y, _mm256_sub_ps(_mm256_mul_ps(d, widen_eight(q)), m));
	_mm256_storeu_ps(y + 8, _mm256_sub_ps(_mm256_mul_ps(d, widen_eight(_mm_srli_si128(q, 8))), m));
}

INLINE __m128i low_nibbles(__m128i v) {
	return _mm_and_si128(v, _mm_set1_epi8(15));
}
INLINE __m128i high_nibbles(__m128i v) {
	return low_nibbles(_mm_srli_epi16(v, 4));
}
/* Bits 2 shift and 2 shift + 1 of each byte. */
INLINE __m128i two_bits(__m128i v, int shift) {
	return _mm_and_si128(_mm_srl_epi16(v, _mm_cvtsi32_si128(shift)), _mm_set1_epi8(3));
}
/* `value` in the bytes of v that have `bit` set. */
INLINE __m128i where_bit(__m128i v, int bit, int value) {
	const __m128i mask = _mm_set1_epi8((char)(1 << bit));
	return _mm_and_si128(_mm_cmpeq_epi8(_mm_and_si128(v, mask), mask), _mm_set1_epi8((char)value));
}
/* 16 bits to 16 bytes of 0 or 16. */
INLINE __m128i fifth_bits(const uint8_t *p) {
	const __m128i byte = _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
	const __m128i bit = _mm_set1_epi64x((long long)0x8040201008040201ull);
	const __m128i v = _mm_shuffle_epi8(_mm_cvtsi32_si128(p[0] | p[1] << 8), byte);
	return _mm_and_si128(_mm_cmpeq_epi8(_mm_and_si128(v, bit), bit), _mm_set1_epi8(16));
}

/* ---- blocks of 32 ---- */

INLINE void decode_q4_0(float *y, const rv_q4_0 *b) {
	const __m128i q = load_128(b->qs), centre = _mm_set1_epi8(8);
	const __m256 d = splat_f16(&b->d);
	store_scaled(y, _mm_sub_epi8(low_nibbles(q), centre), d);
	store_scaled(y + 16, _mm_sub_epi8(high_nibbles(q), centre), d);
}
INLINE void decode_q4_1(float *y, const rv_q4_1 *b) {
	const __m128i q = load_128(b->qs);
	const __m256 d = splat_f16(&b->d), m = splat_f16(&b->m);
	store_plus(y, low_nibbles(q), d, m);
	store_plus(y + 16, high_nibbles(q), d, m);
}
INLINE void decode_q5_0(float *y, const rv_q5_0 *b) {
	const __m128i q = load_128(b->qs), centre = _mm_set1_epi8(16);
	const __m128i lo = _mm_or_si128(low_nibbles(q), fifth_bits(b->qh));
	const __m128i hi = _mm_or_si128(high_nibbles(q), fifth_bits(b->qh + 2));
	const __m256 d = splat_f16(&b->d);
	store_scaled(y, _mm_sub_epi8(lo, centre), d);
	store_scaled(y + 16, _mm_sub_epi8(hi, centre), d);
}
INLINE void decode_q5_1(float *y, const rv_q5_1 *b) {
	const __m128i q = load_128(b->qs);
	const __m256 d = splat_f16(&b->d), m = splat_f16(&b->m);
	store_plus(y, _mm_or_si128(low_nibbles(q), fifth_bits(b->qh)), d, m);
	store_plus(y + 16, _mm_or_si128(high_nibbles(q), fifth_bits(b->qh + 2)), d, m);
}
INLINE void decode_q8_0(float *y, const rv_q8_0 *b) {
	const __m256 d = splat_f16(&b->d);
	store_scaled(y, load_128(b->qs), d);
	store_scaled(y + 16, load_128(b->qs + 16), d);
}

/* ---- super-blocks of 256 ---- */

INLINE __m256 scaled(__m256 d, int scale) {
	return _mm256_mul_ps(d, _mm256_set1_ps((float)scale));
}

INLINE void decode_q2_k(float *y, const rv_q2_k *b) {
	const __m256 d = splat_f16(&b->d), dmin = splat_f16(&b->dmin);
	for (int j = 0; j < 16; j++) {
		/* 128 elements to 32 bytes: sub-block j has bytes 16 (j % 2) of half j / 8 */
		const __m128i q = load_128(b->qs + 32 * (j / 8) + 16 * (j % 2));
		store_minus(y + 16 * j, two_bits(q, j % 8 / 2 * 2), scaled(d, b->scales[j] & 15),
		            scaled(dmin, b->scales[j] >> 4));
	}
}
INLINE void decode_q3_k(float *y, const rv_q3_k *b) {
	const __m256 d = splat_f16(&b->d);
	for (int j = 0; j < 16; j++) {
		const __m128i q = load_128(b->qs + 32 * (j / 8) + 16 * (j % 2));
		const __m128i high = where_bit(load_128(b->hmask + 16 * (j % 2)), j / 2, 4);
		const __m128i code = _mm_or_si128(two_bits(q, j % 8 / 2 * 2), high);
		const int low_bits = b->scales[j % 8] >> (j / 8 * 4) & 15;
		const int high_bits = b->scales[8 + j % 4] >> (j / 4 * 2) & 3;
		store_scaled(y + 16 * j, _mm_sub_epi8(code, _mm_set1_epi8(4)),
		             scaled(d, (low_bits | high_bits << 4) - 32));
	}
}

/* 6-bit scale and minimum of sub-block j of 8. */
INLINE int scale_k4(const uint8_t *s, int j) {
	return j < 4 ? s[j] & 63 : (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
}
INLINE int min_k4(const uint8_t *s, int j) {
	return j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | s[j] >> 6 << 4;
}

/* Q4_K and Q5_K; high: fifth bits, or NULL. */
INLINE void decode_q45_k(float *y, const void *d_dmin, const uint8_t *scales, const uint8_t *low,
                         const uint8_t *high) {
	__m256 d, dmin;
	splat_f16_pair(&d, &dmin, d_dmin);
	for (int j = 0; j < 8; j++) {
		const __m256 scale = scaled(d, scale_k4(scales, j)),
		             min = scaled(dmin, min_k4(scales, j));
		for (int h = 0; h < 2; h++) {
			const __m128i both = load_128(low + 32 * (j / 2) + 16 * h);
			__m128i q = j % 2 ? high_nibbles(both) : low_nibbles(both);
			if (high)
				q = _mm_or_si128(q, where_bit(load_128(high + 16 * h), j, 16));
			store_minus(y + 32 * j + 16 * h, q, scale, min);
		}
	}
}
INLINE void decode_q4_k(float *y, const rv_q4_k *b) {
	decode_q45_k(y, &b->d, b->scales, b->qs, NULL);
}
INLINE void decode_q5_k(float *y, const rv_q5_k *b) {
	decode_q45_k(y, &b->d, b->scales, b->qs, b->qh);
}
INLINE void decode_q6_k(float *y, const rv_q6_k *b) {
	const __m256 d = splat_f16(&b->d);
	for (int j = 0; j < 16; j++) {
		/* sub-blocks 0..3 of a half are the low nibbles of its 64 bytes, 4..7 the high ones */
		const __m128i both = load_128(b->ql + 64 * (j / 8) + 16 * (j % 4));
		const __m128i low = j % 8 < 4 ? low_nibbles(both) : high_nibbles(both);
		const __m128i high =
		        two_bits(load_128(b->qh + 32 * (j / 8) + 16 * (j % 2)), j % 8 / 2 * 2);
		const __m128i code = _mm_or_si128(low, _mm_slli_epi16(high, 4));
		store_scaled(y + 16 * j, _mm_sub_epi8(code, _mm_set1_epi8(32)),
		             scaled(d, b->scales[j]));
	}
}

#define RV_DEFINE_DEQUANTIZE(type, elems)                                                              \
	void rv_dequantize_##type##_avx2(float *y, const void *x, int64_t n) {                         \
		for (int64_t i = 0; i < n / (elems); i++)                                              \
			decode_##type(y + i * (elems), (const rv_##type *)x + i);                      \
	}
RV_DEFINE_DEQUANTIZE(q4_0, RV_QK)
RV_DEFINE_DEQUANTIZE(q4_1, RV_QK)
RV_DEFINE_DEQUANTIZE(q5_0, RV_QK)
RV_DEFINE_DEQUANTIZE(q5_1, RV_QK)
RV_DEFINE_DEQUANTIZE(q8_0, RV_QK)
RV_DEFINE_DEQUANTIZE(q2_k, RV_QKK)
RV_DEFINE_DEQUANTIZE(q3_k, RV_QKK)
RV_DEFINE_DEQUANTIZE(q4_k, RV_QKK)
RV_DEFINE_DEQUANTIZE(q5_k, RV_QKK)
RV_DEFINE_DEQUANTIZE(q6_k, RV_QKK)
