#include "memory/bank.h"

#include "base/mem.h"
#include "memory/bank_internal.h"

#include <stdio.h>
#include <string.h>

#define DAY_MS INT64_C(86400000)

rv_bank_options rv_bank_defaults(rv_bank_variant variant) {
	static const struct {
		int64_t capacity;
		float threshold;
		int m, ef_construction, ef_search;
	} of[RV_BANK_VARIANT_COUNT] = {
	        [RV_BANK_VARIANT_BASE] = {50000, 0.6f, 16, 200, 50},
	        [RV_BANK_VARIANT_CODER] = {100000, 0.7f, 16, 200, 50},
	        [RV_BANK_VARIANT_AGENT] = {50000, 0.6f, 32, 400, 50},
	};
	return (rv_bank_options){.variant = variant,
	                         .capacity = of[variant].capacity,
	                         .quality_threshold = of[variant].threshold,
	                         .m = of[variant].m,
	                         .ef_construction = of[variant].ef_construction,
	                         .ef_search = of[variant].ef_search,
	                         .half_life_ms = 30 * DAY_MS,
	                         .keep_index = 1};
}

static rv_status check_options(const rv_bank_options *o) {
	if ((unsigned)o->variant >= RV_BANK_VARIANT_COUNT || o->capacity < 1 ||
	    o->capacity > RV_BANK_MAX_CAPACITY || !(o->quality_threshold >= 0) ||
	    o->quality_threshold > 1 || o->half_life_ms < 0)
		return rv_fail(
		        RV_ERR_INVALID,
		        "bank: variant %d, capacity %lld, quality_threshold %g, half_life_ms %lld: out "
		        "of bounds",
		        (int)o->variant, (long long)o->capacity, (double)o->quality_threshold,
		        (long long)o->half_life_ms);
	return RV_OK;
}

static void destroy(rv_bank *bank) {
	rv_bank_index_drop(bank);
	pthread_rwlock_destroy(&bank->lock);
	pthread_mutex_destroy(&bank->save_lock);
	rv_free(bank->entries);
	rv_free(bank);
}

static void init_lock(rv_bank *bank) {
	pthread_rwlockattr_t attributes;
	pthread_rwlockattr_init(&attributes);
	/* searches that never pause must not keep a committed write from being seen */
	pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&bank->lock, &attributes);
	pthread_rwlockattr_destroy(&attributes);
	pthread_mutex_init(&bank->save_lock, NULL);
}

rv_status rv_bank_open(rv_bank **out, rv_store *store, const rv_bank_options *options) {
	RV_TRY(check_options(options));
	rv_bank *bank = NULL;
	RV_TRY(RV_ALLOC(&bank, 1, "bank"));
	bank->store = store;
	bank->options = *options;
	init_lock(bank);
	rv_status st = rv_bank_index_open(bank);
	bank->n_rows = bank->n_live;
	if (st == RV_OK && !rv_store_is_read_only(store))
		st = rv_bank_evict(bank);
	if (st != RV_OK) {
		destroy(bank);
		return st;
	}
	*out = bank;
	return RV_OK;
}

rv_status rv_bank_close(rv_bank *bank) {
	if (bank == NULL)
		return RV_OK;
	rv_status st = bank->options.keep_index ? rv_bank_save(bank) : RV_OK;
	destroy(bank);
	return st;
}

rv_status rv_bank_save(rv_bank *bank) {
	if (rv_store_is_read_only(bank->store) || atomic_load(&bank->broken) != RV_OK)
		return RV_OK;
	pthread_mutex_lock(&bank->save_lock);
	rv_status st = rv_bank_index_save(bank);
	pthread_mutex_unlock(&bank->save_lock);
	return st;
}

rv_status rv_bank_embedder_check(rv_db *db, const char *id, int *is_new) {
	char has[RV_EMBEDDER_TEXT];
	rv_status st = rv_store_meta_get(db, "embedder", has, sizeof has);
	*is_new = st == RV_ERR_NOT_FOUND;
	if (*is_new)
		return RV_OK;
	RV_TRY(st);
	if (strcmp(has, id) != 0)
		return rv_fail(RV_ERR_MISMATCH, "%s: holds vectors of embedder %s; these are of %.64s",
		               rv_db_path(db), has, id);
	return RV_OK;
}

