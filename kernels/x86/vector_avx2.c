/* Kernels over one vector. A tail of fewer than 8 goes through the same operations under a mask, so an
 * element's value never depends on where in a vector it stands. */
#include "kernels/x86/simd_avx2.h"

void rv_add_avx2(float *y, const float *x, int64_t n) {
	int64_t i = 0;
	for (; i + 8 <= n; i += 8)
		_mm256_storeu_ps(y + i, _mm256_add_ps(_mm256_loadu_ps(y + i), _mm256_loadu_ps(x + i)));
	const __m256i mask = lane_mask(n - i);
	const __m256 sum =
	        _mm256_add_ps(_mm256_maskload_ps(y + i, mask), _mm256_maskload_ps(x + i, mask));
	_mm256_maskstore_ps(y + i, mask, sum);
}

/* ---- norms ---- */

INLINE __m256 add_eight(float *x, const float *r, __m256i mask, int masked) {
	if (!masked) {
		const __m256 v = _mm256_add_ps(_mm256_loadu_ps(x), _mm256_loadu_ps(r));
		_mm256_storeu_ps(x, v);
		return v;
	}
	const __m256 v = _mm256_add_ps(_mm256_maskload_ps(x, mask), _mm256_maskload_ps(r, mask));
	_mm256_maskstore_ps(x, mask, v);
	return v;
}

/* Sum of squares of x, after x += r when r is given. Element i goes to lane i % 32: accumulator
 * i / 8 % 4; then (a0 + a1) + (a2 + a3), then the lane tree. */
INLINE float sum_of_squares(float *x, const float *r, int64_t n) {
	__m256 acc[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(),
	                 _mm256_setzero_ps()};
	int64_t i = 0;
	for (; i + 32 <= n; i += 32) {
		UNROLL
		for (int j = 0; j < 4; j++) {
			float *p = x + i + 8 * j;
			const __m256 v = r ? add_eight(p, r + i + 8 * j, _mm256_setzero_si256(), 0)
			                   : _mm256_loadu_ps(p);
			acc[j] = _mm256_fmadd_ps(v, v, acc[j]);
		}
	}
	UNROLL
	for (int j = 0; j < 4; j++) {
		const int64_t from = i + 8 * j < n ? i + 8 * j : n;
		const __m256i mask = lane_mask(n - from);
		const __m256 v =
		        r ? add_eight(x + from, r + from, mask, 1) : _mm256_maskload_ps(x + from, mask);
		acc[j] = _mm256_fmadd_ps(v, v, acc[j]);
	}
	return sum_lanes(_mm256_add_ps(_mm256_add_ps(acc[0], acc[1]), _mm256_add_ps(acc[2], acc[3])));
}

INLINE void scale_by(float *y, const float *x, const float *w, int64_t n, float scale) {
	const __m256 s = _mm256_set1_ps(scale);
	int64_t i = 0;
	for (; i + 8 <= n; i += 8) {
		const __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x + i), s);
		_mm256_storeu_ps(y + i, _mm256_mul_ps(v, _mm256_loadu_ps(w + i)));
	}
	const __m256i mask = lane_mask(n - i);
	const __m256 v = _mm256_mul_ps(_mm256_maskload_ps(x + i, mask), s);
	_mm256_maskstore_ps(y + i, mask, _mm256_mul_ps(v, _mm256_maskload_ps(w + i, mask)));
}

static float norm_scale(float sum, int64_t n, float eps) {
	return 1.0f / sqrtf(sum / (float)n + eps);
}

void rv_rms_norm_avx2(float *y, const float *x, const float *w, int64_t n, float eps) {
	/* Without a second operand sum_of_squares only reads x. */
	const float sum = sum_of_squares((float *)(uintptr_t)x, NULL, n);
	scale_by(y, x, w, n, norm_scale(sum, n, eps));
}

void rv_add_rms_norm_avx2(float *y, float *x, const float *r, const float *w, int64_t n, float eps) {
	const float sum = sum_of_squares(x, r, n);
	scale_by(y, x, w, n, norm_scale(sum, n, eps));
}

/* ---- rotation ---- */

/* (a, b) := (a cos - b sin, b cos + a sin), the second product of each fused. */
INLINE void rotate_one(float *a, float *b, const float *cs) {
	const float x = *a, y = *b;
	*a = __builtin_fmaf(x, cs[0], -(y * cs[1]));
	*b = __builtin_fmaf(y, cs[0], x * cs[1]);
}

/* Eight (cos, sin) pairs to eight cosines and eight sines. */
INLINE void split_pairs(__m256 *cosine, __m256 *sine, const float *cs) {
	const __m256 lo = _mm256_loadu_ps(cs), hi = _mm256_loadu_ps(cs + 8);
	const __m256d c = _mm256_castps_pd(_mm256_shuffle_ps(lo, hi, 0x88));
	const __m256d s = _mm256_castps_pd(_mm256_shuffle_ps(lo, hi, 0xdd));
	*cosine = _mm256_castpd_ps(_mm256_permute4x64_pd(c, 0xd8));
	*sine = _mm256_castpd_ps(_mm256_permute4x64_pd(s, 0xd8));
}

