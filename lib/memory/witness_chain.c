/* The chain of hashes, its record, and its check. */
#include "base/mem.h"
#include "memory/witness_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

_Static_assert(RV_WITNESS_HASH == crypto_hash_sha256_BYTES, "SHA-256");

#define TAG "ruvltra witness 1"
#define TABLE "witness"
#define RECORD "witness_chain" /* in the table meta */
#define RECORD_BYTES 512       /* of its text */

/* ---- hashes ---- */

static void put_value(const rv_db_value *v, rv_witness_put *put, void *user) {
	int is_bytes = v->kind == RV_DB_TEXT || v->kind == RV_DB_BLOB;
	uint8_t kind = (uint8_t)(is_bytes && v->data == NULL ? RV_DB_NULL : v->kind);
	put(user, &kind, 1);
	if (kind == RV_DB_INT)
		put(user, &v->integer, sizeof v->integer);
	if (kind == RV_DB_REAL)
		put(user, &v->real, sizeof v->real);
	if (kind == RV_DB_TEXT || kind == RV_DB_BLOB) {
		uint64_t size = v->size;
		put(user, &size, sizeof size);
		put(user, v->data, v->size);
	}
}

/* A column as it was bound. */
static rv_db_value row_value(const rv_db_row *row, int column, int kind) {
	if (rv_row_is_null(row, column))
		return (rv_db_value){.kind = RV_DB_NULL};
	if (kind == RV_DB_INT)
		return RV_INT(rv_row_int(row, column));
	if (kind == RV_DB_REAL)
		return RV_REAL(rv_row_real(row, column));
	size_t size;
	const void *data = rv_row_blob(row, column, &size); /* of a text: its bytes */
	rv_db_value v = RV_BLOB(data ? data : "", size);
	v.kind = kind == RV_DB_TEXT ? RV_DB_TEXT : RV_DB_BLOB;
	return v;
}

const uint8_t rv_witness_kinds[RV_WITNESS_N_COLUMNS] = {
#define RV_WITNESS_KIND(column, kind) RV_DB_##kind,
        RV_WITNESS_COLUMNS(RV_WITNESS_KIND)
#undef RV_WITNESS_KIND
};

void rv_witness_row_put(const rv_db_row *row, rv_witness_put *put, void *user) {
	int64_t key = rv_row_int(row, 0);
	put(user, &key, sizeof key);
	for (int c = 0; c < RV_WITNESS_N_COLUMNS; c++) {
		rv_db_value v = row_value(row, c + 1, rv_witness_kinds[c]);
		put_value(&v, put, user);
	}
}

void rv_witness_hash_begin(crypto_hash_sha256_state *state, const uint8_t *before) {
	crypto_hash_sha256_init(state);
	crypto_hash_sha256_update(state, (const uint8_t *)TAG, sizeof TAG - 1);
	crypto_hash_sha256_update(state, before, RV_WITNESS_HASH);
}

void rv_witness_hash_put(void *state, const void *data, size_t size) {
	crypto_hash_sha256_update(state, data, size);
}

static void hash_row(const rv_db_row *row, const uint8_t *before, uint8_t out[RV_WITNESS_HASH]) {
	crypto_hash_sha256_state state;
	rv_witness_hash_begin(&state, before);
	rv_witness_row_put(row, rv_witness_hash_put, &state);
	crypto_hash_sha256_final(&state, out);
}

rv_status rv_witness_chain_add(rv_db *db, rv_witness_chain *chain, const rv_db_value *values) {
	rv_db_value all[RV_WITNESS_N_COLUMNS + 2];
	rv_witness_mark next = {.key = chain->head.key + 1};
	crypto_hash_sha256_state state;
	rv_witness_hash_begin(&state, chain->head.hash);
	rv_witness_hash_put(&state, &next.key, sizeof next.key);
	for (int c = 0; c < RV_WITNESS_N_COLUMNS; c++)
		put_value(&values[c], rv_witness_hash_put, &state);
	crypto_hash_sha256_final(&state, next.hash);
	all[0] = RV_INT(next.key);
	memcpy(all + 1, values, RV_WITNESS_N_COLUMNS * sizeof *values);
	all[RV_WITNESS_N_COLUMNS + 1] = RV_BLOB(next.hash, sizeof next.hash);
#define RV_WITNESS_MARK(column, kind) ",?"
	RV_TRY(rv_db_run(db, TABLE,
	                 "INSERT INTO witness (" RV_WITNESS_ALL
	                 ") VALUES (?" RV_WITNESS_COLUMNS(RV_WITNESS_MARK) ",?)",
	                 all, sizeof all / sizeof *all));
#undef RV_WITNESS_MARK
	chain->head = next;
	return RV_OK;
}

/* ---- the record ---- */

static void mark_text(const rv_witness_mark *m, char hex[2 * RV_WITNESS_HASH + 1]) {
	sodium_bin2hex(hex, 2 * RV_WITNESS_HASH + 1, m->hash, RV_WITNESS_HASH);
}

