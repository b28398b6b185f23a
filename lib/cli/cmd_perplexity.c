/* ruvltra perplexity: how well a model predicts a text, and how far from a base model it is. */
#include "base/file.h"
#include "base/mem.h"
#include "cli/cli_model.h"
#include "cli/commands.h"
#include "eval/perplexity.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define MAX_TEXT_BYTES ((size_t)1 << 30)
#define MAX_OPTIONS 8

typedef struct perplexity_args {
	const char *file, *base;
	int64_t n_chunks;
	int by_position;
} perplexity_args;

static const rv_option options[] = {
        {.name = "file",
         .letter = 'f',
         .kind = RV_OPT_STRING,
         .offset = offsetof(perplexity_args, file),
         .value_name = "FILE",
         .help = "the text (-: standard input); its last line feed is left out"},
        {.name = "kl-base",
         .kind = RV_OPT_STRING,
         .offset = offsetof(perplexity_args, base),
         .value_name = "FILE",
         .help = "GGUF file of the model to compare with, usually the unquantized one"},
        {.name = "chunks",
         .kind = RV_OPT_INT,
         .offset = offsetof(perplexity_args, n_chunks),
         .min = 0,
         .max = 1e9,
         .help = "most chunks to score; 0: all"},
        {.name = "by-position",
         .kind = RV_OPT_FLAG,
         .offset = offsetof(perplexity_args, by_position),
         .help = "score whole chunks, and by how many tokens stand before"},
        {0},
};

/* What one invocation works with. */
typedef struct work {
	const rv_cli *cli;
	perplexity_args args;
	rv_cli_model load;
	rv_model *model, *base_model;
	rv_context *ctx, *base;
	int32_t *ids;
	size_t n_ids;
	rv_perplexity_positions positions;
	struct timespec start;
	int64_t n_shown;
	int in_line; /* progress left a line of stderr open */
} work;

/* ---- progress ---- */

static void show_time_left(const work *w, int64_t n_left) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	double passed = (double)(now.tv_sec - w->start.tv_sec) +
	                1e-9 * (double)(now.tv_nsec - w->start.tv_nsec);
	double left = passed * (double)n_left;
	fprintf(stderr, "%.2f s a chunk, about %.0f min %02.0f s to go\n", passed, floor(left / 60),
	        floor(fmod(left, 60)));
}

static void show_comparison(int64_t i, const rv_perplexity *p) {
	if (i == 1)
		fprintf(stderr, "chunk %20s  %20s  %20s  %19s  %18s\n", "PPL", "ln(PPL(Q)/PPL(base))",
		        "KL divergence", "Δp RMS", "Same top p");
	fprintf(stderr,
	        "%5lld %9.4f ±%9.4f  %9.5f ±%9.5f  %9.5f ±%9.5f  %7.3f ±%7.3f %%  %7.3f ±%7.3f %%\n",
	        (long long)i, p->ppl.value, p->ppl.se, p->log_ratio.value, p->log_ratio.se,
	        p->kl.mean.value, p->kl.mean.se, 100 * p->rms.value, 100 * p->rms.se,
	        100 * p->same_top.value, 100 * p->same_top.se);
}

static void show_progress(void *user, int64_t i, int64_t n_chunks, const rv_perplexity *p) {
	work *w = user;
	if (i == 1 && n_chunks > 1)
		show_time_left(w, n_chunks - 1);
	w->n_shown = i;
	if (w->base != NULL) {
		show_comparison(i, p);
		return;
	}
	w->in_line = i < n_chunks;
	fprintf(stderr, "[%lld]%.4f%s", (long long)i, p->ppl.value, w->in_line ? "," : "\n");
	fflush(stderr);
}

/* ---- results ---- */

static const struct {
	const char *label, *key;
} points[] = {
#define POINT(percent, label, key) {label, key},
        RV_PERPLEXITY_POINTS(POINT)
#undef POINT
};

/* Padded to 30 columns, not bytes: names hold a Δ. */
static void print_name(const char *name) {
	int width = 30;
	for (const char *c = name; *c != '\0'; c++)
		width += (*c & 0xc0) == 0x80;
	printf("%-*s: ", width, name);
}

static void print_row(const char *name, rv_estimate e, double scale, const char *unit) {
	print_name(name);
	printf("%11.6f ± %10.6f%s\n", scale * e.value, scale * e.se, unit);
}

static void print_spread(const char *what, const rv_spread *spread, double scale, const char *unit) {
	char name[64];
	snprintf(name, sizeof name, "Mean    %s", what);
	print_row(name, spread->mean, scale, unit);
	for (int i = 0; i < RV_PERPLEXITY_N_POINTS; i++) {
		snprintf(name, sizeof name, "%-7s %s", points[i].label, what);
		print_name(name);
		printf("%11.6f%s\n", scale * spread->at[i], unit);
	}
}

