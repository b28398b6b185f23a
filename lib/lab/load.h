/* Load on a scheduler: requests of random lengths under a seed, from a number of users who each send
 * the next when the last was answered (closed loop), or as a Poisson process (open loop).
 *
 * Requests go on from one window of measurement to the next, so that each window sees the steady state;
 * between windows the load's clock stands still. In an open loop times count from when a request was
 * due, not from when the loop came to submit it. Lengths and tokens are those of the seed; in a closed
 * loop so is the order. */
#ifndef RV_LAB_LOAD_H
#define RV_LAB_LOAD_H

#include "engine/scheduler.h"

/* Log-normal: median * exp(sigma * N(0, 1)), rounded, in [1, most]. */
typedef struct rv_length_mix {
	double median, sigma;
	int64_t most;
} rv_length_mix;
int64_t rv_length_draw(const rv_length_mix *mix, rv_rng *rng);

typedef struct rv_load_options {
	int32_t n_users;              /* closed loop; open: most requests under way */
	double rate_per_s;            /* > 0: open loop */
	rv_length_mix prompt, answer; /* together at most n_ctx */
	uint64_t seed;
} rv_load_options;

typedef struct rv_load rv_load;

/* Closed: the users' first requests are submitted; their answers are cut to a uniform part, as of
 * requests found under way. RV_ERR_INVALID: no users, or lengths that do not fit the context. */
rv_status rv_load_create(rv_load **out, rv_scheduler *s, const rv_context *ctx,
                         const rv_load_options *options);
void rv_load_destroy(
        rv_load *load); /* accepts NULL; before the scheduler is: its requests are cancelled */

enum { RV_P50, RV_P95, RV_P99, RV_PERCENTILES };

typedef struct rv_load_window {
	double seconds; /* of the load's clock */
	int64_t n_steps, n_rows, n_tokens,
	        n_done;                 /* rows evaluated, tokens delivered, requests answered */
	double eval_s, sample_s;        /* of the seconds: evaluating, choosing tokens */
	double mean_running, mean_live; /* over steps: requests that hold a sequence; all */
	/* s; NaN: none in this window */
	double first[RV_PERCENTILES];  /* due to first token */
	double gap[RV_PERCENTILES];    /* from one token of a request to its next */
	double answer[RV_PERCENTILES]; /* due to last token */
} rv_load_window;

/* Steps for at least so many seconds and steps. RV_ERR_LIMIT when more than n_users requests would be
 * under way in an open loop; a request that fails is this call's failure. */
rv_status rv_load_run(rv_load *load, double at_least_s, int64_t at_least_steps, rv_load_window *out);
/* The request that user 0..n_users-1 of a closed loop waits for. */
rv_request_id rv_load_request(const rv_load *load, int32_t user);

#endif
