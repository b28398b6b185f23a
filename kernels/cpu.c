/* Feature levels and the CPU features behind them. Nothing is cached: the answers are pure functions
 * of the machine, and asking takes microseconds. */
#include "kernels/kernels.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

/* Features in the order in which they are printed. X86 rows: name, cpuid leaf (sub-leaf 0), register,
 * bit. ARM rows: name, auxiliary vector entry, bit. */
#define X86_FEATURES(X)                                                                                \
	X(SSE42, "sse4.2", 1, ECX, 20)                                                                 \
	X(AVX, "avx", 1, ECX, 28)                                                                      \
	X(FMA, "fma", 1, ECX, 12)                                                                      \
	X(F16C, "f16c", 1, ECX, 29)                                                                    \
	X(BMI2, "bmi2", 7, EBX, 8)                                                                     \
	X(AVX2, "avx2", 7, EBX, 5)                                                                     \
	X(AVX512F, "avx512f", 7, EBX, 16)                                                              \
	X(AVX512DQ, "avx512dq", 7, EBX, 17)                                                            \
	X(AVX512BW, "avx512bw", 7, EBX, 30)                                                            \
	X(AVX512VL, "avx512vl", 7, EBX, 31)                                                            \
	X(AVX512VNNI, "avx512vnni", 7, ECX, 11)
#define ARM_FEATURES(X)                                                                                \
	X(ASIMD, "asimd", AT_HWCAP, 1)                                                                 \
	X(DOTPROD, "dotprod", AT_HWCAP, 20)                                                            \
	X(I8MM, "i8mm", AT_HWCAP2, 13)

enum {
#define X(name, ...) HAS_##name,
#if defined(__x86_64__)
	X86_FEATURES(X)
#elif defined(__aarch64__)
	ARM_FEATURES(X)
#endif
#undef X
	        FEATURE_COUNT
};
#define BIT(name) (1u << HAS_##name)

static const char *const feature_names[FEATURE_COUNT + 1] = {
#define X(id, name, ...) name,
#if defined(__x86_64__)
        X86_FEATURES(X)
#elif defined(__aarch64__)
        ARM_FEATURES(X)
#endif
#undef X
                NULL,
};

#if defined(__x86_64__)

static uint32_t xcr0(void) {
	uint32_t low, high;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return low;
}

/* A feature counts only when the operating system saves its registers too. */
static uint32_t usable_features(void) {
	enum { EAX, EBX, ECX, EDX };
	uint32_t r[8][4] = {{0}};
	uint32_t found = 0;
	if (!__get_cpuid(1, &r[1][EAX], &r[1][EBX], &r[1][ECX], &r[1][EDX])) {
		return 0;
	}
	__get_cpuid_count(7, 0, &r[7][EAX], &r[7][EBX], &r[7][ECX], &r[7][EDX]);
#define X(id, name, leaf, reg, bit) found |= (r[leaf][reg] >> (bit)&1u) << HAS_##id;
	X86_FEATURES(X)
#undef X
	uint32_t saved = r[1][ECX] >> 27 & 1u ? xcr0() : 0; /* bit 27: OSXSAVE */
	uint32_t ymm = 0x06, zmm = 0xe6;
	if ((saved & ymm) != ymm) {
		found &= BIT(SSE42) | BIT(BMI2);
	}
	if ((saved & zmm) != zmm) {
		found &= ~(BIT(AVX512F) | BIT(AVX512DQ) | BIT(AVX512BW) | BIT(AVX512VL) |
		           BIT(AVX512VNNI));
	}
	return found;
}

#define NEEDS_AVX2 (BIT(AVX) | BIT(AVX2) | BIT(FMA) | BIT(F16C) | BIT(BMI2))
#define NEEDS_AVX512 (NEEDS_AVX2 | BIT(AVX512F) | BIT(AVX512BW) | BIT(AVX512DQ) | BIT(AVX512VL))
#define NEEDS_VNNI (NEEDS_AVX512 | BIT(AVX512VNNI))
#define NEEDS_REF 0u
#define NEEDS_NEON ~0u
#define NEEDS_DOTPROD ~0u
#define NEEDS_I8MM ~0u

#elif defined(__aarch64__)

static uint32_t usable_features(void) {
	uint32_t found = 0;
#define X(id, name, entry, bit) found |= ((uint32_t)(getauxval(entry) >> (bit)) & 1u) << HAS_##id;
	ARM_FEATURES(X)
#undef X
	return found;
}

#define NEEDS_REF 0u
#define NEEDS_NEON BIT(ASIMD)
#define NEEDS_DOTPROD (NEEDS_NEON | BIT(DOTPROD))
#define NEEDS_I8MM (NEEDS_DOTPROD | BIT(I8MM))
#define NEEDS_AVX2 ~0u
#define NEEDS_AVX512 ~0u
#define NEEDS_VNNI ~0u

#else

static uint32_t usable_features(void) {
	return 0;
}

#define NEEDS_REF 0u
#define NEEDS_AVX2 ~0u
#define NEEDS_AVX512 ~0u
#define NEEDS_VNNI ~0u
#define NEEDS_NEON ~0u
#define NEEDS_DOTPROD ~0u
#define NEEDS_I8MM ~0u

#endif

static const struct {
	const char *name;
	uint32_t needs; /* ~0: of another architecture */
} levels[RV_LEVEL_COUNT] = {
#define RV_LEVEL(id, text, arch) [RV_LEVEL_##id] = {text, NEEDS_##id},
#include "kernels/levels.def"
#undef RV_LEVEL
};

const char *rv_level_name(rv_level level) {
	return (unsigned)level < RV_LEVEL_COUNT ? levels[level].name : "unknown";
}

rv_level rv_level_by_name(const char *name) {
	for (int i = 0; name && i < RV_LEVEL_COUNT; i++) {
		if (strcasecmp(name, levels[i].name) == 0) {
			return (rv_level)i;
		}
	}
	return RV_LEVEL_COUNT;
}

int rv_level_available(rv_level level) {
	if ((unsigned)level >= RV_LEVEL_COUNT || !rv_kernels_for(level)) {
		return 0;
	}
	return (levels[level].needs & ~usable_features()) == 0;
}

rv_level rv_level_best(void) {
	int i = RV_LEVEL_COUNT - 1;
	while (i > RV_LEVEL_REF && !rv_level_available((rv_level)i)) {
		i--;
	}
	return (rv_level)i;
}

void rv_cpu_features(char *buf, size_t size) {
	uint32_t found = usable_features();
	size_t used = 0;
	if (size == 0) {
		return;
	}
	buf[0] = 0;
	for (int i = 0; i < FEATURE_COUNT; i++) {
		if (!(found >> i & 1u)) {
			continue;
		}
		int n = snprintf(buf + used, size - used, "%s%s", used ? " " : "", feature_names[i]);
		if (n < 0 || (size_t)n >= size - used) {
			buf[used] = 0; /* whole names only */
			return;
		}
		used += (size_t)n;
	}
}
