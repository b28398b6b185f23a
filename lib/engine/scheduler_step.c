/* One step: take in what came, evaluate a batch, sample, deliver. */
#include "base/sysinfo.h"
#include "engine/scheduler_internal.h"

#include <math.h>
#include <stdio.h>

/* ---- what came since the last step ---- */

static void take_in(rv_scheduler *s) {
	pthread_mutex_lock(&s->lock);
	queue came = s->inbox;
	s->inbox = (queue){0};
	pthread_mutex_unlock(&s->lock);
	for (request *r = came.first, *next; r; r = next) {
		next = r->next;
		rv_queue_insert(&s->waiting, r);
	}
}

static void end_cancelled(rv_scheduler *s, queue *q, int all) {
	for (request *r = q->first, *next; r; r = next) {
		next = r->next;
		if (!all && !atomic_load(&r->cancelled))
			continue;
		rv_fail(RV_ERR_CANCELLED, all ? "the scheduler was closed" : "cancelled");
		rv_scheduler_end(s, r, RV_ERR_CANCELLED, RV_STOP_CALLER);
	}
}

/* ---- owners are told ---- */

/* From here on the id is unknown. */
static void forget(rv_scheduler *s, request *r) {
	pthread_mutex_lock(&s->lock);
	int64_t slot = r->id & (((int64_t)1 << RV_REQUEST_SLOT_BITS) - 1);
	s->table[slot] = NULL;
	s->free_slots[s->n_free_slots++] = slot;
	s->n_live--;
	pthread_mutex_unlock(&s->lock);
}

static void tell_ended(rv_scheduler *s) {
	request *r;
	while ((r = s->ended.first)) {
		rv_queue_remove(&s->ended, r);
		forget(s, r);
		const rv_request_result result = {.status = r->status,
		                                  .message = r->message,
		                                  .stop = r->stop,
		                                  .tokens = r->tokens + r->ask.n_prompt,
		                                  .token_ns = r->token_ns,
		                                  .stats = r->stats};
		if (r->ask.on_done)
			r->ask.on_done(r->ask.user, r->id, &result);
		rv_request_free(r);
	}
}

static int is_end(const rv_scheduler *s, const request *r, int32_t token) {
	for (int32_t i = 0; i < r->ask.n_stop_tokens; i++)
		if (r->ask.stop_tokens[i] == token)
			return 1;
	return s->tok && !r->ask.ignore_end && rv_tokenizer_is_end(s->tok, token);
}

/* One chosen token; the order of the reasons to stop is that of rv_generate. */
static void deliver(rv_scheduler *s, const group *g) {
	request *r = g->r;
	if (atomic_load(&r->cancelled)) /* the next step ends it */
		return;
	if (is_end(s, r, g->token)) {
		rv_scheduler_end(s, r, RV_OK, RV_STOP_END);
		return;
	}
	int64_t now = rv_now_ns();
	r->token_ns[r->stats.n_generated++] = now;
	r->tokens[r->n_tokens++] = g->token;
	s->stats.n_generated++;
	if (r->stats.first_token_ns == 0)
		r->stats.first_token_ns = now;
	if (r->ask.on_token && r->ask.on_token(r->ask.user, r->id, g->token, g->logprob))
		rv_scheduler_end(s, r, RV_OK, RV_STOP_CALLER);
	else if (r->stats.n_generated == r->ask.max_tokens)
		rv_scheduler_end(s, r, RV_OK, RV_STOP_LENGTH);
	else if (r->n_tokens > s->n_ctx) /* the token chosen last has no place to be evaluated */
		rv_scheduler_end(s, r, RV_OK, RV_STOP_CONTEXT);
}

/* ---- evaluation ---- */

/* Takes over what evaluating a group brought. */
static void advance(rv_scheduler *s, group *g, int64_t eval_ns) {
	request *r = g->r;
	int64_t again = r->n_before - r->n_cached;
	r->n_cached += g->n;
	r->n_before = r->n_cached > r->n_before ? r->n_cached : r->n_before;
	r->stats.n_evaluated += g->n;
	s->stats.again_tokens += again < 0 ? 0 : again < g->n ? again : g->n;
	*(g->n > 1 ? &s->stats.prefill_tokens : &s->stats.decode_tokens) += g->n;
	if (g->n > 1)
		r->stats.prefill_ns += eval_ns;
	if (r->n_cached < r->n_tokens)
		return;
	if (r->stats.n_generated == 0)
		rv_scheduler_remember(s, r);
	if (r->ask.max_tokens == 0)
		rv_scheduler_end(s, r, RV_OK, RV_STOP_LENGTH);
	else
		g->choosing = 1;
}

typedef struct choice_job {
	const rv_scheduler *s;
	group *groups;
} choice_job;

/* A request's choice depends on its own logits, tokens and generator alone, so any thread may make it.
 */
static rv_status choose(void *arg, int64_t begin, int64_t end, int thread) {
	const choice_job *j = arg;
	for (int64_t i = begin; i < end; i++) {
		group *g = &j->groups[i];
		request *r = g->r;
		if (!g->choosing)
			continue;
		int64_t row = g->first + g->n - 1 - j->groups[0].first;
		g->logprob = NAN;
		g->status =
		        rv_sampler_next_for(j->s->samplers[thread], &r->ask.sampling, &r->rng,
		                            r->tokens, r->n_tokens, rv_context_logits(j->s->ctx, row),
		                            &g->token, r->ask.logprobs ? &g->logprob : NULL);
		if (g->status != RV_OK)
			snprintf(r->message, sizeof r->message, "%s", rv_error_message());
	}
	return RV_OK;
}

