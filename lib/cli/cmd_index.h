/* What the verbs of `ruvltra index` share. */
#ifndef RV_CLI_CMD_INDEX_H
#define RV_CLI_CMD_INDEX_H

#include "cli/cli_model.h"
#include "lab/ann_file.h"
#include "memory/hnsw_file.h"
#include "memory/vectors.h"

int rv_cmd_index_build(rv_cli *cli);
int rv_cmd_index_search(rv_cli *cli);
int rv_cmd_index_info(rv_cli *cli);

/* Vectors of a file, of the part of it that is asked for. */
typedef struct rv_index_rows {
	const float *rows; /* [n, dim] */
	int64_t n;
	int dim;
	int is_ann;      /* from HDF5: `ann` has the rest of it */
	rv_ann_data ann; /* owns the rows */
	rv_vectors plain;
} rv_index_rows;

/* .fvecs, .bvecs; .h5, .hdf5: train, or test when `queries`. max_rows 0: all. */
rv_status rv_index_rows_read(rv_index_rows *out, const char *path, int queries, int64_t max_rows);
void rv_index_rows_free(rv_index_rows *rows); /* accepts a zeroed one */

/* With room for its codec: *codec is the caller's to destroy after the index. */
rv_status rv_index_open(rv_hnsw **out, rv_codec **codec, const char *path);

#endif
