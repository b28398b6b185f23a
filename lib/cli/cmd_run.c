/* ruvltra run: continue a prompt. */
#include "base/file.h"
#include "base/mem.h"
#include "cli/cli_draft.h"
#include "cli/cli_model.h"
#include "cli/cli_sampling.h"
#include "cli/cli_sona.h"
#include "cli/commands.h"
#include "engine/generate.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_PROMPT_BYTES ((size_t)1 << 28)

typedef struct run_args {
	const char *prompt, *file, *tokens;
	int64_t n_predict;
	int ids, special, ignore_eos;
} run_args;

#define AT(field) offsetof(run_args, field)
static const rv_option options[] = {
        {.name = "prompt",
         .letter = 'p',
         .kind = RV_OPT_STRING,
         .offset = AT(prompt),
         .help = "the prompt"},
        {.name = "file",
         .letter = 'f',
         .kind = RV_OPT_STRING,
         .offset = AT(file),
         .value_name = "FILE",
         .help = "read the prompt from FILE (-: standard input)"},
        {.name = "tokens",
         .kind = RV_OPT_STRING,
         .offset = AT(tokens),
         .value_name = "IDS",
         .help = "the prompt as ids, with commas or blanks"},
        {.name = "n-predict",
         .letter = 'n',
         .kind = RV_OPT_INT,
         .offset = AT(n_predict),
         .min = 1,
         .max = 1 << 28,
         .unit = "tokens",
         .help = "most tokens to generate"},
        {.name = "ids", .kind = RV_OPT_FLAG, .offset = AT(ids), .help = "print token ids, not text"},
        {.name = "special",
         .kind = RV_OPT_FLAG,
         .offset = AT(special),
         .help = "text of special tokens in the prompt becomes their ids"},
        {.name = "ignore-eos",
         .kind = RV_OPT_FLAG,
         .offset = AT(ignore_eos),
         .help = "go on after an end token"},
        {0},
};
#undef AT

/* Everything of one run. */
typedef struct run {
	rv_cli *cli;
	run_args args;
	rv_cli_sampling sampling;
	rv_cli_model load;
	rv_cli_draft draft;
	rv_cli_sona sona;
	rv_model *model;
	rv_context *ctx;
	rv_sampler *sampler;
	int32_t *prompt;
	size_t n_prompt;
	int64_t n_shown;        /* ids printed */
	rv_status output;       /* of stdout */
	json_t *ids, *logprobs; /* with --json */
	char *text;
	size_t n_text;
	rv_generate_result result;
} run;

/* ---- command line ---- */

static int parse(run *r) {
	const rv_option *tables[] = {options,
	                             rv_cli_sampling_options,
	                             rv_cli_draft_options,
	                             rv_cli_sona_options,
	                             rv_cli_model_options,
	                             rv_cli_context_options,
	                             NULL};
	void *values[] = {&r->args, &r->sampling, &r->draft, &r->sona, &r->load, &r->load};
	r->args = (run_args){.n_predict = 128};
	return rv_cli_parse_sampling(r->cli, tables, values, &r->sampling, &r->load);
}

static int check(const run *r) {
	const run_args *a = &r->args;
	if ((a->prompt != NULL) + (a->file != NULL) + (a->tokens != NULL) != 1)
		return rv_cli_usage(r->cli,
		                    "--prompt: one of -p TEXT, -f FILE and --tokens IDS is needed");
	return RV_CLI_GO;
}

/* ---- prompt ---- */

static rv_status encode_prompt(run *r) {
	const rv_tokenizer *tok = rv_model_tokenizer(r->model);
	const char *text = r->args.prompt;
	char *data = NULL;
	size_t len = text ? strlen(text) : 0;
	if (!tok)
		return rv_fail(RV_ERR_UNSUPPORTED, "%s: has no tokenizer; give --tokens and --ids",
		               rv_model_path(r->model));
	if (r->args.file)
		RV_TRY(rv_file_read(r->args.file, MAX_PROMPT_BYTES, &data, &len));
	rv_encode_options how = rv_encode_defaults();
	how.parse_special = r->args.special;
	rv_status st =
	        rv_tokenizer_encode(tok, data ? data : text, len, &how, &r->prompt, &r->n_prompt);
	rv_free(data);
	return st;
}

