/* Sums over vector codes. */
#include "kernels/x86/codes_512_body.h"

INLINE codes differing(codes x, codes y) {
	return _mm512_xor_si512(x, y);
}
INLINE sums add_ones(sums acc, codes y) {
	const __m512i ones =
	        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
	const __m512i in_bytes = _mm512_add_epi8(_mm512_shuffle_epi8(ones, low_codes(y)),
	                                         _mm512_shuffle_epi8(ones, high_codes(y)));
	return _mm512_add_epi32(acc, _mm512_sad_epu8(in_bytes, _mm512_setzero_si512()));
}

#include "kernels/common/codes_plain_body.h"
