/* Sequences whose adapters were swapped under them: told apart from those of one version, never shared
 * or resumed as pure; what begins anew has the bits of a cold run. */
#include "engine/kv_pages.h"
#include "engine/kv_spill.h"
#include "engine/prefix_cache.h"
#include "model/adapter_slot.h"
#include "tests/engine/swap_kit.h"

/* A prompt begun with what is cached; the logits of its last token. */
static const float *begin(rv_context *ctx, rv_prefix_cache *cache, int32_t seq, int prompt,
                          int64_t *n_cached) {
	int32_t tokens[N_TOKENS];
	rv_prompt_result r;
	for (int i = 0; i < N_TOKENS; i++)
		tokens[i] = token(prompt, i);
	assert_ok(rv_seq_truncate(ctx, seq, 0));
	assert_ok(rv_prompt_eval(ctx, cache, seq, tokens, N_TOKENS, SET, &r));
	*n_cached = r.n_cached;
	return r.logits;
}

/* Random beginnings, continuations, offers and swaps: what begins anew always has the bits of a cold
 * run, whatever mixed sequences were offered in between. */
static void mixed_never_enter_the_cache(void **state) {
	(void)state;
	rv_context *ctx = open_context(2, 32, 0);
	rv_prefix_cache *cache;
	rv_rng rng;
	int now = VERSIONS, n_hits = 0, n_mixed = 0, prompt_of[4] = {0};
	int32_t tokens[N_CTX];
	rv_rng_seed(&rng, 11);
	assert_ok(rv_prefix_cache_create(&cache, ctx));
	for (int step = 0; step < 1500; step++) {
		const int32_t seq = (int32_t)rv_rng_below(&rng, 4), to = (seq + 1) % 4;
		const int64_t length = rv_seq_length(ctx, seq);
		int64_t n_cached;
		switch (rv_rng_below(&rng, 6)) {
		case 0:
			now = (int)rv_rng_below(&rng, VERSIONS + 1);
			use(ctx, now < VERSIONS ? adapters[now] : NULL);
			break;
		case 1:
			prompt_of[seq] = (int)rv_rng_below(&rng, PROMPTS);
			if (!same(begin(ctx, cache, seq, prompt_of[seq], &n_cached),
			          cold[now][prompt_of[seq]]))
				fail_msg("step %d: other bits than cold, %d from the cache", step,
				         (int)n_cached);
			assert_int_equal(rv_seq_adapter_version(ctx, seq),
			                 rv_context_adapter_version(ctx, SET));
			n_hits += n_cached > 0;
			break;
		case 2:
			if (length > 0 && length < N_CTX - 8)
				go_on(ctx, seq, prompt_of[seq], 1 + (int)rv_rng_below(&rng, 8));
			break;
		case 3:
			if (length > 0) {
				assert_ok(rv_seq_copy(ctx, seq, to, length - length / 4));
				prompt_of[to] = prompt_of[seq];
			}
			break;
		default:
			for (int i = 0; i < length; i++)
				tokens[i] = token(prompt_of[seq], i);
			assert_ok((step % 2 ? rv_prefix_cache_insert
			                    : rv_prefix_cache_keep)(cache, seq, tokens, length));
			n_mixed += rv_seq_adapter_version(ctx, seq) == RV_ADAPTER_MIXED;
		}
		assert_ok(rv_prefix_cache_verify(cache));
	}
	print_message("# %d beginnings from the cache, %d mixed sequences offered\n", n_hits, n_mixed);
	assert_true(n_hits > 20 && n_mixed > 20);
	rv_prefix_cache_destroy(cache);
	rv_context_destroy(ctx);
}

