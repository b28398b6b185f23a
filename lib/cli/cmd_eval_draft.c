/* ruvltra eval draft: how often a draft model's greedy tokens are the target's, and what a step takes.
 */
#include "base/file.h"
#include "base/mem.h"
#include "base/sysinfo.h"
#include "cli/cli_model.h"
#include "cli/cmd_eval.h"
#include "eval/draft_agreement.h"
#include "eval/perplexity.h"
#include "lab/progress.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define MAX_TEXT_BYTES ((size_t)1 << 30)

typedef struct draft_args {
	const char *file, *draft;
	int64_t k, chunk, n_chunks, stride, n_times;
} draft_args;

#define AT(field) offsetof(draft_args, field)
static const rv_option options[] = {
        {.name = "draft",
         .kind = RV_OPT_STRING,
         .offset = AT(draft),
         .value_name = "FILE",
         .help = "GGUF file of the draft model; the target is -m"},
        {.name = "file",
         .letter = 'f',
         .kind = RV_OPT_STRING,
         .offset = AT(file),
         .value_name = "FILE",
         .help = "the text (-: standard input)"},
        {.name = "k",
         .kind = RV_OPT_INT,
         .offset = AT(k),
         .min = 1,
         .max = RV_DRAFT_MAX_K,
         .unit = "tokens",
         .help = "proposed at each start"},
        {.name = "chunk",
         .kind = RV_OPT_INT,
         .offset = AT(chunk),
         .min = 64,
         .max = 1 << 20,
         .unit = "tokens",
         .help = "the text is cut into such pieces; starts begin after the first 32 tokens of each"},
        {.name = "chunks",
         .kind = RV_OPT_INT,
         .offset = AT(n_chunks),
         .min = 0,
         .max = 1e9,
         .help = "most pieces to measure; 0: all"},
        {.name = "stride",
         .kind = RV_OPT_INT,
         .offset = AT(stride),
         .min = 1,
         .max = 1 << 20,
         .unit = "tokens",
         .help = "between two starts"},
        {.name = "times",
         .kind = RV_OPT_INT,
         .offset = AT(n_times),
         .min = 1,
         .max = 1000000,
         .help = "steps of each model that are timed, in turns"},
        {0},
};
#undef AT

typedef struct work {
	const rv_cli *cli;
	draft_args args;
	rv_cli_model load;
	rv_draft_options how;
	rv_model *target_model, *draft_model;
	rv_context *target, *draft;
	int32_t *ids;
	size_t n_ids;
	rv_progress progress;
	int64_t start_ns;
	rv_draft_agreement agreement;
	rv_draft_times times;
} work;

/* ---- results ---- */

/* Tokens a step over what it takes, in steps of the target: k of the draft and one verification. */
static double speed_up(const work *w) {
	return w->agreement.tokens_per_step.value /
	       (w->agreement.k * w->times.draft_ratio + w->times.verify_ratio);
}

static double share(int64_t part, int64_t all) {
	return all > 0 ? (double)part / (double)all : NAN;
}

static json_t *estimate_json(rv_estimate e) {
	return json_pack("{s:o, s:o}", "value", rv_cli_json_real(e.value), "se",
	                 rv_cli_json_real(e.se));
}

