/* Checks of attention to one block of keys, of the merge of blocks, and of the cached rows. */
#include "tests/kernels/harness.h"

#include <math.h>
#include <string.h>

enum { MAX_Q = 40, MAX_DIM = 256 };

static const int64_t head_dims[] = {2, 8, 16, 32, 40, 64, 80, 96, 128, 192, 256};
enum { N_DIMS = sizeof head_dims / sizeof *head_dims };

static float want_o[MAX_Q * MAX_DIM], want_max[MAX_Q], want_sum[MAX_Q];

static size_t bytes_of(int64_t n) {
	return (size_t)n * sizeof(float);
}

/* Cached rows as columns and rows; those no query sees hold NaN. */
static void clear_unseen(float *kt, float *v, int64_t seen, int64_t head_dim) {
	for (int64_t j = seen; j < RV_ATTN_BLOCK; j++) {
		for (int64_t d = 0; d < head_dim; d++) {
			kt[d * RV_ATTN_BLOCK + j] = v[j * head_dim + d] = NAN;
		}
	}
}

typedef struct block_results {
	float *o, *max, *sum;
} block_results;

static block_results take_results(checker *c, int64_t n_q, int64_t head_dim) {
	block_results r = {floats_out(c, n_q * head_dim), floats_out(c, n_q), floats_out(c, n_q)};
	return r;
}

/* Nothing, or what a few blocks may have left behind. */
static void fill_results(checker *c, block_results r, int64_t n_q, int64_t head_dim) {
	fill(c, r.o, n_q * head_dim, KIND_GAUSS);
	for (int64_t i = 0; i < n_q; i++) {
		r.max[i] = gauss(c) * 2;
		r.sum[i] = 1 + 10 * fabsf(gauss(c));
		if (below(c, 3) == 0) {
			r.max[i] = -INFINITY;
			r.sum[i] = 0;
			for (int64_t d = i * head_dim; d < (i + 1) * head_dim; d++) {
				r.o[d] = NAN; /* not to be read */
			}
		}
	}
}

static void copy_results(block_results to, block_results from, int64_t n_q, int64_t head_dim) {
	memcpy(to.o, from.o, bytes_of(n_q * head_dim));
	memcpy(to.max, from.max, bytes_of(n_q));
	memcpy(to.sum, from.sum, bytes_of(n_q));
}

static int same_results(checker *c, const char *what, block_results got, block_results want,
                        int64_t n_q, int64_t head_dim) {
	return same(c, what, got.max, want.max, bytes_of(n_q)) ||
	       same(c, what, got.sum, want.sum, bytes_of(n_q)) ||
	       same(c, what, got.o, want.o, bytes_of(n_q * head_dim));
}

typedef struct block_inputs {
	float *q, *kt, *v;
	int32_t *n_keys;
} block_inputs;

static block_inputs block_in(checker *c, int64_t n_q, int64_t head_dim) {
	block_inputs in = {floats_in(c, n_q * head_dim, KIND_GAUSS),
	                   floats_in(c, head_dim * RV_ATTN_BLOCK, KIND_GAUSS),
	                   floats_in(c, RV_ATTN_BLOCK * head_dim, KIND_GAUSS),
	                   take(c, (size_t)n_q * sizeof(int32_t), sizeof(int32_t), 1)};
	int64_t seen = 0;
	for (int64_t i = 0; i < n_q; i++) {
		in.n_keys[i] = below(c, 3) ? (int32_t)below(c, RV_ATTN_BLOCK + 1)
		                           : RV_ATTN_BLOCK * (int)(i % 2);
		seen = in.n_keys[i] > seen ? in.n_keys[i] : seen;
	}
	for (int64_t i = 0; i < n_q * head_dim; i++) {
		in.q[i] /= sqrtf((float)head_dim);
	}
	clear_unseen(in.kt, in.v, seen, head_dim);
	return in;
}

