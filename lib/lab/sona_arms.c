#include "lab/sona_arms.h"

#include "lab/sona_place.h"

/* Requests from one background pass to the next, and what a pass trains. */
enum { PER_PASS = 50, STEPS = 6, BATCH = 4 };
#define HOUR_MS INT64_C(3600000)
#define MINUTE_MS INT64_C(60000)

/* The documented rate, and the background loop's default: neither was tuned for this stream. */
#define INSTANT_LR 0.01
#define TUNING_RATE 1e-3

rv_status rv_sona_micro_of(const rv_sona_knobs *knobs, int64_t n_layers, rv_micro_lora_options *out) {
	rv_micro_lora_options m = rv_micro_lora_defaults();
	m.n_layers = rv_sona_place(knobs->layers, n_layers, m.layers);
	if (m.n_layers == 0)
		return rv_fail(RV_ERR_INVALID, "layers %s: none of %lld", knobs->layers,
		               (long long)n_layers);
	m.site = knobs->site;
	m.adaptive = knobs->rank == 0;
	m.rank = knobs->rank == 0 ? RV_MICRO_MAX_RANK : knobs->rank;
	m.lr = knobs->lr > 0 ? knobs->lr : INSTANT_LR;
	m.seed = knobs->seed;
	*out = m;
	return RV_OK;
}

static void usual(const rv_sona_knobs *knobs, int64_t n_stream, rv_sona_serving *s) {
	rv_sona_options *o = &s->options;
	rv_sona_tuning tuning = {.steps = STEPS,
	                         .batch = BATCH,
	                         .n_ctx = RV_SHIFT_CTX,
	                         .rate = TUNING_RATE,
	                         .lambda = knobs->lambda < 0 ? 1 : knobs->lambda,
	                         .replay = knobs->replay < 0 ? 0.5 : knobs->replay,
	                         .max_params = 100000000};
	o->tuning = tuning;
	tuning.steps = n_stream / 8;
	o->deep.tuning = tuning;
	o->loops[RV_SONA_BACKGROUND] =
	        (rv_sona_trigger){.on = 1, .every_n = PER_PASS, .parts = RV_SONA_ALL_PARTS};
	o->loops[RV_SONA_DEEP] = (rv_sona_trigger){.every_n = n_stream / 2, .parts = RV_SONA_ALL_PARTS};
	s->interval_ms = MINUTE_MS;
	s->rating = RV_SONA_RATED_CORRECTION;
	s->seed = knobs->seed;
}

static void without(rv_sona_serving *s, int part) {
	s->options.loops[RV_SONA_BACKGROUND].parts &= ~RV_SONA_PART((unsigned)part);
}

static void every(rv_sona_serving *s, int64_t ms) {
	s->options.loops[RV_SONA_BACKGROUND].every_n = 0;
	s->options.loops[RV_SONA_BACKGROUND].every_ms = ms;
}

static void background_off(rv_sona_serving *s) {
	s->options.loops[RV_SONA_BACKGROUND].on = 0;
}

static void deep_on(rv_sona_serving *s) {
	s->options.loops[RV_SONA_DEEP].on = 1;
	s->store = 1;
}

static void change(rv_sona_arm arm, rv_sona_serving *s) {
	rv_sona_options *o = &s->options;
	switch (arm) {
	case RV_SONA_ARM_nothing:
		o->instant = 0;
		background_off(s);
		break;
	case RV_SONA_ARM_seeds:
		o->micro.form = RV_MICRO_SEEDS;
		background_off(s);
		break;
	case RV_SONA_ARM_anchored:
		o->instant_how.reading = RV_LOCAL_ANCHORED;
		background_off(s);
		break;
	case RV_SONA_ARM_instant:
		background_off(s);
		break;
	case RV_SONA_ARM_background:
		o->instant = 0;
		break;
	case RV_SONA_ARM_deep: /* what it works on is what was indexed */
		o->instant = 0;
		o->loops[RV_SONA_BACKGROUND].parts = RV_SONA_PART(RV_BACKGROUND_INDEX);
		deep_on(s);
		break;
	case RV_SONA_ARM_all:
		deep_on(s);
		break;
	case RV_SONA_ARM_task:
		s->rating = RV_SONA_RATED_TASK;
		break;
	case RV_SONA_ARM_feedback:
		s->rating = RV_SONA_RATED_FEEDBACK;
		break;
	case RV_SONA_ARM_likelihood:
		s->rating = RV_SONA_RATED_LIKELIHOOD;
		break;
	case RV_SONA_ARM_ema:
		o->consolidation = RV_CONSOLIDATE_EMA;
		break;
	case RV_SONA_ARM_ring256:
		o->ring.capacity = 256;
		break;
	case RV_SONA_ARM_ring4096:
		o->ring.capacity = 4096;
		break;
	case RV_SONA_ARM_every100ms:
		every(s, 100);
		break;
	case RV_SONA_ARM_hourly:
		every(s, HOUR_MS);
		break;
	case RV_SONA_ARM_remember:
		s->remember = 0;
		break;
	case RV_SONA_ARM_consolidate:
		without(s, RV_BACKGROUND_CONSOLIDATE);
		break;
	case RV_SONA_ARM_tune:
		without(s, RV_BACKGROUND_TUNE);
		break;
	case RV_SONA_ARM_ewc:
		o->tuning.lambda = 0;
		break;
	case RV_SONA_ARM_index:
		without(s, RV_BACKGROUND_INDEX);
		s->store = 1;
		break;
	case RV_SONA_ARM_router:
		without(s, RV_BACKGROUND_ROUTER);
		break;
	case RV_SONA_ARM_policies:
		without(s, RV_BACKGROUND_POLICIES);
		break;
	case RV_SONA_ARM_rule_micro:
		o->rules.rules &= ~RV_RULE_BIT(RV_RULE_MICRO);
		s->store = 1;
		break;
	case RV_SONA_ARM_rule_record:
		o->rules.rules &= ~RV_RULE_BIT(RV_RULE_RECORD);
		break;
	case RV_SONA_ARM_rule_update:
		o->rules.rules &= ~RV_RULE_BIT(RV_RULE_UPDATE);
		break;
	case RV_SONA_ARM_rule_triggers:
		o->rules.rules &= ~RV_RULE_BIT(RV_RULE_TRIGGERS);
		break;
	default:
		break;
	}
}

rv_status rv_sona_arm_serving(rv_sona_arm arm, const rv_sona_knobs *knobs, int64_t n_layers,
                              int64_t n_stream, rv_sona_serving *out) {
	*out = (rv_sona_serving){.options = rv_sona_defaults(RV_BANK_VARIANT_BASE), .n_looks = 1};
	RV_TRY(rv_sona_micro_of(knobs, n_layers, &out->options.micro));
	usual(knobs, n_stream, out);
	out->options.plaintext = 1;
	out->remember = 1;
	change(arm, out);
	out->remember &=
	        out->options.loops[RV_SONA_BACKGROUND].on || out->options.loops[RV_SONA_DEEP].on;
	return RV_OK;
}
