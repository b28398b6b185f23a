/* Codecs as files, and what is refused: damaged files, vectors that have no code, unknown options. */
#include "memory/rerank.h"
#include "tests/memory/codec_test.h"
#include "tests/memory/folder.h"

static int allocations, alloc_fails_at;
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size) {
	return ++allocations == alloc_fails_at ? NULL : __real_aligned_alloc(alignment, size);
}

static size_t saved(const rv_codec *c, const char *path, char **bytes) {
	rv_writer *w;
	size_t size;
	assert_ok(rv_writer_open(&w, path));
	assert_ok(rv_codec_save(c, w));
	assert_ok(rv_writer_commit(w));
	assert_ok(rv_file_read(path, 1 << 24, bytes, &size));
	return size;
}

static void threads_change_nothing(void **state) {
	float *x = clustered(1500, 13);
	rv_threads *threads;
	rv_threads_options o = {.n_threads = 3};
	char path[280];
	snprintf(path, sizeof path, "%s/codec", (const char *)*state);
	assert_ok(rv_threads_create(&threads, &o));
	for (int kind = 0; kind < RV_CODE_COUNT; kind++) {
		rv_codec *one = trained((rv_code_kind)kind, RV_METRIC_COSINE, x, 1500);
		rv_codec *many = codec_of((rv_code_kind)kind, RV_METRIC_COSINE, DIM);
		char *a, *b;
		assert_ok(rv_codec_train(many, x, 1500, threads));
		const size_t n = saved(one, path, &a), m = saved(many, path, &b);
		assert_true(n == m && memcmp(a, b, n) == 0);
		uint8_t *codes = encoded(one, x, 1500), *same = encoded(one, x, 1500);
		memset(same, 0, 1500 * rv_codec_code_bytes(one));
		assert_ok(rv_codec_encode_batch(many, x, 1500, same, threads));
		assert_memory_equal(codes, same, 1500 * rv_codec_code_bytes(one));
		rv_free(a);
		rv_free(b);
		rv_free(codes);
		rv_free(same);
		rv_codec_destroy(one);
		rv_codec_destroy(many);
	}
	rv_threads_destroy(threads);
	rv_free(x);
}

/* ---- files ---- */

static void codecs_come_back_from_files(void **state) {
	float *x = clustered(600, 14);
	char path[280];
	snprintf(path, sizeof path, "%s/codec", (const char *)*state);
	for (int kind = 0; kind < RV_CODE_COUNT; kind++) {
		rv_codec *c = trained((rv_code_kind)kind, RV_METRIC_COSINE, x, 600), *back;
		char *bytes;
		size_t used, size = saved(c, path, &bytes);
		assert_ok(rv_codec_load(&back, (uint8_t *)bytes, size, &used, NULL, path));
		assert_true(used == size);
		uint8_t *codes = encoded(c, x, 600), *again = encoded(back, x, 600);
		assert_memory_equal(codes, again, 600 * rv_codec_code_bytes(c));
		for (size_t i = 0; i < 600; i++)
			assert_ok(rv_codec_check_code(back, codes + i * rv_codec_code_bytes(c)));
		rv_free(codes);
		rv_free(again);
		rv_free(bytes);
		rv_codec_destroy(c);
		rv_codec_destroy(back);
	}
	rv_free(x);
}

static void refuse(const char *bytes, size_t size) {
	rv_codec *c = (rv_codec *)1;
	size_t used;
	const rv_status status = rv_codec_load(&c, (const uint8_t *)bytes, size, &used, NULL, "F");
	assert_true(status == RV_ERR_FORMAT || status == RV_ERR_UNSUPPORTED);
	assert_null(c);
	assert_non_null(strstr(rv_error_message(), "F"));
}

