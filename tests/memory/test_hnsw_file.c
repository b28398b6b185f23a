/* Indexes in files: read back as they were, gone on with, refused when anything is not right. */
#include "memory/hnsw_file.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "memory/hnsw_internal.h"
#include "tests/memory/folder.h"

#include <math.h>
#include <pthread.h>
#include <sodium.h>

enum { DIM = 20, N = 600 };

static char dir[256], path[320];
static float vectors[2 * N][DIM];

static int make(void **state) {
	(void)state;
	rv_rng rng;
	rv_rng_seed(&rng, 3);
	for (int i = 0; i < 2 * N; i++)
		for (int d = 0; d < DIM; d++)
			vectors[i][d] = (float)rv_rng_normal(&rng);
	folder_make(dir);
	snprintf(path, sizeof path, "%s/index.hnsw", dir);
	return 0;
}
static int drop(void **state) {
	(void)state;
	folder_remove(dir);
	return 0;
}

/* n vectors with ids 1000, 1003, ..., every `gone`-th removed. */
static rv_hnsw *build(rv_metric metric, int n, int gone) {
	rv_hnsw *h;
	rv_hnsw_options o = rv_hnsw_defaults();
	uint64_t ids[N];
	o.metric = metric;
	o.dim = DIM;
	o.m = 6;
	o.ef_construction = 40;
	o.capacity = 2 * N;
	for (int i = 0; i < n; i++)
		ids[i] = 1000 + 3 * (uint64_t)i;
	assert_ok(rv_hnsw_create(&h, &o));
	if (n)
		assert_ok(rv_hnsw_add_batch(h, ids, vectors[0], n, NULL));
	for (int i = 0; gone && i < n; i += gone)
		assert_ok(rv_hnsw_remove(h, ids[i]));
	return h;
}

static void same_answers(rv_hnsw *a, rv_hnsw *b) {
	assert_int_equal(rv_hnsw_count(a), rv_hnsw_count(b));
	for (int q = 0; q < 40; q++) {
		uint64_t ids[2][10];
		float distances[2][10];
		int64_t n[2];
		assert_ok(rv_hnsw_search(a, vectors[N + q], 10, 30, NULL, ids[0], distances[0], &n[0]));
		assert_ok(rv_hnsw_search(b, vectors[N + q], 10, 30, NULL, ids[1], distances[1], &n[1]));
		assert_int_equal(n[0], n[1]);
		assert_memory_equal(ids[0], ids[1], (size_t)n[0] * sizeof ids[0][0]);
		assert_memory_equal(distances[0], distances[1], (size_t)n[0] * sizeof distances[0][0]);
	}
}

static void round_trip(void **state) {
	(void)state;
	static const int sizes[] = {0, 1, 2, 17, N};
	for (rv_metric metric = 0; metric < RV_METRIC_COUNT; metric++)
		for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
			for (int map = 0; map < 2; map++) {
				rv_hnsw *a = build(metric, sizes[i], 7), *b;
				const rv_hnsw_load_options o = {.map = map};
				assert_ok(rv_hnsw_save(a, path));
				assert_ok(rv_hnsw_load(&b, path, &o));
				same_answers(a, b);
				assert_ok(rv_hnsw_verify(b));
				rv_hnsw_destroy(a);
				rv_hnsw_destroy(b);
			}
}

/* What is done to a loaded index is what it would have been without the file, which stays as it is. */
static void goes_on(void **state) {
	(void)state;
	for (int map = 0; map < 2; map++) {
		char before[65], after[65];
		rv_hnsw *a = build(RV_METRIC_COSINE, N, 5), *b;
		const rv_hnsw_load_options o = {.map = map, .capacity = 3 * N};
		assert_ok(rv_hnsw_save(a, path));
		assert_ok(rv_file_sha256(path, before));
		assert_ok(rv_hnsw_load(&b, path, &o));
		assert_int_equal(rv_hnsw_get_options(b)->capacity, 3 * N);
		for (int i = 0; i < 200; i++) {
			assert_ok(rv_hnsw_add(a, 9000 + (uint64_t)i, vectors[N + i]));
			assert_ok(rv_hnsw_add(b, 9000 + (uint64_t)i, vectors[N + i]));
		}
		assert_ok(rv_hnsw_repair(a, NULL));
		assert_ok(rv_hnsw_repair(b, NULL));
		same_answers(a, b);
		assert_ok(rv_hnsw_verify(b));
		assert_ok(rv_file_sha256(path, after));
		assert_string_equal(before, after);
		/* and again, with free slots */
		rv_hnsw_destroy(a);
		assert_ok(rv_hnsw_save(b, path));
		assert_ok(rv_hnsw_load(&a, path, NULL));
		same_answers(a, b);
		rv_hnsw_destroy(a);
		rv_hnsw_destroy(b);
	}
}

