/* The memory pool against a plain model of what its header says, and under threads. */
#include "base_test.h"

#include "base/mem.h"
#include "base/pool.h"
#include "base/rng.h"

#include <pthread.h>
#include <stdatomic.h>

static _Atomic int allocations, alloc_fails_at;
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size) {
	return ++allocations == alloc_fails_at ? NULL : __real_aligned_alloc(alignment, size);
}

#define PAGE RV_POOL_PAGE_BYTES

static size_t used_pages(const rv_pool *pool) {
	rv_pool_stats s;
	rv_pool_get_stats(pool, &s);
	assert_true(s.used_bytes <= s.budget_bytes && s.peak_bytes <= s.budget_bytes);
	assert_true(s.acquired - s.released == s.used_bytes / PAGE);
	return s.used_bytes / PAGE;
}

/* ---- an owner that remembers what it gave back ---- */

enum { MAX_HELD = 64 };
typedef struct keeper {
	rv_pool_owner *owner;
	rv_pool_page held[MAX_HELD];
	int n;
	int pinned[MAX_HELD]; /* by page id */
	uint32_t evicted[256];
	int n_evicted, asked;
} keeper;

static int find_held(const keeper *k, uint32_t id) {
	for (int i = 0; i < k->n; i++)
		if (k->held[i].id == id)
			return i;
	return -1;
}

static void forget(keeper *k, uint32_t id) {
	int at = find_held(k, id);
	assert_true(at >= 0);
	k->held[at] = k->held[--k->n];
}

static rv_status evict_unless_pinned(void *user, rv_pool_page page) {
	keeper *k = user;
	k->asked++;
	if (find_held(k, page.id) < 0 || k->pinned[page.id])
		return rv_fail(RV_ERR_LIMIT, "pinned");
	forget(k, page.id);
	k->evicted[k->n_evicted++ % 256] = page.id;
	rv_pool_release(k->owner, page);
	return RV_OK;
}

static void add_keeper(rv_pool *pool, keeper *k) {
	memset(k, 0, sizeof *k);
	assert_ok(rv_pool_owner_add(pool, "keeper", evict_unless_pinned, k, &k->owner));
}

static rv_status take(keeper *k, const char *space, rv_pool_page *page) {
	RV_TRY(rv_pool_acquire(k->owner, space, page));
	k->held[k->n++] = *page;
	memset(page->data, (int)page->id + 1, 64);
	memset((char *)page->data + PAGE - 64, (int)page->id + 1, 64);
	return RV_OK;
}

static rv_pool *pool_of(size_t pages, double low, double high) {
	rv_pool *pool;
	assert_ok(rv_pool_create(&pool, pages * PAGE + 12345, low, high));
	return pool;
}

/* ---- single cases ---- */

static void pages_are_aligned_and_apart(void **state) {
	(void)state;
	rv_pool *pool = pool_of(8, 1, 1);
	keeper k;
	rv_pool_page p[8], extra;
	rv_pool_stats s;
	add_keeper(pool, &k);
	for (int i = 0; i < 8; i++) {
		assert_ok(take(&k, NULL, &p[i]));
		assert_int_equal((uintptr_t)p[i].data % 64, 0);
		k.pinned[p[i].id] = 1;
	}
	for (int i = 0; i < 8; i++)
		assert_int_equal(*(unsigned char *)p[i].data, p[i].id + 1);
	assert_fails(rv_pool_acquire(k.owner, NULL, &extra), RV_ERR_LIMIT, "budget of 16777216 bytes");
	rv_pool_get_stats(pool, &s);
	assert_int_equal(s.budget_bytes, 8 * PAGE);
	assert_int_equal(s.used_bytes, 8 * PAGE);
	assert_int_equal(s.refused, 1);
	assert_int_equal(s.evicted, 0);
	/* Released memory serves again, without the heap. */
	rv_pool_release(k.owner, p[3]);
	rv_pool_release(k.owner, p[3]); /* not held any more: no effect */
	assert_int_equal(used_pages(pool), 7);
	allocations = 0;
	assert_ok(rv_pool_acquire(k.owner, NULL, &extra));
	assert_int_equal(allocations, 0);
	rv_pool_owner_remove(k.owner);
	assert_int_equal(used_pages(pool), 0);
	rv_pool_destroy(pool);
	rv_pool_destroy(NULL);
}

