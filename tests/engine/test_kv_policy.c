/* Tiered KV policies: which page is in which tier, results that depend on positions alone, sharing,
 * failures, and how far each format takes the logits from a flat cache. */
#include "base/rng.h"
#include "engine/context.h"
#include "engine/kv_calibration.h"
#include "engine/kv_tiers.h"
#include "tests/support/test.h"
#include "tests/support/tiny_model.h"

#include <math.h>
#include <string.h>

enum { N_TOKENS = 150, N_VOCAB = 512, N_SEQS = 4, N_CTX = 256 };

typedef struct fixture {
	rv_model *model;
	rv_kv_calibration *calibration;
} fixture;

static int32_t token(int32_t seq, int32_t i) {
	return (seq * 131 + i * 37 + i * i % 11) % N_VOCAB;
}

static int set_up(void **state) {
	static fixture f;
	static int32_t tokens[256];
	f.model = tiny_model("qwen2", "F16");
	for (int i = 0; i < 256; i++)
		tokens[i] = token(9, i);
	assert_ok(rv_kv_calibrate(&f.calibration, f.model, tokens, 256));
	*state = &f;
	return 0;
}

static int tear_down(void **state) {
	fixture *f = *state;
	rv_kv_calibration_destroy(f->calibration);
	rv_model_release(f->model);
	return 0;
}

static rv_context_options options_for(const fixture *f, const rv_kv_policy *policy, int32_t page_size,
                                      int n_threads) {
	rv_context_options o = rv_context_defaults();
	o.n_ctx = N_CTX;
	o.n_seqs = N_SEQS;
	o.n_threads = n_threads;
	o.pin = 0;
	o.page_size = page_size;
	o.kv_policy = policy;
	o.kv_calibration = f->calibration;
	return o;
}

static rv_context *open_context(const fixture *f, const char *policy, int32_t page_size,
                                int n_threads) {
	rv_context *ctx;
	rv_kv_policy p;
	assert_ok(rv_kv_policy_parse(&p, policy));
	rv_context_options o = options_for(f, &p, page_size, n_threads);
	assert_ok(rv_context_create(&ctx, f->model, &o));
	return ctx;
}

static void keep(const rv_context *ctx, int64_t row, float *out, int32_t position) {
	const float *logits = rv_context_logits(ctx, row);
	assert_non_null(logits);
	memcpy(out + (int64_t)position * N_VOCAB, logits, N_VOCAB * sizeof *out);
}

/* Tokens [from, to) of text `text` in sequence seq, `chunk` a call. */
static void evaluate(rv_context *ctx, int32_t text, int32_t seq, int32_t from, int32_t to,
                     int32_t chunk, float *out) {
	rv_row rows[N_CTX];
	for (int32_t at = from, n; at < to; at += n) {
		n = to - at < chunk ? to - at : chunk;
		for (int32_t i = 0; i < n; i++)
			rows[i] = (rv_row){token(text, at + i), seq, at + i, -1, 0, RV_ROW_LOGITS};
		assert_ok(rv_context_eval(ctx, rows, n));
		for (int32_t i = 0; i < n && out; i++)
			keep(ctx, i, out, at + i);
	}
}

static int same(const float *a, const float *b, int64_t from) {
	return memcmp(a + from * N_VOCAB, b + from * N_VOCAB,
	              (size_t)((N_TOKENS - from) * N_VOCAB) * sizeof *a) == 0;
}

/* ---- policies as data ---- */

static void tiers_by_position(void **state) {
	(void)state;
	rv_kv_policy p;
	int64_t n[3] = {0, 0, 0};
	assert_ok(rv_kv_policy_parse(&p, "three-tier"));
	for (int64_t i = 0; i < 64; i++)
		n[rv_kv_policy_tier(&p, i, 64, 64)]++;
	assert_int_equal(n[0] * 64, 256); /* the documented layout of 4096 tokens */
	assert_int_equal(n[1] * 64, 1792);
	assert_int_equal(n[2] * 64, 2048);
	/* pages only grow colder, one tier at a time, and a tail of no whole pages is rounded up */
	assert_ok(rv_kv_policy_parse(&p, "three-tier-kivi:tail=100:warm=300"));
	for (int64_t page = 0; page < 20; page++)
		for (int64_t done = page + 1, before = 0; done < 40; done++) {
			int64_t tier = rv_kv_policy_tier(&p, page, done, 64), back = done - page;
			assert_int_equal(tier, back <= 2 ? 0 : back <= 5 ? 1 : 2);
			assert_in_range(tier - before, 0, 1);
			before = tier;
		}
}

