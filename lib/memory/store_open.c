/* Is this file a store, and a sound one? Nothing is changed before that is known. */
#include "base/mem.h"
#include "memory/store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* SQLite's file header: the magic, and at byte 68 the application's number, big-endian. */
#define MAGIC "SQLite format 3"
enum { HEADER = 100, AT_APPLICATION = 68 };

/* What can be told without SQLite. */
static rv_status check_file(const char *path, int read_only) {
	struct stat st;
	if (lstat(path, &st) != 0)
		return errno == ENOENT && !read_only
		               ? RV_OK
		               : rv_fail_errno(errno == ENOENT ? RV_ERR_NOT_FOUND : RV_ERR_IO,
		                               "%s: opening", path);
	if (!S_ISREG(st.st_mode))
		return rv_fail(RV_ERR_INVALID, "%s: %s, not a regular file", path,
		               S_ISLNK(st.st_mode)   ? "a link"
		               : S_ISDIR(st.st_mode) ? "a directory"
		                                     : "a device");
	if (!read_only && st.st_uid != geteuid())
		return rv_fail(RV_ERR_INVALID, "%s: belongs to another user", path);
	if (!read_only && access(path, W_OK) != 0)
		return rv_fail_errno(RV_ERR_IO, "%s: opening for writing", path);
	if (st.st_size == 0) /* as a kill leaves it before the first write */
		return RV_OK;
	uint8_t header[HEADER] = {0};
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return rv_fail_errno(RV_ERR_IO, "%s: opening", path);
	ssize_t n = pread(fd, header, sizeof header, 0);
	close(fd);
	if (n != HEADER || memcmp(header, MAGIC, sizeof MAGIC) != 0)
		return rv_fail(RV_ERR_FORMAT, "%s: no SQLite database", path);
	uint32_t id = 0;
	for (int i = 0; i < 4; i++)
		id = id << 8 | header[AT_APPLICATION + i];
	if (id != 0 && id != RV_STORE_APPLICATION_ID)
		return rv_fail(RV_ERR_FORMAT,
		               "%s: the database of another program (application_id 0x%08x)", path, id);
	return RV_OK;
}

/* Whose it is, as SQLite sees it: what was committed last may still be in the log. */
static rv_status check_owner(rv_db *db, int read_only) {
	int64_t id, version, n_tables;
	RV_TRY(rv_db_int(db, "(header)", "PRAGMA application_id", NULL, 0, &id));
	RV_TRY(rv_db_int(db, "(header)", "PRAGMA user_version", NULL, 0, &version));
	RV_TRY(rv_db_int(db, "sqlite_schema", "SELECT count(*) FROM sqlite_schema", NULL, 0,
	                 &n_tables));
	int is_new = id == 0 && version == 0 && n_tables == 0;
	if (id != RV_STORE_APPLICATION_ID && !is_new)
		return rv_fail(RV_ERR_FORMAT,
		               "%s: the database of another program (application_id 0x%08llx)",
		               db->path, (unsigned long long)id);
	if (version > rv_store_version())
		return rv_fail(RV_ERR_UNSUPPORTED,
		               "%s: version %lld; newer than %d, the newest known here", db->path,
		               (long long)version, rv_store_version());
	if (read_only && version < rv_store_version())
		return rv_fail(RV_ERR_UNSUPPORTED,
		               "%s: version %lld; open it for writing once to bring it to %d", db->path,
		               (long long)version, rv_store_version());
	return RV_OK;
}

static rv_status take_verdict(void *user, const rv_db_row *row) {
	char *verdict = user;
	const char *text = rv_row_text(row, 0);
	if (verdict[0] == 0)
		snprintf(verdict, 256, "%s", text ? text : "?");
	return RV_OK;
}

static rv_status check_integrity(rv_db *db) {
	char verdict[256] = "";
	RV_TRY(rv_db_query(db, "(whole file)", "PRAGMA quick_check(1)", NULL, 0, take_verdict,
	                   verdict));
	if (strcmp(verdict, "ok") != 0)
		return rv_fail(RV_ERR_FORMAT, "%s: damaged: %s", db->path, verdict);
	return RV_OK;
}

static rv_status prepare_db(const rv_store *store, rv_db *db) {
	int read_only = store->options.read_only;
	/* What is sorted or rolled back goes into no file that a kill would leave elsewhere. */
	RV_TRY(rv_db_exec(db, "(header)", "PRAGMA temp_store = MEMORY"));
	RV_TRY(check_owner(db, read_only));
	RV_TRY(check_integrity(db));
	if (read_only)
		return RV_OK;
	RV_TRY(rv_db_exec(db, "(header)",
	                  "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
	                  "PRAGMA foreign_keys = ON; PRAGMA journal_size_limit = 67108864"));
	return rv_store_migrate(db, &store->options.log);
}

/* A new database is its owner's alone; its log takes the same rights. */
static rv_status create_file(const char *path) {
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return rv_fail_errno(RV_ERR_IO, "%s: creating", path);
	close(fd);
	return RV_OK;
}

rv_status rv_store_open_db(const rv_store *store, rv_db **out) {
	int read_only = store->options.read_only;
	RV_TRY(check_file(store->path, read_only));
	if (!read_only)
		RV_TRY(create_file(store->path));
	rv_db *db = NULL;
	RV_TRY(rv_db_open(&db, store->path, read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE,
	                  store->options.busy_timeout_ms));
	rv_status st = prepare_db(store, db);
	if (st != RV_OK) {
		rv_db_close(db);
		return st;
	}
	*out = db;
	return RV_OK;
}
