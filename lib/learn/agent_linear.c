#include "learn/agent_linear.h"

#include "base/mem.h"
#include "base/rng.h"

#include <math.h>
#include <string.h>

static const struct {
	int first, n;
} heads[] = {{RV_LINEAR_AGENT, RV_AGENTS},
             {RV_LINEAR_COMPLEXITY, RV_AGENT_LEVELS},
             {RV_LINEAR_AMBIGUOUS, 2}};
enum { HEADS = sizeof heads / sizeof *heads };

rv_linear_options rv_linear_defaults(void) {
	return (rv_linear_options){
	        .epochs = 30, .rate = 0.08, .l2 = 1e-6, .drop = 0.75, .smoothing = 0.05};
}

void rv_agent_linear_free(rv_agent_linear *m) {
	rv_free(m->weights);
	memset(m, 0, sizeof *m);
}

void rv_agent_softmax(float *x, int n) {
	float most = x[0], sum = 0;
	for (int i = 1; i < n; i++)
		most = x[i] > most ? x[i] : most;
	for (int i = 0; i < n; i++)
		sum += x[i] = expf(x[i] - most);
	for (int i = 0; i < n; i++)
		x[i] /= sum;
}

static void score(const float *weights, const float *bias, const rv_agent_feature *f, int64_t n,
                  float *out) {
	memcpy(out, bias, RV_LINEAR_OUT * sizeof *out);
	for (int64_t i = 0; i < n; i++) {
		const float *w = weights + (size_t)f[i].bucket * RV_LINEAR_OUT, v = f[i].value;
		for (int k = 0; k < RV_LINEAR_OUT; k++)
			out[k] += v * w[k];
	}
}

void rv_agent_linear_score(const rv_agent_linear *m, const rv_agent_features *f,
                           float logits[RV_LINEAR_OUT]) {
	score(m->weights, m->bias, f->items, f->n, logits);
}

/* ---- training ---- */

typedef struct trainer {
	const rv_linear_options *o;
	const rv_agent_data *data;
	rv_agent_feature *features, *kept; /* of all examples; of one, after dropping */
	int64_t *begin;                    /* [n + 1] */
	int64_t *order;
	float *w, *square, *mean; /* weights, AdaGrad's sums, the average */
	float bias[RV_LINEAR_OUT], bias_square[RV_LINEAR_OUT];
	rv_rng rng;
} trainer;

static rv_status read_features(trainer *t, const rv_agent_lexicon *lexicon) {
	rv_agent_features *f;
	rv_agent_text text;
	rv_agent_hit hits[RV_LEXICON_HITS_MAX];
	int64_t n = 0, cap = 0;
	rv_status st = RV_OK;
	RV_TRY(RV_ALLOC(&f, 1, "features"));
	for (int64_t i = 0; i < t->data->n && st == RV_OK; i++) {
		rv_agent_text_read(&text, t->data->items[i].text, t->data->items[i].len);
		rv_agent_features_read(f, &text, hits, rv_agent_lexicon_match(lexicon, &text, hits),
		                       t->o->kind_weights);
		if (n + f->n > cap) {
			const int64_t more = 2 * cap + RV_AGENT_FEATURES_MAX;
			st = RV_GROW(&t->features, cap, more, "features");
			cap = more;
		}
		if (st == RV_OK)
			memcpy(t->features + n, f->items, (size_t)f->n * sizeof *f->items);
		t->begin[i] = n;
		n += f->n;
	}
	t->begin[t->data->n] = n;
	rv_free(f);
	return st;
}

/* Gradient of the heads whose label is known; returns 0 when none is. */
static int gradient(const trainer *t, const rv_agent_example *e, float g[RV_LINEAR_OUT]) {
	const int label[HEADS] = {e->agent, e->complexity, e->ambiguous};
	const float smooth = (float)t->o->smoothing;
	for (int h = 0; h < HEADS; h++) {
		float *x = g + heads[h].first;
		if (label[h] < 0) {
			memset(x, 0, (size_t)heads[h].n * sizeof *x);
			continue;
		}
		rv_agent_softmax(x, heads[h].n);
		for (int k = 0; k < heads[h].n; k++)
			x[k] -= smooth / (float)heads[h].n + (k == label[h] ? 1 - smooth : 0);
	}
	return 1;
}

