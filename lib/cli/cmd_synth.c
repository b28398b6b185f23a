/* ruvltra synth: a model file of a preset's shape with random weights. */
#include "cli/cli_model.h"
#include "cli/commands.h"
#include "model/synth.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

typedef struct synth_args {
	const char *type;
	int untied;
} synth_args;

static const rv_option options[] = {
        {.name = "type",
         .kind = RV_OPT_STRING,
         .offset = offsetof(synth_args, type),
         .value_name = "TYPE",
         .help = "type or mix of the weights"},
        {.name = "untied",
         .kind = RV_OPT_FLAG,
         .offset = offsetof(synth_args, untied),
         .help = "an output head of its own"},
        {0},
};

static int report(const rv_cli *cli, const char *path, const rv_quant_target *target,
                  const rv_synth_options *o) {
	struct stat st = {0};
	if (stat(path, &st) != 0) {
		rv_fail_errno(RV_ERR_IO, "%s", path);
		return rv_cli_fail(cli);
	}
	int64_t n = rv_arch_n_params(o->arch, &o->hp);
	double bits = 8.0 * (double)st.st_size / (double)n;
	if (cli->common.json)
		return rv_cli_finish_json(
		        cli, json_pack("{s:o, s:s, s:I, s:I, s:f, s:I}", "out", rv_cli_json_path(path),
		                       "type", rv_quant_target_name(target), "n_params", (json_int_t)n,
		                       "bytes", (json_int_t)st.st_size, "bits_per_param", bits, "seed",
		                       (json_int_t)o->seed));
	printf("%s: %s, %lld parameters, %lld bytes, %.3f bits a parameter\n", path,
	       rv_quant_target_name(target), (long long)n, (long long)st.st_size, bits);
	return rv_cli_finish(cli);
}

int rv_cmd_synth(rv_cli *cli) {
	synth_args args = {.type = "F16"};
	const rv_option *tables[] = {options, NULL};
	void *values[] = {&args};
	int status = rv_cli_parse(cli, tables, values);
	if (status != RV_CLI_GO)
		return status;
	if (cli->n_words != 2)
		return rv_cli_usage(cli, "PRESET OUT: both are needed");
	const rv_preset *preset = rv_preset_by_name(cli->words[0]);
	if (!preset)
		return rv_cli_usage(cli, "preset '%.64s': is none of %s", cli->words[0],
		                    rv_preset_names());
	const rv_quant_target *target = rv_quant_target_by_name(args.type);
	if (!target)
		return rv_cli_usage(cli, "--type '%.64s': is none of %s", args.type,
		                    rv_quant_target_names());
	rv_log log = rv_cli_log();
	rv_synth_options o = {.arch = rv_arch_by_name(preset->arch, strlen(preset->arch)),
	                      .hp = preset->hp,
	                      .target = target,
	                      .seed = (uint64_t)cli->common.seed,
	                      .log = &log};
	if (args.untied)
		o.hp.tied = 0;
	if (rv_cli_check_output(cli->words[1]) != RV_OK ||
	    rv_cli_open_threads(cli, &o.threads) != RV_OK)
		return rv_cli_fail(cli);
	rv_status st = rv_synth_file(cli->words[1], &o);
	rv_threads_destroy(o.threads);
	return st == RV_OK ? report(cli, cli->words[1], target, &o) : rv_cli_fail(cli);
}
