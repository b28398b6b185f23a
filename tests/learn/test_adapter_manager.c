/* Adapters and routers by name in a pool they share with KV pages: who is hot, who leaves first, what a
 * file that changed or is damaged does, and all of it from many threads. */
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "engine/context.h"
#include "learn/adapter_manager.h"
#include "learn/router_manager.h"
#include "model/adapter_write.h"
#include "tests/support/tiny_model.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

enum { N_ADAPTERS = 8, RANK = 8 };

typedef struct kit {
	rv_model *model;
	rv_pool *pool;
	rv_adapter_manager *m;
	rv_residency *r;
	char dir[512], sha[N_ADAPTERS][65];
} kit;

static rv_adapter *make_adapter(const rv_model *model, uint64_t seed) {
	static const rv_role roles[] = {RV_ATTN_Q, RV_FFN_DOWN};
	static const int64_t in[] = {256, 512};
	rv_adapter_matrix parts[2];
	float *data[4];
	rv_adapter *ad;
	rv_rng rng;
	rv_rng_seed(&rng, seed);
	for (int i = 0; i < 4; i++) {
		const int64_t n = RANK * (i % 2 ? 256 : in[i / 2]);
		assert_ok(RV_ALLOC(&data[i], n, "factor"));
		for (int64_t j = 0; j < n; j++)
			data[i][j] = (float)(0.05 * rv_rng_normal(&rng));
	}
	for (int i = 0; i < 2; i++)
		parts[i] = (rv_adapter_matrix){roles[i], 1, RANK, data[2 * i], data[2 * i + 1], 0.5f};
	assert_ok(rv_adapter_create(&ad, model, "made", parts, 2));
	for (int i = 0; i < 4; i++)
		rv_free(data[i]);
	return ad;
}

static const char *file_of(const kit *k, int i, char path[1024]) {
	snprintf(path, 1024, "%s/file-%d.gguf", k->dir, i);
	return path;
}

static const char *name_of(int i) {
	static const char *const names[N_ADAPTERS] = {"a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7"};
	return names[i];
}

