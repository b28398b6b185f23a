/* The operations the forward pass is made of. engine/forward touches no element of a tensor: it calls
 * these on tensors that name their buffer, so that other devices fit in beside the CPU backends. */
#ifndef RV_ENGINE_BACKEND_H
#define RV_ENGINE_BACKEND_H

#include "engine/context.h"
#include "kernels/kv_codes.h"

/* Memory of a backend. */
typedef struct rv_buffer {
	void *base; /* host address; NULL for memory the host cannot reach */
	size_t bytes;
} rv_buffer;

/* f32 activations, row-major [rows, cols] at an offset of a buffer. */
typedef struct rv_tensor {
	rv_buffer *buffer;
	size_t offset; /* bytes */
	int64_t rows, cols;
} rv_tensor;

/* Of a layer whose keys and values are coded in blocks (kernels/kv_codes.h). */
typedef struct rv_kv_coding {
	rv_kv_code_block block; /* but for its rotations */
	const float *rope;      /* rotations of all positions, block by block; NULL: not needed */
} rv_kv_coding;

/* One run of cached tokens of one (layer, kv head): contiguous, paged and tiered caches all give a list
 * of these in ascending position. */
typedef struct rv_segment {
	const void *keys, *values;
	size_t stride; /* bytes from one token's row to the next, for keys and for values; 0: coded */
	int64_t n_tokens;
	rv_kv_format type;
	/* coded: block after block of coding->block.n tokens */
	const rv_kv_coding *coding;
	int64_t first; /* position of the first token */
} rv_segment;

/* Decodes tokens [skip, skip + n) of a segment, which must lie in one block if it is coded: keys into
 * columns kt[d * RV_ATTN_BLOCK + i], values into rows. */
void rv_segment_load_keys(const rv_kernels *k, const rv_segment *s, float *kt, int64_t skip, int64_t n,
                          int64_t head_dim);
void rv_segment_load_values(const rv_kernels *k, const rv_segment *s, float *v, int64_t skip, int64_t n,
                            int64_t head_dim);

/* What attention needs to know of the cache; kv_cache.c is the first implementation. */
typedef struct rv_kv_view {
	/* Segments covering the first n keys that a row sees, in the order in which it sees them; at
	 * most `cap`; returns how many. Plain rows (parent -1) of one sequence see the same keys, those
	 * of its positions; a row of a draft tree sees its own ancestors after them. */
	int64_t (*segments)(const void *cache, const rv_row *row, int64_t layer, int64_t kv_head,
	                    int64_t n, rv_segment *out, int64_t cap);
	/* Where to store the key and value row of (sequence, position). */
	void (*slot)(const void *cache, int32_t seq, int64_t layer, int64_t kv_head, int64_t position,
	             void **key, void **value);
	/* The same of a draft row by its number, which is its `parent` here (draft_rows.h); NULL where
	 * there are none. */
	void (*draft_slot)(const void *cache, int32_t number, int64_t layer, int64_t kv_head,
	                   void **key, void **value);
	const void *cache;
	int64_t max_segments;
	rv_kv_type type;
	/* Sees what every layer computes for a row, rotated: rope [n_rot / 2][cos, sin], queries, keys
	 * and values of all heads. NULL: nobody. Called by any thread. */
	void (*observe)(void *observer, const rv_row *row, int64_t layer, const float *rope,
	                const float *q, const float *k, const float *v);
	void *observer;
} rv_kv_view;

/* One product of a matmul call: y = w x (+ bias) (+ what adapters add). All products of a call share x.
 */
typedef struct rv_product {
	const rv_weight *w;
	const rv_weight *bias; /* NULL: none */
	rv_tensor y;
	rv_role role; /* what adapters know it by */
	int64_t layer;
} rv_product;

/* One version of a set of adapters: immutable, shared by the context and the sequences that go on with
 * it (adapter_sets.c). */
typedef struct rv_adapter_set {
	rv_adapter_use uses[RV_ADAPTER_SET_USES];
	int n;
	int64_t n_refs;
	uint64_t version;            /* 0: the empty one */
	struct rv_adapter_set *next; /* among those nobody refers to */
} rv_adapter_set;

#define RV_MAX_PRODUCTS 3 /* of a matmul call */
typedef struct rv_deltas {
	rv_adapter_set *const *of_seq; /* [n_seqs] what the rows of a sequence are computed with */
	const rv_row *rows;
	float *low;      /* scratch [RV_MAX_PRODUCTS, n_batch, width]: scaled A x, 64-byte aligned */
	int64_t n_batch; /* most rows */
	int64_t width;   /* at least the sum of any set's ranks, each rounded up to 16 */
} rv_deltas;

static inline int64_t rv_deltas_round(int64_t rank) {
	return (rank + 15) & ~(int64_t)15;
}

typedef struct rv_backend rv_backend;

typedef struct rv_backend_ops {
	const char *name;
	/* y[i] = row ids[i] of w, decoded */
	rv_status (*embed)(rv_backend *be, rv_tensor y, const rv_weight *w, const int32_t *ids);
	/* y = rms_norm(x) w */
	rv_status (*norm)(rv_backend *be, rv_tensor y, rv_tensor x, const rv_weight *w, float eps);
	/* x += r; y = rms_norm(x) w */
	rv_status (*add_norm)(rv_backend *be, rv_tensor y, rv_tensor x, rv_tensor r, const rv_weight *w,
	                      float eps);
	/* deltas: NULL when no row has adapters */
	rv_status (*matmul)(rv_backend *be, const rv_product *products, int n_products, rv_tensor x,
	                    const rv_deltas *deltas);
	/* cos/sin of every row's position: table [rows, n_rot / 2, 2]; freqs: NULL or per-pair divisors
	 */
	rv_status (*rope_table)(rv_backend *be, rv_tensor table, const rv_row *rows,
	                        const rv_hparams *hp, const rv_weight *freqs);
	/* per-head norms (NULL: none), rotation of q and k, then k and v into the cache; RV_ERR_NUMERIC
	 * when q is not finite, or the cache type would not keep k or v so */
	rv_status (*rope_store)(rv_backend *be, rv_tensor q, rv_tensor k, rv_tensor v, rv_tensor table,
	                        const rv_weight *q_norm, const rv_weight *k_norm, const rv_hparams *hp,
	                        int neox, const rv_row *rows, const rv_kv_view *kv, int64_t layer);
	/* out[i] = attention of row i over positions [0, position] of its sequence */
	rv_status (*attention)(rv_backend *be, rv_tensor out, rv_tensor q, const rv_hparams *hp,
	                       const rv_row *rows, const rv_kv_view *kv, int64_t layer);
	/* y = swiglu(gate, up) */
	rv_status (*swiglu)(rv_backend *be, rv_tensor y, rv_tensor gate, rv_tensor up);
	/* y[i] = x[rows[i]] */
	rv_status (*gather)(rv_backend *be, rv_tensor y, rv_tensor x, const int64_t *rows);
	/* RV_ERR_NUMERIC naming `what` and the row when x holds a NaN or infinity */
	rv_status (*check)(rv_backend *be, rv_tensor x, const char *what);
	void (*destroy)(rv_backend *be);
} rv_backend_ops;

struct rv_backend {
	const rv_backend_ops *ops;
};

#endif
