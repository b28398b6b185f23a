#include "base/mem.h"
#include "learn/agent_router_internal.h"

#include <math.h>
#include <string.h>

const char *const rv_agent_router_names[RV_ROUTERS + 1] = {"keyword", "embedding", "hybrid", NULL};

const int rv_agent_uses[RV_ROUTERS][RV_SIGNALS] = {
        [RV_ROUTER_KEYWORD] = {[RV_SIGNAL_PHRASES] = 1},
        [RV_ROUTER_EMBEDDING] = {[RV_SIGNAL_VOTES] = 1},
        [RV_ROUTER_HYBRID] = {1, 1, 1},
};

#define VOTE_FLOOR 0.02f /* no agent is out of the question for want of a neighbour */

static int best(const float *x, int n) {
	int at = 0;
	for (int i = 1; i < n; i++)
		at = x[i] > x[at] ? i : at;
	return at;
}

/* ---- evidence ---- */

void rv_agent_read_evidence(rv_agent_router *r, const char *text, size_t len, rv_agent_evidence *out) {
	rv_agent_hit hits[RV_LEXICON_HITS_MAX];
	float logits[RV_LINEAR_OUT];
	rv_agent_text_read(&r->text, text, len);
	const int n = rv_agent_lexicon_match(r->lexicon, &r->text, hits);
	rv_agent_lexicon_score(r->lexicon, &r->text, hits, n, out->signals[RV_SIGNAL_PHRASES]);
	rv_agent_features_read(&r->features, &r->text, hits, n, NULL);
	rv_agent_linear_score(&r->linear, &r->features, logits);
	float *words = out->signals[RV_SIGNAL_WORDS];
	memcpy(words, logits + RV_LINEAR_AGENT, RV_AGENTS * sizeof *words);
	rv_agent_softmax(words, RV_AGENTS);
	for (int a = 0; a < RV_AGENTS; a++)
		words[a] = logf(words[a] + 1e-6f);
	memcpy(out->complexity, logits + RV_LINEAR_COMPLEXITY, sizeof out->complexity);
	rv_agent_softmax(out->complexity, RV_AGENT_LEVELS);
	rv_agent_softmax(logits + RV_LINEAR_AMBIGUOUS, 2);
	out->ambiguous = logits[RV_LINEAR_AMBIGUOUS + 1];
}

void rv_agent_vote_signal(const float votes[RV_AGENTS], float signal[RV_AGENTS]) {
	for (int a = 0; a < RV_AGENTS; a++)
		signal[a] = logf(votes[a] + VOTE_FLOOR);
}

/* ---- from evidence to a decision ---- */

void rv_agent_combine(const rv_agent_calibration *c, rv_agent_router_kind kind,
                      const rv_agent_evidence *e, float p[RV_AGENTS]) {
	memset(p, 0, RV_AGENTS * sizeof *p);
	for (int s = 0; s < RV_SIGNALS; s++)
		for (int a = 0; rv_agent_uses[kind][s] && a < RV_AGENTS; a++)
			p[a] += c->weights[kind][s] * e->signals[s][a];
	rv_agent_softmax(p, RV_AGENTS);
}

void rv_agent_quality_terms(const rv_agent_evidence *e, const float p[RV_AGENTS],
                            rv_agent_router_kind kind, float terms[RV_QUALITY_TERMS]) {
	const int agent = best(p, RV_AGENTS);
	const float sure = p[agent] < 0.999f ? p[agent] : 0.999f;
	float second = 0, agree = 0;
	for (int a = 0; a < RV_AGENTS; a++)
		if (a != agent && p[a] > second)
			second = p[a];
	for (int s = 0; s < RV_SIGNALS; s++)
		agree += rv_agent_uses[kind][s] && best(e->signals[s], RV_AGENTS) == agent;
	terms[0] = 1;
	terms[1] = logf(sure / (1 - sure));
	terms[2] = p[agent] - second;
	terms[3] = agree;
	terms[4] = e->ambiguous;
	terms[5] = e->complexity[RV_AGENT_LEVELS - 1];
}

