/* Products of the K types with Q8K activations. A super-block of 256 elements is summed in integers,
 * exactly; then each of the 8 lanes takes one f32 update:
 *
 *   acc[l] = fma(da, x[l], acc[l])       da: the activation scale of the super-block
 *
 * where x is, for Q4_K, Q5_K and Q2_K, fnma(dmin, mins[l], d * dot[l]) and, for Q6_K and Q3_K, d *
 * dot[l]. Lane l of dot holds, of every 32 elements, numbers 4l .. 4l + 3; lane l of mins holds the
 * activation sums b[2l], b[2l + 1]. Products of 8-bit codes pair up in 16 bits without saturating:
 * 2 * 63 * 127 < 2^15. */
#include "kernels/x86/vec_avx2.h"

#include "kernels/common/matmul_tiles.h"

/* Word j of each half in all eight words of the half. */
#define WORD(j)                                                                                        \
	(2 * (j)), (2 * (j) + 1), (2 * (j)), (2 * (j) + 1), (2 * (j)), (2 * (j) + 1), (2 * (j)),       \
	        (2 * (j) + 1), (2 * (j)), (2 * (j) + 1), (2 * (j)), (2 * (j) + 1), (2 * (j)),          \
	        (2 * (j) + 1), (2 * (j)), (2 * (j) + 1)
/* Byte j, zero-extended to words. */
#define BYTE(j) (j), -1, (j), -1, (j), -1, (j), -1, (j), -1, (j), -1, (j), -1, (j), -1

/* Scale j of unpack_scales_mins. */
static const int8_t splat_scale[8][32] __attribute__((aligned(32))) = {
        {BYTE(0), BYTE(0)}, {BYTE(1), BYTE(1)}, {BYTE(2), BYTE(2)},   {BYTE(3), BYTE(3)},
        {BYTE(8), BYTE(8)}, {BYTE(9), BYTE(9)}, {BYTE(10), BYTE(10)}, {BYTE(11), BYTE(11)},
};
/* Its mins, each in two words: one for each of a sub-block's two sums. */
static const int8_t mins_twice[32]
        __attribute__((aligned(32))) = {4,  -1, 4,  -1, 5,  -1, 5,  -1, 6,  -1, 6,  -1, 7,  -1, 7,  -1,
                                        12, -1, 12, -1, 13, -1, 13, -1, 14, -1, 14, -1, 15, -1, 15, -1};
/* Sub-blocks of 16: words 2j and 2j + 1, one for each half of 32 elements. */
static const int8_t splat_words[4][32] __attribute__((aligned(32))) = {
        {WORD(0), WORD(1)},
        {WORD(2), WORD(3)},
        {WORD(4), WORD(5)},
        {WORD(6), WORD(7)},
};
/* 32 unsigned codes times 32 activations, in pairs of pairs weighted by 16-bit scales. */
INLINE __m256i dot_scaled(__m256i codes, const int8_t *q, __m256i scales) {
	return _mm256_madd_epi16(scales, _mm256_maddubs_epi16(codes, load_256(q)));
}

/* ---- Q4_K, Q5_K ---- */

/* 12 bytes to scales 0..3, mins 0..3, scales 4..7, mins 4..7, a byte each, in both halves. The first
 * eight bytes hold the low 6 bits of scales 0..3 and mins 0..3, and above them the high two bits of
 * numbers 4..7, whose low nibbles are in the last four bytes. */
INLINE __m256i unpack_scales_mins(const uint8_t *packed) {
	uint64_t sm;
	memcpy(&sm, packed, sizeof sm);
	const uint64_t low = load_u32(packed + 8), nibbles = low | low >> 4 << 32;
	const uint64_t first = sm & 0x3f3f3f3f3f3f3f3f;
	const uint64_t last = (nibbles & 0x0f0f0f0f0f0f0f0f) | (sm >> 2 & 0x3030303030303030);
	return _mm256_broadcastsi128_si256(_mm_set_epi64x((long long)last, (long long)first));
}

INLINE void add_super_block(__m256 *acc, const void *d_dmin, __m256i mins, const __m256i *dot,
                            const act_row *a, int64_t i, int n) {
	__m256 d, dmin;
	splat_f16_pair(&d, &dmin, d_dmin);
	UNROLL
	for (int t = 0; t < n; t++) {
		const __m256i offset = _mm256_madd_epi16(mins, load_256(a[t].b + 16 * i));
		__m256 x = _mm256_mul_ps(d, _mm256_cvtepi32_ps(dot[t]));
		x = _mm256_fnmadd_ps(dmin, _mm256_cvtepi32_ps(offset), x);
		acc[t] = _mm256_fmadd_ps(_mm256_broadcast_ss(a[t].d + i), x, acc[t]);
	}
}