rv_status rv_bank_embedder_bind(rv_db *db, const char *id) {
	int is_new;
	RV_TRY(rv_bank_embedder_check(db, id, &is_new));
	return is_new ? rv_store_meta_set(db, "embedder", id) : RV_OK;
}

typedef struct binding {
	const char *id;
} binding;

static rv_status check_embedder(void *user, rv_db *db) {
	const binding *b = user;
	int is_new;
	return rv_bank_embedder_check(db, b->id, &is_new);
}

static rv_status bind_embedder(void *user, rv_db *db) {
	const binding *b = user;
	return rv_bank_embedder_bind(db, b->id);
}

rv_status rv_bank_bind_embedder(rv_bank *bank, const char *id) {
	binding b = {id};
	if (id[0] == 0 || strlen(id) >= RV_EMBEDDER_TEXT)
		return rv_fail(RV_ERR_INVALID, "embedder '%.70s': empty or too long a name", id);
	return rv_store_is_read_only(bank->store)
	               ? rv_store_read(bank->store, check_embedder, &b)
	               : rv_store_write(bank->store, bind_embedder, NULL, &b);
}

/* ---- writing ---- */

typedef struct adding {
	rv_bank_change change; /* first: the done callback's */
	rv_trajectory *items;  /* copies, completed; what they point to is the caller's */
} adding;

static rv_status insert_all(void *user, rv_db *db) {
	adding *a = user;
	rv_bank_change *c = &a->change;
	for (int64_t i = 0; i < c->n_added; i++) {
		rv_status st = rv_bank_row_insert(db, &a->items[i],
		                                  c->embeddings + i * RV_EMBEDDING_DIM, &c->added[i]);
		char place[80];
		snprintf(place, sizeof place, "item %lld, %s", (long long)i, a->items[i].trajectory_id);
		if (st != RV_OK)
			return rv_fail_in(st, place);
	}
	c->counted = c->n_added;
	c->bank->n_rows += c->counted;
	return RV_OK;
}

static rv_status complete(rv_bank *bank, adding *a, float *embeddings, int64_t n) {
	for (int64_t i = 0; i < n; i++) {
		rv_trajectory *t = &a->items[i];
		char place[32];
		snprintf(place, sizeof place, "item %lld", (long long)i);
		RV_TRY(rv_trajectory_check(t, place));
		RV_TRY(rv_trajectory_embedding(t, place, embeddings + i * RV_EMBEDDING_DIM));
		t->variant = bank->options.variant;
		if (t->trajectory_id[0] == 0)
			rv_store_uuid(bank->store, t->trajectory_id);
		if (t->created_at == 0)
			t->created_at = rv_store_now_ms(bank->store);
	}
	return RV_OK;
}

static rv_status add(rv_bank *bank, adding *a, const rv_trajectory *items, int64_t n) {
	float *embeddings = NULL;
	rv_status st = RV_ALLOC(&a->items, n, "trajectories");
	if (st == RV_OK)
		st = RV_ALLOC(&a->change.added, n, "figures of patterns");
	if (st == RV_OK)
		st = RV_ALLOC(&embeddings, n * RV_EMBEDDING_DIM, "embeddings");
	if (st == RV_OK) {
		memcpy(a->items, items, (size_t)n * sizeof *items);
		st = complete(bank, a, embeddings, n);
	}
	a->change.bank = bank;
	a->change.n_added = n;
	a->change.embeddings = embeddings;
	if (st == RV_OK)
		st = rv_store_write(bank->store, insert_all, rv_bank_change_done, a);
	rv_free(embeddings);
	return st;
}

rv_status rv_bank_add(rv_bank *bank, const rv_trajectory *items, int64_t n, char (*ids)[RV_UUID_TEXT]) {
	if (n < 0 || n > bank->options.capacity + RV_BANK_SLACK)
		return rv_fail(RV_ERR_LIMIT,
		               "bank '%s': %lld trajectories at once, of a capacity of %lld",
		               rv_bank_variant_name(bank->options.variant), (long long)n,
		               (long long)bank->options.capacity);
	if (n == 0)
		return RV_OK;
	RV_TRY(rv_bank_check_whole(bank));
	adding a = {0};
	rv_status st = add(bank, &a, items, n);
	for (int64_t i = 0; st == RV_OK && ids != NULL && i < n; i++)
		memcpy(ids[i], a.items[i].trajectory_id, RV_UUID_TEXT);
	rv_free(a.items);
	rv_free(a.change.added);
	return st == RV_OK ? rv_bank_evict(bank) : st;
}