static void eviction_has_hysteresis(void **state) {
	(void)state;
	rv_pool *pool = pool_of(20, 0.70, 0.85); /* 14 and 17 pages */
	keeper k;
	rv_pool_page p[20];
	add_keeper(pool, &k);
	for (int i = 0; i < 17; i++)
		assert_ok(take(&k, NULL, &p[i]));
	assert_int_equal(k.n_evicted, 0);
	rv_pool_touch(k.owner, p[0]); /* now the youngest */
	assert_ok(take(&k, NULL, &p[17]));
	assert_int_equal(used_pages(pool), 14);
	assert_int_equal(k.n_evicted, 4);
	for (int i = 0; i < 4; i++)
		assert_int_equal(k.evicted[i], p[i + 1].id);
	for (int i = 14; i < 17; i++)
		assert_ok(take(&k, NULL, &p[i]));
	assert_int_equal(k.n_evicted, 4); /* between the marks nothing is evicted */
	assert_int_equal(used_pages(pool), 17);
	rv_pool_owner_remove(k.owner);
	rv_pool_destroy(pool);
}

static void pinned_pages_are_passed_over(void **state) {
	(void)state;
	rv_pool *pool = pool_of(20, 0.70, 0.85);
	keeper k;
	rv_pool_page p[21];
	add_keeper(pool, &k);
	for (int i = 0; i < 17; i++) {
		assert_ok(take(&k, NULL, &p[i]));
		k.pinned[p[i].id] = i != 5 && i != 9;
	}
	assert_ok(take(&k, NULL, &p[17]));
	k.pinned[p[17].id] = 1;
	assert_int_equal(k.n_evicted, 2);
	assert_int_equal(k.evicted[0], p[5].id);
	assert_int_equal(k.evicted[1], p[9].id);
	assert_int_equal(used_pages(pool), 16);
	for (int i = 16; i < 20; i++) {
		rv_pool_page more;
		assert_ok(take(&k, NULL, &more)); /* above the mark, but within the budget */
		k.pinned[more.id] = 1;
	}
	assert_int_equal(used_pages(pool), 20);
	assert_int_equal(rv_pool_acquire(k.owner, NULL, &p[20]), RV_ERR_LIMIT);
	rv_pool_owner_remove(k.owner);
	rv_pool_destroy(pool);
}

static void quotas_bind_their_namespace(void **state) {
	(void)state;
	rv_pool *pool = pool_of(20, 0.9, 1);
	keeper k, other;
	rv_pool_page p[8];
	add_keeper(pool, &k);
	add_keeper(pool, &other);
	assert_ok(rv_pool_quota(pool, "acme/1", 3 * PAGE + 7));
	assert_ok(take(&other, "acme/2", &p[7]));
	for (int i = 0; i < 3; i++)
		assert_ok(take(&k, "acme/1", &p[i]));
	rv_pool_touch(k.owner, p[0]);
	assert_ok(take(&k, "acme/1", &p[3]));
	assert_int_equal(k.n_evicted, 1); /* its own oldest, nobody else's */
	assert_int_equal(k.evicted[0], p[1].id);
	assert_int_equal(other.n_evicted, 0);
	for (int i = 0; i < MAX_HELD; i++)
		k.pinned[i] = 1;
	assert_fails(take(&k, "acme/1", &p[4]), RV_ERR_LIMIT, "quota of 'acme/1'");
	assert_ok(take(&k, "acme/2", &p[4]));
	assert_ok(take(&k, NULL, &p[5]));
	assert_ok(rv_pool_quota(pool, "acme/1", 0));
	assert_ok(take(&k, "acme/1", &p[6]));
	assert_ok(rv_pool_quota(pool, "acme/3", 100)); /* less than a page */
	assert_fails(take(&k, "acme/3", &p[7]), RV_ERR_LIMIT, "quota of 'acme/3'");
	rv_pool_owner_remove(k.owner);
	rv_pool_owner_remove(other.owner);
	assert_int_equal(used_pages(pool), 0);
	rv_pool_destroy(pool);
}

static void bad_arguments_are_refused(void **state) {
	(void)state;
	static const double marks[][2] = {
	        {0, 0.5}, {0.9, 0.8}, {0.5, 1.5}, {-1, 0.5}, {0.5, 0.0 / 0.0}};
	rv_pool *pool;
	for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
		assert_fails(rv_pool_create(&pool, PAGE, marks[i][0], marks[i][1]), RV_ERR_INVALID,
		             "low");
	assert_null(pool);
	rv_pool_stats s;
	assert_ok(rv_pool_create(&pool, 1, 0.7, 0.85));
	rv_pool_get_stats(pool, &s);
	assert_int_equal(s.budget_bytes, PAGE);
	keeper k;
	rv_pool_page a, b;
	add_keeper(pool, &k);
	assert_ok(take(&k, NULL, &a));
	assert_ok(take(&k, NULL, &b)); /* the only page moves on */
	assert_int_equal(k.n_evicted, 1);
	rv_pool_owner_remove(k.owner);
	rv_pool_owner_remove(NULL);
	rv_pool_destroy(pool);
}

