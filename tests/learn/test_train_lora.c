/* LoRA on chosen layers and roles: from an adapter in memory and back, restarted, exported, in pieces
 * of any size; the gradient by its matrices against float64, and its cosine with another one. */
#include "tests/learn/train_f64.h"

#include "learn/gradient_cosine.h"
#include "model/adapter_write.h"
#include "tests/learn/train_fixture.h"
#include "tests/support/made_adapter.h"

#include <math.h>

static int32_t tokens[FIX_SEQS * (FIX_CTX + 1)];
static rv_model *model;

static int open_model(void **state) {
	(void)state;
	model = fix_model(8);
	return 0;
}
static int close_model(void **state) {
	(void)state;
	rv_model_release(model);
	return 0;
}

/* q of layer 0 at rank 2, down of layer 1 at rank 3, with scales of their own. */
static rv_adapter *mixed(void) {
	made m, n;
	rv_adapter *ad;
	made_begin(&m, model, RV_ROLE_BIT(RV_ATTN_Q), 0, 2, 1);
	made_begin(&n, model, RV_ROLE_BIT(RV_FFN_DOWN), 1, 3, 2);
	rv_adapter_matrix parts[2] = {m.parts[0], n.parts[0]};
	parts[1].scale = 1.75f;
	assert_ok(rv_adapter_create(&ad, model, "mixed", parts, 2));
	made_end(&m);
	made_end(&n);
	return ad;
}

static int same_adapter(const rv_adapter *a, const rv_adapter *b) {
	char x[65], y[65];
	rv_adapter_sha256(a, x);
	rv_adapter_sha256(b, y);
	return strcmp(x, y) == 0;
}

static rv_trainer_options options(void) {
	rv_trainer_options o = fix_options();
	o.lora_rank = 2;
	o.lora_alpha = 3;
	return o;
}

static void chosen(void **state) {
	(void)state;
	rv_trainer_options o = options();
	rv_trainer *t;
	int64_t n = 0;
	o.lora_layers = "1";
	o.lora_targets = "o,q";
	assert_ok(rv_trainer_create_lora(&t, model, NULL, &o));
	for (int64_t i = 0; i < rv_trainer_n_tensors(t); i++)
		if (rv_trainer_tensor(t, i).trained) {
			assert_non_null(strstr(rv_trainer_tensor(t, i).name, "blk.1.attn_"));
			n++;
		}
	assert_int_equal(n, 4);
	rv_trainer_destroy(t);
	static const char *const bad[] = {"2", "-1", "", "0,", "1;0", "x", "99999999999999999999",
	                                  " 1"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		o.lora_layers = bad[i];
		assert_int_equal(rv_trainer_create_lora(&t, model, NULL, &o), RV_ERR_INVALID);
		assert_non_null(strstr(rv_error_message(), "lora layers"));
	}
	o = fix_options();
	assert_int_equal(rv_trainer_create_lora(&t, model, NULL, &o), RV_ERR_INVALID);
	assert_int_equal(rv_trainer_create_lora(&t, model, NULL, NULL), RV_ERR_INVALID);
}

/* In and out again without a step: the same factors. With steps: the same as any other trainer makes.
 */
static void in_and_out(void **state) {
	(void)state;
	rv_trainer_options o = fix_options();
	rv_adapter *start = mixed(), *back, *trained;
	rv_trainer *t, *again;
	assert_ok(rv_trainer_create_lora(&t, model, start, &o));
	assert_ok(rv_trainer_adapter(&back, t, model, "back"));
	assert_true(same_adapter(start, back));
	assert_string_equal(rv_adapter_path(back), "back");
	fix_train(t, 0, 2);
	assert_ok(rv_trainer_adapter(&trained, t, model, "trained"));
	assert_false(same_adapter(start, trained)); /* the comparison sees a difference */
	/* from the trained one, without what AdamW remembers: the loss goes on where it was */
	double was, is;
	fix_batch(tokens, 50);
	assert_ok(rv_trainer_create_lora(&again, model, trained, &o));
	assert_ok(rv_trainer_evaluate(t, tokens, NULL, 8, &was, NULL));
	assert_ok(rv_trainer_evaluate(again, tokens, NULL, 8, &is, NULL));
	assert_true(was == is);
	rv_trainer_destroy(again);
	rv_adapter_release(trained);
	rv_adapter_release(back);
	rv_adapter_release(start);
	rv_trainer_destroy(t);
	o.lora_rank = 0;
	assert_ok(rv_trainer_create_from(&t, model, NULL, &o));
	assert_int_equal(rv_trainer_adapter(&back, t, model, "none"), RV_ERR_INVALID);
	assert_null(back);
	rv_trainer_destroy(t);
}

