#include "engine/sampler.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdio.h>

static rv_sampler *make(rv_sampler_options o, int64_t n) {
	rv_sampler *s;
	assert_ok(rv_sampler_create(&s, &o, n));
	return s;
}

static int32_t next(rv_sampler *s, const float *logits) {
	int32_t id;
	assert_ok(rv_sampler_next(s, logits, &id, NULL));
	return id;
}

static void greedy_takes_lowest_id_on_ties(void **state) {
	(void)state;
	rv_sampler_options o = rv_sampler_defaults();
	o.temperature = 0;
	rv_sampler *s = make(o, 6);
	const float tie[] = {-1, 3, 2, 3, 3, 0}, flat[6] = {0},
	            inf[] = {0, 9, INFINITY, INFINITY, 1, -INFINITY};
	assert_int_equal(next(s, tie), 1);
	assert_int_equal(next(s, flat), 0);
	assert_int_equal(next(s, inf), 2);
	assert_int_equal(rv_argmax(tie, 6), 1);
	rv_sampler_destroy(s);
}

static void bad_logits_are_refused(void **state) {
	(void)state;
	rv_sampler_options o = rv_sampler_defaults();
	const float none[] = {-INFINITY, -INFINITY, -INFINITY}, nan[] = {0, NAN, 1},
	            one[] = {-INFINITY, 0, -INFINITY};
	for (int i = 0; i < 2; i++) {
		int32_t id;
		o.temperature = i;
		rv_sampler *s = make(o, 3);
		assert_int_equal(rv_sampler_next(s, none, &id, NULL), RV_ERR_NUMERIC);
		assert_int_equal(rv_sampler_next(s, nan, &id, NULL), RV_ERR_NUMERIC);
		assert_int_equal(next(s, one), 1);
		rv_sampler_destroy(s);
	}
	assert_int_equal(rv_argmax(nan, 3), -1);
}

static void options_are_range_checked(void **state) {
	(void)state;
	rv_sampler_options base = rv_sampler_defaults(), o[9];
	for (int i = 0; i < 9; i++)
		o[i] = base;
	o[0].temperature = -1;
	o[1].temperature = NAN;
	o[2].temperature = INFINITY;
	o[3].top_p = 0;
	o[4].top_p = 1.5;
	o[5].top_k = -1;
	o[6].min_p = 2;
	o[7].repeat_penalty = 0;
	o[8].repeat_last = -5;
	for (int i = 0; i < 9; i++) {
		rv_sampler *s;
		assert_int_equal(rv_sampler_create(&s, &o[i], 10), RV_ERR_INVALID);
		assert_null(s);
	}
}

/* Extreme but legal options end and choose something sensible. */
static void extremes(void **state) {
	(void)state;
	const float logits[] = {1, 5, 2, 4.9f};
	rv_sampler_options o = rv_sampler_defaults();
	o.temperature = 1e-30;
	rv_sampler *s = make(o, 4);
	for (int i = 0; i < 50; i++)
		assert_int_equal(next(s, logits), 1);
	rv_sampler_destroy(s);
	o.temperature = 1e3;
	o.top_k = 1000;
	o.top_p = 1e-9;
	s = make(o, 4);
	for (int i = 0; i < 50; i++)
		assert_int_equal(next(s, logits), 1); /* one token always stays, the best */
	rv_sampler_destroy(s);
}

/* ---- distributions ---- */

#define N 8
static const float eight[N] = {0.5f, 2.0f, -1.0f, 1.0f, 0.0f, 2.5f, -3.0f, 1.5f};

/* The distribution the options describe, computed the slow way. */
static void expected(const rv_sampler_options *o, double p[N]) {
	int order[N];
	double prob[N], total = 0, mass = 0, z = 0;
	for (int i = 0; i < N; i++)
		order[i] = i, p[i] = 0;
	for (int i = 0; i < N; i++)
		for (int j = i + 1; j < N; j++)
			if (eight[order[j]] > eight[order[i]]) {
				int t = order[i];
				order[i] = order[j];
				order[j] = t;
			}
	int k = o->top_k ? (int)o->top_k : N;
	for (int i = 0; i < k; i++)
		total += prob[i] = exp((double)eight[order[i]]);
	for (int i = 0; i < k; i++) {
		if (i > 0 && (prob[i] / prob[0] < o->min_p || mass >= o->top_p * total))
			break;
		mass += prob[i];
		z += p[order[i]] = exp((double)eight[order[i]] / o->temperature);
	}
	for (int i = 0; i < N; i++)
		p[i] /= z;
}

static double chi_square(const int *count, const double *p, int draws) {
	double x = 0;
	for (int i = 0; i < N; i++) {
		double e = p[i] * draws;
		if (e == 0)
			x += count[i] ? 1e9 : 0;
		else
			x += (count[i] - e) * (count[i] - e) / e;
	}
	return x;
}

