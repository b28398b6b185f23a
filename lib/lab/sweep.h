/* The sweep engine: points from parameters, resumable repetitions in a seeded shuffled order, a budget.
 *
 * Repetitions go round-robin over the points of a fixture, each round in its own shuffled order, so
 * that drift of the machine spreads over all points. Each repetition is in the journal before the next
 * begins. Fixtures live in child processes under a watchdog (child.h); the journal is written here
 * alone.
 */
#ifndef RV_LAB_SWEEP_H
#define RV_LAB_SWEEP_H

#include "base/journal.h"
#include "lab/experiment.h"
#include "lab/results.h"

#include <stddef.h>

/* "k=v" selections; several of one parameter are alternatives. */
typedef struct rv_selection {
	const char *const *items;
	int n;
} rv_selection;

/* All combinations of the profile's values that match the selection, BUILD parameters outermost, into a
 * rv_free'd array of at least one; keys are filled by rv_sweep_keys. RV_ERR_INVALID names an unknown
 * parameter or value and lists the accepted ones, or says that no point has the selected values
 * together. */
rv_status rv_sweep_points(const rv_experiment *exp, rv_profile profile, const rv_selection *only,
                          rv_point **points, int *n_points);

/* What all points share, as one line: experiment, model, data, settings, build, machine, seed, threads.
 * rv_free'd by the caller. It is the journal's identity and part of every key. */
rv_status rv_sweep_identity(const rv_experiment *exp, const rv_run_config *config, char **identity);
void rv_sweep_keys(const rv_experiment *exp, const char *identity, rv_point *points, int n_points);

typedef struct rv_sweep_progress {
	int done, total;          /* repetitions of this process */
	double elapsed_s, left_s; /* left: estimate; NaN: none yet */
	const char *label;        /* of the point about to be measured, or what is being prepared */
} rv_sweep_progress;

typedef struct rv_sweep {
	const rv_experiment *exp;
	const rv_run_config *config;
	rv_results *results; /* what the journal already holds; grows with it */
	rv_journal *journal;
	int run;          /* number of this process's run record */
	int64_t start_ns; /* of the program: the budget counts from here */
	double limit_s;   /* longest set-up or repetition; 0: as the experiment says */
	int max_n; /* most repetitions of a point, those of earlier runs included; 0: as it says */
	void (*progress)(void *user, const rv_sweep_progress *p); /* may be NULL */
	void *user;
} rv_sweep;

/* Measures what is missing. RV_OK when the budget ended it early, or points failed: the results say so.
 * A fixture that crashes, exits or makes no progress fails all its unfinished points. RV_ERR_CANCELLED
 * when config->cancelled() became true between repetitions or a callback said so; other failures are
 * those of the journal. Everything measured until then is in journal and results. */
rv_status rv_sweep_run(const rv_sweep *sweep);

#endif
