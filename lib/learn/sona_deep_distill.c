/* Distillation of the draft: after the target has learnt, its draft learns from it again, so that as
 * much of what it proposes is accepted as before, or more.
 *
 * All weights of the draft are trained, on the bank's good answers and text to be remembered, with the
 * target and its BaseLoRA as the teacher. It is judged as a file, by greedy generation after prompts
 * that it has not seen; it replaces the draft only when more of its tokens are accepted. */
#include "base/mem.h"
#include "base/sysinfo.h"
#include "engine/generate.h"
#include "learn/sona_deep.h"
#include "learn/sona_internal.h"
#include "learn/train_teacher.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

enum { N_PREDICT = 24, DRAFT_K = 4 };

/* ---- how much is accepted ---- */

typedef struct pair {
	rv_context *target, *draft;
	rv_speculator *speculator;
	rv_sampler *sampler;
} pair;

static void close_pair(pair *p) {
	rv_speculator_destroy(p->speculator);
	rv_sampler_destroy(p->sampler);
	rv_context_destroy(p->draft);
	rv_context_destroy(p->target);
}

static rv_status open_pair(pair *p, const rv_deep *d, rv_model *draft, rv_adapter *adapter,
                           int64_t n_ctx) {
	rv_context_options o = rv_context_defaults();
	rv_spec_options spec = rv_spec_defaults();
	rv_sampler_options sampling = rv_sampler_defaults();
	const rv_adapter_use use = {adapter, 1};
	sampling.temperature = 0;
	spec.rule = RV_SPEC_GREEDY;
	spec.k = DRAFT_K;
	o.n_ctx = n_ctx;
	o.n_threads = d->n_threads > 0 ? d->n_threads : 1;
	o.pin = 0;
	o.log = d->log;
	RV_TRY(rv_context_create(&p->draft, draft, &o));
	o.threads = rv_context_threads(p->draft);
	o.adapters = &use;
	o.n_adapters = adapter != NULL;
	RV_TRY(rv_context_create(&p->target, d->model, &o));
	RV_TRY(rv_speculator_create(&p->speculator, p->target, p->draft, &spec));
	return rv_sampler_create(&p->sampler, &sampling, rv_model_hparams(d->model)->n_vocab);
}

static rv_status run_prompts(pair *p, const rv_deep *d, const rv_deep_text *text, int64_t n_predict,
                             double *share) {
	rv_generate_options how = rv_generate_defaults();
	rv_generate_result result;
	int64_t drafted = 0, accepted = 0;
	how.n_predict = n_predict;
	how.speculator = p->speculator;
	for (int64_t i = 0; i < text->n_prompts; i++) {
		int64_t at = text->prompt_at[i], n = text->prompt_at[i + 1] - at;
		const int64_t cut = n > text->n_ctx ? n - text->n_ctx : 0;
		if (d->stop != NULL && d->stop(d->user))
			return rv_fail(RV_ERR_CANCELLED, "stopped");
		RV_TRY(rv_seq_truncate(p->target, 0, 0));
		RV_TRY(rv_speculator_reset(p->speculator));
		rv_sampler_reset(p->sampler);
		RV_TRY(rv_generate(p->target, 0, text->prompts + at + cut, n - cut, p->sampler, &how,
		                   NULL, &result));
		drafted += rv_speculator_stats(p->speculator)->drafted;
		accepted += rv_speculator_stats(p->speculator)->accepted;
	}
	*share = drafted > 0 ? (double)accepted / (double)drafted : NAN;
	return RV_OK;
}

rv_status rv_deep_acceptance(const rv_deep *d, rv_model *draft, rv_adapter *adapter,
                             const rv_deep_text *text, int64_t n_predict, double *share) {
	pair p = {0};
	rv_status st = open_pair(&p, d, draft, adapter, text->n_ctx + n_predict + DRAFT_K + 1);
	if (st == RV_OK)
		st = run_prompts(&p, d, text, n_predict, share);
	close_pair(&p);
	return st;
}

/* ---- the part ---- */

typedef struct distilling {
	rv_deep *d;
	rv_deep_text text;
	rv_trainer *trainer;
	int64_t done;
	double before, after;           /* share accepted */
	rv_deep_loss loss, loss_before; /* of the draft */
} distilling;

