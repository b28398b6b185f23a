/* A contrastive trainer's parts. Internal to lib/learn. */
#ifndef RV_LEARN_CONTRASTIVE_INTERNAL_H
#define RV_LEARN_CONTRASTIVE_INTERNAL_H

#include "learn/contrastive_train.h"
#include "learn/trainer_internal.h"

#define RV_EMBED_TEXTS 256 /* embedded at once when scoring */

struct rv_contrastive_trainer {
	rv_trainer *t;
	const rv_request_set *set;
	rv_encoder *encoder;
	rv_contrastive_plan plan;
	rv_contrastive *loss, *topic_loss;
	int64_t n_embd, dim, max_n; /* texts of a batch */
	int64_t class_dim;          /* dim - topic_dim */
	double squares[2];          /* mean squared lengths of the parts of a vector, running */

	/* map and class vectors, one after the other, and AdamW's memory of them */
	float *head, *moment1, *moment2, *gradient;
	int64_t n_map, n_head;
	float *average; /* of the trainer's weights, then of head; NULL: none is kept */
	int64_t n_averaged;

	/* the batch */
	int32_t *tokens, *text; /* [max_seqs, n_ctx] */
	int64_t max_seqs, n_seqs, used, n;
	int32_t *label, *topic; /* [max_n] */
	int32_t *about;         /* [max_n] topic a text still speaks of; -1: none */
	float *mean, *d_mean;   /* [max_n, n_embd] */
	float *some, *d_some;   /* [max_n, n_embd] of texts that speak of a topic */
	float *vectors;         /* [max_n, dim] */
};

/* contrastive_batch.c: texts one after the other into c->tokens and c->text. */
void rv_contrastive_begin(rv_contrastive_trainer *c);
/* about: topic it still speaks of; -1: none */
rv_status rv_contrastive_add(rv_contrastive_trainer *c, const char *text, size_t len, int32_t label,
                             int32_t topic, int32_t about);
rv_train_texts rv_contrastive_texts(rv_contrastive_trainer *c);
/* The batch of a step. */
rv_status rv_contrastive_draw(rv_contrastive_trainer *c, int64_t step);

/* contrastive_train.c: vectors of n means, not yet of length 1; the numbers of topics not yet scaled.
 */
void rv_contrastive_map(const rv_contrastive_trainer *c, const float *mean, int64_t n, float *out);
/* What the numbers of topics are multiplied by. */
double rv_contrastive_topic_scale(const rv_contrastive_trainer *c);

#endif
