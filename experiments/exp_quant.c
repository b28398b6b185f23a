/* T1: quantization formats: size, loss against the unquantized model, speed. */
#include "base/mem.h"
#include "base/sysinfo.h"
#include "base/vm.h"
#include "engine/context.h"
#include "engine/sampler.h"
#include "eval/divergence.h"
#include "lab/experiment.h"
#include "lab/metrics.h"
#include "lab/models.h"
#include "lab/quality.h"
#include "lab/speed.h"
#include "model/model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- declaration ---- */

#define SOURCE "source" /* the unquantized model itself */

static const rv_param_value formats[] = {
        {SOURCE, 0, RV_PROFILE_SMOKE}, {"F16", 0, RV_PROFILE_SMOKE},    {"Q8_0", 0, RV_PROFILE_SMOKE},
        {"Q6_K", 0, RV_PROFILE_SMOKE}, {"Q5_K_M", 0, RV_PROFILE_SMOKE}, {"Q4_K_M", 0, RV_PROFILE_SMOKE},
        {"Q4_0", 0, RV_PROFILE_SMOKE}, {"Mixed", 0, RV_PROFILE_SMOKE},
};
enum { N_FORMATS = sizeof formats / sizeof formats[0] };

static const rv_param params[] = {
        {"format", "", "type or mix the model is quantized to", RV_PARAM_QUERY, RV_PARAM_TEXT, formats,
         N_FORMATS},
};

enum {
	BITS,
	FALLBACKS,
	FILE_MB,
	BYTES_PER_PARAM,
	CROSS_ENTROPY,
	KL,
	KL_SE,
	SAME_TOP,
	RISE,
	QUALITY,
	QUALITY_FROM,
	QUALITY_TO,
	QUALITY_LOSS,
	QUALITY_LOSS_FROM,
	QUALITY_LOSS_TO,
	TG,
	TG_ROOFLINE,
	PP,
	MEDIUM_BYTES,
	MEDIUM_GB,
	N_METRICS
};

static const rv_experiment_metric metrics[N_METRICS] = {
        [BITS] = {"bits_per_weight", "bits", "bits / weight", "bits stored, all tensors / parameters",
                  RV_LOWER, 1, 0, NULL, "%.3f"},
        [FALLBACKS] = {"fallbacks", "tensors", "fall-backs",
                       "tensors whose row length did not fit the wanted type", RV_LOWER, 1, 0, NULL,
                       "%.0f"},
        [FILE_MB] = {"file_mb", "MB", "file", "file size, 1e6 bytes", RV_LOWER, 1, 0, NULL, "%.2f"},
        [BYTES_PER_PARAM] = {"bytes_per_param", "bytes", "bytes / parameter", "bits_per_weight / 8",
                             RV_LOWER, 1, 1, NULL, "%.4f"},
        [CROSS_ENTROPY] = {"cross_entropy", "nats", "cross-entropy",
                           "mean -log p(next token) on the sampled sequences", RV_LOWER, 1, 0, NULL,
                           "%.4f"},
        [KL] = {"kl", "nats", "KL divergence", "mean over positions of sum p log(p / q), p unquantized",
                RV_LOWER, 1, 0, NULL, "%.2e"},
        [KL_SE] = {"kl_se", "nats", "KL standard error", "standard error of kl over the sequences",
                   RV_LOWER, 1, 1, NULL, "%.2e"},
        [SAME_TOP] = {"same_top_pct", "%", "same top", "positions with the same most probable token",
                      RV_HIGHER, 1, 0, NULL, "%.2f"},
        [RISE] = {"perplexity_rise_pct", "%", "perplexity rise",
                  "exp(KL) - 1: expected rise of perplexity on the model's own text", RV_LOWER, 1, 0,
                  NULL, "%.3f"},
        [QUALITY] = RV_METRIC_QUALITY("; interval by bootstrap over items"),
        [QUALITY_LOSS] = {"quality_loss_pct", "%", "quality loss",
                          "1 - quality / that of the unquantized model; interval by paired bootstrap "
                          "over items",
                          RV_LOWER, 1, 0, NULL, "%.2f"},
        [QUALITY_LOSS_FROM] = RV_METRIC_ENDS("quality_loss_pct", "%", "quality loss", RV_LOWER, "%.2f"),
        [TG] = RV_METRIC_DECODE,
        [PP] = {"pp_tok_s", "tok/s", "prefill", "prompt tokens evaluated a second", RV_HIGHER, 0, 0,
                NULL, "%.1f"},
        [MEDIUM_BYTES] = {"medium_bytes_per_param", "bytes", "medium: bytes / parameter",
                          "by plan for the shape of RuvLTRA-Medium", RV_LOWER, 1, 1, NULL, "%.4f"},
        [MEDIUM_GB] = {"medium_gb", "GB", "medium: size",
                       "tensor data of RuvLTRA-Medium in this format, by plan, 1e9 bytes", RV_LOWER, 1,
                       0, NULL, "%.3f"},
};

