/* The kernel registry: pure functions on arrays. No allocation, no I/O, no threads, no mutable state.
 *
 * rv_kernels_for(level) gives one immutable table a feature level; every slot of every table is
 * filled (a level without its own form of a kernel lists the form of a weaker level).
 *
 * Order of summation (the invariance contract). Within one level the value of an output element
 * depends only on its own inputs: not on how many rows, tokens or queries a call handles, nor on
 * alignment. Each matmul states its order beside its definition. Vector reductions send element i to
 * lane i mod W (W a constant of the level) and reduce the lanes by a fixed tree; tails are masked into
 * the same lanes, never summed apart. So appending zeros never changes a sum.
 */
#ifndef RV_KERNELS_KERNELS_H
#define RV_KERNELS_KERNELS_H

#include "kernels/blocks.h"

#include <math.h>
#include <stddef.h>
#include <stdint.h>

/* ---- feature levels ---- */

typedef enum rv_level {
#define RV_LEVEL(name, text, arch) RV_LEVEL_##name,
#include "kernels/levels.def"
#undef RV_LEVEL
	RV_LEVEL_COUNT
} rv_level;

const char *rv_level_name(rv_level level); /* "avx2" */
/* Level of that name, or RV_LEVEL_COUNT when unknown. */
rv_level rv_level_by_name(const char *name);
/* Whether this build has the level's code and this CPU (and OS) can run it. */
int rv_level_available(rv_level level);
/* The strongest available level. */
rv_level rv_level_best(void);
/* Space-separated names of the CPU features found, into buf (always NUL-terminated). */
void rv_cpu_features(char *buf, size_t size);

/* ---- weight types ---- */

typedef enum rv_type {
#define RV_TYPE(name, id, elems, bytes, act) RV_##name = id,
#include "kernels/types.def"
#undef RV_TYPE
	RV_TYPE_LIMIT = 31
} rv_type;

/* Formats activations are rounded to before an integer dot product; one format a weight type. A row of
 * K elements, rv_act_row_bytes() long:
 *   F32: float x[K]
 *   Q8:  int8 q[K]; then, at the next multiple of 64, float d[K/32], float s[K/32]
 *        x = d q, d = max|x| / 127 of 32 elements (held as an f16 holds it), q rounded to nearest even,
 *        s = d * sum(q)
 *   Q8K: int8 q[K]; then, at the next multiple of 64, float d[K/256], int16 b[K/16]
 *        d = max|x| / 127 of 256 elements, b the sums of q over 16 elements */
typedef enum rv_act { RV_ACT_F32, RV_ACT_Q8, RV_ACT_Q8K, RV_ACT_COUNT } rv_act;

typedef struct rv_type_info {
	const char *name; /* "Q4_K" */
	rv_type type;
	int block_elems;
	int block_bytes;
	rv_act act;
} rv_type_info;

/* NULL for a number that is no known type. */
const rv_type_info *rv_type_get(int type);
/* Case-insensitive; NULL when unknown. */
const rv_type_info *rv_type_by_name(const char *name);
/* Bytes of a row of K elements; K must be a multiple of the block, and K * bytes must fit (callers
 * check K against the file first). */
static inline size_t rv_type_row_bytes(const rv_type_info *t, int64_t k) {
	return (size_t)(k / t->block_elems) * (size_t)t->block_bytes;
}
/* A multiple of 64. */
size_t rv_act_row_bytes(rv_act act, int64_t k);
/* Offset in bytes of the scales (d) in a quantized activation row. */
static inline size_t rv_act_scale_offset(int64_t k) {
	return ((size_t)k + 63) & ~(size_t)63;
}

/* Weight layouts: GGML is the file's, rows of blocks one after the other. Packed layouts (rows
 * interleaved for a level) get their own enumerator, matmul slot and pack/unpack pair. */
typedef enum rv_layout { RV_LAYOUT_GGML, RV_LAYOUT_COUNT } rv_layout;

/* y[t * ldy + r] = <row r of w, row t of a> for r in [0, rows), t in [0, n_tok).
 * w: rows of k elements, w_stride bytes apart (any alignment). a: rows in the type's activation
 * format, a_stride bytes apart, 64-byte aligned. k is a multiple of the block; 0 gives zeros.
 * Bytes outside [row, row + row_bytes) are never read. */
