/* Linear classifiers over hashed features: which agent (13), how much work (3), clear or ambiguous (2),
 * each a softmax of its own. Trained by AdaGrad on the cross-entropy with features dropped at random,
 * so that no single word decides; weights are averaged over the last epochs. */
#ifndef RV_LEARN_AGENT_LINEAR_H
#define RV_LEARN_AGENT_LINEAR_H

#include "learn/agent_data.h"
#include "learn/agent_features.h"

enum {
	RV_LINEAR_AGENT,
	RV_LINEAR_COMPLEXITY = RV_AGENTS,
	RV_LINEAR_AMBIGUOUS = RV_AGENTS + RV_AGENT_LEVELS,
	RV_LINEAR_OUT = RV_AGENTS + RV_AGENT_LEVELS + 2
};

typedef struct rv_agent_linear {
	float *weights; /* [RV_AGENT_BUCKETS, RV_LINEAR_OUT] */
	float bias[RV_LINEAR_OUT];
} rv_agent_linear;

typedef struct rv_linear_options {
	int epochs;
	double rate;      /* of AdaGrad */
	double l2;        /* of a step */
	double drop;      /* share of features dropped while training */
	double smoothing; /* of the agents' labels */
	uint64_t seed;
	const float *kind_weights; /* NULL: rv_agent_kind_weights */
	double source_weight[128]; /* of a file's examples; 0: not trained on */
} rv_linear_options;
rv_linear_options rv_linear_defaults(void);

rv_status rv_agent_linear_train(rv_agent_linear *out, const rv_agent_lexicon *lexicon,
                                const rv_agent_data *data, const rv_linear_options *options);
void rv_agent_linear_free(rv_agent_linear *model); /* accepts a zeroed one */

/* Logits of all heads. */
void rv_agent_linear_score(const rv_agent_linear *model, const rv_agent_features *features,
                           float logits[RV_LINEAR_OUT]);

/* Softmax in place. */
void rv_agent_softmax(float *x, int n);

#endif
