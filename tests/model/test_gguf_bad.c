/* The GGUF reader on malformed files: a named case for every class of fault, all truncations, all bit
 * flips of the header region. Good controls must pass, so that a reader which refuses everything fails.
 */
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/sysinfo.h"
#include "model/gguf.h"

#include "gguf_builder.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- heap in use, counted at the allocator, so that a small file may not ask for much ---- */

static size_t heap_asked;
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size) {
	heap_asked += size;
	return __real_aligned_alloc(alignment, size);
}

/* ---- one judgement ---- */

static int n_cases;

/* Opens the bytes in an exactly sized heap block (a read beyond is seen by the sanitizer) and compares
 * status and message. word NULL: any message. */
static void judge(const char *name, const uint8_t *data, size_t size, rv_status wanted,
                  const char *word) {
	uint8_t *copy = malloc(size ? size : 1);
	rv_gguf *untouched = (rv_gguf *)&n_cases, *g = untouched;
	if (size)
		memcpy(copy, data, size);
	n_cases++;
	heap_asked = 0;
	rv_status status = rv_gguf_open_memory(&g, copy, size, "case.gguf", RV_GGUF_DEFAULT);
	if (status != wanted)
		fail_msg("%s: %s instead of %s: %s", name, rv_status_text(status),
		         rv_status_text(wanted), status == RV_OK ? "" : rv_error_message());
	if (heap_asked > 10 * size + 4096)
		fail_msg("%s: %zu bytes asked for %zu bytes of file", name, heap_asked, size);
	if (status == RV_OK) {
		rv_gguf_close(g);
	} else {
		const char *m = rv_error_message();
		if (strncmp(m, "case.gguf: ", 11) != 0 || (word && !strstr(m, word)))
			fail_msg("%s: message '%s' does not say '%s'", name, m, word);
		for (const char *c = m; *c; c++)
			if (*c < 0x20 || *c > 0x7e)
				fail_msg("%s: message holds byte 0x%02x", name, (unsigned char)*c);
		assert_ptr_equal(g, untouched);
	}
	free(copy);
}

/* ---- a field of the sample file overwritten ---- */

typedef struct patch {
	const char *name;
	place at;
	int delta; /* bytes from it */
	size_t width;
	uint64_t value;
	rv_status status;
	const char *word;
} patch;

#define F RV_ERR_FORMAT
#define U RV_ERR_UNSUPPORTED
#define NEG(v) ((uint64_t)0 - (v))

