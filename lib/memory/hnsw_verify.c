/* Is the graph what searches and repairs take it for? Walks it by its arrays alone. */
#include "base/mem.h"
#include "memory/hnsw_internal.h"

#include <math.h>

typedef struct walk {
	rv_hnsw *h;
	int64_t n_slots, n_live, n_removed;
	uint8_t *reached; /* [n_slots] */
	uint32_t *queue;  /* [n_slots]; a list's links while one is checked */
} walk;

static int in_graph(const walk *w, uint32_t slot) {
	return slot < w->n_slots && rv_hnsw_state(w->h, slot) != RV_HNSW_FREE;
}

static rv_status wrong(uint32_t slot, const char *what, int64_t value) {
	return rv_fail(RV_ERR_FORMAT, "HNSW: slot %u: %s (%lld)", slot, what, (long long)value);
}

/* Every entry up to the first NONE, and nothing after it. */
static rv_status check_list(const walk *w, uint32_t slot, int level) {
	const rv_hnsw_link *list = rv_hnsw_list(w->h, slot, level);
	const int64_t max = rv_hnsw_degree_max(w->h, level);
	int ended = 0;
	for (int64_t i = 0; i < max; i++) {
		const uint32_t to = atomic_load(list + i);
		if (to == RV_HNSW_NONE) {
			ended = 1;
			continue;
		}
		if (ended)
			return wrong(slot, "a link after the end of its list, at", i);
		if (!in_graph(w, to))
			return wrong(slot, "a link to what is no node", to);
		if (to == slot)
			return wrong(slot, "a link to itself on level", level);
		if (w->h->levels[to] < level)
			return wrong(slot, "a link to a node that does not reach level", level);
		for (int64_t j = 0; j < i; j++)
			if (atomic_load(list + j) == to)
				return wrong(slot, "two links to one node", to);
	}
	return RV_OK;
}

static int links_to(const rv_hnsw *h, uint32_t from, uint32_t to) {
	const rv_hnsw_link *list = rv_hnsw_list(h, from, 0);
	for (int64_t i = 0; i < h->m0; i++)
		if (atomic_load(list + i) == to)
			return 1;
	return 0;
}

static rv_status check_tree(const walk *w, uint32_t slot, uint32_t *n_roots) {
	const rv_hnsw *h = w->h;
	const uint32_t parent = rv_hnsw_parent(h, slot);
	const int children = atomic_load(h->children + slot);
	if (children > h->options.m)
		return wrong(slot, "too many children", children);
	if (parent == slot) {
		++*n_roots;
		return RV_OK;
	}
	if (!in_graph(w, parent))
		return wrong(slot, "its parent is no node", parent);
	if (!links_to(h, slot, parent))
		return wrong(slot, "no link to its parent", parent);
	if (!links_to(h, parent, slot))
		return wrong(slot, "no link from its parent", parent);
	return RV_OK;
}

static rv_status check_vector(const walk *w, uint32_t slot) {
	const rv_hnsw *h = w->h;
	if (h->code_bytes && rv_codec_check_code(h->options.codec, rv_hnsw_code(h, slot)) != RV_OK)
		return wrong(slot, "a code that no encoding writes", 0);
	if (!h->vectors)
		return RV_OK;
	const float *x = rv_hnsw_vector(h, slot);
	double sum = 0;
	for (int64_t d = 0; d < h->stride; d++) {
		if (!isfinite(x[d]) || (d >= h->options.dim && x[d] != 0))
			return wrong(slot, "a component that may not be, at", d);
		sum += (double)x[d] * (double)x[d];
	}
	if (h->options.metric == RV_METRIC_COSINE && fabs(sum - 1) > 1e-4)
		return wrong(slot, "its vector's length is not 1; square in millionths",
		             (int64_t)(fmin(sum, 1e12) * 1e6));
	return RV_OK;
}

