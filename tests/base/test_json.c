/* JSON with the house's limits. */
#include "base_test.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

#include <locale.h>
#include <math.h>

static _Atomic int allocations, alloc_fails_at;
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size) {
	return ++allocations == alloc_fails_at ? NULL : __real_aligned_alloc(alignment, size);
}

static temp_dir dir;

static int setup(void **state) {
	(void)state;
	temp_dir_make(&dir);
	return 0;
}

static int teardown(void **state) {
	(void)state;
	remove_tree(dir.path);
	return 0;
}

static json_t *parse(const char *text) {
	json_t *value;
	assert_ok(rv_json_parse(text, strlen(text), "test", &value));
	return value;
}

static void accepts_one_value(void **state) {
	(void)state;
	static const char *const texts[] = {"{}",         "[]",
	                                    " 1 ",        "\"s\"",
	                                    "null",       "[1,2.5,\"\\u00e4\"]",
	                                    "{\"a\":{}}", "\"[[[{{{\\\"[[\""};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		json_decref(parse(texts[i]));
}

static void refuses_with_a_place(void **state) {
	(void)state;
	static const struct {
		const char *text, *part;
	} rows[] = {
	        {"", "test:1:"},
	        {"{\"a\":1,\"a\":2}", "duplicate"},
	        {"[1] x", "test:1:"},
	        {"[1,]", "test:1:"},
	        {"{\n\"a\": tru\n}", "test:2:"},
	        {"\"\xff\"", "test:1:"},
	        {"\"\xc0\xaf\"", "test:1:"},
	        {"NaN", "test:1:"},
	        {"[Infinity]", "test:1:"},
	        {"1e999", "overflow"},
	        {"9223372036854775808", "too big"},
	        {"\"\\ud800\"", "test:1:"},
	        {"[1", "test:1:"},
	        {"\"abc", "test:1:"},
	        {"\xef\xbb\xbf{}", "test:1:"},
	        {"\"a\nb\"", "test:1:"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		json_t *value = json_null();
		assert_fails(rv_json_parse(rows[i].text, strlen(rows[i].text), "test", &value),
		             RV_ERR_FORMAT, rows[i].part);
		assert_null(value);
	}
	json_t *value;
	assert_fails(rv_json_parse("[1]\0", 4, "test", &value), RV_ERR_FORMAT, "test:1:");
	assert_fails(rv_json_parse(NULL, 0, "test", &value), RV_ERR_FORMAT, "test:1:");
}

/* `depth` brackets of the kinds in `open`, closed again. */
static rv_status parse_nested(int depth, const char *open) {
	size_t n = strlen(open);
	char *text = malloc((size_t)depth * 8 + 16), *p = text;
	json_t *value = NULL;
	assert_non_null(text);
	for (int i = 0; i < depth; i++) {
		char c = open[(size_t)i % n];
		*p++ = c;
		if (c == '{')
			p = stpcpy(p, "\"k\":");
	}
	*p++ = '1';
	for (int i = depth; i--;)
		*p++ = open[(size_t)i % n] == '{' ? '}' : ']';
	rv_status status = rv_json_parse(text, (size_t)(p - text), "deep", &value);
	json_decref(value);
	free(text);
	return status;
}

static void depth_is_bounded(void **state) {
	(void)state;
	static const char *const kinds[] = {"[", "{", "[{"};
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		assert_ok(parse_nested(RV_JSON_MAX_DEPTH, kinds[i]));
		assert_fails(parse_nested(RV_JSON_MAX_DEPTH + 1, kinds[i]), RV_ERR_FORMAT,
		             "nested deeper than 64");
		assert_fails(parse_nested(300000, kinds[i]), RV_ERR_FORMAT, "deep:1:");
	}
	/* Unclosed, and after strings made to mislead the scan. */
	char *text = malloc(200100);
	json_t *value;
	assert_non_null(text);
	char *p = stpcpy(text, "[\"]\\\\\", \"\\\"\",\n");
	memset(p, '[', 200000);
	p[200000] = '\0';
	assert_fails(rv_json_parse(text, strlen(text), "deep", &value), RV_ERR_FORMAT, "deep:2:64:");
	free(text);
}

