#include "kernels/arm/dot_dotprod.h"

#include "kernels/arm/matmul_k_body.h"