static int get_prompt(run *r) {
	if (r->args.tokens) {
		int64_t n_vocab = rv_model_hparams(r->model)->n_vocab;
		if (rv_cli_parse_ids(r->args.tokens, n_vocab, &r->prompt, &r->n_prompt) != RV_OK)
			return rv_cli_usage(r->cli, "--tokens: %s", rv_error_message());
		if (!rv_model_tokenizer(r->model) && !r->args.ids)
			return rv_cli_usage(r->cli, "--ids: needed, for the model has no tokenizer");
	} else if (encode_prompt(r) != RV_OK) {
		return rv_cli_fail(r->cli);
	}
	if (r->n_prompt == 0)
		return rv_cli_usage(r->cli, "%s: is empty, at least one token is needed",
		                    r->args.tokens ? "--tokens"
		                    : r->args.file ? "--file"
		                                   : "--prompt");
	return RV_CLI_GO;
}

/* ---- output ---- */

static rv_status keep(run *r, int32_t id, const char *text, size_t len, double logprob) {
	if (len > 0) {
		RV_TRY(rv_grow((void **)&r->text, r->n_text, r->n_text + len, 1, "text"));
		memcpy(r->text + r->n_text, text, len);
		r->n_text += len;
	}
	if (id >= 0 && (json_array_append_new(r->ids, json_integer(id)) != 0 ||
	                json_array_append_new(r->logprobs, rv_cli_json_real(logprob)) != 0))
		return rv_fail(RV_ERR_NO_MEMORY, "JSON output: out of memory");
	return RV_OK;
}

static rv_status print_id(run *r, int32_t id) {
	char text[16];
	int n = snprintf(text, sizeof text, r->n_shown++ ? " %d" : "%d", id);
	return rv_cli_write(text, (size_t)n);
}

/* One more token; id -1: text held back until the end. */
static int on_token(void *user, int32_t id, const char *text, size_t len, double logprob) {
	run *r = user;
	/* The prompt is done: from here on a signal is noticed between tokens. */
	rv_context_set_cancel(r->ctx, NULL, NULL);
	if (r->cli->common.json)
		r->output = keep(r, id, text, len, logprob);
	else if (r->args.ids)
		r->output = id >= 0 ? print_id(r, id) : RV_OK;
	else if (len > 0)
		r->output = rv_cli_write(text, len);
	return r->output != RV_OK || rv_cli_signal(NULL);
}

/* Tokens after the first, a second: the first belongs to the prompt. */
static double decode_rate(const rv_generate_result *res) {
	double ns = (double)(res->prompt_ns + res->generate_ns - res->first_token_ns);
	return res->n_generated > 1 && ns > 0 ? 1e9 * (double)(res->n_generated - 1) / ns : 0;
}

static double prompt_rate(const rv_generate_result *res) {
	return res->prompt_ns > 0 ? 1e9 * (double)res->n_prompt / (double)res->prompt_ns : 0;
}

static void print_timings(const run *r) {
	const rv_generate_result *res = &r->result;
	char drafted[160];
	rv_cli_draft_line(&r->draft, drafted, sizeof drafted);
	fprintf(stderr,
	        "prompt %lld tokens, %.1f tok/s; first token %.1f ms; generated %lld tokens, decode "
	        "%.1f tok/s%s; stop: %s\n",
	        (long long)res->n_prompt, prompt_rate(res), 1e-6 * (double)res->first_token_ns,
	        (long long)res->n_generated, decode_rate(res), drafted, rv_stop_name(res->stop));
}

static int finish_json(run *r) {
	const rv_generate_result *res = &r->result;
	const rv_context_options *o = rv_context_get_options(r->ctx);
	json_t *prompt = json_array();
	for (size_t i = 0; i < r->n_prompt; i++)
		json_array_append_new(prompt, json_integer(r->prompt[i]));
	json_t *out = json_pack("{s:o, s:o, s:O, s:O, s:o, s:s, s:I, s:I}", "model",
	                        rv_cli_json_path(rv_model_path(r->model)), "prompt_tokens", prompt,
	                        "tokens", r->ids, "logprobs", r->logprobs, "text",
	                        rv_cli_json_text(r->text ? r->text : "", r->n_text), "stop",
	                        rv_stop_name(res->stop), "n_prompt", (json_int_t)res->n_prompt,
	                        "n_generated", (json_int_t)res->n_generated);
	json_t *timing =
	        json_pack("{s:f, s:f, s:f, s:f, s:f}", "prompt_ms", 1e-6 * (double)res->prompt_ns,
	                  "first_token_ms", 1e-6 * (double)res->first_token_ns, "generate_ms",
	                  1e-6 * (double)res->generate_ns, "prompt_tok_s", prompt_rate(res),
	                  "decode_tok_s", decode_rate(res));
	json_t *how = json_pack("{s:s, s:s, s:s, s:s, s:i, s:I, s:f, s:f}", "backend",
	                        rv_backend_name(o->backend), "level", rv_level_name(o->level), "kv",
	                        rv_kv_type_name(o->kv_type), "attn", rv_cli_attentions[o->attention],
	                        "threads", o->n_threads, "seed", (json_int_t)r->cli->common.seed,
	                        "temperature", r->sampling.sampler.temperature, "top_p",
	                        r->sampling.sampler.top_p);
	json_object_set_new(out, "timing", timing);
	json_object_set_new(out, "options", how);
	json_object_set_new(out, "draft", rv_cli_draft_json(&r->draft));
	json_object_set_new(out, "sona", rv_cli_sona_json(&r->sona));
	return rv_cli_finish_json(r->cli, out);
}

