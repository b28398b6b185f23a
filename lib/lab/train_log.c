#include "lab/train_log.h"

#include "base/file.h"
#include "base/journal.h"
#include "base/lock.h"
#include "base/mem.h"
#include "lab/h5log.h"
#include "lab/provenance.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct rv_train_log {
	rv_experiment exp;
	rv_point point;
	rv_results results;
	rv_journal *journal;
	char *path;
	int lock, run;
	double last; /* step recorded last; -1: none */
};

/* ---- journal ---- */

/* A record goes to disk first, then to what the file is built from. */
static rv_status append(rv_train_log *log, char *text) {
	size_t n = strlen(text);
	rv_status st = rv_journal_append(log->journal, text, n);
	if (st == RV_OK)
		st = rv_results_add(&log->results, text, n);
	rv_free(text);
	return st;
}

static rv_status append_run(rv_train_log *log, const rv_train_log_options *o) {
	json_t *run;
	char *text;
	log->run = (int)json_array_size(log->results.runs);
	RV_TRY(rv_provenance_json(&log->exp, o->config, log->run, o->argc, o->argv, &run));
	rv_status st = rv_results_encode_run(run, &text);
	json_decref(run);
	RV_TRY(st);
	return append(log, text);
}

static void find_last(rv_train_log *log) {
	const rv_metric_result *steps = &log->results.results[0].metrics[0];
	log->last = steps->n ? steps->samples[steps->n - 1].value : -1;
}

static rv_status set_aside(const char *path) {
	char old[4200];
	snprintf(old, sizeof old, "%s.old", path);
	if (rename(path, old) != 0 && errno != ENOENT)
		return rv_fail_errno(RV_ERR_IO, "%s", path);
	return RV_OK;
}

static rv_status open_journal(rv_train_log *log, const rv_train_log_options *o) {
	char path[4096], lock[4200], hex[65];
	if (snprintf(path, sizeof path, "%s.journal", o->path) >= (int)sizeof path)
		return rv_fail(RV_ERR_INVALID, "%.64s...: the path is too long", o->path);
	snprintf(lock, sizeof lock, "%s.lock", path);
	RV_TRY(rv_lock_take(lock, &log->lock));
	if (o->fresh)
		RV_TRY(set_aside(path));
	rv_sha256_hex(o->identity, strlen(o->identity), hex);
	snprintf(log->point.key, sizeof log->point.key, "%.16s", hex);
	RV_TRY(rv_results_init(&log->results, &log->exp, NULL, &log->point, 1));
	RV_TRY(rv_journal_open(&log->journal, path, o->identity, rv_results_add, &log->results, NULL));
	find_last(log);
	return append_run(log, o);
}

/* ---- the log ---- */

rv_status rv_train_log_open(rv_train_log **out, const rv_train_log_options *o) {
	rv_train_log *log;
	*out = NULL;
	if (o->n_metrics < 1 || o->n_metrics > RV_MAX_METRICS)
		return rv_fail(RV_ERR_LIMIT, "%s: %d metrics, at most %d", o->path, o->n_metrics,
		               RV_MAX_METRICS);
	RV_TRY(RV_ALLOC(&log, 1, "training log"));
	log->lock = -1;
	log->exp = (rv_experiment){.id = "train",
	                           .name = "train",
	                           .title = o->title,
	                           .metrics = o->metrics,
	                           .n_metrics = o->n_metrics,
	                           .min_n = 1};
	snprintf(log->point.label, sizeof log->point.label, "%s", o->title);
	rv_status st = rv_strdup(&log->path, o->path);
	if (st == RV_OK)
		st = open_journal(log, o);
	if (st != RV_OK) {
		rv_train_log_close(log);
		return st;
	}
	*out = log;
	return RV_OK;
}

void rv_train_log_close(rv_train_log *log) {
	if (!log)
		return;
	rv_journal_close(log->journal);
	rv_results_free(&log->results);
	rv_lock_release(log->lock);
	rv_free(log->path);
	rv_free(log);
}

rv_status rv_train_log_add(rv_train_log *log, const double *values, double seconds) {
	rv_record record;
	char *text;
	if (values[0] <= log->last)
		return RV_OK;
	rv_record_clear(&record);
	memcpy(record.values, values, (size_t)log->exp.n_metrics * sizeof *values);
	RV_TRY(rv_results_encode(&log->exp, &log->point, log->run, log->results.results[0].n_done,
	                         seconds, &record, &text));
	RV_TRY(append(log, text));
	log->last = values[0];
	return RV_OK;
}

/* Steps of one run are no sample of anything: counts, no intervals. */
rv_status rv_train_log_write(const rv_train_log *log) {
	static const rv_documented none = {0};
	rv_point_result *point = &log->results.results[0];
	for (int m = 0; m < log->exp.n_metrics; m++) {
		point->metrics[m].summary = rv_summary_empty();
		point->metrics[m].summary.n = (int64_t)point->metrics[m].n;
	}
	point->status = point->n_done ? RV_POINT_OK : RV_POINT_NOT_RUN;
	return rv_h5log_write(log->path, &log->results, &none);
}
