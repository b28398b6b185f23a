/* T20: adapters: merging them, many in one batch, changing them between tokens, their pool under
 * pressure, and what they weigh against the documented budgets. */
#include "base/file.h"
#include "base/mem.h"
#include "base/pool.h"
#include "lab/adapter_bench.h"
#include "lab/domain_loss.h"
#include "lab/metrics.h"
#include "lab/models.h"
#include "lab/quality.h"
#include "learn/adapter_merge.h"
#include "model/adapter_write.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- declaration ---- */

enum { MERGE, BATCH, HOT_SWAP, POOL, MEMORY, N_KINDS };
/* Parts as the documents name them, and of what kind. */
#define PARTS(X)                                                                                       \
	X(batch, BATCH)                                                                                \
	X(hot_swap, HOT_SWAP)                                                                          \
	X(pool, POOL)                                                                                  \
	X(adapter, MEMORY)                                                                             \
	X(microlora, MEMORY)                                                                           \
	X(microlora_wasm, MEMORY)                                                                      \
	X(baselora, MEMORY)                                                                            \
	X(adapter_pool, MEMORY)                                                                        \
	X(learning_state, MEMORY)                                                                      \
	X(merge, MERGE)
enum {
#define PART_ID(name, kind) PART_##name,
	PARTS(PART_ID)
#undef PART_ID
	        N_PARTS
};
static const rv_param_value parts[N_PARTS] = {
#define PART_VALUE(name, kind) {#name, 0, RV_PROFILE_SMOKE},
        PARTS(PART_VALUE)
#undef PART_VALUE
};

/* X(part, name, smallest profile, number): a merge's rv_merge, -1 - variant when alone; adapters in a
 * batch; pages of the pool; of sizes: rank, with site and layers below. */
#define CASES(X)                                                                                       \
	X(batch, "0", SMOKE, 0)                                                                        \
	X(batch, "1", SMOKE, 1)                                                                        \
	X(batch, "2", FULL, 2)                                                                         \
	X(batch, "4", QUICK, 4)                                                                        \
	X(batch, "8", FULL, 8)                                                                         \
	X(batch, "16", QUICK, 16)                                                                      \
	X(batch, "32", FULL, 32)                                                                       \
	X(batch, "64", SMOKE, 64)                                                                      \
	X(hot_swap, "between tokens", SMOKE, 0)                                                        \
	X(pool, "ample", SMOKE, 2)                                                                     \
	X(pool, "half", SMOKE, 0.5)                                                                    \
	X(pool, "quarter", QUICK, 0.25)                                                                \
	X(adapter, "qv rank 8", SMOKE, 8)                                                              \
	X(adapter, "qkvo rank 8", SMOKE, 8)                                                            \
	X(adapter, "qkvo rank 16", SMOKE, 16)                                                          \
	X(adapter, "all rank 16", SMOKE, 16)                                                           \
	X(microlora, "4 layers rank 4", SMOKE, 4)                                                      \
	X(microlora, "32 layers rank 2", SMOKE, 2)                                                     \
	X(microlora_wasm, "one layer rank 1", SMOKE, 1)                                                \
	X(baselora, "attn_out rank 8", SMOKE, 8)                                                       \
	X(baselora, "qv rank 8", SMOKE, 8)                                                             \
	X(adapter_pool, "64 of qkvo rank 8", SMOKE, 8)                                                 \
	X(learning_state, "coder", FULL, 0)                                                            \
	X(merge, "base", SMOKE, -1)                                                                    \
	X(merge, "coder", SMOKE, -2)                                                                   \
	X(merge, "agent", SMOKE, -3)                                                                   \
	X(merge, "linear", SMOKE, RV_MERGE_LINEAR)                                                     \
	X(merge, "task", QUICK, RV_MERGE_TASK)                                                         \
	X(merge, "slerp", QUICK, RV_MERGE_SLERP)                                                       \
	X(merge, "ties", QUICK, RV_MERGE_TIES)                                                         \
	X(merge, "dare", QUICK, RV_MERGE_DARE)                                                         \
	X(merge, "dare-ties", QUICK, RV_MERGE_DARE_TIES)                                               \
	X(merge, "ties rank 128", FULL, 100 + RV_MERGE_TIES)                                           \
	X(merge, "dare rank 128", FULL, 100 + RV_MERGE_DARE)                                           \
	X(merge, "dare-ties rank 128", FULL, 100 + RV_MERGE_DARE_TIES)
