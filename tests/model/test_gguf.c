/* The GGUF reader and writer on good files: the reference files, round trips of every kind and type,
 * and what the writer must refuse. */
#include "base/file.h"
#include "base/mem.h"
#include "model/gguf.h"

#include "gguf_builder.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const char *reference(void) {
	const char *dir = getenv("RV_REFERENCE");
	return dir ? dir : "../shared/reference";
}

static void assert_ok(rv_status status) {
	if (status != RV_OK)
		fail_msg("%s: %s", rv_status_text(status), rv_error_message());
}

/* ---- a temporary directory of each test ---- */

typedef struct temp {
	char dir[256], file[300];
} temp;

static int setup(void **state) {
	temp *t = calloc(1, sizeof *t);
	const char *base = getenv("TMPDIR");
	snprintf(t->dir, sizeof t->dir, "%s/rv-gguf-XXXXXX", base ? base : "/tmp");
	if (!mkdtemp(t->dir))
		return -1;
	snprintf(t->file, sizeof t->file, "%s/out.gguf", t->dir);
	*state = t;
	return 0;
}

static int teardown(void **state) {
	temp *t = *state;
	unlink(t->file);
	int left = rmdir(t->dir); /* fails when a temporary file was left behind */
	free(t);
	return left;
}

/* ---- reference files ---- */

typedef struct fact {
	const char *path, *arch, *first_matrix;
	size_t n_kv_min, n_tensors;
	rv_type type; /* of first_matrix */
	int64_t cols, rows;
} fact;

#define TINY "models/tiny-qwen2/tiny-qwen2."
static const fact facts[] = {
        {"models/stories260K.f32.gguf", "llama", "blk.0.ffn_down.weight", 10, 47, RV_F32, 172, 64},
        {"models/stories260K.f16.gguf", "llama", "blk.0.ffn_down.weight", 10, 47, RV_F16, 172, 64},
        {"models/stories260K.q8_0-mixed.gguf", "llama", "blk.0.attn_q.weight", 10, 47, RV_Q8_0, 64, 64},
        {TINY "f16.gguf", "qwen2", "blk.3.ffn_up.weight", 10, 51, RV_F16, 256, 768},
        {TINY "q8_0.gguf", "qwen2", "blk.3.ffn_up.weight", 10, 51, RV_Q8_0, 256, 768},
        {TINY "q4_0.gguf", "qwen2", "blk.3.ffn_up.weight", 10, 51, RV_Q4_0, 256, 768},
        {TINY "q4_k_m.gguf", "qwen2", "blk.3.ffn_up.weight", 10, 51, RV_Q4_K, 256, 768},
        {TINY "q5_k_m.gguf", "qwen2", "blk.3.ffn_up.weight", 10, 51, RV_Q5_K, 256, 768},
        {TINY "q6_k.gguf", "qwen2", "blk.3.ffn_up.weight", 10, 51, RV_Q6_K, 256, 768},
        {"tokenizers/gpt-2/ggml-vocab-gpt-2.gguf", "gpt2", NULL, 10, 0, RV_F32, 0, 0},
        {"tokenizers/llama-spm/ggml-vocab-llama-spm.gguf", "llama", NULL, 10, 0, RV_F32, 0, 0},
};
#define N_FACTS (sizeof facts / sizeof *facts)

static void open_reference(rv_gguf **g, const fact *f, char path[1024]) {
	snprintf(path, 1024, "%s/%s", reference(), f->path);
	if (access(path, R_OK) != 0)
		skip();
	assert_ok(rv_gguf_open(g, path, RV_GGUF_VOCAB_ONLY_OK));
}

