#include "lab/sona_cost.h"

#include "base/mem.h"
#include "base/sysinfo.h"
#include "lab/models.h"
#include "lab/speed.h"
#include "lab/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PLAIN, CAPTURED, LEARNING, N_KINDS };

rv_status rv_sona_cost_open(rv_sona_cost *c, const rv_run_config *config, rv_model *model,
                            const rv_micro_lora_options *micro) {
	rv_context_options o = rv_context_defaults();
	rv_capture_options capture = rv_capture_defaults();
	const rv_instant_options instant = rv_instant_defaults();
	memset(c, 0, sizeof *c);
	c->n_vocab = rv_model_hparams(model)->n_vocab;
	o.n_ctx = RV_SONA_COST_PROMPT + RV_SONA_COST_TOKENS;
	capture.layers = micro->layers;
	capture.n_layers = micro->n_layers;
	capture.site = micro->site;
	RV_TRY(rv_adapter_slot_create(&c->slot, model));
	RV_TRY(rv_instant_create(&c->instant, model, micro, &instant, c->slot));
	for (int k = 0; k < N_KINDS; k++) {
		RV_TRY(rv_lab_context(config, model, &o, &c->ctx[k]));
		if (k != PLAIN)
			RV_TRY(rv_capture_attach(&c->capture[k], c->ctx[k], &capture));
	}
	return rv_context_follow_slot(c->ctx[LEARNING], 0, c->slot, 1);
}

void rv_sona_cost_close(rv_sona_cost *c) {
	for (int k = N_KINDS - 1; k >= 0; k--) {
		rv_capture_detach(c->capture[k]);
		rv_context_destroy(c->ctx[k]);
	}
	rv_instant_destroy(c->instant);
	rv_adapter_slot_destroy(c->slot);
	memset(c, 0, sizeof *c);
}

static rv_status prefill(rv_sona_cost *c, int k, const int32_t *tokens) {
	rv_row rows[RV_SONA_COST_PROMPT];
	for (int i = 0; i < RV_SONA_COST_PROMPT; i++)
		rows[i] = (rv_row){.token = tokens[i], .position = i, .parent = -1};
	RV_TRY(rv_seq_truncate(c->ctx[k], 0, 0));
	if (c->capture[k] != NULL)
		RV_TRY(rv_capture_begin(c->capture[k], 0, RV_SONA_COST_PROMPT));
	return rv_context_eval(c->ctx[k], rows, RV_SONA_COST_PROMPT);
}

/* Times of requests, s. */
typedef struct times {
	double token[N_KINDS][RV_SONA_COST_REQUESTS * RV_SONA_COST_TOKENS];
	double learn[RV_SONA_COST_REQUESTS];
	int n_learnt;
} times;

static rv_status learn(rv_sona_cost *c, const rv_captured *captured, times *t) {
	rv_instant_report report;
	RV_TRY(rv_instant_learn(c->instant, captured, 1, RV_QUALITY_TASK, &report));
	if (report.outcome == RV_INSTANT_LEARNT)
		t->learn[t->n_learnt++] = 1e-9 * (double)report.total_ns;
	return RV_OK;
}

static rv_status end(rv_sona_cost *c, int k, const int32_t *answer, times *t) {
	if (c->capture[k] == NULL)
		return RV_OK;
	rv_captured *captured = rv_capture_end(c->capture[k], 0, answer, RV_SONA_COST_TOKENS);
	const rv_status status = k == LEARNING ? learn(c, captured, t) : RV_OK;
	rv_captured_release(captured);
	return status;
}

/* The token behind each position is a random one: what is learnt means nothing, what it costs does. */
static rv_status request(rv_sona_cost *c, uint64_t seed, int number, times *t) {
	int32_t tokens[RV_SONA_COST_PROMPT + RV_SONA_COST_TOKENS + 1];
	const int n = (int)(sizeof tokens / sizeof *tokens);
	rv_random_tokens(tokens, n, seed, c->n_vocab);
	for (int k = 0; k < N_KINDS; k++)
		RV_TRY(prefill(c, k, tokens));
	for (int i = 0; i < RV_SONA_COST_TOKENS; i++)
		for (int turn = 0; turn < N_KINDS; turn++) {
			const int k = (turn + i) % N_KINDS; /* nobody is always first */
			const rv_row row = {.token = tokens[RV_SONA_COST_PROMPT + i],
			                    .position = RV_SONA_COST_PROMPT + i,
			                    .parent = -1,
			                    .flags = RV_ROW_LOGITS};
			const int64_t start = rv_now_ns();
			RV_TRY(rv_context_eval(c->ctx[k], &row, 1));
			t->token[k][number * RV_SONA_COST_TOKENS + i] =
			        1e-9 * (double)(rv_now_ns() - start);
		}
	for (int k = 0; k < N_KINDS; k++)
		RV_TRY(end(c, k, tokens + RV_SONA_COST_PROMPT + 1, t));
	return RV_OK;
}

static int by_value(const void *a, const void *b) {
	const double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(double *x, int n) {
	qsort(x, (size_t)n, sizeof *x, by_value);
	return n > 0 ? rv_quantile(x, (size_t)n, 0.5) : NAN;
}

rv_status rv_sona_cost_measure(rv_sona_cost *c, uint64_t seed, int n_requests,
                               rv_sona_cost_sample *out) {
	times *t;
	RV_TRY(RV_ALLOC(&t, 1, "times"));
	rv_status status = request(c, seed, 0, t);
	t->n_learnt = 0;
	for (int i = 0; i < n_requests && status == RV_OK; i++)
		status = request(c, seed + (uint64_t)i + 1, i, t);
	for (int k = 0; k < N_KINDS; k++)
		out->token[k] = median(t->token[k], n_requests * RV_SONA_COST_TOKENS);
	out->learn = median(t->learn, t->n_learnt);
	rv_free(t);
	return status;
}
