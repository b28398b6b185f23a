/* How well a model reads a long text it was not trained on (datasets/longdocs), as its cache stores old
 * keys and values: perplexity, and how far its predictions are from those of another cache. */
#ifndef RV_LAB_LONG_TEXT_H
#define RV_LAB_LONG_TEXT_H

#include "engine/context.h"
#include "eval/perplexity.h"
#include "lab/experiment.h"

/* SHA-256 of the text. */
rv_status rv_long_text_sha256(const rv_run_config *config, char hex[65]);
/* Its first n tokens; RV_ERR_LIMIT when there are fewer. rv_free'd by the caller. */
rv_status rv_long_text_tokens(const rv_run_config *config, const rv_model *model, int64_t n,
                              int32_t **out);

/* Evaluates tokens [0, n) in sequence 0 of ctx (its contents are lost; it stays), scoring what follows
 * positions [first, n - 1). logits [n - 1 - first][n_vocab]: filled when `base` is 0, else those of the
 * base; NULL: no divergence. */
rv_status rv_long_text_score(rv_context *ctx, const int32_t *tokens, int64_t n, int64_t first,
                             float *logits, int base, rv_perplexity *out);

#endif