static void draws_follow_the_distribution(void **state) {
	(void)state;
	enum { DRAWS = 20000 };
	rv_sampler_options d = rv_sampler_defaults(), o[5];
	d.top_p = 1;
	d.temperature = 1;
	for (int i = 0; i < 5; i++)
		o[i] = d, o[i].seed = 99;
	o[1].temperature = 0.7;
	o[2].top_k = 3;
	o[3].top_p = 0.8;
	o[3].temperature = 1.3;
	o[4].min_p = 0.2;
	o[4].top_k = 6;
	for (int i = 0; i < 5; i++) {
		int count[N] = {0};
		double p[N], wrong[N];
		rv_sampler *s = make(o[i], N);
		for (int j = 0; j < DRAWS; j++)
			count[next(s, eight)]++;
		rv_sampler_destroy(s);
		expected(&o[i], p);
		assert_true(chi_square(count, p, DRAWS) <
		            30); /* 7 degrees of freedom: p < 1e-4 above */
		/* negative control: a distribution off by 3 % of one token must be caught */
		for (int j = 0; j < N; j++)
			wrong[j] = p[j];
		wrong[5] -= 0.03;
		wrong[1] += 0.03;
		assert_true(chi_square(count, wrong, DRAWS) > 30);
	}
}

static void same_seed_same_draws(void **state) {
	(void)state;
	rv_sampler_options o = rv_sampler_defaults();
	rv_sampler *a = make(o, N), *b = make(o, N);
	o.seed = 1;
	rv_sampler *c = make(o, N);
	int differ = 0;
	for (int i = 0; i < 200; i++) {
		int32_t x = next(a, eight);
		assert_int_equal(x, next(b, eight));
		differ += x != next(c, eight);
	}
	assert_true(differ > 0);
	rv_sampler_destroy(a);
	rv_sampler_destroy(b);
	rv_sampler_destroy(c);
}

static void penalty_holds_for_its_window(void **state) {
	(void)state;
	rv_sampler_options o = rv_sampler_defaults();
	o.temperature = 0;
	o.repeat_penalty = 2;
	o.repeat_last = 2;
	rv_sampler *s = make(o, 4);
	const float x[] = {4, 3, 2.5f, -1};
	assert_int_equal(next(s, x), 0);
	rv_sampler_accept(s, 0);
	assert_int_equal(next(s, x), 1); /* 4 / 2 < 3 */
	rv_sampler_accept(s, 1);
	assert_int_equal(next(s, x), 2);
	rv_sampler_accept(s, 2);
	assert_int_equal(next(s, x), 0); /* 0 has left the window of two */
	rv_sampler_reset(s);
	assert_int_equal(next(s, x), 0);
	rv_sampler_destroy(s);
}

/* Streams that take turns on one sampler choose what each alone on its own would. With `forget` the
 * shared one is not told what a stream has chosen. */
static int shared_differs(int forget) {
	enum { STREAMS = 5, STEPS = 200, IDS = 50 };
	rv_sampler *own[STREAMS], *shared = make(rv_sampler_defaults(), IDS);
	rv_sampler_options o[STREAMS];
	rv_rng rng[STREAMS], noise;
	static int32_t past[STREAMS][STEPS];
	int n_different = 0;
	rv_rng_seed(&noise, 9);
	for (int i = 0; i < STREAMS; i++) {
		o[i] = rv_sampler_defaults();
		o[i].temperature = 0.5 * i;
		o[i].top_k = i == 2 ? 7 : 0;
		o[i].top_p = i == 3 ? 1 : 0.9;
		o[i].repeat_penalty = i == 4 ? 1 : 1.5;
		o[i].repeat_last = 8 * i + 1;
		o[i].seed = (uint64_t)i + 1;
		rv_rng_seed(&rng[i], o[i].seed);
		own[i] = make(o[i], IDS);
		rv_sampler_accept(shared, 3 * i); /* its own window plays no part */
	}
	for (int step = 0; step < STEPS; step++)
		for (int i = 0; i < STREAMS; i++) {
			float logits[IDS];
			int32_t id;
			double logprob, own_logprob;
			for (int k = 0; k < IDS; k++)
				logits[k] = (float)(2 * rv_rng_normal(&noise)) + (k < 5 ? 2 : 0);
			assert_ok(rv_sampler_next(own[i], logits, &past[i][step], &own_logprob));
			assert_ok(rv_sampler_next_for(shared, &o[i], &rng[i], past[i],
			                              forget ? 0 : step, logits, &id, &logprob));
			n_different += id != past[i][step] || logprob != own_logprob;
			rv_sampler_accept(own[i], past[i][step]);
		}
	for (int i = 0; i < STREAMS; i++)
		rv_sampler_destroy(own[i]);
	rv_sampler_destroy(shared);
	return n_different;
}

static void one_sampler_serves_many(void **state) {
	(void)state;
	assert_int_equal(shared_differs(0), 0);
	assert_true(shared_differs(1) > 0); /* control */
}

static void log_probabilities(void **state) {
	(void)state;
	double sum = 0;
	for (int i = 0; i < N; i++)
		sum += exp(rv_logprob(eight, N, i));
	assert_true(fabs(sum - 1) < 1e-12);
	const float big[] = {1e30f, 1e30f, -1e30f};
	assert_true(fabs(rv_logprob(big, 3, 0) - log(0.5)) < 1e-12);
	assert_true(rv_logprob(big, 3, 2) < -1e30);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(greedy_takes_lowest_id_on_ties),
	        cmocka_unit_test(bad_logits_are_refused),
	        cmocka_unit_test(options_are_range_checked),
	        cmocka_unit_test(extremes),
	        cmocka_unit_test(draws_follow_the_distribution),
	        cmocka_unit_test(same_seed_same_draws),
	        cmocka_unit_test(penalty_holds_for_its_window),
	        cmocka_unit_test(one_sampler_serves_many),
	        cmocka_unit_test(log_probabilities),
	};
	return cmocka_run_group_tests_name("sampler", tests, NULL, NULL);
}
