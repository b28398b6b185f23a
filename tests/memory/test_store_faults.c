/* Databases that are damaged, cut off, foreign, older or newer; folders that cannot be written. */
#include "tests/memory/bank_kit.h"

#include "base/file.h"
#include "memory/policies.h"

#include <sqlite3.h>
#include <sys/stat.h>

static char dir[256], db_path[300];

static int begin(void **state) {
	(void)state;
	folder_make(dir);
	snprintf(db_path, sizeof db_path, "%s/memory.db", dir);
	return 0;
}

static int finish(void **state) {
	(void)state;
	folder_remove(dir);
	return 0;
}

static void sql(const char *path, const char *text) {
	sqlite3 *db;
	char *why = NULL;
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	if (sqlite3_exec(db, text, NULL, NULL, &why) != SQLITE_OK)
		fail_msg("%s: %s", text, why);
	sqlite3_close(db);
}

/* A sound store with `n` patterns in the folder. */
static void make_store(int n) {
	rv_store *store;
	rv_bank *bank;
	rv_bank_options o = rv_bank_defaults(RV_BANK_VARIANT_BASE);
	folder_remove(dir);
	assert_int_equal(mkdir(dir, 0700), 0);
	assert_ok(rv_store_open(&store, dir, NULL));
	assert_ok(rv_bank_open(&bank, store, &o));
	for (int i = 0; i < n; i++)
		assert_ok(kit_add(bank, i, 0, 0.9f));
	assert_ok(rv_bank_close(bank));
	assert_ok(rv_store_close(store));
}

static void refused(rv_status want, const char *message) {
	for (int read_only = 0; read_only < 2; read_only++) {
		rv_store *store = NULL;
		rv_store_options o = rv_store_defaults();
		o.read_only = read_only;
		rv_status st = rv_store_open(&store, dir, &o);
		if (st != want || strstr(rv_error_message(), message) == NULL ||
		    strstr(rv_error_message(), "memory.db") == NULL)
			fail_msg("read_only %d: status %d, %s", read_only, (int)st, rv_error_message());
		assert_null(store);
	}
}

static void foreign_files(void **state) {
	(void)state;
	make_store(0);
	assert_ok(rv_file_write(db_path, "<html>not found</html>", 22));
	refused(RV_ERR_FORMAT, "no SQLite database");
	char text[200];
	memset(text, 'x', sizeof text);
	assert_ok(rv_file_write(db_path, text, sizeof text));
	refused(RV_ERR_FORMAT, "no SQLite database");
	unlink(db_path);
	sql(db_path, "CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)");
	refused(RV_ERR_FORMAT, "the database of another program (application_id 0x00000000)");
	sql(db_path, "PRAGMA application_id = 252006674"); /* Fossil's */
	refused(RV_ERR_FORMAT, "the database of another program (application_id 0x0f055112)");
	/* and is as it was */
	sql(db_path, "SELECT x FROM theirs");
	unlink(db_path);
	assert_int_equal(mkdir(db_path, 0700), 0);
	refused(RV_ERR_INVALID, "a directory");
	rmdir(db_path);
	assert_int_equal(mkfifo(db_path, 0600), 0);
	refused(RV_ERR_INVALID, "not a regular file");
	unlink(db_path);
	assert_int_equal(symlink("/etc/passwd", db_path), 0);
	refused(RV_ERR_INVALID, "a link");
	unlink(db_path);
	/* what a kill leaves of a new one is new still */
	assert_ok(rv_file_write(db_path, "", 0));
	rv_store *store;
	assert_ok(rv_store_open(&store, dir, NULL));
	assert_ok(rv_store_close(store));
}

static void versions(void **state) {
	(void)state;
	char text[80];
	make_store(2);
	snprintf(text, sizeof text, "PRAGMA user_version = %d", rv_store_version() + 1);
	sql(db_path, text);
	snprintf(text, sizeof text, "version %d; newer than %d", rv_store_version() + 1,
	         rv_store_version());
	refused(RV_ERR_UNSUPPORTED, text);
	snprintf(text, sizeof text, "PRAGMA user_version = %d", rv_store_version());
	sql(db_path, text);
	rv_store *store;
	assert_ok(rv_store_open(&store, dir, NULL));
	assert_ok(rv_store_close(store));
	/* an empty database of ours at version 0 is brought up; for reading only it is not */
	make_store(0);
	unlink(db_path);
	sql(db_path, "PRAGMA application_id = 1383486547; PRAGMA user_version = 0; VACUUM");
	rv_store_options o = rv_store_defaults();
	o.read_only = 1;
	store = NULL;
	assert_int_equal(rv_store_open(&store, dir, &o), RV_ERR_UNSUPPORTED);
	assert_non_null(strstr(rv_error_message(), "open it for writing once"));
	assert_ok(rv_store_open(&store, dir, NULL));
	assert_ok(rv_store_close(store));
}

