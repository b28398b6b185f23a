/* What keys and values depend on beside their tokens, as text: files that hold them carry it. */
#ifndef RV_ENGINE_KV_IDENTITY_H
#define RV_ENGINE_KV_IDENTITY_H

#include "engine/context.h"

#include <stddef.h>

#define RV_KV_IDENTITY_BYTES 4096 /* at most, terminating NUL included */

struct rv_adapter_set;

/* One line a thing that decides the bits: model, cache type, rotation, backend, adapters of a set, by
 * content; under a tiered policy the policy, the page size and the calibration too. mixed: not all was
 * computed under this version of the set, which no sequence of one version has in common. Reads the
 * model's file when its checksum is not known yet. */
rv_status rv_kv_identity(const rv_context *ctx, const struct rv_adapter_set *set, int mixed,
                         char text[RV_KV_IDENTITY_BYTES]);

/* RV_ERR_MISMATCH naming the first line of the identity in `path` that is not as here. */
rv_status rv_kv_identity_differs(const char *path, const char *file, size_t n_file, const char *here);

#endif
