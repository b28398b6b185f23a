/* The loss of contrastive training: texts of one class near each other, those of other classes far,
 * above all where both speak of the same topic.
 *
 * The vector of a text is z = y / |y|, y = W x: x its mean hidden state (learn/trainer.h), W the map to
 * the embedding's dimension. Three parts, each a mean over the texts, weighted and added:
 *
 * InfoNCE with all texts of the same class as positives (van den Oord, Li, Vinyals 2018; Khosla et al.
 * 2020): log sum_j w_ij exp(z_i z_j / T) - mean over positives of z_i z_p / T; j runs over all other
 * texts, w_ij is hard_weight for hard negatives (same topic, other class), else 1.
 * Triplet (Schroff, Kalenichenko, Philbin 2015): max(0, margin - mean over positives of z_i z_p + z_i
 * z_n), n the nearest hard negative, or where the batch has none the nearest text of another class.
 * Classes: cross-entropy, with label smoothing, of softmax(z_i c_k / T) over learned unit vectors c_k,
 * one a class, which are not needed afterwards (Movshovitz-Attias et al. 2017).
 *
 * A text without a positive in the batch counts in the third part alone. Internal to lib/learn; element
 * type as in train_real.h. */
#ifndef RV_LEARN_CONTRASTIVE_H
#define RV_LEARN_CONTRASTIVE_H

#include "base/status.h"
#include "learn/train_real.h"

#include <stdint.h>

typedef struct rv_contrastive_options {
	double temperature; /* of InfoNCE */
	double hard_weight; /* of hard negatives in its denominator */
	double nce_weight;  /* of the parts in the loss; 0: left out */
	double triplet_weight, margin;
	double class_weight, class_temperature, class_smoothing;
} rv_contrastive_options;

/* One batch; arrays are the caller's. */
typedef struct rv_contrastive_batch {
	int64_t n, n_in, dim, n_classes; /* texts, numbers of a mean, of a vector */
	const int32_t *label;   /* [n] class, in [0, n_classes) where there are class vectors */
	const int32_t *topic;   /* [n]; -1: none */
	const rv_real *mean;    /* [n, n_in] */
	const rv_real *map;     /* [dim, n_in] */
	const rv_real *classes; /* [n_classes, dim], any length but 0 */
	rv_real *d_mean, *d_map, *d_classes; /* derivatives, written; all NULL: the loss alone */
} rv_contrastive_batch;

typedef struct rv_contrastive_loss {
	double total, nce, triplet, classes; /* the parts unweighted */
	double topics;                       /* of contrastive_train.h: a part of total, weighted */
} rv_contrastive_loss;

typedef struct rv_contrastive rv_contrastive; /* working memory */

/* For batches of at most the given sizes. */
rv_status rv_contrastive_create(rv_contrastive **out, int64_t max_n, int64_t dim, int64_t n_classes);
void rv_contrastive_destroy(rv_contrastive *c); /* accepts NULL */
rv_contrastive_loss rv_contrastive_run(rv_contrastive *c, const rv_contrastive_options *o,
                                       const rv_contrastive_batch *b);

#endif
