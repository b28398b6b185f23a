/* Training, calibration and scores of the router of models. */
#include "base/mem.h"
#include "base/rng.h"
#include "learn/agent_linear.h"
#include "learn/agent_train.h" /* rv_calibration_error */
#include "learn/fastgrnn_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- loss ---- */

static const struct {
	int first, n;
	size_t target; /* of the int in rv_fastgrnn_decision */
} classes[] = {
        {RV_GRNN_SLOT, RV_FASTGRNN_SLOTS, offsetof(rv_fastgrnn_decision, slot)},
        {RV_GRNN_BUCKET, RV_FASTGRNN_BUCKETS, offsetof(rv_fastgrnn_decision, context_bucket)},
        {RV_GRNN_KV, RV_FASTGRNN_KV_TYPES, offsetof(rv_fastgrnn_decision, kv_type)},
        {RV_GRNN_TAIL, RV_FASTGRNN_TAILS, offsetof(rv_fastgrnn_decision, hot_tail)},
};
enum { CLASSES = sizeof classes / sizeof *classes };

static int target_of(const rv_fastgrnn_decision *d, int head) {
	int v;
	memcpy(&v, (const char *)d + classes[head].target, sizeof v);
	return v;
}

/* y becomes dLoss/dy: cross-entropies of the choices and of MicroLoRA, and of the two shares
 * (temperature / 2, top-p), whose gradient is as simple. */
static double loss_gradient(const rv_fastgrnn_decision *t, float y[RV_GRNN_OUT]) {
	const float shares[RV_GRNN_OUT] = {[RV_GRNN_LORA] = (float)t->micro_lora,
	                                   [RV_GRNN_TEMPERATURE] = t->temperature / 2,
	                                   [RV_GRNN_TOP_P] = t->top_p};
	double loss = 0;
	for (int h = 0; h < CLASSES; h++) {
		float *p = y + classes[h].first;
		rv_agent_softmax(p, classes[h].n);
		loss -= log((double)p[target_of(t, h)] + 1e-12);
		p[target_of(t, h)] -= 1;
	}
	for (int i = RV_GRNN_LORA; i < RV_GRNN_OUT; i++) {
		const double p = 1 / (1 + exp((double)-y[i]));
		loss -= (double)shares[i] * log(p + 1e-12) +
		        (1 - (double)shares[i]) * log(1 - p + 1e-12);
		y[i] = (float)p - shares[i];
	}
	return loss;
}

/* ---- training ---- */

typedef struct trainer {
	rv_fastgrnn *g;
	float *x; /* [n, segments, in] */
	float *grad, *mean, *square;
	uint8_t *mask; /* 0: a weight that was cut off */
	int64_t *order;
	rv_grnn_tape *tape;
	int64_t steps;
} trainer;

static void adam(trainer *t, double rate) {
	float *p = t->g->params;
	t->steps++;
	const double mean_bias = 1 - pow(0.9, (double)t->steps),
	             square_bias = 1 - pow(0.999, (double)t->steps);
	for (int64_t i = 0; i < t->g->layout.count; i++) {
		const float g = t->mask[i] ? t->grad[i] : 0;
		t->mean[i] = 0.9f * t->mean[i] + 0.1f * g;
		t->square[i] = 0.999f * t->square[i] + 0.001f * g * g;
		p[i] -= (float)(rate * (t->mean[i] / mean_bias) /
		                (sqrt(t->square[i] / square_bias) + 1e-8));
		if (!t->mask[i])
			p[i] = 0;
	}
}

static int by_size(const void *a, const void *b) {
	const float x = *(const float *)a, y = *(const float *)b;
	return x < y ? -1 : x > y;
}

