#include "learn/contrastive_train.h"

#include "base/mem.h"
#include "engine/blas.h"
#include "engine/embed.h"
#include "learn/trainer_internal.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#define TEXT_BYTES 2048 /* of a text in a batch; the rest is left out */
#define NEIGHBOURS 10
#define VOTE_TEMPERATURE 0.1
#define EMBED_TEXTS 256 /* embedded at once when scoring */

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
         "probability that the words of a text's topic become some of other topics"},
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
	const int64_t most = c->max_n > EMBED_TEXTS ? c->max_n : EMBED_TEXTS;
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

/* ---- batches ---- */

static void begin_batch(rv_contrastive_trainer *c) {
	c->n = c->n_seqs = 0;
	c->used = c->t->options.n_ctx; /* of the last sequence: none is begun */
}

static void end_sequence(rv_contrastive_trainer *c) {
	const int64_t n_ctx = c->t->options.n_ctx;
	for (int64_t at = c->used; c->n_seqs && at < n_ctx; at++) {
		c->tokens[(c->n_seqs - 1) * n_ctx + at] = (int32_t)c->t->options.segment_token;
		c->text[(c->n_seqs - 1) * n_ctx + at] = -1;
	}
	c->used = n_ctx;
}

/* A piece of a text is appended to the row of ids of the present text. */
static rv_status encode_piece(rv_contrastive_trainer *c, const char *text, size_t len, int32_t *row,
                              int64_t cap, int64_t *n) {
	const int32_t *ids;
	size_t n_ids;
	RV_TRY(rv_encoder_encode(c->encoder, text, len, NULL, &ids, &n_ids));
	for (size_t i = 0; i < n_ids && *n < cap; i++)
		row[(*n)++] = ids[i];
	return RV_OK;
}

/* A text joins the batch; RV_REQUEST_CUT keeps what is before and after it apart. */
static rv_status add_text(rv_contrastive_trainer *c, const char *text, size_t len, int32_t label,
                          int32_t topic, int32_t about) {
	const int64_t n_ctx = c->t->options.n_ctx, cap = n_ctx - 1;
	int32_t row[1024];
	int64_t n = 0;
	while (len) {
		const char *cut = memchr(text, RV_REQUEST_CUT, len);
		const size_t piece = cut ? (size_t)(cut - text) : len;
		RV_TRY(encode_piece(c, text, piece, row, cap < 1024 ? cap : 1024, &n));
		text += piece + (cut != NULL);
		len -= piece + (cut != NULL);
	}
	if (n == 0)
		return rv_fail(RV_ERR_INVALID, "training an embedder: a text without tokens");
	if (c->used + n + 1 > n_ctx) {
		end_sequence(c);
		c->n_seqs++;
		c->used = 0;
	}
	int32_t *tokens = c->tokens + (c->n_seqs - 1) * n_ctx + c->used;
	int32_t *texts = c->text + (c->n_seqs - 1) * n_ctx + c->used;
	for (int64_t i = 0; i < n; i++) {
		tokens[i] = row[i];
		texts[i] = (int32_t)c->n;
	}
	tokens[n] = (int32_t)c->t->options.segment_token;
	texts[n] = -1;
	c->used += n + 1;
	c->label[c->n] = label;
	c->about[c->n] = about;
	c->topic[c->n++] = topic;
	return RV_OK;
}

static rv_status add_altered(rv_contrastive_trainer *c, int64_t item, int32_t topic, rv_rng *rng) {
	char text[TEXT_BYTES];
	int exchanged;
	const size_t n =
	        rv_request_alter(c->set, item, &c->plan.noise, rng, text, sizeof text, &exchanged);
	return add_text(c, text, n, c->set->items[item].label, topic, exchanged ? -1 : topic);
}

static rv_status draw_topics(rv_contrastive_trainer *c, rv_rng *rng) {
	for (int64_t k = 0; k < c->plan.n_topics; k++) {
		const int32_t topic = (int32_t)rv_rng_below(rng, (uint64_t)c->set->n_topics);
		for (int64_t i = c->set->topic_items[topic];
		     i < c->set->n && c->set->items[i].topic == topic; i++)
			RV_TRY(add_altered(c, i, topic, rng));
	}
	return RV_OK;
}

