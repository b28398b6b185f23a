#include "memory/sessions.h"

#include "base/mem.h"
#include "memory/sessions_internal.h"

#include <string.h>

#define TABLE "sessions"

rv_sessions_options rv_sessions_defaults(void) {
	return (rv_sessions_options){.capacity = 10000, .ttl_ms = 86400000};
}

/* ---- the list by use; under the lock ---- */

static void unlink_slot(rv_sessions *s, int32_t i) {
	rv_session_slot *slot = &s->slots[i];
	*(slot->older >= 0 ? &s->slots[slot->older].newer : &s->oldest) = slot->newer;
	*(slot->newer >= 0 ? &s->slots[slot->newer].older : &s->newest) = slot->older;
}

static void link_newest(rv_sessions *s, int32_t i) {
	rv_session_slot *slot = &s->slots[i];
	slot->older = s->newest;
	slot->newer = -1;
	*(s->newest >= 0 ? &s->slots[s->newest].newer : &s->oldest) = i;
	s->newest = i;
}

/* Room for n more, which later installs then take for granted. */
static rv_status reserve(rv_sessions *s, int64_t n) {
	int64_t wanted = s->n + s->n_pending + n;
	if (wanted > INT32_MAX / 2)
		return rv_fail(RV_ERR_LIMIT, "%lld sessions", (long long)wanted);
	RV_TRY(rv_id_map_reserve(&s->ids, (size_t)wanted));
	if (wanted > s->cap) {
		int64_t cap = wanted > 2 * s->cap ? wanted : 2 * s->cap;
		/* the slots last: cap holds for both or for the smaller */
		RV_TRY(RV_GROW(&s->idle, s->cap, cap, "sessions"));
		RV_TRY(RV_GROW(&s->slots, s->cap, cap, "sessions"));
		for (int64_t i = cap; i-- > s->cap;)
			s->idle[s->n_idle++] = (int32_t)i;
		s->cap = cap;
	}
	s->n_pending += n;
	return RV_OK;
}

/* Takes `session` over as the newest; the one of that id before is freed. */
static void install(rv_sessions *s, rv_session *session) {
	int32_t i = rv_id_map_remove(&s->ids, session->session_id);
	if (i >= 0) {
		unlink_slot(s, i);
		s->bytes -= rv_session_bytes(s->slots[i].session);
		rv_free(s->slots[i].session);
	} else {
		i = s->idle[--s->n_idle];
		s->n++;
	}
	s->slots[i] = (rv_session_slot){.session = session};
	s->bytes += rv_session_bytes(session);
	rv_id_map_put(&s->ids, session->session_id, i);
	link_newest(s, i);
}

/* Out of memory; the session is the caller's. */
static rv_session *take_out(rv_sessions *s, int32_t i) {
	rv_session *session = s->slots[i].session;
	rv_id_map_remove(&s->ids, session->session_id);
	unlink_slot(s, i);
	s->slots[i] = (rv_session_slot){0};
	s->idle[s->n_idle++] = i;
	s->n--;
	s->bytes -= rv_session_bytes(session);
	return session;
}

/* ---- those whose rows change ---- */

typedef struct chosen_session {
	char session_id[RV_SESSION_MAX_ID + 1];
	int64_t last_active;
	int is_done;         /* its row was changed */
	rv_session *session; /* of a deleted row: out of memory */
} chosen_session;

typedef struct chosen {
	rv_sessions *s;
	chosen_session *items;
	int64_t n;
} chosen;

typedef int choose_fn(const rv_sessions *s, const rv_session_slot *slot, int64_t n_before, int64_t now);

/* Those that are wanted, oldest first. */
static rv_status choose(rv_sessions *s, choose_fn *wanted, chosen *out) {
	int64_t now = rv_store_now_ms(s->store), n = 0, before = 0;
	rv_status st = RV_OK;
	pthread_mutex_lock(&s->lock);
	for (int32_t i = s->oldest; i >= 0; i = s->slots[i].newer)
		n += wanted(s, &s->slots[i], before++, now);
	if (n > 0)
		st = RV_ALLOC(&out->items, n, "sessions");
	before = 0;
	for (int32_t i = s->oldest; i >= 0 && out->n < n && st == RV_OK; i = s->slots[i].newer)
		if (wanted(s, &s->slots[i], before++, now)) {
			chosen_session *c = &out->items[out->n++];
			c->last_active = s->slots[i].session->last_active;
			strcpy(c->session_id, s->slots[i].session->session_id);
		}
	pthread_mutex_unlock(&s->lock);
	return st;
}

/* ---- going ---- */

