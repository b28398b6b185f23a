/* The scheduler: whatever the schedule, each request gets the tokens it gets alone. */
#include "tests/engine/scheduler_faults.h"

typedef struct setting {
	int32_t n_seqs, step_rows, prefill_rows;
	int32_t page_size; /* 0: contiguous */
	size_t budget_bytes;
	rv_preempt preempt;
	double no_pages;
	size_t swap_bytes;
	int prefix; /* with a prefix cache */
} setting;

#define TINY RV_POOL_PAGE_BYTES
static const setting settings[] = {
        {1, 8, 0, 0, 0, RV_PREEMPT_RECOMPUTE, 0, 0, 0},
        {3, 1, 0, 0, 0, RV_PREEMPT_RECOMPUTE, 0, 0, 0},
        {3, 7, 2, 0, 0, RV_PREEMPT_SWAP, 0, 0, 0},
        {4, 64, 0, 0, 0, RV_PREEMPT_NEVER, 0.1, 0, 0},
        {5, 16, 5, 0, 0, RV_PREEMPT_RECOMPUTE, 0.2, 0, 0},
        {5, 33, 0, 16, 0, RV_PREEMPT_SWAP, 0.2, 0, 0},
        {6, 4, 0, 8, 0, RV_PREEMPT_SWAP, 0.1, 60000, 0},
        {24, 64, 16, 8, TINY, RV_PREEMPT_NEVER, 0, 0, 0},
        {16, 128, 16, 64, TINY, RV_PREEMPT_RECOMPUTE, 0, 0, 0},
        {16, 128, 0, 64, TINY, RV_PREEMPT_SWAP, 0, 0, 0},
        {16, 40, 16, 8, TINY, RV_PREEMPT_RECOMPUTE, 0.05, 0, 1},
        {16, 128, 0, 64, TINY, RV_PREEMPT_SWAP, 0, 0, 1},
};
enum { N_REQUESTS = 40 };

/* Submits, cancels and steps at random until all have ended; the first trouble, or NULL. */
static const char *random_schedule(const setting *o, uint64_t seed, ticket *tickets,
                                   rv_scheduler_stats *stats) {
	rv_rng rng;
	rv_scheduler *s;
	rv_context *ctx = kit_context(model, o->n_seqs, o->step_rows, o->page_size, o->budget_bytes);
	rv_scheduler_options options = rv_scheduler_defaults();
	options.prefill_rows = o->prefill_rows;
	options.preempt = o->preempt;
	options.swap_bytes = o->swap_bytes;
	options.age_steps = 4;
	if (o->prefix)
		assert_ok(rv_prefix_cache_create(&options.prefix, ctx));
	assert_ok(rv_scheduler_create(&s, ctx, &options));
	rv_rng_seed(&rng, seed);
	fault.no_pages = o->no_pages;
	memset(tickets, 0, N_REQUESTS * sizeof *tickets);
	int64_t n_live = 0;
	for (int n = 0; n < N_REQUESTS || n_live > 0;) {
		for (uint64_t more = rv_rng_below(&rng, 4); more > 0 && n < N_REQUESTS; more--, n++)
			ticket_submit(s, &tickets[n], &kinds[rv_rng_below(&rng, KIT_KINDS)],
			              (int32_t)rv_rng_below(&rng, 3) - 1);
		if (n > 0 && rv_rng_below(&rng, 6) == 0) {
			ticket *t = &tickets[rv_rng_below(&rng, (uint64_t)n)];
			rv_status st = rv_scheduler_cancel(s, t->id);
			assert_int_equal(st, t->n_done ? RV_ERR_NOT_FOUND : RV_OK);
			t->cancel_asked |= st == RV_OK;
		}
		fault.cancels = rv_rng_below(&rng, 20) == 0;
		rv_status st = rv_scheduler_step(s, &n_live);
		assert_true(st == RV_OK || st == RV_ERR_CANCELLED);
	}
	fault.no_pages = 0;
	if (o->prefix) {
		assert_ok(rv_prefix_cache_verify(options.prefix));
		rv_prefix_cache_clear(options.prefix);
	}
	nothing_held(s, ctx);
	rv_scheduler_get_stats(s, stats);
	rv_scheduler_destroy(s);
	rv_prefix_cache_destroy(options.prefix);
	rv_context_destroy(ctx);
	for (int i = 0; i < N_REQUESTS; i++)
		if (ticket_trouble(&tickets[i]))
			return ticket_trouble(&tickets[i]);
	return NULL;
}

static void schedules(void **state) {
	const setting *o = *state;
	static ticket tickets[N_REQUESTS];
	rv_scheduler_stats sum = {0};
	no_faults();
	for (uint64_t seed = 0; seed < 6; seed++) {
		rv_scheduler_stats stats;
		const char *what = random_schedule(o, seed, tickets, &stats);
		if (what)
			fail_msg("seed %d: %s", (int)seed, what);
		assert_true(stats.max_running <= o->n_seqs);
		sum.n_done += stats.n_done;
		sum.n_cancelled += stats.n_cancelled;
		sum.n_preempted += stats.n_preempted;
		sum.n_swapped += stats.n_swapped;
		sum.again_tokens += stats.again_tokens;
		sum.prefix_tokens += stats.prefix_tokens;
	}
	/* the schedules did what they are there for */
	assert_true(fault.max_rows <= o->step_rows);
	assert_true(sum.n_done > 60 && sum.n_cancelled > 5);
	assert_int_equal(sum.n_preempted > 0, o->preempt != RV_PREEMPT_NEVER || o->no_pages > 0);
	assert_int_equal(sum.n_swapped > 0, o->preempt == RV_PREEMPT_SWAP);
	assert_int_equal(sum.prefix_tokens > 0, o->prefix);
	if (o->prefix)
		return; /* what was evaluated before may be found again */
	if (o->preempt != RV_PREEMPT_SWAP || o->swap_bytes > 0)
		assert_int_equal(sum.again_tokens > 0, sum.n_preempted > 0);
	else
		assert_int_equal(sum.again_tokens, 0);
}

