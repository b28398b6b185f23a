/* The router of models, trained on how the recent requests went. */
#include "base/mem.h"
#include "learn/sona_internal.h"

#include <math.h>
#include <string.h>

enum { LEAST = 40, HELD_OUT = 5 /* one in so many */, EPOCHS = 10 };

/* The examples, oldest first; those held out behind the others. */
static int64_t take(rv_sona *s, rv_fastgrnn_example *out, int64_t *n_train) {
	pthread_mutex_lock(&s->lock);
	int64_t n = s->n_examples < RV_SONA_EXAMPLES ? s->n_examples : RV_SONA_EXAMPLES;
	int64_t first = s->n_examples - n, train = 0, held = n;
	for (int64_t i = first; i < first + n; i++)
		out[i % HELD_OUT == 0 ? --held : train++] = s->examples[i % RV_SONA_EXAMPLES];
	pthread_mutex_unlock(&s->lock);
	*n_train = train;
	return n;
}

static rv_status accuracy(const rv_fastgrnn *g, const rv_fastgrnn_example *examples, int64_t n,
                          double *out) {
	rv_fastgrnn_score score;
	RV_TRY(rv_fastgrnn_evaluate(g, examples, n, &score));
	*out = score.slot_accuracy;
	return RV_OK;
}

static rv_status train(rv_sona *s, const rv_fastgrnn_example *examples, int64_t n_train, int64_t n,
                       rv_fastgrnn **out) {
	rv_fastgrnn_options how = rv_fastgrnn_defaults();
	how.epochs = EPOCHS;
	how.seed = rv_sona_seed(s);
	RV_TRY(rv_fastgrnn_create(out, &how));
	RV_TRY(rv_fastgrnn_train(*out, examples, n_train, NULL));
	return rv_fastgrnn_calibrate(*out, examples + n_train, n - n_train);
}

/* From now on this one decides; serving reads it under the lock. */
static void adopt(rv_sona *s, rv_fastgrnn *router) {
	pthread_mutex_lock(&s->lock);
	rv_fastgrnn *old = s->state.router;
	s->state.router = router;
	s->state.router_trained = 1;
	pthread_mutex_unlock(&s->lock);
	rv_fastgrnn_destroy(old);
}

static rv_status improve(rv_sona *s, const rv_fastgrnn_example *examples, int64_t n_train, int64_t n,
                         rv_sona_part_report *r) {
	rv_fastgrnn *router = NULL;
	const rv_fastgrnn_example *held = examples + n_train;
	rv_status st = train(s, examples, n_train, n, &router);
	if (st == RV_OK && s->state.router)
		st = accuracy(s->state.router, held, n - n_train, &r->before);
	if (st == RV_OK)
		st = accuracy(router, held, n - n_train, &r->after);
	if (st != RV_OK || r->after < r->before) {
		rv_fastgrnn_destroy(router);
		if (st != RV_OK && st != RV_ERR_NUMERIC)
			return st;
		return rv_sona_say(r, RV_PART_UNDONE, "no better on %lld held out: as before",
		                   (long long)(n - n_train));
	}
	adopt(s, router);
	return rv_sona_say(r, RV_PART_DONE, "trained on %lld requests, right on %.3f of %lld held out",
	                   (long long)n_train, r->after, (long long)(n - n_train));
}

rv_status rv_sona_part_router(rv_sona_pass *p, rv_sona_part_report *r) {
	rv_sona *s = p->s;
	rv_fastgrnn_example *examples;
	int64_t n_train;
	RV_TRY(RV_ALLOC(&examples, RV_SONA_EXAMPLES, "router's examples"));
	int64_t n = take(s, examples, &n_train);
	r->n = n;
	rv_status st = n < LEAST
	                       ? rv_sona_say(r, RV_PART_NOTHING,
	                                     "%lld rated requests with vector and model: %d are needed",
	                                     (long long)n, LEAST)
	                       : improve(s, examples, n_train, n, r);
	rv_free(examples);
	return st;
}
