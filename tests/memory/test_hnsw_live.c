/* Searches beside insertion, removal, repair and learning, on many threads; meant for ThreadSanitizer
 * too. What a search says is checked against the vectors: a distance that fits no vector of its id
 * would be a slot read while it was given away. */
#include "hnsw_test.h"

#include <pthread.h>
#include <stdatomic.h>

enum { DIM = 32, STAYING = 500, COMING = 1200, N = STAYING + COMING, WRITERS = 3, SEARCHERS = 3 };

typedef struct live {
	set *data;
	rv_hnsw *index;
	_Atomic int searching, writers, faults;
	_Atomic int64_t searches, own_found, own_sought;
} live;

typedef struct worker {
	live *l;
	int number;
	pthread_t thread;
} worker;

/* Counts instead of asserting: the frame of the tests belongs to the main thread. */
static void expect(live *l, int what) {
	if (!what)
		atomic_fetch_add(&l->faults, 1);
}

static void check_results(live *l, const float *query, const uint64_t *ids, const float *distances,
                          int64_t n) {
	for (int64_t i = 0; i < n; i++) {
		const uint64_t row = (ids[i] - 13) / 7919;
		expect(l, row < N);
		if (row >= N)
			return;
		const double d =
		        true_distance(RV_METRIC_COSINE, query, set_row(l->data, (int64_t)row), DIM);
		expect(l, fabs(d - (double)distances[i]) < 1e-4);
		for (int64_t j = 0; j < i; j++)
			expect(l, ids[j] != ids[i]);
	}
}

static void *search_on(void *arg) {
	const worker *w = arg;
	live *l = w->l;
	rv_rng rng;
	rv_rng_stream(&rng, 5, (uint64_t)w->number);
	rv_hnsw_searcher *own = NULL;
	if (w->number % 2)
		expect(l, rv_hnsw_searcher_create(&own, l->index) == RV_OK);
	while (atomic_load(&l->searching)) {
		const int64_t row = (int64_t)rv_rng_below(&rng, STAYING);
		const float *query = set_row(l->data, row);
		uint64_t ids[10];
		float distances[10];
		int64_t n = 0;
		expect(l, (own ? rv_hnsw_search_with(own, query, 10, 40, NULL, ids, distances, &n)
		               : rv_hnsw_search(l->index, query, 10, 40, NULL, ids, distances, &n)) ==
		                  RV_OK);
		expect(l, n == 10);
		check_results(l, query, ids, distances, n);
		atomic_fetch_add(&l->own_sought, 1);
		atomic_fetch_add(&l->own_found, n > 0 && ids[0] == l->data->ids[row]);
		atomic_fetch_add(&l->searches, 1);
	}
	rv_hnsw_searcher_destroy(own);
	return NULL;
}

/* Each writer has ids of its own: it knows which are there. */
static void *write_on(void *arg) {
	const worker *w = arg;
	live *l = w->l;
	uint8_t there[N] = {0};
	rv_rng rng;
	rv_rng_stream(&rng, 6, (uint64_t)w->number);
	for (int step = 0; step < 900; step++) {
		int64_t row = STAYING + (int64_t)rv_rng_below(&rng, COMING);
		row -= (row - STAYING) % WRITERS;
		row += w->number;
		if (row >= N)
			continue;
		const uint64_t id = l->data->ids[row];
		const float *x = set_row(l->data, row);
		if (step % 300 == 299)
			expect(l, rv_hnsw_repair(l->index, NULL) == RV_OK);
		expect(l, rv_hnsw_has(l->index, id) == there[row]);
		if (there[row])
			expect(l, rv_hnsw_remove(l->index, id) == RV_OK);
		else if (step % 50 == 0)
			expect(l, rv_hnsw_add_batch(l->index, &id, x, 1, NULL) == RV_OK);
		else
			expect(l, rv_hnsw_add(l->index, id, x) == RV_OK);
		there[row] = !there[row];
		uint64_t found = 0;
		int64_t n = 0;
		expect(l, rv_hnsw_search(l->index, x, 1, 100, NULL, &found, NULL, &n) == RV_OK);
		/* At once and no longer: after the add its own, after the remove never. */
		expect(l, there[row] ? 1 : found != id);
		atomic_fetch_add(&l->own_sought, there[row]);
		atomic_fetch_add(&l->own_found, there[row] && found == id);
	}
	atomic_fetch_sub(&l->writers, 1);
	return NULL;
}

static void all_at_once(void **state) {
	(void)state;
	live l = {.data = set_make(N, DIM, 51), .searching = 1, .writers = WRITERS};
	/* Room for less than would pile up without repairs; learning falls into the middle. */
	l.index = index_of(l.data, RV_METRIC_COSINE, N + 100);
	assert_ok(rv_hnsw_add_batch(l.index, l.data->ids, l.data->x, STAYING, NULL));
	worker workers[WRITERS + SEARCHERS];
	for (int i = 0; i < WRITERS + SEARCHERS; i++) {
		workers[i] = (worker){&l, i < WRITERS ? i : i - WRITERS, 0};
		assert_int_equal(pthread_create(&workers[i].thread, NULL,
		                                i < WRITERS ? write_on : search_on, &workers[i]),
		                 0);
	}
	for (int i = 0; i < WRITERS; i++)
		pthread_join(workers[i].thread, NULL);
	atomic_store(&l.searching, 0);
	for (int i = WRITERS; i < WRITERS + SEARCHERS; i++)
		pthread_join(workers[i].thread, NULL);
	assert_int_equal(atomic_load(&l.faults), 0);
	assert_ok(rv_hnsw_verify(l.index));
	/* What is there is found, also while the graph changes: as often as recall@1 at rest. */
	const double found = (double)l.own_found / (double)l.own_sought;
	if (found < 0.99)
		fail_msg("%.4f of %lld found themselves", found, (long long)l.own_sought);
	for (int64_t i = 0; i < STAYING; i++)
		assert_true(rv_hnsw_has(l.index, l.data->ids[i]));
	assert_ok(rv_hnsw_repair(l.index, NULL));
	assert_ok(rv_hnsw_verify(l.index));
	rv_hnsw_destroy(l.index);
	set_free(l.data);
}

/* Negative control: the check of results sees a vector that is not its id's. */
static void check_sees_a_stranger(void **state) {
	(void)state;
	live l = {.data = set_make(N, DIM, 52)};
	const float *query = set_row(l.data, 1);
	check_results(&l, query, &l.data->ids[1], (float[]){0}, 1);
	assert_int_equal(l.faults, 0);
	check_results(&l, query, &l.data->ids[2], (float[]){0}, 1);
	assert_int_equal(l.faults, 1);
	check_results(&l, query, (uint64_t[]){l.data->ids[1], l.data->ids[1]}, (float[]){0, 0}, 2);
	assert_int_equal(l.faults, 2);
	set_free(l.data);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(all_at_once),
	        cmocka_unit_test(check_sees_a_stranger),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
