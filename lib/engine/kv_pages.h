/* Paged KV cache: pages of P tokens (all layers and KV heads), shared by reference and copied when one
 * of their owners writes to them.
 *
 * A page is a table entry with a reference count. Its memory is made of lanes, one a (layer, KV head):
 * keys of P tokens, then values of P tokens. Lanes are grouped into blocks of at most one pool page
 * (2 MiB), blocks are carved from pool pages (slabs). Position p of a sequence is row p % P of page p /
 * P of its block table. A page with more than one reference is never written.
 *
 * When the pool has no memory left, reclaim hooks are asked to let pages go; they are also asked when
 * the pool wants memory back (base/pool.h), at the next call of the context.
 *
 * Belongs to one context and follows its rule of one caller at a time. Allocation is on demand. */
#ifndef RV_ENGINE_KV_PAGES_H
#define RV_ENGINE_KV_PAGES_H

#include "base/pool.h"
#include "engine/backend.h"

enum { RV_KV_PAGE_TOKENS_MIN = 8, RV_KV_PAGE_TOKENS_MAX = 256 };

typedef int32_t rv_kv_page; /* index into the table; -1: none */
typedef struct rv_kv_pages rv_kv_pages;

typedef struct rv_kv_pages_options {
	const rv_hparams *hp;
	rv_kv_type type;     /* of new pages */
	int64_t page_tokens; /* power of two, RV_KV_PAGE_TOKENS_MIN.._MAX */
	int64_t n_ctx;       /* tokens a sequence can hold */
	int32_t n_seqs;
	rv_pool *pool;       /* NULL: its own, of budget_bytes */
	size_t budget_bytes; /* of its own pool */
} rv_kv_pages_options;

/* Budget that holds n_seqs sequences of n_ctx tokens; RV_ERR_LIMIT on overflow. */
rv_status rv_kv_pages_bytes(const rv_kv_pages_options *options, size_t *out);
rv_status rv_kv_pages_create(rv_kv_pages **out, const rv_kv_pages_options *options);
void rv_kv_pages_destroy(rv_kv_pages *kv); /* accepts NULL */

/* The cache as attention sees it; borrows kv. */
rv_kv_view rv_kv_pages_view(const rv_kv_pages *kv);

/* ---- sequences ---- */

/* Makes positions [from, to) of a sequence writable: pages beyond its table are added, a page that
 * others hold too, or of another format than new ones, is copied up to `from`. RV_ERR_LIMIT when there
 * is no memory; what was added before stays until rv_kv_seq_truncate. */
rv_status rv_kv_seq_reserve(rv_kv_pages *kv, int32_t seq, int64_t from, int64_t to);
/* Keeps the pages of the first n positions. */
void rv_kv_seq_truncate(rv_kv_pages *kv, int32_t seq, int64_t n);
/* `to` holds the pages of the first n positions of `from`. */
void rv_kv_seq_fork(rv_kv_pages *kv, int32_t from, int32_t to, int64_t n);
/* An empty sequence takes references to n pages as its first. */
void rv_kv_seq_attach(rv_kv_pages *kv, int32_t seq, const rv_kv_page *pages, int64_t n);
/* Block table: page i holds positions [iP, iP + P). Valid until the sequence changes. */
int64_t rv_kv_seq_pages(const rv_kv_pages *kv, int32_t seq, const rv_kv_page **out);
/* Pages that rv_kv_seq_reserve(seq, from, to) would take. */
int64_t rv_kv_seq_needs(const rv_kv_pages *kv, int32_t seq, int64_t from, int64_t to);

/* ---- pages ---- */

/* Page formats are numbers: those of one row type for all layers are the rv_kv_type itself, others are
 * added. of_layer: the format of each layer's keys and values. RV_ERR_LIMIT: too many;
 * RV_ERR_UNSUPPORTED: codes of a head_dim that is no multiple of 8. */
enum { RV_KV_PAGE_FORMATS = RV_KV_COUNT + 4 };
rv_status rv_kv_pages_add_format(rv_kv_pages *kv, const rv_kv_format *of_layer, int *out);
/* What decoding needs to know of each layer: [n_layers], borrowed. Before the first coded page. */
void rv_kv_pages_set_codings(rv_kv_pages *kv, const rv_kv_coding *codings);

