/* Live blocks moved together, so that memory goes back to the pool: pages of one format cannot use what
 * stands free between those of another. */
#include "base/mem.h"
#include "engine/kv_pages_internal.h"

#include <string.h>

/* Blocks in each slab that belong to a page; those of a page that is just being made do not yet. */
static void count_movable(const rv_kv_pages *kv, int format, uint32_t *movable) {
	for (rv_kv_page page = 0; page < kv->n_touched; page++)
		if (kv->pages[page].refs > 0 && kv->pages[page].format == format)
			for (int64_t i = 0; i < kv->formats[format].n_blocks; i++)
				movable[blocks_of(kv, page)[i].slab]++;
}

static rv_status move_block(rv_kv_slabs *slabs, rv_kv_block *block) {
	rv_kv_block to;
	RV_TRY(rv_kv_block_alloc(slabs, &to));
	memcpy(to.data, block->data, slabs->block_bytes);
	rv_kv_block_free(slabs, *block);
	*block = to;
	return RV_OK;
}

static rv_status compact_format(rv_kv_pages *kv, int format) {
	page_format *f = &kv->formats[format];
	uint32_t *movable, *order;
	uint8_t *leave;
	RV_TRY(RV_ALLOC(&movable, 3 * f->slabs.room, "KV compaction"));
	order = movable + f->slabs.room;
	leave = (uint8_t *)(order + f->slabs.room);
	count_movable(kv, format, movable);
	rv_status st = RV_OK;
	if (rv_kv_slabs_vacate(&f->slabs, movable, order, leave) > 0)
		for (rv_kv_page page = 0; page < kv->n_touched && st == RV_OK; page++)
			for (int64_t i = 0; i < f->n_blocks && st == RV_OK; i++)
				if (kv->pages[page].refs > 0 && kv->pages[page].format == format &&
				    leave[blocks_of(kv, page)[i].slab]) {
					st = move_block(&f->slabs, &blocks_of(kv, page)[i]);
					kv->n_moved++;
				}
	rv_free(movable);
	return st;
}

int64_t rv_kv_pages_compact(rv_kv_pages *kv) {
	int64_t n = 0;
	for (int t = 0; t < kv->n_formats; t++) {
		int64_t before = kv->formats[t].slabs.n_slabs;
		if (rv_kv_slabs_surplus(&kv->formats[t].slabs) > 0)
			(void)compact_format(kv, t); /* no memory for its tables: nothing moves */
		n += before - kv->formats[t].slabs.n_slabs;
	}
	return n;
}
