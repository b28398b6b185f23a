/* The f32 product, attention of queries to a block of keys, and the merge of blocks. */
#include "kernels/x86/vec_avx512.h"

#define GEMM_VECS 4 /* 6 x 4 accumulators, four vectors of b, one of a: of 32 registers */
#include "kernels/common/gemm_body.h"

#include "kernels/common/attention_body.h"
