/* T4: HNSW against exact search, and how the time of an insertion grows. */
#include "base/mem.h"
#include "base/sysinfo.h"
#include "engine/blas.h"
#include "lab/experiment.h"
#include "lab/vector_index.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* ---- declaration ---- */

static const rv_param_value sizes[] = {
        {"1000", 1000, RV_PROFILE_SMOKE},   {"5000", 5000, RV_PROFILE_QUICK},
        {"10000", 10000, RV_PROFILE_QUICK}, {"20000", 20000, RV_PROFILE_QUICK},
        {"50000", 50000, RV_PROFILE_FULL},  {"100000", 100000, RV_PROFILE_FULL}};
static const rv_param_value dims[] = {{"128", 128, RV_PROFILE_SMOKE}, {"768", 768, RV_PROFILE_SMOKE}};
static const rv_param_value baselines[] = {
#define BASELINE(name, text) {text, 0, RV_PROFILE_SMOKE},
        RV_BRUTE_TABLE(BASELINE)
#undef BASELINE
};
#define COUNT(a) (int)(sizeof(a) / sizeof(a)[0])
enum { SIZE, DIM, BASELINE, N_PARAMS };
static const rv_param params[N_PARAMS] = {
        [SIZE] = {"n", "vectors", "in the index", RV_PARAM_BUILD, RV_PARAM_NUMBER, sizes, COUNT(sizes)},
        [DIM] = {"dim", "", "components of a vector", RV_PARAM_BUILD, RV_PARAM_NUMBER, dims,
                 COUNT(dims)},
        [BASELINE] = {"baseline", "",
                      "exact search by plain C, by the SIMD kernels, or by SGEMM, 64 queries at once",
                      RV_PARAM_QUERY, RV_PARAM_TEXT, baselines, COUNT(baselines)},
};

enum {
	RECALL,
	RECALL_TIES,
	EF_SEARCH,
	BRUTE_MS,
	HNSW_MS,
	SPEEDUP,
	HNSW_DISTANCES,
	INSERT_US,
	INSERT_EXPONENT,
	LINK_BYTES,
	LINK_BYTES_USED,
	NODE_BYTES,
	BUILD_S,
	N_METRICS
};
/* clang-format off */
static const rv_experiment_metric metrics[N_METRICS] = {
	[RECALL] = {"recall_at_10", "", "recall@10", "share of the 10 found that are at most the 10th true distance + 0.001 away, as ann-benchmarks counts", RV_HIGHER, 1, 0, NULL, "%.4f"},
	[RECALL_TIES] = {"recall_at_10_exact", "", "exact recall@10", "the same without the 0.001", RV_HIGHER, 1, 0, NULL, "%.4f"},
	[EF_SEARCH] = {"ef_search", "candidates", "ef", "of the search", RV_LOWER, 1, 0, NULL, "%.0f"},
	[BRUTE_MS] = {"brute_ms", "ms", "exact", "a query of the exact search, one thread", RV_LOWER, 0, 0, NULL, "%.4f"},
	[HNSW_MS] = {"hnsw_ms", "ms", "HNSW", "a query of the index, one thread", RV_LOWER, 0, 0, NULL, "%.5f"},
	[SPEEDUP] = {"speedup", "x", "speed-up", "exact / HNSW, in turns", RV_HIGHER, 0, 0, NULL, "%.1f"},
	[HNSW_DISTANCES] = {"hnsw_distances", "", "distances a query", "full distances that a query of the index computes", RV_LOWER, 1, 1, NULL, "%.0f"},
	[INSERT_US] = {"insert_us", "us", "insertion", "CPU time of adding one vector, one thread", RV_LOWER, 0, 0, NULL, "%.0f"},
	[INSERT_EXPONENT] = {"insert_log_exponent", "exponent", "insertion ~ (ln n)^e", "e of a least-squares line through ln time over ln ln n of all sizes of the profile up to this one, in turns", RV_LOWER, 0, 0, NULL, "%.2f"},
	[LINK_BYTES] = {"link_bytes_per_connection", "bytes", "a connection", "bytes of the lists of links / the connections they have room for", RV_LOWER, 1, 0, NULL, "%.2f"},
	[LINK_BYTES_USED] = {"link_bytes_per_link", "bytes", "a link in use", "bytes of the lists of links / the links in them", RV_LOWER, 1, 1, NULL, "%.2f"},
	[NODE_BYTES] = {"bytes_per_node", "bytes", "a node", "vector, links, sketch and the rest", RV_LOWER, 1, 0, NULL, "%.0f"},
	[BUILD_S] = {"build_s", "s", "build", "on all threads; once, kept with the index", RV_LOWER, 1, 0, NULL, "%.2f"},
};
/* clang-format on */

