/* Fine-tuning and distillation in the deep loop: what comes out better for what was held out is kept,
 * what does not is undone, and the report's numbers are those that are measured again here. */
#include "base/file.h"
#include "engine/generate.h"
#include "learn/train_teacher.h"
#include "tests/learn/deep_kit.h"

#include <math.h>

#define OLD_PROMPT "Once upon a time there was a little"

static void open_tuned(deep_kit *k, const char *model, float quality) {
	deep_open(k, model);
	assert_ok(deep_add(k->bank, 0, 40, quality));
	k->options.deep.tuning.steps = 24;
	k->options.deep.tuning.rate = 3e-3;
	k->options.micro.layers[0] = 0;
	k->options.micro.layers[1] = 1;
	k->options.micro.n_layers = 2;
	k->options.micro.site = RV_SITE_PROJ_QKVO;
}

/* ---- texts ---- */

static void texts_hold_task_answer_and_end(void **state) {
	(void)state;
	deep_kit k;
	rv_deep_text t;
	open_tuned(&k, "pico", 0.9f);
	assert_ok(rv_deep_text_read(&t, &k.deep, 64));
	const rv_tokenizer *tok = rv_model_tokenizer(k.deep.model);
	assert_int_equal(t.n_items[0] + t.n_items[1], 40);
	assert_true(t.n_items[1] >= 3 && t.n_items[1] <= 16);
	assert_int_equal(t.n_prompts, t.n_items[1] < 16 ? t.n_items[1] : 16);
	/* the weighted tokens of the first sequence are whole answers with their ends */
	char *text;
	size_t len;
	int64_t n_answers = 0;
	for (int64_t i = 0; i < 64; i++) {
		const float w = t.weights[0][i];
		assert_true(w == 0 || fabsf(w - 0.9f) < 1e-6f);
		if (w > 0 && (i == 0 || t.weights[0][i - 1] == 0)) {
			int64_t end = i;
			while (end < 64 && t.weights[0][end] > 0)
				end++;
			assert_ok(rv_tokenizer_decode(tok, t.tokens[0] + i + 1, (size_t)(end - i), 1, 0,
			                              &text, &len));
			assert_non_null(strstr(text, " guild of "));
			assert_null(strstr(text, "Request"));
			assert_int_equal(t.tokens[0][end], t.end);
			rv_free(text);
			n_answers++;
		}
	}
	assert_true(n_answers >= 1);
	/* the prompts are the tasks */
	assert_ok(rv_tokenizer_decode(tok, t.prompts, (size_t)t.prompt_at[1], 0, 0, &text, &len));
	assert_true(strncmp(text, "Request: ", 9) == 0 && strstr(text, "Agent:") != NULL);
	rv_free(text);
	/* the same ids are held out by another seed; a threshold above all leaves nothing */
	rv_deep_text again;
	k.deep.seed = 99;
	assert_ok(rv_deep_text_read(&again, &k.deep, 64));
	assert_int_equal(again.n_items[1], t.n_items[1]);
	rv_deep_text_deinit(&again);
	k.deep.min_quality = 0.95f;
	assert_ok(rv_deep_text_read(&again, &k.deep, 64));
	assert_int_equal(again.n_items[0] + again.n_items[1], 0);
	rv_deep_text_deinit(&again);
	rv_deep_text_deinit(&t);
	deep_close(&k);
}

/* ---- tuning ---- */

/* The loss of what is held out under an adapter, by a trainer of its own. */
static rv_deep_loss judged(deep_kit *k, const rv_adapter *adapter) {
	rv_trainer *t;
	rv_deep_text text;
	rv_deep_loss loss;
	assert_ok(rv_deep_text_read(&text, &k->deep, k->options.deep.tuning.n_ctx));
	rv_trainer_options o = rv_deep_trainer_options(&k->deep, &text, 1e-3);
	o.lora_rank = adapter == NULL ? 8 : 0;
	assert_ok(rv_trainer_create_lora(&t, k->deep.model, adapter, &o));
	assert_ok(rv_deep_judge(t, &k->deep, &text, &loss));
	rv_trainer_destroy(t);
	rv_deep_text_deinit(&text);
	return loss;
}

