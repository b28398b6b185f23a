/* Sets of vectors and indexes over them: what they claim to be, kept, found again, made anew when the
 * kept file is not whole. */
#include "lab/vector_index.h"

#include "base/file.h"
#include "base/mem.h"
#include "tests/memory/folder.h"

#include <dirent.h>
#include <math.h>

static char dir[256];
static rv_run_config config;

static int never(void *user) {
	(void)user;
	return 0;
}

static int make(void **state) {
	(void)state;
	folder_make(dir);
	config.root = dir;
	config.n_threads = 1;
	config.cancelled = never;
	return 0;
}
static int drop(void **state) {
	(void)state;
	folder_remove(dir);
	return 0;
}

static rv_vector_spec spec_of(rv_vector_kind kind, int64_t n, uint64_t seed) {
	return (rv_vector_spec){
	        .kind = kind, .n = n, .n_queries = 40, .dim = 96, .k = 20, .seed = seed};
}

static double length(const float *x, int dim) {
	double sum = 0;
	for (int d = 0; d < dim; d++)
		sum += (double)x[d] * x[d];
	return sqrt(sum);
}

/* Vectors of length 1, neighbours in order and the nearest there are, no query in the base. */
static void are_what_they_say(void **state) {
	(void)state;
	for (rv_vector_kind kind = RV_VECTOR_SET_CLUSTERED; kind <= RV_VECTOR_SET_UNIFORM; kind++) {
		rv_vector_set set;
		const rv_vector_spec s = spec_of(kind, 1500, 3);
		assert_ok(rv_vector_set_open(&set, &config, &s));
		for (int64_t i = 0; i < s.n; i++)
			assert_true(fabs(length(set.base + i * s.dim, s.dim) - 1) < 1e-5);
		for (int64_t q = 0; q < s.n_queries; q++) {
			const float *truth = set.truth + q * s.k;
			assert_true(truth[0] > 1e-4f);
			for (int64_t row = 0, nearer = 0; row < s.n; row++) {
				double dot = 0;
				for (int d = 0; d < s.dim; d++)
					dot += (double)set.queries[q * s.dim + d] *
					       set.base[row * s.dim + d];
				nearer += 1 - dot < (double)truth[s.k - 1] - 1e-5;
				assert_true(nearer < s.k);
			}
			for (int i = 1; i < s.k; i++)
				assert_true(truth[i] >= truth[i - 1]);
		}
		rv_vector_set_close(&set);
	}
}

static double mean_nearest(rv_vector_kind kind) {
	rv_vector_set set;
	double sum = 0;
	const rv_vector_spec s = spec_of(kind, 1500, 3);
	assert_ok(rv_vector_set_open(&set, &config, &s));
	for (int64_t q = 0; q < s.n_queries; q++)
		sum += (double)set.truth[q * s.k];
	rv_vector_set_close(&set);
	return sum / (double)s.n_queries;
}

/* Clusters have near neighbours, noise has none. */
static void clusters(void **state) {
	(void)state;
	assert_true(mean_nearest(RV_VECTOR_SET_CLUSTERED) < 0.5);
	assert_true(mean_nearest(RV_VECTOR_SET_UNIFORM) > 0.6);
}

static void beginnings(void **state) {
	(void)state;
	rv_vector_set small, large, other;
	const rv_vector_spec a = spec_of(RV_VECTOR_SET_CLUSTERED, 100, 7),
	                     b = spec_of(RV_VECTOR_SET_CLUSTERED, 300, 7),
	                     c = spec_of(RV_VECTOR_SET_CLUSTERED, 100, 8);
	assert_ok(rv_vector_set_open(&small, &config, &a));
	assert_ok(rv_vector_set_open(&large, &config, &b));
	assert_ok(rv_vector_set_open(&other, &config, &c));
	assert_memory_equal(small.base, large.base, sizeof(float) * 100 * 96);
	assert_memory_equal(small.queries, large.queries, sizeof(float) * 40 * 96);
	assert_true(memcmp(small.base, other.base, sizeof(float) * 96) != 0);
	assert_string_not_equal(small.key, large.key);
	assert_string_not_equal(small.key, other.key);
	rv_vector_set_close(&small);
	rv_vector_set_close(&large);
	rv_vector_set_close(&other);
}

