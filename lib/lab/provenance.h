/* Where a result comes from: program, machine, model, settings of one process. */
#ifndef RV_LAB_PROVENANCE_H
#define RV_LAB_PROVENANCE_H

#include "base/json.h"
#include "base/status.h"
#include "lab/experiment.h"

/* The fields of a run, in the order of the columns of /runs. S: text, N: number (a missing number is
 * NaN, a missing text is ""). */
/* clang-format off */
#define RV_RUN_FIELDS(S, N)                                                           \
	N(run) S(utc_start) S(experiment) S(profile) S(command) N(seed) S(git_commit) \
	N(dirty) S(version) S(compiler) S(flags) S(sanitizer) S(build_id) S(os)       \
	S(cpu_model) S(cpu_features) S(level) N(n_cpus) N(n_usable) N(cpu_quota)      \
	N(n_threads) S(threads) S(governor) N(mem_total_bytes) N(mem_available_bytes) \
	N(l1d_bytes) N(l2_bytes) N(l3_bytes) S(libraries) S(model_path)               \
	S(model_sha256) S(model_label) S(data_sha256) S(settings) N(read_gb_s)        \
	N(f32_gflop_s) N(int8_gop_s) N(read_buffer_bytes) S(hwloc_xml)
/* clang-format on */

/* An object with the fields above; the caller owns it. command: the words of the command line. */
rv_status rv_provenance_json(const rv_experiment *exp, const rv_run_config *config, int run, int argc,
                             char **argv, json_t **out);

/* GNU build id of the running program as hex, or the SHA-256 of its file when it has none. */
rv_status rv_build_id(char out[65]);

/* CPU model, count and feature level: results of different classes are never mixed. */
rv_status rv_machine_class(char *out, size_t size);

#endif
