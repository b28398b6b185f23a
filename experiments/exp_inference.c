/* T2: inference configurations: decode speed, memory, watts, quality. */
#include "base/options.h"
#include "base/sysinfo.h"
#include "engine/context.h"
#include "lab/experiment.h"
#include "lab/metrics.h"
#include "lab/models.h"
#include "lab/power.h"
#include "lab/quality.h"
#include "lab/self.h"
#include "lab/spec_bench.h"
#include "lab/speed.h"
#include "model/model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- declaration ---- */

static const rv_param_value formats[] = {{"Q4_K_M", 0, RV_PROFILE_SMOKE},
                                         {"Q5_K_M", 0, RV_PROFILE_SMOKE},
                                         {"Q8_0", 0, RV_PROFILE_SMOKE}};
static const rv_param_value speculation[] = {{"off", 0, RV_PROFILE_SMOKE}, {"on", 0, RV_PROFILE_SMOKE}};
enum { Q4_K_M, Q5_K_M, Q8_0, N_FORMATS };
enum { OFF, ON, N_SPECULATION };

enum { VARIANT, FORMAT, SPECULATIVE, N_PARAMS };
static const rv_param params[N_PARAMS] = {
        [VARIANT] = {"variant", "", "configuration of the base model", RV_PARAM_QUERY, RV_PARAM_TEXT,
                     rv_variants, RV_VARIANT_COUNT},
        [FORMAT] = {"format", "", "type or mix the model is quantized to", RV_PARAM_QUERY,
                    RV_PARAM_TEXT, formats, N_FORMATS},
        [SPECULATIVE] = {"speculative", "", "is there a draft model?", RV_PARAM_QUERY, RV_PARAM_TEXT,
                         speculation, N_SPECULATION},
};

enum {
	TG,
	TG_ROOFLINE,
	MEMORY_MB,
	MAPPED_MB,
	MEMORY_GB,
	POWER,
	QUALITY,
	QUALITY_FROM,
	QUALITY_TO,
	N_METRICS
};
static const rv_experiment_metric metrics[N_METRICS] = {
        [TG] = RV_METRIC_DECODE,
        [MEMORY_MB] = {"memory_mb", "MB", "memory",
                       "peak of anonymous and shared memory of a process of its own, 1e6 bytes",
                       RV_LOWER, 0, 0, NULL, "%.2f"},
        [MAPPED_MB] = {"mapped_mb", "MB", "mapped files",
                       "peak of resident pages of files (the model, the program) in that process",
                       RV_LOWER, 0, 0, NULL, "%.2f"},
        [MEMORY_GB] = {"memory_gb", "GB", "medium: memory",
                       "memory and mapped files together, 1e9 bytes; RuvLTRA-Medium's shape only",
                       RV_LOWER, 0, 0, NULL, "%.3f"},
        [POWER] = {"power_w", "W", "power",
                   "energy of all processor packages while decoding, idle share included / time",
                   RV_LOWER, 0, 0, NULL, "%.1f"},
        [QUALITY] = RV_METRIC_QUALITY(" against base Q4_K_M; interval by paired bootstrap over items"),
};

/* ---- how much is measured ---- */

typedef struct scale {
	int tg_tokens;                /* decoded for speed */
	int prompt_tokens, n_decoded; /* of the process whose memory is measured */
	double sample_s;              /* of decoding, at least */
} scale;

static const scale scales[RV_PROFILE_COUNT] = {
        [RV_PROFILE_SMOKE] = {16, 64, 8, 0.05},
        [RV_PROFILE_QUICK] = {64, 256, 16, 0.1},
        [RV_PROFILE_FULL] = {32, 512, 16, 0.1},
};
enum { MAX_TOKENS = 528 };
enum { SPEC_PROMPTS = 12, SPEC_TOKENS = 64 }; /* texts decoded with a draft: one a repetition */
#define QUALITY_SHARE 0.5 /* of the budget, after which no further format is asked */

static const char *const default_preset[RV_PROFILE_COUNT] = {"nano", "nano", "medium"};

