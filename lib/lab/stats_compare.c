/* Comparison of two series: paired ratios, Mann-Whitney U. */
#include "base/mem.h"
#include "lab/stats.h"

#include <gsl/gsl_cdf.h>
#include <gsl/gsl_sort.h>
#include <math.h>
#include <string.h>

rv_status rv_paired_ratios(const double *a, const double *b, size_t n, uint64_t seed, rv_summary *out) {
	for (size_t i = 0; i < n; i++)
		if (!(a[i] > 0 && b[i] > 0 && isfinite(a[i]) && isfinite(b[i])))
			return rv_fail(RV_ERR_NUMERIC, "pair %zu of %zu is %g, %g", i, n, a[i], b[i]);
	double *ratios = NULL;
	if (n > 0)
		RV_TRY(RV_ALLOC(&ratios, n, "paired ratios"));
	for (size_t i = 0; i < n; i++)
		ratios[i] = a[i] / b[i];
	rv_status status = rv_summarize(ratios, n, seed, out);
	rv_free(ratios);
	return status;
}

/* ---- Mann-Whitney ---- */

/* Both series in one, ascending, with where each value came from. */
typedef struct pooled {
	double *values;
	double *first; /* 1: of the first series, 0: of the second */
	size_t n;
} pooled;

static void pooled_free(pooled *p) {
	rv_free(p->values);
	rv_free(p->first);
}

static rv_status pool_series(pooled *p, const double *a, size_t n_a, const double *b, size_t n_b) {
	p->n = n_a + n_b;
	RV_TRY(RV_ALLOC(&p->values, p->n, "pooled samples"));
	RV_TRY(RV_ALLOC(&p->first, p->n, "pooled samples"));
	memcpy(p->values, a, n_a * sizeof *a);
	memcpy(p->values + n_a, b, n_b * sizeof *b);
	for (size_t i = 0; i < p->n; i++) {
		if (!isfinite(p->values[i]))
			return rv_fail(RV_ERR_NUMERIC, "sample %zu of %zu is %g", i, p->n,
			               p->values[i]);
		p->first[i] = i < n_a;
	}
	gsl_sort2(p->values, 1, p->first, 1, p->n);
	return RV_OK;
}

/* U of the first series, and the sum of t^3 - t over groups of t equal values. */
static double count_u(const pooled *p, size_t n_a, double *ties) {
	double rank_sum = 0;
	*ties = 0;
	for (size_t begin = 0, end; begin < p->n; begin = end) {
		for (end = begin + 1; end < p->n && p->values[end] == p->values[begin];)
			end++;
		double t = (double)(end - begin), rank = 0.5 * (double)(begin + 1 + end);
		for (size_t i = begin; i < end; i++)
			rank_sum += p->first[i] * rank;
		*ties += t * t * t - t;
	}
	return rank_sum - 0.5 * (double)n_a * (double)(n_a + 1);
}

/* The number of arrangements with each U is a coefficient of the Gaussian binomial
 * (n_a + n_b choose n_a): the product of (1 - q^(n_b + i)) / (1 - q^i), i = 1..n_a. */
static rv_status exact_p(double u, size_t n_a, size_t n_b, double *p) {
	size_t size = n_a * n_b + 1;
	double *ways = NULL, below = 0, above = 0, all = 0;
	RV_TRY(RV_ALLOC(&ways, size, "Mann-Whitney counts"));
	memset(ways, 0, size * sizeof *ways);
	ways[0] = 1;
	for (size_t i = 1; i <= n_a; i++) {
		for (size_t k = size; k-- > n_b + i;)
			ways[k] -= ways[k - n_b - i];
		for (size_t k = i; k < size; k++)
			ways[k] += ways[k - i];
	}
	for (size_t k = 0; k < size; k++) {
		all += ways[k];
		below += (double)k <= u ? ways[k] : 0;
		above += (double)k >= u ? ways[k] : 0;
	}
	rv_free(ways);
	*p = fmin(1, 2 * fmin(below, above) / all);
	return RV_OK;
}

static double approximate_p(double u, double n_a, double n_b, double ties) {
	double n = n_a + n_b, pairs = n_a * n_b;
	double variance = pairs / 12 * (n + 1 - ties / (n * (n - 1)));
	double distance = fmax(0, fabs(u - 0.5 * pairs) - 0.5);
	return variance > 0 ? 2 * gsl_cdf_ugaussian_Q(distance / sqrt(variance)) : 1;
}

rv_status rv_mann_whitney_test(const double *a, size_t n_a, const double *b, size_t n_b,
                               rv_mann_whitney *out) {
	if (n_a == 0 || n_b == 0)
		return rv_fail(RV_ERR_INVALID, "Mann-Whitney test of %zu and %zu values", n_a, n_b);
	pooled p = {0};
	rv_mann_whitney r = {0};
	rv_status status = pool_series(&p, a, n_a, b, n_b);
	if (status == RV_OK) {
		double ties;
		r.u = count_u(&p, n_a, &ties);
		r.exact = ties == 0 && n_a <= RV_MANN_WHITNEY_EXACT && n_b <= RV_MANN_WHITNEY_EXACT;
		if (r.exact)
			status = exact_p(r.u, n_a, n_b, &r.p);
		else
			r.p = approximate_p(r.u, (double)n_a, (double)n_b, ties);
	}
	pooled_free(&p);
	if (status == RV_OK)
		*out = r;
	return status;
}
