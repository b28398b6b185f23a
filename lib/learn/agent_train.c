#include "learn/agent_train.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "learn/agent_router_internal.h"

#include <math.h>
#include <string.h>

#define LEXICON_BYTES_MAX ((size_t)1 << 24)

rv_agent_train_options rv_agent_train_defaults(void) {
	return (rv_agent_train_options){
	        .more_weight = 0.3, .more_limit = 6000, .linear = rv_linear_defaults()};
}

/* ---- what is fitted on held requests ---- */

typedef struct held {
	rv_agent_evidence *evidence; /* [n] */
	int8_t *agent, *ambiguous, *complexity;
	int64_t n;
} held;

enum { FIT_STEPS = 400 };

/* Weights of a router's signals: least cross-entropy, by gradient descent with steps of its own a
 * weight (Rprop: the function is convex, its scale unknown). */
static void fit_weights(const held *h, rv_agent_calibration *c, rv_agent_router_kind kind) {
	float step[RV_SIGNALS], last[RV_SIGNALS] = {0}, p[RV_AGENTS];
	for (int s = 0; s < RV_SIGNALS; s++) {
		c->weights[kind][s] = rv_agent_uses[kind][s] ? 0.5f : 0;
		step[s] = 0.1f;
	}
	for (int round = 0; round < FIT_STEPS; round++) {
		double g[RV_SIGNALS] = {0};
		for (int64_t i = 0; i < h->n; i++) {
			rv_agent_combine(c, kind, &h->evidence[i], p);
			for (int s = 0; s < RV_SIGNALS; s++)
				for (int a = 0; rv_agent_uses[kind][s] && a < RV_AGENTS; a++)
					g[s] += (p[a] - (a == h->agent[i] ? 1.0f : 0.0f)) *
					        h->evidence[i].signals[s][a];
		}
		for (int s = 0; s < RV_SIGNALS; s++) {
			const float sign = g[s] > 0 ? 1.0f : g[s] < 0 ? -1.0f : 0.0f;
			step[s] *= sign * last[s] < 0 ? 0.5f : 1.1f;
			step[s] = step[s] > 0.5f ? 0.5f : step[s];
			last[s] = sign;
			c->weights[kind][s] -= sign * step[s];
		}
	}
}

static int best(const float *x, int n) {
	int at = 0;
	for (int i = 1; i < n; i++)
		at = x[i] > x[at] ? i : at;
	return at;
}

/* Logistic regression of "was right" on the terms of quality. */
static void fit_quality(const held *h, rv_agent_calibration *c, rv_agent_router_kind kind) {
	float *q = c->quality[kind], p[RV_AGENTS], terms[RV_QUALITY_TERMS];
	double sum[RV_QUALITY_TERMS] = {0};
	memset(q, 0, RV_QUALITY_TERMS * sizeof *q);
	q[1] = 1;
	for (int round = 0; round < FIT_STEPS; round++) {
		double g[RV_QUALITY_TERMS] = {0};
		for (int64_t i = 0; i < h->n; i++) {
			double z = 0;
			rv_agent_combine(c, kind, &h->evidence[i], p);
			rv_agent_quality_terms(&h->evidence[i], p, kind, terms);
			for (int k = 0; k < RV_QUALITY_TERMS; k++)
				z += q[k] * terms[k];
			const double error = 1 / (1 + exp(-z)) - (best(p, RV_AGENTS) == h->agent[i]);
			for (int k = 0; k < RV_QUALITY_TERMS; k++)
				g[k] += error * terms[k] / (double)h->n;
		}
		for (int k = 0; k < RV_QUALITY_TERMS; k++) {
			sum[k] += g[k] * g[k];
			q[k] -= (float)(0.1 * g[k] / sqrt(sum[k] + 1e-12));
		}
	}
}

