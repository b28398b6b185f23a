/* Walking the graph towards a query. */
#include "base/mem.h"
#include "memory/hnsw_internal.h"

#define SEEN 1 /* in the lowest bit of an entry of `best`: its links were followed */

/* Of s->slots[0, n), those nearer than `limit`, into s->found. */
static int64_t look(rv_hnsw_searcher *s, int64_t n, rv_hnsw_near limit) {
	if (s->sketch && limit != UINT64_MAX)
		n = rv_hnsw_drop_far(s, n, rv_hnsw_distance_of(limit));
	rv_hnsw_distances(s, s->slots, n);
	int64_t n_found = 0;
	for (int64_t i = 0; i < n; i++) {
		const rv_hnsw_near near = rv_hnsw_near_of(s->distances[i], s->slots[i]);
		s->found[n_found] = near;
		n_found += near < limit;
	}
	return n_found;
}

/* The neighbours of a node that this walk has not met yet, into s->slots. */
static int64_t gather(rv_hnsw_searcher *s, uint32_t slot, int level) {
	const rv_hnsw *h = s->index;
	const rv_hnsw_link *list = rv_hnsw_list(h, slot, level);
	const int64_t max = rv_hnsw_degree_max(h, level);
	const uint8_t mark = s->mark;
	const rv_sketch *sketch = s->sketch;
	int64_t n = 0;
	for (int64_t i = 0; i < max; i++) {
		const uint32_t to = atomic_load_explicit(list + i, memory_order_acquire);
		if (to == RV_HNSW_NONE)
			break;
		if (sketch)
			__builtin_prefetch(rv_sketch_row(sketch, to));
		s->slots[n] = to;
		n += s->marks[to] != mark;
		s->marks[to] = mark;
	}
	s->work.hops++;
	return n;
}

/* ---- the nearest so far ---- */

/* Where `near` stands, or would, in the sorted best. */
static int64_t place_of(const rv_hnsw_searcher *s, rv_hnsw_near near) {
	int64_t at = 0;
	for (int64_t n = s->n_best; n > 0;) {
		const int64_t half = n / 2;
		const int right = s->best[at + half] < near;
		at = right ? at + half + 1 : at;
		n = right ? n - half - 1 : half;
	}
	return at;
}

static int64_t insert(rv_hnsw_searcher *s, rv_hnsw_near near, int64_t ef) {
	const int64_t at = place_of(s, near);
	s->n_best += s->n_best < ef;
	if (at < s->n_best) {
		memmove(s->best + at + 1, s->best + at, (size_t)(s->n_best - 1 - at) * sizeof *s->best);
		s->best[at] = near;
	}
	return at;
}

static rv_hnsw_near limit_of(const rv_hnsw_searcher *s, int64_t ef) {
	return s->n_best == ef ? s->best[ef - 1] : UINT64_MAX;
}

/* Returns the first place something was put at. */
static int64_t offer(rv_hnsw_searcher *s, int64_t n, int64_t ef) {
	const int64_t n_found = look(s, n, limit_of(s, ef));
	int64_t first = INT64_MAX;
	for (int64_t i = 0; i < n_found; i++) {
		const int64_t at = insert(s, s->found[i], ef);
		first = at < first ? at : first;
	}
	return first;
}

void rv_hnsw_offer(rv_hnsw_searcher *s, int64_t n, int64_t ef) {
	offer(s, n, ef);
}

/* ---- walks ---- */

/* What s->best holds is met, and no link of it followed. */
static void begin(rv_hnsw_searcher *s) {
	rv_hnsw_new_marks(s);
	for (int64_t i = 0; i < s->n_best; i++) {
		s->best[i] &= ~(rv_hnsw_near)SEEN;
		s->marks[rv_hnsw_slot_of(s->best[i])] = s->mark;
	}
}

/* Follows the links of the nearest node not yet followed until the ef nearest are. One sorted array
 * serves as result and as queue: what the ef nearest push out would never be followed. */
static void walk_all(rv_hnsw_searcher *s, int level, int64_t ef) {
	begin(s);
	for (int64_t at = 0; at < s->n_best;) {
		if (s->best[at] & SEEN) {
			at++;
			continue;
		}
		s->best[at] |= SEEN;
		const int64_t n = gather(s, rv_hnsw_slot_of(s->best[at]), level);
		const int64_t first = offer(s, n, ef);
		at = first <= at ? first : at + 1;
	}
}

/* ---- walks in which not every node counts ---- */

static rv_status push_open(rv_hnsw_searcher *s, rv_hnsw_near near) {
	if (s->n_open == s->open_capacity) {
		const int64_t room = s->open_capacity ? 2 * s->open_capacity : 256;
		RV_TRY(RV_GROW(&s->open, s->open_capacity, room, "HNSW queue"));
		s->open_capacity = room;
	}
	int64_t at = s->n_open++;
	for (; at && near < s->open[(at - 1) / 2]; at = (at - 1) / 2)
		s->open[at] = s->open[(at - 1) / 2];
	s->open[at] = near;
	return RV_OK;
}

static rv_hnsw_near pop_open(rv_hnsw_searcher *s) {
	const rv_hnsw_near top = s->open[0], last = s->open[--s->n_open];
	int64_t at = 0;
	for (int64_t child; (child = 2 * at + 1) < s->n_open; at = child) {
		child += child + 1 < s->n_open && s->open[child + 1] < s->open[child];
		if (last <= s->open[child])
			break;
		s->open[at] = s->open[child];
	}
	s->open[at] = last;
	return top;
}

