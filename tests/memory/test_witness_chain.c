/* The chain: whatever is done to the log behind its back shows, at the first entry it was done to. */
#include "base/file.h"
#include "base/mem.h"
#include "tests/memory/witness_kit.h"

#include <sqlite3.h>

enum { N = 40 };

/* What any program with the database open can do. */
static void tamper(const char *dir, const char *sql) {
	char path[300], *message = NULL;
	sqlite3 *db;
	snprintf(path, sizeof path, "%s/memory.db", dir);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	sqlite3_busy_timeout(db, 5000);
	if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
		fail_msg("%s: %s", sql, message);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* One entry of N altered in each of its columns, and put back. */
static void every_column_counts(void **state) {
	(void)state;
	static const char *const columns[] = {
	        "session_id",
	        "query_embedding",
	        "model",
	        "context_size",
	        "temperature",
	        "top_p",
	        "confidence",
	        "probability_0",
	        "probability_1",
	        "probability_2",
	        "probability_3",
	        "model_used",
	        "quality_score",
	        "embedding_ms",
	        "retrieval_ms",
	        "routing_ms",
	        "attention_ms",
	        "generation_ms",
	        "total_ms",
	        "context_doc_ids",
	        "timestamp",
	        "error",
	        "response_embedding",
	        "hash",
	        "request_id",
	        "user_id",
	};
	log_kit k;
	kit_make(&k);
	append_numbered(k.witness, 0, N);
	assert_ok(rv_witness_flush(k.witness));
	rv_witness_report report;
	for (size_t c = 0; c < sizeof columns / sizeof *columns; c++) {
		char sql[400];
		/* the last digit of a text or number, the last byte of a blob, what is NULL */
		snprintf(sql, sizeof sql,
		         "CREATE TABLE kept AS SELECT key, %1$s AS old FROM witness WHERE key = 21;"
		         "UPDATE witness SET %1$s = CASE typeof(%1$s) WHEN 'null' THEN 'x'"
		         " WHEN 'text' THEN %1$s || 'x' WHEN 'blob' THEN"
		         " CAST(substr(%1$s, 1, length(%1$s) - 1) || x'77' AS BLOB)"
		         " ELSE %1$s + 1 END WHERE key = 21",
		         columns[c]);
		tamper(k.dir, sql);
		if (rv_witness_verify(k.witness, NULL, &report) != RV_ERR_FORMAT)
			fail_msg("%s was altered and nobody saw it", columns[c]);
		assert_non_null(strstr(rv_error_message(), "table witness, entry 21: altered"));
		assert_true(report.bad_key == 21 && report.n_entries == 20 && report.last_key == 20);
		snprintf(sql, sizeof sql,
		         "UPDATE witness SET %1$s = (SELECT old FROM kept) WHERE key = 21; DROP TABLE "
		         "kept",
		         columns[c]);
		tamper(k.dir, sql);
		assert_ok(rv_witness_verify(k.witness, NULL, &report)); /* control */
		assert_true(report.bad_key == 0 && report.n_entries == N && report.last_key == N);
	}
	kit_drop(&k);
}

static const struct {
	const char *sql;
	int64_t bad_key;
	const char *how;
	int refused; /* at the next open */
} attacks[] = {
        {"DELETE FROM witness WHERE key = 1", 1, "missing", 0},
        {"DELETE FROM witness WHERE key = 17", 17, "missing", 0},
        {"DELETE FROM witness WHERE key BETWEEN 17 AND 30", 17, "missing", 0},
        {"DELETE FROM witness WHERE key = 40", 40, "the end of the chain was cut off", 0},
        {"DELETE FROM witness WHERE key > 12", 13, "the end of the chain was cut off", 0},
        {"DELETE FROM witness", 1, "the end of the chain was cut off", 0},
        /* reordered */
        {"UPDATE witness SET key = -1 WHERE key = 8; UPDATE witness SET key = 8 WHERE key = 9;"
         "UPDATE witness SET key = 9 WHERE key = -1",
         8, "altered, or not where it was", 0},
        /* removed, and the gap closed */
        {"DELETE FROM witness WHERE key = 30; UPDATE witness SET key = key - 1 WHERE key > 30", 30,
         "altered, or not where it was", 0},
        /* one more, in the chain's form or not */
        {"CREATE TEMP TABLE t AS SELECT * FROM witness WHERE key = 40; UPDATE t SET key = 41;"
         "INSERT INTO witness SELECT * FROM t",
         41, "beyond the end", 1},
        {"CREATE TEMP TABLE t AS SELECT * FROM witness WHERE key = 40; UPDATE t SET key = 0;"
         "INSERT INTO witness SELECT * FROM t",
         1, "before the chain's begin", 1},
        {"DELETE FROM meta WHERE name = 'witness_chain'", 1, "beyond the end", 1},
};

static void copy(const char *from, const char *to) {
	char path[300], *data;
	size_t size;
	snprintf(path, sizeof path, "%s/memory.db", from);
	assert_ok(rv_file_read(path, 1 << 24, &data, &size));
	snprintf(path, sizeof path, "%s/memory.db", to);
	assert_ok(rv_file_write(path, data, size));
	rv_free(data);
}

/* Each on a copy; then entries are added after it: what was done stays visible, where it was. */
static void first_bad_one_is_named(void **state) {
	(void)state;
	log_kit k;
	rv_witness_options o = kit_make(&k);
	append_numbered(k.witness, 0, N);
	kit_close(&k);
	for (size_t a = 0; a < sizeof attacks / sizeof *attacks; a++) {
		log_kit c;
		rv_witness_report report;
		folder_make(c.dir);
		copy(k.dir, c.dir);
		kit_open(&c, NULL, &o);
		assert_ok(rv_witness_verify(c.witness, NULL, &report)); /* control: the copy is good */
		tamper(c.dir, attacks[a].sql);
		for (int again = 0; again < 2; again++) {
			assert_int_equal(rv_witness_verify(c.witness, NULL, &report), RV_ERR_FORMAT);
			if (strstr(rv_error_message(), again ? "entry" : attacks[a].how) == NULL ||
			    report.bad_key != attacks[a].bad_key)
				fail_msg("%s: %s", attacks[a].sql, rv_error_message());
			if (attacks[a].refused)
				break;
			append_numbered(c.witness, N, 3);
			assert_ok(rv_witness_flush(c.witness));
		}
		assert_ok(rv_witness_close(c.witness));
		rv_status st = rv_witness_open(&c.witness, c.store, &o);
		assert_int_equal(st, attacks[a].refused ? RV_ERR_FORMAT : RV_OK);
		if (st == RV_OK)
			assert_ok(rv_witness_close(c.witness));
		assert_ok(rv_store_close(c.store));
		folder_remove(c.dir);
	}
	folder_remove(k.dir);
}

/* Who may write everything can write the chain anew; not past a head that was noted. */
static void a_noted_head_tells(void **state) {
	(void)state;
	log_kit k, other;
	rv_witness_mark head, early;
	rv_witness_report report;
	kit_make(&k);
	append_numbered(k.witness, 0, 10);
	assert_ok(rv_witness_flush(k.witness));
	rv_witness_head(k.witness, &early);
	append_numbered(k.witness, 10, 10);
	assert_ok(rv_witness_flush(k.witness));
	rv_witness_head(k.witness, &head);
	assert_true(early.key == 10 && head.key == 20);
	assert_ok(rv_witness_verify(k.witness, &early, &report));
	assert_ok(rv_witness_verify(k.witness, &head, &report));
	kit_make(&other); /* the same but for entry 7 */
	append_numbered(other.witness, 0, 6);
	append_numbered(other.witness, 100, 1);
	append_numbered(other.witness, 7, 13);
	assert_ok(rv_witness_flush(other.witness));
	assert_ok(rv_witness_verify(other.witness, NULL, &report));
	assert_int_equal(rv_witness_verify(other.witness, &early, &report), RV_ERR_FORMAT);
	assert_int_equal(report.bad_key, 10);
	/* and not with the whole database put back */
	kit_drop(&other);
	kit_make(&other);
	append_numbered(other.witness, 0, 12);
	assert_ok(rv_witness_flush(other.witness));
	assert_ok(rv_witness_verify(other.witness, &early, &report));
	assert_int_equal(rv_witness_verify(other.witness, &head, &report), RV_ERR_FORMAT);
	assert_int_equal(report.bad_key, 13);
	kit_drop(&other);
	kit_drop(&k);
}

/* ---- retention ---- */

static void retention_keeps_the_chain(void **state) {
	(void)state;
	log_kit k;
	rv_witness_mark early, late;
	rv_witness_report report;
	rv_witness_options o = kit_make(&k);
	int64_t n;
	append_numbered(k.witness, 0, 10);
	assert_ok(rv_witness_flush(k.witness));
	rv_witness_head(k.witness, &early);
	append_numbered(k.witness, 10, 20);
	numbered e;
	number_fill(&e, 30);
	e.entry.timestamp = T0 + 5; /* came late: goes with those before it */
	assert_ok(rv_witness_append(k.witness, &e.entry));
	append_numbered(k.witness, 31, 9);
	assert_ok(rv_witness_flush(k.witness));
	rv_witness_head(k.witness, &late);
	assert_ok(rv_witness_retire(k.witness, T0, &n));
	assert_int_equal(n, 0);
	assert_ok(rv_witness_retire(k.witness, T0 + 25, &n));
	assert_int_equal(n, 25);
	for (int again = 0; again < 2; again++) {
		assert_ok(rv_witness_verify(k.witness, &early,
		                            &report)); /* cut off: nothing to compare */
		assert_ok(rv_witness_verify(k.witness, &late, &report));
		assert_true(report.first_key == 26 && report.last_key == N && report.n_entries == 15);
		kit_close(&k);
		kit_open(&k, NULL, &o);
	}
	tamper(k.dir, "DELETE FROM witness WHERE key = 26"); /* more than retention took */
	assert_int_equal(rv_witness_verify(k.witness, NULL, &report), RV_ERR_FORMAT);
	assert_int_equal(report.bad_key, 26);
	assert_ok(rv_witness_retire(k.witness, INT64_MAX, &n)); /* all */
	assert_int_equal(n, 14);
	assert_int_equal(rv_witness_verify(k.witness, NULL, &report), RV_OK);
	append_numbered(k.witness, 40, 1);
	assert_ok(rv_witness_flush(k.witness));
	assert_ok(rv_witness_verify(k.witness, &late, &report));
	assert_true(report.n_entries == 1 && report.first_key == N + 1);
	kit_drop(&k);
}

/* By itself, on the store's clock: seven days, looked at once an hour. */
static void retention_runs(void **state) {
	(void)state;
	log_kit k;
	rv_sim_clock sim;
	rv_witness_report report;
	rv_store_options so = rv_store_defaults();
	int64_t n = 0, end = rv_now_ns() + INT64_C(10000000000);
	rv_sim_clock_init(&sim, T0 + 1000);
	so.clock = rv_sim_clock_source(&sim);
	folder_make(k.dir);
	kit_open(&k, &so, NULL);
	append_numbered(k.witness, 0, 10);
	assert_ok(rv_witness_flush(k.witness));
	rv_sim_clock_advance(&sim, 7 * INT64_C(86400000));
	/* The look after a commit may come late, and see what the clock was set to meanwhile: then the
	 * entry after it waits for the next hour's. */
	for (int i = 10; (i == 10 || n > 0) && rv_now_ns() < end; i++) {
		rv_sim_clock_advance(&sim, INT64_C(3600001));
		append_numbered(k.witness, i, 1);
		assert_ok(rv_witness_flush(k.witness));
		for (int wait = 0; (wait == 0 || n > 0) && wait < 100; wait++) {
			assert_ok(rv_witness_verify(k.witness, NULL, &report));
			n = report.n_entries;
			usleep(1000);
		}
	}
	assert_int_equal(n, 0); /* the last are as old by their own time */
	append_numbered(k.witness, 0, 1);
	assert_ok(rv_witness_flush(k.witness));
	usleep(20000);
	assert_ok(rv_witness_verify(k.witness, NULL, &report));
	assert_int_equal(report.n_entries, 1); /* within the hour nothing goes */
	kit_drop(&k);
}

/* ---- with a key ---- */

static int file_holds(const char *path, const char *text) {
	char *data;
	size_t size;
	if (rv_file_read(path, 1 << 26, &data, &size) != RV_OK)
		return 0;
	int found = memmem(data, size, text, strlen(text)) != NULL;
	rv_free(data);
	return found;
}

static int store_holds(const char *dir, const char *text) {
	char path[300];
	snprintf(path, sizeof path, "%s/memory.db", dir);
	int found = file_holds(path, text);
	snprintf(path, sizeof path, "%s/memory.db-wal", dir);
	return found || file_holds(path, text);
}

static rv_status take_error(void *user, const rv_witness_hit *hit) {
	snprintf(user, 64, "%s", hit->entry.error ? hit->entry.error : "");
	return RV_OK;
}

static void text_is_sealed(void **state) {
	(void)state;
	log_kit k;
	char key[300], error[64];
	rv_store_options so = rv_store_defaults();
	rv_witness_options o = rv_witness_defaults();
	rv_witness_query q = rv_witness_query_defaults();
	rv_witness_report report;
	numbered e;
	o.retain_ms = 0;
	for (int with_key = 0; with_key < 2; with_key++) {
		folder_make(k.dir);
		snprintf(key, sizeof key, "%s/key", k.dir);
		if (with_key)
			assert_ok(rv_secret_create_key(key));
		so.key_file = with_key ? key : NULL;
		kit_open(&k, &so, &o);
		append_numbered(k.witness, 0, 21);
		number_fill(&e, 21);
		e.entry.user_id = "somebody";
		assert_int_equal(rv_witness_append(k.witness, &e.entry),
		                 with_key ? RV_OK : RV_ERR_INVALID);
		assert_ok(rv_witness_flush(k.witness));
		q.error_text = "attempt 20";
		assert_ok(rv_witness_search(k.witness, &q, take_error, error));
		assert_string_equal(error, "Attempt 20 ran out of time");
		/* the control is the store without a key */
		assert_int_equal(store_holds(k.dir, "ran out of time"), !with_key);
		assert_ok(rv_witness_verify(k.witness, NULL, &report));
		assert_int_equal(report.is_sealed, with_key);
		kit_close(&k);
		if (!with_key)
			folder_remove(k.dir);
	}
	/* without the key the log does not open; with it, a seal does not open in another's place */
	so.key_file = NULL;
	assert_ok(rv_store_open(&k.store, k.dir, &so));
	assert_int_equal(rv_witness_open(&k.witness, k.store, &o), RV_ERR_INVALID);
	assert_non_null(strstr(rv_error_message(), "witness_chain"));
	assert_ok(rv_store_close(k.store));
	so.key_file = key;
	kit_open(&k, &so, &o);
	tamper(k.dir, "UPDATE witness SET error = (SELECT error FROM witness WHERE key = 1)"
	              " WHERE key = 11");
	assert_int_equal(rv_witness_search(k.witness, &q, take_error, error), RV_ERR_FORMAT);
	assert_int_equal(rv_witness_verify(k.witness, NULL, &report), RV_ERR_FORMAT);
	assert_int_equal(report.bad_key, 11);
	/* nor can the record be replaced by another's */
	tamper(k.dir, "UPDATE meta SET value = replace(value, substr(value, 150, 2),"
	              " CASE substr(value, 150, 2) WHEN '00' THEN '01' ELSE '00' END)"
	              " WHERE name = 'witness_chain'");
	assert_int_equal(rv_witness_verify(k.witness, NULL, &report), RV_ERR_FORMAT);
	assert_non_null(strstr(rv_error_message(), "witness_chain"));
	kit_drop(&k);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(every_column_counts), cmocka_unit_test(first_bad_one_is_named),
	        cmocka_unit_test(a_noted_head_tells),  cmocka_unit_test(retention_keeps_the_chain),
	        cmocka_unit_test(retention_runs),      cmocka_unit_test(text_is_sealed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
