/* Names of the kernels of every level, for the tables and the level sources. The pattern is
 * rv_<kernel>_<level>, with the weight, activation or cache type in between where there is one:
 *
 *   rv_<name>_<level>                              each row of kernels.def
 *   rv_matmul_<type>_<level>                       integer product, layout GGML
 *   rv_matmul_float_<type>_<level>                 decoded weights times f32 activations
 *   rv_dequantize_<type>_<level>
 *   rv_quantize_<type>_<level>                     only the writable types
 *   rv_quantize_act_{f32,q8,q8k}_<level>
 *   rv_kv_{store,load_keys,load_values}_{f32,f16,q8,q4,q2}_<level>
 *   rv_peak_{f32,int8}_<level>
 *   rv_kernels_<level>                             the table
 *
 * A declaration here promises no definition: a level defines what it has its own form of, and its
 * table lists a weaker level's form for the rest.
 *
 * Rounding rules that every level follows to the bit, so that stored bytes never depend on the level:
 *   quantize_act  m = max|x| of the block. m not finite (or any NaN): d = s = NaN, all codes and sums
 *                 0. m < RV_ACT_TINY: everything 0. Else d = m / 127, q = rint(x * (127 / m)).
 *                 Q8 then rounds d to f16 where that is a normal number.
 *   kv store Q8   d = f16(max|x| / 127), i = d > 0 ? 1 / d : 0, q = rint(x * i) clamped to +-127
 *   kv store Q4   m = f16(min x), d = f16((max x - min x) / 15), i as above,
 *                 q = rint((x - m) * i) clamped to 0..15
 *   kv store Q2   as Q4 with 3 for 15
 *                 For all three: a NaN or infinity in a group gives d = NaN (and m = NaN) and codes 0.
 *   kv load       d * q, and d * q + m (the product is exact, so fused or not is the same)
 * rint is to nearest even. */
#ifndef RV_KERNELS_INTERNAL_H
#define RV_KERNELS_INTERNAL_H

#include "kernels/kernels.h"

/* Below this, 127 / max|x| could overflow: such a block is rounded to zeros. */
#define RV_ACT_TINY 0x1p-120f
#define RV_F16_MIN_NORMAL 0x1p-14f
#define RV_F16_MAX 65504.0f
#define RV_KV_GROUP 128 /* elements that share a scale in a Q8, Q4 or Q2 cached row */

#define RV_EACH_TYPE(X)                                                                                \
	X(F32, f32)                                                                                    \
	X(F16, f16)                                                                                    \
	X(Q4_0, q4_0)                                                                                  \
	X(Q4_1, q4_1)                                                                                  \
	X(Q5_0, q5_0)                                                                                  \
	X(Q5_1, q5_1)                                                                                  \
	X(Q8_0, q8_0)                                                                                  \
	X(Q2_K, q2_k)                                                                                  \
	X(Q3_K, q3_k)                                                                                  \
	X(Q4_K, q4_k)                                                                                  \
	X(Q5_K, q5_k)                                                                                  \
	X(Q6_K, q6_k)                                                                                  \
	X(BF16, bf16)
#define RV_EACH_KV(X)                                                                                  \
	X(F32, f32)                                                                                    \
	X(F16, f16)                                                                                    \
	X(Q8, q8)                                                                                      \
	X(Q4, q4)                                                                                      \
	X(Q2, q2)

/* Declares everything of one level that depends on a type. */
#define RV_DECLARE_TYPE(type, level)                                                                   \
	extern rv_matmul_fn rv_matmul_##type##_##level, rv_matmul_float_##type##_##level;              \
	extern rv_dequantize_fn rv_dequantize_##type##_##level;                                        \
	extern rv_quantize_fn rv_quantize_##type##_##level;
#define RV_DECLARE_KV(type, level)                                                                     \
	void rv_kv_store_##type##_##level(void *dst, const float *src, int64_t head_dim);              \
	void rv_kv_load_keys_##type##_##level(float *kt, const void *src, size_t stride, int64_t n,    \
	                                      int64_t head_dim);                                       \
	void rv_kv_load_values_##type##_##level(float *v, const void *src, size_t stride, int64_t n,   \
	                                        int64_t head_dim);
#define RV_DECLARE_LEVEL(level)                                                                        \
	RV_DECLARE_TYPE(f32, level)                                                                    \
	RV_DECLARE_TYPE(f16, level)                                                                    \
	RV_DECLARE_TYPE(q4_0, level)                                                                   \
	RV_DECLARE_TYPE(q4_1, level)                                                                   \
	RV_DECLARE_TYPE(q5_0, level)                                                                   \
	RV_DECLARE_TYPE(q5_1, level)                                                                   \
	RV_DECLARE_TYPE(q8_0, level)                                                                   \
	RV_DECLARE_TYPE(q2_k, level)                                                                   \
	RV_DECLARE_TYPE(q3_k, level)                                                                   \
	RV_DECLARE_TYPE(q4_k, level)                                                                   \
	RV_DECLARE_TYPE(q5_k, level)                                                                   \
	RV_DECLARE_TYPE(q6_k, level)                                                                   \
	RV_DECLARE_TYPE(bf16, level)                                                                   \
	RV_DECLARE_KV(f32, level)                                                                      \
	RV_DECLARE_KV(f16, level)                                                                      \
	RV_DECLARE_KV(q8, level)                                                                       \
	RV_DECLARE_KV(q4, level)                                                                       \
	RV_DECLARE_KV(q2, level)                                                                       \
	extern rv_quantize_act_fn rv_quantize_act_f32_##level, rv_quantize_act_q8_##level,             \
	        rv_quantize_act_q8k_##level;                                                           \
	extern const rv_peak rv_peak_f32_##level, rv_peak_int8_##level;                                \
	extern const rv_kernels rv_kernels_##level;

RV_DECLARE_LEVEL(ref)
RV_DECLARE_LEVEL(avx2)
RV_DECLARE_LEVEL(avx512)
RV_DECLARE_LEVEL(vnni)
RV_DECLARE_LEVEL(neon)
RV_DECLARE_LEVEL(dotprod)
RV_DECLARE_LEVEL(i8mm)

#define RV_KERNEL(name, params, ...)                                                                   \
	extern rv_##name##_fn rv_##name##_ref, rv_##name##_avx2, rv_##name##_avx512, rv_##name##_vnni, \
	        rv_##name##_neon, rv_##name##_dotprod, rv_##name##_i8mm;
#include "kernels/kernels.def"
#undef RV_KERNEL

#endif
