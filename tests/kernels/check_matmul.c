/* Checks of the products of weights and activations, and of the rounding of activations. What is
 * expected of a product is computed here in double from the decoded operands, so that the reference is
 * checked as well. */
#include "tests/kernels/harness.h"

#include "kernels/ref/unpack.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

enum { MAX_K = 2048, MAX_ROWS = 40, MAX_TOK = 33 };

/* Relative to the sum of the magnitudes of the terms: K / W roundings of partial sums. */
#define TOLERANCE 4e-6

/* ---- weights ---- */

/* Where the f16 fields of a block are; -1: none. */
static const int scale_fields[RV_TYPE_LIMIT][2] = {
        [RV_Q4_0] = {offsetof(rv_q4_0, d), -1},
        [RV_Q4_1] = {offsetof(rv_q4_1, d), offsetof(rv_q4_1, m)},
        [RV_Q5_0] = {offsetof(rv_q5_0, d), -1},
        [RV_Q5_1] = {offsetof(rv_q5_1, d), offsetof(rv_q5_1, m)},
        [RV_Q8_0] = {offsetof(rv_q8_0, d), -1},
        [RV_Q2_K] = {offsetof(rv_q2_k, d), offsetof(rv_q2_k, dmin)},
        [RV_Q3_K] = {offsetof(rv_q3_k, d), -1},
        [RV_Q4_K] = {offsetof(rv_q4_k, d), offsetof(rv_q4_k, dmin)},
        [RV_Q5_K] = {offsetof(rv_q5_k, d), offsetof(rv_q5_k, dmin)},
        [RV_Q6_K] = {offsetof(rv_q6_k, d), -1},
};

static rv_f16 random_scale(checker *c) {
	static const float special[] = {0, -0.0f, 0x1p-24f, 0x1p-15f, 6e4f, -6e4f};
	if (below(c, 8) == 0) {
		return rv_f32_to_f16(special[below(c, 6)]);
	}
	return rv_f32_to_f16(gauss(c) * 0.01f);
}

static void random_plain(checker *c, rv_type type, unsigned char *row, int64_t k) {
	for (int64_t i = 0; i < k; i++) {
		float x = gauss(c) * (below(c, 16) ? 1 : 0x1p-20f);
		uint16_t h = type == RV_F16 ? rv_f32_to_f16(x) : rv_f32_to_bf16(x);
		if (type == RV_F32) {
			memcpy(row + 4 * i, &x, 4);
		} else {
			memcpy(row + 2 * i, &h, 2);
		}
	}
}

void random_weights(checker *c, rv_type type, void *row, int64_t k) {
	const rv_type_info *t = rv_type_get((int)type);
	if (t->block_elems == 1) {
		random_plain(c, type, row, k);
		return;
	}
	for (int64_t b = 0; b < k / t->block_elems; b++) {
		unsigned char *block = (unsigned char *)row + b * t->block_bytes;
		static const int constant[] = {0x00, 0xff, 0x80, 0x7f};
		int pick = (int)below(c, 12);
		for (int i = 0; i < t->block_bytes; i++) {
			block[i] = (unsigned char)(pick < 4 ? constant[pick] : (int)(next(c) >> 56));
		}
		for (int f = 0; f < 2; f++) {
			if (f == 0 || scale_fields[type][f] >= 0) {
				rv_f16 d = random_scale(c);
				memcpy(block + scale_fields[type][f], &d, sizeof d);
			}
		}
	}
}

/* How to take a block apart, and what its codes are stored above their value. */
static const struct {
	void (*small)(rv_block32 *out, const void *block);
	void (*super)(rv_block256 *out, const void *block);
	int offset;
} unpack[RV_TYPE_LIMIT] = {
        [RV_Q4_0] = {rv_unpack_q4_0, NULL, 8},  [RV_Q4_1] = {rv_unpack_q4_1, NULL, 0},
        [RV_Q5_0] = {rv_unpack_q5_0, NULL, 16}, [RV_Q5_1] = {rv_unpack_q5_1, NULL, 0},
        [RV_Q8_0] = {rv_unpack_q8_0, NULL, 0},  [RV_Q2_K] = {NULL, rv_unpack_q2_k, 0},
        [RV_Q3_K] = {NULL, rv_unpack_q3_k, 4},  [RV_Q4_K] = {NULL, rv_unpack_q4_k, 0},
        [RV_Q5_K] = {NULL, rv_unpack_q5_k, 0},  [RV_Q6_K] = {NULL, rv_unpack_q6_k, 32},
};

