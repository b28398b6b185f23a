#include "lab/report.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "lab/document.h"
#include "lab/experiment.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_TABLE_BYTES ((size_t)64 << 20)
#define MAX_CELL 192

/* ---- reading the table ---- */

static const char *text_of(const json_t *o, const char *key) {
	const char *s = json_string_value(json_object_get(o, key));
	return s != NULL ? s : "";
}

static double number_of(const json_t *o, const char *key) {
	const json_t *v = json_object_get(o, key);
	return json_is_number(v) ? json_number_value(v) : NAN;
}

static int flag_of(const json_t *o, const char *key) {
	return json_is_true(json_object_get(o, key));
}

static const json_t *metric_named(const json_t *table, const char *name) {
	size_t i;
	json_t *m;
	json_array_foreach(json_object_get(table, "metrics"), i, m) {
		if (strcmp(text_of(m, "name"), name) == 0)
			return m;
	}
	return NULL;
}

static const json_t *point_with_key(const json_t *table, const char *key) {
	size_t i;
	json_t *p;
	json_array_foreach(json_object_get(table, "points"), i, p) {
		if (strcmp(text_of(p, "key"), key) == 0)
			return p;
	}
	return NULL;
}

/* The number in the metric's own format, when that is a plain conversion of one double. */
static void format_number(const json_t *metric, double v, char out[MAX_CELL]) {
	const char *f = text_of(metric, "format");
	size_t n = strlen(f);
	int plain = n >= 2 && n <= 6 && f[0] == '%' && strchr("efg", f[n - 1]) != NULL &&
	            strspn(f + 1, ".0123456789") == n - 2;
	if (plain) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(out, MAX_CELL, f, v);
#pragma GCC diagnostic pop
	} else {
		snprintf(out, MAX_CELL, "%.6g", v);
	}
}

/* "12.3 [12.1, 12.6] n 20", or the reason why not. */
static void format_measured(const json_t *metric, const json_t *point, char out[MAX_CELL]) {
	const json_t *m = json_object_get(json_object_get(point, "metrics"), text_of(metric, "name"));
	double median = number_of(m, "median"), lo = number_of(m, "lo95"), hi = number_of(m, "hi95");
	char mid[MAX_CELL], low[MAX_CELL], high[MAX_CELL];
	if (isnan(median)) {
		const char *na = text_of(m, "na");
		if (na[0] != 0)
			snprintf(out, MAX_CELL, "n/a: %.160s", na);
		else if (strcmp(text_of(point, "status"), "ok") != 0)
			snprintf(out, MAX_CELL, "%.20s: %.140s", text_of(point, "status"),
			         text_of(point, "reason"));
		else
			snprintf(out, MAX_CELL, "n/a");
		return;
	}
	format_number(metric, median, mid);
	char marked[32] = "";
	if (number_of(m, "outliers") > 0)
		snprintf(marked, sizeof marked, " (%.0f outl.)", number_of(m, "outliers"));
	if (flag_of(metric, "exact") && isnan(lo)) {
		snprintf(out, MAX_CELL, "%s", mid);
	} else if (flag_of(metric, "exact")) {
		format_number(metric, lo, low);
		format_number(metric, hi, high);
		snprintf(out, MAX_CELL, "%.50s [%.50s, %.50s]", mid, low, high);
	} else if (isnan(lo)) {
		snprintf(out, MAX_CELL, "%.60s n %.0f%s", mid, number_of(m, "n"), marked);
	} else {
		format_number(metric, lo, low);
		format_number(metric, hi, high);
		snprintf(out, MAX_CELL, "%.40s [%.40s, %.40s] n %.0f%s", mid, low, high,
		         number_of(m, "n"), marked);
	}
}

/* ---- the sections of one experiment ---- */

static int is_shown(const json_t *metric) {
	return !flag_of(metric, "hidden");
}

