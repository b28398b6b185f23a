/* T16: what M, ef_construction, ef_search and the code of a vector do to recall, speed and size. */
#include "base/mem.h"
#include "lab/experiment.h"
#include "lab/stats.h"
#include "lab/vector_index.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- declaration ---- */

static const rv_param_value sets[] = {
#define SET(name, text) {text, 0, RV_PROFILE_SMOKE},
        RV_VECTOR_SET_TABLE(SET)
#undef SET
};
static const rv_param_value ms[] = {{"8", 8, RV_PROFILE_QUICK},
                                    {"16", 16, RV_PROFILE_SMOKE},
                                    {"32", 32, RV_PROFILE_QUICK},
                                    {"64", 64, RV_PROFILE_QUICK}};
static const rv_param_value constructions[] = {
        {"100", 100, RV_PROFILE_QUICK}, {"200", 200, RV_PROFILE_SMOKE}, {"400", 400, RV_PROFILE_QUICK}};
static const rv_param_value codes[] = {{"f32", RV_NO_CODE, RV_PROFILE_SMOKE},
#define CODE(name, text) {text, RV_CODE_##name, RV_PROFILE_QUICK},
                                       RV_CODE_TABLE(CODE)
#undef CODE
};
static const rv_param_value searches[] = {
        {"10", 10, RV_PROFILE_SMOKE},   {"20", 20, RV_PROFILE_QUICK},   {"50", 50, RV_PROFILE_SMOKE},
        {"64", 64, RV_PROFILE_QUICK},   {"100", 100, RV_PROFILE_SMOKE}, {"200", 200, RV_PROFILE_QUICK},
        {"400", 400, RV_PROFILE_QUICK}, {"800", 800, RV_PROFILE_QUICK}};
static const rv_param_value ks[] = {{"1", 1, RV_PROFILE_QUICK},
                                    {"5", 5, RV_PROFILE_QUICK},
                                    {"10", 10, RV_PROFILE_SMOKE},
                                    {"100", 100, RV_PROFILE_QUICK}};
static const rv_param_value marks[] = {{"-", 0, RV_PROFILE_SMOKE},
                                       {"base", 1, RV_PROFILE_SMOKE},
                                       {"agent", 2, RV_PROFILE_QUICK},
                                       {"orchestration", 3, RV_PROFILE_QUICK}};
#define COUNT(a) (int)(sizeof(a) / sizeof(a)[0])
enum { SET, LINKS, CONSTRUCTION, CODE, SEARCH, NEAREST, MARK, N_PARAMS };
static const rv_param params[N_PARAMS] = {
        [SET] = {"set", "", "vectors: see the text above", RV_PARAM_BUILD, RV_PARAM_TEXT, sets,
                 COUNT(sets)},
        [LINKS] = {"M", "links", "of a node in an upper layer; 2 M in layer 0", RV_PARAM_BUILD,
                   RV_PARAM_NUMBER, ms, COUNT(ms)},
        [CONSTRUCTION] = {"efC", "candidates", "ef_construction", RV_PARAM_BUILD, RV_PARAM_NUMBER,
                          constructions, COUNT(constructions)},
        [CODE] = {"code", "",
                  "what is compared on the way: the vectors, or codes, whose nearest are put in order "
                  "by the vectors",
                  RV_PARAM_BUILD, RV_PARAM_TEXT, codes, COUNT(codes)},
        [SEARCH] = {"efS", "candidates", "ef_search", RV_PARAM_QUERY, RV_PARAM_NUMBER, searches,
                    COUNT(searches)},
        [NEAREST] = {"k", "", "neighbours asked for", RV_PARAM_QUERY, RV_PARAM_NUMBER, ks, COUNT(ks)},
        [MARK] = {"mark", "", "documented as the setting of a variant", RV_PARAM_QUERY, RV_PARAM_TEXT,
                  marks, COUNT(marks)},
};