/* Keeps the largest share of each factor of W and U. */
static rv_status cut(trainer *t, double kept) {
	const rv_grnn_layout l = t->g->layout;
	const int64_t ends[] = {l.w1, l.w2, l.u1, l.u2, l.b_z};
	float *sizes;
	RV_TRY(RV_ALLOC(&sizes, l.b_z, "sizes of weights"));
	for (int f = 0; f + 1 < (int)(sizeof ends / sizeof *ends); f++) {
		const int64_t n = ends[f + 1] - ends[f], gone = n - (int64_t)ceil(kept * (double)n);
		for (int64_t i = 0; i < n; i++)
			sizes[i] = fabsf(t->g->params[ends[f] + i]);
		qsort(sizes, (size_t)n, sizeof *sizes, by_size);
		for (int64_t i = ends[f]; gone > 0 && i < ends[f + 1]; i++)
			if (fabsf(t->g->params[i]) < sizes[gone]) {
				t->g->params[i] = 0;
				t->mask[i] = 0;
			}
	}
	rv_free(sizes);
	return RV_OK;
}

static double epoch(trainer *t, const rv_fastgrnn_example *examples, int64_t n, double from,
                    double to) {
	const rv_fastgrnn *g = t->g;
	const int64_t row = (int64_t)RV_GRNN_SEGMENTS * RV_GRNN_IN, batch = g->options.batch;
	double loss = 0;
	for (int64_t begin = 0; begin < n; begin += batch) {
		const int64_t size = n - begin < batch ? n - begin : batch;
		memset(t->grad, 0, (size_t)g->layout.count * sizeof *t->grad);
		for (int64_t k = 0; k < size; k++) {
			const int64_t i = t->order[begin + k];
			float y[RV_GRNN_OUT];
			rv_grnn_forward(&g->shape, g->params, t->x + i * row, t->tape, y);
			loss += loss_gradient(&examples[i].target, y);
			for (int j = 0; j < RV_GRNN_OUT; j++)
				y[j] /= (float)size;
			rv_grnn_backward(&g->shape, g->params, t->x + i * row, t->tape, y, t->grad);
		}
		adam(t, from + (to - from) * (double)begin / (double)n);
	}
	return loss / (double)n;
}

static int target_ok(const rv_fastgrnn_decision *t) {
	for (int h = 0; h < CLASSES; h++)
		if (target_of(t, h) < 0 || target_of(t, h) >= classes[h].n)
			return 0;
	return t->temperature >= 0 && t->temperature <= 2 && t->top_p >= 0 && t->top_p <= 1;
}

static rv_status prepare(trainer *t, const rv_fastgrnn_example *examples, int64_t n) {
	const int64_t row = (int64_t)RV_GRNN_SEGMENTS * RV_GRNN_IN, count = t->g->layout.count;
	RV_TRY(RV_ALLOC(&t->x, n * row, "inputs"));
	RV_TRY(RV_ALLOC(&t->grad, count, "gradient"));
	RV_TRY(RV_ALLOC(&t->mean, count, "gradient"));
	RV_TRY(RV_ALLOC(&t->square, count, "gradient"));
	RV_TRY(RV_ALLOC(&t->mask, count, "gradient"));
	RV_TRY(RV_ALLOC(&t->order, n, "examples"));
	RV_TRY(RV_ALLOC(&t->tape, 1, "tape"));
	memset(t->mask, 1, (size_t)count);
	for (int64_t i = 0; i < n; i++) {
		t->order[i] = i;
		if (!rv_grnn_segments(&examples[i].input, t->x + i * row) ||
		    !target_ok(&examples[i].target))
			return rv_fail(RV_ERR_NUMERIC,
			               "router of models: example %lld: a number out of range",
			               (long long)i);
	}
	return RV_OK;
}

static rv_status run(trainer *t, const rv_fastgrnn_example *examples, int64_t n, double *loss) {
	const rv_fastgrnn_options *o = &t->g->options;
	rv_rng rng;
	rv_rng_stream(&rng, o->seed, 1);
	for (int e = 0; e < o->epochs; e++) {
		for (int64_t i = n; i > 1; i--) {
			const int64_t k = (int64_t)rv_rng_below(&rng, (uint64_t)i),
			              swap = t->order[i - 1];
			t->order[i - 1] = t->order[k];
			t->order[k] = swap;
		}
		/* a half at first, so that what is left can make up for what goes */
		if (e == o->epochs / 2)
			RV_TRY(cut(t, o->kept));
		*loss = epoch(t, examples, n, o->rate * (o->epochs - e) / o->epochs,
		              o->rate * (o->epochs - e - 1) / o->epochs);
	}
	return isfinite(*loss) ? RV_OK
	                       : rv_fail(RV_ERR_NUMERIC, "router of models: the loss is not finite");
}

