/* T15: learning while serving: what it costs, what it gains on requests the base never saw, what it
 * forgets of what the base knew. */
#include "base/sysinfo.h"
#include "lab/experiment.h"
#include "lab/models.h"
#include "lab/sona_bench.h"
#include "lab/sona_cost.h"
#include "lab/sona_place.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- declaration ---- */

#define COUNT(a) (int)(sizeof(a) / sizeof(a)[0])
#define V(text)                                                                                        \
	{ text, 0, RV_PROFILE_SMOKE }
#define N(text, number)                                                                                \
	{ text, number, RV_PROFILE_SMOKE }

enum { PART, ARM, LAYERS, SITE, RANK, LR, LAMBDA, REPLAY, N_PARAMS };
enum { OVERHEAD, LEARN };
static const rv_param_value parts[] = {V("overhead"), V("learn")};
enum { HOOKS, BASE, FULL, LORA, FIRST_ARM };
static const rv_param_value arms[] = {V("hooks"), V("base"), V("full"), V("lora"),
#define ARM_VALUE(name, text) V(#name),
                                      RV_SONA_ARMS(ARM_VALUE)
#undef ARM_VALUE
};
static const rv_param_value layers[] = {
        V("base"),    V("coder"),   V("early"),   V("middle"),  V("late"),    V("all"),
        V("spread1"), V("spread2"), V("spread3"), V("spread4"), V("spread5"), V("spread6"),
        V("spread7"), V("spread8"), V("at0"),     V("at1"),     V("at2"),     V("at3"),
        V("at4"),     V("at5"),     V("at6"),     V("at7")};
static const rv_param_value sites[] = {N("attn_out", RV_SITE_ATTN_OUT), N("ffn_out", RV_SITE_FFN_OUT),
                                       N("proj:qv", RV_SITE_PROJ_QV), N("proj:qkvo", RV_SITE_PROJ_QKVO),
                                       N("proj:all", RV_SITE_PROJ_ALL)};
static const rv_param_value ranks[] = {N("4", 4), N("1", 1), N("2", 2), N("8", 8), N("adaptive", 0)};
/* usual: what the arm's table in lab/sona_arms.c or lab/sona_bench.c says */
static const rv_param_value rates[] = {N("usual", 0),    N("0.0003", 3e-4), N("0.001", 1e-3),
                                       N("0.002", 2e-3), N("0.003", 3e-3),  N("0.005", 5e-3),
                                       N("0.01", 1e-2),  N("0.02", 2e-2),   N("0.05", 5e-2),
                                       N("0.1", 0.1),    N("0.3", 0.3),     N("1", 1)};
static const rv_param_value lambdas[] = {N("usual", -1),  N("0", 0),       N("0.1", 0.1),
                                         N("1", 1),       N("10", 10),     N("100", 100),
                                         N("1000", 1000), N("10000", 1e4), N("100000", 1e5)};
static const rv_param_value replays[] = {N("usual", -1), N("0", 0),   N("0.5", 0.5), N("1", 1),
                                         N("3", 3),      N("10", 10), N("20", 20),   N("30", 30)};
static const rv_param params[N_PARAMS] = {
        [PART] = {"part", "", "overhead: decoding with hooks and without; learn: the stream",
                  RV_PARAM_BUILD, RV_PARAM_TEXT, parts, COUNT(parts)},
        [ARM] = {"arm", "", "what learns, or what it is without", RV_PARAM_QUERY, RV_PARAM_TEXT, arms,
                 COUNT(arms)},
        [LAYERS] = {"layers", "", "hooked or adapted; base: 8 16 24 of 32, coder: and 28",
                    RV_PARAM_QUERY, RV_PARAM_TEXT, layers, COUNT(layers)},
        [SITE] = {"site", "", "projections of a hooked layer", RV_PARAM_QUERY, RV_PARAM_TEXT, sites,
                  COUNT(sites)},
        [RANK] = {"rank", "", "of MicroLoRA or LoRA", RV_PARAM_QUERY, RV_PARAM_TEXT, ranks,
                  COUNT(ranks)},
        [LR] = {"lr", "", "learning rate", RV_PARAM_QUERY, RV_PARAM_TEXT, rates, COUNT(rates)},
        [LAMBDA] = {"lambda", "", "of EWC++", RV_PARAM_QUERY, RV_PARAM_TEXT, lambdas, COUNT(lambdas)},
        [REPLAY] = {"replay", "",
                    "weight of replayed old documents, of the new; serving: share of a batch",
                    RV_PARAM_QUERY, RV_PARAM_TEXT, replays, COUNT(replays)},
};

