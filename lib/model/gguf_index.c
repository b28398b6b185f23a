/* Names of keys and tensors: sorting with duplicate detection, and what a message may print of them. */
#include "base/mem.h"
#include "model/gguf_internal.h"

#include <stdio.h>

const char *rv_gguf_show(char buf[RV_GGUF_SHOW], const char *text, size_t len) {
	size_t n = 0, i = 0;
	for (; i < len && n + 8 < RV_GGUF_SHOW; i++) {
		unsigned char c = (unsigned char)text[i];
		if (c >= 0x20 && c < 0x7f)
			buf[n++] = (char)c;
		else
			n += (size_t)snprintf(buf + n, 5, "\\x%02x", c);
	}
	memcpy(buf + n, i < len ? "..." : "", i < len ? 4 : 1);
	return buf;
}

rv_str rv_gguf_kv_name(const void *table, size_t i) {
	return ((const rv_gguf_kv *)table)[i].key;
}
rv_str rv_gguf_tensor_name(const void *table, size_t i) {
	const rv_gguf_tensor *t = &((const rv_gguf_tensor *)table)[i];
	return (rv_str){t->name, strlen(t->name)};
}

typedef struct names {
	const void *table;
	rv_gguf_name_fn *name;
} names;

static rv_str name_of(const names *t, uint32_t i) {
	return t->name(t->table, i);
}

/* Two sorted runs [0, mid) and [mid, n) of `from` into `to`. Names are fetched once a step: with a
 * million keys it is the cache misses that take the time. */
static void merge_runs(const names *t, uint32_t *to, const uint32_t *from, size_t mid, size_t n) {
	size_t a = 0, b = mid, i = 0;
	rv_str x = name_of(t, from[a]), y = b < n ? name_of(t, from[b]) : x;
	while (a < mid && b < n) {
		if (rv_str_cmp(x, y) <= 0) {
			to[i++] = from[a++];
			if (a < mid)
				x = name_of(t, from[a]);
		} else {
			to[i++] = from[b++];
			if (b < n)
				y = name_of(t, from[b]);
		}
	}
	memcpy(to + i, from + a, (mid - a) * sizeof *to);
	memcpy(to + i + (mid - a), from + b, (n - b) * sizeof *to);
}

/* Bottom-up merge sort: no recursion, no quadratic case. Returns the buffer that holds the result. */
static uint32_t *merge_sort(const names *t, uint32_t *order, uint32_t *spare, size_t n) {
	for (size_t width = 1; width < n; width *= 2) {
		for (size_t at = 0; at < n; at += 2 * width) {
			size_t run = n - at < 2 * width ? n - at : 2 * width;
			merge_runs(t, spare + at, order + at, run < width ? run : width, run);
		}
		uint32_t *swap = order;
		order = spare;
		spare = swap;
	}
	return order;
}

rv_status rv_gguf_order_names(uint32_t **order, const void *table, size_t n, rv_gguf_name_fn *name) {
	const names t = {table, name};
	uint32_t *first = NULL, *spare = NULL;
	rv_status status = rv_alloc_uninit((void **)&first, n, sizeof *first, "name index");
	if (status == RV_OK)
		status = rv_alloc_uninit((void **)&spare, n, sizeof *spare, "name index");
	if (status != RV_OK) {
		rv_free(first);
		return status;
	}
	for (size_t i = 0; i < n; i++)
		first[i] = (uint32_t)i;
	uint32_t *sorted = merge_sort(&t, first, spare, n);
	rv_free(sorted == first ? spare : first);
	*order = sorted;
	return RV_OK;
}

rv_status rv_gguf_sort_names(uint32_t **order, const void *table, size_t n, rv_gguf_name_fn *name,
                             const char *what, const char *path) {
	const names t = {table, name};
	uint32_t *sorted;
	RV_TRY(rv_gguf_order_names(&sorted, table, n, name));
	for (size_t i = 1; i < n; i++) {
		if (rv_str_cmp(name_of(&t, sorted[i - 1]), name_of(&t, sorted[i])) == 0) {
			char shown[RV_GGUF_SHOW];
			rv_str s = name(table, sorted[i]);
			rv_fail(RV_ERR_FORMAT, "%s: duplicate %s '%s' (numbers %u and %u)", path, what,
			        rv_gguf_show(shown, s.data, s.len), sorted[i - 1], sorted[i]);
			rv_free(sorted);
			return RV_ERR_FORMAT;
		}
	}
	*order = sorted;
	return RV_OK;
}
