/* Writing LoRA adapters as GGUF files, as llama.cpp and rv_adapter_open read them: keys general.type
 * "adapter", general.architecture, adapter.type "lora", adapter.lora.alpha; a projection's factors A
 * [rank, in] and B [out, rank] as tensors of its name with ".lora_a" and ".lora_b".
 *
 * Thread-safe. Files are atomic: a failure leaves what stood under the name. */
#ifndef RV_MODEL_ADAPTER_WRITE_H
#define RV_MODEL_ADAPTER_WRITE_H

#include "model/adapter.h"

typedef struct rv_adapter_write_options {
	const rv_type_info *type; /* of the factors, F32 or F16; NULL: F16 */
	const char *name;         /* general.name; NULL: none */
	double alpha; /* adapter.lora.alpha, not 0; 0: scale * rank of the first matrix. A matrix of
	               * another scale * rank gets it into its B, since a file has one alpha */
} rv_adapter_write_options;

/* n matrices of models of this shape. Errors name the file and the tensor: RV_ERR_INVALID (type, alpha,
 * rank, a projection the architecture does not have, or one named twice), RV_ERR_NUMERIC (a value
 * that is not finite or that the type cannot hold). options: NULL for defaults. */
rv_status rv_adapter_write_matrices(const char *path, const rv_arch *arch, const rv_hparams *hp,
                                    const rv_adapter_matrix *parts, int n,
                                    const rv_adapter_write_options *options);

/* The same of an adapter for models like `model` (RV_ERR_MISMATCH). One that was read from a file of
 * the same type and is written without another alpha has the same factors bit for bit. */
rv_status rv_adapter_write(const char *path, const rv_adapter *adapter, const rv_model *model,
                           const rv_adapter_write_options *options);

/* All matrices of an adapter, decoded to F32, in the order of layers and roles; for merging and
 * writing. */
typedef struct rv_adapter_matrices {
	rv_adapter_matrix *parts;
	int n;
	float *factors; /* what parts point into */
} rv_adapter_matrices;
rv_status rv_adapter_matrices_init(rv_adapter_matrices *out, const rv_adapter *adapter,
                                   const rv_model *model);
void rv_adapter_matrices_deinit(rv_adapter_matrices *m); /* accepts a zeroed one */

#endif