static void check_facts(const rv_gguf *g, const fact *f) {
	rv_str arch, *tokens;
	size_t n_tokens;
	assert_ok(rv_gguf_string(g, "general.architecture", &arch));
	assert_int_equal(arch.len, strlen(f->arch));
	assert_memory_equal(arch.data, f->arch, arch.len);
	assert_in_range(rv_gguf_version(g), 2, 3);
	assert_int_equal(rv_gguf_alignment(g), 32);
	assert_true(rv_gguf_n_kv(g) >= f->n_kv_min);
	assert_int_equal(rv_gguf_n_tensors(g), f->n_tensors);
	assert_ok(rv_gguf_strings(g, "tokenizer.ggml.tokens", &tokens, &n_tokens));
	assert_true(n_tokens >= 512 && tokens[n_tokens - 1].len > 0);
	rv_free(tokens);
	assert_null(rv_gguf_find(g, "no.such.key"));
	assert_null(rv_gguf_find_tensor(g, "no.such.tensor"));
	if (!f->first_matrix)
		return;
	const rv_gguf_tensor *t = rv_gguf_find_tensor(g, f->first_matrix);
	assert_non_null(t);
	assert_int_equal(t->type, f->type);
	assert_int_equal(t->n_dims, 2);
	assert_int_equal(t->dims[0], f->cols);
	assert_int_equal(t->dims[1], f->rows);
	assert_int_equal(t->dims[2] * t->dims[3], 1);
	assert_int_equal(t->n_bytes,
	                 (size_t)f->rows * rv_type_row_bytes(rv_type_get((int)f->type), f->cols));
}

static void test_reference_files(void **state) {
	(void)state;
	for (size_t i = 0; i < N_FACTS; i++) {
		rv_gguf *g;
		char path[1024];
		open_reference(&g, &facts[i], path);
		assert_string_equal(rv_gguf_path(g), path);
		check_facts(g, &facts[i]);
		assert_ok(rv_gguf_check(g));
		if (facts[i].n_tensors) { /* without the flag a vocabulary is refused, a model is not */
			rv_gguf *again;
			assert_ok(rv_gguf_open(&again, path, RV_GGUF_DEFAULT));
			rv_gguf_close(again);
		} else {
			rv_gguf *again = g;
			assert_int_equal(rv_gguf_open(&again, path, RV_GGUF_DEFAULT), RV_ERR_MISMATCH);
			assert_non_null(strstr(rv_error_message(), "no tensors"));
			assert_ptr_equal(again, g);
		}
		rv_gguf_close(g);
	}
}

/* Every key and tensor is found by name, at the place it was listed. */
static void test_find_all(void **state) {
	(void)state;
	for (size_t i = 0; i < N_FACTS; i++) {
		rv_gguf *g;
		char path[1024], key[256];
		open_reference(&g, &facts[i], path);
		for (size_t k = 0; k < rv_gguf_n_kv(g); k++) {
			const rv_gguf_kv *kv = rv_gguf_kv_at(g, k);
			snprintf(key, sizeof key, "%.*s", (int)kv->key.len, kv->key.data);
			assert_ptr_equal(rv_gguf_find(g, key), kv);
		}
		for (size_t k = 0; k < rv_gguf_n_tensors(g); k++) {
			const rv_gguf_tensor *t = rv_gguf_tensor_at(g, k);
			assert_ptr_equal(rv_gguf_find_tensor(g, t->name), t);
		}
		assert_null(rv_gguf_kv_at(g, rv_gguf_n_kv(g)));
		assert_null(rv_gguf_tensor_at(g, rv_gguf_n_tensors(g)));
		rv_gguf_close(g);
	}
}

/* ---- rewriting a reference file ---- */

static void rewrite(const rv_gguf *g, const char *out, size_t slice) {
	rv_gguf_writer *w;
	assert_ok(rv_gguf_writer_open(&w, out));
	for (size_t i = 0; i < rv_gguf_n_kv(g); i++)
		assert_ok(rv_gguf_write_kv(w, rv_gguf_kv_at(g, i)));
	for (size_t i = 0; i < rv_gguf_n_tensors(g); i++) {
		const rv_gguf_tensor *t = rv_gguf_tensor_at(g, i);
		assert_ok(rv_gguf_declare(w, t->name, t->type, t->n_dims, t->dims));
	}
	for (size_t i = 0; i < rv_gguf_n_tensors(g); i++) {
		const rv_gguf_tensor *t = rv_gguf_tensor_at(g, i);
		for (size_t at = 0; at < t->n_bytes; at += slice) {
			size_t n = t->n_bytes - at < slice ? t->n_bytes - at : slice;
			assert_ok(rv_gguf_write_data(w, t->data + at, n));
		}
	}
	assert_ok(rv_gguf_writer_commit(w));
}

