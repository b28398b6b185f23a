/* The f32 product, shared by gemm and attention. */
#ifndef RV_KERNELS_X86_GEMM_AVX2_H
#define RV_KERNELS_X86_GEMM_AVX2_H

#include "kernels/x86/simd_avx2.h"

typedef struct gemm_args {
	float *c;
	int64_t ldc;
	const float *a;
	int64_t lda;
	const float *b;
	int64_t ldb;
	int64_t m, n, k;
	int accumulate; /* start from c instead of 0, so a sum over k can go on where it stopped */
} gemm_args;

/* c = a b: each element by fused multiply-add over ascending k. */
void rv_gemm_any_avx2(const gemm_args *g);

#endif
