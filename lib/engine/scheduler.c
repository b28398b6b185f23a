/* The scheduler from outside: creation, submission, cancelling, looking up. */
#include "base/mem.h"
#include "base/sysinfo.h"
#include "engine/context_internal.h"
#include "engine/scheduler_internal.h"

#include <string.h>

const char *rv_preempt_name(rv_preempt preempt) {
	static const char *const names[] = {"recompute", "swap", "never"};
	return names[preempt];
}

rv_scheduler_options rv_scheduler_defaults(void) {
	return (rv_scheduler_options){.age_steps = 64, .preempt = RV_PREEMPT_RECOMPUTE};
}

rv_request rv_request_defaults(void) {
	return (rv_request){.max_tokens = -1, .sampling = rv_sampler_defaults()};
}

/* ---- creation ---- */

static rv_status resolve(rv_scheduler *s) {
	const rv_context_options *c = rv_context_get_options(s->ctx);
	rv_scheduler_options *o = &s->options;
	if (o->step_rows == 0)
		o->step_rows = c->n_batch;
	if (o->step_rows < 1 || o->step_rows > c->n_batch)
		return rv_fail(RV_ERR_INVALID, "scheduler: %d rows a step are not in [1, %d]",
		               o->step_rows, c->n_batch);
	if (o->prefill_rows < 0)
		return rv_fail(RV_ERR_INVALID, "scheduler: %d prompt rows a step", o->prefill_rows);
	if (o->age_steps < 0 || o->age_steps > INT32_MAX)
		return rv_fail(RV_ERR_INVALID, "scheduler: ageing of %lld steps is not in [0, %d]",
		               (long long)o->age_steps, INT32_MAX);
	if ((unsigned)o->preempt > RV_PREEMPT_NEVER)
		return rv_fail(RV_ERR_INVALID, "scheduler: unknown way to give way");
	if (!o->swap.save)
		o->swap = rv_swap_to_memory;
	s->n_ctx = c->n_ctx;
	s->n_seqs = c->n_seqs;
	s->page_size = c->page_size;
	s->n_vocab = rv_model_hparams(rv_context_model(s->ctx))->n_vocab;
	s->tok = rv_model_tokenizer(rv_context_model(s->ctx));
	return RV_OK;
}

static rv_status check_context(const rv_context *ctx) {
	if (ctx->scheduled)
		return rv_fail(RV_ERR_UNSUPPORTED, "scheduler: the context has one already");
	return ctx->n_speculators
	               ? rv_fail(RV_ERR_UNSUPPORTED, "scheduler: a sequence of the context is decoded "
	                                             "speculatively, which a scheduler does not do")
	               : RV_OK;
}

static rv_status fill(rv_scheduler *s) {
	const rv_sampler_options sampling = rv_sampler_defaults();
	RV_TRY(check_context(s->ctx));
	RV_TRY(resolve(s));
	int n_threads = rv_threads_count(s->threads);
	RV_TRY(RV_ALLOC(&s->samplers, n_threads, "scheduler"));
	for (int i = 0; i < n_threads; i++)
		RV_TRY(rv_sampler_create(&s->samplers[i], &sampling, s->n_vocab));
	RV_TRY(RV_ALLOC(&s->of_seq, s->n_seqs, "scheduler"));
	RV_TRY(RV_ALLOC(&s->free_seqs, s->n_seqs, "scheduler"));
	RV_TRY(RV_ALLOC(&s->groups, s->n_seqs, "scheduler"));
	RV_TRY(RV_ALLOC(&s->spare, s->n_seqs, "scheduler"));
	RV_TRY(RV_ALLOC(&s->rows, s->options.step_rows, "scheduler"));
	for (int32_t i = 0; i < s->n_seqs; i++) {
		RV_TRY(rv_seq_truncate(s->ctx, i, 0));
		s->free_seqs[i] = s->n_seqs - 1 - i;
	}
	s->n_free_seqs = s->n_seqs;
	return RV_OK;
}