static const patch patches[] = {
        /* header */
        {"bad magic", AT_MAGIC, 0, 4, 0x3f554747, F, "not a GGUF"},
        {"magic of spaces", AT_MAGIC, 0, 4, 0x20202020, F, "not a GGUF"},
        {"big-endian magic", AT_MAGIC, 0, 4, 0x47475546, F, "big-endian"},
        {"version 0", AT_VERSION, 0, 4, 0, F, "version 0"},
        {"version 1", AT_VERSION, 0, 4, 1, U, "version 1"},
        {"version 4", AT_VERSION, 0, 4, 4, U, "version 4"},
        {"version 2^32-1", AT_VERSION, 0, 4, 0xffffffff, U, "version 4294967295"},
        {"big-endian version 3", AT_VERSION, 0, 4, 0x03000000, U, "big-endian"},
        {"big-endian version 2", AT_VERSION, 0, 4, 0x02000000, U, "big-endian"},
        {"n_kv one more", AT_N_KV, 0, 8, SAMPLE_N_KV + 1, F, NULL},
        {"n_kv one fewer", AT_N_KV, 0, 8, SAMPLE_N_KV - 1, F, NULL},
        {"n_kv 0", AT_N_KV, 0, 8, 0, F, NULL},
        {"n_kv x 0x30 wraps", AT_N_KV, 0, 8, 0x55555555555555a, F, "keys"},
        {"n_kv 0x55555555555555a", AT_N_KV, 0, 8, 0x555555555555555a, F, "keys"},
        {"n_kv 1000", AT_N_KV, 0, 8, 1000, F, "keys"},
        {"n_tensors one fewer", AT_N_TENSORS, 0, 8, 2, F, "not zero"},
        {"n_tensors one more", AT_N_TENSORS, 0, 8, 4, F, NULL},
        {"n_tensors 1000", AT_N_TENSORS, 0, 8, 1000, F, "tensors"},
        {"n_tensors 2^63", AT_N_TENSORS, 0, 8, 1ull << 63, F, "tensors"},
        {"no tensors", AT_N_TENSORS, 0, 8, 0, F, "not zero"},
        /* keys */
        {"empty key", AT_KEY_LEN, 0, 8, 0, F, "empty"},
        {"key one longer", AT_KEY_LEN, 0, 8, 21, F, NULL},
        {"NUL in key", AT_KEY, 3, 1, 0, F, "NUL"},
        {"NUL ends key", AT_KEY, 19, 1, 0, F, "NUL"},
        {"value kind 13", AT_KEY_KIND, 0, 4, 13, F, "kind 13"},
        {"value kind 2^31", AT_KEY_KIND, 0, 4, 1u << 31, F, "kind"},
        {"value kind 2^32-1", AT_KEY_KIND, 0, 4, 0xffffffff, F, "kind"},
        {"string as array", AT_KEY_KIND, 0, 4, K_ARRAY, F, NULL},
        {"string as u8", AT_KEY_KIND, 0, 4, K_U8, F, NULL},
        {"bool of 2", AT_BOOL, 0, 1, 2, F, "not 0 or 1"},
        {"bool of 255", AT_BOOL, 0, 1, 255, F, "not 0 or 1"},
        {"bool of 3 in an array", AT_BOOLS, 1, 1, 3, F, "not 0 or 1"},
        {"u32 as array", AT_U32_KIND, 0, 4, K_ARRAY, F, NULL},
        {"element kind 13", AT_STRINGS_ELEM, 0, 4, 13, F, "kind 13"},
        {"element kind 2^32-1", AT_STRINGS_ELEM, 0, 4, 0xffffffff, F, "kind"},
        {"nested array", AT_STRINGS_ELEM, 0, 4, K_ARRAY, U, "nested"},
        {"one string more", AT_STRINGS_COUNT, 0, 8, 4, F, NULL},
        {"one string fewer", AT_STRINGS_COUNT, 0, 8, 2, F, NULL},
        {"float count x 4 wraps to 8", AT_FLOATS_COUNT, 0, 8, (1ull << 62) + 2, F,
         "values of kind f32"},
        {"string count x 8 wraps to 24", AT_STRINGS_COUNT, 0, 8, (1ull << 61) + 3, F,
         "values of kind string"},
        {"string count x 16 wraps", AT_STRINGS_COUNT, 0, 8, (1ull << 60) + 3, F,
         "values of kind string"},
        {"element kind unknown, count 2^60", AT_FLOATS_ELEM, 0, 4, 99, F, "kind 99"},
        /* tensor table */
        {"tensor name empty", AT_NAME_LEN, 0, 8, 0, F, "name"},
        {"tensor name of 65", AT_NAME_LEN, 0, 8, 65, F, "65 bytes"},
        {"NUL in tensor name", AT_NAME, 1, 1, 0, F, "NUL"},
        {"NUL ends tensor name", AT_NAME, 7, 1, 0, F, "NUL"},
        {"duplicate tensor", AT_NAME_1, 0, 1, 'a', F, "duplicate tensor 'a.weight'"},
        {"n_dims 0", AT_N_DIMS, 0, 4, 0, F, "0 dimensions"},
        {"n_dims 5", AT_N_DIMS, 0, 4, 5, F, "5 dimensions"},
        {"n_dims 2^31", AT_N_DIMS, 0, 4, 1u << 31, F, "dimensions"},
        {"n_dims 2^32-1", AT_N_DIMS, 0, 4, 0xffffffff, F, "dimensions"},
        {"n_dims one fewer", AT_N_DIMS, 0, 4, 1, F, NULL},
        {"dim 0 zero", AT_DIM0, 0, 8, 0, F, "dimension 0 is 0"},
        {"dim 1 zero", AT_DIM1, 0, 8, 0, F, "dimension 1 is 0"},
        {"dim 1 zero of a block type", AT_1_DIM1, 0, 8, 0, F, "dimension 1 is 0"},
        {"dim 2 zero", AT_2_DIM2, 0, 8, 0, F, "dimension 2 is 0"},
        {"dim 3 zero", AT_2_DIM3, 0, 8, 0, F, "dimension 3 is 0"},
        {"dim 0 negative", AT_DIM0, 0, 8, NEG(1), F, "dimension 0 is -1"},
        {"dim 1 negative", AT_DIM1, 0, 8, NEG(32), F, "dimension 1 is -32"},
        {"dim 0 INT64_MIN", AT_DIM0, 0, 8, 1ull << 63, F, "dimension 0"},
        {"dim 3 negative", AT_2_DIM3, 0, 8, NEG(2), F, "dimension 3 is -2"},
        {"dim 0 INT64_MAX", AT_DIM0, 0, 8, INT64_MAX, F, "overflow"},
        {"dim 0 2^62", AT_DIM0, 0, 8, 1ull << 62, F, "overflow"},
        {"elements fit, bytes wrap", AT_DIM0, 0, 8, 1ull << 61, F, "overflow"},
        {"dim 0 2^60", AT_DIM0, 0, 8, 1ull << 60, F, NULL},
        {"exabyte shape", AT_1_DIM1, 0, 8, 1ull << 55, F, NULL},
        {"product wraps to 0", AT_2_DIM3, 0, 8, 1ull << 61, F, "overflow"},
        {"product wraps to small", AT_2_DIM3, 0, 8, (1ull << 62) + 1, F, "overflow"},
        {"dim 1 one more", AT_DIM1, 0, 8, 3, F, "overlap"},
        {"dim 1 one fewer", AT_DIM1, 0, 8, 1, F, "gap"},
        {"last dim one more", AT_2_DIM3, 0, 8, 3, F, "truncated: expected"},
        {"last dim 2^32", AT_2_DIM3, 0, 8, 1ull << 32, F, "truncated: expected"},
        {"last dim 2^50", AT_2_DIM3, 0, 8, 1ull << 50, F, "truncated: expected"},
        {"block misfit 33", AT_1_DIM0, 0, 8, 33, F, "multiple of 32"},
        {"block misfit 1", AT_1_DIM0, 0, 8, 1, F, "multiple of 32"},
        {"block misfit Q4_K of 32", AT_1_TYPE, 0, 4, 12, F, "multiple of 256"},
        {"block misfit Q6_K of 32", AT_TYPE, 0, 4, 14, F, "multiple of 256"},
        {"type I32", AT_TYPE, 0, 4, 26, U, "type 26 (I32)"},
        {"type F64", AT_TYPE, 0, 4, 28, U, "type 28 (F64)"},
        {"type IQ4_XS", AT_1_TYPE, 0, 4, 23, U, "type 23 (IQ4_XS)"},
        {"type Q4_2", AT_1_TYPE, 0, 4, 4, U, "removed"},
        {"type names tensor", AT_1_TYPE, 0, 4, 29, U, "'b.weight'"},
        {"type 2^31", AT_TYPE, 0, 4, 1u << 31, U, "unknown type"},
        {"type 2^32-1", AT_TYPE, 0, 4, 0xffffffff, U, "unknown type"},
        {"type smaller", AT_TYPE, 0, 4, 1, F, "gap"},
        /* offsets */
        {"first offset 32", AT_OFFSET, 0, 8, 32, F, "gap"},
        {"first offset 1", AT_OFFSET, 0, 8, 1, F, "aligned"},
        {"first offset wraps into header", AT_OFFSET, 0, 8, NEG(32), F, "offset"},
        {"offset unaligned 1", AT_1_OFFSET, 0, 8, 257, F, "aligned"},
        {"offset unaligned 16", AT_1_OFFSET, 0, 8, 272, F, "aligned"},
        {"offset overlaps all", AT_1_OFFSET, 0, 8, 0, F, "overlap"},
        {"offset overlaps tail", AT_1_OFFSET, 0, 8, 224, F, "overlap"},
        {"offset leaves gap", AT_1_OFFSET, 0, 8, 288, F, "gap"},
        {"offset past the end", AT_2_OFFSET, 0, 8, 1 << 20, F, "gap"},
        {"offset 2^63", AT_2_OFFSET, 0, 8, 1ull << 63, F, "offset"},
        {"offset wraps to header", AT_2_OFFSET, 0, 8, NEG(384), F, "offset"},
        {"offset 2^64-1", AT_2_OFFSET, 0, 8, UINT64_MAX, F, "aligned"},
        /* good controls */
        {"unchanged", AT_VERSION, 0, 4, 3, RV_OK, NULL},
        {"version 2", AT_VERSION, 0, 4, 2, RV_OK, NULL},
        {"other letter in key", AT_KEY, 0, 1, 'x', RV_OK, NULL},
        {"other letter in name", AT_NAME, 0, 1, 'x', RV_OK, NULL},
        {"bool false", AT_BOOL, 0, 1, 0, RV_OK, NULL},
        {"u32 as i32", AT_U32_KIND, 0, 4, K_I32, RV_OK, NULL},
        {"floats as i32", AT_FLOATS_ELEM, 0, 4, K_I32, RV_OK, NULL},
        {"BF16 for F16", AT_2_TYPE, 0, 4, 30, RV_OK, NULL},
        {"padding between header and data not zero", AT_HEADER_END, 0, 1, 0xff, F, "not zero"},
        {"padding between tensors not zero", AT_DATA, 256 + 102, 1, 0xff, RV_OK, NULL},
        {"escape in key", AT_KEY, 2, 1, 0x1b, RV_OK, NULL},
};
#define N_PATCHES (sizeof patches / sizeof *patches)

