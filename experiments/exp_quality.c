/* T3: quality by task, variant and type, with intervals over items and paired tests. */
#include "lab/experiment.h"
#include "lab/metrics.h"
#include "lab/models.h"
#include "lab/quality.h"

#include <stdio.h>
#include <string.h>

/* ---- declaration ---- */

#define TASK_VALUE(id, task, metric, counts) {task, 0, RV_PROFILE_SMOKE},
static const rv_param_value task_values[] = {RV_QUALITY_TASKS(TASK_VALUE)};
static const rv_param_value types[] = {{"F16", 0, RV_PROFILE_SMOKE},
                                       {"Q8_0", 0, RV_PROFILE_QUICK},
                                       {"Q5_K_M", 0, RV_PROFILE_QUICK},
                                       {"Q4_K_M", 0, RV_PROFILE_SMOKE}};
enum { F16, Q8_0, Q5_K_M, Q4_K_M, N_TYPES };
_Static_assert(N_TYPES == sizeof types / sizeof types[0], "a name for each type");

enum { VARIANT, TYPE, TASK, N_PARAMS };
static const rv_param params[N_PARAMS] = {
        [VARIANT] = {"variant", "", "configuration of the base model", RV_PARAM_BUILD, RV_PARAM_TEXT,
                     rv_variants, RV_VARIANT_COUNT},
        [TYPE] = {"type", "", "type or mix the model is quantized to", RV_PARAM_BUILD, RV_PARAM_TEXT,
                  types, N_TYPES},
        [TASK] = {"task", "", "questions and how they are scored", RV_PARAM_QUERY, RV_PARAM_TEXT,
                  task_values, RV_QUALITY_N_TASKS},
};

enum {
	SCORE,
	SCORE_FROM,
	SCORE_TO,
	CHANCE,
	ABOVE,
	DIFFERENCE,
	DIFFERENCE_FROM,
	DIFFERENCE_TO,
	P_VALUE,
	N_BETTER,
	N_WORSE,
	N_ITEMS,
	N_METRICS
};
static const rv_experiment_metric metrics[N_METRICS] = {
        {"score_pct", "%", "score",
         "mean over the items: accuracy (of mmlu_continuation acc_norm), pass@1, strict exact match, "
         "MC2; interval over items: Wilson's, of MC2 by bootstrap",
         RV_HIGHER, 1, 0, NULL, "%.2f"},
        RV_METRIC_ENDS("score_pct", "%", "score", RV_HIGHER, "%.2f"),
        {"chance_pct", "%", "chance", "what guessing scores", RV_HIGHER, 1, 0, NULL, "%.2f"},
        {"above_chance_pct", "%", "above chance", "(score - chance) / (1 - chance)", RV_HIGHER, 1, 0,
         NULL, "%.2f"},
        {"difference_pct", "points", "difference",
         "score minus that of the reference on the same items: F16 of the variant, of F16 the base's; "
         "interval by paired bootstrap",
         RV_HIGHER, 1, 0, NULL, "%.2f"},
        RV_METRIC_ENDS("difference_pct", "points", "difference", RV_HIGHER, "%.2f"),
        {"p", "", "p",
         "two-sided, of no difference: McNemar's exact test, of MC2 the sign-flip permutation test",
         RV_HIGHER, 1, 0, NULL, "%.3f"},
        {"n_better", "items", "better", "items above the reference", RV_HIGHER, 1, 0, NULL, "%.0f"},
        {"n_worse", "items", "worse", "items below the reference", RV_LOWER, 1, 0, NULL, "%.0f"},
        {"n_items", "items", "items", "asked", RV_HIGHER, 1, 0, NULL, "%.0f"},
};

enum { REFERENCE, N_FACTS };
static const rv_fact facts[N_FACTS] = {
        [REFERENCE] = {"reference", "against", "what the difference is to"}};

static rv_status prepare(const rv_experiment *exp, const rv_run_config *config, rv_inputs *in) {
	(void)exp;
	rv_model *model;
	RV_TRY(rv_lab_open_model(config, "nano", &model, in));
	rv_model_release(model);
	rv_quality_settings(config->profile, RV_QUALITY_USUAL, in->settings, sizeof in->settings);
	rv_variant_note_all(config, in);
	return rv_quality_data_sha256(config, RV_QUALITY_USUAL, in->data_sha256);
}

/* ---- the fixture: a variant's model of a type, and what it is held against ---- */

typedef struct fixture {
	const rv_run_config *config;
	const char *na;      /* why the answers mean nothing; NULL: they do */
	rv_subject own, ref; /* ref.model NULL: own is the reference itself */
	const char *ref_name;
} fixture;

static void teardown(void *user) {
	fixture *f = user;
	rv_subject_close(&f->own);
	rv_subject_close(&f->ref);
}