static rv_status take_key(void *user, int64_t key, const rv_trajectory *t, const float *embedding) {
	(void)embedding;
	rv_bank_change *c = user;
	if (t->variant != c->bank->options.variant)
		return rv_fail(RV_ERR_NOT_FOUND, "bank '%s': trajectory '%s' belongs to '%s'",
		               rv_bank_variant_name(c->bank->options.variant), t->trajectory_id,
		               rv_bank_variant_name(t->variant));
	c->removed[0] = key;
	return RV_OK;
}

typedef struct removing {
	rv_bank_change change;
	const char *id;
} removing;

static rv_status remove_one(void *user, rv_db *db) {
	removing *r = user;
	rv_status st = rv_bank_row_find(db, r->id, take_key, &r->change);
	r->change.n_removed = st == RV_OK;
	RV_TRY(st);
	return rv_bank_change_write(&r->change, db);
}

rv_status rv_bank_remove(rv_bank *bank, const char *trajectory_id) {
	int64_t key = 0;
	removing r = {{.bank = bank, .removed = &key}, trajectory_id};
	RV_TRY(rv_bank_check_whole(bank));
	return rv_store_write(bank->store, remove_one, rv_bank_change_done, &r);
}

/* ---- reading ---- */

typedef struct getting {
	const char *id;
	rv_trajectory *out;
} getting;

/* A row's own memory goes with the row: what is kept goes through its JSON form. */
static rv_status keep(void *user, int64_t key, const rv_trajectory *t, const float *embedding) {
	(void)key;
	(void)embedding;
	const getting *g = user;
	char *text = NULL;
	size_t len;
	json_t *obj = NULL;
	RV_TRY(rv_trajectory_to_json(t, &text, &len));
	rv_status st = rv_json_parse(text, len, t->trajectory_id, &obj);
	if (st == RV_OK)
		st = rv_trajectory_from_json(obj, t->trajectory_id, g->out);
	json_decref(obj);
	rv_free(text);
	return st;
}

static rv_status get(void *user, rv_db *db) {
	const getting *g = user;
	return rv_bank_row_find(db, g->id, keep, user);
}

rv_status rv_bank_get(rv_bank *bank, const char *trajectory_id, rv_trajectory *out) {
	getting g = {trajectory_id, out};
	return rv_store_read(bank->store, get, &g);
}

int64_t rv_bank_count(rv_bank *bank) {
	pthread_rwlock_rdlock(&bank->lock);
	int64_t n = bank->n_live;
	pthread_rwlock_unlock(&bank->lock);
	return n;
}

rv_status rv_bank_stats_get(rv_bank *bank, rv_bank_stats *out) {
	int64_t now = rv_store_now_ms(bank->store);
	rv_hnsw_stats s = rv_hnsw_get_stats(bank->index);
	*out = (rv_bank_stats){.capacity = bank->options.capacity,
	                       .rebuilt = bank->rebuilt,
	                       .caught_up = bank->n_caught_up,
	                       .why_rebuilt = bank->why_rebuilt};
	pthread_rwlock_rdlock(&bank->lock);
	for (int64_t i = 0; i < bank->n_entries; i++) {
		const rv_bank_entry *e = &bank->entries[i];
		if (e->dead)
			continue;
		out->count++;
		out->mean_quality += (double)rv_bank_decayed(bank, e, now);
		out->total_weight += (double)e->weight;
		out->by_verdict[e->verdict]++;
		out->by_source[e->source]++;
		if (out->oldest == 0 || e->created_at < out->oldest)
			out->oldest = e->created_at;
		if (e->created_at > out->newest)
			out->newest = e->created_at;
	}
	out->resident_bytes = s.vector_bytes + s.code_bytes + s.link_bytes + s.other_bytes +
	                      s.sketch_bytes + (size_t)bank->cap * sizeof *bank->entries;
	pthread_rwlock_unlock(&bank->lock);
	if (out->count > 0)
		out->mean_quality /= (double)out->count;
	return RV_OK;
}
