/* Attention of queries to one block of keys, and the merge of blocks: the body of a level's attn_block,
 * attn_rows, attn_merge and attn_finish. Include after gemm_body.h; the level's simd header names the
 * vector.
 *
 * A query's scores are summed in ascending dimension, its values in ascending key order; exponential j
 * goes to lane j % VEC_LANES, in ascending order, and then through the lane tree. */

#include <float.h>

enum {
	ATTN_TILE = 6,  /* queries that a gemm tile holds */
	HALF_KEYS = 16, /* keys that half_columns turns at once */
};

/* One tile of queries against the block: decoded (kt, v), or rows of f16 (keys, values). */
typedef struct attn_tile {
	float *o;
	const float *kt, *v;
	const rv_f16 *const *keys, *const *values;
	const rv_f16 *const *next_keys, *const *next_values; /* rows to be fetched; NULL: none */
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

enum { ATTN_VECS = RV_ATTN_BLOCK / VEC_LANES };

/* Scores from n on become -inf: in no maximum and, as exponents, in no sum. */
INLINE void mask_scores(float *p, int64_t n) {
	for (int64_t j = n / VEC_LANES * VEC_LANES; j < RV_ATTN_BLOCK; j += VEC_LANES)
		vec_store(p + j, n > j ? vec_or_minus_inf(vec_load(p + j), n - j) : vec_set(-INFINITY));
}

INLINE float greatest(const float *p) {
	vec max = vec_set(-INFINITY);
	UNROLL
	for (int j = 0; j < ATTN_VECS; j++)
		max = vec_max(vec_load(p + j * VEC_LANES), max);
	return vec_max_lane(max);
}

/* The scores of a query become exponentials; their sum, lane by lane. */
INLINE vec exponentials(float *p, float max) {
	const vec base = vec_set(max == -INFINITY ? 0.0f : max);
	vec sum = vec_zero();
	UNROLL
	for (int j = 0; j < ATTN_VECS; j++) {
		const vec e = vec_exp(vec_sub(vec_load(p + j * VEC_LANES), base));
		vec_store(p + j * VEC_LANES, e);
		sum = vec_add(sum, e);
	}
	return sum;
}

/* Of n <= ATTN_TILE queries: step by step for all of them, since each step waits long for its result. A
 * NaN shows in the sum, and so in every result of the query. */
static void softmax_rows(float *p, const int32_t *n_keys, int64_t n, float *max, float *sum) {
	vec lanes[ATTN_TILE];
	for (int64_t i = 0; i < n; i++)
		if (n_keys[i] < RV_ATTN_BLOCK)
			mask_scores(p + i * RV_ATTN_BLOCK, n_keys[i]);
	for (int64_t i = 0; i < n; i++)
		max[i] = greatest(p + i * RV_ATTN_BLOCK);
	for (int64_t i = 0; i < n; i++)
		lanes[i] = exponentials(p + i * RV_ATTN_BLOCK, max[i]);
	for (int64_t i = 0; i < n; i++)
		sum[i] = vec_sum(lanes[i]);
}

/* (max, sum) := merge with (max2, sum2) of n <= 8 queries, and the factors [8] of both sides. */
static void merge_sums(float *max, float *sum, const float *max2, const float *sum2, int64_t n,
                       float *left, float *right) {
	const vec least = vec_set(-FLT_MAX); /* for no keys yet: factors are 0 */
	for (int64_t i = 0; i < n; i += VEC_LANES) {
		const vec_mask on = vec_first(n - i < VEC_LANES ? n - i : VEC_LANES);
		const vec m = vec_load_part(max + i, on), m2 = vec_load_part(max2 + i, on);
		const vec s = vec_load_part(sum + i, on), s2 = vec_load_part(sum2 + i, on);
		const vec top = vec_max(m2, m), base = vec_max(least, top);
		const vec f = vec_exp(vec_sub(m, base)), f2 = vec_exp(vec_sub(m2, base));
		vec_store_part(left + i, on, f);
		vec_store_part(right + i, on, f2);
		vec_store_part(sum + i, on, vec_fma(s, f, vec_mul(s2, f2)));
		vec_store_part(max + i, on, top);
	}
}

INLINE vec load_tile(const float *p, int masked, vec_mask mask) {
	return masked ? vec_load_part(p, mask) : vec_load(p);
}

/* Elements of value j from dimension d on; rows of f16 are whole vectors. */
INLINE vec load_value(const attn_tile *t, int64_t j, int64_t d, int half, int masked, vec_mask mask) {
	return half ? vec_load_f16(t->values[j] + d)
	            : load_tile(t->v + j * t->head_dim + d, masked, mask);
}

/* Into the second level: the first has no room for two blocks. Row by row between the sums, since the
 * fetches that can be under way at once are few. */
INLINE void fetch_row(const rv_f16 *row, int64_t n) {
	for (int64_t i = 0; i < n; i += 64 / (int64_t)sizeof *row)
		__builtin_prefetch(row + i, 0, 2);
}

/* o := left o + right p v, n_rows queries from the tile's first on, n_vecs vectors from dimension d on.
 * Queries share the keys that all of them see; the rest is added query by query, so that an unseen
 * value (perhaps not finite) is never multiplied by a zero. */
INLINE void weigh_tile(const attn_tile *t, int64_t d, int n_rows, int n_vecs, int half, int masked,
                       vec_mask mask) {
	vec acc[ATTN_TILE][8];
	UNROLL
	for (int i = 0; i < n_rows; i++) {
		UNROLL
		for (int c = 0; c < n_vecs; c++)
			acc[i][c] = vec_zero();
	}
	const int fetch = half && d == 0 && t->next_keys;
	for (int64_t j = 0; j < t->shared; j++) {
		vec row[8];
		if (fetch) {
			fetch_row(t->next_keys[j], t->head_dim);
			fetch_row(t->next_values[j], t->head_dim);
		}
		UNROLL
		for (int c = 0; c < n_vecs; c++)
			row[c] = load_value(t, j, d + VEC_LANES * c, half, masked, mask);
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
		for (int64_t j = t->shared; j < t->n_keys[i]; j++) {
			const vec s = vec_splat(t->p + i * RV_ATTN_BLOCK + j);
			UNROLL
			for (int c = 0; c < n_vecs; c++)
				acc[i][c] = vec_fma(
				        s, load_value(t, j, d + VEC_LANES * c, half, masked, mask),
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

INLINE void weigh_rows(const attn_tile *t, int n_rows, int n_vecs, int half) {
	const vec_mask none = vec_first(0);
	int64_t d = 0;
	for (; d + VEC_LANES * n_vecs <= t->head_dim; d += VEC_LANES * n_vecs)
		weigh_tile(t, d, n_rows, n_vecs, half, 0, none);
	for (; d + VEC_LANES <= t->head_dim; d += VEC_LANES)
		weigh_tile(t, d, n_rows, 1, half, 0, none);
	if (d < t->head_dim)
		weigh_tile(t, d, n_rows, 1, 0, 1, vec_first(t->head_dim - d));
}

#define ATTN_EACH_TILE(ROWS)                                                                           \
	switch (n_rows) {                                                                              \
	case 6:                                                                                        \
		ROWS(6, GEMM_VECS);                                                                    \
		break;                                                                                 \
	case 5:                                                                                        \
		ROWS(5, GEMM_VECS);                                                                    \
		break;                                                                                 \
	case 4:                                                                                        \
		ROWS(4, GEMM_VECS);                                                                    \
		break;                                                                                 \
	case 3:                                                                                        \
		ROWS(3, 4);                                                                            \
		break;                                                                                 \
	case 2:                                                                                        \
		ROWS(2, 4);                                                                            \
		break;                                                                                 \
	default:                                                                                       \
		ROWS(1, 64 / VEC_LANES);                                                               \
		break;                                                                                 \
	}

static void weigh(const attn_tile *t, int64_t n_rows) {
#define DECODED(rows, vecs) weigh_rows(t, rows, vecs, 0)
	ATTN_EACH_TILE(DECODED)
#undef DECODED
}

static void weigh_halves(const attn_tile *t, int64_t n_rows){
#define HALVES(rows, vecs) weigh_rows(t, rows, vecs, 1)
        ATTN_EACH_TILE(HALVES)
#undef HALVES
}

/* Scores of n_rows queries and 16 n_groups keys, as gemm sums them. */
INLINE void score_tile(float *p, const float *q, const rv_f16 *const *keys, int64_t head_dim,
                       int n_rows, int n_groups) {
	enum { PARTS = HALF_KEYS / VEC_LANES };
	vec acc[ATTN_TILE][4 * PARTS];
	UNROLL
	for (int r = 0; r < n_rows; r++) {
		UNROLL
		for (int c = 0; c < n_groups * PARTS; c++)
			acc[r][c] = vec_zero();
	}
	for (int64_t d = 0; d < head_dim; d += 8) {
		UNROLL
		for (int g = 0; g < n_groups; g++) {
			half16 column[8];
			half_columns(keys + HALF_KEYS * g, d, column);
			UNROLL
			for (int i = 0; i < 8; i++) {
				vec k[PARTS];
				UNROLL
				for (int c = 0; c < PARTS; c++)
					k[c] = vec_widen(column[i], c);
				UNROLL
				for (int r = 0; r < n_rows; r++) {
					const vec s = vec_splat(q + r * head_dim + d + i);
					UNROLL
					for (int c = 0; c < PARTS; c++)
						acc[r][g * PARTS + c] =
						        vec_fma(s, k[c], acc[r][g * PARTS + c]);
				}
			}
		}
	}
	UNROLL
	for (int r = 0; r < n_rows; r++) {
		UNROLL
		for (int c = 0; c < n_groups * PARTS; c++)
			vec_store(p + r * RV_ATTN_BLOCK + c * VEC_LANES, acc[r][c]);
	}
}

/* n_keys: a multiple of HALF_KEYS. */
INLINE void score_rows(float *p, const float *q, const rv_f16 *const *keys, int64_t n_keys,
                       int64_t head_dim, int n_rows, int n_groups) {
	int64_t j = 0;
	for (; j + HALF_KEYS * n_groups <= n_keys; j += HALF_KEYS * n_groups)
		score_tile(p + j, q, keys + j, head_dim, n_rows, n_groups);
	for (; j < n_keys; j += HALF_KEYS)
		score_tile(p + j, q, keys + j, head_dim, n_rows, 1);
}

/* With 16 registers at most three queries at once leave room for the columns. */
static void score_halves(float *p, const float *q, const rv_f16 *const *keys, int64_t n_keys,
                         int64_t head_dim, int64_t n_rows) {
	enum { WIDE = VEC_REGISTERS / 16, MOST = 3 * WIDE };
	for (; n_rows > MOST; n_rows -= MOST, p += MOST * RV_ATTN_BLOCK, q += MOST * head_dim)
		score_rows(p, q, keys, n_keys, head_dim, MOST, 1);
	switch (n_rows) {
	case 6:
		score_rows(p, q, keys, n_keys, head_dim, WIDE > 1 ? 6 : 1, 1);
		break;
	case 5:
		score_rows(p, q, keys, n_keys, head_dim, WIDE > 1 ? 5 : 1, 1);
		break;
	case 4:
		score_rows(p, q, keys, n_keys, head_dim, WIDE > 1 ? 4 : 1, 1);
		break;
	case 3:
		score_rows(p, q, keys, n_keys, head_dim, 3, WIDE);
		break;
	case 2:
		score_rows(p, q, keys, n_keys, head_dim, 2, 2 * WIDE);
		break;
	default:
		score_rows(p, q, keys, n_keys, head_dim, 1, 2 * WIDE);
		break;
	}
}

/* n <= ATTN_TILE queries. */
static void attend_tile(attn_tile *t, float *max, float *sum, const float *q, int64_t n) {
	float max2[ATTN_TILE], sum2[ATTN_TILE];
	int64_t most = 0;
	t->shared = RV_ATTN_BLOCK;
	for (int64_t i = 0; i < n; i++) {
		most = t->n_keys[i] > most ? t->n_keys[i] : most;
		t->shared = t->n_keys[i] > 0 && t->n_keys[i] < t->shared ? t->n_keys[i] : t->shared;
	}
	if (most == 0)
		return;
	if (t->keys)
		score_halves(t->p, q, t->keys, (most + HALF_KEYS - 1) / HALF_KEYS * HALF_KEYS,
		             t->head_dim, n);
	else
		gemm_any(&(gemm_args){t->p, RV_ATTN_BLOCK, q, t->head_dim, t->kt, RV_ATTN_BLOCK, n,
		                      (most + VEC_LANES - 1) / VEC_LANES * VEC_LANES, t->head_dim, 0});
	softmax_rows(t->p, t->n_keys, n, max2, sum2);
	for (int64_t i = 0; i < n; i++) {
		t->left_absent[i] = is_absent(max[i], sum[i]);
		t->right_absent[i] = is_absent(max2[i], sum2[i]);
	}
	merge_sums(max, sum, max2, sum2, n, t->left, t->right);
	if (t->keys)
		weigh_halves(t, n);
	else
		weigh(t, n);
}

static void attend_tiles(attn_tile *t, float *o, float *max, float *sum, const float *q,
                         const int32_t *n_keys, int64_t n_q) {
	for (int64_t i = 0; i < n_q; i += ATTN_TILE) {
		t->o = o + i * t->head_dim;
		t->n_keys = n_keys + i;
		attend_tile(t, max + i, sum + i, q + i * t->head_dim,
		            n_q - i < ATTN_TILE ? n_q - i : ATTN_TILE);
	}
}

void LEVEL_NAME(rv_attn_block)(float *o, float *max, float *sum, const float *q, const float *kt,
                               const float *v, const int32_t *n_keys, int64_t n_q, int64_t head_dim) {
	attn_tile t;
	t.kt = kt;
	t.v = v;
	t.keys = t.values = t.next_keys = t.next_values = NULL;
	t.head_dim = head_dim;
	attend_tiles(&t, o, max, sum, q, n_keys, n_q);
}

void LEVEL_NAME(rv_attn_rows)(float *o, float *max, float *sum, const float *q,
                              const rv_f16 *const *keys, const rv_f16 *const *values,
                              const rv_f16 *const *next_keys, const rv_f16 *const *next_values,
                              const int32_t *n_keys, int64_t n_q, int64_t head_dim) {
	attn_tile t;
	t.kt = t.v = NULL;
	t.keys = keys;
	t.values = values;
	t.next_keys = next_keys;
	t.next_values = next_values;
	t.head_dim = head_dim;
	attend_tiles(&t, o, max, sum, q, n_keys, n_q);
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