static void test_rewrite_is_identical(void **state) {
	temp *tmp = *state;
	for (size_t i = 0; i < N_FACTS; i++) {
		rv_gguf *g, *again;
		char path[1024], *a, *b;
		size_t na, nb;
		open_reference(&g, &facts[i], path);
		rewrite(g, tmp->file, 100003);
		assert_ok(rv_file_read(path, 1 << 28, &a, &na));
		assert_ok(rv_file_read(tmp->file, 1 << 28, &b, &nb));
		/* a file may or may not be padded after its last byte */
		assert_true(nb >= na && nb - na < 32);
		uint32_t version = rv_gguf_version(g);
		memcpy(b + 4, &version, 4); /* always written as 3 */
		assert_memory_equal(a, b, na);
		assert_ok(rv_gguf_open(&again, tmp->file, RV_GGUF_VOCAB_ONLY_OK));
		check_facts(again, &facts[i]);
		rv_gguf_close(again);
		rv_free(a);
		rv_free(b);
		rv_gguf_close(g);
	}
}

/* ---- round trip of every kind and type ---- */

/* A value of each fixed kind, as stored. */
static const struct {
	const char *key;
	rv_gguf_kind kind;
	uint64_t bits;
	size_t bytes;
	int64_t value; /* for integers */
} scalars[] = {
        {"k.u8", RV_GGUF_U8, 0xff, 1, 255},
        {"k.i8", RV_GGUF_I8, 0x80, 1, -128},
        {"k.u16", RV_GGUF_U16, 0xfffe, 2, 65534},
        {"k.i16", RV_GGUF_I16, 0x8001, 2, -32767},
        {"k.u32", RV_GGUF_U32, 0xffffffff, 4, 4294967295},
        {"k.i32", RV_GGUF_I32, 0xffffffff, 4, -1},
        {"k.u64", RV_GGUF_U64, INT64_MAX, 8, INT64_MAX},
        {"k.i64", RV_GGUF_I64, 0x8000000000000000, 8, INT64_MIN},
        {"k.f32", RV_GGUF_F32, 0x3fc00000, 4, 0},         /* 1.5 */
        {"k.f64", RV_GGUF_F64, 0xbfd0000000000000, 8, 0}, /* -0.25 */
        {"k.bool", RV_GGUF_BOOL, 1, 1, 0},
        {"k.big", RV_GGUF_U64, UINT64_MAX, 8, 0},
};
#define N_SCALARS (sizeof scalars / sizeof *scalars)
static const uint8_t array_bytes[24] = {0, 1, 0, 1};

