/* Captured requests: what was saved is what was computed, whatever the batch; other rows, drafts,
 * re-evaluations and full houses; nothing is allocated by a token. */
#include "base/mem.h"
#include "base/rng.h"
#include "engine/generate.h"
#include "tests/learn/sona_kit.h"

#include <math.h>
#include <stdatomic.h>

/* ---- allocations ---- */

static _Atomic int64_t n_allocations;
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size) {
	atomic_fetch_add(&n_allocations, 1);
	return __real_aligned_alloc(alignment, size);
}

static rv_context *context_of(rv_model *model, int32_t n_seqs, int32_t n_batch,
                              rv_backend_kind backend) {
	rv_context *ctx;
	rv_context_options o = rv_context_defaults();
	o.n_ctx = 256;
	o.n_seqs = n_seqs;
	o.n_batch = n_batch;
	o.backend = backend;
	assert_ok(rv_context_create(&ctx, model, &o));
	return ctx;
}

/* ---- what is saved ---- */

/* Through the last hooked layer's states the model can be finished by hand: final norm (the
 * feed-forward of the last layer ends in it) and output rows give the logits. */
static void states_give_the_logits(void **state) {
	(void)state;
	rv_model *model = tiny_model("qwen2", "F16");
	rv_context *ctx = context_of(model, 1, 512, RV_BACKEND_REF);
	rv_capture *c = kit_attach(ctx, RV_SITE_FFN_OUT);
	const rv_hparams *hp = rv_model_hparams(model);
	const float *norm = rv_model_weight(model, RV_OUTPUT_NORM, 0)->data;
	const rv_weight *out = rv_model_weight(model, RV_OUTPUT, 0);
	int32_t answer[8];
	rv_captured *seen = kit_capture(c, ctx, 1, answer, 8);
	assert_int_equal(seen->n_tokens, 8);
	assert_int_equal(seen->n_missed, 0);
	assert_int_equal(seen->n_parts, 2);
	assert_int_equal(seen->parts[1].layer, 2);
	assert_int_equal(seen->parts[1].n_input, hp->n_ff);
	float *row = (float *)malloc((size_t)hp->n_embd * sizeof *row);
	for (int64_t t = 0; t < 8; t++) {
		const float *h = seen->states[1] + t * seen->n_embd;
		double squares = 0;
		for (int64_t k = 0; k < seen->n_embd; k++)
			squares += (double)(h[k] * h[k]);
		const double scale = 1 / sqrt(squares / (double)seen->n_embd + hp->rms_eps);
		for (int64_t i = 0; i < seen->n_top; i++) {
			double z = 0;
			rv_kernels_for(RV_LEVEL_REF)
			        ->type[out->type]
			        .dequantize(row,
			                    (const char *)out->data +
			                            (size_t)seen->ids[t * 64 + i] * out->row_bytes,
			                    hp->n_embd);
			for (int64_t k = 0; k < seen->n_embd; k++)
				z += (double)row[k] * (double)h[k] * scale * (double)norm[k];
			assert_true(fabs(z - (double)seen->values[t * 64 + i]) < 1e-3);
		}
		assert_int_equal(seen->ids[t * 64 + seen->chosen[t]], answer[t]);
		/* Control: the states of an earlier layer do not. */
		assert_true(fabs((double)(h[1] - seen->states[0][t * seen->n_embd + 1])) > 1e-4);
	}
	free(row);
	rv_captured_release(seen);
	rv_capture_detach(c);
	rv_context_destroy(ctx);
	rv_model_release(model);
}

/* W x of the input saved, added to the state before: the state saved. The input of layer 0 is checked
 * by the output projection: state - W x is the embedding of the row's token. */
static void inputs_give_the_states(void **state) {
	(void)state;
	rv_model *model = tiny_model("qwen2", "F16");
	rv_context *ctx = context_of(model, 1, 512, RV_BACKEND_REF);
	rv_capture *c = kit_attach(ctx, RV_SITE_ATTN_OUT);
	const rv_weight *w = rv_model_weight(model, RV_ATTN_OUT, 0),
	                *embd = rv_model_weight(model, RV_TOKEN_EMBD, 0);
	int32_t answer[5];
	rv_captured *seen = kit_capture(c, ctx, 2, answer, 5);
	const rv_kernels *k = rv_kernels_for(RV_LEVEL_REF);
	float row[256], token[256];
	for (int64_t t = 1; t < 5; t++) {
		k->type[embd->type].dequantize(
		        token, (const char *)embd->data + (size_t)answer[t - 1] * embd->row_bytes, 256);
		for (int64_t r = 0; r < w->rows; r++) {
			double y = (double)token[r];
			k->type[w->type].dequantize(
			        row, (const char *)w->data + (size_t)r * w->row_bytes, w->cols);
			for (int64_t i = 0; i < w->cols; i++)
				y += (double)row[i] * (double)seen->inputs[0][t * w->cols + i];
			assert_true(fabs(y - (double)seen->states[0][t * 256 + r]) < 1e-4);
		}
	}
	rv_captured_release(seen);
	rv_capture_detach(c);
	rv_context_destroy(ctx);
	rv_model_release(model);
}