static rv_status use_pool(void) {
	rv_pool *pool = NULL;
	rv_pool_owner *owner = NULL;
	rv_pool_page page;
	RV_TRY(rv_pool_create(&pool, 8 * PAGE, 0.7, 0.85));
	rv_status status = rv_pool_owner_add(pool, "o", NULL, NULL, &owner);
	if (status == RV_OK)
		status = rv_pool_quota(pool, "q", 2 * PAGE);
	for (int i = 0; status == RV_OK && i < 3; i++)
		status = rv_pool_acquire(owner, i ? "space" : "q", &page);
	if (status != RV_OK && owner)
		assert_true(used_pages(pool) < 3);
	rv_pool_owner_remove(owner);
	rv_pool_destroy(pool);
	return status;
}

static void heap_failures(void **state) {
	(void)state;
	int n = 1;
	for (;; n++) {
		allocations = 0;
		alloc_fails_at = n;
		rv_status status = use_pool();
		alloc_fails_at = 0;
		if (status == RV_OK)
			break;
		assert_int_equal(status, RV_ERR_NO_MEMORY);
	}
	assert_in_range(n, 8, 40);
}

/* ---- thousands of random operations against a model ---- */

enum { PAGES = 20, LOW = 14, HIGH = 17, OWNERS = 3, SPACES = 3 };

typedef struct model {
	struct {
		int owner, space, pinned;
		uint32_t id;
	} order[PAGES + 1]; /* oldest first */
	int n;
	int quota[SPACES]; /* pages; 0: none */
} model;

static int model_in_space(const model *m, int space) {
	int n = 0;
	for (int i = 0; i < m->n; i++)
		n += m->order[i].space == space;
	return n;
}

static void model_remove(model *m, int at) {
	m->n--;
	memmove(&m->order[at], &m->order[at + 1], sizeof m->order[0] * (size_t)(m->n - at));
}

/* Drops the oldest page that may go (of `space`, -1: any); false when there is none. */
static int model_evict(model *m, int space) {
	for (int i = 0; i < m->n; i++) {
		if (!m->order[i].pinned && (space < 0 || m->order[i].space == space)) {
			model_remove(m, i);
			return 1;
		}
	}
	return 0;
}

/* Whether one more page of `space` is granted; evicts on the way. high = HIGH, but for the control. */
static int model_acquire(model *m, int space, int high) {
	int quota = space < SPACES ? m->quota[space] : 0;
	while (quota && model_in_space(m, space) + 1 > quota && model_evict(m, space))
		;
	if (quota && model_in_space(m, space) + 1 > quota)
		return 0;
	if (m->n + 1 > high)
		while (m->n + 1 > LOW && model_evict(m, -1))
			;
	return m->n < PAGES;
}

/* Number of pages on which pool and model differ. */
static int differences(const model *m, const keeper *keepers, const rv_pool *pool) {
	int n = (int)used_pages(pool) != m->n;
	for (int i = 0; i < m->n; i++) {
		int at = find_held(&keepers[m->order[i].owner], m->order[i].id);
		n += at < 0;
		if (at >= 0) {
			const unsigned char *data = keepers[m->order[i].owner].held[at].data;
			n += data[0] != (m->order[i].id + 1) % 256 || data[PAGE - 1] != data[0];
		}
	}
	for (int k = 0, held = 0; k < OWNERS; k++)
		if ((held += keepers[k].n) && k == OWNERS - 1)
			n += held != m->n;
	return n;
}

