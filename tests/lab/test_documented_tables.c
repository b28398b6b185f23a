/* The shipped documented values: every file is well-formed, and holds at least what the specification
 * names. */
#include "base/csv.h"
#include "base/file.h"
#include "lab/documented.h"

#include <ctype.h>
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define FOLDER "datasets/documented/"
#define TABLES(X)                                                                                      \
	X(T1, t1_quantization)                                                                         \
	X(T2, t2_inference)                                                                            \
	X(T3, t3_quality)                                                                              \
	X(T4, t4_hnsw)                                                                                 \
	X(T5, t5_attention)                                                                            \
	X(T6, t6_speculative)                                                                          \
	X(T7, t7_paged)                                                                                \
	X(T8, t8_latency)                                                                              \
	X(T9, t9_kernels)                                                                              \
	X(T10, t10_tiers)                                                                              \
	X(T11, t11_orchestration)                                                                      \
	X(T12, t12_distances)                                                                          \
	X(T13, t13_routing)                                                                            \
	X(T14, t14_embedding)                                                                          \
	X(T15, t15_sona)                                                                               \
	X(T16, t16_hnsw_parameters)                                                                    \
	X(T17, t17_kv_quantization)                                                                    \
	X(T18, t18_prefix_cache)                                                                       \
	X(T19, t19_scheduler)                                                                          \
	X(T20, t20_adapters)

enum {
#define ID(id, stem) id,
	TABLES(ID)
#undef ID
	        N_TABLES
};

static const struct {
	const char *id, *path;
} tables[N_TABLES] = {
#define FILE_OF(id, stem) {#id, FOLDER #stem ".csv"},
        TABLES(FILE_OF)
#undef FILE_OF
};

/* ---- one row ---- */

enum {
#define COLUMN(name) COL_##name,
	RV_DOCUMENTED_FIELDS(COLUMN)
#undef COLUMN
	        N_COLUMNS
};

static const char *const columns[N_COLUMNS] = {
#define COLUMN(name) #name,
        RV_DOCUMENTED_FIELDS(COLUMN)
#undef COLUMN
};

static const char *const kinds[] = {"target", "claimed", "expected", "configuration", NULL};
static const char *const hardware[] = {"M3 Max", "M4 Pro", "unstated", NULL};
static const char *const seeds[] = {"S0", "S1", "S2", "S3", "S4", "SPEC", NULL};

/* Of these units a number measured on other hardware says nothing about this one's. */
static const char *const speed_units[] = {"tok/s", "ms", "us", "ns", "GFLOP/s", "1/s", "W", NULL};
static const char *const ratio_units[] = {"x", "%", NULL};

static int is_one_of(const char *text, const char *const *list) {
	for (; *list != NULL; list++)
		if (strcmp(text, *list) == 0)
			return 1;
	return 0;
}

static int is_identifier(const char *text, size_t n) {
	for (size_t i = 0; i < n; i++)
		if (!islower((unsigned char)text[i]) && text[i] != '_' &&
		    (i == 0 || !isdigit((unsigned char)text[i])))
			return 0;
	return n > 0;
}

/* "" or "parameter=value" pairs joined by ';' */
static int is_point(const char *text) {
	while (*text != 0) {
		size_t pair = strcspn(text, ";"), name = strcspn(text, "=");
		if (name + 1 >= pair || !is_identifier(text, name))
			return 0;
		text += pair;
		if (*text == ';' && *++text == 0)
			return 0;
	}
	return 1;
}

static int is_foreign(const char *reason) {
	static const char *const begins[] = {"Apple only", "browser", "scores of a trained 3B"};
	for (size_t i = 0; i < sizeof begins / sizeof begins[0]; i++)
		if (strncmp(reason, begins[i], strlen(begins[i])) == 0)
			return 1;
	return 0;
}

typedef struct checker {
	const char *path, *id; /* id NULL: of any table */
} checker;

