/* The graph's upkeep: decay by the time that passed, ids that became others, all of it once. */
#include "memory/edges.h"
#include "tests/memory/folder.h"

#include <math.h>

#define DAY INT64_C(86400000)
#define T0 INT64_C(1700000000000)

typedef struct kit {
	char dir[256];
	rv_store *store;
	rv_edges *edges;
} kit;

static void open_kit(kit *k) {
	assert_ok(rv_store_open(&k->store, k->dir, NULL));
	assert_ok(rv_edges_open(&k->edges, k->store, NULL));
}

static void close_kit(kit *k) {
	assert_ok(rv_edges_close(k->edges));
	assert_ok(rv_store_close(k->store));
}

static void set(kit *k, const char *source, const char *target, float weight) {
	const rv_edge edge = {source, target, RV_EDGE_PATTERN, weight};
	assert_ok(rv_edges_set(k->edges, &edge));
}

static float weight_of(kit *k, const char *source, const char *target) {
	float weight = NAN;
	rv_status st = rv_edges_weight(k->edges, source, target, RV_EDGE_PATTERN, &weight);
	assert_true(st == RV_OK || st == RV_ERR_NOT_FOUND);
	return st == RV_OK ? weight : NAN;
}

static void begin_kit(kit *k) {
	folder_make(k->dir);
	open_kit(k);
}

static void drop_kit(kit *k) {
	close_kit(k);
	folder_remove(k->dir);
}

static void keep_up(kit *k, rv_edges_upkeep how, rv_edges_upkeep_report *report) {
	assert_ok(rv_edges_keep_up(k->edges, &how, report));
}

static void weights_halve_in_their_time(void **state) {
	(void)state;
	kit k;
	rv_edges_upkeep_report r;
	begin_kit(&k);
	set(&k, "s", "p", 0.8f);
	set(&k, "s", "q", 0.1f);
	keep_up(&k, (rv_edges_upkeep){.now = T0, .half_life_ms = 30 * DAY}, &r);
	assert_true(r.factor == 1); /* the time begins to count */
	close_kit(&k);
	open_kit(&k);
	keep_up(&k,
	        (rv_edges_upkeep){.now = T0 + 30 * DAY, .half_life_ms = 30 * DAY, .min_weight = 0.06f},
	        &r);
	assert_float_equal(r.factor, 0.5, 1e-9);
	assert_int_equal(r.n_gone, 1);
	assert_float_equal(weight_of(&k, "s", "p"), 0.4, 1e-6);
	assert_true(isnan(weight_of(&k, "s", "q")));
	/* the same moment again: nothing more; an earlier one: nothing */
	keep_up(&k, (rv_edges_upkeep){.now = T0 + 30 * DAY, .half_life_ms = 30 * DAY}, &r);
	assert_true(r.factor == 1);
	keep_up(&k, (rv_edges_upkeep){.now = T0, .half_life_ms = 30 * DAY}, &r);
	assert_true(r.factor == 1);
	close_kit(&k);
	open_kit(&k);
	assert_float_equal(weight_of(&k, "s", "p"), 0.4, 1e-6);
	assert_int_equal(rv_edges_count(k.edges), 1);
	drop_kit(&k);
}

static const char *become(void *user, const char *id) {
	(void)user;
	if (strcmp(id, "old") == 0)
		return "new";
	return strcmp(id, "gone") == 0 ? NULL : id;
}

static void edges_follow_their_ids(void **state) {
	(void)state;
	kit k;
	rv_edges_upkeep_report r;
	begin_kit(&k);
	set(&k, "s", "old", 0.7f);
	set(&k, "s", "new", 0.5f); /* the heavier stays */
	set(&k, "t", "old", 0.3f);
	set(&k, "old", "new", 0.9f); /* to itself: goes */
	set(&k, "old", "u", 0.6f);
	set(&k, "t", "gone", 0.9f);
	keep_up(&k, (rv_edges_upkeep){.now = T0, .becomes = become}, &r);
	assert_int_equal(r.n_moved, 3);
	for (int again = 0; again < 2; again++) {
		assert_int_equal(rv_edges_count(k.edges), 3);
		assert_float_equal(weight_of(&k, "s", "new"), 0.7, 1e-6);
		assert_float_equal(weight_of(&k, "t", "new"), 0.3, 1e-6);
		assert_float_equal(weight_of(&k, "new", "u"), 0.6, 1e-6);
		close_kit(&k);
		open_kit(&k);
	}
	/* control: without `becomes` nothing moves */
	set(&k, "s", "old", 0.7f);
	keep_up(&k, (rv_edges_upkeep){.now = T0}, &r);
	assert_int_equal(r.n_moved, 0);
	assert_int_equal(rv_edges_count(k.edges), 4);
	drop_kit(&k);
}

static void bad_options_are_refused(void **state) {
	(void)state;
	kit k;
	begin_kit(&k);
	const rv_edges_upkeep bad[] = {{.now = -1}, {.half_life_ms = -1}, {.min_weight = NAN}};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(rv_edges_keep_up(k.edges, &bad[i], NULL), RV_ERR_INVALID);
	drop_kit(&k);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(weights_halve_in_their_time),
	        cmocka_unit_test(edges_follow_their_ids),
	        cmocka_unit_test(bad_options_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