/* The threshold above which as many requests are called ambiguous as are. */
static void fit_ambiguous(const held *h, rv_agent_calibration *c) {
	int64_t wanted = 0, n = 0;
	float high = 1, low = 0;
	for (int64_t i = 0; i < h->n; i++)
		wanted += h->ambiguous[i] == 1;
	for (int round = 0; round < 30; round++, n = 0) {
		const float middle = (high + low) / 2;
		for (int64_t i = 0; i < h->n; i++)
			n += h->evidence[i].ambiguous >= middle;
		if (n > wanted)
			low = middle;
		else
			high = middle;
	}
	c->ambiguous_from = high;
}

double rv_calibration_error(const float *confidence, const int *right, int64_t n) {
	enum { BINS = 10 };
	double sure[BINS] = {0}, was[BINS] = {0}, error = 0;
	for (int64_t i = 0; i < n; i++) {
		int bin = (int)(confidence[i] * BINS);
		bin = bin < 0 ? 0 : bin >= BINS ? BINS - 1 : bin;
		sure[bin] += confidence[i];
		was[bin] += right[i];
	}
	for (int b = 0; b < BINS; b++)
		error += fabs(sure[b] - was[b]);
	return n ? error / (double)n : 0;
}

static rv_status score(const held *h, const rv_agent_calibration *c, rv_agent_router_kind kind,
                       rv_agent_held_score *out) {
	float *sure, p[RV_AGENTS];
	int *right;
	memset(out, 0, sizeof *out);
	RV_TRY(RV_ALLOC(&sure, h->n, "scores"));
	const rv_status st = RV_ALLOC(&right, h->n, "scores");
	for (int64_t i = 0; st == RV_OK && i < h->n; i++) {
		rv_agent_combine(c, kind, &h->evidence[i], p);
		const int agent = best(p, RV_AGENTS);
		sure[i] = p[agent];
		right[i] = agent == h->agent[i];
		out->accuracy += right[i] / (double)h->n;
		out->complexity +=
		        (best(h->evidence[i].complexity, RV_AGENT_LEVELS) == h->complexity[i]) /
		        (double)h->n;
		for (int a = 0; a < RV_AGENTS; a++)
			out->brier += pow(p[a] - (a == h->agent[i]), 2) / (double)h->n;
	}
	if (st == RV_OK)
		out->ece = rv_calibration_error(sure, right, h->n);
	out->n = h->n;
	rv_free(sure);
	rv_free(right);
	return st;
}

/* ---- data ---- */

typedef struct job {
	const rv_agent_train_options *o;
	rv_agent_data data;
	int held; /* source */
	rv_agent_router *router;
	held h;
} job;

static rv_status read_data(job *j) {
	const rv_agent_train_options *o = j->o;
	j->held = -1;
	for (int i = 0; i < o->n_tables; i++) {
		if (o->held && strcmp(o->held, o->tables[i]) == 0)
			j->held = j->data.n_sources;
		RV_TRY(rv_agent_data_add(&j->data, o->tables[i], 0));
	}
	for (int i = 0; i < o->n_more; i++)
		RV_TRY(rv_agent_data_add(&j->data, o->more[i], o->more_limit));
	if (j->held < 0)
		return rv_fail(RV_ERR_INVALID, "the table to calibrate on, '%s', is none of the tables",
		               o->held ? o->held : "");
	if (o->n_tables < 2)
		return rv_fail(RV_ERR_INVALID,
		               "one table to calibrate on and at least one to learn from are needed");
	return RV_OK;
}

static void shuffle(rv_agent_data *d, uint64_t seed) {
	rv_rng rng;
	rv_rng_stream(&rng, seed, 1);
	for (int64_t i = d->n; i > 1; i--) {
		const int64_t k = (int64_t)rv_rng_below(&rng, (uint64_t)i);
		const int8_t swap = d->items[i - 1].agent;
		d->items[i - 1].agent = d->items[k].agent;
		d->items[k].agent = swap;
	}
}

/* ---- the two trainings ---- */