static void decide(const rv_agent_router *r, rv_agent_router_kind kind, const rv_agent_evidence *e,
                   rv_agent_decision *d) {
	const rv_agent_calibration *c = &r->calibration;
	float terms[RV_QUALITY_TERMS], z = 0;
	rv_agent_combine(c, kind, e, d->probabilities);
	d->agent = best(d->probabilities, RV_AGENTS);
	d->confidence = d->probabilities[d->agent];
	d->task_class = e->ambiguous >= c->ambiguous_from ? RV_AGENT_CLASSES - 1 : d->agent;
	memcpy(d->complexity_probabilities, e->complexity, sizeof e->complexity);
	d->complexity = best(e->complexity, RV_AGENT_LEVELS);
	rv_agent_quality_terms(e, d->probabilities, kind, terms);
	for (int i = 0; i < RV_QUALITY_TERMS; i++)
		z += c->quality[kind][i] * terms[i];
	d->quality = 1 / (1 + expf(-z));
}

rv_status rv_agent_route(rv_agent_router *r, rv_agent_router_kind kind, const char *text, size_t len,
                         rv_agent_decision *out) {
	rv_agent_evidence e;
	float votes[RV_AGENTS];
	if (rv_agent_uses[kind][RV_SIGNAL_VOTES] && !r->examples)
		return rv_fail(RV_ERR_INVALID,
		               "the %s router needs an embedder and a file made with one",
		               rv_agent_router_names[kind]);
	out->n_neighbours = 0;
	memset(e.signals[RV_SIGNAL_VOTES], 0, sizeof e.signals[RV_SIGNAL_VOTES]);
	rv_agent_read_evidence(r, text, len, &e);
	int words = 0;
	for (int i = 0; i < r->text.n; i++)
		words += !r->text.words[i].mark;
	if (words == 0)
		return rv_fail(RV_ERR_INVALID, "a request without words");
	if (rv_agent_uses[kind][RV_SIGNAL_VOTES]) {
		RV_TRY(rv_agent_examples_vote(r->examples, r->embedder, text, len, votes,
		                              out->neighbours, &out->n_neighbours));
		rv_agent_vote_signal(votes, e.signals[RV_SIGNAL_VOTES]);
	}
	decide(r, kind, &e, out);
	return RV_OK;
}

/* ---- opening ---- */

void rv_agent_router_destroy(rv_agent_router *r) {
	if (!r)
		return;
	rv_agent_lexicon_destroy(r->lexicon);
	rv_free(r->lexicon_text);
	rv_agent_linear_free(&r->linear);
	rv_agent_examples_destroy(r->examples);
	rv_free(r);
}

static rv_status open_sealed(rv_agent_router **out, rv_sealed_in *in, rv_embedder *embedder) {
	rv_agent_router *r;
	RV_TRY(RV_ALLOC(&r, 1, "agent router"));
	r->embedder = embedder;
	rv_status st = rv_agent_router_load(r, in);
	if (st == RV_OK && embedder && r->examples) {
		st = rv_agent_examples_prepare(r->examples, embedder);
		if (st != RV_OK)
			rv_fail_in(st, in->name);
	} else if (st == RV_OK) {
		rv_agent_examples_destroy(r->examples);
		r->examples = NULL;
	}
	if (st == RV_OK)
		*out = r;
	else
		rv_agent_router_destroy(r);
	return st;
}

rv_status rv_agent_router_open(rv_agent_router **out, const char *path, rv_embedder *embedder) {
	rv_sealed_in in;
	RV_TRY(rv_sealed_open(&in, path, RV_AGENT_ROUTER_MAGIC, RV_AGENT_ROUTER_VERSION));
	const rv_status st = open_sealed(out, &in, embedder);
	rv_sealed_close(&in);
	return st;
}

rv_status rv_agent_router_open_memory(rv_agent_router **out, const void *data, size_t size,
                                      const char *name, rv_embedder *embedder) {
	rv_sealed_in in;
	RV_TRY(rv_sealed_open_memory(&in, data, size, name, RV_AGENT_ROUTER_MAGIC,
	                             RV_AGENT_ROUTER_VERSION));
	const rv_status st = open_sealed(out, &in, embedder);
	rv_sealed_close(&in);
	return st;
}
