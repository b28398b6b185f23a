/* The loops around a weight type's inner step: which rows and tokens a register tile holds and in which
 * order tiles run. None of it touches a value: every element (row, token) has its own
 * accumulator, fed by the same step for block 0, 1, 2 ... whatever the tile, and its lanes are summed
 * by vec_sum at the end. That is the order of every matmul of a level; a step states what it adds
 * to the lanes for one block. */
#ifndef RV_KERNELS_COMMON_MATMUL_TILES_H
#define RV_KERNELS_COMMON_MATMUL_TILES_H

#include "kernels/kernels_internal.h"

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
typedef void step_fn(vec *acc, const uint8_t *block, const act_row *a, int64_t i, int n);
/* Adds the last n elements of a row, fewer than a block, to the accumulator of one token. */
typedef void tail_fn(vec *acc, const uint8_t *p, const act_row *a, int64_t i, int64_t n);

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
	int64_t act_elems; /* that share an activation scale; 0: f32 activations */
	tail_fn *tail;     /* NULL: k is a multiple of the block */
} matmul_type;

/* Tokens of a register tile of two rows, which share the loads of float activations: 2 x 8 sums, 2 rows
 * and 8 activations fill 32 registers. 0: a tile is one row of TILE_TOKENS. */
INLINE int64_t pair_tokens(matmul_type type) {
	return type.act_elems ? 0 : VEC_REGISTERS >= 32 ? 8 : 6;
}

enum {
	TILE_ROWS = 4,         /* of a GEMV: enough independent streams to cover memory latency */
	TILE_TOKENS = 4,       /* that share one unpacked block */
	MAX_TOKENS = 8,        /* of any tile */
	PREFETCH_BYTES = 2048, /* ahead of each stream of a GEMV */
	STREAM_BYTES = 4096,   /* of a row from which on a GEMV takes TILE_ROWS at once */
	PANEL_SUMS = 256,      /* of a panel: its rows, passed over by every token tile from L2, times
	                          the tile's tokens */
	CHUNK_ELEMS = 4096     /* of the tile's activations, which stay in L1 meanwhile */
};

INLINE act_row act_row_at(const matmul_args *m, matmul_type type, int64_t tok) {
	const uint8_t *p = m->a + (size_t)tok * m->a_stride;
	act_row row = {0};
	if (!type.act_elems) {
		row.f = (const float *)(const void *)p;
	} else {
		row.q = (const int8_t *)p;
		row.d = (const float *)(const void *)(p + rv_act_scale_offset(m->k));
		row.s = row.d + m->k / type.act_elems;
	}
	return row;
}

INLINE void prefetch_block(const uint8_t *p, size_t block_bytes) {
	UNROLL
	for (size_t i = 0; i < block_bytes; i += 64)
		__builtin_prefetch((const char *)p + i);
}

/* Blocks [from, to) of a register tile. n_rows and n_tok are constants after inlining. */
INLINE void add_blocks(vec *sums, const matmul_args *m, matmul_type type, int64_t row, const act_row *a,
                       int64_t from, int64_t to, int n_rows, int n_tok) {
	vec acc[2 * MAX_TOKENS];
	const uint8_t *w[TILE_ROWS];
	UNROLL
	for (int r = 0; r < n_rows; r++)
		w[r] = m->w + (size_t)(row + r) * m->w_stride + (size_t)from * type.block_bytes;
	UNROLL
	for (int i = 0; i < n_rows * n_tok; i++)
		acc[i] = sums[i];
	/* Weights that are read once, from memory: their streams look ahead; past the end of a row, to
	 * the row its stream has next. */
	const int64_t far = (int64_t)(PREFETCH_BYTES / type.block_bytes), ahead = far < to ? far : to;
	const int once = m->n_tok == n_tok;
	const size_t in_row = (size_t)ahead * type.block_bytes;
	const size_t next_row = in_row + (size_t)n_rows * m->w_stride - (size_t)to * type.block_bytes;
	for (int64_t b = from; b < to; b++) {
		const size_t distance = b + ahead < to ? in_row : next_row;
		UNROLL
		for (int r = 0; r < n_rows; r++) {
			if (once)
				prefetch_block(w[r] + distance, type.block_bytes);
			type.step(acc + r * n_tok, w[r], a, b, n_tok);
			w[r] += type.block_bytes;
		}
	}
	UNROLL
	for (int i = 0; i < n_rows * n_tok; i++)
		sums[i] = acc[i];
}

/* The elements after the last whole block, then the lanes. */
INLINE void finish_tile(const vec *sums, const matmul_args *m, matmul_type type, int64_t row,
                        int64_t tok, const act_row *a, int n_rows, int n_tok) {
	const int64_t rest = m->k % type.block_elems, blocks = m->k / type.block_elems;
	UNROLL
	for (int i = 0; i < n_rows * n_tok; i++) {
		vec acc = sums[i];
		if (type.tail && rest) {
			const uint8_t *w = m->w + (size_t)(row + i / n_tok) * m->w_stride;
			type.tail(&acc, w + (size_t)blocks * type.block_bytes, a + i % n_tok, blocks,
			          rest);
		}
		m->y[(tok + i % n_tok) * m->ldy + row + i / n_tok] = vec_sum(acc);
	}
}

/* A single token: the weights are read once, from memory. */
INLINE void gemv_rows(const matmul_args *m, matmul_type type, int64_t row, const act_row *a,
                      int n_rows) {
	vec sums[TILE_ROWS];
	UNROLL
	for (int i = 0; i < n_rows; i++)
		sums[i] = vec_zero();
	add_blocks(sums, m, type, row, a, 0, m->k / type.block_elems, n_rows, 1);
	finish_tile(sums, m, type, row, 0, a, n_rows, 1);
}

