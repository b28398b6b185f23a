/* ruvltra logits: the logits of every token of a sequence, into a file. */
#include "base/file.h"
#include "base/mem.h"
#include "cli/cli_model.h"
#include "cli/commands.h"

#include <stdio.h>

typedef struct logits_args {
	const char *tokens, *out;
} logits_args;

static const rv_option options[] = {
        {.name = "tokens",
         .kind = RV_OPT_STRING,
         .offset = offsetof(logits_args, tokens),
         .value_name = "IDS",
         .help = "the sequence, with commas or blanks"},
        {.name = "out",
         .kind = RV_OPT_STRING,
         .offset = offsetof(logits_args, out),
         .value_name = "FILE",
         .help = "file to write"},
        {0},
};

static rv_status write_piece(rv_context *ctx, const int32_t *ids, int64_t first, int64_t n,
                             rv_row *rows, rv_writer *w) {
	size_t bytes = (size_t)rv_model_hparams(rv_context_model(ctx))->n_vocab * sizeof(float);
	for (int64_t i = 0; i < n; i++)
		rows[i] = (rv_row){.token = ids[first + i],
		                   .position = (int32_t)(first + i),
		                   .parent = -1,
		                   .flags = RV_ROW_LOGITS};
	RV_TRY(rv_context_eval(ctx, rows, n));
	for (int64_t i = 0; i < n; i++)
		RV_TRY(rv_writer_write(w, rv_context_logits(ctx, i), bytes));
	return RV_OK;
}

static rv_status write_logits(rv_context *ctx, const int32_t *ids, int64_t n, const char *path) {
	int64_t n_batch = rv_context_get_options(ctx)->n_batch;
	rv_writer *w;
	rv_row *rows;
	RV_TRY(RV_ALLOC(&rows, n_batch, "batch"));
	rv_status st = rv_writer_open(&w, path);
	if (st == RV_OK) {
		for (int64_t i = 0; st == RV_OK && i < n; i += n_batch)
			st = write_piece(ctx, ids, i, n - i < n_batch ? n - i : n_batch, rows, w);
		if (st == RV_OK)
			st = rv_writer_commit(w);
		else
			rv_writer_abort(w);
	}
	rv_free(rows);
	return st;
}

static int report(const rv_cli *cli, const char *path, size_t n, int64_t n_vocab) {
	if (!cli->common.json)
		return rv_cli_finish(cli);
	return rv_cli_finish_json(cli,
	                          json_pack("{s:o, s:I, s:I}", "out", rv_cli_json_path(path),
	                                    "n_tokens", (json_int_t)n, "n_vocab", (json_int_t)n_vocab));
}

int rv_cmd_logits(rv_cli *cli) {
	logits_args args = {0};
	rv_cli_model load = rv_cli_model_defaults();
	const rv_option *tables[] = {options, rv_cli_model_options, rv_cli_context_options, NULL};
	void *values[] = {&args, &load, &load};
	int status = rv_cli_parse(cli, tables, values);
	if (status != RV_CLI_GO)
		return status;
	if (!args.tokens || !*args.tokens)
		return rv_cli_usage(cli, "--tokens: ids are needed");
	if (!args.out || !*args.out)
		return rv_cli_usage(cli, "--out: a file is needed");
	if (load.model && rv_file_same(load.model, args.out))
		return rv_cli_usage(cli, "--out: %s is the model itself", args.out);

	rv_model *model = NULL;
	rv_context *ctx = NULL;
	int32_t *ids = NULL;
	size_t n = 0;
	if (rv_cli_check_output(args.out) != RV_OK)
		return rv_cli_fail(cli);
	rv_cli_hold_signals();
	status = rv_cli_open_load(cli, &load, &model);
	if (status == RV_CLI_GO) {
		int64_t n_vocab = rv_model_hparams(model)->n_vocab;
		if (rv_cli_parse_ids(args.tokens, n_vocab, &ids, &n) != RV_OK)
			status = rv_cli_usage(cli, "--tokens: %s", rv_error_message());
		else if (n == 0)
			status = rv_cli_usage(cli, "--tokens: ids are needed");
		else
			status = rv_cli_open_context(cli, &load, model, &ctx);
		if (status == RV_CLI_GO) {
			rv_context_set_cancel(ctx, rv_cli_signal, NULL);
			status = write_logits(ctx, ids, (int64_t)n, args.out) == RV_OK
			                 ? report(cli, args.out, n, n_vocab)
			                 : rv_cli_fail(cli);
		}
	}
	rv_free(ids);
	rv_context_destroy(ctx);
	rv_cli_close_load(&load, model);
	return status;
}
