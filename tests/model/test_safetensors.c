/* The safetensors reader: what it accepts, and the table of what it refuses, each with its reason. */
#include "model/safetensors.h"
#include "tests/model/files.h"

#include "base/json.h"

/* ---- files in memory ---- */

/* length, header text, `data` bytes counting up; malloc'd */
static uint8_t *make_file(const char *header, size_t data, size_t *size) {
	uint64_t length = strlen(header);
	*size = sizeof length + (size_t)length + data;
	uint8_t *bytes = malloc(*size);
	assert_non_null(bytes);
	memcpy(bytes, &length, sizeof length);
	memcpy(bytes + sizeof length, header, (size_t)length);
	for (size_t i = 0; i < data; i++)
		bytes[sizeof length + length + i] = (uint8_t)i;
	return bytes;
}

static int is_refused(const void *data, size_t size, rv_status status, const char *word) {
	rv_safetensors *st = (rv_safetensors *)(uintptr_t)1;
	rv_status got = rv_safetensors_open_memory(&st, data, size, "bad.safetensors");
	if (got == RV_OK) {
		rv_safetensors_close(st);
		return 0;
	}
	int right = got == status && !st && strstr(rv_error_message(), word) &&
	            strstr(rv_error_message(), "bad.safetensors");
	if (!right)
		print_message("# %s, not %s with '%s': %s\n", rv_status_text(got),
		              rv_status_text(status), word, rv_error_message());
	return right;
}

#define T(dtype, shape, offsets)                                                                       \
	"{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

/* clang-format off */
static const char good_header[] =
	"{\"__metadata__\":{\"format\":\"pt\"},"
	"\"b\":" T("F16", "[2,3]", "[16,28]") ","
	"\"a\":" T("F32", "[4]", "[0,16]") ","
	"\"c\":" T("BF16", "[]", "[28,30]") ","
	"\"empty\":" T("F32", "[0,5]", "[28,28]") "}   ";
/* clang-format on */

static void reads_a_file(void **state) {
	(void)state;
	size_t size;
	uint8_t *bytes = make_file(good_header, 30, &size);
	rv_safetensors *st;
	assert_ok(rv_safetensors_open_memory(&st, bytes, size, "good"));
	assert_int_equal(rv_safetensors_n_tensors(st), 4);
	assert_int_equal(rv_safetensors_bytes(st), 30);
	const rv_safetensor *a = rv_safetensors_find(st, "a"), *b = rv_safetensors_find(st, "b"),
	                    *c = rv_safetensors_find(st, "c"), *e = rv_safetensors_find(st, "empty");
	assert_ptr_equal(a, rv_safetensors_at(st, 0));
	assert_int_equal(a->type, RV_F32);
	assert_int_equal(a->n_dims, 1);
	assert_int_equal(a->data[0], 0);
	assert_int_equal(b->type, RV_F16);
	assert_int_equal(b->n_dims, 2);
	assert_int_equal(b->shape[0], 2);
	assert_int_equal(b->shape[1], 3);
	assert_int_equal(b->n_bytes, 12);
	assert_int_equal(b->data[0], 16);
	assert_int_equal(c->n_dims, 0);
	assert_int_equal(c->data[1], 29);
	assert_int_equal(e->n_bytes, 0);
	assert_null(rv_safetensors_find(st, "d"));
	assert_ok(rv_safetensors_check(st));
	rv_safetensors_close(st);
	/* a file without any tensor */
	free(bytes);
	bytes = make_file("{}", 0, &size);
	assert_ok(rv_safetensors_open_memory(&st, bytes, size, "empty"));
	assert_int_equal(rv_safetensors_n_tensors(st), 0);
	assert_null(rv_safetensors_find(st, "a"));
	rv_safetensors_close(st);
	free(bytes);
	rv_safetensors_close(NULL);
}

/* Every prefix of a good file is refused. */
static void every_cut_is_refused(void **state) {
	(void)state;
	size_t size;
	uint8_t *bytes = make_file(good_header, 30, &size);
	for (size_t cut = 0; cut < size; cut++) {
		uint8_t *part = malloc(cut + 1); /* of its own, so that a sanitizer sees its end */
		assert_non_null(part);
		memcpy(part, bytes, cut);
		assert_true(is_refused(part, cut, RV_ERR_FORMAT, ""));
		free(part);
	}
	free(bytes);
}

/* ---- headers ---- */

typedef struct bad_header {
	const char *header;
	size_t data; /* bytes */
	rv_status status;
	const char *word;
} bad_header;

#define F RV_ERR_FORMAT
#define U RV_ERR_UNSUPPORTED
#define A(info) "{\"a\":" info "}"
#define G T("F32", "[2]", "[0,8]")

