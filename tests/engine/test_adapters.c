/* LoRA adapters: a context with an adapter computes what the merged weights compute; sets of a batch do
 * not touch each other; files that do not fit are refused by name. */
#include "base/rng.h"
#include "engine/context.h"
#include "tests/model/files.h"

enum { N_TOKENS = 40, RANK = 6, N_LAYERS = 2 };

static rv_hparams shape(void) {
	rv_hparams hp = small_shape();
	hp.n_layers = N_LAYERS;
	hp.n_embd = 128;
	hp.n_heads = 2;
	hp.n_kv_heads = 1;
	hp.n_ff = 256;
	hp.n_vocab = 3072;
	hp.tied = 1;
	return hp;
}

/* ---- files ---- */

static const struct {
	const char *name;
	int64_t in, out;
} adapted[] = {{"attn_q", 128, 128},
               {"attn_v", 128, 64},
               {"attn_output", 128, 128},
               {"ffn_up", 128, 256},
               {"ffn_down", 256, 128}};
#define N_ADAPTED (sizeof adapted / sizeof *adapted)

/* How a bad file differs from a good one. */
typedef struct fault {
	const char *what, *message;
	const char *type, *adapter, *arch; /* keys */
	int no_alpha, no_b, wrong_in, wrong_rank, nan, unknown, odd_name, vector, embedding, empty;
} fault;
static const fault good = {.type = "adapter", .adapter = "lora", .arch = "qwen2"};

static void random_matrix(float *x, int64_t n, uint64_t seed, uint64_t stream, double std) {
	rv_rng rng;
	rv_rng_stream(&rng, seed, stream);
	for (int64_t i = 0; i < n; i++)
		x[i] = (float)(std * rv_rng_normal(&rng));
}

static void declare_part(rv_gguf_writer *w, const char *layer_name, const char *end, int64_t cols,
                         int64_t rows) {
	char name[128];
	const int64_t dims[2] = {cols, rows};
	snprintf(name, sizeof name, "%s%s", layer_name, end);
	assert_ok(rv_gguf_declare(w, name, RV_F32, 2, dims));
}

static void write_part(rv_gguf_writer *w, int64_t n, uint64_t seed, uint64_t stream, int nan) {
	float *x;
	assert_ok(RV_ALLOC(&x, n, "matrix"));
	random_matrix(x, n, seed, stream, 0.2);
	if (nan)
		x[n / 2] = NAN;
	assert_ok(rv_gguf_write_data(w, x, (size_t)n * sizeof *x));
	rv_free(x);
}

static void write_adapter(const char *path, uint64_t seed, double alpha, const fault *f) {
	rv_gguf_writer *w;
	char name[64];
	assert_ok(rv_gguf_writer_open(&w, path));
	assert_ok(rv_gguf_write_string(w, "general.type", f->type));
	assert_ok(rv_gguf_write_string(w, "adapter.type", f->adapter));
	assert_ok(rv_gguf_write_string(w, "general.architecture", f->arch));
	if (!f->no_alpha)
		assert_ok(rv_gguf_write_f32(w, "adapter.lora.alpha", (float)alpha));
	int n_layers = f->empty ? 0 : N_LAYERS;
	for (int l = 0; l < n_layers; l++)
		for (size_t i = 0; i < N_ADAPTED; i++) {
			snprintf(name, sizeof name, "blk.%d.%s.weight", f->unknown ? l + 7 : l,
			         f->vector ? "attn_norm" : adapted[i].name);
			if (f->embedding)
				snprintf(name, sizeof name, "token_embd.weight");
			declare_part(w, name, f->odd_name ? ".lora_c" : ".lora_a",
			             adapted[i].in - (f->wrong_in ? 1 : 0), RANK);
			if (!f->no_b)
				declare_part(w, name, ".lora_b", RANK + (f->wrong_rank ? 1 : 0),
				             adapted[i].out);
			if (f->vector || f->embedding)
				goto declared;
		}
declared:
	for (int l = 0; l < n_layers; l++)
		for (size_t i = 0; i < N_ADAPTED; i++) {
			uint64_t stream = (uint64_t)l * 100 + i * 2;
			write_part(w, (adapted[i].in - (f->wrong_in ? 1 : 0)) * RANK, seed, stream, 0);
			if (!f->no_b)
				write_part(w, adapted[i].out * (RANK + (f->wrong_rank ? 1 : 0)), seed,
				           stream + 1, f->nan && l == 1);
			if (f->vector || f->embedding)
				goto written;
		}
written:
	if (f->empty) {
		const int64_t one = 1;
		const float x = 1;
		assert_ok(rv_gguf_declare(w, "nothing.lora_a", RV_F32, 1, &one));
		assert_ok(rv_gguf_write_data(w, &x, sizeof x));
	}
	assert_ok(rv_gguf_writer_commit(w));
}