enum {
	RECALL,
	RECALL_EXACT,
	QPS,
	P50,
	P99,
	BUILD_S,
	NODE_BYTES,
	LINK_BYTES,
	VECTOR_BYTES,
	M_USED,
	CONSTRUCTION_USED,
	SEARCH_USED,
	N_METRICS
};
/* clang-format off */
static const rv_experiment_metric metrics[N_METRICS] = {
	[RECALL] = {"recall", "", "recall@k", "share of the k found that are at most the k-th true distance + 0.001 away, as ann-benchmarks counts", RV_HIGHER, 1, 0, NULL, "%.4f"},
	[RECALL_EXACT] = {"recall_exact", "", "exact recall@k", "the same without the 0.001", RV_HIGHER, 1, 0, NULL, "%.4f"},
	[QPS] = {"qps", "1/s", "queries / s", "one after the other, one thread", RV_HIGHER, 0, 0, NULL, "%.0f"},
	[P50] = {"p50_us", "us", "p50", "median time of a query", RV_LOWER, 0, 1, NULL, "%.1f"},
	[P99] = {"p99_us", "us", "p99", "99th percentile of the times of queries", RV_LOWER, 0, 1, NULL, "%.1f"},
	[BUILD_S] = {"build_s", "s", "build", "on all threads, codec included; once, kept with the index", RV_LOWER, 1, 0, NULL, "%.2f"},
	[NODE_BYTES] = {"bytes_per_node", "bytes", "a node", "what a search reads (vector or code, links, sketch) and the rest; vectors that only the last ordering reads are left out", RV_LOWER, 1, 0, NULL, "%.0f"},
	[LINK_BYTES] = {"link_bytes_per_node", "bytes", "its links", "lists of links", RV_LOWER, 1, 1, NULL, "%.0f"},
	[VECTOR_BYTES] = {"code_bytes_per_node", "bytes", "its code", "of the vector or its code", RV_LOWER, 1, 1, NULL, "%.0f"},
	[M_USED] = {"m", "links", "M", "as built", RV_LOWER, 1, 1, NULL, "%.0f"},
	[CONSTRUCTION_USED] = {"ef_construction", "candidates", "ef_construction", "as built", RV_LOWER, 1, 1, NULL, "%.0f"},
	[SEARCH_USED] = {"ef_search", "candidates", "ef_search", "as searched", RV_LOWER, 1, 1, NULL, "%.0f"},
};
/* clang-format on */

/* ---- which points ---- */

enum { BASE, AGENT, ORCHESTRATION, N_MARKS };
static const struct {
	int m, ef_construction, ef_search; /* S4 names no ef_construction: the agent's */
} marked[N_MARKS] = {{16, 200, 50}, {32, 400, 50}, {32, 400, 64}};

static int number(const rv_experiment *exp, const rv_point *point, int param) {
	return (int)rv_point_value(exp, point, param)->number;
}

/* 0: none; 1 + number in `marked`. */
static int mark_of(const rv_experiment *exp, const rv_point *p) {
	if (p->values[SET] != RV_VECTOR_SET_CLUSTERED || p->values[CODE] != 0 ||
	    number(exp, p, NEAREST) != 10)
		return 0;
	int i = 0;
	while (i < N_MARKS && (marked[i].m != number(exp, p, LINKS) ||
	                       marked[i].ef_construction != number(exp, p, CONSTRUCTION) ||
	                       marked[i].ef_search != number(exp, p, SEARCH)))
		i++;
	return i < N_MARKS ? i + 1 : 0;
}

static int is_base_graph(const rv_experiment *exp, const rv_point *p) {
	return number(exp, p, LINKS) == marked[BASE].m &&
	       number(exp, p, CONSTRUCTION) == marked[BASE].ef_construction;
}

/* Every graph over the clusters; codes and other numbers of neighbours on the base graph; over the
 * other sets the marked graphs. */
