/* The HDF5 file of an experiment (SPEC 8), always built anew and moved into place whole.
 *
 *   /                       attributes schema_version, experiment, title
 *   /runs                   compound, one row a contributing process: the fields of provenance.h
 *   /points                 compound: key, status, reason, parameters, facts (fixed-length UTF-8 or
 * f64), per metric <m>_n (i64), <m>_median, _mean, _sd, _lo95, _hi95 (f64, NaN where missing);
 * attributes <m>_unit, <m>_better, <m>_exact /samples/<key>/<m>      compound: value f64, run i32,
 * repetition i32; attributes unit, better, exact /documented             compound: the columns of
 * documented.h, numbers as f64
 *
 * libhdf5's serial build is not thread-safe: one caller at a time in a process. */
#ifndef RV_LAB_H5LOG_H
#define RV_LAB_H5LOG_H

#include "lab/results.h"

#define RV_H5_SCHEMA_VERSION 1

/* Writes `path` through a temporary file beside it, fsync, rename, fsync of the directory. On failure
 * the file that was there is untouched. */
rv_status rv_h5log_write(const char *path, const rv_results *results, const rv_documented *documented);

#endif
