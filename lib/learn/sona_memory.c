/* What SONA reads from the store and writes to it: patterns, edges, sessions, witness entries. */
#include "base/file.h"
#include "base/mem.h"
#include "base/sysinfo.h"
#include "learn/sona_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { DRAIN_BATCH = 64 };

/* ---- open, close ---- */

rv_status rv_sona_memory_open(rv_sona *s, const char *dir) {
	rv_store_options how = rv_store_defaults();
	rv_bank_options bank = rv_bank_defaults(s->o.variant);
	rv_witness_options witness = rv_witness_defaults();
	witness.archive = 1; /* retention takes nothing that the deep loop would archive */
	how.key_file = s->o.key_file;
	how.plaintext = s->o.plaintext;
	how.read_only = s->o.read_only;
	how.clock = s->o.clock;
	how.seeded = s->o.seeded;
	how.seed = s->o.seed;
	how.log = s->o.log;
	RV_TRY(rv_store_open(&s->store, dir, &how));
	RV_TRY(rv_bank_open(&s->bank, s->store, &bank));
	RV_TRY(rv_edges_open(&s->edges, s->store, NULL));
	RV_TRY(rv_policies_open(&s->policies, s->store, NULL));
	RV_TRY(rv_sessions_open(&s->sessions, s->store, NULL));
	if (!s->o.read_only)
		RV_TRY(rv_witness_open(&s->witness, s->store, &witness));
	if (s->o.embedder) {
		char hex[65];
		RV_TRY(rv_model_sha256(rv_embedder_model(s->o.embedder), hex));
		hex[16] = 0;
		RV_TRY(rv_bank_bind_embedder(s->bank, hex));
	}
	return RV_OK;
}

static rv_status first(rv_status a, rv_status b) {
	return a != RV_OK ? a : b;
}

rv_status rv_sona_memory_close(rv_sona *s) {
	rv_status st = rv_witness_close(s->witness);
	st = first(st, rv_sessions_close(s->sessions));
	st = first(st, rv_policies_close(s->policies));
	st = first(st, rv_edges_close(s->edges));
	st = first(st, rv_bank_close(s->bank));
	return first(st, rv_store_close(s->store));
}

/* ---- before a request ---- */

/* Count sketch: component i of a vector goes, with a sign, into feature i mod 128 (Charikar, Chen,
 * Farach-Colton 2002): inner products stay as they are on average. */
static void sketch(const float *embedding, float *query) {
	memset(query, 0, RV_FASTGRNN_QUERY * sizeof *query);
	for (uint32_t i = 0; i < RV_EMBEDDING_DIM; i++) {
		uint32_t h = (i + 1) * 2654435769u;
		query[i % RV_FASTGRNN_QUERY] += h >> 31 ? embedding[i] : -embedding[i];
	}
}

static int embed(rv_sona *s, rv_sona_record *r, const rv_sona_request *request) {
	if (request->query_embedding) {
		memcpy(r->embedding, request->query_embedding, sizeof r->embedding);
		return 1;
	}
	if (!s->o.embedder || rv_embedder_dim(s->o.embedder) != RV_EMBEDDING_DIM)
		return 0;
	pthread_mutex_lock(&s->embed);
	rv_status st = rv_embed_text(s->o.embedder, r->task, strlen(r->task), r->embedding);
	pthread_mutex_unlock(&s->embed);
	if (st != RV_OK)
		rv_sona_warn(s, "embedding of a request");
	return st == RV_OK;
}

static double milliseconds_since(int64_t start_ns) {
	return 1e-6 * (double)(rv_now_ns() - start_ns);
}

