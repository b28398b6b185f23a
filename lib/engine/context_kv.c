/* The KV cache of a context and its sequences: in one piece a sequence, or in pages. */
#include "base/mem.h"
#include "base/sysinfo.h"
#include "engine/context_internal.h"

#include <string.h>

static rv_kv_pages_options pages_options(const rv_context_options *o, const rv_hparams *hp) {
	return (rv_kv_pages_options){.hp = hp,
	                             .type = o->kv_type,
	                             .page_tokens = o->page_size,
	                             .n_ctx = o->n_ctx,
	                             .n_seqs = o->n_seqs,
	                             .pool = o->pool,
	                             .budget_bytes = o->kv_budget_bytes};
}

int64_t rv_context_kv_segments(const rv_context_options *o) {
	return (o->page_size ? (o->n_ctx + o->page_size - 1) / o->page_size : 1) + o->n_draft;
}

/* What the options ask for, and the least a paged cache can do with: one sequence. */
static rv_status wanted_bytes(const rv_context_options *o, const rv_hparams *hp, size_t *want,
                              size_t *least) {
	if (!o->page_size) {
		RV_TRY(rv_kv_cache_bytes(hp, o->kv_type, o->n_ctx, o->n_seqs, want));
		*least = *want;
		return RV_OK;
	}
	rv_kv_pages_options p = pages_options(o, hp);
	p.n_seqs = 1;
	RV_TRY(rv_kv_pages_bytes(&p, least));
	if (o->pool) {
		*want = *least = 0;
		return RV_OK;
	}
	if (o->kv_budget_bytes) {
		*want = *least = o->kv_budget_bytes;
		return RV_OK;
	}
	int64_t most = RV_KV_TOKENS_MAX / o->n_ctx;
	p.n_seqs = o->n_seqs > most && most > 0 ? (int32_t)most : o->n_seqs;
	RV_TRY(rv_kv_pages_bytes(&p, want));
	/* Pages of another format have slabs of their own, the last of which may be nearly empty. */
	if (o->kv_policy)
		*want += 2 * (size_t)o->kv_policy->n_tiers * RV_POOL_PAGE_BYTES;
	return RV_OK;
}

/* Counts all that evaluation may touch: reserving takes no memory, but later nothing can be refused. */
rv_status rv_context_kv_limit(rv_context_options *o, const rv_hparams *hp, size_t scratch) {
	size_t want, least, need, have = rv_mem_available();
	RV_TRY(wanted_bytes(o, hp, &want, &least));
	if (!rv_add_ok(least, scratch, &need))
		need = SIZE_MAX;
	if (have && need > have)
		return rv_fail(RV_ERR_NO_MEMORY,
		               "context of %lld tokens x %d sequences, batch %d: needs %zu MiB (KV "
		               "cache %zu, scratch %zu), %zu MiB are available",
		               (long long)o->n_ctx, o->n_seqs, o->n_batch, need >> 20, least >> 20,
		               scratch >> 20, have >> 20);
	if (have && want > have - scratch) {
		rv_logf(&o->log, RV_LOG_WARN,
		        "KV pages for %lld tokens x %d sequences would take %zu MiB: the budget is "
		        "the %zu MiB that are available",
		        (long long)o->n_ctx, o->n_seqs, want >> 20, (have - scratch) >> 20);
		want = have - scratch;
	}
	o->kv_budget_bytes = want;
	return RV_OK;
}

static rv_status open_cache(rv_context *ctx, const rv_context_options *o, const rv_hparams *hp) {
	if (!o->page_size) {
		RV_TRY(rv_kv_cache_init(&ctx->kv, hp, o->kv_type, o->n_ctx, o->n_seqs));
		ctx->kv_view = rv_kv_cache_view(&ctx->kv);
		return RV_OK;
	}
	rv_kv_pages_options p = pages_options(o, hp);
	RV_TRY(rv_kv_pages_create(&ctx->pages, &p));
	ctx->kv_view = rv_kv_pages_view(ctx->pages);
	return RV_OK;
}