static void test_patches(void **state) {
	(void)state;
	for (size_t i = 0; i < N_PATCHES; i++) {
		sample s = sample_file();
		memcpy(s.b.data + s.at[patches[i].at] + patches[i].delta, &patches[i].value,
		       patches[i].width);
		judge(patches[i].name, s.b.data, s.b.n, patches[i].status, patches[i].word);
		builder_free(&s.b);
	}
}

/* Every length and count of the format x every size that may wrap, or that the file cannot hold. */
static void test_huge_lengths(void **state) {
	(void)state;
	static const struct {
		const char *name;
		place at;
		const char *word;
	} fields[] = {
	        {"n_kv", AT_N_KV, "keys"},
	        {"n_tensors", AT_N_TENSORS, "tensors"},
	        {"key length", AT_KEY_LEN, "key"},
	        {"string length", AT_STRING_LEN, "general.architecture"},
	        {"string count", AT_STRINGS_COUNT, "a.strings"},
	        {"length of the first string", AT_STRINGS_FIRST_LEN, "a.strings"},
	        {"length of the last string", AT_STRINGS_LAST_LEN, "a.strings"},
	        {"float count", AT_FLOATS_COUNT, "a.floats"},
	        {"byte count", AT_BYTES_COUNT, "a.bytes"},
	        {"tensor name length", AT_NAME_LEN, "tensor name"},
	};
	static const uint64_t sizes[] = {
	        UINT64_MAX, UINT64_MAX - 7, UINT64_MAX - 23, 1ull << 63,         INT64_MAX,
	        1ull << 62, 1ull << 61,     1ull << 60,      0x5555555555555555, 1ull << 48,
	        1ull << 32, 0xffffffff,     1ull << 31,      1ull << 30,         1 << 20};
	char name[128];
	for (size_t f = 0; f < sizeof fields / sizeof *fields; f++) {
		for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
			sample s = sample_file();
			snprintf(name, sizeof name, "%s %#llx", fields[f].name,
			         (unsigned long long)sizes[i]);
			memcpy(s.b.data + s.at[fields[f].at], &sizes[i], 8);
			judge(name, s.b.data, s.b.n, F, fields[f].word);
			builder_free(&s.b);
		}
	}
}

