/* What context.c and forward.c share. */
#ifndef RV_ENGINE_CONTEXT_INTERNAL_H
#define RV_ENGINE_CONTEXT_INTERNAL_H

#include "engine/backend.h"
#include "engine/draft_rows.h"
#include "engine/kv_cache.h"
#include "engine/kv_pages.h"
#include "engine/kv_tiers.h"

/* Activations of one forward pass: X(name, rows by, columns) with rows n_batch. */
#define RV_ACTIVATIONS(X)                                                                              \
	X(x, hp->n_embd) /* residual stream */                                                         \
	X(h, hp->n_embd) /* normed input of a matmul; at the end the final hidden state */             \
	X(r, hp->n_embd) /* what is about to be added to x */                                          \
	X(q, hp->n_heads * hp->head_dim)    /* queries */                                              \
	X(k, hp->n_kv_heads * hp->head_dim) /* keys */                                                 \
	X(v, hp->n_kv_heads * hp->head_dim) /* values */                                               \
	X(a, hp->n_heads * hp->head_dim)    /* attention output */                                     \
	X(gate, hp->n_ff)                                                                              \
	X(up, hp->n_ff)                                                                                \
	X(rope, hp->n_rot)     /* cos, sin pairs of each row's position */                             \
	X(hidden, hp->n_embd)  /* final hidden state of the rows that asked for something */           \
	X(logits, hp->n_vocab) /* logits of the rows that asked for something */

/* Where evaluation stands in each sequence, under a tiered policy. */
typedef struct rv_context_pieces {
	int64_t *begin, *end; /* [n_seqs] tokens before and after the piece */
	int32_t *seqs;        /* those in the piece */
	int32_t n_seqs;
} rv_context_pieces;

/* Sets of adapters, and under which version of theirs sequences stand (adapter_sets.c). */
typedef struct rv_context_sets {
	rv_adapter_set *now[RV_ADAPTER_SETS]; /* their newest versions */
	uint64_t n_settings[RV_ADAPTER_SETS]; /* how often they were set, not swapped */
	rv_adapter_set empty, *unused;
	uint64_t n_versions;
	struct {
		struct rv_adapter_slot *slot; /* NULL: follows none */
		double scale;
		uint64_t seen; /* version of the slot it has */
	} follows[RV_ADAPTER_SETS];
	int n_follows;
	/* [n_seqs] */
	rv_adapter_set **of_seq; /* what the next rows are computed with */
	uint64_t *seq_version;   /* what all keys and values were, or RV_ADAPTER_MIXED */
	uint8_t *seq_held;       /* the next rows are computed with of_seq, whatever is newer */
	rv_adapter_use first[RV_ADAPTER_SET_USES]; /* the options' */
	int n_first;
} rv_context_sets;

struct rv_context {
	rv_context_options options;
	rv_model *model;
	rv_backend *backend;
	rv_kv_cache kv;     /* in one piece, or */
	rv_kv_pages *pages; /* NULL: not paged */
	rv_kv_tiers *tiers; /* NULL: flat */
	rv_context_pieces pieces;
	rv_kv_view kv_view;
	rv_draft_rows drafts;
	rv_row *piece; /* [n_batch] rows with draft rows' numbers; NULL: there are none */
	rv_hooks hooks;
	rv_context_sets sets;
	rv_deltas deltas;
	int adapted;          /* some row of this call has adapters */
	int32_t *seq_adapter; /* [n_seqs] the set a sequence was begun with */
	int (*cancelled)(void *user);
	void *cancel_user;

