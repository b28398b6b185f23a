/* The loops, step by step on a simulated clock: triggers, parts, what each leaves behind. */
#include "memory/edges.h"
#include "memory/policies.h"
#include "tests/learn/sona_fixture.h"

static const rv_sona_part_report *part_of(const rv_sona_pass_report *r, int part) {
	return &r->parts[part];
}

static void show_parts(const rv_sona_pass_report *r) {
	for (int i = 0; i < r->n_parts; i++)
		print_message("    %-12s %-8s %s\n", rv_sona_part_name(r->loop, i),
		              rv_sona_part_outcome_name(r->parts[i].outcome), r->parts[i].text);
}

static void triggers(void **state) {
	(void)state;
	sona_fixture f;
	sona_asked a;
	rv_sona_pass_report reports[RV_SONA_LOOPS];
	const int background = 1 << RV_SONA_BACKGROUND, deep = 1 << RV_SONA_DEEP;
	sona_setup(&f, 0);
	rv_sona_options o = sona_options(&f);
	o.loops[RV_SONA_BACKGROUND].every_ms = 1000;
	o.loops[RV_SONA_BACKGROUND].every_n = 3;
	o.loops[RV_SONA_DEEP].every_ms = 0;
	o.loops[RV_SONA_DEEP].every_sum = 2.5;
	o.loops[RV_SONA_DEEP].parts = o.loops[RV_SONA_BACKGROUND].parts = 0;
	sona_open_with(&f, &o);
	assert_int_equal(rv_sona_due(f.sona, rv_clock_now_ms(&o.clock)), 0);
	rv_sim_clock_advance(&f.clock, 999);
	assert_int_equal(rv_sona_due(f.sona, rv_clock_now_ms(&o.clock)), 0);
	rv_sim_clock_advance(&f.clock, 1); /* by time */
	assert_int_equal(rv_sona_due(f.sona, rv_clock_now_ms(&o.clock)), background);
	assert_ok(rv_sona_run_due(f.sona, -1, reports));
	assert_int_equal(reports[RV_SONA_BACKGROUND].number, 1);
	assert_int_equal(reports[RV_SONA_DEEP].number, 0);
	assert_int_equal(rv_sona_due(f.sona, rv_clock_now_ms(&o.clock)), 0);
	sona_serve(&f, 1, 0.9, &a);
	sona_serve(&f, 2, 0.9, &a);
	assert_int_equal(rv_sona_due(f.sona, rv_clock_now_ms(&o.clock)), 0);
	rv_sona_report r = sona_serve(&f, 3, 0.9, &a); /* by number; and 2.7 of quality */
	assert_int_equal(r.due, background | deep);
	assert_ok(rv_sona_run_due(f.sona, -1, reports));
	assert_int_equal(reports[RV_SONA_BACKGROUND].n_requests, 3);
	assert_int_equal(reports[RV_SONA_DEEP].number, 1);
	for (int i = 0; i < reports[RV_SONA_DEEP].n_parts; i++)
		assert_int_equal(reports[RV_SONA_DEEP].parts[i].outcome, RV_PART_OFF);
	assert_int_equal(rv_sona_due(f.sona, rv_clock_now_ms(&o.clock)), 0);
	sona_teardown(&f);
}

static void a_trigger_that_is_off(void **state) {
	(void)state;
	for (int by_rule = 0; by_rule < 2; by_rule++) {
		sona_fixture f;
		sona_setup(&f, 0);
		rv_sona_options o = sona_options(&f);
		if (by_rule)
			o.rules.rules &= ~RV_RULE_BIT(RV_RULE_TRIGGERS);
		else
			o.loops[RV_SONA_BACKGROUND].on = o.loops[RV_SONA_DEEP].on = 0;
		sona_open_with(&f, &o);
		rv_sim_clock_advance(&f.clock, INT64_C(1) << 40);
		assert_int_equal(rv_sona_due(f.sona, rv_clock_now_ms(&o.clock)), 0);
		sona_teardown(&f);
	}
}

static rv_sona_pass_report step(sona_fixture *f) {
	rv_sona_pass_report r;
	rv_sim_clock_advance(&f->clock, 1000);
	assert_ok(rv_sona_background_step(f->sona, -1, &r));
	return r;
}

