/* Which of the 13 agents of datasets/roles.def should act on a request first, how sure that is, of
 * which class the request is and how much work it asks for. Three routers:
 *
 * keyword    weighted phrases of the lexicon (agent_lexicon.h)
 * embedding  the vote of the nearest labelled requests (agent_examples.h)
 * hybrid     a log-linear model over phrases, votes and a linear classifier of words (agent_linear.h)
 *
 * Each one's confidence is the probability it gives to its agent, calibrated on requests that were not
 * trained on. The class is the agent's category, or `ambiguous` where cues of two are likely; `quality`
 * is the predicted chance that the agent is the right one when all signals, also how far the routers
 * agree, are weighed.
 *
 * All that was learnt stands in one file, written by rv_agent_router_train (agent_train.h). One caller
 * at a time; nothing is allocated while routing, but for a text longer than those before in the
 * tokenizer. */
#ifndef RV_LEARN_AGENT_ROUTER_H
#define RV_LEARN_AGENT_ROUTER_H

#include "base/status.h"
#include "engine/embed.h"
#include "learn/agent_examples.h"
#include "learn/agent_roles.h"

typedef enum rv_agent_router_kind {
	RV_ROUTER_KEYWORD,
	RV_ROUTER_EMBEDDING,
	RV_ROUTER_HYBRID,
	RV_ROUTERS
} rv_agent_router_kind;
extern const char *const rv_agent_router_names[RV_ROUTERS + 1]; /* ends with NULL */

typedef struct rv_agent_decision {
	int agent;
	float confidence;
	float probabilities[RV_AGENTS];
	int task_class; /* into rv_agent_classes */
	int complexity; /* into rv_agent_levels */
	float complexity_probabilities[RV_AGENT_LEVELS];
	float quality;
	rv_agent_neighbour neighbours[RV_AGENT_NEIGHBOURS]; /* none of the keyword router */
	int n_neighbours;
} rv_agent_decision;

typedef struct rv_agent_router rv_agent_router;

/* embedder: outlives the router; NULL leaves the keyword router alone. RV_ERR_MISMATCH: not the
 * embedder that the file was made with. RV_ERR_FORMAT, RV_ERR_NUMERIC: a file that is foreign, cut off
 * or changed. */
rv_status rv_agent_router_open(rv_agent_router **out, const char *path, rv_embedder *embedder);
/* The same of a file's bytes; `name` stands in messages. */
rv_status rv_agent_router_open_memory(rv_agent_router **out, const void *data, size_t size,
                                      const char *name, rv_embedder *embedder);
void rv_agent_router_destroy(rv_agent_router *router); /* accepts NULL */

/* RV_ERR_INVALID: a text without words, or a router that needs the embedder without one. */
rv_status rv_agent_route(rv_agent_router *router, rv_agent_router_kind kind, const char *text,
                         size_t len, rv_agent_decision *out);

#endif
