/* The durable store: one SQLite database in a folder, written by one thread.
 *
 * DIR/memory.db is the truth (WAL, synchronous FULL; tables in store_schema.c); indexes beside it are
 * caches that are verified against it and rebuilt when they differ. One process writes at a time
 * (DIR/memory.lock, RV_ERR_LIMIT names the holder); read-only stores need no lock and see the last
 * committed state.
 *
 * All writes of the process go through a bounded queue to the writer thread, which groups what waits
 * into one transaction. A write is acknowledged after the commit: a kill at any moment loses nothing
 * acknowledged. Reads run on connections of their own, each inside a snapshot, beside the writer.
 *
 * At open: what is no database, another program's database, one of a newer version and one that fails
 * SQLite's quick_check are refused by name and left as they are; an older one is migrated. A store has
 * one key or none: another key file is refused. Thread-safe between open and close.
 */
#ifndef RV_MEMORY_STORE_H
#define RV_MEMORY_STORE_H

#include "base/clock.h"
#include "base/log.h"
#include "base/uuid.h"
#include "memory/db.h"
#include "memory/secret.h"

#define RV_EMBEDDING_DIM 768               /* of every stored embedding */
#define RV_STORE_APPLICATION_ID 0x52765453 /* "RvTS" in the database's header */

typedef struct rv_store rv_store;

typedef struct rv_store_options {
	const char *key_file;   /* encrypts text of sessions and witness entries; NULL: none */
	int plaintext;          /* entries of a user are stored in plain text when there is no key */
	int read_only;          /* the store must exist; writes are refused */
	int busy_timeout_ms;    /* how long another process' lock is waited for: 5000 */
	int64_t queue_capacity; /* writes that wait: 10 000 */
	rv_clock clock;         /* zeroed: the system's */
	int seeded; /* ids from `seed` (experiments: the same again at each open); else from the
	             * system's entropy */
	uint64_t seed;
	rv_log log;
} rv_store_options;

rv_store_options rv_store_defaults(void);

rv_status rv_store_open(rv_store **out, const char *dir, const rv_store_options *options);
/* Commits what is queued, then closes. RV_ERR_* of a queued write that failed; the store is gone
 * either way. Accepts NULL. */
rv_status rv_store_close(rv_store *store);

const char *rv_store_dir(const rv_store *store);
const char *rv_store_path(const rv_store *store); /* of the database */
int rv_store_is_read_only(const rv_store *store);
int rv_store_version(void); /* of the schema this code writes */
int64_t rv_store_now_ms(const rv_store *store);
void rv_store_uuid(rv_store *store, char out[RV_UUID_TEXT]);
const rv_log *rv_store_log(const rv_store *store);

/* Runs on the writer thread, inside a transaction shared with other writes; a failure undoes this write
 * alone. It must not call rv_store_write, _flush or _close. */
typedef rv_status rv_store_write_fn(void *user, rv_db *db);
/* Called once on the writer thread, in the order of the commits: RV_OK after the commit is durable,
 * otherwise rv_error_message() says why nothing of this write was stored. */
typedef void rv_store_done_fn(void *user, rv_status status);

/* Queues a write and waits for its commit. `done` (may be NULL) runs before this returns. Waits while
 * the queue is full. */
rv_status rv_store_write(rv_store *store, rv_store_write_fn *write, rv_store_done_fn *done, void *user);
/* Queues a write and returns at once; RV_ERR_LIMIT when the queue is full (then nothing is called).
 * `user` must live until `done` was called. */
rv_status rv_store_post(rv_store *store, rv_store_write_fn *write, rv_store_done_fn *done, void *user);
/* The barrier: waits until everything queued before is committed. The first failure of a posted write
 * since the last flush. */
rv_status rv_store_flush(rv_store *store);

/* Runs a read on a connection of its own, inside one snapshot. */
typedef rv_status rv_store_read_fn(void *user, rv_db *db);
rv_status rv_store_read(rv_store *store, rv_store_read_fn *read, void *user);

/* Small values by name in the table meta. Reading a missing one is RV_ERR_NOT_FOUND. */
rv_status rv_store_meta_set(rv_db *db, const char *name, const char *value);
rv_status rv_store_meta_get(rv_db *db, const char *name, char *out, size_t cap);

/* Text of a session or witness entry as it is stored: sealed with the store's key when there is one,
 * else plain. Without a key an entry of a user (user_id not NULL) is RV_ERR_INVALID unless the store is
 * open with plaintext. `table` and `id` are bound into the seal: sealed text moved to another row does
 * not open. *out is rv_free'd by the caller. */
rv_status rv_store_seal(const rv_store *store, const char *user_id, const char *table, const char *id,
                        const char *text, size_t len, uint8_t **out, size_t *size);
/* Back to text (NUL added, rv_free'd by the caller). No key: RV_ERR_INVALID; a wrong one or damage:
 * RV_ERR_MISMATCH or RV_ERR_FORMAT, naming table and id. */
rv_status rv_store_unseal(const rv_store *store, const char *table, const char *id, const void *data,
                          size_t size, char **text, size_t *len);

typedef struct rv_store_stats {
	int64_t writes, commits, failed; /* commits <= writes: what was grouped */
	int64_t queued, max_queued;
	int64_t bytes; /* of the database and its log */
} rv_store_stats;
rv_status rv_store_stats_get(rv_store *store, rv_store_stats *out);

#endif
