/* The CPU backends: one set of operations, three ways of doing a matrix product. */
#ifndef RV_ENGINE_BACKEND_CPU_H
#define RV_ENGINE_BACKEND_CPU_H

#include "base/threads.h"
#include "engine/backend.h"

/* Sizes everything the operations need, so that none of them allocates. */
typedef struct rv_cpu_options {
	rv_backend_kind kind;
	rv_level level;
	rv_attn_kind attention;
	int n_threads, pin;
	rv_threads *threads; /* borrowed; NULL: its own */
	int64_t n_batch;     /* most rows of a tensor */
	int64_t n_ctx;
	int64_t max_k; /* longest row of a weight */
	int64_t head_dim, n_heads, n_kv_heads;
	int64_t max_segments;       /* of the KV view */
	rv_rope_scaling rope;       /* resolved */
	size_t l1d_bytes, l2_bytes; /* caches that tiles of attention are cut for; 0: not known */
} rv_cpu_options;

/* Bytes of scratch rv_cpu_backend_create would reserve with n_threads. */
size_t rv_cpu_scratch_bytes(const rv_cpu_options *options, int n_threads);
/* Owned by the caller, who ends it with ops->destroy. RV_ERR_UNSUPPORTED (BLAS is not installed) or
 * RV_ERR_NO_MEMORY; *out is NULL then. */
rv_status rv_cpu_backend_create(rv_backend **out, const rv_cpu_options *options);
rv_threads *rv_cpu_threads(const rv_backend *be); /* borrowed */

/* ---- shared by the files of the backend ---- */

typedef struct rv_cpu {
	rv_backend base;
	rv_cpu_options options;
	const rv_kernels *k;
	rv_threads *threads;
	char *scratch; /* n_threads slices for attention and BLAS, then what follows */
	size_t scratch_bytes, thread_bytes;
	int64_t *tiles;          /* [n_batch + 1] first row of each tile of attention */
	float *partials;         /* rv_cpu_attention_shared */
	char *act[RV_ACT_COUNT]; /* [n_batch] rounded activation rows; NULL for F32 */
} rv_cpu;

static inline float *rv_tensor_f32(rv_tensor t) {
	return (float *)((char *)t.buffer->base + t.offset);
}
static inline float *rv_tensor_row(rv_tensor t, int64_t row) {
	return rv_tensor_f32(t) + row * t.cols;
}

/* Scratch of each part in bytes, a thread; and what the threads of attention share. */
size_t rv_cpu_attention_scratch(const rv_cpu_options *options);
size_t rv_cpu_attention_shared(const rv_cpu_options *options, int n_threads);
size_t rv_cpu_matmul_scratch(const rv_cpu_options *options);

rv_status rv_cpu_matmul(rv_backend *be, const rv_product *products, int n_products, rv_tensor x,
                        const rv_deltas *deltas);
/* What adapters add. For few tokens in two halves: A x of every token before the product's own threads
 * start (low_rank), then B of it to rows [begin, end) of products[i].y (add_deltas). For many after the
 * product, token by token (deltas_by_token), so that each adapter is read once, from end to end. Sums
 * run in an order that depends on nothing but the shapes: both give the same bits. */
#define RV_DELTAS_MANY 8 /* tokens */
rv_status rv_cpu_deltas_by_token(const rv_cpu *c, const rv_product *products, int n_products,
                                 rv_tensor x, const rv_deltas *deltas);
rv_status rv_cpu_low_rank(const rv_cpu *c, const rv_product *products, int n_products, rv_tensor x,
                          const rv_deltas *deltas);
void rv_cpu_add_deltas(const rv_cpu *c, const rv_product *products, int i, const rv_deltas *deltas,
                       int64_t begin, int64_t end);
rv_status rv_cpu_attention(rv_backend *be, rv_tensor out, rv_tensor q, const rv_hparams *hp,
                           const rv_row *rows, const rv_kv_view *kv, int64_t layer);

#endif