static const rv_param_value cases[] = {
#define CASE_VALUE(part, name, profile, number) {name, number, RV_PROFILE_##profile},
        CASES(CASE_VALUE)
#undef CASE_VALUE
};
static const struct {
	int part;
	double number;
} case_of[] = {
#define CASE_ROW(part, name, profile, number) {PART_##part, number},
        CASES(CASE_ROW)
#undef CASE_ROW
};
static const int kind_of[N_PARTS] = {
#define PART_KIND(name, kind) kind,
        PARTS(PART_KIND)
#undef PART_KIND
};

enum { PART, CASE, N_PARAMS };
static const rv_param params[N_PARAMS] = {
        [PART] = {"part", "", "what is measured", RV_PARAM_BUILD, RV_PARAM_TEXT, parts, N_PARTS},
        [CASE] = {"case", "",
                  "how merged, how many adapters in the batch, which share of the memory, "
                  "what is adapted",
                  RV_PARAM_QUERY, RV_PARAM_TEXT, cases, sizeof cases / sizeof *cases},
};

enum {
	CODER_LOSS,
	AGENT_LOSS,
	CODER,
	CODER_FROM,
	CODER_TO,
	AGENT,
	AGENT_FROM,
	AGENT_TO,
	LOST,
	CONFLICTS,
	STRATEGIES,
	TOK_S,
	SWAP,
	ADDED = SWAP + 3,
	TOKEN = ADDED + 3,
	INTERRUPTED,
	HIT,
	LOAD,
	COLD,
	PEAK,
	OVER,
	REFUSED,
	EVICTED,
	MEMORY_MB,
	MEMORY_KB,
	PAGE,
	LOW,
	HIGH,
	N_METRICS
};
/* clang-format off */
static const rv_experiment_metric metrics[N_METRICS] = {
	{"coder_loss", "nats", "programs, loss", "cross-entropy a token of the small HumanEval's solutions: the domain of coder", RV_LOWER, 1, 0, NULL, "%.4f"},
	{"agent_loss", "nats", "routing, loss", "cross-entropy a token of the right agents of held-out requests: the domain of agent", RV_LOWER, 1, 0, NULL, "%.4f"},
	{"coder_pct", "%", "programs", "HumanEval's form, pass@1 of the small set: Wilson's interval over items", RV_HIGHER, 1, 0, NULL, "%.1f"},
	RV_METRIC_ENDS("coder_pct", "%", "programs", RV_HIGHER, "%.1f"),
	{"agent_pct", "%", "routing", "agents chosen rightly: Wilson's interval over items", RV_HIGHER, 1, 0, NULL, "%.1f"},
	RV_METRIC_ENDS("agent_pct", "%", "routing", RV_HIGHER, "%.1f"),
	{"lost_pct", "%", "lost to the rank", "norm of what truncation left out / norm of the merged change", RV_LOWER, 1, 0, NULL, "%.1f"},
	{"conflicts_pct", "%", "conflicts", "elements kept of both that disagree on the sign", RV_LOWER, 1, 0, NULL, "%.1f"},
	{"n_strategies", "strategies", "strategies", "ways of merging that were asked for above", RV_HIGHER, 1, 1, NULL, "%.0f"},
	{"tok_s", "tok/s", "throughput", "batch: tokens decoded a second, all sequences together; pool: tokens of requests a second, loading included", RV_HIGHER, 0, 0, NULL, "%.0f"},
	{"swap_p50_us", "us", "change, p50", "changing the set, median", RV_LOWER, 0, 0, NULL, "%.2f"},
	{"swap_p95_us", "us", "change, p95", "95th percentile of the same", RV_LOWER, 0, 1, NULL, "%.2f"},
	{"swap_p99_us", "us", "change, p99", "99th percentile of the same", RV_LOWER, 0, 0, NULL, "%.2f"},
	{"added_p50_us", "us", "added, p50", "median of tokens with a change minus that of tokens without (bar < 1000)", RV_LOWER, 0, 0, NULL, "%.1f"},
	{"added_p95_us", "us", "added, p95", "the same of 95th percentiles", RV_LOWER, 0, 1, NULL, "%.1f"},
	{"added_p99_us", "us", "added, p99", "the same of 99th percentiles", RV_LOWER, 0, 0, NULL, "%.1f"},
	{"token_us", "us", "a token", "median without a change", RV_LOWER, 0, 1, NULL, "%.1f"},
	{"interrupted_requests", "requests", "interrupted", "requests that did not come to their last token while another thread published adapters", RV_LOWER, 1, 0, NULL, "%.0f"},
	{"hit_pct", "%", "hot already", "requests whose adapter was in the pool", RV_HIGHER, 1, 0, NULL, "%.1f"},
	{"load_ms", "ms", "to hot", "mean time to bring an adapter into the pool, eviction included", RV_LOWER, 0, 0, NULL, "%.2f"},
	{"cold_ms", "ms", "cold to hot", "the same of those whose file was not mapped", RV_LOWER, 0, 1, NULL, "%.2f"},
	{"peak_pct", "%", "peak", "of the budget", RV_LOWER, 1, 0, NULL, "%.1f"},
	{"n_over", "pages", "over budget", "pages beyond the budget at the peak", RV_LOWER, 1, 0, NULL, "%.0f"},
	{"n_refused", "requests", "refused", "requests for whose adapter there was no room", RV_LOWER, 1, 0, NULL, "%.0f"},
	{"n_evicted", "adapters", "evicted", "adapters that left the pool", RV_LOWER, 1, 1, NULL, "%.0f"},
	{"memory_mb", "MB", "memory", "factors at RuvLTRA-Medium's shape: adapters F16, MicroLoRA and BaseLoRA F32; of the pool whole pages, B by columns included; of the learning state all that is allocated, and SQ8 patterns at capacity", RV_LOWER, 1, 0, NULL, "%.2f"},
	{"memory_kb", "KB", "memory", "the same", RV_LOWER, 1, 1, NULL, "%.1f"},
	{"page_mib", "MiB", "page", "of the pool", RV_LOWER, 1, 1, NULL, "%.0f"},
	{"pressure_low_pct", "%", "low", "to which eviction goes on", RV_LOWER, 1, 1, NULL, "%.0f"},
	{"pressure_high_pct", "%", "high", "from which on the pool evicts", RV_LOWER, 1, 1, NULL, "%.0f"},
};
/* clang-format on */

