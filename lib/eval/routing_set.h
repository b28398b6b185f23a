/* The sets of datasets/routing as items with their labels, for routers that take a text
 * (experiments/exp_routing.c; language models are scored by task_routing.c). */
#ifndef RV_EVAL_ROUTING_SET_H
#define RV_EVAL_ROUTING_SET_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct rv_routing_item {
	char *text;
	size_t len;
	int agent;      /* of learn/agent_roles.h */
	int task_class; /* the agent's category, or ambiguous */
	int difficulty, complexity;
	int adversarial; /* words of another role are put in the way */
} rv_routing_item;

typedef struct rv_routing_set {
	rv_routing_item *items;
	int64_t n;
} rv_routing_set;

/* A .jsonl file of the form of datasets/routing/README.md. RV_ERR_FORMAT names file and line. */
rv_status rv_routing_set_open(rv_routing_set *out, const char *path);
void rv_routing_set_close(rv_routing_set *set); /* accepts a zeroed one */

#endif
