#include "lab/adapter_bench.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/sysinfo.h"
#include "engine/context.h"
#include "engine/scheduler.h"
#include "lab/load.h"
#include "lab/models.h"
#include "lab/speed.h"
#include "model/adapter_slot.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

/* ---- random adapters ---- */

void rv_adapter_numbers(const rv_arch *arch, const rv_hparams *hp, rv_site site, int64_t n_layers,
                        int64_t rank, int64_t *n_a, int64_t *n_b) {
	*n_a = *n_b = 0;
	for (int i = 0; i < arch->n_tensors; i++) {
		const rv_tensor_def *def = &arch->tensors[i];
		if (!(rv_site_roles(site) & RV_ROLE_BIT(def->role)))
			continue;
		*n_a += n_layers * rank * rv_dim_size(def->cols, hp);
		*n_b += n_layers * rank * rv_dim_size(def->rows, hp);
	}
}

rv_status rv_random_adapter(rv_adapter **out, const rv_model *model, rv_site site, int64_t rank,
                            uint64_t seed) {
	const rv_arch *arch = rv_model_arch(model);
	const rv_hparams *hp = rv_model_hparams(model);
	int64_t n_a, n_b;
	int n = 0;
	rv_adapter_matrix *parts;
	float *data = NULL, *at;
	rv_rng rng;
	rv_rng_seed(&rng, seed);
	rv_adapter_numbers(arch, hp, site, hp->n_layers, rank, &n_a, &n_b);
	RV_TRY(RV_ALLOC(&parts, hp->n_layers * RV_ROLE_COUNT, "matrices"));
	rv_status st = RV_ALLOC(&data, n_a + n_b, "factors");
	for (int64_t i = 0; st == RV_OK && i < n_a + n_b; i++)
		data[i] = 0.04f * (rv_rng_float(&rng) - 0.5f);
	at = data;
	for (int64_t l = 0; st == RV_OK && l < hp->n_layers; l++)
		for (int i = 0; i < arch->n_tensors; i++) {
			const rv_tensor_def *def = &arch->tensors[i];
			if (!(rv_site_roles(site) & RV_ROLE_BIT(def->role)))
				continue;
			const int64_t a = rank * rv_dim_size(def->cols, hp);
			parts[n++] = (rv_adapter_matrix){def->role, l, rank, at, at + a, 1};
			at += a + rank * rv_dim_size(def->rows, hp);
		}
	if (st == RV_OK)
		st = rv_adapter_create(out, model, "random", parts, n);
	rv_free(parts);
	rv_free(data);
	return st;
}

/* ---- many in one batch ---- */

struct rv_adapter_batch {
	rv_context *ctx;
	rv_row *rows; /* [n_seqs] */
	int32_t n_seqs;
	int64_t n_vocab;
};

enum { BATCH_CTX = 256 };

rv_status rv_adapter_batch_create(rv_adapter_batch **out, const rv_run_config *config, rv_model *model,
                                  int32_t n_seqs, rv_site site, int64_t rank) {
	rv_adapter_batch *b;
	rv_context_options o = rv_context_defaults();
	*out = NULL;
	RV_TRY(RV_ALLOC(&b, 1, "batch of adapters"));
	b->n_seqs = n_seqs;
	b->n_vocab = rv_model_hparams(model)->n_vocab;
	o.n_ctx = BATCH_CTX;
	o.n_seqs = n_seqs;
	rv_status st = RV_ALLOC(&b->rows, n_seqs, "rows");
	if (st == RV_OK)
		st = rv_lab_context(config, model, &o, &b->ctx);
	for (int32_t i = 0; st == RV_OK && i < n_seqs; i++) {
		rv_adapter_use use = {NULL, 1};
		st = rv_random_adapter(&use.adapter, model, site, rank, config->seed + (uint64_t)i);
		if (st == RV_OK)
			st = rv_context_set_adapters(b->ctx, i, &use, 1);
		rv_adapter_release(use.adapter);
	}
	if (st == RV_OK)
		*out = b;
	else
		rv_adapter_batch_destroy(b);
	return st;
}

