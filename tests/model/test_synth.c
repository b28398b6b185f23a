/* Synthetic models: same file for any threads, rows distributed like quantized Gaussian rows, loadable.
 */
#include "model/model.h"
#include "model/synth.h"
#include "tests/model/files.h"

#include "base/rng.h"

static rv_synth_options nano(const char *target) {
	return synth_options("qwen2", rv_preset_by_name("nano")->hp, target);
}

/* A shape whose rows are long enough to be drawn from pools. */
static rv_hparams wide_shape(void) {
	return (rv_hparams){.n_layers = 1,
	                    .n_embd = 2048,
	                    .n_heads = 16,
	                    .n_kv_heads = 2,
	                    .head_dim = 128,
	                    .n_ff = 2048,
	                    .n_vocab = 512,
	                    .n_ctx_train = 512,
	                    .n_rot = 128,
	                    .rope_theta = 1e6,
	                    .rms_eps = 1e-6};
}

static rv_gguf *synthesize(const char *path, const rv_synth_options *o) {
	rv_gguf *g;
	assert_ok(rv_synth_file(path, o));
	assert_ok(rv_gguf_open(&g, path, RV_GGUF_DEFAULT));
	return g;
}

/* ---- the file ---- */

static void same_for_any_threads(void **state) {
	(void)state;
	static const char *const targets[] = {"F16", "Q8_0", "Q4_K_M"};
	char one[1024], many[1024];
	for (int i = 0; i < 4; i++) {
		int pooled = i == 3;
		rv_synth_options o =
		        pooled ? synth_options("qwen3", wide_shape(), "Q5_K_M") : nano(targets[i]);
		assert_ok(rv_synth_file(temp_path(one, "one.gguf"), &o));
		for (int n = 1; n <= 3; n++) {
			o.threads = start_threads(n);
			assert_ok(rv_synth_file(temp_path(many, "many.gguf"), &o));
			rv_threads_destroy(o.threads);
			assert_true(same_bytes(one, many));
		}
		o.threads = NULL;
		o.seed++; /* negative control */
		assert_ok(rv_synth_file(many, &o));
		assert_false(same_bytes(one, many));
	}
}

static void types_of_a_plan(void **state) {
	(void)state;
	static const char *const targets[] = {"F16",  "Q8_0",   "Q4_0",   "Q5_0", "Q5_1",
	                                      "Q6_K", "Q4_K_M", "Q5_K_M", "Mixed"};
	char path[1024];
	for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
		rv_synth_options o = nano(targets[i]);
		rv_quant_options q = {.target = o.target};
		rv_quant_plan plan;
		rv_gguf *g = synthesize(temp_path(path, "nano.gguf"), &o);
		assert_ok(rv_quant_plan_shape(&plan, o.arch, &o.hp, &q));
		assert_int_equal(rv_gguf_n_tensors(g), plan.n_tensors);
		for (size_t t = 0; t < plan.n_tensors; t++)
			assert_int_equal(rv_gguf_find_tensor(g, plan.tensors[t].name)->type,
			                 plan.tensors[t].to);
		rv_quant_plan_free(&plan);
		rv_gguf_close(g);
	}
}

static void loads_as_a_model(void **state) {
	(void)state;
	static const char *const archs[] = {"qwen2", "qwen3", "llama"};
	char path[1024];
	for (int i = 0; i < 6; i++) {
		rv_synth_options o = synth_options(archs[i / 2], small_shape(), "Q4_K_M");
		o.hp.tied = i % 2;
		assert_ok(rv_synth_file(temp_path(path, "model.gguf"), &o));
		rv_model *m;
		assert_ok(rv_model_open(&m, path, NULL));
		assert_int_equal(rv_model_n_params(m), rv_arch_n_params(o.arch, &o.hp));
		assert_int_equal(rv_model_hparams(m)->tied, o.hp.tied);
		assert_string_equal(rv_model_type_name(m), "Q4_K_M");
		rv_str name;
		int64_t seed;
		assert_ok(rv_gguf_string(rv_model_gguf(m), "general.name", &name));
		assert_memory_equal(name.data, "synthetic", 9);
		assert_ok(rv_gguf_int(rv_model_gguf(m), "ruvltra.synth.seed", 0, INT64_MAX, &seed));
		assert_int_equal(seed, 7);
		rv_model_release(m);
	}
}

