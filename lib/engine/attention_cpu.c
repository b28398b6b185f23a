/* Attention on the CPU.
 *
 * Rows of a batch are cut into runs (one sequence, consecutive positions), runs into tiles; an item of
 * work is a tile of queries of one KV head, with all query heads that share it. `flash` walks the key
 * axis in blocks cut at absolute multiples of RV_ATTN_BLOCK, each giving its own (max, sum, output),
 * and merges them in ascending order; `standard` writes the tile's whole score rows, then softmax, then
 * the weighted values. In both the result of a query depends only on its own keys: the tile decides who
 * computes, not what (SPEC 9). */
#include "engine/backend_cpu.h"
#include "engine/blas.h"

#include <math.h>
#include <string.h>

#define BLOCK RV_ATTN_BLOCK
#define TILE_QUERIES                                                                                   \
	64 /* query heads x tokens of a tile; more only when one token has more heads a KV head */

typedef struct attn_job {
	rv_cpu *c;
	rv_tensor out, q;
	const rv_hparams *hp;
	const rv_row *rows;
	const rv_kv_view *kv;
	int64_t layer;
	int64_t tile_tokens;
} attn_job;

static int64_t heads_per_kv(const rv_cpu_options *o) {
	return o->n_heads / o->n_kv_heads;
}
static int64_t tile_tokens(const rv_cpu_options *o) {
	int64_t t = TILE_QUERIES / heads_per_kv(o);
	return t < 1 ? 1 : t;
}
static int64_t padded_ctx(const rv_cpu_options *o) {
	return (o->n_ctx + BLOCK - 1) / BLOCK * BLOCK;
}

/* Scratch of a thread, carved from one slice. */
typedef struct attn_scratch {
	rv_segment *segments;
	float *q, *o;       /* [n_q, head_dim] */
	float *kt;          /* [head_dim, BLOCK] */
	float *v;           /* [BLOCK or padded context, head_dim] */
	float *o2, *scores; /* flash: [n_q, head_dim], [n_q, BLOCK]; standard: scores [n_q, padded
	                       context] */
	float *max, *sum, *max2, *sum2; /* [n_q] */
	int32_t *n_keys;                /* [n_q] */
} attn_scratch;

/* Lays the parts out from `base` (NULL to measure); returns the bytes taken. */
static size_t lay_out(attn_scratch *s, char *base, const rv_cpu_options *o) {
	size_t n_q = (size_t)(tile_tokens(o) * heads_per_kv(o)), d = (size_t)o->head_dim;
	size_t keys = o->attention == RV_ATTN_STANDARD ? (size_t)padded_ctx(o) : BLOCK;
	struct {
		void *slot;
		size_t bytes;
	} parts[] = {
	        {&s->segments, (size_t)o->max_segments * sizeof(rv_segment)},
	        {&s->q, n_q * d * sizeof(float)},
	        {&s->o, n_q * d * sizeof(float)},
	        {&s->kt, d * BLOCK * sizeof(float)},
	        {&s->v, keys * d * sizeof(float)},
	        {&s->o2, n_q * d * sizeof(float)},
	        {&s->scores, n_q * keys * sizeof(float)},
	        {&s->max, n_q * sizeof(float)},
	        {&s->sum, n_q * sizeof(float)},
	        {&s->max2, n_q * sizeof(float)},
	        {&s->sum2, n_q * sizeof(float)},
	        {&s->n_keys, n_q * sizeof(int32_t)},
	};
	size_t at = 0;
	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
		char *p = base ? base + at : NULL;
		memcpy(parts[i].slot, &p, sizeof p);
		at += (parts[i].bytes + 63) & ~(size_t)63;
	}
	return at;
}

size_t rv_cpu_attention_scratch(const rv_cpu_options *o) {
	attn_scratch s;
	return lay_out(&s, NULL, o);
}

/* ---- loading keys and values ---- */

