/* The gradient of contrastive training, through the pooled states and the whole model, against central
 * differences in float64, element by element; and each term dropped is noticed. */
#include "tests/learn/train_f64.h"

#define rv_contrastive rv_contrastive_f64
#define rv_contrastive_create rv_contrastive_create_f64
#define rv_contrastive_destroy rv_contrastive_destroy_f64
#define rv_contrastive_run rv_contrastive_run_f64
#include "learn/contrastive_body.h"

#include "base/rng.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>

static void product(int trans_a, int trans_b, int64_t m, int64_t n, int64_t k, const double *a,
                    int64_t lda, const double *b, int64_t ldb, double beta, double *c, int64_t ldc) {
	gemm(NULL, trans_a, trans_b, m, n, k, 1, a, lda, b, ldb, beta, c, ldc);
}

enum { N_SEQS = 2, N_TOKENS = 26, N_VOCAB = 11, N_TEXTS = 9, N_CLASSES = 3, DIM = 5, N_EMBD = 6 };

static const int32_t labels[N_TEXTS] = {0, 1, 2, 0, 1, 2, 0, 0, 1};
static const int32_t topics[N_TEXTS] = {0, 0, 0, 1, 1, -1, -1, -1, 2};
static const rv_contrastive_options options = {.temperature = 0.5,
                                               .hard_weight = 2,
                                               .nce_weight = 0.7,
                                               .triplet_weight = 0.9,
                                               .margin = 1.2,
                                               .class_weight = 1.1,
                                               .class_temperature = 0.4,
                                               .class_smoothing = 0.1};

typedef struct rig {
	rv_train_layout layout;
	double *weights, *gradient; /* of the model, then map, then classes */
	int64_t n;
	rv_pass pass;
	rv_contrastive *loss;
	int32_t tokens[N_SEQS * N_TOKENS], text[N_SEQS * N_TOKENS];
	double scale[N_TEXTS], mean[N_TEXTS * N_EMBD], d_mean[N_TEXTS * N_EMBD];
} rig;

static rv_hparams shape(void) {
	return (rv_hparams){.n_layers = 2,
	                    .n_embd = N_EMBD,
	                    .n_heads = 4,
	                    .n_kv_heads = 2,
	                    .head_dim = 6,
	                    .n_ff = 7,
	                    .n_vocab = N_VOCAB,
	                    .n_ctx_train = 64,
	                    .n_rot = 4,
	                    .rope_theta = 50,
	                    .rms_eps = 1e-3,
	                    .tied = 1};
}

/* Texts of 2 to 4 tokens, one after the other, token 0 between them; what is left at the end has none.
 */
static void lay_out(rig *r, rv_rng *rng) {
	int text = 0;
	for (int s = 0; s < N_SEQS; s++)
		for (int i = 0, left = 0; i < N_TOKENS; i++) {
			int32_t *token = &r->tokens[s * N_TOKENS + i], *at = &r->text[s * N_TOKENS + i];
			*token = 0;
			*at = -1;
			if (left == 0 && i + 5 < N_TOKENS && text < N_TEXTS) {
				left = 2 + text % 3;
				text++;
			} else if (left > 0 && --left == 0) {
				continue;
			}
			if (left == 0)
				continue;
			*token = 1 + (int32_t)rv_rng_below(rng, N_VOCAB - 1);
			*at = text - 1;
			r->scale[text - 1]++;
		}
	assert_int_equal(text, N_TEXTS);
	for (int i = 0; i < N_TEXTS; i++)
		r->scale[i] = 1 / r->scale[i];
}

