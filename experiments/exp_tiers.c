/* T10: tiered KV cache: bytes a layer, what sharing KV heads saves, migration, decode speed. */
#include "base/mem.h"
#include "base/sysinfo.h"
#include "engine/kv_tiers.h"
#include "lab/experiment.h"
#include "lab/long_text.h"
#include "lab/models.h"
#include "lab/speed.h"
#include "model/synth.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- declaration ---- */

static const rv_param_value policies[] = {{"flat", 0, RV_PROFILE_SMOKE},
                                          {"two-tier", 0, RV_PROFILE_QUICK},
                                          {"three-tier", 0, RV_PROFILE_SMOKE},
                                          {"three-tier-kivi", 0, RV_PROFILE_QUICK},
                                          {"2-bit", 0, RV_PROFILE_QUICK}};
static const rv_param_value heads[] = {{"32", 32, RV_PROFILE_SMOKE},
                                       {"16", 16, RV_PROFILE_SMOKE},
                                       {"4", 4, RV_PROFILE_QUICK},
                                       {"2", 2, RV_PROFILE_QUICK},
                                       {"1", 1, RV_PROFILE_QUICK}};
static const rv_param_value lengths[] = {{"4096", 4096, RV_PROFILE_SMOKE}};
static const rv_param_value tails[] = {{"64", 64, RV_PROFILE_QUICK},
                                       {"128", 128, RV_PROFILE_QUICK},
                                       {"256", 256, RV_PROFILE_SMOKE},
                                       {"512", 512, RV_PROFILE_QUICK},
                                       {"1024", 1024, RV_PROFILE_QUICK}};
#define COUNT(a) (int)(sizeof(a) / sizeof(a)[0])
enum { POLICY, KV_HEADS, TOKENS, TAIL, N_PARAMS };
static const rv_param params[N_PARAMS] = {
        [POLICY] = {"policy", "", "how keys and values are stored as they age", RV_PARAM_BUILD,
                    RV_PARAM_TEXT, policies, COUNT(policies)},
        [KV_HEADS] = {"kv_heads", "",
                      "heads of 128 elements with keys and values of their own; 32 of "
                      "32, else of 16 query heads",
                      RV_PARAM_BUILD, RV_PARAM_NUMBER, heads, COUNT(heads)},
        [TOKENS] = {"tokens", "", "length of the sequence", RV_PARAM_BUILD, RV_PARAM_NUMBER, lengths,
                    COUNT(lengths)},
        [TAIL] = {"tail", "tokens", "kept as F16", RV_PARAM_BUILD, RV_PARAM_NUMBER, tails,
                  COUNT(tails)},
};
enum { FLAT, TWO_TIER, THREE_TIER };
enum { DEFAULT_TAIL = 2, DEFAULT_HEADS = 0, MEDIUM_HEADS = 3, GQA_BASE = 16 };

