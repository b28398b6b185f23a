/* Perplexity and its companions: statistics of rows of logits computed by hand, then models. */
#include "eval/perplexity.h"

#include "base/mem.h"
#include "base/rng.h"
#include "engine/sampler.h"
#include "tests/support/reference.h"
#include "tests/support/tiny_model.h"

#include <math.h>

/* cmocka compares floats only in single precision. */
static void near(double a, double b, double epsilon) {
	if (!(fabs(a - b) <= epsilon))
		fail_msg("%.17g is not %.17g", a, b);
}

static void near_estimate(rv_estimate e, double value, double se, double epsilon) {
	near(e.value, value, epsilon);
	near(e.se, se, epsilon);
}

/* ---- rows of logits ---- */

#define SUMS_MAX 8

static rv_perplexity_sums *new_sums(void) {
	rv_perplexity_sums *s;
	assert_ok(rv_perplexity_sums_create(&s, SUMS_MAX));
	return s;
}

typedef struct position {
	double q, base; /* probability of token 0; token 1 has the rest */
	int32_t next;
} position;

static rv_status add(rv_perplexity_sums *s, position p, int with_base) {
	/* Any offset stands for the same distribution. */
	const float q[] = {(float)log(p.q) + 5, (float)log(1 - p.q) + 5};
	const float base[] = {(float)log(p.base) - 3, (float)log(1 - p.base) - 3};
	return rv_perplexity_add(s, q, with_base ? base : NULL, 2, p.next);
}

/* -log2 p of the tokens: 1 2 2 (model), 2 2 3 (base) */
static const position known[] = {
        {1. / 2, 1. / 4, 0},
        {1. / 4, 1. / 4, 0},
        {3. / 4, 7. / 8, 1},
};

/* The place of a percentile in the table. */
static int at(const char *key) {
	static const char *const keys[] = {
#define KEY(percent, label, key) key,
	        RV_PERPLEXITY_POINTS(KEY)
#undef KEY
	};
	for (int i = 0; i < RV_PERPLEXITY_N_POINTS; i++)
		if (strcmp(keys[i], key) == 0)
			return i;
	fail_msg("no percentile %s", key);
	return 0;
}

static rv_perplexity known_result(void) {
	rv_perplexity_sums *s = new_sums();
	for (int i = 0; i < 3; i++)
		assert_ok(add(s, known[i], 1));
	rv_perplexity p = rv_perplexity_final(s);
	rv_perplexity_sums_destroy(s);
	return p;
}

#define NEAR 1e-6 /* logits are floats */

static void known_perplexity(void **state) {
	(void)state;
	rv_perplexity p = known_result();
	double ln2 = log(2), q = pow(2, 5. / 3), base = pow(2, 7. / 3);
	assert_true(p.n == 3 && p.n_impossible == 0 && p.n_base_impossible == 0);
	/* both variances of the mean are (2/9) / 2 = 1/9, the covariance is (4 - 35/9) / 2 = 1/18 */
	near_estimate(p.nll, 5 * ln2 / 3, ln2 / 3, NEAR);
	near_estimate(p.ppl, q, q * ln2 / 3, NEAR);
	near_estimate(p.base_nll, 7 * ln2 / 3, ln2 / 3, NEAR);
	near_estimate(p.base_ppl, base, base * ln2 / 3, NEAR);
	near(p.correlation, 0.5, NEAR);
	near_estimate(p.log_ratio, -2 * ln2 / 3, ln2 / 3, NEAR);
	near_estimate(p.ratio, q / base, q / base * ln2 / 3, NEAR);
	near_estimate(p.difference, q - base, ln2 / 3 * sqrt(q * q + base * base - q * base), NEAR);

	rv_perplexity_sums *s = new_sums();
	for (int i = 0; i < 3; i++)
		assert_ok(add(s, known[i], 0));
	rv_perplexity alone = rv_perplexity_final(s);
	rv_perplexity_sums_destroy(s);
	assert_true(alone.ppl.value == p.ppl.value && alone.ppl.se == p.ppl.se && alone.n == 3);
}

