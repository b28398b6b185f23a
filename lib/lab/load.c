#include "lab/load.h"

#include "base/mem.h"
#include "base/sysinfo.h"
#include "lab/stats.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef struct series {
	double *x;
	size_t n, room;
} series;

/* A request under way. */
typedef struct visit {
	rv_load *load;
	rv_request_id id;
	int64_t due_ns, last_ns; /* of its last token; 0: none yet */
	int32_t next_free;
} visit;

struct rv_load {
	rv_scheduler *s;
	rv_load_options options;
	int64_t n_vocab;
	int32_t *prompt; /* [prompt.most] */
	visit *visits;   /* [n_users] */
	int32_t free;    /* of the open loop; -1: none */
	uint64_t n_requests;
	rv_rng arrivals;
	int64_t due_ns;                /* next arrival of the open loop */
	int64_t stopped_ns, paused_ns; /* when the last window ended; all pauses */
	int closing;
	series first, gap, answer;
	int64_t n_done;
	rv_status status; /* the first failure of a callback */
	char message[256];
};

int64_t rv_length_draw(const rv_length_mix *mix, rv_rng *rng) {
	double n = round(mix->median * exp(mix->sigma * rv_rng_normal(rng)));
	return n < 1 ? 1 : n > (double)mix->most ? mix->most : (int64_t)n;
}

static int64_t now_ns(const rv_load *l) {
	return rv_now_ns() - l->paused_ns;
}

static void fail(rv_load *l, rv_status status, const char *message) {
	if (l->status != RV_OK)
		return;
	l->status = status;
	snprintf(l->message, sizeof l->message, "%s", message);
}

static void add(rv_load *l, series *s, int64_t ns) {
	if (s->n == s->room) {
		size_t room = s->room ? 2 * s->room : 1024;
		rv_status status = RV_GROW(&s->x, s->room, room, "samples");
		if (status != RV_OK) {
			fail(l, status, rv_error_message());
			return;
		}
		s->room = room;
	}
	s->x[s->n++] = (double)ns * 1e-9;
}

/* ---- requests ---- */

static rv_status submit(rv_load *l, visit *v, int64_t due_ns);

static int on_token(void *user, rv_request_id id, int32_t token, double logprob) {
	(void)id, (void)token, (void)logprob;
	visit *v = user;
	rv_load *l = v->load;
	int64_t now = now_ns(l);
	if (v->last_ns == 0)
		add(l, &l->first, now - v->due_ns);
	else
		add(l, &l->gap, now - v->last_ns);
	v->last_ns = now;
	return 0;
}

static void on_done(void *user, rv_request_id id, const rv_request_result *result) {
	(void)id;
	visit *v = user;
	rv_load *l = v->load;
	if (l->closing)
		return;
	if (result->status != RV_OK) {
		fail(l, result->status, result->message);
		return;
	}
	l->n_done++;
	add(l, &l->answer, v->last_ns - v->due_ns);
	if (l->options.rate_per_s > 0) {
		v->next_free = l->free;
		l->free = (int32_t)(v - l->visits);
	} else {
		rv_status status = submit(l, v, now_ns(l));
		if (status != RV_OK)
			fail(l, status, rv_error_message());
	}
}

/* The next request of the seed. */
static rv_status submit(rv_load *l, visit *v, int64_t due_ns) {
	const rv_load_options *o = &l->options;
	rv_request q = rv_request_defaults();
	rv_rng rng;
	rv_rng_stream(&rng, o->seed, l->n_requests);
	q.prompt = l->prompt;
	q.n_prompt = rv_length_draw(&o->prompt, &rng);
	q.max_tokens = rv_length_draw(&o->answer, &rng);
	if (o->rate_per_s <= 0 && l->n_requests < (uint64_t)o->n_users)
		q.max_tokens = 1 + (int64_t)rv_rng_below(&rng, (uint64_t)q.max_tokens);
	for (int64_t i = 0; i < q.n_prompt; i++)
		l->prompt[i] = (int32_t)rv_rng_below(&rng, (uint64_t)l->n_vocab);
	q.sampling.seed = rv_rng_u64(&rng);
	q.ignore_end = 1; /* lengths are the load's */
	q.on_token = on_token;
	q.on_done = on_done;
	q.user = v;
	l->n_requests++;
	*v = (visit){.load = l, .due_ns = due_ns};
	return rv_scheduler_submit(l->s, &q, &v->id);
}

rv_request_id rv_load_request(const rv_load *l, int32_t user) {
	return l->visits[user].id;
}

/* ---- arrivals of the open loop ---- */

static void next_arrival(rv_load *l) {
	double gap_s = -log1p(-rv_rng_double(&l->arrivals)) / l->options.rate_per_s;
	l->due_ns += (int64_t)(gap_s * 1e9);
}

static rv_status submit_due(rv_load *l) {
	while (l->due_ns <= now_ns(l)) {
		if (l->free < 0)
			return rv_fail(RV_ERR_LIMIT,
			               "open loop: more than %d requests under way: %g a second are "
			               "not answered",
			               l->options.n_users, l->options.rate_per_s);
		visit *v = &l->visits[l->free];
		l->free = v->next_free;
		RV_TRY(submit(l, v, l->due_ns));
		next_arrival(l);
	}
	return RV_OK;
}

static void wait_until(const rv_load *l, int64_t at_ns) {
	int64_t ns = at_ns - now_ns(l);
	const struct timespec t = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
	if (ns > 0)
		nanosleep(&t, NULL);
}

/* ---- life ---- */

