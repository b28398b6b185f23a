#include "engine/kv_slabs.h"

#include "base/mem.h"

#include <string.h>

#define NONE UINT32_MAX
/* A free block holds the index of the next free one in its first bytes. */
#define MIN_BLOCK sizeof(uint32_t)

typedef struct rv_kv_slab {
	rv_pool_page page;
	uint32_t n_used, n_touched; /* blocks beyond n_touched were never handed out */
	uint32_t free;              /* block */
	uint32_t prev, next;        /* of the partial list, or of the free entries */
} rv_kv_slab;

void rv_kv_slabs_init(rv_kv_slabs *s, rv_pool_owner *owner, size_t block_bytes) {
	if (block_bytes < MIN_BLOCK)
		block_bytes = MIN_BLOCK;
	*s = (rv_kv_slabs){.owner = owner,
	                   .block_bytes = block_bytes,
	                   .per_slab = (uint32_t)(RV_POOL_PAGE_BYTES / block_bytes),
	                   .free_entries = NONE,
	                   .partial = NONE};
}

void rv_kv_slabs_deinit(rv_kv_slabs *s) {
	for (uint32_t i = 0; i < s->room; i++)
		if (s->slabs[i].page.data)
			rv_pool_release(s->owner, s->slabs[i].page);
	rv_free(s->slabs);
	*s = (rv_kv_slabs){0};
}

rv_status rv_kv_slabs_reserve(rv_kv_slabs *s, uint32_t n) {
	if (n <= s->room)
		return RV_OK;
	RV_TRY(RV_GROW(&s->slabs, s->room, n, "KV slabs"));
	for (uint32_t i = n; i-- > s->room;) {
		s->slabs[i].next = s->free_entries;
		s->free_entries = i;
	}
	s->room = n;
	return RV_OK;
}

static void unlink_partial(rv_kv_slabs *s, uint32_t i) {
	rv_kv_slab *slab = &s->slabs[i];
	*(slab->prev == NONE ? &s->partial : &s->slabs[slab->prev].next) = slab->next;
	if (slab->next != NONE)
		s->slabs[slab->next].prev = slab->prev;
}

static void link_partial(rv_kv_slabs *s, uint32_t i) {
	s->slabs[i].prev = NONE;
	s->slabs[i].next = s->partial;
	if (s->partial != NONE)
		s->slabs[s->partial].prev = i;
	s->partial = i;
}

static rv_status add_slab(rv_kv_slabs *s) {
	rv_pool_page page;
	if (s->free_entries == NONE)
		RV_TRY(rv_kv_slabs_reserve(s, s->room ? 2 * s->room : 8));
	RV_TRY(rv_pool_acquire(s->owner, NULL, &page));
	/* Asking for memory may have made others give some back: what is partial now serves as well,
	 * and the new slab comes after it. */
	uint32_t i = s->free_entries;
	s->free_entries = s->slabs[i].next;
	s->slabs[i] = (rv_kv_slab){.page = page, .free = NONE};
	s->n_slabs++;
	link_partial(s, i);
	return RV_OK;
}

rv_status rv_kv_block_alloc(rv_kv_slabs *s, rv_kv_block *out) {
	if (s->partial == NONE) {
		rv_status st = add_slab(s);
		if (s->partial == NONE) /* else blocks have been given back meanwhile */
			return st;
	}
	uint32_t i = s->partial;
	rv_kv_slab *slab = &s->slabs[i];
	uint32_t block = slab->free;
	if (block == NONE)
		block = slab->n_touched++;
	else
		memcpy(&slab->free, (char *)slab->page.data + block * s->block_bytes,
		       sizeof slab->free);
	slab->n_used++;
	s->n_used++;
	if (slab->n_used == s->per_slab)
		unlink_partial(s, i);
	*out = (rv_kv_block){(char *)slab->page.data + block * s->block_bytes, i, block};
	return RV_OK;
}

void rv_kv_block_free(rv_kv_slabs *s, rv_kv_block block) {
	rv_kv_slab *slab = &s->slabs[block.slab];
	if (slab->n_used == s->per_slab)
		link_partial(s, block.slab);
	memcpy(block.data, &slab->free, sizeof slab->free);
	slab->free = block.index;
	slab->n_used--;
	s->n_used--;
	if (slab->n_used)
		return;
	unlink_partial(s, block.slab);
	rv_pool_release(s->owner, slab->page);
	*slab = (rv_kv_slab){.next = s->free_entries};
	s->free_entries = block.slab;
	s->n_slabs--;
}

int64_t rv_kv_slabs_surplus(const rv_kv_slabs *s) {
	return s->n_slabs - (s->n_used + s->per_slab - 1) / (int64_t)s->per_slab;
}

/* Those that must stay come first, then the fuller ones. */
static uint32_t rank(const rv_kv_slabs *s, const uint32_t *movable, uint32_t i) {
	return movable[i] == s->slabs[i].n_used ? s->slabs[i].n_used : UINT32_MAX;
}

uint32_t rv_kv_slabs_vacate(rv_kv_slabs *s, const uint32_t *movable, uint32_t *order, uint8_t *leave) {
	uint32_t n = 0, n_used = 0, keep = 0;
	memset(leave, 0, s->room);
	for (uint32_t i = s->partial; i != NONE; i = s->slabs[i].next) {
		uint32_t at = n++;
		for (; at > 0 && rank(s, movable, order[at - 1]) < rank(s, movable, i); at--)
			order[at] = order[at - 1];
		order[at] = i;
		n_used += s->slabs[i].n_used;
		keep += rank(s, movable, i) == UINT32_MAX;
	}
	uint32_t least = (n_used + s->per_slab - 1) / s->per_slab;
	keep = keep > least ? keep : least;
	s->partial = NONE;
	for (uint32_t at = n; at-- > 0;) {
		link_partial(s, order[at]);
		leave[order[at]] = at >= keep;
	}
	return n - keep;
}
