/* Quantizing files: types by llama.cpp's rules, errors no larger than its own, refusals. */
#include "base/sysinfo.h"
#include "model/quantize.h"
#include "tests/model/files.h"

static rv_quant_options target(const char *name) {
	return (rv_quant_options){.target = rv_quant_target_by_name(name)};
}

/* ---- rules ---- */

static const rv_arch *llama(void) {
	return rv_arch_by_name("llama", 5);
}

static rv_hparams llama_shape(int64_t layers, int64_t heads, int64_t kv_heads, int64_t embd,
                              int64_t ff) {
	return (rv_hparams){.n_layers = layers,
	                    .n_embd = embd,
	                    .n_heads = heads,
	                    .n_kv_heads = kv_heads,
	                    .head_dim = embd / heads,
	                    .n_ff = ff,
	                    .n_vocab = 32000,
	                    .n_ctx_train = 4096,
	                    .n_rot = embd / heads,
	                    .rope_theta = 1e4,
	                    .rms_eps = 1e-5};
}

static rv_quant_plan plan_of(const rv_arch *arch, const rv_hparams *hp, const rv_quant_options *o) {
	rv_quant_plan plan;
	assert_ok(rv_quant_plan_shape(&plan, arch, hp, o));
	return plan;
}

static rv_quant_plan plan_preset(const char *preset, const rv_quant_options *o) {
	const rv_preset *p = rv_preset_by_name(preset);
	return plan_of(rv_arch_by_name(p->arch, strlen(p->arch)), &p->hp, o);
}

static const rv_quant_tensor_plan *find(const rv_quant_plan *plan, const char *name) {
	for (size_t i = 0; i < plan->n_tensors; i++)
		if (strcmp(plan->tensors[i].name, name) == 0)
			return &plan->tensors[i];
	return NULL;
}

static rv_type type_in(const rv_quant_plan *plan, const char *name) {
	const rv_quant_tensor_plan *t = find(plan, name);
	if (!t)
		fail_msg("no tensor '%s' in the plan", name);
	return t->to;
}

static int bits_are(const rv_quant_plan *plan, double expected) {
	return fabs(plan->bits_per_weight - expected) < 0.0005;
}

static void bits_of_llama2_7b(void **state) {
	(void)state;
	rv_hparams hp = llama_shape(32, 32, 32, 4096, 11008);
	rv_quant_options q4 = target("Q4_K_M"), q5 = target("Q5_K_M");
	rv_quant_plan plan = plan_of(llama(), &hp, &q4);
	assert_int_equal(plan.n_params, 6738415616);
	assert_int_equal(plan.n_tensors, 291);
	assert_true(bits_are(&plan, 4.844));
	assert_false(bits_are(&plan, 5.678)); /* negative control */
	rv_quant_plan_free(&plan);
	plan = plan_of(llama(), &hp, &q5);
	assert_true(bits_are(&plan, 5.678));
	rv_quant_plan_free(&plan);
	/* every matrix in one type: 4.5 bits, and the norms */
	q4.pure = 1;
	plan = plan_of(llama(), &hp, &q4);
	assert_true(plan.bits_per_weight > 4.5 && plan.bits_per_weight < 4.502);
	rv_quant_plan_free(&plan);
}

/* Whether exactly the listed layers (ending with -1) have `type` in tensors called `suffix`. */
static int layers_are(const rv_quant_plan *plan, const char *suffix, rv_type type, const int *listed) {
	for (int layer = 0;; layer++) {
		char name[65];
		snprintf(name, sizeof name, "blk.%d.%s", layer, suffix);
		const rv_quant_tensor_plan *t = find(plan, name);
		if (!t)
			return *listed == -1;
		if ((t->to == type) != (*listed == layer))
			return 0;
		listed += *listed == layer;
	}
}

