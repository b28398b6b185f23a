/* A folded model holds W + factor * scale * B A where the adapter adapts, and its own bytes elsewhere.
 */
#include "model/adapter_fold.h"

#include "base/mem.h"
#include "base/rng.h"
#include "tests/support/tiny_model.h"

#include <math.h>

enum { RANK = 3, IN = 512, OUT = 256, LAYER = 1 };
static const char adapted[] = "blk.1.ffn_down.weight";

typedef struct kit {
	rv_model *model;
	rv_adapter *adapter;
	float a[RANK * IN], b[OUT * RANK];
	char path[1024];
} kit;

static void open_kit(kit *k, const char *target, float size) {
	rv_rng rng;
	rv_rng_seed(&rng, 5);
	for (int i = 0; i < RANK * IN; i++)
		k->a[i] = (float)rv_rng_normal(&rng);
	for (int i = 0; i < OUT * RANK; i++)
		k->b[i] = size * (float)rv_rng_normal(&rng);
	const rv_adapter_matrix part = {RV_FFN_DOWN, LAYER, RANK, k->a, k->b, 0.5f};
	k->model = tiny_model("qwen2", target);
	assert_ok(rv_adapter_create(&k->adapter, k->model, "made", &part, 1));
	const char *tmp = getenv("TMPDIR");
	snprintf(k->path, sizeof k->path, "%s/rv-fold-%d.gguf", tmp ? tmp : "/tmp", (int)getpid());
}

static void close_kit(kit *k) {
	rv_adapter_release(k->adapter);
	rv_model_release(k->model);
	unlink(k->path);
}

static float *decode(const rv_gguf_tensor *t) {
	float *x;
	assert_ok(RV_ALLOC(&x, t->dims[0] * t->dims[1], "tensor"));
	const size_t row = rv_type_row_bytes(rv_type_get((int)t->type), t->dims[0]);
	for (int64_t r = 0; r < t->dims[1]; r++)
		rv_kernels_for(RV_LEVEL_REF)
		        ->type[t->type]
		        .dequantize(x + r * t->dims[0], t->data + (size_t)r * row, t->dims[0]);
	return x;
}

/* |folded - (W + f * 0.5 B A)| / |B A / 2|; every other tensor must be the same bytes. */
static double difference(const kit *k, double f) {
	rv_gguf *g;
	double off = 0, size = 0;
	assert_ok(rv_gguf_open(&g, k->path, RV_GGUF_DEFAULT));
	const rv_gguf *base = rv_model_gguf(k->model);
	assert_int_equal(rv_gguf_n_tensors(g), rv_gguf_n_tensors(base));
	for (size_t i = 0; i < rv_gguf_n_tensors(base); i++) {
		const rv_gguf_tensor *was = rv_gguf_tensor_at(base, i);
		const rv_gguf_tensor *is = rv_gguf_find_tensor(g, was->name);
		assert_non_null(is);
		if (strcmp(was->name, adapted) != 0) {
			assert_int_equal(is->n_bytes, was->n_bytes);
			assert_memory_equal(is->data, was->data, was->n_bytes);
			continue;
		}
		float *w = decode(was), *x = decode(is);
		for (int r = 0; r < OUT; r++)
			for (int c = 0; c < IN; c++) {
				double sum = 0;
				for (int j = 0; j < RANK; j++)
					sum += 0.5 * (double)k->b[r * RANK + j] *
					       (double)k->a[j * IN + c];
				off += pow((double)w[r * IN + c] + f * sum - (double)x[r * IN + c], 2);
				size += sum * sum;
			}
		rv_free(w);
		rv_free(x);
	}
	rv_gguf_close(g);
	return sqrt(off / size);
}

static void test_folds(void **state) {
	(void)state;
	static const char *const targets[] = {"F16", "Q8_0", "Q4_K_M"};
	static const double most[] = {1e-2, 0.2, 3}; /* of the change: what rounding W costs */
	for (int i = 0; i < 3; i++) {
		kit k;
		rv_fold_report r;
		const double f = 0.75;
		const rv_fold_options o = {.factors = &f};
		open_kit(&k, targets[i], 0.02f);
		assert_ok(rv_adapter_fold(k.path, k.model, &k.adapter, 1, &o, &r));
		const double d = difference(&k, f);
		assert_int_equal(r.n_matrices, 1);
		assert_true(d < most[i]);
		assert_true(fabs(r.rounding / r.change * f - d) < 1e-3 + 0.01 * d);
		if (i == 0)
			assert_true(difference(&k, 0.7) > 4 * most[i]); /* control */
		/* in another type: as exact as that */
		const rv_fold_options f32 = {.type = rv_type_get(RV_F32), .factors = &f};
		assert_ok(rv_adapter_fold(k.path, k.model, &k.adapter, 1, &f32, &r));
		assert_true(difference(&k, f) < 1e-5);
		close_kit(&k);
	}
}

static void expect(rv_status st, rv_status wanted, const char *what) {
	if (st != wanted || !strstr(rv_error_message(), what))
		fail_msg("expected '%s', got %s: %s", what, rv_status_text(st), rv_error_message());
}

static void test_refused(void **state) {
	(void)state;
	kit k;
	open_kit(&k, "F16", 1e6f); /* no half float holds what comes out */
	expect(rv_adapter_fold(k.path, k.model, &k.adapter, 1, NULL, NULL), RV_ERR_NUMERIC, adapted);
	assert_int_equal(access(k.path, F_OK), -1);
	rv_hparams hp = tiny_hparams();
	hp.n_ff = 768;
	rv_model *other = tiny_model_of(&hp, "qwen2", "F16", 1);
	expect(rv_adapter_fold(k.path, other, &k.adapter, 1, NULL, NULL), RV_ERR_MISMATCH,
	       "another shape");
	rv_model_release(other);
	/* the head of a tied model is its embedding */
	float *head;
	rv_adapter *ad;
	assert_ok(RV_ALLOC(&head, 512, "factors"));
	const rv_adapter_matrix part = {RV_OUTPUT, -1, 1, head, head, 1};
	assert_ok(rv_adapter_create(&ad, k.model, "head", &part, 1));
	expect(rv_adapter_fold(k.path, k.model, &ad, 1, NULL, NULL), RV_ERR_MISMATCH, "embedding");
	rv_adapter_release(ad);
	rv_free(head);
	assert_int_equal(access(k.path, F_OK), -1);
	close_kit(&k);
}

int main(void) {
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_folds),
	                                   cmocka_unit_test(test_refused)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