/* An infinite result has a reason, and it is said. */
static void print_infinite(const char *whose, rv_estimate nll, int64_t n_impossible, int64_t n) {
	if (n_impossible > 0)
		printf("%lld of %lld tokens have probability 0 under the %s: its perplexity is "
		       "infinite\n",
		       (long long)n_impossible, (long long)n, whose);
	else if (isinf(exp(nll.value)))
		printf("tokens have a mean -log p of %g under the %s: its perplexity is too large\n",
		       nll.value, whose);
}

/* Labels are those of llama-perplexity, for eyes and scripts that know them. */
static void print_comparison(const rv_perplexity *p) {
	printf("Perplexity, %lld positions\n", (long long)p->n);
	print_row("Mean PPL(Q)", p->ppl, 1, "");
	print_row("Mean PPL(base)", p->base_ppl, 1, "");
	print_name("Cor(ln(PPL(Q)), ln(PPL(base)))");
	printf("%11.6f %%\n", 100 * p->correlation);
	print_row("Mean ln(PPL(Q)/PPL(base))", p->log_ratio, 1, "");
	print_row("Mean PPL(Q)/PPL(base)", p->ratio, 1, "");
	print_row("Mean PPL(Q)-PPL(base)", p->difference, 1, "");
	printf("\nKL divergence, nats\n");
	print_spread("KLD", &p->kl, 1, "");
	printf("\nProbability of the token, Q - base\n");
	print_spread("Δp", &p->delta, 100, " %");
	print_row("RMS Δp", p->rms, 100, " %");
	print_row("Same top p", p->same_top, 100, " %");
}

static int print_text(const work *w, const rv_perplexity *p) {
	if (w->base != NULL)
		print_comparison(p);
	else
		printf("Final estimate: PPL = %.4f +/- %.5f\n", p->ppl.value, p->ppl.se);
	for (int b = 0; w->args.by_position && b < w->positions.n; b++) {
		const rv_perplexity_bucket *bucket = &w->positions.buckets[b];
		printf("%5lld to %5lld tokens before: PPL = %.4f +/- %.5f (%lld positions)\n",
		       (long long)bucket->from, (long long)bucket->to - 1, bucket->ppl.value,
		       bucket->ppl.se, (long long)bucket->moments.n);
	}
	print_infinite("model", p->nll, p->n_impossible, p->n);
	if (w->base != NULL)
		print_infinite("base model", p->base_nll, p->n_base_impossible, p->n);
	return rv_cli_finish(w->cli);
}

static void set_estimate(json_t *object, const char *key, rv_estimate e) {
	json_object_set_new(object, key,
	                    json_pack("{s:o, s:o}", "value", rv_cli_json_real(e.value), "se",
	                              rv_cli_json_real(e.se)));
}

static void set_spread(json_t *object, const char *key, const rv_spread *spread) {
	json_t *at = json_object();
	for (int i = 0; i < RV_PERPLEXITY_N_POINTS; i++)
		json_object_set_new(at, points[i].key, rv_cli_json_real(spread->at[i]));
	set_estimate(object, key, spread->mean);
	json_object_set_new(json_object_get(object, key), "percentiles", at);
}

static json_t *comparison_as_json(const work *w, const rv_perplexity *p) {
	json_t *kl = json_object();
	json_object_set_new(kl, "base", rv_cli_json_text(w->args.base, strlen(w->args.base)));
	set_estimate(kl, "ppl_base", p->base_ppl);
	set_estimate(kl, "nll_base", p->base_nll);
	json_object_set_new(kl, "correlation", rv_cli_json_real(p->correlation));
	set_estimate(kl, "ln_ppl_ratio", p->log_ratio);
	set_estimate(kl, "ppl_ratio", p->ratio);
	set_estimate(kl, "ppl_difference", p->difference);
	set_spread(kl, "kld", &p->kl);
	set_spread(kl, "delta_p", &p->delta);
	set_estimate(kl, "rms_delta_p", p->rms);
	set_estimate(kl, "same_top_p", p->same_top);
	json_object_set_new(kl, "n_zero_probability", json_integer(p->n_base_impossible));
	return kl;
}

static json_t *positions_as_json(const work *w) {
	json_t *rows = json_array();
	for (int b = 0; b < w->positions.n; b++) {
		const rv_perplexity_bucket *bucket = &w->positions.buckets[b];
		json_t *row = json_pack("{s:I, s:I, s:I}", "from", (json_int_t)bucket->from, "to",
		                        (json_int_t)bucket->to, "n", (json_int_t)bucket->moments.n);
		set_estimate(row, "ppl", bucket->ppl);
		json_array_append_new(rows, row);
	}
	return rows;
}

