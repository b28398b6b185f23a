/* Attention as written down: scores of a head by one matrix product, masked softmax of its rows, and
 * the product with the values; the baseline that flash is measured against.
 *
 * `standard` makes the whole matrix of a head, the upper triangle included: O(n^2) memory and twice the
 * work. `standard-causal` goes by blocks of CAUSAL_ROWS tokens, each with the keys up to the block's
 * end. Both decode a head's keys and values once and share them among its query heads. Masked and
 * padded scores become exact zeros, which no sum notices, so a row does not depend on how many keys
 * stand beside its own. */
#include "engine/attention_cpu.h"
#include "engine/blas.h"

#include <math.h>
#include <string.h>

#define BLOCK RV_ATTN_BLOCK
#define CAUSAL_ROWS 128

static int64_t group_of(const rv_cpu_options *o) {
	return o->n_heads / o->n_kv_heads;
}

/* Tiles of `standard` are whole runs, unless there are more threads than KV heads. */
static int64_t tile_tokens(const rv_cpu_options *o, int n_threads, int64_t n) {
	if (o->attention == RV_ATTN_STANDARD_CAUSAL)
		return CAUSAL_ROWS;
	int64_t cuts = (n_threads + o->n_kv_heads - 1) / o->n_kv_heads;
	return (n + cuts - 1) / cuts;
}

typedef struct standard_scratch {
	rv_segment *segments;
	float *q, *o;   /* [rows, head_dim] */
	float *k, *v;   /* [context, head_dim]; k in blocks of columns */
	float *scores;  /* [rows, keys] */
	int64_t n_rows; /* room, of tokens x heads */
} standard_scratch;

static size_t lay_out(standard_scratch *s, char *base, const rv_cpu_options *o) {
	int64_t most = o->attention == RV_ATTN_STANDARD_CAUSAL && o->n_batch > CAUSAL_ROWS ? CAUSAL_ROWS
	                                                                                   : o->n_batch;
	s->n_rows = most > group_of(o) ? most : group_of(o);
	size_t rows = (size_t)s->n_rows, d = (size_t)o->head_dim;
	size_t keys = (size_t)((o->n_ctx + BLOCK - 1) / BLOCK * BLOCK);
	rv_attn_part parts[] = {
	        {&s->segments, (size_t)o->max_segments * sizeof(rv_segment)},
	        {&s->q, rows * d * sizeof(float)},
	        {&s->o, rows * d * sizeof(float)},
	        {&s->k, keys * d * sizeof(float)},
	        {&s->v, keys * d * sizeof(float)},
	        {&s->scores, rows * keys * sizeof(float)},
	};
	return rv_attn_lay_out(parts, sizeof parts / sizeof parts[0], base);
}

static size_t thread_scratch(const rv_cpu_options *o) {
	standard_scratch s;
	return lay_out(&s, NULL, o);
}

/* All keys and values; those that fill up the last block are zeros. */
static void load_all(const rv_attn_job *j, const rv_attn_item *item, const standard_scratch *s,
                     int64_t n_keys, int64_t padded) {
	int64_t d = j->head_dim;
	rv_attn_keys keys = rv_attn_open_keys(j, item, n_keys, s->segments);
	if (padded > n_keys) {
		memset(s->k + (padded - BLOCK) * d, 0, (size_t)(BLOCK * d) * sizeof(float));
		memset(s->v + (padded - BLOCK) * d, 0, (size_t)(BLOCK * d) * sizeof(float));
	}
	for (int64_t at = 0; at < n_keys; at += BLOCK)
		rv_attn_load(&keys, at, n_keys - at < BLOCK ? n_keys - at : BLOCK, s->k + at * d,
		             s->v + at * d);
}

static void multiply(const rv_attn_job *j, float *c, int64_t ldc, const float *a, int64_t lda,
                     const float *b, int64_t ldb, int64_t m, int64_t n, int64_t k) {
	if (j->c->options.kind == RV_BACKEND_BLAS)
		rv_blas_gemm(c, ldc, a, lda, b, ldb, 0, m, n, k);
	else
		j->c->k->gemm(c, ldc, a, lda, b, ldb, m, n, k);
}

/* scores[n, padded] = q k^T: some rows of q, which stay in the cache, go over all blocks of keys. */
static void multiply_keys(const rv_attn_job *j, const standard_scratch *s, int64_t n, int64_t padded) {
	enum { ROWS = 96 };
	int64_t d = j->head_dim;
	for (int64_t i = 0; i < n; i += ROWS)
		for (int64_t at = 0; at < padded; at += BLOCK)
			multiply(j, s->scores + i * padded + at, padded, s->q + i * d, d, s->k + at * d,
			         BLOCK, n - i < ROWS ? n - i : ROWS, BLOCK, d);
}

/* Heads [first, first + n_heads) of the item's group, rows ordered (head, token). */
static void attend_heads(const rv_attn_job *j, const rv_attn_item *item, const standard_scratch *s,
                         int64_t first, int64_t n_heads, int64_t padded) {
	int64_t d = j->head_dim, m = item->n_tokens, n = n_heads * m;
	for (int64_t i = 0; i < n; i++)
		rv_attn_take_queries(j, item, i % m, first + i / m, 1, s->q + i * d);
	multiply_keys(j, s, n, padded);
	for (int64_t i = 0; i < n; i++) {
		float *score = s->scores + i * padded;
		for (int64_t key = (int64_t)j->rows[item->row + i % m].position + 1; key < padded;
		     key++)
			score[key] = -INFINITY;
		j->c->k->softmax(score, padded);
	}
	multiply(j, s->o, d, s->scores, padded, s->v, d, n, d, padded);
	for (int64_t i = 0; i < n; i++)
		memcpy(rv_attn_result(j, item, i % m, first + i / m), s->o + i * d,
		       (size_t)d * sizeof(float));
}

/* Keys of the matrix: for `standard` those of the whole run, of which the item may be a part. */
static int64_t keys_of(const rv_attn_job *j, const rv_attn_item *item) {
	int64_t last = item->row + item->n_tokens - 1;
	while (j->c->options.attention == RV_ATTN_STANDARD && last + 1 < j->q.rows &&
	       rv_attn_continues(j->rows, last + 1))
		last++;
	return (int64_t)j->rows[last].position + 1;
}

static rv_status attend_items(void *arg, int64_t begin, int64_t end, int thread) {
	const rv_attn_job *j = arg;
	standard_scratch s;
	lay_out(&s, j->c->scratch + (size_t)thread * j->c->thread_bytes, &j->c->options);
	for (int64_t i = begin; i < end; i++) {
		rv_attn_item item = rv_attn_item_at(j, i);
		int64_t n_keys = keys_of(j, &item), padded = (n_keys + BLOCK - 1) / BLOCK * BLOCK;
		int64_t at_once = s.n_rows / item.n_tokens;
		load_all(j, &item, &s, n_keys, padded);
		for (int64_t h = 0; h < j->group; h += at_once)
			attend_heads(j, &item, &s, h, j->group - h < at_once ? j->group - h : at_once,
			             padded);
	}
	return RV_OK;
}

static rv_status run(rv_attn_job *j) {
	return rv_threads_for(j->c->threads, j->n_tiles * j->n_kv_heads, 1, attend_items, j);
}

const rv_attn_ops rv_attn_standard_ops = {thread_scratch, tile_tokens, run};
