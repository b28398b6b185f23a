/* Sequences as lists of tokens: after thousands of random appends, forks, cuts, ends, saves, loads,
 * evictions and spills every sequence has the length and the logits of its list, and the pages have the
 * references that the tables say. */
#include "base/mem.h"
#include "base/rng.h"
#include "engine/kv_pages.h"
#include "engine/kv_pressure.h"
#include "engine/kv_spill.h"
#include "tests/engine/kv_fixture.h"

enum { N_SEQS = 40, N_FILES = 4, MAX_APPEND = 24, SLABS = 3, QUANTIZE_SLABS = 5 };

/* Of each walk; sanitizers slow them down. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define N_STEPS 400
#else
#define N_STEPS 1200
#endif

static rv_model *model;
static char spill_dir[1024];

static int open_all(void **state) {
	if (make_test_dir(state) != 0)
		return -1;
	model = kv_wide_model();
	temp_path(spill_dir, "spill");
	return 0;
}

static int close_all(void **state) {
	rv_model_release(model);
	rmdir(spill_dir);
	return remove_test_dir(state);
}

/* What a sequence, or a file, is: its tokens. */
typedef struct list {
	int32_t tokens[N_CTX];
	int32_t n;
} list;

typedef struct world {
	rv_rng rng;
	rv_context *ctx;
	rv_kv_pages *kv;
	rv_kv_pressure *p;
	list seqs[N_SEQS], files[N_FILES];
	int held[N_SEQS]; /* kept in use beyond a step */
	int inexact;      /* quantized under pressure */
	rv_context *cold; /* in one piece */
	int64_t n_checked, n_limits, n_gone, n_done[8];
} world;

static int32_t below(world *w, int32_t n) {
	return (int32_t)rv_rng_below(&w->rng, (uint64_t)n);
}

static void on_evicted(void *user, int32_t seq, int64_t n_tokens) {
	world *w = user;
	if (w->held[seq] || w->seqs[seq].n != n_tokens)
		fail_msg("sequence %d of %d tokens, held %d: %lld were evicted", seq, w->seqs[seq].n,
		         w->held[seq], (long long)n_tokens);
	w->n_gone++;
}

static void open_world(world *w, rv_kv_relief relief, int32_t page_size, int n_threads) {
	rv_kv_pressure_options po = rv_kv_pressure_defaults();
	rv_context_options o = kv_options(N_SEQS, RV_KV_F16);
	memset(w, 0, sizeof *w);
	rv_rng_seed(&w->rng, (uint64_t)page_size * 8 + relief);
	o.page_size = page_size;
	o.n_threads = n_threads;
	w->inexact = relief == RV_KV_QUANTIZE;
	o.kv_budget_bytes = (size_t)(w->inexact ? QUANTIZE_SLABS : SLABS) * RV_POOL_PAGE_BYTES;
	w->ctx = kv_context(model, o);
	w->kv = rv_context_kv_pages(w->ctx);
	o = kv_options(1, RV_KV_F16);
	o.page_size = 0;
	w->cold = kv_context(model, o);
	po.relief = relief;
	po.spill_dir = spill_dir;
	po.evicted = on_evicted;
	po.user = w;
	assert_ok(rv_kv_pressure_create(&w->p, w->ctx, &po));
}

static void close_world(world *w) {
	rv_kv_pressure_destroy(w->p);
	rv_context_destroy(w->ctx);
	rv_context_destroy(w->cold);
}

/* In use; 0 when that is not possible now: no room to read it back. An evicted one begins anew. */
static int use(world *w, int32_t seq) {
	rv_status status = rv_kv_pressure_use(w->p, seq);
	if (status == RV_ERR_NOT_FOUND) {
		assert_ok(rv_kv_pressure_forget(w->p, seq));
		w->seqs[seq].n = 0;
		status = rv_kv_pressure_use(w->p, seq);
	}
	w->n_limits += status == RV_ERR_LIMIT;
	if (status != RV_OK && status != RV_ERR_LIMIT)
		fail_msg("%s", rv_error_message());
	return status == RV_OK;
}