static void write_every_kind(rv_gguf_writer *w) {
	for (size_t i = 0; i < N_SCALARS; i++) {
		rv_gguf_kv kv = {
		        {scalars[i].key, strlen(scalars[i].key)}, scalars[i].kind, scalars[i].kind, 1,
		        (const uint8_t *)&scalars[i].bits,        scalars[i].bytes};
		assert_ok(rv_gguf_write_kv(w, &kv));
	}
	for (size_t i = 0; i < N_SCALARS - 1; i++) { /* an array of each, and an empty one */
		char key[32];
		for (size_t n = 0; n < 4; n += 3) {
			snprintf(key, sizeof key, "array%zu.%s", n, scalars[i].key);
			rv_gguf_kv kv = {{key, strlen(key)}, RV_GGUF_ARRAY,       scalars[i].kind, n,
			                 array_bytes,        n * scalars[i].bytes};
			assert_ok(rv_gguf_write_kv(w, &kv));
		}
	}
	assert_ok(rv_gguf_write_u32(w, "w.u32", 7));
	assert_ok(rv_gguf_write_u64(w, "w.u64", 8));
	assert_ok(rv_gguf_write_f32(w, "w.f32", 0.5f));
	assert_ok(rv_gguf_write_bool(w, "w.bool", 2));
	assert_ok(rv_gguf_write_string(w, "w.string", "caf\xc3\xa9"));
	assert_ok(rv_gguf_write_string(w, "w.empty", ""));
	const rv_str strings[3] = {{"a", 1}, {"", 0}, {"b\0c", 3}};
	assert_ok(rv_gguf_write_strings(w, "w.strings", strings, 3));
	assert_ok(rv_gguf_write_strings(w, "w.no_strings", NULL, 0));
	assert_ok(rv_gguf_write_f32s(w, "w.f32s", (float[]){1, NAN, -3}, 3));
	assert_ok(rv_gguf_write_i32s(w, "w.i32s", (int32_t[]){-1, INT32_MAX}, 2));
}

static void check_every_kind(const rv_gguf *g) {
	for (size_t i = 0; i < N_SCALARS; i++) {
		const rv_gguf_kv *kv = rv_gguf_find(g, scalars[i].key);
		assert_non_null(kv);
		assert_int_equal(kv->kind, scalars[i].kind);
		assert_int_equal(kv->n_bytes, scalars[i].bytes);
		assert_memory_equal(kv->bytes, &scalars[i].bits, scalars[i].bytes);
		int64_t v = 42;
		if (scalars[i].value) {
			assert_ok(rv_gguf_int(g, scalars[i].key, INT64_MIN, INT64_MAX, &v));
			assert_int_equal(v, scalars[i].value);
			int64_t below = scalars[i].value - (scalars[i].value > INT64_MIN);
			if (below != scalars[i].value) /* one less is out of bounds */
				assert_int_equal(rv_gguf_int(g, scalars[i].key, INT64_MIN, below, &v),
				                 RV_ERR_FORMAT);
			assert_int_equal(v, scalars[i].value);
		} else {
			assert_int_equal(rv_gguf_int(g, scalars[i].key, INT64_MIN, INT64_MAX, &v),
			                 RV_ERR_FORMAT);
			assert_int_equal(v, 42);
		}
		if (i < N_SCALARS - 1) {
			char key[32];
			snprintf(key, sizeof key, "array3.%s", scalars[i].key);
			kv = rv_gguf_find(g, key);
			assert_true(kv && kv->kind == RV_GGUF_ARRAY && kv->elem == scalars[i].kind);
			assert_int_equal(kv->count, 3);
			assert_memory_equal(kv->bytes, array_bytes, 3 * scalars[i].bytes);
		}
	}
}