static int print_json(const work *w) {
	const rv_draft_agreement *a = &w->agreement;
	json_t *positions = json_array();
	for (int j = 0; j < a->k; j++)
		json_array_append_new(
		        positions,
		        json_pack("{s:i, s:I, s:I, s:o}", "position", j + 1, "reached",
		                  (json_int_t)a->reached[j], "accepted", (json_int_t)a->accepted_at[j],
		                  "share", rv_cli_json_real(share(a->accepted_at[j], a->reached[j]))));
	json_t *o =
	        json_pack("{s:o, s:o, s:o, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "model",
	                  rv_cli_json_path(rv_model_path(w->target_model)), "draft",
	                  rv_cli_json_path(rv_model_path(w->draft_model)), "file",
	                  rv_cli_json_path(w->args.file), "k", a->k, "chunk", (json_int_t)w->how.chunk,
	                  "stride", (json_int_t)w->how.stride, "chunks", (json_int_t)a->n_chunks,
	                  "starts", (json_int_t)a->n_starts, "drafted", (json_int_t)a->drafted,
	                  "accepted", (json_int_t)a->accepted, "rejections", (json_int_t)a->rejections);
	if (o == NULL)
		return rv_cli_finish_json(w->cli, NULL);
	json_object_set_new(o, "accepted_drafted", estimate_json(a->rate));
	json_object_set_new(o, "alpha", estimate_json(a->alpha));
	json_object_set_new(o, "tokens_per_step", estimate_json(a->tokens_per_step));
	json_object_set_new(o, "positions", positions);
	json_object_set_new(o, "steps",
	                    json_pack("{s:I, s:f, s:f, s:f, s:f, s:f}", "n", (json_int_t)w->times.n,
	                              "draft_us", 1e-3 * w->times.draft_ns, "target_us",
	                              1e-3 * w->times.target_ns, "verify_us", 1e-3 * w->times.verify_ns,
	                              "draft_ratio", w->times.draft_ratio, "verify_ratio",
	                              w->times.verify_ratio));
	json_object_set_new(o, "speed_up", rv_cli_json_real(speed_up(w)));
	return rv_cli_finish_json(w->cli, o);
}

static int print_text(const work *w) {
	const rv_draft_agreement *a = &w->agreement;
	const rv_draft_times *t = &w->times;
	printf("greedy agreement of %s with %s, %lld tokens proposed at each of %lld starts in %lld "
	       "pieces of %lld tokens\n",
	       rv_model_path(w->draft_model), rv_model_path(w->target_model), (long long)a->k,
	       (long long)a->n_starts, (long long)a->n_chunks, (long long)w->how.chunk);
	printf("accepted / drafted           %7.2f %% ± %.2f\n", 100 * a->rate.value, 100 * a->rate.se);
	printf("accepted / (acc. + rejected) %7.2f %% ± %.2f\n", 100 * a->alpha.value,
	       100 * a->alpha.se);
	printf("tokens a step                %7.3f   ± %.3f\n", a->tokens_per_step.value,
	       a->tokens_per_step.se);
	for (int j = 0; j < a->k; j++) {
		printf("position %-2d  reached %7lld  accepted %7lld", j + 1, (long long)a->reached[j],
		       (long long)a->accepted_at[j]);
		if (a->reached[j] > 0)
			printf("  %7.2f %%\n", 100 * share(a->accepted_at[j], a->reached[j]));
		else
			printf("  n/a: never reached\n");
	}
	printf("a step, medians of %lld in turns: draft %.1f us, target %.1f us, target on %d tokens "
	       "%.1f us\n",
	       (long long)t->n, 1e-3 * t->draft_ns, 1e-3 * t->target_ns, a->k + 1, 1e-3 * t->verify_ns);
	printf("draft / target %.3f, verification / target %.3f: speed-up %.2f to be expected\n",
	       t->draft_ratio, t->verify_ratio, speed_up(w));
	return rv_cli_finish(w->cli);
}

/* ---- work ---- */

static void show_progress(void *user, int64_t i, int64_t n) {
	work *w = user;
	double elapsed = 1e-9 * (double)(rv_now_ns() - w->start_ns);
	const rv_sweep_progress p = {.done = (int)i,
	                             .total = (int)n,
	                             .elapsed_s = elapsed,
	                             .left_s = elapsed / (double)i * (double)(n - i),
	                             .label = ""};
	if (i < n)
		rv_progress_show(&w->progress, &p);
}

static rv_status read_text(work *w) {
	char *text = NULL;
	size_t len = 0;
	RV_TRY(rv_file_read(w->args.file, MAX_TEXT_BYTES, &text, &len));
	rv_status status =
	        len > 0 ? rv_perplexity_tokenize(w->target_model, text, len, &w->ids, &w->n_ids)
	                : rv_fail(RV_ERR_INVALID, "the text is empty");
	rv_free(text);
	if (status == RV_OK && w->n_ids < (size_t)w->how.chunk)
		status = rv_fail(RV_ERR_INVALID, "%zu tokens, --chunk is %lld", w->n_ids,
		                 (long long)w->how.chunk);
	return status == RV_OK ? status : rv_fail_in(status, w->args.file);
}