static int mark_parse(rv_witness_mark *m, const char *hex) {
	size_t n;
	return sodium_hex2bin(m->hash, RV_WITNESS_HASH, hex, strlen(hex), NULL, &n, NULL) == 0 &&
	       n == RV_WITNESS_HASH && m->key >= 0;
}

rv_status rv_witness_chain_write(const rv_store *store, rv_db *db, const rv_witness_chain *chain) {
	char text[RECORD_BYTES], begin[2 * RV_WITNESS_HASH + 1], head[2 * RV_WITNESS_HASH + 1];
	char hex[2 * (RECORD_BYTES + RV_SECRET_OVERHEAD) + 1];
	uint8_t *sealed = NULL;
	size_t size;
	mark_text(&chain->begin, begin);
	mark_text(&chain->head, head);
	int n = snprintf(text, sizeof text, "%" PRId64 " %s %" PRId64 " %s %" PRId64, chain->begin.key,
	                 begin, chain->head.key, head, chain->dropped);
	RV_TRY(rv_store_seal(store, NULL, "meta", RECORD, text, (size_t)n, &sealed, &size));
	sodium_bin2hex(hex, sizeof hex, sealed, size);
	rv_free(sealed);
	return rv_store_meta_set(db, RECORD, hex);
}

static rv_status chain_parse(const rv_store *store, const char *text, rv_witness_chain *out) {
	char begin[2 * RV_WITNESS_HASH + 1], head[2 * RV_WITNESS_HASH + 1];
	rv_witness_chain c = {0};
	int used = 0;
	int n = sscanf(text, "%" SCNd64 " %64s %" SCNd64 " %64s %" SCNd64 "%n", &c.begin.key, begin,
	               &c.head.key, head, &c.dropped, &used);
	if (n != 5 || text[used] != 0 || !mark_parse(&c.begin, begin) || !mark_parse(&c.head, head) ||
	    c.head.key < c.begin.key || c.dropped < 0)
		return rv_fail(RV_ERR_FORMAT, "%s: table meta, '%s': damaged", rv_store_path(store),
		               RECORD);
	*out = c;
	return RV_OK;
}

rv_status rv_witness_chain_read(const rv_store *store, rv_db *db, rv_witness_chain *out) {
	char hex[2 * (RECORD_BYTES + RV_SECRET_OVERHEAD) + 1];
	uint8_t sealed[RECORD_BYTES + RV_SECRET_OVERHEAD];
	char *text = NULL;
	size_t size, len;
	rv_status st = rv_store_meta_get(db, RECORD, hex, sizeof hex);
	if (st == RV_ERR_NOT_FOUND) {
		*out = (rv_witness_chain){0};
		return RV_OK;
	}
	RV_TRY(st);
	if (sodium_hex2bin(sealed, sizeof sealed, hex, strlen(hex), NULL, &size, NULL) != 0)
		return rv_fail(RV_ERR_FORMAT, "%s: table meta, '%s': damaged", rv_db_path(db), RECORD);
	RV_TRY(rv_store_unseal(store, "meta", RECORD, sealed, size, &text, &len));
	st = chain_parse(store, text, out);
	rv_free(text);
	out->is_sealed = size >= len + RV_SECRET_OVERHEAD;
	return st;
}

rv_status rv_witness_chain_check(rv_db *db, const rv_witness_chain *chain) {
	int64_t n;
	const rv_db_value values[] = {RV_INT(chain->begin.key), RV_INT(chain->head.key)};
	RV_TRY(rv_db_int(db, TABLE, "SELECT count(*) FROM witness WHERE key <= ?1 OR key > ?2", values,
	                 2, &n));
	if (n > 0)
		return rv_fail(RV_ERR_FORMAT,
		               "%s: table witness: %lld entries outside the chain, which has %lld to "
		               "%lld: the record of the chain, or entries, were changed",
		               rv_db_path(db), (long long)n, (long long)chain->begin.key + 1,
		               (long long)chain->head.key);
	return RV_OK;
}

void rv_witness_head(rv_witness *w, rv_witness_mark *out) {
	pthread_mutex_lock(&w->chain_lock);
	*out = w->chain.head;
	pthread_mutex_unlock(&w->chain_lock);
}

/* ---- verify ---- */

typedef struct walk {
	rv_witness *w;
	const rv_witness_mark *known;
	rv_witness_report *report;
	rv_witness_mark at; /* the last good entry */
	rv_witness_chain chain;
} walk;

static rv_status bad(const walk *k, int64_t key, const char *how) {
	k->report->bad_key = key;
	return rv_fail(RV_ERR_FORMAT, "%s: table witness, entry %lld: %s", rv_store_path(k->w->store),
	               (long long)key, how);
}

static rv_status check_known(const walk *k) {
	const rv_witness_mark *known = k->known;
	if (known == NULL || known->key != k->at.key ||
	    memcmp(known->hash, k->at.hash, sizeof known->hash) == 0)
		return RV_OK;
	return bad(k, known->key, "not the one that was noted: the chain was written anew");
}

