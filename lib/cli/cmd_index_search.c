/* ruvltra index search: nearest vectors of queries, with speed and recall. */
#include "base/mem.h"
#include "base/sysinfo.h"
#include "cli/cmd_index.h"
#include "lab/stats.h"
#include "memory/brute.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct search_args {
	const char *out, *distances, *neighbors;
	int64_t k, ef, runs, limit;
} search_args;

static const rv_option options[] = {
        {.name = "neighbors-count",
         .letter = 'k',
         .kind = RV_OPT_INT,
         .offset = offsetof(search_args, k),
         .min = 1,
         .max = RV_HNSW_MAX_EF,
         .help = "nearest vectors of a query"},
        {.name = "ef",
         .kind = RV_OPT_INT,
         .offset = offsetof(search_args, ef),
         .min = 0,
         .max = RV_HNSW_MAX_EF,
         .help = "candidates kept; 0: as the index says"},
        {.name = "runs",
         .kind = RV_OPT_INT,
         .offset = offsetof(search_args, runs),
         .min = 1,
         .max = 1000,
         .help = "times all queries are asked; the fastest counts"},
        {.name = "limit",
         .kind = RV_OPT_INT,
         .offset = offsetof(search_args, limit),
         .min = 0,
         .max = INT32_MAX,
         .unit = "queries",
         .help = "the first ones alone; 0: all"},
        {.name = "neighbors",
         .kind = RV_OPT_STRING,
         .offset = offsetof(search_args, neighbors),
         .value_name = "FILE.ivecs",
         .help = "true neighbours, for the recall"},
        {.name = "out",
         .kind = RV_OPT_STRING,
         .offset = offsetof(search_args, out),
         .value_name = "FILE",
         .help = ".ivecs: ids; .h5 or .hdf5: results as ann-benchmarks keeps them"},
        {.name = "distances",
         .kind = RV_OPT_STRING,
         .offset = offsetof(search_args, distances),
         .value_name = "FILE.fvecs",
         .help = "file to write: distances of the ids"},
        {0},
};

typedef struct search {
	rv_hnsw *index;
	rv_codec *codec;
	rv_index_rows in;
	int64_t n, k;
	int ef;
	int32_t *rows;              /* [n, k], -1: nothing */
	float *distances;           /* [n, k] */
	double *times, *best_times; /* [n]: of the last run, sorted of the fastest */
	double best_s, recall;      /* recall NaN: unknown */
	double found, distances_computed;
} search;

/* ---- asking ---- */

static rv_status ask_once(search *s) {
	rv_hnsw_searcher *searcher;
	uint64_t *ids;
	RV_TRY(RV_ALLOC(&ids, s->k, "ids"));
	rv_status status = rv_hnsw_searcher_create(&searcher, s->index);
	s->found = 0;
	for (int64_t q = 0; q < s->n && status == RV_OK; q++) {
		int64_t n = 0;
		const int64_t start = rv_now_ns();
		status = rv_hnsw_search_with(searcher, s->in.rows + q * s->in.dim, s->k, s->ef, NULL,
		                             ids, s->distances + q * s->k, &n);
		s->times[q] = 1e-9 * (double)(rv_now_ns() - start);
		for (int64_t i = 0; i < s->k; i++) {
			s->rows[q * s->k + i] = i < n ? (int32_t)ids[i] : -1;
			if (i >= n)
				s->distances[q * s->k + i] = INFINITY;
			else if (ids[i] > INT32_MAX)
				status = rv_fail(RV_ERR_UNSUPPORTED,
				                 "id %llu: files of neighbours have 32 bits",
				                 (unsigned long long)ids[i]);
		}
		s->found += (double)n;
		if (status != RV_OK && status != RV_ERR_UNSUPPORTED) {
			char where[64];
			snprintf(where, sizeof where, "query %lld", (long long)q);
			status = rv_fail_in(status, where);
		}
		if (rv_cli_signal(NULL))
			status = rv_fail(RV_ERR_CANCELLED, "search cancelled at query %lld",
			                 (long long)q);
	}
	if (searcher)
		s->distances_computed = (double)rv_hnsw_searcher_work(searcher).distances;
	rv_hnsw_searcher_destroy(searcher);
	rv_free(ids);
	return status;
}