/* The profile's scale, cut to what the model can hold. */
static scale scale_for(rv_profile profile, const rv_hparams *hp) {
	scale s = scales[profile];
	if (s.tg_tokens > hp->n_ctx_train)
		s.tg_tokens = (int)hp->n_ctx_train;
	if (s.prompt_tokens + s.n_decoded > hp->n_ctx_train) {
		s.n_decoded = 1;
		s.prompt_tokens = (int)hp->n_ctx_train - 1;
	}
	return s;
}

static rv_status prepare(const rv_experiment *exp, const rv_run_config *config, rv_inputs *in) {
	(void)exp;
	rv_model *model;
	RV_TRY(rv_lab_open_model(config, default_preset[config->profile], &model, in));
	scale s = scale_for(config->profile, rv_model_hparams(model));
	char quality[128];
	rv_quality_settings(config->profile, RV_QUALITY_BRIEF, quality, sizeof quality);
	snprintf(in->settings, sizeof in->settings, "tg %d sample %g s memory pp %d tg %d quality: %s",
	         s.tg_tokens, s.sample_s, s.prompt_tokens, s.n_decoded, quality);
	rv_variant_note_all(config, in);
	rv_model_release(model);
	return rv_quality_data_sha256(config, RV_QUALITY_BRIEF, in->data_sha256);
}

static rv_status open_context(rv_context **ctx, rv_subject who, int n_threads) {
	const rv_adapter_use use = {who.adapter, 1};
	rv_context_options options = rv_context_defaults();
	options.n_threads = n_threads;
	options.adapters = &use;
	options.n_adapters = who.adapter != NULL;
	return rv_context_create(ctx, who.model, &options);
}

/* ---- memory: of a fresh process that does nothing else ---- */

#define MEMORY_COMMAND "--memory-of"

static void peak(double bytes[2]) {
	rv_memuse m;
	rv_memuse_get(&m);
	bytes[0] = fmax(bytes[0], (double)(m.anon_bytes + m.shmem_bytes));
	bytes[1] = fmax(bytes[1], (double)m.file_bytes);
}

static rv_status use_model(rv_subject who, rv_model *draft, int n_threads, int n_prompt, int n_decoded,
                           double bytes[2]) {
	int32_t tokens[MAX_TOKENS];
	rv_row rows[MAX_TOKENS];
	rv_context *ctx = NULL, *beside = NULL;
	rv_random_tokens(tokens, MAX_TOKENS, 0, rv_model_hparams(who.model)->n_vocab);
	for (int i = 0; i < n_prompt + n_decoded; i++)
		rows[i] = (rv_row){.token = tokens[i],
		                   .position = i,
		                   .parent = -1,
		                   .flags = i + 1 < n_prompt ? 0 : RV_ROW_LOGITS};
	RV_TRY(open_context(&ctx, who, n_threads));
	rv_status status = RV_OK;
	if (draft != NULL)
		status = open_context(&beside, (rv_subject){draft, NULL}, n_threads);
	for (int i = 0; i <= n_decoded && status == RV_OK; i++) {
		const rv_row *at = i == 0 ? rows : &rows[n_prompt + i - 1];
		int n = i == 0 ? n_prompt : 1;
		status = rv_context_eval(ctx, at, n);
		if (status == RV_OK && beside != NULL)
			status = rv_context_eval(beside, at, n);
		peak(bytes);
	}
	rv_context_destroy(beside);
	rv_context_destroy(ctx);
	return status;
}

/* --memory-of FILE ADAPTER|- DRAFT|- THREADS PROMPT DECODED */
static rv_status memory_of(char **args, double bytes[2]) {
	int64_t n[3];
	for (int i = 0; i < 3; i++)
		RV_TRY(rv_parse_int(args[3 + i], 1, i == 0 ? RV_MAX_THREADS : MAX_TOKENS, &n[i]));
	if (n[1] + n[2] > MAX_TOKENS)
		return rv_fail(RV_ERR_INVALID, "more than %d tokens", MAX_TOKENS);
	rv_subject who = {NULL, NULL};
	rv_model *draft = NULL;
	RV_TRY(rv_model_open(&who.model, args[0], NULL));
	rv_status status =
	        strcmp(args[1], "-") != 0 ? rv_adapter_open(&who.adapter, args[1], who.model) : RV_OK;
	if (status == RV_OK && strcmp(args[2], "-") != 0)
		status = rv_model_open(&draft, args[2], NULL);
	if (status == RV_OK)
		status = use_model(who, draft, (int)n[0], (int)n[1], (int)n[2], bytes);
	rv_model_release(draft);
	rv_subject_close(&who);
	return status;
}

