/* A small experiment for tests: values are a pure function of point and repetition, and its faults are
 * switched on by the test. */
#ifndef RV_TESTS_LAB_TOY_H
#define RV_TESTS_LAB_TOY_H

#include "base/mem.h"
#include "lab/experiment.h"
#include "lab/sweep.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { TOY_SPEED, TOY_SIZE, TOY_QUALITY, TOY_METRICS };

/* What becomes of the fixture. */
typedef enum toy_end {
	TOY_LIVES,
	TOY_CRASHES, /* SIGSEGV */
	TOY_EXITS,   /* status 3 */
	TOY_HANGS,
	TOY_HOLDS, /* hangs, but hears of a cancellation */
} toy_end;

typedef struct toy_faults {
	int fail_setup_of;   /* index of a build value, or -1 */
	int fail_run_of;     /* point index, or -1 */
	int cancel_after;    /* repetitions until the sweep is cancelled; 0: never */
	useconds_t sleep_us; /* of each repetition */
	useconds_t first_us; /* of repetition 0 besides */
	toy_end setup_end, run_end, teardown_end;
	int end_build;                /* index of the build value whose fixture that happens to */
	int end_repetition;           /* run_end: in this repetition of any point */
	int n_runs, n_setups, n_open; /* counted */
	int runs_of[8][8];            /* by point and repetition */
} toy_faults;

/* Fixtures run in child processes: what they count is shared. */
static toy_faults *toy_shared(void) {
	static toy_faults *page;
	if (page == NULL)
		page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		            0);
	if (page == MAP_FAILED)
		abort();
	return page;
}
#define toy (*toy_shared())

static void toy_meet(toy_end end, const rv_run_config *config) {
	if (end == TOY_CRASHES) {
		signal(SIGSEGV, SIG_DFL); /* sanitizers have a handler */
		raise(SIGSEGV);
	} else if (end == TOY_EXITS) {
		_exit(3);
	} else if (end == TOY_HANGS || end == TOY_HOLDS) {
		while (end == TOY_HANGS || !config->cancelled(config->user))
			usleep(1000);
	}
}

typedef struct toy_fixture {
	const rv_run_config *config;
	int build;
} toy_fixture;

static const rv_param_value toy_builds[] = {{"4", 4, RV_PROFILE_SMOKE}, {"8", 8, RV_PROFILE_QUICK}};
static const rv_param_value toy_queries[] = {
        {"red", 0, RV_PROFILE_SMOKE}, {"green", 0, RV_PROFILE_SMOKE}, {"blue", 0, RV_PROFILE_QUICK}};
static const rv_param toy_params[] = {
        {"hue", "", "a query", RV_PARAM_QUERY, RV_PARAM_TEXT, toy_queries, 3},
        {"m", "links", "a build", RV_PARAM_BUILD, RV_PARAM_NUMBER, toy_builds, 2},
};
static const rv_experiment_metric toy_metrics[TOY_METRICS] = {
        {"speed", "op/s", "speed", "operations a second", RV_HIGHER, 0, 0, NULL, "%.1f"},
        {"size", "bytes", "size", "size", RV_LOWER, 1, 0, NULL, "%.0f"},
        {"quality", "%", "quality", "never measurable", RV_HIGHER, 1, 0, NULL, "%.2f"},
};
static const rv_fact toy_facts[] = {{"note", "note", "what was done"}};

static double toy_speed(const rv_point *p, int repetition) {
	return 100 * (p->index + 1) + (repetition * 7) % 5;
}

static rv_status toy_setup(const rv_experiment *exp, const rv_run_config *config,
                           const rv_point *points, int n_points, void *fixture) {
	(void)exp;
	(void)n_points;
	toy_fixture *f = fixture;
	f->config = config;
	f->build = points[0].values[1];
	toy.n_setups++;
	toy.n_open++;
	if (points[0].values[1] == toy.fail_setup_of)
		return rv_fail(RV_ERR_IO, "toy set-up failed");
	if (points[0].values[1] == toy.end_build)
		toy_meet(toy.setup_end, config);
	return RV_OK;
}

