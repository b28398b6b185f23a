/* T15's learning, one result after the other: the stream, what the base knows, the yardsticks of a seed
 * (full fine-tuning and plain adaptation), and the arms beside them. */
#ifndef RV_LAB_SONA_BENCH_H
#define RV_LAB_SONA_BENCH_H

#include "lab/sona_arms.h"
#include "lab/sona_cosine.h"

typedef struct rv_sona_bench_size {
	rv_shift_sizes docs;
	int n_looks; /* while serving: 1..RV_SONA_LOOKS, a divisor of it */
} rv_sona_bench_size;

typedef struct rv_sona_scores {
	rv_shift_new held, tune; /* tune: all zero without such requests */
	rv_shift_old old;
} rv_sona_scores;

typedef struct rv_sona_learnt {
	rv_sona_scores end;
	double seconds; /* of training */
	int64_t n_steps;
	rv_sona_served served; /* of arms that serve */
} rv_sona_learnt;

typedef struct rv_sona_yardstick {
	uint64_t seed;
	rv_sona_learnt learnt[2]; /* plain, full */
} rv_sona_yardstick;

enum { RV_SONA_YARDSTICKS = 32 };
typedef struct rv_sona_bench {
	const rv_run_config *config;
	rv_model *model;
	int n_looks;
	rv_shift_stream stream;
	rv_shift_scorer scorer;
	rv_shift_fitter fitter;
	rv_sona_scores base;
	rv_sona_yardstick yardsticks[RV_SONA_YARDSTICKS];
	int n_yardsticks;
} rv_sona_bench;

/* `bench` is zeroed; close it after a failure too. */
rv_status rv_sona_bench_open(rv_sona_bench *bench, const rv_run_config *config, rv_model *model,
                             const rv_sona_bench_size *size);
void rv_sona_bench_close(rv_sona_bench *bench); /* accepts a zeroed one */

/* Those of a seed, made when first wanted. *out is borrowed. */
rv_status rv_sona_bench_yardstick(rv_sona_bench *bench, uint64_t seed, const rv_sona_yardstick **out);
/* By back-propagation: all weights, or LoRA; of the knobs lr 0 is the usual one. */
rv_status rv_sona_bench_fit(rv_sona_bench *bench, int full, const rv_sona_knobs *knobs,
                            rv_sona_learnt *out);
rv_status rv_sona_bench_serve(rv_sona_bench *bench, rv_sona_arm arm, const rv_sona_knobs *knobs,
                              rv_sona_learnt *out);

#endif
