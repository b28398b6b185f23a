/* Every gradient against central differences in float64, element by element; and a check of the check:
 * with any one term dropped it fails. */
#include "tests/learn/train_f64.h"

#include "base/rng.h"
#include "learn/trainer.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>

enum { N_SEQS = 2, N_TOKENS = 9, N_VOCAB = 11 };

/* What is trained, and how. */
typedef struct variant {
	const char *name;
	int untied;
	rv_train_lora lora;
	int recompute, teacher, mask, segments;
} variant;

static const variant variants[] = {
        {"tied", 0, {0}, 0, 0, 0, 0},
        {"untied, masked", 1, {0}, 0, 0, 1, 0},
        {"recomputed, segments", 0, {0}, 1, 0, 0, 1},
        {"distilled", 0, {0}, 0, 1, 1, 0},
        {"lora", 0, {.rank = 2, .alpha = 3}, 0, 0, 0, 0},
        {"lora, distilled, recomputed", 1, {.rank = 3, .alpha = 4.5}, 1, 1, 1, 1},
        /* the way back ends in the second of three layers, at another role each time */
        {"lora 1,2 q,v", 0, {2, 3, "q,v", "1,2", NULL}, 0, 0, 0, 0},
        {"lora 1,2 o", 0, {2, 3, "o", "2,1", NULL}, 0, 0, 0, 0},
        {"lora 1 down", 0, {2, 3, "down", "1", NULL}, 1, 0, 0, 0},
        {"lora 1,2 up,o", 1, {2, 3, "up,o", "1,2", NULL}, 1, 0, 1, 0},
        {"lora 1 gate", 0, {2, 3, "gate", "1", NULL}, 0, 0, 0, 0},
};

typedef struct rig {
	rv_train_layout layout;
	double *weights, *gradient;
	rv_pass pass, teacher;
	rv_piece piece;
	int32_t tokens[N_SEQS * (N_TOKENS + 1)];
	double mask[N_SEQS * N_TOKENS];
} rig;

static rv_hparams shape(int untied, int64_t n_layers) {
	return (rv_hparams){.n_layers = n_layers,
	                    .n_embd = 6,
	                    .n_heads = 4,
	                    .n_kv_heads = 2,
	                    .head_dim = 6,
	                    .n_ff = 7,
	                    .n_vocab = N_VOCAB,
	                    .n_ctx_train = 64,
	                    .n_rot = 4,
	                    .rope_theta = 50,
	                    .rms_eps = 1e-3,
	                    .tied = !untied};
}

static void rig_open(rig *r, const variant *v) {
	rv_hparams hp = shape(v->untied, v->lora.layers ? 3 : 2);
	rv_rng rng;
	rv_rng_seed(&rng, 5);
	assert_ok(rv_train_layout_init(&r->layout, rv_arch_by_name("qwen2", 5), &hp,
	                               v->lora.rank > 0 ? &v->lora : NULL));
	size_t n = (size_t)r->layout.n_elements;
	assert_ok(RV_ALLOC(&r->weights, 2 * n, "weights"));
	assert_ok(RV_ALLOC(&r->gradient, n, "gradient"));
	for (int64_t i = 0; i < r->layout.n_params; i++) {
		const rv_param *p = &r->layout.params[i];
		for (int64_t j = 0; j < p->rows * p->cols; j++)
			r->weights[p->offset + j] = !p->decay && p->rows == 1 && strstr(p->name, "norm")
			                                    ? 1 + 0.2 * rv_rng_normal(&rng)
			                                    : 0.4 * rv_rng_normal(&rng);
	}
	for (size_t i = 0; i < n; i++) /* the teacher's: the same model, moved */
		r->weights[n + i] = r->weights[i] * 1.3;
	for (int i = 0; i < N_SEQS * (N_TOKENS + 1); i++)
		r->tokens[i] = (int32_t)rv_rng_below(&rng, N_VOCAB);
	r->tokens[4] = r->tokens[N_TOKENS + 3] = 0; /* ends of segments */
	for (int i = 0; i < N_SEQS * N_TOKENS; i++)
		r->mask[i] = i % 4 == 1 ? 0 : 0.5 + rv_rng_double(&rng);
	r->piece = (rv_piece){.tokens = r->tokens,
	                      .stride = N_TOKENS + 1,
	                      .n_seqs = N_SEQS,
	                      .n_tokens = N_TOKENS,
	                      .weights = v->mask ? r->mask : NULL,
	                      .segment_token = v->segments ? 0 : -1};
	int64_t rows = N_SEQS * N_TOKENS;
	assert_ok(rv_pass_init(&r->pass, &r->layout, &ops_f64,
	                       &(rv_pass_options){.max_rows = rows,
	                                          .n_ctx = N_TOKENS,
	                                          .with_gradient = 1,
	                                          .recompute = v->recompute,
	                                          .with_teacher = v->teacher}));
	r->pass.weights = r->weights;
	if (!v->teacher)
		return;
	assert_ok(rv_pass_init(&r->teacher, &r->layout, &ops_f64,
	                       &(rv_pass_options){.max_rows = rows, .n_ctx = N_TOKENS}));
	r->teacher.weights = r->weights + n;
	rv_pass_forward(&r->teacher, &r->piece);
	r->piece.teacher = &r->teacher;
	r->piece.temperature = 1.7;
	r->piece.distill_weight = 0.3;
}

