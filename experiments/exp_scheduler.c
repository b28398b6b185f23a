/* T19: continuous batching: throughput, time to first token and latencies by concurrency, the cost of
 * looking a session up and of appending to its cache, and users at equal memory with and without pages.
 */
#include "base/mem.h"
#include "base/sysinfo.h"
#include "engine/kv_pages.h"
#include "engine/scheduler.h"
#include "lab/experiment.h"
#include "lab/load.h"
#include "lab/models.h"
#include "lab/speed.h"
#include "lab/stats.h"
#include "lab/subject.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- declaration ---- */

enum { LOAD, CONCURRENCY, N_PARAMS };
enum { CLOSED, OPEN, N_LOADS };
static const rv_param_value loads[N_LOADS] = {{"closed", 0, RV_PROFILE_SMOKE},
                                              {"open", 0, RV_PROFILE_SMOKE}};
static const rv_param_value concurrencies[] = {
        {"1", 1, RV_PROFILE_SMOKE},   {"4", 4, RV_PROFILE_SMOKE},     {"16", 16, RV_PROFILE_SMOKE},
        {"64", 64, RV_PROFILE_SMOKE}, {"256", 256, RV_PROFILE_QUICK}, {"1000", 1000, RV_PROFILE_QUICK},
};
enum { N_CONCURRENCIES = sizeof concurrencies / sizeof *concurrencies, SESSIONS = N_CONCURRENCIES - 1 };
static const rv_param params[N_PARAMS] = {
        [LOAD] = {"load", "", "closed loop of so many users, or Poisson arrivals", RV_PARAM_QUERY,
                  RV_PARAM_TEXT, loads, N_LOADS},
        [CONCURRENCY] = {"concurrency", "", "users; in an open loop sequences at once", RV_PARAM_QUERY,
                         RV_PARAM_NUMBER, concurrencies, N_CONCURRENCIES},
};

enum {
	TOK_S,
	ROOFLINE,
	ROWS_S,
	REQUESTS_S,
	RUNNING,
	SAMPLE,
	OVERHEAD,
	FIRST,
	GAP = FIRST + RV_PERCENTILES,
	ANSWER = GAP + RV_PERCENTILES,
	N_SESSIONS = ANSWER + RV_PERCENTILES,
	LOOKUP,
	LOOKUP_P99,
	APPEND,
	APPEND_P99,
	USERS_ONE_PIECE,
	USERS_PAGED,
	USERS_RATIO,
	N_METRICS
};

/* clang-format off */
#define PERCENTILES(stem, title, help, format) \
	{stem "_p50_ms", "ms", title ", p50", help ", median of a window", RV_LOWER, 0, 0, NULL, format}, \
	{stem "_p95_ms", "ms", title ", p95", help ", 95th percentile of a window", RV_LOWER, 0, 0, NULL, format}, \
	{stem "_p99_ms", "ms", title ", p99", help ", 99th percentile of a window", RV_LOWER, 0, 0, NULL, format}