void rv_adapter_batch_destroy(rv_adapter_batch *b) {
	if (!b)
		return;
	rv_context_destroy(b->ctx);
	rv_free(b->rows);
	rv_free(b);
}

static rv_status batch_step(rv_adapter_batch *b, int32_t n, int32_t position) {
	for (int32_t i = 0; i < b->n_seqs; i++)
		b->rows[i] = (rv_row){.token = (int32_t)((i * 131 + position * 17) % b->n_vocab),
		                      .seq = i,
		                      .position = position,
		                      .parent = -1,
		                      .adapter = n ? i % n : b->n_seqs, /* that set is empty */
		                      .flags = RV_ROW_LOGITS};
	return rv_context_eval(b->ctx, b->rows, b->n_seqs);
}

rv_status rv_adapter_batch_run(rv_adapter_batch *b, int32_t n, int steps, double *tok_s) {
	for (int32_t i = 0; i < b->n_seqs; i++)
		RV_TRY(rv_seq_truncate(b->ctx, i, 0));
	RV_TRY(batch_step(b, n, 0));
	const int64_t begin = rv_now_ns();
	for (int32_t p = 1; p <= steps; p++)
		RV_TRY(batch_step(b, n, p));
	*tok_s = 1e9 * (double)b->n_seqs * steps / (double)(rv_now_ns() - begin);
	return RV_OK;
}

/* ---- changed between tokens ---- */

