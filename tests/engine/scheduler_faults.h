/* Calls of the context, wrapped by the linker: faults are injected, and the control is built, here. */
#ifndef RV_TESTS_ENGINE_SCHEDULER_FAULTS_H
#define RV_TESTS_ENGINE_SCHEDULER_FAULTS_H

#include "tests/engine/scheduler_kit.h"

#include <math.h>

static struct {
	rv_rng rng;
	int swap_rows; /* control: two decoding sequences get each other's token */
	int n_swapped;
	double no_pages;     /* how often a batch of several sequences finds no pages */
	int32_t poison;      /* a batch with this token fails as if a value were not finite; -1: none */
	const float *nan_of; /* logits that come out as NaN */
	int32_t nan_position; /* of the row whose logits are NaN; -1: none */
	int64_t nan_row;
	int cancels; /* so many calls are cancelled */
	int64_t n_evals, max_rows;
} fault = {.poison = -1, .nan_position = -1, .nan_row = -1};

static inline void no_faults(void) {
	memset(&fault, 0, sizeof fault);
	rv_rng_seed(&fault.rng, 5);
	fault.poison = fault.nan_position = -1;
	fault.nan_row = -1;
}

rv_status __real_rv_context_eval(rv_context *ctx, const rv_row *rows, int64_t n);
rv_status __wrap_rv_context_eval(rv_context *ctx, const rv_row *rows, int64_t n);
rv_status __wrap_rv_context_eval(rv_context *ctx, const rv_row *rows, int64_t n) {
	fault.n_evals++;
	fault.nan_row = -1;
	fault.max_rows = n > fault.max_rows ? n : fault.max_rows;
	if (fault.cancels > 0) {
		fault.cancels--;
		return rv_fail(RV_ERR_CANCELLED, "injected");
	}
	for (int64_t i = 0; i < n; i++) {
		if (rows[i].token == fault.poison)
			return rv_fail(RV_ERR_NUMERIC, "injected: row %lld", (long long)i);
		if (rows[i].position == fault.nan_position && rows[i].flags)
			fault.nan_row = i;
	}
	if (n > 1 && rows[0].seq != rows[n - 1].seq && rv_rng_double(&fault.rng) < fault.no_pages)
		return rv_fail(RV_ERR_LIMIT, "KV pages: injected");
	if (fault.swap_rows && n >= 2 && rows[0].flags && rows[1].flags && rows[0].seq != rows[1].seq &&
	    rows[0].token != rows[1].token) {
		rv_row wrong[512];
		memcpy(wrong, rows, (size_t)n * sizeof *rows);
		wrong[0].token = rows[1].token;
		wrong[1].token = rows[0].token;
		fault.n_swapped++;
		return __real_rv_context_eval(ctx, wrong, n);
	}
	return __real_rv_context_eval(ctx, rows, n);
}

const float *__real_rv_context_logits(const rv_context *ctx, int64_t row);
const float *__wrap_rv_context_logits(const rv_context *ctx, int64_t row);
const float *__wrap_rv_context_logits(const rv_context *ctx, int64_t row) {
	static float bad[320];
	if (row != fault.nan_row)
		return __real_rv_context_logits(ctx, row);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		bad[i] = NAN;
	return bad;
}

#endif
