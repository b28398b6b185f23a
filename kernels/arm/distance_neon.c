/* Distances between f32 vectors. */
#include "kernels/arm/vec_neon.h"

#include "kernels/common/distance_body.h"
