/* Formats of a block of cached tokens of one (layer, KV head): rows (rv_kv_type), or codes that are
 * fitted to the block as a whole. Attention, migration and experiments treat both alike.
 *
 * A block has n tokens, 8, 16, 32 or 64, all written at once. Its keys and its values are two runs of
 * bytes. "vector" below: a channel of the keys (n tokens) or a token of the values (head_dim elements,
 * cut into groups of 128).
 *
 *   rows      a token's key or value one after the other, as rv_kv_type says
 *   KIVI      keys quantized per channel, values per token (Liu et al. 2024): a vector is a row of Q4
 * or Q2 (f16 scale, f16 minimum, codes). The paper's groups are 32; here a channel's group is the block
 * and a token's up to 128 elements. KVQUANT   (Hooper et al. 2024) keys before RoPE per channel, values
 * per token, codes are indices into a codebook of the layer, and each vector keeps one element (1/128
 * to 1/8, the paper: 1 %) apart as f16: the one without which its range is smallest. Differs: scales
 * are taken from the block, not from calibration; codebooks are weighted by the second moment of the
 *             queries, not by the Fisher information; the first token is an ordinary one.
 *             A vector's group: f16 scale d, f16 minimum m, f16 element, u8 its place, codes;
 *             x = m + d codebook[code]
 *   SQUAT     (Wang et al. 2025) stored and read as KIVI. When encoding, the error of a channel is
 *             passed on to those not yet encoded, so that what remains of it is orthogonal to the
 *             queries' main directions. Differs: channel by channel, where the paper takes blocks of
 *             channels; the directions come from calibration, not from the request's own prompt,
 * because blocks are shared between requests.
 *
 * Everything is deterministic. Encoded bytes and decoded values do not depend on the feature level. */
#ifndef RV_KERNELS_KV_CODES_H
#define RV_KERNELS_KV_CODES_H

#include "kernels/kernels.h"

/* X(name, text, how, bits of a code) */
#define RV_EACH_KV_CODE(X)                                                                             \
	X(KIVI4, "kivi4", KIVI, 4)                                                                     \
	X(KIVI2, "kivi2", KIVI, 2)                                                                     \
	X(KVQUANT4, "kvquant4", KVQUANT, 4)                                                            \
	X(KVQUANT2, "kvquant2", KVQUANT, 2)                                                            \
	X(SQUAT4, "squat4", SQUAT, 4)                                                                  \
	X(SQUAT2, "squat2", SQUAT, 2)

/* A number: an rv_kv_type, or one of the codes, which follow them. */
typedef unsigned rv_kv_format;
enum {
	RV_KV_BEFORE_CODES = RV_KV_COUNT - 1,
#define X(name, text, how, bits) RV_KV_##name,
	RV_EACH_KV_CODE(X)
#undef X
	        RV_KV_FORMATS
};
const char *rv_kv_format_name(rv_kv_format format); /* "kivi2", "f16" */
/* RV_KV_FORMATS when unknown. */
rv_kv_format rv_kv_format_by_name(const char *name);

#define RV_KV_MAX_HEAD_DIM 1024
#define RV_KV_BOOK 16  /* entries of a codebook; those of two bits use the first four */
#define RV_KV_BOOKS 64 /* floats of a layer's codebooks */

typedef struct rv_kv_code_block {
	int64_t n;        /* tokens */
	int64_t head_dim; /* at most RV_KV_MAX_HEAD_DIM; codes: a multiple of 8 */
	/* KVQUANT: how the keys were rotated: rope[n_rot / 2][cos, sin][n] for the block's positions */
	const float *rope;
	int64_t n_rot;
	int neox;
	/* KVQUANT: codebooks of keys and of values, ascending, most entries in [0, 1] */
	const float *books; /* [4 bits, 2 bits][keys, values][RV_KV_BOOK] */
	/* SQUAT, encoding: share of channel c's error that channel e > c takes: [head_dim][head_dim] */
	const float *feedback;
} rv_kv_code_block;

/* Does the format need rope and books, or feedback? */
int rv_kv_format_needs_books(rv_kv_format format);
int rv_kv_format_needs_feedback(rv_kv_format format);

/* Bytes of a block's keys, of its values. */
size_t rv_kv_keys_bytes(rv_kv_format format, int64_t n, int64_t head_dim);
size_t rv_kv_values_bytes(rv_kv_format format, int64_t n, int64_t head_dim);

/* Encodes the keys kt[channel * RV_ATTN_BLOCK + token] (overwritten), the values v[token][channel]. */
void rv_kv_encode_keys(const rv_kernels *k, rv_kv_format format, void *dst, float *kt,
                       const rv_kv_code_block *b);
void rv_kv_encode_values(const rv_kernels *k, rv_kv_format format, void *dst, const float *v,
                         const rv_kv_code_block *b);
/* Decodes tokens [from, from + n) into the first n columns of kt, rows of v. */
void rv_kv_load_keys(const rv_kernels *k, rv_kv_format format, float *kt, const void *src, int64_t from,
                     int64_t n, const rv_kv_code_block *b);
void rv_kv_load_values(const rv_kernels *k, rv_kv_format format, float *v, const void *src,
                       int64_t from, int64_t n, const rv_kv_code_block *b);

/* Pieces of KVQUANT, for making its codebooks: the keys of a block as they were before RoPE; the
 * element of x[0..n), n >= 3, without which its range is smallest, and what remains of the range. */
void rv_kv_unrotate(float *kt, const rv_kv_code_block *b);
int64_t rv_kv_pick(const float *x, int64_t n, float *low, float *high);

/* Encodes a whole block that is stored in `from` as `to`. scratch: RV_ATTN_BLOCK * head_dim floats. */
void rv_kv_recode(const rv_kernels *k, rv_kv_format to, void *to_keys, void *to_values,
                  rv_kv_format from, const void *keys, const void *values, const rv_kv_code_block *b,
                  float *scratch);

#endif