static void make_base(char path[1024]) {
	rv_synth_options o = synth_options("qwen2", shape(), "F32");
	assert_ok(rv_synth_file(temp_path(path, "base.gguf"), &o));
}

/* W + scale * alpha / rank * B A in double, into another file. */
static void write_merged(const char *base, const char *path, const uint64_t *seeds,
                         const double *scales, int n, double alpha) {
	rv_gguf *g;
	rv_gguf_writer *w;
	assert_ok(rv_gguf_open(&g, base, RV_GGUF_DEFAULT));
	assert_ok(rv_gguf_writer_open(&w, path));
	for (size_t i = 0; i < rv_gguf_n_kv(g); i++)
		assert_ok(rv_gguf_write_kv(w, rv_gguf_kv_at(g, i)));
	for (size_t i = 0; i < rv_gguf_n_tensors(g); i++) {
		const rv_gguf_tensor *t = rv_gguf_tensor_at(g, i);
		assert_ok(rv_gguf_declare(w, t->name, RV_F32, t->n_dims, t->dims));
	}
	for (size_t i = 0; i < rv_gguf_n_tensors(g); i++) {
		const rv_gguf_tensor *t = rv_gguf_tensor_at(g, i);
		float *x = decode(t), a[256 * RANK], b[256 * RANK];
		for (int l = 0; l < N_LAYERS; l++)
			for (size_t j = 0; j < N_ADAPTED; j++) {
				char name[64];
				snprintf(name, sizeof name, "blk.%d.%s.weight", l, adapted[j].name);
				if (strcmp(name, t->name) != 0)
					continue;
				for (int u = 0; u < n; u++) {
					uint64_t stream = (uint64_t)l * 100 + j * 2;
					random_matrix(a, adapted[j].in * RANK, seeds[u], stream, 0.2);
					random_matrix(b, adapted[j].out * RANK, seeds[u], stream + 1,
					              0.2);
					for (int64_t r = 0; r < adapted[j].out; r++)
						for (int64_t c = 0; c < adapted[j].in; c++) {
							double sum = 0;
							for (int k = 0; k < RANK; k++)
								sum += (double)b[r * RANK + k] *
								       (double)a[k * adapted[j].in + c];
							x[r * adapted[j].in + c] +=
							        (float)(scales[u] * alpha / RANK * sum);
						}
				}
			}
		assert_ok(rv_gguf_write_data(w, x, (size_t)n_elements(t) * sizeof *x));
		rv_free(x);
	}
	assert_ok(rv_gguf_writer_commit(w));
	rv_gguf_close(g);
}

/* ---- contexts ---- */

static rv_context *open_context(rv_model *model, rv_backend_kind backend, int n_threads) {
	rv_context *ctx;
	rv_context_options o = rv_context_defaults();
	o.n_ctx = 64;
	o.n_seqs = 3;
	o.n_batch = 128;
	o.backend = backend;
	o.kv_type = RV_KV_F32;
	o.n_threads = n_threads;
	assert_ok(rv_context_create(&ctx, model, &o));
	return ctx;
}

static int32_t token(int seq, int i) {
	return (int32_t)((seq * 797 + i * 1031 + 5) % 3072);
}

static rv_row row(int seq, int i, int set) {
	return (rv_row){token(seq, i), seq, i, -1, set, RV_ROW_LOGITS};
}

