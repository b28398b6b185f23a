/* Trajectories as rows of the table, with their checksums. */
#include "base/mem.h"
#include "memory/bank_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TABLE "trajectories"
/* What never changes, in the order of its checksum. */
#define CONTENT                                                                                        \
	"trajectory_id, variant, task, embedding, states, actions, final_quality, metadata, verdict, " \
	"request_id, session_id, query_embedding, response_embedding, routing_features, model_index, " \
	"source, created_at"
enum {
	AT_KEY,
	AT_ID,
	AT_VARIANT,
	AT_TASK,
	AT_EMBEDDING,
	AT_STATES,
	AT_ACTIONS,
	AT_FINAL_QUALITY,
	AT_METADATA,
	AT_VERDICT,
	AT_REQUEST,
	AT_SESSION,
	AT_QUERY,
	AT_RESPONSE,
	AT_FEATURES,
	AT_MODEL,
	AT_SOURCE,
	AT_CREATED,
	AT_CONTENT_CRC,
	AT_QUALITY,
	AT_WEIGHT,
	AT_STATE_CRC,
	N_CONTENT = AT_CREATED
};
#define ALL "SELECT key, " CONTENT ", content_crc, quality, weight, state_crc FROM " TABLE

/* A state in the column states: layer, timestamp, embedding, little-endian. */
typedef struct packed_state {
	int64_t layer, timestamp;
	float embedding[RV_EMBEDDING_DIM];
} packed_state;
_Static_assert(sizeof(packed_state) == 16 + 4 * RV_EMBEDDING_DIM, "states are stored without gaps");

static rv_status pack_states(const rv_trajectory *t, packed_state **out) {
	RV_TRY(rv_alloc_uninit((void **)out, t->n_states, sizeof **out, "states"));
	for (size_t i = 0; i < t->n_states; i++) {
		packed_state *p = &(*out)[i];
		p->layer = t->states[i].layer;
		p->timestamp = t->states[i].timestamp;
		memcpy(p->embedding, t->states[i].embedding, sizeof p->embedding);
	}
	return RV_OK;
}

static rv_status pack_actions(const rv_trajectory *t, char **out) {
	json_t *array = json_array();
	for (size_t i = 0; i < t->n_actions; i++)
		json_array_append_new(array, json_pack("[s, f]", t->actions[i].action,
		                                       (double)t->actions[i].quality));
	char *text = json_array_size(array) == t->n_actions ? json_dumps(array, JSON_COMPACT) : NULL;
	json_decref(array);
	if (text == NULL)
		return rv_fail(RV_ERR_INVALID, "trajectory %s: actions are no UTF-8 text",
		               t->trajectory_id);
	*out = text;
	return RV_OK;
}

static int64_t state_crc(uint32_t content_crc, float quality, float weight) {
	const rv_db_value values[] = {RV_REAL((double)quality), RV_REAL((double)weight)};
	return (int64_t)rv_db_crc(content_crc, values, 2);
}

static rv_db_value optional_f32(const float *x, size_t n) {
	return x != NULL ? RV_F32(x, n) : (rv_db_value){.kind = RV_DB_NULL};
}

static rv_status insert(rv_db *db, const rv_trajectory *t, const float *embedding, const void *states,
                        const char *actions, rv_bank_entry *e) {
	/* the query's embedding is stored once: an empty value says it is the trajectory's own */
	int same = t->query_embedding != NULL &&
	           memcmp(t->query_embedding, embedding, RV_EMBEDDING_DIM * sizeof(float)) == 0;
	rv_db_value values[N_CONTENT + 4] = {
	        RV_TEXT(t->trajectory_id),
	        RV_TEXT(rv_bank_variant_name(t->variant)),
	        RV_TEXT(t->task),
	        RV_F32(embedding, RV_EMBEDDING_DIM),
	        RV_BLOB(states ? states : "", t->n_states * sizeof(packed_state)),
	        RV_TEXT(actions),
	        RV_REAL((double)t->final_quality),
	        RV_TEXT(t->metadata ? t->metadata : "{}"),
	        RV_TEXT(rv_trajectory_verdict_name(t->verdict)),
	        RV_TEXT(t->request_id),
	        RV_TEXT(t->session_id),
	        same ? RV_BLOB("", 0) : optional_f32(t->query_embedding, RV_EMBEDDING_DIM),
	        optional_f32(t->response_embedding, RV_EMBEDDING_DIM),
	        optional_f32(t->routing_features, t->n_routing_features),
	        t->model_index >= 0 ? RV_INT(t->model_index) : (rv_db_value){.kind = RV_DB_NULL},
	        RV_TEXT(rv_source_name(t->source)),
	        RV_INT(t->created_at),
	};
	e->content_crc = rv_db_crc(0, values, N_CONTENT);
	e->quality = t->weight > 0 ? t->quality : t->final_quality;
	e->weight = t->weight > 0 ? t->weight : 1;
	values[N_CONTENT] = RV_INT((int64_t)e->content_crc);
	values[N_CONTENT + 1] = RV_REAL((double)e->quality);
	values[N_CONTENT + 2] = RV_REAL((double)e->weight);
	values[N_CONTENT + 3] = RV_INT(state_crc(e->content_crc, e->quality, e->weight));
	return rv_db_run(
	        db, TABLE,
	        "INSERT INTO " TABLE " (" CONTENT ", content_crc, quality, weight, state_crc) "
	        "VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?20,?21)",
	        values, N_CONTENT + 4);
}

