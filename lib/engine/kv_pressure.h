/* What is done when the KV pages' budget is exhausted.
 *
 * The owner of sequences says which are in use (rv_kv_pressure_use) and which only kept for later
 * (rv_kv_pressure_idle). When a page is needed and none is free, the context asks, and idle sequences
 * give way, least recently used first; one in use, or in the call under way, never does. Pages that a
 * sequence shares are free once all who hold them let go, so as many sequences give way as that takes
 * and no other.
 *
 *   reject    nothing: what needed the page fails with RV_ERR_LIMIT
 *   evict     they are forgotten; the owner is told
 *   quantize  their pages that nobody shares become q8, then q4, a pool page's worth at a time; when
 *             all are, reject. Not under the invariance contract: their logits differ from then on.
 *             Memory goes from wide to narrow pages a whole pool page at a time: what is left of the
 *             wide ones is moved together
 *   spill     they go to files and come back, with the same bits, when they are used again
 *
 * Belongs to one context, and follows its rule of one caller at a time. A prefix cache on the same
 * context is created first, so that it gives up what nobody uses before any sequence gives way, and
 * named here, because pages of idle sequences that it holds too are free only once it lets go of them
 * as well.
 */
#ifndef RV_ENGINE_KV_PRESSURE_H
#define RV_ENGINE_KV_PRESSURE_H

#include "engine/context.h"
#include "engine/prefix_cache.h"

#include <stddef.h>
#include <stdint.h>

typedef enum rv_kv_relief {
	RV_KV_REJECT,
	RV_KV_EVICT,
	RV_KV_QUANTIZE,
	RV_KV_SPILL,
	RV_KV_RELIEF_COUNT
} rv_kv_relief;
extern const char *const rv_kv_relief_names[RV_KV_RELIEF_COUNT + 1]; /* ends with NULL */

typedef struct rv_kv_pressure rv_kv_pressure;

typedef struct rv_kv_pressure_options {
	rv_kv_relief relief;
	rv_kv_type smallest;     /* QUANTIZE goes down to: Q8 or Q4 */
	const char *spill_dir;   /* SPILL: made when missing; files go to a folder of their own in it */
	rv_prefix_cache *prefix; /* of the context, outlives this; NULL: none */
	/* EVICT: a sequence of n_tokens was forgotten. Called from within calls of the context, which
	 * it must not use. May be NULL. */
	void (*evicted)(void *user, int32_t seq, int64_t n_tokens);
	void *user;
} rv_kv_pressure_options;
rv_kv_pressure_options rv_kv_pressure_defaults(void); /* REJECT, down to Q4 */

/* The context must be paged (RV_ERR_UNSUPPORTED), outlive this and have no other one. RV_ERR_INVALID:
 * options out of bounds, or SPILL without a folder; RV_ERR_LIMIT: no room for the pages that QUANTIZE
 * keeps in reserve, a pool page or two. */
rv_status rv_kv_pressure_create(rv_kv_pressure **out, rv_context *ctx,
                                const rv_kv_pressure_options *options);
/* Spilled sequences and their files are gone with it; those of a process that was killed when the next
 * one spills to the same folder (rv_seq_save is for what shall stay). Accepts NULL. */
void rv_kv_pressure_destroy(rv_kv_pressure *p);

/* ---- sequences ---- */

typedef enum rv_kv_place { RV_KV_RESIDENT, RV_KV_EVICTED, RV_KV_SPILLED } rv_kv_place;
rv_kv_place rv_kv_pressure_place(const rv_kv_pressure *p, int32_t seq); /* of an existing sequence */

/* The sequence is in use until rv_kv_pressure_idle is called as often. A spilled one is read back
 * first: RV_ERR_LIMIT when there is no room, RV_ERR_FORMAT and the like when its file was damaged; it
 * is then still spilled. RV_ERR_NOT_FOUND: it was evicted. On failure it is not in use. */
rv_status rv_kv_pressure_use(rv_kv_pressure *p, int32_t seq);
/* It may give way from now on, after those that became idle before it. Nothing happens when nobody uses
 * it or there is no such sequence. */
void rv_kv_pressure_idle(rv_kv_pressure *p, int32_t seq);
/* Empties the sequence, wherever it is. It can be used as a new one; users stay. RV_ERR_INVALID: no
 * such sequence. */
rv_status rv_kv_pressure_forget(rv_kv_pressure *p, int32_t seq);

/* ---- what happened ---- */

typedef struct rv_kv_pressure_stats {
	int64_t n_asked, n_refused; /* calls for a page, and those nothing could be done for */
	int64_t n_evicted, n_evicted_tokens;
	int64_t n_spilled, n_restored; /* since creation */
	int64_t n_spilled_now;         /* sequences in files */
	size_t spilled_bytes;          /* of keys and values in them */
	int64_t n_quantized;           /* pages made smaller, each step counted */
} rv_kv_pressure_stats;
void rv_kv_pressure_get_stats(const rv_kv_pressure *p, rv_kv_pressure_stats *out);
/* Why the last refused call was, "no idle sequence" or the disk's reason; "" when none was. */
const char *rv_kv_pressure_refusal(const rv_kv_pressure *p);

#endif