static void layers_with_more_bits(void **state) {
	(void)state;
	static const struct {
		int n_layers, layers[20];
	} known[] = {
	        {32, {0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31, -1}},
	        {22, {0, 1, 4, 7, 10, 13, 16, 19, 20, 21, -1}},
	        {16, {0, 1, 4, 7, 10, 13, 14, 15, -1}},
	        {12, {0, 3, 6, 9, 10, 11, -1}},
	};
	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
		rv_hparams hp = llama_shape(known[i].n_layers, 8, 8, 512, 1024);
		rv_quant_options o = target("Q4_K_M");
		rv_quant_plan plan = plan_of(llama(), &hp, &o);
		assert_true(layers_are(&plan, "attn_v.weight", RV_Q6_K, known[i].layers));
		assert_true(layers_are(&plan, "ffn_down.weight", RV_Q6_K, known[i].layers));
		assert_false(layers_are(&plan, "attn_q.weight", RV_Q6_K, known[i].layers));
		assert_int_equal(type_in(&plan, "token_embd.weight"), RV_Q4_K);
		assert_int_equal(type_in(&plan, "output.weight"), RV_Q6_K);
		rv_quant_plan_free(&plan);
	}
}

static void values_of_a_70b(void **state) {
	(void)state;
	rv_quant_options q4 = target("Q4_K_M"), q40 = target("Q4_0");
	rv_hparams hp = llama_shape(80, 64, 8, 8192, 28672);
	rv_quant_plan plan = plan_of(llama(), &hp, &q4);
	assert_int_equal(type_in(&plan, "blk.0.attn_v.weight"), RV_Q6_K);
	assert_int_equal(type_in(&plan, "blk.10.attn_v.weight"), RV_Q5_K);
	assert_int_equal(type_in(&plan, "blk.10.ffn_down.weight"), RV_Q4_K);
	rv_quant_plan_free(&plan);
	plan = plan_of(llama(), &hp, &q40);
	assert_int_equal(type_in(&plan, "blk.10.attn_v.weight"), RV_Q4_0);
	rv_quant_plan_free(&plan);
	hp.n_kv_heads = hp.n_heads; /* the 65B */
	plan = plan_of(llama(), &hp, &q4);
	assert_int_equal(type_in(&plan, "blk.10.attn_v.weight"), RV_Q4_K);
	rv_quant_plan_free(&plan);
}

static void fall_backs_of_small(void **state) {
	(void)state;
	rv_quant_options q4 = target("q4_k_m"), q5 = target("Q5_K_M"), q6 = target("Q6_K");
	rv_quant_plan plan = plan_preset("small", &q4);
	assert_int_equal(type_in(&plan, "token_embd.weight"), RV_Q8_0); /* by rule: tied, 896 columns */
	assert_int_equal(type_in(&plan, "blk.0.attn_q.weight"), RV_Q5_0);
	assert_int_equal(type_in(&plan, "blk.0.attn_v.weight"), RV_Q8_0);
	assert_int_equal(type_in(&plan, "blk.3.attn_v.weight"), RV_Q5_0);
	assert_int_equal(type_in(&plan, "blk.0.ffn_down.weight"), RV_Q6_K);
	assert_int_equal(type_in(&plan, "blk.3.ffn_down.weight"), RV_Q4_K);
	assert_int_equal(type_in(&plan, "blk.0.attn_norm.weight"), RV_F32);
	assert_int_equal(type_in(&plan, "blk.0.attn_q.bias"), RV_F32);
	assert_int_equal(plan.n_fallbacks, 24 * 6);
	rv_quant_plan_free(&plan);
	plan = plan_preset("small", &q5);
	assert_int_equal(type_in(&plan, "blk.0.attn_q.weight"), RV_Q5_1);
	rv_quant_plan_free(&plan);
	plan = plan_preset("small", &q6);
	assert_int_equal(type_in(&plan, "blk.0.attn_q.weight"), RV_Q8_0);
	rv_quant_plan_free(&plan);
	/* rows no block fits */
	rv_hparams hp = llama_shape(2, 8, 4, 64, 172);
	rv_quant_options q8 = target("Q8_0");
	plan = plan_of(llama(), &hp, &q8);
	assert_int_equal(type_in(&plan, "blk.1.ffn_down.weight"), RV_F16);
	assert_int_equal(type_in(&plan, "blk.1.ffn_up.weight"), RV_Q8_0);
	assert_int_equal(plan.n_fallbacks, 2);
	rv_quant_plan_free(&plan);
}

