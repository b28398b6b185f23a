/* Many adapters in one batch: every row has the bits it has alone, whatever stands beside it, however
 * the batch is cut and however many threads share it. */
#include "engine/context.h"
#include "tests/support/made_adapter.h"
#include "tests/support/tiny_model.h"

enum { N_VOCAB = 320, N_SETS = 66, N_TOKENS = 6, N_SEQS = N_SETS + 1 };

static rv_model *model;
static rv_adapter *adapters[N_SETS];
static float alone[N_SEQS][N_TOKENS][N_VOCAB];

static rv_context *open_context(rv_backend_kind backend, int32_t n_seqs, int32_t n_batch,
                                int n_threads) {
	rv_context *ctx;
	rv_context_options o = rv_context_defaults();
	o.n_ctx = 16;
	o.n_seqs = n_seqs;
	o.n_batch = n_batch;
	o.backend = backend;
	o.page_size = 8;
	o.n_threads = n_threads;
	o.pin = 0;
	assert_ok(rv_context_create(&ctx, model, &o));
	return ctx;
}

static int32_t token(int seq, int i) {
	return (int32_t)((seq * 29 + i * 67 + 5) % N_VOCAB);
}

static rv_row row(int32_t seq, int i, int32_t set) {
	return (rv_row){token(seq, i), seq, i, -1, set, RV_ROW_LOGITS};
}

/* Set 0 is empty, set i holds adapter i - 1; each third one another besides. */
static void fill_set(rv_context *ctx, int32_t set, int32_t number) {
	const rv_adapter_use uses[] = {{adapters[number - 1], 1 + 0.01 * number},
	                               {adapters[number % N_SETS], -0.5}};
	assert_ok(rv_context_set_adapters(ctx, set, uses, number % 3 == 0 ? 2 : 1));
}

static int open_model(void **state) {
	rv_hparams hp = tiny_hparams();
	(void)state;
	hp.n_layers = 2;
	hp.n_embd = hp.n_ff = 128;
	hp.n_heads = 2;
	hp.n_kv_heads = 1;
	hp.n_vocab = N_VOCAB;
	model = tiny_model_of(&hp, "qwen2", "Q8_0", 3);
	for (int i = 0; i < N_SETS; i++) {
		/* of several ranks, sites and layers */
		const rv_site site = (rv_site)(i % RV_SITE_COUNT);
		adapters[i] = made_adapter(model, "random", rv_site_roles(site), i % 2, 1 + i % 9,
		                           (uint64_t)i + 1);
	}
	return 0;
}

static int close_model(void **state) {
	(void)state;
	for (int i = 0; i < N_SETS; i++)
		rv_adapter_release(adapters[i]);
	rv_model_release(model);
	return 0;
}

/* Token by token, in a context that holds nothing else. */
static void run_alone(rv_backend_kind backend) {
	for (int s = 0; s < N_SEQS; s++) {
		rv_context *ctx = open_context(backend, 1, 4, 1);
		if (s > 0)
			fill_set(ctx, 1, s);
		for (int i = 0; i < N_TOKENS; i++) {
			rv_row r = row(s, i, s > 0);
			r.seq = 0;
			assert_ok(rv_context_eval(ctx, &r, 1));
			memcpy(alone[s][i], rv_context_logits(ctx, 0), sizeof alone[s][i]);
		}
		rv_context_destroy(ctx);
	}
}

static int64_t n_wrong(rv_context *ctx, const rv_row *rows, int n) {
	int64_t wrong = 0;
	for (int i = 0; i < n; i++)
		wrong += memcmp(rv_context_logits(ctx, i), alone[rows[i].seq][rows[i].position],
		                sizeof alone[0][0]) != 0;
	return wrong;
}

/* All sequences side by side, `each` tokens of each at a time, sorted or interleaved. */
static void run_together(rv_context *ctx, int each, int interleaved) {
	static rv_row rows[N_SEQS * N_TOKENS];
	for (int at = 0; at < N_TOKENS; at += each) {
		int n = 0;
		for (int a = 0; a < (interleaved ? each : N_SEQS); a++)
			for (int b = 0; b < (interleaved ? N_SEQS : each); b++) {
				int s = interleaved ? b : a, i = at + (interleaved ? a : b);
				if (i < N_TOKENS)
					rows[n++] = row(s, i, s);
			}
		assert_ok(rv_context_eval(ctx, rows, n));
		assert_int_equal(n_wrong(ctx, rows, n), 0);
	}
	/* Control: the set beside it gives other bits. */
	rv_row other = row(0, 0, 2);
	assert_ok(rv_seq_truncate(ctx, 0, 0));
	assert_ok(rv_context_eval(ctx, &other, 1));
	assert_int_equal(n_wrong(ctx, &other, 1), 1);
	for (int s = 0; s < N_SEQS; s++)
		assert_ok(rv_seq_truncate(ctx, s, 0));
}

static void rows_are_as_alone(void **state) {
	(void)state;
	static const rv_backend_kind backends[] = {RV_BACKEND_SIMD, RV_BACKEND_REF};
	for (int b = 0; b < 2; b++) {
		run_alone(backends[b]);
		for (int s = 1; s < N_SEQS; s++)
			assert_memory_not_equal(alone[s][1], alone[0][1], sizeof alone[0][1]);
		for (int n_threads = 1; n_threads <= (b ? 1 : 3); n_threads++) {
			rv_context *ctx =
			        open_context(backends[b], N_SEQS, N_SEQS * N_TOKENS, n_threads);
			for (int32_t s = 1; s < N_SEQS; s++)
				fill_set(ctx, s, s);
			for (int each = 1; each <= N_TOKENS; each = each * 2 + 1)
				run_together(ctx, each, each % 2 == n_threads % 2);
			rv_context_destroy(ctx);
		}
	}
}

/* The same while other sets are swapped all the time: sequences of a set that is not are not touched.
 */
static void swaps_beside(void **state) {
	(void)state;
	rv_context *ctx = open_context(RV_BACKEND_SIMD, N_SEQS, N_SEQS, 2);
	rv_row rows[N_SEQS];
	run_alone(RV_BACKEND_SIMD);
	for (int32_t s = 1; s < N_SEQS; s++)
		fill_set(ctx, s, s);
	for (int i = 0; i < N_TOKENS; i++) {
		int n = 0;
		for (int32_t s = 0; s < N_SEQS; s++)
			rows[n++] = row(s, i, s);
		assert_ok(rv_context_eval(ctx, rows, n));
		for (int s = 0; s < N_SEQS; s++) {
			int untouched = s % 5 != 0 || s == 0;
			int as_alone =
			        memcmp(rv_context_logits(ctx, s), alone[s][i], sizeof alone[0][0]) == 0;
			if (untouched)
				assert_true(as_alone);
			else if (i > 0) /* control */
				assert_false(as_alone);
		}
		for (int32_t s = 5; s < N_SEQS; s += 5) {
			const rv_adapter_use use = {adapters[(s + 7 * i + 1) % N_SETS], 3};
			assert_ok(rv_context_swap_adapters(ctx, s, &use, 1));
		}
	}
	rv_context_destroy(ctx);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(rows_are_as_alone),
	        cmocka_unit_test(swaps_beside),
	};
	return cmocka_run_group_tests(tests, open_model, close_model);
}