/* Linear weights and examples of all sources but `without` (-1: of all). */
static rv_status learn(job *j, int without, rv_embedder *embedder) {
	const rv_agent_train_options *o = j->o;
	rv_linear_options linear = o->linear;
	int use[128] = {0};
	for (int s = 0; s < j->data.n_sources; s++) {
		linear.source_weight[s] = s == without ? 0 : s < o->n_tables ? 1 : o->more_weight;
		use[s] = s < o->n_tables && s != without;
	}
	rv_agent_linear_free(&j->router->linear);
	rv_agent_examples_destroy(j->router->examples);
	j->router->examples = NULL;
	j->router->embedder = embedder;
	RV_TRY(rv_agent_linear_train(&j->router->linear, j->router->lexicon, &j->data, &linear));
	if (!embedder)
		return RV_OK;
	RV_TRY(rv_agent_examples_make(&j->router->examples, embedder, &j->data, use));
	return rv_agent_examples_prepare(j->router->examples, embedder);
}

static rv_status read_held(job *j) {
	held *h = &j->h;
	rv_agent_neighbour neighbours[RV_AGENT_NEIGHBOURS];
	float votes[RV_AGENTS];
	int n;
	RV_TRY(RV_ALLOC(&h->evidence, j->data.n, "held requests"));
	RV_TRY(RV_ALLOC(&h->agent, j->data.n, "held requests"));
	RV_TRY(RV_ALLOC(&h->ambiguous, j->data.n, "held requests"));
	RV_TRY(RV_ALLOC(&h->complexity, j->data.n, "held requests"));
	for (int64_t i = 0; i < j->data.n; i++) {
		const rv_agent_example *e = &j->data.items[i];
		if (e->source != j->held)
			continue;
		rv_agent_read_evidence(j->router, e->text, e->len, &h->evidence[h->n]);
		if (j->router->examples) {
			RV_TRY(rv_agent_examples_vote(j->router->examples, j->router->embedder, e->text,
			                              e->len, votes, neighbours, &n));
			rv_agent_vote_signal(votes, h->evidence[h->n].signals[RV_SIGNAL_VOTES]);
		}
		h->agent[h->n] = e->agent;
		h->ambiguous[h->n] = e->ambiguous;
		h->complexity[h->n++] = e->complexity;
	}
	return RV_OK;
}

static rv_status train(job *j, const char *out, rv_agent_held_score scores[RV_ROUTERS]) {
	const rv_agent_train_options *o = j->o;
	rv_agent_router *r = j->router;
	if (!o->embedder != !o->held_embedder)
		return rv_fail(RV_ERR_INVALID, "an embedder, and one that did not see '%s', or neither",
		               o->held);
	RV_TRY(read_data(j));
	if (o->shuffle_labels)
		shuffle(&j->data, o->linear.seed);
	RV_TRY(rv_file_read(o->lexicon, LEXICON_BYTES_MAX, &r->lexicon_text, &r->lexicon_size));
	RV_TRY(rv_agent_lexicon_parse(&r->lexicon, r->lexicon_text, r->lexicon_size, o->lexicon));
	RV_TRY(learn(j, j->held, o->held_embedder));
	RV_TRY(read_held(j));
	for (int k = 0; k < RV_ROUTERS; k++) {
		fit_weights(&j->h, &r->calibration, (rv_agent_router_kind)k);
		fit_quality(&j->h, &r->calibration, (rv_agent_router_kind)k);
		RV_TRY(score(&j->h, &r->calibration, (rv_agent_router_kind)k, &scores[k]));
	}
	fit_ambiguous(&j->h, &r->calibration);
	if (!out)
		return RV_OK;
	RV_TRY(learn(j, -1, o->embedder));
	return rv_agent_router_save(r, out);
}

rv_status rv_agent_router_train(const rv_agent_train_options *o, const char *out,
                                rv_agent_held_score scores[RV_ROUTERS]) {
	job j = {.o = o};
	RV_TRY(RV_ALLOC(&j.router, 1, "agent router"));
	const rv_status st = train(&j, out, scores);
	void *owned[] = {j.h.evidence, j.h.agent, j.h.ambiguous, j.h.complexity};
	for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
		rv_free(owned[i]);
	rv_agent_router_destroy(j.router);
	rv_agent_data_free(&j.data);
	return st;
}
