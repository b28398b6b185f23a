/* Requests: what is learnt from them, when, and what is refused. */
#include "tests/learn/sona_fixture.h"

static void a_rated_request_is_learnt_from(void **state) {
	(void)state;
	sona_fixture f;
	sona_asked a;
	float before[512], after[512];
	char hex[65];
	sona_setup(&f, 0);
	sona_open(&f);
	sona_logits(&f, 1, before);
	rv_sona_report r = sona_serve(&f, 1, 1, &a);
	assert_int_equal(r.instant.outcome, RV_INSTANT_LEARNT);
	assert_int_equal(r.instant.n_tokens, ANSWER);
	assert_true(r.quality == 1 && r.source == RV_QUALITY_TASK);
	sona_hash(&f, hex);
	assert_int_equal(strlen(hex), 64);
	sona_logits(&f, 1, after);
	assert_true(sona_distance(before, after) > 0); /* the next request decodes with it */
	rv_sona_stats stats;
	rv_sona_get_stats(f.sona, &stats);
	assert_int_equal(stats.n_begun, 1);
	assert_int_equal(stats.n_ended, 1);
	assert_int_equal(stats.n_rated, 1);
	rv_served served;
	int32_t tokens[1024];
	assert_ok(rv_trajectory_ring_read(rv_sona_ring(f.sona), 1, &served, tokens));
	assert_string_equal(served.request_id, a.id);
	assert_int_equal(served.n_prompt, PROMPT);
	assert_memory_equal(served.answer, a.answer, sizeof a.answer);
	sona_teardown(&f);
}

/* What must leave the model as it is: a low quality, no rating, the loop or its rate off. */
static void nothing_is_learnt(void **state) {
	(void)state;
	static const struct {
		double quality, rate;
		int instant;
		unsigned without;
		rv_instant_outcome outcome;
	} cases[] = {
	        {0.5, 0.5, 1, 0, RV_INSTANT_BELOW},
	        {0.65, 0.5, 1, 0, RV_INSTANT_BELOW}, /* the rule's 0.7 */
	        {0.5, 0.5, 1, RV_RULE_BIT(RV_RULE_UPDATE), RV_INSTANT_BELOW},
	        {1, 0, 1, 0, RV_INSTANT_OFF},
	        {1, 0.5, 0, 0, RV_INSTANT_OFF},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		sona_fixture f;
		sona_asked a;
		char before[65], after[65];
		sona_setup(&f, 0);
		rv_sona_options o = sona_options(&f);
		o.micro.lr = cases[i].rate;
		o.instant = cases[i].instant;
		o.rules.rules &= ~cases[i].without;
		sona_open_with(&f, &o);
		sona_hash(&f, before);
		rv_sona_report r = sona_serve(&f, 1, cases[i].quality, &a);
		assert_int_equal(r.instant.outcome, cases[i].outcome);
		sona_hash(&f, after);
		assert_string_equal(before, after);
		sona_teardown(&f);
	}
}

static void explosions_are_rolled_back(void **state) {
	(void)state;
	sona_fixture f;
	sona_asked a;
	char before[65], after[65];
	sona_setup(&f, 0);
	rv_sona_options o = sona_options(&f);
	o.instant_how.max_ratio = 0.5;
	sona_open_with(&f, &o);
	sona_serve(&f, 1, 1, &a);
	sona_hash(&f, before);
	assert_ok(rv_instant_set_lr(rv_sona_instant(f.sona), 1e6));
	rv_sona_report r = sona_serve(&f, 1, 1, &a);
	assert_true(r.instant.outcome == RV_INSTANT_EXPLODED ||
	            r.instant.outcome == RV_INSTANT_NOT_FINITE);
	sona_hash(&f, after);
	assert_string_equal(before, after);
	sona_teardown(&f);
}

