/* Cached keys and values, rounded to the bit as kernels_internal.h says. A type gives one function that
 * decodes eight elements of a row; both loads are built on it. */
#include "kernels/x86/simd_avx2.h"

INLINE int64_t group_size(int64_t start, int64_t head_dim) {
	return head_dim - start < RV_KV_GROUP ? head_dim - start : RV_KV_GROUP;
}

/* n <= 8 elements; of fewer the others are `fill`. */
INLINE __m256 load_part(const float *x, int64_t n, __m256 fill) {
	if (n == 8)
		return _mm256_loadu_ps(x);
	const __m256i mask = lane_mask(n);
	return _mm256_blendv_ps(fill, _mm256_maskload_ps(x, mask), _mm256_castsi256_ps(mask));
}
INLINE int64_t up_to_eight(int64_t left) {
	return left < 8 ? left : 8;
}

/* ---- store ---- */

void rv_kv_store_f32_avx2(void *dst, const float *src, int64_t head_dim) {
	memcpy(dst, src, (size_t)head_dim * sizeof *src);
}

void rv_kv_store_f16_avx2(void *dst, const float *src, int64_t head_dim) {
	for (int64_t i = 0; i < head_dim; i += 8) {
		const int64_t n = up_to_eight(head_dim - i);
		const __m256 x = load_part(src + i, n, _mm256_setzero_ps());
		const __m128i h = _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT);
		memcpy((rv_f16 *)dst + i, &h, (size_t)n * sizeof(rv_f16));
	}
}

typedef struct range {
	float min, max;
	int finite;
} range;

/* Smallest and largest of a group, n > 0. x * 0 is NaN for NaN and infinity only. */
INLINE range range_of(const float *x, int64_t n) {
	__m256 min = _mm256_set1_ps(x[0]), max = min, zero = _mm256_setzero_ps();
	for (int64_t i = 0; i < n; i += 8) {
		const __m256 v = load_part(x + i, up_to_eight(n - i), _mm256_set1_ps(x[0]));
		min = _mm256_min_ps(v, min);
		max = _mm256_max_ps(v, max);
		zero = _mm256_fmadd_ps(v, _mm256_setzero_ps(), zero);
	}
	const __m256 negative = _mm256_xor_ps(min, _mm256_set1_ps(-0.0f));
	const float lanes = sum_lanes(zero);
	range r = {-max_lanes(negative), max_lanes(max), lanes == lanes};
	/* Of zeros with either sign the first one counts, as in a loop over the elements. */
	for (int64_t i = 0; r.min == 0 && i < n; i++) {
		if (x[i] == 0) {
			r.min = x[i];
			r.max = r.max == 0 ? x[i] : r.max;
			break;
		}
	}
	return r;
}

/* rint((x - m) * inverse) within [low, high]; all 0 when inverse is 0. */
INLINE __m256i codes_of(const float *x, int64_t n, float m, float inverse, float low, float high) {
	if (!(inverse > 0))
		return _mm256_setzero_si256();
	__m256 v = load_part(x, n, _mm256_set1_ps(m));
	v = _mm256_mul_ps(_mm256_sub_ps(v, _mm256_set1_ps(m)), _mm256_set1_ps(inverse));
	v = _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	v = _mm256_min_ps(_mm256_max_ps(v, _mm256_set1_ps(low)), _mm256_set1_ps(high));
	return _mm256_cvtps_epi32(v);
}
/* Eight whole numbers to eight bytes. */
INLINE uint64_t pack_bytes(__m256i v) {
	const __m128i words =
	        _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
	return (uint64_t)_mm_cvtsi128_si64(_mm_packs_epi16(words, words));
}

static void store_group_q8(uint8_t *dst, const float *x, int64_t n) {
	const range r = range_of(x, n);
	const float max = fmaxf(fabsf(r.min), fabsf(r.max));
	const rv_f16 d16 = rv_f32_to_f16(r.finite ? max / 127 : NAN);
	const float d = rv_f16_to_f32(d16);
	const float inverse = d > 0 && d < INFINITY ? 1 / d : 0;
	memcpy(dst, &d16, sizeof d16);
	for (int64_t i = 0; i < n; i += 8) {
		const int64_t part = up_to_eight(n - i);
		const uint64_t bytes = pack_bytes(codes_of(x + i, part, 0, inverse, -127, 127));
		memcpy(dst + 2 + i, &bytes, (size_t)part);
	}
}

