/* The loops around a weight type's inner step: which rows and tokens a register tile holds and in which
 * order tiles run. None of it touches a value: every element (row, token) has its own 8-lane
 * accumulator, fed by the same step for block 0, 1, 2 ... whatever the tile, and its lanes are summed
 * by sum_lanes at the end. That is the order of every matmul of this level; a step states what it adds
 * to the lanes for one block. */
#ifndef RV_KERNELS_X86_MATMUL_AVX2_H
#define RV_KERNELS_X86_MATMUL_AVX2_H

#include "kernels/x86/simd_avx2.h"

/* One activation row: q and d of the Q8 and Q8K formats, and s (Q8) or b (Q8K); or f (F32). */
typedef struct act_row {
	const int8_t *q;
	const float *d;
	union {
		const float *s;
		const int16_t *b;
	};
	const float *f;
} act_row;

/* Adds block i of a weight row times block i of n activation rows to acc[0..n). n is a constant. */
typedef void step_fn(__m256 *acc, const uint8_t *block, const act_row *a, int64_t i, int n);
/* The last n weights of a row, fewer than a block, zeros after them. */
typedef __m256 tail_fn(const uint8_t *p, int64_t n);

typedef struct matmul_args {
	float *y;
	int64_t ldy;
	const uint8_t *w;
	size_t w_stride;
	const uint8_t *a;
	size_t a_stride;
	int64_t k, rows, n_tok;
} matmul_args;

typedef struct matmul_type {
	step_fn *step;
	size_t block_bytes;
	int64_t block_elems;
	tail_fn *tail; /* the float types: blocks of 8, f32 activations, any k */
} matmul_type;

enum {
	TILE_ROWS = 4,            /* of a GEMV: enough independent streams to cover memory latency */
	TILE_TOKENS = 4,          /* that share one unpacked block */
	PREFETCH_BYTES = 1024,    /* ahead of each stream of a GEMV */
	L2_ACT_BYTES = 192 * 1024 /* activations kept while the weight rows pass by */
};

INLINE act_row act_row_at(const matmul_args *m, matmul_type type, int64_t tok) {
	const uint8_t *p = m->a + (size_t)tok * m->a_stride;
	act_row row = {0};
	if (type.tail) {
		row.f = (const float *)(const void *)p;
	} else {
		row.q = (const int8_t *)p;
		row.d = (const float *)(const void *)(p + rv_act_scale_offset(m->k));
		row.s = row.d + m->k / type.block_elems;
	}
	return row;
}

/* The streams prefetch whole lines once per line, not once per block. */
INLINE void prefetch_block(const uint8_t *block, size_t block_bytes) {
	UNROLL
	for (size_t i = 0; i < block_bytes; i += 64)
		_mm_prefetch((const char *)block + PREFETCH_BYTES + i, _MM_HINT_T0);
}

INLINE void add_tail(__m256 *acc, tail_fn *tail, const uint8_t **w, const act_row *a, int64_t k,
                     int64_t rest, int n_rows, int n_tok) {
	const __m256i mask = lane_mask(rest);
	UNROLL
	for (int i = 0; i < n_rows * n_tok; i++) {
		const __m256 x = _mm256_maskload_ps(a[i % n_tok].f + k - rest, mask);
		acc[i] = _mm256_fmadd_ps(tail(w[i / n_tok], rest), x, acc[i]);
	}
}

/* n_rows and n_tok are constants after inlining. */
INLINE void matmul_tile(const matmul_args *m, matmul_type type, int64_t row, int64_t tok, int n_rows,
                        int n_tok) {
	__m256 acc[TILE_ROWS * TILE_TOKENS];
	act_row a[TILE_TOKENS];
	const uint8_t *w[TILE_ROWS];
	UNROLL
	for (int t = 0; t < n_tok; t++)
		a[t] = act_row_at(m, type, tok + t);
	UNROLL
	for (int r = 0; r < n_rows; r++)
		w[r] = m->w + (size_t)(row + r) * m->w_stride;
	UNROLL
	for (int i = 0; i < n_rows * n_tok; i++)
		acc[i] = _mm256_setzero_ps();
	const int64_t blocks = m->k / type.block_elems;
	for (int64_t b = 0; b < blocks; b++) {
		UNROLL
		for (int r = 0; r < n_rows; r++) {
			if (n_tok == 1)
				prefetch_block(w[r], type.block_bytes);
			type.step(acc + r * n_tok, w[r], a, b, n_tok);
			w[r] += type.block_bytes;
		}
	}
	const int64_t rest = m->k % type.block_elems;
	if (type.tail && rest)
		add_tail(acc, type.tail, w, a, m->k, rest, n_rows, n_tok);
	UNROLL
	for (int i = 0; i < n_rows * n_tok; i++)
		m->y[(tok + i % n_tok) * m->ldy + row + i / n_tok] = sum_lanes(acc[i]);
}

/* A single token: the weights are read once, from memory. */
INLINE void matmul_gemv(const matmul_args *m, matmul_type type, int64_t tok) {
	int64_t row = 0;
	for (; row + TILE_ROWS <= m->rows; row += TILE_ROWS)
		matmul_tile(m, type, row, tok, TILE_ROWS, 1);
	for (; row < m->rows; row++)
		matmul_tile(m, type, row, tok, 1, 1);
}

/* Tokens [from, to) of every row: the row stays in L1, the activations in L2. */
INLINE void matmul_panel(const matmul_args *m, matmul_type type, int64_t from, int64_t to) {
	for (int64_t row = 0; row < m->rows; row++) {
		int64_t tok = from;
		for (; tok + TILE_TOKENS <= to; tok += TILE_TOKENS)
			matmul_tile(m, type, row, tok, 1, TILE_TOKENS);
		if (to - tok >= 2) {
			matmul_tile(m, type, row, tok, 1, 2);
			tok += 2;
		}
		if (tok < to)
			matmul_tile(m, type, row, tok, 1, 1);
	}
}

INLINE void matmul_all(const matmul_args *m, matmul_type type) {
	if (m->n_tok == 1) {
		matmul_gemv(m, type, 0);
		return;
	}
	int64_t panel = m->a_stride ? (int64_t)(L2_ACT_BYTES / m->a_stride) : m->n_tok;
	panel = panel / TILE_TOKENS * TILE_TOKENS;
	if (panel < TILE_TOKENS)
		panel = TILE_TOKENS;
	for (int64_t tok = 0; tok < m->n_tok; tok += panel)
		matmul_panel(m, type, tok, tok + panel < m->n_tok ? tok + panel : m->n_tok);
}

#define RV_DEFINE_MATMUL(name, step, bytes, elems)                                                     \
	void rv_matmul_##name##_avx2(float *y, int64_t ldy, const void *w, size_t w_stride,            \
	                             const void *a, size_t a_stride, int64_t k, int64_t rows,          \
	                             int64_t n_tok) {                                                  \
		const matmul_args args = {y, ldy, w, w_stride, a, a_stride, k, rows, n_tok};           \
		matmul_all(&args, (matmul_type){step, bytes, elems, NULL});                            \
	}

#endif
