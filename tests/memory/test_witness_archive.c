/* The archive of the witness log: the chain goes on from file to file into the database, a changed byte
 * anywhere shows, and what was archived is not in the database any more. */
#include "base/file.h"
#include "base/mem.h"
#include "memory/witness_archive.h"
#include "tests/memory/witness_kit.h"

#include <sqlite3.h>

static void archive_file(const log_kit *k, int first, char path[320]) {
	snprintf(path, 320, "%s/archive/witness-%012d.archive", k->dir, first);
}

static void fill(log_kit *k, int first, int n) {
	append_numbered(k->witness, first, n);
	assert_ok(rv_witness_flush(k->witness));
}

static void chain_goes_on_through_the_files(void **state) {
	(void)state;
	log_kit k;
	int64_t n;
	rv_witness_archives_report all;
	rv_witness_archive_report file;
	rv_witness_report chain;
	char path[320];
	rv_witness_options o = kit_make(&k);
	assert_ok(rv_witness_archive(k.witness, T0 + 100, &n)); /* nothing there */
	assert_int_equal(n, 0);
	assert_ok(rv_witness_archives_verify(k.witness, &all));
	assert_int_equal(all.n_files, 0);
	fill(&k, 0, 50);
	assert_ok(rv_witness_archive(k.witness, T0 + 20, &n));
	assert_int_equal(n, 20);
	fill(&k, 50, 30);
	assert_ok(rv_witness_archive(k.witness, T0 + 60, &n));
	assert_int_equal(n, 40);
	kit_close(&k);
	kit_open(&k, NULL, &o);
	assert_ok(rv_witness_archives_verify(k.witness, &all));
	assert_int_equal(all.n_files, 2);
	assert_int_equal(all.n_entries, 60);
	assert_int_equal(all.n_gaps, 0);
	assert_false(all.is_pending);
	assert_ok(rv_witness_verify(k.witness, NULL, &chain));
	assert_int_equal(chain.n_entries, 20);
	assert_int_equal(chain.first_key, 61);
	archive_file(&k, 21, path);
	assert_ok(rv_witness_archive_verify(path, &file));
	assert_int_equal(file.begin.key, 20);
	assert_int_equal(file.end.key, 60);
	assert_int_equal(file.oldest, T0 + 20);
	assert_int_equal(file.newest, T0 + 59);
	/* entries that retention took for good leave a gap, which is said */
	assert_ok(rv_witness_retire(k.witness, T0 + 70, &n));
	assert_int_equal(n, 10);
	assert_ok(rv_witness_archives_verify(k.witness, &all));
	assert_int_equal(all.n_gaps, 1);
	kit_drop(&k);
}

static void a_changed_byte_shows(void **state) {
	(void)state;
	log_kit k;
	int64_t n;
	char path[320], *data;
	size_t size;
	rv_witness_archive_report report;
	kit_make(&k);
	fill(&k, 0, 12);
	assert_ok(rv_witness_archive(k.witness, T0 + 11, &n));
	archive_file(&k, 1, path);
	assert_ok(rv_file_read(path, 1 << 24, &data, &size));
	assert_ok(rv_witness_archive_verify_memory(data, size, "file", &report));
	long seen = 0, tried = 0;
	for (size_t at = 0; at < size; at += at < 400 ? 1 : 97, tried++) {
		data[at] ^= 4;
		seen += rv_witness_archive_verify_memory(data, size, "file", &report) == RV_ERR_FORMAT;
		data[at] ^= 4;
	}
	assert_int_equal(seen, tried);
	for (size_t cut = 0; cut < size; cut += 61)
		assert_int_equal(rv_witness_archive_verify_memory(data, cut, "file", &report),
		                 RV_ERR_FORMAT);
	printf("# %ld of %ld changed bytes seen\n", seen, tried);
	rv_free(data);
	kit_drop(&k);
}

