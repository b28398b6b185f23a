/* What this machine can do at best, measured on the same pinned threads as the experiment: the roof the
 * results are compared with. */
#ifndef RV_LAB_CALIBRATE_H
#define RV_LAB_CALIBRATE_H

#include "base/status.h"
#include "base/threads.h"
#include "kernels/kernels.h"

#include <stddef.h>

typedef struct rv_calibration {
	double read_gb_s; /* sequential read of a buffer far larger than the last cache, 1e9 bytes/s */
	double f32_gflop_s; /* fused multiply-add peak of f32, both operations counted */
	double int8_gop_s;  /* the same of 8-bit integers summed in 32 bits */
	size_t read_bytes;  /* size of that buffer */
	size_t cache_bytes; /* last-level cache by hwloc; 0: unknown */
	int n_threads;
	char threads[256]; /* rv_threads_report of the pool it was measured on */
} rv_calibration;

/* Takes about half a second. */
rv_status rv_calibrate(rv_calibration *out, rv_threads *threads);

/* Best bandwidth, in 1e9 bytes/s, of repeatedly reading the same `bytes` split over the threads for
 * at least `seconds`. With bytes below the cache size it is the cache that is measured: the roof of a
 * model that fits in it. */
rv_status rv_calibrate_read(rv_threads *threads, size_t bytes, double seconds, double *gb_s);

/* Best rate, in 1e9 operations/s (multiply and add counted each), of the peak loops of the kernel
 * tables on all threads at once. Of every level this CPU runs the fastest, whatever RV_CPU says: it is
 * the machine that is measured. */
rv_status rv_calibrate_peak(rv_threads *threads, rv_peak_kind kind, double *gop_s);

#endif