static rv_status setup(const rv_experiment *exp, const rv_run_config *c, const rv_point *points,
                       int n_points, void *user) {
	(void)exp;
	(void)n_points;
	fixture *f = user;
	const rv_variant variant = (rv_variant)points[0].values[VARIANT];
	const int type = points[0].values[TYPE];
	rv_model *source;
	f->config = c;
	RV_TRY(rv_model_open(&source, c->inputs.model_path, NULL));
	f->na = rv_quality_na(c->profile, source);
	rv_model_release(source);
	if (f->na != NULL)
		return RV_OK;
	RV_TRY(rv_subject_open(&f->own, c, variant, types[type].text));
	if (type == F16 && variant == RV_VARIANT_BASE)
		return RV_OK;
	f->ref_name = type == F16 ? "base" : types[F16].text;
	return rv_subject_open(&f->ref, c, type == F16 ? RV_VARIANT_BASE : variant, types[F16].text);
}

/* ---- one point ---- */

static rv_status score(const fixture *f, const rv_task_items *own, rv_record *record) {
	rv_interval i;
	RV_TRY(rv_items_score(own, f->config->seed, &i));
	rv_quality_record(record, SCORE, &i, "");
	record->values[CHANCE] = 100 * own->chance;
	record->values[ABOVE] = 100 * rv_above_chance(i.value, own->chance);
	record->values[N_ITEMS] = (double)own->n;
	return RV_OK;
}

static rv_status compare(const fixture *f, const rv_task_items *own, const rv_task_items *reference,
                         rv_record *record) {
	rv_interval i;
	rv_paired_test test;
	RV_TRY(rv_items_difference(own, reference, f->config->seed, &i));
	RV_TRY(rv_items_test(own, reference, f->config->seed, &test));
	rv_quality_record(record, DIFFERENCE, &i, "");
	record->values[P_VALUE] = test.p;
	record->values[N_BETTER] = (double)test.n_better;
	record->values[N_WORSE] = (double)test.n_worse;
	return RV_OK;
}

static void no_comparison(rv_record *record, const char *reason) {
	static const int all[] = {DIFFERENCE, DIFFERENCE_FROM, DIFFERENCE_TO,
	                          P_VALUE,    N_BETTER,        N_WORSE};
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		rv_record_na(record, all[i], reason);
}

static rv_status measure(const fixture *f, rv_quality_task task, rv_record *record) {
	rv_quality_items own, reference = {0};
	RV_TRY(rv_quality_ask(f->config, f->own, task, RV_QUALITY_USUAL, &own));
	rv_status status = score(f, &own.items, record);
	if (f->ref.model == NULL) {
		no_comparison(record, "is the reference");
	} else {
		rv_record_fact(record, REFERENCE, "%s", f->ref_name);
		if (status == RV_OK)
			status = rv_quality_ask(f->config, f->ref, task, RV_QUALITY_USUAL, &reference);
		if (status == RV_OK)
			status = compare(f, &own.items, &reference.items, record);
	}
	rv_quality_items_free(&own);
	rv_quality_items_free(&reference);
	return status;
}

static rv_status run(void *user, const rv_point *point, int repetition, rv_record *record) {
	const fixture *f = user;
	if (repetition > 0)
		return RV_OK;
	for (int m = 0; f->na != NULL && m < N_METRICS; m++)
		rv_record_na(record, m, f->na);
	return f->na != NULL ? RV_OK : measure(f, (rv_quality_task)point->values[TASK], record);
}

/* The variants unquantized and as they are served. */
static int has_point(const rv_experiment *exp, const rv_point *point) {
	(void)exp;
	int type = point->values[TYPE];
	return point->values[VARIANT] == RV_VARIANT_BASE || type == F16 || type == Q4_K_M;
}

static const char *not_run(const rv_experiment *exp, const rv_run_config *config,
                           const rv_point *point) {
	(void)exp;
	return rv_variant_na(config, (rv_variant)point->values[VARIANT]);
}

static const rv_experiment quality = {
        .id = "T3",
        .name = "t3_quality",
        .title = "Quality by variant",
        .about =
                "Every task's items are put to the model as lm-evaluation-harness puts them, greedily, "
                "from the small sets in datasets/ (the documented numbers are of the published sets "
                "and of a model of 3 billion parameters). Scores are means over items; intervals are "
                "95 %, Wilson's for right and wrong answers, else percentile bootstraps over items. "
                "Differences are paired, item by item: the same "
                "items are drawn of both models, and the p-values are of paired tests. Where "
                "TruthfulQA "
                "is documented without its metric, MC2 is held against it, with MC1 beside "
                "it. " RV_QUALITY_MMLU_NOTE
                " The documented numbers, whose form is not said, are held against the letters: "
                "that is the form in which MMLU is published.",
        .documented = "t3_quality.csv",
        .plot = "t3_quality",
        .params = params,
        .n_params = N_PARAMS,
        .metrics = metrics,
        .n_metrics = N_METRICS,
        .facts = facts,
        .n_facts = N_FACTS,
        .budget_s = {25, 60, 3600},
        .min_n = 1,
        .max_n = {1, 1, 1},
        .has_point = has_point,
        .not_run = not_run,
        .prepare = prepare,
        .fixture_bytes = sizeof(fixture),
        .setup = setup,
        .run = run,
        .teardown = teardown,
};

int main(int argc, char **argv) {
	return rv_experiment_main(argc, argv, &quality);
}
