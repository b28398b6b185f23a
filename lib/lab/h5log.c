#include "lab/h5log.h"

#include "base/mem.h"
#include "lab/h5image.h"
#include "lab/provenance.h"

#include <hdf5.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a compound table under construction: columns, then rows of bytes ---- */

typedef enum cell_kind { CELL_TEXT, CELL_F64, CELL_I64, CELL_I32 } cell_kind;

typedef struct column {
	char name[96];
	cell_kind kind;
	size_t size, offset; /* text: longest value, at least 1 */
} column;

typedef struct table {
	column *columns;
	size_t n_columns, cap, row_bytes, n_rows;
	char *rows;
} table;

static void table_free(table *t) {
	rv_free(t->columns);
	rv_free(t->rows);
	*t = (table){0};
}

static rv_status add_column(table *t, cell_kind kind, size_t text_bytes, const char *name,
                            const char *suffix) {
	static const size_t sizes[] = {0, 8, 8, 4};
	if (t->n_columns == t->cap) {
		size_t cap = t->cap == 0 ? 32 : 2 * t->cap;
		RV_TRY(RV_GROW(&t->columns, t->cap, cap, "HDF5 columns"));
		t->cap = cap;
	}
	column *c = &t->columns[t->n_columns];
	int n = snprintf(c->name, sizeof c->name, "%s%s", name, suffix);
	if (n < 0 || (size_t)n >= sizeof c->name)
		return rv_fail(RV_ERR_LIMIT, "column name '%s%s' is too long", name, suffix);
	c->kind = kind;
	c->size = kind == CELL_TEXT ? (text_bytes > 0 ? text_bytes : 1) : sizes[kind];
	c->offset = t->row_bytes;
	t->row_bytes += c->size;
	t->n_columns++;
	return RV_OK;
}

static rv_status begin_rows(table *t, size_t n_rows) {
	t->n_rows = n_rows;
	size_t bytes;
	if (!rv_mul_ok(n_rows, t->row_bytes, &bytes))
		return rv_fail(RV_ERR_LIMIT, "HDF5 table of %zu rows", n_rows);
	return RV_ALLOC(&t->rows, bytes, "HDF5 rows");
}

static char *cell(table *t, size_t row, size_t col) {
	return t->rows + row * t->row_bytes + t->columns[col].offset;
}

static void set_text(table *t, size_t row, size_t col, const char *text) {
	size_t n = strlen(text), room = t->columns[col].size;
	memcpy(cell(t, row, col), text, n < room ? n : room);
}

static void set_f64(table *t, size_t row, size_t col, double v) {
	memcpy(cell(t, row, col), &v, sizeof v);
}

static void set_i64(table *t, size_t row, size_t col, int64_t v) {
	memcpy(cell(t, row, col), &v, sizeof v);
}

static void set_i32(table *t, size_t row, size_t col, int32_t v) {
	memcpy(cell(t, row, col), &v, sizeof v);
}

/* ---- HDF5 ---- */

static hid_t text_type(size_t size) {
	hid_t t = H5Tcopy(H5T_C_S1);
	if (t >= 0 && (H5Tset_size(t, size) < 0 || H5Tset_cset(t, H5T_CSET_UTF8) < 0 ||
	               H5Tset_strpad(t, H5T_STR_NULLPAD) < 0)) {
		H5Tclose(t);
		return H5I_INVALID_HID;
	}
	return t;
}

static rv_status text_attribute(hid_t object, const char *name, const char *value) {
	size_t size = strlen(value);
	hid_t type = text_type(size > 0 ? size : 1);
	rv_status status = type >= 0 ? rv_h5_attribute(object, name, type, value) : rv_h5_failed(name);
	if (type >= 0)
		H5Tclose(type);
	return status;
}

/* unit, better, exact of a metric, each name preceded by `prefix`. */
static rv_status metric_attributes(hid_t object, const char *prefix, const rv_experiment_metric *m) {
	char name[128];
	snprintf(name, sizeof name, "%sunit", prefix);
	RV_TRY(text_attribute(object, name, m->unit));
	snprintf(name, sizeof name, "%sbetter", prefix);
	RV_TRY(text_attribute(object, name, m->better == RV_HIGHER ? "higher" : "lower"));
	snprintf(name, sizeof name, "%sexact", prefix);
	return rv_h5_attribute(object, name, H5T_NATIVE_INT, &m->exact);
}

