#include "memory/edges.h"

#include "base/mem.h"
#include "memory/edges_internal.h"

#include <math.h>
#include <string.h>

#define TABLE "edges"

#define RV_NAME(name, text) text,
static const char *const kinds[] = {RV_EDGE_TABLE(RV_NAME)};
#undef RV_NAME

const char *rv_edge_kind_name(rv_edge_kind kind) {
	return kinds[kind];
}

rv_edge_kind rv_edge_kind_by_name(const char *name) {
	int i = 0;
	while (i < RV_EDGE_COUNT && (name == NULL || strcmp(kinds[i], name) != 0))
		i++;
	return (rv_edge_kind)i;
}

rv_edges_options rv_edges_defaults(void) {
	return (rv_edges_options){.rate = 0.05f, .initial_weight = 0.5f, .capacity = 1000000};
}

/* ---- the graph in memory; under the lock ---- */

static int32_t find_edge(const rv_edges *e, int32_t source, int32_t target, rv_edge_kind kind) {
	int32_t i = source >= 0 && target >= 0 ? e->nodes[source].first : -1;
	while (i >= 0 && (e->cells[i].target != target || e->cells[i].kind != kind))
		i = e->cells[i].next;
	return i;
}

int32_t rv_edges_find(const rv_edges *e, const char *source, const char *target, rv_edge_kind kind) {
	return find_edge(e, rv_id_map_get(&e->ids, source), rv_id_map_get(&e->ids, target), kind);
}

static rv_status node_of(rv_edges *e, const char *id, int32_t *out) {
	*out = rv_id_map_get(&e->ids, id);
	if (*out >= 0)
		return RV_OK;
	RV_TRY(rv_id_map_reserve(&e->ids, (size_t)e->n_nodes + 1));
	if (e->n_nodes == e->cap_nodes) {
		int32_t cap = e->cap_nodes ? 2 * e->cap_nodes : 64;
		RV_TRY(RV_GROW(&e->nodes, e->cap_nodes, cap, "graph nodes"));
		e->cap_nodes = cap;
	}
	rv_edge_node node = {.first = -1};
	RV_TRY(rv_strdup(&node.id, id));
	*out = e->n_nodes++;
	e->nodes[*out] = node;
	rv_id_map_put(&e->ids, node.id, *out);
	return RV_OK;
}

static rv_status take_cell(rv_edges *e, int32_t *out) {
	if (e->n >= e->options.capacity)
		return rv_fail(RV_ERR_LIMIT, "%s: table edges: more than %lld edges",
		               rv_store_path(e->store), (long long)e->options.capacity);
	if (e->free_cell >= 0) {
		*out = e->free_cell;
		e->free_cell = e->cells[*out].next;
		return RV_OK;
	}
	if (e->n_cells == e->cap_cells) {
		int32_t cap = e->cap_cells ? 2 * e->cap_cells : 64;
		RV_TRY(RV_GROW(&e->cells, e->cap_cells, cap, "graph edges"));
		e->cap_cells = cap;
	}
	*out = e->n_cells++;
	return RV_OK;
}

rv_status rv_edges_put(rv_edges *e, const rv_edge *edge, rv_edge_state state) {
	int32_t source, target, i;
	RV_TRY(node_of(e, edge->source, &source));
	RV_TRY(node_of(e, edge->target, &target));
	i = find_edge(e, source, target, edge->kind);
	if (i < 0) {
		RV_TRY(take_cell(e, &i));
		e->cells[i] = (rv_edge_cell){.source = source,
		                             .target = target,
		                             .next = e->nodes[source].first,
		                             .kind = (uint8_t)edge->kind};
		e->nodes[source].first = i;
		e->n++;
	}
	e->n_changed += state == RV_EDGE_CHANGED && e->cells[i].state != RV_EDGE_CHANGED;
	e->cells[i].weight = edge->weight;
	e->cells[i].state = (uint8_t)state;
	return RV_OK;
}

static void free_edge(rv_edges *e, int32_t i) {
	int32_t *link = &e->nodes[e->cells[i].source].first;
	while (*link != i)
		link = &e->cells[*link].next;
	*link = e->cells[i].next;
	e->n_changed -= e->cells[i].state == RV_EDGE_CHANGED;
	e->cells[i] = (rv_edge_cell){.source = -1, .next = e->free_cell};
	e->free_cell = i;
	e->n--;
}

/* ---- writing behind ---- */

/* The next changed edge from cell *at on, to be written; 0: no more. Its ids live until close. */
static int next_changed(const rv_edges_job *job, int32_t *at, rv_edge *out) {
	rv_edges *e = job->e;
	int found = 0;
	pthread_mutex_lock(&e->lock);
	if (*at == 0)
		e->is_posted = 0; /* what changes from here on may come too late for this one */
	for (; *at < e->n_cells && !found && e->n_changed > 0; ++*at) {
		rv_edge_cell *c = &e->cells[*at];
		if (c->source < 0 || c->state != RV_EDGE_CHANGED)
			continue;
		*out = (rv_edge){e->nodes[c->source].id, e->nodes[c->target].id, c->kind, c->weight};
		c->state = RV_EDGE_BEING_WRITTEN;
		c->job = job->number;
		e->n_changed--;
		found = 1;
	}
	pthread_mutex_unlock(&e->lock);
	return found;
}

