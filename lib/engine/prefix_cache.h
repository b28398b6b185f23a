/* The prefix cache of a context with a paged KV cache: pages of prompts already evaluated, found again
 * by their tokens, so that a prompt that begins like an earlier one is evaluated only from where it
 * differs (radix tree over pages of tokens, prefix_tree.h). Of the page in which it differs the
 * sequence gets a copy of the part before.
 *
 * Identity (SPEC 2): model, RoPE, cache type and page size are the context's, whose pages alone are
 * here; adapters are told apart by rv_context_adapter_version. So a prompt under another set, or under
 * the same set after it was changed, never gets them; and of a sequence whose adapters were swapped
 * under it nothing is kept (offering it is no failure). Looking up takes over what followed slots have
 * newer, and an attached sequence is evaluated under the version of its pages first. Whoever sets hooks
 * that change values clears the cache. Pages that were quantized since they were evaluated are neither
 * kept nor handed out: under a tiered policy a prompt longer than its hot tail is not shared. Logits
 * after a hit are thus bit-identical to those of a cold run (SPEC 9).
 *
 * The cache holds references to pages of the context's budget. When the context needs a page and none
 * is free, it gives up its least recently used one that no sequence uses and no pin holds. So a full
 * cache never refuses a sequence.
 *
 * One caller at a time, the context's: every function here counts as a use of the context. All is
 * deterministic: the same calls give the same hits and the same evictions.
 */
#ifndef RV_ENGINE_PREFIX_CACHE_H
#define RV_ENGINE_PREFIX_CACHE_H

#include "engine/context.h"

#include <stdint.h>

typedef struct rv_prefix_cache rv_prefix_cache;
typedef struct rv_prefix_node rv_prefix_pin; /* a place in the tree */

/* The context must be paged (RV_ERR_INVALID) and outlive the cache, which answers its calls for pages
 * (rv_kv_pages_add_reclaim) until destroyed. */
rv_status rv_prefix_cache_create(rv_prefix_cache **out, rv_context *ctx);
/* Gives up all pages; pins need not be taken back before. Accepts NULL. */
void rv_prefix_cache_destroy(rv_prefix_cache *cache);

/* ---- prompts ---- */

/* How many of a prompt's first tokens attaching would take from the cache; never the last one, whose
 * logits are wanted. Changes nothing, not even what was used last. `adapter`: set of adapters (rv_row).
 * 0 where an argument is out of range. */
int64_t rv_prefix_cache_match(const rv_prefix_cache *cache, int32_t adapter, const int32_t *tokens,
                              int64_t n);

/* The empty sequence `seq` begins with what rv_prefix_cache_match finds: *n_cached tokens (0: none); no
 * page is taken from the budget. The rest is evaluated from position *n_cached on, with the same set of
 * adapters. RV_ERR_INVALID: the sequence holds tokens, or does not exist. */
rv_status rv_prefix_cache_attach(rv_prefix_cache *cache, int32_t seq, int32_t adapter,
                                 const int32_t *tokens, int64_t n, int64_t *n_cached);

/* Offers the full pages of a sequence: tokens are those it holds at positions [0, n), n at most its
 * length (RV_ERR_INVALID). Pages already there are kept, the others are shared with the sequence, which
 * goes on as before. May be called at any time: after a prompt, a chunk of it, an answer. */
rv_status rv_prefix_cache_insert(rv_prefix_cache *cache, int32_t seq, const int32_t *tokens, int64_t n);

/* The same with the last page, full or not: for a sequence about to be emptied, whose text goes on in a
 * later prompt (the next turn of a chat). One that does go on copies that page first. */
rv_status rv_prefix_cache_keep(rv_prefix_cache *cache, int32_t seq, const int32_t *tokens, int64_t n);

/* What evaluating a prompt brought. */
typedef struct rv_prompt_result {
	const float *logits; /* of the last token [n_vocab]; valid until the context's next eval */
	int64_t row;         /* its number in that eval (rv_context_logits) */
	int64_t n_cached;    /* tokens that came from the cache; the others were evaluated */
} rv_prompt_result;

/* Appends n >= 1 tokens to a sequence: an empty one begins with what is cached, the rest is evaluated,
 * and what an empty one then holds is inserted. cache NULL: all is evaluated. On failure the sequence
 * is as before the call; an insertion that finds no memory is no failure. */
rv_status rv_prompt_eval(rv_context *ctx, rv_prefix_cache *cache, int32_t seq, const int32_t *tokens,
                         int64_t n, int32_t adapter, rv_prompt_result *out);

/* ---- what is kept ---- */

/* Keeps the cached whole pages of these tokens from eviction until unpinned: *n_pinned tokens.
 * RV_ERR_NOT_FOUND when nothing of them is cached. */
rv_status rv_prefix_cache_pin(rv_prefix_cache *cache, int32_t adapter, const int32_t *tokens, int64_t n,
                              rv_prefix_pin **out, int64_t *n_pinned);
void rv_prefix_cache_unpin(rv_prefix_cache *cache, rv_prefix_pin *pin); /* accepts NULL */

/* Gives up least recently used pages until n of them became free, or nothing more can: how many did.
 * For callers with a policy of their own; the context asks by itself. */
int64_t rv_prefix_cache_evict(rv_prefix_cache *cache, int64_t n);
/* Pages that rv_prefix_cache_evict could free now: admission counts them as free. */
int64_t rv_prefix_cache_reclaimable(const rv_prefix_cache *cache);
/* Gives up every page that no pin holds. */
void rv_prefix_cache_clear(rv_prefix_cache *cache);

typedef struct rv_prefix_cache_stats {
	int64_t n_lookups, n_hits; /* attach calls, and those that found something */
	int64_t tokens_asked, tokens_saved;
	int64_t n_identities, n_nodes, n_pages; /* held now */
	int64_t pages_inserted, pages_evicted;  /* since creation */
} rv_prefix_cache_stats;
void rv_prefix_cache_get_stats(const rv_prefix_cache *cache, rv_prefix_cache_stats *out);

/* Checks every invariant of the tree (for tests): RV_ERR_INVALID says which does not hold. */
rv_status rv_prefix_cache_verify(const rv_prefix_cache *cache);

#endif
