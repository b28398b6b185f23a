#include "learn/agent_examples.h"

#include "base/mem.h"
#include "base/rng.h"
#include "memory/hnsw.h"

#include <math.h>
#include <string.h>

/* Sizes of the graph: small, since it is built each time the examples are loaded. */
enum { GRAPH_M = 8, GRAPH_CONSTRUCTION = 40, GRAPH_SEARCH = 64 };
enum { DIM_MAX = 65536, EXAMPLES_MAX = 1 << 20 };
#define PROBE "which agent should act on this request first?"
#define PROBE_COSINE 0.98f
#define BASIS_SEED 0x6261736973u

typedef struct sizes {
	uint32_t n, dim, rank, text_bytes;
} sizes;

struct rv_agent_examples {
	sizes size;
	float *basis;  /* [rank, dim] orthonormal rows */
	int8_t *codes; /* [n, rank] */
	float *probe;  /* [rank] */
	uint8_t *agents;
	char *texts; /* NUL-terminated, one after the other */
	const char **text_at;
	float *full, *query; /* [dim], [rank] */
	rv_hnsw *graph;
	rv_hnsw_searcher *searcher;
};

int64_t rv_agent_examples_count(const rv_agent_examples *x) {
	return x->size.n;
}

static rv_status allocate_texts(rv_agent_examples *x) {
	RV_TRY(RV_ALLOC(&x->agents, x->size.n, "examples"));
	RV_TRY(RV_ALLOC(&x->texts, x->size.text_bytes, "texts of examples"));
	return RV_ALLOC(&x->text_at, x->size.n, "texts of examples");
}

static rv_status allocate_vectors(rv_agent_examples *x) {
	const sizes s = x->size;
	RV_TRY(RV_ALLOC(&x->basis, (size_t)s.rank * s.dim, "basis of examples"));
	RV_TRY(RV_ALLOC(&x->codes, (size_t)s.n * s.rank, "examples"));
	RV_TRY(RV_ALLOC(&x->probe, s.rank, "examples"));
	RV_TRY(RV_ALLOC(&x->full, s.dim, "vector"));
	return RV_ALLOC(&x->query, s.rank, "vector");
}

static void free_vectors(rv_agent_examples *x) {
	void **owned[] = {(void **)&x->basis, (void **)&x->codes, (void **)&x->probe, (void **)&x->full,
	                  (void **)&x->query};
	for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) {
		rv_free(*owned[i]);
		*owned[i] = NULL;
	}
}

void rv_agent_examples_destroy(rv_agent_examples *x) {
	if (!x)
		return;
	rv_hnsw_searcher_destroy(x->searcher);
	rv_hnsw_destroy(x->graph);
	void *owned[] = {x->basis, x->codes,   x->probe, x->agents,
	                 x->texts, x->text_at, x->full,  x->query};
	for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
		rv_free(owned[i]);
	rv_free(x);
}

static float dot(const float *a, const float *b, uint32_t n) {
	double sum = 0;
	for (uint32_t i = 0; i < n; i++)
		sum += (double)a[i] * b[i];
	return (float)sum;
}

/* ---- making ---- */

/* Rows of random sums of the vectors, made orthonormal (Gram-Schmidt, twice); stops where they span no
 * more. */
static void find_basis(rv_agent_examples *x, const float *vectors) {
	const sizes s = x->size;
	rv_rng rng;
	uint32_t k = 0;
	rv_rng_seed(&rng, BASIS_SEED);
	for (; k < s.rank; k++) {
		float *row = x->basis + (size_t)k * s.dim;
		for (uint32_t i = 0; i < s.n; i++) {
			const float factor = (float)rv_rng_normal(&rng);
			for (uint32_t j = 0; j < s.dim; j++)
				row[j] += factor * vectors[(size_t)i * s.dim + j];
		}
		const float before = sqrtf(dot(row, row, s.dim));
		for (int pass = 0; pass < 2; pass++)
			for (uint32_t q = 0; q < k; q++) {
				const float *other = x->basis + (size_t)q * s.dim,
				            share = dot(row, other, s.dim);
				for (uint32_t j = 0; j < s.dim; j++)
					row[j] -= share * other[j];
			}
		const float length = sqrtf(dot(row, row, s.dim));
		if (length <= 1e-4f * before)
			break;
		for (uint32_t j = 0; j < s.dim; j++)
			row[j] /= length;
	}
	x->size.rank = k;
}

static void project(const rv_agent_examples *x, const float *vector, float *out) {
	for (uint32_t k = 0; k < x->size.rank; k++)
		out[k] = dot(x->basis + (size_t)k * x->size.dim, vector, x->size.dim);
}

/* 8 bits, the largest number 127: cosines need no scale. */
static void encode(const float *v, uint32_t n, int8_t *out) {
	float most = 1e-20f;
	for (uint32_t i = 0; i < n; i++)
		most = fabsf(v[i]) > most ? fabsf(v[i]) : most;
	for (uint32_t i = 0; i < n; i++)
		out[i] = (int8_t)lrintf(v[i] / most * 127);
}

