/* Sessions: kept, looked up, expired; memory and store say the same. */
#include "base/mem.h"
#include "base/sysinfo.h"
#include "memory/id_map.h"
#include "memory/sessions.h"
#include "tests/memory/folder.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>

typedef struct kit {
	char dir[256];
	rv_sim_clock sim;
	rv_store *store;
	rv_sessions *sessions;
	char gone[64][RV_SESSION_MAX_ID + 1];
	int n_gone;
} kit;

static void note_gone(void *user, const rv_session *session) {
	kit *k = user;
	if (k->n_gone < 64)
		strcpy(k->gone[k->n_gone], session->session_id);
	k->n_gone++;
}

static rv_sessions_options options_of(kit *k, int64_t capacity, int64_t ttl_ms) {
	return (rv_sessions_options){capacity, ttl_ms, note_gone, k};
}

static void open_kit(kit *k, int64_t capacity, int64_t ttl_ms) {
	rv_store_options o = rv_store_defaults();
	rv_sessions_options so = options_of(k, capacity, ttl_ms);
	o.clock = rv_sim_clock_source(&k->sim);
	k->n_gone = 0;
	assert_ok(rv_store_open(&k->store, k->dir, &o));
	assert_ok(rv_sessions_open(&k->sessions, k->store, &so));
}

static void close_kit(kit *k) {
	assert_ok(rv_sessions_close(k->sessions));
	assert_ok(rv_store_close(k->store));
}

static void make_kit(kit *k, int64_t capacity, int64_t ttl_ms) {
	folder_make(k->dir);
	rv_sim_clock_init(&k->sim, 1000);
	open_kit(k, capacity, ttl_ms);
}

static void drop_kit(kit *k) {
	assert_ok(rv_sessions_verify(k->sessions));
	close_kit(k);
	folder_remove(k->dir);
}

static const char *name_of(int i) {
	static _Thread_local char name[24];
	snprintf(name, sizeof name, "session-%d", i);
	return name;
}

static rv_status put(kit *k, int i, int64_t turns) {
	const rv_session s = {.session_id = name_of(i), .turn_count = turns};
	return rv_sessions_put(k->sessions, &s);
}

static int has(kit *k, int i) {
	rv_session *s = NULL;
	int found = rv_sessions_get(k->sessions, name_of(i), &s) == RV_OK;
	rv_free(s);
	return found;
}

static void fields_come_back(void **state) {
	(void)state;
	kit k;
	float embedding[RV_EMBEDDING_DIM];
	for (int i = 0; i < RV_EMBEDDING_DIM; i++)
		embedding[i] = (float)i / 7;
	const rv_session full = {.session_id = "a \xc3\xa4",
	                         .context_embedding = embedding,
	                         .kv_cache_ref = {RV_KV_COLD, "kv/a.seq", 512, "two-tier", 77},
	                         .active_adapter = "coder-7",
	                         .turn_count = 3,
	                         .last_active = 900,
	                         .metadata = "{\"topic\": \"routing\"}"};
	make_kit(&k, 10, 0);
	assert_ok(rv_sessions_put(k.sessions, &full));
	assert_ok(put(&k, 1, 5));
	for (int again = 0; again < 2; again++) {
		rv_session *s;
		assert_ok(rv_sessions_get(k.sessions, full.session_id, &s));
		assert_string_equal(s->session_id, full.session_id);
		assert_memory_equal(s->context_embedding, embedding, sizeof embedding);
		assert_int_equal(s->kv_cache_ref.tier, RV_KV_COLD);
		assert_string_equal(s->kv_cache_ref.location, "kv/a.seq");
		assert_string_equal(s->kv_cache_ref.quantization, "two-tier");
		assert_true(s->kv_cache_ref.cached_tokens == 512 && s->kv_cache_ref.created_at == 77);
		assert_string_equal(s->active_adapter, "coder-7");
		assert_string_equal(s->metadata, "{\"topic\": \"routing\"}");
		assert_true(s->turn_count == 3 && s->user_id == NULL && s->last_active == 1000);
		rv_free(s);
		assert_ok(rv_sessions_get(k.sessions, name_of(1), &s));
		assert_true(s->turn_count == 5 && s->kv_cache_ref.location == NULL &&
		            s->context_embedding == NULL && s->metadata == NULL);
		rv_free(s);
		close_kit(&k);
		open_kit(&k, 10, 0);
	}
	/* replaced whole; a removed one is gone */
	assert_ok(put(&k, 1, 6));
	assert_int_equal(rv_sessions_count(k.sessions), 2);
	assert_ok(rv_sessions_remove(k.sessions, full.session_id));
	assert_int_equal(rv_sessions_remove(k.sessions, full.session_id), RV_ERR_NOT_FOUND);
	assert_int_equal(rv_sessions_count(k.sessions), 1);
	assert_int_equal(k.n_gone, 0);
	drop_kit(&k);
}

