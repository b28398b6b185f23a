/* Attention alone: a cache of one layer whose segments can be cut anywhere, its queries, a run of a
 * backend over rows of it, and the plain sum in double precision that results are held against. */
#ifndef RV_TESTS_ENGINE_ATTENTION_PROBLEM_H
#define RV_TESTS_ENGINE_ATTENTION_PROBLEM_H

#include "base/rng.h"
#include "engine/backend_cpu.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- a cache of one layer, cut into segments of any length ---- */

typedef struct lane { /* keys and values of one (sequence, KV head), and copies of them in pieces */
	char *keys, *values;
	rv_segment *segments;
	int64_t n_segments;
} lane;

typedef struct problem {
	int64_t head_dim, n_heads, n_kv_heads, n; /* n: tokens of a sequence */
	rv_kv_type type;
	int32_t n_seqs;
	rv_rng rng;
	size_t row_bytes;
	lane *lanes; /* [n_seqs][n_kv_heads] */
	float *q;    /* [n_seqs][n][n_heads * head_dim] */
	/* A row of a draft tree (parent >= 0) sees `own` keys at the end that are those of the sequence
	 * after it; 0: as a plain row */
	int64_t own;
} problem;

static inline int64_t width(const problem *p) {
	return p->n_heads * p->head_dim;
}
static inline lane *lane_of(const problem *p, int32_t seq, int64_t head) {
	return &p->lanes[seq * p->n_kv_heads + head];
}

static inline void random_floats(rv_rng *rng, float *x, int64_t n) {
	for (int64_t i = 0; i < n; i++)
		x[i] = (float)rv_rng_normal(rng);
}

static inline void drop_segments(lane *l) {
	for (int64_t i = 0; i < l->n_segments; i++) {
		free((void *)(uintptr_t)l->segments[i].keys);
		free((void *)(uintptr_t)l->segments[i].values);
	}
	free(l->segments);
	l->segments = NULL;
	l->n_segments = 0;
}

static inline void *copy_of(const char *from, size_t n) {
	void *p = malloc(n);
	assert_non_null(p);
	return memcpy(p, from, n);
}

/* Cuts a lane into pieces of at most `longest` tokens, exactly that long when !ragged; each piece is a
 * block of memory of its own, so that reading past it is found out. */
static inline void cut_lane(problem *p, lane *l, int64_t longest, int ragged) {
	drop_segments(l);
	l->segments = calloc((size_t)p->n, sizeof *l->segments);
	assert_non_null(l->segments);
	for (int64_t at = 0; at < p->n;) {
		int64_t m = ragged ? 1 + (int64_t)rv_rng_below(&p->rng, (uint64_t)longest) : longest;
		m = m < p->n - at ? m : p->n - at;
		size_t from = (size_t)at * p->row_bytes, bytes = (size_t)m * p->row_bytes;
		l->segments[l->n_segments++] = (rv_segment){.keys = copy_of(l->keys + from, bytes),
		                                            .values = copy_of(l->values + from, bytes),
		                                            .stride = p->row_bytes,
		                                            .n_tokens = m,
		                                            .type = (rv_kv_format)p->type};
		at += m;
	}
}

static inline void cut(problem *p, int64_t longest, int ragged) {
	for (int32_t i = 0; i < p->n_seqs * (int32_t)p->n_kv_heads; i++)
		cut_lane(p, &p->lanes[i], longest, ragged);
}