static void check_typed_access(const rv_gguf *g) {
	double d = 0;
	int b = -1;
	rv_str s, *strings;
	float *floats;
	int32_t *ints;
	size_t n = 99;
	assert_ok(rv_gguf_double(g, "k.f32", &d));
	assert_true(d == 1.5);
	assert_ok(rv_gguf_double(g, "k.f64", &d));
	assert_true(d == -0.25);
	assert_int_equal(rv_gguf_double(g, "k.u32", &d), RV_ERR_FORMAT);
	assert_ok(rv_gguf_bool(g, "w.bool", &b));
	assert_int_equal(b, 1);
	assert_int_equal(rv_gguf_bool(g, "k.u8", &b), RV_ERR_FORMAT);
	assert_ok(rv_gguf_string(g, "w.string", &s));
	assert_int_equal(s.len, 5);
	assert_ok(rv_gguf_string(g, "w.empty", &s));
	assert_int_equal(s.len, 0);
	assert_int_equal(rv_gguf_string(g, "w.strings", &s), RV_ERR_FORMAT);
	assert_non_null(strstr(rv_error_message(), "an array of string"));
	assert_ok(rv_gguf_strings(g, "w.strings", &strings, &n));
	assert_int_equal(n, 3);
	assert_memory_equal(strings[2].data, "b\0c", 3);
	rv_free(strings);
	assert_ok(rv_gguf_strings(g, "w.no_strings", &strings, &n));
	assert_true(n == 0 && strings == NULL);
	assert_ok(rv_gguf_floats(g, "w.f32s", &floats, &n));
	assert_true(n == 3 && floats[0] == 1 && isnan(floats[1]) && floats[2] == -3);
	rv_free(floats);
	assert_ok(rv_gguf_i32s(g, "w.i32s", &ints, &n));
	assert_true(n == 2 && ints[0] == -1 && ints[1] == INT32_MAX);
	rv_free(ints);
	ints = NULL;
	assert_int_equal(rv_gguf_i32s(g, "w.f32s", &ints, &n), RV_ERR_FORMAT);
	assert_int_equal(rv_gguf_i32s(g, "array3.k.u8", &ints, &n), RV_ERR_FORMAT);
	assert_int_equal(rv_gguf_i32s(g, "k.i32", &ints, &n), RV_ERR_FORMAT);
	assert_int_equal(rv_gguf_i32s(g, "no.key", &ints, &n), RV_ERR_NOT_FOUND);
	assert_non_null(strstr(rv_error_message(), "no.key"));
	assert_null(ints);
}

static const rv_type all_types[] = {
#define RV_TYPE(name, id, elems, bytes, act) RV_##name,
#include "kernels/types.def"
#undef RV_TYPE
};
#define N_TYPES (sizeof all_types / sizeof *all_types)

static size_t type_bytes(size_t i, int64_t rows) {
	return (size_t)rows * rv_type_row_bytes(rv_type_get((int)all_types[i]), 256);
}

static void test_round_trip(void **state) {
	temp *tmp = *state;
	for (uint32_t alignment = 32; alignment <= 4096; alignment *= 128) {
		rv_gguf_writer *w;
		rv_gguf *g;
		char name[64];
		static uint8_t bytes[3 * 1024];
		assert_ok(rv_gguf_writer_open(&w, tmp->file));
		write_every_kind(w);
		if (alignment != 32)
			assert_ok(rv_gguf_write_u32(w, "general.alignment", alignment));
		for (size_t i = 0; i < N_TYPES; i++) {
			snprintf(name, sizeof name, "t.%zu", i);
			assert_ok(rv_gguf_declare(w, name, all_types[i], 2, (int64_t[]){256, 3}));
		}
		for (size_t i = 0; i < N_TYPES; i++) {
			memset(bytes, (int)i + 1, sizeof bytes);
			assert_ok(rv_gguf_write_data(w, bytes, 7));
			assert_ok(rv_gguf_write_data(w, bytes, type_bytes(i, 3) - 7));
		}
		assert_int_equal(access(tmp->file, F_OK), alignment == 32 ? -1 : 0);
		assert_ok(rv_gguf_writer_commit(w));
		assert_ok(rv_gguf_open(&g, tmp->file, RV_GGUF_DEFAULT));
		assert_int_equal(rv_gguf_version(g), 3);
		assert_int_equal(rv_gguf_alignment(g), alignment);
		check_every_kind(g);
		check_typed_access(g);
		for (size_t i = 0; i < N_TYPES; i++) {
			const rv_gguf_tensor *t = rv_gguf_tensor_at(g, i);
			memset(bytes, (int)i + 1, sizeof bytes);
			assert_int_equal(t->n_bytes, type_bytes(i, 3));
			assert_int_equal(t->type, all_types[i]);
			assert_int_equal(t->offset % alignment, 0);
			assert_int_equal((uintptr_t)t->data % 32, 0);
			assert_memory_equal(t->data, bytes, t->n_bytes);
		}
		rv_gguf_close(g);
	}
}

