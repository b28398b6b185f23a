#include "engine/sampler.h"

#include "base/mem.h"

#include <math.h>

typedef struct candidate {
	float logit;
	int32_t id;
} candidate;

struct rv_sampler {
	rv_sampler_options options;
	int64_t n_vocab;
	rv_rng rng;
	candidate *heap;  /* [n_vocab] */
	candidate *kept;  /* [n_vocab] in descending order */
	int32_t *recent;  /* ring of the last repeat_last ids */
	int64_t n_recent; /* ever accepted */
	int32_t *count;   /* [n_vocab] occurrences among the recent ones */
};

rv_sampler_options rv_sampler_defaults(void) {
	return (rv_sampler_options){
	        .temperature = 0.7, .top_p = 0.9, .repeat_penalty = 1.0, .repeat_last = 64};
}

static rv_status in_bounds(const char *name, double v, double min, double max) {
	if (v >= min && v <= max)
		return RV_OK;
	return rv_fail(RV_ERR_INVALID, "sampler option %s: %g is not in [%g, %g]", name, v, min, max);
}

rv_status rv_sampler_check(const rv_sampler_options *o) {
	RV_TRY(in_bounds("temperature", o->temperature, 0, 1e3));
	RV_TRY(in_bounds("top_k", (double)o->top_k, 0, 2147483647.0));
	RV_TRY(in_bounds("top_p", o->top_p, 1e-9, 1));
	RV_TRY(in_bounds("min_p", o->min_p, 0, 1));
	RV_TRY(in_bounds("repeat_penalty", o->repeat_penalty, 1e-3, 1e3));
	return in_bounds("repeat_last", (double)o->repeat_last, 0, 1 << 20);
}

rv_status rv_sampler_create(rv_sampler **out, const rv_sampler_options *options, int64_t n_vocab) {
	rv_sampler *s;
	*out = NULL;
	RV_TRY(rv_sampler_check(options));
	if (n_vocab < 1 || n_vocab > INT32_MAX)
		return rv_fail(RV_ERR_INVALID, "sampler: vocabulary of %lld tokens",
		               (long long)n_vocab);
	RV_TRY(RV_ALLOC(&s, 1, "sampler"));
	s->options = *options;
	s->n_vocab = n_vocab;
	rv_status st = RV_ALLOC(&s->heap, n_vocab, "sampler");
	if (st == RV_OK)
		st = RV_ALLOC(&s->kept, n_vocab, "sampler");
	if (st == RV_OK)
		st = RV_ALLOC(&s->recent, options->repeat_last + 1, "sampler");
	if (st == RV_OK)
		st = RV_ALLOC(&s->count, n_vocab, "sampler");
	if (st != RV_OK) {
		rv_sampler_destroy(s);
		return st;
	}
	rv_sampler_reset(s);
	*out = s;
	return RV_OK;
}

void rv_sampler_destroy(rv_sampler *s) {
	if (!s)
		return;
	rv_free(s->heap);
	rv_free(s->kept);
	rv_free(s->recent);
	rv_free(s->count);
	rv_free(s);
}

void rv_sampler_reset(rv_sampler *s) {
	rv_rng_seed(&s->rng, s->options.seed);
	s->n_recent = 0;
	for (int64_t i = 0; i < s->n_vocab; i++)
		s->count[i] = 0;
}

void rv_sampler_accept(rv_sampler *s, int32_t id) {
	int64_t window = s->options.repeat_last;
	if (window == 0 || id < 0 || id >= s->n_vocab)
		return;
	int32_t *place = &s->recent[s->n_recent % window];
	if (s->n_recent >= window)
		s->count[*place]--;
	*place = id;
	s->count[id]++;
	s->n_recent++;
}