/* The first thing done to a loaded index is to give slots back. */
static void repaired_at_once(void **state) {
	(void)state;
	for (int n = 1; n <= 40; n += 13) {
		rv_hnsw *a = build(RV_METRIC_L2, n, 1), *b;
		assert_ok(rv_hnsw_save(a, path));
		assert_ok(rv_hnsw_load(&b, path, NULL));
		assert_ok(rv_hnsw_repair(b, NULL));
		assert_ok(rv_hnsw_verify(b));
		assert_int_equal(rv_hnsw_get_stats(b).removed, 0);
		rv_hnsw_destroy(a);
		rv_hnsw_destroy(b);
	}
}

static char *small_file(size_t *size) {
	char *data;
	rv_hnsw *h = build(RV_METRIC_L2, 9, 4);
	assert_ok(rv_hnsw_save(h, path));
	rv_hnsw_destroy(h);
	assert_ok(rv_file_read(path, 1 << 20, &data, size));
	return data;
}

static void refused(const void *data, size_t size, rv_status expected, const char *why) {
	rv_hnsw *h;
	const rv_status status = rv_hnsw_load_memory(&h, data, size, "some.hnsw", NULL);
	if (status != expected || !strstr(rv_error_message(), "some.hnsw") ||
	    !strstr(rv_error_message(), why))
		fail_msg("status %d, expected %d with \"%s\": %s", status, expected, why,
		         rv_error_message());
	assert_null(h);
}

static void every_bit(void **state) {
	(void)state;
	size_t size;
	rv_hnsw *h;
	char *data = small_file(&size);
	assert_ok(rv_hnsw_load_memory(&h, data, size, "some.hnsw", NULL)); /* unflipped it is taken */
	rv_hnsw_destroy(h);
	for (size_t bit = 0; bit < 8 * size; bit++) {
		data[bit / 8] = (char)(data[bit / 8] ^ 1 << bit % 8);
		const rv_status status = rv_hnsw_load_memory(&h, data, size, "some.hnsw", NULL);
		if (status != RV_ERR_FORMAT && status != RV_ERR_UNSUPPORTED)
			fail_msg("bit %zu of byte %zu flipped: status %d", bit % 8, bit / 8, status);
		data[bit / 8] = (char)(data[bit / 8] ^ 1 << bit % 8);
	}
	for (size_t cut = 0; cut < size; cut++)
		refused(data, cut, RV_ERR_FORMAT, cut < 8 ? "not an HNSW index" : "cut off");
	rv_free(data);
}

static void mend(char *data, size_t size) {
	crypto_generichash((uint8_t *)data + 16, 32, (const uint8_t *)data + 48, size - 48, NULL, 0);
}

/* Offset of a section by its name, from the table behind the counts. */
static size_t section(const char *data, const char *name) {
	const char *row = data + 48 + 104;
	for (int i = 0; i < 10; i++, row += 40)
		if (strcmp(row, name) == 0) {
			uint64_t offset;
			memcpy(&offset, row + 24, sizeof offset);
			return offset;
		}
	fail_msg("no section %s", name);
	return 0;
}

