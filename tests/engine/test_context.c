/* Contexts: bounds, memory, several side by side, values that are not numbers, hooks. */
#include "base/sysinfo.h"
#include "base/threads.h"
#include "engine/context.h"
#include "tests/support/tiny_model.h"

#include <fcntl.h>
#include <math.h>

#define N_VOCAB 512

static void eval_tokens(rv_context *ctx, int32_t n, float *last) {
	rv_row rows[64];
	for (int32_t i = 0; i < n; i++)
		rows[i] = (rv_row){(i * 37 + 5) % N_VOCAB, 0, i, -1, 0, i == n - 1 ? RV_ROW_LOGITS : 0};
	assert_ok(rv_context_eval(ctx, rows, n));
	memcpy(last, rv_context_logits(ctx, n - 1), N_VOCAB * sizeof(float));
}

static double largest_difference(const float *a, const float *b) {
	double d = 0;
	for (int i = 0; i < N_VOCAB; i++)
		d = fabs((double)a[i] - (double)b[i]) > d ? fabs((double)a[i] - (double)b[i]) : d;
	return d;
}

static void options_are_checked(void **state) {
	(void)state;
	rv_model *model = tiny_model("qwen2", "F16");
	rv_context_options d = rv_context_defaults(), o[6];
	rv_context *ctx;
	for (int i = 0; i < 6; i++)
		o[i] = d;
	o[0].n_ctx = -1;
	o[1].n_ctx = 5000000000;
	o[2].n_seqs = 0;
	o[3].n_batch = 0;
	o[4].n_threads = -2;
	o[5].n_threads = 1000000;
	for (int i = 0; i < 6; i++) {
		assert_int_equal(rv_context_create(&ctx, model, &o[i]), RV_ERR_INVALID);
		assert_null(ctx);
	}
	d.attention = RV_ATTN_COUNT;
	assert_int_equal(rv_context_create(&ctx, model, &d), RV_ERR_INVALID);
	rv_model_release(model);
}

static void memory_is_checked(void **state) {
	(void)state;
	rv_model *model = tiny_model("qwen2", "F16");
	rv_context_options o = rv_context_defaults();
	rv_context *ctx;
	o.n_ctx = 2000000000; /* 12 TB of cache */
	o.n_seqs = 8;
	assert_int_equal(rv_context_create(&ctx, model, &o), RV_ERR_NO_MEMORY);
	assert_non_null(strstr(rv_error_message(), "MiB"));
	/* The scratch counts too: as long a cache as there is memory for leaves none for the scores. */
	o.n_seqs = 1;
	o.n_threads = RV_MAX_THREADS;
	o.attention = RV_ATTN_STANDARD;
	o.n_ctx = (int64_t)(rv_mem_available() / 2 / (3 * 2 * 2 * 64 * 2));
	assert_int_equal(rv_context_create(&ctx, model, &o), RV_ERR_NO_MEMORY);
	assert_non_null(strstr(rv_error_message(), "scratch"));
	assert_null(ctx);
	/* A batch is not larger than what the sequences hold. */
	o = rv_context_defaults();
	o.n_ctx = 5;
	o.n_seqs = 3;
	assert_ok(rv_context_create(&ctx, model, &o));
	assert_int_equal(rv_context_get_options(ctx)->n_batch, 15);
	rv_context_destroy(ctx);
	rv_model_release(model);
}

/* What was said about the threads, and how often. */
typedef struct said {
	int warnings, lines;
} said;

static void count_lines(void *user, rv_log_level level, const char *line) {
	said *s = user;
	assert_non_null(strstr(line, "threads"));
	s->lines++;
	s->warnings += level == RV_LOG_WARN;
}

static void threads_are_reported(void **state) {
	(void)state;
	rv_model *model = tiny_model("qwen2", "F16");
	rv_context_options o = rv_context_defaults();
	rv_context *ctx;
	said s = {0};
	o.log = (rv_log){count_lines, &s};
	o.n_threads = 1;
	o.pin = 0;
	assert_ok(rv_context_create(&ctx, model, &o));
	rv_context_destroy(ctx);
	assert_true(s.lines == 1 && s.warnings == 0);
	o.pin = 1;
	setenv("HWLOC_COMPONENTS", "-linux,stop", 1); /* hwloc finds nothing */
	assert_ok(rv_context_create(&ctx, model, &o));
	unsetenv("HWLOC_COMPONENTS");
	rv_context_destroy(ctx);
	assert_true(s.lines == 2 && s.warnings == 1);
	rv_model_release(model);
}

