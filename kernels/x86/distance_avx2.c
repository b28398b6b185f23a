/* Distances between f32 vectors. */
#include "kernels/x86/vec_avx2.h"

#include "kernels/common/distance_body.h"
