/* The prefix cache in a budget too small for all it is offered: it gives way to sequences, which keep
 * the bits of cold runs under random schedules. */
#include "base/rng.h"
#include "tests/engine/prefix_kit.h"

static rv_context *open_small(int32_t page_size) {
	rv_context_options o = context_options(RV_KV_F32);
	o.page_size = page_size;
	o.kv_budget_bytes = BUDGET;
	return kv_context(model, o);
}

typedef struct schedule {
	rv_context *ctx, *cold;
	rv_prefix_cache *cache;
	rv_rng rng;
	int32_t tokens[N_SEQS][CTX], adapter[N_SEQS];
	rv_prefix_pin *pin;
	int n_checked;
} schedule;

static int64_t below(schedule *s, int64_t n) {
	return (int64_t)rv_rng_below(&s->rng, (uint64_t)n);
}

static int64_t length(const schedule *s, int32_t seq) {
	return rv_seq_length(s->ctx, seq);
}

/* Logits of the last token as a cold run gives them. */
static void check_logits(schedule *s, int32_t seq, const float *logits) {
	rv_prompt_result r;
	assert_ok(
	        rv_prompt_eval(s->cold, NULL, 0, s->tokens[seq], length(s, seq), s->adapter[seq], &r));
	assert_memory_equal(logits, r.logits, N_VOCAB * sizeof *logits);
	assert_ok(rv_seq_truncate(s->cold, 0, 0));
	s->n_checked++;
}

/* One of three texts up to a random place, then random. */
static int64_t random_prompt(schedule *s, int32_t *tokens) {
	int64_t n = 1 + below(s, CTX), keep = below(s, n + 1);
	some_tokens(tokens, (int32_t)n, (int32_t)below(s, 3));
	for (int64_t i = keep; i < n; i++)
		tokens[i] = (int32_t)below(s, N_VOCAB);
	return n;
}

static void op_begin(schedule *s, int32_t seq) {
	rv_prompt_result r;
	assert_ok(rv_seq_truncate(s->ctx, seq, 0));
	s->adapter[seq] = (int32_t)below(s, 2);
	int64_t n = random_prompt(s, s->tokens[seq]);
	int64_t found = rv_prefix_cache_match(s->cache, s->adapter[seq], s->tokens[seq], n);
	assert_ok(rv_prompt_eval(s->ctx, s->cache, seq, s->tokens[seq], n, s->adapter[seq], &r));
	assert_int_equal(r.n_cached, found);
	check_logits(s, seq, r.logits);
}

static void op_append(schedule *s, int32_t seq) {
	int64_t at = length(s, seq), n = 1 + below(s, 20);
	const float *logits;
	if (at == 0 || at + n > CTX)
		return;
	for (int64_t i = at; i < at + n; i++)
		s->tokens[seq][i] = (int32_t)below(s, N_VOCAB);
	assert_ok(append(s->ctx, seq, s->tokens[seq] + at, (int32_t)n, s->adapter[seq], &logits));
	check_logits(s, seq, logits);
}

static void op_truncate(schedule *s, int32_t seq) {
	assert_ok(rv_seq_truncate(s->ctx, seq, below(s, length(s, seq) + 1)));
}

static void op_insert(schedule *s, int32_t seq) {
	int64_t n = below(s, length(s, seq) + 1);
	assert_ok((below(s, 2) ? rv_prefix_cache_keep : rv_prefix_cache_insert)(s->cache, seq,
	                                                                        s->tokens[seq], n));
}

static void op_copy(schedule *s, int32_t seq) {
	int32_t to = (int32_t)below(s, N_SEQS);
	memcpy(s->tokens[to], s->tokens[seq], sizeof s->tokens[to]);
	s->adapter[to] = s->adapter[seq];
	assert_ok(rv_seq_copy(s->ctx, seq, to, length(s, seq)));
}

static void op_evict(schedule *s, int32_t seq) {
	(void)seq;
	int64_t n = below(s, 6), can = rv_prefix_cache_reclaimable(s->cache);
	assert_int_equal(rv_prefix_cache_evict(s->cache, n), n < can ? n : can);
}

static void op_pin(schedule *s, int32_t seq) {
	int64_t n;
	rv_prefix_cache_unpin(s->cache, s->pin);
	rv_status st = rv_prefix_cache_pin(s->cache, s->adapter[seq], s->tokens[seq], length(s, seq),
	                                   &s->pin, &n);
	assert_true(st == RV_OK ? s->pin && n > 0 : st == RV_ERR_NOT_FOUND && !s->pin);
}

static void (*const ops[])(schedule *, int32_t) = {op_begin,  op_begin,   op_begin, op_append,
                                                   op_append, op_insert,  op_copy,  op_evict,
                                                   op_pin,    op_truncate};

