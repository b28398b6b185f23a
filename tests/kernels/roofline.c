/* The loops below keep more independent chains than latency times issue width, all in registers; chains
 * start from different numbers, or the compiler would find them equal and keep one. */
#include "tests/kernels/roofline.h"

#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define ROUNDS 9
#define CHAINS 12
#define BYTE_CHAINS 8 /* AVX2: three instructions each, with a result in between */
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

/* ---- loops: a step is 256 bytes, or CHAINS vector operations ---- */

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

__attribute__((target("avx2,fma"))) static uint64_t f32_avx2(const void *data, int64_t n) {
	__m256 acc[CHAINS], x = _mm256_set1_ps(0.5f), y = _mm256_set1_ps(0.25f);
	(void)data;
	UNROLL
	for (int j = 0; j < CHAINS; j++)
		acc[j] = _mm256_set1_ps((float)(j + 1));
	for (int64_t i = 0; i < n; i++) {
		UNROLL
		for (int j = 0; j < CHAINS; j++)
			acc[j] = _mm256_fmadd_ps(acc[j], x, y);
	}
	UNROLL
	for (int j = 1; j < CHAINS; j++)
		acc[0] = _mm256_add_ps(acc[0], acc[j]);
	return (uint64_t)_mm256_cvtss_f32(acc[0]);
}

__attribute__((target("avx2"))) static uint64_t int8_avx2(const void *data, int64_t n) {
	__m256i acc[BYTE_CHAINS], x = _mm256_set1_epi8(3), y = _mm256_set1_epi16(1);
	(void)data;
	UNROLL
	for (int j = 0; j < BYTE_CHAINS; j++)
		acc[j] = _mm256_set1_epi32(j + 1);
	for (int64_t i = 0; i < n; i++) {
		UNROLL
		for (int j = 0; j < BYTE_CHAINS; j++) {
			const __m256i pairs = _mm256_maddubs_epi16(x, acc[j]);
			acc[j] = _mm256_add_epi32(acc[j], _mm256_madd_epi16(pairs, y));
		}
	}
	UNROLL
	for (int j = 1; j < BYTE_CHAINS; j++)
		acc[0] = _mm256_add_epi32(acc[0], acc[j]);
	return (uint64_t)_mm256_extract_epi64(acc[0], 0);
}

__attribute__((target("avx512f"))) static uint64_t f32_avx512(const void *data, int64_t n) {
	__m512 acc[CHAINS], x = _mm512_set1_ps(0.5f), y = _mm512_set1_ps(0.25f);
	(void)data;
	UNROLL
	for (int j = 0; j < CHAINS; j++)
		acc[j] = _mm512_set1_ps((float)(j + 1));
	for (int64_t i = 0; i < n; i++) {
		UNROLL
		for (int j = 0; j < CHAINS; j++)
			acc[j] = _mm512_fmadd_ps(acc[j], x, y);
	}
	UNROLL
	for (int j = 1; j < CHAINS; j++)
		acc[0] = _mm512_add_ps(acc[0], acc[j]);
	return (uint64_t)_mm512_reduce_add_ps(acc[0]);
}

__attribute__((target("avx512f,avx512vnni"))) static uint64_t int8_vnni(const void *data, int64_t n) {
	__m512i acc[CHAINS], x = _mm512_set1_epi32(0x03030303);
	(void)data;
	UNROLL
	for (int j = 0; j < CHAINS; j++)
		acc[j] = _mm512_set1_epi32(j + 1);
	for (int64_t i = 0; i < n; i++) {
		UNROLL
		for (int j = 0; j < CHAINS; j++)
			acc[j] = _mm512_dpbusd_epi32(acc[j], x, x);
	}
	UNROLL
	for (int j = 1; j < CHAINS; j++)
		acc[0] = _mm512_add_epi32(acc[0], acc[j]);
	return (uint64_t)_mm512_reduce_add_epi32(acc[0]);
}

#elif defined(__aarch64__)

static uint64_t f32_neon(const void *data, int64_t n) {
	float32x4_t acc[CHAINS], x = vdupq_n_f32(0.5f), y = vdupq_n_f32(0.25f);
	(void)data;
	UNROLL
	for (int j = 0; j < CHAINS; j++)
		acc[j] = vdupq_n_f32((float)(j + 1));
	for (int64_t i = 0; i < n; i++) {
		UNROLL
		for (int j = 0; j < CHAINS; j++)
			acc[j] = vfmaq_f32(acc[j], x, y);
	}
	UNROLL
	for (int j = 1; j < CHAINS; j++)
		acc[0] = vaddq_f32(acc[0], acc[j]);
	return (uint64_t)vaddvq_f32(acc[0]);
}

static uint64_t int8_neon(const void *data, int64_t n) {
	int32x4_t acc[CHAINS];
	int8x8_t x = vdup_n_s8(3);
	(void)data;
	UNROLL
	for (int j = 0; j < CHAINS; j++)
		acc[j] = vdupq_n_s32(j);
	for (int64_t i = 0; i < n; i++) {
		UNROLL
		for (int j = 0; j < CHAINS; j++) {
			const int8x8_t v = vreinterpret_s8_s32(vget_low_s32(acc[j]));
			acc[j] = vpadalq_s16(acc[j], vmull_s8(x, v));
		}
	}
	UNROLL
	for (int j = 1; j < CHAINS; j++)
		acc[0] = vaddq_s32(acc[0], acc[j]);
	return (uint64_t)vaddvq_s32(acc[0]);
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

/* One multiply and one add of each chain. */
static uint64_t multiply_add_scalar(const void *data, int64_t n) {
	float acc[CHAINS], x = 0.5f;
	(void)data;
	for (int j = 0; j < CHAINS; j++)
		acc[j] = (float)(j + 1);
	for (int64_t i = 0; i < n; i++) {
		UNROLL
		for (int j = 0; j < CHAINS; j++)
			acc[j] = acc[j] * x + x;
	}
	for (int j = 1; j < CHAINS; j++)
		acc[0] += acc[j];
	return (uint64_t)acc[0];
}

/* ---- choice by CPU ---- */

enum { PEAK_STEPS = 200000 };

static double peak(loop_fn *loop, int chains, int lanes) {
	return best_rate(loop, NULL, PEAK_STEPS, 1) * chains * lanes * 2;
}

double read_bandwidth(const void *buffer, size_t bytes) {
	loop_fn *loop = read_words;
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx2"))
		loop = read_avx2;
#endif
	const int64_t steps = (int64_t)(bytes / 256), repeat = 1 + (int64_t)((16 << 20) / bytes);
	return best_rate(loop, buffer, steps, repeat) * 256;
}

double f32_peak(void) {
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx512f"))
		return peak(f32_avx512, CHAINS, 16);
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		return peak(f32_avx2, CHAINS, 8);
#elif defined(__aarch64__)
	return peak(f32_neon, CHAINS, 4);
#endif
	return peak(multiply_add_scalar, CHAINS, 1);
}

double int8_peak(void) {
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx512vnni"))
		return peak(int8_vnni, CHAINS, 64);
	if (__builtin_cpu_supports("avx2"))
		return peak(int8_avx2, BYTE_CHAINS, 32);
#elif defined(__aarch64__)
	return peak(int8_neon, CHAINS, 8);
#endif
	return peak(multiply_add_scalar, CHAINS, 1);
}