static rv_status check_row(void *user, char *const *f, size_t line) {
	const checker *c = user;
	const char *reason = f[COL_comparable_reason];
	const struct {
		int bad, column;
	} rules[] = {
	        {c->id != NULL && strcmp(f[COL_table], c->id) != 0, COL_table},
	        {!is_point(f[COL_point]), COL_point},
	        {!is_identifier(f[COL_metric], strlen(f[COL_metric])), COL_metric},
	        {f[COL_unit][0] == 0, COL_unit},
	        {!is_one_of(f[COL_kind], kinds), COL_kind},
	        {!is_one_of(f[COL_hardware], hardware), COL_hardware},
	        {!is_one_of(f[COL_seed], seeds), COL_seed},
	        /* a claimed speed is another machine's, a target may be met on any */
	        {strcmp(f[COL_kind], "claimed") == 0 && is_one_of(f[COL_unit], speed_units) &&
	                 reason[0] == 0,
	         COL_comparable_reason},
	        /* a ratio is comparable, unless it is of parts that are not here, or nobody's result */
	        {strcmp(f[COL_kind], "configuration") != 0 && is_one_of(f[COL_unit], ratio_units) &&
	                 reason[0] != 0 && !is_foreign(reason),
	         COL_comparable_reason},
	};
	for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
		if (rules[i].bad)
			return rv_fail(RV_ERR_FORMAT, "%s:%zu: %s '%s'", c->path, line,
			               columns[rules[i].column], f[rules[i].column]);
	return RV_OK;
}

/* ---- a whole file ---- */

static int same_end(double a, double b) {
	return isnan(a) ? isnan(b) : a == b;
}

static int same_row(const rv_documented_row *a, const rv_documented_row *b) {
	return strcmp(a->table, b->table) == 0 && strcmp(a->point, b->point) == 0 &&
	       strcmp(a->metric, b->metric) == 0 && same_end(a->lo, b->lo) && same_end(a->hi, b->hi) &&
	       strcmp(a->kind, b->kind) == 0 && strcmp(a->hardware, b->hardware) == 0 &&
	       strcmp(a->seed, b->seed) == 0;
}

/* One metric has one unit, in the whole file. */
static int same_unit(const rv_documented_row *a, const rv_documented_row *b) {
	return strcmp(a->metric, b->metric) != 0 || strcmp(a->unit, b->unit) == 0;
}

/* Fills *doc only when every check passes. */
static rv_status read_checked(rv_documented *doc, const char *path, const char *id) {
	checker c = {path, id};
	rv_documented d = {0};
	RV_TRY(rv_documented_read(&d, path));
	rv_status status = rv_csv_read(path, columns, N_COLUMNS, check_row, &c);
	for (size_t i = 0; i < d.n && status == RV_OK; i++)
		for (size_t j = 0; j < i && status == RV_OK; j++) {
			const rv_documented_row *a = &d.rows[j], *b = &d.rows[i];
			if (same_row(a, b))
				status = rv_fail(RV_ERR_FORMAT, "%s: rows %zu and %zu are the same",
				                 path, j + 1, i + 1);
			else if (!same_unit(a, b))
				status = rv_fail(RV_ERR_FORMAT, "%s: '%s' in '%s' and in '%s'", path,
				                 a->metric, a->unit, b->unit);
		}
	if (status == RV_OK)
		*doc = d;
	else
		rv_documented_free(&d);
	return status;
}

static void read_table(rv_documented *doc, int table) {
	*doc = (rv_documented){0};
	if (read_checked(doc, tables[table].path, tables[table].id) != RV_OK)
		fail_msg("%s", rv_error_message());
}

/* ---- what must be there ---- */

