/* The ways of learning that T15 compares, by name. */
#ifndef RV_LAB_SONA_ARMS_H
#define RV_LAB_SONA_ARMS_H

#include "lab/sona_serve.h"

/* What a point of T15 asks for beside its arm. */
typedef struct rv_sona_knobs {
	const char *layers; /* lab/sona_place.h */
	rv_site site;
	int64_t rank;          /* 0: adaptive */
	double lr;             /* 0: the arm's own */
	double lambda, replay; /* negative: the arm's own */
	uint64_t seed;
} rv_sona_knobs;

/* X(name, what it is) */
#define RV_SONA_ARMS(X)                                                                                \
	X(nothing, "no loop")                                                                          \
	X(instant, "the instant loop alone")                                                           \
	X(background, "the background loop alone, every 50 requests")                                  \
	X(deep, "the deep loop, at the middle and the end; background indexes only")                   \
	X(both, "instant and background")                                                              \
	X(all, "all three")                                                                            \
	X(task, "both; a wrong answer is not corrected, only right ones are learnt")                   \
	X(feedback, "both; rated by a caller who is wrong one time in ten, no corrections")            \
	X(likelihood, "both; rated by the model's own probability, no corrections")                    \
	X(seeds, "instant, in the form of the design documents")                                       \
	X(anchored, "instant, the local objective anchored at the logits that were given")             \
	X(ema, "both; consolidation by ema")                                                           \
	X(ring256, "both; 256 trajectories are kept")                                                  \
	X(ring4096, "both; 4096 are kept")                                                             \
	X(every100ms, "both; background 100 ms after the last pass: at every request")                 \
	X(hourly, "both; background every hour, a request a minute")                                   \
	X(consolidate, "both without consolidation")                                                   \
	X(tune, "both without back-propagation")                                                       \
	X(ewc, "both without EWC++")                                                                   \
	X(remember, "both without old documents")                                                      \
	X(index, "both without indexing")                                                              \
	X(router, "both without the router")                                                           \
	X(policies, "both without policies")                                                           \
	X(rule_micro, "both without the realtime rule micro")                                          \
	X(rule_record, "both without the realtime rule record")                                        \
	X(rule_update, "both without the realtime rule update")                                        \
	X(rule_triggers, "both without the realtime rule triggers")

typedef enum rv_sona_arm {
#define RV_SONA_ARM_ID(name, text) RV_SONA_ARM_##name,
	RV_SONA_ARMS(RV_SONA_ARM_ID) RV_SONA_N_ARMS
#undef RV_SONA_ARM_ID
} rv_sona_arm;

/* Hook layers of a model for MicroLoRA. RV_ERR_INVALID: an unknown name. */
rv_status rv_sona_micro_of(const rv_sona_knobs *knobs, int64_t n_layers, rv_micro_lora_options *out);
/* How an arm serves. Of the realtime optimiser those rules have arms that can change what is learnt;
 * the others decide on caches, batches and drafts. */
rv_status rv_sona_arm_serving(rv_sona_arm arm, const rv_sona_knobs *knobs, int64_t n_layers,
                              int64_t n_stream, rv_sona_serving *out);

#endif