enum { TYPES, N_FACTS };
static const rv_fact facts[N_FACTS] = {
        [TYPES] = {"types", "tensor types", "number of tensors of each type"},
};

/* ---- how much is measured ---- */

typedef struct scale {
	int n_seqs, n_tokens; /* quality: sampled sequences, positions scored in each */
	int tg_tokens, pp_tokens;
	double sample_s; /* at least this long */
} scale;

static const scale scales[RV_PROFILE_COUNT] = {
        [RV_PROFILE_SMOKE] = {4, 64, 16, 64, 0.02},
        [RV_PROFILE_QUICK] = {16, 128, 64, 256, 0.03},
        [RV_PROFILE_FULL] = {16, 128, 32, 512, 0.03},
};
#define QUALITY_SHARE 0.5    /* of the budget, after which no further format is asked */
#define MAX_LOGITS_BYTES 2e9 /* of the unquantized model, kept to compare with */

static const char *const default_preset[RV_PROFILE_COUNT] = {"nano", "nano", "medium"};

/* The profile's scale, cut to what the model can hold. */
static scale scale_for(rv_profile profile, const rv_hparams *hp) {
	scale s = scales[profile];
	int limit = hp->n_ctx_train < 4096 ? (int)hp->n_ctx_train : 4096;
	int *const lengths[] = {&s.n_tokens, &s.tg_tokens, &s.pp_tokens};
	for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
		if (*lengths[i] > limit)
			*lengths[i] = limit;
	while (s.n_seqs > 1 &&
	       (double)s.n_seqs * s.n_tokens * (double)hp->n_vocab * 4 > MAX_LOGITS_BYTES)
		s.n_seqs--;
	return s;
}

static rv_status prepare(const rv_experiment *exp, const rv_run_config *config, rv_inputs *in) {
	(void)exp;
	rv_model *model;
	RV_TRY(rv_lab_open_model(config, default_preset[config->profile], &model, in));
	scale s = scale_for(config->profile, rv_model_hparams(model));
	char quality[128];
	rv_quality_settings(config->profile, RV_QUALITY_BRIEF, quality, sizeof quality);
	snprintf(in->settings, sizeof in->settings,
	         "divergence %dx%d tg %d pp %d sample %g s quality: %s", s.n_seqs, s.n_tokens,
	         s.tg_tokens, s.pp_tokens, s.sample_s, quality);
	rv_model_release(model);
	return rv_quality_data_sha256(config, RV_QUALITY_BRIEF, in->data_sha256);
}

/* ---- the fixture: every format's model, open at once ---- */

typedef struct arm {
	rv_model *model;
	rv_context *ctx;
	rv_token_run decode, prefill;
	int n_fallbacks;
	double tg_bound; /* tokens a second at most, by memory */
	int tg_repeats, pp_repeats;
	rv_divergence divergence; /* unless synth */
	rv_quality quality;
} arm;

