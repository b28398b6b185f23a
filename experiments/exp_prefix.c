/* T18: prefix cache: time to the first token of a prompt that begins like an earlier one. */
#include "base/mem.h"
#include "base/sysinfo.h"
#include "engine/kv_pages.h"
#include "engine/prefix_cache.h"
#include "lab/experiment.h"
#include "lab/models.h"
#include "lab/speed.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- declaration ---- */

enum { WORKLOAD, SHARED, PROMPT, N_PARAMS };
enum { CHAT, RAG, N_WORKLOADS };
static const rv_param_value workloads[N_WORKLOADS] = {{"chat", 0, RV_PROFILE_SMOKE},
                                                      {"rag", 0, RV_PROFILE_SMOKE}};
static const rv_param_value shares[] = {{"50", 50, RV_PROFILE_QUICK},
                                        {"75", 75, RV_PROFILE_QUICK},
                                        {"90", 90, RV_PROFILE_SMOKE},
                                        {"95", 95, RV_PROFILE_QUICK}};
static const rv_param_value prompts[] = {{"512", 512, RV_PROFILE_SMOKE},
                                         {"2048", 2048, RV_PROFILE_QUICK},
                                         {"4096", 4096, RV_PROFILE_FULL}};
enum { N_SHARES = sizeof shares / sizeof *shares, N_PROMPTS = sizeof prompts / sizeof *prompts };
static const rv_param params[N_PARAMS] = {
        [WORKLOAD] = {"workload", "", "chat: the next turn; rag: another question on a document",
                      RV_PARAM_QUERY, RV_PARAM_TEXT, workloads, N_WORKLOADS},
        [SHARED] = {"shared_pct", "%", "part of the prompt that came before", RV_PARAM_QUERY,
                    RV_PARAM_NUMBER, shares, N_SHARES},
        [PROMPT] = {"prompt", "tokens", "length of the prompt", RV_PARAM_QUERY, RV_PARAM_NUMBER,
                    prompts, N_PROMPTS},
};

enum { COLD, HIT, SPEEDUP, BOUND_PCT, OPS_BOUND, OPS_BOUND_PCT, FOUND, ATTACH, SAVED, N_METRICS };
/* clang-format off */
static const rv_experiment_metric metrics[N_METRICS] = {
	[COLD] = {"ttft_cold_ms", "ms", "first token, cold", "time to the first token with nothing cached", RV_LOWER, 0, 0, NULL, "%.2f"},
	[HIT] = {"ttft_hit_ms", "ms", "first token, hit", "the same with the shared part cached, look-up and insertion included", RV_LOWER, 0, 0, NULL, "%.2f"},
	[SPEEDUP] = {"speedup", "x", "speed-up", "cold / hit, both of one round", RV_HIGHER, 0, 0, "speedup_bound_pct", "%.2f"},
	[BOUND_PCT] = {"speedup_bound_pct", "%", "% of 1 / (1 - shared)", "speed-up / the bound that counts tokens", RV_HIGHER, 0, 0, NULL, "%.1f"},
	[OPS_BOUND] = {"ops_bound", "x", "bound by operations", "operations of the whole prompt / of its rest: attention of the rest looks at every token before it", RV_HIGHER, 1, 0, NULL, "%.2f"},
	[OPS_BOUND_PCT] = {"ops_bound_pct", "%", "% of that", "speed-up / the bound that counts operations", RV_HIGHER, 0, 0, NULL, "%.1f"},
	[FOUND] = {"found_pct", "%", "found", "tokens taken from the cache / tokens shared", RV_HIGHER, 0, 0, NULL, "%.1f"},
	[ATTACH] = {"attach_us", "us", "look-up", "finding the shared part and attaching its pages", RV_LOWER, 0, 0, NULL, "%.1f"},
	[SAVED] = {"memory_saved_pct", "%", "memory saved", "1 - KV pages of 8 such prompts at once / without sharing", RV_HIGHER, 1, 0, NULL, "%.1f"},
};
/* clang-format on */

enum { CACHE, N_FACTS };
static const rv_fact facts[N_FACTS] = {
        [CACHE] = {"cache", "cache", "what the prefix cache held and did when the point was last run"},
};

/* ---- how much is measured ---- */