enum {
	HOT_TOKENS,
	WARM_TOKENS,
	COLD_TOKENS,
	HOT_MIB,
	WARM_MIB,
	COLD_MIB,
	LAYER_MIB,
	SEQUENCE_MIB,
	HUNDRED_GB,
	BITS,
	COMPRESSION,
	STORE_COMPRESSION,
	GQA_SAVED,
	GQA_RATIO,
	SCALE_GROUP,
	MIGRATION,
	MIGRATION_MAX,
	DECODE_RATIO,
	PERPLEXITY,
	PERPLEXITY_INCREASE,
	N_METRICS
};
/* clang-format off */
static const rv_experiment_metric metrics[N_METRICS] = {
	[HOT_TOKENS] = {"hot_tokens", "tokens", "hot", "tokens in the tail", RV_LOWER, 1, 1, NULL, "%.0f"},
	[WARM_TOKENS] = {"warm_tokens", "tokens", "warm", "tokens in the second tier", RV_LOWER, 1, 1, NULL, "%.0f"},
	[COLD_TOKENS] = {"cold_tokens", "tokens", "cold", "tokens in the third tier", RV_LOWER, 1, 1, NULL, "%.0f"},
	[HOT_MIB] = {"hot_mib", "MiB", "hot, a layer", "bytes of the tail, one layer", RV_LOWER, 1, 0, NULL, "%.3f"},
	[WARM_MIB] = {"warm_mib", "MiB", "warm, a layer", "bytes of the second tier, one layer", RV_LOWER, 1, 0, NULL, "%.3f"},
	[COLD_MIB] = {"cold_mib", "MiB", "cold, a layer", "bytes of the third tier, one layer", RV_LOWER, 1, 0, NULL, "%.3f"},
	[LAYER_MIB] = {"layer_mib", "MiB", "a layer", "bytes of a sequence in one layer, scales included, in the pages it has", RV_LOWER, 1, 0, NULL, "%.3f"},
	[SEQUENCE_MIB] = {"sequence_mib", "MiB", "32 layers", "bytes of a sequence in 32 layers", RV_LOWER, 1, 0, NULL, "%.1f"},
	[HUNDRED_GB] = {"hundred_sequences_gb", "GB", "100 sequences", "bytes of 100 sequences in 32 layers, 1e9", RV_LOWER, 1, 1, NULL, "%.2f"},
	[BITS] = {"bits", "bits", "bits / value", "bits stored a key or value element, scales included", RV_LOWER, 1, 0, NULL, "%.3f"},
	[COMPRESSION] = {"compression", "x", "compression", "bytes of a flat F16 cache / bytes", RV_HIGHER, 1, 0, NULL, "%.2f"},
	[STORE_COMPRESSION] = {"store_compression", "x", "of the last tier", "the same of a token in the last tier", RV_HIGHER, 1, 1, NULL, "%.2f"},
	[GQA_SAVED] = {"gqa_saved_pct", "%", "saved by GQA", "1 - bytes / bytes with 16 KV heads", RV_HIGHER, 1, 0, NULL, "%.1f"},
	[GQA_RATIO] = {"gqa_ratio", "x", "GQA", "bytes with 16 KV heads / bytes", RV_HIGHER, 1, 1, NULL, "%.1f"},
	[SCALE_GROUP] = {"scale_group", "values", "scale group", "most elements of a token's values that share a scale", RV_LOWER, 1, 1, NULL, "%.0f"},
	[MIGRATION] = {"migration_ms", "ms", "migration", "encoding a page of 64 tokens anew, mean over the pages and tiers of a sequence; a page is 2 MiB of F16, all layers of this shape", RV_LOWER, 0, 0, NULL, "%.3f"},
	[MIGRATION_MAX] = {"migration_max_ms", "ms", "migration, longest", "the longest of a repetition", RV_LOWER, 0, 1, NULL, "%.3f"},
	[DECODE_RATIO] = {"decode_ratio", "x", "decode / flat", "decode speed at this length / that of a flat cache, in turns; layers of this shape with small matrices", RV_HIGHER, 0, 0, NULL, "%.3f"},
	[PERPLEXITY] = {"perplexity", "", "perplexity", "of the trained model on a held-out text: the last quarter of its tokens, the policy at its own tiers", RV_LOWER, 1, 0, NULL, "%.4f"},
	[PERPLEXITY_INCREASE] = {"perplexity_increase", "perplexity", "perplexity rise", "the same less that of a flat cache", RV_LOWER, 1, 0, NULL, "%.5f"},
};
/* clang-format on */

/* ---- how much is measured ---- */

typedef struct scale {
	int64_t text; /* tokens of the text, at most; 0: none */
	int n_decoded;
	double sample_s;
} scale;
static const scale scales[RV_PROFILE_COUNT] = {
        [RV_PROFILE_SMOKE] = {0, 2, 0.005},
        [RV_PROFILE_QUICK] = {2560, 2, 0.02},
        [RV_PROFILE_FULL] = {4096, 16, 0.1},
};
enum { PAGE = 64, HEAD_DIM = 128, LANES = 64, LAYERS = 32, VOCAB = 512 };

