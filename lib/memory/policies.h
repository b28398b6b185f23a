/* Policies: learned settings, found by type and by meaning; read through a cache, written through the
 * store.
 *
 * A request must not wait for the disk: reads come from a cache that is fetched again when it is older
 * than the TTL. Where there is nothing (a cold start), or the store cannot be read, the answer is a
 * default policy, and says so (`origin`). Thread-safe between open and close. */
#ifndef RV_MEMORY_POLICIES_H
#define RV_MEMORY_POLICIES_H

#include "base/json.h"
#include "memory/store.h"
#include "memory/trajectory.h"

/* X(enumerator, name, parameters of the default) */
#define RV_POLICY_TABLE(X)                                                                             \
	X(QUANTIZATION, "quantization",                                                                \
	  "{\"precision\":\"q4_k\",\"kv_policy\":\"three-tier\",\"tail_tokens\":256,"                  \
	  "\"pressure_threshold\":0.9}")                                                               \
	X(ROUTER, "router",                                                                            \
	  "{\"model\":\"nano\",\"context_size\":4096,\"temperature\":0.7,\"top_p\":0.9,"               \
	  "\"confidence\":0}")                                                                         \
	X(EWC, "ewc", "{\"lambda\":100,\"decay\":0.9}")                                                \
	X(PATTERN, "pattern", "{\"quality_threshold\":0.6,\"capacity\":50000,\"half_life_days\":30}")

typedef enum rv_policy_type {
#define RV_NAME(name, text, parameters) RV_POLICY_##name,
	RV_POLICY_TABLE(RV_NAME) RV_POLICY_COUNT
#undef RV_NAME
} rv_policy_type;

const char *rv_policy_type_name(rv_policy_type type);
/* RV_POLICY_COUNT when unknown (or NULL). */
rv_policy_type rv_policy_type_by_name(const char *name);

typedef enum rv_policy_origin {
	RV_POLICY_STORED,      /* read from the store */
	RV_POLICY_CACHED,      /* from the cache, younger than the TTL */
	RV_POLICY_STALE,       /* from the cache: the store could not be read */
	RV_POLICY_COLD_START,  /* a default: the store has none */
	RV_POLICY_UNAVAILABLE, /* a default: the store could not be read */
	RV_POLICY_ORIGIN_COUNT
} rv_policy_origin;
const char *rv_policy_origin_name(rv_policy_origin origin); /* "cold_start" */

/* Pointers are borrowed by put; what get and search return is owned by `memory`. */
typedef struct rv_policy {
	char id[RV_UUID_TEXT]; /* "": made when it is put (the nil UUID in a default) */
	rv_policy_type policy_type;
	const float *embedding;       /* [RV_EMBEDDING_DIM]; NULL in a default */
	const char *parameters;       /* a JSON object */
	float confidence;             /* in [0, 1]; 0 in a default */
	const float *fisher_diagonal; /* [n_fisher], none negative; NULL: none */
	size_t n_fisher;
	int64_t created_at, last_accessed; /* UTC ms; 0 when put: now */
	rv_source source;
	rv_policy_origin origin; /* of a read */
	float similarity;        /* of a search: cosine */
	rv_arena *memory;
} rv_policy;

void rv_policy_deinit(rv_policy *policy); /* accepts a zeroed one */

typedef struct rv_policies rv_policies;

typedef struct rv_policies_options {
	int64_t ttl_ms; /* 60 000; 0: every read goes to the store */
} rv_policies_options;
rv_policies_options rv_policies_defaults(void);

/* `store` may be NULL: then every answer is a default, `unavailable`. */
rv_status rv_policies_open(rv_policies **out, rv_store *store, const rv_policies_options *options);
rv_status rv_policies_close(rv_policies *policies); /* writes last_accessed; accepts NULL */

/* Stores one, after its commit; the next read sees it. id (may be NULL): [RV_UUID_TEXT]. One of that id
 * is replaced. Malformed JSON, an embedding of length 0 or not finite, a confidence outside [0, 1]:
 * RV_ERR_FORMAT, RV_ERR_NUMERIC, RV_ERR_INVALID. */
rv_status rv_policies_put(rv_policies *policies, const rv_policy *policy, char *id);
/* RV_ERR_NOT_FOUND. */
rv_status rv_policies_remove(rv_policies *policies, const char *id);

/* The policy of a type with most confidence (then the youngest). Never fails for want of a policy or a
 * store: see origin. */
rv_status rv_policies_get(rv_policies *policies, rv_policy_type type, rv_policy *out);
/* The k of a type whose embeddings are nearest to `query`, nearest first, at least min_confidence; *n
 * of them, or one default when there are none. out: [max(k, 1)], each deinited by the caller. Exact:
 * types hold some thousands. */
rv_status rv_policies_search(rv_policies *policies, rv_policy_type type, const float *query, int64_t k,
                             float min_confidence, rv_policy *out, int64_t *n);

/* Deletes those of a type beyond `keep`, least recently accessed first; *n is their number. */
rv_status rv_policies_evict(rv_policies *policies, rv_policy_type type, int64_t keep, int64_t *n);

typedef struct rv_policies_stats {
	int64_t count[RV_POLICY_COUNT]; /* in the cache */
	uint64_t reads, fetches, defaults;
} rv_policies_stats;
rv_policies_stats rv_policies_stats_get(rv_policies *policies);

#endif
