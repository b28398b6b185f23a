/* T17: quantized keys and values, and contexts longer than the trained one: perplexity, divergence,
 * bytes, decode speed. */
#include "base/mem.h"
#include "base/sysinfo.h"
#include "engine/kv_tiers.h"
#include "lab/experiment.h"
#include "lab/long_text.h"
#include "lab/models.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- declaration ---- */

#define MIX "mix" /* four or two bits a layer, learned */
static const rv_param_value formats[] = {
        {"f16", 0, RV_PROFILE_SMOKE},      {"q8", 0, RV_PROFILE_SMOKE},
        {"q4", 0, RV_PROFILE_QUICK},       {"q2", 0, RV_PROFILE_QUICK},
        {"kivi4", 0, RV_PROFILE_SMOKE},    {"kivi2", 0, RV_PROFILE_SMOKE},
        {"kvquant4", 0, RV_PROFILE_QUICK}, {"kvquant2", 0, RV_PROFILE_QUICK},
        {"squat4", 0, RV_PROFILE_QUICK},   {"squat2", 0, RV_PROFILE_QUICK},
        {MIX, 0, RV_PROFILE_QUICK}};
static const rv_param_value policies[] = {{"all", 0, RV_PROFILE_SMOKE},
                                          {"three-tier", 0, RV_PROFILE_QUICK},
                                          {"three-tier-kivi", 0, RV_PROFILE_QUICK}};
static const rv_param_value scalings[] = {{"none", RV_ROPE_NONE, RV_PROFILE_SMOKE},
                                          {"ntk", RV_ROPE_NTK, RV_PROFILE_QUICK},
                                          {"yarn", RV_ROPE_YARN, RV_PROFILE_QUICK}};
static const rv_param_value lengths[] = {
        {"1", 1, RV_PROFILE_SMOKE}, {"2", 2, RV_PROFILE_QUICK}, {"4", 4, RV_PROFILE_FULL}};
#define COUNT(a) (int)(sizeof(a) / sizeof(a)[0])
enum { KV, POLICY, SCALING, LENGTH, N_PARAMS };
static const rv_param params[N_PARAMS] = {
        [KV] = {"kv", "", "format of keys and values", RV_PARAM_QUERY, RV_PARAM_TEXT, formats,
                COUNT(formats)},
        [POLICY] = {"policy", "", "all pages in it as soon as they are complete, or tiers by age",
                    RV_PARAM_QUERY, RV_PARAM_TEXT, policies, COUNT(policies)},
        [SCALING] = {"scaling", "", "of rotary positions", RV_PARAM_QUERY, RV_PARAM_TEXT, scalings,
                     COUNT(scalings)},
        [LENGTH] = {"length", "x", "length of the context, of the trained one", RV_PARAM_QUERY,
                    RV_PARAM_NUMBER, lengths, COUNT(lengths)},
};
enum { ALL, F16 = 0, ONCE = 0, UNSCALED = 0 };

enum {
	BITS,
	COMPRESSION,
	PERPLEXITY,
	PERPLEXITY_SE,
	INCREASE,
	KL,
	KL_SE,
	SAME_TOP,
	DECODE_RATIO,
	CONTEXT,
	N_METRICS
};
/* clang-format off */
static const rv_experiment_metric metrics[N_METRICS] = {
	[BITS] = {"bits", "bits", "bits / value", "bits stored a key or value element that is no longer in the page in work, scales included", RV_LOWER, 1, 0, NULL, "%.3f"},
	[COMPRESSION] = {"compression", "x", "compression", "bytes of F16 / bytes, of the complete pages of the sequence", RV_HIGHER, 1, 0, NULL, "%.2f"},
	[PERPLEXITY] = {"perplexity", "", "perplexity", "on held-out documents; length 1: the second half of the text; longer: what lies beyond the trained length", RV_LOWER, 1, 0, NULL, "%.4f"},
	[PERPLEXITY_SE] = {"perplexity_se", "", "standard error", "of the perplexity, over tokens", RV_LOWER, 1, 1, NULL, "%.4f"},
	[INCREASE] = {"perplexity_increase", "perplexity", "perplexity rise", "the same less that of F16", RV_LOWER, 1, 0, NULL, "%.5f"},
	[KL] = {"kl", "nats", "KL divergence", "mean over positions of sum p log(p / q), p with F16", RV_LOWER, 1, 0, NULL, "%.2e"},
	[KL_SE] = {"kl_se", "nats", "KL standard error", "standard error of kl over positions", RV_LOWER, 1, 1, NULL, "%.2e"},
	[SAME_TOP] = {"same_top_pct", "%", "same top", "positions with the same most probable token", RV_HIGHER, 1, 0, NULL, "%.2f"},
	[DECODE_RATIO] = {"decode_ratio", "x", "decode / F16", "decode speed at the end of the text / that of F16, in turns", RV_HIGHER, 0, 0, NULL, "%.3f"},
	[CONTEXT] = {"context", "tokens", "usable context", "this length if perplexity beyond the trained length is at most 10 % above that within it, else the trained length", RV_HIGHER, 1, 1, NULL, "%.0f"},
};
/* clang-format on */

