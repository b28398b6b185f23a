#include "engine/backend.h"

/* The block that token `skip` is in: its number, and how it is coded. */
static int64_t block_at(const rv_segment *s, int64_t skip, rv_kv_code_block *b) {
	*b = s->coding->block;
	if (s->coding->rope)
		b->rope = s->coding->rope + (s->first + skip) / b->n * b->n * b->n_rot;
	return skip / b->n;
}

void rv_segment_load_keys(const rv_kernels *k, const rv_segment *s, float *kt, int64_t skip, int64_t n,
                          int64_t head_dim) {
	if (s->stride) {
		k->kv[s->type].load_keys(kt, (const char *)s->keys + (size_t)skip * s->stride,
		                         s->stride, n, head_dim);
		return;
	}
	rv_kv_code_block b;
	size_t at =
	        (size_t)block_at(s, skip, &b) * rv_kv_keys_bytes(s->type, s->coding->block.n, head_dim);
	rv_kv_load_keys(k, s->type, kt, (const char *)s->keys + at, skip % b.n, n, &b);
}

void rv_segment_load_values(const rv_kernels *k, const rv_segment *s, float *v, int64_t skip, int64_t n,
                            int64_t head_dim) {
	if (s->stride) {
		k->kv[s->type].load_values(v, (const char *)s->values + (size_t)skip * s->stride,
		                           s->stride, n, head_dim);
		return;
	}
	rv_kv_code_block b;
	size_t at = (size_t)block_at(s, skip, &b) *
	            rv_kv_values_bytes(s->type, s->coding->block.n, head_dim);
	rv_kv_load_values(k, s->type, v, (const char *)s->values + at, skip % b.n, n, &b);
}
