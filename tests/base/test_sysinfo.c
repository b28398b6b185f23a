/* What the machine offers; cgroup limits from recorded trees of other machines. */
#include "base_test.h"

#include "base/file.h"
#include "base/sysinfo.h"
#include "base/sysinfo_cgroup.h"
#include "base/threads.h"

#include <math.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

/* One recorded machine: files below a root, and what must be read from them. */
typedef struct machine {
	const char *name;
	double quota;
	uint64_t memory;
	struct {
		const char *path, *text;
	} files[12];
} machine;

#define V2_MOUNT                                                                                       \
	"29 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 "      \
	"rw,nsdelegate\n"
#define V1_CPU_MOUNT                                                                                   \
	"33 25 0:28 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:15 - cgroup cgroup rw,cpu,cpuacct\n"
#define V1_MEM_MOUNT                                                                                   \
	"36 25 0:31 / /sys/fs/cgroup/memory rw,nosuid shared:18 - cgroup cgroup rw,memory\n"

static const machine machines[] = {
        {"v2, no limit",
         0,
         UINT64_MAX,
         {{"/proc/self/cgroup", "0::/user.slice/user-1000.slice/session-3.scope\n"},
          {"/proc/self/mountinfo", V2_MOUNT},
          {"/sys/fs/cgroup/user.slice/user-1000.slice/cpu.max", "max 100000\n"},
          {"/sys/fs/cgroup/user.slice/memory.max", "max\n"}}},
        {"v2, one CPU of many",
         1,
         UINT64_MAX,
         {{"/proc/self/cgroup", "0::/job\n"},
          {"/proc/self/mountinfo", V2_MOUNT},
          {"/sys/fs/cgroup/job/cpu.max", "100000 100000\n"}}},
        {"v2, the grandparent is the tightest",
         1.5,
         1000000,
         {{"/proc/self/cgroup", "0::/a/b/c\n"},
          {"/proc/self/mountinfo", "1 1 0:1 / / rw - ext4 /dev/sda rw\n" V2_MOUNT},
          {"/sys/fs/cgroup/a/b/c/cpu.max", "400000 100000\n"},
          {"/sys/fs/cgroup/a/b/cpu.max", "max 100000\n"},
          {"/sys/fs/cgroup/a/cpu.max", "75000 50000\n"},
          {"/sys/fs/cgroup/a/b/c/memory.max", "9000000\n"},
          {"/sys/fs/cgroup/a/b/c/memory.current", "1000\n"},
          {"/sys/fs/cgroup/a/memory.max", "5000000\n"},
          {"/sys/fs/cgroup/a/memory.current", "4500000\n"},
          {"/sys/fs/cgroup/a/memory.stat",
           "anon 4000000\nfile 500000\ninactive_file 500000\nfoo 1\n"}}},
        {"v2 in a container with its own namespace",
         2.5,
         300,
         {{"/proc/self/cgroup", "0::/\n"},
          {"/proc/self/mountinfo", V2_MOUNT},
          {"/sys/fs/cgroup/cpu.max", "250000 100000\n"},
          {"/sys/fs/cgroup/memory.max", "1000\n"},
          {"/sys/fs/cgroup/memory.current", "700\n"}}},
        {"v1",
         3,
         4096,
         {{"/proc/self/cgroup",
           "12:memory:/jobs/7\n5:cpu,cpuacct:/jobs/7\n1:name=systemd:/jobs\n0::/jobs/7\n"},
          {"/proc/self/mountinfo", V1_CPU_MOUNT V1_MEM_MOUNT},
          {"/sys/fs/cgroup/cpu,cpuacct/jobs/7/cpu.cfs_quota_us", "-1\n"},
          {"/sys/fs/cgroup/cpu,cpuacct/jobs/7/cpu.cfs_period_us", "100000\n"},
          {"/sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_quota_us", "300000\n"},
          {"/sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_period_us", "100000\n"},
          {"/sys/fs/cgroup/memory/jobs/7/memory.limit_in_bytes", "9223372036854771712\n"},
          {"/sys/fs/cgroup/memory/jobs/7/memory.usage_in_bytes", "5000\n"},
          {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "10000\n"},
          {"/sys/fs/cgroup/memory/memory.usage_in_bytes", "6000\n"},
          {"/sys/fs/cgroup/memory/memory.stat", "cache 96\ntotal_inactive_file 96\n"}}},
        {"v1 in a container that sees the host's paths",
         0.5,
         UINT64_MAX,
         {{"/proc/self/cgroup", "3:cpu,cpuacct:/docker/0a1b\n"},
          {"/proc/self/mountinfo",
           "700 690 0:28 /docker/0a1b /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup "
           "rw,cpu,cpuacct\n"},
          {"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n"},
          {"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"}}},
        {"hybrid: v1 CPU, v2 for the rest, blanks in a mount point",
         2,
         UINT64_MAX,
         {{"/proc/self/cgroup", "4:cpu:/x\n0::/y\n"},
          {"/proc/self/mountinfo",
           "33 25 0:28 / /my\\040groups/cpu rw shared:1 master:2 - cgroup none rw,cpu\n"
           "34 25 0:29 / /my\\040groups/unified rw - cgroup2 none rw\n"},
          {"/my groups/cpu/x/cpu.cfs_quota_us", "200000\n"},
          {"/my groups/cpu/x/cpu.cfs_period_us", "100000\n"},
          {"/my groups/unified/y/cpu.max", "800000 100000\n"}}},
        {"used beyond the limit",
         0,
         0,
         {{"/proc/self/cgroup", "0::/\n"},
          {"/proc/self/mountinfo", V2_MOUNT},
          {"/sys/fs/cgroup/memory.max", "1000\n"},
          {"/sys/fs/cgroup/memory.current", "5000\n"}}},
        {"nothing to read", 0, UINT64_MAX, {{"/unrelated", "x"}}},
        {"a group outside the mount (moved after the namespace was made)",
         4,
         UINT64_MAX,
         {{"/proc/self/cgroup", "0::/../../other\n"},
          {"/proc/self/mountinfo", V2_MOUNT},
          {"/sys/fs/cgroup/cpu.max", "400000 100000\n"}}},
        {"damaged text",
         0,
         UINT64_MAX,
         {{"/proc/self/cgroup", "garbage\n:\n0\n0::\n4:cpu\n0::/z\n"},
          {"/proc/self/mountinfo", "\n \n1 2\n - \n33 25 0:28 / /sys/fs/cgroup\n" V2_MOUNT},
          {"/sys/fs/cgroup/z/cpu.max", "abc def\n"},
          {"/sys/fs/cgroup/cpu.max", "100000 0\n"},
          {"/sys/fs/cgroup/z/memory.max", "99999999999999999999999\n"},
          {"/sys/fs/cgroup/z/memory.current", "-5\n"}}},
};

