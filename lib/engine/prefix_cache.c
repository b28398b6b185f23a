#include "engine/prefix_cache.h"

#include "base/mem.h"
#include "engine/kv_pages.h"
#include "engine/prefix_tree.h"

struct rv_prefix_cache {
	rv_context *ctx;
	rv_kv_pages *kv;
	rv_prefix_tree tree;
	int32_t *pages;              /* [of a full sequence] found by attach */
	rv_prefix_cache_stats stats; /* of lookups */
};

/* ---- life ---- */

static void retain(void *user, int32_t page) {
	rv_kv_page_retain(user, page);
}
static void release(void *user, int32_t page) {
	rv_kv_page_release(user, page);
}
static int32_t count(void *user, int32_t page) {
	return rv_kv_page_refs(user, page);
}

static rv_status reclaim(void *user) {
	rv_prefix_cache *cache = user;
	return rv_prefix_tree_evict(&cache->tree, 1) > 0
	               ? RV_OK
	               : rv_fail(RV_ERR_LIMIT, "prefix cache: every page is in use or pinned");
}

rv_status rv_prefix_cache_create(rv_prefix_cache **out, rv_context *ctx) {
	rv_kv_pages *kv = rv_context_kv_pages(ctx);
	rv_prefix_cache *cache;
	*out = NULL;
	if (!kv)
		return rv_fail(RV_ERR_INVALID, "prefix cache: the KV cache has no pages");
	int64_t page_size = rv_kv_pages_page_tokens(kv);
	RV_TRY(RV_ALLOC(&cache, 1, "prefix cache"));
	cache->ctx = ctx;
	cache->kv = kv;
	rv_prefix_tree_init(&cache->tree, page_size, (rv_page_refs){retain, release, count, kv});
	rv_status st = RV_ALLOC(&cache->pages, rv_context_get_options(ctx)->n_ctx / page_size + 1,
	                        "prefix cache");
	if (st == RV_OK)
		st = rv_kv_pages_add_reclaim(kv, reclaim, cache);
	if (st != RV_OK) {
		rv_prefix_cache_destroy(cache);
		return st;
	}
	*out = cache;
	return RV_OK;
}

void rv_prefix_cache_destroy(rv_prefix_cache *cache) {
	if (!cache)
		return;
	rv_kv_pages_remove_reclaim(cache->kv, reclaim, cache);
	rv_prefix_tree_deinit(&cache->tree);
	rv_free(cache->pages);
	rv_free(cache);
}

/* ---- prompts ---- */

/* Of what is about to begin: by the newest version, which attaching holds the sequence to. */
static uint64_t identity(const rv_prefix_cache *cache, int32_t adapter) {
	return rv_context_adapter_version(cache->ctx, adapter);
}

/* How many tokens of a prompt are looked for. */
static int64_t n_wanted(const rv_prefix_cache *cache, int32_t adapter, int64_t n) {
	int64_t n_ctx = rv_context_get_options(cache->ctx)->n_ctx;
	if (adapter < 0 || adapter >= RV_ADAPTER_SETS || n < 1)
		return 0;
	return n - 1 < n_ctx ? n - 1 : n_ctx;
}

/* How many of these pages hold rows as they were evaluated: those before a quantized one. */
static int64_t n_plain(const rv_prefix_cache *cache, const int32_t *pages, int64_t n) {
	int type = (int)rv_context_get_options(cache->ctx)->kv_type;
	int64_t i = 0;
	while (i < n && rv_kv_page_format(cache->kv, pages[i]) == type)
		i++;
	return i;
}

int64_t rv_prefix_cache_match(const rv_prefix_cache *cache, int32_t adapter, const int32_t *tokens,
                              int64_t n) {
	n = n_wanted(cache, adapter, n);
	if (rv_context_poll_slots(cache->ctx) != RV_OK)
		return 0;
	return n > 0 ? rv_prefix_tree_match(&cache->tree, identity(cache, adapter), tokens, n) : 0;
}

rv_status rv_prefix_cache_attach(rv_prefix_cache *cache, int32_t seq, int32_t adapter,
                                 const int32_t *tokens, int64_t n, int64_t *n_cached) {
	int64_t page_size = cache->tree.page_size, found = 0;
	if (rv_seq_length(cache->ctx, seq) != 0)
		return rv_fail(RV_ERR_INVALID, "prefix cache: sequence %d is not an empty one", seq);
	RV_TRY(rv_context_poll_slots(cache->ctx));
	n = n_wanted(cache, adapter, n);
	if (n > 0)
		RV_TRY(rv_prefix_tree_lookup(&cache->tree, identity(cache, adapter), tokens, n,
		                             cache->pages, &found));
	int64_t n_pages = (found + page_size - 1) / page_size;
	int64_t plain = n_plain(cache, cache->pages, n_pages);
	if (plain < n_pages)
		found = (n_pages = plain) * page_size;
	if (found > 0) {
		RV_TRY(rv_seq_attach(cache->ctx, seq, cache->pages, n_pages, adapter));
		RV_TRY(rv_seq_truncate(cache->ctx, seq, found));
	}
	cache->stats.n_lookups++;
	cache->stats.n_hits += found > 0;
	cache->stats.tokens_asked += n;
	cache->stats.tokens_saved += found;
	*n_cached = found;
	return RV_OK;
}

