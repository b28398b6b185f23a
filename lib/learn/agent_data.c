#include "learn/agent_data.h"

#include "base/file.h"
#include "base/mem.h"

#include <string.h>

#define FILE_BYTES_MAX ((size_t)1 << 28)

typedef struct reader {
	rv_agent_data *data;
	const char *path;
	long long line;
	int64_t left;            /* requests still to be taken */
	int n_fields, column[5]; /* of a table; column -1: it has none */
} reader;

static rv_status wrong(const reader *r, const char *what, const char *at, size_t len) {
	return rv_fail(RV_ERR_FORMAT, "%s, line %lld: %s: '%.*s'", r->path, r->line, what,
	               (int)(len < 60 ? len : 60), at);
}

static rv_status add(reader *r, const char *text, size_t len, const rv_agent_example *labels) {
	rv_agent_data *d = r->data;
	if (len == 0 || len > UINT32_MAX)
		return wrong(r, "a request without text", text, 0);
	if (d->n == d->cap) {
		const int64_t cap = d->cap ? 2 * d->cap : 1024;
		RV_TRY(RV_GROW(&d->items, d->cap, cap, "requests"));
		d->cap = cap;
	}
	rv_agent_example *e = &d->items[d->n];
	*e = *labels;
	RV_TRY(rv_strndup(&e->text, text, len));
	e->len = (uint32_t)len;
	e->source = (int8_t)d->n_sources;
	d->n++;
	r->left--;
	return RV_OK;
}

/* ---- tables ---- */

enum { AGENT, CATEGORY, DIFFICULTY, COMPLEXITY, TEXT, N_COLUMNS };
static const char *const columns[N_COLUMNS] = {"agent", "category", "difficulty", "complexity", "text"};
enum { FIELDS_MAX = 16 };

/* TAB-separated fields of a line; their number, at most FIELDS_MAX + 1. */
static int cut(const char *line, size_t len, const char *field[FIELDS_MAX], size_t width[FIELDS_MAX]) {
	int n = 0;
	for (const char *at = line, *end = line + len; at <= end; n++) {
		const char *stop = memchr(at, '\t', (size_t)(end - at));
		stop = stop ? stop : end;
		if (n == FIELDS_MAX)
			return n + 1;
		field[n] = at;
		width[n] = (size_t)(stop - at);
		at = stop + 1;
	}
	return n;
}

static rv_status read_head(reader *r, const char *line, size_t len) {
	const char *field[FIELDS_MAX];
	size_t width[FIELDS_MAX];
	r->n_fields = cut(line, len, field, width);
	for (int k = 0; k < N_COLUMNS; k++)
		r->column[k] = -1;
	for (int i = 0; i < r->n_fields && i < FIELDS_MAX; i++) {
		const int k = rv_agent_index(columns, N_COLUMNS, field[i], width[i]);
		if (k >= 0)
			r->column[k] = i;
	}
	if (r->column[AGENT] < 0 || r->column[TEXT] < 0 || r->n_fields > FIELDS_MAX)
		return wrong(r, "not a head of at most 16 columns, agent and text among them", line,
		             len);
	return RV_OK;
}

static rv_status read_row(reader *r, const char *line, size_t len) {
	const char *field[FIELDS_MAX];
	size_t width[FIELDS_MAX];
	int value[N_COLUMNS] = {-1, -1, -1, -1, 0};
	static const struct {
		const char *const *names;
		int n;
	} of[TEXT] = {{rv_agent_names, RV_AGENTS},
	              {rv_agent_classes, RV_AGENT_CLASSES},
	              {rv_agent_levels, RV_AGENT_LEVELS},
	              {rv_agent_levels, RV_AGENT_LEVELS}};
	if (cut(line, len, field, width) != r->n_fields)
		return wrong(r, "not as many fields as columns", line, len);
	for (int k = 0; k < TEXT; k++) {
		const int i = r->column[k];
		if (i < 0)
			continue;
		value[k] = rv_agent_index(of[k].names, of[k].n, field[i], width[i]);
		if (value[k] < 0)
			return wrong(r, "no such value", field[i], width[i]);
	}
	if (value[CATEGORY] >= 0 && value[CATEGORY] != value[AGENT] && value[CATEGORY] != RV_AGENTS)
		return wrong(r, "not the category of its agent", line, len);
	const rv_agent_example e = {
	        .agent = (int8_t)value[AGENT],
	        .ambiguous = (int8_t)(value[CATEGORY] < 0 ? -1 : value[CATEGORY] == RV_AGENTS),
	        .difficulty = (int8_t)value[DIFFICULTY],
	        .complexity = (int8_t)value[COMPLEXITY]};
	return add(r, field[r->column[TEXT]], width[r->column[TEXT]], &e);
}