static void feedback(void **state) {
	(void)state;
	sona_fixture f;
	sona_asked a;
	rv_sona_report r;
	const int32_t right[] = {4, 5, 6}, wrong[] = {4, 512};
	sona_setup(&f, 0);
	sona_open(&f);
	r = sona_serve(&f, 1, NAN, &a);
	assert_true(isnan(r.quality));
	assert_int_equal(rv_sona_feedback(f.sona, a.id, 1.5, RV_QUALITY_FEEDBACK, NULL, 0, &r),
	                 RV_ERR_INVALID);
	assert_int_equal(rv_sona_feedback(f.sona, a.id, NAN, RV_QUALITY_FEEDBACK, NULL, 0, &r),
	                 RV_ERR_INVALID);
	assert_int_equal(rv_sona_feedback(f.sona, a.id, 1, RV_QUALITY_NONE, NULL, 0, &r),
	                 RV_ERR_INVALID);
	assert_int_equal(rv_sona_feedback(f.sona, a.id, 0, RV_QUALITY_TASK, wrong, 2, &r),
	                 RV_ERR_INVALID);
	rv_sona_stats stats;
	rv_sona_get_stats(f.sona, &stats);
	assert_int_equal(stats.n_rated, 0); /* nothing changed */
	assert_ok(rv_sona_feedback(f.sona, a.id, 1, RV_QUALITY_FEEDBACK, NULL, 0, &r));
	assert_int_equal(r.instant.outcome, RV_INSTANT_LEARNT); /* its states were still held */
	assert_int_equal(r.source, RV_QUALITY_FEEDBACK);
	assert_ok(rv_sona_feedback(f.sona, a.id, 0, RV_QUALITY_TASK, right, 3, &r));
	assert_int_equal(r.instant.outcome, RV_INSTANT_NOTHING); /* they are gone */
	rv_served served;
	int32_t tokens[1024];
	assert_ok(rv_trajectory_ring_read(rv_sona_ring(f.sona), 1, &served, tokens));
	assert_int_equal(served.n_correction, 3);
	assert_true(served.quality == 0);
	sona_teardown(&f);
}

static void feedback_for_the_unknown(void **state) {
	(void)state;
	sona_fixture f;
	sona_asked a;
	sona_setup(&f, 0);
	sona_open(&f);
	assert_int_equal(rv_sona_feedback(f.sona, "no such", 1, RV_QUALITY_TASK, NULL, 0, NULL),
	                 RV_ERR_NOT_FOUND);
	assert_non_null(strstr(rv_error_message(), "no such"));
	sona_ask(&f, 1, 0, &a);
	assert_ok(rv_sona_begin(f.sona, f.ctx, &a.request, a.id, NULL));
	assert_int_equal(rv_sona_feedback(f.sona, a.id, 1, RV_QUALITY_TASK, NULL, 0, NULL),
	                 RV_ERR_NOT_FOUND); /* under way */
	rv_sona_cancel(f.sona, a.id);
	assert_int_equal(rv_sona_feedback(f.sona, a.id, 1, RV_QUALITY_TASK, NULL, 0, NULL),
	                 RV_ERR_NOT_FOUND); /* cancelled */
	const rv_sona_outcome outcome = rv_sona_outcome_defaults();
	assert_int_equal(rv_sona_end(f.sona, a.id, &outcome, NULL), RV_ERR_NOT_FOUND);
	/* no longer kept: as many as the ring holds came after it */
	char first[RV_UUID_TEXT];
	sona_serve(&f, 1, NAN, &a);
	memcpy(first, a.id, sizeof first);
	for (int i = 0; i < RV_RING_MIN; i++)
		sona_serve(&f, i, NAN, &a);
	assert_int_equal(rv_sona_feedback(f.sona, first, 1, RV_QUALITY_TASK, NULL, 0, NULL),
	                 RV_ERR_NOT_FOUND);
	assert_ok(rv_sona_feedback(f.sona, a.id, 1, RV_QUALITY_TASK, NULL, 0, NULL));
	rv_sona_stats stats;
	rv_sona_get_stats(f.sona, &stats);
	assert_int_equal(stats.n_unknown, 4);
	sona_teardown(&f);
}

