/* `exact` is lossless: two tokens in a row that speculation brings have the distribution of plain
 * sampling, by a chi-square test that a biased rule does not pass. Everything is seeded. */
#include "tests/engine/speculate_pair.h"

#include <math.h>
#include <stdlib.h>

/* Cells of three tests: the first token, the second one, and both together, coarsely. */
enum { BINS = 20, PAIRS = BINS * BINS, CELLS = 2 * PAIR_VOCAB + PAIRS, DRAWS = 4000 };
static const struct {
	int from, n;
} tests_of[] = {{0, PAIR_VOCAB}, {PAIR_VOCAB, PAIR_VOCAB}, {2 * PAIR_VOCAB, PAIRS}};
enum { N_TESTS = 3 };

static const int32_t prompt[] = {72, 101, 108, 108, 111, 32, 119, 111};
enum { N_PROMPT = sizeof prompt / sizeof prompt[0] };

typedef struct setting {
	double temperature, top_p;
	int64_t top_k;
	kin draft;
	int k, sampled;
} setting;

static const setting settings[] = {
        {1, 1, 0, STRANGER, 2, 1}, {1, 1, 0, COUSIN, 2, 1},       {0.7, 1, 0, COUSIN, 1, 1},
        {1, 0.8, 0, COUSIN, 2, 1}, {0.7, 0.9, 100, COUSIN, 0, 1}, {1, 0.9, 0, COUSIN, 0, 0},
};

static rv_sampler *sampler_of(const setting *s, double temperature, uint64_t seed) {
	rv_sampler *out;
	rv_sampler_options o = rv_sampler_defaults();
	o.temperature = temperature;
	o.top_p = s->top_p;
	o.top_k = s->top_k;
	o.seed = seed;
	assert_ok(rv_sampler_create(&out, &o, PAIR_VOCAB));
	return out;
}

static rv_status eval(rv_context *ctx, const int32_t *tokens, int n) {
	rv_row rows[N_PROMPT];
	int64_t at = rv_seq_length(ctx, 0);
	for (int i = 0; i < n; i++)
		rows[i] = (rv_row){.token = tokens[i],
		                   .position = (int32_t)(at + i),
		                   .parent = -1,
		                   .flags = i == n - 1 ? RV_ROW_LOGITS : 0};
	return rv_context_eval(ctx, rows, n);
}

/* The cell of a pair in each test. */
static int cell(int test, int32_t a, int32_t b) {
	const int within[N_TESTS] = {a, b, a % BINS * BINS + b % BINS};
	return tests_of[test].from + within[test];
}

/* Probability of each pair that follows the prompt and its most probable next token. */
static void expect(rv_context *ctx, const setting *how, double *p) {
	rv_sampler *sampler = sampler_of(how, how->temperature, 0);
	float first[PAIR_VOCAB], second[PAIR_VOCAB];
	memset(p, 0, CELLS * sizeof *p);
	assert_ok(rv_seq_truncate(ctx, 0, 0));
	assert_ok(eval(ctx, prompt, N_PROMPT));
	int32_t root = (int32_t)rv_argmax(rv_context_logits(ctx, N_PROMPT - 1), PAIR_VOCAB);
	assert_ok(eval(ctx, &root, 1));
	assert_ok(rv_sampler_probabilities(sampler, rv_context_logits(ctx, 0), first));
	for (int32_t a = 0; a < PAIR_VOCAB; a++) {
		if (first[a] == 0)
			continue;
		assert_ok(rv_seq_truncate(ctx, 0, N_PROMPT + 1));
		assert_ok(eval(ctx, &a, 1));
		assert_ok(rv_sampler_probabilities(sampler, rv_context_logits(ctx, 0), second));
		for (int32_t b = 0; b < PAIR_VOCAB; b++)
			for (int t = 0; t < N_TESTS; t++)
				p[cell(t, a, b)] += (double)first[a] * (double)second[b];
	}
	rv_sampler_destroy(sampler);
}

