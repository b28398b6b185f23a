/* HDF5 files as ann-benchmarks writes them: data sets (train, test, neighbors, distances; attribute
 * distance) read and written, results written.
 *
 * libhdf5 can crash or loop on a damaged file, so a file is read by a child process, which hands the
 * numbers over; this process looks at no byte of it. RV_ERR_FORMAT names the file and what is missing
 * or wrong, RV_ERR_UNSUPPORTED a distance that is none of angular, euclidean and dot. */
#ifndef RV_LAB_ANN_FILE_H
#define RV_LAB_ANN_FILE_H

#include "base/status.h"
#include "memory/metric.h"

#include <stddef.h>
#include <stdint.h>

typedef struct rv_ann_data {
	rv_metric metric;
	int dim;
	int64_t n_train, n_test;
	int64_t k;                /* neighbours of each query that are known; 0: none */
	const float *train;       /* [n_train, dim] */
	const float *test;        /* [n_test, dim] */
	const int32_t *neighbors; /* [n_test, k]: rows of train, ascending in distance; NULL: none */
	/* [n_test, k]: as the file has them (euclidean: not squared); NULL: none */
	const float *distances;
	void *region; /* all of it */
	size_t region_bytes;
} rv_ann_data;

rv_status rv_ann_data_read(rv_ann_data *out, const char *path);
void rv_ann_data_free(rv_ann_data *data); /* accepts a zeroed one; zeroes it */
/* Writes a data set; region is not used. */
rv_status rv_ann_data_write(const char *path, const rv_ann_data *data);

const char *rv_ann_distance_name(rv_metric metric); /* "angular" */
/* A distance of metric.h as ann-benchmarks measures it: euclidean is not squared. */
float rv_ann_distance(rv_metric metric, float distance);

/* Results of one set of parameters. */
typedef struct rv_ann_results {
	const char *dataset, *algo, *name; /* "sift-128-euclidean", "ruvltra-hnsw", with parameters */
	rv_metric metric;
	int64_t n, k;
	const double *times;                  /* [n]: seconds of each query */
	const int32_t *rows;                  /* [n, k]; -1: nothing found */
	const float *distances;               /* [n, k]: metric.h's; infinity: nothing found */
	double best_search_time;              /* mean seconds of a query in the fastest run */
	double build_s, index_kb, candidates; /* candidates: mean number found */
	int run_count;
	double distances_computed; /* of all queries (dist_comps) */
} rv_ann_results;

rv_status rv_ann_results_write(const char *path, const rv_ann_results *results);

#endif
