/* The f32 product, attention of queries to a block of keys, and the merge of blocks. */
#include "kernels/x86/vec_avx2.h"

#define GEMM_VECS 2 /* 6 x 2 accumulators, two vectors of b, one of a: of 16 registers */
#include "kernels/common/gemm_body.h"

#include "kernels/x86/attention_body.h"

INLINE float exp_one(float x) {
	return _mm256_cvtss_f32(exp_256(_mm256_set1_ps(x)));
}

void rv_attn_merge_avx2(float *o, float *max, float *sum, const float *o2, const float *max2,
                        const float *sum2, int64_t n_q, int64_t head_dim) {
	for (int64_t i = 0; i < n_q; i++) {
		const float top = max2[i] > max[i] ? max2[i] : max[i];
		const float base = top == -INFINITY ? 0.0f : top; /* no keys yet: factors are 0 */
		const float left = exp_one(max[i] - base), right = exp_one(max2[i] - base);
		const __m256 f = _mm256_set1_ps(left), f2 = _mm256_set1_ps(right);
		float *to = o + i * head_dim;
		const float *from = o2 + i * head_dim;
		int64_t d = 0;
		for (; d + 8 <= head_dim; d += 8) {
			const __m256 x = _mm256_mul_ps(_mm256_loadu_ps(from + d), f2);
			_mm256_storeu_ps(to + d, _mm256_fmadd_ps(_mm256_loadu_ps(to + d), f, x));
		}
		const __m256i mask = lane_mask(head_dim - d);
		const __m256 x = _mm256_mul_ps(_mm256_maskload_ps(from + d, mask), f2);
		_mm256_maskstore_ps(to + d, mask,
		                    _mm256_fmadd_ps(_mm256_maskload_ps(to + d, mask), f, x));
		sum[i] = __builtin_fmaf(sum[i], left, sum2[i] * right);
		max[i] = top;
	}
}

void rv_attn_finish_avx2(float *o, const float *sum, int64_t n_q, int64_t head_dim) {
	for (int64_t i = 0; i < n_q; i++) {
		const __m256 s = _mm256_set1_ps(sum[i]);
		const __m256 keep = _mm256_cmp_ps(s, _mm256_setzero_ps(), _CMP_NEQ_UQ);
		float *row = o + i * head_dim;
		int64_t d = 0;
		for (; d + 8 <= head_dim; d += 8) {
			const __m256 x = _mm256_div_ps(_mm256_loadu_ps(row + d), s);
			_mm256_storeu_ps(row + d, _mm256_and_ps(x, keep));
		}
		const __m256i mask = lane_mask(head_dim - d);
		const __m256 x = _mm256_div_ps(_mm256_maskload_ps(row + d, mask), s);
		_mm256_maskstore_ps(row + d, mask, _mm256_and_ps(x, keep));
	}
}
