/* The ring of trajectories: what comes out is what went in, oldest first to go; ratings; readers beside
 * writers. */
#include "base/mem.h"
#include "learn/trajectory_ring.h"
#include "tests/support/test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TOKENS = 16, MAX_CORRECTION = 4 };

static rv_trajectory_ring *ring_of(int64_t capacity) {
	rv_trajectory_ring *r;
	const rv_ring_options o = {
	        .capacity = capacity, .max_tokens = MAX_TOKENS, .max_correction = MAX_CORRECTION};
	assert_ok(rv_trajectory_ring_create(&r, &o));
	return r;
}

/* Request i: a prompt of i % 7 + 1 tokens, an answer of i % 3, all i. */
static rv_served served(int i, int32_t *tokens) {
	rv_served s = {.quality = (double)NAN, .likelihood = 0.5, .version = (uint64_t)i};
	snprintf(s.request_id, sizeof s.request_id, "request %d", i);
	for (int k = 0; k < MAX_TOKENS; k++)
		tokens[k] = i;
	s.prompt = tokens;
	s.n_prompt = i % 7 + 1;
	s.answer = tokens;
	s.n_answer = i % 3;
	return s;
}

static void push(rv_trajectory_ring *r, int i) {
	int32_t tokens[MAX_TOKENS];
	const rv_served s = served(i, tokens);
	uint64_t number;
	assert_ok(rv_trajectory_ring_push(r, &s, &number));
}

/* An entry that is whole: all its tokens are of one request. */
static int is_whole(const rv_served *s) {
	int i = 0;
	if (sscanf(s->request_id, "request %d", &i) != 1 || s->version != (uint64_t)i ||
	    s->n_prompt != i % 7 + 1 || s->n_answer != i % 3)
		return 0;
	for (int64_t k = 0; k < s->n_prompt + s->n_answer; k++)
		if (s->prompt[k] != i)
			return 0;
	return 1;
}

static void the_oldest_give_way(void **state) {
	(void)state;
	rv_trajectory_ring *r = ring_of(RV_RING_MIN);
	int32_t tokens[MAX_TOKENS + MAX_CORRECTION];
	uint64_t oldest, newest;
	rv_served s;
	rv_trajectory_ring_range(r, &oldest, &newest);
	assert_true(oldest == 0 && newest == 0);
	assert_int_equal(rv_trajectory_ring_read(r, 0, &s, tokens), RV_ERR_NOT_FOUND);
	for (int i = 1; i <= 1000; i++)
		push(r, i);
	rv_trajectory_ring_range(r, &oldest, &newest);
	assert_true(oldest == 1000 - RV_RING_MIN + 1 && newest == 1000);
	assert_int_equal(rv_trajectory_ring_read(r, oldest - 1, &s, tokens), RV_ERR_NOT_FOUND);
	assert_int_equal(rv_trajectory_ring_read(r, newest + 1, &s, tokens), RV_ERR_NOT_FOUND);
	for (uint64_t n = oldest; n <= newest; n++) {
		assert_ok(rv_trajectory_ring_read(r, n, &s, tokens));
		assert_true(s.number == n && s.version == n && is_whole(&s));
	}
	tokens[0]++; /* control */
	assert_false(is_whole(&s));
	rv_trajectory_ring_destroy(r);
}

static void what_is_too_long_is_cut(void **state) {
	(void)state;
	rv_trajectory_ring *r = ring_of(RV_RING_MIN);
	int32_t long_text[40], tokens[MAX_TOKENS + MAX_CORRECTION];
	for (int i = 0; i < 40; i++)
		long_text[i] = i;
	rv_served out, s = {.prompt = long_text, .n_prompt = 40, .answer = long_text, .n_answer = 6};
	s.quality = 1;
	s.source = RV_QUALITY_TASK;
	assert_ok(rv_trajectory_ring_push(r, &s, NULL));
	assert_ok(rv_trajectory_ring_read(r, 1, &out, tokens));
	assert_true(out.cut && out.n_prompt == 10 && out.n_answer == 6);
	assert_int_equal(out.prompt[0], 30); /* its end is kept */
	assert_int_equal(out.answer[5], 5);
	s.n_answer = 40;
	assert_ok(rv_trajectory_ring_push(r, &s, NULL));
	assert_ok(rv_trajectory_ring_read(r, 2, &out, tokens));
	assert_true(out.n_prompt == 0 && out.n_answer == MAX_TOKENS);
	s.n_correction = MAX_CORRECTION + 1;
	s.correction = long_text;
	assert_int_equal(rv_trajectory_ring_push(r, &s, NULL), RV_ERR_INVALID);
	s.n_correction = 0;
	s.quality = 1.5;
	assert_int_equal(rv_trajectory_ring_push(r, &s, NULL), RV_ERR_INVALID);
	s.quality = 0.5;
	s.source = RV_QUALITY_COUNT;
	assert_int_equal(rv_trajectory_ring_push(r, &s, NULL), RV_ERR_INVALID);
	rv_trajectory_ring_destroy(r);
}

