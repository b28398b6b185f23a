/* ruvltra lora: merge adapters, fold them into a model, describe one. */
#include "cli/cmd_lora.h"

#include "base/file.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "learn/adapter_merge.h"
#include "model/adapter_fold.h"
#include "model/adapter_write.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Adapters of the command line: words FILE[:WEIGHT]. */
typedef struct uses {
	rv_model *model;
	rv_adapter *adapters[RV_CLI_WORDS];
	double weights[RV_CLI_WORDS];
	int n;
} uses;

static int open_uses(const rv_cli *cli, const char *model, const char *out, uses *u) {
	int status = rv_cli_open_model(cli, model, &u->model);
	if (status != RV_CLI_GO)
		return status;
	if (rv_cli_check_output(out) != RV_OK)
		return rv_cli_fail(cli);
	if (rv_file_same(out, rv_model_path(u->model)))
		return rv_cli_usage(cli, "--out: %s is an input itself", out);
	for (; u->n < cli->n_words; u->n++) {
		if (rv_cli_open_lora(cli->words[u->n], u->model, &u->adapters[u->n],
		                     &u->weights[u->n]) != RV_OK)
			return rv_cli_fail(cli);
		if (rv_file_same(out, rv_adapter_path(u->adapters[u->n]))) {
			u->n++;
			return rv_cli_usage(cli, "--out: %s is an input itself", out);
		}
	}
	return RV_CLI_GO;
}

static void close_uses(uses *u) {
	while (u->n > 0)
		rv_adapter_release(u->adapters[--u->n]);
	rv_model_release(u->model);
}

#define OUT_OPTION(type_, about)                                                                       \
	{                                                                                              \
		.name = "out", .kind = RV_OPT_STRING, .offset = offsetof(type_, out),                  \
		.value_name = "FILE", .help = about                                                    \
	}

/* ---- merge ---- */

static const char *const adapter_types[] = {"F16", "F32", NULL};

typedef struct merge_args {
	const char *out, *name;
	int method, type;
	double density, scale;
	int64_t rank;
} merge_args;

#define AT(field) offsetof(merge_args, field)
static const rv_option merge_options[] = {
        OUT_OPTION(merge_args, "adapter to write"),
        {.name = "method",
         .kind = RV_OPT_ENUM,
         .offset = AT(method),
         .choices = rv_merge_names,
         .help = "linear: mean; task: sum; slerp: along the arc of two; ties, dare, dare-ties"},
        {.name = "density",
         .kind = RV_OPT_DOUBLE,
         .offset = AT(density),
         .max = 1,
         .help = "share of elements kept; 0: 0.2 for ties, 0.5 for dare"},
        {.name = "scale",
         .kind = RV_OPT_DOUBLE,
         .offset = AT(scale),
         .min = -1e3,
         .max = 1e3,
         .help = "of task, ties, dare, dare-ties"},
        {.name = "rank",
         .kind = RV_OPT_INT,
         .offset = AT(rank),
         .max = RV_ADAPTER_MAX_RANK,
         .help = "largest of the result; 0: the sum of the adapters'"},
        {.name = "type",
         .kind = RV_OPT_ENUM,
         .offset = AT(type),
         .choices = adapter_types,
         .help = "of its factors"},
        {.name = "name",
         .kind = RV_OPT_STRING,
         .offset = AT(name),
         .value_name = "NAME",
         .help = "general.name of the adapter"},
        {0},
};
#undef AT

