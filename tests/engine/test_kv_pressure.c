/* What gives way when KV pages run out: idle sequences only, the longest idle first; nothing is lost
 * when it cannot; spilled ones come back with the same bits. */
#include "base/mem.h"
#include "engine/kv_convert.h"
#include "engine/kv_pages.h"
#include "engine/kv_pressure.h"
#include "tests/engine/kv_fixture.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define assert_fails(expr, want, part)                                                                 \
	do {                                                                                           \
		assert_int_equal(expr, want);                                                          \
		if (!strstr(rv_error_message(), part))                                                 \
			fail_msg("%s: '%s' is not in the message '%s'", #expr, part,                   \
			         rv_error_message());                                                  \
	} while (0)

/* 1 MiB of keys and values a sequence of LENGTH tokens: two of them fill a pool page. */
enum { LENGTH = 256, PAGE = 64, N_SEQS = 40, SLABS = 6 };

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

typedef struct told {
	int n;
	int32_t seqs[N_SEQS];
	int64_t tokens;
} told;

static void on_evicted(void *user, int32_t seq, int64_t n_tokens) {
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

static void open_subject(subject *s, rv_kv_relief relief) {
	rv_context_options o = kv_options(N_SEQS, RV_KV_F16);
	rv_kv_pressure_options po = rv_kv_pressure_defaults();
	memset(s, 0, sizeof *s);
	o.n_ctx = 512;
	o.n_batch = 128;
	o.page_size = PAGE;
	o.kv_budget_bytes = (size_t)SLABS * RV_POOL_PAGE_BYTES;
	s->ctx = kv_context(model, o);
	s->kv = rv_context_kv_pages(s->ctx);
	po.relief = relief;
	po.spill_dir = spill_dir;
	po.evicted = on_evicted;
	po.user = &s->told;
	assert_ok(rv_kv_pressure_create(&s->p, s->ctx, &po));
}

static void close_subject(subject *s) {
	rv_kv_pressure_destroy(s->p);
	assert_ok(rv_kv_pages_verify(s->kv, 0));
	rv_context_destroy(s->ctx);
}

/* The sequence's tokens in one call; the last one's logits. */
static rv_status fill(subject *s, int32_t seq, int32_t n, const float **logits) {
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

static rv_status fill_idle(subject *s, int32_t seq) {
	RV_TRY(rv_kv_pressure_use(s->p, seq));
	rv_status status = fill(s, seq, LENGTH, NULL);
	rv_kv_pressure_idle(s->p, seq);
	return status;
}

/* Sequences of LENGTH tokens that the budget holds. */
static int capacity(void) {
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

/* ---- evict ---- */

static void evicts_the_longest_idle(void **state) {
	(void)state;
	subject s;
	int n = capacity();
	open_subject(&s, RV_KV_EVICT);
	/* 0 is in use, 1 is used again after 3: 2, 3, 1 is the order. */
	for (int32_t i = 0; i < 4; i++)
		assert_ok(fill_idle(&s, i));
	assert_ok(rv_kv_pressure_use(s.p, 0));
	assert_ok(rv_kv_pressure_use(s.p, 1));
	rv_kv_pressure_idle(s.p, 1);
	for (int32_t i = 4; s.told.n < 3; i++)
		assert_ok(fill_idle(&s, i));
	assert_int_equal(s.told.seqs[0], 2);
	assert_int_equal(s.told.seqs[1], 3);
	assert_int_equal(s.told.seqs[2], 1);
	assert_int_equal(s.told.tokens, s.told.n * LENGTH);
	assert_int_equal(rv_kv_pressure_place(s.p, 2), RV_KV_EVICTED);
	assert_int_equal(rv_seq_length(s.ctx, 2), 0);
	assert_int_equal(rv_seq_length(s.ctx, 0), LENGTH);
	assert_fails(rv_kv_pressure_use(s.p, 2), RV_ERR_NOT_FOUND, "256 tokens were evicted");
	assert_ok(rv_kv_pressure_forget(s.p, 2));
	assert_ok(fill_idle(&s, 2));
	assert_ok(rv_kv_pages_verify(s.kv, 0));
	/* All in use: nothing can give way, and nothing does. */
	for (int32_t i = 0; i < N_SEQS; i++) {
		if (rv_kv_pressure_place(s.p, i) != RV_KV_RESIDENT)
			assert_ok(rv_kv_pressure_forget(s.p, i));
		assert_ok(rv_kv_pressure_use(s.p, i));
	}
	int64_t before = s.told.n;
	rv_status status = RV_OK;
	for (int32_t i = 0; i < N_SEQS && status == RV_OK; i++)
		if (rv_seq_length(s.ctx, i) == 0)
			status = fill(&s, i, LENGTH, NULL);
	assert_int_equal(status, RV_ERR_LIMIT);
	assert_int_equal(s.told.n, before);
	assert_string_equal(rv_kv_pressure_refusal(s.p),
	                    "no idle sequence whose pages nobody else holds");
	assert_true(n > 4);
	close_subject(&s);
}

/* A sequence that is evaluated though it was handed over as idle keeps its pages; a failing call does
 * not bring back the tokens of one that gave way in it. */
static void within_a_call(void **state) {
	(void)state;
	subject s;
	int n = capacity();
	open_subject(&s, RV_KV_EVICT);
	for (int32_t i = 0; i < n; i++)
		if (s.told.n == 0)
			assert_ok(fill_idle(&s, i));
	/* More than there is, of sequence 0: the others give way, then the call fails. */
	rv_row *rows;
	int64_t n_rows = 0;
	assert_ok(RV_ALLOC(&rows, 512 * N_SEQS, "rows"));
	int32_t last = 0;
	for (int32_t q = 0; q < N_SEQS; q++) {
		int64_t length = rv_seq_length(s.ctx, q);
		if (q > 0 && length > 0)
			continue;
		for (int32_t i = (int32_t)length; i < 512; i++)
			rows[n_rows++] = (rv_row){1, q, i, -1, 0, 0};
		last = q;
	}
	assert_int_equal(rv_context_eval(s.ctx, rows, n_rows), RV_ERR_LIMIT);
	rv_free(rows);
	assert_int_equal(rv_seq_length(s.ctx, last), 0);
	for (int32_t q = 0; q < N_SEQS; q++) {
		const rv_kv_page *pages;
		assert_int_equal(rv_kv_seq_pages(s.kv, q, &pages),
		                 (rv_seq_length(s.ctx, q) + PAGE - 1) / PAGE);
	}
	assert_ok(rv_kv_pages_verify(s.kv, 0));
	assert_true(s.told.n > 0);
	if (rv_kv_pressure_place(s.p, 0) == RV_KV_RESIDENT)
		assert_ok(fill(&s, 0, 1, NULL));
	close_subject(&s);
}

/* Forks give way together, and only where that frees something. */
static void shared_pages(void **state) {
	(void)state;
	subject s;
	open_subject(&s, RV_KV_EVICT);
	/* 0 (in use) and 1 share all; 2 and 3 share all and are both idle. */
	for (int32_t i = 0; i < 4; i += 2) {
		assert_ok(fill_idle(&s, i));
		assert_ok(rv_kv_pressure_use(s.p, i + 1));
		assert_ok(rv_seq_copy(s.ctx, i, i + 1, LENGTH));
		rv_kv_pressure_idle(s.p, i + 1);
	}
	assert_ok(rv_kv_pressure_use(s.p, 0));
	for (int32_t i = 4; s.told.n == 0; i++) {
		assert_ok(rv_kv_pressure_use(s.p, i));
		assert_ok(fill(&s, i, LENGTH, NULL));
	}
	assert_int_equal(s.told.n, 2);
	assert_int_equal(s.told.seqs[0], 2);
	assert_int_equal(s.told.seqs[1], 3);
	assert_int_equal(rv_seq_length(s.ctx, 1), LENGTH);
	assert_ok(rv_kv_pages_verify(s.kv, 0));
	close_subject(&s);
}

/* ---- spill ---- */

static void last_logits(subject *s, int32_t seq, float *out) {
	const float *logits;
	assert_ok(rv_kv_pressure_use(s->p, seq));
	assert_ok(fill(s, seq, 3, &logits));
	memcpy(out, logits, N_VOCAB * sizeof *out);
	rv_kv_pressure_idle(s->p, seq);
}

static int files_in(const char *dir) {
	int n = 0;
	DIR *d = opendir(dir);
	for (struct dirent *e; d && (e = readdir(d));)
		n += e->d_name[0] != '.';
	if (d)
		closedir(d);
	return n;
}

static void spilled_come_back(void **state) {
	(void)state;
	static float expected[N_SEQS][N_VOCAB], found[N_VOCAB];
	subject alone, s;
	for (int32_t i = 0; i < 30; i++) {
		open_subject(&alone, RV_KV_REJECT);
		assert_ok(fill_idle(&alone, i));
		last_logits(&alone, i, expected[i]);
		close_subject(&alone);
	}
	open_subject(&s, RV_KV_SPILL);
	for (int32_t i = 0; i < 30; i++)
		assert_ok(fill_idle(&s, i));
	rv_kv_pressure_stats stats;
	rv_kv_pressure_get_stats(s.p, &stats);
	assert_true(stats.n_spilled_now > 10 && stats.spilled_bytes > (size_t)10 << 20);
	assert_int_equal(rv_kv_pressure_place(s.p, 0), RV_KV_SPILLED);
	for (int32_t i = 0; i < 30; i++) {
		int32_t seq = (i * 7) % 30;
		last_logits(&s, seq, found);
		assert_memory_equal(found, expected[seq], sizeof found);
		assert_ok(rv_kv_pages_verify(s.kv, 0));
	}
	rv_kv_pressure_get_stats(s.p, &stats);
	assert_true(stats.n_restored > 10);
	print_message("# 30 sequences: %lld spilled, %lld restored\n", (long long)stats.n_spilled,
	              (long long)stats.n_restored);
	/* Forgotten wherever they are; the rest with the folder. */
	assert_int_equal(files_in(spill_dir), 1);
	for (int32_t i = 0; i < 10; i++)
		assert_ok(rv_kv_pressure_forget(s.p, i));
	assert_int_equal(rv_kv_pressure_forget(s.p, N_SEQS), RV_ERR_INVALID);
	close_subject(&s);
	assert_int_equal(files_in(spill_dir), 0);
}

/* The only folder in the spill folder. */
static void spill_folder(char path[2048]) {
	DIR *d = opendir(spill_dir);
	assert_non_null(d);
	path[0] = '\0';
	for (struct dirent *e; (e = readdir(d));)
		if (e->d_name[0] != '.')
			snprintf(path, 2048, "%s/%s", spill_dir, e->d_name);
	closedir(d);
}

static void damaged_spill(void **state) {
	(void)state;
	subject s;
	char folder[2048], path[4096];
	open_subject(&s, RV_KV_SPILL);
	for (int32_t i = 0; i < 30; i++)
		assert_ok(fill_idle(&s, i));
	spill_folder(folder);
	snprintf(path, sizeof path, "%s/0.kv", folder);
	FILE *f = fopen(path, "r+b");
	assert_non_null(f);
	fseek(f, 100000, SEEK_SET);
	int byte = getc(f);
	fseek(f, 100000, SEEK_SET);
	putc(byte ^ 4, f);
	fclose(f);
	assert_fails(rv_kv_pressure_use(s.p, 0), RV_ERR_FORMAT, "0.kv: wrong checksum");
	assert_int_equal(rv_kv_pressure_place(s.p, 0), RV_KV_SPILLED);
	assert_int_equal(rv_seq_length(s.ctx, 0), 0);
	assert_ok(rv_kv_pressure_forget(s.p, 0));
	assert_ok(fill_idle(&s, 0));
	close_subject(&s);
	assert_int_equal(files_in(spill_dir), 0);
}

/* Exit status of the child: 0 when all is as it should be. */
static int with_full_disk(subject *s, int n) {
	const struct rlimit small = {100000, RLIM_INFINITY}, large = {RLIM_INFINITY, RLIM_INFINITY};
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &small);
	rv_status status = RV_OK;
	int32_t i = 0;
	while (status == RV_OK && i < N_SEQS)
		if ((status = fill_idle(s, i)) == RV_OK)
			i++;
	if (status != RV_ERR_LIMIT || i < n - 1)
		return 1;
	if (!strstr(rv_kv_pressure_refusal(s->p), "File too large"))
		return 2;
	for (int32_t q = 0; q < i; q++) /* nothing lost, nothing moved */
		if (rv_kv_pressure_place(s->p, q) != RV_KV_RESIDENT ||
		    rv_seq_length(s->ctx, q) != LENGTH)
			return 3;
	if (rv_kv_pages_verify(s->kv, 0) != RV_OK)
		return 4;
	setrlimit(RLIMIT_FSIZE, &large); /* room again: it goes on */
	if (fill_idle(s, i) != RV_OK || rv_kv_pressure_place(s->p, 0) != RV_KV_SPILLED)
		return 5;
	return 0;
}

static void disk_full(void **state) {
	(void)state;
	int n = capacity();
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		subject s;
		open_subject(&s, RV_KV_SPILL);
		int result = with_full_disk(&s, n);
		rv_kv_pressure_destroy(s.p);
		_exit(result);
	}
	int status = -1;
	waitpid(pid, &status, 0);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(files_in(spill_dir), 0);
}

/* ---- quantize ---- */

static int page_type(const subject *s, int32_t seq, int64_t i) {
	const rv_kv_page *pages;
	assert_true(rv_kv_seq_pages(s->kv, seq, &pages) > i);
	return rv_kv_page_format(s->kv, pages[i]);
}

static void quantizes(void **state) {
	(void)state;
	subject s;
	int n = capacity(), admitted = 0;
	float before[N_VOCAB], after[N_VOCAB];
	open_subject(&s, RV_KV_REJECT);
	assert_ok(fill_idle(&s, 0));
	last_logits(&s, 0, before);
	close_subject(&s);
	open_subject(&s, RV_KV_QUANTIZE);
	rv_kv_pressure_stats stats;
	while (admitted < N_SEQS && fill_idle(&s, admitted) == RV_OK) {
		admitted++;
		rv_kv_pressure_get_stats(s.p, &stats);
	}
	print_message("# %d sequences in F16, %d when quantized under pressure (%lld conversions)\n", n,
	              admitted, (long long)stats.n_quantized);
	assert_true(admitted > n + n / 2);
	assert_int_equal(page_type(&s, 0, 0), RV_KV_Q4);
	/* All is there, only coarser. */
	for (int32_t i = 0; i < admitted; i++) {
		assert_int_equal(rv_kv_pressure_place(s.p, i), RV_KV_RESIDENT);
		assert_int_equal(rv_seq_length(s.ctx, i), LENGTH);
	}
	assert_ok(rv_kv_pressure_forget(s.p, admitted - 1));
	last_logits(&s, 0, after);
	double dot = 0, a = 0, b = 0;
	for (int i = 0; i < N_VOCAB; i++) {
		dot += (double)before[i] * (double)after[i];
		a += (double)before[i] * (double)before[i];
		b += (double)after[i] * (double)after[i];
	}
	print_message("# cosine of the logits after q4: %.4f\n", dot / sqrt(a * b));
	assert_true(dot / sqrt(a * b) > 0.9);
	assert_memory_not_equal(before, after, sizeof before); /* it did change */
	rv_kv_pressure_destroy(s.p);
	assert_ok(rv_kv_pages_verify(s.kv, 0));
	rv_context_destroy(s.ctx);
}

/* Cut into a page that was quantized, or forked there, and gone on with: its rows are those of a page
 * of the cache's type again, and other pages are untouched. */
static void quantized_goes_on(void **state) {
	(void)state;
	subject s;
	open_subject(&s, RV_KV_QUANTIZE);
	int32_t n = 0;
	rv_kv_pressure_stats stats = {0};
	while (stats.n_quantized == 0) {
		assert_ok(fill_idle(&s, n++));
		rv_kv_pressure_get_stats(s.p, &stats);
	}
	for (int32_t q = 1; q < n; q++)
		assert_ok(rv_kv_pressure_forget(s.p, q));
	assert_ok(rv_kv_pressure_use(s.p, 0));
	assert_ok(rv_kv_pressure_use(s.p, 1));
	assert_int_equal(page_type(&s, 0, 1), RV_KV_Q8);
	const rv_kv_page *pages;
	rv_kv_seq_pages(s.kv, 0, &pages);
	rv_kv_lane lane = rv_kv_page_lane(s.kv, pages[1], 3);
	char before[PAGE * 260], row[512];
	size_t bytes = PAGE * lane.stride;
	assert_int_equal(bytes, sizeof before);
	memcpy(before, lane.values, bytes);
	assert_ok(rv_seq_copy(s.ctx, 0, 1, PAGE + 10));
	assert_int_equal(rv_seq_pages_needed(s.ctx, 1, 1), 1);
	assert_ok(fill(&s, 1, 20, NULL));
	assert_int_equal(page_type(&s, 1, 0), RV_KV_Q8);
	assert_int_equal(page_type(&s, 1, 1), RV_KV_F16);
	assert_memory_equal(lane.values, before, bytes); /* sequence 0 has its own still */
	assert_ok(rv_seq_truncate(s.ctx, 0, PAGE + 10));
	assert_ok(fill(&s, 0, 20, NULL));
	assert_int_equal(page_type(&s, 0, 1), RV_KV_F16);
	const rv_kv_ops *ops = rv_kernels_for(RV_LEVEL_REF)->kv;
	rv_kv_seq_pages(s.kv, 0, &pages);
	lane = rv_kv_page_lane(s.kv, pages[1], 3);
	for (size_t i = 0; i < 10; i++) {
		float x[256];
		ops[RV_KV_Q8].load_values(x, before + i * 260, 260, 1, 256);
		ops[RV_KV_F16].store(row, x, 256);
		assert_memory_equal(lane.values + i * lane.stride, row, sizeof row);
	}
	assert_ok(rv_kv_pages_verify(s.kv, -1));
	close_subject(&s);
}

/* Every row is decoded and rounded as its type says, in all lanes. */
static void conversion(void **state) {
	(void)state;
	subject s;
	const rv_kernels *k = rv_kernels_for(RV_LEVEL_REF);
	float row[256], found[256];
	open_subject(&s, RV_KV_REJECT);
	assert_ok(fill_idle(&s, 0));
	assert_ok(rv_kv_pressure_use(s.p, 1));
	assert_ok(rv_seq_copy(s.ctx, 0, 1, 2 * PAGE)); /* who shares a page sees the same */
	const rv_kv_page *pages;
	rv_kv_page page, copy;
	rv_kv_seq_pages(s.kv, 0, &pages);
	page = pages[1];
	assert_ok(rv_kv_page_create(s.kv, RV_KV_F16, &copy));
	for (int64_t lane = 0; lane < rv_kv_pages_n_lanes(s.kv); lane++) {
		rv_kv_lane a = rv_kv_page_lane(s.kv, page, lane), b = rv_kv_page_lane(s.kv, copy, lane);
		memcpy(b.keys, a.keys, PAGE * a.stride);
		memcpy(b.values, a.values, PAGE * a.stride);
	}
	rv_kv_page fresh;
	assert_ok(rv_kv_page_create(s.kv, RV_KV_Q8, &fresh));
	rv_kv_page_convert(s.kv, 256, PAGE, page, fresh);
	rv_kv_page_release(s.kv, fresh);
	assert_int_equal(page_type(&s, 0, 1), RV_KV_Q8);
	assert_int_equal(page_type(&s, 1, 1), RV_KV_Q8);
	assert_int_equal(page_type(&s, 0, 0), RV_KV_F16);
	int64_t wrong = 0;
	for (int64_t lane = 0; lane < rv_kv_pages_n_lanes(s.kv); lane++) {
		rv_kv_lane a = rv_kv_page_lane(s.kv, copy, lane), b = rv_kv_page_lane(s.kv, page, lane);
		for (size_t i = 0; i < PAGE; i++)
			for (int values = 0; values < 2; values++) {
				char expected[512];
				k->kv[RV_KV_F16].load_values(
				        row, (values ? a.values : a.keys) + i * a.stride, a.stride, 1,
				        256);
				k->kv[RV_KV_Q8].store(expected, row, 256);
				const char *got = (values ? b.values : b.keys) + i * b.stride;
				assert_memory_equal(got, expected, rv_kv_row_bytes(RV_KV_Q8, 256));
				k->kv[RV_KV_Q8].load_values(found, got, b.stride, 1, 256);
				wrong += memcmp(found, row, sizeof row) != 0;
			}
	}
	assert_true(wrong > 0); /* negative control: rounding does change rows */
	rv_kv_page_release(s.kv, copy);
	close_subject(&s);
}

/* ---- rules ---- */

static void rules(void **state) {
	(void)state;
	rv_context_options o = kv_options(2, RV_KV_F16);
	rv_kv_pressure_options po = rv_kv_pressure_defaults();
	rv_kv_pressure *p;
	o.page_size = 0;
	rv_context *ctx = kv_context(model, o);
	assert_fails(rv_kv_pressure_create(&p, ctx, &po), RV_ERR_UNSUPPORTED, "no pages");
	rv_context_destroy(ctx);
	o.page_size = 64;
	o.kv_budget_bytes = (size_t)16 << 20;
	ctx = kv_context(model, o);
	po.relief = RV_KV_RELIEF_COUNT;
	assert_fails(rv_kv_pressure_create(&p, ctx, &po), RV_ERR_INVALID, "unknown relief");
	po.relief = RV_KV_QUANTIZE;
	po.smallest = RV_KV_F16;
	assert_fails(rv_kv_pressure_create(&p, ctx, &po), RV_ERR_INVALID, "q8 and q4");
	po.relief = RV_KV_SPILL;
	po.smallest = RV_KV_Q4;
	assert_fails(rv_kv_pressure_create(&p, ctx, &po), RV_ERR_INVALID, "no folder");
	po.spill_dir = "/proc/nowhere";
	assert_fails(rv_kv_pressure_create(&p, ctx, &po), RV_ERR_IO, "/proc/nowhere");
	assert_null(p);
	po.relief = RV_KV_EVICT;
	assert_ok(rv_kv_pressure_create(&p, ctx, &po));
	assert_fails(rv_kv_pressure_use(p, 2), RV_ERR_INVALID, "not in [0, 2)");
	assert_fails(rv_kv_pressure_use(p, -1), RV_ERR_INVALID, "not in [0, 2)");
	rv_kv_pressure_idle(p, 1); /* nobody uses it: nothing happens */
	assert_string_equal(rv_kv_pressure_refusal(p), "");
	rv_kv_pressure_destroy(p);
	rv_kv_pressure_destroy(NULL);
	rv_context_destroy(ctx);
	assert_string_equal(rv_kv_relief_names[RV_KV_SPILL], "spill");
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(evicts_the_longest_idle),
	        cmocka_unit_test(within_a_call),
	        cmocka_unit_test(shared_pages),
	        cmocka_unit_test(spilled_come_back),
	        cmocka_unit_test(damaged_spill),
	        cmocka_unit_test(disk_full),
	        cmocka_unit_test(quantizes),
	        cmocka_unit_test(quantized_goes_on),
	        cmocka_unit_test(conversion),
	        cmocka_unit_test(rules),
	};
	return cmocka_run_group_tests(tests, open_all, close_all);
}