static hid_t compound_type(const table *t) {
	hid_t type = H5Tcreate(H5T_COMPOUND, t->row_bytes);
	int ok = type >= 0;
	for (size_t i = 0; i < t->n_columns && ok; i++) {
		const column *c = &t->columns[i];
		hid_t text = c->kind == CELL_TEXT ? text_type(c->size) : H5I_INVALID_HID;
		hid_t member = c->kind == CELL_TEXT  ? text
		               : c->kind == CELL_F64 ? H5T_NATIVE_DOUBLE
		               : c->kind == CELL_I64 ? H5T_NATIVE_INT64
		                                     : H5T_NATIVE_INT32;
		ok = member >= 0 && H5Tinsert(type, c->name, c->offset, member) >= 0;
		if (text >= 0)
			H5Tclose(text);
	}
	if (!ok && type >= 0)
		H5Tclose(type);
	return ok ? type : H5I_INVALID_HID;
}

/* Writes the table as dataset `name`; *dataset (may be NULL) stays open for attributes. */
static rv_status write_table(hid_t where, const char *name, const table *t, hid_t *dataset) {
	hsize_t n = t->n_rows;
	hid_t type = compound_type(t), space = H5Screate_simple(1, &n, NULL), set = H5I_INVALID_HID;
	int ok = type >= 0 && space >= 0;
	if (ok)
		set = H5Dcreate2(where, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
	ok = ok && set >= 0 &&
	     (n == 0 || H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, t->rows) >= 0);
	if (type >= 0)
		H5Tclose(type);
	if (space >= 0)
		H5Sclose(space);
	if (set >= 0 && (!ok || dataset == NULL))
		H5Dclose(set);
	if (ok && dataset != NULL)
		*dataset = set;
	return ok ? RV_OK : rv_h5_failed(name);
}

/* ---- /runs ---- */

typedef struct run_field {
	const char *name;
	int text;
} run_field;
static const run_field run_fields[] = {
#define TEXT_FIELD(f) {#f, 1},
#define NUMBER_FIELD(f) {#f, 0},
        RV_RUN_FIELDS(TEXT_FIELD, NUMBER_FIELD)
#undef TEXT_FIELD
#undef NUMBER_FIELD
};
#define N_RUN_FIELDS (sizeof run_fields / sizeof run_fields[0])

static const char *run_text(const json_t *run, const char *field) {
	const char *s = json_string_value(json_object_get(run, field));
	return s != NULL ? s : "";
}

static rv_status fill_runs(table *t, const rv_results *r) {
	size_t n = json_array_size(r->runs);
	for (size_t f = 0; f < N_RUN_FIELDS; f++) {
		size_t longest = 0;
		for (size_t i = 0; i < n && run_fields[f].text; i++) {
			size_t len = strlen(run_text(json_array_get(r->runs, i), run_fields[f].name));
			longest = len > longest ? len : longest;
		}
		RV_TRY(add_column(t, run_fields[f].text ? CELL_TEXT : CELL_F64, longest,
		                  run_fields[f].name, ""));
	}
	RV_TRY(begin_rows(t, n));
	for (size_t i = 0; i < n; i++)
		for (size_t f = 0; f < N_RUN_FIELDS; f++) {
			const json_t *run = json_array_get(r->runs, i);
			const json_t *v = json_object_get(run, run_fields[f].name);
			if (run_fields[f].text)
				set_text(t, i, f, run_text(run, run_fields[f].name));
			else
				set_f64(t, i, f, json_is_number(v) ? json_number_value(v) : NAN);
		}
	return RV_OK;
}

/* ---- /points ---- */

static const char *const summary_suffixes[] = {"_n", "_median", "_mean", "_sd", "_lo95", "_hi95"};
#define N_SUMMARY 6

static size_t longest_value(const rv_param *p) {
	size_t longest = 0;
	for (int i = 0; i < p->n_values; i++) {
		size_t n = strlen(p->values[i].text);
		longest = n > longest ? n : longest;
	}
	return longest;
}

