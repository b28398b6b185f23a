/* Continuous batching: many requests share a context, each step evaluates one batch of their rows.
 *
 * A request waits, then holds a sequence of the context until it ends. A step mixes one row of every
 * sequence that is decoding with chunks of prompts, within a budget of rows. Waiting requests hold no
 * sequence and no pages, so there can be thousands.
 *
 * Order. The request with the smallest rank goes first: rank = step of submission - priority *
 * age_steps, ties in order of submission. Ranks never change, so a request is overtaken only by those
 * submitted less than (difference of priorities) * age_steps steps after it: nothing starves. The first
 * waiting request is never passed over for a smaller one behind it.
 *
 * Memory. A request is admitted when a sequence is free and the pages for its tokens are, beside what
 * the running ones still need. When running sequences need more pages than there are, or a request of
 * higher priority waits, the one with the largest rank gives way (rv_preempt) and waits again in its
 * place.
 *
 * Tokens. A request's tokens are those of it running alone with its options (SPEC 9: backend `ref` or
 * `simd`, a flat cache type), whatever else runs, in whatever order and steps, preempted or not. An
 * error of one request ends it with its status and disturbs no other.
 *
 * Adapters. A set may be swapped between steps, or follow a slot. With rv_context_options.pin_adapters
 * each request keeps the version it began with, also when it gave way and comes back: its tokens are
 * those of running alone under that version. Without, running requests go on with the newest, and those
 * that begin after the last swap have the tokens of running alone under it. A set that was *set* anew
 * ends what gave way before (RV_ERR_MISMATCH).
 *
 * Threads. Submit, cancel and look-ups may come from any thread, also from inside callbacks; stepping
 * and destroying are one caller's at a time, the context's. Callbacks run on the stepping thread with
 * no lock held. Steps allocate nothing, but for swapping out, the prefix cache, and of versions of
 * adapters the first few that live at once.
 */
#ifndef RV_ENGINE_SCHEDULER_H
#define RV_ENGINE_SCHEDULER_H

#include "engine/context.h"
#include "engine/generate.h"
#include "engine/prefix_cache.h"
#include "engine/sampler.h"

#include <stddef.h>
#include <stdint.h>

typedef struct rv_scheduler rv_scheduler;
typedef int64_t rv_request_id; /* positive; not given twice by a scheduler */

/* How a running request gives way. */
typedef enum rv_preempt {
	RV_PREEMPT_RECOMPUTE, /* forgets keys and values, evaluates its tokens again later */
	RV_PREEMPT_SWAP,      /* keeps them aside (rv_swap_ops); where that fails, recompute */
	RV_PREEMPT_NEVER      /* only when pages run out, and then as recompute */
} rv_preempt;
const char *rv_preempt_name(rv_preempt preempt);

/* Where RV_PREEMPT_SWAP keeps sequences. */
typedef struct rv_swap_ops {
	/* Keeps a copy of what `seq` holds in *kept; the sequence is unchanged. */
	rv_status (*save)(void *user, rv_context *ctx, int32_t seq, void **kept);
	/* Fills the empty sequence `seq`, which was begun with set `adapter`; kept stays. On failure
	 * the sequence is still empty. */
	rv_status (*restore)(void *user, rv_context *ctx, int32_t seq, int32_t adapter, void *kept);
	void (*drop)(void *user, void *kept);
	void *user;
} rv_swap_ops;

typedef struct rv_scheduler_options {
	int32_t step_rows;    /* most rows of a step, at most the context's n_batch; 0: that */
	int32_t prefill_rows; /* most prompt rows of a step in which others decode; 0: what is left */
	int64_t age_steps;    /* steps of waiting that outweigh one level of priority; default 64 */
	rv_preempt preempt;   /* default RECOMPUTE */
	rv_swap_ops swap;     /* save NULL: to memory */
	rv_prefix_cache *prefix; /* of the same context; NULL: none. Prompts begin with what it holds,
	                            prompts and answers are added to it */
	size_t swap_bytes;       /* most memory for it; 0: no limit */
} rv_scheduler_options;
rv_scheduler_options rv_scheduler_defaults(void);

/* Takes over all sequences of the context, which must outlive it as the prefix cache must, and empties
 * them. options: NULL for defaults. RV_ERR_INVALID: options out of bounds; RV_ERR_UNSUPPORTED: the
 * context has a scheduler, or a sequence of it a speculator (requests are decoded plainly). */
rv_status rv_scheduler_create(rv_scheduler **out, rv_context *ctx, const rv_scheduler_options *options);
/* Live requests end as cancelled, their on_done is called. Accepts NULL. */
void rv_scheduler_destroy(rv_scheduler *s);

/* ---- requests ---- */

