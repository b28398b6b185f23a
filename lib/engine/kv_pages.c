#include "engine/kv_pages.h"

#include "base/mem.h"
#include "base/vm.h"
#include "engine/kv_convert.h"
#include "engine/kv_slabs.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

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
	int64_t n_pages, n_shared, n_references, n_copies, n_reclaimed;
	size_t used_bytes;
};

/* ---- sizes ---- */

static size_t round64(size_t n) {
	return (n + 63) & ~(size_t)63;
}

/* Bytes of the keys and of the values of a lane. */
static void lane_sizes(rv_kv_format type, const rv_kv_pages_options *o, size_t *keys, size_t *values) {
	int64_t n =
	        type >= RV_KV_COUNT && o->page_tokens > RV_ATTN_BLOCK ? RV_ATTN_BLOCK : o->page_tokens;
	*keys = (size_t)(o->page_tokens / n) * rv_kv_keys_bytes(type, n, o->hp->head_dim);
	*values = (size_t)(o->page_tokens / n) * rv_kv_values_bytes(type, n, o->hp->head_dim);
}

/* Places the lanes in blocks of `per_block`; returns the bytes of the largest. */
static size_t place_lanes(lane_place *lanes, const rv_kv_pages_options *o, const rv_kv_format *of_layer,
                          int64_t per_block) {
	size_t at = 0, most = 0;
	for (int64_t i = 0; i < o->hp->n_layers * o->hp->n_kv_heads; i++) {
		rv_kv_format type = of_layer[i / o->hp->n_kv_heads];
		size_t keys, values;
		lane_sizes(type, o, &keys, &values);
		at = i % per_block ? at : 0;
		lanes[i] = (lane_place){.type = type,
		                        .block = (int32_t)(i / per_block),
		                        .at = at,
		                        .values_at = at + round64(keys),
		                        .stride = type < RV_KV_COUNT ? rv_kv_row_bytes((rv_kv_type)type,
		                                                                       o->hp->head_dim)
		                                                     : 0};
		at = lanes[i].values_at + round64(values);
		most = at > most ? at : most;
	}
	return most;
}

/* As few blocks as a pool page allows, of lanes as even as can be: they waste least. Frees nothing on
 * failure. */
static rv_status lay_out(page_format *f, const rv_kv_pages_options *o, const rv_kv_format *of_layer) {
	int64_t n_lanes = o->hp->n_layers * o->hp->n_kv_heads;
	RV_TRY(RV_ALLOC(&f->lanes, n_lanes, "KV page format"));
	for (f->n_blocks = 1;; f->n_blocks++) {
		int64_t per_block = (n_lanes + f->n_blocks - 1) / f->n_blocks;
		f->block_bytes = place_lanes(f->lanes, o, of_layer, per_block);
		f->n_blocks = (n_lanes + per_block - 1) / per_block;
		if (f->block_bytes <= RV_POOL_PAGE_BYTES)
			return RV_OK;
		if (per_block == 1)
			return rv_fail(RV_ERR_LIMIT,
			               "KV pages: %lld tokens of a head of %lld take %zu bytes, more "
			               "than a pool page (%zu)",
			               (long long)o->page_tokens, (long long)o->hp->head_dim,
			               f->block_bytes, RV_POOL_PAGE_BYTES);
	}
}

static rv_status lay_out_rows(page_format *f, const rv_kv_pages_options *o, rv_kv_type type) {
	rv_kv_format *of_layer;
	RV_TRY(RV_ALLOC(&of_layer, o->hp->n_layers, "KV page format"));
	for (int64_t i = 0; i < o->hp->n_layers; i++)
		of_layer[i] = type;
	rv_status st = lay_out(f, o, of_layer);
	rv_free(of_layer);
	return st;
}

static size_t page_bytes(const page_format *f) {
	return (size_t)f->n_blocks * f->block_bytes;
}

static int64_t table_room(const rv_kv_pages_options *o) {
	return (o->n_ctx + o->page_tokens - 1) / o->page_tokens;
}

