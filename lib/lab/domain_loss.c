#include "lab/domain_loss.h"

#include "base/jsonl.h"
#include "base/mem.h"
#include "eval/scorer.h"

#include <stdio.h>
#include <string.h>

static const struct {
	const char *file, *before, *question, *between, *answer;
} domains[RV_DOMAIN_COUNT] = {
        {"mini-humaneval/HumanEval.jsonl", "", "prompt", "", "canonical_solution"},
        {"routing/heldout.jsonl", "Request: ", "text", "\nAgent:", "agent"},
};

typedef struct reading {
	rv_domain domain;
	const char *path;
	int64_t most, n, room;
	char **contexts, **answers;
} reading;

static rv_status join(char **out, const char *a, const char *b, const char *c) {
	const size_t size = strlen(a) + strlen(b) + strlen(c) + 1;
	RV_TRY(RV_ALLOC(out, size, "item"));
	snprintf(*out, size, "%s%s%s", a, b, c);
	return RV_OK;
}

static rv_status take(void *user, json_t *row, size_t line) {
	reading *r = user;
	const char *question = json_string_value(json_object_get(row, domains[r->domain].question));
	const char *answer = json_string_value(json_object_get(row, domains[r->domain].answer));
	if (!question || !answer)
		return rv_fail(RV_ERR_FORMAT, "%s: line %zu: no %s or %s", r->path, line,
		               domains[r->domain].question, domains[r->domain].answer);
	if (r->most && r->n >= r->most)
		return RV_OK;
	if (r->n == r->room) {
		const int64_t room = r->room ? 2 * r->room : 64;
		RV_TRY(RV_GROW(&r->contexts, r->room, room, "items"));
		RV_TRY(RV_GROW(&r->answers, r->room, room, "items"));
		r->room = room;
	}
	RV_TRY(join(&r->contexts[r->n], domains[r->domain].before, question,
	            domains[r->domain].between));
	/* an agent's name begins with the blank after the colon */
	RV_TRY(join(&r->answers[r->n], r->domain == RV_DOMAIN_AGENT ? " " : "", answer, ""));
	r->n++;
	return RV_OK;
}

static rv_status measure(const rv_run_config *config, rv_subject who, const reading *r, double *nats) {
	rv_score_request *requests;
	rv_score *scores = NULL;
	rv_scorer *scorer = NULL;
	rv_scorer_options o = rv_scorer_defaults();
	const rv_adapter_use use = {who.adapter, 1};
	double sum = 0, n = 0;
	o.context.n_threads = config->n_threads;
	o.context.adapters = &use;
	o.context.n_adapters = who.adapter != NULL;
	RV_TRY(RV_ALLOC(&requests, r->n, "requests"));
	for (int64_t i = 0; i < r->n; i++)
		requests[i] = (rv_score_request){r->contexts[i], strlen(r->contexts[i]),
		                                 (const char *const *)&r->answers[i], 1};
	rv_status st = RV_ALLOC(&scores, r->n, "scores");
	if (st == RV_OK)
		st = rv_scorer_create(&scorer, who.model, &o);
	if (st == RV_OK) {
		rv_context_set_cancel(rv_scorer_context(scorer), config->cancelled, config->user);
		st = rv_scorer_loglikelihood(scorer, requests, (size_t)r->n, scores);
	}
	for (int64_t i = 0; st == RV_OK && i < r->n; i++) {
		sum -= scores[i].logprob;
		n += scores[i].n_tokens;
	}
	if (st == RV_OK)
		*nats = sum / n;
	rv_scorer_destroy(scorer);
	rv_free(scores);
	rv_free(requests);
	return st;
}

rv_status rv_domain_loss(const rv_run_config *config, rv_subject who, rv_domain domain, int64_t n_items,
                         double *nats) {
	char path[4096];
	snprintf(path, sizeof path, "%.3000s/datasets/%s", config->root, domains[domain].file);
	reading r = {.domain = domain, .path = path, .most = n_items};
	rv_status st = rv_jsonl_read(path, take, &r);
	if (st == RV_OK)
		st = r.n ? measure(config, who, &r, nats)
		         : rv_fail(RV_ERR_NOT_FOUND, "%s: no items", path);
	for (int64_t i = 0; i < r.n; i++) {
		rv_free(r.contexts[i]);
		rv_free(r.answers[i]);
	}
	rv_free(r.contexts);
	rv_free(r.answers);
	return st;
}