static void bad_sessions_are_refused(void **state) {
	(void)state;
	kit k;
	make_kit(&k, 10, 0);
	float bad[RV_EMBEDDING_DIM] = {[4] = NAN};
	const struct {
		rv_session session;
		const char *says;
	} cases[] = {
	        {{.session_id = NULL}, "session_id"},
	        {{.session_id = ""}, "session_id"},
	        {{.session_id = "x", .turn_count = -1}, "turn_count"},
	        {{.session_id = "x", .context_embedding = bad}, "context_embedding[4]"},
	        {{.session_id = "x", .metadata = "[]"}, "metadata is no JSON object"},
	        {{.session_id = "x", .metadata = "{"}, "session metadata"},
	        {{.session_id = "x", .kv_cache_ref = {RV_KV_HOT, "7", -1, "f16", 0}}, "cached_tokens"},
	        {{.session_id = "x", .kv_cache_ref = {RV_KV_HOT, "7", 1, NULL, 0}}, "quantization"},
	        {{.session_id = "x", .user_id = "me"}, "key file"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_int_not_equal(rv_sessions_put(k.sessions, &cases[i].session), RV_OK);
		if (strstr(rv_error_message(), cases[i].says) == NULL)
			fail_msg("%s: %s", cases[i].says, rv_error_message());
	}
	assert_int_equal(rv_sessions_count(k.sessions), 0);
	assert_ok(put(&k, 1, 0));
	drop_kit(&k);
}

static void the_unused_expire(void **state) {
	(void)state;
	kit k;
	int64_t n;
	make_kit(&k, 100, 10000);
	for (int i = 0; i < 10; i++) {
		assert_ok(put(&k, i, 0));
		rv_sim_clock_advance(&k.sim, 1000);
	}
	/* at 11 000: session 0 was last used at 1000 */
	assert_ok(rv_sessions_expire(k.sessions, &n));
	assert_int_equal(n, 0);
	rv_sim_clock_advance(&k.sim, 500);
	assert_false(has(&k, 0)); /* before anybody deletes it */
	assert_true(has(&k, 1));  /* used: at 11 500 */
	rv_sim_clock_advance(&k.sim, 2000);
	assert_ok(rv_sessions_expire(k.sessions, &n));
	assert_true(n == 2 && k.n_gone == 2); /* 0 and 2 */
	assert_string_equal(k.gone[0], "session-0");
	assert_string_equal(k.gone[1], "session-2");
	assert_true(has(&k, 1) && has(&k, 3) && !has(&k, 2));
	/* times of use are kept by close; what expires meanwhile goes at open */
	close_kit(&k);
	rv_sim_clock_advance(&k.sim, 9000); /* 22 500 */
	open_kit(&k, 100, 10000);
	assert_int_equal(rv_sessions_count(k.sessions), 2);
	assert_true(has(&k, 1) && has(&k, 3) && k.n_gone == 6);
	drop_kit(&k);
}

static void the_longest_unused_makes_room(void **state) {
	(void)state;
	kit k;
	make_kit(&k, 5, 0);
	for (int i = 0; i < 5; i++)
		assert_ok(put(&k, i, 0));
	assert_true(has(&k, 0)); /* all at one time of the clock: order of use decides */
	assert_ok(put(&k, 1, 1));
	assert_ok(put(&k, 5, 0));
	assert_true(k.n_gone == 1 && strcmp(k.gone[0], "session-2") == 0);
	assert_ok(put(&k, 6, 0));
	assert_true(k.n_gone == 2 && strcmp(k.gone[1], "session-3") == 0);
	assert_int_equal(rv_sessions_count(k.sessions), 5);
	assert_ok(rv_sessions_verify(k.sessions));
	close_kit(&k);
	rv_sim_clock_advance(&k.sim, 1);
	open_kit(&k, 3, 0);
	assert_int_equal(rv_sessions_count(k.sessions), 3);
	drop_kit(&k);
}

/* What is changed behind the index' back is seen: checksums at open, verify while it runs. */
static void damage_is_named(void **state) {
	(void)state;
	static const char *const columns[] = {
	        "turn_count = turn_count + 1", "active_adapter = 'x'", "session_id = 'other'",
	        "kv_cached_tokens = 7",        "metadata = x'00'",     "context_embedding = x'00'"};
	kit k;
	make_kit(&k, 10, 0);
	assert_ok(put(&k, 1, 5));
	assert_ok(put(&k, 2, 6));
	char path[300], sql[200];
	snprintf(path, sizeof path, "%s/memory.db", k.dir);
	for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
		sqlite3 *db;
		assert_ok(rv_sessions_verify(k.sessions)); /* control */
		assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
		snprintf(sql, sizeof sql, "UPDATE sessions SET %s WHERE session_id = 'session-2'",
		         columns[i]);
		assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
		assert_int_equal(sqlite3_close(db), SQLITE_OK);
		assert_int_equal(rv_sessions_verify(k.sessions), RV_ERR_FORMAT);
		rv_sessions *other = NULL;
		assert_int_equal(rv_sessions_open(&other, k.store, NULL), RV_ERR_FORMAT);
		assert_non_null(strstr(rv_error_message(), "table sessions, row "));
		assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
		assert_int_equal(sqlite3_exec(db,
		                              "DELETE FROM sessions WHERE session_id IN"
		                              " ('session-2', 'other')",
		                              NULL, NULL, NULL),
		                 SQLITE_OK);
		assert_int_equal(sqlite3_close(db), SQLITE_OK);
		assert_int_equal(rv_sessions_verify(k.sessions), RV_ERR_MISMATCH); /* a lost row */
		assert_ok(put(&k, 2, 6));
	}
	drop_kit(&k);
}