static void rig_close(rig *r) {
	rv_pass_deinit(&r->pass);
	rv_pass_deinit(&r->teacher);
	rv_free(r->weights);
	rv_free(r->gradient);
	rv_train_layout_deinit(&r->layout);
}

static double loss_of(rig *r, double *gradient) {
	r->pass.gradient = gradient;
	rv_pass_forward(&r->pass, &r->piece);
	rv_loss_sum s = rv_pass_loss(&r->pass, &r->piece);
	if (!r->piece.teacher)
		return s.cross_entropy;
	double w = r->piece.distill_weight, t = r->piece.temperature;
	return (1 - w) * s.cross_entropy + w * t * t * s.kl;
}

/* Name of the first tensor whose gradient is wrong, NULL when all are right; *checked elements. */
static const char *wrong_tensor(rig *r, int64_t *checked) {
	const double h = 1e-5;
	memset(r->gradient, 0, (size_t)r->layout.n_elements * sizeof *r->gradient);
	loss_of(r, r->gradient);
	*checked = 0;
	for (int64_t i = 0; i < r->layout.n_params; i++) {
		const rv_param *p = &r->layout.params[i];
		if (!rv_train_layout_trained(&r->layout, p))
			continue;
		for (int64_t j = p->offset; j < p->offset + p->rows * p->cols; j++) {
			double was = r->weights[j], exact = r->gradient[j - r->layout.train_begin];
			r->weights[j] = was + h;
			double up = loss_of(r, NULL);
			r->weights[j] = was - h;
			double down = loss_of(r, NULL);
			r->weights[j] = was;
			double measured = (up - down) / (2 * h);
			++*checked;
			if (!(fabs(measured - exact) <= 1e-7 + 1e-6 * fabs(measured)))
				return p->name;
		}
	}
	return NULL;
}

static void every_gradient(void **state) {
	(void)state;
	for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
		rig r = {0};
		int64_t checked;
		rig_open(&r, &variants[i]);
		const char *wrong = wrong_tensor(&r, &checked);
		if (wrong)
			fail_msg("%s: gradient of %s", variants[i].name, wrong);
		assert_true(checked > (variants[i].lora.layers ? 25 : 300));
		rig_close(&r);
	}
}

/* Each term dropped is noticed, in a variant that has the term. */
static void dropped_term(void **state) {
	(void)state;
	for (int term = DROP_nothing + 1; term < DROP_COUNT; term++) {
		rig r = {0};
		int64_t checked;
		rig_open(&r, &variants[term == DROP_lora_into_x || term == DROP_lora_scale ? 4 : 0]);
		dropped = (enum term)term;
		const char *wrong = wrong_tensor(&r, &checked);
		dropped = DROP_nothing;
		if (!wrong)
			fail_msg("term %d dropped, and no gradient is found wrong", term);
		rig_close(&r);
	}
}

/* ---- float against double, at lengths with several blocks of the library's own sizes ---- */

enum { LONG_CTX = 600, LONG_SEQS = 2 };

