/* Sets of vectors that experiments search: base, queries drawn as the base is but not in it, and the
 * exact nearest neighbours of each query by cosine. Made once and kept under <root>/build/cache/vectors
 * by content, for all programs.
 *
 *   clustered   400 Gaussian clusters with weights from a Dirichlet distribution (0.5) in 48 latent
 *               dimensions, projected at random, noise 0.05 on every component, length 1
 *   uniform     directions without structure: normal components, length 1
 *   embeddings  texts of the project's data sets (runs of whole words, about 64 bytes) by the run's
 *               model: engine/embed.h */
#ifndef RV_LAB_VECTOR_SETS_H
#define RV_LAB_VECTOR_SETS_H

#include "base/file.h"
#include "lab/experiment.h"
#include "memory/brute.h"

#include <stdint.h>

/* X(enumerator, name) */
#define RV_VECTOR_SET_TABLE(X)                                                                         \
	X(CLUSTERED, "clustered")                                                                      \
	X(UNIFORM, "uniform")                                                                          \
	X(EMBEDDINGS, "embeddings")

typedef enum rv_vector_kind {
#define RV_VECTOR_SET_ENUM(name, text) RV_VECTOR_SET_##name,
	RV_VECTOR_SET_TABLE(RV_VECTOR_SET_ENUM)
#undef RV_VECTOR_SET_ENUM
	        RV_VECTOR_SET_COUNT
} rv_vector_kind;

const char *rv_vector_set_name(rv_vector_kind kind);
rv_vector_kind rv_vector_set_by_name(const char *name); /* RV_VECTOR_SET_COUNT when unknown */

typedef struct rv_vector_spec {
	rv_vector_kind kind;
	int64_t n, n_queries;
	int dim;
	int k; /* neighbours a query that are known; at most n */
	uint64_t seed;
} rv_vector_spec;

typedef struct rv_vector_set {
	rv_vector_spec spec;
	char key[17];              /* 16 hex digits: of everything that decides what is in it */
	const float *base;         /* [n, dim] */
	const float *queries;      /* [n_queries, dim] */
	const float *truth;        /* [n_queries, k]: distances, ascending */
	const int32_t *truth_rows; /* [n_queries, k] */
	rv_map map;
} rv_vector_set;

/* Finds or makes the set; what `out` points to is mapped until the close. Fixtures may call it: what is
 * made by one is there for the next. config is used for its root, model, threads, log and cancelling.
 */
rv_status rv_vector_set_open(rv_vector_set *out, const rv_run_config *config,
                             const rv_vector_spec *spec);
void rv_vector_set_close(rv_vector_set *set); /* accepts a zeroed one */

/* ---- vector_make.c: one set without a cache ---- */

/* base: [n, dim], queries: [n_queries, dim]. Rows of a seed do not depend on n: a smaller set is the
 * beginning of a larger one (but for embeddings). */
rv_status rv_vectors_make(const rv_run_config *config, const rv_vector_spec *spec, float *base,
                          float *queries);
/* What decides the vectors beside the spec: versions, model, texts. */
rv_status rv_vectors_describe(const rv_run_config *config, const rv_vector_spec *spec, char *out,
                              size_t size);

#endif
