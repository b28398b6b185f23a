/* The instant loop: what a request teaches, learnt as it ends, in under a millisecond.
 *
 * For a captured request (learn/capture.h) whose quality reaches the threshold: the exact gradient of
 * the local objective (learn/local_objective.h), mean over its tokens, by each hooked projection that
 * ends in the residual stream; one step lr * quality of MicroLoRA (learn/micro_lora.h); a new adapter,
 * published into a slot that contexts follow. (Gradients that came with the capture are taken as they
 * are.) Projections that do not end there (q, k, v, gate, up)
 * have no local gradient: they stay as they are, and the report counts them.
 *
 * Guards. Before publishing: gradients and factors must be finite, and for every captured token |s B A
 * x| at most max_ratio of |state|. What fails is rolled back as a whole, nothing is published, and the
 * report says which guard it was.
 *
 * What decodes is base + MicroLoRA in one adapter, so that both change at the same token. Folding makes
 * the present MicroLoRA a part of the base, without any change of what it computes, and begins a fresh
 * one: then the base can be consolidated at leisure and put back.
 *
 * Thread-safe: one lock; nothing that decodes waits for it. */
#ifndef RV_LEARN_INSTANT_H
#define RV_LEARN_INSTANT_H

#include "base/status.h"
#include "base/threads.h"
#include "learn/capture.h"
#include "learn/local_objective.h"
#include "learn/micro_lora.h"
#include "learn/quality.h"
#include "model/adapter_slot.h"

#include <stdint.h>

typedef struct rv_instant rv_instant;

typedef struct rv_instant_options {
	double threshold;         /* learn from quality >= this; [0, 1], default 0.6 */
	rv_local_reading reading; /* default LENS */
	int64_t max_tokens;       /* of a request, learnt from: every so many; 1..128, default 32 */
	int64_t n_top;            /* most candidates of a captured token; 2..256, default 64 */
	double max_ratio;         /* > 0; default 0.5 */
	int bounded; /* 1: only as many tokens as are expected to fit into budget_ns, by what a token
	                took before; results then depend on the machine. Default 0 */
	int64_t budget_ns;          /* default 1 000 000 */
	struct rv_threads *threads; /* to share the work with, of the same caller as rv_instant_learn's;
	                               NULL: the calling thread alone */
} rv_instant_options;
rv_instant_options rv_instant_defaults(void);

/* Retains the model; the slot (may be NULL: nothing is published) and the threads outlive it. */
rv_status rv_instant_create(rv_instant **out, rv_model *model, const rv_micro_lora_options *micro,
                            const rv_instant_options *options, rv_adapter_slot *slot);
void rv_instant_destroy(rv_instant *i); /* accepts NULL */
size_t rv_instant_bytes(const rv_instant *i);

/* What became of a request. */
typedef enum rv_instant_outcome {
	RV_INSTANT_LEARNT,
	RV_INSTANT_OFF,         /* learning rate 0 */
	RV_INSTANT_BELOW,       /* quality below the threshold */
	RV_INSTANT_NOTHING,     /* no captured tokens */
	RV_INSTANT_NO_GRADIENT, /* n/a: no hooked projection ends in the residual stream */
	RV_INSTANT_NOT_FINITE,  /* rolled back: a gradient or factor is not finite */
	RV_INSTANT_EXPLODED,    /* rolled back: max_ratio */
	RV_INSTANT_OUTCOME_COUNT
} rv_instant_outcome;
const char *rv_instant_outcome_text(rv_instant_outcome outcome); /* one line for people */

typedef struct rv_instant_report {
	rv_instant_outcome outcome;
	double quality;
	rv_quality_source source;
	int64_t n_tokens;       /* learnt from */
	int n_parts, n_skipped; /* changed; without a local gradient */
	double loss;            /* mean over tokens and layers before the update, nats */
	double gradient_norm;   /* of dL/dy: root mean square over tokens and layers */
	double ratio;     /* largest |s B A x| / |state| after the update, also when rolled back */
	uint64_t version; /* published; 0: none */
	int64_t gradient_ns, update_ns, publish_ns, total_ns;
} rv_instant_report;

/* captured: with the layers, site and model of this loop (RV_ERR_MISMATCH). quality in [0, 1]
 * (RV_ERR_INVALID). A guard that strikes is an outcome, not an error. The caller still owns `captured`.
 */
rv_status rv_instant_learn(rv_instant *i, const rv_captured *captured, double quality,
                           rv_quality_source source, rv_instant_report *report);

/* The base (retained; NULL: none) from now on, published with the MicroLoRA. */
rv_status rv_instant_set_base(rv_instant *i, rv_adapter *base);
/* Moves MicroLoRA into the base, begins a fresh one with A of `seed`. *base: the new base, retained for
 * the caller. */
rv_status rv_instant_fold(rv_instant *i, uint64_t seed, rv_adapter **base);
/* The base, retained for the caller, and MicroLoRA alone as an adapter of its own; either may be NULL:
 * not wanted. *base is NULL when there is none. */
rv_status rv_instant_snapshot(rv_instant *i, rv_adapter **base, rv_adapter **micro);
/* Both back from saved state (micro NULL: a fresh one with A of `seed`), published. */
rv_status rv_instant_restore(rv_instant *i, rv_adapter *base, const rv_adapter *micro, uint64_t seed);
/* The learning rate from now on (variants, the realtime optimiser). */
rv_status rv_instant_set_lr(rv_instant *i, double lr);

typedef struct rv_instant_stats {
	int64_t n_requests;
	int64_t n_outcome[RV_INSTANT_OUTCOME_COUNT];
	int64_t n_tokens;
	int64_t total_ns, max_ns; /* of those learnt from */
	double norm;              /* of s B A now */
} rv_instant_stats;
void rv_instant_get_stats(rv_instant *i, rv_instant_stats *out);

#endif