static int random_walk(uint64_t seed, int steps, int high) {
	static const char *const spaces[SPACES + 1] = {"t/1", "t/2", "u/1", NULL};
	rv_pool *pool = pool_of(PAGES, 0.70, 0.85);
	keeper *keepers = calloc(OWNERS, sizeof *keepers);
	model m = {.n = 0};
	rv_rng rng;
	int wrong = 0;
	assert_non_null(keepers);
	for (int i = 0; i < OWNERS; i++)
		add_keeper(pool, &keepers[i]);
	rv_rng_seed(&rng, seed);
	for (int step = 0; step < steps && !wrong; step++) {
		int what = (int)rv_rng_below(&rng, 100),
		    at = m.n ? (int)rv_rng_below(&rng, (uint64_t)m.n) : -1;
		if (what < 50) {
			int owner = (int)rv_rng_below(&rng, OWNERS),
			    space = (int)rv_rng_below(&rng, SPACES + 1);
			rv_pool_page page = {0};
			int granted = model_acquire(&m, space, high);
			rv_status status = take(&keepers[owner], spaces[space], &page);
			wrong += granted != (status == RV_OK);
			if (granted && status == RV_OK) {
				m.order[m.n].owner = owner;
				m.order[m.n].space = space;
				m.order[m.n].pinned = 0;
				m.order[m.n++].id = page.id;
				keepers[owner].pinned[page.id] = 0;
			}
		} else if (what < 65 && at >= 0) {
			keeper *k = &keepers[m.order[at].owner];
			rv_pool_page page = k->held[find_held(k, m.order[at].id)];
			forget(k, page.id);
			rv_pool_release(k->owner, page);
			model_remove(&m, at);
		} else if (what < 80 && at >= 0) {
			keeper *k = &keepers[m.order[at].owner];
			rv_pool_touch(k->owner, k->held[find_held(k, m.order[at].id)]);
			m.order[m.n] = m.order[at];
			m.n++;
			model_remove(&m, at);
		} else if (what < 95 && at >= 0) {
			m.order[at].pinned = rv_rng_below(&rng, 4) != 0;
			keepers[m.order[at].owner].pinned[m.order[at].id] = m.order[at].pinned;
		} else if (what >= 98) {
			int space = (int)rv_rng_below(&rng, SPACES);
			m.quota[space] = (int)rv_rng_below(&rng, 8);
			assert_ok(rv_pool_quota(pool, spaces[space], (size_t)m.quota[space] * PAGE));
		}
		wrong += differences(&m, keepers, pool);
	}
	for (int i = 0; i < OWNERS; i++)
		rv_pool_owner_remove(keepers[i].owner);
	assert_int_equal(used_pages(pool), 0);
	rv_pool_destroy(pool);
	free(keepers);
	return wrong;
}

static void agrees_with_the_model(void **state) {
	(void)state;
	for (uint64_t seed = 0; seed < 10; seed++)
		assert_int_equal(random_walk(seed, 4000, HIGH), 0);
	/* Negative control: a model whose mark is one page off does not agree. */
	assert_int_not_equal(random_walk(0, 4000, HIGH + 1), 0);
}

/* ---- threads ---- */

enum { THREADS = 6 };

/* An owner with a lock of its own, never held while it asks the pool. */
typedef struct shared_keeper {
	pthread_mutex_t lock;
	rv_pool_owner *owner;
	rv_pool_page held[PAGES];
	uint64_t stamp[PAGES]; /* written into the page; checked when it goes */
	int n, pinned;
	_Atomic int *torn;
	uint64_t next_stamp;
} shared_keeper;

/* Takes the page out of the list; the lock is held. */
static int shared_forget(shared_keeper *k, int at) {
	uint64_t *data = k->held[at].data;
	if (data[0] != k->stamp[at] || data[PAGE / 8 - 1] != k->stamp[at])
		(*k->torn)++;
	data[0] = data[PAGE / 8 - 1] = 0;
	k->n--;
	k->held[at] = k->held[k->n];
	k->stamp[at] = k->stamp[k->n];
	return 1;
}

static rv_status shared_evict(void *user, rv_pool_page page) {
	shared_keeper *k = user;
	int gone = 0;
	pthread_mutex_lock(&k->lock);
	for (int i = k->pinned; i < k->n && !gone; i++)
		if (k->held[i].id == page.id)
			gone = shared_forget(k, i);
	pthread_mutex_unlock(&k->lock);
	if (!gone)
		return rv_fail(RV_ERR_LIMIT, "pinned");
	rv_pool_release(k->owner, page);
	return RV_OK;
}

typedef struct actor {
	shared_keeper *keepers;
	rv_pool *pool;
	uint64_t seed;
	int got, refused;
} actor;

