/* A model that went through safetensors and back computes the same logits, and the rotary order is what
 * the engine takes it for. */
#include "engine/context.h"
#include "engine/sampler.h"
#include "tests/model/published.h"

#define N_TOKENS 48

/* Logits [N_TOKENS][n_vocab] of a fixed sequence, malloc'd. */
static float *logits_of(const char *path, int64_t *n_vocab) {
	rv_model *model;
	rv_context *ctx;
	rv_context_options o = rv_context_defaults();
	o.kv_type = RV_KV_F32;
	o.n_ctx = N_TOKENS;
	o.n_threads = 2;
	assert_ok(rv_model_open(&model, path, NULL));
	assert_ok(rv_context_create(&ctx, model, &o));
	*n_vocab = rv_model_hparams(model)->n_vocab;
	rv_row rows[N_TOKENS];
	for (int32_t i = 0; i < N_TOKENS; i++)
		rows[i] = (rv_row){(int32_t)((i * 37 + 11) % *n_vocab), 0, i, -1, 0, RV_ROW_LOGITS};
	assert_ok(rv_context_eval(ctx, rows, N_TOKENS));
	float *out = malloc((size_t)(N_TOKENS * *n_vocab) * sizeof *out);
	assert_non_null(out);
	for (int64_t i = 0; i < N_TOKENS; i++)
		memcpy(out + i * *n_vocab, rv_context_logits(ctx, i), (size_t)*n_vocab * sizeof *out);
	rv_context_destroy(ctx);
	rv_model_release(model);
	return out;
}

static int same_logits(const char *a, const char *b) {
	int64_t na, nb;
	float *x = logits_of(a, &na), *y = logits_of(b, &nb);
	int same = na == nb && memcmp(x, y, (size_t)(N_TOKENS * na) * sizeof *x) == 0;
	free(x);
	free(y);
	return same;
}

/* Largest difference as a share of the range of `a`. */
static double distance(const char *a, const char *b) {
	int64_t na, nb;
	float *x = logits_of(a, &na), *y = logits_of(b, &nb);
	assert_int_equal(na, nb);
	double most = 0, lo = INFINITY, hi = -INFINITY;
	for (int64_t i = 0; i < N_TOKENS * na; i++) {
		double d = fabs((double)x[i] - (double)y[i]);
		most = !(d <= most) ? d : most;
		lo = x[i] < lo ? x[i] : lo;
		hi = x[i] > hi ? x[i] : hi;
	}
	free(x);
	free(y);
	return most / (hi - lo);
}

static void round_trip(const char *path, const published_options *o) {
	char dir[1024], out[1024];
	publish(published_dir(dir, "published"), path, o);
	assert_ok(rv_convert_dir(dir, temp_path(out, "back.gguf"), NULL, NULL));
	assert_true(same_logits(path, out));
	remove_published(dir);
	unlink(out);
}

static void same_logits_tiny_qwen2(void **state) {
	(void)state;
	char path[1024];
	if (reference_gunzip("models/tiny-qwen2/tiny-qwen2.f32.gguf.gz", path) != 0)
		skip();
	published_options o = {.class_name = "Qwen2ForCausalLM", .model_type = "qwen2", .n_shards = 1};
	for (o.n_shards = 1; o.n_shards <= 3; o.n_shards += 2)
		round_trip(path, &o);
	unlink(path);
}

typedef struct arch_case {
	const char *arch, *class_name, *model_type;
	int tied, n_shards;
} arch_case;

static const arch_case arch_cases[] = {
        {"qwen2", "Qwen2ForCausalLM", "qwen2", 1, 1},     {"qwen3", "Qwen3ForCausalLM", "qwen3", 0, 2},
        {"llama", "LlamaForCausalLM", "llama", 1, 3},     {"llama", "LlamaForCausalLM", "llama", 0, 1},
        {"llama", "MistralForCausalLM", "mistral", 0, 2},
};

static published_options options_of(const arch_case *c) {
	return (published_options){.class_name = c->class_name,
	                           .model_type = c->model_type,
	                           .type = RV_F16,
	                           .wide_vectors = 1,
	                           .n_shards = c->n_shards,
	                           .llama_rows = strcmp(c->arch, "llama") == 0};
}

static void same_logits_synthetic(void **state) {
	(void)state;
	for (size_t i = 0; i < sizeof arch_cases / sizeof arch_cases[0]; i++) {
		char path[1024];
		published_options o = options_of(&arch_cases[i]);
		synthesize(temp_path(path, "synth.gguf"), arch_cases[i].arch, arch_cases[i].tied);
		round_trip(path, &o);
		unlink(path);
	}
}

/* The same weights as Llama, which GGUF wants interleaved, and as Qwen2 with biases of zero, which
 * stays half-split: two different rotations of the engine must come to one result. */
static void rotary_order_is_the_engines(void **state) {
	(void)state;
	char path[1024], llama[1024], qwen[1024], wrong[1024], dir[1024];
	arch_case c = {"llama", "LlamaForCausalLM", "llama", 0, 1};
	published_options o = options_of(&c), q = options_of(&c), w = options_of(&c);
	synthesize(temp_path(path, "synth.gguf"), "llama", 0);
	q.class_name = "Qwen2ForCausalLM";
	q.model_type = "qwen2";
	q.zero_biases = 1;
	w.llama_rows = 0; /* control: rows in the wrong order are permuted once more */
	publish(published_dir(dir, "llama"), path, &o);
	assert_ok(rv_convert_dir(dir, temp_path(llama, "llama.gguf"), NULL, NULL));
	remove_published(dir);
	publish(published_dir(dir, "qwen"), path, &q);
	assert_ok(rv_convert_dir(dir, temp_path(qwen, "qwen.gguf"), NULL, NULL));
	remove_published(dir);
	publish(published_dir(dir, "wrong"), path, &w);
	assert_ok(rv_convert_dir(dir, temp_path(wrong, "wrong.gguf"), NULL, NULL));
	remove_published(dir);
	double right = distance(llama, qwen), off = distance(llama, wrong);
	print_message("# llama and qwen2: %.2g of the range apart; rows in the wrong order: %.2g\n",
	              right, off);
	assert_true(right <= 1e-4);
	assert_true(off > 1e-2);
	assert_false(same_logits(llama, wrong));
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(same_logits_tiny_qwen2),
	        cmocka_unit_test(same_logits_synthetic),
	        cmocka_unit_test(rotary_order_is_the_engines),
	};
	return cmocka_run_group_tests_name("convert logits", tests, make_test_dir, remove_test_dir);
}
