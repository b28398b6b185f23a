/* The invariance contract (SPEC 9): the logits of a token are bit-identical whatever the thread count,
 * batch composition, prefill chunking, copies of sequences, and pages of the KV cache. */
#include "base/threads.h"
#include "engine/context.h"
#include "tests/support/tiny_model.h"

#include <math.h>

#define N_TOKENS 70 /* crosses a block of 64 keys */
#define N_VOCAB 512

typedef struct setting {
	const char *arch, *type;
	rv_kv_type kv;
	rv_attn_kind attention;
	rv_backend_kind backend;
} setting;

static const setting settings[] = {
        {"qwen2", "F16", RV_KV_F16, RV_ATTN_FLASH, RV_BACKEND_SIMD},
        {"qwen2", "Q8_0", RV_KV_F32, RV_ATTN_FLASH, RV_BACKEND_SIMD},
        {"qwen2", "Q4_K_M", RV_KV_Q8, RV_ATTN_FLASH, RV_BACKEND_SIMD},
        {"qwen2", "Q5_K_M", RV_KV_F16, RV_ATTN_STANDARD, RV_BACKEND_SIMD},
        {"qwen2", "Q4_K_M", RV_KV_Q8, RV_ATTN_STANDARD_CAUSAL, RV_BACKEND_SIMD},
        {"qwen3", "Q4_0", RV_KV_F16, RV_ATTN_FLASH, RV_BACKEND_SIMD},
        {"llama", "Q5_1", RV_KV_F16, RV_ATTN_FLASH, RV_BACKEND_SIMD},
        {"llama", "Q6_K", RV_KV_Q4, RV_ATTN_FLASH, RV_BACKEND_SIMD},
        {"qwen2", "Q4_K_M", RV_KV_F16, RV_ATTN_FLASH, RV_BACKEND_REF},
};

static const char *const attentions[RV_ATTN_COUNT] = {"flash", "standard", "standard-causal"};

static int32_t token(int32_t seq, int32_t i) {
	return (int32_t)(((uint32_t)seq * 7919u + (uint32_t)i * 104729u + 13u) % N_VOCAB);
}

/* page_size 0: a cache in one piece. */
static rv_context *open_context(rv_model *model, const setting *s, int n_threads, int32_t n_batch,
                                int32_t page_size) {
	rv_context *ctx;
	rv_context_options o = rv_context_defaults();
	o.n_ctx = 128;
	o.n_seqs = 4;
	o.n_batch = n_batch;
	o.kv_type = s->kv;
	o.attention = s->attention;
	o.backend = s->backend;
	o.n_threads = n_threads;
	o.page_size = page_size;
	assert_ok(rv_context_create(&ctx, model, &o));
	return ctx;
}

static void keep_logits(const rv_context *ctx, int64_t row, float *out, int32_t position) {
	const float *logits = rv_context_logits(ctx, row);
	assert_non_null(logits);
	memcpy(out + position * N_VOCAB, logits, N_VOCAB * sizeof(float));
}

/* Logits of every token of sequence 0, its prompt cut into chunks of `chunk` rows. */
static void by_chunks(rv_context *ctx, int32_t chunk, float *out) {
	for (int32_t i = 0; i < N_TOKENS; i += chunk) {
		rv_row rows[N_TOKENS];
		int32_t n = N_TOKENS - i < chunk ? N_TOKENS - i : chunk;
		for (int32_t j = 0; j < n; j++)
			rows[j] = (rv_row){token(0, i + j), 0, i + j, -1, 0, RV_ROW_LOGITS};
		assert_ok(rv_context_eval(ctx, rows, n));
		for (int32_t j = 0; j < n; j++)
			keep_logits(ctx, j, out, i + j);
	}
}

/* The same sequence among three others that come and go, rows interleaved; batch b brings b % 5 + 1
 * rows of it and rows of the others before and after. */
