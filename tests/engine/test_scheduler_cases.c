/* The scheduler: order, ageing, giving way, the ways requests end, arguments. */
#include "tests/engine/scheduler_faults.h"

#define TINY RV_POOL_PAGE_BYTES

/* ---- order ---- */

static rv_scheduler *open_scheduler(rv_context **ctx, int32_t n_seqs, int64_t age_steps) {
	rv_scheduler *s;
	rv_scheduler_options o = rv_scheduler_defaults();
	o.age_steps = age_steps;
	o.preempt = RV_PREEMPT_NEVER;
	*ctx = kit_context(model, n_seqs, 64, 0, 0);
	assert_ok(rv_scheduler_create(&s, *ctx, &o));
	return s;
}

static void close_scheduler(rv_scheduler *s, rv_context *ctx) {
	nothing_held(s, ctx);
	rv_scheduler_destroy(s);
	rv_context_destroy(ctx);
}

static void step(rv_scheduler *s, int64_t *clock) {
	assert_ok(rv_scheduler_step(s, NULL));
	++*clock;
}

/* One sequence: requests end in the order of step - priority * age, computed here on its own. */
static void order_is_by_rank(void **state) {
	(void)state;
	enum { N = 30, AGE = 3 };
	static ticket tickets[N];
	int64_t clock = 0, rank[N];
	rv_context *ctx;
	rv_scheduler *s = open_scheduler(&ctx, 1, AGE);
	rv_rng rng;
	no_faults();
	rv_rng_seed(&rng, 11);
	kind k = kinds[0];
	k.request.max_tokens = 40; /* nobody but the first begins while they come */
	k.request.ignore_end = 1;
	run_alone(model, &k);
	for (int i = 0; i < N; i++) {
		int32_t priority = i == 0 ? 9 : (int32_t)rv_rng_below(&rng, 5);
		tickets[i].clock = &clock;
		rank[i] = i == 0 ? INT64_MIN : clock - priority * AGE;
		ticket_submit(s, &tickets[i], i == 0 ? &k : &kinds[1 + i % 5], priority);
		step(s, &clock);
	}
	assert_int_equal(tickets[0].n_done, 0);
	while (tickets[0].n_done == 0 || clock < 1000)
		step(s, &clock);
	for (int i = 0; i < N; i++) {
		assert_null(ticket_trouble(&tickets[i]));
		for (int j = 0; j < i; j++)
			if (rank[j] <= rank[i])
				assert_true(tickets[j].done_at <= tickets[i].done_at);
			else
				assert_true(tickets[i].done_at <= tickets[j].done_at);
	}
	close_scheduler(s, ctx);
}

/* Steps until a request of priority 0 ended while one of priority 2 comes every step. */
static int64_t wait_behind_a_stream(int64_t age_steps) {
	enum { MAX = 300 };
	static ticket tickets[MAX + 1];
	int64_t clock = 0, waited;
	rv_context *ctx;
	rv_scheduler *s = open_scheduler(&ctx, 2, age_steps);
	memset(tickets, 0, sizeof tickets);
	kind k = kinds[2];
	k.request.max_tokens = 3;
	k.request.ignore_end = 1;
	run_alone(model, &k);
	for (int i = 0; i < 4; i++)
		ticket_submit(s, &tickets[1 + i], &k, 2);
	ticket_submit(s, &tickets[0], &k, 0);
	for (int i = 5; i < MAX && tickets[0].n_done == 0; i++) {
		ticket_submit(s, &tickets[i], &k, 2);
		step(s, &clock);
	}
	waited = clock;
	assert_ok(rv_scheduler_run(s));
	assert_null(ticket_trouble(&tickets[0]));
	close_scheduler(s, ctx);
	return waited;
}

static void nothing_starves(void **state) {
	(void)state;
	no_faults();
	int64_t soon = wait_behind_a_stream(5), later = wait_behind_a_stream(20);
	assert_true(soon < 60);
	assert_true(later > soon);
	assert_true(later < 200);
	/* control: without ageing in any practical sense it waits as long as the stream lasts */
	assert_int_equal(wait_behind_a_stream(1000000), 295);
}