void rv_sona_look_up(rv_sona *s, rv_sona_record *r, const rv_sona_request *request,
                     double *mean_quality) {
	rv_bank_hit hits[RV_SONA_HITS];
	rv_bank_query how = rv_bank_query_defaults();
	int64_t n = 0, start = rv_now_ns();
	*mean_quality = NAN;
	r->has_embedding = embed(s, r, request);
	r->embed_ms = (float)milliseconds_since(start);
	if (!r->has_embedding)
		return;
	sketch(r->embedding, r->features.query);
	if (!s->bank)
		return;
	start = rv_now_ns();
	how.k = RV_SONA_HITS;
	how.min_quality = 0; /* bad ones speak too: against what was learnt from the like */
	if (rv_bank_search(s->bank, r->embedding, &how, hits, &n) != RV_OK)
		rv_sona_warn(s, "patterns of a request");
	double sum = 0, weight = 0;
	for (int64_t i = 0; i < n; i++) {
		double w = hits[i].similarity > 0 ? (double)hits[i].similarity : 0;
		memcpy(r->hits[r->n_hits++], hits[i].trajectory_id, RV_UUID_TEXT);
		sum += w * (double)hits[i].quality;
		weight += w;
	}
	if (weight > 0)
		*mean_quality = sum / weight;
	r->search_ms = (float)milliseconds_since(start);
}

/* ---- after it ---- */

/* Edges are an asset, not a duty: one that cannot be written is logged. */
static int64_t reinforce(rv_sona *s, const char *from, const char *to, rv_edge_kind kind, int is_good) {
	if (!*from || !*to || strcmp(from, to) == 0)
		return 0;
	if (rv_edges_reinforce(s->edges, from, to, kind, is_good) == RV_OK)
		return 1;
	rv_sona_warn(s, "edge");
	return 0;
}

int64_t rv_sona_reinforce(rv_sona *s, const rv_sona_record *r, const char *before, int is_good) {
	int64_t n = 0;
	if (!s->edges || s->o.read_only)
		return 0;
	for (int i = 0; i < r->n_hits; i++) {
		n += reinforce(s, r->hits[i], r->id, RV_EDGE_PATTERN, is_good);
		n += reinforce(s, r->session_id, r->hits[i], RV_EDGE_PATTERN, is_good);
	}
	n += reinforce(s, r->session_id, r->id, RV_EDGE_PATTERN, is_good);
	if (before)
		n += reinforce(s, before, r->id, RV_EDGE_SESSION, is_good);
	return n;
}

