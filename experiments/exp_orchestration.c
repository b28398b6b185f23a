/* T11: orchestration: embedding, retrieving and routing a request, looking its session up, noting it in
 * the witness log; what all of that takes of memory. */
#include "base/mem.h"
#include "lab/orchestra.h"
#include "lab/stats.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

/* ---- declaration ---- */

enum { N, PART, N_PARAMS };
static const rv_param_value sizes[] = {{"1000", 1000, RV_PROFILE_SMOKE},
                                       {"10000", 10000, RV_PROFILE_QUICK},
                                       {"100000", 100000, RV_PROFILE_FULL}};
enum {
	TOTAL,
	TOTAL_NANO,
	TOTAL_PICO,
	TOTAL_AGENT,
	EMBED,
	EMBED_NANO,
	EMBED_PICO,
	RETRIEVE,
	ROUTE,
	ROUTE_AGENT,
	PATTERN_SEARCH,
	SESSION_LOOKUP,
	SESSIONS,
	WITNESS,
	FOOTPRINT,
	N_PARTS
};
#define PART_ROW(name)                                                                                 \
	{ name, 0, RV_PROFILE_SMOKE }
static const rv_param_value parts[N_PARTS] = {
        [TOTAL] = PART_ROW("total"),
        [TOTAL_NANO] = PART_ROW("total_nano"),
        [TOTAL_PICO] = PART_ROW("total_pico"),
        [TOTAL_AGENT] = PART_ROW("total_agent"),
        [EMBED] = PART_ROW("embed"),
        [EMBED_NANO] = PART_ROW("embed_nano"),
        [EMBED_PICO] = PART_ROW("embed_pico"),
        [RETRIEVE] = PART_ROW("retrieve"),
        [ROUTE] = PART_ROW("route"),
        [ROUTE_AGENT] = PART_ROW("route_agent"),
        [PATTERN_SEARCH] = PART_ROW("pattern_search"),
        [SESSION_LOOKUP] = PART_ROW("session_lookup"),
        [SESSIONS] = PART_ROW("sessions"),
        [WITNESS] = PART_ROW("witness"),
        [FOOTPRINT] = PART_ROW("footprint"),
};
static const rv_param params[N_PARAMS] = {
        [N] = {"n", "patterns", "patterns in the index, 768-dimensional", RV_PARAM_BUILD,
               RV_PARAM_NUMBER, sizes, sizeof sizes / sizeof *sizes},
        [PART] = {"part", "", "what is measured", RV_PARAM_QUERY, RV_PARAM_TEXT, parts, N_PARTS},
};

enum {
	LATENCY,
	P99,
	RECALL,
	CAPACITY,
	LIVE,
	BASE,
	BASE_FILES,
	PER_ENTRY,
	PER_SESSION,
	PER_WITNESS,
	REQUEST,
	LOG_SHARE,
	LOG_SHARE_BARE,
	LOG_BEHIND,
	LOG_SHARE_ALL,
	N_METRICS
};
/* clang-format off */
static const rv_experiment_metric metrics[N_METRICS] = {
	[LATENCY] = {"latency_ms", "ms", "latency", "median of the calls of a repetition", RV_LOWER, 0, 0, NULL, "%.4f"},
	[P99] = {"p99_ms", "ms", "p99", "99th percentile of them", RV_LOWER, 0, 0, NULL, "%.4f"},
	[RECALL] = {"recall_pct", "%", "recall@10", "of the ten nearest patterns, those found", RV_HIGHER, 1, 0, NULL, "%.1f"},
	[CAPACITY] = {"capacity", "patterns", "patterns", "in the index that is searched", RV_HIGHER, 1, 0, NULL, "%.0f"},
	[LIVE] = {"n_sessions", "sessions", "live sessions", "found one by one by their ids", RV_HIGHER, 1, 0, NULL, "%.0f"},
	[BASE] = {"base_mb", "MB", "base", "anonymous and shared memory of this process with store, log, sessions, graph and embedder open and empty; the lab's own included", RV_LOWER, 1, 0, NULL, "%.1f"},
	[BASE_FILES] = {"base_file_mb", "MB", "mapped files", "file pages of that moment, the models' weights among them", RV_LOWER, 1, 0, NULL, "%.1f"},
	[PER_ENTRY] = {"bytes_per_entry", "bytes", "a pattern", "vector, links, ids and sketch of an index of f32 / patterns", RV_LOWER, 1, 0, NULL, "%.0f"},
	[PER_SESSION] = {"bytes_per_session", "bytes", "a session", "memory of 1000 sessions with context embedding and cache reference / 1000", RV_LOWER, 1, 0, NULL, "%.0f"},
	[PER_WITNESS] = {"bytes_per_witness", "bytes", "a witness entry", "growth of the database by 500 entries with two embeddings / 500", RV_LOWER, 1, 0, NULL, "%.0f"},
	[REQUEST] = {"request_ms", "ms", "request", "embedding, retrieval, routing and 32 tokens by nano, one sequence", RV_LOWER, 0, 0, NULL, "%.2f"},
	[LOG_SHARE] = {"log_pct", "%", "log / request", "appending a witness entry / that request (bar < 1 %)", RV_LOWER, 0, 0, NULL, "%.4f"},
	[LOG_SHARE_BARE] = {"log_bare_pct", "%", "log / orchestration", "appending / embedding, retrieval and routing alone", RV_LOWER, 0, 0, NULL, "%.3f"},
	[LOG_BEHIND] = {"log_behind_us", "us", "written behind", "processor time of an entry on the threads of log and store: hash, encoding, its part of the commits", RV_LOWER, 0, 0, NULL, "%.1f"},
	[LOG_SHARE_ALL] = {"log_all_pct", "%", "with that", "appending and what is done behind / request: what the log costs where there is one processor", RV_LOWER, 0, 0, NULL, "%.3f"},
};
/* clang-format on */

