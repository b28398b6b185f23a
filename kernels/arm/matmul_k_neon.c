#include "kernels/arm/dot_neon.h"

#include "kernels/arm/matmul_k_body.h"
