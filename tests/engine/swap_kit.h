/* What the tests of changing adapters share: a small model, versions of an adapter, prompts that begin
 * alike, and what each gives under each version from the start. */
#ifndef RV_TESTS_ENGINE_SWAP_KIT_H
#define RV_TESTS_ENGINE_SWAP_KIT_H

#include "engine/context.h"
#include "tests/support/made_adapter.h"
#include "tests/support/tiny_model.h"

enum { N_VOCAB = 512, N_CTX = 96, N_TOKENS = 40, VERSIONS = 5, PAGE = 16, SET = 3 };

static rv_model *model;
static char model_path[1024];          /* which saving sequences reads */
static rv_adapter *adapters[VERSIONS]; /* of every projection: keys and values depend on them */

static inline rv_hparams shape(void) {
	rv_hparams hp = tiny_hparams();
	hp.n_layers = 2;
	hp.n_embd = hp.n_ff = 128;
	hp.n_heads = 2;
	hp.n_kv_heads = 1;
	return hp;
}

static inline void fill_cold(void);

static inline int open_model(void **state) {
	rv_hparams hp = shape();
	(void)state;
	tiny_model_file_of(model_path, &hp, "qwen2", "F16", 3);
	assert_ok(rv_model_open(&model, model_path, NULL));
	for (int i = 0; i < VERSIONS; i++)
		adapters[i] = made_adapter(model, "random", RV_ROLES_LAYER, 0, 4, (uint64_t)i + 1);
	fill_cold();
	return 0;
}

static inline int close_model(void **state) {
	(void)state;
	for (int i = 0; i < VERSIONS; i++)
		rv_adapter_release(adapters[i]);
	rv_model_release(model);
	unlink(model_path);
	return 0;
}

static inline rv_context *open_context(int n_threads, int32_t n_batch, int pinned) {
	rv_context *ctx;
	rv_context_options o = rv_context_defaults();
	o.n_ctx = N_CTX;
	o.n_seqs = 4;
	o.n_batch = n_batch;
	o.n_draft = 4;
	o.page_size = PAGE;
	o.n_threads = n_threads;
	o.pin = 0;
	o.pin_adapters = pinned;
	assert_ok(rv_context_create(&ctx, model, &o));
	return ctx;
}

static inline void use(rv_context *ctx, rv_adapter *adapter) {
	const rv_adapter_use u = {adapter, 1};
	assert_ok(rv_context_swap_adapters(ctx, SET, &u, adapter != NULL));
}

static inline int32_t token(int prompt, int i) {
	return (int32_t)((i < 20 ? i * 37 : prompt * 131 + i * 53) % N_VOCAB); /* prompts begin alike */
}

/* Appends the prompt's next n tokens; the logits of the last. */
static inline const float *go_on(rv_context *ctx, int32_t seq, int prompt, int n) {
	rv_row rows[N_CTX];
	int at = (int)rv_seq_length(ctx, seq);
	for (int i = 0; i < n; i++)
		rows[i] = (rv_row){token(prompt, at + i),         seq, at + i, -1, SET,
		                   i == n - 1 ? RV_ROW_LOGITS : 0};
	assert_ok(rv_context_eval(ctx, rows, n));
	return rv_context_logits(ctx, n - 1);
}

static inline int same(const float *a, const float *b) {
	return memcmp(a, b, N_VOCAB * sizeof *a) == 0;
}

enum { PROMPTS = 3 };
static float cold[VERSIONS + 1][PROMPTS][N_VOCAB]; /* after N_TOKENS; [VERSIONS]: without adapter */

static inline void fill_cold(void) {
	for (int v = 0; v <= VERSIONS; v++)
		for (int p = 0; p < PROMPTS; p++) {
			rv_context *ctx = open_context(1, 64, 0);
			use(ctx, v < VERSIONS ? adapters[v] : NULL);
			memcpy(cold[v][p], go_on(ctx, 0, p, N_TOKENS), sizeof cold[v][p]);
			rv_context_destroy(ctx);
		}
}

#endif
