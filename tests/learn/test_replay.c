/* The reservoir is uniform and repeatable, draws are, files are whole or refused. */
#include "base/file.h"
#include "base/mem.h"
#include "learn/replay.h"
#include "learn/sealed.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CTX = 3, CAPACITY = 8, OFFERED = 40 };

/* Sequence number i: four tokens that say so. */
static void sequence(int64_t i, int32_t tokens[CTX + 1], float weights[CTX]) {
	for (int t = 0; t <= CTX; t++)
		tokens[t] = (int32_t)(10 * i + t);
	for (int t = 0; t < CTX; t++)
		weights[t] = (float)i + 0.25f * (float)t;
}

static void offer(rv_replay *r, int64_t from, int64_t to) {
	int32_t tokens[CTX + 1];
	float weights[CTX];
	for (int64_t i = from; i < to; i++) {
		sequence(i, tokens, weights);
		assert_ok(rv_replay_offer(r, tokens, i % 5 ? weights : NULL, 1));
	}
}

static rv_replay *filled(int64_t seed, int64_t n) {
	rv_replay *r;
	assert_ok(rv_replay_create(&r, CTX, CAPACITY, seed));
	offer(r, 0, n);
	return r;
}

static int same(const rv_replay *a, const rv_replay *b) {
	int equal = rv_replay_count(a) == rv_replay_count(b);
	for (int64_t i = 0; equal && i < rv_replay_count(a); i++)
		equal = memcmp(rv_replay_tokens(a, i), rv_replay_tokens(b, i),
		               (CTX + 1) * sizeof(int32_t)) == 0 &&
		        memcmp(rv_replay_weights(a, i), rv_replay_weights(b, i), CTX * sizeof(float)) ==
		                0;
	return equal;
}

/* Every sequence is whole, and held as often as any other: over 2000 seeds each stays in
 * 2000 * 8 / 40 = 400 of them, standard deviation 18. */
static void uniform(void **state) {
	(void)state;
	int held[OFFERED] = {0};
	for (int64_t seed = 0; seed < 2000; seed++) {
		rv_replay *r = filled(seed, OFFERED);
		assert_int_equal(rv_replay_count(r), CAPACITY);
		assert_int_equal(rv_replay_offered(r), OFFERED);
		for (int64_t i = 0; i < CAPACITY; i++) {
			int32_t tokens[CTX + 1];
			float weights[CTX];
			const int64_t number = rv_replay_tokens(r, i)[0] / 10;
			sequence(number, tokens, weights);
			assert_memory_equal(rv_replay_tokens(r, i), tokens, sizeof tokens);
			for (int t = 0; t < CTX; t++)
				assert_true(rv_replay_weights(r, i)[t] ==
				            (number % 5 ? weights[t] : 1));
			held[number]++;
		}
		rv_replay_destroy(r);
	}
	double chi = 0;
	for (int i = 0; i < OFFERED; i++)
		chi += pow(held[i] - 400.0, 2) / 400 / (1 - (double)CAPACITY / OFFERED);
	/* 39 degrees of freedom: 99.99 % lie under 80 */
	if (!(chi > 12 && chi < 80))
		fail_msg("chi square %g", chi);
	/* control: a buffer that keeps the first ones is not uniform */
	chi = 32 * 400 + 8 * pow(1600, 2) / 400;
	assert_true(chi > 80);
}

static void repeatable(void **state) {
	(void)state;
	rv_replay *a = filled(1, OFFERED), *b = filled(1, OFFERED), *c = filled(2, OFFERED);
	assert_true(same(a, b));
	assert_false(same(a, c));
	rv_replay_destroy(a);
	rv_replay_destroy(b);
	rv_replay_destroy(c);
}

static void draws(void **state) {
	(void)state;
	rv_replay *r = filled(1, OFFERED), *empty;
	int32_t x[2 * CAPACITY][CTX + 1], y[2 * CAPACITY][CTX + 1];
	float w[2 * CAPACITY][CTX];
	int differs = 0;
	for (int64_t step = 0; step < 20; step++) {
		int times[OFFERED] = {0};
		assert_ok(rv_replay_draw(r, step, 2 * CAPACITY, &x[0][0], &w[0][0]));
		assert_ok(rv_replay_draw(r, step, 2 * CAPACITY, &y[0][0], NULL));
		assert_memory_equal(x, y, sizeof x); /* a function of seed and step */
		for (int i = 0; i < 2 * CAPACITY; i++)
			times[x[i][0] / 10]++;
		for (int i = 0; i < OFFERED; i++) /* two rounds: each of those held twice */
			assert_true(times[i] == 0 || times[i] == 2);
		assert_ok(rv_replay_draw(r, step + 1, 2 * CAPACITY, &y[0][0], NULL));
		differs += memcmp(x, y, sizeof x) != 0;
	}
	assert_int_equal(differs, 20);
	assert_ok(rv_replay_create(&empty, CTX, 5, 0));
	assert_int_equal(rv_replay_draw(empty, 0, 1, &x[0][0], NULL), RV_ERR_NOT_FOUND);
	rv_replay_destroy(empty);
	rv_replay_destroy(r);
}

