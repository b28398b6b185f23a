#include "lab/results.h"

#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *rv_point_status_text(rv_point_status status) {
	static const char *const texts[] = {"ok", "failed", "not run"};
	return texts[status];
}

rv_status rv_results_init(rv_results *r, const rv_experiment *exp, const rv_run_config *config,
                          const rv_point *points, int n_points) {
	rv_results fresh = {.exp = exp, .points = points, .n_points = n_points};
	RV_TRY(RV_ALLOC(&fresh.results, n_points, "results"));
	fresh.runs = json_array();
	if (fresh.runs == NULL) {
		rv_free(fresh.results);
		return rv_fail(RV_ERR_NO_MEMORY, "results: out of memory");
	}
	for (int p = 0; p < n_points && exp->not_run != NULL; p++)
		fresh.results[p].cannot_run = exp->not_run(exp, config, &points[p]);
	*r = fresh;
	return RV_OK;
}

void rv_results_free(rv_results *r) {
	for (int p = 0; p < r->n_points && r->results != NULL; p++)
		for (int m = 0; m < RV_MAX_METRICS; m++)
			rv_free(r->results[p].metrics[m].samples);
	rv_free(r->results);
	json_decref(r->runs);
	*r = (rv_results){0};
}

/* ---- encoding ---- */

/* Compact text of `value`, which is released. */
static rv_status dump(json_t *value, int bad, char **text) {
	char *s = value != NULL && !bad ? json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(17))
	                                : NULL;
	json_decref(value);
	if (s == NULL)
		return rv_fail(RV_ERR_NO_MEMORY, "journal record: out of memory or text not UTF-8");
	rv_status status = rv_strdup(text, s);
	free(s);
	return status;
}

rv_status rv_results_encode_run(const json_t *run, char **text) {
	json_t *copy = json_deep_copy(run);
	int bad = copy == NULL || json_object_set_new(copy, "type", json_string("run")) != 0;
	return dump(copy, bad, text);
}

rv_status rv_results_encode_failure(const rv_point *point, int run, int repetition, const char *message,
                                    char **text) {
	return dump(json_pack("{s:s, s:s, s:i, s:i, s:s}", "type", "failure", "key", point->key, "run",
	                      run, "rep", repetition, "error", message),
	            0, text);
}

rv_status rv_results_encode(const rv_experiment *exp, const rv_point *point, int run, int repetition,
                            double cost_s, const rv_record *record, char **text) {
	json_t *values = json_object(), *na = json_object(), *facts = json_object();
	int bad = values == NULL || na == NULL || facts == NULL;
	for (int m = 0; m < exp->n_metrics && !bad; m++) {
		if (isfinite(record->values[m]))
			bad |= json_object_set_new(values, exp->metrics[m].name,
			                           json_real(record->values[m]));
		if (record->na[m][0] != 0)
			bad |= json_object_set_new(na, exp->metrics[m].name,
			                           json_string(record->na[m]));
	}
	for (int f = 0; f < exp->n_facts && !bad; f++)
		if (record->facts[f][0] != 0)
			bad |= json_object_set_new(facts, exp->facts[f].name,
			                           json_string(record->facts[f]));
	json_t *o = json_pack("{s:s, s:s, s:i, s:i, s:f, s:o, s:o, s:o}", "type", "repetition", "key",
	                      point->key, "run", run, "rep", repetition, "cost_s", cost_s, "values",
	                      values, "na", na, "facts", facts);
	return dump(o, bad, text);
}

/* ---- adding ---- */

static rv_point_result *find_key(rv_results *r, const char *key) {
	for (int p = 0; p < r->n_points; p++)
		if (strcmp(r->points[p].key, key) == 0)
			return &r->results[p];
	return NULL;
}

static rv_status add_sample(rv_metric_result *m, double value, int run, int repetition) {
	if (m->n == m->cap) {
		size_t cap = m->cap == 0 ? 16 : 2 * m->cap;
		RV_TRY(RV_GROW(&m->samples, m->cap, cap, "samples"));
		m->cap = cap;
	}
	m->samples[m->n++] = (rv_sample){value, run, repetition};
	return RV_OK;
}

