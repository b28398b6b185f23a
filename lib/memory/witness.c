#include "memory/witness.h"

#include "base/json.h"
#include "base/mem.h"
#include "base/sysinfo.h"
#include "memory/witness_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RV_NAME(name, column, text) text,
static const char *const latency_names[] = {RV_LATENCY_TABLE(RV_NAME)};
#undef RV_NAME

const char *rv_latency_name(rv_latency part) {
	return latency_names[part];
}

rv_witness_entry rv_witness_entry_defaults(void) {
	return (rv_witness_entry){.quality_score = NAN};
}

rv_witness_options rv_witness_defaults(void) {
	return (rv_witness_options){.queue_capacity = 10000,
	                            .batch = 100,
	                            .batch_ms = 1000,
	                            .retain_ms = 7 * INT64_C(86400000)};
}

/* ---- rules ---- */

static rv_status check_text(const char *text, int needed, const char *field) {
	if (needed && (text == NULL || text[0] == 0))
		return rv_fail(RV_ERR_INVALID, "witness entry: %s is missing", field);
	if (text != NULL && strnlen(text, RV_WITNESS_MAX_TEXT + 1) > RV_WITNESS_MAX_TEXT)
		return rv_fail(RV_ERR_LIMIT, "witness entry: %s is longer than %d bytes", field,
		               RV_WITNESS_MAX_TEXT);
	return RV_OK;
}

static rv_status check_share(float x, const char *field) {
	if (!(x >= 0 && x <= 1))
		return rv_fail(RV_ERR_NUMERIC, "witness entry: %s is %g, not within 0..1", field,
		               (double)x);
	return RV_OK;
}

static rv_status check_embedding(const float *x, const char *field) {
	for (int i = 0; x != NULL && i < RV_EMBEDDING_DIM; i++)
		if (!isfinite(x[i]))
			return rv_fail(RV_ERR_NUMERIC, "witness entry: %s[%d] is not finite", field, i);
	return RV_OK;
}

static rv_status check_decision(const rv_routing_decision *d) {
	RV_TRY(check_text(d->model, 1, "routing_decision.model"));
	if (d->context_size < 0)
		return rv_fail(RV_ERR_INVALID, "witness entry: context_size is %lld",
		               (long long)d->context_size);
	if (!(d->temperature >= 0) || !isfinite(d->temperature))
		return rv_fail(RV_ERR_NUMERIC, "witness entry: temperature is %g",
		               (double)d->temperature);
	RV_TRY(check_share(d->top_p, "top_p"));
	RV_TRY(check_share(d->confidence, "confidence"));
	for (int i = 0; i < RV_WITNESS_SLOTS; i++)
		RV_TRY(check_share(d->model_probs[i], "model_probs"));
	return RV_OK;
}

static rv_status check_entry(const rv_witness_entry *e) {
	if (e->request_id == NULL || !rv_uuid_valid(e->request_id))
		return rv_fail(RV_ERR_INVALID, "witness entry: request_id is no UUID");
	RV_TRY(check_text(e->session_id, 0, "session_id"));
	RV_TRY(check_text(e->user_id, 0, "user_id"));
	RV_TRY(check_embedding(e->query_embedding, "query_embedding"));
	RV_TRY(check_decision(&e->routing_decision));
	RV_TRY(check_text(e->model_used, 1, "model_used"));
	if (!isnan(e->quality_score))
		RV_TRY(check_share(e->quality_score, "quality_score"));
	for (int i = 0; i < RV_LATENCY_COUNT; i++)
		if (!(e->latency_ms[i] >= 0) || !isfinite(e->latency_ms[i]))
			return rv_fail(RV_ERR_NUMERIC, "witness entry: latency %s is %g ms",
			               latency_names[i], e->latency_ms[i]);
	if (e->n_context_doc_ids > RV_WITNESS_MAX_DOCS)
		return rv_fail(RV_ERR_LIMIT, "witness entry: %zu context_doc_ids, more than %d",
		               e->n_context_doc_ids, RV_WITNESS_MAX_DOCS);
	for (size_t i = 0; i < e->n_context_doc_ids; i++)
		RV_TRY(check_text(e->context_doc_ids[i], 1, "context_doc_ids"));
	RV_TRY(check_embedding(e->response_embedding, "response_embedding"));
	if (e->timestamp < 0 || e->timestamp > RV_TIME_MAX_MS)
		return rv_fail(RV_ERR_INVALID, "witness entry: timestamp is %lld",
		               (long long)e->timestamp);
	return check_text(e->error, 0, "error");
}

