#include "base/mem.h"
#include "base/rng.h"
#include "engine/embed.h"
#include "lab/models.h"
#include "lab/vector_sets.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { CLUSTERS = 400, LATENT = 48, GRAIN = 64, RUN_BYTES = 64 };
#define NOISE 0.05
/* Of a cluster, where the centres' spread is 1. */
#define SPREAD 1.0
#define VERSION 1

/* Streams of a seed: rows of the base, of the queries, and what they share. */
#define QUERY_STREAM ((uint64_t)1 << 40)
#define SHARED_STREAM ((uint64_t)1 << 41)

static void make_unit(float *x, int dim) {
	double sum = 0;
	for (int d = 0; d < dim; d++)
		sum += (double)x[d] * x[d];
	const double scale = 1 / sqrt(sum);
	for (int d = 0; d < dim; d++)
		x[d] = (float)(x[d] * scale);
}

typedef struct maker {
	const rv_vector_spec *spec;
	const rv_run_config *config;
	float *rows;              /* of the base or the queries */
	uint64_t stream;          /* of the first */
	double weights[CLUSTERS]; /* cumulated */
	double centres[CLUSTERS][LATENT];
	float *projection; /* [LATENT, dim] */
} maker;

/* ---- clusters ---- */

static rv_status prepare_clusters(maker *m) {
	rv_rng rng;
	double sum = 0;
	rv_rng_stream(&rng, m->spec->seed, SHARED_STREAM);
	/* Dirichlet by gamma variables; of shape 1/2: half a squared normal one */
	for (int c = 0; c < CLUSTERS; c++) {
		const double normal = rv_rng_normal(&rng);
		m->weights[c] = sum += normal * normal / 2;
	}
	for (int c = 0; c < CLUSTERS; c++) {
		m->weights[c] /= sum;
		for (int j = 0; j < LATENT; j++)
			m->centres[c][j] = rv_rng_normal(&rng);
	}
	const int64_t n = (int64_t)LATENT * m->spec->dim;
	RV_TRY(RV_ALLOC(&m->projection, n, "projection"));
	for (int64_t i = 0; i < n; i++)
		m->projection[i] = (float)(rv_rng_normal(&rng) / sqrt(LATENT));
	return RV_OK;
}

