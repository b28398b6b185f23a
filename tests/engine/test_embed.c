/* Embeddings: the mean of hidden states as computed by hand; the same bits alone, in any batch and with
 * any threads; maps keep cosines; nothing is allocated after the first texts; faults are named. */
#include "base/mem.h"
#include "base/rng.h"
#include "engine/context.h"
#include "engine/embed.h"
#include "tests/support/tiny_model.h"

#include <math.h>

#define N_VOCAB 512
#define NATIVE 256

/* ---- counted allocations ---- */

static long n_allocations;
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size) {
	n_allocations++;
	return __real_aligned_alloc(alignment, size);
}

static rv_embedder *open_embedder(rv_model *model, int64_t dim, int n_threads, int64_t n_batch) {
	rv_embedder_options o = rv_embedder_defaults();
	rv_embedder *e;
	o.dim = dim;
	o.n_threads = n_threads;
	o.n_batch = n_batch;
	o.max_tokens = 64;
	o.pin = 0;
	assert_ok(rv_embedder_create(&e, model, &o));
	return e;
}

static void some_tokens(int32_t *ids, int n, int seed) {
	for (int i = 0; i < n; i++)
		ids[i] = (seed * 37 + i * 101 + 5) % N_VOCAB;
}

static double cosine(const float *a, const float *b, int64_t n) {
	double dot = 0, aa = 0, bb = 0;
	for (int64_t i = 0; i < n; i++) {
		dot += (double)a[i] * (double)b[i];
		aa += (double)a[i] * (double)a[i];
		bb += (double)b[i] * (double)b[i];
	}
	return dot / sqrt(aa * bb);
}

/* ---- tests ---- */

static void mean_of_hidden_states(void **state) {
	(void)state;
	rv_model *model = tiny_model("qwen2", "Q8_0");
	rv_embedder *e = open_embedder(model, 0, 1, 64);
	rv_context_options o = rv_context_defaults();
	rv_context *ctx;
	int32_t ids[20];
	rv_row rows[20];
	float got[NATIVE];
	double mean[NATIVE] = {0}, length = 0;
	some_tokens(ids, 20, 1);
	o.n_ctx = 64;
	o.n_threads = 1;
	assert_ok(rv_context_create(&ctx, model, &o));
	for (int32_t i = 0; i < 20; i++)
		rows[i] = (rv_row){ids[i], 0, i, -1, 0, RV_ROW_HIDDEN};
	assert_ok(rv_context_eval(ctx, rows, 20));
	for (int i = 0; i < 20; i++)
		for (int j = 0; j < NATIVE; j++)
			mean[j] += (double)rv_context_hidden(ctx, i)[j];
	for (int j = 0; j < NATIVE; j++)
		length += mean[j] * mean[j];
	assert_int_equal(rv_embedder_dim(e), NATIVE);
	assert_ok(rv_embed_tokens(e, ids, 20, got));
	assert_int_equal(rv_embedder_n_tokens(e), 20);
	for (int j = 0; j < NATIVE; j++)
		assert_true(fabs((double)got[j] - mean[j] / sqrt(length)) < 1e-6);
	/* the comparison sees one token less */
	assert_ok(rv_embed_tokens(e, ids, 19, got));
	double worst = 0;
	for (int j = 0; j < NATIVE; j++)
		worst = fmax(worst, fabs((double)got[j] - mean[j] / sqrt(length)));
	assert_true(worst > 1e-4);
	rv_context_destroy(ctx);
	rv_embedder_destroy(e);
	rv_model_release(model);
}

static void maps_keep_cosines(void **state) {
	(void)state;
	rv_model *model = tiny_model("qwen2", "F16");
	rv_embedder *native = open_embedder(model, 0, 1, 64), *more = open_embedder(model, 768, 1, 64),
	            *fewer = open_embedder(model, 128, 1, 64);
	float a[3][768], b[3][768];
	rv_embedder *const all[3] = {native, more, fewer};
	for (int seed = 0; seed < 4; seed++) {
		int32_t ids[2][16];
		some_tokens(ids[0], 16, seed);
		some_tokens(ids[1], 16, seed + 9);
		for (int k = 0; k < 3; k++) {
			assert_ok(rv_embed_tokens(all[k], ids[0], 16, a[k]));
			assert_ok(rv_embed_tokens(all[k], ids[1], 9, b[k]));
		}
		const double want = cosine(a[0], b[0], NATIVE);
		assert_true(fabs(cosine(a[1], b[1], 768) - want) < 1e-5);
		assert_true(fabs(cosine(a[2], b[2], 128) - want) < 0.35);
		assert_true(fabs(want) < 0.99); /* they do differ */
	}
	assert_false(rv_embedder_learned(more));
	rv_embedder_destroy(native);
	rv_embedder_destroy(more);
	rv_embedder_destroy(fewer);
	rv_model_release(model);
}