enum { HOW, N_FACTS };
static const rv_fact facts[N_FACTS] = {[HOW] = {"layers", "layers", "format of each layer, of a mix"}};

/* ---- how much is measured ---- */

typedef struct scale {
	int64_t text;    /* tokens, at most the trained length */
	int64_t trained; /* length that 2 and 4 are multiples of, at most the model's */
	int64_t calibration;
	int n_decoded;
	double sample_s;
} scale;
static const scale scales[RV_PROFILE_COUNT] = {
        [RV_PROFILE_SMOKE] = {512, 4096, 128, 2, 0.005},
        [RV_PROFILE_QUICK] = {1536, 4096, 256, 8, 0.02},
        [RV_PROFILE_FULL] = {4096, 4096, 1024, 16, 0.1},
};
enum { PAGE = 64, MAX_LAYERS = 64 };
#define SETUP_SHARE 0.6 /* of the budget, after which nothing further is read */

static rv_status prepare(const rv_experiment *exp, const rv_run_config *config, rv_inputs *in) {
	(void)exp;
	rv_model *model;
	const scale *s = &scales[config->profile];
	RV_TRY(rv_lab_open_model(config, "nano", &model, in));
	rv_model_release(model);
	snprintf(in->settings, sizeof in->settings,
	         "text %lld trained %lld calibration %lld decode %d sample %g s", (long long)s->text,
	         (long long)s->trained, (long long)s->calibration, s->n_decoded, s->sample_s);
	return rv_long_text_sha256(config, in->data_sha256);
}

/* ---- the fixture ---- */

typedef struct arm {
	rv_context *ctx; /* holds all of the text but its last token */
	rv_kv_policy policy;
	rv_perplexity text;
	double bits, compression;
} arm;

typedef struct fixture {
	const rv_run_config *config;
	scale size;
	rv_model *model;
	int32_t *tokens; /* of the text, and behind them those of the calibration */
	int64_t n, trained;
	rv_kv_calibration *calibration;
	float *logits; /* of F16 */
	arm arms[COUNT(policies)][COUNT(formats)];
	rv_perplexity longer[COUNT(scalings)][COUNT(lengths)];
	char mix[MAX_LAYERS + 1];
	rv_kv_tier mix_tier;
} fixture;

static void teardown(void *user) {
	fixture *f = user;
	for (int i = 0; i < COUNT(policies) * COUNT(formats); i++)
		rv_context_destroy(f->arms[i / COUNT(formats)][i % COUNT(formats)].ctx);
	rv_kv_calibration_destroy(f->calibration);
	rv_free(f->logits);
	rv_free(f->tokens);
	rv_model_release(f->model);
}

static rv_status open_context(const fixture *f, const rv_kv_policy *policy, int64_t n_ctx, int rope,
                              rv_context **out) {
	rv_context_options o = rv_context_defaults();
	o.n_ctx = n_ctx;
	o.page_size = PAGE;
	o.kv_policy = policy;
	o.kv_calibration = f->calibration;
	o.rope.kind = (rv_rope_kind)rope;
	return rv_lab_context(f->config, f->model, &o, out);
}

/* ---- the learned mix ---- */

/* Divergence when one layer alone has two bits, on the text of the calibration. */
static rv_status sensitivity(const fixture *f, int64_t layer, float *logits, double *out) {
	const int64_t n = f->size.calibration;
	rv_kv_policy policy = {.name = "one layer",
	                       .n_tiers = 1,
	                       .tiers = {{.tokens = INT64_MAX,
	                                  .format = RV_KV_F16,
	                                  .ranges = {{(int32_t)layer, (int32_t)layer, RV_KV_KIVI2}},
	                                  .n_ranges = layer >= 0}}};
	rv_context *ctx;
	rv_perplexity p;
	RV_TRY(open_context(f, &policy, n, RV_ROPE_MODEL, &ctx));
	rv_status status = rv_long_text_score(ctx, f->tokens + f->n, n, n / 2, logits, layer >= 0, &p);
	rv_context_destroy(ctx);
	*out = layer >= 0 ? p.kl.mean.value : 0;
	return status;
}