/* Both types; high: 32 bytes of fifth bits (bit j for sub-block j), or NULL. */
INLINE void q45_k_step(__m256 *acc, const void *d_dmin, const uint8_t *packed, const uint8_t *low,
                       const uint8_t *high, const act_row *a, int64_t i, int n) {
	const __m256i nibble = _mm256_set1_epi8(15), bit4 = _mm256_set1_epi8(16);
	const __m256i sm = unpack_scales_mins(packed);
	const __m256i h = high ? load_256(high) : nibble;
	__m256i dot[TILE_TOKENS];
	UNROLL
	for (int t = 0; t < n; t++)
		dot[t] = _mm256_setzero_si256();
	UNROLL
	for (int c = 0; c < 4; c++) {
		const __m256i both = load_once_256(low + 32 * c);
		const __m256i s0 = _mm256_shuffle_epi8(sm, load_256(splat_scale[2 * c]));
		const __m256i s1 = _mm256_shuffle_epi8(sm, load_256(splat_scale[2 * c + 1]));
		__m256i q0 = _mm256_and_si256(both, nibble);
		__m256i q1 = _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble);
		if (high) {
			/* Bits 2c and 2c + 1 move to bit 4; what crosses a byte is masked off. */
			const __m256i h0 = c < 2 ? _mm256_slli_epi16(h, 4 - 2 * c)
			                         : _mm256_srli_epi16(h, 2 * c - 4);
			const __m256i h1 = c < 2 ? _mm256_slli_epi16(h, 3 - 2 * c)
			                         : _mm256_srli_epi16(h, 2 * c - 3);
			q0 = _mm256_or_si256(q0, _mm256_and_si256(h0, bit4));
			q1 = _mm256_or_si256(q1, _mm256_and_si256(h1, bit4));
		}
		UNROLL
		for (int t = 0; t < n; t++) {
			const int8_t *q = a[t].q + 256 * i + 64 * c;
			ADD_NOW(dot[t], dot_scaled(q0, q, s0));
			ADD_NOW(dot[t], dot_scaled(q1, q + 32, s1));
		}
	}
	const __m256i mins = _mm256_shuffle_epi8(sm, load_256(mins_twice));
	add_super_block(acc, d_dmin, mins, dot, a, i, n);
}

INLINE void q4_k_step(__m256 *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	const rv_q4_k *w = (const void *)block;
	q45_k_step(acc, &w->d, w->scales, w->qs, NULL, a, i, n);
}
INLINE void q5_k_step(__m256 *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	const rv_q5_k *w = (const void *)block;
	q45_k_step(acc, &w->d, w->scales, w->qs, w->qh, a, i, n);
}

/* ---- Q6_K, Q3_K: sub-blocks of 16, codes around a centre ---- */

/* d * (dot - centre * sum(scale * b)): the centre is taken off in integers. */
INLINE void add_centred(__m256 *acc, const void *d_ptr, __m256i scales, int log2_centre,
                        const __m256i *dot, const act_row *a, int64_t i, int n) {
	const __m256 d = splat_f16(d_ptr);
	UNROLL
	for (int t = 0; t < n; t++) {
		const __m256i sums = _mm256_madd_epi16(scales, load_256(a[t].b + 16 * i));
		const __m256i x = _mm256_sub_epi32(dot[t], _mm256_slli_epi32(sums, log2_centre));
		acc[t] = _mm256_fmadd_ps(_mm256_broadcast_ss(a[t].d + i),
		                         _mm256_mul_ps(d, _mm256_cvtepi32_ps(x)), acc[t]);
	}
}

/* dot += chunk c (32 elements) of the super-block; half: the 8 scales of its 128 elements, twice. */
INLINE void add_chunk(__m256i *dot, __m256i codes, __m256i half, int c, const act_row *a, int64_t i,
                      int n) {
	const __m256i scales = _mm256_shuffle_epi8(half, load_256(splat_words[c & 3]));
	UNROLL
	for (int t = 0; t < n; t++)
		ADD_NOW(dot[t], dot_scaled(codes, a[t].q + 256 * i + 32 * c, scales));
}

INLINE void q6_k_step(__m256 *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	const rv_q6_k *w = (const void *)block;
	const __m256i nibble = _mm256_set1_epi8(15), high = _mm256_set1_epi8(0x30);
	const __m256i scales = _mm256_cvtepi8_epi16(load_128(w->scales));
	__m256i dot[TILE_TOKENS];
	UNROLL
	for (int t = 0; t < n; t++)
		dot[t] = _mm256_setzero_si256();
	UNROLL
	for (int h = 0; h < 2; h++) {
		const __m256i half = h ? _mm256_permute4x64_epi64(scales, 0xee)
		                       : _mm256_permute4x64_epi64(scales, 0x44);
		const __m256i l0 = load_once_256(w->ql + 64 * h),
		              l1 = load_once_256(w->ql + 64 * h + 32);
		const __m256i qh = load_256(w->qh + 32 * h);
		const __m256i h0 = _mm256_and_si256(_mm256_slli_epi16(qh, 4), high);
		const __m256i h1 = _mm256_and_si256(_mm256_slli_epi16(qh, 2), high);
		const __m256i h2 = _mm256_and_si256(qh, high);
		const __m256i h3 = _mm256_and_si256(_mm256_srli_epi16(qh, 2), high);
		const __m256i c0 = _mm256_or_si256(_mm256_and_si256(l0, nibble), h0);
		add_chunk(dot, c0, half, 4 * h, a, i, n);
		const __m256i c1 = _mm256_or_si256(_mm256_and_si256(l1, nibble), h1);
		add_chunk(dot, c1, half, 4 * h + 1, a, i, n);
		const __m256i c2 =
		        _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(l0, 4), nibble), h2);
		add_chunk(dot, c2, half, 4 * h + 2, a, i, n);
		const __m256i c3 =
		        _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(l1, 4), nibble), h3);
		add_chunk(dot, c3, half, 4 * h + 3, a, i, n);
	}
	add_centred(acc, &w->d, scales, 5, dot, a, i, n);
}

