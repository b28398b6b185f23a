/* Working memory of searches, kept for reuse: an index knows all of it, so that a repair can wait for
 * the searches under way. */
#include "base/mem.h"
#include "base/vm.h"
#include "memory/hnsw_internal.h"

#include <sched.h>

static size_t marks_bytes(const rv_hnsw *h) {
	return ((size_t)h->options.capacity + 4095) / 4096 * 4096;
}

rv_status rv_hnsw_searcher_create(rv_hnsw_searcher **out, rv_hnsw *h) {
	*out = NULL;
	rv_hnsw_searcher *s;
	RV_TRY(RV_ALLOC(&s, 1, "HNSW searcher"));
	s->index = h;
	pthread_mutex_lock(&h->searchers_lock);
	s->next = h->searchers;
	h->searchers = s;
	pthread_mutex_unlock(&h->searchers_lock);
	rv_status status = rv_vm_alloc((void **)&s->marks, marks_bytes(h), "HNSW marks");
	if (status == RV_OK)
		status = RV_ALLOC(&s->query, h->stride, "HNSW query");
	if (status == RV_OK)
		status = RV_ALLOC(&s->probe, RV_SKETCH_ROW_MAX, "HNSW query");
	const size_t prepared = h->options.codec ? rv_codec_query_bytes(h->options.codec) : 0;
	if (status == RV_OK)
		status = rv_alloc(&s->prepared, prepared, 1, "HNSW query");
	if (status == RV_OK)
		status = rv_alloc(&s->prepared_node, prepared, 1, "HNSW query");
	if (status == RV_OK)
		status = RV_ALLOC(&s->kept, h->m0, "HNSW selection");
	if (status == RV_OK)
		status = RV_ALLOC(&s->open_kept, h->m0, "HNSW selection");
	if (status == RV_OK)
		status = rv_hnsw_reserve(s, h->options.ef_search, h->m0);
	if (status != RV_OK) {
		rv_hnsw_searcher_destroy(s);
		return status;
	}
	*out = s;
	return RV_OK;
}

void rv_hnsw_searcher_destroy(rv_hnsw_searcher *s) {
	if (!s)
		return;
	rv_hnsw *h = s->index;
	pthread_mutex_lock(&h->searchers_lock);
	rv_hnsw_searcher **at = &h->searchers;
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	pthread_mutex_unlock(&h->searchers_lock);
	rv_vm_free(s->marks, marks_bytes(h));
	rv_free(s->query);
	rv_free(s->probe);
	rv_free(s->prepared);
	rv_free(s->prepared_node);
	rv_free(s->kept);
	rv_free(s->open_kept);
	rv_free(s->best);
	rv_free(s->open);
	rv_free(s->slots);
	rv_free(s->rows);
	rv_free(s->codes);
	rv_free(s->distances);
	rv_free(s->found);
	rv_free(s->bounds.lower);
	rv_free(s->bounds.upper);
	rv_free(s->bounds.sums);
	rv_free(s->bounds.codes);
	rv_free(s);
}

rv_status rv_hnsw_reserve(rv_hnsw_searcher *s, int64_t best, int64_t batch) {
	if (best > s->best_capacity) {
		RV_TRY(RV_GROW(&s->best, s->best_capacity, best, "HNSW nearest"));
		s->best_capacity = best;
	}
	if (batch > s->batch_capacity) {
		const int64_t old = s->batch_capacity;
		RV_TRY(RV_GROW(&s->slots, old, batch, "HNSW batch"));
		RV_TRY(RV_GROW(&s->rows, old, batch, "HNSW batch"));
		RV_TRY(RV_GROW(&s->codes, old, batch, "HNSW batch"));
		RV_TRY(RV_GROW(&s->distances, old, batch, "HNSW batch"));
		RV_TRY(RV_GROW(&s->found, old, batch, "HNSW batch"));
		RV_TRY(RV_GROW(&s->bounds.lower, old, batch, "HNSW batch"));
		RV_TRY(RV_GROW(&s->bounds.upper, old, batch, "HNSW batch"));
		RV_TRY(RV_GROW(&s->bounds.sums, old, batch, "HNSW batch"));
		RV_TRY(RV_GROW(&s->bounds.codes, old, batch, "HNSW batch"));
		s->batch_capacity = batch;
	}
	return RV_OK;
}

rv_status rv_hnsw_borrow(rv_hnsw *h, rv_hnsw_searcher **out) {
	for (int i = 0; i < RV_HNSW_IDLE; i++) {
		if (!atomic_load_explicit(&h->idle[i], memory_order_relaxed))
			continue;
		*out = atomic_exchange(&h->idle[i], NULL);
		if (*out)
			return RV_OK;
	}
	return rv_hnsw_searcher_create(out, h);
}

void rv_hnsw_give_back(rv_hnsw *h, rv_hnsw_searcher *s) {
	for (int i = 0; i < RV_HNSW_IDLE; i++) {
		rv_hnsw_searcher *none = NULL;
		if (atomic_compare_exchange_strong(&h->idle[i], &none, s))
			return;
	}
	rv_hnsw_searcher_destroy(s);
}

void rv_hnsw_new_marks(rv_hnsw_searcher *s) {
	if (++s->mark)
		return;
	memset(s->marks, 0, (size_t)s->index->options.capacity);
	s->mark = 1;
}

rv_hnsw_work rv_hnsw_searcher_work(const rv_hnsw_searcher *searcher) {
	return searcher->work;
}

/* A search that begins after this looked at its turn sees what was done to the graph before: both
 * change the turn by one operation that reads and writes. */
void rv_hnsw_wait_for_searches(rv_hnsw *h) {
	pthread_mutex_lock(&h->searchers_lock);
	for (rv_hnsw_searcher *s = h->searchers; s; s = s->next) {
		const uint64_t turn = atomic_fetch_add(&s->turns, 0);
		while (turn % 2 && atomic_load(&s->turns) == turn)
			sched_yield();
	}
	pthread_mutex_unlock(&h->searchers_lock);
}