/* ---- how much is measured ---- */

enum {
	K = 10,
	EF = 50,
	M = 16,
	EF_CONSTRUCTION = 200,
	SPARE = 4096,
	BLAS_BATCH = 64,
	N_FRESH = 512,
	MAX_SIZES = COUNT(sizes)
};

typedef struct scale {
	int n_queries, searches,
	        inserts; /* of the set; of a repetition; into each index of a repetition */
	double brute_s;  /* of a repetition, about */
} scale;
static const scale scales[RV_PROFILE_COUNT] = {
        [RV_PROFILE_SMOKE] = {100, 50, 4, 0.002},
        [RV_PROFILE_QUICK] = {500, 100, 16, 0.01},
        [RV_PROFILE_FULL] = {1000, 500, 24, 0.2},
};

static rv_status prepare(const rv_experiment *exp, const rv_run_config *config, rv_inputs *in) {
	const scale *s = &scales[config->profile];
	(void)exp;
	snprintf(in->settings, sizeof in->settings,
	         "clustered, %d queries, k %d, M %d, ef_construction %d, ef %d, %d searches, %d "
	         "inserts, %g s",
	         s->n_queries, K, M, EF_CONSTRUCTION, EF, s->searches, s->inserts, s->brute_s);
	return RV_OK;
}

typedef struct fixture {
	const rv_run_config *config;
	scale size;
	rv_vector_set set;
	rv_vector_index index;
	rv_brute *brutes[RV_BRUTE_COUNT];
	int n_brute[RV_BRUTE_COUNT]; /* queries of a repetition */
	const char *no_blas;
	int32_t *rows; /* [BLAS_BATCH * K] */
	float *fresh;  /* vectors to insert: [N_FRESH, dim] */
	int64_t next_fresh;
	/* Indexes of the sizes up to this one, for insertions alone. */
	rv_vector_index grown[MAX_SIZES];
	double log_log[MAX_SIZES];
	int n_grown;
	uint64_t next_id;
} fixture;

static void teardown(void *user) {
	fixture *f = user;
	for (int i = 0; i < f->n_grown; i++)
		rv_vector_index_close(&f->grown[i]);
	for (int i = 0; i < RV_BRUTE_COUNT; i++)
		rv_brute_destroy(f->brutes[i]);
	rv_vector_index_close(&f->index);
	rv_vector_set_close(&f->set);
	rv_free(f->rows);
	rv_free(f->fresh);
}

static rv_vector_spec spec_of(const fixture *f, int64_t n, int dim) {
	return (rv_vector_spec){.kind = RV_VECTOR_SET_CLUSTERED,
	                        .n = n,
	                        .n_queries = f->size.n_queries,
	                        .dim = dim,
	                        .k = 100,
	                        .seed = f->config->seed};
}

static rv_hnsw_options options_of(const fixture *f) {
	rv_hnsw_options o = rv_hnsw_defaults();
	o.m = M;
	o.ef_construction = EF_CONSTRUCTION;
	o.seed = f->config->seed;
	return o;
}

/* ---- set-up ---- */

static rv_status open_baselines(fixture *f) {
	const rv_vector_spec *s = &f->set.spec;
	for (rv_brute_kind kind = 0; kind < RV_BRUTE_COUNT; kind++) {
		rv_status status = rv_brute_create(&f->brutes[kind], kind, RV_METRIC_COSINE,
		                                   f->set.base, s->n, s->dim);
		if (kind == RV_BRUTE_BLAS && status == RV_ERR_UNSUPPORTED) {
			f->no_blas = "OpenBLAS is not installed";
			continue;
		}
		RV_TRY(status);
		/* How many queries last brute_s. */
		const int batch = kind == RV_BRUTE_BLAS ? BLAS_BATCH : 1;
		const int64_t start = rv_now_ns();
		RV_TRY(rv_brute_search(f->brutes[kind], f->set.queries, batch, K, f->rows, NULL, NULL));
		const double once = 1e-9 * (double)(rv_now_ns() - start);
		const double n = f->size.brute_s / once;
		f->n_brute[kind] = batch * (n < 1 ? 1 : n > 64 ? 64 : (int)n);
	}
	return RV_OK;
}