static const bad_header bad_headers[] = {
        /* no JSON, or none that may be */
        {"", 0, F, ":1:"},
        {"nonsense", 0, F, ":1:"},
        {"[]", 0, F, "no JSON object"},
        {"7", 0, F, "no JSON object"},
        {"null", 0, F, "no JSON object"},
        {"{} x", 0, F, ":1:"},
        {"{\"a\":", 0, F, ":1:"},
        {"{'a':1}", 0, F, ":1:"},
        {"{\"a\":" G ",\"a\":" G "}", 8, F, "duplicate"},
        {A("{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"), 8, F,
         "duplicate"},
        {"{\"\xff\":" G "}", 8, F, "unable to decode"},
        {"{\"\xc0\xaf\":" G "}", 8, F, "unable to decode"},
        {"{\"a\\ud800\":" G "}", 8, F, ":1:"},
        {"{\"a\\u0000b\":" G "}", 8, F, ":1:"},
        {"{\"a\":NaN}", 8, F, ":1:"},
        /* what a tensor is */
        {"{\"\":" G "}", 8, F, "name is empty"},
        {A("[]"), 8, F, "tensor 'a': is no object"},
        {A("1"), 8, F, "tensor 'a': is no object"},
        {A("{}"), 8, F, "'dtype' is missing"},
        {A("{\"dtype\":\"F32\",\"data_offsets\":[0,8]}"), 8, F, "'shape' is missing"},
        {A("{\"dtype\":\"F32\",\"shape\":[2]}"), 8, F, "'data_offsets' is missing"},
        {A("{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"x\":1}"), 8, F, "other keys"},
        {A("{\"dtype\":7,\"shape\":[2],\"data_offsets\":[0,8]}"), 8, F, "'dtype' is no string"},
        {A(T("F99", "[2]", "[0,8]")), 8, F, "unknown dtype 'F99'"},
        {A(T("f32", "[2]", "[0,8]")), 8, F, "unknown dtype 'f32'"},
        {A(T("I64", "[1]", "[0,8]")), 8, U, "tensor 'a': dtype I64"},
        {A(T("F64", "[1]", "[0,8]")), 8, U, "dtype F64"},
        {A(T("BOOL", "[8]", "[0,8]")), 8, U, "dtype BOOL"},
        {A(T("U8", "[8]", "[0,8]")), 8, U, "dtype U8"},
        {A(T("F8_E4M3", "[8]", "[0,8]")), 8, U, "dtype F8_E4M3"},
        /* shapes */
        {A(T("F32", "2", "[0,8]")), 8, F, "'shape' is no array"},
        {A(T("F32", "{}", "[0,8]")), 8, F, "'shape' is no array"},
        {A(T("F32", "[-2]", "[0,8]")), 8, F, "'shape' element 0"},
        {A(T("F32", "[1,2.0]", "[0,8]")), 8, F, "'shape' element 1"},
        {A(T("F32", "[\"2\"]", "[0,8]")), 8, F, "'shape' element 0"},
        {A(T("F32", "[null]", "[0,8]")), 8, F, "'shape' element 0"},
        {A(T("F32", "[18446744073709551615]", "[0,8]")), 8, F, "too big integer"},
        {A(T("F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]")), 8, U, "9 dimensions"},
        {A(T("F32", "[4294967296,4294967296]", "[0,8]")), 8, F, "overflows"},
        {A(T("F32", "[9223372036854775807,2]", "[0,8]")), 8, F, "overflows"},
        {A(T("F32", "[4611686018427387906]", "[0,8]")), 8, F, "overflows"}, /* 4n wraps to 8 */
        {A(T("F32", "[3]", "[0,8]")), 8, F, "12 bytes"},
        {A(T("F16", "[2]", "[0,8]")), 8, F, "4 bytes"},
        /* offsets */
        {A(T("F32", "[2]", "8")), 8, F, "no array of two"},
        {A(T("F32", "[2]", "[8]")), 8, F, "no array of two"},
        {A(T("F32", "[2]", "[0,4,8]")), 8, F, "no array of two"},
        {A(T("F32", "[2]", "[-8,0]")), 8, F, "'data_offsets' element 0"},
        {A(T("F32", "[2]", "[0.0,8.0]")), 8, F, "'data_offsets' element 0"},
        {A(T("F32", "[2]", "[0,8e0]")), 8, F, "'data_offsets' element 1"},
        {A(T("F32", "[2]", "[0,true]")), 8, F, "'data_offsets' element 1"},
        {A(T("F32", "[2]", "[18446744073709551608,0]")), 8, F, "too big integer"},
        {A(T("F32", "[2]", "[8,0]")), 8, F, "reversed"},
        {A(T("F32", "[2]", "[0,8]")), 7, F, "past the data section of 7 bytes"},
        {A(T("F32", "[2]", "[4096,4104]")), 8, F, "past the data section"},
        {A(T("F32", "[2]", "[9223372036854775799,9223372036854775807]")), 8, F, "past"},
        /* every byte belongs to one tensor */
        {A(T("F32", "[2]", "[4,12]")), 12, F, "a hole: bytes 0 to 4"},
        {"{\"a\":" G ",\"b\":" T("F32", "[1]", "[12,16]") "}", 16, F, "a hole: bytes 8 to 12"},
        {"{\"a\":" G ",\"b\":" T("F32", "[1]", "[4,8]") "}", 8, F, "overlaps tensor 'a'"},
        {"{\"a\":" G ",\"b\":" G "}", 8, F, "overlaps"},
        {"{\"a\":" T("F32", "[4]", "[0,16]") ",\"b\":" T("F32", "[1]", "[4,8]") "}", 16, F,
         "overlaps tensor 'a'"},
        {A(G), 9, F, "1 bytes after the last tensor"},
        {"{}", 4, F, "4 bytes after the last tensor"},
        /* metadata */
        {"{\"__metadata__\":[]}", 0, F, "'__metadata__' is no object"},
        {"{\"__metadata__\":{\"k\":1}}", 0, F, "'__metadata__' key 'k'"},
        {"{\"__metadata__\":" G "}", 8, F, "'__metadata__' key 'shape'"},
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void refuses_headers(void **state) {
	(void)state;
	size_t wrong = 0;
	for (size_t i = 0; i < COUNT(bad_headers); i++) {
		const bad_header *b = &bad_headers[i];
		size_t size;
		uint8_t *bytes = make_file(b->header, b->data, &size);
		if (!is_refused(bytes, size, b->status, b->word)) {
			print_message("# not refused as it should: %s\n", b->header);
			wrong++;
		}
		free(bytes);
	}
	print_message("# %zu headers\n", COUNT(bad_headers));
	assert_int_equal(wrong, 0);
}

static void check_catches(void **state) {
	(void)state;
	size_t size;
	uint8_t *bytes = make_file(A(G), 8, &size);
	assert_false(is_refused(bytes, size, F, ""));
	free(bytes);
	bytes = make_file("[]", 0, &size);
	assert_false(is_refused(bytes, size, U, "no JSON object"));
	assert_false(is_refused(bytes, size, F, "some other reason"));
	free(bytes);
}

/* ---- lengths ---- */

static void refuses_lengths(void **state) {
	(void)state;
	static const struct {
		uint64_t length;
		size_t size; /* of the file */
		rv_status status;
		const char *word;
	} cases[] = {
	        {0, 0, F, "0 bytes are too few"},
	        {2, 1, F, "1 bytes are too few"},
	        {2, 7, F, "7 bytes are too few"},
	        {2, 8, F, "longer than the file"},
	        {1000, 18, F, "longer than the file"},
	        {100000000, 18, F, "longer than the file"},
	        {100000001, 18, RV_ERR_LIMIT, "too large"},
	        {101 << 20, 18, RV_ERR_LIMIT, "too large"},
	        {(uint64_t)1 << 63, 18, RV_ERR_LIMIT, "too large"},
	        {UINT64_MAX - 7, 18, RV_ERR_LIMIT, "too large"},
	        {UINT64_MAX, 18, RV_ERR_LIMIT, "too large"},
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		uint8_t bytes[18] = {0};
		memcpy(bytes, &cases[i].length, 8);
		memcpy(bytes + 8, "{}        ", 10);
		assert_true(is_refused(bytes, cases[i].size, cases[i].status, cases[i].word));
	}
}

/* `n` times `unit` between `before` and `after` */
static char *repeat(const char *before, const char *unit, size_t n, const char *after) {
	size_t each = strlen(unit), at = strlen(before);
	char *text = malloc(at + n * each + strlen(after) + 1);
	assert_non_null(text);
	memcpy(text, before, at);
	for (size_t i = 0; i < n; i++, at += each)
		memcpy(text + at, unit, each);
	strcpy(text + at, after);
	return text;
}

static void refuses_bombs(void **state) {
	(void)state;
	static const struct {
		const char *before, *unit;
		size_t n;
		const char *after;
		rv_status status;
		const char *word;
	} cases[] = {
	        {"", "[", 1000, "", F, "nested deeper"},
	        {"{\"a\":", "[", 65, "", F, "nested deeper"},
	        {"", "{\"a\":", 1000, "", F, "nested deeper"},
	        {"", "[", 300000, "", RV_ERR_LIMIT, "more JSON values"},
	        {"", "{\"a\":", 300000, "", RV_ERR_LIMIT, "more JSON values"},
	        {"{\"a\":[0", ",0", 1000000, "]}", RV_ERR_LIMIT, "more JSON values"},
	        {"{\"a\":[[]", ",[]", 200000, "]}", RV_ERR_LIMIT, "more JSON values"},
	        {"{\"a\":[{}", ",{}", 100000, "]}", RV_ERR_LIMIT, "more JSON values"},
	        {"", "\\\"[", 300000, "", F, ":1:"}, /* brackets outside of strings all the same */
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		char *header = repeat(cases[i].before, cases[i].unit, cases[i].n, cases[i].after);
		size_t size;
		uint8_t *bytes = make_file(header, 0, &size);
		assert_true(is_refused(bytes, size, cases[i].status, cases[i].word));
		free(bytes);
		free(header);
	}
}

/* ---- the index ---- */

static void refuses_indexes(void **state) {
	(void)state;
	static const struct {
		const char *text, *word;
	} cases[] = {
	        {"", ":1:"},
	        {"[]", "no JSON object"},
	        {"{}", "'weight_map' is missing"},
	        {"{\"weight_map\":[]}", "'weight_map' is no object"},
	        {"{\"weight_map\":null}", "'weight_map' is no object"},
	        {"{\"weight_map\":{}}", "'weight_map' is empty"},
	        {"{\"weight_map\":{\"a\":1}}", "tensor 'a': its shard is no string"},
	        {"{\"weight_map\":{\"a\":\"../../etc/passwd\"}}", "not a plain file name"},
	        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "not a plain file name"},
	        {"{\"weight_map\":{\"a\":\"x/../y\"}}", "not a plain file name"},
	        {"{\"weight_map\":{\"a\":\"x/y.safetensors\"}}", "not a plain file name"},
	        {"{\"weight_map\":{\"a\":\"..\"}}", "not a plain file name"},
	        {"{\"weight_map\":{\"a\":\".\"}}", "not a plain file name"},
	        {"{\"weight_map\":{\"a\":\"\"}}", "not a plain file name"},
	        {"{\"weight_map\":{\"a\":\"..\\\\x\"}}", "not a plain file name"},
	        {"{\"weight_map\":{\"a\":\"x\",\"a\":\"y\"}}", "duplicate"},
	        {"{\"weight_map\":{\"a\":\"x\"},\"weight_map\":{}}", "duplicate"},
	        {"{\"weight_map\":{\"a\":\"\xff\"}}", "unable to decode"},
	        {"{\"weight_map\":{\"a\":\"x\\u0000\"}}", ":1:"},
	        {"{\"weight_map\":{\"a\":\"x\"}", ":1:"},
	};
	json_t *map;
	for (size_t i = 0; i < COUNT(cases); i++) {
		map = (json_t *)(uintptr_t)1;
		assert_int_equal(
		        rv_safetensors_index(cases[i].text, strlen(cases[i].text), "idx.json", &map),
		        F);
		assert_null(map);
		assert_non_null(strstr(rv_error_message(), "idx.json"));
		if (!strstr(rv_error_message(), cases[i].word))
			fail_msg("%s: %s", cases[i].text, rv_error_message());
	}
	const char good[] = "{\"metadata\":{},\"weight_map\":{\"a\":\"x..y\"}}"; /* control */
	assert_ok(rv_safetensors_index(good, sizeof good - 1, "idx.json", &map));
	assert_string_equal(json_string_value(json_object_get(map, "a")), "x..y");
	json_decref(map);
}