static void ratings_come_later(void **state) {
	(void)state;
	rv_trajectory_ring *r = ring_of(RV_RING_MIN);
	static const int32_t right[] = {7, 8, 9};
	int32_t tokens[MAX_TOKENS + MAX_CORRECTION];
	rv_served s;
	for (int i = 1; i <= 300; i++)
		push(r, i);
	assert_ok(rv_trajectory_ring_rate(r, "request 299", 0.25, RV_QUALITY_FEEDBACK, right, 3));
	assert_ok(rv_trajectory_ring_read(r, 299, &s, tokens));
	assert_true(s.quality > 0.24 && s.quality < 0.26 && s.source == RV_QUALITY_FEEDBACK);
	assert_true(is_whole(&s) && s.n_correction == 3 && memcmp(s.correction, right, 12) == 0);
	assert_ok(rv_trajectory_ring_rate(r, "request 299", 1, RV_QUALITY_TASK, NULL, 0));
	assert_ok(rv_trajectory_ring_read(r, 299, &s, tokens));
	assert_true(s.n_correction == 3 && s.source == RV_QUALITY_TASK);
	assert_ok(rv_trajectory_ring_read(r, 298, &s, tokens)); /* the one beside it is not touched */
	assert_true(isnan(s.quality) && !s.correction);
	assert_int_equal(rv_trajectory_ring_rate(r, "request 1", 1, RV_QUALITY_TASK, NULL, 0),
	                 RV_ERR_NOT_FOUND);
	assert_int_equal(rv_trajectory_ring_rate(r, "nobody", 1, RV_QUALITY_TASK, NULL, 0),
	                 RV_ERR_NOT_FOUND);
	assert_int_equal(
	        rv_trajectory_ring_rate(r, "request 299", (double)NAN, RV_QUALITY_TASK, NULL, 0),
	        RV_ERR_INVALID);
	rv_trajectory_ring_destroy(r);
}

static void bounds(void **state) {
	(void)state;
	rv_trajectory_ring *r;
	rv_ring_options o = rv_ring_defaults();
	assert_ok(rv_trajectory_ring_create(&r, &o));
	assert_true(rv_trajectory_ring_bytes(r) < 4 << 20);
	rv_trajectory_ring_destroy(r);
	const int64_t bad[] = {0, RV_RING_MIN - 1, RV_RING_MAX + 1, -1};
	for (int i = 0; i < 4; i++) {
		o.capacity = bad[i];
		assert_int_equal(rv_trajectory_ring_create(&r, &o), RV_ERR_INVALID);
		assert_null(r);
	}
}

/* ---- beside each other ---- */

typedef struct shared {
	rv_trajectory_ring *ring;
	_Atomic int done, torn, n_read, next;
} shared;

static void *write_all(void *arg) {
	shared *s = (shared *)arg;
	for (int n = 0; n < 3000; n++) {
		int32_t tokens[MAX_TOKENS];
		const rv_served one = served(1 + atomic_fetch_add(&s->next, 1), tokens);
		if (rv_trajectory_ring_push(s->ring, &one, NULL) != RV_OK)
			atomic_store(&s->torn, 1);
	}
	atomic_fetch_add(&s->done, 1);
	return NULL;
}

static void *read_all(void *arg) {
	shared *s = (shared *)arg;
	int32_t tokens[MAX_TOKENS + MAX_CORRECTION];
	while (atomic_load(&s->done) < 2) {
		uint64_t oldest, newest;
		rv_served one;
		rv_trajectory_ring_range(s->ring, &oldest, &newest);
		for (uint64_t n = oldest; n > 0 && n <= newest; n++)
			if (rv_trajectory_ring_read(s->ring, n, &one, tokens) == RV_OK) {
				atomic_fetch_add(&s->n_read, 1);
				if (!is_whole(&one))
					atomic_store(&s->torn, 1);
			}
	}
	return NULL;
}

static void readers_beside_writers(void **state) {
	(void)state;
	shared s = {.ring = ring_of(RV_RING_MIN)};
	pthread_t threads[3];
	assert_int_equal(pthread_create(&threads[0], NULL, write_all, &s), 0);
	assert_int_equal(pthread_create(&threads[1], NULL, write_all, &s), 0);
	assert_int_equal(pthread_create(&threads[2], NULL, read_all, &s), 0);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(atomic_load(&s.torn), 0);
	rv_trajectory_ring_destroy(s.ring);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(the_oldest_give_way),    cmocka_unit_test(what_is_too_long_is_cut),
	        cmocka_unit_test(ratings_come_later),     cmocka_unit_test(bounds),
	        cmocka_unit_test(readers_beside_writers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