/* 12 bytes to 16 scales less 32: low nibbles in bytes 0..7 (numbers 0..7 low, 8..15 high), two high
 * bits of number j in byte 8 + j % 4 at bit 2 (j / 4). */
INLINE __m256i unpack_q3_scales(const uint8_t *packed) {
	const uint32_t l0 = load_u32(packed), l1 = load_u32(packed + 4), h = load_u32(packed + 8);
	const __m128i low = _mm_set_epi32((int)(l1 >> 4), (int)(l0 >> 4), (int)l1, (int)l0);
	const __m128i high = _mm_set_epi32((int)(h >> 2), (int)h, (int)(h << 2), (int)(h << 4));
	const __m128i s = _mm_or_si128(_mm_and_si128(low, _mm_set1_epi8(15)),
	                               _mm_and_si128(high, _mm_set1_epi8(0x30)));
	return _mm256_cvtepi8_epi16(_mm_sub_epi8(s, _mm_set1_epi8(32)));
}

INLINE void q3_k_step(__m256 *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	const rv_q3_k *w = (const void *)block;
	const __m256i two_bits = _mm256_set1_epi8(3), bit2 = _mm256_set1_epi8(4);
	const __m256i scales = unpack_q3_scales(w->scales), mask = load_256(w->hmask);
	__m256i dot[TILE_TOKENS];
	UNROLL
	for (int t = 0; t < n; t++)
		dot[t] = _mm256_setzero_si256();
	UNROLL
	for (int h = 0; h < 2; h++) {
		const __m256i half = h ? _mm256_permute4x64_epi64(scales, 0xee)
		                       : _mm256_permute4x64_epi64(scales, 0x44);
		const __m256i q = load_256(w->qs + 32 * h);
		UNROLL
		for (int j = 0; j < 4; j++) {
			const int c = 4 * h + j;
			const __m256i low = _mm256_and_si256(_mm256_srli_epi16(q, 2 * j), two_bits);
			const __m256i high =
			        c < 2 ? _mm256_slli_epi16(mask, 2 - c) : _mm256_srli_epi16(mask, c - 2);
			add_chunk(dot, _mm256_or_si256(low, _mm256_and_si256(high, bit2)), half, c, a,
			          i, n);
		}
	}
	add_centred(acc, &w->d, scales, 2, dot, a, i, n);
}

/* ---- Q2_K ---- */

INLINE void q2_k_step(__m256 *acc, const uint8_t *block, const act_row *a, int64_t i, int n) {
	const rv_q2_k *w = (const void *)block;
	const __m256i two_bits = _mm256_set1_epi8(3);
	const __m256i both = _mm256_cvtepu8_epi16(load_128(w->scales));
	const __m256i scales = _mm256_and_si256(both, _mm256_set1_epi16(15));
	__m256i dot[TILE_TOKENS];
	UNROLL
	for (int t = 0; t < n; t++)
		dot[t] = _mm256_setzero_si256();
	UNROLL
	for (int h = 0; h < 2; h++) {
		const __m256i half = h ? _mm256_permute4x64_epi64(scales, 0xee)
		                       : _mm256_permute4x64_epi64(scales, 0x44);
		const __m256i q = load_256(w->qs + 32 * h);
		UNROLL
		for (int j = 0; j < 4; j++)
			add_chunk(dot, _mm256_and_si256(_mm256_srli_epi16(q, 2 * j), two_bits), half,
			          4 * h + j, a, i, n);
	}
	add_super_block(acc, &w->d, _mm256_srli_epi16(both, 4), dot, a, i, n);
}

RV_DEFINE_MATMUL(rv_matmul_q4_k, {q4_k_step, sizeof(rv_q4_k), RV_QKK, RV_QKK, NULL})
RV_DEFINE_MATMUL(rv_matmul_q5_k, {q5_k_step, sizeof(rv_q5_k), RV_QKK, RV_QKK, NULL})
RV_DEFINE_MATMUL(rv_matmul_q6_k, {q6_k_step, sizeof(rv_q6_k), RV_QKK, RV_QKK, NULL})
RV_DEFINE_MATMUL(rv_matmul_q3_k, {q3_k_step, sizeof(rv_q3_k), RV_QKK, RV_QKK, NULL})
RV_DEFINE_MATMUL(rv_matmul_q2_k, {q2_k_step, sizeof(rv_q2_k), RV_QKK, RV_QKK, NULL})