/* ---- what the writer refuses ---- */

static void assert_refused(rv_status status, const char *word) {
	assert_int_equal(status, RV_ERR_INVALID);
	if (!strstr(rv_error_message(), word))
		fail_msg("message '%s' does not say '%s'", rv_error_message(), word);
}

static void test_writer_refuses(void **state) {
	temp *tmp = *state;
	rv_gguf_writer *w;
	rv_gguf *g;
	const int64_t dims[4] = {32, 2, 1, 1};
	const uint8_t data[512] = {0};
	assert_ok(rv_gguf_writer_open(&w, tmp->file));
	assert_refused(rv_gguf_write_u32(w, "", 1), "empty");
	rv_gguf_kv kv = {{"a\0b", 3}, RV_GGUF_U8, RV_GGUF_U8, 1, data, 1};
	assert_refused(rv_gguf_write_kv(w, &kv), "NUL");
	kv = (rv_gguf_kv){{"a", 1}, RV_GGUF_U8, RV_GGUF_U8, 1, data, 2};
	assert_refused(rv_gguf_write_kv(w, &kv), "more than");
	kv = (rv_gguf_kv){{"a", 1}, RV_GGUF_U32, RV_GGUF_U32, 1, data, 3};
	assert_refused(rv_gguf_write_kv(w, &kv), "left");
	kv = (rv_gguf_kv){{"a", 1}, RV_GGUF_ARRAY, RV_GGUF_ARRAY, 1, data, 12};
	assert_refused(rv_gguf_write_kv(w, &kv), "nested");
	kv = (rv_gguf_kv){{"a", 1}, RV_GGUF_KIND_COUNT, RV_GGUF_KIND_COUNT, 1, data, 1};
	assert_refused(rv_gguf_write_kv(w, &kv), "unknown");
	assert_refused(rv_gguf_write_u32(w, "general.alignment", 24), "power of two");
	assert_refused(rv_gguf_write_u64(w, "general.alignment", 32), "u32");
	char name[65];
	memset(name, 'n', 64);
	name[64] = 0;
	assert_refused(rv_gguf_declare(w, name, RV_F32, 2, dims), "63");
	assert_refused(rv_gguf_declare(w, "", RV_F32, 2, dims), "63");
	assert_refused(rv_gguf_declare(w, "t", RV_F32, 0, dims), "dimensions");
	assert_refused(rv_gguf_declare(w, "t", RV_F32, 5, dims), "dimensions");
	assert_refused(rv_gguf_declare(w, "t", (rv_type)4, 2, dims), "type");
	assert_refused(rv_gguf_declare(w, "t", RV_Q4_K, 2, dims), "multiple");
	assert_refused(rv_gguf_declare(w, "t", RV_F32, 2, (int64_t[]){32, 0}), "at least 1");
	assert_refused(rv_gguf_declare(w, "t", RV_F32, 2, (int64_t[]){INT64_MAX, 2}), "overflow");
	name[63] = 0;
	assert_ok(rv_gguf_declare(w, name, RV_F32, 2, dims));
	assert_refused(rv_gguf_write_data(w, data, 257), "256");
	assert_ok(rv_gguf_write_data(w, data, 255));
	assert_refused(rv_gguf_write_u32(w, "late", 1), "once data");
	assert_refused(rv_gguf_declare(w, "late", RV_F32, 2, dims), "once data");
	assert_refused(rv_gguf_write_data(w, data, 2), "1 of 256");
	assert_ok(rv_gguf_write_data(w, data, 1));
	assert_refused(rv_gguf_write_data(w, data, 1), "after the last");
	assert_ok(rv_gguf_writer_commit(w));
	assert_ok(rv_gguf_open(&g, tmp->file, RV_GGUF_DEFAULT)); /* nothing refused was kept */
	assert_int_equal(rv_gguf_n_kv(g), 0);
	assert_int_equal(rv_gguf_n_tensors(g), 1);
	rv_gguf_close(g);
}

