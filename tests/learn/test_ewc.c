/* Elastic weight consolidation: the derivative of its penalties against finite differences in float64,
 * each with a dropped term that is noticed; the Fisher diagonal against squared float64 gradients; what
 * it does to training; its files. */
#include "tests/learn/train_f64.h"

#include "base/file.h"
#include "learn/ewc.h"
#include "learn/sealed.h"
#include "tests/learn/train_fixture.h"

#include <math.h>

static int32_t tokens[FIX_SEQS * (FIX_CTX + 1)];

/* ---- penalties in float64 ---- */

typedef struct rig {
	rv_train_layout layout;
	rv_pass pass;
	double *weights, *gradient, *anchor, *fisher, *scratch;
	rv_hold holds[64];
	int n_holds;
} rig;

enum { MANY = 4096 };

/* product: every adapter by its product, else every factor by itself. */
static void rig_open(rig *r, int product) {
	rv_hparams hp = fix_shape();
	const rv_train_lora lora = {.rank = 2, .alpha = 3, .targets = "k,up", .layers = "1"};
	rv_rng rng;
	rv_rng_seed(&rng, 12);
	assert_ok(rv_train_layout_init(&r->layout, fix_arch(), &hp, &lora));
	const int64_t n = r->layout.n_elements;
	assert_ok(RV_ALLOC(&r->weights, n, "weights"));
	assert_ok(RV_ALLOC(&r->gradient, n, "gradient"));
	assert_ok(RV_ALLOC(&r->anchor, n, "anchor"));
	assert_ok(RV_ALLOC(&r->fisher, n, "fisher"));
	assert_ok(RV_ALLOC(&r->scratch, MANY, "scratch"));
	for (int64_t i = 0; i < n; i++) {
		r->weights[i] = rv_rng_normal(&rng);
		r->anchor[i] = rv_rng_normal(&rng);
		r->fisher[i] = rv_rng_double(&rng);
	}
	assert_ok(rv_pass_init(&r->pass, &r->layout, &ops_f64,
	                       &(rv_pass_options){.max_rows = 1, .n_ctx = 1, .with_gradient = 1}));
	r->pass.weights = r->weights;
	for (int64_t i = 0; i < r->layout.n_params; i++) {
		const rv_param *p = &r->layout.params[i];
		if (!rv_train_layout_trained(&r->layout, p) || (product && p->part != RV_PART_LORA_A))
			continue;
		const int64_t w = rv_train_layout_find(&r->layout, p->role, p->layer, RV_PART_WEIGHT);
		const int64_t at = product ? r->layout.params[w].offset : p->offset;
		assert_true(!product || r->layout.params[w].rows * r->layout.params[w].cols <= MANY);
		r->holds[r->n_holds++] = (rv_hold){.param = i,
		                                   .product = product,
		                                   .anchor = r->anchor + at,
		                                   .fisher = r->fisher + at};
	}
}

static void rig_close(rig *r) {
	rv_pass_deinit(&r->pass);
	rv_free(r->weights);
	rv_free(r->gradient);
	rv_free(r->anchor);
	rv_free(r->fisher);
	rv_free(r->scratch);
	rv_train_layout_deinit(&r->layout);
}

static double penalty_of(rig *r, double *gradient, double lambda) {
	double sum = 0;
	for (int i = 0; i < r->n_holds; i++) {
		rv_pass_hold(&r->pass, &r->holds[i], gradient, lambda, r->scratch);
		sum += r->holds[i].penalty;
	}
	return lambda * sum;
}

