#include "base/file.h"
#include "base/lock.h"
#include "base/mem.h"
#include "memory/store_internal.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

rv_store_options rv_store_defaults(void) {
	return (rv_store_options){.busy_timeout_ms = 5000, .queue_capacity = 10000};
}

static rv_status join(char **out, const char *dir, const char *name) {
	size_t size = strlen(dir) + strlen(name) + 2;
	RV_TRY(rv_alloc((void **)out, size, 1, "path"));
	snprintf(*out, size, "%s/%s", dir, name);
	return RV_OK;
}

static rv_status check_options(const rv_store_options *o) {
	if (o->busy_timeout_ms < 0 || o->queue_capacity < 1)
		return rv_fail(RV_ERR_INVALID,
		               "store: busy_timeout_ms %d, queue_capacity %lld: out of bounds",
		               o->busy_timeout_ms, (long long)o->queue_capacity);
	return RV_OK;
}

static rv_status take_lock(rv_store *store) {
	char *path = NULL;
	RV_TRY(rv_mkdirs(store->dir));
	RV_TRY(join(&path, store->dir, "memory.lock"));
	rv_status st = rv_lock_take(path, &store->lock_fd);
	rv_free(path);
	return st;
}

static rv_status note_key(void *user, rv_db *db) {
	const rv_store *store = user;
	return rv_store_meta_set(db, "key_id", rv_secret_id(store->secret));
}

/* A store's text is sealed with one key: that of its first opening with one. */
static rv_status check_key(rv_store *store, rv_db *db, int *is_first) {
	char id[RV_SECRET_ID_TEXT];
	*is_first = 0;
	if (store->secret == NULL)
		return RV_OK;
	rv_status st = rv_store_meta_get(db, "key_id", id, sizeof id);
	if (st == RV_ERR_NOT_FOUND) {
		*is_first = !store->options.read_only;
		return RV_OK;
	}
	RV_TRY(st);
	if (strcmp(id, rv_secret_id(store->secret)) != 0)
		return rv_fail(RV_ERR_MISMATCH, "%s: key %s does not open %s: its key is %s",
		               rv_secret_path(store->secret), rv_secret_id(store->secret), store->path,
		               id);
	return RV_OK;
}

static rv_status open_in(rv_store *store, const char *dir) {
	RV_TRY(rv_strdup(&store->dir, dir));
	RV_TRY(join(&store->path, dir, "memory.db"));
	if (store->options.key_file != NULL)
		RV_TRY(rv_secret_open(&store->secret, store->options.key_file));
	if (store->options.seeded)
		rv_rng_seed(&store->rng, store->options.seed);
	else
		RV_TRY(rv_uuid_entropy(&store->rng));
	if (!store->options.read_only)
		RV_TRY(take_lock(store));
	rv_db *db = NULL;
	int is_first;
	RV_TRY(rv_store_open_db(store, &db));
	rv_status st = check_key(store, db, &is_first);
	if (store->options.read_only || st != RV_OK) {
		rv_db_close(db);
		return st;
	}
	store->writer.db = db;
	RV_TRY(rv_store_writer_start(&store->writer, db, store->options.queue_capacity));
	return is_first ? rv_store_write(store, note_key, NULL, store) : RV_OK;
}

static void destroy(rv_store *store) {
	rv_store_writer_stop(&store->writer);
	for (rv_db *db = store->idle, *next; db != NULL; db = next) {
		next = db->next;
		rv_db_close(db);
	}
	rv_db_close(store->writer.db); /* the last: leaves no log behind */
	rv_lock_release(store->lock_fd);
	rv_secret_close(store->secret);
	pthread_mutex_destroy(&store->lock);
	rv_free(store->dir);
	rv_free(store->path);
	rv_free(store);
}

rv_status rv_store_open(rv_store **out, const char *dir, const rv_store_options *options) {
	rv_store_options o = options ? *options : rv_store_defaults();
	RV_TRY(check_options(&o));
	rv_store *store = NULL;
	RV_TRY(RV_ALLOC(&store, 1, "store"));
	store->options = o;
	store->lock_fd = -1;
	pthread_mutex_init(&store->lock, NULL);
	rv_status st = open_in(store, dir);
	if (st != RV_OK) {
		destroy(store);
		return st;
	}
	store->options.key_file = NULL; /* the caller's */
	*out = store;
	return RV_OK;
}

rv_status rv_store_close(rv_store *store) {
	if (store == NULL)
		return RV_OK;
	rv_status st = store->options.read_only ? RV_OK : rv_store_flush(store);
	destroy(store);
	return st;
}

const char *rv_store_dir(const rv_store *store) {
	return store->dir;
}

const char *rv_store_path(const rv_store *store) {
	return store->path;
}

int rv_store_is_read_only(const rv_store *store) {
	return store->options.read_only;
}

int64_t rv_store_now_ms(const rv_store *store) {
	return rv_clock_now_ms(&store->options.clock);
}

const rv_log *rv_store_log(const rv_store *store) {
	return &store->options.log;
}

void rv_store_uuid(rv_store *store, char out[RV_UUID_TEXT]) {
	pthread_mutex_lock(&store->lock);
	rv_uuid_v4(&store->rng, out);
	pthread_mutex_unlock(&store->lock);
}

/* ---- reading ---- */

static rv_status take_reader(rv_store *store, rv_db **out) {
	pthread_mutex_lock(&store->lock);
	rv_db *db = store->idle;
	if (db != NULL)
		store->idle = db->next;
	pthread_mutex_unlock(&store->lock);
	if (db == NULL)
		RV_TRY(rv_db_open(&db, store->path, SQLITE_OPEN_READONLY,
		                  store->options.busy_timeout_ms));
	*out = db;
	return RV_OK;
}