/* ---- steps ---- */

static rv_status append_tokens(rv_context *ctx, int32_t seq, const int32_t *tokens, int32_t n,
                               const float **logits) {
	return append(ctx, seq, tokens, n, 0, logits);
}

static void append_some(world *w, int32_t a, int32_t b) {
	list *l = &w->seqs[a];
	int32_t n = 1 + below(w, MAX_APPEND);
	(void)b;
	if (!use(w, a))
		return;
	if (n > N_CTX - l->n)
		n = N_CTX - l->n;
	for (int32_t i = 0; i < n; i++)
		l->tokens[l->n + i] = below(w, N_VOCAB);
	rv_status status = n ? append_tokens(w->ctx, a, l->tokens + l->n, n, NULL) : RV_OK;
	if (status == RV_OK)
		l->n += n;
	else if (status == RV_ERR_LIMIT)
		w->n_limits++;
	else
		fail_msg("%s", rv_error_message());
	rv_kv_pressure_idle(w->p, a);
}

static void fork_one(world *w, int32_t a, int32_t b) {
	if (!use(w, a))
		return;
	if (use(w, b)) {
		int32_t n = below(w, w->seqs[a].n + 1);
		assert_ok(rv_seq_copy(w->ctx, a, b, n));
		memmove(w->seqs[b].tokens, w->seqs[a].tokens, (size_t)n * sizeof(int32_t));
		w->seqs[b].n = n;
		rv_kv_pressure_idle(w->p, b);
	}
	rv_kv_pressure_idle(w->p, a);
}

static void cut(world *w, int32_t a, int32_t b) {
	(void)b;
	if (!use(w, a))
		return;
	w->seqs[a].n = below(w, w->seqs[a].n + 1);
	assert_ok(rv_seq_truncate(w->ctx, a, w->seqs[a].n));
	rv_kv_pressure_idle(w->p, a);
}

static void end_one(world *w, int32_t a, int32_t b) {
	(void)b;
	if (w->held[a])
		return;
	assert_ok(rv_kv_pressure_forget(w->p, a));
	w->seqs[a].n = 0;
}

static const char *file_of(int32_t i, char path[1024]) {
	char name[32];
	snprintf(name, sizeof name, "file-%d.kv", i);
	return temp_path(path, name);
}

static void save_one(world *w, int32_t a, int32_t b) {
	char path[1024];
	list *file = &w->files[b % N_FILES];
	if (!use(w, a))
		return;
	if (w->seqs[a].n > 0) {
		assert_ok(rv_seq_save(w->ctx, a, w->seqs[a].tokens, w->seqs[a].n,
		                      file_of(b % N_FILES, path)));
		*file = w->seqs[a];
	}
	rv_kv_pressure_idle(w->p, a);
}

static void load_one(world *w, int32_t a, int32_t b) {
	char path[1024];
	const list *file = &w->files[b % N_FILES];
	if (w->held[a] || file->n == 0)
		return;
	end_one(w, a, b);
	assert_ok(rv_kv_pressure_use(w->p, a));
	rv_status status =
	        rv_seq_load(w->ctx, a, 0, file_of(b % N_FILES, path), w->seqs[a].tokens, N_CTX, NULL);
	if (status == RV_OK)
		w->seqs[a].n = file->n;
	else
		assert_int_equal(status, RV_ERR_LIMIT);
	rv_kv_pressure_idle(w->p, a);
}

/* A request in flight over several steps. */
static void hold_or_not(world *w, int32_t a, int32_t b) {
	(void)b;
	if (w->held[a])
		rv_kv_pressure_idle(w->p, a);
	else if (!use(w, a))
		return;
	w->held[a] = !w->held[a];
}

/* ---- checks ---- */

/* Of one direction: what is left of the logits of keys and values of 4 bits. */
static int are_close(const float *x, const float *y) {
	double xy = 0, xx = 0, yy = 0;
	for (int i = 0; i < N_VOCAB; i++) {
		xy += (double)x[i] * (double)y[i];
		xx += (double)x[i] * (double)x[i];
		yy += (double)y[i] * (double)y[i];
	}
	return xy > 0.8 * sqrt(xx * yy);
}