/* Name of the first tensor whose derivative is wrong. */
static const char *wrong_tensor(rig *r) {
	const double h = 1e-5, lambda = 2.3;
	memset(r->gradient, 0, (size_t)r->layout.n_elements * sizeof *r->gradient);
	penalty_of(r, r->gradient, lambda);
	for (int64_t i = 0; i < r->layout.n_params; i++) {
		const rv_param *p = &r->layout.params[i];
		if (!rv_train_layout_trained(&r->layout, p))
			continue;
		for (int64_t j = p->offset; j < p->offset + p->rows * p->cols; j++) {
			const double was = r->weights[j],
			             exact = r->gradient[j - r->layout.train_begin];
			r->weights[j] = was + h;
			const double up = penalty_of(r, NULL, lambda);
			r->weights[j] = was - h;
			const double down = penalty_of(r, NULL, lambda);
			r->weights[j] = was;
			const double measured = (up - down) / (2 * h);
			if (!(fabs(measured - exact) <= 1e-5 + 1e-6 * fabs(measured)))
				return p->name;
		}
	}
	return NULL;
}

static void derivative_of_penalties(void **state) {
	(void)state;
	for (int product = 0; product < 2; product++) {
		rig r = {0};
		rig_open(&r, product);
		assert_int_equal(r.n_holds, product ? 2 : 4);
		const char *wrong = wrong_tensor(&r);
		if (wrong)
			fail_msg("penalty, product %d: derivative of %s", product, wrong);
		dropped = product ? DROP_hold_into_a : DROP_anchor;
		wrong = wrong_tensor(&r);
		dropped = DROP_nothing;
		assert_non_null(wrong);
		rig_close(&r);
	}
}

/* ---- the Fisher diagonal ---- */

/* Squared gradients of each sequence by the float64 pass, of trained weights; or the square of the sum.
 */
static void squares_f64(const rv_trainer *t, const int32_t *text, const float *weights, int n_seqs,
                        int of_sum, double *out) {
	rv_hparams hp = fix_shape();
	rv_train_layout l;
	rv_pass pass;
	double *w, *g, total = 0;
	assert_ok(rv_train_layout_init(&l, fix_arch(), &hp, NULL));
	const int64_t n = l.n_elements;
	assert_ok(RV_ALLOC(&w, n, "weights"));
	assert_ok(RV_ALLOC(&g, n, "gradient"));
	for (int64_t i = 0; i < l.n_params; i++) {
		rv_train_tensor x = rv_trainer_tensor(t, i);
		for (int64_t j = 0; j < x.rows * x.cols; j++)
			w[l.params[i].offset + j] = (double)x.data[j];
	}
	assert_ok(rv_pass_init(
	        &pass, &l, &ops_f64,
	        &(rv_pass_options){.max_rows = FIX_CTX, .n_ctx = FIX_CTX, .with_gradient = 1}));
	pass.weights = w;
	pass.gradient = g;
	memset(out, 0, (size_t)n * sizeof *out);
	for (int s = 0; s < n_seqs; s++) {
		double mask[FIX_CTX];
		for (int i = 0; i < FIX_CTX; i++)
			total += mask[i] = weights ? (double)weights[s * FIX_CTX + i] : 1;
		const rv_piece piece = {.tokens = text + s * (FIX_CTX + 1),
		                        .stride = FIX_CTX + 1,
		                        .n_seqs = 1,
		                        .n_tokens = FIX_CTX,
		                        .weights = mask,
		                        .segment_token = -1};
		if (!of_sum)
			memset(g, 0, (size_t)n * sizeof *g);
		rv_pass_forward(&pass, &piece);
		rv_pass_loss(&pass, &piece);
		for (int64_t i = 0; i < n && (!of_sum || s == n_seqs - 1); i++)
			out[i] += g[i] * g[i];
	}
	for (int64_t i = 0; i < n; i++)
		out[i] /= total;
	rv_pass_deinit(&pass);
	rv_free(w);
	rv_free(g);
	rv_train_layout_deinit(&l);
}

/* Largest difference of a Fisher, as a share of the largest element of its tensor. */
static double fisher_differs(const rv_ewc *e, const rv_train_layout *l, const double *wanted) {
	double worst = 0;
	for (int64_t i = 0; i < rv_ewc_n_tensors(e); i++) {
		const rv_ewc_tensor x = rv_ewc_tensor_at(e, i);
		const double *y = wanted + l->params[i].offset;
		double most = 0, difference = 0;
		assert_string_equal(x.name, l->params[i].name);
		for (int64_t j = 0; j < x.rows * x.cols; j++) {
			most = fmax(most, y[j]);
			difference = fmax(difference, fabs((double)x.fisher[j] - y[j]));
		}
		/* of a bias of keys only rounding is left: it moves all scores of a query alike */
		if (!strstr(x.name, "attn_k.bias"))
			worst = fmax(worst, difference / most);
	}
	return worst;
}