static rv_status prepare(const rv_experiment *exp, const rv_run_config *config, rv_inputs *in) {
	(void)exp;
	rv_model *model;
	const scale *s = &scales[config->profile];
	RV_TRY(rv_lab_open_model(config, "nano", &model, in));
	rv_model_release(model);
	snprintf(in->settings, sizeof in->settings, "text %lld decode %d sample %g s",
	         (long long)s->text, s->n_decoded, s->sample_s);
	return rv_long_text_sha256(config, in->data_sha256);
}

/* ---- a model of the documented heads, with as many layers as give pages of 2 MiB ---- */

static rv_status make_model(const rv_run_config *c, int64_t kv_heads, rv_model **out) {
	rv_hparams hp = {.n_layers = LANES / kv_heads < LAYERS ? LANES / kv_heads : LAYERS,
	                 .n_embd = 64,
	                 .n_heads = kv_heads > GQA_BASE ? kv_heads : GQA_BASE,
	                 .n_kv_heads = kv_heads,
	                 .head_dim = HEAD_DIM,
	                 .n_ff = 64,
	                 .n_vocab = VOCAB,
	                 .n_ctx_train = 32768,
	                 .n_rot = HEAD_DIM,
	                 .rope_theta = 1e6,
	                 .rms_eps = 1e-6,
	                 .tied = 1};
	char path[4096];
	const rv_synth_options options = {
	        .arch = rv_arch_by_name("qwen2", 5), .hp = hp, .seed = c->seed};
	if (snprintf(path, sizeof path, "%s/build/cache/tiers-XXXXXX", c->root) >= (int)sizeof path)
		return rv_fail(RV_ERR_INVALID, "%s: name too long", c->root);
	int fd = mkstemp(path);
	if (fd < 0)
		return rv_fail_errno(RV_ERR_IO, "%s: cannot create", path);
	close(fd);
	rv_status status = rv_synth_file(path, &options);
	if (status == RV_OK)
		status = rv_model_open(out, path, NULL);
	unlink(path); /* the map lives on */
	return status;
}

typedef struct arm {
	rv_context *ctx;
	rv_kv_page *pages; /* of F16, ours */
	int64_t n_pages;
	rv_token_run decode;
} arm;

typedef struct fixture {
	const rv_run_config *config;
	scale size;
	int policy, timed;
	int64_t kv_heads, length, tail;
	rv_model *model;
	int32_t tokens[PAGE];
	arm flat, tiered; /* tiered: none when the policy is flat */
	int repeats;
	int64_t n_pages[RV_KV_TIERS + 1];    /* by tier, at the full length */
	double layer_bytes[RV_KV_TIERS + 1]; /* of a page in one layer */
	rv_perplexity text, flat_text;
	const char *text_na;
} fixture;

static void close_arm(arm *a) {
	for (int64_t i = 0; i < a->n_pages; i++)
		rv_kv_page_release(rv_context_kv_pages(a->ctx), a->pages[i]);
	rv_free(a->pages);
	rv_context_destroy(a->ctx);
}

static void teardown(void *user) {
	fixture *f = user;
	close_arm(&f->flat);
	close_arm(&f->tiered);
	rv_model_release(f->model);
}

static rv_status parse_policy(const fixture *f, rv_kv_policy *out) {
	char text[64];
	snprintf(text, sizeof text, "%s", policies[f->policy].text);
	if (f->policy != FLAT)
		snprintf(text, sizeof text, "%s:tail=%lld", policies[f->policy].text,
		         (long long)f->tail);
	return rv_kv_policy_parse(out, text);
}

static rv_status evaluate(rv_context *ctx, const int32_t *tokens, int64_t at, int64_t n) {
	rv_row rows[PAGE];
	for (int64_t i = 0; i < n; i++)
		rows[i] = (rv_row){.token = tokens[i], .position = (int32_t)(at + i), .parent = -1};
	return rv_context_eval(ctx, rows, n);
}

/* Page i holds the keys and values of one evaluated page with its lanes changed round: 4096 tokens of a
 * model that no one has trained need not be evaluated for their bytes and times. */
