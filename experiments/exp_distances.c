/* T12: distances between vectors, in nanoseconds, and searches of the index for k neighbours. */
#include "base/mem.h"
#include "base/rng.h"
#include "base/sysinfo.h"
#include "engine/context.h"
#include "lab/experiment.h"
#include "lab/vector_index.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- declaration ---- */

enum { OP, DIM, N_PARAMS };
enum { L2, COSINE, DOT, MANHATTAN, HAMMING, INT8, N_DISTANCES };
enum { HNSW_K1 = N_DISTANCES, HNSW_K10, HNSW_K100, ROUTING, N_OPS };
static const rv_param_value op_values[N_OPS] = {
        {"l2", 0, RV_PROFILE_SMOKE},          {"cosine", 0, RV_PROFILE_SMOKE},
        {"dot", 0, RV_PROFILE_SMOKE},         {"manhattan", 0, RV_PROFILE_SMOKE},
        {"hamming", 0, RV_PROFILE_SMOKE},     {"int8", 0, RV_PROFILE_SMOKE},
        {"hnsw_k1", 1, RV_PROFILE_SMOKE},     {"hnsw_k10", 10, RV_PROFILE_SMOKE},
        {"hnsw_k100", 100, RV_PROFILE_SMOKE}, {"pattern_routing", 10, RV_PROFILE_SMOKE},
};
static const rv_param_value dims[] = {{"128", 128, RV_PROFILE_QUICK},
                                      {"768", 768, RV_PROFILE_SMOKE},
                                      {"1536", 1536, RV_PROFILE_QUICK}};
static const rv_param params[N_PARAMS] = {
        [OP] = {"op", "", "a distance between two vectors, or a search", RV_PARAM_QUERY, RV_PARAM_TEXT,
                op_values, N_OPS},
        [DIM] = {"dim", "", "components (hamming: bits)", RV_PARAM_QUERY, RV_PARAM_NUMBER, dims,
                 sizeof dims / sizeof *dims},
};

enum { LATENCY, PEAK_PCT, SCALAR, SPEEDUP, FAR, FAR_PCT, SEARCH, P50, QPS, RECALL, N_METRICS };
/* clang-format off */
static const rv_experiment_metric metrics[N_METRICS] = {
	[LATENCY] = {"latency_ns", "ns", "in cache", "one distance, both vectors in the first cache", RV_LOWER, 0, 0, NULL, "%.1f"},
	[PEAK_PCT] = {"peak_pct", "%", "% of peak", "multiplications and additions a second / the most a core can do (f32, or 8-bit integers)", RV_HIGHER, 0, 0, NULL, "%.1f"},
	[SCALAR] = {"scalar_ns", "ns", "plain C", "the same, in this project's plain C", RV_LOWER, 0, 0, NULL, "%.1f"},
	[SPEEDUP] = {"speedup", "x", "speed-up", "plain C / kernel, both of one round", RV_HIGHER, 0, 0, NULL, "%.2f"},
	[FAR] = {"memory_ns", "ns", "from memory", "one of 32 distances from a vector to others at random places of a buffer far larger than the caches", RV_LOWER, 0, 0, NULL, "%.1f"},
	[FAR_PCT] = {"memory_pct", "%", "% of bandwidth", "bytes a second of that, one core alone / sequential read by all", RV_HIGHER, 0, 0, NULL, "%.1f"},
	[SEARCH] = {"latency_us", "us", "search", "mean time of a search, one thread", RV_LOWER, 0, 0, NULL, "%.1f"},
	[P50] = {"p50_us", "us", "median search", "median of the searches of a repetition", RV_LOWER, 0, 0, NULL, "%.1f"},
	[QPS] = {"qps", "1/s", "searches / s", "of one thread", RV_HIGHER, 0, 0, NULL, "%.0f"},
	[RECALL] = {"recall", "", "recall@k", "share of the k found that are at most the k-th true distance + 0.001 away, as ann-benchmarks counts", RV_HIGHER, 1, 0, NULL, "%.4f"},
};
/* clang-format on */

