#include "learn/residency.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/sysinfo.h"

#include <ctype.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

const char *const rv_residence_names[RV_RESIDENCE_COUNT + 1] = {"cold", "warm", "hot", NULL};

/* Pages that one object lies in. */
typedef struct holding {
	rv_residency *r;
	rv_pool_page *pages;
	size_t *used; /* bytes of each */
	int n;
} holding;

typedef struct entry {
	rv_resident_info info;
	char *path;       /* NULL: no file yet */
	size_t size;      /* of the file when it was added or written */
	int64_t mtime_ns; /* likewise */
	rv_map map;       /* while warm */
	void *object;     /* while hot */
	holding *held;    /* its */
	uint64_t used_at;
	int busy; /* somebody loads, writes or replaces it with the lock open */
} entry;

struct rv_residency {
	atomic_int refs; /* its own, and one of each holding */
	const rv_resident_kind *kind;
	void *user;
	rv_residency_options o;
	char *space, *dir;
	rv_pool_owner *owner;
	pthread_mutex_t lock;
	pthread_cond_t idle;
	entry **entries;
	int n, cap;
	uint64_t clock;
};

rv_residency_options rv_residency_defaults(void) {
	return (rv_residency_options){.max_warm = 64};
}

static void unref(rv_residency *r) {
	if (atomic_fetch_sub(&r->refs, 1) != 1)
		return;
	rv_pool_owner_remove(r->owner);
	pthread_mutex_destroy(&r->lock);
	pthread_cond_destroy(&r->idle);
	rv_free(r->entries);
	rv_free(r->space);
	rv_free(r->dir);
	rv_free(r);
}

/* ---- pages ---- */

static rv_status add_page(holding *h) {
	rv_pool_page page;
	RV_TRY(rv_pool_acquire(h->r->owner, h->r->space, &page));
	rv_status st = RV_GROW(&h->pages, h->n, h->n + 1, "pages");
	if (st == RV_OK)
		st = RV_GROW(&h->used, h->n, h->n + 1, "pages");
	if (st == RV_OK)
		h->pages[h->n++] = page;
	else
		rv_pool_release(h->r->owner, page);
	return st;
}

static rv_status take(void *user, size_t bytes, void **out) {
	holding *h = user;
	const size_t size = (bytes + RV_ALIGN - 1) & ~(size_t)(RV_ALIGN - 1);
	int i = 0;
	if (bytes > RV_POOL_PAGE_BYTES)
		return rv_fail(RV_ERR_LIMIT, "a piece of %zu bytes does not fit into a page of %zu",
		               bytes, RV_POOL_PAGE_BYTES);
	while (i < h->n && h->used[i] + size > RV_POOL_PAGE_BYTES)
		i++;
	if (i == h->n)
		RV_TRY(add_page(h));
	*out = (char *)h->pages[i].data + h->used[i];
	h->used[i] += size;
	return RV_OK;
}

static void give_back(void *user) {
	holding *h = user;
	for (int i = 0; i < h->n; i++)
		rv_pool_release(h->r->owner, h->pages[i]);
	rv_free(h->pages);
	rv_free(h->used);
	unref(h->r);
	rv_free(h);
}

/* A copy of `from` in pages. No lock is held: the pool may ask for pages of other objects. */
static rv_status place(rv_residency *r, const void *from, void **object, holding **held) {
	holding *h;
	RV_TRY(RV_ALLOC(&h, 1, "pages"));
	h->r = r;
	atomic_fetch_add(&r->refs, 1);
	const rv_adapter_memory memory = {take, give_back, h};
	*held = h; /* with the object it goes */
	return r->kind->place(r->user, from, &memory, object);
}

/* ---- files ---- */

static void stamp(entry *e, const rv_map *map) {
	e->size = map->size;
	e->mtime_ns = map->mtime_ns;
}

static void cool(entry *e) {
	if (e->map.data)
		rv_map_close(&e->map);
	e->map = (rv_map){0};
}

static rv_residence residence(const entry *e) {
	return e->object ? RV_RESIDENCE_HOT : e->map.data ? RV_RESIDENCE_WARM : RV_RESIDENCE_COLD;
}

