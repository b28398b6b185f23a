/* The realtime optimiser: what is decided for a request before it is served, and what is done with it
 * afterwards, by named rules, each of which can be left out (SPEC 3).
 *
 * A plan begins as the configuration says; each rule that is on changes what it is about, in the order
 * of the table, and leaves a bit behind when it did. The rules are pure functions of what was observed:
 * the same observations give the same plans. One caller at a time. */
#ifndef RV_LEARN_REALTIME_H
#define RV_LEARN_REALTIME_H

#include "base/json.h"
#include "base/status.h"
#include "kernels/kernels.h"

#include <stdint.h>

/* X(enumerator, name, what it does) */
#define RV_RULE_TABLE(X)                                                                               \
	X(KV_POLICY, "kv-policy", "the KV policy that the learned policy names")                       \
	X(TAIL, "tail", "the hot tail's length that the router or the learned policy names")           \
	X(PRESSURE, "pressure", "q4 keys and values while memory pressure is above 0.9")               \
	X(MICRO, "micro", "MicroLoRA on when the patterns found have mean quality above 0.6")          \
	X(BATCH, "batch", "a batch twice as large while throughput falls, half of that once it rises") \
	X(LOOKAHEAD, "lookahead", "2 to 8 draft tokens by how many were accepted")                     \
	X(RECORD, "record", "the request is kept as a trajectory")                                     \
	X(UPDATE, "update", "the instant update when quality reaches 0.7")                             \
	X(TRIGGERS, "triggers", "the loops' triggers are looked at")

typedef enum rv_rule {
#define RV_NAME(name, text, what) RV_RULE_##name,
	RV_RULE_TABLE(RV_NAME) RV_RULE_COUNT
#undef RV_NAME
} rv_rule;

#define RV_RULE_BIT(rule) (1u << (rule))
#define RV_RULES_ALL ((1u << RV_RULE_COUNT) - 1)

const char *rv_rule_name(rv_rule rule);
const char *rv_rule_text(rv_rule rule);
/* "all", "none", or names with commas; "-name" takes one away from those before (at first: all).
 * RV_ERR_INVALID names an unknown one and those there are. */
rv_status rv_rules_parse(const char *text, unsigned *rules);

typedef struct rv_realtime_options {
	unsigned rules;             /* RV_RULE_BITs that are on: all */
	double pressure;            /* 0.9 */
	double pattern_quality;     /* 0.6 */
	double update_quality;      /* 0.7 */
	double falling;             /* throughput below this share of its mean is falling: 0.9 */
	double smoothing;           /* of the means of throughput and acceptance: 0.2 */
	int64_t min_batch;          /* 1 */
	int64_t max_batch;          /* 512 */
	int min_draft, max_draft;   /* 2, 8 */
	int64_t min_tail, max_tail; /* tokens: 64, 1024 */
} rv_realtime_options;
rv_realtime_options rv_realtime_defaults(void);

/* What is decided. */
typedef struct rv_realtime_plan {
	char kv_policy[32]; /* name of a policy (engine/kv_policy.h); "": flat, as kv_type */
	int64_t tail_tokens;
	rv_kv_type kv_type;
	int micro_lora;  /* decode with what was learnt? */
	int64_t n_batch; /* rows of a step */
	int n_draft;     /* tokens of lookahead */
	unsigned fired;  /* RV_RULE_BITs of the rules that changed it, or that allow the steps after */
} rv_realtime_plan;

/* What is known before a request. */
typedef struct rv_realtime_before {
	rv_realtime_plan base;       /* as configured */
	double memory_pressure;      /* used share of the budget, 0..1; NaN: unknown */
	double mean_pattern_quality; /* of those found for it, decayed; NaN: none found */
	const char *policy;  /* parameters of the quantization policy, JSON; NULL: none learned */
	int64_t router_tail; /* tokens that the router asks for; 0: no router */
} rv_realtime_before;

/* What is known after it. */
typedef struct rv_realtime_after {
	double quality;    /* NaN: not rated */
	double tok_s;      /* decode throughput; NaN or 0: unknown */
	int64_t n_drafted; /* 0: no speculation */
	int64_t n_accepted;
} rv_realtime_after;

typedef struct rv_realtime_steps {
	int record, update, triggers; /* what is to be done */
	unsigned fired;
} rv_realtime_steps;

typedef struct rv_realtime {
	rv_realtime_options options;
	double mean_tok_s, last_tok_s; /* 0: none yet */
	double acceptance;             /* mean accepted share; NaN: none yet */
	int64_t n_batch;               /* grown so far; 0: as configured */
	int64_t n_fired[RV_RULE_COUNT];
	int64_t n_plans;
} rv_realtime;

/* RV_ERR_INVALID names an option out of bounds. NULL: defaults. */
rv_status rv_realtime_init(rv_realtime *r, const rv_realtime_options *options);
/* A policy that is no JSON object of the known keys is RV_ERR_FORMAT, *plan is the base then. */
rv_status rv_realtime_before_request(rv_realtime *r, const rv_realtime_before *seen,
                                     rv_realtime_plan *plan);
rv_realtime_steps rv_realtime_after_request(rv_realtime *r, const rv_realtime_after *seen);

#endif
