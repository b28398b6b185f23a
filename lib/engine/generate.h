/* Prompt in, tokens out: the loop around context and sampler. */
#ifndef RV_ENGINE_GENERATE_H
#define RV_ENGINE_GENERATE_H

#include "engine/context.h"
#include "engine/prefix_cache.h"
#include "engine/sampler.h"
#include "engine/speculate.h"

#include <stdint.h>

typedef enum rv_stop {
	RV_STOP_LENGTH,  /* n_predict reached */
	RV_STOP_END,     /* an end token */
	RV_STOP_STRING,  /* a stop string */
	RV_STOP_CONTEXT, /* the context is full */
	RV_STOP_CALLER   /* the callback asked to stop */
} rv_stop;
const char *rv_stop_name(rv_stop stop);

typedef struct rv_generate_options {
	int64_t n_predict;               /* -1: until an end token or a full context */
	const char *const *stop_strings; /* NULL-terminated list, or NULL; needs a tokenizer */
	int ignore_end;                  /* end tokens are ordinary */
	rv_prefix_cache *prefix;         /* of this context, for empty sequences; NULL: none */
	rv_speculator *speculator;       /* of this context and sequence; NULL: plain decoding */
	/* A token was chosen: its id, the text that became complete (may be empty; never a split UTF-8
	 * character; never part of a stop string), its log-probability. Text still held back at the end
	 * comes in a last call with id -1. Return non-zero to stop. */
	int (*on_token)(void *user, int32_t id, const char *text, size_t len, double logprob);
	void *user;
} rv_generate_options;
rv_generate_options rv_generate_defaults(void);

typedef struct rv_generate_result {
	rv_stop stop;
	int64_t n_prompt, n_generated;
	int64_t n_cached;                               /* of the prompt, from the prefix cache */
	int64_t prompt_ns, first_token_ns, generate_ns; /* first_token: call to first id chosen */
} rv_generate_result;

/* Continues sequence `seq` with the prompt (n >= 1 ids), then generates. The last chosen token is not
 * evaluated. Ids chosen are written to `out` when not NULL (room for n_predict). */
rv_status rv_generate(rv_context *ctx, int32_t seq, const int32_t *prompt, int64_t n_prompt,
                      rv_sampler *sampler, const rv_generate_options *options, int32_t *out,
                      rv_generate_result *result);

#endif
