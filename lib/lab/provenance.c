#include "lab/provenance.h"

#include "base/build_info.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/sysinfo.h"
#include "engine/context.h"

#include <elf.h>
#include <gnu/libc-version.h>
#include <gsl/gsl_version.h>
#include <hdf5.h>
#include <hwloc.h>
#include <link.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- pieces ---- */

static void hex_of(const unsigned char *bytes, size_t n, char *out) {
	for (size_t i = 0; i < n; i++)
		snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

static size_t align4(size_t n) {
	return (n + 3) & ~(size_t)3;
}

/* Called for the program itself first; any non-zero result ends the walk. */
static int find_build_id(struct dl_phdr_info *info, size_t size, void *user) {
	(void)size;
	char *out = user;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
		if (ph->p_type != PT_NOTE)
			continue;
		const char *at = (const char *)(info->dlpi_addr + ph->p_vaddr), *end = at + ph->p_memsz;
		while ((size_t)(end - at) >= sizeof(ElfW(Nhdr))) {
			ElfW(Nhdr) note;
			memcpy(&note, at, sizeof note);
			const char *name = at + sizeof note;
			const char *desc = name + align4(note.n_namesz);
			if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
			    memcmp(name, "GNU", 4) == 0 && note.n_descsz <= 32) {
				hex_of((const unsigned char *)desc, note.n_descsz, out);
				return 1;
			}
			at = desc + align4(note.n_descsz);
		}
	}
	return 1;
}

rv_status rv_build_id(char out[65]) {
	out[0] = 0;
	dl_iterate_phdr(find_build_id, out);
	return out[0] != 0 ? RV_OK : rv_file_sha256("/proc/self/exe", out);
}

rv_status rv_machine_class(char *out, size_t size) {
	rv_sysinfo sys;
	rv_level level;
	rv_sysinfo_get(&sys);
	RV_TRY(rv_level_default(&level));
	snprintf(out, size, "%s, %d CPUs, %s", sys.cpu_model, sys.n_cpus, rv_level_name(level));
	return RV_OK;
}

static void first_line(const char *path, char *out, size_t size, const char *otherwise) {
	FILE *f = fopen(path, "re");
	if (f == NULL || fgets(out, (int)size, f) == NULL)
		snprintf(out, size, "%s", otherwise);
	if (f != NULL)
		fclose(f);
	out[strcspn(out, "\n")] = 0;
}

static void library_versions(char *out, size_t size) {
	unsigned major = 0, minor = 0, patch = 0;
	H5get_libversion(&major, &minor, &patch);
	unsigned hw = hwloc_get_api_version();
	snprintf(out, size, "hdf5 %u.%u.%u, gsl %s, jansson %s, hwloc %u.%u, glibc %s", major, minor,
	         patch, gsl_version, JANSSON_VERSION, hw >> 16, (hw >> 8) & 0xff,
	         gnu_get_libc_version());
}

/* The machine as hwloc sees it; "" when it cannot tell. */
static rv_status topology_xml(char **out) {
	hwloc_topology_t topology;
	char *xml = NULL;
	int len = 0;
	rv_status status = RV_OK;
	if (hwloc_topology_init(&topology) != 0)
		return rv_strdup(out, "");
	if (hwloc_topology_load(topology) == 0 &&
	    hwloc_topology_export_xmlbuffer(topology, &xml, &len, 0) == 0) {
		status = rv_strdup(out, xml);
		hwloc_free_xmlbuffer(topology, xml);
	} else {
		status = rv_strdup(out, "");
	}
	hwloc_topology_destroy(topology);
	return status;
}

/* Words as a shell would take them back. */
static rv_status command_line(int argc, char **argv, char **out) {
	size_t size = 1;
	for (int i = 0; i < argc; i++)
		size += 4 * strlen(argv[i]) + 3;
	RV_TRY(RV_ALLOC(out, size, "command line"));
	char *at = *out;
	for (int i = 0; i < argc; i++) {
		const char *w = argv[i];
		static const char plain[] =
		        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
		        "_-./=:,+@%";
		int quote = w[0] == 0 || w[strspn(w, plain)] != 0;
		if (i > 0)
			*at++ = ' ';
		if (quote)
			*at++ = '\'';
		for (; *w != 0; w++)
			if (*w == '\'')
				at += sprintf(at, "'\\''");
			else
				*at++ = *w;
		if (quote)
			*at++ = '\'';
	}
	*at = 0;
	return RV_OK;
}

