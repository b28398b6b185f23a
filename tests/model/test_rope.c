/* Scaled rotary positions against computations of their own, in long double, after the published
 * formulas; and the metadata that ask for them. */
#include "model/arch.h"
#include "model/rope.h"
#include "tests/model/files.h"

static const long double pi = 3.14159265358979323846264338327950288L;

static void near(double got, long double want, double tolerance) {
	if (!(fabsl((long double)got - want) <= (long double)tolerance * fabsl(want)))
		fail_msg("%.17g, expected %.17Lg", got, want);
}

static rv_rope_scaling resolved(rv_rope_scaling r, int64_t trained, int64_t n_ctx) {
	rv_rope_scaling model = {0};
	assert_ok(rv_rope_resolve(&r, &model, trained, n_ctx));
	return r;
}

/* ---- formulas ---- */

/* theta^(-2p/n) by repeated roots rather than pow: exp of a product of logarithms. */
static long double plain(long double theta, int n, int p) {
	return expl(-2.0L * p / n * logl(theta));
}

/* The rotations of "YaRN: Efficient Context Window Extension of Large Language Models" as its authors'
 * code makes them: inverse frequencies interpolated and extrapolated, mixed by a mask over pairs. */
static long double yarn(long double theta, int n, int p, long double factor, long double original,
                        long double fast, long double slow) {
	long double low = floorl(n * logl(original / (fast * 2 * pi)) / (2 * logl(theta)));
	long double high = ceill(n * logl(original / (slow * 2 * pi)) / (2 * logl(theta)));
	if (low < 0)
		low = 0;
	if (high > n - 1)
		high = n - 1;
	if (low == high)
		high += 0.001L;
	long double ramp = (p - low) / (high - low);
	ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
	long double inv_freq_mask = 1 - ramp;
	return plain(theta, n, p) / factor * (1 - inv_freq_mask) + plain(theta, n, p) * inv_freq_mask;
}

static void no_scaling(void **state) {
	(void)state;
	rv_rope_scaling r = resolved((rv_rope_scaling){.kind = RV_ROPE_NONE}, 4096, 65536);
	assert_true(r.factor == 1);
	assert_true(rv_rope_magnitude(&r) == 1);
	for (int p = 0; p < 64; p++)
		near(rv_rope_frequency(&r, 1e6, 128, p), plain(1e6L, 128, p), 1e-14);
}

static void ntk(void **state) {
	(void)state;
	static const double factors[] = {1, 2, 4, 8, 3.7};
	for (size_t i = 0; i < sizeof factors / sizeof *factors; i++) {
		rv_rope_scaling r = resolved(
		        (rv_rope_scaling){.kind = RV_ROPE_NTK, .factor = factors[i]}, 2048, 2048);
		long double theta = 10000.0L * powl((long double)factors[i], 128.0L / 126.0L);
		for (int p = 0; p < 64; p++)
			near(rv_rope_frequency(&r, 1e4, 128, p), plain(theta, 128, p), 1e-13);
		/* the definition: the first pair as it was, the last slower by exactly the factor */
		near(rv_rope_frequency(&r, 1e4, 128, 0), 1, 1e-15);
		near(rv_rope_frequency(&r, 1e4, 128, 63),
		     plain(1e4L, 128, 63) / (long double)factors[i], 1e-13);
		assert_true(rv_rope_magnitude(&r) == 1);
	}
	/* the bases users of the method quote for heads of 128 and base 10000: factor 2, 4, 8 */
	static const double published[][2] = {{2, 20221.3}, {4, 40889.9}, {8, 82684.0}};
	for (size_t i = 0; i < 3; i++) {
		rv_rope_scaling r = {.kind = RV_ROPE_NTK, .factor = published[i][0]};
		double base = pow(rv_rope_frequency(&r, 1e4, 128, 32), -2); /* p = n / 4: base^-0.5 */
		near(base, (long double)published[i][1], 1e-5);
	}
}

static void yarn_frequencies(void **state) {
	(void)state;
	static const struct {
		double theta, factor, fast, slow;
		int n, original;
	} cases[] = {
	        {1e6, 4, 32, 1, 128, 32768}, /* Qwen2.5 with its published factor 4 */
	        {1e4, 16, 32, 1, 128, 4096}, /* the paper's Llama 2 at 64k */
	        {1e4, 32, 32, 1, 128, 4096}, /* and at 128k */
	        {1e6, 2, 32, 1, 64, 4096},   {1e4, 1, 32, 1, 64, 2048}, {1e5, 3.3, 16, 2, 80, 1000},
	        {1e6, 4, 32, 1, 2, 4096},    {1e4, 8, 32, 1, 128, 64},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		rv_rope_scaling r = resolved((rv_rope_scaling){.kind = RV_ROPE_YARN,
		                                               .factor = cases[i].factor,
		                                               .n_ctx_original = cases[i].original,
		                                               .beta_fast = cases[i].fast,
		                                               .beta_slow = cases[i].slow},
		                             1, 1);
		for (int p = 0; p < cases[i].n / 2; p++) {
			double f = rv_rope_frequency(&r, cases[i].theta, cases[i].n, p);
			long double f0 = plain((long double)cases[i].theta, cases[i].n, p);
			near(f,
			     yarn((long double)cases[i].theta, cases[i].n, p,
			          (long double)cases[i].factor, cases[i].original,
			          (long double)cases[i].fast, (long double)cases[i].slow),
			     1e-13);
			/* the paper: rotations within the original context decide the two ends (a pair
			 * that the rounding of the ramp's ends may have moved is left out) */
			long double turns = cases[i].original * f0 / (2 * pi);
			long double step = powl((long double)cases[i].theta, 2.0L / cases[i].n);
			if (turns > (long double)cases[i].fast * step)
				near(f, f0, 1e-13);
			if (turns * step < (long double)cases[i].slow)
				near(f, f0 / (long double)cases[i].factor, 1e-13);
		}
	}
}