/* As a file, with one alpha for matrices of several scales. */
static void exported(void **state) {
	(void)state;
	char path[1024];
	rv_trainer_options o = fix_options();
	rv_adapter *start = mixed(), *file;
	rv_trainer *t, *again;
	double was, is;
	fix_path(path, "mixed.gguf");
	assert_ok(rv_trainer_create_lora(&t, model, start, &o));
	fix_train(t, 0, 2);
	assert_ok(rv_trainer_export(t, path, &(rv_train_export){.type = rv_type_get(RV_F32)}));
	assert_ok(rv_adapter_open(&file, path, model));
	assert_ok(rv_trainer_create_lora(&again, model, file, &o));
	fix_batch(tokens, 50);
	assert_ok(rv_trainer_evaluate(t, tokens, NULL, 8, &was, NULL));
	assert_ok(rv_trainer_evaluate(again, tokens, NULL, 8, &is, NULL));
	assert_true(fabs(was - is) < 1e-6);
	rv_trainer_destroy(t);
	assert_ok(rv_trainer_create_lora(&t, model, start, &o));
	assert_ok(rv_trainer_evaluate(t, tokens, NULL, 8, &is, NULL));
	assert_true(fabs(was - is) > 1e-4);
	rv_trainer_destroy(t);
	rv_trainer_destroy(again);
	rv_adapter_release(start);
	rv_adapter_release(file);
	unlink(path);
}

/* A restarted trainer has the bits of a new one; so has a resumed one. */
static void restarted(void **state) {
	(void)state;
	char path[1024];
	rv_trainer_options o = fix_options();
	rv_adapter *start = mixed(), *other;
	rv_trainer *a, *b;
	fix_path(path, "lora-mixed");
	assert_ok(rv_trainer_create_lora(&a, model, start, &o));
	assert_ok(rv_trainer_create_lora(&b, model, start, &o));
	fix_train(a, 0, 3);
	fix_train(b, 0, 1);
	fix_batch(tokens, 1);
	assert_ok(rv_trainer_accumulate(b, tokens, NULL, 3)); /* half a step */
	assert_false(fix_same(a, b));
	assert_ok(rv_trainer_restart(b, start, 0, NULL));
	assert_int_equal(rv_trainer_step_count(b), 0);
	fix_train(b, 0, 2);
	assert_ok(rv_trainer_save(b, path, NULL, 0));
	assert_ok(rv_trainer_restart(b, start, 0, NULL));
	assert_ok(rv_trainer_load(b, path, NULL, NULL));
	fix_train(b, 2, 3);
	assert_true(fix_same(a, b));
	/* a checkpoint knows the scales it was made with */
	made m;
	made_begin(&m, model, RV_ROLE_BIT(RV_ATTN_Q), 0, 2, 1);
	rv_adapter_matrices parts;
	assert_ok(rv_adapter_matrices_init(&parts, start, model));
	parts.parts[1].scale = 0.25f;
	assert_ok(rv_adapter_create(&other, model, "scaled", parts.parts, parts.n));
	assert_ok(rv_trainer_restart(b, other, 0, NULL));
	assert_int_equal(rv_trainer_load(b, path, NULL, NULL), RV_ERR_MISMATCH);
	rv_adapter_release(other);
	rv_adapter_matrices_deinit(&parts);
	/* other matrices are refused */
	assert_ok(rv_adapter_create(&other, model, "two q", m.parts, 2));
	made_end(&m);
	assert_int_equal(rv_trainer_restart(b, other, 0, NULL), RV_ERR_MISMATCH);
	rv_adapter_release(other);
	rv_trainer_destroy(a);
	rv_trainer_destroy(b);
	/* random, under another seed, and a schedule of its own */
	o = options();
	assert_ok(rv_trainer_create_lora(&a, model, NULL, &o));
	o.seed = 5;
	o.schedule.peak = 1e-3;
	assert_ok(rv_trainer_create_lora(&b, model, NULL, &o));
	fix_train(a, 0, 2);
	assert_ok(rv_trainer_restart(a, NULL, 5, &o.schedule));
	fix_train(a, 0, 2);
	fix_train(b, 0, 2);
	assert_true(fix_same(a, b));
	rv_trainer_destroy(a);
	rv_trainer_destroy(b);
	o.lora_rank = 0;
	assert_ok(rv_trainer_create_from(&a, model, NULL, &o));
	assert_int_equal(rv_trainer_restart(a, NULL, 0, NULL), RV_ERR_INVALID);
	rv_trainer_destroy(a);
	rv_adapter_release(start);
	unlink(path);
}

