/* T7: paged KV cache: memory against reservations, forks by copy-on-write, decode speed against a cache
 * in one piece, throughput at equal memory. */
#include "base/mem.h"
#include "base/sysinfo.h"
#include "engine/kv_pages.h"
#include "engine/kv_spill.h"
#include "engine/scheduler.h"
#include "lab/experiment.h"
#include "lab/load.h"
#include "lab/models.h"
#include "lab/speed.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- declaration ---- */

static const rv_param_value sizes[] = {{"8", 8, RV_PROFILE_QUICK},     {"16", 16, RV_PROFILE_SMOKE},
                                       {"32", 32, RV_PROFILE_QUICK},   {"64", 64, RV_PROFILE_SMOKE},
                                       {"128", 128, RV_PROFILE_QUICK}, {"256", 256, RV_PROFILE_QUICK}};
enum { N_SIZES = sizeof sizes / sizeof *sizes };
static const rv_param params[] = {
        {"page", "tokens", "tokens of a page", RV_PARAM_QUERY, RV_PARAM_NUMBER, sizes, N_SIZES}};

enum {
	SAVED,
	SAVED_TIGHT,
	SAVED_CONTEXT,
	WASTE,
	FORK_US,
	COPY_US,
	WRITE_US,
	FORK_SAVED,
	TG,
	TG_ROOFLINE,
	TG_RATIO,
	TOK_S,
	TOK_S_ONE,
	THROUGHPUT,
	RUNNING,
	RUNNING_ONE,
	N_METRICS
};
/* clang-format off */
static const rv_experiment_metric metrics[N_METRICS] = {
	[SAVED] = {"memory_saved_pct", "%", "memory saved", "1 - allocated / reserved: requests of the stated mix at their final lengths; reserved is what each declares, its prompt and 1024 tokens of answer", RV_HIGHER, 1, 0, NULL, "%.1f"},
	[SAVED_TIGHT] = {"memory_saved_512_pct", "%", "saved, 512 declared", "the same when every request declares, and gets, at most 512 tokens of answer", RV_HIGHER, 1, 0, NULL, "%.1f"},
	[SAVED_CONTEXT] = {"memory_saved_context_pct", "%", "saved, context", "the same against 4096 tokens reserved for each", RV_HIGHER, 1, 1, NULL, "%.1f"},
	[WASTE] = {"memory_over_exact_pct", "%", "over exact length", "allocated / (bytes of exactly the tokens there are) - 1", RV_LOWER, 1, 0, NULL, "%.1f"},
	[FORK_US] = {"fork_us", "us", "fork", "sharing a sequence of nearly 4096 tokens with a second one", RV_LOWER, 0, 0, NULL, "%.2f"},
	[COPY_US] = {"copy_us", "us", "copy, one piece", "the same in a cache in one piece: a copy", RV_LOWER, 0, 0, NULL, "%.0f"},
	[WRITE_US] = {"first_write_us", "us", "first write", "copying the shared last page when one of the two goes on", RV_LOWER, 0, 0, NULL, "%.2f"},
	[FORK_SAVED] = {"fork_saved_pct", "%", "saved by 8 forks", "1 - pages / 8 copies: 8 forks of a sequence of nearly 4096 tokens that each went on for 32", RV_HIGHER, 1, 0, NULL, "%.1f"},
	[TG] = {"tg_tok_s", "tok/s", "decode", "tokens decoded a second, one sequence that ends at 4096 tokens, without sampling", RV_HIGHER, 0, 0, "tg_roofline_pct", "%.1f"},
	[TG_ROOFLINE] = {"tg_roofline_pct", "%", "decode, % of roofline", "decode / (read bandwidth / bytes read a token)", RV_HIGHER, 0, 0, NULL, "%.1f"},
	[TG_RATIO] = {"decode_ratio", "x", "decode, of one piece", "decode / decode of a cache in one piece, in turns (bar: 0.97)", RV_HIGHER, 0, 0, NULL, "%.3f"},
	[TOK_S] = {"tok_s", "tok/s", "throughput", "tokens delivered a second by the scheduler, more requests waiting than memory holds", RV_HIGHER, 0, 0, NULL, "%.1f"},
	[TOK_S_ONE] = {"tok_s_in_one_piece", "tok/s", "throughput, reserved", "the same when every running request has what it declares reserved", RV_HIGHER, 0, 0, NULL, "%.1f"},
	[THROUGHPUT] = {"throughput_ratio", "x", "throughput gained", "the one / the other, at equal memory, in turns", RV_HIGHER, 0, 0, NULL, "%.2f"},
	[RUNNING] = {"running", "requests", "running", "requests that hold a sequence, mean over the steps of a repetition", RV_HIGHER, 0, 0, NULL, "%.1f"},
	[RUNNING_ONE] = {"running_in_one_piece", "requests", "running, reserved", "the same when what is declared is reserved", RV_HIGHER, 0, 0, NULL, "%.1f"},
};
/* clang-format on */