/* ---- many at once ---- */

enum { N_THREADS = 6, N_ROUNDS = 60, N_IDS = 40 };

typedef struct worker {
	kit *k;
	uint64_t seed;
	int n_failed;
} worker;

static void *work(void *arg) {
	worker *w = arg;
	rv_rng rng;
	rv_rng_seed(&rng, w->seed);
	for (int i = 0; i < N_ROUNDS; i++) {
		int id = (int)rv_rng_below(&rng, N_IDS);
		rv_status st = RV_OK;
		switch (rv_rng_below(&rng, 8)) {
		case 0:
			st = rv_sessions_remove(w->k->sessions, name_of(id));
			break;
		case 1:
			st = rv_sessions_expire(w->k->sessions, NULL);
			break;
		case 2:
			st = rv_sessions_flush(w->k->sessions);
			break;
		case 3:
		case 4:
			st = put(w->k, id, i);
			break;
		default:
			has(w->k, id);
			rv_sim_clock_advance(&w->k->sim, 1);
		}
		w->n_failed += st != RV_OK && st != RV_ERR_NOT_FOUND;
	}
	return NULL;
}

static void count_gone(void *user, const rv_session *session) {
	(void)session;
	__atomic_add_fetch((int *)user, 1, __ATOMIC_RELAXED);
}