/* ---- files ---- */

static void temporary(char path[64]) {
	snprintf(path, 64, "/tmp/rv_replay_XXXXXX");
	const int fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
}

static void files(void **state) {
	(void)state;
	char path[64], *data;
	size_t size;
	rv_replay *r = filled(3, 5), *back;
	temporary(path);
	assert_ok(rv_replay_save(r, path));
	assert_ok(rv_replay_load(&back, path));
	assert_true(same(r, back));
	offer(r, 5, OFFERED); /* both go on alike */
	offer(back, 5, OFFERED);
	assert_true(same(r, back));
	rv_replay_destroy(back);
	assert_ok(rv_replay_save(r, path));
	assert_ok(rv_file_read(path, 1 << 20, &data, &size));
	for (size_t i = 0; i < size; i++) { /* any byte changed, any end cut off */
		data[i] ^= 0x10;
		assert_int_not_equal(rv_replay_load_memory(&back, data, size, "changed"), RV_OK);
		assert_null(back);
		assert_non_null(strstr(rv_error_message(), "changed"));
		data[i] ^= 0x10;
		assert_int_not_equal(rv_replay_load_memory(&back, data, i, "cut"), RV_OK);
		assert_null(back);
	}
	assert_ok(rv_replay_load_memory(&back, data, size, "whole"));
	assert_true(same(r, back));
	rv_replay_destroy(back);
	rv_replay_destroy(r);
	rv_free(data);
	unlink(path);
}

/* Heads that lie, behind a right checksum. */
static void lying_heads(void **state) {
	(void)state;
	static const int64_t good[9] = {CTX, CAPACITY, 1, 2, 2, 1, 2, 3, 4};
	const struct {
		int at;
		int64_t value;
	} lies[] = {{0, 0},  {0, -1}, {0, INT64_MAX}, {1, 0},         {1, 1}, {1, INT64_MAX}, {3, -1},
	            {3, 3},  {3, 1},  {3, INT64_MAX}, {4, INT64_MAX}, {4, 1}, {0, CTX + 1},   {-1, 0},
	            {-2, 0}, {-3, 0}};
	char path[64];
	temporary(path);
	for (size_t i = 0; i <= sizeof lies / sizeof lies[0]; i++) {
		int64_t head[9];
		int32_t tokens[2 * (CTX + 1)] = {1, 2, 3, 4, 5, 6, 7, 8};
		float weights[2 * CTX] = {1, 1, 1, 1, 1, 1};
		const int at = i < sizeof lies / sizeof lies[0] ? lies[i].at : 99;
		rv_sealed_out out = {0};
		rv_replay *r;
		memcpy(head, good, sizeof head);
		if (at >= 0 && at < 9)
			head[at] = lies[i].value;
		if (at == -1)
			memset(head + 5, 0, 4 * sizeof *head); /* a generator that never moves */
		if (at == -2)
			tokens[3] = -1;
		if (at == -3)
			weights[3] = NAN;
		rv_sealed_put(&out, head, sizeof head);
		rv_sealed_put(&out, tokens, sizeof tokens);
		rv_sealed_put(&out, weights, sizeof weights);
		assert_ok(rv_sealed_write(&out, path, "RVREPLAY", 1));
		const rv_status st = rv_replay_load(&r, path);
		if (at == 99) { /* control: without a lie it opens */
			assert_ok(st);
			assert_int_equal(rv_replay_count(r), 2);
			rv_replay_destroy(r);
		} else if (st == RV_OK || r || !strstr(rv_error_message(), path))
			fail_msg("lie %zu: %s", i, rv_error_message());
	}
	unlink(path);
}

static void refused(void **state) {
	(void)state;
	rv_replay *r;
	const int32_t bad[CTX + 1] = {1, -2, 3, 4}, good[CTX + 1] = {1, 2, 3, 4};
	const float nan[CTX] = {1, NAN, 1}, negative[CTX] = {1, 1, -1};
	assert_int_equal(rv_replay_create(&r, 0, 1, 0), RV_ERR_INVALID);
	assert_int_equal(rv_replay_create(&r, 1, 0, 0), RV_ERR_INVALID);
	assert_ok(rv_replay_create(&r, CTX, 2, 0));
	assert_int_equal(rv_replay_offer(r, bad, NULL, 1), RV_ERR_INVALID);
	assert_int_equal(rv_replay_offer(r, good, nan, 1), RV_ERR_INVALID);
	assert_int_equal(rv_replay_offer(r, good, negative, 1), RV_ERR_INVALID);
	assert_int_equal(rv_replay_count(r), 0);
	assert_int_equal(rv_replay_offered(r), 0);
	rv_replay_destroy(r);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(uniform), cmocka_unit_test(repeatable), cmocka_unit_test(draws),
	        cmocka_unit_test(files),   cmocka_unit_test(refused),    cmocka_unit_test(lying_heads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
