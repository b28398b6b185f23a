/* One pass of a piece of a batch, forward and backward, on one thread with a workspace of its own.
 * Internal to lib/learn; see train_real.h for the element type. */
#ifndef RV_LEARN_TRAIN_PASS_H
#define RV_LEARN_TRAIN_PASS_H

#include "learn/train_layout.h"
#include "learn/train_ops.h"

#include <stddef.h>
#include <stdint.h>

/* What a layer keeps for its way back; R rows (tokens of all sequences of the piece), one after the
 * other. q and k are rotated and in attention order [sequence, kv head, row (x heads of the group),
 * head_dim]. */
typedef struct rv_layer_state {
	rv_real *x;         /* [R, n_embd] residual stream at entry */
	rv_real *h1, *inv1; /* [R, n_embd] normed, [R] */
	rv_real *q, *k, *v; /* packed, packed, [R, KV] */
	rv_real *a, *lse;   /* [R, Q] attention output, [R, n_heads] packed */
	rv_real *mid;       /* [R, n_embd] residual stream after attention */
	rv_real *h2, *inv2; /* [R, n_embd], [R] */
	rv_real *gate, *up; /* [R, FF] */
	rv_real *act;       /* [R, FF] swiglu of them */
} rv_layer_state;

typedef struct rv_pass_options {
	int64_t max_rows, n_ctx; /* capacity: rows of a piece, tokens of a sequence */
	int with_gradient;       /* 0: forward only */
	int recompute;           /* keep only the x of each layer */
	int with_teacher;        /* room for a teacher's logits */
	int bf16;                /* products in bfloat16 (train_products.h) */
} rv_pass_options;

typedef struct rv_pass {
	const rv_train_layout *layout;
	const rv_train_ops *ops;
	const rv_real *weights;
	rv_real *gradient; /* of the trained elements; NULL: forward only */
	rv_pass_options o;

	rv_layer_state *layers;
	rv_real *x_last, *h_last, *inv_last; /* after the last layer; normed */
	rv_real *cs;                         /* [n_ctx, n_rot / 2, 2] cosines and sines */
	rv_real *dx, *dh;                    /* [R, n_embd] */
	rv_real *wide;                       /* [R, max(Q, FF)] */
	rv_real *proj_q, *proj_kv;           /* [R, Q], [R, KV] in projection order */
	rv_real *pack_q, *pack_q2, *pack_kv; /* the same in attention order */
	rv_real *dv;                         /* [R, KV] */
	rv_real *dots;                       /* [R, n_heads] in attention order */
	rv_real *scores, *scores2;        /* [score rows, n_ctx], [score rows, min(n_ctx, KEY_TILE)] */
	rv_real *inv_sum;                 /* [score rows] */
	int32_t *lo, *hi;                 /* [score rows] */
	rv_real *low, *low2;              /* [R, lora_rank] */
	rv_real *logits, *teacher_logits; /* [LOGIT_ROWS, n_vocab] */
	int32_t *asked;                   /* [R] rows with a prediction that is asked for */
	rv_real *some;                    /* [LOGIT_ROWS, n_embd] hidden states of such rows */
	int32_t *start;                   /* [R] first position of its sequence a row attends to */
	void *products;                   /* scratch of bfloat16 products */
	void *memory;
} rv_pass;

/* A piece: n_seqs sequences of n_tokens (+ 1 as targets) each. */
typedef struct rv_piece {
	const int32_t *tokens; /* [n_seqs, stride] */
	int64_t stride;        /* >= n_tokens (+ 1 when a loss is wanted) */
	int64_t n_seqs, n_tokens;
	const rv_real *weights; /* [n_seqs, stride - 1] of predictions; NULL: 1 */
	int32_t segment_token;  /* attention does not look across it; -1: none */
	rv_pass *teacher;       /* has done the same piece forward; NULL: none */
	rv_real temperature, distill_weight;
	float *token_loss; /* [n_seqs, stride - 1] cross-entropy, or NULL */
} rv_piece;

/* Texts of a piece whose hidden states are pooled: the mean over a text's rows. The rows of one text
 * lie in one sequence. */
typedef struct rv_pooling {
	const int32_t *text;     /* [n_seqs, n_tokens] text a row belongs to; -1: none */
	const rv_real *scale;    /* [texts] 1 / rows of a text */
	rv_real *mean;           /* [texts, n_embd], added to */
	const rv_real *gradient; /* [texts, n_embd] derivative of a loss by the means */
} rv_pooling;

typedef struct rv_loss_sum {
	double weight, cross_entropy, kl; /* weighted sums; kl at the temperature */
} rv_loss_sum;

rv_status rv_pass_init(rv_pass *out, const rv_train_layout *layout, const rv_train_ops *ops,
                       const rv_pass_options *options);
void rv_pass_deinit(rv_pass *pass); /* accepts a zeroed one */
/* Bytes rv_pass_init takes. */
size_t rv_pass_bytes(const rv_train_layout *layout, const rv_pass_options *options);

/* Hidden states into h_last. */
void rv_pass_forward(rv_pass *pass, const rv_piece *piece);
/* Loss of a piece after its forward pass; with pass->gradient the gradient of the weighted sum is added
 * to it, and layers are walked back. */
rv_loss_sum rv_pass_loss(rv_pass *pass, const rv_piece *piece);
/* After a forward pass of the piece: the means; and, from the derivative by them, the gradient of all
 * that is trained (the head alone has none), added to pass->gradient. */
void rv_pass_pool(rv_pass *pass, const rv_piece *piece, const rv_pooling *pooling);
void rv_pass_pool_back(rv_pass *pass, const rv_piece *piece, const rv_pooling *pooling);
/* Logits of rows [first, first + n) after a forward pass: [n, n_vocab]. */
void rv_pass_logits(rv_pass *pass, rv_real *logits, int64_t first, int64_t n);
/* After a loss that is not finite: the tensor whose product (or use) first was not, by its index in the
 * layout. */
int64_t rv_pass_find_bad(rv_pass *pass, const rv_piece *piece);

/* What is held near an anchor (ewc.h): a trained tensor by itself, or, for factor A of an adapter, the
 * product W + s B A. */
typedef struct rv_hold {
	int64_t param;                  /* its number in the layout */
	int product;                    /* param is a factor A */
	const rv_real *anchor, *fisher; /* of the tensor, or of W */
	double penalty;                 /* sum F (theta - anchor)^2 / 2, set by rv_pass_hold */
} rv_hold;
/* Of the weights the pass has; with a gradient (of the trained elements, not the pass's own) lambda
 * times the derivative is added to it. scratch: as many elements as W has, for products. */
void rv_pass_hold(const rv_pass *pass, rv_hold *h, rv_real *gradient, rv_real lambda, rv_real *scratch);

/* Of train_pass_body.h's parts. */
const rv_real *rv_pass_weight(const rv_pass *pass, rv_role role, int64_t layer, rv_part part);
rv_real *rv_pass_gradient(const rv_pass *pass, rv_role role, int64_t layer, rv_part part);
void rv_pass_attention(rv_pass *pass, rv_layer_state *s, const rv_piece *piece);
/* From the derivative by s->a in pass->wide to those by the projections: proj_q, proj_kv (of k), dv. */
void rv_pass_attention_back(rv_pass *pass, const rv_layer_state *s, const rv_piece *piece);

#endif
