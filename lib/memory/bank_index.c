/* The bank's index: built from the store, kept in a file beside it, compared with it. */
#include "base/mem.h"
#include "memory/bank_internal.h"
#include "memory/hnsw_file.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define CHUNK 4096 /* rows read at once */

static rv_status take_entry(void *user, const rv_bank_entry *entry) {
	return rv_bank_entries_push(user, entry);
}

static rv_status read_entries(void *user, rv_db *db) {
	rv_bank *bank = user;
	return rv_bank_rows_entries(db, bank->options.variant, take_entry, bank);
}

/* What is evicted goes after what is added, and removed nodes stay until a repair. */
static int64_t index_capacity(const rv_bank *bank) {
	int64_t most = bank->options.capacity > bank->n_live ? bank->options.capacity : bank->n_live;
	return 2 * most + RV_BANK_SLACK;
}

/* A codec for any vectors: what it learns is their mean, and the mean of these two is 0. So the codes
 * of a row are the same whenever it comes. */
static rv_status create_codec(rv_codec **out) {
	rv_codec_options o = rv_codec_defaults();
	float *x = NULL;
	o.kind = RV_CODE_SQ8;
	o.metric = RV_METRIC_COSINE;
	o.dim = RV_EMBEDDING_DIM;
	RV_TRY(RV_ALLOC(&x, 2 * RV_EMBEDDING_DIM, "vectors"));
	x[0] = 1;
	x[RV_EMBEDDING_DIM] = -1;
	rv_codec *codec = NULL;
	rv_status st = rv_codec_create(&codec, &o);
	if (st == RV_OK)
		st = rv_codec_train(codec, x, 2, NULL);
	rv_free(x);
	if (st == RV_OK)
		*out = codec;
	else
		rv_codec_destroy(codec);
	return st;
}

static rv_status create_index(rv_bank *bank, rv_hnsw **out) {
	rv_hnsw_options o = rv_hnsw_defaults();
	if (!bank->options.full_vectors)
		RV_TRY(create_codec(&bank->codec));
	o.codec = bank->codec;
	o.codes_only = bank->codec != NULL;
	o.sketch = 0; /* learned anew at each load, which takes longer than it saves here */
	o.dim = RV_EMBEDDING_DIM;
	o.m = bank->options.m;
	o.ef_construction = bank->options.ef_construction;
	o.ef_search = bank->options.ef_search;
	o.seed = bank->options.seed;
	o.capacity = index_capacity(bank);
	return rv_hnsw_create(out, &o);
}

typedef struct building {
	rv_bank *bank;
	uint64_t *keys;
	float *embeddings;
} building;

static rv_status build_from(void *user, rv_db *db) {
	building *b = user;
	int64_t after = 0, found = CHUNK;
	while (found == CHUNK) {
		RV_TRY(rv_bank_rows_embeddings(db, b->bank->options.variant, after, CHUNK, b->keys,
		                               b->embeddings, &found));
		if (found == 0)
			break;
		RV_TRY(rv_hnsw_add_batch(b->bank->index, b->keys, b->embeddings, found,
		                         b->bank->options.threads));
		after = (int64_t)b->keys[found - 1];
	}
	return RV_OK;
}

static rv_status build(rv_bank *bank, building *b) {
	RV_TRY(create_index(bank, &bank->index));
	return rv_store_read(bank->store, build_from, b);
}

/* ---- the file: a cache of the above ---- */

static rv_status file_path(const rv_bank *bank, char out[4096]) {
	int n = snprintf(out, 4096, "%s/bank-%s.hnsw", rv_store_dir(bank->store),
	                 rv_bank_variant_name(bank->options.variant));
	return n < 4096 ? RV_OK
	                : rv_fail(RV_ERR_INVALID, "%s: too long a path", rv_store_dir(bank->store));
}

/* Reads the rows in order: those the index lacks are added, all are counted into *is. */
typedef struct comparing {
	building building;
	rv_hnsw_identity is;
} comparing;