/* A model with a tokenizer. */
static rv_model *model_with_words(void) {
	static const char *const places[] = {"datasets/models/pico.gguf",
	                                     "../datasets/models/pico.gguf"};
	rv_model *model = NULL;
	for (int i = 0; i < 2 && !model; i++)
		if (rv_model_open(&model, places[i], NULL) != RV_OK)
			model = NULL;
	assert_non_null(model);
	return model;
}

static const char *const texts[] = {"Deploy the build.",
                                    "x",
                                    "Why does the total differ by one cent since Tuesday?",
                                    "write a test",
                                    "Plan the move of six hundred pages: steps, owners, deadline.",
                                    "\xff\xfe bytes"};
enum { N_TEXTS = sizeof texts / sizeof *texts, MANY = 75 };

static void same_bits_in_any_batch(void **state) {
	(void)state;
	rv_model *model = model_with_words();
	static float want[MANY][768], got[MANY][768];
	rv_embed_input in[MANY];
	rv_embedder *one = open_embedder(model, 768, 1, 64);
	for (int i = 0; i < MANY; i++) {
		in[i] = (rv_embed_input){texts[i % N_TEXTS], strlen(texts[i % N_TEXTS])};
		assert_ok(rv_embed_text(one, in[i].text, in[i].len, want[i]));
	}
	assert_memory_equal(want[0], want[N_TEXTS], sizeof want[0]);
	assert_memory_not_equal(want[0], want[1], sizeof want[0]);
	const struct {
		int n_threads;
		int64_t n_batch;
	} ways[] = {{1, 64}, {2, 512}, {3, 100}};
	for (size_t k = 0; k < sizeof ways / sizeof *ways; k++) {
		rv_embedder *e = open_embedder(model, 768, ways[k].n_threads, ways[k].n_batch);
		memset(got, 0, sizeof got);
		assert_ok(rv_embed_batch(e, in, MANY, got[0]));
		assert_memory_equal(want, got, sizeof want);
		rv_embedder_destroy(e);
	}
	for (int i = 0; i < MANY; i++)
		assert_true(fabs(cosine(want[i], want[i], 768) - 1) < 1e-6);
	rv_embedder_destroy(one);
	rv_model_release(model);
}

static void nothing_is_allocated(void **state) {
	(void)state;
	rv_model *model = model_with_words();
	rv_embedder *e = open_embedder(model, 768, 2, 512);
	static float out[N_TEXTS][768];
	rv_embed_input in[N_TEXTS];
	int32_t ids[8];
	some_tokens(ids, 8, 3);
	for (int i = 0; i < N_TEXTS; i++)
		in[i] = (rv_embed_input){texts[i], strlen(texts[i])};
	assert_ok(rv_embed_batch(e, in, N_TEXTS, out[0]));
	long before = n_allocations;
	for (int i = 0; i < 20; i++) {
		assert_ok(rv_embed_batch(e, in, N_TEXTS, out[0]));
		assert_ok(rv_embed_tokens(e, ids, 8, out[0]));
	}
	assert_int_equal(n_allocations, before);
	/* the counter does count: a longer text grows the tokenizer's memory */
	static char longer[20000];
	memset(longer, 'q', sizeof longer);
	assert_ok(rv_embed_text(e, longer, sizeof longer, out[0]));
	assert_true(n_allocations > before);
	rv_embedder_destroy(e);
	rv_model_release(model);
}

static void faults_are_named(void **state) {
	(void)state;
	rv_model *model = tiny_model("qwen2", "F16"), *words = model_with_words();
	rv_embedder *e;
	float out[2][768];
	rv_embedder_options o = rv_embedder_defaults();
	o.dim = -1;
	assert_int_equal(rv_embedder_create(&e, model, &o), RV_ERR_INVALID);
	assert_null(e);
	o.dim = 100000;
	assert_int_equal(rv_embedder_create(&e, model, &o), RV_ERR_INVALID);
	o.dim = 768;
	o.max_tokens = 0;
	assert_int_equal(rv_embedder_create(&e, model, &o), RV_ERR_INVALID);
	e = open_embedder(words, 768, 1, 64);
	const rv_embed_input in[] = {{"a", 1}, {"", 0}};
	assert_int_equal(rv_embed_batch(e, in, 2, out[0]), RV_ERR_INVALID);
	assert_non_null(strstr(rv_error_message(), "text 1"));
	assert_int_equal(rv_embed_tokens(e, (const int32_t[]){99999}, 1, out[0]), RV_ERR_INVALID);
	assert_ok(rv_embed_text(e, "a", 1, out[0])); /* and it goes on working */
	rv_embedder_destroy(e);
	rv_model_release(words);
	rv_model_release(model);
}

