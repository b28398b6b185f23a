/* The background loop's parts that need no training: what patterns are like, consolidation. */
#include "base/mem.h"
#include "learn/sona_internal.h"

#include <math.h>
#include <string.h>

/* ---- index: edges from new patterns to those they are like ---- */

typedef struct fresh {
	rv_sona *s;
	char (*ids)[RV_UUID_TEXT]; /* [RV_SONA_FRESH] */
	int64_t *keys;
	int64_t n;
} fresh;

static rv_status take_row(void *user, const rv_db_row *row) {
	fresh *f = user;
	const char *id = rv_row_text(row, 1);
	if (!id || strlen(id) >= RV_UUID_TEXT)
		return rv_row_damaged(row, "its id");
	memcpy(f->ids[f->n], id, strlen(id) + 1);
	f->keys[f->n++] = rv_row_int(row, 0);
	return RV_OK;
}

static rv_status read_fresh(void *user, rv_db *db) {
	fresh *f = user;
	return RV_DB_QUERY(db, "trajectories", take_row, f,
	                   "SELECT key, trajectory_id FROM trajectories"
	                   " WHERE variant = ?1 AND key > ?2 ORDER BY key LIMIT ?3",
	                   RV_TEXT(rv_bank_variant_name(f->s->o.variant)), RV_INT(f->s->state.indexed),
	                   RV_INT(RV_SONA_FRESH));
}

static rv_status link_pattern(rv_sona *s, const char *id, int64_t *n_edges) {
	const float alike = 0.5f; /* less is no likeness */
	rv_bank_hit hits[RV_SONA_NEAR + 1];
	rv_bank_query how = rv_bank_query_defaults();
	rv_trajectory t;
	int64_t n = 0;
	rv_status st = rv_bank_get(s->bank, id, &t);
	if (st == RV_ERR_NOT_FOUND)
		return RV_OK; /* gone since: the bank was full */
	RV_TRY(st);
	float vector[RV_EMBEDDING_DIM];
	st = rv_trajectory_embedding(&t, id, vector);
	rv_trajectory_deinit(&t);
	how.k = RV_SONA_NEAR + 1;
	how.min_quality = 0;
	if (st == RV_OK)
		st = rv_bank_search(s->bank, vector, &how, hits, &n);
	for (int64_t i = 0; st == RV_OK && i < n; i++) {
		float likeness = hits[i].similarity > 1 ? 1 : hits[i].similarity;
		if (likeness < alike || strcmp(hits[i].trajectory_id, id) == 0)
			continue;
		st = rv_edges_set(s->edges,
		                  &(rv_edge){id, hits[i].trajectory_id, RV_EDGE_SIMILAR, likeness});
		*n_edges += st == RV_OK;
	}
	return st;
}

static rv_status link_fresh(rv_sona_pass *p, fresh *f, rv_sona_part_report *r, int64_t *n_edges) {
	RV_TRY(RV_ALLOC(&f->ids, RV_SONA_FRESH, "ids"));
	RV_TRY(RV_ALLOC(&f->keys, RV_SONA_FRESH, "keys"));
	RV_TRY(rv_store_read(f->s->store, read_fresh, f));
	for (; r->n < f->n && !rv_sona_pass_over(p); r->n++) {
		RV_TRY(link_pattern(f->s, f->ids[r->n], n_edges));
		f->s->state.indexed = f->keys[r->n];
	}
	return RV_OK;
}

static rv_status part_index(rv_sona_pass *p, rv_sona_part_report *r) {
	fresh f = {.s = p->s};
	int64_t n_edges = 0;
	if (!p->s->bank)
		return rv_sona_say(r, RV_PART_NA, "no store, no patterns");
	rv_status st = link_fresh(p, &f, r, &n_edges);
	rv_free(f.ids);
	rv_free(f.keys);
	RV_TRY(st);
	r->after = (double)rv_bank_count(p->s->bank);
	return rv_sona_say(r, r->n ? RV_PART_DONE : RV_PART_NOTHING,
	                   "%lld new patterns, %lld edges to what they are like; %lld patterns in all",
	                   (long long)r->n, (long long)n_edges, (long long)r->after);
}