void rv_kv_store_q8_avx2(void *dst, const float *src, int64_t head_dim) {
	uint8_t *out = dst;
	for (int64_t i = 0; i < head_dim; i += RV_KV_GROUP) {
		const int64_t n = group_size(i, head_dim);
		store_group_q8(out, src + i, n);
		out += 2 + n;
	}
}

/* Q4 and Q2: codes of `bits` from the smallest value up. */
INLINE void store_group_codes(uint8_t *dst, const float *x, int64_t n, int bits) {
	const float most = (float)((1 << bits) - 1);
	const uint64_t mask = 0x0101010101010101u * ((1u << bits) - 1);
	const range r = range_of(x, n);
	const rv_f16 d16 = rv_f32_to_f16(r.finite ? (r.max - r.min) / most : NAN);
	const rv_f16 m16 = rv_f32_to_f16(r.finite ? r.min : NAN);
	const float d = rv_f16_to_f32(d16), m = rv_f16_to_f32(m16);
	const float inverse = d > 0 && d < INFINITY && fabsf(m) < INFINITY ? 1 / d : 0;
	memcpy(dst, &d16, sizeof d16);
	memcpy(dst + 2, &m16, sizeof m16);
	for (int64_t i = 0; i < n; i += 8) {
		const int64_t part = up_to_eight(n - i);
		const uint64_t bytes = pack_bytes(codes_of(x + i, part, m, inverse, 0, most));
		const uint64_t packed = _pext_u64(bytes, mask);
		memcpy(dst + 4 + i * bits / 8, &packed, (size_t)(part * bits + 7) / 8);
	}
}

INLINE void store_codes(uint8_t *out, const float *src, int64_t head_dim, int bits) {
	for (int64_t i = 0; i < head_dim; i += RV_KV_GROUP) {
		const int64_t n = group_size(i, head_dim);
		store_group_codes(out, src + i, n, bits);
		out += 4 + n * bits / 8;
	}
}

void rv_kv_store_q4_avx2(void *dst, const float *src, int64_t head_dim) {
	store_codes(dst, src, head_dim, 4);
}

void rv_kv_store_q2_avx2(void *dst, const float *src, int64_t head_dim) {
	store_codes(dst, src, head_dim, 2);
}

/* ---- load: n <= 8 elements of a row from element i (a multiple of 8) on ---- */

INLINE __m256 decode_f32(const uint8_t *row, int64_t i, int64_t n) {
	const float *x = (const float *)(const void *)row + i;
	return n == 8 ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, lane_mask(n));
}
INLINE __m256 decode_f16(const uint8_t *row, int64_t i, int64_t n) {
	const rv_f16 *x = (const rv_f16 *)(const void *)row + i;
	return n == 8 ? _mm256_cvtph_ps(load_128(x)) : load_f16_tail(x, n);
}
INLINE __m256 decode_q8(const uint8_t *row, int64_t i, int64_t n) {
	const uint8_t *group = row + i / RV_KV_GROUP * (2 + RV_KV_GROUP);
	const uint8_t *codes = group + 2 + i % RV_KV_GROUP;
	uint64_t bytes = 0;
	if (n == 8)
		memcpy(&bytes, codes, 8);
	else
		memcpy(&bytes, codes, (size_t)n);
	const __m256i q = _mm256_cvtepi8_epi32(_mm_cvtsi64_si128((long long)bytes));
	return _mm256_mul_ps(splat_f16(group), _mm256_cvtepi32_ps(q));
}
INLINE __m256 decode_codes(const uint8_t *row, int64_t i, int64_t n, int bits) {
	const uint8_t *group = row + i / RV_KV_GROUP * (4 + RV_KV_GROUP * bits / 8);
	const uint8_t *codes = group + 4 + i % RV_KV_GROUP * bits / 8;
	uint32_t bytes = 0;
	if (n == 8)
		memcpy(&bytes, codes, (size_t)bits);
	else
		memcpy(&bytes, codes, (size_t)(n * bits + 7) / 8);
	const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
	const __m256i shifts = _mm256_mullo_epi32(lanes, _mm256_set1_epi32(bits));
	const __m256i q = _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32((int)bytes), shifts),
	                                   _mm256_set1_epi32((1 << bits) - 1));
	__m256 d, m;
	splat_f16_pair(&d, &m, group);
	return _mm256_add_ps(_mm256_mul_ps(d, _mm256_cvtepi32_ps(q)), m);
}
INLINE __m256 decode_q4(const uint8_t *row, int64_t i, int64_t n) {
	return decode_codes(row, i, n, 4);
}
INLINE __m256 decode_q2(const uint8_t *row, int64_t i, int64_t n) {
	return decode_codes(row, i, n, 2);
}

