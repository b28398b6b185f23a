/* Scaling of rotary positions, to read further than a model was trained for.
 *
 * Pair p of n_rot / 2 turns by position * frequency(p); cosine and sine are multiplied by a magnitude.
 *   none  theta^(-2p / n_rot)
 *   NTK   the same with theta * factor^(n_rot / (n_rot - 2)): the slowest pair is stretched by the
 *         factor, the fastest hardly at all ("NTK-aware scaled RoPE", 2023)
 *   YaRN  pairs that turn more than beta_fast times within the original context stay as they are, those
 *         that turn less than beta_slow times are slowed down by the factor, between them (in p) a
 *         linear ramp; magnitude attn_factor * (1 + 0.1 ln factor) (Peng et al., arXiv:2309.00071)
 * The factor is fixed for the life of a context: keys are cached as they were turned, so a factor that
 * followed the length would turn keys of one sequence differently. */
#ifndef RV_MODEL_ROPE_H
#define RV_MODEL_ROPE_H

#include "base/status.h"
#include "model/gguf.h"

#include <stdint.h>

typedef enum rv_rope_kind {
	RV_ROPE_MODEL, /* as the model's metadata say; not in rv_hparams */
	RV_ROPE_NONE,
	RV_ROPE_NTK,
	RV_ROPE_YARN,
	RV_ROPE_COUNT
} rv_rope_kind;
const char *rv_rope_kind_name(rv_rope_kind kind); /* "yarn" */

/* 0 in a field: its default. */
typedef struct rv_rope_scaling {
	rv_rope_kind kind;
	double factor;          /* [1, 1e6]; default: so that the context fits, at least 1 */
	int64_t n_ctx_original; /* tokens it was trained for; default: the model's */
	double beta_fast;       /* YaRN; default 32 */
	double beta_slow;       /* YaRN; default 1 */
	double attn_factor;     /* YaRN; default 1 */
} rv_rope_scaling;

/* Fills defaults: what the model says (`model`), then those above, for a context of n_ctx tokens on a
 * model trained for n_ctx_trained. RV_ERR_INVALID: values out of bounds, or a factor without a kind. */
rv_status rv_rope_resolve(rv_rope_scaling *rope, const rv_rope_scaling *model, int64_t n_ctx_trained,
                          int64_t n_ctx);

/* Of a resolved scaling. */
double rv_rope_frequency(const rv_rope_scaling *rope, double theta, int64_t n_rot, int64_t pair);
double rv_rope_magnitude(const rv_rope_scaling *rope);

/* What a file's metadata say: kind NONE or YARN, fields as they are there. Other kinds and constants
 * that are not implemented: RV_ERR_UNSUPPORTED naming the key; values out of bounds: RV_ERR_FORMAT. */
rv_status rv_rope_read(const rv_gguf *gguf, const char *arch, rv_rope_scaling *out);
rv_status rv_rope_write(rv_gguf_writer *w, const char *arch, const rv_rope_scaling *rope);

#endif
