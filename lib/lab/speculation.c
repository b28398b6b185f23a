#include "lab/speculation.h"

#include "base/mem.h"
#include "engine/generate.h"
#include "eval/eval_run.h"
#include "eval/results.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- formulas ---- */

double rv_spec_tokens_documented(double a, double k) {
	return 1 + a * k;
}

double rv_spec_tokens_geometric(double alpha, double k) {
	return alpha >= 1 ? k + 1 : (1 - pow(alpha, k + 1)) / (1 - alpha);
}

double rv_spec_speedup(double tokens, double k, double c, double v) {
	return tokens / (k * c + v);
}

/* Tokens a round rise with alpha, from 1 to k + 1. */
double rv_spec_break_even(double k, double c, double v) {
	double low = 0, high = 1, cost = k * c + v;
	if (!(cost <= k + 1))
		return NAN;
	for (int i = 0; i < 60; i++) {
		double middle = (low + high) / 2;
		if (rv_spec_tokens_geometric(middle, k) < cost)
			low = middle;
		else
			high = middle;
	}
	return high;
}

/* ---- answers ---- */

typedef struct answerer {
	rv_context *ctx;
	rv_speculator *speculator;
	rv_sampler *sampler;
	char *text;
	size_t len;
	rv_status status;
} answerer;

static int keep(void *user, int32_t id, const char *text, size_t len, double logprob) {
	answerer *a = user;
	(void)id;
	(void)logprob;
	a->status = rv_grow((void **)&a->text, a->len, a->len + len + 1, 1, "answer");
	if (a->status != RV_OK)
		return 1;
	memcpy(a->text + a->len, text, len);
	a->len += len;
	a->text[a->len] = '\0';
	return 0;
}

static rv_status answer(answerer *a, const int32_t *prompt, size_t n, const rv_until_options *how) {
	const rv_context_options *o = rv_context_get_options(a->ctx);
	rv_generate_options g = rv_generate_defaults();
	rv_generate_result result;
	int64_t most = o->n_ctx - how->max_tokens, cut = (int64_t)n > most ? (int64_t)n - most : 0;
	g.n_predict = how->max_tokens;
	g.stop_strings = how->until;
	g.speculator = a->speculator;
	g.on_token = keep;
	g.user = a;
	rv_sampler_reset(a->sampler);
	RV_TRY(rv_seq_truncate(a->ctx, 0, 0));
	if (a->speculator)
		RV_TRY(rv_speculator_reset(a->speculator));
	RV_TRY(rv_generate(a->ctx, 0, prompt + cut, (int64_t)n - cut, a->sampler, &g, NULL, &result));
	return a->status;
}

static rv_status generate(void *user, const char *context, size_t len, const rv_until_options *how,
                          char **text, size_t *text_len, rv_until_info *info) {
	answerer *a = user;
	int32_t *prompt;
	size_t n;
	const rv_encode_options encode = rv_encode_defaults();
	a->text = NULL;
	a->len = 0;
	a->status = RV_OK;
	*info = (rv_until_info){.finished = 1};
	RV_TRY(rv_tokenizer_encode(rv_model_tokenizer(rv_context_model(a->ctx)), context, len, &encode,
	                           &prompt, &n));
	rv_status status = answer(a, prompt, n, how);
	rv_free(prompt);
	if (status == RV_OK && a->text == NULL)
		status = rv_strdup(&a->text, "");
	*text = a->text;
	*text_len = a->len;
	return status;
}

static rv_status ask(const rv_run_config *config, answerer *a, rv_eval_set *set, rv_eval_reply *replies,
                     double **values) {
	const rv_sampler_options greedy = {.top_p = 1, .repeat_penalty = 1};
	const rv_eval_backend backend = {.generate = generate, .user = a};
	const rv_eval_run_options options = {.cancelled = config->cancelled, .user = config->user};
	rv_eval_run_info info;
	double *all;
	RV_TRY(rv_sampler_create(&a->sampler, &greedy,
	                         rv_model_hparams(rv_context_model(a->ctx))->n_vocab));
	RV_TRY(rv_eval_run(set, &backend, &options, replies, &info));
	RV_TRY(rv_eval_values(set, replies, &all));
	for (int64_t i = 0; i < set->n_docs; i++)
		all[i] = all[i * set->n_metrics];
	*values = all;
	return RV_OK;
}

rv_status rv_spec_answers(const rv_run_config *config, rv_context *ctx, rv_speculator *speculator,
                          int64_t n, double **values, int64_t *n_values) {
	char data[4096];
	rv_eval_set *set;
	rv_eval_reply *replies = NULL;
	answerer a = {.ctx = ctx, .speculator = speculator};
	snprintf(data, sizeof data, "%.4000s/datasets", config->root);
	const rv_eval_read_options o = {.data = data, .n_fewshot = -1, .limit = n};
	RV_TRY(rv_eval_set_read(&set, rv_eval_task_by_name("gsm8k"), &o));
	rv_status status = RV_ALLOC(&replies, set->n_docs, "replies");
	if (status == RV_OK)
		status = ask(config, &a, set, replies, values);
	*n_values = set->n_docs;
	for (int64_t i = 0; replies != NULL && i < set->n_docs; i++)
		rv_eval_reply_clear(&replies[i]);
	rv_free(replies);
	rv_sampler_destroy(a.sampler);
	rv_eval_set_free(set);
	return status;
}
