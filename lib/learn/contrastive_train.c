#include "learn/contrastive_internal.h"

#include "base/mem.h"
#include "engine/blas.h"
#include "engine/embed.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

rv_contrastive_plan rv_contrastive_defaults(void) {
	return (rv_contrastive_plan){
	        .loss = {.temperature = 0.1,
	                 .hard_weight = 2,
	                 .nce_weight = 1,
	                 .triplet_weight = 0.5,
	                 .margin = 0.3,
	                 .class_weight = 1,
	                 .class_temperature = 0.1,
	                 .class_smoothing = 0.1},
	        .noise = {.drop = 0.1, .exchange = 0.3, .lower = 0.2, .split = 0.05},
	        .n_topics = 8,
	        .n_flat = 52,
	        .dim = RV_EMBED_DIM,
	        .topic_dim = 256,
	        .topic_weight = 0.3,
	        .topic_share = 0.3,
	        .head_rate = 1};
}

#define AT(field) offsetof(rv_contrastive_plan, field)
const rv_option rv_contrastive_option_table[] = {
        {"topics", 0, RV_OPT_INT, AT(n_topics), 0, 4096, NULL, "topics", NULL,
         "of a batch, each whole"},
        {"flat", 0, RV_OPT_INT, AT(n_flat), 0, 65536, NULL, "texts", NULL,
         "of a batch, from files without topics"},
        {"dim", 0, RV_OPT_INT, AT(dim), 1, 65536, NULL, NULL, NULL, "numbers of a vector"},
        {"topic-dim", 0, RV_OPT_INT, AT(topic_dim), 0, 65535, NULL, NULL, NULL,
         "of them, for what a text is about; 0: none"},
        {"topic-weight", 0, RV_OPT_DOUBLE, AT(topic_weight), 0, 1e6, NULL, NULL, NULL,
         "weight of the loss by topics"},
        {"topic-share", 0, RV_OPT_DOUBLE, AT(topic_share), 0, 0.99, NULL, NULL, NULL,
         "share of those numbers in a vector's squared length"},
        {"data-seed", 0, RV_OPT_INT, AT(seed), 0, 9e15, NULL, NULL, NULL, "of batches and noise"},
        {"temperature", 0, RV_OPT_DOUBLE, AT(loss.temperature), 1e-3, 100, NULL, NULL, NULL,
         "of InfoNCE"},
        {"hard-weight", 0, RV_OPT_DOUBLE, AT(loss.hard_weight), 0, 1e6, NULL, NULL, NULL,
         "of texts of the same topic and another class among its negatives"},
        {"nce", 0, RV_OPT_DOUBLE, AT(loss.nce_weight), 0, 1e6, NULL, NULL, NULL,
         "weight of InfoNCE in the loss"},
        {"triplet", 0, RV_OPT_DOUBLE, AT(loss.triplet_weight), 0, 1e6, NULL, NULL, NULL,
         "weight of the triplet loss"},
        {"margin", 0, RV_OPT_DOUBLE, AT(loss.margin), 0, 2, NULL, NULL, NULL, "of triplets"},
        {"class", 0, RV_OPT_DOUBLE, AT(loss.class_weight), 0, 1e6, NULL, NULL, NULL,
         "weight of the loss by class vectors"},
        {"class-temperature", 0, RV_OPT_DOUBLE, AT(loss.class_temperature), 1e-3, 100, NULL, NULL, NULL,
         "of class vectors"},
        {"smoothing", 0, RV_OPT_DOUBLE, AT(loss.class_smoothing), 0, 1, NULL, NULL, NULL,
         "share of a label that is spread over all classes"},
        {"drop", 0, RV_OPT_DOUBLE, AT(noise.drop), 0, 1, NULL, NULL, NULL,
         "probability that a word is left out"},
        {"exchange", 0, RV_OPT_DOUBLE, AT(noise.exchange), 0, 1, NULL, NULL, NULL,
         "probability that a word of the topic becomes one of another topic"},
        {"lower", 0, RV_OPT_DOUBLE, AT(noise.lower), 0, 1, NULL, NULL, NULL,
         "probability that a text is in lower case"},
        {"split", 0, RV_OPT_DOUBLE, AT(noise.split), 0, 1, NULL, NULL, NULL,
         "probability that a word is cut in two"},
        {"head-rate", 0, RV_OPT_DOUBLE, AT(head_rate), 0, 1e3, NULL, NULL, NULL,
         "learning rate of map and class vectors, times the model's"},
        {"average", 0, RV_OPT_DOUBLE, AT(average), 0, 0.999999, NULL, NULL, NULL,
         "share of the old in the running average of weights; 0: no average"},
        {NULL, 0, RV_OPT_FLAG, 0, 0, 0, NULL, NULL, NULL, NULL}};

