/* One connection to the database: statements that are prepared once, values bound by kind, errors that
 * name file and table. Used by one thread at a time; rv_store hands connections out.
 *
 * Status of what SQLite reports: busy or locked RV_ERR_LIMIT; full, read-only and I/O RV_ERR_IO;
 * corrupt or no database RV_ERR_FORMAT; a broken constraint (an id that is there already, a value out
 * of its bounds) RV_ERR_MISMATCH; no memory RV_ERR_NO_MEMORY.
 */
#ifndef RV_MEMORY_DB_H
#define RV_MEMORY_DB_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct rv_db rv_db;
typedef struct rv_db_row rv_db_row;

/* A value to bind. Text and blobs are borrowed during the call. */
typedef struct rv_db_value {
	enum { RV_DB_NULL, RV_DB_INT, RV_DB_REAL, RV_DB_TEXT, RV_DB_BLOB } kind;
	int64_t integer;
	double real;
	const void *data; /* NULL with TEXT or BLOB: SQL's NULL */
	size_t size;
} rv_db_value;

#define RV_INT(x) ((rv_db_value){.kind = RV_DB_INT, .integer = (x)})
#define RV_REAL(x) ((rv_db_value){.kind = RV_DB_REAL, .real = (x)})
#define RV_TEXT(s) rv_db_text_value(s) /* NULL: SQL's NULL */
#define RV_BLOB(p, n) ((rv_db_value){.kind = RV_DB_BLOB, .data = (p), .size = (n)})
#define RV_F32(p, n) RV_BLOB(p, (size_t)(n) * sizeof(float)) /* little-endian, as in memory */
rv_db_value rv_db_text_value(const char *s);

/* Runs one statement that gives no rows. `sql` must be a string that lives as long as the connection (a
 * literal): it is prepared once. `table` stands in messages. */
rv_status rv_db_run(rv_db *db, const char *table, const char *sql, const rv_db_value *values, size_t n);

/* The same of a statement with rows, in order; a callback that fails ends the query with its status.
 * RV_ERR_CANCELLED from a callback ends it early and is passed on like any other. */
typedef rv_status rv_db_row_fn(void *user, const rv_db_row *row);
rv_status rv_db_query(rv_db *db, const char *table, const char *sql, const rv_db_value *values,
                      size_t n, rv_db_row_fn *fn, void *user);

/* RV_DB_RUN(db, "edges", "DELETE ... WHERE source = ?1", RV_TEXT(id)) */
#define RV_DB_VALUES(...)                                                                              \
	((const rv_db_value[]){__VA_ARGS__}),                                                          \
	        sizeof((const rv_db_value[]){__VA_ARGS__}) / sizeof(rv_db_value)
#define RV_DB_RUN(db, table, sql, ...) rv_db_run(db, table, sql, RV_DB_VALUES(__VA_ARGS__))
#define RV_DB_QUERY(db, table, fn, user, sql, ...)                                                     \
	rv_db_query(db, table, sql, RV_DB_VALUES(__VA_ARGS__), fn, user)

/* A statement that gives one integer (RV_ERR_NOT_FOUND when it gives no row). */
rv_status rv_db_int(rv_db *db, const char *table, const char *sql, const rv_db_value *values, size_t n,
                    int64_t *out);

int64_t rv_db_last_key(const rv_db *db); /* of the last INSERT */
int64_t rv_db_changes(const rv_db *db);  /* rows the last statement changed */
const char *rv_db_path(const rv_db *db);

/* Columns of a row, from 0; valid during the callback. */
int64_t rv_row_int(const rv_db_row *row, int column);
double rv_row_real(const rv_db_row *row, int column);
int rv_row_is_null(const rv_db_row *row, int column);
const char *rv_row_text(const rv_db_row *row, int column);               /* NULL for SQL's NULL */
const void *rv_row_blob(const rv_db_row *row, int column, size_t *size); /* NULL when empty */
/* Exactly n floats, all finite; RV_ERR_FORMAT names file, table, key (column 0 is the key). */
rv_status rv_row_f32(const rv_db_row *row, int column, float *out, size_t n);

/* A row's checksum over values, and over the same columns read back: CRC-32 of kinds and bytes. A
 * single flipped bit of what was stored shows. */
uint32_t rv_db_crc(uint32_t crc, const rv_db_value *values, size_t n);
uint32_t rv_row_crc(uint32_t crc, const rv_db_row *row, int first_column, int n);
/* RV_ERR_FORMAT "<file>: table <t>, row <key>: damaged (<why>)". */
rv_status rv_row_damaged(const rv_db_row *row, const char *why);

#endif
