/* A pool under pressure: requests under many adapters, KV pages and a router in one budget. */
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/sysinfo.h"
#include "engine/context.h"
#include "lab/adapter_bench.h"
#include "lab/models.h"
#include "learn/adapter_manager.h"
#include "learn/router_manager.h"
#include "learn/sona.h"
#include "model/adapter_write.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { PROMPT = 48, ANSWER = 8 };

typedef struct serving {
	rv_context *ctx;
	rv_pool *pool;
	rv_adapter_manager *adapters;
	rv_router_manager *routers;
	rv_rng rng;
	int n;
	int64_t n_vocab, n_tokens, ns;
	rv_pool_run *out;
} serving;

static void file_of(const char *dir, int i, char path[4096]) {
	snprintf(path, 4096, "%.4000s/adapter-%d.gguf", dir, i);
}

static void name_of(int i, char name[16]) {
	snprintf(name, 16, "adapter-%d", i % 1000);
}

rv_status rv_pool_files(const rv_model *model, const char *dir, int n, rv_site site, int64_t rank) {
	char path[4096];
	RV_TRY(rv_mkdirs(dir));
	for (int i = 0; i < n; i++) {
		rv_adapter *ad;
		file_of(dir, i, path);
		RV_TRY(rv_random_adapter(&ad, model, site, rank, (uint64_t)i));
		rv_status st = rv_adapter_write(path, ad, model, NULL);
		rv_adapter_release(ad);
		RV_TRY(st);
	}
	return RV_OK;
}

static rv_status route(serving *s) {
	rv_fastgrnn *router;
	rv_fastgrnn_input input;
	rv_fastgrnn_decision decision;
	memset(&input, 0, sizeof input);
	for (int i = 0; i < RV_FASTGRNN_QUERY; i++)
		input.query[i] = rv_rng_float(&s->rng) - 0.5f;
	RV_TRY(rv_router_manager_acquire(s->routers, "models", &router));
	rv_status st = rv_fastgrnn_route(router, &input, &decision);
	rv_fastgrnn_destroy(router);
	return st;
}

static rv_status answer(serving *s) {
	rv_row rows[PROMPT];
	RV_TRY(rv_seq_truncate(s->ctx, 0, 0));
	for (int32_t i = 0; i < PROMPT; i++)
		rows[i] = (rv_row){.token = (int32_t)rv_rng_below(&s->rng, (uint64_t)s->n_vocab),
		                   .position = i,
		                   .parent = -1,
		                   .flags = i + 1 == PROMPT ? RV_ROW_LOGITS : 0};
	RV_TRY(rv_context_eval(s->ctx, rows, PROMPT));
	for (int32_t i = 0; i < ANSWER; i++) {
		rows[0].position = PROMPT + i;
		rows[0].flags = RV_ROW_LOGITS;
		RV_TRY(rv_context_eval(s->ctx, rows, 1));
	}
	s->n_tokens += PROMPT + ANSWER;
	return RV_OK;
}

/* One request: router, adapter, prompt, answer. Without room for the adapter it is refused. */
static rv_status serve(serving *s, int *hit) {
	const int hot_set = s->n / 4 > 0 ? s->n / 4 : 1;
	const int few = (int)rv_rng_below(&s->rng, 2);
	char name[16];
	rv_adapter *ad;
	rv_resident_info before;
	name_of((int)rv_rng_below(&s->rng, (uint64_t)(few ? hot_set : s->n)), name);
	RV_TRY(route(s));
	RV_TRY(rv_residency_find(rv_adapter_manager_residency(s->adapters), name, &before));
	*hit = before.residence == RV_RESIDENCE_HOT;
	rv_status st = rv_adapter_manager_acquire(s->adapters, name, &ad);
	if (st == RV_ERR_LIMIT) {
		s->out->n_refused++;
		return RV_OK;
	}
	RV_TRY(st);
	const rv_adapter_use use = {ad, 1};
	st = rv_seq_truncate(s->ctx, 0, 0);
	if (st == RV_OK)
		st = rv_context_set_adapters(s->ctx, 0, &use, 1);
	rv_adapter_release(ad);
	return st == RV_OK ? answer(s) : st;
}

