/* ruvltra bench: prompt and decode speed. */
#include "base/build_info.h"
#include "base/mem.h"
#include "base/sysinfo.h"
#include "cli/bench.h"
#include "cli/commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_CHOICES 8

typedef struct bench_args {
	rv_option_list models, backends, kv_types, attentions;
	rv_int_list n_prompt, n_gen, n_depth, n_batch, n_threads;
	int64_t repetitions;
	int format;
} bench_args;

static const char *const formats[] = {"md", "csv", "json", "jsonl", NULL};

#define AT(field) offsetof(bench_args, field)
#define INTS(long_name, short_name, field, low, high, of, text)                                        \
	{                                                                                              \
		.name = long_name, .letter = short_name, .kind = RV_OPT_INTS, .offset = AT(field),     \
		.min = low, .max = high, .unit = of, .help = text                                      \
	}
#define NAMES(long_name, short_name, field, value, text)                                               \
	{                                                                                              \
		.name = long_name, .letter = short_name, .kind = RV_OPT_LIST, .offset = AT(field),     \
		.value_name = value, .help = text                                                      \
	}
static const rv_option options[] = {
        NAMES("model", 'm', models, "FILE", "GGUF file"),
        INTS("n-prompt", 'p', n_prompt, 0, 1 << 24, "tokens", "prompt lengths; 0: no prompt test"),
        INTS("n-gen", 'n', n_gen, 0, 1 << 24, "tokens", "tokens to generate; 0: no such test"),
        INTS("n-depth", 'd', n_depth, 0, 1 << 24, "tokens", "tokens already in the cache"),
        INTS("batch", 'b', n_batch, 1, 1 << 16, "tokens", "most tokens evaluated at once"),
        INTS("threads", 't', n_threads, 1, 1024, NULL, "worker threads"),
        NAMES("backend", 0, backends, "ref|blas|simd", "who computes: one or more, default simd"),
        NAMES("kv", 0, kv_types, "f32|f16|q8|q4", "cache types: one or more, default f16"),
        NAMES("attn", 0, attentions, "flash|standard|standard-causal",
              "attention: one or more, default flash"),
        {.name = "repetitions",
         .letter = 'r',
         .kind = RV_OPT_INT,
         .offset = AT(repetitions),
         .min = 1,
         .max = 10000,
         .help = "of every test"},
        {.name = "output",
         .letter = 'o',
         .kind = RV_OPT_ENUM,
         .offset = AT(format),
         .choices = formats,
         .help = "format"},
        {0},
};
#undef AT

typedef struct choices {
	int v[MAX_CHOICES];
	int n;
} choices;

typedef struct bench {
	rv_cli *cli;
	bench_args args;
	choices backends, kv_types, attentions;
	rv_bench_config *configs; /* of the model at hand */
	int n_configs;
	rv_bench_row *rows; /* of all models; those of a config by rising depth */
	int n_rows;
	int any_failed;
} bench;

/* ---- command line ---- */

/* "f16,q8" of `names` into indices; `fallback` when the option is not given. */
static int parse_choices(const bench *b, const char *option, const rv_option_list *list,
                         const char *const *names, int fallback, choices *out) {
	*out = (choices){{fallback}, list->n ? 0 : 1};
	for (int i = 0; i < list->n; i++) {
		for (const char *at = list->items[i], *end; at; at = *end ? end + 1 : NULL) {
			end = strchrnul(at, ',');
			int k = 0;
			while (names[k] && (strlen(names[k]) != (size_t)(end - at) ||
			                    strncmp(names[k], at, (size_t)(end - at)) != 0))
				k++;
			if (!names[k])
				return rv_cli_usage(b->cli, "--%s: '%.64s' is not known; see --help",
				                    option, at);
			if (out->n == MAX_CHOICES)
				return rv_cli_usage(b->cli, "--%s: more than %d values", option,
				                    MAX_CHOICES);
			out->v[out->n++] = k;
		}
	}
	return RV_CLI_GO;
}

static int largest(const rv_int_list *list) {
	int64_t most = 0;
	for (int i = 0; i < list->n; i++)
		most = list->v[i] > most ? list->v[i] : most;
	return (int)most;
}

