/* Large zeroed regions taken from the system page by page as they are touched, so that reserving for
 * the worst case (KV cache, scratch) costs memory only for what is used. */
#ifndef RV_BASE_VM_H
#define RV_BASE_VM_H

#include "base/status.h"

#include <stddef.h>

/* Reserves `bytes` of zeroed memory, page-aligned; *out is NULL for 0 bytes. `what` names it in the
 * message. Release with rv_vm_free(ptr, bytes). */
rv_status rv_vm_alloc(void **out, size_t bytes, const char *what);
void rv_vm_free(void *ptr, size_t bytes); /* accepts NULL */

#endif
