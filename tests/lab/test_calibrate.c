/* Calibration: what it says of this machine agrees with the same loops timed another way. */
#include "lab/calibrate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static int start_threads(void **state) {
	const rv_threads_options options = {1, 1};
	return rv_threads_create((rv_threads **)state, &options) == RV_OK ? 0 : -1;
}

static int stop_threads(void **state) {
	rv_threads_destroy(*state);
	return 0;
}

static double cpu_ns(void) {
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Best rate of one level's loop by the CPU time of this thread. */
static double timed_here(const rv_peak *peak) {
	enum { STEPS = 100000, PASSES = 30 };
	double best = 0, sum = 0;
	for (int i = 0; i < PASSES; i++) {
		double start = cpu_ns();
		sum += peak->run(STEPS);
		best = fmax(best, (double)peak->ops * STEPS / (cpu_ns() - start));
	}
	assert_true(sum > 0);
	return best;
}

static double best_of_levels(rv_peak_kind kind) {
	double best = 0;
	for (int l = 0; l < RV_LEVEL_COUNT; l++)
		if (rv_level_available((rv_level)l))
			best = fmax(best, timed_here(rv_kernels_for((rv_level)l)->peak[kind]));
	return best;
}

static int agrees(double a, double b) {
	return a > b / 1.3 && a < b * 1.3;
}

static void peaks(void **state) {
	for (int kind = 0; kind < RV_PEAK_COUNT; kind++) {
		double gop_s = 0, here = 0;
		/* other programs on the core slow one of the two down: some tries */
		for (int t = 0; t < 20 && !agrees(gop_s, here); t++) {
			assert_int_equal(rv_calibrate_peak(*state, (rv_peak_kind)kind, &gop_s), RV_OK);
			here = best_of_levels((rv_peak_kind)kind);
		}
		if (!agrees(gop_s, here))
			fail_msg("peak %d: %g Gop/s, timed apart %g", kind, gop_s, here);
		/* the comparison must notice a peak that counts a multiply-add once or four times */
		assert_false(agrees(gop_s, 0.5 * here));
		assert_false(agrees(gop_s, 2 * here));
	}
}

/* A buffer that fits the cache is read faster than one that does not, or as fast. */
static void reading(void **state) {
	double small = 0, large = 0;
	for (int t = 0; t < 5 && !(small > 0.8 * large); t++) {
		assert_int_equal(rv_calibrate_read(*state, (size_t)16 << 10, 0.02, &small), RV_OK);
		assert_int_equal(rv_calibrate_read(*state, (size_t)128 << 20, 0.05, &large), RV_OK);
	}
	assert_true(large > 0.05 && small > 0.8 * large);
}

static void whole(void **state) {
	rv_calibration c;
	memset(&c, 0, sizeof c);
	assert_int_equal(rv_calibrate(&c, *state), RV_OK);
	assert_true(isfinite(c.read_gb_s) && c.read_gb_s > 0);
	assert_true(isfinite(c.f32_gflop_s) && c.f32_gflop_s > 0);
	assert_true(isfinite(c.int8_gop_s) && c.int8_gop_s > 0);
	assert_true(c.read_bytes > 0 && c.n_threads == 1);
	assert_string_equal(c.threads, rv_threads_report(*state));
	print_message("read %.1f GB/s, f32 %.1f GFLOP/s, int8 %.1f Gop/s on one thread\n", c.read_gb_s,
	              c.f32_gflop_s, c.int8_gop_s);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(peaks),
	        cmocka_unit_test(reading),
	        cmocka_unit_test(whole),
	};
	return cmocka_run_group_tests(tests, start_threads, stop_threads);
}
