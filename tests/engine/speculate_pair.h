/* A small target and drafts for it that agree with it always, often and hardly ever. */
#ifndef RV_TESTS_ENGINE_SPECULATE_PAIR_H
#define RV_TESTS_ENGINE_SPECULATE_PAIR_H

#include "engine/generate.h"
#include "model/quantize.h"
#include "tests/support/tiny_model.h"

typedef enum kin { TWIN, COUSIN, STRANGER, N_KINDS } kin;

typedef struct pair {
	rv_model *target_model, *draft_model[N_KINDS];
	rv_context *target, *draft[N_KINDS];
} pair;

enum { PAIR_VOCAB = 512, PAIR_CTX = 192 };

static inline rv_hparams pair_hparams(void) {
	rv_hparams hp = tiny_hparams();
	hp.n_layers = 2;
	hp.n_embd = 128;
	hp.n_heads = 2;
	hp.n_kv_heads = 1;
	hp.n_ff = 128;
	return hp;
}

static inline rv_context *pair_context(rv_model *model, int64_t n_ctx, int n_threads) {
	rv_context *ctx;
	rv_context_options o = rv_context_defaults();
	o.n_ctx = n_ctx;
	o.n_batch = 80;
	o.n_threads = n_threads;
	o.n_draft = 24;
	assert_ok(rv_context_create(&ctx, model, &o));
	return ctx;
}

static inline void pair_open(pair *p, int n_threads) {
	char path[1024], small[1040];
	rv_hparams hp = pair_hparams();
	const rv_quant_options q4 = {.target = rv_quant_target_by_name("Q4_0")};
	tiny_model_file_of(path, &hp, "qwen2", "F16", 7);
	snprintf(small, sizeof small, "%s.q4", path);
	assert_ok(rv_quantize_file(path, small, &q4, NULL));
	p->target_model = tiny_model_open(path);
	p->draft_model[TWIN] = rv_model_retain(p->target_model);
	p->draft_model[COUSIN] = tiny_model_open(small);
	p->draft_model[STRANGER] = tiny_model_of(&hp, "qwen2", "F16", 8);
	p->target = pair_context(p->target_model, PAIR_CTX, n_threads);
	for (int i = 0; i < N_KINDS; i++)
		p->draft[i] = pair_context(p->draft_model[i], PAIR_CTX, 1);
}

static inline void pair_close(pair *p) {
	for (int i = 0; i < N_KINDS; i++) {
		rv_context_destroy(p->draft[i]);
		rv_model_release(p->draft_model[i]);
	}
	rv_context_destroy(p->target);
	rv_model_release(p->target_model);
}

#endif