/* Calls the loader on each piece of positions [from, from + n) and zeroes the rest of the block, so
 * that what lies beyond the last key is a number. */
static void load_block(const attn_job *j, const attn_scratch *s, int64_t n_segments, int64_t from,
                       int64_t n, float *kt, float *v) {
	int64_t d = j->hp->head_dim, start = 0, done = 0;
	for (int64_t i = 0; i < n_segments && done < n; start += s->segments[i++].n_tokens) {
		const rv_segment *seg = &s->segments[i];
		int64_t skip = from + done - start;
		if (skip >= seg->n_tokens)
			continue;
		int64_t m = seg->n_tokens - skip < n - done ? seg->n_tokens - skip : n - done;
		if (kt)
			rv_segment_load_keys(j->c->k, seg, kt + done, skip, m, d);
		if (v)
			rv_segment_load_values(j->c->k, seg, v + done * d, skip, m, d);
		done += m;
	}
	if (n == BLOCK)
		return;
	for (int64_t i = 0; kt && i < d; i++)
		memset(kt + i * BLOCK + n, 0, (size_t)(BLOCK - n) * sizeof(float));
	if (v)
		memset(v + n * d, 0, (size_t)((BLOCK - n) * d) * sizeof(float));
}

/* ---- the two kinds ---- */

/* Keys of block b that the query heads of each token see. */
static void visible_keys(const attn_job *j, int64_t row, int64_t n_tokens, int64_t block,
                         int32_t *n_keys) {
	int64_t g = heads_per_kv(&j->c->options);
	for (int64_t t = 0; t < n_tokens; t++) {
		int64_t n = (int64_t)j->rows[row + t].position + 1 - block * BLOCK;
		n = n < 0 ? 0 : n > BLOCK ? BLOCK : n;
		for (int64_t h = 0; h < g; h++)
			n_keys[t * g + h] = (int32_t)n;
	}
}

static void attend_flash(const attn_job *j, const attn_scratch *s, int64_t n_segments, int64_t row,
                         int64_t n_tokens, int64_t n_q, int64_t n_keys) {
	int64_t d = j->hp->head_dim;
	for (int64_t b = 0; b * BLOCK < n_keys; b++) {
		int64_t n = n_keys - b * BLOCK < BLOCK ? n_keys - b * BLOCK : BLOCK;
		load_block(j, s, n_segments, b * BLOCK, n, s->kt, s->v);
		visible_keys(j, row, n_tokens, b, s->n_keys);
		if (b == 0) {
			j->c->k->attn_block(s->o, s->max, s->sum, s->q, s->kt, s->v, s->n_keys, n_q, d,
			                    s->scores);
			continue;
		}
		j->c->k->attn_block(s->o2, s->max2, s->sum2, s->q, s->kt, s->v, s->n_keys, n_q, d,
		                    s->scores);
		j->c->k->attn_merge(s->o, s->max, s->sum, s->o2, s->max2, s->sum2, n_q, d);
	}
	j->c->k->attn_finish(s->o, s->sum, n_q, d);
}

static void product(const rv_cpu *c, float *out, int64_t ldc, const float *a, int64_t lda,
                    const float *b, int64_t ldb, int64_t m, int64_t n, int64_t k) {
	if (c->options.kind == RV_BACKEND_BLAS)
		rv_blas_gemm(out, ldc, a, lda, b, ldb, 0, m, n, k);
	else
		c->k->gemm(out, ldc, a, lda, b, ldb, m, n, k);
}