static rv_status check_options(const rv_kv_pages_options *o) {
	int64_t p = o->page_tokens;
	if (p < RV_KV_PAGE_TOKENS_MIN || p > RV_KV_PAGE_TOKENS_MAX || (p & (p - 1)))
		return rv_fail(RV_ERR_INVALID, "page size %lld: a power of two from %d to %d is needed",
		               (long long)p, RV_KV_PAGE_TOKENS_MIN, RV_KV_PAGE_TOKENS_MAX);
	return RV_OK;
}

rv_status rv_kv_pages_bytes(const rv_kv_pages_options *o, size_t *out) {
	page_format f = {0};
	size_t n;
	RV_TRY(check_options(o));
	rv_status st = lay_out_rows(&f, o, o->type);
	rv_free(f.lanes);
	RV_TRY(st);
	size_t per_slab = RV_POOL_PAGE_BYTES / f.block_bytes;
	if (!rv_mul_ok((size_t)table_room(o), (size_t)o->n_seqs, &n) ||
	    !rv_mul_ok(n, (size_t)f.n_blocks, &n) ||
	    !rv_mul_ok((n + per_slab - 1) / per_slab, RV_POOL_PAGE_BYTES, out))
		return rv_fail(RV_ERR_LIMIT, "KV cache of %lld tokens x %d sequences: size overflows",
		               (long long)o->n_ctx, o->n_seqs);
	return RV_OK;
}

/* ---- the pool ---- */

/* One hook after the other, until something has been let go. */
static rv_status ask_hooks(rv_kv_pages *kv) {
	rv_status st = RV_ERR_LIMIT;
	if (kv->reclaiming)
		return st;
	kv->reclaiming = 1;
	for (int i = 0; i < kv->n_hooks && st != RV_OK; i++)
		st = kv->hooks[i].fn(kv->hooks[i].user);
	kv->reclaiming = 0;
	kv->n_reclaimed += st == RV_OK;
	return st;
}

/* The pool wants memory back. On the context's own thread the hook may let pages go at once (the slab
 * that was named or others: the pool sees by its own count). Another thread must not touch the tables:
 * its wish is kept for the next call of the context. */
static rv_status evict(void *user, rv_pool_page page) {
	rv_kv_pages *kv = user;
	(void)page;
	if (atomic_load(&kv->asking) && pthread_equal(kv->caller, pthread_self()))
		(void)ask_hooks(kv);
	else
		atomic_store(&kv->wanted, 1);
	return rv_fail(RV_ERR_LIMIT, "KV pages: in use");
}

static void honour_wish(rv_kv_pages *kv) {
	if (!atomic_exchange(&kv->wanted, 0))
		return;
	int64_t slabs = 0;
	for (int t = 0; t < kv->n_formats; t++)
		slabs += kv->formats[t].slabs.n_slabs;
	/* until about a seventh of the memory has been given back: 85 % to 70 % */
	for (int64_t want = slabs - slabs / 7, now = slabs; now > want;) {
		if (ask_hooks(kv) != RV_OK)
			return;
		now = 0;
		for (int t = 0; t < kv->n_formats; t++)
			now += kv->formats[t].slabs.n_slabs;
	}
}

static rv_status take_block(rv_kv_pages *kv, page_format *f, rv_kv_block *out) {
	rv_status st;
	kv->caller = pthread_self();
	atomic_store(&kv->asking, 1);
	while ((st = rv_kv_block_alloc(&f->slabs, out)) == RV_ERR_LIMIT && ask_hooks(kv) == RV_OK)
		;
	atomic_store(&kv->asking, 0);
	return st == RV_ERR_LIMIT ? rv_fail(RV_ERR_LIMIT, "KV pages: no memory left in the budget")
	                          : st;
}

/* ---- life ---- */

