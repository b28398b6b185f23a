/* Parsing shared by the option tables. Internal to lib/base; the public part is in options.h. */
#ifndef RV_BASE_NUMBERS_H
#define RV_BASE_NUMBERS_H

#include "base/options.h"

/* A bound of an option row as an integer: what int64_t cannot hold becomes its end. */
int64_t rv_bound_int(double bound);

/* "1,2,8-32*2,64-128+32" into *out, which is untouched on failure. */
rv_status rv_parse_ranges(const char *s, int64_t min, int64_t max, rv_int_list *out);

#endif