static void parsing(void **state) {
	(void)state;
	rv_kv_policy p;
	for (int i = 0; rv_kv_policy_names[i]; i++) {
		assert_ok(rv_kv_policy_parse(&p, rv_kv_policy_names[i]));
		assert_string_equal(p.name, rv_kv_policy_names[i]);
	}
	assert_ok(rv_kv_policy_parse(&p, "two-tier:tail=64:store=q4"));
	assert_int_equal(p.tail, 64);
	assert_int_equal(p.tiers[0].format, RV_KV_Q4);
	static const char *const bad[] = {"",
	                                  "three",
	                                  "two-tier:",
	                                  "flat:tail=1",
	                                  "two-tier:tail=x",
	                                  "two-tier:warm=9",
	                                  "2-bit:store=q9",
	                                  "2-bit:tail",
	                                  "two-tier:tail=-1"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_int_equal(rv_kv_policy_parse(&p, bad[i]), RV_ERR_INVALID);
	static const char good_file[] =
	        "{\"tail\": 32, \"tiers\": [{\"tokens\": 64, \"format\": \"q8\"}, {\"format\": "
	        "\"kivi2\", \"layers\": [{\"from\": 1, \"to\": 2, \"format\": \"kivi4\"}]}]}";
	assert_ok(rv_kv_policy_parse_json(&p, "mix", good_file, sizeof good_file - 1));
	assert_int_equal(rv_kv_tier_format(&p.tiers[1], 0), RV_KV_KIVI2);
	assert_int_equal(rv_kv_tier_format(&p.tiers[1], 2), RV_KV_KIVI4);
	static const char *const bad_files[] = {
	        "[]",
	        "{\"tiers\": []}",
	        "{\"tail\": 1, \"tiers\": [{\"format\": \"q8\"}, {\"format\": \"q4\"}]}",
	        "{\"tail\": 1, \"tiers\": [{\"format\": \"q7\"}]}",
	        "{\"tail\": 1, \"tiers\": [{\"format\": \"q8\", \"layers\": [{\"from\": 2, \"to\": 1, "
	        "\"format\": \"q8\"}]}]}",
	        "{\"tail\": 1, \"tiers\": [1]}"};
	for (size_t i = 0; i < sizeof bad_files / sizeof bad_files[0]; i++)
		assert_int_not_equal(
		        rv_kv_policy_parse_json(&p, "bad", bad_files[i], strlen(bad_files[i])), RV_OK);
}

/* ---- positions alone decide ---- */

typedef struct setting {
	const char *policy;
	int32_t page_size;
} setting;
static const setting settings[] = {{"two-tier:tail=16", 8},
                                   {"two-tier:tail=0:store=q4", 16},
                                   {"three-tier:tail=32:warm=64", 16},
                                   {"three-tier-kivi:tail=16:warm=64", 16},
                                   {"2-bit:tail=16", 64},
                                   {"kvquant:tail=16", 16},
                                   {"squat:tail=16", 8},
                                   {"kvquant:tail=0:store=kvquant4", 128}};

/* All sequences go on in calls of random rows of each; sequence 0 is what is looked at. */
static void random_batches(rv_context *ctx, uint64_t seed, float *out) {
	int32_t at[N_SEQS] = {0}, first = 0;
	rv_rng rng;
	rv_rng_seed(&rng, seed);
	while (at[0] < N_TOKENS) {
		rv_row rows[256];
		int32_t n = 0, of[256];
		for (int32_t turn = 0; turn < 6; turn++) {
			int32_t s = turn ? (int32_t)rv_rng_below(&rng, N_SEQS) : 0;
			int32_t more = (int32_t)rv_rng_below(&rng, 30);
			for (int32_t i = 0; i < more && at[s] < N_TOKENS; i++, at[s]++) {
				of[n] = s;
				rows[n++] = (rv_row){token(s, at[s]), s, at[s], -1, 0, RV_ROW_LOGITS};
			}
		}
		assert_ok(rv_context_eval(ctx, rows, n));
		for (int32_t i = 0; i < n; i++)
			if (of[i] == 0)
				keep(ctx, i, out, first++);
	}
}

/* The text goes from sequence to sequence by forks of its full length, while what was forked from goes
 * on with another text. */
static void by_forks(rv_context *ctx, float *out) {
	int32_t seq = 0;
	for (int32_t s = 0; s < N_SEQS; s++)
		assert_ok(rv_seq_truncate(ctx, s, 0));
	for (int32_t at = 0, step = 7; at < N_TOKENS; at += step, step += 9) {
		int32_t n = N_TOKENS - at < step ? N_TOKENS - at : step, next = (seq + 1) % N_SEQS;
		evaluate(ctx, 0, seq, at, at + n, 5, out);
		assert_ok(rv_seq_copy(ctx, seq, next, at + n));
		evaluate(ctx, 3, seq, at + n, at + n + 40, 40, NULL);
		seq = next;
	}
}

static void positions_decide(void **state) {
	const fixture *f = *state;
	static float base[N_TOKENS * N_VOCAB], other[N_TOKENS * N_VOCAB], flat[N_TOKENS * N_VOCAB];
	rv_context *ctx = open_context(f, "flat", 16, 1);
	evaluate(ctx, 0, 0, 0, N_TOKENS, N_TOKENS, flat);
	rv_context_destroy(ctx);
	for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
		const setting *s = &settings[i];
		ctx = open_context(f, s->policy, s->page_size, 1);
		evaluate(ctx, 0, 0, 0, N_TOKENS, 1, base);
		rv_context_destroy(ctx);
		for (int64_t j = 0; j < N_TOKENS * N_VOCAB; j++)
			assert_true(isfinite(base[j]));
		assert_false(same(base, flat, 0)); /* something was stored more coarsely */
		for (int threads = 1; threads <= 3; threads += 2) {
			ctx = open_context(f, s->policy, s->page_size, threads);
			evaluate(ctx, 0, 0, 0, N_TOKENS, threads == 1 ? N_TOKENS : 13 * threads, other);
			if (!same(other, base, 0))
				fail_msg("%s: %d threads", s->policy, threads);
			assert_ok(rv_seq_truncate(ctx, 0, 0));
			random_batches(ctx, 100 + i, other);
			if (!same(other, base, 0))
				fail_msg("%s: random batches", s->policy);
			by_forks(ctx, other);
			if (!same(other, base, 0))
				fail_msg("%s: forks", s->policy);
			assert_ok(rv_kv_pages_verify(rv_context_kv_pages(ctx), 0));
			rv_context_destroy(ctx);
		}
	}
}

