/* The training code compiled for double, with small blocks so that every edge is met, and with terms of
 * its gradients that can be dropped. Include before anything of lib/learn. */
#ifndef RV_TESTS_LEARN_TRAIN_F64_H
#define RV_TESTS_LEARN_TRAIN_F64_H

enum term {
	DROP_nothing,
	DROP_norm_second_term,
	DROP_swiglu_curve,
	DROP_rope_turns_back,
	DROP_softmax_mean,
	DROP_cross_entropy_softmax,
	DROP_lora_into_x,
	DROP_lora_scale,
	DROP_bias,
	DROP_embedding,
	DROP_head,
	DROP_COUNT,
	/* of a loss on pooled states (test_contrastive.c) */
	DROP_pool_scale = DROP_COUNT,
	DROP_unit_tangent,
	DROP_nce_others,
	DROP_nce_positives,
	DROP_triplet_negative,
	DROP_other_side,
	DROP_classes,
	DROP_POOLED_COUNT,
	/* of a penalty (test_ewc.c) */
	DROP_anchor = DROP_POOLED_COUNT,
	DROP_hold_into_a,
};
static enum term dropped;

#define RV_TRAIN_DOUBLE
#define rv_pass_init rv_pass_init_f64
#define rv_pass_deinit rv_pass_deinit_f64
#define rv_pass_bytes rv_pass_bytes_f64
#define rv_pass_forward rv_pass_forward_f64
#define rv_pass_loss rv_pass_loss_f64
#define rv_pass_logits rv_pass_logits_f64
#define rv_pass_pool rv_pass_pool_f64
#define rv_pass_pool_back rv_pass_pool_back_f64
#define rv_pass_hold rv_pass_hold_f64
#define rv_pass_find_bad rv_pass_find_bad_f64
#define rv_pass_weight rv_pass_weight_f64
#define rv_pass_gradient rv_pass_gradient_f64
#define rv_pass_attention rv_pass_attention_f64
#define rv_pass_attention_back rv_pass_attention_back_f64
#define RV_TRAIN_KEEPS(term) (dropped != DROP_##term)
#define SCORE_ROWS 6
#define KEY_TILE 4
#define LOGIT_ROWS 5
#include "learn/train_ops.h"
#define RV_TRAIN_OPS ops_f64
#include "learn/train_ops_body.h"
#include "learn/train_pass_body.h"

static void gemm(const rv_pass *p, int trans_a, int trans_b, int64_t m, int64_t n, int64_t k,
                 double alpha, const double *a, int64_t lda, const double *b, int64_t ldb, double beta,
                 double *c, int64_t ldc) {
	(void)p;
	for (int64_t i = 0; i < m; i++)
		for (int64_t j = 0; j < n; j++) {
			double sum = 0;
			for (int64_t l = 0; l < k; l++)
				sum += (trans_a ? a[l * lda + i] : a[i * lda + l]) *
				       (trans_b ? b[j * ldb + l] : b[l * ldb + j]);
			c[i * ldc + j] = alpha * sum + (beta != 0 ? beta * c[i * ldc + j] : 0);
		}
}

static size_t products_scratch(const rv_pass *p) {
	(void)p;
	return 0;
}

#endif
