/* Large zeroed regions taken from the system page by page as they are touched, so that reserving for
 * the worst case (KV cache, scratch) costs memory only for what is used. */
#ifndef RV_BASE_VM_H
#define RV_BASE_VM_H

#include "base/status.h"

#include <stddef.h>

/* `bytes` (a multiple of `align`, which is one of the system's page size) at a multiple of `align`.
 * From 2 MiB on the system is asked for huge pages. Release with rv_vm_free(ptr, bytes). */
rv_status rv_vm_alloc_aligned(void **out, size_t bytes, size_t align, const char *what);

/* Reserves `bytes` of zeroed memory, page-aligned; *out is NULL for 0 bytes. `what` names it in the
 * message. Release with rv_vm_free(ptr, bytes). */
rv_status rv_vm_alloc(void **out, size_t bytes, const char *what);
void rv_vm_free(void *ptr, size_t bytes); /* accepts NULL */

#endif
