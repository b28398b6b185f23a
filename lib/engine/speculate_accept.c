/* Which token follows, and whether the draft had it. */
#include "engine/speculate_internal.h"

static int first_child(const rv_speculator *s, int parent) {
	for (int i = parent + 1; i <= s->n; i++)
		if (s->node[i].parent == parent)
			return i;
	return 0;
}

/* The target chooses as it would alone. */
static rv_status choose_plain(rv_speculator *s, rv_sampler *sampler, const float *logits, int32_t *id,
                              int *child) {
	RV_TRY(rv_sampler_next(sampler, logits, id, NULL));
	*child = 0;
	for (int i = first_child(s, s->at); i && i <= s->n && !*child; i++)
		if (s->node[i].parent == s->at && s->node[i].token == *id)
			*child = i;
	return RV_OK;
}

/* An index with probability p[i] / total, for u in [0, 1). */
static int32_t pick(const float *p, int64_t n, double total, double u) {
	double sum = 0;
	int32_t last = 0;
	for (int64_t i = 0; i < n; i++) {
		if (p[i] <= 0)
			continue;
		last = (int32_t)i;
		sum += (double)p[i];
		if (u * total < sum)
			break;
	}
	return last;
}

int32_t rv_spec_draw(rv_speculator *s, const float *p) {
	double total = 0;
	for (int64_t i = 0; i < s->n_vocab; i++)
		total += (double)p[i];
	return pick(p, s->n_vocab, total, rv_rng_double(&s->rng));
}

/* Rejection sampling of a token that was drawn from q. */
static rv_status choose_exact(rv_speculator *s, rv_sampler *sampler, const float *logits, int32_t *id,
                              int *child) {
	int node = first_child(s, s->at);
	if (!node || !s->is_drawn)
		return choose_plain(s, sampler, logits, id, child);
	const float *q = s->drawn + (s->node[node].depth - 1) * s->n_vocab;
	int32_t x = s->node[node].token;
	RV_TRY(rv_spec_probabilities(s, sampler, logits, s->p));
	*id = x;
	*child = node;
	if (rv_rng_double(&s->rng) * (double)q[x] < (double)s->p[x])
		return RV_OK;
	*child = 0;
	double rest = 0;
	for (int64_t i = 0; i < s->n_vocab; i++)
		rest += s->p[i] > q[i] ? (double)s->p[i] - (double)q[i] : 0;
	/* p = q but for rounding: nothing is left, and p is as good. */
	for (int64_t i = 0; rest > 0 && i < s->n_vocab; i++)
		s->p[i] = s->p[i] > q[i] ? s->p[i] - q[i] : 0;
	*id = rv_spec_draw(s, s->p);
	return RV_OK;
}

static rv_status choose_threshold(rv_speculator *s, rv_sampler *sampler, const float *logits,
                                  int32_t *id, int *child) {
	int node = first_child(s, s->at);
	if (node)
		RV_TRY(rv_spec_probabilities(s, sampler, logits, s->p));
	for (int i = node; i && i <= s->n; i++) {
		const rv_spec_node *c = &s->node[i];
		if (c->parent != s->at || (double)s->p[c->token] < s->options.threshold * (double)c->q)
			continue;
		*id = c->token;
		*child = i;
		return RV_OK;
	}
	*child = 0;
	return rv_sampler_next(sampler, logits, id, NULL);
}

rv_status rv_spec_choose(rv_speculator *s, rv_sampler *sampler, const float *logits, int32_t *id,
                         int *child) {
	static rv_status (*const rules[RV_SPEC_RULE_COUNT])(rv_speculator *, rv_sampler *,
	                                                    const float *, int32_t *, int *) = {
	        [RV_SPEC_THRESHOLD] = choose_threshold,
	        [RV_SPEC_EXACT] = choose_exact,
	        [RV_SPEC_GREEDY] = choose_plain,
	};
	rv_status status = rules[s->options.rule](s, sampler, logits, id, child);
	int depth = s->node[s->at].depth;
	if (status != RV_OK || !first_child(s, s->at))
		return status;
	s->stats.reached_at[depth]++;
	s->stats.accepted_at[depth] += *child != 0;
	s->stats.accepted += *child != 0;
	s->stats.rejections += *child == 0;
	return RV_OK;
}