typedef void rv_matmul_fn(float *y, int64_t ldy, const void *w, size_t w_stride, const void *a,
                          size_t a_stride, int64_t k, int64_t rows, int64_t n_tok);
/* y[n] = decoded row; n a multiple of the block. Bit-identical at every level, equal to ggml's. */
typedef void rv_dequantize_fn(float *y, const void *x, int64_t n);
/* Encodes n elements (a whole row). importance: n non-negative weights of the squared error, or
 * NULL. Deterministic. Bit-identical at every level. */
typedef void rv_quantize_fn(void *y, const float *x, const float *importance, int64_t n);
/* Rounds one activation row. NaN or infinity in x gives NaN scales, so that it surfaces in y. */
typedef void rv_quantize_act_fn(void *y, const float *x, int64_t k);

typedef struct rv_type_ops {
	rv_dequantize_fn *dequantize;
	rv_quantize_fn *quantize; /* NULL: cannot be written (Q2_K, Q3_K, Q4_1) */
	rv_matmul_fn *matmul[RV_LAYOUT_COUNT];
	/* the same product with f32 activations (a: float rows) and decoded weights */
	rv_matmul_fn *matmul_float;
} rv_type_ops;

/* ---- cached keys and values ---- */

/* A cached row is one token's key or value of one head, head_dim elements:
 *   F32, F16: plain
 *   Q8: per group of up to 128 elements an f16 scale, then int8 q[group]     (x = d q)
 *   Q4: per group of up to 128 elements f16 scale, f16 minimum, then nibbles  (x = d q + m; byte j
 *       holds elements 2j (low) and 2j + 1 (high)); head_dim even
 *   Q2: the same with two bits an element, byte j holding elements 4j (lowest) to 4j + 3
 * Formats of a whole block of tokens are in kv_codes.h. */
typedef enum rv_kv_type { RV_KV_F32, RV_KV_F16, RV_KV_Q8, RV_KV_Q4, RV_KV_Q2, RV_KV_COUNT } rv_kv_type;
const char *rv_kv_type_name(rv_kv_type type); /* "f16" */
size_t rv_kv_row_bytes(rv_kv_type type, int64_t head_dim);

#define RV_ATTN_BLOCK 64 /* keys; the key axis is always cut at absolute multiples of this */

typedef struct rv_kv_ops {
	/* Rounds one row. */
	void (*store)(void *dst, const float *src, int64_t head_dim);
	/* Decodes n rows, `stride` bytes apart, into columns: kt[d * RV_ATTN_BLOCK + i] for row i. */
	void (*load_keys)(float *kt, const void *src, size_t stride, int64_t n, int64_t head_dim);
	/* Decodes n rows, `stride` bytes apart, into v[i * head_dim + d]. */
	void (*load_values)(float *v, const void *src, size_t stride, int64_t n, int64_t head_dim);
} rv_kv_ops;

/* ---- the most a core can do ---- */

/* A loop of independent multiply-adds on registers alone: the roof of products of f32, or of 8-bit
 * integers summed in 32 bits. run(steps) returns the sum of all accumulators: 9 a product more with
 * each step, exact up to a million steps (F32: 10 000). ops: operations of a step, multiply and add
 * counted each. */
typedef enum rv_peak_kind { RV_PEAK_F32, RV_PEAK_INT8, RV_PEAK_COUNT } rv_peak_kind;
typedef struct rv_peak {
	double (*run)(int64_t steps);
	int ops;
} rv_peak;