/* Magnitudes of the terms that a kernel adds up for an element: minimum and code are summed apart, and
 * it may take the codes as stored and the offset apart, too. */
static void magnitudes(rv_type type, const unsigned char *row, double *m, const float *decoded,
                       int64_t k) {
	const rv_type_info *t = rv_type_get((int)type);
	rv_block32 small;
	rv_block256 super;
	for (int64_t i = 0; i < k; i++) {
		const unsigned char *block = row + i / t->block_elems * t->block_bytes;
		int sub = (int)(i % RV_QKK / 16), start = i % t->block_elems == 0;
		m[i] = fabs((double)decoded[i]);
		if (unpack[type].small) {
			if (start) {
				unpack[type].small(&small, block);
			}
			m[i] += 2 * fabs((double)small.m) +
			        2 * unpack[type].offset * fabs((double)small.d);
		} else if (unpack[type].super) {
			if (start) {
				unpack[type].super(&super, block);
			}
			m[i] += 2 * fabs((double)super.dmin * super.min[sub]) +
			        2 * unpack[type].offset * fabs((double)super.d * super.scale[sub]);
		}
	}
}

/* ---- activations ---- */

static void decode_activations(rv_act act, const void *row, double *x, int64_t k) {
	const float *d = (const float *)((const char *)row + rv_act_scale_offset(k));
	for (int64_t i = 0; i < k; i++) {
		if (act == RV_ACT_F32) {
			x[i] = (double)((const float *)row)[i];
		} else {
			x[i] = (double)d[i / (act == RV_ACT_Q8 ? 32 : 256)] * ((const int8_t *)row)[i];
		}
	}
}

/* ---- products ---- */

typedef struct product {
	rv_matmul_fn *run;
	rv_type type;
	rv_act act;
	int64_t k, rows, n_tok, ldy;
	size_t w_stride, a_stride;
	unsigned char *w, *a;
	float *y;
} product;

static float *row_of(const product *p, int64_t tok) {
	return p->y + tok * p->ldy;
}

static void setup(checker *c, product *p, kind how) {
	const rv_type_info *t = rv_type_get((int)p->type);
	static float x[MAX_K];
	size_t row = rv_type_row_bytes(t, p->k);
	reset(c);
	p->w_stride = row + (size_t)below(c, 3) * 5;
	p->a_stride = rv_act_row_bytes(p->act, p->k) + 64 * (size_t)below(c, 2);
	p->ldy = p->rows + below(c, 4);
	p->w = take(c, p->rows ? (size_t)(p->rows - 1) * p->w_stride + row : 0, 1, 1);
	size_t a_row = rv_act_row_bytes(p->act, p->k);
	p->a = take(c, p->n_tok ? (size_t)(p->n_tok - 1) * p->a_stride + a_row : 0, 64, 1);
	p->y = floats_out(c, p->n_tok ? (p->n_tok - 1) * p->ldy + p->rows : 0);
	for (int64_t r = 0; r < p->rows; r++) {
		random_weights(c, p->type, p->w + (size_t)r * p->w_stride, p->k);
	}
	for (int64_t i = 0; i < p->n_tok; i++) {
		fill(c, x, p->k, how);
		rv_kernels_ref.quantize_act[p->act](p->a + (size_t)i * p->a_stride, x, p->k);
	}
}

static void call(const product *p, float *y, int64_t row, int64_t rows, int64_t tok, int64_t n_tok) {
	p->run(y, p->ldy, p->w + (size_t)row * p->w_stride, p->w_stride,
	       p->a + (size_t)tok * p->a_stride, p->a_stride, p->k, rows, n_tok);
}

