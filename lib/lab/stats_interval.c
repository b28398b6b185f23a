/* The interval of a median: bootstrap, and what dependence between samples adds to it. */
#include "base/mem.h"
#include "base/rng.h"
#include "lab/stats.h"

#include <gsl/gsl_sort.h>
#include <math.h>
#include <string.h>

/* Median of one resample, found from how often each rank was drawn: no sorting. */
static double resampled_median(const double *sorted, uint32_t *drawn, size_t n, rv_rng *rng) {
	memset(drawn, 0, n * sizeof *drawn);
	for (size_t i = 0; i < n; i++)
		drawn[rv_rng_below(rng, n)]++;
	size_t lower = (n - 1) / 2, upper = n / 2, seen = 0, rank = 0;
	while ((seen += drawn[rank]) <= lower)
		rank++;
	double low = sorted[rank];
	while (seen <= upper)
		seen += drawn[++rank];
	return 0.5 * (low + sorted[rank]);
}

rv_status rv_bootstrap_median(const double *sorted, size_t n, double level, int resamples,
                              uint64_t seed, double *lo, double *hi) {
	if (n < 1 || resamples < 1 || !(level > 0 && level < 1))
		return rv_fail(RV_ERR_INVALID, "bootstrap of %zu values, %d resamples, level %g", n,
		               resamples, level);
	double *medians = NULL;
	uint32_t *drawn = NULL;
	rv_status status = RV_ALLOC(&medians, resamples, "bootstrap medians");
	if (status == RV_OK)
		status = RV_ALLOC(&drawn, n, "bootstrap draws");
	if (status == RV_OK) {
		rv_rng rng;
		rv_rng_seed(&rng, seed);
		for (int b = 0; b < resamples; b++)
			medians[b] = resampled_median(sorted, drawn, n, &rng);
		gsl_sort(medians, 1, (size_t)resamples);
		*lo = rv_quantile(medians, (size_t)resamples, 0.5 * (1 - level));
		*hi = rv_quantile(medians, (size_t)resamples, 0.5 * (1 + level));
	}
	rv_free(drawn);
	rv_free(medians);
	return status;
}

/* ranks[i] of x[i], less the mean rank; equal values share the mean of theirs. */
static void centred_ranks(const double *x, const size_t *order, double *ranks, size_t n) {
	for (size_t begin = 0, end; begin < n; begin = end) {
		for (end = begin + 1; end < n && x[order[end]] == x[order[begin]];)
			end++;
		for (size_t i = begin; i < end; i++)
			ranks[order[i]] = 0.5 * ((double)begin + (double)end - (double)n);
	}
}

rv_status rv_dependence_widening(const double *x, size_t n, double *out) {
	*out = 1;
	if (n < RV_DEPENDENCE_SAMPLES)
		return RV_OK;
	size_t *order = NULL;
	double *ranks = NULL, products = 0, squares = 0;
	rv_status status = RV_ALLOC(&order, n, "ranks of samples");
	if (status == RV_OK)
		status = RV_ALLOC(&ranks, n, "ranks of samples");
	if (status == RV_OK) {
		gsl_sort_index(order, x, 1, n);
		centred_ranks(x, order, ranks, n);
		for (size_t i = 0; i < n; i++) {
			squares += ranks[i] * ranks[i];
			products += i > 0 ? ranks[i] * ranks[i - 1] : 0;
		}
		if (squares > 0) {
			double r = ((double)n * products / squares + 1) / ((double)n - 3);
			r = fmin(fmax(r, 0), 0.9);
			*out = sqrt((1 + r) / (1 - r));
		}
	}
	rv_free(ranks);
	rv_free(order);
	return status;
}
