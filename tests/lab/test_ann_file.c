/* ann-benchmarks' files: data sets read back as written, what is wrong refused by name, damage
 * survived; results in its layout. */
#include "lab/ann_file.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "memory/brute.h"
#include "tests/memory/folder.h"

#include <hdf5.h>
#include <math.h>

enum { N = 60, QUERIES = 10, DIM = 8, K = 12 };

static char dir[256], path[320];
static float train[N * DIM], test[QUERIES * DIM], distances[QUERIES * K];
static int32_t neighbors[QUERIES * K];
static rv_ann_data good;

static int make(void **state) {
	(void)state;
	rv_rng rng;
	rv_brute *brute;
	rv_rng_seed(&rng, 8);
	for (int i = 0; i < N * DIM; i++)
		train[i] = (float)rv_rng_normal(&rng);
	for (int i = 0; i < QUERIES * DIM; i++)
		test[i] = (float)rv_rng_normal(&rng);
	if (rv_brute_create(&brute, RV_BRUTE_SIMD, RV_METRIC_L2, train, N, DIM) != RV_OK ||
	    rv_brute_search(brute, test, QUERIES, K, neighbors, distances, NULL) != RV_OK)
		return 1;
	rv_brute_destroy(brute);
	for (int i = 0; i < QUERIES * K; i++)
		distances[i] = sqrtf(distances[i]);
	good = (rv_ann_data){.metric = RV_METRIC_L2,
	                     .dim = DIM,
	                     .n_train = N,
	                     .n_test = QUERIES,
	                     .k = K,
	                     .train = train,
	                     .test = test,
	                     .neighbors = neighbors,
	                     .distances = distances};
	folder_make(dir);
	snprintf(path, sizeof path, "%s/small-8-euclidean.hdf5", dir);
	return 0;
}
static int drop(void **state) {
	(void)state;
	folder_remove(dir);
	return 0;
}

static void round_trip(void **state) {
	(void)state;
	for (rv_metric metric = 0; metric < RV_METRIC_COUNT; metric++)
		for (int truth = 0; truth < 4; truth++) {
			rv_ann_data in = good, out;
			in.metric = metric;
			in.neighbors = truth & 1 ? neighbors : NULL;
			in.distances = truth & 2 ? distances : NULL;
			assert_ok(rv_ann_data_write(path, &in));
			assert_ok(rv_ann_data_read(&out, path));
			assert_int_equal(out.metric, metric);
			assert_int_equal(out.n_train, N);
			assert_int_equal(out.n_test, QUERIES);
			assert_int_equal(out.dim, DIM);
			assert_int_equal(out.k, truth ? K : 0);
			assert_memory_equal(out.train, train, sizeof train);
			assert_memory_equal(out.test, test, sizeof test);
			assert_int_equal(out.neighbors != NULL, truth & 1);
			assert_int_equal(out.distances != NULL, truth / 2);
			if (out.neighbors)
				assert_memory_equal(out.neighbors, neighbors, sizeof neighbors);
			if (out.distances)
				assert_memory_equal(out.distances, distances, sizeof distances);
			rv_ann_data_free(&out);
		}
}

static void refused(rv_status expected, const char *why) {
	rv_ann_data d;
	assert_int_equal(rv_ann_data_read(&d, path), expected);
	if (!strstr(rv_error_message(), why) || !strstr(rv_error_message(), path))
		fail_msg("\"%s\" lacks \"%s\" or the path", rv_error_message(), why);
	assert_null(d.region);
}

static void wrong_values(void **state) {
	(void)state;
	const int32_t row = neighbors[17];
	const float distance = distances[K + 3];
	neighbors[17] = N;
	assert_ok(rv_ann_data_write(path, &good));
	refused(RV_ERR_FORMAT, "query 1 has row 60 of 60");
	neighbors[17] = -1;
	assert_ok(rv_ann_data_write(path, &good));
	refused(RV_ERR_FORMAT, "neighbors");
	neighbors[17] = row;
	distances[K + 3] = 0;
	assert_ok(rv_ann_data_write(path, &good));
	refused(RV_ERR_FORMAT, "query 1 do not ascend");
	distances[K + 3] = NAN;
	assert_ok(rv_ann_data_write(path, &good));
	refused(RV_ERR_FORMAT, "query 1");
	distances[K + 3] = distance;
}

