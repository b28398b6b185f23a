/* Lists of links: whom a node knows. */
#include "memory/hnsw_internal.h"

#include <sched.h>
#include <stdlib.h>

/* ---- locks of lists, of writers among themselves ---- */

static void lock(rv_hnsw *h, uint32_t slot) {
	while (atomic_exchange_explicit(&h->locks[slot % RV_HNSW_LOCKS], 1, memory_order_acquire))
		sched_yield();
}
static void unlock(rv_hnsw *h, uint32_t slot) {
	atomic_store_explicit(&h->locks[slot % RV_HNSW_LOCKS], 0, memory_order_release);
}

/* ---- order ---- */

static int compare(const void *a, const void *b) {
	const rv_hnsw_near x = *(const rv_hnsw_near *)a, y = *(const rv_hnsw_near *)b;
	return (x > y) - (x < y);
}

void rv_hnsw_sort(rv_hnsw_near *near, int64_t n) {
	if (n > 64) {
		qsort(near, (size_t)n, sizeof *near, compare);
		return;
	}
	for (int64_t i = 1; i < n; i++) {
		const rv_hnsw_near x = near[i];
		int64_t at = i;
		for (; at && near[at - 1] > x; at--)
			near[at] = near[at - 1];
		near[at] = x;
	}
}

/* ---- choice ---- */

/* What bounds leave open of "is the candidate as near to slot as to every one kept?", into
 * s->open_kept; -1 when they say no. */
static int64_t undecided(rv_hnsw_searcher *s, const rv_sketch *sketch, rv_hnsw_near candidate,
                         int64_t n_kept) {
	const float distance = rv_hnsw_distance_of(candidate);
	rv_sketch_bound(sketch, s->index->options.metric,
	                rv_sketch_row(sketch, rv_hnsw_slot_of(candidate)), s->kept, n_kept, &s->bounds);
	int64_t n = 0;
	for (int64_t i = 0; i < n_kept; i++) {
		if (s->bounds.upper[i] < distance)
			return -1;
		s->open_kept[n] = s->kept[i];
		n += !(s->bounds.lower[i] >= distance);
	}
	s->work.bounded += (uint64_t)(n_kept - n);
	return n;
}

/* Is the candidate as near to slot as to every one kept? In steps, because the first few often say no.
 */
static int is_apart(rv_hnsw_searcher *s, rv_hnsw_near candidate, int64_t n_kept) {
	const float distance = rv_hnsw_distance_of(candidate);
	const rv_sketch *sketch = atomic_load_explicit(&s->index->sketch, memory_order_relaxed);
	const uint32_t *kept = s->kept;
	if (sketch) {
		n_kept = undecided(s, sketch, candidate, n_kept);
		kept = s->open_kept;
	}
	enum { STEP = 4 };
	for (int64_t i = 0; i < n_kept; i += STEP) {
		const int64_t n = n_kept - i < STEP ? n_kept - i : STEP;
		rv_hnsw_distances_from(s, rv_hnsw_slot_of(candidate), kept + i, n);
		for (int64_t j = 0; j < n; j++)
			if (s->distances[j] < distance)
				return 0;
	}
	return n_kept >= 0;
}

int64_t rv_hnsw_select(rv_hnsw_searcher *s, uint32_t slot, const rv_hnsw_near *near, int64_t n,
                       int64_t max, int tree) {
	const rv_hnsw *h = s->index;
	int64_t due = 0; /* of the tree, still to come */
	for (int64_t i = 0; tree && i < n; i++)
		due += rv_hnsw_in_tree(h, slot, rv_hnsw_slot_of(near[i]));
	int64_t n_kept = 0;
	for (int64_t i = 0; i < n && n_kept < max; i++) {
		const uint32_t to = rv_hnsw_slot_of(near[i]);
		const int must = due && rv_hnsw_in_tree(h, slot, to);
		due -= must;
		if (must || (n_kept + due < max && is_apart(s, near[i], n_kept)))
			s->kept[n_kept++] = to;
	}
	return n_kept;
}

void rv_hnsw_list_write(rv_hnsw *h, uint32_t slot, int level, const uint32_t *links, int64_t n) {
	rv_hnsw_link *list = rv_hnsw_list(h, slot, level);
	const int64_t max = rv_hnsw_degree_max(h, level);
	for (int64_t i = 0; i < max; i++)
		atomic_store_explicit(list + i, i < n ? links[i] : RV_HNSW_NONE, memory_order_release);
}

void rv_hnsw_link_back(rv_hnsw_searcher *s, uint32_t slot, int level, const uint32_t *sources,
                       int64_t n) {
	rv_hnsw *h = s->index;
	const int64_t max = rv_hnsw_degree_max(h, level);
	lock(h, slot);
	int64_t n_all = rv_hnsw_list_read(h, slot, level, s->slots);
	if (n_all + n <= max) {
		rv_hnsw_link *list = rv_hnsw_list(h, slot, level);
		for (int64_t i = 0; i < n; i++)
			atomic_store_explicit(list + n_all + i, sources[i], memory_order_release);
	} else {
		memcpy(s->slots + n_all, sources, (size_t)n * sizeof *sources);
		n_all += n;
		rv_hnsw_distances_from(s, slot, s->slots, n_all);
		for (int64_t i = 0; i < n_all; i++)
			s->found[i] = rv_hnsw_near_of(s->distances[i], s->slots[i]);
		rv_hnsw_sort(s->found, n_all);
		const int64_t n_kept = rv_hnsw_select(s, slot, s->found, n_all, max, level == 0);
		rv_hnsw_list_write(h, slot, level, s->kept, n_kept);
	}
	unlock(h, slot);
}

/* ---- the tree ---- */

int rv_hnsw_take_child(rv_hnsw *h, uint32_t parent) {
	const uint16_t max = (uint16_t)h->options.m;
	uint16_t n = atomic_load(h->children + parent);
	while (n < max)
		if (atomic_compare_exchange_weak(h->children + parent, &n, (uint16_t)(n + 1)))
			return 1;
	return 0;
}

static int try_parent(rv_hnsw *h, uint32_t slot, uint32_t parent) {
	if (rv_hnsw_parent(h, parent) == RV_HNSW_NONE || !rv_hnsw_take_child(h, parent))
		return 0;
	atomic_store_explicit(h->parents + slot, parent, memory_order_release);
	return 1;
}

uint32_t rv_hnsw_find_parent(rv_hnsw *h, uint32_t slot, const uint32_t *links, int64_t n) {
	for (int64_t i = 0; i < n; i++)
		if (try_parent(h, slot, links[i]))
			return links[i];
	/* A tree of n nodes has n - 1 children in all: there is one with room. */
	for (uint32_t at = slot;;) {
		at = (int64_t)at + 1 < atomic_load(&h->n_slots) ? at + 1 : 0;
		if (rv_hnsw_state(h, at) != RV_HNSW_FREE && try_parent(h, slot, at))
			return at;
	}
}
