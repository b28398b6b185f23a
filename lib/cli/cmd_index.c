/* ruvltra index: build an HNSW index from a file of vectors, and describe one. */
#include "cli/cmd_index.h"
#include "base/mem.h"
#include "base/sysinfo.h"
#include "cli/commands.h"

#include <stdio.h>
#include <string.h>

enum { TRAIN_MAX = 50000, BATCH = 4096 };

/* ---- what the verbs share ---- */

static int ends_with(const char *path, const char *end) {
	const size_t n = strlen(path), m = strlen(end);
	return n > m && strcmp(path + n - m, end) == 0;
}

rv_status rv_index_rows_read(rv_index_rows *out, const char *path, int queries, int64_t max_rows) {
	*out = (rv_index_rows){0};
	if (ends_with(path, ".h5") || ends_with(path, ".hdf5")) {
		RV_TRY(rv_ann_data_read(&out->ann, path));
		out->is_ann = 1;
		out->rows = queries ? out->ann.test : out->ann.train;
		out->n = queries ? out->ann.n_test : out->ann.n_train;
		out->dim = out->ann.dim;
		if (max_rows && max_rows < out->n)
			out->n = max_rows;
		return RV_OK;
	}
	if (rv_vectors_kind_of(path) == RV_VECTORS_COUNT)
		return rv_fail(RV_ERR_UNSUPPORTED, "%s: expected .fvecs, .bvecs, .h5 or .hdf5", path);
	RV_TRY(rv_vectors_read_f32(&out->plain, path, max_rows));
	out->rows = out->plain.data;
	out->n = out->plain.n;
	out->dim = out->plain.dim;
	return RV_OK;
}

void rv_index_rows_free(rv_index_rows *rows) {
	rv_ann_data_free(&rows->ann);
	rv_vectors_free(&rows->plain);
	*rows = (rv_index_rows){0};
}

rv_status rv_index_open(rv_hnsw **out, rv_codec **codec, const char *path) {
	const rv_hnsw_load_options o = {.codec = codec};
	*codec = NULL;
	return rv_hnsw_load(out, path, &o);
}

/* ---- build ---- */

typedef struct build_args {
	const char *out;
	int metric, code; /* spelled */
	int64_t m, ef_construction, ef_search, limit;
	int codes_only;
} build_args;

enum { METRIC_OF_FILE };
static const char *const metric_names[] = {"auto",
#define METRIC(name, text) text,
                                           RV_METRIC_TABLE(METRIC)
#undef METRIC
                                                   NULL};
enum { NO_CODE };
static const char *const code_names[] = {"f32",
#define CODE(name, text) text,
                                         RV_CODE_TABLE(CODE)
#undef CODE
                                                 NULL};

static const rv_option build_options[] = {
        {.name = "out",
         .kind = RV_OPT_STRING,
         .offset = offsetof(build_args, out),
         .value_name = "FILE",
         .help = "index to write"},
        {.name = "metric",
         .kind = RV_OPT_ENUM,
         .offset = offsetof(build_args, metric),
         .choices = metric_names,
         .help = "what near means; auto: as an HDF5 file says, else l2"},
        {.name = "M",
         .letter = 'M',
         .kind = RV_OPT_INT,
         .offset = offsetof(build_args, m),
         .min = 2,
         .max = RV_HNSW_MAX_M,
         .help = "links of a node in an upper layer; twice as many in layer 0"},
        {.name = "ef-construction",
         .kind = RV_OPT_INT,
         .offset = offsetof(build_args, ef_construction),
         .min = 1,
         .max = RV_HNSW_MAX_EF,
         .help = "candidates while inserting"},
        {.name = "ef",
         .kind = RV_OPT_INT,
         .offset = offsetof(build_args, ef_search),
         .min = 1,
         .max = RV_HNSW_MAX_EF,
         .help = "candidates of a search that names none"},
        {.name = "code",
         .kind = RV_OPT_ENUM,
         .offset = offsetof(build_args, code),
         .choices = code_names,
         .help = "what searches compare; codes are put in order by the vectors"},
        {.name = "codes-only",
         .kind = RV_OPT_FLAG,
         .offset = offsetof(build_args, codes_only),
         .help = "keep codes and no vectors"},
        {.name = "limit",
         .kind = RV_OPT_INT,
         .offset = offsetof(build_args, limit),
         .min = 0,
         .max = INT32_MAX,
         .unit = "vectors",
         .help = "the first ones alone; 0: all"},
        {0},
};

typedef struct built {
	rv_hnsw *index;
	rv_codec *codec;
	double seconds;
} built;

static rv_status make_codec(built *b, const build_args *a, const rv_index_rows *in, rv_hnsw_options *o,
                            rv_threads *threads) {
	if (a->code == NO_CODE)
		return RV_OK;
	rv_codec_options c = rv_codec_defaults();
	c.kind = (rv_code_kind)(a->code - 1);
	c.metric = o->metric;
	c.dim = in->dim;
	c.seed = o->seed;
	RV_TRY(rv_codec_create(&b->codec, &c));
	o->codec = b->codec;
	o->codes_only = a->codes_only;
	return rv_codec_train(b->codec, in->rows, in->n < TRAIN_MAX ? in->n : TRAIN_MAX, threads);
}

