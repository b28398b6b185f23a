#include "engine/kv_policy.h"

#include "base/options.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define FOREVER INT64_MAX
enum { TAIL = 256, WARM = 2048 };

static const rv_kv_policy policies[] = {
        {.name = "flat", .tail = TAIL},
        {.name = "two-tier", .tail = TAIL, .tiers = {{FOREVER, RV_KV_Q8, {{0}}, 0}}, .n_tiers = 1},
        {.name = "three-tier",
         .tail = TAIL,
         .tiers = {{WARM, RV_KV_Q8, {{0}}, 0}, {FOREVER, RV_KV_KIVI4, {{0}}, 0}},
         .n_tiers = 2},
        {.name = "three-tier-kivi",
         .tail = TAIL,
         .tiers = {{WARM, RV_KV_KIVI4, {{0}}, 0}, {FOREVER, RV_KV_KIVI2, {{0}}, 0}},
         .n_tiers = 2},
        {.name = "2-bit", .tail = TAIL, .tiers = {{FOREVER, RV_KV_KIVI2, {{0}}, 0}}, .n_tiers = 1},
        {.name = "kvquant", .tail = TAIL, .tiers = {{FOREVER, RV_KV_KVQUANT2, {{0}}, 0}}, .n_tiers = 1},
        {.name = "squat", .tail = TAIL, .tiers = {{FOREVER, RV_KV_SQUAT2, {{0}}, 0}}, .n_tiers = 1},
};
enum { N_POLICIES = sizeof policies / sizeof policies[0] };
const char *const rv_kv_policy_names[] = {"flat",  "two-tier", "three-tier", "three-tier-kivi",
                                          "2-bit", "kvquant",  "squat",      NULL};

static rv_status unknown_policy(const char *text) {
	char known[256] = "";
	for (int i = 0; rv_kv_policy_names[i]; i++)
		snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "",
		         rv_kv_policy_names[i]);
	return rv_fail(RV_ERR_INVALID, "KV policy '%s': unknown (%s, or a file *.json)", text, known);
}

static rv_status set_option(rv_kv_policy *p, const char *text, const char *key, const char *value) {
	if (strcmp(key, "tail") == 0 && p->n_tiers > 0)
		return rv_parse_int(value, 0, INT32_MAX, &p->tail);
	if (strcmp(key, "warm") == 0 && p->n_tiers == 2)
		return rv_parse_int(value, 0, INT32_MAX, &p->tiers[0].tokens);
	if (strcmp(key, "store") == 0 && p->n_tiers > 0) {
		rv_kv_format format = rv_kv_format_by_name(value);
		if (format == RV_KV_FORMATS)
			return rv_fail(RV_ERR_INVALID, "KV policy '%s': unknown format '%s'", text,
			               value);
		p->tiers[p->n_tiers - 1].format = format;
		return RV_OK;
	}
	return rv_fail(RV_ERR_INVALID, "KV policy '%s': %s has no option '%s'", text, p->name, key);
}

static rv_status parse_options(rv_kv_policy *p, const char *text, const char *at) {
	while (*at == ':') {
		char item[64], *value;
		size_t n = strcspn(++at, ":");
		if (n >= sizeof item)
			return rv_fail(RV_ERR_INVALID, "KV policy '%s': option too long", text);
		memcpy(item, at, n);
		item[n] = '\0';
		value = strchr(item, '=');
		if (!value)
			return rv_fail(RV_ERR_INVALID, "KV policy '%s': '%s' is not option=value", text,
			               item);
		*value++ = '\0';
		if (set_option(p, text, item, value) != RV_OK)
			return rv_fail_in(RV_ERR_INVALID, "KV policy");
		at += n;
	}
	return RV_OK;
}

rv_status rv_kv_policy_parse_name(rv_kv_policy *out, const char *text) {
	size_t n = strcspn(text, ":");
	for (int i = 0; i < N_POLICIES; i++)
		if (strlen(policies[i].name) == n && strncasecmp(policies[i].name, text, n) == 0) {
			*out = policies[i];
			return parse_options(out, text, text + n);
		}
	return unknown_policy(text);
}

int rv_kv_policy_tier(const rv_kv_policy *p, int64_t page, int64_t n, int64_t page_tokens) {
	int64_t back = n - page; /* pages from this one's beginning on */
	if (back <= (p->tail + page_tokens - 1) / page_tokens)
		return 0;
	for (int t = 1; t < p->n_tiers; t++)
		if (back <= (p->tiers[t - 1].tokens + page_tokens - 1) / page_tokens)
			return t;
	return p->n_tiers;
}

rv_kv_format rv_kv_tier_format(const rv_kv_tier *tier, int64_t layer) {
	for (int i = 0; i < tier->n_ranges; i++)
		if (layer >= tier->ranges[i].from && layer <= tier->ranges[i].to)
			return tier->ranges[i].format;
	return tier->format;
}

static int needs(rv_kv_format format) {
	return rv_kv_format_needs_books(format) || rv_kv_format_needs_feedback(format);
}

int rv_kv_policy_needs_calibration(const rv_kv_policy *p) {
	int any = 0;
	for (int t = 0; t < p->n_tiers; t++) {
		any |= needs(p->tiers[t].format);
		for (int i = 0; i < p->tiers[t].n_ranges; i++)
			any |= needs(p->tiers[t].ranges[i].format);
	}
	return any;
}
