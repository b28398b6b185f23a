/* A scheduler whose sets of adapters are swapped while requests run: with versions pinned each request
 * gets the tokens of the version it began with, whatever gives way and comes back; without, what begins
 * after the last swap gets those of the newest. */
#include "tests/engine/scheduler_kit.h"

enum { N_REQUESTS = 60, N_KINDS = 12, SET = 1, VERSIONS = 2 };

/* A kind's tokens under each version of the set. */
static kind under[VERSIONS][N_KINDS];

static int open_kinds(void **state) {
	open_model(state);
	for (int v = 0; v < VERSIONS; v++)
		for (int i = 0; i < N_KINDS; i++) {
			kind *k = &under[v][i];
			*k = kinds[2 * i];
			k->request.prompt = k->prompt;
			k->request.max_tokens = KIT_NEW;
			k->request.n_stop_tokens = 0;
			k->request.sampling.temperature = 1; /* seeded: shows small differences */
			k->request.ignore_end = 1;
			k->request.adapter = 1 + v; /* which adapter: run_alone */
			run_alone(model, k);
			k->request.adapter = SET;
		}
	for (int i = 0; i < N_KINDS; i++) /* the versions can be told apart */
		assert_true(under[0][i].n_alone == KIT_NEW &&
		            memcmp(under[0][i].alone, under[1][i].alone,
		                   KIT_NEW * sizeof *under[0][i].alone) != 0);
	return 0;
}

typedef struct setting {
	int32_t n_seqs, step_rows, page_size;
	size_t budget_bytes;
	rv_preempt preempt;
	int prefix;
} setting;

#define TINY RV_POOL_PAGE_BYTES
static const setting settings[] = {
        {4, 16, 0, 0, RV_PREEMPT_NEVER, 0},         {6, 33, 16, 0, RV_PREEMPT_SWAP, 1},
        {16, 40, 8, TINY, RV_PREEMPT_RECOMPUTE, 0}, {16, 128, 64, TINY, RV_PREEMPT_RECOMPUTE, 1},
        {16, 40, 8, TINY, RV_PREEMPT_SWAP, 0},      {16, 128, 16, TINY, RV_PREEMPT_SWAP, 1},
};

typedef struct outcome {
	int n_as_begun, n_other_version, n_neither, n_failed;
	int n_after_swap_right, n_after_swap; /* begun after the last swap */
	int64_t n_swaps;
	rv_scheduler_stats stats;
} outcome;

static int is_version(const ticket *t, int kind_number, int v) {
	return t->n_got == KIT_NEW &&
	       memcmp(t->got, under[v][kind_number].alone, KIT_NEW * sizeof *t->got) == 0;
}

/* Submits, swaps and steps at random; swaps end when all have been submitted and half are done. */
static void random_schedule(const setting *o, uint64_t seed, outcome *out) {
	rv_rng rng;
	rv_scheduler *s;
	rv_context *ctx = kit_context(model, o->n_seqs, o->step_rows, o->page_size, o->budget_bytes);
	rv_scheduler_options options = rv_scheduler_defaults();
	static ticket tickets[N_REQUESTS];
	int kind_of[N_REQUESTS], begun[N_REQUESTS], calm[N_REQUESTS] = {0}, now = 0, n = 0, calms = 0;
	int64_t n_live = 0;
	options.preempt = o->preempt;
	options.age_steps = 4;
	if (o->prefix)
		assert_ok(rv_prefix_cache_create(&options.prefix, ctx));
	assert_ok(rv_scheduler_create(&s, ctx, &options));
	rv_rng_seed(&rng, seed);
	while (n < N_REQUESTS || n_live > 0) {
		for (uint64_t more = rv_rng_below(&rng, 4); more > 0 && n < N_REQUESTS; more--, n++) {
			kind_of[n] = (int)rv_rng_below(&rng, N_KINDS);
			begun[n] = -1;
			ticket_submit(s, &tickets[n], &under[0][kind_of[n]],
			              (int32_t)rv_rng_below(&rng, 3) - 1);
		}
		calms = n > N_REQUESTS / 2;
		if (!calms && rv_rng_below(&rng, 3) == 0) {
			now = !now;
			const rv_adapter_use use = {kit_adapters[1 + now], 1};
			assert_ok(rv_context_swap_adapters(ctx, SET, &use, 1));
			out->n_swaps++;
		}
		assert_ok(rv_scheduler_step(s, &n_live));
		for (int i = 0; i < n; i++) {
			rv_request_info info;
			if (begun[i] < 0 && (tickets[i].n_done ||
			                     (rv_scheduler_find(s, tickets[i].id, &info) == RV_OK &&
			                      info.n_cached > 0))) {
				begun[i] = now;
				calm[i] = calms;
			}
		}
	}
	for (int i = 0; i < N_REQUESTS; i++) {
		out->n_failed += tickets[i].status != RV_OK;
		int right = is_version(&tickets[i], kind_of[i], begun[i]);
		int other = is_version(&tickets[i], kind_of[i], !begun[i]);
		out->n_as_begun += right;
		out->n_other_version += other;
		out->n_neither += !right && !other;
		out->n_after_swap += calm[i];
		out->n_after_swap_right += calm[i] && right;
	}
	rv_scheduler_stats stats;
	rv_scheduler_get_stats(s, &stats);
	out->stats.n_preempted += stats.n_preempted;
	out->stats.n_swapped += stats.n_swapped;
	out->stats.prefix_tokens += stats.prefix_tokens;
	rv_scheduler_destroy(s);
	rv_prefix_cache_destroy(options.prefix);
	if (!options.prefix)
		for (int32_t i = 0; i < o->n_seqs; i++)
			assert_int_equal(rv_seq_length(ctx, i), 0);
	rv_context_destroy(ctx);
}

