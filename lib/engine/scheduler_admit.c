/* Who holds a sequence: admission, giving way, ending. */
#include "base/sysinfo.h"
#include "engine/kv_pages.h"
#include "engine/scheduler_internal.h"

#include <stdio.h>

/* ---- pages ---- */

int64_t rv_scheduler_free_pages(const rv_scheduler *s) {
	const rv_kv_pages *pages = rv_context_kv_pages(s->ctx);
	rv_kv_pages_counts counts;
	if (!pages)
		return INT64_MAX;
	rv_kv_pages_count(pages, &counts);
	return counts.n_free + (s->options.prefix ? rv_prefix_cache_reclaimable(s->options.prefix) : 0);
}

/* What the running requests will take: for the tokens they have, and one page ahead, so that who is
 * admitted now need not give way at once. */
static int64_t promised_pages(const rv_scheduler *s) {
	int64_t n = 0;
	for (const request *r = s->running.first; r; r = r->next)
		n += rv_seq_pages_needed(s->ctx, r->seq, r->n_tokens - r->n_cached + s->page_size);
	return n;
}

/* ---- sequences ---- */

static void drop_kept(rv_scheduler *s, request *r) {
	rv_seq_stand_drop(s->ctx, &r->stand);
	if (!r->kept)
		return;
	s->options.swap.drop(s->options.swap.user, r->kept);
	s->stats.swapped_bytes -= r->kept_bytes;
	r->kept = NULL;
	r->n_kept = 0;
	r->kept_bytes = 0;
}

static void leave_sequence(rv_scheduler *s, request *r) {
	rv_seq_truncate(s->ctx, r->seq, 0);
	s->of_seq[r->seq] = NULL;
	s->free_seqs[s->n_free_seqs++] = r->seq;
	r->seq = -1;
	r->n_cached = 0;
	rv_queue_remove(&s->running, r);
}

void rv_scheduler_remember(rv_scheduler *s, const request *r) {
	if (s->options.prefix) /* finding no memory for it is no failure */
		(void)rv_prefix_cache_insert(s->options.prefix, r->seq, r->tokens, r->n_cached);
}

/* Puts what the request held before, or what the prefix cache has of it, into the empty sequence. */
static void begin_sequence(rv_scheduler *s, request *r, int32_t seq) {
	r->n_cached = 0;
	r->stats.n_prefix = 0;
	if (r->kept) {
		const rv_swap_ops *swap = &s->options.swap;
		if (swap->restore(swap->user, s->ctx, seq, r->ask.adapter, r->kept) != RV_OK)
			return;
		r->n_cached = r->n_kept;
		rv_seq_stand_put(s->ctx, seq, &r->stand);
	} else if (r->stand.set &&
	           r->stand.set->version != rv_context_adapter_version(s->ctx, r->ask.adapter)) {
		rv_seq_put_set(s->ctx, seq, r->stand.set, 0, 1); /* pinned to an older version */
	} else if (s->options.prefix && rv_prefix_cache_match(s->options.prefix, r->ask.adapter,
	                                                      r->tokens, r->n_tokens) > 0) {
		int64_t n = 0;
		if (rv_prefix_cache_attach(s->options.prefix, seq, r->ask.adapter, r->tokens,
		                           r->n_tokens, &n) == RV_OK)
			r->n_cached = r->stats.n_prefix = n;
	}
}

static int fits(const rv_scheduler *s, const request *r, int32_t seq) {
	int64_t need = rv_seq_pages_needed(s->ctx, seq, r->n_tokens - r->n_cached);
	if (s->running.n > 0)
		need += promised_pages(s);
	return need <= rv_scheduler_free_pages(s);
}

/* The request begins to run if there is room. What is swapped out takes all its pages at once, so they
 * are counted before; shared pages of a prefix are known only once they are attached. */
static int try_admit(rv_scheduler *s, request *r) {
	if (s->n_free_seqs == 0)
		return 0;
	int32_t seq = s->free_seqs[s->n_free_seqs - 1];
	r->n_cached = 0;
	if (r->kept && !fits(s, r, seq))
		return 0;
	begin_sequence(s, r, seq);
	if (!fits(s, r, seq)) {
		rv_seq_truncate(s->ctx, seq, 0);
		r->n_cached = 0;
		return 0;
	}
	drop_kept(s, r);
	s->n_free_seqs--;
	s->of_seq[seq] = r;
	r->seq = seq;
	r->n_before = r->n_cached > r->n_before ? r->n_cached : r->n_before;
	s->stats.prefix_tokens += r->stats.n_prefix;
	if (r->stats.admit_ns == 0) {
		r->stats.admit_ns = rv_now_ns();
		r->set_settings = s->ctx->sets.n_settings[r->ask.adapter];
	}
	rv_queue_remove(&s->waiting, r);
	rv_queue_insert(&s->running, r);
	if (s->running.n > s->stats.max_running)
		s->stats.max_running = s->running.n;
	return 1;
}