/* Lanes of their own first, which a compiler keeps in registers; then the place of the greatest. */
int64_t rv_argmax(const float *x, int64_t n) {
	enum { LANES = 16 };
	float most[LANES], best = -INFINITY;
	int bad[LANES] = {0}, any_bad = 0;
	int64_t i = 0;
	for (int l = 0; l < LANES; l++)
		most[l] = -INFINITY;
	for (; i + LANES <= n; i += LANES)
		for (int l = 0; l < LANES; l++) {
			most[l] = x[i + l] > most[l] ? x[i + l] : most[l];
			bad[l] |= x[i + l] != x[i + l];
		}
	for (; i < n; i++) {
		best = x[i] > best ? x[i] : best;
		any_bad |= x[i] != x[i];
	}
	for (int l = 0; l < LANES; l++) {
		best = most[l] > best ? most[l] : best;
		any_bad |= bad[l];
	}
	for (i = 0; i < n && !any_bad; i++)
		if (x[i] == best)
			return i;
	return -1;
}

double rv_logprob(const float *x, int64_t n, int64_t id) {
	float max = -INFINITY;
	for (int64_t i = 0; i < n; i++)
		max = x[i] > max ? x[i] : max;
	if (isinf(max)) /* all mass on the infinite ones, or none anywhere */
		return x[id] == max ? 0.0 : -INFINITY;
	double sum = 0;
	for (int64_t i = 0; i < n; i++)
		sum += exp((double)x[i] - (double)max);
	return (double)x[id] - (double)max - log(sum);
}

