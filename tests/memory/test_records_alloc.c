/* Witness log, sessions and edges with every allocation failing in turn: an error, never a crash,
 * nothing half-done, and all of it goes on afterwards. */
#include "base/mem.h"
#include "memory/edges.h"
#include "memory/sessions.h"
#include "tests/memory/witness_kit.h"

#include <stdatomic.h>

static _Atomic int calls, fail_at;

void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size) {
	int call = atomic_fetch_add(&calls, 1) + 1;
	return call == atomic_load(&fail_at) ? NULL : __real_aligned_alloc(alignment, size);
}

static void arm(int at) {
	atomic_store(&calls, 0);
	atomic_store(&fail_at, at);
}

typedef struct life {
	rv_store *store;
	int entries, sessions, edges; /* acknowledged */
} life;

static rv_status ignore_hit(void *user, const rv_witness_hit *hit) {
	(void)user;
	(void)hit;
	return RV_OK;
}

static rv_status log_life(life *l, rv_witness *w) {
	numbered e;
	rv_witness_report report;
	rv_witness_summary sum = {0};
	rv_witness_query q = rv_witness_query_defaults();
	for (int i = 0; i < 3; i++) {
		number_fill(&e, i * 10);
		RV_TRY(rv_witness_append_sync(w, &e.entry));
		l->entries++;
	}
	q.error_text = "time";
	RV_TRY(rv_witness_search(w, &q, ignore_hit, NULL));
	q.error_text = NULL;
	q.similar_to = e.query;
	RV_TRY(rv_witness_search(w, &q, ignore_hit, NULL));
	RV_TRY(rv_witness_summarise(w, 0, 0, 4, &sum));
	rv_witness_summary_deinit(&sum);
	return rv_witness_verify(w, NULL, &report);
}

static rv_status session_life(life *l, rv_sessions *s) {
	for (int i = 0; i < 3; i++) {
		const char *const ids[] = {"a", "b", "c"};
		const rv_session session = {.session_id = ids[i], .turn_count = 1, .metadata = "{}"};
		RV_TRY(rv_sessions_put(s, &session));
		l->sessions |= 1 << i;
	}
	rv_session *copy = NULL;
	RV_TRY(rv_sessions_get(s, "b", &copy));
	rv_free(copy);
	RV_TRY(rv_sessions_flush(s));
	RV_TRY(rv_sessions_remove(s, "b"));
	l->sessions &= ~2;
	return rv_sessions_verify(s);
}

static rv_status edge_life(life *l, rv_edges *e) {
	static const char *const starts[] = {"a"}, *const ids[] = {"b", "c"};
	const rv_walk how = rv_walk_defaults();
	const float similarity[] = {0.5f, 0.4f};
	rv_walk_hit hits[4];
	size_t n, order[2];
	RV_TRY(rv_edges_reinforce(e, "a", "b", RV_EDGE_PATTERN, 1));
	RV_TRY(rv_edges_reinforce(e, "b", "c", RV_EDGE_PATTERN, 1));
	RV_TRY(rv_edges_flush(e));
	l->edges = 2;
	RV_TRY(rv_edges_walk(e, &how, starts, 1, hits, 4, &n));
	return rv_edges_rerank(e, &how, starts, 1, 0.5f, ids, similarity, 2, order, NULL);
}

/* The first failure, all of it closed again. */
static rv_status live(life *l) {
	rv_witness *w = NULL;
	rv_sessions *s = NULL;
	rv_edges *e = NULL;
	rv_witness_options o = rv_witness_defaults();
	o.retain_ms = 0;
	rv_status st = rv_witness_open(&w, l->store, &o);
	if (st == RV_OK)
		st = rv_sessions_open(&s, l->store, NULL);
	if (st == RV_OK)
		st = rv_edges_open(&e, l->store, NULL);
	if (st == RV_OK)
		st = log_life(l, w);
	if (st == RV_OK)
		st = session_life(l, s);
	if (st == RV_OK)
		st = edge_life(l, e);
	rv_status closed[] = {rv_edges_close(e), rv_sessions_close(s), rv_witness_close(w)};
	for (int i = 0; i < 3; i++)
		st = st == RV_OK ? closed[i] : st;
	return st;
}

/* What was acknowledged is there, and everything works. */
static void check(life *l) {
	log_kit k = {.store = l->store};
	rv_witness_report report;
	rv_sessions *s;
	rv_edges *e;
	assert_ok(rv_witness_open(&k.witness, l->store, NULL));
	assert_ok(rv_witness_verify(k.witness, NULL, &report));
	assert_true(report.n_entries >= l->entries);
	assert_ok(rv_witness_close(k.witness));
	assert_ok(rv_sessions_open(&s, l->store, NULL));
	assert_ok(rv_sessions_verify(s));
	for (int i = 0; i < 3; i++) {
		const char *const ids[] = {"a", "b", "c"};
		rv_session *copy = NULL;
		if (l->sessions >> i & 1)
			assert_ok(rv_sessions_get(s, ids[i], &copy));
		rv_free(copy);
	}
	assert_ok(rv_sessions_close(s));
	assert_ok(rv_edges_open(&e, l->store, NULL));
	assert_true(rv_edges_count(e) >= l->edges);
	assert_ok(rv_edges_close(e));
}

static void every_allocation_fails_once(void **state) {
	(void)state;
	int n_failed = 0, in_a_row = 0;
	for (int at = 1; in_a_row < 3; at++) {
		char dir[256];
		life l = {0};
		folder_make(dir);
		assert_ok(rv_store_open(&l.store, dir, NULL));
		arm(at);
		rv_status st = live(&l);
		int hit = atomic_load(&calls) >= at;
		arm(0);
		if (st != RV_OK && (st != RV_ERR_NO_MEMORY || !hit))
			fail_msg("allocation %d: %s", at, rv_error_message());
		in_a_row = hit ? 0 : in_a_row + 1; /* threads: their number is not always the same */
		n_failed += st != RV_OK;
		rv_store_flush(l.store); /* tells of a post that failed */
		check(&l);
		assert_ok(rv_store_close(l.store));
		folder_remove(dir);
		assert_true(at < 2000);
	}
	print_message("%d allocations failed and were reported\n", n_failed);
	assert_true(n_failed > 20); /* control: they did fail */
}

int main(void) {
	const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation_fails_once)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
