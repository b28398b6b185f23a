/* Evaluation under a tiered policy: pieces end where a page of one of their sequences does, so that
 * every row sees the tiers that its own page's position asks for. */
#include "base/mem.h"
#include "engine/context_internal.h"

#include <string.h>

void rv_context_tiers_begin(rv_context *ctx) {
	const size_t bytes = (size_t)ctx->options.n_seqs * sizeof *ctx->old_length;
	memcpy(ctx->pieces.begin, ctx->old_length, bytes);
	memcpy(ctx->pieces.end, ctx->old_length, bytes);
	ctx->pieces.n_seqs = 0;
	rv_kv_tiers_begin(ctx->tiers, ctx->old_length);
}

rv_status rv_context_tiers_piece(rv_context *ctx, const rv_row *rows, int64_t *n) {
	rv_context_pieces *p = &ctx->pieces;
	const int64_t page = ctx->options.page_size;
	for (int32_t i = 0; i < p->n_seqs; i++)
		p->begin[p->seqs[i]] = p->end[p->seqs[i]];
	p->n_seqs = 0;
	for (int64_t m = 0; m < *n; m++) {
		int32_t s = rows[m].seq;
		if (rows[m].parent >= 0)
			continue; /* not of the sequence yet */
		if (p->end[s] % page == 0 && p->end[s] > p->begin[s]) {
			*n = m;
			break;
		}
		if (p->end[s]++ == p->begin[s])
			p->seqs[p->n_seqs++] = s;
	}
	for (int32_t i = 0; i < p->n_seqs; i++) {
		int32_t s = p->seqs[i];
		RV_TRY(rv_kv_tiers_advance(ctx->tiers, s, p->begin[s]));
		RV_TRY(rv_kv_seq_reserve(ctx->pages, s, p->begin[s], p->end[s]));
	}
	return RV_OK;
}

void rv_context_tiers_end(rv_context *ctx) {
	rv_kv_tiers_commit(ctx->tiers);
	/* What is complete moves at once, for the memory; a page for which there is none moves before
	 * it matters. */
	for (int32_t s = 0; s < ctx->options.n_seqs; s++)
		if (ctx->length[s] > ctx->old_length[s])
			(void)rv_kv_tiers_advance(ctx->tiers, s, ctx->length[s]);
	rv_kv_tiers_commit(ctx->tiers);
}

rv_status rv_context_tiers_open(rv_context *ctx) {
	const rv_context_options *o = &ctx->options;
	if (!o->kv_policy || o->kv_policy->n_tiers == 0)
		return RV_OK;
	if (!ctx->pages)
		return rv_fail(RV_ERR_INVALID, "KV policy %s: needs a paged cache (page size 8..%d)",
		               o->kv_policy->name, RV_KV_PAGE_TOKENS_MAX);
	RV_TRY(RV_ALLOC(&ctx->pieces.begin, o->n_seqs, "sequences"));
	RV_TRY(RV_ALLOC(&ctx->pieces.end, o->n_seqs, "sequences"));
	RV_TRY(RV_ALLOC(&ctx->pieces.seqs, o->n_seqs, "sequences"));
	RV_TRY(rv_kv_tiers_create(&ctx->tiers, o->kv_policy, o->kv_calibration, ctx->pages,
	                          ctx->backend, o, ctx->model));
	ctx->options.kv_policy = rv_kv_tiers_policy(ctx->tiers);
	return RV_OK;
}

void rv_context_tiers_close(rv_context *ctx) {
	rv_kv_tiers_destroy(ctx->tiers);
	rv_free(ctx->pieces.begin);
	rv_free(ctx->pieces.end);
	rv_free(ctx->pieces.seqs);
}

int rv_context_kv_tier_stats(const rv_context *ctx, rv_kv_tier_stats *out) {
	*out = (rv_kv_tier_stats){0};
	if (ctx->tiers)
		rv_kv_tiers_stats(ctx->tiers, out);
	return ctx->tiers != NULL;
}