rv_status rv_bank_row_insert(rv_db *db, const rv_trajectory *t, const float *embedding,
                             rv_bank_entry *e) {
	packed_state *states = NULL;
	char *actions = NULL;
	*e = (rv_bank_entry){.created_at = t->created_at,
	                     .verdict = (uint8_t)t->verdict,
	                     .source = (uint8_t)t->source};
	rv_bank_id_bytes(t->trajectory_id, e->id);
	rv_status st = pack_states(t, &states);
	if (st == RV_OK)
		st = pack_actions(t, &actions);
	if (st == RV_OK)
		st = insert(db, t, embedding, states, actions, e);
	if (st == RV_OK)
		e->key = rv_db_last_key(db);
	rv_free(states);
	free(actions);
	return st;
}

rv_status rv_bank_row_update(rv_db *db, const rv_bank_entry *e) {
	return RV_DB_RUN(db, TABLE,
	                 "UPDATE " TABLE
	                 " SET quality = ?2, weight = ?3, state_crc = ?4 WHERE key = ?1",
	                 RV_INT(e->key), RV_REAL((double)e->quality), RV_REAL((double)e->weight),
	                 RV_INT(state_crc(e->content_crc, e->quality, e->weight)));
}

rv_status rv_bank_row_delete(rv_db *db, int64_t key) {
	return RV_DB_RUN(db, TABLE, "DELETE FROM " TABLE " WHERE key = ?1", RV_INT(key));
}

/* ---- back ---- */

typedef struct visiting {
	rv_bank_row_fn *fn;
	void *user;
	rv_arena *memory; /* of the row at hand */
	size_t start;
	int64_t n;
} visiting;

static rv_status take_floats(const visiting *v, const rv_db_row *row, int column, size_t n,
                             const float **out) {
	float *x = NULL;
	RV_TRY(rv_arena_alloc(v->memory, (void **)&x, n * sizeof *x));
	RV_TRY(rv_row_f32(row, column, x, n));
	*out = x;
	return RV_OK;
}

static rv_status take_optional(const visiting *v, const rv_db_row *row, int column, size_t n,
                               const float **out) {
	return rv_row_is_null(row, column) ? RV_OK : take_floats(v, row, column, n, out);
}

static rv_status take_text(const visiting *v, const rv_db_row *row, int column, const char **out) {
	const char *text = rv_row_text(row, column);
	char *copy = NULL;
	if (text == NULL)
		return RV_OK;
	RV_TRY(rv_arena_strndup(v->memory, &copy, text, strlen(text)));
	*out = copy;
	return RV_OK;
}

static rv_status take_states(const visiting *v, const rv_db_row *row, rv_trajectory *t) {
	size_t size;
	const char *data = rv_row_blob(row, AT_STATES, &size);
	t->n_states = size / sizeof(packed_state);
	if (size % sizeof(packed_state) != 0)
		return rv_row_damaged(row, "states of another length");
	rv_state *states = NULL;
	RV_TRY(rv_arena_alloc(v->memory, (void **)&states, t->n_states * sizeof *states));
	for (size_t i = 0; i < t->n_states; i++) {
		packed_state *p = NULL;
		RV_TRY(rv_arena_alloc(v->memory, (void **)&p, sizeof *p));
		memcpy(p, data + i * sizeof *p, sizeof *p);
		states[i] = (rv_state){p->layer, p->timestamp, p->embedding};
	}
	t->states = states;
	return RV_OK;
}

