/* A session as a row of its table, and as one piece of memory. */
#include "base/json.h"
#include "base/mem.h"
#include "memory/sessions_internal.h"

#include <math.h>
#include <string.h>

#define TABLE "sessions"

#define RV_NAME(name, text) text,
static const char *const places[] = {RV_KV_PLACE_TABLE(RV_NAME)};
#undef RV_NAME

const char *rv_session_tier_name(rv_session_tier place) {
	return places[place];
}

rv_session_tier rv_session_tier_by_name(const char *name) {
	int i = 0;
	while (i < RV_KV_PLACE_COUNT && (name == NULL || strcmp(places[i], name) != 0))
		i++;
	return (rv_session_tier)i;
}

/* ---- rules ---- */

static rv_status check_text(const rv_session *s, const char *text, size_t max, const char *field) {
	if (text != NULL && (text[0] == 0 || strnlen(text, max + 1) > max))
		return rv_fail(RV_ERR_INVALID, "session '%.40s': %s is empty or longer than %zu bytes",
		               s->session_id, field, max);
	return RV_OK;
}

static rv_status check_kv(const rv_session *s) {
	const rv_kv_cache_ref *kv = &s->kv_cache_ref;
	if (kv->location == NULL)
		return RV_OK;
	RV_TRY(check_text(s, kv->location, 4096, "kv_cache_ref.location"));
	RV_TRY(check_text(s, kv->quantization ? kv->quantization : "", RV_SESSION_MAX_ID,
	                  "kv_cache_ref.quantization"));
	if ((unsigned)kv->tier >= RV_KV_PLACE_COUNT || kv->cached_tokens < 0 || kv->created_at < 0)
		return rv_fail(
		        RV_ERR_INVALID,
		        "session '%s': kv_cache_ref: tier %d, %lld cached_tokens, created_at %lld",
		        s->session_id, (int)kv->tier, (long long)kv->cached_tokens,
		        (long long)kv->created_at);
	return RV_OK;
}

static rv_status check_metadata(const rv_session *s) {
	json_t *value = NULL;
	if (s->metadata == NULL)
		return RV_OK;
	RV_TRY(check_text(s, s->metadata, RV_SESSION_MAX_METADATA, "metadata"));
	RV_TRY(rv_json_parse(s->metadata, strlen(s->metadata), "session metadata", &value));
	int is_object = json_is_object(value);
	json_decref(value);
	return is_object ? RV_OK
	                 : rv_fail(RV_ERR_FORMAT, "session '%s': metadata is no JSON object",
	                           s->session_id);
}

rv_status rv_session_check(const rv_session *s) {
	if (s->session_id == NULL || s->session_id[0] == 0 ||
	    strnlen(s->session_id, RV_SESSION_MAX_ID + 1) > RV_SESSION_MAX_ID)
		return rv_fail(RV_ERR_INVALID, "session_id is missing or longer than %d bytes",
		               RV_SESSION_MAX_ID);
	RV_TRY(check_text(s, s->user_id, RV_SESSION_MAX_ID, "user_id"));
	RV_TRY(check_text(s, s->active_adapter, RV_SESSION_MAX_ID, "active_adapter"));
	for (int i = 0; s->context_embedding != NULL && i < RV_EMBEDDING_DIM; i++)
		if (!isfinite(s->context_embedding[i]))
			return rv_fail(RV_ERR_NUMERIC,
			               "session '%s': context_embedding[%d] is not finite",
			               s->session_id, i);
	if (s->turn_count < 0 || s->last_active < 0)
		return rv_fail(RV_ERR_INVALID, "session '%s': turn_count %lld, last_active %lld",
		               s->session_id, (long long)s->turn_count, (long long)s->last_active);
	RV_TRY(check_kv(s));
	return check_metadata(s);
}

/* ---- one piece of memory ---- */

static const char *take(char **at, const void *data, size_t size) {
	if (data == NULL)
		return NULL;
	char *copy = *at;
	memcpy(copy, data, size);
	*at += size;
	return copy;
}

static size_t text_bytes(const char *text) {
	return text != NULL ? strlen(text) + 1 : 0;
}

enum { N_TEXTS = 6 };
static void texts_of(rv_session *s, const char **texts[N_TEXTS]) {
	const char **const all[N_TEXTS] = {&s->session_id,
	                                   &s->user_id,
	                                   &s->kv_cache_ref.location,
	                                   &s->kv_cache_ref.quantization,
	                                   &s->active_adapter,
	                                   &s->metadata};
	memcpy(texts, all, sizeof all);
}

size_t rv_session_bytes(const rv_session *session) {
	rv_session s = *session;
	const char **texts[N_TEXTS];
	size_t size = sizeof s + (s.context_embedding ? RV_EMBEDDING_DIM * sizeof(float) : 0);
	texts_of(&s, texts);
	for (int i = 0; i < N_TEXTS; i++)
		size += text_bytes(*texts[i]);
	return size;
}

rv_status rv_session_copy(const rv_session *from, rv_session **out) {
	rv_session *s = NULL;
	const char **texts[N_TEXTS];
	RV_TRY(rv_alloc_uninit((void **)&s, rv_session_bytes(from), 1, "session"));
	*s = *from;
	char *at = (char *)(s + 1);
	s->context_embedding = (const float *)(const void *)take(&at, from->context_embedding,
	                                                         RV_EMBEDDING_DIM * sizeof(float));
	texts_of(s, texts);
	for (int i = 0; i < N_TEXTS; i++)
		*texts[i] = take(&at, *texts[i], text_bytes(*texts[i]));
	*out = s;
	return RV_OK;
}

/* ---- rows ---- */

