#include "lab/speed.h"

#include "base/mem.h"
#include "base/rng.h"
#include "base/sysinfo.h"

#include <math.h>

rv_status rv_time_work(rv_timed_fn *work, const void *user, int repeats, double *seconds) {
	int64_t before = rv_now_ns();
	for (int i = 0; i < repeats; i++)
		RV_TRY(work(user));
	*seconds = (double)(rv_now_ns() - before) * 1e-9;
	return RV_OK;
}

rv_status rv_repeats_for(rv_timed_fn *work, const void *user, double sample_s, int *repeats) {
	double seconds = 0;
	RV_TRY(work(user));
	for (*repeats = 1;; *repeats *= 2) {
		RV_TRY(rv_time_work(work, user, *repeats, &seconds));
		if (seconds >= sample_s)
			return RV_OK;
		if (seconds > sample_s / 8) {
			*repeats = (int)ceil(*repeats * sample_s / seconds * 1.1);
			return RV_OK;
		}
	}
}

static rv_row token_row(const rv_token_run *r, int position, int logits) {
	return (rv_row){.token = r->tokens[position],
	                .position = position,
	                .parent = -1,
	                .flags = logits ? RV_ROW_LOGITS : 0};
}

rv_status rv_decode_run(const void *user) {
	const rv_token_run *r = user;
	RV_TRY(rv_seq_truncate(r->ctx, 0, 0));
	for (int i = 0; i < r->n; i++) {
		rv_row row = token_row(r, i, 1);
		RV_TRY(rv_context_eval(r->ctx, &row, 1));
	}
	return RV_OK;
}

rv_status rv_prefill_run(const void *user) {
	const rv_token_run *r = user;
	rv_row *rows = NULL;
	RV_TRY(rv_seq_truncate(r->ctx, 0, 0));
	RV_TRY(RV_ALLOC(&rows, r->n, "prompt rows"));
	for (int i = 0; i < r->n; i++)
		rows[i] = token_row(r, i, i + 1 == r->n);
	rv_status status = rv_context_eval(r->ctx, rows, r->n);
	rv_free(rows);
	return status;
}

void rv_random_tokens(int32_t *tokens, int n, uint64_t seed, int64_t n_vocab) {
	rv_rng rng;
	rv_rng_stream(&rng, seed, 1);
	for (int i = 0; i < n; i++)
		tokens[i] = (int32_t)rv_rng_below(&rng, (uint64_t)n_vocab);
}

static double bytes_per_token(const rv_context *ctx, int n) {
	const rv_model *model = rv_context_model(ctx);
	const rv_hparams *hp = rv_model_hparams(model);
	const rv_weight *embd = rv_model_weight(model, RV_TOKEN_EMBD, -1);
	double bytes = (double)rv_model_weight_bytes(model);
	if (!hp->tied)
		bytes -= (double)(embd->rows - 1) * (double)embd->row_bytes;
	const rv_context_options *o = rv_context_get_options(ctx);
	for (int i = 0; i < o->n_adapters; i++)
		bytes += (double)rv_adapter_bytes(o->adapters[i].adapter);
	double cache_row = (double)rv_kv_row_bytes(o->kv_type, hp->head_dim);
	return bytes + (double)(hp->n_layers * hp->n_kv_heads) * cache_row * n;
}

rv_status rv_decode_bound(const rv_run_config *config, const rv_context *ctx, int n, double *tok_s) {
	const rv_calibration *c = &config->calibration;
	double bytes = bytes_per_token(ctx, n), gb_s = c->read_gb_s;
	if (bytes < 2 * (double)c->cache_bytes)
		RV_TRY(rv_calibrate_read(config->threads, (size_t)bytes, 0.05, &gb_s));
	*tok_s = gb_s * 1e9 / bytes;
	return RV_OK;
}
