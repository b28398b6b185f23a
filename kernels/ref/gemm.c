#include "kernels/kernels_internal.h"

#include <math.h>

void rv_gemm_ref(float *c, int64_t ldc, const float *a, int64_t lda, const float *b, int64_t ldb,
                 int64_t m, int64_t n, int64_t k) {
	for (int64_t i = 0; i < m; i++) {
		for (int64_t j = 0; j < n; j++) {
			float acc = 0;
			for (int64_t l = 0; l < k; l++) {
				acc = fmaf(a[i * lda + l], b[l * ldb + j], acc);
			}
			c[i * ldc + j] = acc;
		}
	}
}
