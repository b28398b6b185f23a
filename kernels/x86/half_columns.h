/* Sixteen rows of f16, turned into columns: what attention_body.h reads cached keys by. */
#ifndef RV_KERNELS_X86_HALF_COLUMNS_H
#define RV_KERNELS_X86_HALF_COLUMNS_H

#include "kernels/x86/simd_avx2.h"

typedef __m256i half16;

INLINE __m256i side_by_side(const rv_f16 *low, const rv_f16 *high) {
	return _mm256_blend_epi32(_mm256_castsi128_si256(load_128(low)),
	                          _mm256_broadcastsi128_si256(load_128(high)), 0xf0);
}

/* out[i] = element d + i of each row: two squares of eight by eight, side by side. */
INLINE void half_columns(const rv_f16 *const *rows, int64_t d, half16 out[8]) {
	__m256i r[8], a[8], b[8];
	UNROLL
	for (int j = 0; j < 8; j++)
		r[j] = side_by_side(rows[j] + d, rows[8 + j] + d);
	UNROLL
	for (int j = 0; j < 4; j++) { /* two rows: elements 0-3, 4-7 */
		a[j] = _mm256_unpacklo_epi16(r[2 * j], r[2 * j + 1]);
		a[4 + j] = _mm256_unpackhi_epi16(r[2 * j], r[2 * j + 1]);
	}
	UNROLL
	for (int j = 0; j < 4; j++) { /* four rows, two elements */
		b[4 * (j / 2) + j % 2] = _mm256_unpacklo_epi32(a[2 * j], a[2 * j + 1]);
		b[4 * (j / 2) + 2 + j % 2] = _mm256_unpackhi_epi32(a[2 * j], a[2 * j + 1]);
	}
	UNROLL
	for (int j = 0; j < 4; j++) {
		out[2 * j] = _mm256_unpacklo_epi64(b[2 * j], b[2 * j + 1]);
		out[2 * j + 1] = _mm256_unpackhi_epi64(b[2 * j], b[2 * j + 1]);
	}
}

#endif
