/* Carries out a policy (kv_policy.h) on the pages of a context: pages that have aged are encoded anew.
 *
 * A sequence that goes over to a colder page drops its reference to the old one and nobody else's: who
 * shares a page keeps it until his own position asks for the colder one, and then takes the page that
 * has been made already while it lives (a twin). So sharing changes neither results nor work. Belongs
 * to one context and follows its rule of one caller at a time. */
#ifndef RV_ENGINE_KV_TIERS_H
#define RV_ENGINE_KV_TIERS_H

#include "engine/backend.h"
#include "engine/kv_calibration.h"
#include "engine/kv_pages.h"
#include "engine/kv_policy.h"

typedef struct rv_kv_tiers rv_kv_tiers;

/* Borrows all but the policy. calibration: NULL where the policy needs none (RV_ERR_INVALID else, or
 * when it is another shape's). */
rv_status rv_kv_tiers_create(rv_kv_tiers **out, const rv_kv_policy *policy,
                             const rv_kv_calibration *calibration, rv_kv_pages *pages,
                             rv_backend *backend, const rv_context_options *options,
                             const rv_model *model);
void rv_kv_tiers_destroy(rv_kv_tiers *t); /* before the pages; accepts NULL */

/* Until commit or rollback, pages of the first length[seq] tokens that are replaced are kept: NULL: of
 * all. Borrowed. */
void rv_kv_tiers_begin(rv_kv_tiers *t, const int64_t *length);
/* Gives the complete pages of a sequence of `length` tokens their tiers. RV_ERR_LIMIT: no memory for a
 * page; those before it are done. */
rv_status rv_kv_tiers_advance(rv_kv_tiers *t, int32_t seq, int64_t length);
void rv_kv_tiers_commit(rv_kv_tiers *t);
void rv_kv_tiers_rollback(rv_kv_tiers *t);
/* The pages of a sequence were changed by someone else. */
void rv_kv_tiers_touch(rv_kv_tiers *t, int32_t seq);

/* May a sequence be cut to, or begin with, `length` tokens of these pages? RV_ERR_UNSUPPORTED when the
 * last one is needed in part and coded. */
rv_status rv_kv_tiers_check_cut(const rv_kv_tiers *t, const rv_kv_page *pages, int64_t length);
/* RV_ERR_MISMATCH when one of the n pages is colder than a sequence of just them would have it. */
rv_status rv_kv_tiers_check_attach(const rv_kv_tiers *t, const rv_kv_page *pages, int64_t n);

typedef struct rv_kv_tier_stats {
	int64_t n_pages[RV_KV_TIERS +
	                1]; /* held by sequences, by tier; shared ones count once a holder */
	int64_t n_encoded;  /* pages, since creation */
	int64_t n_taken;    /* twins gone over to */
	int64_t encode_ns, encode_max_ns; /* of pages: all, the longest */
	size_t page_bytes[RV_KV_TIERS + 1];
} rv_kv_tier_stats;
void rv_kv_tiers_stats(const rv_kv_tiers *t, rv_kv_tier_stats *out);
/* Of a context; 0 (and zeros) when it is flat. */
int rv_context_kv_tier_stats(const rv_context *ctx, rv_kv_tier_stats *out);
const rv_kv_policy *rv_kv_tiers_policy(const rv_kv_tiers *t);

#endif