static void level_from_the_environment(void **state) {
	(void)state;
	char *old = getenv("RV_CPU"), saved[64] = "";
	rv_level level;
	if (old)
		snprintf(saved, sizeof saved, "%s", old);
	setenv("RV_CPU", "ref", 1);
	assert_ok(rv_level_default(&level));
	assert_int_equal(level, RV_LEVEL_REF);
	setenv("RV_CPU", "avx3", 1);
	assert_int_equal(rv_level_default(&level), RV_ERR_INVALID);
	assert_non_null(strstr(rv_error_message(), "avx3"));
	for (int l = 0; l < RV_LEVEL_COUNT; l++) {
		setenv("RV_CPU", rv_level_name((rv_level)l), 1);
		assert_int_equal(rv_level_default(&level),
		                 rv_level_available((rv_level)l) ? RV_OK : RV_ERR_UNSUPPORTED);
	}
	if (old)
		setenv("RV_CPU", saved, 1);
	else
		unsetenv("RV_CPU");
}

/* Every backend and level on one model, alive at once, used in turn: near each other, and none disturbs
 * another. */
static void contexts_side_by_side(void **state) {
	(void)state;
	enum { MAX = RV_BACKEND_COUNT + RV_LEVEL_COUNT };
	rv_model *model = tiny_model("qwen2", "F16");
	rv_context *ctx[MAX];
	static float first[MAX][N_VOCAB], again[N_VOCAB];
	int n = 0;
	for (int b = 0; b < RV_BACKEND_COUNT; b++)
		for (int l = 0; l < RV_LEVEL_COUNT; l++) {
			if (!rv_level_available((rv_level)l) ||
			    (b != RV_BACKEND_SIMD && l != RV_LEVEL_REF))
				continue;
			rv_context_options o = rv_context_defaults();
			o.backend = (rv_backend_kind)b;
			o.level = (rv_level)l;
			o.n_threads = 1 + n % 3;
			o.kv_type = RV_KV_F32;
			assert_ok(rv_context_create(&ctx[n++], model, &o));
		}
	for (int i = 0; i < n; i++)
		eval_tokens(ctx[i], 50, first[i]);
	for (int i = 0; i < n; i++) {
		assert_ok(rv_seq_truncate(ctx[i], 0, 0));
		eval_tokens(ctx[i], 50, again);
		assert_memory_equal(again, first[i], sizeof again);
		assert_true(largest_difference(first[i], first[0]) < 1e-3);
	}
	again[3] += 2e-3f; /* negative control */
	assert_false(largest_difference(again, first[n - 1]) < 1e-3);
	for (int i = 0; i < n; i++)
		rv_context_destroy(ctx[i]);
	rv_model_release(model);
}

/* ---- not a number ---- */

/* Overwrites n bytes of a tensor's data, `at` bytes into it. */
static void patch(const char *path, const char *tensor, size_t at, const void *bytes, size_t n) {
	rv_gguf *g;
	size_t data = 0; /* bytes of the data section, padding included */
	assert_ok(rv_gguf_open(&g, path, RV_GGUF_DEFAULT));
	for (size_t i = 0; i < rv_gguf_n_tensors(g); i++)
		data += (rv_gguf_tensor_at(g, i)->n_bytes + 31) & ~(size_t)31;
	size_t offset = rv_gguf_file_bytes(g) - data + rv_gguf_find_tensor(g, tensor)->offset + at;
	rv_gguf_close(g);
	int fd = open(path, O_WRONLY);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, n, (off_t)offset), n);
	close(fd);
}