/* Maps the file, and lets go of the longest unused when too many are. */
static void warm(rv_residency *r, entry *e) {
	if (r->o.max_warm < 1 || rv_map_open(&e->map, e->path) != RV_OK)
		return; /* cold then: asking for it will say why */
	for (;;) {
		entry *oldest = NULL;
		int n = 0;
		for (int i = 0; i < r->n; i++) {
			entry *x = r->entries[i];
			if (residence(x) != RV_RESIDENCE_WARM || x->busy)
				continue;
			n++;
			if (!oldest || x->used_at < oldest->used_at)
				oldest = x;
		}
		if (n <= r->o.max_warm)
			return;
		cool(oldest);
	}
}

static rv_status check_file(const entry *e) {
	rv_map map = e->map;
	if (map.data)
		return rv_map_check(&map);
	RV_TRY(rv_map_open(&map, e->path));
	const int same = map.size == e->size && map.mtime_ns == e->mtime_ns;
	rv_map_close(&map);
	return same ? RV_OK : rv_fail(RV_ERR_MISMATCH, "%s: changed since it was added", e->path);
}

static rv_status save(rv_residency *r, entry *e) {
	char path[4096];
	rv_map map;
	if (!r->dir)
		return rv_fail(RV_ERR_INVALID, "%s '%s': no folder to write it to", r->kind->owner,
		               e->info.name);
	if (snprintf(path, sizeof path, "%s/%s%s", r->dir, e->info.name, r->kind->suffix) >=
	    (int)sizeof path)
		return rv_fail(RV_ERR_INVALID, "%.64s...: the path is too long", r->dir);
	RV_TRY(rv_mkdirs(r->dir));
	RV_TRY(r->kind->save(r->user, e->object, path));
	RV_TRY(rv_map_open(&map, path));
	stamp(e, &map);
	rv_map_close(&map);
	rv_free(e->path);
	e->path = NULL;
	RV_TRY(rv_strdup(&e->path, path));
	e->info.unsaved = 0;
	return RV_OK;
}

/* ---- entries; the lock is held ---- */

static entry *find(rv_residency *r, const char *name) {
	for (int i = 0; i < r->n; i++)
		if (strcmp(r->entries[i]->info.name, name) == 0)
			return r->entries[i];
	return NULL;
}

/* The same once nobody is busy with it; NULL when there is none. */
static entry *find_idle(rv_residency *r, const char *name) {
	entry *e;
	while ((e = find(r, name)) && e->busy)
		pthread_cond_wait(&r->idle, &r->lock);
	return e;
}

static void set_idle(rv_residency *r, entry *e) {
	e->busy = 0;
	pthread_cond_broadcast(&r->idle);
}

static rv_status check_name(const rv_residency *r, const char *name) {
	size_t n = strlen(name);
	int ok = n >= 1 && n <= RV_RESIDENT_NAME_MAX && name[0] != '.';
	for (size_t i = 0; i < n && ok; i++)
		ok = isalnum((unsigned char)name[i]) || strchr("._-", name[i]) != NULL;
	return ok ? RV_OK
	          : rv_fail(RV_ERR_INVALID, "%s: '%.64s' is no name (letters, digits, . - _)",
	                    r->kind->owner, name);
}

static rv_status insert(rv_residency *r, const char *name, entry **out) {
	entry *e;
	if (r->n == r->cap) {
		const int cap = r->cap ? 2 * r->cap : 16;
		RV_TRY(RV_GROW(&r->entries, r->cap, cap, "entries"));
		r->cap = cap;
	}
	RV_TRY(RV_ALLOC(&e, 1, "entry"));
	memcpy(e->info.name, name, strlen(name) + 1);
	e->used_at = ++r->clock;
	*out = r->entries[r->n++] = e;
	return RV_OK;
}

static void drop(rv_residency *r, entry *e) {
	int i = 0;
	while (r->entries[i] != e)
		i++;
	memmove(&r->entries[i], &r->entries[i + 1], (size_t)(--r->n - i) * sizeof *r->entries);
	cool(e);
	if (e->object)
		r->kind->release(e->object);
	rv_free(e->path);
	rv_free(e);
}

