#include "base/cpus.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#define WORD_BITS (8 * sizeof(unsigned long))

int rv_cpu_mask_get(rv_cpu_mask *mask) {
	memset(mask, 0, sizeof *mask);
	return sched_getaffinity(0, sizeof *mask, (cpu_set_t *)mask) == 0;
}

int rv_cpu_mask_set(const rv_cpu_mask *mask) {
	return sched_setaffinity(0, sizeof *mask, (const cpu_set_t *)mask) == 0;
}

int rv_cpu_mask_count(const rv_cpu_mask *mask) {
	int n = 0;
	for (size_t i = 0; i < sizeof mask->bits / sizeof *mask->bits; i++)
		n += __builtin_popcountl(mask->bits[i]);
	return n;
}

static int mask_has(const rv_cpu_mask *mask, unsigned cpu) {
	return cpu < RV_CPUS_MAX && (mask->bits[cpu / WORD_BITS] >> (cpu % WORD_BITS) & 1);
}

/* Leaves out what placing threads does not need. The x86 back end would move this thread over every CPU
 * to ask it; the kernel's own description is enough here. */
static void place_only(hwloc_topology_t topology) {
	unsigned long flags = 0;
#if HWLOC_API_VERSION >= 0x00020800
	flags = HWLOC_TOPOLOGY_FLAG_NO_DISTANCES | HWLOC_TOPOLOGY_FLAG_NO_MEMATTRS;
#endif
	hwloc_topology_set_flags(topology, flags);
	hwloc_topology_set_components(topology, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, "x86");
}

hwloc_topology_t rv_cpu_topology(int caches, char why[128]) {
	hwloc_topology_t topology;
	if (hwloc_topology_init(&topology) != 0) {
		snprintf(why, 128, "hwloc cannot start");
		return NULL;
	}
	if (!caches)
		place_only(topology);
	if (hwloc_topology_load(topology) != 0) {
		snprintf(why, 128, "hwloc found no topology");
	} else if (!hwloc_topology_is_thissystem(topology)) {
		/* HWLOC_XMLFILE and HWLOC_SYNTHETIC describe some other machine. */
		snprintf(why, 128, "hwloc was given another machine's topology");
	} else {
		return topology;
	}
	hwloc_topology_destroy(topology);
	return NULL;
}

/* The `rank`-th usable hardware thread of a core (or of the machine, seen as one core); -1: none. */
static int core_thread(hwloc_topology_t topology, hwloc_obj_t core, const rv_cpu_mask *mask, int rank) {
	hwloc_obj_t pu = NULL;
	while ((pu = hwloc_get_next_obj_inside_cpuset_by_type(topology, core->cpuset, HWLOC_OBJ_PU,
	                                                      pu)))
		if (mask_has(mask, pu->os_index) && rank-- == 0)
			return (int)pu->os_index;
	return -1;
}

/* Kinds of cores are numbered by hwloc from the slowest; -1 where it cannot rank them. */
static int core_speed(hwloc_topology_t topology, hwloc_obj_t core) {
#if HWLOC_API_VERSION >= 0x00020400
	int kind = hwloc_cpukinds_get_by_cpuset(topology, core->cpuset, 0), speed = -1;
	if (kind >= 0 &&
	    hwloc_cpukinds_get_info(topology, (unsigned)kind, NULL, &speed, NULL, NULL, 0) == 0)
		return speed;
#else
	(void)topology, (void)core;
#endif
	return -1;
}

static int max_speed(hwloc_topology_t topology) {
#if HWLOC_API_VERSION >= 0x00020400
	int kinds = hwloc_cpukinds_get_nr(topology, 0);
	return kinds > 0 ? kinds : -1;
#else
	(void)topology;
	return -1;
#endif
}

int rv_cpu_order(hwloc_topology_t topology, const rv_cpu_mask *mask, int *order, int max) {
	int n = 0, usable = rv_cpu_mask_count(mask);
	hwloc_obj_type_t type =
	        hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE) > 0 ? HWLOC_OBJ_CORE : HWLOC_OBJ_PU;
	int n_cores = hwloc_get_nbobjs_by_type(topology, type);
	/* Logical core numbers follow package, memory node, L3 and L2. */
	for (int rank = 0, found = 1; found && n < usable && n < max; rank++) {
		found = 0;
		for (int speed = max_speed(topology); speed >= -1; speed--) {
			for (int i = 0; i < n_cores && n < max; i++) {
				hwloc_obj_t core = hwloc_get_obj_by_type(topology, type, (unsigned)i);
				if (core_speed(topology, core) != speed)
					continue;
				int cpu = core_thread(topology, core, mask, rank);
				if (cpu >= 0) {
					order[n++] = cpu;
					found = 1;
				}
			}
		}
	}
	return n;
}
