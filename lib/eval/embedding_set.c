#include "eval/embedding_set.h"

#include "base/jsonl.h"
#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const char *const rv_embedding_bands[RV_EMBEDDING_BANDS] = {"high", "medium", "low", "none"};

#define GRADE_MAX 3

/* Texts one after the other, each with a number (band, grade or cluster) and a group (search). */
typedef struct texts {
	rv_embed_input *at; /* [n] owned texts */
	int *number, *group;
	int64_t n, cap;
} texts;

struct rv_embedding_set {
	texts pairs;    /* a, b, a, b ...; number: band */
	texts searches; /* a query (number -1), then its documents; group: search */
	texts clusters; /* number: cluster */
	char *cluster_names[64];
	int n_clusters, n_searches;
};

typedef struct reading {
	rv_embedding_set *set;
	const char *path;
} reading;

static rv_status add(texts *t, const char *text, int number, int group) {
	if (t->n == t->cap) {
		const int64_t cap = t->cap ? 2 * t->cap : 64;
		RV_TRY(RV_GROW(&t->at, t->cap, cap, "texts"));
		RV_TRY(RV_GROW(&t->number, t->cap, cap, "texts"));
		RV_TRY(RV_GROW(&t->group, t->cap, cap, "texts"));
		t->cap = cap;
	}
	char *copy;
	RV_TRY(rv_strdup(&copy, text));
	t->number[t->n] = number;
	t->group[t->n] = group;
	t->at[t->n++] = (rv_embed_input){copy, strlen(copy)};
	return RV_OK;
}

static void free_texts(texts *t) {
	for (int64_t i = 0; i < t->n; i++)
		rv_free((char *)(uintptr_t)t->at[i].text);
	rv_free(t->at);
	rv_free(t->number);
	rv_free(t->group);
}

static void place_of(char place[256], const reading *r, size_t line) {
	snprintf(place, 256, "%.200s, line %zu", r->path, line);
}

static rv_status read_pair(void *user, json_t *row, size_t line) {
	const reading *r = user;
	char place[256];
	const char *a, *b, *grade;
	place_of(place, r, line);
	RV_TRY(rv_json_string(row, place, "a", &a));
	RV_TRY(rv_json_string(row, place, "b", &b));
	RV_TRY(rv_json_string(row, place, "grade", &grade));
	for (int k = 0; k < RV_EMBEDDING_BANDS; k++)
		if (strcmp(grade, rv_embedding_bands[k]) == 0) {
			RV_TRY(add(&r->set->pairs, a, k, 0));
			return add(&r->set->pairs, b, k, 0);
		}
	return rv_fail(RV_ERR_FORMAT, "%s: grade '%s' is none of high, medium, low, none", place,
	               grade);
}

static rv_status read_search(void *user, json_t *row, size_t line) {
	const reading *r = user;
	rv_embedding_set *set = r->set;
	char place[256];
	const char *query, *text;
	size_t i;
	json_t *documents = json_object_get(row, "documents"), *document;
	place_of(place, r, line);
	RV_TRY(rv_json_string(row, place, "query", &query));
	if (!json_is_array(documents) || json_array_size(documents) == 0)
		return rv_fail(RV_ERR_FORMAT, "%s: no array 'documents'", place);
	RV_TRY(add(&set->searches, query, -1, set->n_searches));
	json_array_foreach(documents, i, document) {
		int64_t grade;
		RV_TRY(rv_json_int(document, place, "grade", 0, GRADE_MAX, &grade));
		RV_TRY(rv_json_string(document, place, "text", &text));
		RV_TRY(add(&set->searches, text, (int)grade, set->n_searches));
	}
	set->n_searches++;
	return RV_OK;
}

static rv_status read_cluster(void *user, json_t *row, size_t line) {
	const reading *r = user;
	rv_embedding_set *set = r->set;
	char place[256];
	const char *name, *text;
	int k = 0;
	place_of(place, r, line);
	RV_TRY(rv_json_string(row, place, "cluster", &name));
	RV_TRY(rv_json_string(row, place, "text", &text));
	while (k < set->n_clusters && strcmp(set->cluster_names[k], name) != 0)
		k++;
	if (k == (int)(sizeof set->cluster_names / sizeof *set->cluster_names))
		return rv_fail(RV_ERR_LIMIT, "%s: more than %d clusters", place, k);
	if (k == set->n_clusters) {
		RV_TRY(rv_strdup(&set->cluster_names[k], name));
		set->n_clusters++;
	}
	return add(&set->clusters, text, k, 0);
}