/* ---- the generator's text ---- */

typedef struct pending {
	const char *text;
	size_t len;
	rv_agent_example labels;
} pending;

static int begins(const char *line, size_t len, const char *key, const char **rest, size_t *n) {
	const size_t k = strlen(key);
	if (len < k || memcmp(line, key, k) != 0)
		return 0;
	*rest = line + k;
	*n = len - k;
	return 1;
}

static rv_status read_line(reader *r, pending *p, const char *line, size_t len) {
	const char *rest;
	size_t n;
	if (begins(line, len, "Request: ", &rest, &n))
		*p = (pending){
		        rest, n, {.agent = -1, .ambiguous = -1, .difficulty = -1, .complexity = -1}};
	else if (begins(line, len, "Task: ", &rest, &n))
		p->labels.ambiguous =
		        rv_agent_index(rv_agent_classes, RV_AGENT_CLASSES, rest, n) == RV_AGENTS;
	else if (begins(line, len, "Complexity: ", &rest, &n))
		p->labels.complexity =
		        (int8_t)rv_agent_index(rv_agent_levels, RV_AGENT_LEVELS, rest, n);
	else if (p->text && begins(line, len, "Agent: ", &rest, &n)) {
		p->labels.agent = (int8_t)rv_agent_index(rv_agent_names, RV_AGENTS, rest, n);
		if (p->labels.agent < 0)
			return wrong(r, "no such agent", rest, n);
		RV_TRY(add(r, p->text, p->len, &p->labels));
		p->text = NULL;
	}
	return RV_OK;
}

/* ---- files ---- */

static rv_status read_all(reader *r, const char *data, size_t size) {
	const int table = size > 6 && memcmp(data, "agent\t", 6) == 0;
	pending p = {0};
	for (const char *at = data, *end = data + size; at < end && r->left > 0;) {
		const char *stop = memchr(at, '\n', (size_t)(end - at));
		const char *next = stop ? stop + 1 : end;
		stop = stop ? stop : end;
		stop -= stop > at && stop[-1] == '\r';
		r->line++;
		if (!table)
			RV_TRY(read_line(r, &p, at, (size_t)(stop - at)));
		else if (r->line == 1)
			RV_TRY(read_head(r, at, (size_t)(stop - at)));
		else
			RV_TRY(read_row(r, at, (size_t)(stop - at)));
		at = next;
	}
	return RV_OK;
}

rv_status rv_agent_data_add(rv_agent_data *data, const char *path, int64_t limit) {
	reader r = {.data = data, .path = path, .left = limit ? limit : INT64_MAX};
	const int64_t before = data->n;
	char *bytes;
	size_t size;
	if (data->n_sources == INT8_MAX)
		return rv_fail(RV_ERR_LIMIT, "%s: more than 127 files of requests", path);
	RV_TRY(rv_file_read(path, FILE_BYTES_MAX, &bytes, &size));
	rv_status st = read_all(&r, bytes, size);
	rv_free(bytes);
	if (st == RV_OK && data->n == before)
		st = rv_fail(RV_ERR_FORMAT, "%s: it holds no requests", path);
	data->n_sources++;
	return st;
}

void rv_agent_data_free(rv_agent_data *data) {
	for (int64_t i = 0; i < data->n; i++)
		rv_free(data->items[i].text);
	rv_free(data->items);
	memset(data, 0, sizeof *data);
}
