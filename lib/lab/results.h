/* What a journal says, gathered by point: the one source of the HDF5 file, the tables and the verdicts.
 */
#ifndef RV_LAB_RESULTS_H
#define RV_LAB_RESULTS_H

#include "base/json.h"
#include "base/status.h"
#include "lab/documented.h"
#include "lab/experiment.h"
#include "lab/stats.h"

#include <stddef.h>

#define RV_MAX_FAILURES 2 /* of one point over all runs: a resumed sweep tries it once more */

typedef struct rv_sample {
	double value;
	int32_t run, repetition;
} rv_sample;

typedef struct rv_metric_result {
	rv_sample *samples;
	size_t n, cap;
	char na[RV_REASON_BYTES]; /* "" when it has samples or was never tried */
	rv_summary summary;       /* by rv_results_finish */
	size_t n_outliers;        /* samples that rv_mark_outliers marks; by rv_results_finish */
} rv_metric_result;

typedef enum rv_point_status { RV_POINT_OK, RV_POINT_FAILED, RV_POINT_NOT_RUN } rv_point_status;
const char *rv_point_status_text(rv_point_status status); /* "not run" */

typedef struct rv_point_result {
	rv_metric_result metrics[RV_MAX_METRICS];
	char facts[RV_MAX_FACTS][RV_REASON_BYTES];
	const char *cannot_run; /* the experiment's reason not to measure it, or NULL */
	int n_done;             /* repetitions recorded: 0..n_done-1 */
	int n_failures;
	int failing;                  /* its last record is a failure */
	double cost_s;                /* of the last repetition */
	char error[RV_REASON_BYTES];  /* of the last failure */
	rv_point_status status;       /* by rv_results_finish */
	char reason[RV_REASON_BYTES]; /* "" when ok */
} rv_point_result;

typedef struct rv_results {
	const rv_experiment *exp;
	const rv_point *points; /* borrowed */
	int n_points;
	rv_point_result *results; /* [n_points] */
	json_t *runs;             /* array of run objects, in order */
	uint64_t seed;            /* of resamples; by rv_results_finish */
} rv_results;

rv_status rv_results_init(rv_results *r, const rv_experiment *exp, const rv_run_config *config,
                          const rv_point *points, int n_points);
void rv_results_free(rv_results *r); /* accepts a zeroed one */

/* ---- records of the journal: JSON texts ---- */

/* The text of a record, rv_free'd by the caller. */
rv_status rv_results_encode(const rv_experiment *exp, const rv_point *point, int run, int repetition,
                            double cost_s, const rv_record *record, char **text);
rv_status rv_results_encode_failure(const rv_point *point, int run, int repetition, const char *message,
                                    char **text);
rv_status rv_results_encode_run(const json_t *run, char **text);

/* Adds one record (rv_journal_visit_fn: user is the rv_results). Records of points that are not among
 * `points` are skipped: another selection of the same sweep made them. A repetition that was recorded
 * before is RV_ERR_FORMAT. */
rv_status rv_results_add(void *user, const char *payload, size_t size);

/* Summaries and statuses. missing: why points without enough repetitions were not run ("budget"). */
rv_status rv_results_finish(rv_results *r, uint64_t seed, const char *missing);

/* What was measured of a metric, for rv_judge. The result borrows from r. */
rv_measured rv_results_measured(const rv_results *r, int point, int metric);

/* Point of a documented row ("format=Q4_K_M"): its index, -1 when none matches, RV_SEVERAL_POINTS when
 * the row names too little. Metric of that name, or -1. */
#define RV_SEVERAL_POINTS (-2)
/* Fewest repetitions of a point. */
int rv_point_min_n(const rv_experiment *exp, const rv_point *point);
int rv_points_find(const rv_point *points, int n_points, const char *label);
int rv_results_find_point(const rv_results *r, const char *label);
int rv_results_find_metric(const rv_experiment *exp, const char *name);

/* The point that `point` is compared with (rv_experiment.baseline), or -1: none, itself, or not here.
 */
int rv_results_baseline(const rv_results *r, int point);

typedef struct rv_comparison {
	rv_summary ratio;     /* of point / baseline, by repetition: both were taken in one round */
	rv_mann_whitney test; /* of the same samples; meaningless when ratio.n is 0 */
} rv_comparison;

/* Of two points in one metric. ratio.n 0: exact, or no repetition of a run that both have and where
 * both are positive. */
rv_status rv_results_compare(const rv_results *r, int point, int baseline, int metric,
                             rv_comparison *out);

/* Everything but raw samples and topology as one JSON object (schema in report.h); the caller owns it.
 */
rv_status rv_results_json(const rv_results *r, const rv_documented *doc, const char *bandwidth_csv,
                          json_t **out);

/* Points, without those that cannot be run, as tab-separated values with a header line: label, status,
 * parameters, facts, then the median, lo95, hi95 and n of each metric; NaN for missing. For gnuplot. */
rv_status rv_results_write_tsv(const rv_results *r, const char *path);

#endif