/* Control: keys and values of a mixed sequence do give other bits, were they taken for pure. */
static void mixed_is_not_pure(void **state) {
	(void)state;
	rv_context *ctx = open_context(1, 64, 0);
	const rv_kv_page *pages;
	rv_kv_page kept[2];
	use(ctx, adapters[0]);
	go_on(ctx, 0, 0, 20);
	const uint64_t first = rv_seq_adapter_version(ctx, 0);
	assert_int_equal(first, rv_context_adapter_version(ctx, SET));
	use(ctx, adapters[1]);
	assert_int_equal(rv_seq_adapter_version(ctx, 0), first); /* until its next token */
	const float *logits = go_on(ctx, 0, 0, N_TOKENS - 20);
	assert_int_equal(rv_seq_adapter_version(ctx, 0), RV_ADAPTER_MIXED);
	assert_false(same(logits, cold[0][0]) || same(logits, cold[1][0]));
	rv_kv_seq_pages(rv_context_kv_pages(ctx), 0, &pages);
	memcpy(kept, pages, sizeof kept);
	assert_ok(rv_seq_attach(ctx, 1, kept, 2, SET));
	assert_false(same(go_on(ctx, 1, 0, N_TOKENS - 2 * PAGE), cold[1][0]));
	/* Emptied and begun anew it is pure again; cut it stays mixed. */
	assert_ok(rv_seq_truncate(ctx, 0, 5));
	assert_int_equal(rv_seq_adapter_version(ctx, 0), RV_ADAPTER_MIXED);
	assert_ok(rv_seq_truncate(ctx, 0, 0));
	assert_int_equal(rv_seq_adapter_version(ctx, 0), 0);
	assert_true(same(go_on(ctx, 0, 0, N_TOKENS), cold[1][0]));
	assert_int_equal(rv_seq_adapter_version(ctx, 0), rv_context_adapter_version(ctx, SET));
	rv_context_destroy(ctx);
}

/* A pinned sequence goes on as if nothing had been swapped, and so does its copy. */
static void pinned_goes_on(void **state) {
	(void)state;
	rv_context *ctx = open_context(1, 64, 1);
	use(ctx, adapters[0]);
	go_on(ctx, 0, 0, 20);
	use(ctx, adapters[1]);
	assert_true(same(go_on(ctx, 1, 0, N_TOKENS), cold[1][0]));
	go_on(ctx, 0, 0, 10);
	assert_ok(rv_seq_copy(ctx, 0, 2, 25));
	use(ctx, NULL);
	assert_true(same(go_on(ctx, 0, 0, 10), cold[0][0]));
	assert_true(same(go_on(ctx, 2, 0, 15), cold[0][0]));
	assert_true(rv_seq_adapter_version(ctx, 2) != RV_ADAPTER_MIXED);
	assert_ok(rv_seq_truncate(ctx, 0, 0));
	assert_true(same(go_on(ctx, 0, 0, N_TOKENS), cold[VERSIONS][0]));
	rv_context_destroy(ctx);
}

/* Draft rows keep the version they were evaluated under when they are accepted after a swap. */
static void drafts_across_a_swap(void **state) {
	(void)state;
	rv_context *ctx = open_context(1, 64, 0);
	rv_row rows[3];
	float plainly[N_VOCAB];
	const int32_t path[] = {1, 2, 3};
	use(ctx, adapters[0]);
	go_on(ctx, 0, 0, 23);
	go_on(ctx, 1, 0, 20);
	const uint64_t older = rv_seq_adapter_version(ctx, 1);
	for (int i = 0; i < 3; i++)
		rows[i] = (rv_row){token(0, 20 + i), 1, 20 + i, i, SET, RV_ROW_LOGITS};
	assert_ok(rv_context_eval(ctx, rows, 3));
	use(ctx, adapters[1]);
	memcpy(plainly, go_on(ctx, 0, 0, 5), sizeof plainly);
	assert_ok(rv_seq_accept(ctx, 1, path, 3));
	assert_int_equal(rv_seq_adapter_version(ctx, 1), older);
	assert_true(same(go_on(ctx, 1, 0, 5), plainly));
	assert_int_equal(rv_seq_adapter_version(ctx, 1), RV_ADAPTER_MIXED);
	assert_false(same(plainly, cold[0][0]));
	rv_context_destroy(ctx);
}