static void known_divergences(void **state) {
	(void)state;
	rv_perplexity p = known_result();
	double first = log(1. / 2) / 4 + 3 * log(3. / 2) / 4;
	double third = 7 * log(7. / 6) / 8 + log(1. / 2) / 8;
	double mean = (first + third) / 3;
	double variance = ((first * first + third * third) / 3 - mean * mean) / 2;
	near_estimate(p.kl.mean, mean, sqrt(variance), NEAR);
	near(p.kl.at[at("max")], first, NEAR);
	near(p.kl.at[at("p99.9")], third * 0.002 + first * 0.998, NEAR);
	near(p.kl.at[at("p99")], third * 0.02 + first * 0.98, NEAR);
	near(p.kl.at[at("p95")], third * 0.1 + first * 0.9, NEAR);
	near(p.kl.at[at("p90")], third * 0.2 + first * 0.8, NEAR);
	near(p.kl.at[at("p75")], (third + first) / 2, NEAR);
	near(p.kl.at[at("median")], third, NEAR);
	near(p.kl.at[at("p25")], third / 2, NEAR);
	near(p.kl.at[at("p10")], third * 0.2, NEAR);
	near(p.kl.at[at("p5")], third * 0.1, NEAR);
	near(p.kl.at[at("p1")], third * 0.02, NEAR);
	near(p.kl.at[at("p0.1")], third * 0.002, NEAR);
	near(p.kl.at[at("min")], 0, NEAR);
}

static void known_probabilities(void **state) {
	(void)state;
	rv_perplexity p = known_result();
	/* 1/4, 0, 1/8: the mean square is 5/192, the variance of it 13/36864 */
	near_estimate(p.delta.mean, 1. / 8, sqrt(1. / 192), NEAR);
	near(p.delta.at[at("max")], 1. / 4, NEAR);
	near(p.delta.at[at("p75")], 3. / 16, NEAR);
	near(p.delta.at[at("median")], 1. / 8, NEAR);
	near(p.delta.at[at("min")], 0, NEAR);
	near_estimate(p.rms, sqrt(5. / 192), sqrt(13) / 192 / (2 * sqrt(5. / 192)), NEAR);
	/* the first row of the model is a tie, which goes to token 0; the base prefers token 1 */
	near_estimate(p.same_top, 2. / 3, 1. / 3, NEAR);
}

static void running_has_no_percentiles(void **state) {
	(void)state;
	rv_perplexity_sums *s = new_sums();
	for (int i = 0; i < 3; i++)
		assert_ok(add(s, known[i], 1));
	rv_perplexity running = rv_perplexity_running(s), final = rv_perplexity_final(s);
	assert_true(running.kl.mean.value == final.kl.mean.value);
	assert_true(isnan(running.kl.at[0]) && isnan(running.delta.at[0]) && !isnan(final.kl.at[0]));
	assert_ok(add(s, known[0], 1));
	assert_true(rv_perplexity_final(s).n == 4);
	rv_perplexity_sums_destroy(s);
}

static void impossible_tokens(void **state) {
	(void)state;
	rv_perplexity_sums *s = new_sums();
	assert_ok(add(s, known[0], 1));
	assert_ok(add(s, (position){1, 0.5, 1}, 1));
	rv_perplexity p = rv_perplexity_final(s);
	assert_true(p.n_impossible == 1 && p.n_base_impossible == 0);
	assert_true(isinf(p.ppl.value) && isinf(p.nll.value) && isnan(p.ppl.se));
	assert_true(isfinite(p.base_ppl.value) && isinf(p.ratio.value) && isinf(p.difference.value));
	assert_true(isinf(p.kl.mean.value) && isinf(p.kl.at[at("max")]));
	assert_true(isfinite(p.kl.at[at("min")]) && isfinite(p.delta.mean.value));
	rv_perplexity_sums_destroy(s);
	/* what the base rules out costs nothing: KL log 2, and here it is the base that is infinite */
	s = new_sums();
	assert_ok(add(s, (position){0.5, 1, 1}, 1));
	p = rv_perplexity_final(s);
	assert_true(p.n_impossible == 0 && p.n_base_impossible == 1 && isinf(p.base_ppl.value));
	near(p.kl.mean.value, log(2), NEAR);
	rv_perplexity_sums_destroy(s);
}

