/* A context: what one caller needs to run a model: backend, threads, KV cache, scratch.
 *
 * One caller at a time; several contexts, also with different backends and feature levels and on the
 * same model, live side by side. After creation, evaluating a batch allocates nothing.
 *
 * The invariance contract (SPEC 9): with backend `ref` or `simd` and one feature level, the logits of a
 * token depend on the weights, the KV type, the attention kind and the tokens before it in its
 * sequence, and on nothing else: not on threads, batch composition, chunking or other sequences. Under
 * a tiered policy they depend on the page size too; there a sequence that was cut or copied to fewer
 * tokens keeps the formats of the longer one.
 */
#ifndef RV_ENGINE_CONTEXT_H
#define RV_ENGINE_CONTEXT_H

#include "base/log.h"
#include "base/status.h"
#include "kernels/kernels.h"
#include "model/adapter.h"
#include "model/model.h"
#include "model/site.h"

#include <stdint.h>

typedef enum rv_backend_kind {
	RV_BACKEND_REF,  /* plain C, f32 activations */
	RV_BACKEND_BLAS, /* decoded weights through OpenBLAS SGEMM; not covered by the invariance
	                    contract */
	RV_BACKEND_SIMD, /* own kernels at the context's feature level */
	RV_BACKEND_COUNT
} rv_backend_kind;
const char *rv_backend_name(rv_backend_kind kind);

typedef enum rv_attn_kind {
	RV_ATTN_FLASH,           /* 64-key blocks, online softmax, causal skip; O(n) memory */
	RV_ATTN_STANDARD,        /* full score matrix of a head, masked softmax; O(n^2) memory */
	RV_ATTN_STANDARD_CAUSAL, /* the same by blocks of 128 rows, keys up to the block's end */
	RV_ATTN_COUNT
} rv_attn_kind;

typedef struct rv_context rv_context;

typedef struct rv_adapter_use {
	rv_adapter *adapter;
	double scale; /* times the adapter's own alpha / rank */
} rv_adapter_use;

typedef struct rv_context_options {
	int64_t n_ctx;   /* tokens a sequence can hold; 0: min(model's, 4096) */
	int32_t n_seqs;  /* sequences that can live at once; default 1 */
	int32_t n_draft; /* most draft rows held at once; default 0 */
	int32_t n_batch; /* most rows evaluated at once, at most n_ctx * n_seqs + n_draft; default
	                    512 */
	rv_backend_kind backend; /* default SIMD */
	rv_level level;          /* default: rv_level_best() lowered by RV_CPU; see rv_level_default */
	rv_kv_type kv_type;      /* default F16 */
	int32_t page_size;       /* tokens of a KV page: power of two, 8..256; default 64; 0: one piece
	                            of n_ctx tokens a sequence */
	size_t kv_budget_bytes;  /* of KV pages; 0: what n_ctx * n_seqs tokens take, at most
	                            RV_KV_TOKENS_MAX and what is available */
	struct rv_pool *pool;    /* shared budget of KV pages (base/pool.h), which outlives the context;
	                            NULL: the context's own */
	const struct rv_kv_policy *kv_policy; /* how pages are stored as they age (engine/kv_policy.h);
	                                         copied; NULL: all as kv_type. Paged only */
	const struct rv_kv_calibration *kv_calibration; /* where the policy needs one; outlives the
	                                                   context (engine/kv_calibration.h) */
	rv_attn_kind attention;                         /* default FLASH */
	rv_rope_scaling rope;                           /* default: as the model's metadata say */
	int n_threads;                                  /* 0: rv_threads_default_count() */
	int pin;                                        /* default 1 */
	struct rv_threads *threads; /* of another context with the same caller, which outlives this one
	                               (rv_context_threads); NULL: its own */
	size_t l1d_bytes, l2_bytes; /* caches that attention's tiles are cut for; 0: this machine's */
	const rv_adapter_use *adapters; /* of set 0, as rv_context_set_adapters; NULL: none */
	int n_adapters;
	int pin_adapters; /* 1: a sequence keeps the version of its set that it began with; 0 (default):
	                     a swap reaches it at its next token */
	rv_log log;       /* the threads' report: a warning when some do not run or are not bound */
} rv_context_options;

/* Tokens that a cache of its own budget holds at most (8192 pages of 64). */
#define RV_KV_TOKENS_MAX ((int64_t)524288)

rv_context_options rv_context_defaults(void);

/* The level named by the environment variable RV_CPU, else the best. RV_ERR_INVALID for an unknown
 * name, RV_ERR_UNSUPPORTED for one this machine cannot run. */
rv_status rv_level_default(rv_level *out);

/* Retains the model. Memory (KV cache, scratch of a full batch) is computed first and compared with
 * what is available: RV_ERR_NO_MEMORY says need against have. Options out of bounds: RV_ERR_INVALID; a
 * level or BLAS that is not there: RV_ERR_UNSUPPORTED. options: NULL for defaults. */
