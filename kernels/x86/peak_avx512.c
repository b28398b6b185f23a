#include "kernels/x86/vec_avx512.h"

INLINE double sum_i32(__m512i v) {
	int32_t lanes[16];
	_mm512_storeu_si512(lanes, v);
	double sum = 0;
	for (int i = 0; i < 16; i++)
		sum += lanes[i];
	return sum;
}

#define PEAK_NAME rv_peak_f32_avx512
#define PEAK_VEC __m512
#define PEAK_CHAINS 12
#define PEAK_OPS (2 * 16)
#define PEAK_OPERANDS __m512 x = _mm512_set1_ps(3), y = _mm512_set1_ps(3);
#define PEAK_FIRST(j) _mm512_set1_ps((float)j)
#define PEAK_STEP(a) (a) = _mm512_fmadd_ps(x, y, a)
#define PEAK_SUM(a) (double)vec_sum(a)
#include "kernels/common/peak_body.h"

/* Three instructions. The product is made anew each time: x might have changed. */
#define PEAK_NAME rv_peak_int8_avx512
#define PEAK_VEC __m512i
#define PEAK_CHAINS 12
#define PEAK_OPS (2 * 64)
#define PEAK_OPERANDS                                                                                  \
	__m512i x = _mm512_set1_epi8(3), y = _mm512_set1_epi8(3), ones = _mm512_set1_epi16(1);
#define PEAK_FIRST(j) _mm512_set1_epi32(j)
#define PEAK_STEP(a)                                                                                   \
	KEEP(x);                                                                                       \
	(a) = _mm512_add_epi32(a, _mm512_madd_epi16(_mm512_maddubs_epi16(x, y), ones))
#define PEAK_SUM(a) sum_i32(a)
#include "kernels/common/peak_body.h"