static void medium_is_tied(void **state) {
	(void)state;
	rv_quant_options o = target("Q4_K"); /* llama-quantize's other name of Q4_K_M */
	rv_quant_plan plan = plan_preset("medium", &o);
	assert_int_equal(type_in(&plan, "token_embd.weight"), RV_Q6_K);
	assert_null(find(&plan, "output.weight"));
	assert_int_equal(plan.n_fallbacks, 0);
	assert_true(plan.to_bytes > 1600000000 && plan.to_bytes < 1800000000);
	assert_int_equal(plan.n_params, rv_arch_n_params(rv_arch_by_name("qwen2", 5),
	                                                 &rv_preset_by_name("medium")->hp));
	rv_quant_plan_free(&plan);
}

static void mixed_and_overrides(void **state) {
	(void)state;
	rv_quant_options o = target("mixed");
	rv_quant_plan plan = plan_preset("7b", &o);
	assert_int_equal(type_in(&plan, "token_embd.weight"), RV_Q6_K);
	assert_int_equal(type_in(&plan, "output.weight"), RV_Q6_K);
	assert_int_equal(type_in(&plan, "blk.5.attn_k.weight"), RV_F16);
	assert_int_equal(type_in(&plan, "blk.5.attn_output.weight"), RV_F16);
	assert_int_equal(type_in(&plan, "blk.5.ffn_down.weight"), RV_Q4_K);
	assert_int_equal(type_in(&plan, "blk.5.ffn_norm.weight"), RV_F32);
	rv_quant_plan_free(&plan);
	/* the first that matches wins; vectors never change */
	const rv_quant_override overrides[] = {
	        {"blk.1?.ffn_*.weight", RV_Q8_0}, {"ffn_down", RV_Q5_K}, {"norm", RV_F16}};
	o = target("Q4_K_M");
	o.overrides = overrides;
	o.n_overrides = 3;
	plan = plan_preset("7b", &o);
	assert_int_equal(type_in(&plan, "blk.10.ffn_down.weight"), RV_Q8_0);
	assert_int_equal(type_in(&plan, "blk.10.ffn_up.weight"), RV_Q8_0);
	assert_int_equal(type_in(&plan, "blk.1.ffn_down.weight"), RV_Q5_K);
	assert_int_equal(type_in(&plan, "blk.1.ffn_up.weight"), RV_Q4_K);
	assert_int_equal(type_in(&plan, "output_norm.weight"), RV_F32);
	rv_quant_plan_free(&plan);
	const rv_quant_override read_only = {"attn", RV_Q2_K};
	o.overrides = &read_only;
	o.n_overrides = 1;
	rv_hparams hp = small_shape();
	assert_int_equal(rv_quant_plan_shape(&plan, llama(), &hp, &o), RV_ERR_UNSUPPORTED);
	assert_non_null(strstr(rv_error_message(), "Q2_K"));
}

static void names_of_targets(void **state) {
	(void)state;
	static const char *const names[] = {"F16",    "Q8_0",   "Q4_0", "Q5_0", "Q5_1",
	                                    "Q4_K_M", "Q5_K_M", "Q6_K", "Mixed"};
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		assert_non_null(strstr(rv_quant_target_names(), names[i]));
		assert_string_equal(rv_quant_target_name(rv_quant_target_by_name(names[i])), names[i]);
	}
	assert_string_equal(rv_quant_target_name(rv_quant_target_by_name("q5_k")), "Q5_K_M");
	assert_null(rv_quant_target_by_name("Q9_Z"));
	assert_null(rv_quant_target_by_name(""));
	rv_quant_options none = {0};
	rv_quant_plan plan;
	rv_hparams hp = small_shape();
	assert_int_equal(rv_quant_plan_shape(&plan, llama(), &hp, &none), RV_ERR_INVALID);
}

/* ---- against files llama.cpp made ---- */

typedef struct reference_case {
	const char *source, *theirs, *target;
} reference_case;

static const reference_case references[] = {
        {"models/tiny-qwen2/tiny-qwen2.f32.gguf", "models/tiny-qwen2/tiny-qwen2.f16.gguf", "F16"},
        {"models/tiny-qwen2/tiny-qwen2.f32.gguf", "models/tiny-qwen2/tiny-qwen2.q8_0.gguf", "Q8_0"},
        {"models/tiny-qwen2/tiny-qwen2.f32.gguf", "models/tiny-qwen2/tiny-qwen2.q4_0.gguf", "Q4_0"},
        {"models/tiny-qwen2/tiny-qwen2.f32.gguf", "models/tiny-qwen2/tiny-qwen2.q4_k_m.gguf", "Q4_K_M"},
        {"models/tiny-qwen2/tiny-qwen2.f32.gguf", "models/tiny-qwen2/tiny-qwen2.q5_k_m.gguf", "Q5_K_M"},
        {"models/tiny-qwen2/tiny-qwen2.f32.gguf", "models/tiny-qwen2/tiny-qwen2.q6_k.gguf", "Q6_K"},
        {"models/stories260K.f32.gguf", "models/stories260K.q8_0-mixed.gguf", "Q8_0"},
};

