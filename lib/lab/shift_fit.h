/* Adaptation to the stream of T15 by back-propagation: of all weights, or of LoRA, plain or held back
 * by EWC++ and replay of old documents. One pass or more over the stream in its order, in steps of a
 * few sequences; what is learnt of a request is its answer. The yardsticks, and what a background loop
 * can do. */
#ifndef RV_LAB_SHIFT_FIT_H
#define RV_LAB_SHIFT_FIT_H

#include "lab/shift_score.h"
#include "learn/ewc.h"
#include "learn/trainer.h"
#include "model/site.h"

enum { RV_SHIFT_CTX = 128, RV_SHIFT_MAX_LAYERS = 64 };

/* Documents as a trainer takes them: whole ones, one after the other, in sequences of RV_SHIFT_CTX. */
typedef struct rv_shift_pack {
	int32_t *tokens; /* [n, RV_SHIFT_CTX + 1] */
	float *weights;  /* [n, RV_SHIFT_CTX]: where an answer's token is predicted; 1 a document */
	int64_t n, cap;
} rv_shift_pack;
rv_status rv_shift_pack_docs(rv_shift_pack *pack, const rv_shift_stream *stream,
                             const rv_shift_doc *const *docs, int64_t n);
void rv_shift_pack_free(rv_shift_pack *pack); /* accepts a zeroed one */

typedef struct rv_shift_plan {
	int full; /* all weights; else LoRA: */
	int64_t layers[RV_SHIFT_MAX_LAYERS];
	int n_layers; /* 0: all */
	rv_site site;
	int64_t rank;
	double lr;
	int epochs;
	int64_t batch;         /* sequences of a step, of new requests */
	double lambda, replay; /* of EWC++; weight of replayed text, that of the new being 1 */
	uint64_t seed;
} rv_shift_plan;

typedef struct rv_shift_fitter {
	const rv_run_config *config;
	const rv_model *model;
	const rv_shift_stream *stream;
	rv_shift_pack replay;
	rv_ewc *ewc; /* of all weights, on the replayed documents; made when first wanted */
	rv_trainer *lora;
	char lora_shape[256]; /* what `lora` adapts: the next of the same shape begins in its memory */
	const rv_shift_doc **order;
	double fisher_s;
} rv_shift_fitter;

/* `fitter` is zeroed; close it after a failure too. */
rv_status rv_shift_fitter_open(rv_shift_fitter *fitter, const rv_run_config *config,
                               const rv_model *model, const rv_shift_stream *stream);
void rv_shift_fitter_close(rv_shift_fitter *fitter);

typedef struct rv_shift_fitted {
	rv_adapter *adapter;  /* one reference, of LoRA */
	rv_model *whole;      /* one reference, of full fine-tuning (F32) */
	double seconds, loss; /* loss: mean over the last epoch, nats a token */
	int64_t n_steps;
} rv_shift_fitted;
void rv_shift_fitted_release(rv_shift_fitted *fitted); /* accepts a zeroed one */
/* RV_ERR_NUMERIC when it diverges. */
rv_status rv_shift_fit(rv_shift_fitter *fitter, const rv_shift_plan *plan, rv_shift_fitted *out);

#endif
