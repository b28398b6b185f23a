/* Multiply-adds of plain numbers, a product and a sum an instruction each. */
#include "kernels/kernels_internal.h"

#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#define PEAK_NAME rv_peak_f32_ref
#define PEAK_VEC float
#define PEAK_CHAINS 12
#define PEAK_OPS 2
#define PEAK_OPERANDS                                                                                  \
	float x = 1, y = 9;                                                                            \
	__asm__("" : "+m"(x)); /* a constant 1 would need no product */
#define PEAK_FIRST(j) (float)j
#define PEAK_STEP(a) (a) = (a)*x + y
#define PEAK_SUM(a) (double)(a)
#include "kernels/common/peak_body.h"

/* The product is made anew each time: x and y might have changed. */
#define PEAK_NAME rv_peak_int8_ref
#define PEAK_VEC int32_t
#define PEAK_CHAINS 6
#define PEAK_OPS 2
#define PEAK_OPERANDS int32_t x = 3, y = 3;
#define PEAK_FIRST(j) j
#define PEAK_STEP(a)                                                                                   \
	__asm__("" : "+r"(x), "+r"(y));                                                                \
	(a) += x * y
#define PEAK_SUM(a) (double)(a)
#include "kernels/common/peak_body.h"
