/* Logits of synthetic models: finite, standard deviation between 0.5 and 5 at every shape and depth. */
#include "base/rng.h"
#include "engine/context.h"
#include "tests/model/files.h"

#define N_TOKENS 64

typedef struct shape_case {
	const char *arch, *target;
	int64_t layers, embd, ff;
	int tied;
} shape_case;

static const shape_case cases[] = {
        {"qwen2", "F16", 8, 256, 512, 1}, /* nano */
        {"qwen2", "Q8_0", 8, 256, 512, 1},     {"qwen2", "Q4_K_M", 8, 256, 512, 1},
        {"qwen2", "Q8_0", 2, 128, 256, 1},                                           /* pico */
        {"llama", "Q4_0", 1, 256, 512, 0},     {"llama", "Q4_K_M", 48, 256, 768, 0}, /* deep */
        {"qwen3", "Q5_K_M", 4, 512, 1024, 0},  {"qwen3", "Mixed", 4, 512, 1024, 1},
        {"qwen2", "Q4_K_M", 2, 2048, 5632, 1}, /* drawn from pools */
};

static double sd_of(const float *x, int64_t n) {
	double mean = 0, sum = 0;
	for (int64_t i = 0; i < n; i++)
		mean += (double)x[i] / (double)n;
	for (int64_t i = 0; i < n; i++)
		sum += ((double)x[i] - mean) * ((double)x[i] - mean);
	return sqrt(sum / (double)n);
}

/* NaN fails. */
static int is_sane(double sd) {
	return sd >= 0.5 && sd <= 5;
}

static rv_hparams shape_of(const shape_case *c) {
	rv_hparams hp = small_shape();
	hp.n_layers = c->layers;
	hp.n_embd = c->embd;
	hp.n_heads = c->embd / 64;
	hp.n_kv_heads = c->embd / 128;
	hp.n_ff = c->ff;
	hp.n_vocab = 3072;
	hp.tied = c->tied;
	return hp;
}

static void logits_are_sane(void **state) {
	const shape_case *c = *state;
	char path[1024];
	rv_synth_options o = synth_options(c->arch, shape_of(c), c->target);
	assert_ok(rv_synth_file(temp_path(path, "model.gguf"), &o));
	rv_model *model;
	rv_context *ctx;
	rv_context_options co = rv_context_defaults();
	co.n_ctx = N_TOKENS;
	co.n_threads = 2;
	assert_ok(rv_model_open(&model, path, NULL));
	assert_ok(rv_context_create(&ctx, model, &co));
	rv_row rows[N_TOKENS];
	rv_rng rng;
	rv_rng_seed(&rng, 1);
	for (int32_t i = 0; i < N_TOKENS; i++)
		rows[i] = (rv_row){(int32_t)rv_rng_below(&rng, 3072), 0, i, -1, 0, RV_ROW_LOGITS};
	assert_ok(rv_context_eval(ctx, rows, N_TOKENS));
	double least = INFINITY, most = 0;
	for (int64_t i = 0; i < N_TOKENS; i++) {
		double sd = sd_of(rv_context_logits(ctx, i), o.hp.n_vocab);
		assert_true(is_sane(sd));
		least = sd < least ? sd : least;
		most = sd > most ? sd : most;
	}
	print_message("# %s %s %lldx%lld: standard deviation of logits %.3f to %.3f\n", c->arch,
	              c->target, (long long)c->layers, (long long)c->embd, least, most);
	rv_context_destroy(ctx);
	rv_model_release(model);
}

static void check_catches(void **state) {
	(void)state;
	const float flat[] = {1, 1, 1, 1}, wild[] = {-40, 40, -40, 40}, broken[] = {0, NAN, 1, -1},
	            fine[] = {-2, 2, -2, 2};
	assert_false(is_sane(sd_of(flat, 4)));
	assert_false(is_sane(sd_of(wild, 4)));
	assert_false(is_sane(sd_of(broken, 4)));
	assert_true(is_sane(sd_of(fine, 4)));
}

#define N_CASES (sizeof cases / sizeof cases[0])

int main(void) {
	struct CMUnitTest tests[N_CASES + 1];
	static char names[N_CASES][96];
	for (size_t i = 0; i < N_CASES; i++) {
		snprintf(names[i], sizeof names[i], "logits_are_sane %s %s %lldx%lld%s", cases[i].arch,
		         cases[i].target, (long long)cases[i].layers, (long long)cases[i].embd,
		         cases[i].tied ? " tied" : "");
		tests[i] = (struct CMUnitTest){names[i], logits_are_sane, NULL, NULL,
		                               (void *)(uintptr_t)&cases[i]};
	}
	tests[N_CASES] = (struct CMUnitTest)cmocka_unit_test(check_catches);
	return _cmocka_run_group_tests("synth logits", tests, N_CASES + 1, make_test_dir,
	                               remove_test_dir);
}
