/* Speculative decoding under measurement: two contexts, prompts, texts, costs of steps. */
#ifndef RV_LAB_SPEC_BENCH_H
#define RV_LAB_SPEC_BENCH_H

#include "engine/speculate.h"
#include "lab/experiment.h"

enum {
	RV_SPEC_BENCH_PROMPTS = 60, /* most of them */
	RV_SPEC_BENCH_PROMPT = 192, /* tokens of one, at most */
	RV_SPEC_BENCH_TOKENS = 128, /* of a text, at most */
	RV_SPEC_BENCH_DEPTH = 64    /* tokens of the text that steps are timed in */
};

typedef struct rv_spec_bench {
	const rv_run_config *config;
	int n_prompts, n_tokens; /* n_tokens: of a text */
	rv_model *target_model, *draft_model;
	rv_context *target, *draft; /* draft NULL: there is no model for it */
	int32_t prompts[RV_SPEC_BENCH_PROMPTS][RV_SPEC_BENCH_PROMPT];
	int64_t lengths[RV_SPEC_BENCH_PROMPTS];
	int32_t stretch[2 * RV_SPEC_BENCH_DEPTH];
} rv_spec_bench;

/* The run's model, quantized to `format` (NULL: as it is), and its draft, which share threads. Prompts
 * are the questions of the small GSM8K, HumanEval and routing sets in turns, as the tasks ask them,
 * without examples before. */
rv_status rv_spec_bench_open(rv_spec_bench *b, const rv_run_config *config, const char *format,
                             int n_prompts, int n_tokens);
void rv_spec_bench_close(rv_spec_bench *b); /* also one that opened half-way, or zeroed */

typedef struct rv_spec_text {
	int n;
	int32_t ids[RV_SPEC_BENCH_TOKENS];
	double logprob; /* sum, by the target */
} rv_spec_text;

/* Reads a prompt, into an empty sequence 0 of the target and, with s, of the draft. */
rv_status rv_spec_bench_read(const rv_spec_bench *b, rv_speculator *s, int prompt);
/* What follows the prompt read last: n_tokens, end tokens being ordinary; s NULL: plainly. Any number
 * of times, in any order. out may be NULL. *ns: time after the first token. */
rv_status rv_spec_bench_decode(const rv_spec_bench *b, rv_speculator *s, double temperature, int prompt,
                               uint64_t seed, rv_spec_text *out, double *ns);

/* Steps in turns: one token of the draft, and k + 1 of the target, over one of the target. */
typedef struct rv_spec_costs {
	double draft, verify[RV_SPEC_MAX_K + 1]; /* by k */
} rv_spec_costs;
rv_status rv_spec_bench_costs(const rv_spec_bench *b, int k, int n_times, rv_spec_costs *out);
/* Every k, at the shapes of RuvLTRA-Medium and -Small: random weights, Q4_K_M. */
rv_status rv_spec_medium_costs(const rv_run_config *config, rv_spec_costs *out);
/* Bytes of weights of a step of small over one of medium. */
double rv_spec_medium_bytes(void);

#endif