rv_status rv_context_kv_open(rv_context *ctx) {
	const rv_context_options *o = &ctx->options;
	const rv_hparams *hp = rv_model_hparams(ctx->model);
	if (o->n_draft && o->kv_policy && o->kv_policy->n_tiers > 0)
		return rv_fail(RV_ERR_UNSUPPORTED, "KV policy %s: draft rows (n_draft)",
		               o->kv_policy->name);
	RV_TRY(open_cache(ctx, o, hp));
	return rv_draft_rows_init(&ctx->drafts, hp, &ctx->kv_view, o->n_seqs, o->n_draft);
}

void rv_context_kv_close(rv_context *ctx) {
	rv_draft_rows_deinit(&ctx->drafts);
	rv_kv_pages_destroy(ctx->pages);
	rv_kv_cache_deinit(&ctx->kv);
}

rv_status rv_context_kv_reserve(rv_context *ctx) {
	for (int32_t s = 0; ctx->pages && s < ctx->options.n_seqs; s++)
		if (ctx->length[s] > ctx->old_length[s])
			RV_TRY(rv_kv_seq_reserve(ctx->pages, s, ctx->old_length[s], ctx->length[s]));
	return RV_OK;
}

void rv_context_kv_restore(rv_context *ctx) {
	for (int32_t s = 0; s < ctx->options.n_seqs; s++) {
		if (ctx->pages && ctx->length[s] > ctx->old_length[s])
			rv_kv_seq_truncate(ctx->pages, s, ctx->old_length[s]);
		ctx->length[s] = ctx->old_length[s];
	}
}

/* ---- what it holds ---- */

void rv_context_kv_stats(const rv_context *ctx, rv_kv_stats *out) {
	const rv_context_options *o = &ctx->options;
	*out = (rv_kv_stats){0};
	for (int32_t s = 0; s < o->n_seqs; s++)
		out->n_tokens += ctx->length[s];
	if (rv_kv_cache_bytes(rv_model_hparams(ctx->model), o->kv_type, o->n_ctx, o->n_seqs,
	                      &out->reserved_bytes) != RV_OK)
		out->reserved_bytes = SIZE_MAX;
	if (!ctx->pages) {
		out->budget_bytes = out->allocated_bytes = ctx->kv.bytes;
		return;
	}
	rv_kv_pages_counts c;
	rv_pool_stats pool;
	rv_kv_pages_count(ctx->pages, &c);
	rv_pool_get_stats(rv_kv_pages_pool(ctx->pages), &pool);
	out->budget_bytes = pool.budget_bytes;
	out->allocated_bytes = c.allocated_bytes;
	out->page_bytes = c.page_bytes;
	out->used_bytes = c.used_bytes;
	out->n_pages = c.n_pages;
	out->n_shared = c.n_shared;
	out->n_free = c.n_free;
	out->n_copies = c.n_copies;
}

rv_kv_pages *rv_context_kv_pages(const rv_context *ctx) {
	return ctx->pages;
}

/* ---- sequences ---- */

static rv_status check_seq(const rv_context *ctx, int32_t seq) {
	return seq >= 0 && seq < ctx->options.n_seqs
	               ? RV_OK
	               : rv_fail(RV_ERR_INVALID, "sequence %d is not in [0, %d)", seq,
	                         ctx->options.n_seqs);
}

static rv_status check_length(const rv_context *ctx, int32_t seq, int64_t length, const char *verb) {
	return length >= 0 && length <= ctx->length[seq]
	               ? RV_OK
	               : rv_fail(RV_ERR_INVALID, "sequence %d has %lld tokens, cannot %s %lld", seq,
	                         (long long)ctx->length[seq], verb, (long long)length);
}

/* A tiered policy stores old pages as a whole: they can be dropped, not cut. */
static rv_status check_cut(const rv_context *ctx, int32_t seq, int64_t length) {
	const rv_kv_page *pages;
	if (!ctx->tiers)
		return RV_OK;
	rv_kv_seq_pages(ctx->pages, seq, &pages);
	return length < ctx->length[seq] ? rv_kv_tiers_check_cut(ctx->tiers, pages, length) : RV_OK;
}

static void touch(rv_context *ctx, int32_t seq) {
	if (ctx->tiers)
		rv_kv_tiers_touch(ctx->tiers, seq);
}

int64_t rv_seq_length(const rv_context *ctx, int32_t seq) {
	return seq < 0 || seq >= ctx->options.n_seqs ? -1 : ctx->length[seq];
}

int32_t rv_seq_adapter(const rv_context *ctx, int32_t seq) {
	return rv_seq_length(ctx, seq) > 0 ? ctx->seq_adapter[seq] : -1;
}

