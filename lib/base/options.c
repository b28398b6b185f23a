#include "base/options.h"

#include "base/mem.h"
#include "base/numbers.h"
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define NAME_BYTES 128 /* of an option as given, shortened in messages */
#define SUGGEST_DISTANCE 2

typedef struct found {
	const rv_option *option;
	char *values; /* the struct its offset counts from */
} found;

/* Calls for each row of each table until `fn` answers true. */
typedef int row_fn(void *user, const rv_option *option, char *values);
static int each_row(const rv_option *const *tables, void *const *values, row_fn *fn, void *user) {
	for (int t = 0; tables[t]; t++)
		for (const rv_option *o = tables[t]; o->name; o++)
			if (fn(user, o, values ? values[t] : NULL))
				return 1;
	return 0;
}

typedef struct query {
	const char *name; /* not NUL-terminated */
	size_t len;
	char letter; /* 0: a long name is looked for */
	found result;
	int distance; /* of the nearest name so far */
} query;

static int match_row(void *user, const rv_option *option, char *values) {
	query *q = user;
	int hit = q->letter ? option->letter == q->letter
	                    : strlen(option->name) == q->len && !memcmp(option->name, q->name, q->len);
	if (hit)
		q->result = (found){option, values};
	return hit;
}

/* Edit distance (insert, delete, replace), with one row of the table kept. */
static int distance(const char *a, size_t na, const char *b) {
	int row[NAME_BYTES];
	size_t nb = strlen(b);
	if (na >= NAME_BYTES || nb >= NAME_BYTES)
		return NAME_BYTES;
	for (size_t j = 0; j <= nb; j++)
		row[j] = (int)j;
	for (size_t i = 1; i <= na; i++) {
		int diagonal = row[0];
		row[0] = (int)i;
		for (size_t j = 1; j <= nb; j++) {
			int best = diagonal + (a[i - 1] != b[j - 1]);
			diagonal = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[nb];
}

static int nearer_row(void *user, const rv_option *option, char *values) {
	query *q = user;
	(void)values;
	int d = distance(q->name, q->len, option->name);
	if (d < q->distance && d < (int)strlen(option->name)) {
		q->distance = d;
		q->result.option = option;
	}
	return 0;
}

static rv_status unknown(const rv_option *const *tables, const char *word, size_t len) {
	query q = {.name = word, .len = len, .distance = SUGGEST_DISTANCE + 1};
	while (q.len && *q.name == '-')
		q.name++, q.len--;
	each_row(tables, NULL, nearer_row, &q);
	int shown = len < NAME_BYTES ? (int)len : NAME_BYTES;
	if (q.result.option)
		return rv_fail(RV_ERR_INVALID, "%.*s: unknown option; is --%s meant?", shown, word,
		               q.result.option->name);
	return rv_fail(RV_ERR_INVALID, "%.*s: unknown option", shown, word);
}

/* "a, b, c" */
static void join_choices(const char *const *choices, const char *separator, char *text, size_t cap) {
	size_t n = 0;
	text[0] = '\0';
	for (; *choices && n < cap; choices++)
		n += (size_t)snprintf(text + n, cap - n, "%s%s", n ? separator : "", *choices);
}

static rv_status set_enum(const rv_option *o, const char *value, int *out) {
	for (int i = 0; o->choices[i]; i++) {
		if (!strcmp(o->choices[i], value)) {
			*out = i;
			return RV_OK;
		}
	}
	char all[512];
	join_choices(o->choices, ", ", all, sizeof all);
	return rv_fail(RV_ERR_INVALID, "'%.64s' is not one of %s", value, all);
}

static rv_status add_item(const char *value, rv_option_list *list) {
	if (list->n == RV_OPTION_LIST_MAX)
		return rv_fail(RV_ERR_INVALID, "given more than %d times", RV_OPTION_LIST_MAX);
	list->items[list->n++] = value;
	return RV_OK;
}

static rv_status set_value(const found *f, const char *value) {
	const rv_option *o = f->option;
	void *at = f->values + o->offset;
	switch (o->kind) {
	case RV_OPT_FLAG:
		*(int *)at = 1;
		return RV_OK;
	case RV_OPT_INT:
		return rv_parse_int(value, rv_bound_int(o->min), rv_bound_int(o->max), at);
	case RV_OPT_DOUBLE:
		return rv_parse_double(value, o->min, o->max, at);
	case RV_OPT_STRING:
		*(const char **)at = value;
		return RV_OK;
	case RV_OPT_ENUM:
		return set_enum(o, value, at);
	case RV_OPT_LIST:
		return add_item(value, at);
	case RV_OPT_INTS:
		return rv_parse_ranges(value, rv_bound_int(o->min), rv_bound_int(o->max), at);
	}
	return rv_fail(RV_ERR_INVALID, "option of an unknown kind %d", (int)o->kind);
}

/* Finds the row a word like "-n", "--temp", "-temp" or "--temp=0.5" names; *value: what follows '='. */
static rv_status find_option(const rv_option *const *tables, void *const *values, const char *word,
                             found *out, size_t *len, const char **value) {
	const char *name = word + (word[1] == '-' ? 2 : 1), *equals = strchr(name, '=');
	query q = {.name = name, .len = equals ? (size_t)(equals - name) : strlen(name)};
	*len = (size_t)(name - word) + q.len;
	*value = equals ? equals + 1 : NULL;
	int hit = each_row(tables, values, match_row, &q);
	if (!hit && q.len == 1 && name == word + 1) {
		q.letter = *name;
		hit = each_row(tables, values, match_row, &q);
	}
	if (!hit)
		return unknown(tables, word, *len);
	*out = q.result;
	return RV_OK;
}

static rv_status parse_option(const rv_option *const *tables, void *const *values, int argc,
                              char **argv, int *i) {
	found f = {0};
	const char *word = argv[*i], *value;
	char shown[NAME_BYTES];
	size_t len;
	RV_TRY(find_option(tables, values, word, &f, &len, &value));
	snprintf(shown, sizeof shown, "%.*s", (int)len, word);
	if (f.option->kind == RV_OPT_FLAG) {
		if (value)
			return rv_fail(RV_ERR_INVALID, "%s: takes no value", shown);
	} else if (!value) {
		if (*i + 1 >= argc)
			return rv_fail(RV_ERR_INVALID, "%s: its value is missing", shown);
		value = argv[++*i];
	}
	rv_status status = set_value(&f, value);
	return status == RV_OK ? RV_OK : rv_fail_in(status, shown);
}

rv_status rv_options_parse(const rv_option *const *tables, void *const *values, int argc, char **argv,
                           const char **positional, int max_positional, int *n_positional) {
	int n = 0, options_ended = 0;
	for (int i = 1; i < argc; i++) {
		const char *word = argv[i];
		if (!options_ended && !strcmp(word, "--")) {
			options_ended = 1;
		} else if (!options_ended && word[0] == '-' && word[1]) {
			RV_TRY(parse_option(tables, values, argc, argv, &i));
		} else if (n == max_positional) {
			return rv_fail(RV_ERR_INVALID, "'%.64s': unexpected argument", word);
		} else {
			positional[n++] = word;
		}
	}
	if (n_positional)
		*n_positional = n;
	return RV_OK;
}

/* ---- help ---- */

typedef struct text {
	char *data;
	size_t used, capacity;
	rv_status status;
	size_t width; /* of the left column */
} text;

__attribute__((format(printf, 2, 3))) static void append(text *t, const char *fmt, ...) {
	va_list args, again;
	if (t->status != RV_OK)
		return;
	va_start(args, fmt);
	va_copy(again, args);
	int n = vsnprintf(NULL, 0, fmt, args);
	size_t need = t->used + (n > 0 ? (size_t)n : 0) + 1;
	if (need > t->capacity) {
		t->status = RV_GROW(&t->data, t->capacity, 2 * need, "help text");
		if (t->status == RV_OK)
			t->capacity = 2 * need;
	}
	if (t->status == RV_OK && n > 0) {
		vsnprintf(t->data + t->used, t->capacity - t->used, fmt, again);
		t->used += (size_t)n;
	}
	va_end(again);
	va_end(args);
}

/* "  -n, --n-predict N" */
static void left_column(const rv_option *o, char *out, size_t cap) {
	static const char *const names[] = {
	        [RV_OPT_FLAG] = "",       [RV_OPT_INT] = "N", [RV_OPT_DOUBLE] = "X",
	        [RV_OPT_STRING] = "TEXT", [RV_OPT_ENUM] = "", [RV_OPT_LIST] = "TEXT",
	        [RV_OPT_INTS] = "N,N-N*K"};
	char choices[256], letter[8] = "    ";
	const char *value = o->value_name ? o->value_name : names[o->kind];
	if (o->kind == RV_OPT_ENUM && !o->value_name) {
		join_choices(o->choices, "|", choices, sizeof choices);
		value = choices;
	}
	if (o->letter)
		snprintf(letter, sizeof letter, "-%c, ", o->letter);
	snprintf(out, cap, "  %s--%s%s%s", letter, o->name, *value ? " " : "", value);
}

static void append_number(text *t, rv_option_kind kind, double value) {
	char number[32];
	if (kind == RV_OPT_DOUBLE)
		rv_text_double(number, value);
	else
		snprintf(number, sizeof number, "%lld", (long long)rv_bound_int(value));
	append(t, "%s", number);
}

static int is_bound(double value) {
	return value > -9e18 && value < 9e18;
}

static void append_bounds(text *t, const rv_option *o) {
	int low = is_bound(o->min), high = is_bound(o->max);
	if (low && high) {
		append_number(t, o->kind, o->min);
		append(t, "..");
		append_number(t, o->kind, o->max);
	} else if (low || high) {
		append(t, low ? "at least " : "at most ");
		append_number(t, o->kind, low ? o->min : o->max);
	}
	append(t, "%s%s", (low || high) && o->unit ? " " : "", o->unit ? o->unit : "");
	append(t, "%s", low || high || o->unit ? ", " : "");
}

static void append_ints(text *t, const rv_int_list *list) {
	for (int i = 0; i < list->n; i++)
		append(t, "%s%lld", i ? "," : "", (long long)list->v[i]);
	if (!list->n)
		append(t, "none");
}

/* " (1..100 tokens, default 32)" */
static void append_facts(text *t, const rv_option *o, const char *values) {
	const void *at = values + o->offset;
	switch (o->kind) {
	case RV_OPT_FLAG:
		if (*(const int *)at)
			append(t, " (on by default)");
		return;
	case RV_OPT_INT:
	case RV_OPT_DOUBLE:
		append(t, " (");
		append_bounds(t, o);
		append(t, "default ");
		if (o->kind == RV_OPT_INT)
			append(t, "%lld", (long long)*(const int64_t *)at);
		else
			append_number(t, o->kind, *(const double *)at);
		append(t, ")");
		return;
	case RV_OPT_STRING:
		if (*(const char *const *)at)
			append(t, " (default %s)", *(const char *const *)at);
		return;
	case RV_OPT_ENUM:
		append(t, " (default %s)", o->choices[*(const int *)at]);
		return;
	case RV_OPT_LIST:
		append(t, " (repeatable)");
		return;
	case RV_OPT_INTS:
		append(t, " (");
		append_bounds(t, o);
		append(t, "default ");
		append_ints(t, at);
		append(t, ")");
		return;
	}
}

#define MAX_LEFT 34

static int measure_row(void *user, const rv_option *o, char *values) {
	text *t = user;
	char left[512];
	(void)values;
	left_column(o, left, sizeof left);
	size_t n = strlen(left);
	if (n <= MAX_LEFT && n > t->width)
		t->width = n;
	return 0;
}

static int help_row(void *user, const rv_option *o, char *values) {
	text *t = user;
	char left[512];
	left_column(o, left, sizeof left);
	if (strlen(left) > t->width)
		append(t, "%s\n%*s", left, (int)t->width, "");
	else
		append(t, "%-*s", (int)t->width, left);
	append(t, "  %s", o->help);
	append_facts(t, o, values);
	append(t, "\n");
	return t->status != RV_OK;
}

rv_status rv_options_help(const rv_option *const *tables, void *const *values, char **out) {
	text t = {0};
	*out = NULL;
	each_row(tables, NULL, measure_row, &t);
	append(&t, "%s", "");
	each_row(tables, values, help_row, &t);
	if (t.status != RV_OK) {
		rv_free(t.data);
		return t.status;
	}
	*out = t.data;
	return RV_OK;
}
