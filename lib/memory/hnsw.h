/* Approximate nearest neighbours: a hierarchical navigable small world graph (Malkov and Yashunin,
 * arXiv 1603.09320), built, searched, thinned and repaired in memory.
 *
 * Vectors have the caller's 64-bit ids, unique among the live ones. Distances are metric.h's: smaller
 * is nearer. Cosine keeps each vector scaled to length 1.
 *
 * Threads. Any number of threads may search while others add and remove; a search takes no lock and
 * never waits. Writers exclude each other only where they meet: at a node's list, at the table of ids;
 * rv_hnsw_add_batch and rv_hnsw_repair wait for other writers to leave and keep them out. A vector is
 * found once its add has returned, and no longer once its remove has. A destroyed index must be idle.
 *
 * The graph. Nodes of layer 0 form, besides what the search wants, a tree whose edges are kept in both
 * directions: every node leads to every other, always (rv_hnsw_verify walks it). A removed vector stays
 * in the graph as a step on the way, in no result, until a repair takes it out.
 *
 * Determinism. A batch is inserted in rounds against the graph as it was before the round, so the same
 * calls in the same order give the same graph, to the bit, for any number of threads. Adds that race
 * with each other do not. Two equally near vectors rank by slot: first come, first.
 *
 * Errors (all leave the index as it was): a component that is not finite, RV_ERR_NUMERIC; a cosine
 * vector of length 0 or too long or short for f32, RV_ERR_NUMERIC; an id that is there, RV_ERR_INVALID;
 * an id that is not, RV_ERR_NOT_FOUND; more vectors than the capacity, RV_ERR_LIMIT. */
#ifndef RV_MEMORY_HNSW_H
#define RV_MEMORY_HNSW_H

#include "base/status.h"
#include "base/threads.h"
#include "kernels/kernels.h"
#include "memory/codec.h"
#include "memory/metric.h"

#include <stddef.h>
#include <stdint.h>

typedef struct rv_hnsw rv_hnsw;
typedef struct rv_hnsw_searcher rv_hnsw_searcher;

#define RV_HNSW_MAX_DIM 65536
#define RV_HNSW_MAX_M 512
#define RV_HNSW_MAX_EF 65536
#define RV_HNSW_MAX_CAPACITY (((int64_t)1 << 31) - 2)

typedef struct rv_hnsw_options {
	rv_metric metric;
	int dim;             /* components of a vector, 1..RV_HNSW_MAX_DIM */
	int m;               /* links of a node in an upper layer, 2..RV_HNSW_MAX_M; 2 m in layer 0 */
	int ef_construction; /* candidates while inserting, at least m */
	int ef_search;       /* of searches that ask for ef 0 */
	/* The most vectors it will hold, removed ones that no repair took out included. Costs address
	 * space; memory is taken as vectors come. */
	int64_t capacity;
	uint64_t seed;
	/* Bounds of distances from a few leading directions of the data save most full distances and
	 * change no result (hnsw_sketch.h). They are learned at 1000 vectors and each time there are
	 * eight times as many, by the add that comes to it (some microseconds a vector); data without
	 * such directions get none. 0: off. */
	int sketch;
	/* Trained, for this metric and dim; must outlive the index. Searches then compare codes, and
	 * put the nearest `rerank` by code (0: all ef) in the order of their vectors. NULL: none. */
	const rv_codec *codec;
	int rerank;
	/* Keep codes and no vectors: distances are the codec's everywhere, to be put right by the
	 * caller (rerank.h). */
	int codes_only;
	const rv_kernels *kernels; /* NULL: of the strongest level */
} rv_hnsw_options;

/* cosine, M 16, ef_construction 200, ef_search 50; dim and capacity are the caller's to set. */
rv_hnsw_options rv_hnsw_defaults(void);

rv_status rv_hnsw_create(rv_hnsw **out, const rv_hnsw_options *options);
void rv_hnsw_destroy(rv_hnsw *index); /* accepts NULL */
const rv_hnsw_options *rv_hnsw_get_options(const rv_hnsw *index);

