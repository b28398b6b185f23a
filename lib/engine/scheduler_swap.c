/* Sequences that gave way, kept in memory: their rows by layer and head, keys then values. */
#include "base/mem.h"
#include "engine/context_internal.h"
#include "engine/scheduler_internal.h"

#include <string.h>

typedef struct kept {
	int64_t n_tokens;
	char rows[] __attribute__((aligned(RV_ALIGN)));
} kept;

static size_t row_bytes(const rv_context *ctx) {
	return rv_kv_row_bytes(ctx->options.kv_type, rv_model_hparams(ctx->model)->head_dim);
}

size_t rv_swap_memory_bytes(const rv_context *ctx, int64_t n_tokens) {
	const rv_hparams *hp = rv_model_hparams(ctx->model);
	return (size_t)(2 * n_tokens * hp->n_layers * hp->n_kv_heads) * row_bytes(ctx);
}

static void copy_row(char *kept_row, void *row, size_t bytes, int restoring) {
	memcpy(restoring ? row : kept_row, restoring ? kept_row : row, bytes);
}

static void copy_all(rv_context *ctx, int32_t seq, kept *k, int restoring) {
	const rv_hparams *hp = rv_model_hparams(ctx->model);
	const rv_kv_view *view = &ctx->kv_view;
	size_t bytes = row_bytes(ctx);
	char *keys = k->rows;
	for (int64_t lane = 0; lane < hp->n_layers * hp->n_kv_heads; lane++) {
		char *values = keys + (size_t)k->n_tokens * bytes;
		for (int64_t at = 0; at < k->n_tokens; at++) {
			void *key, *value;
			view->slot(view->cache, seq, lane / hp->n_kv_heads, lane % hp->n_kv_heads, at,
			           &key, &value);
			copy_row(keys + (size_t)at * bytes, key, bytes, restoring);
			copy_row(values + (size_t)at * bytes, value, bytes, restoring);
		}
		keys = values + (size_t)k->n_tokens * bytes;
	}
}

/* Only rows of the cache's own type can be put back as they were. */
static rv_status check_formats(const rv_context *ctx, int32_t seq) {
	const rv_kv_page *pages = NULL;
	int64_t n = ctx->pages ? rv_kv_seq_pages(ctx->pages, seq, &pages) : 0;
	int own = !ctx->tiers;
	for (int64_t i = 0; i < n; i++)
		own &= rv_kv_page_format(ctx->pages, pages[i]) == (int)ctx->options.kv_type;
	return own ? RV_OK
	           : rv_fail(RV_ERR_UNSUPPORTED, "sequence %d: swapping pages of several formats", seq);
}

static rv_status save(void *user, rv_context *ctx, int32_t seq, void **out) {
	kept *k;
	(void)user;
	int64_t n = rv_seq_length(ctx, seq);
	RV_TRY(check_formats(ctx, seq));
	RV_TRY(rv_alloc_uninit((void **)&k, 1, sizeof *k + rv_swap_memory_bytes(ctx, n),
	                       "swapped sequence"));
	k->n_tokens = n;
	copy_all(ctx, seq, k, 0);
	*out = k;
	return RV_OK;
}

static rv_status restore(void *user, rv_context *ctx, int32_t seq, int32_t adapter, void *from) {
	kept *k = from;
	(void)user;
	if (ctx->pages) {
		rv_status st = rv_kv_seq_reserve(ctx->pages, seq, 0, k->n_tokens);
		if (st != RV_OK) {
			rv_kv_seq_truncate(ctx->pages, seq, 0);
			return st;
		}
	}
	ctx->length[seq] = k->n_tokens;
	ctx->seq_adapter[seq] = adapter;
	copy_all(ctx, seq, k, 1);
	return RV_OK;
}

static void drop(void *user, void *from) {
	(void)user;
	rv_free(from);
}

const rv_swap_ops rv_swap_to_memory = {.save = save, .restore = restore, .drop = drop};