static inline problem *problem_create(int64_t d, int64_t heads, int64_t kv_heads, int64_t n,
                                      rv_kv_type type, int32_t n_seqs) {
	problem *p = calloc(1, sizeof *p);
	assert_non_null(p);
	*p = (problem){.head_dim = d,
	               .n_heads = heads,
	               .n_kv_heads = kv_heads,
	               .n = n,
	               .type = type,
	               .n_seqs = n_seqs,
	               .row_bytes = rv_kv_row_bytes(type, d)};
	rv_rng_seed(&p->rng, (uint64_t)(d * 131 + heads * 17 + n));
	p->lanes = calloc((size_t)(n_seqs * kv_heads), sizeof *p->lanes);
	p->q = calloc((size_t)(n_seqs * n * width(p)), sizeof *p->q);
	assert_true(p->lanes && p->q);
	random_floats(&p->rng, p->q, n_seqs * n * width(p));
	for (int32_t i = 0; i < n_seqs * (int32_t)kv_heads; i++) {
		lane *l = &p->lanes[i];
		float row[256];
		l->keys = malloc((size_t)n * p->row_bytes);
		l->values = malloc((size_t)n * p->row_bytes);
		assert_true(l->keys && l->values);
		for (int64_t t = 0; t < 2 * n; t++) {
			random_floats(&p->rng, row, d);
			rv_kernels_for(RV_LEVEL_REF)
			        ->kv[type]
			        .store((t < n ? l->keys : l->values) + (size_t)(t % n) * p->row_bytes,
			               row, d);
		}
	}
	cut(p, n, 0);
	return p;
}

static inline void problem_destroy(problem *p) {
	for (int32_t i = 0; i < p->n_seqs * (int32_t)p->n_kv_heads; i++) {
		drop_segments(&p->lanes[i]);
		free(p->lanes[i].keys);
		free(p->lanes[i].values);
	}
	free(p->lanes);
	free(p->q);
	free(p);
}

/* For draft rows: first those before the last `own`, then the keys at the lane's end, in one piece. */
static inline int64_t segments(const void *cache, const rv_row *row, int64_t layer, int64_t head,
                               int64_t n, rv_segment *out, int64_t cap) {
	const problem *p = cache;
	const lane *l = lane_of(p, row->seq, head);
	int64_t count = 0, own = row->parent >= 0 ? p->own : 0, left = n - own;
	assert_int_equal(layer, 0);
	for (int64_t i = 0; i < l->n_segments && left > 0; i++, count++) {
		assert_true(count < cap);
		out[count] = l->segments[i];
		if (out[count].n_tokens > left)
			out[count].n_tokens = left;
		left -= out[count].n_tokens;
	}
	if (own > 0) {
		assert_true(count < cap);
		size_t at = (size_t)(p->n - own) * p->row_bytes;
		out[count++] = (rv_segment){.keys = l->keys + at,
		                            .values = l->values + at,
		                            .stride = p->row_bytes,
		                            .n_tokens = own,
		                            .type = (rv_kv_format)p->type};
	}
	return count;
}

/* ---- running it ---- */

typedef struct setting {
	rv_attn_kind kind;
	rv_backend_kind backend;
	rv_level level;
	int n_threads;
	size_t l1, l2;
} setting;

static const char *const kind_names[RV_ATTN_COUNT] = {"flash", "standard", "standard-causal"};

/* out: a row of [n_heads * head_dim] for each of rows. */
static inline void attend(const problem *p, const setting *s, rv_row *rows, int64_t n_rows,
                          float *out) {
	rv_hparams hp = {.n_layers = 1,
	                 .n_heads = p->n_heads,
	                 .n_kv_heads = p->n_kv_heads,
	                 .head_dim = p->head_dim,
	                 .n_rot = p->head_dim};
	rv_kv_view view = {.segments = segments, .cache = p, .max_segments = p->n + 1, .type = p->type};
	rv_cpu_options o = {.kind = s->backend,
	                    .level = s->level,
	                    .attention = s->kind,
	                    .n_threads = s->n_threads,
	                    .n_batch = n_rows,
	                    .n_ctx = p->n,
	                    .max_k = p->head_dim,
	                    .head_dim = p->head_dim,
	                    .n_heads = p->n_heads,
	                    .n_kv_heads = p->n_kv_heads,
	                    .max_segments = p->n + 1,
	                    .l1d_bytes = s->l1,
	                    .l2_bytes = s->l2};
	size_t bytes = (size_t)(n_rows * width(p)) * sizeof(float);
	float *q = malloc(bytes);
	rv_backend *be;
	assert_non_null(q);
	for (int64_t i = 0; i < n_rows; i++)
		memcpy(q + i * width(p), p->q + (rows[i].seq * p->n + rows[i].position) * width(p),
		       (size_t)width(p) * sizeof(float));
	memset(out, 0xff, bytes);
	rv_buffer qb = {q, bytes}, ob = {out, bytes};
	assert_ok(rv_cpu_backend_create(&be, &o));
	assert_ok(be->ops->attention(be, (rv_tensor){&ob, 0, n_rows, width(p)},
	                             (rv_tensor){&qb, 0, n_rows, width(p)}, &hp, rows, &view, 0));
	be->ops->destroy(be);
	free(q);
}

