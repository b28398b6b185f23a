/* Block tables: which pages a sequence consists of, and how attention sees them. */
#include "engine/kv_convert.h"
#include "engine/kv_pages_internal.h"

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
	rv_kv_pages_honour_wish(kv);
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