/* The one file of a folder under build/cache whose name ends so. */
static void only_file(const char *folder, const char *end, char path[1024]) {
	char where[512];
	snprintf(where, sizeof where, "%s/build/cache/%s", dir, folder);
	DIR *d = opendir(where);
	assert_non_null(d);
	path[0] = 0;
	for (struct dirent *e; (e = readdir(d)) != NULL;) {
		const size_t n = strlen(e->d_name), m = strlen(end);
		if (n > m && strcmp(e->d_name + n - m, end) == 0)
			snprintf(path, 1024, "%s/%s", where, e->d_name);
	}
	closedir(d);
	assert_true(path[0] != 0);
}

static void kept_and_made_anew(void **state) {
	(void)state;
	char path[1024], before[65], after[65], *data;
	size_t size;
	rv_vector_set set;
	const rv_vector_spec s = spec_of(RV_VECTOR_SET_UNIFORM, 77, 1);
	assert_ok(rv_vector_set_open(&set, &config, &s));
	rv_vector_set_close(&set);
	only_file("vectors", "-uniform-77x96.set", path);
	assert_ok(rv_file_sha256(path, before));
	assert_ok(rv_file_read(path, 1 << 20, &data, &size));
	for (int cut = 0; cut < 2; cut++) {
		data[size - 9] = (char)(data[size - 9] ^ 1);
		assert_ok(rv_file_write(path, data, cut ? size / 2 : size));
		data[size - 9] = (char)(data[size - 9] ^ 1);
		assert_ok(rv_vector_set_open(&set, &config, &s));
		rv_vector_set_close(&set);
		assert_ok(rv_file_sha256(path, after));
		assert_string_equal(before, after);
	}
	rv_free(data);
}

static void indexes(void **state) {
	(void)state;
	char path[1024];
	rv_vector_set set;
	rv_vector_index a, b;
	double recall[2], exact[2];
	const rv_vector_spec s = spec_of(RV_VECTOR_SET_CLUSTERED, 1500, 3);
	rv_hnsw_options o = rv_hnsw_defaults();
	assert_ok(rv_vector_set_open(&set, &config, &s));
	assert_ok(rv_vector_index_open(&a, &config, &set, &o, RV_CODE_SQ8, 10));
	assert_false(a.cached);
	assert_ok(rv_vector_index_open(&b, &config, &set, &o, RV_CODE_SQ8, 10));
	assert_true(b.cached);
	assert_true(fabs(a.build_s - b.build_s) < 1e-5);
	assert_ok(rv_vector_index_recall(&a, &set, 10, 100, &recall[0], &exact[0]));
	assert_ok(rv_vector_index_recall(&b, &set, 10, 100, &recall[1], &exact[1]));
	assert_true(recall[0] == recall[1] && exact[0] == exact[1]);
	assert_true(exact[0] > 0.97 && recall[0] >= exact[0]);
	assert_ok(rv_vector_index_recall(&a, &set, 10, 10, &recall[1], &exact[1]));
	assert_true(exact[1] < exact[0]); /* fewer candidates, less is found */
	rv_vector_index_close(&a);
	rv_vector_index_close(&b);
	only_file("indexes", ".hnsw", path);
	assert_ok(rv_file_write(path, "torn", 4));
	assert_ok(rv_vector_index_open(&b, &config, &set, &o, RV_CODE_SQ8, 10));
	assert_false(b.cached);
	rv_vector_index_close(&b);
	rv_vector_set_close(&set);
}

static void refused(void **state) {
	(void)state;
	rv_vector_set set;
	rv_vector_spec s = spec_of(RV_VECTOR_SET_UNIFORM, 10, 1); /* 20 neighbours of 10 */
	assert_int_equal(rv_vector_set_open(&set, &config, &s), RV_ERR_INVALID);
	s.k = 10;
	s.n_queries = 0;
	assert_int_equal(rv_vector_set_open(&set, &config, &s), RV_ERR_INVALID);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(are_what_they_say), cmocka_unit_test(clusters),
	        cmocka_unit_test(beginnings),        cmocka_unit_test(kept_and_made_anew),
	        cmocka_unit_test(indexes),           cmocka_unit_test(refused)};
	return cmocka_run_group_tests(tests, make, drop);
}
