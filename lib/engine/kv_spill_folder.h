/* A folder for the files of spilled sequences, made for one process and locked as long as it lives:
 * what a killed process has left is removed by the next one that opens a folder in the same place. */
#ifndef RV_ENGINE_KV_SPILL_FOLDER_H
#define RV_ENGINE_KV_SPILL_FOLDER_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct rv_kv_spill_folder {
	char *path; /* NULL: none */
	int lock;   /* dies with the process */
} rv_kv_spill_folder;

/* A new folder kv-XXXXXX in `parent`, which is made when missing. Removes those whose owner is no more,
 * if they hold nothing but spilled sequences. */
rv_status rv_kv_spill_folder_open(rv_kv_spill_folder *f, const char *parent);
/* Removes the folder, which must be empty. Accepts a zeroed one. */
void rv_kv_spill_folder_close(rv_kv_spill_folder *f);
/* The file of a sequence. */
void rv_kv_spill_file(const rv_kv_spill_folder *f, int32_t seq, char path[4096]);

#endif
