/* Small pieces the sources of AVX2 and above share: unaligned and partial loads, f16 scales, lane sums,
 * exp. */
#ifndef RV_KERNELS_X86_SIMD_AVX2_H
#define RV_KERNELS_X86_SIMD_AVX2_H

#include "kernels/kernels_internal.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

/* Loops over the accumulators of a register tile must disappear, or the tile lives in memory.
 * RV_EMULATED: intrinsics are calls into an emulation, which all of that would only make slow to
 * compile. */
#ifdef RV_EMULATED
#define INLINE static inline
#define UNROLL
#else
#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#endif

/* sum += x, here and now: gcc would rather collect the terms of a whole block, spill them, and add them
 * up in a tree at the end. */
#define ADD_NOW(sum, x)                                                                                \
	do {                                                                                           \
		(sum) = _mm256_add_epi32((sum), (x));                                                  \
		__asm__("" : "+x"(sum));                                                               \
	} while (0)

/* For a value with two uses, which gcc would rather load twice. */
INLINE __m256i load_once_256(const void *p) {
	__m256i v = _mm256_loadu_si256((const __m256i *)p);
#ifndef RV_EMULATED
	__asm__("" : "+x"(v));
#endif
	return v;
}
INLINE __m256i load_256(const void *p) {
	return _mm256_loadu_si256((const __m256i *)p);
}
INLINE __m128i load_128(const void *p) {
	return _mm_loadu_si128((const __m128i *)p);
}
/* The same 16 bytes in both halves. */
INLINE __m256i load_128_twice(const void *p) {
	return _mm256_broadcastsi128_si256(load_128(p));
}
INLINE uint32_t load_u32(const void *p) {
	uint32_t v;
	memcpy(&v, p, sizeof v);
	return v;
}

/* One f16, of any alignment, in all lanes, as f32. */
INLINE __m256 splat_f16(const void *p) {
	short h;
	memcpy(&h, p, sizeof h);
	return _mm256_cvtph_ps(_mm_set1_epi16(h));
}
/* Two adjacent f16, each in all lanes. */
INLINE void splat_f16_pair(__m256 *first, __m256 *second, const void *p) {
	const __m128 both = _mm_cvtph_ps(_mm_set1_epi32((int)load_u32(p)));
	*first = _mm256_broadcastss_ps(both);
	*second = _mm256_broadcastss_ps(_mm_movehdup_ps(both));
}

/* Ones in the first n lanes, 0 <= n <= 8. */
INLINE __m256i lane_mask(int64_t n) {
	return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
/* n < 8 values, zeros after them; nothing beyond is read. */
INLINE __m256 load_f16_tail(const rv_f16 *p, int64_t n) {
	rv_f16 part[8] = {0};
	memcpy(part, p, (size_t)n * sizeof *p);
	return _mm256_cvtph_ps(load_128(part));
}
INLINE __m256 widen_bf16(__m128i h) {
	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

/* The fixed tree over 8 lanes: (l + l4), then (+2), then (+1). */
INLINE float sum_lanes(__m256 v) {
	__m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
	s = _mm_add_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
INLINE float max_lanes(__m256 v) {
	__m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
	s = _mm_max_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

/* e^x, error below 2 ulp. Underflow is gradual, -inf gives exactly 0, overflow gives infinity, NaN
 * stays NaN, e^0 is exactly 1. x = n ln 2 + r with |r| <= ln 2 / 2; e^r by its Taylor polynomial
 * of degree 7 (truncation 6e-9); 2^n in two factors, since n leaves the exponent range on both sides.
 */
INLINE __m256 exp_256(__m256 x) {
	/* The clamps keep x as the second operand, the one MINPS and MAXPS return for NaN. */
	x = _mm256_max_ps(_mm256_set1_ps(-105.0f), _mm256_min_ps(_mm256_set1_ps(90.0f), x));
	const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(0x1.715476p+0f)),
	                                 _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	__m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62e400p-1f), x);
	r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.7f7d1cp-20f), r);
	__m256 p = _mm256_set1_ps(1.0f / 5040);
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 720));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 120));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 24));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 6));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.5f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
	const __m256i e = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(e, 1);
	const __m256i bias = _mm256_set1_epi32(127);
	const __m256i lo = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
	const __m256i hi = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(e, half), bias), 23);
	return _mm256_mul_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(lo)), _mm256_castsi256_ps(hi));
}

#endif