/* Pieces of one sequence: a sum in another order, threads still change no bit. */
static void pieces(void **state) {
	(void)state;
	rv_trainer *t[3];
	double loss[3];
	for (int i = 0; i < 3; i++) {
		rv_trainer_options o = options();
		o.n_threads = i == 1 ? 1 : 3;
		o.piece_tokens = i == 2 ? 512 : 10;
		assert_ok(rv_trainer_create_lora(&t[i], model, NULL, &o));
		loss[i] = fix_train(t[i], 0, 3);
	}
	assert_true(fix_same(t[0], t[1]) && loss[0] == loss[1]);
	assert_true(fabs(loss[0] - loss[2]) < 1e-4 && rv_trainer_bytes(t[0]) < rv_trainer_bytes(t[2]));
	for (int i = 0; i < 3; i++)
		rv_trainer_destroy(t[i]);
}

/* Sequences filled up with tokens of no weight: the loss and bits of a trainer of shorter sequences,
 * and what is asked for alone is computed. */
static void filled_up(void **state) {
	(void)state;
	enum { SHORT = 20, N = 12 };
	static float weights[N * FIX_CTX], few[N * SHORT], each[N * FIX_CTX];
	static int32_t shorter[N * (SHORT + 1)];
	rv_trainer_options o = options();
	rv_trainer *whole, *cut;
	double is, cut_is, wanted;
	o.piece_tokens = 1; /* a sequence each, in both */
	assert_ok(rv_trainer_create_lora(&whole, model, NULL, &o));
	o.n_ctx = SHORT;
	assert_ok(rv_trainer_create_lora(&cut, model, NULL, &o));
	fix_batch(tokens, 3);
	for (int s = 0; s < N; s++) {
		for (int i = 0; i < SHORT; i++)
			weights[s * FIX_CTX + i] = few[s * SHORT + i] =
			        i == SHORT - 1 || i % 3 == s % 3 ? (float)(1 + i % 2) : 0;
		memcpy(shorter + s * (SHORT + 1), tokens + s * (FIX_CTX + 1),
		       (SHORT + 1) * sizeof *shorter);
	}
	assert_ok(rv_trainer_evaluate(whole, tokens, weights, N, &is, NULL));
	assert_ok(rv_trainer_evaluate(cut, shorter, few, N, &cut_is, NULL));
	assert_ok(rv_trainer_evaluate(whole, tokens, weights, N, &wanted, each)); /* every row */
	assert_true(is == cut_is && fabs(is - wanted) < 1e-6);
	for (int i = 0; i < N * FIX_CTX; i++)
		assert_true(each[i] > 0);
	assert_ok(rv_trainer_step(whole, tokens, weights, N, NULL));
	assert_ok(rv_trainer_step(cut, shorter, few, N, NULL));
	assert_true(fix_same(whole, cut));
	weights[5] += 1; /* control: a weight more is seen */
	assert_ok(rv_trainer_step(whole, tokens, weights, N, NULL));
	assert_ok(rv_trainer_step(cut, shorter, few, N, NULL));
	assert_false(fix_same(whole, cut));
	rv_trainer_destroy(whole);
	rv_trainer_destroy(cut);
}

