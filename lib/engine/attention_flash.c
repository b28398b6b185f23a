/* Flash attention: the key axis is cut at absolute multiples of RV_ATTN_BLOCK; each block gives its own
 * (max, sum, output) of a query, merged in ascending order; blocks that no query of a tile sees are not
 * touched. Memory is O(n): tiles are sized by the caches. For few queries rows of f16 are read where
 * they stand; for many a block is decoded first, once for all of them, to the same bits.
 *
 * When there are fewer items than threads (decoding), threads share the blocks of an item: each block's
 * result is kept apart, then all are merged in the same order, to the same bits. */
#include "engine/attention_cpu.h"

#include <math.h>
#include <string.h>

#define BLOCK RV_ATTN_BLOCK

/* ---- sizes ---- */

static int64_t within(int64_t x, int64_t low, int64_t high) {
	return x < low ? low : x > high ? high : x;
}

/* Query heads x tokens of a tile, at most: queries and outputs take half of L2. */
static int64_t tile_rows(const rv_cpu_options *o) {
	enum { MOST_ROWS = 512 };
	int64_t l2 = o->l2_bytes ? (int64_t)o->l2_bytes : 512 << 10;
	int64_t row_bytes = (2 * o->head_dim + 2) * (int64_t)sizeof(float);
	int64_t most = within(o->n_batch * (o->n_heads / o->n_kv_heads), 1, MOST_ROWS);
	return within(l2 / 2 / row_bytes, 1, most);
}

static int64_t group_of(const rv_cpu_options *o) {
	return o->n_heads / o->n_kv_heads;
}

/* By the caches, and so that every thread gets several tiles. */
static int64_t tile_tokens(const rv_cpu_options *o, int n_threads, int64_t n) {
	int64_t most = within(tile_rows(o) / group_of(o), 1, INT32_MAX);
	return n_threads == 1 ? most : within(n * o->n_kv_heads / (4 * n_threads), 1, most);
}

typedef struct flash_scratch {
	rv_segment *segments;
	float *q, *o;     /* [rows, head_dim] */
	float *max, *sum; /* [rows] */
	int32_t *n_keys;  /* [rows] that a query sees of a block */
	float *kt, *v;    /* a block, decoded: [head_dim, BLOCK], [BLOCK, head_dim] */
} flash_scratch;

static size_t lay_out(flash_scratch *s, char *base, const rv_cpu_options *o) {
	int64_t most = tile_rows(o) > group_of(o) ? tile_rows(o) : group_of(o);
	size_t rows = (size_t)most, d = (size_t)o->head_dim, block = BLOCK * d * sizeof(float);
	rv_attn_part parts[] = {
	        {&s->segments, (size_t)o->max_segments * sizeof(rv_segment)},
	        {&s->q, rows * d * sizeof(float)},
	        {&s->o, rows * d * sizeof(float)},
	        {&s->max, rows * sizeof(float)},
	        {&s->sum, rows * sizeof(float)},
	        {&s->n_keys, rows * sizeof(int32_t)},
	        {&s->kt, block},
	        {&s->v, block},
	};
	return rv_attn_lay_out(parts, sizeof parts / sizeof parts[0], base);
}

static size_t thread_scratch(const rv_cpu_options *o) {
	flash_scratch s;
	return lay_out(&s, NULL, o);
}

/* ---- an item ---- */

static void begin_rows(float *max, float *sum, int64_t n) {
	for (int64_t i = 0; i < n; i++) {
		max[i] = -INFINITY;
		sum[i] = 0;
	}
}

static void open_tile(const rv_attn_job *j, const rv_attn_item *item, const flash_scratch *s) {
	for (int64_t t = 0; t < item->n_tokens; t++)
		rv_attn_take_queries(j, item, t, 0, j->group, s->q + t * j->group * j->head_dim);
	begin_rows(s->max, s->sum, item->n_tokens * j->group);
}

