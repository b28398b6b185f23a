#define RV_VNNI
#include "kernels/x86/vec_avx512.h"

INLINE double sum_i32(__m512i v) {
	int32_t lanes[16];
	_mm512_storeu_si512(lanes, v);
	double sum = 0;
	for (int i = 0; i < 16; i++)
		sum += lanes[i];
	return sum;
}

#define PEAK_NAME rv_peak_int8_vnni
#define PEAK_VEC __m512i
#define PEAK_CHAINS 12
#define PEAK_OPS (2 * 64)
#define PEAK_OPERANDS __m512i x = _mm512_set1_epi8(3);
#define PEAK_FIRST(j) _mm512_set1_epi32(j)
#define PEAK_STEP(a) (a) = _mm512_dpbusd_epi32(a, x, x)
#define PEAK_SUM(a) sum_i32(a)
#include "kernels/common/peak_body.h"