static rv_status offer(rv_prefix_cache *cache, int32_t seq, const int32_t *tokens, int64_t n,
                       int last_too) {
	const rv_kv_page *pages;
	int64_t length = rv_seq_length(cache->ctx, seq), page_size = cache->tree.page_size;
	if (n < 0 || n > length)
		return rv_fail(RV_ERR_INVALID,
		               "prefix cache: %lld tokens of sequence %d, which has %lld", (long long)n,
		               seq, (long long)length);
	if (!last_too)
		n -= n % page_size;
	uint64_t version = rv_seq_adapter_version(cache->ctx, seq);
	if (n == 0 || version == RV_ADAPTER_MIXED)
		return RV_OK;
	rv_kv_seq_pages(cache->kv, seq, &pages);
	int64_t n_pages = (n + page_size - 1) / page_size, plain = n_plain(cache, pages, n_pages);
	return rv_prefix_tree_insert(&cache->tree, version, tokens,
	                             plain < n_pages ? plain * page_size : n, pages);
}

rv_status rv_prefix_cache_insert(rv_prefix_cache *cache, int32_t seq, const int32_t *tokens,
                                 int64_t n) {
	return offer(cache, seq, tokens, n, 0);
}

rv_status rv_prefix_cache_keep(rv_prefix_cache *cache, int32_t seq, const int32_t *tokens, int64_t n) {
	return offer(cache, seq, tokens, n, 1);
}

static rv_status eval_rest(rv_context *ctx, int32_t seq, const int32_t *tokens, int64_t n,
                           int32_t adapter, rv_prompt_result *out) {
	int64_t length = rv_seq_length(ctx, seq);
	rv_row *rows;
	if (n > rv_context_get_options(ctx)->n_ctx - length)
		return rv_fail(
		        RV_ERR_LIMIT, "prompt of %lld tokens does not fit: context %lld, %lld in use",
		        (long long)n, (long long)rv_context_get_options(ctx)->n_ctx, (long long)length);
	RV_TRY(RV_ALLOC(&rows, n, "prompt"));
	for (int64_t i = 0; i < n; i++)
		rows[i] = (rv_row){.token = tokens[i],
		                   .seq = seq,
		                   .position = (int32_t)(length + i),
		                   .parent = -1,
		                   .adapter = adapter,
		                   .flags = i == n - 1 ? RV_ROW_LOGITS : 0};
	rv_status st = rv_context_eval(ctx, rows, n);
	rv_free(rows);
	out->row = n - 1;
	out->logits = st == RV_OK ? rv_context_logits(ctx, n - 1) : NULL;
	return st;
}

rv_status rv_prompt_eval(rv_context *ctx, rv_prefix_cache *cache, int32_t seq, const int32_t *tokens,
                         int64_t n, int32_t adapter, rv_prompt_result *out) {
	rv_prompt_result result = {0};
	int64_t length = rv_seq_length(ctx, seq);
	if (length < 0)
		return rv_fail(RV_ERR_INVALID, "sequence %d does not exist", seq);
	if (n < 1)
		return rv_fail(RV_ERR_INVALID, "empty prompt: at least one token is needed");
	if (length > 0)
		cache = NULL; /* what the sequence holds is not known by its tokens */
	if (cache)
		RV_TRY(rv_prefix_cache_attach(cache, seq, adapter, tokens, n, &result.n_cached));
	rv_status st =
	        eval_rest(ctx, seq, tokens + result.n_cached, n - result.n_cached, adapter, &result);
	if (st != RV_OK) {
		(void)rv_seq_truncate(ctx, seq, length);
		return st;
	}
	if (cache)
		(void)rv_prefix_cache_insert(cache, seq, tokens, n);
	*out = result;
	return RV_OK;
}

/* ---- what is kept ---- */

rv_status rv_prefix_cache_pin(rv_prefix_cache *cache, int32_t adapter, const int32_t *tokens, int64_t n,
                              rv_prefix_pin **out, int64_t *n_pinned) {
	int64_t n_pages = 0;
	*out = NULL;
	if (adapter < 0 || adapter >= RV_ADAPTER_SETS || n < 0)
		n = 0;
	RV_TRY(rv_prefix_tree_pin(&cache->tree, identity(cache, adapter), tokens, n, out, &n_pages));
	*n_pinned = n_pages * cache->tree.page_size;
	return RV_OK;
}

void rv_prefix_cache_unpin(rv_prefix_cache *cache, rv_prefix_pin *pin) {
	(void)cache;
	rv_prefix_tree_unpin(pin);
}

int64_t rv_prefix_cache_evict(rv_prefix_cache *cache, int64_t n) {
	return rv_prefix_tree_evict(&cache->tree, n);
}

int64_t rv_prefix_cache_reclaimable(const rv_prefix_cache *cache) {
	return rv_prefix_tree_reclaimable(&cache->tree);
}

void rv_prefix_cache_clear(rv_prefix_cache *cache) {
	rv_prefix_tree_clear(&cache->tree);
}

void rv_prefix_cache_get_stats(const rv_prefix_cache *cache, rv_prefix_cache_stats *out) {
	const rv_prefix_tree *t = &cache->tree;
	*out = cache->stats;
	out->n_identities = t->n_roots;
	out->n_nodes = t->n_nodes;
	out->n_pages = t->n_pages;
	out->pages_inserted = t->pages_inserted;
	out->pages_evicted = t->pages_evicted;
}

rv_status rv_prefix_cache_verify(const rv_prefix_cache *cache) {
	return rv_prefix_tree_verify(&cache->tree);
}
