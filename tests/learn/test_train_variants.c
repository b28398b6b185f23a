/* Adapters, distillation, segments and masks. */
#include "tests/learn/train_fixture.h"

#include "model/gguf.h"

#include <math.h>

static int32_t tokens[FIX_SEQS * (FIX_CTX + 1)];
static float logits_a[FIX_CTX * FIX_VOCAB], logits_b[FIX_CTX * FIX_VOCAB];

static double logits_differ(rv_trainer *a, rv_trainer *b) {
	double worst = 0;
	fix_batch(tokens, 500);
	assert_ok(rv_trainer_logits(a, tokens, FIX_CTX, logits_a));
	assert_ok(rv_trainer_logits(b, tokens, FIX_CTX, logits_b));
	for (int i = 0; i < FIX_CTX * FIX_VOCAB; i++)
		worst = fmax(worst, fabs((double)logits_a[i] - (double)logits_b[i]));
	return worst;
}

/* ---- adapters ---- */

static rv_train_tensor tensor_named(const rv_trainer *t, const char *name) {
	for (int64_t i = 0; i < rv_trainer_n_tensors(t); i++)
		if (strcmp(rv_trainer_tensor(t, i).name, name) == 0)
			return rv_trainer_tensor(t, i);
	fail_msg("no tensor %s", name);
	return (rv_train_tensor){0};
}

/* W += alpha / rank B A for each pair of the file, by the definition of llama.cpp's reader: A is
 * [in, rank] and B is [rank, out] in GGUF's order of dimensions. Returns the number of pairs. */
static int merge(rv_trainer *t, const rv_gguf *g) {
	int pairs = 0;
	double alpha;
	assert_ok(rv_gguf_double(g, "adapter.lora.alpha", &alpha));
	for (size_t i = 0; i < rv_gguf_n_tensors(g); i++) {
		const rv_gguf_tensor *a = rv_gguf_tensor_at(g, i);
		char name[80];
		snprintf(name, sizeof name, "%s", a->name);
		char *suffix = strstr(name, ".lora_a");
		if (!suffix)
			continue;
		memcpy(suffix, ".lora_b", 7);
		const rv_gguf_tensor *b = rv_gguf_find_tensor(g, name);
		assert_non_null(b);
		*suffix = 0;
		rv_train_tensor w = tensor_named(t, name);
		const int64_t rank = a->dims[1];
		assert_true(a->type == RV_F32 && b->type == RV_F32 && a->dims[0] == w.cols &&
		            b->dims[0] == rank && b->dims[1] == w.rows);
		const float *fa = (const float *)(const void *)a->data,
		            *fb = (const float *)(const void *)b->data;
		float *weights = (float *)(uintptr_t)w.data;
		for (int64_t r = 0; r < w.rows; r++)
			for (int64_t c = 0; c < w.cols; c++) {
				double sum = 0;
				for (int64_t k = 0; k < rank; k++)
					sum += (double)fb[r * rank + k] * (double)fa[k * w.cols + c];
				weights[r * w.cols + c] += (float)(alpha / (double)rank * sum);
			}
		pairs++;
	}
	return pairs;
}

static void check_text(const rv_gguf *g, const char *key, const char *wanted) {
	rv_str s;
	assert_ok(rv_gguf_string(g, key, &s));
	assert_int_equal(s.len, strlen(wanted));
	assert_memory_equal(s.data, wanted, s.len);
}

