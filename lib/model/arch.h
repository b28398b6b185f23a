/* Architectures as tables: one row a tensor (name, shape, role), one row a metadata key.
 * Loader, synth, quantizer, converter, trainer and LoRA targets all iterate them. */
#ifndef RV_MODEL_ARCH_H
#define RV_MODEL_ARCH_H

#include "base/status.h"
#include "kernels/kernels.h"
#include "model/gguf.h"
#include "model/rope.h"

#include <stdint.h>

/* Hyper-parameters of a decoder. */
typedef struct rv_hparams {
	int64_t n_layers, n_embd, n_heads, n_kv_heads, head_dim, n_ff, n_vocab, n_ctx_train;
	int64_t n_rot; /* rotated elements of a head; even, <= head_dim */
	double rope_theta;
	double rms_eps;
	int tied;             /* the output head is the token embedding */
	rv_rope_scaling rope; /* by the file's metadata; all 0: none */
} rv_hparams;

/* The unit a shape is given in; every tensor is [rows, cols] with cols the row length, vectors have
 * rows = 1. */
typedef enum rv_dim {
	RV_DIM_1,
	RV_DIM_EMBD,
	RV_DIM_Q,
	RV_DIM_KV,
	RV_DIM_HEAD,
	RV_DIM_FF,
	RV_DIM_VOCAB,
	RV_DIM_ROPE
} rv_dim;

/* What a tensor is for. The order is that of a layer's computation. */
typedef enum rv_role {
	RV_TOKEN_EMBD,
	RV_ROPE_FREQS,
	RV_ATTN_NORM,
	RV_ATTN_Q,
	RV_ATTN_K,
	RV_ATTN_V,
	RV_ATTN_Q_BIAS,
	RV_ATTN_K_BIAS,
	RV_ATTN_V_BIAS,
	RV_ATTN_Q_NORM,
	RV_ATTN_K_NORM,
	RV_ATTN_OUT,
	RV_FFN_NORM,
	RV_FFN_GATE,
	RV_FFN_UP,
	RV_FFN_DOWN,
	RV_OUTPUT_NORM,
	RV_OUTPUT,
	RV_ROLE_COUNT
} rv_role;

typedef enum rv_tensor_flags {
	RV_TENSOR_OPTIONAL = 1, /* may be absent */
	RV_TENSOR_LAYER = 2,    /* one a layer: the name holds %d */
	RV_TENSOR_VECTOR = 4    /* norm, bias, frequencies: F32 only, never quantized */
} rv_tensor_flags;

typedef struct rv_tensor_def {
	rv_role role;
	const char *name; /* GGUF name, e.g. "blk.%d.attn_q.weight" */
	rv_dim rows, cols;
	int flags;
} rv_tensor_def;

typedef struct rv_arch {
	const char *name; /* general.architecture */
	int rope_neox;    /* pairs (i, i + n/2) rather than (2i, 2i + 1) */
	const rv_tensor_def *tensors;
	int n_tensors;
} rv_arch;

/* NULL when unknown. */
const rv_arch *rv_arch_by_name(const char *name, size_t len);
const char *rv_arch_names(void); /* "qwen2, qwen3, llama" */

int64_t rv_dim_size(rv_dim dim, const rv_hparams *hp);
/* 1 when every tensor of one has the shape it has in the other. */
int rv_hparams_same_shape(const rv_hparams *hp, const rv_hparams *other);
/* The definition a tensor name belongs to, its layer in *layer (-1: none); NULL when it is not one of
 * the architecture's. */
const rv_tensor_def *rv_arch_find_tensor(const rv_arch *arch, const char *name, int64_t *layer);
/* The name of a definition's tensor in a layer, into buf (65 bytes). */
void rv_arch_tensor_name(const rv_tensor_def *def, int64_t layer, char buf[65]);

/* Reads and checks the architecture and hyper-parameters of a file: bounds, divisibility, and every
 * known key that would change the mathematics and is not implemented (experts, sliding window,
 * soft-cap, rope scaling but YaRN) is refused by name. */
rv_status rv_arch_read(const rv_gguf *gguf, const rv_arch **arch, rv_hparams *hp);
/* Writes the same keys for `arch` and `hp` (general.architecture, <arch>.*). */
rv_status rv_arch_write(rv_gguf_writer *w, const rv_arch *arch, const rv_hparams *hp);

/* Presets of SPEC 1, for synth and reports. */
typedef struct rv_preset {
	const char *name; /* "medium" */
	const char *arch;
	rv_hparams hp;
} rv_preset;
const rv_preset *rv_preset_by_name(const char *name); /* NULL when unknown */
const char *rv_preset_names(void);

/* Number of parameters of a shape (every tensor of the table that the shape has). */
int64_t rv_arch_n_params(const rv_arch *arch, const rv_hparams *hp);

#endif
