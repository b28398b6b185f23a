/* The finished results as tables: JSON for the report, tab-separated values for plots. */
#include "lab/results.h"

#include "base/file.h"
#include "base/mem.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- JSON ---- */

static json_t *number(double v) {
	return isfinite(v) ? json_real(v) : json_null();
}

static json_t *declaration(const rv_experiment *exp) {
	json_t *params = json_array(), *metrics = json_array(), *facts = json_array();
	for (int i = 0; i < exp->n_params; i++) {
		const rv_param *p = &exp->params[i];
		json_array_append_new(params, json_pack("{s:s, s:s, s:s}", "name", p->name, "unit",
		                                        p->unit, "help", p->help));
	}
	for (int i = 0; i < exp->n_metrics; i++) {
		const rv_experiment_metric *m = &exp->metrics[i];
		json_array_append_new(
		        metrics,
		        json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:s?, s:s}", "name", m->name,
		                  "unit", m->unit, "title", m->title, "help", m->help, "better",
		                  m->better == RV_HIGHER ? "higher" : "lower", "exact", m->exact,
		                  "hidden", m->hidden, "roofline", m->roofline, "format", m->format));
	}
	for (int i = 0; i < exp->n_facts; i++) {
		const rv_fact *f = &exp->facts[i];
		json_array_append_new(facts, json_pack("{s:s, s:s, s:s}", "name", f->name, "title",
		                                       f->title, "help", f->help));
	}
	return json_pack("{s:i, s:s, s:s, s:s, s:s, s:s?, s:s?, s:o, s:o, s:o}", "schema_version", 1,
	                 "id", exp->id, "name", exp->name, "title", exp->title, "about", exp->about,
	                 "plot", exp->plot, "baseline", exp->baseline, "params", params, "metrics",
	                 metrics, "facts", facts);
}

static json_t *metric_json(const rv_metric_result *m) {
	const rv_summary *s = &m->summary;
	json_t *o = json_pack("{s:I, s:I, s:o, s:o, s:o, s:o, s:o}", "n", (json_int_t)s->n, "outliers",
	                      (json_int_t)m->n_outliers, "median", number(s->median), "mean",
	                      number(s->mean), "sd", number(s->sd), "lo95", number(s->lo95), "hi95",
	                      number(s->hi95));
	if (m->na[0] != 0)
		json_object_set_new(o, "na", json_string(m->na));
	return o;
}

/* Ratios to the baseline by metric; an empty object when there is none. NULL: out of memory. */
static json_t *against_json(const rv_results *r, int p) {
	json_t *o = json_object();
	int baseline = rv_results_baseline(r, p);
	for (int m = 0; m < r->exp->n_metrics && baseline >= 0; m++) {
		rv_comparison c;
		if (rv_results_compare(r, p, baseline, m, &c) != RV_OK) {
			json_decref(o);
			return NULL;
		}
		if (c.ratio.n > 0)
			json_object_set_new(
			        o, r->exp->metrics[m].name,
			        json_pack("{s:I, s:o, s:o, s:o, s:o, s:b}", "n", (json_int_t)c.ratio.n,
			                  "ratio", number(c.ratio.median), "lo95", number(c.ratio.lo95),
			                  "hi95", number(c.ratio.hi95), "p", number(c.test.p),
			                  "p_exact", c.test.exact));
	}
	return o;
}

static json_t *point_json(const rv_results *r, int p) {
	const rv_experiment *exp = r->exp;
	const rv_point_result *res = &r->results[p];
	json_t *params = json_object(), *metrics = json_object(), *facts = json_object();
	for (int i = 0; i < exp->n_params; i++)
		json_object_set_new(params, exp->params[i].name,
		                    json_string(rv_point_value(exp, &r->points[p], i)->text));
	for (int m = 0; m < exp->n_metrics; m++)
		json_object_set_new(metrics, exp->metrics[m].name, metric_json(&res->metrics[m]));
	for (int f = 0; f < exp->n_facts; f++)
		json_object_set_new(facts, exp->facts[f].name, json_string(res->facts[f]));
	return json_pack("{s:s, s:s, s:s, s:s, s:i, s:o, s:o, s:o, s:o}", "key", r->points[p].key,
	                 "label", r->points[p].label, "status", rv_point_status_text(res->status),
	                 "reason", res->reason, "repetitions", res->n_done, "params", params, "metrics",
	                 metrics, "facts", facts, "against_baseline", against_json(r, p));
}

