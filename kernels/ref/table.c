#include "kernels/kernels_internal.h"

/* Types that are read but never written. */
#define rv_quantize_q4_1_ref NULL
#define rv_quantize_q2_k_ref NULL
#define rv_quantize_q3_k_ref NULL

#define TYPE_OPS(NAME, type)                                                                           \
	[RV_##NAME] = {rv_dequantize_##type##_ref,                                                     \
	               rv_quantize_##type##_ref,                                                       \
	               {[RV_LAYOUT_GGML] = rv_matmul_##type##_ref},                                    \
	               rv_matmul_float_##type##_ref},
#define KV_OPS(NAME, type)                                                                             \
	[RV_KV_##NAME] = {rv_kv_store_##type##_ref, rv_kv_load_keys_##type##_ref,                      \
	                  rv_kv_load_values_##type##_ref},

const rv_kernels rv_kernels_ref = {
        .level = RV_LEVEL_REF,
        .type = {RV_EACH_TYPE(TYPE_OPS)},
        .quantize_act = {rv_quantize_act_f32_ref, rv_quantize_act_q8_ref, rv_quantize_act_q8k_ref},
        .kv = {RV_EACH_KV(KV_OPS)},
        .peak = {&rv_peak_f32_ref, &rv_peak_int8_ref},
#define RV_KERNEL(name, params, ...) .name = rv_##name##_ref,
#include "kernels/kernels.def"
#undef RV_KERNEL
};
