/* ruvltra chat: a conversation. A line of stdin is a turn; what was said stays in the cache. */
#include "base/mem.h"
#include "cli/cli_draft.h"
#include "cli/cli_model.h"
#include "cli/cli_sampling.h"
#include "cli/cli_sona.h"
#include "cli/commands.h"
#include "engine/generate.h"
#include "model/chat_template.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_LINE_BYTES ((size_t)1 << 26)
#define READ_BYTES ((size_t)1 << 16)

typedef struct chat_args {
	const char *system, *template;
	int64_t n_predict;
} chat_args;

#define AT(field) offsetof(chat_args, field)
static const rv_option options[] = {
        {.name = "system",
         .kind = RV_OPT_STRING,
         .offset = AT(system),
         .value_name = "TEXT",
         .help = "the system message; without it the template's own, if it has one"},
        {.name = "template",
         .kind = RV_OPT_STRING,
         .offset = AT(template),
         .value_name = "NAME",
         .help = "chatml, llama2, llama3, mistral, mistral-v0.1, mistral-v1 or mistral-tekken, "
                 "rather than the file's"},
        {.name = "n-predict",
         .letter = 'n',
         .kind = RV_OPT_INT,
         .offset = AT(n_predict),
         .min = 0,
         .max = 1 << 28,
         .unit = "tokens",
         .help = "most tokens of an answer; 0: until it ends"},
        {0},
};
#undef AT

/* Lines of stdin. */
typedef struct lines {
	char *data;
	size_t n, cap, at; /* bytes read, room, and where the next line begins */
	int ended;
} lines;

/* Everything of one conversation. */
typedef struct chat {
	rv_cli *cli;
	chat_args args;
	rv_cli_sampling sampling;
	rv_cli_model load;
	rv_cli_draft draft;
	rv_cli_sona sona;
	rv_model *model;
	rv_context *ctx;
	rv_sampler *sampler;
	const rv_chat_template *form;
	rv_str system; /* data NULL: none */
	lines input;
	int32_t last;     /* id chosen last */
	rv_status output; /* of stdout */
	char *answer;     /* with --json */
	size_t n_answer;
	json_t *turns;
} chat;

/* ---- input ---- */

/* A signal ends the wait and the program with it: nothing is under way. */
static rv_status read_more(lines *in) {
	struct pollfd wait = {.fd = STDIN_FILENO, .events = POLLIN};
	sigset_t none;
	sigemptyset(&none);
	if (in->cap - in->n < READ_BYTES) {
		size_t cap = 2 * in->cap + READ_BYTES;
		if (in->n > MAX_LINE_BYTES)
			return rv_fail(RV_ERR_LIMIT, "stdin: a line is longer than %zu bytes",
			               MAX_LINE_BYTES);
		RV_TRY(RV_GROW(&in->data, in->cap, cap, "input"));
		in->cap = cap;
	}
	while (ppoll(&wait, 1, NULL, &none) < 0)
		if (errno != EINTR)
			return rv_fail_errno(RV_ERR_IO, "stdin");
	ssize_t got = read(STDIN_FILENO, in->data + in->n, READ_BYTES);
	if (got < 0 && errno != EINTR && errno != EAGAIN)
		return rv_fail_errno(RV_ERR_IO, "stdin");
	in->ended = got == 0;
	in->n += got > 0 ? (size_t)got : 0;
	return RV_OK;
}

/* The next line without its end, borrowed until the next call; *line NULL at the end of input. */
static rv_status next_line(lines *in, const char **line, size_t *len) {
	size_t seen = 0;
	if (in->at) {
		memmove(in->data, in->data + in->at, in->n - in->at);
		in->n -= in->at;
		in->at = 0;
	}
	for (;;) {
		const char *end = in->n > seen ? memchr(in->data + seen, '\n', in->n - seen) : NULL;
		if (end || (in->ended && in->n)) {
			*line = in->data;
			*len = end ? (size_t)(end - in->data) : in->n;
			in->at = *len + (end != NULL);
			return RV_OK;
		}
		*line = NULL;
		if (in->ended)
			return RV_OK;
		seen = in->n;
		RV_TRY(read_more(in));
	}
}

/* Only somebody at a terminal is asked. */
static void ask(void) {
	if (isatty(STDIN_FILENO) && isatty(STDERR_FILENO))
		fputs("> ", stderr);
}

/* ---- a turn ---- */