/* Cut anywhere, and with any bit of the header or one of every kilobyte turned. */
static void damaged_files_are_refused(void **state) {
	float *x = clustered(300, 15);
	char path[280];
	snprintf(path, sizeof path, "%s/codec", (const char *)*state);
	for (int kind = 0; kind < RV_CODE_COUNT; kind++) {
		rv_codec *c = trained((rv_code_kind)kind, RV_METRIC_L2, x, 300);
		char *bytes;
		const size_t size = saved(c, path, &bytes);
		for (size_t n = 0; n < size; n += n < 64 ? 1 : 509)
			refuse(bytes, n);
		for (size_t bit = 0; bit < 8 * size; bit += bit < 48 * 8 ? 1 : 8191) {
			bytes[bit / 8] ^= (char)(1 << bit % 8);
			refuse(bytes, size);
			bytes[bit / 8] ^= (char)(1 << bit % 8);
		}
		rv_free(bytes);
		rv_codec_destroy(c);
	}
	rv_free(x);
}

static void codes_that_nothing_wrote_are_told(void **state) {
	float *x = clustered(300, 16), nan = NAN;
	(void)state;
	for (int kind = 0; kind < RV_CODE_PQ; kind++) {
		rv_codec *c = trained((rv_code_kind)kind, RV_METRIC_L2, x, 300);
		uint8_t *code = encoded(c, x, 1);
		assert_ok(rv_codec_check_code(c, code));
		memcpy(code + rv_codec_code_bytes(c) - 8, &nan, 4);
		assert_int_equal(rv_codec_check_code(c, code), RV_ERR_FORMAT);
		rv_free(code);
		rv_codec_destroy(c);
	}
	rv_free(x);
}

/* ---- refusals ---- */

static void options_are_checked(void **state) {
	rv_codec_options o = rv_codec_defaults();
	rv_codec *c;
	(void)state;
	assert_int_equal(rv_codec_create(&c, &o), RV_ERR_INVALID); /* dim 0 */
	o.dim = RV_CODEC_MAX_DIM + 1;
	assert_int_equal(rv_codec_create(&c, &o), RV_ERR_INVALID);
	o = (rv_codec_options){.kind = RV_CODE_PQ, .dim = 100, .pq_m = 7};
	assert_int_equal(rv_codec_create(&c, &o), RV_ERR_INVALID);
	o.pq_m = 0;
	assert_ok(rv_codec_create(&c, &o));
	assert_int_equal(rv_codec_get_options(c)->pq_m, 10);
	rv_codec_destroy(c);
	o.kind = RV_CODE_COUNT;
	assert_int_equal(rv_codec_create(&c, &o), RV_ERR_INVALID);
}

static void vectors_are_checked(void **state) {
	float *x = clustered(300, 17);
	uint8_t code[4 * DIM];
	char query[256 * 1024];
	(void)state;
	for (int kind = 0; kind < RV_CODE_COUNT; kind++) {
		rv_codec *c = codec_of((rv_code_kind)kind, RV_METRIC_COSINE, DIM);
		const float was = x[5 * DIM + 3];
		assert_int_equal(rv_codec_encode(c, x, code), RV_ERR_INVALID); /* not trained */
		assert_int_equal(rv_codec_prepare(c, x, query), RV_ERR_INVALID);
		assert_int_equal(rv_codec_train(c, x, 0, NULL), RV_ERR_INVALID);
		x[5 * DIM + 3] = NAN;
		assert_int_equal(rv_codec_train(c, x, 300, NULL), RV_ERR_NUMERIC);
		assert_non_null(strstr(rv_error_message(), "row 5: component 3"));
		assert_false(rv_codec_is_trained(c));
		x[5 * DIM + 3] = was;
		assert_ok(rv_codec_train(c, x, 300, NULL));
		x[5 * DIM + 3] = INFINITY;
		assert_int_equal(rv_codec_encode_batch(c, x, 300, code, NULL), RV_ERR_NUMERIC);
		assert_int_equal(rv_codec_encode(c, x + 5 * DIM, code), RV_ERR_NUMERIC);
		assert_int_equal(rv_codec_prepare(c, x + 5 * DIM, query), RV_ERR_NUMERIC);
		x[5 * DIM + 3] = was;
		float none[DIM] = {0}, huge[DIM] = {2e19f};
		assert_int_equal(rv_codec_encode(c, none, code), RV_ERR_NUMERIC);
		assert_int_equal(rv_codec_encode(c, huge, code), RV_ERR_NUMERIC);
		rv_codec_destroy(c);
	}
	rv_free(x);
}

