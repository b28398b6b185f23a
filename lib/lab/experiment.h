/* An experiment is a declaration: parameters x values, metrics, documented rows, budgets, and three
 * callbacks. Options, resume, statistics, HDF5, tables, verdicts and report come from the lab.
 *
 *     int main(int argc, char **argv) { return rv_experiment_main(argc, argv, &quantization); }
 */
#ifndef RV_LAB_EXPERIMENT_H
#define RV_LAB_EXPERIMENT_H

#include "base/log.h"
#include "base/status.h"
#include "lab/calibrate.h"

#include <stddef.h>
#include <stdint.h>

#define RV_MAX_PARAMS 8
#define RV_MAX_METRICS 32
#define RV_MAX_FACTS 8
#define RV_REASON_BYTES 128 /* of a reason or fact, terminating NUL included */

typedef enum rv_profile {
	RV_PROFILE_SMOKE,
	RV_PROFILE_QUICK,
	RV_PROFILE_FULL,
	RV_PROFILE_COUNT
} rv_profile;
extern const char *const rv_profile_names[RV_PROFILE_COUNT + 1]; /* ends with NULL */

/* ---- parameters ---- */

/* BUILD values make a fixture (model, index, adapter) that the points differing in QUERY values share.
 */
typedef enum rv_param_phase { RV_PARAM_BUILD, RV_PARAM_QUERY } rv_param_phase;
typedef enum rv_param_kind { RV_PARAM_NUMBER, RV_PARAM_TEXT } rv_param_kind;

typedef struct rv_param_value {
	const char *text;    /* as in --only, labels and documented points; also of a number */
	double number;       /* kind NUMBER */
	rv_profile smallest; /* the smallest profile that includes it */
} rv_param_value;

typedef struct rv_param {
	const char *name; /* an identifier: becomes a column */
	const char *unit; /* "" when it has none */
	const char *help;
	rv_param_phase phase;
	rv_param_kind kind;
	const rv_param_value *values;
	int n_values;
} rv_param;

/* One combination of values. */
typedef struct rv_point {
	int index;                 /* in the order of declaration, over all points of the profile */
	int values[RV_MAX_PARAMS]; /* index into each parameter's values */
	char key[17];              /* 16 hex digits: everything that decides what is measured here */
	char label[160];           /* "format=Q4_K_M;threads=2" */
} rv_point;

/* ---- what is measured ---- */

typedef enum rv_better { RV_LOWER, RV_HIGHER } rv_better;

typedef struct rv_experiment_metric {
	const char *name; /* an identifier; its columns are <name>_median, ... */
	const char *unit;
	const char *title; /* column head of the report */
	const char *help;  /* one line: what exactly */
	rv_better better;
	/* Deterministic under the seed: measured once, no interval; but where the experiment computes
	 * one itself (over items, say), its ends are the exact metrics <name>_from and <name>_to. */
	int exact;
	int hidden;           /* in the files, not in the report's table */
	const char *roofline; /* metric that holds this one's share of its roof in %, or NULL */
	const char *format;   /* printf format of one double in the report */
} rv_experiment_metric;

/* A text per point: what was done rather than how well. */
typedef struct rv_fact {
	const char *name, *title, *help;
} rv_fact;

/* What one repetition brought: written by run(). Metrics not set in a repetition have no sample in it
 * (exact ones are set in repetition 0 only). */
