/* The instant loop: learning lowers the loss of what it learnt; guards roll back; base and MicroLoRA
 * together; publishing while others decode. */
#include "base/mem.h"
#include "learn/instant.h"
#include "tests/learn/sona_kit.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

enum { N_VOCAB = 512, N = 8 };

/* Everything of one loop. */
typedef struct kit {
	rv_model *model;
	rv_context *ctx;
	rv_capture *capture;
	rv_instant *instant;
	rv_adapter_slot *slot;
	int32_t answer[N];
} kit;

static rv_micro_lora_options micro_of(rv_site site) {
	rv_micro_lora_options o = rv_micro_lora_defaults();
	o.layers[0] = kit_layers[0];
	o.layers[1] = kit_layers[1];
	o.n_layers = 2;
	o.site = site;
	o.lr = 0.05;
	o.seed = 1;
	return o;
}

static void setup_with(kit *k, rv_site site, const rv_micro_lora_options *micro,
                       const rv_instant_options *how) {
	rv_context_options o = rv_context_defaults();
	k->model = tiny_model("qwen2", "Q8_0");
	o.n_ctx = 256;
	o.n_threads = 2;
	assert_ok(rv_context_create(&k->ctx, k->model, &o));
	k->capture = kit_attach(k->ctx, site);
	assert_ok(rv_adapter_slot_create(&k->slot, k->model));
	assert_ok(rv_instant_create(&k->instant, k->model, micro, how, k->slot));
	assert_ok(rv_context_follow_slot(k->ctx, 0, k->slot, 1));
}

static void setup(kit *k, rv_site site) {
	const rv_micro_lora_options micro = micro_of(site);
	const rv_instant_options how = rv_instant_defaults();
	setup_with(k, site, &micro, &how);
}

static void teardown(kit *k) {
	rv_context_destroy(k->ctx);
	rv_instant_destroy(k->instant);
	rv_adapter_slot_destroy(k->slot);
	rv_model_release(k->model);
}

static rv_captured *request(kit *k, int seed) {
	return kit_capture(k->capture, k->ctx, seed, k->answer, N);
}

/* Logits of a fixed prompt under what is published now. */
static void logits_now(kit *k, float out[N_VOCAB]) {
	rv_row rows[KIT_PROMPT];
	assert_ok(rv_seq_truncate(k->ctx, 0, 0));
	for (int i = 0; i < KIT_PROMPT; i++)
		rows[i] = kit_row(3 + 5 * i, 0, i, i == KIT_PROMPT - 1);
	assert_ok(rv_context_eval(k->ctx, rows, KIT_PROMPT));
	memcpy(out, rv_context_logits(k->ctx, KIT_PROMPT - 1), N_VOCAB * sizeof *out);
}

static rv_instant_report learn(kit *k, const rv_captured *seen, double quality) {
	rv_instant_report r;
	assert_ok(rv_instant_learn(k->instant, seen, quality, RV_QUALITY_TASK, &r));
	return r;
}

/* ---- learning ---- */

/* A text given again and again: its loss at the hooked layers falls, at either reading. */
static void loss_falls(void **state) {
	(void)state;
	for (int reading = 0; reading < RV_LOCAL_READING_COUNT; reading++) {
		kit k;
		const rv_micro_lora_options micro = micro_of(RV_SITE_FFN_OUT);
		rv_instant_options how = rv_instant_defaults();
		how.reading = (rv_local_reading)reading;
		how.max_ratio = 10;
		setup_with(&k, RV_SITE_FFN_OUT, &micro, &how);
		double first = 0, last = 0;
		uint64_t version = 0;
		for (int i = 0; i < 30; i++) {
			rv_row rows[KIT_PROMPT + 3];
			static const int32_t right[] = {77, 123, 300, 9};
			assert_ok(rv_seq_truncate(k.ctx, 0, 0));
			assert_ok(rv_capture_begin(k.capture, 0, KIT_PROMPT - 1));
			for (int p = 0; p < KIT_PROMPT + 3; p++)
				rows[p] = kit_row(p < KIT_PROMPT ? 40 + p : right[p - KIT_PROMPT], 0, p,
				                  p >= KIT_PROMPT - 1);
			assert_ok(rv_context_eval(k.ctx, rows, KIT_PROMPT + 3));
			rv_captured *seen = rv_capture_end(k.capture, 0, right, 4);
			assert_int_equal(seen->n_tokens, 4);
			const rv_instant_report r = learn(&k, seen, 1);
			assert_int_equal(r.outcome, RV_INSTANT_LEARNT);
			assert_true(r.n_tokens == 4 && r.n_parts == 2 && r.n_skipped == 0);
			assert_true(r.version > version && r.ratio > 0 && r.gradient_norm > 0);
			version = r.version;
			first = i == 0 ? r.loss : first;
			last = r.loss;
			rv_captured_release(seen);
		}
		assert_true(last < first - 0.5);
		rv_instant_stats stats;
		rv_instant_get_stats(k.instant, &stats);
		assert_true(stats.n_requests == 30 && stats.n_outcome[RV_INSTANT_LEARNT] == 30);
		assert_true(stats.n_tokens == 120 && stats.norm > 0 && stats.max_ns > 0);
		rv_capture_detach(k.capture);
		teardown(&k);
	}
}