static rv_status add_repetition(rv_results *r, rv_point_result *p, const json_t *o, int run, int rep) {
	static const char where[] = "journal record";
	if (rep != p->n_done)
		return rv_fail(RV_ERR_FORMAT, "%s: repetition %d where %d was expected", where, rep,
		               p->n_done);
	const json_t *values = json_object_get(o, "values"), *na = json_object_get(o, "na");
	const json_t *facts = json_object_get(o, "facts");
	for (int m = 0; m < r->exp->n_metrics; m++) {
		const json_t *v = json_object_get(values, r->exp->metrics[m].name);
		const char *why = json_string_value(json_object_get(na, r->exp->metrics[m].name));
		if (json_is_number(v))
			RV_TRY(add_sample(&p->metrics[m], json_number_value(v), run, rep));
		if (why != NULL)
			snprintf(p->metrics[m].na, RV_REASON_BYTES, "%s", why);
	}
	for (int f = 0; f < r->exp->n_facts; f++) {
		const char *text = json_string_value(json_object_get(facts, r->exp->facts[f].name));
		if (text != NULL)
			snprintf(p->facts[f], RV_REASON_BYTES, "%s", text);
	}
	RV_TRY(rv_json_double(o, where, "cost_s", &p->cost_s));
	p->n_done++;
	p->failing = 0;
	return RV_OK;
}

static rv_status add_point_record(rv_results *r, const json_t *o, const char *type) {
	static const char where[] = "journal record";
	const char *key = NULL, *error = NULL;
	int64_t run = 0, rep = 0;
	RV_TRY(rv_json_string(o, where, "key", &key));
	RV_TRY(rv_json_int(o, where, "run", 0, INT32_MAX, &run));
	RV_TRY(rv_json_int(o, where, "rep", 0, INT32_MAX, &rep));
	rv_point_result *p = find_key(r, key);
	if (p == NULL)
		return RV_OK;
	if (strcmp(type, "repetition") == 0)
		return add_repetition(r, p, o, (int)run, (int)rep);
	RV_TRY(rv_json_string(o, where, "error", &error));
	snprintf(p->error, sizeof p->error, "%s", error);
	p->n_failures++;
	p->failing = 1;
	return RV_OK;
}

rv_status rv_results_add(void *user, const char *payload, size_t size) {
	rv_results *r = user;
	json_t *o = NULL;
	const char *type = NULL;
	RV_TRY(rv_json_parse(payload, size, "journal record", &o));
	rv_status status = rv_json_string(o, "journal record", "type", &type);
	if (status == RV_OK && strcmp(type, "run") == 0) {
		if (json_array_append(r->runs, o) != 0)
			status = rv_fail(RV_ERR_NO_MEMORY, "runs: out of memory");
	} else if (status == RV_OK) {
		status = add_point_record(r, o, type);
	}
	json_decref(o);
	return status;
}

/* ---- finishing ---- */

static rv_status summarize(rv_metric_result *m, const rv_experiment_metric *metric, uint64_t seed) {
	m->summary = rv_summary_empty();
	if (m->n == 0)
		return RV_OK;
	if (metric->exact) {
		m->summary.n = (int64_t)m->n;
		m->summary.median = m->summary.mean = m->samples[0].value;
		return RV_OK;
	}
	double *x = NULL;
	RV_TRY(RV_ALLOC(&x, m->n, "samples"));
	for (size_t i = 0; i < m->n; i++)
		x[i] = m->samples[i].value;
	rv_status status = rv_summarize(x, m->n, seed, &m->summary);
	uint8_t *marks = NULL;
	if (status == RV_OK)
		status = RV_ALLOC(&marks, m->n, "outliers");
	if (status == RV_OK)
		status = rv_mark_outliers(x, m->n, marks, &m->n_outliers);
	rv_free(marks);
	rv_free(x);
	return status;
}

