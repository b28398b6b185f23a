/* Products of the 32-element types with Q8 activations. The block's dot product is summed in integers,
 * exactly: lane l of dot holds elements 4l .. 4l + 3. Then, for one block:
 *
 *   Q8_0            acc[l] = fma(d * da, dot[l], acc[l])
 *   Q4_0 ... Q5_1   acc[l] = acc[l] + fma(d * da, dot[l], m * sa[l])
 *
 * with unsigned codes and x = d q + m (m = -8 d and -16 d for Q4_0 and Q5_0); sa is the activation sum
 * in lane 0 and zero in the others. */
#include "kernels/x86/vec_avx2.h"

#include "kernels/common/matmul_tiles.h"

/* Sums of four neighbours. u: codes as magnitudes, s: activations, signed so that products match; pairs
 * stay below 2 * 128 * 127 < 2^15. */
INLINE __m256 dot_bytes(__m256i u, __m256i s) {
	const __m256i pairs = _mm256_maddubs_epi16(u, s);
	return _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

INLINE void q8_0_step(__m256 *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	const rv_q8_0 *w = (const void *)block;
	const __m256i codes = load_256(w->qs), magnitude = _mm256_abs_epi8(codes);
	const __m256 d = splat_f16(&w->d);
	UNROLL
	for (int t = 0; t < n; t++) {
		const __m256i q = _mm256_sign_epi8(load_256(a[t].q + 32 * i), codes);
		const __m256 scale = _mm256_mul_ps(d, _mm256_broadcast_ss(a[t].d + i));
		acc[t] = _mm256_fmadd_ps(scale, dot_bytes(magnitude, q), acc[t]);
	}
}

INLINE void add_block(__m256 *acc, __m256i codes, __m256 d, __m256 m, const act_row *a, int64_t i,
                      int n) {
	UNROLL
	for (int t = 0; t < n; t++) {
		const __m256 scale = _mm256_mul_ps(d, _mm256_broadcast_ss(a[t].d + i));
		const __m256 sum = _mm256_zextps128_ps256(_mm_load_ss(a[t].s + i));
		const __m256 x = dot_bytes(codes, load_256(a[t].q + 32 * i));
		acc[t] = _mm256_add_ps(acc[t], _mm256_fmadd_ps(scale, x, _mm256_mul_ps(m, sum)));
	}
}

/* 16 bytes to 32 codes: low nibbles, then high nibbles. */
INLINE __m256i unpack_nibbles(const uint8_t *p) {
	const __m128i low = load_128(p), high = _mm_srli_epi16(low, 4);
	return _mm256_and_si256(_mm256_set_m128i(high, low), _mm256_set1_epi8(15));
}
/* 32 bits to 32 bytes of 0 or 16. */
INLINE __m256i unpack_fifth_bits(const uint8_t *p) {
	const __m256i byte = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2,
	                                      2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
	const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201ull);
	const __m256i spread = _mm256_shuffle_epi8(_mm256_set1_epi32((int)load_u32(p)), byte);
	const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit);
	return _mm256_and_si256(set, _mm256_set1_epi8(16));
}
INLINE __m256i unpack_five_bits(const uint8_t *qs, const uint8_t *qh) {
	return _mm256_or_si256(unpack_nibbles(qs), unpack_fifth_bits(qh));
}

INLINE void q4_0_step(__m256 *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	const rv_q4_0 *w = (const void *)block;
	const __m256 d = splat_f16(&w->d);
	add_block(acc, unpack_nibbles(w->qs), d, _mm256_mul_ps(d, _mm256_set1_ps(-8)), a, i, n);
}
INLINE void q5_0_step(__m256 *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	const rv_q5_0 *w = (const void *)block;
	const __m256 d = splat_f16(&w->d), m = _mm256_mul_ps(d, _mm256_set1_ps(-16));
	add_block(acc, unpack_five_bits(w->qs, w->qh), d, m, a, i, n);
}
INLINE void q4_1_step(__m256 *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	const rv_q4_1 *w = (const void *)block;
	__m256 d, m;
	splat_f16_pair(&d, &m, &w->d);
	add_block(acc, unpack_nibbles(w->qs), d, m, a, i, n);
}
INLINE void q5_1_step(__m256 *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	const rv_q5_1 *w = (const void *)block;
	__m256 d, m;
	splat_f16_pair(&d, &m, &w->d);
	add_block(acc, unpack_five_bits(w->qs, w->qh), d, m, a, i, n);
}

RV_DEFINE_MATMUL(rv_matmul_q4_0, {q4_0_step, sizeof(rv_q4_0), RV_QK, RV_QK, NULL})
RV_DEFINE_MATMUL(rv_matmul_q4_1, {q4_1_step, sizeof(rv_q4_1), RV_QK, RV_QK, NULL})
RV_DEFINE_MATMUL(rv_matmul_q5_0, {q5_0_step, sizeof(rv_q5_0), RV_QK, RV_QK, NULL})
RV_DEFINE_MATMUL(rv_matmul_q5_1, {q5_1_step, sizeof(rv_q5_1), RV_QK, RV_QK, NULL})
RV_DEFINE_MATMUL(rv_matmul_q8_0, {q8_0_step, sizeof(rv_q8_0), RV_QK, RV_QK, NULL})