typedef struct fixture {
	const rv_run_config *config;
	scale size;
	rv_model *source;
	int synth;
	int32_t *prompt;          /* random tokens for speed */
	arm arms[N_FORMATS];      /* by format; model NULL: not wanted */
	rv_divergence_base *base; /* made at the first measurement */
} fixture;

static void teardown(void *user) {
	fixture *f = user;
	for (int i = 0; i < N_FORMATS; i++) {
		rv_context_destroy(f->arms[i].ctx);
		rv_model_release(f->arms[i].model);
	}
	rv_divergence_base_destroy(f->base);
	rv_model_release(f->source);
	rv_free(f->prompt);
}

/* ---- speed ---- */

static rv_status measure_speed(const fixture *f, const arm *a, rv_record *record) {
	double tg_s = 0, pp_s = 0;
	RV_TRY(rv_time_work(rv_decode_run, &a->decode, a->tg_repeats, &tg_s));
	RV_TRY(rv_time_work(rv_prefill_run, &a->prefill, a->pp_repeats, &pp_s));
	double tg = (double)f->size.tg_tokens * a->tg_repeats / tg_s;
	record->values[TG] = tg;
	record->values[TG_ROOFLINE] = 100 * tg / a->tg_bound;
	record->values[PP] = (double)f->size.pp_tokens * a->pp_repeats / pp_s;
	return RV_OK;
}

/* ---- set-up ---- */

static rv_status open_format(fixture *f, int format) {
	const rv_run_config *c = f->config;
	arm *a = &f->arms[format];
	char path[4096];
	if (strcmp(formats[format].text, SOURCE) == 0) {
		a->model = rv_model_retain(f->source);
	} else {
		const rv_quant_target *target = rv_quant_target_by_name(formats[format].text);
		if (target == NULL)
			return rv_fail(RV_ERR_INVALID, "%s: unknown type", formats[format].text);
		rv_quant_plan plan;
		const rv_quant_options options = {.target = target};
		RV_TRY(rv_quant_plan_file(&plan, rv_model_gguf(f->source), &options));
		a->n_fallbacks = plan.n_fallbacks;
		rv_quant_plan_free(&plan);
		RV_TRY(rv_lab_quantized(c, c->inputs.model_path, c->inputs.model_sha256, target, path,
		                        sizeof path));
		RV_TRY(rv_model_open(&a->model, path, NULL));
	}
	rv_context_options options = rv_context_defaults();
	options.n_threads = c->n_threads;
	options.n_ctx = f->size.pp_tokens;
	if (options.n_ctx < f->size.tg_tokens)
		options.n_ctx = f->size.tg_tokens;
	if (options.n_ctx < f->size.n_tokens)
		options.n_ctx = f->size.n_tokens;
	RV_TRY(rv_context_create(&a->ctx, a->model, &options));
	rv_context_set_cancel(a->ctx, c->cancelled, c->user);
	a->decode = (rv_token_run){a->ctx, f->prompt, f->size.tg_tokens};
	a->prefill = (rv_token_run){a->ctx, f->prompt, f->size.pp_tokens};
	RV_TRY(rv_repeats_for(rv_decode_run, &a->decode, f->size.sample_s, &a->tg_repeats));
	RV_TRY(rv_repeats_for(rv_prefill_run, &a->prefill, f->size.sample_s, &a->pp_repeats));
	return rv_decode_bound(c, a->ctx, f->size.tg_tokens, &a->tg_bound);
}

/* ---- what is taken once: here, for a repetition's cost says how many more there will be ---- */

