/* Statistics of repeated measurements: summary, interval of the median (stats_interval.c), outliers,
 * and the comparison of two series (stats_compare.c). Pure functions; thread-safe. */
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
	double lo95, hi95; /* interval of the median; NaN for n < 3 */
	double widening;   /* of the interval, for samples that resemble the one before; 1: none */
} rv_summary;

/* Everything NaN, n 0: what a metric without samples has. */
rv_summary rv_summary_empty(void);

/* Summary of x[0..n), in the order of measurement; n 0 gives rv_summary_empty(). A sample that is NaN
 * or infinite is RV_ERR_NUMERIC. `seed` decides the resamples. The interval is rv_bootstrap_median's,
 * widened by rv_dependence_widening: resampling takes samples for independent, and those of a machine
 * that drifts are not. Ends move away from the median as ratios when all samples are positive, so that
 * they stay so, else as differences. */
rv_status rv_summarize(const double *x, size_t n, uint64_t seed, rv_summary *out);

/* Percentile bootstrap (Efron 1979) of the median of `sorted` (ascending, n >= 1): the (1 - level) / 2
 * and (1 + level) / 2 quantiles of the medians of `resamples` draws with replacement. */
rv_status rv_bootstrap_median(const double *sorted, size_t n, double level, int resamples,
                              uint64_t seed, double *lo, double *hi);

/* Fewer samples tell nothing of their dependence. */
#define RV_DEPENDENCE_SAMPLES 8

/* sqrt((1 + r) / (1 - r)), how much wider the interval of a mean of an AR(1) series is than that of
 * independent values; r is the first autocorrelation of the ranks, corrected for its bias (Marriott and
 * Pope 1954) and held in [0, 0.9]. x[0..n) is in order of measurement. 1 for n < RV_DEPENDENCE_SAMPLES.
 */
rv_status rv_dependence_widening(const double *x, size_t n, double *out);

/* Quantile q in [0, 1] of ascending values, linear between order statistics (n >= 1). */
double rv_quantile(const double *sorted, size_t n, double q);

/* Modified z-score beyond which a sample is marked (Iglewicz and Hoaglin 1993). */
#define RV_OUTLIER_SCORE 3.5

/* marks[i] = 1 where |x[i] - median| / (1.4826 MAD) > RV_OUTLIER_SCORE, else 0; *n_marked (may be NULL)
 * counts them. MAD is the median absolute deviation from the median, scaled as to estimate a normal
 * standard deviation; when more than half of the samples are equal it is 0, and 1.2533 times the mean
 * absolute deviation takes its place. A mark is for display: no summary leaves a sample out. Fewer than
 * 3 samples have no outliers. NaN or infinity is RV_ERR_NUMERIC. */
rv_status rv_mark_outliers(const double *x, size_t n, uint8_t *marks, size_t *n_marked);

/* ---- two series ---- */

/* Summary of the ratios a[i] / b[i] of measurements taken side by side: what slows both down at once
 * cancels. Both positive and finite, else RV_ERR_NUMERIC. */
rv_status rv_paired_ratios(const double *a, const double *b, size_t n, uint64_t seed, rv_summary *out);

/* Largest series whose p is counted out; the counts stay below 2^53. */
#define RV_MANN_WHITNEY_EXACT 25

typedef struct rv_mann_whitney {
	double u; /* pairs (i, j) with a[i] > b[j], equal ones counted half */
	double p; /* two-sided: how often chance alone parts equal populations at least as far */
	int exact;
} rv_mann_whitney;

/* Does one series tend to larger values than the other? p is exact when no value occurs twice and
 * neither series is longer than RV_MANN_WHITNEY_EXACT, else from the normal approximation with
 * corrections for ties and continuity; all values equal give 1. Empty series are RV_ERR_INVALID, NaN
 * and infinity RV_ERR_NUMERIC. */
rv_status rv_mann_whitney_test(const double *a, size_t n_a, const double *b, size_t n_b,
                               rv_mann_whitney *out);

#endif
