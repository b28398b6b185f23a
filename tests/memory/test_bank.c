/* The reasoning bank: what is added is found, filtered, aged, merged. */
#include "memory/bank_internal.h"
#include "tests/memory/bank_fixture.h"

#include <pthread.h>
#include <stdatomic.h>

#define DAY INT64_C(86400000)

/* The topic of a hit is the first part of its id. */
static int topic_of(const rv_bank_hit *hit) {
	return (int)strtol(hit->trajectory_id, NULL, 16);
}

static int64_t search(fixture *f, int topic, const rv_bank_query *how, rv_bank_hit hits[64]) {
	float query[RV_EMBEDDING_DIM];
	int64_t n = -1;
	kit_vector(topic, 999, 0.2f, query);
	assert_ok(rv_bank_search(f->bank, query, how, hits, &n));
	return n;
}

static void adds_and_finds(void **state) {
	(void)state;
	fixture f;
	begin(&f);
	rv_bank_hit hits[64];
	assert_int_equal(search(&f, 1, NULL, hits), 0);
	for (int topic = 0; topic < 5; topic++)
		for (int v = 0; v < 8; v++)
			assert_ok(kit_add(f.bank, topic, v, 0.9f));
	assert_int_equal(rv_bank_count(f.bank), 40);
	rv_bank_query how = rv_bank_query_defaults();
	how.k = 8;
	for (int again = 0; again < 2; again++) {
		for (int topic = 0; topic < 5; topic++) {
			assert_int_equal(search(&f, topic, &how, hits), 8);
			for (int i = 0; i < 8; i++) {
				assert_int_equal(topic_of(&hits[i]), topic);
				assert_true(hits[i].similarity > 0.8f);
				assert_true(i == 0 || hits[i].similarity <= hits[i - 1].similarity);
			}
		}
		assert_ok(rv_bank_verify(f.bank));
		close_bank(&f);
		open_bank(&f);
	}
	/* k beyond what there is */
	how.k = 64;
	assert_int_equal(search(&f, 2, &how, hits), 40);
	end(&f);
}

static size_t resident(fixture *f, int rebuilt, const char *why) {
	rv_bank_stats stats;
	assert_ok(rv_bank_stats_get(f->bank, &stats));
	assert_int_equal(stats.count, 400);
	if (stats.rebuilt != rebuilt || strstr(stats.why_rebuilt, why) == NULL)
		fail_msg("rebuilt %d: %s", stats.rebuilt, stats.why_rebuilt);
	assert_ok(rv_bank_verify(f->bank));
	return stats.resident_bytes;
}

/* Codes are smaller, and find the same with the same similarity. */
static void codes_and_vectors(void **state) {
	(void)state;
	enum { N = 400 };
	fixture f;
	begin(&f);
	static kit_item items[N];
	static rv_trajectory list[N];
	for (int i = 0; i < N; i++) {
		kit_fill(&items[i], i % 20, i, 0.9f);
		list[i] = items[i].t;
	}
	assert_ok(rv_bank_add(f.bank, list, N, NULL));
	rv_bank_hit coded[64], full[64];
	assert_int_equal(search(&f, 7, NULL, coded), 10);
	size_t small = resident(&f, 0, "");
	close_bank(&f);
	f.options.full_vectors = 1;
	open_bank(&f);
	size_t large = resident(&f, 1, "an index of codes");
	assert_true(large - small > N * (3072 - 800));
	assert_int_equal(search(&f, 7, NULL, full), 10);
	for (int i = 0; i < 10; i++) {
		assert_string_equal(coded[i].trajectory_id, full[i].trajectory_id);
		assert_true(fabsf(coded[i].similarity - full[i].similarity) < 1e-5f);
	}
	close_bank(&f);
	open_bank(&f);
	resident(&f, 0, "");
	close_bank(&f);
	f.options.full_vectors = 0;
	open_bank(&f);
	resident(&f, 1, "");
	close_bank(&f);
	open_bank(&f);
	resident(&f, 0, "");
	end(&f);
}