static void tuning_keeps_what_is_better(void **state) {
	(void)state;
	deep_kit k;
	open_tuned(&k, "pico", 0.9f);
	rv_sona_part_report r = deep_part(&k, RV_DEEP_TUNE);
	assert_int_equal(r.outcome, RV_PART_DONE);
	assert_int_equal(r.n, 24);
	assert_true(r.after < r.before - 0.1);
	assert_non_null(k.deep.base);
	assert_true(fabs(judged(&k, NULL).held - r.before) < 1e-4);
	assert_true(fabs(judged(&k, k.deep.base).held - r.after) < 1e-4);
	assert_non_null(rv_adapter_find(k.deep.base, RV_ATTN_Q, 1));
	assert_null(rv_adapter_find(k.deep.base, RV_FFN_UP, 1));
	/* it goes on from there */
	rv_sona_part_report next = deep_part(&k, RV_DEEP_TUNE);
	assert_true(fabs(next.before - r.after) < 1e-4);
	deep_close(&k);
}

static void tuning_undoes_what_is_worse(void **state) {
	(void)state;
	deep_kit k;
	open_tuned(&k, "pico", 0.9f);
	k.options.deep.tuning.rate = 10; /* far too much */
	rv_sona_part_report r = deep_part(&k, RV_DEEP_TUNE);
	assert_int_equal(r.outcome, RV_PART_UNDONE);
	assert_null(k.deep.base);
	k.options.deep.tuning.rate = 1e-12; /* no change is not better */
	r = deep_part(&k, RV_DEEP_TUNE);
	assert_int_equal(r.outcome, RV_PART_UNDONE);
	k.options.deep.tuning.rate = 0;
	r = deep_part(&k, RV_DEEP_TUNE);
	assert_int_equal(r.outcome, RV_PART_NOTHING);
	assert_null(k.deep.base);
	k.options.deep.tuning.max_params = 1000;
	r = deep_part(&k, RV_DEEP_TUNE);
	assert_int_equal(r.outcome, RV_PART_NA);
	deep_close(&k);
}

typedef struct countdown {
	int left;
} countdown;

static int count_down(void *user) {
	countdown *c = user;
	return --c->left < 0;
}

static void tuning_stops_in_time(void **state) {
	(void)state;
	deep_kit k;
	countdown c = {.left = 3};
	open_tuned(&k, "pico", 0.9f);
	k.options.deep.tuning.steps = 100000;
	k.deep.stop = count_down;
	k.deep.user = &c;
	rv_sona_part_report r = deep_part(&k, RV_DEEP_TUNE);
	assert_true(r.outcome == RV_PART_PUT_OFF || r.outcome == RV_PART_DONE ||
	            r.outcome == RV_PART_UNDONE);
	assert_true(r.n < 10);
	deep_close(&k);
}

/* What the model says by itself is text it knows. */
static void say(rv_model *model, int i, char answer[256]) {
	rv_context *ctx;
	rv_sampler *sampler;
	rv_context_options o = rv_context_defaults();
	rv_sampler_options how = rv_sampler_defaults();
	rv_generate_options g = rv_generate_defaults();
	rv_generate_result result;
	int32_t *ids, out[24];
	size_t n, len;
	char *text;
	o.n_threads = 1;
	how.temperature = 0.8;
	how.seed = (uint64_t)i;
	g.n_predict = 24;
	g.ignore_end = 1;
	assert_ok(rv_context_create(&ctx, model, &o));
	assert_ok(rv_sampler_create(&sampler, &how, rv_model_hparams(model)->n_vocab));
	assert_ok(rv_tokenizer_encode(rv_model_tokenizer(model), OLD_PROMPT, strlen(OLD_PROMPT), NULL,
	                              &ids, &n));
	assert_ok(rv_generate(ctx, 0, ids, (int64_t)n, sampler, &g, out, &result));
	assert_ok(rv_tokenizer_decode(rv_model_tokenizer(model), out, 24, 0, 0, &text, &len));
	snprintf(answer, 256, "%s", text);
	rv_free(text);
	rv_free(ids);
	rv_sampler_destroy(sampler);
	rv_context_destroy(ctx);
}

