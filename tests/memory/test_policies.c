/* Policies: stored, cached for a while, and defaults where there is nothing to read. */
#include "tests/memory/bank_kit.h"

#include "base/file.h"
#include "memory/policies.h"

#include <sqlite3.h>

static rv_sim_clock sim;

static void open_store(const char *dir, rv_store **store) {
	rv_store_options o = rv_store_defaults();
	o.clock = rv_sim_clock_source(&sim);
	o.seeded = 1;
	assert_ok(rv_store_open(store, dir, &o));
}

static rv_policy policy_of(rv_policy_type type, const float *embedding, float confidence) {
	return (rv_policy){.policy_type = type,
	                   .embedding = embedding,
	                   .parameters = "{\"layer_range\":[0,8],\"precision\":\"q8\"}",
	                   .confidence = confidence,
	                   .source = RV_SOURCE_BACKGROUND};
}

static void expect(rv_policies *p, rv_policy_type type, rv_policy_origin origin, const char *id) {
	rv_policy got;
	assert_ok(rv_policies_get(p, type, &got));
	assert_string_equal(rv_policy_origin_name(got.origin), rv_policy_origin_name(origin));
	assert_int_equal(got.policy_type, type);
	if (id != NULL)
		assert_string_equal(got.id, id);
	json_t *parameters = NULL;
	assert_ok(rv_json_parse(got.parameters, strlen(got.parameters), "parameters", &parameters));
	assert_true(json_is_object(parameters));
	json_decref(parameters);
	rv_policy_deinit(&got);
}

static void stored_cached_expired(void **state) {
	(void)state;
	char dir[256], a[RV_UUID_TEXT], b[RV_UUID_TEXT];
	float x[RV_EMBEDDING_DIM], fisher[5] = {0, 1, 2, 3, 4};
	folder_make(dir);
	rv_sim_clock_init(&sim, KIT_START);
	rv_store *store;
	rv_policies *p, *other;
	open_store(dir, &store);
	assert_ok(rv_policies_open(&p, store, NULL));
	assert_ok(rv_policies_open(&other, store, NULL));
	for (int type = 0; type < RV_POLICY_COUNT; type++)
		expect(p, (rv_policy_type)type, RV_POLICY_COLD_START, NULL);
	kit_vector(1, 1, 0, x);
	rv_policy policy = policy_of(RV_POLICY_EWC, x, 0.5f);
	policy.fisher_diagonal = fisher;
	policy.n_fisher = 5;
	assert_ok(rv_policies_put(p, &policy, a));
	expect(p, RV_POLICY_EWC, RV_POLICY_STORED, a);
	expect(p, RV_POLICY_EWC, RV_POLICY_CACHED, a);
	expect(p, RV_POLICY_ROUTER, RV_POLICY_CACHED + 2, NULL); /* cold start, though fetched */
	rv_policy got;
	assert_ok(rv_policies_get(p, RV_POLICY_EWC, &got));
	assert_true(got.n_fisher == 5 && got.confidence == 0.5f && got.created_at == KIT_START &&
	            got.source == RV_SOURCE_BACKGROUND);
	assert_memory_equal(got.fisher_diagonal, fisher, sizeof fisher);
	assert_memory_equal(got.embedding, x, sizeof x);
	rv_policy_deinit(&got);
	/* what another writes is seen when the TTL is over, and what one writes at once */
	expect(other, RV_POLICY_EWC, RV_POLICY_STORED, a);
	policy.confidence = 0.9f;
	assert_ok(rv_policies_put(p, &policy, b));
	expect(p, RV_POLICY_EWC, RV_POLICY_STORED, b);
	expect(other, RV_POLICY_EWC, RV_POLICY_CACHED, a);
	rv_sim_clock_advance(&sim, 59999);
	expect(other, RV_POLICY_EWC, RV_POLICY_CACHED, a);
	rv_sim_clock_advance(&sim, 1);
	expect(other, RV_POLICY_EWC, RV_POLICY_STORED, b);
	rv_sim_clock_advance(&sim, -100000); /* a clock set back is no youth */
	expect(other, RV_POLICY_EWC, RV_POLICY_STORED, b);
	assert_ok(rv_policies_remove(p, b));
	assert_int_equal(rv_policies_remove(p, b), RV_ERR_NOT_FOUND);
	expect(p, RV_POLICY_EWC, RV_POLICY_STORED, a);
	assert_ok(rv_policies_close(p));
	assert_ok(rv_policies_close(other));
	assert_ok(rv_store_close(store));
	open_store(dir, &store);
	assert_ok(rv_policies_open(&p, store, NULL));
	expect(p, RV_POLICY_EWC, RV_POLICY_STORED, a);
	assert_ok(rv_policies_close(p));
	assert_ok(rv_store_close(store));
	folder_remove(dir);
}