/* The user's text as ids, with what the template puts around it. */
static rv_status encode_turn(const chat *c, const char *line, size_t len, int32_t **ids, size_t *n) {
	int first = rv_seq_length(c->ctx, 0) == 0;
	const rv_chat_message system = {RV_CHAT_SYSTEM, c->system.data, c->system.len};
	const rv_chat_message user = {RV_CHAT_USER, line, len};
	const rv_chat_message begin[] = {system, user};
	/* Of what was said before only its place counts: its tokens are in the cache. */
	const rv_chat_message later[] = {{RV_CHAT_USER, "", 0}, {RV_CHAT_ASSISTANT, "", 0}, user};
	rv_chat_piece *pieces;
	size_t n_pieces, skip = c->system.data ? 0 : 1;
	RV_TRY(first ? rv_chat_render(c->form, begin + skip, 2 - skip, 0, &pieces, &n_pieces)
	             : rv_chat_render(c->form, later, 3, 2, &pieces, &n_pieces));
	rv_status status =
	        rv_chat_encode(c->form, rv_model_tokenizer(c->model), pieces, n_pieces, first, ids, n);
	rv_free(pieces);
	return status;
}

static rv_status context_full(const chat *c, const char *what, int64_t n) {
	return rv_fail(RV_ERR_LIMIT,
	               "context: full, %lld tokens in use of %lld, %s%lld more; begin anew, or with "
	               "more room (--ctx)",
	               (long long)rv_seq_length(c->ctx, 0),
	               (long long)rv_context_get_options(c->ctx)->n_ctx, what, (long long)n);
}

/* One more token of the answer; id -1: text held back until the end. */
static int on_token(void *user, int32_t id, const char *text, size_t len, double logprob) {
	chat *c = user;
	(void)logprob;
	/* The prompt is done: from here on a signal is noticed between tokens. */
	rv_context_set_cancel(c->ctx, NULL, NULL);
	if (id >= 0)
		c->last = id;
	if (len > 0 && !c->cli->common.json) {
		c->output = rv_cli_write(text, len);
	} else if (len > 0) {
		c->output = rv_grow((void **)&c->answer, c->n_answer, c->n_answer + len, 1, "answer");
		if (c->output == RV_OK) {
			memcpy(c->answer + c->n_answer, text, len);
			c->n_answer += len;
		}
	}
	return c->output != RV_OK || rv_cli_signal(NULL);
}

static rv_status generate(chat *c, const char *line, size_t len, const int32_t *ids, size_t n,
                          rv_generate_result *result) {
	const char *stops[RV_OPTION_LIST_MAX + 1] = {0};
	const rv_option_list *stop = &c->sampling.stop;
	memcpy(stops, stop->items, (size_t)stop->n * sizeof *stops);
	rv_generate_options how = rv_generate_defaults();
	how.n_predict = c->args.n_predict ? c->args.n_predict : -1;
	how.stop_strings = stop->n ? stops : NULL;
	how.speculator = c->draft.speculator;
	how.on_token = on_token;
	how.user = c;
	rv_context_set_cancel(c->ctx, rv_cli_signal, NULL);
	int64_t begin = rv_seq_length(c->ctx, 0), room = rv_context_get_options(c->ctx)->n_ctx - begin;
	if ((int64_t)n > room)
		return context_full(c, "the turn needs ", (int64_t)n - room);
	RV_TRY(rv_cli_sona_generate(&c->sona, c->ctx, line, len, ids, (int64_t)n, c->sampler, &how,
	                            result));
	/* An answer cut short: its last token was chosen but not evaluated, and the next turn follows.
	 * Where there is no room for it, there is none for a turn. */
	int64_t end = rv_seq_length(c->ctx, 0);
	rv_row row = {.token = c->last, .position = (int32_t)end, .parent = -1};
	int left = end < begin + (int64_t)n + result->n_generated && end < begin + room;
	return left && c->output == RV_OK ? rv_context_eval(c->ctx, &row, 1) : RV_OK;
}

static rv_status finish_turn(chat *c, const char *line, size_t len, const rv_generate_result *res) {
	if (!c->cli->common.json)
		return rv_cli_write("\n", 1);
	json_t *turn = json_pack("{s:o, s:o, s:s, s:I, s:I}", "user", rv_cli_json_text(line, len),
	                         "answer", rv_cli_json_text(c->answer ? c->answer : "", c->n_answer),
	                         "stop", rv_stop_name(res->stop), "n_prompt", (json_int_t)res->n_prompt,
	                         "n_generated", (json_int_t)res->n_generated);
	json_object_set_new(turn, "sona", rv_cli_sona_json(&c->sona));
	rv_free(c->answer);
	c->answer = NULL;
	c->n_answer = 0;
	if (json_array_append_new(c->turns, turn) != 0)
		return rv_fail(RV_ERR_NO_MEMORY, "JSON output: out of memory");
	return RV_OK;
}

static rv_status take_turn(chat *c, const char *line, size_t len) {
	rv_generate_result result;
	int32_t *ids;
	size_t n;
	RV_TRY(encode_turn(c, line, len, &ids, &n));
	rv_status status = generate(c, line, len, ids, n, &result);
	rv_free(ids);
	RV_TRY(status);
	RV_TRY(c->output);
	RV_TRY(finish_turn(c, line, len, &result));
	rv_cli_sona_print(&c->sona);
	return result.stop == RV_STOP_CONTEXT ? context_full(c, "the answer needs at least ", 1)
	                                      : RV_OK;
}