enum {
	PAGE = 64,   /* tokens */
	BATCH = 512, /* rows */
	TURNS = 4,   /* of a chat before */
	ANSWER = 8,  /* tokens decoded at the end of each */
	AT_ONCE = 8  /* prompts whose memory is counted */
};
static const char *const default_preset[RV_PROFILE_COUNT] = {"nano", "nano", "small"};

static rv_status prepare(const rv_experiment *exp, const rv_run_config *config, rv_inputs *in) {
	(void)exp;
	rv_model *model;
	RV_TRY(rv_lab_open_model(config, default_preset[config->profile], &model, in));
	snprintf(in->settings, sizeof in->settings, "page %d batch %d turns %d answer %d at once %d",
	         PAGE, BATCH, TURNS, ANSWER, AT_ONCE);
	rv_model_release(model);
	return RV_OK;
}

/* ---- the fixture: all points in one context, their shared parts cached ---- */

typedef struct arm {
	int32_t *tokens; /* [n] */
	int64_t n, n_shared;
	double ops_bound, saved_pct;
} arm;

typedef struct fixture {
	const rv_run_config *config;
	rv_model *model;
	rv_context *ctx;
	rv_prefix_cache *cache;
	int64_t n_vocab;
	arm arms[N_WORKLOADS][N_SHARES][N_PROMPTS]; /* tokens NULL: not wanted */
	struct {
		int repetition; /* -1: none */
		double seconds;
	} cold[N_PROMPTS]; /* measured once a round for all points of a length */
	float *logits;     /* [n_vocab] of a cold run */
} fixture;

static arm *arm_of(fixture *f, const rv_point *p) {
	return &f->arms[p->values[WORKLOAD]][p->values[SHARED]][p->values[PROMPT]];
}

static void teardown(void *user) {
	fixture *f = user;
	for (int i = 0; i < N_WORKLOADS * N_SHARES * N_PROMPTS; i++)
		rv_free((&f->arms[0][0][0])[i].tokens);
	rv_prefix_cache_destroy(f->cache);
	rv_context_destroy(f->ctx);
	rv_model_release(f->model);
	rv_free(f->logits);
}

static int32_t best(const fixture *f, const float *logits) {
	int32_t id = 0;
	for (int32_t i = 1; i < f->n_vocab; i++)
		id = logits[i] > logits[id] ? i : id;
	return id;
}

static rv_status decode(fixture *f, int32_t *tokens, int64_t at) {
	rv_row row = {.token = tokens[at - 1],
	              .position = (int32_t)at - 1,
	              .parent = -1,
	              .flags = RV_ROW_LOGITS};
	RV_TRY(rv_context_eval(f->ctx, &row, 1));
	tokens[at] = best(f, rv_context_logits(f->ctx, 0));
	return RV_OK;
}

/* Turns of equal length, each ending with an answer, kept as each ends. */
static rv_status hold_chat(fixture *f, arm *a) {
	for (int turn = 1; turn <= TURNS; turn++) {
		int64_t n = a->n_shared * turn / TURNS - ANSWER;
		rv_prompt_result r;
		RV_TRY(rv_prompt_eval(f->ctx, f->cache, 0, a->tokens, n, 0, &r));
		a->tokens[n] = best(f, r.logits);
		for (int i = 1; i <= ANSWER; i++) /* the last token is evaluated too */
			RV_TRY(decode(f, a->tokens, n + i));
		RV_TRY(rv_prefix_cache_keep(f->cache, 0, a->tokens, n + ANSWER));
		RV_TRY(rv_seq_truncate(f->ctx, 0, 0));
	}
	return RV_OK;
}

/* A first question on the document, of a page at most. */
static rv_status hold_document(fixture *f, const arm *a) {
	rv_prompt_result r;
	int64_t n = a->n < a->n_shared + PAGE ? a->n : a->n_shared + PAGE;
	RV_TRY(rv_prompt_eval(f->ctx, f->cache, 0, a->tokens, n, 0, &r));
	return rv_seq_truncate(f->ctx, 0, 0);
}

/* Another end of the prompt: another message, another question. */
static void renew(const fixture *f, const arm *a, uint64_t seed) {
	rv_random_tokens(a->tokens + a->n_shared, (int)(a->n - a->n_shared), seed, f->n_vocab);
}

/* ---- what does not change from repetition to repetition ---- */

