/* Attention of queries to one block of keys, the body of a level's attn_block: include after
 * gemm_body.h and the 8-lane helpers of simd_avx2.h. A query's scores are summed in ascending
 * dimension, its values in ascending key order; the 64 exponentials go to lane j % 8 in ascending order
 * and then through the lane tree. */
/* Turns 64 scores, of which the first n count, into exponentials; the others become 0. */
INLINE void exponentials(float *p, int64_t n, float *max_out, float *sum_out) {
	const __m256 minus_inf = _mm256_set1_ps(-INFINITY);
	__m256 max = minus_inf, sum = _mm256_setzero_ps();
	int64_t j = 0;
	for (; j < n; j += 8) {
		const __m256 on = _mm256_castsi256_ps(lane_mask(n - j < 8 ? n - j : 8));
		const __m256 s = _mm256_blendv_ps(minus_inf, _mm256_loadu_ps(p + j), on);
		_mm256_storeu_ps(p + j, s);
		max = _mm256_max_ps(s, max); /* leaves NaN out; it reaches the sum below */
	}
	const float top = max_lanes(max);
	const __m256 base = _mm256_set1_ps(top == -INFINITY ? 0.0f : top);
	for (j = 0; j < n; j += 8) {
		const __m256 e = exp_256(_mm256_sub_ps(_mm256_loadu_ps(p + j), base));
		_mm256_storeu_ps(p + j, e);
		sum = _mm256_add_ps(sum, e);
	}
	*max_out = top;
	*sum_out = sum_lanes(sum);
}

/* o[i] = p[i] v over the keys query i sees. Queries share the keys all of them see; the rest is added
 * query by query, so that an unseen value (perhaps not finite) is never multiplied by a zero. */
static void weigh_values(float *o, const float *p, const float *v, const int32_t *n_keys, int64_t n_q,
                         int64_t head_dim) {
	int64_t shared = RV_ATTN_BLOCK;
	for (int64_t i = 0; i < n_q; i++)
		shared = n_keys[i] < shared ? n_keys[i] : shared;
	gemm_any(&(gemm_args){o, head_dim, p, RV_ATTN_BLOCK, v, head_dim, n_q, head_dim, shared, 0});
	for (int64_t i = 0; i < n_q; i++) {
		if (n_keys[i] > shared)
			gemm_any(&(gemm_args){o + i * head_dim, head_dim,
			                      p + i * RV_ATTN_BLOCK + shared, RV_ATTN_BLOCK,
			                      v + shared * head_dim, head_dim, 1, head_dim,
			                      n_keys[i] - shared, 1});
	}
}

void LEVEL_NAME(rv_attn_block)(float *o, float *max, float *sum, const float *q, const float *kt,
                               const float *v, const int32_t *n_keys, int64_t n_q, int64_t head_dim,
                               float *scratch) {
	enum { TILE = 6 }; /* queries a gemm tile holds */
	int64_t most = 0;
	for (int64_t i = 0; i < n_q; i++)
		most = n_keys[i] > most ? n_keys[i] : most;
	const int64_t columns = (most + 7) / 8 * 8;
	gemm_any(&(gemm_args){scratch, RV_ATTN_BLOCK, q, head_dim, kt, RV_ATTN_BLOCK, n_q, columns,
	                      head_dim, 0});
	for (int64_t i = 0; i < n_q; i++)
		exponentials(scratch + i * RV_ATTN_BLOCK, n_keys[i], max + i, sum + i);
	for (int64_t i = 0; i < n_q; i += TILE)
		weigh_values(o + i * head_dim, scratch + i * RV_ATTN_BLOCK, v, n_keys + i,
		             n_q - i < TILE ? n_q - i : TILE, head_dim);
}
