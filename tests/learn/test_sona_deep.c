/* The deep loop's upkeep of the memory, part by part, on a simulated clock: what it does is what it
 * says, doing it again changes nothing, and what was put off or left out is as it was. */
#include "base/file.h"
#include "memory/witness_archive.h"
#include "tests/learn/deep_kit.h"

#include <math.h>

static float edge(deep_kit *k, const char *source, const char *target, rv_edge_kind kind) {
	float weight = NAN;
	rv_edges_weight(k->edges, source, target, kind, &weight);
	return weight;
}

static void set_edge(deep_kit *k, const char *source, const char *target, float weight) {
	const rv_edge e = {source, target, RV_EDGE_PATTERN, weight};
	assert_ok(rv_edges_set(k->edges, &e));
}

static void id_of(int i, char id[RV_UUID_TEXT]) {
	deep_item x;
	deep_fill(&x, i, 0.9f);
	snprintf(id, RV_UUID_TEXT, "%s", x.item.t.trajectory_id);
}

static void filter_takes_what_was_never_good(void **state) {
	(void)state;
	deep_kit k;
	char bad[RV_UUID_TEXT], good[RV_UUID_TEXT];
	deep_open(&k, NULL);
	assert_ok(deep_add(k.bank, 0, 6, 0.9f));
	assert_ok(deep_add(k.bank, 6, 3, 0.3f));
	id_of(0, good);
	id_of(6, bad);
	set_edge(&k, "s", good, 0.5f);
	set_edge(&k, "s", bad, 0.5f);
	k.deep.now_ms = KIT_START + 90 * DAY; /* age does not count here */
	rv_sona_part_report r = deep_part(&k, RV_DEEP_FILTER);
	assert_int_equal(r.outcome, RV_PART_DONE);
	assert_int_equal(r.n, 3);
	assert_int_equal(rv_bank_count(k.bank), 6);
	assert_true(isnan(edge(&k, "s", bad, RV_EDGE_PATTERN)));
	assert_float_equal(edge(&k, "s", good, RV_EDGE_PATTERN), 0.5, 1e-6);
	r = deep_part(&k, RV_DEEP_FILTER);
	assert_int_equal(r.outcome, RV_PART_NOTHING);
	deep_close(&k);
}

static void prune_takes_what_is_old_and_faded(void **state) {
	(void)state;
	deep_kit k;
	deep_open(&k, NULL);
	assert_ok(deep_add(k.bank, 0, 4, 0.9f));
	set_edge(&k, "a", "b", 0.5f);
	set_edge(&k, "a", "c", 0.06f);
	rv_sona_part_report r = deep_part(&k, RV_DEEP_PRUNE); /* the time begins to count */
	assert_int_equal(r.n, 0);
	rv_sim_clock_advance(&k.clock, 40 * DAY);
	assert_ok(deep_add(k.bank, 4, 2, 0.9f));
	k.deep.now_ms = KIT_START + 40 * DAY; /* 0.9 / 2.5 of the old ones is left */
	r = deep_part(&k, RV_DEEP_PRUNE);
	assert_int_equal(r.outcome, RV_PART_DONE);
	assert_int_equal(r.n, 4);
	assert_int_equal(rv_bank_count(k.bank), 2);
	assert_float_equal(edge(&k, "a", "b", RV_EDGE_PATTERN), 0.5f * exp2f(-40.0f / 30), 1e-5);
	assert_true(isnan(edge(&k, "a", "c", RV_EDGE_PATTERN)));
	r = deep_part(&k, RV_DEEP_PRUNE);
	assert_int_equal(r.outcome, RV_PART_NOTHING);
	assert_float_equal(edge(&k, "a", "b", RV_EDGE_PATTERN), 0.5f * exp2f(-40.0f / 30), 1e-5);
	deep_close(&k);
}

static int at_once(void *user) {
	(void)user;
	return 1;
}

