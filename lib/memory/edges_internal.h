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
	int is_posted; /* a write waits in the store's queue */
};

#endif