static int is_expired(const rv_sessions *s, const rv_session *session, int64_t now) {
	return s->options.ttl_ms > 0 && now - session->last_active > s->options.ttl_ms;
}

static int has_to_go(const rv_sessions *s, const rv_session_slot *slot, int64_t n_before, int64_t now) {
	return is_expired(s, slot->session, now) || s->n - n_before > s->options.capacity;
}

static rv_status delete_rows(void *user, rv_db *db) {
	const chosen *c = user;
	for (int64_t i = 0; i < c->n; i++) {
		/* a put since then is newer, and stays */
		RV_TRY(RV_DB_RUN(db, TABLE,
		                 "DELETE FROM sessions WHERE session_id = ?1 AND last_active <= ?2",
		                 RV_TEXT(c->items[i].session_id), RV_INT(c->items[i].last_active)));
		c->items[i].is_done = rv_db_changes(db) > 0;
	}
	return RV_OK;
}

/* In the order of the commits: memory follows what the rows are. */
static void delete_done(void *user, rv_status status) {
	chosen *c = user;
	pthread_mutex_lock(&c->s->lock);
	for (int64_t i = 0; i < c->n && status == RV_OK; i++) {
		int32_t at =
		        c->items[i].is_done ? rv_id_map_get(&c->s->ids, c->items[i].session_id) : -1;
		if (at >= 0)
			c->items[i].session = take_out(c->s, at);
	}
	pthread_mutex_unlock(&c->s->lock);
}

rv_status rv_sessions_expire(rv_sessions *s, int64_t *n) {
	chosen c = {.s = s};
	int64_t n_gone = 0;
	rv_status st = choose(s, has_to_go, &c);
	if (st == RV_OK && c.n > 0)
		st = rv_store_write(s->store, delete_rows, delete_done, &c);
	for (int64_t i = 0; i < c.n; i++) {
		rv_session *session = c.items[i].session;
		if (session == NULL)
			continue;
		n_gone++;
		if (s->options.gone != NULL)
			s->options.gone(s->options.user, session);
		rv_free(session);
	}
	rv_free(c.items);
	if (n != NULL)
		*n = n_gone;
	return st;
}

/* ---- putting ---- */

typedef struct putting {
	rv_sessions *s;
	rv_session **sessions; /* [n] */
	int64_t n;
} putting;

static rv_status write_sessions(void *user, rv_db *db) {
	const putting *p = user;
	for (int64_t i = 0; i < p->n; i++)
		RV_TRY(rv_session_write_row(p->s->store, db, p->sessions[i]));
	return RV_OK;
}

/* In the order of the commits, as the store has them. */
static void put_done(void *user, rv_status status) {
	putting *p = user;
	pthread_mutex_lock(&p->s->lock);
	p->s->n_pending -= p->n;
	for (int64_t i = 0; i < p->n && status == RV_OK; i++) {
		install(p->s, p->sessions[i]);
		p->sessions[i] = NULL;
	}
	pthread_mutex_unlock(&p->s->lock);
}

static rv_status copy_all(putting *p, const rv_session *sessions, int64_t n) {
	int64_t now = rv_store_now_ms(p->s->store);
	RV_TRY(RV_ALLOC(&p->sessions, n, "sessions"));
	for (; p->n < n; p->n++) {
		RV_TRY(rv_session_check(&sessions[p->n]));
		RV_TRY(rv_session_copy(&sessions[p->n], &p->sessions[p->n]));
		if (sessions[p->n].last_active == 0)
			p->sessions[p->n]->last_active = now;
	}
	pthread_mutex_lock(&p->s->lock);
	rv_status st = reserve(p->s, n);
	pthread_mutex_unlock(&p->s->lock);
	return st;
}

rv_status rv_sessions_put_all(rv_sessions *s, const rv_session *sessions, int64_t n) {
	if (rv_store_is_read_only(s->store)) /* refused before put_done would be owed */
		return rv_fail(RV_ERR_INVALID, "%s: the store is open for reading only",
		               rv_store_path(s->store));
	putting p = {.s = s};
	rv_status st = copy_all(&p, sessions, n);
	if (st == RV_OK)
		st = rv_store_write(s->store, write_sessions, put_done, &p);
	for (int64_t i = 0; i < p.n; i++)
		rv_free(p.sessions[i]); /* those that were not installed */
	rv_free(p.sessions);
	RV_TRY(st);
	pthread_mutex_lock(&s->lock);
	int too_many = s->n > s->options.capacity;
	pthread_mutex_unlock(&s->lock);
	/* the put stands whatever comes of this; the next one tries again */
	if (too_many && rv_sessions_expire(s, NULL) != RV_OK)
		rv_logf(rv_store_log(s->store), RV_LOG_WARN, "sessions: making room: %s",
		        rv_error_message());
	return RV_OK;
}