/* Vectors of the texts by this embedder. */
static rv_status embed_all(rv_agent_examples *x, rv_embedder *e) {
	sizes *s = &x->size;
	rv_embed_input *texts;
	float *vectors;
	free_vectors(x);
	s->dim = (uint32_t)rv_embedder_dim(e);
	s->rank = (uint32_t)rv_embedder_native(e) < s->dim ? (uint32_t)rv_embedder_native(e) : s->dim;
	RV_TRY(allocate_vectors(x));
	RV_TRY(RV_ALLOC(&texts, s->n, "texts of examples"));
	rv_status st = RV_ALLOC(&vectors, (size_t)s->n * s->dim, "vectors of examples");
	for (uint32_t i = 0; i < s->n; i++)
		texts[i] = (rv_embed_input){x->text_at[i], strlen(x->text_at[i])};
	if (st == RV_OK)
		st = rv_embed_batch(e, texts, s->n, vectors);
	if (st == RV_OK)
		st = rv_embed_text(e, PROBE, strlen(PROBE), x->full);
	if (st == RV_OK) {
		find_basis(x, vectors);
		project(x, x->full, x->probe);
		for (uint32_t i = 0; i < s->n; i++) {
			project(x, vectors + (size_t)i * s->dim, x->query);
			encode(x->query, s->rank, x->codes + (size_t)i * s->rank);
		}
	}
	rv_free(vectors);
	rv_free(texts);
	return st;
}

static rv_status take_texts(rv_agent_examples *x, const rv_agent_data *data, const int *use) {
	uint32_t k = 0;
	RV_TRY(allocate_texts(x));
	char *at = x->texts;
	for (int64_t i = 0; i < data->n; i++) {
		const rv_agent_example *item = &data->items[i];
		if (!use[(int)item->source])
			continue;
		memcpy(at, item->text, item->len);
		x->text_at[k] = at;
		x->agents[k++] = (uint8_t)item->agent;
		at += item->len + 1;
	}
	return RV_OK;
}

rv_status rv_agent_examples_make(rv_agent_examples **out, rv_embedder *e, const rv_agent_data *data,
                                 const int *use) {
	rv_agent_examples *x;
	RV_TRY(RV_ALLOC(&x, 1, "examples"));
	for (int64_t i = 0; i < data->n; i++)
		if (use[(int)data->items[i].source]) {
			x->size.n++;
			x->size.text_bytes += data->items[i].len + 1;
		}
	rv_status st =
	        x->size.n ? take_texts(x, data, use) : rv_fail(RV_ERR_INVALID, "no examples to vote");
	if (st == RV_OK)
		st = embed_all(x, e);
	if (st == RV_OK)
		*out = x;
	else
		rv_agent_examples_destroy(x);
	return st;
}

/* ---- files ---- */

void rv_agent_examples_put(const rv_agent_examples *x, rv_sealed_out *out) {
	const sizes s = x->size;
	rv_sealed_put(out, &s, sizeof s);
	rv_sealed_put(out, x->basis, (size_t)s.rank * s.dim * sizeof *x->basis);
	rv_sealed_put(out, x->codes, (size_t)s.n * s.rank);
	rv_sealed_put(out, x->probe, s.rank * sizeof *x->probe);
	rv_sealed_put(out, x->agents, s.n);
	rv_sealed_put(out, x->texts, s.text_bytes);
}

static int all_finite(const float *v, size_t n) {
	for (size_t i = 0; i < n; i++)
		if (!isfinite(v[i]))
			return 0;
	return 1;
}

static rv_status check(rv_agent_examples *x, const char *name) {
	const sizes s = x->size;
	const char *at = x->texts, *end = x->texts + s.text_bytes;
	if (!all_finite(x->basis, (size_t)s.rank * s.dim) || !all_finite(x->probe, s.rank))
		return rv_fail(RV_ERR_NUMERIC, "%s: examples: a number that is not finite", name);
	for (uint32_t i = 0; i < s.n; i++) {
		const char *stop = memchr(at, 0, (size_t)(end - at));
		if (!stop || x->agents[i] >= RV_AGENTS)
			return rv_fail(RV_ERR_FORMAT, "%s: example %u: no text, or no agent", name, i);
		x->text_at[i] = at;
		at = stop + 1;
	}
	return RV_OK;
}

