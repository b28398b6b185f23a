/* Cross-entropy of right answers in the domains of the adapters that ship: a finer measure than whether
 * the answer given was right. */
#ifndef RV_LAB_DOMAIN_LOSS_H
#define RV_LAB_DOMAIN_LOSS_H

#include "lab/subject.h"

typedef enum rv_domain {
	RV_DOMAIN_CODER, /* the solutions of datasets/mini-humaneval after their prompts */
	RV_DOMAIN_AGENT, /* the agents of datasets/routing/heldout.jsonl after the requests */
	RV_DOMAIN_COUNT
} rv_domain;

/* Nats a token over the first n_items (0: all). RV_ERR_NOT_FOUND: the set or a tokenizer is missing. */
rv_status rv_domain_loss(const rv_run_config *config, rv_subject who, rv_domain domain, int64_t n_items,
                         double *nats);

#endif