static void many_at_once(void **state) {
	(void)state;
	kit k;
	make_kit(&k, 20, 50);
	int n_gone = 0;
	rv_sessions_options o = {20, 50, count_gone, &n_gone};
	assert_ok(rv_sessions_close(k.sessions));
	assert_ok(rv_sessions_open(&k.sessions, k.store, &o));
	pthread_t threads[N_THREADS];
	worker workers[N_THREADS];
	for (int i = 0; i < N_THREADS; i++) {
		workers[i] = (worker){&k, (uint64_t)i, 0};
		assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
	}
	for (int i = 0; i < N_THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(workers[i].n_failed, 0);
	}
	assert_ok(rv_sessions_expire(k.sessions, NULL));
	assert_true(rv_sessions_count(k.sessions) <= 20);
	assert_true(n_gone > 0);
	drop_kit(&k); /* verifies */
}

/* ---- kills ---- */

enum { N_KILLS = 20, KILL_IDS = 50 };

/* Shared with the child: turns[i] is the last that was acknowledged for session i. */
typedef struct told {
	_Atomic int64_t turns[KILL_IDS];
	_Atomic int n;
} told;

static void child_main(const char *dir, told *t) {
	rv_store *store;
	rv_sessions *sessions;
	if (rv_store_open(&store, dir, NULL) != RV_OK ||
	    rv_sessions_open(&sessions, store, NULL) != RV_OK)
		_exit(1);
	for (int64_t i = 0;; i++) {
		int id = (int)(i * 7 % KILL_IDS);
		const rv_session s = {.session_id = name_of(id), .turn_count = t->turns[id] + 1};
		if (rv_sessions_put(sessions, &s) != RV_OK)
			_exit(2);
		t->turns[id]++;
		t->n++;
	}
}

/* No session has fewer turns than were acknowledged, none more than one beyond. */
static int n_wrong(rv_sessions *sessions, const told *t) {
	int wrong = 0;
	for (int i = 0; i < KILL_IDS; i++) {
		rv_session *s = NULL;
		int64_t turns = rv_sessions_get(sessions, name_of(i), &s) == RV_OK ? s->turn_count : 0;
		wrong += turns < t->turns[i] || turns > t->turns[i] + 1;
		rv_free(s);
	}
	return wrong;
}