#define OPEN NAN
#define DRAFT_AT(t) "temperature=" t ";k=4;rule=threshold;draft_temperature=0;draft=model"
static const struct expected {
	int table;
	const char *point, *metric;
	double lo, hi;
	const char *seed;
} expected[] = {
        {T1, "format=Q4_K_M", "bytes_per_param", 0.5625, 0.5625, "S0"},
        {T1, "format=Q5_K_M", "bytes_per_param", 0.6875, 0.6875, "S0"},
        {T1, "format=Q8_0", "bytes_per_param", 1.0625, 1.0625, "S0"},
        {T1, "format=Q4_K_M", "medium_gb", 2.0, 2.0, "S0"},
        {T1, "format=Q5_K_M", "medium_gb", 2.5, 2.5, "S0"},
        {T1, "format=Q8_0", "medium_gb", 3.5, 3.5, "S0"},
        {T1, "format=Mixed", "medium_gb", 2.8, 2.8, "S0"},
        {T1, "format=Q4_K_M", "quality_loss_pct", 2, 2, "S0"},
        {T1, "format=Q5_K_M", "quality_loss_pct", 1, 1, "S0"},
        {T1, "format=Q8_0", "quality_loss_pct", OPEN, 0.5, "S0"},
        {T1, "format=Mixed", "quality_loss_pct", 1.5, 1.5, "S0"},
        {T1, "format=Q4_K_M", "quality_loss_pct", 2, 3, "S1"},
        {T1, "format=Q5_K_M", "quality_loss_pct", 2, 3, "S1"},
        {T1, "format=Q4_K_M", "tg_tok_s", 68, 68, "S0"},
        {T1, "format=Mixed", "tg_tok_s", 60, 60, "S0"},
        {T2, "variant=base;format=Q4_K_M;speculative=off", "tg_tok_s", 68, 68, "S0"},
        {T2, "variant=base;format=Q5_K_M;speculative=off", "memory_gb", 2.7, 2.7, "S0"},
        {T2, "variant=base;format=Q8_0;speculative=off", "quality_pct", 102, 102, "S0"},
        {T2, "variant=coder;format=Q4_K_M;speculative=off", "power_w", 13, 13, "S0"},
        {T2, "variant=agent;format=Q4_K_M;speculative=off", "quality_pct", 97, 97, "S0"},
        {T2, "variant=base;format=Q4_K_M;speculative=on", "tg_tok_s", 158, 158, "S0"},
        {T3, "task=mmlu;variant=base;type=F16", "score_pct", 68.2, 68.2, "S0"},
        {T3, "task=humaneval;variant=coder;type=F16", "score_pct", 61.7, 61.7, "S0"},
        {T3, "task=gsm8k;variant=agent;type=F16", "score_pct", 73.6, 73.6, "S0"},
        {T3, "task=truthfulqa_mc2;variant=agent;type=F16", "score_pct", 47.1, 47.1, "S1"},
        {T4, "n=1000;dim=768;baseline=simd", "speedup", 160, 160, "S0"},
        {T4, "n=10000;dim=768;baseline=scalar", "speedup", 683, 683, "S0"},
        {T4, "n=50000;dim=768;baseline=scalar", "speedup", 2305, 2305, "S0"},
        {T4, "n=100000;dim=768;baseline=scalar", "speedup", 3957, 3957, "S0"},
        {T4, "n=100000;dim=768;baseline=scalar", "brute_ms", 83.1, 83.1, "S0"},
        {T4, "", "speedup", 150, 12500, "S1"},
        {T4, "", "link_bytes_per_connection", 4, 4, "S1"},
        {T4, "", "insert_log_exponent", OPEN, 1, "S1"},
        {T5, "shape=medium;n=512;phase=prefill", "speedup", 2.5, 2.5, "S0"},
        {T5, "shape=medium;n=2048;phase=prefill", "speedup", 4.2, 4.2, "S0"},
        {T5, "shape=medium;n=2048;phase=prefill", "speedup", 2.5, 2.5, "S1"},
        {T5, "shape=medium;n=8192;phase=prefill", "speedup", 7.0, 7.0, "S0"},
        {T5, "shape=medium;n=8192;phase=prefill", "speedup", 4.2, 4.2, "S1"},
        {T5, "shape=medium;n=32768;phase=prefill", "speedup", 7.1, 7.1, "S0"},
        {T5, "shape=medium;n=32768;phase=prefill", "memory_saved_pct", 70, 70, "S0"},
        {T5, "", "speedup", 2.49, 7.47, "S1"},
        {T5, "", "speedup", 2.5, 2.5, "S3"},
        {T5, "", "speedup", 2.3, 2.3, "S3"},
        {T6, DRAFT_AT("0"), "acceptance_pct", 75, 75, "S0"},
        {T6, DRAFT_AT("0.5"), "acceptance_pct", 60, 60, "S0"},
        {T6, DRAFT_AT("1"), "acceptance_pct", 40, 40, "S0"},
        {T6, DRAFT_AT("0"), "speedup", 2.8, 3.2, "S0"},
        {T6, DRAFT_AT("0.5"), "speedup", 2.2, 2.6, "S0"},
        {T6, DRAFT_AT("1"), "speedup", 1.5, 1.8, "S0"},
        {T6, DRAFT_AT("0"), "quality_pct", 99, 99, "S0"},
        {T7, "page=64", "memory_saved_pct", 40, 60, "S0"},
        {T7, "page=64", "throughput_ratio", 1.8, 1.8, "S3"},
        {T7, "page=64", "throughput_ratio", 1.7, 1.7, "S3"},
        {T7, "", "page", 64, 64, "S0"},
        {T7, "", "page", 16, 16, "S4"},
        {T8, "op=attention_256", "latency_ms", OPEN, 2, "S2"},
        {T8, "op=rope", "latency_ms", OPEN, 0.1, "S2"},
        {T8, "op=rmsnorm_4096", "latency_ms", OPEN, 0.01, "S2"},
        {T8, "op=rmsnorm_4096", "latency_ms", OPEN, 0.05, "S2"},
        {T8, "op=gemv_4096", "latency_ms", OPEN, 5, "S2"},
        {T8, "op=microlora_forward", "latency_ms", OPEN, 0.5, "S2"},
        {T8, "op=microlora_update", "latency_ms", OPEN, 1, "S2"},
        {T8, "op=kv_append", "latency_ms", OPEN, 0.1, "S2"},
        {T8, "op=kv_migration", "latency_ms", OPEN, 1, "S2"},
        {T8, "op=ttft", "latency_ms", OPEN, 50, "S2"},
        {T8, "op=load_7b_q4", "load_s", OPEN, 30, "S2"},
        {T8, "op=load_7b_q4", "memory_gb", OPEN, 4, "S2"},
        {T8, "op=decode", "tg_tok_s", 100, OPEN, "S2"},
        {T8, "op=decode", "tg_tok_s", 120, 120, "S2"},
        {T8, "op=decode", "tg_tok_s", 200, OPEN, "S2"},
        {T8, "op=attention_256", "latency_ms", 0.84, 0.84, "S2"},
        {T8, "op=rmsnorm_4096", "latency_ms", 0.00062, 0.00062, "S2"},
        {T8, "op=gemv_4096", "latency_ms", 1.36, 1.36, "S2"},
        {T8, "op=microlora_forward", "latency_ms", 0.00261, 0.00261, "S2"},
        {T8, "op=microlora_update", "latency_ms", 0.5, 0.5, "S3"},
        {T8, "op=attention_arena", "latency_saved_pct", 15, 25, "S2"},
        {T9, "op=dot", "speedup", 2.9, 2.9, "S2"},
        {T9, "op=l2", "speedup", 2.9, 2.9, "S2"},
        {T9, "op=cosine", "speedup", 5.9, 5.9, "S2"},
        {T9, "op=silu", "speedup", 3.5, 3.5, "S2"},
        {T9, "op=gelu", "speedup", 3.2, 3.2, "S2"},
        {T9, "op=relu", "speedup", 4, 4, "S2"},
        {T9, "op=softmax", "speedup", 2.8, 2.8, "S2"},
        {T9, "op=gemv_int8", "speedup", 2.5, 2.5, "S2"},
        {T9, "op=gemv_int4", "speedup", 4, 4, "S2"},
        {T9, "op=gemv_f32", "gflop_s", 35.9, 35.9, "S2"},
        {T9, "op=gemm_f32", "gflop_s", 19.2, 19.2, "S2"},
        {T9, "op=gemv_blas", "gflop_s", 80, OPEN, "S2"},
        {T9, "op=gemv_blas", "speedup_over_simd", 2, 2, "S2"},
        {T9, "op=dequantize_q4_k", "speedup_over_q8", 5.5, 5.5, "S2"},
        {T9, "op=gemm_threads_10", "thread_speedup", 12.7, 12.7, "S2"},
        {T10, "policy=three-tier;kv_heads=32;tokens=4096", "hot_mib", 4, 4, "S2"},
        {T10, "policy=three-tier;kv_heads=32;tokens=4096", "warm_mib", 14, 14, "S2"},
        {T10, "policy=three-tier;kv_heads=32;tokens=4096", "cold_mib", 8, 8, "S2"},
        {T10, "policy=three-tier;kv_heads=32;tokens=4096", "layer_mib", 26, 26, "S2"},
        {T10, "policy=three-tier;kv_heads=32;tokens=4096", "sequence_mib", 26, 26, "S2"},
        {T10, "policy=three-tier;kv_heads=32;tokens=4096", "sequence_mib", 832, 832, "SPEC"},
        {T10, "policy=three-tier;kv_heads=2;tokens=4096;tail=256", "sequence_mib", 52, 52, "SPEC"},
        {T10, "", "scale_group", 128, 128, "SPEC"},
        {T10, "policy=three-tier-kivi", "compression", 8, 22, "S2"},
        {T10, "policy=three-tier-kivi", "perplexity_increase", OPEN, 0.3, "S2"},
        {T10, "policy=flat;kv_heads=2", "gqa_saved_pct", 87.5, 87.5, "S2"},
        {T10, "policy=flat;kv_heads=4", "gqa_ratio", 4, 4, "S3"},
        {T11, "part=total", "latency_ms", OPEN, 1, "S4"},
        {T11, "part=embed", "latency_ms", 50, 50, "S4"},
        {T11, "part=session_lookup", "latency_ms", OPEN, 0.1, "S4"},
        {T11, "part=pattern_search;n=100000", "latency_ms", OPEN, 2, "S4"},
        {T11, "part=sessions", "n_sessions", 1000, OPEN, "S4"},
        {T11, "part=footprint", "base_mb", OPEN, 50, "S4"},
        {T11, "part=footprint", "bytes_per_entry", 3000, 3000, "S4"},
        {T12, "op=l2;dim=128", "latency_ns", 14.9, 14.9, "S2"},
        {T12, "op=l2;dim=768", "latency_ns", 115, 115, "S2"},
        {T12, "op=l2;dim=1536", "latency_ns", 280, 280, "S2"},
        {T12, "op=cosine;dim=128", "latency_ns", 16.4, 16.4, "S2"},
        {T12, "op=cosine;dim=768", "latency_ns", 129, 129, "S2"},
        {T12, "op=cosine;dim=1536", "latency_ns", 303, 303, "S2"},
        {T12, "op=dot;dim=128", "latency_ns", 12, 12, "S2"},
        {T12, "op=dot;dim=768", "latency_ns", 112, 112, "S2"},
        {T12, "op=dot;dim=1536", "latency_ns", 292, 292, "S2"},
        {T12, "op=hamming;dim=768", "latency_ns", 1.8, 1.8, "S2"},
        {T12, "op=int8;dim=768", "latency_ns", 63, 63, "S2"},
        {T12, "op=hnsw_k1", "latency_us", 18.9, 18.9, "S2"},
        {T12, "op=hnsw_k10", "latency_us", 25.2, 25.2, "S2"},
        {T12, "op=hnsw_k10", "latency_us", 24.0, 24.0, "S2"},
        {T12, "op=hnsw_k100", "latency_us", 77.9, 77.9, "S2"},
        {T12, "op=pattern_routing", "latency_us", 105, 105, "S2"},
        {T12, "op=hnsw_k10", "p50_us", 61, 61, "S2"},
        {T12, "op=hnsw_k10", "qps", 16400, 16400, "S2"},
        {T13, "router=keyword;set=requests", "accuracy_pct", 66.7, 66.7, "S2"},
        {T13, "router=embedding;set=requests", "accuracy_pct", 88.2, 88.2, "S2"},
        {T13, "router=embedding;set=requests", "hard_negative_pct", 81.2, 81.2, "S2"},
        {T13, "router=hybrid;set=requests", "accuracy_pct", 100, 100, "S2"},
        {T13, "router=keyword;set=requests", "n_cases", 96, OPEN, "S2"},
        {T13, "router=hybrid;set=requests", "n_cases", 62, OPEN, "S2"},
        {T14, "embedder=trained;dim=768;task=similarity", "n_pairs", 36, OPEN, "S2"},
        {T14, "embedder=trained;dim=768;task=search", "n_queries", 5, OPEN, "S2"},
        {T14, "embedder=trained;dim=768;task=clustering", "n_clusters", 5, OPEN, "S2"},
        {T15, "part=overhead;layers=base;site=attn_out;rank=4", "overhead_pct", 8.9, 8.9, "S2"},
        {T15, "", "max_hooks", OPEN, 4, "S1"},
        {T15, "variant=coder", "hook_layer", 28, 28, "S0"},
        {T15, "part=overhead;layers=base;site=attn_out;rank=4", "latency_ms", OPEN, 0.05, "S0"},
        {T15, "part=overhead;layers=base;site=attn_out;rank=4", "latency_ms", 0.5, 0.5, "S3"},
        {T15, "loop=background", "interval_s", 0.1, 0.1, "S3"},
        {T15, "loop=background", "interval_s", 3600, 3600, "S0"},
        {T15,
         "part=learn;arm=background;layers=base;site=attn_out;rank=4;lr=usual;lambda=usual;replay="
         "usual",
         "duration_s", OPEN, 10, "S4"},
        {T15, "part=learn;arm=deep;layers=base;site=attn_out;rank=4;lr=usual;lambda=usual;replay=usual",
         "duration_s", OPEN, 600, "S4"},
        {T15, "consolidation=ema", "ema_keep", 0.99, 0.99, "S2"},
        {T16, "mark=base", "m", 16, 16, "S0"},
        {T16, "mark=base", "ef_construction", 200, 200, "S0"},
        {T16, "mark=base", "ef_search", 50, 50, "S0"},
        {T16, "mark=agent", "m", 32, 32, "S0"},
        {T16, "mark=agent", "ef_construction", 400, 400, "S0"},
        {T16, "mark=agent", "ef_search", 50, 50, "S0"},
        {T16, "mark=orchestration", "m", 32, 32, "S4"},
        {T16, "mark=orchestration", "ef_search", 64, 64, "S4"},
        {T17, "policy=three-tier-kivi", "perplexity_increase", OPEN, 0.3, "S2"},
        {T17, "kv=kivi2", "bits", 2, 2, "S2"},
        {T17, "scaling=yarn", "context", 131072, 131072, "S0"},
        {T18, "workload=chat;shared_pct=95;prompt=2048", "speedup", 10, 10, "S2"},
        {T18, "workload=rag;shared_pct=95;prompt=2048", "speedup", 10, 10, "S2"},
        {T19, "", "users_ratio", 5, 10, "S2"},
        {T19, "concurrency=1000", "n_sessions", 1000, OPEN, "S4"},
        {T20, "part=adapter;case=qkvo rank 8", "memory_mb", 10, 10, "S2"},
        {T20, "part=microlora;case=32 layers rank 2", "memory_mb", 1, 1, "S2"},
        {T20, "part=baselora;case=qv rank 8", "memory_mb", 4, 4, "S2"},
        {T20, "part=learning_state;case=coder", "memory_mb", 128, 128, "S2"},
};

