/* What this machine is and what this process may use of it. */
#ifndef RV_BASE_SYSINFO_H
#define RV_BASE_SYSINFO_H

#include <stddef.h>
#include <stdint.h>

typedef struct rv_sysinfo {
	char cpu_model[128];
	char os[128];     /* uname: system, release, machine */
	int n_cpus;       /* online in the machine */
	int n_usable;     /* rv_threads_default_count() */
	double cpu_quota; /* CPUs by the cgroup quota (v1 or v2, the tightest ancestor); 0: none */
	size_t l1d_bytes, l2_bytes, l3_bytes; /* by hwloc; 0: unknown */
	size_t mem_total_bytes;
	/* The least of MemAvailable, what RLIMIT_AS leaves, and what each cgroup's memory.max leaves
	 * when its inactive file cache is given up. */
	size_t mem_available_bytes;
} rv_sysinfo;

void rv_sysinfo_get(rv_sysinfo *out);
/* Sizes of a core's own caches as the kernel describes them, through hwloc, without asking the
 * processors one by one: fast. 0: unknown. */
typedef struct rv_cache_sizes {
	size_t l1d_bytes, l2_bytes;
} rv_cache_sizes;
rv_cache_sizes rv_cache_sizes_get(void);
/* mem_available_bytes alone, without looking at the processors. 0: unknown. */
size_t rv_mem_available(void);

/* Memory of this process from /proc: peak of anonymous + shared memory is sampled by the caller;
 * file-backed pages are counted apart (a mapped model is not "used" memory). Bytes; 0: unknown. */
typedef struct rv_memuse {
	size_t anon_bytes, shmem_bytes, file_bytes, peak_rss_bytes;
} rv_memuse;
void rv_memuse_get(rv_memuse *out);

/* Monotonic clock in nanoseconds: the only clock for durations. */
int64_t rv_now_ns(void);
/* "2026-01-02T03:04:05.678Z" */
void rv_utc_now(char out[32]);

#endif
