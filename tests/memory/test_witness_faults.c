/* What may happen to the witness log. A kill at any moment: nothing is lost but the last 100 entries or
 * those of the last second, nothing comes twice or out of order, and the chain verifies. A full disk, a
 * store that another program holds: requests go on, and so does the log afterwards. */
#include "base/mem.h"
#include "tests/memory/witness_kit.h"

#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { MAX_ENTRIES = 200000, N_KILLS = 30, FEW = 100 };

/* Shared with the child: what it was told is appended, and when. */
typedef struct told {
	_Atomic int n, flushed; /* flushed: entries a barrier was passed for */
	int64_t at_ns[MAX_ENTRIES];
} told;

/* Appends until it is killed, `pause_us` after every `burst`. */
static void child_main(const char *dir, told *t, int first, int burst, useconds_t pause_us) {
	rv_store *store;
	rv_witness *w;
	rv_witness_options o = rv_witness_defaults();
	o.retain_ms = 0;
	if (rv_store_open(&store, dir, NULL) != RV_OK || rv_witness_open(&w, store, &o) != RV_OK)
		_exit(1);
	numbered e;
	for (int i = 0; i < MAX_ENTRIES; i++) {
		number_fill(&e, first + i);
		if (rv_witness_append(w, &e.entry) != RV_OK)
			_exit(2);
		t->at_ns[i] = rv_now_ns();
		atomic_store(&t->n, i + 1);
		if (i % 1000 == 700) {
			if (rv_witness_flush(w) != RV_OK)
				_exit(3);
			atomic_store(&t->flushed, i + 1);
		}
		if (i % burst == burst - 1)
			usleep(pause_us);
	}
	_exit(4);
}

/* Of n entries told, the first `kept` are there. */
static int is_within_bounds(const told *t, int kept, int n, int64_t killed_ns) {
	if (kept < atomic_load(&t->flushed))
		return 0;
	if (n - kept <= FEW)
		return 1;
	return killed_ns - t->at_ns[kept] <= INT64_C(1000000000);
}

static rv_status check_order(void *user, const rv_witness_hit *hit) {
	int64_t *next = user; /* newest first */
	if (hit->key != *next || hit->entry.timestamp != T0 + *next - 1)
		return rv_fail(RV_ERR_MISMATCH, "entry %lld where %lld should be", (long long)hit->key,
		               (long long)*next);
	--*next;
	return RV_OK;
}

static int n_stored(const char *dir) {
	log_kit k;
	rv_witness_report report;
	rv_witness_options o = rv_witness_defaults();
	rv_witness_query q = rv_witness_query_defaults();
	snprintf(k.dir, sizeof k.dir, "%s", dir);
	o.retain_ms = 0;
	kit_open(&k, NULL, &o);
	assert_ok(rv_witness_verify(k.witness, NULL, &report));
	int64_t next = report.n_entries;
	q.limit = 500; /* the youngest one by one; the chain vouches for the others */
	assert_ok(rv_witness_search(k.witness, &q, check_order, &next));
	kit_close(&k);
	return (int)report.n_entries;
}

static void a_kill_loses_little(void **state) {
	(void)state;
	/* entries between pauses, and their length: from idle to as fast as it goes */
	static const struct {
		int burst;
		useconds_t pause_us;
	} paces[] = {{1, 20000}, {1, 2000}, {7, 1000}, {60, 5000}, {250, 50000}, {100000, 0}};
	char dir[256];
	folder_make(dir);
	told *t = mmap(NULL, sizeof *t, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(t != MAP_FAILED);
	rv_rng rng;
	rv_rng_seed(&rng, 1);
	int total = 0, n_lost = 0, most_lost = 0, n_appended = 0;
	for (int i = 0; i < N_KILLS; i++) {
		int p = i % (int)(sizeof paces / sizeof *paces);
		atomic_store(&t->n, 0);
		atomic_store(&t->flushed, 0);
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			child_main(dir, t, total, paces[p].burst, paces[p].pause_us);
		while (atomic_load(&t->n) == 0 && waitpid(pid, NULL, WNOHANG) == 0)
			usleep(200);
		usleep((useconds_t)rv_rng_below(&rng, i % 10 == 0 ? 1200000 : 100000));
		kill(pid, SIGKILL);
		int64_t killed_ns = rv_now_ns();
		int status;
		waitpid(pid, &status, 0);
		assert_true(WIFSIGNALED(status)); /* it had not failed */
		int n = atomic_load(&t->n), kept = n_stored(dir) - total;
		/* one may be stored that the child was not told of any more */
		assert_true(kept >= 0 && kept <= n + 1);
		if (!is_within_bounds(t, kept, n, killed_ns))
			fail_msg("kill %d: %d of %d entries kept", i, kept, n);
		int lost = kept < n ? n - kept : 0;
		most_lost = lost > most_lost ? lost : most_lost;
		n_lost += lost;
		n_appended += n;
		total += kept;
	}
	print_message("%d kills, %d entries appended, %d lost, at most %d at a time\n", N_KILLS,
	              n_appended, n_lost, most_lost);
	assert_true(n_lost > 0); /* the kills hit where something can be lost */
	munmap(t, sizeof *t);
	folder_remove(dir);
}

/* The bounds themselves: a log that loses more is caught. */
static void losing_more_is_caught(void **state) {
	(void)state;
	told *t = mmap(NULL, sizeof *t, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(t != MAP_FAILED);
	for (int i = 0; i < 1000; i++)
		t->at_ns[i] = (int64_t)i * 10000000; /* 100 a second: ten seconds */
	int64_t now = INT64_C(10000000000);
	assert_true(is_within_bounds(t, 900, 1000, now));
	assert_false(is_within_bounds(t, 898, 1000, now)); /* 102 entries, the oldest 1.02 s old */
	for (int i = 0; i < 1000; i++)
		t->at_ns[i] = (int64_t)i * 1000000; /* 1000 a second: all within it */
	assert_true(is_within_bounds(t, 1, 1000, INT64_C(1000000000)));
	atomic_store(&t->flushed, 2); /* but not what a barrier was passed for */
	assert_false(is_within_bounds(t, 1, 1000, INT64_C(1000000000)));
	munmap(t, sizeof *t);
}

/* ---- a disk that takes no more ---- */

static void limit_files(rlim_t bytes) {
	struct rlimit r;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &r), 0);
	r.rlim_cur = bytes < r.rlim_max ? bytes : r.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &r), 0);
}