rv_status rv_context_create(rv_context **out, rv_model *model, const rv_context_options *options);
void rv_context_destroy(rv_context *ctx); /* accepts NULL */

rv_model *rv_context_model(const rv_context *ctx);
/* With defaults resolved; n_threads are those that run. */
const rv_context_options *rv_context_get_options(const rv_context *ctx);
const char *rv_context_threads_report(const rv_context *ctx);
/* For contexts that take turns with this one, whose threads would stand in each other's way. */
struct rv_threads *rv_context_threads(const rv_context *ctx);

/* ---- batches ---- */

typedef enum rv_row_flags {
	RV_ROW_LOGITS = 1, /* logits of this row are wanted */
	RV_ROW_HIDDEN = 2  /* final hidden state (after the last norm) of this row is wanted */
} rv_row_flags;

/* One row a token. Rows of one sequence must be in ascending position order. */
typedef struct rv_row {
	int32_t token;    /* id */
	int32_t seq;      /* sequence number, 0..n_seqs-1 */
	int32_t position; /* must be the sequence's length at that moment; of a draft row: its parent's
	                     and one */
	int32_t parent;   /* -1. Of a draft row (below): the draft row before it by number, 0: the last
	                     token of the sequence */
	int32_t adapter;  /* set of adapters (rv_context_set_adapters), the same for a whole sequence */
	int32_t flags;    /* rv_row_flags */
} rv_row;

/* Evaluates n rows (any number: cut into n_batch pieces), appending to the sequences' KV. Nothing is
 * appended when a row is invalid (RV_ERR_INVALID names it), would exceed n_ctx or finds no KV page left
 * (RV_ERR_LIMIT). On RV_ERR_NUMERIC (a non-finite query, key, value, hidden state or logit; names
 * sequence and position) or RV_ERR_CANCELLED the sequences are as before the call. */
rv_status rv_context_eval(rv_context *ctx, const rv_row *rows, int64_t n);

/* Logits [n_vocab] / hidden state [n_embd] of the i-th row of the last eval, valid until the next; NULL
 * when the row did not ask for them. Only the rows that asked take memory; at most n_batch of one eval
 * call may ask (RV_ERR_LIMIT). */
const float *rv_context_logits(const rv_context *ctx, int64_t row);
const float *rv_context_hidden(const rv_context *ctx, int64_t row);

/* ---- draft rows ----
 * Tokens that may follow a sequence, as a tree: rows with a parent >= 0 are evaluated as if the path to
 * them stood in the sequence, to the same bits, but do not lengthen it. They are numbered from
 * rv_context_n_drafts() + 1 on in the order of evaluation, and later rows, also of later calls, can
 * have them as parents. While a sequence holds draft rows it takes no plain ones (RV_ERR_INVALID);
 * accepting, truncating or copying to it drops them. At most rv_context_options.n_draft at a time
 * (RV_ERR_LIMIT). */

/* The last number; 0 when no sequence holds draft rows. */
int32_t rv_context_n_drafts(const rv_context *ctx);
/* Appends a path of draft rows, from a child of the last token on, to the sequence without evaluating
 * it again, and drops the sequence's other draft rows; n 0: drops all. RV_ERR_INVALID: no such path;
 * RV_ERR_LIMIT: no KV page is left, and nothing changed. */
rv_status rv_seq_accept(rv_context *ctx, int32_t seq, const int32_t *drafts, int64_t n);

/* Polled between layers; NULL clears. */
void rv_context_set_cancel(rv_context *ctx, int (*cancelled)(void *user), void *user);

/* ---- sequences ---- */

int64_t rv_seq_length(const rv_context *ctx, int32_t seq);
/* Forgets positions >= length; RV_ERR_INVALID when longer than the sequence. */
rv_status rv_seq_truncate(rv_context *ctx, int32_t seq, int64_t length);
/* Makes `to` the first `length` positions of `from`; what it held is forgotten. It then goes on by
 * itself, its logits the same as if its tokens had been evaluated there. With from == to it truncates.
 * Paged: the pages are shared, and the last one copied once either appends to it; otherwise a copy of
 * keys and values. RV_ERR_INVALID when a sequence does not exist or `from` is shorter. */
rv_status rv_seq_copy(rv_context *ctx, int32_t from, int32_t to, int64_t length);

/* Pages that appending n_more tokens would take from the budget; 0 when not paged, -1 for no such
 * sequence. */
int64_t rv_seq_pages_needed(const rv_context *ctx, int32_t seq, int64_t n_more);

typedef struct rv_kv_stats {
	int64_t n_tokens;       /* in all sequences; shared ones count once a sequence */
	size_t reserved_bytes;  /* a cache in one piece of the same n_ctx and n_seqs */
	size_t budget_bytes;    /* most it may take */
	size_t allocated_bytes; /* of it now: whole pool pages; in one piece all of it */
	/* 0 when not paged */
	size_t page_bytes, used_bytes; /* of a page; of pages held by someone */
	int64_t n_pages, n_shared;     /* held by someone; by more than one */
	int64_t n_free;                /* the budget has room for */
	int64_t n_copies;              /* made because a shared page was written to, since creation */
} rv_kv_stats;
void rv_context_kv_stats(const rv_context *ctx, rv_kv_stats *out);

