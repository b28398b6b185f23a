/* Taking removed vectors out of the graph, while searches go on. Each is first taken out of the tree:
 * its children get parents among its parent and each other, so no cycle can come about. Then every node
 * that links to removed ones chooses anew among its other neighbours and what the removed ones lead to.
 */
#include "base/mem.h"
#include "memory/hnsw_internal.h"

typedef struct repair {
	rv_hnsw *h;
	rv_hnsw_searcher **searchers; /* one a worker */
	int n_searchers;
	uint32_t *dead; /* ascending */
	int64_t n_dead;
	int64_t look_max; /* nodes a choice may be among */
} repair;

static int is_removed(const rv_hnsw *h, uint32_t slot) {
	return rv_hnsw_state(h, slot) == RV_HNSW_REMOVED;
}

/* ---- the tree ---- */

static void set_parent(rv_hnsw *h, uint32_t slot, uint32_t parent) {
	atomic_store_explicit(h->parents + slot, parent, memory_order_release);
}

/* Both links of a new edge. A full list gives up what it would not choose, tree edges never. */
static void link_both(rv_hnsw_searcher *s, uint32_t a, uint32_t b) {
	const uint32_t ends[2][2] = {{a, b}, {b, a}};
	for (int i = 0; i < 2; i++) {
		const int64_t n = rv_hnsw_list_read(s->index, ends[i][0], 0, s->slots);
		int64_t at = 0;
		while (at < n && s->slots[at] != ends[i][1])
			at++;
		if (at == n)
			rv_hnsw_link_back(s, ends[i][0], 0, &ends[i][1], 1);
	}
}

/* Below a node without room there is one with: a leaf at last. */
static uint32_t with_room(rv_hnsw_searcher *s, uint32_t slot) {
	rv_hnsw *h = s->index;
	while (!rv_hnsw_take_child(h, slot)) {
		const int64_t n = rv_hnsw_list_read(h, slot, 0, s->slots);
		int64_t i = 0;
		while (i + 1 < n && (s->slots[i] == slot || rv_hnsw_parent(h, s->slots[i]) != slot))
			i++;
		slot = s->slots[i];
	}
	return slot;
}

/* The nearest to `child` of candidates[0, n) with room becomes its parent, or one below the first. None
 * of these is below the child. */
static void adopt(rv_hnsw_searcher *s, uint32_t child, const uint32_t *candidates, int64_t n,
                  rv_hnsw_near *near) {
	rv_hnsw *h = s->index;
	rv_hnsw_distances_from(s, child, candidates, n);
	for (int64_t i = 0; i < n; i++)
		near[i] = rv_hnsw_near_of(s->distances[i], candidates[i]);
	rv_hnsw_sort(near, n);
	int64_t i = 0;
	while (i < n && !rv_hnsw_take_child(h, rv_hnsw_slot_of(near[i])))
		i++;
	const uint32_t parent = i < n ? rv_hnsw_slot_of(near[i]) : with_room(s, candidates[0]);
	set_parent(h, child, parent);
	link_both(s, child, parent);
}

static void leave_tree(rv_hnsw_searcher *s, uint32_t dead) {
	rv_hnsw *h = s->index;
	uint32_t family[RV_HNSW_MAX_M + 1]; /* those placed, then the children still to place */
	rv_hnsw_near near[RV_HNSW_MAX_M + 1];
	const uint32_t parent = rv_hnsw_parent(h, dead);
	const int64_t n_links = rv_hnsw_list_read(h, dead, 0, s->slots);
	int64_t n = 0;
	if (parent != dead) {
		atomic_fetch_sub(h->children + parent, 1);
		family[n++] = parent;
	}
	for (int64_t i = 0; i < n_links; i++)
		if (s->slots[i] != parent && rv_hnsw_parent(h, s->slots[i]) == dead)
			family[n++] = s->slots[i];
	/* Nothing is a tree neighbour of it any more: lists may let it go. */
	set_parent(h, dead, RV_HNSW_NONE);
	atomic_store(h->children + dead, 0);
	if (parent == dead && n)
		set_parent(h, family[0], family[0]); /* a new root */
	for (int64_t i = 1; i < n; i++)
		adopt(s, family[i], family, i, near);
}

/* ---- lists ---- */

/* What the removed node leads to that lives, through other removed ones too, into s->slots after n. */
static int64_t beyond(const repair *r, rv_hnsw_searcher *s, uint32_t removed, int level, int64_t n) {
	const rv_hnsw *h = r->h;
	int64_t head = r->look_max, tail = r->look_max; /* removed ones to ask, from the end down */
	s->slots[--tail] = removed;
	while (head > tail) {
		const rv_hnsw_link *list = rv_hnsw_list(h, s->slots[--head], level);
		for (int64_t i = 0; i < rv_hnsw_degree_max(h, level); i++) {
			const uint32_t to = atomic_load_explicit(list + i, memory_order_relaxed);
			if (to == RV_HNSW_NONE)
				break;
			if (s->marks[to] == s->mark || n + 1 >= tail)
				continue;
			s->marks[to] = s->mark;
			if (is_removed(h, to))
				s->slots[--tail] = to;
			else
				s->slots[n++] = to;
		}
	}
	return n;
}

