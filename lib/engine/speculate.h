/* Speculative decoding: a cheap draft proposes tokens, the target checks them all in one evaluation.
 *
 * A round drafts up to k tokens after the last chosen one, evaluates them on the target together with
 * it, and walks from there: at each place the rule accepts the draft's token or takes another one,
 * which ends the round. Tokens beyond are forgotten by truncation, nothing is copied. The walk is lazy
 * (one token a call), so a caller can stop anywhere, and what was not asked for was not drawn.
 *
 * Rules (p: the target's distribution after penalties, top-k, top-p, min-p and temperature; q: the
 * draft's):
 *   greedy     the target chooses every token as it would alone; a draft token is accepted when it is
 *              that choice. Bit-identical to plain generation with the same sampler and seed, at every
 *              temperature.
 *   exact      rejection sampling: accept x with probability min(1, p(x) / q(x)), else draw from
 *              max(0, p - q) normalised (Leviathan, Kalman, Matias 2023, algorithm 1). Lossless: the
 *              output has the distribution of plain sampling, not its random numbers. Where the draft
 *              is no draw (temperature 0, lookup, tree) q is a point mass; accepting x with
 *              probability p(x), else drawing from the others, is then drawing from p and accepting
 *              what matches, so `exact` does as `greedy`. For a tree that holds at each node: its
 *              children are a fixed set, and the token drawn from p is followed when it is one.
 *   threshold  accept x when p(x) >= threshold * q(x), else draw from p. LOSSY: a token the target
 *              finds less probable than another is taken all the same. As the design documents state
 *              it, with probabilities at temperature 1 where the temperature is 0.
 */
#ifndef RV_ENGINE_SPECULATE_H
#define RV_ENGINE_SPECULATE_H

#include "engine/context.h"
#include "engine/sampler.h"

#include <stdint.h>

enum {
	RV_SPEC_MAX_K = 8,
	RV_SPEC_MAX_WIDTH = 8,
	RV_SPEC_MAX_NODES = RV_SPEC_MAX_K * RV_SPEC_MAX_WIDTH
};
#define RV_SPEC_MAX_TEMPERATURE 0.5 /* above it drafting stops unless forced */

typedef enum rv_spec_draft {
	RV_SPEC_MODEL,  /* a chain of tokens of the draft model */
	RV_SPEC_TREE,   /* the draft model's most probable beginnings: `width` at each depth */
	RV_SPEC_LOOKUP, /* what followed the last few tokens when they stood in the context before */
	RV_SPEC_DRAFT_COUNT
} rv_spec_draft;

typedef enum rv_spec_rule {
	RV_SPEC_THRESHOLD,
	RV_SPEC_EXACT,
	RV_SPEC_GREEDY,
	RV_SPEC_RULE_COUNT
} rv_spec_rule;

/* NULL-terminated, in the order of the enumerations. */
extern const char *const rv_spec_drafts[];
extern const char *const rv_spec_rules[];

typedef struct rv_spec_options {
	rv_spec_draft draft; /* default MODEL */
	rv_spec_rule rule;   /* default EXACT */
	/* Tokens drafted a round, 1..RV_SPEC_MAX_K, default 4. 0: adaptive, 2..8: two more after a
	 * round that was accepted whole, one less after another. A model's draft ends earlier where it
	 * gives its whole draft less than `confidence`. Both depend on the tokens alone, never on time.
	 */
	int k;
	double confidence; /* with k = 0; [0, 1], default 0.5; 0: off */
	int width;         /* TREE: most nodes at each depth, 2..RV_SPEC_MAX_WIDTH, default 2 */
	int sampled; /* MODEL: draw the draft as the target draws; 0 (default): the most probable */
	double threshold;         /* of the rule; (0, 1], default 0.7 */
	int force;                /* draft above RV_SPEC_MAX_TEMPERATURE too */
	int ngram_max, ngram_min; /* LOOKUP: tokens that must match, longest first; default 4 and 2 */
	int32_t seq, draft_seq;   /* sequences in the two contexts, default 0 */
	uint64_t seed;            /* of drawn drafts and of rejection */
} rv_spec_options;
rv_spec_options rv_spec_defaults(void);

typedef struct rv_spec_stats {
	int64_t rounds;       /* evaluations of the target that checked a draft */
	int64_t plain_rounds; /* that had none to check */
	int64_t drafted;      /* tokens, of a tree all its nodes */
	int64_t accepted;
	int64_t rejections; /* rounds that ended before their draft did */
	/* By depth: rounds whose draft was that deep, whose walk came there, whose walk went on. */
	int64_t drafted_at[RV_SPEC_MAX_K], reached_at[RV_SPEC_MAX_K], accepted_at[RV_SPEC_MAX_K];
	int64_t draft_ns, target_ns; /* in drafting, and in evaluating the target */
} rv_spec_stats;

/* Tokens that came out of a round, and depth of its draft: means over all rounds; NaN before the first.
 */
double rv_spec_tokens_a_round(const rv_spec_stats *s);
double rv_spec_drafted_a_round(const rv_spec_stats *s);

/* The file of a draft for a model's file: beside it, with pico in its name for nano, small for medium.
 * RV_ERR_NOT_FOUND: there is none. */
rv_status rv_spec_find_draft(const char *model, char *path, size_t size);

typedef struct rv_speculator rv_speculator;

/* For one sequence of the target. The contexts are borrowed and must outlive it; draft is NULL with
 * LOOKUP. RV_ERR_INVALID: options out of bounds, or one context twice; RV_ERR_MISMATCH: another
 * vocabulary; RV_ERR_UNSUPPORTED: a tiered KV policy, or a scheduler has the sequences; TREE needs
 * rv_context_options.n_draft of width * k (adaptive: width * 8) in both contexts (RV_ERR_INVALID).
 * Allocates all it needs. */
rv_status rv_speculator_create(rv_speculator **out, rv_context *target, rv_context *draft,
                               const rv_spec_options *options);
void rv_speculator_destroy(rv_speculator *s); /* accepts NULL */

/* The target has just evaluated `tokens` (n >= 1) at the end of its sequence, the last as row `row` of
 * its last evaluation, with logits. What the sequence held before must be what this speculator was told
 * and chose (RV_ERR_INVALID otherwise). */
rv_status rv_speculator_begin(rv_speculator *s, const int32_t *tokens, int64_t n, int64_t row);

/* The next token; the caller then passes it to rv_sampler_accept and asks again, with the same sampler.
 * most: tokens that may still be asked for (>= 1; no use drafting more). logprob may be NULL, as in
 * rv_sampler_next. RV_ERR_LIMIT when the context is full; any other failure of either context: the
 * sequence ends with the last token returned. */
rv_status rv_speculator_next(rv_speculator *s, rv_sampler *sampler, int64_t most, int32_t *id,
                             double *logprob);
/* The target's sequence becomes what plain generation leaves: all tokens but the last chosen. */
rv_status rv_speculator_end(rv_speculator *s);

const rv_spec_stats *rv_speculator_stats(const rv_speculator *s);
const rv_spec_options *rv_speculator_options(const rv_speculator *s);
rv_context *rv_speculator_target(const rv_speculator *s);
/* As after creation, for an empty sequence of the target. */
rv_status rv_speculator_reset(rv_speculator *s);

#endif