/* The points: every row is a product of alternatives; "*" is any. */
typedef struct sweep {
	rv_profile smallest;
	const char *values[N_PARAMS];
} sweep;
#define SERVED "base", "attn_out", "4", "usual", "usual", "usual"
#define FITTED "all", "proj:all", "4"
static const sweep sweeps[] = {
        {RV_PROFILE_SMOKE, {"overhead", "hooks", SERVED}},
        {RV_PROFILE_QUICK, {"overhead", "hooks", "all", "attn_out", "4", "usual", "usual", "usual"}},
        {RV_PROFILE_QUICK,
         {"overhead", "hooks", "base", "ffn_out|proj:all", "4", "usual", "usual", "usual"}},
        {RV_PROFILE_QUICK, {"overhead", "hooks", "base", "attn_out", "8", "usual", "usual", "usual"}},
        {RV_PROFILE_FULL, {"overhead", "hooks", "*", "attn_out", "4", "usual", "usual", "usual"}},
        {RV_PROFILE_FULL, {"overhead", "hooks", "base|coder|all", "*", "*", "usual", "usual", "usual"}},

        {RV_PROFILE_QUICK, {"learn", "base|full", FITTED, "usual", "0", "0"}},
        {RV_PROFILE_QUICK, {"learn", "lora", FITTED, "usual", "0", "0|20"}},
        {RV_PROFILE_FULL, {"learn", "full", FITTED, "0.0003|0.001", "0", "0"}},
        {RV_PROFILE_FULL, {"learn", "lora", FITTED, "usual", "*", "*"}},
        {RV_PROFILE_FULL, {"learn", "lora", FITTED, "0.001|0.002|0.005", "0|100", "0|10|20"}},
        {RV_PROFILE_FULL,
         {"learn", "lora", "base|early|late", "attn_out|proj:all", "4", "0.002|0.005|0.01", "0", "0"}},
        {RV_PROFILE_FULL, {"learn", "lora", "all", "*", "1|8", "usual", "0", "0"}},

        {RV_PROFILE_QUICK, {"learn", "instant|both", SERVED}},
        {RV_PROFILE_FULL, {"learn", "*", SERVED}},
        {RV_PROFILE_FULL, {"learn", "instant", "*", "attn_out", "4", "usual", "usual", "usual"}},
        {RV_PROFILE_FULL, {"learn", "instant", "base", "*", "4", "usual", "usual", "usual"}},
        {RV_PROFILE_FULL, {"learn", "instant", "base", "attn_out", "*", "usual", "usual", "usual"}},
        {RV_PROFILE_FULL,
         {"learn", "instant|seeds|anchored", "base|late", "attn_out", "4",
          "0.003|0.01|0.02|0.05|0.1|0.3", "usual", "usual"}},
        {RV_PROFILE_FULL,
         {"learn", "instant", "base|late", "ffn_out", "4", "0.003|0.01|0.02|0.05|0.1|0.3", "usual",
          "usual"}},
        {RV_PROFILE_FULL,
         {"learn", "both", "base", "attn_out", "4", "usual", "0|1|100|10000", "usual"}},
        {RV_PROFILE_FULL, {"learn", "both", "base", "attn_out", "4", "usual", "usual", "0|1"}},
        {RV_PROFILE_FULL, {"learn", "background", "all", "proj:all", "4", "usual", "usual", "usual"}},
};

/* Is `value` one of "a|b|c"? */
static int among(const char *alternatives, const char *value) {
	const size_t len = strlen(value);
	if (strcmp(alternatives, "*") == 0)
		return 1;
	for (const char *p = alternatives; p != NULL; p = strchr(p, '|')) {
		p += *p == '|';
		if (strncmp(p, value, len) == 0 && (p[len] == '|' || p[len] == '\0'))
			return 1;
	}
	return 0;
}