/* The words' model with a map of n numbers, each `value`, said to be [dim, ...]; opened. */
static rv_model *model_with_map(uint32_t dim, size_t n, float value) {
	char path[] = "/tmp/rv-embed-XXXXXX";
	rv_model *from = model_with_words();
	const rv_gguf *g = rv_model_gguf(from);
	rv_gguf_writer *w;
	float *map;
	close(mkstemp(path));
	assert_ok(RV_ALLOC(&map, n, "map"));
	for (size_t i = 0; i < n; i++)
		map[i] = value * (float)(1 + i % 7);
	assert_ok(rv_gguf_writer_open(&w, path));
	for (size_t i = 0; i < rv_gguf_n_kv(g); i++)
		assert_ok(rv_gguf_write_kv(w, rv_gguf_kv_at(g, i)));
	assert_ok(rv_gguf_write_u32(w, RV_EMBED_KEY_DIM, dim));
	assert_ok(rv_gguf_write_f32s(w, RV_EMBED_KEY_MAP, map, n));
	for (size_t i = 0; i < rv_gguf_n_tensors(g); i++) {
		const rv_gguf_tensor *t = rv_gguf_tensor_at(g, i);
		assert_ok(rv_gguf_declare(w, t->name, t->type, t->n_dims, t->dims));
	}
	for (size_t i = 0; i < rv_gguf_n_tensors(g); i++) {
		const rv_gguf_tensor *t = rv_gguf_tensor_at(g, i);
		assert_ok(rv_gguf_write_data(w, t->data, t->n_bytes));
	}
	assert_ok(rv_gguf_writer_commit(w));
	rv_free(map);
	rv_model_release(from);
	return tiny_model_open(path);
}

static void maps_of_files(void **state) {
	(void)state;
	const struct {
		uint32_t dim;
		size_t n;
		float value;
		rv_status want; /* of an embedder of 768 numbers */
		int learned;
	} files[] = {{768, 768 * 128, 1, RV_OK, 1},
	             {64, 64 * 128, 1, RV_OK, 0},
	             {768, 768 * 128 - 1, 1, RV_ERR_FORMAT, 0},
	             {768, 768 * 128, INFINITY, RV_ERR_NUMERIC, 0},
	             {0, 128, 1, RV_ERR_FORMAT, 0},
	             {4000000000u, 128, 1, RV_ERR_FORMAT, 0}};
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		rv_model *model = model_with_map(files[i].dim, files[i].n, files[i].value);
		rv_embedder *e;
		assert_int_equal(rv_embedder_create(&e, model, NULL), files[i].want);
		if (files[i].want == RV_OK) {
			float out[768];
			assert_int_equal(rv_embedder_learned(e), files[i].learned);
			assert_ok(rv_embed_text(e, "a", 1, out));
		} else {
			assert_null(e);
			assert_non_null(strstr(rv_error_message(), "ruvltra.embed"));
		}
		rv_embedder_destroy(e);
		rv_model_release(model);
	}
}

/* A text longer than max_tokens is its first max_tokens. */
static void long_texts_are_cut(void **state) {
	(void)state;
	rv_model *model = tiny_model("qwen2", "F16");
	rv_embedder *e = open_embedder(model, 0, 1, 64);
	int32_t ids[100];
	float a[NATIVE], b[NATIVE];
	some_tokens(ids, 100, 2);
	assert_ok(rv_embed_tokens(e, ids, 100, a));
	assert_ok(rv_embed_tokens(e, ids, 64, b));
	assert_memory_equal(a, b, sizeof a);
	assert_ok(rv_embed_tokens(e, ids, 63, b));
	assert_memory_not_equal(a, b, sizeof a);
	rv_embedder_destroy(e);
	rv_model_release(model);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(mean_of_hidden_states),  cmocka_unit_test(maps_keep_cosines),
	        cmocka_unit_test(same_bits_in_any_batch), cmocka_unit_test(nothing_is_allocated),
	        cmocka_unit_test(faults_are_named),       cmocka_unit_test(long_texts_are_cut),
	        cmocka_unit_test(maps_of_files),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