static rv_status measure_divergence(fixture *f, int format) {
	if (f->synth)
		return RV_OK;
	if (f->base == NULL) {
		const rv_divergence_options options = {.n_seqs = f->size.n_seqs,
		                                       .n_tokens = f->size.n_tokens,
		                                       .seed = f->config->seed,
		                                       .n_threads = f->config->n_threads,
		                                       .cancelled = f->config->cancelled,
		                                       .user = f->config->user};
		RV_TRY(rv_divergence_base_create(&f->base, f->source, &options));
	}
	return rv_divergence_measure(f->base, f->arms[format].ctx, &f->arms[format].divergence);
}

/* The model itself stands for its own type, and the formats nobody documented wait for `full`. */
static rv_status ask_format(fixture *f, int format, double deadline_s) {
	const rv_run_config *c = f->config;
	arm *a = &f->arms[format];
	const char *text = formats[format].text, *na = rv_quality_na(c->profile, f->source);
	if (na == NULL && c->profile != RV_PROFILE_FULL &&
	    (strcmp(text, "Q6_K") == 0 || strcmp(text, "Q4_0") == 0))
		na = "asked in profile full only";
	if (na == NULL && 1e-9 * (double)rv_now_ns() > deadline_s)
		na = "budget";
	if (na != NULL) {
		snprintf(a->quality.na, sizeof a->quality.na, "%s", na);
		return RV_OK;
	}
	int same = strcmp(text, rv_model_type_name(f->source)) == 0;
	return rv_quality_measure(c, (rv_subject){same ? f->source : a->model, NULL},
	                          (rv_subject){f->source, NULL}, &a->quality);
}

static rv_status setup(const rv_experiment *exp, const rv_run_config *c, const rv_point *points,
                       int n_points, void *user) {
	fixture *f = user;
	double deadline_s = 1e-9 * (double)rv_now_ns() + QUALITY_SHARE * exp->budget_s[c->profile];
	f->config = c;
	RV_TRY(rv_model_open(&f->source, c->inputs.model_path, NULL));
	const rv_hparams *hp = rv_model_hparams(f->source);
	f->synth = rv_lab_is_synth(rv_model_gguf(f->source));
	f->size = scale_for(c->profile, hp);
	RV_TRY(RV_ALLOC(&f->prompt, 4096, "prompt"));
	rv_random_tokens(f->prompt, 4096, c->seed, hp->n_vocab);
	for (int i = 0; i < n_points; i++) {
		if (c->cancelled(c->user))
			return rv_fail(RV_ERR_CANCELLED, "interrupted");
		RV_TRY(open_format(f, points[i].values[0]));
	}
	for (int i = 0; i < n_points; i++)
		RV_TRY(measure_divergence(f, points[i].values[0]));
	for (int i = 0; i < n_points; i++)
		RV_TRY(ask_format(f, points[i].values[0], deadline_s));
	return RV_OK;
}

/* ---- what does not change from repetition to repetition ---- */

static void measure_size(const arm *a, rv_record *record) {
	const rv_gguf *gguf = rv_model_gguf(a->model);
	int count[RV_TYPE_LIMIT] = {0};
	for (size_t i = 0; i < rv_gguf_n_tensors(gguf); i++)
		count[rv_gguf_tensor_at(gguf, i)->type]++;
	char text[RV_REASON_BYTES] = "";
	size_t at = 0;
	for (int t = 0; t < RV_TYPE_LIMIT && at < sizeof text; t++)
		if (count[t] > 0)
			at += (size_t)snprintf(text + at, sizeof text - at, "%s%d %s",
			                       at > 0 ? ", " : "", count[t], rv_type_get(t)->name);
	rv_record_fact(record, TYPES, "%s", text);
	double bytes = (double)rv_model_weight_bytes(a->model), n = (double)rv_model_n_params(a->model);
	record->values[BITS] = 8 * bytes / n;
	record->values[BYTES_PER_PARAM] = bytes / n;
	record->values[FILE_MB] = (double)rv_gguf_file_bytes(gguf) * 1e-6;
	record->values[FALLBACKS] = a->n_fallbacks;
}

