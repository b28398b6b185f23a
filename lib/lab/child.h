/* A fixture in a child process of its own, under a watchdog: what it does to its memory, its threads or
 * itself ends with it. The child answers one request at a time and never touches the journal.
 *
 * A child dies with its parent, ignores SIGINT, SIGTERM and SIGHUP (the parent decides), has a pool of
 * its own on the same CPUs, and of open files only the standard streams. Not thread-safe: one thread
 * starts, uses and ends a child, and outlives it. */
#ifndef RV_LAB_CHILD_H
#define RV_LAB_CHILD_H

#include "lab/experiment.h"

typedef struct rv_child rv_child;

/* Forks and runs the set-up for at most limit_s seconds. On failure there is no child: the status and
 * message of the set-up, or RV_ERR_IO "fixture killed by SIGSEGV", "fixture exited with status 3",
 * RV_ERR_LIMIT "no progress for 5 s"; RV_ERR_CANCELLED when config->cancelled() became true. What
 * config points to is borrowed until the end. */
rv_status rv_child_start(rv_child **out, const rv_experiment *exp, const rv_run_config *config,
                         const rv_point *points, int n_points, double limit_s);

/* One repetition of a point, and the seconds run() took. Failures as above; only while
 * rv_child_alive() is it one of the repetition rather than of the whole fixture. */
rv_status rv_child_run(rv_child *child, const rv_point *point, int repetition, double limit_s,
                       rv_record *record, double *cost_s);
int rv_child_alive(const rv_child *child);

/* Teardown, for at most limit_s seconds, and the end of the process; frees the child in any case. Says
 * how a child ended that did not end well. Accepts NULL. */
rv_status rv_child_end(rv_child *child, double limit_s);

#endif