static int is_same(const rv_captured *x, const rv_captured *y) {
	const size_t n = (size_t)(x->n_tokens * x->n_top);
	int same = x->n_tokens == y->n_tokens && x->n_parts == y->n_parts &&
	           memcmp(x->ids, y->ids, n * sizeof *x->ids) == 0 &&
	           memcmp(x->values, y->values, n * sizeof *x->values) == 0 &&
	           memcmp(x->chosen, y->chosen, (size_t)x->n_tokens * sizeof *x->chosen) == 0;
	for (int i = 0; same && i < x->n_parts; i++)
		same = memcmp(x->inputs[i], y->inputs[i],
		              (size_t)(x->n_tokens * x->parts[i].n_input) * sizeof(float)) == 0 &&
		       memcmp(x->states[i], y->states[i],
		              (size_t)(x->n_tokens * x->n_embd) * sizeof(float)) == 0;
	return same;
}

/* Alone; in small pieces; with another request in the same batches; token by token or as a text that is
 * given: the same bits. */
static void the_batch_does_not_matter(void **state) {
	(void)state;
	enum { N = 12 };
	rv_model *model = tiny_model("qwen2", "Q8_0");
	rv_context *alone = context_of(model, 1, 512, RV_BACKEND_SIMD),
	           *small = context_of(model, 3, 2, RV_BACKEND_SIMD);
	rv_capture *c = kit_attach(alone, RV_SITE_PROJ_QKVO), *d = kit_attach(small, RV_SITE_PROJ_QKVO);
	int32_t answer[N], other[N];
	rv_captured *seen = kit_capture(c, alone, 4, answer, N);
	assert_int_equal(seen->n_tokens, N);
	/* As a given text, between rows of another sequence that is not captured. */
	rv_row rows[3 * (KIT_PROMPT + N)];
	int64_t n = 0;
	kit_serve(small, 2, 9, other, N);
	assert_ok(rv_capture_begin(d, 1, KIT_PROMPT - 1));
	for (int i = 0; i < KIT_PROMPT + N - 1; i++) {
		const int32_t token =
		        i < KIT_PROMPT ? (37 * i + 11 * 4 + 3) % 512 : answer[i - KIT_PROMPT];
		rows[n++] = kit_row(token, 1, i, i >= KIT_PROMPT - 1);
		if (i % 3 == 0)
			rows[n++] = kit_row(other[i % N], 2, rv_seq_length(small, 2) + i / 3, i % 2);
	}
	assert_ok(rv_context_eval(small, rows, 2)); /* at most two outputs a call */
	for (int64_t i = 2; i < n; i += 2)
		assert_ok(rv_context_eval(small, rows + i, n - i < 2 ? n - i : 2));
	rv_captured *again = rv_capture_end(d, 1, answer, N);
	assert_true(is_same(seen, again));
	again->states[0][5] += 1e-3f; /* control */
	assert_false(is_same(seen, again));
	rv_captured_release(seen);
	rv_captured_release(again);
	rv_capture_detach(c);
	rv_capture_detach(d);
	rv_context_destroy(alone);
	rv_context_destroy(small);
	rv_model_release(model);
}

/* ---- gradients with the tokens ---- */

/* Those of the request as it ended, to the bit, whatever was drafted in between. */
static int gradients_are_right(rv_model *model, const rv_captured *seen) {
	rv_local_objective objective;
	rv_level level;
	void *scratch;
	int right = seen->gradients != NULL && seen->n_tokens > 0;
	assert_ok(rv_level_default(&level));
	rv_local_objective_init(&objective, model, rv_kernels_for(level));
	assert_ok(rv_alloc(&scratch, 1, rv_local_scratch_bytes(&objective, seen->n_top, 2), "test"));
	for (int64_t t = 0; right && t < seen->n_tokens; t++) {
		float g[2][256], *to[] = {g[0], g[1]};
		const float *states[] = {seen->states[0] + t * 256, seen->states[1] + t * 256};
		double loss[2];
		const rv_local_token token = {seen->ids + t * seen->n_top,
		                              seen->values + t * seen->n_top,
		                              seen->n_top,
		                              seen->chosen[t],
		                              states,
		                              2};
		rv_local_objective_gradient(&objective, seen->reading, &token, scratch, loss, to);
		right = memcmp(seen->gradients[0] + t * 256, g[0], sizeof g[0]) == 0 &&
		        memcmp(seen->gradients[1] + t * 256, g[1], sizeof g[1]) == 0 &&
		        memcmp(seen->loss + t * 2, loss, sizeof loss) == 0;
	}
	rv_free(scratch);
	return right;
}

