/* A prompt that begins with cached pages gives the bits of a cold run, whatever page size, threads,
 * chunks and adapters. */
#include "engine/generate.h"
#include "engine/kv_policy.h"
#include "tests/engine/prefix_kit.h"

enum { N_AFTER = 3 };

static rv_context *open_paged(int32_t page_size, int32_t n_batch, int n_threads) {
	rv_context_options o = context_options(RV_KV_F16);
	o.n_batch = n_batch;
	o.page_size = page_size;
	o.n_threads = n_threads;
	return kv_context(model, o);
}

/* ---- cold runs: a context in one piece, its sequence emptied before ---- */

typedef struct answer {
	float logits[N_AFTER + 1]
	            [N_VOCAB]; /* of the prompt's last token and of those chosen after it */
} answer;

static int32_t best(const float *logits) {
	int32_t id = 0;
	for (int32_t i = 1; i < N_VOCAB; i++)
		id = logits[i] > logits[id] ? i : id;
	return id;
}

/* Keeps the logits and goes on greedily. */
static void answer_after(rv_context *ctx, int32_t seq, int32_t adapter, const float *logits,
                         answer *a) {
	for (int i = 0;; i++) {
		memcpy(a->logits[i], logits, sizeof a->logits[i]);
		if (i == N_AFTER)
			return;
		int32_t id = best(logits);
		assert_ok(append(ctx, seq, &id, 1, adapter, &logits));
	}
}

static void cold_run(rv_context *cold, const int32_t *tokens, int64_t n, int32_t adapter, answer *a) {
	rv_prompt_result r;
	assert_ok(rv_seq_truncate(cold, 0, 0));
	assert_ok(rv_prompt_eval(cold, NULL, 0, tokens, n, adapter, &r));
	assert_int_equal(r.n_cached, 0);
	answer_after(cold, 0, adapter, r.logits, a);
	assert_ok(rv_seq_truncate(cold, 0, 0));
}

static int same(const answer *a, const answer *b) {
	return memcmp(a, b, sizeof *a) == 0;
}

/* ---- invariance ---- */

/* Prompts that share 0, 1, half a page, pages, all but one token, all, with one that came before. */
static void hits_give_the_bits_of_cold_runs(void **state) {
	(void)state;
	static const int64_t shared[] = {0, 1, 37, 64, 100, 255, 256, 300, 449, 450, 450};
	enum { N_PROMPTS = sizeof shared / sizeof shared[0], N = 450 };
	static const struct {
		int32_t page_size, n_batch;
		int n_threads;
	} settings[] = {{8, 64, 2}, {16, 19, 1}, {32, 512, 3}, {64, 1, 1}, {128, 33, 2}, {256, 64, 1}};
	static answer colds[N_PROMPTS], warm;
	static int32_t prompts[N_PROMPTS][N];
	rv_context *cold = open_cold(RV_KV_F16);
	for (int p = 0; p < N_PROMPTS; p++) {
		some_tokens(prompts[p], N, p);
		memcpy(prompts[p], prompts[0], (size_t)shared[p] * sizeof **prompts);
		cold_run(cold, prompts[p], N, 0, &colds[p]);
	}
	for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
		rv_prefix_cache *cache;
		rv_context *ctx =
		        open_paged(settings[i].page_size, settings[i].n_batch, settings[i].n_threads);
		assert_ok(rv_prefix_cache_create(&cache, ctx));
		for (int p = 0; p < N_PROMPTS; p++) {
			rv_prompt_result r;
			int32_t seq = p % N_SEQS;
			/* Every page but the last, part of one is full: so much can be found. */
			int64_t full = N / settings[i].page_size * settings[i].page_size;
			int64_t expected = shared[p] < full ? shared[p] : full;
			expected = p == 0 ? 0 : expected < N - 1 ? expected : N - 1;
			assert_ok(rv_seq_truncate(ctx, seq, 0));
			assert_int_equal(rv_prefix_cache_match(cache, 0, prompts[p], N), expected);
			assert_ok(rv_prompt_eval(ctx, cache, seq, prompts[p], N, 0, &r));
			assert_int_equal(r.n_cached, expected);
			answer_after(ctx, seq, 0, r.logits, &warm);
			if (!same(&warm, &colds[p]))
				fail_msg("page size %d, prompt %d: other bits than cold",
				         settings[i].page_size, p);
			check(ctx, cache);
		}
		rv_prefix_cache_destroy(cache);
		rv_context_destroy(ctx);
	}
	assert_false(same(&colds[0], &colds[8])); /* the comparison looks at something */
	rv_context_destroy(cold);
}

