/* CSV files (RFC 4180): quoted fields, doubled quotes, line breaks inside quotes, LF or CRLF. */
#ifndef RV_LAB_CSV_H
#define RV_LAB_CSV_H

#include "base/status.h"

#include <stddef.h>

/* One row: n fields, NUL-terminated, valid during the call. line: where the row begins (1-based). The
 * header row is checked and not visited. */
typedef rv_status rv_csv_row_fn(void *user, char *const *fields, size_t line);

/* Every row must have exactly n_columns fields and the first row must equal `header`; an open quote, a
 * ragged row, a NUL byte or text after a closing quote is RV_ERR_FORMAT with file and line. */
rv_status rv_csv_read(const char *path, const char *const *header, size_t n_columns, rv_csv_row_fn *row,
                      void *user);

#endif