static rv_status merge(const rv_cli *cli, const uses *u, const merge_args *a, rv_merge_report *report) {
	rv_merge_options o = rv_merge_defaults();
	const rv_adapter_write_options w = {.type = rv_type_by_name(adapter_types[a->type]),
	                                    .name = a->name};
	rv_adapter *merged;
	rv_threads *threads;
	RV_TRY(rv_cli_open_threads(cli, &threads));
	o.method = (rv_merge)a->method;
	o.weights = u->weights;
	o.scale = a->scale;
	o.density = a->density;
	o.rank = a->rank;
	o.seed = (uint64_t)cli->common.seed;
	o.threads = threads;
	rv_status st = rv_adapter_merge(&merged, u->model, a->out, u->adapters, u->n, &o, report);
	rv_threads_destroy(threads);
	RV_TRY(st);
	st = rv_adapter_write(a->out, merged, u->model, &w);
	rv_adapter_release(merged);
	return st;
}

static int report_merge(const rv_cli *cli, const merge_args *a, const rv_merge_report *r) {
	const double lost = r->norm > 0 ? r->lost / r->norm : 0;
	if (cli->common.json)
		return rv_cli_finish_json(
		        cli,
		        json_pack("{s:o, s:s, s:I, s:I, s:o, s:o, s:o}", "out",
		                  rv_cli_json_path(a->out), "method", rv_merge_names[a->method],
		                  "matrices", (json_int_t)r->n_matrices, "rank", (json_int_t)r->rank,
		                  "norm", rv_cli_json_real(r->norm), "lost", rv_cli_json_real(lost),
		                  "conflicts", rv_cli_json_real(r->conflicts)));
	printf("%s: %s, %lld matrices, rank %lld, norm %.4g, %.2f %% of it lost to the rank", a->out,
	       rv_merge_names[a->method], (long long)r->n_matrices, (long long)r->rank, r->norm,
	       100 * lost);
	if (!isnan(r->conflicts))
		printf(", signs in conflict %.1f %%", 100 * r->conflicts);
	putchar('\n');
	return rv_cli_finish(cli);
}

int rv_cmd_lora_merge(rv_cli *cli) {
	rv_cli_model model = rv_cli_model_defaults();
	merge_args args = {.scale = 1};
	uses u = {0};
	rv_merge_report report;
	const rv_option *tables[] = {rv_cli_model_options, merge_options, NULL};
	void *values[] = {&model, &args};
	int status = rv_cli_parse(cli, tables, values);
	if (status != RV_CLI_GO)
		return status;
	if (cli->n_words < 2)
		return rv_cli_usage(cli, "FILE[:WEIGHT]: at least two are needed");
	if (!args.out || !*args.out)
		return rv_cli_usage(cli, "--out: a file is needed");
	status = open_uses(cli, model.model, args.out, &u);
	if (status == RV_CLI_GO)
		status = merge(cli, &u, &args, &report) == RV_OK ? report_merge(cli, &args, &report)
		                                                 : rv_cli_fail(cli);
	close_uses(&u);
	return status;
}

/* ---- apply ---- */

static const char *const fold_types[] = {"kept", "F16", "F32", "Q8_0", NULL};

typedef struct apply_args {
	const char *out;
	int type;
} apply_args;

static const rv_option apply_options[] = {
        OUT_OPTION(apply_args, "model to write"),
        {.name = "type",
         .kind = RV_OPT_ENUM,
         .offset = offsetof(apply_args, type),
         .choices = fold_types,
         .help = "of the matrices that change; kept: as the model has them"},
        {0},
};

static int apply(const rv_cli *cli, const uses *u, const apply_args *a) {
	const rv_fold_options o = {.type = a->type ? rv_type_by_name(fold_types[a->type]) : NULL,
	                           .factors = u->weights,
	                           .cancelled = rv_cli_signal};
	rv_fold_report r;
	if (rv_adapter_fold(a->out, u->model, u->adapters, u->n, &o, &r) != RV_OK)
		return rv_cli_fail(cli);
	const double lost = r.change > 0 ? r.rounding / r.change : 0;
	if (cli->common.json)
		return rv_cli_finish_json(
		        cli, json_pack("{s:o, s:I, s:o, s:o}", "out", rv_cli_json_path(a->out),
		                       "matrices", (json_int_t)r.n_matrices, "change",
		                       rv_cli_json_real(r.change), "rounding", rv_cli_json_real(lost)));
	printf("%s: %lld matrices changed by %.4g, rounding is %.2f %% of that\n", a->out,
	       (long long)r.n_matrices, r.change, 100 * lost);
	return rv_cli_finish(cli);
}

