/* c[m, n] = a[m, k] b[k, n], the body of a level's gemm: include after its simd header, which names the
 * vector, and a definition of GEMM_VECS, the vectors of b that a tile of six rows holds.
 *
 * Every element has an accumulator of its own, fed in ascending k by fused multiply-adds from 0, so the
 * tile shape never shows in a result. Tiles read b's rows in place. */
#include "kernels/kernels_internal.h"

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

/* n_rows x n_vecs vectors at (i, j); constants after inlining. The last vector may be masked. (Loops
 * are nested rather than one over all accumulators: a compiler unrolls so many steps and no more, and
 * accumulators of a loop that stays one live in memory.) */
INLINE void gemm_tile(const gemm_args *g, int64_t i, int64_t j, int n_rows, int n_vecs, int masked,
                      vec_mask mask) {
	vec acc[6][8];
	float *c = g->c + i * g->ldc + j;
	const float *a = g->a + i * g->lda, *b = g->b + j;
	UNROLL
	for (int r = 0; r < n_rows; r++) {
		UNROLL
		for (int v = 0; v < n_vecs; v++) {
			const float *p = c + r * g->ldc + VEC_LANES * v;
			acc[r][v] = !g->accumulate ? vec_zero()
			            : masked       ? vec_load_part(p, mask)
			                           : vec_load(p);
		}
	}
	for (int64_t l = 0; l < g->k; l++) {
		vec row[8];
		UNROLL
		for (int v = 0; v < n_vecs; v++)
			row[v] = masked ? vec_load_part(b + VEC_LANES * v, mask)
			                : vec_load(b + VEC_LANES * v);
		UNROLL
		for (int r = 0; r < n_rows; r++) {
			const vec s = vec_splat(a + r * g->lda + l);
			UNROLL
			for (int v = 0; v < n_vecs; v++)
				acc[r][v] = vec_fma(s, row[v], acc[r][v]);
		}
		b += g->ldb;
	}
	UNROLL
	for (int r = 0; r < n_rows; r++) {
		UNROLL
		for (int v = 0; v < n_vecs; v++) {
			float *p = c + r * g->ldc + VEC_LANES * v;
			if (masked)
				vec_store_part(p, mask, acc[r][v]);
			else
				vec_store(p, acc[r][v]);
		}
	}
}

/* Rows [i, i + n_rows): as many columns as fit the registers at a time, then a vector, then the rest.
 */
INLINE void gemm_rows(const gemm_args *g, int64_t i, int n_rows, int n_vecs) {
	const vec_mask none = vec_first(0);
	int64_t j = 0;
	for (; j + VEC_LANES * n_vecs <= g->n; j += VEC_LANES * n_vecs)
		gemm_tile(g, i, j, n_rows, n_vecs, 0, none);
	for (; j + VEC_LANES <= g->n; j += VEC_LANES)
		gemm_tile(g, i, j, n_rows, 1, 0, none);
	if (j < g->n)
		gemm_tile(g, i, j, n_rows, 1, 1, vec_first(g->n - j));
}

static void gemm_any(const gemm_args *g) {
	int64_t i = 0;
	for (; i + 6 <= g->m; i += 6)
		gemm_rows(g, i, 6, GEMM_VECS);
	switch (g->m - i) {
	case 5:
		gemm_rows(g, i, 5, GEMM_VECS);
		break;
	case 4:
		gemm_rows(g, i, 4, GEMM_VECS);
		break;
	case 3:
		gemm_rows(g, i, 3, 4);
		break;
	case 2:
		gemm_rows(g, i, 2, 4);
		break;
	case 1:
		gemm_rows(g, i, 1, 64 / VEC_LANES);
		break;
	default:
		break;
	}
}

/* Cut into pieces whose part of b stays in the cache; the sums go on where the piece before stopped. */
void LEVEL_NAME(rv_gemm)(float *c, int64_t ldc, const float *a, int64_t lda, const float *b,
                         int64_t ldb, int64_t m, int64_t n, int64_t k) {
	enum { ROWS = 96, DEPTH = 256 };
	for (int64_t i = 0; i < m; i += ROWS)
		for (int64_t l = 0; l == 0 || l < k; l += DEPTH)
			gemm_any(&(gemm_args){c + i * ldc, ldc, a + i * lda + l, lda, b + l * ldb, ldb,
			                      m - i < ROWS ? m - i : ROWS, n,
			                      k - l < DEPTH ? k - l : DEPTH, l > 0});
}
