/* What the GGUF reader and writer share. Not for other rooms. */
#ifndef RV_MODEL_GGUF_INTERNAL_H
#define RV_MODEL_GGUF_INTERNAL_H

#include "base/file.h"
#include "model/gguf.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are read as the file stores them");

#define RV_GGUF_MAGIC "GGUF"
#define RV_GGUF_HEADER_BYTES 24 /* magic, version, n_tensors, n_kv */
#define RV_GGUF_DEFAULT_ALIGNMENT 32
#define RV_GGUF_KEY_MAX 65535 /* bytes, by the specification */
#define RV_GGUF_MAX_DIMS 4
#define RV_GGUF_ALIGNMENT_KEY "general.alignment"

/* The key and tensor tables together take at most this much memory, whatever the file claims: about a
 * million keys. A process that only opens a file stays within the file's size + 64 MiB. */
#define RV_GGUF_TABLE_BYTES_MAX ((size_t)54 << 20)
/* Views handed out by rv_gguf_strings. */
#define RV_GGUF_STRINGS_MAX ((size_t)1 << 21)

struct rv_gguf {
	rv_map map; /* zeroed when opened from memory */
	const uint8_t *data;
	size_t size;
	char *path;
	uint32_t version, alignment;
	size_t n_kv, n_tensors;
	rv_gguf_kv *kv;
	uint32_t *kv_order; /* indices by ascending key */
	rv_gguf_tensor *tensors;
	uint32_t *tensor_order; /* indices by ascending name */
	rv_gguf **rest;         /* the other pieces of a split model, whose tensors are in `tensors` */
	size_t n_rest;
};

/* A place in bytes being parsed; pos <= size always holds. */
typedef struct rv_gguf_cursor {
	const uint8_t *data;
	size_t size, pos;
	const char *path; /* for messages */
} rv_gguf_cursor;

static inline size_t rv_gguf_left(const rv_gguf_cursor *c) {
	return c->size - c->pos;
}

/* The next n bytes into *out, or an error saying that the file ends inside `what`. */
rv_status rv_gguf_take(rv_gguf_cursor *c, void *out, size_t n, const char *what);
/* A length-prefixed string, as a view. */
rv_status rv_gguf_take_string(rv_gguf_cursor *c, rv_str *out, const char *what);
/* Key `index` (for messages) with its value, checked. */
rv_status rv_gguf_parse_kv(rv_gguf_cursor *c, size_t index, rv_gguf_kv *out);
/* The tensor table and the place of every tensor's data; c stands at the table. */
rv_status rv_gguf_parse_tensors(rv_gguf *g, rv_gguf_cursor *c);

/* The bytes of a tensor, by division only. RV_ERR_FORMAT names what does not fit; `place` ("FILE:
 * tensor 'NAME'") starts the message. */
rv_status rv_gguf_tensor_bytes(const rv_type_info *type, const int64_t *dims, int n_dims,
                               const char *place, size_t *out);
/* 1 when an alignment is usable. */
int rv_gguf_alignment_ok(uint32_t alignment);
const char *rv_gguf_alignment_text(void); /* "a power of two from 8 to 2097152" */

const char *rv_gguf_kind_name(rv_gguf_kind kind);
/* Bytes of one value of a kind of fixed size; 0 for strings and arrays. */
size_t rv_gguf_kind_bytes(rv_gguf_kind kind);

/* Untrusted text made printable and short, for messages. Returns buf. */
#define RV_GGUF_SHOW 112
const char *rv_gguf_show(char buf[RV_GGUF_SHOW], const char *text, size_t len);

static inline int rv_str_cmp(rv_str a, rv_str b) {
	int c = memcmp(a.data, b.data, a.len < b.len ? a.len : b.len);
	return c ? c : (a.len > b.len) - (a.len < b.len);
}

/* RV_ERR_MISMATCH when there is no tensor. */
rv_status rv_gguf_require_tensors(const rv_gguf *g);

/* Sorts the indices 0..n-1 of a table by name into a rv_free'd array, in O(n log n). */
typedef rv_str rv_gguf_name_fn(const void *table, size_t i);
rv_gguf_name_fn rv_gguf_kv_name, rv_gguf_tensor_name;
rv_status rv_gguf_order_names(uint32_t **order, const void *table, size_t n, rv_gguf_name_fn *name);
/* The same; a name that occurs twice is RV_ERR_FORMAT: "PATH: duplicate WHAT 'NAME'". */
rv_status rv_gguf_sort_names(uint32_t **order, const void *table, size_t n, rv_gguf_name_fn *name,
                             const char *what, const char *path);

#endif