static void relink(const repair *r, rv_hnsw_searcher *s, uint32_t slot, int level) {
	rv_hnsw *h = r->h;
	const int64_t max = rv_hnsw_degree_max(h, level);
	uint32_t links[2 * RV_HNSW_MAX_M];
	const int64_t n_links = rv_hnsw_list_read(h, slot, level, links);
	int64_t n_removed = 0;
	for (int64_t i = 0; i < n_links; i++)
		n_removed += is_removed(h, links[i]);
	if (n_removed == 0)
		return;
	rv_hnsw_new_marks(s);
	s->marks[slot] = s->mark;
	int64_t n = 0;
	for (int64_t i = 0; i < n_links; i++) {
		s->marks[links[i]] = s->mark;
		if (!is_removed(h, links[i]))
			s->slots[n++] = links[i];
	}
	for (int64_t i = 0; i < n_links; i++)
		if (is_removed(h, links[i]))
			n = beyond(r, s, links[i], level, n);
	rv_hnsw_distances_from(s, slot, s->slots, n);
	for (int64_t i = 0; i < n; i++)
		s->found[i] = rv_hnsw_near_of(s->distances[i], s->slots[i]);
	rv_hnsw_sort(s->found, n);
	const int64_t n_kept = rv_hnsw_select(s, slot, s->found, n, max, level == 0);
	rv_hnsw_list_write(h, slot, level, s->kept, n_kept);
}

/* Reads lists of removed nodes, which nobody writes, and its own: the order of work does not matter. */
static rv_status relink_job(void *arg, int64_t begin, int64_t end, int thread) {
	const repair *r = arg;
	for (int64_t slot = begin; slot < end; slot++)
		if (rv_hnsw_state(r->h, (uint32_t)slot) == RV_HNSW_LIVE)
			for (int level = 0; level <= r->h->levels[slot]; level++)
				relink(r, r->searchers[thread], (uint32_t)slot, level);
	return RV_OK;
}

/* ---- the whole ---- */

static void move_entry(rv_hnsw *h) {
	const rv_hnsw_entry entry = rv_hnsw_get_entry(h);
	if (entry.slot == RV_HNSW_NONE || !is_removed(h, entry.slot))
		return;
	rv_hnsw_entry best = {RV_HNSW_NONE, 0};
	const int64_t n_slots = atomic_load(&h->n_slots);
	for (int64_t slot = 0; slot < n_slots; slot++)
		if (rv_hnsw_state(h, (uint32_t)slot) == RV_HNSW_LIVE &&
		    (best.slot == RV_HNSW_NONE || h->levels[slot] > best.level))
			best = (rv_hnsw_entry){(uint32_t)slot, h->levels[slot]};
	rv_hnsw_set_entry(h, best.slot, best.level);
}

static rv_status repair_init(repair *r, rv_hnsw *h, int n_threads) {
	RV_TRY(RV_ALLOC(&r->searchers, n_threads, "HNSW repair"));
	for (; r->n_searchers < n_threads; r->n_searchers++) {
		RV_TRY(rv_hnsw_borrow(h, &r->searchers[r->n_searchers]));
		const rv_status status = rv_hnsw_reserve(r->searchers[r->n_searchers], 1, r->look_max);
		if (status != RV_OK) {
			r->n_searchers++;
			return status;
		}
	}
	RV_TRY(RV_ALLOC(&r->dead, atomic_load(&h->n_removed), "HNSW removed vectors"));
	const int64_t n_slots = atomic_load(&h->n_slots);
	for (int64_t slot = 0; slot < n_slots; slot++)
		if (is_removed(h, (uint32_t)slot))
			r->dead[r->n_dead++] = (uint32_t)slot;
	return RV_OK;
}

static void repair_run(repair *r, rv_threads *threads) {
	rv_hnsw *h = r->h;
	for (int64_t i = 0; i < r->n_dead; i++)
		leave_tree(r->searchers[0], r->dead[i]);
	const int64_t n_slots = atomic_load(&h->n_slots);
	if (threads)
		(void)rv_threads_for(threads, n_slots, 64, relink_job, r);
	else
		(void)relink_job(r, 0, n_slots, 0);
	move_entry(h);
	rv_hnsw_wait_for_searches(h);
	atomic_fetch_sub(&h->n_removed, r->n_dead);
	rv_hnsw_free_slots(h, r->dead, r->n_dead);
}

rv_status rv_hnsw_repair(rv_hnsw *h, rv_threads *threads) {
	repair r = {.h = h, .look_max = 16 * h->m0};
	pthread_rwlock_wrlock(&h->gate);
	rv_status status = repair_init(&r, h, threads ? rv_threads_count(threads) : 1);
	if (status == RV_OK)
		repair_run(&r, threads);
	for (int i = 0; i < r.n_searchers; i++)
		rv_hnsw_give_back(h, r.searchers[i]);
	rv_free(r.searchers);
	rv_free(r.dead);
	pthread_rwlock_unlock(&h->gate);
	return status;
}
