/* Old entries of the witness log, in files beside the store: DIR/archive/witness-<first key>.archive.
 *
 * A file, little-endian: 8 bytes "RVWARCH1", the mark before its first entry (i64 key, 32 bytes of
 * hash); for each entry u32 size, then what the chain hashes of it (i64 key and the columns, each as
 * witness.h says), then its hash; at the end u32 0 and the mark of the last entry again. So the chain
 * of a file is checked from the file alone, and the files follow each other and lead to where the
 * chain of the database begins, whose record the store's key seals: an archived entry that was changed
 * by somebody without the key shows. Texts that were sealed stay so.
 *
 * An entry leaves the database only after the file that holds it is whole on the disk. A kill between
 * the two leaves it in both; the next archiving begins with the same entry and replaces that file. */
#ifndef RV_MEMORY_WITNESS_ARCHIVE_H
#define RV_MEMORY_WITNESS_ARCHIVE_H

#include "memory/witness.h"

#define RV_WITNESS_ARCHIVE_DIR "archive" /* in the store's folder */

/* Moves the entries before the first that is younger than `before` (UTC ms) into a file; *n is their
 * number, and with none there is no file. An entry that is not what its hash says ends it with
 * RV_ERR_FORMAT, and all stay where they are. */
rv_status rv_witness_archive(rv_witness *w, int64_t before, int64_t *n);

typedef struct rv_witness_archive_report {
	rv_witness_mark begin, end; /* before the first entry; the last good one */
	int64_t n_entries;
	int64_t oldest, newest; /* timestamps; 0 without entries */
} rv_witness_archive_report;

/* One file. RV_ERR_FORMAT names the first entry that is altered, missing or cut off; *report is filled
 * then too. */
rv_status rv_witness_archive_verify(const char *path, rv_witness_archive_report *report);
/* The same of bytes in memory. */
rv_status rv_witness_archive_verify_memory(const void *data, size_t size, const char *name,
                                           rv_witness_archive_report *report);

typedef struct rv_witness_archives_report {
	int64_t n_files, n_entries;
	int64_t n_gaps; /* places where entries went without being archived */
	int is_pending; /* the last file holds entries that the database holds too */
} rv_witness_archives_report;

/* All files of the log's store, and that each leads to the next and the last to the database's chain.
 * RV_ERR_FORMAT names the file that does not. */
rv_status rv_witness_archives_verify(rv_witness *w, rv_witness_archives_report *report);

#endif
