/* Sessions: who talks, how far the conversation is, where its keys and values are.
 *
 * The store is the truth; all live sessions are in memory besides, so that looking one up touches no
 * disk. A put is acknowledged after its commit. A look-up counts as use: it makes the session the last
 * to go and notes the time; these times alone are written later (at the next flush or close), a kill
 * may lose them. A session goes when nobody used it for ttl_ms, or when it is the one unused for
 * longest and there are more than `capacity`. Its metadata is sealed as the store does it (store.h).
 *
 * Thread-safe between open and close. One index of sessions a store.
 */
#ifndef RV_MEMORY_SESSIONS_H
#define RV_MEMORY_SESSIONS_H

#include "memory/store.h"

#define RV_SESSION_MAX_ID 128             /* bytes of an id, an adapter's name */
#define RV_SESSION_MAX_METADATA (1 << 20) /* bytes */

/* X(enumerator, name) */
#define RV_KV_PLACE_TABLE(X)                                                                           \
	X(HOT, "hot")   /* in the context's cache; location: the sequence */                           \
	X(WARM, "warm") /* in the prefix cache */                                                      \
	X(COLD, "cold") /* in a file (kv_spill.h); location: its path */
typedef enum rv_session_tier {
#define RV_KV_PLACE_ENUM(name, text) RV_KV_##name,
	RV_KV_PLACE_TABLE(RV_KV_PLACE_ENUM)
#undef RV_KV_PLACE_ENUM
	        RV_KV_PLACE_COUNT
} rv_session_tier;
const char *rv_session_tier_name(rv_session_tier place);
rv_session_tier rv_session_tier_by_name(const char *name); /* ..._COUNT when unknown */

typedef struct rv_kv_cache_ref {
	rv_session_tier tier;
	const char *location; /* NULL: there is none, the other fields mean nothing */
	int64_t cached_tokens;
	const char *quantization; /* cache type or policy: "f16", "two-tier" */
	int64_t created_at;       /* UTC ms */
} rv_kv_cache_ref;

typedef struct rv_session {
	const char *session_id;
	const char *user_id;            /* NULL: none; else the store needs a key, or plaintext */
	const float *context_embedding; /* [RV_EMBEDDING_DIM]; NULL: none */
	rv_kv_cache_ref kv_cache_ref;
	const char *active_adapter; /* NULL: none */
	int64_t turn_count;
	int64_t last_active;  /* UTC ms; of a put: 0 is now */
	const char *metadata; /* a JSON object; NULL: none */
} rv_session;

typedef struct rv_sessions rv_sessions;

/* A session that expired or had to make room: release what it refers to. Called without any lock held,
 * on the thread that made it go; must not call the index. */
typedef void rv_session_gone_fn(void *user, const rv_session *session);

typedef struct rv_sessions_options {
	int64_t capacity;         /* 10 000 */
	int64_t ttl_ms;           /* on the store's clock; 0: never. 24 hours */
	rv_session_gone_fn *gone; /* may be NULL */
	void *user;
} rv_sessions_options;
rv_sessions_options rv_sessions_defaults(void);

/* Reads all sessions. RV_ERR_FORMAT names a damaged row; sealed metadata without its key is
 * RV_ERR_INVALID. options: NULL for defaults. The store must outlive the index. */
rv_status rv_sessions_open(rv_sessions **out, rv_store *store, const rv_sessions_options *options);
/* Writes the times of use; the index is gone either way. Accepts NULL. */
rv_status rv_sessions_close(rv_sessions *s);

/* Adds a session or replaces it whole; committed on return. */
rv_status rv_sessions_put(rv_sessions *s, const rv_session *session);
/* The same of n sessions in one commit, all or none; ids must differ. */
rv_status rv_sessions_put_all(rv_sessions *s, const rv_session *sessions, int64_t n);
/* A copy, one piece of memory that the caller rv_free's. RV_ERR_NOT_FOUND: none, or expired. */
rv_status rv_sessions_get(rv_sessions *s, const char *session_id, rv_session **out);
rv_status rv_sessions_remove(rv_sessions *s, const char *session_id);
/* Deletes what has expired; *n sessions (may be NULL). */
rv_status rv_sessions_expire(rv_sessions *s, int64_t *n);
/* Writes the times of use of those used since the last time. */
rv_status rv_sessions_flush(rv_sessions *s);
int64_t rv_sessions_count(rv_sessions *s);
size_t rv_sessions_bytes(rv_sessions *s); /* of memory */

/* Compares memory and store: RV_ERR_MISMATCH names the first that differs. No put may be under way. */
rv_status rv_sessions_verify(rv_sessions *s);

#endif
