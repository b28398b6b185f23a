/* Divergence of predictions: known values; a model against itself and against a changed copy. */
#include "eval/divergence.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* cmocka compares floats only in single precision. */
static void assert_near(double a, double b, double epsilon) {
	if (!(fabs(a - b) <= epsilon))
		fail_msg("%.17g is not %.17g", a, b);
}

static void known_kl(void **state) {
	(void)state;
	/* p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2), as logits with any offset */
	const float p[] = {logf(2), 0, 0}, q[] = {3, 3, 3 + logf(2)};
	assert_near(rv_kl_of_logits(p, q, 3), 0.25 * log(2), 1e-7);
	assert_near(rv_kl_of_logits(p, p, 3), 0, 1e-15);
	assert_true(rv_kl_of_logits(q, p, 3) > 0);
	/* far apart logits neither overflow nor vanish */
	const float hot[] = {900, -900}, cold[] = {-900, 900};
	assert_near(rv_kl_of_logits(hot, cold, 2), 1800, 1e-9);
	const float certain[] = {0, -INFINITY}, even[] = {0, 0};
	assert_near(rv_kl_of_logits(certain, even, 2), log(2), 1e-12);
}

static const char *reference(const char *name) {
	static char path[4096];
	const char *root = getenv("RV_REFERENCE");
	snprintf(path, sizeof path, "%s/models/%s", root != NULL ? root : "../shared/reference", name);
	if (access(path, R_OK) != 0) {
		print_message("no %s\n", path);
		skip();
	}
	return path;
}

static rv_divergence_base *base_of(rv_model *model, uint64_t seed, int threads) {
	rv_divergence_base *base = NULL;
	const rv_divergence_options o = {
	        .n_seqs = 3, .n_tokens = 40, .seed = seed, .n_threads = threads};
	assert_int_equal(rv_divergence_base_create(&base, model, &o), RV_OK);
	return base;
}

static rv_divergence measured(const rv_divergence_base *base, rv_model *model) {
	rv_context *ctx = NULL;
	rv_divergence d = {0};
	assert_int_equal(rv_context_create(&ctx, model, NULL), RV_OK);
	assert_int_equal(rv_divergence_measure(base, ctx, &d), RV_OK);
	rv_context_destroy(ctx);
	return d;
}

static void same_and_other(void **state) {
	(void)state;
	rv_model *f32 = NULL, *q8 = NULL;
	assert_int_equal(rv_model_open(&f32, reference("stories260K.f32.gguf"), NULL), RV_OK);
	rv_divergence_base *base = base_of(f32, 1, 1);
	rv_divergence self = measured(base, f32);
	assert_true(self.n == 120 && self.kl == 0 && self.kl_max == 0 && self.same_top == 1);
	assert_true(self.cross_entropy == self.base_cross_entropy);
	/* sampled from the model itself: the loss is near its entropy, far below that of guessing */
	assert_true(self.cross_entropy > 0.5 && self.cross_entropy < 2.5);
	assert_int_equal(rv_model_open(&q8, reference("stories260K.q8_0-mixed.gguf"), NULL), RV_OK);
	rv_divergence other = measured(base, q8);
	assert_true(other.kl > 1e-6 && other.kl < 0.02 && other.kl_max > other.kl && other.kl_se > 0);
	assert_true(other.same_top > 0.9 && other.cross_entropy != other.base_cross_entropy);
	rv_model_release(q8);
	rv_divergence_base_destroy(base);
	rv_model_release(f32);
}

static void seed_decides(void **state) {
	(void)state;
	rv_model *model = NULL;
	assert_int_equal(rv_model_open(&model, reference("stories260K.f32.gguf"), NULL), RV_OK);
	rv_divergence_base *a = base_of(model, 7, 1), *b = base_of(model, 7, 2),
	                   *c = base_of(model, 8, 1);
	size_t bytes = 41 * sizeof(int32_t);
	int differs = 0;
	for (int s = 0; s < 3; s++) {
		assert_memory_equal(rv_divergence_sequence(a, s), rv_divergence_sequence(b, s), bytes);
		differs |= memcmp(rv_divergence_sequence(a, s), rv_divergence_sequence(c, s), bytes);
	}
	assert_true(differs);
	assert_memory_not_equal(rv_divergence_sequence(a, 0), rv_divergence_sequence(a, 1), bytes);
	rv_divergence_base_destroy(a);
	rv_divergence_base_destroy(b);
	rv_divergence_base_destroy(c);
	rv_model_release(model);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(known_kl),
	        cmocka_unit_test(same_and_other),
	        cmocka_unit_test(seed_decides),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