static int has_point(const rv_experiment *exp, const rv_point *p) {
	const int base = is_base_graph(exp, p);
	const int agent = number(exp, p, LINKS) == marked[AGENT].m &&
	                  number(exp, p, CONSTRUCTION) == marked[AGENT].ef_construction;
	if (p->values[MARK] != mark_of(exp, p))
		return 0;
	if (p->values[CODE] != 0)
		return base && number(exp, p, NEAREST) == 10;
	if (number(exp, p, NEAREST) != 10)
		return base;
	return p->values[SET] == RV_VECTOR_SET_CLUSTERED || base || agent;
}

static int in_profile(const rv_experiment *exp, rv_profile profile, const rv_point *p) {
	const int m = number(exp, p, LINKS), ef = number(exp, p, CONSTRUCTION),
	          k = number(exp, p, NEAREST), search = number(exp, p, SEARCH);
	if (profile == RV_PROFILE_FULL || p->values[MARK])
		return 1;
	if (profile == RV_PROFILE_SMOKE)
		return p->values[SET] != RV_VECTOR_SET_EMBEDDINGS;
	/* quick: the corners and the diagonal */
	if ((m == 8 && ef != 100) || (m == 16 && ef == 400) || (m == 32 && ef == 100) ||
	    (m == 64 && ef != 400))
		return 0;
	if (p->values[CODE] != 0 && p->values[SET] != RV_VECTOR_SET_CLUSTERED)
		return 0;
	if (k != 10)
		return search == 100 && p->values[SET] == RV_VECTOR_SET_CLUSTERED;
	return search == 10 || search == 20 || search == 50 || search == 100 || search == 200;
}

/* ---- how much is measured ---- */

typedef struct scale {
	int64_t n;
	int n_queries, searches; /* of the set, of a repetition */
} scale;
enum { DIM = 768, K_MAX = 100 };
static const scale scales[RV_PROFILE_COUNT] = {[RV_PROFILE_SMOKE] = {500, 60, 30},
                                               [RV_PROFILE_QUICK] = {5000, 400, 60},
                                               [RV_PROFILE_FULL] = {100000, 1000, 300}};
static const scale embedded[RV_PROFILE_COUNT] = {[RV_PROFILE_SMOKE] = {500, 60, 30},
                                                 [RV_PROFILE_QUICK] = {1500, 150, 60},
                                                 [RV_PROFILE_FULL] = {20000, 1000, 300}};

static rv_status prepare(const rv_experiment *exp, const rv_run_config *config, rv_inputs *in) {
	const scale *s = &scales[config->profile], *e = &embedded[config->profile];
	(void)exp;
	snprintf(in->settings, sizeof in->settings,
	         "%lld x %d, %d queries, %d a repetition; embeddings %lld, %d", (long long)s->n, DIM,
	         s->n_queries, s->searches, (long long)e->n, e->n_queries);
	return RV_OK;
}

typedef struct fixture {
	const rv_experiment *exp;
	scale size;
	rv_vector_set set;
	rv_vector_index index;
	double *times; /* [size.searches] */
} fixture;

static void teardown(void *user) {
	fixture *f = user;
	rv_vector_index_close(&f->index);
	rv_vector_set_close(&f->set);
	rv_free(f->times);
}

static rv_status setup(const rv_experiment *exp, const rv_run_config *c, const rv_point *points,
                       int n_points, void *user) {
	fixture *f = user;
	const rv_point *p = points;
	const int embeddings = p->values[SET] == RV_VECTOR_SET_EMBEDDINGS;
	rv_hnsw_options o = rv_hnsw_defaults();
	(void)n_points;
	f->exp = exp;
	f->size = (embeddings ? embedded : scales)[c->profile];
	const rv_vector_spec spec = {.kind = (rv_vector_kind)p->values[SET],
	                             .n = f->size.n,
	                             .n_queries = f->size.n_queries,
	                             .dim = DIM,
	                             .k = K_MAX,
	                             .seed = c->seed};
	o.m = number(exp, p, LINKS);
	o.ef_construction = number(exp, p, CONSTRUCTION);
	o.seed = c->seed;
	RV_TRY(RV_ALLOC(&f->times, f->size.searches, "times"));
	RV_TRY(rv_vector_set_open(&f->set, c, &spec));
	return rv_vector_index_open(&f->index, c, &f->set, &o, (rv_code_kind)number(exp, p, CODE), 0);
}