static void attend_standard(const attn_job *j, const attn_scratch *s, int64_t n_segments, int64_t row,
                            int64_t n_q, int64_t n_keys) {
	int64_t d = j->hp->head_dim, g = heads_per_kv(&j->c->options);
	int64_t padded = (n_keys + BLOCK - 1) / BLOCK * BLOCK;
	for (int64_t b = 0; b * BLOCK < n_keys; b++) {
		int64_t n = n_keys - b * BLOCK < BLOCK ? n_keys - b * BLOCK : BLOCK;
		load_block(j, s, n_segments, b * BLOCK, n, s->kt, s->v + b * BLOCK * d);
		product(j->c, s->scores + b * BLOCK, padded, s->q, d, s->kt, BLOCK, n_q, BLOCK, d);
	}
	for (int64_t i = 0; i < n_q; i++) {
		float *score = s->scores + i * padded;
		for (int64_t key = (int64_t)j->rows[row + i / g].position + 1; key < padded; key++)
			score[key] = -INFINITY;
		j->c->k->softmax(score, padded);
	}
	product(j->c, s->o, d, s->scores, padded, s->v, d, n_q, d, padded);
}

/* ---- items of work ---- */

/* Tokens in the tile that starts at `row`: as long as the run goes on, at most tile_tokens. A row of a
 * draft tree sees keys of its own, so it is a tile by itself. */
static int64_t tile_length(const attn_job *j, int64_t row) {
	int64_t n = 1;
	if (j->rows[row].parent >= 0)
		return n;
	while (n < j->tile_tokens && row + n < j->q.rows && j->rows[row + n].parent < 0 &&
	       j->rows[row + n].seq == j->rows[row].seq &&
	       j->rows[row + n].position == j->rows[row].position + n)
		n++;
	return n;
}

static void attend_tile(const attn_job *j, const attn_scratch *s, int64_t row, int64_t n_tokens,
                        int64_t kv_head) {
	int64_t d = j->hp->head_dim, g = heads_per_kv(&j->c->options), n_q = n_tokens * g;
	int64_t n_keys = (int64_t)j->rows[row + n_tokens - 1].position + 1;
	int64_t n_segments = j->kv->segments(j->kv->cache, &j->rows[row], j->layer, kv_head, n_keys,
	                                     s->segments, j->c->options.max_segments);
	float scale = 1.0f / sqrtf((float)d);
	for (int64_t t = 0; t < n_tokens; t++) {
		const float *src = rv_tensor_row(j->q, row + t) + kv_head * g * d;
		for (int64_t i = 0; i < g * d; i++)
			s->q[t * g * d + i] = src[i] * scale;
	}
	if (j->c->options.attention == RV_ATTN_STANDARD)
		attend_standard(j, s, n_segments, row, n_q, n_keys);
	else
		attend_flash(j, s, n_segments, row, n_tokens, n_q, n_keys);
	for (int64_t t = 0; t < n_tokens; t++)
		memcpy(rv_tensor_row(j->out, row + t) + kv_head * g * d, s->o + t * g * d,
		       (size_t)(g * d) * sizeof(float));
}

/* Items are numbered (tile, kv head). */
static rv_status attend_items(void *arg, int64_t begin, int64_t end, int thread) {
	const attn_job *j = arg;
	attn_scratch s;
	lay_out(&s, j->c->scratch + (size_t)thread * j->c->thread_bytes, &j->c->options);
	int64_t heads = j->hp->n_kv_heads;
	for (int64_t item = begin; item < end; item++) {
		int64_t row = j->c->tiles[item / heads];
		attend_tile(j, &s, row, tile_length(j, row), item % heads);
	}
	return RV_OK;
}

rv_status rv_cpu_attention(rv_backend *be, rv_tensor out, rv_tensor q, const rv_hparams *hp,
                           const rv_row *rows, const rv_kv_view *kv, int64_t layer) {
	rv_cpu *c = (rv_cpu *)be;
	attn_job job = {c, out, q, hp, rows, kv, layer, tile_tokens(&c->options)};
	int64_t n_tiles = 0;
	for (int64_t row = 0; row < q.rows; row += tile_length(&job, row))
		c->tiles[n_tiles++] = row;
	return rv_threads_for(c->threads, n_tiles * hp->n_kv_heads, 1, attend_items, &job);
}
