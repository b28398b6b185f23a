/* CPUs this thread may use and the order to place workers on them. Internal to lib/base. */
#ifndef RV_BASE_CPUS_H
#define RV_BASE_CPUS_H

#include "base/status.h"

#include <hwloc.h>

#define RV_CPUS_MAX 8192 /* Linux's own bound */

typedef struct rv_cpu_mask {
	unsigned long bits[RV_CPUS_MAX / (8 * sizeof(unsigned long))];
} rv_cpu_mask;

/* The calling thread's affinity (which the kernel keeps within its cpuset); 0 when it cannot be read.
 */
int rv_cpu_mask_get(rv_cpu_mask *mask);
int rv_cpu_mask_set(const rv_cpu_mask *mask); /* 0 on failure, errno set */
int rv_cpu_mask_count(const rv_cpu_mask *mask);

/* A topology of the running machine, for placing threads or (`caches`) with cache sizes too, which
 * takes longer to find out; NULL and a message in `why` when hwloc gives none. */
hwloc_topology_t rv_cpu_topology(int caches, char why[128]);

/* Writes the OS numbers of up to `max` CPUs of `mask` in the order workers should take them: fast cores
 * before slow ones, one hardware thread a core before second ones, neighbours in cache and memory next
 * to each other. Returns how many. */
int rv_cpu_order(hwloc_topology_t topology, const rv_cpu_mask *mask, int *order, int max);

#endif
