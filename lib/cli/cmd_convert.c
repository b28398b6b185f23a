/* ruvltra convert: a folder of safetensors, config.json and tokenizer.json as one model file. */
#include "base/file.h"
#include "cli/cli_model.h"
#include "cli/commands.h"
#include "model/convert.h"

#include <stdio.h>
#include <unistd.h>

static const char *const types[] = {"stored", "F32", "F16", "BF16", NULL};

typedef struct convert_args {
	int type;
} convert_args;

static const rv_option options[] = {
        {.name = "type",
         .kind = RV_OPT_ENUM,
         .offset = offsetof(convert_args, type),
         .choices = types,
         .help = "type of the matrices; vectors are F32 always"},
        {0},
};

typedef struct convert_show {
	int64_t shown; /* percent */
} convert_show;

static void on_progress(void *user, double fraction, const char *tensor) {
	convert_show *show = user;
	int64_t percent = (int64_t)(100 * fraction);
	if (percent == show->shown)
		return;
	show->shown = percent;
	fprintf(stderr, "\r\033[K%3lld %% %s%s", (long long)percent, tensor,
	        percent >= 100 ? "\r\033[K" : "");
}

static int report(const rv_cli *cli, const rv_convert_report *r) {
	const char *out = cli->words[1];
	if (cli->common.json)
		return rv_cli_finish_json(
		        cli, json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "in",
		                       cli->words[0], "out", out, "arch", r->arch->name, "type",
		                       r->type_name, "n_files", (json_int_t)r->n_files, "n_tensors",
		                       (json_int_t)r->n_tensors, "n_params", (json_int_t)r->n_params,
		                       "from_bytes", (json_int_t)r->from_bytes, "to_bytes",
		                       (json_int_t)r->to_bytes, "n_padded", (json_int_t)r->n_padded));
	printf("%s: %s, %s, %lld parameters in %zu tensors of %zu files, %zu -> %zu bytes\n", out,
	       r->arch->name, r->type_name, (long long)r->n_params, r->n_tensors, r->n_files,
	       r->from_bytes, r->to_bytes);
	if (r->n_padded)
		printf("%lld tokens without a text are named [PAD<id>]\n", (long long)r->n_padded);
	return rv_cli_finish(cli);
}

int rv_cmd_convert(rv_cli *cli) {
	convert_args args = {0};
	const rv_option *tables[] = {options, NULL};
	void *values[] = {&args};
	int status = rv_cli_parse(cli, tables, values);
	if (status != RV_CLI_GO)
		return status;
	if (cli->n_words < 2)
		return rv_cli_usage(cli, "DIR OUT: %d of 2 given", cli->n_words);
	const char *dir = cli->words[0], *out = cli->words[1];
	if (rv_file_same(dir, out))
		return rv_cli_usage(cli, "%s: is both input and output", out);
	rv_log log = rv_cli_log();
	convert_show show = {-1};
	rv_convert_options o = {.type = args.type ? rv_type_by_name(types[args.type]) : NULL,
	                        .log = &log,
	                        .cancelled = rv_cli_signal,
	                        .progress = isatty(STDERR_FILENO) ? on_progress : NULL,
	                        .user = &show};
	rv_convert_report r;
	if (rv_cli_check_output(out) != RV_OK || rv_cli_open_threads(cli, &o.threads) != RV_OK)
		return rv_cli_fail(cli);
	rv_cli_hold_signals();
	rv_status st = rv_convert_dir(dir, out, &o, &r);
	rv_threads_destroy(o.threads);
	return st == RV_OK ? report(cli, &r) : rv_cli_fail(cli);
}