static const rv_experiment_metric metrics[N_METRICS] = {
	{"tok_s", "tok/s", "throughput", "tokens delivered a second, all requests together", RV_HIGHER, 0, 0, "tok_s_roofline_pct", "%.1f"},
	{"tok_s_roofline_pct", "%", "% of roofline", "least time of the steps by memory (every weight once a step) or arithmetic (of their mean rows) / time", RV_HIGHER, 0, 0, NULL, "%.1f"},
	{"rows_s", "rows/s", "rows", "rows evaluated a second, prompts included", RV_HIGHER, 0, 1, NULL, "%.0f"},
	{"requests_s", "1/s", "requests", "requests answered a second", RV_HIGHER, 0, 1, NULL, "%.2f"},
	{"running", "requests", "running", "requests that hold a sequence, mean over steps", RV_HIGHER, 0, 0, NULL, "%.1f"},
	{"sample_pct", "%", "sampling", "time in choosing tokens / time", RV_LOWER, 0, 0, NULL, "%.2f"},
	{"overhead_pct", "%", "scheduling", "time neither in evaluation nor in sampling / time (closed loop)", RV_LOWER, 0, 0, NULL, "%.2f"},
	PERCENTILES("ttft", "first token", "from when a request was due to its first token", "%.2f"),
	PERCENTILES("gap", "next token", "from one token of a request to its next", "%.2f"),
	PERCENTILES("latency", "last token", "from when a request was due to its last token", "%.2f"),
	{"n_sessions", "sessions", "live sessions", "requests found live by their ids at one moment", RV_HIGHER, 1, 0, NULL, "%.0f"},
	{"lookup_us", "us", "look-up", "finding one live request by its id and its block table, mean (bar < 100 us with 1000 sessions)", RV_LOWER, 0, 0, NULL, "%.3f"},
	{"lookup_p99_us", "us", "look-up, p99", "99th percentile of the same", RV_LOWER, 0, 1, NULL, "%.3f"},
	{"append_ms", "ms", "KV append", "page for, and keys and values of, one token in all layers, mean (bar < 0.1 ms)", RV_LOWER, 0, 0, NULL, "%.5f"},
	{"append_p99_ms", "ms", "KV append, p99", "99th percentile of the same", RV_LOWER, 0, 1, NULL, "%.5f"},
	{"users_in_one_piece", "users", "users, one piece", "running at once when every sequence has its whole context reserved, mean over steps", RV_HIGHER, 1, 0, NULL, "%.1f"},
	{"users_paged", "users", "users, paged", "running at once in pages of the same memory", RV_HIGHER, 1, 0, NULL, "%.1f"},
	{"users_ratio", "x", "users by paging", "users_paged / users_in_one_piece", RV_HIGHER, 1, 0, NULL, "%.2f"},
};
/* clang-format on */

/* ---- how much is measured ---- */

typedef struct scale {
	double window_s;       /* of a repetition, at least */
	double prompt, answer; /* median tokens */
	int page_size;
} scale;
static const scale scales[RV_PROFILE_COUNT] = {
        [RV_PROFILE_SMOKE] = {0.02, 8, 8, 32},
        [RV_PROFILE_QUICK] = {0.12, 16, 16, 32},
        [RV_PROFILE_FULL] = {1, 16, 16, 32},
};
#define SIGMA 0.7 /* of the logarithms of lengths */
#define MOST 6    /* times the median: longest prompt and answer */
#define TYPE "Q4_K_M"
#define OPEN_LOAD 0.7 /* arrivals of the open loop as a part of what the closed one answers */
enum { OPEN_USERS = 4096, STEP_ROWS = 512 };
static const char *const default_preset[RV_PROFILE_COUNT] = {"nano", "nano", "medium"};

/* Users at equal memory: sequences in one piece that it holds; prompts and answers as parts of n_ctx.
 */
enum { PIECES = 4, PAGED_USERS = 256, WARM_STEPS = 64, USER_STEPS = 64, PAGE = 64 };
#define USER_PROMPT (1.0 / 16)
#define USER_ANSWER (1.0 / 32)
enum { APPEND_SEQS = 64, APPEND_CTX = 256, APPENDS = 512 };

static rv_status prepare(const rv_experiment *exp, const rv_run_config *config, rv_inputs *in) {
	(void)exp;
	rv_model *model;
	const scale *s = &scales[config->profile];
	RV_TRY(rv_lab_open_model(config, default_preset[config->profile], &model, in));
	snprintf(in->settings, sizeof in->settings,
	         "%s window %g s prompt %g answer %g sigma %g rows %d page %d open %g users %d/%d",
	         TYPE, s->window_s, s->prompt, s->answer, SIGMA, STEP_ROWS, s->page_size, OPEN_LOAD,
	         PIECES, PAGED_USERS);
	rv_model_release(model);
	return RV_OK;
}

/* ---- the fixture: a scheduler under load for each point ---- */

