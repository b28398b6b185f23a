/* Products with quantized activations, AVX-512 with dot product instructions. */
#define RV_VNNI
#include "kernels/x86/vec_avx512.h"

#include "kernels/x86/matmul_512_body.h"
