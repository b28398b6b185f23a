#include "lab/calibrate.h"

#include "base/mem.h"
#include "base/sysinfo.h"
#include "base/vm.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- read bandwidth ---- */

typedef uint64_t lane4 __attribute__((vector_size(32)));
#define READ_STEP (8 * sizeof(lane4)) /* bytes of one turn of the loop */
#define READ_SLICE ((size_t)64 << 10) /* bytes handed to the loop at once */

/* Adds up 64-bit words in eight accumulators that stay in registers (named one by one: an array of them
 * is kept in memory by gcc 12), so that loads and not additions are the limit. */
static inline __attribute__((always_inline)) uint64_t sum_words(const char *p, size_t bytes) {
	lane4 a0 = {0}, a1 = {0}, a2 = {0}, a3 = {0}, a4 = {0}, a5 = {0}, a6 = {0}, a7 = {0};
	for (size_t at = 0; at + READ_STEP <= bytes; at += READ_STEP) {
		const lane4 *v = (const lane4 *)(p + at);
		a0 += v[0];
		a1 += v[1];
		a2 += v[2];
		a3 += v[3];
		a4 += v[4];
		a5 += v[5];
		a6 += v[6];
		a7 += v[7];
	}
	lane4 sum = ((a0 + a1) + (a2 + a3)) + ((a4 + a5) + (a6 + a7));
	return sum[0] + sum[1] + sum[2] + sum[3];
}

static uint64_t sum_words_any(const char *p, size_t bytes) {
	return sum_words(p, bytes);
}
#if defined(__x86_64__)
__attribute__((target("avx2"))) static uint64_t sum_words_avx2(const char *p, size_t bytes) {
	return sum_words(p, bytes);
}
#endif

typedef uint64_t sum_fn(const char *p, size_t bytes);

static sum_fn *best_sum(void) {
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx2"))
		return sum_words_avx2;
#endif
	return sum_words_any;
}

typedef struct read_job {
	const char *data;
	size_t share; /* bytes of one thread, a multiple of READ_STEP */
	sum_fn *sum;
	uint64_t sums[RV_MAX_THREADS];
} read_job;

static rv_status read_shares(void *arg, int64_t begin, int64_t end, int thread) {
	(void)thread;
	read_job *job = arg;
	for (int64_t i = begin; i < end; i++)
		for (size_t at = 0; at < job->share; at += READ_SLICE) {
			size_t n = job->share - at < READ_SLICE ? job->share - at : READ_SLICE;
			job->sums[i] += job->sum(job->data + (size_t)i * job->share + at, n);
		}
	return RV_OK;
}

static rv_status fill_shares(void *arg, int64_t begin, int64_t end, int thread) {
	(void)thread;
	read_job *job = arg;
	memset((char *)(uintptr_t)job->data + (size_t)begin * job->share, 1,
	       (size_t)(end - begin) * job->share);
	return RV_OK;
}

#define MIN_PASSES 5

rv_status rv_calibrate_read(rv_threads *threads, size_t bytes, double seconds, double *gb_s) {
	int n_threads = rv_threads_count(threads);
	size_t share = bytes / (size_t)n_threads / READ_STEP * READ_STEP;
	if (share == 0)
		share = READ_STEP;
	size_t total = share * (size_t)n_threads;
	/* one timed pass is at least a megabyte, so that waking the threads does not count */
	int turns = (int)(((size_t)16 << 20) / total) + 1;
	void *data = NULL;
	read_job *job = NULL;
	rv_status status = rv_vm_alloc(&data, total, "calibration buffer");
	if (status == RV_OK)
		status = RV_ALLOC(&job, 1, "calibration job");
	double best = 0;
	if (status == RV_OK) {
		job->data = data;
		job->share = share;
		job->sum = best_sum();
		status = rv_threads_for(threads, n_threads, 1, fill_shares, job);
	}
	for (int64_t start = rv_now_ns(), n = 0; status == RV_OK; n++) {
		int64_t before = rv_now_ns();
		if (n >= MIN_PASSES && (double)(before - start) * 1e-9 > seconds)
			break;
		for (int t = 0; t < turns && status == RV_OK; t++)
			status = rv_threads_for(threads, n_threads, 1, read_shares, job);
		best = fmax(best, (double)total * turns / (double)(rv_now_ns() - before));
	}
	if (status == RV_OK)
		*gb_s = best;
	rv_free(job);
	rv_vm_free(data, total);
	return status;
}

/* ---- multiply-add peaks ---- */

#define PEAK_STEPS 200000 /* about a millisecond */
#define PEAK_PASSES 20

typedef struct peak_job {
	const rv_peak *peak;
	double sums[RV_MAX_THREADS]; /* kept, so that the loops are */
} peak_job;

static rv_status run_peak(void *arg, int64_t begin, int64_t end, int thread) {
	(void)thread;
	peak_job *job = arg;
	for (int64_t i = begin; i < end; i++)
		job->sums[i] = job->peak->run(PEAK_STEPS);
	return RV_OK;
}

rv_status rv_calibrate_peak(rv_threads *threads, rv_peak_kind kind, double *gop_s) {
	peak_job *job = NULL;
	RV_TRY(RV_ALLOC(&job, 1, "calibration job"));
	int n = rv_threads_count(threads);
	double best = 0;
	rv_status status = RV_OK;
	for (int l = 0; l < RV_LEVEL_COUNT; l++) {
		if (!rv_level_available((rv_level)l))
			continue;
		job->peak = rv_kernels_for((rv_level)l)->peak[kind];
		for (int pass = 0; pass < PEAK_PASSES && status == RV_OK; pass++) {
			int64_t before = rv_now_ns();
			status = rv_threads_for(threads, n, 1, run_peak, job);
			double ops = (double)job->peak->ops * PEAK_STEPS * n;
			best = fmax(best, ops / (double)(rv_now_ns() - before));
		}
	}
	rv_free(job);
	if (status == RV_OK)
		*gop_s = best;
	return status;
}

rv_status rv_calibrate(rv_calibration *out, rv_threads *threads) {
	rv_calibration c = {.n_threads = rv_threads_count(threads)};
	rv_sysinfo sys;
	rv_sysinfo_get(&sys);
	c.cache_bytes = sys.l3_bytes != 0 ? sys.l3_bytes : sys.l2_bytes;
	c.read_bytes = (size_t)256 << 20;
	if (c.read_bytes < 4 * c.cache_bytes)
		c.read_bytes = 4 * c.cache_bytes;
	if (sys.mem_available_bytes != 0 && c.read_bytes > sys.mem_available_bytes / 4)
		c.read_bytes = sys.mem_available_bytes / 4;
	snprintf(c.threads, sizeof c.threads, "%s", rv_threads_report(threads));
	RV_TRY(rv_calibrate_read(threads, c.read_bytes, 0.3, &c.read_gb_s));
	RV_TRY(rv_calibrate_peak(threads, RV_PEAK_F32, &c.f32_gflop_s));
	RV_TRY(rv_calibrate_peak(threads, RV_PEAK_INT8, &c.int8_gop_s));
	*out = c;
	return RV_OK;
}