/* ---- the gradient by the factors ---- */

/* Of the mean loss over tokens with weight, in float64 by the same adapter; into set's memory order. */
static void gradient_f64(const rv_adapter *start, const float *mask, int n_seqs, double *out) {
	rv_hparams hp = fix_shape();
	const rv_train_lora lora = {.start = start};
	rv_train_layout l;
	rv_pass pass;
	double *w, weights[FIX_SEQS * FIX_CTX], total = 0;
	assert_ok(rv_train_layout_init(&l, fix_arch(), &hp, &lora));
	assert_ok(RV_ALLOC(&w, l.n_elements, "weights"));
	rv_trainer_options o = fix_options();
	rv_trainer *t;
	assert_ok(rv_trainer_create_lora(&t, model, start, &o));
	for (int64_t i = 0; i < l.n_params; i++)
		for (int64_t j = 0; j < l.params[i].rows * l.params[i].cols; j++)
			w[l.params[i].offset + j] = (double)rv_trainer_tensor(t, i).data[j];
	rv_trainer_destroy(t);
	for (int i = 0; i < n_seqs * FIX_CTX; i++)
		total += weights[i] = (double)mask[i];
	assert_ok(rv_pass_init(&pass, &l, &ops_f64,
	                       &(rv_pass_options){.max_rows = n_seqs * FIX_CTX,
	                                          .n_ctx = FIX_CTX,
	                                          .with_gradient = 1}));
	pass.weights = w;
	pass.gradient = out;
	const rv_piece piece = {.tokens = tokens,
	                        .stride = FIX_CTX + 1,
	                        .n_seqs = n_seqs,
	                        .n_tokens = FIX_CTX,
	                        .weights = weights,
	                        .segment_token = -1};
	rv_pass_forward(&pass, &piece);
	rv_pass_loss(&pass, &piece);
	for (int64_t i = 0; i < l.train_end - l.train_begin; i++)
		out[i] /= total;
	/* and the float64 one against differences, some elements of each factor */
	for (int64_t i = 0; i < l.n_params; i++) {
		const rv_param *p = &l.params[i];
		if (!rv_train_layout_trained(&l, p))
			continue;
		for (int64_t j = 0; j < p->rows * p->cols; j += 7) {
			const double h = 1e-5, was = w[p->offset + j];
			double loss[2];
			pass.gradient = NULL;
			for (int side = 0; side < 2; side++) {
				w[p->offset + j] = was + (side ? h : -h);
				rv_pass_forward(&pass, &piece);
				loss[side] = rv_pass_loss(&pass, &piece).cross_entropy / total;
			}
			w[p->offset + j] = was;
			const double measured = (loss[1] - loss[0]) / (2 * h),
			             exact = out[p->offset - l.train_begin + j];
			if (!(fabs(measured - exact) <= 1e-8 + 1e-5 * fabs(measured)))
				fail_msg("%s, element %d: %g, measured %g", p->name, (int)j, exact,
				         measured);
		}
	}
	rv_pass_deinit(&pass);
	rv_free(w);
	rv_train_layout_deinit(&l);
}

static rv_cosine cosine_of(const rv_gradient_set *x, const rv_gradient_set *y) {
	rv_cosine c;
	assert_ok(rv_gradient_cosine(&c, x->matrices, x->n, y->matrices, y->n));
	return c;
}

