/* A loaded model: immutable after open, reference-counted, shared by threads and contexts. */
#ifndef RV_MODEL_MODEL_H
#define RV_MODEL_MODEL_H

#include "base/log.h"
#include "base/status.h"
#include "kernels/kernels.h"
#include "model/arch.h"
#include "model/tokenizer.h"

#include <stdint.h>

/* A weight is a view. `data` points into the mapped file (layout GGML) or a packed buffer. */
typedef struct rv_weight {
	const char *name; /* owned by the model */
	rv_type type;
	rv_layout layout;
	int64_t rows, cols; /* cols: row length */
	size_t row_bytes;
	const void *data;
} rv_weight;

typedef struct rv_model rv_model;

typedef struct rv_model_options {
	rv_log log;
	int check_values; /* 1 (default): refuse NaN and infinity in norms, biases and frequencies at
	                   * load. Matrices are not read at load: rv_context_eval checks what comes out
	                   * of them. */
} rv_model_options;

rv_model_options rv_model_defaults(void);

/* Opens a GGUF file, or a split model by its first piece (model/gguf_set.h): container, architecture,
 * every tensor's presence, shape and type, tokenizer when the file has one. Weights are mapped, not
 * copied. A tensor of the file that the architecture does not use is refused by name. The new model has
 * one reference. options: NULL for defaults. */
rv_status rv_model_open(rv_model **out, const char *path, const rv_model_options *options);
rv_model *rv_model_retain(rv_model *model);
void rv_model_release(rv_model *model); /* accepts NULL; frees at the last reference */

const char *rv_model_path(const rv_model *model);
const rv_arch *rv_model_arch(const rv_model *model);
const rv_hparams *rv_model_hparams(const rv_model *model);
const rv_gguf *rv_model_gguf(const rv_model *model);
/* NULL when the file holds no tokenizer. */
const rv_tokenizer *rv_model_tokenizer(const rv_model *model);
/* RV_ERR_MISMATCH, naming the first difference, unless the ids of one are those of the other: as many
 * logits, and the same text of every token. Two models without tokenizers agree by their number. */
rv_status rv_model_same_vocabulary(const rv_model *model, const rv_model *other);

/* The weight of a role in a layer (layer is ignored for roles outside layers); NULL when the model has
 * none. OUTPUT of a tied model is the token embedding. */
const rv_weight *rv_model_weight(const rv_model *model, rv_role role, int64_t layer);

int64_t rv_model_n_params(const rv_model *model);
size_t rv_model_weight_bytes(const rv_model *model); /* of all tensors, as stored */
/* SHA-256 of the file, of a split model that of its pieces' checksums as text one after the other.
 * Computed at the first call and cached (thread-safe). */
rv_status rv_model_sha256(rv_model *model, char hex[65]);
/* RV_ERR_IO when a mapped file was replaced or truncated since it was opened. */
rv_status rv_model_check(const rv_model *model);
/* Short name of the mix: the type of most matrix bytes, e.g. "Q4_K_M" from general.file_type, else
 * "Q4_K". */
const char *rv_model_type_name(const rv_model *model);

#endif