static entry *holder(rv_residency *r, rv_pool_page page) {
	for (int i = 0; i < r->n; i++)
		for (int j = 0; r->entries[i]->object && j < r->entries[i]->held->n; j++)
			if (r->entries[i]->held->pages[j].id == page.id)
				return r->entries[i];
	return NULL;
}

/* ---- calls ---- */

/* The pool wants a page: the whole object goes, if nobody else has it. */
static rv_status evict(void *user, rv_pool_page page) {
	rv_residency *r = user;
	rv_status st = RV_OK;
	void *object = NULL;
	pthread_mutex_lock(&r->lock);
	entry *e = holder(r, page);
	if (!e || e->busy || r->kind->shared(e->object)) {
		pthread_mutex_unlock(&r->lock);
		return rv_fail(RV_ERR_LIMIT, "%s: in use", r->kind->owner);
	}
	if (e->info.unsaved) {
		e->busy = 1;
		pthread_mutex_unlock(&r->lock);
		st = save(r, e);
		pthread_mutex_lock(&r->lock);
		set_idle(r, e);
	}
	if (st == RV_OK) {
		object = e->object;
		e->object = NULL;
		e->held = NULL;
		e->info.n_evicted++;
		warm(r, e);
	}
	pthread_mutex_unlock(&r->lock);
	if (object)
		r->kind->release(object);
	return st;
}

rv_status rv_residency_create(rv_residency **out, const rv_resident_kind *kind, void *user,
                              const rv_residency_options *options) {
	rv_residency *r;
	*out = NULL;
	RV_TRY(RV_ALLOC(&r, 1, kind->owner));
	atomic_init(&r->refs, 1);
	r->kind = kind;
	r->user = user;
	r->o = *options;
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->idle, NULL);
	rv_status st = options->space ? rv_strdup(&r->space, options->space) : RV_OK;
	if (st == RV_OK && options->dir)
		st = rv_strdup(&r->dir, options->dir);
	if (st == RV_OK)
		st = rv_pool_owner_add(options->pool, kind->owner, evict, r, &r->owner);
	if (st == RV_OK)
		*out = r;
	else
		unref(r);
	return st;
}

void rv_residency_destroy(rv_residency *r) {
	if (!r)
		return;
	pthread_mutex_lock(&r->lock);
	while (r->n)
		drop(r, r->entries[r->n - 1]);
	pthread_mutex_unlock(&r->lock);
	unref(r);
}

rv_status rv_residency_add(rv_residency *r, const char *name, const char *path) {
	entry *e = NULL;
	void *object;
	rv_map map;
	char *copy;
	RV_TRY(check_name(r, name));
	RV_TRY(rv_map_open(&map, path));
	rv_status st = r->kind->open(r->user, path, &object);
	if (st == RV_OK) {
		r->kind->release(object);
		st = rv_strdup(&copy, path);
	}
	if (st == RV_OK) {
		pthread_mutex_lock(&r->lock);
		st = find(r, name) ? rv_fail(RV_ERR_INVALID, "%s: there is a '%s' already",
		                             r->kind->owner, name)
		                   : insert(r, name, &e);
		if (st == RV_OK) {
			e->path = copy;
			e->info.version = 1;
			stamp(e, &map);
			warm(r, e);
		} else {
			rv_free(copy);
		}
		pthread_mutex_unlock(&r->lock);
	}
	rv_map_close(&map);
	return st;
}

static rv_status load(rv_residency *r, const entry *e, void **object, holding **held) {
	void *opened;
	RV_TRY(check_file(e));
	RV_TRY(r->kind->open(r->user, e->path, &opened));
	rv_status st = place(r, opened, object, held);
	r->kind->release(opened);
	return st == RV_OK ? st : rv_fail_in(st, e->info.name);
}