static rv_status fill_pages(const fixture *f, arm *a) {
	rv_kv_pages *kv = rv_context_kv_pages(a->ctx);
	const rv_kv_page *table;
	const int64_t lanes = rv_kv_pages_n_lanes(kv), n = f->length / PAGE;
	RV_TRY(evaluate(a->ctx, f->tokens, 0, PAGE));
	rv_kv_seq_pages(kv, 0, &table);
	const rv_kv_page first = table[0];
	RV_TRY(RV_ALLOC(&a->pages, n, "pages"));
	for (; a->n_pages < n; a->n_pages++) {
		rv_kv_page page;
		RV_TRY(rv_kv_page_create(kv, RV_KV_F16, &page));
		a->pages[a->n_pages] = page;
		for (int64_t lane = 0; lane < lanes; lane++) {
			rv_kv_lane from = rv_kv_page_lane(kv, first, (lane + a->n_pages) % lanes),
			           to = rv_kv_page_lane(kv, page, lane);
			memcpy(to.keys, from.keys, PAGE * from.stride);
			memcpy(to.values, from.values, PAGE * from.stride);
		}
	}
	return RV_OK;
}

/* The sequence has its full length, and every page its tier: its last token alone is evaluated. */
static rv_status begin_sequence(const fixture *f, const arm *a) {
	RV_TRY(rv_seq_truncate(a->ctx, 0, 0));
	RV_TRY(rv_seq_attach(a->ctx, 0, a->pages, a->n_pages, 0));
	RV_TRY(rv_seq_truncate(a->ctx, 0, f->length - 1));
	return evaluate(a->ctx, f->tokens, f->length - 1, 1);
}

static rv_status open_arm(fixture *f, const rv_kv_policy *policy, arm *a) {
	rv_context_options o = rv_context_defaults();
	o.n_ctx = f->length;
	o.n_batch = PAGE;
	o.page_size = PAGE;
	o.kv_policy = policy;
	o.kv_budget_bytes = (size_t)(2 * f->length / PAGE + 16) * RV_POOL_PAGE_BYTES;
	RV_TRY(rv_lab_context(f->config, f->model, &o, &a->ctx));
	if (!f->timed)
		return RV_OK;
	RV_TRY(fill_pages(f, a));
	return begin_sequence(f, a);
}

/* ---- perplexity of the trained model ---- */

static rv_status score_text(fixture *f, rv_model *model, const rv_kv_policy *policy,
                            const int32_t *tokens, int64_t n, rv_perplexity *out) {
	rv_context_options o = rv_context_defaults();
	rv_context *ctx;
	o.n_ctx = n;
	o.page_size = PAGE;
	o.kv_policy = policy;
	RV_TRY(rv_lab_context(f->config, model, &o, &ctx));
	rv_status status = rv_long_text_score(ctx, tokens, n, n - n / 4, NULL, 0, out);
	rv_context_destroy(ctx);
	return status;
}

static rv_status measure_text(fixture *f, const rv_kv_policy *policy) {
	rv_model *model;
	int32_t *tokens = NULL;
	RV_TRY(rv_model_open(&model, f->config->inputs.model_path, NULL));
	int64_t trained = rv_model_hparams(model)->n_ctx_train, n = f->size.text;
	n = n < trained ? n : trained;
	if (rv_lab_is_synth(rv_model_gguf(model)))
		f->text_na = "untrained weights";
	rv_status status = f->text_na ? RV_OK : rv_long_text_tokens(f->config, model, n, &tokens);
	if (status == RV_OK && !f->text_na)
		status = score_text(f, model, NULL, tokens, n, &f->flat_text);
	if (status == RV_OK && !f->text_na)
		status = score_text(f, model, policy, tokens, n, &f->text);
	rv_free(tokens);
	rv_model_release(model);
	return status;
}

/* ---- set-up ---- */

/* Of the pages there are, and how many of each tier. */
static void note_layout(fixture *f, const rv_kv_policy *policy) {
	const rv_kv_pages *kv = rv_context_kv_pages(f->timed ? f->tiered.ctx : f->flat.ctx);
	const rv_kv_page *table;
	rv_kv_seq_pages(kv, 0, &table);
	for (int64_t i = 0, n = f->length / PAGE; i < n; i++) {
		int tier = rv_kv_policy_tier(policy, i, n, PAGE);
		int format = f->timed ? rv_kv_page_format(kv, table[i]) : RV_KV_F16;
		f->n_pages[tier]++;
		f->layer_bytes[tier] = (double)rv_kv_pages_layer_bytes(kv, format, 0);
	}
}