static void rerank_checks_its_rows(void **state) {
	float x[3 * DIM] = {[0] = 1, [DIM] = 2, [2 * DIM] = NAN}, d[3], q[DIM] = {1}, none[DIM] = {0};
	const rv_originals from = {x, 3, DIM};
	const rv_kernels *k = rv_kernels_for(rv_level_best());
	int64_t rows[3] = {1, 0, 1}, kept;
	(void)state;
	assert_ok(rv_rerank(k, RV_METRIC_L2, &from, q, rows, d, 3, 5, &kept));
	assert_true(kept == 3 && rows[0] == 0 && rows[1] == 1 && d[0] == 0 && d[1] == 1);
	assert_ok(rv_rerank(k, RV_METRIC_L2, &from, q, rows, d, 0, 5, &kept));
	assert_int_equal(kept, 0);
	rows[0] = 3;
	assert_int_equal(rv_rerank(k, RV_METRIC_L2, &from, q, rows, d, 3, 1, &kept), RV_ERR_INVALID);
	rows[0] = 2;
	assert_int_equal(rv_rerank(k, RV_METRIC_L2, &from, q, rows, d, 3, 1, &kept), RV_ERR_NUMERIC);
	rows[0] = 0;
	assert_int_equal(rv_rerank(k, RV_METRIC_COSINE, &from, none, rows, d, 3, 1, &kept),
	                 RV_ERR_NUMERIC);
}

/* What fails leaves nothing behind, and a codec as it was. */
static rv_status use_memory(rv_code_kind kind, const float *x, const char *bytes, size_t size) {
	rv_codec_options o = {.kind = kind, .metric = RV_METRIC_L2, .dim = DIM, .seed = 3};
	rv_codec *c, *loaded = NULL;
	uint8_t codes[3 * 4 * DIM];
	size_t used;
	RV_TRY(rv_codec_create(&c, &o));
	rv_status status = rv_codec_train(c, x, 300, NULL);
	assert_int_equal(rv_codec_is_trained(c), status == RV_OK);
	if (status == RV_OK)
		status = rv_codec_encode_batch(c, x, 3, codes, NULL);
	if (status == RV_OK)
		status = rv_codec_load(&loaded, (const uint8_t *)bytes, size, &used, NULL, "F");
	rv_codec_destroy(loaded);
	rv_codec_destroy(c);
	return status;
}

static void every_allocation_may_fail(void **state) {
	float *x = clustered(300, 18);
	char path[280];
	snprintf(path, sizeof path, "%s/codec", (const char *)*state);
	for (int kind = 0; kind < RV_CODE_COUNT; kind++) {
		rv_codec *c = codec_of((rv_code_kind)kind, RV_METRIC_L2, DIM);
		char *bytes;
		assert_ok(rv_codec_train(c, x, 300, NULL));
		const size_t size = saved(c, path, &bytes);
		int failed = 0;
		for (rv_status status = RV_ERR_NO_MEMORY; status != RV_OK; failed++) {
			allocations = 0;
			alloc_fails_at = failed + 1;
			status = use_memory((rv_code_kind)kind, x, bytes, size);
			alloc_fails_at = 0;
			assert_true(status == RV_OK || status == RV_ERR_NO_MEMORY);
		}
		assert_true(failed > 5);
		rv_free(bytes);
		rv_codec_destroy(c);
	}
	rv_free(x);
}

static int set_up(void **state) {
	static char dir[256];
	folder_make(dir);
	*state = dir;
	return 0;
}

static int tear_down(void **state) {
	folder_remove(*state);
	return 0;
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(threads_change_nothing),
	        cmocka_unit_test(codecs_come_back_from_files),
	        cmocka_unit_test(damaged_files_are_refused),
	        cmocka_unit_test(codes_that_nothing_wrote_are_told),
	        cmocka_unit_test(options_are_checked),
	        cmocka_unit_test(vectors_are_checked),
	        cmocka_unit_test(every_allocation_may_fail),
	        cmocka_unit_test(rerank_checks_its_rows),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