static void among_others(rv_context *ctx, float *out) {
	int32_t at[4] = {0};
	for (int32_t b = 0; at[0] < N_TOKENS; b++) {
		rv_row rows[64];
		int32_t where[64], n = 0;
		for (int32_t k = 0; k < 12; k++) {
			int32_t seq = (b + k * 3) % 4;
			int32_t many = seq == 0 ? b % 5 + 1 : (b + k) % 3;
			for (int32_t j = 0; j < many && at[seq] < (seq ? 100 : N_TOKENS) && n < 48;
			     j++, n++) {
				where[n] = seq == 0 ? at[0] : -1;
				rows[n] = (rv_row){token(seq, at[seq]),         seq, at[seq], -1, 0,
				                   seq == 0 ? RV_ROW_LOGITS : 0};
				at[seq]++;
			}
		}
		assert_ok(rv_context_eval(ctx, rows, n));
		for (int32_t j = 0; j < n; j++)
			if (where[j] >= 0)
				keep_logits(ctx, j, out, where[j]);
		for (int32_t s = 1; s < 4; s++)
			if (at[s] >= 90) { /* start the sequence over */
				assert_ok(rv_seq_truncate(ctx, s, at[s] = b % 7));
			}
	}
}

/* The same sequence moved on at every step to another number that held something else before. With
 * `wrong`, a step copies from a third sequence, of other tokens. */
static void by_copies(rv_context *ctx, int wrong, float *out) {
	int32_t at = 0, seq = 0;
	for (int32_t s = 0; s < 4; s++)
		assert_ok(rv_seq_truncate(ctx, s, 0));
	for (int32_t step = 1; at < N_TOKENS; step += 4) {
		rv_row rows[2 * N_TOKENS];
		int32_t next = (seq + 1) % 4, third = (seq + 2) % 4;
		int32_t n = N_TOKENS - at < step ? N_TOKENS - at : step, begin = at;
		for (int32_t j = 0; j < n; j++, at++)
			rows[j] = (rv_row){token(0, at), seq, at, -1, 0, RV_ROW_LOGITS};
		assert_ok(rv_context_eval(ctx, rows, n));
		for (int32_t j = 0; j < n; j++)
			keep_logits(ctx, j, out, begin + j);
		assert_ok(rv_seq_truncate(ctx, next, 0));
		assert_ok(rv_seq_truncate(ctx, third, 0));
		for (int32_t j = 0; j < at; j++) {
			rows[2 * j] = (rv_row){token(next + 1, j), next, j, -1, 0, 0};
			rows[2 * j + 1] = (rv_row){token(third + 1, j), third, j, -1, 0, 0};
		}
		assert_ok(rv_context_eval(ctx, rows, 2 * at));
		assert_ok(rv_seq_copy(ctx, wrong && step == 9 ? third : seq, next, at));
		assert_int_equal(rv_seq_length(ctx, next), at);
		seq = next;
	}
}

/* The checker: index of the first differing bit pattern, or -1. */
static int64_t first_difference(const float *a, const float *b, int64_t n) {
	for (int64_t i = 0; i < n; i++)
		if (memcmp(&a[i], &b[i], sizeof(float)) != 0)
			return i;
	return -1;
}

static void assert_same(const float *a, const float *b, const char *what, int value) {
	int64_t i = first_difference(a, b, (int64_t)N_TOKENS * N_VOCAB);
	if (i >= 0)
		fail_msg("%s %d: position %lld, logit %lld: %.9g is not %.9g", what, value,
		         (long long)(i / N_VOCAB), (long long)(i % N_VOCAB), (double)a[i],
		         (double)b[i]);
}

