/* T13: agent routing: who is right how often, how sure, how quick. */
#include "base/file.h"
#include "base/sysinfo.h"
#include "eval/routing_set.h"
#include "lab/experiment.h"
#include "lab/item_stats.h"
#include "lab/models.h"
#include "learn/agent_router.h"
#include "learn/agent_train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEARNT "datasets/models/router.bin"

/* ---- declaration ---- */

enum { ROUTER, SET, N_PARAMS };
static const rv_param_value routers[RV_ROUTERS] = {{"keyword", 0, RV_PROFILE_SMOKE},
                                                   {"embedding", 0, RV_PROFILE_SMOKE},
                                                   {"hybrid", 0, RV_PROFILE_SMOKE}};
enum { REQUESTS, HELDOUT, N_SETS };
static const rv_param_value sets[N_SETS] = {{"requests", 0, RV_PROFILE_SMOKE},
                                            {"heldout", 0, RV_PROFILE_QUICK}};
static const rv_param params[N_PARAMS] = {
        [ROUTER] = {"router", "",
                    "keyword: phrases; embedding: nearest labelled requests; hybrid: both and words",
                    RV_PARAM_QUERY, RV_PARAM_TEXT, routers, RV_ROUTERS},
        [SET] = {"set", "",
                 "requests: written by hand, never trained or tuned on; heldout: the generator's",
                 RV_PARAM_QUERY, RV_PARAM_TEXT, sets, N_SETS},
};

