/* Found before the compiler's <immintrin.h>: AVX-512 in portable C, by SIMDe, and what SIMDe 0.7 lacks.
 */
#ifndef RV_TESTS_EMULATED_IMMINTRIN_H
#define RV_TESTS_EMULATED_IMMINTRIN_H

#define SIMDE_NO_NATIVE
#define SIMDE_NO_INLINE
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>

#include <stdint.h>
#include <string.h>

#define RV_EMULATED
typedef simde__mmask16 __mmask16;
typedef simde__mmask64 __mmask64;
#undef _MM_FROUND_NO_EXC
#undef _MM_FROUND_TO_NEAREST_INT
#define _MM_FROUND_NO_EXC SIMDE_MM_FROUND_NO_EXC
#define _MM_FROUND_TO_NEAREST_INT SIMDE_MM_FROUND_TO_NEAREST_INT
/* Aliases that SIMDe 0.7 gives the wrong parameters. */
#undef _mm512_madd_epi16
#define _mm512_madd_epi16(a, b) simde_mm512_madd_epi16(a, b)
#undef _mm512_maddubs_epi16
#define _mm512_maddubs_epi16(a, b) simde_mm512_maddubs_epi16(a, b)

/* SIMDe's own masked forms read and write all lanes. */
#undef _mm512_maskz_loadu_ps
#undef _mm512_mask_storeu_ps
#undef _mm256_maskload_ps
#undef _mm256_maskstore_ps

static inline __m512 _mm512_maskz_loadu_ps(__mmask16 mask, const float *p) {
	float v[16] = {0};
	for (int i = 0; i < 16; i++) {
		if (mask >> i & 1)
			v[i] = p[i];
	}
	return _mm512_loadu_ps(v);
}

#undef _mm512_maskz_loadu_epi8
static inline __m512i _mm512_maskz_loadu_epi8(__mmask64 mask, const void *p) {
	uint8_t v[64] = {0};
	for (int i = 0; i < 64; i++) {
		if (mask >> i & 1)
			v[i] = ((const uint8_t *)p)[i];
	}
	return _mm512_loadu_si512(v);
}

static inline void _mm512_mask_storeu_ps(float *p, __mmask16 mask, __m512 x) {
	float v[16];
	_mm512_storeu_ps(v, x);
	for (int i = 0; i < 16; i++) {
		if (mask >> i & 1)
			p[i] = v[i];
	}
}

static inline __m256 _mm256_maskload_ps(const float *p, __m256i mask) {
	float v[8] = {0};
	int32_t m[8];
	memcpy(m, &mask, sizeof m);
	for (int i = 0; i < 8; i++) {
		if (m[i] < 0)
			v[i] = p[i];
	}
	return _mm256_loadu_ps(v);
}

static inline void _mm256_maskstore_ps(float *p, __m256i mask, __m256 x) {
	float v[8];
	int32_t m[8];
	_mm256_storeu_ps(v, x);
	memcpy(m, &mask, sizeof m);
	for (int i = 0; i < 8; i++) {
		if (m[i] < 0)
			p[i] = v[i];
	}
}

static inline __m512 _mm512_cvtph_ps(__m256i h) {
	const __m256 low = _mm256_cvtph_ps(_mm256_castsi256_si128(h));
	const __m256 high = _mm256_cvtph_ps(_mm256_extracti128_si256(h, 1));
	return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}

static inline __m512 _mm512_cvtepi32_ps(__m512i x) {
	int32_t n[16];
	float v[16];
	memcpy(n, &x, sizeof n);
	for (int i = 0; i < 16; i++)
		v[i] = (float)n[i];
	return _mm512_loadu_ps(v);
}

static inline __m256 _mm512_extractf32x8_ps(__m512 x, int half) {
	float v[16];
	_mm512_storeu_ps(v, x);
	return _mm256_loadu_ps(v + 8 * half);
}

#endif
