#include "lab/stats.h"

#include "base/mem.h"

#include <gsl/gsl_sort.h>
#include <gsl/gsl_statistics_double.h>
#include <math.h>
#include <string.h>

rv_summary rv_summary_empty(void) {
	return (rv_summary){0, NAN, NAN, NAN, NAN, NAN, 1};
}

double rv_quantile(const double *sorted, size_t n, double q) {
	return gsl_stats_quantile_from_sorted_data(sorted, 1, n, q);
}

static rv_status check_finite(const double *x, size_t n) {
	for (size_t i = 0; i < n; i++)
		if (!isfinite(x[i]))
			return rv_fail(RV_ERR_NUMERIC, "sample %zu of %zu is %g", i, n, x[i]);
	return RV_OK;
}

static void widen(rv_summary *s, int as_ratio) {
	double *ends[] = {&s->lo95, &s->hi95};
	for (int i = 0; i < 2; i++)
		*ends[i] = as_ratio ? s->median * pow(*ends[i] / s->median, s->widening)
		                    : s->median + (*ends[i] - s->median) * s->widening;
}

rv_status rv_summarize(const double *x, size_t n, uint64_t seed, rv_summary *out) {
	rv_summary s = rv_summary_empty();
	RV_TRY(check_finite(x, n));
	if (n == 0) {
		*out = s;
		return RV_OK;
	}
	double *sorted = NULL;
	RV_TRY(RV_ALLOC(&sorted, n, "sorted samples"));
	memcpy(sorted, x, n * sizeof *sorted);
	gsl_sort(sorted, 1, n);
	s.n = (int64_t)n;
	s.median = gsl_stats_median_from_sorted_data(sorted, 1, n);
	s.mean = gsl_stats_mean(sorted, 1, n);
	if (n >= 2)
		s.sd = gsl_stats_sd_m(sorted, 1, n, s.mean);
	rv_status status = RV_OK;
	if (n >= 3)
		status = rv_bootstrap_median(sorted, n, 0.95, RV_BOOTSTRAP_RESAMPLES, seed, &s.lo95,
		                             &s.hi95);
	if (status == RV_OK)
		status = rv_dependence_widening(x, n, &s.widening);
	if (status == RV_OK && n >= 3)
		widen(&s, sorted[0] > 0);
	rv_free(sorted);
	if (status == RV_OK)
		*out = s;
	return status;
}

/* ---- outliers ---- */

#define MEAN_DEVIATION_SCALE 1.2533141373155001 /* sqrt(pi / 2): of a normal one to its sd */

/* What a sample's distance from the median is measured in; sorted is overwritten. */
static double robust_spread(double *sorted, size_t n, double median) {
	for (size_t i = 0; i < n; i++)
		sorted[i] = fabs(sorted[i] - median);
	gsl_sort(sorted, 1, n);
	double mad = gsl_stats_median_from_sorted_data(sorted, 1, n);
	/* 1 / 0.6745, the upper quartile of the normal distribution */
	return mad > 0 ? 1.4826022185056018 * mad : MEAN_DEVIATION_SCALE * gsl_stats_mean(sorted, 1, n);
}

rv_status rv_mark_outliers(const double *x, size_t n, uint8_t *marks, size_t *n_marked) {
	RV_TRY(check_finite(x, n));
	double median = 0, spread = INFINITY;
	if (n >= 3) {
		double *sorted = NULL;
		RV_TRY(RV_ALLOC(&sorted, n, "sorted samples"));
		memcpy(sorted, x, n * sizeof *sorted);
		gsl_sort(sorted, 1, n);
		median = gsl_stats_median_from_sorted_data(sorted, 1, n);
		spread = robust_spread(sorted, n, median);
		rv_free(sorted);
	}
	size_t count = 0;
	for (size_t i = 0; i < n; i++) {
		marks[i] = fabs(x[i] - median) > RV_OUTLIER_SCORE * spread;
		count += marks[i];
	}
	if (n_marked != NULL)
		*n_marked = count;
	return RV_OK;
}