static rv_status point_columns(table *t, const rv_experiment *exp) {
	RV_TRY(add_column(t, CELL_TEXT, 16, "key", ""));
	RV_TRY(add_column(t, CELL_TEXT, 8, "status", ""));
	RV_TRY(add_column(t, CELL_TEXT, RV_REASON_BYTES, "reason", ""));
	for (int i = 0; i < exp->n_params; i++) {
		const rv_param *p = &exp->params[i];
		RV_TRY(add_column(t, p->kind == RV_PARAM_TEXT ? CELL_TEXT : CELL_F64, longest_value(p),
		                  p->name, ""));
	}
	for (int f = 0; f < exp->n_facts; f++)
		RV_TRY(add_column(t, CELL_TEXT, RV_REASON_BYTES, exp->facts[f].name, ""));
	for (int m = 0; m < exp->n_metrics; m++)
		for (int s = 0; s < N_SUMMARY; s++)
			RV_TRY(add_column(t, s == 0 ? CELL_I64 : CELL_F64, 0, exp->metrics[m].name,
			                  summary_suffixes[s]));
	return RV_OK;
}

static void point_row(table *t, const rv_results *r, int p) {
	const rv_experiment *exp = r->exp;
	const rv_point_result *res = &r->results[p];
	size_t row = (size_t)p, col = 0;
	set_text(t, row, col++, r->points[p].key);
	set_text(t, row, col++, rv_point_status_text(res->status));
	set_text(t, row, col++, res->reason);
	for (int i = 0; i < exp->n_params; i++) {
		const rv_param_value *v = rv_point_value(exp, &r->points[p], i);
		if (exp->params[i].kind == RV_PARAM_TEXT)
			set_text(t, row, col++, v->text);
		else
			set_f64(t, row, col++, v->number);
	}
	for (int f = 0; f < exp->n_facts; f++)
		set_text(t, row, col++, res->facts[f]);
	for (int m = 0; m < exp->n_metrics; m++) {
		const rv_summary *s = &res->metrics[m].summary;
		const double values[] = {s->median, s->mean, s->sd, s->lo95, s->hi95};
		set_i64(t, row, col++, s->n);
		for (int i = 0; i < N_SUMMARY - 1; i++)
			set_f64(t, row, col++, values[i]);
	}
}

static rv_status write_points(hid_t file, const rv_results *r) {
	table t = {0};
	hid_t set = H5I_INVALID_HID;
	rv_status status = point_columns(&t, r->exp);
	if (status == RV_OK)
		status = begin_rows(&t, (size_t)r->n_points);
	for (int p = 0; p < r->n_points && status == RV_OK; p++)
		point_row(&t, r, p);
	if (status == RV_OK)
		status = write_table(file, "points", &t, &set);
	for (int m = 0; m < r->exp->n_metrics && status == RV_OK; m++) {
		char prefix[96];
		snprintf(prefix, sizeof prefix, "%s_", r->exp->metrics[m].name);
		status = metric_attributes(set, prefix, &r->exp->metrics[m]);
	}
	if (set >= 0)
		H5Dclose(set);
	table_free(&t);
	return status;
}

/* ---- /samples ---- */

static rv_status write_metric_samples(hid_t group, const rv_experiment_metric *metric,
                                      const rv_metric_result *m) {
	table t = {0};
	hid_t set = H5I_INVALID_HID;
	rv_status status = add_column(&t, CELL_F64, 0, "value", "");
	if (status == RV_OK)
		status = add_column(&t, CELL_I32, 0, "run", "");
	if (status == RV_OK)
		status = add_column(&t, CELL_I32, 0, "repetition", "");
	if (status == RV_OK)
		status = begin_rows(&t, m->n);
	for (size_t i = 0; i < m->n && status == RV_OK; i++) {
		set_f64(&t, i, 0, m->samples[i].value);
		set_i32(&t, i, 1, m->samples[i].run);
		set_i32(&t, i, 2, m->samples[i].repetition);
	}
	if (status == RV_OK)
		status = write_table(group, metric->name, &t, &set);
	if (status == RV_OK)
		status = metric_attributes(set, "", metric);
	if (set >= 0)
		H5Dclose(set);
	table_free(&t);
	return status;
}

