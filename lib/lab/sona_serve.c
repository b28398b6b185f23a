#include "lab/sona_serve.h"

#include "base/mem.h"
#include "base/rng.h"
#include "lab/models.h"
#include "lab/stats.h"

#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CTX = 768 };
#define CALLER_WRONG 0.1
#define BEGIN_MS INT64_C(1767225600000) /* 2026-01-01 */

typedef struct service {
	const rv_run_config *config;
	const rv_shift_stream *stream;
	const rv_sona_serving *how;
	rv_shift_scorer *scorer;
	rv_sona *sona;
	rv_context *ctx;
	rv_shift_tree tree;
	rv_sim_clock clock;
	rv_rng rng;
	char dir[64];
	const rv_shift_doc **order;
	double *instant_s; /* of requests learnt from */
	int64_t n_instant, n_right;
	rv_sona_served *out;
} service;

/* ---- one request ---- */

static rv_status evaluate(service *v, const int32_t *tokens, int32_t n, int32_t position,
                          int32_t first_wanted) {
	rv_row rows[MAX_CTX];
	for (int32_t i = 0; i < n; i++)
		rows[i] = (rv_row){.token = tokens[i],
		                   .position = position + i,
		                   .parent = -1,
		                   .flags = position + i >= first_wanted ? RV_ROW_LOGITS : 0};
	return n > 0 ? rv_context_eval(v->ctx, rows, n) : RV_OK;
}

/* The likeliest agent is the answer; its tokens go through the model as if they had been drawn. */
static rv_status answer(service *v, const rv_shift_doc *d, int *agent) {
	double names[RV_AGENTS];
	const int32_t last = d->answer - 1;
	RV_TRY(evaluate(v, d->ids, d->answer, 0, last));
	RV_TRY(rv_shift_score_agents(v->ctx, v->stream, &v->tree, &last, 1, names));
	*agent = 0;
	for (int a = 1; a < RV_AGENTS; a++)
		*agent = names[a] > names[*agent] ? a : *agent;
	const rv_shift_doc *said = &v->stream->agents[*agent];
	return evaluate(v, said->ids, said->n - 1, d->answer, last);
}

static void rate(service *v, int right, rv_sona_outcome *outcome) {
	static const rv_quality_source sources[RV_SONA_N_RATINGS] = {
	        [RV_SONA_RATED_CORRECTION] = RV_QUALITY_TASK,
	        [RV_SONA_RATED_TASK] = RV_QUALITY_TASK,
	        [RV_SONA_RATED_FEEDBACK] = RV_QUALITY_FEEDBACK,
	        [RV_SONA_RATED_LIKELIHOOD] = RV_QUALITY_LIKELIHOOD};
	const int wrong = rv_rng_double(&v->rng) < CALLER_WRONG;
	outcome->source = sources[v->how->rating];
	if (v->how->rating == RV_SONA_RATED_FEEDBACK)
		outcome->quality = right != wrong;
	else if (v->how->rating != RV_SONA_RATED_LIKELIHOOD)
		outcome->quality = right;
}

static void note(service *v, const rv_sona_report *report) {
	if (report->instant.outcome == RV_INSTANT_LEARNT)
		v->instant_s[v->n_instant++] = 1e-9 * (double)report->instant.total_ns;
}

static rv_status serve_one(service *v, const rv_shift_doc *d) {
	rv_sona_request request = rv_sona_request_defaults(v->ctx);
	rv_sona_outcome outcome = rv_sona_outcome_defaults();
	rv_sona_report report = {0};
	char id[RV_UUID_TEXT];
	int agent;
	request.prompt = d->ids;
	request.n_prompt = d->answer;
	request.first = d->answer - 1;
	RV_TRY(rv_sona_begin(v->sona, v->ctx, &request, id, NULL));
	RV_TRY(answer(v, d, &agent));
	outcome.answer = v->stream->agents[agent].ids;
	outcome.n_answer = v->stream->agents[agent].n;
	outcome.text = rv_agent_names[agent];
	outcome.len = strlen(outcome.text);
	rate(v, agent == d->agent, &outcome);
	RV_TRY(rv_sona_end(v->sona, id, &outcome, &report));
	RV_TRY(rv_seq_truncate(v->ctx, 0, 0));
	v->n_right += agent == d->agent;
	note(v, &report);
	if (v->how->rating != RV_SONA_RATED_CORRECTION || agent == d->agent)
		return RV_OK;
	report = (rv_sona_report){0};
	RV_TRY(rv_sona_teach(v->sona, v->ctx, &request, d->ids + d->answer, d->n - d->answer, 1,
	                     RV_QUALITY_TASK, id, &report));
	note(v, &report);
	return RV_OK;
}

/* ---- all of them ---- */

static rv_status look(service *v, rv_sona_look *out) {
	rv_adapter *adapter = rv_adapter_slot_acquire(rv_sona_slot(v->sona), NULL);
	rv_status status = rv_shift_scorer_adapt(v->scorer, adapter);
	if (status == RV_OK)
		status = rv_shift_score_new(v->scorer, &v->stream->held, &out->held);
	if (status == RV_OK)
		status = rv_shift_score_old(v->scorer, &v->stream->old, &out->old);
	rv_adapter_release(adapter);
	return status;
}

