#include "base/pool.h"

#include "base/mem.h"
#include "base/vm.h"

#include <pthread.h>
#include <string.h>

#define NONE UINT32_MAX
#define SPACE_BUCKETS 256

/* A namespace lives while it holds pages, has a quota or somebody asks for a page of it. */
typedef struct pool_space {
	struct pool_space *next; /* in its bucket */
	char *name;
	size_t pages, quota; /* quota in pages; meaningful with has_quota */
	int has_quota, asking;
} pool_space;

/* Held slots form a list in the order of last use, oldest first: `used_at` rises along it. Free slots
 * are chained through `next`. A slot keeps its memory when its page is released, so that the next
 * acquire needs no heap call; there are never more slots than the budget has pages. */
typedef struct slot {
	void *data;
	rv_pool_owner *owner; /* NULL: free */
	pool_space *space;
	uint64_t used_at;
	uint64_t serial; /* of the acquire: tells one holding of the slot from the next */
	uint32_t prev, next;
	int evicting;      /* its owner is being asked for it, */
	uint64_t ticket;   /* as the ticket-th question of the pool, */
	pthread_t evictor; /* by this thread */
} slot;

struct rv_pool_owner {
	rv_pool *pool;
	rv_pool_owner *next;
	char *name;
	rv_pool_evict_fn *evict;
	void *user;
	int in_callback; /* calls of `evict` under way */
};

struct rv_pool {
	pthread_mutex_t lock;
	pthread_cond_t callback_done;
	slot *slots;
	size_t n_slots, n_touched;    /* slots beyond n_touched were never used */
	size_t used, peak, low, high; /* pages */
	uint32_t free, oldest, newest;
	uint64_t clock, questions;
	rv_pool_owner *owners;
	pool_space *spaces[SPACE_BUCKETS];
	rv_pool_stats counts;
};

static void list_remove(rv_pool *pool, slot *s) {
	*(s->prev == NONE ? &pool->oldest : &pool->slots[s->prev].next) = s->next;
	*(s->next == NONE ? &pool->newest : &pool->slots[s->next].prev) = s->prev;
}

static void list_append(rv_pool *pool, slot *s) {
	uint32_t id = (uint32_t)(s - pool->slots);
	s->prev = pool->newest;
	s->next = NONE;
	*(s->prev == NONE ? &pool->oldest : &pool->slots[s->prev].next) = id;
	pool->newest = id;
	s->used_at = ++pool->clock;
}

static pool_space **space_link(rv_pool *pool, const char *name) {
	uint32_t hash = 2166136261u; /* FNV-1a */
	for (const char *p = name; *p; p++)
		hash = (hash ^ (unsigned char)*p) * 16777619u;
	pool_space **link = &pool->spaces[hash % SPACE_BUCKETS];
	while (*link && strcmp((*link)->name, name))
		link = &(*link)->next;
	return link;
}

static rv_status space_get(rv_pool *pool, const char *name, pool_space **out) {
	pool_space **link = space_link(pool, name), *s = *link;
	if (!s) {
		RV_TRY(RV_ALLOC(&s, 1, "memory namespace"));
		rv_status status = rv_strdup(&s->name, name);
		if (status != RV_OK) {
			rv_free(s);
			return status;
		}
		*link = s;
	}
	*out = s;
	return RV_OK;
}

static void space_drop_unused(rv_pool *pool, pool_space *s) {
	if (s->pages || s->has_quota || s->asking)
		return;
	*space_link(pool, s->name) = s->next;
	rv_free(s->name);
	rv_free(s);
}

/* x pages of n, where a fraction like 0.7 is meant exactly. */
static size_t pages_of(double fraction, size_t n) {
	size_t pages = (size_t)(fraction * (double)n + 1e-6);
	return pages < n ? pages : n;
}

