/* What learning needs to see of requests, saved while they are served.
 *
 * A capture hangs on the hooks of one context. For sequences that a request was begun on it saves, at
 * the hooked layers, of the first `max_tokens` rows that ask for logits: the input of the site's
 * projections that end in the residual stream, the state behind their addition, and ids and values of
 * the n_top highest logits. Rows are told apart by position: one that is evaluated again (a rejected
 * draft, a preempted request) takes the place of the first, and rows of draft trees are left out.
 *
 * Where a token's gradients of the local objective cost little beside decoding it (large models), they
 * are computed as the tokens come, so that nothing but the step is left to do when the request ends.
 *
 * All memory is allocated by attaching: nothing is allocated by a token, nothing waits for anybody.
 * When all places are taken (requests under way, and those ended whose states are still held) a further
 * request is served without being captured, and counted.
 *
 * Threads: begin, end and cancel belong to the context's caller; releasing may come from any thread. */
#ifndef RV_LEARN_CAPTURE_H
#define RV_LEARN_CAPTURE_H

#include "base/status.h"
#include "engine/context.h"
#include "learn/local_objective.h"

#include <stdint.h>

typedef struct rv_capture rv_capture;

enum { RV_CAPTURE_MAX_PARTS = 128 };

/* When gradients are computed: not here; with the tokens; with the tokens where the model has
 * RV_CAPTURE_DEAR times as many weights as a token's candidates have. */
enum { RV_CAPTURE_LATER, RV_CAPTURE_NOW, RV_CAPTURE_AUTO };
#define RV_CAPTURE_DEAR 1000

typedef struct rv_capture_options {
	const int64_t *layers; /* hooked; copied */
	int n_layers;
	rv_site site;             /* default attn_out */
	int64_t max_tokens;       /* of a request, 1..128; default 32 */
	int64_t n_top;            /* logits of a token, 2..256; default 64 */
	int gradients;            /* rv_capture_gradients; default AUTO */
	rv_local_reading reading; /* of the gradients; default LENS */
	int64_t n_places; /* requests held at once; 1..4096; 0 (default): sequences of the context + 4
	                   */
} rv_capture_options;
rv_capture_options rv_capture_defaults(void);

/* Sets the context's hooks, which must have none; borrowed until the destroy, which takes them off
 * again. RV_ERR_INVALID: an option out of bounds. A site without projections that end in the residual
 * stream (proj:qv) captures logits alone. */
rv_status rv_capture_attach(rv_capture **out, rv_context *ctx, const rv_capture_options *options);
/* Accepts NULL. What it gave out is gone with it. */
void rv_capture_detach(rv_capture *c);
size_t rv_capture_bytes(const rv_capture *c);

/* A hooked projection whose input and state are saved. */
typedef struct rv_capture_part {
	rv_role role;
	int64_t layer, n_input;
} rv_capture_part;

/* A request as it was seen; fields are read-only. Token i: what was chosen after position `first + i`
 * for those i that were seen whole. */
typedef struct rv_captured {
	const rv_capture_part *parts;
	int n_parts;
	int64_t n_embd, n_top;
	int64_t n_tokens;      /* captured */
	int64_t n_missed;      /* of the tokens told at the end: not captured */
	uint64_t version;      /* of the adapters its sequence was last evaluated under */
	double likelihood;     /* mean probability of the tokens among the n_top; NaN without tokens */
	const int32_t *ids;    /* [n_tokens, n_top] in no particular order */
	const float *values;   /* [n_tokens, n_top] */
	const int32_t *chosen; /* [n_tokens] index of the token among the ids */
	float *const *inputs;  /* [n_parts] of [n_tokens, n_input] */
	float *const *states;  /* [n_parts] of [n_tokens, n_embd], residual + output */
	float *const *gradients; /* [n_parts] of [n_tokens, n_embd] by the states; NULL: not computed */
	const double *loss;      /* [n_tokens, n_parts] nats, with gradients */
	rv_local_reading reading;
} rv_captured;

/* From now on rows of the sequence at positions >= first that ask for logits are captured: position
 * first + i yields token i. RV_ERR_LIMIT: no place is free; RV_ERR_INVALID: no such sequence, or one
 * that has a request. */
rv_status rv_capture_begin(rv_capture *c, int32_t seq, int64_t first);
/* The request is over; tokens[i] followed position first + i. The result is the caller's until it is
 * released; it may hold no tokens. NULL when the sequence has no request. A token that was not among
 * the n_top highest takes the place of the lowest, with its value. */
rv_captured *rv_capture_end(rv_capture *c, int32_t seq, const int32_t *tokens, int64_t n);
void rv_capture_cancel(rv_capture *c, int32_t seq);
void rv_captured_release(rv_captured *captured); /* accepts NULL; any thread */

typedef struct rv_capture_stats {
	int64_t n_requests, n_tokens;
	int64_t n_no_place; /* requests served without */
	int64_t n_held;     /* places taken now */
	int64_t hook_ns;    /* in the hooks since attaching: what they took from evaluation */
} rv_capture_stats;
void rv_capture_get_stats(const rv_capture *c, rv_capture_stats *out);

#endif