static rv_status write_changed(void *user, rv_db *db) {
	rv_edges_job *job = user;
	rv_edge edge;
	for (int32_t at = 0; next_changed(job, &at, &edge);)
		RV_TRY(RV_DB_RUN(db, TABLE,
		                 "INSERT INTO edges (source, target, kind, weight, updated_at)"
		                 " VALUES (?1, ?2, ?3, ?4, ?5)"
		                 " ON CONFLICT (source, kind, target) DO UPDATE SET weight = ?4,"
		                 " updated_at = ?5",
		                 RV_TEXT(edge.source), RV_TEXT(edge.target), RV_TEXT(kinds[edge.kind]),
		                 RV_REAL((double)edge.weight), RV_INT(rv_store_now_ms(job->e->store))));
	return RV_OK;
}

/* What failed waits for the next write. */
static void written(void *user, rv_status status) {
	const rv_edges_job *job = user;
	rv_edges *e = job->e;
	pthread_mutex_lock(&e->lock);
	if (status != RV_OK)
		e->is_posted = 0; /* it may never have run */
	for (int32_t i = 0; i < e->n_cells; i++) {
		rv_edge_cell *c = &e->cells[i];
		if (c->source < 0 || c->state != RV_EDGE_BEING_WRITTEN || c->job != job->number)
			continue;
		c->state = status == RV_OK ? RV_EDGE_STORED : RV_EDGE_CHANGED;
		e->n_changed += status != RV_OK;
	}
	pthread_mutex_unlock(&e->lock);
}

static void written_behind(void *user, rv_status status) {
	written(user, status);
	rv_free(user);
}

/* Under the lock. No failure of the caller's: the next change, or a flush, asks again. */
static void ask_for_write(rv_edges *e) {
	rv_edges_job *job = NULL;
	if (e->is_posted || e->n_changed == 0 || RV_ALLOC(&job, 1, "write of edges") != RV_OK)
		return;
	*job = (rv_edges_job){.e = e, .number = ++e->n_jobs};
	e->is_posted = rv_store_post(e->store, write_changed, written_behind, job) == RV_OK;
	if (!e->is_posted)
		rv_free(job);
}

rv_edges_job rv_edges_begin_job(rv_edges *e) {
	pthread_mutex_lock(&e->lock);
	rv_edges_job job = {.e = e, .number = ++e->n_jobs};
	pthread_mutex_unlock(&e->lock);
	return job;
}

rv_status rv_edges_flush(rv_edges *e) {
	rv_edges_job job = rv_edges_begin_job(e);
	if (rv_store_is_read_only(e->store))
		return RV_OK;
	return rv_store_write(e->store, write_changed, written, &job);
}

/* ---- changes ---- */

static rv_status check_id(const char *id, const char *what) {
	if (id == NULL || id[0] == 0 || strnlen(id, RV_EDGE_MAX_ID + 1) > RV_EDGE_MAX_ID)
		return rv_fail(RV_ERR_INVALID, "edge: %s is missing or longer than %d bytes", what,
		               RV_EDGE_MAX_ID);
	return RV_OK;
}

static rv_status check_edge(const rv_edges *e, const rv_edge *edge) {
	RV_TRY(check_id(edge->source, "source"));
	RV_TRY(check_id(edge->target, "target"));
	if ((unsigned)edge->kind >= RV_EDGE_COUNT)
		return rv_fail(RV_ERR_INVALID, "edge: kind %d", (int)edge->kind);
	if (strcmp(edge->source, edge->target) == 0)
		return rv_fail(RV_ERR_INVALID, "edge: '%s' to itself", edge->source);
	if (!(edge->weight >= 0 && edge->weight <= 1))
		return rv_fail(RV_ERR_NUMERIC, "edge: weight %g is not within 0..1",
		               (double)edge->weight);
	if (rv_store_is_read_only(e->store))
		return rv_fail(RV_ERR_INVALID, "%s: the store is open for reading only",
		               rv_store_path(e->store));
	return RV_OK;
}

rv_status rv_edges_set(rv_edges *e, const rv_edge *edge) {
	RV_TRY(check_edge(e, edge));
	pthread_mutex_lock(&e->lock);
	rv_status st = rv_edges_put(e, edge, RV_EDGE_CHANGED);
	ask_for_write(e);
	pthread_mutex_unlock(&e->lock);
	return st;
}

rv_status rv_edges_reinforce(rv_edges *e, const char *source, const char *target, rv_edge_kind kind,
                             int is_good) {
	rv_edge edge = {source, target, kind, e->options.initial_weight};
	RV_TRY(check_edge(e, &edge));
	rv_status st = RV_OK;
	pthread_mutex_lock(&e->lock);
	int32_t i = rv_edges_find(e, source, target, kind);
	if (i >= 0) {
		edge.weight = e->cells[i].weight * (1 + (is_good ? e->options.rate : -e->options.rate));
		edge.weight = fminf(edge.weight, 1);
	}
	if (i >= 0 || is_good)
		st = rv_edges_put(e, &edge, RV_EDGE_CHANGED);
	ask_for_write(e);
	pthread_mutex_unlock(&e->lock);
	return st;
}

