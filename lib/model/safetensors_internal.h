/* What the two files of the safetensors reader share. Not a public header. */
#ifndef RV_MODEL_SAFETENSORS_INTERNAL_H
#define RV_MODEL_SAFETENSORS_INTERNAL_H

#include "base/file.h"
#include "model/safetensors.h"

/* One file. Its header stays: the tensors' names are in it. */
typedef struct rv_st_file {
	rv_map map; /* zeroed when opened from memory */
	char *path;
	json_t *header;
	const uint8_t *data; /* the data section */
	size_t data_bytes;
} rv_st_file;

typedef struct rv_st_table {
	rv_safetensor *tensors; /* by name once the reader is finished */
	size_t n;
} rv_st_table;

struct rv_safetensors {
	rv_st_file *files;
	size_t n_files;
	rv_st_table table;
};

/* Bounds what parsing JSON will allocate: RV_ERR_LIMIT for more values than a table of tensors has. */
rv_status rv_st_check_budget(const char *text, size_t size, const char *name);
rv_status rv_st_new(rv_safetensors **out, size_t n_files);
/* Maps and checks file `index`, appends its tensors. */
rv_status rv_st_load(rv_st_file *f, const char *path, size_t index, rv_st_table *table);
void rv_st_unload(rv_st_file *f); /* accepts a zeroed one */
/* Sorts by name; two tensors of one name are refused. */
rv_status rv_st_finish(rv_safetensors *st);

#endif
