/* GGUF v2 and v3 containers: reader (memory-mapped, zero copy) and writer.
 * Source: the GGUF specification in ggml's documentation (little-endian files only).
 *
 * The reader trusts nothing: every count and length is checked against the bytes left before it sizes
 * anything; duplicate keys and tensors, empty keys, nested arrays, embedded NULs in names, overlapping,
 * unaligned or out-of-file offsets are refused with file, key or tensor, and byte offset named.
 */
#ifndef RV_MODEL_GGUF_H
#define RV_MODEL_GGUF_H

#include "base/file.h"
#include "base/status.h"
#include "kernels/kernels.h"

#include <stddef.h>
#include <stdint.h>

typedef enum rv_gguf_kind {
	RV_GGUF_U8,
	RV_GGUF_I8,
	RV_GGUF_U16,
	RV_GGUF_I16,
	RV_GGUF_U32,
	RV_GGUF_I32,
	RV_GGUF_F32,
	RV_GGUF_BOOL,
	RV_GGUF_STRING,
	RV_GGUF_ARRAY,
	RV_GGUF_U64,
	RV_GGUF_I64,
	RV_GGUF_F64,
	RV_GGUF_KIND_COUNT
} rv_gguf_kind; /* values are the file's */

typedef struct rv_str {
	const char *data; /* not NUL-terminated */
	size_t len;
} rv_str;

typedef struct rv_gguf_kv {
	rv_str key;
	rv_gguf_kind kind;    /* of the value; ARRAY: see elem and count */
	rv_gguf_kind elem;    /* element kind of an array */
	uint64_t count;       /* elements of an array, else 1 */
	const uint8_t *bytes; /* the value as stored, unaligned (a string with its 8-byte length);
	                       * arrays: first element */
	size_t n_bytes;
} rv_gguf_kv;

typedef struct rv_gguf_tensor {
	char name[65]; /* NUL-terminated */
	rv_type type;
	int n_dims;      /* 1..4 */
	int64_t dims[4]; /* dims[0] is the row length; unused ones are 1 */
	uint64_t offset; /* from the start of its file's data section */
	size_t n_bytes;
	const uint8_t *data; /* into the map */
} rv_gguf_tensor;

typedef struct rv_gguf rv_gguf;

typedef enum rv_gguf_flags {
	RV_GGUF_DEFAULT = 0,
	RV_GGUF_VOCAB_ONLY_OK = 1 /* a file without tensors is accepted */
} rv_gguf_flags;

/* Maps and checks the whole container: metadata, tensor table, and that each tensor's data lies in the
 * file. Tensor types this library does not know are refused by name of tensor and number. */
rv_status rv_gguf_open(rv_gguf **out, const char *path, int flags);
/* The same on bytes in memory (borrowed until close); `name` stands in messages. For fuzzing. */
rv_status rv_gguf_open_memory(rv_gguf **out, const void *data, size_t size, const char *name,
                              int flags);
void rv_gguf_close(rv_gguf *gguf); /* accepts NULL; all pointers handed out die with it */

const char *rv_gguf_path(const rv_gguf *gguf);
uint32_t rv_gguf_version(const rv_gguf *gguf);
size_t rv_gguf_file_bytes(const rv_gguf *gguf);
uint32_t rv_gguf_alignment(const rv_gguf *gguf);

/* RV_ERR_IO when the mapped file was replaced or truncated since it was opened (rv_map_check). */
rv_status rv_gguf_check(const rv_gguf *gguf);

size_t rv_gguf_n_kv(const rv_gguf *gguf);
const rv_gguf_kv *rv_gguf_kv_at(const rv_gguf *gguf, size_t i);
const rv_gguf_kv *rv_gguf_find(const rv_gguf *gguf, const char *key); /* NULL: absent; O(log n) */

size_t rv_gguf_n_tensors(const rv_gguf *gguf);
const rv_gguf_tensor *rv_gguf_tensor_at(const rv_gguf *gguf, size_t i);
const rv_gguf_tensor *rv_gguf_find_tensor(const rv_gguf *gguf, const char *name);

/* Typed access. The value's kind is checked: any integer kind is accepted for an integer, bounds are
 * checked exactly (no truncation), any float kind for a double. RV_ERR_NOT_FOUND when the key is absent
 * (message set, *out untouched); RV_ERR_FORMAT on the wrong kind or out of bounds. */
rv_status rv_gguf_int(const rv_gguf *gguf, const char *key, int64_t min, int64_t max, int64_t *out);
rv_status rv_gguf_double(const rv_gguf *gguf, const char *key, double *out);
rv_status rv_gguf_bool(const rv_gguf *gguf, const char *key, int *out);
rv_status rv_gguf_string(const rv_gguf *gguf, const char *key, rv_str *out);
/* Array of strings into a rv_free'd array of views. */
rv_status rv_gguf_strings(const rv_gguf *gguf, const char *key, rv_str **out, size_t *n);
/* Array of a numeric kind, converted, into a rv_free'd array. The element kind must be exactly `elem`
 * (F32 or I32, as the format documents for the key). */
rv_status rv_gguf_floats(const rv_gguf *gguf, const char *key, float **out, size_t *n);
rv_status rv_gguf_i32s(const rv_gguf *gguf, const char *key, int32_t **out, size_t *n);

/* ---- writing (v3) ----
 * Order of calls: open, kv..., tensor... (declares), then data for every tensor in the declared order,
 * then commit. The file appears under its name only at commit (rv_writer). A refused call
 * (RV_ERR_INVALID) adds nothing; duplicate names are found when the header is written. Tensor names
 * have at most 63 bytes (other readers' limit). A general.alignment key sets the alignment, else it
 * is 32. After a failed write only abort, or a commit that fails, is left. Not thread-safe. */
typedef struct rv_gguf_writer rv_gguf_writer;

rv_status rv_gguf_writer_open(rv_gguf_writer **out, const char *path);
void rv_gguf_writer_abort(rv_gguf_writer *w);                        /* accepts NULL */
rv_status rv_gguf_write_kv(rv_gguf_writer *w, const rv_gguf_kv *kv); /* copies any value as stored */
rv_status rv_gguf_write_u32(rv_gguf_writer *w, const char *key, uint32_t v);
rv_status rv_gguf_write_u64(rv_gguf_writer *w, const char *key, uint64_t v);
rv_status rv_gguf_write_f32(rv_gguf_writer *w, const char *key, float v);
rv_status rv_gguf_write_bool(rv_gguf_writer *w, const char *key, int v);
rv_status rv_gguf_write_string(rv_gguf_writer *w, const char *key, const char *s);
rv_status rv_gguf_write_strings(rv_gguf_writer *w, const char *key, const rv_str *s, size_t n);
rv_status rv_gguf_write_f32s(rv_gguf_writer *w, const char *key, const float *v, size_t n);
rv_status rv_gguf_write_i32s(rv_gguf_writer *w, const char *key, const int32_t *v, size_t n);
rv_status rv_gguf_declare(rv_gguf_writer *w, const char *name, rv_type type, int n_dims,
                          const int64_t *dims);
/* Bytes of the current tensor; may be called several times until the tensor is complete. The header
 * is written at the first call. */
rv_status rv_gguf_write_data(rv_gguf_writer *w, const void *data, size_t n_bytes);
/* RV_ERR_INVALID when data of a declared tensor is missing. Frees w, also on failure. */
rv_status rv_gguf_writer_commit(rv_gguf_writer *w);

#endif
