/* The witness log's insides, shared by witness*.c. */
#ifndef RV_MEMORY_WITNESS_INTERNAL_H
#define RV_MEMORY_WITNESS_INTERNAL_H

#include "memory/witness.h"

#include <pthread.h>
#include <sodium.h>

/* The columns between key and hash, in the order of the hash. X(column, kind) */
#define RV_WITNESS_COLUMNS(X)                                                                          \
	X(request_id, TEXT)                                                                            \
	X(session_id, TEXT)                                                                            \
	X(user_id, TEXT)                                                                               \
	X(query_embedding, BLOB)                                                                       \
	X(model, TEXT)                                                                                 \
	X(context_size, INT)                                                                           \
	X(temperature, REAL)                                                                           \
	X(top_p, REAL)                                                                                 \
	X(confidence, REAL)                                                                            \
	X(probability_0, REAL)                                                                         \
	X(probability_1, REAL)                                                                         \
	X(probability_2, REAL)                                                                         \
	X(probability_3, REAL)                                                                         \
	X(model_used, TEXT)                                                                            \
	X(quality_score, REAL)                                                                         \
	X(embedding_ms, REAL)                                                                          \
	X(retrieval_ms, REAL)                                                                          \
	X(routing_ms, REAL)                                                                            \
	X(attention_ms, REAL)                                                                          \
	X(generation_ms, REAL)                                                                         \
	X(total_ms, REAL)                                                                              \
	X(context_doc_ids, TEXT)                                                                       \
	X(response_embedding, BLOB)                                                                    \
	X(timestamp, INT)                                                                              \
	X(error, BLOB)

enum {
#define RV_WITNESS_ENUM(column, kind) RV_WITNESS_##column,
	RV_WITNESS_COLUMNS(RV_WITNESS_ENUM)
#undef RV_WITNESS_ENUM
	        RV_WITNESS_N_COLUMNS
};

/* "key, request_id, ..., error, hash": of a row read, column c is number c + 1. */
#define RV_WITNESS_COLUMN_TEXT(column, kind) ", " #column
#define RV_WITNESS_ALL "key" RV_WITNESS_COLUMNS(RV_WITNESS_COLUMN_TEXT) ", hash"

/* An entry that waits; its values point into the bytes behind it. */
typedef struct rv_witness_item {
	struct rv_witness_item *next;
	int64_t number; /* 1, 2, ... since open */
	int64_t queued_ns;
	rv_db_value values[RV_WITNESS_N_COLUMNS];
} rv_witness_item;

/* The record of the chain. */
typedef struct rv_witness_chain {
	rv_witness_mark begin; /* the last entry that retention cut off */
	rv_witness_mark head;
	int64_t dropped;
	int is_sealed;
} rv_witness_chain;

/* Chain functions run on the writer's or a reader's connection. */
rv_status rv_witness_chain_read(const rv_store *store, rv_db *db, rv_witness_chain *out);
rv_status rv_witness_chain_write(const rv_store *store, rv_db *db, const rv_witness_chain *chain);
/* RV_ERR_FORMAT unless all entries lie within the chain. */
rv_status rv_witness_chain_check(rv_db *db, const rv_witness_chain *chain);
/* Inserts an entry as the chain's next. */
rv_status rv_witness_chain_add(rv_db *db, rv_witness_chain *chain, const rv_db_value *values);
/* The first entry to stay when those older than `before` go from the front. */
rv_status rv_witness_chain_keep(rv_db *db, const rv_witness_chain *chain, int64_t before,
                                int64_t *keep);
/* Deletes entries from the front. */
rv_status rv_witness_chain_cut(rv_db *db, rv_witness_chain *chain, int64_t before, int64_t *n);

/* What of an entry is hashed, behind the tag and the hash before it: key and columns, in pieces. `row`
 * is one of RV_WITNESS_ALL. */
extern const uint8_t rv_witness_kinds[RV_WITNESS_N_COLUMNS]; /* rv_db_value's */
typedef void rv_witness_put(void *user, const void *data, size_t size);
void rv_witness_row_put(const rv_db_row *row, rv_witness_put *put, void *user);
void rv_witness_hash_begin(crypto_hash_sha256_state *state, const uint8_t *before);
void rv_witness_hash_put(void *state, const void *data, size_t size); /* a rv_witness_put */

struct rv_witness {
	rv_store *store;
	rv_witness_options options;
	pthread_t thread;
	int has_thread;
	int64_t dropped_before; /* by the record of the chain at open */

	/* taken for moments only; never while anything is written */
	pthread_mutex_t lock;
	pthread_cond_t work, progress; /* for the thread; for those who wait for it */
	rv_witness_item *head, *tail;  /* stay until they are committed */
	int64_t n_queued, max_queued;
	int64_t n_appended, n_committed, n_dropped;
	int64_t n_batches, n_failed;
	int64_t wanted;   /* number up to which somebody waits */
	int64_t retry_ns; /* no attempt before, unless somebody waits */
	double append_ns; /* sum */
	int stopping;
	rv_status failed_status; /* of the last failed batch */
	char failed_message[RV_ERROR_MESSAGE_MAX];

	pthread_mutex_t chain_lock; /* one who writes to the chain at a time */
	rv_witness_chain chain;     /* as committed */
	int64_t retired_at;         /* the store's clock; the thread's own */
};

/* rv_witness_retire, under the lock of the chain. */
rv_status rv_witness_cut(rv_witness *w, int64_t before, int64_t *n);

/* Thread. */
void *rv_witness_write_main(void *arg);

#endif