static rv_status setup(const rv_experiment *exp, const rv_run_config *c, const rv_point *points,
                       int n_points, void *user) {
	fixture *f = user;
	rv_kv_policy policy;
	(void)n_points;
	f->config = c;
	f->size = scales[c->profile];
	f->policy = points[0].values[POLICY];
	f->kv_heads = (int64_t)rv_point_value(exp, &points[0], KV_HEADS)->number;
	f->length = (int64_t)rv_point_value(exp, &points[0], TOKENS)->number;
	f->tail = (int64_t)rv_point_value(exp, &points[0], TAIL)->number;
	f->timed = f->policy != FLAT;
	rv_random_tokens(f->tokens, PAGE, c->seed, VOCAB);
	RV_TRY(parse_policy(f, &policy));
	RV_TRY(make_model(c, f->kv_heads, &f->model));
	RV_TRY(open_arm(f, NULL, &f->flat));
	f->text_na = f->policy == FLAT ? "what the others are held against"
	                               : "does not depend on the heads: see 32";
	if (f->timed)
		RV_TRY(open_arm(f, &policy, &f->tiered));
	note_layout(f, &policy);
	if (f->policy != FLAT && points[0].values[KV_HEADS] == DEFAULT_HEADS) {
		f->text_na = f->size.text ? NULL : "not in this profile";
		if (!f->text_na)
			RV_TRY(measure_text(f, &policy));
	}
	return RV_OK;
}

/* ---- one repetition ---- */

/* A few tokens from a length within the last page on, so that no page is completed. */
static rv_status decode(const fixture *f, const arm *a, double *seconds) {
	const int64_t at = f->length - PAGE / 2;
	RV_TRY(rv_seq_truncate(a->ctx, 0, at));
	int64_t start = rv_now_ns();
	for (int i = 0; i < f->size.n_decoded; i++)
		RV_TRY(evaluate(a->ctx, f->tokens + i, at + i, 1));
	*seconds += 1e-9 * (double)(rv_now_ns() - start);
	return RV_OK;
}

static rv_status measure_decode(const fixture *f, rv_record *record) {
	double flat = 0, tiered = 0, ignored = 0;
	RV_TRY(decode(f, &f->flat, &ignored));
	RV_TRY(decode(f, &f->tiered, &ignored));
	for (int turn = 0; turn == 0 || flat + tiered < 2 * f->size.sample_s; turn++) {
		RV_TRY(decode(f, &f->flat, &flat));
		RV_TRY(decode(f, &f->tiered, &tiered));
	}
	record->values[DECODE_RATIO] = flat / tiered;
	return RV_OK;
}

/* All pages go through their tiers once more. */
static rv_status measure_migration(const fixture *f, rv_record *record) {
	rv_kv_tier_stats before, after;
	rv_context_kv_tier_stats(f->tiered.ctx, &before);
	RV_TRY(begin_sequence(f, &f->tiered));
	rv_context_kv_tier_stats(f->tiered.ctx, &after);
	record->values[MIGRATION] = 1e-6 * (double)(after.encode_ns - before.encode_ns) /
	                            (double)(after.n_encoded - before.n_encoded);
	record->values[MIGRATION_MAX] = 1e-6 * (double)after.encode_max_ns;
	return RV_OK;
}