/* Rows of sequence `seq` at positions [from, to). */
static inline int64_t add_rows(rv_row *rows, int64_t n, int32_t seq, int64_t from, int64_t to) {
	for (int64_t i = from; i < to; i++)
		rows[n++] = (rv_row){.seq = seq, .position = (int32_t)i, .parent = -1};
	return n;
}

/* ---- the plain sum ---- */

/* What can be wrong with it, for the controls. */
typedef enum fault { RIGHT, NO_MASK, KEY_MISSING, VALUE_PERTURBED, WRONG_HEAD } fault;

static inline void decode(const problem *p, const char *row, double *out) {
	float x[256];
	rv_kernels_for(RV_LEVEL_REF)->kv[p->type].load_values(x, row, p->row_bytes, 1, p->head_dim);
	for (int64_t d = 0; d < p->head_dim; d++)
		out[d] = (double)x[d];
}

/* Softmax over the keys of head h, in double. */
static inline void plain_head(const problem *p, const rv_row *row, int64_t h, fault wrong,
                              double *out) {
	int64_t d = p->head_dim, own = row->parent >= 0 ? p->own : 0, n = row->position + 1;
	int64_t group = p->n_heads / p->n_kv_heads, kv = wrong == WRONG_HEAD ? 0 : h / group;
	const lane *l = lane_of(p, row->seq, kv);
	const float *q = p->q + (row->seq * p->n + row->position) * width(p) + h * d;
	double score[2048], key[256], max = -INFINITY, sum = 0;
	n = wrong == NO_MASK ? p->n : n - (wrong == KEY_MISSING && n > 1);
	for (int64_t j = 0; j < n; j++) {
		int64_t at = j < n - own ? j : p->n - (n - j);
		decode(p, l->keys + (size_t)at * p->row_bytes, key);
		score[j] = 0;
		for (int64_t i = 0; i < d; i++)
			score[j] += (double)q[i] * key[i] / sqrt((double)d);
		max = fmax(max, score[j]);
	}
	for (int64_t i = 0; i < d; i++)
		out[i] = 0;
	for (int64_t j = 0; j < n; j++) {
		int64_t at = j < n - own ? j : p->n - (n - j);
		double w = exp(score[j] - max);
		decode(p, l->values + (size_t)at * p->row_bytes, key);
		if (wrong == VALUE_PERTURBED && j == n / 2)
			key[0] += 0.5;
		sum += w;
		for (int64_t i = 0; i < d; i++)
			out[i] += w * key[i];
	}
	for (int64_t i = 0; i < d; i++)
		out[i] /= sum;
}

/* Largest difference from the plain sum over every `step`-th row and some heads. */
static inline double largest_error(const problem *p, const rv_row *rows, int64_t n_rows,
                                   const float *out, fault wrong) {
	double most = 0, want[256];
	int64_t step = n_rows > 12 ? n_rows / 12 : 1;
	for (int64_t i = n_rows - 1; i >= 0; i -= step)
		for (int64_t h = 0; h<p->n_heads; h += p->n_heads> 4 ? 3 : 1) {
			plain_head(p, &rows[i], h, wrong, want);
			for (int64_t d = 0; d < p->head_dim; d++) {
				double e =
				        fabs((double)out[i * width(p) + h * p->head_dim + d] - want[d]);
				most = isnan(most) || e <= most ? most : e; /* NaN counts */
			}
		}
	return most;
}

/* Values are about 1; a score's error, 1e-6 or so, is one of the weights. */
#define TOLERANCE 1e-5

#endif
