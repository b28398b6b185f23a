/* Documented values as data, and their mechanical comparison with measured ones (SPEC 8).
 *
 * CSV with the header  table,point,metric,value_lo,value_hi,unit,kind,hardware,seed,comparable_reason
 * (RFC 4180 quoting). point is "parameter=value" pairs joined by ';', empty for every point of the
 * table; metric and unit are those of the experiment's declaration; a single value has value_lo =
 * value_hi, an open end is empty; kind, hardware and seed (the document, SPEC: the specification) are
 * one of the names below; comparable_reason is empty for a comparable row, else why it cannot be
 * compared in absolute terms. */
#ifndef RV_LAB_DOCUMENTED_H
#define RV_LAB_DOCUMENTED_H

#include "base/status.h"

#include <stddef.h>

#define RV_DOCUMENTED_FIELDS(X)                                                                        \
	X(table)                                                                                       \
	X(point)                                                                                       \
	X(metric) X(value_lo) X(value_hi) X(unit) X(kind) X(hardware) X(seed) X(comparable_reason)

#define RV_DOCUMENTED_KINDS                                                                            \
	{ "target", "claimed", "expected", "configuration", NULL }
#define RV_DOCUMENTED_HARDWARE                                                                         \
	{ "M3 Max", "M4 Pro", "unstated", NULL }
#define RV_DOCUMENTED_SEEDS                                                                            \
	{ "S0", "S1", "S2", "S3", "S4", "SPEC", NULL }

typedef struct rv_documented_row {
	char *table, *point, *metric, *unit, *kind, *hardware, *seed,
	        *comparable_reason; /* never NULL */
	double lo, hi;              /* NaN: open end; not both */
} rv_documented_row;

typedef struct rv_documented {
	rv_documented_row *rows;
	size_t n;
} rv_documented;

/* Reads and checks a whole file; a malformed row is RV_ERR_FORMAT with its line. */
rv_status rv_documented_read(rv_documented *out, const char *path);
void rv_documented_free(rv_documented *doc); /* accepts a zeroed one; zeroes it */

/* Memory bandwidth of documented hardware, for scaling an expectation to this machine: CSV with the
 * header hardware,read_gb_s,source. RV_ERR_NOT_FOUND when the hardware is not listed. */
rv_status rv_documented_bandwidth(const char *path, const char *hardware, double *gb_s);

/* ---- verdicts ---- */

typedef enum rv_verdict {
	RV_MET,          /* the worse end of the interval reaches the documented value */
	RV_NOT_MET,      /* the better end does not */
	RV_INCONCLUSIVE, /* the interval straddles it, or there is none */
	RV_NOT_COMPARABLE,
	RV_NA,     /* not measurable here: reason */
	RV_NOT_RUN /* reason */
} rv_verdict;
const char *rv_verdict_text(rv_verdict verdict); /* "not met" */

/* What was measured of one metric at one point. */
typedef struct rv_measured {
	double median, lo, hi; /* lo = hi = median for an exact metric; NaN: no interval */
	const char *na;        /* why there is no value; NULL: there is one */
	const char *not_run;   /* why the point was not measured (enough); NULL: it was */
} rv_measured;

/* *reason is borrowed from row or measured, or NULL. A range is reached at its worse end. A row that is
 * not comparable says so whatever was measured, or whether: its data states it beforehand. */
rv_verdict rv_judge(const rv_documented_row *row, int higher_is_better, const rv_measured *measured,
                    const char **reason);

/* The same of a row without a point, from what was measured at each of n points: it holds when it holds
 * at every point that has the metric. So not met where any point does not reach it, else not run when
 * one was not measured, else inconclusive when one is, else met; n/a when no point has the metric.
 * *decisive (-1: none) is the point the verdict is from, of several the one with the worst median. */
rv_verdict rv_judge_all(const rv_documented_row *row, int higher_is_better, const rv_measured *measured,
                        int n, int *decisive, const char **reason);

/* measured / documented, against the end of a range that rv_judge uses; NaN when that is 0 or open. */
double rv_documented_ratio(const rv_documented_row *row, int higher_is_better, double measured);

#endif
