/* Temporary model files and their decoded tensors, for the tests of quantize and synth. */
#ifndef RV_TESTS_MODEL_FILES_H
#define RV_TESTS_MODEL_FILES_H

#include "base/file.h"
#include "base/mem.h"
#include "model/gguf.h"
#include "model/synth.h"
#include "tests/support/reference.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define assert_ok(expr)                                                                                \
	do {                                                                                           \
		if ((expr) != RV_OK)                                                                   \
			fail_msg("%s: %s", #expr, rv_error_message());                                 \
	} while (0)

/* ---- a folder that goes away with the test group ---- */

static char test_dir[512];

static inline int make_test_dir(void **state) {
	(void)state;
	const char *tmp = getenv("TMPDIR");
	snprintf(test_dir, sizeof test_dir, "%s/rv-model-XXXXXX", tmp ? tmp : "/tmp");
	return mkdtemp(test_dir) ? 0 : -1;
}

static inline int remove_test_dir(void **state) {
	(void)state;
	DIR *d = opendir(test_dir);
	for (struct dirent *e; d && (e = readdir(d));) {
		char path[1024];
		snprintf(path, sizeof path, "%s/%s", test_dir, e->d_name);
		unlink(path);
	}
	if (d)
		closedir(d);
	return rmdir(test_dir);
}

/* Number of files in the folder: nothing may be left behind by a failure. */
static inline int count_files(void) {
	int n = 0;
	DIR *d = opendir(test_dir);
	for (struct dirent *e; d && (e = readdir(d));)
		n += e->d_name[0] != '.' || strlen(e->d_name) > 2;
	if (d)
		closedir(d);
	return n;
}

static inline const char *temp_path(char buf[1024], const char *name) {
	snprintf(buf, 1024, "%s/%s", test_dir, name);
	return buf;
}

/* ---- contents ---- */

static inline int same_bytes(const char *a, const char *b) {
	char ha[65], hb[65];
	assert_ok(rv_file_sha256(a, ha));
	assert_ok(rv_file_sha256(b, hb));
	return strcmp(ha, hb) == 0;
}

static inline int64_t n_elements(const rv_gguf_tensor *t) {
	return t->dims[0] * t->dims[1];
}

/* The tensor's values, rv_free'd by the caller. */
static inline float *decode(const rv_gguf_tensor *t) {
	float *x;
	assert_ok(RV_ALLOC(&x, n_elements(t), "decoded tensor"));
	size_t row = rv_type_row_bytes(rv_type_get((int)t->type), t->dims[0]);
	rv_dequantize_fn *fn = rv_kernels_for(RV_LEVEL_REF)->type[t->type].dequantize;
	for (int64_t r = 0; r < t->dims[1]; r++)
		fn(x + r * t->dims[0], t->data + (size_t)r * row, t->dims[0]);
	return x;
}

static inline double rmse(const float *x, const float *ref, int64_t n) {
	double sum = 0;
	for (int64_t i = 0; i < n; i++)
		sum += ((double)x[i] - (double)ref[i]) * ((double)x[i] - (double)ref[i]);
	return sqrt(sum / (double)n);
}

static inline rv_threads *start_threads(int n) {
	rv_threads *t;
	rv_threads_options o = rv_threads_defaults();
	o.n_threads = n;
	o.pin = 0;
	assert_ok(rv_threads_create(&t, &o));
	return t;
}

/* ---- small models ---- */

/* A shape with K-quant rows, 2 layers. */
static inline rv_hparams small_shape(void) {
	return (rv_hparams){.n_layers = 2,
	                    .n_embd = 256,
	                    .n_heads = 4,
	                    .n_kv_heads = 2,
	                    .head_dim = 64,
	                    .n_ff = 512,
	                    .n_vocab = 320,
	                    .n_ctx_train = 512,
	                    .n_rot = 64,
	                    .rope_theta = 1e6,
	                    .rms_eps = 1e-6,
	                    .tied = 0};
}

static inline rv_synth_options synth_options(const char *arch, rv_hparams hp, const char *target) {
	return (rv_synth_options){.arch = rv_arch_by_name(arch, strlen(arch)),
	                          .hp = hp,
	                          .target = rv_quant_target_by_name(target),
	                          .seed = 7};
}

static inline void make_small(const char *path, const char *target) {
	rv_synth_options o = synth_options("qwen2", small_shape(), target);
	assert_ok(rv_synth_file(path, &o));
}

#endif
