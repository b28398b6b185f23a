#include "engine/attention_cpu.h"

#include <math.h>
#include <string.h>

#define BLOCK RV_ATTN_BLOCK

static const rv_attn_ops *const kinds[RV_ATTN_COUNT] = {
        [RV_ATTN_FLASH] = &rv_attn_flash_ops,
        [RV_ATTN_STANDARD] = &rv_attn_standard_ops,
        [RV_ATTN_STANDARD_CAUSAL] = &rv_attn_standard_ops,
};

size_t rv_attn_lay_out(const rv_attn_part *parts, int n, char *base) {
	size_t at = 0;
	for (int i = 0; i < n; i++) {
		char *p = base ? base + at : NULL;
		memcpy(parts[i].slot, &p, sizeof p);
		at += (parts[i].bytes + 63) & ~(size_t)63;
	}
	return at;
}

size_t rv_cpu_attention_scratch(const rv_cpu_options *o) {
	return kinds[o->attention]->thread_scratch(o);
}

size_t rv_cpu_attention_shared(const rv_cpu_options *o, int n_threads) {
	return o->attention == RV_ATTN_FLASH ? rv_attn_flash_partials(o, n_threads) : 0;
}

/* ---- keys and values ---- */

rv_attn_keys rv_attn_open_keys(const rv_attn_job *j, const rv_attn_item *item, int64_t n,
                               rv_segment *segments) {
	int64_t count = j->kv->segments(j->kv->cache, &j->rows[item->row], j->layer, item->kv_head, n,
	                                segments, j->c->options.max_segments);
	return (rv_attn_keys){
	        .k = j->c->k, .segments = segments, .n_segments = count, .head_dim = j->head_dim};
}

/* A piece of one segment. */
typedef struct piece {
	const rv_segment *segment;
	int64_t skip, n; /* tokens of the segment before it, tokens */
} piece;

/* The piece that position `at` begins, of at most n tokens; keys goes on to its segment. None: n = 0.
 */
static piece piece_at(rv_attn_keys *keys, int64_t at, int64_t n) {
	while (keys->index < keys->n_segments) {
		const rv_segment *s = &keys->segments[keys->index];
		int64_t skip = at - keys->start, left = s->n_tokens - skip;
		if (left > 0)
			return (piece){s, skip, left < n ? left : n};
		keys->start += s->n_tokens;
		keys->index++;
	}
	return (piece){0};
}

void rv_attn_load(rv_attn_keys *keys, int64_t from, int64_t n, float *kt, float *v) {
	int64_t d = keys->head_dim;
	piece p;
	for (int64_t i = 0; i < n && (p = piece_at(keys, from + i, n - i)).n > 0; i += p.n) {
		rv_segment_load_keys(keys->k, p.segment, kt + i, p.skip, p.n, d);
		rv_segment_load_values(keys->k, p.segment, v + i * d, p.skip, p.n, d);
	}
}

int rv_attn_find(rv_attn_keys *keys, int64_t from, int64_t n, rv_attn_rows *rows) {
	rv_attn_keys walk = *keys;
	int64_t i = 0;
	piece p;
	for (; i < n && (p = piece_at(&walk, from + i, n - i)).n > 0; i += p.n) {
		const rv_segment *s = p.segment;
		if (s->type != RV_KV_F16 || !s->stride)
			return 0;
		for (int64_t j = 0; j < p.n; j++) {
			size_t at = (size_t)(p.skip + j) * s->stride;
			rows->keys[i + j] = (const void *)((const char *)s->keys + at);
			rows->values[i + j] = (const void *)((const char *)s->values + at);
		}
	}
	for (; i % RV_ATTN_BLOCK; i++) { /* no result depends on what fills it up */
		rows->keys[i] = rows->keys[i - 1];
		rows->values[i] = rows->values[i - 1];
	}
	*keys = walk;
	return 1;
}

static void prefetch(const void *begin, size_t bytes) {
	for (size_t i = 0; i < bytes; i += 64)
		__builtin_prefetch((const char *)begin + i, 0, 2);
}

void rv_attn_prefetch(const rv_attn_keys *keys, int64_t from, int64_t n) {
	rv_attn_keys walk = *keys;
	piece p;
	for (int64_t i = 0; i < n && (p = piece_at(&walk, from + i, n - i)).n > 0; i += p.n) {
		const rv_segment *s = p.segment; /* codes stand close: the hardware sees to them */
		size_t at = (size_t)p.skip * s->stride, bytes = (size_t)p.n * s->stride;
		prefetch((const char *)s->keys + at, bytes);
		prefetch((const char *)s->values + at, bytes);
	}
}

/* ---- items ---- */

rv_attn_item rv_attn_item_at(const rv_attn_job *j, int64_t index) {
	int64_t last = j->n_tiles * j->n_kv_heads - 1 - index, tile = last / j->n_kv_heads;
	const int64_t *begin = &j->c->tiles[tile];
	return (rv_attn_item){begin[0], begin[1] - begin[0], last % j->n_kv_heads};
}

void rv_attn_take_queries(const rv_attn_job *j, const rv_attn_item *item, int64_t token, int64_t first,
                          int64_t n_heads, float *to) {
	float scale = 1.0f / sqrtf((float)j->head_dim);
	const float *from = rv_tensor_row(j->q, item->row + token) +
	                    (item->kv_head * j->group + first) * j->head_dim;
	for (int64_t i = 0; i < n_heads * j->head_dim; i++)
		to[i] = from[i] * scale;
}

float *rv_attn_result(const rv_attn_job *j, const rv_attn_item *item, int64_t token, int64_t head) {
	return rv_tensor_row(j->out, item->row + token) +
	       (item->kv_head * j->group + head) * j->head_dim;
}

int rv_attn_continues(const rv_row *rows, int64_t i) {
	return rows[i].parent < 0 && rows[i - 1].parent < 0 && rows[i].seq == rows[i - 1].seq &&
	       rows[i].position == rows[i - 1].position + 1;
}

static void cut_tiles(rv_attn_job *j, int64_t tile_tokens) {
	int64_t *tiles = j->c->tiles;
	j->n_tiles = 0;
	for (int64_t row = 0; row < j->q.rows; row++)
		if (row == 0 || !rv_attn_continues(j->rows, row) ||
		    row - tiles[j->n_tiles - 1] == tile_tokens)
			tiles[j->n_tiles++] = row;
	tiles[j->n_tiles] = j->q.rows;
}

rv_status rv_cpu_attention(rv_backend *be, rv_tensor out, rv_tensor q, const rv_hparams *hp,
                           const rv_row *rows, const rv_kv_view *kv, int64_t layer) {
	rv_cpu *c = (rv_cpu *)be;
	const rv_attn_ops *kind = kinds[c->options.attention];
	rv_attn_job job = {.c = c,
	                   .out = out,
	                   .q = q,
	                   .rows = rows,
	                   .kv = kv,
	                   .layer = layer,
	                   .n_heads = hp->n_heads,
	                   .n_kv_heads = hp->n_kv_heads,
	                   .head_dim = hp->head_dim,
	                   .group = hp->n_heads / hp->n_kv_heads};
	cut_tiles(&job, kind->tile_tokens(&c->options, rv_threads_count(c->threads), q.rows));
	return kind->run(&job);
}