enum { WHAT, N_FACTS };
static const rv_fact facts[N_FACTS] = {[WHAT] = {"what", "what", "what was measured"}};

static rv_status prepare(const rv_experiment *exp, const rv_run_config *config, rv_inputs *in) {
	(void)exp;
	return rv_orchestra_describe(config, in);
}

static int in_profile(const rv_experiment *exp, rv_profile profile, const rv_point *point) {
	return rv_point_value(exp, point, N)->smallest == profile; /* one size a profile */
}

static const char *not_run(const rv_experiment *exp, const rv_run_config *config,
                           const rv_point *point) {
	int part = point->values[PART];
	(void)exp;
	return part == TOTAL_AGENT || part == ROUTE_AGENT ? rv_orchestra_no_agents(config) : NULL;
}

typedef struct fixture {
	rv_orchestra o;
	int64_t n_asked;
} fixture;

static rv_status setup(const rv_experiment *exp, const rv_run_config *config, const rv_point *points,
                       int n_points, void *user) {
	fixture *f = user;
	(void)n_points;
	return rv_orchestra_open(&f->o, config, (int64_t)rv_point_value(exp, &points[0], N)->number);
}

static void teardown(void *user) {
	fixture *f = user;
	rv_orchestra_close(&f->o);
}

/* ---- parts that are timed call by call ---- */

/* Steps of a call, in this order. */
enum {
	DO_EMBED = 1,
	DO_RETRIEVE = 2,
	DO_ROUTE = 4,
	DO_AGENT = 8,
	DO_SEARCH = 16,
	DO_LOOKUP = 32,
	DO_WITNESS = 64
};
#define BEFORE_ANSWER (DO_EMBED | DO_RETRIEVE | DO_ROUTE)

typedef struct timed_part {
	unsigned steps; /* 0: measured otherwise */
	rv_orchestra_embedder embedder;
	int n_calls; /* of a repetition; a quarter in smoke */
	const char *what;
} timed_part;
static const timed_part timed[N_PARTS] = {
        [TOTAL] = {BEFORE_ANSWER, RV_ORCHESTRA_TRAINED, 20,
                   "embed with the trained embedder, retrieve, route to a model"},
        [TOTAL_NANO] = {BEFORE_ANSWER, RV_ORCHESTRA_NANO, 10,
                        "embed with nano, retrieve, route to a model"},
        [TOTAL_PICO] = {BEFORE_ANSWER, RV_ORCHESTRA_PICO, 20,
                        "embed with pico, retrieve, route to a model"},
        [TOTAL_AGENT] = {DO_EMBED | DO_RETRIEVE | DO_AGENT, RV_ORCHESTRA_TRAINED, 20,
                         "embed with the trained embedder, retrieve, route to an agent"},
        [EMBED] = {DO_EMBED, RV_ORCHESTRA_TRAINED, 20, "trained embedder, text to 768 numbers"},
        [EMBED_NANO] = {DO_EMBED, RV_ORCHESTRA_NANO, 10, "nano, text to 768 numbers"},
        [EMBED_PICO] = {DO_EMBED, RV_ORCHESTRA_PICO, 20, "pico, text to 768 numbers"},
        [RETRIEVE] = {DO_RETRIEVE, 0, 200, "HNSW, the request's own vector"},
        [ROUTE] = {DO_ROUTE, 0, 200, "to a model: FastGRNN of the default size, seeded weights"},
        [ROUTE_AGENT] = {DO_AGENT, 0, 20,
                         "to an agent: hybrid, its own embedding of the text included"},
        [PATTERN_SEARCH] = {DO_SEARCH, 0, 200, "HNSW, queries as the patterns are"},
        [SESSION_LOOKUP] = {DO_LOOKUP, 0, 2000, "a copy of one of 1000 sessions by its id"},
        [SESSIONS] = {.what = "1000 sessions with context embedding and cache reference"},
        [WITNESS] = {DO_WITNESS, 0, 200, "an append; an entry has two embeddings"},
        [FOOTPRINT] = {.what = "everything open and empty; then what entries take"},
};