static void clusters_take_their_edges_along(void **state) {
	(void)state;
	deep_kit k;
	char id[RV_UUID_TEXT];
	deep_open(&k, NULL);
	assert_ok(deep_add(k.bank, 0, 40, 0.9f)); /* ten directions, four of each */
	for (int i = 0; i < 40; i++) {
		id_of(i, id);
		set_edge(&k, "s", id, 0.1f + 0.01f * (float)i);
	}
	k.options.deep.max_patterns = 10;
	k.deep.stop = at_once;
	rv_sona_part_report reports[RV_DEEP_PARTS];
	rv_deep_run(&k.deep, RV_SONA_ALL_PARTS, reports);
	for (int p = 0; p < RV_DEEP_PARTS; p++)
		assert_int_equal(reports[p].outcome, RV_PART_PUT_OFF);
	assert_int_equal(rv_bank_count(k.bank), 40);
	k.deep.stop = NULL;
	rv_sona_part_report r = deep_part(&k, RV_DEEP_CLUSTER);
	assert_int_equal(r.outcome, RV_PART_DONE);
	assert_int_equal(rv_bank_count(k.bank), 10);
	assert_int_equal(rv_edges_count(k.edges), 10);
	assert_ok(rv_bank_verify(k.bank));
	int found = 0, heaviest = 0;
	for (int i = 0; i < 40; i++) {
		id_of(i, id);
		float weight = edge(&k, "s", id, RV_EDGE_PATTERN);
		found += !isnan(weight);
		heaviest += weight > 0.395f; /* each is the heaviest of its direction's four */
		rv_trajectory t;
		rv_status st = rv_bank_get(k.bank, id, &t);
		assert_int_equal(st == RV_OK, !isnan(weight));
		if (st == RV_OK)
			rv_trajectory_deinit(&t);
	}
	assert_int_equal(found, 10);
	assert_true(heaviest >= 9);
	r = deep_part(&k, RV_DEEP_CLUSTER);
	assert_int_equal(r.outcome, RV_PART_NOTHING);
	deep_close(&k);
}

static void patterns_reach_sessions_like_theirs(void **state) {
	(void)state;
	deep_kit k;
	deep_open(&k, NULL);
	/* direction 1: of sessions 1 and 6 - 5 = 1; i and i + 10 share it, i % 5 is the session */
	deep_item a, b, far;
	deep_fill(&a, 1, 0.9f);
	deep_fill(&b, 11, 0.8f);
	deep_fill(&far, 2, 0.9f);
	strcpy(a.session, "ada");
	strcpy(b.session, "bob");
	strcpy(far.session, "eve");
	assert_ok(rv_bank_add(k.bank, &a.item.t, 1, NULL));
	assert_ok(rv_bank_add(k.bank, &b.item.t, 1, NULL));
	assert_ok(rv_bank_add(k.bank, &far.item.t, 1, NULL));
	rv_sona_part_report r = deep_part(&k, RV_DEEP_TRANSFER);
	assert_int_equal(r.outcome, RV_PART_DONE);
	assert_int_equal(r.n, 2); /* ada's to bob, bob's to ada; nothing is like eve's */
	float given = edge(&k, "ada", b.item.t.trajectory_id, RV_EDGE_PATTERN);
	assert_true(given > 0.4f && given < 0.8f);
	assert_true(edge(&k, "bob", a.item.t.trajectory_id, RV_EDGE_PATTERN) > 0);
	assert_true(isnan(edge(&k, "eve", a.item.t.trajectory_id, RV_EDGE_PATTERN)));
	assert_true(isnan(edge(&k, "ada", far.item.t.trajectory_id, RV_EDGE_PATTERN)));
	/* what was learnt since stays, and a second pass offers nothing more */
	set_edge(&k, "ada", b.item.t.trajectory_id, 0.11f);
	r = deep_part(&k, RV_DEEP_TRANSFER);
	assert_int_equal(r.outcome, RV_PART_NOTHING);
	assert_float_equal(edge(&k, "ada", b.item.t.trajectory_id, RV_EDGE_PATTERN), 0.11, 1e-6);
	deep_close(&k);
}

