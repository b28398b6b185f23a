/* ruvltra embed: vectors of the lines of a file, into a file. */
#include "base/file.h"
#include "base/mem.h"
#include "cli/cli_model.h"
#include "cli/commands.h"
#include "engine/embed.h"

#include <stdio.h>
#include <string.h>

#define LINES_MAX_BYTES ((size_t)1 << 30)
#define BATCH 256 /* lines between two looks at signals */

typedef struct embed_args {
	const char *lines, *out;
	int dim; /* spelled */
} embed_args;

enum { DIM_STORE, DIM_NATIVE };
static const char *const dims[] = {"768", "native", NULL};

static const rv_option options[] = {
        {.name = "file",
         .letter = 'f',
         .kind = RV_OPT_STRING,
         .offset = offsetof(embed_args, lines),
         .value_name = "LINES",
         .help = "file with a text a line, - for stdin"},
        {.name = "out",
         .kind = RV_OPT_STRING,
         .offset = offsetof(embed_args, out),
         .value_name = "FILE",
         .help = "file to write: raw little-endian f32, lines x numbers"},
        {.name = "dim",
         .kind = RV_OPT_ENUM,
         .offset = offsetof(embed_args, dim),
         .choices = dims,
         .value_name = "768|native",
         .help = "numbers of a vector"},
        {0},
};

typedef struct lines {
	char *data;
	rv_embed_input *at; /* [n] */
	int64_t n;
} lines;

/* LF or CRLF; the last line may lack its line feed. */
static rv_status read_lines(const char *path, lines *out) {
	size_t size, n = 1;
	RV_TRY(rv_file_read(path, LINES_MAX_BYTES, &out->data, &size));
	for (size_t i = 0; i < size; i++)
		n += out->data[i] == '\n';
	RV_TRY(RV_ALLOC(&out->at, n, "lines"));
	for (const char *p = out->data, *end = p + size; p < end;) {
		const char *stop = memchr(p, '\n', (size_t)(end - p));
		const char *next = stop ? stop + 1 : end;
		stop = stop ? stop : end;
		if (stop > p && stop[-1] == '\r')
			stop--;
		if (stop == p)
			return rv_fail(RV_ERR_INVALID, "%s, line %lld: it is empty", path,
			               (long long)out->n + 1);
		out->at[out->n++] = (rv_embed_input){p, (size_t)(stop - p)};
		p = next;
	}
	return out->n ? RV_OK : rv_fail(RV_ERR_INVALID, "%s: it has no lines", path);
}

static rv_status write_vectors(rv_embedder *e, const lines *in, const char *path) {
	const int64_t dim = rv_embedder_dim(e);
	float *vectors;
	rv_writer *w;
	RV_TRY(RV_ALLOC(&vectors, BATCH * dim, "vectors"));
	rv_status st = rv_writer_open(&w, path);
	if (st == RV_OK) {
		for (int64_t i = 0; st == RV_OK && i < in->n; i += BATCH) {
			const int64_t n = in->n - i < BATCH ? in->n - i : BATCH;
			if (rv_cli_signal(NULL))
				st = rv_fail(RV_ERR_CANCELLED, "embedding cancelled at line %lld",
				             (long long)i + 1);
			else
				st = rv_embed_batch(e, in->at + i, n, vectors);
			if (st == RV_OK)
				st = rv_writer_write(w, vectors, (size_t)(n * dim) * sizeof *vectors);
		}
		if (st == RV_OK)
			st = rv_writer_commit(w);
		else
			rv_writer_abort(w);
	}
	rv_free(vectors);
	return st;
}

static int report(const rv_cli *cli, const char *path, int64_t n, const rv_embedder *e) {
	if (cli->common.json)
		return rv_cli_finish_json(cli, json_pack("{s:o, s:I, s:I, s:b}", "out",
		                                         rv_cli_json_path(path), "n", (json_int_t)n,
		                                         "dim", (json_int_t)rv_embedder_dim(e),
		                                         "learned_map", rv_embedder_learned(e)));
	printf("%lld %lld\n", (long long)n, (long long)rv_embedder_dim(e));
	return rv_cli_finish(cli);
}

static int embed(const rv_cli *cli, rv_model *model, const embed_args *args) {
	rv_embedder_options o = rv_embedder_defaults();
	o.dim = args->dim == DIM_NATIVE ? 0 : RV_EMBED_DIM;
	o.n_threads = (int)cli->common.threads;
	o.log = rv_cli_log();
	lines in = {0};
	rv_embedder *e = NULL;
	rv_status st = read_lines(args->lines, &in);
	if (st == RV_OK)
		st = rv_embedder_create(&e, model, &o);
	if (st == RV_OK)
		st = write_vectors(e, &in, args->out);
	int status = st == RV_OK ? report(cli, args->out, in.n, e) : rv_cli_fail(cli);
	rv_embedder_destroy(e);
	rv_free(in.at);
	rv_free(in.data);
	return status;
}

int rv_cmd_embed(rv_cli *cli) {
	embed_args args = {0};
	rv_cli_model load = rv_cli_model_defaults();
	const rv_option *tables[] = {options, rv_cli_model_options, NULL};
	void *values[] = {&args, &load};
	int status = rv_cli_parse(cli, tables, values);
	if (status != RV_CLI_GO)
		return status;
	if (!args.lines || !*args.lines)
		return rv_cli_usage(cli, "--file: a file of lines is needed");
	if (!args.out || !*args.out)
		return rv_cli_usage(cli, "--out: a file is needed");
	if ((load.model && rv_file_same(load.model, args.out)) || rv_file_same(args.lines, args.out))
		return rv_cli_usage(cli, "--out: %s is read too", args.out);
	char shipped[4096];
	if (!load.model) {
		if (rv_cli_shipped("models/embedder.gguf", shipped, sizeof shipped) != RV_OK)
			return rv_cli_fail(cli);
		load.model = shipped;
	}
	if (rv_cli_check_output(args.out) != RV_OK)
		return rv_cli_fail(cli);
	rv_cli_hold_signals();
	rv_model *model = NULL;
	status = rv_cli_open_load(cli, &load, &model);
	if (status == RV_CLI_GO)
		status = embed(cli, model, &args);
	rv_cli_close_load(&load, model);
	return status;
}
