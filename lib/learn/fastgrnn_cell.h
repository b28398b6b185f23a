/* The FastGRNN cell (Kusupati et al., NeurIPS 2018, arXiv 1901.02358) over a sequence, and its
 * gradient.
 *
 *     p = W x + U h,  z = sigmoid(p + b_z),  c = tanh(p + b_h),  h' = (zeta (1 - z) + nu) c + z h
 *
 * W = W1 W2 and U = U1 U2 are of low rank and shared by gate and candidate; zeta and nu are scalars in
 * (0, 1), sigmoids of what is learnt. Linear heads read the last state: y = V h + b_y. Everything
 * learnt stands in one array. Internal to lib/learn; element type as in train_real.h. */
#ifndef RV_LEARN_FASTGRNN_CELL_H
#define RV_LEARN_FASTGRNN_CELL_H

#include "learn/train_real.h"

#include <stdint.h>

enum {
	RV_GRNN_IN_MAX = 64,
	RV_GRNN_HIDDEN_MAX = 128,
	RV_GRNN_RANK_MAX = 64,
	RV_GRNN_STEPS_MAX = 32,
	RV_GRNN_OUT_MAX = 64
};

typedef struct rv_grnn_shape {
	int32_t in, hidden, rank_w, rank_u, steps, out;
} rv_grnn_shape;

/* Where each array begins in the parameters. */
typedef struct rv_grnn_layout {
	int64_t w1, w2, u1, u2; /* [hidden, rank_w] [rank_w, in] [hidden, rank_u] [rank_u, hidden] */
	int64_t b_z, b_h, zeta_nu, v, b_y; /* [hidden] [hidden] [2] [out, hidden] [out] */
	int64_t count;
} rv_grnn_layout;

static inline rv_grnn_layout rv_grnn_layout_of(const rv_grnn_shape *s) {
	rv_grnn_layout l = {0};
	const int64_t h = s->hidden;
	l.w2 = l.w1 + h * s->rank_w;
	l.u1 = l.w2 + (int64_t)s->rank_w * s->in;
	l.u2 = l.u1 + h * s->rank_u;
	l.b_z = l.u2 + s->rank_u * h;
	l.b_h = l.b_z + h;
	l.zeta_nu = l.b_h + h;
	l.v = l.zeta_nu + 2;
	l.b_y = l.v + s->out * h;
	l.count = l.b_y + s->out;
	return l;
}

/* What the gradient needs of a pass. */
typedef struct rv_grnn_tape {
	rv_real a[RV_GRNN_STEPS_MAX][RV_GRNN_RANK_MAX]; /* W2 x */
	rv_real b[RV_GRNN_STEPS_MAX][RV_GRNN_RANK_MAX]; /* U2 h */
	rv_real z[RV_GRNN_STEPS_MAX][RV_GRNN_HIDDEN_MAX], c[RV_GRNN_STEPS_MAX][RV_GRNN_HIDDEN_MAX];
	rv_real h[RV_GRNN_STEPS_MAX + 1][RV_GRNN_HIDDEN_MAX];
} rv_grnn_tape;

/* x: [steps, in]; y: [out]. */
void rv_grnn_forward(const rv_grnn_shape *s, const rv_real *params, const rv_real *x,
                     rv_grnn_tape *tape, rv_real *y);
/* Adds the gradient by back-propagation through time; dy: [out], of the pass on the tape. */
void rv_grnn_backward(const rv_grnn_shape *s, const rv_real *params, const rv_real *x,
                      const rv_grnn_tape *tape, const rv_real *dy, rv_real *grad);

#endif
