/* What a model knows of the new requests and of the old domains (lab/shift_stream.h). */
#ifndef RV_LAB_SHIFT_SCORE_H
#define RV_LAB_SHIFT_SCORE_H

#include "engine/context.h"
#include "lab/shift_stream.h"

/* The agents' names as a tree of tokens below a prompt, so that all are scored in one evaluation. */
enum { RV_SHIFT_TREE = 64 };
typedef struct rv_shift_tree {
	int32_t token[RV_SHIFT_TREE], parent[RV_SHIFT_TREE]; /* parent 0: the prompt's last token; nodes
	                                                      count from 1 */
	int32_t n;
} rv_shift_tree;

typedef struct rv_shift_scorer {
	const rv_shift_stream *stream;
	rv_context *ctx;
	rv_shift_tree tree;
	int n_seqs;
} rv_shift_scorer;

/* A context of its own with room for the tree. `scorer` is zeroed; close it after a failure too. */
rv_status rv_shift_scorer_open(rv_shift_scorer *scorer, const rv_run_config *config, rv_model *model,
                               const rv_shift_stream *stream);
void rv_shift_scorer_close(rv_shift_scorer *scorer);
/* With the adapter from now on; NULL: none. */
rv_status rv_shift_scorer_adapt(rv_shift_scorer *scorer, rv_adapter *adapter);

typedef struct rv_shift_new {
	double right_pct; /* the right agent is the likeliest of the 13 */
	double nll;       /* nats a request: -log of its share among the 13 */
} rv_shift_new;
rv_status rv_shift_score_new(rv_shift_scorer *scorer, const rv_shift_docs *docs, rv_shift_new *out);

typedef struct rv_shift_old {
	double nll[RV_SHIFT_N_OLD];       /* nats a token of the answers */
	double right_pct[RV_SHIFT_N_OLD]; /* tokens of the answers that are the likeliest */
	double mean_nll, mean_right_pct;  /* over the domains, each counting alike */
} rv_shift_old;
rv_status rv_shift_score_old(rv_shift_scorer *scorer, const rv_shift_docs *docs, rv_shift_old *out);

/* Log-probabilities of the 13 names behind each of n prompts that stand in sequences 0..n-1 of ctx,
 * whose last tokens were row[i] of the last evaluation: nats, [n, RV_AGENTS]. The sequences stay as
 * they are. */
rv_status rv_shift_score_agents(rv_context *ctx, const rv_shift_stream *stream,
                                const rv_shift_tree *tree, const int32_t *row, int n, double *logprob);
void rv_shift_tree_build(rv_shift_tree *tree, const rv_shift_stream *stream);

#endif