/* ---- folders ---- */

static void put(const char *name, const void *data, size_t size) {
	char path[1024];
	assert_ok(rv_file_write(temp_path(path, name), data, size));
}

static void put_shard(const char *name, const char *header, size_t data) {
	size_t size;
	uint8_t *bytes = make_file(header, data, &size);
	put(name, bytes, size);
	free(bytes);
}

static void put_index(const char *map) {
	char text[512];
	int n = snprintf(text, sizeof text, "{\"metadata\":{\"total_size\":16},\"weight_map\":%s}",
	                 map);
	put(RV_SAFETENSORS_INDEX, text, (size_t)n);
}

static void folder_refused(rv_status status, const char *word) {
	rv_safetensors *st;
	assert_int_equal(rv_safetensors_open_dir(&st, test_dir), status);
	assert_null(st);
	if (!strstr(rv_error_message(), word))
		fail_msg("'%s' is not in: %s", word, rv_error_message());
}

#define B "{\"b\":" G "}"

static void reads_folders(void **state) {
	(void)state;
	char path[1024];
	rv_safetensors *st;
	folder_refused(RV_ERR_NOT_FOUND, "neither");
	put_index("{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}");
	folder_refused(RV_ERR_NOT_FOUND, "1.safetensors");
	put_shard("1.safetensors", A(G), 8);
	folder_refused(RV_ERR_NOT_FOUND, "2.safetensors");
	put_shard("2.safetensors", B, 8);
	assert_ok(rv_safetensors_open_dir(&st, test_dir));
	assert_int_equal(rv_safetensors_n_files(st), 2);
	assert_int_equal(rv_safetensors_n_tensors(st), 2);
	assert_non_null(strstr(rv_safetensors_file(st, rv_safetensors_find(st, "b")->file), "/2.safe"));
	assert_ok(rv_safetensors_check(st));
	put_shard("2.safetensors.new", B, 8); /* a shard that shrinks while it is open */
	assert_int_equal(truncate(temp_path(path, "2.safetensors"), 20), 0);
	assert_int_equal(rv_safetensors_check(st), RV_ERR_IO);
	rv_safetensors_close(st);
	folder_refused(RV_ERR_FORMAT, "2.safetensors");
	put_shard("2.safetensors", B, 8);
	unlink(temp_path(path, "2.safetensors.new"));
	/* list and shards do not agree */
	put_index("{\"a\":\"1.safetensors\",\"b\":\"1.safetensors\"}");
	folder_refused(RV_ERR_NOT_FOUND, "tensor 'b' is missing");
	put_index("{\"a\":\"1.safetensors\",\"c\":\"2.safetensors\"}");
	folder_refused(RV_ERR_MISMATCH, "tensor 'b'");
	put_index("{\"a\":\"2.safetensors\",\"b\":\"1.safetensors\"}");
	folder_refused(RV_ERR_MISMATCH, "is listed in");
	put_index("{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}");
	put_shard("2.safetensors", A(G), 8);
	folder_refused(RV_ERR_FORMAT, "duplicate tensor 'a'");
	put_index("{\"a\":\"../1.safetensors\"}");
	folder_refused(RV_ERR_FORMAT, "not a plain file name");
	/* no files at all */
	assert_int_equal(unlink(temp_path(path, "2.safetensors")), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	put_index("{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}");
	folder_refused(RV_ERR_INVALID, "FIFO");
	unlink(path);
	assert_int_equal(symlink("2.safetensors", path), 0);
	folder_refused(RV_ERR_IO, "2.safetensors");
	unlink(path);
	unlink(temp_path(path, RV_SAFETENSORS_INDEX));
	assert_int_equal(mkfifo(path, 0600), 0);
	folder_refused(RV_ERR_INVALID, "FIFO");
	unlink(path);
	/* one file goes before an index */
	put_shard(RV_SAFETENSORS_FILE, A(G), 8);
	put_index("nonsense");
	assert_ok(rv_safetensors_open_dir(&st, test_dir));
	assert_int_equal(rv_safetensors_n_files(st), 1);
	rv_safetensors_close(st);
	unlink(temp_path(path, RV_SAFETENSORS_FILE));
	assert_int_equal(symlink("nowhere", path), 0);
	folder_refused(RV_ERR_NOT_FOUND, RV_SAFETENSORS_FILE);
}

/* Every input of the fuzz corpus, regressions included. */
static void fuzz_corpus(void **state) {
	(void)state;
	static const char folder[] = "tests/fuzz/corpus/safetensors";
	DIR *d = opendir(folder);
	int n = 0, good = 0;
	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));) {
		char path[1024], *data;
		size_t size;
		rv_safetensors *st;
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
		assert_ok(rv_file_read(path, 1 << 20, &data, &size));
		good += rv_safetensors_open_memory(&st, data, size, path) == RV_OK;
		rv_safetensors_close(st);
		rv_free(data);
		n++;
	}
	closedir(d);
	assert_true(n >= 10 && good >= 2);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(reads_a_file),    cmocka_unit_test(every_cut_is_refused),
	        cmocka_unit_test(refuses_headers), cmocka_unit_test(check_catches),
	        cmocka_unit_test(refuses_lengths), cmocka_unit_test(refuses_bombs),
	        cmocka_unit_test(refuses_indexes), cmocka_unit_test(reads_folders),
	        cmocka_unit_test(fuzz_corpus),
	};
	return cmocka_run_group_tests_name("safetensors", tests, make_test_dir, remove_test_dir);
}