static void eval_alone(rv_context *ctx, int seq, int set, float *logits) {
	rv_row rows[N_TOKENS];
	for (int i = 0; i < N_TOKENS; i++)
		rows[i] = row(seq, i, set);
	assert_ok(rv_context_eval(ctx, rows, N_TOKENS));
	for (int i = 0; i < N_TOKENS; i++)
		memcpy(logits + (size_t)i * 3072, rv_context_logits(ctx, i), 3072 * sizeof *logits);
	assert_ok(rv_seq_truncate(ctx, seq, 0));
}

static double greatest_difference(const float *x, const float *y) {
	double most = 0;
	for (size_t i = 0; i < (size_t)N_TOKENS * 3072; i++)
		most = fmax(most, fabs((double)x[i] - (double)y[i]));
	return most;
}

static float *new_logits(void) {
	float *x;
	assert_ok(RV_ALLOC(&x, (size_t)N_TOKENS * 3072, "logits"));
	return x;
}

/* ---- tests ---- */

static void equals_merged_weights(void **state) {
	(void)state;
	static const rv_backend_kind backends[] = {RV_BACKEND_REF, RV_BACKEND_SIMD};
	const uint64_t seeds[] = {11, 12};
	const double scales[] = {1, -0.5};
	char base[1024], merged[1024], one[1024], two[1024];
	make_base(base);
	write_merged(base, temp_path(merged, "merged.gguf"), seeds, scales, 2, 3);
	write_adapter(temp_path(one, "one.gguf"), seeds[0], 3, &good);
	write_adapter(temp_path(two, "two.gguf"), seeds[1], 3, &good);
	rv_model *mb, *mm;
	assert_ok(rv_model_open(&mb, base, NULL));
	assert_ok(rv_model_open(&mm, merged, NULL));
	rv_adapter_use uses[2] = {{NULL, scales[0]}, {NULL, scales[1]}};
	assert_ok(rv_adapter_open(&uses[0].adapter, one, mb));
	assert_ok(rv_adapter_open(&uses[1].adapter, two, mb));
	assert_int_equal(rv_adapter_max_rank(uses[0].adapter), RANK);
	float *plain = new_logits(), *x = new_logits(), *y = new_logits();
	for (size_t b = 0; b < 2; b++) {
		rv_context *cb = open_context(mb, backends[b], 2),
		           *cm = open_context(mm, backends[b], 2);
		eval_alone(cb, 0, 0, plain);
		eval_alone(cm, 0, 0, y);
		assert_ok(rv_context_set_adapters(cb, 0, uses, 2));
		eval_alone(cb, 0, 0, x);
		double with = greatest_difference(x, y), without = greatest_difference(plain, y);
		print_message("# %s: adapters against merged weights %.2g, without adapters %.2g\n",
		              rv_backend_name(backends[b]), with, without);
		assert_true(with < 2e-3);
		assert_true(without > 100 * with); /* an adapter that did nothing would be seen */
		/* One of the two left out, or half its scale, is seen too. */
		assert_ok(rv_context_set_adapters(cb, 0, uses, 1));
		eval_alone(cb, 0, 0, x);
		assert_true(greatest_difference(x, y) > 10 * with);
		/* And away again: the bits of before. */
		assert_ok(rv_context_set_adapters(cb, 0, NULL, 0));
		eval_alone(cb, 0, 0, x);
		assert_memory_equal(x, plain, (size_t)N_TOKENS * 3072 * sizeof *x);
		rv_context_destroy(cb);
		rv_context_destroy(cm);
	}
	rv_free(plain);
	rv_free(x);
	rv_free(y);
	rv_adapter_release(uses[0].adapter);
	rv_adapter_release(uses[1].adapter);
	rv_model_release(mb);
	rv_model_release(mm);
}

/* Three sequences with sets 0 (empty), 1 and 2, interleaved in one batch, with 1 and 3 threads, and in
 * pieces: the bits of each alone. */
