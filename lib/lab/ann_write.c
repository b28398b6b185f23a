/* Writing what ann_file.h declares. */
#include "base/mem.h"
#include "lab/ann_file.h"
#include "lab/h5image.h"

#include <string.h>

/* h5py reads text of variable length as str, and an enumeration FALSE, TRUE as bool. */
static rv_status text(hid_t file, const char *name, const char *value) {
	const hid_t type = H5Tcopy(H5T_C_S1);
	rv_status status = type >= 0 && H5Tset_size(type, H5T_VARIABLE) >= 0 &&
	                                   H5Tset_cset(type, H5T_CSET_UTF8) >= 0
	                           ? rv_h5_attribute(file, name, type, &value)
	                           : rv_h5_failed(name);
	if (type >= 0)
		H5Tclose(type);
	return status;
}

static rv_status truth(hid_t file, const char *name, int8_t value) {
	const int8_t values[2] = {0, 1};
	const hid_t type = H5Tenum_create(H5T_NATIVE_INT8);
	rv_status status = type >= 0 && H5Tenum_insert(type, "FALSE", &values[0]) >= 0 &&
	                                   H5Tenum_insert(type, "TRUE", &values[1]) >= 0
	                           ? rv_h5_attribute(file, name, type, &value)
	                           : rv_h5_failed(name);
	if (type >= 0)
		H5Tclose(type);
	return status;
}

static rv_status real(hid_t file, const char *name, double value) {
	return rv_h5_attribute(file, name, H5T_NATIVE_DOUBLE, &value);
}
static rv_status whole(hid_t file, const char *name, int64_t value) {
	return rv_h5_attribute(file, name, H5T_NATIVE_INT64, &value);
}

/* columns 0: one number a row. */
static rv_status table(hid_t file, const char *name, hid_t stored, hid_t type, int64_t rows,
                       int64_t columns, const void *data) {
	const hsize_t dims[2] = {(hsize_t)rows, (hsize_t)columns};
	const hid_t space = H5Screate_simple(columns ? 2 : 1, dims, NULL);
	const hid_t set = H5Dcreate2(file, name, stored, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
	const int ok = set >= 0 && H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0;
	if (set >= 0)
		H5Dclose(set);
	if (space >= 0)
		H5Sclose(space);
	return ok ? RV_OK : rv_h5_failed(name);
}

/* ---- a data set ---- */

static rv_status fill_data(void *user, hid_t file) {
	const rv_ann_data *d = user;
	RV_TRY(text(file, "type", "dense"));
	RV_TRY(text(file, "distance", rv_ann_distance_name(d->metric)));
	RV_TRY(whole(file, "dimension", d->dim));
	RV_TRY(text(file, "point_type", "float"));
	RV_TRY(table(file, "train", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, d->n_train, d->dim, d->train));
	RV_TRY(table(file, "test", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, d->n_test, d->dim, d->test));
	if (d->neighbors)
		RV_TRY(table(file, "neighbors", H5T_STD_I32LE, H5T_NATIVE_INT32, d->n_test, d->k,
		             d->neighbors));
	if (d->distances)
		RV_TRY(table(file, "distances", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, d->n_test, d->k,
		             d->distances));
	return RV_OK;
}

rv_status rv_ann_data_write(const char *path, const rv_ann_data *data) {
	rv_ann_data d = *data;
	return rv_h5_write_file(path, fill_data, &d);
}

/* ---- results ---- */

typedef struct results_job {
	const rv_ann_results *r;
	const float *distances; /* as ann-benchmarks measures them */
} results_job;

static rv_status fill_attributes(const rv_ann_results *r, hid_t file) {
	const struct {
		const char *name, *value;
	} texts[] = {{"dataset", r->dataset},
	             {"algo", r->algo},
	             {"name", r->name},
	             {"distance", rv_ann_distance_name(r->metric)}};
	const struct {
		const char *name;
		double value;
	} reals[] = {{"best_search_time", r->best_search_time},
	             {"build_time", r->build_s},
	             {"index_size", r->index_kb},
	             {"candidates", r->candidates},
	             {"dist_comps", r->distances_computed}};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		RV_TRY(text(file, texts[i].name, texts[i].value));
	for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
		RV_TRY(real(file, reals[i].name, reals[i].value));
	RV_TRY(whole(file, "count", r->k));
	RV_TRY(whole(file, "run_count", r->run_count));
	RV_TRY(truth(file, "batch_mode", 0));
	return truth(file, "expect_extra", 0);
}

static rv_status fill_results(void *user, hid_t file) {
	const results_job *job = user;
	const rv_ann_results *r = job->r;
	RV_TRY(fill_attributes(r, file));
	RV_TRY(table(file, "times", H5T_IEEE_F32LE, H5T_NATIVE_DOUBLE, r->n, 0, r->times));
	RV_TRY(table(file, "neighbors", H5T_STD_I32LE, H5T_NATIVE_INT32, r->n, r->k, r->rows));
	return table(file, "distances", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, r->n, r->k, job->distances);
}

rv_status rv_ann_results_write(const char *path, const rv_ann_results *results) {
	float *distances;
	const int64_t n = results->n * results->k;
	RV_TRY(RV_ALLOC(&distances, n, "distances"));
	for (int64_t i = 0; i < n; i++)
		distances[i] = rv_ann_distance(results->metric, results->distances[i]);
	results_job job = {results, distances};
	const rv_status status = rv_h5_write_file(path, fill_results, &job);
	rv_free(distances);
	return status;
}