typedef struct rv_record {
	double values[RV_MAX_METRICS];             /* NaN: not measured */
	char na[RV_MAX_METRICS][RV_REASON_BYTES];  /* why it cannot be, "" otherwise */
	char facts[RV_MAX_FACTS][RV_REASON_BYTES]; /* "" : not said */
} rv_record;
void rv_record_clear(rv_record *record);
void rv_record_na(rv_record *record, int metric, const char *reason);
void rv_record_fact(rv_record *record, int fact, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

/* ---- the run ---- */

/* What decides the results beside the parameters; filled by prepare() and part of every point's key. */
typedef struct rv_inputs {
	char model_path[4096]; /* "": no model */
	char model_sha256[65];
	char model_label[128]; /* for the report: "stories260K.f32.gguf (F32)" */
	char data_sha256[65];  /* "": no data set */
	char settings[256];    /* profile-dependent constants, "n_seq=16 n_tok=128" */
} rv_inputs;

typedef struct rv_run_config {
	rv_profile profile;
	const char *model; /* -m, or NULL */
	const char *root;  /* the project's folder: datasets/, build/cache/, results/ */
	uint64_t seed;
	int n_threads;       /* resolved, >= 1 */
	rv_threads *threads; /* pinned, shared with nobody while a callback runs; contexts on them:
	                      * rv_lab_context */
	rv_calibration calibration; /* of this process, on those threads */
	rv_inputs inputs;           /* empty in prepare() */
	rv_log log;
	int (*cancelled)(
	        void *user); /* never NULL; polled in long work, which then fails RV_ERR_CANCELLED */
	void *user;
} rv_run_config;

typedef struct rv_experiment rv_experiment;
struct rv_experiment {
	const char *id;         /* "T1" */
	const char *name;       /* "t1_quantization": stem of its files */
	const char *title;      /* "Quantization formats" */
	const char *about;      /* a paragraph for the report: method, units, definitions */
	const char *documented; /* file in datasets/documented/, or NULL */
	const char *plot;       /* stem of results/plots/<plot>.svg and .png, or NULL */
	const rv_param *params;
	int n_params;
	const rv_experiment_metric *metrics;
	int n_metrics;
	const rv_fact *facts;
	int n_facts;
	double budget_s[RV_PROFILE_COUNT]; /* wall-clock of the whole program, set-up included */
	int min_n;                         /* fewest repetitions that give an interval */
	/* Has the point exact metrics alone? Then one repetition is enough. NULL: none. */
	int (*is_exact)(const rv_experiment *exp, const rv_point *point);
	int max_n[RV_PROFILE_COUNT]; /* repetitions aimed at while the budget lasts */
	/* "format=F16": every point is compared with the one that has these values, its others being
	 * the same. NULL: no comparison. */
	const char *baseline;
	/* Is there such a combination of values? NULL: every one is a point. */
	int (*has_point)(const rv_experiment *exp, const rv_point *point);
	/* For sweeps whose points are few among very many combinations: how many parameters, in the
	 * order of declaration (BUILD ones first), have values that occur together at some point.
	 * Combinations that differ in later ones only are then not looked at. NULL: all are. */
	int (*n_fitting)(const rv_experiment *exp, const rv_point *point);
	/* Is it one in this profile, beside what the values' own profiles say? NULL: every one is. */
	int (*in_profile)(const rv_experiment *exp, rv_profile profile, const rv_point *point);
	/* Why a point cannot be measured by this build or of this model ("no speculative decoding in
	 * this build"; constant text), or NULL when it can. config has its inputs. It keeps its place
	 * in all tables as not run, and no other callback sees it. The callback may be NULL. */
	const char *(*not_run)(const rv_experiment *exp, const rv_run_config *config,
	                       const rv_point *point);
	/* Longest set-up or repetition before the watchdog ends the fixture; 0: half of the budget. */
	double limit_s[RV_PROFILE_COUNT];

	/* Resolves the inputs (finds or makes the model). May be NULL. Called once. */
	rv_status (*prepare)(const rv_experiment *exp, const rv_run_config *config, rv_inputs *inputs);
	/* The callbacks below run in a child process a fixture (see child.h): what they change in
	 * memory is seen by that fixture alone, and files that prepare() left open are not there. A
	 * crash, an exit or a time limit fails the points of the fixture, and the sweep goes on.
	 *
	 * The fixture is fixture_bytes of zeroed memory, the lab's. setup() fills it for `points` (all
	 * of one set of BUILD values, those still to be measured); `config` outlives it. teardown()
	 * releases what it holds, also after a setup() that failed half-way; may be NULL. */
	size_t fixture_bytes;
	rv_status (*setup)(const rv_experiment *exp, const rv_run_config *config,
	                   const rv_point *points, int n_points, void *fixture);
	/* One repetition. A failure is recorded as this point's, with its message, and the sweep goes
	 * on; RV_ERR_CANCELLED ends it. */
	rv_status (*run)(void *fixture, const rv_point *point, int repetition, rv_record *record);
	void (*teardown)(void *fixture);
};

/* The usual parts of a declaration, by their usual names: arrays params and metrics [N_METRICS],
 * callbacks prepare, setup, run and teardown, struct fixture; facts likewise where there are any. */
#define RV_EXPERIMENT_PARTS                                                                            \
	.params = params, .n_params = (int)(sizeof params / sizeof *params), .metrics = metrics,       \
	.n_metrics = N_METRICS, .prepare = prepare, .fixture_bytes = sizeof(fixture), .setup = setup,  \
	.run = run, .teardown = teardown
#define RV_EXPERIMENT_FACTS .facts = facts, .n_facts = (int)(sizeof facts / sizeof *facts)
#define RV_EXPERIMENT_MAIN(experiment)                                                                 \
	int main(int argc, char **argv) {                                                              \
		return rv_experiment_main(argc, argv, &experiment);                                    \
	}

/* The value of parameter `param` at a point. */
const rv_param_value *rv_point_value(const rv_experiment *exp, const rv_point *point, int param);

/* The whole program: options, sweep, files. Exit status 0, 1 (failed), 2 (usage), 128 + signal. */
int rv_experiment_main(int argc, char **argv, const rv_experiment *exp);

#endif