static int attn_block_shape(checker *c, int64_t n_q, int64_t head_dim) {
	reset(c);
	block_inputs in = block_in(c, n_q, head_dim);
	block_results whole = take_results(c, n_q, head_dim), cut = take_results(c, n_q, head_dim),
	              apart = take_results(c, n_q, head_dim);
	block_results want = {want_o, want_max, want_sum};
	fill_results(c, whole, n_q, head_dim);
	copy_results(cut, whole, n_q, head_dim);
	copy_results(want, whole, n_q, head_dim);
	for (int64_t i = 0; i < n_q; i++) { /* a query without any key keeps what it had */
		apart.max[i] = -INFINITY;
		apart.sum[i] = 0;
	}
	rv_kernels_ref.attn_block(want_o, want_max, want_sum, in.q, in.kt, in.v, in.n_keys, n_q,
	                          head_dim);
	int64_t n = below(c, n_q + 1), m = n_q - n;
	seal(c);
	c->k->attn_block(cut.o, cut.max, cut.sum, in.q, in.kt, in.v, in.n_keys, n, head_dim);
	c->k->attn_block(cut.o + n * head_dim, cut.max + n, cut.sum + n, in.q + n * head_dim, in.kt,
	                 in.v, in.n_keys + n, m, head_dim);
	c->k->attn_block(apart.o, apart.max, apart.sum, in.q, in.kt, in.v, in.n_keys, n_q, head_dim);
	block_results merged = take_results(c, n_q, head_dim);
	copy_results(merged, whole, n_q, head_dim);
	c->k->attn_merge(merged.o, merged.max, merged.sum, apart.o, apart.max, apart.sum, n_q,
	                 head_dim);
	c->k->attn_block(whole.o, whole.max, whole.sum, in.q, in.kt, in.v, in.n_keys, n_q, head_dim);
	double tol = row_tolerance[ROW_attn_block];
	/* scores are about 1, sums and values up to 64 of them */
	if (verify(c, "attn_block") || near(c, "attn_block: max", whole.max, want_max, n_q, tol, 1) ||
	    near(c, "attn_block: sum", whole.sum, want_sum, n_q, tol, 1) ||
	    near(c, "attn_block: o", whole.o, want_o, n_q * head_dim, tol, 10)) {
		return -1;
	}
	return same_results(c, "attn_block with its queries cut in two", cut, whole, n_q, head_dim) ||
	                       same_results(c, "attn_block from nothing, then attn_merge", merged,
	                                    whole, n_q, head_dim)
	               ? -1
	               : 0;
}

int check_attn_block(checker *c, int arg) {
	(void)arg;
	for (int i = 0; i < 5 * N_DIMS; i++) {
		int64_t n_q = i % 5 == 0 ? 1 : below(c, MAX_Q + 1);
		if (attn_block_shape(c, n_q, head_dims[i / 5])) {
			return -1;
		}
	}
	return 0;
}

/* Rows anywhere, in no order; beyond those that are seen, up to the next 16, the last one again. */
static const rv_f16 **rows_in(checker *c, int64_t seen, int64_t head_dim, float *decoded, int columns) {
	int64_t stride = head_dim + 8, n = (seen + 15) / 16 * 16;
	rv_f16 *rows = take(c, (size_t)(seen * stride) * sizeof *rows, sizeof *rows, 1);
	const rv_f16 **at = take(c, (size_t)n * sizeof *at, sizeof *at, 1);
	for (int64_t j = 0; j < seen; j++) {
		at[j] = rows + (seen - 1 - j) * stride;
		for (int64_t d = 0; d < stride; d++) {
			rv_f16 x = rv_f32_to_f16(gauss(c));
			rows[(seen - 1 - j) * stride + d] = x;
			if (d < head_dim) {
				decoded[columns ? d * RV_ATTN_BLOCK + j : j * head_dim + d] =
				        rv_f16_to_f32(x);
			}
		}
	}
	for (int64_t j = seen; j < n; j++) {
		at[j] = at[seen - 1];
	}
	return at;
}

/* To the bit what attn_block gives for the same rows, decoded. */
static int attn_rows_shape(checker *c, int64_t n_q, int64_t head_dim) {
	reset(c);
	block_inputs in = block_in(c, n_q, head_dim);
	int64_t seen = 0;
	for (int64_t i = 0; i < n_q; i++) {
		seen = in.n_keys[i] > seen ? in.n_keys[i] : seen;
	}
	const rv_f16 **keys = rows_in(c, seen, head_dim, in.kt, 1);
	const rv_f16 **values = rows_in(c, seen, head_dim, in.v, 0);
	block_results want = {want_o, want_max, want_sum}, got = take_results(c, n_q, head_dim);
	fill_results(c, got, n_q, head_dim);
	copy_results(want, got, n_q, head_dim);
	seal(c);
	c->k->attn_block(want_o, want_max, want_sum, in.q, in.kt, in.v, in.n_keys, n_q, head_dim);
	const int next = n_q % 2 == 0; /* any rows: they are in no result */
	c->k->attn_rows(got.o, got.max, got.sum, in.q, keys, values, next ? values : NULL,
	                next ? keys : NULL, in.n_keys, n_q, head_dim);
	if (verify(c, "attn_rows")) {
		return -1;
	}
	return same_results(c, "attn_rows against attn_block", got, want, n_q, head_dim);
}