static temp_dir dir;

static int setup(void **state) {
	(void)state;
	temp_dir_make(&dir);
	return 0;
}

static int teardown(void **state) {
	(void)state;
	remove_tree(dir.path);
	return 0;
}

static void build_machine(const machine *m, char root[512]) {
	snprintf(root, 512, "%s/%d", dir.path, (int)(m - machines));
	for (int i = 0; i < 12 && m->files[i].path; i++) {
		char path[1024];
		snprintf(path, sizeof path, "%s%s", root, m->files[i].path);
		char *slash = strrchr(path, '/');
		*slash = '\0';
		assert_ok(rv_mkdirs(path));
		*slash = '/';
		spit(path, m->files[i].text);
	}
}

static int agrees(const machine *m, const rv_cgroup_limits *limits) {
	return fabs(limits->cpu_quota - m->quota) < 1e-12 && limits->mem_available == m->memory;
}

static void recorded_machines(void **state) {
	(void)state;
	for (size_t i = 0; i < sizeof machines / sizeof *machines; i++) {
		char root[512];
		rv_cgroup_limits limits;
		build_machine(&machines[i], root);
		rv_cgroup_read(root, &limits);
		if (!agrees(&machines[i], &limits))
			fail_msg("%s: quota %g (not %g), memory %llu (not %llu)", machines[i].name,
			         limits.cpu_quota, machines[i].quota,
			         (unsigned long long)limits.mem_available,
			         (unsigned long long)machines[i].memory);
	}
	/* Negative control: another machine's answer is not this one's. */
	rv_cgroup_limits limits = {2, UINT64_MAX};
	assert_false(agrees(&machines[1], &limits));
}

