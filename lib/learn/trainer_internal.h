/* A trainer's parts. Internal to lib/learn. */
#ifndef RV_LEARN_TRAINER_INTERNAL_H
#define RV_LEARN_TRAINER_INTERNAL_H

#include "learn/train_pass.h"
#include "learn/trainer.h"

#define RV_UPDATE_CHUNK 16384 /* elements updated at a time */

/* A piece of one tensor for the optimizer. */
typedef struct rv_update_chunk {
	int64_t param, begin, n; /* begin: in the trained elements */
	double squares;          /* sum of squares of its gradient */
} rv_update_chunk;

/* A model that is only asked. */
typedef struct rv_train_teacher {
	rv_train_layout layout;
	float *weights;
	rv_pass *passes; /* one a thread */
} rv_train_teacher;

struct rv_trainer {
	rv_trainer_options options;
	char *lora_targets, *lora_layers; /* the options' texts */
	rv_train_layout layout;
	const rv_train_ops *ops;
	rv_threads *threads;
	int64_t n_threads;

	float *weights;           /* [layout.n_elements] */
	float *moment1, *moment2; /* of the trained elements */
	float **gradients;        /* [n_slices] of the trained elements; all zero between updates */
	/* what is held near an anchor; fewer than 1: nothing */
	rv_hold *holds;
	int64_t n_holds;
	float **hold_scratch; /* [n_threads], NULL without products */
	double lambda;
	rv_update_chunk *chunks;
	int64_t n_chunks;
	rv_pass *passes; /* one a thread */
	rv_train_teacher *teacher;

	int64_t step, n_tokens; /* done */
	/* accumulated since the last update */
	int64_t n_pieces, tokens_pending;
	rv_loss_sum pending;
	int64_t begun_ns;    /* 0: nothing yet */
	double step_seconds; /* running mean; 0: none yet */

	int (*cancelled)(void *user);
	void *cancel_user;
	void (*record)(void *user, const rv_train_record *r);
	void *record_user;
};

static inline int64_t rv_trainer_n_active(const rv_trainer *t) {
	return t->layout.train_end - t->layout.train_begin;
}
/* Sequences of a piece. */
int64_t rv_trainer_piece_seqs(const rv_trainer *t);

/* train_init.c */
rv_status rv_train_check_options(const rv_trainer_options *o);
rv_status rv_train_check_shape(const rv_hparams *hp);
/* Random weights of the tensors from parameter `first` on. */
void rv_train_random(const rv_train_layout *layout, float *weights, const rv_trainer_options *o,
                     int64_t first);
/* The number of the first adapter's parameter; n_params: none. */
int64_t rv_train_first_adapter(const rv_train_layout *layout);
/* The model's weights decoded; adapters are left alone. */
rv_status rv_train_decode(const rv_train_layout *layout, float *weights, const rv_model *model);

/* train_step.c */
typedef struct rv_train_batch {
	const int32_t *tokens; /* [n_seqs, n_ctx + 1] */
	const float *weights;  /* [n_seqs, n_ctx]; NULL: all 1 */
	int64_t n_seqs;
	float *token_loss; /* [n_seqs, n_ctx], or NULL */
} rv_train_batch;
rv_status rv_train_check_batch(const rv_trainer *t, const rv_train_batch *b);
/* Sequences [first, first + n) at once: the loss is added to *sum, its gradient to `gradient` (NULL:
 * none). */
rv_status rv_train_run_piece(rv_trainer *t, const rv_train_batch *b, int64_t first, int64_t n,
                             float *gradient, int thread, rv_loss_sum *sum);

/* train_hold.c */
/* The penalties, into the holds; with_gradient: lambda times the derivative is added to gradients[0].
 */
rv_status rv_train_hold(rv_trainer *t, int with_gradient, double *penalty);
void rv_train_free_holds(rv_trainer *t);
/* sum += square of the gradient of each sequence's weighted loss, in order; *weight: of all
 * predictions. Gradients, which are zero before, are zero afterwards. */
rv_status rv_train_squares(rv_trainer *t, const rv_train_batch *b, float *sum, double *weight);

/* train_adapter.c */
/* The adapter's matrices, borrowing the weights (the table is rv_free'd). RV_ERR_INVALID: none. */
rv_status rv_train_matrices(const rv_trainer *t, rv_adapter_matrix **parts, int *n);
/* The factors and scales of an adapter that has every matrix of the layout, decoded. */
void rv_train_take_adapter(rv_train_layout *layout, float *weights, const rv_adapter *adapter);

/* train_update.c */
rv_status rv_train_chunks(rv_trainer *t);
/* Forgets what was accumulated. */
void rv_train_drop_pending(rv_trainer *t);

#endif