/* Old text, remembered by Fisher diagonal and replay. */
static void old_text(deep_kit *k, rv_replay **replay, rv_ewc **ewc) {
	deep_kit other;
	rv_deep_text text;
	rv_trainer *t;
	deep_open(&other, "pico");
	for (int i = 0; i < 30; i++) {
		deep_item x;
		char answer[256];
		deep_fill(&x, i, 0.9f);
		say(other.deep.model, i, answer);
		x.item.t.task = OLD_PROMPT;
		x.item.actions[0].action = answer;
		assert_ok(rv_bank_add(other.bank, &x.item.t, 1, NULL));
	}
	assert_ok(rv_deep_text_read(&text, &other.deep, 64));
	assert_ok(rv_replay_create(replay, 64, 32, 3));
	assert_ok(rv_replay_offer(*replay, text.tokens[0], text.weights[0], text.n[0]));
	rv_trainer_options o = rv_deep_trainer_options(&k->deep, &text, 1e-3);
	assert_ok(rv_trainer_create_from(&t, k->deep.model, NULL, &o));
	assert_ok(rv_ewc_create(ewc, t, 0.9));
	assert_ok(rv_ewc_observe(*ewc, t, text.tokens[0], text.weights[0], text.n[0]));
	rv_trainer_destroy(t);
	rv_deep_text_deinit(&text);
	deep_close(&other);
}

/* It is forgotten less with EWC++, and with replay, than with neither. */
static void old_text_is_kept(void **state) {
	(void)state;
	deep_kit k;
	rv_replay *replay;
	rv_ewc *ewc;
	double old[4];
	open_tuned(&k, "pico", 0.9f);
	old_text(&k, &replay, &ewc);
	k.deep.old = replay;
	k.options.deep.tuning.rate = 6e-3;
	const double before = judged(&k, NULL).old;
	enum { NEITHER, EWC, REPLAY, OWN, ARMS }; /* own: EWC++ of the old text at hand */
	static const char *const says[] = {"without EWC++", "with EWC++;", "without EWC++",
	                                   "with EWC++ of old text"};
	for (int arm = 0; arm < ARMS; arm++) {
		k.options.deep.tuning.lambda = arm == EWC || arm == OWN ? 100 : 0;
		k.options.deep.tuning.replay = arm == REPLAY ? 0.5 : 0;
		k.deep.ewc = arm == EWC ? ewc : NULL;
		rv_sona_part_report r = deep_part(&k, RV_DEEP_TUNE);
		assert_true(r.outcome == RV_PART_DONE || r.outcome == RV_PART_UNDONE);
		assert_non_null(strstr(r.text, says[arm]));
		const char *at = strstr(r.text, "old text ");
		assert_non_null(at);
		double then = 0;
		assert_int_equal(sscanf(at, "old text %lf to %lf", &then, &old[arm]), 2);
		assert_true(fabs(then - before) < 1e-3);
		rv_adapter_release(k.deep.base);
		k.deep.base = NULL;
		/* each arm begins with the same memory */
		rv_ewc_destroy(ewc);
		rv_replay_destroy(replay);
		old_text(&k, &replay, &ewc);
		k.deep.old = replay;
	}
	printf("# old text: %.4f; after tuning %.4f, with EWC++ %.4f, with replay %.4f, with EWC++ "
	       "of its own %.4f\n",
	       before, old[0], old[1], old[2], old[3]);
	assert_true(old[0] > before + 0.05);
	assert_true(old[1] < old[0]);
	assert_true(old[2] < old[0]);
	assert_true(old[3] < old[0]);
	rv_ewc_destroy(ewc);
	rv_replay_destroy(replay);
	deep_close(&k);
}

/* ---- the teacher ---- */

