/* Products with quantized activations, AVX-512 without dot product instructions. */
#include "kernels/x86/vec_avx512.h"

#include "kernels/x86/matmul_512_body.h"