static int parse(bench *b) {
	bench_args *a = &b->args;
	*a = (bench_args){.n_prompt = {{512}, 1},
	                  .n_gen = {{128}, 1},
	                  .n_depth = {{0}, 1},
	                  .n_batch = {{512}, 1},
	                  .n_threads = {{b->cli->common.threads}, 1},
	                  .repetitions = 5};
	const rv_option *tables[] = {options, NULL};
	void *values[] = {a};
	int status = rv_cli_parse(b->cli, tables, values);
	if (status == RV_CLI_GO)
		status = parse_choices(b, "backend", &a->backends, rv_cli_backends, RV_BACKEND_SIMD,
		                       &b->backends);
	if (status == RV_CLI_GO)
		status = parse_choices(b, "kv", &a->kv_types, rv_cli_kv_types, RV_KV_F16, &b->kv_types);
	if (status == RV_CLI_GO)
		status = parse_choices(b, "attn", &a->attentions, rv_cli_attentions, RV_ATTN_FLASH,
		                       &b->attentions);
	if (status != RV_CLI_GO)
		return status;
	if (b->cli->common.json)
		a->format = RV_BENCH_JSON;
	if (a->models.n == 0)
		a->models.items[a->models.n++] = NULL; /* the one that ships */
	if (largest(&a->n_prompt) + largest(&a->n_gen) == 0)
		return rv_cli_usage(b->cli, "--n-prompt and --n-gen: nothing but 0 leaves no test");
	return RV_CLI_GO;
}

static void warn_of_slow_build(void) {
	const rv_log log = rv_cli_log();
	if (rv_build_sanitizer())
		rv_logf(&log, RV_LOG_WARN, "this build has the %s sanitizer: its speed means nothing",
		        rv_build_sanitizer());
	if (strstr(rv_build_flags(), "-O0"))
		rv_logf(&log, RV_LOG_WARN, "this build is not optimised: its speed means nothing");
}

/* ---- what there is to measure ---- */

static int by_depth(const void *x, const void *y) {
	int64_t a = *(const int64_t *)x, b = *(const int64_t *)y;
	return (a > b) - (a < b);
}

static rv_status add_row(bench *b, rv_bench_config *config, rv_bench_test test) {
	RV_TRY(RV_GROW(&b->rows, b->n_rows, b->n_rows + 1, "tests"));
	return rv_bench_row_init(&b->rows[b->n_rows++], config, test, (int)b->args.repetitions);
}

static rv_status add_tests(bench *b, rv_bench_config *config) {
	bench_args *a = &b->args;
	qsort(a->n_depth.v, (size_t)a->n_depth.n, sizeof a->n_depth.v[0], by_depth);
	for (int d = 0; d < a->n_depth.n; d++) {
		for (int i = 0; i < a->n_prompt.n; i++)
			if (a->n_prompt.v[i])
				RV_TRY(add_row(b, config,
				               (rv_bench_test){a->n_prompt.v[i], 0, a->n_depth.v[d]}));
		for (int i = 0; i < a->n_gen.n; i++)
			if (a->n_gen.v[i])
				RV_TRY(add_row(b, config,
				               (rv_bench_test){0, a->n_gen.v[i], a->n_depth.v[d]}));
	}
	return RV_OK;
}

/* All ways to run one model, as the product of the lists. */
static rv_status add_configs(bench *b, const char *path, rv_model *model) {
	const bench_args *a = &b->args;
	int n = a->n_threads.n * a->n_batch.n * b->backends.n * b->kv_types.n * b->attentions.n;
	RV_TRY(RV_ALLOC(&b->configs, n, "configurations"));
	for (int i = 0; i < n; i++) {
		int k = i;
		rv_bench_config *c = &b->configs[i];
		*c = (rv_bench_config){.path = path, .model = model};
		c->attention = b->attentions.v[k % b->attentions.n], k /= b->attentions.n;
		c->kv = b->kv_types.v[k % b->kv_types.n], k /= b->kv_types.n;
		c->backend = b->backends.v[k % b->backends.n], k /= b->backends.n;
		c->n_batch = a->n_batch.v[k % a->n_batch.n], k /= a->n_batch.n;
		c->n_threads = a->n_threads.v[k];
		b->n_configs = i + 1;
		RV_TRY(add_tests(b, c));
	}
	return RV_OK;
}

/* ---- measuring ---- */

static void row_failed(bench *b, rv_bench_row *row) {
	row->failed = 1;
	b->any_failed = 1;
	if (rv_cli_signal(NULL))
		return;
	fprintf(stderr, "ruvltra: bench %s: %s\n", row->config->path, rv_error_message());
}

static size_t anonymous_bytes(void) {
	rv_memuse use;
	rv_memuse_get(&use);
	return use.anon_bytes + use.shmem_bytes;
}