rv_status rv_pool_create(rv_pool **out, size_t budget_bytes, double low, double high) {
	rv_pool *pool;
	*out = NULL;
	if (!(low > 0 && low <= high && high <= 1))
		return rv_fail(RV_ERR_INVALID,
		               "memory pool: low %g and high %g are not 0 < low <= high <= 1", low,
		               high);
	size_t n = budget_bytes / RV_POOL_PAGE_BYTES;
	n = n < 1 ? 1 : n >= NONE ? NONE - 1 : n;
	RV_TRY(RV_ALLOC(&pool, 1, "memory pool"));
	rv_status status = RV_ALLOC(&pool->slots, n, "memory pool");
	if (status == RV_OK && pthread_mutex_init(&pool->lock, NULL) != 0)
		status = rv_fail(RV_ERR_NO_MEMORY, "memory pool: cannot make its lock");
	if (status == RV_OK && pthread_cond_init(&pool->callback_done, NULL) != 0) {
		pthread_mutex_destroy(&pool->lock);
		status = rv_fail(RV_ERR_NO_MEMORY, "memory pool: cannot make its lock");
	}
	if (status != RV_OK) {
		rv_free(pool->slots);
		rv_free(pool);
		return status;
	}
	pool->n_slots = n;
	pool->low = pages_of(low, n);
	pool->high = pages_of(high, n);
	pool->free = pool->oldest = pool->newest = NONE;
	*out = pool;
	return RV_OK;
}

static void owner_free(rv_pool_owner *owner) {
	rv_free(owner->name);
	rv_free(owner);
}

void rv_pool_destroy(rv_pool *pool) {
	if (!pool)
		return;
	for (size_t i = 0; i < pool->n_touched; i++)
		rv_vm_free(pool->slots[i].data, RV_POOL_PAGE_BYTES);
	for (int i = 0; i < SPACE_BUCKETS; i++) {
		for (pool_space *s = pool->spaces[i], *next; s; s = next) {
			next = s->next;
			rv_free(s->name);
			rv_free(s);
		}
	}
	for (rv_pool_owner *o = pool->owners, *next; o; o = next) {
		next = o->next;
		owner_free(o);
	}
	pthread_cond_destroy(&pool->callback_done);
	pthread_mutex_destroy(&pool->lock);
	rv_free(pool->slots);
	rv_free(pool);
}

rv_status rv_pool_owner_add(rv_pool *pool, const char *name, rv_pool_evict_fn *evict, void *user,
                            rv_pool_owner **out) {
	rv_pool_owner *owner;
	*out = NULL;
	RV_TRY(RV_ALLOC(&owner, 1, "pool owner"));
	rv_status status = rv_strdup(&owner->name, name);
	if (status != RV_OK) {
		rv_free(owner);
		return status;
	}
	owner->pool = pool;
	owner->evict = evict;
	owner->user = user;
	pthread_mutex_lock(&pool->lock);
	owner->next = pool->owners;
	pool->owners = owner;
	pthread_mutex_unlock(&pool->lock);
	*out = owner;
	return RV_OK;
}

/* The lock is held. */
static void give_back(rv_pool *pool, slot *s) {
	pool_space *space = s->space;
	list_remove(pool, s);
	s->owner = NULL;
	s->space = NULL;
	s->next = pool->free;
	pool->free = (uint32_t)(s - pool->slots);
	pool->used--;
	pool->counts.released++;
	if (space) {
		space->pages--;
		space_drop_unused(pool, space);
	}
}

void rv_pool_owner_remove(rv_pool_owner *owner) {
	if (!owner)
		return;
	rv_pool *pool = owner->pool;
	pthread_mutex_lock(&pool->lock);
	owner->evict = NULL;
	while (owner->in_callback)
		pthread_cond_wait(&pool->callback_done, &pool->lock);
	for (size_t i = 0; i < pool->n_touched; i++)
		if (pool->slots[i].owner == owner)
			give_back(pool, &pool->slots[i]);
	rv_pool_owner **link = &pool->owners;
	while (*link != owner)
		link = &(*link)->next;
	*link = owner->next;
	pthread_mutex_unlock(&pool->lock);
	owner_free(owner);
}

rv_status rv_pool_quota(rv_pool *pool, const char *name, size_t bytes) {
	pool_space *s;
	pthread_mutex_lock(&pool->lock);
	rv_status status = space_get(pool, name, &s);
	if (status == RV_OK) {
		s->has_quota = bytes != 0;
		s->quota = bytes / RV_POOL_PAGE_BYTES;
		space_drop_unused(pool, s);
	}
	pthread_mutex_unlock(&pool->lock);
	return status;
}

