/* Attention of queries to one block of keys, and the merge of blocks: the body of a level's attn_block,
 * attn_merge and attn_finish. Include after gemm_body.h; the level's simd header names the vector.
 *
 * A query's scores are summed in ascending dimension, its values in ascending key order; exponential j
 * goes to lane j % VEC_LANES, in ascending order, and then through the lane tree. */

enum { ATTN_TILE = 6 }; /* queries that a gemm tile holds */

/* One tile of queries against the block. */
typedef struct attn_tile {
	float *o;
	const float *v;
	const int32_t *n_keys;
	int64_t head_dim, shared; /* keys that all queries with any key see */
	float p[ATTN_TILE * RV_ATTN_BLOCK];
	/* factors of what was there and of the block, by query; absent: nothing was there, or comes */
	float left[8], right[8];
	int left_absent[ATTN_TILE], right_absent[ATTN_TILE];
} attn_tile;

INLINE int is_absent(float max, float sum) {
	return max == -INFINITY && sum == 0;
}

/* Turns n scores into exponentials; those up to the next multiple of VEC_LANES become 0. A NaN shows in
 * the sum, and so in every result of the query. */
INLINE void exponentials(float *p, int64_t n, float *max_out, float *sum_out) {
	vec max = vec_set(-INFINITY), sum = vec_zero();
	for (int64_t j = 0; j < n; j += VEC_LANES) {
		const vec s = vec_or_minus_inf(vec_load(p + j), n - j);
		vec_store(p + j, s);
		max = vec_max(s, max);
	}
	const float top = vec_max_lane(max);
	const vec base = vec_set(top == -INFINITY ? 0.0f : top);
	for (int64_t j = 0; j < n; j += VEC_LANES) {
		const vec e = vec_exp(vec_sub(vec_load(p + j), base));
		vec_store(p + j, e);
		sum = vec_add(sum, e);
	}
	*max_out = top;
	*sum_out = vec_sum(sum);
}

/* The same of a whole block, which stays in registers. */
INLINE void exponentials_64(float *p, float *max_out, float *sum_out) {
	enum { N = RV_ATTN_BLOCK / VEC_LANES };
	vec s[N], max = vec_set(-INFINITY), sum = vec_zero();
	UNROLL
	for (int j = 0; j < N; j++) {
		s[j] = vec_load(p + j * VEC_LANES);
		max = vec_max(s[j], max);
	}
	const float top = vec_max_lane(max);
	const vec base = vec_set(top == -INFINITY ? 0.0f : top);
	UNROLL
	for (int j = 0; j < N; j++) {
		const vec e = vec_exp(vec_sub(s[j], base));
		vec_store(p + j * VEC_LANES, e);
		sum = vec_add(sum, e);
	}
	*max_out = top;
	*sum_out = vec_sum(sum);
}

/* (max, sum) := merge with (max2, sum2) of n <= 8 queries, and the factors of both sides. */
static void merge_sums(float *max, float *sum, const float *max2, const float *sum2, int64_t n,
                       float *left, float *right) {
	for (int64_t i = 0; i < 8; i++) {
		const int64_t k = i < n ? i : 0;
		const float top = max2[k] > max[k] ? max2[k] : max[k];
		const float base = top == -INFINITY ? 0.0f : top; /* no keys yet: factors are 0 */
		left[i] = max[k] - base;
		right[i] = max2[k] - base;
	}
	for (int64_t i = 0; i < 8; i += VEC_LANES) {
		vec_store_part(left + i, vec_first(8), vec_exp(vec_load_part(left + i, vec_first(8))));
		vec_store_part(right + i, vec_first(8),
		               vec_exp(vec_load_part(right + i, vec_first(8))));
	}
	for (int64_t i = 0; i < n; i++) {
		sum[i] = __builtin_fmaf(sum[i], left[i], sum2[i] * right[i]);
		max[i] = max2[i] > max[i] ? max2[i] : max[i];
	}
}

INLINE vec load_tile(const float *p, int masked, vec_mask mask) {
	return masked ? vec_load_part(p, mask) : vec_load(p);
}

/* o := left o + right p v, n_rows queries from the tile's first on, n_vecs vectors from dimension d on.
 * Queries share the keys that all of them see; the rest is added query by query, so that an unseen
 * value (perhaps not finite) is never multiplied by a zero. */
INLINE void weigh_tile(const attn_tile *t, int64_t d, int n_rows, int n_vecs, int masked,
                       vec_mask mask) {
	vec acc[ATTN_TILE][8];
	const float *v = t->v + d;
	UNROLL
	for (int i = 0; i < n_rows; i++) {
		UNROLL
		for (int c = 0; c < n_vecs; c++)
			acc[i][c] = vec_zero();
	}
	for (int64_t j = 0; j < t->shared; j++, v += t->head_dim) {
		vec row[8];
		UNROLL
		for (int c = 0; c < n_vecs; c++)
			row[c] = load_tile(v + VEC_LANES * c, masked, mask);
		UNROLL
		for (int i = 0; i < n_rows; i++) {
			const vec s = vec_splat(t->p + i * RV_ATTN_BLOCK + j);
			UNROLL
			for (int c = 0; c < n_vecs; c++)
				acc[i][c] = vec_fma(s, row[c], acc[i][c]);
		}
	}
	UNROLL
	for (int i = 0; i < n_rows; i++) {
		const float *own = v;
		for (int64_t j = t->shared; j < t->n_keys[i]; j++, own += t->head_dim) {
			const vec s = vec_splat(t->p + i * RV_ATTN_BLOCK + j);
			UNROLL
			for (int c = 0; c < n_vecs; c++)
				acc[i][c] = vec_fma(s, load_tile(own + VEC_LANES * c, masked, mask),
				                    acc[i][c]);
		}
	}
	UNROLL
	for (int i = 0; i < n_rows; i++) {
		const vec left = vec_set(t->left[i]), right = vec_set(t->right[i]);
		if (t->right_absent[i])
			continue;
		UNROLL
		for (int c = 0; c < n_vecs; c++) {
			float *p = t->o + i * t->head_dim + d + VEC_LANES * c;
			vec y = vec_mul(acc[i][c], right);
			if (!t->left_absent[i])
				y = vec_fma(load_tile(p, masked, mask), left, y);
			if (masked)
				vec_store_part(p, mask, y);
			else
				vec_store(p, y);
		}
	}
}

