/* Transfer across sessions: what helped in one is offered to those like it, by walking the graph.
 *
 * session --pattern--> its own good patterns --similar--> patterns like them, of other sessions: these
 * become pattern edges of the session, weighing what the walk says times the pattern's quality. Edges
 * that are there already stay as learnt. */
#include "base/mem.h"
#include "learn/sona_deep.h"
#include "learn/sona_internal.h"
#include "memory/id_map.h"

#include <stdlib.h>
#include <string.h>

enum { NEAR = 4, HITS = 256 };
#define NEAR_SIMILARITY 0.7f

typedef struct pattern {
	char id[RV_UUID_TEXT];
	char session[RV_EDGE_MAX_ID + 1]; /* "": of none */
	float quality;
} pattern;

typedef struct transfer {
	rv_deep *d;
	pattern *patterns; /* the good ones */
	float *embeddings; /* [n, RV_EMBEDDING_DIM] */
	int64_t n, cap;
	rv_id_map by_id;
	int64_t n_sessions, n_offered;
} transfer;

static rv_status gather(void *user, const rv_bank_pattern *p) {
	transfer *t = user;
	if (p->t->verdict == RV_VERDICT_FAILURE)
		return RV_OK;
	if (t->n == t->cap) {
		int64_t cap = t->cap ? 2 * t->cap : 256;
		RV_TRY(RV_GROW(&t->patterns, t->cap, cap, "patterns"));
		RV_TRY(RV_GROW(&t->embeddings, t->cap * RV_EMBEDDING_DIM, cap * RV_EMBEDDING_DIM,
		               "embeddings"));
		t->cap = cap;
	}
	pattern *one = &t->patterns[t->n];
	const char *session = p->t->session_id;
	*one = (pattern){.quality = p->quality};
	memcpy(one->id, p->t->trajectory_id, sizeof one->id);
	if (session != NULL && strnlen(session, sizeof one->session) < sizeof one->session)
		strcpy(one->session, session);
	memcpy(t->embeddings + t->n++ * RV_EMBEDDING_DIM, p->embedding,
	       RV_EMBEDDING_DIM * sizeof(float));
	return RV_OK;
}

static int has_edge(const transfer *t, const char *source, const char *target, rv_edge_kind kind) {
	float weight;
	return rv_edges_weight(t->d->edges, source, target, kind, &weight) == RV_OK;
}

static rv_status add_edge(const transfer *t, const char *source, const char *target, rv_edge_kind kind,
                          float weight) {
	const rv_edge edge = {source, target, kind, weight < 1 ? weight : 1};
	if (strcmp(source, target) == 0 || has_edge(t, source, target, kind))
		return RV_OK;
	return rv_edges_set(t->d->edges, &edge);
}

/* Its session leads to the pattern, and it to those like it, where nothing does yet. */
static rv_status connect(transfer *t, int64_t at) {
	const pattern *p = &t->patterns[at];
	rv_bank_query query = rv_bank_query_defaults();
	rv_bank_hit hits[NEAR + 1];
	int64_t n = 0;
	if (p->session[0] == 0)
		return RV_OK;
	RV_TRY(add_edge(t, p->session, p->id, RV_EDGE_PATTERN, p->quality));
	query.k = NEAR + 1; /* itself too */
	query.min_quality = t->d->min_quality;
	RV_TRY(rv_bank_search(t->d->bank, t->embeddings + at * RV_EMBEDDING_DIM, &query, hits, &n));
	for (int64_t i = 0; i < n; i++)
		if (hits[i].similarity >= NEAR_SIMILARITY)
			RV_TRY(add_edge(t, p->id, hits[i].trajectory_id, RV_EDGE_SIMILAR,
			                hits[i].similarity));
	return RV_OK;
}

/* What is in reach of a session and is another's good pattern; most within reach first. */
static rv_status offer(transfer *t, const char *session) {
	rv_walk walk = rv_walk_defaults();
	rv_walk_hit hits[HITS];
	size_t n = 0;
	int64_t offered = 0;
	walk.hops = t->d->options->transfer_hops;
	RV_TRY(rv_edges_walk(t->d->edges, &walk, &session, 1, hits, HITS, &n));
	for (size_t i = 0; i < n && offered < t->d->options->transfer_per_session; i++) {
		int32_t at = rv_id_map_get(&t->by_id, hits[i].id);
		if (at < 0 || strcmp(t->patterns[at].session, session) == 0 ||
		    has_edge(t, session, hits[i].id, RV_EDGE_PATTERN))
			continue;
		RV_TRY(add_edge(t, session, hits[i].id, RV_EDGE_PATTERN,
		                hits[i].score * t->patterns[at].quality));
		offered++;
	}
	t->n_offered += offered;
	return RV_OK;
}

static int by_session(const void *a, const void *b, void *user) {
	const pattern *patterns = user;
	return strcmp(patterns[*(const int64_t *)a].session, patterns[*(const int64_t *)b].session);
}

static int is_over(const transfer *t) {
	return t->d->stop != NULL && t->d->stop(t->d->user);
}

static rv_status offer_all(transfer *t) {
	int64_t *order = NULL;
	rv_status st = RV_ALLOC(&order, t->n, "patterns by session");
	for (int64_t i = 0; st == RV_OK && i < t->n; i++)
		order[i] = i;
	if (st == RV_OK && t->n > 0)
		qsort_r(order, (size_t)t->n, sizeof *order, by_session, t->patterns);
	const char *last = "";
	for (int64_t i = 0; i < t->n && st == RV_OK && !is_over(t); i++) {
		const char *session = t->patterns[order[i]].session;
		if (strcmp(session, last) == 0)
			continue;
		last = session;
		t->n_sessions++;
		st = offer(t, session);
	}
	rv_free(order);
	return st;
}

static rv_status run(transfer *t) {
	rv_deep *d = t->d;
	RV_TRY(rv_bank_visit(d->bank, d->now_ms, d->min_quality, gather, t));
	RV_TRY(rv_id_map_reserve(&t->by_id, (size_t)t->n));
	for (int64_t i = 0; i < t->n; i++)
		rv_id_map_put(&t->by_id, t->patterns[i].id, (int32_t)i);
	for (int64_t i = 0; i < t->n && !is_over(t); i++)
		RV_TRY(connect(t, i));
	RV_TRY(offer_all(t));
	return rv_edges_flush(d->edges);
}

rv_status rv_deep_transfer(rv_deep *d, rv_sona_part_report *report) {
	transfer t = {.d = d};
	if (d->bank == NULL || d->edges == NULL)
		return rv_sona_say(report, RV_PART_NA, "no store, no graph");
	report->before = (double)rv_edges_count(d->edges);
	rv_status st = run(&t);
	rv_id_map_deinit(&t.by_id);
	rv_free(t.patterns);
	rv_free(t.embeddings);
	RV_TRY(st);
	report->after = (double)rv_edges_count(d->edges);
	report->n = t.n_offered;
	return rv_sona_say(report, report->after != report->before ? RV_PART_DONE : RV_PART_NOTHING,
	                   "%lld good patterns, %lld sessions: %lld patterns offered to another "
	                   "session, %.0f edges more",
	                   (long long)t.n, (long long)t.n_sessions, (long long)t.n_offered,
	                   report->after - report->before);
}