static void measured_table(rv_document *doc, const json_t *table) {
	enum { MAX = 64 };
	char titles[MAX][128];
	const char *columns[MAX];
	int n = 0;
	size_t i, k;
	json_t *o, *point;
	json_array_foreach(json_object_get(table, "params"), i, o) {
		if (n < MAX)
			snprintf(titles[n++], sizeof titles[0], "%.100s", text_of(o, "name"));
	}
	json_array_foreach(json_object_get(table, "facts"), i, o) {
		if (n < MAX)
			snprintf(titles[n++], sizeof titles[0], "%.100s", text_of(o, "title"));
	}
	json_array_foreach(json_object_get(table, "metrics"), i, o) {
		const char *unit = text_of(o, "unit");
		int named = strstr(text_of(o, "title"), unit) != NULL;
		if (n < MAX && is_shown(o))
			snprintf(titles[n++], sizeof titles[0], ">%.80s%s%.30s", text_of(o, "title"),
			         named ? "" : ", ", named ? "" : unit);
	}
	for (int c = 0; c < n; c++)
		columns[c] = titles[c];
	rv_document_heading(doc, 3, "Measured");
	rv_document_table(doc, columns, n);
	json_array_foreach(json_object_get(table, "points"), k, point) {
		char cell[MAX_CELL];
		int first = 1, is_run = number_of(point, "repetitions") > 0;
		json_array_foreach(json_object_get(table, "params"), i, o) {
			rv_document_cell(doc, "%s",
			                 text_of(json_object_get(point, "params"), text_of(o, "name")));
		}
		json_array_foreach(json_object_get(table, "facts"), i, o) {
			rv_document_cell(doc, "%s",
			                 text_of(json_object_get(point, "facts"), text_of(o, "name")));
		}
		json_array_foreach(json_object_get(table, "metrics"), i, o) {
			if (!is_shown(o))
				continue;
			format_measured(o, point, cell);
			/* a point that was not run at all says so once */
			rv_document_cell(doc, "%s", is_run || first ? cell : "");
			first = 0;
		}
	}
	rv_document_table_end(doc);
	rv_document_text(
	        doc, "Median, its 95 %% interval in brackets (bootstrap, widened where successive "
	             "repetitions resemble each other), n repetitions (of which so many are outliers; "
	             "they are marked, never left out); numbers without n are exact under the seed, "
	             "their brackets a 95 %% interval over items.");
}

/* Does another metric name this one as its share of the roof? That share says nothing new in a ratio.
 */
static int is_share(const json_t *table, const json_t *metric) {
	size_t i;
	json_t *m;
	json_array_foreach(json_object_get(table, "metrics"), i, m) {
		if (strcmp(text_of(m, "roofline"), text_of(metric, "name")) == 0)
			return 1;
	}
	return 0;
}

/* Has any point a ratio of it? */
static int is_compared(const json_t *table, const json_t *metric) {
	size_t i;
	json_t *point;
	if (!is_shown(metric) || is_share(table, metric))
		return 0;
	json_array_foreach(json_object_get(table, "points"), i, point) {
		if (json_object_get(json_object_get(point, "against_baseline"),
		                    text_of(metric, "name")) != NULL)
			return 1;
	}
	return 0;
}

/* "1.85 [1.83, 1.88] p 0.0001" */
static void compared_cell(rv_document *doc, const json_t *c) {
	char chance[16];
	double p = number_of(c, "p");
	if (c == NULL) {
		rv_document_cell(doc, "%s", "");
		return;
	}
	snprintf(chance, sizeof chance, p < 1e-4 ? "< 0.0001" : "%.4f", p);
	if (isnan(number_of(c, "lo95")))
		rv_document_cell(doc, "%.3f p %s", number_of(c, "ratio"), chance);
	else
		rv_document_cell(doc, "%.3f [%.3f, %.3f] p %s", number_of(c, "ratio"),
		                 number_of(c, "lo95"), number_of(c, "hi95"), chance);
}

static void compared_row(rv_document *doc, const json_t *table, const json_t *point) {
	size_t i;
	json_t *o;
	const json_t *against = json_object_get(point, "against_baseline");
	if (json_object_size(against) == 0)
		return;
	rv_document_cell(doc, "%s", text_of(point, "label"));
	json_array_foreach(json_object_get(table, "metrics"), i, o) {
		if (is_compared(table, o))
			compared_cell(doc, json_object_get(against, text_of(o, "name")));
	}
}