static void close_tile(const rv_attn_job *j, const rv_attn_item *item, const flash_scratch *s) {
	int64_t width = j->group * j->head_dim;
	j->c->k->attn_finish(s->o, s->sum, item->n_tokens * j->group, j->head_dim);
	for (int64_t t = 0; t < item->n_tokens; t++)
		memcpy(rv_attn_result(j, item, t, 0), s->o + t * width, (size_t)width * sizeof(float));
}

/* Keys that the last token of a tile sees: all that any of them sees. */
static int64_t keys_of(const rv_attn_job *j, const rv_attn_item *item) {
	return (int64_t)j->rows[item->row + item->n_tokens - 1].position + 1;
}

static int64_t blocks_of(int64_t n_keys) {
	return (n_keys + BLOCK - 1) / BLOCK;
}

static int64_t keys_in(int64_t n_keys, int64_t block) {
	return within(n_keys - block * BLOCK, 0, BLOCK);
}

/* The rows of the block at hand and of the one after it, in turns. */
typedef struct rows_ahead {
	rv_attn_rows at[2];
	int now, known; /* known: at[now] holds the block to come */
} rows_ahead;

/* The queries of a tile against block b, the next of `keys`, which end with its n_keys: into results as
 * attn_block has them. */
static void attend_block(const rv_attn_job *j, const rv_attn_item *item, const flash_scratch *s,
                         rv_attn_keys *keys, rows_ahead *ahead, int64_t n_keys, int64_t b, float *o,
                         float *max, float *sum) {
	enum { FEW = 6 }; /* queries: so many share an element that is decoded on the way */
	const rv_kernels *k = j->c->k;
	int64_t d = j->head_dim, n = keys_in(n_keys, b), n_q = item->n_tokens * j->group;
	int64_t next = (b + 1) * BLOCK, n_next = keys_in(n_keys, b + 1);
	for (int64_t r = 0; r < n_q; r++) {
		int64_t seen = (int64_t)j->rows[item->row + r / j->group].position + 1;
		s->n_keys[r] = (int32_t)keys_in(seen, b);
	}
	int few = n_q <= FEW && d % 16 == 0;
	const rv_attn_rows *rows = &ahead->at[ahead->now];
	if (few && (ahead->known || rv_attn_find(keys, b * BLOCK, n, &ahead->at[ahead->now]))) {
		ahead->now ^= 1;
		const rv_attn_rows *then = &ahead->at[ahead->now];
		ahead->known = n_next > 0 && rv_attn_find(keys, next, n_next, &ahead->at[ahead->now]);
		k->attn_rows(o, max, sum, s->q, rows->keys, rows->values,
		             ahead->known ? then->keys : NULL, ahead->known ? then->values : NULL,
		             s->n_keys, n_q, d);
		return;
	}
	rv_attn_prefetch(keys, next, n_next);
	rv_attn_load(keys, b * BLOCK, n, s->kt, s->v);
	k->attn_block(o, max, sum, s->q, s->kt, s->v, s->n_keys, n_q, d);
}

static void attend_tile(const rv_attn_job *j, const rv_attn_item *item, const flash_scratch *s) {
	int64_t n_keys = keys_of(j, item);
	rv_attn_keys keys = rv_attn_open_keys(j, item, n_keys, s->segments);
	rows_ahead ahead = {.known = 0};
	open_tile(j, item, s);
	for (int64_t b = 0; b < blocks_of(n_keys); b++)
		attend_block(j, item, s, &keys, &ahead, n_keys, b, s->o, s->max, s->sum);
	close_tile(j, item, s);
}

static rv_status attend_items(void *arg, int64_t begin, int64_t end, int thread) {
	const rv_attn_job *j = arg;
	flash_scratch s;
	lay_out(&s, j->c->scratch + (size_t)thread * j->c->thread_bytes, &j->c->options);
	for (int64_t i = begin; i < end; i++) {
		rv_attn_item item = rv_attn_item_at(j, i);
		attend_tile(j, &item, &s);
	}
	return RV_OK;
}

