/* The f32 product, attention of queries to a block of keys, and the merge of blocks. */
#include "kernels/x86/vec_avx2.h"

#define GEMM_VECS 2 /* 6 x 2 accumulators, two vectors of b, one of a: of 16 registers */
#include "kernels/common/gemm_body.h"

#include "kernels/common/attention_body.h"