/* ---- all other kernels (kernels.def) ----
 *
 * add            y += x
 * rms_norm       y = x / sqrt(mean(x^2) + eps) * w; y may be x
 * add_rms_norm   x += r; y = rms_norm(x): the residual stream and its norm in one pass
 * rope           x: [n_heads, head_dim], rotated in place by cs: [n_rot / 2, (cos, sin)]; pairs
 *                (i, i + n_rot / 2) when neox, else (2i, 2i + 1); elements from n_rot on unchanged
 * swiglu         y = gate * sigmoid(gate) * up; y may be gate or up
 * softmax        in place; -inf gives exactly 0; all -inf gives all 0
 * gemm           c[m, n] = a[m, k] b[k, n], row-major; each element accumulates over k in ascending
 *                order with fused multiply-add, from 0
 * attn_block     (o, max, sum) := merge with one block of 64 keys on its right, for n_q queries
 *                (already scaled) [n_q, head_dim]; kt [head_dim, 64], v [64, head_dim], of which query
 *                i sees the first n_keys[i] (0..64); columns and rows beyond are in no result but must
 *                be readable. Before the first block max is -inf and sum 0, and o is not read. o is not
 *                divided by sum. Values accumulate in ascending key order
 * attn_rows      attn_block to the bit, with the block's keys and values as rows of f16 where they
 *                stand; head_dim a multiple of 16; of both arrays the pointers up to the next multiple
 *                of 16 of the largest n_keys must be rows that can be read. next_keys, next_values: 64
 *                rows each that will be asked for next, fetched into the cache meanwhile; NULL: none
 * attn_merge     the same with a block (o2, max2, sum2) that attn_block took from nothing: to the bit
 *                what attn_block gives at once
 * attn_finish    o /= sum (zeros where sum is 0; o is not read there)
 * dot_f32        *out = sum x y
 * l2_f32         *out = sum (x - y)^2: squared Euclidean distance
 * l1_f32         *out = sum |x - y|: Manhattan distance
 * cosine_f32     out[0..2] = sum x y, sum x x, sum y y, in one pass (rv_cosine_similarity)
 * dot_rows_f32   out[r] = dot_f32(x, rows[r]) to the bit, for rows that lie anywhere; a row is fetched
 *                while those before it are summed
 * l2_rows_f32    out[r] = l2_f32(x, rows[r]) likewise
 *   Integer sums are exact, so the same at every level. n is at most RV_CODE_MAX; signed codes are
 *   -127..127.
 * dot_i8         *out = sum x y
 * l2_i8          *out = sum (x - y)^2
 * hamming        *out = bits in which n bytes differ
 * dot_rows_i8    out[r] = dot_i8(x, rows[r])
 * dot_rows_i4    the same with rows of 4-bit codes 0..15: with h = (n + 1) / 2, byte j holds element j
 *                (low) and element j + h (high, not read where there is none)
 * dot_rows_b1    the same with rows of bits: out[r] = the sum of x[i] whose bit is set, that of value
 *                1 << i % 8 in byte i / 8
 * adc_rows       out[r] = the sum of table[j][rows[r][j]] over j in [0, n); table: [n, 256]
 */
#define RV_CODE_MAX 32768
#define RV_KERNEL(name, params, ...) typedef void rv_##name##_fn params;
#include "kernels/kernels.def"
#undef RV_KERNEL

typedef struct rv_kernels {
	rv_level level;
	rv_type_ops type[RV_TYPE_LIMIT]; /* indexed by rv_type; unused numbers are all NULL */
	rv_quantize_act_fn *quantize_act[RV_ACT_COUNT]; /* F32: a copy */
	rv_kv_ops kv[RV_KV_COUNT];
	const rv_peak *peak[RV_PEAK_COUNT];
#define RV_KERNEL(name, params, ...) rv_##name##_fn *name;
#include "kernels/kernels.def"
#undef RV_KERNEL
} rv_kernels;

/* NULL when the level is not in this build. Calling its functions on a CPU without it is an illegal
 * instruction: ask rv_level_available first. */
const rv_kernels *rv_kernels_for(rv_level level);

/* From the sums of cosine_f32; 0 where a vector has no length. */
static inline float rv_cosine_similarity(const float *sums) {
	const float both = sqrtf(sums[1]) * sqrtf(sums[2]);
	return both > 0 ? sums[0] / both : 0;
}

/* ---- scalar conversions ---- */

float rv_f16_to_f32(rv_f16 h);
rv_f16 rv_f32_to_f16(float f); /* round to nearest even; overflow gives infinity */
static inline float rv_bf16_to_f32(rv_bf16 h) {
	union {
		uint32_t u;
		float f;
	} v = {(uint32_t)h << 16};
	return v.f;
}
rv_bf16 rv_f32_to_bf16(float f); /* round to nearest even; NaN stays NaN */

#endif