static int right(checker *c, const product *p) {
	static double x[MAX_TOK][MAX_K], m[MAX_K];
	static float w[MAX_K];
	for (int64_t i = 0; i < p->n_tok; i++) {
		decode_activations(p->act, p->a + (size_t)i * p->a_stride, x[i], p->k);
	}
	for (int64_t r = 0; r < p->rows; r++) {
		const unsigned char *row = p->w + (size_t)r * p->w_stride;
		rv_kernels_ref.type[p->type].dequantize(w, row, p->k);
		magnitudes(p->type, row, m, w, p->k);
		for (int64_t i = 0; i < p->n_tok; i++) {
			double sum = 0, scale = 0;
			for (int64_t j = 0; j < p->k; j++) {
				sum += (double)w[j] * x[i][j];
				scale += m[j] * fabs(x[i][j]);
			}
			double got = (double)row_of(p, i)[r];
			if (!(fabs(got - sum) <= TOLERANCE * scale + 1e-37)) {
				return fail(c,
				            "K %lld, %lld rows, %lld tokens: y[%lld][%lld] is %.9g, "
				            "expected "
				            "%.9g",
				            (long long)p->k, (long long)p->rows, (long long)p->n_tok,
				            (long long)i, (long long)r, got, sum);
			}
		}
	}
	return 0;
}

/* The gap between the rows of y must keep its pattern. */
static int gaps_kept(checker *c, const product *p) {
	for (int64_t i = 0; i + 1 < p->n_tok; i++) {
		for (int64_t r = p->rows; r < p->ldy; r++) {
			uint32_t bits;
			memcpy(&bits, row_of(p, i) + r, sizeof bits);
			if (bits != 0xffffffffu) {
				return fail(c, "wrote between the rows of y");
			}
		}
	}
	return 0;
}

/* The same bits for every number of tokens, at every row cut. */
static int invariant(checker *c, const product *p) {
	static float part[MAX_TOK * (MAX_ROWS + 4)];
	for (int64_t n = 1; n <= p->n_tok; n++) {
		int64_t tok = below(c, p->n_tok - n + 1);
		int64_t cut = below(c, p->rows + 1);
		call(p, part, 0, cut, tok, n);
		call(p, part + cut, cut, p->rows - cut, tok, n);
		for (int64_t i = 0; i < n; i++) {
			size_t bytes = (size_t)p->rows * sizeof(float);
			if (memcmp(part + i * p->ldy, row_of(p, tok + i), bytes) != 0) {
				return fail(c,
				            "%lld of %lld tokens, rows cut at %lld of %lld: other bits",
				            (long long)n, (long long)p->n_tok, (long long)cut,
				            (long long)p->rows);
			}
		}
	}
	return 0;
}

/* The same bits wherever the arrays lie. */
static int alignment_free(checker *c, const product *p) {
	static unsigned char moved[MAX_ROWS * (MAX_K * 4 + 16) + 64];
	static float y[MAX_TOK * (MAX_ROWS + 4)];
	size_t bytes = (size_t)(p->rows - 1) * p->w_stride +
	               rv_type_row_bytes(rv_type_get((int)p->type), p->k);
	product q = *p;
	q.w = moved + below(c, 64);
	memcpy(q.w, p->w, bytes);
	call(&q, y, 0, p->rows, 0, p->n_tok);
	for (int64_t i = 0; i < p->n_tok; i++) {
		if (memcmp(y + i * p->ldy, row_of(p, i), (size_t)p->rows * sizeof *y) != 0) {
			return fail(c, "other bits at another alignment of the weights");
		}
	}
	return 0;
}

static int one_product(checker *c, product *p, kind how) {
	setup(c, p, how);
	seal(c);
	call(p, p->y, 0, p->rows, 0, p->n_tok);
	if (verify(c, "matmul") || right(c, p) || gaps_kept(c, p)) {
		return -1;
	}
	return 0;
}

/* NaN and infinity in one token's activations surface there and nowhere else. */
static int surfaces(checker *c, product *p, float bad) {
	static float x[MAX_K], clean[MAX_TOK * (MAX_ROWS + 4)];
	setup(c, p, KIND_GAUSS);
	call(p, clean, 0, p->rows, 0, p->n_tok);
	int64_t tok = below(c, p->n_tok);
	fill(c, x, p->k, KIND_GAUSS);
	x[below(c, p->k)] = bad;
	c->k->quantize_act[p->act](p->a + (size_t)tok * p->a_stride, x, p->k);
	call(p, p->y, 0, p->rows, 0, p->n_tok);
	for (int64_t i = 0; i < p->n_tok; i++) {
		for (int64_t r = 0; r < p->rows; r++) {
			float got = row_of(p, i)[r];
			if (i == tok ? isfinite(got) : got != clean[i * p->ldy + r]) {
				return fail(c, "a %g in token %lld left y[%lld][%lld] at %.9g",
				            (double)bad, (long long)tok, (long long)i, (long long)r,
				            (double)got);
			}
		}
	}
	return 0;
}

