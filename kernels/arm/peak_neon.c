#include "kernels/arm/quad.h"

#define PEAK_NAME rv_peak_f32_neon
#define PEAK_VEC float32x4_t
#define PEAK_CHAINS 16
#define PEAK_OPS (2 * 4)
#define PEAK_OPERANDS float32x4_t x = vdupq_n_f32(3), y = vdupq_n_f32(3);
#define PEAK_FIRST(j) vdupq_n_f32((float)j)
#define PEAK_STEP(a) (a) = vfmaq_f32(a, x, y)
#define PEAK_SUM(a) (double)vaddvq_f32(a)
#include "kernels/common/peak_body.h"

/* Two instructions. The product is made anew each time: x might have changed. */
#define PEAK_NAME rv_peak_int8_neon
#define PEAK_VEC int32x4_t
#define PEAK_CHAINS 12
#define PEAK_OPS (2 * 8)
#define PEAK_OPERANDS int8x8_t x = vdup_n_s8(3), y = vdup_n_s8(3);
#define PEAK_FIRST(j) vdupq_n_s32(j)
#define PEAK_STEP(a)                                                                                   \
	__asm__("" : "+w"(x));                                                                         \
	(a) = vpadalq_s16(a, vmull_s8(x, y))
#define PEAK_SUM(a) (double)vaddvq_s32(a)
#include "kernels/common/peak_body.h"