enum { HOW, N_FACTS };
static const rv_fact facts[N_FACTS] = {
        [HOW] = {"how", "how", "feature level of the kernels; of a search, vectors and parameters"}};

static int is_search(const rv_point *p) {
	return p->values[OP] >= N_DISTANCES;
}

static int has_point(const rv_experiment *exp, const rv_point *p) {
	return !is_search(p) || rv_point_value(exp, p, DIM)->number == 768;
}

/* ---- the distances ---- */

enum { ROWS = 32 };

#define PAIR(name, out_type, n_out, value, kernel, type)                                               \
	static float name(const rv_kernels *k, const void *x, const void *y, int64_t n) {              \
		out_type out[n_out];                                                                   \
		k->kernel(out, (const type *)x, (const type *)y, n);                                   \
		return (float)(value);                                                                 \
	}
PAIR(pair_l2, float, 1, *out, l2_f32, float)
PAIR(pair_dot, float, 1, *out, dot_f32, float)
PAIR(pair_cosine, float, 3, 1 - rv_cosine_similarity(out), cosine_f32, float)
PAIR(pair_manhattan, float, 1, *out, l1_f32, float)
PAIR(pair_int8, int32_t, 1, *out, dot_i8, int8_t)
/* n bits */
static float pair_hamming(const rv_kernels *k, const void *x, const void *y, int64_t n) {
	int32_t out;
	k->hamming(&out, (const uint8_t *)x, (const uint8_t *)y, n / 8);
	return (float)out;
}

#define GATHERED(name, out_type, kernel, type)                                                         \
	static float name(const rv_kernels *k, const void *x, const void *const *rows, int64_t n) {    \
		out_type out[ROWS];                                                                    \
		k->kernel(out, (const type *)x, (const type *const *)rows, ROWS, n);                   \
		return (float)out[0];                                                                  \
	}
GATHERED(rows_l2, float, l2_rows_f32, float)
GATHERED(rows_dot, float, dot_rows_f32, float)
GATHERED(rows_int8, int32_t, dot_rows_i8, int8_t)

static const struct distance {
	float (*pair)(const rv_kernels *k, const void *x, const void *y, int64_t n);
	/* many at once; NULL: one by one */
	float (*rows)(const rv_kernels *k, const void *x, const void *const *rows, int64_t n);
	int bits; /* of a component */
	int ops;  /* multiplications and additions a component */
	rv_peak_kind peak;
} distances[N_DISTANCES] = {
        [L2] = {pair_l2, rows_l2, 32, 3, RV_PEAK_F32},
        [COSINE] = {pair_cosine, NULL, 32, 6, RV_PEAK_F32},
        [DOT] = {pair_dot, rows_dot, 32, 2, RV_PEAK_F32},
        [MANHATTAN] = {pair_manhattan, NULL, 32, 3, RV_PEAK_F32},
        [HAMMING] = {pair_hamming, NULL, 1, 0, RV_PEAK_INT8},
        [INT8] = {pair_int8, rows_int8, 8, 2, RV_PEAK_INT8},
};

/* ---- the fixture ---- */

enum { MAX_DIM = 1536, NEAR_VECTORS = 2, PATTERN_BYTES = 1 << 20, RERANK = 20, AGENTS = 13 };

static const struct scale {
	double sample_s; /* of a distance in a repetition */
	size_t far_bytes;
	int n, n_queries; /* vectors of the index, as T4 has them */
	int searches;     /* of a repetition */
} scales[RV_PROFILE_COUNT] = {
        [RV_PROFILE_SMOKE] = {0.2e-3, 32 << 20, 1000, 100, 50},
        [RV_PROFILE_QUICK] = {1e-3, 256 << 20, 10000, 500, 150},
        [RV_PROFILE_FULL] = {5e-3, 1 << 30, 100000, 1000, 500},
};

