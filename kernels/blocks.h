/* On-disk blocks of the quantized types. Layouts are ggml's (GGUF is the specification); all fields
 * little-endian. f16 is IEEE binary16 in a uint16_t. A row may start at any
 * address, so the blocks have alignment 1. */
#ifndef RV_KERNELS_BLOCKS_H
#define RV_KERNELS_BLOCKS_H

#include <stdint.h>

typedef uint16_t rv_f16;
typedef uint16_t rv_bf16;
typedef rv_f16 rv_f16_any __attribute__((aligned(1))); /* at any address */

#define RV_QK 32   /* elements in a block of the Qx_0 and Qx_1 types */
#define RV_QKK 256 /* elements in a super-block of the K types */

/* x = d (q - 8); byte j holds elements j (low nibble) and j + 16 (high nibble) */
typedef struct rv_q4_0 {
	rv_f16_any d;
	uint8_t qs[16];
} rv_q4_0;
/* x = d q + m */
typedef struct rv_q4_1 {
	rv_f16_any d, m;
	uint8_t qs[16];
} rv_q4_1;
/* x = d (q - 16); bit j of qh is the fifth bit of element j */
typedef struct rv_q5_0 {
	rv_f16_any d;
	uint8_t qh[4];
	uint8_t qs[16];
} rv_q5_0;
typedef struct rv_q5_1 {
	rv_f16_any d, m;
	uint8_t qh[4];
	uint8_t qs[16];
} rv_q5_1;
typedef struct rv_q8_0 {
	rv_f16_any d;
	int8_t qs[32];
} rv_q8_0;
/* 16 sub-blocks of 16: x = d sc q - dmin m; scales[i]: sc low nibble, m high nibble */
typedef struct rv_q2_k {
	uint8_t scales[16];
	uint8_t qs[64];
	rv_f16_any d, dmin;
} rv_q2_k;
/* 16 sub-blocks of 16: x = d (sc - 32) (q - 4 unless its hmask bit is set) */
typedef struct rv_q3_k {
	uint8_t hmask[32];
	uint8_t qs[64];
	uint8_t scales[12];
	rv_f16_any d;
} rv_q3_k;
/* 8 sub-blocks of 32: x = d sc q - dmin m; 6-bit sc and m packed into 12 bytes */
typedef struct rv_q4_k {
	rv_f16_any d, dmin;
	uint8_t scales[12];
	uint8_t qs[128];
} rv_q4_k;
typedef struct rv_q5_k {
	rv_f16_any d, dmin;
	uint8_t scales[12];
	uint8_t qh[32];
	uint8_t qs[128];
} rv_q5_k;
/* 16 sub-blocks of 16: x = d sc (q - 32) */
typedef struct rv_q6_k {
	uint8_t ql[128];
	uint8_t qh[64];
	int8_t scales[16];
	rv_f16_any d;
} rv_q6_k;

_Static_assert(sizeof(rv_q4_0) == 18, "q4_0");
_Static_assert(sizeof(rv_q4_1) == 20, "q4_1");
_Static_assert(sizeof(rv_q5_0) == 22, "q5_0");
_Static_assert(sizeof(rv_q5_1) == 24, "q5_1");
_Static_assert(sizeof(rv_q8_0) == 34, "q8_0");
_Static_assert(sizeof(rv_q2_k) == 84, "q2_k");
_Static_assert(sizeof(rv_q3_k) == 110, "q3_k");
_Static_assert(sizeof(rv_q4_k) == 144, "q4_k");
_Static_assert(sizeof(rv_q5_k) == 176, "q5_k");
_Static_assert(sizeof(rv_q6_k) == 210, "q6_k");

#endif