rv_status rv_edges_weight(rv_edges *e, const char *source, const char *target, rv_edge_kind kind,
                          float *weight) {
	pthread_mutex_lock(&e->lock);
	int32_t i = rv_edges_find(e, source, target, kind);
	if (i >= 0)
		*weight = e->cells[i].weight;
	pthread_mutex_unlock(&e->lock);
	return i >= 0 ? RV_OK
	              : rv_fail(RV_ERR_NOT_FOUND, "%s: table edges: no edge from '%s' to '%s'",
	                        rv_store_path(e->store), source, target);
}

int64_t rv_edges_count(rv_edges *e) {
	pthread_mutex_lock(&e->lock);
	int64_t n = e->n;
	pthread_mutex_unlock(&e->lock);
	return n;
}

rv_status rv_edges_write_pruned(void *user, rv_db *db) {
	rv_edges_job *job = user;
	RV_TRY(write_changed(job, db));
	RV_TRY(RV_DB_RUN(db, TABLE, "DELETE FROM edges WHERE weight < ?1",
	                 RV_REAL((double)job->min_weight)));
	job->n_pruned = rv_db_changes(db);
	return RV_OK;
}

void rv_edges_pruned(void *user, rv_status status) {
	const rv_edges_job *job = user;
	rv_edges *e = job->e;
	pthread_mutex_lock(&e->lock);
	/* one that changed since its row went stays, and is written again */
	for (int32_t i = 0; i < e->n_cells && status == RV_OK; i++)
		if (e->cells[i].source >= 0 && e->cells[i].weight < job->min_weight &&
		    e->cells[i].state != RV_EDGE_CHANGED)
			free_edge(e, i);
	pthread_mutex_unlock(&e->lock);
	written(user, status);
}

rv_status rv_edges_prune(rv_edges *e, float min_weight, int64_t *n) {
	rv_edges_job job = rv_edges_begin_job(e);
	job.min_weight = min_weight;
	RV_TRY(rv_store_write(e->store, rv_edges_write_pruned, rv_edges_pruned, &job));
	if (n != NULL)
		*n = job.n_pruned;
	return RV_OK;
}

/* ---- open and close ---- */

static rv_status load_one(void *user, const rv_db_row *row) {
	rv_edges *e = user;
	rv_edge edge = {rv_row_text(row, 1), rv_row_text(row, 2),
	                rv_edge_kind_by_name(rv_row_text(row, 3)), (float)rv_row_real(row, 4)};
	if (edge.source == NULL || edge.target == NULL || edge.kind == RV_EDGE_COUNT ||
	    !(edge.weight >= 0 && edge.weight <= 1))
		return rv_row_damaged(row, "an id, a kind or a weight");
	return rv_edges_put(e, &edge, RV_EDGE_STORED);
}

static rv_status load(void *user, rv_db *db) {
	RV_TRY(rv_edges_decayed_read(db, &((rv_edges *)user)->decayed_at));
	return rv_db_query(db, TABLE,
	                   "SELECT row_number() OVER (), source, target, kind, weight FROM edges"
	                   " ORDER BY source, kind, target",
	                   NULL, 0, load_one, user);
}

static void destroy(rv_edges *e) {
	for (int32_t i = 0; i < e->n_nodes; i++)
		rv_free(e->nodes[i].id);
	rv_id_map_deinit(&e->ids);
	rv_free(e->nodes);
	rv_free(e->cells);
	pthread_mutex_destroy(&e->lock);
	rv_free(e);
}

rv_status rv_edges_open(rv_edges **out, rv_store *store, const rv_edges_options *options) {
	rv_edges_options o = options ? *options : rv_edges_defaults();
	if (!(o.rate > 0 && o.rate < 1) || !(o.initial_weight > 0 && o.initial_weight <= 1) ||
	    o.capacity < 1 || o.capacity > INT32_MAX / 4)
		return rv_fail(RV_ERR_INVALID, "edges: rate %g, initial_weight %g, capacity %lld",
		               (double)o.rate, (double)o.initial_weight, (long long)o.capacity);
	rv_edges *e = NULL;
	RV_TRY(RV_ALLOC(&e, 1, "graph"));
	*e = (rv_edges){.store = store, .options = o, .free_cell = -1};
	pthread_mutex_init(&e->lock, NULL);
	rv_status st = rv_store_read(store, load, e);
	if (st != RV_OK) {
		destroy(e);
		return st;
	}
	*out = e;
	return RV_OK;
}

rv_status rv_edges_close(rv_edges *e) {
	if (e == NULL)
		return RV_OK;
	rv_status st = rv_edges_flush(e); /* behind whatever was posted */
	destroy(e);
	return st;
}