/* Class by class; the source at random among those that have the class. */
static rv_status draw_flat(rv_contrastive_trainer *c, rv_rng *rng) {
	const rv_request_set *set = c->set;
	for (int64_t k = 0; k < c->plan.n_flat; k++) {
		const int64_t label = k % set->n_classes;
		int64_t cells[RV_REQUEST_SOURCES_MAX], n = 0;
		for (int64_t s = 0; s < set->n_sources; s++) {
			const int64_t cell = s * set->n_classes + label;
			if (!set->source_has_topics[s] &&
			    set->class_begin[cell + 1] > set->class_begin[cell])
				cells[n++] = cell;
		}
		if (n == 0)
			continue;
		const int64_t cell = cells[rv_rng_below(rng, (uint64_t)n)];
		const uint64_t width = (uint64_t)(set->class_begin[cell + 1] - set->class_begin[cell]);
		const int64_t at = set->class_begin[cell] + (int64_t)rv_rng_below(rng, width);
		RV_TRY(add_altered(c, set->by_class[at], -1, rng));
	}
	return RV_OK;
}

static rv_train_texts batch_texts(rv_contrastive_trainer *c) {
	end_sequence(c);
	return (rv_train_texts){c->tokens, c->text, c->n_seqs, c->n};
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

/* Vectors of n means, not yet of length 1, the part of topics not yet scaled. */
static void map_means(const rv_contrastive_trainer *c, const float *mean, int64_t n, float *out) {
	rv_blas_sgemm(0, 1, n, c->dim, c->n_embd, 1, mean, c->n_embd, c->head, c->n_embd, 0, out,
	              c->dim);
}

/* Running means of the squared lengths of both parts. */
static void measure_parts(rv_contrastive_trainer *c, int64_t step) {
	double squares[2] = {0};
	map_means(c, c->mean, c->n, c->vectors);
	for (int64_t i = 0; i < c->n; i++)
		for (int64_t j = 0; j < c->dim; j++) {
			const double x = (double)c->vectors[i * c->dim + j];
			squares[j >= c->class_dim] += x * x / (double)c->n;
		}
	for (int k = 0; k < 2; k++)
		c->squares[k] = step == 0 ? squares[k] : 0.98 * c->squares[k] + 0.02 * squares[k];
}

/* What the part of topics is multiplied by. */
static double topic_scale(const rv_contrastive_trainer *c) {
	const double share = c->plan.topic_share;
	return c->squares[1] > 0 ? sqrt(share / (1 - share) * c->squares[0] / c->squares[1]) : 1;
}

void rv_contrastive_trainer_settle(rv_contrastive_trainer *c) {
	const int64_t n = c->t->layout.n_elements, first = c->class_dim * c->n_embd;
	if (c->n_averaged) {
		memcpy(c->t->weights, c->average, (size_t)n * sizeof(float));
		memcpy(c->head, c->average + n, (size_t)c->n_head * sizeof(float));
	}
	const float scale = (float)topic_scale(c);
	for (int64_t i = first; i < c->n_map; i++)
		c->head[i] *= scale;
	c->squares[1] *= (double)scale * (double)scale;
}

rv_status rv_contrastive_trainer_step(rv_contrastive_trainer *c, rv_contrastive_loss *loss,
                                      rv_train_record *record) {
	const int64_t step = rv_trainer_step_count(c->t);
	rv_rng rng;
	rv_rng_stream(&rng, (uint64_t)c->plan.seed, 2 + (uint64_t)step);
	begin_batch(c);
	RV_TRY(draw_topics(c, &rng));
	RV_TRY(draw_flat(c, &rng));
	const rv_train_texts texts = batch_texts(c);
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

/* ---- scores ---- */

/* Vectors [n, dim] of length 1 of items [first, first + n), n <= EMBED_TEXTS. */
static rv_status embed_some(rv_contrastive_trainer *c, const rv_request_set *set, int64_t first,
                            int64_t n, float *out) {
	begin_batch(c);
	for (int64_t i = first; i < first + n; i++)
		RV_TRY(add_text(c, set->items[i].text, set->items[i].len, 0, -1, -1));
	const rv_train_texts texts = batch_texts(c);
	RV_TRY(rv_trainer_pool(c->t, &texts, c->mean));
	const float scale = (float)topic_scale(c);
	map_means(c, c->mean, n, out);
	for (int64_t i = 0; i < n; i++) {
		float *x = out + i * c->dim;
		double squares = 0;
		for (int64_t j = c->class_dim; j < c->dim; j++)
			x[j] *= scale;
		for (int64_t j = 0; j < c->dim; j++)
			squares += (double)x[j] * (double)x[j];
		for (int64_t j = 0; j < c->dim; j++)
			x[j] *= (float)(1 / sqrt(squares));
	}
	return RV_OK;
}

static rv_status embed_items(rv_contrastive_trainer *c, const rv_request_set *set, int64_t n,
                             float **out) {
	RV_TRY(RV_ALLOC(out, n * c->dim, "vectors"));
	for (int64_t i = 0; i < n; i += EMBED_TEXTS)
		RV_TRY(embed_some(c, set, i, n - i < EMBED_TEXTS ? n - i : EMBED_TEXTS,
		                  *out + i * c->dim));
	return RV_OK;
}

/* Class by the nearest neighbours' votes: of one, of all. s: similarities to n items. */
static void vote(const rv_request_set *set, const float *s, int64_t n, int32_t *one, int32_t *all) {
	int64_t best[NEIGHBOURS] = {0}, found = 0;
	double votes[RV_REQUEST_CLASSES_MAX] = {0};
	for (int64_t i = 0; i < n; i++) {
		if (found == NEIGHBOURS && s[i] <= s[best[found - 1]])
			continue;
		int64_t at = found < NEIGHBOURS ? found++ : found - 1;
		for (; at > 0 && s[best[at - 1]] < s[i]; at--)
			best[at] = best[at - 1];
		best[at] = i;
	}
	*one = set->items[best[0]].label;
	*all = 0;
	for (int64_t k = 0; k < found; k++)
		votes[set->items[best[k]].label] +=
		        exp(((double)s[best[k]] - (double)s[best[0]]) / VOTE_TEMPERATURE);
	for (int32_t k = 1; k < set->n_classes; k++)
		*all = votes[k] > votes[*all] ? k : *all;
}

static int32_t nearest_class(const rv_contrastive_trainer *c, const float *z) {
	int32_t best = 0;
	double most = -INFINITY;
	for (int32_t k = 0; k < c->set->n_classes; k++) {
		const float *q = c->head + c->n_map + k * c->class_dim;
		double dot = 0, squares = 0;
		for (int64_t j = 0; j < c->class_dim; j++) {
			dot += (double)q[j] * (double)z[j];
			squares += (double)q[j] * (double)q[j];
		}
		if (dot / sqrt(squares) > most) {
			most = dot / sqrt(squares);
			best = k;
		}
	}
	return best;
}

static rv_status score(rv_contrastive_trainer *c, const rv_request_set *test, const float *known,
                       int64_t n_known, const float *asked, rv_contrastive_score *out) {
	float *s;
	int64_t right[3] = {0};
	RV_TRY(RV_ALLOC(&s, n_known, "similarities"));
	for (int64_t i = 0; i < test->n; i++) {
		const char *name = test->classes[test->items[i].label];
		const int32_t label = rv_request_class(c->set, name, strlen(name));
		const float *z = asked + i * c->dim;
		int32_t one, all;
		rv_blas_sgemm(0, 1, 1, n_known, c->dim, 1, z, c->dim, known, c->dim, 0, s, n_known);
		vote(c->set, s, n_known, &one, &all);
		right[0] += one == label;
		right[1] += all == label;
		right[2] += nearest_class(c, z) == label;
	}
	rv_free(s);
	const double n = (double)test->n;
	*out = (rv_contrastive_score){(double)right[0] / n, (double)right[1] / n, (double)right[2] / n};
	return RV_OK;
}

rv_status rv_contrastive_trainer_score(rv_contrastive_trainer *c, const rv_request_set *test,
                                       int64_t max_others, rv_contrastive_score *out) {
	int64_t n_known = 0;
	for (int64_t i = 0; i < c->set->n; i++)
		if (c->set->source_has_topics[c->set->items[i].source])
			n_known = i + 1;
	n_known += c->set->n - n_known < max_others ? c->set->n - n_known : max_others;
	for (int32_t k = 0; k < test->n_classes; k++)
		if (rv_request_class(c->set, test->classes[k], strlen(test->classes[k])) < 0)
			return rv_fail(RV_ERR_MISMATCH, "class '%s' is not among those trained",
			               test->classes[k]);
	float *known = NULL, *asked = NULL;
	rv_status st = embed_items(c, c->set, n_known, &known);
	if (st == RV_OK)
		st = embed_items(c, test, test->n, &asked);
	if (st == RV_OK)
		st = score(c, test, known, n_known, asked, out);
	rv_free(known);
	rv_free(asked);
	return st;
}