static void bad_rows(void **state) {
	(void)state;
	const float good[] = {0, 1}, nan[] = {0, NAN}, up[] = {0, INFINITY};
	const float none[] = {-INFINITY, -INFINITY};
	rv_perplexity_sums *s = new_sums();
	assert_ok(rv_perplexity_add(s, good, good, 2, 1));
	const float *const bad[] = {nan, up, none};
	for (int i = 0; i < 3; i++) {
		assert_int_equal(rv_perplexity_add(s, bad[i], good, 2, 1), RV_ERR_NUMERIC);
		assert_int_equal(rv_perplexity_add(s, good, bad[i], 2, 1), RV_ERR_NUMERIC);
		assert_non_null(strstr(rv_error_message(), "base"));
	}
	assert_int_equal(rv_perplexity_add(s, good, NULL, 2, 1), RV_ERR_INVALID);
	assert_int_equal(rv_perplexity_add(s, good, good, 2, 2), RV_ERR_INVALID);
	assert_int_equal(rv_perplexity_add(s, good, good, 2, -1), RV_ERR_INVALID);
	assert_int_equal(rv_perplexity_final(s).n, 1);
	for (int i = 1; i < SUMS_MAX; i++)
		assert_ok(rv_perplexity_add(s, good, good, 2, 1));
	assert_int_equal(rv_perplexity_add(s, good, good, 2, 1), RV_ERR_LIMIT);
	rv_perplexity_sums_destroy(s);
}

/* ---- models ---- */

enum { N_CTX = 16, N_TOKENS = 3 * N_CTX + 5, PER_CHUNK = N_CTX - 1 - N_CTX / 2 };

static rv_context *context_of(rv_model *model, int64_t n_ctx, int32_t n_batch) {
	rv_context_options o = rv_context_defaults();
	rv_context *ctx;
	o.n_ctx = n_ctx;
	o.n_batch = n_batch;
	o.n_threads = 1;
	assert_ok(rv_context_create(&ctx, model, &o));
	return ctx;
}

static void random_tokens(int32_t ids[N_TOKENS], int64_t n_vocab) {
	rv_rng rng;
	rv_rng_stream(&rng, 5, 0);
	for (int i = 0; i < N_TOKENS; i++)
		ids[i] = (int32_t)rv_rng_below(&rng, (uint64_t)n_vocab);
}

static rv_perplexity measured(rv_model *model, rv_model *base, int32_t n_batch, const int32_t *ids,
                              const rv_perplexity_options *o) {
	rv_perplexity p;
	const rv_perplexity_options all = {0};
	rv_context *ctx = context_of(model, N_CTX, n_batch);
	rv_context *other = base ? context_of(base, N_CTX, n_batch) : NULL;
	assert_ok(rv_perplexity_measure(ctx, other, ids, N_TOKENS, o ? o : &all, &p));
	rv_context_destroy(ctx);
	rv_context_destroy(other);
	return p;
}

/* The definition, one token at a time. `first` and `bos` may be wrong on purpose. */
static double mean_nll(rv_model *model, const int32_t *ids, int first, int32_t bos) {
	rv_context *ctx = context_of(model, N_CTX, 1);
	double sum = 0;
	int n = 0;
	for (int c = 0; c < 3; c++) {
		assert_ok(rv_seq_truncate(ctx, 0, 0));
		for (int i = 0; i + 1 < N_CTX; i++) {
			int32_t id = i == 0 && bos >= 0 ? bos : ids[c * N_CTX + i];
			rv_row row = {.token = id, .position = i, .parent = -1, .flags = RV_ROW_LOGITS};
			assert_ok(rv_context_eval(ctx, &row, 1));
			if (i >= first) {
				sum -= rv_logprob(rv_context_logits(ctx, 0),
				                  rv_model_hparams(model)->n_vocab,
				                  ids[c * N_CTX + i + 1]);
				n++;
			}
		}
	}
	rv_context_destroy(ctx);
	return sum / n;
}

static void same_as_definition(void **state) {
	(void)state;
	rv_model *model = tiny_model("qwen2", "F16");
	int32_t ids[N_TOKENS];
	random_tokens(ids, 512);
	rv_perplexity p = measured(model, NULL, 512, ids, NULL);
	assert_int_equal(p.n, 3 * PER_CHUNK);
	near(p.nll.value, mean_nll(model, ids, N_CTX / 2, -1), 1e-12);
	near(p.ppl.value, exp(p.nll.value), 0);
	/* each rule decides something */
	assert_true(fabs(p.nll.value - mean_nll(model, ids, N_CTX / 2 - 1, -1)) > 1e-4);
	assert_true(fabs(p.nll.value - mean_nll(model, ids, N_CTX / 2, 7)) > 1e-6);
	/* neither batches nor what follows the last whole chunk do */
	rv_perplexity pieces = measured(model, NULL, 5, ids, NULL);
	assert_true(pieces.nll.value == p.nll.value && pieces.nll.se == p.nll.se);
	ids[3 * N_CTX] ^= 1;
	assert_true(measured(model, NULL, 512, ids, NULL).nll.value == p.nll.value);
	ids[3 * N_CTX - 1] ^= 1;
	assert_true(measured(model, NULL, 512, ids, NULL).nll.value != p.nll.value);
	rv_model_release(model);
}