static int by_size(const void *a, const void *b) {
	const double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static rv_status ask(search *s, const search_args *a) {
	const rv_hnsw_options *o = rv_hnsw_get_options(s->index);
	s->n = s->in.n;
	s->k = a->k;
	s->ef = (int)a->ef;
	if (s->in.dim != o->dim)
		return rv_fail(RV_ERR_MISMATCH, "queries have dimension %d, the index %d", s->in.dim,
		               o->dim);
	RV_TRY(RV_ALLOC(&s->rows, s->n * s->k, "neighbours"));
	RV_TRY(RV_ALLOC(&s->distances, s->n * s->k, "distances"));
	RV_TRY(RV_ALLOC(&s->times, s->n, "times"));
	RV_TRY(RV_ALLOC(&s->best_times, s->n, "times"));
	s->best_s = INFINITY;
	for (int64_t run = 0; run < a->runs; run++) {
		double sum = 0;
		RV_TRY(ask_once(s));
		for (int64_t q = 0; q < s->n; q++)
			sum += s->times[q];
		if (sum / (double)s->n < s->best_s) {
			s->best_s = sum / (double)s->n;
			memcpy(s->best_times, s->times, (size_t)s->n * sizeof *s->times);
		}
	}
	qsort(s->best_times, (size_t)s->n, sizeof *s->best_times, by_size);
	return RV_OK;
}

/* ---- recall ---- */

/* The distance of the k-th true neighbour, as ann-benchmarks measures it. */
static rv_status true_edge(const search *s, const int32_t *truth, int64_t q, float *kept,
                           double *edge) {
	const rv_hnsw_options *o = rv_hnsw_get_options(s->index);
	rv_brute *brute;
	int32_t row;
	float distance;
	RV_TRY(rv_hnsw_get(s->index, (uint64_t)truth[s->k - 1], kept));
	RV_TRY(rv_brute_create(&brute, RV_BRUTE_SIMD, o->metric, kept, 1, o->dim));
	const rv_status status =
	        rv_brute_search(brute, s->in.rows + q * o->dim, 1, 1, &row, &distance, NULL);
	rv_brute_destroy(brute);
	*edge = (double)rv_ann_distance(o->metric, distance);
	return status;
}

/* truth: [n, stride] rows; edges: [n, stride] distances or NULL. */
static rv_status count_recall(search *s, const int32_t *truth, const float *edges, int64_t stride) {
	const rv_metric metric = rv_hnsw_get_options(s->index)->metric;
	double hits = 0;
	float *kept;
	if (s->k > stride)
		return RV_OK; /* not known that far */
	RV_TRY(RV_ALLOC(&kept, s->in.dim, "vector"));
	rv_status status = RV_OK;
	for (int64_t q = 0; q < s->n && status == RV_OK; q++) {
		double edge = edges ? (double)edges[q * stride + s->k - 1] : 0;
		if (!edges)
			status = true_edge(s, truth + q * stride, q, kept, &edge);
		for (int64_t i = 0; i < s->k; i++)
			hits += (double)rv_ann_distance(metric, s->distances[q * s->k + i]) <=
			        edge + RV_RECALL_EPSILON;
	}
	rv_free(kept);
	s->recall = hits / (double)(s->n * s->k);
	return status;
}

static rv_status find_recall(search *s, const search_args *a) {
	s->recall = NAN;
	if (!a->neighbors) {
		const rv_ann_data *d = &s->in.ann;
		return s->in.is_ann && d->neighbors &&
		                       d->metric == rv_hnsw_get_options(s->index)->metric
		               ? count_recall(s, d->neighbors, d->distances, d->k)
		               : RV_OK;
	}
	rv_vectors v;
	RV_TRY(rv_vectors_read(&v, a->neighbors, RV_VECTORS_I32, s->n));
	rv_status status = v.n < s->n     ? rv_fail(RV_ERR_MISMATCH, "%s: %lld rows for %lld queries",
	                                            a->neighbors, (long long)v.n, (long long)s->n)
	                   : v.dim < s->k ? rv_fail(RV_ERR_MISMATCH,
	                                            "%s: %d neighbours a query, %lld are asked for",
	                                            a->neighbors, v.dim, (long long)s->k)
	                                  : count_recall(s, v.data, NULL, v.dim);
	rv_vectors_free(&v);
	return status;
}

/* ---- writing ---- */

static rv_status write_ann(const rv_cli *cli, const search *s, const search_args *a) {
	const rv_hnsw_options *o = rv_hnsw_get_options(s->index);
	const rv_hnsw_stats stats = rv_hnsw_get_stats(s->index);
	const char *slash = strrchr(cli->words[1], '/'), *file = slash ? slash + 1 : cli->words[1];
	char dataset[128], name[160];
	snprintf(dataset, sizeof dataset, "%.*s", (int)strcspn(file, "."), file);
	snprintf(name, sizeof name, "ruvltra-hnsw(M=%d, ef_construction=%d, ef=%d, code=%s)", o->m,
	         o->ef_construction, s->ef ? s->ef : o->ef_search,
	         s->codec ? rv_code_name(rv_codec_get_options(s->codec)->kind) : "f32");
	const rv_ann_results r = {.dataset = dataset,
	                          .algo = "ruvltra-hnsw",
	                          .name = name,
	                          .metric = o->metric,
	                          .n = s->n,
	                          .k = s->k,
	                          .times = s->times,
	                          .rows = s->rows,
	                          .distances = s->distances,
	                          .best_search_time = s->best_s,
	                          .build_s = NAN, /* the index does not say */
	                          .index_kb = (double)(stats.vector_bytes + stats.code_bytes +
	                                               stats.link_bytes + stats.sketch_bytes +
	                                               stats.other_bytes) /
	                                      1024,
	                          .candidates = s->found / (double)s->n,
	                          .run_count = (int)a->runs,
	                          .distances_computed = s->distances_computed};
	return rv_ann_results_write(a->out, &r);
}

static rv_status write_files(const rv_cli *cli, const search *s, const search_args *a) {
	if (a->out && rv_vectors_kind_of(a->out) == RV_VECTORS_I32)
		RV_TRY(rv_vectors_write(a->out, RV_VECTORS_I32, s->rows, s->n, (int)s->k));
	else if (a->out)
		RV_TRY(write_ann(cli, s, a));
	if (a->distances)
		RV_TRY(rv_vectors_write(a->distances, RV_VECTORS_F32, s->distances, s->n, (int)s->k));
	return RV_OK;
}

static void print_lines(const search *s) {
	for (int64_t q = 0; q < s->n; q++) {
		for (int64_t i = 0; i < s->k && s->rows[q * s->k + i] >= 0; i++)
			printf("%s%d:%.7g", i ? "\t" : "", s->rows[q * s->k + i],
			       (double)s->distances[q * s->k + i]);
		putchar('\n');
	}
	fflush(stdout);
}

static json_t *json_rows(const search *s) {
	json_t *queries = json_array();
	for (int64_t q = 0; queries && q < s->n; q++) {
		json_t *ids = json_array(), *distances = json_array();
		for (int64_t i = 0; i < s->k && s->rows[q * s->k + i] >= 0; i++) {
			json_array_append_new(ids, json_integer(s->rows[q * s->k + i]));
			json_array_append_new(distances,
			                      rv_cli_json_real((double)s->distances[q * s->k + i]));
		}
		json_array_append_new(queries,
		                      json_pack("{s:o, s:o}", "ids", ids, "distances", distances));
	}
	return queries;
}

static int report(const rv_cli *cli, const search *s, const search_args *a) {
	const double p50 = 1e6 * rv_quantile(s->best_times, (size_t)s->n, 0.5),
	             p99 = 1e6 * rv_quantile(s->best_times, (size_t)s->n, 0.99);
	if (cli->common.json) {
		json_t *value = json_pack("{s:I, s:I, s:i, s:f, s:f, s:f, s:o, s:f}", "n",
		                          (json_int_t)s->n, "k", (json_int_t)s->k, "ef",
		                          s->ef ? s->ef : rv_hnsw_get_options(s->index)->ef_search,
		                          "qps", 1 / s->best_s, "p50_us", p50, "p99_us", p99, "recall",
		                          rv_cli_json_real(s->recall), "distances_per_query",
		                          s->distances_computed / (double)s->n);
		if (value && !a->out)
			json_object_set_new(value, "queries", json_rows(s));
		return rv_cli_finish_json(cli, value);
	}
	if (!a->out)
		print_lines(s);
	fprintf(stderr, "%lld queries, k %lld, ef %d: %.0f a second, p50 %.1f us, p99 %.1f us, recall ",
	        (long long)s->n, (long long)s->k,
	        s->ef ? s->ef : rv_hnsw_get_options(s->index)->ef_search, 1 / s->best_s, p50, p99);
	if (isnan(s->recall))
		fprintf(stderr, "n/a: no true neighbours\n");
	else
		fprintf(stderr, "%.4f\n", s->recall);
	return rv_cli_finish(cli);
}

static int check(const rv_cli *cli, const search_args *a) {
	const size_t n = a->out ? strlen(a->out) : 0;
	if (cli->n_words != 2)
		return rv_cli_usage(cli, "%d of 2 words: an index and a file of queries are needed",
		                    cli->n_words);
	if (a->out && rv_vectors_kind_of(a->out) != RV_VECTORS_I32 &&
	    !(n > 3 && strcmp(a->out + n - 3, ".h5") == 0) &&
	    !(n > 5 && strcmp(a->out + n - 5, ".hdf5") == 0))
		return rv_cli_usage(cli, "--out: %s: expected .ivecs, .h5 or .hdf5", a->out);
	if (a->distances && rv_vectors_kind_of(a->distances) != RV_VECTORS_F32)
		return rv_cli_usage(cli, "--distances: %s: expected .fvecs", a->distances);
	const char *outputs[] = {a->out, a->distances},
	           *inputs[] = {cli->words[0], cli->words[1], a->neighbors};
	for (int i = 0; i < 2; i++)
		for (int j = 0; j < 3; j++)
			if (outputs[i] && inputs[j] && rv_file_same(outputs[i], inputs[j]))
				return rv_cli_usage(cli, "%s: %s is read too",
				                    i ? "--distances" : "--out", outputs[i]);
	for (int i = 0; i < 2; i++)
		if (outputs[i] && rv_cli_check_output(outputs[i]) != RV_OK)
			return rv_cli_fail(cli);
	return RV_CLI_GO;
}

int rv_cmd_index_search(rv_cli *cli) {
	search_args args = {.k = 10, .runs = 1};
	const rv_option *tables[] = {options, NULL};
	void *values[] = {&args};
	int status = rv_cli_parse(cli, tables, values);
	if (status == RV_CLI_GO)
		status = check(cli, &args);
	if (status != RV_CLI_GO)
		return status;
	rv_cli_hold_signals();
	search s = {0};
	rv_status st = rv_index_open(&s.index, &s.codec, cli->words[0]);
	if (st == RV_OK)
		st = rv_index_rows_read(&s.in, cli->words[1], 1, args.limit);
	if (st == RV_OK)
		st = ask(&s, &args);
	if (st == RV_OK)
		st = find_recall(&s, &args);
	if (st == RV_OK)
		st = write_files(cli, &s, &args);
	status = st == RV_OK ? report(cli, &s, &args) : rv_cli_fail(cli);
	rv_hnsw_destroy(s.index);
	rv_codec_destroy(s.codec);
	rv_index_rows_free(&s.in);
	rv_free(s.rows);
	rv_free(s.distances);
	rv_free(s.times);
	rv_free(s.best_times);
	return status;
}
