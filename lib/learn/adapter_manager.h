/* The adapters of one model by name, resident by tiers in a pool they share with KV pages and routers
 * (learn/residency.h): hot in pool pages, warm mapped, cold on disk.
 *
 *     rv_adapter_manager_acquire(m, "coder", &adapter);
 *     rv_adapter_slot_publish(slot, adapter, NULL);      // the contexts that follow it change over
 *     rv_adapter_release(adapter);
 *
 * An adapter that a context, a slot or a caller retains is not evicted. */
#ifndef RV_LEARN_ADAPTER_MANAGER_H
#define RV_LEARN_ADAPTER_MANAGER_H

#include "learn/residency.h"

typedef struct rv_adapter_manager rv_adapter_manager;

/* Retains the model. Objects handed out keep their pages after the destroy, until released. */
rv_status rv_adapter_manager_create(rv_adapter_manager **out, rv_model *model,
                                    const rv_residency_options *options);
void rv_adapter_manager_destroy(rv_adapter_manager *m); /* accepts NULL */

rv_status rv_adapter_manager_add(rv_adapter_manager *m, const char *name, const char *path);
/* A copy of an adapter; as a file it is GGUF of F32. */
rv_status rv_adapter_manager_put(rv_adapter_manager *m, const char *name, const rv_adapter *adapter);
rv_status rv_adapter_manager_acquire(rv_adapter_manager *m, const char *name, rv_adapter **out);
/* For remove, flush, find and at. */
rv_residency *rv_adapter_manager_residency(rv_adapter_manager *m);

#endif