static void open_kit(kit *k, size_t pages, int max_warm, int with_dir) {
	const char *tmp = getenv("TMPDIR");
	char path[1024];
	snprintf(k->dir, sizeof k->dir, "%s/rv-manager-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(k->dir));
	k->model = tiny_model("qwen2", "F16");
	assert_ok(rv_pool_create(&k->pool, pages * RV_POOL_PAGE_BYTES, 0.70, 0.85));
	rv_residency_options o = rv_residency_defaults();
	o.pool = k->pool;
	o.max_warm = max_warm;
	o.dir = with_dir ? k->dir : NULL;
	assert_ok(rv_adapter_manager_create(&k->m, k->model, &o));
	k->r = rv_adapter_manager_residency(k->m);
	const rv_adapter_write_options f32 = {.type = rv_type_get(RV_F32)};
	for (int i = 0; i < N_ADAPTERS; i++) {
		rv_adapter *ad = make_adapter(k->model, (uint64_t)i);
		rv_adapter_sha256(ad, k->sha[i]);
		assert_ok(rv_adapter_write(file_of(k, i, path), ad, k->model, &f32));
		rv_adapter_release(ad);
		assert_ok(rv_adapter_manager_add(k->m, name_of(i), path));
	}
}

static void close_kit(kit *k) {
	char command[600];
	rv_adapter_manager_destroy(k->m);
	rv_pool_destroy(k->pool);
	rv_model_release(k->model);
	snprintf(command, sizeof command, "rm -r '%s'", k->dir);
	assert_int_equal(system(command), 0);
}

static rv_resident_info info(const kit *k, const char *name) {
	rv_resident_info out;
	assert_ok(rv_residency_find(k->r, name, &out));
	return out;
}

static int count(const kit *k, rv_residence residence) {
	int n = 0;
	rv_resident_info out;
	for (int i = 0; rv_residency_at(k->r, i, &out) == RV_OK; i++)
		n += out.residence == residence;
	return n;
}

static rv_adapter *acquire(const kit *k, int i) {
	rv_adapter *ad;
	char hex[65];
	assert_ok(rv_adapter_manager_acquire(k->m, name_of(i), &ad));
	rv_adapter_sha256(ad, hex);
	assert_string_equal(hex, k->sha[i]);
	return ad;
}

static void touch(const kit *k, int i) {
	rv_adapter_release(acquire(k, i));
}

static void expect(rv_status st, rv_status wanted, const char *what) {
	if (st != wanted || !strstr(rv_error_message(), what))
		fail_msg("expected '%s', got %s: %s", what, rv_status_text(st), rv_error_message());
}

static void test_tiers(void **state) {
	(void)state;
	kit k;
	rv_pool_stats s;
	open_kit(&k, 5, 3, 1); /* from 4.25 pages on down to 3.5: 3 stay beside the new one */
	assert_int_equal(count(&k, RV_RESIDENCE_WARM), 3);
	assert_int_equal(count(&k, RV_RESIDENCE_COLD), N_ADAPTERS - 3);
	assert_int_equal(info(&k, "a7").residence, RV_RESIDENCE_WARM); /* the last ones added */
	assert_int_equal(info(&k, "a0").residence, RV_RESIDENCE_COLD);
	for (int i = 0; i < 4; i++)
		touch(&k, i);
	assert_int_equal(count(&k, RV_RESIDENCE_HOT), 4);
	touch(&k, 0); /* a1 is the longest unused now */
	touch(&k, 4);
	assert_int_equal(info(&k, "a1").n_evicted, 1);
	assert_int_equal(info(&k, "a1").residence, RV_RESIDENCE_WARM);
	assert_int_equal(info(&k, "a0").residence, RV_RESIDENCE_HOT);
	assert_int_equal(info(&k, "a0").n_loaded, 1);
	assert_int_equal(info(&k, "a0").n_acquired, 2);
	assert_int_equal(info(&k, "a0").n_from_cold, 1);
	assert_int_equal((int64_t)info(&k, "a0").hot_bytes, (int64_t)RV_POOL_PAGE_BYTES);
	assert_int_equal((int64_t)info(&k, "a1").hot_bytes, 0);
	for (int round = 0; round < 40; round++)
		touch(&k, (round * 5) % N_ADAPTERS);
	assert_true(count(&k, RV_RESIDENCE_WARM) <= 3);
	rv_pool_get_stats(k.pool, &s);
	assert_true(s.peak_bytes <= s.budget_bytes);
	assert_int_equal((int64_t)s.used_bytes,
	                 count(&k, RV_RESIDENCE_HOT) * (int64_t)RV_POOL_PAGE_BYTES);
	close_kit(&k);
}

/* What somebody holds stays; when all is held, the next is refused, and served once there is room. */
static void test_held(void **state) {
	(void)state;
	kit k;
	rv_adapter *held[3], *more;
	open_kit(&k, 3, 8, 1);
	for (int i = 0; i < 3; i++)
		held[i] = acquire(&k, i);
	expect(rv_adapter_manager_acquire(k.m, "a3", &more), RV_ERR_LIMIT, "a3: memory pool");
	assert_null(more);
	assert_int_equal(info(&k, "a3").residence, RV_RESIDENCE_WARM);
	for (int i = 0; i < 3; i++)
		assert_int_equal(info(&k, name_of(i)).residence, RV_RESIDENCE_HOT);
	rv_adapter_release(held[1]);
	touch(&k, 3);
	assert_int_equal(info(&k, "a1").residence, RV_RESIDENCE_WARM);
	/* the manager goes, what is held stays, and its pages with it */
	char hex[65];
	rv_pool_stats s;
	rv_adapter_manager_destroy(k.m);
	k.m = NULL;
	rv_pool_get_stats(k.pool, &s);
	assert_int_equal((int64_t)s.used_bytes, 2 * (int64_t)RV_POOL_PAGE_BYTES);
	rv_adapter_sha256(held[2], hex);
	assert_string_equal(hex, k.sha[2]);
	rv_adapter_release(held[0]);
	rv_adapter_release(held[2]);
	rv_pool_get_stats(k.pool, &s);
	assert_int_equal((int64_t)s.used_bytes, 0);
	close_kit(&k);
}

/* Made in memory: written before it leaves; nowhere to write to, it stays. */
static void test_put(void **state) {
	(void)state;
	for (int with_dir = 0; with_dir < 2; with_dir++) {
		kit k;
		rv_adapter *made, *got;
		char hex[65], wanted[65], path[1024];
		struct stat st;
		open_kit(&k, 3, 8, with_dir);
		made = make_adapter(k.model, 77);
		rv_adapter_sha256(made, wanted);
		assert_ok(rv_adapter_manager_put(k.m, "micro", made));
		rv_adapter_release(made);
		assert_int_equal(info(&k, "micro").unsaved, 1);
		snprintf(path, sizeof path, "%s/micro.gguf", k.dir);
		assert_int_equal(stat(path, &st), -1);
		for (int i = 0; i < 5; i++)
			touch(&k, i);
		assert_int_equal(info(&k, "micro").residence,
		                 with_dir ? RV_RESIDENCE_WARM : RV_RESIDENCE_HOT);
		assert_int_equal(stat(path, &st), with_dir ? 0 : -1);
		assert_ok(rv_adapter_manager_acquire(k.m, "micro", &got));
		rv_adapter_sha256(got, hex);
		assert_string_equal(hex, wanted);
		/* a new version: who holds the old one keeps it */
		made = make_adapter(k.model, 78);
		assert_ok(rv_adapter_manager_put(k.m, "micro", made));
		rv_adapter_release(made);
		assert_int_equal(info(&k, "micro").version, 2);
		rv_adapter_sha256(got, hex);
		assert_string_equal(hex, wanted);
		rv_adapter_release(got);
		assert_ok(rv_adapter_manager_acquire(k.m, "micro", &got));
		rv_adapter_sha256(got, hex);
		assert_string_not_equal(hex, wanted);
		rv_adapter_release(got);
		if (with_dir) {
			assert_ok(rv_residency_flush(k.r));
			assert_int_equal(info(&k, "micro").unsaved, 0);
		} else {
			expect(rv_residency_flush(k.r), RV_ERR_INVALID, "no folder");
		}
		close_kit(&k);
	}
}

static void damage(const char *path, long at) {
	FILE *f = fopen(path, "r+");
	assert_non_null(f);
	assert_int_equal(fseek(f, at, SEEK_SET), 0);
	assert_true(fputc(0xff, f) != EOF);
	assert_int_equal(fclose(f), 0);
}

static void test_bad(void **state) {
	(void)state;
	kit k;
	rv_adapter *ad;
	char path[1024];
	open_kit(&k, 4, 2, 1);
	expect(rv_adapter_manager_acquire(k.m, "none", &ad), RV_ERR_NOT_FOUND, "'none'");
	expect(rv_residency_remove(k.r, "none"), RV_ERR_NOT_FOUND, "'none'");
	expect(rv_adapter_manager_add(k.m, "a0", file_of(&k, 1, path)), RV_ERR_INVALID, "'a0' already");
	expect(rv_adapter_manager_add(k.m, "../x", path), RV_ERR_INVALID, "no name");
	expect(rv_adapter_manager_add(k.m, "", path), RV_ERR_INVALID, "no name");
	expect(rv_adapter_manager_add(k.m, "b", "/nowhere/b.gguf"), RV_ERR_NOT_FOUND,
	       "/nowhere/b.gguf");
	/* changed since it was added: cold and warm, damaged or merely another */
	damage(file_of(&k, 0, path), 100000);
	expect(rv_adapter_manager_acquire(k.m, "a0", &ad), RV_ERR_MISMATCH, "file-0.gguf");
	damage(file_of(&k, 7, path), 10);
	assert_int_equal(info(&k, "a7").residence, RV_RESIDENCE_WARM);
	assert_int_not_equal(rv_adapter_manager_acquire(k.m, "a7", &ad), RV_OK);
	assert_non_null(strstr(rv_error_message(), "file-7.gguf"));
	expect(rv_adapter_manager_add(k.m, "bad", path), RV_ERR_FORMAT, "file-7.gguf");
	assert_int_equal(unlink(file_of(&k, 1, path)), 0);
	assert_int_not_equal(rv_adapter_manager_acquire(k.m, "a1", &ad), RV_OK);
	assert_non_null(strstr(rv_error_message(), "file-1.gguf"));
	/* the others are as before */
	touch(&k, 2);
	assert_ok(rv_residency_remove(k.r, "a2"));
	expect(rv_adapter_manager_acquire(k.m, "a2", &ad), RV_ERR_NOT_FOUND, "'a2'");
	close_kit(&k);
}

/* KV pages, adapters and a router in one budget: a growing sequence drives out what nobody holds, the
 * adapter it is computed with stays, and its logits are those with memory to spare. */
static void test_shared_pool(void **state) {
	(void)state;
	enum { TOKENS = 1500, PAGES = 10 };
	kit k;
	rv_context *ctx;
	rv_router_manager *routers;
	rv_fastgrnn *router, *got;
	rv_pool_stats s;
	float *logits[2];
	rv_row *rows;
	assert_ok(RV_ALLOC(&rows, TOKENS, "rows"));
	for (int32_t i = 0; i < TOKENS; i++)
		rows[i] = (rv_row){.token = (i * 37) % 512,
		                   .position = i,
		                   .parent = -1,
		                   .flags = i == TOKENS - 1 ? RV_ROW_LOGITS : 0};
	for (int small = 0; small < 2; small++) {
		open_kit(&k, small ? PAGES : 64, 8, 1);
		rv_residency_options ro = rv_residency_defaults();
		const rv_fastgrnn_options go = rv_fastgrnn_defaults();
		ro.pool = k.pool;
		ro.dir = k.dir;
		assert_ok(rv_router_manager_create(&routers, &ro));
		assert_ok(rv_fastgrnn_create(&router, &go));
		assert_ok(rv_router_manager_put(routers, "models", router));
		rv_adapter *used = acquire(&k, 3);
		for (int i = 0; i < 6; i++)
			touch(&k, i);
		const rv_adapter_use use = {used, 1};
		rv_context_options o = rv_context_defaults();
		o.n_ctx = 2048;
		o.pool = k.pool;
		o.n_threads = 1;
		o.pin = 0;
		o.kv_type = RV_KV_F32;
		o.adapters = &use;
		o.n_adapters = 1;
		assert_ok(rv_context_create(&ctx, k.model, &o));
		rv_adapter_release(used);
		assert_ok(rv_context_eval(ctx, rows, TOKENS));
		assert_ok(RV_ALLOC(&logits[small], 512, "logits"));
		memcpy(logits[small], rv_context_logits(ctx, TOKENS - 1), 512 * sizeof(float));
		rv_pool_get_stats(k.pool, &s);
		assert_true(s.peak_bytes <= s.budget_bytes);
		assert_int_equal(info(&k, "a3").residence, RV_RESIDENCE_HOT);
		assert_int_equal(info(&k, "a0").residence,
		                 small ? RV_RESIDENCE_WARM : RV_RESIDENCE_HOT);
		/* the router left too, by way of its file, and comes back when there is room */
		rv_resident_info ri;
		assert_ok(rv_residency_find(rv_router_manager_residency(routers), "models", &ri));
		assert_int_equal(ri.residence, small ? RV_RESIDENCE_WARM : RV_RESIDENCE_HOT);
		rv_context_destroy(ctx);
		assert_ok(rv_router_manager_acquire(routers, "models", &got));
		rv_fastgrnn_input input;
		rv_fastgrnn_decision a, b;
		memset(&input, 0, sizeof input);
		input.query[3] = 1;
		assert_ok(rv_fastgrnn_route(router, &input, &a));
		assert_ok(rv_fastgrnn_route(got, &input, &b));
		assert_memory_equal(&a, &b, sizeof a);
		rv_fastgrnn_destroy(got);
		rv_fastgrnn_destroy(router);
		rv_router_manager_destroy(routers);
		close_kit(&k);
	}
	assert_memory_equal(logits[0], logits[1], 512 * sizeof(float));
	rv_free(logits[0]);
	rv_free(logits[1]);
	rv_free(rows);
}

/* ---- many threads ---- */

typedef struct user {
	const kit *k;
	uint64_t seed;
	int n_served, n_refused;
	atomic_int *failures;
} user;

static void *use(void *arg) {
	user *u = arg;
	rv_rng rng;
	rv_rng_seed(&rng, u->seed);
	for (int i = 0; i < 150; i++) {
		const int which = (int)rv_rng_below(&rng, N_ADAPTERS);
		rv_adapter *ad;
		char hex[65];
		rv_status st = rv_adapter_manager_acquire(u->k->m, name_of(which), &ad);
		if (st == RV_OK) {
			rv_adapter_sha256(ad, hex);
			atomic_fetch_add(u->failures, strcmp(hex, u->k->sha[which]) != 0);
			rv_adapter_release(ad);
			u->n_served++;
		} else {
			atomic_fetch_add(u->failures, st != RV_ERR_LIMIT);
			u->n_refused++;
		}
	}
	return NULL;
}

static void *publish(void *arg) {
	user *u = arg;
	for (int i = 0; i < 60; i++) {
		rv_adapter *ad = make_adapter(u->k->model, 1000 + (uint64_t)i);
		rv_status st = rv_adapter_manager_put(u->k->m, "newest", ad);
		atomic_fetch_add(u->failures, st != RV_OK && st != RV_ERR_LIMIT);
		rv_adapter_release(ad);
	}
	return NULL;
}

static void test_threads(void **state) {
	(void)state;
	enum { THREADS = 5 };
	kit k;
	pthread_t threads[THREADS];
	user users[THREADS];
	atomic_int failures = 0;
	rv_pool_stats s;
	int served = 0;
	open_kit(&k, 6, 3, 1);
	for (int i = 0; i < THREADS; i++) {
		users[i] = (user){&k, (uint64_t)i, 0, 0, &failures};
		assert_int_equal(pthread_create(&threads[i], NULL, i ? use : publish, &users[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		served += users[i].n_served;
	}
	assert_int_equal(failures, 0);
	assert_true(served > 300);
	rv_pool_get_stats(k.pool, &s);
	assert_true(s.peak_bytes <= s.budget_bytes && s.evicted > 0);
	close_kit(&k);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_tiers),       cmocka_unit_test(test_held),
	        cmocka_unit_test(test_put),         cmocka_unit_test(test_bad),
	        cmocka_unit_test(test_shared_pool), cmocka_unit_test(test_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