static void adapters(void **state) {
	(void)state;
	char path[1024];
	fix_path(path, "lora.gguf");
	rv_model *base = fix_model(10);
	rv_trainer_options o = fix_options();
	rv_trainer *plain, *t;
	assert_ok(rv_trainer_create_from(&plain, base, NULL, &o));
	o.lora_rank = 3;
	o.lora_alpha = 6;
	assert_ok(rv_trainer_create_from(&t, base, NULL, &o));
	assert_true(logits_differ(plain, t) == 0); /* B is 0 */
	assert_int_equal(rv_trainer_n_params(t), rv_trainer_n_params(plain));
	/* rank (in + out) of q, k, v, o, gate, up, down in 2 layers */
	assert_int_equal(rv_trainer_n_trained(t), 2 * 3 * (64 + 48 + 48 + 64 + 80 + 80 + 80));
	double first = fix_train(t, 0, 1), last = fix_train(t, 1, 25);
	if (!(last < 0.9 * first))
		fail_msg("loss %g to %g", first, last);
	for (int64_t i = 0; i < rv_trainer_n_tensors(plain); i++) { /* what is frozen is frozen */
		rv_train_tensor x = rv_trainer_tensor(plain, i), y = rv_trainer_tensor(t, i);
		assert_false(y.trained);
		assert_memory_equal(x.data, y.data, (size_t)(x.rows * x.cols) * sizeof(float));
	}
	assert_ok(rv_trainer_export(t, path,
	                            &(rv_train_export){.type = rv_type_get(RV_F32), .name = "x"}));
	rv_gguf *g;
	assert_ok(rv_gguf_open(&g, path, RV_GGUF_DEFAULT));
	check_text(g, "general.type", "adapter");
	check_text(g, "general.architecture", "qwen2");
	check_text(g, "adapter.type", "lora");
	assert_int_equal(rv_gguf_n_tensors(g), 2 * 2 * 7);
	assert_true(logits_differ(plain, t) > 1e-2);
	assert_int_equal(merge(plain, g), 14);
	assert_true(logits_differ(plain, t) < 1e-4);
	rv_gguf_close(g);
	unlink(path);
	rv_trainer_destroy(plain);
	rv_trainer_destroy(t);
	rv_model_release(base);
}

/* Adapters of some projections resume bit for bit too. */
static void adapters_resume(void **state) {
	(void)state;
	char path[1024];
	fix_path(path, "lora-checkpoint");
	rv_trainer_options o = fix_options();
	o.lora_rank = 2;
	o.lora_targets = "q,v,down";
	rv_trainer *whole = fix_trainer(&o), *part = fix_trainer(&o), *back = fix_trainer(&o);
	fix_train(whole, 0, 4);
	fix_train(part, 0, 2);
	assert_ok(rv_trainer_save(part, path, NULL, 0));
	assert_ok(rv_trainer_load(back, path, NULL, NULL));
	fix_train(back, 2, 4);
	assert_true(fix_same(whole, back));
	assert_false(fix_same(whole, part));
	unlink(path);
	rv_trainer_destroy(whole);
	rv_trainer_destroy(part);
	rv_trainer_destroy(back);
}

/* ---- distillation ---- */

static void distillation(void **state) {
	(void)state;
	rv_model *teacher = fix_model(40);
	rv_hparams hp = fix_shape();
	rv_trainer_options o = fix_options();
	rv_trainer *same, *student;
	rv_train_record r;
	o.distill_weight = 1;
	o.weight_decay = 0;
	fix_batch(tokens, 0);
	assert_ok(rv_trainer_create_from(&same, teacher, teacher, &o));
	assert_ok(rv_trainer_step(same, tokens, NULL, FIX_SEQS,
	                          &r)); /* its own teacher: nothing to learn */
	assert_true(fabs(r.kl) < 1e-6 && r.gradient_norm < 1e-4 && r.cross_entropy > 0.05);
	rv_trainer_destroy(same);

	hp.n_layers = 1;
	hp.n_embd = 24;
	o.distill_weight = 0.5;
	assert_ok(rv_trainer_create(&student, fix_arch(), &hp, teacher, &o));
	assert_ok(rv_trainer_step(student, tokens, NULL, FIX_SEQS, &r));
	double first = r.kl;
	assert_true(fabs(r.loss - (0.5 * r.cross_entropy + 0.5 * 4 * r.kl)) < 1e-9);
	fix_train(student, 1, 40);
	fix_batch(tokens, 900);
	assert_ok(rv_trainer_step(student, tokens, NULL, FIX_SEQS, &r));
	if (!(r.kl > 0 && r.kl < 0.5 * first))
		fail_msg("divergence %g to %g", first, r.kl);
	rv_trainer_destroy(student);
	hp.n_vocab = FIX_VOCAB + 1;
	assert_int_equal(rv_trainer_create(&student, fix_arch(), &hp, teacher, &o), RV_ERR_MISMATCH);
	rv_model_release(teacher);
}

/* ---- what a prediction depends on ---- */