static void release(rv_scheduler *s) {
	for (int i = 0; s->samplers && i < rv_threads_count(s->threads); i++)
		rv_sampler_destroy(s->samplers[i]);
	rv_free(s->samplers);
	rv_free(s->of_seq);
	rv_free(s->free_seqs);
	rv_free(s->groups);
	rv_free(s->spare);
	rv_free(s->rows);
	rv_free(s->table);
	rv_free(s->free_slots);
	pthread_mutex_destroy(&s->lock);
	rv_free(s);
}

rv_status rv_scheduler_create(rv_scheduler **out, rv_context *ctx,
                              const rv_scheduler_options *options) {
	rv_scheduler *s;
	*out = NULL;
	RV_TRY(RV_ALLOC(&s, 1, "scheduler"));
	s->ctx = ctx;
	s->threads = rv_context_threads(ctx);
	s->options = options ? *options : rv_scheduler_defaults();
	pthread_mutex_init(&s->lock, NULL);
	rv_status st = fill(s);
	if (st != RV_OK) {
		release(s);
		return st;
	}
	ctx->scheduled = 1;
	*out = s;
	return RV_OK;
}

void rv_scheduler_destroy(rv_scheduler *s) {
	if (!s)
		return;
	rv_scheduler_end_all(s);
	s->ctx->scheduled = 0;
	release(s);
}

/* ---- submission ---- */

static rv_status check(const rv_scheduler *s, const rv_request *q) {
	if (q->n_prompt < 1)
		return rv_fail(RV_ERR_INVALID, "empty prompt: at least one token is needed");
	if (q->n_prompt > s->n_ctx)
		return rv_fail(RV_ERR_LIMIT, "prompt of %lld tokens does not fit: context %lld",
		               (long long)q->n_prompt, (long long)s->n_ctx);
	for (int64_t i = 0; i < q->n_prompt; i++)
		if (q->prompt[i] < 0 || q->prompt[i] >= s->n_vocab)
			return rv_fail(RV_ERR_INVALID, "prompt token %lld: %d is not in [0, %lld)",
			               (long long)i, q->prompt[i], (long long)s->n_vocab);
	if (q->max_tokens < -1 || q->n_stop_tokens < 0)
		return rv_fail(RV_ERR_INVALID, "request: negative number of tokens");
	if (q->adapter < 0 || q->adapter >= RV_ADAPTER_SETS)
		return rv_fail(RV_ERR_INVALID, "set of adapters %d is not in [0, %d)", q->adapter,
		               RV_ADAPTER_SETS);
	return rv_sampler_check(&q->sampling);
}

void rv_request_free(request *r) {
	if (!r)
		return;
	rv_free(r->tokens);
	rv_free(r->token_ns);
	rv_free((void *)(uintptr_t)r->ask.stop_tokens);
	rv_free(r);
}

static rv_status copy_request(const rv_scheduler *s, request *r, const rv_request *q) {
	int64_t most = s->n_ctx - q->n_prompt + 1, n_stop = q->n_stop_tokens;
	int64_t n_new = q->max_tokens < 0 || q->max_tokens > most ? most : q->max_tokens;
	int32_t *stop_tokens;
	r->ask = *q;
	r->ask.stop_tokens = NULL;
	r->n_tokens = q->n_prompt;
	r->n_limit = q->n_prompt + n_new;
	r->seq = -1;
	rv_rng_seed(&r->rng, q->sampling.seed);
	RV_TRY(rv_alloc_uninit((void **)&r->tokens, (size_t)r->n_limit, sizeof *r->tokens, "request"));
	RV_TRY(rv_alloc_uninit((void **)&r->token_ns, (size_t)n_new, sizeof *r->token_ns, "request"));
	RV_TRY(RV_ALLOC(&stop_tokens, n_stop, "request"));
	r->ask.stop_tokens = stop_tokens;
	memcpy(r->tokens, q->prompt, (size_t)q->n_prompt * sizeof *r->tokens);
	if (n_stop > 0)
		memcpy(stop_tokens, q->stop_tokens, (size_t)n_stop * sizeof *stop_tokens);
	r->ask.prompt = r->tokens;
	r->stats.n_prompt = q->n_prompt;
	r->stats.submit_ns = rv_now_ns();
	r->info = (rv_request_info){.seq = -1, .stats = r->stats};
	return RV_OK;
}

