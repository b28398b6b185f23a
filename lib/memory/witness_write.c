/* The thread that writes what waits: when 100 do, when the oldest is due, when somebody asks. */
#include "base/mem.h"
#include "base/sysinfo.h"
#include "memory/witness_archive.h"
#include "memory/witness_internal.h"

#include <stdio.h>
#include <time.h>

#define MS INT64_C(1000000) /* ns */
#define RETIRE_EVERY_MS INT64_C(3600000)

typedef struct batch {
	rv_witness *w;
	const rv_witness_item *first;
	int64_t n;
	rv_witness_chain chain; /* as it is after the batch */
} batch;

static rv_status write_batch(void *user, rv_db *db) {
	batch *b = user;
	const rv_witness_item *item = b->first;
	/* the last one's `next` is not the batch's: an append may be setting it */
	for (int64_t i = 0; i < b->n; i++, item = i < b->n ? item->next : NULL)
		RV_TRY(rv_witness_chain_add(db, &b->chain, item->values));
	return rv_witness_chain_write(b->w->store, db, &b->chain);
}

static rv_status commit(rv_witness *w, const rv_witness_item *first, int64_t n, int64_t dropped) {
	pthread_mutex_lock(&w->chain_lock);
	batch b = {.w = w, .first = first, .n = n, .chain = w->chain};
	b.chain.dropped = dropped;
	rv_status st = rv_store_write(w->store, write_batch, NULL, &b);
	if (st == RV_OK)
		w->chain = b.chain;
	pthread_mutex_unlock(&w->chain_lock);
	return st;
}

/* Under the lock: when the next attempt is to be made, INT64_MAX: nothing waits. */
static int64_t due_ns(const rv_witness *w) {
	if (w->n_queued == 0)
		return INT64_MAX;
	if (w->wanted > w->n_committed)
		return 0;
	int64_t due = w->n_queued >= w->options.batch
	                      ? 0
	                      : w->head->queued_ns + w->options.batch_ms * 3 / 4 * MS;
	return due > w->retry_ns ? due : w->retry_ns;
}

/* Under the lock: 1 when there is work, 0 when the log closes. */
static int wait_for_work(rv_witness *w) {
	while (!w->stopping) {
		int64_t due = due_ns(w);
		if (due <= rv_now_ns())
			return 1;
		if (due == INT64_MAX) {
			pthread_cond_wait(&w->work, &w->lock);
			continue;
		}
		struct timespec at = {.tv_sec = due / (1000 * MS), .tv_nsec = due % (1000 * MS)};
		pthread_cond_timedwait(&w->work, &w->lock, &at);
	}
	return 0;
}

/* Under the lock: takes n committed ones off the queue. */
static rv_witness_item *take_off(rv_witness *w, int64_t n) {
	rv_witness_item *first = w->head, *last = NULL;
	for (int64_t i = 0; i < n; i++) {
		last = w->head;
		w->head = w->head->next;
	}
	if (w->head == NULL)
		w->tail = NULL;
	if (last != NULL)
		last->next = NULL;
	w->n_queued -= n;
	w->n_committed += n;
	w->n_batches++;
	return first;
}

/* Under the lock. A failure takes nothing off: the batch is tried again after batch_ms, or at once
 * for the next who asks. */
static void note_failure(rv_witness *w, rv_status st) {
	w->failed_status = st;
	snprintf(w->failed_message, sizeof w->failed_message, "%s", rv_error_message());
	if (w->n_failed++ == 0)
		rv_logf(rv_store_log(w->store), RV_LOG_WARN, "witness log: %s", w->failed_message);
	w->wanted = w->n_committed;
	w->retry_ns = rv_now_ns() + w->options.batch_ms * MS;
}

static void retire_old(rv_witness *w) {
	int64_t now = rv_store_now_ms(w->store), n;
	if (w->options.retain_ms == 0 || now - RETIRE_EVERY_MS < w->retired_at)
		return;
	w->retired_at = now;
	rv_status st = w->options.archive ? rv_witness_archive(w, now - w->options.retain_ms, &n)
	                                  : rv_witness_retire(w, now - w->options.retain_ms, &n);
	if (st != RV_OK)
		rv_logf(rv_store_log(w->store), RV_LOG_WARN, "witness log: retention: %s",
		        rv_error_message());
}

static void free_all(rv_witness_item *item) {
	for (rv_witness_item *next; item != NULL; item = next) {
		next = item->next;
		rv_free(item);
	}
}

void *rv_witness_write_main(void *arg) {
	rv_witness *w = arg;
	pthread_mutex_lock(&w->lock);
	while (wait_for_work(w)) {
		rv_witness_item *first = w->head;
		int64_t n = w->n_queued < w->options.batch ? w->n_queued : w->options.batch;
		int64_t dropped = w->dropped_before + w->n_dropped;
		pthread_mutex_unlock(&w->lock);
		rv_status st = commit(w, first, n, dropped);
		pthread_mutex_lock(&w->lock);
		rv_witness_item *done = NULL;
		if (st == RV_OK)
			done = take_off(w, n);
		else
			note_failure(w, st);
		pthread_cond_broadcast(&w->progress);
		pthread_mutex_unlock(&w->lock);
		free_all(done);
		if (st == RV_OK)
			retire_old(w);
		pthread_mutex_lock(&w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}