/* By svd what is computed stays the same, as far as rank 8 holds it; MicroLoRA begins anew. */
static void consolidation_by_svd(void **state) {
	(void)state;
	sona_fixture f;
	sona_asked a;
	float plain[512], before[512], after[512];
	rv_instant_stats stats;
	rv_adapter *base = NULL, *micro = NULL;
	sona_setup(&f, 0);
	rv_sona_options o = sona_options(&f);
	o.loops[RV_SONA_BACKGROUND].parts = RV_SONA_PART(RV_BACKGROUND_CONSOLIDATE);
	sona_open_with(&f, &o);
	sona_logits(&f, 1, plain);
	rv_sona_pass_report r = step(&f);
	assert_int_equal(part_of(&r, RV_BACKGROUND_CONSOLIDATE)->outcome, RV_PART_NOTHING);
	for (int i = 0; i < 4; i++)
		sona_serve(&f, i, 1, &a);
	sona_logits(&f, 1, before);
	r = step(&f);
	assert_int_equal(part_of(&r, RV_BACKGROUND_CONSOLIDATE)->outcome, RV_PART_DONE);
	assert_int_equal(part_of(&r, RV_BACKGROUND_TUNE)->outcome, RV_PART_OFF);
	rv_instant_get_stats(rv_sona_instant(f.sona), &stats);
	assert_true(stats.norm == 0);
	sona_logits(&f, 1, after);
	assert_true(sona_distance(plain, before) > 1e-3);
	if (!(sona_distance(before, after) < 1e-3 * sona_distance(plain, before)))
		fail_msg("moved by %g of %g", sona_distance(before, after),
		         sona_distance(plain, before));
	assert_ok(rv_instant_snapshot(rv_sona_instant(f.sona), &base, &micro));
	assert_true(rv_adapter_max_rank(base) <= RV_CONSOLIDATE_RANK);
	rv_adapter_release(base);
	rv_adapter_release(micro);
	/* many rounds do not let the rank grow */
	for (int i = 0; i < 6; i++) {
		sona_serve(&f, i, 1, &a);
		step(&f);
	}
	assert_ok(rv_instant_snapshot(rv_sona_instant(f.sona), &base, NULL));
	assert_true(rv_adapter_max_rank(base) <= RV_CONSOLIDATE_RANK);
	rv_adapter_release(base);
	sona_teardown(&f);
}

/* By ema a hundredth of MicroLoRA's factors goes over, and it stays. */
static void consolidation_by_ema(void **state) {
	(void)state;
	sona_fixture f;
	sona_asked a;
	rv_instant_stats before, after;
	rv_adapter *base = NULL;
	sona_setup(&f, 0);
	rv_sona_options o = sona_options(&f);
	o.consolidation = RV_CONSOLIDATE_EMA;
	o.loops[RV_SONA_BACKGROUND].parts = RV_SONA_PART(RV_BACKGROUND_CONSOLIDATE);
	sona_open_with(&f, &o);
	sona_serve(&f, 1, 1, &a);
	rv_instant_get_stats(rv_sona_instant(f.sona), &before);
	rv_sona_pass_report r = step(&f);
	assert_int_equal(part_of(&r, RV_BACKGROUND_CONSOLIDATE)->outcome, RV_PART_DONE);
	rv_instant_get_stats(rv_sona_instant(f.sona), &after);
	assert_true(before.norm > 0 && after.norm == before.norm);
	assert_ok(rv_instant_snapshot(rv_sona_instant(f.sona), &base, NULL));
	assert_non_null(base);
	rv_adapter_release(base);
	sona_teardown(&f);
}

/* A domain of its own: after these tokens comes always the same answer. */
static void teach_domain(sona_fixture *f, int n, double quality) {
	static const int32_t right[] = {17, 18, 19};
	sona_asked a;
	for (int i = 0; i < n; i++) {
		sona_serve(f, i % 12, 0, &a);
		assert_ok(rv_sona_feedback(f->sona, a.id, quality, RV_QUALITY_TASK, right, 3, NULL));
		rv_sim_clock_advance(&f->clock, 10);
	}
}

static void tuning_and_its_memory(void **state) {
	(void)state;
	sona_fixture f;
	sona_setup(&f, 0);
	rv_sona_options o = sona_options(&f);
	o.instant = 0;
	o.tuning.steps = 12;
	o.tuning.rate = 5e-3;
	sona_open_with(&f, &o);
	teach_domain(&f, 60, 0);
	rv_sona_pass_report r = step(&f);
	show_parts(&r);
	const rv_sona_part_report *tune = part_of(&r, RV_BACKGROUND_TUNE);
	assert_int_equal(tune->outcome, RV_PART_DONE);
	assert_true(tune->after < tune->before - 0.05); /* on requests it was not trained on */
	assert_int_equal(part_of(&r, RV_BACKGROUND_EWC)->outcome, RV_PART_NOTHING);
	r = step(&f); /* nothing new: nothing is trained, but what was is remembered */
	assert_int_equal(part_of(&r, RV_BACKGROUND_TUNE)->outcome, RV_PART_NOTHING);
	assert_int_equal(part_of(&r, RV_BACKGROUND_EWC)->outcome, RV_PART_DONE);
	rv_sona_bytes bytes;
	rv_sona_count_bytes(f.sona, &bytes);
	assert_true(bytes.part[RV_SONA_BYTES_EWC] > 0 && bytes.part[RV_SONA_BYTES_REPLAY] > 0);
	teach_domain(&f, 20, 0);
	r = step(&f);
	show_parts(&r);
	assert_true(part_of(&r, RV_BACKGROUND_TUNE)->outcome == RV_PART_DONE ||
	            part_of(&r, RV_BACKGROUND_TUNE)->outcome == RV_PART_UNDONE);
	sona_teardown(&f);
}

