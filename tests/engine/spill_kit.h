/* What the tests of sequences' files share: a small model, a folder, a context with a sequence in it.
 */
#ifndef RV_TESTS_ENGINE_SPILL_KIT_H
#define RV_TESTS_ENGINE_SPILL_KIT_H

#include "base/mem.h"
#include "engine/kv_spill.h"
#include "tests/engine/kv_fixture.h"

enum { N_TOKENS = 70 };

static char file_path[1024];

static rv_model *model;

static inline int open_all(void **state) {
	if (make_test_dir(state) != 0)
		return -1;
	model = kv_model("model.gguf", 7);
	temp_path(file_path, "seq.kv");
	return 0;
}

static inline int close_all(void **state) {
	rv_model_release(model);
	return remove_test_dir(state);
}

/* A context whose sequence `seq` holds N_TOKENS tokens of a salt. */
static inline rv_context *filled(rv_context_options o, int32_t seq, int32_t salt) {
	int32_t tokens[N_TOKENS];
	rv_context *ctx = kv_context(model, o);
	some_tokens(tokens, N_TOKENS, salt);
	assert_ok(append(ctx, seq, tokens, N_TOKENS, 0, NULL));
	return ctx;
}

static inline void save_some(int32_t salt, int32_t n) {
	int32_t tokens[N_TOKENS];
	rv_context *ctx = kv_context(model, kv_options(1, RV_KV_F16));
	some_tokens(tokens, n, salt);
	assert_ok(append(ctx, 0, tokens, n, 0, NULL));
	assert_ok(rv_seq_save(ctx, 0, tokens, n, file_path));
	rv_context_destroy(ctx);
}

static inline char *slurp(size_t *size) {
	char *data;
	assert_ok(rv_file_read(file_path, 1 << 20, &data, size));
	return data;
}

/* Makes the checksum at the end right, so that what it guards is reached. */
static inline void mend(char *data, size_t size) {
	uint32_t crc = rv_crc32(0, data, size - sizeof crc);
	memcpy(data + size - sizeof crc, &crc, sizeof crc);
}

static inline rv_status load_bytes(rv_context *ctx, const char *data, size_t size) {
	int32_t tokens[N_CTX];
	rv_status status = rv_seq_load_memory(ctx, 0, 0, data, size, "bytes.kv", tokens, N_CTX, NULL);
	assert_int_equal(rv_seq_length(ctx, 0) > 0, status == RV_OK);
	return status;
}

#endif