static int compare_strings(const void *a, const void *b) {
	const rv_str *x = a, *y = b;
	size_t n = x->len < y->len ? x->len : y->len;
	int c = memcmp(x->data, y->data, n);
	return c ? c : (x->len > y->len) - (x->len < y->len);
}

static void vocabulary(void **state) {
	(void)state;
	char path[1024];
	rv_synth_options o = nano("Q8_0");
	rv_gguf *g = synthesize(temp_path(path, "nano.gguf"), &o);
	rv_str *tokens;
	size_t n;
	assert_ok(rv_gguf_strings(g, "tokenizer.ggml.tokens", &tokens, &n));
	assert_int_equal(n, o.hp.n_vocab);
	qsort(tokens, n, sizeof *tokens, compare_strings);
	for (size_t i = 1; i < n; i++)
		assert_true(compare_strings(&tokens[i - 1], &tokens[i]) < 0);
	rv_free(tokens);

	rv_tokenizer *tok;
	assert_ok(rv_tokenizer_from_gguf(&tok, g, NULL));
	int32_t end = rv_tokenizer_find(tok, "<|im_end|>", 10);
	assert_int_equal(end, n - 1);
	assert_int_equal(rv_tokenizer_eos(tok), end);
	assert_int_equal(rv_tokenizer_bos(tok), rv_tokenizer_find(tok, "<|endoftext|>", 13));
	assert_true(rv_tokenizer_is_end(tok, end) && rv_tokenizer_is_special(tok, end));
	assert_false(rv_tokenizer_is_special(tok, 300));
	char all[512], *text;
	for (int i = 0; i < 512; i++)
		all[i] = (char)(i < 256 ? i : "the ring on the train "[i % 22]);
	int32_t *ids;
	size_t n_ids, len;
	rv_encode_options enc = rv_encode_defaults();
	assert_ok(rv_tokenizer_encode(tok, all, sizeof all, &enc, &ids, &n_ids));
	assert_true(n_ids < sizeof all); /* merges were used */
	assert_ok(rv_tokenizer_decode(tok, ids, n_ids, 0, 0, &text, &len));
	assert_int_equal(len, sizeof all);
	assert_memory_equal(text, all, len);
	rv_free(text);
	rv_free(ids);
	rv_tokenizer_destroy(tok);
	rv_gguf_close(g);
}

/* ---- the numbers ---- */

/* The standard deviation a tensor should have; 0: not a random matrix. */
static double expected_sd(const char *name, int64_t cols, const rv_hparams *hp) {
	double sd = 1 / sqrt((double)cols);
	if (strstr(name, ".bias"))
		return 0.02;
	if (strstr(name, "norm"))
		return 0;
	if (strstr(name, "attn_output") || strstr(name, "ffn_down"))
		return 4 * sd / sqrt(2.0 * (double)hp->n_layers);
	return strstr(name, "blk.") ? sd : 2 * sd;
}

typedef struct moments {
	double mean, sd, kurtosis;
} moments;

static moments moments_of(const float *x, int64_t n) {
	moments m = {0};
	double s2 = 0, s4 = 0;
	for (int64_t i = 0; i < n; i++)
		m.mean += (double)x[i] / (double)n;
	for (int64_t i = 0; i < n; i++) {
		double d = ((double)x[i] - m.mean) * ((double)x[i] - m.mean);
		s2 += d / (double)n;
		s4 += d * d / (double)n;
	}
	m.sd = sqrt(s2);
	m.kurtosis = s4 / (s2 * s2);
	return m;
}

/* Five standard errors of n samples drawn through a pool of at least 65536 elements, and 1 % for what
 * quantization adds or takes; NaN fails. */
static int is_normal(const moments *m, double sd, int64_t n) {
	double se = 1 / sqrt((double)(n < 65536 ? n : 65536));
	return fabs(m->mean) <= 5 * sd * se + 0.01 * sd && fabs(m->sd / sd - 1) <= 5 * se + 0.01 &&
	       fabs(m->kurtosis - 3) <= 25 * se + 0.1;
}

