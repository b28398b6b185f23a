/* Products of the float types with f32 activations. Element e of a row goes to lane e % 8:
 *
 *   acc[l] = fma(w[8 b + l], a[8 b + l], acc[l])      b = 0, 1, 2 ...
 *
 * A last group of fewer than 8 is filled up with zeros. */
#include "kernels/x86/matmul_avx2.h"

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
INLINE __m256 f32_tail(const uint8_t *p, int64_t n) {
	return _mm256_maskload_ps((const float *)(const void *)p, lane_mask(n));
}
INLINE __m256 f16_tail(const uint8_t *p, int64_t n) {
	return load_f16_tail((const rv_f16 *)(const void *)p, n);
}
INLINE __m256 bf16_tail(const uint8_t *p, int64_t n) {
	rv_bf16 part[8] = {0};
	memcpy(part, p, (size_t)n * sizeof *part);
	return widen_bf16(load_128(part));
}

#define RV_DEFINE_FLOAT_MATMUL(name, bytes)                                                            \
	void rv_matmul_##name##_avx2(float *y, int64_t ldy, const void *w, size_t w_stride,            \
	                             const void *a, size_t a_stride, int64_t k, int64_t rows,          \
	                             int64_t n_tok) {                                                  \
		const matmul_args args = {y, ldy, w, w_stride, a, a_stride, k, rows, n_tok};           \
		matmul_all(&args, (matmul_type){name##_step, 8 * (bytes), 8, name##_tail});            \
	}                                                                                              \
	void rv_matmul_float_##name##_avx2(float *y, int64_t ldy, const void *w, size_t w_stride,      \
	                                   const void *a, size_t a_stride, int64_t k, int64_t rows,    \
	                                   int64_t n_tok) {                                            \
		rv_matmul_##name##_avx2(y, ldy, w, w_stride, a, a_stride, k, rows, n_tok);             \
	}

RV_DEFINE_FLOAT_MATMUL(f32, sizeof(float))
RV_DEFINE_FLOAT_MATMUL(f16, sizeof(rv_f16))
RV_DEFINE_FLOAT_MATMUL(bf16, sizeof(rv_bf16))