/* ---- making one ---- */

static rv_status first_head(rv_contrastive_trainer *c) {
	rv_rng rng;
	RV_TRY(rv_embed_fixed_map(c->head, c->dim, c->n_embd, c->n_embd, 0));
	rv_rng_stream(&rng, (uint64_t)c->plan.seed, 1);
	for (int64_t i = c->n_map; i < c->n_head; i++)
		c->head[i] = (float)(rv_rng_normal(&rng) / sqrt((double)c->class_dim));
	return RV_OK;
}

static rv_status fill(rv_contrastive_trainer *c, const rv_tokenizer *tokenizer) {
	const int64_t n_ctx = c->t->options.n_ctx, n_classes = c->set->n_classes;
	const int64_t most = c->max_n > RV_EMBED_TEXTS ? c->max_n : RV_EMBED_TEXTS;
	c->n_embd = c->t->layout.hp.n_embd;
	c->dim = c->plan.dim;
	c->class_dim = c->dim - c->plan.topic_dim;
	c->n_map = c->dim * c->n_embd;
	c->n_head = c->n_map + n_classes * c->class_dim;
	c->max_seqs = most; /* at worst one text a sequence */
	RV_TRY(rv_encoder_create(&c->encoder, tokenizer));
	RV_TRY(rv_contrastive_create(&c->loss, c->max_n, c->class_dim, n_classes));
	if (c->plan.topic_dim)
		RV_TRY(rv_contrastive_create(&c->topic_loss, c->max_n, c->plan.topic_dim, 0));
	RV_TRY(RV_ALLOC(&c->head, c->n_head, "map of embeddings"));
	RV_TRY(RV_ALLOC(&c->moment1, c->n_head, "moments"));
	RV_TRY(RV_ALLOC(&c->moment2, c->n_head, "moments"));
	RV_TRY(RV_ALLOC(&c->gradient, c->n_head, "gradients"));
	RV_TRY(RV_ALLOC(&c->tokens, c->max_seqs * n_ctx, "sequences"));
	RV_TRY(RV_ALLOC(&c->text, c->max_seqs * n_ctx, "sequences"));
	RV_TRY(RV_ALLOC(&c->label, most, "classes"));
	RV_TRY(RV_ALLOC(&c->topic, most, "topics"));
	RV_TRY(RV_ALLOC(&c->about, most, "topics"));
	RV_TRY(RV_ALLOC(&c->mean, most * c->n_embd, "means"));
	RV_TRY(RV_ALLOC(&c->some, most * c->n_embd, "means"));
	RV_TRY(RV_ALLOC(&c->d_some, most * c->n_embd, "means"));
	RV_TRY(RV_ALLOC(&c->vectors, most * c->dim, "vectors"));
	RV_TRY(RV_ALLOC(&c->d_mean, most * c->n_embd, "means"));
	if (c->plan.average > 0)
		RV_TRY(RV_ALLOC(&c->average, c->t->layout.n_elements + c->n_head, "average"));
	return first_head(c);
}