/* A student that begins as teacher + adapter has nothing to learn from it: KL 0. */
static void an_adapted_teacher_is_what_it_says(void **state) {
	(void)state;
	deep_kit k;
	rv_deep_text text;
	rv_trainer *t;
	rv_train_record with, without;
	open_tuned(&k, "pico", 0.9f);
	deep_part(&k, RV_DEEP_TUNE);
	assert_non_null(k.deep.base);
	assert_ok(rv_deep_text_read(&text, &k.deep, 64));
	rv_trainer_options o = rv_deep_trainer_options(&k.deep, &text, 1e-9);
	for (int adapted = 0; adapted < 2; adapted++) {
		/* no way is there to a teacher of a LoRA trainer: the student is what decodes with the
		 * adapter, folded in by training options that change nothing */
		assert_ok(rv_trainer_create_from(&t, k.deep.model, k.deep.model, &o));
		if (adapted)
			assert_ok(rv_trainer_adapt_teacher(t, k.deep.base, 1));
		assert_ok(rv_trainer_accumulate(t, text.tokens[0], text.weights[0], text.n[0]));
		assert_ok(rv_trainer_update(t, adapted ? &with : &without));
		rv_trainer_destroy(t);
	}
	assert_true(fabs(without.kl) < 1e-6);
	assert_true(with.kl > 1e-3);
	/* there and back again */
	assert_ok(rv_trainer_create_from(&t, k.deep.model, k.deep.model, &o));
	assert_ok(rv_trainer_adapt_teacher(t, k.deep.base, 1));
	assert_ok(rv_trainer_adapt_teacher(t, k.deep.base, -1));
	assert_ok(rv_trainer_accumulate(t, text.tokens[0], text.weights[0], text.n[0]));
	assert_ok(rv_trainer_update(t, &with));
	assert_true(fabs(with.kl) < 1e-6);
	rv_trainer_destroy(t);
	/* no teacher */
	assert_ok(rv_trainer_create_from(&t, k.deep.model, NULL, &o));
	assert_int_equal(rv_trainer_adapt_teacher(t, k.deep.base, 1), RV_ERR_INVALID);
	rv_trainer_destroy(t);
	rv_deep_text_deinit(&text);
	deep_close(&k);
}

/* ---- distillation ---- */

static void the_draft_learns_what_the_target_learnt(void **state) {
	(void)state;
	deep_kit k;
	rv_deep_text text;
	rv_model *draft;
	double before, after;
	open_tuned(&k, "nano", 0.9f);
	k.options.deep.draft = shipped("pico");
	k.options.deep.tuning.rate = 5e-3;
	k.options.micro.layers[0] = 4;
	k.options.micro.layers[1] = 6;
	rv_sona_part_report r = deep_part(&k, RV_DEEP_TUNE);
	assert_int_equal(r.outcome, RV_PART_DONE);
	k.options.deep.distill_rate = 1e-3;
	k.options.deep.distill_steps = 60;
	r = deep_part(&k, RV_DEEP_DISTILL);
	assert_int_equal(r.outcome, RV_PART_DONE);
	assert_true(r.after > r.before);
	assert_true(k.deep.draft_written);
	/* measured again, from the file */
	assert_ok(rv_deep_text_read(&text, &k.deep, 64));
	assert_ok(rv_model_open(&draft, k.draft_path, NULL));
	assert_ok(rv_deep_acceptance(&k.deep, k.options.deep.draft, k.deep.base, &text, 24, &before));
	assert_ok(rv_deep_acceptance(&k.deep, draft, k.deep.base, &text, 24, &after));
	assert_true(before == r.before);
	assert_true(after == r.after);
	rv_model_release(draft);
	rv_deep_text_deinit(&text);
	/* control: steps that change nothing make no better draft, and none is kept */
	k.options.deep.distill_rate = 1e-12;
	k.options.deep.distill_steps = 1;
	r = deep_part(&k, RV_DEEP_DISTILL);
	assert_int_equal(r.outcome, RV_PART_UNDONE);
	assert_false(k.deep.draft_written);
	assert_int_not_equal(access(k.draft_path, F_OK), 0);
	deep_close(&k);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(texts_hold_task_answer_and_end),
	        cmocka_unit_test(tuning_keeps_what_is_better),
	        cmocka_unit_test(tuning_undoes_what_is_worse),
	        cmocka_unit_test(tuning_stops_in_time),
	        cmocka_unit_test(old_text_is_kept),
	        cmocka_unit_test(an_adapted_teacher_is_what_it_says),
	        cmocka_unit_test(the_draft_learns_what_the_target_learnt),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
