/* ruvltra quantize: a model file in another type or mix of types. */
#include "base/file.h"
#include "base/mem.h"
#include "cli/cli_model.h"
#include "cli/commands.h"
#include "model/gguf_set.h"
#include "model/quantize.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct quantize_args {
	rv_option_list overrides;
	int pure, dry_run;
} quantize_args;

#define AT(field) offsetof(quantize_args, field)
static const rv_option options[] = {
        {.name = "tensor-type",
         .kind = RV_OPT_LIST,
         .offset = AT(overrides),
         .value_name = "PATTERN=TYPE",
         .help = "type of the tensors whose name holds PATTERN (* and ? match); the first that fits"},
        {.name = "pure", .kind = RV_OPT_FLAG, .offset = AT(pure), .help = "one type for every matrix"},
        {.name = "dry-run",
         .kind = RV_OPT_FLAG,
         .offset = AT(dry_run),
         .help = "print types and sizes, write nothing"},
        {0},
};
#undef AT

/* Llama 2 7B: the shape published bits per weight refer to. */
static const rv_preset llama_2_7b = {"llama-2-7b",
                                     "llama",
                                     {.n_layers = 32,
                                      .n_embd = 4096,
                                      .n_heads = 32,
                                      .n_kv_heads = 32,
                                      .head_dim = 128,
                                      .n_ff = 11008,
                                      .n_vocab = 32000,
                                      .n_ctx_train = 4096,
                                      .n_rot = 128,
                                      .rope_theta = 1e4,
                                      .rms_eps = 1e-5}};

typedef struct quantize {
	rv_cli *cli;
	quantize_args args;
	const char *in, *out; /* out: NULL without */
	rv_quant_options options;
	rv_quant_override overrides[RV_OPTION_LIST_MAX];
	char *patterns[RV_OPTION_LIST_MAX];
	rv_quant_plan plan;
	rv_log log;
	int64_t shown; /* percent */
} quantize;

/* ---- command line ---- */

/* PATTERN=TYPE; a pattern may hold '=' itself. */
static int add_override(quantize *q, const char *text) {
	const char *equals = strrchr(text, '=');
	if (!equals || equals == text)
		return rv_cli_usage(q->cli, "--tensor-type '%.64s': PATTERN=TYPE is expected", text);
	const rv_type_info *type = rv_type_by_name(equals + 1);
	if (!type)
		return rv_cli_usage(q->cli, "--tensor-type '%.64s': no such type", text);
	int n = q->options.n_overrides;
	if (rv_strndup(&q->patterns[n], text, (size_t)(equals - text)) != RV_OK)
		return rv_cli_fail(q->cli);
	q->overrides[n] = (rv_quant_override){q->patterns[n], type->type};
	q->options.n_overrides = n + 1;
	return RV_CLI_GO;
}

static int take_words(quantize *q) {
	const rv_cli *cli = q->cli;
	int wanted = q->args.dry_run ? 2 : 3;
	if (cli->n_words < wanted)
		return rv_cli_usage(cli, "IN OUT TYPE: %d of 3 given", cli->n_words);
	const char *type = cli->words[cli->n_words - 1];
	q->in = cli->words[0];
	q->out = cli->n_words == 3 ? cli->words[1] : NULL;
	q->options.target = rv_quant_target_by_name(type);
	if (!q->options.target)
		return rv_cli_usage(cli, "type '%.64s': is none of %s", type, rv_quant_target_names());
	if (q->out && rv_file_same(q->in, q->out))
		return rv_cli_usage(cli, "%s: is both input and output", q->out);
	return RV_CLI_GO;
}

/* ---- report ---- */

static json_t *json_tensor(const rv_quant_tensor_plan *t) {
	return json_pack("{s:s, s:I, s:I, s:s, s:s, s:b, s:I}", "name", t->name, "rows",
	                 (json_int_t)t->rows, "cols", (json_int_t)t->cols, "from",
	                 rv_type_get((int)t->from)->name, "to", rv_type_get((int)t->to)->name,
	                 "fallback", t->fallback, "bytes", (json_int_t)t->to_bytes);
}

static int report_json(const quantize *q) {
	const rv_quant_plan *p = &q->plan;
	json_t *tensors = json_array();
	for (size_t i = 0; i < p->n_tensors; i++)
		json_array_append_new(tensors, json_tensor(&p->tensors[i]));
	return rv_cli_finish_json(q->cli, json_pack("{s:o, s:o, s:s, s:I, s:I, s:I, s:f, s:i, s:o}",
	                                            "in", rv_cli_json_path(q->in), "out",
	                                            rv_cli_json_path(q->args.dry_run ? NULL : q->out),
	                                            "type", rv_quant_target_name(q->options.target),
	                                            "n_params", (json_int_t)p->n_params, "from_bytes",
	                                            (json_int_t)p->from_bytes, "to_bytes",
	                                            (json_int_t)p->to_bytes, "bits_per_weight",
	                                            p->bits_per_weight, "n_fallbacks", p->n_fallbacks,
	                                            "tensors", tensors));
}

