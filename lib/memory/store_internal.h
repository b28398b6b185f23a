/* The store's insides, shared by store*.c. */
#ifndef RV_MEMORY_STORE_INTERNAL_H
#define RV_MEMORY_STORE_INTERNAL_H

#include "memory/store.h"

#include <pthread.h>
#include <sqlite3.h>

/* ---- connections: db.c ---- */

typedef struct rv_db_statement {
	const char *sql; /* told apart by address: literals */
	sqlite3_stmt *stmt;
} rv_db_statement;

struct rv_db {
	sqlite3 *sqlite;
	char *path;
	rv_db_statement *statements;
	size_t n_statements, cap;
	rv_db *next; /* in the list of idle readers */
};

/* `flags`: SQLITE_OPEN_*. */
rv_status rv_db_open(rv_db **out, const char *path, int flags, int busy_timeout_ms);
void rv_db_close(rv_db *db); /* accepts NULL */
/* Statements that are run once: pragmas, migrations, BEGIN ... */
rv_status rv_db_exec(rv_db *db, const char *table, const char *sql);
/* The failure `rc` of the connection's last call, as a status with a message. */
rv_status rv_db_fail(rv_db *db, int rc, const char *table);

/* ---- opening: store_open.c, store_schema.c ---- */

/* Opens the writer's connection: checks, migrates. *db is NULL on failure. A read-only one is checked
 * the same, and an older version is refused. */
rv_status rv_store_open_db(const rv_store *store, rv_db **db);
rv_status rv_store_migrate(rv_db *db, const rv_log *log);

/* ---- the writer thread: store_writer.c ---- */

typedef struct rv_store_job {
	rv_store_write_fn *write;
	rv_store_done_fn *done;
	void *user;
	rv_status status;
	char *message;        /* of a failure (rv_free'd), or NULL */
	int posted, finished; /* posted: the queue owns it */
	struct rv_store_job *next;
} rv_store_job;

typedef struct rv_store_writer {
	rv_db *db;
	pthread_t thread;
	int running;
	pthread_mutex_t lock;
	pthread_cond_t work, room, finished; /* for the writer; for the others */
	rv_store_job *head, *tail;
	int64_t n_queued, capacity, max_queued;
	int stopping;
	int64_t n_writes, n_commits, n_failed;
	rv_status posted_status; /* first failure of a posted write since the last flush */
	char posted_message[RV_ERROR_MESSAGE_MAX];
} rv_store_writer;

rv_status rv_store_writer_start(rv_store_writer *writer, rv_db *db, int64_t capacity);
void rv_store_writer_stop(rv_store_writer *writer); /* commits what is queued */

struct rv_store {
	char *dir, *path, *key_file;
	rv_store_options options;
	int lock_fd; /* -1: read-only */
	rv_secret *secret;
	rv_store_writer writer;
	pthread_mutex_t lock; /* idle readers, ids */
	rv_db *idle;
	rv_rng rng;
};

#endif
