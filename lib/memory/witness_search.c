/* Search: first the keys of what is wanted, then these entries whole. */
#include "base/json.h"
#include "base/mem.h"
#include "kernels/kernels.h"
#include "memory/witness_internal.h"

#include <math.h>
#include <string.h>

#define TABLE "witness"

rv_witness_query rv_witness_query_defaults(void) {
	return (rv_witness_query){
	        .min_quality = NAN, .max_quality = NAN, .min_similarity = -1, .limit = 20};
}

typedef struct found {
	int64_t key;
	float similarity;
} found;

typedef struct search {
	rv_witness *w;
	const rv_witness_query *query;
	const rv_kernels *kernels;
	rv_witness_hit_fn *fn;
	void *user;
	found *best; /* [limit]: by similarity a heap, the worst on top; else newest first */
	int64_t n;
	int enough;
} search;

/* ---- which ---- */

static int is_worse(const found *a, const found *b) {
	return a->similarity < b->similarity || (a->similarity == b->similarity && a->key < b->key);
}

static void swap(found *a, found *b) {
	found t = *a;
	*a = *b;
	*b = t;
}

static void sink(found *heap, int64_t n, int64_t i) {
	for (int64_t child; (child = 2 * i + 1) < n; i = child) {
		if (child + 1 < n && is_worse(&heap[child + 1], &heap[child]))
			child++;
		if (!is_worse(&heap[child], &heap[i]))
			return;
		swap(&heap[i], &heap[child]);
	}
}

static void keep_best(search *s, found f) {
	if (s->n == s->query->limit) {
		if (!is_worse(&s->best[0], &f))
			return;
		s->best[0] = f;
		sink(s->best, s->n, 0);
		return;
	}
	int64_t i = s->n++;
	for (s->best[i] = f; i > 0 && is_worse(&s->best[i], &s->best[(i - 1) / 2]); i = (i - 1) / 2)
		swap(&s->best[i], &s->best[(i - 1) / 2]);
}

static void sort_best(search *s) {
	for (int64_t n = s->n; n > 1; n--) {
		swap(&s->best[0], &s->best[n - 1]);
		sink(s->best, n - 1, 0);
	}
}

/* The text of an error; *text NULL: none. rv_free'd by the caller. */
static rv_status error_text(const search *s, const rv_db_row *row, int column, int id_column,
                            char **text) {
	size_t size, len;
	const void *sealed = rv_row_blob(row, column, &size);
	*text = NULL;
	if (sealed == NULL)
		return RV_OK;
	const char *id = rv_row_text(row, id_column);
	return rv_store_unseal(s->w->store, TABLE, id ? id : "", sealed, size, text, &len);
}

enum { AT_KEY, AT_ID, AT_EMBEDDING, AT_ERROR };

static rv_status has_error(const search *s, const rv_db_row *row, int *yes) {
	char *text;
	RV_TRY(error_text(s, row, AT_ERROR, AT_ID, &text));
	*yes = text != NULL && strcasestr(text, s->query->error_text) != NULL;
	rv_free(text);
	return RV_OK;
}

static rv_status consider(void *user, const rv_db_row *row) {
	search *s = user;
	found f = {rv_row_int(row, AT_KEY), NAN};
	if (s->query->error_text != NULL && s->query->error_text[0] != 0) {
		int yes;
		RV_TRY(has_error(s, row, &yes));
		if (!yes)
			return RV_OK;
	}
	if (s->query->similar_to == NULL) {
		s->best[s->n++] = f;
		s->enough = s->n == s->query->limit;
		return s->enough ? RV_ERR_CANCELLED : RV_OK;
	}
	float x[RV_EMBEDDING_DIM], sums[3];
	RV_TRY(rv_row_f32(row, AT_EMBEDDING, x, RV_EMBEDDING_DIM));
	s->kernels->cosine_f32(sums, s->query->similar_to, x, RV_EMBEDDING_DIM);
	f.similarity = rv_cosine_similarity(sums);
	if (f.similarity >= s->query->min_similarity)
		keep_best(s, f);
	return RV_OK;
}

/* ?1 since, ?2 until, ?3 ?4 quality, ?5 request, ?6 session, ?7 model, ?8 with an error only, ?9 with
 * an embedding only */
#define WHERE                                                                                          \
	" FROM witness WHERE timestamp >= ?1 AND timestamp < ?2"                                       \
	" AND (?3 IS NULL OR quality_score >= ?3) AND (?4 IS NULL OR quality_score <= ?4)"             \
	" AND (?5 IS NULL OR request_id = ?5) AND (?6 IS NULL OR session_id = ?6)"                     \
	" AND (?7 IS NULL OR model_used = ?7) AND (?8 = 0 OR error IS NOT NULL)"                       \
	" AND (?9 = 0 OR query_embedding IS NOT NULL)"

static rv_db_value real_or_null(float x) {
	return isnan(x) ? (rv_db_value){.kind = RV_DB_NULL} : RV_REAL((double)x);
}

static rv_status find(search *s, rv_db *db) {
	const rv_witness_query *q = s->query;
	const rv_db_value values[] = {
	        RV_INT(q->since),
	        RV_INT(q->until ? q->until : INT64_MAX),
	        real_or_null(q->min_quality),
	        real_or_null(q->max_quality),
	        RV_TEXT(q->request_id),
	        RV_TEXT(q->session_id),
	        RV_TEXT(q->model_used),
	        RV_INT(q->error_text != NULL),
	        RV_INT(q->similar_to != NULL),
	};
	rv_status st = rv_db_query(
	        db, TABLE, "SELECT key, request_id, query_embedding, error" WHERE " ORDER BY key DESC",
	        values, sizeof values / sizeof *values, consider, s);
	if (s->enough && st == RV_ERR_CANCELLED)
		st = RV_OK;
	if (st == RV_OK && q->similar_to != NULL)
		sort_best(s);
	return st;
}