/* A reference file's path, unpacked into the test folder when it is stored packed. */
static const char *unpacked(char buf[1024], const char *name) {
	char packed[256], tmp[1024];
	snprintf(packed, sizeof packed, "%s.gz", name);
	if (reference_path(buf, name))
		return buf;
	if (!reference_path(buf, packed) || reference_gunzip(packed, tmp) != 0)
		return NULL;
	temp_path(buf, "source.gguf");
	return rename(tmp, buf) == 0 ? buf : NULL;
}

/* Written so that NaN fails. */
static int error_is_acceptable(double ours, double theirs) {
	return ours <= 1.02 * theirs;
}

typedef struct comparison {
	int same_types, acceptable;
	double worst; /* ratio of errors */
} comparison;

static comparison compare_files(const rv_gguf *ours, const rv_gguf *theirs, const rv_gguf *source) {
	comparison c = {1, 1, 0};
	assert_int_equal(rv_gguf_n_tensors(ours), rv_gguf_n_tensors(theirs));
	for (size_t i = 0; i < rv_gguf_n_tensors(ours); i++) {
		const rv_gguf_tensor *a = rv_gguf_tensor_at(ours, i);
		const rv_gguf_tensor *b = rv_gguf_find_tensor(theirs, a->name);
		const rv_gguf_tensor *s = rv_gguf_find_tensor(source, a->name);
		assert_true(b && s && a->n_dims == b->n_dims);
		assert_memory_equal(a->dims, b->dims, sizeof a->dims);
		c.same_types &= a->type == b->type;
		float *x = decode(a), *y = decode(b), *z = decode(s);
		double e = rmse(x, z, n_elements(a)), f = rmse(y, z, n_elements(a));
		c.acceptable &= error_is_acceptable(e, f);
		if (f > 0 && !(e / f <= c.worst))
			c.worst = e / f;
		rv_free(x);
		rv_free(y);
		rv_free(z);
	}
	return c;
}

/* Every key of their file is in ours with the same value; the stories file there has no mix number. */
static void compare_keys(const rv_gguf *ours, const rv_gguf *theirs) {
	for (size_t i = 0; i < rv_gguf_n_kv(theirs); i++) {
		const rv_gguf_kv *kv = rv_gguf_kv_at(theirs, i);
		char key[256];
		snprintf(key, sizeof key, "%.*s", (int)kv->key.len, kv->key.data);
		const rv_gguf_kv *mine = rv_gguf_find(ours, key);
		if (!mine || mine->kind != kv->kind || mine->n_bytes != kv->n_bytes ||
		    memcmp(mine->bytes, kv->bytes, kv->n_bytes) != 0)
			fail_msg("key '%s' differs", key);
	}
}

static rv_gguf *open_gguf(const char *path) {
	rv_gguf *g;
	assert_ok(rv_gguf_open(&g, path, RV_GGUF_DEFAULT));
	return g;
}

/* A damaged copy of our file: one block of a matrix has another scale. */
static int damage_is_caught(const char *path, const rv_gguf *theirs, const rv_gguf *source) {
	char *bytes;
	size_t size;
	rv_gguf *g;
	assert_ok(rv_file_read(path, (size_t)1 << 30, &bytes, &size));
	assert_ok(rv_gguf_open_memory(&g, bytes, size, "damaged", RV_GGUF_DEFAULT));
	const rv_gguf_tensor *t = rv_gguf_find_tensor(g, "blk.0.attn_q.weight");
	size_t at = (size_t)((const char *)t->data - bytes);
	memcpy(bytes + at, bytes + at + t->n_bytes / 2, t->n_bytes / 4); /* finite, but elsewhere's */
	comparison c = compare_files(g, theirs, source);
	rv_gguf_close(g);
	rv_free(bytes);
	return c.same_types && !c.acceptable;
}

