/* Writing an archive file and reading it back. Its records are what the chain hashes, so that checking
 * one is hashing it. */
#include "memory/witness_archive.h"

#include "base/file.h"
#include "base/mem.h"
#include "memory/witness_internal.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC "RVWARCH1"
#define PREFIX "witness-"
#define SUFFIX ".archive"
#define MARK_BYTES (8 + RV_WITNESS_HASH)
#define MAX_RECORD (1u << 26)

static rv_status archive_path(const rv_store *store, const char *name, char **out) {
	const char *dir = rv_store_dir(store);
	size_t size = strlen(dir) + sizeof "/" RV_WITNESS_ARCHIVE_DIR "/" + strlen(name);
	RV_TRY(RV_ALLOC(out, size, "path"));
	snprintf(*out, size, "%s/" RV_WITNESS_ARCHIVE_DIR "%s%s", dir, *name ? "/" : "", name);
	return RV_OK;
}

/* ---- writing ---- */

typedef struct archiving {
	rv_witness *w;
	int64_t before, keep, n;
	rv_witness_mark at;
	rv_writer *out;
	uint8_t *record; /* one entry */
	size_t size, cap;
	rv_status failed;
} archiving;

static void append(void *user, const void *data, size_t size) {
	archiving *a = user;
	if (a->failed != RV_OK)
		return;
	if (size > a->cap - a->size) {
		size_t cap = 2 * (a->size + size);
		a->failed = RV_GROW(&a->record, a->cap, cap, "archived entry");
		if (a->failed != RV_OK)
			return;
		a->cap = cap;
	}
	if (size > 0)
		memcpy(a->record + a->size, data, size);
	a->size += size;
}

static rv_status write_mark(rv_writer *out, const rv_witness_mark *m) {
	RV_TRY(rv_writer_write(out, &m->key, sizeof m->key));
	return rv_writer_write(out, m->hash, sizeof m->hash);
}

static rv_status archive_row(void *user, const rv_db_row *row) {
	archiving *a = user;
	crypto_hash_sha256_state state;
	size_t size;
	a->size = 0;
	rv_witness_row_put(row, append, a);
	RV_TRY(a->failed);
	rv_witness_hash_begin(&state, a->at.hash);
	rv_witness_hash_put(&state, a->record, a->size);
	crypto_hash_sha256_final(&state, a->at.hash);
	const void *stored = rv_row_blob(row, RV_WITNESS_N_COLUMNS + 1, &size);
	if (rv_row_int(row, 0) != ++a->at.key || size != sizeof a->at.hash ||
	    memcmp(stored, a->at.hash, size) != 0)
		return rv_row_damaged(row, "not what the chain's hash says");
	append(a, a->at.hash, sizeof a->at.hash);
	RV_TRY(a->failed);
	if (a->size >= MAX_RECORD)
		return rv_row_damaged(row, "too long");
	const uint32_t record = (uint32_t)a->size;
	a->n++;
	RV_TRY(rv_writer_write(a->out, &record, sizeof record));
	return rv_writer_write(a->out, a->record, a->size);
}

static rv_status find_keep(void *user, rv_db *db) {
	archiving *a = user;
	return rv_witness_chain_keep(db, &a->w->chain, a->before, &a->keep);
}

static rv_status archive_rows(void *user, rv_db *db) {
	archiving *a = user;
	return RV_DB_QUERY(db, "witness", archive_row, a,
	                   "SELECT " RV_WITNESS_ALL " FROM witness WHERE key < ?1 ORDER BY key",
	                   RV_INT(a->keep));
}

static rv_status write_archive(archiving *a) {
	const uint32_t end = 0;
	a->at = a->w->chain.begin;
	RV_TRY(rv_writer_write(a->out, MAGIC, sizeof MAGIC - 1));
	RV_TRY(write_mark(a->out, &a->at));
	RV_TRY(rv_store_read(a->w->store, archive_rows, a));
	RV_TRY(rv_writer_write(a->out, &end, sizeof end));
	return write_mark(a->out, &a->at);
}