typedef struct arm {
	rv_context *ctx;
	rv_scheduler *scheduler;
	rv_load *load;
} arm;

typedef struct fixture {
	const rv_run_config *config;
	scale size;
	rv_subject who;
	arm arms[N_LOADS][N_CONCURRENCIES];
	double bytes, body_ops, head_ops; /* of a step; of a row; of a row with logits */
	double bytes_s, ops_s;            /* what the machine does at best */
	rv_kv_pages *pages;               /* for appends */
	int64_t appended[APPEND_SEQS];
	double *samples; /* ns */
	double users_one_piece, users_paged;
} fixture;

static void close_arm(arm *a) {
	rv_load_destroy(a->load);
	rv_scheduler_destroy(a->scheduler);
	rv_context_destroy(a->ctx);
	*a = (arm){0};
}

static void teardown(void *user) {
	fixture *f = user;
	for (int i = 0; i < N_LOADS * N_CONCURRENCIES; i++)
		close_arm(&f->arms[i / N_CONCURRENCIES][i % N_CONCURRENCIES]);
	rv_kv_pages_destroy(f->pages);
	rv_free(f->samples);
	rv_subject_close(&f->who);
}

static rv_length_mix mix(double median) {
	return (rv_length_mix){median, SIGMA, (int64_t)(MOST * median)};
}

static rv_status open_context(const fixture *f, rv_context_options *o, arm *a) {
	o->n_batch = STEP_ROWS;
	RV_TRY(rv_lab_context(f->config, f->who.model, o, &a->ctx));
	return rv_scheduler_create(&a->scheduler, a->ctx, NULL);
}

static rv_status open_arm(fixture *f, int load, int concurrency, double rate_per_s, arm *a) {
	rv_context_options o = rv_context_defaults();
	rv_load_window ignored;
	rv_load_options l = {.prompt = mix(f->size.prompt),
	                     .answer = mix(f->size.answer),
	                     .rate_per_s = rate_per_s,
	                     .seed = f->config->seed};
	int n = (int)concurrencies[concurrency].number;
	l.n_users = load == CLOSED ? n : OPEN_USERS;
	o.n_ctx = l.prompt.most + l.answer.most;
	o.n_seqs = n;
	o.page_size = f->size.page_size;
	RV_TRY(open_context(f, &o, a));
	RV_TRY(rv_load_create(&a->load, a->scheduler, a->ctx, &l));
	/* until everybody's first prompt is through, or about */
	int64_t rows = (int64_t)(1.5 * n * f->size.prompt);
	return rv_load_run(a->load, load == OPEN ? f->size.window_s : 0, 2 + rows / STEP_ROWS,
	                   &ignored);
}

/* The open loop's rate: what the closed loop of the same concurrency answers now, in part. */
static rv_status open_loop(fixture *f, int concurrency) {
	arm *closed = &f->arms[CLOSED][concurrency], probe = {0};
	rv_load_window w;
	if (!closed->ctx)
		RV_TRY(open_arm(f, CLOSED, concurrency, 0, &probe));
	rv_status status =
	        rv_load_run(closed->ctx ? closed->load : probe.load, 3 * f->size.window_s, 1, &w);
	close_arm(&probe);
	RV_TRY(status);
	/* by tokens: few requests end in a short window */
	double mean = f->size.answer * exp(SIGMA * SIGMA / 2);
	double rate = OPEN_LOAD * (double)w.n_tokens / w.seconds / mean;
	return open_arm(f, OPEN, concurrency, rate, &f->arms[OPEN][concurrency]);
}

/* Least cost of a step: every weight read once, the products of every row; of the head only for rows
 * that want logits. */
