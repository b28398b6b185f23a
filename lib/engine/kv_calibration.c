#include "engine/kv_calibration.h"

#include "base/mem.h"
#include "base/rng.h"
#include "engine/context_internal.h"
#include "engine/sampler.h"

#include <math.h>
#include <string.h>

enum { BLOCK = RV_ATTN_BLOCK, BINS = 512, ROUNDS = 60, SPREAD = 63 };
#define DAMPING 0.01 /* of the mean second moment, so that no direction is free */

/* A block of one layer as it is evaluated, and what has been gathered. */
typedef struct gatherer {
	const rv_hparams *hp;
	int neox;
	float *q, *k, *v;  /* [BLOCK][heads * head_dim] */
	float *rope;       /* [n_rot / 2][cos, sin][BLOCK] of the block */
	double *histogram; /* [n_layers][keys, values][BINS] */
	double *turn;      /* [n_rot / 2][cos, sin] of one position */
	rv_kv_calibration *c;
} gatherer;

/* ---- the queries' second moment ---- */

static void add_queries(gatherer *g, int64_t layer) {
	const rv_hparams *hp = g->hp;
	const int64_t d = hp->head_dim, group = hp->n_heads / hp->n_kv_heads;
	for (int64_t h = 0; h < hp->n_heads; h++) {
		double *m = g->c->queries + (layer * hp->n_kv_heads + h / group) * d * d;
		for (int64_t t = 0; t < BLOCK; t++) {
			const float *q = g->q + (t * hp->n_heads + h) * d;
			for (int64_t i = 0; i < d; i++)
				for (int64_t j = 0; j <= i; j++)
					m[i * d + j] += (double)q[i] * (double)q[j];
		}
	}
}

/* ---- how vectors are spread over their range ---- */

/* Places of x[0..n), the element set apart excepted, within the range of the rest. */
static void add_vector(double *histogram, const float *x, int64_t n, double weight) {
	float low, high;
	int64_t apart = rv_kv_pick(x, n, &low, &high);
	for (int64_t i = 0; high > low && i < n; i++)
		if (i != apart) {
			double u = (double)(x[i] - low) / (double)(high - low);
			histogram[(int)(u * (BINS - 1) + 0.5)] += weight;
		}
}

static void add_vectors(gatherer *g, int64_t layer) {
	const rv_hparams *hp = g->hp;
	const int64_t d = hp->head_dim;
	double *keys = g->histogram + layer * 2 * BINS, *values = keys + BINS;
	float kt[RV_KV_MAX_HEAD_DIM * BLOCK];
	const rv_kv_code_block b = {
	        .n = BLOCK, .head_dim = d, .rope = g->rope, .n_rot = hp->n_rot, .neox = g->neox};
	for (int64_t h = 0; h < hp->n_kv_heads; h++) {
		const double *m = g->c->queries + (layer * hp->n_kv_heads + h) * d * d;
		for (int64_t t = 0; t < BLOCK; t++) {
			const float *v = g->v + (t * hp->n_kv_heads + h) * d;
			for (int64_t i = 0; i < d; i += 128)
				add_vector(values, v + i, d - i < 128 ? d - i : 128, 1);
			for (int64_t i = 0; i < d; i++)
				kt[i * BLOCK + t] = g->k[(t * hp->n_kv_heads + h) * d + i];
		}
		rv_kv_unrotate(kt, &b);
		for (int64_t i = 0; i < d; i++)
			add_vector(keys, kt + i * BLOCK, BLOCK, m[i * d + i]);
	}
}

/* Called by the forward pass for each row and layer, rows of a block in order (one thread). */
static void observe(void *user, const rv_row *row, int64_t layer, const float *rope, const float *q,
                    const float *k, const float *v) {
	gatherer *g = user;
	const rv_hparams *hp = g->hp;
	const int64_t t = row->position % BLOCK, nq = hp->n_heads * hp->head_dim,
	              nk = hp->n_kv_heads * hp->head_dim;
	memcpy(g->q + t * nq, q, (size_t)nq * sizeof *q);
	memcpy(g->k + t * nk, k, (size_t)nk * sizeof *k);
	memcpy(g->v + t * nk, v, (size_t)nk * sizeof *v);
	for (int64_t i = 0; i < hp->n_rot; i++) {
		g->rope[i * BLOCK + t] = rope[i];
		if (row->position == 1)
			g->turn[i] = (double)rope[i];
	}
	if (t + 1 < BLOCK)
		return;
	add_queries(g, layer);
	add_vectors(g, layer);
}

/* ---- codebooks: weighted k-means on a line ---- */

static void nearest_means(const double *histogram, float *book, int n) {
	double sum[RV_KV_BOOK] = {0}, weight[RV_KV_BOOK] = {0};
	int code = 0;
	for (int i = 0; i < BINS; i++) {
		float u = (float)i / (float)(BINS - 1);
		while (code + 1 < n && u > 0.5f * (book[code] + book[code + 1]))
			code++;
		sum[code] += histogram[i] * (double)u;
		weight[code] += histogram[i];
	}
	for (int i = 0; i < n; i++)
		if (weight[i] > 0)
			book[i] = (float)(sum[i] / weight[i]);
}

