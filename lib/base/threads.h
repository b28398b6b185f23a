/* A pool of worker threads, pinned through hwloc.
 *
 * The calling thread is worker 0 and takes part in the work. Defaults honour the process's affinity
 * mask, cpusets and the cgroup CPU quota (rounded down, at least 1). Work is handed out in chunks by
 * an atomic counter; waiting threads spin briefly, then yield, then sleep, so that a pool larger than
 * the machine finishes too. One caller at a time a pool; several pools may live side by side.
 *
 * With `pin` the creating thread is bound to its CPU too, until the destroy on that same thread: a
 * thread it starts meanwhile inherits the binding. More threads than CPUs are left unbound. A pool is
 * not to be used in a forked child: its workers are not there (calls then run on the caller alone).
 */
#ifndef RV_BASE_THREADS_H
#define RV_BASE_THREADS_H

#include "base/status.h"

#include <stdint.h>

#define RV_MAX_THREADS 1024

typedef struct rv_threads rv_threads;

typedef struct rv_threads_options {
	int n_threads; /* 0: rv_threads_default_count() */
	int pin;       /* bind each worker to one core (hwloc); a failure is reported, not fatal */
} rv_threads_options;

rv_threads_options rv_threads_defaults(void);

/* CPUs this process may use: min(affinity and cpuset, floor(cgroup quota)), at least 1. */
int rv_threads_default_count(void);

/* When fewer threads than asked could be started the pool works with those; see report. */
rv_status rv_threads_create(rv_threads **out, const rv_threads_options *options);
void rv_threads_destroy(rv_threads *threads); /* accepts NULL */
int rv_threads_count(const rv_threads *threads);
int rv_threads_bound(const rv_threads *threads); /* is the caller, so the pool, bound to CPUs? */

/* One line: threads asked and started, the CPU of each, quota, what could not be bound. Owned by the
 * pool. */
const char *rv_threads_report(const rv_threads *threads);

/* Work on items [begin, end) by worker `thread` (0..count-1). A failure stops the hand-out of further
 * chunks and becomes the caller's error at the join: the first wins, the others are counted in the
 * message. */
typedef rv_status rv_work_fn(void *arg, int64_t begin, int64_t end, int thread);

/* Runs fn over [0, n) in chunks of `grain` items (>= 1) and returns when all are done. Runs on the
 * calling thread alone when n <= grain or the pool has one thread. Never allocates. Which worker takes
 * which chunk is not fixed: results must not depend on it. RV_ERR_INVALID when called from inside a job
 * of the same pool. */
rv_status rv_threads_for(rv_threads *threads, int64_t n, int64_t grain, rv_work_fn *fn, void *arg);

#endif