/* Every type number: those of the table are accepted, all others refused by number and tensor. */
static void test_type_numbers(void **state) {
	(void)state;
	char name[64];
	int accepted = 0;
	for (uint32_t number = 0; number < 300; number++) {
		const rv_type_info *info = number < RV_TYPE_LIMIT ? rv_type_get((int)number) : NULL;
		builder b = {0};
		put_header(&b, 3, 1, 0);
		put_tensor(&b, "some.weight", number, 1, (uint64_t[]){256}, 0);
		put_pad(&b, 32);
		put_zeros(&b, 1024);
		snprintf(name, sizeof name, "type %u", number);
		judge(name, b.data, b.n, info ? RV_OK : U, name);
		if (!info)
			assert_non_null(strstr(rv_error_message(), "some.weight"));
		accepted += info != NULL;
		builder_free(&b);
	}
	assert_int_equal(accepted, 13);
}

/* ---- alignments ---- */

static void judge_alignment(const char *name, uint32_t kind, uint64_t value, size_t width,
                            uint64_t second, rv_status status, const char *word) {
	builder b = {0};
	put_header(&b, 3, 2, 1);
	put_key(&b, "general.alignment", kind);
	put_int(&b, value, width);
	put_tensor(&b, "a", 0, 1, (uint64_t[]){1}, 0);
	put_tensor(&b, "b", 0, 1, (uint64_t[]){1}, second);
	size_t alignment = value && value <= 1 << 21 ? value : 32;
	put_pad(&b, alignment);
	put_zeros(&b, alignment + 32);
	judge(name, b.data, b.n, status, word);
	builder_free(&b);
}

