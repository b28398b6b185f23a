#include "lab/sweep.h"

#include "base/mem.h"
#include "base/rng.h"
#include "base/sysinfo.h"
#include "lab/child.h"

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
	rv_child *child;
	int *members, *order, *failures_before; /* [n] */
	char *dropped;                          /* [n] */
	double begin_s,
	        extra_s;      /* when the first fixture was begun; what was more than the minimum n */
	int n_begun, n_later; /* points without the minimum n: of fixtures begun, of later ones */
	int n;
	int done, total; /* repetitions of this process, for progress */
	rv_record record;
} group;

static double elapsed_s(const rv_sweep *s) {
	return (double)(rv_now_ns() - s->start_ns) * 1e-9;
}

static double left_s(const rv_sweep *s) {
	return s->exp->budget_s[s->config->profile] - elapsed_s(s);
}

/* How much longer than the one before a repetition may take, and what is never too long. */
#define SLOWEST 20
#define MIN_LIMIT_S 5.0

/* The watchdog's patience with a set-up, or a repetition that took cost_s last time (0: unknown). */
static double limit_s(const rv_sweep *s, double cost_s) {
	rv_profile profile = s->config->profile;
	double limit = s->limit_s > 0 ? s->limit_s : s->exp->limit_s[profile];
	if (limit > 0)
		return limit;
	limit = fmax(MIN_LIMIT_S, s->exp->budget_s[profile] / 2);
	return cost_s > 0 ? fmin(limit, fmax(MIN_LIMIT_S, SLOWEST * cost_s)) : limit;
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

/* Repetitions aimed at. */
static int aim(const rv_sweep *s) {
	int max_n = s->exp->max_n[s->config->profile];
	return s->max_n > 0 && s->max_n < max_n ? s->max_n : max_n;
}

/* Repetitions a point still wants; 0 for one that cannot be run, or failed in this process or too
 * often. */
static int wanted(const rv_sweep *s, int point, int n_failures_before) {
	const rv_point_result *r = &s->results->results[point];
	if (r->cannot_run != NULL || r->n_failures > n_failures_before ||
	    r->n_failures >= RV_MAX_FAILURES || r->n_done >= aim(s))
		return 0;
	return aim(s) - r->n_done;
}

static rv_status record_failure(const rv_sweep *s, int point, const char *why) {
	char *text = NULL;
	RV_TRY(rv_results_encode_failure(&s->results->points[point], s->run,
	                                 s->results->results[point].n_done, why, &text));
	return journal_text(s, text);
}

/* The fixture is no more: the failure of all its points that were not done. */
static rv_status record_failures(const group *g) {
	char why[RV_ERROR_MESSAGE_MAX];
	snprintf(why, sizeof why, "%s", rv_error_message());
	for (int i = 0; i < g->n; i++)
		if (wanted(g->sweep, g->members[i], g->failures_before[i]) > 0)
			RV_TRY(record_failure(g->sweep, g->members[i], why));
	return RV_OK;
}

/* One repetition of one point, into the journal. */
static rv_status measure(group *g, int point) {
	const rv_sweep *s = g->sweep;
	const rv_point_result *r = &s->results->results[point];
	const rv_point *p = &s->results->points[point];
	int repetition = r->n_done;
	double cost = 0;
	rv_status status =
	        rv_child_run(g->child, p, repetition, limit_s(s, r->cost_s), &g->record, &cost);
	if (status == RV_ERR_CANCELLED)
		return status;
	if (status != RV_OK)
		return rv_child_alive(g->child) ? record_failure(s, point, rv_error_message())
		                                : record_failures(g);
	char *text = NULL;
	RV_TRY(rv_results_encode(s->exp, p, s->run, repetition, cost, &g->record, &text));
	return journal_text(s, text);
}

static void report(const group *g, const char *label) {
	const rv_sweep *s = g->sweep;
	if (s->progress == NULL)
		return;
	double cost = 0;
	for (int i = 0; i < g->n; i++) {
		const rv_point_result *r = &s->results->results[g->members[i]];
		int more = aim(s) - r->n_done;
		cost += more > 0 && r->n_failures == 0 ? more * r->cost_s : 0;
	}
	double left = cost > 0 ? fmax(0, fmin(cost, left_s(s))) : NAN;
	s->progress(s->user, &(rv_sweep_progress){g->done, g->total, elapsed_s(s), left, label});
}

static int fewest(const rv_sweep *s, int point) {
	return rv_point_min_n(s->exp, &s->results->points[point]);
}

/* Repetitions until a member has the minimum n. */
static int more_of(const group *g, int member) {
	const rv_sweep *s = g->sweep;
	int more = fewest(s, g->members[member]) - s->results->results[g->members[member]].n_done;
	return more > 0 && wanted(s, g->members[member], g->failures_before[member]) > 0 ? more : 0;
}

/* Which points can still reach the minimum n in the time left: while their cost is too much for it, the
 * last one goes. A point that has the minimum already costs nothing here. The first repetition often
 * does what is done once, so nobody is judged by it alone if there is time for another; and all are
 * judged anew after every round. Returns the need of those that stay. */
static double drop_unaffordable(group *g, int round) {
	const rv_point_result *r = g->sweep->results->results;
	double left = left_s(g->sweep), once = 0, need = 0;
	for (int i = 0; i < g->n; i++) {
		double cost = r[g->members[i]].cost_s;
		g->dropped[i] = 0;
		once += more_of(g, i) > 0 ? cost : 0;
		need += more_of(g, i) * cost;
	}
	if (round == 0 && once < left / 2)
		return need;
	for (int i = g->n - 1; i >= 0 && need > left; i--) {
		g->dropped[i] = more_of(g, i) > 0;
		need -= more_of(g, i) * r[g->members[i]].cost_s;
	}
	return need;
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

/* What later fixtures are expected to take for the minimum n: a point as those so far, set-up included.
 */
static double later_s(const group *g) {
	double spent = elapsed_s(g->sweep) - g->begin_s - g->extra_s;
	return g->n_begun ? g->n_later * spent / g->n_begun : 0;
}

/* Does a point rest in this round? When the budget is spent none is begun, and those that have the
 * minimum rest; these rest also while what is left is wanted by points that have not. */
static int rests(const group *g, int member, double need) {
	const rv_sweep *s = g->sweep;
	const rv_point_result *r = &s->results->results[g->members[member]];
	if (g->dropped[member])
		return 1;
	if (r->n_done > 0 && r->n_done < fewest(s, g->members[member]))
		return 0;
	return left_s(s) <= (r->n_done == 0 ? 0 : need + later_s(g) + r->cost_s);
}

/* Repetition 0 of all points, then the rest, round after round; points that cannot reach the minimum
 * are left out. */
static rv_status rounds(group *g) {
	const rv_sweep *s = g->sweep;
	double need = 0;
	for (int round = 0, active = 1; active > 0; round++) {
		rv_rng rng;
		rv_rng_stream(&rng, s->config->seed, (uint64_t)round);
		shuffle(g->order, g->n, &rng);
		active = 0;
		for (int i = 0; i < g->n; i++) {
			int member = g->order[i], point = g->members[member];
			const rv_point_result *r = &s->results->results[point];
			int n_done = r->n_done;
			if (wanted(s, point, g->failures_before[member]) == 0 || rests(g, member, need))
				continue;
			if (is_cancelled(s))
				return rv_fail(RV_ERR_CANCELLED, "interrupted");
			report(g, s->results->points[point].label);
			RV_TRY(measure(g, point));
			if (!rv_child_alive(g->child))
				return RV_OK;
			g->extra_s += n_done >= fewest(s, point) ? r->cost_s : 0;
			g->done++;
			active++;
		}
		need = drop_unaffordable(g, round);
	}
	return RV_OK;
}

/* A copy of the points of the fixture, for its set-up. */
static rv_status copy_points(const group *g, rv_point **out) {
	rv_point *points = NULL;
	RV_TRY(RV_ALLOC(&points, g->n, "points"));
	for (int i = 0; i < g->n; i++)
		points[i] = g->sweep->results->points[g->members[i]];
	*out = points;
	return RV_OK;
}

/* Set-up, measurement and teardown of one fixture. A set-up that fails is the failure of its points. */
static rv_status run_fixture(group *g) {
	const rv_sweep *s = g->sweep;
	rv_point *points = NULL;
	RV_TRY(copy_points(g, &points));
	for (int i = 0; i < g->n; i++) {
		g->failures_before[i] = s->results->results[g->members[i]].n_failures;
		g->dropped[i] = 0;
	}
	report(g, "set-up");
	rv_status status = rv_child_start(&g->child, s->exp, s->config, points, g->n, limit_s(s, 0));
	rv_free(points);
	if (status == RV_ERR_CANCELLED)
		return status;
	if (status != RV_OK)
		return record_failures(g);
	status = rounds(g);
	if (!rv_child_alive(g->child)) {
		(void)rv_child_end(g->child, 0); /* how it ended is recorded */
	} else if (status == RV_OK) {
		/* everything is measured: a bad end is worth a warning only */
		if (rv_child_end(g->child, limit_s(s, 0)) != RV_OK)
			rv_logf(&s->config->log, RV_LOG_WARN, "%s", rv_error_message());
	} else {
		char why[RV_ERROR_MESSAGE_MAX];
		snprintf(why, sizeof why, "%s", rv_error_message());
		(void)rv_child_end(g->child, limit_s(s, 0)); /* the first failure is told */
		status = rv_fail(status, "%s", why);
	}
	g->child = NULL;
	return status;
}

/* ---- all fixtures ---- */

static int same_fixture(const rv_experiment *exp, const rv_point *a, const rv_point *b) {
	for (int i = 0; i < exp->n_params; i++)
		if (exp->params[i].phase == RV_PARAM_BUILD && a->values[i] != b->values[i])
			return 0;
	return 1;
}

/* Points from `first` on that have not the minimum n. */
static int n_short(const rv_sweep *s, int first) {
	int n = 0;
	for (int p = first; p < s->results->n_points; p++)
		n += wanted(s, p, RV_MAX_FAILURES) > 0 && s->results->results[p].n_done < fewest(s, p);
	return n;
}

static rv_status run_fixtures(group *g) {
	const rv_sweep *s = g->sweep;
	const rv_results *r = s->results;
	g->begin_s = elapsed_s(s);
	for (int first = 0, next; first < r->n_points; first = next) {
		g->n = 0;
		for (next = first;
		     next < r->n_points && same_fixture(s->exp, &r->points[first], &r->points[next]);
		     next++)
			if (wanted(s, next, RV_MAX_FAILURES) > 0)
				g->members[g->n++] = next;
		if (is_cancelled(s))
			return rv_fail(RV_ERR_CANCELLED, "interrupted");
		g->n_later = n_short(s, next);
		g->n_begun += n_short(s, first) - g->n_later;
		if (g->n > 0 && left_s(s) > 0)
			RV_TRY(run_fixture(g));
	}
	return RV_OK;
}

rv_status rv_sweep_run(const rv_sweep *s) {
	rv_results *r = s->results;
	group *g = NULL;
	RV_TRY(RV_ALLOC(&g, 1, "sweep"));
	g->sweep = s;
	for (int p = 0; p < r->n_points; p++)
		g->total += wanted(s, p, RV_MAX_FAILURES);
	rv_status status = RV_ALLOC(&g->members, r->n_points, "sweep");
	if (status == RV_OK)
		status = RV_ALLOC(&g->order, r->n_points, "sweep order");
	if (status == RV_OK)
		status = RV_ALLOC(&g->failures_before, r->n_points, "sweep");
	if (status == RV_OK)
		status = RV_ALLOC(&g->dropped, r->n_points, "sweep");
	if (status == RV_OK)
		status = run_fixtures(g);
	rv_free(g->members);
	rv_free(g->order);
	rv_free(g->failures_before);
	rv_free(g->dropped);
	rv_free(g);
	return status;
}