/* Unrated requests hold their states only as long as nobody else needs the place. */
static void states_are_reclaimed(void **state) {
	(void)state;
	sona_fixture f;
	sona_asked a, b;
	rv_sona_report r;
	sona_setup(&f, 0);
	rv_sona_options o = sona_options(&f);
	o.n_places = 1;
	sona_open_with(&f, &o);
	sona_serve(&f, 1, NAN, &a);
	sona_serve(&f, 2, NAN, &b);
	assert_ok(rv_sona_feedback(f.sona, b.id, 1, RV_QUALITY_TASK, NULL, 0, &r));
	assert_int_equal(r.instant.outcome, RV_INSTANT_LEARNT);
	assert_ok(rv_sona_feedback(f.sona, a.id, 1, RV_QUALITY_TASK, NULL, 0, &r));
	assert_int_equal(r.instant.outcome, RV_INSTANT_NOTHING);
	sona_teardown(&f);
}

static double mean_loss(sona_fixture *f, const sona_asked *a, const int32_t *answer, int n) {
	rv_row rows[PROMPT + ANSWER];
	double loss = 0;
	for (int i = 0; i < PROMPT + n - 1; i++)
		rows[i] = (rv_row){.token = i < PROMPT ? a->prompt[i] : answer[i - PROMPT],
		                   .seq = 1,
		                   .position = i,
		                   .parent = -1,
		                   .flags = i >= PROMPT - 1 ? RV_ROW_LOGITS : 0};
	assert_ok(rv_context_eval(f->ctx, rows, PROMPT + n - 1));
	for (int i = 0; i < n; i++) {
		const float *z = rv_context_logits(f->ctx, PROMPT - 1 + i);
		double sum = 0;
		for (int j = 0; j < 512; j++)
			sum += exp((double)z[j] - (double)z[answer[i]]);
		loss += log(sum) / n;
	}
	assert_ok(rv_seq_truncate(f->ctx, 1, 0));
	return loss;
}

static void teaching_lowers_the_loss(void **state) {
	(void)state;
	sona_fixture f;
	sona_asked a;
	rv_sona_report r;
	const int32_t right[] = {100, 200, 300};
	sona_setup(&f, 0);
	sona_open(&f);
	sona_ask(&f, 5, 0, &a);
	double before = mean_loss(&f, &a, right, 3);
	for (int i = 0; i < 30; i++) {
		assert_ok(rv_sona_teach(f.sona, f.ctx, &a.request, right, 3, 1, RV_QUALITY_TASK, a.id,
		                        &r));
		assert_int_equal(r.instant.outcome, RV_INSTANT_LEARNT);
		assert_int_equal(r.instant.n_tokens, 3);
		assert_int_equal(rv_seq_length(f.ctx, 0), 0);
	}
	double after = mean_loss(&f, &a, right, 3);
	if (!(after < before - 0.1))
		fail_msg("loss %.3f before, %.3f after", before, after);
	assert_int_equal(
	        rv_sona_teach(f.sona, f.ctx, &a.request, right, 0, 1, RV_QUALITY_TASK, a.id, &r),
	        RV_ERR_INVALID);
	sona_teardown(&f);
}

static void likelihood_is_a_quality(void **state) {
	(void)state;
	sona_fixture f;
	sona_asked a;
	sona_setup(&f, 0);
	rv_sona_options o = sona_options(&f);
	o.use_likelihood = 1;
	sona_open_with(&f, &o);
	rv_sona_report r = sona_serve(&f, 1, NAN, &a);
	assert_int_equal(r.source, RV_QUALITY_LIKELIHOOD);
	assert_true(r.quality > 0 && r.quality < 1);
	/* raters who find everything good lift it, where there was nothing else to be seen */
	for (int i = 0; i < 60; i++)
		sona_serve(&f, i, 1, &a);
	assert_ok(rv_sona_background_step(f.sona, -1, NULL));
	rv_sona_stats stats;
	rv_sona_get_stats(f.sona, &stats);
	assert_true(stats.likelihood_offset > 0.5);
	assert_true(stats.likelihood_slope >= 0);
	rv_sona_report later = sona_serve(&f, 1, NAN, &a);
	assert_true(later.quality > r.quality + 0.1);
	sona_teardown(&f);
}

