/* Cached keys and values, rounded to the bit as kernels_internal.h says. A type gives one function that
 * decodes elements i .. i + 3 of a row, all in the same group; both loads are built on it. */
#include "kernels/arm/simd_neon.h"

void rv_kv_store_f32_neon(void *dst, const float *src, int64_t head_dim) {
	memcpy(dst, src, (size_t)head_dim * sizeof *src);
}

void rv_kv_store_f16_neon(void *dst, const float *src, int64_t head_dim) {
	uint8_t *out = dst;
	for (int64_t i = 0; i < head_dim; i += 4) {
		const int64_t n = head_dim - i < 4 ? head_dim - i : 4;
		const float16x4_t h = vcvt_f16_f32(load_part(src + i, n));
		memcpy(out + 2 * i, &h, (size_t)n * sizeof(rv_f16));
	}
}

INLINE float32x4_t decode_f32(const uint8_t *row, int64_t i) {
	return vreinterpretq_f32_u8(vld1q_u8(row + 4 * i));
}
INLINE float32x4_t decode_f16(const uint8_t *row, int64_t i) {
	return widen_f16(vreinterpret_u16_u8(vld1_u8(row + 2 * i)));
}
INLINE float32x4_t decode_q8(const uint8_t *row, int64_t i) {
	const uint8_t *group = row + i / RV_KV_GROUP * (2 + RV_KV_GROUP);
	const int8x8_t q = vcreate_s8(load_u32(group + 2 + i % RV_KV_GROUP));
	const float32x4_t codes = vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(q))));
	return vmulq_f32(splat_f16(group), codes);
}
INLINE float32x4_t decode_q4(const uint8_t *row, int64_t i) {
	const uint8_t *group = row + i / RV_KV_GROUP * (4 + RV_KV_GROUP / 2);
	const uint8_t *p = group + 4 + i % RV_KV_GROUP / 2;
	const uint32x4_t q = {p[0] & 15u, (uint32_t)p[0] >> 4, p[1] & 15u, (uint32_t)p[1] >> 4};
	return vfmaq_f32(splat_f16(group + 2), splat_f16(group), vcvtq_f32_u32(q));
}

INLINE float32x4_t decode_q2(const uint8_t *row, int64_t i) {
	const uint8_t *group = row + i / RV_KV_GROUP * (4 + RV_KV_GROUP / 4);
	const uint32_t p = group[4 + i % RV_KV_GROUP / 4];
	const uint32x4_t q = {p & 3, p >> 2 & 3, p >> 4 & 3, p >> 6};
	return vfmaq_f32(splat_f16(group + 2), splat_f16(group), vcvtq_f32_u32(q));
}

typedef float32x4_t decode_fn(const uint8_t *row, int64_t i);

/* The rows of a 4 x 4 square to its columns. */
INLINE void transpose(float32x4_t r[4]) {
	const float32x4_t even0 = vzip1q_f32(r[0], r[2]), even1 = vzip2q_f32(r[0], r[2]);
	const float32x4_t odd0 = vzip1q_f32(r[1], r[3]), odd1 = vzip2q_f32(r[1], r[3]);
	r[0] = vzip1q_f32(even0, odd0);
	r[1] = vzip2q_f32(even0, odd0);
	r[2] = vzip1q_f32(even1, odd1);
	r[3] = vzip2q_f32(even1, odd1);
}

/* head_dim: a multiple of 4. */
INLINE void load_keys(float *kt, const uint8_t *src, size_t stride, int64_t n, int64_t head_dim,
                      decode_fn *decode) {
	for (int64_t i = 0; i < n; i += 4) {
		const int64_t rows = n - i < 4 ? n - i : 4;
		for (int64_t d = 0; d + 4 <= head_dim; d += 4) {
			float32x4_t r[4];
			/* a missing row repeats the last; its column is not stored */
			UNROLL
			for (int j = 0; j < 4; j++)
				r[j] = decode(src + (size_t)(i + (j < rows ? j : rows - 1)) * stride,
				              d);
			transpose(r);
			UNROLL
			for (int j = 0; j < 4; j++)
				store_part(kt + (d + j) * RV_ATTN_BLOCK + i, rows, r[j]);
		}
	}
}

INLINE void load_values(float *v, const uint8_t *src, size_t stride, int64_t n, int64_t head_dim,
                        decode_fn *decode) {
	for (int64_t i = 0; i < n; i++) {
		for (int64_t d = 0; d + 4 <= head_dim; d += 4)
			vst1q_f32(v + i * head_dim + d, decode(src + (size_t)i * stride, d));
	}
}

/* A head whose size is no multiple of four is the reference's. */
#define LOADS(NAME, type)                                                                              \
	void rv_kv_load_keys_##type##_neon(float *kt, const void *src, size_t stride, int64_t n,       \
	                                   int64_t head_dim) {                                         \
		if (head_dim % 4)                                                                      \
			rv_kv_load_keys_##type##_ref(kt, src, stride, n, head_dim);                    \
		else                                                                                   \
			load_keys(kt, src, stride, n, head_dim, decode_##type);                        \
	}                                                                                              \
	void rv_kv_load_values_##type##_neon(float *v, const void *src, size_t stride, int64_t n,      \
	                                     int64_t head_dim) {                                       \
		if (head_dim % 4)                                                                      \
			rv_kv_load_values_##type##_ref(v, src, stride, n, head_dim);                   \
		else                                                                                   \
			load_values(v, src, stride, n, head_dim, decode_##type);                       \
	}
RV_EACH_KV(LOADS)