/* A store as each version wrote it, as SQL. Never written anew: what is added here is the next
 * version's.
 */
static void stores_of_every_version(void **state) {
	(void)state;
	for (int version = 1; version <= rv_store_version(); version++) {
		char path[80], *text;
		size_t size;
		rv_store *store;
		rv_bank *bank;
		rv_bank_options o = rv_bank_defaults(RV_BANK_VARIANT_BASE);
		snprintf(path, sizeof path, "tests/memory/store-%d.sql", version);
		make_store(0);
		unlink(db_path);
		assert_ok(rv_file_read(path, 1 << 20, &text, &size));
		sql(db_path, text);
		rv_free(text);
		assert_ok(rv_store_open(&store, dir, NULL));
		assert_ok(rv_bank_open(&bank, store, &o));
		assert_ok(rv_bank_verify(bank));
		assert_int_equal(rv_bank_count(bank), 1);
		assert_int_equal(rv_bank_bind_embedder(bank, "fedcba9876543210"), RV_ERR_MISMATCH);
		rv_trajectory t;
		assert_ok(rv_bank_get(bank, "00000001-0000-4000-8000-000000000002", &t));
		assert_string_equal(t.task, "task 2 of topic 1");
		assert_true(t.n_states == 1 && t.n_actions == 2 && t.final_quality == 0.75f &&
		            t.model_index == 2 && t.n_routing_features == 3 &&
		            t.created_at == KIT_START);
		rv_trajectory_deinit(&t);
		rv_policies *policies;
		rv_policy policy;
		assert_ok(rv_policies_open(&policies, store, NULL));
		assert_ok(rv_policies_get(policies, RV_POLICY_ROUTER, &policy));
		assert_true(policy.origin == RV_POLICY_STORED && policy.n_fisher == 2 &&
		            policy.confidence == 0.5f);
		assert_string_equal(policy.parameters, "{\"model\":\"nano\"}");
		rv_policy_deinit(&policy);
		assert_ok(rv_policies_close(policies));
		assert_ok(rv_bank_close(bank));
		assert_ok(rv_store_close(store));
	}
}

/* Opens everything and reads everything. */
static rv_status read_all(int64_t *count) {
	rv_store *store;
	rv_bank *bank;
	rv_bank_options o = rv_bank_defaults(RV_BANK_VARIANT_BASE);
	RV_TRY(rv_store_open(&store, dir, NULL));
	rv_status st = rv_bank_open(&bank, store, &o);
	if (st == RV_OK) {
		st = rv_bank_verify(bank);
		*count = rv_bank_count(bank);
		char message[RV_ERROR_MESSAGE_MAX];
		snprintf(message, sizeof message, "%s", rv_error_message());
		rv_bank_close(bank);
		if (st != RV_OK)
			rv_fail(st, "%s", message);
	}
	char message[RV_ERROR_MESSAGE_MAX];
	snprintf(message, sizeof message, "%s", rv_error_message());
	rv_status closed = rv_store_close(store);
	return st != RV_OK ? rv_fail(st, "%s", message) : closed;
}

/* No crash, no wrong content: refused by name, or all of it is there as it was. */
static void every_cut(void **state) {
	(void)state;
	char *whole;
	size_t size;
	int n_refused = 0, n = 0;
	make_store(3);
	assert_ok(rv_file_read(db_path, 1 << 26, &whole, &size));
	for (size_t cut = 1; cut < size; cut += cut % 4096 == 0 ? 1 : 4096 - cut % 4096, n++) {
		int64_t count = -1;
		assert_ok(rv_file_write(db_path, whole, cut));
		rv_status st = read_all(&count);
		n_refused += st != RV_OK;
		if (st == RV_OK && count != 3)
			fail_msg("cut at %zu: opened with %lld of 3", cut, (long long)count);
		if (st != RV_OK && strstr(rv_error_message(), "memory.db") == NULL)
			fail_msg("cut at %zu: %s", cut, rv_error_message());
	}
	printf("# %d of %d cuts refused\n", n_refused, n);
	assert_int_equal(n_refused, n);
	assert_ok(rv_file_write(db_path, whole, size));
	int64_t count = -1;
	assert_ok(read_all(&count));
	assert_int_equal(count, 3);
	rv_free(whole);
}

