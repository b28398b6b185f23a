/* Fine-tuning of BaseLoRA on the bank's good trajectories, with EWC++ and replay.
 *
 * What comes out replaces the base only when what was held out is better for it, and text to be
 * remembered not worse by more than that. */
#include "base/mem.h"
#include "learn/sona_deep.h"
#include "learn/sona_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { OLD_SEQS = 8, OBSERVED_SEQS = 16 };
#define MIN_GAIN 1e-3 /* of the loss: less is rounding */

rv_trainer_options rv_deep_trainer_options(const rv_deep *d, const rv_deep_text *text, double rate) {
	rv_trainer_options o = rv_trainer_defaults();
	o.n_ctx = text->n_ctx;
	o.seed = (int64_t)(d->seed >> 12);
	o.segments = 1;
	o.segment_token = text->end;
	o.schedule.kind = RV_SCHEDULE_CONSTANT;
	o.schedule.peak = rate;
	o.schedule.n_steps = 0;
	o.weight_decay = 0;
	o.n_threads = d->n_threads > 0 ? d->n_threads : 1;
	o.log = d->log;
	return o;
}

/* ---- batches ---- */

/* Buffers that hold what is to be remembered, of sequences of this length. */
static int sources(const rv_deep *d, int64_t n_ctx, const rv_replay *out[2]) {
	const rv_replay *all[] = {d->old, d->replay};
	int n = 0;
	for (int i = 0; i < 2; i++)
		if (all[i] != NULL && rv_replay_count(all[i]) > 0 && rv_replay_n_ctx(all[i]) == n_ctx)
			out[n++] = all[i];
	return n;
}

/* n sequences of them, by turns. */
static rv_status draw_old(const rv_deep *d, int64_t n_ctx, int64_t step, int64_t n, int32_t *tokens,
                          float *weights) {
	const rv_replay *from[2];
	const int n_from = sources(d, n_ctx, from);
	for (int64_t i = 0; i < n; i++)
		RV_TRY(rv_replay_draw(from[i % n_from], step * n + i, 1, tokens + i * (n_ctx + 1),
		                      weights + i * n_ctx));
	return RV_OK;
}

typedef struct batch {
	int32_t *tokens;
	float *weights;
	int64_t n, n_old;
} batch;

static rv_status fill(batch *b, const rv_deep *d, const rv_deep_text *t, int64_t step) {
	const int64_t row = t->n_ctx + 1, n_new = b->n - b->n_old;
	rv_rng rng;
	for (int64_t i = 0; i < n_new; i++) {
		rv_rng_stream(&rng, d->seed, (uint64_t)(step * n_new + i));
		const int64_t at = (int64_t)(rv_rng_double(&rng) * (double)t->n[0]);
		memcpy(b->tokens + i * row, t->tokens[0] + at * row, (size_t)row * sizeof *b->tokens);
		memcpy(b->weights + i * t->n_ctx, t->weights[0] + at * t->n_ctx,
		       (size_t)t->n_ctx * sizeof *b->weights);
	}
	return draw_old(d, t->n_ctx, step, b->n_old, b->tokens + n_new * row,
	                b->weights + n_new * t->n_ctx);
}

static int is_over(const rv_deep *d) {
	return d->stop != NULL && d->stop(d->user);
}

rv_status rv_deep_train(rv_trainer *t, const rv_deep *d, const rv_deep_text *text, int64_t steps,
                        int64_t n_batch, double replay, int64_t *done) {
	const rv_replay *from[2];
	batch b = {.n = n_batch};
	if (sources(d, text->n_ctx, from) > 0)
		b.n_old = (int64_t)llround(replay * (double)n_batch);
	b.n_old = b.n_old < n_batch ? b.n_old : n_batch - 1; /* something new is always in it */
	*done = 0;
	rv_status st = RV_ALLOC(&b.tokens, b.n * (text->n_ctx + 1), "batch");
	if (st == RV_OK)
		st = RV_ALLOC(&b.weights, b.n * text->n_ctx, "batch");
	while (st == RV_OK && *done < steps && !is_over(d)) {
		st = fill(&b, d, text, *done);
		if (st == RV_OK)
			st = rv_trainer_step(t, b.tokens, b.weights, b.n, NULL);
		*done += st == RV_OK;
	}
	rv_free(b.tokens);
	rv_free(b.weights);
	return st;
}

static rv_status judge_old(rv_trainer *t, const rv_deep *d, int64_t n_ctx, double *loss) {
	int32_t *tokens = NULL;
	float *weights = NULL;
	rv_status st = RV_ALLOC(&tokens, OLD_SEQS * (n_ctx + 1), "old text");
	if (st == RV_OK)
		st = RV_ALLOC(&weights, OLD_SEQS * n_ctx, "old text");
	if (st == RV_OK)
		st = draw_old(d, n_ctx, INT32_MAX, OLD_SEQS, tokens, weights); /* no step's */
	if (st == RV_OK)
		st = rv_trainer_evaluate(t, tokens, weights, OLD_SEQS, loss, NULL);
	rv_free(tokens);
	rv_free(weights);
	return st;
}

