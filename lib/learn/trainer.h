/* Training: back-propagation through a whole model, AdamW, checkpoints, export.
 *
 * A trainer owns float master weights of an architecture's tensor table (qwen2), full or frozen under
 * LoRA adapters, and what AdamW remembers of them. It knows tokens only: where they come from is the
 * caller's business, who is told the number of the next step (also after a load), so that data drawn
 * as a pure function of (seed, step, sequence) resumes where it stopped.
 *
 * Loss: mean over the weighted positions of a step of the cross-entropy (nats) of the next token; with
 * a teacher, (1 - w) of that and w T^2 KL(teacher || student) at temperature T (Hinton, Vinyals, Dean
 * 2015). AdamW: Loshchilov and Hutter 2019; decay is not applied to norms and biases.
 *
 * Determinism: the sequences of a step are cut into pieces of piece_tokens or one longer sequence;
 * piece i adds its gradient to slice i mod n_slices in ascending order, and slices are added in order.
 * So for one build, feature level, kind of products, piece_tokens and n_slices the result has the same
 * bits for any number of threads; at most n_slices threads have work.
 *
 * One caller at a time a trainer.
 */
#ifndef RV_LEARN_TRAINER_H
#define RV_LEARN_TRAINER_H

#include "base/log.h"
#include "base/options.h"
#include "base/status.h"
#include "base/threads.h"
#include "learn/train_schedule.h"
#include "model/adapter.h"
#include "model/arch.h"
#include "model/model.h"
#include "model/tokenizer.h"

#include <stdint.h>

typedef struct rv_trainer rv_trainer;

typedef enum rv_products {
	RV_PRODUCTS_F32, /* OpenBLAS SGEMM */
	RV_PRODUCTS_BF16 /* operands of matrix products rounded to bfloat16, sums in f32; everything
	                  * else is f32 as before. About twice the speed; only on CPUs with AVX512_BF16
	                  */
} rv_products;

typedef struct rv_trainer_options {
	/* what is trained */
	int64_t n_ctx;     /* tokens a sequence; default 512. rv_trainer_set_ctx changes it */
	int64_t seed;      /* of random weights and adapters; default 0 */
	double init_std;   /* of random matrices; default 0.02; those that end in the residual stream
	                    * (attn_output, ffn_down) are divided by sqrt(2 n_layers) */
	int64_t lora_rank; /* 0 (default): all weights are trained; else adapters of this rank, the
	                    * model's own weights are frozen */
	double lora_alpha; /* scale of the adapters is alpha / rank; default 16 */
	const char *lora_targets; /* "q,k,v,o,gate,up,down" or some of them; NULL: all */
	const char *lora_layers;  /* "2,4,6": the layers that get adapters, from 0; NULL: all */
	int segments;             /* 1: attention does not cross the token segment_token; default 0 */
	int64_t segment_token;    /* default 0 */

	/* the optimizer */
	rv_schedule schedule; /* learning rate by step: train_schedule.h */
	double beta1, beta2;  /* 0.9, 0.95 */
	double epsilon;       /* 1e-8 */
	double weight_decay;  /* 0.1, of matrices */
	double clip;          /* largest global norm of a gradient; 0: none; default 1 */

	/* distillation: only with a teacher */
	double distill_temperature; /* 2 */
	double distill_weight;      /* 0.5 */

	/* resources */
	int products;               /* rv_products; default F32 */
	int checkpoint_activations; /* 1: keep only the input of each layer and compute the rest again
	                             * going back: a third more work, a fraction of the memory */
	int64_t piece_tokens;       /* of a piece, see above; default 512. Less: short steps are shared
	                             * by more threads, in less memory; changes the bits of a result */
	int64_t n_slices;           /* see above; default 4; changes the bits of a result, memory of one
	                             * gradient each */
	int64_t n_threads;          /* 0: rv_threads_default_count() */
	int pin;                    /* default 1 */
	rv_log log;
} rv_trainer_options;

rv_trainer_options rv_trainer_defaults(void);
/* The fields above as a table for the command line (base/options.h); ends with a row whose name is
 * NULL. Offsets are into rv_trainer_options. */
extern const rv_option rv_trainer_option_table[];

/* A model of the given shape with random weights. RV_ERR_UNSUPPORTED names an architecture other than
 * qwen2; RV_ERR_INVALID an option out of bounds; RV_ERR_UNSUPPORTED a missing OpenBLAS. options: NULL
 * for defaults. teacher (may be NULL): a model of the same vocabulary, decoded to f32 here and not
 * needed afterwards. */
rv_status rv_trainer_create(rv_trainer **out, const rv_arch *arch, const rv_hparams *hp,
                            const rv_model *teacher, const rv_trainer_options *options);