static void fisher(void **state) {
	(void)state;
	enum { N = 6 };
	static double wanted[1 << 16], of_sum[1 << 16], second[1 << 16];
	static float weights[N * FIX_CTX];
	rv_trainer_options o = fix_options();
	rv_hparams hp = fix_shape();
	rv_train_layout l;
	rv_trainer *t = fix_trainer(&o);
	rv_ewc *e;
	assert_ok(rv_train_layout_init(&l, fix_arch(), &hp, NULL));
	assert_true(l.n_elements <= 1 << 16);
	fix_train(t, 0, 5);
	assert_ok(rv_ewc_create(&e, t, 0.75));
	fix_batch(tokens, 100);
	for (int i = 0; i < N * FIX_CTX; i++)
		weights[i] = i % 3 == 1 ? 0 : (float)(1 + i % 2);
	squares_f64(t, tokens, weights, N, 0, wanted);
	squares_f64(t, tokens, weights, N, 1, of_sum);
	assert_ok(rv_ewc_observe(e, t, tokens, weights, N));
	const double difference = fisher_differs(e, &l, wanted);
	if (!(difference < 1e-3))
		fail_msg("Fisher differs by %g", difference);
	assert_true(fisher_differs(e, &l, of_sum) > 0.1); /* the control: of a batch is another thing */
	/* the second observation: (0.75 0.25 F1 + 0.25 F2) / (1 - 0.75^2) */
	fix_batch(tokens, 101);
	squares_f64(t, tokens, NULL, N, 0, second);
	assert_ok(rv_ewc_observe(e, t, tokens, NULL, N));
	for (int64_t i = 0; i < l.n_elements; i++)
		second[i] = (0.75 * 0.25 * wanted[i] + 0.25 * second[i]) / (1 - 0.75 * 0.75);
	assert_true(fisher_differs(e, &l, second) < 1e-3);
	assert_true(fisher_differs(e, &l, wanted) > 1e-2);
	assert_int_equal(rv_ewc_n_observations(e), 2);
	rv_ewc_destroy(e);
	rv_trainer_destroy(t);
	rv_train_layout_deinit(&l);
}

static void threads_change_no_bit(void **state) {
	(void)state;
	rv_ewc *e[3];
	rv_trainer *t[3];
	static const struct { int threads, slices; } settings[3] = {{1, 4}, {3, 4}, {2, 3}};
	for (int i = 0; i < 3; i++) {
		rv_trainer_options o = fix_options();
		o.n_threads = settings[i].threads;
		o.n_slices = settings[i].slices;
		t[i] = fix_trainer(&o);
		assert_ok(rv_ewc_create(&e[i], t[i], 0));
		fix_batch(tokens, 7);
		assert_ok(rv_ewc_observe(e[i], t[i], tokens, NULL, 7));
		fix_train(t[i], 0, 1);
		assert_ok(rv_trainer_set_ewc(t[i], e[i], 10));
		if (i < 2)
			fix_train(t[i], 1, 4);
	}
	for (int i = 1; i < 3; i++)
		for (int64_t k = 0; k < rv_ewc_n_tensors(e[0]); k++) {
			const rv_ewc_tensor x = rv_ewc_tensor_at(e[0], k),
			                    y = rv_ewc_tensor_at(e[i], k);
			assert_memory_equal(x.fisher, y.fisher,
			                    (size_t)(x.rows * x.cols) * sizeof(float));
		}
	assert_true(fix_same(t[0], t[1]));
	for (int i = 0; i < 2; i++) { /* and of LoRA held by its products */
		rv_trainer_options o = fix_options();
		o.n_threads = settings[i].threads;
		o.lora_rank = 2;
		rv_trainer_destroy(t[i]);
		t[i] = fix_trainer(&o);
		assert_ok(rv_trainer_set_ewc(t[i], e[0], 10));
		fix_train(t[i], 0, 3);
	}
	assert_true(fix_same(t[0], t[1]));
	for (int i = 0; i < 3; i++) {
		rv_trainer_destroy(t[i]);
		rv_ewc_destroy(e[i]);
	}
}