static rv_status create_into(rv_kv_pages *kv, const rv_kv_pages_options *o) {
	kv->options = *o;
	kv->n_heads = o->hp->n_kv_heads;
	kv->n_lanes = o->hp->n_layers * o->hp->n_kv_heads;
	kv->shift = __builtin_ctzll((unsigned long long)o->page_tokens);
	kv->mask = o->page_tokens - 1;
	kv->table_room = table_room(o);
	kv->free = NO_PAGE;
	kv->pool = o->pool;
	if (!kv->pool) {
		RV_TRY(rv_pool_create(&kv->own_pool, o->budget_bytes, 0.70, 0.85));
		kv->pool = kv->own_pool;
	}
	RV_TRY(rv_pool_owner_add(kv->pool, "KV pages", evict, kv, &kv->owner));
	for (; kv->n_formats < RV_KV_COUNT; kv->n_formats++) {
		page_format *f = &kv->formats[kv->n_formats];
		RV_TRY(lay_out_rows(f, o, (rv_kv_type)kv->n_formats));
		rv_kv_slabs_init(&f->slabs, kv->owner, f->block_bytes);
		if (f->n_blocks > kv->max_blocks)
			kv->max_blocks = f->n_blocks;
	}
	/* What the budget can hold gets its place now, so that later only the pool's memory is taken.
	 */
	const page_format *f = &kv->formats[o->type];
	rv_pool_stats stats;
	rv_pool_get_stats(kv->pool, &stats);
	size_t n_slabs = stats.budget_bytes / RV_POOL_PAGE_BYTES;
	size_t n_pages = n_slabs * f->slabs.per_slab / (size_t)f->n_blocks;
	size_t most = (size_t)kv->table_room * (size_t)o->n_seqs;
	if (n_pages > most)
		n_pages = most;
	if (n_slabs > most * (size_t)f->n_blocks)
		n_slabs = most * (size_t)f->n_blocks;
	if (n_pages < 1 || n_pages > INT32_MAX / 2 || n_slabs > UINT32_MAX / 2)
		return rv_fail(RV_ERR_LIMIT, "KV pages: %zu pages do not fit a budget of %zu bytes",
		               n_pages, stats.budget_bytes);
	RV_TRY(rv_kv_slabs_reserve(&kv->formats[o->type].slabs, (uint32_t)n_slabs));
	RV_TRY(RV_ALLOC(&kv->pages, n_pages, "KV pages"));
	RV_TRY(RV_ALLOC(&kv->blocks, n_pages * (size_t)kv->max_blocks, "KV pages"));
	kv->room = (int64_t)n_pages;
	RV_TRY(RV_ALLOC(&kv->tables, o->n_seqs, "block tables"));
	return rv_vm_alloc((void **)&kv->table, most * sizeof *kv->table, "block tables");
}

rv_status rv_kv_pages_create(rv_kv_pages **out, const rv_kv_pages_options *options) {
	rv_kv_pages *kv;
	*out = NULL;
	RV_TRY(check_options(options));
	RV_TRY(RV_ALLOC(&kv, 1, "KV pages"));
	rv_status st = create_into(kv, options);
	if (st != RV_OK) {
		rv_kv_pages_destroy(kv);
		return st;
	}
	*out = kv;
	return RV_OK;
}

void rv_kv_pages_destroy(rv_kv_pages *kv) {
	if (!kv)
		return;
	for (int t = 0; t < kv->n_formats; t++)
		rv_kv_slabs_deinit(&kv->formats[t].slabs);
	for (int t = 0; t < RV_KV_PAGE_FORMATS; t++)
		rv_free(kv->formats[t].lanes);
	rv_pool_owner_remove(kv->owner);
	rv_pool_destroy(kv->own_pool);
	rv_free(kv->pages);
	rv_free(kv->blocks);
	rv_free(kv->tables);
	rv_vm_free(kv->table, (size_t)kv->table_room * (size_t)kv->options.n_seqs * sizeof *kv->table);
	rv_free(kv);
}

/* ---- pages ---- */

static rv_kv_block *blocks_of(const rv_kv_pages *kv, rv_kv_page page) {
	return kv->blocks + (int64_t)page * kv->max_blocks;
}

static rv_status take_entry(rv_kv_pages *kv, rv_kv_page *out) {
	if (kv->free != NO_PAGE) {
		*out = kv->free;
		kv->free = kv->pages[*out].next;
		return RV_OK;
	}
	if (kv->n_touched == kv->room) { /* pages of smaller types are more than were planned for */
		int64_t more = 2 * kv->room;
		if (more > INT32_MAX / 2)
			return rv_fail(RV_ERR_LIMIT, "KV pages: more than %d", INT32_MAX / 2);
		RV_TRY(RV_GROW(&kv->blocks, kv->room * kv->max_blocks, more * kv->max_blocks,
		               "KV pages"));
		RV_TRY(RV_GROW(&kv->pages, kv->room, more, "KV pages"));
		kv->room = more;
	}
	*out = (rv_kv_page)kv->n_touched++;
	return RV_OK;
}

