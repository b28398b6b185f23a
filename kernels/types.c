/* Facts about the number formats, and the conversions of single numbers. */
#include "kernels/kernels_internal.h"

#include <string.h>
#include <strings.h>

static const rv_type_info type_table[RV_TYPE_LIMIT] = {
#define RV_TYPE(name, id, elems, bytes, act) [id] = {#name, RV_##name, elems, bytes, RV_ACT_##act},
#include "kernels/types.def"
#undef RV_TYPE
};

const rv_type_info *rv_type_get(int type) {
	if (type < 0 || type >= RV_TYPE_LIMIT || !type_table[type].name) {
		return NULL;
	}
	return &type_table[type];
}

const rv_type_info *rv_type_by_name(const char *name) {
	for (int i = 0; name && i < RV_TYPE_LIMIT; i++) {
		if (type_table[i].name && strcasecmp(name, type_table[i].name) == 0) {
			return &type_table[i];
		}
	}
	return NULL;
}

size_t rv_act_row_bytes(rv_act act, int64_t k) {
	size_t n = (size_t)k;
	size_t bytes = n * sizeof(float);
	if (act == RV_ACT_Q8) {
		bytes = rv_act_scale_offset(k) + n / 32 * 2 * sizeof(float);
	} else if (act == RV_ACT_Q8K) {
		bytes = rv_act_scale_offset(k) + n / 256 * sizeof(float) + n / 16 * sizeof(int16_t);
	}
	return (bytes + 63) & ~(size_t)63;
}

const char *rv_kv_type_name(rv_kv_type type) {
	static const char *const names[RV_KV_COUNT] = {
#define X(NAME, lower) [RV_KV_##NAME] = #lower,
	        RV_EACH_KV(X)
#undef X
	};
	return (unsigned)type < RV_KV_COUNT ? names[type] : "unknown";
}

size_t rv_kv_row_bytes(rv_kv_type type, int64_t head_dim) {
	size_t n = (size_t)head_dim;
	size_t groups = (n + RV_KV_GROUP - 1) / RV_KV_GROUP;
	switch (type) {
	case RV_KV_F16:
		return n * sizeof(rv_f16);
	case RV_KV_Q8:
		return groups * sizeof(rv_f16) + n;
	case RV_KV_Q4:
		return groups * 2 * sizeof(rv_f16) + n / 2;
	case RV_KV_Q2:
		return groups * 2 * sizeof(rv_f16) + (n + 3) / 4;
	default:
		return n * sizeof(float);
	}
}

static float float_of_bits(uint32_t bits) {
	float f;
	memcpy(&f, &bits, sizeof f);
	return f;
}

static uint32_t bits_of_float(float f) {
	uint32_t bits;
	memcpy(&bits, &f, sizeof bits);
	return bits;
}

float rv_f16_to_f32(rv_f16 h) {
	uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
	uint32_t exponent = h >> 10 & 31u;
	uint32_t fraction = h & 0x3ffu;
	if (exponent == 31) { /* a NaN becomes quiet, as the hardware conversions make it */
		return float_of_bits(sign | 0x7f800000u | fraction << 13 | (fraction ? 0x400000u : 0));
	}
	if (exponent) {
		return float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
	}
	if (fraction == 0) {
		return float_of_bits(sign);
	}
	uint32_t shift = (uint32_t)__builtin_clz(fraction) - 21; /* brings the top bit to bit 10 */
	return float_of_bits(sign | (113 - shift) << 23 | (fraction << shift & 0x3ffu) << 13);
}

rv_f16 rv_f32_to_f16(float f) {
	uint32_t bits = bits_of_float(f);
	uint32_t sign = bits >> 16 & 0x8000u;
	uint32_t a = bits & 0x7fffffffu;
	uint32_t h;
	if (a > 0x7f800000u) {
		h = 0x7e00u | (a >> 13 & 0x3ffu);
	} else if (a >= 0x47800000u) { /* 65536 and more; 65520..65536 round up by the carry below */
		h = 0x7c00u;
	} else if (a >= 0x38800000u) { /* normal: 2^-14 and more */
		uint32_t odd = a >> 13 & 1u;
		h = (a - 0x38000000u + 0xfffu + odd) >> 13;
	} else if (a >= 0x33000000u) { /* subnormal: more than a quarter of the smallest */
		uint32_t shift = 126 - (a >> 23);
		uint32_t m = (a & 0x7fffffu) | 0x800000u;
		uint32_t odd = m >> shift & 1u;
		h = (m + (1u << (shift - 1)) - 1 + odd) >> shift;
	} else {
		h = 0;
	}
	return (rv_f16)(sign | h);
}

rv_bf16 rv_f32_to_bf16(float f) {
	uint32_t bits = bits_of_float(f);
	if ((bits & 0x7fffffffu) > 0x7f800000u) {
		return (rv_bf16)(bits >> 16 | 0x40u);
	}
	return (rv_bf16)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
