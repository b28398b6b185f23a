/* What a paged cache holds, counted and checked. */
#include "base/mem.h"
#include "engine/kv_pages_internal.h"

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
	                            .n_moved = kv->n_moved,
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