static void as_llama_cpp(void **state) {
	const reference_case *r = *state;
	char source_path[1024], their_path[1024], out[1024];
	if (!unpacked(source_path, r->source) || !reference_path(their_path, r->theirs))
		skip();
	rv_quant_options o = target(r->target);
	rv_quant_plan plan;
	assert_ok(rv_quantize_file(source_path, temp_path(out, "out.gguf"), &o, &plan));
	rv_gguf *source = open_gguf(source_path), *theirs = open_gguf(their_path),
	        *ours = open_gguf(out);
	comparison c = compare_files(ours, theirs, source);
	print_message("# %s: worst ratio of errors %.5f, %d fall-backs, %.3f bits\n", r->theirs,
	              c.worst, plan.n_fallbacks, plan.bits_per_weight);
	assert_true(c.same_types);
	assert_true(c.acceptable);
	for (size_t i = 0; i < plan.n_tensors; i++)
		assert_int_equal(plan.tensors[i].to, rv_gguf_tensor_at(ours, i)->type);
	if (strstr(r->source, "tiny"))
		compare_keys(ours, theirs);
	assert_true(damage_is_caught(out, theirs, source));
	rv_quant_plan_free(&plan);
	rv_gguf_close(ours);
	/* and a file of other types is not taken for the same */
	o = target(strcmp(r->target, "Q5_0") == 0 ? "Q5_1" : "Q5_0");
	assert_ok(rv_quantize_file(source_path, out, &o, NULL));
	ours = open_gguf(out);
	assert_false(compare_files(ours, theirs, source).same_types);
	rv_gguf_close(ours);
	rv_gguf_close(theirs);
	rv_gguf_close(source);
}

static void error_check_catches_nan(void **state) {
	(void)state;
	assert_true(error_is_acceptable(1.019, 1));
	assert_true(error_is_acceptable(0, 0));
	assert_false(error_is_acceptable(1.021, 1));
	assert_false(error_is_acceptable(NAN, 1));
}

/* ---- running ---- */

static void same_for_any_threads(void **state) {
	(void)state;
	char in[1024], one[1024], many[1024];
	make_small(temp_path(in, "in.gguf"), "F16");
	rv_quant_options o = target("Q4_K_M");
	assert_ok(rv_quantize_file(in, temp_path(one, "one.gguf"), &o, NULL));
	for (int n = 1; n <= 3; n++) {
		o.threads = start_threads(n);
		assert_ok(rv_quantize_file(in, temp_path(many, "many.gguf"), &o, NULL));
		assert_true(same_bytes(one, many));
		rv_threads_destroy(o.threads);
	}
	o = target("Q5_K_M"); /* negative control */
	assert_ok(rv_quantize_file(in, many, &o, NULL));
	assert_false(same_bytes(one, many));
}

/* Copies the F16 model `in`, one element of a matrix replaced. */
static void make_spoiled(const char *in, const char *out, const char *tensor, int64_t row,
                         rv_f16 value) {
	char *bytes;
	size_t size;
	rv_gguf *g;
	assert_ok(rv_file_read(in, (size_t)1 << 30, &bytes, &size));
	assert_ok(rv_gguf_open_memory(&g, bytes, size, "copy", RV_GGUF_DEFAULT));
	const rv_gguf_tensor *t = rv_gguf_find_tensor(g, tensor);
	assert_int_equal(t->type, RV_F16);
	size_t at = (size_t)((const char *)t->data - bytes) + (size_t)(row * t->dims[0] + 5) * 2;
	memcpy(bytes + at, &value, sizeof value);
	rv_gguf_close(g);
	assert_ok(rv_file_write(out, bytes, size));
	rv_free(bytes);
}