/* Answers without any rule, at a rate far too high: undone, and what decodes is as before. */
static void bad_tuning_is_undone(void **state) {
	(void)state;
	sona_fixture f;
	sona_asked a;
	char before[65], after[65];
	sona_setup(&f, 0);
	rv_sona_options o = sona_options(&f);
	o.instant = 0;
	o.tuning.steps = 6;
	o.tuning.rate = 10;
	sona_open_with(&f, &o);
	for (int32_t i = 0; i < 40; i++) {
		const int32_t right[] = {i * 97 % 512, i * 61 % 512};
		sona_serve(&f, i, 0, &a);
		assert_ok(rv_sona_feedback(f.sona, a.id, 0, RV_QUALITY_TASK, right, 2, NULL));
	}
	sona_hash(&f, before);
	rv_sona_pass_report r = step(&f);
	show_parts(&r);
	assert_int_equal(part_of(&r, RV_BACKGROUND_TUNE)->outcome, RV_PART_UNDONE);
	sona_hash(&f, after);
	assert_string_equal(before, after);
	rv_sona_stats stats;
	rv_sona_get_stats(f.sona, &stats);
	assert_int_equal(stats.n_undone, 1);
	sona_teardown(&f);
}

static void old_text_is_remembered(void **state) {
	(void)state;
	sona_fixture f;
	int32_t tokens[4 * 33];
	sona_setup(&f, 0);
	rv_sona_options o = sona_options(&f);
	sona_open_with(&f, &o);
	for (int i = 0; i < 4 * 33; i++)
		tokens[i] = (i * 37) % 512;
	assert_ok(rv_sona_remember(f.sona, tokens, NULL, 4));
	rv_sona_pass_report r = step(&f);
	assert_int_equal(part_of(&r, RV_BACKGROUND_EWC)->outcome, RV_PART_DONE);
	assert_non_null(strstr(part_of(&r, RV_BACKGROUND_EWC)->text, "the model's weights"));
	tokens[5] = 512;
	assert_int_equal(rv_sona_remember(f.sona, tokens, NULL, 4), RV_ERR_INVALID);
	sona_teardown(&f);
	sona_setup(&f, 0); /* a model that is too large says so */
	o = sona_options(&f);
	o.tuning.max_params = 1000;
	sona_open_with(&f, &o);
	tokens[5] = 1;
	assert_int_equal(rv_sona_remember(f.sona, tokens, NULL, 4), RV_ERR_UNSUPPORTED);
	teach_domain(&f, 10, 1);
	r = step(&f);
	assert_int_equal(part_of(&r, RV_BACKGROUND_TUNE)->outcome, RV_PART_NA);
	assert_int_equal(part_of(&r, RV_BACKGROUND_EWC)->outcome, RV_PART_NA);
	sona_teardown(&f);
}