/* The interval of an exact metric that the experiment computed. */
static void take_interval(const rv_experiment *exp, rv_point_result *res, int m) {
	static const char *const suffixes[] = {"from", "to"};
	rv_summary *s = &res->metrics[m].summary;
	double *const ends[] = {&s->lo95, &s->hi95};
	for (int i = 0; i < 2 && exp->metrics[m].exact; i++) {
		char name[96];
		snprintf(name, sizeof name, "%.80s_%s", exp->metrics[m].name, suffixes[i]);
		int end = rv_results_find_metric(exp, name);
		if (end >= 0)
			*ends[i] = res->metrics[end].summary.median;
	}
}

rv_status rv_results_finish(rv_results *r, uint64_t seed, const char *missing) {
	r->seed = seed;
	for (int p = 0; p < r->n_points; p++) {
		rv_point_result *res = &r->results[p];
		for (int m = 0; m < r->exp->n_metrics; m++)
			RV_TRY(summarize(&res->metrics[m], &r->exp->metrics[m], seed));
		for (int m = 0; m < r->exp->n_metrics; m++)
			take_interval(r->exp, res, m);
		res->reason[0] = 0;
		res->status = RV_POINT_OK;
		if (res->cannot_run != NULL) {
			res->status = RV_POINT_NOT_RUN;
			snprintf(res->reason, sizeof res->reason, "%s", res->cannot_run);
			continue;
		}
		if (res->n_done >= rv_point_min_n(r->exp, &r->points[p]) && !res->failing)
			continue;
		if (res->n_failures > 0) {
			res->status = RV_POINT_FAILED;
			memcpy(res->reason, res->error, sizeof res->reason);
		} else {
			res->status = RV_POINT_NOT_RUN;
			snprintf(res->reason, sizeof res->reason, "%s, %d of %d repetitions", missing,
			         res->n_done, rv_point_min_n(r->exp, &r->points[p]));
		}
	}
	return RV_OK;
}

rv_measured rv_results_measured(const rv_results *r, int point, int metric) {
	const rv_point_result *p = &r->results[point];
	const rv_metric_result *m = &p->metrics[metric];
	const rv_experiment_metric *decl = &r->exp->metrics[metric];
	rv_measured out = {m->summary.median, m->summary.lo95, m->summary.hi95, NULL, NULL};
	if (decl->exact && isnan(out.lo))
		out.lo = out.hi = out.median;
	if (m->n == 0 && m->na[0] != 0)
		out.na = m->na;
	else if (p->status != RV_POINT_OK && (m->n == 0 || !decl->exact))
		out.not_run = p->reason;
	else if (m->n == 0)
		out.na = "not measured";
	return out;
}

int rv_results_find_metric(const rv_experiment *exp, const char *name) {
	for (int m = 0; m < exp->n_metrics; m++)
		if (strcmp(exp->metrics[m].name, name) == 0)
			return m;
	return -1;
}

/* Every "k=v" of `wanted` is among those of `label`. */
static int label_matches(const char *label, const char *wanted) {
	while (*wanted != 0) {
		size_t n = strcspn(wanted, ";");
		int found = 0;
		for (const char *at = label; !found && *at != 0;) {
			size_t len = strcspn(at, ";");
			found = len == n && memcmp(at, wanted, n) == 0;
			at += len + (at[len] == ';');
		}
		if (!found)
			return 0;
		wanted += n + (wanted[n] == ';');
	}
	return 1;
}

int rv_results_find_point(const rv_results *r, const char *label) {
	return rv_points_find(r->points, r->n_points, label);
}

int rv_point_min_n(const rv_experiment *exp, const rv_point *point) {
	return exp->is_exact != NULL && exp->is_exact(exp, point) ? 1 : exp->min_n;
}

int rv_points_find(const rv_point *points, int n_points, const char *label) {
	int found = -1;
	for (int p = 0; p < n_points; p++)
		if (label_matches(points[p].label, label)) {
			if (found >= 0)
				return RV_SEVERAL_POINTS;
			found = p;
		}
	return found;
}
