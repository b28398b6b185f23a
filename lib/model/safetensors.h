/* safetensors files: reader (memory-mapped, zero copy) of one file or of a folder's shards.
 * Source: the format's description in huggingface/safetensors (little-endian files only).
 *
 * A file is a length (8 bytes), a JSON header of that length and a data section. The reader trusts
 * nothing: the header has at most RV_SAFETENSORS_HEADER_MAX bytes and RV_SAFETENSORS_TENSORS_MAX
 * tensors, numbers are exact integers, duplicate names are refused, and every byte of the data section
 * belongs to exactly one tensor. Values are not looked at. Messages name the file, the tensor and the
 * bytes.
 */
#ifndef RV_MODEL_SAFETENSORS_H
#define RV_MODEL_SAFETENSORS_H

#include "base/json.h"
#include "base/status.h"
#include "kernels/kernels.h"

#include <stddef.h>
#include <stdint.h>

#define RV_SAFETENSORS_HEADER_MAX ((size_t)100000000)
#define RV_SAFETENSORS_TENSORS_MAX ((size_t)1 << 16) /* of one file */
#define RV_SAFETENSORS_DIMS_MAX 8
#define RV_SAFETENSORS_FILES_MAX ((size_t)4096)
#define RV_SAFETENSORS_FILE "model.safetensors"
#define RV_SAFETENSORS_INDEX "model.safetensors.index.json"

typedef struct rv_safetensor {
	const char *name;                       /* owned by the reader */
	rv_type type;                           /* F32, F16 or BF16 */
	int n_dims;                             /* 0 (a scalar) to RV_SAFETENSORS_DIMS_MAX */
	int64_t shape[RV_SAFETENSORS_DIMS_MAX]; /* the last is the row length; unused ones are 1 */
	size_t begin, n_bytes;                  /* place in the data section of its file */
	const uint8_t *data;                    /* into the map, of any alignment */
	size_t file;                            /* index for rv_safetensors_file */
} rv_safetensor;

/* One file, or all shards of a folder. Immutable after open; thread-safe. */
typedef struct rv_safetensors rv_safetensors;

/* Maps and checks one file. Another element type than F32, F16 and BF16 is RV_ERR_UNSUPPORTED by tensor
 * and type. */
rv_status rv_safetensors_open(rv_safetensors **out, const char *path);
/* The same on bytes in memory (borrowed until close); `name` stands in messages. For fuzzing. */
rv_status rv_safetensors_open_memory(rv_safetensors **out, const void *data, size_t size,
                                     const char *name);
/* model.safetensors of a folder, else the shards that its model.safetensors.index.json lists: a shard
 * is a plain file name, and shards and list must name the same tensors. RV_ERR_NOT_FOUND when the
 * folder has neither. */
rv_status rv_safetensors_open_dir(rv_safetensors **out, const char *dir);
void rv_safetensors_close(rv_safetensors *st); /* accepts NULL; all pointers handed out die with it */

size_t rv_safetensors_n_tensors(const rv_safetensors *st);
const rv_safetensor *rv_safetensors_at(const rv_safetensors *st, size_t i); /* by ascending name */
const rv_safetensor *rv_safetensors_find(const rv_safetensors *st, const char *name); /* O(log n) */

size_t rv_safetensors_n_files(const rv_safetensors *st);
const char *rv_safetensors_file(const rv_safetensors *st, size_t i);
size_t rv_safetensors_bytes(const rv_safetensors *st); /* of all tensors */
/* RV_ERR_IO when a mapped file was replaced or truncated since it was opened (rv_map_check). */
rv_status rv_safetensors_check(const rv_safetensors *st);

/* Gives the memory that reading the tensor took back to the system; it is read again when asked for. */
void rv_safetensors_drop(const rv_safetensors *st, const rv_safetensor *t);

/* Checks the text of an index and gives its "weight_map" (tensor -> shard; json_decref'd by the
 * caller). `name` stands in messages. */
rv_status rv_safetensors_index(const char *text, size_t size, const char *name, json_t **weight_map);

/* A JSON object from a regular file of at most max_bytes (json_decref'd by the caller). */
rv_status rv_safetensors_json(const char *path, size_t max_bytes, json_t **out);

#endif