/* More of what the set's queries are, of which no index holds one. */
static rv_status make_fresh(fixture *f) {
	rv_vector_spec more = f->set.spec;
	const int64_t dim = more.dim;
	float *base, *queries = NULL;
	more.n = 1;
	more.n_queries = f->size.n_queries + N_FRESH;
	RV_TRY(RV_ALLOC(&base, dim, "vectors"));
	rv_status status = RV_ALLOC(&queries, more.n_queries * dim, "vectors");
	if (status == RV_OK)
		status = rv_vectors_make(f->config, &more, base, queries);
	if (status == RV_OK)
		status = RV_ALLOC(&f->fresh, N_FRESH * dim, "vectors");
	if (status == RV_OK)
		memcpy(f->fresh, queries + f->size.n_queries * dim,
		       sizeof(float) * (size_t)(N_FRESH * dim));
	rv_free(queries);
	rv_free(base);
	return status;
}

static int is_largest(const rv_experiment *exp, const rv_run_config *c, int size) {
	int largest = 0;
	for (int i = 0; i < exp->params[SIZE].n_values; i++)
		if (sizes[i].smallest <= c->profile)
			largest = i;
	return size == largest && largest > 0;
}

static rv_status open_grown(fixture *f, int size) {
	const rv_hnsw_options o = options_of(f);
	for (int i = 0; i <= size; i++) {
		const rv_vector_spec s = spec_of(f, (int64_t)sizes[i].number, f->set.spec.dim);
		rv_vector_set set;
		RV_TRY(rv_vector_set_open(&set, f->config, &s));
		const rv_status status =
		        rv_vector_index_open(&f->grown[i], f->config, &set, &o, RV_NO_CODE, SPARE);
		rv_vector_set_close(&set);
		RV_TRY(status);
		f->log_log[i] = log(log(sizes[i].number));
		f->n_grown = i + 1;
	}
	return RV_OK;
}

static rv_status setup(const rv_experiment *exp, const rv_run_config *c, const rv_point *points,
                       int n_points, void *user) {
	fixture *f = user;
	(void)n_points;
	f->config = c;
	const rv_hnsw_options o = options_of(f);
	f->size = scales[c->profile];
	f->next_id = (uint64_t)1 << 40;
	const rv_vector_spec s = spec_of(f, (int64_t)rv_point_value(exp, points, SIZE)->number,
	                                 (int)rv_point_value(exp, points, DIM)->number);
	RV_TRY(RV_ALLOC(&f->rows, BLAS_BATCH * 64 * K, "rows"));
	RV_TRY(rv_vector_set_open(&f->set, c, &s));
	RV_TRY(rv_vector_index_open(&f->index, c, &f->set, &o, RV_NO_CODE, 0));
	RV_TRY(open_baselines(f));
	RV_TRY(make_fresh(f));
	if (is_largest(exp, c, points[0].values[SIZE]))
		return open_grown(f, points[0].values[SIZE]);
	return rv_vector_index_open(&f->grown[f->n_grown++], c, &f->set, &o, RV_NO_CODE, SPARE);
}

/* ---- one repetition ---- */

static rv_status put_exact(const fixture *f, rv_record *record) {
	double recall, ties;
	rv_hnsw_searcher *s;
	RV_TRY(rv_vector_index_recall(&f->index, &f->set, K, EF, &recall, &ties));
	const rv_hnsw_stats stats = rv_hnsw_get_stats(f->index.index);
	const double n = (double)f->set.spec.n;
	record->values[RECALL] = recall;
	record->values[RECALL_TIES] = ties;
	record->values[EF_SEARCH] = EF;
	record->values[LINK_BYTES] = sizeof(uint32_t);
	record->values[LINK_BYTES_USED] = (double)stats.link_bytes / (double)stats.links;
	record->values[NODE_BYTES] = (double)(stats.vector_bytes + stats.link_bytes +
	                                      stats.sketch_bytes + stats.other_bytes) /
	                             n;
	record->values[BUILD_S] = f->index.build_s;
	RV_TRY(rv_hnsw_searcher_create(&s, f->index.index));
	rv_status status = RV_OK;
	for (int q = 0; q < f->size.n_queries && status == RV_OK; q++) {
		int64_t found;
		status = rv_hnsw_search_with(s, f->set.queries + (int64_t)q * f->set.spec.dim, K, EF,
		                             NULL, NULL, NULL, &found);
	}
	record->values[HNSW_DISTANCES] =
	        (double)rv_hnsw_searcher_work(s).distances / (double)f->size.n_queries;
	rv_hnsw_searcher_destroy(s);
	return status;
}

static rv_status time_brute(const fixture *f, int kind, int64_t from, double *a_query) {
	const int64_t n = f->n_brute[kind], all = f->set.spec.n_queries;
	const int64_t at = from % (all > n ? all - n : 1), m = n < all ? n : all;
	const int64_t start = rv_now_ns();
	RV_TRY(rv_brute_search(f->brutes[kind], f->set.queries + at * f->set.spec.dim, m, K, f->rows,
	                       NULL, NULL));
	*a_query = 1e-9 * (double)(rv_now_ns() - start) / (double)m;
	return RV_OK;
}

