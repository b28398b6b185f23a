/* The store: written, read back, grouped, refused. */
#include "base/file.h"
#include "base/mem.h"
#include "memory/store.h"
#include "tests/memory/folder.h"

#include <pthread.h>
#include <sqlite3.h>
#include <sys/stat.h>

typedef struct edge {
	char source[32], target[32];
	double weight;
	int fail;
	int64_t count;
	rv_status told;
	int n_told;
} edge;

static rv_status put_edge(void *user, rv_db *db) {
	edge *e = user;
	RV_TRY(RV_DB_RUN(db, "edges",
	                 "INSERT INTO edges (source, target, kind, weight, updated_at) "
	                 "VALUES (?1, ?2, 'similar', ?3, 0)",
	                 RV_TEXT(e->source), RV_TEXT(e->target), RV_REAL(e->weight)));
	return e->fail ? rv_fail(RV_ERR_INVALID, "asked to fail") : RV_OK;
}

static rv_status count_edges(void *user, rv_db *db) {
	edge *e = user;
	return rv_db_int(db, "edges", "SELECT count(*) FROM edges", NULL, 0, &e->count);
}

static void told(void *user, rv_status status) {
	edge *e = user;
	e->told = status;
	e->n_told++;
}

static edge make_edge(int i) {
	edge e = {.weight = 0.5};
	snprintf(e.source, sizeof e.source, "s%d", i);
	snprintf(e.target, sizeof e.target, "t%d", i);
	return e;
}

static int64_t n_edges(rv_store *store) {
	edge e = {0};
	assert_ok(rv_store_read(store, count_edges, &e));
	return e.count;
}

static void writes_and_reads(void **state) {
	(void)state;
	char dir[256];
	folder_make(dir);
	rv_store *store;
	assert_ok(rv_store_open(&store, dir, NULL));
	edge a = make_edge(1), b = make_edge(2);
	assert_ok(rv_store_write(store, put_edge, told, &a));
	assert_int_equal(a.n_told, 1);
	assert_int_equal(a.told, RV_OK);
	assert_int_equal(n_edges(store), 1);
	/* a failed write leaves nothing, and the others as they are */
	b.fail = 1;
	assert_int_equal(rv_store_write(store, put_edge, told, &b), RV_ERR_INVALID);
	assert_string_equal(rv_error_message(), "asked to fail");
	assert_int_equal(b.told, RV_ERR_INVALID);
	assert_int_equal(n_edges(store), 1);
	/* a duplicate is named by table */
	assert_int_equal(rv_store_write(store, put_edge, NULL, &a), RV_ERR_MISMATCH);
	assert_non_null(strstr(rv_error_message(), "memory.db: table edges: UNIQUE"));
	a.weight = 1.5;
	assert_int_equal(rv_store_write(store, put_edge, NULL, &a), RV_ERR_MISMATCH);
	assert_ok(rv_store_close(store));
	assert_ok(rv_store_open(&store, dir, NULL));
	assert_int_equal(n_edges(store), 1);
	assert_ok(rv_store_close(store));
	folder_remove(dir);
}

static rv_status slow(void *user, rv_db *db) {
	(void)user;
	(void)db;
	usleep(50000);
	return RV_OK;
}

/* What waits is committed together, in order; a full queue is said, not waited for. */
static void posts_are_grouped(void **state) {
	(void)state;
	enum { N = 64 };
	char dir[256];
	folder_make(dir);
	rv_store_options o = rv_store_defaults();
	o.queue_capacity = N;
	rv_store *store;
	assert_ok(rv_store_open(&store, dir, &o));
	edge edges[N + 1];
	assert_ok(rv_store_post(store, slow, NULL, NULL));
	usleep(10000); /* the writer is at it */
	for (int i = 0; i <= N; i++)
		edges[i] = make_edge(i);
	edges[7].fail = 1;
	for (int i = 0; i < N; i++)
		assert_ok(rv_store_post(store, put_edge, told, &edges[i]));
	assert_int_equal(rv_store_post(store, put_edge, told, &edges[N]), RV_ERR_LIMIT);
	assert_int_equal(rv_store_flush(store), RV_ERR_INVALID); /* that of number 7, told once */
	assert_ok(rv_store_flush(store));
	for (int i = 0; i < N; i++)
		assert_true(edges[i].n_told == 1 && (edges[i].told == RV_OK) == (i != 7));
	assert_int_equal(edges[N].n_told, 0);
	assert_int_equal(n_edges(store), N - 1);
	rv_store_stats stats;
	assert_ok(rv_store_stats_get(store, &stats));
	assert_true(stats.commits < 10 && stats.failed == 1 && stats.max_queued >= N);
	assert_ok(rv_store_close(store));
	folder_remove(dir);
}

