/* A sequence's keys and values in a file: sessions that outlive the process, idle sequences spilled
 * under memory pressure (kv_pressure.h).
 *
 * The file (little-endian): struct header of kv_spill.c; the identity as text, a line each of what
 * decides the bits: model, adapters, cache type, rotation, backend, attention; token ids, when the
 * caller gave them; runs {page format, tokens}, which cover the positions; per layer and KV head the
 * keys, then the values of all positions; a CRC-32 of all before it. Rows stand in the order of
 * positions, so a file made with one page size is restored into any other, and into a cache in one
 * piece. A saved and restored sequence goes on with the same bits. What was quantized under pressure
 * stays so, and needs pages in which no two types would meet. Under a tiered policy (kv_policy.h) pages
 * are kept as they are stored; the policy and the page size are then part of the identity.
 *
 * A context is used by one caller at a time here too.
 */
#ifndef RV_ENGINE_KV_SPILL_H
#define RV_ENGINE_KV_SPILL_H

#include "engine/context.h"

#include <stddef.h>
#include <stdint.h>

/* Writes all of a sequence; `path` appears whole or stays as it was (rv_writer). tokens [n]: its ids, n
 * its length; NULL with n 0: the file holds none. RV_ERR_INVALID: no such sequence, an empty one, or
 * another length; RV_ERR_IO: disk full and the like. The sequence is unchanged. */
rv_status rv_seq_save(rv_context *ctx, int32_t seq, const int32_t *tokens, int64_t n, const char *path);

typedef struct rv_seq_file_info {
	int64_t n_tokens; /* of the sequence */
	int has_ids;
} rv_seq_file_info;

/* Fills the empty sequence `seq` from a file, as begun with the set of adapters `adapter`. tokens
 * [cap] receives the ids when the file holds them (NULL: not wanted); out (may be NULL) what it holds.
 * On failure the sequence is still empty:
 *   RV_ERR_FORMAT       another kind of file, cut short, bytes after its end, a wrong checksum
 *   RV_ERR_UNSUPPORTED  another version of the format
 *   RV_ERR_MISMATCH     another identity (the message names both), or formats that would share a page
 *   RV_ERR_LIMIT        longer than n_ctx or cap, or no KV pages for it
 *   RV_ERR_INVALID      the sequence is not empty; a set of adapters out of range */
rv_status rv_seq_load(rv_context *ctx, int32_t seq, int32_t adapter, const char *path, int32_t *tokens,
                      int64_t cap, rv_seq_file_info *out);
/* The same on bytes in memory; `name` stands in messages. For fuzzing. */
rv_status rv_seq_load_memory(rv_context *ctx, int32_t seq, int32_t adapter, const void *data,
                             size_t size, const char *name, int32_t *tokens, int64_t cap,
                             rv_seq_file_info *out);

#endif