static void gets_back_whole(void **state) {
	(void)state;
	fixture f;
	begin(&f);
	kit_item item;
	kit_fill(&item, 3, 4, 0.75f);
	float other[RV_EMBEDDING_DIM], features[RV_EMBEDDING_DIM];
	kit_vector(9, 9, 1, other);
	kit_vector(8, 8, 1, features);
	const rv_state states[2] = {{8, 1234567890, item.embedding}, {16, 1234567891, other}};
	item.t.states = states;
	item.t.n_states = 2;
	item.t.session_id = "session-1";
	item.t.request_id = "request-1";
	item.t.response_embedding = other;
	item.t.routing_features = features;
	item.t.n_routing_features = 128;
	item.t.model_index = 2;
	item.t.verdict = RV_VERDICT_PARTIAL;
	char id[1][RV_UUID_TEXT];
	item.t.trajectory_id[0] = 0; /* made by the store */
	assert_ok(rv_bank_add(f.bank, &item.t, 1, id));
	assert_true(rv_uuid_valid(id[0]));
	rv_trajectory t;
	assert_ok(rv_bank_get(f.bank, id[0], &t));
	assert_string_equal(t.trajectory_id, id[0]);
	assert_string_equal(t.task, item.task);
	assert_string_equal(t.metadata, item.t.metadata);
	assert_string_equal(t.session_id, "session-1");
	assert_string_equal(t.request_id, "request-1");
	assert_memory_equal(t.query_embedding, item.embedding, sizeof item.embedding);
	assert_memory_equal(t.response_embedding, other, sizeof other);
	assert_memory_equal(t.routing_features, features, 128 * sizeof *features);
	assert_true(t.n_routing_features == 128 && t.model_index == 2 && t.n_states == 2 &&
	            t.n_actions == 2 && t.verdict == RV_VERDICT_PARTIAL && t.created_at == KIT_START);
	assert_true(t.states[1].layer == 16 && t.states[1].timestamp == 1234567891);
	assert_memory_equal(t.states[0].embedding, item.embedding, sizeof item.embedding);
	assert_memory_equal(t.states[1].embedding, other, sizeof other);
	assert_string_equal(t.actions[1].action, "write \"code\"\n");
	assert_true(t.actions[1].quality == 0.75f && t.final_quality == 0.75f && t.quality == 0.75f &&
	            t.weight == 1);
	rv_trajectory_deinit(&t);
	assert_int_equal(rv_bank_get(f.bank, "00000000-0000-4000-8000-000000000000", &t),
	                 RV_ERR_NOT_FOUND);
	assert_ok(rv_bank_remove(f.bank, id[0]));
	assert_int_equal(rv_bank_get(f.bank, id[0], &t), RV_ERR_NOT_FOUND);
	assert_int_equal(rv_bank_remove(f.bank, id[0]), RV_ERR_NOT_FOUND);
	assert_int_equal(rv_bank_count(f.bank), 0);
	assert_ok(rv_bank_verify(f.bank));
	end(&f);
}

static void refuses(void **state) {
	(void)state;
	fixture f;
	begin(&f);
	kit_item items[3];
	for (int i = 0; i < 3; i++)
		kit_fill(&items[i], i, 0, 0.9f);
	rv_trajectory list[3] = {items[0].t, items[1].t, items[0].t};
	assert_int_equal(rv_bank_add(f.bank, list, 3, NULL), RV_ERR_MISMATCH); /* an id twice */
	assert_non_null(strstr(rv_error_message(), "item 2, 00000000-"));
	assert_non_null(strstr(rv_error_message(), "table trajectories: UNIQUE"));
	items[1].embedding[7] = NAN;
	assert_int_equal(rv_bank_add(f.bank, list, 2, NULL), RV_ERR_NUMERIC);
	memset(items[1].embedding, 0, sizeof items[1].embedding);
	assert_int_equal(rv_bank_add(f.bank, list, 2, NULL), RV_ERR_NUMERIC);
	list[1] = items[2].t;
	list[1].n_actions = 0;
	assert_int_equal(rv_bank_add(f.bank, list, 2, NULL), RV_ERR_FORMAT);
	list[1].n_actions = 2;
	list[1].final_quality = 1.5f;
	assert_int_equal(rv_bank_add(f.bank, list, 2, NULL), RV_ERR_FORMAT);
	list[1].final_quality = NAN;
	assert_int_equal(rv_bank_add(f.bank, list, 2, NULL), RV_ERR_FORMAT);
	assert_int_equal(rv_bank_count(f.bank), 0); /* all or none */
	float query[RV_EMBEDDING_DIM] = {0};
	rv_bank_hit hits[64];
	int64_t n;
	assert_ok(rv_bank_add(f.bank, &items[0].t, 1, NULL));
	assert_int_equal(rv_bank_search(f.bank, query, NULL, hits, &n), RV_ERR_NUMERIC);
	query[0] = NAN;
	assert_int_equal(rv_bank_search(f.bank, query, NULL, hits, &n), RV_ERR_NUMERIC);
	rv_bank_query how = rv_bank_query_defaults();
	how.k = 0;
	assert_int_equal(rv_bank_search(f.bank, query, &how, hits, &n), RV_ERR_INVALID);
	assert_ok(rv_bank_verify(f.bank));
	end(&f);
}

