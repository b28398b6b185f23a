/* T5: flash attention against standard attention: time of one layer's attention alone, and the memory
 * it takes. */
#include "base/mem.h"
#include "base/rng.h"
#include "base/sysinfo.h"
#include "engine/backend_cpu.h"
#include "engine/kv_cache.h"
#include "engine/kv_pages.h"
#include "lab/experiment.h"
#include "lab/speed.h"
#include "model/arch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- declaration ---- */

enum { SHAPE, N, PHASE, N_PARAMS };
static const rv_param_value shapes[] = {{"medium", 0, RV_PROFILE_SMOKE}, {"nano", 0, RV_PROFILE_SMOKE}};
static const rv_param_value lengths[] = {{"512", 512, RV_PROFILE_SMOKE},
                                         {"2048", 2048, RV_PROFILE_QUICK},
                                         {"8192", 8192, RV_PROFILE_QUICK},
                                         {"32768", 32768, RV_PROFILE_FULL}};
enum { PREFILL, DECODE };
static const rv_param_value phases[] = {{"prefill", 0, RV_PROFILE_SMOKE},
                                        {"decode", 0, RV_PROFILE_SMOKE}};

static const rv_param params[N_PARAMS] = {
        [SHAPE] = {"shape", "", "heads of a preset", RV_PARAM_BUILD, RV_PARAM_TEXT, shapes, 2},
        [N] = {"n", "tokens", "keys", RV_PARAM_BUILD, RV_PARAM_NUMBER, lengths, 4},
        [PHASE] = {"phase", "", "queries: prefill as many as keys, decode the last one", RV_PARAM_BUILD,
                   RV_PARAM_TEXT, phases, 2},
};

enum {
	STANDARD_MS,
	CAUSAL_MS,
	FLASH_MS,
	PAGED_MS,
	SPEEDUP,
	SPEEDUP_CAUSAL,
	PAGED_RATIO,
	ROOFLINE,
	STANDARD_MB,
	CAUSAL_MB,
	FLASH_MB,
	SAVED,
	N_METRICS
};
/* clang-format off */
static const rv_experiment_metric metrics[N_METRICS] = {
	[STANDARD_MS] = {"standard_ms", "ms", "standard", "one layer, whole score matrix of a head, the upper triangle included", RV_LOWER, 0, 0, NULL, "%.3f"},
	[CAUSAL_MS] = {"standard_causal_ms", "ms", "standard-causal", "blocks of 128 queries, keys up to the block's end", RV_LOWER, 0, 0, NULL, "%.3f"},
	[FLASH_MS] = {"flash_ms", "ms", "flash", "blocks of 64 keys, online softmax, causal skip", RV_LOWER, 0, 0, "flash_roofline_pct", "%.3f"},
	[PAGED_MS] = {"flash_paged_ms", "ms", "flash, paged", "flash over a cache in pages of 64 tokens", RV_LOWER, 0, 1, NULL, "%.3f"},
	[SPEEDUP] = {"speedup", "x", "of standard", "standard / flash, in turns", RV_HIGHER, 0, 0, NULL, "%.2f"},
	[SPEEDUP_CAUSAL] = {"speedup_causal", "x", "of standard-causal", "standard-causal / flash, in turns", RV_HIGHER, 0, 0, NULL, "%.2f"},
	[PAGED_RATIO] = {"paged_ratio", "x", "paged / in one piece", "flash in pages of 64 tokens / flash in one piece, in turns", RV_LOWER, 0, 0, NULL, "%.3f"},
	[ROOFLINE] = {"flash_roofline_pct", "%", "flash, % of roofline", "prefill: multiply-adds below the diagonal / f32 peak; decode: bytes of keys and values / read bandwidth of as many bytes", RV_HIGHER, 0, 0, NULL, "%.1f"},
	[STANDARD_MB] = {"standard_mb", "MB", "standard, extra", "scratch of all threads, 1e6 bytes", RV_LOWER, 1, 0, NULL, "%.2f"},
	[CAUSAL_MB] = {"standard_causal_mb", "MB", "standard-causal, extra", "the same", RV_LOWER, 1, 0, NULL, "%.2f"},
	[FLASH_MB] = {"flash_mb", "MB", "flash, extra", "the same", RV_LOWER, 1, 0, NULL, "%.2f"},
	[SAVED] = {"memory_saved_pct", "%", "memory saved", "1 - flash / standard, each its scratch with queries, results and cached keys and values", RV_HIGHER, 1, 0, NULL, "%.1f"},
};
/* clang-format on */

