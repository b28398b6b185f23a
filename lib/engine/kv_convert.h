/* KV pages of rows of one type turned into another, in their place. */
#ifndef RV_ENGINE_KV_CONVERT_H
#define RV_ENGINE_KV_CONVERT_H

#include "engine/kv_pages.h"

/* The first n rows of every lane of `page` become those of another type (decoded, then rounded), under
 * the same handle, for all who hold it. `fresh`, a page of that type and nobody else's, gives its
 * memory and receives the old one, so nothing is allocated: release it to make that memory free. Rows
 * are appended in the cache's own type alone, so a page of another one must be full or not be appended
 * to. floats: scratch of RV_ATTN_BLOCK * head_dim. What attends to it changes: not under the invariance
 * contract. */
void rv_kv_page_convert(rv_kv_pages *kv, const rv_kernels *kernels, int64_t head_dim, int64_t n,
                        rv_kv_page page, rv_kv_page fresh, float *floats);

#endif