static rv_status train(distilling *x) {
	rv_deep *d = x->d;
	const rv_sona_deep_options *o = d->options;
	rv_trainer_options how = rv_deep_trainer_options(d, &x->text, o->distill_rate);
	how.distill_weight = 1; /* to say what the target says, right or wrong */
	how.distill_temperature = 1;
	RV_TRY(rv_trainer_create_from(&x->trainer, o->draft, d->model, &how));
	if (d->base != NULL)
		RV_TRY(rv_trainer_adapt_teacher(x->trainer, d->base, 1));
	rv_trainer_set_cancel(x->trainer, d->stop, d->user);
	RV_TRY(rv_deep_judge(x->trainer, d, &x->text, &x->loss_before));
	RV_TRY(rv_deep_train(x->trainer, d, &x->text, o->distill_steps, o->tuning.batch,
	                     o->tuning.replay, &x->done));
	return rv_deep_judge(x->trainer, d, &x->text, &x->loss);
}

/* As a file, which is what is judged, and kept when it is better. */
static rv_status judge_file(distilling *x) {
	rv_deep *d = x->d;
	rv_model *draft = NULL;
	const rv_train_export how = {.tokenizer = rv_model_tokenizer(d->options->draft),
	                             .name = "draft"};
	RV_TRY(rv_trainer_export(x->trainer, d->draft_path, &how));
	rv_status st = rv_model_open(&draft, d->draft_path, NULL);
	if (st == RV_OK)
		st = rv_deep_acceptance(d, draft, d->base, &x->text, N_PREDICT, &x->after);
	rv_model_release(draft);
	d->draft_written = st == RV_OK && x->after > x->before;
	if (!d->draft_written)
		unlink(d->draft_path);
	return st;
}

static rv_status distill(distilling *x) {
	rv_deep *d = x->d;
	RV_TRY(rv_deep_acceptance(d, d->options->draft, d->base, &x->text, N_PREDICT, &x->before));
	RV_TRY(train(x));
	return x->done > 0 ? judge_file(x) : rv_fail(RV_ERR_CANCELLED, "stopped");
}

static rv_status finish(distilling *x, rv_status st, rv_sona_part_report *report) {
	if (st == RV_ERR_UNSUPPORTED)
		return rv_sona_say(report, RV_PART_NA, "%s", rv_error_message());
	if (st == RV_ERR_CANCELLED)
		return rv_sona_say(report, RV_PART_PUT_OFF, "stopped: the draft is as before");
	if (st == RV_ERR_NUMERIC)
		return rv_sona_say(report, RV_PART_UNDONE, "%s", rv_error_message());
	RV_TRY(st);
	report->n = x->done;
	report->before = x->before;
	report->after = x->after;
	return rv_sona_say(report, x->d->draft_written ? RV_PART_DONE : RV_PART_UNDONE,
	                   "%s: %lld steps; accepted drafts %.1f to %.1f %% after %lld unseen prompts, "
	                   "the draft's loss there %.4f to %.4f nats a token",
	                   x->d->draft_written ? "better" : "no better, undone", (long long)x->done,
	                   100 * x->before, 100 * x->after, (long long)x->text.n_prompts,
	                   x->loss_before.held, x->loss.held);
}

rv_status rv_deep_distill(rv_deep *d, rv_sona_part_report *report) {
	distilling x = {.d = d, .before = NAN, .after = NAN};
	const rv_sona_deep_options *o = d->options;
	d->draft_written = 0;
	if (d->bank == NULL || d->draft_path == NULL)
		return rv_sona_say(report, RV_PART_NA,
		                   "no store, no patterns and no place for a draft");
	if (o->draft == NULL)
		return rv_sona_say(report, RV_PART_NA, "no draft model");
	if (o->distill_steps == 0 || o->distill_rate == 0)
		return rv_sona_say(report, RV_PART_NOTHING, "no steps, or none that changes anything");
	if (o->tuning.max_params > 0 && rv_model_n_params(d->model) > o->tuning.max_params)
		return rv_sona_say(report, RV_PART_NA,
		                   "the teacher is larger than what is trained here");
	RV_TRY(rv_model_same_vocabulary(d->model, o->draft));
	RV_TRY(rv_deep_text_read(&x.text, d, o->tuning.n_ctx));
	if (x.text.n[0] == 0 || x.text.n_prompts == 0) {
		rv_sona_say(report, RV_PART_NOTHING,
		            "%lld good trajectories to learn from, %lld prompts held out: too few",
		            (long long)x.text.n_items[0], (long long)x.text.n_prompts);
		rv_deep_text_deinit(&x.text);
		return RV_OK;
	}
	rv_status st = finish(&x, distill(&x), report);
	rv_trainer_destroy(x.trainer);
	rv_deep_text_deinit(&x.text);
	return st;
}
