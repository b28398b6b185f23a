#include "tests/kernels/roofline.h"

#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define ROUNDS 9
#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

int64_t thread_ns(void) {
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* A loop of n steps; returns something that depends on all of them. */
typedef uint64_t loop_fn(const void *data, int64_t n);

/* Steps per nanosecond, best of some rounds: what is asked is a ceiling. */
static double best_rate(loop_fn *loop, const void *data, int64_t n, int64_t repeat) {
	static volatile uint64_t sink;
	double best = 0;
	for (int i = 0; i < ROUNDS; i++) {
		const int64_t start = thread_ns();
		for (int64_t r = 0; r < repeat; r++)
			sink = sink + loop(data, n);
		const double rate = (double)(n * repeat) / (double)(thread_ns() - start);
		best = rate > best ? rate : best;
	}
	return best;
}

/* ---- loops: a step is 256 bytes ---- */

#if defined(__x86_64__)

__attribute__((target("avx2"))) static uint64_t read_avx2(const void *data, int64_t n) {
	const char *p = data;
	__m256i acc[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
	                  _mm256_setzero_si256()};
	for (int64_t i = 0; i < n; i++, p += 256) {
		UNROLL
		for (int j = 0; j < 4; j++)
			_mm_prefetch(p + 2048 + 64 * j, _MM_HINT_T0);
		UNROLL
		for (int j = 0; j < 8; j++)
			acc[j % 4] = _mm256_xor_si256(
			        acc[j % 4], _mm256_load_si256((const __m256i *)(const void *)p + j));
	}
	const __m256i all =
	        _mm256_xor_si256(_mm256_xor_si256(acc[0], acc[1]), _mm256_xor_si256(acc[2], acc[3]));
	return (uint64_t)_mm256_extract_epi64(all, 0);
}

#endif

static uint64_t read_words(const void *data, int64_t n) {
	const uint64_t *p = data;
	uint64_t acc[4] = {0};
	for (int64_t i = 0; i < n; i++, p += 32) {
		UNROLL
		for (int j = 0; j < 16; j++)
			acc[j % 4] ^= p[j] + p[j + 16];
	}
	return acc[0] ^ acc[1] ^ acc[2] ^ acc[3];
}

/* ---- choice by CPU ---- */

double read_bandwidth(const void *buffer, size_t bytes) {
	loop_fn *loop = read_words;
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx2"))
		loop = read_avx2;
#endif
	const int64_t steps = (int64_t)(bytes / 256), repeat = 1 + (int64_t)((16 << 20) / bytes);
	return best_rate(loop, buffer, steps, repeat) * 256;
}

double peak(rv_peak_kind kind) {
	enum { STEPS = 200000 };
	static volatile double sink;
	double best = 0;
	for (int l = 0; l < RV_LEVEL_COUNT; l++) {
		const rv_kernels *k = rv_kernels_for((rv_level)l);
		for (int i = 0; i < ROUNDS && rv_level_available((rv_level)l); i++) {
			const int64_t start = thread_ns();
			sink = k->peak[kind]->run(STEPS);
			const double ops = (double)k->peak[kind]->ops * STEPS;
			const double rate = ops / (double)(thread_ns() - start);
			best = rate > best ? rate : best;
		}
	}
	(void)sink;
	return best;
}
