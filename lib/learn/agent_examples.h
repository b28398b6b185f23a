/* Labelled requests as vectors, to vote on which agent a new one is for: the nearest of them by cosine,
 * found in an HNSW graph, each with weight exp((cosine - 1) / RV_AGENT_VOTE_T).
 *
 * The vectors of an embedder with n_embd native numbers span at most n_embd dimensions; they are kept
 * by their coordinates in an orthonormal basis of that space, 8 bits each, which keeps the cosines. A
 * probe (a text and its vector) shows whether the embedder at hand is the one they were made with.
 *
 * One caller at a time, as the embedder. */
#ifndef RV_LEARN_AGENT_EXAMPLES_H
#define RV_LEARN_AGENT_EXAMPLES_H

#include "engine/embed.h"
#include "learn/agent_data.h"
#include "learn/sealed.h"

#define RV_AGENT_NEIGHBOURS 24
#define RV_AGENT_VOTE_T 0.1f

typedef struct rv_agent_neighbour {
	const char *text; /* borrowed from the examples */
	int agent;
	float similarity; /* cosine */
} rv_agent_neighbour;

typedef struct rv_agent_examples rv_agent_examples;

/* Of the items with use[source] != 0. */
rv_status rv_agent_examples_make(rv_agent_examples **out, rv_embedder *embedder,
                                 const rv_agent_data *data, const int *use);
void rv_agent_examples_destroy(rv_agent_examples *examples); /* accepts NULL */
int64_t rv_agent_examples_count(const rv_agent_examples *examples);

void rv_agent_examples_put(const rv_agent_examples *examples, rv_sealed_out *out);
rv_status rv_agent_examples_get(rv_agent_examples **out, rv_sealed_in *in);
/* Before the first vote: builds the graph. Another embedder than the one the vectors were made with
 * (its probe tells) embeds the texts anew, which takes a second or two. */
rv_status rv_agent_examples_prepare(rv_agent_examples *examples, rv_embedder *embedder);

/* Nearest first; votes sum to 1. */
rv_status rv_agent_examples_vote(rv_agent_examples *examples, rv_embedder *embedder, const char *text,
                                 size_t len, float votes[RV_AGENTS],
                                 rv_agent_neighbour neighbours[RV_AGENT_NEIGHBOURS], int *n);

#endif