static void refuses_what_is_not_finite(void **state) {
	(void)state;
	static const struct {
		const char *tensor, *target;
		int64_t row;
		rv_f16 value;
	} bad[] = {
	        {"blk.1.ffn_up.weight", "Q4_K_M", 511, 0x7e00}, /* NaN */
	        {"blk.0.attn_q.weight", "Q8_0", 0, 0x7c00},     /* infinity */
	        {"token_embd.weight", "F16", 319, 0xfc00},      /* copied, not encoded */
	};
	char in[1024], spoiled[1024], out[1024], row[32];
	make_small(temp_path(in, "in.gguf"), "F16");
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		make_spoiled(in, temp_path(spoiled, "spoiled.gguf"), bad[i].tensor, bad[i].row,
		             bad[i].value);
		unlink(temp_path(out, "out.gguf"));
		int files = count_files();
		rv_quant_options o = target(bad[i].target);
		o.threads = start_threads(2);
		assert_int_equal(rv_quantize_file(spoiled, out, &o, NULL), RV_ERR_NUMERIC);
		rv_threads_destroy(o.threads);
		snprintf(row, sizeof row, "row %lld", (long long)bad[i].row);
		assert_non_null(strstr(rv_error_message(), bad[i].tensor));
		assert_non_null(strstr(rv_error_message(), row));
		assert_int_equal(count_files(), files);
	}
}

static void refuses_its_own_input(void **state) {
	(void)state;
	char in[1024], linked[1024], before[65], after[65];
	make_small(temp_path(in, "own.gguf"), "F16");
	assert_ok(rv_file_sha256(in, before));
	rv_quant_options o = target("Q8_0");
	assert_int_equal(rv_quantize_file(in, in, &o, NULL), RV_ERR_INVALID);
	assert_int_equal(symlink(in, temp_path(linked, "link.gguf")), 0);
	assert_int_equal(rv_quantize_file(in, linked, &o, NULL), RV_ERR_INVALID);
	assert_ok(rv_file_sha256(in, after));
	assert_string_equal(before, after);
	unlink(linked);
}

typedef struct watcher {
	int calls, stop_after, in_order;
	double last;
	char tensor[65];
} watcher;

static void on_progress(void *user, double fraction, const char *tensor) {
	watcher *w = user;
	w->calls++;
	w->in_order &= fraction >= w->last && fraction <= 1.0;
	w->last = fraction;
	snprintf(w->tensor, sizeof w->tensor, "%s", tensor);
}
static int is_cancelled(void *user) {
	const watcher *w = user;
	return w->stop_after && w->calls >= w->stop_after;
}

static void progress_and_cancel(void **state) {
	(void)state;
	char in[1024], out[1024];
	make_small(temp_path(in, "in.gguf"), "F16");
	watcher w = {.in_order = 1};
	rv_quant_options o = target("Q8_0");
	o.progress = on_progress;
	o.cancelled = is_cancelled;
	o.user = &w;
	unlink(temp_path(out, "out.gguf"));
	int files = count_files();
	w.stop_after = 3;
	assert_int_equal(rv_quantize_file(in, out, &o, NULL), RV_ERR_CANCELLED);
	assert_int_equal(w.calls, 3);
	assert_non_null(strstr(rv_error_message(), w.tensor));
	assert_int_equal(count_files(), files);
	w = (watcher){.in_order = 1};
	assert_ok(rv_quantize_file(in, out, &o, NULL));
	assert_true(w.in_order && w.last == 1.0);
}

static void count_warnings(void *user, rv_log_level level, const char *line) {
	int *n = user;
	*n += level == RV_LOG_WARN && (strstr(line, "requantizing") || strstr(line, "matches no"));
}

static void warns(void **state) {
	(void)state;
	char f16[1024], q8[1024], out[1024];
	int n = 0;
	rv_log log = {count_warnings, &n};
	make_small(temp_path(f16, "in.gguf"), "F16");
	rv_quant_options o = target("Q8_0");
	o.log = &log;
	assert_ok(rv_quantize_file(f16, temp_path(q8, "q8.gguf"), &o, NULL));
	assert_ok(rv_quantize_file(q8, temp_path(out, "out.gguf"), &o, NULL)); /* same type: a copy */
	assert_int_equal(n, 0);
	assert_true(same_bytes(q8, out));
	o.target = rv_quant_target_by_name("Q4_0");
	assert_ok(rv_quantize_file(q8, out, &o, NULL));
	assert_int_equal(n, 1);
	const rv_quant_override typo = {"atn_v", RV_Q8_0};
	o.overrides = &typo;
	o.n_overrides = 1;
	assert_ok(rv_quantize_file(f16, out, &o, NULL));
	assert_int_equal(n, 2);
}