static void found_by_meaning(void **state) {
	(void)state;
	char dir[256], ids[6][RV_UUID_TEXT];
	folder_make(dir);
	rv_sim_clock_init(&sim, KIT_START);
	rv_store *store;
	rv_policies *p;
	open_store(dir, &store);
	assert_ok(rv_policies_open(&p, store, NULL));
	float x[RV_EMBEDDING_DIM];
	rv_policy out[6];
	int64_t n;
	kit_vector(0, 0, 0.2f, x);
	assert_ok(rv_policies_search(p, RV_POLICY_QUANTIZATION, x, 3, 0, out, &n));
	assert_true(n == 1 && out[0].origin == RV_POLICY_COLD_START && out[0].embedding == NULL);
	rv_policy_deinit(&out[0]);
	for (int i = 0; i < 6; i++) {
		kit_vector(i, 1, 0.2f, x);
		rv_policy policy = policy_of(RV_POLICY_QUANTIZATION, x, 0.1f * (float)(i + 1));
		assert_ok(rv_policies_put(p, &policy, ids[i]));
	}
	for (int i = 0; i < 6; i++) {
		rv_sim_clock_advance(&sim, 10);
		kit_vector(i, 2, 0.2f, x);
		assert_ok(rv_policies_search(p, RV_POLICY_QUANTIZATION, x, 1, 0, out, &n));
		assert_int_equal(n, 1);
		assert_string_equal(out[0].id, ids[i]);
		assert_true(out[0].similarity > 0.9f);
		rv_policy_deinit(&out[0]);
	}
	/* too little confidence: the nearest of the others */
	kit_vector(0, 2, 0.2f, x);
	assert_ok(rv_policies_search(p, RV_POLICY_QUANTIZATION, x, 6, 0.35f, out, &n));
	assert_int_equal(n, 3);
	for (int i = 0; i < 3; i++) {
		assert_true(out[i].confidence > 0.35f &&
		            (i == 0 || out[i].similarity <= out[i - 1].similarity));
		rv_policy_deinit(&out[i]);
	}
	/* the least recently accessed go: 0, 1, 2 were asked for first */
	assert_ok(rv_policies_evict(p, RV_POLICY_QUANTIZATION, 3, &n));
	assert_int_equal(n, 3);
	assert_int_equal(rv_policies_remove(p, ids[2]), RV_ERR_NOT_FOUND);
	assert_ok(rv_policies_remove(p, ids[3]));
	memset(x, 0, sizeof x);
	assert_int_equal(rv_policies_search(p, RV_POLICY_QUANTIZATION, x, 1, 0, out, &n),
	                 RV_ERR_NUMERIC);
	assert_ok(rv_policies_close(p));
	assert_ok(rv_store_close(store));
	folder_remove(dir);
}