enum { HEADS, N_FACTS };
static const rv_fact facts[N_FACTS] = {
        [HEADS] = {"heads", "heads", "query heads measured / those of the preset, KV heads, elements"}};

typedef struct scale {
	double most_gflop; /* of standard: query heads are left out until it fits */
	double sample_s;   /* at least this long */
} scale;
static const scale scales[RV_PROFILE_COUNT] = {
        [RV_PROFILE_SMOKE] = {1, 0.001},
        [RV_PROFILE_QUICK] = {20, 0.01},
        [RV_PROFILE_FULL] = {1200, 0.05},
};
#define MEMORY_SHARE 0.6 /* of what is available that one kind may take */
#define PAGE_TOKENS 64
#define KV_TYPE RV_KV_F16

static rv_status prepare(const rv_experiment *exp, const rv_run_config *config, rv_inputs *in) {
	(void)exp;
	const scale *s = &scales[config->profile];
	snprintf(in->settings, sizeof in->settings, "at most %g GFLOP, samples of %g s, cache %s",
	         s->most_gflop, s->sample_s, rv_kv_type_name(KV_TYPE));
	return RV_OK;
}

/* ---- the fixture: one layer's queries, cache and backends ---- */

typedef enum arm { STANDARD, CAUSAL, FLASH, PAGED, N_ARMS } arm;
static const rv_attn_kind kind_of[N_ARMS] = {RV_ATTN_STANDARD, RV_ATTN_STANDARD_CAUSAL, RV_ATTN_FLASH,
                                             RV_ATTN_FLASH};

typedef struct fixture fixture;
typedef struct arm_work {
	const fixture *f;
	rv_backend *backend; /* NULL: not measured */
	char na[RV_REASON_BYTES];
	const rv_kv_view *view;
	int repeats;
	size_t scratch_bytes;
} arm_work;

struct fixture {
	const rv_run_config *config;
	rv_hparams hp; /* one layer */
	int64_t preset_heads, n, n_rows;
	rv_kv_cache cache;
	rv_kv_pages *pages;
	rv_kv_view whole, paged;
	rv_buffer q_buffer, out_buffer;
	rv_tensor q, out;
	rv_row *rows;
	size_t common_bytes; /* queries, results, keys and values */
	double bound_s;      /* by the roofline */
	arm_work arms[N_ARMS];
};

static void teardown(void *user) {
	fixture *f = user;
	for (int i = 0; i < N_ARMS; i++)
		if (f->arms[i].backend)
			f->arms[i].backend->ops->destroy(f->arms[i].backend);
	rv_kv_pages_destroy(f->pages);
	rv_kv_cache_deinit(&f->cache);
	rv_free(f->q_buffer.base);
	rv_free(f->out_buffer.base);
	rv_free(f->rows);
}

static rv_status attend(const void *user) {
	const arm_work *a = user;
	const fixture *f = a->f;
	return a->backend->ops->attention(a->backend, f->out, f->q, &f->hp, f->rows, a->view, 0);
}

/* Elements of mean 0 and variance 1. */
static void fill(float *x, int64_t n, rv_rng *rng) {
	for (int64_t i = 0; i < n; i++)
		x[i] = (rv_rng_float(rng) - 0.5f) * 3.4641016f;
}

