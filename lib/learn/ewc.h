/* Elastic weight consolidation, online: what must not be forgotten is remembered as an anchor (weights)
 * and a Fisher diagonal (how much the loss there minds each of them).
 *
 * Fisher: of a sequence s with weights w of its predictions, g_s = d sum(w loss) / d theta; an
 * observation of some sequences is F = sum_s g_s^2 / sum_s sum(w) (the empirical Fisher diagonal of a
 * sequence, divided by its tokens), so that at a minimum lambda/2 sum F (theta - anchor)^2 is lambda
 * times the rise of that text's loss, nats a token, to second order, where weights are 0 or 1 and
 * tokens independent. lambda 1 weighs old text as new. (Weights of 1/k on the k tokens of an answer
 * make F k times too small for that reading.)
 *
 * Observations are averaged with a decay, corrected for the beginning: F <- decay F + (1 - decay)
 * F_new, over 1 - decay^n. decay 0: the last one alone.
 *
 * Penalty: lambda/2 sum F (theta - anchor)^2 is added to a trainer's loss and its derivative to the
 * gradient before clipping (rv_trainer_set_ewc). What theta is, depends on the trainer:
 *   the same tensors as the memory's     : weights, or factors A and B, are held one by one;
 *   LoRA trainer, memory of all weights  : the product is held: theta = W + s B A of each adapted W.
 *
 * Kirkpatrick et al. 2017 (EWC); Schwarz et al. 2018 (online); Chaudhry et al. 2018 (EWC++: moving
 * average). One caller at a time; trainers that hold one only read it. Same bits for any number of
 * threads. */
#ifndef RV_LEARN_EWC_H
#define RV_LEARN_EWC_H

#include "learn/trainer.h"

typedef struct rv_ewc rv_ewc;

#define RV_EWC_DECAY 0.9 /* a usual one */

/* For what `t` trains: Fisher 0, anchor its present weights. decay in [0, 1). */
rv_status rv_ewc_create(rv_ewc **out, const rv_trainer *t, double decay);
/* Accepts NULL. No trainer may be holding it (rv_trainer_set_ewc). */
void rv_ewc_destroy(rv_ewc *ewc);

/* One observation at the weights t has now, of n_seqs sequences as rv_trainer_accumulate takes them
 * (weights NULL: all 1). RV_ERR_MISMATCH: t trains other tensors; RV_ERR_INVALID: bad sequences, or t
 * holds an accumulated gradient; RV_ERR_NUMERIC: not finite. On failure the memory is as before. */
rv_status rv_ewc_observe(rv_ewc *ewc, rv_trainer *t, const int32_t *tokens, const float *weights,
                         int64_t n_seqs);
/* The anchor becomes the present weights of t: after a task that was learnt on purpose. */
rv_status rv_ewc_set_anchor(rv_ewc *ewc, const rv_trainer *t);

/* The penalty holds from the next update on; NULL or lambda 0: none. The memory is borrowed until it is
 * replaced or the trainer destroyed. lambda in [0, 1e9]. RV_ERR_MISMATCH names the first tensor of the
 * trainer that the memory does not know. */
rv_status rv_trainer_set_ewc(rv_trainer *t, const rv_ewc *ewc, double lambda);
/* sum F (theta - anchor)^2 / 2 of the present weights: what lambda multiplies. 0 without a memory. */
rv_status rv_trainer_penalty(rv_trainer *t, double *penalty);

/* ---- looking inside ---- */
typedef struct rv_ewc_tensor {
	const char *name; /* as rv_train_tensor */
	int64_t rows, cols;
	const float *anchor; /* [rows, cols], borrowed until the next change */
	const float *fisher; /* [rows, cols] averaged, corrected */
} rv_ewc_tensor;
int64_t rv_ewc_n_tensors(const rv_ewc *ewc);
rv_ewc_tensor rv_ewc_tensor_at(const rv_ewc *ewc, int64_t i);
int64_t rv_ewc_n_observations(const rv_ewc *ewc);
size_t rv_ewc_bytes(const rv_ewc *ewc); /* allocated */

/* One file, atomic. A file that is cut off, changed, of another kind, or that holds numbers that are
 * not finite or a negative Fisher, is refused by its name; *out is then NULL. */
rv_status rv_ewc_save(const rv_ewc *ewc, const char *path);
rv_status rv_ewc_load(rv_ewc **out, const char *path);
rv_status rv_ewc_load_memory(rv_ewc **out, const void *data, size_t size, const char *name);

#endif
