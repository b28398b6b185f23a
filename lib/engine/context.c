#include "base/mem.h"
#include "base/sysinfo.h"
#include "base/threads.h"
#include "base/vm.h"
#include "engine/backend_cpu.h"
#include "engine/context_internal.h"

#include <stdlib.h>
#include <string.h>

rv_context_options rv_context_defaults(void) {
	return (rv_context_options){.n_seqs = 1,
	                            .n_batch = 512,
	                            .backend = RV_BACKEND_SIMD,
	                            .level = RV_LEVEL_COUNT, /* resolved by rv_level_default */
	                            .kv_type = RV_KV_F16,
	                            .page_size = 64,
	                            .attention = RV_ATTN_FLASH,
	                            .pin = 1};
}

rv_status rv_level_default(rv_level *out) {
	const char *name = getenv("RV_CPU");
	rv_level level = name && *name ? rv_level_by_name(name) : rv_level_best();
	if (level == RV_LEVEL_COUNT)
		return rv_fail(
		        RV_ERR_INVALID,
		        "RV_CPU=%s: unknown level (ref, avx2, avx512, vnni, neon, dotprod, i8mm)",
		        name);
	if (!rv_level_available(level))
		return rv_fail(RV_ERR_UNSUPPORTED, "RV_CPU=%s: this CPU or this build cannot run it",
		               name);
	*out = level;
	return RV_OK;
}

/* ---- creation ---- */

static rv_status resolve(rv_context_options *o, const rv_model *model) {
	const rv_hparams *hp = rv_model_hparams(model);
	if (o->n_ctx == 0)
		o->n_ctx = hp->n_ctx_train < 4096 ? hp->n_ctx_train : 4096;
	if (o->n_ctx < 1 || o->n_ctx > INT32_MAX)
		return rv_fail(RV_ERR_INVALID, "context length %lld is not in [1, %d]",
		               (long long)o->n_ctx, INT32_MAX);
	if (o->n_seqs < 1 || o->n_seqs > 1 << 20)
		return rv_fail(RV_ERR_INVALID, "number of sequences %d is not in [1, %d]", o->n_seqs,
		               1 << 20);
	if (o->n_batch < 1 || o->n_batch > 1 << 16)
		return rv_fail(RV_ERR_INVALID, "batch size %d is not in [1, %d]", o->n_batch, 1 << 16);
	if ((unsigned)o->backend >= RV_BACKEND_COUNT || (unsigned)o->kv_type >= RV_KV_COUNT ||
	    (unsigned)o->attention >= RV_ATTN_COUNT)
		return rv_fail(RV_ERR_INVALID, "unknown backend, KV type or attention");
	if (o->n_draft < 0 || o->n_draft > 1 << 16)
		return rv_fail(RV_ERR_INVALID, "%d draft rows: not in [0, %d]", o->n_draft, 1 << 16);
	if (o->n_batch > o->n_ctx * o->n_seqs + o->n_draft)
		o->n_batch = (int32_t)(o->n_ctx * o->n_seqs + o->n_draft);
	RV_TRY(rv_rope_resolve(&o->rope, &hp->rope, hp->n_ctx_train, o->n_ctx));
	if (o->rope.kind != RV_ROPE_NONE && rv_model_weight(model, RV_ROPE_FREQS, 0))
		return rv_fail(RV_ERR_UNSUPPORTED,
		               "rope scaling %s: the model brings a scaling of its own (rope_freqs)",
		               rv_rope_kind_name(o->rope.kind));
	if (o->n_threads < 0 || o->n_threads > RV_MAX_THREADS)
		return rv_fail(RV_ERR_INVALID, "%d threads: not in [0, %d]", o->n_threads,
		               RV_MAX_THREADS);
	if (o->threads)
		o->n_threads = rv_threads_count(o->threads);
	if (o->n_threads == 0)
		o->n_threads = rv_threads_default_count();
	rv_cache_sizes caches = rv_cache_sizes_get();
	if (o->l1d_bytes == 0)
		o->l1d_bytes = caches.l1d_bytes;
	if (o->l2_bytes == 0)
		o->l2_bytes = caches.l2_bytes;
	if (o->level == RV_LEVEL_COUNT)
		RV_TRY(rv_level_default(&o->level));
	if (!rv_level_available(o->level))
		return rv_fail(RV_ERR_UNSUPPORTED,
		               "feature level %s: this CPU or this build cannot run it",
		               rv_level_name(o->level));
	return RV_OK;
}

