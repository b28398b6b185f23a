/* The router of models: it learns its synthetic task, not shuffled labels; confidences hold; deciding
 * is quick and takes no memory; files that were changed are refused. */
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/sysinfo.h"
#include "learn/fastgrnn.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N_TRAIN = 3000, N_HELD = 1000, N_TEST = 1000 };

/* Allocations are counted (Makefile: --wrap). */
static int64_t n_allocated;
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size) {
	n_allocated++;
	return __real_aligned_alloc(alignment, size);
}
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size) {
	n_allocated++;
	return __real_malloc(size);
}

typedef struct data {
	rv_fastgrnn_example *train, *held, *test;
	double bayes, majority;
	rv_fastgrnn *g; /* trained */
	char path[64];
} data;
static data d;

static rv_fastgrnn_example *examples(int64_t n, uint64_t seed, double *bayes) {
	rv_fastgrnn_example *e;
	assert_ok(RV_ALLOC(&e, n, "examples"));
	assert_ok(rv_fastgrnn_synthesize(e, n, seed, bayes));
	return e;
}

static rv_fastgrnn *trained(const rv_fastgrnn_example *train, int64_t n) {
	rv_fastgrnn_options o = rv_fastgrnn_defaults();
	rv_fastgrnn *g;
	o.epochs = 10;
	assert_ok(rv_fastgrnn_create(&g, &o));
	assert_ok(rv_fastgrnn_train(g, train, n, NULL));
	return g;
}

static int open_all(void **state) {
	(void)state;
	int count[RV_FASTGRNN_SLOTS] = {0};
	d.train = examples(N_TRAIN, 1, NULL);
	d.held = examples(N_HELD, 2, NULL);
	d.test = examples(N_TEST, 3, &d.bayes);
	for (int i = 0; i < N_TEST; i++)
		count[d.test[i].target.slot]++;
	for (int i = 0; i < RV_FASTGRNN_SLOTS; i++)
		d.majority = count[i] > d.majority * N_TEST ? (double)count[i] / N_TEST : d.majority;
	d.g = trained(d.train, N_TRAIN);
	assert_ok(rv_fastgrnn_calibrate(d.g, d.held, N_HELD));
	snprintf(d.path, sizeof d.path, "/tmp/rv_fastgrnn_XXXXXX");
	const int fd = mkstemp(d.path);
	assert_true(fd >= 0);
	close(fd);
	assert_ok(rv_fastgrnn_save(d.g, d.path));
	return 0;
}

static int close_all(void **state) {
	(void)state;
	rv_fastgrnn_destroy(d.g);
	rv_free(d.train);
	rv_free(d.held);
	rv_free(d.test);
	unlink(d.path);
	return 0;
}

static void learns(void **state) {
	(void)state;
	rv_fastgrnn_score s;
	assert_ok(rv_fastgrnn_evaluate(d.g, d.test, N_TEST, &s));
	printf("# slot %.3f (knowing all %.3f, always the same %.3f), Brier %.3f, ECE %.3f\n",
	       s.slot_accuracy, d.bayes, d.majority, s.brier, s.ece);
	printf("# bucket %.3f, KV %.3f, tail %.3f, LoRA %.3f, temperature +- %.3f, top-p +- %.3f; %lld "
	       "weights, "
	       "%.2f of W and U kept\n",
	       s.bucket_accuracy, s.kv_accuracy, s.tail_accuracy, s.lora_accuracy, s.temperature_error,
	       s.top_p_error, (long long)rv_fastgrnn_count(d.g), rv_fastgrnn_density(d.g));
	assert_true(s.slot_accuracy > d.majority + 0.15);
	assert_true(s.slot_accuracy < d.bayes + 0.03); /* nobody can; a leak would */
	assert_true(s.ece < 0.06);
	assert_true(s.bucket_accuracy > 0.5 && s.kv_accuracy > 0.75 && s.lora_accuracy > 0.85);
	assert_true(s.temperature_error < 0.18); /* always the mean: 0.22 */
	assert_true(fabs(rv_fastgrnn_density(d.g) - 0.5) < 0.02);
}

/* Control: labels of other examples teach nothing. */
static void shuffled_labels(void **state) {
	(void)state;
	rv_fastgrnn_example *e = examples(N_TRAIN, 1, NULL);
	rv_fastgrnn_score s;
	rv_rng rng;
	rv_rng_seed(&rng, 5);
	for (int64_t i = N_TRAIN; i > 1; i--) {
		const uint64_t k = rv_rng_below(&rng, (uint64_t)i);
		const rv_fastgrnn_decision swap = e[i - 1].target;
		e[i - 1].target = e[k].target;
		e[k].target = swap;
	}
	rv_fastgrnn *g = trained(e, N_TRAIN);
	assert_ok(rv_fastgrnn_evaluate(g, d.test, N_TEST, &s));
	assert_true(s.slot_accuracy < d.majority + 0.04);
	rv_fastgrnn_destroy(g);
	rv_free(e);
}

/* Control: without one kind of input the decisions that hang on it get worse. */
static void inputs_matter(void **state) {
	(void)state;
	rv_fastgrnn_score whole, blind;
	rv_fastgrnn_example *e = examples(N_TEST, 3, NULL);
	assert_ok(rv_fastgrnn_evaluate(d.g, d.test, N_TEST, &whole));
	for (int i = 0; i < N_TEST; i++)
		memset(e[i].input.query, 0, sizeof e[i].input.query);
	assert_ok(rv_fastgrnn_evaluate(d.g, e, N_TEST, &blind));
	assert_true(blind.slot_accuracy < whole.slot_accuracy - 0.1);
	assert_true(blind.bucket_accuracy < whole.bucket_accuracy - 0.2);
	memcpy(e, d.test, N_TEST * sizeof *e);
	for (int i = 0; i < N_TEST; i++)
		for (int k = 0; k < RV_FASTGRNN_SLOTS; k++)
			e[i].input.success[k] = 0.5f;
	assert_ok(rv_fastgrnn_evaluate(d.g, e, N_TEST, &blind));
	assert_true(blind.slot_accuracy < whole.slot_accuracy);
	rv_free(e);
}