static void filters_and_ages(void **state) {
	(void)state;
	fixture f;
	begin(&f);
	rv_bank_hit hits[64];
	for (int v = 0; v < 10; v++)
		assert_ok(kit_add(f.bank, 1, v, 0.1f * (float)v));
	rv_bank_query how = rv_bank_query_defaults();
	assert_int_equal(search(&f, 1, &how, hits), 4); /* threshold 0.6: .6 .7 .8 .9 */
	how.min_quality = 0;
	assert_int_equal(search(&f, 1, &how, hits), 10);
	how.min_quality = 0.85f;
	assert_int_equal(search(&f, 1, &how, hits), 1);
	how.min_quality = 0;
	how.verdicts = 1u << RV_VERDICT_FAILURE;
	assert_int_equal(search(&f, 1, &how, hits), 6);
	how.verdicts = 0;
	how.order = RV_BANK_BY_SCORE;
	assert_int_equal(search(&f, 1, &how, hits), 10);
	assert_true(fabsf(hits[0].quality - 0.9f) < 1e-6f); /* alike: quality decides */
	/* half-life 30 days */
	rv_sim_clock_advance(&f.clock, 30 * DAY);
	how = rv_bank_query_defaults();
	assert_int_equal(search(&f, 1, &how, hits), 0);
	how.min_quality = 0.4f;
	assert_int_equal(search(&f, 1, &how, hits), 2); /* .8 .9, halved */
	assert_ok(kit_add(f.bank, 1, 50, 0.9f));
	how.since = KIT_START + DAY;
	assert_int_equal(search(&f, 1, &how, hits), 1);
	int64_t n;
	assert_ok(rv_bank_prune(f.bank, DAY, 0.3f, &n));
	assert_int_equal(n, 6); /* 0 to .5, halved; .6 to .9 and the new one stay */
	assert_int_equal(rv_bank_count(f.bank), 5);
	assert_ok(rv_bank_verify(f.bank));
	rv_bank_stats stats;
	assert_ok(rv_bank_stats_get(f.bank, &stats));
	assert_int_equal(stats.count, 5);
	assert_int_equal(stats.by_verdict[RV_VERDICT_SUCCESS], 5);
	assert_int_equal(stats.oldest, KIT_START);
	end(&f);
}

static void capacity_keeps_the_best(void **state) {
	(void)state;
	fixture f;
	begin(&f);
	close_bank(&f);
	f.options.capacity = 20;
	open_bank(&f);
	for (int v = 0; v < 60; v++)
		assert_ok(kit_add(f.bank, v % 7, v, (float)(v * 37 % 60) / 60.0f));
	assert_int_equal(rv_bank_count(f.bank), 20);
	rv_bank_hit hits[64];
	rv_bank_query how = rv_bank_query_defaults();
	how.k = 20;
	how.min_quality = 0;
	assert_int_equal(search(&f, 0, &how, hits), 20);
	for (int i = 0; i < 20; i++)
		assert_true(hits[i].quality > 39.5f / 60);
	assert_ok(rv_bank_verify(f.bank));
	/* and what was evicted does not stay in the graph for ever */
	for (int v = 60; v < 120; v++)
		assert_ok(kit_add(f.bank, v % 7, v, 0.99f));
	rv_hnsw_stats stats = rv_hnsw_get_stats(f.bank->index);
	assert_true(stats.live == 20 && stats.removed > 0 && stats.removed <= 33);
	assert_ok(rv_bank_verify(f.bank));
	end(&f);
}