static int rising(const void *a, const void *b) {
	const double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static void percentiles(double *x, int n, double out[3]) {
	static const double at[3] = {0.5, 0.95, 0.99};
	qsort(x, (size_t)n, sizeof *x, rising);
	for (int i = 0; i < 3; i++)
		out[i] = n ? x[(int)(at[i] * (n - 1) + 0.5)] : NAN;
}

typedef struct swap_samples {
	double *plain, *changed, *swap; /* us */
	int n_plain, n_changed;
} swap_samples;

static rv_status sample_swaps(const rv_run_config *config, rv_context *ctx,
                              rv_adapter *const adapters[2], int n_tokens, swap_samples *s) {
	const int64_t n_vocab = rv_model_hparams(rv_context_model(ctx))->n_vocab;
	rv_rng rng;
	int which = 0;
	rv_rng_seed(&rng, config->seed);
	for (int32_t p = 0; p < n_tokens; p++) {
		const rv_row row = {.token = (int32_t)rv_rng_below(&rng, (uint64_t)n_vocab),
		                    .position = p % BATCH_CTX,
		                    .parent = -1,
		                    .flags = RV_ROW_LOGITS};
		const int change = (int)rv_rng_below(&rng, 2);
		if (row.position == 0)
			RV_TRY(rv_seq_truncate(ctx, 0, 0));
		const int64_t begin = rv_now_ns();
		int64_t swapped = begin;
		if (change) {
			const rv_adapter_use use = {adapters[which ^= 1], 1};
			RV_TRY(rv_context_swap_adapters(ctx, 0, &use, 1));
			swapped = rv_now_ns();
		}
		RV_TRY(rv_context_eval(ctx, &row, 1));
		const double us = 1e-3 * (double)(rv_now_ns() - begin);
		if (p < n_tokens / 10)
			continue; /* warm-up */
		if (change) {
			s->swap[s->n_changed] = 1e-3 * (double)(swapped - begin);
			s->changed[s->n_changed++] = us;
		} else {
			s->plain[s->n_plain++] = us;
		}
	}
	return RV_OK;
}

rv_status rv_swap_measure(const rv_run_config *config, rv_model *model, rv_adapter *const adapters[2],
                          int n_tokens, rv_swap_times *out) {
	rv_context_options o = rv_context_defaults();
	const rv_adapter_use first = {adapters[0], 1};
	rv_context *ctx;
	swap_samples s = {0};
	double plain[3], changed[3], *space;
	o.n_ctx = BATCH_CTX;
	o.adapters = &first;
	o.n_adapters = 1;
	RV_TRY(RV_ALLOC(&space, 3 * (int64_t)n_tokens, "times"));
	s.plain = space;
	s.changed = space + n_tokens;
	s.swap = space + 2 * n_tokens;
	rv_status st = rv_lab_context(config, model, &o, &ctx);
	if (st == RV_OK) {
		st = sample_swaps(config, ctx, adapters, n_tokens, &s);
		rv_context_destroy(ctx);
	}
	if (st == RV_OK) {
		percentiles(s.plain, s.n_plain, plain);
		percentiles(s.changed, s.n_changed, changed);
		percentiles(s.swap, s.n_changed, out->swap_us);
		for (int i = 0; i < 3; i++)
			out->added_us[i] = changed[i] - plain[i];
		out->token_us = plain[0];
	}
	rv_free(space);
	return st;
}

/* ---- under load ---- */

typedef struct publisher {
	rv_adapter_slot *slot;
	rv_adapter *const *adapters;
	atomic_int stop;
	int64_t n;
	rv_status status;
} publisher;

static void *publish(void *arg) {
	publisher *p = arg;
	const struct timespec pause = {0, 2000000};
	while (!atomic_load(&p->stop) && p->status == RV_OK) {
		p->status = rv_adapter_slot_publish(p->slot, p->adapters[p->n & 1], NULL);
		p->n++;
		nanosleep(&pause, NULL);
	}
	return NULL;
}

static rv_status run_load(rv_context *ctx, publisher *p, double seconds, uint64_t seed,
                          rv_swap_load *out) {
	rv_scheduler *scheduler;
	rv_load *load = NULL;
	rv_load_window w;
	rv_scheduler_stats stats;
	pthread_t thread;
	const rv_load_options l = {
	        .n_users = 8, .prompt = {16, 0.7, 64}, .answer = {16, 0.7, 64}, .seed = seed};
	RV_TRY(rv_scheduler_create(&scheduler, ctx, NULL));
	rv_status st = rv_load_create(&load, scheduler, ctx, &l);
	if (st == RV_OK && pthread_create(&thread, NULL, publish, p) != 0)
		st = rv_fail_errno(RV_ERR_IO, "a thread that publishes");
	else if (st == RV_OK) {
		st = rv_load_run(load, seconds, 50, &w);
		atomic_store(&p->stop, 1);
		pthread_join(thread, NULL);
	}
	if (st == RV_OK) {
		rv_scheduler_get_stats(scheduler, &stats);
		*out = (rv_swap_load){stats.n_done + stats.n_failed + stats.n_cancelled,
		                      stats.n_failed + stats.n_cancelled, p->n};
	}
	rv_load_destroy(load);
	rv_scheduler_destroy(scheduler);
	return st == RV_OK ? p->status : st;
}

rv_status rv_swap_under_load(const rv_run_config *config, rv_model *model,
                             rv_adapter *const adapters[2], double seconds, rv_swap_load *out) {
	rv_context_options o = rv_context_defaults();
	publisher p = {.adapters = adapters};
	rv_context *ctx = NULL;
	o.n_ctx = 128;
	o.n_seqs = 8;
	RV_TRY(rv_adapter_slot_create(&p.slot, model));
	rv_status st = rv_lab_context(config, model, &o, &ctx);
	if (st == RV_OK)
		st = rv_context_follow_slot(ctx, 0, p.slot, 1);
	if (st == RV_OK)
		st = run_load(ctx, &p, seconds, config->seed, out);
	rv_context_destroy(ctx);
	rv_adapter_slot_destroy(p.slot);
	return st;
}
