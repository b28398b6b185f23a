/* Times the kernels of kernels.def: for each a function that runs it, and sizes by its shape class. */
#include "tests/kernels/bench.h"

#include <math.h>
#include <stdio.h>

/* ---- one run function a kernel of kernels.def, with its sizes a, b, c ---- */

/* c->b rows of c->c bytes in no order: of few bytes, or anywhere in memory (type). */
static const void *const *rows_of(const bench_case *c, data *d) {
	const size_t space = c->type ? WEIGHT_BYTES : (size_t)(c->b * c->c), n = space / (size_t)c->c;
	for (int64_t i = 0; i < c->b; i++) {
		d->random = d->random * 6364136223846793005u + 1442695040888963407u;
		d->rows[i] = d->weights + (d->random >> 33) % n * (size_t)c->c;
	}
	return d->rows;
}

#define F(i) (d->f[i])
static void run_add(const rv_kernels *k, const bench_case *c, data *d) {
	k->add(F(0), F(1), c->a);
}
static void run_rms_norm(const rv_kernels *k, const bench_case *c, data *d) {
	k->rms_norm(F(0), F(1), F(2), c->a, 1e-6f);
}
static void run_add_rms_norm(const rv_kernels *k, const bench_case *c, data *d) {
	k->add_rms_norm(F(0), F(5), F(1), F(2), c->a, 1e-6f);
}
static void run_rope(const rv_kernels *k, const bench_case *c, data *d) {
	k->rope(F(0), F(1), c->a, c->b, c->b, (int)c->c);
}
static void run_swiglu(const rv_kernels *k, const bench_case *c, data *d) {
	k->swiglu(F(0), F(1), F(2), c->a);
}
static void run_softmax(const rv_kernels *k, const bench_case *c, data *d) {
	k->softmax(F(5), c->a);
}
static void run_gemm(const rv_kernels *k, const bench_case *c, data *d) {
	k->gemm(F(0), c->b, F(1), c->c, F(2), c->b, c->a, c->b, c->c);
}
static void run_attn_block(const rv_kernels *k, const bench_case *c, data *d) {
	for (int64_t i = 0; i < c->a; i++) { /* else the sum would grow without end */
		F(3)[i] = -INFINITY;
		F(3)[c->a + i] = 0;
	}
	k->attn_block(F(0), F(3), F(3) + c->a, F(1), F(2), F(4), d->n_keys, c->a, c->b);
}
static void run_attn_rows(const rv_kernels *k, const bench_case *c, data *d) {
	const rv_f16 *rows[2 * RV_ATTN_BLOCK];
	for (int64_t i = 0; i < 2 * RV_ATTN_BLOCK; i++)
		rows[i] = (const rv_f16 *)(const void *)d->weights + i * c->b;
	for (int64_t i = 0; i < c->a; i++) {
		F(3)[i] = -INFINITY;
		F(3)[c->a + i] = 0;
	}
	k->attn_rows(F(0), F(3), F(3) + c->a, F(1), rows, rows + RV_ATTN_BLOCK, NULL, NULL, d->n_keys,
	             c->a, c->b);
}
static void run_attn_merge(const rv_kernels *k, const bench_case *c, data *d) {
	k->attn_merge(F(0), F(3), F(4), F(1), F(2), F(2) + c->a, c->a, c->b);
}
static void run_attn_finish(const rv_kernels *k, const bench_case *c, data *d) {
	k->attn_finish(F(0), F(1), c->a, c->b);
}
static void run_dot_f32(const rv_kernels *k, const bench_case *c, data *d) {
	k->dot_f32(F(0), F(1), F(2), c->a);
}
static void run_l2_f32(const rv_kernels *k, const bench_case *c, data *d) {
	k->l2_f32(F(0), F(1), F(2), c->a);
}
static void run_l1_f32(const rv_kernels *k, const bench_case *c, data *d) {
	k->l1_f32(F(0), F(1), F(2), c->a);
}
static void run_cosine_f32(const rv_kernels *k, const bench_case *c, data *d) {
	k->cosine_f32(F(0), F(1), F(2), c->a);
}
static void run_dot_rows_f32(const rv_kernels *k, const bench_case *c, data *d) {
	k->dot_rows_f32(F(0), F(1), (const float *const *)rows_of(c, d), c->b, c->a);
}
static void run_l2_rows_f32(const rv_kernels *k, const bench_case *c, data *d) {
	k->l2_rows_f32(F(0), F(1), (const float *const *)rows_of(c, d), c->b, c->a);
}
static void run_dot_i8(const rv_kernels *k, const bench_case *c, data *d) {
	k->dot_i8((int32_t *)F(0), (const int8_t *)F(1), (const int8_t *)F(2), c->a);
}
static void run_l2_i8(const rv_kernels *k, const bench_case *c, data *d) {
	k->l2_i8((int32_t *)F(0), (const int8_t *)F(1), (const int8_t *)F(2), c->a);
}
static void run_hamming(const rv_kernels *k, const bench_case *c, data *d) {
	k->hamming((int32_t *)F(0), (const uint8_t *)F(1), (const uint8_t *)F(2), c->a);
}
static void run_dot_rows_i8(const rv_kernels *k, const bench_case *c, data *d) {
	k->dot_rows_i8((int32_t *)F(0), (const int8_t *)F(1), (const int8_t *const *)rows_of(c, d),
	               c->b, c->a);
}
static void run_dot_rows_i4(const rv_kernels *k, const bench_case *c, data *d) {
	k->dot_rows_i4((int32_t *)F(0), (const int8_t *)F(1), (const uint8_t *const *)rows_of(c, d),
	               c->b, c->a);
}
static void run_dot_rows_b1(const rv_kernels *k, const bench_case *c, data *d) {
	k->dot_rows_b1((int32_t *)F(0), (const int8_t *)F(1), (const uint8_t *const *)rows_of(c, d),
	               c->b, c->a);
}
static void run_adc_rows(const rv_kernels *k, const bench_case *c, data *d) {
	k->adc_rows(F(0), F(1), (const uint8_t *const *)rows_of(c, d), c->b, c->a);
}
#undef F