static void give_blocks(rv_kv_pages *kv, rv_kv_page page, int64_t n) {
	for (int64_t i = n; i-- > 0;)
		rv_kv_block_free(&kv->formats[kv->pages[page].format].slabs, blocks_of(kv, page)[i]);
}

static void give_entry(rv_kv_pages *kv, rv_kv_page page) {
	kv->pages[page] = (page_entry){.next = kv->free};
	kv->free = page;
}

rv_status rv_kv_pages_add_format(rv_kv_pages *kv, const rv_kv_format *of_layer, int *out) {
	page_format *f = &kv->formats[kv->n_formats];
	if (kv->n_formats == RV_KV_PAGE_FORMATS)
		return rv_fail(RV_ERR_LIMIT, "KV pages: more than %d formats", RV_KV_PAGE_FORMATS);
	for (int64_t i = 0; i < kv->options.hp->n_layers; i++)
		if (of_layer[i] >= RV_KV_COUNT && kv->options.hp->head_dim % 8)
			return rv_fail(RV_ERR_UNSUPPORTED, "KV format %s: heads of %lld elements",
			               rv_kv_format_name(of_layer[i]),
			               (long long)kv->options.hp->head_dim);
	rv_status st = lay_out(f, &kv->options, of_layer);
	/* the table of blocks has its width already */
	if (st == RV_OK && f->n_blocks > kv->max_blocks)
		st = rv_fail(RV_ERR_UNSUPPORTED, "KV pages: a format larger than f32");
	if (st != RV_OK) {
		rv_free(f->lanes);
		f->lanes = NULL;
		return st;
	}
	rv_kv_slabs_init(&f->slabs, kv->owner, f->block_bytes);
	*out = kv->n_formats++;
	return RV_OK;
}

void rv_kv_pages_set_codings(rv_kv_pages *kv, const rv_kv_coding *codings) {
	kv->codings = codings;
}

rv_status rv_kv_page_create(rv_kv_pages *kv, int format, rv_kv_page *out) {
	page_format *f = &kv->formats[format];
	rv_kv_page page = NO_PAGE;
	*out = NO_PAGE;
	RV_TRY(take_entry(kv, &page));
	kv->pages[page].format = format;
	kv->pages[page].twin = kv->pages[page].twin_of = NO_PAGE;
	for (int64_t i = 0; i < f->n_blocks; i++) {
		rv_kv_block block;
		rv_status st = take_block(kv, f, &block);
		if (st != RV_OK) {
			give_blocks(kv, page, i);
			give_entry(kv, page);
			return st;
		}
		blocks_of(kv, page)[i] = block; /* the table may have grown meanwhile */
	}
	kv->pages[page].refs = 1;
	kv->n_pages++;
	kv->n_references++;
	kv->used_bytes += page_bytes(f);
	*out = page;
	return RV_OK;
}

void rv_kv_page_retain(rv_kv_pages *kv, rv_kv_page page) {
	kv->n_shared += ++kv->pages[page].refs == 2;
	kv->n_references++;
}

static void forget_twins(rv_kv_pages *kv, rv_kv_page page) {
	page_entry *e = &kv->pages[page];
	if (e->twin != NO_PAGE)
		kv->pages[e->twin].twin_of = NO_PAGE;
	if (e->twin_of != NO_PAGE)
		kv->pages[e->twin_of].twin = NO_PAGE;
	e->twin = e->twin_of = NO_PAGE;
}

void rv_kv_page_set_twin(rv_kv_pages *kv, rv_kv_page page, rv_kv_page twin) {
	forget_twins(kv, twin);
	if (kv->pages[page].twin != NO_PAGE)
		kv->pages[kv->pages[page].twin].twin_of = NO_PAGE;
	kv->pages[page].twin = twin;
	kv->pages[twin].twin_of = page;
}

rv_kv_page rv_kv_page_twin(const rv_kv_pages *kv, rv_kv_page page, int format) {
	rv_kv_page twin = kv->pages[page].twin;
	return twin != NO_PAGE && kv->pages[twin].format == format ? twin : NO_PAGE;
}

