/* The witness log: what the system decided and how it went, an entry a request.
 *
 * Appending copies the entry into a queue in memory and returns: it takes no lock that a disk is waited
 * for under, so a slow, full or broken disk never holds a request up. A thread of the log writes what
 * waits through the store (store.h), 100 entries in a transaction, or what there is before its oldest
 * is a second old. A kill loses what was not committed: entries of the last second, or the last 100.
 * rv_witness_flush is the barrier; rv_witness_append_sync returns after the commit. A batch that fails
 * is kept and tried again; entries that arrive while the queue is full are dropped and counted, and the
 * count is kept in the log.
 *
 * Entries form a chain: hash = SHA-256("ruvltra witness 1", hash of the entry before, key, columns),
 * the columns in the order of RV_WITNESS_COLUMNS, each as u8 kind (rv_db_value), then i64 or f64, or
 * u64 size and bytes, little-endian. Keys count 1, 2, 3 without a gap. The record of the chain (where
 * it begins after retention, where it ends, what was dropped) is written with each batch; with a key
 * file it is sealed, so that who has no key cannot change an entry, take one away, move one, cut the
 * end off or write the chain anew. Without a key the chain shows damage and clumsy hands: who may write
 * the database may write all of it anew. A whole database put back as it was earlier shows in neither:
 * rv_witness_head, kept elsewhere, tells. The text of an error is sealed as the store does it.
 *
 * Thread-safe between open and close. One log a store.
 */
#ifndef RV_MEMORY_WITNESS_H
#define RV_MEMORY_WITNESS_H

#include "memory/store.h"

#define RV_WITNESS_SLOTS 4
#define RV_WITNESS_MAX_TEXT (1 << 16) /* bytes of an error, of a name */
#define RV_WITNESS_MAX_DOCS 1024
#define RV_WITNESS_HASH 32

/* Parts of a request's time. X(enumerator, column, name) */
#define RV_LATENCY_TABLE(X)                                                                            \
	X(EMBEDDING, embedding_ms, "embedding")                                                        \
	X(RETRIEVAL, retrieval_ms, "retrieval")                                                        \
	X(ROUTING, routing_ms, "routing")                                                              \
	X(ATTENTION, attention_ms, "attention")                                                        \
	X(GENERATION, generation_ms, "generation")                                                     \
	X(TOTAL, total_ms, "total")

typedef enum rv_latency {
#define RV_LATENCY_ENUM(name, column, text) RV_LATENCY_##name,
	RV_LATENCY_TABLE(RV_LATENCY_ENUM)
#undef RV_LATENCY_ENUM
	        RV_LATENCY_COUNT
} rv_latency;
const char *rv_latency_name(rv_latency part);

typedef struct rv_routing_decision {
	const char *model;
	int64_t context_size; /* tokens */
	float temperature, top_p, confidence;
	float model_probs[RV_WITNESS_SLOTS];
} rv_routing_decision;

/* Pointers are borrowed during the call. */
typedef struct rv_witness_entry {
	const char *request_id;       /* a UUID */
	const char *session_id;       /* NULL: none */
	const char *user_id;          /* NULL: none; else the store needs a key, or plaintext */
	const float *query_embedding; /* [RV_EMBEDDING_DIM]; NULL: none */
	rv_routing_decision routing_decision;
	const char *model_used;
	float quality_score; /* 0..1; NaN: not known */
	double latency_ms[RV_LATENCY_COUNT];
	const char *const *context_doc_ids;
	size_t n_context_doc_ids;
	const float *response_embedding; /* [RV_EMBEDDING_DIM]; NULL: none */
	int64_t timestamp;               /* UTC ms; 0: now */
	const char *error;               /* NULL: none */
} rv_witness_entry;

/* No id, no models; quality not known. */
rv_witness_entry rv_witness_entry_defaults(void);

typedef struct rv_witness rv_witness;

typedef struct rv_witness_options {
	int64_t queue_capacity; /* entries that wait, those being written too: 10 000 */
	int64_t batch;          /* entries of a transaction: 100 */
	/* No entry waits longer for its commit to begin than 3/4 of this, which leaves the rest for the
	 * commit: 1000 */
	int64_t batch_ms;
	int64_t retain_ms; /* entries older than that go, once an hour; 0: none. 7 days */
	int archive;       /* 1: into the archive (witness_archive.h); 0 (default): for good */
} rv_witness_options;
rv_witness_options rv_witness_defaults(void);

/* The store must outlive the log. RV_ERR_FORMAT: entries without the record of the chain, or beyond its
 * end; RV_ERR_*: a record that the store's key does not open. options: NULL for defaults. */
rv_status rv_witness_open(rv_witness **out, rv_store *store, const rv_witness_options *options);
/* Writes what waits. A failure to: the entries are lost, the log is closed all the same. Accepts NULL.
 */
rv_status rv_witness_close(rv_witness *w);