static void a_full_disk_stops_no_request(void **state) {
	(void)state;
	enum { CAPACITY = 400, BEFORE = 100, MORE = 30 };
	log_kit k;
	rv_witness_stats s;
	rv_witness_report report;
	rv_witness_options o = kit_make(&k);
	kit_close(&k);
	o.queue_capacity = CAPACITY;
	kit_open(&k, NULL, &o);
	append_numbered(k.witness, 0, BEFORE);
	assert_ok(rv_witness_flush(k.witness));
	signal(SIGXFSZ, SIG_IGN);
	limit_files(4096); /* the log of the database is longer already */
	numbered e;
	for (int i = BEFORE; i < BEFORE + CAPACITY + MORE; i++) {
		number_fill(&e, i);
		assert_int_equal(rv_witness_append(k.witness, &e.entry),
		                 i < BEFORE + CAPACITY ? RV_OK : RV_ERR_LIMIT);
	}
	/* who asks is told; nothing is given up */
	assert_int_not_equal(rv_witness_flush(k.witness), RV_OK);
	assert_non_null(strstr(rv_error_message(), "memory.db"));
	assert_int_not_equal(rv_witness_append_sync(k.witness, &e.entry), RV_OK);
	rv_witness_get_stats(k.witness, &s);
	assert_true(s.committed == BEFORE && s.queued == CAPACITY && s.failed_batches > 0);
	assert_ok(rv_witness_verify(k.witness, NULL, &report));
	assert_int_equal(report.n_entries, BEFORE);
	limit_files(RLIM_INFINITY);
	assert_ok(rv_witness_flush(k.witness));
	rv_witness_get_stats(k.witness, &s);
	assert_true(s.committed == BEFORE + CAPACITY && s.queued == 0 && s.dropped == MORE + 1);
	kit_close(&k);
	assert_int_equal(n_stored(k.dir), BEFORE + CAPACITY);
	/* closing while it is full says what is lost */
	kit_open(&k, NULL, &o);
	append_numbered(k.witness, BEFORE + CAPACITY, 10);
	limit_files(4096);
	assert_int_not_equal(rv_witness_close(k.witness), RV_OK);
	limit_files(RLIM_INFINITY);
	assert_ok(rv_store_close(k.store));
	assert_int_equal(n_stored(k.dir), BEFORE + CAPACITY);
	folder_remove(k.dir);
}

/* ---- a store that is gone ---- */

static void a_locked_database_stops_no_request(void **state) {
	(void)state;
	log_kit k;
	rv_witness_stats s;
	rv_store_options so = rv_store_defaults();
	so.busy_timeout_ms = 20;
	folder_make(k.dir);
	kit_open(&k, &so, NULL);
	append_numbered(k.witness, 0, 10);
	assert_ok(rv_witness_flush(k.witness));
	char path[300];
	sqlite3 *other;
	snprintf(path, sizeof path, "%s/memory.db", k.dir);
	assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
	sqlite3_busy_timeout(other, 5000); /* retention may be looking */
	assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	append_numbered(k.witness, 10, 10);
	assert_int_equal(rv_witness_flush(k.witness), RV_ERR_LIMIT);
	append_numbered(k.witness, 20, 10);
	rv_witness_get_stats(k.witness, &s);
	assert_true(s.committed == 10 && s.queued == 20);
	assert_int_equal(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
	/* by itself, without anybody asking */
	assert_int_equal(wait_committed(k.witness, 30), 30);
	sqlite3_close(other);
	kit_drop(&k);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(a_kill_loses_little),
	        cmocka_unit_test(losing_more_is_caught),
	        cmocka_unit_test(a_full_disk_stops_no_request),
	        cmocka_unit_test(a_locked_database_stops_no_request),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
