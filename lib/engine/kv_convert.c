#include "engine/kv_convert.h"

static void convert_rows(const rv_kernels *k, int64_t head_dim, int64_t n, const rv_kv_lane *from,
                         const rv_kv_lane *to, int values, float *floats) {
	const char *src = values ? from->values : from->keys;
	char *dst = values ? to->values : to->keys;
	for (int64_t at = 0; at < n; at += RV_ATTN_BLOCK) {
		int64_t rows = n - at < RV_ATTN_BLOCK ? n - at : RV_ATTN_BLOCK;
		k->kv[(int)from->type].load_values(floats, src + (size_t)at * from->stride,
		                                   from->stride, rows, head_dim);
		for (int64_t i = 0; i < rows; i++)
			k->kv[(int)to->type].store(dst + (size_t)(at + i) * to->stride,
			                           floats + i * head_dim, head_dim);
	}
}

void rv_kv_page_convert(rv_kv_pages *kv, const rv_kernels *kernels, int64_t head_dim, int64_t n,
                        rv_kv_page page, rv_kv_page fresh, float *floats) {
	for (int64_t lane = 0; lane < rv_kv_pages_n_lanes(kv); lane++) {
		rv_kv_lane from = rv_kv_page_lane(kv, page, lane);
		rv_kv_lane to = rv_kv_page_lane(kv, fresh, lane);
		for (int values = 0; values < 2; values++)
			convert_rows(kernels, head_dim, n, &from, &to, values, floats);
	}
	rv_kv_page_swap(kv, page, fresh);
}