static void sets_do_not_touch(void **state) {
	(void)state;
	char base[1024], one[1024], two[1024];
	make_base(base);
	write_adapter(temp_path(one, "one.gguf"), 21, 4, &good);
	write_adapter(temp_path(two, "two.gguf"), 22, 2, &good);
	rv_model *model;
	assert_ok(rv_model_open(&model, base, NULL));
	rv_adapter_use uses[2] = {{NULL, 1}, {NULL, 2}};
	assert_ok(rv_adapter_open(&uses[0].adapter, one, model));
	assert_ok(rv_adapter_open(&uses[1].adapter, two, model));
	float *alone[3];
	for (int n_threads = 1; n_threads <= 3; n_threads += 2) {
		rv_context *ctx = open_context(model, RV_BACKEND_SIMD, n_threads);
		assert_ok(rv_context_set_adapters(ctx, 1, &uses[0], 1));
		assert_ok(rv_context_set_adapters(ctx, 2, uses, 2));
		for (int s = 0; s < 3; s++) {
			if (n_threads == 1)
				alone[s] = new_logits();
			if (n_threads == 1)
				eval_alone(ctx, s, s, alone[s]);
		}
		assert_true(greatest_difference(alone[1], alone[2]) > 0.1);
		for (int piece = 1; piece <= N_TOKENS; piece = piece * 3 + 2) {
			for (int from = 0; from < N_TOKENS; from += piece) {
				rv_row rows[3 * N_TOKENS];
				int n = 0;
				for (int i = from; i < from + piece && i < N_TOKENS; i++)
					for (int s = 0; s < 3; s++)
						rows[n++] = row(s, i, s);
				assert_ok(rv_context_eval(ctx, rows, n));
				for (int i = 0; i < n; i++)
					assert_memory_equal(rv_context_logits(ctx, i),
					                    alone[rows[i].seq] +
					                            (size_t)rows[i].position * 3072,
					                    3072 * sizeof(float));
			}
			for (int s = 0; s < 3; s++)
				assert_ok(rv_seq_truncate(ctx, s, 0));
		}
		rv_context_destroy(ctx);
	}
	for (int s = 0; s < 3; s++)
		rv_free(alone[s]);
	rv_adapter_release(uses[0].adapter);
	rv_adapter_release(uses[1].adapter);
	rv_model_release(model);
}

static void rules(void **state) {
	(void)state;
	char base[1024], one[1024];
	make_base(base);
	write_adapter(temp_path(one, "one.gguf"), 1, 4, &good);
	rv_model *model;
	assert_ok(rv_model_open(&model, base, NULL));
	rv_adapter_use use = {NULL, 1};
	assert_ok(rv_adapter_open(&use.adapter, one, model));
	rv_context *ctx = open_context(model, RV_BACKEND_SIMD, 1);
	assert_int_equal(rv_context_set_adapters(ctx, RV_ADAPTER_SETS, &use, 1), RV_ERR_INVALID);
	assert_int_equal(rv_context_set_adapters(ctx, -1, &use, 1), RV_ERR_INVALID);
	assert_int_equal(rv_context_set_adapters(ctx, 0, &use, RV_ADAPTER_SET_USES + 1),
	                 RV_ERR_INVALID);
	use.scale = NAN;
	assert_int_equal(rv_context_set_adapters(ctx, 0, &use, 1), RV_ERR_INVALID);
	use.scale = 1;
	rv_row r = row(0, 0, RV_ADAPTER_SETS);
	assert_int_equal(rv_context_eval(ctx, &r, 1), RV_ERR_INVALID);
	r = row(0, 0, 3);
	assert_ok(rv_context_eval(ctx, &r, 1));
	/* A sequence stays with its set, also when copied, and no set changes under it. */
	r = row(0, 1, 0);
	assert_int_equal(rv_context_eval(ctx, &r, 1), RV_ERR_INVALID);
	assert_non_null(strstr(rv_error_message(), "was begun with 3"));
	assert_ok(rv_seq_copy(ctx, 0, 1, 1));
	r = row(1, 1, 0);
	assert_int_equal(rv_context_eval(ctx, &r, 1), RV_ERR_INVALID);
	assert_int_equal(rv_context_set_adapters(ctx, 5, &use, 1), RV_ERR_INVALID);
	assert_ok(rv_seq_truncate(ctx, 0, 0));
	assert_ok(rv_seq_truncate(ctx, 1, 0));
	assert_ok(rv_context_set_adapters(ctx, 5, &use, 1));
	/* The context keeps what it uses. */
	rv_adapter_release(use.adapter);
	r = row(2, 0, 5);
	assert_ok(rv_context_eval(ctx, &r, 1));
	rv_context_destroy(ctx);
	rv_model_release(model);
}