static void give_four_bits(fixture *f, const double *cost, int64_t n_layers) {
	f->mix_tier = (rv_kv_tier){.tokens = INT64_MAX, .format = RV_KV_KIVI2};
	memset(f->mix, '2', (size_t)n_layers);
	for (int64_t k = 0; k < n_layers / 2; k++) { /* the most sensitive half */
		int64_t worst = -1;
		for (int64_t i = 0; i < n_layers; i++)
			if (f->mix[i] == '2' && (worst < 0 || cost[i] > cost[worst]))
				worst = i;
		f->mix[worst] = '4';
	}
	for (int64_t i = 0; i < n_layers; i++) { /* runs of four */
		rv_kv_layer_range *r = &f->mix_tier.ranges[f->mix_tier.n_ranges];
		if (f->mix[i] != '4' || (i > 0 && f->mix[i - 1] == '4'))
			continue;
		int64_t to = i;
		while (to + 1 < n_layers && f->mix[to + 1] == '4')
			to++;
		if (f->mix_tier.n_ranges < RV_KV_RANGES) {
			*r = (rv_kv_layer_range){(int32_t)i, (int32_t)to, RV_KV_KIVI4};
			f->mix_tier.n_ranges++;
		} else {
			memset(f->mix + i, '2', (size_t)(to - i + 1));
		}
	}
}

static rv_status learn_mix(fixture *f) {
	const rv_hparams *hp = rv_model_hparams(f->model);
	double cost[MAX_LAYERS], none;
	float *logits;
	if (hp->n_layers > MAX_LAYERS)
		return rv_fail(RV_ERR_UNSUPPORTED, "a mix of %lld layers", (long long)hp->n_layers);
	RV_TRY(RV_ALLOC(&logits, f->size.calibration * hp->n_vocab, "logits"));
	rv_status status = sensitivity(f, -1, logits, &none);
	for (int64_t i = 0; i < hp->n_layers && status == RV_OK; i++)
		status = sensitivity(f, i, logits, &cost[i]);
	rv_free(logits);
	RV_TRY(status);
	give_four_bits(f, cost, hp->n_layers);
	return RV_OK;
}

/* ---- one arm ---- */

/* Tiers of 4096 tokens are scaled to the text, so that each has its share. */
static rv_status make_policy(const fixture *f, int policy, int format, rv_kv_policy *out) {
	if (policy != ALL) {
		char text[96];
		snprintf(text, sizeof text, "%s:tail=%lld:warm=%lld", policies[policy].text,
		         (long long)f->n / 16, (long long)f->n / 2);
		return rv_kv_policy_parse(out, text);
	}
	*out = (rv_kv_policy){.name = "all", .n_tiers = format != F16};
	out->tiers[0] = strcmp(formats[format].text, MIX) == 0
	                        ? f->mix_tier
	                        : (rv_kv_tier){.tokens = INT64_MAX,
	                                       .format = rv_kv_format_by_name(formats[format].text)};
	return RV_OK;
}

/* Bytes of the complete pages against those of F16. */
static void note_bytes(const fixture *f, arm *a) {
	const rv_kv_pages *kv = rv_context_kv_pages(a->ctx);
	const int64_t n_layers = rv_model_hparams(f->model)->n_layers;
	const rv_kv_page *table;
	double bytes = 0, plain = 0;
	rv_kv_seq_pages(kv, 0, &table);
	for (int64_t i = 0; i < (f->n - 1) / PAGE; i++)
		for (int64_t layer = 0; layer < n_layers; layer++) {
			bytes += (double)rv_kv_pages_layer_bytes(kv, rv_kv_page_format(kv, table[i]),
			                                         layer);
			plain += (double)rv_kv_pages_layer_bytes(kv, RV_KV_F16, layer);
		}
	a->bits = 16 * bytes / plain;
	a->compression = plain / bytes;
}

static rv_status open_arm(fixture *f, int policy, int format) {
	arm *a = &f->arms[policy][format];
	const int base = policy == ALL && format == F16;
	if (a->ctx)
		return RV_OK;
	RV_TRY(make_policy(f, policy, format, &a->policy));
	RV_TRY(open_context(f, &a->policy, f->n, RV_ROPE_MODEL, &a->ctx));
	RV_TRY(rv_long_text_score(a->ctx, f->tokens, f->n, f->n / 2, f->logits, !base, &a->text));
	note_bytes(f, a);
	return RV_OK;
}