/* The rule on patterns turns what was learnt off for a request, and on again. */
static void bad_patterns_turn_it_off(void **state) {
	(void)state;
	sona_fixture f;
	sona_asked a;
	rv_realtime_plan plan;
	sona_setup(&f, 1);
	sona_open(&f);
	sona_serve(&f, 1, 0.1, &a);
	sona_serve(&f, 2, 1, &a);
	assert_ok(rv_sona_flush(f.sona));
	assert_int_equal(rv_bank_count(rv_sona_bank(f.sona)), 2);
	sona_ask(&f, 1, 0, &a);
	a.request.session_id = NULL;
	assert_ok(rv_sona_begin(f.sona, f.ctx, &a.request, a.id, &plan));
	assert_int_equal(plan.micro_lora, 0);
	assert_true(plan.fired & RV_RULE_BIT(RV_RULE_MICRO));
	assert_int_equal(rv_context_adapter_version(f.ctx, 0), 0);
	rv_sona_cancel(f.sona, a.id);
	/* what was consolidated stays */
	assert_ok(rv_sona_background_step(f.sona, -1, NULL));
	assert_ok(rv_sona_begin(f.sona, f.ctx, &a.request, a.id, &plan));
	assert_int_equal(plan.micro_lora, 0);
	assert_int_not_equal(rv_context_adapter_version(f.ctx, 0), 0);
	rv_sona_cancel(f.sona, a.id);
	sona_ask(&f, 2, 0, &a);
	assert_ok(rv_sona_begin(f.sona, f.ctx, &a.request, a.id, &plan));
	assert_int_equal(plan.micro_lora, 1);
	sona_decode(&f, &a);
	assert_int_not_equal(rv_context_adapter_version(f.ctx, 0), 0);
	rv_sona_cancel(f.sona, a.id);
	sona_teardown(&f);
}

/* At the hook layers of `medium` (2048 wide, 3 of them), with 50 000 patterns: what is resident grows
 * with their number, so it is measured on some and scaled. */