int rv_kv_page_format(const rv_kv_pages *kv, rv_kv_page page) {
	return kv->pages[page].format;
}

void rv_kv_page_release(rv_kv_pages *kv, rv_kv_page page) {
	page_entry *e = &kv->pages[page];
	kv->n_shared -= e->refs-- == 2;
	kv->n_references--;
	if (e->refs)
		return;
	forget_twins(kv, page);
	const page_format *f = &kv->formats[e->format];
	kv->n_pages--;
	kv->used_bytes -= page_bytes(f);
	give_blocks(kv, page, f->n_blocks);
	give_entry(kv, page);
}

int32_t rv_kv_page_refs(const rv_kv_pages *kv, rv_kv_page page) {
	return kv->pages[page].refs;
}

void rv_kv_page_swap(rv_kv_pages *kv, rv_kv_page a, rv_kv_page b) {
	rv_kv_block *x = blocks_of(kv, a), *y = blocks_of(kv, b);
	for (int64_t i = 0; i < kv->max_blocks; i++) {
		rv_kv_block block = x[i];
		x[i] = y[i];
		y[i] = block;
	}
	int32_t format = kv->pages[a].format;
	kv->pages[a].format = kv->pages[b].format;
	kv->pages[b].format = format;
	forget_twins(kv, a);
	forget_twins(kv, b);
}

rv_kv_lane rv_kv_page_lane(const rv_kv_pages *kv, rv_kv_page page, int64_t lane) {
	const lane_place *p = &kv->formats[kv->pages[page].format].lanes[lane];
	char *data = blocks_of(kv, page)[p->block].data;
	return (rv_kv_lane){data + p->at, data + p->values_at, p->stride, p->type};
}

int64_t rv_kv_pages_page_tokens(const rv_kv_pages *kv) {
	return kv->options.page_tokens;
}
int64_t rv_kv_pages_n_lanes(const rv_kv_pages *kv) {
	return kv->n_lanes;
}
size_t rv_kv_pages_page_bytes(const rv_kv_pages *kv, int format) {
	return page_bytes(&kv->formats[format]);
}
size_t rv_kv_pages_layer_bytes(const rv_kv_pages *kv, int format, int64_t layer) {
	size_t keys, values;
	lane_sizes(kv->formats[format].lanes[layer * kv->n_heads].type, &kv->options, &keys, &values);
	return (size_t)kv->n_heads * (keys + values);
}
rv_pool *rv_kv_pages_pool(const rv_kv_pages *kv) {
	return kv->pool;
}
rv_status rv_kv_pages_add_reclaim(rv_kv_pages *kv, rv_kv_reclaim_fn *reclaim, void *user) {
	if (kv->n_hooks == RV_KV_RECLAIM_HOOKS)
		return rv_fail(RV_ERR_LIMIT, "KV pages: more than %d reclaim hooks",
		               RV_KV_RECLAIM_HOOKS);
	kv->hooks[kv->n_hooks].fn = reclaim;
	kv->hooks[kv->n_hooks++].user = user;
	return RV_OK;
}
void rv_kv_pages_remove_reclaim(rv_kv_pages *kv, rv_kv_reclaim_fn *reclaim, void *user) {
	for (int i = 0; i < kv->n_hooks; i++)
		if (kv->hooks[i].fn == reclaim && kv->hooks[i].user == user) {
			memmove(&kv->hooks[i], &kv->hooks[i + 1],
			        (size_t)(--kv->n_hooks - i) * sizeof kv->hooks[0]);
			return;
		}
}

/* ---- sequences ---- */

static rv_kv_page *table_of(const rv_kv_pages *kv, int32_t seq) {
	return kv->table + (int64_t)seq * kv->table_room;
}

static int64_t pages_for(const rv_kv_pages *kv, int64_t n) {
	return (n + kv->mask) >> kv->shift;
}

/* The page that position `from` is in has rows of this sequence before it, and others' references or
 * another format than rows are appended in. */
static int must_copy(const rv_kv_pages *kv, int32_t seq, int64_t from) {
	if (!(from & kv->mask))
		return 0;
	const page_entry *e = &kv->pages[table_of(kv, seq)[from >> kv->shift]];
	return e->refs > 1 || e->format != (int)kv->options.type;
}