static rv_status find_roof(fixture *f) {
	const rv_calibration *c = &f->config->calibration;
	const rv_model *m = f->who.model;
	const rv_hparams *hp = rv_model_hparams(m);
	double head = (double)hp->n_vocab * (double)hp->n_embd, all = (double)rv_model_n_params(m);
	rv_act act = rv_type_get((int)rv_model_weight(m, RV_FFN_UP, 0)->type)->act;
	f->bytes = (double)rv_model_weight_bytes(m);
	f->body_ops = 2 * (all - head * (hp->tied ? 1 : 2));
	f->head_ops = 2 * head;
	f->ops_s = 1e9 * (act == RV_ACT_F32 ? c->f32_gflop_s : c->int8_gop_s);
	double gb_s = c->read_gb_s;
	if (f->bytes < 2 * (double)c->cache_bytes)
		RV_TRY(rv_calibrate_read(f->config->threads, (size_t)f->bytes, 0.05, &gb_s));
	f->bytes_s = 1e9 * gb_s;
	return RV_OK;
}

static rv_status open_pages(fixture *f) {
	rv_kv_pages_options o = {.hp = rv_model_hparams(f->who.model),
	                         .type = RV_KV_F16,
	                         .page_tokens = PAGE,
	                         .n_ctx = APPEND_CTX,
	                         .n_seqs = APPEND_SEQS};
	RV_TRY(rv_kv_pages_bytes(&o, &o.budget_bytes));
	o.budget_bytes += o.budget_bytes / 2; /* the pool hands out its last part under pressure */
	return rv_kv_pages_create(&f->pages, &o);
}

/* ---- users at equal memory ---- */

/* Mean number of running requests when more wait than memory holds. */
static rv_status count_users(const fixture *f, rv_context_options *o, int32_t waiting, double *users) {
	double n_ctx = (double)o->n_ctx;
	rv_load_options l = {.n_users = o->n_seqs + waiting,
	                     .prompt = {USER_PROMPT * n_ctx, SIGMA, o->n_ctx * 3 / 4},
	                     .answer = {USER_ANSWER * n_ctx, SIGMA, o->n_ctx / 4},
	                     .seed = f->config->seed};
	rv_load_window w;
	arm a = {0};
	rv_status status = open_context(f, o, &a);
	if (status == RV_OK)
		status = rv_load_create(&a.load, a.scheduler, a.ctx, &l);
	if (status == RV_OK)
		status = rv_load_run(a.load, 0, WARM_STEPS, &w);
	if (status == RV_OK)
		status = rv_load_run(a.load, 0, USER_STEPS, &w);
	if (status == RV_OK)
		*users = w.mean_running;
	close_arm(&a);
	return status;
}

/* Once, at set-up: a repetition's cost says how many more there will be. */
static rv_status measure_users(fixture *f) {
	rv_kv_stats kv;
	rv_context *ctx;
	rv_context_options o = rv_context_defaults();
	o.n_seqs = PIECES;
	o.page_size = 0;
	o.n_threads = 1;
	RV_TRY(rv_context_create(&ctx, f->who.model, &o));
	rv_context_kv_stats(ctx, &kv);
	o.n_ctx = rv_context_get_options(ctx)->n_ctx;
	rv_context_destroy(ctx);
	RV_TRY(count_users(f, &o, PIECES, &f->users_one_piece));
	o.n_seqs = PAGED_USERS;
	o.page_size = PAGE;
	o.kv_budget_bytes = kv.reserved_bytes;
	return count_users(f, &o, 0, &f->users_paged);
}

/* ---- set-up ---- */

static rv_status setup(const rv_experiment *exp, const rv_run_config *config, const rv_point *points,
                       int n_points, void *user) {
	(void)exp;
	fixture *f = user;
	f->config = config;
	f->size = scales[config->profile];
	RV_TRY(rv_subject_open(&f->who, config, RV_VARIANT_BASE, TYPE));
	RV_TRY(RV_ALLOC(&f->samples, APPENDS + 1000, "samples"));
	RV_TRY(find_roof(f));
	for (int pass = CLOSED; pass <= OPEN; pass++)
		for (int i = 0; i < n_points; i++) {
			int n = points[i].values[CONCURRENCY];
			if (points[i].values[LOAD] != pass)
				continue;
			if (config->cancelled(config->user))
				return rv_fail(RV_ERR_CANCELLED, "interrupted");
			RV_TRY(pass == OPEN ? open_loop(f, n)
			                    : open_arm(f, CLOSED, n, 0, &f->arms[CLOSED][n]));
		}
	if (!f->arms[CLOSED][SESSIONS].ctx)
		return RV_OK;
	RV_TRY(open_pages(f));
	return measure_users(f);
}