/* Times are rv_now_ns; 0: not yet. */
typedef struct rv_request_stats {
	int64_t submit_ns, admit_ns /* first time */, first_token_ns, end_ns;
	int64_t prefill_ns; /* of the steps that evaluated more than one of its tokens */
	int64_t n_prompt, n_generated;
	int64_t n_prefix;    /* tokens taken from the prefix cache when it was last admitted */
	int64_t n_evaluated; /* rows, those evaluated again included */
	int32_t n_preempted, n_swapped; /* times; swapped ones are among the preempted */
} rv_request_stats;

/* What on_done is told; borrowed until it returns. */
typedef struct rv_request_result {
	rv_status status;        /* RV_OK, RV_ERR_CANCELLED, RV_ERR_NUMERIC, RV_ERR_LIMIT, ... */
	const char *message;     /* "" when RV_OK */
	rv_stop stop;            /* when RV_OK */
	const int32_t *tokens;   /* [stats.n_generated] */
	const int64_t *token_ns; /* [stats.n_generated] when each was delivered */
	rv_request_stats stats;
} rv_request_result;

typedef struct rv_request {
	const int32_t *prompt; /* copied */
	int64_t n_prompt;      /* at least 1, at most n_ctx */
	int64_t max_tokens;    /* at most n_ctx - n_prompt + 1 come; -1: as many. 0: prompt only */
	int32_t priority;      /* higher first; default 0 */
	rv_sampler_options sampling;
	const int32_t *stop_tokens; /* copied; like end tokens they end a request undelivered */
	int32_t n_stop_tokens;
	int ignore_end;  /* end tokens of the vocabulary are ordinary */
	int logprobs;    /* compute them for on_token (NaN otherwise) */
	int32_t adapter; /* set of adapters (rv_context_set_adapters) */
	/* A token was chosen. Non-zero ends the request (RV_STOP_CALLER). NULL: not wanted. */
	int (*on_token)(void *user, rv_request_id id, int32_t token, double logprob);
	/* Called once for every request that submit accepted; its id is unknown from then on. */
	void (*on_done)(void *user, rv_request_id id, const rv_request_result *result);
	void *user;
} rv_request;
rv_request rv_request_defaults(void); /* sampling: rv_sampler_defaults() */

/* Memory for the request's tokens is allocated here. RV_ERR_INVALID: empty prompt, ids out of the
 * vocabulary, sampling options or set out of bounds; RV_ERR_LIMIT: a prompt longer than n_ctx, or more
 * than 2^20 live requests. */
rv_status rv_scheduler_submit(rv_scheduler *s, const rv_request *request, rv_request_id *id);

/* It ends with RV_ERR_CANCELLED at the next step; of the step under way no token of it is delivered any
 * more, but for one whose callback has begun. RV_ERR_NOT_FOUND: ended, or never there. */
rv_status rv_scheduler_cancel(rv_scheduler *s, rv_request_id id);

typedef enum rv_request_state { RV_REQUEST_WAITING, RV_REQUEST_RUNNING } rv_request_state;
typedef struct rv_request_info {
	rv_request_state state;
	int32_t seq;      /* while running, else -1 */
	int64_t n_cached; /* tokens whose keys and values are in the context */
	rv_request_stats stats;
} rv_request_info;
/* As of the last step. RV_ERR_NOT_FOUND: ended, or never there. */
rv_status rv_scheduler_find(rv_scheduler *s, rv_request_id id, rv_request_info *out);

/* ---- steps ---- */

/* One batch: admits, evaluates, samples, delivers. *n_live (may be NULL): requests left. With nothing
 * to do it returns at once. RV_ERR_CANCELLED when the context's cancel function said so: no request
 * lost anything and the step may be repeated. RV_ERR_INVALID from inside a callback. Whatever else
 * fails ends the request that it concerns. */
rv_status rv_scheduler_step(rv_scheduler *s, int64_t *n_live);
/* Steps until no request is left. */
rv_status rv_scheduler_run(rv_scheduler *s);

typedef struct rv_scheduler_stats {
	int64_t n_steps;                                    /* that evaluated something */
	int64_t n_submitted, n_done, n_cancelled, n_failed; /* done: with RV_OK */
	int64_t n_waiting, n_running, max_running;
	int64_t running_steps; /* sum over steps of running requests: / n_steps is their mean */
	int64_t n_preempted, n_swapped;
	int64_t prefill_tokens, decode_tokens;   /* evaluated */
	int64_t again_tokens;                    /* of those, evaluated before */
	int64_t prefix_tokens;                   /* not evaluated: from the prefix cache */
	int64_t n_generated;                     /* delivered */
	size_t swapped_bytes, max_swapped_bytes; /* kept in memory now, at most */
	int64_t plan_ns, eval_ns, sample_ns, deliver_ns;
} rv_scheduler_stats;
void rv_scheduler_get_stats(rv_scheduler *s, rv_scheduler_stats *out); /* as of the last step */

#endif
