/* Fuzz target: any bytes as a KV policy, as a name with options and as a JSON file. What is accepted
 * gives every page and layer a tier and a format that exist. */
#include "engine/kv_policy.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(rv_status status, const rv_kv_policy *p) {
	if (status != RV_OK) {
		if (*rv_error_message() == '\0')
			abort();
		return;
	}
	if (p->n_tiers < 0 || p->n_tiers > RV_KV_TIERS)
		abort();
	for (int64_t n = 1; n < 100; n += 7)
		for (int64_t page = 0; page < n; page++) {
			int tier = rv_kv_policy_tier(p, page, n, 64);
			if (tier < 0 || tier > p->n_tiers)
				abort();
		}
	for (int t = 0; t < p->n_tiers; t++)
		for (int64_t layer = 0; layer < 100; layer++)
			if (rv_kv_tier_format(&p->tiers[t], layer) >= RV_KV_FORMATS)
				abort();
	(void)rv_kv_policy_needs_calibration(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	rv_kv_policy policy;
	char *text = malloc(size + 1);
	if (text == NULL)
		return 0;
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	check(rv_kv_policy_parse_json(&policy, "fuzz.json", text, size), &policy);
	check(rv_kv_policy_parse_name(&policy, text), &policy);
	free(text);
	return 0;
}