/* Of tokens [from, to) of a prompt, its last row's logits included. */
static double operations(const fixture *f, int64_t from, int64_t to) {
	const rv_hparams *hp = rv_model_hparams(f->model);
	double head = (double)hp->n_vocab * (double)hp->n_embd;
	double body = (double)rv_model_n_params(f->model) - head * (hp->tied ? 1 : 2);
	double n = (double)(to - from), keys = (double)(to * (to + 1) - from * (from + 1)) / 2;
	return 2 * (n * body + head) + 4 * keys * (double)(hp->n_layers * hp->n_heads * hp->head_dim);
}

/* Pages that AT_ONCE prompts of this kind take together, as the context counts them for admission. */
static rv_status measure_memory(fixture *f, arm *a) {
	const rv_kv_page *pages;
	int64_t cached = 0, used = 0, alone = (a->n + PAGE - 1) / PAGE;
	for (int32_t s = 0; s < AT_ONCE; s++) {
		RV_TRY(rv_prefix_cache_attach(f->cache, s, 0, a->tokens, a->n, &cached));
		used += rv_seq_pages_needed(f->ctx, s, a->n - cached);
	}
	used += rv_kv_seq_pages(rv_context_kv_pages(f->ctx), 0, &pages);
	for (int32_t s = 0; s < AT_ONCE; s++)
		RV_TRY(rv_seq_truncate(f->ctx, s, 0));
	a->saved_pct = 100 * (1 - (double)used / (double)(AT_ONCE * alone));
	return RV_OK;
}

/* ---- set-up ---- */

static rv_status open_arm(fixture *f, const rv_point *point) {
	const int *v = point->values;
	arm *a = arm_of(f, point);
	uint64_t seed = f->config->seed + 1000 * ((uint64_t)point->index + 1);
	a->n = (int64_t)prompts[v[PROMPT]].number;
	a->n_shared = (int64_t)((double)a->n * shares[v[SHARED]].number / 100);
	RV_TRY(RV_ALLOC(&a->tokens, a->n, "prompt"));
	rv_random_tokens(a->tokens, (int)a->n, seed, f->n_vocab);
	RV_TRY(v[WORKLOAD] == CHAT ? hold_chat(f, a) : hold_document(f, a));
	renew(f, a, seed + 1);
	a->ops_bound = operations(f, 0, a->n) / operations(f, a->n_shared, a->n);
	return measure_memory(f, a);
}

static rv_status setup(const rv_experiment *exp, const rv_run_config *config, const rv_point *points,
                       int n_points, void *user) {
	fixture *f = user;
	(void)exp;
	f->config = config;
	RV_TRY(rv_model_open(&f->model, config->inputs.model_path, NULL));
	f->n_vocab = rv_model_hparams(f->model)->n_vocab;
	rv_context_options o = rv_context_defaults();
	o.n_batch = BATCH;
	o.page_size = PAGE;
	o.n_seqs = n_points + AT_ONCE; /* so many prompts fit the cache */
	for (int i = 0; i < n_points; i++) {
		int64_t n = (int64_t)prompts[points[i].values[PROMPT]].number;
		o.n_ctx = n > o.n_ctx ? n : o.n_ctx;
	}
	RV_TRY(rv_lab_context(config, f->model, &o, &f->ctx));
	RV_TRY(rv_prefix_cache_create(&f->cache, f->ctx));
	RV_TRY(RV_ALLOC(&f->logits, f->n_vocab, "logits"));
	for (int i = 0; i < N_PROMPTS; i++)
		f->cold[i].repetition = -1;
	for (int i = 0; i < n_points; i++) {
		if (config->cancelled(config->user))
			return rv_fail(RV_ERR_CANCELLED, "interrupted");
		RV_TRY(open_arm(f, &points[i]));
	}
	return RV_OK;
}

/* ---- one repetition ---- */

/* From a prompt to its first token; the sequence keeps what it holds. */
static rv_status first_token(fixture *f, rv_prefix_cache *cache, const arm *a, double *seconds,
                             rv_prompt_result *r) {
	int64_t before = rv_now_ns();
	RV_TRY(rv_prompt_eval(f->ctx, cache, 0, a->tokens, a->n, 0, r));
	volatile int32_t id = best(f, r->logits);
	(void)id;
	*seconds = 1e-9 * (double)(rv_now_ns() - before);
	return RV_OK;
}

