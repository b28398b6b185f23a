/* Policies as rows of the table. */
#include "base/mem.h"
#include "memory/policies_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define TABLE "policies"
#define CONTENT                                                                                        \
	"id, policy_type, embedding, parameters, confidence, fisher_diagonal, created_at, source"
enum {
	AT_KEY,
	AT_ID,
	AT_TYPE,
	AT_EMBEDDING,
	AT_PARAMETERS,
	AT_CONFIDENCE,
	AT_FISHER,
	AT_CREATED,
	AT_SOURCE,
	AT_CRC,
	AT_ACCESSED,
	N_CONTENT = AT_SOURCE
};

/* ---- in ---- */

static rv_status check(const rv_policy *p) {
	double length = 0;
	json_t *parameters = NULL;
	if (p->id[0] != 0 && !rv_uuid_valid(p->id))
		return rv_fail(RV_ERR_INVALID, "policy '%.40s': no UUID", p->id);
	if ((unsigned)p->policy_type >= RV_POLICY_COUNT || (unsigned)p->source >= RV_SOURCE_COUNT ||
	    !(p->confidence >= 0 && p->confidence <= 1))
		return rv_fail(RV_ERR_INVALID,
		               "policy '%s': type %d, source %d or confidence %g out of bounds", p->id,
		               (int)p->policy_type, (int)p->source, (double)p->confidence);
	for (int i = 0; p->embedding != NULL && i < RV_EMBEDDING_DIM; i++)
		length += (double)p->embedding[i] * (double)p->embedding[i];
	if (!(length > 0) || !isfinite(length))
		return rv_fail(RV_ERR_NUMERIC, "policy '%s': an embedding of length 0 or not finite",
		               p->id);
	for (size_t i = 0; p->fisher_diagonal != NULL && i < p->n_fisher; i++)
		if (!(p->fisher_diagonal[i] >= 0) || !isfinite(p->fisher_diagonal[i]))
			return rv_fail(RV_ERR_NUMERIC, "policy '%s': fisher_diagonal, item %zu: %g",
			               p->id, i, (double)p->fisher_diagonal[i]);
	const char *text = p->parameters ? p->parameters : "";
	RV_TRY(rv_json_parse(text, strlen(text), "policy parameters", &parameters));
	int is_object = json_is_object(parameters);
	json_decref(parameters);
	if (!is_object)
		return rv_fail(RV_ERR_FORMAT, "policy '%s': parameters are no JSON object", p->id);
	return RV_OK;
}

static rv_status insert(void *user, rv_db *db) {
	const rv_policy *p = user;
	rv_db_value values[N_CONTENT + 2] = {
	        RV_TEXT(p->id),
	        RV_TEXT(rv_policy_type_name(p->policy_type)),
	        RV_F32(p->embedding, RV_EMBEDDING_DIM),
	        RV_TEXT(p->parameters),
	        RV_REAL((double)p->confidence),
	        p->fisher_diagonal ? RV_F32(p->fisher_diagonal, p->n_fisher)
	                           : (rv_db_value){.kind = RV_DB_NULL},
	        RV_INT(p->created_at),
	        RV_TEXT(rv_source_name(p->source)),
	};
	values[N_CONTENT] = RV_INT((int64_t)rv_db_crc(0, values, N_CONTENT));
	values[N_CONTENT + 1] = RV_INT(p->last_accessed);
	return rv_db_run(db, TABLE,
	                 "INSERT OR REPLACE INTO " TABLE " (" CONTENT ", content_crc, last_accessed) "
	                 "VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10)",
	                 values, N_CONTENT + 2);
}

static void forget(rv_policies *p) {
	pthread_mutex_lock(&p->lock);
	for (int type = 0; type < RV_POLICY_COUNT; type++)
		p->lists[type].fetched_at = INT64_MAX; /* old, but there in need */
	pthread_mutex_unlock(&p->lock);
}

static rv_status check_store(const rv_policies *p) {
	return p->store != NULL ? RV_OK : rv_fail(RV_ERR_INVALID, "policies: no store");
}