static rv_status converse(chat *c) {
	for (;;) {
		const char *line;
		size_t len;
		ask();
		RV_TRY(next_line(&c->input, &line, &len));
		if (!line)
			return RV_OK;
		int rated;
		RV_TRY(rv_cli_sona_line(&c->sona, line, len, &rated));
		if (len > 0 && !rated)
			RV_TRY(take_turn(c, line, len));
		if (rv_cli_signal(NULL))
			return rv_fail(RV_ERR_CANCELLED, "chat: interrupted");
	}
}

/* ---- start and end ---- */

static rv_status choose_template(chat *c) {
	rv_chat_found found;
	rv_log log = rv_cli_log();
	if (!rv_model_tokenizer(c->model))
		return rv_fail(RV_ERR_UNSUPPORTED, "%s: has no tokenizer", rv_model_path(c->model));
	if (c->args.system)
		c->system = (rv_str){c->args.system, strlen(c->args.system)};
	if (c->form)
		return RV_OK;
	rv_status status = rv_chat_recognise_gguf(rv_model_gguf(c->model), &found);
	if (status == RV_ERR_NOT_FOUND)
		return rv_fail(status, "%s: has no chat template; choose one by --template: %s",
		               rv_model_path(c->model), rv_chat_template_names());
	RV_TRY(status);
	if (found.left_out)
		rv_logf(&log, RV_LOG_WARN, "%s: the template's own form is without %s",
		        rv_model_path(c->model), found.left_out);
	c->form = found.form;
	if (!c->args.system)
		c->system = found.default_system;
	return RV_OK;
}

static int prepare(chat *c) {
	int status = rv_cli_open_load(c->cli, &c->load, &c->model);
	if (status == RV_CLI_GO && choose_template(c) != RV_OK)
		status = rv_cli_fail(c->cli);
	if (status == RV_CLI_GO)
		status = rv_cli_open_sona(c->cli, &c->sona, &c->load, c->model);
	if (status == RV_CLI_GO)
		status = rv_cli_open_target(c->cli, &c->load, &c->draft, c->model, &c->ctx);
	if (status == RV_CLI_GO)
		status = rv_cli_attach_sona(c->cli, &c->sona, c->ctx);
	if (status == RV_CLI_GO)
		status = rv_cli_open_draft(c->cli, &c->draft, &c->load, c->ctx);
	if (status == RV_CLI_GO)
		status = rv_cli_open_sampler(c->cli, &c->sampling, c->model, &c->sampler);
	if (status != RV_CLI_GO || !c->cli->common.json)
		return status;
	c->turns = json_array();
	if (c->turns)
		return RV_CLI_GO;
	rv_fail(RV_ERR_NO_MEMORY, "JSON output: out of memory");
	return rv_cli_fail(c->cli);
}

static int finish(const chat *c) {
	if (!c->cli->common.json)
		return rv_cli_finish(c->cli);
	return rv_cli_finish_json(
	        c->cli, json_pack("{s:o, s:s, s:O}", "model", rv_cli_json_path(rv_model_path(c->model)),
	                          "template", rv_chat_template_name(c->form), "turns", c->turns));
}

static int parse(chat *c) {
	const rv_option *tables[] = {options,
	                             rv_cli_sampling_options,
	                             rv_cli_draft_options,
	                             rv_cli_sona_options,
	                             rv_cli_model_options,
	                             rv_cli_context_options,
	                             NULL};
	void *values[] = {&c->args, &c->sampling, &c->draft, &c->sona, &c->load, &c->load};
	int status = rv_cli_parse_sampling(c->cli, tables, values, &c->sampling, &c->load);
	if (status == RV_CLI_GO && c->args.template &&
	    rv_chat_template_by_name(&c->form, c->args.template) != RV_OK)
		return rv_cli_usage(c->cli, "--template: %s", rv_error_message());
	return status;
}

int rv_cmd_chat(rv_cli *cli) {
	chat c = {.cli = cli,
	          .load = rv_cli_model_defaults(),
	          .draft = rv_cli_draft_defaults(),
	          .sona = rv_cli_sona_defaults(RV_CLI_SONA_FEEDBACK)};
	int status = parse(&c);
	if (status != RV_CLI_GO)
		return status;
	rv_cli_hold_signals();
	status = prepare(&c);
	if (status == RV_CLI_GO)
		status = converse(&c) == RV_OK ? finish(&c) : rv_cli_fail(cli);
	status = rv_cli_close_sona(cli, &c.sona, status);
	json_decref(c.turns);
	rv_free(c.answer);
	rv_free(c.input.data);
	rv_sampler_destroy(c.sampler);
	rv_cli_close_draft(&c.draft);
	rv_context_destroy(c.ctx);
	rv_cli_close_load(&c.load, c.model);
	return status;
}
