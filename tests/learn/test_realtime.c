/* The realtime optimiser: what each rule does, and that without it nothing of that is done. */
#include "learn/realtime.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static rv_realtime_before quiet(void) {
	return (rv_realtime_before){.base = {.kv_policy = "flat",
	                                     .tail_tokens = 256,
	                                     .kv_type = RV_KV_F16,
	                                     .micro_lora = 1,
	                                     .n_batch = 8,
	                                     .n_draft = 4},
	                            .memory_pressure = NAN,
	                            .mean_pattern_quality = NAN};
}

static rv_realtime with(unsigned rules) {
	rv_realtime r;
	rv_realtime_options o = rv_realtime_defaults();
	o.rules = rules;
	assert_ok(rv_realtime_init(&r, &o));
	return r;
}

static rv_realtime_plan plan_of(rv_realtime *r, const rv_realtime_before *seen) {
	rv_realtime_plan plan;
	assert_ok(rv_realtime_before_request(r, seen, &plan));
	return plan;
}

static int same_plan(const rv_realtime_plan *a, const rv_realtime_plan *b) {
	return strcmp(a->kv_policy, b->kv_policy) == 0 && a->tail_tokens == b->tail_tokens &&
	       a->kv_type == b->kv_type && a->micro_lora == b->micro_lora && a->n_batch == b->n_batch &&
	       a->n_draft == b->n_draft;
}

/* What moves every rule there is before a request. */
static rv_realtime_before loud(void) {
	rv_realtime_before b = quiet();
	b.memory_pressure = 0.95;
	b.mean_pattern_quality = 0.3;
	b.policy = "{\"kv_policy\":\"two-tier\",\"tail_tokens\":512}";
	return b;
}

static void observe(rv_realtime *r) {
	const rv_realtime_after fast = {.quality = NAN, .tok_s = 100, .n_drafted = 10, .n_accepted = 9};
	const rv_realtime_after slow = {.quality = NAN, .tok_s = 20, .n_drafted = 10, .n_accepted = 9};
	rv_realtime_after_request(r, &fast);
	rv_realtime_after_request(r, &slow);
}

/* A rule alone changes what it is about and nothing else; left out, it changes nothing. */
static void each_rule_alone(void **state) {
	(void)state;
	for (int rule = RV_RULE_KV_POLICY; rule <= RV_RULE_LOOKAHEAD; rule++) {
		rv_realtime on = with(RV_RULE_BIT(rule)), off = with(RV_RULES_ALL & ~RV_RULE_BIT(rule));
		const rv_realtime_before seen = loud();
		observe(&on);
		observe(&off);
		rv_realtime_plan alone = plan_of(&on, &seen), without = plan_of(&off, &seen);
		assert_int_equal(alone.fired, RV_RULE_BIT(rule));
		assert_false(same_plan(&alone, &seen.base));
		assert_int_equal(without.fired & RV_RULE_BIT(rule), 0);
		assert_int_equal(on.n_fired[rule], 1);
		assert_int_equal(off.n_fired[rule], 0);
		/* where nothing is to be seen, it does nothing */
		rv_realtime blind = with(RV_RULE_BIT(rule));
		const rv_realtime_before nothing = quiet();
		rv_realtime_plan same = plan_of(&blind, &nothing);
		assert_int_equal(same.fired, 0);
		assert_true(same_plan(&same, &nothing.base));
	}
}

static void what_they_decide(void **state) {
	(void)state;
	rv_realtime r = with(RV_RULES_ALL);
	rv_realtime_before seen = loud();
	rv_realtime_plan plan = plan_of(&r, &seen);
	assert_int_equal(plan.kv_type, RV_KV_Q4); /* pressure overrules the policy */
	assert_string_equal(plan.kv_policy, "");
	assert_int_equal(plan.tail_tokens, 512);
	assert_int_equal(plan.micro_lora, 0);
	seen.memory_pressure = 0.9; /* not above */
	seen.mean_pattern_quality = 0.61;
	seen.router_tail = 64;
	plan = plan_of(&r, &seen);
	assert_int_equal(plan.kv_type, RV_KV_F16);
	assert_string_equal(plan.kv_policy, "two-tier");
	assert_int_equal(plan.tail_tokens, 64); /* the router has seen this request */
	assert_int_equal(plan.micro_lora, 1);
	seen.router_tail = 1 << 20;
	assert_int_equal(plan_of(&r, &seen).tail_tokens, r.options.max_tail);
}