/* ---- drafts and second evaluations ---- */

static void rejected_rows(int gradients) {
	enum { N = 6 };
	rv_model *model = tiny_model("qwen2", "Q8_0");
	rv_context *ctx = context_of(model, 1, 512, RV_BACKEND_SIMD);
	rv_capture *c = kit_attach_with(ctx, RV_SITE_ATTN_OUT, gradients);
	int32_t answer[N];
	rv_captured *plain = kit_capture(c, ctx, 5, answer, N);
	/* The prompt, then after two tokens three wrong ones, forgotten again, then the right ones. */
	assert_ok(rv_seq_truncate(ctx, 0, KIT_PROMPT - 1));
	assert_ok(rv_capture_begin(c, 0, KIT_PROMPT - 1));
	rv_row rows[KIT_PROMPT + N];
	rows[0] = kit_row((37 * (KIT_PROMPT - 1) + 11 * 5 + 3) % 512, 0, KIT_PROMPT - 1, 1);
	rows[1] = kit_row(answer[0], 0, KIT_PROMPT, 1);
	for (int i = 2; i < 5; i++)
		rows[i] = kit_row((answer[i - 1] + 1) % 512, 0, KIT_PROMPT - 1 + i, 1);
	assert_ok(rv_context_eval(ctx, rows, 5));
	assert_ok(rv_seq_truncate(ctx, 0, KIT_PROMPT + 1));
	rv_captured *held = rv_capture_end(c, 0, answer, N);
	/* Ended here, the wrong ones are no tokens of the answer. */
	assert_int_equal(held->n_tokens, 2);
	assert_int_equal(held->n_missed, N - 2);
	rv_captured_release(held);
	assert_ok(rv_seq_truncate(ctx, 0, KIT_PROMPT - 1));
	assert_ok(rv_capture_begin(c, 0, KIT_PROMPT - 1));
	assert_ok(rv_context_eval(ctx, rows, 5));
	assert_ok(rv_seq_truncate(ctx, 0, KIT_PROMPT + 1));
	for (int i = 1; i < N - 1; i++) {
		rows[i] = kit_row(answer[i], 0, KIT_PROMPT + i, 1);
		assert_ok(rv_context_eval(ctx, &rows[i], 1));
	}
	rv_captured *seen = rv_capture_end(c, 0, answer, N);
	assert_true(is_same(plain, seen));
	if (gradients == RV_CAPTURE_NOW) {
		assert_true(gradients_are_right(model, plain) && gradients_are_right(model, seen));
		seen->states[1][256] += 1e-3f; /* control */
		assert_false(gradients_are_right(model, seen));
	} else {
		assert_null(plain->gradients);
	}
	rv_captured_release(plain);
	rv_captured_release(seen);
	rv_capture_detach(c);
	rv_context_destroy(ctx);
	rv_model_release(model);
}

static void rejected_rows_give_way(void **state) {
	(void)state;
	rejected_rows(RV_CAPTURE_LATER);
	rejected_rows(RV_CAPTURE_NOW);
}

/* With drafts that are looked up in the text, some of them rejected: what plain decoding captures, to
 * the bit. */