static void test_alignments(void **state) {
	(void)state;
	for (uint32_t a = 8; a <= 1u << 21; a *= 2)
		judge_alignment("good alignment", K_U32, a, 4, a, RV_OK, NULL);
	judge_alignment("alignment 0", K_U32, 0, 4, 32, F, "alignment 0");
	judge_alignment("alignment 1", K_U32, 1, 4, 32, F, "alignment 1");
	judge_alignment("alignment 3", K_U32, 3, 4, 32, F, "alignment 3");
	judge_alignment("alignment 13", K_U32, 13, 4, 26, F, "alignment 13");
	judge_alignment("alignment 33", K_U32, 33, 4, 33, F, "alignment 33");
	judge_alignment("alignment 48", K_U32, 48, 4, 48, F, "power of two");
	judge_alignment("alignment 2^31", K_U32, 1u << 31, 4, 32, F, "power of two");
	judge_alignment("alignment 2^32-1", K_U32, 0xffffffff, 4, 32, F, "power of two");
	judge_alignment("alignment 2^22", K_U32, 1 << 22, 4, 1 << 22, F, "power of two");
	judge_alignment("alignment i32", K_I32, 32, 4, 32, F, "not u32");
	judge_alignment("alignment u64", K_U64, 32, 8, 32, F, "not u32");
	judge_alignment("alignment u8", K_U8, 32, 1, 32, F, "not u32");
	judge_alignment("alignment f32", K_F32, 0x42000000, 4, 32, F, "not u32");
	judge_alignment("alignment bool", K_BOOL, 1, 1, 32, F, "not u32");
	judge_alignment("alignment string", K_STRING, 0, 8, 32, F, "not u32");
	judge_alignment("offsets by another alignment", K_U32, 64, 4, 32, F, "aligned");
	judge_alignment("offsets by a wider alignment", K_U32, 32, 4, 64, F, "gap");
}

/* ---- files that are something else ---- */

