/* Likelihood as a quality: the mean probability of a model's own tokens says little by itself; what it
 * says is fitted to the requests that somebody rated: logit q = slope logit p + offset (Platt scaling),
 * by Newton's method on the cross-entropy, drawn towards slope 1, offset 0 while there are few. */
#include "learn/sona_internal.h"

#include <math.h>

static double logit(double p) {
	const double least = 1e-4;
	p = p < least ? least : p > 1 - least ? 1 - least : p;
	return log(p / (1 - p));
}

static double sigmoid(double x) {
	return 1 / (1 + exp(-x));
}

double rv_sona_calibrated(const rv_sona *s, double likelihood) {
	if (isnan(likelihood))
		return NAN;
	return sigmoid(s->state.slope * logit(likelihood) + s->state.offset);
}

void rv_sona_rated_pair(rv_sona *s, double likelihood, double quality) {
	if (isnan(likelihood) || isnan(quality))
		return;
	float *pair = s->rated[s->n_rated_pairs++ % RV_SONA_RATED];
	pair[0] = (float)likelihood;
	pair[1] = (float)quality;
}

void rv_sona_calibrate(rv_sona *s) {
	const double prior = 4; /* pairs that 1, 0 weighs */
	int64_t n = s->n_rated_pairs < RV_SONA_RATED ? s->n_rated_pairs : RV_SONA_RATED;
	double a = 1, b = 0;
	for (int round = 0; n > 0 && round < 20; round++) {
		double ga = prior * (a - 1), gb = prior * b, haa = prior, hab = 0, hbb = prior;
		for (int64_t i = 0; i < n; i++) {
			double x = logit((double)s->rated[i][0]), q = sigmoid(a * x + b);
			double d = q - (double)s->rated[i][1], w = q * (1 - q);
			ga += d * x;
			gb += d;
			haa += w * x * x;
			hab += w * x;
			hbb += w;
		}
		double det = haa * hbb - hab * hab;
		a -= (hbb * ga - hab * gb) / det;
		b -= (haa * gb - hab * ga) / det;
	}
	/* a higher probability never speaks against an answer */
	if (n > 0 && isfinite(a) && isfinite(b)) {
		s->state.slope = a > 0 ? a : 0;
		s->state.offset = b;
	}
}