static rv_status take_actions(const visiting *v, const rv_db_row *row, rv_trajectory *t) {
	const char *text = rv_row_text(row, AT_ACTIONS);
	json_t *array = NULL;
	RV_TRY(rv_json_parse(text, text ? strlen(text) : 0, "actions", &array));
	rv_action *actions = NULL;
	t->n_actions = json_array_size(array);
	rv_status st = rv_arena_alloc(v->memory, (void **)&actions, t->n_actions * sizeof *actions);
	for (size_t i = 0; st == RV_OK && i < t->n_actions; i++) {
		const char *action = NULL;
		double quality = 0;
		char *copy = NULL;
		if (json_unpack(json_array_get(array, i), "[s, F]", &action, &quality) != 0)
			st = rv_row_damaged(row, "actions of another form");
		if (st == RV_OK)
			st = rv_arena_strndup(v->memory, &copy, action, strlen(action));
		if (st == RV_OK)
			actions[i] = (rv_action){copy, (float)quality};
	}
	json_decref(array);
	t->actions = actions;
	return st;
}

static rv_status check_crcs(const rv_db_row *row) {
	uint32_t crc = rv_row_crc(0, row, AT_ID, N_CONTENT);
	if (rv_row_int(row, AT_CONTENT_CRC) != (int64_t)crc)
		return rv_row_damaged(row, "content checksum");
	if (rv_row_int(row, AT_STATE_CRC) != (int64_t)rv_row_crc(crc, row, AT_QUALITY, 2))
		return rv_row_damaged(row, "state checksum");
	return RV_OK;
}

static rv_status take_all(const visiting *v, const rv_db_row *row, rv_trajectory *t) {
	RV_TRY(check_crcs(row));
	snprintf(t->trajectory_id, sizeof t->trajectory_id, "%s", rv_row_text(row, AT_ID));
	t->variant = rv_bank_variant_by_name(rv_row_text(row, AT_VARIANT));
	t->verdict = rv_trajectory_verdict_by_name(rv_row_text(row, AT_VERDICT));
	t->source = rv_source_by_name(rv_row_text(row, AT_SOURCE));
	t->final_quality = (float)rv_row_real(row, AT_FINAL_QUALITY);
	t->created_at = rv_row_int(row, AT_CREATED);
	t->quality = (float)rv_row_real(row, AT_QUALITY);
	t->weight = (float)rv_row_real(row, AT_WEIGHT);
	t->model_index = rv_row_is_null(row, AT_MODEL) ? -1 : rv_row_int(row, AT_MODEL);
	RV_TRY(take_text(v, row, AT_TASK, &t->task));
	RV_TRY(take_text(v, row, AT_METADATA, &t->metadata));
	RV_TRY(take_text(v, row, AT_REQUEST, &t->request_id));
	RV_TRY(take_text(v, row, AT_SESSION, &t->session_id));
	RV_TRY(take_states(v, row, t));
	RV_TRY(take_actions(v, row, t));
	RV_TRY(take_floats(v, row, AT_EMBEDDING, RV_EMBEDDING_DIM, &t->embedding));
	size_t size;
	rv_row_blob(row, AT_QUERY, &size);
	if (size == 0 && !rv_row_is_null(row, AT_QUERY))
		t->query_embedding = t->embedding;
	else
		RV_TRY(take_optional(v, row, AT_QUERY, RV_EMBEDDING_DIM, &t->query_embedding));
	RV_TRY(take_optional(v, row, AT_RESPONSE, RV_EMBEDDING_DIM, &t->response_embedding));
	rv_row_blob(row, AT_FEATURES, &size);
	t->n_routing_features = size / sizeof(float);
	RV_TRY(take_optional(v, row, AT_FEATURES, t->n_routing_features, &t->routing_features));
	return RV_OK;
}

static rv_status visit(void *user, const rv_db_row *row) {
	visiting *v = user;
	rv_trajectory t = rv_trajectory_defaults();
	rv_arena_reset(v->memory, v->start);
	v->n++;
	RV_TRY(take_all(v, row, &t));
	return v->fn(v->user, rv_row_int(row, AT_KEY), &t, t.embedding);
}

static rv_status visit_rows(rv_db *db, const char *sql, rv_db_value value, visiting *v) {
	RV_TRY(rv_arena_create(&v->memory, 32768, 1));
	v->start = rv_arena_mark(v->memory);
	rv_status st = rv_db_query(db, TABLE, sql, &value, 1, visit, v);
	rv_arena_destroy(v->memory);
	return st;
}

