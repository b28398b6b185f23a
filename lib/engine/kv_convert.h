/* Rows of KV pages taken over into others, also of another row type. */
#ifndef RV_ENGINE_KV_CONVERT_H
#define RV_ENGINE_KV_CONVERT_H

#include "engine/kv_pages.h"

/* The first n rows of every lane of `from` stand in `to` too. Formats may differ when both are rows
 * (rv_kv_type): they are then decoded and rounded, the same way at every feature level. What attends to
 * such a page has other bits: not under the invariance contract. */
void rv_kv_page_copy_rows(const rv_kv_pages *kv, int64_t head_dim, int64_t n, rv_kv_page from,
                          rv_kv_page to);

/* The same into `fresh`, nobody else's page, and then exchanged with it: `page` keeps its handle and
 * all who hold it, `fresh` has the old memory and format. */
void rv_kv_page_convert(rv_kv_pages *kv, int64_t head_dim, int64_t n, rv_kv_page page,
                        rv_kv_page fresh);

#endif