int check_attn_rows(checker *c, int arg) {
	(void)arg;
	for (int i = 0; i < 8 * N_DIMS; i++) {
		if (head_dims[i / 8] % 16 == 0 &&
		    attn_rows_shape(c, 1 + i % 8 + (i % 8 == 7 ? below(c, 30) : 0), head_dims[i / 8])) {
			return -1;
		}
	}
	return 0;
}

/* A block's results: sometimes without keys. */
static block_results random_results(checker *c, int64_t n_q, int64_t head_dim, int input) {
	block_results r = take_results(c, n_q, head_dim);
	for (int s = 1; s <= 3; s++) {
		c->slots[c->used - s].input = input;
	}
	fill(c, r.o, n_q * head_dim, KIND_GAUSS);
	for (int64_t i = 0; i < n_q; i++) {
		r.max[i] = gauss(c) * 20;
		r.sum[i] = 1 + 10 * fabsf(gauss(c));
		if (below(c, 4) == 0) {
			r.max[i] = -INFINITY;
			r.sum[i] = 0;
			memset(r.o + i * head_dim, 0, bytes_of(head_dim));
		}
	}
	return r;
}

static int merge_shape(checker *c, int64_t n_q, int64_t head_dim) {
	reset(c);
	block_results a = random_results(c, n_q, head_dim, 0), b = random_results(c, n_q, head_dim, 1);
	memcpy(want_o, a.o, bytes_of(n_q * head_dim));
	memcpy(want_max, a.max, bytes_of(n_q));
	memcpy(want_sum, a.sum, bytes_of(n_q));
	rv_kernels_ref.attn_merge(want_o, want_max, want_sum, b.o, b.max, b.sum, n_q, head_dim);
	seal(c);
	c->k->attn_merge(a.o, a.max, a.sum, b.o, b.max, b.sum, n_q, head_dim);
	double tol = row_tolerance[ROW_attn_merge];
	if (verify(c, "attn_merge") || same(c, "attn_merge: max", a.max, want_max, bytes_of(n_q)) ||
	    near(c, "attn_merge: sum", a.sum, want_sum, n_q, tol, 1) ||
	    near(c, "attn_merge: o", a.o, want_o, n_q * head_dim, tol, 3)) {
		return -1;
	}
	return 0;
}

int check_attn_merge(checker *c, int arg) {
	(void)arg;
	for (int i = 0; i < 4 * N_DIMS; i++) {
		if (merge_shape(c, below(c, MAX_Q + 1), head_dims[i / 4])) {
			return -1;
		}
	}
	return 0;
}

int check_attn_finish(checker *c, int arg) {
	(void)arg;
	for (int i = 0; i < 4 * N_DIMS; i++) {
		int64_t n_q = below(c, MAX_Q + 1), head_dim = head_dims[i / 4];
		reset(c);
		block_results r = random_results(c, n_q, head_dim, 0);
		memcpy(want_o, r.o, bytes_of(n_q * head_dim));
		rv_kernels_ref.attn_finish(want_o, r.sum, n_q, head_dim);
		seal(c);
		c->k->attn_finish(r.o, r.sum, n_q, head_dim);
		double tol = row_tolerance[ROW_attn_finish];
		if (verify(c, "attn_finish") ||
		    near(c, "attn_finish", r.o, want_o, n_q * head_dim, tol, 0)) {
			return -1;
		}
	}
	return 0;
}

/* ---- cached rows ---- */

/* Largest error of an element that the format allows. */
static float kv_bound(rv_kv_type type, const float *x, int64_t head_dim, int64_t i) {
	int64_t start = i / RV_KV_GROUP * RV_KV_GROUP;
	int64_t end = start + RV_KV_GROUP < head_dim ? start + RV_KV_GROUP : head_dim;
	float min = x[start], max = x[start];
	for (int64_t j = start; j < end; j++) {
		min = fminf(min, x[j]);
		max = fmaxf(max, x[j]);
	}
	float top = fmaxf(fabsf(min), fabsf(max)), half = 0x1p-11f * top; /* rounding of an f16 */
	switch (type) {
	case RV_KV_F32:
		return 0;
	case RV_KV_F16:
		return 0x1p-11f * fabsf(x[i]) + 0x1p-25f;
	case RV_KV_Q8:
		return top / 127 * 0.51f + half + 0x1p-17f;
	case RV_KV_Q2:
		return (max - min) / 3 * 0.51f + 2 * half + 0x1p-20f;
	default:
		return (max - min) / 15 * 0.51f + 2 * half + 0x1p-20f;
	}
}

