/* What the tests of the prefix cache share. */
#ifndef RV_TESTS_ENGINE_PREFIX_KIT_H
#define RV_TESTS_ENGINE_PREFIX_KIT_H

#include "engine/kv_pages.h"
#include "engine/prefix_cache.h"
#include "tests/engine/kv_fixture.h"

enum { CTX = 512, N_SEQS = 4 };

static rv_model *model;
static rv_adapter *adapters[2]; /* for it */

static inline int make_world(void **state) {
	if (make_test_dir(state))
		return -1;
	model = kv_model("model.gguf", 7);
	adapters[0] = kv_adapter(model, "one.gguf", 0.3f);
	adapters[1] = kv_adapter(model, "two.gguf", -0.5f);
	return 0;
}

static inline int remove_world(void **state) {
	for (int i = 0; i < 2; i++)
		rv_adapter_release(adapters[i]);
	rv_model_release(model);
	return remove_test_dir(state);
}

static inline rv_context_options context_options(rv_kv_type type) {
	rv_context_options o = kv_options(N_SEQS, type);
	o.n_ctx = CTX;
	return o;
}

/* In one piece: what comes from it was not cached. */
static inline rv_context *open_cold(rv_kv_type type) {
	rv_context_options o = context_options(type);
	o.page_size = 0;
	return kv_context(model, o);
}

/* References of the tree and of sequences are all there are. */
static inline void check(rv_context *ctx, rv_prefix_cache *cache) {
	rv_prefix_cache_stats s;
	assert_ok(rv_prefix_cache_verify(cache));
	rv_prefix_cache_get_stats(cache, &s);
	assert_ok(rv_kv_pages_verify(rv_context_kv_pages(ctx), s.n_pages));
}

/* A small budget: 64 pages of 64 tokens, 32 of 128. */
enum { BUDGET = 2 << 20 };

#endif
