/* Blocks taken apart into whole numbers: the one place where the reference spells out the bit layouts
 * of blocks.h. Inputs may have any alignment. */
#ifndef RV_KERNELS_REF_UNPACK_H
#define RV_KERNELS_REF_UNPACK_H

#include "kernels/blocks.h"

/* A block of 32: x = d q + m, or d q when the type has no minimum. */
typedef struct rv_block32 {
	float d, m;
	int8_t q[RV_QK];
} rv_block32;

/* A super-block of 256: x = (d scale[i / 16]) q[i] - dmin min[i / 16]; types without minimum have
 * dmin and min 0, types with sub-blocks of 32 repeat theirs. */
typedef struct rv_block256 {
	float d, dmin;
	int16_t scale[16], min[16];
	int8_t q[RV_QKK];
} rv_block256;

void rv_unpack_q4_0(rv_block32 *out, const void *block);
void rv_unpack_q4_1(rv_block32 *out, const void *block);
void rv_unpack_q5_0(rv_block32 *out, const void *block);
void rv_unpack_q5_1(rv_block32 *out, const void *block);
void rv_unpack_q8_0(rv_block32 *out, const void *block);
void rv_unpack_q2_k(rv_block256 *out, const void *block);
void rv_unpack_q3_k(rv_block256 *out, const void *block);
void rv_unpack_q4_k(rv_block256 *out, const void *block);
void rv_unpack_q5_k(rv_block256 *out, const void *block);
void rv_unpack_q6_k(rv_block256 *out, const void *block);

/* Types of 32: X(lower name, has a minimum); types of 256: X(lower name). */
#define RV_EACH_BLOCK32_TYPE(X) X(q4_0, 0) X(q4_1, 1) X(q5_0, 0) X(q5_1, 1) X(q8_0, 0)
#define RV_EACH_BLOCK256_TYPE(X) X(q2_k) X(q3_k) X(q4_k) X(q5_k) X(q6_k)

#endif
