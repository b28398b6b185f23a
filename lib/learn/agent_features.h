/* What a linear model sees of a request: hashed words, neighbours of words, pieces of words, and groups
 * of the lexicon with their order. Nothing is allocated. */
#ifndef RV_LEARN_AGENT_FEATURES_H
#define RV_LEARN_AGENT_FEATURES_H

#include "learn/agent_lexicon.h"

#define RV_AGENT_BUCKET_BITS 17
#define RV_AGENT_BUCKETS (1 << RV_AGENT_BUCKET_BITS)
#define RV_AGENT_FEATURES_MAX 4096 /* of a request; later ones are left out */

/* Kinds of feature; each kind's vector has the length of its weight. */
typedef enum rv_agent_kind {
	RV_AGENT_STEM,   /* stems, as they are or negated or of a clause that is not what is wanted */
	RV_AGENT_PAIR,   /* two and three words in a row, two with a gap */
	RV_AGENT_PIECE,  /* 3 to 5 letters of a word */
	RV_AGENT_GROUP,  /* groups of the lexicon, how they stand in the text */
	RV_AGENT_GROUPS, /* pairs of groups in their order; group and next word */
	RV_AGENT_SHAPE,  /* first words, last mark, length */
	RV_AGENT_KINDS
} rv_agent_kind;

typedef struct rv_agent_feature {
	uint32_t bucket;
	float value;
} rv_agent_feature;

typedef struct rv_agent_features {
	rv_agent_feature items[RV_AGENT_FEATURES_MAX];
	uint8_t kind[RV_AGENT_FEATURES_MAX];
	int n;
} rv_agent_features;

extern const float rv_agent_kind_weights[RV_AGENT_KINDS];

/* kind_weights: NULL for those above. */
void rv_agent_features_read(rv_agent_features *out, const rv_agent_text *text, const rv_agent_hit *hits,
                            int n_hits, const float *kind_weights);

#endif
