/* Upkeep of the graph: weights decay, edges follow ids that became others, weak ones go. It runs on the
 * store's writer thread, so that no other write comes between the change in memory and its commit. */
#include "base/mem.h"
#include "memory/edges_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define DECAYED_AT "edges_decayed_at" /* in the table meta */
#define GONE 1e-6f                    /* weights below are none */

rv_status rv_edges_decayed_read(rv_db *db, int64_t *at) {
	char text[32];
	int used = 0;
	*at = 0;
	rv_status st = rv_store_meta_get(db, DECAYED_AT, text, sizeof text);
	if (st == RV_ERR_NOT_FOUND)
		return RV_OK;
	RV_TRY(st);
	if (sscanf(text, "%" SCNd64 "%n", at, &used) != 1 || text[used] != 0 || *at < 0)
		return rv_fail(RV_ERR_FORMAT, "%s: table meta, '" DECAYED_AT "': damaged",
		               rv_db_path(db));
	return RV_OK;
}

typedef struct upkeep {
	rv_edges_job job; /* first: the callbacks' */
	const rv_edges_upkeep *how;
	rv_edges_upkeep_report report;
	struct change {
		int32_t cell; /* of an edge that goes */
		float weight; /* it had */
		rv_edge edge; /* what comes in its place; source NULL: nothing */
	} * changes;
	int64_t n_changes;
} upkeep;

/* Under the lock. */
static void set_weight(rv_edges *e, rv_edge_cell *c, float weight) {
	e->n_changed += c->state != RV_EDGE_CHANGED;
	c->weight = weight;
	c->state = RV_EDGE_CHANGED;
}

static double decay_factor(const upkeep *u) {
	const rv_edges_upkeep *how = u->how;
	int64_t since = u->job.e->decayed_at;
	if (how->half_life_ms <= 0 || since == 0 || how->now <= since)
		return 1;
	return exp2(-(double)(how->now - since) / (double)how->half_life_ms);
}

static void decay(upkeep *u) {
	rv_edges *e = u->job.e;
	u->report.factor = decay_factor(u);
	for (int32_t i = 0; i < e->n_cells && u->report.factor < 1; i++)
		if (e->cells[i].source >= 0)
			set_weight(e, &e->cells[i],
			           (float)((double)e->cells[i].weight * u->report.factor));
	if (u->how->half_life_ms > 0 && u->how->now > e->decayed_at)
		e->decayed_at = u->how->now;
}

/* Takes what must not stay as it is out of the way: what it becomes is put in afterwards. */
static void find_moved(upkeep *u) {
	rv_edges *e = u->job.e;
	for (int32_t i = 0; i < e->n_cells; i++) {
		rv_edge_cell *c = &e->cells[i];
		if (c->source < 0 || c->weight <= 0)
			continue;
		const char *ends[2] = {e->nodes[c->source].id, e->nodes[c->target].id}, *now[2];
		for (int k = 0; k < 2; k++)
			now[k] = u->how->becomes(u->how->user, ends[k]);
		if (now[0] == ends[0] && now[1] == ends[1])
			continue;
		struct change *x = &u->changes[u->n_changes++];
		*x = (struct change){.cell = i, .weight = c->weight};
		if (now[0] != NULL && now[1] != NULL && strcmp(now[0], now[1]) != 0)
			x->edge = (rv_edge){now[0], now[1], (rv_edge_kind)c->kind, c->weight};
		set_weight(e, c, 0);
	}
}

static rv_status put_moved(upkeep *u) {
	rv_edges *e = u->job.e;
	for (int64_t i = 0; i < u->n_changes; i++) {
		rv_edge edge = u->changes[i].edge;
		if (edge.source == NULL)
			continue;
		int32_t there = rv_edges_find(e, edge.source, edge.target, edge.kind);
		if (there >= 0)
			edge.weight = fmaxf(edge.weight, e->cells[there].weight);
		RV_TRY(rv_edges_put(e, &edge, RV_EDGE_CHANGED));
		u->report.n_moved++;
	}
	return RV_OK;
}

/* Under the lock. */
static rv_status change(upkeep *u) {
	rv_edges *e = u->job.e;
	if (u->how->becomes != NULL) {
		RV_TRY(RV_ALLOC(&u->changes, e->n, "edges that move"));
		find_moved(u);
		rv_status st = put_moved(u);
		for (int64_t i = 0; st != RV_OK && i < u->n_changes; i++)
			set_weight(e, &e->cells[u->changes[i].cell], u->changes[i].weight);
		RV_TRY(st);
	}
	decay(u);
	return RV_OK;
}

static rv_status write_upkeep(void *user, rv_db *db) {
	upkeep *u = user;
	char text[32];
	pthread_mutex_lock(&u->job.e->lock);
	rv_status st = change(u);
	snprintf(text, sizeof text, "%" PRId64, u->job.e->decayed_at);
	pthread_mutex_unlock(&u->job.e->lock);
	RV_TRY(st);
	if (u->how->half_life_ms > 0)
		RV_TRY(rv_store_meta_set(db, DECAYED_AT, text));
	return rv_edges_write_pruned(&u->job, db);
}

static void upkeep_done(void *user, rv_status status) {
	upkeep *u = user;
	rv_edges_pruned(&u->job, status);
}

rv_status rv_edges_keep_up(rv_edges *e, const rv_edges_upkeep *how, rv_edges_upkeep_report *report) {
	if (how->now < 0 || how->half_life_ms < 0 || !(how->min_weight >= 0 && how->min_weight <= 1))
		return rv_fail(RV_ERR_INVALID, "edges: now %lld, half_life_ms %lld, min_weight %g",
		               (long long)how->now, (long long)how->half_life_ms,
		               (double)how->min_weight);
	upkeep u = {.job = rv_edges_begin_job(e), .how = how};
	u.job.min_weight = fmaxf(how->min_weight, GONE);
	rv_status st = rv_store_write(e->store, write_upkeep, upkeep_done, &u);
	rv_free(u.changes);
	RV_TRY(st);
	u.report.n_gone = u.job.n_pruned;
	if (report != NULL)
		*report = u.report;
	return RV_OK;
}
