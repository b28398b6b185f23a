/* Which tables this build has: a level is in the build when its table's source is in the tree and the
 * build is for its architecture. */
#include "kernels/kernels_internal.h"

static const rv_kernels *const tables[RV_LEVEL_COUNT] = {
        [RV_LEVEL_REF] = &rv_kernels_ref,
#if defined(__x86_64__)
#if __has_include("kernels/x86/table_avx2.c")
        [RV_LEVEL_AVX2] = &rv_kernels_avx2,
#endif
#if __has_include("kernels/x86/table_avx512.c")
        [RV_LEVEL_AVX512] = &rv_kernels_avx512,
#endif
#if __has_include("kernels/x86/table_vnni.c")
        [RV_LEVEL_VNNI] = &rv_kernels_vnni,
#endif
#elif defined(__aarch64__)
#if __has_include("kernels/arm/table_neon.c")
        [RV_LEVEL_NEON] = &rv_kernels_neon,
#endif
#if __has_include("kernels/arm/table_dotprod.c")
        [RV_LEVEL_DOTPROD] = &rv_kernels_dotprod,
#endif
#if __has_include("kernels/arm/table_i8mm.c")
        [RV_LEVEL_I8MM] = &rv_kernels_i8mm,
#endif
#endif
};

const rv_kernels *rv_kernels_for(rv_level level) {
	return (unsigned)level < RV_LEVEL_COUNT ? tables[level] : NULL;
}