/* ---- the object ---- */

static int put_text(json_t *o, const char *key, const char *value) {
	return json_object_set_new(o, key, json_string(value != NULL ? value : ""));
}

static int put_number(json_t *o, const char *key, double value) {
	return isfinite(value) ? json_object_set_new(o, key, json_real(value)) : 0;
}

static int put_build(json_t *o) {
	return put_text(o, "git_commit", rv_build_commit()) | put_number(o, "dirty", rv_build_dirty()) |
	       put_text(o, "version", rv_build_version()) |
	       put_text(o, "compiler", rv_build_compiler()) | put_text(o, "flags", rv_build_flags()) |
	       put_text(o, "sanitizer", rv_build_sanitizer());
}

static int put_machine(json_t *o) {
	rv_sysinfo sys;
	char text[1024];
	rv_sysinfo_get(&sys);
	int bad = put_text(o, "os", sys.os) | put_text(o, "cpu_model", sys.cpu_model) |
	          put_number(o, "n_cpus", sys.n_cpus) | put_number(o, "n_usable", sys.n_usable) |
	          put_number(o, "cpu_quota", sys.cpu_quota) |
	          put_number(o, "mem_total_bytes", (double)sys.mem_total_bytes) |
	          put_number(o, "mem_available_bytes", (double)sys.mem_available_bytes) |
	          put_number(o, "l1d_bytes", (double)sys.l1d_bytes) |
	          put_number(o, "l2_bytes", (double)sys.l2_bytes) |
	          put_number(o, "l3_bytes", (double)sys.l3_bytes);
	rv_cpu_features(text, sizeof text);
	bad |= put_text(o, "cpu_features", text);
	first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", text, sizeof text, "n/a");
	bad |= put_text(o, "governor", text);
	library_versions(text, sizeof text);
	return bad | put_text(o, "libraries", text);
}

static int put_config(json_t *o, const rv_experiment *exp, const rv_run_config *c, int run) {
	char utc[32];
	rv_utc_now(utc);
	return put_number(o, "run", run) | put_text(o, "utc_start", utc) |
	       put_text(o, "experiment", exp->id) |
	       put_text(o, "profile", rv_profile_names[c->profile]) |
	       put_number(o, "seed", (double)c->seed) | put_number(o, "n_threads", c->n_threads) |
	       put_text(o, "threads", c->calibration.threads) |
	       put_text(o, "model_path", c->inputs.model_path) |
	       put_text(o, "model_sha256", c->inputs.model_sha256) |
	       put_text(o, "model_label", c->inputs.model_label) |
	       put_text(o, "data_sha256", c->inputs.data_sha256) |
	       put_text(o, "settings", c->inputs.settings) |
	       put_number(o, "read_gb_s", c->calibration.read_gb_s) |
	       put_number(o, "f32_gflop_s", c->calibration.f32_gflop_s) |
	       put_number(o, "int8_gop_s", c->calibration.int8_gop_s) |
	       put_number(o, "read_buffer_bytes", (double)c->calibration.read_bytes);
}

rv_status rv_provenance_json(const rv_experiment *exp, const rv_run_config *config, int run, int argc,
                             char **argv, json_t **out) {
	char build_id[65];
	rv_level level;
	char *xml = NULL, *command = NULL;
	RV_TRY(rv_build_id(build_id));
	RV_TRY(rv_level_default(&level));
	rv_status status = topology_xml(&xml);
	if (status == RV_OK)
		status = command_line(argc, argv, &command);
	json_t *o = status == RV_OK ? json_object() : NULL;
	if (status == RV_OK &&
	    (o == NULL ||
	     (put_config(o, exp, config, run) | put_build(o) | put_machine(o) |
	      put_text(o, "build_id", build_id) | put_text(o, "command", command) |
	      put_text(o, "level", rv_level_name(level)) | put_text(o, "hwloc_xml", xml)) != 0))
		status = rv_fail(RV_ERR_NO_MEMORY, "provenance: out of memory or text not UTF-8");
	rv_free(xml);
	rv_free(command);
	if (status != RV_OK) {
		json_decref(o);
		return status;
	}
	*out = o;
	return RV_OK;
}
