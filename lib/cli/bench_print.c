#include "cli/bench.h"

#include "base/build_info.h"
#include "base/mem.h"
#include "base/sysinfo.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A row's numbers as they are printed. */
typedef struct facts {
	rv_summary rate, ns;           /* tokens a second; of the whole test */
	double first_ms;               /* median */
	double p50_ms, p95_ms, p99_ms; /* of a generated token, over all repetitions; NaN for prompts */
} facts;

static int compare(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static rv_status sorted_copy(const double *x, size_t n, double **out) {
	RV_TRY(RV_ALLOC(out, n ? n : 1, "samples"));
	if (n)
		memcpy(*out, x, n * sizeof *x);
	qsort(*out, n, sizeof **out, compare);
	return RV_OK;
}

static int64_t n_tokens(const rv_bench_row *row) {
	return row->test.n_prompt + row->test.n_gen;
}

static double rate_of(const rv_bench_row *row, int i) {
	return 1e9 * (double)n_tokens(row) / row->samples_ns[i];
}

static rv_status get_facts(const rv_bench_row *row, uint64_t seed, facts *f) {
	size_t n = (size_t)row->n_done;
	double *work;
	*f = (facts){.p50_ms = NAN, .p95_ms = NAN, .p99_ms = NAN};
	RV_TRY(rv_summarize(row->samples_ns, n, seed, &f->ns));
	RV_TRY(sorted_copy(row->first_ns, n, &work));
	f->first_ms = 1e-6 * rv_quantile(work, n, 0.5);
	for (size_t i = 0; i < n; i++)
		work[i] = rate_of(row, (int)i);
	rv_status st = rv_summarize(work, n, seed, &f->rate);
	rv_free(work);
	size_t n_gen = n * (size_t)row->test.n_gen;
	if (st != RV_OK || n_gen == 0)
		return st;
	RV_TRY(sorted_copy(row->tokens_ns, n_gen, &work));
	f->p50_ms = 1e-6 * rv_quantile(work, n_gen, 0.5);
	f->p95_ms = 1e-6 * rv_quantile(work, n_gen, 0.95);
	f->p99_ms = 1e-6 * rv_quantile(work, n_gen, 0.99);
	rv_free(work);
	return RV_OK;
}

/* ---- csv and json: llama-bench's fields in its order, then ours ---- */

static void machine_fields(json_t *o, const rv_bench_config *c) {
	rv_sysinfo sys;
	rv_sysinfo_get(&sys);
	char type[64];
	snprintf(type, sizeof type, "%s %s", rv_model_arch(c->model)->name,
	         rv_model_type_name(c->model));
	json_object_set_new(o, "build_commit", json_string(rv_build_commit()));
	json_object_set_new(o, "build_number", json_integer(0));
	json_object_set_new(o, "cpu_info", json_string(sys.cpu_model));
	json_object_set_new(o, "gpu_info", json_string(""));
	json_object_set_new(o, "backends", json_string("CPU"));
	json_object_set_new(o, "model_filename", rv_cli_json_path(c->path));
	json_object_set_new(o, "model_type", json_string(type));
	json_object_set_new(o, "model_size", json_integer((json_int_t)rv_model_weight_bytes(c->model)));
	json_object_set_new(o, "model_n_params", json_integer(rv_model_n_params(c->model)));
}

static void config_fields(json_t *o, const rv_bench_config *c) {
	const char *kv = rv_cli_kv_types[c->kv];
	json_object_set_new(o, "n_batch", json_integer(c->n_batch));
	json_object_set_new(o, "n_ubatch", json_integer(c->n_batch));
	json_object_set_new(o, "n_threads", json_integer(c->n_threads));
	json_object_set_new(o, "cpu_mask", json_string("0x0"));
	json_object_set_new(o, "cpu_strict", json_false());
	json_object_set_new(o, "poll", json_integer(0));
	json_object_set_new(o, "type_k", json_string(kv));
	json_object_set_new(o, "type_v", json_string(kv));
	json_object_set_new(o, "n_gpu_layers", json_integer(0));
	json_object_set_new(o, "split_mode", json_string("none"));
	json_object_set_new(o, "main_gpu", json_integer(0));
	json_object_set_new(o, "no_kv_offload", json_true());
	json_object_set_new(o, "flash_attn", json_boolean(c->attention == RV_ATTN_FLASH));
	json_object_set_new(o, "tensor_split", json_string("0.00"));
	json_object_set_new(o, "use_mmap", json_true());
	json_object_set_new(o, "embeddings", json_false());
}

static void result_fields(json_t *o, const rv_bench_row *row, const facts *f) {
	json_object_set_new(o, "n_prompt", json_integer(row->test.n_prompt));
	json_object_set_new(o, "n_gen", json_integer(row->test.n_gen));
	json_object_set_new(o, "n_depth", json_integer(row->test.n_depth));
	json_object_set_new(o, "test_time", json_string(row->started));
	json_object_set_new(o, "avg_ns", json_integer((json_int_t)f->ns.mean));
	json_object_set_new(o, "stddev_ns", json_integer(isnan(f->ns.sd) ? 0 : (json_int_t)f->ns.sd));
	json_object_set_new(o, "avg_ts", json_real(f->rate.mean));
	json_object_set_new(o, "stddev_ts", json_real(isnan(f->rate.sd) ? 0 : f->rate.sd));
}

static void own_fields(json_t *o, const rv_bench_row *row, const facts *f, uint64_t seed) {
	const rv_bench_config *c = row->config;
	json_object_set_new(o, "backend", json_string(rv_cli_backends[c->backend]));
	json_object_set_new(o, "level",
	                    json_string(rv_level_name(rv_context_get_options(c->ctx)->level)));
	json_object_set_new(o, "attn", json_string(rv_cli_attentions[c->attention]));
	json_object_set_new(o, "seed", json_integer((json_int_t)seed));
	json_object_set_new(o, "repetitions", json_integer(row->n_done));
	json_object_set_new(o, "median_ts", rv_cli_json_real(f->rate.median));
	json_object_set_new(o, "lo95_ts", rv_cli_json_real(f->rate.lo95));
	json_object_set_new(o, "hi95_ts", rv_cli_json_real(f->rate.hi95));
	json_object_set_new(o, "ttft_ms", rv_cli_json_real(f->first_ms));
	json_object_set_new(o, "p50_ms", rv_cli_json_real(f->p50_ms));
	json_object_set_new(o, "p95_ms", rv_cli_json_real(f->p95_ms));
	json_object_set_new(o, "p99_ms", rv_cli_json_real(f->p99_ms));
	json_object_set_new(o, "peak_anon_bytes", json_integer((json_int_t)c->anon_bytes));
}

static json_t *record(const rv_bench_row *row, const facts *f, uint64_t seed) {
	json_t *o = json_object();
	machine_fields(o, row->config);
	config_fields(o, row->config);
	result_fields(o, row, f);
	own_fields(o, row, f, seed);
	return o;
}

static void add_samples(json_t *o, const rv_bench_row *row) {
	json_t *ns = json_array(), *ts = json_array();
	for (int i = 0; i < row->n_done; i++) {
		json_array_append_new(ns, json_integer((json_int_t)row->samples_ns[i]));
		json_array_append_new(ts, json_real(rate_of(row, i)));
	}
	json_object_set_new(o, "samples_ns", ns);
	json_object_set_new(o, "samples_ts", ts);
}

/* Every cell quoted, quotes doubled. */
static void print_cell(const char *text, const char *before) {
	printf("%s\"", before);
	for (; *text; text++)
		printf(*text == '"' ? "\"\"" : "%c", *text);
	putchar('"');
}

static void print_csv(json_t *o, int header) {
	const char *key, *before = "";
	json_t *value;
	if (header) {
		json_object_foreach(o, key, value) {
			printf("%s%s", before, key);
			before = ",";
		}
		putchar('\n');
	}
	before = "";
	json_object_foreach(o, key, value) {
		char number[40] = "";
		if (json_is_integer(value))
			snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
		else if (json_is_real(value))
			snprintf(number, sizeof number, "%.6f", json_real_value(value));
		else if (json_is_boolean(value))
			snprintf(number, sizeof number, "%d", json_is_true(value));
		print_cell(json_is_string(value) ? json_string_value(value) : number, before);
		before = ",";
	}
	putchar('\n');
}

static rv_status print_json(json_t *o, int first, rv_bench_format format) {
	size_t flags = JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(10);
	char *text = json_dumps(o, flags | (format == RV_BENCH_JSON ? JSON_INDENT(2) : JSON_COMPACT));
	if (!text)
		return rv_fail(RV_ERR_NO_MEMORY, "JSON output: out of memory");
	if (format == RV_BENCH_JSON)
		printf("%s%s", first ? "[\n" : ",\n", text);
	else
		puts(text);
	free(text);
	return RV_OK;
}

/* ---- markdown ---- */

static void print_size(char *out, size_t cap, double value, double step, const char *const *units) {
	while (value >= step && units[1]) {
		value /= step;
		units++;
	}
	snprintf(out, cap, "%.2f%s", value, *units);
}

static void print_md(const rv_bench_row *row, const facts *f, int first) {
	static const char *const bytes[] = {" B", " KiB", " MiB", " GiB", NULL};
	static const char *const counts[] = {"", " K", " M", " B", NULL};
	const rv_bench_config *c = row->config;
	char size[24], params[24], peak[24], test[64], model[64], tokens[64] = "";
	if (first)
		printf("| model | size | params | backend | threads | batch | kv | attn | test | t/s | "
		       "median "
		       "[95 %%] | ttft ms | token ms p50/p95/p99 | peak memory |\n"
		       "|---|--:|--:|---|--:|--:|---|---|--:|--:|--:|--:|--:|--:|\n");
	snprintf(model, sizeof model, "%s %s", rv_model_arch(c->model)->name,
	         rv_model_type_name(c->model));
	print_size(size, sizeof size, (double)rv_model_weight_bytes(c->model), 1024, bytes);
	print_size(params, sizeof params, (double)rv_model_n_params(c->model), 1000, counts);
	print_size(peak, sizeof peak, (double)c->anon_bytes, 1024, bytes);
	int n = snprintf(test, sizeof test, "%s%lld", row->test.n_prompt ? "pp" : "tg",
	                 (long long)n_tokens(row));
	if (row->test.n_depth)
		snprintf(test + n, sizeof test - (size_t)n, " @ d%lld", (long long)row->test.n_depth);
	if (row->test.n_gen)
		snprintf(tokens, sizeof tokens, "%.3f/%.3f/%.3f", f->p50_ms, f->p95_ms, f->p99_ms);
	printf("| %s | %s | %s | %s | %lld | %lld | %s | %s | %s | %.2f ± %.2f | ", model, size, params,
	       rv_cli_backends[c->backend], (long long)c->n_threads, (long long)c->n_batch,
	       rv_cli_kv_types[c->kv], rv_cli_attentions[c->attention], test, f->rate.mean,
	       isnan(f->rate.sd) ? 0 : f->rate.sd);
	if (isnan(f->rate.lo95))
		printf("%.2f", f->rate.median);
	else
		printf("%.2f [%.2f, %.2f]", f->rate.median, f->rate.lo95, f->rate.hi95);
	printf(" | %.2f | %s | %s |\n", f->first_ms, tokens, peak);
}

static rv_status print_row(const rv_bench_printer *p, const rv_bench_row *row) {
	int first = p->n_printed == 0;
	facts f;
	RV_TRY(get_facts(row, p->seed, &f));
	if (p->format == RV_BENCH_MD) {
		print_md(row, &f, first);
		return RV_OK;
	}
	json_t *o = record(row, &f, p->seed);
	rv_status st = RV_OK;
	if (p->format == RV_BENCH_CSV) {
		print_csv(o, first);
	} else {
		add_samples(o, row);
		st = print_json(o, first, p->format);
	}
	json_decref(o);
	return st;
}

rv_status rv_bench_print(rv_bench_printer *p, const rv_bench_row *rows, int n_rows) {
	for (int i = 0; i < n_rows; i++) {
		if (rows[i].failed || rows[i].n_done == 0)
			continue;
		RV_TRY(print_row(p, &rows[i]));
		p->n_printed++;
	}
	return RV_OK;
}

void rv_bench_print_end(const rv_bench_printer *p) {
	if (p->format == RV_BENCH_JSON)
		printf(p->n_printed ? "\n]\n" : "[]\n");
	if (p->format == RV_BENCH_MD && p->n_printed)
		printf("\nbuild: %s\n", rv_build_commit());
}
