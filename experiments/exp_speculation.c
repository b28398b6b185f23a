/* T6: speculative decoding: what is accepted, what it saves, what it costs in quality. */
#include "base/file.h"
#include "base/mem.h"
#include "lab/experiment.h"
#include "lab/metrics.h"
#include "lab/models.h"
#include "lab/quality.h"
#include "lab/spec_bench.h"
#include "lab/speculation.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- declaration ---- */

#define ADAPTIVE (RV_SPEC_MAX_K) /* place among the values of k; place i stands for i + 1 */
static const rv_param_value ks[] = {
        {"1", 1, RV_PROFILE_QUICK}, {"2", 2, RV_PROFILE_QUICK}, {"3", 3, RV_PROFILE_FULL},
        {"4", 4, RV_PROFILE_SMOKE}, {"5", 5, RV_PROFILE_FULL},  {"6", 6, RV_PROFILE_FULL},
        {"7", 7, RV_PROFILE_FULL},  {"8", 8, RV_PROFILE_QUICK}, {"adaptive", 0, RV_PROFILE_SMOKE}};
static const rv_param_value temperatures[] = {
        {"0", 0, RV_PROFILE_SMOKE}, {"0.5", 0.5, RV_PROFILE_QUICK}, {"1", 1, RV_PROFILE_QUICK}};
/* In the order of rv_spec_rule and rv_spec_draft. */
static const rv_param_value rules[] = {{"threshold", 0, RV_PROFILE_SMOKE},
                                       {"exact", 0, RV_PROFILE_SMOKE},
                                       {"greedy", 0, RV_PROFILE_QUICK}};
static const rv_param_value drafts[] = {
        {"model", 0, RV_PROFILE_SMOKE}, {"tree", 0, RV_PROFILE_QUICK}, {"lookup", 0, RV_PROFILE_QUICK}};
static const rv_param_value draft_temperatures[] = {{"0", 0, RV_PROFILE_SMOKE},
                                                    {"target", 0, RV_PROFILE_QUICK}};
enum { N_TEMPERATURES = sizeof temperatures / sizeof temperatures[0] };

enum { TEMPERATURE, RULE, DRAFT, DRAFT_TEMPERATURE, K, N_PARAMS };
#define VALUES(list) list, (int)(sizeof list / sizeof list[0])
static const rv_param params[N_PARAMS] = {
        [TEMPERATURE] = {"temperature", "", "of the text", RV_PARAM_QUERY, RV_PARAM_NUMBER,
                         VALUES(temperatures)},
        [RULE] = {"rule", "", "what is accepted", RV_PARAM_QUERY, RV_PARAM_TEXT, VALUES(rules)},
        [DRAFT] = {"draft", "", "where drafts come from", RV_PARAM_QUERY, RV_PARAM_TEXT,
                   VALUES(drafts)},
        [DRAFT_TEMPERATURE] = {"draft_temperature", "", "of the draft: 0 or the text's", RV_PARAM_QUERY,
                               RV_PARAM_TEXT, VALUES(draft_temperatures)},
        [K] = {"k", "tokens", "drafted a round", RV_PARAM_QUERY, RV_PARAM_TEXT, VALUES(ks)},
};

enum {
	ACCEPTANCE,
	ALPHA,
	DRAFTED,
	TOKENS,
	TOKENS_DOCUMENTED,
	TOKENS_ALPHA,
	TOKENS_A,
	SPEEDUP,
	DRAFT_COST,
	VERIFY_COST,
	SPEEDUP_MODEL,
	BREAK_EVEN,
	MEDIUM_SPEEDUP,
	MEDIUM_BOUND,
	SAME_TEXT,
	LIKELIHOOD,
	QUALITY,
	QUALITY_FROM,
	QUALITY_TO,
	AT,
	N_METRICS = AT + RV_SPEC_MAX_K
};
#define EXACT(name, unit, title, help, format)                                                         \
	{ name, unit, title, help, RV_HIGHER, 1, 0, NULL, format }
#define HIDDEN(name, unit, title, help, format)                                                        \
	{ name, unit, title, help, RV_HIGHER, 1, 1, NULL, format }