static int finish(run *r) {
	if (r->cli->common.json)
		return finish_json(r);
	/* A terminal's prompt starts on a line of its own; a file gets the text and nothing else. */
	if (r->args.ids || isatty(STDOUT_FILENO))
		putchar('\n');
	return rv_cli_finish(r->cli);
}

/* ---- the run ---- */

static int generate(run *r) {
	const char *stops[RV_OPTION_LIST_MAX + 1] = {0};
	const rv_option_list *stop = &r->sampling.stop;
	memcpy(stops, stop->items, (size_t)stop->n * sizeof *stops);
	rv_generate_options how = rv_generate_defaults();
	how.n_predict = r->args.n_predict;
	how.stop_strings = stop->n ? stops : NULL;
	how.ignore_end = r->args.ignore_eos;
	how.speculator = r->draft.speculator;
	how.on_token = on_token;
	how.user = r;
	rv_context_set_cancel(r->ctx, rv_cli_signal, NULL);
	const char *text = r->args.prompt;
	rv_status st = rv_cli_sona_generate(&r->sona, r->ctx, text, text ? strlen(text) : 0, r->prompt,
	                                    (int64_t)r->n_prompt, r->sampler, &how, &r->result);
	if (st == RV_OK && r->output != RV_ERR_IO) {
		print_timings(r);
		rv_cli_sona_print(&r->sona);
	}
	if (st != RV_OK || r->output != RV_OK)
		return rv_cli_fail(r->cli);
	int status = finish(r);
	int signal_number = rv_cli_signal(NULL);
	return signal_number ? 128 + signal_number : status;
}

static int prepare(run *r) {
	int status = rv_cli_open_load(r->cli, &r->load, &r->model);
	if (status == RV_CLI_GO)
		status = get_prompt(r);
	if (status == RV_CLI_GO)
		status = rv_cli_open_sona(r->cli, &r->sona, &r->load, r->model);
	if (status == RV_CLI_GO)
		status = rv_cli_open_target(r->cli, &r->load, &r->draft, r->model, &r->ctx);
	if (status == RV_CLI_GO)
		status = rv_cli_attach_sona(r->cli, &r->sona, r->ctx);
	if (status != RV_CLI_GO)
		return status;
	status = rv_cli_open_draft(r->cli, &r->draft, &r->load, r->ctx);
	if (status == RV_CLI_GO)
		status = rv_cli_open_sampler(r->cli, &r->sampling, r->model, &r->sampler);
	if (status != RV_CLI_GO)
		return status;
	if (!r->cli->common.json)
		return RV_CLI_GO;
	r->ids = json_array();
	r->logprobs = json_array();
	if (r->ids && r->logprobs)
		return RV_CLI_GO;
	rv_fail(RV_ERR_NO_MEMORY, "JSON output: out of memory");
	return rv_cli_fail(r->cli);
}

int rv_cmd_run(rv_cli *cli) {
	run r = {.cli = cli,
	         .load = rv_cli_model_defaults(),
	         .draft = rv_cli_draft_defaults(),
	         .sona = rv_cli_sona_defaults(RV_CLI_SONA_LIKELIHOOD)};
	int status = parse(&r);
	if (status == RV_CLI_GO)
		status = check(&r);
	if (status != RV_CLI_GO)
		return status;
	rv_cli_hold_signals();
	status = prepare(&r);
	if (status == RV_CLI_GO)
		status = generate(&r);
	status = rv_cli_close_sona(cli, &r.sona, status);
	json_decref(r.ids);
	json_decref(r.logprobs);
	rv_free(r.text);
	rv_free(r.prompt);
	rv_sampler_destroy(r.sampler);
	rv_cli_close_draft(&r.draft);
	rv_context_destroy(r.ctx);
	rv_cli_close_load(&r.load, r.model);
	return status;
}