static rv_status compare_from(void *user, rv_db *db) {
	comparing *c = user;
	rv_bank *bank = c->building.bank;
	uint64_t *keys = c->building.keys;
	float *x = c->building.embeddings;
	int64_t after = 0, found = CHUNK;
	while (found == CHUNK) {
		RV_TRY(rv_bank_rows_embeddings(db, bank->options.variant, after, CHUNK, keys, x,
		                               &found));
		for (int64_t i = 0; i < found; i++) {
			const float *vector = x + i * RV_EMBEDDING_DIM;
			RV_TRY(rv_hnsw_identity_add(&c->is, bank->index, keys[i], vector));
			if (rv_hnsw_has(bank->index, keys[i]))
				continue;
			RV_TRY(rv_hnsw_add(bank->index, keys[i], vector));
			bank->n_caught_up++;
		}
		if (found > 0)
			after = (int64_t)keys[found - 1];
	}
	return RV_OK;
}

/* RV_ERR_MISMATCH: a sound index of other rows. */
static rv_status compare(rv_bank *bank, building *b) {
	comparing c = {.building = *b};
	RV_TRY(rv_store_read(bank->store, compare_from, &c));
	const rv_hnsw_identity has = rv_hnsw_identify(bank->index);
	if (!rv_hnsw_identity_equal(&c.is, &has))
		return rv_fail(RV_ERR_MISMATCH, "holds %llu vectors, not those of the %llu rows",
		               (unsigned long long)has.n, (unsigned long long)c.is.n);
	return RV_OK;
}

void rv_bank_index_drop(rv_bank *bank) {
	rv_hnsw_destroy(bank->index);
	rv_codec_destroy(bank->codec);
	bank->index = NULL;
	bank->codec = NULL;
}

static rv_status check_made_so(const rv_bank *bank) {
	const rv_hnsw_options *o = rv_hnsw_get_options(bank->index);
	if (o->dim != RV_EMBEDDING_DIM || o->metric != RV_METRIC_COSINE || o->m != bank->options.m ||
	    o->ef_construction != bank->options.ef_construction ||
	    o->ef_search != bank->options.ef_search || o->codes_only == bank->options.full_vectors ||
	    o->seed != bank->options.seed)
		return rv_fail(RV_ERR_MISMATCH, "made with other parameters");
	return RV_OK;
}

static rv_status load(rv_bank *bank, building *b) {
	char path[4096];
	const rv_hnsw_load_options o = {.capacity = index_capacity(bank),
	                                .codec = bank->options.full_vectors ? NULL : &bank->codec,
	                                .threads = bank->options.threads};
	RV_TRY(file_path(bank, path));
	RV_TRY(rv_hnsw_load(&bank->index, path, &o));
	rv_status st = check_made_so(bank);
	if (st == RV_OK)
		st = compare(bank, b);
	if (st != RV_OK) {
		rv_bank_index_drop(bank);
		bank->n_caught_up = 0;
	}
	return st;
}

static rv_status open_index(rv_bank *bank, building *b) {
	rv_status st = load(bank, b);
	atomic_store(&bank->changes, st == RV_OK && bank->n_caught_up == 0 ? 0 : 1);
	if (st == RV_OK)
		return RV_OK;
	bank->rebuilt = bank->n_live > 0;
	if (bank->rebuilt) {
		snprintf(bank->why_rebuilt, sizeof bank->why_rebuilt, "%s", rv_error_message());
		rv_logf(rv_store_log(bank->store), st == RV_ERR_NOT_FOUND ? RV_LOG_INFO : RV_LOG_WARN,
		        "%s: building the index of bank '%s' anew: %s", rv_store_path(bank->store),
		        rv_bank_variant_name(bank->options.variant), bank->why_rebuilt);
	}
	st = build(bank, b);
	return st == RV_OK ? RV_OK : rv_fail_in(st, rv_store_path(bank->store));
}