/* ---- how much is measured ---- */

typedef struct scale {
	int64_t n_ctx;      /* of the decoding sequence */
	int n_decoded;      /* tokens of a turn */
	int n_turns;        /* of each kind in a repetition */
	int n_requests;     /* of the mix, for memory */
	int n_reserved;     /* requests that memory holds when reserved, for throughput */
	double load_factor; /* lengths of the mix under load */
	double window_s;    /* of a repetition, for throughput */
} scale;
static const scale scales[RV_PROFILE_COUNT] = {
        [RV_PROFILE_SMOKE] = {256, 4, 1, 64, 2, 1.0 / 8, 0.01},
        [RV_PROFILE_QUICK] = {4096, 12, 2, 256, 8, 1.0 / 2, 0.06},
        [RV_PROFILE_FULL] = {4096, 8, 1, 256, 4, 1, 2},
};
static const char *const default_preset[RV_PROFILE_COUNT] = {"nano", "nano", "medium"};

/* The mix is the lab's own: chats of short questions, whose answers are about twice as long. */
#define SIGMA 0.7
static const double prompt_mean = 160, answer_mean = 340;
enum { MOST_PROMPT = 1024, MOST_ANSWER = 1024, TIGHT_ANSWER = 512, CONTEXT = 4096 };
enum { FORKS = 8, FORK_TOKENS = 32, FORK_REPEATS = 64, SHORT_OF_CTX = 5, WAITING = 2 };
/* Running at once when paged, at most, as a multiple of those with reservations. */
enum { PAGED_USERS = 4 };

static rv_length_mix mix(double mean, double factor, int64_t most) {
	return (rv_length_mix){factor * mean / exp(SIGMA * SIGMA / 2), SIGMA,
	                       (int64_t)(factor * (double)most)};
}

static rv_status prepare(const rv_experiment *exp, const rv_run_config *config, rv_inputs *in) {
	(void)exp;
	rv_model *model;
	const scale *s = &scales[config->profile];
	RV_TRY(rv_lab_open_model(config, default_preset[config->profile], &model, in));
	snprintf(in->settings, sizeof in->settings,
	         "ctx %lld tg %d x %d requests %d reserved %d factor %g window %g s sigma %g",
	         (long long)s->n_ctx, s->n_turns, s->n_decoded, s->n_requests, s->n_reserved,
	         s->load_factor, s->window_s, SIGMA);
	rv_model_release(model);
	return RV_OK;
}

/* ---- the fixture: a context a page size, and one in one piece ---- */

enum { ONE_PIECE = N_SIZES, N_ARMS };
typedef struct arm {
	rv_context *ctx; /* sequence 0 has `depth` tokens */
	rv_context *load_ctx;
	rv_scheduler *scheduler;
	rv_load *load;
	double tg_bound;
} arm;

typedef struct fixture {
	const rv_run_config *config;
	scale size;
	rv_model *model;
	int64_t depth;
	int32_t *tokens; /* [n_ctx] */
	char file[4096]; /* sequence 0, while the fixture is made */
	arm arms[N_ARMS];
} fixture;

static void teardown(void *user) {
	fixture *f = user;
	for (int i = 0; i < N_ARMS; i++) {
		rv_load_destroy(f->arms[i].load);
		rv_scheduler_destroy(f->arms[i].scheduler);
		rv_context_destroy(f->arms[i].load_ctx);
		rv_context_destroy(f->arms[i].ctx);
	}
	if (f->file[0])
		unlink(f->file);
	rv_free(f->tokens);
	rv_model_release(f->model);
}

static int32_t page_of(int index) {
	return index == ONE_PIECE ? 0 : (int32_t)sizes[index].number;
}

static size_t token_bytes(const fixture *f) {
	const rv_hparams *hp = rv_model_hparams(f->model);
	return 2 * (size_t)(hp->n_layers * hp->n_kv_heads) * rv_kv_row_bytes(RV_KV_F16, hp->head_dim);
}

/* The prompt is evaluated once and read back by the others. */
static rv_status begin_sequence(fixture *f, rv_context *ctx, int first) {
	const rv_token_run prompt = {ctx, f->tokens, (int)f->depth};
	if (!first)
		return rv_seq_load(ctx, 0, 0, f->file, NULL, 0, NULL);
	RV_TRY(rv_prefill_run(&prompt));
	return rv_seq_save(ctx, 0, NULL, 0, f->file);
}