INLINE void weigh_rows(const attn_tile *t, int n_rows, int n_vecs) {
	const vec_mask none = vec_first(0);
	int64_t d = 0;
	for (; d + VEC_LANES * n_vecs <= t->head_dim; d += VEC_LANES * n_vecs)
		weigh_tile(t, d, n_rows, n_vecs, 0, none);
	for (; d + VEC_LANES <= t->head_dim; d += VEC_LANES)
		weigh_tile(t, d, n_rows, 1, 0, none);
	if (d < t->head_dim)
		weigh_tile(t, d, n_rows, 1, 1, vec_first(t->head_dim - d));
}

static void weigh(const attn_tile *t, int64_t n_rows) {
	switch (n_rows) {
	case 6:
		weigh_rows(t, 6, GEMM_VECS);
		break;
	case 5:
		weigh_rows(t, 5, GEMM_VECS);
		break;
	case 4:
		weigh_rows(t, 4, GEMM_VECS);
		break;
	case 3:
		weigh_rows(t, 3, 4);
		break;
	case 2:
		weigh_rows(t, 2, 4);
		break;
	default:
		weigh_rows(t, 1, 64 / VEC_LANES);
		break;
	}
}

/* n <= ATTN_TILE queries. */
static void attend_tile(attn_tile *t, float *max, float *sum, const float *q, const float *kt,
                        int64_t n) {
	float max2[ATTN_TILE], sum2[ATTN_TILE];
	int64_t most = 0;
	t->shared = RV_ATTN_BLOCK;
	for (int64_t i = 0; i < n; i++) {
		most = t->n_keys[i] > most ? t->n_keys[i] : most;
		t->shared = t->n_keys[i] > 0 && t->n_keys[i] < t->shared ? t->n_keys[i] : t->shared;
	}
	if (most == 0)
		return;
	const int64_t columns = (most + VEC_LANES - 1) / VEC_LANES * VEC_LANES;
	gemm_any(&(gemm_args){t->p, RV_ATTN_BLOCK, q, t->head_dim, kt, RV_ATTN_BLOCK, n, columns,
	                      t->head_dim, 0});
	for (int64_t i = 0; i < n; i++) {
		float *p = t->p + i * RV_ATTN_BLOCK;
		if (t->n_keys[i] == RV_ATTN_BLOCK)
			exponentials_64(p, max2 + i, sum2 + i);
		else
			exponentials(p, t->n_keys[i], max2 + i, sum2 + i);
		t->left_absent[i] = is_absent(max[i], sum[i]);
		t->right_absent[i] = is_absent(max2[i], sum2[i]);
	}
	merge_sums(max, sum, max2, sum2, n, t->left, t->right);
	weigh(t, n);
}

void LEVEL_NAME(rv_attn_block)(float *o, float *max, float *sum, const float *q, const float *kt,
                               const float *v, const int32_t *n_keys, int64_t n_q, int64_t head_dim) {
	attn_tile t;
	t.v = v;
	t.head_dim = head_dim;
	for (int64_t i = 0; i < n_q; i += ATTN_TILE) {
		t.o = o + i * head_dim;
		t.n_keys = n_keys + i;
		attend_tile(&t, max + i, sum + i, q + i * head_dim, kt,
		            n_q - i < ATTN_TILE ? n_q - i : ATTN_TILE);
	}
}

void LEVEL_NAME(rv_attn_merge)(float *o, float *max, float *sum, const float *o2, const float *max2,
                               const float *sum2, int64_t n_q, int64_t head_dim) {
	for (int64_t i = 0; i < n_q; i++, o += head_dim, o2 += head_dim) {
		float f[8], f2[8];
		const int left_absent = is_absent(max[i], sum[i]);
		if (is_absent(max2[i], sum2[i]))
			continue;
		merge_sums(max + i, sum + i, max2 + i, sum2 + i, 1, f, f2);
		const vec left = vec_set(f[0]), right = vec_set(f2[0]);
		for (int64_t d = 0; d < head_dim; d += VEC_LANES) {
			const vec_mask on =
			        vec_first(head_dim - d < VEC_LANES ? head_dim - d : VEC_LANES);
			vec y = vec_mul(vec_load_part(o2 + d, on), right);
			if (!left_absent)
				y = vec_fma(vec_load_part(o + d, on), left, y);
			vec_store_part(o + d, on, y);
		}
	}
}

void LEVEL_NAME(rv_attn_finish)(float *o, const float *sum, int64_t n_q, int64_t head_dim) {
	for (int64_t i = 0; i < n_q; i++, o += head_dim) {
		const vec s = vec_set(sum[i]);
		for (int64_t d = 0; d < head_dim; d += VEC_LANES) {
			const vec_mask on =
			        vec_first(head_dim - d < VEC_LANES ? head_dim - d : VEC_LANES);
			vec_store_part(o + d, on,
			               sum[i] == 0 ? vec_zero() : vec_div(vec_load_part(o + d, on), s));
		}
	}
}