static int same_logits(world *w, int32_t a) {
	const float *expected, *found;
	int32_t token = below(w, N_VOCAB);
	list *l = &w->seqs[a];
	if (l->n == N_CTX || !use(w, a))
		return 1;
	l->tokens[l->n] = token;
	int same = 1;
	rv_status status = append_tokens(w->ctx, a, &token, 1, &found);
	if (status == RV_OK) {
		l->n++;
		assert_ok(rv_seq_truncate(w->cold, 0, 0));
		assert_ok(append_tokens(w->cold, 0, l->tokens, l->n, &expected));
		same = w->inexact ? are_close(found, expected)
		                  : memcmp(found, expected, N_VOCAB * sizeof *found) == 0;
		w->n_checked++;
	} else {
		assert_int_equal(status, RV_ERR_LIMIT);
	}
	rv_kv_pressure_idle(w->p, a);
	return same;
}

static void check_lengths(const world *w) {
	for (int32_t s = 0; s < N_SEQS; s++) {
		rv_kv_place place = rv_kv_pressure_place(w->p, s);
		int64_t expected = place == RV_KV_RESIDENT ? w->seqs[s].n : 0;
		if (w->held[s])
			assert_int_equal(place, RV_KV_RESIDENT);
		assert_int_equal(rv_seq_length(w->ctx, s), expected);
	}
}

static void walk(rv_kv_relief relief, int32_t page_size, int n_threads) {
	static void (*const steps[])(world *, int32_t, int32_t) = {
	        append_some, fork_one, cut, end_one, save_one, load_one, hold_or_not};
	static const int chances[] = {50, 16, 10, 4, 4, 8, 8}; /* of 100 */
	world *w;
	assert_ok(RV_ALLOC(&w, 1, "world"));
	open_world(w, relief, page_size, n_threads);
	for (int i = 0; i < N_STEPS; i++) {
		int k = 0, at = below(w, 100);
		int32_t a = below(w, N_SEQS), b = below(w, N_SEQS);
		while (at >= chances[k])
			at -= chances[k++];
		if (k == 1 && a == b)
			b = (a + 1) % N_SEQS;
		steps[k](w, a, b);
		w->n_done[k]++;
		check_lengths(w);
		if (i % 8 == 0)
			assert_ok(rv_kv_pages_verify(w->kv, w->inexact ? -1 : 0));
		if (i % 6 == 0 && !same_logits(w, below(w, N_SEQS)))
			fail_msg("step %d: logits are not those of a cold run", i);
	}
	for (int32_t s = 0; s < N_SEQS; s++)
		if (!same_logits(w, s))
			fail_msg("at the end: logits of sequence %d are not those of a cold run", s);
	rv_kv_pressure_stats stats;
	rv_kv_stats kv;
	rv_kv_pressure_get_stats(w->p, &stats);
	rv_context_kv_stats(w->ctx, &kv);
	print_message("# %s, pages of %d: %lld logits, %lld limits, %lld evicted, %lld spilled, %lld "
	              "restored, %lld quantized, %lld copies on write\n",
	              rv_kv_relief_names[relief], page_size, (long long)w->n_checked,
	              (long long)w->n_limits, (long long)stats.n_evicted, (long long)stats.n_spilled,
	              (long long)stats.n_restored, (long long)stats.n_quantized,
	              (long long)kv.n_copies);
	/* All of it did happen. */
	assert_true(w->n_checked > N_STEPS / 10 && kv.n_copies > 0);
	assert_int_equal(w->n_gone, stats.n_evicted);
	assert_true(relief == RV_KV_REJECT     ? w->n_limits > 0
	            : relief == RV_KV_EVICT    ? stats.n_evicted > 0
	            : relief == RV_KV_QUANTIZE ? stats.n_quantized > 0
	                                       : stats.n_spilled > 0 && stats.n_restored > 0);
	for (int32_t s = 0; s < N_SEQS; s++)
		assert_ok(rv_kv_pressure_forget(w->p, s));
	rv_context_kv_stats(w->ctx, &kv);
	if (!w->inexact) { /* it keeps a reserve */
		assert_int_equal(kv.n_pages, 0);
		assert_int_equal(kv.allocated_bytes, 0);
	}
	rv_kv_pressure_destroy(w->p);
	w->p = NULL;
	rv_context_kv_stats(w->ctx, &kv);
	assert_int_equal(kv.allocated_bytes, 0);
	close_world(w);
	rv_free(w);
}