static void not_a_number_in_vectors(void **state) {
	(void)state;
	static const char *const names[] = {"blk.1.attn_norm.weight", "output_norm.weight",
	                                    "blk.0.attn_k.bias"};
	const float bad[] = {NAN, INFINITY, -INFINITY};
	for (int i = 0; i < 3; i++) {
		char path[1024];
		rv_model *model;
		tiny_model_file(path, "qwen2", "F16");
		patch(path, names[i], 8, &bad[i], sizeof bad[i]);
		assert_int_equal(rv_model_open(&model, path, NULL), RV_ERR_NUMERIC);
		assert_non_null(strstr(rv_error_message(), names[i]));
		unlink(path);
	}
}

static void not_a_number_in_matrices(void **state) {
	(void)state;
	static const char *const names[] = {"blk.0.attn_q.weight",     "blk.0.attn_k.weight",
	                                    "blk.2.attn_v.weight",     "blk.1.ffn_down.weight",
	                                    "blk.2.ffn_up.weight",     "token_embd.weight",
	                                    "blk.2.attn_output.weight"};
	static const rv_f16 bad[] = {0x7e00, 0x7c00, 0xfc00}; /* NaN, +inf, -inf */
	static const char *const types[] = {"F16", "Q8_0", "Q4_K"};
	for (size_t type = 0; type < 3; type++)
		for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
			for (int b = 0; b < 3; b++) {
				char path[1024];
				rv_model *model;
				rv_context *ctx;
				tiny_model_file(path, "qwen2", types[type]);
				/* the first two bytes are an element of F16 or a scale of Q8_0 and
				 * Q4_K; Q6_K mixes keep theirs at the end of the block */
				rv_gguf *g;
				assert_ok(rv_gguf_open(&g, path, RV_GGUF_DEFAULT));
				size_t at = rv_gguf_find_tensor(g, names[i])->type == RV_Q6_K ? 208 : 0;
				rv_gguf_close(g);
				patch(path, names[i], at, &bad[b], sizeof bad[b]);
				rv_status st = rv_model_open(&model, path, NULL);
				unlink(path);
				assert_ok(st);
				rv_context_options o = rv_context_defaults();
				o.n_threads = 1;
				o.n_ctx = 16;
				assert_ok(rv_context_create(&ctx, model, &o));
				rv_row rows[3] = {{0, 0, 0, -1, 0, 0},
				                  {1, 0, 1, -1, 0, 0},
				                  {0, 0, 2, -1, 0, RV_ROW_LOGITS}};
				st = rv_context_eval(ctx, rows, 3);
				if (st != RV_ERR_NUMERIC)
					fail_msg("%s %s %#x: %s", types[type], names[i], bad[b],
					         rv_status_text(st));
				assert_int_equal(rv_seq_length(ctx, 0), 0);
				rv_context_destroy(ctx);
				rv_model_release(model);
			}
}

/* A key that is finite in F32 and infinite in the cache would only look like one nobody attends to. */
static void infinite_in_the_cache(void **state) {
	(void)state;
	static const rv_status expected[RV_KV_COUNT] = {
	        [RV_KV_F16] = RV_ERR_NUMERIC, [RV_KV_Q4] = RV_ERR_NUMERIC, [RV_KV_Q2] = RV_ERR_NUMERIC};
	const float key = 1e6f, query = -1e3f;
	char path[1024];
	rv_model *model;
	tiny_model_file(path, "qwen2", "F16");
	patch(path, "blk.0.attn_k.bias", 0, &key, sizeof key);
	for (size_t head = 0; head < 2; head++) /* those that share the first KV head */
		patch(path, "blk.0.attn_q.bias", head * 64 * sizeof query, &query, sizeof query);
	assert_ok(rv_model_open(&model, path, NULL));
	unlink(path);
	for (int type = 0; type < RV_KV_COUNT; type++) {
		rv_context *ctx;
		rv_context_options o = rv_context_defaults();
		o.n_threads = 1;
		o.n_ctx = 16;
		o.kv_type = (rv_kv_type)type;
		assert_ok(rv_context_create(&ctx, model, &o));
		rv_row rows[2] = {{1, 0, 0, -1, 0, 0}, {2, 0, 1, -1, 0, RV_ROW_LOGITS}};
		rv_status st = rv_context_eval(ctx, rows, 2);
		if (st != expected[type])
			fail_msg("%s: %s", rv_kv_type_name((rv_kv_type)type), rv_status_text(st));
		rv_context_destroy(ctx);
	}
	rv_model_release(model);
}