enum { N_THREADS = 8, N_EACH = 40 };

typedef struct worker {
	rv_store *store;
	int first, n_failed, backwards;
} worker;

static void *work(void *arg) {
	worker *w = arg;
	int64_t last = 0;
	for (int i = 0; i < N_EACH; i++) {
		edge e = make_edge(w->first + i), seen = {0};
		w->n_failed += rv_store_write(w->store, put_edge, NULL, &e) != RV_OK;
		w->n_failed += rv_store_read(w->store, count_edges, &seen) != RV_OK;
		w->backwards += seen.count < last + 1; /* one's own write is seen */
		last = seen.count;
	}
	return NULL;
}

static void many_writers(void **state) {
	(void)state;
	char dir[256];
	folder_make(dir);
	rv_store *store;
	assert_ok(rv_store_open(&store, dir, NULL));
	pthread_t threads[N_THREADS];
	worker workers[N_THREADS] = {0};
	for (int i = 0; i < N_THREADS; i++) {
		workers[i] = (worker){.store = store, .first = i * N_EACH};
		assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
	}
	for (int i = 0; i < N_THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(workers[i].n_failed + workers[i].backwards, 0);
	}
	assert_int_equal(n_edges(store), N_THREADS * N_EACH);
	assert_ok(rv_store_close(store));
	folder_remove(dir);
}

static void one_writing_process(void **state) {
	(void)state;
	char dir[256];
	folder_make(dir);
	rv_store *store, *other = NULL;
	rv_store_options o = rv_store_defaults();
	o.read_only = 1;
	assert_int_equal(rv_store_open(&other, dir, &o), RV_ERR_NOT_FOUND);
	assert_ok(rv_store_open(&store, dir, NULL));
	edge a = make_edge(1);
	assert_ok(rv_store_write(store, put_edge, NULL, &a));
	assert_int_equal(rv_store_open(&other, dir, NULL), RV_ERR_LIMIT);
	assert_non_null(strstr(rv_error_message(), "memory.lock: in use by process"));
	/* a reader sees the last committed state and cannot write */
	assert_ok(rv_store_open(&other, dir, &o));
	assert_int_equal(n_edges(other), 1);
	edge b = make_edge(2);
	assert_ok(rv_store_write(store, put_edge, NULL, &b));
	assert_int_equal(n_edges(other), 2);
	assert_int_equal(rv_store_write(other, put_edge, NULL, &a), RV_ERR_INVALID);
	assert_int_equal(rv_store_post(other, put_edge, NULL, &a), RV_ERR_INVALID);
	assert_ok(rv_store_close(other));
	assert_ok(rv_store_close(store));
	folder_remove(dir);
}

static void seeded_ids(void **state) {
	(void)state;
	char dir[256], a[RV_UUID_TEXT], b[RV_UUID_TEXT], c[RV_UUID_TEXT];
	folder_make(dir);
	rv_sim_clock sim;
	rv_sim_clock_init(&sim, 1000);
	rv_store_options o = rv_store_defaults();
	o.seeded = 1;
	o.seed = 5;
	o.clock = rv_sim_clock_source(&sim);
	for (int i = 0; i < 3; i++) {
		rv_store *store;
		o.seeded = i < 2;
		assert_ok(rv_store_open(&store, dir, &o));
		rv_store_uuid(store, i == 0 ? a : i == 1 ? b : c);
		assert_int_equal(rv_store_now_ms(store), 1000 + i);
		rv_sim_clock_advance(&sim, 1);
		assert_ok(rv_store_close(store));
	}
	assert_string_equal(a, b);
	assert_string_not_equal(a, c);
	assert_true(rv_uuid_valid(a) && rv_uuid_valid(c) && a[14] == '4' && c[14] == '4');
	folder_remove(dir);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(writes_and_reads), cmocka_unit_test(posts_are_grouped),
	        cmocka_unit_test(many_writers),     cmocka_unit_test(one_writing_process),
	        cmocka_unit_test(seeded_ids),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