static void segments(void **state) {
	(void)state;
	for (int on = 0; on < 2; on++) {
		rv_trainer_options o = fix_options();
		o.segments = on;
		o.segment_token = 7;
		rv_trainer *t = fix_trainer(&o);
		for (int i = 0; i < FIX_CTX; i++)
			tokens[i] = 8 + i % 9;
		tokens[20] = 7;
		assert_ok(rv_trainer_logits(t, tokens, FIX_CTX, logits_a));
		tokens[11] = 9; /* before the end of the segment */
		assert_ok(rv_trainer_logits(t, tokens, FIX_CTX, logits_b));
		size_t row = FIX_VOCAB, before = 20 * row, after = 21 * row, n = (FIX_CTX - 21) * row;
		assert_memory_not_equal(logits_a + before, logits_b + before, row * sizeof(float));
		assert_int_equal(memcmp(logits_a + after, logits_b + after, n * sizeof(float)) == 0,
		                 on);
		rv_trainer_destroy(t);
	}
}

static void masks(void **state) {
	(void)state;
	static float weights[FIX_SEQS * FIX_CTX], losses[FIX_SEQS * FIX_CTX];
	rv_trainer_options o = fix_options();
	rv_trainer *t = fix_trainer(&o), *twin = fix_trainer(&o);
	double mean, sum = 0, weight = 0;
	fix_batch(tokens, 0);
	for (int i = 0; i < FIX_SEQS * FIX_CTX; i++)
		weights[i] = i % FIX_CTX == FIX_CTX - 1 ? 0 : (float)(1 + i % 3);
	assert_ok(rv_trainer_evaluate(t, tokens, weights, FIX_SEQS, &mean, losses));
	for (int i = 0; i < FIX_SEQS * FIX_CTX; i++) {
		sum += (double)weights[i] * (double)losses[i];
		weight += (double)weights[i];
	}
	assert_true(fabs(mean - sum / weight) < 1e-6);
	/* the last target of a sequence has no weight: another one changes nothing */
	assert_ok(rv_trainer_step(t, tokens, weights, FIX_SEQS, NULL));
	for (int s = 0; s < FIX_SEQS; s++)
		tokens[s * (FIX_CTX + 1) + FIX_CTX] = 1;
	assert_ok(rv_trainer_step(twin, tokens, weights, FIX_SEQS, NULL));
	assert_true(fix_same(t, twin));
	tokens[FIX_CTX - 1] ^= 1; /* one that has */
	assert_ok(rv_trainer_step(t, tokens, weights, FIX_SEQS, NULL));
	tokens[FIX_CTX - 1] ^= 1;
	assert_ok(rv_trainer_step(twin, tokens, weights, FIX_SEQS, NULL));
	assert_false(fix_same(t, twin));
	rv_trainer_destroy(t);
	rv_trainer_destroy(twin);
}

/* Longer sequences from some step on, and what is told about a step. */
static int records;
static void count(void *user, const rv_train_record *r) {
	assert_ptr_equal(user, &records);
	assert_int_equal(r->step, records++);
	assert_true(r->learning_rate > 0 && r->gradient_norm > 0 && r->seconds > 0 &&
	            r->eta_seconds >= 0);
	assert_true(r->loss == r->cross_entropy && r->kl == 0);
}

static void longer(void **state) {
	(void)state;
	rv_trainer_options o = fix_options();
	rv_trainer *t = fix_trainer(&o);
	records = 0;
	rv_trainer_set_record(t, count, &records);
	fix_train(t, 0, 2);
	assert_ok(rv_trainer_set_ctx(t, 2 * FIX_CTX));
	fix_batch(tokens, 2);
	assert_ok(rv_trainer_step(t, tokens, NULL, 3, NULL));
	assert_int_equal(rv_trainer_token_count(t), (2 * FIX_SEQS + 3 * 2) * FIX_CTX);
	assert_int_equal(records, 3);
	assert_int_equal(rv_trainer_set_ctx(t, 0), RV_ERR_INVALID);
	rv_trainer_destroy(t);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(adapters),     cmocka_unit_test(adapters_resume),
	        cmocka_unit_test(distillation), cmocka_unit_test(segments),
	        cmocka_unit_test(masks),        cmocka_unit_test(longer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
