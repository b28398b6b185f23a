/* A conversation that outlives its process: its keys and values go into a file, the session says where,
 * and what is read back goes on with the same bits. When the session goes, so does the file. */
#include "base/mem.h"
#include "engine/kv_spill.h"
#include "memory/sessions.h"
#include "tests/memory/folder.h"
#include "tests/support/tiny_model.h"

#include <unistd.h>

enum { N_TOKENS = 40 };

static rv_context *make_context(rv_model *model) {
	rv_context_options o = rv_context_defaults();
	rv_context *ctx;
	o.n_ctx = 128;
	o.n_threads = 1;
	assert_ok(rv_context_create(&ctx, model, &o));
	return ctx;
}

/* Evaluates tokens [from, to) of the conversation; the last one's logits. */
static const float *talk(rv_context *ctx, int from, int to) {
	rv_row rows[N_TOKENS];
	for (int i = from; i < to; i++)
		rows[i - from] = (rv_row){.token = (i * 37) % 512,
		                          .position = i,
		                          .parent = -1,
		                          .flags = i == to - 1 ? RV_ROW_LOGITS : 0};
	assert_ok(rv_context_eval(ctx, rows, to - from));
	return rv_context_logits(ctx, to - from - 1);
}

static void drop_file(void *user, const rv_session *session) {
	assert_int_equal(session->kv_cache_ref.tier, RV_KV_COLD);
	assert_int_equal(unlink(session->kv_cache_ref.location), 0);
	++*(int *)user;
}

static void a_session_goes_on(void **state) {
	(void)state;
	char dir[256], path[300];
	rv_sim_clock sim;
	rv_store *store;
	rv_sessions *sessions;
	rv_store_options so = rv_store_defaults();
	int n_gone = 0;
	const rv_sessions_options o = {10, 1000, drop_file, &n_gone};
	char model_path[1024]; /* the file of keys and values names the model by its content */
	rv_model *model;
	const size_t bytes = 512 * sizeof(float);
	float expected[512];

	tiny_model_file(model_path, "qwen2", "Q8_0");
	assert_ok(rv_model_open(&model, model_path, NULL));
	folder_make(dir);
	snprintf(path, sizeof path, "%s/talk.kv", dir);
	rv_sim_clock_init(&sim, 5000);
	so.clock = rv_sim_clock_source(&sim);

	/* one process: two turns, of which the first is kept */
	rv_context *ctx = make_context(model);
	talk(ctx, 0, 30);
	assert_ok(rv_seq_save(ctx, 0, NULL, 0, path));
	memcpy(expected, talk(ctx, 30, N_TOKENS), bytes);
	rv_context_destroy(ctx);
	assert_ok(rv_store_open(&store, dir, &so));
	assert_ok(rv_sessions_open(&sessions, store, &o));
	const rv_session session = {.session_id = "talk",
	                            .kv_cache_ref = {RV_KV_COLD, path, 30, "f16", 5000},
	                            .turn_count = 1};
	assert_ok(rv_sessions_put(sessions, &session));
	assert_ok(rv_sessions_close(sessions));
	assert_ok(rv_store_close(store));

	/* the next one */
	rv_session *found;
	rv_seq_file_info info;
	assert_ok(rv_store_open(&store, dir, &so));
	assert_ok(rv_sessions_open(&sessions, store, &o));
	assert_ok(rv_sessions_get(sessions, "talk", &found));
	ctx = make_context(model);
	assert_ok(rv_seq_load(ctx, 0, 0, found->kv_cache_ref.location, NULL, 0, &info));
	assert_int_equal(info.n_tokens, found->kv_cache_ref.cached_tokens);
	assert_memory_equal(talk(ctx, 30, N_TOKENS), expected, bytes);
	rv_context_destroy(ctx);
	rv_free(found);
	/* control: without what was kept the answer is another */
	ctx = make_context(model);
	talk(ctx, 0, 1);
	assert_memory_not_equal(talk(ctx, 1, N_TOKENS - 29), expected, bytes);
	rv_context_destroy(ctx);

	rv_sim_clock_advance(&sim, 1001);
	assert_ok(rv_sessions_expire(sessions, NULL));
	assert_int_equal(n_gone, 1);
	assert_int_not_equal(access(path, F_OK), 0);
	assert_ok(rv_sessions_close(sessions));
	assert_ok(rv_store_close(store));
	rv_model_release(model);
	unlink(model_path);
	folder_remove(dir);
}

int main(void) {
	const struct CMUnitTest tests[] = {cmocka_unit_test(a_session_goes_on)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