static void bos_begins_chunks(void **state) {
	(void)state;
	char path[1024];
	if (!reference_path(path, "models/stories260K.f32.gguf"))
		skip();
	rv_model *model;
	assert_ok(rv_model_open(&model, path, NULL));
	const rv_tokenizer *tok = rv_model_tokenizer(model);
	assert_true(rv_tokenizer_add_bos(tok));
	int32_t ids[N_TOKENS];
	random_tokens(ids, 512);
	rv_perplexity p = measured(model, NULL, 512, ids, NULL);
	near(p.nll.value, mean_nll(model, ids, N_CTX / 2, rv_tokenizer_bos(tok)), 1e-12);
	assert_true(fabs(p.nll.value - mean_nll(model, ids, N_CTX / 2, -1)) > 1e-6);
	ids[N_CTX] ^= 1;
	assert_true(measured(model, NULL, 512, ids, NULL).nll.value == p.nll.value);
	int32_t *text = NULL;
	size_t n = 0;
	assert_ok(rv_perplexity_tokenize(model, "a", 1, &text, &n));
	assert_true(n > 1 && text[0] == rv_tokenizer_bos(tok));
	rv_free(text);
	rv_model_release(model);
}

static void against_base(void **state) {
	(void)state;
	rv_model *f32 = tiny_model("qwen2", "F16"), *q4 = tiny_model("qwen2", "Q4_0");
	int32_t ids[N_TOKENS];
	random_tokens(ids, 512);
	rv_perplexity same = measured(f32, f32, 512, ids, NULL);
	assert_true(same.kl.mean.value == 0 && same.kl.mean.se == 0);
	assert_true(same.kl.at[at("max")] == 0 && same.kl.at[at("min")] == 0);
	assert_true(same.delta.at[at("max")] == 0 && same.rms.value == 0 && same.rms.se == 0);
	assert_true(same.same_top.value == 1 && same.same_top.se == 0 && same.correlation == 1);
	assert_true(same.ratio.value == 1 && same.ratio.se == 0 && same.log_ratio.value == 0);
	assert_true(same.difference.value == 0 && same.difference.se == 0);
	assert_true(same.ppl.value == same.base_ppl.value);
	rv_perplexity other = measured(q4, f32, 512, ids, NULL);
	assert_true(other.base_ppl.value == same.ppl.value && other.ppl.value != same.ppl.value);
	assert_true(other.kl.mean.value > 1e-6 && other.kl.at[at("min")] > 0 && other.kl.mean.se > 0);
	assert_true(fabs(other.correlation) < 1 && other.rms.value > 0);
	assert_true(other.ppl.value == measured(q4, NULL, 512, ids, NULL).ppl.value);
	rv_model_release(f32);
	rv_model_release(q4);
}

typedef struct seen {
	int64_t n, n_chunks;
	double last;
} seen;

static void watch(void *user, int64_t i, int64_t n_chunks, const rv_perplexity *so_far) {
	seen *s = user;
	s->n++;
	assert_int_equal(s->n, i);
	assert_int_equal(so_far->n, i * PER_CHUNK);
	s->n_chunks = n_chunks;
	s->last = so_far->ppl.value;
}

static int always(void *user) {
	(void)user;
	return 1;
}

static void chunks_and_progress(void **state) {
	(void)state;
	rv_model *model = tiny_model("qwen2", "F16");
	int32_t ids[N_TOKENS];
	random_tokens(ids, 512);
	seen all = {0}, two = {0};
	rv_perplexity_options o = {.progress = watch, .user = &all};
	rv_perplexity p = measured(model, NULL, 512, ids, &o);
	assert_true(all.n == 3 && all.n_chunks == 3 && all.last == p.ppl.value);
	o = (rv_perplexity_options){.max_chunks = 2, .progress = watch, .user = &two};
	p = measured(model, NULL, 512, ids, &o);
	assert_true(two.n == 2 && two.n_chunks == 2 && p.n == 2 * PER_CHUNK);
	rv_model_release(model);
}

