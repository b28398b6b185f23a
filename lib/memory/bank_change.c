/* Writes of the bank: rows first, and when they are committed the resident figures and the index, in
 * the order of the commits, on the store's writer thread. */
#include "base/mem.h"
#include "memory/bank_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPAIR_AT_LEAST 32 /* removed nodes: fewer are no burden */
#define BATCH 64           /* from so many vectors on the index takes them as a batch */

/* ---- resident figures ---- */

void rv_bank_id_bytes(const char *text, uint8_t id[16]) {
	for (int i = 0, at = 0; i < 16; i++, at += 2) {
		unsigned byte = 0;
		at += text[at] == '-';
		sscanf(text + at, "%2x", &byte);
		id[i] = (uint8_t)byte;
	}
}

void rv_bank_id_text(const uint8_t id[16], char out[RV_UUID_TEXT]) {
	static const char digits[] = "0123456789abcdef";
	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*out++ = '-';
		*out++ = digits[id[i] >> 4];
		*out++ = digits[id[i] & 15];
	}
	*out = 0;
}

float rv_bank_decayed(const rv_bank *bank, const rv_bank_entry *e, int64_t now) {
	if (bank->options.half_life_ms == 0 || now <= e->created_at)
		return e->quality;
	return e->quality * exp2f(-(float)(now - e->created_at) / (float)bank->options.half_life_ms);
}

rv_bank_entry *rv_bank_entry_find(const rv_bank *bank, int64_t key) {
	int64_t low = 0, high = bank->n_entries;
	while (low < high) {
		int64_t middle = (low + high) / 2;
		if (bank->entries[middle].key < key)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == bank->n_entries || bank->entries[low].key != key || bank->entries[low].dead)
		return NULL;
	return &bank->entries[low];
}

rv_status rv_bank_entries_push(rv_bank *bank, const rv_bank_entry *entry) {
	if (bank->n_entries == bank->cap) {
		int64_t cap = bank->cap ? 2 * bank->cap : 1024;
		RV_TRY(RV_GROW(&bank->entries, bank->cap, cap, "figures of patterns"));
		bank->cap = cap;
	}
	bank->entries[bank->n_entries++] = *entry;
	bank->n_live++;
	return RV_OK;
}

/* Dead places go when they are half of all. */
static void compact(rv_bank *bank) {
	if (bank->n_entries - bank->n_live <= bank->n_live + 1024)
		return;
	int64_t n = 0;
	for (int64_t i = 0; i < bank->n_entries; i++)
		if (!bank->entries[i].dead)
			bank->entries[n++] = bank->entries[i];
	bank->n_entries = n;
}

static void change_figures(rv_bank *bank, const rv_bank_change *c) {
	pthread_rwlock_wrlock(&bank->lock);
	for (int64_t i = 0; i < c->n_removed; i++) {
		rv_bank_entry *e = rv_bank_entry_find(bank, c->removed[i]);
		if (e != NULL) {
			e->dead = 1;
			bank->n_live--;
		}
	}
	for (int64_t i = 0; i < c->n_updated; i++) {
		rv_bank_entry *e = rv_bank_entry_find(bank, c->updated[i].key);
		if (e != NULL) {
			e->quality = c->updated[i].quality;
			e->weight = c->updated[i].weight;
		}
	}
	compact(bank);
	pthread_rwlock_unlock(&bank->lock);
}

static rv_status add_figures(rv_bank *bank, const rv_bank_change *c) {
	rv_status st = RV_OK;
	pthread_rwlock_wrlock(&bank->lock);
	for (int64_t i = 0; i < c->n_added && st == RV_OK; i++)
		st = rv_bank_entries_push(bank, &c->added[i]);
	pthread_rwlock_unlock(&bank->lock);
	return st;
}

/* ---- the index ---- */

/* Removed nodes lengthen every search until a repair takes them out: at a third of the live ones. */
static rv_status repair_index(rv_bank *bank) {
	if (bank->n_stale <= REPAIR_AT_LEAST || bank->n_stale <= rv_hnsw_count(bank->index) / 3)
		return RV_OK;
	bank->n_stale = 0;
	return rv_hnsw_repair(bank->index, bank->options.threads);
}

static rv_status change_index(rv_bank *bank, const rv_bank_change *c) {
	for (int64_t i = 0; i < c->n_removed; i++)
		RV_TRY(rv_hnsw_remove(bank->index, (uint64_t)c->removed[i]));
	bank->n_stale += c->n_removed;
	RV_TRY(repair_index(bank));
	if (c->n_added < BATCH) {
		for (int64_t i = 0; i < c->n_added; i++)
			RV_TRY(rv_hnsw_add(bank->index, (uint64_t)c->added[i].key,
			                   c->embeddings + i * RV_EMBEDDING_DIM));
		return RV_OK;
	}
	uint64_t *keys = NULL;
	RV_TRY(RV_ALLOC(&keys, c->n_added, "keys"));
	for (int64_t i = 0; i < c->n_added; i++)
		keys[i] = (uint64_t)c->added[i].key;
	rv_status st =
	        rv_hnsw_add_batch(bank->index, keys, c->embeddings, c->n_added, bank->options.threads);
	rv_free(keys);
	return st;
}