/* A free slot of the table, under the lock. */
static rv_status take_slot(rv_scheduler *s, int64_t *slot) {
	if (s->n_free_slots == 0) {
		int64_t n = s->n_table, more = n ? 2 * n : 64;
		if (n >= (int64_t)1 << RV_REQUEST_SLOT_BITS)
			return rv_fail(RV_ERR_LIMIT, "scheduler: %lld live requests", (long long)n);
		/* two arrays: when the second fails the first is only larger than needed */
		RV_TRY(RV_GROW(&s->table, n, more, "requests"));
		RV_TRY(RV_GROW(&s->free_slots, n, more, "requests"));
		s->n_table = more;
		while (more > n)
			s->free_slots[s->n_free_slots++] = --more;
	}
	*slot = s->free_slots[--s->n_free_slots];
	return RV_OK;
}

static rv_status enter(rv_scheduler *s, request *r) {
	int64_t slot = 0;
	RV_TRY(take_slot(s, &slot));
	int64_t clock = atomic_load(&s->clock);
	r->id = ++s->n_ids << RV_REQUEST_SLOT_BITS | slot;
	r->rank = clock - (int64_t)r->ask.priority * s->options.age_steps;
	s->table[slot] = r;
	s->n_live++;
	rv_queue_push(&s->inbox, r);
	return RV_OK;
}

rv_status rv_scheduler_submit(rv_scheduler *s, const rv_request *q, rv_request_id *id) {
	request *r;
	RV_TRY(check(s, q));
	RV_TRY(RV_ALLOC(&r, 1, "request"));
	rv_status st = copy_request(s, r, q);
	if (st == RV_OK) {
		pthread_mutex_lock(&s->lock);
		st = enter(s, r);
		if (st == RV_OK)
			*id = r->id; /* it may end, and be freed, as soon as the lock is open */
		pthread_mutex_unlock(&s->lock);
	}
	if (st != RV_OK)
		rv_request_free(r);
	return st;
}

/* ---- by id ---- */

/* Under the lock; NULL when it ended or never was. */
static request *by_id(const rv_scheduler *s, rv_request_id id) {
	int64_t slot = id & (((int64_t)1 << RV_REQUEST_SLOT_BITS) - 1);
	request *r = id > 0 && slot < s->n_table ? s->table[slot] : NULL;
	return r && r->id == id ? r : NULL;
}

static rv_status unknown(rv_request_id id) {
	return rv_fail(RV_ERR_NOT_FOUND, "request %lld has ended, or was never submitted",
	               (long long)id);
}

rv_status rv_scheduler_cancel(rv_scheduler *s, rv_request_id id) {
	pthread_mutex_lock(&s->lock);
	request *r = by_id(s, id);
	if (r) {
		atomic_store(&r->cancelled, 1);
		atomic_store(&s->any_cancelled, 1);
	}
	pthread_mutex_unlock(&s->lock);
	return r ? RV_OK : unknown(id);
}

rv_status rv_scheduler_find(rv_scheduler *s, rv_request_id id, rv_request_info *out) {
	pthread_mutex_lock(&s->lock);
	const request *r = by_id(s, id);
	if (r)
		*out = r->info;
	pthread_mutex_unlock(&s->lock);
	return r ? RV_OK : unknown(id);
}

void rv_scheduler_get_stats(rv_scheduler *s, rv_scheduler_stats *out) {
	pthread_mutex_lock(&s->lock);
	*out = s->published;
	out->n_submitted = s->n_ids;
	pthread_mutex_unlock(&s->lock);
}
