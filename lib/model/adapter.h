/* LoRA adapters: GGUF files as llama.cpp reads them (general.type "adapter", adapter.type "lora"), or
 * made in memory. For an adapted matrix W [out, in] the file holds W's name with ".lora_a", A [rank,
 * in], and with ".lora_b", B [out, rank]; what it stands for is W + alpha / rank * B A (Hu et al.,
 * 2021, arXiv:2106.09685).
 *
 * Immutable after open or creation, reference-counted, shared by threads and contexts. What changes
 * while others read it is published version by version (model/adapter_slot.h). */
#ifndef RV_MODEL_ADAPTER_H
#define RV_MODEL_ADAPTER_H

#include "model/model.h"

typedef struct rv_adapter rv_adapter;

typedef struct rv_adapter_part {
	rv_weight a, b;         /* a.rows == b.cols: the rank */
	const float *b_columns; /* B by columns: [rank, rows of B] */
	float scale;            /* alpha / rank */
} rv_adapter_part;

/* Maps a file made for models of this architecture and shape. Refused, by name of file and tensor: what
 * is no adapter, another architecture, a tensor the model does not have or that is no projection, one
 * factor without the other, shapes that do not fit, a rank beyond RV_ADAPTER_MAX_RANK, values that are
 * not finite. The new adapter has one reference. */
#define RV_ADAPTER_MAX_RANK 4096
rv_status rv_adapter_open(rv_adapter **out, const char *path, const rv_model *model);

/* One adapted matrix in memory. */
typedef struct rv_adapter_matrix {
	rv_role role;
	int64_t layer;  /* ignored for roles outside layers */
	int64_t rank;   /* 1..RV_ADAPTER_MAX_RANK */
	const float *a; /* [rank, row length of the projection] */
	const float *b; /* [rows of the projection, rank] */
	float scale;    /* alpha / rank */
} rv_adapter_matrix;

/* The same from n matrices, which are copied: one for a projection, in any order. Refused, by `name`
 * and the matrix: what rv_adapter_open refuses, a scale that is not finite, a projection named twice.
 * n 0 is RV_ERR_INVALID: an adapter that adapts nothing is no adapter. */
rv_status rv_adapter_create(rv_adapter **out, const rv_model *model, const char *name,
                            const rv_adapter_matrix *parts, int n);

/* Memory that an adapter's factors are put in. */
typedef struct rv_adapter_memory {
	/* `bytes` aligned to RV_ALIGN; called for each factor. */
	rv_status (*take)(void *user, size_t bytes, void **out);
	/* All that was taken; called once, when the adapter's last reference goes or placing failed. */
	void (*give_back)(void *user);
	void *user;
} rv_adapter_memory;
/* A copy of the same name, types and bits, its factors and B by columns in that memory. */
rv_status rv_adapter_place(rv_adapter **out, const rv_adapter *from, const rv_adapter_memory *memory);

rv_adapter *rv_adapter_retain(rv_adapter *adapter);
void rv_adapter_release(rv_adapter *adapter); /* accepts NULL */
/* 1 when there is more than one reference. */
int rv_adapter_shared(const rv_adapter *adapter);

const char *rv_adapter_path(const rv_adapter *adapter);    /* or its name */
const rv_gguf *rv_adapter_gguf(const rv_adapter *adapter); /* NULL when made in memory */
size_t rv_adapter_bytes(const rv_adapter *adapter);        /* of its factors, as stored; B by columns
                                                               in F32 comes on top */
/* SHA-256 of what it adds: projections, factors and scales, whatever its name. */
void rv_adapter_sha256(const rv_adapter *adapter, char hex[65]);
int64_t rv_adapter_n_params(const rv_adapter *adapter);
int64_t rv_adapter_max_rank(const rv_adapter *adapter); /* of its parts */
/* 1 when it fits models of this architecture and shape. */
int rv_adapter_fits(const rv_adapter *adapter, const rv_model *model);
/* NULL when the matrix is not adapted (layer is ignored for roles outside layers). */
const rv_adapter_part *rv_adapter_find(const rv_adapter *adapter, rv_role role, int64_t layer);

#endif
