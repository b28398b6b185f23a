/* Shared by the kernel checks: random values, guarded buffers, comparison, failure texts. A check runs
 * one subject of one table and returns 0, or -1 with the reason in c->why. It never prints, so that the
 * negative controls can run the same checks on broken tables. */
#ifndef RV_TESTS_KERNELS_HARNESS_H
#define RV_TESTS_KERNELS_HARNESS_H

#include "kernels/kernels_internal.h"

enum { SLOTS = 16, PAD = 256 };
#define SLOT_BYTES ((size_t)8 << 20)

/* A buffer between two unmapped pages. Its end (or start) touches one of them, and PAD bytes on the
 * other side hold a pattern that must survive. */
typedef struct slot {
	unsigned char *base; /* SLOT_BYTES between the unmapped pages */
	unsigned char *data;
	size_t bytes;
	int input;
	uint64_t sum; /* of an input, when sealed */
} slot;

typedef struct checker {
	const rv_kernels *k;
	uint64_t rng;
	slot slots[SLOTS];
	int used;
	size_t margin; /* 0; else readable bytes between a buffer and the unmapped pages */
	char why[256];
} checker;

typedef int check_fn(checker *c, int arg);

/* margin 0: arrays touch unmapped pages. Emulators that read whole vectors under a mask need PAD. */
int checker_init(checker *c, size_t margin);
void checker_deinit(checker *c);
/* Runs a check with a fresh reason and seed; a fault of the kernel counts as a failure. */
int checker_run(checker *c, const rv_kernels *k, check_fn *fn, int arg, uint64_t seed);
int fail(checker *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- random values ---- */
uint64_t next(checker *c);
int64_t below(checker *c, int64_t n); /* 0..n-1 */
float gauss(checker *c);

typedef enum kind {
	KIND_GAUSS,
	KIND_SMALL,
	KIND_ZEROS,
	KIND_DENORMAL,
	KIND_LARGE,
	KIND_EXTREMES, /* +-1, so that every code is +-127 */
	KIND_SPIKE,
	KIND_COUNT
} kind;
void fill(checker *c, float *x, int64_t n, kind how);

/* ---- buffers ---- */
void reset(checker *c); /* forgets all buffers */
/* bytes before an unmapped page where align allows, else just after one; filled with 0xff (as floats
 * and halves: NaN). */
void *take(checker *c, size_t bytes, size_t align, int input);
float *floats_in(checker *c, int64_t n, kind how);
float *floats_out(checker *c, int64_t n);
void seal(checker *c);                    /* before the call: inputs are what they are now */
int verify(checker *c, const char *what); /* after: pads and inputs unchanged */

/* ---- comparison ---- */
/* |got - want| <= tol * (|want| + scale) + 1e-30, NaN only where wanted. */
int near(checker *c, const char *what, const float *got, const float *want, int64_t n, double tol,
         double scale);
int same(checker *c, const char *what, const void *got, const void *want, size_t bytes);

/* ---- the subjects ---- */
#define RV_KERNEL(name, ...) check_fn check_##name;
#include "kernels/kernels.def"
#undef RV_KERNEL
check_fn check_kv;           /* arg: rv_kv_type */
check_fn check_kv_codes;     /* arg: rv_kv_format, one of the codes */
check_fn check_dequantize;   /* arg: rv_type */
check_fn check_quantize;     /* arg: rv_type */
check_fn check_quantize_act; /* arg: rv_act */
check_fn check_matmul;       /* arg: rv_type */
check_fn check_matmul_float; /* arg: rv_type */
check_fn check_known_blocks; /* no table needed */
check_fn check_conversions;
check_fn check_descriptions;
check_fn check_full_table;
check_fn check_peak;        /* arg: rv_peak_kind */
check_fn check_stored_bits; /* arg: rv_type; quantized bytes are the same on every machine */

/* The row's tolerance in kernels.def. */
enum {
#define RV_KERNEL(name, ...) ROW_##name,
#include "kernels/kernels.def"
#undef RV_KERNEL
	ROW_COUNT
};
extern const double row_tolerance[ROW_COUNT];

/* Sizes of the shape class VEC: empty, single, around every vector width, a model's. */
extern const int64_t vector_sizes[];
extern const int n_vector_sizes;

/* Whole rows of valid blocks of a type, k elements, no infinity or NaN. */
void random_weights(checker *c, rv_type type, void *row, int64_t k);

/* Broken kernels, each of which a check must catch. */
typedef struct control {
	const char *name;
	void (*break_table)(rv_kernels *k);
	check_fn *fn;
	int arg;
	const char *reason; /* part of the expected reason */
	int needs_guard;    /* cannot be caught with a margin */
} control;
extern const control controls[];
extern const int n_controls;

#endif
