#include "lab/sweep.h"

#include "base/mem.h"
#include "base/rng.h"
#include "base/sysinfo.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- records ---- */

void rv_record_clear(rv_record *record) {
	memset(record, 0, sizeof *record);
	for (int m = 0; m < RV_MAX_METRICS; m++)
		record->values[m] = NAN;
}

void rv_record_na(rv_record *record, int metric, const char *reason) {
	snprintf(record->na[metric], RV_REASON_BYTES, "%s", reason);
}

void rv_record_fact(rv_record *record, int fact, const char *fmt, ...) {
	va_list args;
	va_start(args, fmt);
	vsnprintf(record->facts[fact], RV_REASON_BYTES, fmt, args);
	va_end(args);
}

/* ---- one fixture ---- */

/* Points of one fixture while it is measured: indices into the sweep's points. */
typedef struct group {
	const rv_sweep *sweep;
	void *fixture;
	int *members;
	int n;
	int done, total; /* repetitions of this process, for progress */
} group;

static double elapsed_s(const rv_sweep *s) {
	return (double)(rv_now_ns() - s->start_ns) * 1e-9;
}

static double left_s(const rv_sweep *s) {
	return s->exp->budget_s[s->config->profile] - elapsed_s(s);
}

static int is_cancelled(const rv_sweep *s) {
	return s->config->cancelled(s->config->user);
}

static rv_status journal_text(const rv_sweep *s, char *text) {
	size_t n = strlen(text);
	rv_status status = rv_journal_append(s->journal, text, n);
	if (status == RV_OK)
		status = rv_results_add(s->results, text, n);
	rv_free(text);
	return status;
}

static rv_status record_failure(const rv_sweep *s, int point, int repetition) {
	char *text = NULL;
	RV_TRY(rv_results_encode_failure(&s->results->points[point], s->run, repetition,
	                                 rv_error_message(), &text));
	return journal_text(s, text);
}

/* One repetition of one point, into the journal. */
static rv_status measure(const group *g, int point, rv_record *record) {
	const rv_sweep *s = g->sweep;
	const rv_point *p = &s->results->points[point];
	int repetition = s->results->results[point].n_done;
	rv_record_clear(record);
	int64_t before = rv_now_ns();
	rv_status status = s->exp->run(g->fixture, p, repetition, record);
	double cost = (double)(rv_now_ns() - before) * 1e-9;
	if (status == RV_ERR_CANCELLED)
		return status;
	if (status != RV_OK)
		return record_failure(s, point, repetition);
	char *text = NULL;
	RV_TRY(rv_results_encode(s->exp, p, s->run, repetition, cost, record, &text));
	return journal_text(s, text);
}

/* Repetitions a point still wants; 0 for one that failed in this process or too often. */
static int wanted(const rv_sweep *s, int point, int n_failures_before) {
	const rv_point_result *r = &s->results->results[point];
	int max_n = s->exp->max_n[s->config->profile];
	if (r->n_failures > n_failures_before || r->n_failures >= RV_MAX_FAILURES || r->n_done >= max_n)
		return 0;
	return max_n - r->n_done;
}

static void report(const group *g, const char *label) {
	const rv_sweep *s = g->sweep;
	if (s->progress == NULL)
		return;
	double cost = 0;
	for (int i = 0; i < g->n; i++) {
		const rv_point_result *r = &s->results->results[g->members[i]];
		int more = s->exp->max_n[s->config->profile] - r->n_done;
		cost += more > 0 && r->n_failures == 0 ? more * r->cost_s : 0;
	}
	double left = cost > 0 ? fmax(0, fmin(cost, left_s(s))) : NAN;
	s->progress(s->user, &(rv_sweep_progress){g->done, g->total, elapsed_s(s), left, label});
}

/* Which points can still reach the minimum n in the time left: while their cost is too much for it, the
 * last one goes. A point that has the minimum already costs nothing here. */
static void drop_unaffordable(const group *g, char *dropped) {
	const rv_sweep *s = g->sweep;
	double left = left_s(s), need = 0;
	for (int i = 0; i < g->n; i++) {
		const rv_point_result *r = &s->results->results[g->members[i]];
		int more = s->exp->min_n - r->n_done;
		if (!dropped[i] && more > 0)
			need += more * r->cost_s;
	}
	for (int i = g->n - 1; i >= 0 && need > left; i--) {
		const rv_point_result *r = &s->results->results[g->members[i]];
		int more = s->exp->min_n - r->n_done;
		if (dropped[i] || more <= 0)
			continue;
		dropped[i] = 1;
		need -= more * r->cost_s;
	}
}