rv_status rv_sessions_put(rv_sessions *s, const rv_session *session) {
	return rv_sessions_put_all(s, session, 1);
}

typedef struct removing {
	rv_sessions *s;
	const char *id;
	int was_there;
} removing;

static rv_status write_removal(void *user, rv_db *db) {
	removing *r = user;
	return RV_DB_RUN(db, TABLE, "DELETE FROM sessions WHERE session_id = ?1", RV_TEXT(r->id));
}

static void remove_done(void *user, rv_status status) {
	removing *r = user;
	pthread_mutex_lock(&r->s->lock);
	int32_t i = status == RV_OK ? rv_id_map_get(&r->s->ids, r->id) : -1;
	rv_session *session = i >= 0 ? take_out(r->s, i) : NULL;
	pthread_mutex_unlock(&r->s->lock);
	r->was_there = session != NULL;
	rv_free(session);
}

rv_status rv_sessions_remove(rv_sessions *s, const char *session_id) {
	removing r = {.s = s, .id = session_id};
	RV_TRY(rv_store_write(s->store, write_removal, remove_done, &r));
	return r.was_there ? RV_OK
	                   : rv_fail(RV_ERR_NOT_FOUND, "%s: no session '%s'", rv_store_path(s->store),
	                             session_id);
}

/* ---- looking up ---- */

rv_status rv_sessions_get(rv_sessions *s, const char *session_id, rv_session **out) {
	int64_t now = rv_store_now_ms(s->store);
	rv_status st = RV_ERR_NOT_FOUND;
	pthread_mutex_lock(&s->lock);
	int32_t i = rv_id_map_get(&s->ids, session_id);
	rv_session_slot *slot = i >= 0 ? &s->slots[i] : NULL;
	if (slot != NULL && !is_expired(s, slot->session, now)) {
		if (now > slot->session->last_active) {
			slot->session->last_active = now;
			slot->is_dirty = 1;
		}
		unlink_slot(s, i);
		link_newest(s, i);
		st = rv_session_copy(slot->session, out);
	}
	pthread_mutex_unlock(&s->lock);
	return st != RV_ERR_NOT_FOUND
	               ? st
	               : rv_fail(st, "%s: no session '%s'", rv_store_path(s->store), session_id);
}

int64_t rv_sessions_count(rv_sessions *s) {
	pthread_mutex_lock(&s->lock);
	int64_t n = s->n;
	pthread_mutex_unlock(&s->lock);
	return n;
}

size_t rv_sessions_bytes(rv_sessions *s) {
	pthread_mutex_lock(&s->lock);
	size_t bytes = s->bytes + (size_t)s->cap * (sizeof *s->slots + sizeof *s->idle) +
	               (s->ids.cells ? (s->ids.mask + 1) * sizeof *s->ids.cells : 0);
	pthread_mutex_unlock(&s->lock);
	return bytes;
}

/* ---- times of use ---- */

static int is_dirty(const rv_sessions *s, const rv_session_slot *slot, int64_t n_before, int64_t now) {
	(void)s;
	(void)n_before;
	(void)now;
	return slot->is_dirty;
}

static rv_status write_times(void *user, rv_db *db) {
	const chosen *c = user;
	for (int64_t i = 0; i < c->n; i++) {
		RV_TRY(RV_DB_RUN(db, TABLE,
		                 "UPDATE sessions SET last_active = ?2"
		                 " WHERE session_id = ?1 AND last_active < ?2",
		                 RV_TEXT(c->items[i].session_id), RV_INT(c->items[i].last_active)));
		c->items[i].is_done = rv_db_changes(db) > 0;
	}
	return RV_OK;
}

static void times_done(void *user, rv_status status) {
	const chosen *c = user;
	if (status != RV_OK)
		return; /* they stay to be written */
	pthread_mutex_lock(&c->s->lock);
	for (int64_t i = 0; i < c->n; i++) {
		int32_t at = rv_id_map_get(&c->s->ids, c->items[i].session_id);
		int64_t written = c->items[i].last_active;
		rv_session_slot *slot = at >= 0 ? &c->s->slots[at] : NULL;
		if (slot == NULL)
			continue;
		/* a put since then may have brought an older time: memory is never behind its row */
		if (c->items[i].is_done && slot->session->last_active < written)
			slot->session->last_active = written;
		if (slot->session->last_active == written)
			slot->is_dirty = 0;
	}
	pthread_mutex_unlock(&c->s->lock);
}

