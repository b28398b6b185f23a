/* Options and their bounds; first weights. */
#include "base/rng.h"
#include "engine/context.h"
#include "learn/trainer_internal.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

rv_trainer_options rv_trainer_defaults(void) {
	return (rv_trainer_options){.n_ctx = 512,
	                            .init_std = 0.02,
	                            .lora_alpha = 16,
	                            .schedule = rv_schedule_defaults(),
	                            .beta1 = 0.9,
	                            .beta2 = 0.95,
	                            .epsilon = 1e-8,
	                            .weight_decay = 0.1,
	                            .clip = 1,
	                            .distill_temperature = 2,
	                            .distill_weight = 0.5,
	                            .piece_tokens = 512,
	                            .n_slices = 4,
	                            .pin = 1};
}

static const char *const products_names[] = {"f32", "bf16", NULL};

#define AT(field) offsetof(rv_trainer_options, field)
const rv_option rv_trainer_option_table[] = {
        {"n-ctx", 0, RV_OPT_INT, AT(n_ctx), 1, 1 << 20, NULL, "tokens", NULL, "length of a sequence"},
        {"init-seed", 0, RV_OPT_INT, AT(seed), 0, 9e15, NULL, NULL, NULL,
         "seed of random first weights"},
        {"init-std", 0, RV_OPT_DOUBLE, AT(init_std), 0, 1, NULL, NULL, NULL,
         "standard deviation of random matrices"},
        {"lora-rank", 0, RV_OPT_INT, AT(lora_rank), 0, 4096, NULL, NULL, NULL,
         "train adapters of this rank alone; 0: all weights"},
        {"lora-alpha", 0, RV_OPT_DOUBLE, AT(lora_alpha), 1e-6, 1e6, NULL, NULL, NULL,
         "adapters are scaled by alpha / rank"},
        {"lora-targets", 0, RV_OPT_STRING, AT(lora_targets), 0, 0, NULL, NULL, "LIST",
         "what is adapted: q,k,v,o,gate,up,down or some of them"},
        {"lora-layers", 0, RV_OPT_STRING, AT(lora_layers), 0, 0, NULL, NULL, "LIST",
         "which layers are adapted, from 0, as 2,4,6; all unless given"},
        {"segments", 0, RV_OPT_FLAG, AT(segments), 0, 1, NULL, NULL, NULL,
         "attention does not cross the end of a document"},
        {"segment-token", 0, RV_OPT_INT, AT(segment_token), 0, INT32_MAX, NULL, NULL, "ID",
         "token that ends a document"},
        {"schedule", 0, RV_OPT_ENUM, AT(schedule.kind), 0, RV_SCHEDULE_COUNT - 1, rv_schedule_names,
         NULL, NULL, "learning rate over the steps"},
        {"lr", 0, RV_OPT_DOUBLE, AT(schedule.peak), 1e-12, 10, NULL, NULL, NULL,
         "largest learning rate"},
        {"lr-final", 0, RV_OPT_DOUBLE, AT(schedule.final_fraction), 0, 1, NULL, NULL, NULL,
         "share of it that is left at the end"},
        {"warmup", 0, RV_OPT_INT, AT(schedule.n_warmup), 0, 1e9, NULL, "steps", NULL,
         "steps of warm-up"},
        {"steps", 0, RV_OPT_INT, AT(schedule.n_steps), 0, 1e9, NULL, "steps", NULL,
         "steps in all; 0: no end (constant schedule)"},
        {"tail", 0, RV_OPT_INT, AT(schedule.n_tail), 0, 1e9, NULL, "steps", NULL,
         "last steps, in which the rate falls to 0"},
        {"beta1", 0, RV_OPT_DOUBLE, AT(beta1), 0, 0.999999, NULL, NULL, NULL,
         "AdamW: decay of the mean"},
        {"beta2", 0, RV_OPT_DOUBLE, AT(beta2), 0, 0.999999, NULL, NULL, NULL,
         "AdamW: decay of the mean square"},
        {"epsilon", 0, RV_OPT_DOUBLE, AT(epsilon), 1e-20, 1, NULL, NULL, NULL,
         "AdamW: added to the root mean square"},
        {"weight-decay", 0, RV_OPT_DOUBLE, AT(weight_decay), 0, 100, NULL, NULL, NULL,
         "of matrices, decoupled"},
        {"clip", 0, RV_OPT_DOUBLE, AT(clip), 0, 1e9, NULL, NULL, NULL,
         "largest norm of a gradient; 0: any"},
        {"distill-temperature", 0, RV_OPT_DOUBLE, AT(distill_temperature), 0.05, 100, NULL, NULL, NULL,
         "with a teacher: temperature of both distributions"},
        {"distill-weight", 0, RV_OPT_DOUBLE, AT(distill_weight), 0, 1, NULL, NULL, NULL,
         "with a teacher: its share of the loss"},
        {"checkpoint-activations", 0, RV_OPT_FLAG, AT(checkpoint_activations), 0, 1, NULL, NULL, NULL,
         "compute layers again going back: less memory, more time"},
        {"products", 0, RV_OPT_ENUM, AT(products), 0, RV_PRODUCTS_BF16, products_names, NULL, NULL,
         "arithmetic of matrix products"},
        {"piece-tokens", 0, RV_OPT_INT, AT(piece_tokens), 1, 1 << 20, NULL, "tokens", NULL,
         "sequences are worked on in pieces of so many"},
        {"slices", 0, RV_OPT_INT, AT(n_slices), 1, 1024, NULL, NULL, NULL,
         "partial gradients, summed in order; at most so many threads work"},
        {"threads", 't', RV_OPT_INT, AT(n_threads), 0, RV_MAX_THREADS, NULL, NULL, NULL,
         "threads; 0: one a core"},
        {NULL, 0, RV_OPT_FLAG, 0, 0, 0, NULL, NULL, NULL, NULL}};