rv_status rv_policies_put(rv_policies *p, const rv_policy *policy, char *id) {
	RV_TRY(check_store(p));
	RV_TRY(check(policy));
	rv_policy whole = *policy;
	if (whole.id[0] == 0)
		rv_store_uuid(p->store, whole.id);
	if (whole.created_at == 0)
		whole.created_at = rv_store_now_ms(p->store);
	if (whole.last_accessed == 0)
		whole.last_accessed = whole.created_at;
	RV_TRY(rv_store_write(p->store, insert, NULL, &whole));
	forget(p);
	if (id != NULL)
		memcpy(id, whole.id, RV_UUID_TEXT);
	return RV_OK;
}

static rv_status delete_one(void *user, rv_db *db) {
	const char *id = user;
	RV_TRY(RV_DB_RUN(db, TABLE, "DELETE FROM " TABLE " WHERE id = ?1", RV_TEXT(id)));
	if (rv_db_changes(db) == 0)
		return rv_fail(RV_ERR_NOT_FOUND, "%s: no policy '%.40s'", rv_db_path(db), id);
	return RV_OK;
}

rv_status rv_policies_remove(rv_policies *p, const char *id) {
	RV_TRY(check_store(p));
	RV_TRY(rv_store_write(p->store, delete_one, NULL, (void *)(uintptr_t)id));
	forget(p);
	return RV_OK;
}

typedef struct eviction {
	rv_policy_type type;
	int64_t keep, n;
} eviction;

static rv_status delete_oldest(void *user, rv_db *db) {
	eviction *e = user;
	RV_TRY(RV_DB_RUN(
	        db, TABLE,
	        "DELETE FROM " TABLE " WHERE key IN (SELECT key FROM " TABLE
	        " WHERE policy_type = ?1 ORDER BY last_accessed DESC, key DESC LIMIT -1 OFFSET ?2)",
	        RV_TEXT(rv_policy_type_name(e->type)), RV_INT(e->keep)));
	e->n = rv_db_changes(db);
	return RV_OK;
}

rv_status rv_policies_evict(rv_policies *p, rv_policy_type type, int64_t keep, int64_t *n) {
	eviction e = {.type = type, .keep = keep};
	RV_TRY(check_store(p));
	if ((unsigned)type >= RV_POLICY_COUNT || keep < 0)
		return rv_fail(RV_ERR_INVALID, "policies: type %d, keep %lld: out of bounds", (int)type,
		               (long long)keep);
	RV_TRY(rv_policies_note_access(p));
	RV_TRY(rv_store_write(p->store, delete_oldest, NULL, &e));
	forget(p);
	if (n != NULL)
		*n = e.n;
	return RV_OK;
}

static rv_status write_access(void *user, rv_db *db) {
	const rv_policies *p = user;
	for (int type = 0; type < RV_POLICY_COUNT; type++)
		for (int64_t i = 0; i < p->lists[type].n; i++)
			RV_TRY(RV_DB_RUN(db, TABLE,
			                 "UPDATE " TABLE " SET last_accessed = ?2 WHERE id = ?1 AND "
			                 "last_accessed < ?2",
			                 RV_TEXT(p->lists[type].policies[i].id),
			                 RV_INT(p->lists[type].policies[i].last_accessed)));
	return RV_OK;
}

rv_status rv_policies_note_access(rv_policies *p) {
	rv_status st = RV_OK;
	pthread_mutex_lock(&p->lock);
	if (p->accessed && p->store != NULL && !rv_store_is_read_only(p->store))
		st = rv_store_write(p->store, write_access, NULL, p);
	if (st == RV_OK)
		p->accessed = 0;
	pthread_mutex_unlock(&p->lock);
	return st;
}

/* ---- out ---- */