static rv_status check_slot(walk *w, uint32_t slot, uint32_t *n_roots) {
	rv_hnsw *h = w->h;
	const int state = rv_hnsw_state(h, slot);
	if (state != RV_HNSW_LIVE && state != RV_HNSW_REMOVED)
		return wrong(slot, "unknown state", state);
	*(state == RV_HNSW_LIVE ? &w->n_live : &w->n_removed) += 1;
	if (h->levels[slot] > RV_HNSW_MAX_LEVEL || h->upper_at[slot] + h->levels[slot] > h->upper_used)
		return wrong(slot, "impossible level", h->levels[slot]);
	for (int level = 0; level <= h->levels[slot]; level++)
		RV_TRY(check_list(w, slot, level));
	RV_TRY(check_vector(w, slot));
	if (state == RV_HNSW_LIVE && rv_hnsw_find_id(h, h->ids[slot]) != slot)
		return wrong(slot, "its id is not found at it", (int64_t)h->ids[slot]);
	return check_tree(w, slot, n_roots);
}

/* Breadth first over layer 0 from where searches begin. */
static int64_t reach(walk *w, uint32_t from) {
	int64_t head = 0, tail = 0;
	w->queue[tail++] = from;
	w->reached[from] = 1;
	while (head < tail) {
		const rv_hnsw_link *list = rv_hnsw_list(w->h, w->queue[head++], 0);
		for (int64_t i = 0; i < w->h->m0; i++) {
			const uint32_t to = atomic_load(list + i);
			if (to == RV_HNSW_NONE)
				break;
			if (!w->reached[to]) {
				w->reached[to] = 1;
				w->queue[tail++] = to;
			}
		}
	}
	return tail;
}

static rv_status check_counts(const walk *w, uint32_t n_roots) {
	rv_hnsw *h = w->h;
	const struct {
		const char *name;
		int64_t found, kept;
	} counts[] = {
	        {"live vectors", w->n_live, atomic_load(&h->n_live)},
	        {"removed vectors", w->n_removed, atomic_load(&h->n_removed)},
	        {"ids", w->n_live, h->n_ids},
	        {"free slots", w->n_slots - w->n_live - w->n_removed, h->n_free},
	        {"roots of the tree", n_roots, w->n_live + w->n_removed > 0},
	};
	for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
		if (counts[i].found != counts[i].kept)
			return rv_fail(RV_ERR_FORMAT, "HNSW: %lld %s, expected %lld",
			               (long long)counts[i].found, counts[i].name,
			               (long long)counts[i].kept);
	return RV_OK;
}

static rv_status check_entry(walk *w) {
	const rv_hnsw *h = w->h;
	const rv_hnsw_entry entry = rv_hnsw_get_entry(h);
	const int64_t n = w->n_live + w->n_removed;
	if (n == 0)
		return entry.slot == RV_HNSW_NONE ? RV_OK
		                                  : wrong(entry.slot, "entry of an empty graph", 0);
	if (!in_graph(w, entry.slot) || h->levels[entry.slot] != entry.level)
		return wrong(entry.slot, "cannot be the entry, at level", entry.level);
	const int64_t n_reached = reach(w, entry.slot);
	if (n_reached == n)
		return RV_OK;
	uint32_t slot = 0;
	while (!in_graph(w, slot) || w->reached[slot])
		slot++;
	return wrong(slot, "not reached from the entry, nor are others; their number is",
	             n - n_reached);
}

static rv_status verify(walk *w) {
	uint32_t n_roots = 0;
	for (int64_t slot = 0; slot < w->n_slots; slot++)
		if (in_graph(w, (uint32_t)slot))
			RV_TRY(check_slot(w, (uint32_t)slot, &n_roots));
	RV_TRY(check_counts(w, n_roots));
	return check_entry(w);
}

rv_status rv_hnsw_verify(rv_hnsw *h) {
	walk w = {.h = h, .n_slots = atomic_load(&h->n_slots)};
	rv_status status = RV_ALLOC(&w.reached, w.n_slots, "HNSW verification");
	if (status == RV_OK)
		status = RV_ALLOC(&w.queue, w.n_slots, "HNSW verification");
	if (status == RV_OK)
		status = verify(&w);
	rv_free(w.reached);
	rv_free(w.queue);
	return status;
}