void rv_bank_change_done(void *user, rv_status status) {
	rv_bank_change *c = user;
	rv_bank *bank = c->bank;
	if (status != RV_OK) {
		bank->n_rows -= c->counted;
		for (int64_t i = 0; i < c->n_removed; i++) {
			rv_bank_entry *e = rv_bank_entry_find(bank, c->removed[i]);
			if (e != NULL)
				e->doomed = 0;
		}
		return;
	}
	/* what has figures has a node: figures go before it and come after it */
	change_figures(bank, c);
	rv_status st = change_index(bank, c);
	if (st == RV_OK)
		st = add_figures(bank, c);
	if (st != RV_OK) {
		rv_logf(rv_store_log(bank->store), RV_LOG_WARN,
		        "%s: the index of bank '%s' fell behind: %s", rv_store_path(bank->store),
		        rv_bank_variant_name(bank->options.variant), rv_error_message());
		atomic_store(&bank->broken, (int)st);
	}
	atomic_fetch_add(&bank->changes, 1);
}

rv_status rv_bank_check_whole(const rv_bank *bank) {
	int broken = atomic_load(&bank->broken);
	if (broken != RV_OK)
		return rv_fail((rv_status)broken,
		               "%s: the index of bank '%s' fell behind; open it again",
		               rv_store_path(bank->store), rv_bank_variant_name(bank->options.variant));
	return RV_OK;
}

rv_status rv_bank_change_write(void *user, rv_db *db) {
	rv_bank_change *c = user;
	for (int64_t i = 0; i < c->n_removed; i++) {
		rv_bank_entry *e = rv_bank_entry_find(c->bank, c->removed[i]);
		if (e == NULL || e->doomed)
			return rv_fail(RV_ERR_NOT_FOUND, "%s: table trajectories: no key %lld",
			               rv_db_path(db), (long long)c->removed[i]);
		RV_TRY(rv_bank_row_delete(db, c->removed[i]));
	}
	for (int64_t i = 0; i < c->n_updated; i++)
		RV_TRY(rv_bank_row_update(db, &c->updated[i]));
	for (int64_t i = 0; i < c->n_removed; i++)
		rv_bank_entry_find(c->bank, c->removed[i])->doomed = 1;
	c->bank->n_rows -= c->n_removed;
	c->counted -= c->n_removed;
	return RV_OK;
}

/* ---- capacity ---- */

typedef struct ranked {
	double worth;
	int64_t key;
} ranked;

static int worse_first(const void *a, const void *b) {
	const ranked *x = a, *y = b;
	return x->worth != y->worth ? (x->worth < y->worth ? -1 : 1) : x->key < y->key ? -1 : 1;
}

/* The order by decayed quality is the same at any time: log2 q + created / half-life. */
static double worth(const rv_bank *bank, const rv_bank_entry *e) {
	double half_life = (double)bank->options.half_life_ms;
	return log2((double)e->quality + 1e-9) +
	       (half_life > 0 ? (double)e->created_at / half_life : 0);
}

/* On the writer thread, where nobody else changes the figures. */
static rv_status choose_worst(rv_bank *bank, rv_bank_change *c) {
	int64_t over = bank->n_rows - bank->options.capacity, n = 0;
	if (over <= 0)
		return RV_OK;
	over += bank->options.capacity / 100; /* room for a while */
	ranked *all = NULL;
	RV_TRY(RV_ALLOC(&all, bank->n_entries, "ranked patterns"));
	for (int64_t i = 0; i < bank->n_entries; i++)
		if (!bank->entries[i].dead && !bank->entries[i].doomed)
			all[n++] = (ranked){worth(bank, &bank->entries[i]), bank->entries[i].key};
	if (n > 0)
		qsort(all, (size_t)n, sizeof *all, worse_first);
	c->n_removed = over < n ? over : n;
	rv_status st = RV_ALLOC(&c->removed, c->n_removed, "keys");
	for (int64_t i = 0; i < c->n_removed && st == RV_OK; i++)
		c->removed[i] = all[i].key;
	rv_free(all);
	return st;
}

static rv_status evict(void *user, rv_db *db) {
	rv_bank_change *c = user;
	RV_TRY(choose_worst(c->bank, c));
	return rv_bank_change_write(c, db);
}

rv_status rv_bank_evict(rv_bank *bank) {
	pthread_rwlock_rdlock(&bank->lock);
	int full = bank->n_live > bank->options.capacity;
	pthread_rwlock_unlock(&bank->lock);
	if (!full)
		return RV_OK;
	rv_bank_change c = {.bank = bank};
	rv_status st = rv_store_write(bank->store, evict, rv_bank_change_done, &c);
	rv_free(c.removed);
	return st;
}