static void *act(void *arg) {
	actor *a = arg;
	rv_rng rng;
	rv_rng_seed(&rng, a->seed);
	for (int step = 0; step < (SANITIZED ? 1500 : 6000); step++) {
		shared_keeper *k = &a->keepers[rv_rng_below(&rng, OWNERS)];
		int what = (int)rv_rng_below(&rng, 10);
		rv_pool_page page;
		if (what < 6) {
			char space[8];
			snprintf(space, sizeof space, "s%d", (int)rv_rng_below(&rng, 4));
			if (rv_pool_acquire(k->owner, space, &page) != RV_OK) {
				a->refused++;
				continue;
			}
			a->got++;
			pthread_mutex_lock(&k->lock);
			uint64_t stamp = ++k->next_stamp, *data = page.data;
			data[0] = data[PAGE / 8 - 1] = stamp;
			k->held[k->n] = page;
			k->stamp[k->n++] = stamp;
			pthread_mutex_unlock(&k->lock);
			continue;
		}
		pthread_mutex_lock(&k->lock);
		int found = k->n > 0;
		if (found) {
			int at = (int)rv_rng_below(&rng, (uint64_t)k->n);
			page = k->held[at];
			if (what < 8)
				shared_forget(k, at);
		}
		k->pinned = (int)rv_rng_below(&rng, 4);
		pthread_mutex_unlock(&k->lock);
		if (found && what < 8)
			rv_pool_release(k->owner, page);
		else if (found)
			rv_pool_touch(k->owner, page);
		rv_pool_stats s;
		rv_pool_get_stats(a->pool, &s);
		if (s.used_bytes > s.budget_bytes)
			(*k->torn)++;
	}
	return NULL;
}

static void threads_share_it(void **state) {
	(void)state;
	rv_pool *pool = pool_of(PAGES, 0.70, 0.85);
	static shared_keeper keepers[OWNERS];
	_Atomic int torn = 0;
	actor actors[THREADS];
	pthread_t threads[THREADS];
	rv_pool_stats s;
	assert_ok(rv_pool_quota(pool, "s0", 4 * PAGE));
	for (int i = 0; i < OWNERS; i++) {
		memset(&keepers[i], 0, sizeof keepers[i]);
		pthread_mutex_init(&keepers[i].lock, NULL);
		keepers[i].torn = &torn;
		assert_ok(rv_pool_owner_add(pool, "shared", shared_evict, &keepers[i],
		                            &keepers[i].owner));
	}
	for (int i = 0; i < THREADS; i++) {
		actors[i] = (actor){keepers, pool, (uint64_t)i, 0, 0};
		assert_int_equal(pthread_create(&threads[i], NULL, act, &actors[i]), 0);
	}
	uint64_t got = 0, refused = 0;
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		got += (uint64_t)actors[i].got;
		refused += (uint64_t)actors[i].refused;
	}
	assert_int_equal(torn, 0); /* no page was ever held twice, no budget passed */
	rv_pool_get_stats(pool, &s);
	int held = keepers[0].n + keepers[1].n + keepers[2].n;
	assert_int_equal(s.used_bytes / PAGE, held);
	assert_int_equal(s.acquired, got);
	assert_int_equal(s.refused, refused);
	assert_true(s.evicted > 0 && s.peak_bytes <= s.budget_bytes);
	for (int i = 0; i < OWNERS; i++) {
		rv_pool_owner_remove(keepers[i].owner);
		pthread_mutex_destroy(&keepers[i].lock);
	}
	assert_int_equal(used_pages(pool), 0);
	rv_pool_destroy(pool);
	/* Negative control: a page written by someone else is seen. */
	uint64_t words[1] = {0};
	shared_keeper k = {.n = 1, .torn = &torn, .stamp = {5}};
	uint64_t *page = calloc(1, PAGE);
	assert_non_null(page);
	k.held[0].data = page;
	page[0] = 5 + words[0];
	page[PAGE / 8 - 1] = 6;
	shared_forget(&k, 0);
	assert_int_equal(torn, 1);
	free(page);
}

/* A slow eviction: whoever finds the pool full meanwhile waits for its page instead of giving up. */
typedef struct slow_owner {
	rv_pool_owner *owner;
	_Atomic int asked, refuses;
} slow_owner;

static rv_status evict_slowly(void *user, rv_pool_page page) {
	slow_owner *o = user;
	o->asked++;
	usleep(20000);
	if (o->refuses)
		return rv_fail(RV_ERR_LIMIT, "pinned");
	rv_pool_release(o->owner, page);
	return RV_OK;
}

static void *acquire_one(void *arg) {
	slow_owner *o = arg;
	rv_pool_page page;
	return rv_pool_acquire(o->owner, NULL, &page) == RV_OK ? NULL : arg;
}