static void speculation_is_captured(void **state) {
	(void)state;
	enum { N = 24 };
	rv_model *model = tiny_model("qwen2", "Q8_0");
	rv_context *ctx = context_of(model, 1, 512, RV_BACKEND_SIMD);
	rv_capture *c = kit_attach(ctx, RV_SITE_ATTN_OUT);
	rv_sampler_options greedy = rv_sampler_defaults();
	int32_t prompt[KIT_PROMPT], answer[2][N];
	rv_captured *seen[2];
	greedy.temperature = 0;
	for (int i = 0; i < KIT_PROMPT; i++)
		prompt[i] = 5 + i % 2;
	for (int drafted = 0; drafted < 2; drafted++) {
		rv_sampler *sampler;
		rv_speculator *speculator = NULL;
		rv_spec_options spec = rv_spec_defaults();
		rv_generate_options how = rv_generate_defaults();
		rv_generate_result result;
		spec.draft = RV_SPEC_LOOKUP;
		spec.rule = RV_SPEC_GREEDY;
		assert_ok(rv_seq_truncate(ctx, 0, 0));
		assert_ok(rv_sampler_create(&sampler, &greedy, 512));
		if (drafted)
			assert_ok(rv_speculator_create(&speculator, ctx, NULL, &spec));
		how.n_predict = N;
		how.speculator = speculator;
		assert_ok(rv_capture_begin(c, 0, KIT_PROMPT - 1));
		assert_ok(rv_generate(ctx, 0, prompt, KIT_PROMPT, sampler, &how, answer[drafted],
		                      &result));
		if (drafted)
			assert_true(rv_speculator_stats(speculator)->rejections > 0);
		seen[drafted] = rv_capture_end(c, 0, answer[drafted], N);
		rv_speculator_destroy(speculator);
		rv_sampler_destroy(sampler);
	}
	assert_memory_equal(answer[0], answer[1], sizeof answer[0]);
	assert_int_equal(seen[0]->n_tokens, N);
	assert_true(is_same(seen[0], seen[1]));
	rv_captured_release(seen[0]);
	rv_captured_release(seen[1]);
	rv_capture_detach(c);
	rv_context_destroy(ctx);
	rv_model_release(model);
}

/* ---- tokens out of the ordinary ---- */

static void unlikely_tokens_are_candidates(void **state) {
	(void)state;
	rv_model *model = tiny_model("qwen2", "Q8_0");
	rv_context *ctx = context_of(model, 1, 512, RV_BACKEND_SIMD);
	rv_capture *c = kit_attach_with(ctx, RV_SITE_ATTN_OUT, RV_CAPTURE_NOW);
	float logits[512];
	int32_t worst[2];
	rv_row rows[KIT_PROMPT];
	for (int i = 0; i < KIT_PROMPT; i++)
		rows[i] = kit_row(9 + i, 0, i, i == KIT_PROMPT - 1);
	assert_ok(rv_context_eval(ctx, rows, KIT_PROMPT));
	memcpy(logits, rv_context_logits(ctx, KIT_PROMPT - 1), sizeof logits);
	for (int i = 0; i < 512; i++)
		logits[i] = -logits[i];
	worst[0] = worst[1] = kit_best(logits, 512);
	/* Given text: the value is the token's own. */
	assert_ok(rv_seq_truncate(ctx, 0, KIT_PROMPT - 1));
	assert_ok(rv_capture_begin(c, 0, KIT_PROMPT - 1));
	rv_row given[] = {rows[KIT_PROMPT - 1], kit_row(worst[0], 0, KIT_PROMPT, 1)};
	assert_ok(rv_context_eval(ctx, given, 2));
	rv_captured *seen = rv_capture_end(c, 0, worst, 2);
	assert_int_equal(seen->n_tokens, 2);
	assert_int_equal(seen->ids[seen->chosen[0]], worst[0]);
	assert_true(fabs((double)(seen->values[seen->chosen[0]] + logits[worst[0]])) < 1e-4);
	assert_true(seen->likelihood < 0.5 && gradients_are_right(model, seen));
	for (int64_t i = 0; i < 64; i++) /* each once */
		for (int64_t j = 0; j < i; j++)
			assert_int_not_equal(seen->ids[i], seen->ids[j]);
	rv_captured_release(seen);
	/* Chosen, and told at the end: the lowest value there is. */
	assert_ok(rv_seq_truncate(ctx, 0, KIT_PROMPT - 1));
	assert_ok(rv_capture_begin(c, 0, KIT_PROMPT - 1));
	assert_ok(rv_context_eval(ctx, given, 1));
	seen = rv_capture_end(c, 0, worst, 1);
	assert_int_equal(seen->ids[seen->chosen[0]], worst[0]);
	for (int64_t i = 0; i < 64; i++)
		assert_true(seen->values[i] >= seen->values[seen->chosen[0]]);
	assert_true(gradients_are_right(model, seen));
	rv_captured_release(seen);
	rv_capture_detach(c);
	rv_context_destroy(ctx);
	rv_model_release(model);
}