/* Writes "ANONYMOUS MAPPED" in bytes, or why not. */
static int memory_main(char **args) {
	double bytes[2] = {0, 0};
	rv_status status = memory_of(args, bytes);
	if (status == RV_OK)
		printf("%.0f %.0f\n", bytes[0], bytes[1]);
	else
		printf("%s\n", rv_error_message());
	return fflush(stdout) != 0 || status != RV_OK;
}

static rv_status measure_memory(const rv_run_config *c, const scale *s, rv_subject who,
                                const rv_model *draft, double bytes[2]) {
	const char *adapter = who.adapter != NULL ? rv_adapter_path(who.adapter) : "-";
	const char *beside = draft != NULL ? rv_model_path(draft) : "-";
	char numbers[3][16], text[512] = "";
	const int values[3] = {c->n_threads, s->prompt_tokens, s->n_decoded};
	for (int i = 0; i < 3; i++)
		snprintf(numbers[i], sizeof numbers[0], "%d", values[i]);
	char *const argv[] = {"exp_inference",
	                      MEMORY_COMMAND,
	                      (char *)(uintptr_t)rv_model_path(who.model),
	                      (char *)(uintptr_t)adapter,
	                      (char *)(uintptr_t)beside,
	                      numbers[0],
	                      numbers[1],
	                      numbers[2],
	                      NULL};
	RV_TRY(rv_run_self(c, argv, text, sizeof text));
	if (sscanf(text, "%lf %lf", &bytes[0], &bytes[1]) != 2)
		return rv_fail(RV_ERR_IO, "memory: the process printed '%.300s'", text);
	return RV_OK;
}

/* ---- the fixture: every variant and format, open at once ---- */

typedef struct arm {
	rv_subject who;
	rv_context *ctx;
	rv_token_run decode;
	double tg_bound; /* tokens a second at most, by memory */
	int repeats;
	rv_quality quality;
} arm;

typedef struct fixture {
	const rv_run_config *config;
	scale size;
	int is_medium;
	int32_t tokens[MAX_TOKENS];
	rv_power power;
	arm arms[RV_VARIANT_COUNT][N_FORMATS]; /* no model: not wanted */
	rv_spec_bench spec;                    /* no target: not wanted */
} fixture;

static void teardown(void *user) {
	fixture *f = user;
	rv_spec_bench_close(&f->spec);
	for (int i = 0; i < RV_VARIANT_COUNT * N_FORMATS; i++) {
		arm *a = &f->arms[i / N_FORMATS][i % N_FORMATS];
		rv_context_destroy(a->ctx);
		rv_subject_close(&a->who);
	}
}

static rv_status open_arm(fixture *f, int variant, int format) {
	const rv_run_config *c = f->config;
	arm *a = &f->arms[variant][format];
	if (a->ctx != NULL) /* with a draft and without one */
		return RV_OK;
	RV_TRY(rv_subject_open(&a->who, c, (rv_variant)variant, formats[format].text));
	RV_TRY(open_context(&a->ctx, a->who, c->n_threads));
	rv_context_set_cancel(a->ctx, c->cancelled, c->user);
	a->decode = (rv_token_run){a->ctx, f->tokens, f->size.tg_tokens};
	RV_TRY(rv_repeats_for(rv_decode_run, &a->decode, f->size.sample_s, &a->repeats));
	return rv_decode_bound(c, a->ctx, f->size.tg_tokens, &a->tg_bound);
}

static int is_medium(const rv_hparams *hp) {
	const rv_hparams *m = &rv_preset_by_name("medium")->hp;
	return hp->n_layers == m->n_layers && hp->n_embd == m->n_embd && hp->n_heads == m->n_heads &&
	       hp->n_kv_heads == m->n_kv_heads && hp->head_dim == m->head_dim && hp->n_ff == m->n_ff &&
	       hp->n_vocab == m->n_vocab;
}