static rv_status make_tensor(rv_tensor *t, rv_buffer *b, int64_t rows, int64_t cols) {
	b->bytes = (size_t)(rows * cols) * sizeof(float);
	RV_TRY(rv_alloc(&b->base, 1, b->bytes, "activations"));
	*t = (rv_tensor){b, 0, rows, cols};
	return RV_OK;
}

/* The same keys and values in one piece and in pages. */
static rv_status make_cache(fixture *f, rv_rng *rng) {
	rv_kv_pages_options o = {
	        .hp = &f->hp, .type = KV_TYPE, .page_tokens = PAGE_TOKENS, .n_ctx = f->n, .n_seqs = 1};
	const rv_kv_ops *ops = &rv_kernels_for(rv_level_best())->kv[KV_TYPE];
	RV_TRY(rv_kv_cache_init(&f->cache, &f->hp, KV_TYPE, f->n, 1));
	RV_TRY(rv_kv_pages_bytes(&o, &o.budget_bytes));
	RV_TRY(rv_kv_pages_create(&f->pages, &o));
	RV_TRY(rv_kv_seq_reserve(f->pages, 0, 0, f->n));
	f->whole = rv_kv_cache_view(&f->cache);
	f->paged = rv_kv_pages_view(f->pages);
	for (int64_t head = 0; head < f->hp.n_kv_heads; head++)
		for (int64_t i = 0; i < f->n; i++) {
			float row[2][256];
			void *at[2][2];
			fill(row[0], f->hp.head_dim, rng);
			fill(row[1], f->hp.head_dim, rng);
			f->whole.slot(f->whole.cache, 0, 0, head, i, &at[0][0], &at[0][1]);
			f->paged.slot(f->paged.cache, 0, 0, head, i, &at[1][0], &at[1][1]);
			for (int k = 0; k < 4; k++)
				ops->store(at[k / 2][k % 2], row[k % 2], f->hp.head_dim);
		}
	return RV_OK;
}

static rv_status make_queries(fixture *f, rv_rng *rng) {
	int64_t width = f->hp.n_heads * f->hp.head_dim;
	RV_TRY(make_tensor(&f->q, &f->q_buffer, f->n_rows, width));
	RV_TRY(make_tensor(&f->out, &f->out_buffer, f->n_rows, width));
	fill(f->q_buffer.base, f->n_rows * width, rng);
	RV_TRY(RV_ALLOC(&f->rows, f->n_rows, "rows"));
	for (int64_t i = 0; i < f->n_rows; i++)
		f->rows[i] = (rv_row){.position = (int32_t)(f->n - f->n_rows + i), .parent = -1};
	f->common_bytes = 2 * f->q_buffer.bytes + f->cache.bytes;
	return RV_OK;
}

static rv_status open_arm(fixture *f, arm which) {
	const rv_run_config *c = f->config;
	arm_work *a = &f->arms[which];
	rv_level level;
	rv_cache_sizes caches = rv_cache_sizes_get();
	RV_TRY(rv_level_default(&level));
	a->f = f;
	a->view = which == PAGED ? &f->paged : &f->whole;
	rv_cpu_options o = {.kind = RV_BACKEND_SIMD,
	                    .level = level,
	                    .attention = kind_of[which],
	                    .n_threads = c->n_threads,
	                    .pin = 1,
	                    .n_batch = f->n_rows,
	                    .n_ctx = f->n,
	                    .max_k = f->hp.head_dim,
	                    .head_dim = f->hp.head_dim,
	                    .n_heads = f->hp.n_heads,
	                    .n_kv_heads = f->hp.n_kv_heads,
	                    .max_segments = a->view->max_segments,
	                    .l1d_bytes = caches.l1d_bytes,
	                    .l2_bytes = caches.l2_bytes};
	a->scratch_bytes = (size_t)c->n_threads * rv_cpu_attention_scratch(&o) +
	                   rv_cpu_attention_shared(&o, c->n_threads);
	if ((double)a->scratch_bytes > MEMORY_SHARE * (double)rv_mem_available()) {
		snprintf(a->na, sizeof a->na, "needs %.1f GB of scratch, %.1f GB are available",
		         (double)a->scratch_bytes * 1e-9, (double)rv_mem_available() * 1e-9);
		return RV_OK;
	}
	RV_TRY(rv_cpu_backend_create(&a->backend, &o));
	return rv_repeats_for(attend, a, scales[c->profile].sample_s, &a->repeats);
}

