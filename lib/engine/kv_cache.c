#include "engine/kv_cache.h"

#include "base/mem.h"
#include "base/vm.h"

#include <string.h>

rv_status rv_kv_cache_bytes(const rv_hparams *hp, rv_kv_type type, int64_t n_ctx, int32_t n_seqs,
                            size_t *out) {
	size_t bytes = 2 * rv_kv_row_bytes(type, hp->head_dim);
	if (!rv_mul_ok(bytes, (size_t)n_ctx, &bytes) ||
	    !rv_mul_ok(bytes, (size_t)hp->n_kv_heads, &bytes) ||
	    !rv_mul_ok(bytes, (size_t)hp->n_layers, &bytes) ||
	    !rv_mul_ok(bytes, (size_t)n_seqs, &bytes))
		return rv_fail(RV_ERR_LIMIT, "KV cache of %lld tokens x %d sequences: size overflows",
		               (long long)n_ctx, n_seqs);
	*out = bytes;
	return RV_OK;
}

rv_status rv_kv_cache_init(rv_kv_cache *kv, const rv_hparams *hp, rv_kv_type type, int64_t n_ctx,
                           int32_t n_seqs) {
	*kv = (rv_kv_cache){.type = type,
	                    .n_ctx = n_ctx,
	                    .n_layers = hp->n_layers,
	                    .n_kv_heads = hp->n_kv_heads,
	                    .head_dim = hp->head_dim,
	                    .n_seqs = n_seqs,
	                    .row_bytes = rv_kv_row_bytes(type, hp->head_dim)};
	RV_TRY(rv_kv_cache_bytes(hp, type, n_ctx, n_seqs, &kv->bytes));
	return rv_vm_alloc((void **)&kv->data, kv->bytes, "KV cache");
}

void rv_kv_cache_deinit(rv_kv_cache *kv) {
	rv_vm_free(kv->data, kv->bytes);
	kv->data = NULL;
}

/* First key row of (sequence, layer, head); its values follow n_ctx rows later. */
static char *head_base(const rv_kv_cache *kv, int32_t seq, int64_t layer, int64_t head) {
	size_t index = ((size_t)seq * (size_t)kv->n_layers + (size_t)layer) * (size_t)kv->n_kv_heads +
	               (size_t)head;
	return kv->data + index * 2 * (size_t)kv->n_ctx * kv->row_bytes;
}

void rv_kv_cache_copy(const rv_kv_cache *kv, int32_t from, int32_t to, int64_t n) {
	size_t half = (size_t)kv->n_ctx * kv->row_bytes, bytes = (size_t)n * kv->row_bytes;
	for (int64_t layer = 0; layer < kv->n_layers; layer++)
		for (int64_t head = 0; head < kv->n_kv_heads; head++) {
			const char *src = head_base(kv, from, layer, head);
			char *dst = head_base(kv, to, layer, head);
			memcpy(dst, src, bytes);
			memcpy(dst + half, src + half, bytes);
		}
}

static int64_t segments(const void *cache, const rv_row *row, int64_t layer, int64_t head, int64_t n,
                        rv_segment *out, int64_t cap) {
	const rv_kv_cache *kv = cache;
	if (n == 0 || cap < 1)
		return 0;
	char *base = head_base(kv, row->seq, layer, head);
	out[0] = (rv_segment){.keys = base,
	                      .values = base + (size_t)kv->n_ctx * kv->row_bytes,
	                      .stride = kv->row_bytes,
	                      .n_tokens = n,
	                      .type = kv->type};
	return 1;
}

static void slot(const void *cache, int32_t seq, int64_t layer, int64_t head, int64_t position,
                 void **key, void **value) {
	const rv_kv_cache *kv = cache;
	char *base = head_base(kv, seq, layer, head) + (size_t)position * kv->row_bytes;
	*key = base;
	*value = base + (size_t)kv->n_ctx * kv->row_bytes;
}

rv_kv_view rv_kv_cache_view(const rv_kv_cache *kv) {
	return (rv_kv_view){
	        .segments = segments, .slot = slot, .cache = kv, .max_segments = 1, .type = kv->type};
}