/* Wrong, but with the right digest. */
static void inconsistent(void **state) {
	(void)state;
	size_t size;
	char *good = small_file(&size), *data;
	static const struct {
		const char *section; /* NULL: of the header */
		size_t at;
		int bytes;
		int64_t value;
		rv_status status;
		const char *why;
	} cases[] = {
	        {NULL, 8, 4, 2, RV_ERR_UNSUPPORTED, "version 2"},
	        {NULL, 8, 4, 0, RV_ERR_FORMAT, "version 0"},
	        {NULL, 12, 4, 7, RV_ERR_FORMAT, "header of 7"},
	        {NULL, 48, 8, 1 << 30, RV_ERR_FORMAT, "cut off"},
	        {NULL, 48, 8, 100, RV_ERR_FORMAT, "impossible length"},
	        {NULL, 56, 4, 3, RV_ERR_FORMAT, "metric"},
	        {NULL, 60, 4, 0, RV_ERR_FORMAT, "dim"},
	        {NULL, 60, 4, 64, RV_ERR_FORMAT, "'vectors'"},
	        {NULL, 64, 4, 7, RV_ERR_FORMAT, "'links'"},
	        {NULL, 64, 4, -1, RV_ERR_FORMAT, "m is"},
	        {NULL, 96, 8, 0, RV_ERR_FORMAT, "slots"},
	        {NULL, 96, 8, INT64_MAX, RV_ERR_FORMAT, "slots"},
	        {NULL, 104, 8, 1 << 20, RV_ERR_FORMAT, "slots"},
	        {NULL, 104, 8, -1, RV_ERR_FORMAT, "slots"},
	        {NULL, 104, 8, 8, RV_ERR_FORMAT, "number of vectors"},
	        {NULL, 112, 8, 5, RV_ERR_FORMAT, "live"},
	        {NULL, 120, 8, -3, RV_ERR_FORMAT, "vectors"},
	        {NULL, 128, 8, -1, RV_ERR_FORMAT, "upper"},
	        {NULL, 136, 8, 99, RV_ERR_FORMAT, "entry"},
	        {NULL, 136, 8, (int64_t)5 << 32, RV_ERR_FORMAT, "entry"},
	        {NULL, 136, 8, RV_HNSW_NONE, RV_ERR_FORMAT, "entry"},
	        {NULL, 144, 4, 8, RV_ERR_FORMAT, "sections"},
	        {NULL, 152, 1, 'x', RV_ERR_FORMAT, "section 0"},
	        {NULL, 152 + 16, 4, 8, RV_ERR_FORMAT, "section 0"},
	        {NULL, 152 + 24, 8, 64, RV_ERR_FORMAT, "'vectors'"},
	        {NULL, 152 + 24, 8, -64, RV_ERR_FORMAT, "'vectors'"},
	        {"vectors", 4, 4, 0x7fc00000, RV_ERR_FORMAT, "slot 0"}, /* NaN */
	        {"vectors", 4 * DIM, 4, 0x3f800000, RV_ERR_FORMAT, "slot 0"},
	        {"links", 0, 4, 9, RV_ERR_FORMAT, "slot 0"},
	        {"links", 0, 4, 0, RV_ERR_FORMAT, "itself"},
	        {"links", 0, 4, RV_HNSW_NONE, RV_ERR_FORMAT, "slot 0"},
	        {"ids", 16, 8, 1003, RV_ERR_FORMAT, "same id"},
	        {"parents", 4, 4, 9, RV_ERR_FORMAT, "parent"},
	        {"parents", 4, 4, RV_HNSW_NONE, RV_ERR_FORMAT, "parent"},
	        {"children", 2, 2, 6, RV_ERR_FORMAT, "children"},
	        {"upper_at", 4, 4, -1, RV_ERR_FORMAT, "misplaced"},
	        {"levels", 1, 1, 31, RV_ERR_FORMAT, "level"},
	        {"levels", 8, 1, 3, RV_ERR_FORMAT, "upper"},
	        {"states", 2, 1, 3, RV_ERR_FORMAT, "state"},
	        {"states", 2, 1, 0, RV_ERR_FORMAT, "some.hnsw"},
	};
	data = malloc(size);
	assert_non_null(data);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const size_t from = cases[i].section ? section(good, cases[i].section) : 0;
		memcpy(data, good, size);
		memcpy(data + from + cases[i].at, &cases[i].value, (size_t)cases[i].bytes);
		mend(data, size);
		refused(data, size, cases[i].status, cases[i].why);
	}
	/* Two parents that lead to each other. */
	memcpy(data, good, size);
	uint32_t *parents = (uint32_t *)(void *)(data + section(data, "parents"));
	for (uint32_t a = 0; a < 9; a++)
		if (parents[a] != a && parents[parents[a]] == parents[a]) {
			parents[parents[a]] = a;
			uint16_t *children = (uint16_t *)(void *)(data + section(data, "children"));
			children[a]++;
			break;
		}
	mend(data, size);
	refused(data, size, RV_ERR_FORMAT, "circle");
	memcpy(data, good, size);
	data[0] = 'G';
	refused(data, size, RV_ERR_FORMAT, "not an HNSW index");
	free(data);
	rv_free(good);
}

static void missing(void **state) {
	(void)state;
	rv_hnsw *h = build(RV_METRIC_L2, 3, 0), *none;
	char other[400];
	snprintf(other, sizeof other, "%s/none/index.hnsw", dir);
	assert_int_equal(rv_hnsw_load(&none, other, NULL), RV_ERR_NOT_FOUND);
	assert_int_equal(rv_hnsw_load(&none, dir, NULL), RV_ERR_INVALID);
	assert_int_not_equal(rv_hnsw_save(h, other), RV_OK);
	assert_non_null(strstr(rv_error_message(), other));
	rv_hnsw_destroy(h);
}

/* ---- codes ---- */

