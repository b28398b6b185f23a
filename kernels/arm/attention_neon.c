/* The f32 product, attention of queries to a block of keys, and the merge of blocks. */
#include "kernels/arm/vec_neon.h"

#define GEMM_VECS 2 /* 6 x 2 accumulators of two registers, four of b, one of a: of 32 registers */
#include "kernels/common/gemm_body.h"

#include "kernels/common/attention_body.h"