/* ThreadSanitizer's own memory grows with every byte that is read: nothing can be measured there. */
#if defined(__SANITIZE_THREAD__)
#define MEASURES_MEMORY 0
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MEASURES_MEMORY 0
#endif
#endif
#ifndef MEASURES_MEMORY
#define MEASURES_MEMORY 1
#endif

#if MEASURES_MEMORY
static size_t anon_bytes(void) {
	rv_memuse m;
	rv_memuse_get(&m);
	return m.anon_bytes;
}

static void watch_memory(void *user, double fraction, const char *tensor) {
	(void)fraction;
	(void)tensor;
	size_t *peak = user, now = anon_bytes();
	*peak = now > *peak ? now : *peak;
}

static void memory_stays_small(void **state) {
	(void)state;
	char in[1024], out[1024];
	rv_synth_options so = synth_options("llama", llama_shape(1, 16, 2, 2048, 8192), "F16");
	so.hp.n_vocab = 512;
	assert_ok(rv_synth_file(temp_path(in, "large.gguf"), &so));
	size_t before = anon_bytes(), peak = 0;
	rv_quant_options o = target("Q8_0");
	rv_quant_plan plan;
	o.progress = watch_memory;
	o.user = &peak;
	o.threads = start_threads(2);
	assert_ok(rv_quantize_file(in, temp_path(out, "out.gguf"), &o, &plan));
	rv_threads_destroy(o.threads);
	assert_true(before > 0 && peak > 0);
	assert_true(plan.from_bytes > (size_t)100 << 20);
	assert_true(peak < before + ((size_t)40 << 20));
	rv_quant_plan_free(&plan);
}
#endif

static void leaves_no_plan_on_failure(void **state) {
	(void)state;
	char in[1024], out[1024];
	rv_quant_plan plan = {.n_tensors = 77};
	rv_quant_options o = target("Q8_0");
	temp_path(in, "absent.gguf");
	assert_int_not_equal(rv_quantize_file(in, temp_path(out, "out.gguf"), &o, &plan), RV_OK);
	assert_int_equal(plan.n_tensors, 77);
	assert_ok(rv_file_write(in, "GGUF", 4));
	assert_int_equal(rv_quantize_file(in, out, &o, &plan), RV_ERR_FORMAT);
	rv_quant_options none = {0};
	make_small(in, "F16");
	assert_int_equal(rv_quantize_file(in, out, &none, &plan), RV_ERR_INVALID);
	assert_int_not_equal(rv_quantize_file(in, "/nonexistent/out.gguf", &o, &plan), RV_OK);
	assert_int_equal(plan.n_tensors, 77);
	rv_quant_plan_free(NULL);
}

#define N_REFERENCES (sizeof references / sizeof references[0])

int main(void) {
	const struct CMUnitTest plain[] = {
		cmocka_unit_test(bits_of_llama2_7b),
		cmocka_unit_test(layers_with_more_bits),
		cmocka_unit_test(values_of_a_70b),
		cmocka_unit_test(fall_backs_of_small),
		cmocka_unit_test(medium_is_tied),
		cmocka_unit_test(mixed_and_overrides),
		cmocka_unit_test(names_of_targets),
		cmocka_unit_test(error_check_catches_nan),
		cmocka_unit_test(same_for_any_threads),
		cmocka_unit_test(refuses_what_is_not_finite),
		cmocka_unit_test(refuses_its_own_input),
		cmocka_unit_test(progress_and_cancel),
		cmocka_unit_test(warns),
#if MEASURES_MEMORY
		cmocka_unit_test(memory_stays_small),
#endif
		cmocka_unit_test(leaves_no_plan_on_failure),
	};
	struct CMUnitTest tests[sizeof plain / sizeof plain[0] + N_REFERENCES];
	static char names[N_REFERENCES][160];
	size_t n = sizeof plain / sizeof plain[0];
	memcpy(tests, plain, sizeof plain);
	for (size_t i = 0; i < N_REFERENCES; i++) {
		snprintf(names[i], sizeof names[i], "as_llama_cpp %s", references[i].theirs);
		tests[n++] = (struct CMUnitTest){names[i], as_llama_cpp, NULL, NULL,
		                                 (void *)(uintptr_t)&references[i]};
	}
	return _cmocka_run_group_tests("quantize", tests, n, make_test_dir, remove_test_dir);
}
