/* How well vectors tell classes apart: requests that were not learnt among those that were. */
#include "base/mem.h"
#include "engine/blas.h"
#include "learn/contrastive_internal.h"

#include <math.h>
#include <string.h>

#define NEIGHBOURS 10
#define VOTE_TEMPERATURE 0.1

/* Vectors [n, dim] of length 1 of items [first, first + n), n <= RV_EMBED_TEXTS. */
static rv_status embed_some(rv_contrastive_trainer *c, const rv_request_set *set, int64_t first,
                            int64_t n, float *out) {
	rv_contrastive_begin(c);
	for (int64_t i = first; i < first + n; i++)
		RV_TRY(rv_contrastive_add(c, set->items[i].text, set->items[i].len, 0, -1, -1));
	const rv_train_texts texts = rv_contrastive_texts(c);
	RV_TRY(rv_trainer_pool(c->t, &texts, c->mean));
	const float scale = (float)rv_contrastive_topic_scale(c);
	rv_contrastive_map(c, c->mean, n, out);
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
	for (int64_t i = 0; i < n; i += RV_EMBED_TEXTS)
		RV_TRY(embed_some(c, set, i, n - i < RV_EMBED_TEXTS ? n - i : RV_EMBED_TEXTS,
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