/* The specification rounds or truncates what the sources print in full: 2.94 as 2.9. */
static int near_end(double have, double want) {
	return isnan(want) ? isnan(have) : fabs(have - want) <= 0.015 * want;
}

static int has_row(const rv_documented *d, const struct expected *e) {
	for (size_t i = 0; i < d->n; i++) {
		const rv_documented_row *r = &d->rows[i];
		if (strcmp(r->point, e->point) == 0 && strcmp(r->metric, e->metric) == 0 &&
		    strcmp(r->seed, e->seed) == 0 && near_end(r->lo, e->lo) && near_end(r->hi, e->hi))
			return 1;
	}
	return 0;
}

static void has_what_the_specification_names(void **state) {
	(void)state;
	size_t n = sizeof expected / sizeof expected[0], missing = 0;
	for (int t = 0; t < N_TABLES; t++) {
		rv_documented d;
		size_t named = 0;
		read_table(&d, t);
		for (size_t i = 0; i < n; i++) {
			if (expected[i].table != t)
				continue;
			named++;
			if (has_row(&d, &expected[i]))
				continue;
			print_error("%s: no row '%s' %s %g..%g of %s\n", tables[t].path,
			            expected[i].point, expected[i].metric, expected[i].lo,
			            expected[i].hi, expected[i].seed);
			missing++;
		}
		assert_true(named > 0);
		rv_documented_free(&d);
	}
	assert_int_equal(missing, 0);
}