/* ---- in training ---- */

/* The other task: the same sequences, every token replaced by one far away. */
static void other_batch(int64_t step) {
	fix_batch(tokens, step);
	for (int i = 0; i < FIX_SEQS * (FIX_CTX + 1); i++)
		tokens[i] = (int32_t)((tokens[i] * 7 + 3) % FIX_VOCAB);
}

static double old_loss(rv_trainer *t) {
	double loss;
	fix_batch(tokens, 1000);
	assert_ok(rv_trainer_evaluate(t, tokens, NULL, FIX_SEQS, &loss, NULL));
	return loss;
}

/* Rise of the old loss after learning the other task; the last record. */
static double forgets(const rv_model *model, rv_ewc *(*make)(const rv_model *), double lambda,
                      const rv_trainer_options *o, rv_train_record *r) {
	rv_trainer *t;
	rv_ewc *e = make ? make(model) : NULL;
	assert_ok(rv_trainer_create_from(&t, model, NULL, o));
	const double before = old_loss(t);
	assert_ok(rv_trainer_set_ewc(t, e, lambda));
	for (int64_t i = 0; i < 12; i++) {
		other_batch(i);
		assert_ok(rv_trainer_step(t, tokens, NULL, FIX_SEQS, r));
	}
	const double after = old_loss(t);
	if (e) { /* the record's penalty is of the weights before its update; take one more */
		double raw;
		assert_ok(rv_trainer_penalty(t, &raw));
		other_batch(12);
		assert_ok(rv_trainer_step(t, tokens, NULL, FIX_SEQS, r));
		assert_true(raw > 0 && fabs(r->penalty - lambda * raw) < 1e-9 * r->penalty);
		assert_true(fabs(r->loss - r->cross_entropy - r->penalty) < 1e-9);
	} else
		assert_true(r->penalty == 0 && r->loss == r->cross_entropy);
	rv_trainer_destroy(t);
	rv_ewc_destroy(e);
	return after - before;
}

static rv_ewc *memory_of(const rv_model *model) {
	rv_trainer_options o = fix_options();
	rv_trainer *t;
	rv_ewc *e;
	assert_ok(rv_trainer_create_from(&t, model, NULL, &o));
	assert_ok(rv_ewc_create(&e, t, RV_EWC_DECAY));
	for (int64_t i = 0; i < 2; i++) {
		fix_batch(tokens, 200 + i);
		assert_ok(rv_ewc_observe(e, t, tokens, NULL, FIX_SEQS));
	}
	rv_trainer_destroy(t);
	return e;
}

/* The gradient an update went down, from the step it made: with both betas 0 and epsilon 1 that is
 * rate g / (|g| + 1). What is over the loss's own gradient is lambda F (theta - anchor). */