static void yarn_magnitude(void **state) {
	(void)state;
	/* 0.1 ln s + 1, as published: s = 4 (Qwen2.5), 16 and 32 (Llama 2 at 64k and 128k) */
	static const double published[][2] = {
	        {1, 1}, {4, 1.138629436111989}, {16, 1.2772588722239781}, {32, 1.3465735902799727}};
	for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
		rv_rope_scaling r = resolved(
		        (rv_rope_scaling){.kind = RV_ROPE_YARN, .factor = published[i][0]}, 4096, 4096);
		near(rv_rope_magnitude(&r), (long double)published[i][1], 1e-15);
		r.attn_factor = 0.5;
		near(rv_rope_magnitude(&r), (long double)published[i][1] / 2, 1e-15);
	}
}

/* What the checks above must notice. */
static void controls(void **state) {
	(void)state;
	rv_rope_scaling r = resolved(
	        (rv_rope_scaling){.kind = RV_ROPE_YARN, .factor = 4, .n_ctx_original = 32768}, 1, 1);
	int differs[4] = {0};
	for (int p = 0; p < 64; p++) {
		double f = rv_rope_frequency(&r, 1e6, 128, p);
		differs[0] += fabs(f / (double)plain(1e6L, 128, p) - 1) > 1e-13;     /* none */
		differs[1] += fabs(f * 4 / (double)plain(1e6L, 128, p) - 1) > 1e-13; /* linear */
		differs[2] += fabs(f / (double)yarn(1e6L, 128, p, 4, 16384, 32, 1) - 1) > 1e-13;
		differs[3] += fabs(f / (double)yarn(1e6L, 128, p, 4, 32768, 16, 1) - 1) > 1e-13;
	}
	for (int i = 0; i < 4; i++)
		assert_true(differs[i] > 5);
}

/* ---- defaults ---- */

static void defaults(void **state) {
	(void)state;
	rv_rope_scaling model = {.kind = RV_ROPE_YARN,
	                         .factor = 4,
	                         .n_ctx_original = 32768,
	                         .beta_fast = 24,
	                         .attn_factor = 0.8};
	rv_rope_scaling r = {0};
	assert_ok(rv_rope_resolve(&r, &model, 131072, 65536));
	assert_int_equal(r.kind, RV_ROPE_YARN);
	assert_true(r.factor == 4 && r.n_ctx_original == 32768 && r.beta_fast == 24 &&
	            r.beta_slow == 1 && r.attn_factor == 0.8);
	r = (rv_rope_scaling){.kind = RV_ROPE_NONE};
	assert_ok(rv_rope_resolve(&r, &model, 131072, 65536));
	assert_true(r.factor == 1);
	r = (rv_rope_scaling){.kind = RV_ROPE_NTK}; /* by the context */
	assert_ok(rv_rope_resolve(&r, &model, 131072, 65536));
	assert_true(r.factor == 2);
	r = (rv_rope_scaling){.kind = RV_ROPE_NTK}; /* never shrinks */
	assert_ok(rv_rope_resolve(&r, &model, 131072, 100));
	assert_true(r.factor == 1);
	model = (rv_rope_scaling){0};
	r = (rv_rope_scaling){.kind = RV_ROPE_YARN};
	assert_ok(rv_rope_resolve(&r, &model, 4096, 16384));
	assert_true(r.factor == 4 && r.n_ctx_original == 4096 && r.beta_fast == 32);
}

static void refusals(void **state) {
	(void)state;
	static const rv_rope_scaling bad[] = {
	        {.kind = RV_ROPE_COUNT},
	        {.kind = RV_ROPE_MODEL, .factor = 4},
	        {.kind = RV_ROPE_NONE, .factor = 2},
	        {.kind = RV_ROPE_NTK, .factor = 0.5},
	        {.kind = RV_ROPE_NTK, .factor = NAN},
	        {.kind = RV_ROPE_NTK, .factor = INFINITY},
	        {.kind = RV_ROPE_NTK, .factor = 2, .n_ctx_original = -1},
	        {.kind = RV_ROPE_YARN, .factor = 2, .beta_fast = 1, .beta_slow = 2},
	        {.kind = RV_ROPE_YARN, .factor = 2, .beta_slow = NAN},
	        {.kind = RV_ROPE_YARN, .factor = 2, .attn_factor = -1},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		rv_rope_scaling r = bad[i], none = {0};
		assert_int_equal(rv_rope_resolve(&r, &none, 4096, 4096), RV_ERR_INVALID);
	}
}

