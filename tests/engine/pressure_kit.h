/* What the tests of memory pressure share: a context of few pages, whose sequences are filled one after
 * the other. */
#ifndef RV_TESTS_ENGINE_PRESSURE_KIT_H
#define RV_TESTS_ENGINE_PRESSURE_KIT_H

#include "engine/kv_pages.h"
#include "engine/kv_policy.h"
#include "engine/kv_pressure.h"
#include "tests/engine/kv_fixture.h"

/* 1 MiB of keys and values a sequence of LENGTH tokens: two of them fill a pool page. */
enum { LENGTH = 256, PAGE = 64, N_SEQS = 40, SLABS = 6 };

static rv_model *model;
static char spill_dir[1024];

static inline int open_all(void **state) {
	if (make_test_dir(state) != 0)
		return -1;
	model = kv_wide_model();
	temp_path(spill_dir, "spill");
	return 0;
}

static inline int close_all(void **state) {
	rv_model_release(model);
	rmdir(spill_dir);
	return remove_test_dir(state);
}

typedef struct told {
	int n;
	int32_t seqs[N_SEQS];
	int64_t tokens;
} told;

static inline void on_evicted(void *user, int32_t seq, int64_t n_tokens) {
	told *t = user;
	t->seqs[t->n++] = seq;
	t->tokens += n_tokens;
}

typedef struct subject {
	rv_context *ctx;
	rv_kv_pages *kv;
	rv_kv_pressure *p;
	told told;
} subject;

static inline void open_tiered(subject *s, rv_kv_relief relief, const rv_kv_policy *policy) {
	rv_context_options o = kv_options(N_SEQS, RV_KV_F16);
	rv_kv_pressure_options po = rv_kv_pressure_defaults();
	memset(s, 0, sizeof *s);
	o.n_ctx = 512;
	o.n_batch = 128;
	o.page_size = PAGE;
	o.kv_policy = policy;
	o.kv_budget_bytes = (size_t)SLABS * RV_POOL_PAGE_BYTES;
	s->ctx = kv_context(model, o);
	s->kv = rv_context_kv_pages(s->ctx);
	po.relief = relief;
	po.spill_dir = spill_dir;
	po.evicted = on_evicted;
	po.user = &s->told;
	assert_ok(rv_kv_pressure_create(&s->p, s->ctx, &po));
}

static inline void open_subject(subject *s, rv_kv_relief relief) {
	open_tiered(s, relief, NULL);
}

static inline void close_subject(subject *s) {
	rv_kv_pressure_destroy(s->p);
	assert_ok(rv_kv_pages_verify(s->kv, 0));
	rv_context_destroy(s->ctx);
}

/* The sequence's tokens in one call; the last one's logits. */
static inline rv_status fill(subject *s, int32_t seq, int32_t n, const float **logits) {
	rv_row rows[LENGTH + PAGE];
	int32_t tokens[512], at = (int32_t)rv_seq_length(s->ctx, seq);
	some_tokens(tokens, 512, seq);
	for (int32_t i = 0; i < n; i++)
		rows[i] = (rv_row){tokens[at + i], seq, at + i, -1, 0, i + 1 == n ? RV_ROW_LOGITS : 0};
	rv_status status = rv_context_eval(s->ctx, rows, n);
	if (logits)
		*logits = status == RV_OK ? rv_context_logits(s->ctx, n - 1) : NULL;
	return status;
}

static inline rv_status fill_idle(subject *s, int32_t seq) {
	RV_TRY(rv_kv_pressure_use(s->p, seq));
	rv_status status = fill(s, seq, LENGTH, NULL);
	rv_kv_pressure_idle(s->p, seq);
	return status;
}

/* Sequences of LENGTH tokens that the budget holds. */
static inline int capacity(void) {
	subject s;
	int n = 0;
	open_subject(&s, RV_KV_REJECT);
	while (n < N_SEQS && fill_idle(&s, n) == RV_OK)
		n++;
	assert_true(n > 4 && n < N_SEQS);
	assert_non_null(strstr(rv_error_message(), "KV pages"));
	assert_int_equal(rv_seq_length(s.ctx, n), 0);
	rv_kv_pressure_stats stats;
	rv_kv_pressure_get_stats(s.p, &stats);
	assert_int_equal(stats.n_asked, 0); /* rejecting is doing nothing */
	close_subject(&s);
	return n;
}

static inline void last_logits(subject *s, int32_t seq, float *out) {
	const float *logits;
	assert_ok(rv_kv_pressure_use(s->p, seq));
	assert_ok(fill(s, seq, 3, &logits));
	memcpy(out, logits, N_VOCAB * sizeof *out);
	rv_kv_pressure_idle(s->p, seq);
}

#endif