static void penalty_in_update(void **state) {
	(void)state;
	static float loss_gradient[1 << 13], before[1 << 13];
	const double rate = 0.01, lambda = 3;
	rv_trainer_options o = fix_options();
	rv_ewc *e;
	double most = 0, worst = 0, wrong = 0;
	o.beta1 = o.beta2 = o.weight_decay = o.clip = 0;
	o.epsilon = 1;
	o.schedule = (rv_schedule){.kind = RV_SCHEDULE_CONSTANT, .peak = rate};
	rv_trainer *t = fix_trainer(&o);
	assert_ok(rv_ewc_create(&e, t, 0));
	fix_batch(tokens, 1);
	assert_ok(rv_ewc_observe(e, t, tokens, NULL, FIX_SEQS));
	fix_train(t, 0, 20); /* away from the anchor */
	assert_ok(rv_trainer_set_ewc(t, e, lambda));
	fix_batch(tokens, 30);
	assert_ok(rv_trainer_accumulate(t, tokens, NULL, FIX_SEQS));
	const int64_t i = 5; /* a matrix */
	const rv_train_tensor x = rv_trainer_tensor(t, i);
	const rv_ewc_tensor h = rv_ewc_tensor_at(e, i);
	const int64_t n = x.rows * x.cols;
	assert_true(n > 500 && n <= 1 << 13 && strcmp(x.name, h.name) == 0);
	assert_ok(rv_trainer_gradient(t, i, loss_gradient));
	memcpy(before, x.data, (size_t)n * sizeof *before);
	assert_ok(rv_trainer_update(t, NULL));
	for (int64_t j = 0; j < n; j++) {
		const double d = ((double)before[j] - (double)x.data[j]) / rate, g = d / (1 - fabs(d));
		const double held =
		        lambda * (double)h.fisher[j] * ((double)before[j] - (double)h.anchor[j]);
		most = fmax(most, fabs(held));
		worst = fmax(worst, fabs(g - (double)loss_gradient[j] - held));
		wrong = fmax(wrong, fabs(g - (double)loss_gradient[j] - 1.1 * held));
	}
	if (!(most > 1e-4 && worst < 0.03 * most))
		fail_msg("%s: penalty's gradient %g, wrong by %g", x.name, most, worst);
	assert_true(wrong > 2 * worst); /* a tenth too much would be seen */
	rv_trainer_destroy(t);
	rv_ewc_destroy(e);
}

/* Full training, and LoRA held by its products: less is forgotten, the more lambda the less. */
static void forgets_less(void **state) {
	(void)state;
	rv_model *model = fix_model(60);
	for (int lora = 0; lora < 2; lora++) {
		rv_trainer_options o = fix_options();
		rv_train_record r;
		o.lora_rank = lora ? 4 : 0;
		const double plain = forgets(model, NULL, 0, &o, &r),
		             held = forgets(model, memory_of, 10, &o, &r),
		             hard = forgets(model, memory_of, 1000, &o, &r);
		printf("# %s: old loss rises by %.4f plain, %.4f with lambda 10, %.4f with 1000\n",
		       lora ? "LoRA" : "full", plain, held, hard);
		assert_true(plain > 0.2 && held < plain && hard < 0.5 * plain);
	}
	rv_model_release(model);
}

/* Held by products: the penalty is that of the written-out matrices. */
static void product_penalty(void **state) {
	(void)state;
	rv_model *model = fix_model(5);
	rv_ewc *e = memory_of(model);
	rv_trainer_options o = fix_options();
	rv_trainer *t;
	double got, wanted = 0;
	o.lora_rank = 3;
	o.lora_layers = "1";
	o.lora_targets = "v,gate";
	assert_ok(rv_trainer_create_from(&t, model, NULL, &o));
	fix_train(t, 0, 4);
	assert_ok(rv_trainer_set_ewc(t, e, 1));
	assert_ok(rv_trainer_penalty(t, &got));
	for (int64_t i = 0; i < rv_trainer_n_tensors(t); i++) {
		const rv_train_tensor a = rv_trainer_tensor(t, i);
		if (!strstr(a.name, ".lora_a"))
			continue;
		const rv_train_tensor b = rv_trainer_tensor(t, i + 1);
		for (int64_t k = 0; k < rv_ewc_n_tensors(e); k++) {
			const rv_ewc_tensor w = rv_ewc_tensor_at(e, k);
			if (strncmp(w.name, a.name, strlen(w.name)) != 0)
				continue;
			for (int64_t r = 0; r < w.rows; r++)
				for (int64_t c = 0; c < w.cols; c++) {
					double d = 0;
					for (int64_t x = 0; x < 3; x++)
						d += (double)b.data[r * 3 + x] *
						     (double)a.data[x * w.cols + c];
					d *= 16.0 / 3;
					wanted += (double)w.fisher[r * w.cols + c] * d * d / 2;
				}
		}
	}
	assert_true(wanted > 0 && fabs(got / wanted - 1) < 1e-3);
	rv_trainer_destroy(t);
	rv_ewc_destroy(e);
	rv_model_release(model);
}