rv_status rv_bank_rows_visit(rv_db *db, rv_bank_variant variant, rv_bank_row_fn *fn, void *user) {
	visiting v = {.fn = fn, .user = user};
	return visit_rows(db, ALL " WHERE variant = ?1 ORDER BY key",
	                  RV_TEXT(rv_bank_variant_name(variant)), &v);
}

rv_status rv_bank_row_find(rv_db *db, const char *trajectory_id, rv_bank_row_fn *fn, void *user) {
	visiting v = {.fn = fn, .user = user};
	RV_TRY(visit_rows(db, ALL " WHERE trajectory_id = ?1", RV_TEXT(trajectory_id), &v));
	if (v.n == 0)
		return rv_fail(RV_ERR_NOT_FOUND, "%s: no trajectory '%.40s'", rv_db_path(db),
		               trajectory_id);
	return RV_OK;
}

/* ---- parts of rows ---- */

typedef struct embeddings {
	uint64_t *keys;
	float *out;
	int64_t n;
} embeddings;

static rv_status take_embedding(void *user, const rv_db_row *row) {
	embeddings *e = user;
	e->keys[e->n] = (uint64_t)rv_row_int(row, 0);
	RV_TRY(rv_row_f32(row, 1, e->out + e->n * RV_EMBEDDING_DIM, RV_EMBEDDING_DIM));
	e->n++;
	return RV_OK;
}

rv_status rv_bank_rows_embeddings(rv_db *db, rv_bank_variant variant, int64_t after, int64_t n,
                                  uint64_t *keys, float *out, int64_t *found) {
	embeddings e = {keys, out, 0};
	RV_TRY(RV_DB_QUERY(db, TABLE, take_embedding, &e,
	                   "SELECT key, embedding FROM " TABLE
	                   " WHERE variant = ?1 AND key > ?2 ORDER BY key LIMIT ?3",
	                   RV_TEXT(rv_bank_variant_name(variant)), RV_INT(after), RV_INT(n)));
	*found = e.n;
	return RV_OK;
}

static rv_status take_vector(void *user, const rv_db_row *row) {
	embeddings *e = user;
	e->n++;
	return rv_row_f32(row, 1, e->out, RV_EMBEDDING_DIM);
}

rv_status rv_bank_row_embedding(rv_db *db, int64_t key, float *out) {
	embeddings e = {.out = out};
	RV_TRY(RV_DB_QUERY(db, TABLE, take_vector, &e,
	                   "SELECT key, embedding FROM " TABLE " WHERE key = ?1", RV_INT(key)));
	if (e.n == 0)
		return rv_fail(RV_ERR_NOT_FOUND, "%s: table " TABLE ": no key %lld", rv_db_path(db),
		               (long long)key);
	return RV_OK;
}

typedef struct entries {
	rv_bank_entry_fn *fn;
	void *user;
} entries;

static rv_status take_entry(void *user, const rv_db_row *row) {
	const entries *to = user;
	const char *id = rv_row_text(row, 1);
	rv_bank_entry e = {
	        .key = rv_row_int(row, 0),
	        .created_at = rv_row_int(row, 2),
	        .content_crc = (uint32_t)rv_row_int(row, 3),
	        .quality = (float)rv_row_real(row, 4),
	        .weight = (float)rv_row_real(row, 5),
	};
	int verdict = (int)rv_trajectory_verdict_by_name(rv_row_text(row, 6));
	int source = (int)rv_source_by_name(rv_row_text(row, 7));
	if (id == NULL || !rv_uuid_valid(id) || verdict == RV_VERDICT_COUNT ||
	    source == RV_SOURCE_COUNT ||
	    rv_row_int(row, 8) != state_crc(e.content_crc, e.quality, e.weight))
		return rv_row_damaged(row, "figures");
	e.verdict = (uint8_t)verdict;
	e.source = (uint8_t)source;
	rv_bank_id_bytes(id, e.id);
	return to->fn(to->user, &e);
}

rv_status rv_bank_rows_entries(rv_db *db, rv_bank_variant variant, rv_bank_entry_fn *fn, void *user) {
	entries to = {fn, user};
	return RV_DB_QUERY(
	        db, TABLE, take_entry, &to,
	        "SELECT key, trajectory_id, created_at, content_crc, quality, weight, verdict, "
	        "source, state_crc FROM " TABLE " WHERE variant = ?1 ORDER BY key",
	        RV_TEXT(rv_bank_variant_name(variant)));
}
