#include "kernels/arm/quad.h"

#define PEAK_NAME rv_peak_int8_i8mm
#define PEAK_VEC int32x4_t
#define PEAK_CHAINS 16
#define PEAK_OPS (2 * 32)
#define PEAK_OPERANDS int8x16_t x = vdupq_n_s8(3), y = vdupq_n_s8(3);
#define PEAK_FIRST(j) vdupq_n_s32(j)
#define PEAK_STEP(a) (a) = vmmlaq_s32(a, x, y)
#define PEAK_SUM(a) (double)vaddvq_s32(a)
#include "kernels/common/peak_body.h"