/* ---- one repetition ---- */

static rv_status put_exact(const fixture *f, const rv_point *p, int k, int ef, rv_record *record) {
	const rv_hnsw_stats stats = rv_hnsw_get_stats(f->index.index);
	const double n = (double)f->set.spec.n;
	const size_t compared = f->index.codec ? stats.code_bytes : stats.vector_bytes;
	const double vector = (double)compared / n;
	RV_TRY(rv_vector_index_recall(&f->index, &f->set, k, ef, &record->values[RECALL],
	                              &record->values[RECALL_EXACT]));
	record->values[BUILD_S] = f->index.build_s;
	record->values[VECTOR_BYTES] = vector;
	record->values[LINK_BYTES] = (double)stats.link_bytes / n;
	record->values[NODE_BYTES] =
	        vector + (double)(stats.link_bytes + stats.sketch_bytes + stats.other_bytes) / n;
	record->values[M_USED] = number(f->exp, p, LINKS);
	record->values[CONSTRUCTION_USED] = number(f->exp, p, CONSTRUCTION);
	record->values[SEARCH_USED] = ef;
	return RV_OK;
}

static int by_time(const void *a, const void *b) {
	const double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static rv_status run(void *user, const rv_point *point, int repetition, rv_record *record) {
	fixture *f = user;
	const int n = f->size.searches, k = number(f->exp, point, NEAREST),
	          ef = number(f->exp, point, SEARCH);
	double seconds;
	if (repetition == 0)
		RV_TRY(put_exact(f, point, k, ef, record));
	RV_TRY(rv_vector_index_search(&f->index, &f->set, (int64_t)repetition * 53, n, k, ef, NULL,
	                              &seconds, f->times));
	qsort(f->times, (size_t)n, sizeof *f->times, by_time);
	record->values[QPS] = n / seconds;
	record->values[P50] = 1e6 * rv_quantile(f->times, (size_t)n, 0.5);
	record->values[P99] = 1e6 * rv_quantile(f->times, (size_t)n, 0.99);
	return RV_OK;
}

static const rv_experiment parameters = {
        .id = "T16",
        .name = "t16_hnsw_parameters",
        .title = "HNSW parameters",
        .about = "Graphs over 768-dimensional vectors by cosine: 400 Gaussian clusters in 48 latent "
                 "dimensions (clustered), directions without structure (uniform, the hardest there "
                 "are), and the model's own embeddings of texts (fewer of them). Recall is that of "
                 "all queries, which are not in the index. Codes take the place of vectors on the "
                 "way to the nearest, whose order is then that of the vectors; the graph is the same. "
                 "Points of the plots that no other beats in both recall and speed are joined. The "
                 "build's time is that of the one build, which later runs find again. quick: 5000 "
                 "vectors, full: 100 000.",
        .documented = "t16_hnsw_parameters.csv",
        .plot = "t16_hnsw_parameters",
        .params = params,
        .n_params = N_PARAMS,
        .metrics = metrics,
        .n_metrics = N_METRICS,
        .budget_s = {8, 60, 7200},
        .limit_s = {6, 40, 0},
        .min_n = 10,
        .max_n = {10, 12, 20},
        .has_point = has_point,
        .in_profile = in_profile,
        .prepare = prepare,
        .fixture_bytes = sizeof(fixture),
        .setup = setup,
        .run = run,
        .teardown = teardown,
};

int main(int argc, char **argv) {
	return rv_experiment_main(argc, argv, &parameters);
}