static void batch_follows_throughput(void **state) {
	(void)state;
	rv_realtime r = with(RV_RULE_BIT(RV_RULE_BATCH));
	const rv_realtime_before seen = quiet();
	const rv_realtime_after fast = {.quality = NAN, .tok_s = 100},
	                        slow = {.quality = NAN, .tok_s = 30};
	rv_realtime_after_request(&r, &fast);
	assert_int_equal(plan_of(&r, &seen).n_batch, 8);
	rv_realtime_after_request(&r, &slow);
	assert_int_equal(plan_of(&r, &seen).n_batch, 16);
	assert_int_equal(plan_of(&r, &seen).n_batch, 16); /* one measurement, one step */
	for (int i = 0; i < 20; i++) {
		rv_realtime_after_request(&r, &slow);
		assert_true(plan_of(&r, &seen).n_batch <= r.options.max_batch);
	}
	for (int i = 0; i < 20; i++) {
		rv_realtime_after_request(&r, &fast);
		plan_of(&r, &seen);
	}
	assert_int_equal(plan_of(&r, &seen).n_batch, 8);
}

static void lookahead_follows_acceptance(void **state) {
	(void)state;
	const struct {
		int64_t accepted;
		int drafts;
	} cases[] = {{0, 2}, {5, 2}, {8, 4}, {9, 7}, {10, 8}};
	const rv_realtime_before seen = quiet();
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		rv_realtime r = with(RV_RULE_BIT(RV_RULE_LOOKAHEAD));
		const rv_realtime_after after = {NAN, 0, 10, cases[i].accepted};
		rv_realtime_after_request(&r, &after);
		assert_int_equal(plan_of(&r, &seen).n_draft, cases[i].drafts);
	}
}

static void steps_afterwards(void **state) {
	(void)state;
	rv_realtime all = with(RV_RULES_ALL), none = with(0);
	const rv_realtime_after good = {.quality = 0.7}, bad = {.quality = 0.69},
	                        unrated = {.quality = NAN};
	assert_int_equal(rv_realtime_after_request(&all, &good).update, 1);
	assert_int_equal(rv_realtime_after_request(&all, &bad).update, 0);
	assert_int_equal(rv_realtime_after_request(&all, &unrated).update, 0);
	assert_int_equal(rv_realtime_after_request(&all, &good).record, 1);
	assert_int_equal(rv_realtime_after_request(&all, &good).triggers, 1);
	/* left out: the instant loop's own threshold is all there is */
	assert_int_equal(rv_realtime_after_request(&none, &bad).update, 1);
	assert_int_equal(rv_realtime_after_request(&none, &good).record, 0);
	assert_int_equal(rv_realtime_after_request(&none, &good).triggers, 0);
}

static void bad_policies(void **state) {
	(void)state;
	static const char *const bad[] = {
	        "", "{", "[]", "{\"tail_tokens\":0}", "{\"tail_tokens\":\"x\"}", "{\"kv_policy\":3}"};
	rv_realtime r = with(RV_RULES_ALL);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		rv_realtime_before seen = quiet();
		rv_realtime_plan plan;
		seen.policy = bad[i];
		assert_int_not_equal(rv_realtime_before_request(&r, &seen, &plan), RV_OK);
		assert_true(same_plan(&plan, &seen.base));
	}
}

static void names(void **state) {
	(void)state;
	unsigned rules;
	assert_ok(rv_rules_parse("all", &rules));
	assert_int_equal(rules, RV_RULES_ALL);
	assert_ok(rv_rules_parse("none", &rules));
	assert_int_equal(rules, 0);
	assert_ok(rv_rules_parse("-micro", &rules));
	assert_int_equal(rules, RV_RULES_ALL & ~RV_RULE_BIT(RV_RULE_MICRO));
	assert_ok(rv_rules_parse("tail,batch", &rules));
	assert_int_equal(rules, RV_RULE_BIT(RV_RULE_TAIL) | RV_RULE_BIT(RV_RULE_BATCH));
	assert_ok(rv_rules_parse("all,-tail", &rules));
	assert_int_equal(rules, RV_RULES_ALL & ~RV_RULE_BIT(RV_RULE_TAIL));
	rules = 77;
	assert_int_equal(rv_rules_parse("tails", &rules), RV_ERR_INVALID);
	assert_non_null(strstr(rv_error_message(), "lookahead"));
	assert_int_equal(rv_rules_parse("", &rules), RV_ERR_INVALID);
	assert_int_equal(rules, 77);
}

static void bounds(void **state) {
	(void)state;
	rv_realtime r;
	rv_realtime_options o = rv_realtime_defaults();
	o.pressure = 1.5;
	assert_int_equal(rv_realtime_init(&r, &o), RV_ERR_INVALID);
	o = rv_realtime_defaults();
	o.smoothing = NAN;
	assert_int_equal(rv_realtime_init(&r, &o), RV_ERR_INVALID);
	o = rv_realtime_defaults();
	o.max_draft = 1;
	assert_int_equal(rv_realtime_init(&r, &o), RV_ERR_INVALID);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(each_rule_alone),
	        cmocka_unit_test(what_they_decide),
	        cmocka_unit_test(batch_follows_throughput),
	        cmocka_unit_test(lookahead_follows_acceptance),
	        cmocka_unit_test(steps_afterwards),
	        cmocka_unit_test(bad_policies),
	        cmocka_unit_test(names),
	        cmocka_unit_test(bounds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
