/* What a router has learnt. Internal to lib/learn. */
#ifndef RV_LEARN_AGENT_ROUTER_INTERNAL_H
#define RV_LEARN_AGENT_ROUTER_INTERNAL_H

#include "learn/agent_linear.h"
#include "learn/agent_router.h"

#define RV_AGENT_ROUTER_MAGIC "RVAGENTS"
#define RV_AGENT_ROUTER_VERSION 1u

/* Evidence for each agent, in the order of a log-linear model's weights. */
enum { RV_SIGNAL_WORDS, RV_SIGNAL_PHRASES, RV_SIGNAL_VOTES, RV_SIGNALS };
/* What the quality is predicted from: a constant, the logit of the confidence, the margin to the
 * second, how many routers agree, the probability of an ambiguous request, that of hard work. */
enum { RV_QUALITY_TERMS = 6 };

typedef struct rv_agent_calibration {
	float weights[RV_ROUTERS][RV_SIGNALS]; /* of the signals, a router each; 0: does not use it */
	float quality[RV_ROUTERS][RV_QUALITY_TERMS];
	float ambiguous_from; /* probability from which the class is `ambiguous` */
} rv_agent_calibration;

struct rv_agent_router {
	rv_agent_lexicon *lexicon;
	char *lexicon_text;
	size_t lexicon_size;
	rv_agent_linear linear;
	rv_agent_calibration calibration;
	rv_agent_examples *examples; /* NULL: made without an embedder */
	rv_embedder *embedder;
	/* of the request at hand */
	rv_agent_text text;
	rv_agent_features features;
};

typedef struct rv_agent_evidence {
	float signals[RV_SIGNALS][RV_AGENTS];
	float complexity[RV_AGENT_LEVELS]; /* probabilities */
	float ambiguous;                   /* probability */
} rv_agent_evidence;

/* Signals a router uses. */
extern const int rv_agent_uses[RV_ROUTERS][RV_SIGNALS];

/* Evidence of phrases and words; signals[RV_SIGNAL_VOTES] is not written. */
void rv_agent_read_evidence(rv_agent_router *router, const char *text, size_t len,
                            rv_agent_evidence *out);
/* Votes as log-probabilities. */
void rv_agent_vote_signal(const float votes[RV_AGENTS], float signal[RV_AGENTS]);
/* Probabilities by a router's weights. */
void rv_agent_combine(const rv_agent_calibration *c, rv_agent_router_kind kind,
                      const rv_agent_evidence *e, float probabilities[RV_AGENTS]);
void rv_agent_quality_terms(const rv_agent_evidence *e, const float probabilities[RV_AGENTS],
                            rv_agent_router_kind kind, float terms[RV_QUALITY_TERMS]);

rv_status rv_agent_router_save(const rv_agent_router *router, const char *path);
rv_status rv_agent_router_load(rv_agent_router *router, rv_sealed_in *in);

#endif