rv_status rv_contrastive_trainer_create(rv_contrastive_trainer **out, rv_trainer *trainer,
                                        const rv_request_set *set, const rv_tokenizer *tokenizer,
                                        const rv_contrastive_plan *plan) {
	rv_contrastive_trainer *c;
	int flat = 0;
	for (int32_t s = 0; s < set->n_sources; s++)
		flat += !set->source_has_topics[s];
	const int64_t n_topics = set->n_topics ? plan->n_topics : 0, n_flat = flat ? plan->n_flat : 0;
	if (!trainer->options.segments)
		return rv_fail(RV_ERR_INVALID, "training an embedder: option segments is needed");
	if (plan->topic_dim >= plan->dim)
		return rv_fail(RV_ERR_INVALID,
		               "training an embedder: %lld numbers, %lld of them for topics",
		               (long long)plan->dim, (long long)plan->topic_dim);
	if (n_topics + n_flat < 1 || set->n_classes < 2)
		return rv_fail(
		        RV_ERR_INVALID,
		        "training an embedder: %d classes, batches of %lld topics and %lld texts",
		        set->n_classes, (long long)n_topics, (long long)n_flat);
	RV_TRY(RV_ALLOC(&c, 1, "trainer of an embedder"));
	c->t = trainer;
	c->set = set;
	c->plan = *plan;
	c->plan.n_topics = n_topics;
	c->plan.n_flat = n_flat;
	c->max_n = n_topics * set->n_classes + n_flat;
	rv_status st = fill(c, tokenizer);
	if (st != RV_OK)
		rv_contrastive_trainer_destroy(c);
	else
		*out = c;
	return st;
}

void rv_contrastive_trainer_destroy(rv_contrastive_trainer *c) {
	if (!c)
		return;
	rv_encoder_destroy(c->encoder);
	rv_contrastive_destroy(c->loss);
	rv_contrastive_destroy(c->topic_loss);
	rv_free(c->head);
	rv_free(c->moment1);
	rv_free(c->moment2);
	rv_free(c->gradient);
	rv_free(c->average);
	rv_free(c->tokens);
	rv_free(c->text);
	rv_free(c->label);
	rv_free(c->topic);
	rv_free(c->about);
	rv_free(c->some);
	rv_free(c->d_some);
	rv_free(c->vectors);
	rv_free(c->mean);
	rv_free(c->d_mean);
	rv_free(c);
}

const float *rv_contrastive_trainer_map(const rv_contrastive_trainer *c) {
	return c->head;
}

/* ---- steps ---- */

static void update_head(rv_contrastive_trainer *c, int64_t step, double rate) {
	const rv_trainer_options *o = &c->t->options;
	double squares = 0;
	for (int64_t i = 0; i < c->n_head; i++)
		squares += (double)c->gradient[i] * (double)c->gradient[i];
	const double norm = sqrt(squares), n = (double)(step + 1);
	const rv_adamw_step s = {
	        .rate = (float)(rate * c->plan.head_rate),
	        .beta1 = (float)o->beta1,
	        .beta2 = (float)o->beta2,
	        .epsilon = (float)o->epsilon,
	        .scale = o->clip > 0 && norm > o->clip ? (float)(o->clip / norm) : 1,
	        .fix1 = (float)(1 / (1 - pow(o->beta1, n))),
	        .fix2 = (float)(1 / (1 - pow(o->beta2, n))),
	};
	c->t->ops->adamw(c->head, c->moment1, c->moment2, c->gradient, c->n_head, &s);
}

/* Of the first steps the average is the plain mean. */
static void average(rv_contrastive_trainer *c) {
	const int64_t n = c->t->layout.n_elements;
	const double first = 1 - 1 / (double)++c->n_averaged;
	const float old = (float)(first < c->plan.average ? first : c->plan.average);
	for (int64_t i = 0; i < n; i++)
		c->average[i] = old * c->average[i] + (1 - old) * c->t->weights[i];
	for (int64_t i = 0; i < c->n_head; i++)
		c->average[n + i] = old * c->average[n + i] + (1 - old) * c->head[i];
}

/* The loss by classes; derivatives of everything but the rows of topics. */
static rv_contrastive_loss class_loss(rv_contrastive_trainer *c) {
	const rv_contrastive_batch b = {.n = c->n,
	                                .n_in = c->n_embd,
	                                .dim = c->class_dim,
	                                .n_classes = c->set->n_classes,
	                                .label = c->label,
	                                .topic = c->topic,
	                                .mean = c->mean,
	                                .map = c->head,
	                                .classes = c->head + c->n_map,
	                                .d_mean = c->d_mean,
	                                .d_map = c->gradient,
	                                .d_classes = c->gradient + c->n_map};
	return rv_contrastive_run(c->loss, &c->plan.loss, &b);
}