rv_status rv_fastgrnn_train(rv_fastgrnn *g, const rv_fastgrnn_example *examples, int64_t n,
                            double *loss) {
	trainer t = {.g = g};
	double last = 0;
	if (n < 1)
		return rv_fail(RV_ERR_INVALID, "router of models: nothing to train on");
	rv_status st = prepare(&t, examples, n);
	if (st == RV_OK)
		st = run(&t, examples, n, &last);
	if (st == RV_OK && loss)
		*loss = last;
	void *owned[] = {t.x, t.grad, t.mean, t.square, t.mask, t.order, t.tape};
	for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
		rv_free(owned[i]);
	return st;
}

/* ---- calibration and scores ---- */

static rv_status slot_loss(const rv_fastgrnn *g, const rv_fastgrnn_example *examples, int64_t n,
                           double *out) {
	rv_fastgrnn_decision d;
	*out = 0;
	for (int64_t i = 0; i < n; i++) {
		RV_TRY(rv_fastgrnn_route(g, &examples[i].input, &d));
		*out -= log((double)d.slots[examples[i].target.slot] + 1e-12);
	}
	return RV_OK;
}

rv_status rv_fastgrnn_calibrate(rv_fastgrnn *g, const rv_fastgrnn_example *examples, int64_t n) {
	/* golden section over the logarithm: the loss has one minimum */
	const double ratio = 0.6180339887498949;
	double low = log(0.05), high = log(20), left, right;
	for (int round = 0; round < 40; round++) {
		const double a = high - ratio * (high - low), b = low + ratio * (high - low);
		g->calibration = (float)exp(a);
		RV_TRY(slot_loss(g, examples, n, &left));
		g->calibration = (float)exp(b);
		RV_TRY(slot_loss(g, examples, n, &right));
		if (left < right)
			high = b;
		else
			low = a;
	}
	g->calibration = (float)exp((low + high) / 2);
	return RV_OK;
}

static void count(const rv_fastgrnn_decision *d, const rv_fastgrnn_decision *t, double w,
                  rv_fastgrnn_score *s) {
	s->slot_accuracy += w * (d->slot == t->slot);
	s->bucket_accuracy += w * (d->context_bucket == t->context_bucket);
	s->kv_accuracy += w * (d->kv_type == t->kv_type);
	s->tail_accuracy += w * (d->hot_tail == t->hot_tail);
	s->lora_accuracy += w * (d->micro_lora == t->micro_lora);
	s->temperature_error += w * pow((double)(d->temperature - t->temperature), 2);
	s->top_p_error += w * pow((double)(d->top_p - t->top_p), 2);
	for (int i = 0; i < RV_FASTGRNN_SLOTS; i++)
		s->brier += w * pow((double)d->slots[i] - (i == t->slot), 2);
}

rv_status rv_fastgrnn_evaluate(const rv_fastgrnn *g, const rv_fastgrnn_example *examples, int64_t n,
                               rv_fastgrnn_score *out) {
	rv_fastgrnn_decision d;
	rv_fastgrnn_score s = {0};
	float *sure;
	int *right = NULL;
	if (n < 1)
		return rv_fail(RV_ERR_INVALID, "router of models: nothing to score");
	RV_TRY(RV_ALLOC(&sure, n, "scores"));
	rv_status st = RV_ALLOC(&right, n, "scores");
	for (int64_t i = 0; st == RV_OK && i < n; i++) {
		st = rv_fastgrnn_route(g, &examples[i].input, &d);
		if (st != RV_OK)
			break;
		count(&d, &examples[i].target, 1 / (double)n, &s);
		sure[i] = d.confidence;
		right[i] = d.slot == examples[i].target.slot;
	}
	if (st == RV_OK) {
		s.ece = rv_calibration_error(sure, right, n);
		s.temperature_error = sqrt(s.temperature_error);
		s.top_p_error = sqrt(s.top_p_error);
		*out = s;
	}
	rv_free(sure);
	rv_free(right);
	return st;
}