INLINE void matmul_gemv(const matmul_args *m, matmul_type type) {
	const act_row a = act_row_at(m, type, 0);
	/* Short rows, one after the other, make one long stream, which the hardware follows better. */
	const int together = m->w_stride >= STREAM_BYTES;
	int64_t row = 0;
	for (; together && row + TILE_ROWS <= m->rows; row += TILE_ROWS)
		gemv_rows(m, type, row, &a, TILE_ROWS);
	for (; row < m->rows; row++)
		gemv_rows(m, type, row, &a, 1);
}

/* n_rows of n_tok tokens whose k is one chunk: the sums never leave their registers. */
INLINE void short_tile(const matmul_args *m, matmul_type type, int64_t row, int64_t tok,
                       const act_row *a, int n_rows, int n_tok) {
	vec sums[2 * MAX_TOKENS];
	UNROLL
	for (int i = 0; i < n_rows * n_tok; i++)
		sums[i] = vec_zero();
	add_blocks(sums, m, type, row, a, 0, m->k / type.block_elems, n_rows, n_tok);
	finish_tile(sums, m, type, row, tok, a, n_rows, n_tok);
}

/* Rows [from, to), at most PANEL_SUMS / n_tok, of n_tok tokens. The chunks of a row come in ascending
 * order and meet in the same accumulators: cutting k changes no sum. */
INLINE void panel_tile(const matmul_args *m, matmul_type type, int64_t from, int64_t to, int64_t tok,
                       int n_tok) {
	vec sums[PANEL_SUMS];
	act_row a[MAX_TOKENS];
	UNROLL
	for (int t = 0; t < n_tok; t++)
		a[t] = act_row_at(m, type, tok + t);
	const int64_t blocks = m->k / type.block_elems, chunk = CHUNK_ELEMS / type.block_elems;
	if (pair_tokens(type) && blocks <= chunk) {
		int64_t row = from;
		for (; row + 2 <= to; row += 2)
			short_tile(m, type, row, tok, a, 2, n_tok);
		if (row < to)
			short_tile(m, type, row, tok, a, 1, n_tok);
		return;
	}
	for (int64_t i = 0; i < (to - from) * n_tok; i++)
		sums[i] = vec_zero();
	for (int64_t b = 0; b < blocks; b += chunk) {
		const int64_t end = b + chunk < blocks ? b + chunk : blocks;
		int64_t row = from;
		for (; pair_tokens(type) && row + 2 <= to; row += 2)
			add_blocks(sums + (row - from) * n_tok, m, type, row, a, b, end, 2, n_tok);
		for (; row < to; row++)
			add_blocks(sums + (row - from) * n_tok, m, type, row, a, b, end, 1, n_tok);
	}
	for (int64_t row = from; row < to; row++)
		finish_tile(sums + (row - from) * n_tok, m, type, row, tok, a, 1, n_tok);
}

/* n_tok, at most MAX_TOKENS, as a constant of each copy of the tile. */
INLINE void panel_tokens(const matmul_args *m, matmul_type type, int64_t from, int64_t to, int64_t tok,
                         int64_t n_tok) {
#define TOKENS(n)                                                                                      \
	case n:                                                                                        \
		panel_tile(m, type, from, to, tok, n);                                                 \
		break;
	switch (n_tok) {
		TOKENS(1)
		TOKENS(2)
		TOKENS(3)
		TOKENS(4)
		TOKENS(5)
		TOKENS(6)
		TOKENS(7)
		TOKENS(8)
	default:
		break;
	}
#undef TOKENS
}

INLINE void matmul_panel(const matmul_args *m, matmul_type type, int64_t from, int64_t to) {
	const int64_t most = pair_tokens(type);
	int64_t tok = 0;
	for (; most && tok < m->n_tok; tok += most)
		panel_tokens(m, type, from, to, tok, m->n_tok - tok < most ? m->n_tok - tok : most);
	for (; tok + TILE_TOKENS <= m->n_tok; tok += TILE_TOKENS)
		panel_tile(m, type, from, to, tok, TILE_TOKENS);
	if (m->n_tok - tok >= 2) {
		panel_tile(m, type, from, to, tok, 2);
		tok += 2;
	}
	if (tok < m->n_tok)
		panel_tile(m, type, from, to, tok, 1);
}

INLINE void matmul_all(const matmul_args *m, matmul_type type) {
	const int64_t most = pair_tokens(type), panel = PANEL_SUMS / (most ? most : TILE_TOKENS);
	if (m->n_tok == 1) {
		matmul_gemv(m, type);
		return;
	}
	for (int64_t row = 0; row < m->rows; row += panel)
		matmul_panel(m, type, row, row + panel < m->rows ? row + panel : m->rows);
}

/* function: without the level; type: a matmul_type initializer. */
#define RV_DEFINE_MATMUL(function, ...)                                                                \
	void LEVEL_NAME(function)(float *y, int64_t ldy, const void *w, size_t w_stride,               \
	                          const void *a, size_t a_stride, int64_t k, int64_t rows,             \
	                          int64_t n_tok) {                                                     \
		const matmul_args args = {y, ldy, w, w_stride, a, a_stride, k, rows, n_tok};           \
		matmul_all(&args, (matmul_type)__VA_ARGS__);                                           \
	}

#endif
