/* The synthetic task of fastgrnn.h: a seeded generator. */
#include "base/rng.h"
#include "learn/fastgrnn.h"

#include <math.h>

enum { FIELDS = 3 };

/* How a request's hidden numbers show in its features: the same for all seeds. */
static void show(float *query, double difficulty, int field, double length, rv_rng *noise) {
	rv_rng fixed;
	rv_rng_seed(&fixed, 0x66676e6eu);
	for (int i = 0; i < RV_FASTGRNN_QUERY; i++) {
		double v = rv_rng_normal(&fixed) * (2 * difficulty - 1) +
		           rv_rng_normal(&fixed) * (2 * length - 1);
		for (int f = 0; f < FIELDS; f++) {
			const double along = rv_rng_normal(&fixed);
			v += f == field ? along : 0;
		}
		query[i] = (float)(v + 1.2 * rv_rng_normal(noise));
	}
}

static int level(double x, int n) {
	const int i = (int)(x * n);
	return i < 0 ? 0 : i >= n ? n - 1 : i;
}

/* Draws the quickest slot that answers rightly; the chance of the likeliest one is returned. */
static double draw_slot(const rv_fastgrnn_input *in, const double right[RV_FASTGRNN_SLOTS], rv_rng *rng,
                        int *slot) {
	int order[RV_FASTGRNN_SLOTS];
	double left = 1, most = 0;
	for (int i = 0; i < RV_FASTGRNN_SLOTS; i++) {
		int k = i;
		for (; k > 0 && in->latency_ms[order[k - 1]] > in->latency_ms[i]; k--)
			order[k] = order[k - 1];
		order[k] = i;
	}
	*slot = -1;
	double chance[RV_FASTGRNN_SLOTS] = {0};
	for (int k = 0; k < RV_FASTGRNN_SLOTS; k++) {
		const int i = order[k];
		chance[i] = left * right[i];
		left *= 1 - right[i];
		if (rv_rng_double(rng) < right[i] && *slot < 0)
			*slot = i;
	}
	chance[RV_FASTGRNN_SLOTS - 1] += left;
	if (*slot < 0)
		*slot = RV_FASTGRNN_SLOTS - 1;
	for (int i = 0; i < RV_FASTGRNN_SLOTS; i++)
		most = chance[i] > most ? chance[i] : most;
	return most;
}

static double draw(rv_fastgrnn_example *e, rv_rng *rng) {
	rv_fastgrnn_input *in = &e->input;
	rv_fastgrnn_decision *t = &e->target;
	const double difficulty = rv_rng_double(rng), length = rv_rng_double(rng);
	const int field = (int)rv_rng_below(rng, FIELDS);
	double right[RV_FASTGRNN_SLOTS];
	show(in->query, difficulty, field, length, rng);
	for (int i = 0; i < RV_FASTGRNN_POLICY; i++)
		in->policy[i] = (float)(2 * rv_rng_double(rng) - 1);
	for (int i = 0; i < RV_FASTGRNN_SLOTS; i++) {
		/* how far this slot's answers have been good lately, and how quick it is just now */
		const double form = rv_rng_double(rng);
		in->success[i] = (float)form;
		in->latency_ms[i] = (float)(2 * pow(4, i) * exp(0.5 * rv_rng_normal(rng)));
		right[i] = 1 / (1 + exp(-10 * ((i + 1) * 0.25 + 0.3 * (form - 0.5) - difficulty)));
	}
	*t = (rv_fastgrnn_decision){0};
	const double most = draw_slot(in, right, rng, &t->slot);
	const double pressure = (in->policy[0] + 1) / 2,
	             care = (in->policy[1] + 1) / 2; /* of memory; for quality */
	t->context_bucket = level(length, RV_FASTGRNN_BUCKETS);
	t->kv_type = level(pressure * (1 - 0.3 * care), RV_FASTGRNN_KV_TYPES);
	t->hot_tail = level(0.5 * length + 0.5 * (1 - pressure), RV_FASTGRNN_TAILS);
	t->micro_lora = in->policy[2] > 0;
	static const float temperature[FIELDS] = {0.7f, 0.2f, 0.3f},
	                   top_p[FIELDS] = {0.9f, 0.95f, 0.85f};
	t->temperature = temperature[field];
	t->top_p = top_p[field];
	return most;
}

rv_status rv_fastgrnn_synthesize(rv_fastgrnn_example *out, int64_t n, uint64_t seed, double *bayes) {
	rv_rng rng;
	double sum = 0;
	if (n < 1)
		return rv_fail(RV_ERR_INVALID, "router of models: no examples asked for");
	rv_rng_seed(&rng, seed);
	for (int64_t i = 0; i < n; i++)
		sum += draw(&out[i], &rng);
	if (bayes)
		*bayes = sum / (double)n;
	return RV_OK;
}