/* ---- the key axis shared by threads ---- */

/* Results of the blocks of an item, one token each: [block] of output [group, head_dim], max, sum. */
typedef struct partial {
	float *o, *max, *sum;
} partial;

static size_t partial_floats(const rv_cpu_options *o) {
	return (size_t)(group_of(o) * (o->head_dim + 2));
}

static partial partial_at(const rv_attn_job *j, int64_t item, int64_t block) {
	const rv_cpu_options *o = &j->c->options;
	int64_t index = item * blocks_of(o->n_ctx) + block;
	float *p = j->c->partials + (size_t)index * partial_floats(o);
	return (partial){p, p + j->group * j->head_dim, p + j->group * (j->head_dim + 1)};
}

/* Used with fewer items than threads only, each of one token. */
size_t rv_attn_flash_partials(const rv_cpu_options *o, int n_threads) {
	size_t bytes = (size_t)blocks_of(o->n_ctx) * partial_floats(o) * sizeof(float);
	return n_threads > o->n_kv_heads ? (size_t)(n_threads - 1) * bytes : 0;
}

/* Units are numbered (item, part). */
static rv_status attend_parts(void *arg, int64_t begin, int64_t end, int thread) {
	const rv_attn_job *j = arg;
	flash_scratch s;
	lay_out(&s, j->c->scratch + (size_t)thread * j->c->thread_bytes, &j->c->options);
	for (int64_t unit = begin; unit < end; unit++) {
		int64_t i = unit / j->n_parts, part = unit % j->n_parts;
		rv_attn_item item = rv_attn_item_at(j, i);
		int64_t n_keys = keys_of(j, &item), n = blocks_of(n_keys);
		rv_attn_keys keys = rv_attn_open_keys(j, &item, n_keys, s.segments);
		rows_ahead ahead = {.known = 0};
		open_tile(j, &item, &s);
		for (int64_t b = part * n / j->n_parts; b < (part + 1) * n / j->n_parts; b++) {
			partial p = partial_at(j, i, b);
			begin_rows(p.max, p.sum, j->group);
			attend_block(j, &item, &s, &keys, &ahead, n_keys, b, p.o, p.max, p.sum);
		}
	}
	return RV_OK;
}

static rv_status merge_parts(void *arg, int64_t begin, int64_t end, int thread) {
	const rv_attn_job *j = arg;
	flash_scratch s;
	lay_out(&s, j->c->scratch + (size_t)thread * j->c->thread_bytes, &j->c->options);
	for (int64_t i = begin; i < end; i++) {
		rv_attn_item item = rv_attn_item_at(j, i);
		begin_rows(s.max, s.sum, j->group);
		for (int64_t b = 0; b < blocks_of(keys_of(j, &item)); b++) {
			partial p = partial_at(j, i, b);
			j->c->k->attn_merge(s.o, s.max, s.sum, p.o, p.max, p.sum, j->group,
			                    j->head_dim);
		}
		close_tile(j, &item, &s);
	}
	return RV_OK;
}

static rv_status run(rv_attn_job *j) {
	int64_t n_items = j->n_tiles * j->n_kv_heads, n_threads = rv_threads_count(j->c->threads);
	int64_t longest = 0;
	for (int64_t i = 0; i < j->q.rows; i++)
		longest = j->rows[i].position > longest ? j->rows[i].position : longest;
	if (n_items >= n_threads || j->n_tiles < j->q.rows || longest < BLOCK)
		return rv_threads_for(j->c->threads, n_items, 1, attend_items, j);
	j->n_parts = (n_threads + n_items - 1) / n_items;
	RV_TRY(rv_threads_for(j->c->threads, n_items * j->n_parts, 1, attend_parts, j));
	return rv_threads_for(j->c->threads, n_items, 1, merge_parts, j);
}

const rv_attn_ops rv_attn_flash_ops = {thread_scratch, tile_tokens, run};