static void shuffle(int *order, int n, rv_rng *rng) {
	for (int i = 0; i < n; i++)
		order[i] = i;
	for (int i = n - 1; i > 0; i--) {
		int j = (int)rv_rng_below(rng, (uint64_t)i + 1), t = order[i];
		order[i] = order[j];
		order[j] = t;
	}
}

typedef struct group_state {
	int *order, *failures_before;
	char *dropped;
	rv_record record;
} group_state;

/* Repetition 0 of all points, then the rest, round after round. When the budget is spent no point is
 * begun, and those that have the minimum rest; the others were dropped before unless they could still
 * reach it. */
static rv_status rounds(group *g, group_state *st) {
	const rv_sweep *s = g->sweep;
	for (int round = 0, active = 1; active > 0; round++) {
		rv_rng rng;
		rv_rng_stream(&rng, s->config->seed, (uint64_t)round);
		shuffle(st->order, g->n, &rng);
		active = 0;
		for (int i = 0; i < g->n; i++) {
			int member = st->order[i], point = g->members[member];
			int n_done = s->results->results[point].n_done;
			int over = left_s(s) <= 0 && (n_done == 0 || n_done >= s->exp->min_n);
			if (st->dropped[member] || over ||
			    wanted(s, point, st->failures_before[member]) == 0)
				continue;
			if (is_cancelled(s))
				return rv_fail(RV_ERR_CANCELLED, "interrupted");
			report(g, s->results->points[point].label);
			RV_TRY(measure(g, point, &st->record));
			g->done++;
			active++;
		}
		drop_unaffordable(g, st->dropped);
	}
	return RV_OK;
}

static rv_status measure_group(group *g) {
	group_state *st = NULL;
	RV_TRY(RV_ALLOC(&st, 1, "sweep"));
	rv_status status = RV_ALLOC(&st->order, g->n, "sweep order");
	if (status == RV_OK)
		status = RV_ALLOC(&st->failures_before, g->n, "sweep");
	if (status == RV_OK)
		status = RV_ALLOC(&st->dropped, g->n, "sweep");
	for (int i = 0; i < g->n && status == RV_OK; i++)
		st->failures_before[i] = g->sweep->results->results[g->members[i]].n_failures;
	if (status == RV_OK)
		status = rounds(g, st);
	rv_free(st->order);
	rv_free(st->failures_before);
	rv_free(st->dropped);
	rv_free(st);
	return status;
}

/* Set-up, measurement and teardown of one fixture. A set-up that fails is the failure of its points. */
static rv_status run_fixture(group *g) {
	const rv_sweep *s = g->sweep;
	rv_point *points = NULL;
	RV_TRY(RV_ALLOC(&points, g->n, "points"));
	for (int i = 0; i < g->n; i++)
		points[i] = s->results->points[g->members[i]];
	report(g, "set-up");
	rv_status status = s->exp->setup(s->exp, s->config, points, g->n, &g->fixture);
	rv_free(points);
	if (status == RV_ERR_CANCELLED)
		return status;
	if (status != RV_OK) {
		for (int i = 0; i < g->n; i++)
			RV_TRY(record_failure(s, g->members[i], 0));
		return RV_OK;
	}
	status = measure_group(g);
	s->exp->teardown(g->fixture);
	g->fixture = NULL;
	return status;
}

/* ---- all fixtures ---- */

static int same_fixture(const rv_experiment *exp, const rv_point *a, const rv_point *b) {
	for (int i = 0; i < exp->n_params; i++)
		if (exp->params[i].phase == RV_PARAM_BUILD && a->values[i] != b->values[i])
			return 0;
	return 1;
}

rv_status rv_sweep_run(const rv_sweep *s) {
	rv_results *r = s->results;
	group g = {.sweep = s};
	RV_TRY(RV_ALLOC(&g.members, r->n_points, "sweep"));
	for (int p = 0; p < r->n_points; p++)
		g.total += wanted(s, p, RV_MAX_FAILURES);
	rv_status status = RV_OK;
	for (int first = 0, next; first < r->n_points && status == RV_OK; first = next) {
		g.n = 0;
		for (next = first;
		     next < r->n_points && same_fixture(s->exp, &r->points[first], &r->points[next]);
		     next++)
			if (wanted(s, next, RV_MAX_FAILURES) > 0)
				g.members[g.n++] = next;
		if (is_cancelled(s))
			status = rv_fail(RV_ERR_CANCELLED, "interrupted");
		else if (g.n > 0 && left_s(s) > 0)
			status = run_fixture(&g);
	}
	rv_free(g.members);
	return status;
}
