/* Walks: the best path to whatever is within k hops, one hop of all nodes at a time. */
#include "base/mem.h"
#include "memory/edges_internal.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_HOPS = 16 };

rv_walk rv_walk_defaults(void) {
	return (rv_walk){.hops = 2, .kinds = RV_EDGE_ANY, .min_score = 0.01f, .max_nodes = 10000};
}

/* A node that was reached. `before` is its score when the hop began: what a hop finds it does not
 * build upon. */
typedef struct reached {
	int32_t node;
	int hops;   /* of its best path */
	int is_new; /* better than at the begin of the hop */
	float score, before;
} reached;

typedef struct walk {
	rv_edges *e;
	const rv_walk *how;
	reached *items;
	int64_t n, cap;
	int64_t n_frontier;
	int32_t *frontier, *next; /* [cap]: places in items that got better in the last hop */
} walk;

static rv_status grow(walk *w) {
	int64_t cap = w->cap ? 2 * w->cap : 64;
	RV_TRY(RV_GROW(&w->items, w->cap, cap, "walk"));
	RV_TRY(RV_GROW(&w->frontier, w->cap, cap, "walk"));
	RV_TRY(RV_GROW(&w->next, w->cap, cap, "walk"));
	w->cap = cap;
	return RV_OK;
}

/* A path of `score` to a node; what it improves goes into w->next. */
static rv_status reach(walk *w, int32_t node, float score, int hops, int64_t *n_next) {
	rv_edge_node *at = &w->e->nodes[node];
	if (at->walk != w->e->n_walks) {
		if (w->n == w->how->max_nodes)
			return RV_OK;
		if (w->n == w->cap)
			RV_TRY(grow(w));
		at->walk = w->e->n_walks;
		at->at = (int32_t)w->n;
		w->items[w->n++] = (reached){.node = node, .score = -1};
	}
	reached *r = &w->items[at->at];
	if (score <= r->score)
		return RV_OK;
	r->score = score;
	r->hops = hops;
	if (!r->is_new) {
		r->is_new = 1;
		w->next[(*n_next)++] = at->at;
	}
	return RV_OK;
}

static void end_hop(walk *w, int64_t n_next) {
	int32_t *t = w->frontier;
	w->frontier = w->next;
	w->next = t;
	w->n_frontier = n_next;
	for (int64_t i = 0; i < n_next; i++) {
		reached *r = &w->items[w->frontier[i]];
		r->is_new = 0;
		r->before = r->score;
	}
}

static rv_status one_hop(walk *w, int hop) {
	int64_t n_next = 0;
	for (int64_t i = 0; i < w->n_frontier; i++) {
		const reached from = w->items[w->frontier[i]];
		for (int32_t c = w->e->nodes[from.node].first; c >= 0; c = w->e->cells[c].next) {
			const rv_edge_cell *cell = &w->e->cells[c];
			float score = from.before * cell->weight;
			if ((w->how->kinds >> cell->kind & 1) && score > 0 &&
			    score >= w->how->min_score)
				RV_TRY(reach(w, cell->target, score, hop, &n_next));
		}
	}
	end_hop(w, n_next);
	return RV_OK;
}

/* Under the lock. */
static rv_status walk_from(walk *w, const char *const *starts, size_t n_starts) {
	int64_t n_next = 0;
	w->e->n_walks++;
	RV_TRY(grow(w));
	for (size_t i = 0; i < n_starts; i++) {
		int32_t node = rv_id_map_get(&w->e->ids, starts[i]);
		if (node >= 0)
			RV_TRY(reach(w, node, 1, 0, &n_next));
	}
	end_hop(w, n_next);
	for (int hop = 1; hop <= w->how->hops && w->n_frontier > 0; hop++)
		RV_TRY(one_hop(w, hop));
	return RV_OK;
}

static void end_walk(walk *w) {
	rv_free(w->items);
	rv_free(w->frontier);
	rv_free(w->next);
}