typedef struct pair {
	rv_trainer *t;
	rig r; /* the same weights in double */
	int32_t tokens[LONG_SEQS * (LONG_CTX + 1)];
} pair;

static void pair_open(pair *p) {
	rv_hparams hp = shape(0, 2);
	rv_rng rng;
	rv_rng_seed(&rng, 9);
	rv_trainer_options o = rv_trainer_defaults();
	o.n_ctx = LONG_CTX;
	o.init_std = 0.4;
	o.n_threads = 2;
	o.pin = 0;
	assert_ok(rv_trainer_create(&p->t, rv_arch_by_name("qwen2", 5), &hp, NULL, &o));
	rig *r = &p->r;
	assert_ok(rv_train_layout_init(&r->layout, rv_arch_by_name("qwen2", 5), &hp, NULL));
	assert_ok(RV_ALLOC(&r->weights, r->layout.n_elements, "weights"));
	assert_ok(RV_ALLOC(&r->gradient, r->layout.n_elements, "gradient"));
	for (int64_t i = 0; i < r->layout.n_params; i++) {
		rv_train_tensor x = rv_trainer_tensor(p->t, i);
		assert_string_equal(x.name, r->layout.params[i].name);
		for (int64_t j = 0; j < x.rows * x.cols; j++)
			r->weights[r->layout.params[i].offset + j] = (double)x.data[j];
	}
	for (int i = 0; i < LONG_SEQS * (LONG_CTX + 1); i++)
		p->tokens[i] = (int32_t)rv_rng_below(&rng, N_VOCAB);
	r->piece = (rv_piece){.tokens = p->tokens,
	                      .stride = LONG_CTX + 1,
	                      .n_seqs = LONG_SEQS,
	                      .n_tokens = LONG_CTX,
	                      .segment_token = -1};
	assert_ok(rv_pass_init(&r->pass, &r->layout, &ops_f64,
	                       &(rv_pass_options){.max_rows = LONG_SEQS * LONG_CTX,
	                                          .n_ctx = LONG_CTX,
	                                          .with_gradient = 1}));
	r->pass.weights = r->weights;
}

/* Largest difference of a gradient, as a share of its tensor's largest element. */
static double gradient_difference(pair *p) {
	rig *r = &p->r;
	double worst = 0, n = LONG_SEQS * LONG_CTX;
	static float got[4096];
	assert_ok(rv_trainer_accumulate(p->t, p->tokens, NULL, LONG_SEQS));
	memset(r->gradient, 0, (size_t)r->layout.n_elements * sizeof *r->gradient);
	loss_of(r, r->gradient);
	for (int64_t i = 0; i < r->layout.n_params; i++) {
		const rv_param *q = &r->layout.params[i];
		double most = 0, difference = 0;
		assert_ok(rv_trainer_gradient(p->t, i, got));
		for (int64_t j = 0; j < q->rows * q->cols; j++) {
			double wanted = r->gradient[q->offset + j] / n;
			most = fmax(most, fabs(wanted));
			difference = fmax(difference, fabs(wanted - (double)got[j]));
		}
		/* a bias of keys moves all scores of a query alike: its gradient is rounding */
		if (q->role != RV_ATTN_K_BIAS)
			worst = fmax(worst, difference / most);
	}
	assert_ok(rv_trainer_update(p->t, NULL));
	return worst;
}

/* At every feature level this machine has. */
static void float_is_double(void **state) {
	(void)state;
	static const char *const levels[] = {"ref", "avx2", "avx512"};
	for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
		if (!rv_level_available(rv_level_by_name(levels[i])))
			continue;
		static pair p;
		p = (pair){0};
		setenv("RV_CPU", levels[i], 1);
		pair_open(&p);
		unsetenv("RV_CPU");
		double difference = gradient_difference(&p);
		if (!(difference < 2e-4))
			fail_msg("level %s: gradients differ by %g", levels[i], difference);
		/* other weights since the update: the comparison must see it */
		assert_true(gradient_difference(&p) > 1e-3);
		rv_trainer_destroy(p.t);
		rig_close(&p.r);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(every_gradient),
	        cmocka_unit_test(dropped_term),
	        cmocka_unit_test(float_is_double),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