static void state_fits_its_budget(void **state) {
	(void)state;
	enum { PATTERNS = 512 };
	sona_fixture f = {0};
	rv_sona_bytes bytes;
	rv_hparams hp = tiny_hparams();
	hp.n_layers = 4;
	hp.n_embd = 2048;
	hp.n_heads = 16;
	hp.head_dim = hp.n_rot = 128;
	hp.n_ff = 256;
	rv_sim_clock_init(&f.clock, INT64_C(1780000000000));
	tiny_model_file_of(f.path, &hp, "qwen2", "Q8_0", 7);
	assert_ok(rv_model_open(&f.model, f.path, NULL));
	sona_context(&f);
	sona_folder(f.dir);
	rv_sona_options o = sona_options(&f);
	o.ring = rv_ring_defaults();
	o.micro.n_layers = 3;
	for (int i = 0; i < 3; i++)
		o.micro.layers[i] = i + 1;
	o.micro.lr = 1e-3;
	o.loops[RV_SONA_BACKGROUND].parts = RV_SONA_PART(RV_BACKGROUND_CONSOLIDATE);
	sona_open_with(&f, &o);
	sona_asked a;
	assert_int_equal(sona_serve(&f, 1, 1, &a).instant.outcome, RV_INSTANT_LEARNT);
	assert_ok(rv_sona_background_step(f.sona, -1, NULL)); /* BaseLoRA is there */
	rv_trajectory items[PATTERNS];
	static float vectors[PATTERNS][RV_EMBEDDING_DIM];
	const rv_action action = {"did", 1};
	for (int i = 0; i < PATTERNS; i++) {
		made_up_vector(i, vectors[i]);
		items[i] = rv_trajectory_defaults();
		items[i].task = "task";
		items[i].embedding = vectors[i];
		items[i].actions = &action;
		items[i].n_actions = 1;
		items[i].final_quality = 1;
	}
	rv_sona_count_bytes(f.sona, &bytes);
	const size_t empty = bytes.part[RV_SONA_BYTES_PATTERNS];
	assert_ok(rv_bank_add(rv_sona_bank(f.sona), items, PATTERNS, NULL));
	rv_sona_count_bytes(f.sona, &bytes);
	const double each = (double)(bytes.part[RV_SONA_BYTES_PATTERNS] - empty) / (double)PATTERNS;
	double total = (double)(bytes.total - bytes.part[RV_SONA_BYTES_PATTERNS]) + 50000 * each;
	size_t sum = 0;
	for (int i = 0; i < RV_SONA_BYTES_PARTS; i++) {
		print_message("    %-16s %9.3f MiB\n", rv_sona_bytes_names[i],
		              i == RV_SONA_BYTES_PATTERNS ? 50000 * each / 1048576
		                                          : (double)bytes.part[i] / 1048576);
		sum += bytes.part[i];
	}
	print_message("    in all           %9.3f MiB\n", total / 1048576);
	assert_int_equal(sum, bytes.total);
	assert_true(bytes.part[RV_SONA_BYTES_BASE] > 0 && bytes.part[RV_SONA_BYTES_MICRO] > 0);
	assert_true(each >= RV_EMBEDDING_DIM); /* 8 bits a component at least */
	assert_true(total <= 128e6);
	sona_teardown(&f);
}

static void bad_requests(void **state) {
	(void)state;
	sona_fixture f;
	sona_asked a;
	rv_context *other;
	sona_setup(&f, 0);
	sona_open(&f);
	sona_ask(&f, 1, 0, &a);
	a.prompt[2] = 512;
	assert_int_equal(rv_sona_begin(f.sona, f.ctx, &a.request, a.id, NULL), RV_ERR_INVALID);
	sona_ask(&f, 1, 0, &a);
	a.vector[7] = NAN;
	assert_int_equal(rv_sona_begin(f.sona, f.ctx, &a.request, a.id, NULL), RV_ERR_NUMERIC);
	sona_ask(&f, 1, 9, &a); /* no such sequence */
	assert_int_equal(rv_sona_begin(f.sona, f.ctx, &a.request, a.id, NULL), RV_ERR_INVALID);
	rv_context_options how = rv_context_defaults();
	how.n_ctx = 64;
	how.n_threads = 1;
	assert_ok(rv_context_create(&other, f.model, &how));
	sona_ask(&f, 1, 0, &a);
	assert_int_equal(rv_sona_begin(f.sona, other, &a.request, a.id, NULL), RV_ERR_NOT_FOUND);
	rv_context_destroy(other);
	rv_sona_options o = sona_options(&f);
	o.ema_keep = 2;
	rv_sona *bad;
	assert_int_equal(rv_sona_open(&bad, f.model, NULL, &o), RV_ERR_INVALID);
	sona_teardown(&f);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(a_rated_request_is_learnt_from),
	        cmocka_unit_test(nothing_is_learnt),
	        cmocka_unit_test(explosions_are_rolled_back),
	        cmocka_unit_test(feedback),
	        cmocka_unit_test(feedback_for_the_unknown),
	        cmocka_unit_test(states_are_reclaimed),
	        cmocka_unit_test(teaching_lowers_the_loss),
	        cmocka_unit_test(likelihood_is_a_quality),
	        cmocka_unit_test(bad_patterns_turn_it_off),
	        cmocka_unit_test(state_fits_its_budget),
	        cmocka_unit_test(bad_requests),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
