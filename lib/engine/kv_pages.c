#include "engine/kv_pages_internal.h"

#include "base/mem.h"
#include "base/vm.h"

#include <string.h>

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

/* What can be given back without loss, or else what the hooks let go. */
static rv_status make_room(rv_kv_pages *kv) {
	return rv_kv_pages_compact(kv) > 0 ? RV_OK : ask_hooks(kv);
}

/* The pool wants memory back. On the context's own thread the hook may let pages go at once (the slab
 * that was named or others: the pool sees by its own count). Another thread must not touch the tables:
 * its wish is kept for the next call of the context. */
static rv_status evict(void *user, rv_pool_page page) {
	rv_kv_pages *kv = user;
	(void)page;
	if (atomic_load(&kv->asking) && pthread_equal(kv->caller, pthread_self()))
		(void)make_room(kv);
	else
		atomic_store(&kv->wanted, 1);
	return rv_fail(RV_ERR_LIMIT, "KV pages: in use");
}

void rv_kv_pages_honour_wish(rv_kv_pages *kv) {
	if (!atomic_exchange(&kv->wanted, 0))
		return;
	int64_t slabs = 0;
	for (int t = 0; t < kv->n_formats; t++)
		slabs += kv->formats[t].slabs.n_slabs;
	/* until about a seventh of the memory has been given back: 85 % to 70 % */
	for (int64_t want = slabs - slabs / 7, now = slabs; now > want;) {
		if (make_room(kv) != RV_OK)
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
	while ((st = rv_kv_block_alloc(&f->slabs, out)) == RV_ERR_LIMIT && make_room(kv) == RV_OK)
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
