/* Adapters under load, for experiments: many of them in one batch, changed between tokens, and leaving
 * and returning in a pool they share with KV pages and a router. */
#ifndef RV_LAB_ADAPTER_BENCH_H
#define RV_LAB_ADAPTER_BENCH_H

#include "lab/experiment.h"
#include "model/adapter.h"
#include "model/site.h"

/* Random factors on a site of every layer, of the size training leaves; by the seed. */
rv_status rv_random_adapter(rv_adapter **out, const rv_model *model, rv_site site, int64_t rank,
                            uint64_t seed);
/* Numbers of such an adapter for a shape: of A, of B. */
void rv_adapter_numbers(const rv_arch *arch, const rv_hparams *hp, rv_site site, int64_t n_layers,
                        int64_t rank, int64_t *n_a, int64_t *n_b);

/* ---- many in one batch ---- */

typedef struct rv_adapter_batch rv_adapter_batch;

/* n_seqs sequences that decode together, and as many different adapters. */
rv_status rv_adapter_batch_create(rv_adapter_batch **out, const rv_run_config *config, rv_model *model,
                                  int32_t n_seqs, rv_site site, int64_t rank);
void rv_adapter_batch_destroy(rv_adapter_batch *b); /* accepts NULL */
/* Tokens a second of `steps` steps in which the sequences share n adapters evenly (0: none has one). */
rv_status rv_adapter_batch_run(rv_adapter_batch *b, int32_t n, int steps, double *tok_s);

/* ---- changed between tokens ---- */

typedef struct rv_swap_times {
	double swap_us[3];  /* the change itself: median, 95th, 99th percentile */
	double added_us[3]; /* the same percentiles of a token with a change minus those without */
	double token_us;    /* median without */
} rv_swap_times;
/* One sequence decodes; before every second token, by the seed's coin, its set changes from one adapter
 * to the other. */
rv_status rv_swap_measure(const rv_run_config *config, rv_model *model, rv_adapter *const adapters[2],
                          int n_tokens, rv_swap_times *out);

typedef struct rv_swap_load {
	int64_t n_requests, n_interrupted; /* ended; of them otherwise than by their last token */
	int64_t n_swaps;                   /* versions that were published meanwhile */
} rv_swap_load;
/* A scheduler under a closed loop of users for so many seconds while another thread publishes one
 * adapter after the other. */
rv_status rv_swap_under_load(const rv_run_config *config, rv_model *model,
                             rv_adapter *const adapters[2], double seconds, rv_swap_load *out);

/* ---- in a shared pool ---- */

typedef struct rv_pool_run {
	double hit_pct; /* of requests: their adapter was hot */
	double load_ms,
	        cold_ms; /* mean time to make one hot again; of those, that were cold. NaN: none */
	double tok_s;    /* requests' tokens, loading included */
	double peak_pct, use_pct;             /* of the budget: most used, mean after requests */
	int64_t n_evicted, n_refused, n_over; /* adapters that left; requests without room; pages beyond
	                                         the budget */
} rv_pool_run;
/* n_requests, each under one of the n adapter files (one in two under one of a quarter of them), a
 * prompt and an answer, with a router asked before each: KV pages, adapters and router of one pool of
 * `pages`. */
rv_status rv_pool_pressure(const rv_run_config *config, rv_model *model, const char *dir, int n,
                           size_t pages, int n_requests, rv_pool_run *out);
/* The files that asks for: n adapters in dir. */
rv_status rv_pool_files(const rv_model *model, const char *dir, int n, rv_site site, int64_t rank);

/* Bytes of the learning state of the variant coder: what is allocated at first, and 100 000 patterns as
 * SQ8 codes of 768. */
rv_status rv_learning_state(rv_model *model, size_t *bytes);

#endif