/* The same schedule again gives the same steps, not only the same tokens. */
static void the_schedule_is_deterministic(void **state) {
	(void)state;
	static ticket a[N_REQUESTS], b[N_REQUESTS];
	rv_scheduler_stats x, y;
	no_faults();
	assert_null(random_schedule(&settings[5], 3, a, &x));
	no_faults();
	assert_null(random_schedule(&settings[5], 3, b, &y));
	assert_int_equal(x.n_steps, y.n_steps);
	assert_int_equal(x.n_preempted, y.n_preempted);
	assert_int_equal(x.prefill_tokens, y.prefill_tokens);
	for (int i = 0; i < N_REQUESTS; i++) {
		assert_int_equal(a[i].n_got, b[i].n_got);
		assert_memory_equal(a[i].got, b[i].got, (size_t)a[i].n_got * sizeof *a[i].got);
		assert_int_equal(a[i].status, b[i].status);
	}
}

static void control_swapped_rows_are_seen(void **state) {
	(void)state;
	static ticket tickets[N_REQUESTS];
	rv_scheduler_stats stats;
	no_faults();
	fault.swap_rows = 1;
	const char *what = random_schedule(&settings[7], 1, tickets, &stats);
	assert_true(fault.n_swapped > 0);
	assert_non_null(what);
	no_faults();
	assert_null(random_schedule(&settings[7], 1, tickets, &stats));
}

/* Requests that begin alike evaluate it once, and get the tokens they get without a prefix cache. */
static void prefixes_are_shared(void **state) {
	(void)state;
	enum { N = 8, COMMON = 40 };
	static ticket t[N];
	static kind k[N];
	rv_scheduler *s;
	rv_scheduler_stats stats;
	rv_scheduler_options o = rv_scheduler_defaults();
	rv_context *ctx = kit_context(model, 3, 64, 16, 0);
	no_faults();
	for (int i = 0; i < N; i++) {
		k[i] = kinds[2];
		k[i].request.prompt = k[i].prompt;
		k[i].request.n_prompt = COMMON + 1 + i;
		k[i].request.max_tokens = 6;
		k[i].request.adapter = i == N - 1 ? 2 : 0; /* it shares nothing */
		for (int j = 0; j < COMMON + 1 + i; j++)
			k[i].prompt[j] = j < COMMON ? 5 * j + 1 : 20 * i + j;
		run_alone(model, &k[i]);
	}
	assert_ok(rv_prefix_cache_create(&o.prefix, ctx));
	assert_ok(rv_scheduler_create(&s, ctx, &o));
	for (int round = 0; round < 2; round++) {
		ticket_submit(s, &t[0], &k[0], 0);
		assert_ok(rv_scheduler_run(s));
		for (int i = 1; i < N; i++)
			ticket_submit(s, &t[i], &k[i], 0);
		assert_ok(rv_scheduler_run(s));
		for (int i = 0; i < N; i++) {
			assert_null(ticket_trouble(&t[i]));
			int64_t n = t[i].stats.n_prefix;
			if (round == 0 && (i == 0 || i == N - 1))
				assert_int_equal(n, 0);
			else
				assert_in_range(n, COMMON / 16 * 16, k[i].request.n_prompt - 1);
		}
	}
	rv_scheduler_get_stats(s, &stats);
	assert_true(stats.prefix_tokens > 12 * (COMMON / 16 * 16));
	rv_prefix_cache_clear(o.prefix);
	nothing_held(s, ctx);
	rv_scheduler_destroy(s);
	rv_prefix_cache_destroy(o.prefix);
	rv_context_destroy(ctx);
}

/* Pages that are stored more coarsely as they age: a request's own, so its tokens are those alone; what
 * gave way is evaluated again. */
static void tiers(void **state) {
	(void)state;
	static ticket tickets[N_REQUESTS];
	rv_kv_policy policy;
	rv_scheduler_stats stats;
	no_faults();
	assert_ok(rv_kv_policy_parse(&policy, "two-tier:tail=32"));
	kit_policy = &policy;
	make_kinds(model, kinds, 3);
	for (uint64_t seed = 0; seed < 3; seed++) {
		const char *what = random_schedule(&settings[5], seed, tickets, &stats);
		if (what)
			fail_msg("seed %d: %s", (int)seed, what);
		assert_true(stats.n_preempted > 0);
		assert_int_equal(stats.n_swapped, 0);
	}
	kit_policy = NULL;
	make_kinds(model, kinds, 3);
}

#define N_SETTINGS (sizeof settings / sizeof settings[0])

int main(void) {
	struct CMUnitTest tests[N_SETTINGS + 4];
	static char names[N_SETTINGS][128];
	size_t n = 0;
	for (; n < N_SETTINGS; n++) {
		const setting *o = &settings[n];
		snprintf(names[n], sizeof names[n], "%d sequences, %d rows, %s, pages of %d%s%s",
		         o->n_seqs, o->step_rows, rv_preempt_name(o->preempt), o->page_size,
		         o->no_pages > 0 || o->budget_bytes > 0 ? " run out" : "",
		         o->prefix ? ", prefix cache" : "");
		tests[n] = (struct CMUnitTest){names[n], schedules, NULL, NULL, (void *)(uintptr_t)o};
	}
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(the_schedule_is_deterministic);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(prefixes_are_shared);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(tiers);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(control_swapped_rows_are_seen);
	return _cmocka_run_group_tests("scheduler", tests, n, open_model, close_model);
}