static void test_lookalikes(void **state) {
	(void)state;
	static const struct {
		const char *name, *bytes;
		size_t size;
		const char *word;
	} cases[] = {
#define TEXT(s) s, sizeof s - 1
	        {"empty", TEXT(""), "empty"},
	        {"one byte", TEXT("G"), "not a GGUF"},
	        {"three bytes", TEXT("GGU"), "not a GGUF"},
	        {"magic only", TEXT("GGUF"), "truncated"},
	        {"half a version", TEXT("GGUF\3\0"), "truncated"},
	        {"git-lfs pointer",
	         TEXT("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"), "git-lfs"},
	        {"HTML page", TEXT("<!DOCTYPE html>\n<html><head>"), "HTML"},
	        {"HTML page after blanks", TEXT("\xef\xbb\xbf\r\n  <HTML lang=en>"), "HTML"},
	        {"XML", TEXT("<?xml version=\"1.0\"?><Error/>"), "XML"},
	        {"JSON", TEXT("{\"error\": \"not found\"}"), "JSON"},
	        {"safetensors", TEXT("\x40\0\0\0\0\0\0\0{\"a\":{}}"), "safetensors"},
	        {"ZIP", TEXT("PK\3\4 archive"), "ZIP"},
	        {"gzip", TEXT("\x1f\x8b\x08\0\0"), "gzip"},
	        {"zstd", TEXT("\x28\xb5\x2f\xfd\0\0"), "zstd"},
	        {"xz",
	         TEXT("\xfd"
	              "7zXZ\0"),
	         "xz"},
	        {"ggml", TEXT("lmgg\1\0\0\0"), "old ggml"},
	        {"ggjt", TEXT("tjgg\3\0\0\0"), "old ggjt"},
	        {"text", TEXT("hello, world"), "not 'GGUF'"},
	        {"zeros", TEXT("\0\0\0\0\0\0\0\0\0\0\0\0"), "not 'GGUF'"},
#undef TEXT
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		judge(cases[i].name, (const uint8_t *)cases[i].bytes, cases[i].size, F, cases[i].word);
}

/* ---- larger constructions ---- */

static void test_nested_deep(void **state) {
	(void)state;
	builder b = {0};
	put_header(&b, 3, 1, 1);
	put_key(&b, "deep", K_ARRAY);
	for (int i = 0; i < 200000; i++) {
		put_u32(&b, K_ARRAY);
		put_u64(&b, 1);
	}
	judge("nested 200000 deep", b.data, b.n, U, "nested");
	builder_free(&b);
}

static void test_duplicate_keys(void **state) {
	(void)state;
	for (int apart = 0; apart < 2000; apart += 667) {
		char key[32];
		builder b = {0};
		put_header(&b, 3, 0, 2 + (uint64_t)apart);
		for (int i = 0; i < 2 + apart; i++) {
			snprintf(key, sizeof key, "key.%d", i == 1 + apart ? 0 : i * 7919 % 10007);
			put_key(&b, key, K_U8);
			put_int(&b, 1, 1);
		}
		judge("duplicate key", b.data, b.n, F, "duplicate key 'key.0'");
		builder_free(&b);
	}
}

static void test_prefix_is_no_duplicate(void **state) {
	(void)state;
	builder b = {0};
	put_header(&b, 3, 1, 3);
	const char *keys[3] = {"aa", "a", "aaa"};
	for (int i = 0; i < 3; i++) {
		put_key(&b, keys[i], K_U8);
		put_int(&b, 1, 1);
	}
	put_tensor(&b, "t", 0, 1, (uint64_t[]){1}, 0);
	put_pad(&b, 32);
	put_zeros(&b, 4);
	judge("a key that begins another", b.data, b.n, RV_OK, NULL);
	put(&b, "trailing bytes", 14);
	judge("trailing bytes", b.data, b.n, RV_OK, NULL);
	builder_free(&b);
}

static void test_sum_overflow(void **state) {
	(void)state;
	builder b = {0};
	put_header(&b, 3, 3, 0);
	for (uint64_t i = 0; i < 3; i++)
		put_tensor(&b,
		           i == 0   ? "a"
		           : i == 1 ? "b"
		                    : "c",
		           0, 1, (uint64_t[]){1ull << 60}, i << 62);
	put_zeros(&b, 100);
	judge("sizes that fit but sum to 3 * 2^62", b.data, b.n, F, "truncated: expected");
	builder_free(&b);
	put_header(&b, 3, 5, 0);
	for (uint64_t i = 0; i < 5; i++) {
		char name[2] = {(char)('a' + i), 0};
		put_tensor(&b, name, 0, 1, (uint64_t[]){1ull << 60}, i << 62);
	}
	put_zeros(&b, 100);
	judge("sizes whose sum wraps to 2^62", b.data, b.n, F, "overflow");
	builder_free(&b);
}

static void test_long_names(void **state) {
	(void)state;
	char long_key[70000], name[66];
	memset(long_key, '\x1b', sizeof long_key);
	memset(name, 'n', sizeof name);
	for (size_t len = 63; len <= 65; len++) {
		builder b = {0};
		put_header(&b, 3, 1, 0);
		put_text(&b, name, len);
		put_u32(&b, 1);
		put_u64(&b, 1);
		put_u32(&b, 0);
		put_u64(&b, 0);
		put_pad(&b, 32);
		put_zeros(&b, 4);
		judge("long tensor name", b.data, b.n, len <= 64 ? RV_OK : F, "65 bytes");
		builder_free(&b);
	}
	for (size_t len = 65535; len <= 65536; len++) {
		builder b = {0};
		put_header(&b, 3, 0, 1);
		put_text(&b, long_key, len);
		put_u32(&b, len == 65535 ? 77 : K_U8);
		put_int(&b, 1, 1);
		judge("long key", b.data, b.n, F, len == 65535 ? "\\x1b" : "65536 bytes");
		builder_free(&b);
	}
}

/* ---- 10^6 keys: no quadratic time, bounded memory ---- */

static uint32_t scatter(uint32_t i) {
	return i * 2654435761u; /* odd: a permutation */
}

static void put_many_keys(builder *b, uint32_t n, int duplicate) {
	char key[16];
	put_header(b, 3, 0, n);
	for (uint32_t i = 0; i < n; i++) {
		snprintf(key, sizeof key, "%08x", scatter(duplicate && i == n - 1 ? 0 : i));
		put_key(b, key, K_U8);
		put_int(b, 1, 1);
	}
}

static void test_million_keys(void **state) {
	(void)state;
	for (int duplicate = 0; duplicate < 2; duplicate++) {
		builder b = {0};
		rv_gguf *g;
		put_many_keys(&b, 1000000, duplicate);
		heap_asked = 0;
		int64_t start = (int64_t)clock();
		rv_status status =
		        rv_gguf_open_memory(&g, b.data, b.n, "many.gguf", RV_GGUF_VOCAB_ONLY_OK);
		double seconds = (double)((int64_t)clock() - start) / CLOCKS_PER_SEC;
		assert_int_equal(status, duplicate ? F : RV_OK);
		if (seconds > 20) /* about 1 s; the sanitizers slow it down */
			fail_msg("10^6 keys took %.1f s", seconds);
		assert_true(heap_asked < (size_t)56 << 20);
		if (status == RV_OK) {
			char key[16];
			for (uint32_t i = 0; i < 1000000; i += 9973) {
				snprintf(key, sizeof key, "%08x", scatter(i));
				assert_ptr_equal(rv_gguf_find(g, key), rv_gguf_kv_at(g, i));
			}
			rv_gguf_close(g);
		}
		builder_free(&b);
	}
	builder b = {0};
	rv_gguf *g;
	put_many_keys(&b, 1100000, 0);
	heap_asked = 0;
	assert_int_equal(rv_gguf_open_memory(&g, b.data, b.n, "many.gguf", RV_GGUF_VOCAB_ONLY_OK),
	                 RV_ERR_LIMIT);
	assert_true(heap_asked < 4096);
	builder_free(&b);
}

/* ---- sweeps ---- */

static void test_truncation(void **state) {
	(void)state;
	sample s = sample_file();
	for (size_t size = 0; size < s.at[AT_DATA_END]; size++) /* every byte, so every boundary */
		judge("cut", s.b.data, size, F, NULL);
	for (size_t size = s.at[AT_DATA_END]; size <= s.b.n; size++)
		judge("cut in the last padding", s.b.data, size, RV_OK, NULL);
	judge("cut in the data", s.b.data, s.at[AT_DATA_END] - 1, F, "expected at least");
	char expected[64];
	snprintf(expected, sizeof expected, "%zu bytes, actual size %zu", s.at[AT_DATA_END],
	         s.at[AT_DATA_END] - 1);
	assert_non_null(strstr(rv_error_message(), expected));
	builder_free(&s.b);
}

/* 500 random cuts of a file on disk, through the map. */
static void test_truncated_files(void **state) {
	(void)state;
	char path[512], *whole;
	const char *dir = getenv("RV_REFERENCE"), *tmp = getenv("TMPDIR");
	size_t size;
	snprintf(path, sizeof path, "%s/models/stories260K.q8_0-mixed.gguf",
	         dir ? dir : "../shared/reference");
	if (access(path, R_OK) != 0)
		skip();
	assert_int_equal(rv_file_read(path, 1 << 24, &whole, &size), RV_OK);
	snprintf(path, sizeof path, "%s/rv-cut-XXXXXX", tmp ? tmp : "/tmp");
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, whole, size), size);
	rv_rng rng;
	rv_rng_seed(&rng, 20240917);
	size_t at = size;
	for (int i = 0; i < 500 && at; i++) {
		rv_gguf *g = NULL;
		at = i < 250 ? at - 1 - rv_rng_below(&rng, size / 300) : rv_rng_below(&rng, at);
		assert_int_equal(ftruncate(fd, (off_t)at), 0);
		assert_int_equal(rv_gguf_open(&g, path, RV_GGUF_DEFAULT), F);
		assert_null(g);
		if (i >= 250 && at < 24) { /* start again from the whole */
			assert_int_equal(pwrite(fd, whole, size, 0), size);
			at = size;
		}
	}
	close(fd);
	unlink(path);
	rv_free(whole);
}