static void slow_evictions_are_waited_for(void **state) {
	(void)state;
	for (int refuses = 0; refuses < 2; refuses++) {
		rv_pool *pool = pool_of(1, 1, 1);
		slow_owner o = {.refuses = refuses};
		rv_pool_page page;
		pthread_t first, second;
		void *wrong[2];
		assert_ok(rv_pool_owner_add(pool, "slow", evict_slowly, &o, &o.owner));
		assert_ok(rv_pool_acquire(o.owner, NULL, &page));
		assert_int_equal(pthread_create(&first, NULL, acquire_one, &o), 0);
		while (!o.asked)
			usleep(100);
		assert_int_equal(pthread_create(&second, NULL, acquire_one, &o), 0);
		pthread_join(first, &wrong[0]);
		pthread_join(second, &wrong[1]);
		assert_int_equal((wrong[0] != NULL) + (wrong[1] != NULL), refuses ? 2 : 0);
		rv_pool_owner_remove(o.owner);
		rv_pool_destroy(pool);
	}
}

static void *remove_owner(void *arg) {
	slow_owner *o = arg;
	rv_pool_owner_remove(o->owner);
	return NULL;
}

/* An owner is not gone while its callback runs on another thread. */
static void removal_waits_for_callbacks(void **state) {
	(void)state;
	rv_pool *pool = pool_of(1, 1, 1);
	slow_owner o = {.refuses = 1};
	keeper other;
	rv_pool_page page;
	pthread_t remover, asker;
	add_keeper(pool, &other);
	slow_owner asking = {.owner = other.owner};
	assert_ok(rv_pool_owner_add(pool, "slow", evict_slowly, &o, &o.owner));
	assert_ok(rv_pool_acquire(o.owner, NULL, &page));
	assert_int_equal(pthread_create(&asker, NULL, acquire_one, &asking), 0);
	while (!o.asked)
		usleep(100);
	assert_int_equal(pthread_create(&remover, NULL, remove_owner, &o), 0);
	pthread_join(remover, NULL);
	memset(&o, 0xff, sizeof o); /* a late callback would not survive this */
	pthread_join(asker, NULL);
	rv_pool_owner_remove(other.owner);
	assert_int_equal(used_pages(pool), 0);
	rv_pool_destroy(pool);
}

/* An eviction that itself needs a page (to move what it held) must not wait for ever. */
typedef struct mover {
	rv_pool_owner *owner;
	_Atomic int nested_refused;
} mover;

static rv_status evict_by_moving(void *user, rv_pool_page page) {
	mover *m = user;
	rv_pool_page other;
	if (rv_pool_acquire(m->owner, NULL, &other) != RV_OK) {
		m->nested_refused++;
		rv_pool_release(m->owner, page);
		return RV_OK;
	}
	rv_pool_release(m->owner, other);
	return rv_fail(RV_ERR_LIMIT, "kept");
}

static void *mover_thread(void *arg) {
	mover *m = arg;
	for (int i = 0; i < 200; i++) {
		rv_pool_page page;
		if (rv_pool_acquire(m->owner, NULL, &page) == RV_OK)
			rv_pool_touch(m->owner, page);
	}
	return NULL;
}

static void nested_acquires_end(void **state) {
	(void)state;
	rv_pool *pool = pool_of(4, 0.7, 0.85);
	mover m[2] = {{0}};
	pthread_t threads[2];
	alarm(120);
	for (int i = 0; i < 2; i++) {
		assert_ok(rv_pool_owner_add(pool, "mover", evict_by_moving, &m[i], &m[i].owner));
	}
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, mover_thread, &m[i]), 0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	alarm(0);
	for (int i = 0; i < 2; i++)
		rv_pool_owner_remove(m[i].owner);
	rv_pool_destroy(pool);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(pages_are_aligned_and_apart),
	        cmocka_unit_test(eviction_has_hysteresis),
	        cmocka_unit_test(pinned_pages_are_passed_over),
	        cmocka_unit_test(quotas_bind_their_namespace),
	        cmocka_unit_test(bad_arguments_are_refused),
	        cmocka_unit_test(heap_failures),
	        cmocka_unit_test(agrees_with_the_model),
	        cmocka_unit_test(threads_share_it),
	        cmocka_unit_test(slow_evictions_are_waited_for),
	        cmocka_unit_test(removal_waits_for_callbacks),
	        cmocka_unit_test(nested_acquires_end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