/* Every point against its baseline, in the metrics that vary from repetition to repetition. */
static void compared_table(rv_document *doc, const json_t *table) {
	char titles[RV_MAX_METRICS][128], heading[256];
	const char *columns[RV_MAX_METRICS + 1] = {"point"};
	int n = 0;
	size_t i;
	json_t *o;
	json_array_foreach(json_object_get(table, "metrics"), i, o) {
		if (n < RV_MAX_METRICS && is_compared(table, o)) {
			snprintf(titles[n], sizeof titles[0], ">%.100s, ratio", text_of(o, "title"));
			columns[n + 1] = titles[n];
			n++;
		}
	}
	if (n == 0)
		return;
	snprintf(heading, sizeof heading, "Compared with %.200s", text_of(table, "baseline"));
	rv_document_heading(doc, 3, heading);
	rv_document_table(doc, columns, n + 1);
	json_array_foreach(json_object_get(table, "points"), i, o) {
		compared_row(doc, table, o);
	}
	rv_document_table_end(doc);
	rv_document_text(doc, "Median ratio of repetitions taken in the same round, its 95 %% "
	                      "interval, and how often chance alone would part the two series as far "
	                      "(Mann-Whitney U, two-sided).");
}

static void format_documented(const json_t *row, char out[MAX_CELL]) {
	double lo = number_of(row, "value_lo"), hi = number_of(row, "value_hi");
	const char *unit = text_of(row, "unit");
	if (isnan(lo))
		snprintf(out, MAX_CELL, "at most %.6g %.30s", hi, unit);
	else if (isnan(hi))
		snprintf(out, MAX_CELL, "at least %.6g %.30s", lo, unit);
	else if (lo < hi)
		snprintf(out, MAX_CELL, "%.6g to %.6g %.30s", lo, hi, unit);
	else
		snprintf(out, MAX_CELL, "%.6g %.30s", lo, unit);
}

static void documented_row(rv_document *doc, const json_t *table, const json_t *row) {
	const json_t *metric = metric_named(table, text_of(row, "metric"));
	const json_t *point = point_with_key(table, text_of(row, "point_key"));
	const json_t *roof = metric != NULL ? metric_named(table, text_of(metric, "roofline")) : NULL;
	const char *reason = text_of(row, "reason");
	double ratio = number_of(row, "ratio"), expected = number_of(row, "expected_here");
	char cell[MAX_CELL];
	if (text_of(row, "point")[0] == 0 && point != NULL)
		rv_document_cell(doc, "every point; worst: %s", text_of(point, "label"));
	else
		rv_document_cell(doc, "%s", text_of(row, "point"));
	rv_document_cell(doc, "%s", metric != NULL ? text_of(metric, "title") : text_of(row, "metric"));
	format_documented(row, cell);
	rv_document_cell(doc, "%s", cell);
	rv_document_cell(doc, "%s, %s, %s", text_of(row, "kind"), text_of(row, "hardware"),
	                 text_of(row, "seed"));
	snprintf(cell, sizeof cell, "not run");
	if (metric != NULL && point != NULL)
		format_measured(metric, point, cell);
	rv_document_cell(doc, "%s", cell);
	if (isnan(ratio))
		rv_document_cell(doc, " ");
	else
		rv_document_cell(doc, "%.3g", ratio);
	snprintf(cell, sizeof cell, " ");
	if (roof != NULL && point != NULL)
		format_measured(roof, point, cell);
	rv_document_cell(doc, "%s", cell);
	char scaled[64] = "";
	if (!isnan(expected))
		snprintf(scaled, sizeof scaled, "; scaled by bandwidth: %.3g %.20s here", expected,
		         text_of(row, "unit"));
	rv_document_cell(doc, "%s%s%s%s", text_of(row, "verdict"), reason[0] != 0 ? ": " : "", reason,
	                 scaled);
}

static void documented_table(rv_document *doc, const json_t *table) {
	static const char *const columns[] = {
	        "point",     "metric", ">documented",    "kind, hardware, source",
	        ">measured", ">ratio", ">% of roofline", "verdict"};
	const json_t *rows = json_object_get(table, "documented");
	if (json_array_size(rows) == 0)
		return;
	rv_document_heading(doc, 3, "Documented against measured");
	rv_document_table(doc, columns, sizeof columns / sizeof columns[0]);
	size_t i;
	json_t *row;
	json_array_foreach(rows, i, row) {
		documented_row(doc, table, row);
	}
	rv_document_table_end(doc);
}

