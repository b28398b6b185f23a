/* The record of a training run: an experiment of one point whose repetitions are steps.
 *
 * The journal <path>.journal is the truth: one synced record a step; a killed run loses none and a
 * resumed one repeats none (a step that is recorded already is passed over). The HDF5 file at `path` is
 * built from it, whole, in the lab's schema (h5log.h): /runs has a row a process that contributed,
 * /samples/<key>/<metric> the values; value i of every metric belongs to value i of `step` with the
 * same repetition. Not thread-safe.
 */
#ifndef RV_LAB_TRAIN_LOG_H
#define RV_LAB_TRAIN_LOG_H

#include "base/status.h"
#include "lab/experiment.h"

typedef struct rv_train_log rv_train_log;

typedef struct rv_train_log_options {
	const char *path;                    /* of the HDF5 file */
	const char *title;                   /* "nano", of the one point */
	const char *identity;                /* of everything that decides the result */
	const rv_experiment_metric *metrics; /* borrowed; [0] is the step */
	int n_metrics;                       /* at most RV_MAX_METRICS */
	int fresh;                           /* 1: an older journal is kept as <path>.journal.old */
	const rv_run_config *config;         /* seed, n_threads, inputs: provenance */
	int argc;
	char **argv;
} rv_train_log_options;

/* RV_ERR_MISMATCH when the journal belongs to another identity, RV_ERR_LIMIT when another process
 * writes it. */
rv_status rv_train_log_open(rv_train_log **out, const rv_train_log_options *options);
/* values: [n_metrics], NaN: not measured in this step. */
rv_status rv_train_log_add(rv_train_log *log, const double *values, double seconds);
/* Builds the HDF5 file. */
rv_status rv_train_log_write(const rv_train_log *log);
void rv_train_log_close(rv_train_log *log); /* accepts NULL */

#endif