static rv_cpu_options cpu_options(const rv_context_options *o, const rv_model *model) {
	const rv_hparams *hp = rv_model_hparams(model);
	int64_t k = hp->n_embd > hp->n_ff ? hp->n_embd : hp->n_ff;
	if (k < hp->n_heads * hp->head_dim)
		k = hp->n_heads * hp->head_dim;
	return (rv_cpu_options){.kind = o->backend,
	                        .level = o->level,
	                        .attention = o->attention,
	                        .n_threads = o->n_threads,
	                        .threads = o->threads,
	                        .pin = o->pin,
	                        .n_batch = o->n_batch,
	                        .n_ctx = o->n_ctx,
	                        .max_k = k,
	                        .head_dim = hp->head_dim,
	                        .n_heads = hp->n_heads,
	                        .n_kv_heads = hp->n_kv_heads,
	                        .max_segments = rv_context_kv_segments(o),
	                        .rope = o->rope,
	                        .l1d_bytes = o->l1d_bytes,
	                        .l2_bytes = o->l2_bytes};
}

static size_t activation_bytes(const rv_hparams *hp, int64_t n_batch) {
	size_t total = 0;
#define ADD(name, cols)                                                                                \
	total += (((size_t)n_batch * (size_t)(cols) * sizeof(float)) + 63) & ~(size_t)63;
	RV_ACTIVATIONS(ADD)
#undef ADD
	return total;
}

static void lay_out_activations(rv_context *ctx, const rv_hparams *hp) {
	size_t at = 0;
	int64_t n = ctx->options.n_batch;
#define PLACE(name, columns)                                                                           \
	ctx->name = (rv_tensor){&ctx->buffer, at, n, columns};                                         \
	at += (((size_t)n * (size_t)(columns) * sizeof(float)) + 63) & ~(size_t)63;
	RV_ACTIVATIONS(PLACE)
#undef PLACE
}

/* Threads that could not be started or bound only cost speed: said once, not an error. */
static void report_threads(rv_context_options *o, const rv_threads *threads) {
	int fewer = rv_threads_count(threads) < o->n_threads;
	int unbound =
	        o->pin && o->n_threads <= rv_threads_default_count() && !rv_threads_bound(threads);
	rv_logf(&o->log, fewer || unbound ? RV_LOG_WARN : RV_LOG_INFO, "%s",
	        rv_threads_report(threads));
	o->n_threads = rv_threads_count(threads);
}

static rv_status create_into(rv_context *ctx, const rv_context_options *options) {
	rv_context_options *o = &ctx->options;
	const rv_hparams *hp = rv_model_hparams(ctx->model);
	*o = *options;
	RV_TRY(resolve(o, ctx->model));
	rv_cpu_options cpu = cpu_options(o, ctx->model);
	RV_TRY(rv_context_kv_limit(o, hp,
	                           activation_bytes(hp, o->n_batch) +
	                                   rv_context_sets_bytes(o->n_batch) +
	                                   rv_cpu_scratch_bytes(&cpu, o->n_threads) +
	                                   rv_draft_rows_bytes(hp, o->kv_type, o->n_draft)));
	RV_TRY(rv_context_kv_open(ctx));
	RV_TRY(rv_cpu_backend_create(&ctx->backend, &cpu));
	if (!o->threads)
		report_threads(o, rv_cpu_threads(ctx->backend));
	RV_TRY(rv_context_tiers_open(ctx));
	ctx->buffer.bytes = activation_bytes(hp, o->n_batch);
	RV_TRY(rv_vm_alloc(&ctx->buffer.base, ctx->buffer.bytes, "activations"));
	lay_out_activations(ctx, hp);
	RV_TRY(RV_ALLOC(&ctx->ids, o->n_batch, "batch"));
	if (o->n_draft)
		RV_TRY(RV_ALLOC(&ctx->piece, o->n_batch, "batch"));
	RV_TRY(RV_ALLOC(&ctx->out_rows, o->n_batch, "batch"));
	RV_TRY(RV_ALLOC(&ctx->out_index, o->n_batch, "batch"));
	RV_TRY(RV_ALLOC(&ctx->output_row, o->n_batch, "batch"));
	RV_TRY(RV_ALLOC(&ctx->output_flags, o->n_batch, "batch"));
	RV_TRY(RV_ALLOC(&ctx->length, o->n_seqs, "sequences"));
	RV_TRY(RV_ALLOC(&ctx->seq_adapter, o->n_seqs, "sequences"));
	RV_TRY(RV_ALLOC(&ctx->old_length, o->n_seqs, "sequences"));
	return rv_context_sets_open(ctx);
}

