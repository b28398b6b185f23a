/* The integer products of AVX-512 and VNNI; include after vec_avx512.h. Both levels compute the same
 * whole numbers, and so the same results to the bit.
 *
 * Super-blocks of 256 (Q4_K, Q5_K, Q6_K): lane l of dot holds, of every 64 elements, numbers
 * 4l .. 4l + 3; lane l < 8 of the correction holds activation sums b[2l], b[2l + 1], the others 0. Then
 * acc[l] = fma(da, x[l], acc[l]), where x is fnma(dmin, mins[l], d * dot[l]) for Q4_K and Q5_K and
 * d * (dot[l] - 32 sums[l]) for Q6_K.
 *
 * Q8_0: two blocks a step; lane l < 8 holds elements 4l .. 4l + 3 of the even block, lane 8 + l those
 * of the odd one: acc[l] = fma(d * da, dot[l], acc[l]), each block with its own d and da. A last odd
 * block goes to the lower lanes; the upper ones add zero. */
#include "kernels/common/matmul_tiles.h"

/* ---- Q4_K, Q5_K ---- */

/* 12 bytes to scales 0..3, mins 0..3, scales 4..7, mins 4..7, a byte each. */
INLINE __m128i unpack_scales_mins(const uint8_t *packed) {
	uint64_t sm;
	memcpy(&sm, packed, sizeof sm);
	const uint64_t low = load_u32(packed + 8), nibbles = low | low >> 4 << 32;
	const uint64_t first = sm & 0x3f3f3f3f3f3f3f3f;
	const uint64_t last = (nibbles & 0x0f0f0f0f0f0f0f0f) | (sm >> 2 & 0x3030303030303030);
	return _mm_set_epi64x((long long)last, (long long)first);
}

/* Where scale j of unpack_scales_mins is, and its min. */
INLINE int scale_byte(int j) {
	return j < 4 ? j : j + 4;
}
/* Byte `index` zero-extended in the words of a shuffle. */
INLINE __m256i word_of_byte(int index) {
	return _mm256_set1_epi16((short)(0x8000 | index));
}

INLINE __m256i mins_of(__m128i sm) {
	const __m128i twice = _mm_setr_epi8(4, 4, 5, 5, 6, 6, 7, 7, 12, 12, 13, 13, 14, 14, 15, 15);
	return _mm256_cvtepu8_epi16(_mm_shuffle_epi8(sm, twice));
}

/* Bit 2c of every byte moved to bit 4; what crosses a byte is for the caller to mask off. Written out,
 * as shift counts have to be literal. */
INLINE __m512i field_at_4(__m512i h, int c) {
	switch (c) {
	case 0:
		return _mm512_slli_epi16(h, 4);
	case 1:
		return _mm512_slli_epi16(h, 2);
	case 2:
		return h;
	default:
		return _mm512_srli_epi16(h, 2);
	}
}

/* Both types; high: 32 bytes of fifth bits (bit j for sub-block j), or NULL. */
INLINE void q45_k_step(vec *acc, const void *d_dmin, const uint8_t *packed, const uint8_t *low,
                       const uint8_t *high, const act_row *a, int64_t i, int n) {
	const __m512i nibble = _mm512_set1_epi8(15), bit4 = _mm512_set1_epi8(16);
	const __m128i sm = unpack_scales_mins(packed);
	const __m512i sm4 = _mm512_broadcast_i32x4(sm);
	__m512i h = nibble, dot[TILE_TOKENS];
	if (high) /* the upper half a bit behind: sub-block 2c + 1 beside 2c */
		h = join(load_256(high), _mm256_srli_epi16(load_256(high), 1));
	UNROLL
	for (int t = 0; t < n; t++)
		dot[t] = _mm512_setzero_si512();
	UNROLL
	for (int c = 0; c < 4; c++) {
		const __m256i both = load_256(low + 32 * c);
		const __m512i where =
		        join(word_of_byte(scale_byte(2 * c)), word_of_byte(scale_byte(2 * c + 1)));
		const __m512i scales = _mm512_shuffle_epi8(sm4, where);
		__m512i q = _mm512_and_si512(join(both, _mm256_srli_epi16(both, 4)), nibble);
		if (high) {
			q = _mm512_or_si512(q, _mm512_and_si512(field_at_4(h, c), bit4));
		}
		UNROLL
		for (int t = 0; t < n; t++) {
			dot[t] = add_dot_scaled(dot[t], q, load_512(a[t].q + 256 * i + 64 * c), scales);
			KEEP(dot[t]);
		}
	}
	const __m256i mins = mins_of(sm);
	const vec d = splat_f16_512(d_dmin),
	          dmin = splat_f16_512((const uint8_t *)d_dmin + sizeof(rv_f16));
	UNROLL
	for (int t = 0; t < n; t++) {
		const __m512i offset = widen(_mm256_madd_epi16(mins, load_256(a[t].b + 16 * i)));
		vec x = _mm512_mul_ps(d, _mm512_cvtepi32_ps(dot[t]));
		x = _mm512_fnmadd_ps(dmin, _mm512_cvtepi32_ps(offset), x);
		acc[t] = _mm512_fmadd_ps(vec_splat(a[t].d + i), x, acc[t]);
	}
}