/* Spoils what the first layer adds for one chunk. */
static rv_status spoil(void *user, const rv_site_view *v) {
	int *calls_left = user;
	if (v->layer == 0 && v->rows[v->n_rows - 1].position == N_CTX - 2 && (*calls_left)-- == 0)
		v->output[0] = NAN;
	return RV_OK;
}

static void not_a_number(void **state) {
	(void)state;
	rv_model *model = tiny_model("qwen2", "F16");
	rv_context *good = context_of(model, N_CTX, 512), *bad = context_of(model, N_CTX, 512);
	int32_t ids[N_TOKENS];
	random_tokens(ids, 512);
	int calls_left = 1;
	const rv_hooks hooks = {
	        .site = spoil, .roles = rv_site_roles(RV_SITE_ATTN_OUT), .user = &calls_left};
	const rv_perplexity_options o = {0};
	rv_perplexity p = {.n = 77};
	rv_context_set_hooks(bad, &hooks);
	assert_int_equal(rv_perplexity_measure(bad, good, ids, N_TOKENS, &o, &p), RV_ERR_NUMERIC);
	assert_non_null(strstr(rv_error_message(), "chunk 2: "));
	assert_int_equal(p.n, 77);
	calls_left = 2;
	assert_int_equal(rv_perplexity_measure(good, bad, ids, N_TOKENS, &o, &p), RV_ERR_NUMERIC);
	assert_non_null(strstr(rv_error_message(), "chunk 3: "));
	calls_left = 3;
	assert_ok(rv_perplexity_measure(bad, good, ids, N_TOKENS, &o, &p));
	rv_context_destroy(good);
	rv_context_destroy(bad);
	rv_model_release(model);
}

static void refusals(void **state) {
	(void)state;
	rv_model *model = tiny_model("qwen2", "F16");
	rv_context *ctx = context_of(model, N_CTX, 512), *longer = context_of(model, 2 * N_CTX, 512);
	const rv_perplexity_options o = {0};
	rv_perplexity p = {.n = 77};
	int32_t ids[N_TOKENS];
	random_tokens(ids, 512);
	assert_int_equal(rv_perplexity_measure(ctx, NULL, ids, 2 * N_CTX - 1, &o, &p), RV_ERR_INVALID);
	assert_non_null(strstr(rv_error_message(), "31 tokens"));
	assert_non_null(strstr(rv_error_message(), "32"));
	assert_int_equal(rv_perplexity_measure(ctx, NULL, ids, 0, &o, &p), RV_ERR_INVALID);
	assert_int_equal(rv_perplexity_measure(ctx, longer, ids, N_TOKENS, &o, &p), RV_ERR_INVALID);
	assert_int_equal(rv_perplexity_measure(ctx, ctx, ids, N_TOKENS, &o, &p), RV_ERR_INVALID);
	assert_int_equal(rv_perplexity_check_length(100, 2), RV_ERR_INVALID);
	rv_context_set_cancel(ctx, always, NULL);
	assert_int_equal(rv_perplexity_measure(ctx, NULL, ids, N_TOKENS, &o, &p), RV_ERR_CANCELLED);
	rv_context_set_cancel(ctx, NULL, NULL);
	ids[20] = 512;
	assert_int_equal(rv_perplexity_measure(ctx, NULL, ids, N_TOKENS, &o, &p), RV_ERR_INVALID);
	assert_int_equal(p.n, 77);
	ids[20] = 0;
	assert_ok(rv_perplexity_measure(ctx, NULL, ids, 2 * N_CTX, &o, &p));
	assert_int_equal(p.n, 2 * PER_CHUNK);
	rv_context_destroy(ctx);
	rv_context_destroy(longer);
	rv_model_release(model);
}

/* A model whose vocabulary differs from tiny_model's in one letter of one entry. */
static rv_model *other_entry(void) {
	static const char entry[] = "\x0a\0\0\0\0\0\0\0<|im_end|>";
	char path[1024];
	rv_model *model;
	tiny_model_file(path, "qwen2", "F16");
	FILE *f = fopen(path, "r+b");
	char data[1 << 16];
	size_t n = fread(data, 1, sizeof data, f);
	char *found = memmem(data, n, entry, sizeof entry - 1);
	assert_non_null(found);
	assert_int_equal(fseek(f, found - data + 8 + 5, SEEK_SET), 0);
	assert_int_equal(fputc('E', f), 'E');
	fclose(f);
	rv_status status = rv_model_open(&model, path, NULL);
	unlink(path);
	assert_int_equal(status, RV_OK);
	return model;
}