/* For caches, policies and files of pages (engine/kv_pages.h); NULL when not paged. */
struct rv_kv_pages *rv_context_kv_pages(const rv_context *ctx);
/* The empty sequence begins with n full pages, which it shares; its length is n pages. Their contents
 * must have been computed under the same set of adapters. RV_ERR_INVALID. */
rv_status rv_seq_attach(rv_context *ctx, int32_t seq, const int32_t *pages, int64_t n, int32_t adapter);
/* The set of adapters a sequence was begun with; -1 for no such sequence or an empty one. */
int32_t rv_seq_adapter(const rv_context *ctx, int32_t seq);

/* ---- adapters ---- */

enum {
	RV_ADAPTER_SETS = 128,    /* of a context */
	RV_ADAPTER_SET_USES = 8,  /* adapters that a set adds up */
	RV_ADAPTER_SWAP_RANK = 64 /* sum of a set's ranks up to which changing it allocates nothing */
};

/* Rows that name the set are computed with W + sum of scale * alpha / rank * B A. All sets are empty at
 * first; rows of empty sets cost nothing and have the bits of a context without adapters. Retains the
 * adapters. RV_ERR_INVALID, and nothing changed: a set or number out of range, a scale that is not
 * finite, or a sequence that holds tokens (their keys and values were computed with the old set);
 * RV_ERR_MISMATCH: an adapter for another shape. Allocates; n 0 empties the set. */
rv_status rv_context_set_adapters(rv_context *ctx, int32_t set, const rv_adapter_use *uses, int n);

/* The same while sequences hold tokens: a hot swap. It takes effect with the next eval, as a whole, so
 * every token is computed under exactly one version. A sequence that held tokens before keeps their
 * keys and values and is *mixed* from its next token on, until it is emptied: it is never taken into a
 * prefix cache nor resumed as what it is not. What begins afterwards, or anew, is as if the set had
 * always been so. With rv_context_options.pin_adapters a sequence stays with the version it began with
 * instead. */
rv_status rv_context_swap_adapters(rv_context *ctx, int32_t set, const rv_adapter_use *uses, int n);

/* The set is what the slot's newest adapter makes it, times `scale`: taken over at the start of each
 * eval, as by rv_context_swap_adapters. A sequence that took pages from a prefix cache is first
 * evaluated under the version of these. NULL, or setting or swapping the set, ends it; the set stays as
 * it is. The slot outlives that or the context, and is for models of this shape (RV_ERR_MISMATCH). */
struct rv_adapter_slot;
rv_status rv_context_follow_slot(rv_context *ctx, int32_t set, struct rv_adapter_slot *slot,
                                 double scale);
/* Takes over the newest of all followed slots now, not only with the next eval. */
rv_status rv_context_poll_slots(rv_context *ctx);

/* What the adapters of a set are, as a number: another one after every change, 0 for an empty set. Keys
 * and values computed under one number are valid under no other. */
uint64_t rv_context_adapter_version(const rv_context *ctx, int32_t set);
/* The number that all keys and values of a sequence were computed under; RV_ADAPTER_MIXED when under
 * several, 0 for no such sequence or an empty one. */
#define RV_ADAPTER_MIXED UINT64_MAX
uint64_t rv_seq_adapter_version(const rv_context *ctx, int32_t seq);

/* ---- hooks ----
 * How learning observes a projection of a layer, and adds to it, without engine/ knowing about it. */

/* One projection of one layer, for the rows of a batch (in the last layer only those that want output;
 * no call when none does). Of a draft row `parent` is its own number, > 0; of others -1. */
typedef struct rv_site_view {
	rv_role role;
	int64_t layer;
	const rv_row *rows;
	int64_t n_rows, n_input, n_output;
	const float *input;    /* [n_rows, n_input] */
	float *output;         /* [n_rows, n_output] with bias and adapters; may be changed */
	const float *residual; /* [n_rows, n_output] what the output is about to be added to; NULL where
	                          the role does not end in the residual stream (model/site.h) */
} rv_site_view;

typedef struct rv_hooks {
	/* Called by the thread that evaluates; a failure ends the eval with it. NULL: no hooks. */
	rv_status (*site)(void *user, const rv_site_view *view);
	uint32_t roles;        /* that it is called for, RV_ROLE_BITs (rv_site_roles); RV_OUTPUT: logits
	                          of the rows that want output, in "layer 0", before they are checked */
	const uint8_t *layers; /* [n_layers] not 0: hooked; NULL: all. Borrowed; not for RV_OUTPUT */
	void *user;
} rv_hooks;

/* Copied; NULL: none, which costs nothing. RV_ERR_INVALID: a role that is no projection. */
rv_status rv_context_set_hooks(rv_context *ctx, const rv_hooks *hooks);

#endif