/* No call is refused: what sequences need is always less than the budget. */
static void random_schedules(void **state) {
	(void)state;
	for (int32_t page_size = 64; page_size <= 128; page_size *= 2) {
		static schedule s;
		const rv_adapter_use use = {adapters[0], 1};
		s = (schedule){.ctx = open_small(page_size), .cold = open_cold(RV_KV_F32)};
		rv_rng_seed(&s.rng, (uint64_t)page_size);
		assert_ok(rv_context_set_adapters(s.ctx, 1, &use, 1));
		assert_ok(rv_context_set_adapters(s.cold, 1, &use, 1));
		assert_ok(rv_prefix_cache_create(&s.cache, s.ctx));
		for (int i = 0; i < 160; i++) {
			ops[below(&s, sizeof ops / sizeof *ops)](&s, (int32_t)below(&s, N_SEQS));
			check(s.ctx, s.cache);
		}
		rv_prefix_cache_stats stats;
		rv_prefix_cache_get_stats(s.cache, &stats);
		print_message(
		        "# pages of %d: %d logits, %lld of %lld prompts hit, %lld of %lld tokens, "
		        "%lld pages evicted\n",
		        page_size, s.n_checked, (long long)stats.n_hits, (long long)stats.n_lookups,
		        (long long)stats.tokens_saved, (long long)stats.tokens_asked,
		        (long long)stats.pages_evicted);
		assert_true(stats.n_hits > 10 && stats.pages_evicted > 10);
		rv_prefix_cache_clear(s.cache);
		check(s.ctx, s.cache);
		rv_prefix_cache_destroy(s.cache);
		for (int32_t seq = 0; seq < N_SEQS; seq++)
			assert_ok(rv_seq_truncate(s.ctx, seq, 0));
		assert_ok(rv_kv_pages_verify(rv_context_kv_pages(s.ctx), 0));
		rv_context_destroy(s.ctx);
		rv_context_destroy(s.cold);
	}
}

/* With every page pinned a prompt is refused, its sequence still empty; unpinned they give way. */
static void full_and_pinned(void **state) {
	(void)state;
	enum { N_PROMPTS = 8 }; /* of 8 pages */
	rv_context *ctx = open_small(64);
	rv_prefix_cache *cache;
	rv_prefix_pin *pins[N_PROMPTS];
	rv_prompt_result r;
	rv_prefix_cache_stats stats;
	rv_kv_stats kv;
	int32_t tokens[CTX];
	int64_t n;
	assert_ok(rv_prefix_cache_create(&cache, ctx));
	for (int p = 0; p < N_PROMPTS; p++) {
		some_tokens(tokens, CTX, p);
		assert_ok(rv_prompt_eval(ctx, cache, 0, tokens, CTX, 0, &r));
		assert_ok(rv_seq_truncate(ctx, 0, 0));
		assert_ok(rv_prefix_cache_pin(cache, 0, tokens, CTX, &pins[p], &n));
		assert_int_equal(n, CTX);
	}
	rv_context_kv_stats(ctx, &kv);
	assert_int_equal(kv.n_free, 0);
	assert_int_equal(rv_prefix_cache_reclaimable(cache), 0);
	some_tokens(tokens, 65, 100);
	assert_int_equal(rv_prompt_eval(ctx, cache, 0, tokens, 65, 0, &r), RV_ERR_LIMIT);
	assert_int_equal(rv_seq_length(ctx, 0), 0);
	check(ctx, cache);
	/* All but the end of the first prompt stays pinned. */
	rv_prefix_cache_unpin(cache, pins[0]);
	assert_int_equal(rv_prefix_cache_reclaimable(cache), 8);
	assert_ok(rv_prompt_eval(ctx, cache, 0, tokens, 65, 0, &r));
	assert_int_equal(r.n_cached, 0);
	check(ctx, cache);
	some_tokens(tokens, CTX, 0);
	assert_int_equal(rv_prefix_cache_match(cache, 0, tokens, CTX), 6 * 64);
	for (int p = 1; p < N_PROMPTS; p++) {
		some_tokens(tokens, CTX, p);
		assert_int_equal(rv_prefix_cache_match(cache, 0, tokens, CTX), CTX - 1);
	}
	rv_prefix_cache_get_stats(cache, &stats);
	assert_int_equal(stats.pages_evicted, 2);
	rv_prefix_cache_clear(cache);
	rv_prefix_cache_get_stats(cache, &stats);
	assert_int_equal(stats.n_pages, 7 * 8);
	rv_prefix_cache_destroy(cache); /* pinned or not */
	rv_context_destroy(ctx);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(random_schedules),
	        cmocka_unit_test(full_and_pinned),
	};
	return cmocka_run_group_tests_name("prefix budget", tests, make_world, remove_world);
}