static rv_status take_fisher(const rv_db_row *row, rv_policy *p) {
	size_t size;
	rv_row_blob(row, AT_FISHER, &size);
	float *fisher = NULL;
	p->n_fisher = size / sizeof *fisher;
	if (p->n_fisher == 0)
		return RV_OK;
	RV_TRY(rv_arena_alloc(p->memory, (void **)&fisher, p->n_fisher * sizeof *fisher));
	RV_TRY(rv_row_f32(row, AT_FISHER, fisher, p->n_fisher));
	p->fisher_diagonal = fisher;
	return RV_OK;
}

static rv_status take(const rv_db_row *row, rv_policy *p) {
	if (rv_row_int(row, AT_CRC) != (int64_t)rv_row_crc(0, row, AT_ID, N_CONTENT))
		return rv_row_damaged(row, "content checksum");
	snprintf(p->id, sizeof p->id, "%s", rv_row_text(row, AT_ID));
	p->policy_type = rv_policy_type_by_name(rv_row_text(row, AT_TYPE));
	p->source = rv_source_by_name(rv_row_text(row, AT_SOURCE));
	p->confidence = (float)rv_row_real(row, AT_CONFIDENCE);
	p->created_at = rv_row_int(row, AT_CREATED);
	p->last_accessed = rv_row_int(row, AT_ACCESSED);
	const char *text = rv_row_text(row, AT_PARAMETERS);
	char *parameters = NULL;
	float *embedding = NULL;
	RV_TRY(rv_arena_strndup(p->memory, &parameters, text, strlen(text)));
	RV_TRY(rv_arena_alloc(p->memory, (void **)&embedding, RV_EMBEDDING_DIM * sizeof *embedding));
	RV_TRY(rv_row_f32(row, AT_EMBEDDING, embedding, RV_EMBEDDING_DIM));
	p->parameters = parameters;
	p->embedding = embedding;
	return take_fisher(row, p);
}

static rv_status take_row(void *user, const rv_db_row *row) {
	rv_policy_list *list = user;
	if (list->n == list->cap) {
		int64_t cap = list->cap ? 2 * list->cap : 8;
		RV_TRY(RV_GROW(&list->policies, list->cap, cap, "policies"));
		list->cap = cap;
	}
	rv_policy p = {0};
	RV_TRY(rv_arena_create(&p.memory, 4096, 1));
	rv_status st = take(row, &p);
	if (st != RV_OK) {
		rv_policy_deinit(&p);
		return st;
	}
	list->policies[list->n++] = p;
	return RV_OK;
}

typedef struct fetching {
	rv_policy_type type;
	rv_policy_list *list;
} fetching;

static rv_status fetch(void *user, rv_db *db) {
	const fetching *f = user;
	return RV_DB_QUERY(
	        db, TABLE, take_row, f->list,
	        "SELECT key, " CONTENT ", content_crc, last_accessed FROM " TABLE
	        " WHERE policy_type = ?1 ORDER BY confidence DESC, created_at DESC, key DESC",
	        RV_TEXT(rv_policy_type_name(f->type)));
}

rv_status rv_policy_list_fetch(rv_store *store, rv_policy_type type, rv_policy_list *out) {
	rv_policy_list list = {0};
	fetching f = {type, &list};
	rv_status st = rv_store_read(store, fetch, &f);
	if (st != RV_OK) {
		rv_policy_list_free(&list);
		return st;
	}
	*out = list;
	return RV_OK;
}

void rv_policy_list_free(rv_policy_list *list) {
	for (int64_t i = 0; i < list->n; i++)
		rv_policy_deinit(&list->policies[i]);
	rv_free(list->policies);
	*list = (rv_policy_list){0};
}

void rv_policy_list_keep_access(const rv_policy_list *old, rv_policy_list *anew) {
	for (int64_t i = 0; i < anew->n; i++)
		for (int64_t j = 0; j < old->n; j++)
			if (strcmp(anew->policies[i].id, old->policies[j].id) == 0 &&
			    old->policies[j].last_accessed > anew->policies[i].last_accessed)
				anew->policies[i].last_accessed = old->policies[j].last_accessed;
}