rv_status rv_deep_judge(rv_trainer *t, const rv_deep *d, const rv_deep_text *text, rv_deep_loss *out) {
	const rv_replay *from[2];
	*out = (rv_deep_loss){NAN, NAN};
	if (text->n[1] > 0)
		RV_TRY(rv_trainer_evaluate(t, text->tokens[1], text->weights[1], text->n[1], &out->held,
		                           NULL));
	return sources(d, text->n_ctx, from) > 0 ? judge_old(t, d, text->n_ctx, &out->old) : RV_OK;
}

/* ---- the part ---- */

/* "3,4" and "q,v": where a base that begins from nothing sits. */
static void place(const rv_micro_lora_options *micro, char layers[512], char targets[64]) {
	static const struct {
		rv_role role;
		const char *word;
	} words[] = {{RV_ATTN_Q, "q"},      {RV_ATTN_K, "k"},  {RV_ATTN_V, "v"},     {RV_ATTN_OUT, "o"},
	             {RV_FFN_GATE, "gate"}, {RV_FFN_UP, "up"}, {RV_FFN_DOWN, "down"}};
	size_t n = 0;
	layers[0] = targets[0] = 0;
	for (int i = 0; i < micro->n_layers; i++)
		n += (size_t)snprintf(layers + n, 512 - n, "%s%lld", i ? "," : "",
		                      (long long)micro->layers[i]);
	n = 0;
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (rv_site_roles(micro->site) & RV_ROLE_BIT(words[i].role))
			n += (size_t)snprintf(targets + n, 64 - n, "%s%s", n ? "," : "", words[i].word);
}

typedef struct tuning {
	rv_deep *d;
	rv_deep_text text;
	rv_trainer *trainer;
	rv_deep_loss before, after;
	int64_t done;
	rv_ewc *own;        /* memory of this pass alone; NULL: none */
	const char *memory; /* what EWC++ did, for the report */
} tuning;

/* Where there is no memory yet, or one of a base of another shape: one of the old text as it is now,
 * for this pass. */
static rv_status observe_old(tuning *u) {
	const int64_t n_ctx = u->text.n_ctx;
	int32_t *tokens = NULL;
	float *weights = NULL;
	rv_status st = RV_ALLOC(&tokens, OBSERVED_SEQS * (n_ctx + 1), "old text");
	if (st == RV_OK)
		st = RV_ALLOC(&weights, OBSERVED_SEQS * n_ctx, "old text");
	if (st == RV_OK)
		st = draw_old(u->d, n_ctx, INT32_MAX - 1, OBSERVED_SEQS, tokens, weights);
	if (st == RV_OK)
		st = rv_ewc_create(&u->own, u->trainer, 0);
	if (st == RV_OK)
		st = rv_ewc_observe(u->own, u->trainer, tokens, weights, OBSERVED_SEQS);
	rv_free(tokens);
	rv_free(weights);
	return st == RV_OK ? rv_trainer_set_ewc(u->trainer, u->own, u->d->options->tuning.lambda) : st;
}

static rv_status hold(tuning *u) {
	const double lambda = u->d->options->tuning.lambda;
	const rv_replay *from[2];
	u->memory = "without EWC++";
	if (lambda == 0)
		return RV_OK;
	if (u->d->ewc != NULL) {
		rv_status st = rv_trainer_set_ewc(u->trainer, u->d->ewc, lambda);
		u->memory = "with EWC++";
		if (st != RV_ERR_MISMATCH)
			return st;
		u->memory = "without EWC++ (its memory is of other tensors)";
	}
	if (sources(u->d, u->text.n_ctx, from) == 0)
		return RV_OK;
	u->memory = "with EWC++ of old text";
	return observe_old(u);
}

static rv_status make_trainer(tuning *u) {
	const rv_sona_tuning *o = &u->d->options->tuning;
	char layers[512], targets[64];
	rv_trainer_options how = rv_deep_trainer_options(u->d, &u->text, o->rate);
	place(u->d->micro, layers, targets);
	how.lora_rank = u->d->base_rank;
	how.lora_alpha = (double)u->d->base_rank;
	how.lora_layers = layers;
	how.lora_targets = targets;
	RV_TRY(rv_trainer_create_lora(&u->trainer, u->d->model, u->d->base, &how));
	rv_trainer_set_cancel(u->trainer, u->d->stop, u->d->user);
	return hold(u);
}

