/* Attention on the CPU: what the files of the kinds share.
 *
 * Rows of a batch are cut into runs (one sequence, consecutive positions), runs into tiles; an item of
 * work is a tile of one KV head, with all query heads that share it. The result of a query depends on
 * its own keys alone: tiles, pages and threads decide who computes, not what (SPEC 9). */
#ifndef RV_ENGINE_ATTENTION_CPU_H
#define RV_ENGINE_ATTENTION_CPU_H

#include "engine/backend_cpu.h"

typedef struct rv_attn_job {
	rv_cpu *c;
	rv_tensor out, q;
	const rv_row *rows;
	const rv_kv_view *kv;
	int64_t layer;
	int64_t n_heads, n_kv_heads, head_dim, group; /* group: query heads of a KV head */
	int64_t n_tiles;                              /* tile i: rows [c->tiles[i], c->tiles[i + 1]) */
	int64_t n_parts;                              /* of the key axis of an item (flash) */
} rv_attn_job;

/* A kind of attention. */
typedef struct rv_attn_ops {
	size_t (*thread_scratch)(const rv_cpu_options *o);
	/* Most tokens of a tile, for a batch of n tokens. */
	int64_t (*tile_tokens)(const rv_cpu_options *o, int n_threads, int64_t n);
	rv_status (*run)(rv_attn_job *job);
} rv_attn_ops;
extern const rv_attn_ops rv_attn_flash_ops, rv_attn_standard_ops; /* standard, standard-causal */

/* Scratch of flash that threads share: blocks of queries whose key axis is split. */
size_t rv_attn_flash_partials(const rv_cpu_options *o, int n_threads);

/* ---- one item ---- */

typedef struct rv_attn_item {
	int64_t row, n_tokens; /* of the tile */
	int64_t kv_head;
} rv_attn_item;

/* Does row i go on where the row before it stopped? A row of a draft tree sees keys of its own, so it
 * is a run by itself. */
int rv_attn_continues(const rv_row *rows, int64_t i);

/* Items are numbered from the last tile of the batch down: the longest come first, so that no thread
 * begins one when the others are done. */
rv_attn_item rv_attn_item_at(const rv_attn_job *j, int64_t index);

/* Copies the queries of a token of the tile, scaled by 1 / sqrt(head_dim): n_heads of the KV head's
 * query heads from `first` on. */
void rv_attn_take_queries(const rv_attn_job *j, const rv_attn_item *item, int64_t token, int64_t first,
                          int64_t n_heads, float *to);
/* Where the result of a token's query head belongs. */
float *rv_attn_result(const rv_attn_job *j, const rv_attn_item *item, int64_t token, int64_t head);

/* ---- keys and values ---- */

/* Walks the segments of a (row, layer, KV head) upwards. */
typedef struct rv_attn_keys {
	const rv_kernels *k;
	const rv_segment *segments;
	int64_t n_segments, index, start; /* start: first key of segment `index` */
	int64_t head_dim;
} rv_attn_keys;

/* The first n keys of the item's rows; segments: scratch [max_segments]. */
rv_attn_keys rv_attn_open_keys(const rv_attn_job *j, const rv_attn_item *item, int64_t n,
                               rv_segment *segments);
/* Decodes keys [from, from + n) of one block, n <= RV_ATTN_BLOCK, not before those of earlier calls: as
 * columns kt[head_dim][RV_ATTN_BLOCK] and rows v[n][head_dim]. What lies beyond n is left as it is. */
void rv_attn_load(rv_attn_keys *keys, int64_t from, int64_t n, float *kt, float *v);
/* Where they stand, if all are rows of f16 (1; else 0, and nothing is passed by): as attn_rows wants
 * them. */
typedef struct rv_attn_rows {
	const rv_f16 *keys[RV_ATTN_BLOCK], *values[RV_ATTN_BLOCK];
} rv_attn_rows;
int rv_attn_find(rv_attn_keys *keys, int64_t from, int64_t n, rv_attn_rows *rows);
/* Has the cache fetch keys [from, from + n), which are wanted soon. */
void rv_attn_prefetch(const rv_attn_keys *keys, int64_t from, int64_t n);

/* ---- scratch ---- */

typedef struct rv_attn_part {
	void *slot; /* a pointer that is set */
	size_t bytes;
} rv_attn_part;
/* Places parts one after the other from `base` (NULL to measure), 64-byte aligned; returns the bytes.
 */
size_t rv_attn_lay_out(const rv_attn_part *parts, int n, char *base);

#endif