static void check_moments(const rv_gguf *g, const rv_hparams *hp) {
	for (size_t i = 0; i < rv_gguf_n_tensors(g); i++) {
		const rv_gguf_tensor *t = rv_gguf_tensor_at(g, i);
		int64_t n = n_elements(t);
		double sd = expected_sd(t->name, t->dims[0], hp);
		float *x = decode(t);
		if (sd > 0) {
			moments m = moments_of(x, n);
			if (!is_normal(&m, sd, n))
				fail_msg("%s %s: mean %g sd %g kurtosis %g, expected sd %g", t->name,
				         rv_type_get((int)t->type)->name, m.mean, m.sd, m.kurtosis, sd);
			if (n >= 4096)
				assert_false(is_normal(&m, 1.3 * sd, n)); /* negative control */
		} else {
			for (int64_t j = 0; j < n; j++)
				assert_true(x[j] == 1.0f);
		}
		rv_free(x);
	}
}

static void moments_of_every_tensor(void **state) {
	(void)state;
	static const char *const targets[] = {"Q8_0", "Q4_0", "Q4_K_M", "Mixed"};
	char path[1024];
	for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
		rv_synth_options o = nano(targets[i]);
		rv_gguf *g = synthesize(temp_path(path, "nano.gguf"), &o);
		check_moments(g, &o.hp);
		rv_gguf_close(g);
		o = synth_options("llama", wide_shape(), targets[i]);
		g = synthesize(path, &o);
		check_moments(g, &o.hp);
		rv_gguf_close(g);
	}
}

/* Histograms of the fields of Q4_K blocks: codes, scales of sub-blocks by eighths, and moments of d. */
typedef struct q4_k_profile {
	double code[16], scale[8], min[8], d, dmin;
} q4_k_profile;

static q4_k_profile profile_of(const rv_q4_k *b, int64_t n) {
	q4_k_profile p = {0};
	for (int64_t i = 0; i < n; i++) {
		for (int j = 0; j < 128; j++) {
			p.code[b[i].qs[j] & 15] += 1.0 / (256.0 * (double)n);
			p.code[b[i].qs[j] >> 4] += 1.0 / (256.0 * (double)n);
		}
		for (int j = 0; j < 4; j++) { /* the first four sub-blocks hold theirs unsplit */
			p.scale[(b[i].scales[j] & 63) / 8] += 0.25 / (double)n;
			p.min[(b[i].scales[j + 4] & 63) / 8] += 0.25 / (double)n;
		}
		p.d += (double)rv_f16_to_f32(b[i].d) / (double)n;
		p.dmin += (double)rv_f16_to_f32(b[i].dmin) / (double)n;
	}
	return p;
}

static double variation(const double *a, const double *b, int n) {
	double sum = 0;
	for (int i = 0; i < n; i++)
		sum += fabs(a[i] - b[i]) / 2;
	return sum;
}

static int is_alike(const q4_k_profile *a, const q4_k_profile *b) {
	return variation(a->code, b->code, 16) < 0.02 && variation(a->scale, b->scale, 8) < 0.04 &&
	       variation(a->min, b->min, 8) < 0.04 && fabs(a->d / b->d - 1) < 0.02 &&
	       fabs(a->dmin / b->dmin - 1) < 0.02;
}

/* Really quantized rows; `shape` 0: Gaussian, 1: uniform. */
static q4_k_profile profile_of_quantized(double sd, int64_t rows, int64_t cols, int shape) {
	float *x;
	rv_q4_k *blocks;
	rv_rng rng;
	rv_rng_seed(&rng, 12345);
	assert_ok(RV_ALLOC(&x, cols, "row"));
	assert_ok(RV_ALLOC(&blocks, rows * cols / 256, "blocks"));
	rv_quantize_fn *encode = rv_kernels_for(rv_level_best())->type[RV_Q4_K].quantize;
	for (int64_t r = 0; r < rows; r++) {
		for (int64_t i = 0; i < cols; i++)
			x[i] = (float)(sd * (shape ? sqrt(12) * (rv_rng_double(&rng) - 0.5)
			                           : rv_rng_normal(&rng)));
		encode(blocks + r * cols / 256, x, NULL, cols);
	}
	q4_k_profile p = profile_of(blocks, rows * cols / 256);
	rv_free(blocks);
	rv_free(x);
	return p;
}