/* ---- sessions and their cache ---- */

static int ascending(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void mean_and_p99(double *s, int n, double scale_by, double *mean, double *p99) {
	double sum = 0;
	for (int i = 0; i < n; i++)
		sum += s[i];
	qsort(s, (size_t)n, sizeof *s, ascending);
	*mean = scale_by * sum / n;
	*p99 = scale_by * rv_quantile(s, (size_t)n, 0.99);
}

static void look_up_all(const fixture *f, const arm *a, int n, rv_record *record, int *n_found) {
	const rv_kv_pages *pages = rv_context_kv_pages(a->ctx);
	*n_found = 0;
	for (int i = 0; i < n; i++) {
		rv_request_info info;
		const rv_kv_page *table;
		/* in an order that the last step did not leave in the caches */
		rv_request_id id = rv_load_request(a->load, (int32_t)((int64_t)i * 7919 % n));
		int64_t start = rv_now_ns();
		int found = rv_scheduler_find(a->scheduler, id, &info) == RV_OK;
		if (found && info.seq >= 0)
			(void)rv_kv_seq_pages(pages, info.seq, &table);
		f->samples[i] = (double)(rv_now_ns() - start);
		*n_found += found;
	}
	mean_and_p99(f->samples, n, 1e-3, &record->values[LOOKUP], &record->values[LOOKUP_P99]);
}

/* What rv_context_eval does to the cache for one token, without the rest of it. */
static rv_status append_token(const fixture *f, const rv_kv_view *view, const rv_kv_ops *ops,
                              int32_t seq, const float *row) {
	const rv_hparams *hp = rv_model_hparams(f->who.model);
	int64_t at = f->appended[seq];
	RV_TRY(rv_kv_seq_reserve(f->pages, seq, at, at + 1));
	for (int64_t layer = 0; layer < hp->n_layers; layer++)
		for (int64_t head = 0; head < hp->n_kv_heads; head++) {
			void *key, *value;
			view->slot(view->cache, seq, layer, head, at, &key, &value);
			ops->store(key, row, hp->head_dim);
			ops->store(value, row, hp->head_dim);
		}
	return RV_OK;
}

static rv_status measure_appends(fixture *f, rv_record *record) {
	float row[1024];
	rv_level level;
	int64_t head_dim = rv_model_hparams(f->who.model)->head_dim;
	if (head_dim > 1024)
		return rv_fail(RV_ERR_UNSUPPORTED, "heads of %lld elements", (long long)head_dim);
	RV_TRY(rv_level_default(&level));
	const rv_kv_ops *ops = &rv_kernels_for(level)->kv[RV_KV_F16];
	const rv_kv_view view = rv_kv_pages_view(f->pages);
	for (int64_t i = 0; i < head_dim; i++)
		row[i] = (float)i / 64;
	for (int i = 0; i < APPENDS; i++) {
		int32_t seq = i % APPEND_SEQS;
		if (f->appended[seq] == APPEND_CTX)
			rv_kv_seq_truncate(f->pages, seq, f->appended[seq] = 0);
		int64_t start = rv_now_ns();
		RV_TRY(append_token(f, &view, ops, seq, row));
		f->samples[i] = (double)(rv_now_ns() - start);
		f->appended[seq]++;
	}
	mean_and_p99(f->samples, APPENDS, 1e-6, &record->values[APPEND], &record->values[APPEND_P99]);
	return RV_OK;
}

/* ---- one repetition ---- */

static double roofline_pct(const fixture *f, const rv_load_window *w) {
	double steps = (double)w->n_steps;
	double ops = f->body_ops * (double)w->n_rows + f->head_ops * (double)w->n_tokens;
	return 100 * fmax(steps * f->bytes / f->bytes_s, ops / f->ops_s) / w->seconds;
}

static rv_status run(void *user, const rv_point *point, int repetition, rv_record *record) {
	fixture *f = user;
	int load = point->values[LOAD], concurrency = point->values[CONCURRENCY], n_found;
	const arm *a = &f->arms[load][concurrency];
	rv_load_window w;
	RV_TRY(rv_load_run(a->load, f->size.window_s, 1, &w));
	record->values[TOK_S] = (double)w.n_tokens / w.seconds;
	record->values[ROOFLINE] = roofline_pct(f, &w);
	record->values[ROWS_S] = (double)w.n_rows / w.seconds;
	record->values[REQUESTS_S] = (double)w.n_done / w.seconds;
	record->values[RUNNING] = w.mean_running;
	record->values[SAMPLE] = 100 * w.sample_s / w.seconds;
	if (load == CLOSED) /* an open one also waits for arrivals */
		record->values[OVERHEAD] = 100 * (1 - (w.eval_s + w.sample_s) / w.seconds);
	for (int p = 0; p < RV_PERCENTILES; p++) {
		record->values[FIRST + p] = 1e3 * w.first[p];
		record->values[GAP + p] = 1e3 * w.gap[p];
		record->values[ANSWER + p] = 1e3 * w.answer[p];
	}
	if (load == CLOSED) {
		look_up_all(f, a, (int)concurrencies[concurrency].number, record, &n_found);
		if (repetition == 0)
			record->values[N_SESSIONS] = n_found;
	}
	if (load == CLOSED && concurrency == SESSIONS) {
		if (repetition == 0) {
			record->values[USERS_ONE_PIECE] = f->users_one_piece;
			record->values[USERS_PAGED] = f->users_paged;
			record->values[USERS_RATIO] = f->users_paged / f->users_one_piece;
		}
		return measure_appends(f, record);
	}
	for (int m = APPEND; m <= USERS_RATIO; m++)
		rv_record_na(record, m, "measured beside 1000 users only");
	return RV_OK;
}

/* Arrivals at a part of the capacity fill only a part of a larger number of sequences. */
static int has_point(const rv_experiment *exp, const rv_point *point) {
	int n = (int)rv_point_value(exp, point, CONCURRENCY)->number;
	return point->values[LOAD] == CLOSED || n == 16 || n == 64;
}

static const rv_experiment scheduling = {
        .id = "T19",
        .name = "t19_scheduler",
        .title = "Continuous batching",
        .about = "Requests of log-normal lengths share one context of the model in " TYPE
                 " through the scheduler; prompts are "
                 "random tokens, sampling is at temperature 0.7 and top-p 0.9, end tokens are "
                 "ordinary. In the closed loop every user sends the next request when the last was "
                 "answered; in the open loop requests come as a Poisson process at 70 % of the "
                 "closed loop's rate, and times count from when a request was due. Load goes on from "
                 "window to window of the same point; the points take turns, and a load's clock "
                 "stands still meanwhile. Percentiles are those of a window, so the 99th of a short "
                 "window is near its maximum. Users at equal memory: prompts of median n_ctx / 16 "
                 "and answers of n_ctx / 32 tokens (sigma 0.7), as many requests as memory holds, "
                 "once with n_ctx tokens reserved a sequence, once in pages of 64.",
        .documented = "t19_scheduler.csv",
        .plot = "t19_scheduler",
        RV_EXPERIMENT_PARTS,
        .budget_s = {10, 30, 1800},
        .limit_s = {0, 25, 0},
        .min_n = 10,
        .max_n = {10, 20, 20},
        .has_point = has_point,
};

RV_EXPERIMENT_MAIN(scheduling)
