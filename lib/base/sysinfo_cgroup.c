#include "base/sysinfo_cgroup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_BYTES 4096

/* The first `cap` - 1 bytes of a small file as a string; 0 when it cannot be read. */
static int read_text(const char *root, const char *path, char *text, size_t cap) {
	char full[2 * PATH_BYTES];
	if ((size_t)snprintf(full, sizeof full, "%s%s", root, path) >= sizeof full)
		return 0;
	FILE *f = fopen(full, "re");
	if (!f)
		return 0;
	size_t n = fread(text, 1, cap - 1, f);
	text[n] = '\0';
	fclose(f);
	return n > 0;
}

static int read_u64(const char *root, const char *dir, const char *name, uint64_t *out) {
	char path[PATH_BYTES], text[64], *end;
	if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, name) >= sizeof path ||
	    !read_text(root, path, text, sizeof text) || text[0] < '0' || text[0] > '9')
		return 0; /* "max" and "-1" mean: no limit */
	errno = 0;
	*out = strtoull(text, &end, 10);
	return errno == 0;
}

static void lower_quota(rv_cgroup_limits *limits, double quota, double period) {
	if (!(quota > 0) || !(period > 0))
		return;
	if (limits->cpu_quota == 0 || quota / period < limits->cpu_quota)
		limits->cpu_quota = quota / period;
}

static void cpu_v1(const char *root, const char *dir, rv_cgroup_limits *limits) {
	uint64_t quota, period;
	if (read_u64(root, dir, "cpu.cfs_quota_us", &quota) &&
	    read_u64(root, dir, "cpu.cfs_period_us", &period))
		lower_quota(limits, (double)quota, (double)period);
}

static void cpu_v2(const char *root, const char *dir, rv_cgroup_limits *limits) {
	char path[PATH_BYTES], text[128];
	unsigned long long quota, period;
	if ((size_t)snprintf(path, sizeof path, "%s/cpu.max", dir) < sizeof path &&
	    read_text(root, path, text, sizeof text) && sscanf(text, "%llu %llu", &quota, &period) == 2)
		lower_quota(limits, (double)quota, (double)period);
}

/* The value of `key` in a "key value" file. The cache under it is given up before anything fails. */
static uint64_t stat_value(const char *root, const char *dir, const char *key) {
	char path[PATH_BYTES], text[8192];
	size_t n = strlen(key);
	if ((size_t)snprintf(path, sizeof path, "%s/memory.stat", dir) >= sizeof path ||
	    !read_text(root, path, text, sizeof text))
		return 0;
	for (char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, key, n) && line[n] == ' ')
			return strtoull(line + n + 1, NULL, 10);
	}
	return 0;
}

static void memory(const char *root, const char *dir, const char *limit_name, const char *use_name,
                   const char *cache_key, rv_cgroup_limits *limits) {
	uint64_t limit, use;
	if (!read_u64(root, dir, limit_name, &limit) || !read_u64(root, dir, use_name, &use))
		return;
	uint64_t cache = stat_value(root, dir, cache_key);
	use = cache < use ? use - cache : 0;
	uint64_t left = use < limit ? limit - use : 0;
	if (left < limits->mem_available)
		limits->mem_available = left;
}

static void memory_v1(const char *root, const char *dir, rv_cgroup_limits *limits) {
	memory(root, dir, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file",
	       limits);
}

static void memory_v2(const char *root, const char *dir, rv_cgroup_limits *limits) {
	memory(root, dir, "memory.max", "memory.current", "inactive_file", limits);
}

typedef void read_fn(const char *root, const char *dir, rv_cgroup_limits *limits);
static const struct {
	const char *controller; /* NULL: the one hierarchy of version 2 */
	read_fn *read;
} readers[] = {{"cpu", cpu_v1}, {"memory", memory_v1}, {NULL, cpu_v2}, {NULL, memory_v2}};

/* True when the comma-separated `list` holds `word`. */
static int list_has(const char *list, const char *word) {
	size_t n = strlen(word);
	for (const char *p = list; p; p = strchr(p, ',')) {
		p += *p == ',';
		if (!strncmp(p, word, n) && (p[n] == ',' || p[n] == '\0'))
			return 1;
	}
	return 0;
}