static rv_status open_load(rv_load *l, const rv_context *ctx) {
	rv_load_options *o = &l->options;
	int64_t n_ctx = rv_context_get_options(ctx)->n_ctx;
	l->n_vocab = rv_model_hparams(rv_context_model(ctx))->n_vocab;
	if (o->n_users < 1 || o->prompt.most < 1 || o->answer.most < 1 || !(o->prompt.median > 0) ||
	    !(o->answer.median > 0) || o->prompt.most > n_ctx - o->answer.most + 1)
		return rv_fail(RV_ERR_INVALID,
		               "load of %d users, prompts of at most %lld, answers of %lld tokens: "
		               "context %lld",
		               o->n_users, (long long)o->prompt.most, (long long)o->answer.most,
		               (long long)n_ctx);
	RV_TRY(RV_ALLOC(&l->prompt, o->prompt.most, "load"));
	RV_TRY(RV_ALLOC(&l->visits, o->n_users, "load"));
	rv_rng_stream(&l->arrivals, o->seed, UINT64_MAX);
	l->stopped_ns = rv_now_ns();
	l->due_ns = now_ns(l);
	l->free = -1;
	for (int32_t i = o->n_users - 1; i >= 0; i--) {
		l->visits[i].next_free = l->free;
		l->free = i;
	}
	if (o->rate_per_s > 0)
		next_arrival(l);
	else
		for (int32_t i = 0; i < o->n_users; i++)
			RV_TRY(submit(l, &l->visits[i], l->due_ns));
	return RV_OK;
}

/* Requests that a step has not reached yet are still under way when their memory goes: told first. */
static void cancel_all(rv_load *l) {
	int64_t n_live = 0;
	l->closing = 1;
	for (int32_t i = 0; l->visits && i < l->options.n_users; i++)
		if (l->visits[i].id)
			(void)rv_scheduler_cancel(l->s, l->visits[i].id); /* or it has ended */
	(void)rv_scheduler_step(l->s, &n_live);
}

void rv_load_destroy(rv_load *l) {
	if (!l)
		return;
	cancel_all(l);
	rv_free(l->prompt);
	rv_free(l->visits);
	rv_free(l->first.x);
	rv_free(l->gap.x);
	rv_free(l->answer.x);
	rv_free(l);
}

rv_status rv_load_create(rv_load **out, rv_scheduler *s, const rv_context *ctx,
                         const rv_load_options *options) {
	rv_load *l;
	*out = NULL;
	RV_TRY(RV_ALLOC(&l, 1, "load"));
	l->s = s;
	l->options = *options;
	rv_status status = open_load(l, ctx);
	if (status != RV_OK) {
		rv_load_destroy(l);
		return status;
	}
	*out = l;
	return RV_OK;
}

/* ---- a window ---- */

static int ascending(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void percentiles(series *s, double out[RV_PERCENTILES]) {
	static const double q[RV_PERCENTILES] = {0.50, 0.95, 0.99};
	if (s->n > 0)
		qsort(s->x, s->n, sizeof *s->x, ascending);
	for (int i = 0; i < RV_PERCENTILES; i++)
		out[i] = s->n > 0 ? rv_quantile(s->x, s->n, q[i]) : NAN;
}

static rv_status one_step(rv_load *l, int64_t end_ns, int64_t *n_live) {
	if (l->options.rate_per_s > 0) {
		RV_TRY(submit_due(l));
		if (*n_live == 0 && l->due_ns > now_ns(l)) {
			wait_until(l, l->due_ns < end_ns ? l->due_ns : end_ns);
			RV_TRY(submit_due(l));
		}
	}
	RV_TRY(rv_scheduler_step(l->s, n_live));
	return l->status == RV_OK ? RV_OK : rv_fail(l->status, "%s", l->message);
}

rv_status rv_load_run(rv_load *l, double at_least_s, int64_t at_least_steps, rv_load_window *out) {
	rv_scheduler_stats before, after;
	int64_t n_live = 0, live = 0, n_steps = 0;
	rv_scheduler_get_stats(l->s, &before);
	l->paused_ns += rv_now_ns() - l->stopped_ns;
	l->n_done = 0;
	l->first.n = l->gap.n = l->answer.n = 0;
	n_live = before.n_running + before.n_waiting;
	int64_t start = now_ns(l), end = start + (int64_t)(at_least_s * 1e9);
	rv_status status = RV_OK;
	while (status == RV_OK && (n_steps < at_least_steps || now_ns(l) < end)) {
		status = one_step(l, end, &n_live);
		live += n_live;
		n_steps++;
	}
	double seconds = (double)(now_ns(l) - start) * 1e-9;
	l->stopped_ns = rv_now_ns();
	RV_TRY(status);
	rv_scheduler_get_stats(l->s, &after);
	*out = (rv_load_window){.seconds = seconds,
	                        .n_steps = after.n_steps - before.n_steps,
	                        .n_rows = after.prefill_tokens + after.decode_tokens -
	                                  before.prefill_tokens - before.decode_tokens,
	                        .n_tokens = after.n_generated - before.n_generated,
	                        .n_done = l->n_done,
	                        .eval_s = 1e-9 * (double)(after.eval_ns - before.eval_ns),
	                        .sample_s = 1e-9 * (double)(after.sample_ns - before.sample_ns),
	                        .mean_live = n_steps > 0 ? (double)live / (double)n_steps : NAN};
	out->mean_running = (double)(after.running_steps - before.running_steps) /
	                    (double)(out->n_steps > 0 ? out->n_steps : 1);
	percentiles(&l->first, out->first);
	percentiles(&l->gap, out->gap);
	percentiles(&l->answer, out->answer);
	return RV_OK;
}