enum { SWAPPED, N_FACTS };
static const rv_fact facts[N_FACTS] = {
        [SWAPPED] = {"swapped", "under load", "requests ended while so many versions were published"}};

/* ---- how much is measured ---- */

typedef struct scale {
	int32_t n_seqs;
	int steps, swap_tokens, n_requests, n_files;
	int64_t n_items; /* of a domain, for its loss; 0: all */
	double load_s;
} scale;
static const scale scales[RV_PROFILE_COUNT] = {
        [RV_PROFILE_SMOKE] = {64, 2, 200, 12, 6, 8, 0.03},
        [RV_PROFILE_QUICK] = {64, 4, 300, 16, 16, 60, 0.1},
        [RV_PROFILE_FULL] = {64, 32, 4000, 200, 16, 0, 2},
};
#define SITE RV_SITE_PROJ_QKVO
enum { RANK = 8, HIGH_RANK = 128, POOL_SPARE = 4 };

static rv_status prepare(const rv_experiment *exp, const rv_run_config *config, rv_inputs *in) {
	(void)exp;
	rv_model *model;
	const scale *s = &scales[config->profile];
	RV_TRY(rv_lab_open_model(config, "nano", &model, in));
	rv_model_release(model);
	rv_quality_settings(config->profile, RV_QUALITY_BRIEF, in->settings, sizeof in->settings);
	const size_t n = strlen(in->settings);
	snprintf(in->settings + n, sizeof in->settings - n,
	         " seqs %d steps %d swaps %d pool %d/%d rank %d", s->n_seqs, s->steps, s->swap_tokens,
	         s->n_requests, s->n_files, RANK);
	rv_variant_note_all(config, in);
	return rv_quality_data_sha256(config, RV_QUALITY_BRIEF, in->data_sha256);
}

