/* Quantizing a model file: types, mixes, fall-backs (llama.cpp's per-tensor rules). */
#ifndef RV_MODEL_QUANTIZE_H
#define RV_MODEL_QUANTIZE_H

#include "base/log.h"
#include "base/status.h"
#include "base/threads.h"
#include "model/arch.h"

#include <stdint.h>
#include <stdio.h>

/* What can be asked for: plain types (F16, Q8_0, Q4_0, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K) and mixes
 * (Q4_K_M, Q5_K_M, Mixed). */
typedef struct rv_quant_target rv_quant_target;
const rv_quant_target *rv_quant_target_by_name(const char *name); /* case-insensitive; NULL unknown */
const char *rv_quant_target_names(void);                          /* for messages */
const char *rv_quant_target_name(const rv_quant_target *t);

typedef struct rv_quant_override {
	const char *pattern; /* substring of the tensor name, or a shell pattern when it holds * or ? */
	rv_type type;
} rv_quant_override;

typedef struct rv_quant_options {
	const rv_quant_target *target;
	int pure; /* every matrix in the target's base type */
	const rv_quant_override *overrides;
	int n_overrides;
	rv_threads *threads; /* NULL: this thread alone */
	const rv_log *log;
	int (*cancelled)(void *user); /* NULL: never */
	void (*progress)(void *user, double fraction, const char *tensor);
	void *user;
} rv_quant_options;

typedef struct rv_quant_tensor_plan {
	char name[65];
	rv_type from, to;
	int fallback; /* the row length did not fit the wanted type */
	int64_t rows, cols;
	size_t from_bytes, to_bytes;
} rv_quant_tensor_plan;

typedef struct rv_quant_plan {
	rv_quant_tensor_plan *tensors;
	size_t n_tensors;
	size_t from_bytes, to_bytes;
	int64_t n_params;
	int n_fallbacks;
	double bits_per_weight; /* all tensors */
} rv_quant_plan;

/* The type each tensor would get. From a file, or from a bare shape (for --dry-run of a preset).
 * rv_quant_plan_free releases the contents. */
rv_status rv_quant_plan_file(rv_quant_plan *plan, const rv_gguf *in, const rv_quant_options *options);
rv_status rv_quant_plan_shape(rv_quant_plan *plan, const rv_arch *arch, const rv_hparams *hp,
                              const rv_quant_options *options);
void rv_quant_plan_free(rv_quant_plan *plan);

/* Reads IN (of a split model the first piece), writes OUT as one file, tensor by tensor in slices
 * (memory stays far below the model's size). Refuses the same file as input and output before anything
 * is written; requantizing a quantized source is allowed and warned about. NaN or infinity in a source
 * tensor is RV_ERR_NUMERIC naming it. *plan (may be NULL) receives what was done. */
rv_status rv_quantize_file(const char *in, const char *out, const rv_quant_options *options,
                           rv_quant_plan *plan);

#endif
