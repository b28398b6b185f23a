/* How far two gradients by the factors of LoRA matrices point the same way: the local one of the
 * instant loop (local_objective.h) beside the full next-token one of back-propagation. */
#ifndef RV_LEARN_GRADIENT_COSINE_H
#define RV_LEARN_GRADIENT_COSINE_H

#include "learn/trainer.h"

/* Derivatives of a loss by the factors of one matrix. */
typedef struct rv_lora_gradient {
	rv_role role;
	int64_t layer;
	int64_t rank, n_in, n_out;
	const float *a; /* [rank, n_in] */
	const float *b; /* [n_out, rank] */
} rv_lora_gradient;

typedef struct rv_gradient_set {
	rv_lora_gradient *matrices; /* ascending by layer, then role */
	int n;
	float *memory; /* of their factors; owned, like the table */
} rv_gradient_set;

/* What a LoRA trainer accumulated since its last update (of the weighted mean loss): the full
 * next-token gradient, when it was created from the MicroLoRA's adapter and accumulated the request's
 * tokens with weight on the produced ones. RV_ERR_INVALID: nothing accumulated, or all weights trained.
 */
rv_status rv_trainer_lora_gradient(const rv_trainer *t, rv_gradient_set *out);
void rv_gradient_set_deinit(rv_gradient_set *set); /* accepts a zeroed one */

typedef struct rv_cosine {
	double all, a, b;       /* over both factors of all matrices, the A's, the B's; NaN where one of
	                         * the gradients is 0 (A's while B is 0) */
	double norm_x, norm_y;  /* of what was compared */
	int64_t n_matrices;     /* in both sets */
	int64_t only_x, only_y; /* matrices that only one has: not compared */
} rv_cosine;

/* Matrices are matched by role and layer. RV_ERR_MISMATCH names one whose shapes differ;
 * RV_ERR_NUMERIC one with an element that is not finite; RV_ERR_NOT_FOUND: none in common. */
rv_status rv_gradient_cosine(rv_cosine *out, const rv_lora_gradient *x, int n_x,
                             const rv_lora_gradient *y, int n_y);

#endif