static void a_kill_loses_no_session(void **state) {
	(void)state;
	kit k;
	folder_make(k.dir);
	rv_sim_clock_init(&k.sim, 1000);
	told *t = mmap(NULL, sizeof *t, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(t != MAP_FAILED);
	rv_rng rng;
	rv_rng_seed(&rng, 2);
	for (int i = 0; i < N_KILLS; i++) {
		int before = t->n, status;
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			child_main(k.dir, t);
		while (t->n == before && waitpid(pid, NULL, WNOHANG) == 0)
			usleep(200);
		usleep((useconds_t)rv_rng_below(&rng, 30000));
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		assert_true(WIFSIGNALED(status)); /* it had not failed */
		open_kit(&k, 100, 0);
		assert_int_equal(n_wrong(k.sessions, t), 0);
		assert_ok(rv_sessions_verify(k.sessions));
		for (int id = 0; id < KILL_IDS; id++) { /* what was stored and not told of any more */
			rv_session *s = NULL;
			if (rv_sessions_get(k.sessions, name_of(id), &s) == RV_OK)
				t->turns[id] = s->turn_count;
			rv_free(s);
		}
		close_kit(&k);
	}
	/* control: a session put back by a turn is seen */
	open_kit(&k, 100, 0);
	t->turns[0]++;
	assert_int_equal(n_wrong(k.sessions, t), 1);
	print_message("%d kills, %d sessions put\n", N_KILLS, t->n);
	munmap(t, sizeof *t);
	drop_kit(&k);
}

/* ---- looking up is quick ---- */

static int by_value(const void *a, const void *b) {
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

/* Median of looking up every one of n sessions, in order and then again. */
static int64_t median_ns(kit *k, int n, int (*look)(kit *, int)) {
	int64_t *times = NULL;
	assert_ok(RV_ALLOC(&times, 2 * n, "times"));
	for (int i = 0; i < 2 * n; i++) {
		int64_t start = rv_now_ns();
		assert_true(look(k, i % n));
		times[i] = rv_now_ns() - start;
	}
	qsort(times, 2 * (size_t)n, sizeof *times, by_value);
	int64_t median = times[n];
	rv_free(times);
	return median;
}

static int slow_look(kit *k, int i) {
	usleep(150);
	return has(k, i);
}

static void a_look_takes_microseconds(void **state) {
	(void)state;
	enum { N = 1200 };
	kit k;
	make_kit(&k, 2000, 0);
	float embedding[RV_EMBEDDING_DIM] = {0};
	static rv_session all[N];
	static char names[N][24];
	for (int i = 0; i < N; i++) {
		strcpy(names[i], name_of(i));
		all[i] = (rv_session){.session_id = names[i],
		                      .context_embedding = embedding,
		                      .kv_cache_ref = {RV_KV_HOT, "12", 100, "f16", 1},
		                      .metadata = "{}"};
	}
	/* all or none */
	all[N - 1].turn_count = -1;
	assert_int_equal(rv_sessions_put_all(k.sessions, all, N), RV_ERR_INVALID);
	assert_int_equal(rv_sessions_count(k.sessions), 0);
	all[N - 1].turn_count = 0;
	all[N - 1].user_id = "somebody"; /* refused where it is written */
	assert_int_equal(rv_sessions_put_all(k.sessions, all, N), RV_ERR_INVALID);
	assert_ok(rv_sessions_verify(k.sessions));
	assert_int_equal(rv_sessions_count(k.sessions), 0);
	all[N - 1].user_id = NULL;
	assert_ok(rv_sessions_put_all(k.sessions, all, N));
	int64_t look = median_ns(&k, N, has);
	print_message("look-up among %d sessions: median %lld ns; %zu bytes a session\n", N,
	              (long long)look, rv_sessions_bytes(k.sessions) / N);
	assert_true(look < 100000);
	assert_true(median_ns(&k, 100, slow_look) > 100000); /* control */
	drop_kit(&k);
}

/* The table of ids against a plain array of what is in it. */
static void ids_are_found(void **state) {
	(void)state;
	enum { N = 500 };
	static char names[N][16];
	int in[N] = {0};
	rv_id_map map = {0};
	rv_rng rng;
	rv_rng_seed(&rng, 3);
	for (int i = 0; i < N; i++)
		snprintf(names[i], sizeof names[i], "%d", i * i);
	assert_int_equal(rv_id_map_get(&map, "0"), -1);
	assert_int_equal(rv_id_map_remove(&map, "0"), -1);
	assert_ok(rv_id_map_reserve(&map, 8));
	size_t n = 0;
	for (int round = 0; round < 20000; round++) {
		int i = (int)rv_rng_below(&rng, N);
		if (in[i]) {
			assert_int_equal(rv_id_map_remove(&map, names[i]), i);
		} else {
			assert_ok(rv_id_map_reserve(&map, n + 1));
			rv_id_map_put(&map, names[i], i);
		}
		in[i] = !in[i];
		n += in[i] ? 1 : (size_t)-1;
		int j = (int)rv_rng_below(&rng, N);
		assert_int_equal(rv_id_map_get(&map, names[j]), in[j] ? j : -1);
		assert_int_equal(map.n, n);
	}
	rv_id_map_deinit(&map);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(fields_come_back),
	        cmocka_unit_test(bad_sessions_are_refused),
	        cmocka_unit_test(the_unused_expire),
	        cmocka_unit_test(the_longest_unused_makes_room),
	        cmocka_unit_test(damage_is_named),
	        cmocka_unit_test(many_at_once),
	        cmocka_unit_test(a_kill_loses_no_session),
	        cmocka_unit_test(a_look_takes_microseconds),
	        cmocka_unit_test(ids_are_found),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