/* A higher priority takes the sequence of a lower one, which goes on later with the same tokens. */
static void a_higher_priority_preempts(void **state) {
	(void)state;
	ticket low = {0}, high = {0};
	int64_t clock = 0;
	no_faults();
	for (int way = RV_PREEMPT_RECOMPUTE; way <= RV_PREEMPT_NEVER; way++) {
		rv_scheduler *s;
		rv_scheduler_options o = rv_scheduler_defaults();
		rv_context *ctx = kit_context(model, 1, 64, 0, 0);
		o.preempt = (rv_preempt)way;
		assert_ok(rv_scheduler_create(&s, ctx, &o));
		low.clock = high.clock = &clock;
		ticket_submit(s, &low, &kinds[7], 0);
		for (int i = 0; i < 5; i++)
			step(s, &clock);
		assert_true(low.n_got > 0);
		ticket_submit(s, &high, &kinds[3], 1);
		assert_ok(rv_scheduler_step(s, NULL));
		rv_request_info info;
		assert_ok(rv_scheduler_find(s, low.id, &info));
		assert_int_equal(info.state,
		                 way == RV_PREEMPT_NEVER ? RV_REQUEST_RUNNING : RV_REQUEST_WAITING);
		assert_int_equal(info.stats.n_preempted, way != RV_PREEMPT_NEVER);
		assert_int_equal(info.stats.n_swapped, way == RV_PREEMPT_SWAP);
		assert_ok(rv_scheduler_run(s));
		assert_null(ticket_trouble(&low));
		assert_null(ticket_trouble(&high));
		close_scheduler(s, ctx);
	}
}

/* Twelve sequences that all grow to the end of the context, in memory for ten: the last ones give way.
 */
static void pages_run_out(void **state) {
	(void)state;
	enum { N = 12 };
	static ticket t[N];
	no_faults();
	for (int way = RV_PREEMPT_RECOMPUTE; way <= RV_PREEMPT_NEVER; way++) {
		rv_scheduler *s;
		rv_scheduler_stats stats;
		rv_scheduler_options o = rv_scheduler_defaults();
		rv_context *ctx = kit_context(model, N, 64, 8, TINY);
		o.preempt = (rv_preempt)way;
		assert_ok(rv_scheduler_create(&s, ctx, &o));
		memset(t, 0, sizeof t);
		for (int i = 0; i < N; i++)
			ticket_submit(s, &t[i], &kinds[7], 0);
		assert_ok(rv_scheduler_run(s));
		for (int i = 0; i < N; i++)
			assert_null(ticket_trouble(&t[i]));
		rv_scheduler_get_stats(s, &stats);
		assert_int_equal(stats.max_running, N);
		assert_true(stats.n_preempted > 0);
		assert_int_equal(t[0].stats.n_preempted, 0); /* who came first goes first */
		assert_int_equal(stats.n_swapped > 0, way == RV_PREEMPT_SWAP);
		assert_int_equal(stats.max_swapped_bytes > 0, way == RV_PREEMPT_SWAP);
		close_scheduler(s, ctx);
	}
}

/* Memory that others hold: a request that finds none, with nothing else running, ends with the reason.
 */
static void the_budget_is_others(void **state) {
	(void)state;
	rv_pool *pool;
	rv_context *holder, *ctx;
	rv_context_options o = rv_context_defaults();
	ticket t = {0};
	no_faults();
	assert_ok(rv_pool_create(&pool, TINY, 0.7, 0.85));
	o.n_ctx = KIT_CTX;
	o.kv_type = RV_KV_F32;
	o.pool = pool;
	o.n_threads = 1;
	assert_ok(rv_context_create(&holder, model, &o));
	assert_ok(rv_context_create(&ctx, model, &o));
	rv_row row = {.token = 1, .parent = -1};
	assert_ok(rv_context_eval(holder, &row, 1));
	rv_scheduler *s;
	assert_ok(rv_scheduler_create(&s, ctx, NULL));
	ticket_submit(s, &t, &kinds[2], 0);
	assert_ok(rv_scheduler_run(s));
	assert_int_equal(t.status, RV_ERR_LIMIT);
	assert_non_null(strstr(t.message, "KV pages"));
	assert_ok(rv_seq_truncate(holder, 0, 0));
	ticket_submit(s, &t, &kinds[2], 0);
	assert_ok(rv_scheduler_run(s));
	assert_null(ticket_trouble(&t));
	close_scheduler(s, ctx);
	rv_context_destroy(holder);
	rv_pool_destroy(pool);
}