static rv_status call(fixture *f, const timed_part *part) {
	rv_orchestra *o = &f->o;
	const int64_t i = f->n_asked++;
	if (part->steps & DO_EMBED)
		RV_TRY(rv_orchestra_embed(o, part->embedder));
	if (part->steps & DO_RETRIEVE)
		RV_TRY(rv_orchestra_retrieve(o));
	if (part->steps & DO_ROUTE)
		RV_TRY(rv_orchestra_route(o));
	if (part->steps & DO_AGENT)
		RV_TRY(rv_orchestra_route_agent(o));
	if (part->steps & DO_SEARCH)
		RV_TRY(rv_orchestra_search(o, i));
	if (part->steps & DO_LOOKUP)
		RV_TRY(rv_orchestra_look_up(o, i));
	return part->steps & DO_WITNESS ? rv_orchestra_witness(o, i) : RV_OK;
}

static int by_value(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static int calls_of(const fixture *f, const timed_part *part) {
	return f->o.config->profile == RV_PROFILE_SMOKE ? (part->n_calls + 3) / 4 : part->n_calls;
}

static rv_status measure_calls(fixture *f, const timed_part *part, rv_record *r) {
	double *ms = NULL;
	const int n = calls_of(f, part);
	rv_status st = RV_OK;
	RV_TRY(RV_ALLOC(&ms, n, "times"));
	for (int i = 0; i < n && st == RV_OK; i++) {
		int64_t before = rv_now_ns();
		st = call(f, part);
		ms[i] = 1e-6 * (double)(rv_now_ns() - before);
	}
	if (st == RV_OK) {
		qsort(ms, (size_t)n, sizeof *ms, by_value);
		r->values[LATENCY] = rv_quantile(ms, (size_t)n, 0.5);
		r->values[P99] = rv_quantile(ms, (size_t)n, 0.99);
	}
	rv_free(ms);
	return st;
}

/* ---- what is measured otherwise ---- */

static rv_status measure_recall(fixture *f, rv_record *r) {
	double recall;
	RV_TRY(rv_vector_index_recall(&f->o.index, &f->o.set, RV_ORCHESTRA_K, RV_ORCHESTRA_EF, &recall,
	                              NULL));
	r->values[RECALL] = 100 * recall;
	if (f->o.set.spec.n >= 100000)
		r->values[CAPACITY] = (double)rv_hnsw_count(f->o.index.index);
	else
		rv_record_na(r, CAPACITY, "n=100000 in profile full only");
	return RV_OK;
}

static rv_status measure_sessions(fixture *f, rv_record *r) {
	int64_t n = 0;
	for (int64_t i = 0; i < RV_ORCHESTRA_SESSIONS; i++)
		n += rv_orchestra_look_up(&f->o, i) == RV_OK;
	r->values[LIVE] = (double)n;
	r->values[PER_SESSION] = (double)rv_sessions_bytes(f->o.sessions) / (double)n;
	return RV_OK;
}

/* One request by itself: until its answer begins, and with the answer. */
static rv_status measure_request(fixture *f, double *bare_ms, double *all_ms) {
	int64_t start = rv_now_ns();
	RV_TRY(call(f, &timed[TOTAL]));
	*bare_ms = 1e-6 * (double)(rv_now_ns() - start);
	RV_TRY(rv_orchestra_answer(&f->o));
	*all_ms = 1e-6 * (double)(rv_now_ns() - start);
	return RV_OK;
}

/* ms of all threads of the process. */
static double cpu_ms(void) {
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static rv_status measure_witness(fixture *f, rv_record *r) {
	const timed_part *part = &timed[WITNESS];
	double bare_ms, all_ms;
	RV_TRY(measure_request(f, &bare_ms, &all_ms));
	RV_TRY(rv_witness_flush(f->o.witness));
	double before = cpu_ms();
	RV_TRY(measure_calls(f, part, r));
	RV_TRY(rv_witness_flush(f->o.witness));
	double append_ms = r->values[LATENCY];
	double behind_ms = fmax((cpu_ms() - before) / calls_of(f, part) - append_ms, 0);
	r->values[REQUEST] = all_ms;
	r->values[LOG_SHARE] = 100 * append_ms / all_ms;
	r->values[LOG_SHARE_BARE] = 100 * append_ms / bare_ms;
	r->values[LOG_BEHIND] = 1e3 * behind_ms;
	r->values[LOG_SHARE_ALL] = 100 * (append_ms + behind_ms) / all_ms;
	return RV_OK;
}

static rv_status count_bytes(void *user, rv_db *db) {
	int64_t pages, size;
	RV_TRY(rv_db_int(db, "(header)", "PRAGMA page_count", NULL, 0, &pages));
	RV_TRY(rv_db_int(db, "(header)", "PRAGMA page_size", NULL, 0, &size));
	*(int64_t *)user = pages * size;
	return RV_OK;
}

static rv_status measure_footprint(fixture *f, rv_record *r) {
	enum { ENTRIES = 500 };
	rv_orchestra *o = &f->o;
	int64_t before, after;
	rv_hnsw_stats s = rv_hnsw_get_stats(o->index.index);
	RV_TRY(rv_witness_flush(o->witness));
	RV_TRY(rv_store_read(o->store, count_bytes, &before));
	for (int64_t i = 0; i < ENTRIES; i++)
		RV_TRY(rv_orchestra_witness(o, i));
	RV_TRY(rv_witness_flush(o->witness));
	RV_TRY(rv_store_read(o->store, count_bytes, &after));
	r->values[BASE] = 1e-6 * (double)(o->base.anon_bytes + o->base.shmem_bytes);
	r->values[BASE_FILES] = 1e-6 * (double)o->base.file_bytes;
	r->values[PER_ENTRY] =
	        (double)(s.vector_bytes + s.link_bytes + s.sketch_bytes + s.other_bytes) /
	        (double)s.live;
	r->values[PER_WITNESS] = (double)(after - before) / ENTRIES;
	return RV_OK;
}

static rv_status run(void *user, const rv_point *point, int repetition, rv_record *record) {
	fixture *f = user;
	const int part = point->values[PART];
	rv_record_fact(record, WHAT, "%s", timed[part].what);
	if (part == WITNESS) {
		RV_TRY(measure_witness(f, record));
	} else if (timed[part].steps != 0) {
		RV_TRY(rv_orchestra_embed(&f->o, RV_ORCHESTRA_TRAINED)); /* the request's vector */
		RV_TRY(call(f, &timed[part]));                           /* warms the caches */
		RV_TRY(measure_calls(f, &timed[part], record));
	}
	if (part == PATTERN_SEARCH && repetition == 0)
		RV_TRY(measure_recall(f, record));
	if (part == SESSIONS && repetition == 0)
		RV_TRY(measure_sessions(f, record));
	if (part == FOOTPRINT && repetition == 0)
		RV_TRY(measure_footprint(f, record));
	return RV_OK;
}

static const rv_experiment orchestration = {
        .id = "T11",
        .name = "t11_orchestration",
        .title = "Orchestration",
        .about =
                "What happens to a request of 16 tokens before a model answers it: its embedding (768 "
                "numbers; the embedder that was trained for it, nano and pico as they are, all Q8_0), "
                "the ten nearest patterns (HNSW of f32, M 16, ef 50, clustered vectors), its route: to "
                "a model by FastGRNN, or to an agent by the hybrid router, which embeds the text once "
                "more by itself. Times are of single calls. The witness log's part is what an append "
                "takes of the request that waits for it; commits happen on a thread of the log. A "
                "request with 32 tokens of nano's is the shortest there is here: with other models the "
                "part is smaller.",
        .documented = "t11_orchestration.csv",
        .plot = "t11_orchestration",
        .params = params,
        .n_params = N_PARAMS,
        .metrics = metrics,
        .n_metrics = N_METRICS,
        .facts = facts,
        .n_facts = N_FACTS,
        .budget_s = {8, 20, 900},
        .limit_s = {2, 20, 900},
        .min_n = 10,
        .max_n = {10, 30, 50},
        .in_profile = in_profile,
        .not_run = not_run,
        .prepare = prepare,
        .fixture_bytes = sizeof(fixture),
        .setup = setup,
        .run = run,
        .teardown = teardown,
};

int main(int argc, char **argv) {
	return rv_experiment_main(argc, argv, &orchestration);
}
