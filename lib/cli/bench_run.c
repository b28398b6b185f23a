#include "cli/bench.h"

#include "base/mem.h"
#include "base/rng.h"
#include "base/sysinfo.h"
#include "engine/sampler.h"

rv_status rv_bench_row_init(rv_bench_row *row, rv_bench_config *config, rv_bench_test test,
                            int repetitions) {
	*row = (rv_bench_row){.config = config, .test = test};
	RV_TRY(RV_ALLOC(&row->samples_ns, repetitions, "samples"));
	RV_TRY(RV_ALLOC(&row->first_ns, repetitions, "samples"));
	return rv_alloc((void **)&row->tokens_ns, (size_t)repetitions * (size_t)test.n_gen,
	                sizeof(double), "samples");
}

void rv_bench_row_deinit(rv_bench_row *row) {
	rv_free(row->samples_ns);
	rv_free(row->first_ns);
	rv_free(row->tokens_ns);
}

static int32_t draw(rv_rng *rng, const rv_context *ctx) {
	return (int32_t)rv_rng_below(rng, (uint64_t)rv_model_hparams(rv_context_model(ctx))->n_vocab);
}

/* n random tokens in one call; logits of the last when wanted. */
static rv_status eval_prompt(rv_context *ctx, rv_rng *rng, int64_t n, int logits, int64_t *ns) {
	rv_row *rows;
	int64_t length = rv_seq_length(ctx, 0);
	RV_TRY(RV_ALLOC(&rows, n, "batch"));
	for (int64_t i = 0; i < n; i++)
		rows[i] = (rv_row){.token = draw(rng, ctx),
		                   .position = (int32_t)(length + i),
		                   .parent = -1,
		                   .flags = logits && i == n - 1 ? RV_ROW_LOGITS : 0};
	int64_t start = rv_now_ns();
	rv_status st = rv_context_eval(ctx, rows, n);
	*ns = rv_now_ns() - start;
	rv_free(rows);
	return st;
}

/* The depth's tokens are a prefix of one fixed sequence, so that rising depths only add to it. */
static rv_status go_to_depth(rv_context *ctx, uint64_t seed, int64_t depth) {
	int64_t length = rv_seq_length(ctx, 0), ns;
	rv_rng rng;
	rv_rng_stream(&rng, seed, 0);
	if (length > depth)
		return rv_seq_truncate(ctx, 0, depth);
	for (int64_t i = 0; i < length; i++)
		draw(&rng, ctx);
	return length < depth ? eval_prompt(ctx, &rng, depth - length, 0, &ns) : RV_OK;
}

static rv_status run_prompt(rv_bench_row *row, rv_rng *rng, int warm_up) {
	rv_context *ctx = row->config->ctx;
	int64_t n_vocab = rv_model_hparams(row->config->model)->n_vocab, ns;
	RV_TRY(eval_prompt(ctx, rng, row->test.n_prompt, 1, &ns));
	int64_t start = rv_now_ns();
	const float *logits = rv_context_logits(ctx, row->test.n_prompt - 1);
	int64_t best = rv_argmax(logits, n_vocab);
	int64_t choice_ns = rv_now_ns() - start;
	if (best < 0)
		return rv_fail(RV_ERR_NUMERIC, "%s: a logit is not a number", row->config->path);
	if (warm_up)
		return RV_OK;
	row->samples_ns[row->n_done] = (double)ns;
	row->first_ns[row->n_done] = (double)(ns + choice_ns);
	return RV_OK;
}

static rv_status run_tokens(rv_bench_row *row, rv_rng *rng, int warm_up) {
	rv_context *ctx = row->config->ctx;
	int64_t n = warm_up ? 1 : row->test.n_gen, length = rv_seq_length(ctx, 0);
	int64_t start = rv_now_ns(), last = start;
	for (int64_t i = 0; i < n; i++) {
		rv_row r = {.token = draw(rng, ctx),
		            .position = (int32_t)(length + i),
		            .parent = -1,
		            .flags = RV_ROW_LOGITS};
		RV_TRY(rv_context_eval(ctx, &r, 1));
		int64_t now = rv_now_ns();
		if (!warm_up)
			row->tokens_ns[row->n_done * n + i] = (double)(now - last);
		last = now;
	}
	if (warm_up)
		return RV_OK;
	row->samples_ns[row->n_done] = (double)(last - start);
	row->first_ns[row->n_done] = row->tokens_ns[row->n_done * n];
	return RV_OK;
}

rv_status rv_bench_run(rv_bench_row *row, uint64_t seed, int warm_up) {
	rv_context *ctx = row->config->ctx;
	rv_rng rng;
	RV_TRY(go_to_depth(ctx, seed, row->test.n_depth));
	if (!warm_up && row->n_done == 0)
		rv_utc_now(row->started);
	rv_rng_stream(&rng, seed, 1);
	RV_TRY(row->test.n_prompt ? run_prompt(row, &rng, warm_up) : run_tokens(row, &rng, warm_up));
	row->n_done += !warm_up;
	return rv_seq_truncate(ctx, 0, row->test.n_depth);
}
