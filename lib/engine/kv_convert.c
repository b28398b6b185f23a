#include "engine/kv_convert.h"

#include <string.h>

static void convert_rows(int64_t head_dim, int64_t n, const rv_kv_lane *from, const rv_kv_lane *to,
                         int values) {
	float row[RV_KV_MAX_HEAD_DIM];
	const rv_kv_ops *ops = rv_kernels_for(RV_LEVEL_REF)->kv;
	const char *src = values ? from->values : from->keys;
	char *dst = values ? to->values : to->keys;
	for (int64_t i = 0; i < n; i++) {
		ops[(int)from->type].load_values(row, src + (size_t)i * from->stride, from->stride, 1,
		                                 head_dim);
		ops[(int)to->type].store(dst + (size_t)i * to->stride, row, head_dim);
	}
}

void rv_kv_page_copy_rows(const rv_kv_pages *kv, int64_t head_dim, int64_t n, rv_kv_page from,
                          rv_kv_page to) {
	for (int64_t i = 0; i < rv_kv_pages_n_lanes(kv); i++) {
		rv_kv_lane src = rv_kv_page_lane(kv, from, i), dst = rv_kv_page_lane(kv, to, i);
		if (src.type == dst.type) {
			memcpy(dst.keys, src.keys, (size_t)n * src.stride);
			memcpy(dst.values, src.values, (size_t)n * src.stride);
			continue;
		}
		convert_rows(head_dim, n, &src, &dst, 0);
		convert_rows(head_dim, n, &src, &dst, 1);
	}
}

void rv_kv_page_convert(rv_kv_pages *kv, int64_t head_dim, int64_t n, rv_kv_page page,
                        rv_kv_page fresh) {
	rv_kv_page_copy_rows(kv, head_dim, n, page, fresh);
	rv_kv_page_swap(kv, page, fresh);
}