/* Sizes by the shape class of kernels.def; elements are what its bytes and operations are per. */
static void vec_cases(session *s, bench_case c, double bytes, double ops) {
	static const int64_t sizes[] = {2048, 11008};
	for (int i = 0; i < COUNT(sizes); i++) {
		c.a = sizes[i];
		c.bytes = bytes * (double)c.a;
		c.ops = ops * (double)c.a;
		snprintf(c.shape, sizeof c.shape, "n=%d", (int)c.a);
		do_case(s, &c);
	}
}
static void rope_cases(session *s, bench_case c, double bytes, double ops) {
	c.a = 16;
	c.b = 128;
	for (c.c = 0; c.c < 2; c.c++) {
		c.bytes = bytes * (double)(c.a * c.b);
		c.ops = ops * (double)(c.a * c.b);
		snprintf(c.shape, sizeof c.shape, "16x128 %s", c.c ? "neox" : "norm");
		do_case(s, &c);
	}
}
static void gemm_cases(session *s, bench_case c, double bytes, double ops) {
	static const int64_t mnk[][3] = {
	        {1, 64, 128}, {8, 64, 128}, {64, 64, 128}, {64, 128, 64}, {96, 512, 512}};
	for (int i = 0; i < COUNT(mnk); i++) {
		c.a = mnk[i][0];
		c.b = mnk[i][1];
		c.c = mnk[i][2];
		c.bytes = bytes * (double)(c.a * c.c + c.c * c.b + c.a * c.b);
		c.ops = ops * (double)(c.a * c.b * c.c);
		snprintf(c.shape, sizeof c.shape, "%dx%dx%d", (int)c.a, (int)c.b, (int)c.c);
		do_case(s, &c);
	}
}
static void attn_cases(session *s, bench_case c, double bytes, double ops) {
	static const int64_t queries[] = {1, 8, 64};
	c.b = 128;
	use_weights(s, &c, rv_type_get(RV_F16));
	for (int i = 0; i < COUNT(queries); i++) {
		c.a = queries[i];
		const double rows = (double)(c.a * c.b), block = (double)(RV_ATTN_BLOCK * c.b);
		const int whole =
		        c.run == run_attn_block || c.run == run_attn_rows; /* others: no keys */
		c.bytes = bytes * (whole ? 2 * block + 2 * rows : rows);
		c.ops = ops * (whole ? (double)c.a * block : rows);
		snprintf(c.shape, sizeof c.shape, "q=%d hd=128", (int)c.a);
		do_case(s, &c);
	}
}

static void distance_cases(session *s, bench_case c, double bytes, double ops) {
	static const int64_t sizes[] = {128, 768, 1536};
	c.is_int8 = bytes < 8; /* of a pair */
	for (int i = 0; i < COUNT(sizes); i++) {
		c.a = sizes[i];
		c.bytes = bytes * (double)c.a;
		c.ops = ops * (double)c.a;
		snprintf(c.shape, sizeof c.shape, "n=%d", (int)c.a);
		do_case(s, &c);
	}
}
/* Rows at random: in the nearest cache, and out of any. */
static void rows_cases(session *s, bench_case c, double bytes, double ops) {
	c.a = 768;
	c.is_int8 = bytes < 4;
	c.c = (int64_t)(bytes * (double)c.a);
	c.ops = ops * (double)c.a;
	for (c.type = 0; c.type < 2; c.type++) {
		c.b = c.type ? MAX_ROWS : 8;
		c.bytes = (double)(c.b * c.c);
		c.ops = ops * (double)(c.a * c.b);
		c.footprint = c.type ? WEIGHT_BYTES : 0;
		snprintf(c.shape, sizeof c.shape, "%dx%d %s", (int)c.b, (int)c.a,
		         c.type ? "memory" : "cache");
		use_weights(s, &c, rv_type_get(RV_F32));
		do_case(s, &c);
	}
}

#define VEC vec_cases
#define DISTANCE distance_cases
#define ROWS rows_cases
#define ROPE rope_cases
#define GEMM gemm_cases
#define ATTN attn_cases
void plain_kernels(session *s) {
#define RV_KERNEL(kernel, params, shape_class, tolerance, bytes, ops)                                  \
	{                                                                                              \
		bench_case c = {.name = #kernel, .run = run_##kernel};                                 \
		EACH_LEVEL_FORM(&c, kernel)                                                            \
		shape_class(s, c, bytes, ops);                                                         \
	}
#include "kernels/kernels.def"
#undef RV_KERNEL
}
