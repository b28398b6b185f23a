/* Batches of an embedder's training: topics whole, then texts class by class, altered and laid one
 * after the other into sequences. */
#include "learn/contrastive_internal.h"

#include <string.h>

#define TEXT_BYTES 2048 /* of a text in a batch; the rest is left out */
#define TEXT_TOKENS 1024

void rv_contrastive_begin(rv_contrastive_trainer *c) {
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
rv_status rv_contrastive_add(rv_contrastive_trainer *c, const char *text, size_t len, int32_t label,
                             int32_t topic, int32_t about) {
	const int64_t n_ctx = c->t->options.n_ctx, cap = n_ctx - 1;
	int32_t row[TEXT_TOKENS];
	int64_t n = 0;
	while (len) {
		const char *cut = memchr(text, RV_REQUEST_CUT, len);
		const size_t piece = cut ? (size_t)(cut - text) : len;
		RV_TRY(encode_piece(c, text, piece, row, cap < TEXT_TOKENS ? cap : TEXT_TOKENS, &n));
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
	return rv_contrastive_add(c, text, n, c->set->items[item].label, topic, exchanged ? -1 : topic);
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

rv_train_texts rv_contrastive_texts(rv_contrastive_trainer *c) {
	end_sequence(c);
	return (rv_train_texts){c->tokens, c->text, c->n_seqs, c->n};
}

rv_status rv_contrastive_draw(rv_contrastive_trainer *c, int64_t step) {
	rv_rng rng;
	rv_rng_stream(&rng, (uint64_t)c->plan.seed, 2 + (uint64_t)step);
	rv_contrastive_begin(c);
	RV_TRY(draw_topics(c, &rng));
	return draw_flat(c, &rng);
}