static rv_status open_decoding(fixture *f, int index, int first) {
	arm *a = &f->arms[index];
	rv_context_options o = rv_context_defaults();
	o.n_ctx = f->size.n_ctx;
	o.n_seqs = 2;
	o.page_size = page_of(index);
	RV_TRY(rv_lab_context(f->config, f->model, &o, &a->ctx));
	RV_TRY(begin_sequence(f, a->ctx, first));
	/* a token reads all of the cache: twice the mean over a run from an empty one */
	return rv_decode_bound(f->config, a->ctx, (int)(2 * f->depth), &a->tg_bound);
}

/* The same memory for both: what n_reserved requests declare on average. */
static rv_status open_load(fixture *f, int index) {
	arm *a = &f->arms[index];
	double factor = f->size.load_factor;
	rv_load_options l = {.prompt = mix(prompt_mean, factor, MOST_PROMPT),
	                     .answer = mix(answer_mean, factor, MOST_ANSWER),
	                     .seed = f->config->seed};
	rv_context_options o = rv_context_defaults();
	rv_load_window ignored;
	int32_t paged = PAGED_USERS * f->size.n_reserved;
	o.n_ctx = l.prompt.most + l.answer.most;
	o.n_seqs = index == ONE_PIECE ? f->size.n_reserved : paged;
	o.page_size = page_of(index);
	o.kv_budget_bytes = (size_t)(f->size.n_reserved * factor * (prompt_mean + MOST_ANSWER) *
	                             (double)token_bytes(f));
	l.n_users = WAITING * paged;
	RV_TRY(rv_lab_context(f->config, f->model, &o, &a->load_ctx));
	RV_TRY(rv_scheduler_create(&a->scheduler, a->load_ctx, NULL));
	RV_TRY(rv_load_create(&a->load, a->scheduler, a->load_ctx, &l));
	/* until memory is full */
	double rows = o.n_seqs * l.prompt.median * 1.5;
	return rv_load_run(a->load, 0, 2 + (int64_t)(rows / o.n_batch), &ignored);
}

static rv_status temporary(const rv_run_config *c, char path[4096]) {
	int n = snprintf(path, 4096, "%s/build/cache/paging-XXXXXX", c->root);
	int fd = n > 0 && n < 4096 ? mkstemp(path) : -1;
	if (fd < 0) {
		path[0] = '\0';
		return rv_fail_errno(RV_ERR_IO, "%.200s/build/cache: cannot create a file", c->root);
	}
	close(fd);
	return RV_OK;
}

static rv_status setup(const rv_experiment *exp, const rv_run_config *c, const rv_point *points,
                       int n_points, void *user) {
	fixture *f = user;
	(void)exp;
	f->config = c;
	f->size = scales[c->profile];
	RV_TRY(rv_model_open(&f->model, c->inputs.model_path, NULL));
	const rv_hparams *hp = rv_model_hparams(f->model);
	if (f->size.n_ctx > hp->n_ctx_train)
		f->size.n_ctx = hp->n_ctx_train;
	f->depth = f->size.n_ctx - f->size.n_decoded - SHORT_OF_CTX;
	if (f->depth < 1)
		return rv_fail(RV_ERR_UNSUPPORTED, "a context of %lld tokens is too short",
		               (long long)f->size.n_ctx);
	RV_TRY(RV_ALLOC(&f->tokens, f->size.n_ctx, "tokens"));
	rv_random_tokens(f->tokens, (int)f->size.n_ctx, c->seed, hp->n_vocab);
	RV_TRY(temporary(c, f->file));
	RV_TRY(open_decoding(f, ONE_PIECE, 1));
	RV_TRY(open_load(f, ONE_PIECE));
	for (int i = 0; i < n_points; i++) {
		if (c->cancelled(c->user))
			return rv_fail(RV_ERR_CANCELLED, "interrupted");
		RV_TRY(open_decoding(f, points[i].values[0], 0));
		RV_TRY(open_load(f, points[i].values[0]));
	}
	unlink(f->file);
	f->file[0] = '\0';
	return RV_OK;
}

/* ---- memory: the allocator alone, without evaluating anything ---- */

typedef struct use_of_memory {
	double allocated, reserved, exact; /* bytes */
} use_of_memory;