/* All kinds give the same result, up to rounding: nobody is fast by leaving something out. */
static rv_status compare_arms(fixture *f) {
	static const char *const names[N_ARMS] = {"standard", "standard-causal", "flash",
	                                          "flash, paged"};
	size_t n = f->out_buffer.bytes / sizeof(float);
	const float *out = f->out_buffer.base;
	float *first;
	RV_TRY(rv_alloc((void **)&first, n, sizeof *first, "comparison"));
	rv_status status = attend(&f->arms[FLASH]);
	memcpy(first, out, f->out_buffer.bytes);
	for (int i = 0; i < N_ARMS && status == RV_OK; i++) {
		double most = 0;
		if (!f->arms[i].backend)
			continue;
		status = attend(&f->arms[i]);
		for (size_t k = 0; k < n; k++)
			most = fmax(most, fabs((double)(out[k] - first[k])));
		if (status == RV_OK && !(most <= (i == PAGED ? 0 : 1e-4)))
			status = rv_fail(RV_ERR_NUMERIC, "%s differs from flash by %g", names[i], most);
	}
	rv_free(first);
	return status;
}

static rv_status find_bound(fixture *f) {
	const rv_run_config *c = f->config;
	double keys = (double)f->n, d = (double)f->hp.head_dim, heads = (double)f->hp.n_heads;
	if (f->n_rows > 1) {
		double pairs = keys * (keys + 1) / 2;
		f->bound_s = 4 * d * heads * pairs / (c->calibration.f32_gflop_s * 1e9);
		return RV_OK;
	}
	double gb_s = c->calibration.read_gb_s;
	if (f->cache.bytes < 2 * c->calibration.cache_bytes)
		RV_TRY(rv_calibrate_read(c->threads, f->cache.bytes, 0.02, &gb_s));
	f->bound_s = (double)f->cache.bytes / (gb_s * 1e9);
	return RV_OK;
}

/* One layer of a preset; of its query heads as many a KV head as the profile has time for. */
static void choose_shape(fixture *f, const rv_point *point) {
	f->hp = rv_preset_by_name(shapes[point->values[SHAPE]].text)->hp;
	f->hp.n_layers = 1;
	f->preset_heads = f->hp.n_heads;
	f->n = (int64_t)lengths[point->values[N]].number;
	f->n_rows = point->values[PHASE] == PREFILL ? f->n : 1;
	double gflop = 4e-9 * (double)(f->n * f->n_rows * f->hp.head_dim * f->hp.n_kv_heads);
	int64_t group = f->hp.n_heads / f->hp.n_kv_heads;
	while (group > 1 && gflop * (double)group > scales[f->config->profile].most_gflop)
		group /= 2;
	f->hp.n_heads = group * f->hp.n_kv_heads;
}

static rv_status setup(const rv_experiment *exp, const rv_run_config *config, const rv_point *points,
                       int n_points, void *user) {
	fixture *f = user;
	rv_rng rng;
	(void)exp, (void)n_points; /* all parameters are BUILD: one point */
	f->config = config;
	choose_shape(f, &points[0]);
	rv_rng_stream(&rng, config->seed, 5);
	RV_TRY(make_cache(f, &rng));
	RV_TRY(make_queries(f, &rng));
	for (int i = 0; i < N_ARMS; i++) {
		if (config->cancelled(config->user))
			return rv_fail(RV_ERR_CANCELLED, "interrupted");
		RV_TRY(open_arm(f, (arm)i));
	}
	RV_TRY(compare_arms(f));
	return find_bound(f);
}

