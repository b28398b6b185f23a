#include "eval/uncertainty.h"

#include <math.h>

void rv_moments_add(rv_moments *m, double x) {
	m->n++;
	if (!isfinite(x)) {
		m->infinite += x;
		return;
	}
	double old = m->mean;
	m->mean += (x - old) / (double)m->n;
	m->squares += (x - old) * (x - m->mean);
}

static double mean_of(const rv_moments *m) {
	if (m->n == 0)
		return NAN;
	return m->infinite == 0 ? m->mean : m->infinite;
}

/* Variance of the mean. */
static double variance(const rv_moments *m) {
	if (m->n < 2 || m->infinite != 0)
		return NAN;
	return m->squares / ((double)m->n * (double)(m->n - 1));
}

rv_estimate rv_moments_mean(const rv_moments *m) {
	return (rv_estimate){mean_of(m), sqrt(variance(m))};
}

void rv_co_moments_add(rv_co_moments *m, double a, double b) {
	double old = m->a.mean;
	rv_moments_add(&m->a, a);
	rv_moments_add(&m->b, b);
	m->products += isfinite(a) && isfinite(b) ? (a - old) * (b - m->b.mean) : NAN;
}

double rv_co_moments_covariance(const rv_co_moments *m) {
	return m->a.n < 2 ? NAN : m->products / ((double)m->a.n * (double)(m->a.n - 1));
}

double rv_co_moments_correlation(const rv_co_moments *m) {
	return rv_co_moments_covariance(m) / sqrt(variance(&m->a) * variance(&m->b));
}

rv_estimate rv_co_moments_difference(const rv_co_moments *m) {
	double v = variance(&m->a) + variance(&m->b) - 2 * rv_co_moments_covariance(m);
	return (rv_estimate){mean_of(&m->a) - mean_of(&m->b), v < 0 ? 0 : sqrt(v)};
}

rv_estimate rv_share(int64_t k, int64_t n) {
	double p = (double)k / (double)n;
	return (rv_estimate){p, n < 2 ? NAN : sqrt(p * (1 - p) / (double)(n - 1))};
}

double rv_percentile(const double *sorted, size_t n, double fraction) {
	double at = fraction * (double)(n - 1);
	size_t i = at <= 0 ? 0 : (size_t)at;
	if (i >= n - 1)
		return sorted[n - 1];
	double part = at - (double)i, low = sorted[i], high = sorted[i + 1];
	/* low (1 - part) + high part makes NaN of an infinity that has no share in it */
	return part <= 0 || low == high ? low : low * (1 - part) + high * part;
}
