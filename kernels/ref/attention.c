/* Attention of queries to one block of keys, and the merge of blocks (online softmax). */
#include "kernels/kernels_internal.h"

#include <math.h>

/* Softmax of one query's scores, not divided by the sum; returns the maximum. */
static float exponentials(float *p, int64_t n, float *sum) {
	float max = -INFINITY;
	for (int64_t j = 0; j < n; j++) {
		max = isnan(p[j]) || p[j] > max ? p[j] : max;
	}
	double total = 0;
	for (int64_t j = 0; j < n; j++) {
		p[j] = (float)exp((double)(p[j] - max));
		total += (double)p[j];
	}
	*sum = (float)total;
	return max;
}

/* Weights of what is there and of what comes; one of them is 1. */
typedef struct factors {
	float left, right;
	int first; /* nothing was there: o is not to be read */
} factors;

/* (max, sum) := merge with (max2, sum2). */
static factors merge_sums(float *max, float *sum, float max2, float sum2) {
	float top = max2 > *max || isnan(max2) ? max2 : *max;
	factors f = {(float)exp((double)(*max - top)), (float)exp((double)(max2 - top)),
	             *max == -INFINITY && *sum == 0};
	*sum = *sum * f.left + sum2 * f.right;
	*max = top;
	return f;
}

static float merge_value(const float *o, float o2, const factors *f) {
	return f->first ? o2 * f->right : *o * f->left + o2 * f->right;
}

/* A block, decoded or as rows of f16. */
typedef struct block {
	const float *kt, *v;
	const rv_f16 *const *keys, *const *values;
	int64_t head_dim;
} block;

static float key_at(const block *b, int64_t j, int64_t d) {
	return b->keys ? rv_f16_to_f32(b->keys[j][d]) : b->kt[d * RV_ATTN_BLOCK + j];
}

static float value_at(const block *b, int64_t j, int64_t d) {
	return b->values ? rv_f16_to_f32(b->values[j][d]) : b->v[j * b->head_dim + d];
}

static void attend(float *o, float *max, float *sum, const float *q, const block *b, int64_t n) {
	float p[RV_ATTN_BLOCK], sum2;
	if (n == 0) {
		return;
	}
	for (int64_t j = 0; j < n; j++) {
		p[j] = 0;
		for (int64_t d = 0; d < b->head_dim; d++) {
			p[j] += q[d] * key_at(b, j, d);
		}
	}
	float max2 = exponentials(p, n, &sum2);
	factors f = merge_sums(max, sum, max2, sum2);
	for (int64_t d = 0; d < b->head_dim; d++) {
		float value = 0;
		for (int64_t j = 0; j < n; j++) {
			value += p[j] * value_at(b, j, d);
		}
		o[d] = merge_value(&o[d], value, &f);
	}
}

void rv_attn_block_ref(float *o, float *max, float *sum, const float *q, const float *kt,
                       const float *v, const int32_t *n_keys, int64_t n_q, int64_t head_dim) {
	const block b = {kt, v, NULL, NULL, head_dim};
	for (int64_t i = 0; i < n_q; i++, q += head_dim, o += head_dim) {
		attend(o, max + i, sum + i, q, &b, n_keys[i]);
	}
}

void rv_attn_rows_ref(float *o, float *max, float *sum, const float *q, const rv_f16 *const *keys,
                      const rv_f16 *const *values, const rv_f16 *const *next_keys,
                      const rv_f16 *const *next_values, const int32_t *n_keys, int64_t n_q,
                      int64_t head_dim) {
	const block b = {NULL, NULL, keys, values, head_dim};
	(void)next_keys;
	(void)next_values;
	for (int64_t i = 0; i < n_q; i++, q += head_dim, o += head_dim) {
		attend(o, max + i, sum + i, q, &b, n_keys[i]);
	}
}

void rv_attn_merge_ref(float *o, float *max, float *sum, const float *o2, const float *max2,
                       const float *sum2, int64_t n_q, int64_t head_dim) {
	for (int64_t i = 0; i < n_q; i++) {
		if (max2[i] == -INFINITY && sum2[i] == 0) { /* the block has no key for it */
			continue;
		}
		factors f = merge_sums(&max[i], &sum[i], max2[i], sum2[i]);
		for (int64_t d = i * head_dim; d < (i + 1) * head_dim; d++) {
			o[d] = merge_value(&o[d], o2[d], &f);
		}
	}
}

void rv_attn_finish_ref(float *o, const float *sum, int64_t n_q, int64_t head_dim) {
	for (int64_t i = 0; i < n_q; i++) {
		for (int64_t d = i * head_dim; d < (i + 1) * head_dim; d++) {
			o[d] = sum[i] == 0 ? 0 : o[d] / sum[i];
		}
	}
}