static rv_status open_pages(const fixture *f, int32_t page, int32_t n_seqs, int64_t n_ctx,
                            rv_kv_pages **out) {
	rv_kv_pages_options o = {.hp = rv_model_hparams(f->model),
	                         .type = RV_KV_F16,
	                         .page_tokens = page,
	                         .n_ctx = n_ctx,
	                         .n_seqs = n_seqs};
	RV_TRY(rv_kv_pages_bytes(&o, &o.budget_bytes));
	o.budget_bytes += o.budget_bytes / 2; /* never under pressure; only what is used is taken */
	return rv_kv_pages_create(out, &o);
}

static rv_status fill_mix(const fixture *f, rv_kv_pages *kv, int64_t most_answer, use_of_memory *out) {
	const rv_length_mix prompt = mix(prompt_mean, 1, MOST_PROMPT),
	                    answer = mix(answer_mean, 1, most_answer);
	rv_kv_pages_counts counts;
	rv_rng rng;
	*out = (use_of_memory){0, 0, 0};
	rv_rng_stream(&rng, f->config->seed, 7);
	for (int32_t i = 0; i < f->size.n_requests; i++) {
		int64_t n_prompt = rv_length_draw(&prompt, &rng);
		int64_t n = n_prompt + rv_length_draw(&answer, &rng);
		RV_TRY(rv_kv_seq_reserve(kv, i, 0, n));
		out->exact += (double)n;
		out->reserved += (double)(n_prompt + most_answer);
	}
	rv_kv_pages_count(kv, &counts);
	out->allocated = (double)counts.allocated_bytes;
	out->exact *= (double)token_bytes(f);
	out->reserved *= (double)token_bytes(f);
	return RV_OK;
}

static rv_status use_mix(const fixture *f, int32_t page, int64_t most_answer, use_of_memory *out) {
	rv_kv_pages *kv;
	RV_TRY(open_pages(f, page, f->size.n_requests, MOST_PROMPT + MOST_ANSWER, &kv));
	rv_status status = fill_mix(f, kv, most_answer, out);
	rv_kv_pages_destroy(kv);
	return status;
}

static rv_status fork_all(const fixture *f, rv_kv_pages *kv, double *bytes) {
	rv_kv_pages_counts counts;
	RV_TRY(rv_kv_seq_reserve(kv, 0, 0, f->depth));
	for (int32_t i = 1; i < FORKS; i++)
		rv_kv_seq_fork(kv, 0, i, f->depth);
	for (int32_t i = 0; i < FORKS; i++)
		RV_TRY(rv_kv_seq_reserve(kv, i, f->depth, f->depth + FORK_TOKENS));
	rv_kv_pages_count(kv, &counts);
	*bytes = (double)counts.used_bytes;
	return RV_OK;
}

static rv_status measure_memory(const fixture *f, int32_t page, rv_record *record) {
	use_of_memory plain, tight;
	rv_kv_pages *kv;
	double forks = NAN;
	RV_TRY(use_mix(f, page, MOST_ANSWER, &plain));
	RV_TRY(use_mix(f, page, TIGHT_ANSWER, &tight));
	RV_TRY(open_pages(f, page, FORKS, f->depth + FORK_TOKENS, &kv));
	rv_status status = fork_all(f, kv, &forks);
	rv_kv_pages_destroy(kv);
	RV_TRY(status);
	double context = (double)f->size.n_requests * CONTEXT * (double)token_bytes(f);
	double copies = (double)FORKS * (double)(f->depth + FORK_TOKENS) * (double)token_bytes(f);
	record->values[SAVED] = 100 * (1 - plain.allocated / plain.reserved);
	record->values[SAVED_TIGHT] = 100 * (1 - tight.allocated / tight.reserved);
	record->values[SAVED_CONTEXT] = 100 * (1 - plain.allocated / context);
	record->values[WASTE] = 100 * (plain.allocated / plain.exact - 1);
	record->values[FORK_SAVED] = 100 * (1 - forks / copies);
	return RV_OK;
}

/* ---- forks ---- */

static rv_status time_forks(const fixture *f, const arm *a, int repeats, double *us) {
	int64_t total = 0;
	for (int i = 0; i < repeats; i++) {
		int64_t start = rv_now_ns();
		RV_TRY(rv_seq_copy(a->ctx, 0, 1, f->depth));
		total += rv_now_ns() - start;
		RV_TRY(rv_seq_truncate(a->ctx, 1, 0));
	}
	*us = 1e-3 * (double)total / repeats;
	return RV_OK;
}