/* Threads share the work, or the gradients came with the capture: the result has the same bits. Twice
 * as many tokens as are wanted: every other. */
static void who_computes_does_not_matter(void **state) {
	(void)state;
	float logits[3][N_VOCAB];
	for (int way = 0; way < 3; way++) {
		kit k;
		const rv_micro_lora_options micro = micro_of(RV_SITE_ATTN_OUT);
		rv_instant_options how = rv_instant_defaults();
		setup_with(&k, RV_SITE_ATTN_OUT, &micro, &how);
		rv_instant_destroy(k.instant);
		how.threads = way == 1 ? rv_context_threads(k.ctx) : NULL;
		how.max_tokens = N / 2;
		assert_ok(rv_instant_create(&k.instant, k.model, &micro, &how, k.slot));
		if (way == 2) {
			rv_capture_detach(k.capture);
			k.capture = kit_attach_with(k.ctx, RV_SITE_ATTN_OUT, RV_CAPTURE_NOW);
		}
		for (int i = 0; i < 5; i++) {
			rv_captured *seen = request(&k, i);
			assert_int_equal(learn(&k, seen, 0.8).n_tokens, N / 2);
			rv_captured_release(seen);
		}
		logits_now(&k, logits[way]);
		rv_capture_detach(k.capture);
		teardown(&k);
	}
	assert_memory_equal(logits[0], logits[1], sizeof logits[0]);
	assert_memory_equal(logits[0], logits[2], sizeof logits[0]);
}

static void when_nothing_is_learnt(void **state) {
	(void)state;
	kit k;
	float before[N_VOCAB], after[N_VOCAB];
	setup(&k, RV_SITE_ATTN_OUT);
	logits_now(&k, before);
	rv_captured *seen = request(&k, 1);
	assert_int_equal(learn(&k, seen, 0.59).outcome, RV_INSTANT_BELOW);
	assert_int_equal(rv_instant_learn(k.instant, seen, 1.01, RV_QUALITY_TASK, NULL),
	                 RV_ERR_INVALID);
	assert_int_equal(rv_instant_learn(k.instant, seen, (double)NAN, RV_QUALITY_TASK, NULL),
	                 RV_ERR_INVALID);
	seen->n_tokens = 0;
	assert_int_equal(learn(&k, seen, 1).outcome, RV_INSTANT_NOTHING);
	seen->n_tokens = N;
	assert_ok(rv_instant_set_lr(k.instant, 0));
	assert_int_equal(learn(&k, seen, 1).outcome, RV_INSTANT_OFF);
	assert_int_equal(rv_instant_set_lr(k.instant, (double)NAN), RV_ERR_INVALID);
	assert_ok(rv_instant_set_lr(k.instant, 0.05));
	logits_now(&k, after);
	assert_memory_equal(before, after, sizeof before);
	assert_int_equal(rv_adapter_slot_version(k.slot), 0);
	/* Control: with quality enough they change. */
	assert_int_equal(learn(&k, seen, 0.6).outcome, RV_INSTANT_LEARNT);
	logits_now(&k, after);
	assert_memory_not_equal(before, after, sizeof before);
	rv_captured_release(seen);
	rv_capture_detach(k.capture);
	teardown(&k);
}

static void sites_without_a_local_gradient(void **state) {
	(void)state;
	kit k;
	setup(&k, RV_SITE_PROJ_QV);
	rv_captured *seen = request(&k, 1);
	rv_instant_report r = learn(&k, seen, 1);
	assert_int_equal(r.outcome, RV_INSTANT_NO_GRADIENT);
	assert_int_equal(r.n_skipped, 4);
	assert_true(strstr(rv_instant_outcome_text(r.outcome), "n/a") != NULL);
	rv_captured_release(seen);
	rv_capture_detach(k.capture);
	teardown(&k);
	setup(&k, RV_SITE_PROJ_ALL); /* o and down learn, the others say so */
	seen = request(&k, 1);
	r = learn(&k, seen, 1);
	assert_int_equal(r.outcome, RV_INSTANT_LEARNT);
	assert_true(r.n_parts == 4 && r.n_skipped == 10);
	rv_captured_release(seen);
	rv_capture_detach(k.capture);
	teardown(&k);
	/* Captured elsewhere. */
	setup(&k, RV_SITE_ATTN_OUT);
	rv_capture_detach(k.capture);
	k.capture = kit_attach(k.ctx, RV_SITE_FFN_OUT);
	seen = request(&k, 1);
	assert_int_equal(rv_instant_learn(k.instant, seen, 1, RV_QUALITY_TASK, NULL), RV_ERR_MISMATCH);
	rv_captured_release(seen);
	rv_capture_detach(k.capture);
	teardown(&k);
}