static outcome run_all(int pinned) {
	outcome all = {0};
	kit_pinned = pinned;
	for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
		for (uint64_t seed = 0; seed < 3; seed++)
			random_schedule(&settings[i], 100 * i + seed, &all);
	kit_pinned = 0;
	print_message("# %s: %d requests as begun, %d of the other version, %d of neither; %lld swaps, "
	              "%lld gave way, %lld kept aside, %lld tokens from the cache\n",
	              pinned ? "pinned" : "not pinned", all.n_as_begun, all.n_other_version,
	              all.n_neither, (long long)all.n_swaps, (long long)all.stats.n_preempted,
	              (long long)all.stats.n_swapped, (long long)all.stats.prefix_tokens);
	assert_int_equal(all.n_failed, 0);
	assert_true(all.n_swaps > 50 && all.stats.n_preempted > 20 && all.stats.n_swapped > 5);
	assert_int_equal(all.n_after_swap_right, all.n_after_swap);
	assert_true(all.n_after_swap > 50);
	return all;
}

static void pinned_requests_keep_their_version(void **state) {
	(void)state;
	const outcome all = run_all(1);
	assert_int_equal(all.n_other_version, 0);
	assert_int_equal(all.n_neither, 0);
}

/* And so the checker's control: tokens of several versions are those of neither. */
static void others_take_the_newest(void **state) {
	(void)state;
	assert_true(run_all(0).n_neither > 20);
}

/* Setting, which is no swap, still ends a request that gave way: it could not go on as it began. */
static void setting_ends_what_gave_way(void **state) {
	(void)state;
	rv_context *ctx = kit_context(model, 1, 16, 16, 0);
	rv_scheduler *s;
	ticket first = {0}, second = {0};
	int64_t n_live;
	assert_ok(rv_scheduler_create(&s, ctx, NULL));
	for (int swapped = 0; swapped < 2; swapped++) {
		const rv_adapter_use use = {kit_adapters[1 + swapped], 1};
		ticket_submit(s, &first, &under[0][1], -1);
		for (int i = 0; i < 8; i++)
			assert_ok(rv_scheduler_step(s, &n_live));
		/* Takes the only sequence, and ends at once: it is emptied while the first one waits.
		 */
		kind brief = under[0][2];
		brief.request.max_tokens = 1;
		brief.request.prompt = brief.prompt;
		ticket_submit(s, &second, &brief, 9);
		while (!second.n_done)
			assert_ok(rv_scheduler_step(s, &n_live));
		assert_int_equal(first.n_done, 0);
		assert_ok((swapped ? rv_context_swap_adapters : rv_context_set_adapters)(ctx, SET, &use,
		                                                                         1));
		assert_ok(rv_scheduler_run(s));
		assert_int_equal(first.status, swapped ? RV_OK : RV_ERR_MISMATCH);
	}
	rv_scheduler_destroy(s);
	rv_context_destroy(ctx);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(pinned_requests_keep_their_version),
	        cmocka_unit_test(others_take_the_newest),
	        cmocka_unit_test(setting_ends_what_gave_way),
	};
	return cmocka_run_group_tests(tests, open_kinds, close_model);
}
