/* Options of sub-commands that generate: a draft for speculative decoding. */
#ifndef RV_CLI_CLI_DRAFT_H
#define RV_CLI_CLI_DRAFT_H

#include "cli/cli_model.h"
#include "engine/speculate.h"

typedef struct rv_cli_draft {
	const char *source; /* NULL: plain decoding */
	const char *k;      /* 1..RV_SPEC_MAX_K or "adaptive" */
	int rule;           /* rv_spec_rule */
	int sampled, force;
	int64_t width; /* of a tree; 1: a chain */
	/* opened by rv_cli_open_draft */
	rv_model *model;
	rv_context *ctx;
	rv_speculator *speculator; /* NULL: plain decoding */
} rv_cli_draft;

extern const rv_option rv_cli_draft_options[];
rv_cli_draft rv_cli_draft_defaults(void);

/* As rv_cli_open_context, with room for the draft's tree where one is asked for. */
int rv_cli_open_target(const rv_cli *cli, const rv_cli_model *load, const rv_cli_draft *draft,
                       rv_model *model, rv_context **out);
/* RV_CLI_GO with what was asked for opened for sequence 0 of `target` (rv_cli_close_draft ends it), or
 * the exit status of a failure, already printed. load: the target's options. */
int rv_cli_open_draft(const rv_cli *cli, rv_cli_draft *draft, const rv_cli_model *load,
                      rv_context *target);
void rv_cli_close_draft(rv_cli_draft *draft); /* accepts a zeroed one */

/* "; draft 4, greedy: accepted 120 of 180 drafted (66.7 %), 3.10 tokens a round" or "" without one. */
void rv_cli_draft_line(const rv_cli_draft *draft, char *out, size_t size);
/* The counts as an object; JSON null without a draft. */
json_t *rv_cli_draft_json(const rv_cli_draft *draft);

#endif