/* Turns of a chat: each prompt is all before it, the answer included, and some more. Sequences are
 * emptied after each answer, and nothing is evaluated twice but the last token chosen, which never was
 * before. */
static void a_chat(void **state) {
	(void)state;
	static answer expected, found;
	for (int32_t page_size = 8; page_size <= 256; page_size *= 2) {
		rv_context *cold = open_cold(RV_KV_F16), *ctx = open_paged(page_size, 64, 2);
		rv_prefix_cache *cache;
		int32_t tokens[CTX];
		int64_t held = 0;
		assert_ok(rv_prefix_cache_create(&cache, ctx));
		for (int32_t turn = 0, n = 0; turn < 7; turn++) {
			int32_t more[61], seq = turn % N_SEQS;
			rv_prompt_result r;
			some_tokens(more, 61, turn);
			memcpy(tokens + n, more, sizeof more);
			n += 61;
			cold_run(cold, tokens, n, 0, &expected);
			assert_ok(rv_prompt_eval(ctx, cache, seq, tokens, n, 0, &r));
			assert_int_equal(r.n_cached, held);
			answer_after(ctx, seq, 0, r.logits, &found);
			if (!same(&found, &expected))
				fail_msg("page size %d, turn %d: other bits than cold", page_size,
				         turn);
			for (int i = 0; i < N_AFTER; i++)
				tokens[n + i] = best(found.logits[i]);
			held = n += N_AFTER;
			assert_int_equal(rv_seq_length(ctx, seq), held);
			assert_ok(rv_prefix_cache_keep(cache, seq, tokens, held));
			/* It goes on by itself for a moment: what is kept does not change. */
			assert_ok(append(ctx, seq, more, 1, 0, NULL));
			assert_ok(rv_seq_truncate(ctx, seq, 0));
			tokens[n++] = best(found.logits[N_AFTER]);
			check(ctx, cache);
		}
		rv_prefix_cache_destroy(cache);
		rv_context_destroy(ctx);
		rv_context_destroy(cold);
	}
}

/* ---- identity ---- */

static void begin_with(rv_context *ctx, rv_prefix_cache *cache, int32_t set, const int32_t *tokens,
                       int64_t n, int64_t n_cached, answer *a) {
	rv_prompt_result r;
	assert_ok(rv_prompt_eval(ctx, cache, 0, tokens, n, set, &r));
	assert_int_equal(r.n_cached, n_cached);
	answer_after(ctx, 0, set, r.logits, a);
	assert_ok(rv_seq_truncate(ctx, 0, 0));
}