/* A cut to fewer tokens keeps colder pages: that another result follows shows that the comparison above
 * sees tiers. */
static void control_colder_pages(void **state) {
	const fixture *f = *state;
	static float base[N_TOKENS * N_VOCAB], other[N_TOKENS * N_VOCAB];
	rv_context *ctx = open_context(f, "2-bit:tail=16", 16, 1);
	evaluate(ctx, 0, 0, 0, N_TOKENS, 10, base);
	assert_ok(rv_seq_truncate(ctx, 0, 96));
	evaluate(ctx, 0, 0, 96, N_TOKENS, 10, other);
	assert_memory_not_equal(other + 96 * N_VOCAB, base + 96 * N_VOCAB, N_VOCAB * sizeof *base);
	rv_context_destroy(ctx);
}

/* ---- bookkeeping ---- */

/* Tiers, memory and work of random appends and forks against what the policy says. */
static void bookkeeping(void **state) {
	const fixture *f = *state;
	enum { PAGE = 8 };
	rv_kv_policy p;
	assert_ok(rv_kv_policy_parse(&p, "three-tier:tail=24:warm=64"));
	rv_context *ctx = open_context(f, "three-tier:tail=24:warm=64", PAGE, 2);
	int32_t length[N_SEQS] = {0};
	rv_kv_tier_stats got, before = {.n_encoded = 0};
	rv_rng rng;
	rv_rng_seed(&rng, 4);
	for (int step = 0; step < 150; step++) {
		int32_t s = (int32_t)rv_rng_below(&rng, N_SEQS), to = (s + 1) % N_SEQS;
		int64_t moves = 0, want[3] = {0};
		if (rv_rng_below(&rng, 4) == 0) {
			assert_ok(rv_seq_copy(ctx, s, to, length[s]));
			length[to] = length[s];
		} else {
			int32_t n = (int32_t)rv_rng_below(&rng, 30);
			if (length[s] + n > N_TOKENS) {
				assert_ok(rv_seq_truncate(ctx, s, 0));
				length[s] = 0;
			}
			for (int64_t i = 0; i < (length[s] + n) / PAGE; i++) {
				int now = rv_kv_policy_tier(&p, i, (length[s] + n) / PAGE, PAGE);
				int was = i < length[s] / PAGE
				                  ? rv_kv_policy_tier(&p, i, length[s] / PAGE, PAGE)
				                  : 0;
				moves += now - was;
			}
			evaluate(ctx, s, s, length[s], length[s] + n, n ? n : 1, NULL);
			length[s] += n;
		}
		for (int32_t q = 0; q < N_SEQS; q++)
			for (int64_t i = 0; i < (length[q] + PAGE - 1) / PAGE; i++)
				want[i < length[q] / PAGE
				             ? rv_kv_policy_tier(&p, i, length[q] / PAGE, PAGE)
				             : 0]++;
		assert_int_equal(rv_context_kv_tier_stats(ctx, &got), 1);
		for (int tier = 0; tier < 3; tier++)
			assert_int_equal(got.n_pages[tier], want[tier]);
		assert_int_equal(got.n_encoded + got.n_taken,
		                 before.n_encoded + before.n_taken + moves);
		assert_ok(rv_kv_pages_verify(rv_context_kv_pages(ctx), 0));
		before = got;
	}
	assert_true(got.n_taken > 0); /* sharers were not encoded anew */
	assert_true(got.page_bytes[0] > got.page_bytes[1] && got.page_bytes[1] > got.page_bytes[2]);
	rv_context_destroy(ctx);
}

