/* HNSW indexes over sets of vectors, kept under <root>/build/cache/indexes by content: set, options,
 * code, machine class and number of threads, so that the time it took to build one is that of a build
 * like this. Ids are rows of the set's base. */
#ifndef RV_LAB_VECTOR_INDEX_H
#define RV_LAB_VECTOR_INDEX_H

#include "lab/vector_sets.h"
#include "memory/hnsw.h"

#define RV_NO_CODE RV_CODE_COUNT

typedef struct rv_vector_index {
	rv_hnsw *index;
	rv_codec *codec; /* NULL: of vectors alone */
	double build_s;  /* on all threads of the run, training of the codec included */
	int cached;      /* found, not built now */
} rv_vector_index;

/* options: dim and metric are the set's, capacity is its n, `spare` more and codec is that of `code`,
 * trained on the base. */
rv_status rv_vector_index_open(rv_vector_index *out, const rv_run_config *config,
                               const rv_vector_set *set, const rv_hnsw_options *options,
                               rv_code_kind code, int64_t spare);
void rv_vector_index_close(rv_vector_index *index); /* accepts a zeroed one */

/* Searches for queries [from, from + n) of the set, round its end, one after the other on the caller:
 * rows found: [n, k] filled up with -1 (may be NULL), seconds in all, and of each query ([n], may be
 * NULL). */
rv_status rv_vector_index_search(const rv_vector_index *index, const rv_vector_set *set, int64_t from,
                                 int64_t n, int k, int ef, int32_t *rows, double *seconds,
                                 double *each);

/* Recall at k of all queries of the set (memory/brute.h): as ann-benchmarks counts it, and with ties
 * alone (epsilon 1e-6, what rounding does). Either may be NULL. */
rv_status rv_vector_index_recall(const rv_vector_index *index, const rv_vector_set *set, int k, int ef,
                                 double *within_epsilon, double *exact);

#endif