/* The same prompt without adapters, under one, under another in the same set, and back. */
static void adapters_are_told_apart(void **state) {
	(void)state;
	enum { N = 150, FOUND = 128 };
	static answer colds[3], warm;
	int32_t tokens[N];
	rv_prefix_cache *cache;
	rv_context *cold = open_cold(RV_KV_F16), *ctx = open_paged(64, 64, 2);
	const rv_adapter_use uses[] = {{adapters[0], 1}, {adapters[1], 1}};
	some_tokens(tokens, N, 3);
	cold_run(cold, tokens, N, 2, &colds[0]);
	for (int i = 0; i < 2; i++) {
		assert_ok(rv_context_set_adapters(cold, 2, &uses[i], 1));
		cold_run(cold, tokens, N, 2, &colds[1 + i]);
	}
	assert_false(same(&colds[0], &colds[1]) || same(&colds[0], &colds[2]) ||
	             same(&colds[1], &colds[2]));
	assert_ok(rv_prefix_cache_create(&cache, ctx));
	static const struct {
		int32_t set;
		int use, found; /* use -1: no adapter; found: in what set it was before */
	} steps[] = {{2, -1, 0}, {2, -1, 1}, {2, 0, 0}, {2, 0, 1}, {2, 1, 0},  {2, 1, 1},
	             {5, 1, 0},  {0, -1, 1}, {2, 0, 0}, {2, 0, 1}, {2, -1, 1}, {7, -1, 1}};
	int now[8] = {-1, -1, -1, -1, -1, -1, -1, -1};
	for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
		int32_t set = steps[i].set;
		if (now[set] != steps[i].use)
			assert_ok(rv_context_set_adapters(ctx, set,
			                                  steps[i].use < 0 ? NULL : &uses[steps[i].use],
			                                  steps[i].use >= 0));
		now[set] = steps[i].use;
		begin_with(ctx, cache, set, tokens, N, steps[i].found ? FOUND : 0, &warm);
		if (!same(&warm, &colds[1 + steps[i].use]))
			fail_msg("step %d: other bits than cold", (int)i);
		check(ctx, cache);
	}
	/* Control: pages taken over from another identity give other bits. */
	const rv_kv_page *pages;
	rv_kv_page kept[2];
	rv_prompt_result r;
	assert_ok(rv_prompt_eval(ctx, cache, 0, tokens, N, 0, &r));
	assert_int_equal(rv_kv_seq_pages(rv_context_kv_pages(ctx), 0, &pages), 3);
	memcpy(kept, pages, sizeof kept);
	assert_ok(rv_seq_attach(ctx, 1, kept, 2, 5));
	assert_ok(rv_prompt_eval(ctx, NULL, 1, tokens + FOUND, N - FOUND, 5, &r));
	answer_after(ctx, 1, 5, r.logits, &warm);
	assert_false(same(&warm, &colds[2]));
	rv_prefix_cache_destroy(cache);
	rv_context_destroy(ctx);
	rv_context_destroy(cold);
}

/* ---- what pages hold ---- */

/* A page that was quantized meanwhile is not handed out, nor is one that follows it; and control: a
 * page with one bit changed gives other bits. */
static void changed_pages(void **state) {
	(void)state;
	enum { N = 300 };
	static answer expected, found;
	int32_t tokens[N];
	rv_context_options o = context_options(RV_KV_F16);
	o.kv_budget_bytes = 2 * BUDGET; /* room for pages of another type */
	rv_context *ctx = kv_context(model, o);
	rv_kv_pages *kv = rv_context_kv_pages(ctx);
	rv_prefix_cache *cache;
	rv_prompt_result r;
	const rv_kv_page *pages;
	rv_kv_page second, coded;
	some_tokens(tokens, N, 1);
	assert_ok(rv_prefix_cache_create(&cache, ctx));
	begin_with(ctx, cache, 0, tokens, N, 0, &expected);
	begin_with(ctx, cache, 0, tokens, N, 256, &found);
	assert_true(same(&found, &expected));
	assert_ok(rv_prefix_cache_attach(cache, 0, 0, tokens, N, &r.n_cached));
	rv_kv_seq_pages(kv, 0, &pages);
	second = pages[1];
	assert_ok(rv_seq_truncate(ctx, 0, 0));
	char *key = rv_kv_page_lane(kv, second, 1).keys;
	key[1] ^= 1;
	begin_with(ctx, cache, 0, tokens, N, 256, &found);
	assert_false(same(&found, &expected));
	key[1] ^= 1;
	begin_with(ctx, cache, 0, tokens, N, 256, &found);
	assert_true(same(&found, &expected));
	assert_ok(rv_kv_page_create(kv, RV_KV_Q8, &coded));
	rv_kv_page_swap(kv, second, coded);
	begin_with(ctx, cache, 0, tokens, N, 64, &found);
	assert_true(same(&found, &expected));
	rv_kv_page_swap(kv, second, coded);
	rv_kv_page_release(kv, coded);
	begin_with(ctx, cache, 0, tokens, N, 256, &found);
	assert_true(same(&found, &expected));
	check(ctx, cache);
	rv_prefix_cache_destroy(cache);
	rv_context_destroy(ctx);
}