/* Under the lock of the chain. */
static rv_status archive(archiving *a, int64_t *n) {
	char *folder = NULL, *path = NULL, name[64];
	*n = 0;
	RV_TRY(rv_store_read(a->w->store, find_keep, a));
	if (a->keep <= a->w->chain.begin.key + 1)
		return RV_OK;
	snprintf(name, sizeof name, PREFIX "%012" PRId64 SUFFIX, a->w->chain.begin.key + 1);
	rv_status st = archive_path(a->w->store, "", &folder);
	if (st == RV_OK)
		st = archive_path(a->w->store, name, &path);
	if (st == RV_OK)
		st = rv_mkdirs(folder);
	if (st == RV_OK)
		st = rv_writer_open(&a->out, path);
	if (st == RV_OK) {
		st = write_archive(a);
		if (st == RV_OK)
			st = rv_writer_commit(a->out);
		else
			rv_writer_abort(a->out);
	}
	rv_free(folder);
	rv_free(path);
	rv_free(a->record);
	RV_TRY(st);
	return rv_witness_cut(a->w, a->before, n);
}

rv_status rv_witness_archive(rv_witness *w, int64_t before, int64_t *n) {
	archiving a = {.w = w, .before = before};
	pthread_mutex_lock(&w->chain_lock);
	rv_status st = archive(&a, n);
	pthread_mutex_unlock(&w->chain_lock);
	return st;
}

/* ---- reading ---- */

typedef struct reading {
	const uint8_t *at, *end;
	const char *name;
	rv_witness_archive_report *report;
} reading;

static rv_status bad(const reading *r, const char *why) {
	return rv_fail(RV_ERR_FORMAT, "%s: entry %lld: %s", r->name, (long long)r->report->end.key + 1,
	               why);
}

static int take(reading *r, void *out, size_t size) {
	if ((size_t)(r->end - r->at) < size)
		return 0;
	memcpy(out, r->at, size);
	r->at += size;
	return 1;
}

static int take_mark(reading *r, rv_witness_mark *m) {
	return take(r, &m->key, sizeof m->key) && take(r, m->hash, sizeof m->hash) && m->key >= 0;
}

/* One column; *integer: of an integer. */
static int take_column(reading *r, int kind, int64_t *integer) {
	uint8_t stored;
	uint64_t size;
	if (!take(r, &stored, 1))
		return 0;
	if (stored == RV_DB_NULL)
		return 1;
	if (stored != kind)
		return 0;
	if (kind == RV_DB_INT || kind == RV_DB_REAL)
		return take(r, integer, sizeof *integer);
	if (!take(r, &size, sizeof size) || size > (uint64_t)(r->end - r->at))
		return 0;
	r->at += size;
	return 1;
}

/* The entry in the next `size` bytes. */
static rv_status take_entry(reading *r, uint32_t size) {
	rv_witness_archive_report *report = r->report;
	reading entry = {r->at, r->at + size - RV_WITNESS_HASH, r->name, report};
	crypto_hash_sha256_state state;
	rv_witness_mark next;
	int64_t timestamp = 0;
	rv_witness_hash_begin(&state, report->end.hash);
	rv_witness_hash_put(&state, r->at, size - RV_WITNESS_HASH);
	crypto_hash_sha256_final(&state, next.hash);
	if (memcmp(next.hash, entry.end, RV_WITNESS_HASH) != 0)
		return bad(r, "altered, or not where it was");
	if (!take(&entry, &next.key, sizeof next.key) || next.key != report->end.key + 1)
		return bad(r, "missing");
	for (int c = 0; c < RV_WITNESS_N_COLUMNS; c++) {
		int64_t integer = 0;
		if (!take_column(&entry, rv_witness_kinds[c], &integer))
			return bad(r, "a column that is damaged");
		if (c == RV_WITNESS_timestamp)
			timestamp = integer;
	}
	if (entry.at != entry.end)
		return bad(r, "bytes behind its columns");
	if (report->n_entries++ == 0)
		report->oldest = report->newest = timestamp;
	report->oldest = timestamp < report->oldest ? timestamp : report->oldest;
	report->newest = timestamp > report->newest ? timestamp : report->newest;
	report->end = next;
	r->at += size;
	return RV_OK;
}

