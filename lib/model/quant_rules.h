/* Which type a tensor gets: targets as tables of rules over tensor roles.
 *
 * The mixes and fall-backs are llama.cpp's (src/llama-quant.cpp), so that a file made here has, tensor
 * by tensor, the types llama-quantize gives. Private to lib/model. */
#ifndef RV_MODEL_QUANT_RULES_H
#define RV_MODEL_QUANT_RULES_H

#include "model/quantize.h"

/* One matrix of a model, as the rules see it. */
typedef struct rv_quant_site {
	const rv_arch *arch;
	const rv_hparams *hp;
	rv_role role;  /* of the tensor; the embedding of a tied model is ruled as RV_OUTPUT */
	int64_t layer; /* -1: none */
	int64_t cols;  /* row length */
	rv_type base;  /* of the target */
} rv_quant_site;

/* For `role`, where `when` holds (NULL: always), the type is `type`. */
typedef struct rv_quant_rule {
	rv_role role;
	int (*when)(const rv_quant_site *site);
	rv_type type;
} rv_quant_rule;

struct rv_quant_target {
	const char *name;
	rv_type base;               /* where no rule applies */
	int file_type;              /* general.file_type; -1: the format has no number for it */
	const rv_quant_rule *rules; /* the first that applies wins; ends with role RV_ROLE_COUNT */
};

/* Key that names the target when general.file_type cannot. */
#define RV_QUANT_TARGET_KEY "ruvltra.file_type"

/* Layers whose attn_v and ffn_down get more bits in the _M mixes: the first and last eighth, and every
 * third between. */
int rv_quant_more_bits(int64_t layer, int64_t n_layers);

/* The type of matrix `name`: override, else rule, else base; then, while its rows do not fit the
 * blocks, the fall-back, with *fallback set to 1. */
rv_type rv_quant_pick(const rv_quant_options *options, const rv_quant_site *site, const char *name,
                      int *fallback);

int rv_quant_override_matches(const rv_quant_override *override, const char *name);

/* general.quantization_version, and the key that names the target. */
rv_status rv_quant_write_type(rv_gguf_writer *w, const rv_quant_target *target);

/* RV_ERR_INVALID without a target, RV_ERR_UNSUPPORTED for an override to a type that is only read. */
rv_status rv_quant_options_check(const rv_quant_options *options);

#endif
