#include "kernels/x86/vec_avx2.h"

INLINE double sum_i32(__m256i v) {
	int32_t lanes[8];
	_mm256_storeu_si256((__m256i *)(void *)lanes, v);
	double sum = 0;
	for (int i = 0; i < 8; i++)
		sum += lanes[i];
	return sum;
}

#define PEAK_NAME rv_peak_f32_avx2
#define PEAK_VEC __m256
#define PEAK_CHAINS 12
#define PEAK_OPS (2 * 8)
#define PEAK_OPERANDS __m256 x = _mm256_set1_ps(3), y = _mm256_set1_ps(3);
#define PEAK_FIRST(j) _mm256_set1_ps((float)j)
#define PEAK_STEP(a) (a) = _mm256_fmadd_ps(x, y, a)
#define PEAK_SUM(a) (double)vec_sum(a)
#include "kernels/common/peak_body.h"

/* Three instructions. The product is made anew each time: x might have changed. */
#define PEAK_NAME rv_peak_int8_avx2
#define PEAK_VEC __m256i
#define PEAK_CHAINS 8
#define PEAK_OPS (2 * 32)
#define PEAK_OPERANDS                                                                                  \
	__m256i x = _mm256_set1_epi8(3), y = _mm256_set1_epi8(3), ones = _mm256_set1_epi16(1);
#define PEAK_FIRST(j) _mm256_set1_epi32(j)
#define PEAK_STEP(a)                                                                                   \
	__asm__("" : "+x"(x));                                                                         \
	ADD_NOW(a, _mm256_madd_epi16(_mm256_maddubs_epi16(x, y), ones))
#define PEAK_SUM(a) sum_i32(a)
#include "kernels/common/peak_body.h"