static void invariance(void **state) {
	const setting *s = *state;
	static float base[N_TOKENS * N_VOCAB], other[N_TOKENS * N_VOCAB];
	static const int threads[] = {1, 2, 3, 5};
	static const int32_t pages[] = {64, 0, 8, 256};
	rv_model *model = tiny_model(s->arch, s->type);
	rv_context *ctx = open_context(model, s, 1, 512, 0);
	by_chunks(ctx, N_TOKENS, base);
	for (int64_t i = 0; i < N_TOKENS * N_VOCAB; i++)
		assert_true(isfinite(base[i]));
	/* a token's logits are not those of its neighbour: the comparison looks at something */
	assert_true(first_difference(base, base + N_VOCAB, N_VOCAB) >= 0);
	rv_context_destroy(ctx);
	for (size_t t = 0; t < sizeof threads / sizeof threads[0]; t++) {
		ctx = open_context(model, s, threads[t], 512, pages[t]);
		by_chunks(ctx, N_TOKENS, other);
		assert_same(other, base, "threads", threads[t]);
		assert_ok(rv_seq_truncate(ctx, 0, 0));
		among_others(ctx, other);
		assert_same(other, base, "among other sequences, threads", threads[t]);
		rv_context_destroy(ctx);
	}
	ctx = open_context(model, s, 2, 512, 8);
	for (int32_t chunk = 1; chunk <= 33; chunk++) {
		assert_ok(rv_seq_truncate(ctx, 0, 0));
		by_chunks(ctx, chunk, other);
		assert_same(other, base, "rows a call", chunk);
	}
	by_copies(ctx, 0, other);
	assert_same(other, base, "copied, wrong", 0);
	by_copies(ctx, 1, other); /* control */
	assert_true(first_difference(other, base, (int64_t)N_TOKENS * N_VOCAB) >= 0);
	rv_context_destroy(ctx);
	ctx = open_context(model, s, 2, 19, 16); /* one call, cut inside */
	for (int32_t i = 0; i < 2; i++) {
		rv_row rows[N_TOKENS];
		for (int32_t j = 0; j < N_TOKENS; j++)
			rows[j] = (rv_row){token(0, j), 0, j,
			                   -1,          0, j >= N_TOKENS - 19 ? RV_ROW_LOGITS : 0};
		assert_ok(rv_seq_truncate(ctx, 0, 0));
		assert_ok(rv_context_eval(ctx, rows, N_TOKENS));
		memcpy(other, base, sizeof base);
		for (int32_t j = N_TOKENS - 19; j < N_TOKENS; j++)
			keep_logits(ctx, j, other, j);
		assert_same(other, base, "inner batch", 19);
	}
	rv_context_destroy(ctx);
	rv_model_release(model);
}

/* ---- negative controls ---- */

/* A sum whose order depends on how the work was cut must be seen as different. */
typedef struct sum_job {
	const float *x;
	double exact;
	float partial[64];
	int64_t grain;
} sum_job;

static rv_status sum_range(void *arg, int64_t begin, int64_t end, int thread) {
	(void)thread;
	sum_job *j = arg;
	float s = 0;
	for (int64_t i = begin; i < end; i++)
		s += j->x[i];
	j->partial[begin / j->grain] = s;
	return RV_OK;
}

static float threaded_sum(const float *x, int64_t n, int n_threads) {
	rv_threads *t;
	rv_threads_options o = {n_threads, 0};
	sum_job j = {.x = x, .grain = (n + n_threads - 1) / n_threads};
	float s = 0;
	assert_ok(rv_threads_create(&t, &o));
	assert_ok(rv_threads_for(t, n, j.grain, sum_range, &j));
	rv_threads_destroy(t);
	for (int64_t i = 0; i * j.grain < n; i++)
		s += j.partial[i];
	return s;
}

static void control_thread_dependent_order(void **state) {
	(void)state;
	enum { N = 4001, SUMS = 64 };
	static float x[N + SUMS];
	float one[SUMS], three[SUMS];
	for (int i = 0; i < N + SUMS; i++)
		x[i] = sinf((float)i) * 1e3f;
	for (int i = 0; i < SUMS; i++) {
		one[i] = threaded_sum(x + i, N, 1);
		three[i] = threaded_sum(x + i, N, 3);
	}
	assert_true(first_difference(one, three, SUMS) >= 0);
}

/* Two feature levels, two attention kinds, and two cache types sum or round differently: the same
 * comparison on real logits must see each. */
static void control_other_orders(void **state) {
	(void)state;
	static float a[N_TOKENS * N_VOCAB], b[N_TOKENS * N_VOCAB];
	setting s = settings[2];
	rv_model *model = tiny_model(s.arch, s.type);
	rv_context *ctx = open_context(model, &s, 1, 512, 64);
	by_chunks(ctx, N_TOKENS, a);
	rv_context_destroy(ctx);
	const setting others[] = {{s.arch, s.type, s.kv, RV_ATTN_STANDARD, s.backend},
	                          {s.arch, s.type, RV_KV_F16, s.attention, s.backend},
	                          {s.arch, s.type, s.kv, s.attention, RV_BACKEND_REF}};
	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
		ctx = open_context(model, &others[i], 1, 512, 64);
		by_chunks(ctx, N_TOKENS, b);
		rv_context_destroy(ctx);
		assert_true(first_difference(a, b, (int64_t)N_TOKENS * N_VOCAB) >= 0);
	}
	rv_model_release(model);
}

