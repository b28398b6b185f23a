/* The session index' insides, shared by sessions*.c. */
#ifndef RV_MEMORY_SESSIONS_INTERNAL_H
#define RV_MEMORY_SESSIONS_INTERNAL_H

#include "memory/id_map.h"
#include "memory/sessions.h"

#include <pthread.h>

typedef struct rv_session_slot {
	rv_session *session;  /* one piece of memory */
	int32_t older, newer; /* in order of use; -1: none */
	int is_dirty;         /* its time of use is not in the store */
} rv_session_slot;

struct rv_sessions {
	rv_store *store;
	rv_sessions_options options;
	pthread_mutex_t lock;
	rv_id_map ids; /* to slots */
	rv_session_slot *slots;
	int64_t n, cap, n_pending; /* pending: puts under way, for which there is room */
	int32_t *idle;             /* [cap]: slots not in use */
	int64_t n_idle;
	int32_t oldest, newest;
	size_t bytes; /* of sessions */
};

/* One piece of memory with all that `from` points to. */
rv_status rv_session_copy(const rv_session *from, rv_session **out);
size_t rv_session_bytes(const rv_session *session); /* of that piece */
rv_status rv_session_check(const rv_session *session);

/* Rows of the table. */
rv_status rv_session_write_row(const rv_store *store, rv_db *db, const rv_session *session);
/* Every row in order of its last use; the session is valid during the call. */
typedef rv_status rv_session_row_fn(void *user, const rv_session *session);
rv_status rv_session_read_rows(const rv_store *store, rv_db *db, rv_session_row_fn *fn, void *user);

#endif
