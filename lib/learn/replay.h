/* A replay buffer: a uniform sample of all sequences ever offered, in bounded memory (reservoir
 * sampling: Vitter 1985, algorithm R), to be mixed into training on new text.
 *
 * Which sequences stay depends on the seed and the order of offers alone; which are drawn, on (seed,
 * step). One caller at a time. */
#ifndef RV_LEARN_REPLAY_H
#define RV_LEARN_REPLAY_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct rv_replay rv_replay;

/* Room for `capacity` (1..1e6) sequences of n_ctx + 1 tokens (n_ctx 1..1e6), as a trainer takes them.
 */
rv_status rv_replay_create(rv_replay **out, int64_t n_ctx, int64_t capacity, int64_t seed);
void rv_replay_destroy(rv_replay *replay); /* accepts NULL */

/* Offers sequences: tokens [n_seqs, n_ctx + 1], weights [n_seqs, n_ctx] or NULL (all 1); copied if
 * kept. RV_ERR_INVALID: a weight that is negative or not finite, a negative token. */
rv_status rv_replay_offer(rv_replay *replay, const int32_t *tokens, const float *weights,
                          int64_t n_seqs);
int64_t rv_replay_count(const rv_replay *replay);   /* held */
int64_t rv_replay_offered(const rv_replay *replay); /* ever */
int64_t rv_replay_n_ctx(const rv_replay *replay);

/* n sequences for a step, each drawn uniformly of those held, without repetition while there are
 * enough: tokens [n, n_ctx + 1], weights [n, n_ctx] (may be NULL). A pure function of what is held, the
 * seed and `step`. RV_ERR_NOT_FOUND: nothing is held. */
rv_status rv_replay_draw(const rv_replay *replay, int64_t step, int64_t n, int32_t *tokens,
                         float *weights);
/* Sequence i of those held, borrowed until the next offer. */
const int32_t *rv_replay_tokens(const rv_replay *replay, int64_t i);
const float *rv_replay_weights(const rv_replay *replay, int64_t i);

/* One file, atomic; a loaded buffer goes on as the saved one would have. A damaged file is refused by
 * its name, *out is then NULL. */
rv_status rv_replay_save(const rv_replay *replay, const char *path);
rv_status rv_replay_load(rv_replay **out, const char *path);
rv_status rv_replay_load_memory(rv_replay **out, const void *data, size_t size, const char *name);

#endif
