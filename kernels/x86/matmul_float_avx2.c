/* Products of the float types with f32 activations. Element e of a row goes to lane e % 8:
 *
 *   acc[l] = fma(w[8 b + l], a[8 b + l], acc[l])      b = 0, 1, 2 ...
 *
 * A last group of fewer than 8 is filled up with zeros. */
#include "kernels/x86/vec_avx2.h"

#include "kernels/common/matmul_tiles.h"

INLINE void add_eight(__m256 *acc, __m256 w, const act_row *a, int64_t i, int n) {
	UNROLL
	for (int t = 0; t < n; t++)
		acc[t] = _mm256_fmadd_ps(w, _mm256_loadu_ps(a[t].f + 8 * i), acc[t]);
}

INLINE void f32_step(__m256 *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	add_eight(acc, _mm256_loadu_ps((const float *)(const void *)block), a, i, n);
}
INLINE void f16_step(__m256 *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	add_eight(acc, _mm256_cvtph_ps(load_128(block)), a, i, n);
}
INLINE void bf16_step(__m256 *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	add_eight(acc, widen_bf16(load_128(block)), a, i, n);
}

/* The last k % 8 elements. */
INLINE void add_part(__m256 *acc, __m256 w, const act_row *a, int64_t i, int64_t n) {
	*acc = _mm256_fmadd_ps(w, _mm256_maskload_ps(a->f + 8 * i, lane_mask(n)), *acc);
}
INLINE void f32_tail(__m256 *acc, const uint8_t *p, const act_row *a, int64_t i, int64_t n) {
	add_part(acc, _mm256_maskload_ps((const float *)(const void *)p, lane_mask(n)), a, i, n);
}
INLINE void f16_tail(__m256 *acc, const uint8_t *p, const act_row *a, int64_t i, int64_t n) {
	add_part(acc, load_f16_tail((const rv_f16 *)(const void *)p, n), a, i, n);
}
INLINE void bf16_tail(__m256 *acc, const uint8_t *p, const act_row *a, int64_t i, int64_t n) {
	rv_bf16 part[8] = {0};
	memcpy(part, p, (size_t)n * sizeof *part);
	add_part(acc, widen_bf16(load_128(part)), a, i, n);
}

RV_DEFINE_MATMUL(rv_matmul_f32, {f32_step, 8 * sizeof(float), 8, 0, f32_tail})
RV_DEFINE_MATMUL(rv_matmul_f16, {f16_step, 8 * sizeof(rv_f16), 8, 0, f16_tail})
RV_DEFINE_MATMUL(rv_matmul_bf16, {bf16_step, 8 * sizeof(rv_bf16), 8, 0, bf16_tail})
