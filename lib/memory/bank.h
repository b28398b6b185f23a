/* ReasoningBank: trajectories of one variant, found by meaning.
 *
 * The store holds them whole; the bank keeps a vector and a few figures of each resident, in an HNSW
 * index (cosine) whose ids are the rows' keys. The index follows the commits, in their order, on the
 * store's writer thread, so it holds exactly what is committed. rv_bank_save keeps it in
 * DIR/bank-<variant>.hnsw. At open that file is used if it is whole and, once the rows it lacks are
 * added, holds what the store holds (number, keys, hashes of all vectors); if not, the index is built
 * from the store.
 *
 * Thread-safe between open and close: any number of callers of every function. One bank of a variant
 * may be open on a store.
 */
#ifndef RV_MEMORY_BANK_H
#define RV_MEMORY_BANK_H

#include "base/threads.h"
#include "memory/store.h"
#include "memory/trajectory.h"

typedef struct rv_bank rv_bank;

#define RV_BANK_MAX_CAPACITY 10000000
#define RV_BANK_SLACK 4096 /* what one add or import may bring beyond the capacity */

typedef struct rv_bank_options {
	rv_bank_variant variant;
	int64_t capacity;        /* patterns; the worst by decayed quality go when it is full */
	float quality_threshold; /* of searches that name none */
	int m, ef_construction, ef_search;
	int64_t half_life_ms; /* a pattern's quality halves in this time; 0: never */
	/* 0: 8 bits a component are resident (SQ8, a quarter of the memory), and a search puts its
	 * candidates right by the stored vectors, some tens of reads. 1: f32, and no reads. */
	int full_vectors;
	uint64_t seed;
	rv_threads *threads; /* for building the index; used inside open and import only; NULL: none */
	int keep_index;      /* save the index at close: 1 */
} rv_bank_options;

/* The variant's capacity, threshold and parameters (base 50 000, 0.6, 16/200/50; coder 100 000, 0.7;
 * agent 50 000, 0.6, 32/400/50), half-life 30 days. */
rv_bank_options rv_bank_defaults(rv_bank_variant variant);

rv_status rv_bank_open(rv_bank **out, rv_store *store, const rv_bank_options *options);
/* Saves the index if it changed. The bank is gone either way. Accepts NULL. */
rv_status rv_bank_close(rv_bank *bank);
/* Writes the index file (a cache: losing it costs time alone). */
rv_status rv_bank_save(rv_bank *bank);

/* Vectors of two embedders do not compare. The first `id` given is the store's (a read-only one without
 * any takes all); another is RV_ERR_MISMATCH naming both. Exports say whose vectors they are; imports
 * bind the store, or are refused. */
rv_status rv_bank_bind_embedder(rv_bank *bank, const char *id);

/* ---- writing; each returns after its commit ---- */

/* Stores n trajectories, all or none. Their variant is the bank's; a missing id, time or source's are
 * filled in. ids (may be NULL): [n] of RV_UUID_TEXT. An id that is there already is RV_ERR_MISMATCH;
 * the message names the item ("item 3: ..."). */
rv_status rv_bank_add(rv_bank *bank, const rv_trajectory *items, int64_t n, char (*ids)[RV_UUID_TEXT]);
rv_status rv_bank_remove(rv_bank *bank, const char *trajectory_id);

/* ---- reading ---- */

/* Whole, from the store (rv_trajectory_deinit by the caller); its checksums are checked. */
rv_status rv_bank_get(rv_bank *bank, const char *trajectory_id, rv_trajectory *out);

typedef enum rv_bank_order { RV_BANK_BY_SIMILARITY, RV_BANK_BY_SCORE } rv_bank_order;

typedef struct rv_bank_query {
	int64_t k; /* 10 */
	int ef;    /* 0: the bank's */
	/* decayed quality at least this; negative: the bank's threshold */
	float min_quality;
	unsigned verdicts; /* bit 1 << verdict of those wanted; 0: all */
	int64_t since;     /* created at or after, UTC ms */
	/* score: similarity * decayed quality, among the nearest 4 k */
	rv_bank_order order;
} rv_bank_query;
rv_bank_query rv_bank_query_defaults(void);

typedef struct rv_bank_hit {
	char trajectory_id[RV_UUID_TEXT];
	int64_t key, created_at;
	float similarity; /* cosine */
	float quality;    /* decayed to now */
	float weight;
	rv_trajectory_verdict verdict;
	rv_source source;
} rv_bank_hit;

/* The best k for `query` [RV_EMBEDDING_DIM] into hits [k], best first; *n of them. RV_ERR_NUMERIC for a
 * query of length 0 or not finite. */
rv_status rv_bank_search(rv_bank *bank, const float *query, const rv_bank_query *how, rv_bank_hit *hits,
                         int64_t *n);