static void rejecting(void **state) {
	(void)state;
	walk(RV_KV_REJECT, 64, 1);
}
static void evicting(void **state) {
	(void)state;
	walk(RV_KV_EVICT, 8, 1);
	walk(RV_KV_EVICT, 16, 2);
}
static void quantizing(void **state) {
	(void)state;
	walk(RV_KV_QUANTIZE, 8, 1);
	walk(RV_KV_QUANTIZE, 32, 2);
}
static void spilling(void **state) {
	(void)state;
	walk(RV_KV_SPILL, 8, 2);
	walk(RV_KV_SPILL, 32, 1);
}

/* ---- negative controls: what the checks are there for is seen ---- */

static void two_forks(world *w) {
	open_world(w, RV_KV_REJECT, 8, 1);
	while (w->seqs[0].n % 8 == 0)
		append_some(w, 0, 0);
	assert_ok(rv_seq_copy(w->ctx, 0, 1, w->seqs[0].n));
	w->seqs[1] = w->seqs[0];
	assert_ok(rv_kv_pages_verify(w->kv, 0));
}

static rv_kv_page last_page(const world *w, int32_t seq) {
	const rv_kv_page *pages;
	int64_t n = rv_kv_seq_pages(w->kv, seq, &pages);
	return pages[n - 1];
}

static void a_reference_dropped(void **state) {
	(void)state;
	world *w;
	assert_ok(RV_ALLOC(&w, 1, "world"));
	two_forks(w);
	rv_kv_page_release(w->kv, last_page(w, 0));
	assert_int_equal(rv_kv_pages_verify(w->kv, 0), RV_ERR_INVALID);
	rv_kv_page_retain(w->kv, last_page(w, 0));
	assert_ok(rv_kv_pages_verify(w->kv, 0));
	rv_kv_page_retain(w->kv, last_page(w, 0)); /* and one too many: a leak */
	assert_int_equal(rv_kv_pages_verify(w->kv, 0), RV_ERR_INVALID);
	assert_ok(rv_kv_pages_verify(w->kv, 1)); /* unless it is somebody's */
	rv_kv_page_release(w->kv, last_page(w, 0));
	close_world(w);
	rv_free(w);
}

/* Both write to the page they share, as if it were theirs alone. */
static void a_copy_skipped(void **state) {
	(void)state;
	world *w;
	assert_ok(RV_ALLOC(&w, 1, "world"));
	for (int skip = 0; skip < 2; skip++) {
		two_forks(w);
		rv_kv_page page = last_page(w, 0);
		if (skip)
			rv_kv_page_release(w->kv, page);
		for (int32_t s = 0; s < 2; s++) {
			list *l = &w->seqs[s];
			l->tokens[l->n] = 7 + 100 * s;
			assert_ok(append_tokens(w->ctx, s, &l->tokens[l->n], 1, NULL));
			l->n++;
		}
		if (skip)
			rv_kv_page_retain(w->kv, page);
		assert_int_equal(same_logits(w, 0), !skip);
		assert_true(same_logits(w, 1));
		assert_ok(rv_kv_pages_verify(w->kv, 0));
		close_world(w);
	}
	rv_free(w);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(rejecting),
	        cmocka_unit_test(evicting),
	        cmocka_unit_test(spilling),
	        cmocka_unit_test(quantizing),
	        cmocka_unit_test(a_reference_dropped),
	        cmocka_unit_test(a_copy_skipped),
	};
	return cmocka_run_group_tests(tests, open_all, close_all);
}