static int check_products(checker *c, rv_type type, rv_matmul_fn *run, rv_act act) {
	static const int64_t odd_k[] = {0,  1,  2,  7,  8,  15,  16,  17,  31,
	                                32, 33, 63, 64, 65, 100, 257, 1000};
	static const int64_t blocks_k[] = {0, 1, 2, 3, 4, 5, 7, 8};
	static const int64_t some_rows[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33};
	int elems = rv_type_get((int)type)->block_elems;
	int n_k = elems == 1 ? (int)(sizeof odd_k / sizeof *odd_k)
	                     : (int)(sizeof blocks_k / sizeof *blocks_k);
	product p = {.run = run, .type = type, .act = act};
	for (int i = 0; i < 60; i++) {
		p.k = elems == 1 ? odd_k[i % n_k] : blocks_k[i % n_k] * elems;
		p.rows = some_rows[below(c, 13)];
		p.n_tok = below(c, 4) ? below(c, 9) : below(c, MAX_TOK + 1);
		if (one_product(c, &p, (kind)below(c, KIND_COUNT))) {
			return -1;
		}
	}
	for (int i = 0; i < 2; i++) {
		p.k = elems == 256 ? 512 : elems == 32 ? 32 * (7 + 2 * i) : 203 + 53 * i;
		p.rows = 7 + 4 * i;
		p.n_tok = MAX_TOK;
		if (one_product(c, &p, KIND_GAUSS) || invariant(c, &p) || alignment_free(c, &p)) {
			return -1;
		}
	}
	/* a zero scale times an infinite activation is NaN too: any block will do */
	p.rows = 9;
	p.n_tok = 6;
	return surfaces(c, &p, NAN) || surfaces(c, &p, INFINITY) ? -1 : 0;
}

int check_matmul(checker *c, int arg) {
	return check_products(c, (rv_type)arg, c->k->type[arg].matmul[RV_LAYOUT_GGML],
	                      rv_type_get(arg)->act);
}

int check_matmul_float(checker *c, int arg) {
	return check_products(c, (rv_type)arg, c->k->type[arg].matmul_float, RV_ACT_F32);
}

/* ---- rounding of activations ---- */

static int act_shape(checker *c, rv_act act, int64_t k, kind how) {
	static _Alignas(64) unsigned char want[MAX_K * 8];
	size_t bytes = rv_act_row_bytes(act, k), codes = act == RV_ACT_F32 ? (size_t)k * 4 : (size_t)k;
	reset(c);
	const float *x = floats_in(c, k, how);
	unsigned char *y = take(c, bytes, 64, 0);
	memset(want, 0, bytes);
	rv_kernels_ref.quantize_act[act](want, x, k);
	seal(c);
	c->k->quantize_act[act](y, x, k);
	if (verify(c, "quantize_act") || same(c, "quantize_act: codes", y, want, codes)) {
		return -1;
	}
	size_t scales = act == RV_ACT_F32  ? 0
	                : act == RV_ACT_Q8 ? (size_t)k / 32 * 8
	                                   : (size_t)k / 256 * 4 + (size_t)k / 16 * 2;
	size_t at = act == RV_ACT_F32 ? 0 : rv_act_scale_offset(k);
	return same(c, "quantize_act: scales and sums", y + at, want + at, scales);
}

int check_quantize_act(checker *c, int arg) {
	int64_t elems = arg == RV_ACT_F32 ? 1 : arg == RV_ACT_Q8 ? 32 : 256;
	for (int64_t n = 0; n <= MAX_K / elems && n < 40; n++) {
		for (int how = 0; how < KIND_COUNT; how++) {
			if (act_shape(c, (rv_act)arg, n * elems, (kind)how)) {
				return -1;
			}
		}
	}
	return 0;
}
