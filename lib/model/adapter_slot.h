/* A place for the newest version of an adapter: learning publishes into it while contexts decode with
 * what they took out of it last (engine/context.h: rv_context_follow_slot).
 *
 * Thread-safe. Publishers take turns with each other and never wait for a reader; readers never wait,
 * and never see an adapter without its own number. Taking out allocates nothing. */
#ifndef RV_MODEL_ADAPTER_SLOT_H
#define RV_MODEL_ADAPTER_SLOT_H

#include "model/adapter.h"

#include <stdint.h>

typedef struct rv_adapter_slot rv_adapter_slot;

/* Empty (version 0), for adapters of this model's shape; retains the model. */
rv_status rv_adapter_slot_create(rv_adapter_slot **out, rv_model *model);
/* Accepts NULL. Nobody may be using it or following it any more. */
void rv_adapter_slot_destroy(rv_adapter_slot *slot);

/* Makes the adapter (which the slot retains; NULL: none) the newest. *version (may be NULL): its
 * number, one more than the last. On failure the slot holds what it held: RV_ERR_MISMATCH (another
 * shape), RV_ERR_NO_MEMORY. */
rv_status rv_adapter_slot_publish(rv_adapter_slot *slot, rv_adapter *adapter, uint64_t *version);

/* The newest, retained for the caller (rv_adapter_release); NULL when there is none. *version (may be
 * NULL): its number. */
rv_adapter *rv_adapter_slot_acquire(rv_adapter_slot *slot, uint64_t *version);
/* The number of the last publication, a glance without taking anything: what is acquired afterwards has
 * this number or a later one. */
uint64_t rv_adapter_slot_version(const rv_adapter_slot *slot);

rv_model *rv_adapter_slot_model(const rv_adapter_slot *slot);

#endif