typedef struct fixture {
	const rv_run_config *config;
	const scale *size;
	rv_model *model;
	rv_adapter *adapters[2]; /* coder and agent, or random ones */
	rv_adapter_batch *batch;
	char dir[4096];
} fixture;

static void teardown(void *user) {
	fixture *f = user;
	rv_adapter_batch_destroy(f->batch);
	for (int i = 0; i < 2; i++)
		rv_adapter_release(f->adapters[i]);
	rv_model_release(f->model);
}

static rv_status open_variants(fixture *f) {
	char path[4096];
	for (int i = 0; i < 2; i++) {
		const char *name = rv_variants[RV_VARIANT_CODER + i].text;
		if (!rv_lab_shipped(f->config, name, path, sizeof path))
			return rv_fail(RV_ERR_NOT_FOUND, "%s.gguf does not ship", name);
		RV_TRY(rv_adapter_open(&f->adapters[i], path, f->model));
	}
	return RV_OK;
}

static rv_status setup(const rv_experiment *exp, const rv_run_config *c, const rv_point *points,
                       int n_points, void *user) {
	(void)exp;
	(void)n_points;
	fixture *f = user;
	f->config = c;
	f->size = &scales[c->profile];
	RV_TRY(rv_model_open(&f->model, c->inputs.model_path, NULL));
	switch (kind_of[points[0].values[PART]]) {
	case MERGE:
		snprintf(f->dir, sizeof f->dir, "%.3900s/build/cache/merges", c->root);
		RV_TRY(rv_mkdirs(f->dir));
		return open_variants(f);
	case BATCH:
		return rv_adapter_batch_create(&f->batch, c, f->model, f->size->n_seqs, SITE, RANK);
	case HOT_SWAP:
		for (int i = 0; i < 2; i++)
			RV_TRY(rv_random_adapter(&f->adapters[i], f->model, SITE, RANK,
			                         c->seed + (uint64_t)i));
		return RV_OK;
	case POOL:
		snprintf(f->dir, sizeof f->dir, "%.3900s/build/cache/adapters-%.16s", c->root,
		         c->inputs.model_sha256);
		return rv_pool_files(f->model, f->dir, f->size->n_files, SITE, RANK);
	default:
		return RV_OK;
	}
}

/* ---- merges ---- */

static rv_status score(const fixture *f, rv_adapter *adapter, rv_quality_task task, int metric,
                       rv_record *record) {
	const rv_subject who = {f->model, adapter};
	rv_quality_items items;
	rv_interval i;
	rv_status st = rv_quality_ask(f->config, who, task, RV_QUALITY_BRIEF, &items);
	if (st == RV_ERR_UNSUPPORTED || st == RV_ERR_NOT_FOUND) {
		for (int m = 0; m < 3; m++)
			rv_record_na(record, metric + m, rv_error_message());
		return RV_OK;
	}
	RV_TRY(st);
	st = rv_items_score(&items.items, f->config->seed, &i);
	if (st == RV_OK)
		rv_quality_record(record, metric, &i, "");
	rv_quality_items_free(&items);
	return st;
}

/* A merge lies in a file, since answers are kept by the adapter's content. */
static rv_status merged(const fixture *f, double number, rv_adapter **out, rv_record *record) {
	rv_merge_options o = rv_merge_defaults();
	rv_merge_report report;
	rv_adapter *made;
	char path[4200], hex[65];
	o.method = (rv_merge)((int)number % 100);
	o.rank = number >= 100 ? HIGH_RANK : 0;
	o.seed = f->config->seed;
	o.threads = f->config->threads;
	RV_TRY(rv_adapter_merge(&made, f->model, "merged", f->adapters, 2, &o, &report));
	rv_adapter_sha256(made, hex);
	snprintf(path, sizeof path, "%s/%.32s.gguf", f->dir, hex);
	rv_status st = rv_adapter_write(path, made, f->model, NULL);
	rv_adapter_release(made);
	record->values[LOST] = 100 * report.lost / report.norm;
	if (!isnan(report.conflicts))
		record->values[CONFLICTS] = 100 * report.conflicts;
	return st == RV_OK ? rv_adapter_open(out, path, f->model) : st;
}