typedef struct fixture {
	const rv_run_config *config;
	struct scale scale;
	const rv_kernels *kernels;
	float *near;  /* [NEAR_VECTORS, MAX_DIM] */
	uint8_t *far; /* [far_bytes]: more than the caches hold */
	rv_rng rng;
	rv_vector_set set;
	rv_vector_index index,
	        coded; /* of vectors, and of 8-bit codes with vectors to put them right */
	double *each;  /* [searches] */
} fixture;

static void teardown(void *user) {
	fixture *f = user;
	rv_free(f->near);
	rv_free(f->far);
	rv_free(f->each);
	rv_vector_index_close(&f->index);
	rv_vector_index_close(&f->coded);
	rv_vector_set_close(&f->set);
}

/* Floats in [0.5, 1): as bytes, codes of any value. No byte of them is -128, which no code is. */
static void fill_random(rv_rng *rng, void *out, size_t bytes) {
	uint32_t *words = out;
	for (size_t i = 0; i < bytes / sizeof *words; i++) {
		uint32_t u = (uint32_t)rv_rng_u64(rng) & 0x007f7f7f;
		words[i] = u | 0x3f000000;
	}
}

static rv_status open_vectors(fixture *f) {
	const size_t bytes = f->scale.far_bytes;
	RV_TRY(RV_ALLOC(&f->near, NEAR_VECTORS * MAX_DIM, "vectors in cache"));
	RV_TRY(rv_alloc_uninit((void **)&f->far, bytes, 1, "vectors in memory"));
	rv_rng_seed(&f->rng, f->config->seed);
	fill_random(&f->rng, f->near, NEAR_VECTORS * MAX_DIM * sizeof *f->near);
	fill_random(&f->rng, f->far, PATTERN_BYTES);
	for (size_t at = PATTERN_BYTES; at < bytes; at += PATTERN_BYTES)
		memcpy(f->far + at, f->far, PATTERN_BYTES);
	return RV_OK;
}

static rv_status open_index(fixture *f, int coded) {
	rv_hnsw_options o = rv_hnsw_defaults();
	const rv_vector_spec spec = {.kind = RV_VECTOR_SET_CLUSTERED,
	                             .n = f->scale.n,
	                             .n_queries = f->scale.n_queries,
	                             .dim = 768,
	                             .k = 100,
	                             .seed = f->config->seed};
	o.seed = f->config->seed;
	if (!f->set.base)
		RV_TRY(rv_vector_set_open(&f->set, f->config, &spec));
	if (!coded)
		return rv_vector_index_open(&f->index, f->config, &f->set, &o, RV_NO_CODE, 0);
	o.rerank = RERANK;
	return rv_vector_index_open(&f->coded, f->config, &f->set, &o, RV_CODE_SQ8, 0);
}

static rv_status setup(const rv_experiment *exp, const rv_run_config *config, const rv_point *points,
                       int n_points, void *user) {
	fixture *f = user;
	rv_level level;
	(void)exp;
	f->config = config;
	f->scale = scales[config->profile];
	RV_TRY(rv_level_default(&level));
	f->kernels = rv_kernels_for(level);
	RV_TRY(RV_ALLOC(&f->each, f->scale.searches, "times of searches"));
	RV_TRY(open_vectors(f));
	for (int i = 0; i < n_points; i++) {
		const int coded = points[i].values[OP] == ROUTING;
		if (is_search(&points[i]) && !(coded ? f->coded.index : f->index.index))
			RV_TRY(open_index(f, coded));
	}
	return RV_OK;
}

/* ---- one repetition ---- */