/* Does the last of the running requests give way to one that waits? Only to a higher priority: what
 * merely waited longer lets others end. */
static int gives_way(const rv_scheduler *s, const request *waiting) {
	const request *last = s->running.last;
	return last && s->options.preempt != RV_PREEMPT_NEVER &&
	       waiting->ask.priority > last->ask.priority && rv_request_before(waiting, last);
}

/* A request that gave way goes on with the adapters it began with, or what was swapped in for them, or
 * not at all. */
static int still_valid(rv_scheduler *s, request *r) {
	int32_t set = r->ask.adapter;
	if (r->stats.admit_ns == 0 || r->set_settings == s->ctx->sets.n_settings[set])
		return 1;
	rv_fail(RV_ERR_MISMATCH, "the adapters of set %d were changed in the middle of the request",
	        set);
	rv_scheduler_end(s, r, RV_ERR_MISMATCH, RV_STOP_LENGTH);
	return 0;
}

void rv_scheduler_admit(rv_scheduler *s) {
	request *r;
	while ((r = s->waiting.first)) {
		if (!still_valid(s, r) || try_admit(s, r))
			continue;
		if (gives_way(s, r)) {
			rv_scheduler_preempt(s, s->running.last);
		} else if (s->running.n == 0) {
			rv_fail(RV_ERR_LIMIT,
			        "KV pages: %lld tokens need %lld, %lld are free with nothing else "
			        "running",
			        (long long)r->n_tokens,
			        (long long)rv_seq_pages_needed(s->ctx, s->free_seqs[s->n_free_seqs - 1],
			                                       r->n_tokens),
			        (long long)rv_scheduler_free_pages(s));
			rv_scheduler_end(s, r, RV_ERR_LIMIT, RV_STOP_LENGTH);
		} else {
			return;
		}
	}
}

/* ---- giving way ---- */

static void keep_aside(rv_scheduler *s, request *r) {
	const rv_swap_ops *swap = &s->options.swap;
	size_t bytes = rv_swap_memory_bytes(s->ctx, r->n_cached), limit = s->options.swap_bytes;
	if (limit > 0 && s->stats.swapped_bytes + bytes > limit)
		return;
	if (swap->save(swap->user, s->ctx, r->seq, &r->kept) != RV_OK) {
		r->kept = NULL;
		return;
	}
	r->n_kept = r->n_cached;
	r->kept_bytes = bytes;
	r->stats.n_swapped++;
	s->stats.n_swapped++;
	s->stats.swapped_bytes += bytes;
	if (s->stats.swapped_bytes > s->stats.max_swapped_bytes)
		s->stats.max_swapped_bytes = s->stats.swapped_bytes;
}

void rv_scheduler_preempt(rv_scheduler *s, request *r) {
	if (s->options.preempt == RV_PREEMPT_SWAP && r->n_cached > 0)
		keep_aside(s, r);
	if (r->n_cached > 0 && (r->kept || s->ctx->options.pin_adapters))
		r->stand = rv_seq_stand_take(s->ctx, r->seq);
	if (!r->kept) /* what is not reclaimed until then need not be evaluated again */
		rv_scheduler_remember(s, r);
	r->stats.n_preempted++;
	s->stats.n_preempted++;
	leave_sequence(s, r);
	rv_queue_insert(&s->waiting, r);
	pthread_mutex_lock(&s->lock);
	r->info = (rv_request_info){RV_REQUEST_WAITING, -1, 0, r->stats};
	pthread_mutex_unlock(&s->lock);
}

/* ---- ending ---- */

void rv_scheduler_end(rv_scheduler *s, request *r, rv_status status, rv_stop stop) {
	r->status = status;
	r->stop = stop;
	if (status != RV_OK)
		snprintf(r->message, sizeof r->message, "%s", rv_error_message());
	r->stats.end_ns = rv_now_ns();
	int64_t *count = status == RV_OK              ? &s->stats.n_done
	                 : status == RV_ERR_CANCELLED ? &s->stats.n_cancelled
	                                              : &s->stats.n_failed;
	++*count;
	drop_kept(s, r);
	if (status == RV_OK)
		rv_scheduler_remember(s, r);
	if (r->seq >= 0)
		leave_sequence(s, r);
	else
		rv_queue_remove(&s->waiting, r);
	rv_queue_push(&s->ended, r);
}
