/* `ruvltra bank`: what its two files share. */
#ifndef RV_CLI_CMD_BANK_H
#define RV_CLI_CMD_BANK_H

#include "cli/cli.h"
#include "engine/embed.h"
#include "memory/bank.h"

typedef struct rv_bank_args {
	const char *store, *file, *action, *metadata;
	int variant, verdict, by_score;
	int64_t k;
	double quality, min_quality, merge, older_days;
	int64_t max_patterns;
} rv_bank_args;

enum { RV_BANK_ANY_VERDICT = RV_VERDICT_COUNT }; /* --verdict any */

/* One invocation. */
typedef struct rv_bank_job {
	const rv_cli *cli;
	const rv_bank_args *args;
	const char *model; /* of the embedder; NULL: that which ships */
	const char *word;  /* the action's own argument, or NULL */
	rv_threads *threads;
	rv_store *store;
	rv_bank *bank;
	rv_embedder *embedder;
} rv_bank_job;

/* Exit statuses. */
int rv_bank_run_add(rv_bank_job *job);
int rv_bank_run_search(rv_bank_job *job);

#endif
