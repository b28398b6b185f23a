#include "base/file.h"
#include "base/mem.h"
#include "memory/store_internal.h"

#include <math.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "embeddings are stored as they are in memory");

rv_db_value rv_db_text_value(const char *s) {
	if (s == NULL)
		return (rv_db_value){.kind = RV_DB_NULL};
	return (rv_db_value){.kind = RV_DB_TEXT, .data = s, .size = strlen(s)};
}

rv_status rv_db_open(rv_db **out, const char *path, int flags, int busy_timeout_ms) {
	rv_db *db = NULL;
	RV_TRY(RV_ALLOC(&db, 1, "database connection"));
	rv_status st = rv_strdup(&db->path, path);
	if (st == RV_OK) {
		int rc = sqlite3_open_v2(path, &db->sqlite, flags | SQLITE_OPEN_NOMUTEX, NULL);
		if (rc != SQLITE_OK)
			st = rv_db_fail(db, rc, NULL);
	}
	if (st != RV_OK) {
		rv_db_close(db);
		return st;
	}
	sqlite3_extended_result_codes(db->sqlite, 1);
	sqlite3_busy_timeout(db->sqlite, busy_timeout_ms);
	/* a database from elsewhere may hold a schema made to do harm */
	sqlite3_db_config(db->sqlite, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(db->sqlite, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	*out = db;
	return RV_OK;
}

void rv_db_close(rv_db *db) {
	if (db == NULL)
		return;
	for (size_t i = 0; i < db->n_statements; i++)
		sqlite3_finalize(db->statements[i].stmt);
	sqlite3_close_v2(db->sqlite);
	rv_free(db->statements);
	rv_free(db->path);
	rv_free(db);
}

rv_status rv_db_fail(rv_db *db, int rc, const char *table) {
	static const struct {
		int code;
		rv_status status;
	} of[] = {
	        {SQLITE_BUSY, RV_ERR_LIMIT},          {SQLITE_LOCKED, RV_ERR_LIMIT},
	        {SQLITE_CORRUPT, RV_ERR_FORMAT},      {SQLITE_NOTADB, RV_ERR_FORMAT},
	        {SQLITE_CONSTRAINT, RV_ERR_MISMATCH}, {SQLITE_NOMEM, RV_ERR_NO_MEMORY},
	        {SQLITE_TOOBIG, RV_ERR_LIMIT},        {SQLITE_MISUSE, RV_ERR_INVALID},
	        {SQLITE_RANGE, RV_ERR_INVALID},
	};
	rv_status status = RV_ERR_IO;
	for (size_t i = 0; i < sizeof of / sizeof *of; i++)
		if ((rc & 0xff) == of[i].code)
			status = of[i].status;
	const char *why = db->sqlite != NULL ? sqlite3_errmsg(db->sqlite) : sqlite3_errstr(rc);
	int system = db->sqlite != NULL ? sqlite3_system_errno(db->sqlite) : 0;
	int is_io = (rc & 0xff) == SQLITE_IOERR || (rc & 0xff) == SQLITE_CANTOPEN;
	return rv_fail(status, "%s%s%s: %s%s%s", db->path, table ? ": table " : "", table ? table : "",
	               why, is_io && system ? ": " : "", is_io && system ? strerror(system) : "");
}

rv_status rv_db_exec(rv_db *db, const char *table, const char *sql) {
	int rc = sqlite3_exec(db->sqlite, sql, NULL, NULL, NULL);
	return rc == SQLITE_OK ? RV_OK : rv_db_fail(db, rc, table);
}

/* The statement of `sql`, prepared once. One that is being stepped (a query inside its own callback) is
 * prepared again and is the caller's to finalize (*own). */
static rv_status prepare(rv_db *db, const char *table, const char *sql, sqlite3_stmt **out, int *own) {
	*own = 0;
	for (size_t i = 0; i < db->n_statements; i++)
		if (db->statements[i].sql == sql) {
			*out = db->statements[i].stmt;
			if (!sqlite3_stmt_busy(*out))
				return RV_OK;
			*own = 1;
			break;
		}
	if (!*own && db->n_statements == db->cap) {
		size_t cap = db->cap ? 2 * db->cap : 16;
		RV_TRY(RV_GROW(&db->statements, db->cap, cap, "statements"));
		db->cap = cap;
	}
	int rc = sqlite3_prepare_v3(db->sqlite, sql, -1, *own ? 0 : SQLITE_PREPARE_PERSISTENT, out,
	                            NULL);
	if (rc != SQLITE_OK)
		return rv_db_fail(db, rc, table);
	if (!*own)
		db->statements[db->n_statements++] = (rv_db_statement){sql, *out};
	return RV_OK;
}

static int bind(sqlite3_stmt *stmt, int i, const rv_db_value *v) {
	switch (v->kind) {
	case RV_DB_INT:
		return sqlite3_bind_int64(stmt, i, v->integer);
	case RV_DB_REAL:
		return sqlite3_bind_double(stmt, i, v->real);
	case RV_DB_TEXT:
		return sqlite3_bind_text64(stmt, i, v->data, v->size, SQLITE_STATIC, SQLITE_UTF8);
	case RV_DB_BLOB:
		return v->data ? sqlite3_bind_blob64(stmt, i, v->data, v->size, SQLITE_STATIC)
		               : sqlite3_bind_null(stmt, i);
	case RV_DB_NULL:
		break;
	}
	return sqlite3_bind_null(stmt, i);
}

/* A row knows its connection, for messages. */
struct rv_db_row {
	sqlite3_stmt *stmt;
	const rv_db *db;
	const char *table;
};

rv_status rv_db_query(rv_db *db, const char *table, const char *sql, const rv_db_value *values,
                      size_t n, rv_db_row_fn *fn, void *user) {
	sqlite3_stmt *stmt = NULL;
	int own = 0, rc = SQLITE_OK;
	RV_TRY(prepare(db, table, sql, &stmt, &own));
	for (size_t i = 0; i < n && rc == SQLITE_OK; i++)
		rc = bind(stmt, (int)i + 1, &values[i]);
	rv_status st = RV_OK;
	if (rc == SQLITE_OK) {
		const rv_db_row row = {stmt, db, table};
		while (st == RV_OK && (rc = sqlite3_step(stmt)) == SQLITE_ROW)
			if (fn != NULL)
				st = fn(user, &row);
	}
	if (st == RV_OK && rc != SQLITE_DONE)
		st = rv_db_fail(db, rc, table);
	sqlite3_reset(stmt);
	sqlite3_clear_bindings(stmt);
	if (own)
		sqlite3_finalize(stmt);
	return st;
}

rv_status rv_db_run(rv_db *db, const char *table, const char *sql, const rv_db_value *values,
                    size_t n) {
	return rv_db_query(db, table, sql, values, n, NULL, NULL);
}

typedef struct one_int {
	int64_t value;
	int found;
} one_int;

static rv_status take_int(void *user, const rv_db_row *row) {
	one_int *one = user;
	*one = (one_int){rv_row_int(row, 0), 1};
	return RV_OK;
}

rv_status rv_db_int(rv_db *db, const char *table, const char *sql, const rv_db_value *values, size_t n,
                    int64_t *out) {
	one_int one = {0, 0};
	RV_TRY(rv_db_query(db, table, sql, values, n, take_int, &one));
	if (!one.found)
		return rv_fail(RV_ERR_NOT_FOUND, "%s: table %s: no such row", db->path, table);
	*out = one.value;
	return RV_OK;
}

int64_t rv_db_last_key(const rv_db *db) {
	return sqlite3_last_insert_rowid(db->sqlite);
}

int64_t rv_db_changes(const rv_db *db) {
	return sqlite3_changes64(db->sqlite);
}

const char *rv_db_path(const rv_db *db) {
	return db->path;
}

int64_t rv_row_int(const rv_db_row *row, int column) {
	return sqlite3_column_int64(row->stmt, column);
}

double rv_row_real(const rv_db_row *row, int column) {
	return sqlite3_column_double(row->stmt, column);
}

int rv_row_is_null(const rv_db_row *row, int column) {
	return sqlite3_column_type(row->stmt, column) == SQLITE_NULL;
}

const char *rv_row_text(const rv_db_row *row, int column) {
	return (const char *)sqlite3_column_text(row->stmt, column);
}

const void *rv_row_blob(const rv_db_row *row, int column, size_t *size) {
	const void *data = sqlite3_column_blob(row->stmt, column);
	*size = data != NULL ? (size_t)sqlite3_column_bytes(row->stmt, column) : 0;
	return data;
}

rv_status rv_row_damaged(const rv_db_row *row, const char *why) {
	return rv_fail(RV_ERR_FORMAT, "%s: table %s, row %lld: damaged (%s)", row->db->path, row->table,
	               (long long)rv_row_int(row, 0), why);
}

rv_status rv_row_f32(const rv_db_row *row, int column, float *out, size_t n) {
	size_t size;
	const void *data = rv_row_blob(row, column, &size);
	if (size != n * sizeof *out)
		return rv_row_damaged(row, "an embedding of another length");
	if (size > 0)
		memcpy(out, data, size);
	for (size_t i = 0; i < n; i++)
		if (!isfinite(out[i]))
			return rv_row_damaged(row, "an embedding that is not finite");
	return RV_OK;
}

uint32_t rv_db_crc(uint32_t crc, const rv_db_value *values, size_t n) {
	for (size_t i = 0; i < n; i++) {
		const rv_db_value *v = &values[i];
		int null = v->kind >= RV_DB_TEXT && v->data == NULL;
		uint8_t kind = (uint8_t)(null ? RV_DB_NULL : v->kind);
		crc = rv_crc32(crc, &kind, 1);
		if (kind == RV_DB_INT)
			crc = rv_crc32(crc, &v->integer, sizeof v->integer);
		else if (kind == RV_DB_REAL)
			crc = rv_crc32(crc, &v->real, sizeof v->real);
		else if (kind != RV_DB_NULL) {
			uint64_t size = v->size;
			crc = rv_crc32(rv_crc32(crc, &size, sizeof size), v->data, v->size);
		}
	}
	return crc;
}

uint32_t rv_row_crc(uint32_t crc, const rv_db_row *row, int first_column, int n) {
	for (int c = first_column; c < first_column + n; c++) {
		rv_db_value v = {.kind = RV_DB_NULL};
		size_t size;
		switch (sqlite3_column_type(row->stmt, c)) {
		case SQLITE_INTEGER:
			v = RV_INT(rv_row_int(row, c));
			break;
		case SQLITE_FLOAT:
			v = RV_REAL(rv_row_real(row, c));
			break;
		case SQLITE_TEXT:
			v = RV_TEXT(rv_row_text(row, c));
			v.size = (size_t)sqlite3_column_bytes(row->stmt, c);
			break;
		case SQLITE_BLOB:
			v.data = rv_row_blob(row, c, &size);
			v = RV_BLOB(v.data ? v.data : "", size); /* empty is not NULL */
			break;
		default:
			break;
		}
		crc = rv_db_crc(crc, &v, 1);
	}
	return crc;
}