/* What a sequence took from the cache decides under which version its prompt ends. */
static void attached_under_one_version(void **state) {
	(void)state;
	rv_context *ctx = open_context(1, 64, 0);
	rv_prefix_cache *cache;
	rv_adapter_slot *slot;
	int32_t tokens[N_TOKENS];
	int64_t n_cached;
	for (int i = 0; i < N_TOKENS; i++)
		tokens[i] = token(0, i);
	assert_ok(rv_adapter_slot_create(&slot, model));
	assert_ok(rv_prefix_cache_create(&cache, ctx));
	assert_ok(rv_adapter_slot_publish(slot, adapters[0], NULL));
	assert_ok(rv_context_follow_slot(ctx, SET, slot, 1));
	assert_true(same(begin(ctx, cache, 0, 0, &n_cached), cold[0][0]));
	assert_int_equal(n_cached, 0);
	assert_ok(rv_prefix_cache_attach(cache, 1, SET, tokens, N_TOKENS, &n_cached));
	assert_true(n_cached >= 2 * PAGE);
	assert_ok(rv_adapter_slot_publish(slot, adapters[1], NULL));
	assert_true(same(go_on(ctx, 1, 0, N_TOKENS - (int)n_cached), cold[0][0]));
	assert_true(rv_seq_adapter_version(ctx, 1) != RV_ADAPTER_MIXED);
	go_on(ctx, 1, 0, 1); /* the next token is of the newest */
	assert_int_equal(rv_seq_adapter_version(ctx, 1), RV_ADAPTER_MIXED);
	/* And looking something up takes the newest over first. */
	assert_ok(rv_adapter_slot_publish(slot, adapters[2], NULL));
	assert_int_equal(rv_prefix_cache_match(cache, SET, tokens, N_TOKENS), 0);
	assert_true(same(begin(ctx, cache, 2, 0, &n_cached), cold[2][0]));
	rv_prefix_cache_destroy(cache);
	rv_context_destroy(ctx);
	rv_adapter_slot_destroy(slot);
}

/* A file says under what its sequence stood. */
static void saved_sequences(void **state) {
	(void)state;
	char path[1040];
	snprintf(path, sizeof path, "%s.seq", model_path);
	rv_context *ctx = open_context(1, 64, 0);
	use(ctx, adapters[0]);
	go_on(ctx, 0, 0, 30);
	use(ctx, adapters[1]);
	assert_ok(rv_seq_save(ctx, 0, NULL, 0, path)); /* of the version before */
	assert_int_equal(rv_seq_load(ctx, 1, SET, path, NULL, 0, NULL), RV_ERR_MISMATCH);
	use(ctx, adapters[0]);
	assert_ok(rv_seq_load(ctx, 1, SET, path, NULL, 0, NULL));
	assert_int_equal(rv_seq_adapter_version(ctx, 1), rv_context_adapter_version(ctx, SET));
	assert_true(same(go_on(ctx, 1, 0, 10), cold[0][0]));
	use(ctx, adapters[1]);
	go_on(ctx, 0, 0, 3);
	assert_ok(rv_seq_save(ctx, 0, NULL, 0, path)); /* mixed: of no version */
	for (int v = 0; v < 2; v++) {
		use(ctx, adapters[v]);
		assert_int_equal(rv_seq_load(ctx, 2, SET, path, NULL, 0, NULL), RV_ERR_MISMATCH);
	}
	assert_non_null(strstr(rv_error_message(), "and others before"));
	unlink(path);
	rv_context_destroy(ctx);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(mixed_never_enter_the_cache),
	        cmocka_unit_test(mixed_is_not_pure),
	        cmocka_unit_test(pinned_goes_on),
	        cmocka_unit_test(attached_under_one_version),
	        cmocka_unit_test(drafts_across_a_swap),
	        cmocka_unit_test(saved_sequences),
	};
	return cmocka_run_group_tests(tests, open_model, close_model);
}