/* A page of nobody's yet, with one reference; contents undefined. */
rv_status rv_kv_page_create(rv_kv_pages *kv, int format, rv_kv_page *out);
int rv_kv_page_format(const rv_kv_pages *kv, rv_kv_page page);
void rv_kv_page_retain(rv_kv_pages *kv, rv_kv_page page);
void rv_kv_page_release(rv_kv_pages *kv, rv_kv_page page);
int32_t rv_kv_page_refs(const rv_kv_pages *kv, rv_kv_page page);
/* Remembers, for as long as both live, that `twin` holds what `page` does in another format: whoever
 * shares `page` can go over to it. rv_kv_page_twin: that page, -1 when there is none of the format. */
void rv_kv_page_set_twin(rv_kv_pages *kv, rv_kv_page page, rv_kv_page twin);
rv_kv_page rv_kv_page_twin(const rv_kv_pages *kv, rv_kv_page page, int format);
/* A sequence's page i becomes `page`; the references of both stay as they are. */
void rv_kv_seq_replace(rv_kv_pages *kv, int32_t seq, int64_t i, rv_kv_page page);
/* Exchanges the memory (and type) of two pages, so that whoever refers to `a` sees what `b` held. */
void rv_kv_page_swap(rv_kv_pages *kv, rv_kv_page a, rv_kv_page b);

typedef struct rv_kv_lane {
	char *keys, *values; /* row t of each: t * stride bytes on; codes: block by block */
	size_t stride;       /* 0: codes */
	rv_kv_format type;
} rv_kv_lane;
/* Memory of a (layer, KV head) of a page; lane = layer * n_kv_heads + head. */
rv_kv_lane rv_kv_page_lane(const rv_kv_pages *kv, rv_kv_page page, int64_t lane);

int64_t rv_kv_pages_page_tokens(const rv_kv_pages *kv);
int64_t rv_kv_pages_n_lanes(const rv_kv_pages *kv);
size_t rv_kv_pages_page_bytes(const rv_kv_pages *kv, int format);
/* Of them: one layer's keys and values, without what rounding adds. */
size_t rv_kv_pages_layer_bytes(const rv_kv_pages *kv, int format, int64_t layer);
rv_pool *rv_kv_pages_pool(const rv_kv_pages *kv);

/* Lets at least one page go whose memory can be reused (all references dropped), or says why not.
 * Called from within calls of the context, never from another thread; may call rv_kv_page_release. */
typedef rv_status rv_kv_reclaim_fn(void *user);
/* Hooks are asked in the order they were added, the next when one fails. RV_ERR_LIMIT: too many. */
enum { RV_KV_RECLAIM_HOOKS = 4 };
rv_status rv_kv_pages_add_reclaim(rv_kv_pages *kv, rv_kv_reclaim_fn *reclaim, void *user);
void rv_kv_pages_remove_reclaim(rv_kv_pages *kv, rv_kv_reclaim_fn *reclaim, void *user);

/* Moves pages closer together and gives whole pool pages back; returns how many. Done by itself when
 * the pool has no memory left, before anything is asked to go. Pages keep their handles and contents,
 * but not their places: lanes and segments that were asked for before are no longer valid. */
int64_t rv_kv_pages_compact(rv_kv_pages *kv);

/* ---- what it holds ---- */

typedef struct rv_kv_pages_counts {
	int64_t n_pages;  /* with at least one reference */
	int64_t n_shared; /* with more than one */
	int64_t n_references;
	int64_t n_free;         /* that the budget still has room for, by the type of new pages */
	int64_t n_copies;       /* made because a shared page was written to, since creation */
	int64_t n_reclaimed;    /* calls of the hook that let something go */
	int64_t n_moved;        /* blocks of pages, by compaction */
	size_t page_bytes;      /* of the type of new pages */
	size_t used_bytes;      /* of pages with references */
	size_t allocated_bytes; /* taken from the pool */
} rv_kv_pages_counts;
void rv_kv_pages_count(const rv_kv_pages *kv, rv_kv_pages_counts *out);
/* RV_ERR_INVALID naming the first contradiction between tables, reference counts (`others`: references
 * held outside sequences, or -1 when not known) and memory. For tests; slow. */
rv_status rv_kv_pages_verify(const rv_kv_pages *kv, int64_t others);

#endif