static void integers_are_exact(void **state) {
	(void)state;
	json_t *o = parse(
	        "{\"big\":9007199254740993,\"max\":9223372036854775807,\"min\":-9223372036854775808,"
	        "\"real\":3.0,\"s\":\"3\",\"t\":true,\"n\":null,\"x\":0.1}");
	int64_t i = 77;
	double d = 77;
	const char *s = NULL;
	int b = 77;
	assert_ok(rv_json_int(o, "f", "big", INT64_MIN, INT64_MAX, &i));
	assert_true(i == 9007199254740993);
	assert_ok(rv_json_int(o, "f", "max", INT64_MIN, INT64_MAX, &i));
	assert_true(i == INT64_MAX);
	assert_ok(rv_json_int(o, "f", "min", INT64_MIN, INT64_MAX, &i));
	assert_true(i == INT64_MIN);
	i = 77;
	assert_fails(rv_json_int(o, "f", "big", 0, 100, &i), RV_ERR_FORMAT,
	             "f: key 'big' is 9007199254740993, not within 0..100");
	assert_fails(rv_json_int(o, "f", "real", 0, 100, &i), RV_ERR_FORMAT,
	             "a real number, not an integer");
	assert_fails(rv_json_int(o, "f", "s", 0, 100, &i), RV_ERR_FORMAT, "a string, not an integer");
	assert_fails(rv_json_int(o, "f", "none", 0, 100, &i), RV_ERR_NOT_FOUND,
	             "f: key 'none' is missing");
	assert_true(i == 77);
	assert_ok(rv_json_double(o, "f", "x", &d));
	assert_true(d == 0.1);
	assert_ok(rv_json_double(o, "f", "real", &d));
	assert_ok(rv_json_double(o, "f", "max", &d));
	d = 77;
	assert_fails(rv_json_double(o, "f", "n", &d), RV_ERR_FORMAT, "null, not a number");
	assert_int_equal(rv_json_double(o, "f", "none", &d), RV_ERR_NOT_FOUND);
	assert_true(d == 77);
	assert_ok(rv_json_string(o, "f", "s", &s));
	assert_string_equal(s, "3");
	assert_fails(rv_json_string(o, "f", "t", &s), RV_ERR_FORMAT, "true, not a string");
	assert_ok(rv_json_bool(o, "f", "t", &b));
	assert_int_equal(b, 1);
	assert_fails(rv_json_bool(o, "f", "big", &b), RV_ERR_FORMAT, "an integer, not true or false");
	json_decref(o);
	json_t *list = parse("[1]");
	assert_fails(rv_json_int(list, "f", "a", 0, 1, &i), RV_ERR_FORMAT,
	             "f: is an array, not an object");
	assert_fails(rv_json_int(NULL, "f", "a", 0, 1, &i), RV_ERR_FORMAT, "f: is missing");
	json_decref(list);
}

static void files_round_trip(void **state) {
	(void)state;
	char text[256];
	const char *path = temp_path(&dir, "f.json");
	json_t *value = parse("{\"z\":1,\"a\":[0.1,1e300,\"ä\\n\",false],\"i\":9007199254740993}"),
	       *back;
	assert_ok(rv_json_write(path, value));
	slurp(path, text, sizeof text);
	assert_int_equal(text[strlen(text) - 1], '\n');
	assert_non_null(strstr(text, "\n  \"z\": 1"));
	assert_ok(rv_json_read(path, 1000, &back));
	assert_true(json_equal(value, back));
	json_object_set_new(back, "i", json_integer(9007199254740992)); /* negative control */
	assert_false(json_equal(value, back));
	json_decref(back);
	assert_fails(rv_json_read(path, 10, &back), RV_ERR_LIMIT, path);
	assert_fails(rv_json_read(temp_path(&dir, "none"), 10, &back), RV_ERR_NOT_FOUND, "none");
	assert_null(back);
	assert_fails(rv_json_write("/dev/full", value), RV_ERR_IO, "/dev/full");
	spit(path, "[1,\n2,}");
	assert_fails(rv_json_read(path, 100, &back), RV_ERR_FORMAT, "f.json:2:");
	for (int n = 1;; n++) {
		alloc_fails_at = n;
		allocations = 0;
		rv_status status = rv_json_write(path, value);
		alloc_fails_at = 0;
		if (status == RV_OK)
			break;
		assert_int_equal(status, RV_ERR_NO_MEMORY);
		assert_string_equal(slurp(path, text, sizeof text), "[1,\n2,}");
		assert_int_equal(entries(dir.path), 1);
	}
	json_decref(value);
}

static void standard_output(void **state) {
	(void)state;
	char text[64];
	json_t *value = parse("[1]");
	fflush(stdout);
	int saved = dup(1), ends[2];
	assert_int_equal(pipe(ends), 0);
	dup2(ends[1], 1);
	rv_status status = rv_json_write("-", value);
	dup2(saved, 1);
	close(saved);
	close(ends[1]);
	assert_ok(status);
	ssize_t n = read(ends[0], text, sizeof text - 1);
	close(ends[0]);
	text[n > 0 ? n : 0] = '\0';
	assert_string_equal(text, "[\n  1\n]\n");
	json_decref(value);
}

#define json_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
	const struct CMUnitTest tests[] = {
	        json_test(accepts_one_value), json_test(refuses_with_a_place),
	        json_test(depth_is_bounded),  json_test(integers_are_exact),
	        json_test(files_round_trip),  json_test(standard_output),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