static void archive_moves_old_entries(void **state) {
	(void)state;
	deep_kit k;
	deep_open(&k, NULL);
	for (int i = 0; i < 30; i++) {
		rv_witness_entry e = rv_witness_entry_defaults();
		char id[RV_UUID_TEXT];
		id_of(i, id);
		e.request_id = id;
		e.model_used = e.routing_decision.model = "nano";
		e.timestamp = KIT_START + i * DAY;
		assert_ok(rv_witness_append(k.witness, &e));
	}
	k.deep.now_ms = KIT_START + 30 * DAY;
	rv_sona_part_report r = deep_part(&k, RV_DEEP_ARCHIVE);
	assert_int_equal(r.outcome, RV_PART_DONE);
	assert_int_equal(r.n, 23); /* seven days stay */
	rv_witness_archives_report all;
	rv_witness_report chain;
	assert_ok(rv_witness_archives_verify(k.witness, &all));
	assert_int_equal(all.n_entries, 23);
	assert_ok(rv_witness_verify(k.witness, NULL, &chain));
	assert_int_equal(chain.n_entries, 7);
	r = deep_part(&k, RV_DEEP_ARCHIVE);
	assert_int_equal(r.outcome, RV_PART_NOTHING);
	deep_close(&k);
}

/* Without a store each part says why not. */
static void nothing_without_a_store(void **state) {
	(void)state;
	deep_kit k;
	rv_sona_part_report reports[RV_DEEP_PARTS];
	deep_open(&k, "pico");
	rv_deep bare = k.deep;
	bare.bank = NULL;
	bare.edges = NULL;
	bare.witness = NULL;
	rv_deep_run(&bare, RV_SONA_ALL_PARTS, reports);
	for (int p = 0; p < RV_DEEP_PARTS; p++) {
		assert_int_equal(reports[p].outcome, RV_PART_NA);
		assert_true(strlen(reports[p].text) > 5);
	}
	deep_close(&k);
}

/* An export, but for where patterns come from, which an import changes. */
static char *exported(rv_bank *bank, const char *path) {
	static const char key[] = "\"source\":\"";
	int64_t n;
	size_t size;
	char *text;
	assert_ok(rv_bank_export(bank, path, 0, &n));
	assert_ok(rv_file_read(path, 1 << 24, &text, &size));
	char *to = text;
	for (const char *from = text; *from != 0;) {
		const size_t skip = strncmp(from, key, sizeof key - 1) == 0
		                            ? sizeof key - 1 + strcspn(from + sizeof key - 1, "\"")
		                            : 0;
		from += skip;
		*to++ = *from++;
	}
	*to = 0;
	return text;
}

/* What a store exports after all that goes into another as it is. */
static void patterns_travel_after_it(void **state) {
	(void)state;
	deep_kit k, other;
	char path[320];
	rv_bank_import_report report;
	deep_open(&k, NULL);
	deep_open(&other, NULL);
	assert_ok(deep_add(k.bank, 0, 40, 0.9f));
	k.options.deep.max_patterns = 12;
	rv_sona_part_report reports[RV_DEEP_PARTS];
	rv_deep_run(&k.deep,
	            RV_SONA_PART(RV_DEEP_FILTER) | RV_SONA_PART(RV_DEEP_PRUNE) |
	                    RV_SONA_PART(RV_DEEP_CLUSTER) | RV_SONA_PART(RV_DEEP_TRANSFER),
	            reports);
	snprintf(path, sizeof path, "%s/patterns.jsonl", k.dir);
	char *here = exported(k.bank, path);
	assert_ok(rv_bank_import(other.bank, path, &report));
	assert_int_equal(report.added, rv_bank_count(k.bank));
	char *there = exported(other.bank, path);
	assert_true(strlen(here) > 1000);
	assert_string_equal(here, there);
	assert_ok(rv_bank_verify(other.bank));
	rv_free(here);
	rv_free(there);
	deep_close(&k);
	deep_close(&other);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(filter_takes_what_was_never_good),
	        cmocka_unit_test(prune_takes_what_is_old_and_faded),
	        cmocka_unit_test(clusters_take_their_edges_along),
	        cmocka_unit_test(patterns_reach_sessions_like_theirs),
	        cmocka_unit_test(archive_moves_old_entries),
	        cmocka_unit_test(nothing_without_a_store),
	        cmocka_unit_test(patterns_travel_after_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