static rv_status serve_all(service *v) {
	const int64_t n = v->stream->n_stream;
	const int every = RV_SONA_LOOKS / v->how->n_looks;
	for (int64_t i = 0, done = 0; i < n; i++) {
		rv_sim_clock_advance(&v->clock, v->how->interval_ms);
		RV_TRY(serve_one(v, v->order[i]));
		RV_TRY(rv_sona_run_due(v->sona, -1, NULL));
		if (v->config->cancelled(v->config->user))
			return rv_fail(RV_ERR_CANCELLED, "interrupted");
		if ((i + 1) * RV_SONA_LOOKS / n > done) {
			done = (i + 1) * RV_SONA_LOOKS / n;
			if (done % every == 0)
				RV_TRY(look(v, &v->out->looks[done - 1]));
		}
	}
	return RV_OK;
}

static rv_status sum_up(service *v) {
	rv_sona_served *out = v->out;
	rv_summary instant = rv_summary_empty();
	rv_sona_bytes bytes;
	out->right_pct = 100 * (double)v->n_right / (double)v->stream->n_stream;
	if (v->n_instant > 0)
		RV_TRY(rv_summarize(v->instant_s, (size_t)v->n_instant, 0, &instant));
	out->instant_s = instant.median;
	rv_sona_get_stats(v->sona, &out->stats);
	for (int l = 0; l < RV_SONA_LOOPS; l++)
		out->pass_s[l] = out->stats.n_passes[l] == 0 ? NAN
		                                             : 1e-9 * (double)out->stats.pass_ns[l] /
		                                                       (double)out->stats.n_passes[l];
	rv_sona_count_bytes(v->sona, &bytes);
	out->state_bytes = bytes.total;
	return RV_OK;
}

/* ---- beginning and end ---- */

static rv_status begin(service *v, rv_model *model, const rv_shift_pack *old) {
	rv_context_options c = rv_context_defaults();
	rv_sona_options o = v->how->options;
	const int64_t n = v->stream->n_stream;
	rv_sim_clock_init(&v->clock, BEGIN_MS);
	o.clock = rv_sim_clock_source(&v->clock);
	o.seed = v->how->seed;
	o.use_likelihood = v->how->rating == RV_SONA_RATED_LIKELIHOOD;
	o.log = v->config->log;
	rv_rng_stream(&v->rng, v->how->seed, 17);
	rv_shift_tree_build(&v->tree, v->stream);
	RV_TRY(RV_ALLOC(&v->order, v->stream->pool.n, "stream"));
	RV_TRY(RV_ALLOC(&v->instant_s, 2 * n, "times"));
	rv_shift_stream_draw(v->stream, v->how->seed, v->order);
	if (v->how->store) {
		snprintf(v->dir, sizeof v->dir, "/tmp/rv_sona_XXXXXX");
		if (mkdtemp(v->dir) == NULL)
			return rv_fail(RV_ERR_IO, "%s: no temporary folder", v->dir);
	}
	RV_TRY(rv_sona_open(&v->sona, model, v->how->store ? v->dir : NULL, &o));
	if (v->how->remember)
		RV_TRY(rv_sona_remember(v->sona, old->tokens, old->weights, old->n));
	c.n_ctx = MAX_CTX;
	c.n_draft = v->tree.n;
	RV_TRY(rv_lab_context(v->config, model, &c, &v->ctx));
	return rv_sona_attach(v->sona, v->ctx, 0);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at) {
	(void)st, (void)kind, (void)at;
	return remove(path);
}

static void end(service *v) {
	if (v->sona != NULL && v->ctx != NULL)
		(void)rv_sona_detach(v->sona, v->ctx); /* not attached: nothing to take off */
	rv_context_destroy(v->ctx);
	(void)rv_sona_close(v->sona); /* what it would keep goes with the folder */
	if (v->dir[0] != '\0')
		(void)nftw(v->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	rv_free(v->order);
	rv_free(v->instant_s);
}

rv_status rv_sona_serve(const rv_run_config *config, rv_model *model, const rv_shift_stream *stream,
                        rv_shift_scorer *scorer, const rv_shift_pack *old, const rv_sona_serving *how,
                        rv_sona_served *out) {
	service v = {.config = config, .stream = stream, .how = how, .scorer = scorer, .out = out};
	memset(out, 0, sizeof *out);
	rv_status status = begin(&v, model, old);
	if (status == RV_OK)
		status = serve_all(&v);
	if (status == RV_OK)
		status = sum_up(&v);
	char why[RV_ERROR_MESSAGE_MAX];
	snprintf(why, sizeof why, "%s", status == RV_OK ? "" : rv_error_message());
	end(&v);
	return status == RV_OK ? RV_OK : rv_fail(status, "%s", why);
}