static void codes_of_q4_k(void **state) {
	(void)state;
	char path[1024];
	for (int pooled = 0; pooled < 2; pooled++) {
		rv_synth_options o =
		        pooled ? synth_options("llama", wide_shape(), "Q4_K_M") : nano("Q4_K_M");
		rv_gguf *g = synthesize(temp_path(path, "codes.gguf"), &o);
		const rv_gguf_tensor *t = rv_gguf_find_tensor(g, "blk.0.ffn_up.weight");
		assert_int_equal(t->type, RV_Q4_K);
		q4_k_profile ours = profile_of((const void *)t->data, n_elements(t) / 256);
		double sd = 1 / sqrt((double)t->dims[0]);
		q4_k_profile real = profile_of_quantized(sd, 2048, 1024, 0);
		q4_k_profile other = profile_of_quantized(sd, 512, 1024, 1);
		print_message("# %s: variation of codes %.4f scales %.4f mins %.4f, d %.4f dmin %.4f\n",
		              pooled ? "pooled" : "direct", variation(ours.code, real.code, 16),
		              variation(ours.scale, real.scale, 8), variation(ours.min, real.min, 8),
		              ours.d / real.d, ours.dmin / real.dmin);
		assert_true(is_alike(&ours, &real));
		assert_false(is_alike(&ours, &other)); /* negative control: uniform rows */
		rv_gguf_close(g);
	}
}

static int compare_u64(const void *a, const void *b) {
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static uint64_t hash_row(const uint8_t *p, size_t n) {
	uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * 0x100000001b3u;
	return h;
}

/* Whether two rows of the `n` at p are equal (by hash). */
static int has_twins(const uint8_t *p, size_t row, int64_t n) {
	uint64_t *h;
	assert_ok(RV_ALLOC(&h, n, "hashes"));
	for (int64_t r = 0; r < n; r++)
		h[r] = hash_row(p + (size_t)r * row, row);
	qsort(h, (size_t)n, sizeof *h, compare_u64);
	int twins = 0;
	for (int64_t r = 1; r < n; r++)
		twins |= h[r] == h[r - 1];
	rv_free(h);
	return twins;
}

static void no_two_rows_are_equal(void **state) {
	(void)state;
	char path[1024];
	for (int i = 0; i < 4; i++) {
		const char *target = i % 2 ? "Q4_K_M" : "Q8_0";
		rv_synth_options o =
		        i < 2 ? nano(target) : synth_options("llama", wide_shape(), target);
		rv_gguf *g = synthesize(temp_path(path, "rows.gguf"), &o);
		for (size_t t = 0; t < rv_gguf_n_tensors(g); t++) {
			const rv_gguf_tensor *x = rv_gguf_tensor_at(g, t);
			if (x->dims[1] > 1)
				assert_false(has_twins(x->data, x->n_bytes / (size_t)x->dims[1],
				                       x->dims[1]));
		}
		rv_gguf_close(g);
	}
	const uint8_t rows[] = {1, 2, 3, 4, 1, 2}; /* negative control */
	assert_true(has_twins(rows, 2, 3));
	assert_false(has_twins(rows, 2, 2));
}

/* ---- refusals ---- */

static void refuses_bad_shapes(void **state) {
	(void)state;
	char path[1024];
	temp_path(path, "bad.gguf");
	int files = count_files();
	for (int i = 0; i < 8; i++) {
		rv_synth_options o = synth_options("qwen2", small_shape(), "Q8_0");
		int64_t *fields[] = {&o.hp.n_layers, &o.hp.n_embd, &o.hp.n_heads, &o.hp.n_kv_heads,
		                     &o.hp.head_dim, &o.hp.n_rot,  &o.hp.n_vocab, &o.hp.n_ff};
		*fields[i] = i == 3 ? 3 : i == 4 ? 65 : 0;
		assert_int_equal(rv_synth_file(path, &o), RV_ERR_INVALID);
		*fields[i] = INT64_MAX / 4;
		assert_int_equal(rv_synth_file(path, &o), RV_ERR_INVALID);
	}
	rv_synth_options o = synth_options("qwen2", small_shape(), "Q8_0");
	assert_int_not_equal(rv_synth_file("/nonexistent/out.gguf", &o), RV_OK);
	assert_int_equal(count_files(), files);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(same_for_any_threads),    cmocka_unit_test(types_of_a_plan),
	        cmocka_unit_test(loads_as_a_model),        cmocka_unit_test(vocabulary),
	        cmocka_unit_test(moments_of_every_tensor), cmocka_unit_test(codes_of_q4_k),
	        cmocka_unit_test(no_two_rows_are_equal),   cmocka_unit_test(refuses_bad_shapes),
	};
	return cmocka_run_group_tests_name("synth", tests, make_test_dir, remove_test_dir);
}