static void this_machine(void **state) {
	(void)state;
	rv_sysinfo info;
	rv_sysinfo_get(&info);
	print_message(
	        "%s | %s | %d CPUs, %d usable, quota %.2f | L1d %zu L2 %zu L3 %zu | %zu of %zu bytes\n",
	        info.cpu_model, info.os, info.n_cpus, info.n_usable, info.cpu_quota, info.l1d_bytes,
	        info.l2_bytes, info.l3_bytes, info.mem_available_bytes, info.mem_total_bytes);
	assert_true(strlen(info.cpu_model) > 0 && strlen(info.os) > 0);
	assert_true(info.n_cpus >= 1 && info.n_usable >= 1);
	assert_int_equal(info.n_usable, rv_threads_default_count());
	if (info.cpu_quota >= 1)
		assert_true(info.n_usable <= (int)info.cpu_quota);
	assert_true(info.mem_total_bytes > 1 << 20);
	assert_true(info.mem_available_bytes <= info.mem_total_bytes);
}

static void address_space_limit_counts(void **state) {
	(void)state;
	if (SANITIZED) /* their shadow memory takes terabytes of address space */
		return;
	pid_t pid = fork();
	if (pid == 0) {
		struct rlimit limit = {256 << 20, 256 << 20};
		rv_sysinfo info;
		setrlimit(RLIMIT_AS, &limit);
		rv_sysinfo_get(&info);
		size_t alone = rv_mem_available();
		_exit(!(info.mem_available_bytes > 0 && info.mem_available_bytes < 256 << 20 &&
		        alone > 0 && alone < 256 << 20));
	}
	int status = 1;
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
}

static void memory_use_follows_allocation(void **state) {
	(void)state;
	rv_memuse before, after;
	const size_t size = 64 << 20;
	rv_memuse_get(&before);
	char *block = malloc(size);
	assert_non_null(block);
	for (size_t i = 0; i < size; i += 4096)
		((volatile char *)block)[i] = 1;
	rv_memuse_get(&after);
	free(block);
	assert_true(before.anon_bytes > 0 && before.file_bytes > 0);
	assert_true(after.anon_bytes >= before.anon_bytes + size * 9 / 10);
	assert_true(after.peak_rss_bytes >= after.anon_bytes);
}

static void clocks(void **state) {
	(void)state;
	int64_t start = rv_now_ns();
	usleep(2000);
	int64_t took = rv_now_ns() - start;
	assert_true(took >= 2000000 && took < 5000000000);
	char now[32];
	struct tm t = {0};
	int ms;
	rv_utc_now(now);
	assert_int_equal(strlen(now), 24);
	assert_int_equal(sscanf(now, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ", &t.tm_year, &t.tm_mon, &t.tm_mday,
	                        &t.tm_hour, &t.tm_min, &t.tm_sec, &ms),
	                 7);
	t.tm_year -= 1900;
	t.tm_mon -= 1;
	assert_true(llabs((long long)timegm(&t) - (long long)time(NULL)) <= 2);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(recorded_machines, setup, teardown),
	        cmocka_unit_test(this_machine),
	        cmocka_unit_test(address_space_limit_counts),
	        cmocka_unit_test(memory_use_follows_allocation),
	        cmocka_unit_test(clocks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