/* Higher logit first, lower id on ties. */
static int before(candidate a, candidate b) {
	return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

static void sift_down(candidate *heap, int64_t n, int64_t i) {
	candidate c = heap[i];
	for (int64_t child; (child = 2 * i + 1) < n; i = child) {
		if (child + 1 < n && before(heap[child + 1], heap[child]))
			child++;
		if (!before(heap[child], c))
			break;
		heap[i] = heap[child];
	}
	heap[i] = c;
}

/* Fills `heap` with the penalised logits; NaN is refused, +inf clipped so that it wins finitely. */
static rv_status gather(rv_sampler *s, const float *logits) {
	float penalty = (float)s->options.repeat_penalty;
	float max = -INFINITY;
	for (int64_t i = 0; i < s->n_vocab; i++) {
		float x = logits[i];
		if (isnan(x))
			return rv_fail(RV_ERR_NUMERIC, "sampler: logit of token %lld is NaN",
			               (long long)i);
		if (s->count[i])
			x = x > 0 ? x / penalty : x * penalty;
		s->heap[i] = (candidate){x, (int32_t)i};
		max = x > max ? x : max;
	}
	if (max == -INFINITY)
		return rv_fail(RV_ERR_NUMERIC, "sampler: no token has a finite logit");
	if (max == INFINITY)
		for (int64_t i = 0; i < s->n_vocab; i++)
			s->heap[i].logit = s->heap[i].logit == INFINITY ? 0.0f : -INFINITY;
	return RV_OK;
}

static candidate pop(candidate *heap, int64_t *n) {
	candidate best = heap[0];
	heap[0] = heap[--*n];
	sift_down(heap, *n, 0);
	return best;
}

/* Moves the candidates that pass top-k, top-p and min-p into `kept`, best first; returns how many (at
 * least one). A heap, because usually few of a large vocabulary stay. */
static int64_t truncate_candidates(rv_sampler *s) {
	const rv_sampler_options *o = &s->options;
	int64_t n = s->n_vocab, limit = o->top_k > 0 && o->top_k < n ? o->top_k : n;
	for (int64_t i = n / 2 - 1; i >= 0; i--)
		sift_down(s->heap, n, i);
	double max = (double)s->heap[0].logit, total = 0, mass = 0;
	int64_t popped = 0, m = 0;
	if (limit < n)
		while (popped < limit) {
			s->kept[popped] = pop(s->heap, &n);
			total += exp((double)s->kept[popped++].logit - max);
		}
	else
		for (int64_t i = 0; i < n; i++)
			total += exp((double)s->heap[i].logit - max);
	for (; m < limit; m++) {
		if (m == popped)
			s->kept[popped++] = pop(s->heap, &n);
		double p = exp((double)s->kept[m].logit - max);
		if (m > 0 && (p == 0 || p < o->min_p || (o->top_p < 1 && mass >= o->top_p * total)))
			break;
		mass += p;
	}
	return m;
}

/* The candidates that may be drawn: all in id order where none is left out, else the kept ones. */
static const candidate *eligible(rv_sampler *s, int64_t *n) {
	const rv_sampler_options *o = &s->options;
	*n = s->n_vocab;
	if (o->top_k == 0 && o->top_p >= 1 && o->min_p == 0)
		return s->heap; /* no sorting needed */
	*n = truncate_candidates(s);
	return s->kept;
}

static float highest(const candidate *c, int64_t n) {
	float max = -INFINITY;
	for (int64_t i = 0; i < n; i++)
		max = c[i].logit > max ? c[i].logit : max;
	return max;
}

/* Draws among c[0..n) at the temperature, in the order they stand. */
static int32_t draw(rv_sampler *s, const candidate *c, int64_t n) {
	double t = s->options.temperature, max = (double)highest(c, n), total = 0;
	for (int64_t i = 0; i < n; i++)
		total += exp(((double)c[i].logit - max) / t);
	double u = rv_rng_double(&s->rng) * total, sum = 0;
	int32_t last = c[0].id;
	for (int64_t i = 0; i < n; i++) {
		double p = exp(((double)c[i].logit - max) / t);
		if (p == 0)
			continue;
		last = c[i].id;
		sum += p;
		if (u < sum)
			break;
	}
	return last;
}

static int32_t best_candidate(const rv_sampler *s) {
	candidate best = s->heap[0];
	for (int64_t i = 1; i < s->n_vocab; i++)
		if (before(s->heap[i], best))
			best = s->heap[i];
	return best.id;
}

rv_status rv_sampler_next(rv_sampler *s, const float *logits, int32_t *id, double *logprob) {
	const rv_sampler_options *o = &s->options;
	if (o->temperature == 0 && o->repeat_penalty == 1 && !logprob) {
		int64_t best = rv_argmax(logits, s->n_vocab); /* no candidates to weigh */
		if (best >= 0 && logits[best] > -INFINITY) {
			*id = (int32_t)best;
			return RV_OK;
		}
	}
	RV_TRY(gather(s, logits));
	if (o->temperature == 0) {
		*id = best_candidate(s);
	} else {
		int64_t n;
		const candidate *c = eligible(s, &n);
		*id = draw(s, c, n);
	}
	if (logprob)
		*logprob = rv_logprob(logits, s->n_vocab, *id);
	return RV_OK;
}

rv_status rv_sampler_probabilities(rv_sampler *s, const float *logits, float *p) {
	double t = s->options.temperature, total = 0;
	int64_t n;
	RV_TRY(gather(s, logits));
	for (int64_t i = 0; i < s->n_vocab; i++)
		p[i] = 0;
	if (t == 0) {
		p[best_candidate(s)] = 1;
		return RV_OK;
	}
	const candidate *c = eligible(s, &n);
	double max = (double)highest(c, n);
	for (int64_t i = 0; i < n; i++) {
		double e = exp(((double)c[i].logit - max) / t);
		p[c[i].id] = (float)e;
		total += e;
	}
	for (int64_t i = 0; i < n; i++)
		p[c[i].id] /= (float)total;
	return RV_OK;
}

const rv_sampler_options *rv_sampler_get_options(const rv_sampler *s) {
	return &s->options;
}

static void count_ids(rv_sampler *s, const int32_t *ids, int64_t n, int32_t by) {
	for (int64_t i = 0; i < n; i++)
		if (ids[i] >= 0 && ids[i] < s->n_vocab)
			s->count[ids[i]] += by;
}

rv_status rv_sampler_next_for(rv_sampler *s, const rv_sampler_options *options, rv_rng *rng,
                              const int32_t *past, int64_t n_past, const float *logits, int32_t *id,
                              double *logprob) {
	const rv_sampler_options own = s->options;
	const rv_rng own_rng = s->rng;
	int64_t n_own = s->n_recent < own.repeat_last ? s->n_recent : own.repeat_last;
	int64_t n = n_past < options->repeat_last ? n_past : options->repeat_last;
	count_ids(s, s->recent, n_own, -1);
	count_ids(s, past + n_past - n, n, 1);
	s->options = *options;
	s->rng = *rng;
	rv_status st = rv_sampler_next(s, logits, id, logprob);
	*rng = s->rng;
	s->options = own;
	s->rng = own_rng;
	count_ids(s, past + n_past - n, n, -1);
	count_ids(s, s->recent, n_own, 1);
	return st;
}