rv_status rv_sessions_flush(rv_sessions *s) {
	chosen c = {.s = s};
	rv_status st = rv_store_is_read_only(s->store) ? RV_OK : choose(s, is_dirty, &c);
	if (st == RV_OK && c.n > 0)
		st = rv_store_write(s->store, write_times, times_done, &c);
	rv_free(c.items);
	return st;
}

/* ---- open, close, verify ---- */

static rv_status load_one(void *user, const rv_session *session) {
	rv_sessions *s = user;
	rv_session *copy = NULL;
	RV_TRY(reserve(s, 1));
	s->n_pending--;
	RV_TRY(rv_session_copy(session, &copy));
	install(s, copy);
	return RV_OK;
}

static rv_status load(void *user, rv_db *db) {
	rv_sessions *s = user;
	return rv_session_read_rows(s->store, db, load_one, s);
}

static void destroy(rv_sessions *s) {
	for (int32_t i = s->oldest; i >= 0; i = s->slots[i].newer)
		rv_free(s->slots[i].session);
	rv_id_map_deinit(&s->ids);
	rv_free(s->slots);
	rv_free(s->idle);
	pthread_mutex_destroy(&s->lock);
	rv_free(s);
}

rv_status rv_sessions_open(rv_sessions **out, rv_store *store, const rv_sessions_options *options) {
	rv_sessions_options o = options ? *options : rv_sessions_defaults();
	if (o.capacity < 1 || o.ttl_ms < 0)
		return rv_fail(RV_ERR_INVALID, "sessions: capacity %lld, ttl_ms %lld",
		               (long long)o.capacity, (long long)o.ttl_ms);
	rv_sessions *s = NULL;
	RV_TRY(RV_ALLOC(&s, 1, "sessions"));
	*s = (rv_sessions){.store = store, .options = o, .oldest = -1, .newest = -1};
	pthread_mutex_init(&s->lock, NULL);
	rv_status st = rv_store_read(store, load, s);
	if (st == RV_OK && !rv_store_is_read_only(store))
		st = rv_sessions_expire(s, NULL);
	if (st != RV_OK) {
		destroy(s);
		return st;
	}
	*out = s;
	return RV_OK;
}

rv_status rv_sessions_close(rv_sessions *s) {
	if (s == NULL)
		return RV_OK;
	rv_status st = rv_sessions_flush(s);
	destroy(s);
	return st;
}

typedef struct comparing {
	rv_sessions *s;
	int64_t n;
} comparing;

static int same_text(const char *a, const char *b) {
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static int same_session(const rv_session *a, const rv_session *b) {
	const rv_kv_cache_ref *x = &a->kv_cache_ref, *y = &b->kv_cache_ref;
	const float *e = a->context_embedding, *f = b->context_embedding;
	return same_text(a->user_id, b->user_id) && same_text(x->location, y->location) &&
	       (x->location == NULL ||
	        (x->tier == y->tier && x->cached_tokens == y->cached_tokens &&
	         same_text(x->quantization, y->quantization) && x->created_at == y->created_at)) &&
	       same_text(a->active_adapter, b->active_adapter) && a->turn_count == b->turn_count &&
	       same_text(a->metadata, b->metadata) &&
	       (e == NULL || f == NULL ? e == f : memcmp(e, f, RV_EMBEDDING_DIM * sizeof *e) == 0);
}

static rv_status compare_one(void *user, const rv_session *session) {
	comparing *c = user;
	pthread_mutex_lock(&c->s->lock);
	int32_t i = rv_id_map_get(&c->s->ids, session->session_id);
	const rv_session_slot *slot = i >= 0 ? &c->s->slots[i] : NULL;
	int same = slot != NULL && same_session(slot->session, session) &&
	           (slot->is_dirty || slot->session->last_active == session->last_active);
	pthread_mutex_unlock(&c->s->lock);
	c->n++;
	return same ? RV_OK
	            : rv_fail(RV_ERR_MISMATCH, "%s: session '%s' is %s", rv_store_path(c->s->store),
	                      session->session_id, slot ? "another in memory" : "in the store alone");
}

static rv_status compare_all(void *user, rv_db *db) {
	comparing *c = user;
	return rv_session_read_rows(c->s->store, db, compare_one, c);
}

rv_status rv_sessions_verify(rv_sessions *s) {
	comparing c = {.s = s};
	RV_TRY(rv_store_read(s->store, compare_all, &c));
	int64_t n = rv_sessions_count(s);
	return c.n == n ? RV_OK
	                : rv_fail(RV_ERR_MISMATCH, "%s: %lld sessions in the store, %lld in memory",
	                          rv_store_path(s->store), (long long)c.n, (long long)n);
}
