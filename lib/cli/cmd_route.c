/* ruvltra route: which agent should act on a request. */
#include "base/file.h"
#include "base/mem.h"
#include "cli/cli_model.h"
#include "cli/commands.h"
#include "learn/agent_router.h"

#include <stdio.h>
#include <string.h>

#define LINES_MAX_BYTES ((size_t)1 << 28)
enum { SHOWN_NEIGHBOURS = 5 };

typedef struct route_args {
	const char *lines, *model, *file;
	int router;
} route_args;

static const rv_option options[] = {
        {.name = "router",
         .kind = RV_OPT_ENUM,
         .offset = offsetof(route_args, router),
         .choices = rv_agent_router_names,
         .help = "how to decide"},
        {.name = "file",
         .letter = 'f',
         .kind = RV_OPT_STRING,
         .offset = offsetof(route_args, lines),
         .value_name = "LINES",
         .help = "file with a request a line, - for stdin"},
        {.name = "model",
         .letter = 'm',
         .kind = RV_OPT_STRING,
         .offset = offsetof(route_args, model),
         .value_name = "FILE",
         .help = "embedder; default: the one that ships"},
        {.name = "learnt",
         .kind = RV_OPT_STRING,
         .offset = offsetof(route_args, file),
         .value_name = "FILE",
         .help = "written by `ruvltra train router`; default: what ships"},
        {0},
};

typedef struct job {
	const rv_cli *cli;
	const route_args *args;
	rv_model *model;
	rv_embedder *embedder;
	rv_agent_router *router;
	rv_agent_decision decision;
	json_t *all; /* with --json */
} job;

static rv_status open_router(job *j) {
	char model[4096], file[4096];
	const route_args *a = j->args;
	rv_embedder_options o = rv_embedder_defaults();
	if (!a->file)
		RV_TRY(rv_cli_shipped("models/router.bin", file, sizeof file));
	if (a->router != RV_ROUTER_KEYWORD) {
		if (!a->model)
			RV_TRY(rv_cli_shipped("models/embedder.gguf", model, sizeof model));
		o.n_threads = 1; /* a request is too short for more */
		o.pin = 0;
		o.log = rv_cli_log();
		RV_TRY(rv_model_open(&j->model, a->model ? a->model : model, NULL));
		RV_TRY(rv_embedder_create(&j->embedder, j->model, &o));
	}
	return rv_agent_router_open(&j->router, a->file ? a->file : file, j->embedder);
}

static void close_router(job *j) {
	rv_agent_router_destroy(j->router);
	rv_embedder_destroy(j->embedder);
	rv_model_release(j->model);
	json_decref(j->all);
}

static json_t *as_json(const rv_agent_decision *d, const char *text, size_t len) {
	json_t *neighbours = json_array(), *probabilities = json_object();
	for (int i = 0; i < d->n_neighbours && i < SHOWN_NEIGHBOURS; i++) {
		const rv_agent_neighbour *n = &d->neighbours[i];
		json_array_append_new(neighbours,
		                      json_pack("{s:s, s:f, s:o}", "agent", rv_agent_names[n->agent],
		                                "similarity", (double)n->similarity, "text",
		                                rv_cli_json_text(n->text, strlen(n->text))));
	}
	for (int a = 0; a < RV_AGENTS; a++)
		json_object_set_new(probabilities, rv_agent_names[a],
		                    json_real((double)d->probabilities[a]));
	return json_pack("{s:o, s:s, s:f, s:s, s:s, s:f, s:o, s:o}", "text",
	                 rv_cli_json_text(text, len), "agent", rv_agent_names[d->agent], "confidence",
	                 (double)d->confidence, "class", rv_agent_classes[d->task_class], "complexity",
	                 rv_agent_levels[d->complexity], "quality", (double)d->quality, "probabilities",
	                 probabilities, "neighbours", neighbours);
}

static rv_status route_one(job *j, const char *text, size_t len) {
	RV_TRY(rv_agent_route(j->router, (rv_agent_router_kind)j->args->router, text, len,
	                      &j->decision));
	if (j->all)
		json_array_append_new(j->all, as_json(&j->decision, text, len));
	else
		printf("%s\t%.3f\n", rv_agent_names[j->decision.agent], (double)j->decision.confidence);
	return RV_OK;
}

/* LF or CRLF; the last line may lack its line feed. */
static rv_status route_lines(job *j, const char *data, size_t size) {
	long long line = 0;
	char place[4096 + 32];
	for (const char *at = data, *end = data + size; at < end;) {
		const char *stop = memchr(at, '\n', (size_t)(end - at));
		const char *next = stop ? stop + 1 : end;
		stop = stop ? stop : end;
		stop -= stop > at && stop[-1] == '\r';
		line++;
		const rv_status st = rv_cli_signal(NULL)
		                             ? rv_fail(RV_ERR_CANCELLED, "routing cancelled")
		                             : route_one(j, at, (size_t)(stop - at));
		if (st != RV_OK) {
			snprintf(place, sizeof place, "%s, line %lld", j->args->lines, line);
			return rv_fail_in(st, place);
		}
		at = next;
	}
	return line ? RV_OK : rv_fail(RV_ERR_INVALID, "%s: it has no lines", j->args->lines);
}

static rv_status route_all(job *j, const char *text) {
	char *data;
	size_t size;
	if (text)
		return route_one(j, text, strlen(text));
	RV_TRY(rv_file_read(j->args->lines, LINES_MAX_BYTES, &data, &size));
	const rv_status st = route_lines(j, data, size);
	rv_free(data);
	return st;
}

int rv_cmd_route(rv_cli *cli) {
	route_args args = {.router = RV_ROUTER_HYBRID};
	const rv_option *tables[] = {options, NULL};
	void *values[] = {&args};
	int status = rv_cli_parse(cli, tables, values);
	if (status != RV_CLI_GO)
		return status;
	if (!args.lines == !cli->n_words)
		return rv_cli_usage(cli, "a TEXT or --file LINES is needed, and not both");
	job j = {.cli = cli, .args = &args, .all = cli->common.json ? json_array() : NULL};
	rv_cli_hold_signals();
	rv_status st = open_router(&j);
	if (st == RV_OK)
		st = route_all(&j, cli->n_words ? cli->words[0] : NULL);
	if (st != RV_OK) {
		fflush(stdout);
		status = rv_cli_fail(cli);
	} else if (j.all)
		status = rv_cli_finish_json(cli, json_incref(j.all));
	else
		status = rv_cli_finish(cli);
	close_router(&j);
	return status;
}