rv_status rv_context_create(rv_context **out, rv_model *model, const rv_context_options *options) {
	rv_context_options defaults = rv_context_defaults();
	rv_context *ctx;
	*out = NULL;
	RV_TRY(RV_ALLOC(&ctx, 1, "context"));
	ctx->model = rv_model_retain(model);
	rv_status st = create_into(ctx, options ? options : &defaults);
	if (st != RV_OK) {
		rv_context_destroy(ctx);
		return st;
	}
	*out = ctx;
	return RV_OK;
}

void rv_context_destroy(rv_context *ctx) {
	if (!ctx)
		return;
	rv_context_tiers_close(ctx);
	if (ctx->backend)
		ctx->backend->ops->destroy(ctx->backend);
	rv_context_kv_close(ctx);
	rv_vm_free(ctx->buffer.base, ctx->buffer.bytes);
	rv_free(ctx->ids);
	rv_free(ctx->piece);
	rv_free(ctx->out_rows);
	rv_free(ctx->out_index);
	rv_free(ctx->output_row);
	rv_free(ctx->output_flags);
	rv_free(ctx->length);
	rv_free(ctx->old_length);
	rv_free(ctx->seq_adapter);
	rv_context_sets_close(ctx);
	rv_model_release(ctx->model);
	rv_free(ctx);
}

rv_model *rv_context_model(const rv_context *ctx) {
	return ctx->model;
}
const rv_context_options *rv_context_get_options(const rv_context *ctx) {
	return &ctx->options;
}
const char *rv_context_threads_report(const rv_context *ctx) {
	return rv_threads_report(rv_cpu_threads(ctx->backend));
}
struct rv_threads *rv_context_threads(const rv_context *ctx) {
	return rv_cpu_threads(ctx->backend);
}
void rv_context_set_cancel(rv_context *ctx, int (*cancelled)(void *user), void *user) {
	ctx->cancelled = cancelled;
	ctx->cancel_user = user;
}
rv_status rv_context_set_hooks(rv_context *ctx, const rv_hooks *hooks) {
	if (hooks && (hooks->roles & ~(RV_ROLES_LAYER | RV_ROLE_BIT(RV_OUTPUT))))
		return rv_fail(RV_ERR_INVALID, "hooks: roles %#x are not all projections",
		               (unsigned)hooks->roles);
	ctx->hooks = hooks && hooks->site ? *hooks : (rv_hooks){0};
	return RV_OK;
}

/* ---- evaluation ---- */

/* Checks row i against the sequences as they will be when it is reached, and counts it in. */
static rv_status admit_row(rv_context *ctx, const rv_row *r, int64_t i) {
	int64_t n_vocab = rv_model_hparams(ctx->model)->n_vocab;
	if (r->token < 0 || r->token >= n_vocab)
		return rv_fail(RV_ERR_INVALID, "row %lld: token %d is not in [0, %lld)", (long long)i,
		               r->token, (long long)n_vocab);
	if (r->seq < 0 || r->seq >= ctx->options.n_seqs)
		return rv_fail(RV_ERR_INVALID, "row %lld: sequence %d is not in [0, %d)", (long long)i,
		               r->seq, ctx->options.n_seqs);
	if (r->parent < -1)
		return rv_fail(RV_ERR_INVALID, "row %lld: parent %d", (long long)i, r->parent);
	if (r->adapter < 0 || r->adapter >= RV_ADAPTER_SETS)
		return rv_fail(RV_ERR_INVALID, "row %lld: set of adapters %d is not in [0, %d)",
		               (long long)i, r->adapter, RV_ADAPTER_SETS);
	if (r->flags & ~(RV_ROW_LOGITS | RV_ROW_HIDDEN))
		return rv_fail(RV_ERR_INVALID, "row %lld: unknown flags %#x", (long long)i,
		               (unsigned)r->flags);
	if (r->parent < 0 && ctx->drafts.n > 0 && ctx->drafts.held[r->seq] > 0)
		return rv_fail(RV_ERR_INVALID, "row %lld: sequence %d holds draft rows", (long long)i,
		               r->seq);
	if (r->parent < 0 && r->position != ctx->length[r->seq])
		return rv_fail(RV_ERR_INVALID, "row %lld: position %d, but sequence %d has %lld tokens",
		               (long long)i, r->position, r->seq, (long long)ctx->length[r->seq]);
	if ((r->parent < 0 ? ctx->length[r->seq] : r->position) >= ctx->options.n_ctx)
		return rv_fail(RV_ERR_LIMIT, "row %lld: sequence %d is full (%lld tokens)",
		               (long long)i, r->seq, (long long)ctx->options.n_ctx);
	if (ctx->length[r->seq] == 0)
		ctx->seq_adapter[r->seq] = r->adapter;
	rv_context_sets_admit(ctx, r, ctx->length[r->seq]);
	if (r->adapter != ctx->seq_adapter[r->seq])
		return rv_fail(RV_ERR_INVALID,
		               "row %lld: set of adapters %d, but sequence %d was begun with %d",
		               (long long)i, r->adapter, r->seq, ctx->seq_adapter[r->seq]);
	if (r->parent >= 0)
		return rv_draft_rows_admit(&ctx->drafts, r, i, ctx->length[r->seq]);
	ctx->length[r->seq]++;
	return RV_OK;
}