/* Parameters from the first on that suit the row. */
static int n_suiting(const rv_experiment *exp, const sweep *row, const rv_point *point) {
	const int arm = point->values[ARM], overhead = point->values[PART] == OVERHEAD;
	for (int p = 0; p < N_PARAMS; p++) {
		if (!among(row->values[p], rv_point_value(exp, point, p)->text))
			return p;
		/* "*" of arms: those that serve */
		if (p == ARM &&
		    (overhead ? arm != HOOKS
		              : arm == HOOKS || (row->values[ARM][0] == '*' && arm < FIRST_ARM)))
			return p;
	}
	return N_PARAMS;
}

static int n_fitting(const rv_experiment *exp, const rv_point *point) {
	int most = 0;
	for (int s = 0; s < COUNT(sweeps); s++) {
		const int n = n_suiting(exp, &sweeps[s], point);
		most = n > most ? n : most;
	}
	return most;
}

static int in_profile(const rv_experiment *exp, rv_profile profile, const rv_point *point) {
	for (int s = 0; s < COUNT(sweeps); s++)
		if (sweeps[s].smallest <= profile && n_suiting(exp, &sweeps[s], point) == N_PARAMS)
			return 1;
	return 0;
}

enum {
	HELD,
	GAIN,
	GAIN_NATS,
	GAIN_SHARE,
	GAIN_NATS_SHARE,
	FORGOT,
	FORGOT_RIGHT,
	FORGOT_SHARE,
	BAR,
	BAR_NATS,
	TUNE,
	STREAM,
	COSINE,
	OVERHEAD_PCT,
	CAPTURE_PCT,
	REQUEST_PCT,
	LATENCY,
	DURATION,
	STATE_MB,
	N_LEARNT,
	N_UNDONE,
	FIT_S,
	HELD_AT,
	FORGOT_AT = HELD_AT + RV_SONA_LOOKS,
	N_METRICS = FORGOT_AT + RV_SONA_LOOKS
};
/* clang-format off */
static const rv_experiment_metric metrics[N_METRICS] = {
	[HELD] = {"held_right_pct", "%", "right", "requests of a writer who was left out that go to the right agent, afterwards", RV_HIGHER, 0, 0, NULL, "%.1f"},
	[GAIN] = {"gain_pct", "points", "gain", "the same less the base's", RV_HIGHER, 0, 0, NULL, "%.1f"},
	[GAIN_NATS] = {"gain_nats", "nats", "gain, nats", "fall of -log of the right agent's share among the 13", RV_HIGHER, 0, 0, NULL, "%.2f"},
	[GAIN_SHARE] = {"gain_share_pct", "%", "of full's gain", "gain / that of full fine-tuning on the same stream", RV_HIGHER, 0, 0, NULL, "%.0f"},
	[GAIN_NATS_SHARE] = {"gain_nats_share_pct", "%", "of full's, nats", "the same share of the gain in nats", RV_HIGHER, 0, 0, NULL, "%.0f"},
	[FORGOT] = {"forgetting_nats", "nats", "forgetting", "rise of the cross-entropy of old documents, nats a token, mean over the five domains", RV_LOWER, 0, 0, NULL, "%.4f"},
	[FORGOT_RIGHT] = {"forgetting_pct", "points", "old tokens lost", "fall of the share of old tokens that are the likeliest", RV_LOWER, 0, 0, NULL, "%.2f"},
	[FORGOT_SHARE] = {"forgetting_share_pct", "%", "of plain's", "forgetting / that of plain adaptation (lora, usual rate, no lambda, no replay) on the same stream", RV_LOWER, 0, 0, NULL, "%.0f"},
	[BAR] = {"bar_pct", "%", "bar", "100 where at least half of full's gain in points comes with at most a fifth of plain's forgetting, else 0; the mean is the share of seeds", RV_HIGHER, 0, 0, NULL, "%.0f"},
	[BAR_NATS] = {"bar_nats_pct", "%", "bar, nats", "the same by the gain in nats", RV_HIGHER, 0, 0, NULL, "%.0f"},
	[TUNE] = {"tune_right_pct", "%", "right, for choosing", "of the writers by whom settings were chosen", RV_HIGHER, 0, 1, NULL, "%.1f"},
	[STREAM] = {"stream_right_pct", "%", "right on the way", "requests of the stream that were answered right when they came", RV_HIGHER, 0, 0, NULL, "%.1f"},
	[COSINE] = {"cosine", "", "cosine", "of the local objective's gradient with the full next-token one, by B at its beginning; mean over requests", RV_HIGHER, 0, 0, NULL, "%.3f"},
	[OVERHEAD_PCT] = {"overhead_pct", "%", "overhead", "decode time of a token with capture and MicroLoRA / without, less 1, in turns", RV_LOWER, 0, 0, NULL, "%.1f"},
	[CAPTURE_PCT] = {"capture_pct", "%", "capture alone", "the same of capture alone", RV_LOWER, 0, 0, NULL, "%.1f"},
	[REQUEST_PCT] = {"request_overhead_pct", "%", "of a request", "the same of a request of 32 tokens with the instant update at its end", RV_LOWER, 0, 0, NULL, "%.1f"},
	[LATENCY] = {"latency_ms", "ms", "instant loop", "of a request, its end to the new adapter published; median", RV_LOWER, 0, 0, NULL, "%.3f"},
	[DURATION] = {"duration_s", "s", "pass", "mean time of a pass of the background loop; arm deep: of the deep loop", RV_LOWER, 0, 0, NULL, "%.2f"},
	[STATE_MB] = {"state_mb", "MB", "state", "learning state in memory at the end", RV_LOWER, 0, 0, NULL, "%.1f"},
	[N_LEARNT] = {"n_learnt", "requests", "learnt from", "instant updates, or steps of back-propagation", RV_HIGHER, 0, 1, NULL, "%.0f"},
	[N_UNDONE] = {"n_undone", "times", "rolled back", "instant updates and parts of passes", RV_LOWER, 0, 1, NULL, "%.0f"},
	[FIT_S] = {"learn_s", "s", "time", "of training; serving and its looks included where there is any", RV_LOWER, 0, 0, NULL, "%.1f"},
#define AT(i, text) \
	[HELD_AT + i - 1] = {"held_at_" #i, "%", "right at " text, "held-out requests right after " text " of the stream", RV_HIGHER, 0, 1, NULL, "%.1f"}, \
	[FORGOT_AT + i - 1] = {"forgetting_at_" #i, "nats", "forgetting at " text, "forgetting after " text " of the stream", RV_LOWER, 0, 1, NULL, "%.4f"}
	AT(1, "1/4"), AT(2, "2/4"), AT(3, "3/4"), AT(4, "4/4"),
#undef AT
};
/* clang-format on */
_Static_assert(N_METRICS <= RV_MAX_METRICS, "too many metrics");

enum { WHERE, WHAT, N_FACTS };
static const rv_fact facts[N_FACTS] = {
        [WHERE] = {"hooked", "layers", "that the names mean in this model"},
        [WHAT] = {"what", "what it is", "of the arm"},
};

/* ---- how much is measured ---- */

typedef struct scale {
	rv_sona_bench_size learn;
	int n_requests;  /* of a repetition of overhead */
	int64_t cosines; /* requests */
} scale;
static const scale scales[RV_PROFILE_COUNT] = {
        [RV_PROFILE_SMOKE] = {{{24, 16, 0, 2, 2}, 1}, 2, 0},
        [RV_PROFILE_QUICK] = {{{100, 100, 0, 8, 20}, 1}, 3, 4},
        [RV_PROFILE_FULL] = {{{600, 300, 300, 30, 60}, RV_SONA_LOOKS}, 16, 64},
};

static rv_status prepare(const rv_experiment *exp, const rv_run_config *config, rv_inputs *in) {
	const scale *s = &scales[config->profile];
	rv_model *model;
	(void)exp;
	RV_TRY(rv_lab_open_model(config, "nano", &model, in));
	snprintf(in->settings, sizeof in->settings, "stream %lld held %lld old %lld requests %d",
	         (long long)s->learn.docs.stream, (long long)s->learn.docs.held,
	         (long long)s->learn.docs.old, s->n_requests);
	rv_status status = RV_OK;
	if (!rv_lab_is_synth(rv_model_gguf(model))) {
		rv_shift_stream stream;
		status = rv_shift_stream_open(&stream, config->root, model, &s->learn.docs);
		if (status == RV_OK)
			rv_shift_stream_sha256(&stream, in->data_sha256);
		rv_shift_stream_close(&stream);
	}
	rv_model_release(model);
	return status;
}

/* ---- the fixture ---- */

typedef struct fixture {
	const rv_experiment *exp;
	const rv_run_config *config;
	scale size;
	rv_model *model;
	rv_sona_bench bench;
} fixture;

static rv_status setup(const rv_experiment *exp, const rv_run_config *config, const rv_point *points,
                       int n_points, void *user) {
	fixture *f = user;
	(void)n_points;
	f->exp = exp;
	f->config = config;
	f->size = scales[config->profile];
	RV_TRY(rv_model_open(&f->model, config->inputs.model_path, NULL));
	return points[0].values[PART] == LEARN
	               ? rv_sona_bench_open(&f->bench, config, f->model, &f->size.learn)
	               : RV_OK;
}

static void teardown(void *user) {
	fixture *f = user;
	rv_sona_bench_close(&f->bench);
	rv_model_release(f->model);
}

/* ---- one repetition: a seed ---- */

enum { FIRST_SEED = 1001 /* settings were chosen under small ones */ };

static rv_sona_knobs knobs_of(const fixture *f, const rv_point *p, int repetition) {
	return (rv_sona_knobs){.layers = rv_point_value(f->exp, p, LAYERS)->text,
	                       .site = (rv_site)rv_point_value(f->exp, p, SITE)->number,
	                       .rank = (int64_t)rv_point_value(f->exp, p, RANK)->number,
	                       .lr = rv_point_value(f->exp, p, LR)->number,
	                       .lambda = rv_point_value(f->exp, p, LAMBDA)->number,
	                       .replay = rv_point_value(f->exp, p, REPLAY)->number,
	                       .seed = f->config->seed + FIRST_SEED + (uint64_t)repetition};
}

static rv_status run_overhead(fixture *f, const rv_sona_knobs *knobs, int repetition,
                              rv_record *record) {
	rv_micro_lora_options micro;
	rv_sona_cost cost;
	rv_sona_cost_sample s;
	RV_TRY(rv_sona_micro_of(knobs, rv_model_hparams(f->model)->n_layers, &micro));
	micro.lr = 1e-6; /* the tokens are random: nothing is to be learnt of them */
	rv_status status = rv_sona_cost_open(&cost, f->config, f->model, &micro);
	if (status == RV_OK)
		status = rv_sona_cost_measure(&cost, 1000 * (uint64_t)repetition, f->size.n_requests,
		                              &s);
	rv_sona_cost_close(&cost);
	RV_TRY(status);
	record->values[CAPTURE_PCT] = 100 * (s.token[1] / s.token[0] - 1);
	record->values[OVERHEAD_PCT] = 100 * (s.token[2] / s.token[0] - 1);
	if (isnan(s.learn)) {
		rv_record_na(record, LATENCY, "no projection of this site ends in the residual stream");
		rv_record_na(record, REQUEST_PCT, "no local gradient");
		return RV_OK;
	}
	record->values[LATENCY] = 1e3 * s.learn;
	record->values[REQUEST_PCT] =
	        100 * ((s.token[2] + s.learn / RV_SONA_COST_TOKENS) / s.token[0] - 1);
	return RV_OK;
}

/* Of less forgetting no share is told: it is within what other documents would give. */
#define MEASURABLE 0.005

static void put_score(const fixture *f, const rv_sona_learnt *r, const rv_sona_yardstick *y,
                      rv_record *record) {
	const rv_sona_scores *base = &f->bench.base;
	double *v = record->values;
	v[HELD] = r->end.held.right_pct;
	v[GAIN] = r->end.held.right_pct - base->held.right_pct;
	v[GAIN_NATS] = base->held.nll - r->end.held.nll;
	v[FORGOT] = r->end.old.mean_nll - base->old.mean_nll;
	v[FORGOT_RIGHT] = base->old.mean_right_pct - r->end.old.mean_right_pct;
	if (f->bench.stream.tune.n > 0)
		v[TUNE] = r->end.tune.right_pct;
	const double full = y->learnt[1].end.held.right_pct - base->held.right_pct;
	const double plain = y->learnt[0].end.old.mean_nll - base->old.mean_nll;
	if (full > 0)
		v[GAIN_SHARE] = 100 * v[GAIN] / full;
	else
		rv_record_na(record, GAIN_SHARE, "full fine-tuning gains nothing here");
	const double full_nats = base->held.nll - y->learnt[1].end.held.nll;
	if (full_nats > 0)
		v[GAIN_NATS_SHARE] = 100 * v[GAIN_NATS] / full_nats;
	else
		rv_record_na(record, GAIN_NATS_SHARE, "full fine-tuning gains nothing here");
	if (plain >= MEASURABLE)
		v[FORGOT_SHARE] = 100 * v[FORGOT] / plain;
	else
		rv_record_na(record, FORGOT_SHARE,
		             "plain adaptation forgets less than 0.005 nats here");
	if (full > 0 && plain >= MEASURABLE)
		v[BAR] = v[GAIN_SHARE] >= 50 && v[FORGOT_SHARE] <= 20 ? 100 : 0;
	if (full_nats > 0 && plain >= MEASURABLE)
		v[BAR_NATS] = v[GAIN_NATS_SHARE] >= 50 && v[FORGOT_SHARE] <= 20 ? 100 : 0;
}

static void put_served(const fixture *f, const rv_sona_served *s, int arm, rv_record *record) {
	const rv_sona_scores *base = &f->bench.base;
	const int deep = arm == FIRST_ARM + RV_SONA_ARM_deep;
	double *v = record->values;
	v[STREAM] = s->right_pct;
	if (!isnan(s->instant_s))
		v[LATENCY] = 1e3 * s->instant_s;
	if (!isnan(s->pass_s[deep]))
		v[DURATION] = s->pass_s[deep];
	v[STATE_MB] = 1e-6 * (double)s->state_bytes;
	v[N_LEARNT] = (double)s->stats.instant.n_outcome[RV_INSTANT_LEARNT];
	v[N_UNDONE] = (double)(s->stats.n_undone + s->stats.instant.n_outcome[RV_INSTANT_NOT_FINITE] +
	                       s->stats.instant.n_outcome[RV_INSTANT_EXPLODED]);
	for (int i = 0; i < RV_SONA_LOOKS; i++) {
		if (s->looks[i].held.nll <= 0)
			continue; /* nobody looked */
		v[HELD_AT + i] = s->looks[i].held.right_pct;
		v[FORGOT_AT + i] = s->looks[i].old.mean_nll - base->old.mean_nll;
	}
}

static rv_status run_learn(fixture *f, const rv_point *p, const rv_sona_knobs *knobs,
                           rv_record *record) {
	const int arm = p->values[ARM];
	rv_sona_learnt r = {0};
	const rv_sona_yardstick *y;
	const int64_t start = rv_now_ns();
	rv_micro_lora_options micro;
	RV_TRY(rv_sona_bench_yardstick(&f->bench, knobs->seed, &y));
	if (arm == BASE)
		r.end = f->bench.base;
	else if (arm == FULL || arm == LORA)
		RV_TRY(rv_sona_bench_fit(&f->bench, arm == FULL, knobs, &r));
	else
		RV_TRY(rv_sona_bench_serve(&f->bench, (rv_sona_arm)(arm - FIRST_ARM), knobs, &r));
	record->values[FIT_S] = arm >= FIRST_ARM ? 1e-9 * (double)(rv_now_ns() - start) : r.seconds;
	put_score(f, &r, y, record);
	if (arm < FIRST_ARM) {
		record->values[N_LEARNT] = (double)r.n_steps;
		return RV_OK;
	}
	put_served(f, &r.served, arm, record);
	if (arm == FIRST_ARM + RV_SONA_ARM_instant || arm == FIRST_ARM + RV_SONA_ARM_anchored) {
		rv_sona_cosine c;
		RV_TRY(rv_sona_micro_of(knobs, rv_model_hparams(f->model)->n_layers, &micro));
		RV_TRY(rv_sona_cosine_measure(
		        f->config, f->model, &f->bench.stream, &micro,
		        arm == FIRST_ARM + RV_SONA_ARM_anchored ? RV_LOCAL_ANCHORED : RV_LOCAL_LENS,
		        knobs->seed, f->size.cosines, &c));
		if (c.n > 0)
			record->values[COSINE] = c.mean;
		else
			rv_record_na(record, COSINE, "no local gradient at this site");
	}
	return RV_OK;
}

static void put_facts(const fixture *f, const rv_point *p, const rv_sona_knobs *knobs,
                      rv_record *record) {
	static const char *const what[] = {"decoding", "nothing is learnt", "all weights",
	                                   "LoRA by back-propagation",
#define ARM_TEXT(name, text) text,
	                                   RV_SONA_ARMS(ARM_TEXT)
#undef ARM_TEXT
	};
	int64_t at[RV_MICRO_MAX_LAYERS];
	char text[RV_REASON_BYTES] = "";
	const int n = rv_sona_place(knobs->layers, rv_model_hparams(f->model)->n_layers, at);
	for (int i = 0; i < n; i++) {
		const size_t used = strlen(text);
		snprintf(text + used, sizeof text - used, "%s%lld", i ? " " : "", (long long)at[i]);
	}
	rv_record_fact(record, WHERE, "%s", text);
	rv_record_fact(record, WHAT, "%s", what[p->values[ARM]]);
}

static rv_status run(void *user, const rv_point *p, int repetition, rv_record *record) {
	fixture *f = user;
	const rv_sona_knobs knobs = knobs_of(f, p, repetition);
	put_facts(f, p, &knobs, record);
	return p->values[PART] == OVERHEAD ? run_overhead(f, &knobs, repetition, record)
	                                   : run_learn(f, p, &knobs, record);
}

static const char *not_run(const rv_experiment *exp, const rv_run_config *config,
                           const rv_point *point) {
	rv_model *model;
	int64_t at[RV_MICRO_MAX_LAYERS];
	if (rv_model_open(&model, config->inputs.model_path, NULL) != RV_OK)
		return NULL;
	const char *reason = rv_sona_place(rv_point_value(exp, point, LAYERS)->text,
	                                   rv_model_hparams(model)->n_layers, at) == 0
	                             ? "no such layer"
	                     : point->values[PART] == LEARN && rv_lab_is_synth(rv_model_gguf(model))
	                             ? "untrained weights"
	                             : NULL;
	rv_model_release(model);
	return reason;
}

static const rv_experiment sona = {
        .id = "T15",
        .name = "t15_sona",
        .title = "SONA: learning while serving",
        .about =
                "nano knows generated requests only. The stream are requests that people wrote, to be "
                "given to "
                "one of 13 agents; it is judged on a writer who was left out, and on held-out "
                "documents of what "
                "nano was trained on. A repetition is a seed: of the stream's choice and order, and of "
                "the adapters. "
                "full: all weights by back-propagation; lora: LoRA by back-propagation, plain where "
                "lambda and replay are 0. The usual rates of these two, and the replay that the bar "
                "is judged at, were "
                "chosen among few, on one stream and by other writers' requests; the plain adaptation "
                "that forgetting is held against is tuned no further than that. The "
                "other arms are served by SONA on a simulated clock, a request a minute, with its "
                "default rates: each is "
                "answered, rated by exact match, and a wrong answer is followed by the right one. "
                "forgetting is in nats a token; a point reaches the bar with half of full's gain and a "
                "fifth of plain's forgetting. Overheads are ratios of decode times taken in turns, "
                "token by token.",
        .documented = "t15_sona.csv",
        .plot = "t15_sona",
        RV_EXPERIMENT_PARTS,
        RV_EXPERIMENT_FACTS,
        .budget_s = {15, 60, 3600},
        .limit_s = {0, 55, 900},
        .min_n = 3,
        .max_n = {3, 5, 3},
        .n_fitting = n_fitting,
        .in_profile = in_profile,
        .not_run = not_run,
};

RV_EXPERIMENT_MAIN(sona)