/* In batches, between which a signal is heard. */
static rv_status add_rows(rv_hnsw *index, const rv_index_rows *in, rv_threads *threads) {
	uint64_t ids[BATCH];
	for (int64_t at = 0, n; at < in->n; at += n) {
		n = in->n - at < BATCH ? in->n - at : BATCH;
		if (rv_cli_signal(NULL))
			return rv_fail(RV_ERR_CANCELLED, "building cancelled at vector %lld",
			               (long long)at);
		for (int64_t i = 0; i < n; i++)
			ids[i] = (uint64_t)(at + i);
		RV_TRY(rv_hnsw_add_batch(index, ids, in->rows + at * in->dim, n, threads));
	}
	return RV_OK;
}

static rv_status build(const rv_cli *cli, const build_args *a, const rv_index_rows *in, built *b) {
	const rv_threads_options t = {.n_threads = (int)cli->common.threads};
	rv_hnsw_options o = rv_hnsw_defaults();
	rv_threads *threads;
	const int64_t start = rv_now_ns();
	o.metric = a->metric != METRIC_OF_FILE ? (rv_metric)(a->metric - 1)
	           : in->is_ann                ? in->ann.metric
	                                       : RV_METRIC_L2;
	o.dim = in->dim;
	o.m = (int)a->m;
	o.ef_construction = (int)(a->ef_construction > a->m ? a->ef_construction : a->m);
	o.ef_search = (int)a->ef_search;
	o.capacity = in->n;
	o.seed = (uint64_t)cli->common.seed;
	RV_TRY(rv_threads_create(&threads, &t));
	rv_status status = make_codec(b, a, in, &o, threads);
	if (status == RV_OK)
		status = rv_hnsw_create(&b->index, &o);
	if (status == RV_OK)
		status = add_rows(b->index, in, threads);
	b->seconds = 1e-9 * (double)(rv_now_ns() - start);
	rv_threads_destroy(threads);
	return status == RV_OK ? rv_hnsw_save(b->index, a->out) : status;
}

static size_t bytes_of(rv_hnsw *index) {
	const rv_hnsw_stats s = rv_hnsw_get_stats(index);
	return s.vector_bytes + s.code_bytes + s.link_bytes + s.sketch_bytes + s.other_bytes;
}

static int report_build(const rv_cli *cli, const build_args *a, const built *b) {
	const rv_hnsw_options *o = rv_hnsw_get_options(b->index);
	const long long n = rv_hnsw_count(b->index);
	if (cli->common.json)
		return rv_cli_finish_json(cli,
		                          json_pack("{s:o, s:I, s:i, s:s, s:i, s:i, s:s, s:f, s:I}",
		                                    "out", rv_cli_json_path(a->out), "n", (json_int_t)n,
		                                    "dim", o->dim, "metric", rv_metric_name(o->metric),
		                                    "m", o->m, "ef_construction", o->ef_construction,
		                                    "code", code_names[a->code], "build_s", b->seconds,
		                                    "bytes", (json_int_t)bytes_of(b->index)));
	printf("%lld vectors of %d, %s, M %d, ef_construction %d, %s: %.2f s, %.1f MiB\n", n, o->dim,
	       rv_metric_name(o->metric), o->m, o->ef_construction, code_names[a->code], b->seconds,
	       (double)bytes_of(b->index) / (1 << 20));
	return rv_cli_finish(cli);
}

int rv_cmd_index_build(rv_cli *cli) {
	const rv_hnsw_options d = rv_hnsw_defaults();
	build_args args = {.m = d.m, .ef_construction = d.ef_construction, .ef_search = d.ef_search};
	const rv_option *tables[] = {build_options, NULL};
	void *values[] = {&args};
	const int status = rv_cli_parse(cli, tables, values);
	if (status != RV_CLI_GO)
		return status;
	if (cli->n_words != 1)
		return rv_cli_usage(cli, "%d of 1 words: a file of vectors is needed", cli->n_words);
	if (!args.out || !*args.out)
		return rv_cli_usage(cli, "--out: a file is needed");
	if (args.codes_only && args.code == NO_CODE)
		return rv_cli_usage(cli, "--codes-only: a --code is needed");
	if (rv_file_same(cli->words[0], args.out))
		return rv_cli_usage(cli, "--out: %s is read too", args.out);
	if (rv_cli_check_output(args.out) != RV_OK)
		return rv_cli_fail(cli);
	rv_cli_hold_signals();
	rv_index_rows in;
	built b = {0};
	rv_status st = rv_index_rows_read(&in, cli->words[0], 0, args.limit);
	if (st == RV_OK)
		st = build(cli, &args, &in, &b);
	const int end = st == RV_OK ? report_build(cli, &args, &b) : rv_cli_fail(cli);
	rv_hnsw_destroy(b.index);
	rv_codec_destroy(b.codec);
	rv_index_rows_free(&in);
	return end;
}