/* Reads everything an open file offers, so that the sanitizer sees any wrong extent. */
static unsigned touch_all(const rv_gguf *g) {
	unsigned sum = 0;
	for (size_t i = 0; i < rv_gguf_n_kv(g); i++) {
		const rv_gguf_kv *kv = rv_gguf_kv_at(g, i);
		char key[256];
		rv_str *strings = NULL;
		size_t n;
		int64_t v;
		for (size_t k = 0; k < kv->n_bytes; k++)
			sum += kv->bytes[k];
		snprintf(key, sizeof key, "%.*s", (int)kv->key.len, kv->key.data);
		sum += rv_gguf_int(g, key, 0, 100, &v) == RV_OK;
		if (rv_gguf_strings(g, key, &strings, &n) == RV_OK)
			for (size_t k = 0; k < n; k++)
				sum += strings[k].len ? (unsigned)strings[k].data[strings[k].len - 1]
				                      : 0;
		rv_free(strings);
	}
	for (size_t i = 0; i < rv_gguf_n_tensors(g); i++) {
		const rv_gguf_tensor *t = rv_gguf_tensor_at(g, i);
		for (size_t k = 0; k < t->n_bytes; k++)
			sum += t->data[k];
	}
	return sum;
}

static void test_bit_flips(void **state) {
	(void)state;
	sample s = sample_file();
	unsigned opened = 0, refused = 0, sum = 0;
	uint8_t *copy = malloc(s.b.n);
	for (size_t at = 0; at < s.at[AT_DATA]; at++) {
		for (int flip = 0; flip < 10; flip++) { /* each bit, all, and the low half */
			rv_gguf *g;
			memcpy(copy, s.b.data, s.b.n);
			copy[at] ^= (uint8_t)(flip < 8 ? 1u << flip : flip == 8 ? 0xff : 0x0f);
			if (rv_gguf_open_memory(&g, copy, s.b.n, "flipped", RV_GGUF_DEFAULT) == RV_OK) {
				sum += touch_all(g);
				rv_gguf_close(g);
				opened++;
			} else {
				refused++;
			}
		}
	}
	assert_true(opened > 100 && refused > 1000 && sum > 0);
	free(copy);
	builder_free(&s.b);
}

