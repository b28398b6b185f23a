#include "learn/realtime.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *name, *text;
} rules[] = {
#define RV_NAME(name, text, what) {text, what},
        RV_RULE_TABLE(RV_NAME)
#undef RV_NAME
};

const char *rv_rule_name(rv_rule rule) {
	return rules[rule].name;
}

const char *rv_rule_text(rv_rule rule) {
	return rules[rule].text;
}

static int rule_by_name(const char *name, size_t len) {
	int i = 0;
	while (i < RV_RULE_COUNT &&
	       (strlen(rules[i].name) != len || memcmp(rules[i].name, name, len) != 0))
		i++;
	return i;
}

static rv_status unknown_rule(const char *name, size_t len) {
	char names[256];
	size_t n = 0;
	for (int i = 0; i < RV_RULE_COUNT; i++)
		n += (size_t)snprintf(names + n, sizeof names - n, ", %s", rules[i].name);
	return rv_fail(RV_ERR_INVALID, "rule '%.*s': expected all, none%s", (int)len, name, names);
}

rv_status rv_rules_parse(const char *text, unsigned *out) {
	unsigned on = text[0] == '-' ? RV_RULES_ALL : 0;
	for (const char *at = text;;) {
		size_t len = strcspn(at, ",");
		int minus = at[0] == '-';
		const char *name = at + minus;
		int rule = rule_by_name(name, len - (size_t)minus);
		if (!minus && len == 3 && memcmp(at, "all", 3) == 0)
			on = RV_RULES_ALL;
		else if (!minus && len == 4 && memcmp(at, "none", 4) == 0)
			on = 0;
		else if (rule == RV_RULE_COUNT)
			return unknown_rule(name, len - (size_t)minus);
		else
			on = minus ? on & ~RV_RULE_BIT(rule) : on | RV_RULE_BIT(rule);
		if (at[len] == 0)
			break;
		at += len + 1;
	}
	*out = on;
	return RV_OK;
}

rv_realtime_options rv_realtime_defaults(void) {
	return (rv_realtime_options){.rules = RV_RULES_ALL,
	                             .pressure = 0.9,
	                             .pattern_quality = 0.6,
	                             .update_quality = 0.7,
	                             .falling = 0.9,
	                             .smoothing = 0.2,
	                             .min_batch = 1,
	                             .max_batch = 512,
	                             .min_draft = 2,
	                             .max_draft = 8,
	                             .min_tail = 64,
	                             .max_tail = 1024};
}

/* A share in [0, 1]; NaN is none. */
static int is_share(double x) {
	return x >= 0 && x <= 1;
}

rv_status rv_realtime_init(rv_realtime *r, const rv_realtime_options *options) {
	const rv_realtime_options o = options ? *options : rv_realtime_defaults();
	const struct {
		const char *name;
		double value;
		int ok;
	} checks[] = {
	        {"rules", o.rules, (o.rules & ~RV_RULES_ALL) == 0},
	        {"pressure", o.pressure, is_share(o.pressure)},
	        {"pattern_quality", o.pattern_quality, is_share(o.pattern_quality)},
	        {"update_quality", o.update_quality, is_share(o.update_quality)},
	        {"falling", o.falling, is_share(o.falling)},
	        {"smoothing", o.smoothing, o.smoothing > 0 && o.smoothing <= 1},
	        {"max_batch", (double)o.max_batch, o.min_batch >= 1 && o.max_batch >= o.min_batch},
	        {"max_draft", o.max_draft, o.min_draft >= 1 && o.max_draft >= o.min_draft},
	        {"max_tail", (double)o.max_tail, o.min_tail >= 1 && o.max_tail >= o.min_tail},
	};
	for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
		if (!checks[i].ok)
			return rv_fail(RV_ERR_INVALID, "realtime optimiser: %s %g is out of bounds",
			               checks[i].name, checks[i].value);
	*r = (rv_realtime){.options = o, .acceptance = NAN};
	return RV_OK;
}

static int64_t clamp(int64_t x, int64_t low, int64_t high) {
	return x < low ? low : x > high ? high : x;
}

/* ---- before a request: a function a rule, which says whether it changed the plan ---- */

typedef struct seen_policy {
	const char *kv_policy; /* NULL: not said */
	int64_t tail_tokens;   /* 0: not said */
} seen_policy;

static int by_kv_policy(const seen_policy *policy, rv_realtime_plan *plan) {
	if (!policy->kv_policy || strcmp(policy->kv_policy, plan->kv_policy) == 0)
		return 0;
	snprintf(plan->kv_policy, sizeof plan->kv_policy, "%s", policy->kv_policy);
	return 1;
}

/* The router has seen this request, the policy only those before. */
static int by_tail(const rv_realtime_options *o, const rv_realtime_before *seen,
                   const seen_policy *policy, rv_realtime_plan *plan) {
	int64_t tail = seen->router_tail > 0 ? seen->router_tail : policy->tail_tokens;
	if (tail <= 0)
		return 0;
	tail = clamp(tail, o->min_tail, o->max_tail);
	int changed = tail != plan->tail_tokens;
	plan->tail_tokens = tail;
	return changed;
}

static int by_pressure(const rv_realtime_options *o, const rv_realtime_before *seen,
                       rv_realtime_plan *plan) {
	if (!(seen->memory_pressure > o->pressure) || plan->kv_type >= RV_KV_Q4)
		return 0;
	plan->kv_type = RV_KV_Q4;
	plan->kv_policy[0] = 0;
	return 1;
}