/* Two that share pages: the second to reach a tier takes the page the first has made. */
static void sharers_encode_once(void **state) {
	const fixture *f = *state;
	rv_kv_tier_stats one, both;
	rv_context *ctx = open_context(f, "2-bit:tail=16", 16, 1);
	evaluate(ctx, 0, 0, 0, 64, 64, NULL);
	assert_ok(rv_seq_copy(ctx, 0, 1, 64));
	evaluate(ctx, 0, 0, 64, 80, 16, NULL);
	rv_context_kv_tier_stats(ctx, &one);
	evaluate(ctx, 0, 1, 64, 80, 16, NULL);
	rv_context_kv_tier_stats(ctx, &both);
	assert_int_equal(both.n_encoded, one.n_encoded);
	assert_int_equal(both.n_taken, one.n_taken + 1);
	/* the one made is forgotten with its page: a third encodes for itself */
	assert_ok(rv_seq_truncate(ctx, 0, 0));
	assert_ok(rv_seq_truncate(ctx, 1, 0));
	assert_ok(rv_kv_pages_verify(rv_context_kv_pages(ctx), 0));
	rv_context_destroy(ctx);
}

/* ---- failures ---- */

static int cancel_after(void *user) {
	int *left = user;
	return (*left)-- <= 0;
}

static void cancelled_in_mid_call(void **state) {
	const fixture *f = *state;
	static float base[N_TOKENS * N_VOCAB], other[N_TOKENS * N_VOCAB];
	rv_context *ctx = open_context(f, "three-tier-kivi:tail=16:warm=32", 8, 2);
	evaluate(ctx, 0, 0, 0, N_TOKENS, 1, base);
	assert_ok(rv_seq_truncate(ctx, 0, 0));
	evaluate(ctx, 0, 0, 0, 61, 61, other);
	for (int layers = 0; layers < 30; layers += 4) {
		rv_row rows[N_TOKENS];
		int left = layers;
		for (int32_t i = 61; i < N_TOKENS; i++)
			rows[i - 61] = (rv_row){token(0, i), 0, i, -1, 0, 0};
		rv_context_set_cancel(ctx, cancel_after, &left);
		assert_int_equal(rv_context_eval(ctx, rows, N_TOKENS - 61), RV_ERR_CANCELLED);
		rv_context_set_cancel(ctx, NULL, NULL);
		assert_int_equal(rv_seq_length(ctx, 0), 61);
		assert_ok(rv_kv_pages_verify(rv_context_kv_pages(ctx), 0));
	}
	evaluate(ctx, 0, 0, 61, N_TOKENS, 7, other);
	assert_true(same(other, base, 0));
	rv_context_destroy(ctx);
}