/* ---- writing ---- */

/* vector: [options.dim]. */
rv_status rv_hnsw_add(rv_hnsw *index, uint64_t id, const float *vector);

/* vectors: [n, options.dim], row-major; threads: NULL is the caller alone. All or nothing: every row is
 * checked first, and the message of a failure names the row. */
rv_status rv_hnsw_add_batch(rv_hnsw *index, const uint64_t *ids, const float *vectors, int64_t n,
                            rv_threads *threads);

rv_status rv_hnsw_remove(rv_hnsw *index, uint64_t id);

/* Searches pass through removed vectors, and are slower while there are any: repair when they are a
 * quarter or so. Takes removed vectors out of the graph, links those that led to them anew, and gives
 * their places back to the capacity. Waits until every search begun before has ended. An add that finds
 * the index full does this by itself. */
rv_status rv_hnsw_repair(rv_hnsw *index, rv_threads *threads);

/* ---- reading ---- */

/* Is the vector of this id to be in results? Called from searches, often and from any thread; must not
 * call the index. */
typedef int rv_hnsw_filter_fn(void *user, uint64_t id);

typedef struct rv_hnsw_filter {
	rv_hnsw_filter_fn *fn;
	void *user;
} rv_hnsw_filter;

/* The k nearest of `query` ([options.dim]) into ids and distances ([k] each; either may be NULL),
 * nearest first; *n of them: fewer than k when there are no more (or pass the filter). ef: candidates
 * kept, at least k are (0: options.ef_search); with a filter, ef counts those that pass, so that recall
 * does not fall with what it lets through (time does). filter: NULL for none. */
rv_status rv_hnsw_search(rv_hnsw *index, const float *query, int64_t k, int ef,
                         const rv_hnsw_filter *filter, uint64_t *ids, float *distances, int64_t *n);

/* The same with working memory of the caller's, one a thread: what rv_hnsw_search borrows from the
 * index. Destroy it before the index. */
rv_status rv_hnsw_searcher_create(rv_hnsw_searcher **out, rv_hnsw *index);
void rv_hnsw_searcher_destroy(rv_hnsw_searcher *searcher); /* accepts NULL */
rv_status rv_hnsw_search_with(rv_hnsw_searcher *searcher, const float *query, int64_t k, int ef,
                              const rv_hnsw_filter *filter, uint64_t *ids, float *distances,
                              int64_t *n);

/* What a searcher has done since it was made. */
typedef struct rv_hnsw_work {
	uint64_t searches, hops;            /* hops: nodes whose links were followed */
	uint64_t distances, code_distances; /* of vectors, of codes */
	uint64_t bounded;                   /* found too far by their bound alone */
} rv_hnsw_work;
rv_hnsw_work rv_hnsw_searcher_work(const rv_hnsw_searcher *searcher);

int64_t rv_hnsw_count(const rv_hnsw *index); /* live vectors */
int rv_hnsw_has(rv_hnsw *index, uint64_t id);
/* The vector as it is kept: with cosine, scaled; with codes alone, what its code stands for.
 * RV_ERR_NOT_FOUND. */
rv_status rv_hnsw_get(rv_hnsw *index, uint64_t id, float *vector);

typedef struct rv_hnsw_stats {
	int64_t live, removed; /* removed: still in the graph */
	int64_t links;         /* of all layers */
	int max_level;
	size_t vector_bytes, code_bytes, link_bytes, sketch_bytes; /* of the nodes in use */
	size_t other_bytes; /* ids, tree, levels, the table of ids */
} rv_hnsw_stats;
/* Walks all lists, with writers kept out. */
rv_hnsw_stats rv_hnsw_get_stats(rv_hnsw *index);

/* Checks everything a search or a repair relies on: every node of layer 0 is reached from the entry
 * point and leads back, degrees and slots are within bounds, no list names itself or a node twice, ids
 * are unique and found, vectors are finite (and of length 1 for cosine). RV_ERR_FORMAT and what is
 * wrong. No writer may be active. */
rv_status rv_hnsw_verify(rv_hnsw *index);

#endif
