/* Training an embedder: batches of requests through a whole model, the loss of contrastive.h, AdamW on
 * the model, the map and the class vectors.
 *
 * The vector has two parts. The first numbers learn the classes; the last topic_dim learn, by the same
 * loss without class vectors, which texts speak of the same topic, so that what a text is about is not
 * lost. Both come from one map, the second scaled to have topic_share of a vector's squared length.
 *
 * A batch holds n_topics whole topics (each text of a topic is a hard negative of the others), then
 * n_flat texts of the sources without topics, as many of each class. It is a pure function of
 * (seed, step). One caller at a time. */
#ifndef RV_LEARN_CONTRASTIVE_TRAIN_H
#define RV_LEARN_CONTRASTIVE_TRAIN_H

#include "learn/contrastive.h"
#include "learn/request_set.h"
#include "learn/trainer.h"
#include "model/tokenizer.h"

#include <stdint.h>

typedef struct rv_contrastive_plan {
	rv_contrastive_options loss;
	rv_request_noise noise;
	int64_t n_topics, n_flat; /* of a batch */
	int64_t dim;              /* of the map; default RV_EMBED_DIM */
	int64_t topic_dim;        /* of those; default 256; 0: none */
	double topic_weight;      /* of the loss by topics, beside that by classes */
	double topic_share;       /* in [0, 1) */
	int64_t seed;
	double head_rate; /* learning rate of map and classes, times the model's */
	double average;   /* weights are averaged, each step with this share of the old mean; 0: not */
} rv_contrastive_plan;

rv_contrastive_plan rv_contrastive_defaults(void);
extern const rv_option rv_contrastive_option_table[]; /* offsets into rv_contrastive_plan */

typedef struct rv_contrastive_trainer rv_contrastive_trainer;

/* The trainer (options: segments with the end token, n_ctx at least a text), requests and tokenizer
 * outlive it. RV_ERR_INVALID: an option or an empty batch. */
rv_status rv_contrastive_trainer_create(rv_contrastive_trainer **out, rv_trainer *trainer,
                                        const rv_request_set *set, const rv_tokenizer *tokenizer,
                                        const rv_contrastive_plan *plan);
void rv_contrastive_trainer_destroy(rv_contrastive_trainer *c); /* accepts NULL */

/* One batch and update; loss and record may be NULL. */
rv_status rv_contrastive_trainer_step(rv_contrastive_trainer *c, rv_contrastive_loss *loss,
                                      rv_train_record *record);

/* At the end: replaces the weights by their average, when one is kept, and scales the map. */
void rv_contrastive_trainer_settle(rv_contrastive_trainer *c);

typedef struct rv_contrastive_score {
	double nearest;    /* share of texts whose nearest neighbour has their class */
	double neighbours; /* the same by the vote of the 10 nearest, each with weight exp(z_i z_j /
	                      0.1) */
	double classes;    /* by the nearest class vector */
} rv_contrastive_score;

/* Of the requests of `test`, none of them altered, among those of the training set's tables and first
 * max_others other requests. Classes are matched by name: RV_ERR_MISMATCH. */
rv_status rv_contrastive_trainer_score(rv_contrastive_trainer *c, const rv_request_set *test,
                                       int64_t max_others, rv_contrastive_score *out);

const float *rv_contrastive_trainer_map(const rv_contrastive_trainer *c); /* [dim, n_embd] */

#endif