/* Quality beside base Q4_K_M's; asked here, for a repetition's cost says how many more there will be.
 */
static rv_status ask_arm(fixture *f, int variant, int format, const char *na, double deadline_s) {
	const rv_run_config *c = f->config;
	arm *a = &f->arms[variant][format];
	rv_subject base;
	if (na == NULL && 1e-9 * (double)rv_now_ns() > deadline_s)
		na = "budget";
	if (na != NULL) {
		snprintf(a->quality.na, sizeof a->quality.na, "%s", na);
		return RV_OK;
	}
	RV_TRY(rv_subject_open(&base, c, RV_VARIANT_BASE, formats[Q4_K_M].text));
	rv_status status = rv_quality_measure(c, a->who, base, &a->quality);
	rv_subject_close(&base);
	return status;
}

static rv_status setup(const rv_experiment *exp, const rv_run_config *c, const rv_point *points,
                       int n_points, void *user) {
	fixture *f = user;
	double deadline_s = 1e-9 * (double)rv_now_ns() + QUALITY_SHARE * exp->budget_s[c->profile];
	f->config = c;
	rv_model *source = NULL;
	RV_TRY(rv_model_open(&source, c->inputs.model_path, NULL));
	const rv_hparams *hp = rv_model_hparams(source);
	const char *na = rv_quality_na(c->profile, source);
	f->is_medium = is_medium(hp);
	f->size = scale_for(c->profile, hp);
	rv_random_tokens(f->tokens, MAX_TOKENS, c->seed, hp->n_vocab);
	rv_model_release(source);
	rv_power_find(&f->power, RV_POWER_FOLDER);
	for (int i = 0; i < n_points; i++) {
		if (c->cancelled(c->user))
			return rv_fail(RV_ERR_CANCELLED, "interrupted");
		RV_TRY(open_arm(f, points[i].values[VARIANT], points[i].values[FORMAT]));
		if (points[i].values[SPECULATIVE] == ON)
			RV_TRY(rv_spec_bench_open(&f->spec, c, formats[points[i].values[FORMAT]].text,
			                          SPEC_PROMPTS, SPEC_TOKENS));
	}
	for (int i = 0; i < n_points; i++)
		RV_TRY(ask_arm(f, points[i].values[VARIANT], points[i].values[FORMAT], na, deadline_s));
	return RV_OK;
}

/* ---- one repetition ---- */

static rv_status measure_speed(const fixture *f, const arm *a, rv_record *record) {
	double before[RV_MAX_PACKAGES], after[RV_MAX_PACKAGES], seconds = 0;
	RV_TRY(rv_power_read(&f->power, before));
	RV_TRY(rv_time_work(rv_decode_run, &a->decode, a->repeats, &seconds));
	RV_TRY(rv_power_read(&f->power, after));
	double tg = (double)f->size.tg_tokens * a->repeats / seconds;
	record->values[TG] = tg;
	record->values[TG_ROOFLINE] = 100 * tg / a->tg_bound;
	if (f->power.na == NULL)
		record->values[POWER] = rv_power_joules(&f->power, before, after) / seconds;
	else
		rv_record_na(record, POWER, f->power.na);
	return RV_OK;
}

/* A prompt of the small sets continued at temperature 0, 4 tokens drafted a round. */
static rv_status measure_drafting(const fixture *f, int repetition, rv_record *record) {
	const rv_spec_options o = rv_spec_defaults();
	int prompt = repetition % SPEC_PROMPTS;
	rv_speculator *s;
	double ns = 0;
	RV_TRY(rv_speculator_create(&s, f->spec.target, f->spec.draft, &o));
	rv_status status = rv_spec_bench_read(&f->spec, s, prompt);
	if (status == RV_OK)
		status = rv_spec_bench_decode(&f->spec, s, 0, prompt, 0, NULL, &ns);
	rv_speculator_destroy(s);
	if (status != RV_OK)
		return status;
	record->values[TG] = (SPEC_TOKENS - 1) * 1e9 / ns;
	rv_record_na(record, TG_ROOFLINE, "a round reads the weights once for several tokens");
	rv_record_na(record, POWER,
	             f->power.na != NULL ? f->power.na : "texts are too short for the counters");
	return RV_OK;
}