/* ---- an entry as columns ---- */

static rv_status doc_ids_text(const rv_witness_entry *e, char **out) {
	json_t *list = json_array();
	int failed = list == NULL;
	for (size_t i = 0; i < e->n_context_doc_ids && !failed; i++) {
		const char *id = e->context_doc_ids[i];
		failed = json_array_append_new(list, rv_json_text(id, strlen(id))) != 0;
	}
	*out = failed ? NULL : json_dumps(list, JSON_COMPACT);
	json_decref(list);
	return *out != NULL ? RV_OK
	                    : rv_fail(RV_ERR_NO_MEMORY, "witness entry: context_doc_ids: no memory");
}

/* As it comes back from the database, which knows neither -0 nor NaN. */
static rv_db_value real(double x) {
	return isnan(x) ? (rv_db_value){.kind = RV_DB_NULL} : RV_REAL(x + 0.0);
}

static rv_db_value embedding(const float *x) {
	return RV_F32(x, x != NULL ? RV_EMBEDDING_DIM : 0);
}

static void fill_values(const rv_witness_entry *e, int64_t now, const char *doc_ids,
                        rv_db_value values[RV_WITNESS_N_COLUMNS]) {
	const rv_routing_decision *d = &e->routing_decision;
	values[RV_WITNESS_request_id] = RV_TEXT(e->request_id);
	values[RV_WITNESS_session_id] = RV_TEXT(e->session_id);
	values[RV_WITNESS_user_id] = RV_TEXT(e->user_id);
	values[RV_WITNESS_query_embedding] = embedding(e->query_embedding);
	values[RV_WITNESS_model] = RV_TEXT(d->model);
	values[RV_WITNESS_context_size] = RV_INT(d->context_size);
	values[RV_WITNESS_temperature] = real((double)d->temperature);
	values[RV_WITNESS_top_p] = real((double)d->top_p);
	values[RV_WITNESS_confidence] = real((double)d->confidence);
	for (int i = 0; i < RV_WITNESS_SLOTS; i++)
		values[RV_WITNESS_probability_0 + i] = real((double)d->model_probs[i]);
	values[RV_WITNESS_model_used] = RV_TEXT(e->model_used);
	values[RV_WITNESS_quality_score] = real((double)e->quality_score);
	for (int i = 0; i < RV_LATENCY_COUNT; i++)
		values[RV_WITNESS_embedding_ms + i] = real(e->latency_ms[i]);
	values[RV_WITNESS_context_doc_ids] = RV_TEXT(doc_ids);
	values[RV_WITNESS_response_embedding] = embedding(e->response_embedding);
	values[RV_WITNESS_timestamp] = RV_INT(e->timestamp ? e->timestamp : now);
}

/* One allocation: the item and behind it what its values point to. */
static rv_status pack(const rv_db_value *values, rv_witness_item **out) {
	size_t bytes = sizeof(rv_witness_item);
	for (int i = 0; i < RV_WITNESS_N_COLUMNS; i++)
		bytes += values[i].data != NULL ? values[i].size : 0;
	rv_witness_item *item = NULL;
	RV_TRY(rv_alloc_uninit((void **)&item, bytes, 1, "witness entry"));
	char *at = (char *)(item + 1);
	memcpy(item->values, values, sizeof item->values);
	for (int i = 0; i < RV_WITNESS_N_COLUMNS; i++) {
		if (values[i].data == NULL)
			continue;
		memcpy(at, values[i].data, values[i].size);
		item->values[i].data = at;
		at += values[i].size;
	}
	item->next = NULL;
	*out = item;
	return RV_OK;
}