static void vocabularies(void **state) {
	(void)state;
	rv_model *model = tiny_model("qwen2", "F16"), *twin = tiny_model("qwen2", "Q8_0");
	assert_ok(rv_perplexity_comparable(model, twin));
	rv_model *other = other_entry();
	assert_int_equal(rv_perplexity_comparable(model, other), RV_ERR_MISMATCH);
	assert_non_null(strstr(rv_error_message(), "'<|im_end|>'"));
	rv_context *a = context_of(model, N_CTX, 512), *b = context_of(other, N_CTX, 512);
	const rv_perplexity_options o = {0};
	rv_perplexity p;
	int32_t ids[N_TOKENS];
	random_tokens(ids, 512);
	assert_int_equal(rv_perplexity_measure(a, b, ids, N_TOKENS, &o, &p), RV_ERR_MISMATCH);
	rv_context_destroy(a);
	rv_context_destroy(b);
	rv_model_release(other);
	rv_model_release(twin);
	rv_model_release(model);
}

/* Every token of a chunk but the first is scored, and stands in the bucket of its position. */
static void by_position(void **state) {
	(void)state;
	enum { LENGTH = 150, N = 2 * LENGTH };
	static const int64_t bounds[][2] = {{0, 64}, {64, 128}, {128, LENGTH - 1}};
	rv_model *model = tiny_model("qwen2", "F16");
	rv_context *ctx = context_of(model, LENGTH, 40);
	rv_perplexity_positions positions;
	const rv_perplexity_options o = {.positions = &positions};
	rv_perplexity p;
	int32_t ids[N];
	double sum[3] = {0};
	rv_rng rng;
	rv_rng_stream(&rng, 6, 0);
	for (int i = 0; i < N; i++)
		ids[i] = (int32_t)rv_rng_below(&rng, 512);
	assert_ok(rv_perplexity_measure(ctx, NULL, ids, N, &o, &p));
	assert_int_equal(p.n, 2 * (LENGTH - 1));
	for (int c = 0; c < 2; c++) {
		assert_ok(rv_seq_truncate(ctx, 0, 0));
		for (int i = 0; i + 1 < LENGTH; i++) {
			rv_row row = {.token = ids[c * LENGTH + i],
			              .position = i,
			              .parent = -1,
			              .flags = RV_ROW_LOGITS};
			assert_ok(rv_context_eval(ctx, &row, 1));
			sum[i < 64    ? 0
			    : i < 128 ? 1
			              : 2] -=
			        rv_logprob(rv_context_logits(ctx, 0), 512, ids[c * LENGTH + i + 1]);
		}
	}
	assert_int_equal(positions.n, 3);
	for (int b = 0; b < 3; b++) {
		const rv_perplexity_bucket *k = &positions.buckets[b];
		int64_t n = 2 * (bounds[b][1] - bounds[b][0]);
		assert_int_equal(k->from, bounds[b][0]);
		assert_int_equal(k->to, bounds[b][1]);
		assert_int_equal(k->moments.n, n);
		near(k->ppl.value, exp(sum[b] / (double)n), 1e-9 * k->ppl.value);
		/* a neighbour's tokens would show */
		assert_true(fabs(sum[b] / (double)n - sum[(b + 1) % 3] / (double)n) > 1e-6);
	}
	rv_context_destroy(ctx);
	rv_model_release(model);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(known_perplexity),    cmocka_unit_test(known_divergences),
	        cmocka_unit_test(known_probabilities), cmocka_unit_test(running_has_no_percentiles),
	        cmocka_unit_test(impossible_tokens),   cmocka_unit_test(bad_rows),
	        cmocka_unit_test(same_as_definition),  cmocka_unit_test(bos_begins_chunks),
	        cmocka_unit_test(against_base),        cmocka_unit_test(chunks_and_progress),
	        cmocka_unit_test(not_a_number),        cmocka_unit_test(refusals),
	        cmocka_unit_test(vocabularies),        cmocka_unit_test(by_position),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