/* ---- metadata ---- */

typedef struct meta {
	const char *type; /* NULL: no key */
	const char *key;  /* another one, NULL: none */
	float value;
	rv_status status;
	const char *names; /* what the message holds */
} meta;

static rv_gguf *with_keys(const meta *m, const char *file) {
	char path[1024], key[128];
	rv_gguf_writer *w;
	rv_gguf *g;
	snprintf(path, sizeof path, "%s/%s", test_dir, file);
	assert_ok(rv_gguf_writer_open(&w, path));
	if (m->type)
		assert_ok(rv_gguf_write_string(w, "qwen2.rope.scaling.type", m->type));
	if (m->type && strcmp(m->type, "yarn") == 0 && m->value != -1)
		assert_ok(rv_gguf_write_f32(w, "qwen2.rope.scaling.factor", 4));
	snprintf(key, sizeof key, "qwen2.rope.scaling.%s", m->key ? m->key : "");
	if (m->key)
		assert_ok(rv_gguf_write_f32(w, key, m->value));
	assert_ok(rv_gguf_writer_commit(w));
	assert_ok(rv_gguf_open(&g, path, RV_GGUF_VOCAB_ONLY_OK));
	return g;
}

static void metadata(void **state) {
	(void)state;
	static const meta cases[] = {
	        {NULL, NULL, 0, RV_OK, NULL},
	        {"none", NULL, 0, RV_OK, NULL},
	        {"none", "factor", 1, RV_OK, NULL},
	        {"yarn", NULL, 0, RV_OK, NULL},
	        {"yarn", "yarn_beta_fast", 16, RV_OK, NULL},
	        {"yarn", "yarn_ext_factor", 1, RV_OK, NULL},
	        {"linear", NULL, 0, RV_ERR_UNSUPPORTED, "'qwen2.rope.scaling.type'"},
	        {"longrope", NULL, 0, RV_ERR_UNSUPPORTED, "'qwen2.rope.scaling.type'"},
	        {NULL, "factor", 4, RV_ERR_UNSUPPORTED, "'qwen2.rope.scaling.factor'"},
	        {NULL, "attn_factor", 2, RV_ERR_UNSUPPORTED, "'qwen2.rope.scaling.attn_factor'"},
	        {"yarn", "yarn_ext_factor", 0, RV_ERR_UNSUPPORTED, "yarn_ext_factor"},
	        {"yarn", "yarn_log_multiplier", 0.1f, RV_ERR_UNSUPPORTED, "yarn_log_multiplier"},
	        {"yarn", "yarn_beta_fast", 0.5f, RV_ERR_FORMAT, "beta_fast"},
	        {"yarn", "attn_factor", NAN, RV_ERR_FORMAT, "attn_factor"},
	        {"yarn", "original_context_length", 4096, RV_ERR_FORMAT, "not an integer"},
	        {"yarn", "yarn_beta_slow", -1, RV_ERR_FORMAT, "yarn"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		rv_rope_scaling r;
		rv_gguf *g = with_keys(&cases[i], "meta.gguf");
		rv_status st = rv_rope_read(g, "qwen2", &r);
		if (st != cases[i].status)
			fail_msg("case %zu: status %d: %s", i, (int)st, rv_error_message());
		if (st != RV_OK)
			assert_non_null(strstr(rv_error_message(), cases[i].names));
		else
			assert_int_equal(r.kind, cases[i].type && *cases[i].type == 'y' ? RV_ROPE_YARN
			                                                                : RV_ROPE_NONE);
		rv_gguf_close(g);
	}
}

static void written_and_read(void **state) {
	(void)state;
	rv_rope_scaling r = {RV_ROPE_YARN, 4, 32768, 24, 0, 0.75}, back;
	char path[1024];
	rv_gguf_writer *w;
	rv_gguf *g;
	snprintf(path, sizeof path, "%s/written.gguf", test_dir);
	assert_ok(rv_gguf_writer_open(&w, path));
	assert_ok(rv_rope_write(w, "llama", &r));
	assert_ok(rv_gguf_writer_commit(w));
	assert_ok(rv_gguf_open(&g, path, RV_GGUF_VOCAB_ONLY_OK));
	assert_ok(rv_rope_read(g, "llama", &back));
	assert_true(back.kind == r.kind && back.factor == 4 && back.n_ctx_original == 32768 &&
	            back.beta_fast == 24 && back.beta_slow == 0 && back.attn_factor == 0.75);
	rv_gguf_close(g);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(no_scaling),       cmocka_unit_test(ntk),
	        cmocka_unit_test(yarn_frequencies), cmocka_unit_test(yarn_magnitude),
	        cmocka_unit_test(controls),         cmocka_unit_test(defaults),
	        cmocka_unit_test(refusals),         cmocka_unit_test(metadata),
	        cmocka_unit_test(written_and_read),
	};
	return cmocka_run_group_tests(tests, make_test_dir, remove_test_dir);
}