static int load(work *w) {
	char pico[4096];
	const char *draft = w->args.draft;
	int status = rv_cli_open_load(w->cli, &w->load, &w->target_model);
	if (status == RV_CLI_GO && draft == NULL) {
		if (rv_cli_shipped("models/pico.gguf", pico, sizeof pico) != RV_OK)
			return rv_cli_usage(w->cli,
			                    "--draft: a draft model is needed (--draft FILE): %s",
			                    rv_error_message());
		draft = pico;
	}
	if (status == RV_CLI_GO)
		status = rv_cli_open_model(w->cli, draft, &w->draft_model);
	if (status != RV_CLI_GO)
		return status;
	if (rv_perplexity_comparable(w->draft_model, w->target_model) != RV_OK || read_text(w) != RV_OK)
		return rv_cli_fail(w->cli);
	w->load.n_ctx = w->how.chunk + w->how.k;
	rv_cli_model plain = w->load; /* the adapters and the policy are the target's */
	plain.n_adapters = 0;
	plain.kv_policy = NULL;
	status = rv_cli_open_context(w->cli, &w->load, w->target_model, &w->target);
	if (status != RV_CLI_GO)
		return status;
	rv_context_options how = rv_cli_context(w->cli, &plain, w->draft_model);
	how.threads = rv_context_threads(w->target); /* the two take turns */
	return rv_context_create(&w->draft, w->draft_model, &how) == RV_OK ? RV_CLI_GO
	                                                                   : rv_cli_fail(w->cli);
}

static int measure(work *w) {
	rv_context_set_cancel(w->target, rv_cli_signal, NULL);
	rv_context_set_cancel(w->draft, rv_cli_signal, NULL);
	rv_progress_init(&w->progress, stderr, "draft");
	w->progress.unit = "pieces";
	w->start_ns = rv_now_ns();
	rv_status status = rv_draft_agreement_measure(w->target, w->draft, w->ids, w->n_ids, &w->how,
	                                              &w->agreement);
	rv_progress_clear(&w->progress);
	if (status == RV_OK)
		status = rv_draft_time_steps(w->target, w->draft, w->ids, w->n_ids, &w->how,
		                             w->args.n_times, &w->times);
	if (status != RV_OK)
		return rv_cli_fail(w->cli);
	return w->cli->common.json ? print_json(w) : print_text(w);
}

static int is_empty(const char *name) {
	return name == NULL || *name == '\0';
}

int rv_cmd_eval_draft(rv_cli *cli) {
	work w = {.cli = cli, .load = rv_cli_model_defaults(), .how = rv_draft_defaults()};
	w.args = (draft_args){.k = w.how.k, .chunk = w.how.chunk, .stride = 1, .n_times = 200};
	const rv_option *tables[] = {options, rv_cli_model_options, rv_cli_context_options, NULL};
	void *values[] = {&w.args, &w.load, &w.load};
	int status = rv_cli_parse(cli, tables, values);
	if (status != RV_CLI_GO)
		return status;
	if (is_empty(w.args.file))
		return rv_cli_usage(cli, "--file: a text is needed (-f FILE)");
	if (w.load.n_ctx > 0)
		return rv_cli_usage(cli, "--ctx: follows from --chunk");
	w.how.k = (int)w.args.k;
	w.how.chunk = w.args.chunk;
	w.how.stride = w.args.stride;
	w.how.max_chunks = w.args.n_chunks;
	w.how.progress = show_progress;
	w.how.user = &w;
	rv_cli_hold_signals();
	status = load(&w);
	if (status == RV_CLI_GO)
		status = measure(&w);
	rv_free(w.ids);
	rv_context_destroy(w.draft); /* before the threads it borrows */
	rv_context_destroy(w.target);
	rv_cli_close_load(&w.load, w.target_model);
	rv_model_release(w.draft_model);
	return status;
}