/* What this thread took, whatever else the machine does. */
static int64_t thread_ns(void) {
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Nanoseconds of one distance, over as many as fill `seconds`. */
static double time_near(const fixture *f, const rv_kernels *k, const struct distance *d, int64_t n,
                        double seconds) {
	const float *x = f->near, *y = f->near + MAX_DIM;
	volatile float sink;
	for (int64_t calls = 64;; calls *= 2) {
		const int64_t before = thread_ns();
		float sum = 0;
		for (int64_t i = 0; i < calls; i++)
			sum += d->pair(k, x, y, n);
		sink = sum;
		const double ns = (double)(thread_ns() - before);
		(void)sink;
		if (ns >= 1e9 * seconds)
			return ns / (double)calls;
	}
}

/* Returned, so that it is computed. */
static float sum_rows(fixture *f, const struct distance *d, int64_t n, const void **rows) {
	float sum = 0;
	if (d->rows)
		return d->rows(f->kernels, f->near, rows, n);
	for (int i = 0; i < ROWS; i++)
		sum += d->pair(f->kernels, f->near, rows[i], n);
	return sum;
}

/* The places are drawn beforehand: 2 ns each would count. */
static rv_status time_far(fixture *f, const struct distance *d, int64_t n, double seconds, double *ns) {
	const size_t row = (size_t)n * (size_t)d->bits / 8, n_places = f->scale.far_bytes / row;
	const int64_t groups = 1 + (int64_t)(seconds * 1e9 / (ROWS * 300));
	const void **rows;
	RV_TRY(RV_ALLOC(&rows, groups * ROWS, "places"));
	for (int64_t i = 0; i < groups * ROWS; i++)
		rows[i] = f->far + rv_rng_below(&f->rng, n_places) * row;
	volatile float sink;
	float sum = 0;
	const int64_t before = thread_ns();
	for (int64_t g = 0; g < groups; g++)
		sum += sum_rows(f, d, n, rows + g * ROWS);
	sink = sum;
	*ns = (double)(thread_ns() - before) / (double)(groups * ROWS);
	(void)sink;
	rv_free(rows);
	return RV_OK;
}

static rv_status measure_distance(fixture *f, const rv_point *point, rv_record *record) {
	const rv_calibration *c = &f->config->calibration;
	const struct distance *d = &distances[point->values[OP]];
	const int64_t n = (int64_t)dims[point->values[DIM]].number;
	const double seconds = f->scale.sample_s;
	double *v = record->values;
	v[LATENCY] = time_near(f, f->kernels, d, n, seconds);
	v[SCALAR] = time_near(f, rv_kernels_for(RV_LEVEL_REF), d, n, seconds);
	v[SPEEDUP] = v[SCALAR] / v[LATENCY];
	RV_TRY(time_far(f, d, n, seconds, &v[FAR]));
	const double peak = d->peak == RV_PEAK_F32 ? c->f32_gflop_s : c->int8_gop_s;
	if (d->ops)
		v[PEAK_PCT] = 100 * d->ops * (double)n / v[LATENCY] / (peak / c->n_threads);
	else
		rv_record_na(record, PEAK_PCT, "no multiplications");
	v[FAR_PCT] = 100 * (double)n * d->bits / 8 / v[FAR] / c->read_gb_s;
	rv_record_fact(record, HOW, "%s", rv_level_name(f->kernels->level));
	return RV_OK;
}

/* The agent most alike the query: its nearest patterns vote by similarity. Whose pattern a row is does
 * not change the time: they take turns. */
static int vote(const uint64_t *ids, const float *distances_to, int64_t n) {
	float votes[AGENTS] = {0};
	int best = 0;
	for (int64_t i = 0; i < n; i++)
		votes[ids[i] % AGENTS] += 1 - distances_to[i];
	for (int i = 1; i < AGENTS; i++)
		best = votes[i] > votes[best] ? i : best;
	return best;
}

static rv_status time_routing(fixture *f, int64_t from, double *seconds) {
	const rv_vector_set *set = &f->set;
	volatile int agent;
	*seconds = 0;
	for (int i = 0; i < f->scale.searches; i++) {
		const int64_t q = (from + i) % set->spec.n_queries;
		uint64_t ids[10];
		float near[10];
		int64_t n;
		const int64_t before = rv_now_ns();
		RV_TRY(rv_hnsw_search(f->coded.index, set->queries + q * set->spec.dim, 10, 0, NULL,
		                      ids, near, &n));
		agent = vote(ids, near, n);
		f->each[i] = 1e-9 * (double)(rv_now_ns() - before);
		*seconds += f->each[i];
	}
	(void)agent;
	return RV_OK;
}

static int ascending(const void *a, const void *b) {
	const double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static rv_status measure_search(fixture *f, const rv_point *point, int repetition, rv_record *record) {
	const int routing = point->values[OP] == ROUTING, n = f->scale.searches;
	const int k = (int)op_values[point->values[OP]].number;
	const rv_vector_index *index = routing ? &f->coded : &f->index;
	const rv_hnsw_options *o = rv_hnsw_get_options(index->index);
	const int64_t from = (int64_t)repetition * n;
	double *v = record->values, seconds;
	RV_TRY(routing ? time_routing(f, from, &seconds)
	               : rv_vector_index_search(index, &f->set, from, n, k, 0, NULL, &seconds,
	                                        f->each));
	qsort(f->each, (size_t)n, sizeof *f->each, ascending);
	v[SEARCH] = 1e6 * seconds / n;
	v[P50] = 1e6 * f->each[n / 2];
	v[QPS] = n / seconds;
	if (repetition == 0)
		RV_TRY(rv_vector_index_recall(index, &f->set, k, 0, &v[RECALL], NULL));
	rv_record_fact(record, HOW, "%d clustered vectors%s, M %d, ef_construction %d, ef %d",
	               f->scale.n, routing ? " in sq8 and f32" : "", o->m, o->ef_construction,
	               k > o->ef_search ? k : o->ef_search);
	return RV_OK;
}

static rv_status run(void *user, const rv_point *point, int repetition, rv_record *record) {
	return is_search(point) ? measure_search(user, point, repetition, record)
	                        : measure_distance(user, point, record);
}

static rv_status prepare(const rv_experiment *exp, const rv_run_config *config, rv_inputs *in) {
	const struct scale *s = &scales[config->profile];
	(void)exp;
	snprintf(in->settings, sizeof in->settings,
	         "%d rows at once of %zu bytes, %g s a sample; %d vectors, %d queries, %d searches",
	         ROWS, s->far_bytes, s->sample_s, s->n, s->n_queries, s->searches);
	return RV_OK;
}

static const rv_experiment distances_and_search = {
        .id = "T12",
        .name = "t12_distances",
        .title = "Distances and searches",
        .about = "A distance between two vectors in the first cache, in a loop of calibrated length, "
                 "call included; the same in this project's plain C; and 32 distances from a vector to "
                 "others at random places of a buffer far larger than the caches, as a walk through a "
                 "graph meets them; processor time of one thread. cosine takes the product and both "
                 "lengths in one pass; l2 is the squared distance; hamming counts differing bits of "
                 "dim bits; int8 is the product of 8-bit codes. hnsw_k: searches for k neighbours in "
                 "an index of M 16, ef_construction 200, ef_search 50 (at least k) over clustered "
                 "vectors of 768 components (the documents state neither number nor length), one "
                 "thread, recall beside. pattern_routing: the 10 nearest patterns by 8-bit codes, the "
                 "best 20 put in exact order, vote for one of 13 agents; no text is embedded.",
        .documented = "t12_distances.csv",
        .plot = "t12_distances",
        .params = params,
        .n_params = N_PARAMS,
        .metrics = metrics,
        .n_metrics = N_METRICS,
        .facts = facts,
        .n_facts = N_FACTS,
        .budget_s = {8, 20, 600},
        .limit_s = {6, 16, 0},
        .min_n = 10,
        .has_point = has_point,
        .max_n = {10, 30, 30},
        .prepare = prepare,
        .fixture_bytes = sizeof(fixture),
        .setup = setup,
        .run = run,
        .teardown = teardown,
};

int main(int argc, char **argv) {
	return rv_experiment_main(argc, argv, &distances_and_search);
}
