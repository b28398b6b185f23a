/* Means with their standard errors, the covariance of two means, and percentiles.
 *
 * Values come one by one (Welford's update), so that no sum of squares cancels. A value may be
 * infinite: the mean is then infinite (NaN for both signs) and has no standard error. Pure;
 * thread-safe. */
#ifndef RV_EVAL_UNCERTAINTY_H
#define RV_EVAL_UNCERTAINTY_H

#include <stddef.h>
#include <stdint.h>

typedef struct rv_estimate {
	double value;
	double se; /* standard error; NaN where there is none: fewer than 2 values, infinite ones */
} rv_estimate;

/* Zeroed: no values yet. */
typedef struct rv_moments {
	int64_t n;
	double mean, squares; /* squares: sum of (x - mean)^2 */
	double infinite;      /* sum of the infinite values: 0 when there are none */
} rv_moments;

void rv_moments_add(rv_moments *m, double x);
/* Mean and sqrt(squares / (n (n - 1))): sqrt((E[x^2] - E[x]^2) / (n - 1)). NaN without values. */
rv_estimate rv_moments_mean(const rv_moments *m);

/* Two series side by side. */
typedef struct rv_co_moments {
	rv_moments a, b;
	double products; /* sum of (a - mean a)(b - mean b); NaN once a value was infinite */
} rv_co_moments;

void rv_co_moments_add(rv_co_moments *m, double a, double b);
/* Covariance of the two means: (E[ab] - E[a] E[b]) / (n - 1). */
double rv_co_moments_covariance(const rv_co_moments *m);
/* In [-1, 1] up to rounding, exactly 1 for equal series; NaN where a series does not vary. */
double rv_co_moments_correlation(const rv_co_moments *m);
/* mean a - mean b */
rv_estimate rv_co_moments_difference(const rv_co_moments *m);

/* Share k / n with sqrt(p (1 - p) / (n - 1)). */
rv_estimate rv_share(int64_t k, int64_t n);
/* Value at `fraction` (n - 1) of ascending values (n >= 1), linear between neighbours. */
double rv_percentile(const double *sorted, size_t n, double fraction);

#endif