static rv_status read_longer(fixture *f, int scaling, int length) {
	const int64_t n = (int64_t)lengths[length].number * f->trained;
	rv_context *ctx;
	int32_t *tokens;
	RV_TRY(rv_long_text_tokens(f->config, f->model, n, &tokens));
	rv_status status = open_context(f, NULL, n, (int)scalings[scaling].number, &ctx);
	if (status == RV_OK)
		status = rv_long_text_score(ctx, tokens, n, length == ONCE ? n / 2 : f->trained, NULL,
		                            0, &f->longer[scaling][length]);
	rv_context_destroy(ctx);
	rv_free(tokens);
	return status;
}

/* ---- set-up: everything but speed is measured once, here ---- */

static int wanted(const rv_point *points, int n, int param, const char *text) {
	for (int i = 0; i < n; i++)
		if (strstr(formats[points[i].values[param]].text, text))
			return 1;
	return 0;
}

/* Those of the trained length (longer 0) or the others. What is not reached in time stays unmeasured.
 */
static rv_status measure_points(fixture *f, const rv_point *points, int n, int longer,
                                double deadline_s) {
	for (int i = 0; i < n; i++) {
		const int *v = points[i].values;
		if (f->config->cancelled(f->config->user))
			return rv_fail(RV_ERR_CANCELLED, "interrupted");
		if (longer != (v[LENGTH] != ONCE) || 1e-9 * (double)rv_now_ns() > deadline_s)
			continue;
		if (longer && f->longer[UNSCALED][ONCE].n == 0)
			RV_TRY(read_longer(f, UNSCALED, ONCE));
		RV_TRY(longer ? read_longer(f, v[SCALING], v[LENGTH]) : open_arm(f, v[POLICY], v[KV]));
	}
	return RV_OK;
}

static rv_status setup(const rv_experiment *exp, const rv_run_config *c, const rv_point *points,
                       int n_points, void *user) {
	fixture *f = user;
	const double deadline_s = 1e-9 * (double)rv_now_ns() + SETUP_SHARE * exp->budget_s[c->profile];
	f->config = c;
	f->size = scales[c->profile];
	RV_TRY(rv_model_open(&f->model, c->inputs.model_path, NULL));
	const rv_hparams *hp = rv_model_hparams(f->model);
	f->trained = hp->n_ctx_train < f->size.trained ? hp->n_ctx_train : f->size.trained;
	f->n = f->size.text < f->trained ? f->size.text : f->trained;
	RV_TRY(rv_long_text_tokens(c, f->model, f->n + f->size.calibration, &f->tokens));
	RV_TRY(RV_ALLOC(&f->logits, f->n / 2 * hp->n_vocab, "logits"));
	if (wanted(points, n_points, KV, "quant") || wanted(points, n_points, KV, "squat"))
		RV_TRY(rv_kv_calibrate(&f->calibration, f->model, f->tokens + f->n,
		                       f->size.calibration));
	if (wanted(points, n_points, KV, MIX))
		RV_TRY(learn_mix(f));
	RV_TRY(open_arm(f, ALL, F16)); /* what all are held against */
	RV_TRY(measure_points(f, points, n_points, 0, deadline_s));
	return measure_points(f, points, n_points, 1, deadline_s);
}

/* ---- one repetition ---- */

/* A few tokens within the last page, so that none is completed. */
static rv_status decode(const fixture *f, const arm *a, double *seconds) {
	const int64_t at = f->n - PAGE / 2;
	RV_TRY(rv_seq_truncate(a->ctx, 0, at));
	int64_t start = rv_now_ns();
	for (int i = 0; i < f->size.n_decoded; i++) {
		rv_row row = {.token = f->tokens[at + i],
		              .position = (int32_t)(at + i),
		              .parent = -1,
		              .flags = RV_ROW_LOGITS};
		RV_TRY(rv_context_eval(a->ctx, &row, 1));
	}
	*seconds += 1e-9 * (double)(rv_now_ns() - start);
	return RV_OK;
}

static rv_status measure_decode(const fixture *f, const arm *a, rv_record *record) {
	const arm *base = &f->arms[ALL][F16];
	double plain = 0, own = 0, ignored = 0;
	RV_TRY(decode(f, base, &ignored));
	RV_TRY(decode(f, a, &ignored));
	for (int turn = 0; turn == 0 || plain + own < 2 * f->size.sample_s; turn++) {
		RV_TRY(decode(f, base, &plain));
		RV_TRY(decode(f, a, &own));
	}
	record->values[DECODE_RATIO] = plain / own;
	return RV_OK;
}