static void budget_runs_out(void **state) {
	const fixture *f = *state;
	rv_kv_policy p;
	rv_context *ctx;
	rv_row rows[N_CTX];
	assert_ok(rv_kv_policy_parse(&p, "two-tier:tail=64"));
	rv_context_options o = options_for(f, &p, 256, 1);
	o.n_ctx = 2048;
	o.kv_budget_bytes = (size_t)2 << 20; /* fewer than all need, and one slab a format */
	assert_ok(rv_context_create(&ctx, f->model, &o));
	rv_status st = RV_OK;
	for (int32_t at = 0; st == RV_OK && at < 2048; at += st == RV_OK ? N_CTX : 0) {
		for (int32_t i = 0; i < N_CTX; i++)
			rows[i] = (rv_row){token(0, at + i), 0, at + i, -1, 0, 0};
		st = rv_context_eval(ctx, rows, N_CTX);
		if (st != RV_OK)
			assert_int_equal(rv_seq_length(ctx, 0), at);
		assert_ok(rv_kv_pages_verify(rv_context_kv_pages(ctx), 0));
	}
	assert_int_equal(st, RV_ERR_LIMIT);
	rv_context_destroy(ctx);
}

static void refused(void **state) {
	const fixture *f = *state;
	rv_kv_policy p;
	rv_context *ctx;
	assert_ok(rv_kv_policy_parse(&p, "squat"));
	rv_context_options o = options_for(f, &p, 0, 1);
	assert_int_equal(rv_context_create(&ctx, f->model, &o), RV_ERR_INVALID); /* in one piece */
	o.page_size = 16;
	o.kv_calibration = NULL;
	assert_int_equal(rv_context_create(&ctx, f->model, &o), RV_ERR_INVALID);
	rv_kv_calibration other = *f->calibration;
	other.head_dim = 32;
	o.kv_calibration = &other;
	assert_int_equal(rv_context_create(&ctx, f->model, &o), RV_ERR_INVALID);
	rv_hparams hp = tiny_hparams();
	hp.n_heads = hp.n_kv_heads = 4;
	hp.head_dim = hp.n_rot = 68;
	rv_model *odd = tiny_model_of(&hp, "qwen2", "F16", 1);
	assert_ok(rv_kv_policy_parse(&p, "2-bit"));
	assert_int_equal(rv_context_create(&ctx, odd, &o), RV_ERR_UNSUPPORTED);
	rv_kv_calibration *none;
	assert_int_equal(rv_kv_calibrate(&none, odd, (const int32_t[64]){0}, 64), RV_ERR_UNSUPPORTED);
	assert_int_equal(rv_kv_calibrate(&none, f->model, (const int32_t[64]){0}, 63), RV_ERR_INVALID);
	rv_model_release(odd);
	/* cuts within what has left the tail, pages too cold for a prefix */
	ctx = open_context(f, "2-bit:tail=16", 16, 1);
	evaluate(ctx, 0, 0, 0, 64, 64, NULL);
	assert_int_equal(rv_seq_truncate(ctx, 0, 20), RV_ERR_UNSUPPORTED);
	assert_int_equal(rv_seq_copy(ctx, 0, 1, 40), RV_ERR_UNSUPPORTED);
	assert_int_equal(rv_seq_length(ctx, 0), 64);
	const rv_kv_page *pages;
	assert_int_equal(rv_kv_seq_pages(rv_context_kv_pages(ctx), 0, &pages), 4);
	assert_int_equal(rv_seq_attach(ctx, 1, pages, 1, 0), RV_ERR_MISMATCH);
	assert_ok(rv_seq_attach(ctx, 1, pages, 4, 0));
	assert_ok(rv_seq_truncate(ctx, 0, 50)); /* within the tail */
	assert_ok(rv_seq_truncate(ctx, 0, 32)); /* whole pages */
	rv_context_destroy(ctx);
}

/* ---- quality ---- */

/* Mean over positions [64, N_TOKENS) of the KL divergence from a. */
static double divergence(const float *a, const float *b) {
	double total = 0;
	for (int64_t t = 64; t < N_TOKENS; t++) {
		const float *x = a + t * N_VOCAB, *y = b + t * N_VOCAB;
		double sx = 0, sy = 0, kl = 0;
		for (int i = 0; i < N_VOCAB; i++) {
			sx += exp((double)x[i]);
			sy += exp((double)y[i]);
		}
		for (int i = 0; i < N_VOCAB; i++)
			kl += exp((double)x[i]) / sx * ((double)x[i] - (double)y[i] + log(sy / sx));
		total += kl;
	}
	return total / (N_TOKENS - 64);
}