/* The rows as a backend sees them: draft rows by their own numbers, from *number on. */
static const rv_row *numbered(rv_context *ctx, const rv_row *rows, int64_t n, int32_t *number) {
	if (!ctx->piece)
		return rows;
	for (int64_t i = 0; i < n; i++) {
		ctx->piece[i] = rows[i];
		if (rows[i].parent >= 0)
			ctx->piece[i].parent = (*number)++;
	}
	return ctx->piece;
}

static rv_status eval_rows(rv_context *ctx, const rv_row *rows, int64_t n) {
	int64_t n_outputs = 0;
	int32_t number = ctx->drafts.n + 1;
	ctx->adapted = 0;
	for (int64_t i = 0; i < n; i++) {
		RV_TRY(admit_row(ctx, &rows[i], i));
		n_outputs += rows[i].flags != 0;
	}
	if (n_outputs > ctx->options.n_batch)
		return rv_fail(RV_ERR_LIMIT, "%lld rows want output, at most %d of one call may",
		               (long long)n_outputs, ctx->options.n_batch);
	if (ctx->tiers)
		rv_context_tiers_begin(ctx);
	else
		RV_TRY(rv_context_kv_reserve(ctx));
	for (int64_t i = 0, m; i < n; i += m) {
		m = n - i < ctx->options.n_batch ? n - i : ctx->options.n_batch;
		if (ctx->tiers)
			RV_TRY(rv_context_tiers_piece(ctx, rows + i, &m));
		RV_TRY(rv_forward(ctx, numbered(ctx, rows + i, m, &number), m, i));
	}
	return RV_OK;
}

rv_status rv_context_eval(rv_context *ctx, const rv_row *rows, int64_t n) {
	size_t bytes = (size_t)ctx->options.n_seqs * sizeof *ctx->length;
	int32_t n_drafts = ctx->drafts.n;
	ctx->n_outputs = 0;
	if (ctx->sets.n_follows)
		RV_TRY(rv_context_poll_slots(ctx));
	memcpy(ctx->old_length, ctx->length, bytes);
	rv_status st = eval_rows(ctx, rows, n);
	if (st != RV_OK) {
		rv_draft_rows_cut(&ctx->drafts, n_drafts);
		if (ctx->tiers)
			rv_kv_tiers_rollback(ctx->tiers);
		rv_context_kv_restore(ctx);
		ctx->n_outputs = 0;
		return st;
	}
	if (ctx->tiers)
		rv_context_tiers_end(ctx);
	rv_context_sets_commit(ctx, rows, n);
	return RV_OK;
}

/* Slot of a row of the last eval that asked for `flag`; -1 when it did not. Slots are in row order. */
static int64_t output_slot(const rv_context *ctx, int64_t row, int32_t flag) {
	int64_t lo = 0, hi = ctx->n_outputs;
	while (lo < hi) {
		int64_t mid = (lo + hi) / 2;
		if (ctx->output_row[mid] < row)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < ctx->n_outputs && ctx->output_row[lo] == row && (ctx->output_flags[lo] & flag) ? lo
	                                                                                           : -1;
}

const float *rv_context_logits(const rv_context *ctx, int64_t row) {
	int64_t slot = output_slot(ctx, row, RV_ROW_LOGITS);
	return slot < 0 ? NULL : rv_tensor_row(ctx->logits, slot);
}

const float *rv_context_hidden(const rv_context *ctx, int64_t row) {
	int64_t slot = output_slot(ctx, row, RV_ROW_HIDDEN);
	return slot < 0 ? NULL : rv_tensor_row(ctx->hidden, slot);
}