/* Quality with a draft is that of the target alone: at temperature 0 its texts are the same bits. */
static rv_status run(void *user, const rv_point *point, int repetition, rv_record *record) {
	const fixture *f = user;
	const arm *a = &f->arms[point->values[VARIANT]][point->values[FORMAT]];
	const int drafting = point->values[SPECULATIVE] == ON;
	double bytes[2];
	RV_TRY(measure_memory(f->config, &f->size, a->who, drafting ? f->spec.draft_model : NULL,
	                      bytes));
	record->values[MEMORY_MB] = bytes[0] * 1e-6;
	record->values[MAPPED_MB] = bytes[1] * 1e-6;
	if (f->is_medium)
		record->values[MEMORY_GB] = (bytes[0] + bytes[1]) * 1e-9;
	else
		rv_record_na(record, MEMORY_GB, "model is not of RuvLTRA-Medium's shape");
	const rv_quality *q = &a->quality;
	if (repetition == 0)
		rv_quality_record(record, QUALITY, &q->ratio, q->na[0] != '\0' ? q->na : q->ratio_na);
	return drafting ? measure_drafting(f, repetition, record) : measure_speed(f, a, record);
}

/* The documented configurations: every format of the base, the variants and speculation in Q4_K_M. */
static int has_point(const rv_experiment *exp, const rv_point *point) {
	(void)exp;
	int variant = point->values[VARIANT], speculative = point->values[SPECULATIVE];
	return (variant == RV_VARIANT_BASE && speculative == OFF) ||
	       (point->values[FORMAT] == Q4_K_M && (variant == RV_VARIANT_BASE || speculative == OFF));
}

static const char *not_run(const rv_experiment *exp, const rv_run_config *config,
                           const rv_point *point) {
	char path[4096];
	(void)exp;
	if (point->values[SPECULATIVE] == ON &&
	    rv_spec_find_draft(config->inputs.model_path, path, sizeof path) != RV_OK)
		return "no draft model beside this one";
	return rv_variant_na(config, (rv_variant)point->values[VARIANT]);
}

static const rv_experiment inference = {
        .id = "T2",
        .name = "t2_inference",
        .title = "Inference configurations",
        .about = "Every configuration decodes one sequence, token by token, in turns and in a "
                 "seeded shuffled order. Sampling is left out: its cost depends on how peaked "
                 "trained logits are. With a draft (4 tokens a round, temperature 0) it continues "
                 "prompts of the small sets instead, for a draft can only be right about text; "
                 "sampling is in there. Memory is the peak of anonymous and shared memory of a fresh "
                 "process that loads the model with default options (F16 cache), reads a prompt "
                 "and decodes; pages of mapped files (model, program, libraries) stand beside it, "
                 "because the system can take them back. The documented gigabytes are those of "
                 "RuvLTRA-Medium: they are held against the sum of both, for its shape only. Power is "
                 "the energy of the "
                 "processor packages. Quality is that of the small sets in "
                 "datasets/. " RV_QUALITY_MMLU_NOTE,
        .documented = "t2_inference.csv",
        .plot = "t2_inference",
        .params = params,
        .n_params = N_PARAMS,
        .metrics = metrics,
        .n_metrics = N_METRICS,
        .budget_s = {15, 40, 1800},
        .limit_s = {14, 35, 0},
        .min_n = 10,
        .max_n = {10, 20, 15},
        .baseline = "variant=base;format=Q4_K_M;speculative=off",
        .has_point = has_point,
        .not_run = not_run,
        .prepare = prepare,
        .fixture_bytes = sizeof(fixture),
        .setup = setup,
        .run = run,
        .teardown = teardown,
};

int main(int argc, char **argv) {
	if (argc == 8 && strcmp(argv[1], MEMORY_COMMAND) == 0)
		return memory_main(argv + 2);
	return rv_experiment_main(argc, argv, &inference);
}
