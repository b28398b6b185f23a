/* Files of vectors: written, read back, refused with the row at fault. */
#include "memory/vectors.h"

#include "base/file.h"
#include "base/mem.h"
#include "tests/memory/folder.h"

static char dir[256], path[320];

static int make(void **state) {
	(void)state;
	folder_make(dir);
	return 0;
}
static int drop(void **state) {
	(void)state;
	folder_remove(dir);
	return 0;
}

static const char *at(const char *name) {
	snprintf(path, sizeof path, "%s/%s", dir, name);
	return path;
}

static void kinds(void **state) {
	(void)state;
	assert_int_equal(rv_vectors_kind_of("a/b.fvecs"), RV_VECTORS_F32);
	assert_int_equal(rv_vectors_kind_of("b.ivecs"), RV_VECTORS_I32);
	assert_int_equal(rv_vectors_kind_of("b.bvecs"), RV_VECTORS_U8);
	assert_int_equal(rv_vectors_kind_of(".fvecs"), RV_VECTORS_COUNT);
	assert_int_equal(rv_vectors_kind_of("fvecs"), RV_VECTORS_COUNT);
	assert_int_equal(rv_vectors_kind_of("a.fvecs.gz"), RV_VECTORS_COUNT);
}

static void round_trip(void **state) {
	(void)state;
	const float f[6] = {1, -2.5f, 3e-30f, 4, 5, 6};
	const int32_t i[6] = {0, -1, INT32_MAX, 3, 4, 5};
	const uint8_t u[6] = {0, 255, 7, 8, 9, 10};
	rv_vectors v;
	assert_ok(rv_vectors_write(at("x.fvecs"), RV_VECTORS_F32, f, 2, 3));
	assert_ok(rv_vectors_read(&v, path, RV_VECTORS_F32, 0));
	assert_int_equal(v.n, 2);
	assert_int_equal(v.dim, 3);
	assert_memory_equal(v.data, f, sizeof f);
	rv_vectors_free(&v);
	assert_ok(rv_vectors_read_f32(&v, path, 1));
	assert_int_equal(v.n, 1);
	assert_memory_equal(v.data, f, sizeof f / 2);
	rv_vectors_free(&v);
	assert_ok(rv_vectors_write(at("x.ivecs"), RV_VECTORS_I32, i, 3, 2));
	assert_ok(rv_vectors_read(&v, path, RV_VECTORS_I32, 99));
	assert_int_equal(v.n, 3);
	assert_memory_equal(v.data, i, sizeof i);
	rv_vectors_free(&v);
	assert_int_equal(rv_vectors_read_f32(&v, path, 0), RV_ERR_UNSUPPORTED);
	assert_ok(rv_vectors_write(at("x.bvecs"), RV_VECTORS_U8, u, 1, 6));
	assert_ok(rv_vectors_read_f32(&v, path, 0));
	for (int k = 0; k < 6; k++)
		assert_true(((float *)v.data)[k] == (float)u[k]);
	rv_vectors_free(&v);
	assert_int_equal(rv_vectors_write(path, RV_VECTORS_U8, u, 0, 6), RV_ERR_INVALID);
	assert_int_equal(rv_vectors_write(path, RV_VECTORS_U8, u, 1, 0), RV_ERR_INVALID);
}

/* Bytes as a file of f32 rows: the status, and that the message holds `why`. */
static void parse(const void *data, size_t size, rv_status expected, const char *why) {
	rv_vectors v;
	const rv_status status = rv_vectors_parse(&v, data, size, "some.fvecs", RV_VECTORS_F32, 0);
	assert_int_equal(status, expected);
	if (status != RV_OK &&
	    (!strstr(rv_error_message(), why) || !strstr(rv_error_message(), "some.fvecs")))
		fail_msg("\"%s\" lacks \"%s\"", rv_error_message(), why);
	rv_vectors_free(&v);
}

static void refused(void **state) {
	(void)state;
	int32_t rows[9] = {2, 0, 0, 2, 0, 0, 2, 0, 0};
	parse(rows, sizeof rows, RV_OK, "");
	parse(rows, 0, RV_ERR_FORMAT, "no rows");
	for (size_t size = 1; size < sizeof rows; size++)
		parse(rows, size, size % 12 ? RV_ERR_FORMAT : RV_OK, "cut off");
	static const int32_t bad[] = {0, -1, INT32_MIN, RV_VECTORS_MAX_DIM + 1, INT32_MAX, 1, 3};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		rows[3] = bad[i];
		parse(rows, sizeof rows, RV_ERR_FORMAT, "row 1 at byte 12");
		rows[3] = 2;
		if (bad[i] > 0 && bad[i] <= RV_VECTORS_MAX_DIM)
			continue;
		rows[0] = bad[i];
		parse(rows, sizeof rows, RV_ERR_FORMAT, "row 0 at byte 0");
		rows[0] = 2;
	}
	rv_vectors v;
	assert_int_equal(rv_vectors_read(&v, at("none.fvecs"), RV_VECTORS_F32, 0), RV_ERR_NOT_FOUND);
	assert_int_equal(rv_vectors_read(&v, dir, RV_VECTORS_F32, 0), RV_ERR_INVALID);
}

int main(void) {
	const struct CMUnitTest tests[] = {cmocka_unit_test(kinds), cmocka_unit_test(round_trip),
	                                   cmocka_unit_test(refused)};
	return cmocka_run_group_tests(tests, make, drop);
}