/* A commit that fails leaves the old file and nothing beside it (teardown's rmdir). */
static void test_commit_incomplete(void **state) {
	temp *tmp = *state;
	const uint8_t data[256] = {0};
	assert_ok(rv_file_write(tmp->file, "old", 3));
	for (int defect = 0; defect < 5; defect++) {
		rv_gguf_writer *w;
		assert_ok(rv_gguf_writer_open(&w, tmp->file));
		assert_ok(rv_gguf_write_u32(w, "k", 1));
		assert_ok(rv_gguf_declare(w, "t", RV_F32, 1, (int64_t[]){32}));
		if (defect == 1)
			assert_ok(rv_gguf_write_data(w, data, 127));
		if (defect == 2)
			assert_ok(rv_gguf_write_u32(w, "k", 2));
		if (defect == 3)
			assert_ok(rv_gguf_declare(w, "t", RV_F32, 1, (int64_t[]){32}));
		if (defect == 4) {
			rv_gguf_writer_abort(w);
			continue;
		}
		assert_int_not_equal(rv_gguf_writer_commit(w), RV_OK);
		const char *word = defect < 2    ? "data missing: tensor 't'"
		                   : defect == 2 ? "duplicate key 'k'"
		                                 : "duplicate tensor 't'";
		if (!strstr(rv_error_message(), word))
			fail_msg("message '%s' does not say '%s'", rv_error_message(), word);
	}
	char *old;
	size_t n;
	assert_ok(rv_file_read(tmp->file, 100, &old, &n));
	assert_true(n == 3 && !memcmp(old, "old", 3));
	rv_free(old);
	rv_gguf_writer_abort(NULL);
}

static void test_writer_bad_path(void **state) {
	(void)state;
	rv_gguf_writer *w = NULL;
	assert_int_not_equal(rv_gguf_writer_open(&w, "/no/such/dir/out.gguf"), RV_OK);
	assert_null(w);
}

/* A vocabulary: keys, no tensors. */
static void test_vocabulary_only(void **state) {
	temp *tmp = *state;
	rv_gguf_writer *w;
	rv_gguf *g;
	assert_ok(rv_gguf_writer_open(&w, tmp->file));
	assert_ok(rv_gguf_write_string(w, "general.architecture", "llama"));
	assert_ok(rv_gguf_writer_commit(w));
	assert_ok(rv_gguf_open(&g, tmp->file, RV_GGUF_VOCAB_ONLY_OK));
	rv_gguf_close(g);
	assert_int_equal(rv_gguf_open(&g, tmp->file, RV_GGUF_DEFAULT), RV_ERR_MISMATCH);
}

/* Truncated or rewritten under the reader's hands. */
static void test_changed_while_open(void **state) {
	temp *tmp = *state;
	sample s = sample_file();
	rv_gguf *g;
	assert_ok(rv_file_write(tmp->file, s.b.data, s.b.n));
	assert_ok(rv_gguf_open(&g, tmp->file, RV_GGUF_DEFAULT));
	assert_ok(rv_gguf_check(g));
	assert_int_equal(truncate(tmp->file, 100), 0);
	assert_int_equal(rv_gguf_check(g), RV_ERR_IO);
	rv_gguf_close(g);
	assert_ok(rv_gguf_open_memory(&g, s.b.data, s.b.n, "memory", RV_GGUF_DEFAULT));
	assert_ok(rv_gguf_check(g));
	rv_gguf_close(g);
	builder_free(&s.b);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_reference_files),
	        cmocka_unit_test(test_find_all),
	        cmocka_unit_test_setup_teardown(test_rewrite_is_identical, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_writer_refuses, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_commit_incomplete, setup, teardown),
	        cmocka_unit_test(test_writer_bad_path),
	        cmocka_unit_test_setup_teardown(test_vocabulary_only, setup, teardown),
	        cmocka_unit_test_setup_teardown(test_changed_while_open, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