/* Everything but the page in work in one format. Bounds are about three times what this model gives. */
static void quality(void **state) {
	const fixture *f = *state;
	static float flat[N_TOKENS * N_VOCAB], other[N_TOKENS * N_VOCAB];
	static const struct {
		const char *policy;
		double most;
	} arms[] = {{"two-tier:tail=0", 5e-4},
	            {"two-tier:tail=0:store=q4", 0.1},
	            {"two-tier:tail=0:store=kivi4", 0.1},
	            {"two-tier:tail=0:store=kvquant4", 0.1},
	            {"two-tier:tail=0:store=squat4", 0.1},
	            {"two-tier:tail=0:store=q2", 2},
	            {"two-tier:tail=0:store=kivi2", 2},
	            {"two-tier:tail=0:store=kvquant2", 2},
	            {"two-tier:tail=0:store=squat2", 2}};
	double kl[9];
	rv_context *ctx = open_context(f, "flat", 64, 1);
	evaluate(ctx, 0, 0, 0, N_TOKENS, N_TOKENS, flat);
	rv_context_destroy(ctx);
	for (size_t i = 0; i < 9; i++) {
		ctx = open_context(f, arms[i].policy, 64, 1);
		evaluate(ctx, 0, 0, 0, N_TOKENS, N_TOKENS, other);
		rv_context_destroy(ctx);
		kl[i] = divergence(flat, other);
		if (!(kl[i] > 0 && kl[i] < arms[i].most))
			fail_msg("%s: divergence %g", arms[i].policy, kl[i]);
		print_message("# %s: divergence %.3g\n", arms[i].policy, kl[i]);
	}
	assert_true(kl[0] < kl[1]);
	for (int i = 1; i < 5; i++)
		assert_true(kl[i] < kl[i + 4]); /* four bits are better than two */
	assert_true(divergence(flat, flat) == 0);
}

/* ---- calibration ---- */

static void calibration(void **state) {
	const fixture *f = *state;
	const rv_kv_calibration *c = f->calibration;
	const int64_t d = c->head_dim;
	rv_kv_calibration *again;
	int32_t tokens[256];
	for (int i = 0; i < 256; i++)
		tokens[i] = token(9, i);
	assert_ok(rv_kv_calibrate(&again, f->model, tokens, 256));
	assert_memory_equal(again->books, c->books,
	                    (size_t)(c->n_layers * RV_KV_BOOKS) * sizeof *c->books);
	assert_memory_equal(again->feedback, c->feedback,
	                    (size_t)(c->n_layers * c->n_kv_heads * d * d) * sizeof *c->feedback);
	rv_kv_calibration_destroy(again);
	for (int64_t i = 0; i < c->n_layers * 4; i++)
		for (int j = 1; j < (i % 4 < 2 ? 16 : 4); j++)
			assert_true(c->books[i * RV_KV_BOOK + j] > c->books[i * RV_KV_BOOK + j - 1]);
	/* the shares x of channel k's error solve H x = h for the channels after it */
	for (int64_t lane = 0; lane < c->n_layers * c->n_kv_heads; lane++) {
		const double *m = c->queries + lane * d * d;
		double trace = 0;
		for (int64_t i = 0; i < d; i++)
			trace += m[i * d + i];
		for (int64_t k = 0; k < d; k += 7)
			for (int64_t i = k + 1; i < d; i++) {
				double sum = -m[i * d + k];
				for (int64_t j = k + 1; j < d; j++)
					sum += (i >= j ? m[i * d + j] : m[j * d + i]) *
					       (double)c->feedback[lane * d * d + k * d + j];
				sum += 0.01 * trace / (double)d *
				       (double)c->feedback[lane * d * d + k * d + i];
				assert_true(fabs(sum) < 1e-4 * trace / (double)d);
			}
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {cmocka_unit_test(tiers_by_position),
	                                   cmocka_unit_test(parsing),
	                                   cmocka_unit_test(positions_decide),
	                                   cmocka_unit_test(control_colder_pages),
	                                   cmocka_unit_test(bookkeeping),
	                                   cmocka_unit_test(sharers_encode_once),
	                                   cmocka_unit_test(cancelled_in_mid_call),
	                                   cmocka_unit_test(budget_runs_out),
	                                   cmocka_unit_test(refused),
	                                   cmocka_unit_test(quality),
	                                   cmocka_unit_test(calibration)};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
