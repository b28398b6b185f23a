/* How the keys and values of a sequence are stored as they age: policies are data.
 *
 * The newest tokens, the tail, are rows of the cache's own type (F16); pages that begin further back
 * pass through tiers, each with a format of its own. The tier of a page follows from its position and
 * the number of complete pages of its sequence alone: a page moves when a page is completed, at most
 * one page a tier and sequence at a time, always through every tier in turn. So results do not depend
 * on threads or on what else is in a batch. */
#ifndef RV_ENGINE_KV_POLICY_H
#define RV_ENGINE_KV_POLICY_H

#include "base/status.h"
#include "kernels/kv_codes.h"

#include <stddef.h>
#include <stdint.h>

enum { RV_KV_TIERS = 2, RV_KV_RANGES = 8 };

/* Layers [from, to] have a format of their own. */
typedef struct rv_kv_layer_range {
	int32_t from, to;
	rv_kv_format format;
} rv_kv_layer_range;

typedef struct rv_kv_tier {
	int64_t tokens; /* pages that begin within the last `tokens` are in this tier or a hotter one */
	rv_kv_format format;
	rv_kv_layer_range ranges[RV_KV_RANGES];
	int n_ranges;
} rv_kv_tier;

typedef struct rv_kv_policy {
	char name[64];
	int64_t tail; /* tokens */
	rv_kv_tier tiers[RV_KV_TIERS];
	int n_tiers; /* 0: flat */
} rv_kv_policy;

/* Names of the policies that are known, ends with NULL. */
extern const char *const rv_kv_policy_names[];

/* "NAME[:tail=N][:warm=N][:store=FORMAT]": warm: tokens until the last of three tiers; store: format of
 * the last tier. Or the name of a JSON file:
 *   {"tail": 256, "tiers": [{"tokens": 2048, "format": "q8"},
 *                           {"format": "kivi4", "layers": [{"from": 0, "to": 1, "format": "q8"}]}]}
 * RV_ERR_INVALID names what is wrong and lists what is known. */
rv_status rv_kv_policy_parse(rv_kv_policy *out, const char *text);
rv_status rv_kv_policy_parse_name(rv_kv_policy *out, const char *text); /* files excepted */
/* The same from the text of such a file; `name` for messages. */
rv_status rv_kv_policy_parse_json(rv_kv_policy *out, const char *name, const char *text, size_t size);

/* Tier of page `page` of a sequence with n complete pages of page_tokens: 0 the tail, i tiers[i - 1].
 */
int rv_kv_policy_tier(const rv_kv_policy *policy, int64_t page, int64_t n, int64_t page_tokens);
rv_kv_format rv_kv_tier_format(const rv_kv_tier *tier, int64_t layer);
/* Does any layer of any tier need codebooks or feedback (engine/kv_calibration.h)? */
int rv_kv_policy_needs_calibration(const rv_kv_policy *policy);

#endif