static rv_status write_point_samples(hid_t samples, const rv_results *r, int p) {
	hid_t group = H5Gcreate2(samples, r->points[p].key, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
	if (group < 0)
		return rv_h5_failed("samples");
	rv_status status = RV_OK;
	for (int m = 0; m < r->exp->n_metrics && status == RV_OK; m++)
		if (r->results[p].metrics[m].n > 0)
			status = write_metric_samples(group, &r->exp->metrics[m],
			                              &r->results[p].metrics[m]);
	H5Gclose(group);
	return status;
}

static rv_status write_samples(hid_t file, const rv_results *r) {
	hid_t samples = H5Gcreate2(file, "samples", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
	if (samples < 0)
		return rv_h5_failed("samples");
	rv_status status = RV_OK;
	for (int p = 0; p < r->n_points && status == RV_OK; p++)
		status = write_point_samples(samples, r, p);
	H5Gclose(samples);
	return status;
}

/* ---- /documented ---- */

static rv_status fill_documented(table *t, const rv_documented *doc) {
	static const char *const names[] = {
#define NAME(f) #f,
	        RV_DOCUMENTED_FIELDS(NAME)
#undef NAME
	};
	enum { N = sizeof names / sizeof names[0], FIRST_NUMBER = 3, LAST_NUMBER = 4 };
	for (int c = 0; c < N; c++) {
		int is_number = c >= FIRST_NUMBER && c <= LAST_NUMBER;
		size_t longest = 0;
		for (size_t i = 0; i < doc->n; i++) {
			const rv_documented_row *r = &doc->rows[i];
			const char *const texts[N] = {
			        r->table, r->point, r->metric,   "",      "",
			        r->unit,  r->kind,  r->hardware, r->seed, r->comparable_reason};
			size_t n = strlen(texts[c]);
			longest = n > longest ? n : longest;
		}
		RV_TRY(add_column(t, is_number ? CELL_F64 : CELL_TEXT, longest, names[c], ""));
	}
	RV_TRY(begin_rows(t, doc->n));
	for (size_t i = 0; i < doc->n; i++) {
		const rv_documented_row *r = &doc->rows[i];
		set_text(t, i, 0, r->table);
		set_text(t, i, 1, r->point);
		set_text(t, i, 2, r->metric);
		set_f64(t, i, 3, r->lo);
		set_f64(t, i, 4, r->hi);
		set_text(t, i, 5, r->unit);
		set_text(t, i, 6, r->kind);
		set_text(t, i, 7, r->hardware);
		set_text(t, i, 8, r->seed);
		set_text(t, i, 9, r->comparable_reason);
	}
	return RV_OK;
}

/* ---- the file ---- */

static rv_status write_contents(hid_t file, const rv_results *r, const rv_documented *doc) {
	const int schema = RV_H5_SCHEMA_VERSION;
	RV_TRY(rv_h5_attribute(file, "schema_version", H5T_NATIVE_INT, &schema));
	RV_TRY(text_attribute(file, "experiment", r->exp->id));
	RV_TRY(text_attribute(file, "title", r->exp->title));
	table t = {0};
	rv_status status = fill_runs(&t, r);
	if (status == RV_OK)
		status = write_table(file, "runs", &t, NULL);
	table_free(&t);
	RV_TRY(status);
	RV_TRY(write_points(file, r));
	RV_TRY(write_samples(file, r));
	status = fill_documented(&t, doc);
	if (status == RV_OK)
		status = write_table(file, "documented", &t, NULL);
	table_free(&t);
	return status;
}

typedef struct contents {
	const rv_results *results;
	const rv_documented *documented;
} contents;

static rv_status fill_file(void *user, hid_t file) {
	const contents *c = user;
	return write_contents(file, c->results, c->documented);
}

rv_status rv_h5log_write(const char *path, const rv_results *results, const rv_documented *documented) {
	contents c = {results, documented};
	return rv_h5_write_file(path, fill_file, &c);
}
