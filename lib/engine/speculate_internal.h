/* What the files of speculative decoding share: the draft, and the state of a walk. */
#ifndef RV_ENGINE_SPECULATE_INTERNAL_H
#define RV_ENGINE_SPECULATE_INTERNAL_H

#include "engine/speculate.h"

/* Node 0 is the last chosen token; the others follow their parents, in ascending depth. */
typedef struct rv_spec_node {
	int32_t token;
	int32_t parent, depth;
	float q;    /* the draft's probability of the token after its parent; 1: not asked for */
	float path; /* product of q from the root */
} rv_spec_node;

struct rv_speculator {
	rv_spec_options options;
	rv_context *target, *draft;
	int64_t n_vocab;
	rv_rng rng;
	void (*softmax)(float *x, int64_t n);

	int32_t *tokens; /* [n_ctx + 1] the sequence: what the target holds, and the last chosen */
	int64_t n_tokens, cap;
	rv_row *rows; /* [n_rows] */
	int64_t n_rows;

	rv_spec_node node[RV_SPEC_MAX_NODES + 1];
	int n;        /* nodes of the draft beside the root */
	int is_drawn; /* q of the chain's nodes are in `drawn` */
	float *drawn; /* [RV_SPEC_MAX_K, n_vocab] distributions the nodes were drawn from */
	float *p;     /* [n_vocab] */
	int n_read;   /* nodes of a tree that the draft model holds as draft rows */
	int n_held;   /* that the target does */
	int32_t draft_base, target_base;     /* number of node 1 as a draft row, less one */
	int limit;                           /* adaptive lookahead */
	int64_t root_row;                    /* of node 0 in the target's last evaluation */
	int64_t root_size;                   /* tokens up to and with the root */
	int at;                              /* node the walk has come to */
	int walking;                         /* 0: the next token needs a new round */
	int path[RV_SPEC_MAX_K + 1], n_path; /* nodes the walk went through, without the root */
	rv_spec_stats stats;
};

/* ---- speculate_draft.c ---- */

/* Fills node[1..n] with at most k depths after the root; n 0 when there is nothing to propose. */
rv_status rv_spec_draft_fill(rv_speculator *s, rv_sampler *sampler, int k);
/* The draft model keeps of what it evaluated what the walk went through. */
rv_status rv_spec_draft_commit(rv_speculator *s);
/* The draft model reads what was chosen since it last read; logits after the root are those of row *row
 * of its last evaluation. */
rv_status rv_spec_catch_up(rv_speculator *s, int64_t *row);
void rv_spec_add_node(rv_speculator *s, int parent, int32_t token, float q);
/* Adaptive: is a draft of this probability worth a deeper one? */
int rv_spec_goes_on(const rv_speculator *s, float path);
/* A token by its probability p. */
int32_t rv_spec_draw(rv_speculator *s, const float *p);
/* The distribution a token is drawn from (at temperature 0: softmax of the logits). */
rv_status rv_spec_probabilities(rv_speculator *s, rv_sampler *sampler, const float *logits, float *p);

/* ---- speculate_tree.c ---- */

rv_status rv_spec_fill_tree(rv_speculator *s, rv_sampler *sampler, int k);
/* A node's number as a draft row, where node 1 is base + 1. */
static inline int32_t rv_spec_number(int32_t base, int node) {
	return node ? base + node : 0;
}
/* The nodes become tokens of the sequence; the tree's others are dropped. */
rv_status rv_spec_accept_path(rv_context *ctx, int32_t seq, int32_t base, const int *path, int n);

/* ---- speculate_accept.c ---- */

/* The token after node `at`, and which child of it that is (0: none). */
rv_status rv_spec_choose(rv_speculator *s, rv_sampler *sampler, const float *logits, int32_t *id,
                         int *child);

#endif