int64_t rv_kv_seq_needs(const rv_kv_pages *kv, int32_t seq, int64_t from, int64_t to) {
	return to <= from ? 0 : pages_for(kv, to) - pages_for(kv, from) + must_copy(kv, seq, from);
}

rv_status rv_kv_seq_reserve(rv_kv_pages *kv, int32_t seq, int64_t from, int64_t to) {
	rv_kv_page *table = table_of(kv, seq);
	if (to <= from)
		return RV_OK;
	honour_wish(kv);
	rv_kv_seq_truncate(kv, seq, from);
	if (must_copy(kv, seq, from)) {
		rv_kv_page *at = &table[from >> kv->shift], copy;
		RV_TRY(rv_kv_page_create(kv, (int)kv->options.type, &copy));
		rv_kv_page_copy_rows(kv, kv->options.hp->head_dim, from & kv->mask, *at, copy);
		rv_kv_page_release(kv, *at);
		*at = copy;
		kv->n_copies++;
	}
	for (int64_t n = pages_for(kv, to); kv->tables[seq].n < n;) {
		RV_TRY(rv_kv_page_create(kv, (int)kv->options.type, &table[kv->tables[seq].n]));
		kv->tables[seq].n++;
	}
	return RV_OK;
}

void rv_kv_seq_truncate(rv_kv_pages *kv, int32_t seq, int64_t n) {
	rv_kv_page *table = table_of(kv, seq);
	for (int64_t keep = pages_for(kv, n); kv->tables[seq].n > keep;)
		rv_kv_page_release(kv, table[--kv->tables[seq].n]);
}

void rv_kv_seq_attach(rv_kv_pages *kv, int32_t seq, const rv_kv_page *pages, int64_t n) {
	rv_kv_page *table = table_of(kv, seq);
	for (int64_t i = 0; i < n; i++) {
		rv_kv_page_retain(kv, pages[i]);
		table[i] = pages[i];
	}
	kv->tables[seq].n = n;
}

void rv_kv_seq_fork(rv_kv_pages *kv, int32_t from, int32_t to, int64_t n) {
	if (from == to) {
		rv_kv_seq_truncate(kv, to, n);
		return;
	}
	rv_kv_seq_truncate(kv, to, 0);
	rv_kv_seq_attach(kv, to, table_of(kv, from), pages_for(kv, n));
}

void rv_kv_seq_replace(rv_kv_pages *kv, int32_t seq, int64_t i, rv_kv_page page) {
	table_of(kv, seq)[i] = page;
}

int64_t rv_kv_seq_pages(const rv_kv_pages *kv, int32_t seq, const rv_kv_page **out) {
	*out = table_of(kv, seq);
	return kv->tables[seq].n;
}

/* ---- the view ---- */

static int64_t segments(const void *cache, const rv_row *row, int64_t layer, int64_t head, int64_t n,
                        rv_segment *out, int64_t cap) {
	const rv_kv_pages *kv = cache;
	const rv_kv_page *table = table_of(kv, row->seq);
	int64_t lane = layer * kv->n_heads + head, count = pages_for(kv, n);
	if (count > cap)
		return 0;
	for (int64_t i = 0; i < count; i++) {
		rv_kv_lane l = rv_kv_page_lane(kv, table[i], lane);
		int64_t left = n - (i << kv->shift);
		out[i] = (rv_segment){
		        l.keys,        l.values,
		        l.stride,      left < kv->options.page_tokens ? left : kv->options.page_tokens,
		        l.type,        kv->codings ? &kv->codings[layer] : NULL,
		        i << kv->shift};
	}
	return count;
}

static void slot(const void *cache, int32_t seq, int64_t layer, int64_t head, int64_t position,
                 void **key, void **value) {
	const rv_kv_pages *kv = cache;
	rv_kv_lane l = rv_kv_page_lane(kv, table_of(kv, seq)[position >> kv->shift],
	                               layer * kv->n_heads + head);
	size_t at = (size_t)(position & kv->mask) * l.stride;
	*key = l.keys + at;
	*value = l.values + at;
}

