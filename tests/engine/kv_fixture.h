/* What the tests of saved and evicted keys and values share: a small model, contexts of it, tokens. */
#ifndef RV_TESTS_ENGINE_KV_FIXTURE_H
#define RV_TESTS_ENGINE_KV_FIXTURE_H

#include "engine/context.h"
#include "tests/model/files.h"

/* Fails with `want` and a message that holds `part`. */
#define assert_fails(expr, want, part)                                                                 \
	do {                                                                                           \
		assert_int_equal(expr, want);                                                          \
		if (!strstr(rv_error_message(), part))                                                 \
			fail_msg("%s: '%s' is not in the message '%s'", #expr, part,                   \
			         rv_error_message());                                                  \
	} while (0)

enum { N_VOCAB = 320, N_CTX = 128 };

/* 2 layers, 2 heads of 32 over 1 KV head: a token takes 256 bytes of F16 keys and values. */
static inline rv_hparams kv_shape(void) {
	rv_hparams hp = small_shape();
	hp.n_embd = 64;
	hp.n_heads = 2;
	hp.n_kv_heads = 1;
	hp.head_dim = hp.n_rot = 32;
	hp.n_ff = 64;
	hp.tied = 1;
	return hp;
}

static inline rv_model *kv_model(const char *name, uint64_t seed) {
	char path[1024];
	rv_model *model;
	rv_synth_options o = synth_options("qwen2", kv_shape(), "F32");
	o.seed = seed;
	assert_ok(rv_synth_file(temp_path(path, name), &o));
	assert_ok(rv_model_open(&model, path, NULL));
	return model;
}

/* An adapter of rank 2 for the values of layer 0. */
static inline rv_adapter *kv_adapter(const rv_model *model, const char *name, float value) {
	char path[1024];
	rv_gguf_writer *w;
	rv_adapter *adapter;
	float x[64 * 2];
	const int64_t a[2] = {64, 2}, b[2] = {2, 32};
	assert_ok(rv_gguf_writer_open(&w, temp_path(path, name)));
	assert_ok(rv_gguf_write_string(w, "general.type", "adapter"));
	assert_ok(rv_gguf_write_string(w, "adapter.type", "lora"));
	assert_ok(rv_gguf_write_string(w, "general.architecture", "qwen2"));
	assert_ok(rv_gguf_write_f32(w, "adapter.lora.alpha", 2));
	assert_ok(rv_gguf_declare(w, "blk.0.attn_v.weight.lora_a", RV_F32, 2, a));
	assert_ok(rv_gguf_declare(w, "blk.0.attn_v.weight.lora_b", RV_F32, 2, b));
	for (int i = 0; i < 128; i++)
		x[i] = value + 0.01f * (float)(i % 7);
	assert_ok(rv_gguf_write_data(w, x, sizeof x));
	assert_ok(rv_gguf_write_data(w, x, 64 * sizeof *x));
	assert_ok(rv_gguf_writer_commit(w));
	assert_ok(rv_adapter_open(&adapter, path, model));
	return adapter;
}

/* 2 KV heads of 256: a token takes 4 KiB of F16 keys and values, so that few of them fill a pool page.
 */
static inline rv_model *kv_wide_model(void) {
	char path[1024];
	rv_model *model;
	rv_synth_options o = synth_options("qwen2", kv_shape(), "F32");
	o.hp.head_dim = o.hp.n_rot = 256;
	o.hp.n_kv_heads = o.hp.n_heads = 2;
	assert_ok(rv_synth_file(temp_path(path, "wide.gguf"), &o));
	assert_ok(rv_model_open(&model, path, NULL));
	return model;
}

static inline rv_context_options kv_options(int32_t n_seqs, rv_kv_type type) {
	rv_context_options o = rv_context_defaults();
	o.n_ctx = N_CTX;
	o.n_seqs = n_seqs;
	o.n_batch = 64;
	o.kv_type = type;
	o.n_threads = 1;
	o.pin = 0;
	return o;
}

static inline rv_context *kv_context(rv_model *model, rv_context_options o) {
	rv_context *ctx;
	assert_ok(rv_context_create(&ctx, model, &o));
	return ctx;
}

/* Appends n tokens to a sequence; the logits of the last, valid until the next call. */
static inline rv_status append(rv_context *ctx, int32_t seq, const int32_t *tokens, int32_t n,
                               int32_t adapter, const float **logits) {
	rv_row rows[N_CTX + 1];
	int32_t at = (int32_t)rv_seq_length(ctx, seq);
	for (int32_t i = 0; i < n; i++)
		rows[i] = (rv_row){tokens[i], seq, at + i, -1, adapter, i + 1 == n ? RV_ROW_LOGITS : 0};
	rv_status status = rv_context_eval(ctx, rows, n);
	if (logits)
		*logits = status == RV_OK ? rv_context_logits(ctx, n - 1) : NULL;
	return status;
}

static inline void some_tokens(int32_t *tokens, int32_t n, int32_t salt) {
	for (int32_t i = 0; i < n; i++)
		tokens[i] = (int32_t)(((uint32_t)salt * 7919u + (uint32_t)i * 104729u + 13u) % N_VOCAB);
}

#endif
