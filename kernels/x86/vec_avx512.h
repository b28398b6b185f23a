/* What the shared bodies (matmul_tiles.h, gemm_body.h, attention_body.h) call a vector: sixteen lanes.
 * The includer says which level it is: with RV_VNNI, names end in _vnni and integer products use the
 * dot product instructions. */
#ifndef RV_KERNELS_X86_VEC_AVX512_H
#define RV_KERNELS_X86_VEC_AVX512_H

#include "kernels/x86/half_columns.h"

typedef __m512 vec;
typedef __mmask16 vec_mask;
enum { VEC_LANES = 16, VEC_REGISTERS = 32 };
#ifdef RV_VNNI
#define LEVEL_NAME(name) name##_vnni
#else
#define LEVEL_NAME(name) name##_avx512
#endif

INLINE vec vec_zero(void) {
	return _mm512_setzero_ps();
}
INLINE vec vec_splat(const float *p) {
	return _mm512_set1_ps(*p);
}
INLINE vec vec_set(float x) {
	return _mm512_set1_ps(x);
}
/* a b + c */
INLINE vec vec_fma(vec a, vec b, vec c) {
	return _mm512_fmadd_ps(a, b, c);
}
INLINE vec vec_add(vec a, vec b) {
	return _mm512_add_ps(a, b);
}
INLINE vec vec_sub(vec a, vec b) {
	return _mm512_sub_ps(a, b);
}
INLINE vec vec_mul(vec a, vec b) {
	return _mm512_mul_ps(a, b);
}
INLINE vec vec_div(vec a, vec b) {
	return _mm512_div_ps(a, b);
}
INLINE vec vec_max(vec a, vec b) { /* b where either is NaN */
	return _mm512_max_ps(a, b);
}
INLINE vec vec_abs(vec v) {
	return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), v);
}
INLINE float vec_max_lane(vec v) {
	return max_lanes(_mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)));
}
/* e^x as exp_256 computes it; the factor 2^n, gradual underflow included, is one instruction. */
INLINE vec vec_exp(vec x) {
	x = _mm512_max_ps(_mm512_set1_ps(-105.0f), _mm512_min_ps(_mm512_set1_ps(90.0f), x));
	const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(0x1.715476p+0f)),
	                                      _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	__m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62e400p-1f), x);
	r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.7f7d1cp-20f), r);
	__m512 p = _mm512_set1_ps(1.0f / 5040);
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 720));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 120));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 24));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 6));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
	return _mm512_scalef_ps(p, n);
}
/* The fixed tree: lanes l and l + 8, then the tree over 8 lanes. */
INLINE float vec_sum(vec v) {
	return sum_lanes(_mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)));
}
INLINE vec_mask vec_first(int64_t n) {
	return (vec_mask)((1u << n) - 1);
}
INLINE vec vec_load(const float *p) {
	return _mm512_loadu_ps(p);
}
/* Part `part` of sixteen values: here, all of them. */
INLINE vec vec_widen(half16 h, int part) {
	(void)part;
	return _mm512_cvtph_ps(h);
}
INLINE void vec_store(float *p, vec v) {
	_mm512_storeu_ps(p, v);
}
INLINE vec vec_load_f16(const rv_f16 *p) {
	return _mm512_cvtph_ps(load_256(p));
}
/* Lanes off are zero, and their memory is not touched. */
INLINE vec vec_load_part(const float *p, vec_mask mask) {
	return _mm512_maskz_loadu_ps(mask, p);
}
INLINE void vec_store_part(float *p, vec_mask mask, vec v) {
	_mm512_mask_storeu_ps(p, mask, v);
}
/* Lanes from n on replaced by -inf: in no maximum and, as exponents, in no sum. */
INLINE vec vec_or_minus_inf(vec v, int64_t n) {
	return _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), vec_first(n < VEC_LANES ? n : VEC_LANES),
	                          v);
}

/* A value gcc must have in a register at this point: see ADD_NOW. */
#ifdef RV_EMULATED
#define KEEP(v) ((void)0)
#else
#define KEEP(v) __asm__("" : "+v"(v))
#endif

INLINE __m512i load_512(const void *p) {
	return _mm512_loadu_si512(p);
}
/* Two 256-bit vectors side by side. */
INLINE __m512i join(__m256i low, __m256i high) {
	return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}
INLINE __m512 join_ps(__m256 low, __m256 high) {
	return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}
/* Eight lanes, then eight zeros. */
INLINE __m512i widen(__m256i low) {
	return join(low, _mm256_setzero_si256());
}

/* One f16, of any alignment, in all lanes, as f32. */
INLINE __m512 splat_f16_512(const void *p) {
	short h;
	memcpy(&h, p, sizeof h);
	return _mm512_cvtph_ps(_mm256_set1_epi16(h));
}

/* sum + codes (unsigned) times q (signed), in fours. Without VNNI two neighbours first meet in 16 bits:
 * 2 * 128 * 127 < 2^15. */
INLINE __m512i add_dot(__m512i sum, __m512i codes, __m512i q) {
#ifdef RV_VNNI
	return _mm512_dpbusd_epi32(sum, codes, q);
#else
	const __m512i pairs = _mm512_maddubs_epi16(codes, q);
	return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
#endif
}
/* The same, with pairs weighted by 16-bit scales. */
INLINE __m512i add_dot_scaled(__m512i sum, __m512i codes, __m512i q, __m512i scales) {
	const __m512i pairs = _mm512_maddubs_epi16(codes, q);
#ifdef RV_VNNI
	return _mm512_dpwssd_epi32(sum, scales, pairs);
#else
	return _mm512_add_epi32(sum, _mm512_madd_epi16(scales, pairs));
#endif
}

#endif
