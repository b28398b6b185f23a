/* Routers of models (learn/fastgrnn.h) by name, resident by tiers in a pool they share with KV pages
 * and adapters (learn/residency.h). A router that a caller retains is not evicted. */
#ifndef RV_LEARN_ROUTER_MANAGER_H
#define RV_LEARN_ROUTER_MANAGER_H

#include "learn/fastgrnn.h"
#include "learn/residency.h"

typedef struct rv_router_manager rv_router_manager;

rv_status rv_router_manager_create(rv_router_manager **out, const rv_residency_options *options);
void rv_router_manager_destroy(rv_router_manager *m); /* accepts NULL */

rv_status rv_router_manager_add(rv_router_manager *m, const char *name, const char *path);
/* A copy of a router. */
rv_status rv_router_manager_put(rv_router_manager *m, const char *name, const rv_fastgrnn *router);
/* To be given back with rv_fastgrnn_destroy. */
rv_status rv_router_manager_acquire(rv_router_manager *m, const char *name, rv_fastgrnn **out);
/* For remove, flush, find and at. */
rv_residency *rv_router_manager_residency(rv_router_manager *m);

#endif