static void make_books(const double *histogram, float *books) {
	for (int i = 0; i < 4; i++) {
		float *book = books + i * RV_KV_BOOK;
		int n = i < 2 ? 16 : 4;
		for (int j = 0; j < n; j++)
			book[j] = (float)j / (float)(n - 1);
		for (int r = 0; r < ROUNDS; r++)
			nearest_means(histogram + i % 2 * BINS, book, n);
	}
}

/* ---- queries of other positions ---- */

/* Turns elements x and y of each of n vectors, `step` apart. */
static void turn_pair(double *x, double *y, int64_t n, int64_t step, double c, double s) {
	for (int64_t i = 0; i < n * step; i += step) {
		double a = x[i], b = y[i];
		x[i] = a * c - b * s;
		y[i] = a * s + b * c;
	}
}

/* The text has been read at its own positions alone; the same queries further on are turned. Adds to
 * the second moment m those of SPREAD further places, a block apart. */
static void spread(const gatherer *g, double *m, double *turned) {
	const int64_t d = g->hp->head_dim, half = g->hp->n_rot / 2;
	for (int64_t i = 0; i < d; i++)
		for (int64_t j = 0; j < i; j++)
			m[j * d + i] = m[i * d + j];
	memcpy(turned, m, (size_t)(d * d) * sizeof *m);
	for (int place = 0; place < SPREAD; place++) {
		for (int64_t p = 0; p < half; p++) {
			int64_t x = g->neox ? p : 2 * p, y = g->neox ? p + half : 2 * p + 1;
			double angle = BLOCK * atan2(g->turn[2 * p + 1], g->turn[2 * p]);
			turn_pair(turned + x, turned + y, d, d, cos(angle), sin(angle));
			turn_pair(turned + x * d, turned + y * d, d, 1, cos(angle), sin(angle));
		}
		for (int64_t i = 0; i < d * d; i++)
			m[i] += turned[i];
	}
}

/* ---- feedback ---- */

/* H = R R^T with R upper triangular, in place; H is positive definite. */
static void factor(double *h, int64_t d) {
	for (int64_t j = d - 1; j >= 0; j--) {
		for (int64_t i = j; i >= 0; i--) {
			double sum = h[i * d + j];
			for (int64_t k = j + 1; k < d; k++)
				sum -= h[i * d + k] * h[j * d + k];
			h[i * d + j] = i == j ? sqrt(sum) : sum / h[j * d + j];
		}
	}
}

/* Shares that minimise e^T H e over the channels not yet encoded, e being the error of a key and H the
 * damped second moment of the queries: (H of the rest)^-1 (H of the rest, c). With R as above that is
 * R_rest^-T R_(c, rest). */
static void make_feedback(const double *moment, double *h, float *out, int64_t d) {
	double trace = 0;
	for (int64_t i = 0; i < d; i++)
		trace += moment[i * d + i];
	for (int64_t i = 0; i < d; i++)
		for (int64_t j = 0; j <= i; j++) {
			h[i * d + j] =
			        moment[i * d + j] + (i == j ? DAMPING * trace / (double)d + 1e-30 : 0);
			h[j * d + i] = h[i * d + j];
		}
	factor(h, d);
	for (int64_t c = 0; c < d; c++) {
		double x[RV_KV_MAX_HEAD_DIM];
		for (int64_t e = c + 1; e < d; e++) {
			double sum = h[c * d + e];
			for (int64_t k = c + 1; k < e; k++)
				sum -= h[k * d + e] * x[k];
			x[e] = sum / h[e * d + e];
			out[c * d + e] = (float)x[e];
		}
	}
}

/* ---- a text ---- */

static rv_status gather(gatherer *g, rv_model *model, const int32_t *tokens, int64_t n) {
	rv_context_options o = rv_context_defaults();
	rv_context *ctx;
	rv_row rows[BLOCK];
	o.n_ctx = n;
	o.n_batch = BLOCK;
	o.n_threads = 1;
	o.pin = 0;
	RV_TRY(rv_context_create(&ctx, model, &o));
	ctx->kv_view.observe = observe;
	ctx->kv_view.observer = g;
	rv_status st = RV_OK;
	for (int64_t i = 0; i < n && st == RV_OK; i += BLOCK) {
		for (int64_t t = 0; t < BLOCK; t++)
			rows[t] = (rv_row){
			        .token = tokens[i + t], .position = (int32_t)(i + t), .parent = -1};
		st = rv_context_eval(ctx, rows, BLOCK);
	}
	rv_context_destroy(ctx);
	return st;
}

