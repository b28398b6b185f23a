/* Options as data: one table gives parsing, bounds, --help, JSON and provenance. */
#ifndef RV_BASE_OPTIONS_H
#define RV_BASE_OPTIONS_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef enum rv_option_kind {
	RV_OPT_FLAG,   /* int: 0 or 1; no value */
	RV_OPT_INT,    /* int64_t within [min, max] */
	RV_OPT_DOUBLE, /* double within [min, max]; NaN refused */
	RV_OPT_STRING, /* const char *, borrowed from argv */
	RV_OPT_ENUM,   /* int: index into `choices` */
	RV_OPT_LIST,   /* rv_option_list: repeatable string, in order */
	RV_OPT_INTS    /* rv_int_list: "1,2,8-32*2,64-128+32": list and ranges, each in [min, max] */
} rv_option_kind;

#define RV_OPTION_LIST_MAX 64
typedef struct rv_option_list {
	const char *items[RV_OPTION_LIST_MAX];
	int n;
} rv_option_list;
#define RV_INT_LIST_MAX 256
typedef struct rv_int_list {
	int64_t v[RV_INT_LIST_MAX];
	int n;
} rv_int_list;

typedef struct rv_option {
	const char *name; /* "n-predict": given as --n-predict V or --n-predict=V */
	char letter;      /* 'n': given as -n V; 0: none */
	rv_option_kind kind;
	size_t offset;              /* of the value in the options struct */
	double min, max;            /* numeric kinds */
	const char *const *choices; /* RV_OPT_ENUM: NULL-terminated */
	const char *unit;           /* "tokens", "bytes", ...; NULL: none */
	const char *value_name;     /* "N", "FILE"; NULL: derived from kind */
	const char *help;           /* one line, without the default: that is printed from the struct */
} rv_option;

/* Parses argv[1..argc-1] into `values` (already holding the defaults). Long names may also be given
 * with a single dash. Non-option words are moved to positional (borrowed), at most max_positional;
 * "--" ends options. Numbers are parsed strictly and independently of the locale. Fails with
 * RV_ERR_INVALID and a message naming the option and its bounds, or listing the accepted values.
 * `table` ends with a row whose name is NULL. Several tables may be joined: `tables` ends with NULL,
 * values[i] belongs to tables[i]. */
rv_status rv_options_parse(const rv_option *const *tables, void *const *values, int argc, char **argv,
                           const char **positional, int max_positional, int *n_positional);

/* Help text of the tables, defaults taken from `values`, into a malloc'd string (rv_free). */
rv_status rv_options_help(const rv_option *const *tables, void *const *values, char **text);

/* Strict locale-independent number parsing of a whole string. */
rv_status rv_parse_int(const char *s, int64_t min, int64_t max, int64_t *out);
rv_status rv_parse_double(const char *s, double min, double max, double *out);
/* "1,2,3" or "1 2 3" (or both) into a rv_free'd array; blank text is no number: n 0, *out NULL. */
rv_status rv_parse_ints(const char *s, int64_t min, int64_t max, int64_t **out, size_t *n);

#endif
