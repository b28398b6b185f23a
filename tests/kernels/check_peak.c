/* A peak loop must do the operations it counts: every product is 9, and all of them are in the sum. */
#include "tests/kernels/harness.h"

int check_peak(checker *c, int arg) {
	static const int64_t steps[] = {0, 1, 2, 7, 100, 1000};
	const rv_peak *peak = c->k->peak[arg];
	if (peak == NULL || peak->run == NULL || peak->ops < 2)
		return fail(c, "no peak loop");
	for (size_t i = 1; i < sizeof steps / sizeof *steps; i++) {
		double got = peak->run(steps[i]) - peak->run(0);
		double want = 9.0 * 0.5 * peak->ops * (double)steps[i];
		if (got != want)
			return fail(c, "%lld steps: products sum to %g, expected %g",
			            (long long)steps[i], got, want);
	}
	return 0;
}