static void notices_a_missing_value(void **state) {
	(void)state;
	rv_documented d;
	read_table(&d, T4);
	struct expected e = {T4, "n=10000;dim=768;baseline=scalar", "speedup", 683, 683, "S0"};
	assert_true(has_row(&d, &e));
	e.hi = e.lo = 700;
	assert_false(has_row(&d, &e));
	e = (struct expected){T4, "n=10000;dim=768;baseline=scalar", "speedup", 683, OPEN, "S0"};
	assert_false(has_row(&d, &e));
	rv_documented_free(&d);
}

/* ---- the folder ---- */

/* A file that no experiment's table names would be read by nobody. */
static void every_file_is_listed(void **state) {
	(void)state;
	DIR *dir = opendir(FOLDER);
	assert_non_null(dir);
	int n = 0;
	for (const struct dirent *e; (e = readdir(dir)) != NULL;) {
		size_t length = strlen(e->d_name);
		char path[512];
		int known = strcmp(e->d_name, "hardware.csv") == 0;
		if (length < 4 || strcmp(e->d_name + length - 4, ".csv") != 0)
			continue;
		snprintf(path, sizeof path, FOLDER "%s", e->d_name);
		for (int t = 0; t < N_TABLES; t++)
			known |= strcmp(path, tables[t].path) == 0;
		if (!known)
			fail_msg("%s belongs to no table", path);
		n++;
	}
	closedir(dir);
	assert_int_equal(n, N_TABLES + 1);
}

