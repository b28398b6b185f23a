/* The parameters of a training run as one flat array: a row a tensor, made from the architecture's
 * table, and behind them the LoRA adapters. */
#ifndef RV_LEARN_TRAIN_LAYOUT_H
#define RV_LEARN_TRAIN_LAYOUT_H

#include "base/status.h"
#include "model/adapter.h"
#include "model/arch.h"

#include <stdint.h>

typedef enum rv_part {
	RV_PART_WEIGHT, /* the model's own tensor */
	RV_PART_LORA_A, /* [rank, cols]: what an adapter reads */
	RV_PART_LORA_B, /* [rows, rank]: what it adds */
	RV_PART_COUNT
} rv_part;

typedef struct rv_param {
	char name[80]; /* as in GGUF: "blk.0.attn_q.weight", "blk.0.attn_q.weight.lora_a" */
	rv_role role;
	rv_part part;
	int64_t layer; /* -1: none */
	int64_t rows, cols;
	int64_t offset; /* of the first element in the flat array; a multiple of 16 */
	int decay;      /* weight decay applies: matrices */
	double scale;   /* of an adapter's factors: alpha / rank */
} rv_param;

typedef struct rv_train_layout {
	const rv_arch *arch;
	rv_hparams hp;
	rv_param *params; /* in the order of offsets */
	int64_t n_params;
	int64_t n_elements;             /* of the flat array, gaps included */
	int64_t train_begin, train_end; /* elements that are trained: all, or the adapters' */
	int64_t lora_rank;              /* the largest; 0: no adapters */
	double lora_scale;              /* alpha / rank of the first */
	/* The way back ends here: the lowest layer with anything trained, and the first role trained in
	 * it, in the order of computation; layer 0 and RV_TOKEN_EMBD when the embedding is. */
	int64_t last_layer;
	rv_role last_role;
	int32_t *find; /* internal */
} rv_train_layout;

/* Which projections of layers get adapters. */
typedef struct rv_train_lora {
	int64_t rank;
	double alpha;
	const char *targets;     /* comma-separated words of "q,k,v,o,gate,up,down"; NULL: all */
	const char *layers;      /* comma-separated numbers; NULL: all */
	const rv_adapter *start; /* not NULL: the matrices it has, with their ranks and scales; the
	                          * fields above do not count */
} rv_train_lora;

/* lora NULL: no adapters, everything is trained. RV_ERR_UNSUPPORTED: an architecture the trainer cannot
 * differentiate, or an adapter of something else than a layer's projection, by name; RV_ERR_INVALID: a
 * word of targets or layers. */
rv_status rv_train_layout_init(rv_train_layout *out, const rv_arch *arch, const rv_hparams *hp,
                               const rv_train_lora *lora);
void rv_train_layout_deinit(rv_train_layout *layout); /* accepts a zeroed one */

/* Index of a parameter, -1 when there is none. OUTPUT of a tied model is the token embedding. */
int64_t rv_train_layout_find(const rv_train_layout *layout, rv_role role, int64_t layer, rv_part part);
static inline int rv_train_layout_trained(const rv_train_layout *layout, const rv_param *p) {
	return p->offset >= layout->train_begin && p->offset < layout->train_end;
}

#endif