static rv_hnsw *build_codes(int codes_only, rv_codec **codec) {
	rv_hnsw *h;
	rv_codec_options c = rv_codec_defaults();
	rv_hnsw_options o = rv_hnsw_defaults();
	uint64_t ids[N];
	c.dim = o.dim = DIM;
	assert_ok(rv_codec_create(codec, &c));
	assert_ok(rv_codec_train(*codec, vectors[0], N, NULL));
	o.m = 6;
	o.ef_construction = 40;
	o.capacity = 2 * N;
	o.codec = *codec;
	o.codes_only = codes_only;
	for (int i = 0; i < N; i++)
		ids[i] = (uint64_t)i;
	assert_ok(rv_hnsw_create(&h, &o));
	assert_ok(rv_hnsw_add_batch(h, ids, vectors[0], 60, NULL));
	return h;
}

static void codes(void **state) {
	(void)state;
	for (int codes_only = 0; codes_only < 2; codes_only++) {
		rv_codec *codec, *loaded = NULL;
		rv_hnsw *a = build_codes(codes_only, &codec), *b;
		const rv_hnsw_load_options o = {.codec = &loaded};
		size_t size;
		char *data;
		assert_ok(rv_hnsw_save(a, path));
		assert_ok(rv_hnsw_load(&b, path, &o));
		assert_non_null(loaded);
		assert_int_equal(rv_hnsw_get_options(b)->codes_only, codes_only);
		same_answers(a, b);
		const rv_hnsw_identity of_a = rv_hnsw_identify(a), of_b = rv_hnsw_identify(b);
		rv_hnsw_identity sum = {0};
		assert_true(rv_hnsw_identity_equal(&of_a, &of_b));
		for (int i = 0; i < 60; i++)
			assert_ok(rv_hnsw_identity_add(&sum, b, (uint64_t)i, vectors[i]));
		assert_true(rv_hnsw_identity_equal(&of_a, &sum));
		rv_hnsw_destroy(b);
		rv_codec_destroy(loaded);
		loaded = NULL;
		assert_int_equal(rv_hnsw_load(&b, path, NULL), RV_ERR_MISMATCH);
		assert_ok(rv_file_read(path, 1 << 20, &data, &size));
		for (size_t at = 0; at < size; at++) { /* one bit of each byte, the codec's too */
			data[at] = (char)(data[at] ^ 1 << at % 8);
			const rv_status status = rv_hnsw_load_memory(&b, data, size, "some.hnsw", &o);
			if (status == RV_OK || loaded)
				fail_msg("byte %zu changed: status %d", at, status);
			data[at] = (char)(data[at] ^ 1 << at % 8);
		}
		for (size_t cut = 0; cut < size; cut += 7)
			assert_int_not_equal(rv_hnsw_load_memory(&b, data, cut, "some.hnsw", &o),
			                     RV_OK);
		rv_free(data);
		rv_hnsw_destroy(a);
		rv_codec_destroy(codec);
	}
}

/* Enough vectors for sketches: they are there again. */
static void sketches(void **state) {
	(void)state;
	enum { MANY = 1500 };
	rv_hnsw *a, *b;
	rv_hnsw_options o = rv_hnsw_defaults();
	rv_rng rng;
	float *x = malloc(sizeof(float) * MANY * 64);
	uint64_t ids[MANY];
	rv_rng_seed(&rng, 1);
	for (int i = 0; i < MANY; i++) {
		ids[i] = (uint64_t)i;
		for (int d = 0; d < 64; d++)
			x[i * 64 + d] = (float)(rv_rng_normal(&rng) * (d < 8 ? 10 : 0.1));
	}
	o.dim = 64;
	o.capacity = MANY;
	assert_ok(rv_hnsw_create(&a, &o));
	assert_ok(rv_hnsw_add_batch(a, ids, x, MANY, NULL));
	assert_ok(rv_hnsw_save(a, path));
	assert_ok(rv_hnsw_load(&b, path, NULL));
	assert_int_equal(rv_hnsw_get_stats(a).sketch_bytes > 0, rv_hnsw_get_stats(b).sketch_bytes > 0);
	for (int q = 0; q < 50; q++) {
		uint64_t found[2][10];
		int64_t n[2];
		assert_ok(rv_hnsw_search(a, x + q * 64, 10, 30, NULL, found[0], NULL, &n[0]));
		assert_ok(rv_hnsw_search(b, x + q * 64, 10, 30, NULL, found[1], NULL, &n[1]));
		assert_memory_equal(found[0], found[1], sizeof found[0]);
	}
	rv_hnsw_destroy(a);
	rv_hnsw_destroy(b);
	free(x);
}

/* ---- identity ---- */