rv_status rv_bank_index_open(rv_bank *bank) {
	building b = {.bank = bank};
	RV_TRY(rv_store_read(bank->store, read_entries, bank));
	rv_status st = RV_ALLOC(&b.keys, CHUNK, "keys");
	if (st == RV_OK)
		st = RV_ALLOC(&b.embeddings, (size_t)CHUNK * RV_EMBEDDING_DIM, "embeddings");
	if (st == RV_OK)
		st = open_index(bank, &b);
	rv_free(b.keys);
	rv_free(b.embeddings);
	return st;
}

rv_status rv_bank_index_save(rv_bank *bank) {
	char path[4096];
	uint64_t changes = atomic_load(&bank->changes);
	if (changes == bank->saved_changes)
		return RV_OK;
	RV_TRY(file_path(bank, path));
	RV_TRY(rv_hnsw_save(bank->index, path));
	bank->saved_changes = changes;
	return RV_OK;
}

/* ---- everything compared ---- */

typedef struct verifying {
	rv_bank *bank;
	rv_hnsw_identity is;
	float *vector;
} verifying;

static rv_status differs(const verifying *v, int64_t key, const char *what) {
	return rv_fail(RV_ERR_MISMATCH, "%s: bank '%s', key %lld: %s", rv_store_path(v->bank->store),
	               rv_bank_variant_name(v->bank->options.variant), (long long)key, what);
}

/* Cosine keeps vectors scaled to length 1, or codes of them. */
static int same_vector(const rv_bank *bank, const float *kept, const float *stored) {
	double dot = 0, a = 0, b = 0;
	for (int i = 0; i < RV_EMBEDDING_DIM; i++) {
		dot += (double)kept[i] * (double)stored[i];
		a += (double)kept[i] * (double)kept[i];
		b += (double)stored[i] * (double)stored[i];
	}
	return 1 - dot / sqrt(a * b) < (bank->codec ? 1e-3 : 1e-10);
}

static rv_status verify_row(void *user, int64_t key, const rv_trajectory *t, const float *embedding) {
	verifying *v = user;
	const rv_bank_entry *e = rv_bank_entry_find(v->bank, key);
	uint8_t id[16];
	rv_bank_id_bytes(t->trajectory_id, id);
	RV_TRY(rv_hnsw_identity_add(&v->is, v->bank->index, (uint64_t)key, embedding));
	if (e == NULL)
		return differs(v, key, "in the store, not in the bank");
	if (memcmp(id, e->id, sizeof id) != 0 || e->quality != t->quality || e->weight != t->weight ||
	    e->created_at != t->created_at || e->verdict != (uint8_t)t->verdict ||
	    e->source != (uint8_t)t->source)
		return differs(v, key, "other figures in the bank than in the store");
	if (rv_hnsw_get(v->bank->index, (uint64_t)key, v->vector) != RV_OK)
		return differs(v, key, "in the store, not in the index");
	if (!same_vector(v->bank, v->vector, embedding))
		return differs(v, key, "another vector in the index than in the store");
	return RV_OK;
}

static rv_status verify_rows(void *user, rv_db *db) {
	verifying *v = user;
	return rv_bank_rows_visit(db, v->bank->options.variant, verify_row, v);
}

rv_status rv_bank_verify(rv_bank *bank) {
	verifying v = {.bank = bank};
	RV_TRY(rv_bank_check_whole(bank));
	RV_TRY(rv_hnsw_verify(bank->index));
	RV_TRY(RV_ALLOC(&v.vector, RV_EMBEDDING_DIM, "vector"));
	rv_status st = rv_store_read(bank->store, verify_rows, &v);
	rv_free(v.vector);
	RV_TRY(st);
	const rv_hnsw_identity has = rv_hnsw_identify(bank->index);
	if ((int64_t)v.is.n != bank->n_live || !rv_hnsw_identity_equal(&v.is, &has))
		return rv_fail(RV_ERR_MISMATCH,
		               "%s: bank '%s': %llu rows in the store, %lld in the bank; the index "
		               "holds %llu, "
		               "not just those",
		               rv_store_path(bank->store), rv_bank_variant_name(bank->options.variant),
		               (unsigned long long)v.is.n, (long long)bank->n_live,
		               (unsigned long long)has.n);
	return RV_OK;
}