enum { BINS = 5 }; /* of confidence, for the reliability plot */
enum {
	N_CASES,
	N_AGENTS,
	N_CATEGORIES,
	N_DIFFICULTIES,
	ACCURACY,
	ACCURACY_FROM,
	ACCURACY_TO,
	EASY,
	HARD = EASY + 2,
	HARD_NEGATIVE,
	CLASS,
	COMPLEXITY,
	BRIER,
	ECE,
	QUALITY_BRIER,
	ALWAYS_ONE,
	P50,
	P95,
	P99,
	SURE,
	RIGHT = SURE + BINS,
	N_METRICS = RIGHT + BINS
};
/* clang-format off */
static const rv_experiment_metric metrics[N_METRICS] = {
	[N_CASES] = {"n_cases", "cases", "cases", "requests of the set", RV_HIGHER, 1, 0, NULL, "%.0f"},
	[N_AGENTS] = {"n_agents", "agents", "agents", "agents that requests of the set are for", RV_HIGHER, 1, 1, NULL, "%.0f"},
	[N_CATEGORIES] = {"n_categories", "categories", "categories", "categories in the set, ambiguous among them", RV_HIGHER, 1, 1, NULL, "%.0f"},
	[N_DIFFICULTIES] = {"n_difficulties", "levels", "difficulties", "difficulties in the set", RV_HIGHER, 1, 1, NULL, "%.0f"},
	[ACCURACY] = {"accuracy_pct", "%", "right", "requests given to the right agent; interval: Wilson's", RV_HIGHER, 1, 0, NULL, "%.1f"},
	[ACCURACY_FROM] = {"accuracy_pct_from", "%", "from", "lower end of that interval", RV_HIGHER, 1, 1, NULL, "%.1f"},
	[ACCURACY_TO] = {"accuracy_pct_to", "%", "to", "its upper end", RV_HIGHER, 1, 1, NULL, "%.1f"},
	[EASY] = {"easy_pct", "%", "easy", "right, of the easy ones: the role's own words", RV_HIGHER, 1, 0, NULL, "%.1f"},
	[EASY + 1] = {"medium_pct", "%", "medium", "of the medium ones: other words, or the need alone", RV_HIGHER, 1, 0, NULL, "%.1f"},
	[HARD] = {"hard_pct", "%", "hard", "of the hard ones: to be inferred, or other roles' words", RV_HIGHER, 1, 0, NULL, "%.1f"},
	[HARD_NEGATIVE] = {"hard_negative_pct", "%", "hard negatives", "right, of those with words of another role put in the way", RV_HIGHER, 1, 0, NULL, "%.1f"},
	[CLASS] = {"class_pct", "%", "class", "task class right, of 14", RV_HIGHER, 1, 0, NULL, "%.1f"},
	[COMPLEXITY] = {"complexity_pct", "%", "complexity", "complexity right, of three", RV_HIGHER, 1, 0, NULL, "%.1f"},
	[BRIER] = {"brier", "", "Brier", "squared error of the 13 probabilities, summed (0 to 2)", RV_LOWER, 1, 0, NULL, "%.3f"},
	[ECE] = {"ece", "", "ECE", "expected calibration error of the confidence, 10 bins", RV_LOWER, 1, 0, NULL, "%.3f"},
	[QUALITY_BRIER] = {"quality_brier", "", "Brier of quality", "squared error of the predicted quality", RV_LOWER, 1, 0, NULL, "%.3f"},
	[ALWAYS_ONE] = {"always_coder_pct", "%", "always coder", "what a router that always says coder would reach", RV_LOWER, 1, 1, NULL, "%.1f"},
	[P50] = {"p50_us", "us", "median", "time of a request: median over the set", RV_LOWER, 0, 0, NULL, "%.0f"},
	[P95] = {"p95_us", "us", "p95", "95 of 100 take less", RV_LOWER, 0, 0, NULL, "%.0f"},
	[P99] = {"p99_us", "us", "p99", "99 of 100 take less", RV_LOWER, 0, 0, NULL, "%.0f"},
#define BIN(i, of) \
	[SURE + i] = {"confidence_" #i, "", "confidence, bin " #i, "mean confidence of requests in fifth " #i " of [0, 1]" of, RV_HIGHER, 1, 1, NULL, "%.3f"}, \
	[RIGHT + i] = {"right_" #i, "", "right, bin " #i, "share right of the same" of, RV_HIGHER, 1, 1, NULL, "%.3f"}
	BIN(0, ""), BIN(1, ""), BIN(2, ""), BIN(3, ""), BIN(4, ""),
#undef BIN
};
/* clang-format on */
_Static_assert(N_METRICS <= RV_MAX_METRICS, "too many metrics");

enum { BY_CATEGORY, BY_CATEGORY_TOO, N_FACTS };
static const rv_fact facts[N_FACTS] = {
        [BY_CATEGORY] = {"by_category", "right by category, %", "the first seven categories"},
        [BY_CATEGORY_TOO] = {"by_category_2", "right by category, %", "the other seven"},
};

/* ---- the fixture ---- */

typedef struct fixture {
	rv_model *model;
	rv_embedder *embedder;
	rv_agent_router *router;
	rv_routing_set sets[N_SETS];
} fixture;

static rv_status set_path(const rv_run_config *config, int set, char *path, size_t size) {
	const int n =
	        snprintf(path, size, "%s/datasets/routing/%s.jsonl", config->root, sets[set].text);
	return n > 0 && (size_t)n < size ? RV_OK
	                                 : rv_fail(RV_ERR_LIMIT, "%s: too long a path", config->root);
}

static rv_status prepare(const rv_experiment *exp, const rv_run_config *config, rv_inputs *in) {
	char path[4096], all[3 * 64 + 1] = "";
	(void)exp;
	for (int i = 0; i < N_SETS; i++) {
		RV_TRY(set_path(config, i, path, sizeof path));
		RV_TRY(rv_file_sha256(path, all + strlen(all)));
	}
	snprintf(path, sizeof path, "%s/" LEARNT, config->root);
	RV_TRY(rv_file_sha256(path, all + strlen(all)));
	rv_sha256_hex(all, strlen(all), in->data_sha256);
	if (!rv_lab_shipped(config, "embedder", in->model_path, sizeof in->model_path))
		return rv_fail(RV_ERR_NOT_FOUND, "datasets/models/embedder.gguf: there is none");
	snprintf(in->model_label, sizeof in->model_label, "embedder.gguf, router.bin");
	return rv_file_sha256(in->model_path, in->model_sha256);
}

static rv_status setup(const rv_experiment *exp, const rv_run_config *config, const rv_point *points,
                       int n_points, void *user) {
	fixture *f = user;
	char path[4096];
	rv_embedder_options o = rv_embedder_defaults();
	(void)exp, (void)points, (void)n_points;
	RV_TRY(rv_model_open(&f->model, config->inputs.model_path, NULL));
	o.n_threads = 1; /* a request is too short for more */
	o.pin = 0;
	RV_TRY(rv_embedder_create(&f->embedder, f->model, &o));
	snprintf(path, sizeof path, "%s/" LEARNT, config->root);
	RV_TRY(rv_agent_router_open(&f->router, path, f->embedder));
	for (int i = 0; i < N_SETS; i++) {
		RV_TRY(set_path(config, i, path, sizeof path));
		RV_TRY(rv_routing_set_open(&f->sets[i], path));
	}
	return RV_OK;
}

static void teardown(void *user) {
	fixture *f = user;
	for (int i = 0; i < N_SETS; i++)
		rv_routing_set_close(&f->sets[i]);
	rv_agent_router_destroy(f->router);
	rv_embedder_destroy(f->embedder);
	rv_model_release(f->model);
}

/* ---- one repetition ---- */

enum {
	CASES_MAX = 1024,
	TIMED = 100 /* requests of a repetition whose times count, at least; others are skipped after
	               the first */
};

typedef struct share {
	double right, n;
} share;

static void count(share *s, int right) {
	s->right += right;
	s->n++;
}

static double percent(const share *s) {
	return s->n > 0 ? 100 * s->right / s->n : NAN;
}

typedef struct tally {
	share all, difficulty[RV_AGENT_LEVELS], hard_negative, category[RV_AGENT_CLASSES], complexity,
	        task_class, coder;
	share bin[BINS];
	double sure_in[BINS], brier, quality_brier;
	uint32_t agents;
	float sure[CASES_MAX];
	int right[CASES_MAX];
	double right_or_not[CASES_MAX]; /* the same */
	double us[CASES_MAX];
	int64_t n;
} tally;

static void add(tally *t, const rv_routing_item *item, const rv_agent_decision *d) {
	const int right = d->agent == item->agent;
	const int bin = d->confidence < 1 ? (int)(d->confidence * BINS) : BINS - 1;
	count(&t->all, right);
	count(&t->difficulty[item->difficulty], right);
	count(&t->category[item->task_class], right);
	count(&t->complexity, d->complexity == item->complexity);
	count(&t->task_class, d->task_class == item->task_class);
	count(&t->coder, item->agent == 0);
	if (item->adversarial)
		count(&t->hard_negative, right);
	count(&t->bin[bin], right);
	t->sure_in[bin] += (double)d->confidence;
	for (int a = 0; a < RV_AGENTS; a++)
		t->brier += pow((double)d->probabilities[a] - (a == item->agent), 2);
	t->quality_brier += pow((double)d->quality - right, 2);
	t->agents |= (uint32_t)1 << item->agent;
	t->sure[t->n] = d->confidence;
	t->right_or_not[t->n] = right;
	t->right[t->n++] = right;
}

static int by_value(const void *a, const void *b) {
	const double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static int present(const share *s, int n) {
	int k = 0;
	for (int i = 0; i < n; i++)
		k += s[i].n > 0;
	return k;
}

static void by_category(const tally *t, rv_record *record, int fact, int from, int to) {
	char text[RV_REASON_BYTES] = "";
	for (int i = from; i < to; i++) {
		const size_t at = strlen(text);
		snprintf(text + at, sizeof text - at, "%s%.12s %.0f", at ? ", " : "",
		         rv_agent_classes[i], percent(&t->category[i]));
	}
	rv_record_fact(record, fact, "%s", text);
}

static rv_status report(const tally *t, rv_record *record) {
	double *v = record->values;
	v[N_CASES] = t->all.n;
	v[N_AGENTS] = __builtin_popcount(t->agents);
	v[N_CATEGORIES] = present(t->category, RV_AGENT_CLASSES);
	v[N_DIFFICULTIES] = present(t->difficulty, RV_AGENT_LEVELS);
	v[ACCURACY] = percent(&t->all);
	for (int i = 0; i < RV_AGENT_LEVELS; i++)
		v[EASY + i] = percent(&t->difficulty[i]);
	v[HARD_NEGATIVE] = percent(&t->hard_negative);
	v[CLASS] = percent(&t->task_class);
	v[COMPLEXITY] = percent(&t->complexity);
	v[BRIER] = t->brier / t->all.n;
	v[ECE] = rv_calibration_error(t->sure, t->right, t->n);
	v[QUALITY_BRIER] = t->quality_brier / t->all.n;
	v[ALWAYS_ONE] = percent(&t->coder);
	for (int i = 0; i < BINS; i++) {
		v[SURE + i] = t->bin[i].n > 0 ? t->sure_in[i] / t->bin[i].n : NAN;
		v[RIGHT + i] = t->bin[i].n > 0 ? t->bin[i].right / t->bin[i].n : NAN;
	}
	by_category(t, record, BY_CATEGORY, 0, RV_AGENT_CLASSES / 2);
	by_category(t, record, BY_CATEGORY_TOO, RV_AGENT_CLASSES / 2, RV_AGENT_CLASSES);
	const rv_task_items items = {.values = t->right_or_not, .n = t->n};
	rv_interval interval;
	RV_TRY(rv_items_score(&items, 0, &interval)); /* Wilson's */
	v[ACCURACY_FROM] = 100 * interval.lo95;
	v[ACCURACY_TO] = 100 * interval.hi95;
	return RV_OK;
}

static rv_status run(void *user, const rv_point *point, int repetition, rv_record *record) {
	static rv_agent_decision d;
	static tally t;
	fixture *f = user;
	const rv_routing_set *set = &f->sets[point->values[SET]];
	memset(&t, 0, sizeof t);
	if (set->n > CASES_MAX)
		return rv_fail(RV_ERR_LIMIT, "%s: more than %d requests", point->label, CASES_MAX);
	const int64_t step = set->n / TIMED > 0 ? set->n / TIMED : 1;
	int64_t n_timed = 0;
	for (int64_t i = 0; i < set->n; i++) {
		const rv_routing_item *item = &set->items[i];
		const int timed = i % step == repetition % step;
		if (!timed && repetition > 0)
			continue;
		const int64_t before = rv_now_ns();
		RV_TRY(rv_agent_route(f->router, (rv_agent_router_kind)point->values[ROUTER],
		                      item->text, item->len, &d));
		if (timed)
			t.us[n_timed++] = 1e-3 * (double)(rv_now_ns() - before);
		add(&t, item, &d);
	}
	qsort(t.us, (size_t)n_timed, sizeof *t.us, by_value);
	record->values[P50] = t.us[n_timed / 2];
	record->values[P95] = t.us[n_timed * 95 / 100];
	record->values[P99] = t.us[n_timed * 99 / 100];
	return repetition == 0 ? report(&t, record) : RV_OK;
}

static const rv_experiment routing = {
        .id = "T13",
        .name = "t13_routing",
        .title = "Agent routing",
        .about = "Each request is given to one of 13 agents. The set `requests` was written by hand by "
                 "people who "
                 "had not seen what the routers learnt from, and nothing was chosen by it; a third of "
                 "it is easy, a "
                 "third says the need in other words, a third has to be inferred or holds words of "
                 "other roles. "
                 "`heldout` comes from the training generator, with patterns and technologies that "
                 "training never "
                 "shows. The phrases of the keyword router were written with sight of the training "
                 "requests. One "
                 "thread; the documents' set is not published, so their accuracies are of other "
                 "requests.",
        .documented = "t13_routing.csv",
        .plot = "t13_routing",
        RV_EXPERIMENT_PARTS,
        RV_EXPERIMENT_FACTS,
        .budget_s = {4, 10, 60},
        .min_n = 10,
        .max_n = {10, 12, 40},
};

RV_EXPERIMENT_MAIN(routing)
