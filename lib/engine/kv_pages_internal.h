/* What the files of the paged KV cache share. */
#ifndef RV_ENGINE_KV_PAGES_INTERNAL_H
#define RV_ENGINE_KV_PAGES_INTERNAL_H

#include "engine/kv_pages.h"
#include "engine/kv_slabs.h"

#include <pthread.h>
#include <stdatomic.h>

#define NO_PAGE (-1)

typedef struct lane_place {
	rv_kv_format type;
	int32_t block;
	size_t at, values_at; /* within the block */
	size_t stride;        /* a row's bytes; 0: codes */
} lane_place;

/* How a page of one format is laid out. */
typedef struct page_format {
	lane_place *lanes; /* [n_lanes] */
	size_t block_bytes;
	int64_t n_blocks; /* of a page */
	rv_kv_slabs slabs;
} page_format;

typedef struct page_entry {
	int32_t refs; /* 0: free, `next` is the next free one */
	rv_kv_page next;
	int32_t format;
	rv_kv_page twin, twin_of; /* NO_PAGE: none */
} page_entry;

typedef struct block_table {
	int64_t n; /* pages */
} block_table;

struct rv_kv_pages {
	rv_kv_pages_options options;
	int64_t n_lanes, n_heads, shift, mask; /* position = page << shift | row & mask */
	page_format formats[RV_KV_PAGE_FORMATS];
	int n_formats;
	const rv_kv_coding *codings; /* [n_layers] or NULL */
	rv_pool *own_pool, *pool;
	rv_pool_owner *owner;

	page_entry *pages;   /* [room] */
	rv_kv_block *blocks; /* [room][max_blocks] */
	int64_t room, max_blocks;
	rv_kv_page free;
	int64_t n_touched; /* entries beyond were never used */

	block_table *tables; /* [n_seqs] */
	rv_kv_page *table;   /* [n_seqs][table_room] */
	int64_t table_room;

	struct {
		rv_kv_reclaim_fn *fn;
		void *user;
	} hooks[RV_KV_RECLAIM_HOOKS];
	int n_hooks;
	int reclaiming;   /* inside the hook */
	pthread_t caller; /* who is asking the pool, while `asking` */
	atomic_int asking;
	atomic_int wanted; /* another thread asked for memory */
	int64_t n_pages, n_shared, n_references, n_copies, n_reclaimed, n_moved;
	size_t used_bytes;
};

static inline size_t page_bytes(const page_format *f) {
	return (size_t)f->n_blocks * f->block_bytes;
}

static inline rv_kv_block *blocks_of(const rv_kv_pages *kv, rv_kv_page page) {
	return kv->blocks + (int64_t)page * kv->max_blocks;
}

static inline rv_kv_page *table_of(const rv_kv_pages *kv, int32_t seq) {
	return kv->table + (int64_t)seq * kv->table_room;
}

static inline int64_t pages_for(const rv_kv_pages *kv, int64_t n) {
	return (n + kv->mask) >> kv->shift;
}

/* Compaction, or else asking the hooks, for the memory that another thread has wanted back meanwhile.
 */
void rv_kv_pages_honour_wish(rv_kv_pages *kv);

#endif