/* ---- measuring ---- */

static void record_memory(const fixture *f, rv_record *record) {
	static const int metric[] = {STANDARD_MB, CAUSAL_MB, FLASH_MB};
	for (int i = STANDARD; i <= FLASH; i++)
		record->values[metric[i]] = (double)f->arms[i].scratch_bytes * 1e-6;
	record->values[SAVED] =
	        100 * (1 - (double)(f->arms[FLASH].scratch_bytes + f->common_bytes) /
	                           (double)(f->arms[STANDARD].scratch_bytes + f->common_bytes));
	rv_record_fact(record, HEADS, "%lld of %lld, %lld KV, %lld elements", (long long)f->hp.n_heads,
	               (long long)f->preset_heads, (long long)f->hp.n_kv_heads,
	               (long long)f->hp.head_dim);
}

static rv_status run(void *user, const rv_point *point, int repetition, rv_record *record) {
	static const int time_of[N_ARMS] = {STANDARD_MS, CAUSAL_MS, FLASH_MS, PAGED_MS};
	static const int ratio_of[N_ARMS] = {SPEEDUP, SPEEDUP_CAUSAL, -1, PAGED_RATIO};
	const fixture *f = user;
	double s[N_ARMS];
	(void)point;
	if (repetition == 0)
		record_memory(f, record);
	for (int i = 0; i < N_ARMS; i++) {
		int which = (i + repetition) % N_ARMS;
		const arm_work *a = &f->arms[which];
		s[which] = NAN;
		if (!a->backend)
			continue;
		RV_TRY(rv_time_work(attend, a, a->repeats, &s[which]));
		s[which] /= a->repeats;
	}
	for (int i = 0; i < N_ARMS; i++) {
		record->values[time_of[i]] = 1e3 * s[i];
		if (ratio_of[i] >= 0)
			record->values[ratio_of[i]] = s[i] / s[FLASH];
		if (f->arms[i].na[0]) {
			rv_record_na(record, time_of[i], f->arms[i].na);
			rv_record_na(record, ratio_of[i], f->arms[i].na);
		}
	}
	record->values[ROOFLINE] = 100 * f->bound_s / s[FLASH];
	return RV_OK;
}

static const rv_experiment attention = {
        .id = "T5",
        .name = "t5_attention",
        .title = "Flash against standard attention",
        .about = "One layer's attention alone, on random queries and an f16 cache, causal. standard "
                 "is "
                 "attention as written down: for each head the whole n x n scores by a matrix product, "
                 "masked softmax, the product with the values. standard-causal leaves out the keys "
                 "beyond the end of each block of 128 queries. flash is the engine's own. All three "
                 "are written with the same product kernels, share decoded keys and values among the "
                 "query heads of a KV head, and are checked against each other; they are timed in "
                 "turns, and a ratio is that of one turn. Prefill has n queries, decode has the last "
                 "one. The heads are those of the presets (RuvLTRA-Medium: 128 elements, 8 query heads "
                 "a KV head; nano: 64 and 2); at long lengths some query heads are left out to save "
                 "time, which favours nobody but standard. Memory is the scratch that is reserved, "
                 "to the byte. Documented times are of unstated hardware and heads; their ratios are "
                 "held against ours.",
        .documented = "t5_attention.csv",
        .plot = "t5_attention",
        RV_EXPERIMENT_PARTS,
        RV_EXPERIMENT_FACTS,
        .budget_s = {3, 40, 1800},
        .limit_s = {2.5, 30, 0},
        .min_n = 10,
        .max_n = {10, 10, 20},
};

RV_EXPERIMENT_MAIN(attention)