static rv_status read_all(rv_embedding_set *set, const char *dir) {
	static const struct {
		const char *name;
		rv_jsonl_row_fn *row;
	} files[] = {{"pairs.jsonl", read_pair},
	             {"searches.jsonl", read_search},
	             {"clusters.jsonl", read_cluster}};
	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
		char path[4096];
		const int n = snprintf(path, sizeof path, "%s/%s", dir, files[i].name);
		if (n < 0 || n >= (int)sizeof path)
			return rv_fail(RV_ERR_INVALID, "%s: the name is too long", dir);
		RV_TRY(rv_jsonl_read(path, files[i].row, &(reading){set, path}));
	}
	if (!set->pairs.n || !set->n_searches || set->n_clusters < 2)
		return rv_fail(RV_ERR_FORMAT, "%s: pairs, searches and two clusters are needed", dir);
	return RV_OK;
}

rv_status rv_embedding_set_open(rv_embedding_set **out, const char *dir) {
	rv_embedding_set *set;
	RV_TRY(RV_ALLOC(&set, 1, "embedding sets"));
	rv_status st = read_all(set, dir);
	if (st != RV_OK)
		rv_embedding_set_close(set);
	else
		*out = set;
	return st;
}

void rv_embedding_set_close(rv_embedding_set *set) {
	if (!set)
		return;
	free_texts(&set->pairs);
	free_texts(&set->searches);
	free_texts(&set->clusters);
	for (int i = 0; i < set->n_clusters; i++)
		rv_free(set->cluster_names[i]);
	rv_free(set);
}

/* ---- runs ---- */

static rv_status embed(const texts *t, rv_embedder *e, float **out) {
	RV_TRY(RV_ALLOC(out, t->n * rv_embedder_dim(e), "vectors"));
	rv_status st = rv_embed_batch(e, t->at, t->n, *out);
	if (st != RV_OK)
		rv_free(*out);
	return st;
}

rv_status rv_embedding_pairs_run(const rv_embedding_set *set, rv_embedder *e, rv_embedding_pairs *out) {
	const int64_t n = set->pairs.n / 2, dim = rv_embedder_dim(e);
	float *x, *a;
	int *band;
	RV_TRY(embed(&set->pairs, e, &x));
	rv_status st = RV_ALLOC(&a, 2 * n * dim, "vectors");
	if (st == RV_OK) {
		st = RV_ALLOC(&band, n, "bands");
		if (st == RV_OK) {
			for (int64_t i = 0; i < n; i++) {
				const size_t bytes = (size_t)dim * sizeof *a;
				memcpy(a + i * dim, x + 2 * i * dim, bytes);
				memcpy(a + (n + i) * dim, x + (2 * i + 1) * dim, bytes);
				band[i] = set->pairs.number[2 * i];
			}
			st = rv_embedding_pairs_of(a, a + n * dim, band, n, dim, out);
			rv_free(band);
		}
		rv_free(a);
	}
	rv_free(x);
	return st;
}

/* The documents of the search that begins at text `first`, up to `end`. */
static rv_status one_search(const texts *t, const float *x, int64_t dim, int64_t first, int64_t end,
                            double *reciprocal, double *ndcg) {
	const int64_t n = end - first - 1;
	double *similarity;
	RV_TRY(RV_ALLOC(&similarity, n, "similarities"));
	for (int64_t i = 0; i < n; i++)
		for (int64_t j = 0; j < dim; j++)
			similarity[i] +=
			        (double)x[first * dim + j] * (double)x[(first + 1 + i) * dim + j];
	rv_embedding_search_of(similarity, t->number + first + 1, n, reciprocal, ndcg);
	rv_free(similarity);
	return RV_OK;
}

rv_status rv_embedding_search_run(const rv_embedding_set *set, rv_embedder *e,
                                  rv_embedding_search *out) {
	const texts *t = &set->searches;
	rv_embedding_search sum = {.n = set->n_searches};
	float *x;
	RV_TRY(embed(t, e, &x));
	rv_status st = RV_OK;
	for (int64_t first = 0, end; st == RV_OK && first < t->n; first = end) {
		double reciprocal, ndcg;
		for (end = first + 1; end < t->n && t->group[end] == t->group[first];)
			end++;
		st = one_search(t, x, rv_embedder_dim(e), first, end, &reciprocal, &ndcg);
		if (st != RV_OK)
			break;
		sum.mrr += reciprocal / (double)sum.n;
		sum.ndcg += ndcg / (double)sum.n;
	}
	rv_free(x);
	if (st == RV_OK)
		*out = sum;
	return st;
}

rv_status rv_embedding_clusters_run(const rv_embedding_set *set, rv_embedder *e, uint64_t seed,
                                    rv_embedding_clusters *out) {
	float *x;
	RV_TRY(embed(&set->clusters, e, &x));
	rv_status st = rv_embedding_clusters_of(x, set->clusters.number, set->clusters.n,
	                                        rv_embedder_dim(e), set->n_clusters, seed, out);
	rv_free(x);
	return st;
}
