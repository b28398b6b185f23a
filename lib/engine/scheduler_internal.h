/* What the files of the scheduler share. Requests are the stepping thread's alone, but for what the
 * lock protects. */
#ifndef RV_ENGINE_SCHEDULER_INTERNAL_H
#define RV_ENGINE_SCHEDULER_INTERNAL_H

#include "base/threads.h"
#include "engine/context_internal.h"
#include "engine/scheduler.h"

#include <pthread.h>
#include <stdatomic.h>

enum { RV_REQUEST_SLOT_BITS = 20 }; /* low bits of an id: its place in the table */

typedef struct request request;
struct request {
	rv_request_id id;
	rv_request ask;            /* prompt: `tokens`; stop_tokens: a copy */
	int64_t rank;              /* smallest first, ties by id */
	int32_t *tokens;           /* the prompt, then what was chosen */
	int64_t n_tokens, n_limit; /* n_limit: as many as may come, prompt included */
	int64_t *token_ns;         /* [n_limit - n_prompt] */
	rv_rng rng;

	int32_t seq;           /* -1: waiting */
	int64_t n_cached;      /* the sequence's length */
	int64_t n_before;      /* most tokens it ever held */
	uint64_t set_settings; /* of its set when it first began to run */
	rv_seq_stand stand;    /* gave way: what it goes on under */
	void *kept;            /* swapped out: its keys and values */
	int64_t n_kept;        /* tokens of it */
	size_t kept_bytes;

	rv_status status;
	rv_stop stop;
	char message[256];
	rv_request_stats stats;
	request *prev, *next; /* in one queue at a time */

	_Atomic int cancelled;
	rv_request_info info; /* under the lock: as of the last step */
};

/* Requests in the order of their ranks (waiting, running) or as they came (inbox, ended). */
typedef struct queue {
	request *first, *last;
	int64_t n;
} queue;
void rv_queue_push(queue *q, request *r);   /* at the end */
void rv_queue_insert(queue *q, request *r); /* by rank */
void rv_queue_remove(queue *q, request *r);
int rv_request_before(const request *a, const request *b); /* by rank */

/* A request's part of a batch. */
typedef struct group {
	request *r;
	int64_t first, n; /* rows */
	int choosing;     /* the last of them gave the logits of its next token */
	rv_status status; /* of choosing it */
	int32_t token;
	double logprob;
} group;

struct rv_scheduler {
	rv_context *ctx;
	rv_scheduler_options options;
	int64_t n_ctx, page_size, n_vocab; /* page_size 0: contiguous */
	int32_t n_seqs;
	const rv_tokenizer *tok;
	rv_threads *threads;   /* the context's */
	rv_sampler **samplers; /* one a thread, of all requests (rv_sampler_next_for) */

	queue waiting, running, ended;
	request **of_seq;   /* [n_seqs] who holds each sequence, or NULL */
	int32_t *free_seqs; /* stack */
	int32_t n_free_seqs;
	int32_t next_seq; /* where decoding rows are taken from first, when not all fit */
	group *groups;    /* [n_seqs] of the batch */
	group *spare;     /* [n_seqs] to sort them into */
	rv_row *rows;     /* [step_rows] */
	int64_t n_groups, n_rows;
	int replan;   /* pages ran out in the middle of a batch */
	int stepping; /* inside rv_scheduler_step */
	rv_scheduler_stats stats;

	pthread_mutex_t lock; /* of what follows, and of request.info */
	queue inbox;          /* submitted since the last step */
	request **table;      /* [n_table] by slot; NULL: free */
	int64_t *free_slots;  /* stack [n_table] */
	int64_t n_table, n_free_slots, n_ids, n_live;
	rv_scheduler_stats published;
	_Atomic int64_t clock; /* steps begun: what ranks are made of */
	_Atomic int any_cancelled;
};

/* ---- scheduler_admit.c: who holds a sequence ---- */

/* Waiting requests begin to run, in order, as far as sequences and pages go. */
void rv_scheduler_admit(rv_scheduler *s);
/* The running request that should give way first does: it waits again. */
void rv_scheduler_preempt(rv_scheduler *s, request *r);
void rv_scheduler_end_all(rv_scheduler *s); /* as cancelled, telling their owners (scheduler_step.c) */
void rv_request_free(request *r);           /* accepts NULL */
/* Gives back all the request holds and moves it to `ended`, with the calling thread's error message
 * when status is not RV_OK. */
void rv_scheduler_end(rv_scheduler *s, request *r, rv_status status, rv_stop stop);
/* Offers the pages of a running request to the prefix cache. */
void rv_scheduler_remember(rv_scheduler *s, const request *r);
/* Pages that may be taken now; INT64_MAX when contiguous. */
int64_t rv_scheduler_free_pages(const rv_scheduler *s);

/* ---- scheduler_batch.c: which rows are evaluated together ---- */

/* Fills rows and groups; makes requests give way until something fits. None: nobody runs. */
void rv_scheduler_plan(rv_scheduler *s);

/* ---- scheduler_swap.c ---- */

extern const rv_swap_ops rv_swap_to_memory;
size_t rv_swap_memory_bytes(const rv_context *ctx, int64_t n_tokens);

#endif