/* Every pattern whose decayed quality at `now` (UTC ms) is at least min_quality, in order of key, from
 * one snapshot of the store. *t is borrowed; *embedding: what it is found by. A callback that fails
 * ends the visit with its status. It must not write to the store. */
typedef struct rv_bank_pattern {
	const rv_trajectory *t;
	const float *embedding; /* [RV_EMBEDDING_DIM] */
	float quality;          /* decayed */
} rv_bank_pattern;
typedef rv_status rv_bank_visit_fn(void *user, const rv_bank_pattern *pattern);
rv_status rv_bank_visit(rv_bank *bank, int64_t now, float min_quality, rv_bank_visit_fn *fn,
                        void *user);

int64_t rv_bank_count(rv_bank *bank);

typedef struct rv_bank_stats {
	int64_t count, capacity;
	double mean_quality, total_weight; /* weight: trajectories these stand for */
	int64_t by_verdict[RV_VERDICT_COUNT], by_source[RV_SOURCE_COUNT];
	int64_t oldest, newest;  /* created_at; 0 when empty */
	size_t resident_bytes;   /* vectors, links, figures */
	int rebuilt;             /* was the index built at open? */
	int64_t caught_up;       /* rows that were added to the loaded index at open */
	const char *why_rebuilt; /* "" if not; lives as long as the bank */
} rv_bank_stats;
rv_status rv_bank_stats_get(rv_bank *bank, rv_bank_stats *out);

/* Compares everything: the graph's own rules, the same rows in store, figures and index, the index'
 * vectors with the stored ones, the checksum of every row. RV_ERR_MISMATCH or RV_ERR_FORMAT names the
 * first difference. No writer may be active. */
rv_status rv_bank_verify(rv_bank *bank);

/* ---- upkeep ---- */

typedef struct rv_bank_distill_options {
	float merge_similarity; /* near-duplicates at least this alike are merged: 0.95 */
	int64_t max_patterns;   /* clusters beyond that (K-means++, weights by quality); 0: no limit */
	int max_rounds;         /* of K-means: 10 */
	uint64_t seed;
	/* May be NULL. Called after the commit for each pattern that went into another, with the one
	 * that stayed. */
	void (*went)(void *user, const char *id, const char *into);
	/* May be NULL. Polled from several threads; RV_ERR_CANCELLED, nothing was changed. */
	int (*cancelled)(void *user);
	void *user;
} rv_bank_distill_options;
rv_bank_distill_options rv_bank_distill_defaults(void);

typedef struct rv_bank_distill_report {
	int64_t before, merged, clustered, after; /* merged + clustered patterns went into others */
} rv_bank_distill_report;

/* Merges what says the same: a group's representative is its member of best quality (weight breaks
 * ties, then age), its quality the mean over the group by weight * quality, its weight their sum; the
 * others are deleted. One transaction. Verdicts are never mixed. */
rv_status rv_bank_distill(rv_bank *bank, const rv_bank_distill_options *options,
                          rv_bank_distill_report *report);

/* Deletes patterns older than max_age_ms (0: any age) whose decayed quality is below min_quality; *n is
 * their number. */
rv_status rv_bank_prune(rv_bank *bank, int64_t max_age_ms, float min_quality, int64_t *n);

typedef struct rv_bank_pruning {
	int64_t now;        /* UTC ms */
	int64_t max_age_ms; /* patterns that are at least so old */
	float min_quality;  /* and whose quality is below */
	int undecayed;      /* the quality it was stored with, not what is left of it */
	void (*went)(void *user, const char *id, const char *into); /* as above, into NULL */
	void *user;
} rv_bank_pruning;
rv_status rv_bank_prune_by(rv_bank *bank, const rv_bank_pruning *how, int64_t *n);

/* ---- between machines: JSON Lines of trajectory.h's form ---- */

/* Writes every pattern whose decayed quality is at least min_quality, in order of key (atomic; "-":
 * standard output). */
rv_status rv_bank_export(rv_bank *bank, const char *path, float min_quality, int64_t *n);

typedef struct rv_bank_import_report {
	int64_t lines, added, duplicates; /* duplicates: ids that are here already, left as they are */
} rv_bank_import_report;

/* Adds what is new, with source `federated`. A malformed line is refused by file and number and then
 * nothing of the file is imported; an id twice in the file is malformed. Vectors of another embedder
 * are RV_ERR_MISMATCH. */
rv_status rv_bank_import(rv_bank *bank, const char *path, rv_bank_import_report *report);
/* The same of bytes in memory. */
rv_status rv_bank_import_text(rv_bank *bank, const char *data, size_t size, const char *name,
                              rv_bank_import_report *report);

#endif