static rv_status make_item(const rv_witness *w, const rv_witness_entry *e, rv_witness_item **out) {
	rv_db_value values[RV_WITNESS_N_COLUMNS] = {{0}};
	char *doc_ids = NULL;
	uint8_t *error = NULL;
	size_t error_size = 0;
	if (!w->has_thread)
		return rv_fail(RV_ERR_INVALID, "%s: the store is open for reading only",
		               rv_store_path(w->store));
	RV_TRY(check_entry(e));
	/* of a user without an error too: this is where one without a key is refused */
	if (e->error != NULL || e->user_id != NULL)
		RV_TRY(rv_store_seal(w->store, e->user_id, "witness", e->request_id,
		                     e->error ? e->error : "", e->error ? strlen(e->error) : 0, &error,
		                     &error_size));
	rv_status st = doc_ids_text(e, &doc_ids);
	if (st == RV_OK) {
		fill_values(e, rv_store_now_ms(w->store), doc_ids, values);
		values[RV_WITNESS_error] = RV_BLOB(e->error ? error : NULL, error_size);
		st = pack(values, out);
	}
	free(doc_ids); /* jansson's */
	rv_free(error);
	return st;
}

/* ---- appending ---- */

static rv_status drop(rv_witness *w) {
	w->n_dropped++;
	return rv_fail(RV_ERR_LIMIT, "%s: table witness: %lld entries wait already; dropped",
	               rv_store_path(w->store), (long long)w->options.queue_capacity);
}

/* Under the lock. */
static void enqueue(rv_witness *w, rv_witness_item *item) {
	item->queued_ns = rv_now_ns();
	item->number = ++w->n_appended;
	if (w->tail != NULL)
		w->tail->next = item;
	else
		w->head = item;
	w->tail = item;
	if (++w->n_queued > w->max_queued)
		w->max_queued = w->n_queued;
	/* it sleeps until the first is due: nobody need wake it for those between */
	if (w->n_queued == 1 || w->n_queued == w->options.batch)
		pthread_cond_signal(&w->work);
}

rv_status rv_witness_append(rv_witness *w, const rv_witness_entry *entry) {
	int64_t start = rv_now_ns();
	rv_witness_item *item = NULL;
	RV_TRY(make_item(w, entry, &item));
	pthread_mutex_lock(&w->lock);
	int full = w->n_queued >= w->options.queue_capacity;
	rv_status st = full ? drop(w) : RV_OK;
	if (!full) {
		enqueue(w, item);
		w->append_ns += (double)(rv_now_ns() - start);
	}
	pthread_mutex_unlock(&w->lock);
	if (full)
		rv_free(item);
	return st;
}

/* Under the lock: until entry `number` is committed, or a batch has failed since. */
static rv_status wait_for(rv_witness *w, int64_t number) {
	int64_t n_failed = w->n_failed;
	if (number > w->wanted)
		w->wanted = number;
	pthread_cond_signal(&w->work);
	while (w->n_committed < number && w->n_failed == n_failed)
		pthread_cond_wait(&w->progress, &w->lock);
	return w->n_committed >= number ? RV_OK : rv_fail(w->failed_status, "%s", w->failed_message);
}

rv_status rv_witness_append_sync(rv_witness *w, const rv_witness_entry *entry) {
	rv_witness_item *item = NULL;
	RV_TRY(make_item(w, entry, &item));
	rv_status st = RV_OK;
	pthread_mutex_lock(&w->lock);
	while (st == RV_OK && w->n_queued >= w->options.queue_capacity)
		st = wait_for(w, w->head->number);
	if (st == RV_OK) {
		enqueue(w, item);
		st = wait_for(w, item->number);
		item = NULL;
	} else {
		w->n_dropped++;
	}
	pthread_mutex_unlock(&w->lock);
	rv_free(item);
	return st;
}

