/* Attention of queries to one block of keys, and the merge of blocks (online softmax). */
#include "kernels/kernels_internal.h"

#include <math.h>
#include <string.h>

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

void rv_attn_block_ref(float *o, float *max, float *sum, const float *q, const float *kt,
                       const float *v, const int32_t *n_keys, int64_t n_q, int64_t head_dim,
                       float *scratch) {
	for (int64_t i = 0; i < n_q; i++) {
		float *p = scratch + i * RV_ATTN_BLOCK;
		int64_t n = n_keys[i];
		for (int64_t j = 0; j < n; j++) {
			float score = 0;
			for (int64_t d = 0; d < head_dim; d++) {
				score += q[i * head_dim + d] * kt[d * RV_ATTN_BLOCK + j];
			}
			p[j] = score;
		}
		max[i] = exponentials(p, n, &sum[i]);
		for (int64_t d = 0; d < head_dim; d++) {
			float value = 0;
			for (int64_t j = 0; j < n; j++) {
				value += p[j] * v[j * head_dim + d];
			}
			o[i * head_dim + d] = value;
		}
	}
}

void rv_attn_merge_ref(float *o, float *max, float *sum, const float *o2, const float *max2,
                       const float *sum2, int64_t n_q, int64_t head_dim) {
	for (int64_t i = 0; i < n_q; i++) {
		float top = max2[i] > max[i] ? max2[i] : max[i];
		if (top == -INFINITY) { /* neither side has a key */
			continue;
		}
		float left = (float)exp((double)(max[i] - top));
		float right = (float)exp((double)(max2[i] - top));
		for (int64_t d = 0; d < head_dim; d++) {
			o[i * head_dim + d] = o[i * head_dim + d] * left + o2[i * head_dim + d] * right;
		}
		sum[i] = sum[i] * left + sum2[i] * right;
		max[i] = top;
	}
}

void rv_attn_finish_ref(float *o, const float *sum, int64_t n_q, int64_t head_dim) {
	for (int64_t i = 0; i < n_q; i++) {
		for (int64_t d = 0; d < head_dim; d++) {
			o[i * head_dim + d] = sum[i] == 0 ? 0 : o[i * head_dim + d] / sum[i];
		}
	}
}