static rv_status open_all(serving *s, const rv_run_config *config, rv_model *model, const char *dir,
                          size_t pages) {
	rv_residency_options r = rv_residency_defaults();
	rv_context_options o = rv_context_defaults();
	const rv_fastgrnn_options g = rv_fastgrnn_defaults();
	rv_fastgrnn *router;
	char path[4096], name[16];
	RV_TRY(rv_pool_create(&s->pool, pages * RV_POOL_PAGE_BYTES, 0.70, 0.85));
	r.pool = s->pool;
	r.dir = dir;
	r.max_warm = s->n / 2;
	RV_TRY(rv_adapter_manager_create(&s->adapters, model, &r));
	RV_TRY(rv_router_manager_create(&s->routers, &r));
	for (int i = 0; i < s->n; i++) {
		file_of(dir, i, path);
		name_of(i, name);
		RV_TRY(rv_adapter_manager_add(s->adapters, name, path));
	}
	RV_TRY(rv_fastgrnn_create(&router, &g));
	rv_status st = rv_router_manager_put(s->routers, "models", router);
	rv_fastgrnn_destroy(router);
	RV_TRY(st);
	o.n_ctx = PROMPT + ANSWER + 16;
	o.pool = s->pool;
	return rv_lab_context(config, model, &o, &s->ctx);
}

static void add_up(serving *s, int n_hits, int n_requests) {
	rv_residency *r = rv_adapter_manager_residency(s->adapters);
	rv_resident_info info;
	rv_pool_stats pool;
	int64_t loads = 0, cold = 0;
	double load_ns = 0, cold_ns = 0;
	for (int i = 0; rv_residency_at(r, i, &info) == RV_OK; i++) {
		s->out->n_evicted += info.n_evicted;
		load_ns += (double)info.load_ns;
		cold_ns += (double)info.cold_ns;
		loads += info.n_loaded;
		cold += info.n_from_cold;
	}
	rv_pool_get_stats(s->pool, &pool);
	s->out->hit_pct = 100.0 * n_hits / n_requests;
	s->out->load_ms = loads ? 1e-6 * load_ns / (double)loads : NAN;
	s->out->cold_ms = cold ? 1e-6 * cold_ns / (double)cold : NAN;
	s->out->tok_s = 1e9 * (double)s->n_tokens / (double)s->ns;
	s->out->peak_pct = 100 * (double)pool.peak_bytes / (double)pool.budget_bytes;
	s->out->n_over = pool.peak_bytes > pool.budget_bytes
	                         ? (int64_t)((pool.peak_bytes - pool.budget_bytes) / RV_POOL_PAGE_BYTES)
	                         : 0;
}

rv_status rv_pool_pressure(const rv_run_config *config, rv_model *model, const char *dir, int n,
                           size_t pages, int n_requests, rv_pool_run *out) {
	serving s = {.n = n, .n_vocab = rv_model_hparams(model)->n_vocab, .out = out};
	int n_hits = 0, hit = 0;
	*out = (rv_pool_run){0};
	rv_rng_seed(&s.rng, config->seed);
	rv_status st = open_all(&s, config, model, dir, pages);
	const int64_t begin = rv_now_ns();
	for (int i = 0; st == RV_OK && i < n_requests; i++) {
		st = serve(&s, &hit);
		n_hits += hit;
	}
	s.ns = rv_now_ns() - begin;
	if (st == RV_OK)
		add_up(&s, n_hits, n_requests);
	rv_context_destroy(s.ctx);
	rv_adapter_manager_destroy(s.adapters);
	rv_router_manager_destroy(s.routers);
	rv_pool_destroy(s.pool);
	return st;
}

rv_status rv_learning_state(rv_model *model, size_t *bytes) {
	const size_t n_patterns = 100000, code_bytes = 768 + 2 * sizeof(float);
	const rv_sona_options o = rv_sona_defaults(RV_BANK_VARIANT_CODER);
	rv_sona_bytes b;
	rv_sona *s;
	RV_TRY(rv_sona_open(&s, model, NULL, &o));
	rv_sona_count_bytes(s, &b);
	*bytes = b.total + n_patterns * code_bytes;
	return rv_sona_close(s);
}