static void provenance(rv_document *doc, const json_t *table) {
	size_t i;
	json_t *r;
	rv_document_heading(doc, 3, "Provenance");
	json_array_foreach(json_object_get(table, "runs"), i, r) {
		rv_document_text(
		        doc,
		        "Run %.0f, %s, profile %s, seed %.0f. Model: %s, sha256 %.16s. Settings: %s. "
		        "Commit %s, %s, flags %s. %s, level %s, %s, governor %s, read bandwidth "
		        "%.1f GB/s, f32 peak %.0f GFLOP/s, int8 peak %.0f Gop/s. %s; %s.",
		        number_of(r, "run"), text_of(r, "utc_start"), text_of(r, "profile"),
		        number_of(r, "seed"), text_of(r, "model_label"), text_of(r, "model_sha256"),
		        text_of(r, "settings"), text_of(r, "git_commit"), text_of(r, "compiler"),
		        text_of(r, "flags"), text_of(r, "cpu_model"), text_of(r, "level"),
		        text_of(r, "threads"), text_of(r, "governor"), number_of(r, "read_gb_s"),
		        number_of(r, "f32_gflop_s"), number_of(r, "int8_gop_s"), text_of(r, "os"),
		        text_of(r, "libraries"));
		if (text_of(r, "sanitizer")[0] != 0)
			rv_document_text(doc, "Built with the %s sanitizer: speeds mean nothing.",
			                 text_of(r, "sanitizer"));
	}
}

static const json_t *last_run(const json_t *table) {
	const json_t *runs = json_object_get(table, "runs");
	size_t n = json_array_size(runs);
	return n > 0 ? json_array_get(runs, n - 1) : NULL;
}

static void picture(rv_document *doc, const rv_report_options *o, const json_t *table) {
	char svg[PATH_MAX], link[NAME_MAX + 16];
	const char *plot = text_of(table, "plot");
	if (plot[0] == 0 || strchr(plot, '/') != NULL)
		return;
	snprintf(link, sizeof link, "plots/%.200s.svg", plot);
	snprintf(svg, sizeof svg, "%.3000s/%s", o->results, link);
	if (o->no_plots != NULL)
		rv_document_text(doc, "Plot: n/a: %s", o->no_plots);
	else if (access(svg, R_OK) != 0)
		rv_document_text(doc, "Plot: n/a: not drawn");
	else
		rv_document_picture(doc, svg, link, text_of(table, "title"));
}

static void experiment(rv_document *doc, const rv_report_options *o, const json_t *table) {
	char heading[256];
	snprintf(heading, sizeof heading, "%.40s %.200s", text_of(table, "id"),
	         text_of(table, "title"));
	rv_document_heading(doc, 2, heading);
	rv_document_text(doc, "%s", text_of(table, "about"));
	rv_document_code(doc, text_of(last_run(table), "command"));
	picture(doc, o, table);
	measured_table(doc, table);
	compared_table(doc, table);
	documented_table(doc, table);
	provenance(doc, table);
}

/* ---- the whole report ---- */

static int count_verdicts(const json_t *table, const char *verdict) {
	size_t i;
	json_t *row;
	int n = 0;
	json_array_foreach(json_object_get(table, "documented"), i, row) {
		n += strcmp(text_of(row, "verdict"), verdict) == 0;
	}
	return n;
}