INLINE void q4_k_step(vec *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	const rv_q4_k *w = (const void *)block;
	q45_k_step(acc, &w->d, w->scales, w->qs, NULL, a, i, n);
}
INLINE void q5_k_step(vec *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	const rv_q5_k *w = (const void *)block;
	q45_k_step(acc, &w->d, w->scales, w->qs, w->qh, a, i, n);
}

/* ---- Q6_K ---- */

/* Scales 4v .. 4v + 3, eight words each. */
INLINE __m512i four_scales(__m256i scales, int v) {
	const __m512i quarter =
	        _mm512_setr_epi64(0, 0, 0x0001000100010001, 0x0001000100010001, 0x0002000200020002,
	                          0x0002000200020002, 0x0003000300030003, 0x0003000300030003);
	const __m512i from = _mm512_add_epi16(quarter, _mm512_set1_epi16((short)(4 * v)));
	return _mm512_permutexvar_epi16(from, widen(scales));
}

INLINE void q6_k_step(vec *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	const rv_q6_k *w = (const void *)block;
	const __m512i nibble = _mm512_set1_epi8(15), high = _mm512_set1_epi8(0x30);
	const __m256i scales = _mm256_cvtepi8_epi16(load_128(w->scales));
	__m512i dot[TILE_TOKENS];
	UNROLL
	for (int t = 0; t < n; t++)
		dot[t] = _mm512_setzero_si512();
	UNROLL
	for (int v = 0; v < 4; v++) {
		/* 64 elements: low nibbles of a half's 64 bytes for even v, high nibbles for odd; their
		 * two high bits are fields v % 2 * 2 (first 32) and v % 2 * 2 + 1 of the half's 32
		 * bytes. */
		const __m512i both = load_512(w->ql + 64 * (v / 2));
		const __m256i qh = load_256(w->qh + 32 * (v / 2));
		const __m512i fields = join(qh, _mm256_srli_epi16(qh, 2));
		const __m512i low = v % 2 ? _mm512_srli_epi16(both, 4) : both;
		const __m512i top = v % 2 ? fields : _mm512_slli_epi16(fields, 4);
		const __m512i q =
		        _mm512_or_si512(_mm512_and_si512(low, nibble), _mm512_and_si512(top, high));
		const __m512i s = four_scales(scales, v);
		UNROLL
		for (int t = 0; t < n; t++) {
			dot[t] = add_dot_scaled(dot[t], q, load_512(a[t].q + 256 * i + 64 * v), s);
			KEEP(dot[t]);
		}
	}
	const vec d = splat_f16_512(&w->d);
	UNROLL
	for (int t = 0; t < n; t++) {
		const __m256i sums = _mm256_madd_epi16(scales, load_256(a[t].b + 16 * i));
		const __m512i x = _mm512_sub_epi32(dot[t], widen(_mm256_slli_epi32(sums, 5)));
		acc[t] = _mm512_fmadd_ps(vec_splat(a[t].d + i), _mm512_mul_ps(d, _mm512_cvtepi32_ps(x)),
		                         acc[t]);
	}
}

/* ---- Q8_0 ---- */

/* Codes as magnitudes, their signs moved to the activations. */
INLINE __m512i dot_signed(__m512i codes, __m512i q) {
	const __mmask64 negative = _mm512_movepi8_mask(codes);
	const __m512i moved = _mm512_mask_sub_epi8(q, negative, _mm512_setzero_si512(), q);
	return add_dot(_mm512_setzero_si512(), _mm512_abs_epi8(codes), moved);
}

INLINE void q8_0_step(vec *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	const rv_q8_0 *w = (const void *)block;
	const __m512i codes = join(load_256(w[0].qs), load_256(w[1].qs));
	const vec d = join_ps(splat_f16(&w[0].d), splat_f16(&w[1].d));
	UNROLL
	for (int t = 0; t < n; t++) {
		const float *da = a[t].d + 2 * i;
		const vec scale =
		        _mm512_mul_ps(d, join_ps(_mm256_broadcast_ss(da), _mm256_broadcast_ss(da + 1)));
		const __m512i dot = dot_signed(codes, load_512(a[t].q + 64 * i));
		acc[t] = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(dot), acc[t]);
	}
}

INLINE void q8_0_tail(vec *acc, const uint8_t *block, const act_row *a, int64_t i, int64_t n) {
	const rv_q8_0 *w = (const void *)block;
	(void)n; /* always one block */
	const __m512i dot = dot_signed(widen(load_256(w->qs)), widen(load_256(a->q + 64 * i)));
	const __m256 scale = _mm256_mul_ps(splat_f16(&w->d), _mm256_broadcast_ss(a->d + 2 * i));
	const vec scales = join_ps(scale, _mm256_setzero_ps());
	*acc = _mm512_fmadd_ps(scales, _mm512_cvtepi32_ps(dot), *acc);
}

RV_DEFINE_MATMUL(rv_matmul_q4_k, {q4_k_step, sizeof(rv_q4_k), RV_QKK, RV_QKK, NULL})
RV_DEFINE_MATMUL(rv_matmul_q5_k, {q5_k_step, sizeof(rv_q5_k), RV_QKK, RV_QKK, NULL})
RV_DEFINE_MATMUL(rv_matmul_q6_k, {q6_k_step, sizeof(rv_q6_k), RV_QKK, RV_QKK, NULL})
RV_DEFINE_MATMUL(rv_matmul_q8_0, {q8_0_step, 2 * sizeof(rv_q8_0), 2 * RV_QK, RV_QK, q8_0_tail})