/* A memory-bound value of other hardware scaled to this machine's read bandwidth: NaN when unknown. */
static double scaled_expectation(const rv_results *r, const rv_documented_row *row,
                                 const rv_experiment_metric *metric, const char *bandwidth_csv) {
	double there, here = NAN;
	size_t n_runs = json_array_size(r->runs);
	if (metric->roofline == NULL || row->hardware[0] == 0 || n_runs == 0)
		return NAN;
	const json_t *last = json_array_get(r->runs, n_runs - 1);
	const json_t *bandwidth = json_object_get(last, "read_gb_s");
	if (json_is_number(bandwidth))
		here = json_number_value(bandwidth);
	if (rv_documented_bandwidth(bandwidth_csv, row->hardware, &there) != RV_OK)
		return NAN;
	return (isnan(row->lo) ? row->hi : row->lo) * here / there;
}

typedef struct judged {
	rv_verdict verdict;
	int point; /* the verdict is from, or -1 */
	const char *reason;
	double ratio, expected;
} judged;

/* Of the row's point, or for a row without one of all points. */
static rv_status judge_measured(const rv_results *r, const rv_documented_row *row, int m, judged *j) {
	int higher = r->exp->metrics[m].better == RV_HIGHER;
	int first = row->point[0] != 0 ? rv_results_find_point(r, row->point) : 0;
	int n = row->point[0] != 0 ? first >= 0 : r->n_points;
	const char *why =
	        first == RV_SEVERAL_POINTS ? "several points are meant" : "point not part of this run";
	const rv_measured elsewhere = {NAN, NAN, NAN, NULL, why};
	j->verdict = rv_judge(row, higher, &elsewhere, &j->reason);
	rv_measured *measured = NULL;
	if (n == 0)
		return RV_OK;
	RV_TRY(RV_ALLOC(&measured, n, "measured points"));
	for (int i = 0; i < n; i++)
		measured[i] = rv_results_measured(r, first + i, m);
	j->verdict = rv_judge_all(row, higher, measured, n, &j->point, &j->reason);
	j->ratio = rv_documented_ratio(row, higher, measured[j->point].median);
	j->point += first;
	rv_free(measured);
	return RV_OK;
}

/* What the row's own data states comes before what was measured, or whether. */
static rv_status judge_row(const rv_results *r, const rv_documented_row *row, const char *bandwidth_csv,
                           judged *j) {
	static const rv_measured unknown = {NAN, NAN, NAN, NULL, "no such metric"};
	int m = rv_results_find_metric(r->exp, row->metric);
	if (m < 0)
		j->verdict = rv_judge(row, 1, &unknown, &j->reason);
	else
		RV_TRY(judge_measured(r, row, m, j));
	if (m >= 0 && j->verdict == RV_NOT_COMPARABLE)
		j->expected = scaled_expectation(r, row, &r->exp->metrics[m], bandwidth_csv);
	return RV_OK;
}

/* NULL: out of memory. */
static json_t *documented_json(const rv_results *r, const rv_documented_row *row,
                               const char *bandwidth_csv) {
	json_t *o = json_pack("{s:s, s:s, s:s, s:o, s:o, s:s, s:s, s:s, s:s}", "table", row->table,
	                      "point", row->point, "metric", row->metric, "value_lo", number(row->lo),
	                      "value_hi", number(row->hi), "unit", row->unit, "kind", row->kind,
	                      "hardware", row->hardware, "seed", row->seed);
	judged j = {RV_NOT_RUN, -1, NULL, NAN, NAN};
	if (judge_row(r, row, bandwidth_csv, &j) != RV_OK) {
		json_decref(o);
		return NULL;
	}
	if (j.point >= 0)
		json_object_set_new(o, "point_key", json_string(r->points[j.point].key));
	json_object_set_new(o, "verdict", json_string(rv_verdict_text(j.verdict)));
	json_object_set_new(o, "reason", json_string(j.reason != NULL ? j.reason : ""));
	json_object_set_new(o, "ratio", number(j.ratio));
	json_object_set_new(o, "expected_here", number(j.expected));
	return o;
}

