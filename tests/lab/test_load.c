/* Load on a scheduler: its lengths, its clock, and that a closed loop repeats itself. */
#include "lab/load.h"
#include "tests/support/tiny_model.h"

#include <math.h>
#include <time.h>

static rv_model *model;

typedef struct rig {
	rv_context *ctx;
	rv_scheduler *s;
	rv_load *load;
} rig;

static rig open_rig(int32_t n_seqs, const rv_load_options *options) {
	rig r;
	rv_context_options o = rv_context_defaults();
	o.n_ctx = 64;
	o.n_seqs = n_seqs;
	o.n_batch = 32;
	o.n_threads = 1;
	o.pin = 0;
	assert_ok(rv_context_create(&r.ctx, model, &o));
	assert_ok(rv_scheduler_create(&r.s, r.ctx, NULL));
	assert_ok(rv_load_create(&r.load, r.s, r.ctx, options));
	return r;
}

static void close_rig(rig *r) {
	rv_scheduler_stats stats;
	rv_load_destroy(r->load);
	rv_scheduler_get_stats(r->s, &stats);
	assert_int_equal(stats.n_running + stats.n_waiting, 0);
	rv_scheduler_destroy(r->s);
	rv_context_destroy(r->ctx);
}

static void lengths(void **state) {
	(void)state;
	enum { N = 4000 };
	rv_length_mix mix = {20, 0.7, 60};
	rv_rng rng;
	int below = 0, at_most = 0;
	double sum = 0;
	rv_rng_seed(&rng, 1);
	for (int i = 0; i < N; i++) {
		int64_t n = rv_length_draw(&mix, &rng);
		assert_in_range(n, 1, 60);
		below += n < 20;
		at_most += n == 60;
		sum += log((double)n);
	}
	assert_in_range(below, N * 44 / 100, N * 52 / 100);
	assert_in_range(at_most, N * 4 / 100, N * 8 / 100); /* ln 3 / 0.7 = 1.57 sd */
	assert_true(fabs(sum / N - log(20)) < 0.08);
	mix.sigma = 0;
	assert_int_equal(rv_length_draw(&mix, &rng), 20);
	mix.median = 0.1;
	assert_int_equal(rv_length_draw(&mix, &rng), 1);
}

static const rv_load_options five = {
        .n_users = 5, .prompt = {8, 0.5, 30}, .answer = {6, 0.5, 20}, .seed = 3};

static void a_closed_loop(void **state) {
	(void)state;
	rv_load_window first[4], w;
	for (int run = 0; run < 2; run++) {
		rig r = open_rig(3, &five);
		for (int i = 0; i < 4; i++) {
			assert_ok(rv_load_run(r.load, 0, 25, &w));
			assert_int_equal(w.n_steps, 25);
			assert_true(w.mean_live == 5);
			assert_true(w.mean_running <= 3 && w.mean_running > 1.5);
			assert_true(w.n_tokens > 25 && w.n_rows > w.n_tokens);
			assert_true(w.n_done > 0 && w.seconds > 0);
			assert_true(w.gap[RV_P50] > 0 && w.gap[RV_P50] <= w.gap[RV_P95] &&
			            w.gap[RV_P95] <= w.gap[RV_P99]);
			assert_true(w.first[RV_P50] > 0 && w.answer[RV_P50] > w.first[RV_P50]);
			if (run == 0) {
				first[i] = w;
				continue;
			}
			assert_int_equal(w.n_tokens, first[i].n_tokens);
			assert_int_equal(w.n_rows, first[i].n_rows);
			assert_int_equal(w.n_done, first[i].n_done);
			assert_true(w.mean_running == first[i].mean_running);
		}
		for (int32_t i = 0; i < 5; i++) {
			rv_request_info info;
			assert_ok(rv_scheduler_find(r.s, rv_load_request(r.load, i), &info));
		}
		close_rig(&r);
	}
	rv_load_options other = five;
	other.seed = 4;
	rig r = open_rig(3, &other);
	assert_ok(rv_load_run(r.load, 0, 25, &w));
	assert_true(w.n_rows != first[0].n_rows || w.n_tokens != first[0].n_tokens);
	close_rig(&r);
}

static void nap(double seconds) {
	const struct timespec t = {(time_t)seconds, (long)((seconds - floor(seconds)) * 1e9)};
	nanosleep(&t, NULL);
}

/* The clock stands still between windows: arrivals are those of the windows alone. */
static void an_open_loop(void **state) {
	(void)state;
	const rv_load_options o = {.n_users = 4096,
	                           .rate_per_s = 400,
	                           .prompt = {2, 0, 2},
	                           .answer = {1, 0, 1},
	                           .seed = 5};
	rig r = open_rig(8, &o);
	double seconds = 0;
	rv_load_window w;
	rv_scheduler_stats stats;
	for (int i = 0; i < 3; i++) {
		assert_ok(rv_load_run(r.load, 0.1, 1, &w));
		assert_true(w.seconds >= 0.1);
		assert_true(isnan(w.gap[RV_P50])); /* answers of one token */
		seconds += w.seconds;
		nap(0.2);
	}
	rv_scheduler_get_stats(r.s, &stats);
	double n = (double)stats.n_submitted, expected = o.rate_per_s * seconds;
	assert_true(fabs(n - expected) < 5 * sqrt(expected) + 2);
	close_rig(&r);
}

static int slow(void *user) {
	(void)user;
	nap(0.02); /* before each of three layers */
	return 0;
}

/* Who comes in the middle of a step of 60 ms has waited when it is submitted. */
static void times_count_from_when_it_was_due(void **state) {
	(void)state;
	const rv_load_options o = {
	        .n_users = 64, .rate_per_s = 100, .prompt = {2, 0, 2}, .answer = {1, 0, 1}, .seed = 6};
	rig r = open_rig(64, &o);
	rv_load_window w;
	rv_context_set_cancel(r.ctx, slow, NULL);
	assert_ok(rv_load_run(r.load, 0.5, 1, &w));
	assert_true(w.first[RV_P50] >= 0.07);
	assert_true(w.first[RV_P95] >= 0.1);
	rv_context_set_cancel(r.ctx, NULL, NULL);
	close_rig(&r);
}

static void refused(void **state) {
	(void)state;
	rv_load_window w;
	rv_load_options o = five;
	o.n_users = 1;
	o.rate_per_s = 1e5;
	rig r = open_rig(1, &o);
	assert_int_equal(rv_load_run(r.load, 0.1, 1, &w), RV_ERR_LIMIT);
	close_rig(&r);
	r = open_rig(1, &five);
	rv_load *load;
	for (int i = 0; i < 4; i++) {
		o = five;
		if (i == 0)
			o.n_users = 0;
		else if (i == 1)
			o.prompt.most = 46; /* and 20 more than 64 + 1 */
		else if (i == 2)
			o.answer.median = 0;
		else
			o.prompt.median = NAN;
		assert_int_equal(rv_load_create(&load, r.s, r.ctx, &o), RV_ERR_INVALID);
		assert_null(load);
	}
	close_rig(&r);
	rv_load_destroy(NULL);
}

static int open_model(void **state) {
	(void)state;
	model = tiny_model("qwen2", "Q4_K_M");
	return 0;
}

static int close_model(void **state) {
	(void)state;
	rv_model_release(model);
	return 0;
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(lengths),      cmocka_unit_test(a_closed_loop),
	        cmocka_unit_test(an_open_loop), cmocka_unit_test(times_count_from_when_it_was_due),
	        cmocka_unit_test(refused),
	};
	return cmocka_run_group_tests_name("load", tests, open_model, close_model);
}