/* ---- whole ---- */

typedef struct whole {
	const search *s;
	rv_witness_hit hit;
	float query[RV_EMBEDDING_DIM], response[RV_EMBEDDING_DIM];
	const char *ids[RV_WITNESS_MAX_DOCS];
} whole;

#define AT(column) (RV_WITNESS_##column + 1)

static rv_status read_embedding(const rv_db_row *row, int column, float *buffer, const float **out) {
	*out = NULL;
	if (rv_row_is_null(row, column))
		return RV_OK;
	RV_TRY(rv_row_f32(row, column, buffer, RV_EMBEDDING_DIM));
	*out = buffer;
	return RV_OK;
}

static rv_status read_doc_ids(whole *h, const rv_db_row *row, json_t **list) {
	const char *text = rv_row_text(row, AT(context_doc_ids));
	if (text == NULL)
		return rv_row_damaged(row, "no context_doc_ids");
	RV_TRY(rv_json_parse(text, strlen(text), "context_doc_ids", list));
	size_t n = json_array_size(*list);
	if (!json_is_array(*list) || n > RV_WITNESS_MAX_DOCS)
		return rv_row_damaged(row, "context_doc_ids");
	for (size_t i = 0; i < n; i++)
		if ((h->ids[i] = json_string_value(json_array_get(*list, i))) == NULL)
			return rv_row_damaged(row, "context_doc_ids");
	h->hit.entry.context_doc_ids = h->ids;
	h->hit.entry.n_context_doc_ids = n;
	return RV_OK;
}

static void read_plain(rv_witness_entry *e, const rv_db_row *row) {
	rv_routing_decision *d = &e->routing_decision;
	e->request_id = rv_row_text(row, AT(request_id));
	e->session_id = rv_row_text(row, AT(session_id));
	e->user_id = rv_row_text(row, AT(user_id));
	d->model = rv_row_text(row, AT(model));
	d->context_size = rv_row_int(row, AT(context_size));
	d->temperature = (float)rv_row_real(row, AT(temperature));
	d->top_p = (float)rv_row_real(row, AT(top_p));
	d->confidence = (float)rv_row_real(row, AT(confidence));
	for (int i = 0; i < RV_WITNESS_SLOTS; i++)
		d->model_probs[i] = (float)rv_row_real(row, AT(probability_0) + i);
	e->model_used = rv_row_text(row, AT(model_used));
	e->quality_score = rv_row_is_null(row, AT(quality_score))
	                           ? NAN
	                           : (float)rv_row_real(row, AT(quality_score));
	for (int i = 0; i < RV_LATENCY_COUNT; i++)
		e->latency_ms[i] = rv_row_real(row, AT(embedding_ms) + i);
	e->timestamp = rv_row_int(row, AT(timestamp));
}

static rv_status read_whole(whole *h, const rv_db_row *row, json_t **list, char **error) {
	rv_witness_entry *e = &h->hit.entry;
	read_plain(e, row);
	RV_TRY(read_embedding(row, AT(query_embedding), h->query, &e->query_embedding));
	RV_TRY(read_embedding(row, AT(response_embedding), h->response, &e->response_embedding));
	RV_TRY(read_doc_ids(h, row, list));
	RV_TRY(error_text(h->s, row, AT(error), AT(request_id), error));
	e->error = *error;
	return RV_OK;
}

static rv_status emit(void *user, const rv_db_row *row) {
	whole *h = user;
	json_t *list = NULL;
	char *error = NULL;
	rv_status st = read_whole(h, row, &list, &error);
	if (st == RV_OK)
		st = h->s->fn(h->s->user, &h->hit);
	json_decref(list);
	rv_free(error);
	return st;
}

static rv_status emit_all(const search *s, rv_db *db) {
	whole *h = NULL;
	rv_status st = RV_ALLOC(&h, 1, "witness entry");
	for (int64_t i = 0; i < s->n && st == RV_OK; i++) {
		h->s = s;
		h->hit = (rv_witness_hit){.key = s->best[i].key, .similarity = s->best[i].similarity};
		st = RV_DB_QUERY(db, TABLE, emit, h,
		                 "SELECT " RV_WITNESS_ALL " FROM witness WHERE key = ?1",
		                 RV_INT(s->best[i].key));
	}
	rv_free(h);
	return st;
}

static rv_status search_in(void *user, rv_db *db) {
	search *s = user;
	RV_TRY(find(s, db));
	return emit_all(s, db);
}

static rv_status check_query(const rv_witness_query *q) {
	if (q->limit < 1 || q->since < 0 || q->until < 0)
		return rv_fail(RV_ERR_INVALID, "witness search: limit %lld, since %lld, until %lld",
		               (long long)q->limit, (long long)q->since, (long long)q->until);
	double square = 0;
	for (int i = 0; q->similar_to != NULL && i < RV_EMBEDDING_DIM; i++)
		square += (double)q->similar_to[i] * (double)q->similar_to[i];
	if (q->similar_to != NULL && !(square > 0 && isfinite(square)))
		return rv_fail(RV_ERR_NUMERIC, "witness search: a vector of length %g", sqrt(square));
	return RV_OK;
}

rv_status rv_witness_search(rv_witness *w, const rv_witness_query *query, rv_witness_hit_fn *fn,
                            void *user) {
	search s = {.w = w, .query = query, .fn = fn, .user = user};
	RV_TRY(check_query(query));
	RV_TRY(RV_ALLOC(&s.best, query->limit, "witness search"));
	s.kernels = rv_kernels_for(rv_level_best());
	rv_status st = rv_store_read(w->store, search_in, &s);
	rv_free(s.best);
	return st;
}