static rv_status open_context(const bench *b, rv_bench_config *c) {
	const bench_args *a = &b->args;
	rv_context_options o = rv_context_defaults();
	int64_t most =
	        largest(&a->n_prompt) > largest(&a->n_gen) ? largest(&a->n_prompt) : largest(&a->n_gen);
	o.n_ctx = largest(&a->n_depth) + most;
	o.n_batch = (int32_t)c->n_batch;
	o.backend = (rv_backend_kind)c->backend;
	o.kv_type = (rv_kv_type)c->kv;
	o.attention = (rv_attn_kind)c->attention;
	o.n_threads = (int)c->n_threads;
	o.log = rv_cli_log();
	RV_TRY(rv_context_create(&c->ctx, c->model, &o));
	rv_context_set_cancel(c->ctx, rv_cli_signal, NULL);
	return RV_OK;
}

/* Contexts stay open, so that repetitions can go round over all of them; the memory of each is what it
 * adds, its warm-up included, to what the model alone takes. Evaluation itself allocates nothing. */
static void warm_up(bench *b) {
	size_t model_bytes = anonymous_bytes();
	for (int i = 0; i < b->n_rows && !rv_cli_signal(NULL);) {
		rv_bench_config *c = b->rows[i].config;
		size_t before = anonymous_bytes();
		rv_status st = open_context(b, c);
		for (; i < b->n_rows && b->rows[i].config == c; i++)
			if (st != RV_OK ||
			    rv_bench_run(&b->rows[i], (uint64_t)b->cli->common.seed, 1) != RV_OK)
				row_failed(b, &b->rows[i]);
		size_t after = anonymous_bytes();
		c->anon_bytes = model_bytes + (after > before ? after - before : 0);
	}
}

static void measure(bench *b) {
	int terminal = isatty(STDERR_FILENO);
	for (int64_t r = 0; r < b->args.repetitions; r++) {
		for (int i = 0; i < b->n_rows && !rv_cli_signal(NULL); i++) {
			rv_bench_row *row = &b->rows[i];
			if (terminal)
				fprintf(stderr, "\r\033[Krepetition %lld/%lld, test %d/%d",
				        (long long)r + 1, (long long)b->args.repetitions, i + 1,
				        b->n_rows);
			if (!row->failed &&
			    rv_bench_run(row, (uint64_t)b->cli->common.seed, 0) != RV_OK)
				row_failed(b, row);
		}
	}
	if (terminal)
		fprintf(stderr, "\r\033[K");
}

static void close_model(bench *b) {
	for (int i = 0; i < b->n_rows; i++)
		rv_bench_row_deinit(&b->rows[i]);
	for (int i = 0; i < b->n_configs; i++)
		rv_context_destroy(b->configs[i].ctx);
	rv_free(b->rows);
	rv_free(b->configs);
	b->rows = NULL;
	b->configs = NULL;
	b->n_rows = b->n_configs = 0;
}

/* All tests of one model; a model that cannot be opened does not stop the others. */
static rv_status bench_model(bench *b, const char *path, rv_bench_printer *printer) {
	rv_model *model;
	if (rv_cli_open_model(b->cli, path, &model) != RV_CLI_GO) {
		b->any_failed = 1;
		return RV_OK;
	}
	warn_of_slow_build();
	rv_status st = add_configs(b, rv_model_path(model), model);
	if (st == RV_OK) {
		warm_up(b);
		measure(b);
		st = rv_bench_print(printer, b->rows, b->n_rows);
	}
	close_model(b);
	rv_model_release(model);
	return st;
}

int rv_cmd_bench(rv_cli *cli) {
	bench b = {.cli = cli};
	int status = parse(&b);
	if (status != RV_CLI_GO)
		return status;
	rv_cli_hold_signals();
	rv_bench_printer printer = {.format = (rv_bench_format)b.args.format,
	                            .seed = (uint64_t)cli->common.seed};
	rv_status st = RV_OK;
	for (int i = 0; i < b.args.models.n && st == RV_OK && !rv_cli_signal(NULL); i++)
		st = bench_model(&b, b.args.models.items[i], &printer);
	if (st != RV_OK || rv_cli_signal(NULL))
		return rv_cli_fail(cli);
	rv_bench_print_end(&printer);
	status = rv_cli_finish(cli);
	return status == RV_EXIT_OK && b.any_failed ? RV_EXIT_FAILED : status;
}