static void overview(rv_document *doc, json_t *const *tables, const rv_report_options *o) {
	static const char *const columns[] = {
	        "experiment", "title",         "profile",         "model", ">met",
	        ">not met",   ">inconclusive", ">not comparable", ">n/a",  ">not run"};
	static const char *const verdicts[] = {"met", "not met", "inconclusive", "not comparable",
	                                       "n/a", "not run"};
	rv_document_text(
	        doc, "Every documented number beside the number measured here. A row is met when the "
	             "worse end of the interval reaches the documented value, not met when the "
	             "better end does not, inconclusive when the interval straddles it.");
	rv_document_table(doc, columns, sizeof columns / sizeof columns[0]);
	for (int i = 0; i < o->n_names; i++) {
		const json_t *t = tables[i];
		rv_document_cell(doc, "%s", t != NULL ? text_of(t, "id") : o->names[i]);
		rv_document_cell(doc, "%s", t != NULL ? text_of(t, "title") : "not run");
		rv_document_cell(doc, "%s", text_of(last_run(t), "profile"));
		rv_document_cell(doc, "%s", text_of(last_run(t), "model_label"));
		for (size_t v = 0; v < sizeof verdicts / sizeof verdicts[0]; v++)
			rv_document_cell(doc, "%d", count_verdicts(t, verdicts[v]));
	}
	rv_document_table_end(doc);
}

static rv_status write_form(const rv_report_options *o, json_t *const *tables, int html) {
	char path[PATH_MAX];
	int n = snprintf(path, sizeof path, "%s/report.%s", o->results, html ? "html" : "md");
	if (n < 0 || n >= (int)sizeof path)
		return rv_fail(RV_ERR_LIMIT, "%.200s...: path too long", o->results);
	rv_document *doc = NULL;
	RV_TRY(rv_document_open(&doc, path, html, "RuvLTRA lab: documented and measured"));
	overview(doc, tables, o);
	for (int i = 0; i < o->n_names; i++)
		if (tables[i] != NULL)
			experiment(doc, o, tables[i]);
	return rv_document_close(doc);
}

static rv_status read_table(const char *results, const char *name, json_t **out) {
	char path[PATH_MAX];
	int n = snprintf(path, sizeof path, "%s/data/%s.json", results, name);
	if (n < 0 || n >= (int)sizeof path)
		return rv_fail(RV_ERR_LIMIT, "%.200s...: path too long", results);
	if (access(path, F_OK) != 0)
		return RV_OK;
	json_t *table = NULL;
	RV_TRY(rv_json_read(path, MAX_TABLE_BYTES, &table));
	int64_t schema = 0;
	rv_status status = rv_json_int(table, path, "schema_version", 1, 1, &schema);
	if (status != RV_OK) {
		json_decref(table);
		return status;
	}
	*out = table;
	return RV_OK;
}

rv_status rv_report_write(const rv_report_options *options) {
	json_t **tables = NULL;
	RV_TRY(RV_ALLOC(&tables, options->n_names, "report"));
	rv_status status = RV_OK;
	for (int i = 0; i < options->n_names && status == RV_OK; i++)
		status = read_table(options->results, options->names[i], &tables[i]);
	if (status == RV_OK)
		status = write_form(options, tables, 0);
	if (status == RV_OK)
		status = write_form(options, tables, 1);
	for (int i = 0; i < options->n_names; i++)
		json_decref(tables[i]);
	rv_free(tables);
	return status;
}

rv_status rv_report_footer(const char *results, const char *name, char *out, size_t size) {
	json_t *table = NULL, *point;
	RV_TRY(read_table(results, name, &table));
	if (table == NULL)
		return rv_fail(RV_ERR_NOT_FOUND, "%s/data/%s.json: no such table", results, name);
	int least = INT_MAX, most = 0;
	size_t i;
	json_array_foreach(json_object_get(table, "points"), i, point) {
		int n = (int)json_integer_value(json_object_get(point, "repetitions"));
		least = n < least ? n : least;
		most = n > most ? n : most;
	}
	const json_t *r = last_run(table);
	char range[32] = "0";
	if (most > 0)
		snprintf(range, sizeof range, least < most ? "%d-%d" : "%d", least, most);
	const char *label = text_of(r, "model_label");
	snprintf(out, size, "%s%sprofile %s, n = %s, commit %s, %s, %.0f threads, %.10s", label,
	         *label ? ", " : "", text_of(r, "profile"), range, text_of(r, "git_commit"),
	         text_of(r, "cpu_model"), number_of(r, "n_threads"), text_of(r, "utc_start"));
	for (char *c = out; *c != 0; c++)
		if (*c == '\'' || *c == '"' || *c == '\\' || *c == '`')
			*c = ' ';
	json_decref(table);
	return RV_OK;
}