/* The order of the columns; last_active, which changes by itself, is in no checksum. */
enum {
	ID,
	USER,
	EMBEDDING,
	TIER,
	LOCATION,
	TOKENS,
	QUANTIZATION,
	CREATED,
	ADAPTER,
	TURNS,
	METADATA,
	N_SUMMED
};
#define COLUMNS                                                                                        \
	"session_id, user_id, context_embedding, kv_tier, kv_location, kv_cached_tokens,"              \
	" kv_quantization, kv_created_at, active_adapter, turn_count, metadata"

rv_status rv_session_write_row(const rv_store *store, rv_db *db, const rv_session *s) {
	const rv_kv_cache_ref *kv = &s->kv_cache_ref;
	uint8_t *sealed = NULL;
	size_t size = 0;
	/* without metadata too: this is where a user without a key is refused */
	RV_TRY(rv_store_seal(store, s->user_id, TABLE, s->session_id, s->metadata ? s->metadata : "",
	                     s->metadata ? strlen(s->metadata) : 0, &sealed, &size));
	const rv_db_value null = {.kind = RV_DB_NULL};
	rv_db_value v[N_SUMMED + 2] = {
	        [ID] = RV_TEXT(s->session_id),
	        [USER] = RV_TEXT(s->user_id),
	        [EMBEDDING] = RV_F32(s->context_embedding, s->context_embedding ? RV_EMBEDDING_DIM : 0),
	        [TIER] = kv->location ? RV_TEXT(places[kv->tier]) : null,
	        [LOCATION] = RV_TEXT(kv->location),
	        [TOKENS] = kv->location ? RV_INT(kv->cached_tokens) : null,
	        [QUANTIZATION] = kv->location ? RV_TEXT(kv->quantization) : null,
	        [CREATED] = kv->location ? RV_INT(kv->created_at) : null,
	        [ADAPTER] = RV_TEXT(s->active_adapter),
	        [TURNS] = RV_INT(s->turn_count),
	        [METADATA] = RV_BLOB(s->metadata ? sealed : NULL, size),
	};
	v[N_SUMMED] = RV_INT(rv_db_crc(0, v, N_SUMMED));
	v[N_SUMMED + 1] = RV_INT(s->last_active);
	rv_status st = rv_db_run(
	        db, TABLE,
	        "INSERT INTO sessions (" COLUMNS ", crc, last_active)"
	        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)"
	        " ON CONFLICT (session_id) DO UPDATE SET user_id = ?2, context_embedding = ?3,"
	        " kv_tier = ?4, kv_location = ?5, kv_cached_tokens = ?6, kv_quantization = ?7,"
	        " kv_created_at = ?8, active_adapter = ?9, turn_count = ?10, metadata = ?11,"
	        " crc = ?12, last_active = ?13",
	        v, sizeof v / sizeof *v);
	rv_free(sealed);
	return st;
}

typedef struct reading {
	const rv_store *store;
	rv_session_row_fn *fn;
	void *user;
	float embedding[RV_EMBEDDING_DIM];
} reading;

/* Column c of the enum is number c + 1 of the row. */
#define AT(column) ((column) + 1)

static rv_status read_fields(reading *r, const rv_db_row *row, rv_session *s, char **metadata) {
	if (rv_row_int(row, AT(N_SUMMED)) != rv_row_crc(0, row, AT(ID), N_SUMMED))
		return rv_row_damaged(row, "its checksum differs");
	if (!rv_row_is_null(row, AT(EMBEDDING))) {
		RV_TRY(rv_row_f32(row, AT(EMBEDDING), r->embedding, RV_EMBEDDING_DIM));
		s->context_embedding = r->embedding;
	}
	s->session_id = rv_row_text(row, AT(ID));
	s->user_id = rv_row_text(row, AT(USER));
	s->kv_cache_ref = (rv_kv_cache_ref){.tier = rv_session_tier_by_name(rv_row_text(row, AT(TIER))),
	                                    .location = rv_row_text(row, AT(LOCATION)),
	                                    .cached_tokens = rv_row_int(row, AT(TOKENS)),
	                                    .quantization = rv_row_text(row, AT(QUANTIZATION)),
	                                    .created_at = rv_row_int(row, AT(CREATED))};
	if (s->kv_cache_ref.location == NULL)
		s->kv_cache_ref = (rv_kv_cache_ref){0};
	s->active_adapter = rv_row_text(row, AT(ADAPTER));
	s->turn_count = rv_row_int(row, AT(TURNS));
	s->last_active = rv_row_int(row, AT(N_SUMMED + 1));
	size_t size, len;
	const void *sealed = rv_row_blob(row, AT(METADATA), &size);
	if (sealed != NULL)
		RV_TRY(rv_store_unseal(r->store, TABLE, s->session_id, sealed, size, metadata, &len));
	s->metadata = *metadata;
	return rv_session_check(s);
}

static rv_status read_row(void *user, const rv_db_row *row) {
	reading *r = user;
	rv_session s = {0};
	char *metadata = NULL;
	rv_status st = read_fields(r, row, &s, &metadata);
	if (st == RV_OK)
		st = r->fn(r->user, &s);
	rv_free(metadata);
	return st;
}

rv_status rv_session_read_rows(const rv_store *store, rv_db *db, rv_session_row_fn *fn, void *user) {
	reading *r = NULL;
	RV_TRY(RV_ALLOC(&r, 1, "session"));
	*r = (reading){.store = store, .fn = fn, .user = user};
	rv_status st = RV_DB_QUERY(db, TABLE, read_row, r,
	                           "SELECT key, " COLUMNS ", crc, last_active FROM sessions"
	                           " WHERE key > ?1 ORDER BY last_active, key",
	                           RV_INT(0));
	rv_free(r);
	return st;
}