static void rig_open(rig *r) {
	rv_hparams hp = shape();
	rv_rng rng;
	rv_rng_seed(&rng, 5);
	assert_ok(rv_train_layout_init(&r->layout, rv_arch_by_name("qwen2", 5), &hp, NULL));
	r->n = r->layout.n_elements + DIM * N_EMBD + N_CLASSES * DIM;
	assert_ok(RV_ALLOC(&r->weights, r->n, "weights"));
	assert_ok(RV_ALLOC(&r->gradient, r->n, "gradient"));
	for (int64_t i = 0; i < r->n; i++)
		r->weights[i] = 0.5 * rv_rng_normal(&rng);
	lay_out(r, &rng);
	assert_ok(rv_pass_init(&r->pass, &r->layout, &ops_f64,
	                       &(rv_pass_options){.max_rows = N_SEQS * N_TOKENS,
	                                          .n_ctx = N_TOKENS,
	                                          .with_gradient = 1}));
	r->pass.weights = r->weights;
	assert_ok(rv_contrastive_create(&r->loss, N_TEXTS, DIM, N_CLASSES));
}

static void rig_close(rig *r) {
	rv_pass_deinit(&r->pass);
	rv_contrastive_destroy(r->loss);
	rv_free(r->weights);
	rv_free(r->gradient);
	rv_train_layout_deinit(&r->layout);
}

static double loss_of(rig *r, double *gradient) {
	const rv_piece piece = {.tokens = r->tokens,
	                        .stride = N_TOKENS,
	                        .n_seqs = N_SEQS,
	                        .n_tokens = N_TOKENS,
	                        .segment_token = 0};
	const rv_pooling pooling = {
	        .text = r->text, .scale = r->scale, .mean = r->mean, .gradient = r->d_mean};
	const int64_t n = r->layout.n_elements;
	rv_contrastive_batch b = {.n = N_TEXTS,
	                          .n_in = N_EMBD,
	                          .dim = DIM,
	                          .n_classes = N_CLASSES,
	                          .label = labels,
	                          .topic = topics,
	                          .mean = r->mean,
	                          .map = r->weights + n,
	                          .classes = r->weights + n + DIM * N_EMBD};
	r->pass.gradient = gradient;
	memset(r->mean, 0, sizeof r->mean);
	rv_pass_forward(&r->pass, &piece);
	rv_pass_pool(&r->pass, &piece, &pooling);
	if (gradient) {
		b.d_mean = r->d_mean;
		b.d_map = gradient + n;
		b.d_classes = gradient + n + DIM * N_EMBD;
	}
	const rv_contrastive_loss loss = rv_contrastive_run(r->loss, &options, &b);
	assert_true(loss.nce > 0 && loss.triplet > 0 && loss.classes > 0);
	if (gradient)
		rv_pass_pool_back(&r->pass, &piece, &pooling);
	return loss.total;
}

/* Elements whose gradient is wrong. */
static int64_t n_wrong(rig *r) {
	const double h = 1e-5;
	int64_t wrong = 0;
	memset(r->gradient, 0, (size_t)r->n * sizeof *r->gradient);
	loss_of(r, r->gradient);
	for (int64_t j = 0; j < r->n; j++) {
		const double was = r->weights[j];
		r->weights[j] = was + h;
		const double up = loss_of(r, NULL);
		r->weights[j] = was - h;
		const double down = loss_of(r, NULL);
		r->weights[j] = was;
		const double measured = (up - down) / (2 * h);
		wrong += !(fabs(measured - r->gradient[j]) <= 1e-7 + 1e-5 * fabs(measured));
	}
	return wrong;
}

static void every_gradient(void **state) {
	(void)state;
	rig r = {0};
	rig_open(&r);
	assert_int_equal(n_wrong(&r), 0);
	rig_close(&r);
}

static void dropped_term(void **state) {
	(void)state;
	for (int term = DROP_pool_scale; term < DROP_POOLED_COUNT; term++) {
		rig r = {0};
		rig_open(&r);
		dropped = (enum term)term;
		const int64_t wrong = n_wrong(&r);
		dropped = DROP_nothing;
		if (wrong < 5)
			fail_msg("term %d dropped, and %lld gradients are found wrong", term,
			         (long long)wrong);
		rig_close(&r);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(every_gradient),
	        cmocka_unit_test(dropped_term),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
