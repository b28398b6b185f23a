/* What the parts of bench_kernels share: data, a case, the session. */
#ifndef RV_TESTS_KERNELS_BENCH_H
#define RV_TESTS_KERNELS_BENCH_H

#include "kernels/kernels_internal.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof(a)[0]))

enum {
	MAX_BATCHES = 11,
	N_FLOATS = 1 << 20,       /* of each float array */
	WEIGHT_BYTES = 160 << 20, /* beyond any cache that holds a single matrix */
	PREFILL_TOKENS = 512,
	MAX_ROWS = 32
};

enum { N_MEMORY_LEVELS = 4 }; /* first, second and third cache, memory */
typedef struct machine {
	double bandwidth[N_MEMORY_LEVELS]; /* GB/s */
	double f32, int8;                  /* Gop/s */
} machine;

typedef struct data {
	float *f[6];
	uint8_t *weights;
	uint8_t *act;
	size_t next; /* offset of the matrix of the next call */
	uint64_t random;
	const void *rows[MAX_ROWS];
	int32_t n_keys[PREFILL_TOKENS];
} data;

typedef struct bench_case bench_case;
typedef void run_fn(const rv_kernels *k, const bench_case *c, data *d);

struct bench_case {
	char name[48], shape[48];
	run_fn *run;
	int64_t a, b, c; /* sizes, as the run function reads them */
	int type;        /* weight, activation or cache type */
	double bytes, ops;
	double footprint; /* bytes between two uses of the same byte; 0: `bytes` */
	int is_int8;
	const void *form[RV_LEVEL_COUNT]; /* the function a level lists */
};

typedef struct settings {
	const char *only;
	int level; /* or -1: all */
	int batches;
	int64_t batch_ns;
} settings;

typedef struct session {
	settings set;
	machine m;
	data d;
	int filled; /* type the weights hold, or -1 */
} session;

/* Times a case if it was asked for. */
void do_case(session *s, const bench_case *c);
int asked(const bench_case *c, const settings *s);
/* Fills the weights with blocks of a type, if the case was asked for and they are not there. */
void use_weights(session *s, const bench_case *c, const rv_type_info *t);

/* ---- bench_plain.c ---- */
void plain_kernels(session *s); /* those of kernels.def */

#define EACH_LEVEL_FORM(c, slot)                                                                       \
	for (int l = 0; l < RV_LEVEL_COUNT; l++) {                                                     \
		const rv_kernels *table = rv_kernels_for((rv_level)l);                                 \
		(c)->form[l] = table ? (const void *)(uintptr_t)table->slot : NULL;                    \
	}

#endif