static rv_status run_merge(const fixture *f, double number, rv_record *record) {
	rv_adapter *adapter = NULL;
	if (number >= 0)
		RV_TRY(merged(f, number, &adapter, record));
	else if (number < -1)
		adapter = rv_adapter_retain(f->adapters[-2 - (int)number]);
	else
		record->values[STRATEGIES] = RV_MERGE_COUNT;
	const rv_subject who = {f->model, adapter};
	rv_status st = rv_domain_loss(f->config, who, RV_DOMAIN_CODER, f->size->n_items,
	                              &record->values[CODER_LOSS]);
	if (st == RV_OK)
		st = rv_domain_loss(f->config, who, RV_DOMAIN_AGENT, f->size->n_items,
		                    &record->values[AGENT_LOSS]);
	if (st == RV_OK)
		st = score(f, adapter, RV_QUALITY_HUMANEVAL, CODER, record);
	if (st == RV_OK)
		st = score(f, adapter, RV_QUALITY_ROUTING, AGENT, record);
	rv_adapter_release(adapter);
	return st;
}

/* ---- serving ---- */

static rv_status run_swap(const fixture *f, int repetition, rv_record *record) {
	rv_swap_times t;
	rv_swap_load load;
	RV_TRY(rv_swap_measure(f->config, f->model, f->adapters, f->size->swap_tokens, &t));
	RV_TRY(rv_swap_under_load(f->config, f->model, f->adapters, f->size->load_s, &load));
	memcpy(&record->values[SWAP], t.swap_us, sizeof t.swap_us);
	memcpy(&record->values[ADDED], t.added_us, sizeof t.added_us);
	record->values[TOKEN] = t.token_us;
	if (repetition == 0)
		record->values[INTERRUPTED] = (double)load.n_interrupted;
	else if (load.n_interrupted)
		return rv_fail(RV_ERR_MISMATCH, "%lld requests were interrupted",
		               (long long)load.n_interrupted);
	rv_record_fact(record, SWAPPED, "%lld requests, %lld versions", (long long)load.n_requests,
	               (long long)load.n_swaps);
	return RV_OK;
}

/* Whole pages of one adapter in the pool: factors as stored, B by columns. */
static int64_t pages_of(const rv_hparams *hp, const rv_arch *arch, rv_site site, int64_t rank) {
	int64_t n_a, n_b;
	rv_adapter_numbers(arch, hp, site, hp->n_layers, rank, &n_a, &n_b);
	const int64_t bytes = 2 * n_a + 6 * n_b, page = (int64_t)RV_POOL_PAGE_BYTES;
	return (bytes + page - 1) / page;
}

static rv_status run_pool(const fixture *f, double share, int repetition, rv_record *record) {
	rv_pool_run r;
	const int64_t each = pages_of(rv_model_hparams(f->model), rv_model_arch(f->model), SITE, RANK);
	const int64_t pages = (int64_t)(share * (double)(f->size->n_files * each)) + POOL_SPARE;
	RV_TRY(rv_pool_pressure(f->config, f->model, f->dir, f->size->n_files, (size_t)pages,
	                        f->size->n_requests, &r));
	record->values[TOK_S] = r.tok_s;
	record->values[LOAD] = r.load_ms;
	record->values[COLD] = r.cold_ms;
	if (isnan(r.cold_ms))
		rv_record_na(record, COLD, "no file was cold");
	if (repetition > 0)
		return RV_OK;
	record->values[HIT] = r.hit_pct;
	record->values[PEAK] = r.peak_pct;
	record->values[OVER] = (double)r.n_over;
	record->values[REFUSED] = (double)r.n_refused;
	record->values[EVICTED] = (double)r.n_evicted;
	record->values[PAGE] = (double)RV_POOL_PAGE_BYTES / (1 << 20);
	record->values[LOW] = 70;
	record->values[HIGH] = 85;
	return RV_OK;
}

/* ---- sizes ---- */

static rv_status run_state(const fixture *f, rv_record *record) {
	size_t bytes;
	if (rv_model_hparams(f->model)->n_embd < 2048) {
		rv_record_na(record, MEMORY_MB, "of the medium shape (-m)");
		return RV_OK;
	}
	RV_TRY(rv_learning_state(f->model, &bytes));
	record->values[MEMORY_MB] = 1e-6 * (double)bytes;
	return RV_OK;
}