/* Draws such pairs by speculation (NULL options: plainly); returns how many tokens were accepted. */
static int64_t count_pairs(pair *p, const setting *how, const rv_spec_options *options, int *count) {
	rv_sampler *greedy = sampler_of(how, 0, 0), *sampler = sampler_of(how, how->temperature, 11);
	rv_speculator *s;
	int32_t id, a, b;
	int64_t accepted = 0;
	memset(count, 0, CELLS * sizeof *count);
	assert_ok(rv_speculator_create(&s, p->target, p->draft[how->draft], options));
	assert_ok(rv_seq_truncate(p->target, 0, 0));
	assert_ok(eval(p->target, prompt, N_PROMPT));
	assert_ok(rv_speculator_begin(s, prompt, N_PROMPT, N_PROMPT - 1));
	for (int i = 0; i < DRAWS; i++) {
		/* the beginning is always the same; the generators go on */
		assert_ok(rv_seq_truncate(p->target, 0, N_PROMPT - 1));
		assert_ok(eval(p->target, prompt + N_PROMPT - 1, 1));
		assert_ok(rv_speculator_begin(s, prompt + N_PROMPT - 1, 1, 0));
		assert_ok(rv_speculator_next(s, greedy, 1, &id, NULL));
		assert_ok(rv_speculator_next(s, sampler, 9, &a, NULL));
		assert_ok(rv_speculator_next(s, sampler, 9, &b, NULL));
		assert_ok(rv_speculator_end(s));
		for (int t = 0; t < N_TESTS; t++)
			count[cell(t, a, b)]++;
	}
	accepted = rv_speculator_stats(s)->accepted;
	rv_speculator_destroy(s);
	rv_sampler_destroy(sampler);
	rv_sampler_destroy(greedy);
	return accepted;
}

/* Standard deviations by which chi-square exceeds its degrees of freedom (Wilson and Hilferty 1931).
 * Cells of fewer than 5 expected are taken together. */
static double excess_of(const int *count, const double *p, int n) {
	double x = 0, rest_e = 0, rest_n = 0;
	int cells = 0;
	for (int i = 0; i < n; i++) {
		double e = p[i] * DRAWS, d = count[i] - e;
		if (e < 5) {
			rest_e += e;
			rest_n += count[i];
			continue;
		}
		x += d * d / e;
		cells++;
	}
	if (rest_e > 0) {
		x += (rest_n - rest_e) * (rest_n - rest_e) / (rest_e < 5 ? 5 : rest_e);
		cells++;
	}
	double f = cells - 1, v = 2 / (9 * f);
	assert_true(f > 8);
	return (cbrt(x / f) - (1 - v)) / sqrt(v);
}

/* The worst of the three tests. */
static double excess(const int *count, const double *p) {
	double worst = -INFINITY;
	for (int t = 0; t < N_TESTS; t++)
		worst = fmax(worst,
		             excess_of(count + tests_of[t].from, p + tests_of[t].from, tests_of[t].n));
	return worst;
}

#define LIMIT 4.0 /* standard deviations: one seed in ten thousand would exceed them */

static void exact_draws_as_the_target_does(void **state) {
	(void)state;
	static double p[CELLS];
	static int count[CELLS];
	pair pair_of;
	pair_open(&pair_of, 1);
	for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
		const setting *how = &settings[i];
		rv_spec_options o = rv_spec_defaults();
		o.force = 1;
		o.k = how->k;
		o.sampled = how->sampled;
		o.seed = 3;
		expect(pair_of.target, how, p);
		int64_t accepted = count_pairs(&pair_of, how, &o, count);
		double exact = excess(count, p);
		/* negative control: the documented rule prefers what the draft prefers */
		o.rule = RV_SPEC_THRESHOLD;
		count_pairs(&pair_of, how, &o, count);
		double biased = excess(count, p);
		print_message(
		        "T %g top-p %g draft %d k %d: %+.1f sd (accepted %lld), threshold %+.1f\n",
		        how->temperature, how->top_p, how->draft, how->k, exact, (long long)accepted,
		        biased);
		assert_true(accepted > DRAWS / 50);
		assert_true(exact < LIMIT);
		assert_true(biased > LIMIT);
	}
	pair_close(&pair_of);
}

/* Negative control of another kind: a distribution that is slightly another. */
static void the_test_sees_a_little(void **state) {
	(void)state;
	static double p[CELLS];
	static int count[CELLS];
	setting how = settings[1], colder = how;
	pair pair_of;
	pair_open(&pair_of, 1);
	rv_spec_options o = rv_spec_defaults();
	o.rule = RV_SPEC_GREEDY;
	o.force = 1;
	colder.temperature = 0.9;
	count_pairs(&pair_of, &how, &o, count);
	expect(pair_of.target, &how, p);
	assert_true(excess(count, p) < LIMIT);
	expect(pair_of.target, &colder, p);
	assert_true(excess(count, p) > LIMIT);
	pair_close(&pair_of);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(exact_draws_as_the_target_does),
	        cmocka_unit_test(the_test_sees_a_little),
	};
	return cmocka_run_group_tests_name("speculate exact", tests, NULL, NULL);
}
