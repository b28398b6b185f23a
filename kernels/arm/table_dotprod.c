/* The DOTPROD table: own forms of the integer products; the other slots hold what NEON lists. */
#include "kernels/kernels_internal.h"

#define rv_matmul_f32_dotprod rv_matmul_f32_neon
#define rv_matmul_f16_dotprod rv_matmul_f16_neon
#define rv_matmul_bf16_dotprod rv_matmul_bf16_neon

/* Products with f32 activations: for the float types the matmul itself. */
#define rv_matmul_float_f32_dotprod rv_matmul_f32_neon
#define rv_matmul_float_f16_dotprod rv_matmul_f16_neon
#define rv_matmul_float_bf16_dotprod rv_matmul_bf16_neon
#define rv_matmul_float_q4_0_dotprod rv_matmul_float_q4_0_ref
#define rv_matmul_float_q4_1_dotprod rv_matmul_float_q4_1_ref
#define rv_matmul_float_q5_0_dotprod rv_matmul_float_q5_0_ref
#define rv_matmul_float_q5_1_dotprod rv_matmul_float_q5_1_ref
#define rv_matmul_float_q8_0_dotprod rv_matmul_float_q8_0_ref
#define rv_matmul_float_q2_k_dotprod rv_matmul_float_q2_k_ref
#define rv_matmul_float_q3_k_dotprod rv_matmul_float_q3_k_ref
#define rv_matmul_float_q4_k_dotprod rv_matmul_float_q4_k_ref
#define rv_matmul_float_q5_k_dotprod rv_matmul_float_q5_k_ref
#define rv_matmul_float_q6_k_dotprod rv_matmul_float_q6_k_ref

/* Rounding of a row to few bits: once a token, the reference does. */
#define rv_kv_store_q8_neon rv_kv_store_q8_ref
#define rv_kv_store_q4_neon rv_kv_store_q4_ref
#define rv_kv_store_q2_neon rv_kv_store_q2_ref

/* Of the kernels in kernels.def, those with products of bytes. */
#define rv_dot_i8_neon rv_dot_i8_dotprod
#define rv_l2_i8_neon rv_l2_i8_dotprod
#define rv_dot_rows_i8_neon rv_dot_rows_i8_dotprod
#define rv_dot_rows_i4_neon rv_dot_rows_i4_dotprod
#define rv_dot_rows_b1_neon rv_dot_rows_b1_dotprod

/* Types that are read but never written. */
#define rv_quantize_q4_1_ref NULL
#define rv_quantize_q2_k_ref NULL
#define rv_quantize_q3_k_ref NULL

#define TYPE_OPS(NAME, type)                                                                           \
	[RV_##NAME] = {rv_dequantize_##type##_ref,                                                     \
	               rv_quantize_##type##_ref,                                                       \
	               {[RV_LAYOUT_GGML] = rv_matmul_##type##_dotprod},                                \
	               rv_matmul_float_##type##_dotprod},
#define KV_OPS(NAME, type)                                                                             \
	[RV_KV_##NAME] = {rv_kv_store_##type##_neon, rv_kv_load_keys_##type##_neon,                    \
	                  rv_kv_load_values_##type##_neon},

const rv_kernels rv_kernels_dotprod = {
        .level = RV_LEVEL_DOTPROD,
        .type = {RV_EACH_TYPE(TYPE_OPS)},
        .quantize_act = {rv_quantize_act_f32_neon, rv_quantize_act_q8_neon, rv_quantize_act_q8k_neon},
        .kv = {RV_EACH_KV(KV_OPS)},
        .peak = {&rv_peak_f32_neon, &rv_peak_int8_dotprod},
#define RV_KERNEL(name, params, ...) .name = rv_##name##_neon,
#include "kernels/kernels.def"
#undef RV_KERNEL
};