static rv_status measure_medium(int format, rv_record *record) {
	if (strcmp(formats[format].text, SOURCE) == 0) {
		rv_record_na(record, MEDIUM_BYTES, "not a format");
		rv_record_na(record, MEDIUM_GB, "not a format");
		return RV_OK;
	}
	const rv_preset *medium = rv_preset_by_name("medium");
	const rv_quant_options options = {.target = rv_quant_target_by_name(formats[format].text)};
	rv_quant_plan plan;
	RV_TRY(rv_quant_plan_shape(&plan, rv_arch_by_name(medium->arch, strlen(medium->arch)),
	                           &medium->hp, &options));
	record->values[MEDIUM_BYTES] = (double)plan.to_bytes / (double)plan.n_params;
	record->values[MEDIUM_GB] = (double)plan.to_bytes * 1e-9;
	rv_quant_plan_free(&plan);
	return RV_OK;
}

static void put_divergence(const fixture *f, const arm *a, rv_record *record) {
	const rv_divergence *d = &a->divergence;
	const struct {
		int metric;
		double value;
	} all[] = {{CROSS_ENTROPY, d->cross_entropy},
	           {KL, d->kl},
	           {KL_SE, d->kl_se},
	           {SAME_TOP, 100 * d->same_top},
	           {RISE, 100 * expm1(d->kl)}};
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		if (f->synth)
			rv_record_na(record, all[i].metric, "untrained weights");
		else
			record->values[all[i].metric] = all[i].value;
}

static void put_quality(const arm *a, rv_record *record) {
	const rv_quality *q = &a->quality;
	const rv_interval loss = {1 - q->ratio.value, 1 - q->ratio.hi95, 1 - q->ratio.lo95};
	rv_quality_record(record, QUALITY, &q->mean, q->na);
	rv_quality_record(record, QUALITY_LOSS, &loss, q->na[0] != '\0' ? q->na : q->ratio_na);
}

static rv_status run(void *user, const rv_point *point, int repetition, rv_record *record) {
	fixture *f = user;
	int format = point->values[0];
	const arm *a = &f->arms[format];
	if (repetition == 0) {
		measure_size(a, record);
		RV_TRY(measure_medium(format, record));
		put_divergence(f, a, record);
		put_quality(a, record);
	}
	return measure_speed(f, a, record);
}

static const rv_experiment quantization = {
        .id = "T1",
        .name = "t1_quantization",
        .title = "Quantization formats",
        .about = "The model is quantized to every format. Its distance from the unquantized model is "
                 "taken on sequences sampled from that one under the seed at temperature 1: "
                 "cross-entropy of the sampled tokens, KL divergence of the whole distributions, and "
                 "the rise of perplexity to be expected on the model's own text, exp(KL) - 1. Quality "
                 "is that of the small sets in datasets/, its loss against the unquantized model on "
                 "the same items. " RV_QUALITY_MMLU_NOTE " Formats are timed in turns, in a seeded "
                 "shuffled order. The roofline of decoding is the read bandwidth of the same threads "
                 "over the bytes read a token; weights that fit in the cache are held against the "
                 "cache's bandwidth. The documents speak of RuvLTRA-Medium: its sizes are computed "
                 "from its shape, tensor by tensor.",
        .documented = "t1_quantization.csv",
        .plot = "t1_quantization",
        .params = params,
        .n_params = 1,
        .metrics = metrics,
        .n_metrics = N_METRICS,
        .facts = facts,
        .n_facts = N_FACTS,
        .budget_s = {25, 50, 1800},
        .limit_s = {20, 45, 0},
        .min_n = 10,
        .max_n = {10, 20, 15},
        .baseline = "format=F16",
        .prepare = prepare,
        .fixture_bytes = sizeof(fixture),
        .setup = setup,
        .run = run,
        .teardown = teardown,
};

int main(int argc, char **argv) {
	return rv_experiment_main(argc, argv, &quantization);
}
