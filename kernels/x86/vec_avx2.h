/* What the shared bodies (matmul_tiles.h, gemm_body.h, attention_body.h) call a vector: eight lanes. */
#ifndef RV_KERNELS_X86_VEC_AVX2_H
#define RV_KERNELS_X86_VEC_AVX2_H

#include "kernels/x86/half_columns.h"

typedef __m256 vec;
typedef __m256i vec_mask;
enum { VEC_LANES = 8, VEC_REGISTERS = 16 };
#define LEVEL_NAME(name) name##_avx2

INLINE vec vec_zero(void) {
	return _mm256_setzero_ps();
}
INLINE vec vec_splat(const float *p) {
	return _mm256_broadcast_ss(p);
}
INLINE vec vec_set(float x) {
	return _mm256_set1_ps(x);
}
/* a b + c */
INLINE vec vec_fma(vec a, vec b, vec c) {
	return _mm256_fmadd_ps(a, b, c);
}
INLINE vec vec_add(vec a, vec b) {
	return _mm256_add_ps(a, b);
}
INLINE vec vec_sub(vec a, vec b) {
	return _mm256_sub_ps(a, b);
}
INLINE vec vec_mul(vec a, vec b) {
	return _mm256_mul_ps(a, b);
}
INLINE vec vec_div(vec a, vec b) {
	return _mm256_div_ps(a, b);
}
INLINE vec vec_max(vec a, vec b) { /* b where either is NaN */
	return _mm256_max_ps(a, b);
}
INLINE vec vec_abs(vec v) {
	return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v);
}
INLINE float vec_max_lane(vec v) {
	return max_lanes(v);
}
INLINE vec vec_exp(vec x) {
	return exp_256(x);
}
INLINE float vec_sum(vec v) {
	return sum_lanes(v);
}
INLINE vec_mask vec_first(int64_t n) {
	return lane_mask(n);
}
INLINE vec vec_load(const float *p) {
	return _mm256_loadu_ps(p);
}
INLINE void vec_store(float *p, vec v) {
	_mm256_storeu_ps(p, v);
}
INLINE vec vec_load_f16(const rv_f16 *p) {
	return _mm256_cvtph_ps(load_128(p));
}
/* Part `part` of sixteen values. */
INLINE vec vec_widen(half16 h, int part) {
	return _mm256_cvtph_ps(part ? _mm256_extracti128_si256(h, 1) : _mm256_castsi256_si128(h));
}
/* Lanes off are zero, and their memory is not touched. */
INLINE vec vec_load_part(const float *p, vec_mask mask) {
	return _mm256_maskload_ps(p, mask);
}
INLINE void vec_store_part(float *p, vec_mask mask, vec v) {
	_mm256_maskstore_ps(p, mask, v);
}
/* Lanes from n on replaced by -inf: in no maximum and, as exponents, in no sum. */
INLINE vec vec_or_minus_inf(vec v, int64_t n) {
	const vec on = _mm256_castsi256_ps(lane_mask(n < VEC_LANES ? n : VEC_LANES));
	return _mm256_blendv_ps(_mm256_set1_ps(-INFINITY), v, on);
}

#endif
