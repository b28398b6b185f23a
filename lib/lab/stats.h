/* Statistics of repeated measurements: summary and a bootstrap interval of the median.
 * Pure functions; thread-safe. */
#ifndef RV_LAB_STATS_H
#define RV_LAB_STATS_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

/* Resamples of a bootstrap: the end points of a 95 % interval then move by less than a tenth of the
 * interval's width from seed to seed. */
#define RV_BOOTSTRAP_RESAMPLES 4000

typedef struct rv_summary {
	int64_t n;
	double median, mean;
	double sd;         /* sample standard deviation (n - 1); NaN for n < 2 */
	double lo95, hi95; /* bootstrap interval of the median; NaN for n < 3 */
} rv_summary;

/* Everything NaN, n 0: what a metric without samples has. */
rv_summary rv_summary_empty(void);

/* Summary of x[0..n); n 0 gives rv_summary_empty(). A sample that is NaN or infinite is RV_ERR_NUMERIC.
 * `seed` decides the resamples: same values in any order and same seed, same result. */
rv_status rv_summarize(const double *x, size_t n, uint64_t seed, rv_summary *out);

/* Percentile bootstrap (Efron 1979) of the median of `sorted` (ascending, n >= 1): the (1 - level) / 2
 * and (1 + level) / 2 quantiles of the medians of `resamples` draws with replacement. */
rv_status rv_bootstrap_median(const double *sorted, size_t n, double level, int resamples,
                              uint64_t seed, double *lo, double *hi);

/* Quantile q in [0, 1] of ascending values, linear between order statistics (n >= 1). */
double rv_quantile(const double *sorted, size_t n, double q);

#endif