static void distills(void **state) {
	(void)state;
	fixture f;
	begin(&f);
	for (int topic = 0; topic < 6; topic++)
		for (int v = 0; v < 10; v++)
			assert_ok(kit_add(f.bank, topic, v, v == 3 ? 1.0f : v < 8 ? 0.8f : 0.2f));
	/* nothing is alike enough */
	rv_bank_distill_options o = rv_bank_distill_defaults();
	o.merge_similarity = 0.9999f;
	rv_bank_distill_report report;
	assert_ok(rv_bank_distill(f.bank, &o, &report));
	assert_true(report.before == 60 && report.after == 60 && report.merged == 0);
	/* noise 0.2: 1 / (1 + 0.04) alike; successes and failures apart */
	o.merge_similarity = 0.9f;
	assert_ok(rv_bank_distill(f.bank, &o, &report));
	assert_true(report.merged == 48 && report.after == 12);
	assert_ok(rv_bank_verify(f.bank));
	rv_trajectory t;
	assert_ok(
	        rv_bank_get(f.bank, "00000002-0000-4000-8000-000000000003", &t)); /* the best stayed */
	assert_true(t.weight == 8 && fabsf(t.quality - (1.0f + 7 * 0.8f) / 8) < 1e-5f &&
	            t.final_quality == 1.0f);
	rv_trajectory_deinit(&t);
	/* 6 topics, each with a success and a failure, into 3 clusters: at most one of a verdict each
	 */
	o.merge_similarity = 2;
	o.max_patterns = 3;
	assert_ok(rv_bank_distill(f.bank, &o, &report));
	assert_true(report.merged == 0 && report.after == 6 && report.clustered == 6);
	rv_bank_stats stats;
	assert_ok(rv_bank_stats_get(f.bank, &stats));
	assert_true(stats.total_weight == 60);
	assert_ok(rv_bank_verify(f.bank));
	end(&f);
}

/* ---- many at once ---- */

enum { N_WRITERS = 3, N_EACH = 40 };

typedef struct crowd {
	rv_bank *bank;
	int me;
	atomic_int *stop;
	int n_failed;
} crowd;

static void *add_and_remove(void *arg) {
	crowd *c = arg;
	for (int i = 0; i < N_EACH; i++) {
		c->n_failed += kit_add(c->bank, c->me, i, 0.9f) != RV_OK;
		char id[RV_UUID_TEXT];
		snprintf(id, sizeof id, "%08x-0000-4000-8000-%012x", c->me, i / 2);
		if (i % 4 == 3)
			c->n_failed += rv_bank_remove(c->bank, id) != RV_OK;
	}
	return NULL;
}

static void *look(void *arg) {
	crowd *c = arg;
	float query[RV_EMBEDDING_DIM];
	rv_bank_hit hits[64];
	for (int i = 0; !atomic_load(c->stop); i++) {
		rv_bank_query how = rv_bank_query_defaults();
		how.min_quality = i % 2 ? 0 : 0.5f;
		int64_t n = 0;
		kit_vector(i % N_WRITERS, i, 0.2f, query);
		c->n_failed += rv_bank_search(c->bank, query, &how, hits, &n) != RV_OK || n > 10;
		for (int64_t h = 0; h < n; h++)
			c->n_failed += hits[h].quality != 0.9f;
	}
	return NULL;
}

static void writers_and_readers(void **state) {
	(void)state;
	fixture f;
	begin(&f);
	f.options.half_life_ms = 0;
	atomic_int stop = 0;
	pthread_t threads[N_WRITERS + 2];
	crowd crowds[N_WRITERS + 2];
	for (int i = 0; i < N_WRITERS + 2; i++) {
		crowds[i] = (crowd){.bank = f.bank, .me = i, .stop = &stop};
		assert_int_equal(pthread_create(&threads[i], NULL,
		                                i < N_WRITERS ? add_and_remove : look, &crowds[i]),
		                 0);
	}
	for (int i = 0; i < N_WRITERS + 2; i++) {
		if (i == N_WRITERS)
			atomic_store(&stop, 1);
		pthread_join(threads[i], NULL);
		assert_int_equal(crowds[i].n_failed, 0);
	}
	assert_int_equal(rv_bank_count(f.bank), N_WRITERS * N_EACH * 3 / 4);
	assert_ok(rv_bank_verify(f.bank));
	close_bank(&f);
	open_bank(&f);
	assert_int_equal(rv_bank_count(f.bank), N_WRITERS * N_EACH * 3 / 4);
	assert_ok(rv_bank_verify(f.bank));
	end(&f);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(adds_and_finds),   cmocka_unit_test(codes_and_vectors),
	        cmocka_unit_test(gets_back_whole),  cmocka_unit_test(refuses),
	        cmocka_unit_test(filters_and_ages), cmocka_unit_test(capacity_keeps_the_best),
	        cmocka_unit_test(distills),         cmocka_unit_test(writers_and_readers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