/* Patterns, edges, the router, policies: rows of the store. */
static void what_the_store_gets(void **state) {
	(void)state;
	sona_fixture f;
	sona_asked a;
	float weight;
	sona_setup(&f, 1);
	rv_sona_options o = sona_options(&f);
	o.rules.rules &= ~RV_RULE_BIT(RV_RULE_MICRO);
	sona_open_with(&f, &o);
	for (int i = 0; i < 64; i++) {
		sona_serve(&f, i % 8, i % 4 == 0 ? 0 : 1, &a);
		rv_sim_clock_advance(&f.clock, 50);
		if (i % 16 == 15)
			assert_ok(rv_sona_flush(f.sona));
	}
	rv_sona_pass_report r = step(&f);
	show_parts(&r);
	assert_int_equal(rv_bank_count(rv_sona_bank(f.sona)), 64);
	assert_int_equal(part_of(&r, RV_BACKGROUND_INDEX)->outcome, RV_PART_DONE);
	assert_int_equal(part_of(&r, RV_BACKGROUND_ROUTER)->outcome, RV_PART_DONE);
	assert_int_equal(part_of(&r, RV_BACKGROUND_POLICIES)->outcome, RV_PART_DONE);
	/* word 0 goes to model 0 and fails, 1 to 1 and succeeds: the router has seen it */
	assert_true(part_of(&r, RV_BACKGROUND_ROUTER)->after > 0.5);
	rv_trajectory t;
	assert_ok(rv_bank_get(rv_sona_bank(f.sona), a.id, &t));
	assert_string_equal(t.task, "question 7");
	assert_int_equal(t.verdict, RV_VERDICT_SUCCESS);
	assert_string_equal(t.session_id, "odd");
	rv_trajectory_deinit(&t);
	assert_int_equal(r.generation, 1);
	assert_ok(rv_sona_close(f.sona));
	/* in the store: edges +- 5 %, policies of the background loop */
	rv_store *store;
	rv_edges *edges;
	rv_policies *policies;
	rv_policy policy;
	assert_ok(rv_store_open(&store, f.dir, NULL));
	assert_ok(rv_edges_open(&edges, store, NULL));
	assert_true(rv_edges_count(edges) > 64);
	assert_ok(rv_edges_weight(edges, "odd", a.id, RV_EDGE_PATTERN, &weight));
	assert_true(weight > 0.49f && weight < 0.53f);
	assert_ok(rv_edges_close(edges));
	assert_ok(rv_policies_open(&policies, store, NULL));
	assert_ok(rv_policies_get(policies, RV_POLICY_QUANTIZATION, &policy));
	assert_int_equal(policy.source, RV_SOURCE_BACKGROUND);
	assert_non_null(strstr(policy.parameters, "\"tail_tokens\":256"));
	rv_policy_deinit(&policy);
	assert_ok(rv_policies_close(policies));
	assert_ok(rv_store_close(store));
	/* another process finds the same rows, and knows which it has seen */
	sona_open_with(&f, &o);
	r = step(&f);
	assert_int_equal(part_of(&r, RV_BACKGROUND_INDEX)->outcome, RV_PART_NOTHING);
	assert_int_equal(part_of(&r, RV_BACKGROUND_POLICIES)->outcome, RV_PART_DONE);
	assert_int_equal(part_of(&r, RV_BACKGROUND_POLICIES)->n, 64);
	assert_int_equal(part_of(&r, RV_BACKGROUND_ROUTER)->n, 64);
	sona_teardown(&f);
}

/* The same requests on the same clock learn the same, bit for bit. */
static void steps_are_reproducible(void **state) {
	(void)state;
	char hex[2][65];
	for (int run = 0; run < 2; run++) {
		sona_fixture f;
		sona_asked a;
		sona_setup(&f, 0);
		rv_sona_options o = sona_options(&f);
		o.tuning.rate = 5e-3;
		sona_open_with(&f, &o);
		teach_domain(&f, 20, 0);
		for (int i = 0; i < 3; i++) {
			sona_serve(&f, i, 1, &a);
			step(&f);
		}
		sona_hash(&f, hex[run]);
		sona_teardown(&f);
	}
	assert_int_equal(strlen(hex[0]), 64);
	assert_string_equal(hex[0], hex[1]);
}

/* A pass that may take a second and a half puts off what it does not come to, and says so. */
static void cost_is_bounded(void **state) {
	(void)state;
	sona_fixture f;
	sona_setup(&f, 0);
	rv_sona_options o = sona_options(&f);
	o.instant = 0;
	o.tuning.steps = 100000;
	o.tuning.rate = 1e-3;
	o.loops[RV_SONA_BACKGROUND].max_ms = 1500;
	sona_open_with(&f, &o);
	teach_domain(&f, 40, 0);
	rv_sona_pass_report r = step(&f);
	show_parts(&r);
	const rv_sona_part_report *tune = part_of(&r, RV_BACKGROUND_TUNE);
	/* the steps there was time for count */
	if (tune->outcome != RV_PART_PUT_OFF) { /* a machine so slow that not one was done */
		assert_true(tune->outcome == RV_PART_DONE || tune->outcome == RV_PART_UNDONE);
		assert_true(tune->n > 0);
	}
	assert_true(tune->n < 100000);
	assert_true(r.total_ns < 20 * INT64_C(1000000000));
	sona_teardown(&f);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(triggers),
	        cmocka_unit_test(a_trigger_that_is_off),
	        cmocka_unit_test(consolidation_by_svd),
	        cmocka_unit_test(consolidation_by_ema),
	        cmocka_unit_test(tuning_and_its_memory),
	        cmocka_unit_test(bad_tuning_is_undone),
	        cmocka_unit_test(old_text_is_remembered),
	        cmocka_unit_test(what_the_store_gets),
	        cmocka_unit_test(steps_are_reproducible),
	        cmocka_unit_test(cost_is_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