static void refused(void **state) {
	(void)state;
	char dir[256];
	folder_make(dir);
	rv_sim_clock_init(&sim, KIT_START);
	rv_store *store;
	rv_policies *p;
	open_store(dir, &store);
	assert_ok(rv_policies_open(&p, store, NULL));
	float x[RV_EMBEDDING_DIM], bad[RV_EMBEDDING_DIM], fisher[2] = {1, -1};
	kit_vector(0, 0, 1, x);
	memcpy(bad, x, sizeof x);
	bad[767] = INFINITY;
	rv_policy good = policy_of(RV_POLICY_PATTERN, x, 1), policy = good;
	policy.embedding = bad;
	assert_int_equal(rv_policies_put(p, &policy, NULL), RV_ERR_NUMERIC);
	policy.embedding = NULL;
	assert_int_equal(rv_policies_put(p, &policy, NULL), RV_ERR_NUMERIC);
	policy = good;
	policy.parameters = "{\"a\":1,\"a\":2}";
	assert_int_equal(rv_policies_put(p, &policy, NULL), RV_ERR_FORMAT);
	policy.parameters = "[1]";
	assert_int_equal(rv_policies_put(p, &policy, NULL), RV_ERR_FORMAT);
	policy = good;
	policy.confidence = NAN;
	assert_int_equal(rv_policies_put(p, &policy, NULL), RV_ERR_INVALID);
	policy = good;
	policy.fisher_diagonal = fisher;
	policy.n_fisher = 2;
	assert_int_equal(rv_policies_put(p, &policy, NULL), RV_ERR_NUMERIC);
	policy = good;
	snprintf(policy.id, sizeof policy.id, "not-a-uuid");
	assert_int_equal(rv_policies_put(p, &policy, NULL), RV_ERR_INVALID);
	expect(p, RV_POLICY_PATTERN, RV_POLICY_COLD_START, NULL);
	assert_ok(rv_policies_put(p, &good, NULL)); /* and the good one goes */
	expect(p, RV_POLICY_PATTERN, RV_POLICY_STORED, NULL);
	assert_ok(rv_policies_close(p));
	assert_ok(rv_store_close(store));
	folder_remove(dir);
}

/* Flips a byte of a row behind the store's back. */
static void damage(const char *dir) {
	char path[300];
	sqlite3 *db;
	snprintf(path, sizeof path, "%s/memory.db", dir);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "UPDATE policies SET confidence = confidence + 0.01", NULL,
	                              NULL, NULL),
	                 SQLITE_OK);
	sqlite3_close(db);
}

static void unavailable_store(void **state) {
	(void)state;
	char dir[256], id[RV_UUID_TEXT];
	rv_policies *p;
	assert_ok(rv_policies_open(&p, NULL, NULL));
	expect(p, RV_POLICY_ROUTER, RV_POLICY_UNAVAILABLE, NULL);
	float x[RV_EMBEDDING_DIM];
	kit_vector(0, 0, 1, x);
	rv_policy policy = policy_of(RV_POLICY_ROUTER, x, 0.5f);
	assert_int_equal(rv_policies_put(p, &policy, NULL), RV_ERR_INVALID);
	assert_ok(rv_policies_close(p));

	folder_make(dir);
	rv_sim_clock_init(&sim, KIT_START);
	rv_store *store;
	open_store(dir, &store);
	assert_ok(rv_policies_open(&p, store, NULL));
	assert_ok(rv_policies_put(p, &policy, id));
	expect(p, RV_POLICY_ROUTER, RV_POLICY_STORED, id);
	damage(dir);
	expect(p, RV_POLICY_ROUTER, RV_POLICY_CACHED, id);
	rv_sim_clock_advance(&sim, 60000);
	expect(p, RV_POLICY_ROUTER, RV_POLICY_STALE, id); /* what is known is better than nothing */
	assert_ok(rv_policies_close(p));
	assert_ok(rv_policies_open(&p, store, NULL));
	expect(p, RV_POLICY_ROUTER, RV_POLICY_UNAVAILABLE, NULL);
	assert_int_equal(rv_policies_stats_get(p).defaults, 1);
	assert_ok(rv_policies_close(p));
	assert_ok(rv_store_close(store));
	folder_remove(dir);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(stored_cached_expired),
	        cmocka_unit_test(found_by_meaning),
	        cmocka_unit_test(refused),
	        cmocka_unit_test(unavailable_store),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