rv_status rv_results_json(const rv_results *r, const rv_documented *doc, const char *bandwidth_csv,
                          json_t **out) {
	json_t *o = declaration(r->exp), *runs = json_deep_copy(r->runs);
	json_t *points = json_array(), *documented = json_array();
	if (o == NULL || runs == NULL || points == NULL || documented == NULL) {
		json_decref(o);
		json_decref(runs);
		json_decref(points);
		json_decref(documented);
		return rv_fail(RV_ERR_NO_MEMORY, "table of %s: out of memory", r->exp->name);
	}
	size_t i;
	json_t *run;
	json_array_foreach(runs, i, run) {
		json_object_del(run, "hwloc_xml");
		json_object_del(run, "type");
	}
	int bad = 0;
	for (int p = 0; p < r->n_points; p++)
		bad |= json_array_append_new(points, point_json(r, p));
	for (size_t d = 0; d < doc->n; d++)
		bad |= json_array_append_new(documented,
		                             documented_json(r, &doc->rows[d], bandwidth_csv));
	bad |= json_object_set_new(o, "runs", runs) | json_object_set_new(o, "points", points) |
	       json_object_set_new(o, "documented", documented);
	if (bad) {
		json_decref(o);
		return rv_fail(RV_ERR_NO_MEMORY, "table of %s: out of memory or text not UTF-8",
		               r->exp->name);
	}
	*out = o;
	return RV_OK;
}

/* ---- tab-separated values ---- */

static rv_status put(rv_writer *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static rv_status put(rv_writer *w, const char *fmt, ...) {
	char text[512];
	va_list args;
	va_start(args, fmt);
	int n = vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	if (n < 0 || (size_t)n >= sizeof text)
		return rv_fail(RV_ERR_LIMIT, "table cell of %d bytes", n);
	return rv_writer_write(w, text, (size_t)n);
}

static rv_status put_header(rv_writer *w, const rv_experiment *exp) {
	RV_TRY(put(w, "label\tstatus"));
	for (int i = 0; i < exp->n_params; i++)
		RV_TRY(put(w, "\t%s", exp->params[i].name));
	for (int f = 0; f < exp->n_facts; f++)
		RV_TRY(put(w, "\t%s", exp->facts[f].name));
	for (int m = 0; m < exp->n_metrics; m++) {
		const char *name = exp->metrics[m].name;
		RV_TRY(put(w, "\t%s\t%s_lo95\t%s_hi95\t%s_n", name, name, name, name));
	}
	return put(w, "\n");
}

static rv_status put_number(rv_writer *w, double v) {
	return isfinite(v) ? put(w, "\t%.9g", v) : put(w, "\tNaN");
}

static rv_status put_point(rv_writer *w, const rv_results *r, int p) {
	const rv_experiment *exp = r->exp;
	const rv_point_result *res = &r->results[p];
	RV_TRY(put(w, "%s\t%s", r->points[p].label, rv_point_status_text(res->status)));
	for (int i = 0; i < exp->n_params; i++)
		RV_TRY(put(w, "\t%s", rv_point_value(exp, &r->points[p], i)->text));
	for (int f = 0; f < exp->n_facts; f++)
		RV_TRY(put(w, "\t%s", res->facts[f][0] != 0 ? res->facts[f] : "-"));
	for (int m = 0; m < exp->n_metrics; m++) {
		const rv_summary *s = &res->metrics[m].summary;
		RV_TRY(put_number(w, s->median));
		RV_TRY(put_number(w, s->lo95));
		RV_TRY(put_number(w, s->hi95));
		RV_TRY(put(w, "\t%lld", (long long)s->n));
	}
	return put(w, "\n");
}

rv_status rv_results_write_tsv(const rv_results *r, const char *path) {
	rv_writer *w = NULL;
	RV_TRY(rv_writer_open(&w, path));
	rv_status status = put_header(w, r->exp);
	for (int p = 0; p < r->n_points && status == RV_OK; p++)
		if (r->results[p].cannot_run == NULL)
			status = put_point(w, r, p);
	if (status != RV_OK) {
		rv_writer_abort(w);
		return status;
	}
	return rv_writer_commit(w);
}