static void identity(void **state) {
	(void)state;
	rv_hnsw *a = build(RV_METRIC_COSINE, 50, 7), *b;
	const rv_hnsw_identity of_a = rv_hnsw_identify(a);
	rv_hnsw_identity sum = {0};
	for (int i = 49; i >= 0; i--) /* in another order, vectors as they were given */
		if (i % 7)
			assert_ok(rv_hnsw_identity_add(&sum, a, 1000 + 3 * (uint64_t)i, vectors[i]));
	assert_true(rv_hnsw_identity_equal(&of_a, &sum));
	assert_ok(rv_hnsw_save(a, path));
	assert_ok(rv_hnsw_load(&b, path, NULL));
	rv_hnsw_identity other = rv_hnsw_identify(b);
	assert_true(rv_hnsw_identity_equal(&of_a, &other));
	/* one more, one less, two exchanged, one component changed */
	assert_ok(rv_hnsw_remove(b, 1003));
	other = rv_hnsw_identify(b);
	assert_false(rv_hnsw_identity_equal(&of_a, &other));
	assert_ok(rv_hnsw_add(b, 1003, vectors[1]));
	other = rv_hnsw_identify(b);
	assert_true(rv_hnsw_identity_equal(&of_a, &other));
	assert_ok(rv_hnsw_remove(b, 1003));
	assert_ok(rv_hnsw_remove(b, 1006));
	assert_ok(rv_hnsw_add(b, 1006, vectors[1]));
	assert_ok(rv_hnsw_add(b, 1003, vectors[2]));
	other = rv_hnsw_identify(b);
	assert_false(rv_hnsw_identity_equal(&of_a, &other));
	assert_int_equal(other.n, of_a.n);
	assert_true(other.ids == of_a.ids);
	float nearly[DIM];
	memcpy(nearly, vectors[1], sizeof nearly);
	nearly[3] = nextafterf(nearly[3] * 1.0001f, 9);
	sum = (rv_hnsw_identity){0};
	for (int i = 0; i < 50; i++)
		if (i % 7)
			assert_ok(rv_hnsw_identity_add(&sum, a, 1000 + 3 * (uint64_t)i,
			                               i == 1 ? nearly : vectors[i]));
	assert_false(rv_hnsw_identity_equal(&of_a, &sum));
	nearly[3] = NAN;
	assert_int_equal(rv_hnsw_identity_add(&sum, a, 1, nearly), RV_ERR_NUMERIC);
	rv_hnsw_destroy(a);
	rv_hnsw_destroy(b);
}

/* ---- saving while others search and write ---- */

typedef struct busy {
	rv_hnsw *h;
	_Atomic int stop, failed;
} busy;

static void *searches(void *arg) {
	busy *b = arg;
	for (int q = 0; !b->stop; q = (q + 1) % N) {
		uint64_t ids[5];
		int64_t n;
		if (rv_hnsw_search(b->h, vectors[q], 5, 20, NULL, ids, NULL, &n) != RV_OK || n != 5)
			b->failed = 1;
	}
	return NULL;
}

static void *writes(void *arg) {
	busy *b = arg;
	for (int i = 0; !b->stop; i = (i + 1) % N)
		if (rv_hnsw_add(b->h, 50000 + (uint64_t)i, vectors[N + i]) != RV_OK ||
		    rv_hnsw_remove(b->h, 50000 + (uint64_t)i) != RV_OK)
			b->failed = 1;
	return NULL;
}

static void beside_others(void **state) {
	(void)state;
	busy b = {.h = build(RV_METRIC_COSINE, 300, 0)};
	pthread_t threads[2];
	assert_int_equal(pthread_create(&threads[0], NULL, searches, &b), 0);
	assert_int_equal(pthread_create(&threads[1], NULL, writes, &b), 0);
	for (int i = 0; i < 12; i++) {
		rv_hnsw *loaded;
		assert_ok(rv_hnsw_save(b.h, path));
		assert_ok(rv_hnsw_load(&loaded, path, NULL));
		assert_in_range(rv_hnsw_count(loaded), 300, 301);
		rv_hnsw_destroy(loaded);
	}
	b.stop = 1;
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_false(b.failed);
	rv_hnsw_destroy(b.h);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(round_trip),   cmocka_unit_test(repaired_at_once),
	        cmocka_unit_test(goes_on),      cmocka_unit_test(every_bit),
	        cmocka_unit_test(inconsistent), cmocka_unit_test(missing),
	        cmocka_unit_test(identity),     cmocka_unit_test(codes),
	        cmocka_unit_test(sketches),     cmocka_unit_test(beside_others)};
	return cmocka_run_group_tests(tests, make, drop);
}
