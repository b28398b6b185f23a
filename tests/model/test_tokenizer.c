/* Tokenizers against published vectors, by round trips, and by properties. */
#include "base/mem.h"
#include "base/rng.h"
#include "base/sysinfo.h"
#include "model/tokenizer.h"
#include "tests/model/tokenizer_samples.h"
#include "tests/support/reference.h"

/* ---- reference vocabularies ---- */

typedef struct reference {
	const char *name, *file, *vectors;
} reference;

static const reference references[] = {
        {"qwen2.5", "tokenizers/qwen2.5/tokenizer.json", "tokenizers/qwen2.5/vectors"},
        {"gpt-2", "tokenizers/gpt-2/ggml-vocab-gpt-2.gguf", "tokenizers/gpt-2/vectors"},
        {"llama-spm", "tokenizers/llama-spm/ggml-vocab-llama-spm.gguf", "tokenizers/llama-spm/vectors"},
};
#define N_REFERENCES 3

static rv_tokenizer *open_reference(const char *file) {
	char path[1024];
	rv_tokenizer *t = NULL;
	if (!reference_path(path, file))
		skip();
	assert_ok(rv_tokenizer_open(&t, path, NULL));
	return t;
}

/* ids as the vectors write them. */
static void format_ids(const int32_t *ids, size_t n, char *out, size_t cap) {
	size_t at = 0;
	for (size_t i = 0; i < n; i++)
		at += (size_t)snprintf(out + at, cap - at, " %d", ids[i]);
	out[at] = '\0';
}

static int decodes_to(const rv_tokenizer *t, const int32_t *ids, size_t n, const char *text,
                      size_t len) {
	char *back;
	size_t back_len;
	assert_ok(rv_tokenizer_decode(t, ids, n, 1, 1, &back, &back_len));
	int same = back_len == len && memcmp(back, text, len) == 0;
	rv_free(back);
	return same;
}

/* Encodes a vector's text; 1 when ids and the decoded text are right. */
static int vector_holds(const rv_tokenizer *t, const char *text, size_t len, const char *wanted) {
	static char line[1 << 16];
	rv_encode_options o = {.add_bos = 0};
	int32_t *ids;
	size_t n;
	assert_ok(rv_tokenizer_encode(t, text, len, &o, &ids, &n));
	format_ids(ids, n, line, sizeof line);
	while (*wanted == ' ')
		wanted++;
	const char *got = *line ? line + 1 : line;
	int ok = strcmp(got, wanted) == 0;
	if (!ok)
		print_message("text '%.*s'\n  wanted %s\n  got    %s\n", (int)len, text, wanted, got);
	ok &= decodes_to(t, ids, n, text, len);
	rv_free(ids);
	return ok;
}

static int run_vectors(const rv_tokenizer *t, const char *base, int *total) {
	static const char separator[] = "\n__ggml_vocab_test__\n";
	char name[256];
	size_t n_in, n_out;
	snprintf(name, sizeof name, "%s.inp", base);
	char *in = reference_bytes(name, &n_in);
	snprintf(name, sizeof name, "%s.out", base);
	char *out = reference_bytes(name, &n_out);
	assert_true(in && out);
	int ok = 0;
	char *text = in, *line = out;
	*total = 0;
	for (char *next; (next = strstr(text, separator)); text = next + sizeof separator - 1) {
		char *newline = strchr(line, '\n');
		assert_non_null(newline);
		*newline = '\0';
		ok += vector_holds(t, text, (size_t)(next - text), line);
		line = newline + 1;
		++*total;
	}
	free(in);
	free(out);
	return ok;
}

static void test_vectors(void **state) {
	(void)state;
	for (int i = 0; i < N_REFERENCES; i++) {
		int total;
		rv_tokenizer *t = open_reference(references[i].file);
		int ok = run_vectors(t, references[i].vectors, &total);
		print_message("%s: %d of %d\n", references[i].name, ok, total);
		assert_int_equal(total, 46);
		assert_int_equal(ok, 46);
		rv_tokenizer_destroy(t);
	}
}

/* Negative control: the vectors of one vocabulary fail with another. */
static void test_vectors_can_fail(void **state) {
	(void)state;
	rv_encode_options o = {.add_bos = 0};
	rv_tokenizer *t = open_reference(references[1].file);
	int32_t *ids;
	size_t n;
	char line[64];
	assert_ok(rv_tokenizer_encode(t, "Hello", 5, &o, &ids, &n));
	format_ids(ids, n, line, sizeof line);
	assert_string_equal(line, " 15496");
	assert_false(decodes_to(t, ids, n, "hello", 5));
	rv_free(ids);
	rv_tokenizer_destroy(t);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_vectors),
	        cmocka_unit_test(test_vectors_can_fail),
	};
	return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
