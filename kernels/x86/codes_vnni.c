/* Sums over vector codes. */
#define RV_VNNI
#include "kernels/x86/codes_512_body.h"