typedef __m256 decode_fn(const uint8_t *row, int64_t i, int64_t n);

INLINE void load_values(float *v, const void *src, size_t stride, int64_t n, int64_t head_dim,
                        decode_fn *decode) {
	const uint8_t *row = src;
	for (int64_t i = 0; i < n; i++, row += stride, v += head_dim) {
		int64_t d = 0;
		for (; d + 8 <= head_dim; d += 8)
			_mm256_storeu_ps(v + d, decode(row, d, 8));
		if (d < head_dim)
			_mm256_maskstore_ps(v + d, lane_mask(head_dim - d),
			                    decode(row, d, head_dim - d));
	}
}

/* r[i] lane j becomes r[j] lane i. */
INLINE void transpose(__m256 r[8]) {
	__m256 a[8], b[8];
	UNROLL
	for (int i = 0; i < 8; i += 2) {
		a[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
		a[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
	}
	UNROLL
	for (int i = 0; i < 8; i += 4) {
		b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
		b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
		b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
		b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
	}
	UNROLL
	for (int i = 0; i < 4; i++) {
		r[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
		r[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
	}
}

/* Columns [0, n_rows) of rows [d, d + n_dims) of kt. */
INLINE void transpose_part(float *kt, const uint8_t *rows, size_t stride, int64_t d, int64_t n_rows,
                           int64_t n_dims, decode_fn *decode) {
	__m256 r[8];
	for (int64_t i = 0; i < 8; i++)
		r[i] = i < n_rows ? decode(rows + (size_t)i * stride, d, n_dims) : _mm256_setzero_ps();
	transpose(r);
	for (int64_t i = 0; i < n_dims; i++)
		_mm256_maskstore_ps(kt + (d + i) * RV_ATTN_BLOCK, lane_mask(n_rows), r[i]);
}

INLINE void load_keys(float *kt, const void *src, size_t stride, int64_t n, int64_t head_dim,
                      decode_fn *decode) {
	for (int64_t i = 0; i < n; i += 8) {
		const uint8_t *rows = (const uint8_t *)src + (size_t)i * stride;
		const int64_t n_rows = up_to_eight(n - i);
		int64_t d = 0;
		for (; n_rows == 8 && d + 8 <= head_dim; d += 8) {
			__m256 r[8];
			UNROLL
			for (int j = 0; j < 8; j++)
				r[j] = decode(rows + (size_t)j * stride, d, 8);
			transpose(r);
			UNROLL
			for (int j = 0; j < 8; j++)
				_mm256_storeu_ps(kt + (d + j) * RV_ATTN_BLOCK + i, r[j]);
		}
		for (; d < head_dim; d += 8)
			transpose_part(kt + i, rows, stride, d, n_rows, up_to_eight(head_dim - d),
			               decode);
	}
}

#define RV_DEFINE_KV_LOADS(NAME, type)                                                                 \
	void rv_kv_load_keys_##type##_avx2(float *kt, const void *src, size_t stride, int64_t n,       \
	                                   int64_t head_dim) {                                         \
		load_keys(kt, src, stride, n, head_dim, decode_##type);                                \
	}                                                                                              \
	void rv_kv_load_values_##type##_avx2(float *v, const void *src, size_t stride, int64_t n,      \
	                                     int64_t head_dim) {                                       \
		load_values(v, src, stride, n, head_dim, decode_##type);                               \
	}
RV_EACH_KV(RV_DEFINE_KV_LOADS)
