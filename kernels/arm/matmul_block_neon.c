#include "kernels/arm/dot_neon.h"

#include "kernels/arm/matmul_block_body.h"