/* Path of this process in the hierarchy of `controller`, from lines "id:controllers:path". */
static int own_path(char *cgroup, const char *controller, char path[PATH_BYTES]) {
	for (char *line = cgroup, *next; line && *line; line = next) {
		next = strchr(line, '\n');
		size_t len = next ? (size_t)(next - line) : strlen(line);
		next = next ? next + 1 : NULL;
		char copy[PATH_BYTES];
		if (len >= sizeof copy)
			continue;
		memcpy(copy, line, len);
		copy[len] = '\0';
		char *list = strchr(copy, ':'), *place = list ? strchr(list + 1, ':') : NULL;
		if (!place)
			continue;
		*list++ = '\0';
		*place++ = '\0';
		if (controller ? !list_has(list, controller) : strcmp(copy, "0") || *list)
			continue;
		memcpy(path, place, strlen(place) + 1);
		return 1;
	}
	return 0;
}

/* mountinfo writes blank, tab, newline and backslash as \ooo. */
static void unescape(char *s) {
	char *to = s;
	for (; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
		    s[3] >= '0' && s[3] <= '7') {
			*to++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = '\0';
}

/* One line of mountinfo: "id parent dev root mountpoint options [fields] - type source superoptions".
 * True when it mounts the hierarchy of `controller`. */
static int parse_mount(char *line, const char *controller, char **mount_root, char **mount_point) {
	for (int i = 0; i < 3; i++)
		strsep(&line, " ");
	*mount_root = strsep(&line, " ");
	*mount_point = strsep(&line, " ");
	char *rest = line ? strstr(line, " - ") : NULL;
	if (!rest)
		return 0;
	rest += 3;
	char *type = strsep(&rest, " ");
	strsep(&rest, " ");
	char *super = strsep(&rest, " ");
	if (!super || (controller ? strcmp(type, "cgroup") || !list_has(super, controller)
	                          : strcmp(type, "cgroup2") != 0))
		return 0;
	unescape(*mount_root);
	unescape(*mount_point);
	return 1;
}

/* From the process's own group up to the mount point: each may set a tighter limit. */
static void walk_up(const char *root, char *mount_root, const char *mount_point, const char *own,
                    read_fn *read, rv_cgroup_limits *limits) {
	char dir[2 * PATH_BYTES];
	size_t base = strlen(mount_point), skip = strlen(mount_root);
	/* In a container the mount may show a part of the hierarchy only. */
	if (skip == 1)
		skip = 0;
	if (strncmp(own, mount_root, skip) || (own[skip] != '/' && own[skip] != '\0'))
		own = "", skip = 0;
	if ((size_t)snprintf(dir, sizeof dir, "%s%s", mount_point, own + skip) >= sizeof dir)
		return;
	for (;;) {
		size_t n = strlen(dir);
		while (n > base && dir[n - 1] == '/')
			dir[--n] = '\0';
		if (!strstr(dir + base, "/.."))
			read(root, dir, limits);
		if (n <= base)
			return;
		char *slash = strrchr(dir + base, '/');
		if (!slash)
			return;
		*slash = '\0';
	}
}

static void read_hierarchy(const char *root, char *cgroup, const char *controller, read_fn *read,
                           rv_cgroup_limits *limits) {
	char own[PATH_BYTES], path[PATH_BYTES + 64], *line = NULL;
	size_t capacity = 0;
	if (!own_path(cgroup, controller, own) ||
	    (size_t)snprintf(path, sizeof path, "%s/proc/self/mountinfo", root) >= sizeof path)
		return;
	FILE *f = fopen(path, "re");
	if (!f)
		return;
	while (getline(&line, &capacity, f) > 0) {
		char *mount_root, *mount_point;
		line[strcspn(line, "\n")] = '\0';
		if (!parse_mount(line, controller, &mount_root, &mount_point))
			continue;
		walk_up(root, mount_root, mount_point, own, read, limits);
		break;
	}
	free(line);
	fclose(f);
}

void rv_cgroup_read(const char *root, rv_cgroup_limits *out) {
	char cgroup[4 * PATH_BYTES];
	*out = (rv_cgroup_limits){.cpu_quota = 0, .mem_available = UINT64_MAX};
	if (!read_text(root, "/proc/self/cgroup", cgroup, sizeof cgroup))
		return;
	for (size_t i = 0; i < sizeof readers / sizeof *readers; i++)
		read_hierarchy(root, cgroup, readers[i].controller, readers[i].read, out);
}