static rv_status time_first_writes(const fixture *f, const arm *a, double *us) {
	rv_kv_pages *kv = rv_context_kv_pages(a->ctx);
	int64_t total = 0;
	for (int i = 0; i < FORK_REPEATS; i++) {
		RV_TRY(rv_seq_copy(a->ctx, 0, 1, f->depth));
		int64_t start = rv_now_ns();
		rv_status status = rv_kv_seq_reserve(kv, 1, f->depth, f->depth + 1);
		total += rv_now_ns() - start;
		RV_TRY(rv_seq_truncate(a->ctx, 1, 0));
		RV_TRY(status);
	}
	*us = 1e-3 * (double)total / FORK_REPEATS;
	return RV_OK;
}

/* ---- decoding ---- */

static rv_status decode(const fixture *f, const arm *a, double *seconds) {
	int64_t start = rv_now_ns();
	for (int i = 0; i < f->size.n_decoded; i++) {
		int64_t at = f->depth + i;
		const rv_row row = {.token = f->tokens[at],
		                    .position = (int32_t)at,
		                    .parent = -1,
		                    .flags = RV_ROW_LOGITS};
		RV_TRY(rv_context_eval(a->ctx, &row, 1));
	}
	*seconds += 1e-9 * (double)(rv_now_ns() - start);
	return rv_seq_truncate(a->ctx, 0, f->depth);
}

static rv_status measure_decoding(const fixture *f, const arm *paged, int repetition,
                                  rv_record *record) {
	const arm *one = &f->arms[ONE_PIECE];
	double s[2] = {0, 0};
	for (int turn = 0; turn < 2 * f->size.n_turns; turn++) {
		int which = (turn ^ (turn >> 1) ^ repetition) & 1; /* a b b a, then b a a b */
		RV_TRY(decode(f, which ? one : paged, &s[which]));
	}
	double tg = f->size.n_turns * f->size.n_decoded / s[0];
	record->values[TG] = tg;
	record->values[TG_ROOFLINE] = 100 * tg / paged->tg_bound;
	record->values[TG_RATIO] = s[1] / s[0];
	return RV_OK;
}

/* ---- throughput ---- */

static rv_status measure_throughput(const fixture *f, const arm *paged, int repetition,
                                    rv_record *record) {
	const arm *arms[2] = {paged, &f->arms[ONE_PIECE]};
	rv_load_window w[2];
	for (int i = 0; i < 2; i++) {
		int which = (i ^ repetition) & 1;
		RV_TRY(rv_load_run(arms[which]->load, f->size.window_s, 1, &w[which]));
	}
	double tok_s[2];
	for (int i = 0; i < 2; i++) {
		tok_s[i] = (double)w[i].n_tokens / w[i].seconds;
		record->values[TOK_S + i] = tok_s[i];
		record->values[RUNNING + i] = w[i].mean_running;
	}
	if (tok_s[1] > 0)
		record->values[THROUGHPUT] = tok_s[0] / tok_s[1];
	return RV_OK;
}

static rv_status run(void *user, const rv_point *point, int repetition, rv_record *record) {
	const fixture *f = user;
	const arm *a = &f->arms[point->values[0]];
	if (repetition == 0)
		RV_TRY(measure_memory(f, page_of(point->values[0]), record));
	RV_TRY(time_forks(f, a, FORK_REPEATS, &record->values[FORK_US]));
	RV_TRY(time_forks(f, &f->arms[ONE_PIECE], 1, &record->values[COPY_US]));
	RV_TRY(time_first_writes(f, a, &record->values[WRITE_US]));
	RV_TRY(measure_decoding(f, a, repetition, record));
	return measure_throughput(f, a, repetition, record);
}

static const rv_experiment paging = {
        .id = "T7",
        .name = "t7_paged",
        .title = "Paged KV cache",
        .about = "Memory: requests whose prompts and answers have log-normal lengths (sigma 0.7, means "
                 "160 and 340 tokens, each cut at 1024; the lab's own mix) stand at their final "
                 "lengths in pages; "
                 "allocated are whole pages of the 2 MiB pool. Reserved is what a request declares: "
                 "its prompt and the longest answer it may get, 1024 tokens, the same for all. What is "
                 "saved depends on how far declarations exceed lengths, so 512 tokens, the whole "
                 "context and the exact lengths stand beside it. Decoding goes in turns with a cache "
                 "in one piece that holds the same tokens. Throughput is that of the scheduler with "
                 "more requests waiting than run, on the same mix (under quick at half its lengths, "
                 "under smoke at an eighth): in pages as many run as fit, in one piece as many as "
                 "their declarations do in the same memory.",
        .documented = "t7_paged.csv",
        .plot = "t7_paged",
        RV_EXPERIMENT_PARTS,
        .budget_s = {6, 30, 1800},
        .limit_s = {5, 25, 0},
        .min_n = 10,
        .max_n = {10, 20, 15},
};

RV_EXPERIMENT_MAIN(paging)
