/* Limits of this process's cgroups. Internal to lib/base; tests point it at recorded trees. */
#ifndef RV_BASE_SYSINFO_CGROUP_H
#define RV_BASE_SYSINFO_CGROUP_H

#include <stdint.h>

typedef struct rv_cgroup_limits {
	double cpu_quota;       /* CPUs, the least of all ancestors; 0: none */
	uint64_t mem_available; /* bytes: limit - use + inactive file cache, the least; UINT64_MAX: none
	                         */
} rv_cgroup_limits;

/* Reads <root>/proc/self/cgroup and <root>/proc/self/mountinfo and the files of the cgroup v1 and v2
 * hierarchies mounted below <root> ("": the running system). What cannot be read limits nothing. */
void rv_cgroup_read(const char *root, rv_cgroup_limits *out);

#endif
