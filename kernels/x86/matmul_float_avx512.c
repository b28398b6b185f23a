/* Products of F32 and F16 with f32 activations. Element e of a row goes to lane e % 16:
 *
 *   acc[l] = fma(w[16 b + l], a[16 b + l], acc[l])      b = 0, 1, 2 ...
 *
 * A last group of fewer than 16 is filled up with zeros. */
#include "kernels/x86/vec_avx512.h"

#include "kernels/common/matmul_tiles.h"

INLINE void add_sixteen(vec *acc, vec w, const act_row *a, int64_t i, int n) {
	UNROLL
	for (int t = 0; t < n; t++)
		acc[t] = _mm512_fmadd_ps(w, _mm512_loadu_ps(a[t].f + 16 * i), acc[t]);
}
INLINE void f32_step(vec *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	add_sixteen(acc, _mm512_loadu_ps((const void *)block), a, i, n);
}
INLINE void f16_step(vec *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	add_sixteen(acc, _mm512_cvtph_ps(load_256(block)), a, i, n);
}

INLINE void add_part(vec *acc, vec w, const act_row *a, int64_t i, int64_t n) {
	*acc = _mm512_fmadd_ps(w, vec_load_part(a->f + 16 * i, vec_first(n)), *acc);
}
INLINE void f32_tail(vec *acc, const uint8_t *p, const act_row *a, int64_t i, int64_t n) {
	add_part(acc, vec_load_part((const float *)(const void *)p, vec_first(n)), a, i, n);
}
INLINE void f16_tail(vec *acc, const uint8_t *p, const act_row *a, int64_t i, int64_t n) {
	rv_f16 part[16] = {0};
	memcpy(part, p, (size_t)n * sizeof *part);
	add_part(acc, _mm512_cvtph_ps(load_256(part)), a, i, n);
}

RV_DEFINE_MATMUL(rv_matmul_f32, {f32_step, 16 * sizeof(float), 16, 0, f32_tail})
RV_DEFINE_MATMUL(rv_matmul_f16, {f16_step, 16 * sizeof(rv_f16), 16, 0, f16_tail})
