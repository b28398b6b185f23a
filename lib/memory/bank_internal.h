/* The bank's insides, shared by bank*.c. */
#ifndef RV_MEMORY_BANK_INTERNAL_H
#define RV_MEMORY_BANK_INTERNAL_H

#include "memory/bank.h"
#include "memory/hnsw.h"

#include <pthread.h>
#include <stdatomic.h>

/* What is resident of a row beside its vector. */
typedef struct rv_bank_entry {
	int64_t key, created_at;
	uint32_t content_crc;
	float quality, weight;
	uint8_t id[16];
	uint8_t verdict, source;
	uint8_t dead;   /* removed; its place is kept until there are many */
	uint8_t doomed; /* the writer thread's: being removed by a write not yet committed */
} rv_bank_entry;

struct rv_bank {
	rv_store *store;
	rv_bank_options options;
	rv_hnsw *index;
	rv_codec *codec;        /* of resident codes; NULL: full vectors */
	pthread_rwlock_t lock;  /* entries: written by the writer thread alone */
	rv_bank_entry *entries; /* ascending by key */
	int64_t n_entries, cap, n_live;
	int64_t n_rows;  /* the writer thread's: with what is not yet committed */
	int64_t n_stale; /* the writer thread's: removed from the index since open or its last repair */
	_Atomic int broken;       /* an index that could not follow the store: status */
	_Atomic uint64_t changes; /* since open */
	uint64_t saved_changes;
	pthread_mutex_t save_lock;
	int rebuilt;
	int64_t n_caught_up; /* rows the loaded index lacked */
	char why_rebuilt[256];
};

/* ---- bank_rows.c: trajectories as rows ---- */

/* Inserts t with its embedding; fills everything of *entry. */
rv_status rv_bank_row_insert(rv_db *db, const rv_trajectory *t, const float *embedding,
                             rv_bank_entry *entry);
rv_status rv_bank_row_update(rv_db *db, const rv_bank_entry *entry); /* quality and weight */
rv_status rv_bank_row_delete(rv_db *db, int64_t key);
/* Every row of the variant in order of key: *t is whole and borrowed, *embedding its own. */
typedef rv_status rv_bank_row_fn(void *user, int64_t key, const rv_trajectory *t,
                                 const float *embedding);
rv_status rv_bank_rows_visit(rv_db *db, rv_bank_variant variant, rv_bank_row_fn *fn, void *user);
/* One by id: RV_ERR_NOT_FOUND. */
rv_status rv_bank_row_find(rv_db *db, const char *trajectory_id, rv_bank_row_fn *fn, void *user);
/* Key and embedding alone, from `after` on, at most n: keys [n], embeddings [n, RV_EMBEDDING_DIM]. */
rv_status rv_bank_rows_embeddings(rv_db *db, rv_bank_variant variant, int64_t after, int64_t n,
                                  uint64_t *keys, float *embeddings, int64_t *found);
rv_status rv_bank_row_embedding(rv_db *db, int64_t key, float *out); /* RV_ERR_NOT_FOUND */
/* Every row's figures (not its vector), in order of key. */
typedef rv_status rv_bank_entry_fn(void *user, const rv_bank_entry *entry);
rv_status rv_bank_rows_entries(rv_db *db, rv_bank_variant variant, rv_bank_entry_fn *fn, void *user);

/* ---- bank_change.c: what a write does, to the rows and then to the index ---- */

typedef struct rv_bank_change {
	rv_bank *bank;
	rv_bank_entry *added; /* with embeddings [n_added, RV_EMBEDDING_DIM] */
	const float *embeddings;
	int64_t n_added;
	int64_t *removed; /* keys */
	int64_t n_removed;
	rv_bank_entry *updated; /* by key: quality and weight */
	int64_t n_updated;
	int64_t counted; /* by how much n_rows was moved */
} rv_bank_change;

/* The store's done callback of every write: brings the index where the store is, or takes the writer's
 * marks back. `user` is a rv_bank_change. */
void rv_bank_change_done(void *user, rv_status status);
/* Deletes change->removed and updates change->updated. A write callback. */
rv_status rv_bank_change_write(void *user, rv_db *db);
rv_status rv_bank_entries_push(rv_bank *bank, const rv_bank_entry *entry);
/* NULL when it is not there, or dead. Under the lock, or on the writer thread. */
rv_bank_entry *rv_bank_entry_find(const rv_bank *bank, int64_t key);
rv_status rv_bank_check_whole(const rv_bank *bank);
/* Removes what is beyond the capacity, worst first. */
rv_status rv_bank_evict(rv_bank *bank);

/* ---- bank.c: whose vectors the store holds ---- */

rv_status rv_bank_embedder_check(rv_db *db, const char *id, int *is_new);
rv_status rv_bank_embedder_bind(rv_db *db, const char *id);

/* ---- bank_index.c: the index and its file ---- */

rv_status rv_bank_index_open(rv_bank *bank);
rv_status rv_bank_index_save(rv_bank *bank);
void rv_bank_index_drop(rv_bank *bank);

/* ---- figures ---- */

float rv_bank_decayed(const rv_bank *bank, const rv_bank_entry *entry, int64_t now);
void rv_bank_id_text(const uint8_t id[16], char out[RV_UUID_TEXT]);
void rv_bank_id_bytes(const char *text, uint8_t id[16]);

#endif
