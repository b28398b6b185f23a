#include "lab/calibrate.h"

#include "base/mem.h"
#include "base/sysinfo.h"
#include "base/vm.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

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

/* ---- f32 multiply-add peak ---- */

#if defined(__x86_64__)
#define FMA_CHAINS 12 /* enough independent chains for two units of latency 4..5 */
#define FMA_TURNS 200000
#define FMA_OPS (2.0 * 8 * FMA_CHAINS * FMA_TURNS) /* operations of one call */

__attribute__((target("avx2,fma"))) static float fma_chains(float seed) {
	__m256 x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(seed);
	__m256 a0 = y, a1 = y, a2 = y, a3 = y, a4 = y, a5 = y, a6 = y, a7 = y, a8 = y, a9 = y, a10 = y,
	       a11 = y;
	for (int i = 0; i < FMA_TURNS; i++) {
		a0 = _mm256_fmadd_ps(a0, x, y);
		a1 = _mm256_fmadd_ps(a1, x, y);
		a2 = _mm256_fmadd_ps(a2, x, y);
		a3 = _mm256_fmadd_ps(a3, x, y);
		a4 = _mm256_fmadd_ps(a4, x, y);
		a5 = _mm256_fmadd_ps(a5, x, y);
		a6 = _mm256_fmadd_ps(a6, x, y);
		a7 = _mm256_fmadd_ps(a7, x, y);
		a8 = _mm256_fmadd_ps(a8, x, y);
		a9 = _mm256_fmadd_ps(a9, x, y);
		a10 = _mm256_fmadd_ps(a10, x, y);
		a11 = _mm256_fmadd_ps(a11, x, y);
		/* keeps the chains apart: the compiler may not fold equal ones */
		__asm__ volatile(""
		                 : "+x"(a0), "+x"(a1), "+x"(a2), "+x"(a3), "+x"(a4), "+x"(a5), "+x"(a6),
		                   "+x"(a7), "+x"(a8), "+x"(a9), "+x"(a10), "+x"(a11));
	}
	__m256 sum = a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7 + a8 + a9 + a10 + a11;
	return sum[0];
}

typedef struct fma_job {
	float results[RV_MAX_THREADS];
} fma_job;

static rv_status run_chains(void *arg, int64_t begin, int64_t end, int thread) {
	(void)thread;
	fma_job *job = arg;
	for (int64_t i = begin; i < end; i++)
		job->results[i] = fma_chains((float)(i + 1) * 1e-3f);
	return RV_OK;
}

static rv_status fma_peak(rv_threads *threads, double *gflop_s) {
	*gflop_s = NAN;
	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
		return RV_OK;
	fma_job *job = NULL;
	RV_TRY(RV_ALLOC(&job, 1, "calibration job"));
	int n = rv_threads_count(threads);
	double best = 0;
	rv_status status = RV_OK;
	for (int pass = 0; pass < 20 && status == RV_OK; pass++) {
		int64_t before = rv_now_ns();
		status = rv_threads_for(threads, n, 1, run_chains, job);
		double rate = FMA_OPS * n / (double)(rv_now_ns() - before);
		best = rate > best ? rate : best;
	}
	rv_free(job);
	if (status == RV_OK)
		*gflop_s = best;
	return status;
}
#else
static rv_status fma_peak(rv_threads *threads, double *gflop_s) {
	(void)threads;
	*gflop_s = NAN;
	return RV_OK;
}
#endif

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
	RV_TRY(fma_peak(threads, &c.f32_gflop_s));
	*out = c;
	return RV_OK;
}
