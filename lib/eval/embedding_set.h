/* What embeddings are measured by: graded pairs, searches with graded documents, clusters (SPEC 5; the
 * files of datasets/embedding, whose README says what the grades mean). Similarity is the dot product
 * of vectors of length 1. */
#ifndef RV_EVAL_EMBEDDING_SET_H
#define RV_EVAL_EMBEDDING_SET_H

#include "base/status.h"
#include "engine/embed.h"

#include <stdint.h>

#define RV_EMBEDDING_BANDS 4
extern const char *const rv_embedding_bands[RV_EMBEDDING_BANDS]; /* "high" ... "none" */

typedef struct rv_embedding_set rv_embedding_set;

/* Reads pairs.jsonl, searches.jsonl and clusters.jsonl of a folder. RV_ERR_FORMAT names file and line.
 */
rv_status rv_embedding_set_open(rv_embedding_set **out, const char *dir);
void rv_embedding_set_close(rv_embedding_set *set); /* accepts NULL */

typedef struct rv_embedding_pairs {
	int64_t n;
	int n_bands;                     /* that have pairs */
	double mean[RV_EMBEDDING_BANDS]; /* similarity of each; NaN: none */
	double spearman;                 /* rank correlation of similarity and grade */
	double ordered_pct; /* of two pairs of different grades, how often the higher is more similar */
} rv_embedding_pairs;

typedef struct rv_embedding_search {
	int64_t n;
	double mrr;  /* mean of 1 / rank of the first document of grade 3 */
	double ndcg; /* mean, of all documents; gain 2^grade - 1 */
} rv_embedding_search;

typedef struct rv_embedding_clusters {
	int64_t n_texts, n_clusters;
	double purity;     /* of as many clusters by k-means (cosine; the best of 32 seeded starts) */
	double silhouette; /* of the given clusters: mean of (b - a) / max(a, b), distance 1 - cosine */
} rv_embedding_clusters;

/* Ties rank as the worst for the embedder. One caller at a time an embedder. */
rv_status rv_embedding_pairs_run(const rv_embedding_set *set, rv_embedder *e, rv_embedding_pairs *out);
rv_status rv_embedding_search_run(const rv_embedding_set *set, rv_embedder *e,
                                  rv_embedding_search *out);
rv_status rv_embedding_clusters_run(const rv_embedding_set *set, rv_embedder *e, uint64_t seed,
                                    rv_embedding_clusters *out);

/* The measures alone, on vectors [n, dim]; for tests. */
rv_status rv_embedding_pairs_of(const float *a, const float *b, const int *band, int64_t n, int64_t dim,
                                rv_embedding_pairs *out);
/* One search: reciprocal rank and NDCG of documents with the given similarities and grades. */
void rv_embedding_search_of(const double *similarity, const int *grade, int64_t n, double *reciprocal,
                            double *ndcg);
rv_status rv_embedding_clusters_of(const float *x, const int *cluster, int64_t n, int64_t dim,
                                   int64_t n_clusters, uint64_t seed, rv_embedding_clusters *out);

#endif