static void step(trainer *t, const rv_agent_example *e, int64_t i) {
	const float rate = (float)t->o->rate, l2 = (float)t->o->l2;
	const float weight = (float)t->o->source_weight[(int)e->source];
	const float keep = 1 / (1 - (float)t->o->drop);
	float g[RV_LINEAR_OUT];
	int64_t n = 0;
	for (int64_t k = t->begin[i]; k < t->begin[i + 1]; k++)
		if (rv_rng_float(&t->rng) >= (float)t->o->drop) {
			t->kept[n] = t->features[k];
			t->kept[n++].value *= keep;
		}
	score(t->w, t->bias, t->kept, n, g);
	gradient(t, e, g);
	for (int k = 0; k < RV_LINEAR_OUT; k++) {
		g[k] *= weight;
		t->bias_square[k] += g[k] * g[k];
		t->bias[k] -= rate * 0.1f * g[k] / sqrtf(t->bias_square[k] + 1e-6f);
	}
	for (int64_t j = 0; j < n; j++) {
		float *w = t->w + (size_t)t->kept[j].bucket * RV_LINEAR_OUT;
		float *s = t->square + (size_t)t->kept[j].bucket * RV_LINEAR_OUT;
		const float v = t->kept[j].value;
		for (int k = 0; k < RV_LINEAR_OUT; k++) {
			const float d = g[k] * v + l2 * w[k];
			s[k] += d * d;
			w[k] -= rate * d / (sqrtf(s[k]) + 1e-3f);
		}
	}
}

static void shuffle(trainer *t, int64_t n) {
	for (int64_t i = n; i > 1; i--) {
		const int64_t k = (int64_t)rv_rng_below(&t->rng, (uint64_t)i), swap = t->order[i - 1];
		t->order[i - 1] = t->order[k];
		t->order[k] = swap;
	}
}

static void run(trainer *t, int64_t n) {
	const size_t count = (size_t)RV_AGENT_BUCKETS * RV_LINEAR_OUT;
	const int from = t->o->epochs / 2;
	int averaged = 0;
	for (int epoch = 0; epoch < t->o->epochs; epoch++) {
		shuffle(t, n);
		for (int64_t i = 0; i < n; i++)
			step(t, &t->data->items[t->order[i]], t->order[i]);
		if (epoch < from)
			continue;
		averaged++;
		for (size_t i = 0; i < count; i++)
			t->mean[i] += (t->w[i] - t->mean[i]) / (float)averaged;
	}
}

static rv_status create(trainer *t, const rv_agent_lexicon *lexicon) {
	const size_t count = (size_t)RV_AGENT_BUCKETS * RV_LINEAR_OUT;
	RV_TRY(RV_ALLOC(&t->begin, t->data->n + 1, "examples"));
	RV_TRY(RV_ALLOC(&t->order, t->data->n, "examples"));
	RV_TRY(RV_ALLOC(&t->kept, RV_AGENT_FEATURES_MAX, "features"));
	RV_TRY(RV_ALLOC(&t->w, count, "weights"));
	RV_TRY(RV_ALLOC(&t->square, count, "weights"));
	RV_TRY(RV_ALLOC(&t->mean, count, "weights"));
	return read_features(t, lexicon);
}

rv_status rv_agent_linear_train(rv_agent_linear *out, const rv_agent_lexicon *lexicon,
                                const rv_agent_data *data, const rv_linear_options *o) {
	trainer t = {.o = o, .data = data};
	int64_t n = 0;
	rv_rng_seed(&t.rng, o->seed);
	rv_status st = create(&t, lexicon);
	for (int64_t i = 0; st == RV_OK && i < data->n; i++)
		if (o->source_weight[(int)data->items[i].source] > 0)
			t.order[n++] = i;
	if (st == RV_OK && n == 0)
		st = rv_fail(RV_ERR_INVALID, "linear classifier: nothing to train on");
	if (st == RV_OK) {
		run(&t, n);
		out->weights = t.mean;
		memcpy(out->bias, t.bias, sizeof out->bias);
		t.mean = NULL;
	}
	void *owned[] = {t.features, t.kept, t.begin, t.order, t.w, t.square, t.mean};
	for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
		rv_free(owned[i]);
	return st;
}
