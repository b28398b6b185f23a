/* What MicroLoRA is made of, for its own files. */
#ifndef RV_LEARN_MICRO_LORA_INTERNAL_H
#define RV_LEARN_MICRO_LORA_INTERNAL_H

#include "learn/micro_lora.h"

typedef struct micro_part {
	rv_role role;
	int64_t layer, n_in, n_out;
	int64_t rank, kept_rank; /* in use, of the options' rank */
	int64_t n_updates;
	size_t a, b; /* of its factors: A by rows, B by columns, room for the full rank */
} micro_part;

struct rv_micro_lora {
	rv_model *model;
	const rv_kernels *kernels;
	rv_micro_lora_options options;
	float scale;
	micro_part *parts;
	int n_parts;
	float *factors, *kept; /* [n_factors] of all parts */
	size_t n_factors, n_delta;
	float *low;       /* 2 times [RV_MICRO_MAX_TOKENS, RV_MICRO_MAX_RANK] */
	float *delta;     /* [n_delta] of the larger factor */
	float *magnitude; /* of delta; with top_k only, as those below */
	float *top_values;
	int32_t *top_ids, *top_scratch;
};

/* The learning rate from now on. */
void rv_micro_lora_set_lr(rv_micro_lora *m, double lr);

#endif
