/* The VNNI table: every slot of the X-macros; a form that VNNI has no own of is named here, as the
 * weaker level's. */
#include "kernels/kernels_internal.h"

#define rv_matmul_q4_0_vnni rv_matmul_q4_0_avx2
#define rv_matmul_q4_1_vnni rv_matmul_q4_1_avx2
#define rv_matmul_q5_0_vnni rv_matmul_q5_0_avx2
#define rv_matmul_q5_1_vnni rv_matmul_q5_1_avx2
#define rv_matmul_q2_k_vnni rv_matmul_q2_k_avx2
#define rv_matmul_q3_k_vnni rv_matmul_q3_k_avx2
#define rv_matmul_bf16_vnni rv_matmul_bf16_avx2
#define rv_matmul_f32_vnni rv_matmul_f32_avx512
#define rv_matmul_f16_vnni rv_matmul_f16_avx512
#define rv_gemm_vnni rv_gemm_avx512
#define rv_attn_block_vnni rv_attn_block_avx512
#define rv_attn_rows_vnni rv_attn_rows_avx512
#define rv_add_vnni rv_add_avx2
#define rv_rms_norm_vnni rv_rms_norm_avx2
#define rv_add_rms_norm_vnni rv_add_rms_norm_avx2
#define rv_rope_vnni rv_rope_avx2
#define rv_swiglu_vnni rv_swiglu_avx2
#define rv_softmax_vnni rv_softmax_avx2
#define rv_attn_merge_vnni rv_attn_merge_avx512
#define rv_attn_finish_vnni rv_attn_finish_avx512
#define rv_dot_f32_vnni rv_dot_f32_avx512
#define rv_l2_f32_vnni rv_l2_f32_avx512
#define rv_l1_f32_vnni rv_l1_f32_avx512
#define rv_cosine_f32_vnni rv_cosine_f32_avx512
#define rv_dot_rows_f32_vnni rv_dot_rows_f32_avx512
#define rv_l2_rows_f32_vnni rv_l2_rows_f32_avx512
#define rv_hamming_vnni rv_hamming_avx512
#define rv_adc_rows_vnni rv_adc_rows_avx512

/* With f32 activations: for F32 and F16 the matmul itself, for the others what AVX2 lists. */
#define rv_matmul_float_f32_vnni rv_matmul_f32_avx512
#define rv_matmul_float_f16_vnni rv_matmul_f16_avx512
#define rv_matmul_float_bf16_vnni rv_matmul_bf16_avx2
#define rv_matmul_float_q4_0_vnni rv_matmul_float_q4_0_ref
#define rv_matmul_float_q4_1_vnni rv_matmul_float_q4_1_ref
#define rv_matmul_float_q5_0_vnni rv_matmul_float_q5_0_ref
#define rv_matmul_float_q5_1_vnni rv_matmul_float_q5_1_ref
#define rv_matmul_float_q8_0_vnni rv_matmul_float_q8_0_ref
#define rv_matmul_float_q2_k_vnni rv_matmul_float_q2_k_ref
#define rv_matmul_float_q3_k_vnni rv_matmul_float_q3_k_ref
#define rv_matmul_float_q4_k_vnni rv_matmul_float_q4_k_ref
#define rv_matmul_float_q5_k_vnni rv_matmul_float_q5_k_ref
#define rv_matmul_float_q6_k_vnni rv_matmul_float_q6_k_ref

/* Types that are read but never written. */
#define rv_quantize_q4_1_ref NULL
#define rv_quantize_q2_k_ref NULL
#define rv_quantize_q3_k_ref NULL

#define TYPE_OPS(NAME, type)                                                                           \
	[RV_##NAME] = {rv_dequantize_##type##_avx2,                                                    \
	               rv_quantize_##type##_ref,                                                       \
	               {[RV_LAYOUT_GGML] = rv_matmul_##type##_vnni},                                   \
	               rv_matmul_float_##type##_vnni},
#define KV_OPS(NAME, type)                                                                             \
	[RV_KV_##NAME] = {rv_kv_store_##type##_avx2, rv_kv_load_keys_##type##_avx2,                    \
	                  rv_kv_load_values_##type##_avx2},

const rv_kernels rv_kernels_vnni = {
        .level = RV_LEVEL_VNNI,
        .type = {RV_EACH_TYPE(TYPE_OPS)},
        .quantize_act = {rv_quantize_act_f32_avx2, rv_quantize_act_q8_avx2, rv_quantize_act_q8k_avx2},
        .kv = {RV_EACH_KV(KV_OPS)},
        .peak = {&rv_peak_f32_avx512, &rv_peak_int8_vnni},
#define RV_KERNEL(name, params, ...) .name = rv_##name##_vnni,
#include "kernels/kernels.def"
#undef RV_KERNEL
};
