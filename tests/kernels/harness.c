#include "tests/kernels/harness.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PATTERN 0xff
#define PAD_PATTERN 0xa5

const double row_tolerance[ROW_COUNT] = {
#define RV_KERNEL(name, params, shape, tolerance, ...) tolerance,
#include "kernels/kernels.def"
#undef RV_KERNEL
};

const int64_t vector_sizes[] = {0,  1,  2,  3,   7,   8,   9,   15,  16,  17,  31,  32,   33,  63,
                                64, 65, 96, 100, 127, 128, 129, 255, 256, 257, 896, 1029, 4099};
const int n_vector_sizes = sizeof vector_sizes / sizeof *vector_sizes;

/* ---- running ---- */

static sigjmp_buf escape;
static volatile sig_atomic_t running;

static void on_fault(int sig) {
	if (!running) {
		signal(sig, SIG_DFL);
		raise(sig);
		return;
	}
	siglongjmp(escape, sig);
}

int checker_init(checker *c, size_t margin) {
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	memset(c, 0, sizeof *c);
	c->margin = margin;
	for (int i = 0; i < SLOTS; i++) {
		unsigned char *p = mmap(NULL, SLOT_BYTES + 2 * page, PROT_NONE,
		                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (p == MAP_FAILED || mprotect(p + page, SLOT_BYTES, PROT_READ | PROT_WRITE)) {
			return -1;
		}
		c->slots[i].base = p + page;
	}
	static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
	struct sigaction act = {.sa_handler = on_fault, .sa_flags = SA_NODEFER};
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
		if (sigaction(faults[i], &act, NULL)) {
			return -1;
		}
	}
	return 0;
}

void checker_deinit(checker *c) {
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	for (int i = 0; i < SLOTS; i++) {
		munmap(c->slots[i].base - page, SLOT_BYTES + 2 * page);
	}
}

int checker_run(checker *c, const rv_kernels *k, check_fn *fn, int arg, uint64_t seed) {
	volatile int result;
	c->k = k;
	c->rng = seed;
	c->why[0] = 0;
	reset(c);
	int sig = sigsetjmp(escape, 1);
	if (sig) {
		running = 0;
		return fail(c, "touched memory outside its arrays, or another fault (signal %d)", sig);
	}
	running = 1;
	result = fn(c, arg);
	running = 0;
	return result;
}

int fail(checker *c, const char *format, ...) {
	va_list args;
	va_start(args, format);
	vsnprintf(c->why, sizeof c->why, format, args);
	va_end(args);
	return -1;
}

/* ---- random values ---- */

uint64_t next(checker *c) {
	uint64_t z = c->rng += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

int64_t below(checker *c, int64_t n) {
	return (int64_t)(next(c) % (uint64_t)n);
}

/* A sum of twelve uniforms: exact in any compiler's arithmetic, unlike one made with logarithms. */
float gauss(checker *c) {
	int64_t sum = 0;
	for (int i = 0; i < 12; i++) {
		sum += (int64_t)(next(c) >> 44);
	}
	return (float)(sum - 6 * (1 << 20)) * 0x1p-20f;
}

void fill(checker *c, float *x, int64_t n, kind how) {
	for (int64_t i = 0; i < n; i++) {
		float g = gauss(c);
		switch (how) {
		case KIND_SMALL:
			x[i] = g * 0x1p-20f;
			break;
		case KIND_ZEROS:
			x[i] = below(c, 4) ? 0 : g;
			break;
		case KIND_DENORMAL:
			x[i] = g * 0x1p-130f;
			break;
		case KIND_LARGE:
			x[i] = g * 0x1p40f;
			break;
		case KIND_EXTREMES:
			x[i] = g < 0 ? -1 : 1;
			break;
		case KIND_SPIKE:
			x[i] = i == n / 2 ? 1000 : g * 0.001f;
			break;
		default:
			x[i] = g;
		}
	}
}

/* ---- buffers ---- */

void reset(checker *c) {
	c->used = 0;
}

void *take(checker *c, size_t bytes, size_t align, int input) {
	slot *s = &c->slots[c->used++];
	size_t offset = (SLOT_BYTES - c->margin - bytes) & ~(align - 1);
	if (below(c, 4) == 0) {
		offset = c->margin; /* reads and writes before the start fault instead */
	}
	s->data = s->base + offset;
	s->bytes = bytes;
	s->input = input;
	size_t before = offset < PAD ? offset : PAD;
	size_t after = SLOT_BYTES - offset - bytes < PAD ? SLOT_BYTES - offset - bytes : PAD;
	memset(s->data - before, PAD_PATTERN, before);
	memset(s->data, PATTERN, bytes);
	memset(s->data + bytes, PAD_PATTERN, after);
	return s->data;
}

float *floats_in(checker *c, int64_t n, kind how) {
	float *x = take(c, (size_t)n * sizeof *x, sizeof *x, 1);
	fill(c, x, n, how);
	return x;
}

float *floats_out(checker *c, int64_t n) {
	return take(c, (size_t)n * sizeof(float), sizeof(float), 0);
}

static uint64_t checksum(const unsigned char *p, size_t n) {
	uint64_t h = 0xcbf29ce484222325u;
	for (size_t i = 0; i < n; i++) {
		h = (h ^ p[i]) * 0x100000001b3u;
	}
	return h;
}

void seal(checker *c) {
	for (int i = 0; i < c->used; i++) {
		slot *s = &c->slots[i];
		s->sum = s->input ? checksum(s->data, s->bytes) : 0;
	}
}

static int pad_intact(const unsigned char *p, size_t n) {
	int intact = 1;
	for (size_t i = 0; i < n; i++) {
		intact &= p[i] == PAD_PATTERN;
	}
	return intact;
}

int verify(checker *c, const char *what) {
	for (int i = 0; i < c->used; i++) {
		slot *s = &c->slots[i];
		size_t offset = (size_t)(s->data - s->base);
		size_t left = SLOT_BYTES - offset - s->bytes;
		size_t before = offset < PAD ? offset : PAD, after = left < PAD ? left : PAD;
		if (!pad_intact(s->data - before, before) || !pad_intact(s->data + s->bytes, after)) {
			return fail(c, "%s: wrote outside its output", what);
		}
		if (s->input && checksum(s->data, s->bytes) != s->sum) {
			return fail(c, "%s: changed its input", what);
		}
	}
	return 0;
}

/* ---- comparison ---- */

int near(checker *c, const char *what, const float *got, const float *want, int64_t n, double tol,
         double scale) {
	for (int64_t i = 0; i < n; i++) {
		double g = (double)got[i], w = (double)want[i];
		double bound = tol * (fabs(w) + scale) + (tol > 0 ? 1e-30 : 0);
		if (isnan(g) != isnan(w) || (!isnan(w) && g != w && !(fabs(g - w) <= bound))) {
			return fail(c, "%s: element %lld of %lld is %.9g, expected %.9g", what,
			            (long long)i, (long long)n, g, w);
		}
	}
	return 0;
}

int same(checker *c, const char *what, const void *got, const void *want, size_t bytes) {
	const unsigned char *g = got, *w = want;
	for (size_t i = 0; i < bytes; i++) {
		if (g[i] != w[i]) {
			return fail(c, "%s: differs in a bit at byte %zu of %zu", what, i, bytes);
		}
	}
	return 0;
}