/* A failed call must leave the sequences as they were. */
static void failed_call_changes_nothing(void **state) {
	(void)state;
	static float a[N_TOKENS * N_VOCAB], b[N_TOKENS * N_VOCAB];
	rv_model *model = tiny_model("qwen2", "Q4_K_M");
	rv_context *ctx = open_context(model, &settings[0], 2, 128, 8);
	by_chunks(ctx, N_TOKENS, a);
	assert_ok(rv_seq_truncate(ctx, 0, 0));
	for (int32_t i = 0; i < N_TOKENS; i++) {
		rv_row row = {token(0, i), 0, i, -1, 0, RV_ROW_LOGITS}, bad[3] = {row, row, row};
		bad[1].position++;
		bad[2].position += 2;
		bad[2].token = N_VOCAB;
		assert_int_equal(rv_context_eval(ctx, bad, 3), RV_ERR_INVALID);
		assert_int_equal(rv_seq_length(ctx, 0), i);
		assert_null(rv_context_logits(ctx, 0));
		bad[2].token = -1;
		assert_int_equal(rv_context_eval(ctx, bad, 3), RV_ERR_INVALID);
		bad[1].seq = 4;
		assert_int_equal(rv_context_eval(ctx, bad, 2), RV_ERR_INVALID);
		bad[0].parent = 0;
		assert_int_equal(rv_context_eval(ctx, bad, 1), RV_ERR_INVALID);
		assert_ok(rv_context_eval(ctx, &row, 1));
		keep_logits(ctx, 0, b, i);
	}
	assert_same(b, a, "after failed calls", 0);
	rv_row rows[64];
	for (int32_t i = 0; i < 64; i++)
		rows[i] = (rv_row){1, 0, N_TOKENS + i, -1, 0, 0};
	assert_int_equal(rv_context_eval(ctx, rows, 64), RV_ERR_LIMIT); /* 128 tokens a sequence */
	assert_int_equal(rv_seq_length(ctx, 0), N_TOKENS);
	rv_context_destroy(ctx);
	rv_model_release(model);
}

static void copies_refused(void **state) {
	(void)state;
	rv_model *model = tiny_model("qwen2", "Q4_K_M");
	rv_context *ctx = open_context(model, &settings[0], 1, 128, 16);
	rv_row rows[] = {{1, 0, 0, -1, 0, 0}, {2, 0, 1, -1, 0, 0}, {3, 1, 0, -1, 0, 0}};
	assert_ok(rv_context_eval(ctx, rows, 3));
	static const struct {
		int32_t from, to;
		int64_t length;
	} bad[] = {{0, 1, 3}, {0, 1, -1}, {-1, 1, 0}, {0, -1, 0}, {4, 1, 0}, {0, 4, 0}, {2, 0, 1}};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		assert_int_equal(rv_seq_copy(ctx, bad[i].from, bad[i].to, bad[i].length),
		                 RV_ERR_INVALID);
		assert_int_equal(rv_seq_length(ctx, 0), 2);
		assert_int_equal(rv_seq_length(ctx, 1), 1);
	}
	assert_ok(rv_seq_copy(ctx, 0, 0, 1)); /* truncates */
	assert_int_equal(rv_seq_length(ctx, 0), 1);
	assert_ok(rv_seq_copy(ctx, 0, 1, 0)); /* empties */
	assert_int_equal(rv_seq_length(ctx, 1), 0);
	rv_context_destroy(ctx);
	rv_model_release(model);
}

#define N_SETTINGS (sizeof settings / sizeof settings[0])

int main(void) {
	struct CMUnitTest tests[N_SETTINGS + 4];
	static char names[N_SETTINGS][128];
	size_t n = 0;
	for (; n < N_SETTINGS; n++) {
		const setting *s = &settings[n];
		snprintf(names[n], sizeof names[n], "invariance %s %s kv %s %s %s", s->arch, s->type,
		         rv_kv_type_name(s->kv), attentions[s->attention], rv_backend_name(s->backend));
		tests[n] = (struct CMUnitTest){names[n], invariance, NULL, NULL, (void *)(uintptr_t)s};
	}
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(control_thread_dependent_order);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(control_other_orders);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(failed_call_changes_nothing);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(copies_refused);
	return _cmocka_run_group_tests("invariance", tests, n, NULL, NULL);
}
