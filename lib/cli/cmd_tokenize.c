/* ruvltra tokenize: text to ids, ids to bytes. */
#include "base/file.h"
#include "base/mem.h"
#include "cli/cli_model.h"
#include "cli/commands.h"
#include "model/tokenizer.h"

#include <stdio.h>
#include <string.h>

#define MAX_TEXT_BYTES ((size_t)1 << 30)

typedef struct tokenize_args {
	const char *model, *tokenizer, *file, *detokenize;
	int no_special, bos;
} tokenize_args;

#define AT(field) offsetof(tokenize_args, field)
static const rv_option options[] = {
        {.name = "model",
         .letter = 'm',
         .kind = RV_OPT_STRING,
         .offset = AT(model),
         .value_name = "FILE",
         .help = "GGUF file whose tokenizer is used"},
        {.name = "tokenizer",
         .kind = RV_OPT_STRING,
         .offset = AT(tokenizer),
         .value_name = "FILE",
         .help = "tokenizer.json or any GGUF file, vocabulary-only too"},
        {.name = "file",
         .letter = 'f',
         .kind = RV_OPT_STRING,
         .offset = AT(file),
         .value_name = "FILE",
         .help = "read the text from FILE (-: standard input)"},
        {.name = "detokenize",
         .kind = RV_OPT_STRING,
         .offset = AT(detokenize),
         .value_name = "IDS",
         .help = "write the bytes of these ids instead"},
        {.name = "no-special",
         .kind = RV_OPT_FLAG,
         .offset = AT(no_special),
         .help = "text of special tokens is ordinary text; special ids give no bytes"},
        {.name = "bos",
         .kind = RV_OPT_FLAG,
         .offset = AT(bos),
         .help = "begin with the vocabulary's begin-of-sequence id"},
        {0},
};
#undef AT

static int print_ids(const rv_cli *cli, const int32_t *ids, size_t n) {
	if (cli->common.json) {
		json_t *list = json_array();
		for (size_t i = 0; i < n; i++)
			json_array_append_new(list, json_integer(ids[i]));
		return rv_cli_finish_json(cli,
		                          json_pack("{s:o, s:I}", "ids", list, "n", (json_int_t)n));
	}
	for (size_t i = 0; i < n; i++)
		printf(i ? " %d" : "%d", ids[i]);
	putchar('\n');
	return rv_cli_finish(cli);
}

static int encode(const rv_cli *cli, const tokenize_args *args, const rv_tokenizer *tok) {
	const char *text = cli->n_words ? cli->words[0] : NULL;
	char *data = NULL;
	size_t len = text ? strlen(text) : 0;
	if (args->file && rv_file_read(args->file, MAX_TEXT_BYTES, &data, &len) != RV_OK)
		return rv_cli_fail(cli);
	rv_encode_options how = rv_encode_defaults();
	how.add_bos = args->bos;
	how.parse_special = !args->no_special;
	int32_t *ids = NULL;
	size_t n = 0;
	rv_status st = rv_tokenizer_encode(tok, data ? data : text, len, &how, &ids, &n);
	int status = st == RV_OK ? print_ids(cli, ids, n) : rv_cli_fail(cli);
	rv_free(ids);
	rv_free(data);
	return status;
}

static int decode(const rv_cli *cli, const tokenize_args *args, const rv_tokenizer *tok) {
	int32_t *ids;
	size_t n, len;
	char *text;
	if (rv_cli_parse_ids(args->detokenize, rv_tokenizer_n_vocab(tok), &ids, &n) != RV_OK)
		return rv_cli_usage(cli, "--detokenize: %s", rv_error_message());
	rv_status st = rv_tokenizer_decode(tok, ids, n, !args->no_special, 1, &text, &len);
	rv_free(ids);
	if (st != RV_OK)
		return rv_cli_fail(cli);
	int status;
	if (cli->common.json)
		status = rv_cli_finish_json(cli,
		                            json_pack("{s:o, s:I}", "text", rv_cli_json_text(text, len),
		                                      "bytes", (json_int_t)len));
	else
		status = rv_cli_write(text, len) == RV_OK ? RV_EXIT_OK : rv_cli_fail(cli);
	rv_free(text);
	return status;
}

int rv_cmd_tokenize(rv_cli *cli) {
	tokenize_args args = {0};
	const rv_option *tables[] = {options, NULL};
	void *values[] = {&args};
	int status = rv_cli_parse(cli, tables, values);
	if (status != RV_CLI_GO)
		return status;
	const char *path = args.tokenizer ? args.tokenizer : args.model;
	if (!path || !*path || (args.tokenizer && args.model))
		return rv_cli_usage(cli, "--tokenizer: one of -m FILE and --tokenizer FILE is needed");
	if ((cli->n_words > 0) + (args.file != NULL) + (args.detokenize != NULL) != 1)
		return rv_cli_usage(cli, "TEXT: one of TEXT, -f FILE and --detokenize IDS is needed");
	rv_log log = rv_cli_log();
	rv_tokenizer *tok;
	if (rv_tokenizer_open(&tok, path, &log) != RV_OK)
		return rv_cli_fail(cli);
	if (args.bos && rv_tokenizer_bos(tok) < 0) {
		rv_fail(RV_ERR_INVALID, "%s: the vocabulary has no begin-of-sequence id", path);
		status = rv_cli_fail(cli);
	} else {
		status = args.detokenize ? decode(cli, &args, tok) : encode(cli, &args, tok);
	}
	rv_tokenizer_destroy(tok);
	return status;
}