static rv_status walk_row(void *user, const rv_db_row *row) {
	walk *k = user;
	int64_t key = rv_row_int(row, 0);
	uint8_t hash[RV_WITNESS_HASH];
	size_t size;
	if (key > k->chain.head.key)
		return bad(k, key, "beyond the end of the chain");
	if (key != k->at.key + 1)
		return bad(k, k->at.key + 1,
		           key <= k->chain.begin.key ? "before the chain's begin" : "missing");
	hash_row(row, k->at.hash, hash);
	const void *stored = rv_row_blob(row, RV_WITNESS_N_COLUMNS + 1, &size);
	if (size != sizeof hash || memcmp(stored, hash, size) != 0)
		return bad(k, key, "altered, or not where it was");
	k->at.key = key;
	memcpy(k->at.hash, hash, sizeof hash);
	k->report->n_entries++;
	k->report->last_key = key;
	return check_known(k);
}

static rv_status walk_chain(void *user, rv_db *db) {
	walk *k = user;
	RV_TRY(rv_witness_chain_read(k->w->store, db, &k->chain));
	k->at = k->chain.begin;
	*k->report = (rv_witness_report){
	        .first_key = k->at.key + 1, .last_key = k->at.key, .is_sealed = k->chain.is_sealed};
	RV_TRY(check_known(k));
	RV_TRY(rv_db_query(db, TABLE, "SELECT " RV_WITNESS_ALL " FROM witness ORDER BY key", NULL, 0,
	                   walk_row, k));
	if (k->at.key < k->chain.head.key)
		return bad(k, k->at.key + 1, "missing: the end of the chain was cut off");
	if (memcmp(k->at.hash, k->chain.head.hash, sizeof k->at.hash) != 0)
		return bad(k, k->at.key, "not the one the chain ended with: written anew");
	if (k->known != NULL && k->known->key > k->at.key)
		return bad(k, k->at.key + 1, "missing: a later end of the chain was noted");
	return RV_OK;
}

rv_status rv_witness_verify(rv_witness *w, const rv_witness_mark *known, rv_witness_report *report) {
	walk k = {.w = w, .known = known, .report = report};
	*report = (rv_witness_report){0};
	return rv_store_read(w->store, walk_chain, &k);
}

/* ---- retention ---- */

static rv_status take_mark(void *user, const rv_db_row *row) {
	rv_witness_mark *m = user;
	size_t size;
	const void *hash = rv_row_blob(row, 1, &size);
	if (size != sizeof m->hash)
		return rv_row_damaged(row, "a hash of another length");
	m->key = rv_row_int(row, 0);
	memcpy(m->hash, hash, size);
	return RV_OK;
}

rv_status rv_witness_chain_keep(rv_db *db, const rv_witness_chain *chain, int64_t before,
                                int64_t *keep) {
	const rv_db_value values[] = {RV_INT(before), RV_INT(chain->head.key + 1)};
	return rv_db_int(db, TABLE, "SELECT coalesce(min(key), ?2) FROM witness WHERE timestamp >= ?1",
	                 values, 2, keep);
}

rv_status rv_witness_chain_cut(rv_db *db, rv_witness_chain *chain, int64_t before, int64_t *n) {
	rv_witness_mark last = chain->begin;
	int64_t keep;
	RV_TRY(rv_witness_chain_keep(db, chain, before, &keep));
	RV_TRY(RV_DB_QUERY(db, TABLE, take_mark, &last,
	                   "SELECT key, hash FROM witness WHERE key < ?1 ORDER BY key DESC LIMIT 1",
	                   RV_INT(keep)));
	RV_TRY(RV_DB_RUN(db, TABLE, "DELETE FROM witness WHERE key <= ?1", RV_INT(last.key)));
	*n = rv_db_changes(db);
	chain->begin = last;
	return RV_OK;
}

typedef struct cut {
	rv_witness *w;
	rv_witness_chain chain;
	int64_t before, n;
} cut;

static rv_status write_cut(void *user, rv_db *db) {
	cut *c = user;
	RV_TRY(rv_witness_chain_cut(db, &c->chain, c->before, &c->n));
	return c->n > 0 ? rv_witness_chain_write(c->w->store, db, &c->chain) : RV_OK;
}

rv_status rv_witness_cut(rv_witness *w, int64_t before, int64_t *n) {
	cut c = {.w = w, .chain = w->chain, .before = before};
	RV_TRY(rv_store_write(w->store, write_cut, NULL, &c));
	w->chain = c.chain;
	*n = c.n;
	return RV_OK;
}

rv_status rv_witness_retire(rv_witness *w, int64_t before, int64_t *n) {
	pthread_mutex_lock(&w->chain_lock);
	rv_status st = rv_witness_cut(w, before, n);
	pthread_mutex_unlock(&w->chain_lock);
	return st;
}
