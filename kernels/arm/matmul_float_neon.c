/* Products of the float types with f32 activations. Element e of a row goes to lane e % 8:
 *
 *   acc[l] = fma(w[8 b + l], a[8 b + l], acc[l])      b = 0, 1, 2 ...
 *
 * A last group of fewer than 8 is filled up with zeros. */
#include "kernels/arm/vec_neon.h"

#include "kernels/common/matmul_tiles.h"

INLINE vec widen_f16_8(const void *p) {
	const uint16x8_t h = vreinterpretq_u16_u8(vld1q_u8(p));
	return (vec){widen_f16(vget_low_u16(h)), widen_f16(vget_high_u16(h))};
}
INLINE vec widen_bf16_8(const void *p) {
	const uint16x8_t h = vreinterpretq_u16_u8(vld1q_u8(p));
	return (vec){widen_bf16(vget_low_u16(h)), widen_bf16(vget_high_u16(h))};
}

INLINE void add_eight(vec *acc, vec w, const act_row *a, int64_t i, int n) {
	UNROLL
	for (int t = 0; t < n; t++)
		acc[t] = vec_fma(w, vec_load(a[t].f + 8 * i), acc[t]);
}

INLINE void f32_step(vec *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	add_eight(acc, vec_load((const float *)(const void *)block), a, i, n);
}
INLINE void f16_step(vec *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	add_eight(acc, widen_f16_8(block), a, i, n);
}
INLINE void bf16_step(vec *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	add_eight(acc, widen_bf16_8(block), a, i, n);
}

/* The last k % 8 elements. */
INLINE void add_part(vec *acc, vec w, const act_row *a, int64_t i, int64_t n) {
	*acc = vec_fma(w, vec_load_part(a->f + 8 * i, n), *acc);
}
INLINE void f32_tail(vec *acc, const uint8_t *p, const act_row *a, int64_t i, int64_t n) {
	add_part(acc, vec_load_part((const float *)(const void *)p, n), a, i, n);
}
INLINE void f16_tail(vec *acc, const uint8_t *p, const act_row *a, int64_t i, int64_t n) {
	rv_f16 part[8] = {0};
	memcpy(part, p, (size_t)n * sizeof *part);
	add_part(acc, widen_f16_8(part), a, i, n);
}
INLINE void bf16_tail(vec *acc, const uint8_t *p, const act_row *a, int64_t i, int64_t n) {
	rv_bf16 part[8] = {0};
	memcpy(part, p, (size_t)n * sizeof *part);
	add_part(acc, widen_bf16_8(part), a, i, n);
}

RV_DEFINE_MATMUL(rv_matmul_f32, {f32_step, 8 * sizeof(float), 8, 0, f32_tail})
RV_DEFINE_MATMUL(rv_matmul_f16, {f16_step, 8 * sizeof(rv_f16), 8, 0, f16_tail})
RV_DEFINE_MATMUL(rv_matmul_bf16, {bf16_step, 8 * sizeof(rv_bf16), 8, 0, bf16_tail})