static void refused(void **state) {
	(void)state;
	rv_trainer_options o = fix_options();
	rv_trainer *full = fix_trainer(&o), *two, *three;
	rv_ewc *e, *none;
	float zero[FIX_SEQS * FIX_CTX] = {0};
	o.lora_rank = 2;
	two = fix_trainer(&o);
	o.lora_rank = 3;
	three = fix_trainer(&o);
	fix_batch(tokens, 0);
	assert_int_equal(rv_ewc_create(&none, two, 1), RV_ERR_INVALID);
	assert_null(none);
	assert_ok(rv_ewc_create(&e, two, 0.9));
	assert_int_equal(rv_trainer_set_ewc(three, e, 1), RV_ERR_MISMATCH);
	assert_int_equal(rv_trainer_set_ewc(full, e, 1), RV_ERR_MISMATCH);
	assert_non_null(strstr(rv_error_message(), "token_embd.weight"));
	assert_int_equal(rv_trainer_set_ewc(two, e, -1), RV_ERR_INVALID);
	assert_int_equal(rv_trainer_set_ewc(two, e, NAN), RV_ERR_INVALID);
	assert_int_equal(rv_ewc_observe(e, three, tokens, NULL, 1), RV_ERR_MISMATCH);
	assert_int_equal(rv_ewc_observe(e, full, tokens, NULL, 1), RV_ERR_MISMATCH);
	assert_int_equal(rv_ewc_set_anchor(e, full), RV_ERR_MISMATCH);
	assert_int_equal(rv_ewc_observe(e, two, tokens, zero, FIX_SEQS), RV_ERR_INVALID);
	assert_int_equal(rv_ewc_observe(e, two, tokens, NULL, 0), RV_ERR_INVALID);
	assert_ok(rv_trainer_accumulate(two, tokens, NULL, 2));
	assert_int_equal(rv_ewc_observe(e, two, tokens, NULL, 1), RV_ERR_INVALID);
	assert_ok(rv_trainer_update(two, NULL));
	assert_int_equal(rv_ewc_n_observations(e), 0);
	/* a loss that is not finite leaves the memory as it was, and the trainer usable */
	float *norm = NULL;
	for (int64_t i = 0; i < rv_trainer_n_tensors(two); i++)
		if (strcmp(rv_trainer_tensor(two, i).name, "output_norm.weight") == 0)
			norm = (float *)(uintptr_t)rv_trainer_tensor(two, i).data;
	assert_non_null(norm);
	const float was = norm[0];
	norm[0] = NAN;
	assert_int_equal(rv_ewc_observe(e, two, tokens, NULL, 3), RV_ERR_NUMERIC);
	assert_int_equal(rv_ewc_n_observations(e), 0);
	norm[0] = was;
	assert_ok(rv_ewc_observe(e, two, tokens, NULL, 3));
	rv_ewc_destroy(e);
	rv_trainer_destroy(full);
	rv_trainer_destroy(two);
	rv_trainer_destroy(three);
}

/* ---- files ---- */