/* Under a tiered policy a page is shared while it is hot; the bits are those of a cold run anyway. */
static void under_a_policy(void **state) {
	(void)state;
	static answer expected, found;
	rv_kv_policy policy;
	rv_context_options o = context_options(RV_KV_F16);
	assert_ok(rv_kv_policy_parse(&policy, "two-tier:tail=128"));
	o.kv_policy = &policy;
	rv_context *cold = kv_context(model, o), *ctx = kv_context(model, o);
	rv_prefix_cache *cache;
	int32_t tokens[450];
	some_tokens(tokens, 450, 1);
	assert_ok(rv_prefix_cache_create(&cache, ctx));
	for (int64_t n = 50; n <= 450; n += 100) {
		cold_run(cold, tokens, n, 0, &expected);
		for (int i = 0; i < 2; i++) {
			rv_prompt_result r;
			assert_ok(rv_prompt_eval(ctx, cache, 0, tokens, n, 0, &r));
			answer_after(ctx, 0, 0, r.logits, &found);
			assert_true(same(&found, &expected));
			assert_ok(rv_seq_truncate(ctx, 0, 0));
			check(ctx, cache);
		}
	}
	rv_prefix_cache_stats stats;
	rv_prefix_cache_get_stats(cache, &stats);
	assert_true(stats.tokens_saved > 0);
	rv_prefix_cache_destroy(cache);
	rv_context_destroy(ctx);
	rv_context_destroy(cold);
}

/* ---- generation ---- */

/* The same tokens with a cache, empty or not, as without. */
static void generation(void **state) {
	(void)state;
	enum { N = 100, NEW = 8 };
	int32_t tokens[N], ids[3][NEW];
	rv_context *ctx = open_paged(32, 64, 1);
	rv_prefix_cache *cache;
	assert_ok(rv_prefix_cache_create(&cache, ctx));
	some_tokens(tokens, N, 5);
	for (int i = 0; i < 3; i++) {
		rv_sampler_options how = rv_sampler_defaults();
		rv_sampler *sampler;
		rv_generate_options o = rv_generate_defaults();
		rv_generate_result r;
		o.n_predict = NEW;
		o.prefix = i ? cache : NULL;
		assert_ok(rv_sampler_create(&sampler, &how, N_VOCAB));
		assert_ok(rv_generate(ctx, 0, tokens, N, sampler, &o, ids[i], &r));
		assert_int_equal(r.n_cached, i == 2 ? 96 : 0);
		assert_int_equal(r.n_generated, NEW);
		assert_memory_equal(ids[i], ids[0], sizeof ids[0]);
		rv_sampler_destroy(sampler);
		assert_ok(rv_seq_truncate(ctx, 0, 0));
	}
	rv_prefix_cache_destroy(cache);
	rv_context_destroy(ctx);
}

/* ---- refusals ---- */