/* The same from the weights of a model, decoded to f32 (the model is not needed afterwards). */
rv_status rv_trainer_create_from(rv_trainer **out, const rv_model *model, const rv_model *teacher,
                                 const rv_trainer_options *options);
/* LoRA on a frozen model, continued from an adapter: what is trained are its matrices, with their ranks
 * and scales (the lora_* options are not looked at). start NULL: as rv_trainer_create_from, lora_rank
 * (which must not be 0) on lora_layers x lora_targets, A random, B 0. Neither model nor adapter is
 * needed afterwards. RV_ERR_MISMATCH: an adapter of another shape; RV_ERR_UNSUPPORTED names a matrix
 * that is no projection of a layer. */
rv_status rv_trainer_create_lora(rv_trainer **out, const rv_model *model, const rv_adapter *start,
                                 const rv_trainer_options *options);
void rv_trainer_destroy(rv_trainer *t); /* accepts NULL */

/* What was trained with LoRA, as an adapter of the model (of the trainer's shape) under a name; one
 * reference. RV_ERR_INVALID: a trainer of all weights. */
rv_status rv_trainer_adapter(rv_adapter **out, const rv_trainer *t, const rv_model *model,
                             const char *name);
/* The run begins anew in the same memory: LoRA as of rv_trainer_create_lora with this `start` (of the
 * same layers, roles and ranks; scales are taken over) or, with NULL, random under `seed`; moments,
 * step, tokens and what was accumulated are cleared, the schedule is `schedule` (NULL: as it was), what
 * is held (ewc.h) stays held. For many short runs on one model: nothing is decoded or allocated.
 * RV_ERR_INVALID: a trainer of all weights; RV_ERR_MISMATCH: other matrices; on failure nothing is
 * changed. */
rv_status rv_trainer_restart(rv_trainer *t, const rv_adapter *start, int64_t seed,
                             const rv_schedule *schedule);

const rv_trainer_options *rv_trainer_get_options(const rv_trainer *t);
const rv_arch *rv_trainer_arch(const rv_trainer *t);
const rv_hparams *rv_trainer_hparams(const rv_trainer *t);
int64_t rv_trainer_n_params(const rv_trainer *t);    /* of the model, adapters not counted */
int64_t rv_trainer_n_trained(const rv_trainer *t);   /* that an update changes */
int64_t rv_trainer_step_count(const rv_trainer *t);  /* updates done: the number of the next step */
int64_t rv_trainer_token_count(const rv_trainer *t); /* tokens seen by those updates */
size_t rv_trainer_bytes(const rv_trainer *t);        /* allocated now */
const char *rv_trainer_threads_report(const rv_trainer *t);

/* Another length of sequences, for the steps that follow (and another workspace). */
rv_status rv_trainer_set_ctx(rv_trainer *t, int64_t n_ctx);
/* Another schedule for the steps that follow. */
rv_status rv_trainer_set_schedule(rv_trainer *t, const rv_schedule *schedule);
/* Polled between pieces; a cancelled call returns RV_ERR_CANCELLED and has changed nothing. */
void rv_trainer_set_cancel(rv_trainer *t, int (*cancelled)(void *user), void *user);

typedef struct rv_train_record {
	int64_t step;         /* number of the update, from 0 */
	int64_t n_tokens;     /* of this step */
	int64_t tokens_total; /* of all steps, this one included */
	double loss;          /* what is minimised, the penalty included */
	double cross_entropy; /* nats a token; equal to loss without a teacher and penalty */
	double kl;            /* KL(teacher || student) at the temperature, nats; 0 without a teacher */
	double penalty;       /* of elastic weight consolidation (ewc.h), nats; 0 without */
	double gradient_norm; /* before clipping */
	double learning_rate;
	double seconds;     /* of accumulate and update together */
	double eta_seconds; /* to the end of the schedule, from the mean of the last steps; NaN before
	                     * the first or when the schedule has no end */
} rv_train_record;

/* Called after each update: log a loss, draw a progress bar. */
void rv_trainer_set_record(rv_trainer *t, void (*record)(void *user, const rv_train_record *r),
                           void *user);

/* tokens: [n_seqs, n_ctx + 1]: position i of a sequence predicts token i + 1. weights: [n_seqs, n_ctx]
 * weight of each prediction in the loss (>= 0), or NULL: all 1; what no weight asks for (logits, the
 * ends of filled-up sequences) is not computed. Adds the gradient to what was accumulated since the
 * last update. Memory does not depend on n_seqs. RV_ERR_INVALID names sequence and position of a token
 * outside the vocabulary or a bad weight. RV_ERR_NUMERIC: the loss is not finite, step and sequence are
 * named, what was accumulated is dropped, weights are as before. */
