/* A split model computes what the whole file does, bit for bit. */
#include "engine/context.h"
#include "tests/model/split.h"
#include "tests/support/tiny_model.h"

#define N_TOKENS 32

/* Logits [N_TOKENS][n_vocab] of a fixed sequence, malloc'd. */
static float *logits_of(const char *path, size_t *bytes) {
	rv_model *model;
	rv_context *ctx;
	rv_context_options o = rv_context_defaults();
	o.n_ctx = N_TOKENS;
	o.n_threads = 2;
	assert_ok(rv_model_open(&model, path, NULL));
	assert_ok(rv_context_create(&ctx, model, &o));
	int64_t n_vocab = rv_model_hparams(model)->n_vocab;
	rv_row rows[N_TOKENS];
	for (int32_t i = 0; i < N_TOKENS; i++)
		rows[i] = (rv_row){(int32_t)((i * 37 + 11) % n_vocab), 0, i, -1, 0, RV_ROW_LOGITS};
	assert_ok(rv_context_eval(ctx, rows, N_TOKENS));
	size_t row_bytes = (size_t)n_vocab * sizeof(float);
	*bytes = N_TOKENS * row_bytes;
	char *out = malloc(*bytes);
	assert_non_null(out);
	for (size_t i = 0; i < N_TOKENS; i++)
		memcpy(out + i * row_bytes, rv_context_logits(ctx, (int64_t)i), row_bytes);
	rv_context_destroy(ctx);
	rv_model_release(model);
	return (float *)(void *)out;
}

static int same_logits(const char *a, const char *b) {
	size_t na, nb;
	float *x = logits_of(a, &na), *y = logits_of(b, &nb);
	int same = na == nb && memcmp(x, y, na) == 0;
	free(x);
	free(y);
	return same;
}

static int n_tensors(const char *path) {
	rv_gguf *g;
	assert_ok(rv_gguf_open(&g, path, RV_GGUF_DEFAULT));
	int n = (int)rv_gguf_n_tensors(g);
	rv_gguf_close(g);
	return n;
}

static void check_cuts(const char *arch, const char *target) {
	char whole[1024], first[1024];
	tiny_model_file(whole, arch, target);
	int n = n_tensors(whole);
	const split_options cases[] = {{.n_pieces = 1, .bad = -1},
	                               {.n_pieces = 2, .bad = -1},
	                               {.n_pieces = 3, .bad = -1},
	                               {.n_pieces = n, .bad = -1},
	                               {.n_pieces = 3, .empty_first = 1, .bad = -1}};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		split_file(first, whole, "cut", &cases[i]);
		if (!same_logits(whole, first))
			fail_msg("%s %s in %d pieces: other logits", arch, target, cases[i].n_pieces);
		remove_split("cut", cases[i].n_pieces);
	}
	unlink(whole);
}

static void same_logits_from_pieces(void **state) {
	(void)state;
	check_cuts("qwen2", "Q4_K_M");
	check_cuts("llama", "F16");
}

/* Control: the last of three pieces comes from a model of the same shape with other weights. */
static void other_weights_are_noticed(void **state) {
	(void)state;
	char whole[1024], other[1024], first[1024], last[1024], from[1024];
	split_options o = {.n_pieces = 3, .bad = -1};
	rv_synth_options s = synth_options("qwen2", tiny_hparams(), "Q8_0");
	s.seed = 8;
	tiny_model_file(whole, "qwen2", "Q8_0");
	assert_ok(rv_synth_file(temp_path(other, "other.gguf"), &s));
	split_file(first, other, "other", &o);
	split_file(first, whole, "cut", &o);
	assert_true(same_logits(whole, first));
	assert_int_equal(rename(split_path(from, "other", 2, 3), split_path(last, "cut", 2, 3)), 0);
	assert_false(same_logits(whole, first));
	remove_split("cut", 3);
	remove_split("other", 3);
	unlink(whole);
	unlink(other);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(same_logits_from_pieces),
	        cmocka_unit_test(other_weights_are_noticed),
	};
	return cmocka_run_group_tests_name("split logits", tests, make_test_dir, remove_test_dir);
}