/* One walk over the held pages from the oldest. The lock is given up for each callback, so the place is
 * kept as a point in time: pages used after `end`, the start of the walk, are left alone, which also
 * bounds it. */
typedef struct walk {
	const pool_space *only; /* NULL: all pages */
	uint64_t last, end;
	slot *at; /* the slot of `last`; NULL: start over from the oldest */
	int busy; /* met a page whose owner another thread is asking */
} walk;

static slot *walk_next(rv_pool *pool, walk *w) {
	uint32_t id = pool->oldest;
	if (w->at && w->at->owner && w->at->used_at == w->last)
		id = w->at->next;
	for (; id != NONE; id = pool->slots[id].next) {
		slot *s = &pool->slots[id];
		if (s->used_at <= w->last)
			continue;
		if (s->used_at > w->end)
			return NULL;
		if (w->only && s->space != w->only)
			continue;
		if (s->evicting) {
			w->busy |= !pthread_equal(s->evictor, pthread_self());
			continue;
		}
		if (s->owner->evict) {
			w->last = s->used_at;
			w->at = s;
			return s;
		}
	}
	return NULL;
}

/* Asks the owner of `s` to give it back; the lock is released meanwhile. */
static void ask_owner(rv_pool *pool, slot *s) {
	rv_pool_owner *owner = s->owner;
	rv_pool_evict_fn *evict = owner->evict;
	rv_pool_page page = {.data = s->data, .id = (uint32_t)(s - pool->slots)};
	uint64_t serial = s->serial;
	s->evicting = 1;
	s->evictor = pthread_self();
	s->ticket = ++pool->questions;
	owner->in_callback++;
	pthread_mutex_unlock(&pool->lock);
	rv_status answer = evict(owner->user, page);
	pthread_mutex_lock(&pool->lock);
	if (s->owner && s->serial == serial)
		s->evicting = 0;
	else if (answer == RV_OK)
		pool->counts.evicted++;
	owner->in_callback--;
	pthread_cond_broadcast(&pool->callback_done);
}

/* Evicts until *count <= target or nothing more can be had. Answers whether other threads have
 * evictions under way that may still help. */
static int evict_until(rv_pool *pool, const size_t *count, size_t target, const pool_space *only) {
	walk w = {.only = only, .end = pool->clock};
	slot *s;
	while (*count > target && (s = walk_next(pool, &w)))
		ask_owner(pool, s);
	return w.busy;
}

static int over_quota(const pool_space *space) {
	return space && space->has_quota && space->pages >= space->quota;
}

static int has_room(const rv_pool *pool, const pool_space *space) {
	return !over_quota(space) && pool->used < pool->n_slots;
}

/* Waits for the questions other threads have put to owners so far, or until there is room. A thread
 * that is itself inside a callback does not wait: the others may be waiting for it. */
static void wait_for_others(rv_pool *pool, const pool_space *space) {
	uint64_t last = pool->questions;
	for (int waited = 1; waited && !has_room(pool, space);) {
		waited = 0;
		for (uint32_t id = pool->oldest; id != NONE; id = pool->slots[id].next) {
			const slot *s = &pool->slots[id];
			if (s->evicting && pthread_equal(s->evictor, pthread_self()))
				return;
			waited |= s->evicting && s->ticket <= last;
		}
		if (waited)
			pthread_cond_wait(&pool->callback_done, &pool->lock);
	}
}

static rv_status refuse(const rv_pool *pool, const pool_space *space) {
	if (over_quota(space))
		return rv_fail(RV_ERR_LIMIT,
		               "memory pool: the quota of '%s' is used up (%zu of %zu pages) and "
		               "nothing can be "
		               "evicted",
		               space->name, space->pages, space->quota);
	return rv_fail(RV_ERR_LIMIT,
	               "memory pool: the budget of %zu bytes is used up and nothing can be evicted",
	               pool->n_slots * RV_POOL_PAGE_BYTES);
}