rv_kv_view rv_kv_pages_view(const rv_kv_pages *kv) {
	return (rv_kv_view){.segments = segments,
	                    .slot = slot,
	                    .cache = kv,
	                    .max_segments = kv->table_room,
	                    .type = kv->options.type};
}

/* ---- what it holds ---- */

void rv_kv_pages_count(const rv_kv_pages *kv, rv_kv_pages_counts *out) {
	const page_format *f = &kv->formats[kv->options.type];
	rv_pool_stats pool;
	rv_pool_get_stats(kv->pool, &pool);
	int64_t free_blocks = (int64_t)((pool.budget_bytes - pool.used_bytes) / RV_POOL_PAGE_BYTES) *
	                              f->slabs.per_slab +
	                      f->slabs.n_slabs * f->slabs.per_slab - f->slabs.n_used;
	*out = (rv_kv_pages_counts){.n_pages = kv->n_pages,
	                            .n_shared = kv->n_shared,
	                            .n_references = kv->n_references,
	                            .n_free = free_blocks / f->n_blocks,
	                            .n_copies = kv->n_copies,
	                            .n_reclaimed = kv->n_reclaimed,
	                            .page_bytes = page_bytes(f),
	                            .used_bytes = kv->used_bytes};
	for (int t = 0; t < kv->n_formats; t++)
		out->allocated_bytes += (size_t)kv->formats[t].slabs.n_slabs * RV_POOL_PAGE_BYTES;
}

static rv_status count_tables(const rv_kv_pages *kv, int32_t *seen) {
	for (int32_t s = 0; s < kv->options.n_seqs; s++) {
		if (kv->tables[s].n < 0 || kv->tables[s].n > kv->table_room)
			return rv_fail(RV_ERR_INVALID, "sequence %d has %lld pages", s,
			               (long long)kv->tables[s].n);
		for (int64_t i = 0; i < kv->tables[s].n; i++) {
			rv_kv_page page = table_of(kv, s)[i];
			if (page < 0 || page >= kv->n_touched || kv->pages[page].refs < 1)
				return rv_fail(RV_ERR_INVALID,
				               "sequence %d holds page %d, which is free", s, page);
			seen[page]++;
		}
	}
	return RV_OK;
}

static rv_status check_pages(const rv_kv_pages *kv, const int32_t *seen, int64_t others) {
	int64_t n = 0, shared = 0, references = 0, outside = 0, used[RV_KV_PAGE_FORMATS] = {0};
	for (int64_t i = 0; i < kv->n_touched; i++) {
		const page_entry *e = &kv->pages[i];
		if (seen[i] > e->refs)
			return rv_fail(RV_ERR_INVALID,
			               "page %lld has %d references, but %d sequences hold it",
			               (long long)i, e->refs, seen[i]);
		n += e->refs > 0;
		shared += e->refs > 1;
		references += e->refs;
		outside += e->refs - seen[i];
		if (e->refs > 0)
			used[e->format] += kv->formats[e->format].n_blocks;
	}
	if (n != kv->n_pages || shared != kv->n_shared || references != kv->n_references)
		return rv_fail(RV_ERR_INVALID,
		               "pages, shared, references: %lld %lld %lld, counted %lld %lld %lld",
		               (long long)kv->n_pages, (long long)kv->n_shared,
		               (long long)kv->n_references, (long long)n, (long long)shared,
		               (long long)references);
	if (others >= 0 && outside != others)
		return rv_fail(RV_ERR_INVALID, "%lld references outside sequences, expected %lld",
		               (long long)outside, (long long)others);
	for (int t = 0; t < kv->n_formats; t++)
		if (used[t] != kv->formats[t].slabs.n_used)
			return rv_fail(RV_ERR_INVALID, "type %d: %lld blocks in use, pages have %lld",
			               t, (long long)kv->formats[t].slabs.n_used, (long long)used[t]);
	return RV_OK;
}

rv_status rv_kv_pages_verify(const rv_kv_pages *kv, int64_t others) {
	int32_t *seen;
	RV_TRY(RV_ALLOC(&seen, kv->n_touched + 1, "page check"));
	rv_status st = count_tables(kv, seen);
	if (st == RV_OK)
		st = check_pages(kv, seen, others);
	rv_free(seen);
	return st;
}