rv_status rv_seq_truncate(rv_context *ctx, int32_t seq, int64_t length) {
	RV_TRY(check_seq(ctx, seq));
	RV_TRY(check_length(ctx, seq, length, "keep"));
	rv_draft_rows_drop(&ctx->drafts, seq);
	RV_TRY(check_cut(ctx, seq, length));
	if (ctx->pages)
		rv_kv_seq_truncate(ctx->pages, seq, length);
	touch(ctx, seq);
	ctx->length[seq] = length;
	if (length == 0)
		rv_seq_put_set(ctx, seq, &ctx->sets.empty, 0, 0);
	return RV_OK;
}

rv_status rv_seq_copy(rv_context *ctx, int32_t from, int32_t to, int64_t length) {
	RV_TRY(check_seq(ctx, from));
	RV_TRY(check_seq(ctx, to));
	RV_TRY(check_length(ctx, from, length, "copy"));
	RV_TRY(check_cut(ctx, from, length));
	touch(ctx, to);
	rv_draft_rows_drop(&ctx->drafts, to);
	if (ctx->pages)
		rv_kv_seq_fork(ctx->pages, from, to, length);
	else if (from != to)
		rv_kv_cache_copy(&ctx->kv, from, to, length);
	ctx->length[to] = length;
	ctx->seq_adapter[to] = ctx->seq_adapter[from];
	rv_seq_copy_set(ctx, from, to);
	return RV_OK;
}

int32_t rv_context_n_drafts(const rv_context *ctx) {
	return ctx->drafts.n;
}

rv_status rv_seq_accept(rv_context *ctx, int32_t seq, const int32_t *drafts, int64_t n) {
	RV_TRY(check_seq(ctx, seq));
	RV_TRY(rv_draft_rows_check_path(&ctx->drafts, seq, drafts, n));
	int64_t length = ctx->length[seq];
	if (ctx->pages && n > 0) {
		rv_status status = rv_kv_seq_reserve(ctx->pages, seq, length, length + n);
		if (status != RV_OK) {
			rv_kv_seq_truncate(ctx->pages, seq, length);
			return status;
		}
	}
	rv_draft_rows_store(&ctx->drafts, seq, drafts, n);
	rv_draft_rows_drop(&ctx->drafts, seq);
	ctx->length[seq] = length + n;
	return RV_OK;
}

int64_t rv_seq_pages_needed(const rv_context *ctx, int32_t seq, int64_t n_more) {
	if (seq < 0 || seq >= ctx->options.n_seqs)
		return -1;
	return ctx->pages
	               ? rv_kv_seq_needs(ctx->pages, seq, ctx->length[seq], ctx->length[seq] + n_more)
	               : 0;
}

rv_status rv_seq_attach(rv_context *ctx, int32_t seq, const int32_t *pages, int64_t n,
                        int32_t adapter) {
	RV_TRY(check_seq(ctx, seq));
	if (!ctx->pages)
		return rv_fail(RV_ERR_INVALID, "sequence %d: the KV cache has no pages", seq);
	if (ctx->length[seq])
		return rv_fail(RV_ERR_INVALID, "sequence %d holds %lld tokens already", seq,
		               (long long)ctx->length[seq]);
	if (adapter < 0 || adapter >= RV_ADAPTER_SETS)
		return rv_fail(RV_ERR_INVALID, "set of adapters %d is not in [0, %d)", adapter,
		               RV_ADAPTER_SETS);
	int64_t tokens = rv_kv_pages_page_tokens(ctx->pages);
	if (n < 0 || n > ctx->options.n_ctx / tokens)
		return rv_fail(RV_ERR_INVALID, "%lld pages do not fit %lld tokens", (long long)n,
		               (long long)ctx->options.n_ctx);
	if (ctx->tiers)
		RV_TRY(rv_kv_tiers_check_attach(ctx->tiers, pages, n));
	touch(ctx, seq);
	rv_kv_seq_attach(ctx->pages, seq, pages, n);
	ctx->length[seq] = n * tokens;
	ctx->seq_adapter[seq] = adapter;
	rv_seq_put_set(ctx, seq, ctx->sets.now[adapter], ctx->sets.now[adapter]->version, 1);
	return RV_OK;
}