static const char *base_name(const char *path) {
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

static const char *or_null(const char *text) {
	return text[0] ? text : NULL;
}

void rv_sona_bear_witness(rv_sona *s, const rv_sona_record *r, const rv_sona_outcome *outcome) {
	rv_witness_entry e = rv_witness_entry_defaults();
	if (!s->witness)
		return;
	e.request_id = r->id;
	e.session_id = or_null(r->session_id);
	e.user_id = or_null(r->user_id);
	e.query_embedding = r->has_embedding ? r->embedding : NULL;
	e.model_used = base_name(rv_model_path(s->model));
	e.routing_decision.model =
	        r->routed.confidence > 0 ? rv_fastgrnn_slot_names[r->routed.slot] : e.model_used;
	e.routing_decision.confidence = r->routed.confidence;
	e.routing_decision.temperature = r->routed.temperature;
	e.routing_decision.top_p = r->routed.top_p;
	memcpy(e.routing_decision.model_probs, r->routed.slots, sizeof r->routed.slots);
	e.quality_score = (float)r->quality;
	e.latency_ms[RV_LATENCY_EMBEDDING] = (double)r->embed_ms;
	e.latency_ms[RV_LATENCY_RETRIEVAL] = (double)r->search_ms;
	e.latency_ms[RV_LATENCY_GENERATION] = outcome->total_ms;
	e.latency_ms[RV_LATENCY_TOTAL] = milliseconds_since(r->begun_ns);
	e.error = outcome->error;
	e.timestamp = r->begun_ms;
	if (rv_witness_append(s->witness, &e) != RV_OK)
		rv_sona_warn(s, "witness entry");
}

/* ---- rated requests into the bank ---- */

/* What is stored of a request: copied, because nothing waits for a disk under a lock. */
typedef struct item {
	char id[RV_UUID_TEXT];
	int is_stored;
	rv_trajectory t;
	rv_action actions[2];
	char *task, *action, *correction, *metadata;
	char session_id[RV_SESSION_MAX_ID + 1], user_id[RV_SESSION_MAX_ID + 1];
	float embedding[RV_EMBEDDING_DIM];
	rv_fastgrnn_input features;
} item;

static void item_deinit(item *it) {
	rv_free(it->task);
	rv_free(it->action);
	rv_free(it->correction);
	if (it->metadata)
		free(it->metadata);
}

static json_t *ids(const int32_t *tokens, int64_t n) {
	json_t *array = json_array();
	for (int64_t i = 0; i < n; i++)
		json_array_append_new(array, json_integer(tokens[i]));
	return array;
}

/* Rating, plan and tokens, so that another process can learn from them too. */
static char *metadata(rv_sona *s, const rv_sona_record *r, int32_t *buffer) {
	rv_served served;
	json_t *o = json_pack("{s:s, s:f, s:s, s:I}", "quality_source",
	                      rv_quality_source_name(r->source), "rated", r->quality, "kv_policy",
	                      r->plan.kv_policy, "tail_tokens", (json_int_t)r->plan.tail_tokens);
	if (isfinite(r->likelihood))
		json_object_set_new(o, "likelihood", json_real(r->likelihood));
	if (r->number && rv_trajectory_ring_read(s->ring, r->number, &served, buffer) == RV_OK) {
		json_object_set_new(o, "prompt", ids(served.prompt, served.n_prompt));
		json_object_set_new(o, "answer", ids(served.answer, served.n_answer));
		if (served.n_correction > 0)
			json_object_set_new(o, "correction",
			                    ids(served.correction, served.n_correction));
	}
	char *text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	return text;
}

static rv_trajectory_verdict verdict_of(const rv_sona *s, double quality) {
	if (quality >= s->o.instant_how.threshold)
		return RV_VERDICT_SUCCESS;
	return quality > 0 ? RV_VERDICT_PARTIAL : RV_VERDICT_FAILURE;
}

/* An answer that was put right is worth keeping as what it became. */
static rv_status item_of(rv_sona *s, const rv_sona_record *r, int32_t *buffer, item *it) {
	double quality = r->correction ? 1 : r->quality;
	*it = (item){.is_stored = r->is_stored, .features = r->features};
	memcpy(it->id, r->id, sizeof it->id);
	memcpy(it->session_id, r->session_id, sizeof it->session_id);
	memcpy(it->user_id, r->user_id, sizeof it->user_id);
	memcpy(it->embedding, r->embedding, sizeof it->embedding);
	RV_TRY(rv_strdup(&it->task, r->task));
	RV_TRY(rv_strdup(&it->action, r->action));
	if (r->correction)
		RV_TRY(rv_strdup(&it->correction, r->correction));
	it->metadata = metadata(s, r, buffer);
	it->actions[0] = (rv_action){it->action, (float)r->quality};
	it->actions[1] = (rv_action){it->correction, 1};
	it->t = rv_trajectory_defaults();
	memcpy(it->t.trajectory_id, r->id, sizeof r->id);
	it->t.variant = s->o.variant;
	it->t.task = it->task;
	it->t.actions = it->actions;
	it->t.n_actions = r->correction ? 2 : 1;
	it->t.final_quality = (float)quality;
	it->t.metadata = it->metadata;
	it->t.verdict = verdict_of(s, quality);
	it->t.routing_features = it->features.query;
	it->t.n_routing_features = RV_SONA_FEATURES;
	it->t.model_index = r->model_index;
	it->t.created_at = r->begun_ms;
	return RV_OK;
}

/* Pointers into the item itself, once it stays where it is. */
static void settle(item *it) {
	it->t.request_id = it->id;
	it->t.session_id = or_null(it->session_id);
	it->t.query_embedding = it->embedding;
	it->t.actions = it->actions;
	it->t.routing_features = (const float *)(const void *)&it->features;
}

/* The next rated ones; those without a vector cannot be found by one and stay in the ring alone. */
static rv_status take_batch(rv_sona *s, item *items, int *n) {
	const rv_ring_options *ring = rv_trajectory_ring_options(s->ring);
	int32_t *buffer;
	rv_status st = RV_OK;
	*n = 0;
	RV_TRY(RV_ALLOC(&buffer, ring->max_tokens + ring->max_correction, "tokens"));
	pthread_mutex_lock(&s->lock);
	for (int64_t i = 0; st == RV_OK && i < s->n_records && *n < DRAIN_BATCH; i++) {
		rv_sona_record *r = s->records[i];
		if (r->state != RV_RECORD_RATED)
			continue;
		r->state = r->has_embedding ? RV_RECORD_STORING : RV_RECORD_STORED;
		if (r->has_embedding)
			st = item_of(s, r, buffer, &items[(*n)++]);
	}
	pthread_mutex_unlock(&s->lock);
	rv_free(buffer);
	for (int i = 0; i < *n; i++)
		settle(&items[i]);
	return st;
}

/* Rated again while it was written: it stays to be written again. */
static void mark(rv_sona *s, const item *it, int stored) {
	pthread_mutex_lock(&s->lock);
	rv_sona_record *r = rv_sona_record_find(s, it->id);
	if (r && r->state == RV_RECORD_STORING)
		r->state = stored ? RV_RECORD_STORED : RV_RECORD_RATED;
	if (r && stored)
		r->is_stored = 1;
	pthread_mutex_unlock(&s->lock);
}

static rv_status count_turn(rv_sona *s, const item *it, int64_t now) {
	rv_session *known = NULL;
	if (!it->session_id[0])
		return RV_OK;
	rv_status st = rv_sessions_get(s->sessions, it->session_id, &known);
	if (st != RV_OK && st != RV_ERR_NOT_FOUND)
		return st;
	rv_session next =
	        known ? *known
	              : (rv_session){.session_id = it->session_id, .user_id = or_null(it->user_id)};
	next.context_embedding = it->embedding;
	next.turn_count++;
	next.last_active = now;
	st = rv_sessions_put(s->sessions, &next);
	rv_free(known);
	return st;
}

static rv_status store_batch(rv_sona *s, item *items, int n) {
	rv_trajectory trajectories[DRAIN_BATCH];
	rv_status st = RV_OK, turns = RV_OK;
	for (int i = 0; st == RV_OK && i < n; i++) {
		trajectories[i] = items[i].t;
		if (items[i].is_stored) {
			st = rv_bank_remove(s->bank, items[i].id);
			st = st == RV_ERR_NOT_FOUND ? RV_OK : st;
		}
	}
	if (st == RV_OK && n > 0)
		st = rv_bank_add(s->bank, trajectories, n, NULL);
	for (int i = 0; i < n; i++) {
		mark(s, &items[i], st == RV_OK);
		if (st == RV_OK && !items[i].is_stored)
			turns = first(turns, count_turn(s, &items[i], rv_sona_now(s)));
	}
	return first(st, turns);
}

rv_status rv_sona_drain(rv_sona *s, int64_t *n_stored) {
	item *items;
	int n = DRAIN_BATCH;
	rv_status st = RV_OK;
	if (n_stored)
		*n_stored = 0;
	if (!s->bank || s->o.read_only)
		return RV_OK;
	RV_TRY(RV_ALLOC(&items, DRAIN_BATCH, "trajectories"));
	pthread_mutex_lock(&s->drain);
	while (st == RV_OK && n == DRAIN_BATCH) {
		st = take_batch(s, items, &n);
		if (st == RV_OK)
			st = store_batch(s, items, n);
		else
			for (int i = 0; i < n; i++)
				mark(s, &items[i], 0);
		for (int i = 0; i < n; i++)
			item_deinit(&items[i]);
		if (n_stored && st == RV_OK)
			*n_stored += n;
	}
	pthread_mutex_unlock(&s->drain);
	rv_free(items);
	return st;
}