rv_status rv_witness_archive_verify_memory(const void *data, size_t size, const char *name,
                                           rv_witness_archive_report *report) {
	char magic[sizeof MAGIC - 1];
	reading r = {data, (const uint8_t *)data + size, name, report};
	uint32_t record;
	rv_witness_mark end;
	*report = (rv_witness_archive_report){0};
	if (!take(&r, magic, sizeof magic) || memcmp(magic, MAGIC, sizeof magic) != 0 ||
	    !take_mark(&r, &report->begin) || report->begin.key == INT64_MAX)
		return rv_fail(RV_ERR_FORMAT, "%s: not an archive of the witness log", name);
	report->end = report->begin;
	for (;;) {
		if (!take(&r, &record, sizeof record))
			return bad(&r, "missing: the file was cut off");
		if (record == 0)
			break;
		if (record <= RV_WITNESS_HASH || record > (size_t)(r.end - r.at))
			return bad(&r, "longer than the file");
		RV_TRY(take_entry(&r, record));
	}
	if (!take_mark(&r, &end) || r.at != r.end || end.key != report->end.key ||
	    memcmp(end.hash, report->end.hash, sizeof end.hash) != 0)
		return bad(&r, "missing: not the entry the file ended with");
	return RV_OK;
}

rv_status rv_witness_archive_verify(const char *path, rv_witness_archive_report *report) {
	rv_map map = {0};
	*report = (rv_witness_archive_report){0};
	RV_TRY(rv_map_open(&map, path));
	rv_status st = rv_witness_archive_verify_memory(map.data, map.size, path, report);
	rv_map_close(&map);
	return st;
}

/* ---- all of them ---- */

static int is_archive(const struct dirent *entry) {
	size_t n = strlen(entry->d_name), s = sizeof SUFFIX - 1;
	return n > s && strncmp(entry->d_name, PREFIX, sizeof PREFIX - 1) == 0 &&
	       strcmp(entry->d_name + n - s, SUFFIX) == 0;
}

/* Do the entries that end with `end` lead to those that begin behind `begin`? */
static rv_status check_link(const rv_witness_mark *end, const rv_witness_mark *begin, const char *path,
                            rv_witness_archives_report *report) {
	if (end->key > begin->key ||
	    (end->key == begin->key && memcmp(end->hash, begin->hash, sizeof end->hash) != 0))
		return rv_fail(RV_ERR_FORMAT, "%s: ends with entry %lld, which is not what follows it",
		               path, (long long)end->key);
	report->n_gaps += end->key < begin->key;
	return RV_OK;
}

static rv_status verify_named(rv_witness *w, struct dirent **entries, int n,
                              rv_witness_archives_report *report) {
	rv_witness_archive_report file, before = {0};
	char *path = NULL, *last = NULL;
	rv_status st = RV_OK;
	for (int i = 0; i < n && st == RV_OK; i++) {
		st = archive_path(w->store, entries[i]->d_name, &path);
		if (st == RV_OK)
			st = rv_witness_archive_verify(path, &file);
		if (st == RV_OK && last != NULL)
			st = check_link(&before.end, &file.begin, last, report);
		report->n_files++;
		report->n_entries += file.n_entries;
		before = file;
		rv_free(last);
		last = path;
		path = NULL;
	}
	const rv_witness_mark *live = &w->chain.begin;
	report->is_pending = last != NULL && before.begin.key == live->key &&
	                     memcmp(before.begin.hash, live->hash, sizeof live->hash) == 0;
	if (st == RV_OK && last != NULL && !report->is_pending)
		st = check_link(&before.end, live, last, report);
	rv_free(last);
	return st;
}

rv_status rv_witness_archives_verify(rv_witness *w, rv_witness_archives_report *report) {
	struct dirent **entries = NULL;
	char *folder = NULL;
	*report = (rv_witness_archives_report){0};
	RV_TRY(archive_path(w->store, "", &folder));
	int n = scandir(folder, &entries, is_archive, alphasort);
	rv_status st = RV_OK;
	if (n < 0 && errno != ENOENT)
		st = rv_fail(RV_ERR_IO, "%s: %s", folder, strerror(errno));
	rv_free(folder);
	if (n <= 0)
		return st;
	pthread_mutex_lock(&w->chain_lock);
	st = verify_named(w, entries, n, report);
	pthread_mutex_unlock(&w->chain_lock);
	for (int i = 0; i < n; i++)
		free(entries[i]);
	free(entries);
	return st;
}