/* ---- guards ---- */

static void guards_roll_back(void **state) {
	(void)state;
	kit k;
	float before[N_VOCAB], after[N_VOCAB];
	rv_adapter *was, *is;
	char sum[2][65];
	setup(&k, RV_SITE_ATTN_OUT);
	rv_captured *seen = request(&k, 1);
	assert_int_equal(learn(&k, seen, 1).outcome, RV_INSTANT_LEARNT);
	logits_now(&k, before);
	assert_ok(rv_instant_snapshot(k.instant, NULL, &was));
	const uint64_t version = rv_adapter_slot_version(k.slot);
	for (int fault = 0; fault < 5; fault++) {
		float *at = fault == 0   ? &seen->states[0][3]
		            : fault == 1 ? &seen->states[1][N * 256 - 1]
		            : fault == 2 ? &seen->inputs[1][0]
		                         : &seen->inputs[0][7];
		const float old = *at;
		rv_instant_outcome expected = RV_INSTANT_NOT_FINITE;
		*at = fault == 1 ? INFINITY : NAN;
		if (fault >= 3) { /* a rate that explodes: at once, or beyond all numbers */
			*at = old;
			assert_ok(rv_instant_set_lr(k.instant, fault == 3 ? 1e3 : 1e6));
			expected = RV_INSTANT_EXPLODED;
		}
		const rv_instant_report r = learn(&k, seen, 1);
		assert_true(r.outcome == expected ||
		            (fault == 4 && r.outcome == RV_INSTANT_NOT_FINITE));
		assert_true(r.version == 0 && r.n_parts == 0);
		assert_true(strstr(rv_instant_outcome_text(r.outcome), "rolled back") != NULL);
		*at = old;
		assert_ok(rv_instant_set_lr(k.instant, 0.05));
	}
	assert_int_equal(rv_adapter_slot_version(k.slot), version);
	assert_ok(rv_instant_snapshot(k.instant, NULL, &is));
	rv_adapter_sha256(was, sum[0]);
	rv_adapter_sha256(is, sum[1]);
	assert_string_equal(sum[0], sum[1]);
	logits_now(&k, after);
	assert_memory_equal(before, after, sizeof before);
	rv_adapter_release(is);
	/* And it goes on as if nothing had been. */
	assert_int_equal(learn(&k, seen, 1).outcome, RV_INSTANT_LEARNT);
	assert_ok(rv_instant_snapshot(k.instant, NULL, &is));
	rv_adapter_sha256(is, sum[1]);
	assert_string_not_equal(sum[0], sum[1]);
	rv_adapter_release(is);
	rv_adapter_release(was);
	rv_captured_release(seen);
	rv_capture_detach(k.capture);
	teardown(&k);
}

/* ---- base and MicroLoRA ---- */

static double largest_difference(const float *x, const float *y) {
	double most = 0;
	for (int i = 0; i < N_VOCAB; i++)
		most = fmax(most, fabs((double)x[i] - (double)y[i]));
	return most;
}

static void folding_changes_nothing(void **state) {
	(void)state;
	kit k;
	float plain[N_VOCAB], before[N_VOCAB], after[N_VOCAB];
	rv_adapter *base, *micro;
	setup(&k, RV_SITE_ATTN_OUT);
	logits_now(&k, plain);
	assert_ok(rv_instant_fold(k.instant, 5, &base)); /* of nothing */
	assert_null(base);
	rv_captured *seen = request(&k, 1);
	for (int i = 0; i < 5; i++)
		learn(&k, seen, 1);
	logits_now(&k, before);
	assert_true(largest_difference(plain, before) > 1e-3);
	assert_ok(rv_instant_fold(k.instant, 5, &base));
	assert_int_equal(rv_adapter_max_rank(base), 2);
	logits_now(&k, after);
	assert_memory_equal(before, after, sizeof before);
	rv_instant_stats stats;
	rv_instant_get_stats(k.instant, &stats);
	assert_false(stats.norm > 0);
	/* Learning goes on on top of it, and folds again. */
	learn(&k, seen, 1);
	logits_now(&k, before);
	assert_true(largest_difference(before, after) > 1e-5);
	rv_adapter_release(base);
	assert_ok(rv_instant_fold(k.instant, 6, &base));
	assert_int_equal(rv_adapter_max_rank(base), 4);
	/* Without the base and back. */
	assert_ok(rv_instant_set_base(k.instant, NULL));
	logits_now(&k, after);
	assert_memory_equal(after, plain, sizeof plain);
	assert_ok(rv_instant_restore(k.instant, base, NULL, 6));
	logits_now(&k, after);
	assert_memory_equal(after, before, sizeof before);
	rv_adapter_release(base);
	learn(&k, seen, 1);
	logits_now(&k, before);
	assert_ok(rv_instant_snapshot(k.instant, &base, &micro));
	assert_ok(rv_instant_restore(k.instant, NULL, NULL, 1));
	logits_now(&k, after);
	assert_memory_equal(after, plain, sizeof plain);
	assert_ok(rv_instant_restore(k.instant, base, micro, 1));
	logits_now(&k, after);
	assert_memory_equal(after, before, sizeof before);
	/* What does not fit is refused, and nothing changed. */
	assert_int_equal(rv_instant_restore(k.instant, NULL, base, 1), RV_ERR_MISMATCH);
	logits_now(&k, after);
	assert_memory_equal(after, before, sizeof before);
	rv_adapter_release(base);
	rv_adapter_release(micro);
	rv_captured_release(seen);
	rv_capture_detach(k.capture);
	teardown(&k);
}