static rv_status check_walk(const rv_walk *how) {
	if (how->hops < 1 || how->hops > MAX_HOPS || how->max_nodes < 1 || how->max_nodes > INT32_MAX ||
	    !(how->min_score >= 0))
		return rv_fail(RV_ERR_INVALID, "walk: %d hops, min_score %g, max_nodes %lld", how->hops,
		               (double)how->min_score, (long long)how->max_nodes);
	return RV_OK;
}

static int by_score(const void *a, const void *b) {
	const rv_walk_hit *x = a, *y = b;
	if (x->score != y->score)
		return x->score < y->score ? 1 : -1;
	return strcmp(x->id, y->id);
}

/* All that was reached but the starts. */
static rv_status gather(const walk *w, rv_walk_hit **out, size_t *n) {
	rv_walk_hit *all = NULL;
	*n = 0;
	RV_TRY(RV_ALLOC(&all, w->n, "walk"));
	for (int64_t i = 0; i < w->n; i++)
		if (w->items[i].hops > 0)
			all[(*n)++] = (rv_walk_hit){w->e->nodes[w->items[i].node].id, w->items[i].score,
			                            w->items[i].hops};
	if (*n > 0)
		qsort(all, *n, sizeof *all, by_score);
	*out = all;
	return RV_OK;
}

rv_status rv_edges_walk(rv_edges *e, const rv_walk *how, const char *const *starts, size_t n_starts,
                        rv_walk_hit *hits, size_t cap, size_t *n) {
	walk w = {.e = e, .how = how};
	rv_walk_hit *all = NULL;
	size_t n_all = 0;
	RV_TRY(check_walk(how));
	pthread_mutex_lock(&e->lock);
	rv_status st = walk_from(&w, starts, n_starts);
	if (st == RV_OK)
		st = gather(&w, &all, &n_all);
	pthread_mutex_unlock(&e->lock);
	end_walk(&w);
	if (st != RV_OK)
		return st;
	*n = n_all < cap ? n_all : cap;
	if (*n > 0)
		memcpy(hits, all, *n * sizeof *hits);
	rv_free(all);
	return RV_OK;
}

/* ---- re-ranking ---- */

typedef struct ranked {
	size_t number;
	float score;
} ranked;

static int by_rank(const void *a, const void *b) {
	const ranked *x = a, *y = b;
	if (x->score != y->score)
		return x->score < y->score ? 1 : -1;
	return (x->number > y->number) - (x->number < y->number);
}

static void score_all(const walk *w, float share, const char *const *ids, const float *similarity,
                      size_t n, ranked *out) {
	for (size_t i = 0; i < n; i++) {
		int32_t node = rv_id_map_get(&w->e->ids, ids[i]);
		int found = node >= 0 && w->e->nodes[node].walk == w->e->n_walks;
		float score = found ? w->items[w->e->nodes[node].at].score : 0;
		out[i] = (ranked){i, (1 - share) * similarity[i] + share * score};
	}
}

rv_status rv_edges_rerank(rv_edges *e, const rv_walk *how, const char *const *starts, size_t n_starts,
                          float share, const char *const *ids, const float *similarity, size_t n,
                          size_t *order, float *scores) {
	walk w = {.e = e, .how = how};
	ranked *all = NULL;
	RV_TRY(check_walk(how));
	if (!(share >= 0 && share <= 1))
		return rv_fail(RV_ERR_INVALID, "re-ranking: a share of %g", (double)share);
	for (size_t i = 0; i < n; i++)
		if (!__builtin_isfinite(similarity[i]))
			return rv_fail(RV_ERR_NUMERIC, "re-ranking: similarity %zu is not finite", i);
	RV_TRY(RV_ALLOC(&all, n, "re-ranking"));
	pthread_mutex_lock(&e->lock);
	rv_status st = walk_from(&w, starts, n_starts);
	if (st == RV_OK)
		score_all(&w, share, ids, similarity, n, all);
	pthread_mutex_unlock(&e->lock);
	end_walk(&w);
	if (st == RV_OK && n > 0)
		qsort(all, n, sizeof *all, by_rank);
	for (size_t i = 0; i < n && st == RV_OK; i++) {
		order[i] = all[i].number;
		if (scores != NULL)
			scores[i] = all[i].score;
	}
	rv_free(all);
	return st;
}