/* ---- consolidate: MicroLoRA into BaseLoRA ---- */

/* Of what consolidation leaves: base_rank, or that of an adapter which serving began with. */
static int64_t rank_of(const rv_sona *s, const rv_adapter *base) {
	int64_t rank = base ? rv_adapter_max_rank(base) : 0;
	return rank > s->o.base_rank ? rank : s->o.base_rank;
}

/* A sum of products, truncated. MicroLoRA becomes a part of the base first, which changes nothing of
 * what is computed, and begins anew: what it learns meanwhile is not lost. */
static rv_status by_svd(rv_sona *s, rv_adapter **base, rv_consolidate_report *report) {
	rv_adapter *before = NULL, *folded = NULL;
	const double one = 1;
	RV_TRY(rv_instant_snapshot(s->instant, &before, NULL));
	rv_status st = rv_instant_fold(s->instant, rv_sona_seed(s), &folded);
	if (st == RV_OK)
		st = rv_consolidate(base, RV_CONSOLIDATE_SVD, s->model, "base", &folded, &one, 1,
		                    rank_of(s, before), report);
	rv_adapter_release(before);
	rv_adapter_release(folded);
	return st;
}

/* A little of MicroLoRA's factors, which stays as it is. */
static rv_status by_ema(rv_sona *s, rv_adapter **base, rv_consolidate_report *report) {
	rv_adapter *both[2] = {0};
	const double weights[2] = {s->o.ema_keep, 1 - s->o.ema_keep};
	RV_TRY(rv_instant_snapshot(s->instant, &both[0], &both[1]));
	int first = both[0] == NULL;
	rv_status st = rv_consolidate(base, RV_CONSOLIDATE_EMA, s->model, "base", both + first,
	                              weights + first, 2 - first, rank_of(s, both[0]), report);
	rv_adapter_release(both[0]);
	rv_adapter_release(both[1]);
	return st;
}

static rv_status part_consolidate(rv_sona_pass *p, rv_sona_part_report *r) {
	rv_sona *s = p->s;
	rv_instant_stats stats;
	rv_consolidate_report report;
	rv_adapter *base = NULL;
	rv_instant_get_stats(s->instant, &stats);
	if (!(stats.norm > 0))
		return rv_sona_say(r, RV_PART_NOTHING, "MicroLoRA has learnt nothing since");
	rv_status st = s->o.consolidation == RV_CONSOLIDATE_SVD ? by_svd(s, &base, &report)
	                                                        : by_ema(s, &base, &report);
	if (st == RV_ERR_NUMERIC)
		return rv_sona_say(r, RV_PART_UNDONE, "undone: %s", rv_error_message());
	if (st == RV_OK)
		st = rv_instant_set_base(s->instant, base);
	rv_adapter_release(base);
	RV_TRY(st);
	s->state.ewc_is_stale = !s->state.ewc_whole;
	r->n = report.n_matrices;
	r->before = stats.norm;
	r->after = report.error;
	return rv_sona_say(r, RV_PART_DONE,
	                   "%s: MicroLoRA of norm %.4g into %lld matrices of rank %lld, norm %.4g, "
	                   "error %.3g",
	                   rv_consolidation_names[s->o.consolidation], stats.norm,
	                   (long long)report.n_matrices, (long long)report.rank, report.norm,
	                   report.error);
}

rv_sona_part_fn *const rv_sona_background_parts[RV_BACKGROUND_PARTS] = {
        [RV_BACKGROUND_INDEX] = part_index,
        [RV_BACKGROUND_ROUTER] = rv_sona_part_router,
        [RV_BACKGROUND_CONSOLIDATE] = part_consolidate,
        [RV_BACKGROUND_EWC] = rv_sona_part_ewc,
        [RV_BACKGROUND_TUNE] = rv_sona_part_tune,
        [RV_BACKGROUND_POLICIES] = rv_sona_part_policies,
};