static void files(void **state) {
	(void)state;
	char path[1024], *data;
	size_t size;
	rv_trainer_options o = fix_options();
	rv_ewc *e, *back;
	o.lora_rank = 1;
	o.lora_layers = "0";
	o.lora_targets = "k";
	rv_trainer *t = fix_trainer(&o);
	fix_path(path, "ewc");
	fix_train(t, 0, 2);
	assert_ok(rv_ewc_create(&e, t, 0.5));
	fix_batch(tokens, 3);
	assert_ok(rv_ewc_observe(e, t, tokens, NULL, 4));
	assert_ok(rv_ewc_save(e, path));
	assert_ok(rv_ewc_load(&back, path));
	assert_int_equal(rv_ewc_n_observations(back), 1);
	for (int64_t i = 0; i < 2; i++) { /* the loaded one goes on like the other */
		const rv_ewc_tensor x = rv_ewc_tensor_at(e, i), y = rv_ewc_tensor_at(back, i);
		const size_t bytes = (size_t)(x.rows * x.cols) * sizeof(float);
		assert_string_equal(x.name, y.name);
		assert_memory_equal(x.anchor, y.anchor, bytes);
		assert_memory_equal(x.fisher, y.fisher, bytes);
	}
	assert_ok(rv_ewc_observe(e, t, tokens, NULL, 2));
	assert_ok(rv_ewc_observe(back, t, tokens, NULL, 2));
	assert_memory_equal(rv_ewc_tensor_at(e, 1).fisher, rv_ewc_tensor_at(back, 1).fisher,
	                    16 * sizeof(float));
	rv_ewc_destroy(back);
	assert_ok(rv_file_read(path, 1 << 20, &data, &size));
	for (size_t i = 0; i < size; i++) {
		data[i] ^= 0x04;
		assert_int_not_equal(rv_ewc_load_memory(&back, data, size, "changed"), RV_OK);
		assert_null(back);
		assert_non_null(strstr(rv_error_message(), "changed"));
		data[i] ^= 0x04;
		assert_int_not_equal(rv_ewc_load_memory(&back, data, i, "cut"), RV_OK);
	}
	rv_free(data);
	unlink(path);
	rv_ewc_destroy(e);
	rv_trainer_destroy(t);
}

/* Contents that lie, behind a right checksum. */
static void lying_files(void **state) {
	(void)state;
	typedef struct row {
		char name[80];
		int64_t rows, cols, offset;
	} row;
	typedef struct beginning {
		int64_t n_tensors, n_elements, n_observations;
		double decay;
	} beginning;
	char path[1024];
	fix_path(path, "ewc-lies");
	for (int lie = 0; lie < 16; lie++) {
		beginning h = {2, 32, 1, 0.5};
		row rows[2] = {{"a", 2, 3, 0}, {"b", 1, 4, 16}};
		float anchor[32] = {0}, f[32] = {0};
		rv_sealed_out out = {0};
		rv_ewc *e;
		h.n_tensors = lie == 1 ? 0 : lie == 2 ? INT64_MAX : lie == 3 ? 1 : h.n_tensors;
		h.n_elements = lie == 4 ? 48 : lie == 5 ? INT64_MAX : h.n_elements;
		h.n_observations = lie == 6 ? -1 : 1;
		h.decay = lie == 7 ? 1 : lie == 8 ? (double)NAN : 0.5;
		rows[0].rows = lie == 9 ? INT64_MAX : lie == 10 ? -2 : rows[0].rows;
		rows[1].cols = lie == 11 ? 17 : rows[1].cols;
		rows[1].offset = lie == 12 ? 0 : 16;
		if (lie == 13)
			memset(rows[1].name, 'x', sizeof rows[1].name);
		anchor[5] = lie == 14 ? INFINITY : 1;
		f[6] = lie == 15 ? -1 : 1;
		rv_sealed_put(&out, &h, sizeof h);
		rv_sealed_put(&out, rows, sizeof rows);
		rv_sealed_put(&out, anchor, sizeof anchor);
		rv_sealed_put(&out, f, sizeof f);
		assert_ok(rv_sealed_write(&out, path, "RVELAST", 1));
		const rv_status st = rv_ewc_load(&e, path);
		if (lie == 0) { /* control: the truth is taken */
			assert_ok(st);
			assert_int_equal(rv_ewc_n_tensors(e), 2);
			rv_ewc_destroy(e);
		} else if (st == RV_OK || e || !strstr(rv_error_message(), path))
			fail_msg("lie %d: %s", lie, rv_error_message());
	}
	unlink(path);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(derivative_of_penalties),
	        cmocka_unit_test(fisher),
	        cmocka_unit_test(threads_change_no_bit),
	        cmocka_unit_test(penalty_in_update),
	        cmocka_unit_test(forgets_less),
	        cmocka_unit_test(product_penalty),
	        cmocka_unit_test(refused),
	        cmocka_unit_test(files),
	        cmocka_unit_test(lying_files),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