static void flipped_bits(void **state) {
	(void)state;
	char *whole;
	size_t size;
	rv_rng rng;
	int n_refused = 0, n_same = 0;
	make_store(3);
	assert_ok(rv_file_read(db_path, 1 << 26, &whole, &size));
	rv_rng_seed(&rng, 3);
	for (int i = 0; i < 150; i++) {
		size_t at = i < 50 ? (size_t)(i * 2) : (size_t)rv_rng_below(&rng, size);
		char bit = (char)(1 << rv_rng_below(&rng, 8));
		whole[at] = (char)(whole[at] ^ bit);
		assert_ok(rv_file_write(db_path, whole, size));
		whole[at] = (char)(whole[at] ^ bit);
		int64_t count = -1;
		rv_status st = read_all(&count);
		n_refused += st != RV_OK;
		n_same += st == RV_OK;
		if (st == RV_OK && count != 3)
			fail_msg("byte %zu: opened with %lld of 3", at, (long long)count);
	}
	/* what is left over of pages holds nothing: flips there change nothing */
	printf("# of 150 flipped bits %d refused, %d in unused bytes\n", n_refused, n_same);
	assert_true(n_refused >= 20);
	rv_free(whole);
}

/* Every column of every row: a changed value is told by its row. */
static void changed_rows(void **state) {
	(void)state;
	static const char *const changes[] = {
	        "task = task || 'x'",
	        "final_quality = final_quality / 2",
	        "quality = quality / 2",
	        "weight = weight + 1",
	        "verdict = 'unknown'",
	        "source = 'deep_loop'",
	        "created_at = created_at + 1",
	        "embedding = zeroblob(3072)",
	        "embedding = x'00'",
	        "states = zeroblob(3088)",
	        "states = x'00'",
	        "actions = '[]'",
	        "actions = '['",
	        "metadata = '{\"a\":1}'",
	        "session_id = 's'",
	        "request_id = 's'",
	        "model_index = 1",
	        "query_embedding = NULL",
	        "response_embedding = x''",
	        "routing_features = x'00000000'",
	        "content_crc = content_crc + 1",
	        "state_crc = state_crc + 1",
	        "trajectory_id = 'ffffffff-0000-4000-8000-000000000000'",
	        "trajectory_id = 'x'",
	};
	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
		char text[200];
		int64_t count;
		make_store(2);
		snprintf(text, sizeof text, "UPDATE trajectories SET %s WHERE key = 2", changes[i]);
		sql(db_path, text);
		rv_status st = read_all(&count);
		if (st == RV_OK || strstr(rv_error_message(), "memory.db") == NULL)
			fail_msg("%s: status %d, %s", changes[i], (int)st, rv_error_message());
	}
	/* a row gone or come from elsewhere is no damage: the index follows */
	int64_t count = -1;
	make_store(3);
	sql(db_path, "DELETE FROM trajectories WHERE key = 2");
	assert_ok(read_all(&count));
	assert_int_equal(count, 2);
}

