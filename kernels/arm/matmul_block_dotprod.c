#include "kernels/arm/dot_dotprod.h"

#include "kernels/arm/matmul_block_body.h"
