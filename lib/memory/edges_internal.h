/* The graph's insides, shared by edges*.c. */
#ifndef RV_MEMORY_EDGES_INTERNAL_H
#define RV_MEMORY_EDGES_INTERNAL_H

#include "memory/edges.h"
#include "memory/id_map.h"

#include <pthread.h>

typedef enum rv_edge_state { RV_EDGE_STORED, RV_EDGE_CHANGED, RV_EDGE_BEING_WRITTEN } rv_edge_state;

typedef struct rv_edge_cell {
	int32_t source, target; /* nodes; source -1: free */
	int32_t next;           /* of the same source; of free ones */
	float weight;
	uint32_t job; /* that writes it */
	uint8_t kind, state;
} rv_edge_cell;

typedef struct rv_edge_node {
	char *id;      /* until close */
	int32_t first; /* edge, or -1 */
	/* of the walk under way */
	int32_t at;   /* its place among those reached, while walk == the walk's number */
	int64_t walk; /* number of the last walk that came here */
} rv_edge_node;

struct rv_edges {
	rv_store *store;
	rv_edges_options options;
	pthread_mutex_t lock;
	rv_id_map ids;
	rv_edge_node *nodes;
	rv_edge_cell *cells;
	int32_t n_nodes, cap_nodes, n_cells, cap_cells, free_cell;
	int64_t n; /* edges */
	int64_t n_walks;
	int64_t n_changed;
	uint32_t n_jobs;
	int is_posted;      /* a write waits in the store's queue */
	int64_t decayed_at; /* UTC ms up to which weights have decayed; 0: never */
};

/* Under the lock: adds an edge or sets its weight. */
rv_status rv_edges_put(rv_edges *e, const rv_edge *edge, rv_edge_state state);

/* Under the lock: its cell, -1: none. */
int32_t rv_edges_find(const rv_edges *e, const char *source, const char *target, rv_edge_kind kind);

/* One write of all that is changed when it runs. */
typedef struct rv_edges_job {
	rv_edges *e;
	uint32_t number;
	float min_weight; /* a pruning: rows below it go */
	int64_t n_pruned;
} rv_edges_job;
rv_edges_job rv_edges_begin_job(rv_edges *e);
/* Write and done callbacks of a pruning; `user` is the job. */
rv_status rv_edges_write_pruned(void *user, rv_db *db);
void rv_edges_pruned(void *user, rv_status status);

/* edges_upkeep.c: 0 when nothing ever decayed. */
rv_status rv_edges_decayed_read(rv_db *db, int64_t *at);

#endif