/* With the lock held, which is open meanwhile. */
static rv_status make_hot(rv_residency *r, entry *e) {
	const int64_t begin_ns = rv_now_ns();
	const int cold = residence(e) == RV_RESIDENCE_COLD;
	void *object = NULL;
	holding *held = NULL;
	e->busy = 1;
	pthread_mutex_unlock(&r->lock);
	rv_status st = load(r, e, &object, &held);
	pthread_mutex_lock(&r->lock);
	if (st == RV_OK) {
		cool(e);
		e->object = object;
		e->held = held;
		e->info.n_loaded++;
		e->info.n_from_cold += cold;
		const int64_t ns = rv_now_ns() - begin_ns;
		e->info.load_ns += ns;
		e->info.cold_ns += cold ? ns : 0;
	}
	set_idle(r, e);
	return st;
}

static rv_status no_such(const rv_residency *r, const char *name) {
	return rv_fail(RV_ERR_NOT_FOUND, "%s: there is no '%.64s'", r->kind->owner, name);
}

rv_status rv_residency_acquire(rv_residency *r, const char *name, void **out) {
	rv_status st = RV_OK;
	*out = NULL;
	pthread_mutex_lock(&r->lock);
	entry *e = find_idle(r, name);
	if (e) {
		e->used_at = ++r->clock;
		e->info.n_acquired++;
		if (!e->object)
			st = make_hot(r, e);
		else
			for (int i = 0; i < e->held->n; i++)
				rv_pool_touch(r->owner, e->held->pages[i]);
		if (st == RV_OK) {
			r->kind->retain(e->object);
			*out = e->object;
		}
	} else {
		st = no_such(r, name);
	}
	pthread_mutex_unlock(&r->lock);
	return st;
}

rv_status rv_residency_put(rv_residency *r, const char *name, const void *from) {
	void *object = NULL, *old = NULL;
	holding *held;
	RV_TRY(check_name(r, name));
	RV_TRY(place(r, from, &object, &held));
	pthread_mutex_lock(&r->lock);
	entry *e = find_idle(r, name);
	rv_status st = e ? RV_OK : insert(r, name, &e);
	if (st == RV_OK) {
		cool(e);
		old = e->object;
		e->object = object;
		e->held = held;
		e->used_at = ++r->clock;
		e->info.unsaved = 1;
		e->info.version++;
	}
	pthread_mutex_unlock(&r->lock);
	if (st != RV_OK)
		r->kind->release(object);
	if (old)
		r->kind->release(old);
	return st;
}

rv_status rv_residency_remove(rv_residency *r, const char *name) {
	pthread_mutex_lock(&r->lock);
	entry *e = find_idle(r, name);
	if (e)
		drop(r, e);
	rv_status st = e ? RV_OK : no_such(r, name);
	pthread_mutex_unlock(&r->lock);
	return st;
}

rv_status rv_residency_flush(rv_residency *r) {
	rv_status st = RV_OK;
	pthread_mutex_lock(&r->lock);
	for (int i = 0; i < r->n && st == RV_OK; i++) {
		entry *e = r->entries[i];
		if (!e->info.unsaved || e->busy)
			continue;
		e->busy = 1;
		pthread_mutex_unlock(&r->lock);
		st = save(r, e);
		pthread_mutex_lock(&r->lock);
		set_idle(r, e);
		i = -1; /* the list may have changed */
	}
	pthread_mutex_unlock(&r->lock);
	return st;
}

static void describe(const entry *e, rv_resident_info *out) {
	*out = e->info;
	out->residence = residence(e);
	out->hot_bytes = e->object ? (size_t)e->held->n * RV_POOL_PAGE_BYTES : 0;
}

rv_status rv_residency_find(rv_residency *r, const char *name, rv_resident_info *out) {
	pthread_mutex_lock(&r->lock);
	const entry *e = find(r, name);
	if (e)
		describe(e, out);
	pthread_mutex_unlock(&r->lock);
	return e ? RV_OK : no_such(r, name);
}

rv_status rv_residency_at(rv_residency *r, int i, rv_resident_info *out) {
	pthread_mutex_lock(&r->lock);
	const int there = i >= 0 && i < r->n;
	if (there)
		describe(r->entries[i], out);
	pthread_mutex_unlock(&r->lock);
	return there ? RV_OK
	             : rv_fail(RV_ERR_NOT_FOUND, "%s: there is no number %d", r->kind->owner, i);
}