static rv_status toy_run(void *fixture, const rv_point *p, int repetition, rv_record *record) {
	const toy_fixture *f = fixture;
	if (p->index == toy.fail_run_of)
		return rv_fail(RV_ERR_NUMERIC, "toy run failed");
	if (f->build == toy.end_build && repetition == toy.end_repetition)
		toy_meet(toy.run_end, f->config);
	if (f->config->cancelled(f->config->user))
		return rv_fail(RV_ERR_CANCELLED, "toy interrupted");
	toy.n_runs++;
	toy.runs_of[p->index][repetition]++;
	if (toy.sleep_us > 0)
		usleep(toy.sleep_us);
	if (toy.first_us > 0 && repetition == 0)
		usleep(toy.first_us);
	record->values[TOY_SPEED] = toy_speed(p, repetition);
	if (repetition == 0) {
		record->values[TOY_SIZE] = 10 + p->index;
		rv_record_na(record, TOY_QUALITY, "toys have none");
		rv_record_fact(record, 0, "point %d", p->index);
	}
	return RV_OK;
}

static void toy_teardown(void *fixture) {
	const toy_fixture *f = fixture;
	if (f->build == toy.end_build)
		toy_meet(toy.teardown_end, f->config);
	toy.n_open--;
}

static const rv_experiment toy_experiment = {
        .id = "T0",
        .name = "t0_toy",
        .title = "Toy",
        .about = "A toy.",
        .params = toy_params,
        .n_params = 2,
        .metrics = toy_metrics,
        .n_metrics = TOY_METRICS,
        .facts = toy_facts,
        .n_facts = 1,
        .budget_s = {30, 30, 30},
        .min_n = 3,
        .max_n = {5, 5, 5},
        .baseline = "hue=red",
        .fixture_bytes = sizeof(toy_fixture),
        .setup = toy_setup,
        .run = toy_run,
        .teardown = toy_teardown,
};

static int toy_cancelled(void *user) {
	(void)user;
	return toy.cancel_after > 0 && toy.n_runs >= toy.cancel_after;
}

/* One run of the toy sweep on a journal: what a process would do between start and end. */
typedef struct toy_session {
	rv_point *points;
	int n_points;
	rv_results results;
	rv_journal *journal;
	rv_run_config config;
	rv_status status; /* of the sweep */
	int max_n;        /* for the sweep */
} toy_session;

static inline rv_status toy_open(toy_session *s, const rv_experiment *exp, const char *journal,
                                 const rv_selection *only) {
	const rv_selection all = {0};
	*s = (toy_session){
	        .config = {.profile = RV_PROFILE_QUICK, .seed = 1, .cancelled = toy_cancelled}};
	RV_TRY(rv_sweep_points(exp, RV_PROFILE_QUICK, only != NULL ? only : &all, &s->points,
	                       &s->n_points));
	rv_sweep_keys(exp, "toy identity", s->points, s->n_points);
	RV_TRY(rv_results_init(&s->results, exp, NULL, s->points, s->n_points));
	return rv_journal_open(&s->journal, journal, "toy identity", rv_results_add, &s->results, NULL);
}

static inline rv_status toy_measure(toy_session *s, const rv_experiment *exp, int64_t start_ns) {
	char *text = NULL;
	int run = (int)json_array_size(s->results.runs);
	json_t *provenance =
	        json_pack("{s:i, s:s, s:f}", "run", run, "command", "toy 'x'", "read_gb_s", 10.0);
	RV_TRY(rv_results_encode_run(provenance, &text));
	json_decref(provenance);
	rv_status status = rv_journal_append(s->journal, text, strlen(text));
	if (status == RV_OK)
		status = rv_results_add(&s->results, text, strlen(text));
	rv_free(text);
	RV_TRY(status);
	const rv_sweep sweep = {.exp = exp,
	                        .config = &s->config,
	                        .results = &s->results,
	                        .journal = s->journal,
	                        .run = run,
	                        .start_ns = start_ns,
	                        .max_n = s->max_n};
	s->status = rv_sweep_run(&sweep);
	return rv_results_finish(&s->results, 1, "budget");
}

static inline void toy_close(toy_session *s) {
	rv_journal_close(s->journal);
	rv_results_free(&s->results);
	rv_free(s->points);
}

#endif
