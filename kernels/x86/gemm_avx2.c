/* c[m, n] = a[m, k] b[k, n]. Every element has an accumulator of its own, fed in ascending k by fused
 * multiply-adds from 0, so the tile shape never shows in a result. Tiles read b's rows in place. */
#include "kernels/x86/gemm_avx2.h"

enum { MAX_ACC = 12 }; /* of 16 registers: two more for b, one for a */

/* n_rows x (8 n_vecs) elements at (i, j); constants after inlining. The last vector may be masked. */
INLINE void gemm_tile(const gemm_args *g, int64_t i, int64_t j, int n_rows, int n_vecs, int masked,
                      __m256i mask) {
	__m256 acc[MAX_ACC];
	float *c = g->c + i * g->ldc + j;
	const float *a = g->a + i * g->lda, *b = g->b + j;
	UNROLL
	for (int x = 0; x < n_rows * n_vecs; x++) {
		const float *p = c + x / n_vecs * g->ldc + 8 * (x % n_vecs);
		acc[x] = !g->accumulate ? _mm256_setzero_ps()
		         : masked       ? _mm256_maskload_ps(p, mask)
		                        : _mm256_loadu_ps(p);
	}
	for (int64_t l = 0; l < g->k; l++) {
		__m256 row[8];
		UNROLL
		for (int v = 0; v < n_vecs; v++)
			row[v] = masked ? _mm256_maskload_ps(b + 8 * v, mask)
			                : _mm256_loadu_ps(b + 8 * v);
		UNROLL
		for (int x = 0; x < n_rows * n_vecs; x++) {
			const __m256 s = _mm256_broadcast_ss(a + x / n_vecs * g->lda + l);
			acc[x] = _mm256_fmadd_ps(s, row[x % n_vecs], acc[x]);
		}
		b += g->ldb;
	}
	UNROLL
	for (int x = 0; x < n_rows * n_vecs; x++) {
		float *p = c + x / n_vecs * g->ldc + 8 * (x % n_vecs);
		if (masked)
			_mm256_maskstore_ps(p, mask, acc[x]);
		else
			_mm256_storeu_ps(p, acc[x]);
	}
}

/* Rows [i, i + n_rows): as many columns as fit the registers at a time, then 8, then the rest. */
INLINE void gemm_rows(const gemm_args *g, int64_t i, int n_rows, int n_vecs) {
	int64_t j = 0;
	for (; j + 8 * n_vecs <= g->n; j += 8 * n_vecs)
		gemm_tile(g, i, j, n_rows, n_vecs, 0, _mm256_setzero_si256());
	for (; j + 8 <= g->n; j += 8)
		gemm_tile(g, i, j, n_rows, 1, 0, _mm256_setzero_si256());
	if (j < g->n)
		gemm_tile(g, i, j, n_rows, 1, 1, lane_mask(g->n - j));
}

void rv_gemm_any_avx2(const gemm_args *g) {
	int64_t i = 0;
	for (; i + 6 <= g->m; i += 6)
		gemm_rows(g, i, 6, 2);
	switch (g->m - i) {
	case 5:
		gemm_rows(g, i, 5, 2);
		break;
	case 4:
		gemm_rows(g, i, 4, 2);
		break;
	case 3:
		gemm_rows(g, i, 3, 4);
		break;
	case 2:
		gemm_rows(g, i, 2, 4);
		break;
	case 1:
		gemm_rows(g, i, 1, 8);
		break;
	default:
		break;
	}
}

void rv_gemm_avx2(float *c, int64_t ldc, const float *a, int64_t lda, const float *b, int64_t ldb,
                  int64_t m, int64_t n, int64_t k) {
	rv_gemm_any_avx2(&(gemm_args){c, ldc, a, lda, b, ldb, m, n, k, 0});
}