/* ---- ends ---- */

/* Adapters changed while a request that began with others is out of its sequence, and nobody holds one:
 * when the one it gave way to is done. */
static rv_context *to_change;
static void change_adapters(void *user, rv_request_id id, const rv_request_result *result) {
	ticket_done(user, id, result);
	if (to_change)
		use_adapter(to_change, 1, kit_adapters[2]);
}

static void changed_adapters_end_it(void **state) {
	(void)state;
	static ticket low, high;
	rv_scheduler *s;
	rv_context *ctx = kit_context(model, 1, 64, 0, 0);
	no_faults();
	kind long_one = kinds[3];
	assert_int_equal(long_one.request.adapter, 1);
	long_one.request.max_tokens = KIT_NEW;
	long_one.request.ignore_end = 1;
	run_alone(model, &long_one);
	for (int change = 0; change < 2; change++) {
		assert_ok(rv_scheduler_create(&s, ctx, NULL));
		ticket_submit(s, &low, &long_one, 0);
		for (int i = 0; i < 4; i++)
			assert_ok(rv_scheduler_step(s, NULL));
		to_change = change ? ctx : NULL;
		high = (ticket){.k = &kinds[2]};
		rv_request q = kinds[2].request;
		q.priority = 1;
		q.on_token = ticket_token;
		q.on_done = change_adapters;
		q.user = &high;
		assert_ok(rv_scheduler_submit(s, &q, &high.id));
		assert_ok(rv_scheduler_run(s));
		assert_null(ticket_trouble(&high));
		assert_int_equal(low.status, change ? RV_ERR_MISMATCH : RV_OK);
		assert_int_equal(low.stats.n_preempted, 1);
		assert_memory_equal(low.got, long_one.alone, (size_t)low.n_got * sizeof *low.got);
		if (change)
			assert_non_null(strstr(low.message, "adapters of set 1"));
		nothing_held(s, ctx);
		rv_scheduler_destroy(s);
	}
	rv_context_destroy(ctx);
}

static void cancelled_in_mid_prefill(void **state) {
	(void)state;
	ticket t = {0}, other = {0};
	rv_scheduler *s;
	rv_request_info info;
	rv_context *ctx = kit_context(model, 2, 4, 0, 0);
	no_faults();
	assert_ok(rv_scheduler_create(&s, ctx, NULL));
	const kind *longest = &kinds[0];
	for (int i = 1; i < KIT_KINDS; i++)
		if (kinds[i].request.n_prompt > longest->request.n_prompt)
			longest = &kinds[i];
	ticket_submit(s, &t, longest, 0);
	ticket_submit(s, &other, &kinds[4], 0);
	for (int i = 0; i < 3; i++)
		assert_ok(rv_scheduler_step(s, NULL));
	assert_ok(rv_scheduler_find(s, t.id, &info));
	assert_int_equal(info.state, RV_REQUEST_RUNNING);
	assert_in_range(info.n_cached, 1, longest->request.n_prompt - 1);
	assert_int_equal(rv_seq_length(ctx, info.seq), info.n_cached);
	t.cancel_asked = 1;
	assert_ok(rv_scheduler_cancel(s, t.id));
	assert_ok(rv_scheduler_cancel(s, t.id)); /* twice is once */
	assert_ok(rv_scheduler_step(s, NULL));
	assert_int_equal(t.status, RV_ERR_CANCELLED);
	assert_string_equal(t.message, "cancelled");
	assert_int_equal(t.n_got, 0);
	assert_int_equal(rv_seq_length(ctx, info.seq), 0);
	assert_int_equal(rv_scheduler_find(s, t.id, &info), RV_ERR_NOT_FOUND);
	assert_int_equal(rv_scheduler_cancel(s, t.id), RV_ERR_NOT_FOUND);
	assert_ok(rv_scheduler_run(s));
	assert_null(ticket_trouble(&other));
	close_scheduler(s, ctx);
}