static void give_back(rv_store *store, rv_db *db) {
	pthread_mutex_lock(&store->lock);
	db->next = store->idle;
	store->idle = db;
	pthread_mutex_unlock(&store->lock);
}

rv_status rv_store_read(rv_store *store, rv_store_read_fn *read, void *user) {
	rv_db *db = NULL;
	RV_TRY(take_reader(store, &db));
	rv_status st = rv_db_run(db, "(transaction)", "BEGIN", NULL, 0);
	if (st == RV_OK)
		st = read(user, db);
	if (!sqlite3_get_autocommit(db->sqlite))
		sqlite3_exec(db->sqlite, "ROLLBACK", NULL, NULL, NULL); /* nothing was written */
	give_back(store, db);
	return st;
}

/* ---- small values ---- */

rv_status rv_store_meta_set(rv_db *db, const char *name, const char *value) {
	return RV_DB_RUN(db, "meta", "INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)",
	                 RV_TEXT(name), RV_TEXT(value));
}

typedef struct meta_value {
	char *out;
	size_t cap;
	int found;
} meta_value;

static rv_status take_meta(void *user, const rv_db_row *row) {
	meta_value *m = user;
	const char *text = rv_row_text(row, 0);
	m->found = text != NULL && strlen(text) < m->cap;
	if (m->found)
		memcpy(m->out, text, strlen(text) + 1);
	return RV_OK;
}

rv_status rv_store_meta_get(rv_db *db, const char *name, char *out, size_t cap) {
	meta_value m = {out, cap, 0};
	RV_TRY(RV_DB_QUERY(db, "meta", take_meta, &m, "SELECT value FROM meta WHERE name = ?1",
	                   RV_TEXT(name)));
	if (!m.found)
		return rv_fail(RV_ERR_NOT_FOUND, "%s: table meta: no '%s'", rv_db_path(db), name);
	return RV_OK;
}

/* ---- sealed text ---- */

enum { FORM_PLAIN, FORM_SEALED };

static rv_status context_of(const char *table, const char *id, char **out) {
	return join(out, table, id);
}

rv_status rv_store_seal(const rv_store *store, const char *user_id, const char *table, const char *id,
                        const char *text, size_t len, uint8_t **out, size_t *size) {
	if (store->secret == NULL && user_id != NULL && !store->options.plaintext)
		return rv_fail(RV_ERR_INVALID,
		               "%s: table %s, '%s': an entry of a user needs a key file, or plaintext "
		               "asked for",
		               store->path, table, id);
	size_t n = len + (store->secret ? RV_SECRET_OVERHEAD : 1);
	uint8_t *data = NULL;
	char *context = NULL;
	RV_TRY(rv_alloc_uninit((void **)&data, n, 1, "sealed text"));
	if (store->secret == NULL) {
		data[0] = FORM_PLAIN;
		if (len > 0)
			memcpy(data + 1, text, len);
	} else {
		rv_status st = context_of(table, id, &context);
		if (st != RV_OK) {
			rv_free(data);
			return st;
		}
		rv_secret_seal(store->secret, context, text, len, data);
		rv_free(context);
	}
	*out = data;
	*size = n;
	return RV_OK;
}

static rv_status unseal_into(const rv_store *store, const char *table, const char *id,
                             const uint8_t *data, size_t size, char *text) {
	if (data[0] == FORM_PLAIN) {
		memcpy(text, data + 1, size - 1);
		return RV_OK;
	}
	if (store->secret == NULL)
		return rv_fail(RV_ERR_INVALID, "%s: table %s, '%s': encrypted; a key file is needed",
		               store->path, table, id);
	char *context = NULL;
	RV_TRY(context_of(table, id, &context));
	rv_status st = rv_secret_unseal(store->secret, context, data, size, text);
	rv_free(context);
	return st;
}

rv_status rv_store_unseal(const rv_store *store, const char *table, const char *id, const void *data,
                          size_t size, char **text, size_t *len) {
	const uint8_t *bytes = data;
	int sealed = size >= RV_SECRET_OVERHEAD && bytes[0] == FORM_SEALED;
	if (!sealed && (size < 1 || bytes[0] != FORM_PLAIN))
		return rv_fail(RV_ERR_FORMAT, "%s: table %s, '%s': damaged text", store->path, table,
		               id);
	size_t n = size - (sealed ? RV_SECRET_OVERHEAD : 1);
	char *out = NULL;
	RV_TRY(rv_alloc((void **)&out, n + 1, 1, "text"));
	rv_status st = unseal_into(store, table, id, bytes, size, out);
	if (st != RV_OK) {
		rv_free(out);
		return st;
	}
	*text = out;
	*len = n;
	return RV_OK;
}

/* ---- figures ---- */

static int64_t file_bytes(const char *path, const char *suffix) {
	struct stat st;
	char name[4096];
	int n = snprintf(name, sizeof name, "%s%s", path, suffix);
	return n > 0 && (size_t)n < sizeof name && stat(name, &st) == 0 ? st.st_size : 0;
}

rv_status rv_store_stats_get(rv_store *store, rv_store_stats *out) {
	*out = (rv_store_stats){.bytes = file_bytes(store->path, "") + file_bytes(store->path, "-wal")};
	if (store->options.read_only)
		return RV_OK;
	rv_store_writer *w = &store->writer;
	pthread_mutex_lock(&w->lock);
	out->writes = w->n_writes;
	out->commits = w->n_commits;
	out->failed = w->n_failed;
	out->queued = w->n_queued;
	out->max_queued = w->max_queued;
	pthread_mutex_unlock(&w->lock);
	return RV_OK;
}