static void print_tensors(const rv_quant_plan *p) {
	for (size_t i = 0; i < p->n_tensors; i++) {
		const rv_quant_tensor_plan *t = &p->tensors[i];
		printf("%-28s %9lld x %-7lld %-5s -> %-5s%s\n", t->name, (long long)t->rows,
		       (long long)t->cols, rv_type_get((int)t->from)->name,
		       rv_type_get((int)t->to)->name, t->fallback ? " (fall-back)" : "");
	}
}

static void print_histogram(const rv_quant_plan *p) {
	for (int type = 0; type < RV_TYPE_LIMIT; type++) {
		size_t n = 0, bytes = 0;
		for (size_t i = 0; i < p->n_tensors; i++) {
			if ((int)p->tensors[i].to != type)
				continue;
			n++;
			bytes += p->tensors[i].to_bytes;
		}
		if (n)
			printf("%-5s %4zu tensors %14zu bytes\n", rv_type_get(type)->name, n, bytes);
	}
}

static int report(const quantize *q) {
	const rv_quant_plan *p = &q->plan;
	if (q->cli->common.json)
		return report_json(q);
	if (q->args.dry_run)
		print_tensors(p);
	print_histogram(p);
	printf("%d fall-backs\n", p->n_fallbacks);
	printf("%zu -> %zu bytes, %lld parameters, %.3f bits per weight\n", p->from_bytes, p->to_bytes,
	       (long long)p->n_params, p->bits_per_weight);
	return rv_cli_finish(q->cli);
}

/* ---- work ---- */

static void on_progress(void *user, double fraction, const char *tensor) {
	quantize *q = user;
	int64_t percent = (int64_t)(100 * fraction);
	if (percent == q->shown)
		return;
	q->shown = percent;
	fprintf(stderr, "\r\033[K%3lld %% %s%s", (long long)percent, tensor,
	        percent >= 100 ? "\r\033[K" : "");
}

/* The plan alone: of a file, or of a shape when IN names one and no file. */
static rv_status plan_only(quantize *q) {
	const rv_preset *preset =
	        strcmp(q->in, llama_2_7b.name) == 0 ? &llama_2_7b : rv_preset_by_name(q->in);
	if (preset && access(q->in, F_OK) != 0)
		return rv_quant_plan_shape(&q->plan,
		                           rv_arch_by_name(preset->arch, strlen(preset->arch)),
		                           &preset->hp, &q->options);
	rv_gguf *gguf;
	RV_TRY(rv_gguf_open_set(&gguf, q->in));
	rv_status st = rv_quant_plan_file(&q->plan, gguf, &q->options);
	rv_gguf_close(gguf);
	return st;
}

static rv_status write_file(quantize *q) {
	RV_TRY(rv_cli_check_output(q->out));
	RV_TRY(rv_cli_open_threads(q->cli, &q->options.threads));
	rv_cli_hold_signals();
	q->options.cancelled = rv_cli_signal;
	if (isatty(STDERR_FILENO))
		q->options.progress = on_progress;
	rv_status st = rv_quantize_file(q->in, q->out, &q->options, &q->plan);
	rv_threads_destroy(q->options.threads);
	return st;
}

int rv_cmd_quantize(rv_cli *cli) {
	quantize q = {.cli = cli, .log = rv_cli_log(), .shown = -1};
	const rv_option *tables[] = {options, NULL};
	void *values[] = {&q.args};
	int status = rv_cli_parse(cli, tables, values);
	if (status == RV_CLI_GO)
		status = take_words(&q);
	for (int i = 0; status == RV_CLI_GO && i < q.args.overrides.n; i++)
		status = add_override(&q, q.args.overrides.items[i]);
	if (status == RV_CLI_GO) {
		q.options.pure = q.args.pure;
		q.options.overrides = q.overrides;
		q.options.log = &q.log;
		q.options.user = &q;
		rv_status st = q.args.dry_run ? plan_only(&q) : write_file(&q);
		status = st == RV_OK ? report(&q) : rv_cli_fail(cli);
	}
	rv_quant_plan_free(&q.plan);
	for (int i = 0; i < q.options.n_overrides; i++)
		rv_free(q.patterns[i]);
	return status;
}