/* Ends what is left when it is closed: waiting, in prefill, decoding, swapped out. */
static void closing_ends_all(void **state) {
	(void)state;
	static ticket t[8];
	rv_scheduler *s;
	rv_scheduler_options o = rv_scheduler_defaults();
	rv_context *ctx = kit_context(model, 2, 8, 0, 0);
	no_faults();
	o.preempt = RV_PREEMPT_SWAP;
	assert_ok(rv_scheduler_create(&s, ctx, &o));
	for (int i = 0; i < 8; i++) {
		ticket_submit(s, &t[i], &kinds[7], i);
		t[i].cancel_asked = 1;
		if (i < 7)
			assert_ok(rv_scheduler_step(s, NULL));
	}
	rv_scheduler_destroy(s);
	for (int i = 0; i < 8; i++) {
		assert_int_equal(t[i].status, RV_ERR_CANCELLED);
		assert_null(ticket_trouble(&t[i]));
	}
	rv_context_destroy(ctx);
	rv_scheduler_destroy(NULL);
}

/* Four requests, the third of which meets `what`; the others end as alone. Returns its ticket. */
static ticket one_of_four(rv_status expected) {
	static ticket t[4];
	rv_context *ctx;
	rv_scheduler *s = open_scheduler(&ctx, 4, 64);
	static const int who[] = {0, 1, 9, 3};
	memset(t, 0, sizeof t);
	for (int i = 0; i < 4; i++)
		ticket_submit(s, &t[i], &kinds[who[i]], 0);
	assert_ok(rv_scheduler_run(s));
	for (int i = 0; i < 4; i++)
		if (i != 2 && ticket_trouble(&t[i]))
			fail_msg("request %d: %s", i, ticket_trouble(&t[i]));
	assert_int_equal(t[2].n_done, 1);
	assert_int_equal(t[2].status, expected);
	close_scheduler(s, ctx);
	return t[2];
}

static int occurs(const kind *k, int32_t token) {
	for (int64_t i = 0; i < k->request.n_prompt; i++)
		if (k->prompt[i] == token)
			return 1;
	for (int64_t i = 0; i < k->n_alone; i++)
		if (k->alone[i] == token)
			return 1;
	return 0;
}

static void an_error_ends_one(void **state) {
	(void)state;
	no_faults();
	one_of_four(RV_OK);
	/* a batch with a token of the third alone does not evaluate */
	const kind *k = &kinds[9];
	for (int64_t i = k->request.n_prompt - 1; i >= 0 && fault.poison < 0; i--)
		if (!occurs(&kinds[0], k->prompt[i]) && !occurs(&kinds[1], k->prompt[i]) &&
		    !occurs(&kinds[3], k->prompt[i]))
			fault.poison = k->prompt[i];
	assert_true(fault.poison >= 0);
	ticket t = one_of_four(RV_ERR_NUMERIC);
	assert_non_null(strstr(t.message, "injected"));
	/* its logits are no numbers, at a position where only it chooses a token */
	no_faults();
	for (int32_t at = (int32_t)k->request.n_prompt - 1;
	     at < k->request.n_prompt + k->n_alone - 1 && fault.nan_position < 0; at++) {
		int others = 0;
		static const int who[] = {0, 1, 3};
		for (int i = 0; i < 3; i++) {
			const kind *o = &kinds[who[i]];
			others |=
			        at >= o->request.n_prompt - 1 && at < o->request.n_prompt + o->n_alone;
		}
		if (!others)
			fault.nan_position = at;
	}
	assert_true(fault.nan_position >= 0);
	t = one_of_four(RV_ERR_NUMERIC);
	assert_non_null(strstr(t.message, "NaN"));
	assert_true(t.n_got < k->n_alone);
	assert_memory_equal(t.got, k->alone, (size_t)t.n_got * sizeof *t.got);
	no_faults();
}

static int count_to_two(void *user, rv_request_id id, int32_t token, double logprob) {
	(void)id, (void)token, (void)logprob;
	return ++*(int *)user == 2;
}