static rv_site site_of(const char *name) {
	return strncmp(name, "qv", 2) == 0    ? RV_SITE_PROJ_QV
	       : strstr(name, "qkvo") != NULL ? RV_SITE_PROJ_QKVO
	       : strncmp(name, "all", 3) == 0 ? RV_SITE_PROJ_ALL
	                                      : RV_SITE_ATTN_OUT;
}

static rv_status run_memory(const fixture *f, int part, const rv_param_value *what, rv_record *record) {
	const rv_preset *medium = rv_preset_by_name("medium");
	const rv_arch *arch = rv_arch_by_name(medium->arch, strlen(medium->arch));
	const int64_t layers = strncmp(what->text, "4 ", 2) == 0     ? 4
	                       : strncmp(what->text, "one ", 4) == 0 ? 1
	                                                             : medium->hp.n_layers;
	const int64_t rank = (int64_t)what->number;
	int64_t n_a, n_b;
	if (part == PART_learning_state)
		return run_state(f, record);
	rv_adapter_numbers(arch, &medium->hp, site_of(what->text), layers, rank, &n_a, &n_b);
	double bytes = (double)(n_a + n_b) * (part == PART_adapter ? 2 : 4);
	if (part == PART_adapter_pool)
		bytes = 64.0 * (double)pages_of(&medium->hp, arch, site_of(what->text), rank) *
		        (double)RV_POOL_PAGE_BYTES;
	record->values[MEMORY_MB] = 1e-6 * bytes;
	record->values[MEMORY_KB] = 1e-3 * bytes;
	return RV_OK;
}

static rv_status run(void *user, const rv_point *point, int repetition, rv_record *record) {
	const fixture *f = user;
	const int part = point->values[PART];
	const rv_param_value *what = &cases[point->values[CASE]];
	switch (kind_of[part]) {
	case MERGE:
		return repetition == 0 ? run_merge(f, what->number, record) : RV_OK;
	case BATCH:
		return rv_adapter_batch_run(f->batch, (int32_t)what->number, f->size->steps,
		                            &record->values[TOK_S]);
	case HOT_SWAP:
		return run_swap(f, repetition, record);
	case POOL:
		return run_pool(f, what->number, repetition, record);
	default:
		return repetition == 0 ? run_memory(f, part, what, record) : RV_OK;
	}
}

static int has_point(const rv_experiment *exp, const rv_point *point) {
	(void)exp;
	return case_of[point->values[CASE]].part == point->values[PART];
}

static const char *not_run(const rv_experiment *exp, const rv_run_config *config,
                           const rv_point *point) {
	(void)exp;
	return kind_of[point->values[PART]] == MERGE ? rv_variant_na(config, RV_VARIANT_CODER) : NULL;
}

static int is_exact(const rv_experiment *exp, const rv_point *point) {
	(void)exp;
	return kind_of[point->values[PART]] == MERGE;
}

static const rv_experiment adapters = {
        .id = "T20",
        .name = "t20_adapters",
        .title = "Adapters and pool",
        .about =
                "Merges are of the adapters coder and agent, weight 1 each, of their changes to the "
                "weights, truncated to the sum of their ranks (of ties, dare and dare-ties 128 too); "
                "each is scored in both domains beside the adapters alone, by right answers and by the "
                "cross-entropy of the right ones. In a batch 64 sequences "
                "decode together and share so many different adapters (q, k, v, o; rank 8); 0 is the "
                "model alone. Between tokens a set changes before every second token, by a coin, so "
                "that tokens with and without a change stand side by side. Under pressure requests "
                "come under 16 adapters, half of them under a quarter, with KV pages, adapters and a "
                "router in one pool that holds twice, half or a quarter of the adapters and four "
                "pages more. Sizes are counted at RuvLTRA-Medium's shape; which site and rank the "
                "documented budgets mean is not said, so several stand here.",
        .documented = "t20_adapters.csv",
        .plot = "t20_adapters",
        RV_EXPERIMENT_PARTS,
        RV_EXPERIMENT_FACTS,
        .budget_s = {8, 30, 3600},
        .min_n = 10,
        .max_n = {10, 10, 30},
        .has_point = has_point,
        .not_run = not_run,
        .is_exact = is_exact,
};
RV_EXPERIMENT_MAIN(adapters)