int rv_cmd_lora_apply(rv_cli *cli) {
	rv_cli_model model = rv_cli_model_defaults();
	apply_args args = {0};
	uses u = {0};
	const rv_option *tables[] = {rv_cli_model_options, apply_options, NULL};
	void *values[] = {&model, &args};
	int status = rv_cli_parse(cli, tables, values);
	if (status != RV_CLI_GO)
		return status;
	if (cli->n_words < 1)
		return rv_cli_usage(cli, "FILE[:SCALE]: an adapter is needed");
	if (!args.out || !*args.out)
		return rv_cli_usage(cli, "--out: a file is needed");
	rv_cli_hold_signals();
	status = open_uses(cli, model.model, args.out, &u);
	if (status == RV_CLI_GO)
		status = apply(cli, &u, &args);
	close_uses(&u);
	return status;
}

/* ---- info ---- */

static double change_norm(const rv_adapter *ad, const rv_model *model) {
	rv_adapter *same[2] = {(rv_adapter *)(uintptr_t)ad, (rv_adapter *)(uintptr_t)ad}, *merged;
	rv_merge_options o = rv_merge_defaults();
	rv_merge_report report;
	if (rv_adapter_merge(&merged, model, "itself", same, 2, &o, &report) != RV_OK)
		return NAN;
	rv_adapter_release(merged);
	return report.norm;
}

static int report_info(const rv_cli *cli, const rv_adapter *ad, const rv_model *model) {
	const rv_arch *arch = rv_model_arch(model);
	const int64_t n_layers = rv_model_hparams(model)->n_layers;
	const rv_gguf *g = rv_adapter_gguf(ad);
	rv_str name = {"", 0};
	double alpha = 0, norm = change_norm(ad, model);
	char hex[65];
	json_t *matrices = json_array();
	rv_adapter_sha256(ad, hex);
	if (rv_gguf_find(g, "general.name"))
		(void)rv_gguf_string(g, "general.name", &name);
	(void)rv_gguf_double(g, "adapter.lora.alpha", &alpha);
	for (int t = 0; t < arch->n_tensors; t++) {
		const rv_tensor_def *def = &arch->tensors[t];
		const rv_adapter_part *p = NULL;
		int64_t n = 0, ranks[2] = {INT64_MAX, 0};
		const int layered = (def->flags & RV_TENSOR_LAYER) != 0;
		for (int64_t l = 0; l < (layered ? n_layers : 1); l++) {
			const rv_adapter_part *q = layered || def->role == RV_OUTPUT
			                                   ? rv_adapter_find(ad, def->role, l)
			                                   : NULL;
			if (!q)
				continue;
			p = q;
			n++;
			ranks[0] = q->a.rows < ranks[0] ? q->a.rows : ranks[0];
			ranks[1] = q->a.rows > ranks[1] ? q->a.rows : ranks[1];
		}
		if (p)
			json_array_append_new(
			        matrices,
			        json_pack("{s:s, s:I, s:I, s:I, s:s, s:I, s:I}", "tensor", def->name,
			                  "layers", (json_int_t)n, "rank_from", (json_int_t)ranks[0],
			                  "rank_to", (json_int_t)ranks[1], "type",
			                  rv_type_get((int)p->a.type)->name, "in",
			                  (json_int_t)p->a.cols, "out", (json_int_t)p->b.rows));
	}
	json_t *all = json_pack("{s:o, s:o, s:s, s:f, s:I, s:I, s:o, s:s, s:o}", "file",
	                        rv_cli_json_path(rv_adapter_path(ad)), "name",
	                        rv_cli_json_text(name.data, name.len), "architecture", arch->name,
	                        "alpha", alpha, "n_params", (json_int_t)rv_adapter_n_params(ad),
	                        "bytes", (json_int_t)rv_adapter_bytes(ad), "norm",
	                        rv_cli_json_real(norm), "sha256", hex, "matrices", matrices);
	if (cli->common.json)
		return rv_cli_finish_json(cli, all);
	printf("%s: %.*s%sfor %s, alpha %g, %lld parameters, %.2f MB, norm of the change %.4g\n"
	       "sha256 of what it adds %s\n",
	       rv_adapter_path(ad), (int)name.len, name.data, name.len ? ", " : "", arch->name, alpha,
	       (long long)rv_adapter_n_params(ad), 1e-6 * (double)rv_adapter_bytes(ad), norm, hex);
	size_t i;
	const json_t *m;
	json_array_foreach(matrices, i, m) {
		const char *tensor = "", *type = "";
		json_int_t n = 0, low = 0, high = 0, in = 0, out = 0;
		json_unpack((json_t *)(uintptr_t)m, "{s:s, s:I, s:I, s:I, s:s, s:I, s:I}", "tensor",
		            &tensor, "layers", &n, "rank_from", &low, "rank_to", &high, "type", &type,
		            "in", &in, "out", &out);
		printf("  %-28s x %-3lld rank %lld..%lld %s, %lld -> %lld\n", tensor, (long long)n,
		       (long long)low, (long long)high, type, (long long)in, (long long)out);
	}
	json_decref(all);
	return rv_cli_finish(cli);
}