static int kv_shape(checker *c, rv_kv_type type, int64_t n, int64_t head_dim, kind how) {
	static float want_k[MAX_DIM * RV_ATTN_BLOCK], want_v[MAX_DIM * RV_ATTN_BLOCK];
	size_t row = rv_kv_row_bytes(type, head_dim), stride = row + (size_t)below(c, 3) * 7;
	reset(c);
	float *x = floats_in(c, head_dim, how);
	unsigned char *rows = take(c, n ? (size_t)(n - 1) * stride + row : 0, 1, 0);
	unsigned char *expected = take(c, row, 1, 0);
	int64_t first = n < RV_ATTN_BLOCK ? below(c, RV_ATTN_BLOCK - n + 1) : 0;
	float *kt = floats_out(c, head_dim * RV_ATTN_BLOCK), *v = floats_out(c, n * head_dim);
	for (int64_t i = 0; i < n; i++) {
		fill(c, x, head_dim, how);
		rv_kernels_ref.kv[type].store(expected, x, head_dim);
		seal(c);
		c->k->kv[type].store(rows + (size_t)i * stride, x, head_dim);
		if (verify(c, "kv store") || same(c, "kv store against the reference",
		                                  rows + (size_t)i * stride, expected, row)) {
			return -1;
		}
		rv_kernels_ref.kv[type].load_values(want_v, expected, row, 1, head_dim);
		for (int64_t d = 0; d < head_dim; d++) {
			if (!(fabsf(want_v[d] - x[d]) <= kv_bound(type, x, head_dim, d))) {
				return fail(c, "kv round trip: %.9g came back as %.9g", (double)x[d],
				            (double)want_v[d]);
			}
		}
	}
	memset(want_k, 0xff, sizeof want_k);
	rv_kernels_ref.kv[type].load_keys(want_k + first, rows, stride, n, head_dim);
	rv_kernels_ref.kv[type].load_values(want_v, rows, stride, n, head_dim);
	for (int i = 0; i < c->used; i++) {
		c->slots[i].input |= c->slots[i].data == rows;
	}
	seal(c);
	c->k->kv[type].load_keys(kt + first, rows, stride, n, head_dim);
	c->k->kv[type].load_values(v, rows, stride, n, head_dim);
	return verify(c, "kv load") ||
	                       same(c, "kv load_keys (or its neighbours' columns)", kt, want_k,
	                            bytes_of(head_dim * RV_ATTN_BLOCK)) ||
	                       same(c, "kv load_values", v, want_v, bytes_of(n * head_dim))
	               ? -1
	               : 0;
}

static int kv_not_finite(checker *c, rv_kv_type type, float bad) {
	float x[96], v[96];
	unsigned char row[96 * sizeof(float)];
	fill(c, x, 96, KIND_GAUSS);
	x[below(c, 96)] = bad;
	c->k->kv[type].store(row, x, 96);
	c->k->kv[type].load_values(v, row, sizeof row, 1, 96);
	for (int d = 0; d < 96; d++) {
		if (!isfinite(x[d]) && isfinite(v[d])) {
			return fail(c, "kv: %.9g was hidden as %.9g", (double)x[d], (double)v[d]);
		}
	}
	return 0;
}

int check_kv(checker *c, int arg) {
	static const kind kinds[] = {KIND_GAUSS,    KIND_SMALL,    KIND_ZEROS,
	                             KIND_DENORMAL, KIND_EXTREMES, KIND_SPIKE};
	rv_kv_type type = (rv_kv_type)arg;
	for (int i = 0; i < 6 * N_DIMS; i++) {
		int64_t n = i % 6 == 0 ? RV_ATTN_BLOCK : below(c, RV_ATTN_BLOCK + 1);
		if (kv_shape(c, type, n, head_dims[i / 6], kinds[i % 6])) {
			return -1;
		}
	}
	return kv_not_finite(c, type, NAN) || kv_not_finite(c, type, INFINITY) ||
	                       kv_not_finite(c, type, -INFINITY)
	               ? -1
	               : 0;
}