/* One thing is changed in a file by libhdf5 itself. */
typedef void change_fn(hid_t file);
static void drop_train(hid_t f) {
	H5Ldelete(f, "train", H5P_DEFAULT);
}
static void drop_distance(hid_t f) {
	H5Adelete(f, "distance");
}
static void put_table(hid_t f, const char *name, int rank, hsize_t rows, hsize_t columns, hid_t type) {
	const hsize_t dims[2] = {rows, columns};
	const hid_t space = H5Screate_simple(rank, dims, NULL);
	H5Ldelete(f, name, H5P_DEFAULT);
	H5Dclose(H5Dcreate2(f, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
	H5Sclose(space);
}
static void flat_train(hid_t f) {
	put_table(f, "train", 1, 480, 0, H5T_IEEE_F32LE);
}
static void text_train(hid_t f) {
	put_table(f, "train", 2, N, DIM, H5T_C_S1);
}
static void other_dim(hid_t f) {
	put_table(f, "test", 2, QUERIES, DIM + 1, H5T_IEEE_F32LE);
}
static void huge_train(hid_t f) {
	put_table(f, "train", 2, (hsize_t)1 << 30, DIM, H5T_IEEE_F32LE);
}
static void endless_train(hid_t f) {
	put_table(f, "train", 2, (hsize_t)1 << 40, (hsize_t)1 << 10, H5T_IEEE_F32LE);
}
static void few_neighbors(hid_t f) {
	put_table(f, "neighbors", 2, QUERIES - 1, K, H5T_STD_I32LE);
}
static void wide_neighbors(hid_t f) {
	put_table(f, "neighbors", 2, QUERIES, K + 1, H5T_STD_I32LE);
}
static void hamming(hid_t f) {
	const char *value = "hamming";
	const hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
	H5Adelete(f, "distance");
	H5Tset_size(type, H5T_VARIABLE);
	const hid_t attr = H5Acreate2(f, "distance", type, space, H5P_DEFAULT, H5P_DEFAULT);
	H5Awrite(attr, type, &value);
	H5Aclose(attr);
	H5Sclose(space);
	H5Tclose(type);
}

static void wrong_shapes(void **state) {
	(void)state;
	static const struct {
		change_fn *change;
		rv_status status;
		const char *why;
	} cases[] = {{drop_train, RV_ERR_FORMAT, "train: is not there"},
	             {drop_distance, RV_ERR_FORMAT, "attribute distance"},
	             {flat_train, RV_ERR_FORMAT, "train: is not a table"},
	             {text_train, RV_ERR_FORMAT, "train: does not hold numbers"},
	             {other_dim, RV_ERR_FORMAT, "test: has another dimension"},
	             {huge_train, RV_ERR_FORMAT, "train: has more numbers"},
	             {endless_train, RV_ERR_FORMAT, "train: has more numbers"},
	             {few_neighbors, RV_ERR_FORMAT, "neighbors: has not one row"},
	             {wide_neighbors, RV_ERR_FORMAT, "other columns"},
	             {hamming, RV_ERR_UNSUPPORTED, "hamming"}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_ok(rv_ann_data_write(path, &good));
		const hid_t f = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
		assert_true(f >= 0);
		cases[i].change(f);
		H5Fclose(f);
		refused(cases[i].status, cases[i].why);
	}
}

/* Cut off anywhere, bytes changed anywhere: this process lives, and what is accepted has its bounds. */
static void damaged(void **state) {
	(void)state;
	char *image;
	size_t size;
	rv_rng rng;
	assert_ok(rv_ann_data_write(path, &good));
	assert_ok(rv_file_read(path, 1 << 20, &image, &size));
	for (int i = 0; i < 12; i++) {
		assert_ok(rv_file_write(path, image, size * (size_t)i / 12));
		refused(RV_ERR_FORMAT, "HDF5");
	}
	rv_rng_seed(&rng, 2);
	for (int i = 0; i < 80; i++) {
		const size_t at = i < 40 ? (size_t)i * 20 : rv_rng_below(&rng, size);
		const char old = image[at];
		rv_ann_data d;
		image[at] = (char)(old ^ (1 << rv_rng_below(&rng, 8)));
		assert_ok(rv_file_write(path, image, size));
		if (rv_ann_data_read(&d, path) == RV_OK)
			for (int64_t n = 0; d.neighbors && n < d.n_test * d.k; n++)
				assert_in_range(d.neighbors[n], 0, d.n_train - 1);
		else
			assert_non_null(strstr(rv_error_message(), path));
		rv_ann_data_free(&d);
		image[at] = old;
	}
	rv_free(image);
	assert_ok(rv_file_write(path, "fvecs", 5));
	refused(RV_ERR_FORMAT, "HDF5");
	unlink(path);
	refused(RV_ERR_NOT_FOUND, "open");
}

static double real_of(hid_t f, const char *name) {
	double value = NAN;
	const hid_t attr = H5Aopen(f, name, H5P_DEFAULT);
	assert_true(attr >= 0 && H5Aread(attr, H5T_NATIVE_DOUBLE, &value) >= 0);
	H5Aclose(attr);
	return value;
}

static void results(void **state) {
	(void)state;
	const double times[QUERIES] = {1e-3, 2e-3};
	const rv_ann_results r = {.dataset = "small-8-euclidean",
	                          .algo = "ruvltra-hnsw",
	                          .name = "ruvltra-hnsw(M=16)",
	                          .metric = RV_METRIC_L2,
	                          .n = QUERIES,
	                          .k = K,
	                          .times = times,
	                          .rows = neighbors,
	                          .distances = distances,
	                          .best_search_time = 1.5e-3,
	                          .build_s = 2,
	                          .index_kb = 77,
	                          .candidates = 12,
	                          .run_count = 3};
	float read_times[QUERIES], read_distances[QUERIES * K];
	int32_t read_rows[QUERIES * K];
	assert_ok(rv_ann_results_write(path, &r));
	const hid_t f = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
	assert_true(f >= 0);
	assert_true(real_of(f, "best_search_time") == 1.5e-3);
	assert_true(real_of(f, "build_time") == 2);
	assert_true(real_of(f, "index_size") == 77);
	assert_true(real_of(f, "candidates") == 12);
	assert_true(real_of(f, "count") == K);
	assert_true(real_of(f, "run_count") == 3);
	static const char *const others[] = {"algo",     "name",       "dataset",
	                                     "distance", "batch_mode", "expect_extra"};
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		assert_true(H5Aexists(f, others[i]) > 0);
	const struct {
		const char *name;
		hid_t type;
		void *to;
	} tables[] = {{"times", H5T_NATIVE_FLOAT, read_times},
	              {"neighbors", H5T_NATIVE_INT32, read_rows},
	              {"distances", H5T_NATIVE_FLOAT, read_distances}};
	for (int i = 0; i < 3; i++) {
		const hid_t set = H5Dopen2(f, tables[i].name, H5P_DEFAULT);
		assert_true(set >= 0);
		assert_true(H5Dread(set, tables[i].type, H5S_ALL, H5S_ALL, H5P_DEFAULT, tables[i].to) >=
		            0);
		H5Dclose(set);
	}
	H5Fclose(f);
	assert_true(read_times[1] == 2e-3f);
	assert_memory_equal(read_rows, neighbors, sizeof neighbors);
	for (int i = 0; i < QUERIES * K; i++) /* euclidean: not squared there */
		assert_true(read_distances[i] == sqrtf(distances[i]));
}

int main(void) {
	const struct CMUnitTest tests[] = {cmocka_unit_test(round_trip), cmocka_unit_test(wrong_values),
	                                   cmocka_unit_test(wrong_shapes), cmocka_unit_test(damaged),
	                                   cmocka_unit_test(results)};
	H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
	return cmocka_run_group_tests(tests, make, drop);
}