static rv_status get_all(rv_agent_examples *x, rv_sealed_in *in) {
	sizes *s = &x->size;
	RV_TRY(rv_sealed_get(in, "sizes of examples", s, sizeof *s));
	/* each count against the bytes left, by division, before anything is allocated for it */
	const size_t left = in->size - in->at;
	if (s->n == 0 || s->n > EXAMPLES_MAX || s->dim == 0 || s->dim > DIM_MAX || s->rank == 0 ||
	    s->rank > s->dim || s->text_bytes > left || s->rank > left / sizeof(float) / s->dim ||
	    s->n > left / s->rank)
		return rv_fail(RV_ERR_FORMAT, "%s: examples: impossible sizes", in->name);
	RV_TRY(allocate_texts(x));
	RV_TRY(allocate_vectors(x));
	RV_TRY(rv_sealed_get(in, "basis", x->basis, (size_t)s->rank * s->dim * sizeof *x->basis));
	RV_TRY(rv_sealed_get(in, "examples", x->codes, (size_t)s->n * s->rank));
	RV_TRY(rv_sealed_get(in, "probe", x->probe, s->rank * sizeof *x->probe));
	RV_TRY(rv_sealed_get(in, "agents of examples", x->agents, s->n));
	RV_TRY(rv_sealed_get(in, "texts of examples", x->texts, s->text_bytes));
	return check(x, in->name);
}

rv_status rv_agent_examples_get(rv_agent_examples **out, rv_sealed_in *in) {
	rv_agent_examples *x;
	RV_TRY(RV_ALLOC(&x, 1, "examples"));
	const rv_status st = get_all(x, in);
	if (st == RV_OK)
		*out = x;
	else
		rv_agent_examples_destroy(x);
	return st;
}

/* ---- voting ---- */

/* Does the embedder give the probe the vector it had when the examples were made? */
static rv_status same_embedder(rv_agent_examples *x, rv_embedder *e, int *same) {
	const uint32_t n = x->size.rank;
	*same = rv_embedder_dim(e) == x->size.dim;
	if (!*same)
		return RV_OK;
	RV_TRY(rv_embed_text(e, PROBE, strlen(PROBE), x->full));
	project(x, x->full, x->query);
	const float lengths = sqrtf(dot(x->query, x->query, n) * dot(x->probe, x->probe, n));
	*same = dot(x->query, x->probe, n) >= PROBE_COSINE * lengths;
	return RV_OK;
}

static rv_status build(rv_agent_examples *x) {
	const sizes s = x->size;
	float *vectors;
	uint64_t *ids;
	rv_hnsw_options o = rv_hnsw_defaults();
	o.dim = (int)s.rank;
	o.m = GRAPH_M;
	o.ef_construction = GRAPH_CONSTRUCTION;
	o.ef_search = GRAPH_SEARCH;
	o.capacity = s.n;
	RV_TRY(RV_ALLOC(&vectors, (size_t)s.n * s.rank, "vectors of examples"));
	rv_status st = RV_ALLOC(&ids, s.n, "numbers of examples");
	if (st == RV_OK)
		st = rv_hnsw_create(&x->graph, &o);
	if (st == RV_OK) {
		for (size_t i = 0; i < (size_t)s.n * s.rank; i++)
			vectors[i] = x->codes[i];
		for (uint32_t i = 0; i < s.n; i++)
			ids[i] = i;
		st = rv_hnsw_add_batch(x->graph, ids, vectors, s.n, NULL);
	}
	if (st == RV_OK)
		st = rv_hnsw_searcher_create(&x->searcher, x->graph);
	rv_free(vectors);
	rv_free(ids);
	return st;
}

rv_status rv_agent_examples_prepare(rv_agent_examples *x, rv_embedder *e) {
	int same;
	RV_TRY(same_embedder(x, e, &same));
	if (!same) {
		rv_hnsw_searcher_destroy(x->searcher);
		rv_hnsw_destroy(x->graph);
		x->searcher = NULL;
		x->graph = NULL;
		RV_TRY(embed_all(x, e));
	}
	return x->graph ? RV_OK : build(x);
}

rv_status rv_agent_examples_vote(rv_agent_examples *x, rv_embedder *e, const char *text, size_t len,
                                 float votes[RV_AGENTS],
                                 rv_agent_neighbour neighbours[RV_AGENT_NEIGHBOURS], int *n) {
	uint64_t ids[RV_AGENT_NEIGHBOURS];
	float distances[RV_AGENT_NEIGHBOURS], sum = 0;
	int64_t found;
	RV_TRY(rv_embed_text(e, text, len, x->full));
	project(x, x->full, x->query);
	RV_TRY(rv_hnsw_search_with(x->searcher, x->query, RV_AGENT_NEIGHBOURS, 0, NULL, ids, distances,
	                           &found));
	memset(votes, 0, RV_AGENTS * sizeof *votes);
	for (int64_t i = 0; i < found; i++) {
		const float weight = expf(-distances[i] / RV_AGENT_VOTE_T);
		neighbours[i] =
		        (rv_agent_neighbour){x->text_at[ids[i]], x->agents[ids[i]], 1 - distances[i]};
		votes[x->agents[ids[i]]] += weight;
		sum += weight;
	}
	for (int a = 0; a < RV_AGENTS; a++)
		votes[a] /= sum;
	*n = (int)found;
	return RV_OK;
}
