#include "eval/logits.h"

#include <math.h>

double rv_log_sum_exp(const float *x, int64_t n) {
	double max = -INFINITY, sum = 0;
	for (int64_t i = 0; i < n; i++)
		max = x[i] > max ? x[i] : max;
	for (int64_t i = 0; i < n; i++)
		sum += exp(x[i] - max);
	return max + log(sum);
}

double rv_kl_given_norms(const float *p, double p_norm, const float *q, double q_norm, int64_t n) {
	double kl = 0;
	for (int64_t i = 0; i < n; i++) {
		double log_p = p[i] - p_norm, log_q = q[i] - q_norm, probability = exp(log_p);
		if (probability > 0)
			kl += probability * (log_p - log_q);
	}
	return kl;
}