/* Queues an entry. RV_ERR_INVALID, RV_ERR_NUMERIC, RV_ERR_LIMIT name the field of a bad one; a user
 * without a key is RV_ERR_INVALID. A full queue: RV_ERR_LIMIT, this entry is dropped and counted, those
 * that wait stay. Nothing that goes wrong here is a reason to fail the request. */
rv_status rv_witness_append(rv_witness *w, const rv_witness_entry *entry);
/* The same, committed on return; waits for room while the queue is full. When the commit fails, this
 * says why and the entry stays queued; where there was no room for it either, it is dropped and
 * counted.
 */
rv_status rv_witness_append_sync(rv_witness *w, const rv_witness_entry *entry);
/* Waits until all entries appended before are committed, or an attempt to do so has failed. */
rv_status rv_witness_flush(rv_witness *w);

typedef struct rv_witness_stats {
	int64_t appended, committed, dropped; /* since open; refused entries are in none of them */
	int64_t queued, max_queued;
	int64_t batches, failed_batches;
	int64_t dropped_ever; /* as the record of the chain has it, and since */
	double append_ns;     /* mean time of an append */
} rv_witness_stats;
void rv_witness_get_stats(rv_witness *w, rv_witness_stats *out);

/* ---- the chain ---- */

typedef struct rv_witness_mark {
	int64_t key; /* of an entry; 0: before the first */
	uint8_t hash[RV_WITNESS_HASH];
} rv_witness_mark;

/* The last committed entry. */
void rv_witness_head(rv_witness *w, rv_witness_mark *out);

typedef struct rv_witness_report {
	int64_t n_entries, first_key, last_key; /* of those that were found good */
	int64_t bad_key;                        /* the first bad or missing one; 0: none */
	int is_sealed;                          /* is the record of the chain sealed? */
} rv_witness_report;

/* Walks the chain as it is committed. known (NULL: none): a head of earlier, which must be in it unless
 * retention cut it off. RV_ERR_FORMAT names the first entry that is altered, missing or beyond the end;
 * *report is filled then too. */
rv_status rv_witness_verify(rv_witness *w, const rv_witness_mark *known, rv_witness_report *report);

/* Deletes the entries before the first that is younger than `before` (UTC ms); *n is their number. The
 * chain then begins at the last of them, which the record keeps the hash of. */
rv_status rv_witness_retire(rv_witness *w, int64_t before, int64_t *n);

/* ---- reading: what is committed ---- */

typedef struct rv_witness_query {
	int64_t since, until;           /* UTC ms, since <= timestamp < until; until 0: no end */
	float min_quality, max_quality; /* NaN: any; else entries without a quality are left out */
	const char *request_id, *session_id, *model_used; /* NULL: any */
	const char *error_text; /* in the text of the error, whatever the case; "": any error */
	const float
	        *similar_to; /* [RV_EMBEDDING_DIM]: rank by cosine to the query's; NULL: newest first */
	float min_similarity; /* of those: -1 */
	int64_t limit;        /* 20 */
} rv_witness_query;
rv_witness_query rv_witness_query_defaults(void);

typedef struct rv_witness_hit {
	int64_t key;
	float similarity; /* NaN unless asked for */
	rv_witness_entry entry;
} rv_witness_hit;
/* `hit` is valid during the call. A failure ends the search with its status. */
typedef rv_status rv_witness_hit_fn(void *user, const rv_witness_hit *hit);

/* Exact: every entry in the time asked for is looked at. RV_ERR_NUMERIC for a vector of length 0 or not
 * finite; an error text that the store's key does not open fails the search. */
rv_status rv_witness_search(rv_witness *w, const rv_witness_query *query, rv_witness_hit_fn *fn,
                            void *user);

typedef struct rv_latency_summary {
	double mean, p50, p95, p99, max; /* ms; percentiles by nearest rank */
} rv_latency_summary;

typedef struct rv_quality_span {
	int64_t since, until; /* UTC ms */
	int64_t n;            /* entries with a quality */
	double mean;          /* NaN: none */
} rv_quality_span;

typedef struct rv_model_use {
	char *model;
	int64_t n, n_errors, n_quality;
	double share;        /* of all entries */
	double mean_quality; /* NaN: none known */
	double mean_total_ms;
} rv_model_use;

typedef struct rv_witness_summary {
	int64_t n, n_errors, n_quality;
	rv_latency_summary latency[RV_LATENCY_COUNT]; /* NaN when n is 0 */
	double mean_quality, quality_per_day;         /* slope by least squares; NaN: fewer than two */
	rv_quality_span *spans;                       /* of equal length, oldest first */
	int64_t n_spans;
	rv_model_use *models; /* by model_used, most used first */
	int64_t n_models;
} rv_witness_summary;

/* Of the entries with since <= timestamp < until (0: up to the newest), n_spans >= 1.
 * rv_witness_summary_deinit by the caller. */
rv_status rv_witness_summarise(rv_witness *w, int64_t since, int64_t until, int64_t n_spans,
                               rv_witness_summary *out);
void rv_witness_summary_deinit(rv_witness_summary *s); /* accepts a zeroed one */

#endif
