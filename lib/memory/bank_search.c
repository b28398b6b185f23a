/* Searching the bank: the nearest by the index, put right by the stored vectors. */
#include "base/mem.h"
#include "memory/bank_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BY_SCORE_WIDER 4 /* candidates for each hit that is ordered by score */
#define CODES_WIDER 2    /* candidates for each hit that codes find, and some */
#define CODES_MORE 16

rv_bank_query rv_bank_query_defaults(void) {
	return (rv_bank_query){.k = 10, .min_quality = -1};
}

typedef struct wanted {
	rv_bank *bank;
	float min_quality;
	unsigned verdicts;
	int64_t since, now;
} wanted;

static int is_wanted(void *user, uint64_t id) {
	const wanted *w = user;
	const rv_bank_entry *e = rv_bank_entry_find(w->bank, (int64_t)id);
	return e != NULL && (w->verdicts == 0 || (w->verdicts >> e->verdict & 1)) &&
	       e->created_at >= w->since && rv_bank_decayed(w->bank, e, w->now) >= w->min_quality;
}

typedef struct found {
	uint64_t *ids;
	float *distances;
	rv_bank_hit *hits;
} found;

/* Under the lock for reading. */
static rv_status search(rv_bank *bank, const float *query, const rv_bank_query *how, int64_t k,
                        found *f, int64_t *n) {
	wanted w = {.bank = bank,
	            .min_quality =
	                    how->min_quality < 0 ? bank->options.quality_threshold : how->min_quality,
	            .verdicts = how->verdicts,
	            .since = how->since,
	            .now = rv_store_now_ms(bank->store)};
	const rv_hnsw_filter filter = {is_wanted, &w};
	int any = w.min_quality <= 0 && w.verdicts == 0 && w.since <= 0;
	int64_t got = 0;
	RV_TRY(rv_hnsw_search(bank->index, query, k, how->ef, any ? NULL : &filter, f->ids,
	                      f->distances, &got));
	*n = 0;
	for (int64_t i = 0; i < got; i++) {
		const rv_bank_entry *e = rv_bank_entry_find(bank, (int64_t)f->ids[i]);
		if (e == NULL) /* its row is gone, its node just about to be */
			continue;
		rv_bank_hit *hit = &f->hits[(*n)++];
		*hit = (rv_bank_hit){.key = e->key,
		                     .created_at = e->created_at,
		                     .similarity = 1 - f->distances[i],
		                     .quality = rv_bank_decayed(bank, e, w.now),
		                     .weight = e->weight,
		                     .verdict = (rv_trajectory_verdict)e->verdict,
		                     .source = (rv_source)e->source};
		rv_bank_id_text(e->id, hit->trajectory_id);
	}
	return RV_OK;
}

static rv_status search_into(rv_bank *bank, const float *query, const rv_bank_query *how, int64_t k,
                             found *f, int64_t *n) {
	RV_TRY(RV_ALLOC(&f->ids, k, "ids"));
	RV_TRY(RV_ALLOC(&f->distances, k, "distances"));
	RV_TRY(RV_ALLOC(&f->hits, k, "hits"));
	pthread_rwlock_rdlock(&bank->lock);
	rv_status st = search(bank, query, how, k, f, n);
	pthread_rwlock_unlock(&bank->lock);
	return st;
}

/* ---- exact similarities, from the rows ---- */

typedef struct reranking {
	rv_bank_hit *hits;
	int64_t n;
	const float *query;
	double query_length;
	float *vector;
} reranking;

static rv_status rerank(void *user, rv_db *db) {
	reranking *r = user;
	int64_t kept = 0;
	for (int64_t i = 0; i < r->n; i++) {
		rv_status st = rv_bank_row_embedding(db, r->hits[i].key, r->vector);
		if (st == RV_ERR_NOT_FOUND) /* removed meanwhile */
			continue;
		RV_TRY(st);
		double dot = 0, square = 0;
		for (int f = 0; f < RV_EMBEDDING_DIM; f++) {
			dot += (double)r->query[f] * (double)r->vector[f];
			square += (double)r->vector[f] * (double)r->vector[f];
		}
		r->hits[i].similarity = (float)(dot / (r->query_length * sqrt(square)));
		r->hits[kept++] = r->hits[i];
	}
	r->n = kept;
	return RV_OK;
}

static rv_status put_right(rv_bank *bank, const float *query, rv_bank_hit *hits, int64_t *n) {
	reranking r = {.hits = hits, .n = *n, .query = query};
	double square = 0;
	for (int f = 0; f < RV_EMBEDDING_DIM; f++)
		square += (double)query[f] * (double)query[f];
	r.query_length = sqrt(square);
	RV_TRY(RV_ALLOC(&r.vector, RV_EMBEDDING_DIM, "vector"));
	rv_status st = rv_store_read(bank->store, rerank, &r);
	rv_free(r.vector);
	*n = r.n;
	return st;
}

static int nearer_first(const void *a, const void *b) {
	const rv_bank_hit *x = a, *y = b;
	if (x->similarity != y->similarity)
		return x->similarity > y->similarity ? -1 : 1;
	return x->key < y->key ? -1 : x->key > y->key;
}

static int better_first(const void *a, const void *b) {
	const rv_bank_hit *x = a, *y = b;
	float p = x->similarity * x->quality, q = y->similarity * y->quality;
	return p != q ? (p > q ? -1 : 1) : nearer_first(a, b);
}

static int64_t candidates(rv_bank *bank, const rv_bank_query *q) {
	int64_t n = q->order == RV_BANK_BY_SCORE ? BY_SCORE_WIDER * q->k : q->k;
	int64_t most = rv_bank_count(bank) + 1;
	if (bank->codec != NULL)
		n = CODES_WIDER * n + CODES_MORE;
	return n < most ? n : most;
}

rv_status rv_bank_search(rv_bank *bank, const float *query, const rv_bank_query *how, rv_bank_hit *hits,
                         int64_t *n) {
	const rv_bank_query q = how ? *how : rv_bank_query_defaults();
	if (q.k < 1 || q.k > RV_BANK_MAX_CAPACITY || q.min_quality > 1)
		return rv_fail(RV_ERR_INVALID, "bank search: k %lld, min_quality %g: out of bounds",
		               (long long)q.k, (double)q.min_quality);
	RV_TRY(rv_bank_check_whole(bank));
	int64_t got = 0;
	found f = {0};
	rv_status st = search_into(bank, query, &q, candidates(bank, &q), &f, &got);
	if (st == RV_OK && bank->codec != NULL && got > 0)
		st = put_right(bank, query, f.hits, &got);
	if (st == RV_OK && got > 0) {
		qsort(f.hits, (size_t)got, sizeof *f.hits,
		      q.order == RV_BANK_BY_SCORE ? better_first : nearer_first);
		got = got < q.k ? got : q.k;
		memcpy(hits, f.hits, (size_t)got * sizeof *hits);
	}
	if (st == RV_OK)
		*n = got;
	rv_free(f.ids);
	rv_free(f.distances);
	rv_free(f.hits);
	return st;
}