static void sites_without_residual_keep_logits(void **state) {
	(void)state;
	rv_model *model = tiny_model("qwen2", "Q8_0");
	rv_context *ctx = context_of(model, 1, 512, RV_BACKEND_SIMD);
	rv_capture *c = kit_attach(ctx, RV_SITE_PROJ_QV);
	int32_t answer[40];
	rv_captured *seen = kit_capture(c, ctx, 1, answer, 40);
	assert_int_equal(seen->n_parts, 0);
	assert_int_equal(seen->n_tokens, 32);
	assert_int_equal(seen->n_missed, 8);
	assert_true(seen->likelihood > 0 && seen->likelihood <= 1);
	rv_captured_release(seen);
	rv_capture_detach(c);
	rv_context_destroy(ctx);
	rv_model_release(model);
}

/* ---- places ---- */

static void full_houses_and_errors(void **state) {
	(void)state;
	rv_model *model = tiny_model("qwen2", "Q8_0");
	rv_context *ctx = context_of(model, 4, 512, RV_BACKEND_SIMD);
	rv_capture *c;
	rv_capture_options o = rv_capture_defaults();
	rv_capture_stats stats;
	int32_t answer[4];
	const int64_t wrong[] = {2, 1};
	o.n_layers = 2;
	o.layers = wrong;
	assert_int_equal(rv_capture_attach(&c, ctx, &o), RV_ERR_INVALID);
	o.layers = kit_layers;
	o.n_top = 1;
	assert_int_equal(rv_capture_attach(&c, ctx, &o), RV_ERR_INVALID);
	o.n_top = 64;
	o.max_tokens = 0;
	assert_int_equal(rv_capture_attach(&c, ctx, &o), RV_ERR_INVALID);
	assert_null(c);
	o.max_tokens = 32;
	o.n_places = 2;
	assert_ok(rv_capture_attach(&c, ctx, &o));
	assert_int_equal(rv_capture_begin(c, 4, 0), RV_ERR_INVALID);
	assert_int_equal(rv_capture_begin(c, 0, -1), RV_ERR_INVALID);
	assert_ok(rv_capture_begin(c, 0, KIT_PROMPT - 1));
	assert_int_equal(rv_capture_begin(c, 0, 0), RV_ERR_INVALID);
	assert_ok(rv_capture_begin(c, 1, KIT_PROMPT - 1));
	assert_int_equal(rv_capture_begin(c, 2, 0), RV_ERR_LIMIT);
	kit_serve(ctx, 2, 1, answer, 4); /* is served all the same */
	assert_null(rv_capture_end(c, 2, answer, 4));
	rv_captured *empty = rv_capture_end(c, 1, answer, 4);
	assert_int_equal(empty->n_tokens, 0);
	assert_true(isnan(empty->likelihood));
	assert_int_equal(rv_capture_begin(c, 2, 0), RV_ERR_LIMIT); /* still held */
	rv_captured_release(empty);
	assert_ok(rv_capture_begin(c, 2, 0));
	rv_capture_cancel(c, 2);
	rv_capture_cancel(c, 0);
	rv_capture_get_stats(c, &stats);
	assert_true(stats.n_requests == 3 && stats.n_no_place == 2 && stats.n_held == 0);
	rv_capture_detach(c);
	rv_context_destroy(ctx);
	rv_model_release(model);
}

static void tokens_allocate_nothing(void **state) {
	(void)state;
	rv_model *model = tiny_model("qwen2", "Q8_0");
	rv_context *ctx = context_of(model, 1, 512, RV_BACKEND_SIMD);
	rv_capture *c = kit_attach_with(ctx, RV_SITE_PROJ_ALL, RV_CAPTURE_NOW);
	int32_t answer[40];
	rv_captured_release(kit_capture(c, ctx, 1, answer, 40));
	const int64_t before = atomic_load(&n_allocations);
	for (int i = 0; i < 20; i++)
		rv_captured_release(kit_capture(c, ctx, i, answer, 40));
	assert_int_equal(atomic_load(&n_allocations), before);
	void *control;
	assert_ok(rv_alloc(&control, 1, 64, "test"));
	assert_int_equal(atomic_load(&n_allocations), before + 1);
	rv_free(control);
	rv_capture_detach(c);
	rv_context_destroy(ctx);
	rv_model_release(model);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(states_give_the_logits),
	        cmocka_unit_test(inputs_give_the_states),
	        cmocka_unit_test(the_batch_does_not_matter),
	        cmocka_unit_test(rejected_rows_give_way),
	        cmocka_unit_test(speculation_is_captured),
	        cmocka_unit_test(unlikely_tokens_are_candidates),
	        cmocka_unit_test(sites_without_residual_keep_logits),
	        cmocka_unit_test(full_houses_and_errors),
	        cmocka_unit_test(tokens_allocate_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
