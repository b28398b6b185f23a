/* One memory budget shared by everything that grows while serving: KV pages, adapters, routers.
 *
 * Memory is handed out in 2 MiB pages. A page has an owner; owners register an evict callback. When
 * use passes `high` (85 %) of the budget the pool asks owners, least recently used page first, to
 * give pages back until use is at or below `low` (70 %); use never passes the budget. An owner may
 * refuse a page (pinned). Pages belong to a namespace ("tenant/session") with an optional quota.
 * Thread-safe. Callbacks run without the pool's lock held, on the thread that asked for memory, which
 * may be in the middle of rv_pool_acquire: an owner must not hold a lock there that its callback takes.
 * The memory of released pages is kept for later ones, so that a warm pool makes no heap calls.
 */
#ifndef RV_BASE_POOL_H
#define RV_BASE_POOL_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#define RV_POOL_PAGE_BYTES ((size_t)2 << 20)

typedef struct rv_pool rv_pool;
typedef struct rv_pool_owner rv_pool_owner;
typedef struct rv_pool_page {
	void *data;  /* RV_POOL_PAGE_BYTES, aligned to as much; contents undefined when acquired */
	uint32_t id; /* stable while held */
} rv_pool_page;

/* Called to give `page` back: persist what must survive, call rv_pool_release(page), return RV_OK;
 * any other status means "not now" and the pool tries the next page. Another thread may have released
 * `page` just before: the callback looks whether it still holds it. */
typedef rv_status rv_pool_evict_fn(void *user, rv_pool_page page);

typedef struct rv_pool_stats {
	size_t budget_bytes, used_bytes, peak_bytes;
	uint64_t acquired, released, evicted, refused; /* pages since creation */
} rv_pool_stats;

/* Budget in bytes, rounded down to whole pages (at least one). low/high are fractions in (0, 1]. */
rv_status rv_pool_create(rv_pool **out, size_t budget_bytes, double low, double high);
void rv_pool_destroy(rv_pool *pool); /* accepts NULL; every page must have been released */

rv_status rv_pool_owner_add(rv_pool *pool, const char *name, rv_pool_evict_fn *evict, void *user,
                            rv_pool_owner **out);
/* Releases the owner's remaining pages and waits for its callbacks under way; not to be called from
 * one. Accepts NULL. */
void rv_pool_owner_remove(rv_pool_owner *owner);

/* Limits a namespace to `bytes`, rounded down to whole pages (0: no limit). */
rv_status rv_pool_quota(rv_pool *pool, const char *space, size_t bytes);

/* One page for `space` (NULL: none). At the quota the namespace's own pages are evicted first.
 * RV_ERR_LIMIT when budget or quota is exhausted and nothing could be evicted; the message says which.
 */
rv_status rv_pool_acquire(rv_pool_owner *owner, const char *space, rv_pool_page *out);
void rv_pool_release(rv_pool_owner *owner, rv_pool_page page);
void rv_pool_touch(rv_pool_owner *owner, rv_pool_page page); /* mark as most recently used */
void rv_pool_get_stats(const rv_pool *pool, rv_pool_stats *out);

#endif