static void full_gradient(void **state) {
	(void)state;
	enum { N = 5 };
	static float mask[N * FIX_CTX];
	static double wanted[4096];
	rv_trainer_options o = fix_options();
	rv_adapter *start = mixed();
	rv_trainer *t;
	rv_gradient_set g, other;
	memset(wanted, 0, sizeof wanted);
	for (int i = 0; i < N * FIX_CTX; i++)
		mask[i] =
		        i % FIX_CTX < 20 ? 0 : 0.8f; /* a prompt, then produced tokens of quality 0.8 */
	fix_batch(tokens, 77);
	assert_ok(rv_trainer_create_lora(&t, model, start, &o));
	assert_int_equal(rv_trainer_lora_gradient(t, &g), RV_ERR_INVALID); /* nothing accumulated */
	assert_ok(rv_trainer_accumulate(t, tokens, mask, N));
	assert_ok(rv_trainer_lora_gradient(t, &g));
	assert_int_equal(g.n, 2);
	assert_true(g.matrices[0].role == RV_ATTN_Q && g.matrices[0].layer == 0 &&
	            g.matrices[0].rank == 2 && g.matrices[0].n_in == 32 && g.matrices[0].n_out == 32);
	assert_true(g.matrices[1].role == RV_FFN_DOWN && g.matrices[1].layer == 1 &&
	            g.matrices[1].rank == 3 && g.matrices[1].n_in == 48 && g.matrices[1].n_out == 32);
	gradient_f64(start, mask, N, wanted);
	const int64_t n = 2 * 64 + 3 * 80;
	double worst = 0, most = 0;
	for (int64_t i = 0; i < n; i++) { /* these shapes leave no gaps */
		most = fmax(most, fabs(wanted[i]));
		worst = fmax(worst, fabs(wanted[i] - (double)g.memory[i]));
	}
	assert_true(worst < 1e-4 * most);
	assert_true(cosine_of(&g, &g).all > 1 - 1e-12);
	/* control: of other weights it is another gradient, and the cosine sees it */
	for (int i = 0; i < N * FIX_CTX; i++)
		mask[i] = 0.8f - mask[i];
	assert_ok(rv_trainer_update(t, NULL));
	assert_ok(rv_trainer_accumulate(t, tokens, mask, N));
	assert_ok(rv_trainer_lora_gradient(t, &other));
	assert_true(fabs(cosine_of(&g, &other).all) < 0.99);
	rv_gradient_set_deinit(&g);
	rv_gradient_set_deinit(&other);
	rv_trainer_destroy(t);
	rv_adapter_release(start);
}

static void cosines(void **state) {
	(void)state;
	float xa[] = {1, 0}, xb[] = {0, 2, 0}, ya[] = {0, 5}, yb[] = {0, 1, 0}, zero[] = {0, 0, 0};
	rv_lora_gradient x[2] = {{RV_ATTN_OUT, 3, 1, 2, 3, xa, xb}, {RV_FFN_DOWN, 3, 1, 2, 3, xa, xb}};
	rv_lora_gradient y[2] = {{RV_ATTN_OUT, 3, 1, 2, 3, ya, yb}, {RV_ATTN_OUT, 2, 1, 2, 3, ya, yb}};
	rv_cosine c;
	assert_ok(rv_gradient_cosine(&c, x, 2, y, 2));
	assert_true(c.a == 0 && c.b == 1 && fabs(c.all - 2 / sqrt(5.0 * 26)) < 1e-15);
	assert_true(c.n_matrices == 1 && c.only_x == 1 && c.only_y == 1);
	assert_true(fabs(c.norm_x - sqrt(5)) < 1e-15 && fabs(c.norm_y - sqrt(26)) < 1e-15);
	yb[1] = -1;
	assert_ok(rv_gradient_cosine(&c, x, 2, y, 2));
	assert_true(c.b == -1);
	y[0].a = zero; /* while B is 0, A has no gradient */
	assert_ok(rv_gradient_cosine(&c, x, 2, y, 2));
	assert_true(isnan(c.a) && c.b == -1);
	y[0].n_in = 1;
	assert_int_equal(rv_gradient_cosine(&c, x, 2, y, 2), RV_ERR_MISMATCH);
	y[0].n_in = 2;
	y[0].layer = 9;
	assert_int_equal(rv_gradient_cosine(&c, x, 2, y, 2), RV_ERR_NOT_FOUND);
	y[0].layer = 3;
	xb[2] = NAN;
	assert_int_equal(rv_gradient_cosine(&c, x, 2, y, 2), RV_ERR_NUMERIC);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(chosen),        cmocka_unit_test(in_and_out),
	        cmocka_unit_test(exported),      cmocka_unit_test(restarted),
	        cmocka_unit_test(filled_up),     cmocka_unit_test(pieces),
	        cmocka_unit_test(full_gradient), cmocka_unit_test(cosines),
	};
	return cmocka_run_group_tests(tests, open_model, close_model);
}