static rv_status measure_attach(fixture *f, const arm *a, double *us) {
	int64_t before = rv_now_ns(), cached;
	RV_TRY(rv_prefix_cache_attach(f->cache, 0, 0, a->tokens, a->n, &cached));
	*us = 1e-3 * (double)(rv_now_ns() - before);
	return rv_seq_truncate(f->ctx, 0, 0);
}

static rv_status run(void *user, const rv_point *point, int repetition, rv_record *record) {
	fixture *f = user;
	const arm *a = arm_of(f, point);
	int prompt = point->values[PROMPT];
	size_t bytes = (size_t)f->n_vocab * sizeof *f->logits;
	rv_prompt_result r;
	double hit;
	renew(f, a, f->config->seed + 1000 * ((uint64_t)point->index + 1) + 2 + (uint64_t)repetition);
	int cold_too = f->cold[prompt].repetition != repetition;
	if (cold_too) {
		RV_TRY(first_token(f, NULL, a, &f->cold[prompt].seconds, &r));
		f->cold[prompt].repetition = repetition;
		memcpy(f->logits, r.logits, bytes);
		RV_TRY(rv_seq_truncate(f->ctx, 0, 0));
	}
	RV_TRY(measure_attach(f, a, &record->values[ATTACH]));
	RV_TRY(first_token(f, f->cache, a, &hit, &r));
	if (cold_too && memcmp(f->logits, r.logits, bytes) != 0)
		return rv_fail(RV_ERR_MISMATCH, "%s: logits after a hit are not those of a cold run",
		               point->label);
	RV_TRY(rv_seq_truncate(f->ctx, 0, 0));
	double speedup = f->cold[prompt].seconds / hit;
	record->values[COLD] = 1e3 * f->cold[prompt].seconds;
	record->values[HIT] = 1e3 * hit;
	record->values[SPEEDUP] = speedup;
	record->values[BOUND_PCT] = speedup * (100 - shares[point->values[SHARED]].number);
	record->values[FOUND] = 100 * (double)(r.n_cached < a->n_shared ? r.n_cached : a->n_shared) /
	                        (double)a->n_shared;
	record->values[OPS_BOUND_PCT] = 100 * speedup / a->ops_bound;
	if (repetition == 0) {
		record->values[OPS_BOUND] = a->ops_bound;
		record->values[SAVED] = a->saved_pct;
	}
	rv_prefix_cache_stats s;
	rv_prefix_cache_get_stats(f->cache, &s);
	rv_record_fact(record, CACHE,
	               "%lld pages, %lld nodes; %lld of %lld look-ups hit; %lld pages evicted",
	               (long long)s.n_pages, (long long)s.n_nodes, (long long)s.n_hits,
	               (long long)s.n_lookups, (long long)s.pages_evicted);
	return RV_OK;
}

static const char *not_run(const rv_experiment *exp, const rv_run_config *config,
                           const rv_point *point) {
	int is_long = rv_point_value(exp, point, PROMPT)->number > 512;
	return config->profile != RV_PROFILE_FULL && is_long &&
	                       rv_point_value(exp, point, SHARED)->number < 90
	               ? "of a long prompt in profile full only"
	               : NULL;
}

static const rv_experiment prefix = {
        .id = "T18",
        .name = "t18_prefix_cache",
        .title = "Prefix cache",
        .about = "A prompt whose first part came before is evaluated from where it differs. chat: the "
                 "next turn of a conversation, whose earlier turns were answered and kept; rag: "
                 "another question on a document that was asked about. Both ways the shared part ends "
                 "anywhere within a page of 64 tokens. Cold is the same prompt in the same context "
                 "without the cache, measured once a round for all points of a length; where it was "
                 "measured with a point's own prompt, the hit's logits must have the same bits. The "
                 "first bound counts tokens; in fact the rest of a prompt costs more a token than the "
                 "shared part, because it attends to all before it, most so in small models: the "
                 "second bound counts operations. Profile full measures the shape of "
                 "RuvLTRA-Small, where the two are closer.",
        .documented = "t18_prefix_cache.csv",
        .plot = "t18_prefix_cache",
        RV_EXPERIMENT_PARTS,
        RV_EXPERIMENT_FACTS,
        .budget_s = {8, 15, 3600},
        .limit_s = {8, 14, 1200},
        .min_n = 10,
        .max_n = {10, 15, 10},
        .not_run = not_run,
};

RV_EXPERIMENT_MAIN(prefix)