static int cluster_of(const maker *m, double u) {
	int low = 0, high = CLUSTERS - 1;
	while (low < high) {
		const int middle = (low + high) / 2;
		if (m->weights[middle] < u)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void make_clustered(const maker *m, rv_rng *rng, float *x) {
	const int dim = m->spec->dim;
	const double *centre = m->centres[cluster_of(m, rv_rng_double(rng))];
	for (int d = 0; d < dim; d++)
		x[d] = (float)(NOISE * rv_rng_normal(rng));
	for (int j = 0; j < LATENT; j++) {
		const float z = (float)(centre[j] + SPREAD * rv_rng_normal(rng));
		const float *p = m->projection + (int64_t)j * dim;
		for (int d = 0; d < dim; d++)
			x[d] += z * p[d];
	}
}

static rv_status make_rows(void *arg, int64_t begin, int64_t end, int thread) {
	const maker *m = arg;
	const int dim = m->spec->dim;
	(void)thread;
	if (m->config->cancelled && m->config->cancelled(m->config->user))
		return rv_fail(RV_ERR_CANCELLED, "interrupted");
	for (int64_t i = begin; i < end; i++) {
		float *x = m->rows + i * dim;
		rv_rng rng;
		rv_rng_stream(&rng, m->spec->seed, m->stream + (uint64_t)i);
		if (m->spec->kind == RV_VECTOR_SET_CLUSTERED)
			make_clustered(m, &rng, x);
		else
			for (int d = 0; d < dim; d++)
				x[d] = (float)rv_rng_normal(&rng);
		make_unit(x, dim);
	}
	return RV_OK;
}

static rv_status make_random(maker *m, float *base, float *queries) {
	const rv_vector_spec *s = m->spec;
	const struct {
		float *rows;
		int64_t n;
		uint64_t stream;
	} parts[] = {{base, s->n, 0}, {queries, s->n_queries, QUERY_STREAM}};
	if (s->kind == RV_VECTOR_SET_CLUSTERED)
		RV_TRY(prepare_clusters(m));
	for (int i = 0; i < 2; i++) {
		m->rows = parts[i].rows;
		m->stream = parts[i].stream;
		RV_TRY(m->config->threads
		               ? rv_threads_for(m->config->threads, parts[i].n, GRAIN, make_rows, m)
		               : make_rows(m, 0, parts[i].n, 0));
	}
	return RV_OK;
}

/* ---- the model's own ---- */

static const char *const texts[] = {"datasets/longdocs/heldout.txt", "datasets/routing/written_a.tsv",
                                    "datasets/routing/written_b.tsv", "datasets/routing/written_c.tsv"};
enum { N_TEXTS = sizeof texts / sizeof *texts, TEXT_MAX = 1 << 24 };

/* All texts, one after the other. */
static rv_status read_texts(const rv_run_config *config, char **out, int64_t *n) {
	char *all = NULL;
	int64_t n_all = 0;
	rv_status status = RV_OK;
	for (int i = 0; i < N_TEXTS && status == RV_OK; i++) {
		char path[4096], *text = NULL;
		size_t size = 0;
		snprintf(path, sizeof path, "%s/%s", config->root, texts[i]);
		status = rv_file_read(path, TEXT_MAX, &text, &size);
		if (status == RV_OK)
			status = RV_GROW(&all, n_all, n_all + (int64_t)size, "texts");
		if (status == RV_OK && size) {
			memcpy(all + n_all, text, size);
			n_all += (int64_t)size;
		}
		rv_free(text);
	}
	if (status != RV_OK) {
		rv_free(all);
		return status;
	}
	*out = all;
	*n = n_all;
	return RV_OK;
}

static int is_blank(char c) {
	return c == ' ' || c == '\n' || c == '\t';
}

/* Whole words from byte `at` on, about RUN_BYTES. */
static rv_embed_input run_at(const char *text, int64_t n, int64_t at) {
	while (at > 0 && at < n && !is_blank(text[at - 1]))
		at++;
	int64_t end = at + RUN_BYTES < n ? at + RUN_BYTES : n;
	while (end > at + 1 && end < n && !is_blank(text[end]))
		end--;
	return (rv_embed_input){text + at, (size_t)(end - at)};
}

/* Runs spread evenly over the texts, every so many-th a query. They overlap where more vectors are
 * wanted than there are runs side by side. */
static rv_status embed_runs(const rv_run_config *config, const rv_vector_spec *s, rv_embedder *e,
                            const char *text, int64_t n_text, float *base, float *queries) {
	const int64_t n = s->n + s->n_queries, span = n_text - 2 * RUN_BYTES;
	int64_t n_base = 0, n_query = 0;
	float *vectors;
	if (span < n)
		return rv_fail(RV_ERR_LIMIT, "embeddings: %lld of %lld bytes of text are wanted",
		               (long long)n, (long long)n_text);
	RV_TRY(RV_ALLOC(&vectors, (int64_t)GRAIN * s->dim, "embeddings"));
	rv_status status = RV_OK;
	for (int64_t at = 0, m; at < n && status == RV_OK; at += m) {
		rv_embed_input inputs[GRAIN];
		m = n - at < GRAIN ? n - at : GRAIN;
		for (int64_t i = 0; i < m; i++)
			inputs[i] = run_at(text, n_text, (at + i) * span / n);
		status = config->cancelled && config->cancelled(config->user)
		                 ? rv_fail(RV_ERR_CANCELLED, "interrupted")
		                 : rv_embed_batch(e, inputs, m, vectors);
		for (int64_t i = 0; i < m && status == RV_OK; i++) {
			const int is_query = n_query < s->n_queries &&
			                     (n_base == s->n || n_query * n < (at + i) * s->n_queries);
			float *to = is_query ? queries + n_query++ * s->dim : base + n_base++ * s->dim;
			memcpy(to, vectors + i * s->dim, (size_t)s->dim * sizeof *to);
		}
	}
	rv_free(vectors);
	return status;
}

static rv_status make_embeddings(const rv_run_config *config, const rv_vector_spec *s, float *base,
                                 float *queries) {
	rv_embedder_options o = rv_embedder_defaults();
	rv_inputs in = {0};
	rv_model *model;
	rv_embedder *e = NULL;
	char *text = NULL;
	int64_t n_text = 0;
	o.dim = s->dim;
	o.n_threads = config->n_threads;
	o.threads = config->threads;
	RV_TRY(rv_lab_open_model(config, "nano", &model, &in));
	rv_status status = read_texts(config, &text, &n_text);
	if (status == RV_OK)
		status = rv_embedder_create(&e, model, &o);
	if (status == RV_OK)
		status = embed_runs(config, s, e, text, n_text, base, queries);
	rv_embedder_destroy(e);
	rv_free(text);
	rv_model_release(model);
	return status;
}

/* ---- */

rv_status rv_vectors_make(const rv_run_config *config, const rv_vector_spec *spec, float *base,
                          float *queries) {
	if (spec->kind == RV_VECTOR_SET_EMBEDDINGS)
		return make_embeddings(config, spec, base, queries);
	maker *m;
	RV_TRY(RV_ALLOC(&m, 1, "vectors"));
	m->spec = spec;
	m->config = config;
	const rv_status status = make_random(m, base, queries);
	rv_free(m->projection);
	rv_free(m);
	return status;
}

rv_status rv_vectors_describe(const rv_run_config *config, const rv_vector_spec *spec, char *out,
                              size_t size) {
	int n = snprintf(out, size, "%s v%d", rv_vector_set_name(spec->kind), VERSION);
	if (spec->kind != RV_VECTOR_SET_EMBEDDINGS)
		return RV_OK;
	rv_inputs in = {0};
	rv_model *model;
	RV_TRY(rv_lab_open_model(config, "nano", &model, &in));
	rv_model_release(model);
	n += snprintf(out + n, size - (size_t)n, " %s", in.model_sha256);
	for (int i = 0; i < N_TEXTS; i++) {
		char path[4096], hex[65];
		snprintf(path, sizeof path, "%s/%s", config->root, texts[i]);
		RV_TRY(rv_file_sha256(path, hex));
		n += snprintf(out + n, size - (size_t)n, " %.16s", hex);
	}
	return RV_OK;
}