#define BAD(name, text, ...)                                                                           \
	{                                                                                              \
		.what = name, .message = text, .type = "adapter", .adapter = "lora", .arch = "qwen2",  \
		__VA_ARGS__                                                                            \
	}
static const fault faults[] = {
        {"a model", "no adapter", "model", "lora", "qwen2", .no_b = 0},
        {"another kind", "adapter type 'control'", "adapter", "control", "qwen2", .no_b = 0},
        {"another architecture", "made for architecture 'llama'", "adapter", "lora", "llama",
         .no_b = 0},
        BAD("no alpha", "adapter.lora.alpha", .no_alpha = 1),
        BAD("half a pair", "'blk.0.attn_q.weight.lora_a' has no counterpart", .no_b = 1),
        BAD("another width", "'blk.0.attn_q.weight.lora_a' has shape [127, 6]", .wrong_in = 1),
        BAD("two ranks", "has rank 6", .wrong_rank = 1),
        BAD("a NaN", "'blk.1.attn_q.weight.lora_b' holds a NaN", .nan = 1),
        BAD("another layer", "no projection 'blk.7.attn_q.weight'", .unknown = 1),
        BAD("another factor", "neither .lora_a nor .lora_b", .odd_name = 1),
        BAD("a norm", "no projection 'blk.0.attn_norm.weight'", .vector = 1),
        BAD("the embedding", "no projection 'token_embd.weight'", .embedding = 1),
        BAD("nothing", "no projection 'nothing'", .empty = 1),
};

static void bad_files(void **state) {
	(void)state;
	char base[1024], path[1024];
	make_base(base);
	rv_model *model;
	rv_adapter *adapter;
	assert_ok(rv_model_open(&model, base, NULL));
	rv_context *serving = open_context(model, RV_BACKEND_SIMD, 1);
	float *before = new_logits(), *after = new_logits();
	eval_alone(serving, 0, 0, before);
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
		write_adapter(temp_path(path, "bad.gguf"), 1, 4, &faults[i]);
		assert_int_not_equal(rv_adapter_open(&adapter, path, model), RV_OK);
		assert_null(adapter);
		if (!strstr(rv_error_message(), faults[i].message) || !strstr(rv_error_message(), path))
			fail_msg("%s: '%s'", faults[i].what, rv_error_message());
	}
	assert_int_not_equal(rv_adapter_open(&adapter, base, model), RV_OK);
	write_adapter(path, 1, NAN, &good);
	assert_int_not_equal(rv_adapter_open(&adapter, path, model), RV_OK);
	/* The model serves on as before. */
	eval_alone(serving, 0, 0, after);
	assert_memory_equal(before, after, (size_t)N_TOKENS * 3072 * sizeof *before);
	rv_context_destroy(serving);
	rv_free(before);
	rv_free(after);
	/* An adapter for this shape does not fit another. */
	char other[1024];
	rv_hparams hp = shape();
	hp.n_layers = N_LAYERS + 1;
	rv_synth_options o = synth_options("qwen2", hp, "F32");
	assert_ok(rv_synth_file(temp_path(other, "other.gguf"), &o));
	rv_model *deeper;
	assert_ok(rv_model_open(&deeper, other, NULL));
	write_adapter(path, 1, 4, &good);
	assert_ok(rv_adapter_open(&adapter, path, model));
	rv_context *ctx = open_context(deeper, RV_BACKEND_SIMD, 1);
	const rv_adapter_use use = {adapter, 1};
	assert_int_equal(rv_context_set_adapters(ctx, 0, &use, 1), RV_ERR_MISMATCH);
	rv_context_destroy(ctx);
	rv_adapter_release(adapter);
	rv_model_release(deeper);
	rv_model_release(model);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(equals_merged_weights),
	        cmocka_unit_test(sets_do_not_touch),
	        cmocka_unit_test(rules),
	        cmocka_unit_test(bad_files),
	};
	return cmocka_run_group_tests_name("adapters", tests, make_test_dir, remove_test_dir);
}
