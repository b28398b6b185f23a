/* Memory of KV pages: blocks of one size, carved from the 2 MiB pages of a pool. */
#ifndef RV_ENGINE_KV_SLABS_H
#define RV_ENGINE_KV_SLABS_H

#include "base/pool.h"

/* Blocks of one size. Slabs with free blocks are linked; an empty slab goes back to the pool. */
typedef struct rv_kv_slabs {
	rv_pool_owner *owner;
	size_t block_bytes;
	uint32_t per_slab;                    /* blocks */
	struct rv_kv_slab *slabs;             /* [room], by index */
	uint32_t room, free_entries, partial; /* lists by index; UINT32_MAX: the end */
	int64_t n_slabs, n_used;              /* slabs held, blocks in use */
} rv_kv_slabs;

typedef struct rv_kv_block {
	char *data;
	uint32_t slab, index;
} rv_kv_block;

/* `block_bytes` in (0, RV_POOL_PAGE_BYTES]. Allocates nothing before the first block. */
void rv_kv_slabs_init(rv_kv_slabs *s, rv_pool_owner *owner, size_t block_bytes);
/* Gives every slab back. */
void rv_kv_slabs_deinit(rv_kv_slabs *s);
/* RV_ERR_LIMIT when the pool has no memory left. */
rv_status rv_kv_block_alloc(rv_kv_slabs *s, rv_kv_block *out);
void rv_kv_block_free(rv_kv_slabs *s, rv_kv_block block);
/* Which slabs could be given back if their blocks moved into others that are held already: marks them
 * (leave [room], by index; others 0) and returns how many. The next blocks come from the others,
 * fullest first, until the marked ones are free of blocks. movable [room]: blocks that can move; a slab
 * with others stays. order: scratch [room]. */
uint32_t rv_kv_slabs_vacate(rv_kv_slabs *s, const uint32_t *movable, uint32_t *order, uint8_t *leave);
/* Slabs more than its blocks need. */
int64_t rv_kv_slabs_surplus(const rv_kv_slabs *s);
/* A place for n slabs made in advance, so that nothing is allocated later but memory of the pool. */
rv_status rv_kv_slabs_reserve(rv_kv_slabs *s, uint32_t n);

#endif