/* Of this thread on a CPU: an insertion is too short to tell it from what else the machine does. */
static double cpu_seconds(void) {
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds of adding one vector to an index, which keeps it. */
static rv_status time_inserts(fixture *f, const rv_vector_index *index, double *seconds) {
	const double start = cpu_seconds();
	for (int i = 0; i < f->size.inserts; i++) {
		const float *x = f->fresh + (f->next_fresh + i) % N_FRESH * f->set.spec.dim;
		RV_TRY(rv_hnsw_add(index->index, f->next_id++, x));
	}
	*seconds = (cpu_seconds() - start) / f->size.inserts;
	return RV_OK;
}

static rv_status measure_inserts(fixture *f, rv_record *record) {
	double x = 0, y = 0, xx = 0, xy = 0, seconds = 0;
	const int n = f->n_grown;
	for (int i = 0; i < n; i++) {
		RV_TRY(time_inserts(f, &f->grown[i], &seconds));
		const double v = log(seconds);
		x += f->log_log[i];
		y += v;
		xx += f->log_log[i] * f->log_log[i];
		xy += f->log_log[i] * v;
	}
	f->next_fresh += f->size.inserts;
	record->values[INSERT_US] = 1e6 * seconds; /* of this size: the last */
	if (n < 3)
		rv_record_na(record, INSERT_EXPONENT, "fitted over all sizes: see the largest n");
	else
		record->values[INSERT_EXPONENT] = (n * xy - x * y) / (n * xx - x * x);
	return RV_OK;
}

static rv_status run(void *user, const rv_point *point, int repetition, rv_record *record) {
	fixture *f = user;
	const int kind = point->values[BASELINE];
	const int64_t from = (int64_t)repetition * 37;
	double brute, hnsw[2];
	if (repetition == 0)
		RV_TRY(put_exact(f, record));
	if (kind == RV_BRUTE_BLAS && f->no_blas) {
		rv_record_na(record, BRUTE_MS, f->no_blas);
		rv_record_na(record, SPEEDUP, f->no_blas);
		return RV_OK;
	}
	RV_TRY(rv_vector_index_search(&f->index, &f->set, from, f->size.searches, K, EF, NULL, &hnsw[0],
	                              NULL));
	RV_TRY(time_brute(f, kind, from, &brute));
	RV_TRY(rv_vector_index_search(&f->index, &f->set, from, f->size.searches, K, EF, NULL, &hnsw[1],
	                              NULL));
	const double search = (hnsw[0] + hnsw[1]) / (2.0 * f->size.searches);
	record->values[BRUTE_MS] = 1e3 * brute;
	record->values[HNSW_MS] = 1e3 * search;
	record->values[SPEEDUP] = brute / search;
	if (kind == RV_BRUTE_SIMD)
		return measure_inserts(f, record);
	rv_record_na(record, INSERT_US, "does not depend on the baseline: see simd");
	rv_record_na(record, INSERT_EXPONENT, "does not depend on the baseline: see simd");
	return RV_OK;
}

static const rv_experiment hnsw = {
        .id = "T4",
        .name = "t4_hnsw",
        .title = "HNSW against exact search",
        .about = "Vectors of 400 Gaussian clusters in 48 latent dimensions, projected at random; "
                 "queries "
                 "are drawn likewise and not in the index. The index has M 16, ef_construction 200, "
                 "cosine, f32; it and the exact search take turns, one thread each, SGEMM with 64 "
                 "queries at once. Speed is that of ef_search 50 and stands beside the recall at it, "
                 "of all queries. How the time of an insertion grows is fitted where the largest index "
                 "is: each repetition adds the same vectors to indexes of every size and gives one "
                 "exponent, of CPU times. "
                 "The build's time is that of the one build, which later runs find again.",
        .documented = "t4_hnsw.csv",
        .plot = "t4_hnsw",
        .params = params,
        .n_params = N_PARAMS,
        .metrics = metrics,
        .n_metrics = N_METRICS,
        .budget_s = {8, 50, 3600},
        .limit_s = {6, 40, 0},
        .min_n = 10,
        .max_n = {10, 15, 20},
        .prepare = prepare,
        .fixture_bytes = sizeof(fixture),
        .setup = setup,
        .run = run,
        .teardown = teardown,
};

int main(int argc, char **argv) {
	return rv_experiment_main(argc, argv, &hnsw);
}