/* Hardware with a bandwidth in the list is hardware that rows name. */
static void bandwidths(void **state) {
	(void)state;
	for (int i = 0; hardware[i] != NULL; i++) {
		double gb_s = 0;
		int stated = strcmp(hardware[i], "unstated") != 0;
		assert_int_equal(rv_documented_bandwidth(FOLDER "hardware.csv", hardware[i], &gb_s),
		                 stated ? RV_OK : RV_ERR_NOT_FOUND);
		assert_true(!stated || (gb_s >= 100 && gb_s <= 1000));
	}
}

/* ---- negative controls ---- */

#define HEADER "table,point,metric,value_lo,value_hi,unit,kind,hardware,seed,comparable_reason\n"
#define GOOD "T9,op=dot,speedup,2.9,2.9,x,claimed,M4 Pro,S2,\n"

static char path[256];

static int make_path(void **state) {
	(void)state;
	const char *tmp = getenv("TMPDIR");
	snprintf(path, sizeof path, "%s/rv_documented_tables_XXXXXX", tmp != NULL ? tmp : "/tmp");
	int fd = mkstemp(path);
	return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state) {
	(void)state;
	return unlink(path);
}

static void refuses(void **state) {
	(void)state;
	static const struct {
		const char *row, *says;
	} cases[] = {
	        {"T8,op=dot,speedup,2,2,x,claimed,M4 Pro,S2,\n", ":3: table 'T8'"},
	        {"T9,dot,speedup,2,2,x,claimed,M4 Pro,S2,\n", ":3: point 'dot'"},
	        {"T9,op=,speedup,2,2,x,claimed,M4 Pro,S2,\n", ":3: point 'op='"},
	        {"T9,op=dot;,speedup,2,2,x,claimed,M4 Pro,S2,\n", ":3: point 'op=dot;'"},
	        {"T9,op=l2;dim,speedup,2,2,x,claimed,M4 Pro,S2,\n", ":3: point 'op=l2;dim'"},
	        {"T9,op=dot,speed-up,2,2,x,claimed,M4 Pro,S2,\n", ":3: metric 'speed-up'"},
	        {"T9,op=dot,speedup,2,2,,claimed,M4 Pro,S2,\n", ":3: unit ''"},
	        {"T9,op=dot,speedup,2,2,x,rumoured,M4 Pro,S2,\n", ":3: kind 'rumoured'"},
	        {"T9,op=dot,speedup,2,2,x,claimed,M2,S2,\n", ":3: hardware 'M2'"},
	        {"T9,op=dot,speedup,2,2,x,claimed,M4 Pro,S5,\n", ":3: seed 'S5'"},
	        {"T9,op=dot,gflop_s,2,2,GFLOP/s,claimed,M4 Pro,S2,\n", ":3: comparable_reason ''"},
	        {"T9,op=dot,speedup,2,2,x,claimed,M4 Pro,S2,other machine\n",
	         ":3: comparable_reason 'other machine'"},
	        {"T9,op=dot,speedup,2,2,x,claimed,M4 Pro,S2\n", ":3: 9 fields"},
	        {"T9,op=dot,speedup,3,2,x,claimed,M4 Pro,S2,\n", ":3: value range '3'..'2'"},
	        {"T9,op=dot,speedup,,,x,claimed,M4 Pro,S2,\n", ":3: value range"},
	        {GOOD, "rows 1 and 2 are the same"},
	        {"T9,op=l2,speedup,2.9,2.9,times,claimed,M4 Pro,S2,\n",
	         "'speedup' in 'x' and in 'times'"},
	};
	rv_documented d = {0};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char text[512], at[512];
		int n = snprintf(text, sizeof text, HEADER GOOD "%s", cases[i].row);
		assert_int_equal(rv_file_write(path, text, (size_t)n), RV_OK);
		assert_int_equal(read_checked(&d, path, "T9"), RV_ERR_FORMAT);
		snprintf(at, sizeof at, "%s%s%s", path, cases[i].says[0] == ':' ? "" : ": ",
		         cases[i].says);
		if (strstr(rv_error_message(), at) == NULL)
			fail_msg("'%s' does not say '%s'", rv_error_message(), at);
	}
	assert_int_equal(rv_file_write(path, HEADER GOOD, strlen(HEADER GOOD)), RV_OK);
	assert_int_equal(read_checked(&d, path, "T9"), RV_OK);
	assert_int_equal(d.n, 1);
	rv_documented_free(&d);
}

int main(void) {
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(has_what_the_specification_names),
	        cmocka_unit_test(notices_a_missing_value),
	        cmocka_unit_test(every_file_is_listed),
	        cmocka_unit_test(bandwidths),
	        cmocka_unit_test(refuses),
	};
	return cmocka_run_group_tests(tests, make_path, remove_path);
}
