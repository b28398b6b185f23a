/* A context whose requests are captured, for tests of capture and of the instant loop. */
#ifndef RV_TESTS_LEARN_SONA_KIT_H
#define RV_TESTS_LEARN_SONA_KIT_H

#include "learn/capture.h"
#include "tests/support/tiny_model.h"

enum { KIT_PROMPT = 6 };

static const int64_t kit_layers[] = {0, 2};

static inline rv_capture *kit_attach_with(rv_context *ctx, rv_site site, int gradients) {
	rv_capture *c;
	rv_capture_options o = rv_capture_defaults();
	o.gradients = gradients;
	o.layers = kit_layers;
	o.n_layers = 2;
	o.site = site;
	assert_ok(rv_capture_attach(&c, ctx, &o));
	return c;
}

static inline rv_capture *kit_attach(rv_context *ctx, rv_site site) {
	return kit_attach_with(ctx, site, RV_CAPTURE_LATER);
}

static inline rv_row kit_row(int32_t token, int32_t seq, int64_t position, int wanted) {
	return (rv_row){.token = token,
	                .seq = seq,
	                .position = (int32_t)position,
	                .parent = -1,
	                .flags = wanted ? RV_ROW_LOGITS : 0};
}

static inline int32_t kit_best(const float *logits, int64_t n) {
	int64_t at = 0;
	for (int64_t i = 1; i < n; i++)
		at = logits[i] > logits[at] ? i : at;
	return (int32_t)at;
}

/* A prompt by `seed` in the empty sequence, then n greedy tokens (into answer); the last is not
 * evaluated. */
static inline void kit_serve(rv_context *ctx, int32_t seq, int seed, int32_t *answer, int64_t n) {
	const int64_t n_vocab = rv_model_hparams(rv_context_model(ctx))->n_vocab;
	rv_row rows[KIT_PROMPT];
	for (int i = 0; i < KIT_PROMPT; i++)
		rows[i] = kit_row((int32_t)((37 * i + 11 * seed + 3) % n_vocab), seq, i,
		                  i == KIT_PROMPT - 1);
	assert_ok(rv_context_eval(ctx, rows, KIT_PROMPT));
	answer[0] = kit_best(rv_context_logits(ctx, KIT_PROMPT - 1), n_vocab);
	for (int64_t i = 1; i < n; i++) {
		const rv_row next = kit_row(answer[i - 1], seq, KIT_PROMPT + i - 1, 1);
		assert_ok(rv_context_eval(ctx, &next, 1));
		answer[i] = kit_best(rv_context_logits(ctx, 0), n_vocab);
	}
}

/* The same, captured. */
static inline rv_captured *kit_capture(rv_capture *c, rv_context *ctx, int seed, int32_t *answer,
                                       int64_t n) {
	assert_ok(rv_seq_truncate(ctx, 0, 0));
	assert_ok(rv_capture_begin(c, 0, KIT_PROMPT - 1));
	kit_serve(ctx, 0, seed, answer, n);
	return rv_capture_end(c, 0, answer, n);
}

#endif
