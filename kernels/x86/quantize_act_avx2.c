/* Rounding of activation rows, to the bit as kernels_internal.h says. */
#include "kernels/x86/simd_avx2.h"

void rv_quantize_act_f32_avx2(void *y, const float *x, int64_t k) {
	if (k > 0)
		memcpy(y, x, (size_t)k * sizeof *x);
}

/* max|x| of n elements, a multiple of 32; NaN or infinity when there is one. As integers, magnitudes
 * order like the numbers and NaN comes out on top. */
INLINE float max_magnitude(const float *x, int n) {
	const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
	__m256i max[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
	                  _mm256_setzero_si256()};
	for (int i = 0; i < n; i += 32) {
		UNROLL
		for (int j = 0; j < 4; j++)
			max[j] = _mm256_max_epi32(max[j],
			                          _mm256_and_si256(load_256(x + i + 8 * j), magnitude));
	}
	const __m256i all =
	        _mm256_max_epi32(_mm256_max_epi32(max[0], max[1]), _mm256_max_epi32(max[2], max[3]));
	__m128i m = _mm_max_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
	m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
	m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
	return _mm_cvtss_f32(_mm_castsi128_ps(m));
}

/* 32 elements to 32 codes. The packs work within halves; the permutation puts the fours in order. */
INLINE __m256i codes_of(const float *x, __m256 inverse) {
	__m256i c[4];
	UNROLL
	for (int j = 0; j < 4; j++)
		c[j] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * j), inverse));
	const __m256i lo = _mm256_packs_epi32(c[0], c[1]), hi = _mm256_packs_epi32(c[2], c[3]);
	const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
	return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(lo, hi), order);
}

/* Scale of a block and its inverse; the inverse is 0 where the codes are to be 0. */
INLINE float block_scale(float max, float *inverse) {
	const int finite = max < INFINITY;
	*inverse = finite && max >= RV_ACT_TINY ? 127 / max : 0;
	if (!finite)
		return NAN;
	return *inverse > 0 ? max / 127 : 0;
}

/* The scale as an f16 holds it, where it is a normal one. */
INLINE float half_scale(float d) {
	return d >= RV_F16_MIN_NORMAL && d <= RV_F16_MAX ? _cvtsh_ss(_cvtss_sh(d, 0)) : d;
}

/* All codes of a block, where 0 * NaN would not do. */
INLINE __m256i codes_or_zero(const float *x, float inverse) {
	return inverse > 0 ? codes_of(x, _mm256_set1_ps(inverse)) : _mm256_setzero_si256();
}

/* Sums of 16 codes: the low half's in every lane pair of the first half, and so on. */
INLINE __m256i sums_of_four(__m256i codes) {
	const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), codes);
	return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

void rv_quantize_act_q8_avx2(void *y, const float *x, int64_t k) {
	int8_t *q = y;
	float *d = (float *)(void *)(q + rv_act_scale_offset(k));
	float *s = d + k / RV_QK;
	for (int64_t i = 0; i < k / RV_QK; i++) {
		float inverse;
		d[i] = half_scale(block_scale(max_magnitude(x + RV_QK * i, RV_QK), &inverse));
		const __m256i codes = codes_or_zero(x + RV_QK * i, inverse);
		_mm256_storeu_si256((__m256i *)(void *)(q + RV_QK * i), codes);
		/* Whole numbers below 2^24: this sum is exact. */
		s[i] = d[i] * sum_lanes(_mm256_cvtepi32_ps(sums_of_four(codes)));
	}
}

void rv_quantize_act_q8k_avx2(void *y, const float *x, int64_t k) {
	int8_t *q = y;
	float *d = (float *)(void *)(q + rv_act_scale_offset(k));
	int16_t *b = (int16_t *)(void *)(d + k / RV_QKK);
	for (int64_t i = 0; i < k / RV_QKK; i++) {
		float inverse;
		d[i] = block_scale(max_magnitude(x + RV_QKK * i, RV_QKK), &inverse);
		for (int64_t e = RV_QKK * i; e < RV_QKK * (i + 1); e += 32) {
			const __m256i codes = codes_or_zero(x + e, inverse);
			_mm256_storeu_si256((__m256i *)(void *)(q + e), codes);
			__m256i sums = sums_of_four(codes);
			sums = _mm256_hadd_epi32(sums, sums);
			sums = _mm256_hadd_epi32(sums, sums);
			b[e / 16] = (int16_t)_mm256_extract_epi16(sums, 0);
			b[e / 16 + 1] = (int16_t)_mm256_extract_epi16(sums, 8);
		}
	}
}