/* Makes room for one page of `space`; on RV_OK there is some, with the lock still held. */
static rv_status make_room(rv_pool *pool, const pool_space *space) {
	for (;;) {
		uint64_t released = pool->counts.released;
		int busy = 0;
		if (over_quota(space) && space->quota)
			busy = evict_until(pool, &space->pages, space->quota - 1, space);
		if (!over_quota(space) && pool->used >= pool->high)
			busy |= evict_until(pool, &pool->used, pool->low ? pool->low - 1 : 0, NULL);
		/* The lock was open meanwhile, so both limits count again. */
		if (has_room(pool, space))
			return RV_OK;
		if (busy)
			wait_for_others(pool, space);
		if (has_room(pool, space))
			return RV_OK;
		/* Once more only if pages came free and others were faster. */
		if (pool->counts.released == released)
			return refuse(pool, space);
	}
}

/* A free slot with memory. There is one: fewer pages are held than slots exist. */
static rv_status take_slot(rv_pool *pool, slot **out) {
	int fresh = pool->free == NONE;
	slot *s = &pool->slots[fresh ? pool->n_touched : pool->free];
	if (!s->data)
		RV_TRY(rv_vm_alloc_aligned(&s->data, RV_POOL_PAGE_BYTES, RV_POOL_PAGE_BYTES,
		                           "memory pool page"));
	if (fresh)
		pool->n_touched++;
	else
		pool->free = s->next;
	*out = s;
	return RV_OK;
}

static rv_status acquire(rv_pool_owner *owner, pool_space *space, rv_pool_page *out) {
	rv_pool *pool = owner->pool;
	slot *s;
	RV_TRY(make_room(pool, space));
	RV_TRY(take_slot(pool, &s));
	s->owner = owner;
	s->space = space;
	s->serial = ++pool->counts.acquired;
	s->evicting = 0;
	list_append(pool, s);
	pool->used++;
	if (pool->used > pool->peak)
		pool->peak = pool->used;
	if (space)
		space->pages++;
	*out = (rv_pool_page){.data = s->data, .id = (uint32_t)(s - pool->slots)};
	return RV_OK;
}

rv_status rv_pool_acquire(rv_pool_owner *owner, const char *name, rv_pool_page *out) {
	rv_pool *pool = owner->pool;
	pool_space *space = NULL;
	pthread_mutex_lock(&pool->lock);
	rv_status status = name ? space_get(pool, name, &space) : RV_OK;
	if (status == RV_OK) {
		if (space)
			space->asking++; /* it stays while the lock is open */
		status = acquire(owner, space, out);
		pool->counts.refused += status != RV_OK;
		if (space) {
			space->asking--;
			space_drop_unused(pool, space);
		}
	}
	pthread_mutex_unlock(&pool->lock);
	return status;
}

/* The slot `page` names, when `owner` holds it; the lock is held. */
static slot *held_slot(rv_pool_owner *owner, rv_pool_page page) {
	rv_pool *pool = owner->pool;
	if (page.id >= pool->n_touched)
		return NULL;
	slot *s = &pool->slots[page.id];
	return s->owner == owner && s->data == page.data ? s : NULL;
}

void rv_pool_release(rv_pool_owner *owner, rv_pool_page page) {
	rv_pool *pool = owner->pool;
	pthread_mutex_lock(&pool->lock);
	slot *s = held_slot(owner, page);
	if (s) {
		give_back(pool, s);
		pthread_cond_broadcast(&pool->callback_done);
	}
	pthread_mutex_unlock(&pool->lock);
}

void rv_pool_touch(rv_pool_owner *owner, rv_pool_page page) {
	rv_pool *pool = owner->pool;
	pthread_mutex_lock(&pool->lock);
	slot *s = held_slot(owner, page);
	if (s && s->next != NONE) {
		list_remove(pool, s);
		list_append(pool, s);
	}
	pthread_mutex_unlock(&pool->lock);
}

void rv_pool_get_stats(const rv_pool *pool, rv_pool_stats *out) {
	pthread_mutex_t *lock =
	        (pthread_mutex_t *)(uintptr_t)&pool->lock; /* guards, is not part of, the value */
	pthread_mutex_lock(lock);
	*out = pool->counts;
	out->budget_bytes = pool->n_slots * RV_POOL_PAGE_BYTES;
	out->used_bytes = pool->used * RV_POOL_PAGE_BYTES;
	out->peak_bytes = pool->peak * RV_POOL_PAGE_BYTES;
	pthread_mutex_unlock(lock);
}