static void calibration(void **state) {
	(void)state;
	rv_fastgrnn_options o = rv_fastgrnn_defaults();
	rv_fastgrnn_score before, after;
	rv_fastgrnn *g;
	o.epochs = 40; /* few examples, many times: too sure of itself */
	assert_ok(rv_fastgrnn_create(&g, &o));
	assert_ok(rv_fastgrnn_train(g, d.train, 500, NULL));
	assert_ok(rv_fastgrnn_evaluate(g, d.test, N_TEST, &before));
	assert_ok(rv_fastgrnn_calibrate(g, d.held, N_HELD));
	assert_ok(rv_fastgrnn_evaluate(g, d.test, N_TEST, &after));
	printf("# ECE %.3f before, %.3f after; Brier %.3f, %.3f\n", before.ece, after.ece, before.brier,
	       after.brier);
	assert_true(after.ece < before.ece && after.brier < before.brier);
	assert_true(before.slot_accuracy == after.slot_accuracy);
	rv_fastgrnn_destroy(g);
}

static void deterministic(void **state) {
	(void)state;
	rv_fastgrnn_decision a, b;
	rv_fastgrnn *g = trained(d.train, N_TRAIN);
	assert_ok(rv_fastgrnn_calibrate(g, d.held, N_HELD));
	for (int i = 0; i < 20; i++) {
		memset(&a, 0, sizeof a);
		memset(&b, 0, sizeof b);
		assert_ok(rv_fastgrnn_route(d.g, &d.test[i].input, &a));
		assert_ok(rv_fastgrnn_route(g, &d.test[i].input, &b));
		assert_memory_equal(&a, &b, sizeof a);
	}
	rv_fastgrnn_destroy(g);
}

static void quick_without_memory(void **state) {
	(void)state;
	rv_fastgrnn_decision out;
	double best = 1e9;
	const int64_t before = n_allocated;
	for (int round = 0; round < 20; round++) {
		const int64_t begin = rv_now_ns();
		for (int i = 0; i < 100; i++)
			assert_ok(rv_fastgrnn_route(d.g, &d.test[i].input, &out));
		const double us = 1e-3 * (double)(rv_now_ns() - begin) / 100;
		best = us < best ? us : best;
	}
	assert_int_equal(n_allocated, before);
	printf("# %.1f us a decision\n", best);
#if defined(NDEBUG)
	assert_true(best < 100);
#endif
}

static void bad_numbers(void **state) {
	(void)state;
	rv_fastgrnn_decision out;
	rv_fastgrnn_input in = d.test[0].input;
	in.query[3] = NAN;
	assert_int_equal(rv_fastgrnn_route(d.g, &in, &out), RV_ERR_NUMERIC);
	in = d.test[0].input;
	in.latency_ms[1] = -1;
	assert_int_equal(rv_fastgrnn_route(d.g, &in, &out), RV_ERR_NUMERIC);
	in.latency_ms[1] = INFINITY;
	assert_int_equal(rv_fastgrnn_route(d.g, &in, &out), RV_ERR_NUMERIC);
	rv_fastgrnn_options o = rv_fastgrnn_defaults();
	rv_fastgrnn *g;
	o.hidden = 100000;
	assert_int_equal(rv_fastgrnn_create(&g, &o), RV_ERR_INVALID);
}

static void files(void **state) {
	(void)state;
	rv_fastgrnn_decision a = {0}, b = {0};
	rv_fastgrnn *g;
	char *bytes;
	size_t size;
	assert_ok(rv_fastgrnn_load(&g, d.path));
	assert_ok(rv_fastgrnn_route(d.g, &d.test[5].input, &a));
	assert_ok(rv_fastgrnn_route(g, &d.test[5].input, &b));
	assert_memory_equal(&a, &b, sizeof a);
	rv_fastgrnn_destroy(g);
	assert_ok(rv_file_read(d.path, 1 << 20, &bytes, &size));
	for (size_t i = 0; i < size * 8; i += i < 1024 ? 1 : 61) {
		bytes[i / 8] = (char)(bytes[i / 8] ^ (1 << i % 8));
		const rv_status st = rv_fastgrnn_load_memory(&g, bytes, size, "changed");
		if (st == RV_OK || !strstr(rv_error_message(), "changed"))
			fail_msg("bit %zu changed, and the file is taken, or not named", i);
		bytes[i / 8] = (char)(bytes[i / 8] ^ (1 << i % 8));
	}
	for (size_t n = 0; n < size; n += 1 + n / 4)
		assert_int_equal(rv_fastgrnn_load_memory(&g, bytes, n, "cut off"), RV_ERR_FORMAT);
	rv_free(bytes);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(learns),        cmocka_unit_test(shuffled_labels),
	        cmocka_unit_test(inputs_matter), cmocka_unit_test(calibration),
	        cmocka_unit_test(deterministic), cmocka_unit_test(quick_without_memory),
	        cmocka_unit_test(bad_numbers),   cmocka_unit_test(files),
	};
	return cmocka_run_group_tests(tests, open_all, close_all);
}
