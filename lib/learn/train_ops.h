/* What training does to elements, as a table of functions: one table a feature level, all from one body
 * (train_ops_body.h). Matrices are row-major; sums go to 16 lanes that are reduced by a fixed tree, so
 * a result depends on its inputs alone (levels differ by fused multiply-adds). Internal to lib/learn.
 */
#ifndef RV_LEARN_TRAIN_OPS_H
#define RV_LEARN_TRAIN_OPS_H

#include "learn/train_real.h"

#include "kernels/kernels.h"

#include <stdint.h>

/* Heads of one kind, as projections write them [rows, n_groups * width] and as attention reads them
 * [n_groups, rows, width]; width: heads of a group times head_dim. */
typedef struct rv_head_shape {
	int64_t rows, n_groups, width, head_dim, n_rot;
} rv_head_shape;

/* Rows of scores of queries against keys [0, n) of a block; row r sees keys [lo[r], hi[r]). */
typedef struct rv_score_rows {
	int64_t rows, n, ld;
	const int32_t *lo, *hi;
} rv_score_rows;

/* One row of the loss. */
typedef struct rv_loss_row {
	int32_t target;
	rv_real weight;         /* of this prediction */
	rv_real *teacher;       /* logits of the teacher, overwritten; NULL: none */
	rv_real distill_weight; /* share of the divergence, with a teacher */
	rv_real temperature;
	int gradient; /* 1: logits become the derivative of the weighted loss */
} rv_loss_row;

typedef struct rv_loss_value {
	double cross_entropy, kl; /* of the row, unweighted */
} rv_loss_value;

typedef struct rv_adamw_step {
	rv_real rate, beta1, beta2, epsilon;
	rv_real decay;      /* times rate */
	rv_real scale;      /* gradients are multiplied by it first: clipping */
	rv_real fix1, fix2; /* 1 / (1 - beta^t) */
} rv_adamw_step;

typedef struct rv_train_ops {
	/* y = x / sqrt(mean(x^2) + eps) * w; inv[r]: what row r was multiplied by */
	void (*norm)(rv_real *y, rv_real *inv, const rv_real *x, const rv_real *w, int64_t rows,
	             int64_t n, rv_real eps);
	/* dx += and dw += the derivatives (dw may be NULL) */
	void (*norm_back)(rv_real *dx, rv_real *dw, const rv_real *dy, const rv_real *x,
	                  const rv_real *inv, const rv_real *w, int64_t rows, int64_t n);
	void (*add)(rv_real *y, const rv_real *x, int64_t n);
	/* y[r] += b for each row; db += sum of rows */
	void (*add_bias)(rv_real *y, const rv_real *b, int64_t rows, int64_t n);
	void (*sum_rows)(rv_real *db, const rv_real *dy, int64_t rows, int64_t n);
	/* y = gate sigmoid(gate) up */
	void (*swiglu)(rv_real *y, const rv_real *gate, const rv_real *up, int64_t n);
	/* gate and up become the derivatives */
	void (*swiglu_back)(rv_real *gate, rv_real *up, const rv_real *dy, int64_t n);
	/* Projection order to attention order, rotated by cs [rows, n_rot / 2, (cos, sin)] in NEOX
	 * order (NULL: not rotated); and back, rotated the other way. */
	void (*pack)(rv_real *packed, const rv_real *x, const rv_real *cs, const rv_head_shape *shape);
	void (*unpack)(rv_real *x, const rv_real *packed, const rv_real *cs,
	               const rv_head_shape *shape);
	/* Rows of packed heads (a row a head) times scale[row]. */
	void (*scale_rows)(rv_real *x, const rv_real *scale, int64_t rows, int64_t n);
	void (*row_dots)(rv_real *d, const rv_real *a, const rv_real *b, int64_t rows, int64_t n);
	/* s = exp(scale s - max of the row), 0 where a row sees nothing; lse: log of the sum of
	 * exp(scale s), inv: 1 / sum of what s became. Every row sees at least one key. */
	void (*softmax)(rv_real *s, rv_real *lse, rv_real *inv, const rv_score_rows *rows,
	                rv_real scale);
	/* From scores s and dp = d loss / d probability: s becomes the probabilities, dp the derivative
	 * by the unscaled scores; dots[r] is sum of p dp over all keys of the row. */
	void (*softmax_back)(rv_real *s, rv_real *dp, const rv_real *lse, const rv_real *dots,
	                     const rv_score_rows *rows, rv_real scale);
	rv_loss_value (*loss)(rv_real *logits, int64_t n, const rv_loss_row *row);
	/* g[0] += the other slices, in order, then times scale; returns the sum of squares. */
	double (*reduce)(rv_real *const *g, int64_t n_slices, int64_t offset, int64_t n, rv_real scale);
	/* Returns sum f (w - anchor)^2; g += lambda f (w - anchor), unless g is NULL. */
	double (*hold)(rv_real *g, const rv_real *w, const rv_real *anchor, const rv_real *f, int64_t n,
	               rv_real lambda);
	/* sum += g^2 */
	void (*add_squares)(rv_real *sum, const rv_real *g, int64_t n);
	void (*adamw)(rv_real *w, rv_real *m, rv_real *v, const rv_real *g, int64_t n,
	              const rv_adamw_step *step);
} rv_train_ops;

#ifndef RV_TRAIN_DOUBLE
extern const rv_train_ops rv_train_ops_plain;
extern const rv_train_ops rv_train_ops_avx2;
extern const rv_train_ops rv_train_ops_avx512;
/* The table for a level: the strongest not above it. */
const rv_train_ops *rv_train_ops_for(rv_level level);
#endif

#endif