static rv_status train(tuning *u) {
	const rv_sona_tuning *o = &u->d->options->tuning;
	RV_TRY(make_trainer(u));
	RV_TRY(rv_deep_judge(u->trainer, u->d, &u->text, &u->before));
	rv_status st =
	        rv_deep_train(u->trainer, u->d, &u->text, o->steps, o->batch, o->replay, &u->done);
	if (st != RV_ERR_CANCELLED ||
	    u->done == 0) /* a step under way is not counted, those before are */
		RV_TRY(st);
	if (u->d->stop != NULL && u->d->stop(u->d->user) == RV_SONA_STOPPED)
		return rv_fail(RV_ERR_CANCELLED, "stopped");
	rv_trainer_set_cancel(u->trainer, NULL, NULL); /* out of time: what was done is judged */
	return rv_deep_judge(u->trainer, u->d, &u->text, &u->after);
}

static int is_better(const tuning *u) {
	const double gain = u->before.held - u->after.held;
	const double lost = isnan(u->before.old) ? 0 : u->after.old - u->before.old;
	return gain > MIN_GAIN * u->before.held && lost <= gain; /* false for NaN */
}

/* The new base, and what is to be kept of it from now on. */
static rv_status adopt(tuning *u) {
	rv_deep *d = u->d;
	rv_adapter *base;
	RV_TRY(rv_trainer_adapter(&base, u->trainer, d->model, "base"));
	if (d->ewc != NULL) {
		const int64_t n = u->text.n[0] < OBSERVED_SEQS ? u->text.n[0] : OBSERVED_SEQS;
		rv_trainer_set_cancel(u->trainer, NULL, NULL);
		rv_status st =
		        rv_ewc_observe(d->ewc, u->trainer, u->text.tokens[0], u->text.weights[0], n);
		if (st == RV_OK)
			st = rv_ewc_set_anchor(d->ewc, u->trainer);
		if (st != RV_OK && st != RV_ERR_MISMATCH) {
			rv_adapter_release(base);
			return st;
		}
	}
	rv_adapter_release(d->base);
	d->base = base;
	return RV_OK;
}

static rv_status tell(const tuning *u, rv_sona_part_report *report, rv_sona_part_outcome outcome,
                      const char *what) {
	char old[64] = "no old text";
	if (!isnan(u->before.old))
		snprintf(old, sizeof old, "old text %.4f to %.4f", u->before.old, u->after.old);
	return rv_sona_say(report, outcome,
	                   "%s: %lld steps on %lld trajectories, %s; held out %.4f to %.4f nats a "
	                   "token, %s",
	                   what, (long long)u->done, (long long)u->text.n_items[0], u->memory,
	                   u->before.held, u->after.held, old);
}

static rv_status finish(tuning *u, rv_status st, rv_sona_part_report *report) {
	if (st == RV_ERR_UNSUPPORTED)
		return rv_sona_say(report, RV_PART_NA, "%s", rv_error_message());
	if (st == RV_ERR_CANCELLED || (st == RV_OK && u->done == 0))
		return rv_sona_say(report, RV_PART_PUT_OFF, "stopped: the base is as before");
	if (st == RV_ERR_NUMERIC)
		return rv_sona_say(report, RV_PART_UNDONE, "%s", rv_error_message());
	RV_TRY(st);
	report->n = u->done;
	report->before = u->before.held;
	report->after = u->after.held;
	if (!is_better(u))
		return tell(u, report, RV_PART_UNDONE, "no better, undone");
	RV_TRY(adopt(u));
	return tell(u, report, RV_PART_DONE, "better");
}

rv_status rv_deep_tune_on(rv_deep *d, rv_deep_text *text, rv_sona_part_report *report) {
	tuning u = {.d = d, .text = *text};
	if (d->options->tuning.steps == 0 || d->options->tuning.rate == 0)
		return rv_sona_say(report, RV_PART_NOTHING, "no steps, or none that changes anything");
	if (text->n[0] == 0 || text->n[1] == 0)
		return rv_sona_say(report, RV_PART_NOTHING,
		                   "%lld good trajectories to learn from, %lld held out: too few",
		                   (long long)text->n_items[0], (long long)text->n_items[1]);
	rv_status st = finish(&u, train(&u), report);
	rv_trainer_destroy(u.trainer);
	rv_ewc_destroy(u.own);
	return st;
}

int rv_deep_too_large(const rv_deep *d, rv_sona_part_report *report) {
	const int64_t most = d->options->tuning.max_params, n = rv_model_n_params(d->model);
	if (most <= 0 || n <= most)
		return 0;
	rv_sona_say(report, RV_PART_NA, "%lld parameters are more than the %lld trained here",
	            (long long)n, (long long)most);
	return 1;
}

rv_status rv_deep_tune(rv_deep *d, rv_sona_part_report *report) {
	rv_deep_text text;
	if (d->bank == NULL)
		return rv_sona_say(report, RV_PART_NA, "no store, no patterns");
	if (rv_deep_too_large(d, report))
		return RV_OK;
	RV_TRY(rv_deep_text_read(&text, d, d->options->tuning.n_ctx));
	rv_status st = rv_deep_tune_on(d, &text, report);
	rv_deep_text_deinit(&text);
	return st;
}
