#include "base/sysinfo.h"

#include "base/cpus.h"
#include "base/sysinfo_cgroup.h"
#include "base/threads.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

/* Value of "key:   1234 kB" lines (meminfo, status) in bytes; 0 when the line is not there. */
static size_t kib_line(const char *path, const char *key) {
	char line[256];
	size_t n = strlen(key), bytes = 0;
	FILE *f = fopen(path, "re");
	if (!f)
		return 0;
	while (!bytes && fgets(line, sizeof line, f))
		if (!strncmp(line, key, n) && line[n] == ':')
			bytes = (size_t)strtoull(line + n + 1, NULL, 10) * 1024;
	fclose(f);
	return bytes;
}

static void cpu_model(char out[128]) {
	char line[512];
	snprintf(out, 128, "unknown");
	FILE *f = fopen("/proc/cpuinfo", "re");
	if (!f)
		return;
	while (fgets(line, sizeof line, f)) {
		char *value = strchr(line, ':');
		if (!value || (strncmp(line, "model name", 10) && strncmp(line, "Model", 5)))
			continue;
		value += strspn(value, ": \t");
		snprintf(out, 128, "%.*s", (int)strcspn(value, "\n"), value);
		break;
	}
	fclose(f);
}

static size_t cache_bytes(hwloc_topology_t topology, hwloc_obj_type_t type) {
	hwloc_obj_t cache = hwloc_get_obj_by_type(topology, type, 0);
	return cache && cache->attr ? (size_t)cache->attr->cache.size : 0;
}

rv_cache_sizes rv_cache_sizes_get(void) {
	char why[128];
	rv_cache_sizes sizes = {0, 0};
	hwloc_topology_t topology = rv_cpu_topology(0, why);
	if (topology) {
		sizes.l1d_bytes = cache_bytes(topology, HWLOC_OBJ_L1CACHE);
		sizes.l2_bytes = cache_bytes(topology, HWLOC_OBJ_L2CACHE);
		hwloc_topology_destroy(topology);
	}
	return sizes;
}

static size_t address_space_left(void) {
	struct rlimit limit;
	if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
		return SIZE_MAX;
	size_t used = kib_line("/proc/self/status", "VmSize");
	return used < limit.rlim_cur ? (size_t)limit.rlim_cur - used : 0;
}

static size_t least(size_t a, size_t b) {
	return a < b ? a : b;
}

static size_t mem_available(const rv_cgroup_limits *limits) {
	size_t bytes = kib_line("/proc/meminfo", "MemAvailable");
	if (!bytes)
		bytes = kib_line("/proc/meminfo", "MemTotal");
	bytes = least(bytes, address_space_left());
	return limits->mem_available < bytes ? (size_t)limits->mem_available : bytes;
}

size_t rv_mem_available(void) {
	rv_cgroup_limits limits;
	rv_cgroup_read("", &limits);
	return mem_available(&limits);
}

void rv_sysinfo_get(rv_sysinfo *out) {
	*out = (rv_sysinfo){0};
	struct utsname name;
	if (uname(&name) == 0)
		snprintf(out->os, sizeof out->os, "%.40s %.60s %.20s", name.sysname, name.release,
		         name.machine);
	cpu_model(out->cpu_model);
	long online = sysconf(_SC_NPROCESSORS_ONLN);
	out->n_cpus = online > 0 ? (int)online : 1;
	out->n_usable = rv_threads_default_count();

	rv_cgroup_limits limits;
	rv_cgroup_read("", &limits);
	out->cpu_quota = limits.cpu_quota;

	char why[128];
	hwloc_topology_t topology = rv_cpu_topology(1, why);
	if (topology) {
		out->l1d_bytes = cache_bytes(topology, HWLOC_OBJ_L1CACHE);
		out->l2_bytes = cache_bytes(topology, HWLOC_OBJ_L2CACHE);
		out->l3_bytes = cache_bytes(topology, HWLOC_OBJ_L3CACHE);
		hwloc_topology_destroy(topology);
	}

	out->mem_total_bytes = kib_line("/proc/meminfo", "MemTotal");
	out->mem_available_bytes = mem_available(&limits);
}

void rv_memuse_get(rv_memuse *out) {
	const char *path = "/proc/self/status";
	out->anon_bytes = kib_line(path, "RssAnon");
	out->shmem_bytes = kib_line(path, "RssShmem");
	out->file_bytes = kib_line(path, "RssFile");
	out->peak_rss_bytes = kib_line(path, "VmHWM");
}

int64_t rv_now_ns(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void rv_utc_now(char out[32]) {
	struct timespec t;
	struct tm utc;
	clock_gettime(CLOCK_REALTIME, &t);
	gmtime_r(&t.tv_sec, &utc);
	size_t n = strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &utc);
	snprintf(out + n, 32 - n, ".%03dZ", (int)(t.tv_nsec / 1000000));
}
