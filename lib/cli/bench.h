/* What `ruvltra bench` measures, and how it is printed. */
#ifndef RV_CLI_BENCH_H
#define RV_CLI_BENCH_H

#include "cli/cli.h"
#include "cli/cli_model.h"
#include "lab/stats.h"

/* n_prompt tokens at once, or n_gen one by one, after n_depth tokens that are not timed. One of
 * n_prompt and n_gen is 0. */
typedef struct rv_bench_test {
	int64_t n_prompt, n_gen, n_depth;
} rv_bench_test;

/* A model run in one way. */
typedef struct rv_bench_config {
	const char *path;
	rv_model *model;
	rv_context *ctx; /* NULL: could not be made */
	int64_t n_batch, n_threads;
	int backend, kv, attention;
	size_t anon_bytes; /* anonymous and shared memory a run of this alone takes */
} rv_bench_config;

/* One test of one config. Samples of repetition i: time of the test, time until the first token is
 * chosen; of generated token j of repetition i: tokens_ns[i * n_gen + j]. */
typedef struct rv_bench_row {
	rv_bench_config *config;
	rv_bench_test test;
	int n_done; /* repetitions measured; 0: the row failed */
	int failed;
	double *samples_ns, *first_ns, *tokens_ns;
	char started[32];
} rv_bench_row;

/* Room for `repetitions` (rv_bench_row_deinit frees it). */
rv_status rv_bench_row_init(rv_bench_row *row, rv_bench_config *config, rv_bench_test test,
                            int repetitions);
void rv_bench_row_deinit(rv_bench_row *row);

/* Brings the context's sequence to the test's depth, then runs the test once: as a whole and recorded
 * as the next repetition, or (warm_up) a prompt as a whole, else one token, not recorded. Tokens are
 * drawn from `seed`, the same each time. */
rv_status rv_bench_run(rv_bench_row *row, uint64_t seed, int warm_up);

/* ---- output ---- */

typedef enum rv_bench_format {
	RV_BENCH_MD,
	RV_BENCH_CSV,
	RV_BENCH_JSON,
	RV_BENCH_JSONL
} rv_bench_format;

typedef struct rv_bench_printer {
	rv_bench_format format;
	uint64_t seed;
	int n_printed;
} rv_bench_printer;

/* Prints the rows that were measured, and what ends the output. */
rv_status rv_bench_print(rv_bench_printer *p, const rv_bench_row *rows, int n_rows);
void rv_bench_print_end(const rv_bench_printer *p);

#endif