	rv_buffer buffer; /* all activations */
#define FIELD(name, cols) rv_tensor name;
	RV_ACTIVATIONS(FIELD)
#undef FIELD
	int32_t *ids;          /* [n_batch] tokens of the piece */
	rv_row *out_rows;      /* [n_batch] rows of the piece that want output */
	int64_t *out_index;    /* [n_batch] their numbers within the piece */
	int64_t *output_row;   /* [n_batch] row of the last eval call each output slot belongs to */
	int32_t *output_flags; /* [n_batch] */
	int64_t n_outputs;
	int64_t *length, *old_length; /* [n_seqs] tokens in each sequence, now and before this call */
	int scheduled;                /* all sequences are a scheduler's */
	int n_speculators;            /* that are about one of them */
};

/* Evaluates n <= n_batch valid rows; appends outputs to slots from ctx->n_outputs on. `first` is the
 * number of rows[0] within the caller's batch. */
rv_status rv_forward(rv_context *ctx, const rv_row *rows, int64_t n, int64_t first);

/* The KV cache of a context (context_kv.c). Fits its budget to what is available beside
 * `scratch_bytes`: RV_ERR_NO_MEMORY when not even that is. */
rv_status rv_context_kv_limit(rv_context_options *o, const rv_hparams *hp, size_t scratch_bytes);
rv_status rv_context_kv_open(rv_context *ctx);
void rv_context_kv_close(rv_context *ctx);
/* Most segments of a sequence. */
int64_t rv_context_kv_segments(const rv_context_options *o);
/* Room for the tokens between old_length and length of every sequence; RV_ERR_LIMIT. */
rv_status rv_context_kv_reserve(rv_context *ctx);
/* Every sequence has old_length tokens again. */
void rv_context_kv_restore(rv_context *ctx);

/* Tiered policies (context_tiers.c): none when the options name none. */
rv_status rv_context_tiers_open(rv_context *ctx);
void rv_context_tiers_close(rv_context *ctx);
/* Around the pieces of a call. piece: *n rows are left, *n are to be evaluated now; makes tiers and
 * room ready for them. end: of a call that succeeded. */
void rv_context_tiers_begin(rv_context *ctx);
rv_status rv_context_tiers_piece(rv_context *ctx, const rv_row *rows, int64_t *n);
void rv_context_tiers_end(rv_context *ctx);

/* Sets of adapters (adapter_sets.c). */
size_t rv_context_sets_bytes(int64_t n_batch); /* of scratch */
rv_status rv_context_sets_open(rv_context *ctx);
void rv_context_sets_close(rv_context *ctx);
rv_adapter_set *rv_adapter_set_retain(rv_adapter_set *set);
void rv_adapter_set_release(rv_context *ctx, rv_adapter_set *set); /* accepts NULL */
/* Which version a row of a sequence is computed with: of an empty sequence the newest of the row's set.
 * `length`: tokens it holds before the row. */
void rv_context_sets_admit(rv_context *ctx, const rv_row *row, int64_t length);
/* These rows were evaluated. */
void rv_context_sets_commit(rv_context *ctx, const rv_row *rows, int64_t n);
/* What a sequence was given stands under this version of its set (kept by who took it out; version:
 * rv_seq_adapter_version). hold: its next rows are computed with it too. */
void rv_seq_put_set(rv_context *ctx, int32_t seq, rv_adapter_set *set, uint64_t version, int hold);
void rv_seq_copy_set(rv_context *ctx, int32_t from, int32_t to);

/* Under what a sequence stands, for who takes its keys and values out and puts them back later. */
typedef struct rv_seq_stand {
	int32_t adapter;
	rv_adapter_set *set; /* referred to; NULL: nothing is kept */
	uint64_t version;
} rv_seq_stand;
rv_seq_stand rv_seq_stand_take(const rv_context *ctx, int32_t seq);
void rv_seq_stand_put(rv_context *ctx, int32_t seq, const rv_seq_stand *stand);
void rv_seq_stand_drop(rv_context *ctx, rv_seq_stand *stand);
/* rv_seq_load of what this context saved, whatever its set is by now (kv_spill.c). */
rv_status rv_seq_load_as(rv_context *ctx, int32_t seq, const rv_seq_stand *stand, const char *path);

#endif