static void put_layout(const fixture *f, rv_record *record) {
	const double mib = 1.0 / (1 << 20), flat = (double)(f->length / PAGE) * f->layer_bytes[0];
	double layer = 0;
	int last = 0;
	for (int t = 0; t < 3; t++) {
		double bytes = (double)f->n_pages[t] * f->layer_bytes[t];
		record->values[HOT_TOKENS + t] = (double)f->n_pages[t] * PAGE;
		record->values[HOT_MIB + t] = bytes * mib;
		layer += bytes;
		last = f->layer_bytes[t] > 0 ? t : last;
	}
	record->values[LAYER_MIB] = layer * mib;
	record->values[SEQUENCE_MIB] = LAYERS * layer * mib;
	record->values[HUNDRED_GB] = 100 * LAYERS * layer * 1e-9;
	record->values[BITS] = 8 * layer / (2.0 * HEAD_DIM * (double)(f->kv_heads * f->length));
	record->values[COMPRESSION] = flat / layer;
	record->values[STORE_COMPRESSION] = f->layer_bytes[0] / f->layer_bytes[last];
	/* a Q8 row's scale is the bits over 8 of an element */
	double row_bits = 8.0 * (double)rv_kv_row_bytes(RV_KV_Q8, 4 * HEAD_DIM) / (4 * HEAD_DIM);
	record->values[SCALE_GROUP] = 16 / (row_bits - 8);
	if (f->kv_heads <= GQA_BASE) {
		double ratio = GQA_BASE / (double)f->kv_heads;
		record->values[GQA_RATIO] = ratio;
		record->values[GQA_SAVED] = 100 * (1 - 1 / ratio);
	} else {
		rv_record_na(record, GQA_RATIO, "more KV heads than the base has");
		rv_record_na(record, GQA_SAVED, "more KV heads than the base has");
	}
}

static rv_status run(void *user, const rv_point *point, int repetition, rv_record *record) {
	fixture *f = user;
	(void)point;
	if (repetition == 0) {
		put_layout(f, record);
		if (f->text_na) {
			rv_record_na(record, PERPLEXITY, f->text_na);
			rv_record_na(record, PERPLEXITY_INCREASE, f->text_na);
		} else {
			record->values[PERPLEXITY] = f->text.ppl.value;
			record->values[PERPLEXITY_INCREASE] =
			        f->text.ppl.value - f->flat_text.ppl.value;
		}
	}
	if (!f->timed) {
		static const int none[] = {MIGRATION, MIGRATION_MAX, DECODE_RATIO};
		for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
			rv_record_na(record, none[i], "nothing migrates");
		return RV_OK;
	}
	RV_TRY(measure_decode(f, record));
	return measure_migration(f, record);
}

/* Every policy with 32 KV heads, flat and three-tier with fewer, and the tail on RuvLTRA-Medium's. */
static int has_point(const rv_experiment *exp, const rv_point *point) {
	(void)exp;
	int policy = point->values[POLICY], kv = point->values[KV_HEADS], tail = point->values[TAIL];
	if (tail != DEFAULT_TAIL)
		return policy == THREE_TIER && kv == MEDIUM_HEADS;
	return kv == DEFAULT_HEADS || policy == FLAT || (policy == THREE_TIER && kv == MEDIUM_HEADS);
}

static const rv_experiment tiers = {
        .id = "T10",
        .name = "t10_tiers",
        .title = "Tiered KV cache",
        .about =
                "A sequence of 4096 tokens in pages of 64, keys and values of heads of 128 elements: "
                "the "
                "newest tokens in F16, older pages as the policy says (three-tier: Q8 up to 2048 "
                "tokens "
                "back, then KIVI's four bits, keys by channel and values by token). Bytes are those of "
                "the pages the cache holds, with scales and minima; MiB are 2^20 bytes. The model has "
                "the "
                "documented heads, small matrices and as many layers as make a page 2 MiB of F16, one "
                "page of the pool; its pages are filled from one evaluated page. Migration is the time "
                "of "
                "encoding one such page for the next tier with all threads, decode ratio that of "
                "decoding "
                "at the full length in turns with a flat cache. Perplexity is the trained model's on "
                "held-out "
                "documents, the last quarter of 2560 tokens (full: 4096).",
        .documented = "t10_tiers.csv",
        .plot = "t10_tiers",
        RV_EXPERIMENT_PARTS,
        .budget_s = {15, 25, 300},
        .limit_s = {12, 20, 0},
        .min_n = 5,
        .max_n = {5, 6, 20},
        .has_point = has_point,
};

RV_EXPERIMENT_MAIN(tiers)