/* The bounds of the table, for callers that do not come from a command line. */
rv_status rv_train_check_options(const rv_trainer_options *o) {
	for (const rv_option *row = rv_trainer_option_table; row->name; row++) {
		const char *at = (const char *)o + row->offset;
		double v = row->kind == RV_OPT_INT      ? (double)*(const int64_t *)(const void *)at
		           : row->kind == RV_OPT_DOUBLE ? *(const double *)(const void *)at
		           : row->kind == RV_OPT_STRING ? 0
		                                        : (double)*(const int *)(const void *)at;
		if (!(v >= row->min && v <= row->max))
			return rv_fail(RV_ERR_INVALID, "training option %s: %g is not in [%g, %g]",
			               row->name, v, row->min, row->max);
	}
	return rv_schedule_check(&o->schedule);
}

rv_status rv_train_check_shape(const rv_hparams *hp) {
	const struct {
		const char *name;
		int64_t value, max;
	} sizes[] = {{"layers", hp->n_layers, 4096},
	             {"hidden size", hp->n_embd, 1 << 20},
	             {"heads", hp->n_heads, 1 << 16},
	             {"key-value heads", hp->n_kv_heads, hp->n_heads},
	             {"head dimension", hp->head_dim, 1024},
	             {"feed-forward size", hp->n_ff, 1 << 24},
	             {"vocabulary", hp->n_vocab, INT32_MAX},
	             {"rotated elements", hp->n_rot, hp->head_dim}};
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
		if (sizes[i].value < 1 || sizes[i].value > sizes[i].max)
			return rv_fail(RV_ERR_INVALID, "training: %s %lld is not in [1, %lld]",
			               sizes[i].name, (long long)sizes[i].value,
			               (long long)sizes[i].max);
	if (hp->n_heads % hp->n_kv_heads != 0 || hp->n_rot % 2 != 0 || !(hp->rms_eps > 0))
		return rv_fail(RV_ERR_INVALID,
		               "training: heads must be a multiple of key-value heads, rotated "
		               "elements even, the norm's epsilon positive");
	return RV_OK;
}

/* Standard deviation of a random tensor; vectors: norms are 1, biases 0. */
static double random_std(const rv_train_layout *l, const rv_param *p, const rv_trainer_options *o) {
	if (p->part == RV_PART_LORA_B)
		return 0;
	if (p->part == RV_PART_LORA_A)
		return sqrt(2.0 / (double)(p->cols + p->rows));
	int into_stream = p->role == RV_ATTN_OUT || p->role == RV_FFN_DOWN;
	return into_stream ? o->init_std / sqrt(2.0 * (double)l->hp.n_layers) : o->init_std;
}

static int is_norm(rv_role role) {
	return role == RV_ATTN_NORM || role == RV_FFN_NORM || role == RV_OUTPUT_NORM;
}

void rv_train_random(const rv_train_layout *l, float *weights, const rv_trainer_options *o,
                     int64_t first) {
	for (int64_t i = first; i < l->n_params; i++) {
		const rv_param *p = &l->params[i];
		rv_rng rng;
		rv_rng_stream(&rng, (uint64_t)o->seed, (uint64_t)i);
		double std = p->decay ? random_std(l, p, o) : 0, mean = is_norm(p->role) ? 1 : 0;
		for (int64_t j = 0; j < p->rows * p->cols; j++)
			weights[p->offset + j] = (float)(std > 0 ? std * rv_rng_normal(&rng) : mean);
	}
}

int64_t rv_train_first_adapter(const rv_train_layout *l) {
	int64_t i = 0;
	while (i < l->n_params && l->params[i].part == RV_PART_WEIGHT)
		i++;
	return i;
}

rv_status rv_train_decode(const rv_train_layout *l, float *weights, const rv_model *model) {
	rv_level level;
	RV_TRY(rv_level_default(&level));
	const rv_kernels *k = rv_kernels_for(level);
	for (int64_t i = 0; i < l->n_params; i++) {
		const rv_param *p = &l->params[i];
		if (p->part != RV_PART_WEIGHT)
			continue;
		const rv_weight *w = rv_model_weight(model, p->role, p->layer < 0 ? 0 : p->layer);
		if (!w || w->rows != p->rows || w->cols != p->cols)
			return rv_fail(RV_ERR_MISMATCH,
			               "%s: tensor '%s' is missing or of another shape",
			               rv_model_path(model), p->name);
		for (int64_t r = 0; r < p->rows; r++)
			k->type[w->type].dequantize(weights + p->offset + r * p->cols,
			                            (const char *)w->data + (size_t)r * w->row_bytes,
			                            p->cols);
	}
	return RV_OK;
}
