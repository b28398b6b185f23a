/* A graph over ids of the memory (sessions, trajectories, documents): which lead to which, how
 * strongly.
 *
 * All edges are in memory; the store is behind by what was changed since the last write. A change is
 * queued to be written at once and never waited for; rv_edges_flush is the barrier. A kill loses what
 * was not committed: weights are learned, a lost step costs one step.
 *
 * Thread-safe between open and close. One graph a store.
 */
#ifndef RV_MEMORY_EDGES_H
#define RV_MEMORY_EDGES_H

#include "memory/store.h"

#define RV_EDGE_MAX_ID 128 /* bytes of an id */

/* X(enumerator, name) */
#define RV_EDGE_TABLE(X)                                                                               \
	X(SESSION, "session") /* asked one after the other */                                          \
	X(SIMILAR, "similar") /* near by their embeddings */                                           \
	X(PATTERN, "pattern") /* this pattern helped there */

typedef enum rv_edge_kind {
#define RV_EDGE_ENUM(name, text) RV_EDGE_##name,
	RV_EDGE_TABLE(RV_EDGE_ENUM)
#undef RV_EDGE_ENUM
	        RV_EDGE_COUNT
} rv_edge_kind;
const char *rv_edge_kind_name(rv_edge_kind kind);
rv_edge_kind rv_edge_kind_by_name(const char *name); /* RV_EDGE_COUNT when unknown */
#define RV_EDGE_ANY ((1u << RV_EDGE_COUNT) - 1)

typedef struct rv_edge {
	const char *source, *target; /* directed: a walk goes from source to target */
	rv_edge_kind kind;
	float weight; /* 0..1 */
} rv_edge;

typedef struct rv_edges rv_edges;

typedef struct rv_edges_options {
	float rate;           /* of a reinforcement: weight *= 1 +- rate. 0.05 */
	float initial_weight; /* of an edge that a reinforcement makes: 0.5 */
	int64_t capacity;     /* edges: 1 000 000 */
} rv_edges_options;
rv_edges_options rv_edges_defaults(void);

/* Reads all edges. options: NULL for defaults. The store must outlive the graph. */
rv_status rv_edges_open(rv_edges **out, rv_store *store, const rv_edges_options *options);
rv_status rv_edges_close(rv_edges *e); /* writes what is left; accepts NULL */

/* Adds an edge or sets its weight. RV_ERR_INVALID: an id or a kind out of bounds, an edge to itself;
 * RV_ERR_NUMERIC: a weight; RV_ERR_LIMIT: the graph is full. */
rv_status rv_edges_set(rv_edges *e, const rv_edge *edge);
/* After a good answer (is_good) the weight grows by the rate, at most to 1; an edge that is not there
 * is made, at the initial weight. After a bad one it shrinks; what is not there stays away. */
rv_status rv_edges_reinforce(rv_edges *e, const char *source, const char *target, rv_edge_kind kind,
                             int is_good);
/* RV_ERR_NOT_FOUND. */
rv_status rv_edges_weight(rv_edges *e, const char *source, const char *target, rv_edge_kind kind,
                          float *weight);
/* Deletes the edges below min_weight, in the store too; *n of them (may be NULL). */
rv_status rv_edges_prune(rv_edges *e, float min_weight, int64_t *n);

typedef struct rv_edges_upkeep {
	/* A weight halves in that time since the last decay, or since this one began to count; 0: none
	 * decay. Decay and its date are one transaction. */
	int64_t now, half_life_ms; /* UTC ms, ms */
	float min_weight;          /* edges below it go; 0: none */
	/* What an id is from now on: itself, another one (its edges go over, the heavier of two stays),
	 * or NULL (its edges go). Must call nothing of the graph or store. NULL: all stay. */
	const char *(*becomes)(void *user, const char *id);
	void *user;
} rv_edges_upkeep;
typedef struct rv_edges_upkeep_report {
	double factor; /* of the decay */
	int64_t n_moved, n_gone;
} rv_edges_upkeep_report;
/* Committed on return, all or none; what changed meanwhile is kept too. report may be NULL. */
rv_status rv_edges_keep_up(rv_edges *e, const rv_edges_upkeep *how, rv_edges_upkeep_report *report);
rv_status rv_edges_flush(rv_edges *e);
int64_t rv_edges_count(rv_edges *e);

typedef struct rv_walk {
	int hops;          /* 1..16: 2 */
	unsigned kinds;    /* bit 1 << kind of those to follow: RV_EDGE_ANY */
	float min_score;   /* paths below end: 0.01 */
	int64_t max_nodes; /* reached in all: 10 000; the walk ends there */
} rv_walk;
rv_walk rv_walk_defaults(void);

typedef struct rv_walk_hit {
	const char *id; /* valid until close */
	float score;    /* of the best path: the product of its weights */
	int hops;       /* of that path */
} rv_walk_hit;

/* What lies within reach of the starts (each with score 1, none of them a hit), best first, equal
 * scores in order of id; *n of at most `cap`. Starts that the graph does not know reach nothing. */
rv_status rv_edges_walk(rv_edges *e, const rv_walk *how, const char *const *starts, size_t n_starts,
                        rv_walk_hit *hits, size_t cap, size_t *n);

/* Orders search results anew: score = (1 - share) similarity + share * the walk's score from the starts
 * (1 for a start itself, 0 out of reach). ids, similarity: [n]. order: [n], the results' numbers, best
 * first, equal ones in their old order; scores (may be NULL): [n], in the new order. share 0..1; 0
 * orders by similarity. */
rv_status rv_edges_rerank(rv_edges *e, const rv_walk *how, const char *const *starts, size_t n_starts,
                          float share, const char *const *ids, const float *similarity, size_t n,
                          size_t *order, float *scores);

#endif