#define AT_DEPTH(i)                                                                                    \
	HIDDEN("accepted_at_" #i "_pct", "%", "accepted at " #i,                                       \
	       "accepted at depth " #i " of the draft, of those whose tokens before were", "%.1f")
static const rv_experiment_metric metrics[N_METRICS] = {
        [ACCEPTANCE] = EXACT("acceptance_pct", "%", "accepted / drafted",
                             "a: tokens accepted / tokens drafted", "%.1f"),
        [ALPHA] = EXACT("alpha_pct", "%", "alpha", "accepted / (accepted + rejections)", "%.1f"),
        [DRAFTED] =
                EXACT("drafted_per_round", "tokens", "drafted / round",
                      "mean over rounds: less than k where nothing is found or the text ends", "%.2f"),
        [TOKENS] = EXACT("tokens_per_step", "tokens", "tokens / step",
                         "tokens that came out / evaluations of the target", "%.2f"),
        [TOKENS_DOCUMENTED] = HIDDEN("tokens_documented", "tokens", "1 + a k",
                                     "the documents' formula, by measured a", "%.2f"),
        [TOKENS_ALPHA] = HIDDEN("tokens_geometric", "tokens", "(1 - alpha^(k+1)) / (1 - alpha)",
                                "the published formula, by measured alpha", "%.2f"),
        [TOKENS_A] =
                HIDDEN("tokens_geometric_a", "tokens", "(1 - a^(k+1)) / (1 - a)",
                       "the same by a: too low, for a counts tokens that were never looked at", "%.2f"),
        [SPEEDUP] = {"speedup", "x", "speed-up",
                     "time of plain decoding / with drafts, the same prompts in turns, the draft's "
                     "time included",
                     RV_HIGHER, 0, 0, NULL, "%.2f"},
        [DRAFT_COST] = {"draft_cost", "x", "draft step",
                        "one token of the draft model / one of the target, in turns", RV_LOWER, 0, 1,
                        NULL, "%.3f"},
        [VERIFY_COST] = {"verify_cost", "x", "verification",
                         "k + 1 tokens of the target at once / one, in turns", RV_LOWER, 0, 1, NULL,
                         "%.3f"},
        [SPEEDUP_MODEL] = {"speedup_by_cost", "x", "by costs",
                           "tokens / step over drafted x draft step + verification: what is missing "
                           "to the speed-up is sampling and the loop",
                           RV_HIGHER, 0, 0, NULL, "%.2f"},
        [BREAK_EVEN] = {"break_even_pct", "%", "break-even",
                        "least alpha at which drafting pays, by these costs", RV_LOWER, 0, 0, NULL,
                        "%.1f"},
        [MEDIUM_SPEEDUP] = EXACT("medium_speedup", "x", "medium + small",
                                 "by this acceptance and costs measured at the shapes of "
                                 "RuvLTRA-Medium and -Small, Q4_K_M, random weights",
                                 "%.2f"),
        [MEDIUM_BOUND] = EXACT("medium_modelled", "x", "medium + small, modelled",
                               "by this acceptance, a draft step by bytes of weights, verification "
                               "as one step: not measured",
                               "%.2f"),
        [SAME_TEXT] = EXACT("same_text_pct", "%", "plain text",
                            "tokens that are plain decoding's, up to the first other one", "%.1f"),
        [LIKELIHOOD] = EXACT("likelihood_pct", "%", "likelihood",
                             "geometric mean probability of a token by the target, against plain "
                             "decoding's text",
                             "%.1f"),
        [QUALITY] = EXACT("quality_pct", "%", "quality",
                          "right answers to the small GSM8K set against plain decoding; interval by "
                          "paired bootstrap over items",
                          "%.1f"),
        RV_METRIC_ENDS("quality_pct", "%", "quality", RV_HIGHER, "%.1f"),
        AT_DEPTH(1),
        AT_DEPTH(2),
        AT_DEPTH(3),
        AT_DEPTH(4),
        AT_DEPTH(5),
        AT_DEPTH(6),
        AT_DEPTH(7),
        AT_DEPTH(8),
};

/* ---- how much is measured ---- */

typedef struct scale {
	int n_prompts, n_tokens; /* that are counted; of each text */
	int n_timed;             /* prompts a repetition */
	int n_costs;             /* steps of each kind a repetition */
	int n_answers;
} scale;
static const scale scales[RV_PROFILE_COUNT] = {
        [RV_PROFILE_SMOKE] = {3, 16, 1, 2, 0},
        [RV_PROFILE_QUICK] = {15, 32, 2, 6, 16},
        [RV_PROFILE_FULL] = {60, 128, 4, 20, 200},
};
static double number_of(const rv_point *p, int param) {
	return params[param].values[p->values[param]].number;
}

/* A draft at the text's temperature is another one only of a model's chain, and above 0. */
static int has_point(const rv_experiment *exp, const rv_point *p) {
	(void)exp;
	return p->values[DRAFT_TEMPERATURE] == 0 ||
	       (p->values[DRAFT] == RV_SPEC_MODEL && number_of(p, TEMPERATURE) > 0);
}

/* Below `full`: every k for one line, and of the rest what is documented and what stands beside it. */
static int in_profile(const rv_experiment *exp, rv_profile profile, const rv_point *p) {
	(void)exp;
	int k = p->values[K], rule = p->values[RULE], draft = p->values[DRAFT];
	int four = k == 3, cold = number_of(p, TEMPERATURE) == 0;
	if (profile == RV_PROFILE_FULL || (cold && rule == RV_SPEC_EXACT && draft == RV_SPEC_MODEL))
		return 1;
	if (draft != RV_SPEC_MODEL)
		return cold && rule == RV_SPEC_EXACT && (four || k == ADAPTIVE);
	if (rule == RV_SPEC_THRESHOLD)
		return p->values[DRAFT_TEMPERATURE] == 0 && (four || (cold && k == ADAPTIVE));
	return four && (rule == RV_SPEC_EXACT ||
	                (p->values[DRAFT_TEMPERATURE] == 0 && number_of(p, TEMPERATURE) != 0.5));
}

static rv_status prepare(const rv_experiment *exp, const rv_run_config *config, rv_inputs *in) {
	(void)exp;
	rv_model *model;
	char path[4096], hex[65] = "none";
	const scale *s = &scales[config->profile];
	RV_TRY(rv_lab_open_model(config, "nano", &model, in));
	rv_status status = rv_spec_find_draft(in->model_path, path, sizeof path);
	if (status == RV_OK)
		status = rv_file_sha256(path, hex);
	else if (status == RV_ERR_NOT_FOUND)
		status = RV_OK;
	snprintf(in->settings, sizeof in->settings,
	         "draft %.8s prompts %d of %d tokens, %d a repetition, costs %d answers %d", hex,
	         s->n_prompts, s->n_tokens, s->n_timed, s->n_costs, s->n_answers);
	rv_model_release(model);
	return status == RV_OK ? rv_quality_data_sha256(config, RV_QUALITY_BRIEF, in->data_sha256)
	                       : status;
}

/* ---- the fixture ---- */

/* What came out of all prompts at one point. */
typedef struct counts {
	rv_spec_stats stats;
	int64_t n_tokens, n_same; /* generated; those before the first that plain decoding has not */
	double logprob;           /* sum */
} counts;

typedef struct fixture {
	scale size;
	rv_spec_bench bench;
	rv_spec_text *plain[N_TEMPERATURES]; /* [n_prompts], once asked for */
	counts *counts;                      /* by index of the point */
	double *answers;                     /* [n_answers] plainly, once asked for */
	int64_t n_answers;
	const char *no_answers;
	rv_spec_costs medium; /* `full` only */
} fixture;

static void teardown(void *user) {
	fixture *f = user;
	rv_spec_bench_close(&f->bench);
	for (int i = 0; i < N_TEMPERATURES; i++)
		rv_free(f->plain[i]);
	rv_free(f->counts);
	rv_free(f->answers);
}

static rv_spec_options options_of(const fixture *f, const rv_point *p) {
	rv_spec_options o = rv_spec_defaults();
	o.draft = (rv_spec_draft)p->values[DRAFT];
	o.rule = (rv_spec_rule)p->values[RULE];
	o.k = (int)number_of(p, K);
	o.sampled = p->values[DRAFT_TEMPERATURE];
	o.force = 1;
	o.seed = f->bench.config->seed;
	return o;
}

/* ---- what is counted once ---- */

static uint64_t seed_of(const fixture *f, int prompt, int round) {
	return f->bench.config->seed + 1000 * (uint64_t)round + (uint64_t)prompt;
}

static rv_status plain_texts(fixture *f, int temperature, const rv_spec_text **out) {
	const rv_spec_bench *b = &f->bench;
	double ns;
	if (!f->plain[temperature]) {
		RV_TRY(RV_ALLOC(&f->plain[temperature], b->n_prompts, "texts"));
		for (int i = 0; i < b->n_prompts; i++) {
			RV_TRY(rv_spec_bench_read(b, NULL, i));
			RV_TRY(rv_spec_bench_decode(b, NULL, temperatures[temperature].number, i,
			                            seed_of(f, i, 0), &f->plain[temperature][i], &ns));
		}
	}
	*out = f->plain[temperature];
	return RV_OK;
}

static void add_stats(rv_spec_stats *to, const rv_spec_stats *after, const rv_spec_stats *before) {
	int64_t *sum = (int64_t *)to;
	const int64_t *a = (const int64_t *)after, *b = (const int64_t *)before;
	for (size_t i = 0; i < sizeof *to / sizeof *sum; i++)
		sum[i] += a[i] - b[i];
}

static rv_status count(fixture *f, const rv_point *p, rv_speculator *s) {
	counts *c = &f->counts[p->index];
	const rv_spec_text *plain;
	RV_TRY(plain_texts(f, p->values[TEMPERATURE], &plain));
	for (int i = 0; i < f->size.n_prompts; i++) {
		rv_spec_text t;
		double ns;
		RV_TRY(rv_spec_bench_read(&f->bench, s, i));
		const rv_spec_stats before = *rv_speculator_stats(s);
		RV_TRY(rv_spec_bench_decode(&f->bench, s, number_of(p, TEMPERATURE), i,
		                            seed_of(f, i, 0), &t, &ns));
		add_stats(&c->stats, rv_speculator_stats(s), &before);
		c->n_tokens += t.n;
		c->logprob += t.logprob;
		for (int j = 0; j < t.n && t.ids[j] == plain[i].ids[j]; j++)
			c->n_same++;
	}
	return RV_OK;
}

static rv_status count_point(fixture *f, const rv_point *p) {
	const rv_spec_options o = options_of(f, p);
	rv_speculator *s;
	RV_TRY(rv_speculator_create(&s, f->bench.target, f->bench.draft, &o));
	rv_status status = count(f, p, s);
	rv_speculator_destroy(s);
	return status;
}

static rv_status setup(const rv_experiment *exp, const rv_run_config *config, const rv_point *points,
                       int n_points, void *user) {
	fixture *f = user;
	int most = 0;
	(void)exp;
	f->size = scales[config->profile];
	RV_TRY(rv_spec_bench_open(&f->bench, config, NULL, f->size.n_prompts, f->size.n_tokens));
	for (int i = 0; i < n_points; i++)
		most = points[i].index > most ? points[i].index : most;
	RV_TRY(RV_ALLOC(&f->counts, most + 1, "experiment"));
	f->no_answers = f->size.n_answers ? rv_quality_na(config->profile, f->bench.target_model)
	                                  : "not asked in this profile";
	for (int i = 0; i < n_points; i++) /* here, where it costs no repetition its budget */
		RV_TRY(count_point(f, &points[i]));
	return config->profile == RV_PROFILE_FULL ? rv_spec_medium_costs(config, &f->medium) : RV_OK;
}

/* Right answers with drafts against plain ones. */
static rv_status ask(fixture *f, rv_speculator *s, rv_record *record) {
	const rv_run_config *c = f->bench.config;
	double *answers;
	int64_t n;
	rv_interval ratio;
	if (!f->answers)
		RV_TRY(rv_spec_answers(c, f->bench.target, NULL, f->size.n_answers, &f->answers,
		                       &f->n_answers));
	RV_TRY(rv_spec_answers(c, f->bench.target, s, f->size.n_answers, &answers, &n));
	const rv_task_items with = {answers, n, 0}, plain = {f->answers, f->n_answers, 0};
	rv_status status = rv_items_quality_ratio(&with, &plain, 1, c->seed, &ratio);
	rv_free(answers);
	if (status != RV_OK && status != RV_ERR_NUMERIC)
		return status;
	rv_quality_record(record, QUALITY, &ratio,
	                  status == RV_OK ? "" : "plain decoding has no right answer");
	return RV_OK;
}

static rv_status record_quality(fixture *f, const rv_point *p, rv_speculator *s, rv_record *record) {
	const char *na = f->no_answers;
	if (number_of(p, TEMPERATURE) > 0)
		na = "questions are asked at temperature 0";
	else if (p->values[RULE] != RV_SPEC_THRESHOLD)
		na = "the text is plain decoding's";
	if (na == NULL)
		return ask(f, s, record);
	rv_record_na(record, QUALITY, na);
	return RV_OK;
}

static int nearest_k(double k) {
	int n = (int)lround(k);
	return n < 1 ? 1 : n > RV_SPEC_MAX_K ? RV_SPEC_MAX_K : n;
}

static void record_medium(const fixture *f, const rv_point *p, const rv_spec_stats *s,
                          rv_record *record) {
	static const char *const chains = "costs are those of a model's chain";
	double k = rv_spec_drafted_a_round(s), tokens = rv_spec_tokens_a_round(s);
	if (p->values[DRAFT] != RV_SPEC_MODEL) {
		rv_record_na(record, MEDIUM_BOUND, chains);
		rv_record_na(record, MEDIUM_SPEEDUP, chains);
		return;
	}
	record->values[MEDIUM_BOUND] = rv_spec_speedup(tokens, k, rv_spec_medium_bytes(), 1);
	if (f->medium.draft > 0)
		record->values[MEDIUM_SPEEDUP] =
		        rv_spec_speedup(tokens, k, f->medium.draft, f->medium.verify[nearest_k(k)]);
	else
		rv_record_na(record, MEDIUM_SPEEDUP,
		             "costs at these shapes are measured in the profile full");
}

static rv_status record_counts(fixture *f, const rv_point *p, rv_speculator *speculator,
                               const counts *c, rv_record *record) {
	const rv_spec_stats *s = &c->stats;
	const rv_spec_text *plain;
	double *v = record->values, logprob = 0, k = rv_spec_drafted_a_round(s);
	RV_TRY(plain_texts(f, p->values[TEMPERATURE], &plain));
	for (int i = 0; i < f->size.n_prompts; i++)
		logprob += plain[i].logprob;
	v[TOKENS] = rv_spec_tokens_a_round(s);
	v[DRAFTED] = k;
	v[SAME_TEXT] = 100 * (double)c->n_same / (double)c->n_tokens;
	v[LIKELIHOOD] = 100 * exp((c->logprob - logprob) / (double)c->n_tokens);
	if (s->drafted > 0) {
		double a = (double)s->accepted / (double)s->drafted;
		double alpha = (double)s->accepted / (double)(s->accepted + s->rejections);
		v[ACCEPTANCE] = 100 * a;
		v[ALPHA] = 100 * alpha;
		v[TOKENS_DOCUMENTED] = rv_spec_tokens_documented(a, k);
		v[TOKENS_ALPHA] = rv_spec_tokens_geometric(alpha, k);
		v[TOKENS_A] = rv_spec_tokens_geometric(a, k);
	} else {
		for (int m = ACCEPTANCE; m <= ALPHA; m++)
			rv_record_na(record, m, "nothing was drafted");
	}
	for (int i = 0; i < RV_SPEC_MAX_K; i++)
		if (s->reached_at[i] > 0)
			v[AT + i] = 100 * (double)s->accepted_at[i] / (double)s->reached_at[i];
	record_medium(f, p, s, record);
	return record_quality(f, p, speculator, record);
}

/* ---- one repetition ---- */

static rv_status record_costs(const fixture *f, const rv_point *p, const rv_spec_stats *s,
                              rv_record *record) {
	static const int timed[] = {DRAFT_COST, VERIFY_COST, SPEEDUP_MODEL, BREAK_EVEN};
	double k = rv_spec_drafted_a_round(s), *v = record->values;
	if (p->values[DRAFT] != RV_SPEC_MODEL) {
		for (size_t i = 0; i < sizeof timed / sizeof timed[0]; i++)
			rv_record_na(record, timed[i], "costs are those of a model's chain");
		return RV_OK;
	}
	rv_spec_costs costs;
	int n = nearest_k(k);
	RV_TRY(rv_spec_bench_costs(&f->bench, n, f->size.n_costs, &costs));
	v[DRAFT_COST] = costs.draft;
	v[VERIFY_COST] = costs.verify[n];
	v[SPEEDUP_MODEL] = rv_spec_speedup(rv_spec_tokens_a_round(s), k, v[DRAFT_COST], v[VERIFY_COST]);
	v[BREAK_EVEN] = 100 * rv_spec_break_even(k, v[DRAFT_COST], v[VERIFY_COST]);
	if (isnan(v[BREAK_EVEN]))
		rv_record_na(record, BREAK_EVEN, "drafting cannot pay at these costs");
	return RV_OK;
}

static rv_status measure(fixture *f, const rv_point *p, rv_speculator *s, int repetition,
                         rv_record *record) {
	double plain = 0, with = 0, temperature = number_of(p, TEMPERATURE);
	const counts *c = &f->counts[p->index];
	for (int i = 0; i < f->size.n_timed; i++) {
		int prompt = (repetition * f->size.n_timed + i) % f->size.n_prompts;
		RV_TRY(rv_spec_bench_read(&f->bench, s, prompt));
		for (int turn = 0; turn < 2; turn++) { /* who begins takes turns, too */
			int drafting = (repetition + i + turn) % 2;
			double ns;
			RV_TRY(rv_spec_bench_decode(&f->bench, drafting ? s : NULL, temperature, prompt,
			                            seed_of(f, prompt, repetition), NULL, &ns));
			*(drafting ? &with : &plain) += ns;
		}
	}
	record->values[SPEEDUP] = plain / with;
	RV_TRY(record_costs(f, p, &c->stats, record));
	return repetition == 0 ? record_counts(f, p, s, c, record) : RV_OK;
}

static rv_status run(void *user, const rv_point *point, int repetition, rv_record *record) {
	fixture *f = user;
	rv_speculator *s;
	const rv_spec_options o = options_of(f, point);
	RV_TRY(rv_speculator_create(&s, f->bench.target, f->bench.draft, &o));
	rv_status status = measure(f, point, s, repetition, record);
	rv_speculator_destroy(s);
	return status;
}

static const char *not_run(const rv_experiment *exp, const rv_run_config *config,
                           const rv_point *point) {
	char path[4096];
	(void)exp;
	return point->values[DRAFT] == RV_SPEC_LOOKUP ||
	                       rv_spec_find_draft(config->inputs.model_path, path, sizeof path) == RV_OK
	               ? NULL
	               : "no draft model beside this one";
}

static const rv_experiment speculation = {
        .id = "T6",
        .name = "t6_speculative",
        .title = "Speculative decoding",
        .about = "A draft proposes k tokens, the target checks them in one evaluation. Prompts are the "
                 "questions of the small GSM8K, HumanEval and routing sets, without examples, none of "
                 "them in the training text. Each repetition decodes some of them plainly and with "
                 "drafts, in turns; times begin after the first token, when both models have read the "
                 "prompt, and end tokens do not end a text. What is accepted is counted over all "
                 "prompts once. threshold (accept when p of the target is at least 0.7 of the "
                 "draft's) changes the text; exact keeps its distribution, greedy its tokens. "
                 "Above temperature 0.5, where drafting stops by default, it is forced here. By costs: "
                 "tokens a step over what the steps of draft and target took. The documents' formula "
                 "1 + a k holds when a is what was accepted of all drafted tokens: it is an identity "
                 "for a fixed k; the published one assumes that every token is accepted with the same "
                 "probability, whatever came before.",
        .documented = "t6_speculative.csv",
        .plot = "t6_speculative",
        RV_EXPERIMENT_PARTS,
        .budget_s = {15, 45, 1800},
        .limit_s = {0, 40, 0},
        .min_n = 10,
        .max_n = {10, 10, 15},
        .has_point = has_point,
        .in_profile = in_profile,
        .not_run = not_run,
};

RV_EXPERIMENT_MAIN(speculation)