static void refusals(void **state) {
	(void)state;
	rv_context *ctx = open_paged(64, 64, 1), *cold = open_cold(RV_KV_F16);
	rv_prefix_cache *cache, *none;
	rv_prompt_result r = {.n_cached = -1};
	rv_prefix_pin *pin;
	int32_t tokens[CTX + 1];
	int64_t n = 0;
	some_tokens(tokens, CTX + 1, 1);
	assert_int_equal(rv_prefix_cache_create(&none, cold), RV_ERR_INVALID);
	assert_null(none);
	rv_prefix_cache_destroy(none);
	assert_ok(rv_prefix_cache_create(&cache, ctx));
	assert_int_equal(rv_prompt_eval(ctx, cache, N_SEQS, tokens, 1, 0, &r), RV_ERR_INVALID);
	assert_int_equal(rv_prompt_eval(ctx, cache, 0, tokens, 0, 0, &r), RV_ERR_INVALID);
	assert_int_equal(rv_prompt_eval(ctx, cache, 0, tokens, 1, RV_ADAPTER_SETS, &r), RV_ERR_INVALID);
	assert_int_equal(rv_prompt_eval(ctx, cache, 0, tokens, CTX + 1, 0, &r), RV_ERR_LIMIT);
	assert_int_equal(r.n_cached, -1);
	assert_ok(rv_prompt_eval(ctx, cache, 0, tokens, 100, 0, &r));
	/* Again, with a token that does not exist: what was attached is gone. */
	int32_t id = tokens[90];
	tokens[90] = N_VOCAB;
	assert_int_equal(rv_prompt_eval(ctx, cache, 1, tokens, 100, 0, &r), RV_ERR_INVALID);
	tokens[90] = id;
	assert_int_equal(rv_seq_length(ctx, 1), 0);
	assert_int_equal(rv_prompt_eval(ctx, cache, 1, tokens, CTX + 1, 0, &r), RV_ERR_LIMIT);
	assert_int_equal(rv_seq_length(ctx, 1), 0);
	/* A sequence that holds tokens goes on with what comes, uncached. */
	assert_ok(rv_prompt_eval(ctx, cache, 0, tokens, 100, 0, &r));
	assert_int_equal(r.n_cached, 0);
	assert_int_equal(rv_seq_length(ctx, 0), 200);
	assert_int_equal(rv_prefix_cache_attach(cache, 0, 0, tokens, 100, &n), RV_ERR_INVALID);
	assert_int_equal(rv_prefix_cache_attach(cache, -1, 0, tokens, 100, &n), RV_ERR_INVALID);
	assert_int_equal(rv_prefix_cache_insert(cache, 0, tokens, 201), RV_ERR_INVALID);
	assert_int_equal(rv_prefix_cache_insert(cache, 0, tokens, -1), RV_ERR_INVALID);
	assert_int_equal(rv_prefix_cache_insert(cache, N_SEQS, tokens, 0), RV_ERR_INVALID);
	assert_ok(rv_prefix_cache_insert(cache, 1, tokens, 0));
	assert_int_equal(rv_prefix_cache_pin(cache, -1, tokens, 100, &pin, &n), RV_ERR_NOT_FOUND);
	assert_int_equal(rv_prefix_cache_pin(cache, 0, tokens, 63, &pin, &n), RV_ERR_NOT_FOUND);
	assert_int_equal(rv_prefix_cache_pin(cache, 0, tokens, -1, &pin, &n), RV_ERR_NOT_FOUND);
	assert_null(pin);
	assert_int_equal(rv_prefix_cache_match(cache, -1, tokens, 100), 0);
	assert_int_equal(rv_prefix_cache_match(cache, RV_ADAPTER_SETS, tokens, 100), 0);
	assert_int_equal(rv_prefix_cache_match(cache, 0, tokens, 0), 0);
	assert_int_equal(rv_prefix_cache_match(cache, 0, tokens, 1), 0);
	assert_int_equal(rv_prefix_cache_match(cache, 0, tokens, 2), 1);
	assert_int_equal(rv_prefix_cache_match(cache, 0, tokens, 64), 63);
	assert_int_equal(rv_prefix_cache_match(cache, 0, tokens, 65), 64);
	check(ctx, cache);
	rv_prefix_cache_destroy(cache);
	rv_context_destroy(ctx);
	rv_context_destroy(cold);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(hits_give_the_bits_of_cold_runs),
	        cmocka_unit_test(a_chat),
	        cmocka_unit_test(adapters_are_told_apart),
	        cmocka_unit_test(changed_pages),
	        cmocka_unit_test(under_a_policy),
	        cmocka_unit_test(generation),
	        cmocka_unit_test(refusals),
	};
	return cmocka_run_group_tests_name("prefix cache", tests, make_world, remove_world);
}
