/* Cached keys and values; the exact rounding rules are in kernels_internal.h. A row is stored with
 * store_<type> and read back with decode_<type>; both loads are the same decoding, laid out twice. */
#include "kernels/kernels_internal.h"

#include <math.h>
#include <string.h>

static void put_u16(unsigned char *dst, uint16_t value) {
	memcpy(dst, &value, sizeof value);
}

static uint16_t get_u16(const unsigned char *src) {
	uint16_t value;
	memcpy(&value, src, sizeof value);
	return value;
}

static int64_t group_size(int64_t start, int64_t head_dim) {
	return head_dim - start < RV_KV_GROUP ? head_dim - start : RV_KV_GROUP;
}

static int all_finite(const float *x, int64_t n) {
	int finite = 1;
	for (int64_t i = 0; i < n; i++) {
		finite &= isfinite(x[i]);
	}
	return finite;
}

static int round_code(float x, float low, float high) {
	float r = rintf(x);
	return (int)(r < low ? low : r > high ? high : r);
}

/* ---- store ---- */

void rv_kv_store_f32_ref(void *dst, const float *src, int64_t head_dim) {
	memcpy(dst, src, (size_t)head_dim * sizeof(float));
}

void rv_kv_store_f16_ref(void *dst, const float *src, int64_t head_dim) {
	for (int64_t i = 0; i < head_dim; i++) {
		put_u16((unsigned char *)dst + 2 * i, rv_f32_to_f16(src[i]));
	}
}

static void store_group_q8(unsigned char *dst, const float *x, int64_t n) {
	float max = 0;
	for (int64_t i = 0; i < n; i++) {
		max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
	}
	rv_f16 d16 = rv_f32_to_f16(all_finite(x, n) ? max / 127 : NAN);
	float d = rv_f16_to_f32(d16);
	float inverse = d > 0 && isfinite(d) ? 1 / d : 0;
	put_u16(dst, d16);
	for (int64_t i = 0; i < n; i++) {
		int code = inverse > 0 ? round_code(x[i] * inverse, -127, 127) : 0;
		dst[2 + i] = (unsigned char)(int8_t)code;
	}
}

void rv_kv_store_q8_ref(void *dst, const float *src, int64_t head_dim) {
	unsigned char *out = dst;
	for (int64_t i = 0; i < head_dim; i += RV_KV_GROUP) {
		int64_t n = group_size(i, head_dim);
		store_group_q8(out, src + i, n);
		out += 2 + n;
	}
}

/* Q4 and Q2: codes of `bits` from the smallest value up. */
static void store_group_codes(unsigned char *dst, const float *x, int64_t n, int bits) {
	const int most = (1 << bits) - 1, per_byte = 8 / bits;
	float min = x[0], max = x[0];
	for (int64_t i = 1; i < n; i++) {
		min = x[i] < min ? x[i] : min;
		max = x[i] > max ? x[i] : max;
	}
	int finite = all_finite(x, n);
	rv_f16 d16 = rv_f32_to_f16(finite ? (max - min) / (float)most : NAN);
	rv_f16 m16 = rv_f32_to_f16(finite ? min : NAN);
	float d = rv_f16_to_f32(d16), m = rv_f16_to_f32(m16);
	float inverse = d > 0 && isfinite(d) && isfinite(m) ? 1 / d : 0;
	put_u16(dst, d16);
	put_u16(dst + 2, m16);
	memset(dst + 4, 0, (size_t)((n + per_byte - 1) / per_byte));
	for (int64_t i = 0; i < n; i++) {
		int code = inverse > 0 ? round_code((x[i] - m) * inverse, 0, (float)most) : 0;
		dst[4 + i / per_byte] |= (unsigned char)(code << i % per_byte * bits);
	}
}

static void store_codes(unsigned char *out, const float *src, int64_t head_dim, int bits) {
	for (int64_t i = 0; i < head_dim; i += RV_KV_GROUP) {
		int64_t n = group_size(i, head_dim);
		store_group_codes(out, src + i, n, bits);
		out += 4 + n * bits / 8;
	}
}

void rv_kv_store_q4_ref(void *dst, const float *src, int64_t head_dim) {
	store_codes(dst, src, head_dim, 4);
}

void rv_kv_store_q2_ref(void *dst, const float *src, int64_t head_dim) {
	store_codes(dst, src, head_dim, 2);
}

/* ---- load: element i of a row ---- */

static float decode_f32(const unsigned char *row, int64_t i) {
	float x;
	memcpy(&x, row + i * (int64_t)sizeof x, sizeof x);
	return x;
}

static float decode_f16(const unsigned char *row, int64_t i) {
	return rv_f16_to_f32(get_u16(row + 2 * i));
}

static float decode_q8(const unsigned char *row, int64_t i) {
	const unsigned char *group = row + i / RV_KV_GROUP * (2 + RV_KV_GROUP);
	return rv_f16_to_f32(get_u16(group)) * (float)(int8_t)group[2 + i % RV_KV_GROUP];
}

static float decode_codes(const unsigned char *row, int64_t i, int bits) {
	const int per_byte = 8 / bits;
	const unsigned char *group = row + i / RV_KV_GROUP * (4 + RV_KV_GROUP / per_byte);
	int64_t at = i % RV_KV_GROUP;
	int code = group[4 + at / per_byte] >> at % per_byte * bits & ((1 << bits) - 1);
	return rv_f16_to_f32(get_u16(group)) * (float)code + rv_f16_to_f32(get_u16(group + 2));
}

static float decode_q4(const unsigned char *row, int64_t i) {
	return decode_codes(row, i, 4);
}

static float decode_q2(const unsigned char *row, int64_t i) {
	return decode_codes(row, i, 2);
}

#define LOADS(NAME, type)                                                                              \
	void rv_kv_load_keys_##type##_ref(float *kt, const void *src, size_t stride, int64_t n,        \
	                                  int64_t head_dim) {                                          \
		for (int64_t i = 0; i < n; i++) {                                                      \
			const unsigned char *row = (const unsigned char *)src + (size_t)i * stride;    \
			for (int64_t d = 0; d < head_dim; d++) {                                       \
				kt[d * RV_ATTN_BLOCK + i] = decode_##type(row, d);                     \
			}                                                                              \
		}                                                                                      \
	}                                                                                              \
	void rv_kv_load_values_##type##_ref(float *v, const void *src, size_t stride, int64_t n,       \
	                                    int64_t head_dim) {                                        \
		for (int64_t i = 0; i < n; i++) {                                                      \
			const unsigned char *row = (const unsigned char *)src + (size_t)i * stride;    \
			for (int64_t d = 0; d < head_dim; d++) {                                       \
				v[i * head_dim + d] = decode_##type(row, d);                           \
			}                                                                              \
		}                                                                                      \
	}
RV_EACH_KV(LOADS)