/* The loss by topics, of the texts that speak of one; its derivative by their means is added. */
static double topic_loss(rv_contrastive_trainer *c) {
	const int64_t n_embd = c->n_embd, first = c->class_dim * n_embd;
	int64_t n = 0;
	memset(c->gradient + first, 0, (size_t)(c->n_map - first) * sizeof(float));
	if (!c->plan.topic_dim || !(c->plan.topic_weight > 0))
		return 0;
	for (int64_t i = 0; i < c->n; i++)
		if (c->about[i] >= 0) {
			memcpy(c->some + n * n_embd, c->mean + i * n_embd,
			       (size_t)n_embd * sizeof(float));
			c->label[n] = c->about[i]; /* no longer needed: n <= i */
			c->topic[n++] = -1;
		}
	if (n < 2)
		return 0;
	rv_contrastive_options o = c->plan.loss;
	o.class_weight = 0;
	o.nce_weight = c->plan.topic_weight;
	o.triplet_weight = 0;
	const rv_contrastive_batch b = {.n = n,
	                                .n_in = n_embd,
	                                .dim = c->plan.topic_dim,
	                                .label = c->label,
	                                .topic = c->topic,
	                                .mean = c->some,
	                                .map = c->head + first,
	                                .d_mean = c->d_some,
	                                .d_map = c->gradient + first};
	const double total = rv_contrastive_run(c->topic_loss, &o, &b).total;
	for (int64_t i = 0, k = 0; i < c->n; i++)
		if (c->about[i] >= 0) {
			for (int64_t j = 0; j < n_embd; j++)
				c->d_mean[i * n_embd + j] += c->d_some[k * n_embd + j];
			k++;
		}
	return total;
}

void rv_contrastive_map(const rv_contrastive_trainer *c, const float *mean, int64_t n, float *out) {
	rv_blas_sgemm(0, 1, n, c->dim, c->n_embd, 1, mean, c->n_embd, c->head, c->n_embd, 0, out,
	              c->dim);
}

/* Running means of the squared lengths of both parts. */
static void measure_parts(rv_contrastive_trainer *c, int64_t step) {
	double squares[2] = {0};
	rv_contrastive_map(c, c->mean, c->n, c->vectors);
	for (int64_t i = 0; i < c->n; i++)
		for (int64_t j = 0; j < c->dim; j++) {
			const double x = (double)c->vectors[i * c->dim + j];
			squares[j >= c->class_dim] += x * x / (double)c->n;
		}
	for (int k = 0; k < 2; k++)
		c->squares[k] = step == 0 ? squares[k] : 0.98 * c->squares[k] + 0.02 * squares[k];
}

double rv_contrastive_topic_scale(const rv_contrastive_trainer *c) {
	const double share = c->plan.topic_share;
	return c->squares[1] > 0 ? sqrt(share / (1 - share) * c->squares[0] / c->squares[1]) : 1;
}

void rv_contrastive_trainer_settle(rv_contrastive_trainer *c) {
	const int64_t n = c->t->layout.n_elements, first = c->class_dim * c->n_embd;
	if (c->n_averaged) {
		memcpy(c->t->weights, c->average, (size_t)n * sizeof(float));
		memcpy(c->head, c->average + n, (size_t)c->n_head * sizeof(float));
	}
	const float scale = (float)rv_contrastive_topic_scale(c);
	for (int64_t i = first; i < c->n_map; i++)
		c->head[i] *= scale;
	c->squares[1] *= (double)scale * (double)scale;
}

rv_status rv_contrastive_trainer_step(rv_contrastive_trainer *c, rv_contrastive_loss *loss,
                                      rv_train_record *record) {
	const int64_t step = rv_trainer_step_count(c->t);
	RV_TRY(rv_contrastive_draw(c, step));
	const rv_train_texts texts = rv_contrastive_texts(c);
	RV_TRY(rv_trainer_pool(c->t, &texts, c->mean));
	measure_parts(c, step);
	rv_contrastive_loss l = class_loss(c);
	l.topics = topic_loss(c);
	l.total += l.topics;
	rv_train_record r;
	RV_TRY(rv_trainer_accumulate_pooled(c->t, &texts, c->d_mean, l.total));
	RV_TRY(rv_trainer_update(c->t, &r));
	update_head(c, step, r.learning_rate);
	if (c->average)
		average(c);
	if (loss)
		*loss = l;
	if (record)
		*record = r;
	return RV_OK;
}
