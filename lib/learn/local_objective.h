/* The local objective of the instant loop: the state after a hooked site read as if it were the last.
 *
 * For one produced token, n_top candidates (the ids of its highest logits, the token chosen among them)
 * and the state h behind a hooked site's addition to the residual stream:
 *
 *   n = h / sqrt(mean(h^2) + eps) * w     (the final norm)
 *   z_i = <output row of candidate i, n>
 *   lens      L = -log softmax(z)[chosen]
 *   anchored  L = -log softmax(saved + z - z_0)[chosen], z_0 = z at the state that was saved: what the
 *             change of the state alone, handed through to the end, does to the logits the model gave.
 *             Its gradient at that state is that of lens with the saved logits in place of z.
 *
 * A true gradient through all later layers cannot be had in a millisecond at 3 B parameters; this one
 * is exact for what it is. As the site's output y is added to h, dL/dy = dL/dh.
 *
 * The output rows of a token are decoded once for all its states. Pure but for the scratch: any number
 * of threads, each with its own scratch. */
#ifndef RV_LEARN_LOCAL_OBJECTIVE_H
#define RV_LEARN_LOCAL_OBJECTIVE_H

#include "base/status.h"
#include "kernels/kernels.h"
#include "model/model.h"

#include <stdint.h>

enum { RV_LOCAL_MAX_TOP = 256, RV_LOCAL_MAX_STATES = 128 };

typedef enum rv_local_reading {
	RV_LOCAL_LENS,
	RV_LOCAL_ANCHORED,
	RV_LOCAL_READING_COUNT
} rv_local_reading;
extern const char *const rv_local_readings[]; /* "lens", "anchored"; NULL-terminated */

typedef struct rv_local_objective {
	const rv_kernels *kernels;
	const rv_weight *output; /* [n_vocab, n_embd] */
	const float *norm;       /* [n_embd] */
	float eps;
	int64_t n_embd, n_vocab;
} rv_local_objective;

/* Borrows from the model, which must outlive it. */
void rv_local_objective_init(rv_local_objective *o, const rv_model *model, const rv_kernels *kernels);

/* Bytes of one thread's scratch for so many candidates and states; 64-byte aligned memory. */
size_t rv_local_scratch_bytes(const rv_local_objective *o, int64_t n_top, int64_t n_states);

typedef struct rv_local_token {
	const int32_t *ids;         /* [n_top] distinct, in the vocabulary */
	const float *saved;         /* [n_top] their logits; read by `anchored` only */
	int64_t n_top;              /* 1..RV_LOCAL_MAX_TOP */
	int64_t chosen;             /* index into ids */
	const float *const *states; /* [n_states] of n_embd */
	int64_t n_states;           /* 1..RV_LOCAL_MAX_STATES */
} rv_local_token;

/* loss: [n_states] nats; gradients: [n_states] of n_embd, dL/dh, or NULL: losses alone (of `anchored`
 * at the saved state, where they are all the same). Not finite when a state is not. */
void rv_local_objective_gradient(const rv_local_objective *o, rv_local_reading reading,
                                 const rv_local_token *token, void *scratch, double *loss,
                                 float *const *gradients);

#endif