/* ---- info ---- */

static json_t *info_json(const rv_hnsw_options *o, const rv_hnsw_stats *s, const char *code,
                         const char *identity) {
	const struct {
		const char *name;
		json_int_t value;
	} numbers[] = {{"n", (json_int_t)s->live},
	               {"removed", (json_int_t)s->removed},
	               {"capacity", (json_int_t)o->capacity},
	               {"dim", o->dim},
	               {"m", o->m},
	               {"ef_construction", o->ef_construction},
	               {"ef_search", o->ef_search},
	               {"links", (json_int_t)s->links},
	               {"max_level", s->max_level},
	               {"vector_bytes", (json_int_t)s->vector_bytes},
	               {"code_bytes", (json_int_t)s->code_bytes},
	               {"link_bytes", (json_int_t)s->link_bytes},
	               {"sketch_bytes", (json_int_t)s->sketch_bytes},
	               {"other_bytes", (json_int_t)s->other_bytes}};
	json_t *value = json_pack("{s:s, s:s, s:b, s:s}", "metric", rv_metric_name(o->metric), "code",
	                          code, "codes_only", o->codes_only, "identity", identity);
	for (size_t i = 0; value && i < sizeof numbers / sizeof *numbers; i++)
		json_object_set_new(value, numbers[i].name, json_integer(numbers[i].value));
	return value;
}

static int report_info(const rv_cli *cli, rv_hnsw *index, const rv_codec *codec) {
	const rv_hnsw_options *o = rv_hnsw_get_options(index);
	const rv_hnsw_stats s = rv_hnsw_get_stats(index);
	const rv_hnsw_identity id = rv_hnsw_identify(index);
	const char *code = codec ? rv_code_name(rv_codec_get_options(codec)->kind) : "f32";
	char identity[64];
	snprintf(identity, sizeof identity, "%016llx-%016llx", (unsigned long long)id.ids,
	         (unsigned long long)id.vectors);
	if (cli->common.json)
		return rv_cli_finish_json(cli, info_json(o, &s, code, identity));
	printf("vectors         %lld of %d, %s, %s%s; %lld removed, room for %lld\n", (long long)s.live,
	       o->dim, rv_metric_name(o->metric), code, o->codes_only ? " alone" : "",
	       (long long)s.removed, (long long)o->capacity);
	printf("graph           M %d, ef_construction %d, ef_search %d, %lld links, %d upper layers\n",
	       o->m, o->ef_construction, o->ef_search, (long long)s.links, s.max_level);
	printf("MiB             vectors %.1f, codes %.1f, links %.1f, sketches %.1f, the rest %.1f\n",
	       (double)s.vector_bytes / (1 << 20), (double)s.code_bytes / (1 << 20),
	       (double)s.link_bytes / (1 << 20), (double)s.sketch_bytes / (1 << 20),
	       (double)s.other_bytes / (1 << 20));
	printf("identity        %s\n", identity);
	return rv_cli_finish(cli);
}

int rv_cmd_index_info(rv_cli *cli) {
	static const rv_option none[] = {{0}};
	const rv_option *tables[] = {none, NULL};
	int unused = 0;
	void *values[] = {&unused};
	const int status = rv_cli_parse(cli, tables, values);
	if (status != RV_CLI_GO)
		return status;
	if (cli->n_words != 1)
		return rv_cli_usage(cli, "%d of 1 words: an index is needed", cli->n_words);
	rv_hnsw *index;
	rv_codec *codec;
	if (rv_index_open(&index, &codec, cli->words[0]) != RV_OK)
		return rv_cli_fail(cli);
	const int end = report_info(cli, index, codec);
	rv_hnsw_destroy(index);
	rv_codec_destroy(codec);
	return end;
}

/* ---- verbs ---- */

static const rv_command verbs[] = {
        {"index build", "VECTORS", 1, 0, rv_cmd_index_build, "Build an index from a file of vectors",
         "VECTORS: .fvecs, .bvecs, or HDF5 as ann-benchmarks has it (train). Ids are row numbers.\n"},
        {"index search", "INDEX QUERIES", 2, 0, rv_cmd_index_search,
         "Find the nearest vectors of each query",
         "QUERIES: .fvecs, .bvecs, or HDF5 (test, and neighbors for the recall). A line a query goes "
         "to\n"
         "stdout, ID:DISTANCE nearest first, unless --out names a file; speed and recall go to "
         "stderr.\n"},
        {"index info", "INDEX", 1, 0, rv_cmd_index_info, "Check an index and describe it", NULL},
        {0},
};

int rv_cmd_index(rv_cli *cli) {
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
	if (status != RV_CLI_GO)
		return status;
	return cli->n_words
	               ? rv_cli_usage(cli, "unknown verb '%s': build, search or info", cli->words[0])
	               : rv_cli_usage(cli, "a verb is needed: build, search or info");
}