static void put_longer(const fixture *f, const rv_point *p, rv_record *record) {
	static const int none[] = {BITS, COMPRESSION, INCREASE, KL, KL_SE, SAME_TOP, DECODE_RATIO};
	const rv_perplexity *x = &f->longer[p->values[SCALING]][p->values[LENGTH]],
	                    *within = &f->longer[UNSCALED][ONCE];
	int usable = x->ppl.value <= 1.1 * within->ppl.value;
	record->values[PERPLEXITY] = x->ppl.value;
	record->values[PERPLEXITY_SE] = x->ppl.se;
	record->values[CONTEXT] = (double)f->trained * (usable ? lengths[p->values[LENGTH]].number : 1);
	for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
		rv_record_na(record, none[i], "a flat F16 cache of another text");
}

static rv_status run(void *user, const rv_point *p, int repetition, rv_record *record) {
	const fixture *f = user;
	if (p->values[LENGTH] != ONCE ? f->longer[p->values[SCALING]][p->values[LENGTH]].n == 0
	                              : !f->arms[p->values[POLICY]][p->values[KV]].ctx) {
		for (int m = 0; m < N_METRICS; m++)
			rv_record_na(record, m, "budget");
		return RV_OK;
	}
	if (p->values[LENGTH] != ONCE) {
		if (repetition == 0)
			put_longer(f, p, record);
		return RV_OK;
	}
	const arm *a = &f->arms[p->values[POLICY]][p->values[KV]], *base = &f->arms[ALL][F16];
	const int self = a == base;
	if (repetition == 0) {
		record->values[BITS] = a->bits;
		record->values[COMPRESSION] = a->compression;
		record->values[PERPLEXITY] = a->text.ppl.value;
		record->values[PERPLEXITY_SE] = a->text.ppl.se;
		record->values[INCREASE] = a->text.ppl.value - base->text.ppl.value;
		record->values[KL] = self ? 0 : a->text.kl.mean.value;
		record->values[KL_SE] = self ? 0 : a->text.kl.mean.se;
		record->values[SAME_TOP] = self ? 100 : 100 * a->text.same_top.value;
		rv_record_na(record, CONTEXT, "of longer texts");
		if (p->values[POLICY] == ALL && strcmp(formats[p->values[KV]].text, MIX) == 0)
			rv_record_fact(record, HOW, "kivi bits by layer: %s", f->mix);
	}
	return measure_decode(f, a, record);
}

static int has_point(const rv_experiment *exp, const rv_point *p) {
	(void)exp;
	const int *v = p->values;
	if (v[LENGTH] != ONCE)
		return v[KV] == F16 && v[POLICY] == ALL;
	return v[SCALING] == UNSCALED && (v[POLICY] == ALL || v[KV] == F16);
}

static const char *not_run(const rv_experiment *exp, const rv_run_config *config,
                           const rv_point *point) {
	rv_model *model;
	(void)exp;
	(void)point;
	if (rv_model_open(&model, config->inputs.model_path, NULL) != RV_OK)
		return NULL;
	const char *reason = rv_lab_is_synth(rv_model_gguf(model)) ? "untrained weights" : NULL;
	rv_model_release(model);
	return reason;
}

static const rv_experiment kv_quality = {
        .id = "T17",
        .name = "t17_kv_quality",
        .title = "KV quantization and context",
        .about =
                "The trained model reads held-out documents (datasets/longdocs) in pages of 64 tokens. "
                "all: a page is encoded as soon as it is complete, so that F16 holds only the page "
                "in "
                "work; the tiers of the policies have their documented shares of the text (1/16, 1/2). "
                "KIVI takes keys by channel over a page and values by token; KVQuant codes keys before "
                "rotation, with codebooks and one element of each vector apart; SQuat is KIVI with "
                "errors passed on away from the queries' main directions; codebooks and directions "
                "come "
                "from the text behind the scored one. mix: KIVI with four bits in the half of the "
                "layers "
                "whose two-bit form alone moves the predictions most, two in the others. Longer "
                "contexts "
                "have a flat F16 cache.",
        .documented = "t17_kv_quantization.csv",
        .plot = "t17_kv_quality",
        RV_EXPERIMENT_PARTS,
        RV_EXPERIMENT_FACTS,
        .budget_s = {15, 30, 600},
        .limit_s = {12, 28, 0},
        .min_n = 5,
        .max_n = {5, 10, 20},
        .has_point = has_point,
        .not_run = not_run,
};

RV_EXPERIMENT_MAIN(kv_quality)