/* ---- beside decoding ---- */

typedef struct beside {
	kit *k;
	rv_captured *seen;
	_Atomic int stop;
	_Atomic int64_t n_learnt;
} beside;

/* Learns, folds and puts bases back, as the loops do while requests are decoded. */
static void *keep_learning(void *arg) {
	beside *b = (beside *)arg;
	for (int i = 0; !atomic_load(&b->stop); i++) {
		rv_instant_report r;
		rv_adapter *base = NULL;
		if (rv_instant_learn(b->k->instant, b->seen, 1, RV_QUALITY_FEEDBACK, &r) == RV_OK &&
		    r.outcome == RV_INSTANT_LEARNT)
			atomic_fetch_add(&b->n_learnt, 1);
		if (i % 5 == 4 && rv_instant_fold(b->k->instant, (uint64_t)i, &base) == RV_OK) {
			rv_instant_set_base(b->k->instant, NULL);
			rv_adapter_release(base);
		}
	}
	return NULL;
}

static void publishing_while_decoding(void **state) {
	(void)state;
	kit k;
	pthread_t thread;
	const rv_micro_lora_options micro = micro_of(RV_SITE_ATTN_OUT);
	rv_instant_options how = rv_instant_defaults();
	how.max_ratio = 1e9;
	setup_with(&k, RV_SITE_ATTN_OUT, &micro, &how);
	beside b = {.k = &k, .seen = request(&k, 1)};
	assert_int_equal(pthread_create(&thread, NULL, keep_learning, &b), 0);
	for (int i = 0; i < 40 || atomic_load(&b.n_learnt) < 20; i++) {
		rv_captured *seen = request(&k, i);
		assert_int_equal(seen->n_tokens, N);
		for (int64_t j = 0; j < seen->n_tokens * seen->n_embd; j++)
			assert_true(isfinite(seen->states[1][j]));
		if (i % 2)
			assert_ok(rv_instant_learn(k.instant, seen, 1, RV_QUALITY_TASK, NULL));
		rv_captured_release(seen);
	}
	atomic_store(&b.stop, 1);
	pthread_join(thread, NULL);
	assert_true(rv_adapter_slot_version(k.slot) >= 20);
	rv_captured_release(b.seen);
	rv_capture_detach(k.capture);
	teardown(&k);
}

static void bounds(void **state) {
	(void)state;
	rv_model *model = tiny_model("qwen2", "Q8_0");
	const rv_micro_lora_options micro = micro_of(RV_SITE_ATTN_OUT);
	rv_instant *l;
	for (int i = 0; i < 6; i++) {
		rv_instant_options o = rv_instant_defaults();
		o.threshold = i == 0 ? 1.5 : i == 1 ? (double)NAN : o.threshold;
		o.max_ratio = i == 2 ? 0 : o.max_ratio;
		o.max_tokens = i == 3 ? 0 : i == 4 ? 129 : o.max_tokens;
		o.n_top = i == 5 ? 300 : o.n_top;
		assert_int_equal(rv_instant_create(&l, model, &micro, &o, NULL), RV_ERR_INVALID);
		assert_null(l);
	}
	rv_model_release(model);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(loss_falls),
	        cmocka_unit_test(who_computes_does_not_matter),
	        cmocka_unit_test(when_nothing_is_learnt),
	        cmocka_unit_test(sites_without_a_local_gradient),
	        cmocka_unit_test(guards_roll_back),
	        cmocka_unit_test(folding_changes_nothing),
	        cmocka_unit_test(publishing_while_decoding),
	        cmocka_unit_test(bounds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