static rv_status open_gatherer(gatherer *g, rv_model *model) {
	const rv_hparams *hp = rv_model_hparams(model);
	const int64_t lanes = hp->n_layers * hp->n_kv_heads, d = hp->head_dim;
	g->hp = hp;
	g->neox = rv_model_arch(model)->rope_neox;
	RV_TRY(RV_ALLOC(&g->c, 1, "KV calibration"));
	g->c->n_layers = hp->n_layers;
	g->c->n_kv_heads = hp->n_kv_heads;
	g->c->head_dim = d;
	RV_TRY(RV_ALLOC(&g->c->books, hp->n_layers * RV_KV_BOOKS, "KV calibration"));
	RV_TRY(RV_ALLOC(&g->c->feedback, lanes * d * d, "KV calibration"));
	RV_TRY(RV_ALLOC(&g->c->queries, lanes * d * d, "KV calibration"));
	RV_TRY(RV_ALLOC(&g->q, BLOCK * hp->n_heads * d, "KV calibration"));
	RV_TRY(RV_ALLOC(&g->k, BLOCK * hp->n_kv_heads * d, "KV calibration"));
	RV_TRY(RV_ALLOC(&g->v, BLOCK * hp->n_kv_heads * d, "KV calibration"));
	RV_TRY(RV_ALLOC(&g->rope, BLOCK * hp->n_rot, "KV calibration"));
	RV_TRY(RV_ALLOC(&g->turn, hp->n_rot, "KV calibration"));
	return RV_ALLOC(&g->histogram, hp->n_layers * 2 * BINS, "KV calibration");
}

static rv_status finish(gatherer *g) {
	const int64_t d = g->hp->head_dim;
	double *h;
	RV_TRY(RV_ALLOC(&h, d * d, "KV calibration"));
	for (int64_t layer = 0; layer < g->hp->n_layers; layer++)
		make_books(g->histogram + layer * 2 * BINS, g->c->books + layer * RV_KV_BOOKS);
	for (int64_t lane = 0; lane < g->hp->n_layers * g->hp->n_kv_heads; lane++) {
		double *m = g->c->queries + lane * d * d;
		spread(g, m, h);
		make_feedback(m, h, g->c->feedback + lane * d * d, d);
	}
	rv_free(h);
	return RV_OK;
}

rv_status rv_kv_calibrate(rv_kv_calibration **out, rv_model *model, const int32_t *tokens, int64_t n) {
	const rv_hparams *hp = rv_model_hparams(model);
	gatherer g = {0};
	*out = NULL;
	if (n < BLOCK || n % BLOCK)
		return rv_fail(RV_ERR_INVALID,
		               "KV calibration: %lld tokens, a multiple of %d is needed", (long long)n,
		               BLOCK);
	if (hp->head_dim % 8)
		return rv_fail(RV_ERR_UNSUPPORTED, "KV calibration: heads of %lld elements",
		               (long long)hp->head_dim);
	rv_status st = open_gatherer(&g, model);
	if (st == RV_OK)
		st = gather(&g, model, tokens, n);
	if (st == RV_OK)
		st = finish(&g);
	rv_free(g.q);
	rv_free(g.k);
	rv_free(g.v);
	rv_free(g.rope);
	rv_free(g.turn);
	rv_free(g.histogram);
	if (st != RV_OK) {
		rv_kv_calibration_destroy(g.c);
		return st;
	}
	*out = g.c;
	return RV_OK;
}

/* ---- the model's own text ---- */

/* Draws a token by the logits at temperature 1. */
static int32_t draw(const float *logits, int64_t n, rv_rng *rng) {
	double max = (double)logits[0], sum = 0;
	for (int64_t i = 1; i < n; i++)
		max = fmax(max, (double)logits[i]);
	for (int64_t i = 0; i < n; i++)
		sum += exp((double)logits[i] - max);
	double at = rv_rng_double(rng) * sum;
	for (int64_t i = 0; i < n; i++) {
		at -= exp((double)logits[i] - max);
		if (at < 0)
			return (int32_t)i;
	}
	return (int32_t)(n - 1);
}

rv_status rv_kv_calibrate_self(rv_kv_calibration **out, rv_model *model, int64_t n, uint64_t seed) {
	const int64_t n_vocab = rv_model_hparams(model)->n_vocab;
	rv_context_options o = rv_context_defaults();
	rv_context *ctx;
	int32_t *tokens;
	rv_rng rng;
	*out = NULL;
	o.n_ctx = n;
	rv_rng_seed(&rng, seed);
	RV_TRY(RV_ALLOC(&tokens, n, "KV calibration"));
	rv_status st = rv_context_create(&ctx, model, &o);
	tokens[0] = (int32_t)rv_rng_below(&rng, (uint64_t)n_vocab);
	for (int64_t i = 0; i + 1 < n && st == RV_OK; i++) {
		rv_row row = {.token = tokens[i],
		              .position = (int32_t)i,
		              .parent = -1,
		              .flags = RV_ROW_LOGITS};
		st = rv_context_eval(ctx, &row, 1);
		if (st == RV_OK)
			tokens[i + 1] = draw(rv_context_logits(ctx, 0), n_vocab, &rng);
	}
	rv_context_destroy(ctx);
	if (st == RV_OK)
		st = rv_kv_calibrate(out, model, tokens, n);
	rv_free(tokens);
	return st;
}

void rv_kv_calibration_destroy(rv_kv_calibration *c) {
	if (!c)
		return;
	rv_free(c->books);
	rv_free(c->feedback);
	rv_free(c->queries);
	rv_free(c);
}