static int print_json(const work *w, const rv_perplexity *p) {
	const char *path = rv_model_path(w->model);
	json_t *o = json_pack("{s:o, s:o, s:I, s:I, s:I, s:I, s:I}", "model",
	                      rv_cli_json_text(path, strlen(path)), "file",
	                      rv_cli_json_text(w->args.file, strlen(w->args.file)), "n_ctx",
	                      (json_int_t)w->load.n_ctx, "n_tokens", (json_int_t)w->n_ids, "n_chunks",
	                      (json_int_t)w->n_shown, "n_scored", (json_int_t)p->n,
	                      "n_zero_probability", (json_int_t)p->n_impossible);
	if (o != NULL) {
		set_estimate(o, "ppl", p->ppl);
		set_estimate(o, "nll", p->nll);
		if (w->base != NULL)
			json_object_set_new(o, "kl", comparison_as_json(w, p));
		if (w->args.by_position)
			json_object_set_new(o, "by_position", positions_as_json(w));
	}
	return rv_cli_finish_json(w->cli, o);
}

/* ---- work ---- */

static rv_status read_text(work *w) {
	char *text = NULL;
	size_t len = 0;
	RV_TRY(rv_file_read(w->args.file, MAX_TEXT_BYTES, &text, &len));
	if (len > 0 && text[len - 1] == '\n')
		len--;
	rv_status status = rv_perplexity_tokenize(w->model, text, len, &w->ids, &w->n_ids);
	rv_free(text);
	RV_TRY(status);
	status = len > 0 ? rv_perplexity_check_length(w->n_ids, w->load.n_ctx)
	                 : rv_fail(RV_ERR_INVALID, "the text is empty");
	return status == RV_OK ? status : rv_fail_in(status, w->args.file);
}

static int load(work *w) {
	int status = rv_cli_open_load(w->cli, &w->load, &w->model);
	if (status == RV_CLI_GO && w->args.base != NULL)
		status = rv_cli_open_model(w->cli, w->args.base, &w->base_model);
	if (status != RV_CLI_GO)
		return status;
	if (w->base_model != NULL && rv_perplexity_comparable(w->model, w->base_model) != RV_OK)
		return rv_cli_fail(w->cli);
	if (read_text(w) != RV_OK)
		return rv_cli_fail(w->cli);
	rv_cli_model plain = w->load; /* the base has no adapters and a flat cache */
	plain.n_adapters = 0;
	plain.kv_policy = NULL;
	status = rv_cli_open_context(w->cli, &w->load, w->model, &w->ctx);
	if (status == RV_CLI_GO && w->base_model != NULL)
		status = rv_cli_open_context(w->cli, &plain, w->base_model, &w->base);
	return status;
}

static int measure(work *w) {
	rv_perplexity result;
	const rv_perplexity_options how = {.max_chunks = w->args.n_chunks,
	                                   .positions = w->args.by_position ? &w->positions : NULL,
	                                   .progress = show_progress,
	                                   .user = w};
	rv_context_set_cancel(w->ctx, rv_cli_signal, NULL);
	if (w->base != NULL)
		rv_context_set_cancel(w->base, rv_cli_signal, NULL);
	clock_gettime(CLOCK_MONOTONIC, &w->start);
	rv_status status = rv_perplexity_measure(w->ctx, w->base, w->ids, w->n_ids, &how, &result);
	if (w->in_line)
		fputc('\n', stderr);
	if (status != RV_OK) {
		rv_fail_in(status, w->args.file);
		return rv_cli_fail(w->cli);
	}
	return w->cli->common.json ? print_json(w, &result) : print_text(w, &result);
}

/* The rows all commands have, but here -c is the length of a chunk. */
static void context_options(rv_option rows[MAX_OPTIONS]) {
	memset(rows, 0, MAX_OPTIONS * sizeof *rows);
	for (int i = 0; i < MAX_OPTIONS - 1 && rv_cli_context_options[i].name != NULL; i++) {
		rows[i] = rv_cli_context_options[i];
		if (strcmp(rows[i].name, "ctx") == 0) {
			rows[i].min = 3;
			rows[i].help = "length of a chunk";
		}
	}
}

int rv_cmd_perplexity(rv_cli *cli) {
	work w = {.cli = cli, .load = rv_cli_model_defaults()};
	rv_option context[MAX_OPTIONS];
	context_options(context);
	w.load.n_ctx = 512;
	const rv_option *tables[] = {options, rv_cli_model_options, context, NULL};
	void *values[] = {&w.args, &w.load, &w.load};
	int status = rv_cli_parse(cli, tables, values);
	if (status != RV_CLI_GO)
		return status;
	if (w.args.file == NULL || *w.args.file == '\0')
		return rv_cli_usage(cli, "--file: a text is needed (-f FILE)");
	if (w.args.base != NULL && *w.args.base == '\0')
		return rv_cli_usage(cli, "--kl-base: its name is empty");
	rv_cli_hold_signals();
	status = load(&w);
	if (status == RV_CLI_GO)
		status = measure(&w);
	rv_free(w.ids);
	rv_context_destroy(w.ctx);
	rv_context_destroy(w.base);
	rv_cli_close_load(&w.load, w.model);
	rv_model_release(w.base_model);
	return status;
}