static void rotate_halves(float *x, const float *cs, int64_t half) {
	int64_t i = 0;
	for (; i + 8 <= half; i += 8) {
		__m256 c, s;
		split_pairs(&c, &s, cs + 2 * i);
		const __m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(x + half + i);
		_mm256_storeu_ps(x + i, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)));
		_mm256_storeu_ps(x + half + i, _mm256_fmadd_ps(b, c, _mm256_mul_ps(a, s)));
	}
	for (; i < half; i++)
		rotate_one(x + i, x + half + i, cs + 2 * i);
}

static void rotate_neighbours(float *x, const float *cs, int64_t half) {
	int64_t i = 0;
	for (; i + 4 <= half; i += 4) {
		const __m256 pair = _mm256_loadu_ps(cs + 2 * i), v = _mm256_loadu_ps(x + 2 * i);
		const __m256 swapped = _mm256_permute_ps(v, 0xb1);
		const __m256 cross = _mm256_mul_ps(swapped, _mm256_movehdup_ps(pair));
		_mm256_storeu_ps(x + 2 * i, _mm256_fmaddsub_ps(v, _mm256_moveldup_ps(pair), cross));
	}
	for (; i < half; i++)
		rotate_one(x + 2 * i, x + 2 * i + 1, cs + 2 * i);
}

void rv_rope_avx2(float *x, const float *cs, int64_t n_heads, int64_t head_dim, int64_t n_rot,
                  int neox) {
	for (int64_t h = 0; h < n_heads; h++) {
		if (neox)
			rotate_halves(x + h * head_dim, cs, n_rot / 2);
		else
			rotate_neighbours(x + h * head_dim, cs, n_rot / 2);
	}
}

/* ---- gate ---- */

INLINE __m256 gated(__m256 gate, __m256 up) {
	const __m256 e = exp_256(_mm256_sub_ps(_mm256_setzero_ps(), gate));
	const __m256 silu = _mm256_div_ps(gate, _mm256_add_ps(e, _mm256_set1_ps(1.0f)));
	return _mm256_mul_ps(silu, up);
}

void rv_swiglu_avx2(float *y, const float *gate, const float *up, int64_t n) {
	int64_t i = 0;
	for (; i + 8 <= n; i += 8)
		_mm256_storeu_ps(y + i, gated(_mm256_loadu_ps(gate + i), _mm256_loadu_ps(up + i)));
	const __m256i mask = lane_mask(n - i);
	const __m256 g = _mm256_maskload_ps(gate + i, mask), u = _mm256_maskload_ps(up + i, mask);
	_mm256_maskstore_ps(y + i, mask, gated(g, u));
}

/* ---- softmax ---- */

/* -inf where the mask is off: neither in the maximum nor in the sum. */
INLINE __m256 load_or_minus_inf(const float *p, __m256i mask) {
	return _mm256_blendv_ps(_mm256_set1_ps(-INFINITY), _mm256_maskload_ps(p, mask),
	                        _mm256_castsi256_ps(mask));
}

/* The maximum leaves NaN out; such an element makes the sum NaN, and so every result. */
static float max_of(const float *x, int64_t n) {
	__m256 max = _mm256_set1_ps(-INFINITY);
	int64_t i = 0;
	for (; i + 8 <= n; i += 8)
		max = _mm256_max_ps(_mm256_loadu_ps(x + i), max);
	return max_lanes(_mm256_max_ps(load_or_minus_inf(x + i, lane_mask(n - i)), max));
}

/* Element i of the sum goes to lane i % 8, in double: a thousand equal terms would drift in float. */
typedef struct sum_8 {
	__m256d low, high;
} sum_8;

INLINE sum_8 add_to_sum(sum_8 s, __m256 x) {
	s.low = _mm256_add_pd(s.low, _mm256_cvtps_pd(_mm256_castps256_ps128(x)));
	s.high = _mm256_add_pd(s.high, _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)));
	return s;
}
INLINE float total_of(sum_8 s) {
	const __m256d four = _mm256_add_pd(s.low, s.high);
	const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
	return (float)_mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

void rv_softmax_avx2(float *x, int64_t n) {
	const float max = max_of(x, n);
	/* With nothing but -inf any finite base gives the zeros that are due. */
	const __m256 base = _mm256_set1_ps(max == -INFINITY ? 0.0f : max);
	sum_8 sum = {_mm256_setzero_pd(), _mm256_setzero_pd()};
	int64_t i = 0;
	for (; i + 8 <= n; i += 8) {
		const __m256 e = exp_256(_mm256_sub_ps(_mm256_loadu_ps(x + i), base));
		_mm256_storeu_ps(x + i, e);
		sum = add_to_sum(sum, e);
	}
	const __m256i mask = lane_mask(n - i);
	const __m256 e = exp_256(_mm256_sub_ps(load_or_minus_inf(x + i, mask), base));
	_mm256_maskstore_ps(x + i, mask, e);
	const float total = total_of(add_to_sum(sum, e));
	if (total == 0)
		return;
	const __m256 t = _mm256_set1_ps(total);
	for (i = 0; i + 8 <= n; i += 8)
		_mm256_storeu_ps(x + i, _mm256_div_ps(_mm256_loadu_ps(x + i), t));
	_mm256_maskstore_ps(x + i, mask, _mm256_div_ps(_mm256_maskload_ps(x + i, mask), t));
}