int rv_cmd_lora_info(rv_cli *cli) {
	rv_cli_model args = rv_cli_model_defaults();
	const rv_option *tables[] = {rv_cli_model_options, NULL};
	void *values[] = {&args};
	rv_model *model = NULL;
	rv_adapter *ad = NULL;
	int status = rv_cli_parse(cli, tables, values);
	if (status != RV_CLI_GO)
		return status;
	if (cli->n_words != 1)
		return rv_cli_usage(cli, "FILE: an adapter is needed");
	status = rv_cli_open_model(cli, args.model, &model);
	if (status == RV_CLI_GO)
		status = rv_adapter_open(&ad, cli->words[0], model) == RV_OK
		                 ? report_info(cli, ad, model)
		                 : rv_cli_fail(cli);
	rv_adapter_release(ad);
	rv_model_release(model);
	return status;
}

/* ---- verbs ---- */

static const rv_command verbs[] = {
        {"lora train", "", 0, 0, rv_cmd_lora_train, "Train a LoRA adapter of a model on a text", NULL},
        {"lora merge", "FILE[:WEIGHT]...", RV_CLI_WORDS, 0, rv_cmd_lora_merge,
         "Merge adapters of a model into one", "Without :WEIGHT it is 1.\n"},
        {"lora apply", "FILE[:SCALE]...", RV_CLI_WORDS, 0, rv_cmd_lora_apply,
         "Fold adapters into a model file", NULL},
        {"lora info", "FILE", 1, 0, rv_cmd_lora_info, "Check an adapter against a model, describe it",
         NULL},
        {0},
};

int rv_cmd_lora(rv_cli *cli) {
	for (const rv_command *verb = verbs; verb->name; verb++) {
		if (cli->argc < 2 || strcmp(cli->argv[1], strchr(verb->name, ' ') + 1) != 0)
			continue;
		cli->command = verb;
		cli->argc--;
		cli->argv++;
		return verb->run(cli);
	}
	static const rv_option none[] = {{0}};
	const rv_option *tables[] = {none, NULL};
	int unused = 0;
	void *values[] = {&unused};
	const int status = rv_cli_parse(cli, tables, values);
	return status != RV_CLI_GO ? status
	                           : rv_cli_usage(cli, "a verb is needed: train, merge, apply or info");
}