static int passes(const rv_hnsw *h, uint32_t slot, const rv_hnsw_filter *filter) {
	return rv_hnsw_state(h, slot) == RV_HNSW_LIVE &&
	       (!filter || filter->fn(filter->user, h->ids[slot]));
}

static rv_status meet(rv_hnsw_searcher *s, rv_hnsw_near near, int64_t ef,
                      const rv_hnsw_filter *filter) {
	if (near >= limit_of(s, ef))
		return RV_OK;
	RV_TRY(push_open(s, near));
	if (passes(s->index, rv_hnsw_slot_of(near), filter))
		insert(s, near, ef);
	return RV_OK;
}

/* The queue holds every node met that is near enough, the result those that pass: the walk ends when ef
 * of them are nearer than whatever is left. */
static rv_status walk_passing(rv_hnsw_searcher *s, int level, int64_t ef,
                              const rv_hnsw_filter *filter) {
	begin(s);
	const int64_t n_from = s->n_best;
	memcpy(s->found, s->best, (size_t)n_from * sizeof *s->best);
	s->n_best = s->n_open = 0;
	for (int64_t i = 0; i < n_from; i++)
		RV_TRY(meet(s, s->found[i], ef, filter));
	while (s->n_open) {
		const rv_hnsw_near near = pop_open(s);
		if (near >= limit_of(s, ef))
			break;
		const int64_t n = gather(s, rv_hnsw_slot_of(near), level);
		const int64_t n_found = look(s, n, limit_of(s, ef));
		for (int64_t i = 0; i < n_found; i++)
			RV_TRY(meet(s, s->found[i], ef, filter));
	}
	return RV_OK;
}

rv_status rv_hnsw_walk(rv_hnsw_searcher *s, int level, int64_t ef, const rv_hnsw_filter *filter) {
	if (filter || atomic_load(&s->index->n_removed))
		return walk_passing(s, level, ef, filter);
	walk_all(s, level, ef);
	return RV_OK;
}

void rv_hnsw_descend(rv_hnsw_searcher *s, rv_hnsw_entry entry, int level) {
	s->slots[0] = entry.slot;
	s->n_best = 0;
	rv_hnsw_offer(s, 1, 1);
	for (int l = entry.level; l > level; l--)
		walk_all(s, l, 1);
}

/* ---- searches ---- */

static void report(const rv_hnsw_searcher *s, int64_t k, uint64_t *ids, float *distances, int64_t *n) {
	const rv_hnsw *h = s->index;
	int64_t found = 0;
	for (int64_t i = 0; i < s->n_best && found < k; i++) {
		const uint32_t slot = rv_hnsw_slot_of(s->best[i]);
		if (rv_hnsw_state(h, slot) != RV_HNSW_LIVE)
			continue; /* removed since */
		if (ids)
			ids[found] = h->ids[slot];
		if (distances)
			distances[found] = rv_hnsw_distance_of(s->best[i]);
		found++;
	}
	*n = found;
}

static rv_status search(rv_hnsw_searcher *s, rv_hnsw_entry entry, int64_t ef, int64_t k,
                        const rv_hnsw_filter *filter) {
	const rv_hnsw_options *o = &s->index->options;
	RV_TRY(rv_hnsw_aim(s, o->codec != NULL));
	rv_hnsw_descend(s, entry, 0);
	RV_TRY(rv_hnsw_walk(s, 0, ef, filter));
	const int64_t n = o->rerank ? o->rerank : ef;
	if (o->codec && !o->codes_only)
		rv_hnsw_rerank(s, n > k ? n : k);
	return RV_OK;
}

rv_status rv_hnsw_search_with(rv_hnsw_searcher *s, const float *query, int64_t k, int ef,
                              const rv_hnsw_filter *filter, uint64_t *ids, float *distances,
                              int64_t *n) {
	rv_hnsw *h = s->index;
	if (k < 1 || ef < 0)
		return rv_fail(RV_ERR_INVALID, "HNSW: search for k %lld with ef %d, expected 1 or more",
		               (long long)k, ef);
	RV_TRY(rv_hnsw_take_vector(h, query, s->query));
	const int64_t n_slots = atomic_load(&h->n_slots);
	int64_t width = ef ? ef : h->options.ef_search;
	width = width > k ? width : k;
	width = width < n_slots ? width : n_slots > 0 ? n_slots : 1;
	RV_TRY(rv_hnsw_reserve(s, width, h->m0));

	atomic_fetch_add(&s->turns, 1);
	const rv_hnsw_entry entry = rv_hnsw_get_entry(h);
	rv_status status = RV_OK;
	s->n_best = 0;
	if (entry.slot != RV_HNSW_NONE)
		status = search(s, entry, width, k, filter);
	if (status == RV_OK)
		report(s, k, ids, distances, n);
	s->work.searches++;
	atomic_fetch_add(&s->turns, 1);
	return status;
}

rv_status rv_hnsw_search(rv_hnsw *h, const float *query, int64_t k, int ef,
                         const rv_hnsw_filter *filter, uint64_t *ids, float *distances, int64_t *n) {
	rv_hnsw_searcher *s;
	RV_TRY(rv_hnsw_borrow(h, &s));
	const rv_status status = rv_hnsw_search_with(s, query, k, ef, filter, ids, distances, n);
	rv_hnsw_give_back(h, s);
	return status;
}