/* A query whose scores are all minus infinity would look like one that attends to nothing. */
static void infinite_query(void **state) {
	(void)state;
	const rv_f16 infinity = 0x7c00;
	char path[1024];
	rv_model *model;
	rv_context *ctx;
	rv_context_options o = rv_context_defaults();
	tiny_model_file(path, "qwen2", "F16");
	patch(path, "blk.2.attn_q.weight", 0, &infinity, sizeof infinity);
	assert_ok(rv_model_open(&model, path, NULL));
	unlink(path);
	o.n_threads = 1;
	o.n_ctx = 16;
	assert_ok(rv_context_create(&ctx, model, &o));
	for (int32_t i = 0; i < 200; i++) {
		rv_row rows[2] = {{i * 7 % N_VOCAB, 0, 0, -1, 0, 0},
		                  {(i * 13 + 5) % N_VOCAB, 0, 1, -1, 0, RV_ROW_LOGITS}};
		rv_status st = rv_context_eval(ctx, rows, 2);
		if (st != RV_ERR_NUMERIC)
			fail_msg("pair %d: %s", i, rv_status_text(st));
	}
	rv_context_destroy(ctx);
	rv_model_release(model);
}

/* ---- hooks and hidden states ---- */

static rv_status shift(void *user, const rv_site_view *v) {
	int *calls = user;
	calls[v->layer]++;
	for (int64_t i = 0; v->layer == 1 && i < v->n_rows * v->n_output; i++)
		v->output[i] += 0.25f;
	return RV_OK;
}

static void hooks_and_hidden_states(void **state) {
	(void)state;
	rv_model *model = tiny_model("qwen2", "Q8_0");
	rv_context *ctx;
	int calls[3] = {0};
	float plain[N_VOCAB], hooked[N_VOCAB], after[N_VOCAB];
	assert_ok(rv_context_create(&ctx, model, NULL));
	eval_tokens(ctx, 10, plain);
	rv_hooks hooks = {.site = shift, .roles = rv_site_roles(RV_SITE_ATTN_OUT), .user = calls};
	rv_context_set_hooks(ctx, &hooks);
	assert_ok(rv_seq_truncate(ctx, 0, 0));
	eval_tokens(ctx, 10, hooked);
	assert_int_equal(calls[0] + calls[1] + calls[2], 3);
	assert_true(largest_difference(plain, hooked) > 1e-3);
	rv_context_set_hooks(ctx, NULL);
	assert_ok(rv_seq_truncate(ctx, 0, 0));
	eval_tokens(ctx, 10, after);
	assert_memory_equal(after, plain, sizeof plain);
	rv_row rows[] = {{3, 0, 10, -1, 0, RV_ROW_HIDDEN},
	                 {4, 0, 11, -1, 0, 0},
	                 {5, 0, 12, -1, 0, RV_ROW_LOGITS}};
	assert_ok(rv_context_eval(ctx, rows, 3));
	assert_non_null(rv_context_hidden(ctx, 0));
	assert_null(rv_context_logits(ctx, 0));
	assert_null(rv_context_hidden(ctx, 1));
	assert_non_null(rv_context_logits(ctx, 2));
	assert_null(rv_context_hidden(ctx, 2));
	double square = 0;
	for (int i = 0; i < 256; i++)
		square += (double)rv_context_hidden(ctx, 0)[i] * (double)rv_context_hidden(ctx, 0)[i];
	assert_true(fabs(square / 256 - 1) < 0.01); /* normed, norm weights are 1 */
	rv_context_destroy(ctx);
	rv_model_release(model);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(options_are_checked),
	        cmocka_unit_test(memory_is_checked),
	        cmocka_unit_test(threads_are_reported),
	        cmocka_unit_test(infinite_in_the_cache),
	        cmocka_unit_test(infinite_query),
	        cmocka_unit_test(level_from_the_environment),
	        cmocka_unit_test(contexts_side_by_side),
	        cmocka_unit_test(not_a_number_in_vectors),
	        cmocka_unit_test(not_a_number_in_matrices),
	        cmocka_unit_test(hooks_and_hidden_states),
	};
	return cmocka_run_group_tests_name("context", tests, NULL, NULL);
}
