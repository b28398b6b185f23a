/* The f32 product, attention of queries to a block of keys, and the merge of blocks. A query's scores
 * are summed in ascending dimension, its values in ascending key order; exponential j goes to lane j %
 * 8, in ascending order, and then through the lane tree. */
#include "kernels/arm/vec_neon.h"

#define GEMM_VECS 2 /* 6 x 2 accumulators of two registers, four of b, one of a: of 32 registers */
#include "kernels/common/gemm_body.h"

/* Turns n scores into exponentials; those up to the next multiple of 8 become 0. A NaN becomes the
 * maximum, and so every result of the query. */
static void exponentials(float *p, int64_t n, float *max_out, float *sum_out) {
	vec max = vec_set(-INFINITY), sum = vec_zero();
	for (int64_t j = 0; j < n; j += 8) {
		const vec s = vec_or_minus_inf(vec_load(p + j), n - j);
		vec_store(p + j, s);
		max = vec_max(max, s);
	}
	const float top = vec_max_lane(max);
	const vec base = vec_set(top == -INFINITY ? 0.0f : top);
	for (int64_t j = 0; j < n; j += 8) {
		const vec e = vec_exp(vec_sub(vec_load(p + j), base));
		vec_store(p + j, e);
		sum = vec_add(sum, e);
	}
	*max_out = top;
	*sum_out = vec_sum(sum);
}

enum { TILE = 6 }; /* queries a gemm tile holds */

/* o[i] = p[i] v over the keys query i sees, at most TILE queries. The keys all of them see are read
 * once; then each goes on alone, since an unseen value (perhaps not finite) times a zero would count.
 */
static void weigh_values(float *o, const float *p, const float *v, const int32_t *n_keys, int64_t n_q,
                         int64_t head_dim) {
	int64_t shared = RV_ATTN_BLOCK;
	for (int64_t i = 0; i < n_q; i++)
		shared = n_keys[i] < shared ? n_keys[i] : shared;
	gemm_args g = {o, head_dim, p, RV_ATTN_BLOCK, v, head_dim, n_q, head_dim, shared, 0};
	gemm_any(&g);
	for (int64_t i = 0; i < n_q; i++) {
		g.c = o + i * head_dim;
		g.a = p + i * RV_ATTN_BLOCK + shared;
		g.b = v + shared * head_dim;
		g.m = 1;
		g.k = n_keys[i] - shared;
		g.accumulate = 1;
		if (g.k > 0)
			gemm_any(&g);
	}
}

void rv_attn_block_neon(float *o, float *max, float *sum, const float *q, const float *kt,
                        const float *v, const int32_t *n_keys, int64_t n_q, int64_t head_dim,
                        float *scratch) {
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

INLINE float exp_one(float x) {
	return vgetq_lane_f32(exp_4(vdupq_n_f32(x)), 0);
}

void rv_attn_merge_neon(float *o, float *max, float *sum, const float *o2, const float *max2,
                        const float *sum2, int64_t n_q, int64_t head_dim) {
	for (int64_t i = 0; i < n_q; i++) {
		const float top = max2[i] > max[i] ? max2[i] : max[i];
		const float base = top == -INFINITY ? 0.0f : top; /* no keys yet: factors are 0 */
		const float left = exp_one(max[i] - base), right = exp_one(max2[i] - base);
		const vec f = vec_set(left), f2 = vec_set(right);
		float *to = o + i * head_dim;
		const float *from = o2 + i * head_dim;
		int64_t d = 0;
		for (; d + 8 <= head_dim; d += 8) {
			const vec x = vec_mul(vec_load(from + d), f2);
			vec_store(to + d, vec_fma(vec_load(to + d), f, x));
		}
		const int64_t rest = head_dim - d;
		const vec x = vec_mul(vec_load_part(from + d, rest), f2);
		vec_store_part(to + d, rest, vec_fma(vec_load_part(to + d, rest), f, x));
		sum[i] = __builtin_fmaf(sum[i], left, sum2[i] * right);
		max[i] = top;
	}
}

void rv_attn_finish_neon(float *o, const float *sum, int64_t n_q, int64_t head_dim) {
	for (int64_t i = 0; i < n_q; i++) {
		float *row = o + i * head_dim;
		int64_t d = 0;
		if (sum[i] == 0) {
			memset(row, 0, (size_t)head_dim * sizeof *row);
			continue;
		}
		const vec s = vec_set(sum[i]);
		for (; d + 8 <= head_dim; d += 8)
			vec_store(row + d, vec_div(vec_load(row + d), s));
		vec_store_part(row + d, head_dim - d, vec_div(vec_load_part(row + d, head_dim - d), s));
	}
}