rv_status rv_trainer_accumulate(rv_trainer *t, const int32_t *tokens, const float *weights,
                                int64_t n_seqs);
/* One AdamW update from what was accumulated. RV_ERR_NUMERIC: a gradient is not finite, step and tensor
 * are named, nothing was changed. record may be NULL. */
rv_status rv_trainer_update(rv_trainer *t, rv_train_record *record);
/* Both. Steps of more sequences than one call holds: accumulate several times, then update. */
rv_status rv_trainer_step(rv_trainer *t, const int32_t *tokens, const float *weights, int64_t n_seqs,
                          rv_train_record *record);

/* ---- texts: a loss on pooled hidden states instead of on tokens ----
 * Texts lie one after the other in sequences of n_ctx tokens, each whole in one of them; what does not
 * belong together is kept apart by the segment token (option segments). */
typedef struct rv_train_texts {
	const int32_t *tokens; /* [n_seqs, n_ctx] */
	const int32_t *text;   /* [n_seqs, n_ctx] number of the text a token belongs to; -1: none */
	int64_t n_seqs, n_texts;
} rv_train_texts;

/* Means of the last hidden states (after the final norm) of each text: [n_texts, n_embd]. What
 * engine/embed.h computes, before the map. RV_ERR_INVALID names a token, a text outside [0, n_texts), a
 * text without tokens, or one in two sequences. */
rv_status rv_trainer_pool(rv_trainer *t, const rv_train_texts *texts, float *mean);
/* Adds the gradient of a loss, whose derivative by the means (at the present weights) is given, to what
 * was accumulated; computes the texts again, so that memory does not depend on their number. `loss`
 * stands in the record of the next rv_trainer_update; accumulated calls count alike. */
rv_status rv_trainer_accumulate_pooled(rv_trainer *t, const rv_train_texts *texts,
                                       const float *gradient, double loss);

/* Loss without a gradient. token_loss: [n_seqs, n_ctx] cross-entropy (nats) of each prediction, or
 * NULL. */
rv_status rv_trainer_evaluate(rv_trainer *t, const int32_t *tokens, const float *weights,
                              int64_t n_seqs, double *cross_entropy, float *token_loss);
/* Logits [n, n_vocab] of one sequence of n <= n_ctx tokens. */
rv_status rv_trainer_logits(rv_trainer *t, const int32_t *tokens, int64_t n, float *logits);

/* A parameter tensor, for inspection and tests: name as in GGUF (adapters: "<tensor>.lora_a"), master
 * weights [rows, cols] borrowed, valid until the destroy. */
typedef struct rv_train_tensor {
	const char *name;
	int64_t rows, cols;
	int trained;
	const float *data;
} rv_train_tensor;
int64_t rv_trainer_n_tensors(const rv_trainer *t);
rv_train_tensor rv_trainer_tensor(const rv_trainer *t, int64_t i);

/* The gradient accumulated since the last update, of tensor i (which is trained): [rows, cols], of the
 * weighted mean loss, without a penalty. */
rv_status rv_trainer_gradient(const rv_trainer *t, int64_t i, float *out);

/* Checkpoint: weights, moments, step, tokens, and `note`, bytes the caller wants back (say, where its
 * data stands); n_note may be 0. Written beside `path`, synced and renamed: a failure (disk full)
 * leaves an older file as it was. */
rv_status rv_trainer_save(const rv_trainer *t, const char *path, const void *note, size_t n_note);
/* Into a trainer created with the same shape and the same adapters; steps that follow have the same
 * bits as without the interruption. *note (rv_free'd) and *n_note may be NULL. A file that is
 * truncated, damaged or of another shape is refused by file and field, and the trainer is as before. */
rv_status rv_trainer_load(rv_trainer *t, const char *path, void **note, size_t *n_note);

typedef struct rv_train_export {
	const rv_type_info *type;      /* of matrices: F32 or F16 (NULL: F16); vectors are F32 */
	const rv_tokenizer *tokenizer; /* written into the model, NULL: none */
	const char *chat_template;     /* NULL: none */
	const char *name;              /* general.name; NULL: none */
	const float *embed_map; /* [embed_dim, n_embd] map of embeddings (engine/embed.h); NULL: none */
	int64_t embed_dim;
} rv_train_export;
/* A GGUF model, or with lora_rank > 0 a GGUF LoRA file as llama.cpp reads it (general.type "adapter").
 * Atomic as save. */
rv_status rv_trainer_export(const rv_trainer *t, const char *path, const rv_train_export *options);

#endif