/* Groups that were evaluated together: the last logits of their requests become tokens. */
static void harvest(rv_scheduler *s, int64_t lo, int64_t hi, int64_t eval_ns) {
	choice_job job = {s, &s->groups[lo]};
	for (int64_t i = lo; i < hi; i++)
		advance(s, &s->groups[i], eval_ns);
	(void)rv_threads_for(s->threads, hi - lo, 1, choose, &job); /* choose does not fail */
	for (int64_t i = lo; i < hi; i++) {
		group *g = &s->groups[i];
		if (g->choosing && g->status != RV_OK) {
			g->choosing = 0;
			rv_fail(g->status, "%s", g->r->message);
			rv_scheduler_end(s, g->r, g->status, RV_STOP_LENGTH);
		}
	}
}

/* Evaluates groups [lo, hi). What one of them causes is found by halving, so that it ends alone. */
static rv_status evaluate(rv_scheduler *s, int64_t lo, int64_t hi) {
	const group *first = &s->groups[lo], *last = &s->groups[hi - 1];
	int64_t start = rv_now_ns();
	rv_status st =
	        rv_context_eval(s->ctx, s->rows + first->first, last->first + last->n - first->first);
	int64_t end = rv_now_ns();
	s->stats.eval_ns += end - start;
	if (st == RV_OK) {
		harvest(s, lo, hi, end - start);
		s->stats.sample_ns += rv_now_ns() - end;
		return RV_OK;
	}
	if (st == RV_ERR_CANCELLED)
		return st;
	if ((st == RV_ERR_LIMIT || st == RV_ERR_NO_MEMORY) && s->running.n > 1) {
		/* pages that were free when it was planned; someone else shares the budget */
		s->replan = 1;
		return RV_OK;
	}
	if (hi - lo == 1) {
		rv_scheduler_end(s, first->r, st, RV_STOP_LENGTH);
		return RV_OK;
	}
	int64_t mid = lo + (hi - lo) / 2;
	RV_TRY(evaluate(s, lo, mid));
	return s->replan ? RV_OK : evaluate(s, mid, hi);
}

/* Makes the state that look-ups see that of now; who gave way has told before. */
static int64_t publish(rv_scheduler *s) {
	s->stats.n_running = s->running.n;
	pthread_mutex_lock(&s->lock);
	s->stats.n_waiting = s->waiting.n + s->inbox.n;
	for (request *r = s->running.first; r; r = r->next)
		r->info = (rv_request_info){RV_REQUEST_RUNNING, r->seq, r->n_cached, r->stats};
	s->published = s->stats;
	int64_t n_live = s->n_live;
	pthread_mutex_unlock(&s->lock);
	return n_live;
}

/* Plans and evaluates until one batch went through; requests whose time has come get their token. */
static rv_status batch(rv_scheduler *s) {
	rv_status st;
	do {
		int64_t start = rv_now_ns();
		s->replan = 0;
		rv_scheduler_plan(s);
		s->stats.plan_ns += rv_now_ns() - start;
		if (s->n_groups == 0)
			return RV_OK;
		st = evaluate(s, 0, s->n_groups);
		start = rv_now_ns();
		for (int64_t i = 0; i < s->n_groups; i++)
			if (s->groups[i].choosing)
				deliver(s, &s->groups[i]);
		s->stats.deliver_ns += rv_now_ns() - start;
		if (s->replan && s->running.n > 1)
			rv_scheduler_preempt(s, s->running.last);
	} while (s->replan);
	s->stats.n_steps++;
	s->stats.running_steps += s->running.n;
	return st;
}

rv_status rv_scheduler_step(rv_scheduler *s, int64_t *n_live) {
	if (s->stepping)
		return rv_fail(RV_ERR_INVALID, "a scheduler's step within its own callback");
	s->stepping = 1;
	int64_t start = rv_now_ns();
	take_in(s);
	if (atomic_exchange(&s->any_cancelled, 0)) {
		end_cancelled(s, &s->waiting, 0);
		end_cancelled(s, &s->running, 0);
	}
	rv_scheduler_admit(s);
	s->stats.plan_ns += rv_now_ns() - start;
	rv_status st = batch(s);
	atomic_fetch_add(&s->clock, 1);
	tell_ended(s);
	int64_t n = publish(s);
	if (n_live)
		*n_live = n;
	s->stepping = 0;
	return st;
}

rv_status rv_scheduler_run(rv_scheduler *s) {
	for (int64_t n_live = 1; n_live > 0;)
		RV_TRY(rv_scheduler_step(s, &n_live));
	return RV_OK;
}

void rv_scheduler_end_all(rv_scheduler *s) {
	s->stepping = 1; /* what callbacks submit now ends too */
	do {
		take_in(s);
		end_cancelled(s, &s->waiting, 1);
		end_cancelled(s, &s->running, 1);
		tell_ended(s);
	} while (s->inbox.n > 0);
}
