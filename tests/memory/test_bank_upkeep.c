/* The bank's upkeep as the deep loop uses it: who went where is told, time is given, patterns are
 * visited. */
#include "tests/memory/bank_fixture.h"

#define DAY INT64_C(86400000)

typedef struct told {
	int n, n_into;
	char into[RV_UUID_TEXT];
} told;

static void note(void *user, const char *id, const char *into) {
	told *t = user;
	assert_true(rv_uuid_valid(id));
	t->n++;
	if (into != NULL) {
		t->n_into++;
		snprintf(t->into, sizeof t->into, "%s", into);
	}
}

static int at_once(void *user) {
	(void)user;
	return 1;
}

static void distillation_tells_who_went_where(void **state) {
	(void)state;
	fixture f;
	told t = {0};
	rv_bank_distill_report r;
	rv_trajectory left;
	begin(&f);
	for (int i = 0; i < 4; i++)
		assert_ok(kit_add(f.bank, 1, i, i == 2 ? 0.95f : 0.8f));
	for (int topic = 2; topic < 8; topic++)
		assert_ok(kit_add(f.bank, topic, 0, 0.9f));
	rv_bank_distill_options o = rv_bank_distill_defaults();
	o.merge_similarity = 0.9f;
	o.max_patterns = 3;
	o.went = note;
	o.user = &t;
	o.cancelled = at_once;
	assert_int_equal(rv_bank_distill(f.bank, &o, &r), RV_ERR_CANCELLED);
	assert_int_equal(rv_bank_count(f.bank), 10);
	assert_int_equal(t.n, 0);
	o.cancelled = NULL;
	assert_ok(rv_bank_distill(f.bank, &o, &r));
	assert_int_equal(r.merged, 3);
	assert_true(r.clustered > 0);
	assert_int_equal(t.n, r.before - r.after);
	assert_int_equal(t.n_into, t.n);
	assert_ok(rv_bank_get(f.bank, t.into, &left)); /* the one that stayed is there */
	rv_trajectory_deinit(&left);
	end(&f);
}

static void pruning_by_stored_quality_and_given_time(void **state) {
	(void)state;
	fixture f;
	told t = {0};
	int64_t n;
	begin(&f);
	assert_ok(kit_add(f.bank, 1, 0, 0.9f));
	assert_ok(kit_add(f.bank, 2, 0, 0.5f));
	rv_bank_pruning how = {.now = KIT_START + 60 * DAY,
	                       .min_quality = 0.6f,
	                       .undecayed = 1,
	                       .went = note,
	                       .user = &t};
	assert_ok(rv_bank_prune_by(f.bank, &how, &n)); /* decayed, both would go */
	assert_int_equal(n, 1);
	assert_int_equal(t.n, 1);
	assert_int_equal(t.n_into, 0);
	how.undecayed = 0;
	how.now = KIT_START;
	assert_ok(rv_bank_prune_by(f.bank, &how, &n));
	assert_int_equal(n, 0);
	how.now = KIT_START + 60 * DAY; /* 0.9 / 4 is left */
	assert_ok(rv_bank_prune_by(f.bank, &how, &n));
	assert_int_equal(n, 1);
	assert_int_equal(rv_bank_count(f.bank), 0);
	end(&f);
}

typedef struct seen {
	int n, limit;
	float last;
} seen;

static rv_status see(void *user, const rv_bank_pattern *p) {
	seen *s = user;
	assert_non_null(p->t->task);
	s->last = p->quality;
	return ++s->n == s->limit ? RV_ERR_CANCELLED : RV_OK;
}

static void patterns_are_visited(void **state) {
	(void)state;
	fixture f;
	seen s = {0};
	begin(&f);
	for (int i = 0; i < 5; i++)
		assert_ok(kit_add(f.bank, i + 1, 0, 0.5f + 0.1f * (float)i));
	assert_ok(rv_bank_visit(f.bank, KIT_START, 0.65f, see, &s));
	assert_int_equal(s.n, 3);
	assert_float_equal(s.last, 0.9, 1e-6);
	s = (seen){0};
	assert_ok(rv_bank_visit(f.bank, KIT_START + 30 * DAY, 0, see, &s));
	assert_int_equal(s.n, 5);
	assert_float_equal(s.last, 0.45, 1e-3);
	s = (seen){.limit = 2};
	assert_int_equal(rv_bank_visit(f.bank, KIT_START, 0, see, &s), RV_ERR_CANCELLED);
	assert_int_equal(s.n, 2);
	end(&f);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(distillation_tells_who_went_where),
	        cmocka_unit_test(pruning_by_stored_quality_and_given_time),
	        cmocka_unit_test(patterns_are_visited),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