/* Every input of the fuzz corpus, regressions included. */
static void test_fuzz_corpus(void **state) {
	(void)state;
	const char *dir = "tests/fuzz/corpus/gguf";
	DIR *d = opendir(dir);
	assert_non_null(d);
	int n = 0;
	for (struct dirent *e; (e = readdir(d));) {
		char path[600], *data;
		size_t size;
		rv_gguf *g;
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
		assert_int_equal(rv_file_read(path, 1 << 20, &data, &size), RV_OK);
		if (rv_gguf_open_memory(&g, data, size, "corpus", RV_GGUF_VOCAB_ONLY_OK) == RV_OK) {
			touch_all(g);
			rv_gguf_close(g);
		}
		rv_free(data);
		n++;
	}
	closedir(d);
	assert_true(n >= 5);
}

/* ---- paths that are no regular file ---- */

static void test_odd_paths(void **state) {
	(void)state;
	char dir[256], path[300];
	const char *tmp = getenv("TMPDIR");
	snprintf(dir, sizeof dir, "%s/rv-odd-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(dir));
	rv_gguf *g = NULL;
	assert_int_not_equal(rv_gguf_open(&g, dir, RV_GGUF_DEFAULT), RV_OK);
	assert_non_null(strstr(rv_error_message(), "directory"));
	assert_int_not_equal(rv_gguf_open(&g, "/dev/zero", RV_GGUF_DEFAULT), RV_OK);
	assert_int_not_equal(rv_gguf_open(&g, "/dev/null", RV_GGUF_DEFAULT), RV_OK);
	assert_int_not_equal(rv_gguf_open(&g, "", RV_GGUF_DEFAULT), RV_OK);
	snprintf(path, sizeof path, "%s/absent", dir);
	assert_int_equal(rv_gguf_open(&g, path, RV_GGUF_DEFAULT), RV_ERR_NOT_FOUND);
	snprintf(path, sizeof path, "%s/loop", dir);
	assert_int_equal(symlink(path, path), 0);
	assert_int_not_equal(rv_gguf_open(&g, path, RV_GGUF_DEFAULT), RV_OK);
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_not_equal(rv_gguf_open(&g, path, RV_GGUF_DEFAULT), RV_OK);
	unlink(path);
	FILE *f = fopen(path, "w");
	fclose(f);
	assert_int_equal(rv_gguf_open(&g, path, RV_GGUF_DEFAULT), F);
	assert_non_null(strstr(rv_error_message(), "empty"));
	unlink(path);
	rmdir(dir);
	assert_null(g);
}

static void test_number_of_cases(void **state) {
	(void)state;
	assert_true(N_PATCHES >= 100);
	assert_true(n_cases >= 1000);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_patches),         cmocka_unit_test(test_huge_lengths),
	        cmocka_unit_test(test_type_numbers),    cmocka_unit_test(test_alignments),
	        cmocka_unit_test(test_lookalikes),      cmocka_unit_test(test_nested_deep),
	        cmocka_unit_test(test_duplicate_keys),  cmocka_unit_test(test_prefix_is_no_duplicate),
	        cmocka_unit_test(test_sum_overflow),    cmocka_unit_test(test_long_names),
	        cmocka_unit_test(test_million_keys),    cmocka_unit_test(test_truncation),
	        cmocka_unit_test(test_truncated_files), cmocka_unit_test(test_bit_flips),
	        cmocka_unit_test(test_fuzz_corpus),     cmocka_unit_test(test_odd_paths),
	        cmocka_unit_test(test_number_of_cases),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