/* Without patterns there is nothing to judge by, and the configuration stands. */
static int by_patterns(const rv_realtime_options *o, const rv_realtime_before *seen,
                       rv_realtime_plan *plan) {
	if (isnan(seen->mean_pattern_quality))
		return 0;
	int on = seen->mean_pattern_quality > o->pattern_quality;
	int changed = on != plan->micro_lora;
	plan->micro_lora = on;
	return changed;
}

static int by_throughput(rv_realtime *r, rv_realtime_plan *plan) {
	const rv_realtime_options *o = &r->options;
	int64_t now = r->n_batch > 0 ? r->n_batch : plan->n_batch;
	if (r->last_tok_s > 0 && r->last_tok_s < o->falling * r->mean_tok_s)
		now = 2 * now;
	else if (r->last_tok_s > r->mean_tok_s && now > plan->n_batch)
		now = now / 2 > plan->n_batch ? now / 2 : plan->n_batch;
	now = clamp(now, o->min_batch, o->max_batch);
	int changed = now != plan->n_batch;
	r->n_batch = now;
	r->last_tok_s = 0; /* each measurement moves it once */
	plan->n_batch = now;
	return changed;
}

/* Drafting until the chance that all before were accepted falls below a half. */
static int by_acceptance(const rv_realtime *r, rv_realtime_plan *plan) {
	const rv_realtime_options *o = &r->options;
	if (isnan(r->acceptance) || plan->n_draft <= 0)
		return 0;
	int k = 0;
	for (double all = r->acceptance; all >= 0.5 && k < o->max_draft; all *= r->acceptance)
		k++;
	k = (int)clamp(k + 1, o->min_draft, o->max_draft);
	int changed = k != plan->n_draft;
	plan->n_draft = k;
	return changed;
}

static rv_status read_policy(const char *text, json_t **doc, seen_policy *out) {
	*doc = NULL;
	*out = (seen_policy){0};
	if (!text)
		return RV_OK;
	const char *where = "quantization policy";
	RV_TRY(rv_json_parse(text, strlen(text), where, doc));
	rv_status st = rv_json_string(*doc, where, "kv_policy", &out->kv_policy);
	if (st == RV_OK || st == RV_ERR_NOT_FOUND)
		st = rv_json_int(*doc, where, "tail_tokens", 1, INT64_C(1) << 30, &out->tail_tokens);
	return st == RV_ERR_NOT_FOUND ? RV_OK : st;
}

static int count_fired(rv_realtime *r, rv_rule rule, int did) {
	r->n_fired[rule] += did != 0;
	return did ? (int)RV_RULE_BIT(rule) : 0;
}

rv_status rv_realtime_before_request(rv_realtime *r, const rv_realtime_before *seen,
                                     rv_realtime_plan *plan) {
	const rv_realtime_options *o = &r->options;
	seen_policy policy;
	json_t *doc;
	*plan = seen->base;
	plan->fired = 0;
	r->n_plans++;
	rv_status st = read_policy(seen->policy, &doc, &policy);
	for (int rule = 0; st == RV_OK && rule < RV_RULE_COUNT; rule++) {
		int did = 0;
		if (!(o->rules & RV_RULE_BIT(rule)))
			continue;
		switch ((rv_rule)rule) {
		case RV_RULE_KV_POLICY:
			did = by_kv_policy(&policy, plan);
			break;
		case RV_RULE_TAIL:
			did = by_tail(o, seen, &policy, plan);
			break;
		case RV_RULE_PRESSURE:
			did = by_pressure(o, seen, plan);
			break;
		case RV_RULE_MICRO:
			did = by_patterns(o, seen, plan);
			break;
		case RV_RULE_BATCH:
			did = by_throughput(r, plan);
			break;
		case RV_RULE_LOOKAHEAD:
			did = by_acceptance(r, plan);
			break;
		default:
			break;
		}
		plan->fired |= (unsigned)count_fired(r, (rv_rule)rule, did);
	}
	json_decref(doc);
	return st;
}

/* ---- after it ---- */

static double smooth(double mean, double x, double share, int first) {
	return first ? x : mean + share * (x - mean);
}

rv_realtime_steps rv_realtime_after_request(rv_realtime *r, const rv_realtime_after *seen) {
	const rv_realtime_options *o = &r->options;
	rv_realtime_steps steps = {0};
	if (seen->tok_s > 0 && isfinite(seen->tok_s)) {
		r->last_tok_s = seen->tok_s;
		r->mean_tok_s = smooth(r->mean_tok_s, seen->tok_s, o->smoothing, !(r->mean_tok_s > 0));
	}
	if (seen->n_drafted > 0) {
		double share = (double)seen->n_accepted / (double)seen->n_drafted;
		r->acceptance = smooth(r->acceptance, share, o->smoothing, isnan(r->acceptance));
	}
	int on = (o->rules & RV_RULE_BIT(RV_RULE_UPDATE)) != 0;
	steps.record = (o->rules & RV_RULE_BIT(RV_RULE_RECORD)) != 0;
	steps.triggers = (o->rules & RV_RULE_BIT(RV_RULE_TRIGGERS)) != 0;
	steps.update = !isnan(seen->quality) && (!on || seen->quality >= o->update_quality);
	steps.fired |= (unsigned)count_fired(r, RV_RULE_RECORD, steps.record);
	steps.fired |= (unsigned)count_fired(r, RV_RULE_UPDATE, on && steps.update);
	steps.fired |= (unsigned)count_fired(r, RV_RULE_TRIGGERS, steps.triggers);
	return steps;
}