/* Callbacks may stop their request, submit, cancel and look, but not step. */
static rv_scheduler *inside;
static ticket nested;
static void submit_another(void *user, rv_request_id id, const rv_request_result *result) {
	rv_request_info info;
	(void)user;
	assert_int_equal(result->stop, RV_STOP_CALLER);
	assert_int_equal(result->stats.n_generated, 2);
	assert_int_equal(rv_scheduler_find(inside, id, &info), RV_ERR_NOT_FOUND);
	assert_int_equal(rv_scheduler_step(inside, NULL), RV_ERR_INVALID);
	ticket_submit(inside, &nested, &kinds[1], 0);
}

static void callbacks(void **state) {
	(void)state;
	rv_context *ctx;
	int n = 0;
	no_faults();
	inside = open_scheduler(&ctx, 1, 64);
	rv_request q = kinds[7].request;
	rv_request_id id;
	q.on_token = count_to_two;
	q.on_done = submit_another;
	q.user = &n;
	assert_ok(rv_scheduler_submit(inside, &q, &id));
	assert_ok(rv_scheduler_run(inside));
	assert_int_equal(n, 2);
	assert_null(ticket_trouble(&nested));
	close_scheduler(inside, ctx);
}

static void bad_arguments(void **state) {
	(void)state;
	rv_context *ctx;
	rv_scheduler *s = open_scheduler(&ctx, 1, 64);
	static int32_t tokens[KIT_CTX + 1];
	rv_request q = rv_request_defaults(), bad;
	rv_request_id id = 77;
	q.prompt = tokens;
	q.n_prompt = 3;
#define REFUSED(change, status)                                                                        \
	do {                                                                                           \
		bad = q;                                                                               \
		change;                                                                                \
		assert_int_equal(rv_scheduler_submit(s, &bad, &id), status);                           \
		assert_int_equal(id, 77);                                                              \
	} while (0)
	REFUSED(bad.n_prompt = 0, RV_ERR_INVALID);
	REFUSED(bad.n_prompt = KIT_CTX + 1, RV_ERR_LIMIT);
	REFUSED(bad.max_tokens = -2, RV_ERR_INVALID);
	REFUSED(bad.adapter = RV_ADAPTER_SETS, RV_ERR_INVALID);
	REFUSED(bad.adapter = -1, RV_ERR_INVALID);
	REFUSED(bad.n_stop_tokens = -1, RV_ERR_INVALID);
	REFUSED(bad.sampling.top_p = 7, RV_ERR_INVALID);
	tokens[1] = 320;
	REFUSED((void)0, RV_ERR_INVALID);
	tokens[1] = -1;
	REFUSED((void)0, RV_ERR_INVALID);
#undef REFUSED
	rv_request_info info;
	for (id = -3; id < 3; id++) {
		assert_int_equal(rv_scheduler_cancel(s, id), RV_ERR_NOT_FOUND);
		assert_int_equal(rv_scheduler_find(s, id * (1 << 20) + 5, &info), RV_ERR_NOT_FOUND);
	}
	close_scheduler(s, ctx);
	ctx = kit_context(model, 1, 8, 0, 0);
	rv_scheduler_options o[5];
	for (int i = 0; i < 5; i++)
		o[i] = rv_scheduler_defaults();
	o[0].step_rows = 9;
	o[1].step_rows = -1;
	o[2].prefill_rows = -1;
	o[3].age_steps = -1;
	o[4].preempt = (rv_preempt)9;
	for (int i = 0; i < 5; i++) {
		assert_int_equal(rv_scheduler_create(&s, ctx, &o[i]), RV_ERR_INVALID);
		assert_null(s);
	}
	rv_context_destroy(ctx);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(order_is_by_rank),
	        cmocka_unit_test(nothing_starves),
	        cmocka_unit_test(a_higher_priority_preempts),
	        cmocka_unit_test(pages_run_out),
	        cmocka_unit_test(the_budget_is_others),
	        cmocka_unit_test(changed_adapters_end_it),
	        cmocka_unit_test(cancelled_in_mid_prefill),
	        cmocka_unit_test(closing_ends_all),
	        cmocka_unit_test(an_error_ends_one),
	        cmocka_unit_test(callbacks),
	        cmocka_unit_test(bad_arguments),
	};
	return cmocka_run_group_tests_name("scheduler cases", tests, open_model, close_model);
}