/* A file written anew from other entries, whole in itself, does not lead to the database's chain. */
static void a_file_written_anew_shows(void **state) {
	(void)state;
	log_kit k, other;
	int64_t n;
	char path[320], forged[320], *data;
	size_t size;
	rv_witness_archives_report all;
	rv_witness_archive_report file;
	kit_make(&k);
	kit_make(&other);
	fill(&k, 0, 10);
	fill(&other, 100, 10); /* other entries */
	assert_ok(rv_witness_archive(k.witness, T0 + 5, &n));
	assert_ok(rv_witness_archive(other.witness, T0 + 105, &n));
	archive_file(&k, 1, path);
	archive_file(&other, 1, forged);
	assert_ok(rv_witness_archives_verify(k.witness, &all));
	assert_ok(rv_file_read(forged, 1 << 24, &data, &size));
	assert_ok(rv_file_write(path, data, size));
	assert_ok(rv_witness_archive_verify(path, &file));
	assert_int_equal(rv_witness_archives_verify(k.witness, &all), RV_ERR_FORMAT);
	assert_non_null(strstr(rv_error_message(), "witness-000000000001.archive"));
	rv_free(data);
	kit_drop(&k);
	kit_drop(&other);
}

/* Killed between the file and the cut: the entries are in both, and the next archiving takes them with
 * what has come since. */
static void what_is_in_both_is_archived_again(void **state) {
	(void)state;
	log_kit k;
	int64_t n;
	char path[320], kept[320], *data;
	size_t size;
	rv_witness_archives_report all;
	rv_witness_options o = kit_make(&k);
	fill(&k, 0, 10);
	snprintf(kept, sizeof kept, "%s/memory.db", k.dir);
	kit_close(&k); /* all of it is in the database file now */
	assert_ok(rv_file_read(kept, 1 << 26, &data, &size));
	kit_open(&k, NULL, &o);
	assert_ok(rv_witness_archive(k.witness, T0 + 5, &n));
	kit_close(&k);
	assert_ok(rv_file_write(kept, data, size)); /* as if the cut had not been */
	rv_free(data);
	kit_open(&k, NULL, &o);
	assert_ok(rv_witness_archives_verify(k.witness, &all));
	assert_true(all.is_pending);
	assert_ok(rv_witness_archive(k.witness, T0 + 7, &n));
	assert_int_equal(n, 7);
	assert_ok(rv_witness_archives_verify(k.witness, &all));
	assert_int_equal(all.n_files, 1);
	assert_int_equal(all.n_entries, 7);
	archive_file(&k, 1, path);
	assert_int_equal(access(path, R_OK), 0);
	kit_drop(&k);
}

/* An entry that is not what its hash says is not archived as if it were. */
static void a_damaged_entry_stays(void **state) {
	(void)state;
	log_kit k;
	int64_t n;
	char path[320];
	sqlite3 *db;
	rv_witness_options o = kit_make(&k);
	fill(&k, 0, 10);
	kit_close(&k);
	snprintf(path, sizeof path, "%s/memory.db", k.dir);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "UPDATE witness SET model_used = 'other' WHERE key = 3", NULL,
	                              NULL, NULL),
	                 SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	kit_open(&k, NULL, &o);
	assert_int_equal(rv_witness_archive(k.witness, T0 + 5, &n), RV_ERR_FORMAT);
	assert_non_null(strstr(rv_error_message(), "row 3"));
	archive_file(&k, 1, path);
	assert_int_not_equal(access(path, F_OK), 0);
	assert_ok(rv_witness_archive(k.witness, T0 + 1, &n)); /* those before it are good */
	assert_int_equal(n, 1);
	kit_drop(&k);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(chain_goes_on_through_the_files),
	        cmocka_unit_test(a_changed_byte_shows),
	        cmocka_unit_test(a_file_written_anew_shows),
	        cmocka_unit_test(what_is_in_both_is_archived_again),
	        cmocka_unit_test(a_damaged_entry_stays),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