rv_status rv_witness_flush(rv_witness *w) {
	pthread_mutex_lock(&w->lock);
	rv_status st = wait_for(w, w->n_appended);
	pthread_mutex_unlock(&w->lock);
	return st;
}

void rv_witness_get_stats(rv_witness *w, rv_witness_stats *out) {
	pthread_mutex_lock(&w->lock);
	*out = (rv_witness_stats){
	        .appended = w->n_appended,
	        .committed = w->n_committed,
	        .dropped = w->n_dropped,
	        .queued = w->n_queued,
	        .max_queued = w->max_queued,
	        .batches = w->n_batches,
	        .failed_batches = w->n_failed,
	        .dropped_ever = w->dropped_before + w->n_dropped,
	        .append_ns = w->n_appended ? w->append_ns / (double)w->n_appended : 0,
	};
	pthread_mutex_unlock(&w->lock);
}

/* ---- open and close ---- */

typedef struct opening {
	rv_store *store;
	rv_witness_chain chain;
} opening;

static rv_status read_chain(void *user, rv_db *db) {
	opening *o = user;
	RV_TRY(rv_witness_chain_read(o->store, db, &o->chain));
	return rv_witness_chain_check(db, &o->chain);
}

static rv_status check_options(const rv_witness_options *o) {
	if (o->batch < 1 || o->queue_capacity < o->batch || o->batch_ms < 1 || o->retain_ms < 0)
		return rv_fail(
		        RV_ERR_INVALID,
		        "witness: batch %lld, queue_capacity %lld, batch_ms %lld, retain_ms %lld: "
		        "out of bounds",
		        (long long)o->batch, (long long)o->queue_capacity, (long long)o->batch_ms,
		        (long long)o->retain_ms);
	return RV_OK;
}

static void destroy(rv_witness *w) {
	for (rv_witness_item *item = w->head, *next; item != NULL; item = next) {
		next = item->next;
		rv_free(item);
	}
	pthread_mutex_destroy(&w->lock);
	pthread_mutex_destroy(&w->chain_lock);
	pthread_cond_destroy(&w->work);
	pthread_cond_destroy(&w->progress);
	rv_free(w);
}

rv_status rv_witness_open(rv_witness **out, rv_store *store, const rv_witness_options *options) {
	rv_witness_options o = options ? *options : rv_witness_defaults();
	RV_TRY(check_options(&o));
	opening opened = {.store = store};
	RV_TRY(rv_store_read(store, read_chain, &opened));
	rv_witness *w = NULL;
	RV_TRY(RV_ALLOC(&w, 1, "witness log"));
	w->store = store;
	w->options = o;
	w->chain = opened.chain;
	w->dropped_before = opened.chain.dropped;
	w->retired_at = INT64_MIN;
	pthread_condattr_t monotonic;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_mutex_init(&w->lock, NULL);
	pthread_mutex_init(&w->chain_lock, NULL);
	pthread_cond_init(&w->work, &monotonic);
	pthread_cond_init(&w->progress, NULL);
	pthread_condattr_destroy(&monotonic);
	if (!rv_store_is_read_only(store)) {
		int rc = pthread_create(&w->thread, NULL, rv_witness_write_main, w);
		if (rc != 0) {
			destroy(w);
			return rv_fail(RV_ERR_LIMIT, "%s: starting the witness thread: %s",
			               rv_store_path(store), strerror(rc));
		}
		w->has_thread = 1;
	}
	*out = w;
	return RV_OK;
}

rv_status rv_witness_close(rv_witness *w) {
	if (w == NULL)
		return RV_OK;
	rv_status st = RV_OK;
	if (w->has_thread) {
		st = rv_witness_flush(w);
		pthread_mutex_lock(&w->lock);
		w->stopping = 1;
		pthread_cond_signal(&w->work);
		pthread_mutex_unlock(&w->lock);
		pthread_join(w->thread, NULL);
	}
	destroy(w);
	return st;
}