/* The index file is a cache: whatever is in its place, the bank is that of the store. */
static void index_files(void **state) {
	(void)state;
	char path[300], *whole, *older;
	size_t size, older_size;
	int64_t count = -1;
	snprintf(path, sizeof path, "%s/bank-base.hnsw", dir);
	make_store(2);
	assert_ok(rv_file_read(path, 1 << 26, &older, &older_size));
	make_store(5);
	assert_ok(rv_file_read(path, 1 << 26, &whole, &size));
	for (int i = 0; i < 6; i++) {
		rv_store *store;
		rv_bank *bank;
		rv_bank_options o = rv_bank_defaults(RV_BANK_VARIANT_BASE);
		o.keep_index = 0;
		rv_bank_stats stats;
		if (i == 0)
			unlink(path);
		if (i == 1)
			assert_ok(rv_file_write(path, "hello", 5));
		if (i == 2)
			assert_ok(rv_file_write(path, whole, size / 2));
		if (i == 3) {
			whole[size - 100] ^= 1;
			assert_ok(rv_file_write(path, whole, size));
			whole[size - 100] ^= 1;
		}
		if (i == 4)
			assert_ok(rv_file_write(path, older, older_size));
		if (i == 5)
			assert_ok(rv_file_write(path, whole, size));
		assert_ok(rv_store_open(&store, dir, NULL));
		assert_ok(rv_bank_open(&bank, store, &o));
		assert_ok(rv_bank_stats_get(bank, &stats));
		assert_ok(rv_bank_verify(bank));
		assert_int_equal(stats.count, 5);
		if (stats.rebuilt != (i < 4) || stats.caught_up != (i == 4 ? 3 : 0))
			fail_msg("case %d: rebuilt %d (%s), %lld added", i, stats.rebuilt,
			         stats.why_rebuilt, (long long)stats.caught_up);
		assert_ok(rv_bank_close(bank));
		assert_ok(rv_store_close(store));
	}
	/* that of another store: same number of rows, other vectors */
	sql(db_path, "DELETE FROM trajectories; DELETE FROM sqlite_sequence");
	rv_store *store;
	rv_bank *bank;
	rv_bank_options o = rv_bank_defaults(RV_BANK_VARIANT_BASE);
	assert_ok(rv_store_open(&store, dir, NULL));
	assert_ok(rv_bank_open(&bank, store, &o));
	for (int i = 0; i < 5; i++)
		assert_ok(kit_add(bank, 20 + i, 0, 0.9f));
	assert_ok(rv_bank_close(bank));
	assert_ok(rv_store_close(store));
	assert_ok(rv_file_write(path, whole, size));
	assert_ok(rv_store_open(&store, dir, NULL));
	assert_ok(rv_bank_open(&bank, store, &o));
	rv_bank_stats stats;
	assert_ok(rv_bank_stats_get(bank, &stats));
	assert_true(stats.rebuilt && strstr(stats.why_rebuilt, "not those of the 5 rows") != NULL);
	assert_ok(rv_bank_verify(bank));
	assert_ok(rv_bank_close(bank));
	assert_ok(rv_store_close(store));
	assert_ok(read_all(&count));
	assert_int_equal(count, 5);
	rv_free(whole);
	rv_free(older);
}

static rv_status put_meta(void *user, rv_db *db) {
	return rv_store_meta_set(db, "x", user);
}

/* Another process that holds the database's write lock. */
static void locked_by_another(void **state) {
	(void)state;
	make_store(0);
	rv_store *store;
	rv_store_options o = rv_store_defaults();
	o.busy_timeout_ms = 50;
	char value[] = "v";
	assert_ok(rv_store_open(&store, dir, &o));
	sqlite3 *other;
	assert_int_equal(sqlite3_open(db_path, &other), SQLITE_OK);
	assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(rv_store_write(store, put_meta, NULL, value), RV_ERR_LIMIT);
	assert_non_null(
	        strstr(rv_error_message(), "memory.db: table (transaction): database is locked"));
	assert_int_equal(sqlite3_exec(other, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(other);
	assert_ok(rv_store_write(store, put_meta, NULL, value));
	assert_ok(rv_store_close(store));
}

static void unwritable(void **state) {
	(void)state;
	rv_store *store = NULL;
	make_store(1);
	if (geteuid() == 0)
		skip();
	assert_int_equal(chmod(db_path, 0400), 0);
	assert_int_equal(rv_store_open(&store, dir, NULL), RV_ERR_IO);
	assert_non_null(strstr(rv_error_message(), "memory.db"));
	assert_null(store);
	assert_int_equal(chmod(db_path, 0600), 0);
}

static void not_a_folder(void **state) {
	(void)state;
	char path[320];
	rv_store *store = NULL;
	make_store(0);
	snprintf(path, sizeof path, "%s/file", dir);
	assert_ok(rv_file_write(path, "x", 1));
	assert_int_not_equal(rv_store_open(&store, path, NULL), RV_OK);
	assert_non_null(strstr(rv_error_message(), path));
	assert_null(store);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(foreign_files),
	        cmocka_unit_test(versions),
	        cmocka_unit_test(stores_of_every_version),
	        cmocka_unit_test(every_cut),
	        cmocka_unit_test(flipped_bits),
	        cmocka_unit_test(changed_rows),
	        cmocka_unit_test(index_files),
	        cmocka_unit_test(locked_by_another),
	        cmocka_unit_test(unwritable),
	        cmocka_unit_test(not_a_folder),
	};
	return cmocka_run_group_tests(tests, begin, finish);
}
