/* MicroLoRA: low-rank changes of a few projections that learn while serving.
 *
 * y = W x + s B (A x), s = alpha / rank; A ~ N(0, 2 / (n_in + rank)), B = 0 at first, so that nothing
 * changes before the first update (Hu et al. 2021, arXiv:2106.09685). An update takes inputs x and
 * gradients g = dLoss/dy of n tokens and goes one step down:
 *
 *   exact   B -= step s sum_t g_t (A x_t)^T,  A -= step s sum_t (B_old^T g_t) x_t^T
 *   seeds   B -= step   sum_t g_t (A x_t)^T,  A -= step   sum_t (B_new^T g_t) x_t^T
 *
 * The first is the gradient; the second is the form of the design documents, kept to be measured beside
 * it. With top_k only the entries of each factor's gradient that are largest in magnitude are applied.
 *
 * What decodes with it is a copy: rv_micro_lora_adapter makes an immutable adapter, published through a
 * slot (model/adapter_slot.h). One caller at a time. After creation only rv_micro_lora_adapter
 * allocates. */
#ifndef RV_LEARN_MICRO_LORA_H
#define RV_LEARN_MICRO_LORA_H

#include "base/status.h"
#include "kernels/kernels.h"
#include "model/adapter.h"
#include "model/site.h"

#include <stdint.h>

enum { RV_MICRO_MAX_RANK = 8, RV_MICRO_MAX_LAYERS = 64 };

typedef enum rv_micro_form { RV_MICRO_EXACT, RV_MICRO_SEEDS, RV_MICRO_FORM_COUNT } rv_micro_form;
extern const char *const rv_micro_forms[]; /* "exact", "seeds"; NULL-terminated */

typedef struct rv_micro_lora_options {
	int64_t layers[RV_MICRO_MAX_LAYERS]; /* hooked, ascending */
	int n_layers;                        /* default: 0, which is RV_ERR_INVALID */
	rv_site site;                        /* default attn_out */
	int64_t rank;                        /* 1..RV_MICRO_MAX_RANK; default 2 */
	int adaptive; /* 1: begins with rank 1 and takes on another direction, up to `rank`, when all it
	                 has are used alike; drops one that hardly is. Default 0 */
	double alpha; /* > 0; 0 (default): 2 rank */
	double lr;    /* of the instant update, >= 0; default 0.01 */
	rv_micro_form form; /* default EXACT */
	int64_t top_k;      /* entries of a factor's gradient that are applied; 0 (default): all */
	uint64_t seed;      /* of A */
} rv_micro_lora_options;
rv_micro_lora_options rv_micro_lora_defaults(void);

/* The layers of a model of `n_layers` that stand for hook layers of a model of 32 (SPEC 1): round(h
 * n_layers / 32), at most n_layers - 1, ascending, duplicates merged. Returns how many are left. */
int rv_micro_lora_place(const int64_t *hooks, int n_hooks, int64_t n_layers, int64_t *out);

typedef struct rv_micro_lora rv_micro_lora;

/* Retains the model. RV_ERR_INVALID names an option out of bounds; a layer that the model has not, or
 * twice. options are copied. */
rv_status rv_micro_lora_create(rv_micro_lora **out, rv_model *model,
                               const rv_micro_lora_options *options);
void rv_micro_lora_destroy(rv_micro_lora *m); /* accepts NULL */
const rv_micro_lora_options *rv_micro_lora_get_options(const rv_micro_lora *m);
rv_model *rv_micro_lora_model(const rv_micro_lora *m);
size_t rv_micro_lora_bytes(const rv_micro_lora *m); /* factors, snapshot and scratch */
int64_t rv_micro_lora_n_params(const rv_micro_lora *m);

/* The changed projections, layer by layer, in a layer in the order of its computation. */
typedef struct rv_micro_part {
	rv_role role;
	int64_t layer, n_in, n_out;
	int64_t rank;           /* in use */
	float scale;            /* s */
	const float *a;         /* [rank, n_in] */
	const float *b_columns; /* B by columns: [rank, n_out] */
} rv_micro_part;
int rv_micro_lora_n_parts(const rv_micro_lora *m);
/* Borrowed; as of now. */
rv_micro_part rv_micro_lora_part(const rv_micro_lora *m, int part);
int rv_micro_lora_find(const rv_micro_lora *m, rv_role role, int64_t layer); /* -1: none */

/* y += s B A x for n tokens: x [n, n_in], y [n, n_out]. What the engine computes for its adapters, for
 * those who have no context. */
void rv_micro_lora_forward(const rv_micro_lora *m, int part, const float *x, int64_t n, float *y);

/* One step for n <= RV_MICRO_MAX_TOKENS tokens: token t has input x + t ldx, of n_in, and gradient g +
 * t ldg, of n_out; step: learning rate times quality. RV_ERR_NUMERIC when a factor is no longer finite:
 * roll back. */
#define RV_MICRO_MAX_TOKENS 128
rv_status rv_micro_lora_update(rv_micro_lora *m, int part, const float *x, int64_t ldx, const float *g,
                               int64_t ldg, int64_t n, double step);

/* Of the tokens: the largest |s B A x| / |state|; how much of the residual stream the change is.
 * Laid out likewise; NaN when one of them is not finite. */
double rv_micro_lora_ratio(const rv_micro_lora *m, int part, const float *x, int64_t ldx,
                           const float *state, int64_t lds, int64_t n);

/* All factors aside, and back again: what was last kept. */
void rv_micro_lora_keep(rv_micro_lora *m);
void rv_micro_lora_roll_back(rv_micro_lora *m);
/* As after creation, with A of another seed. */
void rv_micro_lora_reset(rv_micro_lora *m, uint64_t seed);
/* Frobenius norm of s B A over all parts together. */
double rv_micro_lora_norm(const rv_micro_lora *m);

/* A new immutable adapter of what it is now; with `base` (may be NULL) what stands for the sum of the
 * two: ranks one after the other, parts of either. Parts whose B is zero are left out where `base` has
 * them; an adapter needs at least one part, so without a base they are kept. */
rv_status rv_micro_lora_adapter(const rv_micro_lora *m, const rv_adapter *base, const char *name,
                                rv_adapter **out);
/* Takes over the factors of an adapter (a file, saved state) whose parts, ranks and scales are this
 * one's: RV_ERR_MISMATCH names the first that is not, and nothing changed. */
rv_status rv_micro_lora_load(rv_micro_lora *m, const rv_adapter *adapter);

#endif
